add_fuzzer(fuzz_session ${CMAKE_CURRENT_SOURCE_DIR}/fuzz_session.cc postrider_smtpd)
add_fuzzer(fuzz_proxy_protocol ${CMAKE_CURRENT_SOURCE_DIR}/fuzz_proxy_protocol.cc postrider_smtpd)
add_fuzzer(fuzz_sasl ${CMAKE_CURRENT_SOURCE_DIR}/fuzz_sasl.cc postrider_auth)
add_fuzzer(fuzz_auth_files ${CMAKE_CURRENT_SOURCE_DIR}/fuzz_auth_files.cc postrider_auth)
