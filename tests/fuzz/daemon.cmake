add_fuzzer(fuzz_config ${CMAKE_CURRENT_SOURCE_DIR}/fuzz_config.cc postrider_config)
include(${CMAKE_CURRENT_LIST_DIR}/control.cmake OPTIONAL)
add_fuzzer(fuzz_message_file ${CMAKE_CURRENT_SOURCE_DIR}/fuzz_message_file.cc postrider_control)
