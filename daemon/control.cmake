# The doors behind the tools. The protocols are what cli/ stands on; the rest serves them.
find_package(Boost 1.81 REQUIRED COMPONENTS json)
add_library(postrider_control_protocol STATIC
  control_client.cc control_protocol.cc submit_protocol.cc)
target_link_libraries(postrider_control_protocol
  PUBLIC postrider_mail Boost::json PRIVATE postrider_system postrider_warnings)

add_library(postrider_control STATIC
  control_filter.cc control_json.cc control_message_jobs.cc control_queue_jobs.cc
  control_server.cc control_service.cc control_socket.cc
  drop_file.cc drop_folder.cc drop_listing.cc drop_return.cc offline.cc
  submit_builder.cc submit_content.cc submit_server.cc submit_tables.cc)
target_link_libraries(postrider_control
  PUBLIC postrider_queue postrider_control_protocol postrider_smtpd
  PRIVATE postrider_system postrider_warnings)
