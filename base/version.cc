#include "base/version.h"

namespace postrider {

// The macro is defined for this file alone, so that no other is compiled for a new version.
std::string_view version() {
  return POSTRIDER_VERSION;
}

}  // namespace postrider
