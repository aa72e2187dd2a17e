add_fuzzer(fuzz_web_request ${CMAKE_CURRENT_SOURCE_DIR}/fuzz_web_request.cc postrider_web)
add_fuzzer(fuzz_mail_request ${CMAKE_CURRENT_SOURCE_DIR}/fuzz_mail_request.cc postrider_web)
