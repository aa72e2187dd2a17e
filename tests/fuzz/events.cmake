add_fuzzer(fuzz_cloud_event ${CMAKE_CURRENT_SOURCE_DIR}/fuzz_cloud_event.cc postrider_events)
add_fuzzer(fuzz_event_position ${CMAKE_CURRENT_SOURCE_DIR}/fuzz_event_position.cc postrider_events)
add_fuzzer(fuzz_stomp ${CMAKE_CURRENT_SOURCE_DIR}/fuzz_stomp.cc postrider_brokers)
add_fuzzer(fuzz_trace ${CMAKE_CURRENT_SOURCE_DIR}/fuzz_trace.cc postrider_events)
