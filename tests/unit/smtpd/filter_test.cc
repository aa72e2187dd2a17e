// The seam between a session and its filters: what they are shown, in which order, and what becomes
// of what they say.
#include "support.h"

#include "base/file.h"
#include "base/text.h"
#include "queue/queue.h"
#include "smtpd/filter/chain.h"
#include "tests/unit/base/temporary_folder.h"

#include <catch2/catch.hpp>

#include <algorithm>
#include <filesystem>
#include <functional>
#include <optional>

using namespace postrider;
using namespace postrider::tests;
using smtpd::filter::bit;
using smtpd::filter::Stage;
using smtpd::filter::Verdict;
using Kind = Verdict::Kind;

namespace {

// What the filters of all sessions were told, one line a call, and what they answer.
struct Record {
  std::mutex mutex;
  std::vector<std::string> calls;
  std::string header, body;         // as shown
  std::vector<std::string> bodies;  // of those before, too

  void note(std::string call) {
    const std::lock_guard lock(mutex);
    calls.push_back(std::move(call));
  }
  std::vector<std::string> all() {
    const std::lock_guard lock(mutex);
    return calls;
  }
  bool has(const std::string& call) {
    const auto now = all();
    return std::find(now.begin(), now.end(), call) != now.end();
  }
};

struct Part {
  explicit Part(std::string called) : name(std::move(called)) {}
  std::string name;
  std::shared_ptr<Record> record = std::make_shared<Record>();
  smtpd::filter::Stages stages = 0;
  std::map<std::string, Verdict> verdicts;                  // by call
  std::function<void(std::string&)> edit_header;            // may be empty
  std::function<void(smtpd::filter::Ending&)> edit_ending;  // may be empty
  bool holds_end = false;                                   // until it is given up
  bool wants_body = true;
  bool changes_at_end = false;
  bool can_be_shown_again = false;
};

class PartFilter final : public smtpd::filter::Filter {
 public:
  PartFilter(const Part& part, Loop& loop) : part_(part), loop_(loop) {}
  ~PartFilter() override { part_.record->note(part_.name + " gone"); }
  smtpd::filter::Stages stages() const override { return part_.stages; }
  bool changes_at_end() const override { return part_.changes_at_end; }
  bool can_be_shown_again() const override { return part_.can_be_shown_again; }
  void on_top(std::string_view fields) override {
    part_.record->note(part_.name + " on_top " + std::string(fields));
  }
  Task<Verdict> connect() override { co_return say("connect"); }
  Task<Verdict> helo() override { co_return say("helo"); }
  Task<Verdict> mail(const mail::Envelope& envelope) override {
    co_return say("mail", envelope.sender);
  }
  Task<Verdict> recipient(const mail::Recipient& recipient) override {
    co_return say("recipient", recipient.address);
  }
  Task<Verdict> data(const mail::Envelope&) override { co_return say("data"); }
  Task<Verdict> header(const mail::Envelope&, std::string& section) override {
    part_.record->header = section;
    part_.record->body.clear();
    if (part_.edit_header)
      part_.edit_header(section);
    co_return say("header");
  }
  bool wants_body() const override { return part_.wants_body; }
  Task<Verdict> body(std::string_view piece) override {
    part_.record->body += piece;
    const auto found = part_.verdicts.find("body");
    co_return found == part_.verdicts.end() ? Verdict{} : found->second;
  }
  Task<Verdict> end(smtpd::filter::Ending& ending) override {
    part_.record->note(part_.name + " end");
    part_.record->bodies.push_back(part_.record->body);
    if (part_.holds_end)
      co_await given_up_->wait();
    if (part_.edit_ending)
      part_.edit_ending(ending);
    const auto found = part_.verdicts.find("end");
    co_return found == part_.verdicts.end() ? Verdict{} : found->second;
  }
  void abort() override { part_.record->note(part_.name + " abort"); }
  void give_up() override {
    loop_.post([given_up = given_up_] { given_up->set(); });
  }

