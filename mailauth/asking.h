// How an algorithm of this folder asks the DNS without knowing a resolver. It is a coroutine that
// returns Asking<T> and waits for answers:
//
//   Asking<Result> check(std::string domain) {
//     const auto answer = co_await ask(Question{domain, Type::txt});
//     const auto both = co_await ask_all({{domain, Type::a}, {domain, Type::aaaa}});
//     const auto inner = co_await check(parent_of(domain));        // others like it
//     const auto results = co_await all(std::move(many_askings));  // side by side
//     ...
//     co_return result;
//   }
//
// The driver owns it in an Inquiry, takes the questions that are open, gives their answers in any
// order and from any queue of its own, and has the result when none is open:
//
//   Inquiry<Result> inquiry(check("example.org"));
//   while (!inquiry.done())
//     for (auto& posed : inquiry.take())
//       inquiry.answer(posed.id, look_up(posed.question));
//   return inquiry.result();
//
// One thread at a time. An inquiry may be destroyed at any moment, with questions still open. The
// parameters of a coroutine live as long as it does, so take by value what may end before it.
#pragma once

#include "base/assert.h"
#include "base/network.h"

#include <coroutine>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <initializer_list>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace postrider::mailauth {

enum class Type : std::uint8_t { txt, a, aaaa, mx, ptr };
std::string_view to_string(Type type);  // "TXT"

struct Question {
  std::string name;  // as it is to be asked: for ptr the name below in-addr.arpa or ip6.arpa
  Type type = Type::txt;
  friend auto operator<=>(const Question&, const Question&) = default;
};

struct Answer {
  enum class Status : std::uint8_t {
    found,             // records of the asked type
    no_data,           // the name exists: with other types, names below it, an alias to nowhere
    no_name,           // NXDOMAIN of the asked name itself
    temporary_failure  // no answer, SERVFAIL, an answer that cannot be read
  };
  Status status = Status::temporary_failure;
  std::vector<std::string> texts;    // txt: one for each record, its strings joined; any octets
  std::vector<IpAddress> addresses;  // a, aaaa
  std::vector<std::string> hosts;    // mx: the best first; ptr. No dot at the end
  std::string reason;                // of a temporary failure, for the log

  bool is_found() const { return status == Status::found; }
  bool is_none() const { return status == Status::no_data || status == Status::no_name; }
  bool is_failure() const { return status == Status::temporary_failure; }

  static Answer none(Status status);  // Requires: no_data or no_name
  static Answer failure(std::string reason);
};

// Thrown out of `co_await` where coroutines wait for one another deeper than this: a bug of an
// algorithm, since each bounds its own recursion.
constexpr unsigned kMostDepth = 64;
class TooDeep : public std::exception {
 public:
  const char* what() const noexcept override { return "askings are nested too deeply"; }
};

template <class T>
class Asking;

// The open questions of one inquiry: what a driver needs to know of it, whatever its result is.
class Questions {
 public:
  struct Posed {
    std::uint64_t id = 0;
    Question question;
  };

  Questions() = default;
  Questions(const Questions&) = delete;
  Questions& operator=(const Questions&) = delete;

  // The questions posed since the last call, each once, in the order posed. Two may be equal.
  std::vector<Posed> take();
  // Goes on with the algorithm, which may pose further questions. An id that is not open (answered
  // already, given up) is ignored.
  void answer(std::uint64_t id, Answer answer);
  // For a time limit over all: every open question, and every one still to come, is answered with a
  // temporary failure at once. Promises: done() holds afterwards.
  void give_up(std::string reason);
  // No question is open: the result, or an exception, is there.
  bool done() const { return open_.empty(); }
  // All questions posed so far; those after give_up() are not counted.
  std::size_t asked() const { return asked_; }

 private:
  friend class AskAll;
  // A coroutine that waits for several answers. It lives in that coroutine's frame.
  struct Waiter {
    std::coroutine_handle<> coroutine;
    std::vector<Answer> answers;
    std::size_t missing = 0;
  };
  struct Open {
    Question question;
    Waiter* waiter = nullptr;
    std::size_t place = 0;
  };

  // False if all were answered at once and the coroutine need not be suspended.
  bool pose(std::vector<Question> questions, Waiter& waiter);

  std::map<std::uint64_t, Open> open_;
  std::uint64_t next_id_ = 1;
  std::uint64_t first_untaken_ = 1;
  std::size_t asked_ = 0;
  std::optional<std::string> gave_up_;
};

// What `co_await ask_all(...)` waits on.
class AskAll {
 public:
  explicit AskAll(std::vector<Question> questions) : questions_(std::move(questions)) {}

  bool await_ready() const { return questions_.empty(); }
  template <class Promise>
  bool await_suspend(std::coroutine_handle<Promise> self) {
    waiter_.coroutine = self;
    return self.promise().questions()->pose(std::move(questions_), waiter_);
  }
  std::vector<Answer> await_resume() { return std::move(waiter_.answers); }

 private:
  std::vector<Question> questions_;
  Questions::Waiter waiter_;
};

class Ask : public AskAll {
 public:
  using AskAll::AskAll;
  Answer await_resume() { return std::move(AskAll::await_resume().front()); }
};

Ask ask(Question question);
// Posed at once. The answers come in the order of the questions, when the last is there.
AskAll ask_all(std::vector<Question> questions);

