#include "daemon/control/control_server.h"

#include "base/net/blocking_pool.h"
#include "base/net/signal.h"
#include "base/net/tls/local_socket.h"
#include "base/text.h"
#include "daemon/control/control_service.h"

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>

#include <deque>
#include <map>
#include <optional>
#include <poll.h>
#include <sysexits.h>
#include <system_error>

namespace postrider::daemon {

namespace {

constexpr std::size_t kRoom = 4096;
// With readers everybody may connect, and is judged by credentials: a group that the daemon's user is
// no member of cannot be given the file.
constexpr unsigned kClosedMode = 0660, kOpenMode = 0666;
// After a failed accept (no descriptors left), so that the loop does not spin.
constexpr Duration kPauseAfterFailure{1000};

constexpr unsigned kShortJobs = 4, kLongJobs = 4, kReaderJobs = 2;  // threads
constexpr int kReaderNiceness = 10;
// A line of the log for those who were refused, and no more, however many they are.
constexpr Duration kBetweenRefusals{1000};

// While too much waits to be read.
constexpr std::chrono::milliseconds kLookForRoom{20};

struct Page {
  std::string lines;
  bool more = false;
};

// Who is at the other end, and may ask.
struct Visitor {
  Asker asker = Asker::reader;
  uid_t uid = 0;
};

// Both directions are closed; who only ended its request may still read the answer.
bool has_left(Stream& stream) {
  pollfd about{stream.socket().native_handle(), 0, 0};
  return ::poll(&about, 1, 0) > 0 && (about.revents & (POLLHUP | POLLERR)) != 0;
}

}  // namespace

struct ControlServer::State {
  State(Loop& loop_, ControlService& service_, Log& log_, Limits limits_)
      : loop(loop_),
        service(service_),
        log(log_),
        limits(limits_),
        look_again(loop_.deadlines(), [this] { left.set(); }) {}

  using Steady = std::chrono::steady_clock;
  struct Silent {
    Stream* stream;
    Steady::time_point since;
  };

  Loop& loop;
  BlockingPool short_jobs{kShortJobs};
  BlockingPool long_jobs{kLongJobs};
  std::unique_ptr<BlockingPool> reader_jobs;  // from when there are readers on
  ControlService& service;
  Log& log;
  Limits limits;
  std::unique_ptr<LocalListener> listener;
  std::optional<gid_t> readers;  // their group
  // The connections, and whether a part of an answer is on its way.
  std::map<Stream*, bool> writing;
  std::map<uid_t, std::size_t> reading;  // of those: of readers, by user
  std::size_t reading_in_all = 0;
  // Octets of answers that wait for who asked to read them: of administrators, and of readers.
  std::size_t unread_of_administrators = 0, unread_of_readers = 0;
  // A part of an answer, until it is read.
  struct Unread {
    Unread(std::size_t& sum_, std::size_t octets_) : sum(sum_), octets(octets_) { sum += octets; }
    ~Unread() { sum -= octets; }
    Unread(const Unread&) = delete;
    Unread& operator=(const Unread&) = delete;
    std::size_t& sum;
    const std::size_t octets;
  };
  // Keeps one in the books.
  struct Presence {
    Presence(State& state_, Stream& stream_, Visitor visitor_)
        : state(state_), stream(stream_), visitor(visitor_) {
      const bool is_reader = visitor.asker == Asker::reader;
      auto* const own = is_reader ? &state.reading[visitor.uid] : nullptr;
      state.writing[&stream] = false;
      if (is_reader) {
        ++*own;
        ++state.reading_in_all;
      }
    }
    ~Presence() {
      has_asked();
      state.writing.erase(&stream);
      if (visitor.asker == Asker::reader) {
        --state.reading_in_all;
        if (--state.reading[visitor.uid] == 0)
          state.reading.erase(visitor.uid);
      }
      state.left.set();
    }
    Presence(const Presence&) = delete;
    Presence& operator=(const Presence&) = delete;
    // Is silent no more.
    void has_asked() const {
      std::erase_if(state.silent, [this](const Silent& each) { return each.stream == &stream; });
    }
    State& state;
    Stream& stream;
    const Visitor visitor;
  };
  // Of the administrators: have not said yet what they want, the oldest first.
  std::deque<Silent> silent;
  Signal left;  // a stream has gone
  bool stopping = false;
  Deadline look_again;
  std::size_t refused = 0;  // since the last line of the log about it
  Steady::time_point refusal_logged;

