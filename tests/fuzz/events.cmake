add_fuzzer(fuzz_cloud_event ${CMAKE_CURRENT_SOURCE_DIR}/fuzz_cloud_event.cc postrider_events)
