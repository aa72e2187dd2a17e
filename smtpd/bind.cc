#include "base/text.h"
#include "smtpd/listener.h"

#include <arpa/inet.h>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

namespace postrider::smtpd {

namespace {

constexpr int kBacklog = 4096;  // the kernel cuts it to net.core.somaxconn
constexpr std::string_view kUnix = "unix:";

struct Address {
  sockaddr_storage storage{};
  socklen_t size = 0;
  int family() const { return storage.ss_family; }
  const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&storage); }
  sockaddr* get() { return reinterpret_cast<sockaddr*>(&storage); }
};

Result<Address> parse_unix(std::string_view path) {
  sockaddr_un local{};
  local.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof local.sun_path)
    return malformed("a socket's path has 1 to 107 octets");
  std::memcpy(local.sun_path, path.data(), path.size());
  Address address;
  std::memcpy(&address.storage, &local, sizeof local);
  address.size = sizeof local;
  return address;
}

Result<Address> parse_inet(std::string_view text) {
  const auto colon = text.rfind(':');
  if (colon == std::string_view::npos)
    return malformed("an address needs a port: 0.0.0.0:25, [::]:25 or unix:/path");
  const auto port = parse_unsigned(text.substr(colon + 1));
  auto host = std::string(text.substr(0, colon));
  const bool bracketed = host.size() > 2 && host.front() == '[' && host.back() == ']';
  if (bracketed)
    host = host.substr(1, host.size() - 2);
  if (!port || *port > 65535)
    return malformed("a port is a number from 0 to 65535");
  Address address;
  sockaddr_in in{};
  sockaddr_in6 in6{};
  if (!bracketed && inet_pton(AF_INET, host.c_str(), &in.sin_addr) == 1) {
    in.sin_family = AF_INET;
    in.sin_port = htons(static_cast<std::uint16_t>(*port));
    std::memcpy(&address.storage, &in, sizeof in);
    address.size = sizeof in;
  } else if (bracketed && inet_pton(AF_INET6, host.c_str(), &in6.sin6_addr) == 1) {
    in6.sin6_family = AF_INET6;
    in6.sin6_port = htons(static_cast<std::uint16_t>(*port));
    std::memcpy(&address.storage, &in6, sizeof in6);
    address.size = sizeof in6;
  } else {
    return malformed("not an address: 0.0.0.0:25, [::]:25 or unix:/path");
  }
  return address;
}

