#include "daemon/predecessor/take_over.h"

#include "base/passed_descriptors.h"
#include "base/text.h"
#include "daemon/control/kept_log.h"
#include "daemon/control/offline.h"
#include "daemon/control/queue_exit.h"
#include "daemon/predecessor/old_mail_taker.h"
#include "daemon/predecessor/old_queue.h"
#include "daemon/privsep/privileges.h"
#include "queue/queue.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <unistd.h>

namespace postrider::daemon {

namespace {

constexpr std::size_t kMostPacket = 128U << 10U;
constexpr std::size_t kMostFiles = 3;
constexpr std::size_t kForgottenAtOnce = 500;

Result<void> send_packet(const FileDescriptor& socket, std::string text,
                         const std::vector<FileDescriptor>& files = {}) {
  iovec part{text.data(), text.size()};
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int) * kMostFiles)> control{};
  msghdr header{};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  if (!files.empty()) {
    header.msg_control = control.data();
    header.msg_controllen = CMSG_SPACE(sizeof(int) * files.size());
    auto* item = CMSG_FIRSTHDR(&header);
    item->cmsg_level = SOL_SOCKET;
    item->cmsg_type = SCM_RIGHTS;
    item->cmsg_len = CMSG_LEN(sizeof(int) * files.size());
    for (std::size_t i = 0; i < files.size(); ++i) {
      const int number = files[i].get();
      std::memcpy(CMSG_DATA(item) + i * sizeof number, &number, sizeof number);
    }
  }
  for (;;) {
    if (::sendmsg(socket.get(), &header, MSG_NOSIGNAL) >= 0)
      return {};
    if (errno != EINTR)
      return system_error("ask the process that reads the old queue");
  }
}

struct Packet {
  std::string text;
  std::vector<FileDescriptor> files;
};
Result<Packet> receive_packet(const FileDescriptor& socket) {
  Packet packet;
  packet.text.resize(kMostPacket);
  for (;;) {
    auto got = receive_passed(socket.get(), packet.text.data(), packet.text.size());
    if (got.octets < 0 && errno == EINTR)
      continue;
    if (got.octets < 0)
      return system_error("hear of the process that reads the old queue");
    if (got.octets == 0)
      return Error(Errc::truncated, "the process that reads the old queue has ended");
    if ((got.flags & (MSG_TRUNC | MSG_CTRUNC)) != 0)
      return Error(Errc::too_long, "a packet is too long");
    packet.text.resize(static_cast<std::size_t>(got.octets));
    packet.files = std::move(got.descriptors);
    return packet;
  }
}

// The process without rights: what it says is that of somebody who may be taken over by the files
// that it reads, and decides nothing but what becomes of them.
class TakerProcess {
 public:
  static Result<std::unique_ptr<TakerProcess>> start(const ToolPaths& places,
                                                     const TakeOverOptions& options) {
    int ends[2] = {-1, -1};
    if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, &ends[0]) != 0)
      return system_error("make a socket");
    auto process = std::make_unique<TakerProcess>();
    FileDescriptor theirs(ends[1]);
    process->socket_ = FileDescriptor(ends[0]);
    std::fflush(nullptr);
    const auto parent = ::getpid();
    process->id_ = ::fork();
    if (process->id_ < 0)
      return system_error("start a process");
    if (process->id_ == 0) {
      // What root has opened of the old queue is not for it.
      const auto own = static_cast<unsigned>(theirs.get());
      if (own > STDERR_FILENO + 1)
        ::close_range(STDERR_FILENO + 1, own - 1, 0);
      ::close_range(own + 1, ~0U, 0);
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      ::_exit(::getppid() == parent ? serve(theirs, places, options) : EX_OSERR);
    }
    return process;
  }
  TakerProcess() = default;
  TakerProcess(const TakerProcess&) = delete;
  TakerProcess& operator=(const TakerProcess&) = delete;
  ~TakerProcess() {
    socket_.reset();
    while (id_ > 0 && ::waitpid(id_, nullptr, 0) < 0 && errno == EINTR) {
    }
  }

  Result<TakerReady> ready() {
    auto packet = receive_packet(socket_);
    return packet ? decode_taker_ready(packet->text) : packet.error();
  }
  Result<TakenOver> take(const OldMailOrder& order, const std::vector<FileDescriptor>& files) {
    if (auto sent = send_packet(socket_, encode(order), files); !sent)
      return sent.error();
    auto packet = receive_packet(socket_);
    return packet ? decode_taken_over(packet->text) : packet.error();
  }
  Result<void> forget(std::vector<std::string> drop_ids) {
    OldMailOrder order;
    order.act = OldMailOrder::Act::forget;
    order.drop_ids = std::move(drop_ids);
    return send_packet(socket_, encode(order));
  }
  // All of it is stored, and the queue closed.
  Result<void> end() {
    OldMailOrder order;
    order.act = OldMailOrder::Act::end;
    if (auto sent = send_packet(socket_, encode(order)); !sent)
      return sent;
    auto packet = receive_packet(socket_);
    return packet ? Result<void>() : packet.error();
  }

 private:
  static void answer(const FileDescriptor& socket, const std::string& text) {
    static_cast<void>(send_packet(socket, text));  // who asked is gone, and so are we
  }
  static int refuse(const FileDescriptor& socket, int exit_code, std::string error) {
    answer(socket, encode(TakerReady{exit_code, std::move(error)}));
    return exit_code;
  }
  static int serve(const FileDescriptor& socket, const ToolPaths& places,
                   const TakeOverOptions& options);
  static void answer_all(const FileDescriptor& socket, OldMailTaker& taker);

  FileDescriptor socket_;
  pid_t id_ = -1;
};

