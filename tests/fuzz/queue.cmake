add_fuzzer(fuzz_queue_codec ${CMAKE_CURRENT_SOURCE_DIR}/fuzz_queue_codec.cc postrider_queue)
