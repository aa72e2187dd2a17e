// Names to answers, without blocking. One resolver per loop, used on that loop's thread only.
#pragma once

#include "base/net/task.h"
#include "base/time.h"

#include <boost/asio/ip/address.hpp>

#include <cstdint>
#include <string>
#include <vector>

namespace postrider::dns {

// Which addresses may be used.
enum class Families : std::uint8_t { both, ipv4, ipv6 };

// There is no fifth: SERVFAIL, REFUSED, a timeout, a malformed or lying answer are all temporary.
enum class Status : std::uint8_t { records, no_data, no_such_name, temporary_failure };

template <class Record>
struct Answer {
  Status status = Status::temporary_failure;
  std::vector<Record> records;  // not empty if and only if status is records
  bool secure = false;          // the AD bit of a resolver that we trust
  Duration ttl{0};
  std::string canonical_name;  // behind CNAMEs, lower case; the asked name if there were none
  std::string
      reason;  // of a temporary failure, for people: "mx example.org: SERVFAIL from 127.0.0.1:53"
};

struct Mx {
  std::uint16_t preference = 0;
  std::string host;  // lower case, without the trailing dot; empty: the root, a null MX (RFC 7505)
};

struct Tlsa {
  std::uint8_t usage = 0, selector = 0, matching = 0;
  std::vector<std::uint8_t> data;
};

// Names are A-labels without a trailing dot, any case. An unusable name (too long, empty label) is
// no_such_name without a question on the wire.
class Resolver {
 public:
  virtual ~Resolver() = default;
  virtual Task<Answer<Mx>> mx(std::string name) = 0;
  virtual Task<Answer<asio::ip::address>> a(std::string name) = 0;
  virtual Task<Answer<asio::ip::address>> aaaa(std::string name) = 0;
  virtual Task<Answer<std::string>> ptr(asio::ip::address address) = 0;
  virtual Task<Answer<std::string>> txt(std::string name) = 0;  // strings of a record joined
  virtual Task<Answer<Tlsa>> tlsa(std::string name) = 0;        // "_25._tcp.mx.example.org"
  // What the name itself is an alias for, one record at most. Nothing is followed: `secure` is
  // about the alias alone.
  virtual Task<Answer<std::string>> cname(std::string name) = 0;
};

}  // namespace postrider::dns
