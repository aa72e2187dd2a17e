add_unit_test(privilege_test
  SOURCES privilege_test.cc
  LIBS postrider_parent)
