// What the ends of attempts say of the site: the reply table's word on outcomes. Pure.
#pragma once

#include "delivery/job/job.h"
#include "delivery/scheduler/reply_class.h"
#include "mail/outcome.h"

#include <string_view>

namespace postrider::delivery {

// "mx1.example.org" of "mx1.example.org[192.0.2.1]:25".
std::string_view host_of_remote(std::string_view remote);

// Requires: it is not delivered. is_first_try: of this message.
scheduler::ReplyMeaning meaning_of(const mail::Outcome& outcome, bool is_first_try);

// Whether a refusal of the message says that it is of one sender or of one mailbox, so that it means
// nothing for the site's other mail: it has the address of one, or a word for one.
bool is_of_one(const mail::Outcome& outcome, std::string_view sender, std::string_view recipient);

// Whether another host of the site may take a message that one has refused, so that it is asked at
// once: what was refused for now behind MAIL, and what the reply table says is of the host or of our
// address. Not where the site's rate, or what it thinks of us, is the reason: that is known to all
// its hosts, and asking twice makes it worse.
bool may_pass_elsewhere(const mail::Outcome& outcome);

// The refusal among the results of a job that says most of its site; nullptr: none was refused by a
// reply, but for its rate by one that is of one sender or one mailbox.
struct WeightiestRefusal {
  const mail::Outcome* outcome = nullptr;
  scheduler::ReplyMeaning meaning;
};
WeightiestRefusal weightiest_refusal(const JobEnd& end);

}  // namespace postrider::delivery
