# The doors behind the tools. The protocols are what cli/ stands on; the rest serves them.
find_package(Boost 1.81 REQUIRED COMPONENTS json)
add_library(postrider_control_protocol STATIC
  protocol/control_client.cc protocol/control_protocol.cc protocol/submit_call.cc protocol/submit_protocol.cc)
target_link_libraries(postrider_control_protocol
  PUBLIC postrider_mail Boost::json PRIVATE postrider_system postrider_warnings)

add_library(postrider_control STATIC
  control/content_reader.cc control/control_event_jobs.cc control/control_export_job.cc control/control_filter.cc control/control_json.cc control/control_message_jobs.cc control/control_pause_jobs.cc
  control/control_queue_jobs.cc control/control_reload_job.cc control/reader_view.cc control/control_server.cc control/control_service.cc control/control_sites_job.cc control/control_summary_job.cc control/control_trace_job.cc
  control/import_messages.cc control/kept_log.cc control/message_file.cc control/offline_intake.cc
  predecessor/exim_file.cc predecessor/exim_queue.cc predecessor/field_filter.cc predecessor/old_mail_taker.cc predecessor/old_message.cc
  predecessor/old_queue.cc predecessor/postfix_file.cc predecessor/postfix_queue.cc predecessor/take_over.cc predecessor/taken_over.cc
  pickup/drop_file.cc pickup/drop_folder.cc pickup/drop_listing.cc pickup/drop_return.cc pickup/lent_uids.cc control/offline.cc
  pickup/submit_builder.cc pickup/submit_content.cc pickup/submit_filters.cc pickup/submit_server.cc pickup/submit_tables.cc)
target_link_libraries(postrider_control
  PUBLIC postrider_queue postrider_control_protocol postrider_smtpd postrider_events
  PRIVATE postrider_system postrider_warnings)
