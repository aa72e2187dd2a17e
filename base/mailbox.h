// What other threads hand to a loop. Asio's post() holds the mutex of the loop's scheduler while it
// wakes the loop by a system call; a thread of low priority, such as one that shakes hands, is
// preempted right there by the loop that it woke, which then waits for that mutex until the thread
// has its next turn. Here nothing is held: one exchange of a pointer, and one write.
#pragma once

#include <boost/asio/execution_context.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/basic_stream_descriptor.hpp>

#include <atomic>
#include <cstdint>
#include <functional>
#include <optional>

namespace postrider {

// A part of its io_context: made by make_service, found by use_service.
class Mailbox : public boost::asio::execution_context::service {
 public:
  using key_type = Mailbox;
  static boost::asio::execution_context::id id;

  explicit Mailbox(boost::asio::execution_context& context);
  ~Mailbox() override;

  // Thread-safe. What one thread posts runs in the order of its posts.
  void post(std::function<void()> work);
  // On the loop's thread: from now on nothing here keeps the loop from running empty, and posts go
  // the usual way.
  void close();

 private:
  struct Letter {
    std::function<void()> work;
    Letter* next = nullptr;
  };
  class Letters;

  void shutdown() override;
  void wait();
  Letter* take(Letter* replacement);

  boost::asio::io_context& context_;
  std::optional<boost::asio::posix::basic_stream_descriptor<boost::asio::io_context::executor_type>>
      bell_;  // an eventfd
  int bell_number_ = -1;
  std::uint64_t rung_ = 0;
  Letter closed_;                      // stands at the top for a closed box
  std::atomic<Letter*> top_{nullptr};  // the newest first
};

}  // namespace postrider
