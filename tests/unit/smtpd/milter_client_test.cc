// The connection to a milter: with one that is scripted here, frame by frame, and with a real one.
#include "smtpd/filter/milter_client.h"

#include "base/log.h"
#include "base/net/signal.h"
#include "base/text.h"
#include "smtpd/filter/milter_edits.h"
#include "tests/unit/base/temporary_folder.h"

#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <catch2/catch.hpp>

#include <csignal>
#include <fstream>
#include <functional>
#include <spawn.h>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

using namespace postrider;
using namespace postrider::smtpd::filter;
using namespace std::chrono_literals;
using namespace std::string_literals;
using Kind = Verdict::Kind;

namespace {

using Acceptor = asio::basic_socket_acceptor<asio::generic::stream_protocol, Executor>;

// A milter that says what it is told to.
class Peer {
 public:
  explicit Peer(Loop& loop) : loop_(loop), acceptor_(loop.context()) {
    const asio::local::stream_protocol::endpoint here(path());
    acceptor_.open(asio::generic::stream_protocol(AF_UNIX, 0));
    acceptor_.bind(asio::generic::stream_protocol::endpoint(here));
    acceptor_.listen();
  }
  std::string path() const { return folder_ / "milter.sock"; }
  milter::Address address() const { return *milter::Address::parse(path()); }

  // The next connection, with its negotiation.
  Task<void> accept(std::uint32_t steps = 0) {
    Socket socket(loop_.context());
    co_await acceptor_.async_accept(socket, use_task);
    stream_ = std::make_unique<Stream>(loop_, std::move(socket));
    reader_ = milter::FrameReader();
    received_.clear();
    CHECK((co_await next()).kind == 'O');
    milter::Negotiation answer;
    answer.steps = steps;
    co_await say(milter::encode_negotiation(answer));
  }
  // The next frame that is no macros; kind 0 at the end.
  Task<milter::Frame> next() {
    char room[4096];
    for (;;) {
      std::size_t used = 0;
      auto frame = reader_.feed(received_, used);
      received_.erase(0, used);
      if (frame.has_value() && *frame && (**frame).kind != 'D')
        co_return **frame;
      if (frame.has_value() && *frame)
        continue;
      const auto got = co_await stream_->read_some(room, sizeof room);
      if (!got)
        co_return milter::Frame{};
      received_.append(room, *got);
    }
  }
  Task<void> say(std::string bytes) { (void)co_await stream_->write(bytes); }
  // Frames of these kinds come, and each but A and Q is answered with `c`.
  Task<void> go_on(std::string kinds) {
    for (const char kind : kinds) {
      CHECK((co_await next()).kind == kind);
      if (kind != 'A' && kind != 'Q')
        co_await say(milter::encode_frame('c', {}));
    }
  }
  void hang_up() { stream_.reset(); }

 private:
  TemporaryFolder folder_;
  Loop& loop_;
  Acceptor acceptor_;
  std::unique_ptr<Stream> stream_;
  milter::FrameReader reader_;
  std::string received_;
};

void run(Loop& loop, std::initializer_list<std::function<Task<void>()>> tasks) {
  NullLog log;
  for (const auto& task : tasks)
    loop.spawn(task(), log, "test");
  const auto limit = std::chrono::steady_clock::now() + 120s;
  while (loop.children() > 0 && std::chrono::steady_clock::now() < limit)
    loop.context().run_one_for(1s);
  REQUIRE(loop.children() == 0);
}

struct Setting {
  Loop loop{0};
  SystemClock clock;
  milter::Gate gate;
  Peer peer{loop};
  milter::Timeouts timeouts;
  std::unique_ptr<milter::Client> made;

