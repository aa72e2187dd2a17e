// The Sender Rewriting Scheme: forwarded mail gets a sender in a domain of ours, so that SPF passes
// where it goes, and what comes back to that sender finds its way to the one it was made of.
//
//   ann@a.test, forwarded by b.test:        SRS0=HHHH=TT=a.test=ann@b.test
//   that, forwarded by c.test:              SRS1=HHHH=b.test==HHHH=TT=a.test=ann@c.test
//   that, forwarded by d.test:              SRS1=HHHH=b.test==HHHH=TT=a.test=ann@d.test
//
// HHHH authenticates what stands behind it (HMAC-SHA1 in Base64, cut), so that nobody can make us
// send to whom they like; TT is the day. SRS1 leads back to b.test, which knows its own SRS0. Forms
// and hashes are those of Mail::SRS, libsrs2 and postsrsd: with the same key each reverses what the
// other made. Pure; safe to be used by several threads.
#pragma once

#include "base/result.h"
#include "base/time.h"

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace postrider::mailauth {

struct SrsRules {
  std::string domain;  // of what is made, lower case
  // The first makes hashes, any of them is taken: to change the key, put the new one in front and
  // take the old one away when max_age is over.
  std::vector<std::string> keys;
  unsigned max_age_days = 21;
  std::size_t hash_length = 4;        // characters, 4 to 27
  std::size_t least_hash_length = 4;  // that is taken
  char separator = '=';               // behind SRS0 and SRS1: '=', '+' or '-'
  // RFC 5321 §4.5.3.1.1 has 64. Senders that encode the recipient do not leave room for that, and
  // most receivers take more; what a path can hold is the limit then.
  std::size_t most_local_part = 254;
};

class Srs {
 public:
  // Requires: a key, and lengths and a separator as above.
  explicit Srs(SrsRules rules) : rules_(std::move(rules)) {}

  // The sender for a message that is forwarded. The null sender and senders in our own domain stay.
  // Errc::too_long beyond a limit, of the local part or of 254 octets in all; Errc::malformed for
  // what is not a mailbox.
  Result<std::string> forward(const std::string& sender, TimePoint now) const;

  // Whether a local part is written as an SRS address: "SRS0=", "SRS1+", in any case.
  static bool is_srs(std::string_view mailbox);
  // The mailbox that such an address of our domain was made of. Cases of letters may have been lost
  // on the way. Errc::not_found for other addresses; Errc::malformed; Errc::refused if no key made
  // the hash, or if it is too old.
  Result<std::string> reverse(const std::string& mailbox, TimePoint now) const;

 private:
  std::string hash(const std::string& key, std::string_view data) const;
  bool is_hash_of(std::string_view given, std::string_view data) const;
  Result<std::string> made(const std::string& local_part) const;
  Result<std::string> reverse_first(std::string_view behind_tag, TimePoint now) const;
  Result<std::string> reverse_second(std::string_view behind_tag) const;

  SrsRules rules_;
};

}  // namespace postrider::mailauth
