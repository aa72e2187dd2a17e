foreach(subject address body_reader command convert envelope header notice part_headers reply)
  add_fuzzer(fuzz_${subject} ${CMAKE_CURRENT_SOURCE_DIR}/fuzz_${subject}.cc postrider_mail)
endforeach()
add_fuzzer(fuzz_text ${CMAKE_CURRENT_SOURCE_DIR}/fuzz_text.cc postrider_base)
