#include "tests/support/zone_resolver.h"

#include "base/text.h"

#include <algorithm>
#include <sstream>
#include <stdexcept>

namespace postrider::tests {

namespace {

constexpr int kMostLinks = 10;

std::string without_dot(std::string_view name) {
  std::string text = ascii_lower(name);
  if (text.ends_with('.'))
    text.pop_back();
  return text;
}

std::string reverse_name(const asio::ip::address& address) {
  static constexpr char kHex[] = "0123456789abcdef";
  std::string name;
  if (address.is_v4()) {
    const auto bytes = address.to_v4().to_bytes();
    for (auto byte = bytes.rbegin(); byte != bytes.rend(); ++byte)
      name += std::to_string(*byte) + ".";
    return name + "in-addr.arpa";
  }
  const auto bytes = address.to_v6().to_bytes();
  for (auto byte = bytes.rbegin(); byte != bytes.rend(); ++byte)
    name += {kHex[*byte & 15U], '.', kHex[*byte >> 4U], '.'};
  return name + "ip6.arpa";
}

dns::Mx to_mx(const std::string& value) {
  dns::Mx record;
  std::istringstream in(value);
  std::string host;
  if (!(in >> record.preference >> host))
    throw std::invalid_argument("MX " + value);
  record.host = without_dot(host);
  return record;
}

dns::Tlsa to_tlsa(const std::string& value) {
  std::istringstream in(value);
  unsigned usage = 0, selector = 0, matching = 0;
  std::string hex;
  in >> usage >> selector >> matching >> hex;
  dns::Tlsa record;
  record.usage = static_cast<std::uint8_t>(usage);
  record.selector = static_cast<std::uint8_t>(selector);
  record.matching = static_cast<std::uint8_t>(matching);
  for (std::size_t i = 0; i + 1 < hex.size(); i += 2)
    record.data.push_back(static_cast<std::uint8_t>(std::stoul(hex.substr(i, 2), nullptr, 16)));
  return record;
}

// "a" "b" -> ab, as the strings of one record are joined.
std::string to_text(const std::string& value) {
  if (!value.starts_with('"'))
    return value;
  std::string text;
  bool inside = false;
  for (const char c : value) {
    if (c == '"')
      inside = !inside;
    else if (inside)
      text += c;
  }
  return text;
}

// A comment starts at a ';' outside quotes: TXT records are full of them.
std::string_view without_comment(std::string_view line) {
  bool quoted = false;
  for (std::size_t i = 0; i < line.size(); ++i) {
    if (line[i] == '"')
      quoted = !quoted;
    else if (line[i] == ';' && !quoted)
      return line.substr(0, i);
  }
  return line;
}

}  // namespace

ZoneResolver::ZoneResolver(std::string_view zone) {
  add(zone);
}

void ZoneResolver::add(std::string_view zone) {
  static const std::set<std::string> kTypes = {"mx", "a", "aaaa", "ptr", "txt", "tlsa", "cname"};
  for (const auto line : split(zone, '\n')) {
    std::istringstream in{std::string(without_comment(line))};
    std::string name, type, value;
    if (!(in >> name))
      continue;
    in >> type >> std::ws;
    std::getline(in, value);
    value = trim(value);
    type = ascii_lower(type);
    boost::system::error_code not_an_address;
    const auto address = asio::ip::make_address(name, not_an_address);
    name = type == "ptr" && !not_an_address ? reverse_name(address) : without_dot(name);
    names_.insert(name);
    if (type == "exists")
      continue;
    if (!kTypes.contains(type) || value.empty())
      throw std::invalid_argument("zone line: " + std::string(line));
    records_[{name, type}].push_back(value);
  }
}

void ZoneResolver::remove(const std::string& name) {
  names_.erase(without_dot(name));
  std::erase_if(records_,
                [&](const auto& entry) { return entry.first.first == without_dot(name); });
}

void ZoneResolver::servfail(const std::string& name, const std::string& type) {
  failures_[{without_dot(name), ascii_lower(type)}] = "SERVFAIL from 127.0.0.1:53";
}

void ZoneResolver::timeout(const std::string& name, const std::string& type) {
  failures_[{without_dot(name), ascii_lower(type)}] = "no answer from 127.0.0.1:53";
}

void ZoneResolver::heal(const std::string& name) {
  std::erase_if(failures_,
                [&](const auto& entry) { return entry.first.first == without_dot(name); });
}

void ZoneResolver::set_secure(const std::string& name, bool secure, const std::string& type) {
  secure_[{without_dot(name), ascii_lower(type)}] = secure;
}

std::size_t ZoneResolver::times_asked(const std::string& question) const {
  return static_cast<std::size_t>(std::count(asked_.begin(), asked_.end(), question));
}

bool ZoneResolver::exists(const std::string& name) const {
  return std::any_of(names_.begin(), names_.end(), [&](const std::string& known) {
    return known == name || known.ends_with("." + name);
  });
}

bool ZoneResolver::is_secure(const std::string& name, const std::string& type) const {
  for (const auto& key : {Key(name, type), Key(name, "")})
    if (const auto known = secure_.find(key); known != secure_.end())
      return known->second;
  return all_secure_;
}

ZoneResolver::Found ZoneResolver::find(std::string name, const std::string& type) {
  name = without_dot(name);
  const std::string question = type + " " + name;
  asked_.push_back(question);
  Found found;
  found.secure = true;
  for (int links = 0; links <= kMostLinks; ++links) {
    found.canonical_name = name;
    for (const auto& key : {Key(name, type), Key(name, "")})
      if (const auto failure = failures_.find(key); failure != failures_.end()) {
        found.secure = false;
        found.reason = question + ": " + failure->second;
        return found;
      }
    found.secure = found.secure && is_secure(name, type);
    if (const auto values = records_.find({name, type}); values != records_.end()) {
      found.status = dns::Status::records;
      found.values = values->second;
      return found;
    }
    const auto alias = records_.find({name, "cname"});
    if (alias == records_.end()) {
      found.status = exists(name) ? dns::Status::no_data : dns::Status::no_such_name;
      return found;
    }
    name = without_dot(alias->second.front());
  }
  found.secure = false;
  found.reason = question + ": more than 10 aliases";
  return found;
}

template <class Record, class Convert>
dns::Answer<Record> ZoneResolver::answer(const std::string& name, const std::string& type,
                                         Convert convert) {
  Found found = find(name, type);
  dns::Answer<Record> answer;
  answer.status = found.status;
  answer.secure = found.secure;
  answer.canonical_name = std::move(found.canonical_name);
  answer.reason = std::move(found.reason);
  if (found.status != dns::Status::temporary_failure)
    answer.ttl = ttl_;
  for (const auto& value : found.values)
    answer.records.push_back(convert(value));
  return answer;
}

namespace {

asio::ip::address to_address(const std::string& value) {
  return asio::ip::make_address(value);
}

std::string to_host(const std::string& value) {
  return without_dot(value);
}

}  // namespace

Task<dns::Answer<dns::Mx>> ZoneResolver::mx(std::string name) {
  co_return answer<dns::Mx>(name, "mx", to_mx);
}

Task<dns::Answer<asio::ip::address>> ZoneResolver::a(std::string name) {
  co_return answer<asio::ip::address>(name, "a", to_address);
}

Task<dns::Answer<asio::ip::address>> ZoneResolver::aaaa(std::string name) {
  co_return answer<asio::ip::address>(name, "aaaa", to_address);
}

Task<dns::Answer<std::string>> ZoneResolver::ptr(asio::ip::address address) {
  co_return answer<std::string>(reverse_name(address), "ptr", to_host);
}

Task<dns::Answer<std::string>> ZoneResolver::txt(std::string name) {
  co_return answer<std::string>(name, "txt", to_text);
}

Task<dns::Answer<dns::Tlsa>> ZoneResolver::tlsa(std::string name) {
  co_return answer<dns::Tlsa>(name, "tlsa", to_tlsa);
}

Task<dns::Answer<std::string>> ZoneResolver::cname(std::string name) {
  co_return answer<std::string>(name, "cname", to_host);
}

}  // namespace postrider::tests
