#include "delivery/scheduler/reply_class.h"

#include <algorithm>
#include <charconv>
#include <optional>
#include <string>

namespace postrider::scheduler {

namespace {

using mail::Stage;

// The next piece of a list, which is cut from it.
std::string_view next_piece(std::string_view& list, char separator) {
  const auto end = std::min(list.find(separator), list.size());
  const auto piece = list.substr(0, end);
  list.remove_prefix(std::min(end + 1, list.size()));
  return piece;
}

unsigned number_at(std::string_view& text) {
  unsigned value = 0;
  const auto done = std::from_chars(text.data(), text.data() + text.size(), value);
  text.remove_prefix(static_cast<std::size_t>(done.ptr - text.data()));
  return value;
}

std::string lower_joined(std::string_view text) {
  std::string lower(text);
  for (char& c : lower)
    c = c == '\n' ? ' ' : (c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c);
  return lower;
}

bool has_code(std::string_view codes, int code) {
  while (!codes.empty()) {
    const auto piece = next_piece(codes, ' ');
    if (piece.size() == 3 && piece[0] - '0' == code / 100 &&
        (piece.substr(1) == "xx" ||
         (piece[1] - '0' == code / 10 % 10 && piece[2] - '0' == code % 10)))
      return true;
  }
  return false;
}

bool is_code(std::string_view pattern, mail::EnhancedCode code) {
  if (pattern[0] != 'x' && pattern[0] - '0' != code.klass)
    return false;
  pattern.remove_prefix(2);
  if (number_at(pattern) != code.subject)
    return false;
  pattern.remove_prefix(1);
  const unsigned first = number_at(pattern);
  unsigned last = first;
  if (!pattern.empty()) {
    pattern.remove_prefix(1);  // "500-699"
    last = number_at(pattern);
  }
  return code.detail >= first && code.detail <= last;
}

bool has_enhanced(std::string_view list, mail::EnhancedCode code) {
  while (!list.empty())
    if (is_code(next_piece(list, ' '), code))
      return true;
  return false;
}

// How many bytes of the text the pattern names; 0: it is not there.
std::size_t matched(std::string_view pattern, std::string_view text) {
  std::size_t length = 0;
  while (!pattern.empty()) {
    const auto piece = next_piece(pattern, '*');
    const auto at = text.find(piece);
    if (at == std::string_view::npos)
      return 0;
    text.remove_prefix(at + piece.size());
    length += piece.size();
  }
  return length;
}

std::size_t best_match(std::string_view patterns, std::string_view text) {
  std::size_t best = 0;
  while (!patterns.empty())
    best = std::max(best, matched(next_piece(patterns, '|'), text));
  return best;
}

bool is_host(std::string_view suffixes, std::string_view host) {
  while (!suffixes.empty()) {
    const auto suffix = next_piece(suffixes, '|');
    if (host.ends_with(suffix) &&
        (host.size() == suffix.size() || host[host.size() - suffix.size() - 1] == '.'))
      return true;
  }
  return false;
}

constexpr std::string_view kCommon = "common";  // wordings of no one in particular
constexpr std::size_t kAboveCommon = 10000;

struct Heard {
  Stage stage;
  int code;
  mail::EnhancedCode enhanced;
  std::string text;
  std::string host;
};

bool is_before_mail(Stage stage) {
  return stage < Stage::mail;
}

// How well a row describes the reply: by host, then enhanced code, then length of the text; 0: not.
std::size_t score(const ReplyRow& row, const Heard& heard) {
  if (!has_code(row.codes, heard.code) || (!row.host.empty() && !is_host(row.host, heard.host)))
    return 0;
  const bool names_stage = (" " + std::string(row.what) + " ").find(" g ") != std::string::npos;
  if (names_stage && !is_before_mail(heard.stage))
    return 0;
  const bool has_codes = !row.enhanced.empty() && heard.enhanced;
  if (has_codes && !has_enhanced(row.enhanced, heard.enhanced))
    return 0;
  const auto length = best_match(row.text, heard.text);
  if (length == 0)
    return 0;
  if (row.who == kCommon)
    return length;
  return kAboveCommon + 2 * length + (row.enhanced.empty() ? 1 : 0) + (has_codes ? 200 : 0) +
         (row.host.empty() ? 0 : 2000) + (names_stage ? 100 : 0);
}

Duration duration_at(std::string_view& text) {
  const auto count = std::chrono::seconds(number_at(text));
  if (text.empty())
    return count;
  const char unit = text[0];
  text.remove_prefix(1);
  return count * (unit == 'm' ? 60 : unit == 'h' ? 3600 : unit == 'd' ? 86400 : 1);
}

void add_suspension(ReplyMeaning& meaning, std::string_view word) {
  meaning.suspend = duration_at(word);
  if (word.starts_with('/')) {
    word.remove_prefix(1);
    meaning.suspend_after = number_at(word);
  }
}

void add_bounce(ReplyMeaning& meaning, std::string_view word) {
  if (word.empty())
    meaning.bounce = true;
  else if (word.back() == 'd' || word.back() == 'h')
    meaning.give_up_after = duration_at(word);
  else
    meaning.most_tries = number_at(word);
}

void add_word(ReplyMeaning& meaning, std::string_view word) {
  const char kind = word[0];
  word.remove_prefix(1);
  switch (kind) {
    case 'm':
      meaning.wait = duration_at(word);
      break;
    case 'R':
      meaning.limits_rate = true;
      meaning.rate_per_minute = number_at(word);
      break;
    case 'W':
      meaning.limits_connections = true;
      break;
    case 'S':
      add_suspension(meaning, word);
      break;
    case 'F':
      meaning.try_other_host = true;
      meaning.try_other_family = word == "4";
      break;
    case 'N':
      meaning.new_connection = true;
      break;
    case '!':
      meaning.alarm = true;
      break;
    case 'b':
      add_bounce(meaning, word);
      break;
    case 'k':
      meaning.kept = true;
      meaning.most_tries = number_at(word);
      break;
    default:  // g: a condition
      break;
  }
}

ReplyMeaning meaning_of(const ReplyRow& row, bool is_permanent) {
  ReplyMeaning meaning;
  meaning.klass = row.klass;
  meaning.who = row.who;
  for (auto words = row.what; !words.empty();)
    add_word(meaning, next_piece(words, ' '));
  if (!is_permanent) {
    meaning.bounce = false;
    if (meaning.kept)
      meaning.most_tries = 0;
    meaning.kept = false;
  }
  return meaning;
}

std::optional<ReplyMeaning> by_table(const Heard& heard) {
  const ReplyRow* best = nullptr;
  std::size_t best_score = 0;
  for (const ReplyRow& row : reply_rows())
    if (const auto found = score(row, heard); found > best_score) {
      best = &row;
      best_score = found;
    }
  if (!best)
    return std::nullopt;
  return meaning_of(*best, heard.code >= 500);
}

ReplyMeaning plain(ReplyClass klass, std::string_view who) {
  ReplyMeaning meaning;
  meaning.klass = klass;
  meaning.who = who;
  meaning.limits_rate = klass == ReplyClass::rate;
  meaning.limits_connections = klass == ReplyClass::connections;
  meaning.new_connection = klass == ReplyClass::session_spent || klass == ReplyClass::recipients;
  return meaning;
}

// X.7.Z of RFC 3463, 7372, 7505, 8461 and the registry.
std::optional<ReplyClass> security_class(unsigned detail) {
  switch (detail) {
    case 10:
    case 11:
      return ReplyClass::tls;
    case 20:
    case 21:
    case 22:
    case 23:
    case 24:
    case 26:
    case 27:
    case 30:
      return ReplyClass::authentication;
    case 25:
      return ReplyClass::dns;
    case 28:
      return ReplyClass::rate;
    case 1:
      return std::nullopt;  // whatever the server had no better code for
    default:
      return ReplyClass::policy;
  }
}

std::optional<ReplyClass> system_class(const mail::EnhancedCode code) {
  if (code.detail == 4)
    return ReplyClass::too_big;
  if (code.detail == 1 || code.detail == 2)
    return ReplyClass::busy;
  return std::nullopt;
}

std::optional<ReplyClass> mailbox_class(const mail::EnhancedCode code) {
  switch (code.detail) {
    case 1:
      return ReplyClass::no_mailbox;
    case 2:
      return ReplyClass::mailbox_full;
    case 3:
      return ReplyClass::too_big;
    default:
      return std::nullopt;
  }
}

std::optional<ReplyClass> network_class(const mail::EnhancedCode code) {
  if (code.detail == 3 || code.detail == 4)
    return ReplyClass::dns;
  if (code.detail == 5)
    return ReplyClass::connections;
  return std::nullopt;
}

std::optional<ReplyClass> by_enhanced(mail::EnhancedCode code) {
  switch (code.subject) {
    case 1:
      return code.detail == 8 ? ReplyClass::dns : ReplyClass::no_mailbox;
    case 2:
      return mailbox_class(code);
    case 3:
      return system_class(code);
    case 4:
      return network_class(code);
    case 5:
      return code.detail == 3 ? ReplyClass::recipients : ReplyClass::protocol;
    case 6:
      return ReplyClass::policy;
    case 7:
      return security_class(code.detail);
    default:
      return std::nullopt;
  }
}

ReplyClass by_code(const Heard& heard, bool is_first_try) {
  switch (heard.code) {
    case 450:
      // "mailbox unavailable" (RFC 5321 section 4.2.3): what greylisting and policy services say. A
      // full mailbox is a 452.
      return is_first_try && heard.stage == Stage::rcpt ? ReplyClass::greylisted
                                                        : ReplyClass::policy;
    case 451:
      // 4.7.1 without a word that is known
      return heard.enhanced.subject == 7
                 ? (is_first_try ? ReplyClass::greylisted : ReplyClass::policy)
                 : ReplyClass::busy;
    case 452:
    case 552:
      return ReplyClass::mailbox_full;
    case 454:
      return ReplyClass::tls;
    default:
      return heard.code >= 500 || heard.enhanced.subject == 7 ? ReplyClass::policy
                                                              : ReplyClass::busy;
  }
}

// By a code of ours: trouble on this machine.
ReplyClass local_class(mail::EnhancedCode status) {
  constexpr std::pair<unsigned, unsigned> kOfSetup[] = {{3, 5}, {4, 6}, {5, 3}};
  if (std::find(std::begin(kOfSetup), std::end(kOfSetup),
                std::pair<unsigned, unsigned>(status.subject, status.detail)) != std::end(kOfSetup))
    return ReplyClass::our_fault;
  if (status.subject == 4)
    return ReplyClass::busy;
  return by_enhanced(status).value_or(ReplyClass::busy);
}

// A refusal before MAIL is of us or of the host: no message bounces by it.
void spare_message(ReplyMeaning& meaning, Stage stage) {
  if (!is_before_mail(stage))
    return;
  meaning.kept = meaning.kept || meaning.bounce;
  meaning.bounce = false;
}

}  // namespace

const char* name(ReplyClass klass) {
  static constexpr const char* kNames[kReplyClasses] = {
      "greylisted",   "rate",       "recipient-rate", "connections", "session-spent",  "recipients",
      "mailbox-full", "no-mailbox", "policy",         "reputation",  "authentication", "dns",
      "network",      "tls",        "busy",           "too-big",     "protocol",       "our-fault"};
  return kNames[static_cast<std::size_t>(klass)];
}

bool is_about_site(ReplyClass klass) {
  switch (klass) {
    case ReplyClass::rate:
    case ReplyClass::connections:
    case ReplyClass::session_spent:
    case ReplyClass::reputation:
    case ReplyClass::network:
    case ReplyClass::busy:
      return true;
    default:
      return false;
  }
}

ReplyMeaning classify(Stage stage, const mail::Reply& reply, std::string_view host,
                      bool is_first_try) {
  Heard heard{stage, reply.code, reply.enhanced, lower_joined(reply.text), lower_joined(host)};
  if (heard.host.ends_with('.'))
    heard.host.pop_back();
  // Where the classes differ the first digit of the reply counts (RFC 2034 section 4).
  if (heard.enhanced && heard.enhanced.klass != reply.code / 100)
    heard.enhanced.klass = static_cast<std::uint8_t>(reply.code / 100);
  auto meaning = by_table(heard);
  if (!meaning && heard.enhanced)
    if (const auto klass = by_enhanced(heard.enhanced))
      meaning = plain(*klass, "enhanced code");
  if (!meaning)
    meaning = plain(by_code(heard, is_first_try), "code");
  if (reply.is_permanent() && !meaning->kept)
    meaning->bounce = true;
  if (reply.is_permanent() && meaning->klass == ReplyClass::recipients)
    meaning->bounce = false;  // 552 5.5.3: RFC 5321 section 4.5.3.1.10
  spare_message(*meaning, stage);
  return *meaning;
}

ReplyMeaning classify_failure(Stage stage, mail::EnhancedCode status) {
  constexpr unsigned kOfSystem = 3;
  const auto klass = stage == Stage::local || status.subject == kOfSystem ? local_class(status)
                     : stage == Stage::route                              ? ReplyClass::dns
                     : stage == Stage::starttls                           ? ReplyClass::tls
                     : stage == Stage::auth                               ? ReplyClass::our_fault
                                                                          : ReplyClass::network;
  return plain(klass, "no reply");
}

}  // namespace postrider::scheduler
