// A notice is a clean message whatever the remote said and whatever the original holds. The input's
// lines become the strings of the notice; the rest is the original.
#include "base/assert.h"
#include "base/text.h"
#include "mail/header.h"
#include "mail/notice.h"

#include <algorithm>
#include <cstdint>

using namespace postrider;
using namespace postrider::mail;

namespace {

std::string take(std::string_view& rest) {
  const auto size = std::min(rest.find('|'), rest.size());
  std::string text(rest.substr(0, size));
  rest.remove_prefix(std::min(size + 1, rest.size()));
  return text;
}

void check(const std::string& notice, bool smtputf8, bool original_is_ascii) {
  POSTRIDER_ASSERT(notice.ends_with("--boundary--\r\n"));
  // The text may tell a remote's words in UTF-8; the report and the original are for everybody.
  const auto report = notice.find("\r\nContent-Description: Delivery report\r\n");
  POSTRIDER_ASSERT(report != std::string::npos);
  POSTRIDER_ASSERT(smtputf8 || is_ascii(notice.substr(0, header_section_size(notice))));
  POSTRIDER_ASSERT(smtputf8 || !original_is_ascii || is_ascii(notice.substr(report)));
  std::size_t line = 0;
  for (std::size_t i = 0; i < notice.size(); ++i) {
    const auto byte = static_cast<unsigned char>(notice[i]);
    if (byte == '\r') {
      POSTRIDER_ASSERT(notice[i + 1] == '\n' && line <= 998);
      line = 0;
      ++i;
      continue;
    }
    POSTRIDER_ASSERT(byte != '\n' && byte != 0);
    ++line;
  }
  POSTRIDER_ASSERT(notice.size() < 400000);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 1)
    return 0;
  std::string_view rest(reinterpret_cast<const char*>(data) + 1, size - 1);
  Message original;
  original.id = MessageId{1795440884000000};
  original.envelope.smtputf8 = (data[0] & 1U) != 0;
  original.envelope.ret = (data[0] & 2U) != 0 ? Return::headers : Return::full;
  original.envelope.sender = take(rest);
  original.envelope.envelope_id = take(rest);
  NoticeInput input;
  input.kind = static_cast<NoticeKind>((data[0] >> 2U) % 3);
  input.original = &original;
  input.to = take(rest).substr(0, 512);  // a path is shorter
  input.reporting_mta = "mx.test";
  input.boundary = "boundary";
  input.id = MessageId{1795440885000000};
  NoticeRecipient one;
  one.recipient.address = take(rest);
  one.recipient.original_recipient = take(rest);
  one.outcome.remote = take(rest);
  one.outcome.text = take(rest);
  one.outcome.reply.text = take(rest);
  one.outcome.reply.code = (data[0] & 32U) != 0 ? 550 : 0;
  one.outcome.stage = Stage::rcpt;
  input.recipients.push_back(one);
  input.original_text = rest;
  std::size_t longest = 0;
  for (const auto line : split(rest, '\n'))
    longest = std::max(longest, line.size());
  original.content.longest_line = static_cast<std::uint32_t>(longest);
  original.content.has_8bit_header = !is_ascii(rest.substr(0, header_section_size(rest)));
  check(compose_notice(input), original.envelope.smtputf8, is_ascii(rest));
  return 0;
}
