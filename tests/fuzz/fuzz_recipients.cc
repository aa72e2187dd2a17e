// What users type and write into headers: address lists, headers for -t, input with lone dots, SMTP
// on standard input.
#include "cli/header_recipients.h"
#include "cli/message_input.h"
#include "cli/recipient_list.h"
#include "cli/smtp_dialog.h"

#include <cstddef>
#include <cstdint>
#include <cstdlib>

using namespace postrider;
using namespace postrider::cli;

namespace {

void require(bool condition) {
  if (!condition)
    std::abort();
}

void check_list(std::string_view text) {
  std::vector<std::string> addresses;
  if (!parse_address_list(text, addresses))
    return;
  for (const auto& address : addresses) {
    require(!address.empty() && address.size() <= 1024);
    std::vector<std::string> again;
    const auto parsed = parse_address_list(address, again);
    require(parsed && again.size() <= 1);
  }
}

void check_header(std::string_view text) {
  const auto found = header_recipients(text);
  if (!found)
    return;
  require(found->consumed <= text.size() && found->header.size() <= found->consumed);
  const auto again = header_recipients(found->header);
  require(again && again->header == found->header);  // nothing blind is left
}

void check_input(std::string_view text) {
  for (const bool dots_are_content : {false, true}) {
    std::string whole;
    std::string pieces;
    MessageInput one(dots_are_content);
    MessageInput other(dots_are_content);
    if (one.feed(text, whole))
      one.finish(whole);
    bool more = true;
    for (std::size_t at = 0; at < text.size() && more; ++at)
      more = other.feed(text.substr(at, 1), pieces);
    if (more)
      other.finish(pieces);
    require(whole == pieces);
  }
}

void check_dialog(std::string_view text) {
  SmtpDialog dialog("mx.test", "me@mx.test", 1U << 20U,
                    [](daemon::SubmitHeader header, const ContentStore&) {
                      require(!header.recipients.empty());
                      daemon::SubmitAnswer answer;
                      answer.id = "X";
                      return answer;
                    });
  std::string out;
  dialog.feed(text, out);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  check_list(text);
  check_header(text);
  check_input(text);
  check_dialog(text);
  return 0;
}
