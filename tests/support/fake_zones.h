// The DNS of tests for mailauth/: answers from zone text, as ZoneResolver reads it, without a loop.
//
//   FakeZones dns(R"(
//     example.test   TXT   "v=spf1 mx " "-all"     ; strings joined; \NNN is an octet, \" a quote
//     example.test   MX    10 mx1.example.test
//     mx1.example.test A   192.0.2.1
//     www.example.test CNAME mx1.example.test
//     192.0.2.1      PTR   mx1.example.test        ; the address, or its name below arpa
//     bare.test      EXISTS                        ; no records: no_data for every type
//     slow.test      FAILS                         ; temporary_failure for every type
//   )");
//   const auto result = dns.run(check_host(...));
//
// A name with records of other types is no_data, as is a name above one, and an alias to what does
// not exist; any other no_name. CNAMEs are followed, 10 at most.
#pragma once

#include "mailauth/asking.h"

#include <cstddef>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace postrider::tests {

class FakeZones {
 public:
  explicit FakeZones(std::string_view zone = {});

  void add(std::string_view zone);  // throws std::invalid_argument on a line that it cannot read
  void add_text(const std::string& name, std::string text);  // one TXT record, any octets
  // The value as in a line; of TXT its octets.
  void add_record(const std::string& name, mailauth::Type type, std::string value);
  void add_alias(const std::string& name, const std::string& target);
  void add_failing(const std::string& name);  // for every type
  // Questions of this type alone fail, even if there are records.
  void fail(const std::string& name, mailauth::Type type);
  // Answers come in the order asked, or the latest question's first.
  void answer_latest_first(bool latest_first) { latest_first_ = latest_first; }

  mailauth::Answer look_up(const mailauth::Question& question);
  // Answers until none is open.
  void serve(mailauth::Questions& questions);
  template <class T>
  T run(mailauth::Asking<T> asking) {
    mailauth::Inquiry<T> inquiry(std::move(asking));
    serve(inquiry);
    return inquiry.result();
  }

  // "TXT example.test", lower case, in the order answered.
  const std::vector<std::string>& asked() const { return asked_; }
  void forget_questions() { asked_.clear(); }

 private:
  using Key = std::pair<std::string, mailauth::Type>;
  void add_line(const std::string& line);
  bool exists(const std::string& name) const;

  std::map<Key, std::vector<std::string>> records_;
  std::map<std::string, std::string> aliases_;
  std::set<std::string> names_;
  std::set<std::string> failing_names_;
  std::set<Key> failing_;
  std::vector<std::string> asked_;
  bool latest_first_ = false;
};

}  // namespace postrider::tests
