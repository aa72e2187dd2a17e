// Any bytes as an HTTP answer, whole and in pieces: no crash, limits kept, the same answer.
#include "base/assert.h"
#include "base/net/http/http.h"

#include <cstddef>
#include <cstdint>

namespace {

constexpr std::size_t kMostBody = 1000;

postrider::Result<postrider::HttpResponse> read(std::string_view bytes, std::size_t piece) {
  postrider::HttpResponseReader reader(kMostBody);
  while (!bytes.empty()) {
    const auto complete = reader.feed(bytes.substr(0, piece));
    if (!complete)
      return complete.error();
    if (*complete)
      return reader.take();
    bytes.remove_prefix(std::min(piece, bytes.size()));
  }
  if (auto ended = reader.end(); !ended)
    return ended.error();
  return reader.take();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  const auto whole = read(bytes, size);
  const auto pieces = read(bytes, 7);
  POSTRIDER_ASSERT(whole.has_value() == pieces.has_value());
  if (!whole)
    return 0;
  POSTRIDER_ASSERT(whole->body.size() <= kMostBody);
  POSTRIDER_ASSERT(whole->body == pieces->body && whole->status == pieces->status);
  return 0;
}