int TakerProcess::serve(const FileDescriptor& socket, const ToolPaths& places,
                        const TakeOverOptions& options) {
  const SystemClock clock;
  const OldMailTaker::Settings settings{options.whose, places.hostname, places.origin};
  if (options.dry_run) {
    if (auto became = give_up_root(places.user); !became)
      return refuse(socket, EX_NOUSER, became.error().describe());
    answer(socket, encode(TakerReady{}));
    NullLog log;
    OldMailTaker taker(nullptr, clock, settings, log);
    answer_all(socket, taker);
    return EX_OK;
  }
  if (auto refused = enter_spool(places))
    return refuse(socket, refused->exit_code, refused->error);
  KeptLog log(places.spool, clock, KeptLog::Errors::said);
  queue::QueueSettings ours;
  ours.spool = places.spool;
  auto queue = queue::Queue::open(ours, clock, log);
  if (!queue)
    return refuse(socket, exit_code_of_queue(queue.error(), EX_TEMPFAIL),
                  "the queue cannot be opened: " + queue.error().describe());
  (*queue)->start(nullptr);
  answer(socket, encode(TakerReady{}));
  {
    OldMailTaker taker(queue->get(), clock, settings, log);
    answer_all(socket, taker);
  }
  (*queue)->stop();
  answer(socket, encode(TakerReady{}));
  return EX_OK;
}

void TakerProcess::answer_all(const FileDescriptor& socket, OldMailTaker& taker) {
  for (;;) {
    auto packet = receive_packet(socket);
    if (!packet)
      return;
    auto order = decode_old_mail_order(packet->text);
    if (!order || order->act == OldMailOrder::Act::end)
      return;
    if (order->act == OldMailOrder::Act::forget)
      taker.forget(std::move(order->drop_ids));
    else
      answer(socket, encode(taker.take(*order, std::move(packet->files))));
  }
}

// The process with rights, message by message.
class TakingOver {
 public:
  TakingOver(const ToolPaths& places, const TakeOverOptions& options,
             const std::function<bool(const TakenOver&)>& on_message)
      : places_(places), options_(options), on_message_(on_message) {}

  TakeOverEnd run() {
    if (::geteuid() != 0)
      return stop(EX_NOPERM, "only root may take over the queue of another mail server");
    if (!options_.dry_run && LocalConnection::connect(places_.control_socket))
      return stop(EX_UNAVAILABLE,
                  "the mail system is running; stop it before mail is taken over: "
                  "systemctl stop postrider");
    auto queue = OldQueue::open(options_.whose, options_.folder);
    if (!queue)
      return stop(queue.error().code() == Errc::not_found ? EX_NOINPUT : EX_NOPERM,
                  queue.error().step());
    queue_ = *std::move(queue);
    if (options_.dry_run)
      queue_->only_look();
    if (auto found = queue_->scan(); !found)
      return stop(EX_IOERR, found.error().describe());
    auto why = queue_->lock();
    if (!why.empty() && !options_.dry_run)
      return stop(EX_UNAVAILABLE, std::move(why));
    end_.warning = std::move(why);
    if (auto found = queue_->scan(); !found)  // as it is since nobody changes it any more
      return stop(EX_IOERR, found.error().describe());
    auto taker = TakerProcess::start(places_, options_);
    if (!taker)
      return stop(EX_OSERR, taker.error().describe());
    auto ready = (*taker)->ready();
    if (!ready)
      return stop(EX_IOERR, ready.error().describe());
    if (ready->exit_code != 0)
      return stop(ready->exit_code, ready->error);
    taker_ = *std::move(taker);
    return take_all();
  }

