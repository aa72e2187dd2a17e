// SMTP replies as values (RFC 5321 §4.2, RFC 2034, RFC 3463).
#pragma once

#include "base/result.h"

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace postrider::mail {

// "5.7.1"; class 0 means none. Subject and detail have at most three digits.
struct EnhancedCode {
  std::uint8_t klass = 0;
  std::uint16_t subject = 0;
  std::uint16_t detail = 0;
  explicit operator bool() const { return klass != 0; }
  friend bool operator==(const EnhancedCode&, const EnhancedCode&) = default;
};
std::string to_string(EnhancedCode code);  // empty if there is none
// A code at the very start of the text; nullopt unless it is well formed (attacks.md I08).
std::optional<EnhancedCode> parse_enhanced_code(std::string_view text);

// A reply that we send or have received. Text lines are joined by '\n' and hold no CR, LF or NUL.
struct Reply {
  Reply() = default;
  Reply(int code_, EnhancedCode enhanced_, std::string text_)
      : code(code_), enhanced(enhanced_), text(std::move(text_)) {}

  int code = 0;  // 200 to 599
  EnhancedCode enhanced;
  std::string text;  // without the codes

  bool is_positive() const { return code >= 200 && code < 300; }
  bool is_intermediate() const { return code >= 300 && code < 400; }
  bool is_temporary() const { return code >= 400 && code < 500; }
  bool is_permanent() const { return code >= 500 && code < 600; }
  // For the wire: CRLF after every line, the enhanced code on each (RFC 2034).
  std::string wire() const;
  // For people: "550 5.1.1 No such user", several lines joined by a space.
  std::string str() const;
  friend bool operator==(const Reply&, const Reply&) = default;
};

// Takes a remote server's octets and gives whole replies: 4 KiB of a line, 100 lines and 16 KiB of
// text are kept, the rest is read over. Beyond 16 MiB a reply is malformed. Lines may end in LF
// alone or in several CR, and those between others may lack a code; where they bear several the
// last counts. Three digits that no fourth follows are a code, whatever stands behind them
// ("250OK"), in the first line that has one.
class ReplyParser {
 public:
  // What lines are that come before the first one with a code: the connection is out of step, or
  // they are read over, as Postfix and sendmail do it. They are right where nothing else can be
  // waited for, and where a reply that is missed means that the message is sent once more.
  enum class Noise : std::uint8_t { refused, read_over };

  // Consumes bytes up to the end of the first complete reply; `used` says how many. nullopt: more
  // bytes are needed. An error (Errc::malformed, Errc::too_long): the connection is out of step.
  Result<std::optional<Reply>> feed(std::string_view bytes, std::size_t& used,
                                    Noise noise = Noise::refused);
  // Of a reply whose last line is still missing: its code as far as it is known. nullopt: none is.
  std::optional<Reply> unfinished() const;
  // The first line that was read over since the last reply, quoted; empty: none was.
  const std::string& noise() const { return noise_; }

 private:
  void add_line(std::string_view line, int code);
  int code_of_line() const;

  std::string line_;
  Reply reply_;
  std::string noise_;
  std::size_t lines_ = 0;
  std::size_t bytes_ = 0;
};

}  // namespace postrider::mail
