// Where the tests' data lies: golden files, dialogs, configurations.
#pragma once

#include <string>

namespace postrider::test {

/// The folder tests/ of the checkout that this program was built from, absolute, without a final
/// slash.
std::string tests_folder();

}  // namespace postrider::test
