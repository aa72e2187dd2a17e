// The milter protocol without a socket: frames as real servers and filters exchange them, what each
// answer means at each stage, what a filter may not do, and what its edits make of a message.
#include "base/text.h"
#include "smtpd/filter/milter_edits.h"
#include "smtpd/filter/milter_protocol.h"
#include "smtpd/filter/milter_session.h"

#include <catch2/catch.hpp>

using namespace postrider;
using namespace postrider::smtpd::filter;
using namespace std::string_literals;
using milter::Edit;
using milter::Frame;
using Kind = Verdict::Kind;

namespace {

std::string number(std::uint32_t value) {
  std::string out;
  for (int shift = 24; shift >= 0; shift -= 8)
    out.push_back(static_cast<char>(value >> shift & 0xff));
  return out;
}

std::vector<Frame> frames(std::string_view bytes) {
  std::vector<Frame> all;
  milter::FrameReader reader;
  while (!bytes.empty()) {
    std::size_t used = 0;
    auto frame = reader.feed(bytes, used);
    REQUIRE(frame.has_value());
    REQUIRE(frame->has_value());
    all.push_back(**std::move(frame));
    bytes.remove_prefix(used);
  }
  return all;
}

std::string kinds(std::string_view bytes) {
  std::string all;
  for (const auto& frame : frames(bytes))
    all += frame.kind;
  return all;
}

Frame negotiation(std::uint32_t actions, std::uint32_t steps, std::uint32_t version = 6,
                  const std::string& symbols = {}) {
  return {'O', number(version) + number(actions) + number(steps) + symbols};
}

Frame edit(char kind, const std::string& data) {
  return {kind, data};
}

const milter::Macros kMacros = {{"j", "us.test"},
                                {"_", "client.test [192.0.2.1]"},
                                {"i", "4F2"},
                                {"{mail_addr}", "a@src.test"},
                                {"{auth_type}", "PLAIN"},
                                {"{rcpt_addr}", "b@dst.test"}};

// A session that has negotiated this.
milter::Session agreed(std::uint32_t actions = milter::action::kAll, std::uint32_t steps = 0,
                       std::uint32_t version = 6, const std::string& symbols = {}) {
  milter::Session session;
  CHECK(session.open().waits);
  const auto answer = session.on_frame(negotiation(actions, steps, version, symbols));
  REQUIRE(answer.has_value());
  REQUIRE(answer->has_value());
  return session;
}

Verdict say(milter::Session& session, Frame frame) {
  auto verdict = session.on_frame(std::move(frame));
  REQUIRE(verdict.has_value());
  REQUIRE(verdict->has_value());
  return **std::move(verdict);
}

milter::Session::Step at(milter::Session& session, char stage) {
  switch (stage) {
    case 'C':
      return session.connect("client.test", *IpAddress::parse("192.0.2.1"), 2525, kMacros);
    case 'H':
      return session.helo("client.test", kMacros);
    case 'M':
      return session.mail("<a@src.test>", {"SIZE=1000", "BODY=8BITMIME"}, kMacros);
    case 'R':
      return session.recipient("<b@dst.test>", {}, kMacros);
    case 'T':
      return session.data(kMacros);
    case 'L':
      return session.header("Subject", " one\r\n two");
    case 'N':
      return session.end_of_header(kMacros);
    case 'B':
      return session.body("text\r\n");
    default:
      return session.end(kMacros);
  }
}

constexpr std::string_view kStages = "CHMRTLNBE";

// Up to the answer to `stage`, which is still to come.
void go_to(milter::Session& session, char stage) {
  for (const char each : kStages) {
    const auto step = at(session, each);
    if (each == stage)
      return;
    if (step.waits)
      CHECK(say(session, {'c', {}}).kind == Kind::go_on);
  }
}

}  // namespace

