// What can fail because of the world returns Result<T>; what cannot happen asserts (base/assert.h).
// An Error carries a code for programs to branch on and, for people, what we were doing.
#pragma once

#include <boost/system/error_code.hpp>
#include <boost/system/result.hpp>

#include <iosfwd>
#include <string>
#include <string_view>
#include <utility>

namespace postrider {

class Error {
 public:
  Error() = default;
  // step: what was being done, lower case, without "failed to" and without a full stop.
  Error(boost::system::error_code code, std::string step) : code_(code), step_(std::move(step)) {}

  boost::system::error_code code() const { return code_; }
  const std::string& step() const { return step_; }
  // The same error, seen one level further out.
  Error during(std::string_view outer) const;
  // "accept message 4F2: sync body: No space left on device"
  std::string describe() const;

 private:
  boost::system::error_code code_;
  std::string step_;
};

std::ostream& operator<<(std::ostream& out, const Error& error);
[[noreturn]] void throw_exception_from_error(const Error& error,
                                             const boost::source_location& where);

template <class T>
class [[nodiscard]] Result : public boost::system::result<T, Error> {
 public:
  using boost::system::result<T, Error>::result;
};

// errno as an Error, to be called at once after the failed system call.
Error system_error(std::string step);
Error system_error(int number, std::string step);

// Codes that no system category has and that somebody branches on.
enum class Errc {
  malformed = 1,  // outside bytes break their grammar
  too_long,       // a limit of ours was exceeded
  unsupported,    // legal, but not served here
  not_found,
  refused,    // policy said no
  stopped,    // the daemon is shutting down
  corrupt,    // our own stored data breaks its invariants
  storage,    // the queue cannot store now
  tls,        // a handshake or a record went wrong
  untrusted,  // the peer's certificate is not the one that was asked for
  truncated,  // the connection ended before its end was announced
};
boost::system::error_code make_error_code(Errc code);
Error malformed(std::string what);

}  // namespace postrider

template <>
struct boost::system::is_error_code_enum<postrider::Errc> : std::true_type {};
