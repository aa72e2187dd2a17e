#include "mailauth/dns_list.h"

#include "base/text.h"
#include "mail/address.h"
#include "mailauth/dns_name.h"
#include "mailauth/reverse_name.h"

#include <algorithm>

namespace postrider::mailauth {

namespace {

constexpr std::size_t kMostOfListText = 255;
constexpr std::size_t kMostCodes = 16;
constexpr std::uint64_t kMostWeight = 1000;
constexpr std::size_t kMostRanges = 32;

using Range = std::pair<unsigned, unsigned>;

std::optional<unsigned> parse_octet(std::string_view text) {
  const auto value = text.size() <= 3 ? parse_unsigned(text) : std::nullopt;
  if (!value || *value > 255)
    return std::nullopt;
  return static_cast<unsigned>(*value);
}

// "2" or "2..11"
std::optional<Range> parse_range(std::string_view text) {
  const auto dots = text.find("..");
  const auto low = parse_octet(text.substr(0, dots));
  const auto high = dots == std::string_view::npos ? low : parse_octet(text.substr(dots + 2));
  if (!low || !high || *low > *high)
    return std::nullopt;
  return Range{*low, *high};
}

// An octet of a filter, "2" or "[2..11;20]", taken off the front.
std::optional<std::vector<Range>> take_ranges(std::string_view& text) {
  const bool is_list = text.starts_with('[');
  const auto end = is_list ? text.find(']') : text.find('.');
  if (is_list && end == std::string_view::npos)
    return std::nullopt;
  std::vector<Range> ranges;
  for (const auto part : split(text.substr(is_list ? 1 : 0, is_list ? end - 1 : end), ';')) {
    const auto range = is_list ? parse_range(part) : parse_range(part.substr(0, part.find("..")));
    if (!range || ranges.size() == kMostRanges)
      return std::nullopt;
    ranges.push_back(*range);
  }
  text.remove_prefix(end == std::string_view::npos ? text.size() : end + (is_list ? 1 : 0));
  return ranges;
}

std::optional<std::array<std::vector<Range>, 4>> parse_filter(std::string_view text) {
  std::array<std::vector<Range>, 4> filter;
  for (std::size_t i = 0; i < filter.size(); ++i) {
    if (i > 0) {
      if (!text.starts_with('.'))
        return std::nullopt;
      text.remove_prefix(1);
    }
    auto ranges = take_ranges(text);
    if (!ranges)
      return std::nullopt;
    filter[i] = std::move(*ranges);
  }
  if (!text.empty())
    return std::nullopt;
  return filter;
}

std::optional<int> parse_weight(std::string_view text) {
  const bool is_negative = text.starts_with('-');
  const auto value = parse_unsigned(is_negative ? text.substr(1) : text);
  if (!value || *value > kMostWeight)
    return std::nullopt;
  return is_negative ? -static_cast<int>(*value) : static_cast<int>(*value);
}

bool is_in(std::string_view octets, std::initializer_list<unsigned> prefix) {
  std::size_t i = 0;
  return std::all_of(prefix.begin(), prefix.end(), [&](unsigned octet) {
    return static_cast<unsigned char>(octets[i++]) == octet;
  });
}

// Why an address is not a listing; empty if it is one.
std::string_view fault_of(const IpAddress& code) {
  const auto octets = octets_of(code);
  if (!code.is_v4() || !is_in(octets, {127}))
    return "an answer outside 127/8";
  if (is_in(octets, {127, 255, 255}))
    return "the list does not answer us";
  if (is_in(octets, {127, 0, 0, 1}))
    return "it lists everything";
  if (is_in(octets, {127, 0, 1, 255}))
    return "an address was asked for in a list of domains";
  return {};
}

std::optional<std::string> name_below(std::string name, std::string_view zone) {
  name.append(".").append(zone);
  if (!can_be_asked(name))
    return std::nullopt;
  return name;
}

// Asks the lists for a key, an address's parts or a domain.
Asking<ListVerdict> ask_lists(std::string key, std::vector<DnsList> lists) {
  std::vector<std::string> zones;
  std::vector<Question> questions;
  for (const auto& list : lists) {
    const auto name = name_below(key, list.zone());
    if (!name || std::find(zones.begin(), zones.end(), list.zone()) != zones.end())
      continue;
    zones.push_back(list.zone());
    questions.push_back(Question{*name, Type::a});
  }
  const auto names = questions;
  const auto answers = co_await ask_all(std::move(questions));
  ListVerdict verdict;
  std::vector<Question> texts_of;
  for (std::size_t i = 0; i < zones.size(); ++i) {
    auto listing = read_listing(answers[i]);
    if (listing.status == Listing::Status::broken)
      verdict.broken.emplace_back(zones[i], listing.reason);
    if (listing.status == Listing::Status::unknown)
      verdict.silent.push_back(zones[i]);
    if (listing.status != Listing::Status::listed)
      continue;
    ListVerdict::Hit hit;
    hit.zone = zones[i];
    bool counts = false;
    for (const auto& list : lists) {
      if (list.zone() != zones[i] ||
          std::none_of(listing.codes.begin(), listing.codes.end(),
                       [&](const IpAddress& code) { return list.counts(code); }))
        continue;
      counts = true;
      hit.weight += list.weight();
    }
    if (!counts)
      continue;
    hit.codes = std::move(listing.codes);
    verdict.score += hit.weight;
    verdict.hits.push_back(std::move(hit));
    texts_of.push_back(Question{names[i].name, Type::txt});
  }
  const auto texts = co_await ask_all(std::move(texts_of));
  for (std::size_t i = 0; i < texts.size(); ++i)
    if (texts[i].is_found() && !texts[i].texts.empty())
      verdict.hits[i].text = texts[i].texts.front().substr(0, kMostOfListText);
  co_return verdict;
}

Asking<ListVerdict> no_lists() {
  co_return ListVerdict();
}

}  // namespace

Result<DnsList> DnsList::parse(std::string_view text) {
  DnsList list;
  std::string_view rest = trim(text);
  if (const auto star = rest.rfind('*'); star != std::string_view::npos) {
    const auto weight = parse_weight(rest.substr(star + 1));
    if (!weight)
      return malformed("'" + escaped(text, 200) + "': the weight is a number from -1000 to 1000");
    list.weight_ = *weight;
    rest = rest.substr(0, star);
  }
  if (const auto equals = rest.find('='); equals != std::string_view::npos) {
    list.filter_ = parse_filter(rest.substr(equals + 1));
    if (!list.filter_)
      return malformed("'" + escaped(text, 200) +
                       "': the filter is an address such as 127.0.0.[2..11;20]");
    rest = rest.substr(0, equals);
  }
  list.zone_ = ascii_lower(rest);
  if (list.zone_.find('.') == std::string::npos || !mail::is_dns_name(list.zone_))
    return malformed("'" + escaped(text, 200) + "': no name of a list");
  return list;
}

bool DnsList::counts(const IpAddress& code) const {
  if (!fault_of(code).empty())
    return false;
  if (!filter_)
    return true;
  const auto octets = octets_of(code);
  for (std::size_t i = 0; i < filter_->size(); ++i) {
    const auto octet = static_cast<unsigned char>(octets[i]);
    const auto& ranges = (*filter_)[i];
    if (std::none_of(ranges.begin(), ranges.end(), [&](const Range& range) {
          return octet >= range.first && octet <= range.second;
        }))
      return false;
  }
  return true;
}

std::optional<std::string> listing_name(const IpAddress& client, std::string_view zone) {
  if (client.is_none())
    return std::nullopt;
  return name_below(reversed_parts(client), zone);
}

std::optional<std::string> listing_name(std::string_view domain, std::string_view zone) {
  auto name = claimed_domain(domain);
  if (!name || IpAddress::parse(*name))
    return std::nullopt;
  return name_below(std::move(*name), zone);
}

Listing read_listing(const Answer& answer) {
  Listing listing;
  if (answer.is_none())
    return listing;
  if (answer.is_failure()) {
    listing.status = Listing::Status::unknown;
    listing.reason = answer.reason;
    return listing;
  }
  for (const auto& code : answer.addresses) {
    const auto fault = fault_of(code);
    if (!fault.empty()) {
      listing.status = Listing::Status::broken;
      listing.reason = std::string(fault) + ": " + code.str();
      listing.codes.clear();
      return listing;
    }
    if (listing.codes.size() < kMostCodes)
      listing.codes.push_back(code);
  }
  if (!listing.codes.empty())
    listing.status = Listing::Status::listed;
  return listing;
}

Asking<ListVerdict> check_lists(IpAddress client, std::vector<DnsList> lists) {
  if (client.is_none())
    return no_lists();
  return ask_lists(reversed_parts(client), std::move(lists));
}

Asking<ListVerdict> check_lists(std::string domain, std::vector<DnsList> lists) {
  auto name = claimed_domain(domain);
  if (!name || IpAddress::parse(*name))
    return no_lists();
  return ask_lists(std::move(*name), std::move(lists));
}

}  // namespace postrider::mailauth