TEST_CASE("milter: frames come in any pieces, and no length is believed", "[milter]") {
  const auto bytes = milter::encode_frame('c', {}) + milter::encode_string('H', "client");
  for (std::size_t size = 1; size <= bytes.size(); ++size) {
    milter::FrameReader reader;
    std::vector<Frame> got;
    for (std::size_t at = 0; at < bytes.size();) {
      std::size_t used = 0;
      const auto frame = reader.feed(std::string_view(bytes).substr(at, size), used);
      REQUIRE(frame.has_value());
      at += used;
      if (*frame)
        got.push_back(**frame);
    }
    CHECK(got == std::vector<Frame>{{'c', ""}, {'H', "client\0"s}});
    CHECK_FALSE(reader.is_within_frame());
  }
  for (const std::uint32_t length : {0U, 0x00100001U, 0x7fffffffU, 0xffffffffU}) {
    milter::FrameReader reader;
    std::size_t used = 0;
    CHECK_FALSE(reader.feed(number(length) + "c", used).has_value());
    CHECK_FALSE(reader.feed(milter::encode_frame('c', {}), used).has_value());
  }
}

TEST_CASE("milter: what is sent has the octets that filters have always seen", "[milter]") {
  CHECK(milter::encode_negotiation({6, 0x1ff, 0x1fffff, {}}) ==
        "\0\0\0\x0dO\0\0\0\x06\0\0\x01\xff\0\x1f\xff\xff"s);
  CHECK(milter::encode_connect("localhost", *IpAddress::parse("127.0.0.1"), 2525) ==
        "\0\0\0\x18"
        "Clocalhost\0"
        "4\x09\xdd"
        "127.0.0.1\0"s);
  CHECK(milter::encode_connect("[2001:db8::1]", *IpAddress::parse("2001:db8::1"), 25) ==
        "\0\0\0\x1e"
        "C[2001:db8::1]\0"
        "6\0\x19"
        "2001:db8::1\0"s);
  CHECK(milter::encode_connect("local", {}, 0) ==
        "\0\0\0\x08"
        "Clocal\0U"s);
  CHECK(milter::encode_path('M', {"<s@src.test>", "SIZE=1000"}) ==
        "\0\0\0\x18"
        "M<s@src.test>\0SIZE=1000\0"s);
  CHECK(milter::encode_header("X", "a\0b"s) == "\0\0\0\x07LX\0a b\0"s);
  CHECK(milter::encode_macros('M', {{"i", "4F2"}, {"{mail_addr}", ""}}) ==
        "\0\0\0\x15"
        "DMi\0"
        "4F2\0{mail_addr}\0\0"s);
}

TEST_CASE("milter: a whole conversation, frame by frame", "[milter]") {
  auto session = agreed();
  std::string sent;
  for (const char stage : kStages) {
    const auto step = at(session, stage);
    CHECK(step.waits);
    sent += kinds(step.bytes);
    CHECK(say(session, {'c', {}}).kind == Kind::go_on);
  }
  CHECK(sent == "DCHDMDRDTLDNBDE");
  CHECK(kinds(session.abort().bytes) == "A");
  CHECK(session.abort().bytes.empty());
  CHECK(kinds(at(session, 'M').bytes) == "DM");
  CHECK(say(session, {'c', {}}).kind == Kind::go_on);
  CHECK(kinds(session.quit().bytes) == "AQ");
  CHECK(session.quit().bytes.empty());
}

TEST_CASE("milter: a second HELO comes after the first message was dropped", "[milter]") {
  auto session = agreed();
  go_to(session, 'M');
  CHECK(say(session, {'c', {}}).kind == Kind::go_on);
  CHECK(kinds(session.abort().bytes) == "A");
  CHECK(kinds(at(session, 'H').bytes) == "H");
}

TEST_CASE("milter: header values are shown as filters expect them", "[milter]") {
  struct Case {
    const char* name;
    const char* value;
    const char* without;
    const char* with;
  };
  const Case cases[] = {
      {"Subject", " one", "one", " one"},
      {"Subject", "  two", " two", "  two"},
      {"To", "x", "x", "x"},
      {"Subject", " a\r\n b\r\n\tc", "a\n b\n\tc", " a\n b\n\tc"},
      {"X-Trail", " a  ", "a  ", " a  "},
      {"X-Empty", "", "", ""},
      {"X-Sp ", " v", "v", " v"},
      {"X-Tab", "\tv", "\tv", "\tv"},
      {"X-Cr", " a\rb", "a\rb", " a\rb"},
  };
  for (const auto& one : cases) {
    CAPTURE(one.name, one.value);
    auto plain = agreed();
    auto leading = agreed(milter::action::kAll, milter::step::kLeadingSpace);
    for (auto* session : {&plain, &leading})
      go_to(*session, 'T'), say(*session, {'c', {}});
    const std::string name(trim(one.name));
    CHECK(frames(plain.header(one.name, one.value).bytes).at(0).data ==
          name + "\0"s + one.without + "\0"s);
    CHECK(frames(leading.header(one.name, one.value).bytes).at(0).data ==
          name + "\0"s + one.with + "\0"s);
  }
}

