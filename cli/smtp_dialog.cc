#include "cli/smtp_dialog.h"

#include "base/text.h"

#include <limits>
#include <sysexits.h>
#include <utility>

namespace postrider::cli {

namespace {

// RFC 5321 §4.5.3.1.4, with room for SMTPUTF8 and DSN parameters.
constexpr std::size_t kMostLine = 2048;

void say(const mail::Reply& reply, std::string& out) {
  out.append(reply.wire());
}

}  // namespace

struct SmtpDialog::Verb {
  std::string_view name;
  void (SmtpDialog::*serve)(std::string_view arguments, std::string& out);
};
const SmtpDialog::Verb SmtpDialog::kVerbs[] = {
    {"HELO", &SmtpDialog::helo}, {"EHLO", &SmtpDialog::ehlo}, {"MAIL", &SmtpDialog::mail},
    {"RCPT", &SmtpDialog::rcpt}, {"DATA", &SmtpDialog::data}, {"RSET", &SmtpDialog::rset},
    {"NOOP", &SmtpDialog::noop}, {"VRFY", &SmtpDialog::vrfy}, {"QUIT", &SmtpDialog::quit},
};

SmtpDialog::SmtpDialog(std::string hostname, std::string author, std::uint64_t most,
                       HandOver hand_over)
    : hostname_(std::move(hostname)),
      author_(std::move(author)),
      most_(most),
      hand_over_(std::move(hand_over)) {}

std::string SmtpDialog::greeting() const {
  return "220 " + hostname_ + " ESMTP Postrider\r\n";
}

void SmtpDialog::forget() {
  has_sender_ = false;
  smtputf8_ = false;
  header_ = {};
  store_ = {};
  store_failed_ = false;
  too_large_ = false;
}

void SmtpDialog::helo(std::string_view arguments, std::string& out) {
  const auto name = mail::parse_helo(arguments);
  if (!name)
    return say(name.error(), out);
  forget();
  say({250, {}, hostname_}, out);
}

void SmtpDialog::ehlo(std::string_view arguments, std::string& out) {
  const auto name = mail::parse_helo(arguments);
  if (!name)
    return say(name.error(), out);
  forget();
  const auto size =
      most_ < std::numeric_limits<std::uint64_t>::max() ? " " + std::to_string(most_) : "";
  say({250,
       {},
       hostname_ + "\nPIPELINING\nSIZE" + size + "\n8BITMIME\nSMTPUTF8\nDSN\nENHANCEDSTATUSCODES"},
      out);
}

void SmtpDialog::mail(std::string_view arguments, std::string& out) {
  if (has_sender_)
    return say({503, {5, 5, 1}, "MAIL was given already"}, out);
  mail::MailRules rules;
  rules.size_limit = most_;
  rules.binary_mime = false;
  rules.wishes = false;
  rules.lenient = true;  // the daemon completes what has no domain
  const auto parsed = mail::parse_mail(arguments, rules);
  if (!parsed)
    return say(parsed.error(), out);
  forget();
  has_sender_ = true;
  smtputf8_ = parsed->smtputf8;
  header_.sender = parsed->sender;
  header_.body = parsed->body;
  header_.ret = parsed->ret;
  header_.envelope_id = parsed->envelope_id;
  say({250, {2, 1, 0}, "OK"}, out);
}

void SmtpDialog::rcpt(std::string_view arguments, std::string& out) {
  if (!has_sender_)
    return say({503, {5, 5, 1}, "MAIL first"}, out);
  const auto parsed = mail::parse_rcpt(arguments, {.smtputf8 = smtputf8_, .lenient = true});
  if (!parsed)
    return say(parsed.error(), out);
  if (header_.recipients.size() >= daemon::kMostSubmitRecipients)
    return say({452, {4, 5, 3}, "Too many recipients"}, out);
  header_.recipients.push_back(parsed->address);
  // Named twice it is one recipient, and what was asked first holds.
  if (parsed->notify != mail::Notify{} || !parsed->original_recipient.empty())
    header_.dsn.try_emplace(parsed->address,
                            daemon::SubmitDsn{parsed->notify, parsed->original_recipient});
  say({250, {2, 1, 5}, "OK"}, out);
}

void SmtpDialog::data(std::string_view arguments, std::string& out) {
  if (!arguments.empty())
    return say({501, {5, 5, 4}, "DATA has no parameters"}, out);
  if (header_.recipients.empty())
    return say({503, {5, 5, 1}, "RCPT first"}, out);
  in_content_ = true;
  at_line_start_ = true;
  may_end_with_lf_ = true;
  say({354, {}, "End data with <CR><LF>.<CR><LF>"}, out);
}

void SmtpDialog::rset(std::string_view, std::string& out) {
  forget();
  say({250, {2, 0, 0}, "OK"}, out);
}

void SmtpDialog::noop(std::string_view, std::string& out) {
  say({250, {2, 0, 0}, "OK"}, out);
}

void SmtpDialog::vrfy(std::string_view, std::string& out) {
  say({252, {2, 5, 0}, "Send mail to find out"}, out);
}

void SmtpDialog::quit(std::string_view, std::string& out) {
  over_ = true;
  say({221, {2, 0, 0}, "Bye"}, out);
}

void SmtpDialog::command(std::string_view line, std::string& out) {
  const auto parts = mail::split_command(line);
  for (const auto& verb : kVerbs)
    if (equals_ignoring_case(parts.verb, verb.name))
      return (this->*verb.serve)(parts.arguments, out);
  say({500, {5, 5, 2}, "Unknown command"}, out);
}

void SmtpDialog::keep(std::string_view bytes) {
  too_large_ = too_large_ || store_.size() + bytes.size() > most_;
  if (!too_large_ && !store_failed_ && !store_.append(bytes))
    store_failed_ = true;
}

// `line`: from the start of a line to its end, or so much of it that it cannot be a lone dot.
void SmtpDialog::line_of_content(std::string_view line, std::string& out) {
  if (line == ".\r\n" || (line == ".\n" && (lf_ends_lines_ || may_end_with_lf_)))
    return end_of_data(out);
  at_line_start_ = line.back() == '\n';
  note_line_end(line);
  keep(line.substr(line.front() == '.' ? 1 : 0));
}

// A CR that came apart from its LF counts as well. A content whose first lines end with CRLF holds a
// bare LF only by somebody else's doing: that ends nothing.
void SmtpDialog::note_line_end(std::string_view piece) {
  if (piece.find('\r') != std::string_view::npos)
    may_end_with_lf_ = false;
}

// Line ends are those of the program that speaks; what they become is decided with the rest of the
// content, as for any other local mail.
std::string_view SmtpDialog::content(std::string_view in, std::string& out) {
  constexpr std::size_t kEnough = 3;
  const auto end = in.find('\n');
  const auto piece = in.substr(0, end == std::string_view::npos ? end : end + 1);
  if (!at_line_start_) {
    at_line_start_ = piece.back() == '\n';
    note_line_end(piece);
    keep(piece);
    return in.substr(piece.size());
  }
  line_.append(piece);
  if (line_.back() == '\n' || line_.size() >= kEnough) {
    const std::string line = std::exchange(line_, {});
    line_of_content(line, out);
  }
  return in.substr(piece.size());
}

bool SmtpDialog::finish(std::string& out) {
  if (over_)
    return true;
  if (in_content_ && (lf_ends_lines_ || may_end_with_lf_) && at_line_start_ && line_ == ".") {
    line_.clear();
    end_of_data(out);
  } else if (!in_content_ && !line_.empty()) {
    feed("\n", out);  // a last line without its end
  }
  const bool is_whole = !in_content_ && !has_sender_;
  if (!over_)
    say({421, {4, 4, 2}, is_whole ? "Bye" : "The input ended inside a transaction"}, out);
  return over_ || is_whole;
}

void SmtpDialog::end_of_data(std::string& out) {
  in_content_ = false;
  if (too_large_) {
    forget();
    return say({552, {5, 3, 4}, "The message is larger than the limit"}, out);
  }
  if (store_failed_) {
    forget();
    return say({452, {4, 3, 1}, "No room for the message"}, out);
  }
  header_.author = author_;
  const auto answer = hand_over_(std::move(header_), store_);
  forget();
  if (answer.exit_code == EX_OK)
    return say({250, {2, 0, 0}, "Queued as " + answer.id}, out);
  const bool temporary = answer.exit_code == EX_TEMPFAIL;
  say({temporary ? 451 : 554,
       mail::EnhancedCode{static_cast<std::uint8_t>(temporary ? 4 : 5), 3, 0},
       escaped(answer.error)},
      out);
}

bool SmtpDialog::feed(std::string_view in, std::string& out) {
  while (!in.empty() && !over_) {
    if (in_content_) {
      in = content(in, out);
      continue;
    }
    const auto end = in.find('\n');
    line_.append(in.substr(0, std::min(end, kMostLine + 1)));
    line_too_long_ = line_too_long_ || line_.size() > kMostLine;
    if (line_too_long_)
      line_.clear();
    if (end == std::string_view::npos)
      break;
    in.remove_prefix(end + 1);
    lf_ends_lines_ = !line_.ends_with('\r');
    if (!lf_ends_lines_)
      line_.pop_back();
    const std::string line = std::move(line_);
    line_.clear();
    if (std::exchange(line_too_long_, false))
      say({500, {5, 5, 2}, "Line too long"}, out);
    else
      command(line, out);
  }
  return !over_;
}

}  // namespace postrider::cli
