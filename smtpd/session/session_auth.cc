// AUTH (RFC 4954) and what follows from it for MAIL and RCPT.
#include "base/assert.h"
#include "base/text.h"
#include "mail/address.h"
#include "mail/header.h"
#include "mail/rewrite.h"
#include "smtpd/auth/auth_exchange.h"
#include "smtpd/auth/authenticator.h"
#include "smtpd/session/replies.h"
#include "smtpd/session/session.h"

#include <algorithm>

namespace postrider::smtpd {

namespace {

// attacks.md X12: never a fifth try in one session.
constexpr std::uint32_t kMostAuthFailures = 3;

}  // namespace

auth::Authenticator* Session::gate() const {
  return role_ == Role::submission ? policy_->settings().auth.get() : nullptr;
}

std::uint32_t Session::line_limit() const {
  const auto usual = policy_->limits().command_length;
  if (gate() == nullptr || !client_.authenticated.empty())
    return usual;
  return std::max<std::uint32_t>(usual, auth::AuthExchange::kMostLine);
}

// "250-AUTH PLAIN LOGIN" in its place before the last line; nothing where it is not offered.
std::string_view Session::with_auth(const std::string& ehlo_reply) {
  const auto* asked = gate();
  const auto names = asked != nullptr && client_.authenticated.empty() ? asked->offered(channel_)
                                                                       : std::vector<std::string>();
  if (names.empty())
    return ehlo_reply;
  std::string line = "250-AUTH";
  for (const auto& name : names)
    line.append(" ").append(name);
  scratch_ = ehlo_reply;
  scratch_.insert(scratch_.rfind("250 "), line.append("\r\n"));
  return scratch_;
}

Session::Step Session::on_auth(std::string_view arguments) {
  auto* asked = gate();
  if (asked == nullptr)
    return {replies::kNotOffered};
  if (state_ != State::ready || !extended_)
    return {"503 5.5.1 After EHLO, and not within a transaction\r\n"};
  if (!client_.authenticated.empty())
    return {"503 5.5.1 Already authenticated\r\n"};
  if (!channel_.is_private)
    return {replies::kEncryptionNeeded};
  const auto space = arguments.find(' ');
  const auto name = arguments.substr(0, space);
  const auto names = asked->offered(channel_);
  const auto found = std::find_if(names.begin(), names.end(), [&](const std::string& offered) {
    return equals_ignoring_case(offered, name);
  });
  if (name.empty())
    return {replies::kArgumentNeeded};
  if (found == names.end())
    return {"504 5.5.4 Mechanism not offered\r\n"};
  auth_mechanism_ = *found;
  dialogue_ = std::make_unique<auth::AuthExchange>(asked->make(*found, channel_));
  std::optional<std::string_view> initial;
  if (space != std::string_view::npos)
    initial = trim(arguments.substr(space));
  return on_auth_step(dialogue_->begin(initial));
}

// The client's answer to 334. Nothing may come behind it: it has not seen what we say to it.
Session::Step Session::on_auth_line(std::string_view line, bool more_follows) {
  if (conditions_.stopping) {
    dialogue_.reset();
    return {replies::kStopping, Next::hang_up};
  }
  if (more_follows) {
    dialogue_.reset();
    return judged({replies::kOutOfStep, Next::hang_up}, "AUTH", {});
  }
  const Step step = on_auth_step(dialogue_->on_line(line));
  return step.next == Next::ask ? step : judged(step, "AUTH", {});
}

Session::Step Session::on_answer(const auth::Answer& answer) {
  POSTRIDER_ASSERT(dialogue_ != nullptr);
  return judged(on_auth_step(dialogue_->on_answer(answer)), "AUTH", {});
}

const auth::Question& Session::question() const {
  POSTRIDER_ASSERT(dialogue_ != nullptr);
  return dialogue_->question();
}

Session::Step Session::on_auth_step(auth::AuthExchange::Step step) {
  using Kind = auth::AuthExchange::Kind;
  if (step.kind == Kind::ask)
    return {{}, Next::ask};
  scratch_ = std::move(step.reply);
  if (step.kind == Kind::reply)
    return {scratch_};
  const auto ended = std::exchange(dialogue_, nullptr);
  if (step.kind == Kind::passed) {
    client_.authenticated = ended->user();
    client_.mechanism = auth_mechanism_;
  }
  auth_reported_ = step.kind != Kind::passed;
  if (observer_ != nullptr)
    observer_->authenticated(
        {auth_mechanism_, ended->claimed(), scratch_, step.kind == Kind::passed});
  if (step.kind == Kind::failed && ++auth_failures_ >= kMostAuthFailures)
    return {replies::kTooManyAuthFailures, Next::hang_up};
  return {scratch_};
}

// Whether this client may begin a message; the refusal, or nothing.
std::string_view Session::submission_refusal(std::string_view sender) {
  if (role_ != Role::submission)
    return {};
  auto* asked = gate();
  if (client_.authenticated.empty())
    return asked != nullptr || !client_.trusted ? replies::kAuthenticationNeeded
                                                : std::string_view();
  if (asked == nullptr)  // it was there when they logged in
    return {};
  return asked->may_send_as(client_.authenticated, sender) ? std::string_view()
                                                           : replies::kNotYourAddress;
}

bool Session::checks_authors() const {
  return role_ == Role::submission && policy_->settings().check_from &&
         !client_.authenticated.empty() && gate() != nullptr;
}

namespace {

using Places = std::vector<std::pair<std::size_t, std::size_t>>;

// Each item of the list has one address, at one of these places, and nothing that a reader may take
// for one more: an "@" outside of quoted words, words and comments without an end, an item of a
// name alone, which readers complete, or a "\" outside of both, which not all readers take for one
// letter.
bool are_all_addresses(std::string_view value, const Places& places) {
  bool quoted = false;
  std::size_t depth = 0;  // of comments
  std::size_t addresses = 0;
  bool is_blank = true;  // of this item so far
  auto place = places.begin();
  for (std::size_t at = 0; at < value.size(); ++at) {
    if (place != places.end() && at == place->first) {
      at += (place++)->second - 1;
      ++addresses;
      continue;
    }
    const char c = value[at];
    if (c == '\\') {
      if (!quoted && depth == 0)
        return false;
      ++at;
    } else if (c == '"' && depth == 0) {
      quoted = !quoted;
      is_blank = false;
    } else if (quoted) {
      continue;
    } else if (c == '(') {
      ++depth;
    } else if (depth > 0) {
      depth -= c == ')' ? 1U : 0U;
    } else if (c == '@') {
      return false;
    } else if (c == ',' || c == ';') {
      if (addresses != 1 && !(addresses == 0 && is_blank))
        return false;
      addresses = 0;
      is_blank = true;
    } else if (c == ':' && addresses == 0) {
      is_blank = true;  // behind the name of a group
    } else if (c != ' ' && c != '\t' && c != '\r' && c != '\n') {
      is_blank = false;
    }
  }
  return !quoted && depth == 0 && (addresses == 1 || (addresses == 0 && is_blank));
}

// Readers see the fields that we see: no line ends at a CR alone, and names are of printable ASCII.
bool has_plain_lines(std::string_view header_section) {
  for (auto at = header_section.find('\r'); at != header_section.npos;
       at = header_section.find('\r', at + 1))
    if (at + 1 < header_section.size() && header_section[at + 1] != '\n')
      return false;
  return true;
}

bool is_plain_name(std::string_view name) {
  return std::all_of(name.begin(), name.end(), [](char c) { return c >= ' ' && c <= '~'; });
}

}  // namespace

// A field of that name without an address that can be read says something all the same to whoever
// reads the mail.
bool Session::may_write_as(std::string_view header_section) const {
  const auto* asked = gate();
  if (!has_plain_lines(header_section))
    return false;
  mail::HeaderScanner scanner(header_section);
  mail::HeaderField field;
  while (scanner.next(field)) {
    if (!is_plain_name(field.name))
      return false;
    if (!equals_ignoring_case(field.name, "From") && !equals_ignoring_case(field.name, "Sender"))
      continue;
    const auto places = mail::address_places(field.value);
    if (places.empty() || !are_all_addresses(field.value, places))
      return false;
    for (const auto& [at, size] : places) {
      const auto address = mail::parse_mailbox(field.value.substr(at, size), true);
      if (!address || !asked->may_send_as(client_.authenticated, *address))
        return false;
    }
  }
  return true;
}

// One more of this user's; the refusal, or nothing. Users of this machine have the same limits here
// as by sendmail, in the same counts.
std::string_view Session::count_message() {
  if (auto* asked = gate(); asked != nullptr && !client_.authenticated.empty())
    return limit_refusal(asked->begin_message(client_.authenticated));
  auto* counter = policy_->settings().local_counter;
  if (counter == nullptr || !client_.local_user || !client_.authenticated.empty())
    return {};
  return limit_refusal(counter->begin_message(*client_.local_user));
}

std::string_view Session::recipient_refusal(std::string_view recipient) {
  auto* counter = policy_->settings().local_counter;
  if (counter != nullptr && client_.local_user && client_.authenticated.empty())
    return limit_refusal(counter->add_recipient(*client_.local_user));
  auto* asked = gate();
  if (asked == nullptr || client_.authenticated.empty())
    return {};
  return limit_refusal(asked->add_recipient(client_.authenticated, recipient));
}

std::string_view Session::limit_refusal(std::string_view limit) {
  if (limit.empty())
    return {};
  scratch_.assign("450 4.7.1 You have reached your limit of ").append(limit);
  scratch_.append(", try again later\r\n");
  return scratch_;
}

}  // namespace postrider::smtpd