TEST_CASE("milter: steps that a filter does without are not sent or not waited for", "[milter]") {
  struct Case {
    const char* who;
    std::uint32_t actions, steps;
    const char* sent;
    const char* waits;
  };
  const Case cases[] = {
      {"opendkim", 0x111, 0x100702, "DCDMDRLDNBDE", "CMRLNBE"},
      {"opendmarc", 0x21, 0x710, "DCHDMDRLDNDE", "CHMRLNE"},
      {"clamav-milter", 0x31, 0x342, "DCDMDRLBDE", "CMRLBE"},
      {"spamass-milter", 0x13, 0x300, "DCHDMDRLDNBDE", "CHMRLNBE"},
      {"rspamd", 0x1ff, 0xff080, "DCHDMDRDTLDNBDE", "E"},
      {"dkimpy-milter", 0x1ff, 0xc578a, "DCDMLDNBDE", "E"},
  };
  for (const auto& one : cases) {
    CAPTURE(one.who);
    auto session = agreed(one.actions, one.steps);
    std::string sent;
    std::string waits;
    for (const char stage : kStages) {
      const auto step = at(session, stage);
      for (const char kind : kinds(step.bytes))
        sent += kind;
      if (!step.waits)
        continue;
      waits += stage;
      say(session, {'c', {}});
    }
    CHECK(sent == one.sent);
    CHECK(waits == one.waits);
  }
}

TEST_CASE("milter: versions 2 to 6", "[milter]") {
  for (const std::uint32_t version : {2U, 3U, 4U, 5U, 6U}) {
    CAPTURE(version);
    auto session = agreed(0x3f, 0, version);
    go_to(session, 'R');
    say(session, {'c', {}});
    CHECK(at(session, 'T').bytes.empty() == (version < 4));
  }
  const Frame wrong[] = {
      negotiation(0, 0, 1),
      negotiation(0, 0, 7),
      negotiation(0x200, 0),
      negotiation(0, 0x800),       // refused recipients were not offered
      negotiation(0, 0x10000000),  // nor larger pieces of a body
      {'O', number(6) + number(0)},
      {'O', number(6) + number(0) + number(0) + number(1)},
      {'O', number(6) + number(0) + number(0) + number(7) + "i\0"s},
      {'O', number(6) + number(0) + number(0) + number(0) + "no end"},
      {'O', ""},
      {'c', ""},
      {'p', ""},
      {'h', "X\0v\0"s},
  };
  for (const auto& frame : wrong) {
    milter::Session session;
    session.open();
    CHECK_FALSE(session.on_frame(frame).has_value());
  }
  milter::Session old({}, 2);
  CHECK(frames(old.open().bytes).at(0).data == number(2) + number(0x3f) + number(0x7f));
  CHECK_FALSE(old.on_frame(negotiation(0, 0, 6)).has_value());
}

TEST_CASE("milter: a filter's own lists of macros replace the usual ones", "[milter]") {
  auto session =
      agreed(milter::action::kAll, 0, 6,
             number(0) + "j {_} {if_addr}\0"s + number(2) + "{i} auth_type\0"s + number(3) + "\0"s);
  CHECK(frames(at(session, 'C').bytes).at(0).data == "Cj\0us.test\0_\0client.test [192.0.2.1]\0"s);
  say(session, {'c', {}});
  CHECK(kinds(at(session, 'H').bytes) == "H");
  say(session, {'c', {}});
  CHECK(frames(at(session, 'M').bytes).at(0).data == "Mi\0004F2\0{auth_type}\0PLAIN\0"s);
  say(session, {'c', {}});
  CHECK(kinds(at(session, 'R').bytes) == "R");  // it asked for none
}

