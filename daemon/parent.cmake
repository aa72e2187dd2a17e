# The privileged parent and the sandbox: few files, to be read before they are trusted.
add_library(postrider_sandbox STATIC capabilities.cc sandbox_calls.cc sandbox_files.cc)
target_link_libraries(postrider_sandbox
  PUBLIC postrider_base PRIVATE postrider_warnings PkgConfig::libseccomp)
add_library(postrider_parent STATIC
  command_groups.cc confinement.cc enders.cc pam_keeper.cc parent_checks.cc parent_child.cc parent_client.cc parent_process.cc table_reader.cc)
target_link_libraries(postrider_parent
  PUBLIC postrider_config postrider_system postrider_sandbox postrider_delivery postrider_queue postrider_smtpd
  PRIVATE postrider_warnings)
