add_fuzzer(fuzz_client ${CMAKE_CURRENT_SOURCE_DIR}/fuzz_client.cc postrider_delivery)
add_fuzzer(fuzz_sts ${CMAKE_CURRENT_SOURCE_DIR}/fuzz_sts.cc postrider_delivery)
add_fuzzer(fuzz_tlsrpt ${CMAKE_CURRENT_SOURCE_DIR}/fuzz_tlsrpt.cc postrider_delivery)
add_fuzzer(fuzz_http ${CMAKE_CURRENT_SOURCE_DIR}/fuzz_http.cc postrider_base)
