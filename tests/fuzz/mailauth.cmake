# One line for each target.
add_fuzzer(fuzz_spf ${CMAKE_CURRENT_SOURCE_DIR}/fuzz_spf.cc postrider_mailauth)
add_fuzzer(fuzz_dmarc ${CMAKE_CURRENT_SOURCE_DIR}/fuzz_dmarc.cc postrider_mailauth)
