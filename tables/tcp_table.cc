// Another program, asked by Postfix's protocol tcp_table(5).
#include "tables/remote_table.h"
#include "tables/tcp_reply.h"

namespace postrider::tables {

namespace {

class TcpConnection : public RemoteConnection {
 public:
  explicit TcpConnection(RemoteSocket socket) : socket_(std::move(socket)) {}

  Answer ask(const std::string& key, RemoteClock::time_point until) override {
    auto said = socket_.ask(tcp_request(key), until, take_tcp_reply);
    auto answer = said ? parse_tcp_reply(*said) : Answer(said.error());
    // Who says nonsense may be out of step: another question could get the answer to this one.
    if (!answer && answer.error().code() != make_error_code(Errc::storage))
      socket_.close();
    return answer;
  }
  bool is_usable() const override { return socket_.is_quiet(); }

 private:
  RemoteSocket socket_;
};

}  // namespace

Result<void> check_tcp(const Spec& spec) {
  auto place = parse_remote_place("inet:" + spec.path);
  return place ? Result<void>() : Result<void>(place.error());
}

// It need not run yet.
Opened open_tcp(const Spec& spec) {
  const auto place = parse_remote_place("inet:" + spec.path);
  if (!place)
    return place.error();
  using Made = Result<std::unique_ptr<RemoteConnection>>;
  RemoteRules rules;
  rules.name = spec.str();
  rules.connect = [place = *place](RemoteClock::time_point until) -> Made {
    RemoteSocket socket;
    if (auto opened = socket.open(place, until); !opened)
      return opened.error();
    return std::make_unique<TcpConnection>(std::move(socket));
  };
  return make_remote_table(std::move(rules));
}

}  // namespace postrider::tables
