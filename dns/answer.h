// What a decoded packet says about a question. Pure. Whatever contradicts itself, refers us
// elsewhere or makes no sense is a temporary failure with a reason.
#pragma once

#include "base/time.h"
#include "dns/packet_codec.h"
#include "dns/resolver.h"

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

namespace postrider::dns {

constexpr unsigned kMostLinks = 10;        // CNAMEs from the asked name to the records
constexpr std::uint32_t kMostTtl = 86400;  // seconds
constexpr std::uint32_t kMostNegativeTtl = 3600;

struct Finding {
  Status status = Status::temporary_failure;
  std::vector<Data> records;  // of the asked type; not empty if and only if status is records
  Name canonical;             // the last name of the chain of aliases
  unsigned links = 0;         // aliases followed
  std::uint32_t ttl = 0;      // seconds; the least on the way, clamped; 0: not to be remembered
  // The chain ends at an alias for a name that the packet says nothing about: ask for `canonical`.
  bool unfinished = false;
  std::string reason;  // of a temporary failure
};

// At most `most_links` aliases are followed.
Finding read_answer(const Message& message, const Question& question,
                    unsigned most_links = kMostLinks);

using Records = std::variant<std::vector<Mx>, std::vector<asio::ip::address>,
                             std::vector<std::string>, std::vector<Tlsa>>;

// The records as callers get them, at most as many as a mail server can use: the best 100 MX, the
// first 50 of the others (attack D08). Hosts that are no host names are left out (attack D12). The
// alternative is that of the type even when it is empty.
Records to_records(Type type, const std::vector<Data>& data);
bool is_empty(const Records& records);

// The name to ask for PTR: below in-addr.arpa or ip6.arpa.
Name reverse_name(const asio::ip::address& address);

}  // namespace postrider::dns