 private:
  Verdict say(const std::string& call, const std::string& what = {}) {
    part_.record->note(part_.name + " " + call + (what.empty() ? "" : " " + what));
    const auto found = part_.verdicts.find(call);
    return found == part_.verdicts.end() ? Verdict{} : found->second;
  }
  Part part_;
  Loop& loop_;
  const std::shared_ptr<Signal> given_up_ =
      std::make_shared<Signal>();  // may be set after the session
};

class PartSource final : public smtpd::filter::Source {
 public:
  explicit PartSource(Part part) : part_(std::move(part)) {}
  std::unique_ptr<smtpd::filter::Filter> make(
      const smtpd::filter::Facts&, const smtpd::filter::Surroundings& around) const override {
    return std::make_unique<PartFilter>(part_, around.loop);
  }

 private:
  Part part_;
};

ServerSettings with(std::initializer_list<Part> parts) {
  auto settings = strict_settings();
  for (const auto& part : parts)
    settings.filters.push_back(std::make_shared<const PartSource>(part));
  return settings;
}

constexpr smtpd::filter::Stages kAll = bit(Stage::connect) | bit(Stage::helo) | bit(Stage::mail) |
                                       bit(Stage::recipient) | bit(Stage::data);

Verdict refusal(int code, const char* text) {
  return Verdict::refuse({code, {static_cast<std::uint8_t>(code / 100), 7, 1}, text});
}

using Calls = std::vector<std::string>;

void open(Peer& peer) {
  CHECK(peer.reply().starts_with("220"));
  CHECK(peer.say("EHLO client.test\r\n").starts_with("250"));
}

std::string send(Peer& peer, const std::string& content) {
  CHECK(peer.say("MAIL FROM:<x@ext.test>\r\n") == "250 2.1.0 Ok\r\n");
  CHECK(peer.say("RCPT TO:<y@us.test>\r\n") == "250 2.1.5 Ok\r\n");
  CHECK(peer.say("DATA\r\n").starts_with("354"));
  return peer.say(content + ".\r\n");
}

}  // namespace

TEST_CASE("a filter is asked at each stage, and shown the message", "[filter]") {
  Part part("a");
  part.stages = kAll;
  RunningServer server(with({part}));
  Peer peer(server.port());
  open(peer);
  CHECK(send(peer, "Subject: one\r\nTo: y\r\n\r\nbody\r\n..dot\r\n").starts_with("250"));
  CHECK(part.record->header == "Subject: one\r\nTo: y\r\n");
  CHECK(part.record->body == "body\r\n.dot\r\n");
  CHECK(peer.say("QUIT\r\n").starts_with("221"));
  CHECK(eventually([&] { return part.record->has("a gone"); }));
  CHECK(part.record->all() == Calls{"a connect", "a helo", "a mail x@ext.test",
                                    "a recipient y@us.test", "a data", "a header", "a end",
                                    "a abort", "a gone"});
  CHECK(server.custody().kept().at(0).content == "Subject: one\r\nTo: y\r\n\r\nbody\r\n.dot\r\n");
}

TEST_CASE("a pipelined group waits for the filters and is answered in order", "[filter]") {
  Part part("a");
  part.stages = kAll;
  part.verdicts["recipient"] = refusal(550, "Not that one");
  RunningServer server(with({part}));
  Peer peer(server.port());
  open(peer);
  peer.send("MAIL FROM:<x@ext.test>\r\nRCPT TO:<y@us.test>\r\nRCPT TO:<user@us.test>\r\nDATA\r\n");
  CHECK(peer.replies(4) ==
        "250 2.1.0 Ok\r\n550 5.7.1 Not that one\r\n550 5.7.1 Not that one\r\n"
        "554 5.5.1 No valid recipients\r\n");
  peer.send("RSET\r\nMAIL FROM:<z@ext.test>\r\nNOOP\r\n");
  CHECK(codes_of(peer.replies(3)) == "250 250 250");
  const auto calls = part.record->all();
  CHECK(std::count(calls.begin(), calls.end(), "a abort") == 1);
  CHECK(server.log().named("rejected").size() == 3);
}

