// Another program, asked by Postfix's socketmap protocol.
#include "base/user_mounts.h"
#include "tables/netstring.h"
#include "tables/remote_table.h"

#include <sys/stat.h>

namespace postrider::tables {

namespace {

class SocketmapConnection : public RemoteConnection {
 public:
  SocketmapConnection(RemoteSocket socket, std::string name)
      : socket_(std::move(socket)), name_(std::move(name)) {}

  Answer ask(const std::string& key, RemoteClock::time_point until) override {
    auto said = socket_.ask(netstring(name_ + " " + key), until, parse_netstring);
    if (said)
      return parse_socketmap_answer(*said);
    socket_.close();
    return said.error();
  }
  bool is_usable() const override { return socket_.is_quiet(); }

 private:
  RemoteSocket socket_;
  const std::string name_;
};

// Whose program it is, as far as can be known: commands in its answers run as that user's would.
uid_t owner_of(const RemotePlace& place) {
  struct stat about {};
  return !place.path.empty() && look_at(place.path, about) ? about.st_uid : kNobody;
}

}  // namespace

Result<void> check_socketmap(const Spec& spec) {
  auto place = parse_remote_place(spec.path);
  return place ? Result<void>() : Result<void>(place.error());
}

// It need not run yet.
Opened open_socketmap(const Spec& spec) {
  const auto place = parse_remote_place(spec.path);
  if (!place)
    return place.error();
  using Made = Result<std::unique_ptr<RemoteConnection>>;
  RemoteRules rules;
  rules.name = spec.str();
  rules.folds_case = false;
  rules.owner = [place = *place] { return owner_of(place); };
  rules.connect = [place = *place, name = spec.detail](RemoteClock::time_point until) -> Made {
    RemoteSocket socket;
    if (auto opened = socket.open(place, until); !opened)
      return opened.error();
    return std::make_unique<SocketmapConnection>(std::move(socket), name);
  };
  return make_remote_table(std::move(rules));
}

}  // namespace postrider::tables
