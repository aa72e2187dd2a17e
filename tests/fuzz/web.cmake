add_fuzzer(fuzz_web_request ${CMAKE_CURRENT_SOURCE_DIR}/fuzz_web_request.cc postrider_web)
