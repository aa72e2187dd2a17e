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

bool ReportTally::add(const PublishedPolicy& policy, ReportRow row, std::uint64_t count) {
  const auto key = key_of(policy);
  const auto octets = weight(row);
  const auto found = policies_.find(key);
  auto whole = octets + (found == policies_.end() ? weight(key, policy) : 0);
  const bool has_room = rows_ < limits_.rows && octets_ + whole <= limits_.octets;
  if (found == policies_.end()) {
    if (!has_room || policies_.size() >= limits_.policies) {
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
    if (!has_room || rows.size() >= limits_.rows_of_policy) {
      add_up(lost, count);
      return false;
    }
    rows.emplace(std::move(row), count);
  }
  ++rows_;
  octets_ += whole;
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
  octets_ -= weight(key, found->second.published);
  for (const auto& [row, count] : found->second.rows)
    octets_ -= weight(row);
  rows_ -= found->second.rows.size();
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
