#include "delivery/scheduler/retry_hint.h"

#include <algorithm>
#include <array>
#include <string>
#include <vector>

namespace postrider::scheduler {

namespace {

using std::chrono::hours;
using std::chrono::minutes;
using std::chrono::seconds;

constexpr std::size_t kMostText = 4096;  // a hint behind that is not looked for
constexpr std::uint64_t kMostCount = 10'000'000;
constexpr std::size_t kBeside = 8;  // words between a number and the word of retrying

std::string lower(std::string_view text) {
  std::string result(text.substr(0, kMostText));
  for (char& c : result)
    if (c >= 'A' && c <= 'Z')
      c = static_cast<char>(c + 32);
  return result;
}

// Words without the punctuation around them; "(" and ")" are words of their own.
std::vector<std::string_view> words_of(std::string_view text) {
  constexpr std::string_view kSpace = " \t\r\n";
  constexpr std::string_view kTrim = ".,;!?\"'[]<>";
  std::vector<std::string_view> words;
  std::size_t at = 0;
  while ((at = text.find_first_not_of(kSpace, at)) != std::string_view::npos) {
    auto end = std::min(text.find_first_of(" \t\r\n()", at), text.size());
    if (end == at)
      end = at + 1;  // a parenthesis
    auto word = text.substr(at, end - at);
    at = end;
    while (!word.empty() && kTrim.find(word.back()) != std::string_view::npos)
      word.remove_suffix(1);
    while (!word.empty() && kTrim.find(word.front()) != std::string_view::npos)
      word.remove_prefix(1);
    if (word.ends_with(':'))
      word.remove_suffix(1);
    if (!word.empty())
      words.push_back(word);
  }
  return words;
}

struct Unit {
  std::string_view word;
  seconds length;
};
constexpr std::array kUnits = {
    Unit{"s", seconds(1)},          Unit{"sec", seconds(1)},       Unit{"secs", seconds(1)},
    Unit{"second", seconds(1)},     Unit{"seconds", seconds(1)},   Unit{"second(s", seconds(1)},
    Unit{"m", seconds(60)},         Unit{"min", seconds(60)},      Unit{"mins", seconds(60)},
    Unit{"minute", seconds(60)},    Unit{"minutes", seconds(60)},  Unit{"h", seconds(3600)},
    Unit{"hr", seconds(3600)},      Unit{"hrs", seconds(3600)},    Unit{"hour", seconds(3600)},
    Unit{"hours", seconds(3600)},   Unit{"sekunde", seconds(1)},   Unit{"sekunden", seconds(1)},
    Unit{"minuten", seconds(60)},   Unit{"stunde", seconds(3600)}, Unit{"stunden", seconds(3600)},
    Unit{"seconde", seconds(1)},    Unit{"secondes", seconds(1)},  Unit{"heure", seconds(3600)},
    Unit{"heures", seconds(3600)},  Unit{"segundo", seconds(1)},   Unit{"segundos", seconds(1)},
    Unit{"minuto", seconds(60)},    Unit{"minutos", seconds(60)},  Unit{"hora", seconds(3600)},
    Unit{"horas", seconds(3600)},   Unit{"secondi", seconds(1)},   Unit{"minuti", seconds(60)},
    Unit{"ora", seconds(3600)},     Unit{"ore", seconds(3600)},    Unit{"seconden", seconds(1)},
    Unit{"uur", seconds(3600)},     Unit{"sekund", seconds(1)},    Unit{"sekundy", seconds(1)},
    Unit{"minut", seconds(60)},     Unit{"minuty", seconds(60)},   Unit{"godzin", seconds(3600)},
    Unit{"godziny", seconds(3600)}, Unit{"секунд", seconds(1)},    Unit{"секунды", seconds(1)},
    Unit{"минут", seconds(60)},     Unit{"минуты", seconds(60)},   Unit{"часов", seconds(3600)},
    Unit{"часа", seconds(3600)},    Unit{"秒", seconds(1)},        Unit{"分钟", seconds(60)},
    Unit{"小时", seconds(3600)},
};

std::optional<seconds> unit_of(std::string_view word) {
  for (const Unit& unit : kUnits)
    if (word == unit.word)
      return unit.length;
  return std::nullopt;
}

constexpr std::array<std::string_view, 29> kRetryWords = {
    "retry",     "retrying",   "again",     "wait",      "greylisted", "greylisting",
    "greylist",  "graylisted", "later",     "come",      "back",       "missing",
    "resend",    "reconnect",  "erneut",    "wieder",    "warten",     "nouveau",
    "réessayer", "réessayez",  "intente",   "reintente", "riprovare",  "riprova",
    "opnieuw",   "ponownie",   "повторите", "через",     "重试"};

bool is_retry_word(std::string_view word) {
  return std::find(kRetryWords.begin(), kRetryWords.end(), word) != kRetryWords.end();
}

std::optional<std::uint64_t> count_at(std::string_view& word) {
  std::uint64_t count = 0;
  std::size_t used = 0;
  while (used < word.size() && word[used] >= '0' && word[used] <= '9') {
    count = count * 10 + static_cast<std::uint64_t>(word[used++] - '0');
    if (count > kMostCount)
      return std::nullopt;
  }
  if (used == 0)
    return std::nullopt;
  word.remove_prefix(used);
  return count;
}

std::optional<std::uint64_t> spelled_count(std::string_view word) {
  constexpr std::array<std::string_view, 9> kWords = {"two",   "three", "four", "five", "six",
                                                      "seven", "eight", "nine", "ten"};
  const auto found = std::find(kWords.begin(), kWords.end(), word);
  if (found == kWords.end())
    return std::nullopt;
  return static_cast<std::uint64_t>(found - kWords.begin()) + 2;
}

// "00:04:59"
std::optional<Duration> clock_time(std::string_view word) {
  std::uint64_t parts[3] = {};
  for (int i = 0; i < 3; ++i) {
    const auto part = count_at(word);
    if (!part || (i > 0 && *part > 59))
      return std::nullopt;
    parts[i] = *part;
    if (i < 2 && !word.starts_with(':'))
      return std::nullopt;
    if (i < 2)
      word.remove_prefix(1);
  }
  if (!word.empty() || parts[0] > 1000)
    return std::nullopt;
  return hours(parts[0]) + minutes(parts[1]) + seconds(parts[2]);
}

// "90s", "5min", "1m30s"
std::optional<Duration> glued(std::string_view word) {
  Duration sum{0};
  while (!word.empty()) {
    const auto count = count_at(word);
    if (!count)
      return std::nullopt;
    std::size_t end = 0;
    while (end < word.size() && (word[end] < '0' || word[end] > '9'))
      ++end;
    const auto unit = unit_of(word.substr(0, end));
    if (!unit)
      return std::nullopt;
    sum += *unit * static_cast<std::int64_t>(*count);
    word.remove_prefix(end);
  }
  return sum;
}

class HintFinder {
 public:
  explicit HintFinder(std::string_view text) : words_(words_of(text)) {}