TEST_CASE("milter: what each answer means at each stage", "[milter]") {
  struct Case {
    Frame answer;
    Kind kind;
    int code;
    const char* at;
  };
  const Case cases[] = {
      {{'c', ""}, Kind::go_on, 0, "CHMRTLNBE"},
      {{'a', ""}, Kind::done, 0, "CHMRTLNB"},
      {{'a', ""}, Kind::go_on, 0, "E"},
      {{'d', ""}, Kind::discard, 0, "MRTLNBE"},
      {{'r', ""}, Kind::refuse, 550, "CHMRTLNBE"},
      {{'t', ""}, Kind::refuse, 451, "CHMRTLNBE"},
      {{'4', ""}, Kind::refuse, 421, "CHMRTLNBE"},
      {{'y', "554 5.7.9 No\0"s}, Kind::refuse, 554, "CHMRTLNBE"},
      {{'y', "250 ok\0"s}, Kind::refuse, 451, "CHMRTLNBE"},
  };
  for (const auto& one : cases)
    for (const char stage : std::string_view(one.at)) {
      CAPTURE(one.answer.kind, stage);
      auto session = agreed();
      go_to(session, stage);
      const auto verdict = say(session, one.answer);
      CHECK(verdict.kind == one.kind);
      CHECK(verdict.reply.code == one.code);
      CHECK_FALSE(session.is_waiting());
      // One recipient alone may be refused; all else settles the message, and nothing more of it
      // may be sent. At CONNECT and HELO a refusal is the caller's to remember.
      const bool of_session = stage == 'C' || stage == 'H';
      const bool settles =
          one.kind != Kind::go_on && !of_session && !(stage == 'R' && one.kind == Kind::refuse);
      if (settles || stage == 'E') {
        for (const char later : std::string_view("RTLNBE"))
          CHECK(at(session, later).bytes.empty());
        CHECK_FALSE(session.wants_body());
        CHECK(kinds(session.abort().bytes) == "A");
        CHECK_FALSE(session.has_left());
        CHECK_FALSE(at(session, 'M').bytes.empty());
      }
      if (one.kind == Kind::done && of_session) {
        CHECK(session.has_left());
        CHECK(at(session, 'M').bytes.empty());
        CHECK(at(session, 'E').bytes.empty());
        CHECK(kinds(session.quit().bytes) == "Q");
      }
    }
}

TEST_CASE("milter: what is no answer ends the conversation", "[milter]") {
  const Frame wrong[] = {{'f', ""},
                         {'Z', ""},
                         {'\0', ""},
                         {'O', number(6) + number(0) + number(0)},
                         {'c', "x"},
                         {'y', "550"},
                         {'y', ""},
                         {'y', "550 x\0y"s},
                         {'s', ""},
                         {'l', ""},
                         {'D', "C"},
                         {'Q', ""},
                         {'h', "X\0"s},
                         {'h', "X\0v"s},
                         {'h', "X\0v\0z"s},
                         {'i', "\0\0"s},
                         {'m', number(1)},
                         {'+', "a@b"},
                         {'2', "a@b\0NOTIFY"s},
                         {'q', ""},
                         {'+', "a@b\0c\0"s}};
  for (const auto& frame : wrong)
    for (const char stage : kStages) {
      CAPTURE(frame.kind, stage);
      auto session = agreed();
      go_to(session, stage);
      CHECK_FALSE(session.on_frame(frame).has_value());
    }
}

TEST_CASE("milter: edits count at the end alone, with the verdict that delivers", "[milter]") {
  const auto add = edit('h', "X-A\0v\0"s);
  for (const char stage : std::string_view("CHMRTLNB")) {
    auto session = agreed();
    go_to(session, stage);
    CHECK_FALSE(session.on_frame(add).has_value());
  }
  {
    auto session = agreed();
    CHECK_FALSE(session.on_frame(add).has_value());  // unasked
    go_to(session, 'E');
    say(session, {'c', {}});
    CHECK_FALSE(session.on_frame(add).has_value());  // too late
  }
  for (const auto& [verdict, kept] :
       {std::pair('c', true), std::pair('a', true), std::pair('r', false), std::pair('t', false),
        std::pair('d', false), std::pair('4', false)}) {
    CAPTURE(verdict);
    auto session = agreed();
    go_to(session, 'E');
    for (const auto& frame : {add, Frame{'p', ""}, edit('b', "one\r\n"), edit('+', "c@dst.test\0"s),
                              edit('b', "two\r\n"), edit('q', "why\0"s)}) {
      const auto answer = session.on_frame(frame);
      REQUIRE(answer.has_value());
      CHECK_FALSE(answer->has_value());
    }
    say(session, {verdict, {}});
    const auto edits = session.take_edits();
    CHECK(edits.is_empty() == !kept);
    if (kept) {
      CHECK(edits.body == "one\r\ntwo\r\n");
      CHECK(edits.quarantine == "why");
      CHECK(edits.header.size() == 1);
      CHECK(edits.envelope.size() == 1);
    }
    session.abort();
    CHECK(session.take_edits().is_empty());
  }
}

