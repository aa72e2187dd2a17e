// The first line is a From field; the second names domains that were authenticated, separated by
// spaces; every other line is a TXT record of one of the names asked for. The verdicts are the same
// in any order of answers, within the limits; only what can be asked is asked.
#include "base/assert.h"
#include "base/text.h"
#include "mailauth/authors.h"
#include "mailauth/dmarc.h"
#include "mailauth/dns_name.h"

#include <algorithm>
#include <cstdint>

using namespace postrider;
using namespace postrider::mailauth;

namespace {

Answer answer_to(const Question& question, const std::vector<std::string_view>& records) {
  const auto sum = question.name.size();
  if (question.type != Type::txt || records.empty() || sum % 5 == 4)
    return Answer::none(sum % 2 == 0 ? Answer::Status::no_name : Answer::Status::no_data);
  if (sum % 11 == 10)
    return Answer::failure("fuzz");
  Answer answer;
  answer.status = Answer::Status::found;
  answer.texts.emplace_back(records[sum % records.size()]);
  return answer;
}

std::vector<DmarcVerdict> run(const Authors& authors, const std::vector<Identifier>& identifiers,
                              const std::vector<std::string_view>& records, bool latest_first) {
  Inquiry<std::vector<DmarcVerdict>> inquiry(check_dmarc(authors.domains, identifiers));
  while (!inquiry.done()) {
    auto open = inquiry.take();
    if (latest_first)
      std::reverse(open.begin(), open.end());
    for (const auto& posed : open) {
      POSTRIDER_ASSERT(can_be_asked(posed.question.name));
      inquiry.answer(posed.id, answer_to(posed.question, records));
    }
  }
  POSTRIDER_ASSERT(inquiry.asked() <= 9 * kMostAuthorDomains + 8 * kMostIdentifiers);
  return inquiry.result();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  auto lines = split(bytes, '\n');
  lines.resize(std::max<std::size_t>(lines.size(), 2));
  const auto authors = read_authors({lines[0]});
  POSTRIDER_ASSERT(authors.domains.size() <= kMostAuthorDomains);
  POSTRIDER_ASSERT(!authors.domains.empty() || !authors.are_well_formed());
  for (const auto& domain : authors.domains)
    POSTRIDER_ASSERT(can_be_asked(domain) && domain == claimed_domain(domain));
  std::vector<Identifier> identifiers;
  for (const auto word : split(lines[1], ' ')) {
    Identifier one;
    one.method = word.size() % 2 == 0 ? Identifier::Method::spf : Identifier::Method::dkim;
    one.domain = word;
    one.is_certain = !word.starts_with('?');
    identifiers.push_back(one);
  }
  const std::vector<std::string_view> records(lines.begin() + 2, lines.end());
  for (const auto record : records)
    (void)DmarcRecord::parse(record);
  const auto first = run(authors, identifiers, records, false);
  const auto second = run(authors, identifiers, records, true);
  POSTRIDER_ASSERT(first.size() == authors.domains.size() && second.size() == first.size());
  for (std::size_t i = 0; i < first.size(); ++i)
    POSTRIDER_ASSERT(first[i].result == second[i].result && first[i].applied == second[i].applied &&
                     first[i].policy_domain == second[i].policy_domain);
  return 0;
}