TEST_CASE("what a filter refuses at a command is refused, and the session goes on", "[filter]") {
  Part part("a");
  part.stages = kAll;
  const std::string stage = GENERATE("mail", "helo", "data");
  part.verdicts[stage] = refusal(450, "Later");
  RunningServer server(with({part}));
  Peer peer(server.port());
  CHECK(peer.reply().starts_with("220"));
  if (stage == "helo") {
    CHECK(peer.say("EHLO client.test\r\n") == "450 4.7.1 Later\r\n");
    CHECK(peer.say("MAIL FROM:<x@ext.test>\r\n").starts_with("503"));
    return;
  }
  CHECK(peer.say("EHLO client.test\r\n").starts_with("250"));
  if (stage == "mail") {
    CHECK(peer.say("MAIL FROM:<x@ext.test>\r\n") == "450 4.7.1 Later\r\n");
    CHECK(peer.say("RCPT TO:<y@us.test>\r\n").starts_with("503"));
    return;
  }
  CHECK(codes_of(peer.say("MAIL FROM:<x@ext.test>\r\n")) == "250");
  CHECK(codes_of(peer.say("RCPT TO:<y@us.test>\r\n")) == "250");
  CHECK(peer.say("DATA\r\n") == "450 4.7.1 Later\r\n");
  CHECK(peer.say("RSET\r\n").starts_with("250"));
}

TEST_CASE("a refused connection hears it instead of the greeting", "[filter]") {
  Part part("a");
  part.stages = kAll;
  part.verdicts["connect"] = refusal(554, "Not here");
  RunningServer server(with({part}));
  Peer peer(server.port());
  CHECK(peer.reply() == "554 5.7.1 Not here\r\n");
  CHECK(peer.is_closed());
}

TEST_CASE("what is refused in the content is refused at its end", "[filter]") {
  Part first("a"), second("b");
  first.verdicts[GENERATE("header", "body", "end")] = refusal(550, "No such content");
  RunningServer server(with({first, second}));
  Peer peer(server.port());
  open(peer);
  CHECK(send(peer, "Subject: one\r\n\r\nbody\r\n") == "550 5.7.1 No such content\r\n");
  CHECK_FALSE(second.record->has("b end"));
  CHECK(server.custody().kept().empty());
  const auto rejected = server.log().wait_for("rejected");
  CHECK(rejected.at(0).value("stage") == "END-OF-MESSAGE");
  CHECK(rejected.at(0).value("from") == "x@ext.test");
  // The next message of the session is another one.
  CHECK(send(peer, "Subject: two\r\n\r\nbody\r\n").starts_with("550"));
}

TEST_CASE("what is discarded is answered as if it were stored", "[filter]") {
  Part part("a");
  part.stages = kAll;
  part.verdicts[GENERATE("mail", "recipient", "header", "end")] = Verdict{Kind::discard, {}, {}};
  RunningServer server(with({part}));
  Peer peer(server.port());
  open(peer);
  CHECK(send(peer, "Subject: one\r\n\r\nbody\r\n").starts_with("250 2.0.0 Ok: queued as"));
  CHECK(server.log().wait_for("discarded").size() == 1);
  CHECK(server.custody().kept().empty());
}

