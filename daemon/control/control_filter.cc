#include "daemon/control/control_filter.h"

#include "base/network.h"
#include "base/quoted.h"
#include "base/text.h"
#include "mail/address.h"

#include <algorithm>
#include <iterator>

namespace postrider::daemon {

namespace {

constexpr std::size_t kMostIds = 1000;
constexpr std::size_t kMostPattern = 512;

Error unusable(const char* option, const std::string& given, const char* allowed) {
  return Error(Errc::malformed,
               std::string(option) + ": " + quote_value(given, 100) + " is not " + allowed);
}

Result<std::string> domain_filter(const std::string& given) {
  std::string_view name = given;
  if (name.ends_with('.'))
    name.remove_suffix(1);
  if (mail::is_address_literal(name))
    return ascii_lower(name);
  auto domain = mail::to_ascii_domain(name);
  if (!domain || domain->empty())
    return unusable("--domain", given, "a domain");
  return std::move(*domain);
}

Result<std::string> address_filter(const char* option, const std::string& given) {
  if (given == "<>")
    return given;
  std::string_view address = given;
  if (address.size() > 2 && address.front() == '<' && address.back() == '>')
    address = address.substr(1, address.size() - 2);
  if (address.size() > kMostPattern)
    return unusable(option, given, "an address of at most 256 octets");
  // A bare name or domain would match nothing, and that would look like an answer; nothing at all,
  // as an empty variable of a shell, would match what nobody meant.
  if (address.find('@') == address.npos && !equals_ignoring_case(address, "postmaster"))
    return unusable(option, given, "an address, @domain or <>");
  // As SMTP took it, which drops a dot at the end of the domain.
  if (auto mailbox = mail::parse_mailbox(address, true))
    return mailbox;
  if (address.front() == '@' && address.ends_with('.'))
    address.remove_suffix(1);
  return std::string(address);
}

Result<void> take_addresses(const FilterText& text, queue::Filter& filter) {
  if (text.from) {
    auto from = address_filter("--from", *text.from);
    if (!from)
      return from.error();
    filter.from = std::move(*from);
  }
  if (text.to) {
    auto to = address_filter("--to", *text.to);
    if (!to)
      return to.error();
    filter.to = std::move(*to);
  }
  if (text.domain) {
    auto domain = domain_filter(*text.domain);
    if (!domain)
      return domain.error();
    filter.domain = std::move(*domain);
  }
  return {};
}

Result<void> take_ids(const FilterText& text, queue::Filter& filter) {
  if (text.ids.size() > kMostIds)
    return Error(Errc::too_long,
                 "at most 1000 ids at one time; `xargs -n 1000` gives them in parts");
  for (const auto& given : text.ids) {
    const auto id = mail::parse_message_id(given);
    if (!id)
      return unusable("--id", given, "a queue id (11 letters and digits)");
    filter.ids.push_back(*id);
  }
  return {};
}

Result<void> take_measures(const FilterText& text, queue::Filter& filter) {
  if (text.status) {
    for (const char* known : {"active", "queued", "deferred", "held", "dropped", "refused"})
      if (*text.status == known)
        filter.status = known;
    if (!filter.status)
      return unusable("--status", *text.status,
                      "active, queued, deferred, held, dropped or refused");
  }
  if (text.older) {
    filter.older = parse_duration(*text.older);
    if (!filter.older)
      return unusable("--older", *text.older, "a time such as 90m, 2h or 5d");
  }
  if (text.larger) {
    filter.larger = parse_size(*text.larger);
    if (!filter.larger)
      return unusable("--larger", *text.larger, "a size such as 64KiB or 10MB");
  }
  return {};
}

constexpr struct {
  std::string_view scheme;
  std::uint64_t port;
} kNextHops[] = {{"smtp", 25}, {"smtps", 465}, {"lmtp", 24}};

// A name in lower case, an IPv4 address, or an IPv6 address in brackets; empty: it is none.
std::string host_of_next_hop(std::string_view text) {
  if (text.size() > 2 && text.front() == '[' && text.back() == ']') {
    text = text.substr(1, text.size() - 2);
    if (starts_with_ignoring_case(text, "IPv6:"))
      text.remove_prefix(5);
    if (!IpAddress::parse(text))
      return {};
  }
  if (const auto address = IpAddress::parse(text))
    return address->is_v6() ? "[" + address->str() + "]" : address->str();
  auto name = mail::to_ascii_domain(text);
  return name && mail::is_host_name(*name) ? *std::move(name) : std::string();
}

}  // namespace

Result<queue::Filter> to_filter(const FilterText& text) {
  queue::Filter filter;
  if (text.reply && text.reply->empty())
    return unusable("--reply", *text.reply, "a part of a reply");
  if (text.site && text.site->empty())
    return unusable("--site", *text.site, "the name of a site, as `postrider sites` has it");
  for (const auto take : {take_ids, take_addresses, take_measures})
    if (auto taken = take(text, filter); !taken)
      return taken.error();
  if ((text.reply && text.reply->size() > kMostPattern) ||
      (text.site && text.site->size() > kMostPattern))
    return Error(Errc::too_long, "--reply and --site: at most 512 octets");
  filter.site = text.site;
  filter.reply = text.reply;
  return filter;
}

// As delivery::NextHop::describe() has it, which parses it again.
Result<std::string> to_next_hop(const std::string& text) {
  const auto wrong = [&text] {
    return unusable("--to", text,
                    "a host, such as relay.example.net, [192.0.2.1]:2525 or "
                    "smtps://relay.example.net");
  };
  std::string_view left = text;
  const auto end = left.find("://");
  const auto scheme = end == left.npos ? "smtp" : ascii_lower(left.substr(0, end));
  const auto* known = std::find_if(std::begin(kNextHops), std::end(kNextHops),
                                   [&](const auto& row) { return row.scheme == scheme; });
  if (known == std::end(kNextHops) || text.size() > kMostPattern)
    return wrong();
  left.remove_prefix(end == left.npos ? 0 : end + 3);
  std::uint64_t port = known->port;
  const auto bracket = left.rfind(']');
  const auto colon = left.rfind(':');
  if (colon != left.npos && (bracket == left.npos || colon > bracket)) {
    const auto given = parse_unsigned(left.substr(colon + 1));
    if (!given || *given == 0 || *given > 65535)
      return wrong();
    port = *given;
    left = left.substr(0, colon);
  }
  const auto host = host_of_next_hop(left);
  if (host.empty())
    return wrong();
  return scheme + "://" + host + ":" + std::to_string(port);
}

std::optional<queue::Verb> to_verb(std::string_view word) {
  constexpr struct {
    std::string_view word;
    queue::Verb verb;
  } kVerbs[] = {{"hold", queue::Verb::hold},      {"release", queue::Verb::release},
                {"retry", queue::Verb::retry},    {"remove", queue::Verb::remove},
                {"bounce", queue::Verb::bounce},  {"expire", queue::Verb::expire},
                {"reroute", queue::Verb::reroute}};
  for (const auto& row : kVerbs)
    if (row.word == word)
      return row.verb;
  return std::nullopt;
}

}  // namespace postrider::daemon