// A socket file that nobody listens on any more is left from an unclean stop.
void remove_stale(const Address& address, const char* path) {
  const FileDescriptor probe(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (::connect(probe.get(), address.get(), address.size) != 0 && errno == ECONNREFUSED)
    ::unlink(path);
}

void set_option(const FileDescriptor& socket, int level, int option) {
  const int on = 1;
  ::setsockopt(socket.get(), level, option, &on, sizeof on);
}

Result<FileDescriptor> bind_only(const Address& address, bool shared,
                                 const BindElsewhere& elsewhere) {
  FileDescriptor socket(::socket(address.family(), SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!socket.is_open())
    return system_error("open socket");
  if (address.family() != AF_UNIX) {
    set_option(socket, SOL_SOCKET, SO_REUSEADDR);
    // Accepted sockets inherit it: a reply is one write and never waits for an acknowledgement.
    set_option(socket, IPPROTO_TCP, TCP_NODELAY);
  }
  if (address.family() == AF_INET6)
    set_option(socket, IPPROTO_IPV6, IPV6_V6ONLY);
  if (shared)
    set_option(socket, SOL_SOCKET, SO_REUSEPORT);
  if (::bind(socket.get(), address.get(), address.size) == 0)
    return socket;
  if (errno != EACCES || !elsewhere)
    return system_error("bind");
  if (auto bound = elsewhere(socket.get(), address.get(), address.size); !bound)
    return bound.error();
  return socket;
}

Result<FileDescriptor> bind_one(const Address& address, bool shared,
                                const BindElsewhere& elsewhere) {
  auto socket = bind_only(address, shared, elsewhere);
  if (socket && ::listen(socket->get(), kBacklog) != 0)
    return system_error("listen");
  return socket;
}

// One socket polled by every loop, where SO_REUSEPORT cannot give each its own.
Result<void> share(FileDescriptor socket, std::size_t loops, Bound& bound) {
  const int flags = ::fcntl(socket.get(), F_GETFL);
  if (flags < 0 || ::fcntl(socket.get(), F_SETFL, flags | O_NONBLOCK) != 0)
    return system_error("prepare socket");
  for (std::size_t i = 1; i < loops; ++i) {
    FileDescriptor copy(::fcntl(socket.get(), F_DUPFD_CLOEXEC, 0));
    if (!copy.is_open())
      return system_error("duplicate socket");
    bound.sockets.push_back(std::move(copy));
  }
  bound.sockets.push_back(std::move(socket));
  return {};
}

Result<void> read_back(const FileDescriptor& socket, Address& address) {
  address.size = sizeof address.storage;
  if (::getsockname(socket.get(), address.get(), &address.size) != 0)
    return system_error("read the socket's address");
  return {};
}

std::string describe(const Address& address) {
  if (address.family() == AF_INET) {
    sockaddr_in in{};
    std::memcpy(&in, &address.storage, sizeof in);
    return IpAddress::from(address.get()).str() + ":" + std::to_string(ntohs(in.sin_port));
  }
  sockaddr_in6 in6{};
  std::memcpy(&in6, &address.storage, sizeof in6);
  char text[INET6_ADDRSTRLEN];
  inet_ntop(AF_INET6, &in6.sin6_addr, text, sizeof text);
  return "[" + std::string(text) + "]:" + std::to_string(ntohs(in6.sin6_port));
}

Result<Bound> bind_inet(Address address, std::size_t loops, const BindElsewhere& elsewhere,
                        bool beside_own) {
  Bound bound;
  // With SO_REUSEPORT alone, a second daemon of the same user would share the port unnoticed.
  if (!beside_own)
    if (auto probe = bind_only(address, false, elsewhere); !probe)
      return probe.error();
  for (std::size_t i = 0; i < loops; ++i) {
    auto socket = bind_one(address, loops > 1 || beside_own, elsewhere);
    if (!socket)
      return socket.error();
    if (i == 0)  // the others share the port that the first was given
      if (auto read = read_back(*socket, address); !read)
        return read.error();
    bound.sockets.push_back(*std::move(socket));
  }
  bound.address = describe(address);
  return bound;
}

// What an administrator can do about it; behind the address.
std::string remedy(const Error& error) {
  const auto code = error.code();
  if (code == boost::system::errc::address_in_use)
    return " (another program listens there: `ss -ltnp` names it)";
  if (code == boost::system::errc::address_not_available)
    return " (this machine has no such address: `ip address` lists them, \"*:25\" takes all)";
  if (code == boost::system::errc::address_family_not_supported)
    return " (IPv6 is off here: \"localhost:25\" and \"*:25\" take what there is)";
  if (code == boost::system::errc::permission_denied)
    return " (a port below 1024 is for root: start as root, or with CAP_NET_BIND_SERVICE)";
  return {};
}

}  // namespace

bool is_not_here(const Error& error) {
  return error.code() == boost::system::errc::address_not_available ||
         error.code() == boost::system::errc::address_family_not_supported;
}

Result<Bound> bind_listener(const ListenerSettings& settings, std::size_t loops,
                            const BindElsewhere& elsewhere, bool beside_own) {
  const std::string step = "listen on " + settings.address;
  Bound bound;
  if (settings.inherited >= 0) {
    bound.address = settings.address;
    if (auto shared = share(FileDescriptor(settings.inherited), loops, bound); !shared)
      return shared.error().during(step);
    return bound;
  }
  if (!settings.address.starts_with(kUnix)) {
    const auto address = parse_inet(settings.address);
    if (!address)
      return address.error().during(step);
    auto result = bind_inet(*address, loops, elsewhere, beside_own);
    if (!result)
      return result.error().during(step + remedy(result.error()));
    return result;
  }
  const auto path = settings.address.substr(kUnix.size());
  const auto address = parse_unix(path);
  if (!address)
    return address.error().during(step);
  remove_stale(*address, path.c_str());
  auto socket = bind_one(*address, false, {});
  if (!socket)
    return socket.error().during(step);
  bound.address = settings.address;
  if (auto shared = share(*std::move(socket), loops, bound); !shared)
    return shared.error().during(step);
  return bound;
}

}  // namespace postrider::smtpd