  milter::Client& client() {
    if (!made)
      made = std::make_unique<milter::Client>(loop, clock, gate, peer.address(), timeouts);
    return *made;
  }
};

Task<Verdict> go(milter::Client& client, milter::Session::Step step) {
  auto verdict = co_await client.perform(std::move(step));
  CHECK(verdict.has_value());
  co_return verdict.has_value() ? *verdict : Verdict{};
}

// From MAIL to the end of a message of two lines.
Task<Verdict> send_message(milter::Client& client) {
  auto& session = client.session();
  const milter::Macros macros = {{"i", "4F2"}};
  (void)co_await go(client, session.mail("<a@src.test>", {}, macros));
  (void)co_await go(client, session.recipient("<b@dst.test>", {}, macros));
  (void)co_await go(client, session.data(macros));
  (void)co_await go(client, session.header("From", " a@src.test"));
  (void)co_await go(client, session.header("Subject", " one"));
  (void)co_await go(client, session.end_of_header(macros));
  (void)co_await go(client, session.body("one\r\ntwo\r\n"));
  co_return co_await go(client, session.end(macros));
}

Task<void> greet(milter::Client& client, bool is_new = true) {
  const auto opened = co_await client.open();
  CHECK(opened.has_value());
  if (!opened)
    co_return;
  CHECK(*opened == is_new);
  auto& session = client.session();
  if (*opened) {
    (void)co_await go(client, session.connect("client.test", *IpAddress::parse("192.0.2.1"), 25,
                                              {{"j", "us.test"}}));
    (void)co_await go(client, session.helo("client.test", {}));
  }
}

}  // namespace

TEST_CASE("milter: addresses", "[milter]") {
  const std::pair<const char*, const char*> good[] = {
      {"127.0.0.1:8891", "127.0.0.1:8891"},
      {"[::1]:8891", "[::1]:8891"},
      {"localhost:8891", "127.0.0.1:8891"},
      {"inet:8891@127.0.0.1", "127.0.0.1:8891"},
      {"inet:8891@localhost", "127.0.0.1:8891"},
      {"inet6:8891@::1", "[::1]:8891"},
      {"inet6:8891@[::1]", "[::1]:8891"},
      {"inet:127.0.0.1:8891", "127.0.0.1:8891"},
      {"/run/filter.sock", "/run/filter.sock"},
      {"unix:/run/filter.sock", "/run/filter.sock"},
      {"local:/run/filter.sock", "/run/filter.sock"},
  };
  for (const auto& [text, shown] : good) {
    CAPTURE(text);
    const auto address = milter::Address::parse(text);
    REQUIRE(address.has_value());
    CHECK(address->str() == shown);
  }
  for (const auto& text :
       {""s, "127.0.0.1"s, "127.0.0.1:0"s, "127.0.0.1:65536"s, "127.0.0.1:x"s, "filter.test:25"s,
        "unix:run/x"s, "@"s, ":"s, "inet:"s, "unix:"s, "/"s + std::string(107, 'x')}) {
    CAPTURE(text);
    CHECK_FALSE(milter::Address::parse(text).has_value());
  }
}

TEST_CASE("milter: what happens without it", "[milter]") {
  using milter::DefaultAction;
  CHECK(milter::parse_default_action("tempfail") == DefaultAction::tempfail);
  CHECK(milter::parse_default_action("quarantine") == DefaultAction::quarantine);
  CHECK_FALSE(milter::parse_default_action("Tempfail"));
  CHECK(milter::verdict_of(DefaultAction::tempfail, "why").reply.code == 451);
  CHECK(milter::verdict_of(DefaultAction::reject, "why").reply.code == 550);
  CHECK(milter::verdict_of(DefaultAction::accept, "why").kind == Kind::done);
  CHECK(milter::verdict_of(DefaultAction::quarantine, "why").kind == Kind::done);
}

TEST_CASE("milter: connections are bounded, and who cannot be reached is given time", "[milter]") {
  milter::Gate gate({3, 1s, 4s});
  SteadyTime now{};
  for (int i = 0; i < 3; ++i)
    CHECK(gate.enter(now).has_value());
  CHECK_FALSE(gate.enter(now).has_value());
  // All three fail, and that counts once.
  for (int i = 0; i < 3; ++i) {
    gate.note(false, now);
    gate.leave();
  }
  CHECK(gate.connections() == 0);
  for (const auto wait : {1s, 2s, 4s, 4s}) {
    now += wait - 1ms;
    CHECK_FALSE(gate.enter(now).has_value());
    now += 1ms;
    REQUIRE(gate.enter(now).has_value());  // one finds out
    CHECK_FALSE(gate.enter(now).has_value());
    gate.note(false, now);
    gate.leave();
  }
  now += 4s;
  REQUIRE(gate.enter(now).has_value());
  gate.note(true, now);
  CHECK(gate.enter(now).has_value());
  // The next failure begins again.
  gate.note(false, now);
  CHECK_FALSE(gate.enter(now + 999ms).has_value());
  CHECK(gate.enter(now + 1s).has_value());
}

