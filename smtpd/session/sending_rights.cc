#include "smtpd/session/sending_rights.h"

#include "base/text.h"
#include "mail/address.h"
#include "mail/header.h"
#include "mail/rewrite.h"
#include "smtpd/session/local_counter.h"
#include "smtpd/session/replies.h"

#include <algorithm>
#include <utility>
#include <vector>

namespace postrider::smtpd {

namespace {

using Places = std::vector<std::pair<std::size_t, std::size_t>>;

// Each item of the list has one address, at one of these places, and nothing that a reader may take
// for one more: an "@" outside of quoted words, words and comments without an end, an item of a
// name alone, which readers complete, or a "\" outside of both, which not all readers take for one
// letter.
bool are_all_addresses(std::string_view value, const Places& places) {
  bool quoted = false;
  std::size_t depth = 0;  // of comments
  std::size_t addresses = 0;
  bool is_blank = true;  // of this item so far
  auto place = places.begin();
  for (std::size_t at = 0; at < value.size(); ++at) {
    if (place != places.end() && at == place->first) {
      at += (place++)->second - 1;
      ++addresses;
      continue;
    }
    const char c = value[at];
    if (c == '\\') {
      if (!quoted && depth == 0)
        return false;
      ++at;
    } else if (c == '"' && depth == 0) {
      quoted = !quoted;
      is_blank = false;
    } else if (quoted) {
      continue;
    } else if (c == '(') {
      ++depth;
    } else if (depth > 0) {
      depth -= c == ')' ? 1U : 0U;
    } else if (c == '@') {
      return false;
    } else if (c == ',' || c == ';') {
      if (addresses != 1 && !(addresses == 0 && is_blank))
        return false;
      addresses = 0;
      is_blank = true;
    } else if (c == ':' && addresses == 0) {
      is_blank = true;  // behind the name of a group
    } else if (c != ' ' && c != '\t' && c != '\r' && c != '\n') {
      is_blank = false;
    }
  }
  return !quoted && depth == 0 && (addresses == 1 || (addresses == 0 && is_blank));
}

// Readers see the fields that we see: no line ends at a CR alone, and names are of printable ASCII.
bool has_plain_lines(std::string_view header_section) {
  for (auto at = header_section.find('\r'); at != header_section.npos;
       at = header_section.find('\r', at + 1))
    if (at + 1 < header_section.size() && header_section[at + 1] != '\n')
      return false;
  return true;
}

bool is_plain_name(std::string_view name) {
  return std::all_of(name.begin(), name.end(), [](char c) { return c >= ' ' && c <= '~'; });
}

// limit: its words; empty: none is exceeded.
std::string refusal_of_limit(const std::string& limit) {
  if (limit.empty())
    return {};
  return "450 4.7.1 You have reached your limit of " + limit + ", try again later\r\n";
}

}  // namespace

std::string_view SendingRights::refusal_of(std::string_view sender) const {
  if (facts_.role != Role::submission)
    return {};
  auto* asked = facts_.authenticator();
  if (facts_.client.authenticated.empty())
    return asked != nullptr || !facts_.client.trusted ? replies::kAuthenticationNeeded
                                                      : std::string_view();
  if (asked == nullptr)  // it was there when they logged in
    return {};
  return asked->may_send_as(facts_.client.authenticated, sender) ? std::string_view()
                                                                 : replies::kNotYourAddress;
}

// Each day for which it is to be kept counts as a message: else a day's limit would let in thirty days' mail, to be
// kept here for all of them.
std::string SendingRights::count_message(Duration kept_for) const {
  std::string refusal;
  for (auto left = kept_for; refusal.empty() && left >= std::chrono::hours(24);
       left -= std::chrono::hours(24))
    refusal = count_one();
  return refusal.empty() ? count_one() : refusal;
}

std::string SendingRights::count_one() const {
  const auto& client = facts_.client;
  if (auto* asked = facts_.authenticator(); asked != nullptr && !client.authenticated.empty())
    return refusal_of_limit(asked->begin_message(client.authenticated));
  auto* counter = facts_.policy->settings().local_counter;
  if (counter == nullptr || !client.local_user || !client.authenticated.empty())
    return {};
  return refusal_of_limit(counter->begin_message(*client.local_user));
}

std::string SendingRights::count_recipient(std::string_view recipient) const {
  const auto& client = facts_.client;
  auto* counter = facts_.policy->settings().local_counter;
  if (counter != nullptr && client.local_user && client.authenticated.empty())
    return refusal_of_limit(counter->add_recipient(*client.local_user));
  auto* asked = facts_.authenticator();
  if (asked == nullptr || client.authenticated.empty())
    return {};
  return refusal_of_limit(asked->add_recipient(client.authenticated, recipient));
}

bool SendingRights::checks_authors() const {
  return facts_.role == Role::submission && facts_.policy->settings().check_from &&
         !facts_.client.authenticated.empty() && facts_.authenticator() != nullptr;
}

// A field of that name without an address that can be read says something all the same to whoever
// reads the mail.
bool SendingRights::may_write_as(std::string_view header_section) const {
  const auto* asked = facts_.authenticator();
  if (!has_plain_lines(header_section))
    return false;
  mail::HeaderScanner scanner(header_section);
  mail::HeaderField field;
  while (scanner.next(field)) {
    if (!is_plain_name(field.name))
      return false;
    if (!equals_ignoring_case(field.name, "From") && !equals_ignoring_case(field.name, "Sender"))
      continue;
    const auto places = mail::address_places(field.value);
    if (places.empty() || !are_all_addresses(field.value, places))
      return false;
    for (const auto& [at, size] : places) {
      const auto address = mail::parse_mailbox(field.value.substr(at, size), true);
      if (!address || !asked->may_send_as(facts_.client.authenticated, *address))
        return false;
    }
  }
  return true;
}

}  // namespace postrider::smtpd
