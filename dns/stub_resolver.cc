#include "dns/stub_resolver.h"

#include "base/assert.h"
#include "base/log.h"
#include "base/probe.h"
#include "base/text.h"
#include "dns/answer_cache.h"
#include "dns/lookup.h"
#include "dns/resolv_conf.h"

#include <algorithm>
#include <deque>
#include <unordered_map>

namespace postrider::dns {

namespace {

using FoundPointer = std::shared_ptr<const Found>;

// So many queries fit into the receive buffer of a server with the kernel's default size. What
// does not fit is lost, and costs a timeout. Slow answers only delay others by the pause.
constexpr std::size_t kMostFresh = 64;
constexpr Duration kPause{100};
// Of a lookup that begins while many are in flight.
constexpr Duration kShortPatience{2000};

bool all_on_loopback(const std::vector<Server>& servers) {
  return std::all_of(servers.begin(), servers.end(),
                     [](const Server& server) { return server.address.is_loopback(); });
}

// `timeout:n` and `attempts:n` of the file go before our own figures.
std::vector<Duration> timeouts_of(const ResolverSettings& settings,
                                  const std::optional<ResolvConf>& conf) {
  auto timeouts = settings.timeouts;
  if (conf && conf->timeout)
    std::fill(timeouts.begin(), timeouts.end(), *conf->timeout);
  if (conf && conf->attempts && !timeouts.empty())
    timeouts.resize(*conf->attempts, timeouts.back());
  return timeouts;
}

template <class Record>
Answer<Record> to_answer(const Found& found) {
  Answer<Record> answer;
  answer.status = found.status;
  answer.secure = found.secure;
  answer.canonical_name = found.canonical_name;
  answer.reason = found.reason;
  if (found.status == Status::records)
    answer.records = std::get<std::vector<Record>>(found.records);
  const auto left = found.expires - std::chrono::steady_clock::now();
  answer.ttl = std::max(Duration(0), std::chrono::duration_cast<Duration>(left));
  return answer;
}

template <class Record>
Answer<Record> no_such_name(const std::string& name) {
  Answer<Record> answer;
  answer.status = Status::no_such_name;
  answer.canonical_name = ascii_lower(name);
  return answer;
}

}  // namespace

class StubResolver::Core : public std::enable_shared_from_this<Core> {
 public:
  Core(Loop& loop, ResolverSettings settings, Log& log, Random& random);

  FoundPointer find(const Question& question);
  Task<FoundPointer> fetch(Question question);
  void reconfigure(ResolverSettings settings);
  void stop();
  void forget_all() { cache_.clear(); }

  const ResolverSettings& settings() const { return settings_; }
  const Plan& plan() const { return *plan_; }
  Counters& counters() { return network_->counters; }

 private:
  struct Flight;
  struct Waiter;

  void follow_resolv_conf();
  void make_plan();
  std::shared_ptr<Flight> join_or_start(Question question);
  void start_waiting();
  static Task<void> fly(std::shared_ptr<Core> self, std::shared_ptr<Flight> flight);
  void land(Flight& flight, FoundPointer found);

  Loop& loop_;
  Log& log_;
  ResolverSettings settings_;
  std::optional<ResolvConfWatch> watch_;
  std::optional<ResolvConf> conf_;
  std::shared_ptr<Plan> plan_;
  std::shared_ptr<Network> network_;
  Cache cache_;
  std::unordered_map<std::string, std::shared_ptr<Flight>> flights_;
  std::deque<std::shared_ptr<Flight>> waiting_;
  std::size_t flying_ = 0;
  bool newest_next_ = false;
  std::size_t fresh_ = 0;  // begun since the last pause and still flying
  std::uint64_t pauses_ = 0;
  std::optional<Deadline> pause_;  // none when stopped
};

// One question and all who want to know.
struct StubResolver::Core::Flight {
  Question question;
  std::string key;
  SteadyTime deadline;
  std::uint64_t begun = 0;  // pauses before it
  std::vector<Waiter*> waiters;
  FoundPointer found;  // the end
};

// Lives in the frame of a coroutine that may be destroyed while it waits.
struct StubResolver::Core::Waiter {
  explicit Waiter(std::shared_ptr<Flight> joined) : flight(std::move(joined)) {
    flight->waiters.push_back(this);
  }
  ~Waiter() { std::erase(flight->waiters, this); }
  Waiter(const Waiter&) = delete;
  Waiter& operator=(const Waiter&) = delete;

