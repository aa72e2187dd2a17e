add_fuzzer(fuzz_submission ${CMAKE_CURRENT_SOURCE_DIR}/fuzz_submission.cc postrider_control)
add_fuzzer(fuzz_recipients ${CMAKE_CURRENT_SOURCE_DIR}/fuzz_recipients.cc postrider_cli)
