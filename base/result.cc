#include "base/result.h"

#include <boost/system/system_error.hpp>

#include <cerrno>
#include <ostream>

namespace postrider {

namespace {

class Category final : public boost::system::error_category {
 public:
  const char* name() const noexcept override { return "postrider"; }
  std::string message(int code) const override {
    switch (static_cast<Errc>(code)) {
      case Errc::malformed:
        return "malformed";
      case Errc::too_long:
        return "too long";
      case Errc::unsupported:
        return "not supported";
      case Errc::not_found:
        return "not found";
      case Errc::refused:
        return "refused";
      case Errc::stopped:
        return "shutting down";
      case Errc::corrupt:
        return "stored data is damaged";
      case Errc::storage:
        return "the queue cannot store";
      case Errc::tls:
        return "TLS failed";
      case Errc::untrusted:
        return "certificate not trusted";
      case Errc::truncated:
        return "connection cut off";
    }
    return "unknown error";
  }
};

}  // namespace

Error Error::during(std::string_view outer) const {
  std::string step(outer);
  if (!step_.empty())
    step.append(": ").append(step_);
  return Error(code_, std::move(step));
}

std::string Error::describe() const {
  return step_.empty() ? code_.message() : step_ + ": " + code_.message();
}

std::ostream& operator<<(std::ostream& out, const Error& error) {
  return out << error.describe();
}

void throw_exception_from_error(const Error& error, const boost::source_location&) {
  throw boost::system::system_error(error.code(), error.step());
}

Error system_error(std::string step) {
  return system_error(errno, std::move(step));
}

Error system_error(int number, std::string step) {
  return Error({number, boost::system::system_category()}, std::move(step));
}

boost::system::error_code make_error_code(Errc code) {
  static const Category category;
  return {static_cast<int>(code), category};
}

Error malformed(std::string what) {
  return Error(Errc::malformed, std::move(what));
}

}  // namespace postrider
