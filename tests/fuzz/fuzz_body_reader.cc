// The readers agree with the oracle of attacks.md 2.1, however the bytes are split. The first two
// octets of the input choose the splitting.
#include "base/assert.h"
#include "mail/body_reader.h"
#include "mail/dot_stuffing.h"
#include "tests/support/body_oracle.h"

#include <algorithm>
#include <cstdint>

using namespace postrider;
using namespace postrider::mail;

namespace {

std::size_t piece_size(unsigned seed, std::size_t round) {
  return seed == 0 ? SIZE_MAX / 2 : 1 + (seed * (round + 7)) % (seed + 1);
}

void check(const BodyFacts& facts, const std::string& content, const tests::ExpectedBody& want) {
  POSTRIDER_ASSERT(facts.bare_line_end == want.bare_line_end && facts.nul == want.nul);
  POSTRIDER_ASSERT(facts.has_8bit == want.has_8bit);
  POSTRIDER_ASSERT(facts.has_8bit_header == want.has_8bit_header);
  POSTRIDER_ASSERT(facts.longest_line == want.longest_line);
  POSTRIDER_ASSERT(facts.size == want.content.size());
  POSTRIDER_ASSERT(facts.poisoned() || content == want.content);
}

void check_data(std::string_view bytes, unsigned seed) {
  DataReader reader;
  std::string content;
  std::size_t taken = 0;
  for (std::size_t round = 0; taken < bytes.size() && !reader.at_end(); ++round)
    taken += reader.feed(bytes.substr(taken, piece_size(seed, round)), content);
  const auto want = tests::expected_data(bytes);
  POSTRIDER_ASSERT(reader.at_end() == want.ended && taken == want.consumed);
  if (!want.ended)
    return;
  check(reader.facts(), content, want);
  if (reader.facts().poisoned())
    return;
  DotStuffer stuffer;
  std::string wire;
  for (std::size_t at = 0, round = 0; at < content.size(); ++round) {
    const auto piece = std::string_view(content).substr(at, piece_size(seed, round));
    stuffer.feed(piece, wire);
    at += piece.size();
  }
  stuffer.finish(wire);
  POSTRIDER_ASSERT(has_leading_dot(content) == (wire.size() != content.size() + 3));
  DataReader again;
  std::string read;
  POSTRIDER_ASSERT(again.feed(wire, read) == wire.size() && again.at_end() && read == content);
}

void check_chunks(std::string_view bytes, unsigned seed) {
  ChunkReader reader;
  std::string content;
  for (std::size_t at = 0, round = 0; at < bytes.size(); ++round) {
    const auto piece = bytes.substr(at, piece_size(seed, round));
    reader.feed(piece, content);
    at += piece.size();
  }
  reader.finish();
  check(reader.facts(), content, tests::expected_chunks(bytes));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 2)
    return 0;
  const unsigned seed = data[0] + 256U * (data[1] & 15U);
  const std::string_view bytes(reinterpret_cast<const char*>(data) + 2, size - 2);
  check_data(bytes, seed);
  check_data(std::string(bytes) + "\r\n.\r\n", seed);
  check_chunks(bytes, seed);
  return 0;
}
