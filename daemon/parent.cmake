# The privileged parent and the sandbox: few files, to be read before they are trusted.
add_library(postrider_sandbox STATIC privsep/capabilities.cc privsep/sandbox_calls.cc privsep/sandbox_files.cc)
target_link_libraries(postrider_sandbox
  PUBLIC postrider_base PRIVATE postrider_warnings PkgConfig::libseccomp)
add_library(postrider_parent STATIC
  privsep/command_groups.cc privsep/confinement.cc privsep/enders.cc privsep/pam_keeper.cc privsep/parent_checks.cc privsep/parent_child.cc privsep/parent_client.cc privsep/parent_process.cc privsep/table_reader.cc)
target_link_libraries(postrider_parent
  PUBLIC postrider_config postrider_system postrider_sandbox postrider_delivery postrider_queue postrider_smtpd
  PRIVATE postrider_warnings)