TEST_CASE("each filter sees what those before it made of the message", "[filter]") {
  Part first("a"), second("b");
  first.edit_header = [](std::string& section) { section = "X-First: 1\r\n" + section; };
  first.edit_ending = [](smtpd::filter::Ending& ending) {
    ending.on_top = "X-Top-A: 1\r\n";
    ending.envelope.recipients.at(0).address = "user@us.test";
  };
  std::string seen_on_top, seen_header;
  second.edit_ending = [&](smtpd::filter::Ending& ending) {
    seen_on_top = ending.on_top;
    seen_header = ending.header;
    ending.on_top.insert(0, "X-Top-B: 1\r\n");
  };
  RunningServer server(with({first, second}));
  Peer peer(server.port());
  open(peer);
  CHECK(send(peer, "Subject: one\r\n\r\nbody\r\n").starts_with("250"));
  CHECK(second.record->header == "X-First: 1\r\nSubject: one\r\n");
  CHECK(seen_on_top == "X-Top-A: 1\r\n");
  CHECK(seen_header == "X-First: 1\r\nSubject: one\r\n");
  const auto kept = server.custody().kept().at(0);
  CHECK(kept.content == "X-First: 1\r\nSubject: one\r\n\r\nbody\r\n");
  CHECK(kept.trace.starts_with("X-Top-B: 1\r\nX-Top-A: 1\r\nReceived: "));
  CHECK(kept.envelope.recipients.at(0).address == "user@us.test");
}

TEST_CASE("a header section of which nothing is left never swallows the body", "[filter]") {
  Part part("a");
  part.edit_header = [](std::string& section) { section.clear(); };
  RunningServer server(with({part}));
  Peer peer(server.port());
  open(peer);
  CHECK(send(peer, "X-One: 1\r\nFrom somebody: no field\r\n").starts_with("250"));
  CHECK(send(peer, "X-One: 1\r\n\r\n indented\r\n").starts_with("250"));
  CHECK(send(peer, "X-One: 1\r\n").starts_with("250"));
  const auto kept = server.custody().kept();
  CHECK(kept.at(0).content == "\r\nFrom somebody: no field\r\n");
  CHECK(kept.at(1).content == "\r\n indented\r\n");
  CHECK(kept.at(2).content == "\r\n");
  for (const auto& each : kept)
    CHECK(each.trace.starts_with("Received: "));
}

TEST_CASE("filters see a submission as it was completed", "[filter]") {
  Part part("a");
  part.edit_header = [](std::string& section) { section += "X-Last: 1\r\n"; };
  auto settings = with({part});
  settings.relay_from.push_back(Network::parse("127.0.0.0/8").value());
  smtpd::ListenerSettings listener{"127.0.0.1:0"};
  listener.role = smtpd::Role::submission;
  RunningServer server(settings, 1, nullptr, listener);
  Peer peer(server.port());
  open(peer);
  CHECK(send(peer, "Subject: one\r\nbody without empty line\r\n").starts_with("250"));
  const auto& seen = part.record->header;
  CHECK(seen.starts_with("Date: "));
  CHECK(seen.find("\r\nMessage-ID: <") != std::string::npos);
  CHECK(seen.ends_with("\r\nSubject: one\r\n"));
  const auto kept = server.custody().kept().at(0);
  CHECK(kept.content == seen + "X-Last: 1\r\n\r\nbody without empty line\r\n");
  CHECK(kept.trace.find("Date: ") == std::string::npos);
}

TEST_CASE("chunks are shown as data is", "[filter]") {
  Part part("a");
  part.stages = kAll;
  RunningServer server(with({part}));
  Peer peer(server.port());
  open(peer);
  CHECK(codes_of(peer.say("MAIL FROM:<x@ext.test>\r\n")) == "250");
  CHECK(codes_of(peer.say("RCPT TO:<y@us.test>\r\n")) == "250");
  CHECK(codes_of(peer.say("BDAT 10\r\nSubject: o")) == "250");
  CHECK(codes_of(peer.say("BDAT 12 LAST\r\nne\r\n\r\nbody\r\n")) == "250");
  CHECK(part.record->has("a data"));
  CHECK(part.record->header == "Subject: one\r\n");
  CHECK(part.record->body == "body\r\n");
}

