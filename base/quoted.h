// How a value that somebody wrote may be repeated in a problem, a line of the log or a listing. Every text that repeats
// one asks here, so that what was pasted into the wrong place stays a secret. The value of a key that is there for a
// secret is not repeated at all, right or wrong: its problem says what is expected. Pure.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace postrider {

// The value with kHiddenPassword instead of all that may be a secret:
//  - of a URL, with a scheme or with "//" alone, who logs in, with or without a password; query and fragment; and the
//    path, where it is one of HTTP (there it often is all that is asked for as a proof);
//  - of "user:password@host" all before the "@";
//  - the value of "password=value" and its like, as DSNs have them.
// A single value, not a sentence: quotes and blanks are part of a password in it.
std::string quotable(std::string_view value);

// The same between quotes, without controls, at most so many octets of it.
std::string quote_value(std::string_view value, std::size_t most = 512);

}  // namespace postrider
