// What the ends of attempts say of the site: the reply table's word on outcomes. Pure.
#pragma once

#include "delivery/evidence.h"
#include "delivery/job/job.h"
#include "delivery/scheduler/reply_class.h"
#include "mail/outcome.h"

#include <string_view>

namespace postrider::delivery {

// "mx1.example.org" of "mx1.example.org[192.0.2.1]:25".
std::string_view host_of_remote(std::string_view remote);

// Requires: it is not delivered. is_first_try: of this message.
scheduler::ReplyMeaning meaning_of(const mail::Outcome& outcome, bool is_first_try);

// Whether another host of the site may take a message that one has refused, so that it is asked at
// once: what was refused for now behind MAIL, and what the reply table says is of the host or of our
// address. Not where the site's rate, or what it thinks of us, is the reason: that is known to all
// its hosts, and asking twice makes it worse.
bool may_pass_elsewhere(const mail::Outcome& outcome);

// The refusal among the results of a job that says most of its site; nullptr: none was refused by a
// reply, but for its rate by one that is of an address or a mailbox by its enhanced code.
struct WeightiestRefusal {
  const mail::Outcome* outcome = nullptr;
  scheduler::ReplyMeaning meaning;
  // For the rate, or for what the site thinks of us: one sender may have met it for his own sake.
  bool may_be_of_one() const;
};
WeightiestRefusal weightiest_refusal(const JobEnd& end);

// Notes whom refusals of that kind met, among the results of a job, and whose mail was taken.
// Returns the widest that one of them is.
Evidence::Scope weigh_evidence(Evidence& evidence, const JobEnd& end, SteadyTime now);
// The conversation broke, or was ended by a 421, while it carried the message: the same of that.
Evidence::Scope weigh_break(Evidence& evidence, const JobEnd& end, SteadyTime now);
void note_taken(Evidence& evidence, const JobEnd& end, SteadyTime now);

}  // namespace postrider::delivery
