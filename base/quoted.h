// How a value that somebody wrote may be repeated in a problem, a line of the log or a listing. Every text that repeats
// one asks here, so that what was pasted into the wrong place stays a secret. The value of a key that is there for a
// secret is not repeated at all, right or wrong: its problem says what is expected. Pure.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace postrider {

// The value with kHiddenPassword instead of all that may be a secret: all of it, if it has the form of a key, a token, a
// kept password or a field that logs in, or a part that no person has chosen; of a URL who logs in, query, fragment and
// the path of HTTP; of "user:password" and "user:password@host" what is neither host nor port nor a kind of place; the
// value of "password=value"; of a command its arguments; of the name of a DNS list the key. A single value, not a
// sentence: quotes and blanks are part of a password in it. quote_value() gives the length of one that is all secret.
//
std::string quotable(std::string_view value);

// The same between quotes, without controls, at most so many octets of it.
std::string quote_value(std::string_view value, std::size_t most = 512);

}  // namespace postrider