 private:
  TakeOverEnd stop(int exit_code, std::string error) {
    end_.exit_code = exit_code;
    end_.error = std::move(error);
    return end_;
  }

  TakeOverEnd take_all() {
    if (moves())
      if (auto done = queue_->put_rest_aside(); !done)
        return stop(EX_IOERR, done.error().describe());
    for (const auto& [name, why] : queue_->odd()) {
      TakenOver odd;
      odd.end = TakenOver::End::refused;
      odd.file = name;
      odd.reason = why;
      if (!tell(odd))
        return end_;
    }
    for (const auto& entry : queue_->entries()) {
      auto taken = take(entry);
      if (!taken)
        return stop(EX_IOERR, taken.error().describe());
      if (!tell(*taken))
        break;
    }
    if (auto settled = settle(); !settled)
      return stop(EX_IOERR, settled.error().describe());
    if (!options_.dry_run)
      if (auto ended = taker_->end(); !ended)
        return stop(EX_IOERR, ended.error().describe());
    return end_;
  }

  bool moves() const { return !options_.keeps && !options_.dry_run; }

  Result<TakenOver> take(const OldQueue::Entry& entry) {
    auto opened = queue_->open_message(entry);
    if (!opened)
      return not_opened(entry, opened.error());
    auto taken = taker_->take(opened->order, opened->files);
    if (!taken)
      return taken;
    taken->file = entry.shown();
    const bool is_ours = taken->end == TakenOver::End::taken || taken->end == TakenOver::End::known;
    if (!is_ours || !moves())
      return taken;
    // In custody: from here on a failure costs nothing but a file that is still there.
    if (auto moved = queue_->put_aside(entry); !moved) {
      taken->reason = "it is in custody, but its file is still there: " + moved.error().describe();
      end_.exit_code = EX_IOERR;
      return taken;
    }
    gone_.insert(gone_.end(), taken->drop_ids.begin(), taken->drop_ids.end());
    if (gone_.size() >= kForgottenAtOnce)
      if (auto settled = settle(); !settled)
        return settled.error();
    return taken;
  }

  static TakenOver not_opened(const OldQueue::Entry& entry, const Error& error) {
    TakenOver taken;
    taken.file = entry.shown();
    taken.end = TakenOver::End::failed;
    taken.reason = error.describe();
    const struct {
      Errc code;
      TakenOver::End end;
    } ends[] = {{Errc::refused, TakenOver::End::refused},
                {Errc::unsupported, TakenOver::End::left},
                {Errc::stopped, TakenOver::End::busy},
                {Errc::not_found, TakenOver::End::empty}};
    for (const auto& one : ends)
      if (error.code() == one.code) {
        taken.end = one.end;
        taken.reason = error.step();
      }
    return taken;
  }

  // The files are gone for good, so nothing has to remember them.
  Result<void> settle() {
    if (gone_.empty())
      return {};
    if (auto synced = queue_->sync(); !synced)
      return synced;
    return taker_->forget(std::exchange(gone_, {}));
  }

  bool tell(const TakenOver& taken) {
    using End = TakenOver::End;
    const int code = taken.end == End::failed    ? EX_IOERR
                     : taken.end == End::refused ? EX_DATAERR
                     : taken.end == End::busy    ? EX_TEMPFAIL
                                                 : EX_OK;
    // The worst of all: what could not be read or stored before what is damaged.
    const auto weight = [](int one) {
      return one == EX_IOERR ? 3 : one == EX_DATAERR ? 2 : one == EX_TEMPFAIL ? 1 : 0;
    };
    if (weight(code) > weight(end_.exit_code))
      end_.exit_code = code;
    return on_message_(taken);
  }

  const ToolPaths& places_;
  const TakeOverOptions& options_;
  const std::function<bool(const TakenOver&)>& on_message_;
  std::unique_ptr<OldQueue> queue_;
  std::unique_ptr<TakerProcess> taker_;
  std::vector<std::string> gone_;  // ids of what was put aside, and not yet forgotten
  TakeOverEnd end_;
};

}  // namespace

TakeOverEnd take_over(const ToolPaths& places, const TakeOverOptions& options,
                      const std::function<bool(const TakenOver&)>& on_message) {
  return TakingOver(places, options, on_message).run();
}

}  // namespace postrider::daemon
