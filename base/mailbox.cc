#include "base/mailbox.h"

#include <boost/asio/buffer.hpp>
#include <boost/asio/post.hpp>

#include <cerrno>
#include <sys/eventfd.h>
#include <system_error>
#include <unistd.h>
#include <utility>

namespace postrider {

namespace asio = boost::asio;

asio::execution_context::id Mailbox::id;

// The oldest first; owns what was not taken yet.
class Mailbox::Letters {
 public:
  explicit Letters(Letter* newest) {
    while (newest != nullptr) {
      auto* const older = std::exchange(newest->next, oldest_);
      oldest_ = newest;
      newest = older;
    }
  }
  ~Letters() {
    while (take()) {
    }
  }
  Letters(const Letters&) = delete;
  Letters& operator=(const Letters&) = delete;

  std::optional<std::function<void()>> take() {
    if (oldest_ == nullptr)
      return std::nullopt;
    auto work = std::move(oldest_->work);
    delete std::exchange(oldest_, oldest_->next);
    return work;
  }

 private:
  Letter* oldest_ = nullptr;
};

Mailbox::Mailbox(asio::execution_context& context)
    : service(context), context_(static_cast<asio::io_context&>(context)) {
  bell_number_ = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (bell_number_ < 0)
    throw std::system_error(errno, std::system_category(), "eventfd");
  bell_.emplace(context_.get_executor(), bell_number_);
  wait();
}

Mailbox::~Mailbox() = default;

void Mailbox::post(std::function<void()> work) {
  auto* const letter = new Letter{std::move(work), nullptr};
  auto* top = top_.load(std::memory_order_relaxed);
  do {
    if (top == &closed_) {
      asio::post(context_, std::move(letter->work));
      delete letter;
      return;
    }
    letter->next = top;
  } while (!top_.compare_exchange_weak(top, letter, std::memory_order_release,
                                       std::memory_order_relaxed));
  // Always, also behind another letter: whoever put that one there may be preempted before it
  // rings.
  const std::uint64_t one = 1;
  (void)!::write(bell_number_, &one, sizeof one);
}

Mailbox::Letter* Mailbox::take(Letter* replacement) {
  auto* const top = top_.exchange(replacement, std::memory_order_acquire);
  return top == &closed_ ? nullptr : top;
}

void Mailbox::wait() {
  bell_->async_read_some(asio::buffer(&rung_, sizeof rung_),
                         [this](const boost::system::error_code& failed, std::size_t) {
                           if (failed || top_.load(std::memory_order_relaxed) == &closed_)
                             return;
                           wait();
                           Letters letters(take(nullptr));
                           while (auto work = letters.take())
                             (*work)();
                         });
}

void Mailbox::close() {
  Letters letters(take(&closed_));
  while (auto work = letters.take())
    asio::post(context_, *std::move(work));
  bell_->cancel();
}

void Mailbox::shutdown() {
  const Letters letters(take(&closed_));
  bell_.reset();
}

}  // namespace postrider
