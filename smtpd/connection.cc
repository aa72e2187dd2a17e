#include "smtpd/connection.h"

#include "base/probe.h"
#include "base/text.h"
#include "mail/reply.h"
#include "smtpd/proxy_protocol.h"
#include "smtpd/session/replies.h"

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/post.hpp>

#include <algorithm>
#include <charconv>
#include <new>
#include <utility>

namespace postrider::smtpd {

using Need = SessionFramer::Need;

namespace {

const std::string kNoHop;

// After a refusal that ends the session, what the client still sends is read for this long and
// dropped: closing at once would reset the connection and take our last reply with it.
constexpr Duration kLinger = std::chrono::seconds(1);
constexpr std::size_t kMostLingering = 256U << 10U;
// A line that is longer than most ever are: who is over its share of the memory keeps none.
constexpr std::size_t kLongLine = 512;
constexpr std::size_t kRecord = 17U << 10U;  // of TLS, on its way to the client

// What is likely to hang in the same place. An extension of a name changes nothing.
std::string key_of(const Policy::Question& question) {
  using Kind = Policy::Question::Kind;
  const auto& address =
      question.kind == Kind::sender ? question.address : question.recipient.address;
  const auto at = std::min(address.rfind('@'), address.size());
  return (question.kind == Kind::sender ? "<" : ">") +
         ascii_lower(address.substr(0, std::min(at, address.find('+')))) + address.substr(at);
}

// Of a reply as it was sent; 0: it begins with none.
int code_of(std::string_view reply) {
  int code = 0;
  std::from_chars(reply.data(), reply.data() + std::min<std::size_t>(reply.size(), 3), code);
  return code;
}

// Of its enhanced code; 0: it has none.
std::size_t subject_of(std::string_view reply) {
  constexpr std::size_t kCode = 4;  // "550 "
  const auto code = mail::parse_enhanced_code(reply.substr(std::min(kCode, reply.size())));
  return code ? code->subject : 0;
}

std::atomic<std::uint64_t>& counter_of(const TlsFacts& tls, LoopCounters& counters) {
  if (tls.protocol == "TLSv1.3")
    return counters.tls_1_3;
  return tls.protocol == "TLSv1.2" ? counters.tls_1_2 : counters.tls_older;
}

Client client_of(const Arrival& arrival) {
  Client client;
  client.address = arrival.address;
  client.port = arrival.port;
  client.local_user = arrival.local_user;
  return client;
}

bool is_stranger(Role role, const Client& client) {
  return role == Role::mx && !client.trusted && !client.address.is_none();
}

bool is_loopback(const IpAddress& address) {
  static const auto v4 = Network::parse("127.0.0.0/8").value();
  static const auto v6 = Network::parse("::1/128").value();
  return address.is_none() || v4.contains(address) || v6.contains(address);
}

// Nobody listens on loopback but root; whoever is behind a proxy is not on loopback.
bool may_log_in_in_clear(const ServerSettings& settings, const Arrival& arrival) {
  return settings.auth_in_clear && arrival.tls_start == TlsStart::never && !arrival.proxied &&
         is_loopback(arrival.address);
}

auth::Channel channel_of(const Stream& stream) {
  auth::Channel channel;
  channel.is_private = true;
  channel.fingerprint = stream.tls()->fingerprint;
  if (auto exporter = stream.channel_binding(ChannelBinding::exporter))
    channel.bindings.tls_exporter = *std::move(exporter);
  if (auto end_point = stream.channel_binding(ChannelBinding::server_end_point))
    channel.bindings.server_end_point = *std::move(end_point);
  return channel;
}

// None: the connection is over. What followed the header stays in the buffer.
Task<std::optional<ProxyHeader>> read_proxy_header(Stream& stream, IoBuffer& buffer, Log& log,
                                                   const IpAddress& proxy) {
  for (;;) {
    auto got =
        co_await stream.read_some(buffer.in.data() + buffer.end, buffer.in.size() - buffer.end);
    if (!got)
      co_return std::nullopt;
    buffer.end += *got;
    std::size_t used = 0;
    auto header = parse_proxy_header(std::string_view(buffer.in.data(), buffer.end), used);
    if (!header) {
      maillog::turned_away(log, proxy, header.error().describe(), {});
      co_return std::nullopt;
    }
    if (!*header)
      continue;
    buffer.begin = used;
    co_return **std::move(header);
  }
}

Task<void> linger(Stream& stream, IoBuffer& buffer) {
  stream.set_deadline(kLinger);
  for (std::size_t dropped = 0; dropped < kMostLingering;) {
    auto got = co_await stream.read_some(buffer.in.data(), buffer.in.size());
    if (!got)
      co_return;
    dropped += *got;
  }
}

}  // namespace

Connection::Connection(std::shared_ptr<LoopConnections> reception, Socket socket,
                       const Arrival& arrival)
    : reception_(std::move(reception)),
      settings_(reception_->settings()),
      policy_(reception_->policy()),
      stream_(reception_->loop(), std::move(socket)),
      arrival_(arrival),
      client_(client_of(arrival)),
      slots_(reception_->slots()),
      memory_(*reception_, policy_->limits(), [this] { let_go(); }),
      tls_memory_(*reception_, policy_->limits(), [this] { give_way(); }),
      jobs_(reception_->loop(), reception_->lookups(), settings_->timeouts.lookup),
      naming_(*reception_),
      pace_(reception_->clock().steady()) {
  count(reception_->counters().connections);
  reception_->add(*this);
}

Connection::~Connection() {
  reception_->slots().give_back();
  reception_->remove(*this);
}

// Without memory this one session ends, and no other.
Task<void> Connection::serve(std::unique_ptr<Connection> connection) {
  try {
    co_await connection->live();
  } catch (const std::bad_alloc&) {
    connection->say(replies::kNoMemory);
    count(connection->reception_->counters().turned_away);
  }
}

Task<void> Connection::live() {
  buffer_ = reception_->buffers().borrow();
  bool is_nobody = false;  // a proxy does not know, or speaks for itself: never one of ours
  if (arrival_.proxied) {
    stream_.set_deadline(settings_->timeouts.proxy);
    const auto header = co_await read_proxy_header(stream_, *buffer_, log(), arrival_.address);
    if (!header)
      co_return;
    is_nobody = header->is_local;
    if (!is_nobody) {
      client_.address = header->source;
      client_.port = header->source_port;
    }
  }
  client_.trusted = !is_nobody && policy_->is_trusted(client_.address);
  if (!take_slots())
    co_return;
  const auto session_id = to_string(reception_->custody().next_id());
  begin_session(session_id);
  const IpAddress proxy = arrival_.proxied ? arrival_.address : IpAddress();
  maillog::connected(log(), session_id, client(), proxy);
  POSTRIDER_PROBE2(session_begin, session_id.c_str(), client().port);
  if (arrival_.tls_start != TlsStart::at_once || co_await shake_hands())
    co_await converse();
  summary_.commands = talk_->commands();
  summary_.messages = intake_->stored();
  maillog::disconnected(log(), talk_->session(), summary_);
  POSTRIDER_PROBE3(session_end, session_id.c_str(), summary_.commands, summary_.messages);
  if (summary_.end == maillog::End::refused ||
      (summary_.end == maillog::End::stopping && talk_->session().transaction().is_begun())) {
    stream_.shut_down_sending();
    if (!reception_->is_stressed())
      co_await linger(stream_, *buffer_);
  }
}

// The part of the slots that is kept for our own clients is not for those behind a proxy either.
bool Connection::take_slots() {
  const auto limit = reception_->session_limit();
  const bool is_full =
      arrival_.proxied && !client_.trusted && reception_->slots().open() > limit - limit / 8;
  if (!is_full && slots_.take(client_, policy_->limits(), limit))
    return true;
  const auto reply = is_full ? replies::kAllBusy : replies::kTooManySessions;
  count(reception_->counters().turned_away);
  maillog::turned_away(log(), client_.address, is_full ? "all slots taken" : "too many sessions",
                       reply);
  if (arrival_.tls_start != TlsStart::at_once)  // who waits for a handshake cannot read it
    say(reply);
  return false;
}

void Connection::begin_session(const std::string& session_id) {
  auto& session =
      talk_.emplace(Session(policy_, client_, arrival_.role, session_id, this)).session();
  naming_.begin(client_, arrival_.role, *settings_, [this](const ClientName& name) {
    talk_->session().set_client_name(name);
    if (filters_)
      filters_->set_client_name(name);
  });
  if (!settings_->filters.empty()) {
    filter::Facts facts;
    facts.session = session_id;
    facts.hostname = settings_->hostname;
    facts.role = arrival_.role;
    facts.client = client();
    if (arrival_.listener)
      facts.listener = *arrival_.listener;
    facts.is_on_its_way = arrival_.next_hop && !arrival_.next_hop->empty();
    filter::Surroundings around{reception_->loop(), reception_->clock(), reception_->log(),
                                reception_->questioner()};
    around.aside = [this](std::string key, std::function<void()> job) {
      return jobs_.run({std::move(key), Policy::may_relay(client()), std::move(job)});
    };
    around.client_name = [this] { return naming_.await(); };
    filters_ = std::make_unique<SessionFilters>(settings_->filters, std::move(facts), around);
    if (filters_->empty())
      filters_.reset();
    else
      session.set_filtered(filters_->stages());
  }
  intake_.emplace(MessageIntake::Parts{*reception_, stream_, *talk_, filters_.get(), jobs_, pace_,
                                       memory_, arrival_.next_hop ? *arrival_.next_hop : kNoHop});
  if (may_log_in_in_clear(*settings_, arrival_)) {
    auth::Channel channel;
    channel.is_private = true;
    session.set_channel(std::move(channel));
  }
  if (arrival_.tls_start == TlsStart::starttls)
    session.offer_starttls();
}

void Connection::refresh_conditions() {
  auto& conditions = talk_->session().conditions();
  reception_->note(conditions);
  conditions.now = reception_->clock().now();
  conditions.crowded = memory_.is_over_share();
}

// Programs that do not wait for a greeting do not wait for this long either. Slots that run low are
// not spent on waiting.
Task<void> Connection::hold_greeting() {
  const auto delay = settings_->greeting_delay;
  if (delay.count() == 0 || !is_stranger(arrival_.role, client()) ||
      arrival_.tls_start == TlsStart::at_once || reception_->is_stressed() ||
      reception_->is_stopping() || buffer_->begin != buffer_->end)
    co_return;
  Deadline pause(reception_->loop().deadlines(), [this] {
    boost::system::error_code ignored;
    stream_.socket().cancel(ignored);
  });
  pause.set(delay);
  lay_buffer_aside();
  // Whatever ends the wait, what comes next sees it.
  (void)co_await stream_.socket().async_wait(Socket::wait_read, asio::as_tuple(use_task));
  take_buffer();
}

// A client that sends before it was greeted is not speaking SMTP with us (attacks.md P01).
bool Connection::talks_early() {
  auto& buffer = *buffer_;
  if (buffer.begin == buffer.end) {
    const auto got = stream_.read_now(buffer.in.data(), buffer.in.size());
    if (!got)
      return false;
  }
  say(replies::kOutOfStep);
  refused({"CONNECT", replies::kOutOfStep, {}, {}});
  summary_.end = maillog::End::refused;
  return true;
}

Task<void> Connection::converse() {
  co_await hold_greeting();
  refresh_conditions();
  if (talks_early())
    co_return;
  Need need = talk_->open(buffer_->replies);
  for (;;) {
    // Replies to what a client sent in one go leave in one go, unless they would wait for long.
    const bool is_in_group = need == Need::store || need == Need::look_up || need == Need::filter;
    if (!is_in_group && !buffer_->replies.empty()) {
      auto sent = co_await send_replies();
      if (!sent) {
        note_end(sent.error());
        co_return;
      }
    }
    if (need == Need::close)
      co_return note_hang_up();
    if (need == Need::store) {
      need = co_await store();
      if (need == Need::close)
        continue;
    } else if (need == Need::look_up) {
      need = co_await look_up();
      if (need != Need::input)
        continue;
    } else if (need == Need::filter) {
      need = co_await ask_filters();
      if (need != Need::input)
        continue;
    } else if (need == Need::ask) {
      need = co_await authenticate();
      if (need != Need::input)
        continue;
    } else if (need == Need::start_tls) {
      if (!co_await shake_hands())
        co_return;
    } else if (need == Need::input) {
      auto read = co_await read_more();
      if (!read) {
        note_end(read.error());
        co_return;
      }
    }
    need = take();
    if (filters_ != nullptr)
      co_await intake_->show_to_filters(need);
    keep_content();
    if (must_end_for_memory()) {
      say(buffer_->replies.append(replies::kNoMemory));
      count(reception_->counters().turned_away);
      summary_.end = maillog::End::refused;
      co_return;
    }
    if (intake_->waits_for_tables() && need != Need::store && need != Need::close) {
      co_await intake_->rewrite_header();
      keep_content();
    }
  }
}

Need Connection::take() {
  refresh_conditions();
  auto& buffer = *buffer_;
  std::size_t used = 0;
  const auto need =
      talk_->take(std::string_view(buffer.in.data() + buffer.begin, buffer.end - buffer.begin),
                  used, buffer.replies);
  buffer.begin += used;
  return need;
}

Task<Need> Connection::store() {
  stream_.clear_deadline();  // the client has done its part
  waiting_ = Waiting::storing;
  co_await naming_.await();
  const bool more_has_come = buffer_->begin < buffer_->end;
  const auto need = co_await intake_->store(buffer_->replies, more_has_come);
  waiting_ = Waiting::no;
  co_return need;
}

// The session waits, and nobody else on this loop.
Task<Need> Connection::look_up() {
  stream_.clear_deadline();  // the client has done its part
  struct Found {
    std::optional<Policy::Answer> answer;
  };
  const auto found = std::make_shared<Found>();
  auto question = talk_->session().transaction().question();
  Lookups::Job job;
  job.key = key_of(question);
  job.is_own = Policy::may_relay(client());
  job.ask = [found, policy = policy_, question = std::move(question)] {
    found->answer = policy->judge(question);
  };
  lay_buffer_aside();
  const bool is_answered = co_await jobs_.run(std::move(job));
  take_buffer();
  pace_.restart();
  refresh_conditions();
  co_return talk_->looked_up(is_answered ? std::move(found->answer) : std::nullopt,
                             buffer_->replies);
}

// A command that the session accepts.
Task<Need> Connection::ask_filters() {
  stream_.clear_deadline();  // the client has done its part
  lay_buffer_aside();
  auto verdict =
      co_await filters_->ask(talk_->session(), [this] { return reception_->custody().next_id(); });
  take_buffer();
  pace_.restart();
  refresh_conditions();
  co_return talk_->filtered(std::move(verdict), buffer_->replies);
}

Task<Need> Connection::authenticate() {
  stream_.clear_deadline();  // the client has done its part
  const auto& session = talk_->session();
  if (!exchange_) {
    auth::Attempt attempt;
    attempt.session = session.facts().id;
    attempt.client = client_.address;
    attempt.mechanism = session.login().mechanism();
    attempt.channel = session.login().channel();
    exchange_ = settings_->auth->begin(reception_->loop(), std::move(attempt));
  }
  auto question = session.login().question();
  lay_buffer_aside();
  const auto answer = co_await exchange_->ask(std::move(question));
  take_buffer();
  pace_.restart();
  const auto need = talk_->answered(answer, buffer_->replies);
  if (!session.login().is_under_way())
    exchange_.reset();
  co_return need;
}

// False: the session is over. Nothing that came in clear is left: behind STARTTLS it has ended the
// session already (attacks.md T01), and what still waits in the socket is read as a handshake.
// Only what followed a PROXY header in one piece belongs to the handshake.
Task<bool> Connection::shake_hands() {
  auto& buffer = *buffer_;
  std::string received;
  if (arrival_.tls_start == TlsStart::at_once)
    received.assign(buffer.in.data() + buffer.begin, buffer.end - buffer.begin);
  buffer.begin = buffer.end = 0;
  buffer_.reset();
  stream_.set_deadline(settings_->timeouts.handshake);
  stream_.watch_memory(
      [this](std::size_t octets) { return tls_memory_.wait_with(octets, client()); });
  auto context = arrival_.tls;
  auto done = co_await stream_.start_tls_server(std::move(context), std::move(received));
  tls_memory_.go_on();
  take_buffer();
  pace_.restart();
  auto& session = talk_->session();
  if (!done) {
    const auto error = done.error();
    if (error.code() == boost::system::errc::not_enough_memory)
      count(reception_->counters().turned_away);
    count(reception_->counters().tls_failed);
    maillog::tls_failed(log(), session, stream_.tls(), error);
    summary_.end =
        error.code() == asio::error::timed_out ? maillog::End::timeout : maillog::End::lost;
    summary_.error = error;
    co_return false;
  }
  count(counter_of(*stream_.tls(), reception_->counters()));
  session.on_tls(*stream_.tls(), channel_of(stream_));
  talk_->in_tls();
  maillog::encrypted(log(), session);
  if (tls_memory_.begin_session(client()))
    co_return true;
  say(replies::kNoMemory);
  count(reception_->counters().turned_away);
  summary_.end = maillog::End::refused;
  co_return false;
}

Task<Result<void>> Connection::read_more() {
  buffer_->begin = buffer_->end = 0;
  const bool is_idle = talk_->is_idle();
  const auto now = reception_->clock().steady();
  if (jobs_.has_given_up() || (is_idle && reception_->is_stopping()))
    co_return Error(Errc::stopped, "wait for command");
  if (pace_.is_over(now, settings_->timeouts))
    co_return Error(asio::error::timed_out, "session");
  const bool holds_much = memory_.octets() > memory_.first_octets() && reception_->is_tight();
  if (const auto limit =
          pace_.deadline(*talk_, now, settings_->timeouts, {is_patient(), holds_much}))
    stream_.set_deadline(*limit);
  if (pace_.ends_turn())
    co_await asio::post(reception_->loop().executor(), use_task);
  for (;;) {
    auto& buffer = *buffer_;
    auto got = stream_.read_now(buffer.in.data(), buffer.in.size());
    if (got) {
      tls_memory_.go_on();
      buffer.end = *got;
      pace_.count(*got);
      co_return Result<void>{};
    }
    if (got.error().code() != asio::error::would_block)
      co_return got.error();
    // However many wait, for a command's end or within content (X01), they wait without a buffer.
    buffer_.reset();
    pace_.begin_turn();
    waiting_ = is_idle ? Waiting::idle : Waiting::no;
    memory_.set_waits_for_client(true);
    auto readable = co_await stream_.wait_readable();
    memory_.set_waits_for_client(false);
    tls_memory_.go_on();
    waiting_ = Waiting::no;
    take_buffer();
    if (!readable)
      co_return readable.error();
  }
}

Task<Result<void>> Connection::send_replies() {
  auto& replies = buffer_->replies;
  const auto taken = stream_.write_now(replies);
  if (taken < replies.size()) {
    const auto& times = settings_->timeouts;
    stream_.set_deadline(is_patient() ? times.reply : std::min(times.reply, times.stressed));
    // What nobody reads is kept for a client, too.
    unread_ = replies.capacity() + IoBuffer::kSize + (stream_.tls() != nullptr ? kRecord : 0);
    const bool is_within_share = memory_.note(octets_in_memory(), client());
    const auto rest = std::string_view(replies).substr(taken);
    memory_.set_waits_for_client(true);
    Result<void> sent =
        Error(boost::system::errc::make_error_code(boost::system::errc::not_enough_memory),
              "keep replies that nobody reads");
    if (is_within_share)
      sent = co_await stream_.write(rest);
    memory_.set_waits_for_client(false);
    unread_ = 0;
    memory_.note(octets_in_memory(), client());
    if (!sent)
      co_return sent;
    pace_.restart();
  }
  replies.clear();
  co_return Result<void>{};
}

// For a wait that is not for the client's next octets either. What has come behind a line stays.
void Connection::lay_buffer_aside() {
  if (buffer_->begin == buffer_->end && buffer_->replies.empty())
    buffer_.reset();
}

void Connection::take_buffer() {
  if (!buffer_)
    buffer_ = reception_->buffers().borrow();
}

void Connection::keep_content() {
  memory_.check(octets_in_memory(), client());
  intake_->keep_large_content();
  memory_.note(octets_in_memory(), client());
}

std::size_t Connection::octets_in_memory() {
  auto octets = unread_ + talk_->session().transaction().octets() + talk_->line_octets();
  if (const auto* content = talk_->intake())
    octets += content->capacity();
  return filters_ != nullptr ? octets + filters_->octets() : octets;
}

// What it keeps of lines cannot go to a file.
bool Connection::must_end_for_memory() const {
  return memory_.is_over_share() && memory_.octets() > memory_.first_octets() &&
         talk_->line_octets() > kLongLine;
}

// Content that cannot go to a file is refused at its end; where there is none, and much is kept,
// the session ends.
void Connection::let_go() {
  const auto before = memory_.octets();
  keep_content();
  if (memory_.octets() <= std::max(memory_.first_octets(), before / 2))
    return;
  say(replies::kNoMemory);
  count(reception_->counters().turned_away);
  close();
}

// It has waited longest for the rest of a handshake, or of a record.
void Connection::give_way() {
  say(replies::kNoMemory);
  count(reception_->counters().turned_away);
  close();
}

void Connection::note_hang_up() {
  using State = maillog::End;
  if (intake_->has_client_left()) {
    summary_.end = State::lost;
    summary_.error = Error(asio::error::eof, "wait for the reply to a message");
  } else if (reception_->is_stopping())
    summary_.end = State::stopping;
  else
    summary_.end = talk_->session().has_quit() ? State::quit : State::refused;
}

void Connection::note_end(const Error& error) {
  if (reception_->is_stopping()) {
    summary_.end = maillog::End::stopping;
    say(replies::kStopping);
  } else if (error.code() == asio::error::timed_out) {
    summary_.end = maillog::End::timeout;
    say(replies::kTimeout);
  } else if (error.code() == boost::system::errc::not_enough_memory) {
    summary_.end = maillog::End::refused;
    say(replies::kNoMemory);
    count(reception_->counters().turned_away);
  }
  summary_.error = error;
}

void Connection::say(std::string_view reply) {
  // What does not fit at once is not worth waiting for.
  (void)stream_.write_now(reply);
}

void Connection::give_up_waiting() {
  jobs_.give_up();
  naming_.give_up();
  if (filters_)
    filters_->give_up();
}

// Ends the wait under way, whose end says why. Who waits for a reply about a message that may be
// stored already hears it.
void Connection::give_up() {
  give_up_waiting();
  if (!talk_)
    stream_.close();
  else if (waiting_ != Waiting::storing)
    stream_.set_deadline(Duration(0));
}

void Connection::close() {
  give_up_waiting();
  stream_.close();
}

void Connection::end_if_idle() {
  boost::system::error_code ignored;
  if (!talk_)
    stream_.close();
  else if (waiting_ == Waiting::idle)
    stream_.socket().cancel(ignored);
}

void Connection::hurry() {
  const bool waits_for_command = memory_.waits_for_client() && talk_ && !talk_->reads_content();
  if (waits_for_command && !client().trusted)
    stream_.set_deadline(std::min(settings_->timeouts.command, settings_->timeouts.stressed));
}

void Connection::refused(const Refusal& refusal) {
  count_rejection(reception_->counters(), code_of(refusal.reply), subject_of(refusal.reply));
  const auto& note_failure = settings_->note_failure;
  const bool is_circle = refusal.reply == replies::kCircle;
  if (is_circle)
    maillog::alias_circle(log(), talk_->session(), refusal);
  if (note_failure && !is_circle && refusal.reply.starts_with('5') &&
      is_stranger(arrival_.role, client()) && !Policy::may_relay(client()))
    note_failure(client_.address);
  maillog::rejected(log(), talk_->session(), refusal);
}

void Connection::authenticated(const AuthEnd& end) {
  maillog::auth_ended(end.passed ? reception_->log() : log(), talk_->session(), end);
}

}  // namespace postrider::smtpd
