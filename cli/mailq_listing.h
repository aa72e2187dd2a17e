// The listing that Postfix's users know, from the daemon's lines: the columns of `postqueue -p`,
// which scripts cut apart. Pure; times in the local zone.
#pragma once

#include <boost/json/object.hpp>

#include <cstdint>
#include <string>

namespace postrider::cli {

class MailqListing {
 public:
  // The text for one message (with the heading before the first).
  std::string message(const boost::json::object& message);
  // Behind the last: totals, or that there is nothing.
  std::string end() const;

 private:
  std::uint64_t messages_ = 0;
  std::uint64_t octets_ = 0;
};

}  // namespace postrider::cli
