// The canonical body and its hashes do not depend on how the body was cut; doing it twice changes
// nothing; it ends with one line end and holds no white space that the relaxed form takes out.
#include "base/assert.h"
#include "base/digest.h"
#include "mailauth/body_hashes.h"

#include <cstdint>

using namespace postrider;
using namespace postrider::mailauth;

namespace {

std::string canonical(Form form, std::string_view body, std::size_t piece) {
  std::string out;
  CanonicalBody made(form, [&](std::string_view some) { out.append(some); });
  for (std::size_t at = 0; at < body.size(); at += piece)
    made.feed(body.substr(at, piece));
  made.finish();
  return out;
}

void check(Form form, std::string_view body, std::uint64_t length) {
  const auto whole = canonical(form, body, body.size() + 1);
  POSTRIDER_ASSERT(whole == canonical(form, body, 1) && whole == canonical(form, body, 3));
  POSTRIDER_ASSERT(whole == canonical(form, whole, whole.size() + 1));
  POSTRIDER_ASSERT(whole.ends_with("\r\n") || (whole.empty() && form == Form::relaxed));
  if (form == Form::relaxed)
    POSTRIDER_ASSERT(whole.find("  ") == whole.npos && whole.find(" \r\n") == whole.npos &&
                     whole.find('\t') == whole.npos && !whole.ends_with("\r\n\r\n"));
  BodyHashes bodies;
  const auto all = bodies.add(form);
  const auto part = bodies.add(form, length);
  for (std::size_t at = 0; at < body.size(); at += 5)
    bodies.feed(body.substr(at, 5));
  bodies.finish();
  POSTRIDER_ASSERT(bodies.digest(all) == sha256(whole) &&
                   bodies.canonical_size(all) == whole.size());
  if (length <= whole.size())
    POSTRIDER_ASSERT(bodies.digest(part) == sha256(whole.substr(0, length)));
  else
    POSTRIDER_ASSERT(bodies.digest(part).empty());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  const std::uint64_t length = size == 0 ? 0 : data[0];
  check(Form::simple, bytes, length);
  check(Form::relaxed, bytes, length);
  return 0;
}
