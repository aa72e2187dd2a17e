// Text without the difference between upper and lower case, for looking things up.
#pragma once

#include <string>
#include <string_view>

namespace postrider {

// Unicode's full case folding without normalization, as Postfix folds the keys of its tables under
// smtputf8_enable: RFC 3454 B.3, so by Unicode 3.2; letters that were assigned later stay as they
// are. Of what is not UTF-8, or holds a NUL, the ASCII letters alone are folded.
std::string folded_case(std::string_view text);

}  // namespace postrider