  static Task<void> listen(std::shared_ptr<State> self);
  static Task<void> serve(std::shared_ptr<State> self, std::unique_ptr<Stream> stream,
                          Visitor visitor);
  Task<Result<std::string>> read_request(Stream& stream);
  Task<Result<void>> answer(Stream& stream, std::shared_ptr<ControlJob> job, Asker asker);
  std::optional<Visitor> admit(Stream& stream);
  bool has_room_for_reader(uid_t uid) const;
  void note_refusal(const std::string& uid);
  Task<void> wait_for_place();
  void refuse(Stream& stream, int exit_code, std::string sentence);
};

void ControlServer::State::refuse(Stream& stream, int exit_code, std::string sentence) {
  ControlEnd end;
  end.exit_code = exit_code;
  end.error = std::move(sentence);
  stream.write_now(encode(end));
}

bool ControlServer::State::has_room_for_reader(uid_t uid) const {
  const auto own = reading.find(uid);
  return reading_in_all < limits.readers &&
         (own == reading.end() || own->second < limits.of_one_reader);
}

void ControlServer::State::note_refusal(const std::string& uid) {
  ++refused;
  const auto now = Steady::now();
  if (refusal_logged != Steady::time_point() && now - refusal_logged < kBetweenRefusals)
    return;
  refusal_logged = now;
  log.write(LogEvent(Level::warn, "control_refused").add("uid", uid).add("count", refused));
  refused = 0;
}

// Nobody, and the stream has been told why.
std::optional<Visitor> ControlServer::State::admit(Stream& stream) {
  const auto peer = peer_of(stream.socket().native_handle());
  if (peer && may_administrate(*peer))
    return Visitor{Asker::administrator, peer->uid};
  if (peer && readers && peer->is_in(*readers)) {
    if (has_room_for_reader(peer->uid))
      return Visitor{Asker::reader, peer->uid};
    refuse(stream, EX_TEMPFAIL,
           "too many questions of members of the group of control.readers at once; try again");
    return std::nullopt;
  }
  note_refusal(peer ? std::to_string(peer->uid) : "unknown");
  refuse(stream, EX_NOPERM,
         readers ? "only root, the daemon's user and its group may administrate, and only the "
                   "group of control.readers may ask"
                 : "only root, the daemon's user and its group may administrate");
  return std::nullopt;
}

// For an administrator: readers have places of their own, and are sent away where there is none.
// Those who come meanwhile wait in the socket's backlog.
Task<void> ControlServer::State::wait_for_place() {
  while (!stopping && writing.size() - reading_in_all >= limits.connections) {
    if (!silent.empty()) {
      const auto since = std::chrono::duration_cast<Duration>(Steady::now() - silent.front().since);
      if (since >= limits.silence) {
        Stream* const oldest = silent.front().stream;
        silent.pop_front();
        oldest->close();
      } else {
        look_again.set(limits.silence - since);
      }
    }
    co_await left.wait();
    look_again.clear();
  }
}

Task<Result<std::string>> ControlServer::State::read_request(Stream& stream) {
  std::string line;
  char room[kRoom];
  stream.set_deadline(limits.request);
  for (;;) {
    auto got = co_await stream.read_some(room, sizeof room);
    if (!got)
      co_return got.error().during("request");
    const std::string_view piece(room, *got);
    const auto end = piece.find('\n');
    line.append(piece.substr(0, end));
    if (line.size() > kMostRequest)
      co_return Error(Errc::too_long, "request");
    if (end != std::string_view::npos)
      co_return line;
  }
}

Task<Result<void>> ControlServer::State::answer(Stream& stream, std::shared_ptr<ControlJob> job,
                                                Asker asker) {
  const bool is_reader = asker == Asker::reader;
  // The job is shared with the pool's function only as long as the run is awaited.
  BlockingPool& pool = is_reader ? *reader_jobs : job->is_long() ? long_jobs : short_jobs;
  const std::function<Page()> step = [job] {
    Page page;
    page.more = job->step(page.lines);
    return page;
  };
  const auto end = Steady::now() + limits.work;
  auto& unread_in_all = is_reader ? unread_of_readers : unread_of_administrators;
  asio::steady_timer timer(loop.context());
  for (;;) {
    stream.clear_deadline();
    // A part is as long as a message has recipients, and who asks may be slow to read it.
    while (unread_in_all >= limits.unread && !stopping) {
      timer.expires_after(kLookForRoom);
      (void)co_await timer.async_wait(asio::as_tuple(use_task));
    }
    const Page page = co_await pool.run<Page>(loop, step);
    const Unread unread(unread_in_all, page.lines.size());
    stream.set_deadline(limits.write);
    writing[&stream] = true;
    auto written = co_await stream.write(page.lines);
    writing[&stream] = false;
    if (!written || !page.more)
      co_return written;
    if (page.lines.empty() && has_left(stream))
      co_return Error(Errc::stopped, "answer");
    if ((is_reader || job->may_be_cut_off()) && Steady::now() >= end) {
      refuse(stream, EX_TEMPFAIL, "this takes too long; a filter makes it less");
      co_return Error(Errc::stopped, "answer");
    }
  }
}

Task<void> ControlServer::State::serve(std::shared_ptr<State> self, std::unique_ptr<Stream> stream,
                                       Visitor visitor) {
  const Presence presence(*self, *stream, visitor);
  if (visitor.asker == Asker::administrator)
    self->silent.push_back({stream.get(), Steady::now()});
  auto request = co_await self->read_request(*stream);
  presence.has_asked();
  if (request) {
    std::shared_ptr<ControlJob> job = self->service.start(*request, visitor.uid, visitor.asker);
    if (job->is_forbidden())
      self->note_refusal(std::to_string(visitor.uid));
    // Who left needs no answer.
    (void)co_await self->answer(*stream, std::move(job), visitor.asker);
  } else if (request.error().code() == Errc::too_long) {
    self->refuse(*stream, EX_PROTOCOL, "the request is longer than 64 KiB");
  } else if (stream->timed_out()) {
    self->refuse(*stream, EX_PROTOCOL, "the request did not arrive in time");
  }
}

Task<void> ControlServer::State::listen(std::shared_ptr<State> self) {
  Signal resume;
  Deadline pause(self->loop.deadlines(), [&resume] { resume.set(); });
  const auto executor = self->loop.context().get_executor();
  while (!self->stopping) {
    co_await self->wait_for_place();
    if (self->stopping)
      break;
    auto stream = co_await self->listener->accept();
    if (self->stopping)
      break;
    if (!stream) {
      self->log.write(
          LogEvent(Level::error, "control_failed").add("error", stream.error().describe()));
      pause.set(kPauseAfterFailure);
      co_await resume.wait();
      continue;
    }
    const auto visitor = self->admit(**stream);
    if (visitor) {
      self->loop.spawn(serve(self, std::move(*stream), *visitor), self->log, "control connection");
      continue;
    }
    stream->reset();
    // Others on this loop come to their turn, however many knock here.
    co_await asio::post(executor, use_task);
  }
}

Result<std::unique_ptr<ControlServer>> ControlServer::open(std::string path, Loop& loop,
                                                           ControlService& service, Log& log,
                                                           Limits limits) {
  auto state = std::make_shared<State>(loop, service, log, limits);
  auto listener = LocalListener::bind(std::move(path), kClosedMode, loop);
  if (!listener)
    return listener.error().during("control socket");
  state->listener = std::move(*listener);
  return std::unique_ptr<ControlServer>(new ControlServer(std::move(state)));
}

ControlServer::ControlServer(std::shared_ptr<State> state) : state_(std::move(state)) {}
ControlServer::~ControlServer() = default;

Result<void> ControlServer::set_readers(std::optional<gid_t> group) {
  try {
    if (group && !state_->reader_jobs)
      state_->reader_jobs = std::make_unique<BlockingPool>(kReaderJobs, kReaderNiceness);
  } catch (const std::system_error& error) {
    return system_error(error.code().value(), "start threads for readers");
  }
  state_->readers = group;
  return state_->listener->set_mode(group ? kOpenMode : kClosedMode);
}

void ControlServer::start() {
  state_->loop.keep([state = state_] { return State::listen(state); }, state_->log,
                    "control socket");
}

void ControlServer::stop() {
  state_->stopping = true;
  state_->listener->close();
  for (const auto& [stream, is_writing] : state_->writing) {
    if (!is_writing)
      state_->refuse(*stream, EX_TEMPFAIL, "the daemon is stopping");
    stream->close();
  }
  state_->left.set();
}

}  // namespace postrider::daemon
