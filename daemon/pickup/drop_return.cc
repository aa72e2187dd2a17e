#include "daemon/pickup/drop_return.h"

#include "base/text.h"
#include "daemon/pickup/submit_content.h"
#include "mail/address.h"
#include "mail/notice.h"

#include <cerrno>
#include <unistd.h>

namespace postrider::daemon {

namespace {

constexpr std::size_t kMostQuoted = 64U << 10U;
constexpr std::size_t kMostNamed = 1000;  // recipients, in the notice

// What can be had of it: the file may be cut, or go on behind its end.
std::string beginning_of(const DropFile& unfit) {
  std::string text(std::min<std::uint64_t>(unfit.header.size, kMostQuoted), '\0');
  std::size_t size = 0;
  while (size < text.size()) {
    const auto got = ::pread(unfit.file.get(), text.data() + size, text.size() - size,
                             static_cast<off_t>(unfit.content + size));
    if (got < 0 && errno == EINTR)
      continue;
    if (got <= 0)
      break;
    size += static_cast<std::size_t>(got);
  }
  text.resize(size);
  return text;
}

// As it would have been sent.
std::string clean(std::string_view raw, mail::Content& about) {
  SubmitContent content;
  std::string text;
  content.feed(raw, text);
  content.finish(text);
  const auto& facts = content.body();
  about.size = facts.size;
  about.has_8bit = facts.has_8bit;
  about.has_8bit_header = facts.has_8bit_header;
  about.longest_line = facts.longest_line;
  about.ends_with_crlf = facts.ends_with_crlf;
  return text;
}

// A sender that is not an address is not who wrote it: that one is named for the From field.
std::string who_sent(const SubmitHeader& header, const std::string& origin) {
  if (header.sender.empty())
    return {};
  if (auto sender = complete_address(header.sender, origin))
    return std::move(*sender);
  auto author = mail::parse_mailbox(header.author, true);
  return author ? std::move(*author) : std::string();
}

mail::Outcome outcome_of(const Error& why) {
  mail::Outcome outcome;
  outcome.verdict = mail::Verdict::bounce;
  outcome.stage = mail::Stage::local;
  outcome.status = why.code() == Errc::too_long  ? mail::EnhancedCode{5, 3, 4}
                   : why.code() == Errc::refused ? mail::EnhancedCode{5, 7, 1}
                                                 : mail::EnhancedCode{5, 6, 0};
  outcome.text =
      "the message was left while the mail system was down or busy, and it cannot be "
      "taken: " +
      why.describe();
  return outcome;
}

std::vector<mail::NoticeRecipient> recipients_of(const DropFile& unfit, const Error& why,
                                                 const std::string& origin, TimePoint now) {
  const auto outcome = outcome_of(why);
  std::vector<mail::NoticeRecipient> recipients;
  for (const auto& address : unfit.header.recipients) {
    if (recipients.size() == kMostNamed)
      break;
    const auto dsn = dsn_of(unfit.header, address);
    if (!dsn.notify.failure())
      continue;
    auto whole = complete_address(address, origin);
    const auto shown = whole ? *whole : escaped(address, 100);
    recipients.push_back({{shown, dsn.original_recipient, dsn.notify}, outcome, now, {}, "failed"});
  }
  if (unfit.header.recipients.empty())
    recipients.push_back({{"nobody", {}, {}}, outcome, now, {}, "failed"});
  return recipients;
}

}  // namespace

std::optional<queue::Submission> return_to_sender(const DropFile& unfit, const Error& why,
                                                  const SubmitSettings& settings,
                                                  mail::MessageId id, Random& random,
                                                  TimePoint now) {
  mail::Message original;
  original.envelope.sender = who_sent(unfit.header, settings.origin);
  const auto to =
      original.envelope.sender.empty() ? settings.double_bounce : original.envelope.sender;
  auto recipients = recipients_of(unfit, why, settings.origin, now);
  if (to.empty() || recipients.empty())
    return std::nullopt;
  original.id = id;
  original.received = now;
  original.envelope.smtputf8 = !is_ascii(to);
  original.envelope.ret = unfit.header.ret;
  const auto raw = beginning_of(unfit);
  const auto text = clean(raw, original.content);
  mail::NoticeInput input;
  input.original = &original;
  input.original_text = text;
  input.original_complete = raw.size() == unfit.header.size;
  input.recipients = std::move(recipients);
  input.reporting_mta = settings.hostname;
  input.boundary = to_string(id) + "." + std::to_string(random.next()) + "/postrider";
  input.id = id;
  input.now = now;
  input.to = to;
  queue::Submission notice;
  notice.message =
      mail::notice_message(mail::compose_notice(input), id, to, now, mail::TlsWish::unspecified);
  return notice;
}

}  // namespace postrider::daemon
