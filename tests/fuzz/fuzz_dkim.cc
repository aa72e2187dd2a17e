// Whatever a message and the DNS hold: DKIM and ARC give a report for each signature within their
// limits, no signature passes that nobody made, and key records and tag lists are read or refused.
// The input is a message; behind a line "%%" the TXT record of every key.
#include "base/assert.h"
#include "mail/header.h"
#include "mailauth/arc.h"
#include "mailauth/dkim_verify.h"
#include "mailauth/key_record.h"
#include "mailauth/message_hasher.h"
#include "mailauth/tag_list.h"

#include <cstdint>

using namespace postrider;
using namespace postrider::mailauth;

namespace {

constexpr TimePoint kNow{std::chrono::seconds(1'764'000'000)};

template <class T>
T run(Asking<T> asking, std::string_view record, std::size_t most) {
  Inquiry<T> inquiry(std::move(asking));
  while (!inquiry.done())
    for (auto& posed : inquiry.take()) {
      POSTRIDER_ASSERT(posed.question.name.size() <= 253);
      Answer answer;
      answer.status = Answer::Status::found;
      answer.texts = {std::string(record)};
      inquiry.answer(posed.id, answer);
    }
  POSTRIDER_ASSERT(inquiry.asked() <= most);
  return inquiry.result();
}

// However the content is cut, the verdicts are the same.
void check_in_pieces(std::string_view message, std::string_view record,
                     const std::vector<MethodResult>& results, const ChainReport& chain) {
  MessageHasher hasher({.dkim = true, .arc = true, .find_oldest_pass = true});
  for (std::size_t at = 0; at < message.size(); at += 3)
    hasher.feed(message.substr(at, 3));
  hasher.finish();
  const auto reports = run(hasher.verify_dkim(kNow), record, 8);
  POSTRIDER_ASSERT(authentication_results_field("a", dkim_results(reports)) ==
                   authentication_results_field("a", results));
  const auto same = run(hasher.verify_chain(kNow), record, 2 * kMostArcSets);
  POSTRIDER_ASSERT(same.result == chain.result && same.reason == chain.reason);
}

void check_message(std::string_view message, std::string_view record) {
  const HeaderIndex header(message);
  BodyHashes bodies;
  const DkimVerifier dkim(header, bodies);
  const ArcVerifier arc(header, bodies, true);
  bodies.feed(message.substr(mail::header_section_size(message)));
  bodies.finish();
  const auto reports = run(dkim.verify(kNow), record, 8);
  POSTRIDER_ASSERT(reports.size() <= 51);  // 50, and one for all that are not read
  for (const auto& report : reports)
    POSTRIDER_ASSERT(report.result == SignatureResult::pass || !report.reason.empty());
  const auto chain = run(arc.verify(kNow), record, 2 * kMostArcSets);
  POSTRIDER_ASSERT(chain.sets <= kMostArcSets);
  check_in_pieces(message, record, dkim_results(reports), chain);
  auto results = dkim_results(reports);
  results.push_back(arc_result(chain));
  const auto field = authentication_results_field("mx.example.com", results);
  POSTRIDER_ASSERT(mail::header_facts(field).size == field.size());
}

void check_tags(std::string_view text) {
  const auto tags = TagList::parse(text);
  if (!tags)
    return;
  for (const auto& tag : tags->tags())
    POSTRIDER_ASSERT(tag.begin <= tag.end && tag.end <= text.size() &&
                     trim_white_space(text.substr(tag.begin, tag.end - tag.begin)) == tag.value &&
                     tags->find(tag.name) == &tag);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  const auto at = bytes.find("\n%%\n");
  const auto message = bytes.substr(0, at == bytes.npos ? at : at + 1);
  const auto record = at == bytes.npos ? std::string_view() : bytes.substr(at + 4);
  check_message(message, record);
  check_tags(record);
  if (const auto key = parse_key_record(record); key && !key->is_revoked())
    if (const auto read = PublicKey::from_bytes(key->type, key->key))
      POSTRIDER_ASSERT(!read->verifies(std::string(32, 'x'), key->key));
  return 0;
}
