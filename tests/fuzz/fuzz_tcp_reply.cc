// What a program at the other end of a tcp table answers: a line is found in the same octets however
// they come, and its meaning is a value, none or an error. A key, whatever it is, is one question.
#include "base/assert.h"
#include "tables/tcp_reply.h"

#include <algorithm>
#include <cstdint>
#include <string>

using namespace postrider;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string bytes(reinterpret_cast<const char*>(data), size);
  const auto line = tables::take_tcp_reply(bytes);
  if (line && *line) {
    POSTRIDER_ASSERT(bytes.starts_with(**line));
    POSTRIDER_ASSERT((*line)->find('\n') == std::string::npos);
    for (std::size_t part = 0; part < bytes.size(); ++part) {
      const auto early = tables::take_tcp_reply(std::string_view(bytes).substr(0, part));
      POSTRIDER_ASSERT(early && !*early);
    }
    (void)tables::parse_tcp_reply(**line);
  }
  (void)tables::parse_tcp_reply(bytes);
  const auto request = tables::tcp_request(bytes);
  POSTRIDER_ASSERT(request.starts_with("get ") && request.ends_with('\n'));
  POSTRIDER_ASSERT(std::all_of(request.begin() + 4, request.end() - 1,
                               [](char c) { return c > ' ' && c < 0x7f; }));
  // A value that is written as a key is, is read as it was.
  const auto encoded = request.substr(4, request.size() - 5);
  const auto back = tables::parse_tcp_reply("200 " + encoded);
  POSTRIDER_ASSERT(back && *back && **back == bytes);
  return 0;
}
