// The headers of parts are the same however the body is cut, and bounded.
#include "base/assert.h"
#include "mail/header.h"
#include "mail/part_headers.h"

#include <cstdint>
#include <string>

using namespace postrider;
using namespace postrider::mail;

namespace {

std::string sections(std::string_view content, std::size_t piece) {
  const auto size = header_section_size(content);
  PartHeaders parts(content.substr(0, size));
  auto body = content.substr(size);
  std::string all;
  const auto sink = [&](std::string_view section) {
    POSTRIDER_ASSERT(!section.empty() && section.size() <= PartHeaders::kMostSection + 2);
    all.append(section).append("|");
  };
  while (!body.empty()) {
    parts.feed(body.substr(0, piece), sink);
    body.remove_prefix(std::min(piece, body.size()));
  }
  parts.finish(sink);
  return all;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view content(reinterpret_cast<const char*>(data), size);
  const auto whole = sections(content, size + 1);
  POSTRIDER_ASSERT(sections(content, 1) == whole);
  POSTRIDER_ASSERT(sections(content, 7) == whole);
  return 0;
}
