#include "smtpd/side_jobs.h"

#include <utility>

namespace postrider::smtpd {

Task<bool> SideJobs::run(Lookups::Job job) {
  if (has_given_up_)
    co_return false;
  wait_ = std::make_shared<Lookups::Wait>();
  const bool has_ended = co_await lookups_.run(loop_, wait_, limit_, std::move(job));
  wait_.reset();
  co_return has_ended;
}

void SideJobs::give_up() {
  has_given_up_ = true;
  if (wait_)
    wait_->give_up();
}

}  // namespace postrider::smtpd
