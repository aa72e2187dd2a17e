#include "smtpd/local_sender.h"

#include "base/file.h"

#include <arpa/inet.h>
#include <cstring>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>

namespace postrider::smtpd {

namespace {

constexpr std::uint8_t kLoopback = 127;
constexpr std::uint8_t kListening = 10;  // TCP_LISTEN of the kernel

// One end of a connection; a mapped IPv4 address is one of IPv4.
struct End {
  int family = AF_UNSPEC;
  std::uint32_t address[4] = {};
  std::uint16_t port = 0;
};

End end_of(const sockaddr* address) {
  End end;
  if (address->sa_family == AF_INET) {
    sockaddr_in v4{};
    std::memcpy(&v4, address, sizeof v4);
    end = {AF_INET, {v4.sin_addr.s_addr}, v4.sin_port};
  } else if (address->sa_family == AF_INET6) {
    sockaddr_in6 v6{};
    std::memcpy(&v6, address, sizeof v6);
    const bool is_mapped = IN6_IS_ADDR_V4MAPPED(&v6.sin6_addr);
    end = {is_mapped ? AF_INET : AF_INET6, {}, v6.sin6_port};
    std::memcpy(end.address, v6.sin6_addr.s6_addr + (is_mapped ? 12 : 0), is_mapped ? 4 : 16);
  }
  return end;
}

bool is_loopback(const End& end) {
  if (end.family == AF_INET)
    return ntohl(end.address[0]) >> 24U == kLoopback;
  in6_addr address{};
  std::memcpy(&address, end.address, sizeof address);
  return end.family == AF_INET6 && IN6_IS_ADDR_LOOPBACK(&address);
}

// Of an interface of this machine: a socket can be bound to it.
bool is_of_this_machine(const sockaddr* address) {
  const FileDescriptor socket(::socket(address->sa_family, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  sockaddr_storage bound{};
  const socklen_t size =
      address->sa_family == AF_INET6 ? sizeof(sockaddr_in6) : sizeof(sockaddr_in);
  std::memcpy(&bound, address, size);
  // The port stands at the same place in both.
  reinterpret_cast<sockaddr_in*>(&bound)->sin_port = 0;
  return socket.is_open() &&
         ::bind(socket.get(), reinterpret_cast<const sockaddr*>(&bound), size) == 0;
}

struct Query {
  nlmsghdr header;
  inet_diag_req_v2 request;
};

Query query_of(const End& theirs, const End& ours) {
  Query query{};
  query.header.nlmsg_len = sizeof query;
  query.header.nlmsg_type = SOCK_DIAG_BY_FAMILY;
  query.header.nlmsg_flags = NLM_F_REQUEST;
  auto& request = query.request;
  request.sdiag_family = static_cast<std::uint8_t>(theirs.family);
  request.sdiag_protocol = IPPROTO_TCP;
  request.idiag_states = ~0U;
  request.id.idiag_sport = theirs.port;
  request.id.idiag_dport = ours.port;
  std::memcpy(request.id.idiag_src, theirs.address, sizeof theirs.address);
  std::memcpy(request.id.idiag_dst, ours.address, sizeof ours.address);
  request.id.idiag_cookie[0] = request.id.idiag_cookie[1] = INET_DIAG_NOCOOKIE;
  return query;
}

// Each thread keeps its netlink socket: to make and close one for each connection costs a tenth of
// a short session. An answer that was not fetched is passed over by its number.
std::optional<std::uint32_t> owner_of(const End& theirs, const End& ours) {
  thread_local FileDescriptor netlink;
  thread_local std::uint32_t number = 0;
  if (!netlink.is_open())
    netlink = FileDescriptor(
        ::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_SOCK_DIAG));
  auto query = query_of(theirs, ours);
  query.header.nlmsg_seq = ++number;
  if (!netlink.is_open() ||
      ::send(netlink.get(), &query, sizeof query, 0) != static_cast<ssize_t>(sizeof query))
    return std::nullopt;
  alignas(nlmsghdr) char answer[1024];
  nlmsghdr header{};
  inet_diag_msg message{};
  do {
    const auto got = ::recv(netlink.get(), answer, sizeof answer, 0);
    if (got < static_cast<ssize_t>(NLMSG_LENGTH(sizeof message)))
      return std::nullopt;
    std::memcpy(&header, answer, sizeof header);
  } while (header.nlmsg_seq != number);
  std::memcpy(&message, answer + NLMSG_HDRLEN, sizeof message);
  // An error: there is no such socket. One that listens is not the other end, which is gone.
  if (header.nlmsg_type != SOCK_DIAG_BY_FAMILY || message.idiag_state == kListening)
    return std::nullopt;
  return message.idiag_inode == 0 ? kUnknownUser : message.idiag_uid;  // closed: owned by nobody
}

}  // namespace

std::optional<std::uint32_t> local_user_of(int socket, const sockaddr* peer, bool any_address) {
  if (peer->sa_family == AF_UNIX) {
    ucred who{};
    socklen_t size = sizeof who;
    const bool is_known = ::getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &who, &size) == 0;
    return is_known ? std::optional<std::uint32_t>(who.uid) : std::nullopt;
  }
  const auto theirs = end_of(peer);
  if (!is_loopback(theirs) && !(any_address && is_of_this_machine(peer)))
    return std::nullopt;
  sockaddr_storage local{};
  socklen_t size = sizeof local;
  if (::getsockname(socket, reinterpret_cast<sockaddr*>(&local), &size) != 0)
    return std::nullopt;
  return owner_of(theirs, end_of(reinterpret_cast<const sockaddr*>(&local)));
}

}  // namespace postrider::smtpd