TEST_CASE("milter: one connection serves the messages of a session", "[milter]") {
  Setting s;
  run(s.loop,
      {[&]() -> Task<void> {
         co_await s.peer.accept();
         co_await s.peer.go_on("CHMRTLLNB");
         CHECK((co_await s.peer.next()).kind == 'E');
         co_await s.peer.say(milter::encode_frame('p', {}) +
                             milter::encode_header("X-A", "v").replace(4, 1, "h") +
                             milter::encode_string('+', "c@dst.test"));
         co_await s.peer.say(milter::encode_frame('b', "new\r\n") + milter::encode_frame('c', {}));
         co_await s.peer.go_on("AMRTLLNBEA");
         CHECK((co_await s.peer.next()).kind == 'Q');
       },
       [&]() -> Task<void> {
         auto& client = s.client();
         co_await greet(client);
         CHECK((co_await send_message(client)).kind == Kind::go_on);
         const auto edits = client.session().take_edits();
         CHECK(edits.header.size() == 1);
         CHECK(edits.envelope.size() == 1);
         CHECK(edits.body == "new\r\n");
         (void)co_await go(client, client.session().abort());
         CHECK(s.gate.connections() == 1);
         co_await greet(client, false);
         CHECK((co_await send_message(client)).kind == Kind::go_on);
         CHECK(client.session().take_edits().is_empty());
         (void)co_await go(client, client.session().abort());
         client.close();
         CHECK(s.gate.connections() == 0);
       }});
}

TEST_CASE("milter: one that was restarted hears everything again", "[milter]") {
  Setting s;
  Signal gone;
  run(s.loop, {[&]() -> Task<void> {
                 co_await s.peer.accept();
                 co_await s.peer.go_on("CHMRTLLNBE");
                 s.peer.hang_up();
                 gone.set();
                 co_await s.peer.accept();
                 co_await s.peer.go_on("CHMRTLLNBE");
               },
               [&]() -> Task<void> {
                 auto& client = s.client();
                 co_await greet(client);
                 (void)co_await send_message(client);
                 (void)co_await go(client, client.session().abort());
                 co_await gone.wait();
                 co_await greet(client, true);
                 (void)co_await send_message(client);
                 CHECK(s.gate.connections() == 1);
                 client.close();
               }});
}

TEST_CASE("milter: what need not be answered is not waited for", "[milter]") {
  Setting s;
  run(s.loop, {[&]() -> Task<void> {
                 co_await s.peer.accept(0xff080);
                 for (const char kind : "CHMRTLLNBE"s)
                   CHECK((co_await s.peer.next()).kind == kind);
                 co_await s.peer.say(milter::encode_frame('a', {}));
                 co_await s.peer.next();
               },
               [&]() -> Task<void> {
                 co_await greet(s.client());
                 CHECK((co_await send_message(s.client())).kind == Kind::go_on);
                 s.client().close();
               }});
}

TEST_CASE("milter: whatever goes wrong ends the connection", "[milter]") {
  struct Case {
    const char* what;
    std::string bytes;  // instead of the answer to MAIL
    bool hangs_up;
  };
  const Case cases[] = {
      {"it hangs up", "", true},
      {"within a frame", "\0\0\0\x09yab"s, true},
      {"a frame of nothing", "\0\0\0\0"s, false},
      {"a frame of 4 GiB", "\xff\xff\xff\xff"s + "c", false},
      {"an unknown answer", milter::encode_frame('Z', {}), false},
      {"an edit", milter::encode_string('q', "why"), false},
      {"progress without an end",
       [] {
         std::string all;
         for (int i = 0; i <= 10000; ++i)
           all += milter::encode_frame('p', {});
         return all;
       }(),
       false},
  };
  for (const auto& one : cases) {
    CAPTURE(one.what);
    Setting s;
    run(s.loop, {[&]() -> Task<void> {
                   co_await s.peer.accept();
                   co_await s.peer.go_on("CH");
                   CHECK((co_await s.peer.next()).kind == 'M');
                   co_await s.peer.say(one.bytes);
                   if (one.hangs_up)
                     s.peer.hang_up();
                   else
                     CHECK((co_await s.peer.next()).kind == 0);
                 },
                 [&]() -> Task<void> {
                   auto& client = s.client();
                   co_await greet(client);
                   auto step = client.session().mail("<a@src.test>", {}, {});
                   const auto verdict = co_await client.perform(std::move(step));
                   CHECK_FALSE(verdict.has_value());
                   CHECK_FALSE(client.is_open());
                   CHECK(s.gate.connections() == 0);
                 }});
  }
}