TEST_CASE("milter: an edit that was not agreed on is none", "[milter]") {
  const std::pair<Frame, std::uint32_t> edits[] = {
      {edit('h', "X\0v\0"s), milter::action::kAddHeader},
      {edit('i', number(0) + "X\0v\0"s), milter::action::kAddHeader},
      {edit('m', number(1) + "X\0v\0"s), milter::action::kChangeHeader},
      {edit('b', "x"), milter::action::kChangeBody},
      {edit('+', "a@b\0"s), milter::action::kAddRecipient},
      {edit('2', "a@b\0NOTIFY=NEVER\0"s), milter::action::kAddRecipientWithParameters},
      {edit('-', "a@b\0"s), milter::action::kDeleteRecipient},
      {edit('e', "a@b\0"s), milter::action::kChangeSender},
      {edit('q', "x\0"s), milter::action::kQuarantine}};
  for (const auto& [frame, bit] : edits) {
    CAPTURE(frame.kind);
    auto with = agreed(bit);
    auto without = agreed(milter::action::kAll & ~bit);
    go_to(with, 'E');
    go_to(without, 'E');
    CHECK(with.on_frame(frame).has_value());
    CHECK_FALSE(without.on_frame(frame).has_value());
  }
}

TEST_CASE("milter: edits have a limit in number and size", "[milter]") {
  const auto until_refused = [](const Frame& frame, milter::EditLimits limits) {
    milter::Session session(limits);
    session.open();
    say(session, negotiation(milter::action::kAll, 0));
    go_to(session, 'E');
    std::size_t taken = 0;
    while (session.on_frame(frame))
      ++taken;
    return taken;
  };
  CHECK(until_refused(edit('h', "X\0v\0"s), {10, 1000, 1000}) == 10);
  CHECK(until_refused(edit('h', "X\0"s + std::string(99, 'v') + "\0"s), {100, 1000, 1000}) >= 9);
  CHECK(until_refused(edit('b', std::string(95, 'v')), {10, 1000, 1000}) == 10);
  CHECK(until_refused(edit('b', ""), {10, 1000, 1000}) == 200);
}

TEST_CASE("milter: skip ends the body, and the end still comes", "[milter]") {
  auto session = agreed(0, milter::step::kSkip);
  go_to(session, 'B');
  CHECK(say(session, {'s', {}}).kind == Kind::go_on);
  CHECK_FALSE(session.wants_body());
  CHECK(at(session, 'B').bytes.empty());
  CHECK(kinds(at(session, 'E').bytes) == "DE");
  say(session, {'c', {}});
  session.abort();
  for (const char stage : std::string_view("MRTLN"))
    at(session, stage), say(session, {'c', {}});
  CHECK(session.wants_body());  // of the next message
}

TEST_CASE("milter: replies of filters become replies of ours", "[milter]") {
  struct Case {
    const char* text;
    const char* wire;
  };
  const Case cases[] = {
      {"550 5.7.1 No", "550 5.7.1 No\r\n"},
      {"550 No", "550 5.7.1 No\r\n"},
      {"451 4.7.5 Later", "451 4.7.5 Later\r\n"},
      {"550 4.2.0 Of another class", "550 5.7.1 Of another class\r\n"},
      {"550", "550 5.7.1 Refused\r\n"},
      {"550-5.7.1 one\r\n550-5.7.1 two\r\n550 5.7.1 three",
       "550-5.7.1 one\r\n550-5.7.1 two\r\n550 5.7.1 three\r\n"},
      {"550 5.7.1 100%% sure", "550 5.7.1 100% sure\r\n"},
      {"550 5.7.1 50% sure %%%", "550 5.7.1 50% sure %%\r\n"},
      {"550 5.7.1 a\x01\xff", "550 5.7.1 a??\r\n"},
      {"250 ok", "451 4.3.5 Server configuration problem - try again later\r\n"},
      {"5zz no", "451 4.3.5 Server configuration problem - try again later\r\n"},
      {"5501 no", "451 4.3.5 Server configuration problem - try again later\r\n"},
      {"550-one\r\n250 two", "451 4.3.5 Server configuration problem - try again later\r\n"},
      {"", "451 4.3.5 Server configuration problem - try again later\r\n"},
  };
  for (const auto& one : cases) {
    CAPTURE(one.text);
    const auto answer = milter::parse_answer({'y', one.text + "\0"s});
    REQUIRE(answer.has_value());
    CHECK(answer->reply.wire() == one.wire);
  }
  const auto longest = milter::parse_answer({'y', "550 " + std::string(5000, 'x') + "\0"s});
  REQUIRE(longest.has_value());
  CHECK(longest->reply.wire().size() <= 512);
}

