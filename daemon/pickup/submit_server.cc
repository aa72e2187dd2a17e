#include "daemon/pickup/submit_server.h"

#include "base/close_aside.h"
#include "base/net/blocking_pool.h"
#include "base/net/signal.h"
#include "base/net/tls/local_socket.h"
#include "base/passed_descriptors.h"
#include "base/text.h"
#include "daemon/pickup/submit_filters.h"
#include "daemon/pickup/submit_tables.h"
#include "queue/key_id.h"

#include <algorithm>
#include <list>
#include <map>
#include <poll.h>
#include <sysexits.h>
#include <utility>

namespace postrider::daemon {

namespace {

constexpr std::size_t kRoom = 32U << 10U;
constexpr Duration kPauseAfterFailure{1000};
// What a peer may still send after it was refused, so that it reads the answer.
constexpr std::size_t kMostDiscarded = 1U << 20U;
// Header lines up to this length are read on the loop, and are not counted.
constexpr std::size_t kShortHeader = 64U << 10U;
// Of the longer ones, together: of one user (two of the longest), and of all.
constexpr std::size_t kMostHeadersOfUser = 2 * kMostSubmitHeader;
constexpr std::size_t kMostHeaders = 8 * kMostSubmitHeader;
// Of one user's connections that have ended: what was left in them makes their close slow.
constexpr std::size_t kMostClosing = 64;

SubmitAnswer refusal(int exit_code, std::string sentence) {
  SubmitAnswer answer;
  answer.exit_code = exit_code;
  answer.error = std::move(sentence);
  return answer;
}

SubmitAnswer no_room() {
  auto answer = refusal(EX_TEMPFAIL, "too many messages at once; try again later");
  answer.busy = true;
  return answer;
}

// The header line, understood.
struct Request {
  SubmitHeader header;
  mail::Envelope envelope;
  std::optional<SubmitAnswer> refused;
};

Request understand(std::string_view line, const SubmitSettings& limits) {
  Request request;
  auto header = decode_submit_header(line);
  if (!header) {
    request.refused =
        refusal(EX_PROTOCOL, "the submission was not understood: " + header.error().describe());
    return request;
  }
  if (header->size > limits.message_size) {
    request.refused = refusal(EX_DATAERR, too_large(limits.message_size));
    return request;
  }
  auto envelope = to_envelope(*header, limits.origin, limits.recipients);
  if (!envelope) {
    request.refused = refusal(EX_DATAERR, envelope.error().step());
    return request;
  }
  request.header = std::move(*header);
  request.envelope = std::move(*envelope);
  return request;
}

// A user's limits, or those of the token that postrider-web speaks for.
std::optional<SubmitAnswer> refusal_of_sender(const SubmitSettings& limits, std::uint64_t uid,
                                              const Request& request) {
  const auto recipients = request.envelope.recipients.size();
  const auto& token = request.header.token;
  if (token.empty() && request.header.key.empty())
    return limits.admit ? limits.admit(uid, recipients) : std::nullopt;
  if (token.empty() || !limits.speaks_for_tokens || !limits.speaks_for_tokens(uid))
    return refusal(EX_CONFIG, "postrider-web and the programs for brokers alone send for a token");
  return limits.admit_token ? limits.admit_token(token, recipients) : std::nullopt;
}

// Who waits no more for the answer was not told that the message is in custody, and has left it in
// the drop folder or will: it must not be stored here too, however late we come to it. One who has
// said all and still listens is there.
bool has_left(Stream& stream) {
  pollfd peer{stream.socket().native_handle(), 0, 0};
  return ::poll(&peer, 1, 0) > 0 && (peer.revents & (POLLHUP | POLLERR)) != 0;
}

// Whatever is left in it closes in its party's share.
void put_away(Stream& stream, std::uint64_t party) {
  boost::system::error_code failed;
  if (!stream.socket().is_open())
    return;
  FileDescriptor socket(stream.socket().release(failed));
  if (!failed)
    close_local(std::move(socket), party);
}

}  // namespace

struct SubmitServer::State {
  State(Loop& loop_, BlockingPool& pool_, queue::Queue& queue_, const Clock& clock_, Log& log_,
        SubmitSettings settings_)
      : loop(loop_),
        pool(pool_),
        queue(queue_),
        clock(clock_),
        log(log_),
        settings(std::move(settings_)),
        filters(loop, queue, clock, log) {}

