// Any bytes as a DNS packet: no crash, bounds kept, and what was read is the same after it was
// written and read again.
#include "base/assert.h"
#include "dns/answer.h"
#include "dns/packet_codec.h"

#include <cstddef>
#include <cstdint>

namespace {

using namespace postrider;
using namespace postrider::dns;

void check_answer(const Message& message, const Question& question) {
  const Finding finding = read_answer(message, question);
  POSTRIDER_ASSERT((finding.status == Status::records) == !finding.records.empty());
  POSTRIDER_ASSERT(finding.ttl <= kMostTtl && finding.links <= kMostLinks + 1);
  switch (question.type) {
    case Type::a:
    case Type::aaaa:
    case Type::mx:
    case Type::ptr:
    case Type::txt:
    case Type::tlsa:
      (void)to_records(question.type, finding.records);
      break;
    default:
      break;
  }
}

void check_name(const Name& name) {
  POSTRIDER_ASSERT(name.wire().size() < Name::kMostOctets);
  if (name.is_host())
    POSTRIDER_ASSERT(Name::from_text(name.text()) == name);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string packet(reinterpret_cast<const char*>(data), size);
  const auto message = decode(packet);
  if (!message)
    return 0;
  for (const auto& record : message->answers)
    check_name(record.name);
  if (message->question) {
    check_name(message->question->name);
    (void)describe(*message->question);
    check_answer(*message, *message->question);
    const auto query = encode_query(message->id, *message->question);
    POSTRIDER_ASSERT(!is_answer_to(query, query));
    (void)is_answer_to(query, packet);
  }
  const std::string written = encode(*message);  // without compression: it may be larger
  if (written.size() > kMostMessage)
    return 0;
  const auto again = decode(written);
  POSTRIDER_ASSERT(again.has_value());
  POSTRIDER_ASSERT(encode(*again) == written);
  return 0;
}