TEST_CASE("milter: one that speaks unasked is not believed", "[milter]") {
  Setting s;
  run(s.loop, {[&]() -> Task<void> {
                 co_await s.peer.accept();
                 co_await s.peer.go_on("C");
                 CHECK((co_await s.peer.next()).kind == 'H');
                 co_await s.peer.say(milter::encode_frame('c', {}) + milter::encode_frame('a', {}));
                 CHECK((co_await s.peer.next()).kind == 0);
               },
               [&]() -> Task<void> {
                 auto& client = s.client();
                 co_await greet(client);
                 auto step = client.session().mail("<a@src.test>", {}, {});
                 const auto verdict = co_await client.perform(std::move(step));
                 CHECK_FALSE(verdict.has_value());
               }});
}

TEST_CASE("milter: one that does not answer is not waited for longer than wanted", "[milter]") {
  Setting s;
  s.timeouts.command = 100ms;
  run(s.loop, {[&]() -> Task<void> {
                 co_await s.peer.accept();
                 CHECK((co_await s.peer.next()).kind == 'C');
                 CHECK((co_await s.peer.next()).kind == 0);
               },
               [&]() -> Task<void> {
                 auto& client = s.client();
                 const auto opened = co_await client.open();
                 // On a machine under load the negotiation may have taken as long.
                 if (!opened)
                   co_return;
                 auto step = client.session().connect("c", {}, 0, {});
                 const auto verdict = co_await client.perform(std::move(step));
                 REQUIRE_FALSE(verdict.has_value());
                 CHECK(verdict.error().code() == asio::error::timed_out);
                 CHECK(s.gate.connections() == 0);
               }});
}

TEST_CASE("milter: one that cannot be reached costs a moment, and the next ones nothing",
          "[milter]") {
  Loop loop(0);
  SystemClock clock;
  milter::Gate gate({10, 1h, 1h});
  const TemporaryFolder folder;
  milter::Client client(loop, clock, gate, *milter::Address::parse(folder / "none"), {});
  milter::Client other(loop, clock, gate, *milter::Address::parse(folder / "none"), {});
  run(loop, {[&]() -> Task<void> {
        const auto first = co_await client.open();
        REQUIRE_FALSE(first.has_value());
        CHECK(first.error().code() == boost::system::errc::no_such_file_or_directory);
        const auto second = co_await other.open();
        REQUIRE_FALSE(second.has_value());
        CHECK(second.error().code() == make_error_code(Errc::refused));
        CHECK(gate.connections() == 0);
      }});
}

TEST_CASE("milter: a wait that is given up ends at once", "[milter]") {
  Setting s;
  Signal asked;
  run(s.loop, {[&]() -> Task<void> {
                 co_await s.peer.accept();
                 CHECK((co_await s.peer.next()).kind == 'C');
                 asked.set();
                 CHECK((co_await s.peer.next()).kind == 0);
               },
               [&]() -> Task<void> {
                 co_await asked.wait();
                 s.client().give_up();
               },
               [&]() -> Task<void> {
                 auto& client = s.client();
                 CHECK((co_await client.open()).has_value());
                 auto step = client.session().connect("c", {}, 0, {});
                 CHECK_FALSE((co_await client.perform(std::move(step))).has_value());
                 CHECK_FALSE((co_await client.open()).has_value());
               }});
}

