#include "delivery/local_runner.h"

#include "base/probe.h"
#include "base/text.h"
#include "delivery/local/agents/local_file.h"
#include "mail/address.h"

#include <algorithm>
#include <atomic>

namespace postrider::delivery {

using mail::Verdict;

namespace {

constexpr unsigned kOfOnePlace = 2;
constexpr unsigned kLeastSlots = 2;  // one that no command takes
constexpr auto kLookAgain = std::chrono::seconds(1);
// A mailbox has no time limit of its own; a large message on a slow disk takes its time.
constexpr Duration kMailboxTime = std::chrono::minutes(2);
// For the other recipients of the message, so that they travel together.
constexpr Duration kGather{200};
constexpr Duration kBusyAgain = std::chrono::minutes(1);

}  // namespace

struct LocalRunner::Work {
  Job job;                        // one recipient
  std::vector<Share> shares;      // as far as they are known
  std::vector<std::string> held;  // on the loop, or on the pool while it runs there
  std::string exhausted;          // the share that stopped it
  std::atomic<bool> is_command{false};
  std::unique_ptr<Deadline> deadline;
  bool had_more_time = false, has_lapsed = false;
};

namespace {

// How many of so many slots one address or place may hold.
unsigned of_one_place(unsigned slots) {
  return std::min(kOfOnePlace, slots / kLeastSlots);
}

// What is known before the address has been followed.
Share first_share(const Job& job, unsigned slots) {
  const auto& address = job.message->envelope.recipients[job.recipients.front()].address;
  const auto local_part = mail::local_part_of(address);
  const auto name = local_part.substr(0, std::max<std::size_t>(local_part.find('+'), 1));
  return {"address:" + ascii_lower(name) + "@" + mail::domain_of(address), of_one_place(slots)};
}

LocalRunner::Limits with_a_place_for_mailboxes(LocalRunner::Limits limits) {
  limits.slots = std::max(kLeastSlots, limits.slots);
  return limits;
}

LocalResult deferred(std::string text) {
  LocalResult result;
  result.outcome = local_end(Verdict::retry, {4, 3, 0}, std::move(text));
  result.again_within = kBusyAgain;
  return result;
}

}  // namespace

LocalRunner::LocalRunner(Loop& home, const Clock& clock, Limits limits, Host host)
    : home_(home),
      clock_(clock),
      limits_(with_a_place_for_mailboxes(limits)),
      threads_(2 * limits_.slots),
      host_(std::move(host)),
      pool_(std::make_unique<BlockingPool>(threads_)) {}

LocalRunner::~LocalRunner() {
  for (auto& work : begun_)
    work->deadline.reset();
}

void LocalRunner::add(Job job) {
  open_[job.lease] += job.recipients.size();
  for (const auto index : job.recipients) {
    auto work = std::make_shared<Work>();
    work->job = job;
    work->job.recipients = {index};
    work->job.handed_over = clock_.steady();
    work->shares = {first_share(work->job, limits_.slots)};
    const auto lane = work->shares.front().name;
    put(std::move(work), lane);
  }
  start();
}

void LocalRunner::put(std::shared_ptr<Work> work, const std::string& lane) {
  auto& to = lanes_[lane];
  if (to.works.empty())
    rotation_.push_back(lane);
  to.works.push_back(std::move(work));
}

std::shared_ptr<LocalRunner::Work> LocalRunner::take_front(const std::string& lane) {
  auto& works = lanes_.at(lane).works;
  auto work = std::move(works.front());
  works.pop_front();
  if (works.empty())
    lanes_.erase(lane);
  else
    rotation_.push_back(lane);
  return work;
}

// Lanes take turns; one whose share is exhausted stands aside until something ends there.
void LocalRunner::start() {
  while (has_room() && !rotation_.empty() && !is_draining_) {
    const auto name = std::move(rotation_.front());
    rotation_.pop_front();
    auto& lane = lanes_.at(name);
    auto& front = *lane.works.front();
    const auto* exhausted = shares_->enter(front.shares, front.held);
    if (exhausted == nullptr) {
      begin(take_front(name));
    } else if (exhausted->name == name) {
      block(lane);
    } else {
      const auto other = exhausted->name;
      put(take_front(name), other);
    }
  }
}

void LocalRunner::block(Lane& lane) {
  lane.is_blocked = true;
  lane.since = clock_.steady();
  if (!look_again_)
    look_again_ = std::make_unique<Deadline>(home_.deadlines(), [this] { defer_stalled(); });
  if (!look_again_->is_set())
    look_again_->set(kLookAgain);
}

void LocalRunner::begin(const std::shared_ptr<Work>& work) {
  ++running_;
  POSTRIDER_PROBE3(attempt_begin, work->job.message->id.value, "", work->job.recipients.size());
  begun_.push_back(work);
  work->shares = {first_share(work->job, limits_.slots)};
  auto delivery = host_.prepare(work->job);
  const auto of_user = std::max(1U, limits_.slots / 4);
  const auto of_place = of_one_place(limits_.slots);
  const auto commands = limits_.slots - of_user;
  // On the pool, once it is known where the address leads.
  const auto root = history_->root_of(work->job.message->id.value);
  delivery.was_done = [history = history_, root](const std::string& deed) {
    return history->was_done(root, deed);
  };
  delivery.may_go_on = [shares = shares_, work, of_user, of_place, commands,
                        root](const LocalClaim& claim) {
    if (!claim.user.empty())
      work->shares.push_back({"user:" + claim.user, of_user});
    if (!claim.place.empty())
      work->shares.push_back({"place:" + claim.place, of_place});
    if (!claim.deed.empty())
      work->shares.push_back({std::to_string(root) + " " + claim.deed, 1});
    if (claim.sends_on)
      work->shares.push_back({std::to_string(root) + " onward", 1});
    if (claim.is_command)
      work->shares.push_back({"commands", commands});
    const auto* exhausted = shares->enter(work->shares, work->held);
    work->exhausted = exhausted == nullptr ? std::string() : exhausted->name;
    work->is_command = claim.is_command;
    return exhausted == nullptr;
  };
  work->deadline =
      std::make_unique<Deadline>(home_.deadlines(), [this, weak = std::weak_ptr<Work>(work)] {
        if (const auto late = weak.lock())
          on_time(late);
      });
  work->deadline->set(delivery.limits.time + limits_.beyond);
  pool_->post([delivery = std::move(delivery), work, &home = home_, weak = weak_from_this()] {
    auto result = std::make_shared<LocalResult>(deliver_locally(delivery));
    home.post([work, weak, result] {
      if (const auto self = weak.lock())
        self->finished(work, std::move(*result));
    });
  });
}

void LocalRunner::finished(const std::shared_ptr<Work>& work, LocalResult result) {
  POSTRIDER_PROBE4(attempt_end, work->job.message->id.value, "", result.is_busy ? 0 : 1,
                   result.is_busy ? 1 : 0);
  work->deadline.reset();
  std::erase(begun_, work);
  if (!work->has_lapsed)
    remember(*work, result);
  release(*work);
  if (work->has_lapsed) {
    --lapsed_;
    start();
    return;
  }
  --running_;
  if (!result.is_busy)
    end(work->job, std::move(result));
  else if (is_draining_)
    put_back(work->job);
  else
    put(work, work->exhausted);
  start();
}

void LocalRunner::remember(const Work& work, const LocalResult& result) {
  if (result.is_busy || result.outcome.verdict != Verdict::delivered)
    return;
  const auto root = history_->root_of(work.job.message->id.value);
  for (const auto& submission : result.onward)
    history_->note_child(submission.message->id.value, root, clock_.steady());
  const bool may_come_again = !result.onward.empty() ||
                              work.job.message->envelope.recipients.size() > 1 ||
                              root != work.job.message->id.value;
  if (!result.deed.empty() && may_come_again)
    history_->note_done(root, result.deed, clock_.steady());
  for (const auto& deed : result.sent_on)
    history_->note_done(root, deed, clock_.steady());
}

// It has had the time of a command.
void LocalRunner::on_time(const std::shared_ptr<Work>& work) {
  if (!work->is_command && !std::exchange(work->had_more_time, true)) {
    work->deadline->set(kMailboxTime);
    return;
  }
  work->has_lapsed = true;
  --running_;
  ++lapsed_;
  end(work->job, deferred("the delivery does not end"));
  start();
}

// Whether it was the last recipient of its lease.
bool LocalRunner::close(const Job& job) {
  const auto found = open_.find(job.lease);
  if (--found->second > 0)
    return false;
  open_.erase(found);
  return true;
}

void LocalRunner::put_back(const Job& job) {
  const bool was_last = close(job);
  host_.put_back(job);
  if (was_last)
    hand_over_all_of(job.lease);
}

void LocalRunner::end(const Job& job, LocalResult result) {
  const bool was_last = close(job);
  if (!result.lmtp.empty())
    collect(job, result.lmtp);
  else
    host_.ended(job, std::move(result));
  if (was_last)
    hand_over_all_of(job.lease);
}

void LocalRunner::release(Work& work) {
  const auto held = work.held;
  shares_->leave(work.held);
  for (const auto& name : held) {
    const auto lane = lanes_.find(name);
    if (lane == lanes_.end() || !std::exchange(lane->second.is_blocked, false))
      continue;
    rotation_.push_back(name);
  }
}

// Mail for a place where nothing ends goes back to the queue, which has room for other mail then.
void LocalRunner::defer_stalled() {
  const auto before = clock_.steady() - limits_.stall;
  std::vector<std::shared_ptr<Work>> stalled;
  bool has_blocked = false;
  std::erase_if(lanes_, [&](auto& entry) {
    auto& lane = entry.second;
    if (!lane.is_blocked)
      return false;
    if (lane.since > before) {
      has_blocked = true;
      return false;
    }
    stalled.insert(stalled.end(), lane.works.begin(), lane.works.end());
    return true;
  });
  if (has_blocked)
    look_again_->set(kLookAgain);
  for (const auto& work : stalled)
    end(work->job, deferred("waits for earlier deliveries to the same place, which do not end"));
}

void LocalRunner::collect(const Job& job, const std::string& server) {
  const GroupKey key(job.lease, server);
  auto& group = groups_[key];
  if (!group.deadline) {
    group.job = job;
    group.deadline = std::make_unique<Deadline>(home_.deadlines(), [this, key] { hand_over(key); });
    group.deadline->set(kGather);
    return;
  }
  group.job.recipients.push_back(job.recipients.front());
}

void LocalRunner::hand_over(const GroupKey& key) {
  auto group = groups_.extract(key);
  host_.to_lmtp(key.second, std::move(group.mapped().job));
}

void LocalRunner::hand_over_all_of(std::uint64_t lease) {
  for (auto at = groups_.lower_bound({lease, {}}); at != groups_.end() && at->first.first == lease;
       at = groups_.lower_bound({lease, {}}))
    hand_over(GroupKey(at->first));
}

std::deque<Job> LocalRunner::take_waiting(
    const std::function<bool(std::uint64_t lease)>& is_wanted) {
  std::deque<Job> taken;
  for (auto lane = lanes_.begin(); lane != lanes_.end();) {
    auto& works = lane->second.works;
    std::erase_if(works, [&](const auto& work) {
      if (!is_wanted(work->job.lease))
        return false;
      taken.push_back(std::move(work->job));
      return true;
    });
    if (!works.empty()) {
      ++lane;
      continue;
    }
    std::erase(rotation_, lane->first);
    lane = lanes_.erase(lane);
  }
  for (const auto& job : taken)
    close(job);
  // Gathered for a server, and counted no more.
  for (auto group = groups_.begin(); group != groups_.end();) {
    if (!is_wanted(group->first.first)) {
      ++group;
      continue;
    }
    taken.push_back(std::move(group->second.job));
    group = groups_.erase(group);
  }
  return taken;
}

void LocalRunner::each_waiting(const std::function<void(const Job&)>& visit) const {
  for (const auto& [name, lane] : lanes_)
    for (const auto& work : lane.works)
      visit(work->job);
  for (const auto& [key, group] : groups_)
    visit(group.job);
}

void LocalRunner::drain() {
  is_draining_ = true;
  look_again_.reset();
  rotation_.clear();
  const auto lanes = std::exchange(lanes_, {});
  for (const auto& [name, lane] : lanes)
    for (const auto& work : lane.works)
      put_back(work->job);
  while (!groups_.empty())
    hand_over(GroupKey(groups_.begin()->first));
}

}  // namespace postrider::delivery
