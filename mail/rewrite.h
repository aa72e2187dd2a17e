// Replacing addresses by rules: canonical addresses for senders and recipients, and subdomains that
// the outside need not see. Pure: lookups are handed in.
//
// Looked up for ann+tag@sub.example.org, the first that is found: the whole address, without its
// extension (which is then kept), "ann" if the domain is a local one, "@sub.example.org". A value
// "@example.org" keeps the local part. What was found is not looked up again.
#pragma once

#include "base/result.h"
#include "mail/envelope.h"

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace postrider::mail {

class Rewriter {
 public:
  struct Entry {
    std::string value;
    std::string where;  // "/etc/postrider/canonical:3"
  };
  // whole: the key is the whole address, so patterns may be asked. An error: not now.
  using Find = std::function<Result<std::optional<Entry>>(const std::string& key, bool whole)>;
  struct Rules {
    Find sender, recipient;                          // empty: none
    std::function<bool(std::string_view)> is_local;  // domains whose users' names are keys
    std::string separator = "+";
    std::vector<std::string> masquerade;         // lower case, A-labels
    std::vector<std::string> masquerade_except;  // local parts
  };
  explicit Rewriter(Rules rules) : rules_(std::move(rules)) {}

  // The null sender and a bare "postmaster" stay.
  Result<std::string> sender(const std::string& address) const;
  struct Step {
    std::string address;
    std::string where;  // of the entry; empty: the address stays
  };
  Result<Step> recipient(const std::string& address) const;
  // What is changed keeps what it was as ORCPT, for notices (RFC 3461 5.2.6). True if it was.
  Result<bool> apply(Recipient& recipient) const;
  // ann@sub.example.org is ann@example.org outside, where example.org is masqueraded.
  std::string masqueraded(const std::string& address) const;

  bool changes_headers() const;
  // Addresses in the fields of a header section that name senders (From, Sender, Reply-To and
  // their Resent- forms, masqueraded too) and recipients (To, Cc, Bcc). Text around them stays as
  // it is. Only for mail that is submitted here: anything else may be signed.
  Result<std::string> header(std::string_view section) const;

 private:
  Result<Step> changed(const std::string& address, const Find& find) const;
  Result<std::string> field(std::string_view whole, bool is_sender) const;
  Result<std::string> either(const std::string& address, bool is_sender) const;

  Rules rules_;
};

bool has_recipient(const Envelope& envelope, std::string_view address);

// What is wrong with the value of an entry: empty if it may stand.
std::string check_rewrite_value(std::string_view value);

// Where the addresses of a field's value stand: offset and length. Comments, names and groups are
// stepped over; what is not an address is not found.
std::vector<std::pair<std::size_t, std::size_t>> address_places(std::string_view value);

}  // namespace postrider::mail
