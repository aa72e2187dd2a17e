// DMARC (RFC 9989): whether the domain in From is one that the message was authenticated for, and
// what that domain wants to be done with mail that was not.
//
//   Authors authors = read_authors(header);
//   auto verdicts = inquire(check_dmarc(authors.domains, identifiers));  // one for each domain
//   const DmarcVerdict& verdict = strictest(verdicts);
//
// A message without any author domain has no verdict, and DMARC says nothing about it; nor is it
// one that must be believed (§11.5).
#pragma once

#include "mailauth/asking.h"
#include "mailauth/dmarc_record.h"

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace postrider::mailauth {

// RFC 8601 with the words of RFC 7489 §11.2. permerror is for callers, of messages without authors.
enum class DmarcResult : std::uint8_t { none, pass, fail, temperror, permerror };
std::string_view to_string(DmarcResult result);

// A domain that the message was authenticated for: of MAIL FROM where SPF says pass (§4.4.2), or of
// a signature that DKIM verified (§4.4.1); or that it might have been, but for trouble with the
// DNS.
struct Identifier {
  enum class Method : std::uint8_t { spf, dkim };
  Method method = Method::spf;
  std::string domain;
  bool is_certain = true;  // false: temperror
};
// Others are not looked at.
constexpr std::size_t kMostIdentifiers = 16;

struct DmarcVerdict {
  DmarcResult result = DmarcResult::none;
  std::string author_domain;
  // The domain whose record applies, and the record; empty without one.
  std::string policy_domain;
  DmarcRecord record;
  // What the record wants for this author: its p, or for a subdomain sp, or np for one that does
  // not exist. applied: one step milder if the domain is testing.
  DmarcPolicy published = DmarcPolicy::none;
  DmarcPolicy applied = DmarcPolicy::none;
  bool spf_aligned = false;
  bool dkim_aligned = false;
  std::string reason;  // of none, temperror: for people; not escaped

  // What the domain wants for this message: nothing unless it failed.
  DmarcPolicy wish() const { return result == DmarcResult::fail ? applied : DmarcPolicy::none; }
};

// A verdict for each domain, in their order. Requires: names as read_authors() gives them. Trouble
// with the DNS makes temperror where it stands between the message and a pass, and nowhere else: it
// is never a reason to refuse for good. No tree walk asks more than 8 questions (§4.10), no name is
// asked for twice.
Asking<std::vector<DmarcVerdict>> check_dmarc(std::vector<std::string> author_domains,
                                              std::vector<Identifier> identifiers);
// The one that counts for the message (§11.5): a failure with the strictest policy, else a
// temperror, else a domain without a policy, else a pass. Requires: verdicts is not empty.
const DmarcVerdict& strictest(const std::vector<DmarcVerdict>& verdicts);

// §4.10.2. Nothing if the DNS does not say.
Asking<std::optional<std::string>> organizational_domain(std::string domain);
// The names that a tree walk from here looks at, at most 8, the domain itself first (§4.10).
std::vector<std::string> tree_walk(std::string_view domain);

}  // namespace postrider::mailauth
