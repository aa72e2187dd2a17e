add_fuzzer(fuzz_client ${CMAKE_CURRENT_SOURCE_DIR}/fuzz_client.cc postrider_delivery)
