add_fuzzer(fuzz_dns_packet ${CMAKE_CURRENT_SOURCE_DIR}/fuzz_dns_packet.cc postrider_dns)
add_fuzzer(fuzz_resolv_conf ${CMAKE_CURRENT_SOURCE_DIR}/fuzz_resolv_conf.cc postrider_dns)