namespace {

Edit header_edit(Edit::Kind kind, std::uint32_t index, const char* name, const char* value) {
  return {kind, index, name, value, {}};
}

const std::string kSection = "From: a\r\nTo: b\r\nX: 1\r\nx : 2\r\nX: 3\r\n fold\r\n";

}  // namespace

TEST_CASE("milter: header edits", "[milter]") {
  using K = Edit::Kind;
  struct Case {
    const char* what;
    std::vector<Edit> edits;
    std::string on_top, section;
  };
  const Case cases[] = {
      {"add", {header_edit(K::add_header, 0, "N", "v")}, "", kSection + "N: v\r\n"},
      {"insert above Received", {header_edit(K::insert_header, 0, "N", "v")}, "N: v\r\n", kSection},
      {"insert below Received",
       {header_edit(K::insert_header, 1, "N", "v")},
       "",
       "N: v\r\n" + kSection},
      {"below the first",
       {header_edit(K::insert_header, 2, "N", "v")},
       "",
       "From: a\r\nN: v\r\n" + kSection.substr(9)},
      {"two at 1 stand in reverse order",
       {header_edit(K::insert_header, 1, "A", "v"), header_edit(K::insert_header, 1, "B", "v")},
       "",
       "B: v\r\nA: v\r\n" + kSection},
      {"0, then 1",
       {header_edit(K::insert_header, 0, "A", "v"), header_edit(K::insert_header, 1, "B", "v")},
       "A: v\r\nB: v\r\n",
       kSection},
      {"past the end",
       {header_edit(K::insert_header, 0xffffffff, "N", "v")},
       "",
       kSection + "N: v\r\n"},
      {"change the second of a name",
       {header_edit(K::change_header, 2, "X", "new")},
       "",
       "From: a\r\nTo: b\r\nX: 1\r\nX: new\r\nX: 3\r\n fold\r\n"},
      {"delete from the highest",
       {header_edit(K::change_header, 3, "x", ""), header_edit(K::change_header, 2, "x", ""),
        header_edit(K::change_header, 1, "x", "")},
       "",
       "From: a\r\nTo: b\r\n"},
      {"delete the first thrice",
       {header_edit(K::change_header, 1, "X", ""), header_edit(K::change_header, 1, "X", ""),
        header_edit(K::change_header, 1, "X", ""), header_edit(K::change_header, 1, "X", "")},
       "",
       "From: a\r\nTo: b\r\n"},
      {"change what is not there",
       {header_edit(K::change_header, 1, "N", "v")},
       "",
       kSection + "N: v\r\n"},
      {"change one too far",
       {header_edit(K::change_header, 4, "X", "v")},
       "",
       kSection + "X: v\r\n"},
      {"delete what is not there", {header_edit(K::change_header, 1, "N", "")}, "", kSection},
      {"inserted ones count",
       {header_edit(K::insert_header, 1, "X", "0"), header_edit(K::change_header, 1, "X", "")},
       "",
       kSection},
      {"folds",
       {header_edit(K::add_header, 0, "N", "a\n b\n\tc\r\n d")},
       "",
       kSection + "N: a\r\n b\r\n\tc\r\n d\r\n"},
      {"no value is two fields",
       {header_edit(K::add_header, 0, "N", "a\nBcc: c\r\n\r\nbody")},
       "",
       kSection + "N: a\r\n\tBcc: c\r\n\tbody\r\n"},
      {"nor by CR alone",
       {header_edit(K::add_header, 0, "N", "a\rBcc: c\n")},
       "",
       kSection + "N: a\r\n\tBcc: c\r\n"},
  };
  for (const auto& one : cases) {
    CAPTURE(one.what);
    milter::Fields fields{"", kSection};
    CHECK(milter::apply_header_edits(one.edits, false, fields).has_value());
    CHECK(fields.on_top == one.on_top);
    CHECK(fields.section == one.section);
  }
  milter::Fields fields{"A: 1\r\nB: 2\r\n", "From x@y Mon Nov 23\r\nC: 3\r\n"};
  CHECK(milter::apply_header_edits(
            {header_edit(K::insert_header, 1, "N", " v"),
             header_edit(K::insert_header, 4, "M", "v"), header_edit(K::change_header, 1, "B", "")},
            true, fields)
            .has_value());
  CHECK(fields.on_top == "A: 1\r\nN: v\r\n");
  CHECK(fields.section == "From x@y Mon Nov 23\r\nM:v\r\nC: 3\r\n");
  for (const char* name : {"", "a b", "a:b", "a\nb", "\xc3\xbc"}) {
    milter::Fields same{"", kSection};
    CHECK_FALSE(milter::apply_header_edits({header_edit(K::add_header, 0, "N", "v"),
                                            header_edit(K::add_header, 0, name, "v")},
                                           false, same)
                    .has_value());
    CHECK(same.section == kSection);
  }
}

