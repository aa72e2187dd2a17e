// What lookups found, until it expires. Bounded in entries and bytes; the least recently used goes
// first. Pure: time comes in as an argument. Not thread-safe.
#pragma once

#include "base/time.h"
#include "dns/answer.h"

#include <cstddef>
#include <list>
#include <memory>
#include <string>
#include <unordered_map>

namespace postrider::dns {

// The end of a lookup, shared by all who asked.
struct Found {
  Status status = Status::temporary_failure;
  Records records;
  bool secure = false;
  std::string canonical_name;
  std::string reason;
  SteadyTime expires;
};

std::string cache_key(const Question& question);

class Cache {
 public:
  Cache(std::size_t most_entries, std::size_t most_bytes)
      : most_entries_(most_entries), most_bytes_(most_bytes) {}

  // Null if there is none or it has expired.
  std::shared_ptr<const Found> find(const std::string& key, SteadyTime now);
  // Replaces what was there. Not kept if it has expired or is larger than the whole cache may be.
  void put(std::string key, std::shared_ptr<const Found> found, SteadyTime now);
  void clear();
  void resize(std::size_t most_entries, std::size_t most_bytes);

  std::size_t entries() const { return entries_.size(); }
  std::size_t bytes() const { return bytes_; }

 private:
  struct Entry {
    std::string key;
    std::shared_ptr<const Found> found;
    std::size_t bytes = 0;
  };
  void erase(std::list<Entry>::iterator entry);
  void shrink();

  std::size_t most_entries_;
  std::size_t most_bytes_;
  std::size_t bytes_ = 0;
  std::list<Entry> entries_;  // the most recently used first
  std::unordered_map<std::string_view, std::list<Entry>::iterator> index_;  // views of Entry::key
};

}  // namespace postrider::dns