  std::shared_ptr<Flight> flight;
  Signal landed;
};

StubResolver::Core::Core(Loop& loop, ResolverSettings settings, Log& log, Random& random)
    : loop_(loop),
      log_(log),
      network_(std::make_shared<Network>(loop, log, random)),
      cache_(settings.most_cached, settings.most_cached_bytes) {
  pause_.emplace(loop.deadlines(), [this] {
    fresh_ = 0;
    ++pauses_;
    start_waiting();
  });
  reconfigure(std::move(settings));
}

void StubResolver::Core::reconfigure(ResolverSettings settings) {
  POSTRIDER_ASSERT(!settings.timeouts.empty() && settings.most_in_flight > 0);
  if (settings.resolv_conf != settings_.resolv_conf) {
    watch_.reset();
    conf_.reset();
    if (!settings.resolv_conf.empty())
      watch_.emplace(settings.resolv_conf);
  }
  settings_ = std::move(settings);
  cache_.resize(settings_.most_cached, settings_.most_cached_bytes);
  if (watch_)
    if (auto conf = watch_->changed(std::chrono::steady_clock::now()))
      conf_ = std::move(conf);
  make_plan();
}

void StubResolver::Core::follow_resolv_conf() {
  if (!watch_)
    return;
  auto conf = watch_->changed(std::chrono::steady_clock::now());
  if (!conf)
    return;
  conf_ = std::move(conf);
  make_plan();
  log_.write(LogEvent(Level::info, "dns_servers_changed")
                 .add("file", settings_.resolv_conf)
                 .add("first", to_string(plan_->servers.front())));
}

void StubResolver::Core::make_plan() {
  auto plan = std::make_shared<Plan>();
  plan->servers = conf_ ? conf_->servers : settings_.servers;
  plan->trust_ad =
      settings_.trust_ad.value_or(all_on_loopback(plan->servers) || (conf_ && conf_->trust_ad));
  plan->timeouts = timeouts_of(settings_, conf_);
  plan->failure_ttl = settings_.failure_ttl;
  plan->silence_ttl = std::max(settings_.silence_ttl, settings_.failure_ttl);
  const bool same = plan_ && plan->servers == plan_->servers && plan->trust_ad == plan_->trust_ad;
  if (!same)
    cache_.clear();
  plan_ = std::move(plan);
}

FoundPointer StubResolver::Core::find(const Question& question) {
  ++counters().lookups;
  auto found = cache_.find(cache_key(question), std::chrono::steady_clock::now());
  if (found)
    ++counters().cached;
  return found;
}

std::shared_ptr<StubResolver::Core::Flight> StubResolver::Core::join_or_start(Question question) {
  auto key = cache_key(question);
  if (const auto known = flights_.find(key); known != flights_.end()) {
    ++counters().joined;
    return known->second;
  }
  follow_resolv_conf();
  auto flight = std::make_shared<Flight>();
  flight->question = std::move(question);
  flight->deadline = std::chrono::steady_clock::now() + settings_.total;
  if (network_->stopped || waiting_.size() >= settings_.most_waiting) {
    flight->found =
        failed_lookup(flight->question, network_->stopped ? "the resolver was stopped"
                                                          : "too many lookups are waiting");
    return flight;
  }
  flight->key = key;
  flights_.emplace(std::move(key), flight);
  waiting_.push_back(flight);
  start_waiting();
  return flight;
}

void StubResolver::Core::start_waiting() {
  while (!waiting_.empty() && flying_ < settings_.most_in_flight) {
    if (fresh_ >= kMostFresh) {
      if (!pause_->is_set())
        pause_->set(kPause);
      return;
    }
    // The newest has its turn as well as the oldest.
    const bool newest = std::exchange(newest_next_, !newest_next_);
    auto flight = std::move(newest ? waiting_.back() : waiting_.front());
    newest ? waiting_.pop_back() : waiting_.pop_front();
    if (flying_ >= settings_.most_in_flight / 2)
      flight->deadline =
          std::min(flight->deadline, std::chrono::steady_clock::now() + kShortPatience);
    ++flying_;
    ++fresh_;
    flight->begun = pauses_;
    loop_.spawn(fly(shared_from_this(), std::move(flight)), log_, "dns lookup");
  }
}

Task<void> StubResolver::Core::fly(std::shared_ptr<Core> self, std::shared_ptr<Flight> flight) {
  if (self->network_->stopped)
    co_return;
  const auto plan = self->plan_;
  const auto& name = flight->question.name.wire();
  const int type = static_cast<int>(flight->question.type);
  POSTRIDER_PROBE3(dns_question, name.c_str(), name.size(), type);
  FoundPointer found;
  try {
    found = co_await look_up(self->network_, plan, flight->question, flight->deadline);
  } catch (const std::exception& bug) {  // those who wait shall not wait for ever
    found = failed_lookup(flight->question, bug.what());
  }
  POSTRIDER_PROBE4(dns_answer, name.c_str(), name.size(), type, static_cast<int>(found->status));
  --self->flying_;
  if (flight->begun == self->pauses_)
    --self->fresh_;
  if (self->network_->stopped)
    co_return;  // stop() has told the waiters
  if (found->status == Status::temporary_failure) {
    ++self->counters().failures;
    if (self->log_.enabled(Level::debug))
      self->log_.write(LogEvent(Level::debug, "dns_failure").add("reason", found->reason));
  }
  if (plan->servers == self->plan_->servers && plan->trust_ad == self->plan_->trust_ad)
    self->cache_.put(flight->key, found, std::chrono::steady_clock::now());
  self->flights_.erase(flight->key);
  self->land(*flight, std::move(found));
  self->start_waiting();
}

// Whoever resumes may ask again, leave, or stop the resolver.
void StubResolver::Core::land(Flight& flight, FoundPointer found) {
  flight.found = std::move(found);
  while (!flight.waiters.empty()) {
    Waiter* const waiter = flight.waiters.back();
    flight.waiters.pop_back();
    waiter->landed.set();
  }
}

Task<FoundPointer> StubResolver::Core::fetch(Question question) {
  auto flight = join_or_start(std::move(question));
  if (!flight->found) {
    Waiter waiter(flight);
    co_await waiter.landed.wait();
  }
  co_return flight->found;
}

void StubResolver::Core::stop() {
  if (network_->stopped)
    return;
  const auto self = shared_from_this();
  const auto flights = std::move(flights_);
  flights_.clear();
  waiting_.clear();
  pause_.reset();
  network_->stop();
  for (const auto& [key, flight] : flights)
    land(*flight, failed_lookup(flight->question, "the resolver was stopped"));
}

namespace {

template <class Record, class Core>
Task<Answer<Record>> answer(std::shared_ptr<Core> core, Type type, std::string text) {
  Question question;
  question.type = type;
  auto name = Name::from_text(text);
  if (!name)
    co_return no_such_name<Record>(text);
  question.name = std::move(*name);
  auto found = core->find(question);
  if (!found)
    found = co_await core->fetch(std::move(question));
  co_return to_answer<Record>(*found);
}

}  // namespace

StubResolver::StubResolver(Loop& loop, ResolverSettings settings, Log& log, Random& random)
    : core_(std::make_shared<Core>(loop, std::move(settings), log, random)) {}

StubResolver::~StubResolver() {
  stop();
}

Task<Answer<Mx>> StubResolver::mx(std::string name) {
  return answer<Mx>(core_, Type::mx, std::move(name));
}

Task<Answer<asio::ip::address>> StubResolver::a(std::string name) {
  return answer<asio::ip::address>(core_, Type::a, std::move(name));
}

Task<Answer<asio::ip::address>> StubResolver::aaaa(std::string name) {
  return answer<asio::ip::address>(core_, Type::aaaa, std::move(name));
}

Task<Answer<std::string>> StubResolver::ptr(asio::ip::address address) {
  return answer<std::string>(core_, Type::ptr, reverse_name(address).text());
}

Task<Answer<std::string>> StubResolver::txt(std::string name) {
  return answer<std::string>(core_, Type::txt, std::move(name));
}

Task<Answer<Tlsa>> StubResolver::tlsa(std::string name) {
  return answer<Tlsa>(core_, Type::tlsa, std::move(name));
}

Task<Answer<std::string>> StubResolver::cname(std::string name) {
  return answer<std::string>(core_, Type::cname, std::move(name));
}

void StubResolver::reconfigure(ResolverSettings settings) {
  core_->reconfigure(std::move(settings));
}

void StubResolver::set_servers(std::vector<Server> servers) {
  ResolverSettings settings = core_->settings();
  settings.servers = std::move(servers);
  settings.resolv_conf.clear();
  core_->reconfigure(std::move(settings));
}

void StubResolver::forget_all() {
  core_->forget_all();
}

void StubResolver::stop() {
  core_->stop();
}

const std::vector<Server>& StubResolver::servers() const {
  return core_->plan().servers;
}

bool StubResolver::trusts_ad() const {
  return core_->plan().trust_ad;
}

const Counters& StubResolver::counters() const {
  return core_->counters();
}

ResolverSettings system_settings() {
  ResolverSettings settings;
  settings.resolv_conf = "/etc/resolv.conf";
  return settings;
}

}  // namespace postrider::dns
