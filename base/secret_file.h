// Files with keys or passwords.
#pragma once

#include "base/result.h"

#include <cstddef>
#include <string>

namespace postrider {

// A whole regular file that others than its owner and group have no rights to. Errc::refused: they
// have; Errc::unsupported: it is not a regular file; Errc::too_long: it has more than `most`
// octets. Blocking.
Result<std::string> read_secret_file(const std::string& path, std::size_t most);

}  // namespace postrider
