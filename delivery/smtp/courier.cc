#include "base/assert.h"
#include "base/probe.h"
#include "delivery/job/job_outcome.h"
#include "delivery/smtp/body_sender.h"
#include "delivery/smtp/courier_session.h"
#include "mail/convert.h"

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/connect.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>

#include <array>
#include <exception>
#include <netinet/in.h>
#include <new>

namespace postrider::delivery {

using mail::Stage;

namespace {

// The silence that a host which has answered may keep while others wait; no hanging one may take
// all places by saying a greeting.
constexpr Duration kAnswered = std::chrono::minutes(2);
// For a verdict that is on the way when the host has said that it closes.
constexpr Duration kDismissed = std::chrono::seconds(30);
constexpr unsigned kMostTries = 2;  // hosts or connections for one job in one attempt
constexpr std::uint64_t kMostConverted = 64U << 20U;
constexpr auto kMemoryPatience = std::chrono::minutes(2);
constexpr auto kMemoryPause = std::chrono::milliseconds(200);

Duration limit_of(Stage stage, const Timeouts& timeouts) {
  switch (stage) {
    case Stage::greeting:
      return timeouts.greeting;
    case Stage::ehlo:
      return timeouts.ehlo;
    case Stage::starttls:
      return timeouts.ehlo;
    case Stage::auth:
      return timeouts.auth;
    case Stage::mail:
      return timeouts.mail;
    case Stage::rcpt:
      return timeouts.rcpt;
    case Stage::data:
      return timeouts.data;
    case Stage::body:
      return timeouts.block;
    default:
      return timeouts.body_end;
  }
}

// Of a write: the remote, or the time it took, rather than this machine.
bool is_by_remote(const Error& error) {
  const auto& code = error.code();
  return code.category() != boost::system::system_category() || code == asio::error::broken_pipe ||
         code == asio::error::connection_reset || code == asio::error::connection_aborted ||
         code == asio::error::timed_out || code == asio::error::operation_aborted;
}

bool is_binary(const mail::Message& message) {
  return message.envelope.body == mail::BodyType::binary_mime;
}

// For a message that the remote cannot take as it is. Takes long.
Result<std::shared_ptr<const std::string>> to_seven_bit(const mail::Message& message,
                                                        const OpenBody& open_body) {
  try {
    auto bytes = load_bytes(message, open_body, kMostConverted);
    if (!bytes)
      return bytes.error();
    bytes->insert(0, message.content.trace);
    auto converted = mail::to_seven_bit(*bytes, is_binary(message));
    if (!converted)
      return converted.error();
    converted->shrink_to_fit();
    return std::make_shared<const std::string>(*std::move(converted));
  } catch (const std::bad_alloc&) {
    return Error(make_error_code(boost::system::errc::not_enough_memory), "convert to 7 bits");
  }
}

// What a conversion takes: the source, and a result that may be longer by half of it.
std::uint64_t memory_for(const mail::Message& message) {
  const auto size = message.content.trace.size() + message.content.size;
  return size + size + size / 2;
}

// Of binary content; other content goes as it came.
mail::Outcome not_convertible(const Error& error, const std::string& remote) {
  if (error.code() == make_error_code(Errc::unsupported))
    return decide(mail::Verdict::bounce, Stage::mail, {5, 6, 3},
                  "the message is binary, which " + remote +
                      " does not take and which cannot be converted without loss (" + error.step() +
                      ")");
  const auto code = error.code();
  if (code == boost::system::errc::not_enough_memory || code == make_error_code(Errc::stopped))
    return decide(mail::Verdict::retry, Stage::mail, {4, 3, 1},
                  "there is no memory now to convert the message for " + remote);
  return decide(mail::Verdict::retry, Stage::mail, {4, 3, 0},
                "our copy of the message cannot be read: " + error.describe());
}

}  // namespace

Courier::Courier(Loop& loop, CourierOrder order) : loop_(loop), order_(std::move(order)) {}
Courier::~Courier() = default;

void Courier::start() {
  loop_.spawn(run(shared_from_this()), *order_.log, "courier");
}

void Courier::take(Job job) {
  if (gone_) {
    CourierEvent event;
    event.kind = CourierEvent::Kind::gone;
    event.was_useful = was_useful_;
    event.returned.push_back(std::move(job));
    tell(std::move(event));
    return;
  }
  jobs_.push_back({std::move(job), {}});
  if (session_ != nullptr)
    pump(*session_);
}

void Courier::close() {
  closing_ = true;
  if (session_ != nullptr)
    pump(*session_);
}

void Courier::abort() {
  closing_ = aborted_ = true;
  if (session_ != nullptr)
    session_->stream.close();
}

void Courier::hurry(Duration most) {
  hurried_ = most;
  if (session_ == nullptr)
    return;
  const auto stage = session_->client.stage();
  if (!stage || session_->client.is_quitting())
    return;
  const auto whole = session_->is_reached ? patience(*session_, *stage)
                                          : std::min(most, order_.settings->timeouts.connect);
  const auto silent =
      std::chrono::duration_cast<Duration>(order_.clock->steady() - session_->heard);
  session_->stream.set_deadline(std::max(whole - silent, Duration(1)));
}

void Courier::give_way(Duration silence, bool ends) {
  if (gone_)
    return;
  const bool is_waiting = session_ != nullptr && session_->was_ready && session_->client.stage() &&
                          !session_->client.is_quitting();
  const bool is_silent = is_waiting && order_.clock->steady() - session_->heard >= silence;
  if (is_silent && ends) {
    const auto busy = boost::system::errc::device_or_resource_busy;
    session_->client.lost(Error(make_error_code(busy), "wait for a reply"));
    collect(*session_);
    abort();
    return;
  }
  CourierEvent event;
  event.kind = is_silent ? CourierEvent::Kind::waits_aside : CourierEvent::Kind::stays;
  tell(std::move(event));
}

void Courier::stand_aside(Duration silence, bool only_behind_content) {
  if (gone_ || session_ == nullptr || session_->client.is_quitting())
    return;
  const auto stage = session_->client.stage();
  // While content is sent the host has nothing to say; a login that is slow is one that fails, and
  // another one beside it makes it worse.
  if (!stage || stage == Stage::body || stage == Stage::auth ||
      order_.clock->steady() - session_->heard < silence)
    return;
  if (only_behind_content && stage != Stage::body_end)
    return;
  if (stage == Stage::body_end) {
    if (hold_)
      left_ = hold_->slot();
    hold_.reset();
  }
  CourierEvent event;
  event.kind = CourierEvent::Kind::waits_aside;
  event.address = session_->address;
  event.is_at_command = stage != Stage::body_end;
  tell(std::move(event));
}

// Behind the reply.
void Courier::come_back() {
  if (!left_)
    return;
  hold_.emplace(AddressSlot::take(left_));
  left_.reset();
  closing_ = closing_ || !*hold_;
}

void Courier::tell(CourierEvent event) {
  event.courier = shared_from_this();
  order_.tell(std::move(event));
}

// Whatever happens, what it has in hand goes back.
Task<void> Courier::run(std::shared_ptr<Courier> self) {
  try {
    co_await visit_candidates();
  } catch (const std::exception& error) {
    session_ = nullptr;
    failure_ = went_wrong_here(Stage::connect, error);
    order_.log->write(LogEvent(Level::error, "courier_broken").add("reason", error.what()));
  }
  while (is_converting_)
    co_await converted_.wait();
  finish();
}

Task<void> Courier::visit_candidates() {
  for (std::size_t at = 0; at < order_.candidates.size();) {
    const auto next = co_await visit(order_.candidates[at]);
    if (is_our_fault(failure_))
      break;  // the next host would fare no better
    if (next == Next::delivered_all || next == Next::stop)
      break;
    if (next == Next::next_host)
      ++at;
  }
}

// A connection, a conversation for as long as there is work, and what follows for the rest.
Task<Courier::Next> Courier::visit(const HostAddress& candidate) {
  if (sessions_ >= order_.conversations || aborted_ || (closing_ && jobs_.empty()))
    co_return Next::stop;
  if (std::exchange(retry_same_, false))
    sessions_ = 0;
  const bool was_ready_before = std::exchange(was_ready_, false);
  const auto next = co_await try_candidate(candidate);
  const bool was_converting = is_converting_;
  while (is_converting_)
    co_await converted_.wait();
  if (was_converting && !jobs_.empty())
    retry_same_ = true;  // the host only got tired of waiting
  if (next == Next::same_host_again)
    co_return next;
  if (was_ready_ && jobs_.empty())
    co_return Next::delivered_all;
  was_ready_ = was_ready_ || was_ready_before;
  co_return retry_same_ ? Next::same_host_again : Next::next_host;
}

// What is left: jobs that no host has failed go back, the others end as the last host said.
void Courier::finish() {
  gone_ = true;
  CourierEvent event;
  event.kind = CourierEvent::Kind::gone;
  event.failure = failure_;
  event.was_ready = was_ready_;
  event.was_useful = was_useful_;
  event.login = login_;
  event.login_detail = login_detail_;
  event.is_crowded = is_crowded_ && !was_tried_;
  event.takes_no_mail = refusals_ > 0 && refusals_ == order_.candidates.size();
  while (!jobs_.empty()) {
    auto waiting = std::move(jobs_.front());
    jobs_.pop_front();
    if (waiting.job.tries == 0)
      event.returned.push_back(std::move(waiting.job));
    else
      end_with(std::move(waiting.job), waiting.why);
  }
  tell(std::move(event));
}

void Courier::end_with(Job job, const mail::Outcome& outcome) {
  CourierEvent event;
  for (const auto index : job.recipients)
    event.end.results.push_back({index, outcome});
  event.end.job = std::move(job);
  event.room = room();
  tell(std::move(event));
}

// Zero: give it nothing more.
std::uint32_t Courier::room() const {
  if (session_ == nullptr || closing_ || session_->client.is_closing() ||
      session_->client.is_spent())
    return 0;
  return 1;
}

// The port is chosen at connect(), where many connections from one address may share it.
Result<void> Courier::leave_from(Socket& socket, const HostAddress& candidate) const {
  const auto family = candidate.endpoint.protocol().family();
  for (const auto& source : order_.sources) {
    if (family != (source.is_v4() ? AF_INET : AF_INET6))
      continue;
    boost::system::error_code failed;
    const auto address = asio::ip::make_address(source.str(), failed);
    if (!failed && !socket.is_open())
      socket.open(candidate.endpoint.protocol(), failed);
    const int on = 1;
    if (!failed)
      (void)::setsockopt(socket.native_handle(), IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on,
                         sizeof on);
    if (!failed)
      socket.bind(asio::ip::tcp::endpoint(address, 0), failed);
    if (failed)
      return Error(failed, "connect from " + source.str());
    return {};
  }
  return {};
}

Task<Result<void>> Courier::reach(Stream& stream, const HostAddress& candidate) {
  const auto usual = order_.settings->timeouts.connect;
  stream.set_deadline(hurried_ ? std::min(usual, *hurried_) : usual);
  if (auto bound = leave_from(stream.socket(), candidate); !bound)
    co_return bound.error();
  const auto [code] =
      co_await stream.socket().async_connect(candidate.endpoint, asio::as_tuple(use_task));
  if (code && stream.timed_out())
    co_return Error(asio::error::timed_out, "connect");
  if (code)
    co_return Error(code, "connect");
  co_return Result<void>{};
}

// The place that was kept for the first candidate.
AddressSlot::Hold Courier::take_hold() {
  if (!order_.hold)
    return {};
  AddressSlot::Hold hold(*std::move(order_.hold));
  order_.hold.reset();
  return hold;
}

// The same one again does not count as a try.
Task<Courier::Next> Courier::try_candidate(const HostAddress& candidate) {
  if (order_.secrets) {
    const bool has_some = co_await get_credentials(candidate);
    if (!has_some)
      co_return Next::next_host;
  }
  AddressSlot::Hold kept = take_hold();
  hold_.reset();
  left_.reset();
  hold_.emplace(kept || !candidate.slot ? std::move(kept) : AddressSlot::take(candidate.slot));
  if (candidate.slot && !*hold_) {
    is_crowded_ = true;
    co_return Next::next_host;
  }
  was_tried_ = true;
  Socket socket(loop_.context());
  boost::system::error_code failed;
  const auto protocol = candidate.endpoint.protocol();
  socket.open(asio::generic::stream_protocol(protocol.family(), protocol.protocol()), failed);
  if (failed) {
    failure_ = judge(Stage::connect, Error(failed, "open socket"), candidate.remote);
    co_return Next::next_host;
  }
  // The writer has a share of it, for what throws ends this coroutine first.
  const auto shared = std::make_shared<Session>(loop_, std::move(socket), order_.hostname,
                                                candidate, order_.dialect, security_for(candidate));
  auto& session = *shared;
  session.began = session.heard = order_.clock->steady();
  if (never_chunks_)
    session.client.never_chunk();
  session_ = &session;
  auto reached = co_await reach(session.stream, candidate);
  if (reached) {
    session.is_reached = true;
    session.heard = order_.clock->steady();
    std::exception_ptr thrown;
    try {
      co_await converse(shared);
    } catch (...) {
      thrown = std::current_exception();
    }
    if (thrown) {
      session_ = nullptr;
      end_session(session);
      session.client.lost(Error(Errc::stopped, "conversation"));
      collect(session);
      std::rethrow_exception(thrown);
    }
    if (session.client.takes_no_mail())
      ++refusals_;
  } else {
    failure_ = judge(Stage::connect, reached.error(), candidate.remote);
  }
  session_ = nullptr;
  session.stream.close();
  hold_.reset();
  was_useful_ = session.was_useful;
  if (reached && tries_again(session)) {
    --sessions_;
    co_return Next::same_host_again;
  }
  if (session.was_ready)
    co_return Next::next_host;
  if (reached)
    failure_ = session.client.failure();
  if (is_our_fault(failure_))
    co_return Next::next_host;
  CourierEvent event;
  event.kind = CourierEvent::Kind::unreachable;
  event.address = candidate.address;
  event.failure = failure_;
  tell(std::move(event));
  co_return Next::next_host;
}

// Reads until the conversation is over; a second coroutine writes, so that a remote that refuses
// in the middle of a large body is heard.
Task<void> Courier::converse(std::shared_ptr<Session> shared) {
  auto& session = *shared;
  ++sessions_;
  loop_.spawn(write_loop(shared_from_this(), shared), *order_.log, "courier writer");
  arm(session);
  while (!session.client.is_closing()) {
    if (session.client.wants_handshake()) {
      co_await shake_hands(session);
      pump(session);
      continue;
    }
    if (session.client.wants_sasl_step()) {
      co_await take_sasl_step(session);
      pump(session);
      continue;
    }
    auto readable = co_await session.stream.wait_readable();
    if (readable)
      read_what_came(session);
    else if (!session.client.is_idle())
      session.client.lost(readable.error());
    else
      break;
    collect(session);
    if (!session.client.is_closing())
      pump(session);
  }
  if (session.client.may_quit() && session.stream.is_open())
    session.stream.write_now("QUIT\r\n");
  if (order_.sessions && !session.session_key.empty() && session.was_ready)
    order_.sessions->keep(session.session_key, session.stream.tls_session());
  end_session(session);
  co_await session.writer_gone.wait();
  if (!session.client.is_closing())
    session.client.lost(Error(asio::error::eof, "read"));
  collect(session);
}

void Courier::end_session(Session& session) {
  session.is_over = true;
  session.stream.close();
  session.wake.set();
}

void Courier::read_what_came(Session& session) {
  thread_local std::array<char, 16384> room;
  auto got = session.stream.read_now(room.data(), room.size());
  if (!got && got.error().code() == asio::error::would_block)
    return;
  auto& client = session.client;
  if (!got) {
    client.lost(got.error());
    return;
  }
  const auto fed = client.feed(std::string_view(room.data(), *got));
  if (!fed)
    client.lost(fed.error());
}

// The reader waits for its end, however it comes.
Task<void> Courier::write_loop(std::shared_ptr<Courier> self, std::shared_ptr<Session> shared) {
  struct Farewell {
    ~Farewell() { session.writer_gone.set(); }
    Session& session;
  };
  const Farewell farewell{*shared};
  try {
    co_await write_all(*shared);
  } catch (const std::exception&) {
    shared->stream.close();
    shared->client.lost(Error(Errc::stopped, "write"));
    throw;
  }
}

Task<void> Courier::write_all(Session& session) {
  const SendLimits limits{order_.settings->timeouts.block, order_.settings->timeouts.body_end};
  while (!session.is_over) {
    if (!session.client.has_output()) {
      co_await session.wake.wait();
      continue;
    }
    auto pieces = session.client.take_output();
    auto sent = co_await send_pieces(session.stream, session.client, std::move(pieces),
                                     order_.open_body, limits);
    if (sent)
      continue;
    // A remote that closed may have said why: the reader finds out. Where the fault is ours nobody
    // will answer what was never sent; nor what was cut short because our copy is damaged.
    const bool is_corrupt = sent.error().code() == make_error_code(Errc::corrupt);
    if (is_corrupt || !is_by_remote(sent.error())) {
      session.client.lost(sent.error());
      session.stream.close();
    }
    break;
  }
}

// Brings what the client has learned to the dispatcher.
void Courier::collect(Session& session) {
  auto& client = session.client;
  note_tls(session);
  if (client.is_ready() && !session.was_ready) {
    session.was_ready = was_ready_ = true;
    session.connecting =
        std::chrono::duration_cast<Duration>(order_.clock->steady() - session.began);
    CourierEvent event;
    event.kind = CourierEvent::Kind::ready;
    event.address = session.address;
    event.room = room();
    tell(std::move(event));
  }
  for (auto& part : client.take_settled()) {
    CourierEvent event;
    event.partial = true;
    event.end = std::move(part);
    event.room = room();
    tell(std::move(event));
  }
  for (auto& ended : client.take_ended()) {
    come_back();
    POSTRIDER_PROBE4(attempt_end, ended.job.message->id.value, client.remote().c_str(),
                     ended.results.size(), ended.unsettled.size());
    const bool partial = !ended.unsettled.empty();
    if (partial)
      keep_unsettled(session, ended);
    if (ended.results.empty())
      continue;
    ended.connecting = std::exchange(session.connecting, Duration(0));
    if (!std::exchange(session.was_useful, true))
      note_clear(session);
    const bool is_through = std::any_of(
        ended.results.begin(), ended.results.end(),
        [](const auto& result) { return result.outcome.verdict == mail::Verdict::delivered; });
    if (order_.sessions && is_through)
      order_.sessions->note_through(client.remote());
    CourierEvent event;
    event.partial = partial;
    event.end = std::move(ended);
    event.room = room();
    tell(std::move(event));
  }
}

// Behind a message that went through, the usual cause is that the remote closes after each, or had
// closed the idle connection: that is not a failed try. The job goes first on a new connection.
void Courier::keep_unsettled(Session& session, JobEnd& ended) {
  session.is_left = true;
  Job job = ended.job;
  job.recipients = ended.unsettled;
  if (ended.reused && ended.results.empty() && !ended.was_heard && session.was_useful) {
    retry_same_ = true;
    jobs_.push_front({std::move(job), ended.why});
    return;
  }
  if (++job.tries >= kMostTries) {
    end_with(std::move(job), ended.why);
    return;
  }
  if (ended.why.reply.code != 0)
    for (const auto index : job.recipients)
      job.refused.push_back({index, ended.why});
  jobs_.push_back({std::move(job), ended.why});
}

// Whatever can be done now: begin jobs, write, close.
void Courier::pump(Session& session) {
  auto& client = session.client;
  const auto may_begin = [&] {
    return client.can_begin() && !session.is_left && !session.stream.timed_out() && !is_converting_;
  };
  // What was lost in the middle before gets a new connection, which others have not used up.
  if (!jobs_.empty() && jobs_.front().job.in_doubt && client.messages() > 0 && may_begin())
    session.is_left = retry_same_ = true;
  while (!jobs_.empty() && may_begin()) {
    auto waiting = std::move(jobs_.front());
    jobs_.pop_front();
    begin(session, std::move(waiting));
  }
  collect(session);
  const bool has_nothing_left = session.is_left || (closing_ ? jobs_.empty() : client.is_spent());
  if (client.is_idle() && has_nothing_left && client.may_quit())
    client.quit();
  arm(session);
  if (client.has_output())
    session.wake.set();
}

void Courier::begin(Session& session, Waiting waiting) {
  auto& client = session.client;
  client.set_time(order_.clock->now());
  std::shared_ptr<const std::string> converted;
  if (!waiting.has_no_other_form &&
      client.fitting(waiting.job).kind == Compatibility::Kind::needs_seven_bit) {
    if (!waiting.converted) {
      begin_converting(std::move(waiting), client.remote());
      return;
    }
    converted = std::move(waiting.converted);
  }
  POSTRIDER_PROBE3(attempt_begin, waiting.job.message->id.value, client.remote().c_str(),
                   waiting.job.recipients.size());
  client.begin(std::move(waiting.job), std::move(converted));
}

Task<Result<void>> Courier::wait_for_memory(std::uint64_t octets) {
  const auto give_up_at = std::chrono::steady_clock::now() + kMemoryPatience;
  asio::steady_timer timer(loop_.context());
  while (!order_.conversions->take(octets)) {
    if (aborted_ || std::chrono::steady_clock::now() > give_up_at)
      co_return Error(Errc::stopped, "wait for memory");
    timer.expires_after(kMemoryPause);
    (void)co_await timer.async_wait(asio::as_tuple(use_task));
  }
  co_return Result<void>{};
}

void Courier::begin_converting(Waiting waiting, std::string remote) {
  const auto shared = std::make_shared<Waiting>(std::move(waiting));
  is_converting_ = true;
  try {
    loop_.spawn(convert(shared_from_this(), shared, std::move(remote)), *order_.log, "conversion");
  } catch (...) {
    is_converting_ = false;
    jobs_.push_front(std::move(*shared));
    throw;
  }
}

// Counted for as long as anybody needs the result.
Task<Result<std::shared_ptr<const std::string>>> Courier::make_seven_bit(
    std::shared_ptr<const mail::Message> message) {
  using Converted = Result<std::shared_ptr<const std::string>>;
  struct Taken {
    ~Taken() {
      if (budget)
        budget->give(octets);
    }
    std::shared_ptr<MemoryBudget> budget;
    std::uint64_t octets = 0;
    std::shared_ptr<const std::string> text;
  };
  if (message->content.size > kMostConverted)
    co_return Error(Errc::unsupported, "convert a message of this size");
  const auto octets = memory_for(*message);
  auto room = co_await wait_for_memory(octets);
  if (!room)
    co_return room.error();
  std::shared_ptr<Taken> taken;
  try {
    taken = std::make_shared<Taken>();
  } catch (const std::bad_alloc&) {
    order_.conversions->give(octets);
    throw;
  }
  taken->budget = order_.conversions;
  taken->octets = octets;
  std::function<Converted()> job = [message, open_body = order_.open_body] {
    return to_seven_bit(*message, open_body);
  };
  auto made = co_await order_.pool->run<Converted>(loop_, std::move(job));
  if (!made)
    co_return made.error();
  const auto kept = std::min<std::uint64_t>(octets, (*made)->size());
  taken->octets = kept;
  taken->budget->give(octets - kept);
  taken->text = *std::move(made);
  co_return std::shared_ptr<const std::string>(taken, taken->text.get());
}

// Whatever happens, the job goes on or ends, and its end is reported to whoever waits for it.
Task<void> Courier::convert(std::shared_ptr<Courier> self, std::shared_ptr<Waiting> waiting,
                            std::string remote) {
  const auto message = waiting->job.message;
  Result<std::shared_ptr<const std::string>> made = Error(Errc::stopped, "convert to 7 bits");
  try {
    made = co_await make_seven_bit(message);
  } catch (const std::exception& error) {
    order_.log->write(LogEvent(Level::error, "courier_broken").add("reason", error.what()));
  }
  is_converting_ = false;
  if (made) {
    waiting->converted = *std::move(made);
    jobs_.push_front(std::move(*waiting));
  } else if (made.error().code() == make_error_code(Errc::unsupported) && !is_binary(*message)) {
    waiting->has_no_other_form = true;
    jobs_.push_front(std::move(*waiting));
  } else {
    end_with(std::move(waiting->job), not_convertible(made.error(), remote));
  }
  converted_.set();
  if (session_ != nullptr)
    pump(*session_);
}

// One deadline: that of the reply awaited, moved on by whole replies only (attacks.md X08), or the
// time that a connection may be idle.
void Courier::arm(Session& session) {
  auto& client = session.client;
  const auto stage = client.stage();
  const bool is_idle = !stage;
  const bool moved = client.replies() != session.replies_seen || is_idle != session.is_idle;
  if (!moved)
    return;
  session.replies_seen = client.replies();
  session.is_idle = is_idle;
  session.heard = order_.clock->steady();
  if (client.is_quitting()) {
    session.stream.set_deadline(order_.settings->timeouts.quit);
    return;
  }
  session.stream.set_deadline(is_idle ? order_.settings->idle_connection
                                      : patience(session, *stage));
}

Duration Courier::patience(const Session& session, Stage stage) const {
  const auto& timeouts = order_.settings->timeouts;
  auto usual = limit_of(stage, timeouts);
  if (session.client.is_tls_unsure())
    usual = std::min(usual, timeouts.handshake);
  if (session.client.is_dismissed())
    return std::min(usual, kDismissed);
  const bool is_behind_data = stage == Stage::body || stage == Stage::body_end;
  if (!hurried_ || session.was_useful || is_behind_data)
    return usual;
  return std::min(usual, stage > Stage::greeting ? std::max(kAnswered, *hurried_) : *hurried_);
}

}  // namespace postrider::delivery
