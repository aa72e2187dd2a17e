#include "daemon/privsep/parent_client.h"

#include "delivery/local/agents/local_file.h"
#include "delivery/local/agents/local_target_codec.h"
#include "queue/row_codec.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <poll.h>
#include <sys/mman.h>
#include <unistd.h>

namespace postrider::daemon {

namespace {

using delivery::local_end;
using delivery::local_failure;
using mail::Outcome;
using mail::Verdict;

template <std::size_t Size>
Result<void> fill(std::array<char, Size>& room, const std::string& text) {
  if (text.size() >= Size || text.find('\0') != text.npos)
    return Error(Errc::too_long, "name " + text.substr(0, Size));
  std::copy(text.begin(), text.end(), room.begin());
  return {};
}

// Bytes in memory as a file that another process can read from its beginning.
Result<FileDescriptor> memory_file(std::string_view bytes) {
  FileDescriptor file(::memfd_create("postrider", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!file.is_open())
    return system_error("make a memory file");
  if (auto written = write_all(file, bytes); !written)
    return written.error();
  if (::lseek(file.get(), 0, SEEK_SET) != 0)
    return system_error("rewind a memory file");
  return file;
}

using Moment = std::chrono::steady_clock::time_point;

Error too_late(const std::string& what) {
  return Error(boost::system::errc::make_error_code(boost::system::errc::timed_out), what);
}

// The other side is a process that the user may stop: nothing is waited for without an end.
Result<void> read_exactly(const FileDescriptor& from, void* to, std::size_t size, Moment end) {
  auto* at = static_cast<char*>(to);
  while (size > 0) {
    const auto left =
        std::chrono::ceil<std::chrono::milliseconds>(end - std::chrono::steady_clock::now())
            .count();
    if (left <= 0)
      return too_late("wait for the delivery's end");
    pollfd waiting{from.get(), POLLIN, 0};
    const int ready = ::poll(&waiting, 1, static_cast<int>(std::min<std::int64_t>(left, 60000)));
    if (ready < 0 && errno != EINTR)
      return system_error("wait for the parent's answer");
    if (ready <= 0)
      continue;
    const auto got = ::recv(from.get(), at, size, MSG_DONTWAIT);
    if (got < 0 && (errno == EINTR || errno == EAGAIN))
      continue;
    if (got <= 0)
      return got < 0 ? system_error("read the parent's answer")
                     : Error(Errc::stopped, "read the parent's answer (the delivery ended)");
    at += got;
    size -= static_cast<std::size_t>(got);
  }
  return {};
}

Result<void> send_request(int socket, const ParentRequest& request, const std::array<int, 3>& fds,
                          std::size_t count) {
  iovec part{const_cast<ParentRequest*>(&request), sizeof request};
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int) * kMostParentDescriptors)> room{};
  msghdr header{};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  header.msg_control = room.data();
  header.msg_controllen = CMSG_SPACE(sizeof(int) * count);
  auto* item = CMSG_FIRSTHDR(&header);
  item->cmsg_level = SOL_SOCKET;
  item->cmsg_type = SCM_RIGHTS;
  item->cmsg_len = CMSG_LEN(sizeof(int) * count);
  std::memcpy(CMSG_DATA(item), fds.data(), sizeof(int) * count);
  while (::sendmsg(socket, &header, MSG_NOSIGNAL) < 0)
    if (errno != EINTR)
      return system_error("ask the parent");
  return {};
}

}  // namespace

ParentClient::ParentClient(ParentLink link) : link_(std::move(link)) {}

// Gives the socket that the answer comes from.
Result<FileDescriptor> ParentClient::put(const ParentRequest& request, int first, int second) {
  std::array<int, 2> ends{};
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) != 0)
    return system_error("ask the parent");
  FileDescriptor ours(ends[0]), theirs(ends[1]);
  const auto count = descriptors_of(request.verb);
  if (auto sent = send_request(link_.socket.get(), request, {theirs.get(), first, second}, count);
      !sent)
    return sent.error();
  return ours;
}

Result<ParentClient::Answer> ParentClient::hear(const FileDescriptor& from, Duration time) {
  const auto end = std::chrono::steady_clock::now() + time;
  Answer answer;
  if (auto read = read_exactly(from, &answer.head, sizeof answer.head, end); !read)
    return read.error();
  if (answer.head.magic != kParentMagic || answer.head.size > kMostParentAnswer)
    return malformed("the parent's answer");
  answer.bytes.resize(answer.head.size);
  if (auto read = read_exactly(from, answer.bytes.data(), answer.bytes.size(), end); !read)
    return read.error();
  if (answer.head.answer == ParentAnswer::refused || answer.head.answer == ParentAnswer::failed)
    return answer.head.is_ours != 0 ? Error(static_cast<Errc>(answer.head.number), answer.bytes)
                                    : system_error(answer.head.number, answer.bytes);
  return answer;
}

