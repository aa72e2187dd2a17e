#include "daemon/submit_server.h"

#include "base/signal.h"
#include "base/text.h"
#include "daemon/control_socket.h"
#include "daemon/submit_builder.h"

#include <map>
#include <set>
#include <sysexits.h>

namespace postrider::daemon {

namespace {

constexpr std::size_t kRoom = 32U << 10U;
constexpr Duration kPauseAfterFailure{1000};
// What a peer may still send after it was refused, so that it reads the answer.
constexpr std::size_t kMostDiscarded = 1U << 20U;

SubmitAnswer refusal(int exit_code, std::string sentence) {
  SubmitAnswer answer;
  answer.exit_code = exit_code;
  answer.error = std::move(sentence);
  return answer;
}

}  // namespace

struct SubmitServer::State {
  State(Loop& loop_, queue::Queue& queue_, const Clock& clock_, Log& log_, SubmitSettings settings_)
      : loop(loop_), queue(queue_), clock(clock_), log(log_), settings(std::move(settings_)) {}

  // What is read of a connection: the header line may come with the first octets of the content.
  struct Incoming {
    std::string room = std::string(kRoom, '\0');
    std::string_view rest;
  };

  Loop& loop;
  queue::Queue& queue;
  const Clock& clock;
  Log& log;
  SubmitSettings settings;
  std::unique_ptr<LocalListener> listener;
  std::set<Stream*> streams;
  std::set<Stream*> storing;  // what they brought is complete: they get their answer
  std::map<uid_t, std::size_t> by_user;
  bool stopping = false;

  static Task<void> listen(std::shared_ptr<State> self);
  static Task<void> serve(std::shared_ptr<State> self, std::unique_ptr<Stream> stream, Peer peer);
  Task<Result<std::string>> read_header(Stream& stream, Incoming& in);
  Task<SubmitAnswer> take(Stream& stream, Peer peer, SubmitSettings limits);
  Task<Result<void>> read_content(Stream& stream, Incoming& in, std::uint64_t size,
                                  SubmissionBuilder& builder);
  Task<SubmitAnswer> store(SubmissionBuilder& builder, uid_t uid);
  bool has_room_for(Stream& stream, uid_t uid);
};

Task<Result<std::string>> SubmitServer::State::read_header(Stream& stream, Incoming& in) {
  std::string line;
  for (;;) {
    auto got = co_await stream.read_some(in.room.data(), in.room.size());
    if (!got)
      co_return got.error();
    const auto piece = std::string_view(in.room).substr(0, *got);
    const auto end = piece.find('\n');
    line.append(piece.substr(0, end));
    if (line.size() > kMostSubmitHeader)
      co_return Error(Errc::too_long, "header line");
    if (end != std::string_view::npos) {
      in.rest = piece.substr(end + 1);
      co_return line;
    }
    stream.set_deadline(settings.idle);
  }
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
    if (auto fed = builder.feed(piece); !fed)
      co_return fed.error().during("store the content");
    in.rest.remove_prefix(piece.size());
    size -= piece.size();
  }
  co_return Result<void>{};
}

Task<SubmitAnswer> SubmitServer::State::store(SubmissionBuilder& builder, uid_t uid) {
  auto submission = builder.finish(clock.now());
  if (!submission) {
    log.write(LogEvent(Level::error, "submission-failed", to_string(builder.id()))
                  .add("error", submission.error().describe()));
    co_return refusal(EX_TEMPFAIL, "the message could not be stored; try again later");
  }
  const auto message = submission->message;
  auto accepted = co_await queue.accept(loop, std::move(*submission));
  if (!accepted && accepted.error().code() == Errc::stopped)
    co_return SubmitAnswer{};
  if (!accepted) {
    log.write(LogEvent(Level::error, "submission-failed", to_string(builder.id()))
                  .add("error", accepted.error().describe()));
    co_return refusal(EX_TEMPFAIL, "the message could not be stored; try again later");
  }
  log_submission(log, *message, uid, "local");
  SubmitAnswer answer;
  answer.id = to_string(message->id);
  co_return answer;
}