TEST_CASE("a large message is shown in pieces, on its way to its file", "[filter]") {
  TemporaryFolder folder;
  SystemClock clock;
  NullLog log;
  queue::QueueSettings kept;
  kept.spool = folder / "spool";
  kept.room_needed = 0;
  auto queue = queue::Queue::open(kept, clock, log);
  REQUIRE(queue);
  (*queue)->start(nullptr);
  smtpd::QueueCustody custody(**queue);
  Part part("a");
  part.edit_header = [](std::string& section) { section = "X-New: 1\r\n" + section; };
  std::string body;
  while (body.size() < 1'000'000)
    body += "line " + std::to_string(body.size()) + "\r\n";
  {
    RunningServer server(with({part}), 1, &custody);
    Peer peer(server.port());
    open(peer);
    CHECK(send(peer, "Subject: one\r\n\r\n" + body).starts_with("250"));
    CHECK(send(peer, "Subject: two\r\n\r\nshort\r\n").starts_with("250"));
  }
  const auto listed = (*queue)->list({}, mail::MessageId{0}, 10).value();
  REQUIRE(listed.size() == 2);
  const auto message = (*queue)->load(listed.front().id).value();
  const auto content = read_file((*queue)->body_path(message->content.file)).value();
  CHECK((content == "X-New: 1\r\nSubject: one\r\n\r\n" + body));
  CHECK(part.record->body == "short\r\n");
  CHECK((part.record->bodies.front() == body));
}

TEST_CASE("a client that leaves while filters wait has its message dropped", "[filter]") {
  Part part("a");
  part.holds_end = true;
  RunningServer server(with({part}));
  Peer peer(server.port());
  open(peer);
  peer.send("MAIL FROM:<x@ext.test>\r\n");
  peer.reply();
  peer.send("RCPT TO:<y@us.test>\r\n");
  peer.reply();
  peer.send("DATA\r\n");
  peer.reply();
  peer.send("Subject: one\r\n\r\nbody\r\n.\r\n");
  REQUIRE(eventually([&] { return part.record->has("a end"); }));
  peer.reset();
  const auto ended = server.log().wait_for("disconnected");
  REQUIRE(ended.size() == 1);
  CHECK(ended.at(0).value("reason") == "lost");
  CHECK(server.custody().kept().empty());
  CHECK(part.record->has("a abort"));
}

TEST_CASE("a stop does not wait for filters", "[filter]") {
  Part part("a");
  part.holds_end = true;
  RunningServer server(with({part}));
  Peer peer(server.port());
  open(peer);
  peer.send("MAIL FROM:<x@ext.test>\r\n");
  peer.reply();
  peer.send("RCPT TO:<y@us.test>\r\n");
  peer.reply();
  peer.send("DATA\r\n");
  peer.reply();
  peer.send("Subject: one\r\n\r\nbody\r\n.\r\n");
  REQUIRE(eventually([&] { return part.record->has("a end"); }));
  server.drain(Duration(0));
  CHECK(server.custody().kept().size() == 1);
}

TEST_CASE("a filter that is done with a message sees no more of it", "[filter]") {
  Part part("a");
  part.stages = kAll;
  part.verdicts["mail"] = Verdict{Kind::done, {}, {}};
  RunningServer server(with({part}));
  Peer peer(server.port());
  open(peer);
  CHECK(send(peer, "Subject: one\r\n\r\nbody\r\n").starts_with("250"));
  CHECK(send(peer, "Subject: two\r\n\r\nbody\r\n").starts_with("250"));
  const auto calls = part.record->all();
  CHECK(std::count(calls.begin(), calls.end(), "a mail x@ext.test") == 2);
  CHECK_FALSE(part.record->has("a header"));
}

