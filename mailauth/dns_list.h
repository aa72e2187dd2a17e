// Block and welcome lists in the DNS (RFC 5782): names to ask for, what answers mean, and a score
// of several lists together.
//
// What lists say to people who may not ask them, or who ask them wrongly, is not taken for a
// listing: that would refuse all mail. Such a list is reported as broken, to be left alone for a
// while; one that does not answer counts as not listed.
#pragma once

#include "base/network.h"
#include "base/result.h"
#include "mailauth/asking.h"

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace postrider::mailauth {

// One list and the answers of it that count, as written for Postfix's postscreen:
// "zen.example.org", "list.example.org*2", "zen.example.org=127.0.0.[2..11;20]*3",
// "welcome.example.org=127.0.[0..255].[1..3]*-2".
class DnsList {
 public:
  static Result<DnsList> parse(std::string_view text);

  const std::string& zone() const { return zone_; }  // lower case
  int weight() const { return weight_; }             // -1000 to 1000; 1 if none is given
  // Without a filter every address does that is a listing.
  bool counts(const IpAddress& code) const;

 private:
  using Range = std::pair<unsigned, unsigned>;
  std::string zone_;
  std::optional<std::array<std::vector<Range>, 4>> filter_;  // by octet
  int weight_ = 1;
};

// What is asked for: "4.2.0.192.zen.example.org", "example.com.names.example.org". Nothing for no
// address, and if no question can be written for it.
std::optional<std::string> listing_name(const IpAddress& client, std::string_view zone);
std::optional<std::string> listing_name(std::string_view domain, std::string_view zone);

struct Listing {
  enum class Status : std::uint8_t { not_listed, listed, broken, unknown };
  Status status = Status::not_listed;
  std::vector<IpAddress> codes;  // listed: in 127/8
  std::string reason;            // broken, unknown
};
// Broken: an answer outside 127/8 (a resolver that makes up answers), 127.0.0.1 (RFC 5782 §5),
// 127.255.255.0/24 (a mistyped zone, a public resolver, too many questions) and 127.0.1.255 (an
// address asked for in a list of domains). Unknown: no answer.
Listing read_listing(const Answer& answer);

struct ListVerdict {
  struct Hit {
    std::string zone;
    int weight = 0;  // of all its entries that count
    std::vector<IpAddress> codes;
    std::string text;  // what the list says, at most 255 octets; outside text
  };
  int score = 0;
  std::vector<Hit> hits;
  std::vector<std::pair<std::string, std::string>> broken;  // zone and reason
  std::vector<std::string> silent;                          // zones without an answer
};
// Asks all lists at once, each zone once, and those that hit for their text.
Asking<ListVerdict> check_lists(IpAddress client, std::vector<DnsList> lists);
// The same for lists of domains. What is not a domain name is in none.
Asking<ListVerdict> check_lists(std::string domain, std::vector<DnsList> lists);

}  // namespace postrider::mailauth
