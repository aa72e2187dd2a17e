#include "queue/writer/inbox.h"

namespace postrider::queue {

namespace {

constexpr Duration kSoon = std::chrono::milliseconds(3);
constexpr std::size_t kMany = 64;

}  // namespace

bool Inbox::is_empty() const {
  return submissions.empty() && records.empty() && sites.empty() && assignments.empty() &&
         quarantines.empty() && forgotten.empty() && changes.empty() && pauses.empty() &&
         settings.empty();
}

bool Inbox::is_urgent() const {
  return !submissions.empty() || !changes.empty() || !pauses.empty() || !settings.empty();
}

bool Inbox::is_many() const {
  return records.size() >= kMany;
}

void Inbox::clear() {
  submissions.clear();
  records.clear();
  sites.clear();
  assignments.clear();
  quarantines.clear();
  forgotten.clear();
  changes.clear();
  pauses.clear();
  settings.clear();
}

void SharedInbox::look_again() {
  give([this](Inbox&) {
    look_ = true;
    return Urgency::now;
  });
}

void SharedInbox::stop() {
  give([this](Inbox&) {
    stopping_ = true;
    return Urgency::now;
  });
}

SharedInbox::Taken SharedInbox::take(Inbox& work, Duration most, Busy busy) {
  Taken taken;
  std::unique_lock lock(mutex_);
  const auto is_awake = [this] { return sleep_ == Sleep::awake; };
  if (inbox_.is_empty() && !stopping_ && !look_ && busy == Busy::no) {
    sleep_ = Sleep::deep;
    if (most == Duration::max())
      wake_.wait(lock, is_awake);
    else
      taken.is_idle = !wake_.wait_for(lock, most, is_awake);
  }
  if (!taken.is_idle && !stopping_ && !look_ && !inbox_.is_urgent() && !inbox_.is_many() &&
      busy != Busy::with_more) {
    sleep_ = Sleep::light;
    wake_.wait_for(lock, kSoon, is_awake);
  }
  sleep_ = Sleep::awake;
  std::swap(inbox_, work);
  taken.look_again = std::exchange(look_, false);
  taken.is_stopping = stopping_;
  return taken;
}

}  // namespace postrider::queue
