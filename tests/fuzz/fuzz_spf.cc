// The first line is a client, HELO and MAIL FROM, separated by spaces; every other line is a TXT
// record, for whatever name is asked in turn. The check ends, within its limits, with the same
// result in any order of answers; what is asked can be asked.
#include "base/assert.h"
#include "base/text.h"
#include "mailauth/dns_name.h"
#include "mailauth/spf.h"

#include <algorithm>
#include <cstdint>

using namespace postrider;
using namespace postrider::mailauth;

namespace {

Answer answer_to(const Question& question, const std::vector<std::string_view>& records) {
  Answer answer;
  const std::size_t sum = question.name.size();
  if (sum % 7 == 6)
    return Answer::none(Answer::Status::no_name);
  answer.status = Answer::Status::found;
  switch (question.type) {
    case Type::txt:
      if (records.empty())
        return Answer::none(Answer::Status::no_data);
      answer.texts.emplace_back(records[sum % records.size()]);
      break;
    case Type::a:
      answer.addresses.push_back(IpAddress::parse("192.0.2." + std::to_string(sum)).value());
      break;
    case Type::aaaa:
      answer.addresses.push_back(IpAddress::parse("2001:db8::" + std::to_string(sum)).value());
      break;
    case Type::mx:
    case Type::ptr:
      for (std::size_t i = 0; i < sum % 13; ++i)
        answer.hosts.push_back("h" + std::to_string(i) + "." + question.name.substr(sum / 2));
      break;
  }
  return answer;
}

SpfVerdict run(const IpAddress& client, const std::string& helo, const std::string& from,
               const std::vector<std::string_view>& records, bool latest_first) {
  Inquiry<SpfVerdict> inquiry(check_mail_from(client, helo, from));
  std::vector<Questions::Posed> open;
  while (!inquiry.done()) {
    for (auto& posed : inquiry.take())
      open.push_back(std::move(posed));
    if (latest_first)
      std::reverse(open.begin(), open.end());
    for (const auto& posed : open) {
      POSTRIDER_ASSERT(can_be_asked(posed.question.name));
      inquiry.answer(posed.id, answer_to(posed.question, records));
    }
    open.clear();
  }
  POSTRIDER_ASSERT(inquiry.asked() <= 1 + 10 + 10 * 10 + 11);
  return inquiry.result();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  auto records = split(bytes, '\n');
  auto identity = split(records.front(), ' ');
  identity.resize(3);
  records.erase(records.begin());
  auto client = IpAddress::parse(identity[0]);
  if (!client)
    client = IpAddress::parse("192.0.2.9");
  const std::string helo(identity[1]), from(identity[2]);
  const auto first = run(*client, helo, from, records, false);
  const auto second = run(*client, helo, from, records, true);
  POSTRIDER_ASSERT(first.result == second.result && first.directive == second.directive);
  for (const auto record : records) {
    if (SpfRecord::is_one(record))
      (void)SpfRecord::parse(record);
    (void)DomainSpec::parse(record);
  }
  return 0;
}
