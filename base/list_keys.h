// The names of DNS lists that a customer asks by a key of his own, which is a label of the name. Pure.
#pragma once

#include <string>
#include <string_view>

namespace postrider {

// A text without these keys: "***.zen.dq.spamhaus.net".
std::string without_list_keys(std::string_view text);

}  // namespace postrider
