#include "rig.h"

#include <catch2/catch.hpp>

#include <fcntl.h>
#include <future>
#include <stdexcept>

namespace postrider::delivery {

namespace {

constexpr auto kPatience = std::chrono::seconds(120);

}  // namespace

void WatchedCustody::record(std::vector<queue::Record> records) {
  const std::lock_guard lock(mutex_);
  for (auto& record : records)
    records_.push_back(std::move(record));
  changed_.notify_all();
}

void WatchedCustody::set_site(queue::SiteState state) {
  const std::lock_guard lock(mutex_);
  sites_[state.site] = state;
}

void WatchedCustody::assign_site(std::string domain, std::string site) {
  const std::lock_guard lock(mutex_);
  assigned_[domain] = site;
}

mail::MessageId WatchedCustody::next_id() {
  const std::lock_guard lock(mutex_);
  return {++last_id_};
}

Result<FileDescriptor> WatchedCustody::open_body(const mail::Message& message) {
  return open_file(bodies_ + "/" + message.content.file, O_RDONLY | O_NOFOLLOW);
}

Result<queue::BodyFile> WatchedCustody::create_body(mail::MessageId) {
  return Error(Errc::storage, "create body");
}

queue::Record WatchedCustody::wait_for(mail::MessageId id) {
  std::unique_lock lock(mutex_);
  auto found = records_.end();
  const bool came = changed_.wait_for(lock, kPatience, [&] {
    found = std::find_if(records_.begin(), records_.end(),
                         [&](const auto& record) { return record.id == id; });
    return found != records_.end();
  });
  if (!came)
    throw std::runtime_error("no record came");
  auto record = std::move(*found);
  records_.erase(found);
  return record;
}

std::map<std::string, queue::SiteState> WatchedCustody::sites() const {
  const std::lock_guard lock(mutex_);
  return sites_;
}

std::map<std::string, std::string> WatchedCustody::assigned() const {
  const std::lock_guard lock(mutex_);
  return assigned_;
}

std::size_t WatchedCustody::records_left() const {
  const std::lock_guard lock(mutex_);
  return records_.size();
}

Rig::Rig(std::string_view zone, unsigned loops) : dns(zone) {
  char name[] = "/tmp/delivery-test-XXXXXX";
  folder = ::mkdtemp(name);
  settings.own.hostname = "us.test";
  settings.families = dns::Families::ipv4;
  settings.local.mailbox = "maildir:" + (folder / "mail").string() + "/{user}/";
  settings.smtp.idle_connection = std::chrono::minutes(1);
  for (unsigned i = 0; i < loops; ++i)
    loops_.push_back(std::make_unique<Loop>(i));
}

void Rig::start() {
  std::vector<Loop*> loops;
  for (auto& loop : loops_)
    loops.push_back(loop.get());
  auto watched = std::make_unique<WatchedCustody>(folder.string());
  custody = watched.get();
  dispatcher = std::make_unique<Dispatcher>(
      loops, std::move(watched), [this](Loop&) -> dns::Resolver& { return dns; }, clock, log,
      directory, std::make_shared<const DeliverySettings>(settings));
  if (performer)
    dispatcher->set_performer(performer);
  dispatcher->restore({});
  for (auto& loop : loops_)
    threads_.emplace_back([&loop] { loop->run(); });
}

Rig::~Rig() {
  if (dispatcher && !drained_)
    drain(std::chrono::milliseconds(100));
  for (auto& loop : loops_)
    loop->finish();
  for (auto& thread : threads_)
    thread.join();
  dispatcher.reset();
  std::error_code ignored;
  std::filesystem::remove_all(folder, ignored);
}

queue::Record::Result Rig::deliver_again(std::uint32_t attempts, queue::RetryTally tally) {
  queue::Lease lease;
  lease.message = make_message({"a@x.test"});
  lease.recipients.push_back({0, attempts, std::nullopt, {}, tally});
  const auto id = lease.message->id;
  std::vector<queue::Lease> leases;
  leases.push_back(std::move(lease));
  dispatcher->take(std::move(leases));
  auto record = custody->wait_for(id);
  REQUIRE(record.results.size() == 1);
  return std::move(record.results[0]);
}

mail::MessageId Rig::send(std::shared_ptr<const mail::Message> message,
                          queue::Lease::Reason reason) {
  queue::Lease lease;
  lease.reason = reason;
  for (std::uint32_t i = 0; i < message->envelope.recipients.size(); ++i) {
    queue::Lease::Recipient recipient;
    recipient.index = i;
    lease.recipients.push_back(std::move(recipient));
  }
  const auto id = message->id;
  lease.number = static_cast<std::uint64_t>(id.value);
  lease.message = std::move(message);
  std::vector<queue::Lease> leases;
  leases.push_back(std::move(lease));
  dispatcher->take(std::move(leases));
  return id;
}

Status Rig::status() {
  std::promise<Status> answer;
  dispatcher->status([&](Status status) { answer.set_value(std::move(status)); });
  return answer.get_future().get();
}

Explanation Rig::explain(const std::string& address) {
  std::promise<Explanation> answer;
  dispatcher->explain(address,
                      [&](Explanation explanation) { answer.set_value(std::move(explanation)); });
  return answer.get_future().get();
}

void Rig::wait_until(const std::function<bool()>& came) {
  const auto end = std::chrono::steady_clock::now() + kPatience;
  while (!came()) {
    if (std::chrono::steady_clock::now() > end)
      throw std::runtime_error("it did not come");
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
}

// Twice: what came from the network while the first was under way is seen before the second.
void Rig::let_loops_work() {
  for (int round = 0; round < 2; ++round)
    for (auto& loop : loops_) {
      std::promise<void> done;
      loop->post([&] { done.set_value(); });
      done.get_future().get();
    }
}

void Rig::pass_time_until(Duration step, const std::vector<const FakeMx*>& hosts,
                          const std::function<bool()>& came) {
  const auto are_at_rest = [&] {
    return std::all_of(hosts.begin(), hosts.end(), [](auto* host) { return host->is_at_rest(); });
  };
  wait_until([&] {
    if (came())
      return true;
    if (are_at_rest()) {
      let_loops_work();
      if (are_at_rest())
        clock.advance(step);
    }
    return false;
  });
}

void Rig::drain(Duration grace) {
  drained_ = true;
  std::promise<void> done;
  dispatcher->drain([&] { done.set_value(); }, grace);
  done.get_future().get();
}

Route& Rig::route_to(std::uint16_t port, const std::string& domain) {
  Route route;
  route.domain = domain;
  route.next_hop.kind = NextHop::Kind::smtp;
  route.next_hop.host = "127.0.0.1";
  route.next_hop.port = port;
  settings.routes.push_back(std::move(route));
  return settings.routes.back();
}

std::string describe(const queue::Record& record) {
  const char* words[] = {"delivered", "retry", "bounce"};
  std::map<std::uint32_t, std::string> all;
  for (const auto& result : record.results)
    all[result.index] = std::string(words[static_cast<int>(result.outcome.verdict)]) + " " +
                        mail::to_string(result.outcome.status);
  for (const auto index : record.untried)
    all[index] = "untried";
  std::string text;
  for (const auto& [index, word] : all)
    text += (text.empty() ? "" : ", ") + std::to_string(index) + " " + word;
  return text;
}

}  // namespace postrider::delivery
