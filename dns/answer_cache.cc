#include "dns/answer_cache.h"

namespace postrider::dns {

namespace {

// Per entry: list node, index node, control block.
constexpr std::size_t kOverhead = sizeof(Found) + 200;

std::size_t size_of(const Mx& mx) {
  return sizeof mx + mx.host.size();
}
std::size_t size_of(const asio::ip::address& address) {
  return sizeof address;
}
std::size_t size_of(const std::string& text) {
  return sizeof text + text.size();
}
std::size_t size_of(const Tlsa& tlsa) {
  return sizeof tlsa + tlsa.data.size();
}

std::size_t size_of(const Found& found) {
  std::size_t bytes = kOverhead + found.canonical_name.size() + found.reason.size();
  std::visit(
      [&](const auto& records) {
        for (const auto& record : records)
          bytes += size_of(record);
      },
      found.records);
  return bytes;
}

}  // namespace

std::string cache_key(const Question& question) {
  const auto type = static_cast<std::uint16_t>(question.type);
  std::string key;
  key.reserve(2 + question.name.wire().size());
  key += static_cast<char>(type >> 8U);
  key += static_cast<char>(type & 0xffU);
  key += question.name.wire();
  return key;
}

std::shared_ptr<const Found> Cache::find(const std::string& key, SteadyTime now) {
  const auto known = index_.find(key);
  if (known == index_.end())
    return nullptr;
  const auto entry = known->second;
  if (entry->found->expires <= now) {
    erase(entry);
    return nullptr;
  }
  entries_.splice(entries_.begin(), entries_, entry);
  return entry->found;
}

void Cache::put(std::string key, std::shared_ptr<const Found> found, SteadyTime now) {
  if (const auto known = index_.find(key); known != index_.end())
    erase(known->second);
  const std::size_t bytes = size_of(*found) + 2 * key.size();
  if (found->expires <= now || bytes > most_bytes_ || most_entries_ == 0)
    return;
  entries_.push_front({std::move(key), std::move(found), bytes});
  index_.emplace(entries_.front().key, entries_.begin());
  bytes_ += bytes;
  shrink();
}

void Cache::erase(std::list<Entry>::iterator entry) {
  bytes_ -= entry->bytes;
  index_.erase(entry->key);
  entries_.erase(entry);
}

void Cache::shrink() {
  while (entries_.size() > most_entries_ || bytes_ > most_bytes_)
    erase(std::prev(entries_.end()));
}

void Cache::clear() {
  index_.clear();
  entries_.clear();
  bytes_ = 0;
}

void Cache::resize(std::size_t most_entries, std::size_t most_bytes) {
  most_entries_ = most_entries;
  most_bytes_ = most_bytes;
  shrink();
}

}  // namespace postrider::dns