  struct Share {
    std::size_t connections = 0;
    std::size_t header_octets = 0;  // of lines that are not short
  };
  // One connection, for as long as it is served.
  struct Visit {
    std::unique_ptr<Stream> stream;
    uid_t uid = 0;
    std::uint64_t party = 0;  // who has its share
    std::size_t header_octets = 0;
    std::string hand_over;  // under which its message was stored; empty: it was not
    bool storing = false;   // what it brought is complete: it gets its answer
    bool evicted = false;   // it is closed, and counts no more
  };
  using Visits = std::list<Visit>;  // the oldest first
  // Keeps a visit in the books.
  struct Presence {
    Presence(State& state_, Visits::iterator visit_) : state(state_), visit(visit_) {}
    ~Presence() {
      state.uncount(*visit);
      put_away(*visit->stream, visit->party);
      state.visits.erase(visit);
    }
    Presence(const Presence&) = delete;
    Presence& operator=(const Presence&) = delete;
    State& state;
    const Visits::iterator visit;
  };
  // What is read of a connection: the header line may come with the first octets of the content.
  struct Incoming {
    std::string room = std::string(kRoom, '\0');
    std::string_view rest;
  };

  Loop& loop;
  BlockingPool& pool;
  queue::Queue& queue;
  const Clock& clock;
  Log& log;
  SubmitSettings settings;
  SubmitTables tables;
  SubmitFilters filters;
  std::unique_ptr<LocalListener> listener;
  Visits visits;
  std::map<std::uint64_t, Share> by_party;
  std::size_t connections = 0;  // of the visits that were not evicted
  std::size_t header_octets = 0;
  bool stopping = false;

