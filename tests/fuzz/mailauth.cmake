foreach(subject auth_results canonical_body dkim dmarc dmarc_report spf srs)
  add_fuzzer(fuzz_${subject} ${CMAKE_CURRENT_SOURCE_DIR}/fuzz_${subject}.cc postrider_mailauth)
endforeach()
