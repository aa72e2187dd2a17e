#include "cli/header_recipients.h"

#include "base/text.h"
#include "cli/recipient_list.h"
#include "mail/header.h"

#include <algorithm>

namespace postrider::cli {

namespace {

bool is_one_of(std::string_view name, std::initializer_list<std::string_view> names) {
  for (const auto known : names)
    if (equals_ignoring_case(name, known))
      return true;
  return false;
}

}  // namespace

Result<HeaderRecipients> header_recipients(std::string_view content) {
  HeaderRecipients found;
  HeaderRecipients resent;
  bool is_resent = false;
  mail::HeaderScanner scanner(content);
  mail::HeaderField field;
  while (scanner.next(field)) {
    const auto name = trim(field.name);  // "Bcc : x" is obsolete, but Bcc
    const bool blind = is_one_of(name, {"bcc", "resent-bcc"});
    if (!blind)
      found.header.append(field.whole);
    const bool of_resent = is_one_of(name, {"resent-to", "resent-cc", "resent-bcc"});
    is_resent = is_resent || of_resent;
    if (!of_resent && !is_one_of(name, {"to", "cc", "bcc"}))
      continue;
    auto& to = of_resent ? resent : found;
    const auto before = to.wrong.size();
    if (auto gathered = gather_addresses(field.value, to.addresses, to.wrong); !gathered)
      return gathered.error().during(std::string(name) + " field");
    for (auto i = before; i < to.wrong.size(); ++i)
      to.wrong[i].insert(0, std::string(name) + " field: ");
  }
  found.consumed = scanner.consumed();
  if (is_resent) {
    found.addresses = std::move(resent.addresses);
    found.wrong = std::move(resent.wrong);
  }
  return found;
}

bool HeaderEnd::is_past(std::string_view content) {
  for (;;) {
    const auto end = content.find('\n', std::max(looked_at_, searched_));
    const auto line = content.substr(looked_at_, end == content.npos ? end : end + 1 - looked_at_);
    searched_ = content.size();
    // Of a line that has not ended yet, no more than a name's length decides; a lone CR may be half
    // of its end.
    if (end == content.npos && line.size() <= mail::kMostOfFieldName)
      return false;
    if (!mail::is_in_header(mail::judge_header_line(line, looked_at_ == 0)))
      return true;
    if (end == content.npos)
      return false;
    looked_at_ = searched_ = end + 1;
  }
}

}  // namespace postrider::cli
