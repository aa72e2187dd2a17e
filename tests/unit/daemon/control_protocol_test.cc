#include "daemon/protocol/control_protocol.h"

#include "base/base64.h"
#include "daemon/control/control_filter.h"
#include "daemon/protocol/submit_protocol.h"
#include "tests/support/results.h"

#include <catch2/catch.hpp>

namespace postrider::daemon {
namespace {

ControlRequest full_request() {
  ControlRequest request;
  request.act = "change";
  request.verb = "hold";
  request.target = "x'/**/UNION/**/SELECT/**/1--@us";
  request.dry_run = request.all = request.body = request.as_reader = true;
  request.filter.ids = {"06ABCDEFGHJ", "06ABCDEFGHK"};
  request.filter.from = "";
  request.filter.reply = "a \"quoted\"\r\n\x1b text";
  request.filter.older = "2h";
  return request;
}

TEST_CASE("a control request survives its line", "[daemon][unit]") {
  const auto request = full_request();
  const auto line = encode(request);
  REQUIRE(line.find('\n') == line.size() - 1);
  const auto read = decode_control_request(std::string_view(line).substr(0, line.size() - 1));
  REQUIRE(read);
  CHECK(encode(*read) == line);
  CHECK(read->filter.from == "");
  CHECK(read->as_reader);
  CHECK(read->filter.reply == request.filter.reply);
  CHECK_FALSE(read->filter.matches_all());
  CHECK(ControlRequest().filter.matches_all());
}

TEST_CASE("I14: a control request that is not one is refused", "[daemon][unit]") {
  std::string deep;
  for (int i = 0; i < 1000; ++i)
    deep.append("{\"filter\":");
  for (const std::string& line :
       {std::string(), std::string("{"), std::string("[]"), std::string("null"),
        std::string("{} {}"), std::string(R"({"act":1})"), std::string(R"({"unknown":"x"})"),
        std::string(R"({"all":"yes"})"), std::string(R"({"act":"list","as_reader":"no"})"),
        std::string(R"({"filter":[]})"), std::string(R"({"filter":{"ids":"x"}})"),
        std::string(R"({"filter":{"ids":[1]}})"), std::string(R"({"filter":{"older":5}})"),
        std::string(R"({"filter":{"sql":"x"}})"), std::string("{\"act\":\"\xff\"}"), deep,
        "{\"act\":\"" + std::string(70'000, 'a') + "\"}"}) {
    INFO(line.substr(0, 60));
    CHECK_FALSE(decode_control_request(line));
  }
}

TEST_CASE("the end of an answer is told from its lines", "[daemon][unit]") {
  ControlEnd end;
  end.exit_code = 75;
  end.error = "try later";
  auto line = parse_json_line(encode(end));
  REQUIRE(line);
  const auto found = find_end(*line);
  REQUIRE(found);
  CHECK(found->exit_code == 75);
  CHECK(found->error == "try later");
  auto other = parse_json_line(R"({"message":{"end":{}}})");
  REQUIRE(other);
  CHECK_FALSE(find_end(*other));
}

TEST_CASE("a filter is checked before the queue sees it", "[daemon][unit]") {
  struct Case {
    const char* name;
    std::optional<std::string> FilterText::*member;
    const char* text;
    bool good;
  };
  const Case cases[] = {
      {"a time", &FilterText::older, "2h30m", true},
      {"a time without a unit", &FilterText::older, "2", false},
      {"a size", &FilterText::larger, "64KiB", true},
      {"a size without a unit", &FilterText::larger, "64", false},
      {"a status", &FilterText::status, "held", true},
      {"an unknown status", &FilterText::status, "lost", false},
      {"a domain in capitals", &FilterText::domain, "EXAMPLE.org.", true},
      {"no domain", &FilterText::domain, "", false},
      {"no sender", &FilterText::from, "", false},
      {"no recipient", &FilterText::to, "", false},
      {"no reply", &FilterText::reply, "", false},
      {"no site", &FilterText::site, "", false},
      {"no status", &FilterText::status, "", false},
      {"no age", &FilterText::older, "", false},
      {"no size", &FilterText::larger, "", false},
      {"the null sender", &FilterText::from, "<>", true},
      {"I05: SQL is text", &FilterText::from, "x'; DROP TABLE q;--@us", true},
      {"an endless address", &FilterText::to, nullptr, false},
  };
  const std::string endless(3000, 'a');
  for (const auto& c : cases) {
    DYNAMIC_SECTION(c.name) {
      FilterText text;
      text.*c.member = c.text != nullptr ? c.text : endless;
      const auto filter = to_filter(text);
      CHECK(filter.has_value() == c.good);
      if (!c.good)
        CHECK(filter.error().step().find("--") == 0);
    }
  }
  FilterText text;
  text.domain = "EXAMPLE.org.";
  CHECK(to_filter(text)->domain == "example.org");
  // As SMTP took it; what is no address is left as it was typed.
  for (const auto& [given, meant] : {std::pair("x@far.test.", "x@far.test"),
                                     {"<x@far.test.>", "x@far.test"},
                                     {"@far.test.", "@far.test"},
                                     {"Postmaster", "Postmaster"},
                                     {"a b@far.test.", "a b@far.test."}}) {
    FilterText of_address;
    of_address.to = of_address.from = given;
    const auto filter = to_filter(of_address);
    REQUIRE(filter.has_value());
    CHECK(filter->to == meant);
    CHECK(filter->from == meant);
  }
  text.ids = {"not an id"};
  CHECK_FALSE(to_filter(text));
}

TEST_CASE("base64 carries any octets", "[daemon][unit]") {
  std::string bytes;
  for (int i = 0; i < 300; ++i) {
    CHECK(decode_base64(encode_base64(bytes)) == bytes);
    bytes.push_back(static_cast<char>(i * 7));
  }
  CHECK(encode_base64("any carnal pleas") == "YW55IGNhcm5hbCBwbGVhcw==");
  for (const char* wrong : {"A", "AA", "AAA", "A===", "AA=A", "A\nAA", "====", "AA==AA=="})
    CHECK_FALSE(decode_base64(wrong));
}

SubmitHeader full_header() {
  SubmitHeader header;
  header.sender = "a@b";
  header.recipients = {"c@d", "root", "c@d"};
  header.author = "me@mx.test";
  header.full_name = "J\xC3\xBCrgen \"x\"";
  header.size = 12345;
  header.body = mail::BodyType::eight_bit_mime;
  header.notify.bits = mail::Notify::kSuccess | mail::Notify::kDelay;
  header.ret = mail::Return::headers;
  header.envelope_id = "a+2Bb";
  header.hand_over = new_hand_over();
  header.dsn["root"] = {{mail::Notify::kFailure}, "rfc822;a+2Bb@c"};
  return header;
}

TEST_CASE("a submission's header survives its line", "[daemon][unit]") {
  const auto line = encode(full_header());
  REQUIRE(line.find('\n') == line.size() - 1);
  const auto read = decode_submit_header(line);
  REQUIRE(read);
  CHECK(encode(*read) == line);
  CHECK(read->dsn == full_header().dsn);
}

TEST_CASE("a hand-over is known by its user and what he calls it, for a week", "[daemon][unit]") {
  SubmitHeader header;
  CHECK(hand_over_id(header, 1000).empty());
  header.hand_over = new_hand_over();
  CHECK(header.hand_over != new_hand_over());
  const auto id = hand_over_id(header, 1000);
  CHECK(id == "+1000." + header.hand_over);
  CHECK(id != hand_over_id(header, 100));
  CHECK(is_hand_over(id));
  CHECK_FALSE(is_hand_over("00000000001.1000"));  // of a file
  const auto now = std::chrono::floor<std::chrono::milliseconds>(std::chrono::system_clock::now());
  CHECK_FALSE(is_forgettable_hand_over(id, now));
  CHECK_FALSE(is_forgettable_hand_over(id, now + std::chrono::hours(7 * 24 - 1)));
  CHECK(is_forgettable_hand_over(id, now + std::chrono::hours(7 * 24 + 1)));
  CHECK(is_forgettable_hand_over(id, now - std::chrono::hours(7 * 24 + 1)));
  for (const char* odd : {"+1000.", "+1000.-", "+1000.ffffffffffffffffffff", "+", "+x"})
    CHECK(is_forgettable_hand_over(odd, now));
}

TEST_CASE("a submission's header of an earlier version names no hand-over", "[daemon][unit]") {
  const auto read = decode_submit_header(R"({"postrider":1,"recipients":["a"],"size":1})");
  REQUIRE(read);
  CHECK(read->hand_over.empty());
}

TEST_CASE("a submission's header becomes an envelope with whole addresses", "[daemon][unit]") {
  const auto envelope = to_envelope(full_header(), "mx.test", 10);
  REQUIRE(envelope);
  CHECK(envelope->sender == "a@b");
  REQUIRE(envelope->recipients.size() == 2);
  CHECK(envelope->recipients[0].address == "c@d");
  CHECK(envelope->recipients[1].address == "root@mx.test");
  CHECK(envelope->recipients[0].notify == full_header().notify);
  CHECK(envelope->recipients[0].original_recipient.empty());
  CHECK(envelope->recipients[1].notify.bits == mail::Notify::kFailure);
  CHECK(envelope->recipients[1].original_recipient == "rfc822;a+2Bb@c");
  CHECK(envelope->ret == mail::Return::headers);
  CHECK_FALSE(envelope->smtputf8);
}

TEST_CASE("a submission's ORCPT is kept only if RCPT would keep it", "[daemon][unit]") {
  const std::pair<const char*, const char*> cases[] = {
      {"rfc822;x@y", "rfc822;x@y"},
      {"x@y", ""},
      {"rfc822;a+0D+0Ab@y", ""},
      {"utf-8;\xC3\xBC@y", "utf-8;\\x{FC}@y"},
  };
  for (const auto& [given, kept] : cases) {
    INFO(given);
    const auto read = decode_submit_header(R"({"recipients":["\"a b\"@c"],"size":1,"dsn":["2 )" +
                                           std::string(given) + R"( \"a b\"@c"]})");
    REQUIRE(read);
    CHECK(dsn_of(*read, "\"a b\"@c") == SubmitDsn{{2}, kept});
    CHECK(dsn_of(*read, "other") == SubmitDsn{});
  }
}

TEST_CASE("a submission's header that is hostile is refused", "[daemon][unit]") {
  for (const char* line :
       {"",
        "{}",
        R"({"recipients":[],"size":-1})",
        R"({"recipients":["a"],"size":1e3})",
        R"({"recipients":["a"],"size":18446744073709551615})",
        R"({"recipients":"a","size":1})",
        R"({"recipients":[1],"size":1})",
        R"({"recipients":["a"],"size":1,"body":2})",
        R"({"recipients":["a"],"size":1,"notify":16})",
        R"({"recipients":["a"],"size":1,"ret":3})",
        R"({"recipients":["a"],"size":1,"sender":{}})",
        R"({"recipients":["a"]})",
        R"({"postrider":"a.b","recipients":["a"],"size":1})",
        R"({"postrider":"A","recipients":["a"],"size":1})",
        R"({"recipients":["a"],"size":1,"dsn":"2  a"})",
        R"({"recipients":["a"],"size":1,"dsn":["2 "]})",
        R"({"recipients":["a"],"size":1,"dsn":["16  a"]})",
        R"({"recipients":["a"],"size":1,"dsn":["-1  a"]})",
        R"({"recipients":["a"],"size":1,"dsn":[2]})",
        R"({"postrider":"00000000000000000000000000000000000000000000000000000000000000000",)"
        R"("recipients":["a"],"size":1})"}) {
    INFO(line);
    CHECK_FALSE(decode_submit_header(line));
  }
}

TEST_CASE("an envelope with what is not an address is refused", "[daemon][unit]") {
  for (const char* address : {"a@b\r\nRCPT TO:<x@y>", "a b@c", "@b", "a@", "", "a@b@c", "<a@b>",
                              "a\x01@b", "a@-b.", "a@[127.0.0.1"}) {
    SubmitHeader header;
    header.recipients = {address};
    INFO(address);
    CHECK_FALSE(to_envelope(header, "mx.test", 10));
  }
  SubmitHeader many;
  for (int i = 0; i < 11; ++i)
    many.recipients.push_back("u" + std::to_string(i));
  CHECK_FALSE(to_envelope(many, "mx.test", 10));
  SubmitHeader id;
  id.recipients = {"a@b"};
  id.envelope_id = "a b";
  CHECK_FALSE(to_envelope(id, "mx.test", 10));
}

TEST_CASE("I02 and I05: odd local parts stay what they are", "[daemon][unit]") {
  for (const char* address : {"-Cx@us", "--help@us", "x'/**/UNION/**/SELECT/**/1--@us"}) {
    SubmitHeader header;
    header.recipients = {address};
    const auto envelope = to_envelope(header, "mx.test", 10);
    REQUIRE(envelope);
    CHECK(envelope->recipients[0].address == address);
  }
}

TEST_CASE("an answer to a submission is an id or an error, never both", "[daemon][unit]") {
  SubmitAnswer answer;
  answer.id = "06ABCDEFGHJ";
  CHECK(decode_submit_answer(encode(answer))->id == answer.id);
  answer.exit_code = 75;
  answer.error = "later";
  const auto read = decode_submit_answer(encode(answer));
  REQUIRE(read);
  CHECK(read->id.empty());
  CHECK(read->error == "later");
  for (const char* wrong : {"{}", R"({"exit":0})", R"({"exit":75})", R"({"exit":"0","id":"x"})"})
    CHECK_FALSE(decode_submit_answer(wrong));
}

}  // namespace
}  // namespace postrider::daemon