namespace {

// Makes every edit that there is.
constexpr const char* kPythonFilter = R"(
import sys
import Milter
class Every(Milter.Base):
    def envfrom(self, sender, *args):
        self.seen = [self.getsymval('i') or '-', sender] + list(args)
        return Milter.CONTINUE
    def envrcpt(self, to, *args):
        if 'refused' in to:
            self.setreply('550', '5.7.9', 'Not here, 100%% sure')
            return Milter.REJECT
        return Milter.CONTINUE
    def header(self, name, value):
        self.seen.append(name + '=' + value)
        return Milter.CONTINUE
    def eoh(self):
        return Milter.CONTINUE
    def body(self, piece):
        return Milter.SKIP
    def eom(self):
        self.progress()
        self.addheader('X-Seen', '|'.join(self.seen).replace('\n', '~'))
        self.addheader('X-Insert', 'one\n two', 1)
        self.chgheader('Subject', 1, 'changed')
        self.chgheader('X-Gone', 1, '')
        self.addrcpt('c@dst.test')
        self.addrcpt('d@dst.test', 'NOTIFY=NEVER')
        self.delrcpt('<b@dst.test>')
        self.chgfrom('z@src.test')
        self.replacebody(b'x' * 70000 + b'\r\n')
        self.quarantine('looks odd')
        return Milter.CONTINUE
Milter.factory = Every
Milter.set_flags(Milter.ADDHDRS | Milter.CHGBODY | Milter.ADDRCPT | Milter.ADDRCPT_PAR
                 | Milter.DELRCPT | Milter.CHGHDRS | Milter.QUARANTINE | Milter.CHGFROM)
Milter.runmilter('every', 'unix:' + sys.argv[1], 240)
)";

class Process {
 public:
  explicit Process(std::vector<std::string> words) {
    std::vector<char*> arguments;
    for (auto& word : words)
      arguments.push_back(word.data());
    arguments.push_back(nullptr);
    if (::posix_spawn(&pid_, arguments[0], nullptr, nullptr, arguments.data(), environ) != 0)
      pid_ = -1;
  }
  ~Process() {
    if (pid_ > 0) {
      ::kill(pid_, SIGKILL);
      ::waitpid(pid_, nullptr, 0);
    }
  }
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;
  int wait() {
    int status = -1;
    if (pid_ > 0)
      ::waitpid(std::exchange(pid_, -1), &status, 0);
    return status;
  }

 private:
  pid_t pid_ = -1;
};

Task<void> open_when_ready(milter::Client& client, const Clock& clock) {
  const auto limit = clock.steady() + 60s;
  while (!(co_await client.open()).has_value() && clock.steady() < limit)
    std::this_thread::sleep_for(20ms);
  REQUIRE(client.is_open());
}

}  // namespace

