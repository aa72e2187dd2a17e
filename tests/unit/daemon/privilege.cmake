add_unit_test(privilege_test
  SOURCES privilege_test.cc
  LIBS postrider_parent)
add_unit_test(enders_test
  SOURCES enders_test.cc
  LIBS postrider_parent)
