// The jobs that wait for a site, and whose turn it is: senders take turns by deficit round robin, with the size as the
// cost; of one sender the classes do. A class orders the mail of its sender alone: it gives him no larger share of the
// site than another has, and one that says it can wait a smaller one. Nobody starves; a sender who comes new is before
// those who had their turn, but for some turns of theirs. Pure.
#pragma once

#include "base/time.h"
#include "mail/urgency.h"

#include <array>
#include <cstdint>
#include <list>
#include <optional>
#include <unordered_map>
#include <vector>

namespace postrider::scheduler {

using JobClass = mail::Urgency;  // weights 8, 4, 2, 1 among the mail of one sender
inline constexpr std::size_t kJobClasses = 4;

struct SiteJob {
  std::uint64_t id = 0;
  std::uint64_t message = 0;  // for the one jitter of a message and site
  std::uint64_t sender = 0;   // hash of user, client network or envelope domain
  JobClass klass = JobClass::normal;
  std::uint32_t size = 0;  // bytes
  unsigned tries = 0;      // attempts before this one, for the reason of the last one
  unsigned hints_obeyed = 0;
  std::optional<unsigned> source;          // greylisted: it must come from the same one
  std::optional<Duration> greylisted_for;  // since its first refusal
  bool is_again = false;                   // a connection failed it in this attempt
};

class JobLanes {
 public:
  void add(SiteJob job);
  std::optional<SiteJob> next();
  std::vector<SiteJob> take_all();
  std::size_t size() const { return size_; }
  std::size_t senders() const { return senders_; }  // those with jobs

 private:
  // One that ran empty stays until its next turn would come, so that he who has one job at a time is not new each time.
  struct Lane {
    std::uint64_t sender = 0;
    std::int64_t deficit = 0;  // of the site
    std::size_t size = 0;
    std::array<std::list<SiteJob>, kJobClasses> jobs;
    std::size_t klass = 0;      // whose turn it is
    std::int64_t of_class = 0;  // its deficit
    bool class_has_begun = false;
  };
  using Lanes = std::list<Lane>;

  bool choose();
  SiteJob take_from(Lane& lane);
  void end_turn();

  Lanes turn_;       // the one whose turn it is, or none
  Lanes new_, old_;  // in their order
  std::unordered_map<std::uint64_t, Lanes::iterator> of_sender_;
  unsigned new_in_row_ = 0;
  std::size_t size_ = 0;
  std::size_t senders_ = 0;
};

}  // namespace postrider::scheduler
