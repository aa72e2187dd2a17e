#include "delivery/evidence.h"

#include "base/text.h"

#include <algorithm>
#include <functional>
#include <string>

namespace postrider::delivery {

namespace {

constexpr auto kKept = std::chrono::hours(1);
constexpr std::size_t kMostKept = 200;  // senders, and mailboxes

std::uint64_t key_of(std::string_view text) {
  return std::hash<std::string>()(ascii_lower(text));
}

// One who uses extensions is one sender. So is a domain whose senders are made for each message
// ("list-u=far.example@src.example", "prvs=tag=u@src.example").
std::uint64_t key_of_sender(std::string_view sender) {
  const auto at = std::min(sender.rfind('@'), sender.size());
  const auto local_part = sender.substr(0, at);
  std::string who(sender.substr(at));
  if (local_part.find('=') == local_part.npos)
    who.insert(0, local_part.substr(0, std::max<std::size_t>(local_part.find('+'), 1)));
  return key_of(who);
}

}  // namespace

Evidence::Word* Evidence::find(Words& words, std::uint64_t key) {
  const auto found = words.find(key);
  return found == words.end() ? nullptr : &found->second;
}

void Evidence::note(Words& words, std::uint64_t key, bool is_refused, SteadyTime now) {
  if (words.size() >= kMostKept && !words.contains(key))
    words.erase(std::min_element(words.begin(), words.end(), [](const auto& a, const auto& b) {
      return a.second.at < b.second.at;
    }));
  words[key] = {is_refused, now};
}

std::size_t Evidence::refused(const Words& words) {
  return static_cast<std::size_t>(std::count_if(
      words.begin(), words.end(), [](const auto& entry) { return entry.second.is_refused; }));
}

void Evidence::forget_old(SteadyTime now) {
  const auto is_old = [&](const auto& entry) { return now - entry.second.at > kKept; };
  std::erase_if(senders_, is_old);
  std::erase_if(mailboxes_, is_old);
}

bool Evidence::is_enough() const {
  const auto senders = refused(senders_);
  return senders >= kSeveral && senders >= senders_.size() - senders &&
         refused(mailboxes_) >= kSeveral;
}

Evidence::Scope Evidence::on_refused(std::string_view sender, std::string_view mailbox,
                                     SteadyTime now) {
  forget_old(now);
  const auto who = key_of_sender(sender);
  // No mailbox can be the reason where none was named: it stands for the mailbox.
  const auto where = mailbox.empty() ? who : key_of(mailbox);
  const auto is_new = [](const Word* word) { return word == nullptr || !word->is_refused; };
  const bool is_news = is_new(find(senders_, who)) && is_new(find(mailboxes_, where));
  note(senders_, who, true, now);
  note(mailboxes_, where, true, now);
  is_of_site_ = is_of_site_ || is_enough();
  if (is_of_site_) {
    known_until_ = now + kKept;
    return Scope::site;
  }
  return is_news && now < known_until_ ? Scope::more : Scope::one;
}

void Evidence::on_taken(std::string_view sender, std::string_view mailbox, SteadyTime now) {
  is_of_site_ = false;
  if (senders_.empty())
    return;  // nothing was refused
  const auto who = key_of_sender(sender);
  note(senders_, who, false, now);
  note(mailboxes_, key_of(mailbox), false, now);
  if (auto* word = find(mailboxes_, who))
    word->is_refused = false;
}

}  // namespace postrider::delivery