TEST_CASE("milter: envelope edits", "[milter]") {
  using K = Edit::Kind;
  mail::Envelope envelope;
  envelope.sender = "a@src.test";
  envelope.recipients = {{"b@dst.test", {}, {}}, {"\"q q\"@dst.test", {}, {}}};
  const auto apply = [&](std::vector<Edit> edits, milter::AddressRules rules = {}) {
    auto changed = envelope;
    const auto done = milter::apply_envelope_edits(edits, rules, changed);
    std::string all;
    if (!done)
      return "error"s + (changed == envelope ? "" : " and changed");
    all = "<" + changed.sender + ">";
    for (const auto& one : changed.recipients)
      all += " " + one.address;
    return all;
  };
  const std::string rest = " b@dst.test \"q q\"@dst.test";
  CHECK(apply({{K::add_recipient, 0, "", "<c@dst.test>", ""}}) ==
        "<a@src.test>" + rest + " c@dst.test");
  CHECK(apply({{K::add_recipient, 0, "", "c@dst.test", ""},
               {K::add_recipient, 0, "", "<c@dst.test>", ""},
               {K::add_recipient, 0, "", "b@dst.test", ""}}) ==
        "<a@src.test>" + rest + " c@dst.test");
  CHECK(apply({{K::add_recipient_with_parameters, 0, "", "c@dst.test", "NOTIFY=NEVER"}}) ==
        "<a@src.test>" + rest + " c@dst.test");
  CHECK(apply({{K::delete_recipient, 0, "", "<b@dst.test>", ""}}) ==
        "<a@src.test> \"q q\"@dst.test");
  CHECK(apply({{K::delete_recipient, 0, "", "B@DST.test", ""}}) == "<a@src.test> \"q q\"@dst.test");
  CHECK(apply({{K::delete_recipient, 0, "", "\"q q\"@dst.test", ""},
               {K::delete_recipient, 0, "", "b@dst.test", ""}}) == "<a@src.test>");
  CHECK(apply({{K::delete_recipient, 0, "", "<nobody@dst.test>", ""}}) == "<a@src.test>" + rest);
  CHECK(apply({{K::change_sender, 0, "", "<>", ""}}) == "<>" + rest);
  CHECK(apply({{K::change_sender, 0, "", "", ""}}) == "<>" + rest);
  CHECK(apply({{K::change_sender, 0, "", "z@src.test", "RET=HDRS SIZE=100"}}) ==
        "<z@src.test>" + rest);
  CHECK(apply({{K::add_recipient, 0, "", "c", ""}}, {.origin = "us.test"}) ==
        "<a@src.test>" + rest + " c@us.test");
  for (const char* bad : {"", "<>", "a b@c", "c@dst.test> NOTIFY=NEVER", "c@dst.test\r\nDATA", "@"})
    CHECK(apply({{K::delete_recipient, 0, "", "b@dst.test", ""},
                 {K::add_recipient, 0, "", bad, ""}}) == "error");
  CHECK(apply({{K::change_sender, 0, "", "x@y", "RET=NO"}}) == "error");
  CHECK(apply({{K::add_recipient, 0, "", "c@dst.test", ""}}, {.most_recipients = 2}) == "error");
}