  std::optional<Duration> find() const {
    for (std::size_t i = 0; i < words_.size(); ++i)
      if (const auto hint = hint_at(i); hint && is_beside_retry(i) && !is_quota(i))
        return hint;
    return std::nullopt;
  }

 private:
  std::string_view word(std::size_t i) const {
    return i < words_.size() ? words_[i] : std::string_view{};
  }

  std::optional<Duration> hint_at(std::size_t i) const {
    auto rest = words_[i];
    const auto spelled = spelled_count(rest);
    const auto count = spelled ? spelled : count_at(rest);
    if (!count)
      return std::nullopt;
    if (spelled || rest.empty())
      return plain_count(i, *count);
    if (const auto time = clock_time(words_[i]); time && i > 0 && word(i - 1) == "in")
      return time;
    return glued(words_[i]);
  }

  // "90 seconds"; "retry in 300" at the end of the text.
  std::optional<Duration> plain_count(std::size_t i, std::uint64_t count) const {
    if (const auto unit = unit_of(word(i + 1)))
      return *unit * static_cast<std::int64_t>(count) + more_after(i + 2);
    const bool is_last = i + 1 == words_.size() && i > 1;
    if (is_last && word(i - 1) == "in" && is_retry_word(word(i - 2)))
      return seconds(count);
    return std::nullopt;
  }

  // "4 minutes and 30 seconds"
  Duration more_after(std::size_t i) const {
    if (word(i) == "and")
      ++i;
    auto rest = word(i);
    const auto count = count_at(rest);
    const auto unit = unit_of(word(i + 1));
    return count && rest.empty() && unit ? *unit * static_cast<std::int64_t>(*count) : Duration{0};
  }

  bool is_beside_retry(std::size_t i) const {
    const std::size_t first = i > kBeside ? i - kBeside : 0;
    const std::size_t last = std::min(i + kBeside / 2, words_.size());
    return std::any_of(words_.begin() + static_cast<std::ptrdiff_t>(first),
                       words_.begin() + static_cast<std::ptrdiff_t>(last), is_retry_word);
  }

  // "100 in 60 seconds", "100 messages per 60 seconds", "limit is 5 in the last 10 minutes"
  bool is_quota(std::size_t i) const {
    if (i == 0)
      return false;
    const auto before = word(i - 1);
    if (before == "per" || before == "every" || before == "last" || before == "within" ||
        before == "past" || before == "/")
      return true;
    const std::size_t first = i > 3 ? i - 3 : 0;
    for (std::size_t at = first; before == "in" && at + 1 < i; ++at) {
      auto rest = words_[at];
      if (count_at(rest) && rest.empty())
        return true;
    }
    return false;
  }

  std::vector<std::string_view> words_;
};

}  // namespace

std::optional<Duration> find_hint(std::string_view text) {
  const auto lowered = lower(text);
  const auto hint = HintFinder(lowered).find();
  return hint && *hint > Duration{0} ? hint : std::nullopt;
}

Duration bounded_hint(Duration asked) {
  constexpr Duration kLeast = seconds(30), kMost = hours(1);
  const auto wait = std::clamp(asked, kLeast, kMost);
  return wait + seconds(3) + wait / 100;
}

}  // namespace postrider::scheduler
