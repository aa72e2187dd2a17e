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

// The refusal among the results of a job that says most of its site; nullptr: none was refused by a
// reply.
struct WeightiestRefusal {
  const mail::Outcome* outcome = nullptr;
  scheduler::ReplyMeaning meaning;
};
WeightiestRefusal weightiest_refusal(const JobEnd& end);

}  // namespace postrider::delivery
