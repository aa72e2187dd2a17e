#include "queue/store/pause_set.h"

#include "base/text.h"

#include <algorithm>

namespace postrider::queue {

namespace {

constexpr std::size_t kMostPauseName = 320;

}  // namespace

std::optional<std::string> canonical_name(Pause::Of of, std::string_view name) {
  if (of == Pause::Of::all)
    return std::string();
  if (name.size() > kMostPauseName)
    return std::nullopt;
  if (of == Pause::Of::sender) {
    if (name.empty() || name == "<>")
      return std::string("<>");
    if (name.starts_with('@'))
      return "@" + mail::domain_of(name);
    return ascii_lower(name);
  }
  auto domain = mail::domain_of("@" + std::string(name));
  return domain.empty() ? std::nullopt : std::optional(std::move(domain));
}

void PauseSet::set(PauseRow row) {
  switch (row.of) {
    case Pause::Of::all:
      all_ = std::move(row);
      return;
    case Pause::Of::domain:
      domains_.insert_or_assign(row.name, row);
      return;
    case Pause::Of::sender:
      senders_.insert_or_assign(row.name, row);
      return;
  }
}

bool PauseSet::remove(Pause::Of of, std::string_view name) {
  if (of == Pause::Of::all)
    return std::exchange(all_, std::nullopt).has_value();
  auto& rows = of == Pause::Of::domain ? domains_ : senders_;
  const auto found = rows.find(name);
  if (found == rows.end())
    return false;
  rows.erase(found);
  return true;
}

void PauseSet::clear() {
  all_.reset();
  domains_.clear();
  senders_.clear();
}

bool PauseSet::contains(Pause::Of of, std::string_view name) const {
  if (of == Pause::Of::all)
    return has_all();
  return (of == Pause::Of::domain ? domains_ : senders_).contains(name);
}

std::vector<PauseRow> PauseSet::rows() const {
  std::vector<PauseRow> rows;
  if (all_)
    rows.push_back(*all_);
  for (const auto* part : {&domains_, &senders_})
    for (const auto& [name, row] : *part)
      rows.push_back(row);
  return rows;
}

std::int64_t PauseSet::next_end() const {
  auto next = all_ ? all_->until : kNever;
  for (const auto* part : {&domains_, &senders_})
    for (const auto& [name, row] : *part)
      next = std::min(next, row.until);
  return next;
}

const PauseRow* PauseSet::of_domain(std::string_view domain) const {
  const auto found = domains_.find(domain);
  return found == domains_.end() ? nullptr : &found->second;
}

const PauseRow* PauseSet::of_sender(std::string_view sender) const {
  if (senders_.empty())
    return nullptr;
  if (sender.empty())
    sender = "<>";
  auto found = senders_.find(ascii_lower(sender));
  if (found == senders_.end())
    found = senders_.find("@" + mail::domain_of(sender));
  return found == senders_.end() ? nullptr : &found->second;
}

const PauseRow* PauseSet::find(std::string_view sender, std::string_view domain) const {
  if (all_)
    return &*all_;
  const auto* of_its_domain = of_domain(domain);
  return of_its_domain != nullptr ? of_its_domain : of_sender(sender);
}

std::vector<const PauseRow*> PauseSet::all_of(std::string_view sender,
                                              std::string_view domain) const {
  std::vector<const PauseRow*> found;
  const auto add = [&](const Rows& rows, const std::string& name) {
    if (const auto at = rows.find(name); at != rows.end())
      found.push_back(&at->second);
  };
  if (all_)
    found.push_back(&*all_);
  add(domains_, std::string(domain));
  add(senders_, sender.empty() ? "<>" : ascii_lower(sender));
  if (!sender.empty())
    add(senders_, "@" + mail::domain_of(sender));
  return found;
}

void Changed::add_pause(const Pause& pause) {
  const bool is_known = std::any_of(pauses.begin(), pauses.end(), [&](const Pause& one) {
    return one.of == pause.of && one.name == pause.name;
  });
  if (!is_known && pauses.size() < kMostPauses)
    pauses.push_back(pause);
}

bool PauseSet::concerns(const mail::Message& message) const {
  if (is_empty())
    return false;
  if (has_all() || of_sender(message.envelope.sender) != nullptr)
    return true;
  const auto& recipients = message.envelope.recipients;
  return has_domains() &&
         std::any_of(recipients.begin(), recipients.end(), [this](const auto& recipient) {
           return of_domain(mail::domain_of(recipient.address)) != nullptr;
         });
}

bool concerns(const Pause& pause, std::string_view sender, std::string_view domain) {
  PauseSet one;
  PauseRow row;
  row.of = pause.of;
  row.name = pause.name;
  one.set(std::move(row));
  return one.find(sender, domain) != nullptr;
}

std::string describe(const PauseRow& pause) {
  std::string text = pause.of == Pause::Of::all      ? "all mail"
                     : pause.of == Pause::Of::domain ? "mail to " + pause.name
                                                     : "mail from " + pause.name;
  text.append(" is paused");
  if (!pause.user.empty())
    text.append(" by ").append(pause.user);
  return text;
}

}  // namespace postrider::queue
