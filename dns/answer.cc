#include "dns/answer.h"

#include "base/assert.h"
#include "base/text.h"

#include <algorithm>

namespace postrider::dns {

namespace {

constexpr std::size_t kMostMx = 1000;        // delivery chooses among them
constexpr std::size_t kMostAddresses = 500;  // the cache counts their octets
constexpr std::size_t kMostOther = 50;
constexpr std::size_t kMostAliases = 1;

// RFC 2181 section 8: with the highest bit set it is zero (attack D11).
std::uint32_t clamp_ttl(std::uint32_t ttl, std::uint32_t most) {
  return ttl > INT32_MAX ? 0 : std::min(ttl, most);
}

Finding failure(std::string reason) {
  Finding finding;
  finding.reason = std::move(reason);
  return finding;
}

std::string describe_failure(const Message& message) {
  std::string reason = rcode_name(message.rcode);
  if (message.extended_error)
    reason += " (" + describe(*message.extended_error) + ")";
  return reason;
}

enum class Step { records, alias, nothing, contradiction };

// Takes from the answer section what belongs to the name reached so far.
Step take_link(const Message& message, Type type, Finding& finding) {
  const Name* target = nullptr;
  bool renamed_without_alias = false;
  std::uint32_t alias_ttl = 0;
  for (const auto& record : message.answers) {
    if (record.type == Type::dname && record.name != finding.canonical &&
        finding.canonical.is_at_or_below(record.name))
      renamed_without_alias = true;
    if (record.name != finding.canonical)
      continue;
    if (record.type == type) {
      finding.records.push_back(record.data);
      finding.ttl = std::min(finding.ttl, clamp_ttl(record.ttl, kMostTtl));
    } else if (record.type == Type::cname) {
      const auto& next = std::get<Name>(record.data);
      if (target != nullptr && *target != next)
        return Step::contradiction;
      target = &next;
      alias_ttl = clamp_ttl(record.ttl, kMostTtl);
    }
  }
  if (!finding.records.empty())
    return Step::records;
  if (target == nullptr)  // RFC 6672 section 3.1: a DNAME comes with the CNAME made from it
    return renamed_without_alias ? Step::contradiction : Step::nothing;
  finding.ttl = std::min(finding.ttl, alias_ttl);
  finding.canonical = *target;
  return Step::alias;
}

// RFC 2308 section 5: the SOA of a zone that has the name says how long its absence may be
// remembered.
const Record* find_soa(const Message& message, const Name& name) {
  for (const auto& record : message.authority)
    if (record.type == Type::soa && name.is_at_or_below(record.name))
      return &record;
  return nullptr;
}

bool is_referral(const Message& message) {
  return !message.authoritative &&
         std::any_of(message.authority.begin(), message.authority.end(),
                     [](const Record& record) { return record.type == Type::ns; });
}

Finding without_records(const Message& message, Finding finding) {
  const Record* soa = find_soa(message, finding.canonical);
  const bool name_exists = message.rcode == Rcode::no_error;
  if (name_exists && soa == nullptr) {
    if (finding.links > 0) {
      finding.unfinished = true;
      return finding;
    }
    if (is_referral(message))
      return failure("a referral to other servers; it does not resolve for us");
  }
  finding.status = name_exists ? Status::no_data : Status::no_such_name;
  const auto limit = soa == nullptr ? 0 : std::get<SoaData>(soa->data).minimum;
  finding.ttl = soa == nullptr ? 0
                               : std::min({finding.ttl, clamp_ttl(soa->ttl, kMostNegativeTtl),
                                           clamp_ttl(limit, kMostNegativeTtl)});
  return finding;
}

template <class Record, class Convert>
std::vector<Record> convert(const std::vector<Data>& data, std::size_t most, Convert take) {
  std::vector<Record> records;
  records.reserve(std::min(data.size(), most));
  for (const auto& one : data) {
    if (records.size() == most)
      break;
    take(one, records);
  }
  return records;
}

void take_host(const Data& data, std::vector<std::string>& records) {
  if (const auto& name = std::get<Name>(data); name.is_host())
    records.push_back(name.text());
}

void take_name(const Data& data, std::vector<std::string>& records) {
  records.push_back(std::get<Name>(data).text());
}

void take_text(const Data& data, std::vector<std::string>& records) {
  records.push_back(std::get<TextData>(data).text);
}

void take_tlsa(const Data& data, std::vector<Tlsa>& records) {
  const auto& from = std::get<TlsaData>(data);
  Tlsa& to = records.emplace_back();
  to.usage = from.usage;
  to.selector = from.selector;
  to.matching = from.matching;
  to.data.assign(from.data.begin(), from.data.end());
}

void take_address4(const Data& data, std::vector<asio::ip::address>& records) {
  records.emplace_back(asio::ip::address_v4(std::get<Address4>(data)));
}

void take_address6(const Data& data, std::vector<asio::ip::address>& records) {
  records.emplace_back(asio::ip::address_v6(std::get<Address6>(data)));
}

// The root stays: it is a null MX (RFC 7505), and what to do with it is not for us to say.
std::vector<Mx> to_mx(const std::vector<Data>& data) {
  std::vector<const MxData*> usable;
  for (const auto& one : data) {
    const auto& mx = std::get<MxData>(one);
    if (mx.host.is_root() || mx.host.is_host())
      usable.push_back(&mx);
  }
  if (usable.size() > kMostMx) {
    std::sort(usable.begin(), usable.end(),
              [](const MxData* a, const MxData* b) { return a->preference < b->preference; });
    usable.resize(kMostMx);
  }
  std::vector<Mx> records;
  records.reserve(usable.size());
  for (const auto* mx : usable)
    records.push_back({mx->preference, mx->host.text()});
  return records;
}

void append(Name& name, std::string_view label) {
  const bool fits = name.append_label(label);
  POSTRIDER_ASSERT(fits);
}

}  // namespace

Finding read_answer(const Message& message, const Question& question, unsigned most_links) {
  if (!message.is_response)
    return failure("not an answer");
  if (message.rcode != Rcode::no_error && message.rcode != Rcode::name_error)
    return failure(describe_failure(message));
  if (!message.question)
    return failure("an answer without its question");
  Finding finding;
  finding.canonical = question.name;
  finding.ttl = kMostTtl;
  for (;;) {
    switch (take_link(message, question.type, finding)) {
      case Step::records:
        if (message.rcode == Rcode::name_error)
          return failure("records of a name that it says does not exist");
        finding.status = Status::records;
        return finding;
      case Step::nothing:
        return without_records(message, std::move(finding));
      case Step::contradiction:
        return failure("aliases of " + escaped(finding.canonical.text()) + " that contradict");
      case Step::alias:
        if (++finding.links > most_links)
          return failure("a chain of more than " + std::to_string(kMostLinks) + " aliases");
        break;
    }
  }
}

Records to_records(Type type, const std::vector<Data>& data) {
  switch (type) {
    case Type::mx:
      return to_mx(data);
    case Type::a:
      return convert<asio::ip::address>(data, kMostAddresses, take_address4);
    case Type::aaaa:
      return convert<asio::ip::address>(data, kMostAddresses, take_address6);
    case Type::ptr:
      return convert<std::string>(data, kMostOther, take_host);
    case Type::cname:
      return convert<std::string>(data, kMostAliases, take_name);
    case Type::txt:
      return convert<std::string>(data, kMostOther, take_text);
    default:
      POSTRIDER_ASSERT(type == Type::tlsa);
      return convert<Tlsa>(data, kMostOther, take_tlsa);
  }
}

bool is_empty(const Records& records) {
  return std::visit([](const auto& list) { return list.empty(); }, records);
}

Name reverse_name(const asio::ip::address& address) {
  static constexpr std::string_view kHex = "0123456789abcdef";
  Name name;
  const bool is_mapped = address.is_v6() && address.to_v6().is_v4_mapped();
  if (address.is_v4() || is_mapped) {
    const auto v4 = address.is_v4()
                        ? address.to_v4()
                        : asio::ip::make_address_v4(asio::ip::v4_mapped, address.to_v6());
    const auto bytes = v4.to_bytes();
    for (auto byte = bytes.rbegin(); byte != bytes.rend(); ++byte)
      append(name, std::to_string(*byte));
    append(name, "in-addr");
  } else {
    const auto bytes = address.to_v6().to_bytes();
    for (auto byte = bytes.rbegin(); byte != bytes.rend(); ++byte) {
      append(name, kHex.substr(*byte & 15U, 1));
      append(name, kHex.substr(*byte >> 4U, 1));
    }
    append(name, "ip6");
  }
  append(name, "arpa");
  return name;
}

}  // namespace postrider::dns
