add_unit_test(privilege_test
  SOURCES command_groups_test.cc privilege_test.cc
  LIBS postrider_parent)
add_unit_test(enders_test
  SOURCES enders_test.cc
  LIBS postrider_parent)
