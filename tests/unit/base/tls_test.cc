#include "base/file.h"
#include "base/log.h"
#include "base/net/blocking_pool.h"
#include "base/net/tls/outgoing_tls.h"
#include "base/net/tls/stream.h"
#include "base/net/tls/tls_context.h"
#include "base/net/tls/tls_records.h"
#include "tests/support/certificates.h"
#include "tests/unit/base/temporary_folder.h"

#include <boost/asio/post.hpp>
#include <catch2/catch.hpp>

#include <functional>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

namespace postrider {
namespace {

using namespace std::chrono_literals;
using test::CertificateWish;
using test::make_certificate;
using Verify = TlsClientOptions::Verify;

const SystemClock kClock;

std::shared_ptr<const TlsIdentity> identity(const test::Pem& pem) {
  return TlsIdentity::parse(pem.certificate, pem.key).value();
}

std::shared_ptr<const TlsIdentity> identity(const CertificateWish& wish) {
  return identity(make_certificate(wish));
}

const std::shared_ptr<const TlsIdentity>& usual() {
  static const auto made = identity(CertificateWish{});
  return made;
}

std::shared_ptr<const TlsContext> server_with(TlsServerSettings settings) {
  if (settings.identities.empty())
    settings.identities = {usual()};
  return TlsContext::server(settings).value();
}

std::shared_ptr<const TlsContext> client_with(const TlsClientSettings& settings = {}) {
  return TlsContext::client(settings).value();
}

void connect_over_tcp(int (&ends)[2]) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  auto* const any = reinterpret_cast<sockaddr*>(&address);
  const FileDescriptor listener(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  REQUIRE(::bind(listener.get(), any, size) == 0);
  REQUIRE(::listen(listener.get(), 1) == 0);
  REQUIRE(::getsockname(listener.get(), any, &size) == 0);
  ends[0] = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  REQUIRE(::connect(ends[0], any, size) == 0);
  ends[1] = ::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC);
  REQUIRE(ends[1] >= 0);
}

// Two ends on one loop, and the coroutines that move them.
struct Wire {
  explicit Wire(int family = AF_UNIX) {
    int ends[2] = {-1, -1};
    if (family == AF_UNIX)
      REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
    else
      connect_over_tcp(ends);
    const asio::generic::stream_protocol protocol(family, 0);
    client = std::make_unique<Stream>(loop, Socket(loop.context(), protocol, ends[0]));
    server = std::make_unique<Stream>(loop, Socket(loop.context(), protocol, ends[1]));
  }

  void run(std::initializer_list<std::function<Task<void>()>> tasks) {
    NullLog log;
    for (const auto& task : tasks)
      loop.spawn(task(), log, "test");
    const auto limit = std::chrono::steady_clock::now() + 120s;
    while (loop.children() > 0 && std::chrono::steady_clock::now() < limit)
      loop.context().run_one_for(1s);
    REQUIRE(loop.children() == 0);
  }

  bool shake_hands(std::shared_ptr<const TlsContext> with_server,
                   std::shared_ptr<const TlsContext> with_client,
                   const TlsClientOptions& options = {}) {
    run({[&]() -> Task<void> {
           server_result = co_await server->start_tls_server(with_server, "");
           // With TLS 1.3 the client learns of a refusal, and of its ticket, after the handshake.
           if (server_result)
             server->write_now("!");
           else
             server->close();
         },
         [&]() -> Task<void> {
           client_result = co_await client->start_tls_client(with_client, options);
           if (!client_result) {
             client->close();
             co_return;
           }
           char room[1];
           auto got = co_await client->read_some(room, 1);
           if (!got)
             client_result = got.error();
         }});
    return server_result.has_value() && client_result.has_value();
  }

