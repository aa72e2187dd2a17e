// A Resolver for unit tests that answers from zone text, at once and without a network.
//
//   ZoneResolver dns(R"(
//     example.test   MX    10 mx1.example.test
//     nullmx.test    MX    0 .
//     mx1.example.test A   192.0.2.1
//     www.example.test CNAME mx1.example.test
//     txt.test       TXT   "v=spf1 -all"
//     192.0.2.1      PTR   mx1.example.test      ; the address, or its name below arpa
//     _25._tcp.mx1.example.test TLSA 3 1 1 0123abcd
//     bare.test      EXISTS                      ; no records: no_data for every type
//   )");
//   dns.servfail("broken.test");
//
// A name with records of other types is no_data, as is a name above one; any other no_such_name.
// CNAMEs are followed, 10 at most.
#pragma once

#include "dns/resolver.h"

#include <cstddef>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace postrider::tests {

class ZoneResolver : public dns::Resolver {
 public:
  explicit ZoneResolver(std::string_view zone = {});

  void add(std::string_view zone);  // throws std::invalid_argument on a line that it cannot read
  void remove(const std::string& name);
  // Every later lookup of the name fails temporarily; with a type ("MX", "A"...) only that type.
  void servfail(const std::string& name, const std::string& type = "");
  void timeout(const std::string& name, const std::string& type = "");
  void heal(const std::string& name);  // takes servfail and timeout back
  // The AD bit: of every answer, or of one name and, if given, type.
  void set_secure(bool secure) { all_secure_ = secure; }
  void set_secure(const std::string& name, bool secure, const std::string& type = "");
  void set_ttl(Duration ttl) { ttl_ = ttl; }

  // "mx example.test", in the order asked.
  const std::vector<std::string>& asked() const { return asked_; }
  std::size_t times_asked(const std::string& question) const;
  void forget_questions() { asked_.clear(); }

  Task<dns::Answer<dns::Mx>> mx(std::string name) override;
  Task<dns::Answer<asio::ip::address>> a(std::string name) override;
  Task<dns::Answer<asio::ip::address>> aaaa(std::string name) override;
  Task<dns::Answer<std::string>> ptr(asio::ip::address address) override;
  Task<dns::Answer<std::string>> txt(std::string name) override;
  Task<dns::Answer<dns::Tlsa>> tlsa(std::string name) override;
  Task<dns::Answer<std::string>> cname(std::string name) override;

 private:
  using Key = std::pair<std::string, std::string>;  // name, type; both lower case
  struct Found {
    dns::Status status = dns::Status::temporary_failure;
    std::vector<std::string> values;
    bool secure = false;
    std::string canonical_name;
    std::string reason;
  };
  Found find(std::string name, const std::string& type);
  bool exists(const std::string& name) const;
  bool is_secure(const std::string& name, const std::string& type) const;
  template <class Record, class Convert>
  dns::Answer<Record> answer(const std::string& name, const std::string& type, Convert convert);

  std::map<Key, std::vector<std::string>> records_;
  std::set<std::string> names_;
  std::map<Key, std::string> failures_;  // to the reason; an empty type is every type
  std::map<Key, bool> secure_;
  std::vector<std::string> asked_;
  bool all_secure_ = false;
  Duration ttl_{3600 * 1000};
};

}  // namespace postrider::tests
