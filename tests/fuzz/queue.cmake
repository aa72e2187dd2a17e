add_fuzzer(fuzz_queue_codec ${CMAKE_CURRENT_SOURCE_DIR}/fuzz_queue_codec.cc postrider_queue)
add_fuzzer(fuzz_reason_pattern ${CMAKE_CURRENT_SOURCE_DIR}/fuzz_reason_pattern.cc postrider_queue)