Task<SubmitAnswer> SubmitServer::State::take(Stream& stream, Peer peer, SubmitSettings limits) {
  Incoming in;
  stream.set_deadline(limits.idle);
  auto line = co_await read_header(stream, in);
  if (!line)
    co_return refusal(EX_PROTOCOL, "the header of the submission did not arrive whole");
  auto header = decode_submit_header(*line);
  if (!header)
    co_return refusal(EX_PROTOCOL,
                      "the submission was not understood: " + header.error().describe());
  if (auto refused = refusal_of(queue.admission()))
    co_return *std::move(refused);
  if (header->size > limits.message_size)
    co_return refusal(EX_DATAERR, too_large(limits.message_size));
  auto envelope = to_envelope(*header, limits.origin, limits.recipients);
  if (!envelope)
    co_return refusal(EX_DATAERR, envelope.error().step());
  if (limits.admit)
    if (auto refused = limits.admit(peer.uid, envelope->recipients.size()))
      co_return *std::move(refused);
  const auto size = header->size;
  SubmissionBuilder builder(queue, limits, std::move(*header), std::move(*envelope), peer.uid,
                            queue.next_id());
  if (auto read = co_await read_content(stream, in, size, builder); !read) {
    log.write(LogEvent(Level::warn, "submission-broken")
                  .add("uid", peer.uid)
                  .add("error", read.error().describe()));
    co_return refusal(EX_TEMPFAIL, "the message did not arrive whole");
  }
  storing.insert(&stream);
  auto answer = co_await store(builder, peer.uid);
  storing.erase(&stream);
  co_return answer;
}

Task<void> SubmitServer::State::serve(std::shared_ptr<State> self, std::unique_ptr<Stream> stream,
                                      Peer peer) {
  const auto uid = peer.uid;
  self->streams.insert(stream.get());
  ++self->by_user[uid];
  const SubmitSettings limits = self->settings;
  const auto answer = co_await self->take(*stream, std::move(peer), limits);
  const std::string line = encode(answer);
  const bool is_answer = !answer.id.empty() || !answer.error.empty();
  if (is_answer)
    stream->write_now(line);
  stream->shut_down_sending();
  // The peer may still be writing: what it sends now would make its end fail before it has read.
  char room[4096];
  std::size_t discarded = 0;
  stream->set_deadline(Duration(5000));
  while (is_answer && !self->stopping && discarded < kMostDiscarded) {
    const auto got = co_await stream->read_some(room, sizeof room);
    if (!got)
      break;
    discarded += *got;
  }
  self->streams.erase(stream.get());
  if (--self->by_user[uid] == 0)
    self->by_user.erase(uid);
}

bool SubmitServer::State::has_room_for(Stream& stream, uid_t uid) {
  const auto own = by_user.find(uid);
  if (streams.size() < settings.connections &&
      (own == by_user.end() || own->second < settings.connections_per_user))
    return true;
  stream.write_now(encode(refusal(EX_TEMPFAIL, "too many messages at once; try again later")));
  return false;
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
          LogEvent(Level::error, "submit-failed").add("error", stream.error().describe()));
      pause.set(kPauseAfterFailure);
      co_await resume.wait();
      continue;
    }
    auto peer = peer_of((*stream)->socket().native_handle());
    if (peer && self->has_room_for(**stream, peer->uid))
      self->loop.spawn(serve(self, std::move(*stream), std::move(*peer)), self->log, "submission");
  }
}

Result<std::unique_ptr<SubmitServer>> SubmitServer::open(std::string path, Loop& loop,
                                                         queue::Queue& queue, const Clock& clock,
                                                         Log& log, SubmitSettings settings) {
  auto state = std::make_shared<State>(loop, queue, clock, log, std::move(settings));
  auto listener = LocalListener::bind(std::move(path), 0666, loop);
  if (!listener)
    return listener.error().during("submit socket");
  state->listener = std::move(*listener);
  return std::unique_ptr<SubmitServer>(new SubmitServer(std::move(state)));
}

SubmitServer::SubmitServer(std::shared_ptr<State> state) : state_(std::move(state)) {}
SubmitServer::~SubmitServer() = default;

void SubmitServer::start() {
  state_->loop.spawn(State::listen(state_), state_->log, "submit socket");
}

void SubmitServer::stop() {
  state_->stopping = true;
  state_->listener->close();
  for (Stream* stream : state_->streams)
    if (state_->storing.count(stream) == 0)
      stream->close();
}

void SubmitServer::reconfigure(SubmitSettings settings) {
  state_->settings = std::move(settings);
}

}  // namespace postrider::daemon
