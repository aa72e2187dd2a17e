// A reply is the same whole or byte by byte, bounded and clean, and survives the wire.
#include "base/assert.h"
#include "base/text.h"
#include "mail/outcome.h"
#include "mail/reply.h"

#include <algorithm>
#include <cstdint>

using namespace postrider;
using namespace postrider::mail;

namespace {

using Noise = ReplyParser::Noise;

std::vector<Reply> read_all(std::string_view bytes, std::size_t piece, bool& failed,
                            Noise noise = Noise::refused) {
  std::vector<Reply> replies;
  ReplyParser parser;
  failed = false;
  while (!bytes.empty()) {
    auto part = bytes.substr(0, piece);
    std::size_t used = 0;
    auto reply = parser.feed(part, used, noise);
    if (!reply) {
      failed = true;
      return replies;
    }
    POSTRIDER_ASSERT(used > 0 && used <= part.size());
    bytes.remove_prefix(used);
    if (*reply)
      replies.push_back(**reply);
  }
  if (auto unfinished = parser.unfinished())
    replies.push_back(*std::move(unfinished));
  return replies;
}

void check(const Reply& reply) {
  POSTRIDER_ASSERT(reply.code >= 200 && reply.code <= 599 && reply.text.size() <= 16384);
  POSTRIDER_ASSERT(!reply.enhanced || reply.enhanced.klass == reply.code / 100);
  POSTRIDER_ASSERT(std::none_of(reply.text.begin(), reply.text.end(), [](char c) {
    return (static_cast<unsigned char>(c) < 0x20 && c != '\n') || c == 0x7F;
  }));
  bool failed = false;
  const auto again = read_all(reply.wire(), SIZE_MAX, failed);
  POSTRIDER_ASSERT(!failed && again.size() == 1 && again[0].code == reply.code);
  Outcome outcome;
  outcome.stage = Stage::rcpt;
  outcome.reply = reply;
  POSTRIDER_ASSERT(outcome.reason().find('\n') == std::string::npos);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  bool failed = false;
  bool failed_too = false;
  const auto whole = read_all(bytes, SIZE_MAX, failed);
  POSTRIDER_ASSERT(read_all(bytes, 1, failed_too) == whole && failed == failed_too);
  POSTRIDER_ASSERT(read_all(bytes, 7, failed_too) == whole && failed == failed_too);
  for (const auto& reply : whole)
    check(reply);
  const auto behind_noise = read_all(bytes, SIZE_MAX, failed, Noise::read_over);
  POSTRIDER_ASSERT(read_all(bytes, 5, failed_too, Noise::read_over) == behind_noise);
  POSTRIDER_ASSERT(behind_noise.size() >= whole.size());
  for (const auto& reply : behind_noise)
    check(reply);
  if (const auto code = parse_enhanced_code(bytes))
    POSTRIDER_ASSERT(parse_enhanced_code(to_string(*code)) == code);
  return 0;
}
