#include "smtpd/filter/questioner.h"

#include "base/network.h"
#include "base/text.h"
#include "mailauth/resolved.h"
#include "mailauth/reverse_name.h"

#include <algorithm>
#include <atomic>
#include <optional>
#include <tuple>

namespace postrider::smtpd::filter {

using mailauth::Answer;
using mailauth::Question;
using mailauth::Questions;
using mailauth::resolved;
using mailauth::Type;

struct Questioner::State : std::enable_shared_from_this<State> {
  State(Loop& loop_, dns::Resolver& resolver_, Log& log_, const Limits& limits_)
      : loop(loop_), resolver(&resolver_), log(log_), limits(limits_) {}

  struct Waiting {
    std::weak_ptr<Run> run;
    Questions::Posed posed;
  };
  bool put(const std::shared_ptr<Run>& run, Questions::Posed& posed);
  void serve();
  static Task<void> look_up(std::shared_ptr<State> self, Waiting waiting);
  Task<Answer> ask(const Question& question);
  void end();

  Loop& loop;
  dns::Resolver* resolver;  // null: over
  Log& log;
  const Limits limits;
  std::deque<Waiting> line;
  std::atomic<std::size_t> open{0}, waiting{0};
  std::atomic<std::uint64_t> asked{0};
};

namespace {

void take_address(Answer& answer, const asio::ip::address& address) {
  answer.addresses.push_back(address.is_v4() ? IpAddress::v4(address.to_v4().to_bytes().data())
                                             : IpAddress::v6(address.to_v6().to_bytes().data()));
}

void take_host(Answer& answer, const std::string& host) {
  if (!host.empty())
    answer.hosts.push_back(host);
}

// "1.2.0.192.in-addr.arpa" is 192.0.2.1.
std::optional<asio::ip::address> address_of(std::string_view name) {
  constexpr std::string_view kV4 = ".in-addr.arpa", kV6 = ".ip6.arpa";
  boost::system::error_code error;
  std::string text;
  const bool is_v4 = ends_with_ignoring_case(name, kV4);
  if (!is_v4 && !ends_with_ignoring_case(name, kV6))
    return std::nullopt;
  auto parts = split(name.substr(0, name.size() - (is_v4 ? kV4 : kV6).size()), '.');
  std::reverse(parts.begin(), parts.end());
  for (std::size_t i = 0; i < parts.size(); ++i) {
    if (i > 0 && (is_v4 || i % 4 == 0))
      text += is_v4 ? '.' : ':';
    text += parts[i];
  }
  auto address = asio::ip::make_address(text, error);
  if (error)
    return std::nullopt;
  return address;
}

}  // namespace

Task<Answer> Questioner::State::ask(const Question& question) {
  switch (question.type) {
    case Type::txt:
      co_return resolved(co_await resolver->txt(question.name), mailauth::take_text);
    case Type::a:
      co_return resolved(co_await resolver->a(question.name), take_address);
    case Type::aaaa:
      co_return resolved(co_await resolver->aaaa(question.name), take_address);
    case Type::mx: {
      auto found = co_await resolver->mx(question.name);
      std::sort(found.records.begin(), found.records.end(), [](const auto& one, const auto& other) {
        return std::tie(one.preference, one.host) < std::tie(other.preference, other.host);
      });
      co_return resolved(found,
                         [](Answer& answer, const dns::Mx& mx) { take_host(answer, mx.host); });
    }
    case Type::ptr:
      break;
  }
  const auto address = address_of(question.name);
  if (!address)
    co_return Answer::none(Answer::Status::no_name);
  co_return resolved(co_await resolver->ptr(*address), take_host);
}

bool Questioner::State::put(const std::shared_ptr<Run>& run, Questions::Posed& posed) {
  if (resolver == nullptr || line.size() >= limits.waiting)
    return false;
  line.push_back({run, std::move(posed)});
  waiting = line.size();
  return true;
}

void Questioner::State::serve() {
  while (!line.empty() && open < limits.open) {
    auto next = std::move(line.front());
    line.pop_front();
    waiting = line.size();
    if (next.run.expired())
      continue;
    ++open;
    ++asked;
    loop.spawn(look_up(shared_from_this(), std::move(next)), log, "question of a filter");
  }
}

Task<void> Questioner::State::look_up(std::shared_ptr<State> self, Waiting waiting) {
  auto answer = Answer::failure("the resolver has gone");
  try {
    if (self->resolver != nullptr)
      answer = co_await self->ask(waiting.posed.question);
  } catch (const std::exception& error) {  // its place shall not be taken for ever
    answer = Answer::failure(error.what());
  }
  --self->open;
  self->serve();
  if (const auto run = waiting.run.lock())
    run->answer(waiting.posed.id, std::move(answer));
}

void Questioner::State::end() {
  resolver = nullptr;
  for (auto& each : std::exchange(line, {}))
    if (const auto run = each.run.lock())
      run->give_up("the resolver has gone");
  waiting = 0;
}

Questioner::Questioner(Loop& loop, dns::Resolver& resolver, Log& log, const Limits& limits)
    : state_(std::make_shared<State>(loop, resolver, log, limits)) {}

Questioner::~Questioner() {
  state_->end();
}

Questioner::Counts Questioner::counts() const {
  return {state_->open, state_->waiting, state_->asked};
}

Questioner::Run::Run(std::shared_ptr<State> state, Questions& questions)
    : state_(std::move(state)),
      questions_(questions),
      deadline_(state_->loop.deadlines(), [this] { give_up("the time for it is over"); }) {}

Questioner::Run::~Run() = default;

bool Questioner::Run::done() const {
  return questions_.done();
}

void Questioner::Run::begin(Duration limit) {
  if (!done())
    deadline_.set(limit);
  go_on();
}

// A question that finds no room fails, and the algorithm may ask another.
void Questioner::Run::go_on() {
  for (;;) {
    for (auto& posed : questions_.take())
      backlog_.push_back(std::move(posed));
    if (backlog_.empty() || under_way_ >= state_->limits.each)
      break;
    auto posed = std::move(backlog_.front());
    backlog_.pop_front();
    const auto id = posed.id;
    if (state_->put(shared_from_this(), posed))
      ++under_way_;
    else
      questions_.answer(id, Answer::failure("too many questions are open"));
  }
  state_->serve();
  if (!done())
    return;
  deadline_.clear();
  ended_.set();
}

void Questioner::Run::answer(std::uint64_t id, Answer answer) {
  --under_way_;
  if (done())
    return;
  questions_.answer(id, std::move(answer));
  go_on();
}

void Questioner::Run::give_up(std::string reason) {
  if (done())
    return;
  questions_.give_up(std::move(reason));
  backlog_.clear();
  deadline_.clear();
  state_->loop.post([self = shared_from_this()] { self->ended_.set(); });
}

Task<void> Questioner::Run::wait() {
  const auto self = shared_from_this();
  while (!done())
    co_await ended_.wait();
}

}  // namespace postrider::smtpd::filter
