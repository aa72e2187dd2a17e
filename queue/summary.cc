#include "queue/summary.h"

#include "base/text.h"

#include <algorithm>

namespace postrider::queue {

namespace {

constexpr struct {
  std::string_view word;
  SummaryKey key;
} kSummaryKeys[] = {{"domain", SummaryKey::domain}, {"site", SummaryKey::site},
                    {"sender", SummaryKey::sender}, {"client", SummaryKey::client},
                    {"reason", SummaryKey::reason}, {"age", SummaryKey::age}};

constexpr std::size_t kMostPatternRead = 2000;
constexpr std::size_t kMostPatternMade = 300;
constexpr std::size_t kShortestId = 8;

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

bool is_letter(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

// What ends a word of a reason; a full stop or a colon may stand in it.
bool is_between_words(char c) {
  constexpr std::string_view kBetween = " \t\r\n()<>[]{},;\"'`=|!?";
  return kBetween.find(c) != std::string_view::npos;
}

std::size_t count_of(std::string_view word, char wanted) {
  return static_cast<std::size_t>(std::count(word.begin(), word.end(), wanted));
}

bool is_reply_code(std::string_view word) {
  return word.size() == 3 && word[0] >= '2' && word[0] <= '5' && is_digit(word[1]) &&
         is_digit(word[2]);
}

// RFC 3463: "5.1.1".
bool is_enhanced_code(std::string_view word) {
  return word.size() >= 5 && word[1] == '.' && word[0] >= '2' && word[0] <= '5' &&
         word.size() <= 9 && count_of(word, '.') == 2 && word.back() != '.' &&
         std::all_of(word.begin(), word.end(), [](char c) { return is_digit(c) || c == '.'; });
}

bool is_ip_address(std::string_view word) {
  const auto is_of = [word](std::string_view letters) {
    return word.find_first_not_of(letters) == std::string_view::npos;
  };
  if (count_of(word, '.') == 3 && is_of("0123456789.:"))  // perhaps with a port
    return true;
  return count_of(word, ':') >= 2 && is_of("0123456789abcdefABCDEF:.");
}

// Letters and digits mixed, as queue ids and transaction ids are.
bool is_id(std::string_view word) {
  return word.size() >= kShortestId && word.find('.') == std::string_view::npos &&
         std::any_of(word.begin(), word.end(), is_digit) &&
         std::any_of(word.begin(), word.end(), is_letter);
}

void append_without_numbers(std::string_view word, std::string& out) {
  for (std::size_t i = 0; i < word.size(); ++i) {
    if (!is_digit(word[i]))
      out.push_back(word[i]);
    else if (i == 0 || !is_digit(word[i - 1]))
      out.push_back('#');
  }
}

// is_first: a reply may begin here, and so a code is one.
void append_pattern(std::string_view word, bool is_first, std::string& out) {
  std::string_view end;
  if (const auto last = word.find_last_not_of(".:"); last != std::string_view::npos) {
    end = word.substr(last + 1);
    word = word.substr(0, last + 1);
  }
  if (word.find('@') != std::string_view::npos)
    out.append("address");
  else if (is_ip_address(word))
    out.append("ip");
  else if ((is_first && is_reply_code(word)) || is_enhanced_code(word))
    out.append(word);
  else if (is_id(word))
    out.append("id");
  else
    append_without_numbers(word, out);
  out.append(end);
}

}  // namespace

std::optional<SummaryKey> parse_summary_key(std::string_view word) {
  for (const auto& row : kSummaryKeys)
    if (row.word == word)
      return row.key;
  return std::nullopt;
}

const char* name_of(SummaryKey key) {
  for (const auto& row : kSummaryKeys)
    if (row.key == key)
      return row.word.data();
  return "";
}

std::string reason_pattern(std::string_view reason) {
  reason = reason.substr(0, kMostPatternRead);
  std::string out;
  bool is_first = true;
  while (!reason.empty()) {
    const auto end = std::find_if(reason.begin(), reason.end(), is_between_words);
    const auto word = reason.substr(0, static_cast<std::size_t>(end - reason.begin()));
    if (!word.empty()) {
      append_pattern(word, is_first, out);
      is_first = word.ends_with(':');
    }
    reason.remove_prefix(word.size());
    if (reason.empty())
      break;
    const char between = reason.front() == ' ' || is_digit(reason.front()) ? ' ' : reason.front();
    if (between != ' ' || !out.ends_with(' '))
      out.push_back(between);
    reason.remove_prefix(1);
  }
  out.resize(std::min(out.size(), kMostPatternMade));
  return out;
}

std::size_t Summary::age_of(std::int64_t minutes) {
  const auto limit = std::upper_bound(kAgeLimits.begin(), kAgeLimits.end(), minutes);
  return static_cast<std::size_t>(limit - kAgeLimits.begin());
}

void Summary::add(const Item& item) {
  const auto age =
      age_of(std::chrono::duration_cast<std::chrono::minutes>(now_ - item.received).count());
  count(total_, item, age);
  switch (by_) {
    case SummaryKey::domain:
    case SummaryKey::age:
      return count(group_of(item.domain), item, age);
    case SummaryKey::site:
      return count(group_of(item.site), item, age);
    case SummaryKey::sender:
      return count(group_of(item.sender), item, age);
    case SummaryKey::client:
      return count(group_of(item.client), item, age);
    case SummaryKey::reason:
      return count(group_of(item.reason), item, age);
  }
}

Summary::Group& Summary::group_of(std::string_view key) {
  if (last_ != nullptr && last_->key == key)
    return *last_;
  const auto known = groups_.find(key);
  if (known != groups_.end())
    return *(last_ = &known->second);
  if (groups_.size() >= kMostGroups)
    return others_;
  auto& made = groups_[std::string(key)];
  made.key = key;
  return *(last_ = &made);
}

void Summary::count(Group& group, const Item& item, std::size_t age) {
  ++group.recipients;
  ++group.ages[age];
  if (group.messages > 0 && group.latest == item.message)
    return;
  group.latest = item.message;
  ++group.messages;
  group.bytes += item.size;
  group.oldest = std::min(group.oldest, item.received);
}

std::vector<const Summary::Group*> Summary::largest(std::size_t most) const {
  std::vector<const Group*> found;
  found.reserve(groups_.size());
  for (const auto& [key, group] : groups_)
    found.push_back(&group);
  const auto end = found.begin() + static_cast<std::ptrdiff_t>(std::min(most, found.size()));
  std::partial_sort(found.begin(), end, found.end(), [](const Group* a, const Group* b) {
    return a->recipients != b->recipients ? a->recipients > b->recipients : a->key < b->key;
  });
  found.erase(end, found.end());
  return found;
}

}  // namespace postrider::queue
