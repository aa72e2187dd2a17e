#include "delivery/local/forward_seal.h"

#include "base/text.h"
#include "mail/header.h"
#include "mailauth/auth_results.h"
#include "mailauth/message_hasher.h"

#include <algorithm>
#include <optional>
#include <vector>

namespace postrider::delivery {

namespace {

using mailauth::ChainReport;
using mailauth::ChainResult;
using mailauth::MethodResult;

Result<void> feed(mailauth::MessageHasher& hasher, const mail::Message& message,
                  const OpenBody& open_body) {
  hasher.feed(message.content.trace);
  if (message.content.bytes) {
    hasher.feed(*message.content.bytes);
    hasher.finish();
    return {};
  }
  const auto file = open_body(message);
  if (!file)
    return file.error();
  std::string block(kBodyBlock, '\0');
  for (;;) {
    const auto got = read_block(*file, block);
    if (!got)
      return got.error();
    if (*got == 0)
      break;
    hasher.feed(std::string_view(block).substr(0, *got));
  }
  hasher.finish();
  return {};
}

// What our trace says of the message; nothing: it was not looked at.
std::optional<std::vector<MethodResult>> own_results(std::string_view trace,
                                                     std::string_view authserv_id) {
  mail::HeaderScanner scanner(trace);
  mail::HeaderField field;
  while (scanner.next(field)) {
    if (!equals_ignoring_case(field.name, "Authentication-Results"))
      continue;
    auto parsed = mailauth::parse_authentication_results(field.value);
    if (parsed && equals_ignoring_case(parsed->authserv_id, authserv_id))
      return std::move(parsed->results);
  }
  return std::nullopt;
}

bool has_seal_of_ours(std::string_view trace) {
  mail::HeaderScanner scanner(trace);
  mail::HeaderField field;
  while (scanner.next(field))
    if (equals_ignoring_case(field.name, "ARC-Seal"))
      return true;
  return false;
}

ChainResult result_named(std::string_view word) {
  return word == "pass"   ? ChainResult::pass
         : word == "fail" ? ChainResult::fail
                          : ChainResult::temperror;
}

// The chain as it was found when the message came; a chain that was not looked at then is one that
// could not be verified.
ChainReport report_of(const mailauth::ArcChain& chain, std::vector<MethodResult>& results) {
  ChainReport report;
  report.sets = chain.sets.size();
  const auto told = std::find_if(results.begin(), results.end(),
                                 [](const auto& each) { return each.method == "arc"; });
  if (told != results.end())
    report.result = result_named(told->result);
  else if (!chain.empty())
    report.result = ChainResult::temperror;
  else
    results.push_back({"arc", "none"});
  if (report.result == ChainResult::pass && !chain.fault.empty())
    report.result = ChainResult::fail;
  return report;
}

// Verifiers need not know any other algorithm (RFC 8617 §4.1.3, RFC 8463).
const mailauth::SigningKey* sealing_key(const mailauth::Signer& signer, std::string_view domain) {
  const auto* keys = signer.keys_for(domain);
  if (keys == nullptr)
    return nullptr;
  const auto rsa = std::find_if(keys->begin(), keys->end(), [](const auto& each) {
    return each.key.type() == mailauth::KeyType::rsa;
  });
  return rsa == keys->end() ? &keys->front() : &*rsa;
}

}  // namespace

Result<Seal> ForwardSealer::seal(const mail::Message& message, const OpenBody& open_body,
                                 TimePoint now) const {
  const auto& trace = message.content.trace;
  auto results = own_results(trace, authserv_id_);
  if (!results || has_seal_of_ours(trace))
    return Seal();
  const auto signer = keys_ ? keys_->now() : nullptr;
  const auto* key = signer ? sealing_key(*signer, domain_) : nullptr;
  if (key == nullptr)
    return Seal{{}, "there is no DKIM key of " + domain_};
  mailauth::MessageHasher hasher({.body = signer->body_form()});
  if (auto done = feed(hasher, message, open_body); !done)
    return done.error();
  if (hasher.header().too_large())
    return Seal{{}, "the header section is too large"};
  const auto report = report_of(mailauth::read_arc_chain(hasher.header()), *results);
  auto fields = mailauth::seal_arc(hasher.header(), report, hasher.body_digest(), *key,
                                   authserv_id_, *results, signer->options(), now);
  if (!fields)
    return Seal{{}, fields.error().step()};
  return Seal{*std::move(fields), {}};
}

}  // namespace postrider::delivery
