// JSON that others wrote. What makes it dear is refused while it is read, before anything is built
// of it: many members in one object (their keys can be chosen so that each is compared with all
// others), deep nesting, and more values than the reader has use for.
#pragma once

#include "base/result.h"

#include <boost/json/object.hpp>
#include <boost/json/storage_ptr.hpp>
#include <boost/json/value.hpp>

#include <cstddef>
#include <string_view>

namespace postrider {

struct JsonLimits {
  std::size_t members = 256;  // of one object
  std::size_t depth = 16;
  std::size_t values = 1'000'000;  // in all
  bool allows_twice = true;        // a name in one object: its last value counts (RFC 7493 §2.3)
};

// What was looked at, also of a text that was refused.
struct JsonWork {
  std::size_t members = 0;
  std::size_t values = 0;
};

// Errc::malformed for what is not JSON, Errc::too_long beyond a limit, Errc::refused for a name that
// stands twice. The value's memory comes from `storage`.
Result<boost::json::value> parse_json(std::string_view text, const JsonLimits& limits = {},
                                      boost::json::storage_ptr storage = {},
                                      JsonWork* work = nullptr);
// The same for texts that must be an object.
Result<boost::json::object> parse_json_object(std::string_view text, const JsonLimits& limits = {},
                                              boost::json::storage_ptr storage = {},
                                              JsonWork* work = nullptr);

}  // namespace postrider