namespace detail {

// Coroutines that started side by side; who waits for them goes on when the last has ended.
struct Group {
  std::coroutine_handle<> parent;
  std::size_t missing = 0;
};

class PromiseBase {
 public:
  std::suspend_always initial_suspend() noexcept { return {}; }
  void unhandled_exception() { exception_ = std::current_exception(); }

  struct FinalAwaiter {
    bool await_ready() noexcept { return false; }
    template <class Promise>
    std::coroutine_handle<> await_suspend(std::coroutine_handle<Promise> self) noexcept {
      PromiseBase& promise = self.promise();
      if (promise.group_ == nullptr || --promise.group_->missing > 0)
        return std::noop_coroutine();
      return promise.group_->parent;
    }
    void await_resume() noexcept {}
  };
  FinalAwaiter final_suspend() noexcept { return {}; }

  Questions* questions() const { return questions_; }
  void begin(Questions& questions) { questions_ = &questions; }
  void begin_below(const PromiseBase& parent, Group& group) {
    questions_ = parent.questions_;
    depth_ = parent.depth_ + 1;
    group_ = &group;
  }
  bool is_deepest() const { return depth_ >= kMostDepth; }

 protected:
  void rethrow() const {
    if (exception_)
      std::rethrow_exception(exception_);
  }

 private:
  Questions* questions_ = nullptr;
  Group* group_ = nullptr;
  unsigned depth_ = 0;
  std::exception_ptr exception_;
};

template <class T>
class Promise : public PromiseBase {
 public:
  Asking<T> get_return_object();
  template <class U>
  void return_value(U&& value) {
    value_.emplace(std::forward<U>(value));
  }
  T take() {
    rethrow();
    return std::move(*value_);
  }

 private:
  std::optional<T> value_;
};

template <>
class Promise<void> : public PromiseBase {
 public:
  Asking<void> get_return_object();
  void return_void() {}
  void take() { rethrow(); }
};

template <class T>
class Await;
template <class T>
class AwaitAll;

}  // namespace detail

// A coroutine that has not begun. It begins when it is awaited, or when an Inquiry takes it.
template <class T>
class [[nodiscard]] Asking {
 public:
  using promise_type = detail::Promise<T>;

  Asking(Asking&& other) noexcept : handle_(std::exchange(other.handle_, {})) {}
  Asking& operator=(Asking&& other) noexcept {
    std::swap(handle_, other.handle_);
    return *this;
  }
  ~Asking() {
    if (handle_)
      handle_.destroy();
  }

  // Requires: *this has not begun.
  detail::Await<T> operator co_await() &&;

 private:
  friend promise_type;
  friend detail::Await<T>;
  friend detail::AwaitAll<T>;
  template <class>
  friend class Inquiry;
  explicit Asking(std::coroutine_handle<promise_type> handle) : handle_(handle) {}

  std::coroutine_handle<promise_type> handle_;
};

namespace detail {

template <class T>
Asking<T> Promise<T>::get_return_object() {
  return Asking<T>(std::coroutine_handle<Promise>::from_promise(*this));
}
inline Asking<void> Promise<void>::get_return_object() {
  return Asking<void>(std::coroutine_handle<Promise>::from_promise(*this));
}

template <class T>
class Await {
 public:
  explicit Await(Asking<T>&& child) : child_(std::move(child)) {}

  bool await_ready() const { return false; }
  template <class Parent>
  std::coroutine_handle<> await_suspend(std::coroutine_handle<Parent> parent) {
    if (parent.promise().is_deepest())
      throw TooDeep();
    group_ = {parent, 1};
    child_.handle_.promise().begin_below(parent.promise(), group_);
    return child_.handle_;
  }
  T await_resume() { return child_.handle_.promise().take(); }

 private:
  Asking<T> child_;
  Group group_;
};

template <class T>
class AwaitAll {
 public:
  explicit AwaitAll(std::vector<Asking<T>> children) : children_(std::move(children)) {}

  bool await_ready() const { return children_.empty(); }
  template <class Parent>
  bool await_suspend(std::coroutine_handle<Parent> parent) {
    if (parent.promise().is_deepest())
      throw TooDeep();
    group_ = {parent, children_.size() + 1};  // one more: none goes on with the parent in the loop
    for (auto& child : children_) {
      child.handle_.promise().begin_below(parent.promise(), group_);
      child.handle_.resume();
    }
    return --group_.missing > 0;
  }
  std::vector<T> await_resume() {
    std::vector<T> results;
    results.reserve(children_.size());
    for (auto& child : children_)
      results.push_back(child.handle_.promise().take());
    return results;
  }

 private:
  std::vector<Asking<T>> children_;
  Group group_;
};

}  // namespace detail

template <class T>
detail::Await<T> Asking<T>::operator co_await() && {
  return detail::Await<T>(std::move(*this));
}

// Runs them side by side; their results come in their order when the last has ended. If some threw,
// the exception of the first of these in that order is thrown.
template <class T>
detail::AwaitAll<T> all(std::vector<Asking<T>> askings) {
  return detail::AwaitAll<T>(std::move(askings));
}

// One run of an algorithm, from its first question to its result.
template <class T>
class Inquiry : public Questions {
 public:
  explicit Inquiry(Asking<T> asking) : asking_(std::move(asking)) {
    asking_.handle_.promise().begin(*this);
    asking_.handle_.resume();
  }

  // Throws what the algorithm threw. Requires: done(), and the first call.
  T result() {
    POSTRIDER_ASSERT(asking_.handle_.done());
    return asking_.handle_.promise().take();
  }

 private:
  Asking<T> asking_;
};

}  // namespace postrider::mailauth