  Loop loop{0};
  std::unique_ptr<Stream> client, server;
  Result<void> server_result = Error(Errc::stopped, "not run");
  Result<void> client_result = Error(Errc::stopped, "not run");
};

Task<void> read_all(Stream& stream, std::string& into, Error& end) {
  char room[50000];
  for (;;) {
    auto got = co_await stream.read_some(room, sizeof room);
    if (!got) {
      end = got.error();
      co_return;
    }
    into.append(room, *got);
  }
}

Task<void> write_parts(Stream& stream, std::vector<std::string_view> parts, Result<void>& result) {
  result = co_await stream.write(parts.data(), parts.size());
  stream.shut_down_sending();
}

TEST_CASE("under TLS what is written is read, in order and however large", "[base][tls]") {
  BlockingPool workers(2);
  TlsServerSettings settings;
  settings.workers = GENERATE(true, false) ? &workers : nullptr;
  Wire wire;
  REQUIRE(wire.shake_hands(server_with(settings), client_with()));
  std::string large;
  while (large.size() < (8U << 20U))
    large.append(std::to_string(large.size())).append(" ");
  const std::string block(20000, 'b');
  Result<void> written = Error(Errc::stopped, "not run");
  std::string read;
  Error end;
  wire.run(
      {[&] {
         return write_parts(*wire.client, {"", "first ", block, "", large, " last", ""}, written);
       },
       [&] { return read_all(*wire.server, read, end); }});
  CHECK(written.has_value());
  CHECK((read == "first " + block + large + " last"));
  CHECK(end.code() == asio::error::eof);
}

TEST_CASE("after the handshake both ends know what was agreed", "[base][tls]") {
  Wire wire;
  TlsClientOptions options;
  options.server_name = "mx.test";
  TlsClientSettings client;
  client.alpn = "smtp";
  REQUIRE(wire.shake_hands(server_with({}), client_with(client), options));
  for (const auto* facts : {wire.client->tls(), wire.server->tls()}) {
    REQUIRE(facts != nullptr);
    CHECK(facts->protocol == "TLSv1.3");
    CHECK(facts->cipher == "TLS_AES_256_GCM_SHA384");
    CHECK(facts->bits == 256);
    CHECK(facts->group == "x25519");
    CHECK(facts->alpn == "smtp");
    CHECK(facts->sni == "mx.test");
    CHECK(!facts->resumed);
  }
  CHECK(wire.client->tls()->peer == TlsFacts::Peer::unverified);
  CHECK(wire.client->tls()->verify_reason == "self-signed certificate");
  CHECK(wire.client->tls()->peer_subject == "mx.test");
  CHECK(wire.client->tls()->fingerprint == usual()->fingerprint());
  CHECK(wire.server->tls()->peer == TlsFacts::Peer::no_certificate);
  CHECK(wire.server->tls()->fingerprint.empty());
}

TEST_CASE("both ends derive the same channel bindings, and other ones each time", "[base][tls]") {
  Wire one;
  Wire other;
  REQUIRE(one.shake_hands(server_with({}), client_with()));
  REQUIRE(other.shake_hands(server_with({}), client_with()));
  const auto exporter = one.client->channel_binding(ChannelBinding::exporter).value();
  CHECK(exporter.size() == 32);
  CHECK(exporter == one.server->channel_binding(ChannelBinding::exporter).value());
  CHECK(exporter != other.server->channel_binding(ChannelBinding::exporter).value());
  const auto end_point = one.client->channel_binding(ChannelBinding::server_end_point).value();
  CHECK(end_point.size() == 32);
  CHECK(end_point == one.server->channel_binding(ChannelBinding::server_end_point).value());
  CHECK(end_point == other.server->channel_binding(ChannelBinding::server_end_point).value());
  CHECK(one.client->channel_binding(ChannelBinding::unique).error().code() == Errc::unsupported);
  CHECK(Wire().client->channel_binding(ChannelBinding::exporter).error().code() ==
        Errc::unsupported);
}

TEST_CASE("a peer that hangs up without close_notify has cut the stream off", "[base][tls]") {
  Wire wire;
  REQUIRE(wire.shake_hands(server_with({}), client_with()));
  std::string read;
  Error end;
  SECTION("T14: the end is said") {
    wire.client->write_now("all");
    wire.client->close();
    wire.run({[&] { return read_all(*wire.server, read, end); }});
    CHECK(end.code() == asio::error::eof);
  }
  SECTION("T15: it is not") {
    wire.client->write_now("all");
    ::shutdown(wire.client->socket().native_handle(), SHUT_WR);
    wire.run({[&] { return read_all(*wire.server, read, end); }});
    CHECK(end.code() == Errc::truncated);
  }
  CHECK(read == "all");
}

// Over TCP: a Unix socket that is closed is shut down for who has it besides.
TEST_CASE("T14: clear text after close_notify is not read", "[base][tls]") {
  Wire wire(AF_INET);
  REQUIRE(wire.shake_hands(server_with({}), client_with()));
  wire.client->write_now("DATA");
  const int socket = wire.client->socket().native_handle();
  // close_notify, but the socket stays open for more.
  const int copy = ::dup(socket);
  wire.client->close();
  REQUIRE(::send(copy, "QUIT\r\n", 6, MSG_NOSIGNAL) == 6);
  std::string read;
  Error end;
  wire.run({[&] { return read_all(*wire.server, read, end); }});
  CHECK(read == "DATA");
  CHECK(end.code() == asio::error::eof);
  ::close(copy);
}

TEST_CASE("deadlines and close() end waits under TLS", "[base][tls]") {
  Wire wire;
  REQUIRE(wire.shake_hands(server_with({}), client_with()));
  std::string read;
  Error end;
  SECTION("a read that waits too long") {
    wire.server->set_deadline(150ms);
    wire.run({[&] { return read_all(*wire.server, read, end); }});
    CHECK(end.code() == asio::error::timed_out);
    CHECK(wire.server->write_now("421 bye\r\n") == 9);
  }
  SECTION("P12: a write to a peer that does not read") {
    const std::string much(16U << 20U, 'x');
    Result<void> written;
    wire.server->set_deadline(150ms);
    wire.run({[&] { return write_parts(*wire.server, {much}, written); }});
    CHECK(written.error().code() == asio::error::timed_out);
  }
  SECTION("closing") {
    wire.run({[&] { return read_all(*wire.server, read, end); },
              [&]() -> Task<void> {
                wire.server->close();
                co_return;
              }});
    CHECK(end.code() == asio::error::operation_aborted);
    CHECK(!wire.server->is_open());
  }
}

TEST_CASE("a stream can be waited for without a buffer under TLS", "[base][tls]") {
  Wire wire;
  REQUIRE(wire.shake_hands(server_with({}), client_with()));
  std::string read;
  wire.run({[&]() -> Task<void> {
              char room[16];
              CHECK(wire.server->read_now(room, sizeof room).error().code() ==
                    asio::error::would_block);
              if (!(co_await wire.server->wait_readable()))
                co_return;
              // A second wait does not lose what the first one found.
              if (!(co_await wire.server->wait_readable()))
                co_return;
              auto got = wire.server->read_now(room, sizeof room);
              if (got)
                read.assign(room, *got);
            },
            [&]() -> Task<void> {
              wire.client->write_now("bytes");
              co_return;
            }});
  CHECK(read == "bytes");
}

TEST_CASE("T12: a handshake that does not go on ends with the deadline", "[base][tls]") {
  Wire wire;
  wire.server->set_deadline(200ms);
  ::send(wire.client->socket().native_handle(), "\x16\x03\x01\x02", 4, MSG_NOSIGNAL);
  wire.run({[&]() -> Task<void> {
    wire.server_result = co_await wire.server->start_tls_server(server_with({}), "");
  }});
  CHECK(wire.server_result.error().code() == asio::error::timed_out);
}

TEST_CASE("T01, T03: clear text in place of a handshake is not a handshake", "[base][tls]") {
  Wire wire;
  ::send(wire.client->socket().native_handle(), "EHLO injected\r\n", 15, MSG_NOSIGNAL);
  wire.run({[&]() -> Task<void> {
    wire.server_result = co_await wire.server->start_tls_server(server_with({}), "");
  }});
  CHECK(wire.server_result.error().code() == Errc::tls);
}

TEST_CASE("a handshake may begin with what was read before", "[base][tls]") {
  Wire wire;
  TlsClientOptions options;
  wire.run({[&]() -> Task<void> {
              std::string begin(100, 0);
              auto got = co_await wire.server->read_some(begin.data(), begin.size());
              begin.resize(got.value());
              wire.server_result = co_await wire.server->start_tls_server(server_with({}), begin);
            },
            [&]() -> Task<void> {
              wire.client_result = co_await wire.client->start_tls_client(client_with(), options);
            }});
  CHECK(wire.server_result.has_value());
  CHECK(wire.client_result.has_value());
}

// What of a record has come, and nothing for the rest.
TEST_CASE("X01: a record of which the end is missing costs what has come of it", "[base][tls]") {
  int ends[2] = {-1, -1};
  REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) == 0);
  const FileDescriptor ours(ends[0]);
  const FileDescriptor theirs(ends[1]);
  const auto send = [&](std::string_view bytes) {
    REQUIRE(::send(theirs.get(), bytes.data(), bytes.size(), 0) ==
            static_cast<ssize_t>(bytes.size()));
  };
  char room[20'000];
  const auto read = [&](TlsRecords& records) {
    const auto got = records.read(ours.get(), room, sizeof room);
    return got < 0 ? std::string("nothing") : std::string(room, static_cast<std::size_t>(got));
  };
  const auto record = [](std::size_t size) {
    return std::string("\x17\x03\x03", 3) + static_cast<char>(size >> 8U) +
           static_cast<char>(size & 0xffU) + std::string(size, 'x');
  };
  const auto small = record(10), large = record(16'384);

  SECTION("octet by octet") {
    TlsRecords records;
    std::string got;
    for (const auto& all = small + large.substr(0, 2'000); const char octet : all) {
      send({&octet, 1});
      const auto more = read(records);
      if (more != "nothing")
        got += more;
      CHECK(records.octets() < 4'100);
    }
    CHECK(got == small);
    send(large.substr(2'000));
    CHECK(read(records) == large);
    CHECK(records.octets() == 0);
  }
  SECTION("all but the end") {
    TlsRecords records;
    send(large.substr(0, large.size() - 1));
    CHECK(read(records) == "nothing");
    CHECK(records.octets() >= 16'384);
    CHECK(records.octets() <= 16'400);
    send(large.substr(large.size() - 1) + small + small.substr(0, 6));
    CHECK(read(records) == large);
    CHECK(read(records) == small);
    CHECK(records.octets() < 100);
    CHECK(read(records) == "nothing");
    ::shutdown(theirs.get(), SHUT_WR);
    CHECK(read(records).empty());
  }
  SECTION("with octets that were read before, into too little room") {
    TlsRecords records(small + large.substr(0, 100));
    CHECK(records.read(ours.get(), room, 7) == 7);
    CHECK(read(records) == small.substr(7));
    send(large.substr(100));
    CHECK(records.collect(ours.get()) > 0);
    CHECK(read(records) == large);
  }
  SECTION("a first one in the form of SSL 2") {
    TlsRecords records;
    const std::string old = std::string("\x80\x2e\x01\x03\x01", 5) + std::string(43, 'x');
    send(old.substr(0, 40));
    CHECK(read(records) == "nothing");
    send(old.substr(40) + small.substr(0, 5));
    CHECK(read(records) == old);
    CHECK(read(records) == "nothing");
    send(small.substr(5));
    CHECK(read(records) == small);
  }
  SECTION("what is no record is passed on") {
    TlsRecords records;
    send("EHLO a");
    CHECK(read(records) == "EHLO a");
    TlsRecords others;
    send(small + record(20'000).substr(0, 9));
    CHECK(read(others) == small + record(20'000).substr(0, 9));
  }
}

TEST_CASE("X01: what is kept for the rest of a handshake or a record is told before each wait",
          "[base][tls]") {
  Wire wire;
  std::vector<std::size_t> kept;
  bool is_allowed = true;
  wire.server->watch_memory([&](std::size_t octets) {
    kept.push_back(octets);
    return is_allowed;
  });
  SECTION("all of it") {
    REQUIRE(wire.shake_hands(server_with({}), client_with()));
    REQUIRE(kept.size() >= 2);
    CHECK(kept.front() == 0);          // nothing has come
    CHECK(kept.back() >= 16U << 10U);  // the client's answer
    const auto part = std::string("\x17\x03\x03\x40\x00", 5) + std::string(100, 'x');
    ::send(wire.client->socket().native_handle(), part.data(), part.size(), MSG_NOSIGNAL);
    wire.server->set_deadline(200ms);
    wire.run({[&]() -> Task<void> { (void)co_await wire.server->wait_readable(); }});
    CHECK(kept.back() >= part.size());
    CHECK(kept.back() < 2 * part.size());
  }
  SECTION("nothing") {
    is_allowed = false;
    wire.run({[&]() -> Task<void> {
      wire.server_result = co_await wire.server->start_tls_server(server_with({}), "");
    }});
    CHECK(wire.server_result.error().code() == boost::system::errc::not_enough_memory);
    char room[1];
    CHECK_FALSE(wire.server->read_now(room, 1));
    CHECK(wire.server->write_now("x") == 0);
  }
}

TEST_CASE("a peer that hangs up during the handshake is the end", "[base][tls]") {
  Wire wire;
  wire.client->close();
  wire.run({[&]() -> Task<void> {
    wire.server_result = co_await wire.server->start_tls_server(server_with({}), "");
  }});
  CHECK(wire.server_result.error().code() == asio::error::eof);
}

TEST_CASE("a stream can be closed while a worker shakes hands for it", "[base][tls]") {
  BlockingPool workers(1);
  TlsServerSettings settings;
  settings.workers = &workers;
  Wire wire;
  wire.run({[&]() -> Task<void> {
              wire.server_result =
                  co_await wire.server->start_tls_server(server_with(settings), "");
            },
            [&]() -> Task<void> {
              wire.server->close();
              CHECK(!wire.server->is_open());
              co_return;
            }});
  CHECK(wire.server_result.error().code() == asio::error::operation_aborted);
  CHECK(!wire.server->socket().is_open());
}

TEST_CASE("SNI chooses the certificate, for each kind of key", "[base][tls]") {
  TlsServerSettings settings;
  const auto make = [](const char* type, std::vector<std::string> names) {
    CertificateWish wish;
    wish.key_type = type;
    wish.names = std::move(names);
    return identity(wish);
  };
  settings.identities = {make("EC", {"mx.test"}), make("RSA", {"mx.test"}),
                         make("EC", {"other.test", "*.wild.test"}), make("EC", {"a.wild.test"})};
  const auto server = server_with(settings);
  struct Case {
    std::string asked;
    std::size_t shown;
  };
  const Case cases[] = {{"", 0},           {"mx.test", 0},      {"MX.Test", 0},
                        {"other.test", 2}, {"b.wild.test", 2},  {"a.wild.test", 2},
                        {"wild.test", 0},  {"unknown.test", 0}, {"x.b.wild.test", 0}};
  for (const auto& c : cases) {
    DYNAMIC_SECTION("asked for '" << c.asked << "'") {
      Wire wire;
      TlsClientOptions options;
      options.server_name = c.asked;
      REQUIRE(wire.shake_hands(server, client_with(), options));
      CHECK(wire.client->tls()->fingerprint == settings.identities[c.shown]->fingerprint());
    }
  }
}

TEST_CASE("T16: a ticket is good for its listener and its name only", "[base][tls]") {
  TlsServerSettings settings;
  settings.identities = {usual()};
  settings.name = "0.0.0.0:25";
  settings.tickets = std::make_shared<TlsTicketKeys>(kClock);
  const auto server = server_with(settings);
  TlsClientOptions options;
  options.server_name = "mx.test";
  Wire first;
  REQUIRE(first.shake_hands(server, client_with(), options));
  options.session = first.client->tls_session();
  REQUIRE(options.session);
  Wire second;
  SECTION("the same again, after a reload") {
    REQUIRE(second.shake_hands(server_with(settings), client_with(), options));
    CHECK(second.client->tls()->resumed);
    CHECK(second.server->tls()->resumed);
  }
  SECTION("another listener, even with the same keys") {
    settings.name = "0.0.0.0:465";
    REQUIRE(second.shake_hands(server_with(settings), client_with(), options));
    CHECK(!second.server->tls()->resumed);
  }
  SECTION("another name") {
    options.server_name = "other.test";
    REQUIRE(second.shake_hands(server, client_with(), options));
    CHECK(!second.server->tls()->resumed);
  }
  SECTION("other keys") {
    settings.tickets = std::make_shared<TlsTicketKeys>(kClock);
    REQUIRE(second.shake_hands(server_with(settings), client_with(), options));
    CHECK(!second.server->tls()->resumed);
  }
  SECTION("no tickets") {
    settings.tickets = nullptr;
    REQUIRE(second.shake_hands(server_with(settings), client_with(), options));
    CHECK(!second.server->tls()->resumed);
    CHECK(!second.client->tls_session());
  }
}

struct SetClock final : Clock {
  TimePoint now() const override { return {}; }
  SteadyTime steady() const override { return time; }
  SteadyTime time = std::chrono::steady_clock::now();
};

TEST_CASE("ticket keys change and are forgotten", "[base][tls]") {
  SetClock clock;
  TlsTicketKeys keys(clock, 1h);
  const auto first = keys.current().value();
  clock.time += 59min;
  CHECK(keys.current()->name == first.name);
  clock.time += 1min;
  CHECK(keys.current()->name != first.name);
  CHECK(!keys.find(first.name.data())->is_current);
  clock.time += 1h;
  CHECK(!keys.find(first.name.data()));
}

TEST_CASE("a session outlives one change of the ticket keys and gets a ticket under the new ones",
          "[base][tls]") {
  SetClock clock;
  TlsServerSettings settings;
  settings.identities = {usual()};
  settings.name = "0.0.0.0:25";
  settings.tickets = std::make_shared<TlsTicketKeys>(clock, 1h);
  const auto server = server_with(settings);
  TlsClientOptions options;
  const auto is_resumed = [&] {
    Wire wire;
    REQUIRE(wire.shake_hands(server, client_with(), options));
    options.session = wire.client->tls_session();
    REQUIRE(options.session);
    return wire.server->tls()->resumed;
  };
  CHECK_FALSE(is_resumed());
  const auto kept = options.session;
  for (int hours = 0; hours < 3; ++hours) {
    clock.time += 1h;
    CHECK(is_resumed());  // by the ticket of an hour ago, which is sealed with the keys before
  }
  options.session = kept;
  CHECK_FALSE(is_resumed());  // three hours old: nobody has those keys any more
}

TEST_CASE("a client that verifies takes only what it asked for", "[base][tls]") {
  CertificateWish root_wish;
  root_wish.names = {"root"};
  root_wish.is_authority = true;
  const auto root = make_certificate(root_wish);
  const auto issued = [&](std::chrono::hours ends) {
    CertificateWish wish;
    wish.issuer = &root;
    wish.begins = -2h;
    wish.ends = ends;
    return identity(wish);
  };
  const TemporaryFolder folder;
  const auto file = folder.path() + "/root.pem";
  REQUIRE(replace_file(file, root.certificate, 0600));
  TlsClientSettings trusting;
  const auto pipe = file + ".pipe";
  REQUIRE(::mkfifo(pipe.c_str(), 0600) == 0);
  trusting.roots = pipe;
  CHECK_FALSE(TlsContext::client(trusting));  // and nobody waits for it
  trusting.roots = file;
  struct Case {
    std::string name;
    std::shared_ptr<const TlsIdentity> shown;
    std::string asked;
    std::string reason;
  };
  const Case cases[] = {
      {"a trusted chain and the name", issued(24h), "mx.test", ""},
      {"another name", issued(24h), "other.test", "hostname mismatch"},
      {"expired", issued(-1h), "mx.test", "certificate has expired"},
      {"self-signed", usual(), "mx.test", "self-signed certificate"},
  };
  for (const auto& c : cases) {
    for (const auto verify : {Verify::pkix, Verify::none}) {
      DYNAMIC_SECTION(c.name << (verify == Verify::none ? ", not enforced" : "")) {
        TlsServerSettings settings;
        settings.identities = {c.shown};
        TlsClientOptions options;
        options.verify = verify;
        options.server_name = c.asked;
        options.names = {c.asked};
        Wire wire;
        const bool connected =
            wire.shake_hands(server_with(settings), client_with(trusting), options);
        CHECK(connected == (c.reason.empty() || verify == Verify::none));
        if (!connected)
          CHECK(wire.client_result.error().code() == Errc::untrusted);
        const auto& facts = *wire.client->tls();
        CHECK((facts.peer == TlsFacts::Peer::verified) == c.reason.empty());
        CHECK(facts.verify_reason == c.reason);
      }
    }
  }
}

TEST_CASE("a key too small to prove anything is taken by a lenient client alone", "[base][tls]") {
  CertificateWish root_wish;
  root_wish.names = {"root"};
  root_wish.is_authority = true;
  const auto root = make_certificate(root_wish);
  const TemporaryFolder folder;
  const auto file = folder.path() + "/root.pem";
  REQUIRE(replace_file(file, root.certificate, 0600));
  const bool is_lenient = GENERATE(true, false);
  const std::string key = GENERATE("RSA", "RSA-1024");
  INFO(key << (is_lenient ? ", lenient" : ", strict"));
  CertificateWish wish;
  wish.issuer = &root;
  wish.key_type = key;
  TlsServerSettings server;
  server.identities = {identity(wish)};
  server.lowest = TlsVersion::tls1_0;  // or it would not show such a key
  TlsClientSettings settings;
  settings.roots = file;
  settings.lenient = is_lenient;
  TlsClientOptions options;
  options.verify = Verify::pkix;
  options.server_name = "mx.test";
  options.names = {"mx.test"};
  Wire wire;
  CHECK(wire.shake_hands(server_with(server), client_with(settings), options) ==
        (is_lenient || key == "RSA"));
}

TEST_CASE("a client that verifies by DANE takes what a record names", "[base][tls]") {
  const auto digest = [](const std::string& hex) {
    std::string bytes;
    for (std::size_t i = 0; i < hex.size(); i += 2)
      bytes.push_back(static_cast<char>(std::stoi(hex.substr(i, 2), nullptr, 16)));
    return bytes;
  };
  TlsClientOptions options;
  options.verify = Verify::dane;
  options.server_name = "mx.example";  // not in the certificate: DANE-EE does not ask
  options.tlsa = {{3, 0, 1, digest(usual()->fingerprint())}};
  Wire wire;
  SECTION("E01, E08: the record fits") {
    REQUIRE(wire.shake_hands(server_with({}), client_with(), options));
    CHECK(wire.client->tls()->peer == TlsFacts::Peer::verified);
    CHECK(wire.client->tls()->dane_usage == 3);
  }
  SECTION("E02: it does not") {
    options.tlsa[0].data[0] ^= 1;
    CHECK(!wire.shake_hands(server_with({}), client_with(), options));
    CHECK(wire.client_result.error().code() == Errc::untrusted);
  }
  SECTION("E03: none is usable") {
    options.tlsa[0].usage = 1;
    CHECK(!wire.shake_hands(server_with({}), client_with(), options));
    CHECK(wire.client_result.error().code() == Errc::unsupported);
  }
}

TEST_CASE("a server that asks for a certificate knows it by its fingerprint", "[base][tls]") {
  TlsServerSettings settings;
  settings.asks_for_certificate = true;
  TlsClientSettings client;
  Wire wire;
  SECTION("shown") {
    CertificateWish wish;
    wish.names = {"sender.test"};
    client.identity = identity(wish);
    REQUIRE(wire.shake_hands(server_with(settings), client_with(client)));
    CHECK(wire.server->tls()->fingerprint == client.identity->fingerprint());
    CHECK(wire.server->tls()->peer_subject == "sender.test");
    CHECK(wire.server->tls()->peer == TlsFacts::Peer::unverified);
  }
  SECTION("not shown") {
    REQUIRE(wire.shake_hands(server_with(settings), client_with(client)));
    CHECK(wire.server->tls()->peer == TlsFacts::Peer::no_certificate);
  }
}

TEST_CASE("T18: a client's certificates are told for as long as their session lasts",
          "[base][tls]") {
  TlsServerSettings settings;
  settings.asks_for_certificate = true;
  CertificateWish wish;
  TlsClientSettings client;
  Wire wire;
  std::size_t kept = 0;
  wire.server->watch_memory([&](std::size_t octets) {
    kept = octets;
    return true;
  });
  const auto kept_while_idle = [&] {
    wire.server->set_deadline(50ms);
    wire.run({[&]() -> Task<void> { (void)co_await wire.server->wait_readable(); }});
    return kept;
  };
  SECTION("one of few parts") {
    client.identity = identity(wish);
    REQUIRE(wire.shake_hands(server_with(settings), client_with(client)));
    CHECK(kept_while_idle() > 2'000);
    CHECK(kept_while_idle() < 20'000);
  }
  SECTION("one of very many small parts") {  // half a megabyte, as OpenSSL has it
    wish.names.assign(4'500, "a");
    client.identity = identity(wish);
    REQUIRE(wire.shake_hands(server_with(settings), client_with(client)));
    CHECK(kept_while_idle() > 500'000);
    CHECK(kept_while_idle() < 1'000'000);
  }
  SECTION("none") {
    REQUIRE(wire.shake_hands(server_with(settings), client_with()));
    CHECK(kept_while_idle() == 0);
  }
  SECTION("a long one is refused") {
    wish.names.assign(6'000, "a");
    client.identity = identity(wish);
    CHECK_FALSE(wire.shake_hands(server_with(settings), client_with(client)));
  }
}

TEST_CASE("T18: a server's certificate that is very long is not kept to resume a session",
          "[base][tls]") {
  TlsServerSettings settings;
  settings.tickets = std::make_shared<TlsTicketKeys>(kClock, 1h);
  CertificateWish wish;
  const auto is_kept = [&] {
    settings.identities = {identity(wish)};
    Wire wire;
    REQUIRE(wire.shake_hands(server_with(settings), client_with()));
    return static_cast<bool>(wire.client->tls_session());
  };
  CHECK(is_kept());
  wish.names.assign(4'000, "a");
  CHECK_FALSE(is_kept());
}

// Two connections of one client, whose books have room for one handshake and a half.
struct TwoOutgoing {
  explicit TwoOutgoing(const CertificateWish& wish = {}, std::size_t budget = kHandshake * 3 / 2)
      : books(std::make_shared<OutgoingTls>(budget)) {
    TlsClientSettings settings;
    settings.memory = books;
    client = client_with(settings);
    TlsServerSettings server_settings;
    server_settings.identities = {identity(wish)};
    server = server_with(server_settings);
  }
  static constexpr std::size_t kHandshake = OutgoingTls::kOfHandshake;

  std::shared_ptr<OutgoingTls> books;
  std::shared_ptr<const TlsContext> client, server;
};

TEST_CASE("T18: TLS with other servers has a sum, and who finds no room waits for its turn",
          "[base][tls]") {
  TwoOutgoing two;
  Wire wire;
  auto holder = std::make_unique<OutgoingTls::Share>(two.books);
  REQUIRE(holder->begin([] {}));
  std::string order;
  const auto server = [&]() -> Task<void> {
    wire.server_result = co_await wire.server->start_tls_server(two.server, "");
  };
  const auto client = [&]() -> Task<void> {
    wire.client->set_deadline(10s);
    wire.client_result = co_await wire.client->start_tls_client(two.client, {});
    order += "done";
  };
  SECTION("its turn comes when another has ended") {
    const auto end_of_other = [&]() -> Task<void> {
      while (two.books->waiting() == 0)
        co_await asio::post(wire.loop.executor(), use_task);
      order += "ended ";
      holder.reset();
    };
    wire.run({server, client, end_of_other});
    CHECK(order == "ended done");
    CHECK(wire.client_result);
    CHECK(two.books->held() > OutgoingTls::kOfSession);
    CHECK(two.books->held() < TwoOutgoing::kHandshake);
    wire.client.reset();
    CHECK(two.books->held() == 0);
  }
  SECTION("it is closed meanwhile") {
    const auto close = [&]() -> Task<void> {
      while (two.books->waiting() == 0)
        co_await asio::post(wire.loop.executor(), use_task);
      wire.client->close();
      wire.server->close();
    };
    wire.run({server, client, close});
    CHECK(wire.client_result.error().code() == asio::error::operation_aborted);
    wire.client.reset();
    CHECK(two.books->waiting() == 0);
    CHECK(two.books->held() == TwoOutgoing::kHandshake);
  }
  SECTION("others want the connection") {
    const auto hurry = [&]() -> Task<void> {
      while (two.books->waiting() == 0)
        co_await asio::post(wire.loop.executor(), use_task);
      wire.client->set_deadline(1ms);
    };
    wire.run({client, hurry});
    CHECK(wire.client_result.error().code() == boost::system::errc::not_enough_memory);
  }
}

TEST_CASE("T18: certificates of another server are taken as far as there is room for large ones",
          "[base][tls]") {
  CertificateWish wish;
  wish.names.assign(4'500, "a");  // half a megabyte in memory
  const auto result_with = [&](std::size_t budget) {
    TwoOutgoing two(wish, budget);
    Wire wire;
    wire.shake_hands(two.server, two.client);
    return wire.client_result;
  };
  CHECK(result_with(8U << 20U));
  const auto refused = result_with(1U << 20U);
  REQUIRE_FALSE(refused);
  CHECK(refused.error().code() == boost::system::errc::not_enough_memory);
}

TEST_CASE("T18: a process has one sum for all clients", "[base][tls]") {
  CHECK(client_with()->memory() == client_with()->memory());
  CHECK(client_with()->memory() == OutgoingTls::of_process());
}

TEST_CASE("another protocol than smtp is refused in ALPN", "[base][tls]") {
  TlsClientSettings client;
  client.alpn = "h2";
  Wire wire;
  CHECK(!wire.shake_hands(server_with({}), client_with(client)));
  CHECK(wire.client_result.error().code() == Errc::tls);
}

TEST_CASE("an identity says what is wrong with its files", "[base][tls]") {
  const auto pem = make_certificate({});
  const auto other = make_certificate({});
  struct Case {
    std::string name, certificate, key, wrong;
  };
  const Case cases[] = {
      {"no certificate", pem.key, pem.key, "no certificate in PEM form: malformed"},
      {"no key", pem.certificate, pem.certificate, "no private key in PEM form: malformed"},
      {"another key", pem.certificate, other.key,
       "the key is not that of the certificate: refused"},
      {"half a certificate", pem.certificate.substr(0, 200), pem.key,
       "certificate 1 is damaged: malformed"},
      {"empty", "", "", "no certificate in PEM form: malformed"},
  };
  for (const auto& c : cases) {
    DYNAMIC_SECTION(c.name) {
      const auto made = TlsIdentity::parse(c.certificate, c.key);
      REQUIRE(!made);
      CHECK(made.error().describe() == c.wrong);
    }
  }
  const auto absent = TlsIdentity::load("/nowhere/cert.pem", "/nowhere/key.pem");
  REQUIRE(!absent);
  CHECK(absent.error().describe().starts_with("/nowhere/cert.pem: "));
}

}  // namespace
}  // namespace postrider
