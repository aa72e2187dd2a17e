# The privileged parent and the sandbox: few files, to be read before they are trusted.
add_library(postrider_parent STATIC
  capabilities.cc confinement.cc parent_checks.cc parent_child.cc parent_client.cc parent_process.cc
  sandbox_calls.cc sandbox_files.cc table_reader.cc)
target_link_libraries(postrider_parent
  PUBLIC postrider_config postrider_system postrider_delivery postrider_queue
  PRIVATE postrider_warnings PkgConfig::libseccomp)
