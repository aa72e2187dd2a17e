// What administrators paused, in memory: which mail is not handed out. Pure.
#pragma once

#include "mail/message.h"
#include "queue/store/rows.h"

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace postrider::queue {

class PauseSet {
 public:
  // Beyond so many at a time, no more are taken.
  static constexpr std::size_t kMost = 1000;

  void set(PauseRow row);  // which replaces the one of that name
  bool remove(Pause::Of of, std::string_view name);
  void clear();

  bool is_empty() const { return !all_ && domains_.empty() && senders_.empty(); }
  bool has_all() const { return all_.has_value(); }
  bool has_domains() const { return !domains_.empty(); }
  bool has_senders() const { return !senders_.empty(); }
  std::size_t size() const { return (all_ ? 1 : 0) + domains_.size() + senders_.size(); }
  bool contains(Pause::Of of, std::string_view name) const;
  std::vector<PauseRow> rows() const;
  std::int64_t next_end() const;  // kNever: none ends by itself

  const PauseRow* of_domain(std::string_view domain) const;
  const PauseRow* of_sender(std::string_view sender) const;  // of an envelope
  // What keeps such a recipient from being tried; null: nothing does.
  const PauseRow* find(std::string_view sender, std::string_view domain) const;
  // All that keep it.
  std::vector<const PauseRow*> all_of(std::string_view sender, std::string_view domain) const;
  // Whether any recipient is kept from being tried.
  bool concerns(const mail::Message& message) const;

 private:
  using Rows = std::map<std::string, PauseRow, std::less<>>;
  std::optional<PauseRow> all_;
  Rows domains_, senders_;
};

// "mail to example.org is paused by ann", for people.
std::string describe(const PauseRow& pause);

}  // namespace postrider::queue
