// Who decides in a simulated world: the scheduler, or a setting that does not change.
#pragma once

#include "bench/simulation/world.h"

namespace postrider::simulation {

class Pilot {
 public:
  virtual ~Pilot() = default;
  virtual void on_job(scheduler::SiteJob job, TimePoint now) = 0;
  virtual void on_ready(std::uint64_t connection, TimePoint now) = 0;
  virtual void on_failed(std::uint64_t connection, const scheduler::Seen& seen, TimePoint now) = 0;
  virtual void on_outcome(std::uint64_t connection, const scheduler::Seen& seen, TimePoint now) = 0;
  virtual void on_ended(std::uint64_t connection, TimePoint now) = 0;
  virtual void on_time(TimePoint now) = 0;
  virtual std::vector<scheduler::SiteAction> take_actions() = 0;
  virtual std::size_t waiting() const = 0;
  virtual void restart(TimePoint now) = 0;
  virtual double limit() const = 0;
  virtual double rate() const = 0;
};

std::vector<scheduler::RemoteHost> hosts_of(const Behaviour& behaviour);
std::unique_ptr<Pilot> scheduler_pilot(const Behaviour& behaviour);
std::unique_ptr<Pilot> fixed_pilot(const Behaviour& behaviour, const Fixed& fixed);

}  // namespace postrider::simulation