  static Task<void> listen(std::shared_ptr<State> self);
  static Task<void> serve(std::shared_ptr<State> self, Visits::iterator visit);
  Task<Result<std::string>> read_header(Visit& visit, Incoming& in);
  bool has_room_for_header(Visit& visit, std::size_t octets);
  Task<Request> read_request(const std::string& line, const SubmitSettings& limits);
  Task<SubmitAnswer> take(Visit& visit, SubmitSettings limits);
  Task<Result<void>> read_content(Stream& stream, Incoming& in, std::uint64_t size,
                                  SubmissionBuilder& builder);
  Task<SubmitAnswer> store(SubmissionBuilder& builder, const SubmitSettings& limits, Visit& visit);
  Task<std::optional<SubmitAnswer>> filter(const SubmitSettings& limits, uid_t uid,
                                           queue::Submission& submission);
  static void admit(const std::shared_ptr<State>& self, std::unique_ptr<Stream> stream, uid_t uid);
  bool make_room_for(uid_t uid, std::uint64_t party);
  bool evict_one_of(std::uint64_t party);
  void uncount(Visit& visit);
};

// All of it has one deadline, however it is sent.
Task<Result<std::string>> SubmitServer::State::read_header(Visit& visit, Incoming& in) {
  std::string line;
  for (;;) {
    auto got = co_await visit.stream->read_some(in.room.data(), in.room.size());
    if (!got)
      co_return got.error();
    const auto piece = std::string_view(in.room).substr(0, *got);
    const auto end = piece.find('\n');
    line.append(piece.substr(0, end));
    if (line.size() > kMostSubmitHeader)
      co_return Error(Errc::too_long, "header line");
    if (!has_room_for_header(visit, line.size()))
      co_return Error(Errc::refused, "header line");
    if (end != std::string_view::npos) {
      in.rest = piece.substr(end + 1);
      co_return line;
    }
  }
}

bool SubmitServer::State::has_room_for_header(Visit& visit, std::size_t octets) {
  if (octets <= kShortHeader || visit.evicted)
    return true;
  const auto more = octets - visit.header_octets;
  auto& share = by_party[visit.party];
  if (share.header_octets + more > kMostHeadersOfUser || header_octets + more > kMostHeaders)
    return false;
  visit.header_octets = octets;
  share.header_octets += more;
  header_octets += more;
  return true;
}

// A long line is work that the loop has no time for.
Task<Request> SubmitServer::State::read_request(const std::string& line,
                                                const SubmitSettings& limits) {
  if (line.size() <= kShortHeader)
    co_return understand(line, limits);
  const std::function<Request()> job = [&] { return understand(line, limits); };
  auto request = co_await pool.run<Request>(loop, job);
  co_return request;
}

Task<Result<void>> SubmitServer::State::read_content(Stream& stream, Incoming& in,
                                                     std::uint64_t size,
                                                     SubmissionBuilder& builder) {
  const auto until = clock.steady() + settings.whole;
  while (size > 0) {
    if (in.rest.empty()) {
      if (clock.steady() > until)
        co_return Error(asio::error::timed_out, "content");
      stream.set_deadline(settings.idle);
      auto got = co_await stream.read_some(in.room.data(), in.room.size());
      if (!got)
        co_return got.error();
      in.rest = std::string_view(in.room).substr(0, *got);
    }
    const auto piece = in.rest.substr(0, std::min<std::uint64_t>(in.rest.size(), size));
    stream.clear_deadline();
    if (auto fed = co_await tables.feed(loop, builder, piece); !fed)
      co_return Error(Errc::storage, fed.error().describe());
    in.rest.remove_prefix(piece.size());
    size -= piece.size();
  }
  co_return Result<void>{};
}

// Its answer, if the filters have one. What they cannot say now is asked again, from the drop
// folder.
Task<std::optional<SubmitAnswer>> SubmitServer::State::filter(const SubmitSettings& limits,
                                                              uid_t uid,
                                                              queue::Submission& submission) {
  using Kind = smtpd::filter::Verdict::Kind;
  const auto id = to_string(submission.message->id);
  auto verdict = co_await filters.pass(limits, uid, submission);
  if (!verdict) {
    log.write(
        LogEvent(Level::error, "submission_failed", id).add("error", verdict.error().describe()));
    co_return refusal(EX_TEMPFAIL, "the message could not be stored; try again later");
  }
  if (verdict->kind == Kind::go_on)
    co_return std::nullopt;
  log.write(LogEvent(Level::info, verdict->refuses() ? "submission_refused" : "discarded", id)
                .add("uid", uid)
                .add("reply", verdict->refuses() ? verdict->reply.str() : std::string())
                .add("problem", verdict->problem));
  if (!verdict->refuses()) {
    SubmitAnswer answer;
    answer.id = id;
    co_return answer;
  }
  const bool is_for_now = verdict->reply.code < 500;
  auto answer = refusal(is_for_now ? EX_TEMPFAIL : EX_UNAVAILABLE,
                        "the message was refused: " + verdict->reply.str());
  answer.busy = is_for_now;
  co_return answer;
}

Task<SubmitAnswer> SubmitServer::State::store(SubmissionBuilder& builder,
                                              const SubmitSettings& limits, Visit& visit) {
  auto submission = co_await tables.finish(loop, builder, clock.now());
  if (!submission && builder.is_refused()) {
    log.write(LogEvent(Level::info, "submission_refused", to_string(builder.id()))
                  .add("uid", visit.uid)
                  .add("problem", submission.error().step()));
    co_return refusal(EX_DATAERR, submission.error().step());
  }
  if (!submission) {
    log.write(LogEvent(Level::error, "submission_failed", to_string(builder.id()))
                  .add("error", submission.error().describe()));
    co_return refusal(EX_TEMPFAIL, "the message could not be stored; try again later");
  }
  if (auto answer = co_await filter(limits, visit.uid, *submission))
    co_return *std::move(answer);
  if (builder.is_to_be_signed()) {
    const std::function<Result<void>()> job = [&] { return builder.sign(*submission, log); };
    if (const auto done = co_await pool.run<Result<void>>(loop, job); !done) {
      log.write(LogEvent(Level::error, "submission_failed", to_string(builder.id()))
                    .add("error", done.error().describe()));
      co_return refusal(EX_TEMPFAIL, "the message could not be signed; try again later");
    }
  }
  if (has_left(*visit.stream)) {
    log.write(LogEvent(Level::warn, "submission_broken")
                  .add("uid", visit.uid)
                  .add("error", "the sender has left without an answer"));
    co_return SubmitAnswer{};
  }
  const auto message = submission->message;
  const auto& header = builder.header();
  auto line = accepted_line(*message, builder.message_id(), visit.uid,
                            header.token.empty() ? "local" : header.way.c_str());
  if (!header.token.empty())
    line.add("user", header.token);
  if (queue.keeps_facts())
    submission->line = queue::encode_line(line);
  // A key is known for its time, whoever has read the answer; a hand-over until then.
  const bool has_key = !header.key.empty();
  submission->drop_id = has_key ? queue::key_id(header.key) : builder.hand_over_id();
  auto accepted = co_await queue.accept_dropped(loop, std::move(*submission));
  if (!accepted && accepted.error().code() == Errc::stopped)
    co_return SubmitAnswer{};
  if (!accepted && accepted.error().code() == Errc::refused && has_key) {
    auto answer = refusal(EX_DATAERR, "this Idempotency-Key was used for another request");
    answer.cause = kCauseKey;
    co_return answer;
  }
  if (!accepted) {
    log.write(LogEvent(Level::error, "submission_failed", to_string(builder.id()))
                  .add("error", accepted.error().describe()));
    co_return refusal(EX_TEMPFAIL, "the message could not be stored; try again later");
  }
  if (!has_key)
    visit.hand_over = builder.hand_over_id();
  SubmitAnswer answer;
  answer.id = to_string(*accepted);
  if (*accepted == message->id)  // else it was stored before
    log.write(std::move(line));
  else if (has_key)
    answer.cause = kCauseKey;
  co_return answer;
}

Task<SubmitAnswer> SubmitServer::State::take(Visit& visit, SubmitSettings limits) {
  Incoming in;
  visit.stream->set_deadline(limits.header);
  auto line = co_await read_header(visit, in);
  if (!line && line.error().code() == Errc::refused)
    co_return no_room();
  if (!line)
    co_return refusal(EX_PROTOCOL, "the header of the submission did not arrive whole");
  visit.stream->clear_deadline();
  auto request = co_await read_request(*line, limits);
  if (request.refused)
    co_return *std::move(request.refused);
  if (auto refused = refusal_of(queue.admission()))
    co_return *std::move(refused);
  if (auto refused = refusal_of_sender(limits, visit.uid, request))
    co_return *std::move(refused);
  const auto size = request.header.size;
  SubmissionBuilder builder(queue, limits, std::move(request.header), std::move(request.envelope),
                            visit.uid, queue.next_id());
  if (auto read = co_await read_content(*visit.stream, in, size, builder); !read) {
    log.write(LogEvent(Level::warn, "submission_broken")
                  .add("uid", visit.uid)
                  .add("error", read.error().describe()));
    co_return refusal(EX_TEMPFAIL, read.error().code() == Errc::storage
                                       ? "the message could not be stored (" + read.error().step() +
                                             "); try again later"
                                       : "the message did not arrive whole");
  }
  visit.storing = true;
  auto answer = co_await store(builder, limits, visit);
  visit.storing = false;
  co_return answer;
}

Task<void> SubmitServer::State::serve(std::shared_ptr<State> self, Visits::iterator visit) {
  const Presence presence(*self, visit);
  auto& stream = *visit->stream;
  const SubmitSettings limits = self->settings;
  const auto answer = co_await self->take(*visit, limits);
  const std::string line = encode(answer);
  const bool is_answer = !answer.id.empty() || !answer.error.empty();
  const bool was_written = is_answer && stream.write_now(line) == line.size();
  stream.shut_down_sending();
  // The peer may still be writing: what it sends now would make its end fail before it has read.
  char room[4096];
  std::size_t discarded = 0;
  stream.set_deadline(Duration(5000));
  while (is_answer && !self->stopping && discarded < kMostDiscarded) {
    const auto got = co_await stream.read_some(room, sizeof room);
    // Who closes with the answer unread resets the connection: he will hand the message over again.
    const bool was_read = was_written && !got && got.error().code() == asio::error::eof;
    if (was_read && !visit->hand_over.empty())
      self->queue.forget_dropped({visit->hand_over});
    if (!got)
      break;
    discarded += *got;
  }
}

void SubmitServer::State::uncount(Visit& visit) {
  if (std::exchange(visit.evicted, true))
    return;
  --connections;
  header_octets -= visit.header_octets;
  const auto share = by_party.find(visit.party);
  share->second.header_octets -= visit.header_octets;
  if (--share->second.connections == 0)
    by_party.erase(share);
}

bool SubmitServer::State::evict_one_of(std::uint64_t party) {
  for (auto& visit : visits) {
    if (visit.party != party || visit.storing || visit.evicted)
      continue;
    visit.stream->write_now(encode(no_room()));
    put_away(*visit.stream, party);
    uncount(visit);
    return true;
  }
  return false;
}

bool SubmitServer::State::make_room_for(uid_t uid, std::uint64_t party) {
  const auto known = by_party.find(party);
  const auto own = known == by_party.end() ? 0 : known->second.connections;
  if (own >= settings.connections_per_user)
    return false;
  if (connections < settings.connections)
    return true;
  const auto most = std::max_element(
      by_party.begin(), by_party.end(),
      [](const auto& a, const auto& b) { return a.second.connections < b.second.connections; });
  if (most != by_party.end() && most->second.connections > own + 1 && evict_one_of(most->first))
    return true;
  return uid == 0;
}

void SubmitServer::State::admit(const std::shared_ptr<State>& self, std::unique_ptr<Stream> stream,
                                uid_t uid) {
  const auto& party_of = self->settings.party;
  const std::uint64_t party = party_of ? party_of(uid) : uid;
  if (closing_of(party) > kMostClosing || !self->make_room_for(uid, party)) {
    stream->write_now(encode(no_room()));
    put_away(*stream, party);
    return;
  }
  auto& visits = self->visits;
  const auto visit =
      visits.insert(visits.end(), Visit{std::move(stream), uid, party, 0, {}, false, false});
  ++self->connections;
  ++self->by_party[party].connections;
  self->loop.spawn(serve(self, visit), self->log, "submission");
}

Task<void> SubmitServer::State::listen(std::shared_ptr<State> self) {
  Signal resume;
  Deadline pause(self->loop.deadlines(), [&resume] { resume.set(); });
  while (!self->stopping) {
    auto stream = co_await self->listener->accept();
    if (self->stopping)
      break;
    if (!stream) {
      self->log.write(
          LogEvent(Level::error, "submit_failed").add("error", stream.error().describe()));
      pause.set(kPauseAfterFailure);
      co_await resume.wait();
      continue;
    }
    if (const auto peer = peer_of((*stream)->socket().native_handle()))
      admit(self, std::move(*stream), peer->uid);
  }
}

Result<std::unique_ptr<SubmitServer>> SubmitServer::open(std::string path, Loop& loop,
                                                         BlockingPool& pool, queue::Queue& queue,
                                                         const Clock& clock, Log& log,
                                                         SubmitSettings settings) {
  auto state = std::make_shared<State>(loop, pool, queue, clock, log, std::move(settings));
  auto listener = LocalListener::bind(std::move(path), 0666, loop);
  if (!listener)
    return listener.error().during("submit socket");
  state->listener = std::move(*listener);
  return std::unique_ptr<SubmitServer>(new SubmitServer(std::move(state)));
}

SubmitServer::SubmitServer(std::shared_ptr<State> state) : state_(std::move(state)) {}
SubmitServer::~SubmitServer() = default;

void SubmitServer::start() {
  state_->loop.keep([state = state_] { return State::listen(state); }, state_->log,
                    "submit socket");
}

void SubmitServer::stop() {
  state_->stopping = true;
  state_->filters.give_up();
  state_->listener->close();
  for (auto& visit : state_->visits)
    if (!visit.storing)
      visit.stream->close();
}

void SubmitServer::reconfigure(SubmitSettings settings) {
  state_->settings = std::move(settings);
}

}  // namespace postrider::daemon
