#include "mailauth/dmarc_tally.h"

#include <algorithm>
#include <utility>

namespace postrider::mailauth {

namespace {

constexpr std::size_t kNode = 64;  // of a map, with what the allocator takes

// Short texts stand in the object.
std::size_t weight(const std::string& text) {
  return text.size() < sizeof(std::string) / 2 ? 0 : text.size() + 1;
}

std::size_t weight(const ReportRow& row) {
  auto sum = kNode + sizeof(row) + weight(row.source) + weight(row.header_from) +
             weight(row.envelope_from) + weight(row.reason) + weight(row.comment);
  for (const auto& signature : row.signatures)
    sum += sizeof(signature) + weight(signature.domain) + weight(signature.selector);
  return sum;
}

std::size_t weight(const std::string& key, const PublishedPolicy& policy) {
  auto sum = kNode + sizeof(PolicyRows) + 2 * weight(key) + weight(policy.error);
  for (const auto& uri : policy.rua)
    sum += sizeof(uri);
  return sum;
}

// The last two labels: what is below them one owner makes for nothing. Its own word for where it begins (psd=) would
// be as cheap. Below a public suffix of two labels ("co.uk") many share one part.
std::string organisation_of(std::string_view domain) {
  const auto last = domain.rfind('.');
  const auto before = last == 0 || last == domain.npos ? domain.npos : domain.rfind('.', last - 1);
  return std::string(before == domain.npos ? domain : domain.substr(before + 1));
}

void add_up(std::uint64_t& sum, std::uint64_t count) {
  sum = std::min(ReportTally::kMostMessages, sum + std::min(ReportTally::kMostMessages, count));
}

}  // namespace

std::string ReportTally::key_of(const PublishedPolicy& policy) {
  std::string key = policy.domain;
  for (const auto* text : {&policy.p, &policy.sp, &policy.np, &policy.adkim, &policy.aspf,
                           &policy.fo, &policy.testing, &policy.error})
    key.append("\n").append(*text);
  for (const auto& uri : policy.rua)
    key.append("\n").append(uri);
  return key;
}

bool ReportTally::has_room(const std::string& organisation, const Used& more) const {
  const auto fits = [&](const Used& used, std::size_t part) {
    return used.policies + more.policies <= limits_.policies / part &&
           used.rows + more.rows <= limits_.rows / part &&
           used.octets + more.octets <= limits_.octets / part;
  };
  const auto own = by_organisation_.find(organisation);
  return fits(used_, 1) && (own == by_organisation_.end() || fits(own->second, limits_.share));
}

void ReportTally::use(const std::string& organisation, const Used& more) {
  for (auto* used : {&used_, &by_organisation_[organisation]}) {
    used->policies += more.policies;
    used->rows += more.rows;
    used->octets += more.octets;
  }
}

bool ReportTally::add(const PublishedPolicy& policy, ReportRow row, std::uint64_t count) {
  const auto key = key_of(policy);
  const auto organisation = organisation_of(policy.domain);
  const auto found = policies_.find(key);
  Used more{0, 1, weight(row)};
  if (found == policies_.end()) {
    more.policies = 1;
    more.octets += weight(key, policy);
    if (!has_room(organisation, more)) {
      add_lost(count);
      return false;
    }
    auto& fresh = policies_[key];
    fresh.published = policy;
    fresh.rows.emplace(std::move(row), count);
  } else {
    auto& [published, rows, lost] = found->second;
    if (const auto known = rows.find(row); known != rows.end()) {
      add_up(known->second, count);
      return true;
    }
    if (!has_room(organisation, more) || rows.size() >= limits_.rows_of_policy) {
      add_up(lost, count);
      return false;
    }
    rows.emplace(std::move(row), count);
  }
  use(organisation, more);
  return true;
}

void ReportTally::add_lost(const std::string& key, std::uint64_t count) {
  if (const auto found = policies_.find(key); found != policies_.end())
    add_up(found->second.lost, count);
}

void ReportTally::add_lost(std::uint64_t count) {
  add_up(lost_elsewhere_, count);
}

void ReportTally::remove(const std::string& key) {
  const auto found = policies_.find(key);
  if (found == policies_.end())
    return;
  Used less{1, found->second.rows.size(), weight(key, found->second.published)};
  for (const auto& [row, count] : found->second.rows)
    less.octets += weight(row);
  const auto own = by_organisation_.find(organisation_of(found->second.published.domain));
  for (auto* used : {&used_, &own->second}) {
    used->policies -= less.policies;
    used->rows -= less.rows;
    used->octets -= less.octets;
  }
  if (own->second.policies == 0)
    by_organisation_.erase(own);
  policies_.erase(found);
}

const PolicyRows* ReportTally::find(const std::string& key) const {
  const auto found = policies_.find(key);
  return found == policies_.end() ? nullptr : &found->second;
}

std::uint64_t ReportTally::lost() const {
  auto sum = lost_elsewhere_;
  for (const auto& [key, policy] : policies_)
    sum += policy.lost;
  return sum;
}

}  // namespace postrider::mailauth
