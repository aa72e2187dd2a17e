#include "smtpd/session/filter_gate.h"

#include "base/assert.h"

#include <optional>
#include <utility>

namespace postrider::smtpd {

namespace {

std::optional<filter::Stage> stage_of(std::string_view verb) {
  using filter::Stage;
  if (verb == "MAIL")
    return Stage::mail;
  if (verb == "RCPT")
    return Stage::recipient;
  if (verb == "DATA")
    return Stage::data;
  if (verb == "EHLO" || verb == "HELO")
    return Stage::helo;
  if (verb == "CONNECT")
    return Stage::connect;
  return std::nullopt;
}

}  // namespace

Step FilterGate::pass(const Step& step, std::string_view verb, std::string_view argument,
                      bool has_added_recipient) {
  if (stages_ == 0 || step.reply.empty() || step.reply.front() > '3' || step.next == Next::hang_up)
    return step;
  const auto stage = stage_of(verb);
  if (!stage || (stages_ & filter::bit(*stage)) == 0)
    return step;
  if (*stage == filter::Stage::recipient && !has_added_recipient)
    return step;  // nothing new
  held_ = std::make_unique<Held>(Held{*stage, verb, std::string(argument), std::string(step.reply),
                                      step.next, has_added_recipient});
  return {{}, Next::filter};
}

FilterGate::Held FilterGate::release() {
  POSTRIDER_ASSERT(held_ != nullptr);
  return std::move(*std::exchange(held_, nullptr));
}

}  // namespace postrider::smtpd
