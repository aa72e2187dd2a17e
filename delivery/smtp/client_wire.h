// What a conversation has to send, and the replies that it waits for, in order. Every reply is
// matched with the command that it answers.
#pragma once

#include "mail/message.h"
#include "mail/outcome.h"

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace postrider::delivery {

struct MailTransaction;

enum class Dialect : std::uint8_t { smtp, lmtp };

// Content on its way: by DATA (dots doubled, ended by ".") or by BDAT (as it is).
struct Body {
  std::shared_ptr<const mail::Message> message;
  std::shared_ptr<const std::string> converted;  // all of it, trace included; null: as it came
  bool chunked = false;
  bool has_leading_dot = true;  // false: nothing to double; only known for content in memory
};

// What to send: text, then the body, if there is one.
struct Piece {
  std::string text;
  std::optional<Body> body;
};

enum class Command : std::uint8_t {
  greeting,
  ehlo,
  helo,
  starttls,
  auth,
  rset,
  mail,
  rcpt,
  data,
  body_end,
  quit
};

// A reply that counts for every accepted recipient, rather than for the one at a position.
inline constexpr std::size_t kAll = static_cast<std::size_t>(-1);

// What a remote said that is no answer to anything: its beginning, escaped, for people.
std::string quoted(std::string_view said);

class ClientWire {
 public:
  struct Expected {
    Command command;
    MailTransaction* transaction;  // null: of the session
    std::size_t position;          // in the transaction's recipients, or kAll
    bool is_handed_out = false;    // the command: before that nothing can be a reply to it
  };

  void say(std::string_view text) { tail().append(text); }
  std::string& tail();  // of the text that is sent last
  void attach(Body body);
  void expect(Command command, MailTransaction* transaction = nullptr, std::size_t position = 0) {
    expected_.push_back({command, transaction, position, false});
  }
  bool has_output() const { return !output_.empty(); }
  std::vector<Piece> take_output();

  bool is_waiting() const { return !expected_.empty(); }
  bool waits_for(Command command) const {
    return !expected_.empty() && expected_.front().command == command;
  }
  const Expected& next() const { return expected_.front(); }
  void pop() { expected_.pop_front(); }
  void forget_replies() { expected_.clear(); }
  // Of the reply that is waited for; nothing: none is.
  std::optional<mail::Stage> stage() const;
  static mail::Stage stage_of(Command command);

 private:
  std::vector<Piece> output_;
  std::deque<Expected> expected_;
};

}  // namespace postrider::delivery
