add_unit_test(control_test
  SOURCES control_answers_test.cc control_door_test.cc kept_log_test.cc control_protocol_test.cc control_service_test.cc drop_counts_test.cc drop_test.cc reader_view_test.cc
          offline_test.cc predecessor_test.cc submit_content_test.cc submit_test.cc
  LIBS postrider_control postrider_system postrider_test_syncs)
