// `sendmail -bs`: SMTP on standard input and output, for programs that know nothing else. A small
// sans-I/O session; each message goes the way of any other local mail. Pure.
#pragma once

#include "cli/content_store.h"
#include "daemon/protocol/submit_protocol.h"
#include "mail/smtp_command.h"

#include <functional>
#include <string>
#include <string_view>

namespace postrider::cli {

class SmtpDialog {
 public:
  using HandOver =
      std::function<daemon::SubmitAnswer(daemon::SubmitHeader header, const ContentStore& content)>;
  // most: octets of a message; the largest number: it is not known.
  SmtpDialog(std::string hostname, std::string author, std::uint64_t most, HandOver hand_over);

  std::string greeting() const;
  // Any splitting of the bytes; appends what is to be said. False after QUIT.
  bool feed(std::string_view in, std::string& out);
  // The input is at its end. False if that is in the middle of something, which is then lost.
  bool finish(std::string& out);

 private:
  struct Verb;
  static const Verb kVerbs[];

  void command(std::string_view line, std::string& out);
  void mail(std::string_view arguments, std::string& out);
  void rcpt(std::string_view arguments, std::string& out);
  void data(std::string_view arguments, std::string& out);
  void helo(std::string_view arguments, std::string& out);
  void ehlo(std::string_view arguments, std::string& out);
  void rset(std::string_view arguments, std::string& out);
  void noop(std::string_view arguments, std::string& out);
  void vrfy(std::string_view arguments, std::string& out);
  void quit(std::string_view arguments, std::string& out);
  std::string_view content(std::string_view in, std::string& out);
  void keep(std::string_view bytes);
  void note_line_end(std::string_view piece);
  void line_of_content(std::string_view line, std::string& out);
  void end_of_data(std::string& out);
  void forget();

  std::string hostname_;
  std::string author_;
  const std::uint64_t most_;
  HandOver hand_over_;
  std::string line_;
  bool line_too_long_ = false;
  bool over_ = false;
  bool has_sender_ = false;
  bool smtputf8_ = false;
  daemon::SubmitHeader header_;
  bool in_content_ = false;
  bool lf_ends_lines_ = false;   // the DATA command ended with a bare LF, so a lone dot may too
  bool may_end_with_lf_ = true;  // no line of the content has ended with CRLF
  bool at_line_start_ = true;
  ContentStore store_;
  bool store_failed_ = false;
  bool too_large_ = false;
};

}  // namespace postrider::cli
