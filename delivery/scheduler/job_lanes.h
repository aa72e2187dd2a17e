// The jobs that wait for a site, and whose turn it is: a ring of classes, in each a ring of
// senders, both by deficit round robin with the size as the cost. Nobody starves; a sender who
// comes new is first once. Pure.
#pragma once

#include "base/time.h"

#include <array>
#include <cstdint>
#include <deque>
#include <list>
#include <optional>
#include <unordered_map>
#include <vector>

namespace postrider::scheduler {

// By MT-PRIORITY (RFC 6710) and Precedence: weights 8, 4, 2, 1.
enum class JobClass : std::uint8_t { urgent, normal, bulk, junk };
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
  std::size_t senders() const;

 private:
  struct Lane {
    std::uint64_t sender = 0;
    std::int64_t deficit = 0;
    bool has_begun = false;  // its turn; the quantum is given
    std::deque<SiteJob> jobs;
  };
  struct Ring {
    std::list<Lane> lanes;  // the front has the turn
    std::unordered_map<std::uint64_t, std::list<Lane>::iterator> of_sender;
    std::int64_t deficit = 0;
  };
  SiteJob take_from(Ring& ring);

  std::array<Ring, kJobClasses> rings_;
  std::size_t turn_ = 0;
  bool turn_has_begun_ = false;
  std::size_t size_ = 0;
};

}  // namespace postrider::scheduler
