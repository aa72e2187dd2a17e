// Gives the algorithms of mailauth/ their answers: asks a resolver what they ask, side by side, and
// within bounds over all sessions of a loop, so that strangers' mail leaves room for the questions
// of delivery.
//
//   auto run = questioner.start(mailauth::check_mail_from(...), limit);   // asks from now on
//   ...
//   co_await run->wait();
//   const auto verdict = run->result();
//
// Lives on its loop. A run may be dropped at any moment; what it asked then answers nobody, and
// what it had not asked yet is not asked.
#pragma once

#include "base/log.h"
#include "base/net/deadline.h"
#include "base/net/loop.h"
#include "base/net/signal.h"
#include "dns/resolver.h"
#include "mailauth/asking.h"

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <utility>

namespace postrider::smtpd::filter {

class Questioner {
 public:
  struct Limits {
    std::size_t open = 256;      // questions at the resolver at one time
    std::size_t waiting = 4096;  // in line for it; those beyond fail at once, as temporary trouble
    std::size_t each = 16;       // of one run, at the resolver or in line
  };
  struct Counts {
    std::size_t open = 0, waiting = 0;  // now
    std::uint64_t asked = 0;            // since start
  };

 private:
  struct State;

 public:
  class Run : public std::enable_shared_from_this<Run> {
   public:
    virtual ~Run();
    bool done() const;
    // Returns at once if it is done. One waiter.
    Task<void> wait();
    // All that is asked fails, and all that will be. Whoever waits goes on a moment later.
    void give_up(std::string reason);

   protected:
    Run(std::shared_ptr<State> state, mailauth::Questions& questions);
    void begin(Duration limit);

   private:
    friend class Questioner;
    friend struct State;
    void go_on();
    void answer(std::uint64_t id, mailauth::Answer answer);

    std::shared_ptr<State> state_;
    mailauth::Questions& questions_;
    std::deque<mailauth::Questions::Posed> backlog_;
    std::size_t under_way_ = 0;
    Deadline deadline_;
    Signal ended_;
  };

  template <class T>
  class RunOf final : public Run {
   public:
    // Requires: done(), and the first call. Throws what the algorithm threw.
    T result() { return inquiry_.result(); }

   private:
    friend class Questioner;
    RunOf(std::shared_ptr<State> state, mailauth::Inquiry<T>* inquiry)
        : Run(std::move(state), *inquiry), owned_(inquiry), inquiry_(*inquiry) {}
    std::unique_ptr<mailauth::Inquiry<T>> owned_;
    mailauth::Inquiry<T>& inquiry_;
  };

  // resolver and log outlive the questioner.
  Questioner(Loop& loop, dns::Resolver& resolver, Log& log, const Limits& limits);
  Questioner(Loop& loop, dns::Resolver& resolver, Log& log)
      : Questioner(loop, resolver, log, Limits()) {}
  ~Questioner();  // what is in line fails
  Questioner(const Questioner&) = delete;
  Questioner& operator=(const Questioner&) = delete;

  // limit: over all, from now; then it gives up.
  template <class T>
  std::shared_ptr<RunOf<T>> start(mailauth::Asking<T> asking, Duration limit) {
    auto inquiry = std::make_unique<mailauth::Inquiry<T>>(std::move(asking));
    std::shared_ptr<RunOf<T>> run(new RunOf<T>(state_, inquiry.release()));
    run->begin(limit);
    return run;
  }

  Counts counts() const;  // any thread

 private:
  std::shared_ptr<State> state_;  // shared with what is at the resolver
};

}  // namespace postrider::smtpd::filter
