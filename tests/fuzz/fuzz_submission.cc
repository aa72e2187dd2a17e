// What a local user may send to the submit socket or leave in the drop folder: a header line, then
// content in pieces. Legal output whatever comes in, and headers that survive their encoding.
#include "daemon/pickup/submit_content.h"
#include "daemon/protocol/control_protocol.h"
#include "daemon/protocol/submit_protocol.h"

#include <cstddef>
#include <cstdint>
#include <cstdlib>

using namespace postrider;
using namespace postrider::daemon;

namespace {

void require(bool condition) {
  if (!condition)
    std::abort();
}

void check_header(std::string_view line) {
  const auto header = decode_submit_header(line);
  if (!header)
    return;
  const auto again = decode_submit_header(encode(*header));
  require(again && encode(*again) == encode(*header));
  const auto envelope = to_envelope(*header, "mx.test", 100);
  if (!envelope)
    return;
  for (const auto& recipient : envelope->recipients)
    require(recipient.address.find_first_of(std::string_view("\r\n\0", 3)) == std::string::npos);
}

// The same output for any splitting; only CRLF line ends, no NUL.
void check_content(std::string_view raw, std::size_t step) {
  SubmitContent whole;
  SubmitContent pieces;
  std::string out;
  std::string in_pieces;
  whole.feed(raw, out);
  whole.finish(out);
  for (std::size_t at = 0; at < raw.size(); at += step)
    pieces.feed(raw.substr(at, step), in_pieces);
  pieces.finish(in_pieces);
  require(out == in_pieces);
  require(out.find('\0') == std::string::npos);
  require(!whole.body().poisoned() && whole.body().size == out.size());
  for (std::size_t i = 0; i < out.size(); ++i) {
    if (out[i] == '\n')
      require(i > 0 && out[i - 1] == '\r');
    if (out[i] == '\r')
      require(i + 1 < out.size() && out[i + 1] == '\n');
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const auto end = input.find('\n');
  const auto line = input.substr(0, end);
  check_header(line);
  const auto request = decode_control_request(line);
  if (request)
    require(decode_control_request(encode(*request)).has_value());
  const auto answer = decode_submit_answer(line);
  if (answer)
    require(decode_submit_answer(encode(*answer)).has_value());
  check_content(end == std::string_view::npos ? input : input.substr(end + 1),
                1 + (size > 0 ? data[size - 1] % 7U : 0U));
  return 0;
}
