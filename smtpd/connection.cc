#include "smtpd/connection.h"

#include "base/text.h"
#include "smtpd/connection_filter.h"
#include "smtpd/proxy_protocol.h"
#include "smtpd/session/replies.h"

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/post.hpp>

#include <algorithm>
#include <new>
#include <utility>

namespace postrider::smtpd {

using Need = SessionFramer::Need;

namespace {

// After a refusal that ends the session, what the client still sends is read for this long and
// dropped: closing at once would reset the connection and take our last reply with it.
constexpr Duration kLinger = std::chrono::seconds(1);
constexpr std::size_t kMostLingering = 256U << 10U;
// What one connection may read before the loop's other work has its turn.
constexpr std::size_t kTurn = 64U << 10U;
// A line that is longer than most ever are: who is over its share of the memory keeps none.
constexpr std::size_t kLongLine = 512;

// What is likely to hang in the same place. An extension of a name changes nothing.
std::string key_of(const Policy::Question& question) {
  using Kind = Policy::Question::Kind;
  const auto& address =
      question.kind == Kind::sender ? question.address : question.recipient.address;
  const auto at = std::min(address.rfind('@'), address.size());
  return (question.kind == Kind::sender ? "<" : ">") +
         ascii_lower(address.substr(0, std::min(at, address.find('+')))) + address.substr(at);
}

}  // namespace

Connection::Connection(std::shared_ptr<LoopConnections> reception, Socket socket,
                       const Arrival& arrival)
    : reception_(std::move(reception)),
      settings_(reception_->settings()),
      policy_(reception_->policy()),
      stream_(reception_->loop(), std::move(socket)),
      arrival_(arrival),
      first_octets_(SessionLimits::first_octets(policy_->limits())),
      began_(reception_->clock().steady()) {
  client_.address = arrival.address;
  client_.port = arrival.port;
  client_.local_user = arrival.local_user;
  count(reception_->counters().connections);
  reception_->add(*this);
}

Connection::~Connection() {
  if (has_address_slot_)
    reception_->slots().give_back_for(client_.address);
  if (user_slot_)
    reception_->slots().give_back_for_user(*user_slot_);
  count_held(0);  // from here on nobody calls let_go()
  if (self_)
    *self_ = nullptr;
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
  if (arrival_.proxied && !co_await read_proxy_header())
    co_return;
  client_.trusted = !is_nobody_ && policy_->is_trusted(client_.address);
  if (!take_strangers_slot() || !take_address_slot())
    co_return;
  const auto session_id = to_string(reception_->custody().next_id());
  talk_.emplace(Session(policy_, client_, arrival_.role, session_id, this));
  ask_for_name();
  prepare_filters();
  allow_auth_in_clear();
  const IpAddress proxy = arrival_.proxied ? arrival_.address : IpAddress();
  maillog::connected(log(), session_id, talk_->session().facts().client, proxy);
  if (arrival_.tls_start == TlsStart::starttls)
    talk_->session().offer_starttls();
  if (arrival_.tls_start != TlsStart::at_once || co_await shake_hands())
    co_await converse();
  summary_.commands = talk_->commands();
  maillog::disconnected(log(), talk_->session(), summary_);
  if (summary_.end == maillog::End::refused ||
      (summary_.end == maillog::End::stopping && talk_->session().transaction().is_begun()))
    co_await linger();
}

Task<bool> Connection::read_proxy_header() {
  stream_.set_deadline(timeouts().proxy);
  for (;;) {
    auto& buffer = *buffer_;
    auto got =
        co_await stream_.read_some(buffer.in.data() + buffer.end, buffer.in.size() - buffer.end);
    if (!got)
      co_return false;
    buffer.end += *got;
    std::size_t used = 0;
    const auto header = parse_proxy_header(std::string_view(buffer.in.data(), buffer.end), used);
    if (!header) {
      maillog::turned_away(log(), arrival_.address, header.error().describe(), {});
      co_return false;
    }
    if (!*header)
      continue;
    buffer.begin = used;
    is_nobody_ = (*header)->is_local;
    if (!is_nobody_) {
      client_.address = (*header)->source;
      client_.port = (*header)->source_port;
    }
    co_return true;
  }
}

// The part of the slots that is kept for our own clients is not for those behind a proxy either.
bool Connection::take_strangers_slot() {
  const auto limit = reception_->session_limit();
  if (!arrival_.proxied || client_.trusted || reception_->slots().open() <= limit - limit / 8)
    return true;
  count(reception_->counters().turned_away);
  maillog::turned_away(log(), client_.address, "all slots taken", replies::kAllBusy);
  if (arrival_.tls_start != TlsStart::at_once)
    say(replies::kAllBusy);
  return false;
}

// A user of this machine is among our own clients, and so are the others.
bool Connection::take_user_slot() {
  const auto party = client_.local_user ? reception_->slots().party_of(*client_.local_user)
                                        : std::optional<std::uint64_t>();
  if (!party)
    return true;
  if (reception_->slots().take_for_user(*party, reception_->session_limit()))
    user_slot_ = party;
  return user_slot_.has_value();
}

bool Connection::take_address_slot() {
  if (client_.trusted && take_user_slot())
    return true;
  if (!client_.trusted)
    has_address_slot_ = reception_->slots().take_for(client_.address, policy_->limits());
  if (has_address_slot_)
    return true;
  count(reception_->counters().turned_away);
  maillog::turned_away(log(), client_.address, "too many sessions", replies::kTooManySessions);
  if (arrival_.tls_start != TlsStart::at_once)  // who waits for a handshake cannot read it
    say(replies::kTooManySessions);
  return false;
}

void Connection::refresh_conditions() {
  auto& conditions = talk_->session().conditions();
  conditions.stressed = reception_->is_stressed();
  conditions.crowded = is_over_share_;
  conditions.stopping = reception_->is_stopping();
  switch (reception_->custody().admission()) {
    case queue::Admission::open:
      conditions.storage = Storage::open;
      break;
    case queue::Admission::disk_low:
      conditions.storage = Storage::no_room;
      break;
    case queue::Admission::failed:
      conditions.storage = Storage::failed;
      break;
    case queue::Admission::stopping:
      conditions.stopping = true;
      break;
  }
}

bool Connection::is_stranger() const {
  return arrival_.role == Role::mx && !client_.trusted && !client_.address.is_none();
}

// Programs that do not wait for a greeting do not wait for this long either. Slots that run low are
// not spent on waiting.
Task<void> Connection::hold_greeting() {
  const auto delay = settings_->greeting_delay;
  if (delay.count() == 0 || !is_stranger() || arrival_.tls_start == TlsStart::at_once ||
      reception_->is_stressed() || reception_->is_stopping() || buffer_->begin != buffer_->end)
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
        end_with(sent.error());
        co_return;
      }
    }
    if (need == Need::close)
      co_return note_hang_up();
    if (need == Need::store) {
      is_storing_ = true;
      need = co_await store();
      is_storing_ = false;
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
        end_with(read.error());
        co_return;
      }
    }
    need = take();
    if (filtering_ != nullptr)
      co_await show_content(need);
    keep_content();
    if (must_end_for_memory()) {
      say(buffer_->replies.append(replies::kNoMemory));
      count(reception_->counters().turned_away);
      summary_.end = maillog::End::refused;
      co_return;
    }
    if (body_.waits_for_tables() && need != Need::store && need != Need::close) {
      co_await rewrite_header();
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

void Connection::keep_content() {
  is_over_share_ = !note_held() || must_let_go_;
  keep_large_content();
  note_held();
}

// What it keeps of lines cannot go to a file.
bool Connection::must_end_for_memory() const {
  return is_over_share_ && held_ > first_octets_ && talk_->line_octets() > kLongLine;
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

// The session waits, and nobody else on this loop.
Task<Need> Connection::look_up() {
  stream_.clear_deadline();  // the client has done its part
  struct Found {
    std::optional<Policy::Answer> answer;
  };
  const auto found = std::make_shared<Found>();
  bool is_answered = false;
  if (!has_given_up_) {
    auto question = talk_->session().transaction().question();
    Lookups::Job job;
    job.key = key_of(question);
    job.is_own = Policy::may_relay(talk_->session().facts().client);
    job.ask = [found, policy = policy_, question = std::move(question)] {
      found->answer = policy->judge(question);
    };
    lookup_ = std::make_shared<Lookups::Wait>();
    lay_buffer_aside();
    is_answered = co_await reception_->lookups().run(reception_->loop(), lookup_, timeouts().lookup,
                                                     std::move(job));
    take_buffer();
    lookup_.reset();
  }
  commands_seen_ = ~0ULL;  // the deadline for reading is to be set again
  refresh_conditions();
  co_return talk_->looked_up(is_answered ? std::move(found->answer) : std::nullopt,
                             buffer_->replies);
}

bool Connection::is_patient() const {
  return client_.trusted || !reception_->is_stressed();
}

// A command has its time as a whole, however slowly it drips; content may pause, but must keep a
// least rate over all (attacks.md X01).
Duration Connection::patience() {
  const auto now = reception_->clock().steady();
  const auto& times = timeouts();
  if (!talk_->reads_content()) {
    content_began_ = {};
    return is_patient() ? times.command : std::min(times.command, times.stressed);
  }
  if (content_began_ == SteadyTime{}) {
    content_began_ = now;
    content_read_ = 0;
  }
  const bool holds_much = held_ > first_octets_ && reception_->is_tight();
  const auto silence =
      is_patient() && !holds_much ? times.data : std::min(times.data, times.stressed);
  const auto earned = Duration(content_read_ * 1000 / std::max<std::uint64_t>(times.data_rate, 1));
  const auto left =
      std::chrono::duration_cast<Duration>(content_began_ + times.data + earned - now);
  return std::clamp(left, Duration(0), silence);
}

Task<Result<void>> Connection::read_more() {
  buffer_->begin = buffer_->end = 0;
  const bool idle = talk_->is_idle();
  if (has_given_up_ || (idle && reception_->is_stopping()))
    co_return Error(Errc::stopped, "wait for command");
  if (reception_->clock().steady() - began_ > timeouts().session)
    co_return Error(asio::error::timed_out, "session");
  if (talk_->reads_content() || commands_seen_ != talk_->commands()) {
    // Behind content, the next command has a time of its own.
    commands_seen_ = talk_->reads_content() ? ~0ULL : talk_->commands();
    stream_.set_deadline(patience());
  }
  if (in_turn_ >= kTurn) {
    in_turn_ = 0;
    co_await asio::post(reception_->loop().executor(), use_task);
  }
  for (;;) {
    auto& buffer = *buffer_;
    auto got = stream_.read_now(buffer.in.data(), buffer.in.size());
    if (got) {
      buffer.end = *got;
      in_turn_ += *got;
      content_read_ += *got;
      co_return Result<void>{};
    }
    if (got.error().code() != asio::error::would_block)
      co_return got.error();
    // However many wait, for a command's end or within content (X01), they wait without a buffer.
    buffer_.reset();
    in_turn_ = 0;
    waiting_idle_ = idle;
    waits_for_client_ = true;
    auto readable = co_await stream_.wait_readable();
    waits_for_client_ = false;
    waiting_idle_ = false;
    buffer_ = reception_->buffers().borrow();
    if (!readable)
      co_return readable.error();
  }
}

Task<Result<void>> Connection::send_replies() {
  auto& replies = buffer_->replies;
  const auto taken = stream_.write_now(replies);
  if (taken < replies.size()) {
    stream_.set_deadline(is_patient() ? timeouts().reply
                                      : std::min(timeouts().reply, timeouts().stressed));
    // What nobody reads is kept for a client, too.
    unread_ = replies.capacity() + IoBuffer::kSize;
    const bool is_within_share = note_held();
    const auto rest = std::string_view(replies).substr(taken);
    waits_for_client_ = true;
    Result<void> sent =
        Error(boost::system::errc::make_error_code(boost::system::errc::not_enough_memory),
              "keep replies that nobody reads");
    if (is_within_share)
      sent = co_await stream_.write(rest);
    waits_for_client_ = false;
    unread_ = 0;
    note_held();
    if (!sent)
      co_return sent;
    commands_seen_ = ~0ULL;  // the deadline for reading is to be set again
  }
  replies.clear();
  co_return Result<void>{};
}

void Connection::note_hang_up() {
  using State = maillog::End;
  if (is_left_) {
    summary_.end = State::lost;
    summary_.error = Error(asio::error::eof, "wait for the reply to a message");
  } else if (reception_->is_stopping())
    summary_.end = State::stopping;
  else
    summary_.end = talk_->session().has_quit() ? State::quit : State::refused;
}

void Connection::end_with(const Error& error) {
  if (reception_->is_stopping()) {
    summary_.end = maillog::End::stopping;
    say(replies::kStopping);
  } else if (error.code() == asio::error::timed_out) {
    summary_.end = maillog::End::timeout;
    say(replies::kTimeout);
  }
  summary_.error = error;
}

void Connection::say(std::string_view reply) {
  // What does not fit at once is not worth waiting for.
  (void)stream_.write_now(reply);
}

Task<void> Connection::linger() {
  stream_.shut_down_sending();
  if (reception_->is_stressed())
    co_return;
  stream_.set_deadline(kLinger);
  auto& buffer = *buffer_;
  for (std::size_t dropped = 0; dropped < kMostLingering;) {
    auto got = co_await stream_.read_some(buffer.in.data(), buffer.in.size());
    if (!got)
      co_return;
    dropped += *got;
  }
}

Log& Connection::log() {
  const bool is_ours = talk_ ? Policy::may_relay(talk_->session().facts().client) : client_.trusted;
  return is_ours ? reception_->log() : reception_->limited_log();
}

bool Connection::note_held() {
  if (held_by_.name.empty() ||
      has_logged_in_ == talk_->session().facts().client.authenticated.empty()) {
    count_held(0);
    held_by_ = party();
    has_logged_in_ = !talk_->session().facts().client.authenticated.empty();
  }
  auto octets = unread_ + talk_->session().transaction().octets() + talk_->line_octets();
  if (const auto* intake = talk_->intake())
    octets += intake->capacity();
  if (filtering_ != nullptr)
    octets += filtering_->section.capacity();
  return count_held(octets);
}

bool Connection::count_held(std::size_t octets) {
  const auto before = std::exchange(held_, octets);
  if (octets <= first_octets_)
    must_let_go_ = false;
  else if (!self_)
    self_ = std::make_shared<Connection*>(this);
  return reception_->slots().keep(held_by_, octets, before, policy_->limits().content_memory, this,
                                  first_octets_);
}

void Connection::let_go() {
  reception_->loop().post([self = self_] {
    if (*self != nullptr)
      (*self)->let_go_here();
  });
}

// At once if it waits for its client, else at the end of what it does. Content that cannot go to a
// file is refused at its end; where there is none, and much is kept, the session ends.
void Connection::let_go_here() {
  const auto before = held_;
  if (before <= first_octets_)
    return;
  must_let_go_ = true;
  if (!waits_for_client_)
    return;
  keep_content();
  if (held_ <= std::max(first_octets_, before / 2))
    return;
  say(replies::kNoMemory);
  count(reception_->counters().turned_away);
  close();
}

// Whose share of the memory this client's is part of: many users may be behind one address, and one
// user at many.
SessionLimits::Party Connection::party() const {
  const auto& client = talk_->session().facts().client;
  if (!client.authenticated.empty())
    return {"user " + client.authenticated, false};
  if (client.local_user)
    return {"uid " + std::to_string(*client.local_user), false};
  return {SessionLimits::client_key(client.address).str(), !client.trusted};
}

void Connection::give_up_waiting() {
  has_given_up_ = true;
  if (lookup_)
    lookup_->give_up();
  if (name_run_)
    name_run_->give_up("the session ends");
  if (filtering_)
    filtering_->chain.give_up();
}

// Ends the wait under way, whose end says why. Who waits for a reply about a message that may be
// stored already hears it.
void Connection::give_up() {
  give_up_waiting();
  if (!talk_)
    stream_.close();
  else if (!is_storing_)
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
  else if (waiting_idle_)
    stream_.socket().cancel(ignored);
}

void Connection::hurry() {
  const bool waits_for_command = waits_for_client_ && talk_ && !talk_->reads_content();
  if (waits_for_command && !client_.trusted)
    stream_.set_deadline(std::min(timeouts().command, timeouts().stressed));
}

void Connection::refused(const Refusal& refusal) {
  count(reception_->counters().rejected);
  const auto& note_failure = settings_->note_failure;
  if (note_failure && refusal.reply.starts_with('5') && is_stranger() &&
      !Policy::may_relay(talk_->session().facts().client))
    note_failure(client_.address);
  maillog::rejected(log(), talk_->session(), refusal);
}

}  // namespace postrider::smtpd
