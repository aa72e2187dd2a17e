// The first line is a DMARC record, the others are what messages say of themselves. The report is
// well-formed whatever that is, and holds no more than its limit; reports go to mailboxes only, of
// the domain itself or of hosts that were asked.
#include "base/assert.h"
#include "base/text.h"
#include "mail/address.h"
#include "mailauth/dmarc_destinations.h"
#include "mailauth/dmarc_tally.h"
#include "mailauth/dns_list.h"
#include "mailauth/dns_name.h"

#include <cstdint>
#include <string>
#include <vector>

using namespace postrider;
using namespace postrider::mailauth;

namespace {

// Each element is closed by its own name, and there is nothing else that looks like one.
void check_well_formed(std::string_view xml) {
  POSTRIDER_ASSERT(is_utf8(xml));
  std::vector<std::string_view> open;
  for (std::size_t at = xml.find('<'); at != std::string_view::npos; at = xml.find('<', at + 1)) {
    const auto end = xml.find('>', at);
    POSTRIDER_ASSERT(end != std::string_view::npos);
    const auto name = xml.substr(at + 1, end - at - 1);
    if (name.starts_with('?'))
      continue;
    if (!name.starts_with('/')) {
      open.push_back(name.substr(0, name.find(' ')));
      continue;
    }
    POSTRIDER_ASSERT(!open.empty() && open.back() == name.substr(1));
    open.pop_back();
  }
  POSTRIDER_ASSERT(open.empty());
  for (const char c : xml)
    POSTRIDER_ASSERT(static_cast<unsigned char>(c) >= ' ' || c == '\n' || c == '\t');
}

void check_report(const DmarcRecord& record, const std::vector<std::string_view>& lines) {
  ReportTally::Limits limits;
  limits.rows = 8;
  ReportTally tally(limits);
  DmarcVerdict verdict;
  verdict.result = lines.size() % 2 == 0 ? DmarcResult::fail : DmarcResult::pass;
  verdict.policy_domain = "example.com";
  verdict.record = record;
  for (const auto line : lines) {
    verdict.author_domain = line;
    SpfVerdict spf;
    spf.domain = line;
    SignatureReport signature;
    signature.domain = line;
    signature.selector = line;
    Treatment treatment;
    treatment.comment = line;
    const auto client = IpAddress::parse("192.0.2.1").value();
    tally.add(published_policy(verdict), report_row(verdict, client, spf, {signature}, treatment));
  }
  ReportHead head;
  head.organisation = head.contact = head.submitter = head.id = lines.front();
  for (const auto& [key, policy] : tally.policies()) {
    const auto xml = report_xml(head, policy, 4000);
    check_well_formed(xml);
    POSTRIDER_ASSERT(xml.size() < 4000 + 4000 + 12 * head.organisation.size());
  }
}

void check_destinations(const DmarcRecord& record, const std::vector<std::string_view>& lines) {
  std::vector<std::string> rua;
  for (const auto& uri : record.rua) {
    POSTRIDER_ASSERT(parse_report_uri(uri.text));
    rua.push_back(uri.text);
  }
  Inquiry<ReportDestinations> inquiry(report_destinations("example.com", rua));
  while (!inquiry.done())
    for (const auto& posed : inquiry.take()) {
      POSTRIDER_ASSERT(can_be_asked(posed.question.name));
      Answer answer = Answer::none(Answer::Status::no_name);
      if (posed.question.name.size() % 3 == 0) {
        answer.status = Answer::Status::found;
        answer.texts.emplace_back(lines[posed.question.name.size() % lines.size()]);
      }
      inquiry.answer(posed.id, std::move(answer));
    }
  POSTRIDER_ASSERT(inquiry.asked() <= 17 * kMostReportUris);
  for (const auto& mailbox : inquiry.result().mailboxes)
    POSTRIDER_ASSERT(is_ascii(mailbox.address) && mail::parse_mailbox(mailbox.address, false));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  const auto lines = split(bytes, '\n');
  for (const auto line : lines)
    if (const auto list = DnsList::parse(line))
      POSTRIDER_ASSERT(!list->counts(IpAddress::parse("127.0.0.1").value()) &&
                       listing_name(IpAddress::parse("192.0.2.1").value(), list->zone()));
  if (const auto record = DmarcRecord::parse(lines.front())) {
    check_report(*record, lines);
    check_destinations(*record, lines);
  }
  return 0;
}