namespace {

// The body as it stands then; small ones only.
std::string whole_of(smtpd::filter::WholeBody& body) {
  std::string text;
  for (;;) {
    const auto piece = body.read(text.size());
    REQUIRE(piece.has_value());
    if (piece->empty())
      return text;
    text += *piece;
  }
}

// A spool with a queue that delivers nothing.
struct Spool {
  TemporaryFolder folder;
  SystemClock clock;
  NullLog log;
  std::unique_ptr<queue::Queue> queue;
  std::optional<smtpd::QueueCustody> custody;

  Spool() {
    queue::QueueSettings kept;
    kept.spool = folder / "spool";
    kept.room_needed = 0;
    queue = *queue::Queue::open(kept, clock, log);
    queue->start(nullptr);
    custody.emplace(*queue);
  }
  std::vector<queue::ListedMessage> all() {
    return queue->list({}, mail::MessageId{0}, 10).value();
  }
  std::size_t files() {
    std::size_t count = 0;
    for (const auto& each : std::filesystem::directory_iterator(folder / "spool/body"))
      count += each.is_regular_file() ? 1 : 0;
    return count;
  }
};

std::string large_body() {
  std::string body;
  while (body.size() < 300'000)
    body += "line " + std::to_string(body.size()) + "\r\n";
  return body;
}

}  // namespace

TEST_CASE("what a filter changes at the end is stored, and seen by those behind it", "[filter]") {
  Part editor("a"), follower("b"), signer("s");
  editor.changes_at_end = true;
  signer.can_be_shown_again = true;
  follower.changes_at_end = GENERATE(false, true);
  editor.edit_ending = [](smtpd::filter::Ending& ending) {
    CHECK(whole_of(ending.body) == "body\r\n");
    ending.header = "Subject: two\r\nX-New: 1\r\n";
    ending.on_top = "X-Top: 1\r\n";
    REQUIRE(ending.body.append("new\nbo").has_value());
    REQUIRE(ending.body.append("dy").has_value());
    REQUIRE(ending.body.adopt().has_value());
    ending.has_changed = true;
  };
  RunningServer server(with({editor, follower, signer}));
  Peer peer(server.port());
  open(peer);
  CHECK(send(peer, "Subject: one\r\n\r\nbody\r\n").starts_with("250"));
  for (const auto& each : {follower, signer}) {
    CHECK(each.record->header == "Subject: two\r\nX-New: 1\r\n");
    CHECK(each.record->bodies == Calls{"new\r\nbody\r\n"});
  }
  const auto late = follower.record->all();
  CHECK(std::count(late.begin(), late.end(), "b header") == 1);
  CHECK(follower.record->has("b on_top X-Top: 1\r\n"));
  const auto again = signer.record->all();
  CHECK(std::count(again.begin(), again.end(), "s header") == 2);
  CHECK(std::count(again.begin(), again.end(), "s end") == 1);
  const auto kept = server.custody().kept().at(0);
  CHECK(kept.content == "Subject: two\r\nX-New: 1\r\n\r\nnew\r\nbody\r\n");
  CHECK(kept.trace.starts_with("X-Top: 1\r\nReceived: "));
}

TEST_CASE("where nothing was changed at the end, nothing is shown twice", "[filter]") {
  Part editor("a"), signer("s");
  editor.changes_at_end = true;
  signer.can_be_shown_again = true;
  RunningServer server(with({editor, signer}));
  Peer peer(server.port());
  open(peer);
  CHECK(send(peer, "Subject: one\r\nno empty line\r\n").starts_with("250"));
  const auto calls = signer.record->all();
  CHECK(std::count(calls.begin(), calls.end(), "s header") == 1);
  // What was shown is what is kept: the header ends where it did for the filters.
  CHECK(server.custody().kept().at(0).content == "Subject: one\r\n\r\nno empty line\r\n");
}

TEST_CASE("what is shown at the end may be refused then, too", "[filter]") {
  Part editor("a"), follower("b");
  editor.changes_at_end = true;
  follower.verdicts[GENERATE("header", "body", "end")] = refusal(550, "No");
  RunningServer server(with({editor, follower}));
  Peer peer(server.port());
  open(peer);
  CHECK(send(peer, "Subject: one\r\n\r\nbody\r\n") == "550 5.7.1 No\r\n");
  CHECK(server.custody().kept().empty());
}

TEST_CASE("changes of a large message are in its file, and no other file is left", "[filter]") {
  Spool spool;
  const auto body = large_body();
  Part editor("a"), signer("s");
  editor.changes_at_end = true;
  signer.can_be_shown_again = true;
  const std::string what = GENERATE("header", "body", "shorter body", "both", "dropped");
  const auto fresh = what == "shorter body" ? std::string("short\r\n") : "new\r\n" + body + body;
  editor.edit_ending = [&](smtpd::filter::Ending& ending) {
    if (what == "header" || what == "both")
      ending.header = "Subject: two\r\n";
    if (what != "header")
      for (std::size_t at = 0; at < fresh.size(); at += 60'000)
        REQUIRE(ending.body.append(std::string_view(fresh).substr(at, 60'000)).has_value());
    if (what == "dropped")
      return ending.body.drop();
    if (what != "header")
      REQUIRE(ending.body.adopt().has_value());
    ending.has_changed = true;
  };
  {
    RunningServer server(with({editor, signer}), 1, &*spool.custody);
    Peer peer(server.port());
    open(peer);
    CHECK(send(peer, "Subject: one\r\n\r\n" + body).starts_with("250"));
  }
  const auto listed = spool.all();
  REQUIRE(listed.size() == 1);
  const auto message = spool.queue->load(listed.front().id).value();
  const auto content = read_file(spool.queue->body_path(message->content.file)).value();
  const bool has_header = what == "header" || what == "both";
  const bool has_body = what != "header" && what != "dropped";
  const auto expected =
      (has_header ? "Subject: two\r\n\r\n" : "Subject: one\r\n\r\n") + (has_body ? fresh : body);
  CHECK((content == expected));
  CHECK(message->content.size == expected.size());
  CHECK(message->content.file == to_string(message->id));
  CHECK((signer.record->bodies.back() == (has_body ? fresh : body)));
  CHECK(spool.files() == 1);
}

TEST_CASE("a change that cannot be stored is never answered with 250", "[filter]") {
  // There is no room for a file: a small message becomes a large one.
  Part editor("a");
  editor.changes_at_end = true;
  editor.edit_ending = [](smtpd::filter::Ending& ending) {
    CHECK_FALSE(ending.body.append(std::string(100'000, 'x')).has_value());
    ending.body.drop();
    ending.header += std::string("X-New: 1\r\n");
    ending.has_changed = true;
  };
  RunningServer server(with({editor}));
  Peer peer(server.port());
  open(peer);
  CHECK(send(peer, "Subject: one\r\n\r\nbody\r\n").starts_with("250"));
  CHECK(server.custody().kept().at(0).content == "Subject: one\r\nX-New: 1\r\n\r\nbody\r\n");
  server.custody().fail_with(EIO);
  CHECK(send(peer, "Subject: one\r\n\r\nbody\r\n").starts_with("451"));
  CHECK(server.custody().kept().size() == 1);
}

TEST_CASE("a message that a filter wants held waits for an administrator", "[filter]") {
  Spool spool;
  Part part("a");
  part.edit_ending = [](smtpd::filter::Ending& ending) { ending.hold = "looks odd"; };
  {
    RunningServer server(with({part}), 1, &*spool.custody);
    Peer peer(server.port());
    open(peer);
    CHECK(send(peer, "Subject: one\r\n\r\nbody\r\n").starts_with("250"));
  }
  const auto listed = spool.all();
  REQUIRE(listed.size() == 1);
  CHECK(listed.front().status == "held");
  REQUIRE(listed.front().recipients.size() == 1);
  CHECK(listed.front().recipients.front().last->text == "held: looks odd");
  CHECK(spool.queue->totals().value().held == 1);
}
