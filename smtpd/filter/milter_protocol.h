// The frames of the milter protocol, versions 2 to 6, as Sendmail's libmilter and Postfix speak it:
// what a mail server sends and what a filter answers. Pure; everything that comes in is limited and
// checked, nothing is trusted because a filter sent it.
//
// A frame is a length (32 bits, big-endian, of what follows it), a byte that names it, and data.
#pragma once

#include "base/network.h"
#include "base/result.h"
#include "mail/reply.h"

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace postrider::smtpd::filter::milter {

constexpr std::uint32_t kLowestVersion = 2;
constexpr std::uint32_t kVersion = 6;
// Of what follows the length. A filter sends a new body in frames of 64 KiB.
constexpr std::size_t kMostInFrame = 1024UL * 1024;
// Of a body, in one frame to the filter.
constexpr std::size_t kMostBodyInFrame = 65535;

// What a filter may do to a message; bits of the negotiation.
namespace action {
constexpr std::uint32_t kAddHeader = 0x1, kChangeBody = 0x2, kAddRecipient = 0x4,
                        kDeleteRecipient = 0x8, kChangeHeader = 0x10, kQuarantine = 0x20,
                        kChangeSender = 0x40, kAddRecipientWithParameters = 0x80,
                        kSetSymbols = 0x100, kAll = 0x1ff;
}  // namespace action

// What a filter is not sent (no_), what it does not answer (silent_), and what else it asks for.
namespace step {
constexpr std::uint32_t kNoConnect = 0x1, kNoHelo = 0x2, kNoMail = 0x4, kNoRecipient = 0x8,
                        kNoBody = 0x10, kNoHeader = 0x20, kNoEndOfHeader = 0x40,
                        kSilentHeader = 0x80, kNoUnknown = 0x100, kNoData = 0x200, kSkip = 0x400,
                        kRefusedRecipients = 0x800, kSilentConnect = 0x1000, kSilentHelo = 0x2000,
                        kSilentMail = 0x4000, kSilentRecipient = 0x8000, kSilentData = 0x10000,
                        kSilentUnknown = 0x20000, kSilentEndOfHeader = 0x40000,
                        kSilentBody = 0x80000, kLeadingSpace = 0x100000, kAll = 0x1fffff;
}  // namespace step

// The bits that a version knows.
std::uint32_t actions_of(std::uint32_t version);
std::uint32_t steps_of(std::uint32_t version);

// Where macros are sent; the numbers of the negotiation.
enum class MacroStage : std::uint8_t { connect, helo, mail, recipient, data, end, end_of_header };
constexpr std::size_t kMacroStages = 7;
using Macros = std::vector<std::pair<std::string, std::string>>;  // "{auth_type}", "i"

struct Negotiation {
  std::uint32_t version = kVersion;
  std::uint32_t actions = action::kAll;
  std::uint32_t steps = step::kAll;
  // By MacroStage: the names that the filter asks for instead of the usual ones.
  std::array<std::optional<std::vector<std::string>>, kMacroStages> macros = {};
  friend bool operator==(const Negotiation&, const Negotiation&) = default;
};

struct Frame {
  char kind = 0;
  std::string data;
  friend bool operator==(const Frame&, const Frame&) = default;
};

// Takes bytes as they arrive. A length of nothing or beyond the limit is an error before any of the
// frame is kept, and every later call gives the same.
class FrameReader {
 public:
  // Consumes bytes up to the end of the first whole frame. Nothing: more are needed.
  Result<std::optional<Frame>> feed(std::string_view bytes, std::size_t& used);
  bool is_within_frame() const { return !head_.empty(); }

 private:
  std::string head_;  // the length, as far as it has come
  std::uint32_t size_ = 0;
  std::string body_;
  bool is_lost_ = false;
};

// --- what a mail server sends. A NUL within a string, which no frame can hold, becomes a space.

std::string encode_frame(char kind, std::string_view data);
std::string encode_negotiation(const Negotiation& offer);
// address: none for a client without one, by a Unix socket.
std::string encode_connect(std::string_view name, const IpAddress& address, std::uint16_t port);
std::string encode_string(char kind, std::string_view text);                        // H, U
std::string encode_path(char kind, const std::vector<std::string>& path_and_args);  // M, R
std::string encode_header(std::string_view name, std::string_view value);
std::string encode_macros(char command, const Macros& macros);

// --- what a filter answers.

Result<Negotiation> parse_negotiation(const Frame& frame);

struct Edit {
  enum class Kind : char {
    add_header = 'h',
    insert_header = 'i',
    change_header = 'm',
    replace_body = 'b',
    add_recipient = '+',
    add_recipient_with_parameters = '2',
    delete_recipient = '-',
    change_sender = 'e',
    quarantine = 'q'
  };
  Kind kind = Kind::add_header;
  std::uint32_t index = 0;  // of insert_header and change_header
  std::string name;         // of a header field
  std::string value;        // of a field; a piece of a body; an address, with or without brackets;
                            // the reason of a quarantine
  std::string parameters;   // of an address: "NOTIFY=NEVER ORCPT=..."
  friend bool operator==(const Edit&, const Edit&) = default;
};
// The bit of the negotiation that allows it.
std::uint32_t action_of(Edit::Kind kind);

struct Answer {
  enum class Kind : std::uint8_t {
    go_on,
    accept,
    discard,
    refuse,  // by `reply`
    skip,
    progress,
    edit
  };
  Kind kind = Kind::go_on;
  mail::Reply reply;
  std::string problem;  // with a reply: what was wrong with the filter's own
  Edit edit;
};
// Fails for what is no answer: unknown bytes, strings without an end, data that is too short, and
// the "connection failed" that no mail server takes for one.
Result<Answer> parse_answer(Frame frame);

}  // namespace postrider::smtpd::filter::milter
