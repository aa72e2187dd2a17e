#include "tests/support/folder.h"

namespace postrider::test {

std::string tests_folder() {
  return TESTS_FOLDER;
}

}  // namespace postrider::test