TEST_CASE("milter: a filter of python3-milter makes every edit", "[milter][peer]") {
  if (Process({"/usr/bin/python3", "-c", "import Milter"}).wait() != 0) {
    WARN("python3-milter is not installed: skipped");
    return;
  }
  const TemporaryFolder folder;
  std::ofstream(folder / "filter.py") << kPythonFilter;
  const auto path = folder / "filter.sock";
  const Process filter({"/usr/bin/python3", folder / "filter.py", path});
  Loop loop(0);
  SystemClock clock;
  milter::Gate gate({10, 1ms, 1ms});
  milter::Client client(loop, clock, gate, *milter::Address::parse(path), {});
  milter::Edits edits;
  run(loop, {[&]() -> Task<void> {
        co_await open_when_ready(client, clock);
        auto& session = client.session();
        const milter::Macros macros = {{"i", "4F2"}, {"j", "us.test"}};
        (void)co_await go(client,
                          session.connect("localhost", *IpAddress::parse("127.0.0.1"), 25, macros));
        (void)co_await go(client, session.helo("client.test", macros));
        (void)co_await go(client, session.mail("<a@src.test>", {"SIZE=9"}, macros));
        (void)co_await go(client, session.recipient("<b@dst.test>", {}, macros));
        const auto refused =
            co_await go(client, session.recipient("<refused@dst.test>", {}, macros));
        CHECK(refused.reply.str() == "550 5.7.9 Not here, 100% sure");
        (void)co_await go(client, session.data(macros));
        (void)co_await go(client, session.header("Subject", "  one\r\n two"));
        (void)co_await go(client, session.header("X-Gone", " x"));
        (void)co_await go(client, session.end_of_header(macros));
        (void)co_await go(client, session.body("one\r\n"));
        CHECK_FALSE(session.wants_body());
        const auto verdict = co_await go(client, session.end(macros));
        CHECK(verdict.kind == Kind::go_on);
        edits = session.take_edits();
        (void)co_await go(client, session.abort());
        client.close();
      }});
  milter::Fields fields{"", "Subject:  one\r\n two\r\nX-Gone: x\r\n"};
  REQUIRE(milter::apply_header_edits(edits.header, false, fields).has_value());
  CHECK(fields.on_top.empty());
  CHECK(fields.section ==
        "X-Insert: one\r\n two\r\nSubject: changed\r\n"
        "X-Seen: 4F2|<a@src.test>|SIZE=9|Subject= one~ two|X-Gone=x\r\n");
  mail::Envelope envelope;
  envelope.sender = "a@src.test";
  envelope.recipients = {{"b@dst.test", {}, {}}};
  REQUIRE(milter::apply_envelope_edits(edits.envelope, {}, envelope).has_value());
  CHECK(envelope.sender == "z@src.test");
  REQUIRE(envelope.recipients.size() == 2);
  CHECK(envelope.recipients[0].address == "c@dst.test");
  CHECK(envelope.recipients[1].address == "d@dst.test");
  CHECK(envelope.recipients[1].notify.bits == mail::Notify::kNever);
  REQUIRE(edits.body.has_value());
  CHECK(*edits.body == std::string(70000, 'x') + "\r\n");
  CHECK(edits.quarantine == "looks odd");
}

TEST_CASE("milter: opendkim signs, and its signature stands on top", "[milter][peer]") {
  if (::access("/usr/sbin/opendkim", X_OK) != 0 || ::access("/usr/bin/openssl", X_OK) != 0) {
    WARN("opendkim or openssl is not installed: skipped");
    return;
  }
  const TemporaryFolder folder;
  REQUIRE(Process({"/usr/bin/openssl", "genrsa", "-out", folder / "key.pem", "2048"}).wait() == 0);
  const auto path = folder / "filter.sock";
  std::ofstream(folder / "hosts") << "127.0.0.1\n";
  std::ofstream(folder / "conf") << "Mode s\nSocket local:" << path
                                 << "\nDomain src.test\nSelector r1\nKeyFile " << folder / "key.pem"
                                 << "\nInternalHosts " << folder / "hosts"
                                 << "\nRequireSafeKeys no\nSyslog no\nPidFile " << folder / "pid"
                                 << "\n";
  const Process filter({"/usr/sbin/opendkim", "-f", "-x", folder / "conf"});
  Loop loop(0);
  SystemClock clock;
  milter::Gate gate({10, 1ms, 1ms});
  milter::Client client(loop, clock, gate, *milter::Address::parse(path), {});
  milter::Fields fields{"", "From: a@src.test\r\nSubject:  one\r\n two\r\n"};
  run(loop, {[&]() -> Task<void> {
        co_await open_when_ready(client, clock);
        auto& session = client.session();
        (void)co_await go(client, session.connect("localhost", *IpAddress::parse("127.0.0.1"), 25,
                                                  {{"j", "us.test"}}));
        (void)co_await go(client, session.helo("client.test", {}));
        for (int message = 0; message < 2; ++message) {
          CHECK((co_await send_message(client)).kind == Kind::go_on);
          const auto edits = client.session().take_edits();
          CHECK(milter::apply_header_edits(edits.header, session.has_leading_space(), fields)
                    .has_value());
          (void)co_await go(client, session.abort());
        }
        client.close();
      }});
  CHECK(fields.section == "From: a@src.test\r\nSubject:  one\r\n two\r\n");
  CHECK(fields.on_top.starts_with("DKIM-Signature: v=1; a=rsa-sha256;"));
  CHECK(fields.on_top.find("d=src.test; s=r1;") != std::string::npos);
  // Of two messages, so two.
  CHECK(fields.on_top.find("DKIM-Signature:", 10) != std::string::npos);
}
