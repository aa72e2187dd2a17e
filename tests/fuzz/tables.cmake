add_fuzzer(fuzz_table ${CMAKE_CURRENT_SOURCE_DIR}/fuzz_table.cc postrider_tables)
add_fuzzer(fuzz_netstring ${CMAKE_CURRENT_SOURCE_DIR}/fuzz_netstring.cc postrider_tables)
add_fuzzer(fuzz_tcp_reply ${CMAKE_CURRENT_SOURCE_DIR}/fuzz_tcp_reply.cc postrider_tables)
