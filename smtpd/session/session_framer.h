// The bytes of one SMTP conversation, without the socket (pure): cuts what arrives into command
// lines and content, asks the session, and gathers the replies. What has arrived is worked through
// in one go, so that a pipelined group is answered with one write (attacks.md P04).
#pragma once

#include "smtpd/session/incoming_content.h"
#include "smtpd/session/session.h"

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

namespace postrider::smtpd {

class SessionFramer {
 public:
  // A client that does not read its replies is not read from either (attacks.md P12).
  static constexpr std::size_t kMostReplies = 32U << 10U;

  enum class Need : std::uint8_t {
    input,      // all was taken; send the replies, then read on
    flush,      // send the replies, then call take() again with the rest
    store,      // a message is complete; call stored(), then take() again with the rest
    start_tls,  // send the replies, shake hands, call on_tls()
    look_up,    // an address must be looked up; call looked_up(), then take() again with the rest
    filter,     // a command waits for the filters; call filtered(), then take() again with the rest
    ask,        // an AUTH waits for an answer; send the replies, call answered(), then take() again
    close,      // send the replies and hang up
  };

  explicit SessionFramer(Session session) : session_(std::move(session)) {}

  Need open(std::string& replies);
  // used: octets of `in` that need not be shown again.
  Need take(std::string_view in, std::size_t& used, std::string& replies);
  Need stored(Storage result, mail::MessageId id, std::string& replies);
  // The handshake is done; the session knows.
  void in_tls() { mode_ = Mode::command; }
  Need answered(const auth::Answer& answer, std::string& replies);
  Need looked_up(std::optional<Policy::Answer> answer, std::string& replies);
  Need filtered(filter::Verdict verdict, std::string& replies);
  // Instead of stored().
  Need refused(filter::Verdict verdict, std::string& replies);

  Session& session() { return session_; }
  const Session& session() const { return session_; }
  // The message at hand, from DATA or the first BDAT until it is stored or refused; else null.
  IncomingContent* intake() { return intake_ ? &*intake_ : nullptr; }
  // So many messages have had content; tells one from the next.
  std::uint64_t messages_begun() const { return messages_begun_; }
  // What comes next is content, not a command.
  bool reads_content() const {
    return mode_ == Mode::data || mode_ == Mode::chunk || mode_ == Mode::skip;
  }
  // Between two commands, with nothing begun: may wait for long and deserves no buffer.
  bool is_idle() const {
    return mode_ == Mode::command && partial_.empty() && !overlong_ &&
           !session_.transaction().is_begun() && !session_.login().is_under_way();
  }
  std::uint64_t commands() const { return commands_; }
  // Of memory, for what has come of a command line, and what was said since AUTH.
  std::size_t line_octets() const;

 private:
  enum class Mode : std::uint8_t {
    command,
    data,
    chunk,
    skip,
    storing,
    looking,
    filtering,
    asking,
    hands,
    closed
  };

  std::uint32_t line_limit() const;
  // A step, if a whole line had arrived.
  std::optional<Step> take_line(std::string_view in, std::size_t& used);
  std::optional<Step> take_part_of_line(std::string_view rest);
  Step end_overlong_line(bool clean);
  std::optional<Step> take_data(std::string_view in, std::size_t& used);
  std::optional<Step> take_chunk(std::string_view in, std::size_t& used);
  Need apply(const Step& step, std::string& replies);
  void begin_content();

  Session session_;
  Mode mode_ = Mode::command;
  std::string partial_;        // of a command line
  bool overlong_ = false;      // in a command line beyond the limit
  bool overlong_cr_ = false;   // whose last octet so far is CR
  std::uint64_t skipped_ = 0;  // octets of it
  std::uint64_t chunk_left_ = 0;
  std::uint64_t commands_ = 0;
  std::uint64_t messages_begun_ = 0;
  std::optional<IncomingContent> intake_;
};

}  // namespace postrider::smtpd