// When it comes back without an answer, closing its end has told the parent to end the child.
Result<ParentClient::Answer> ParentClient::ask(const ParentRequest& request, Duration time,
                                               int first, int second) {
  const auto from = put(request, first, second);
  if (!from)
    return from.error();
  return hear(*from, time);
}

namespace {

constexpr Duration kPatience{std::chrono::seconds(30)};  // for what does not deliver
constexpr Duration kGrace{std::chrono::seconds(10)};     // beyond what the child allows itself
// Whoever is writing into a mailbox is not cut off because commands must be quick.
constexpr Duration kLeastForMailbox{std::chrono::seconds(30)};

Duration time_for(const delivery::LocalTarget& target) {
  const bool is_command = target.kind == delivery::LocalTarget::Kind::command;
  const auto own = target.limits.time;
  return (is_command ? own : std::max(own, kLeastForMailbox)) + kGrace;
}

}  // namespace

Outcome ParentClient::perform(const delivery::LocalJob& job, delivery::LocalBody body) {
  ParentRequest request;
  request.verb = ParentVerb::perform;
  request.source = static_cast<std::uint32_t>(job.source);
  if (auto named = fill(request.user, job.target.user); !named)
    return local_failure(named.error());
  const auto file = memory_file(delivery::encode(job));
  if (!file)
    return local_failure(file.error());
  if (body.bytes) {
    auto content = memory_file(*body.bytes);
    if (!content)
      return local_failure(content.error());
    body.file = std::move(*content);
  }
  const auto answer = ask(request, time_for(job.target), file->get(), body.file.get());
  if (!answer)
    return local_end(Verdict::retry, {4, 3, 0}, "not delivered: " + answer.error().describe());
  auto outcome = queue::decode_outcome(answer->bytes);
  if (answer->head.answer != ParentAnswer::outcome || !outcome)
    return local_end(Verdict::retry, {4, 3, 0}, "the delivery gave no result");
  return *std::move(outcome);
}

Result<std::optional<std::string>> ParentClient::read_forward(const std::string& user,
                                                              const std::string& name) {
  ParentRequest request;
  request.verb = ParentVerb::read_forward;
  if (auto named = fill(request.user, user); !named)
    return named.error();
  if (auto named = fill(request.name, name); !named)
    return std::optional<std::string>();  // no file has a name of that length
  auto answer = ask(request, kPatience);
  if (!answer)
    return answer.error();
  if (answer->head.answer == ParentAnswer::nothing)
    return std::optional<std::string>();
  return std::optional(std::move(answer->bytes));
}

Result<void> ParentClient::bind(int socket, const sockaddr* address, socklen_t size) {
  ParentRequest request;
  request.verb = ParentVerb::bind;
  if (size > sizeof request.address)
    return malformed("an address of this size");
  std::memcpy(&request.address, address, size);
  request.address_size = size;
  const auto answer = ask(request, kPatience, socket);
  if (!answer)
    return answer.error();
  return {};
}

Result<std::string> ParentClient::run_token_command(const std::string& credentials, int stop) {
  ParentRequest request;
  request.verb = ParentVerb::token;
  if (auto named = fill(request.name, credentials); !named)
    return named.error();
  const auto from = put(request, -1, -1);
  if (!from)
    return from.error();
  std::array<pollfd, 2> waiting = {{{from->get(), POLLIN, 0}, {stop, POLLIN, 0}}};
  while (::poll(waiting.data(), waiting.size(), -1) < 0)
    if (errno != EINTR)
      return system_error("wait for the command");
  if (waiting[0].revents == 0)
    return Error(Errc::stopped, "wait for the command");
  auto answer = hear(*from, kPatience);
  if (!answer)
    return answer.error();
  if (answer->head.answer != ParentAnswer::text)
    return malformed("the parent's answer");
  return std::move(answer->bytes);
}

std::optional<int> ParentClient::helper_ended() {
  ParentReply told;
  if (::recv(link_.socket.get(), &told, sizeof told, MSG_DONTWAIT) != sizeof told ||
      told.answer != ParentAnswer::helper_ended)
    return std::nullopt;
  return told.number;
}

Result<void> ParentClient::reload() {
  return tell(ParentVerb::reload);
}

Result<void> ParentClient::adopt() {
  return tell(ParentVerb::adopt);
}

Result<void> ParentClient::stay() {
  return tell(ParentVerb::stay);
}

Result<void> ParentClient::tell(ParentVerb verb) {
  ParentRequest request;
  request.verb = verb;
  const auto answer = ask(request, kPatience);
  if (!answer)
    return answer.error();
  return {};
}

}  // namespace postrider::daemon
