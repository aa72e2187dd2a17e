// What other mail servers left in their queues: files built by hand, whole and damaged.
#include "daemon/control/import_messages.h"
#include "daemon/predecessor/exim_file.h"
#include "daemon/predecessor/field_filter.h"
#include "daemon/predecessor/old_mail_taker.h"
#include "daemon/predecessor/old_queue.h"
#include "daemon/predecessor/postfix_file.h"
#include "tests/unit/daemon/doors.h"

#include <catch2/catch.hpp>

#include <array>
#include <cstdio>
#include <fcntl.h>
#include <fstream>
#include <functional>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

namespace postrider::daemon {
namespace {

std::string record(char type, std::string_view data) {
  std::string out(1, type);
  auto length = data.size();
  do {
    const auto octet = static_cast<unsigned char>(length & 0x7FU);
    length >>= 7U;
    out.push_back(static_cast<char>(length > 0 ? octet | 0x80U : octet));
  } while (length > 0);
  return out.append(data);
}

std::string records(const std::vector<std::pair<char, std::string>>& all) {
  std::string out;
  for (const auto& [type, data] : all)
    out += record(type, data);
  return out;
}

// "%15ld %15ld %15ld %15ld %15ld %15ld" of cleanup(8).
std::string size_record(std::size_t content, std::size_t begin, std::size_t recipients,
                        unsigned options = 0) {
  std::array<char, 128> text{};
  std::snprintf(text.data(), text.size(), "%15zu %15zu %15zu %15d %15zu %15u", content, begin,
                recipients, 0, content, options);
  return record('C', text.data());
}

// A queue file with that envelope, content and what was extracted, with the sizes put right.
std::string postfix_file(const std::string& envelope, const std::string& content,
                         const std::string& extra = {}, unsigned options = 0) {
  const auto begin = size_record(0, 0, 0).size() + envelope.size() + record('M', "").size();
  return size_record(content.size(), begin, 1, options) + envelope + record('M', "") + content +
         record('X', "") + extra + record('E', "");
}

const std::string kTime = record('T', "1796033624 163721");
const std::string kSender = record('S', "ann@us.example");
const std::string kLines = record('N', "Subject: x") + record('N', "") + record('N', "body");

struct ReadPostfix {
  Result<OldMessage> message;
  std::string content;
};
ReadPostfix read_postfix(const std::string& file, bool is_dropped = false) {
  std::string content;
  const PostfixRules rules{is_dropped, "us.example"};
  auto message =
      read_postfix_file(file_of(file), rules, [&content](std::string_view piece) -> Result<void> {
        content.append(piece);
        return {};
      });
  return {std::move(message), std::move(content)};
}

TEST_CASE("a queue file of Postfix gives those who still wait, with all that was asked for them",
          "[predecessor][postfix]") {
  const auto envelope = kTime + records({{'A', "create_time=1796033624"},
                                         {'A', "envelope_id=QQ+314"},
                                         {'A', "ret_flags=2"},
                                         {'S', "ann@us.example"},
                                         {'A', "encoding=8bit"},
                                         {'A', "log_client_name=unknown"},
                                         {'A', "log_client_address=192.0.2.1"},
                                         {'A', "log_helo_name=client.example"},
                                         {'A', "log_protocol_name=ESMTP"},
                                         {'A', "sasl_username=ann"},
                                         {'A', "notify_flags=2"},
                                         {'A', "dsn_orig_rcpt=rfc822;bob+x@old.example"},
                                         {'O', "bob@done.example"},
                                         {'D', "bob@done.example"},
                                         {'A', "notify_flags=10"},
                                         {'A', "dsn_orig_rcpt=rfc822;eve+x@old.example"},
                                         {'O', "eve@later.example"},
                                         {'R', "eve@later.example"},
                                         {'A', "notify_flags=1"},
                                         {'R', "a b@later.example"},
                                         {'/', "gone@later.example"},
                                         {'K', "killed=1"},
                                         {'R', "plain@later.example"}});
  const auto read = read_postfix(postfix_file(envelope, kLines, record('A', "encoding=8bit"), 1));
  REQUIRE(read.message);
  const auto& message = *read.message;
  REQUIRE(message.envelopes.size() == 1);
  const auto& form = message.envelopes.front();
  CHECK(form.sender == "ann@us.example");
  CHECK(form.envelope_id == "QQ+2B314");
  CHECK(form.ret == mail::Return::headers);
  CHECK(form.body == mail::BodyType::eight_bit_mime);
  CHECK(form.smtputf8);
  CHECK(message.done == 2);
  REQUIRE(form.recipients.size() == 3);
  CHECK(form.recipients[0].address == "eve@later.example");
  CHECK(form.recipients[0].original_recipient == "rfc822;eve+2Bx@old.example");
  CHECK(form.recipients[0].notify.bits == (mail::Notify::kSuccess | mail::Notify::kDelay));
  CHECK(form.recipients[1].address == "\"a b\"@later.example");
  CHECK(form.recipients[1].original_recipient.empty());
  CHECK(form.recipients[1].notify.bits == mail::Notify::kNever);
  CHECK(form.recipients[2].notify.bits == 0);
  CHECK(message.received == TimePoint(Duration(1796033624163)));
  CHECK(message.origin.client == "client.example[192.0.2.1]");
  CHECK(message.origin.protocol == "ESMTPA");
  CHECK(message.hold.empty());
  CHECK(read.content == "Subject: x\n\nbody\n");
}

TEST_CASE("lines of Postfix that go on in the next record are one", "[predecessor][postfix]") {
  struct Case {
    std::string name, content, want;
  };
  const std::string part(2048, 'x');
  const std::vector<Case> cases = {
      {"a long line", record('L', part) + record('L', part) + record('N', "end"),
       part + part + "end\n"},
      {"no end of the last line", record('N', "a") + record('L', "b"), "a\nb"},
      {"an empty rest", record('L', "b") + record('N', ""), "b\n"},
      {"padding is none of it", record('N', "a") + record('w', "zzz") + record('N', "b"), "a\nb\n"},
      {"8 bits and NUL", record('N', std::string("\xE5\0z", 3)), std::string("\xE5\0z\n", 4)},
      {"nothing", "", ""},
  };
  for (const auto& c : cases)
    DYNAMIC_SECTION(c.name) {
      const auto read =
          read_postfix(postfix_file(kTime + kSender + record('R', "b@c.example"), c.content));
      REQUIRE(read.message);
      CHECK(read.content == c.want);
    }
}

std::string pointer(std::size_t to) {
  std::array<char, 32> text{};
  std::snprintf(text.data(), text.size(), "%15zu", to);
  return record('p', text.data());
}

TEST_CASE("records that a filter put behind the end of a Postfix file are read in their place",
          "[predecessor][postfix]") {
  const auto room = pointer(0);
  const auto content = record('N', "A: 1") + room + record('N', "") + record('N', "b");
  auto file = postfix_file(kTime + kSender + record('R', "b@c.example") + room, content);
  const auto end = file.size();
  const auto first = file.find(room), second = file.rfind(room);
  REQUIRE(first < second);
  file.replace(first, room.size(), pointer(end));
  file += record('R', "added@c.example") + pointer(first + room.size());
  const auto more = file.size();
  file.replace(second, room.size(), pointer(more));
  file += record('N', "X-Filter: 1") + pointer(second + room.size());
  const auto read = read_postfix(file);
  REQUIRE(read.message);
  CHECK(read.content == "A: 1\nX-Filter: 1\n\nb\n");
  REQUIRE(read.message->waiting() == 2);
  CHECK(read.message->envelopes[0].recipients[1].address == "added@c.example");
}

TEST_CASE("mail of Postfix that is not just to be sent says why", "[predecessor][postfix]") {
  struct Case {
    std::string name, extra, hold, never;
  };
  const std::vector<Case> cases = {
      {"a content filter", record('L', "smtp-amavis:[127.0.0.1]:10024"),
       "it waits for a content filter of Postfix (smtp-amavis:[127.0.0.1]:10024)", ""},
      {"sendmail -bv", record('A', "trace_flags=512"), "",
       "it only asks whether its addresses can be reached"},
      {"sendmail -v", record('A', "trace_flags=1024"), "", ""},
  };
  for (const auto& c : cases)
    DYNAMIC_SECTION(c.name) {
      const auto read = read_postfix(
          postfix_file(kTime + c.extra + kSender + record('R', "b@c.example"), kLines));
      REQUIRE(read.message);
      CHECK(read.message->hold == c.hold);
      CHECK(read.message->never == c.never);
    }
}

TEST_CASE("senders and recipients of Postfix that stand for others are as it would send",
          "[predecessor][postfix]") {
  const auto at = [](const OldMessage& message, std::size_t i) {
    const auto& form = message.envelopes.at(i);
    return form.sender + " " + form.recipients.at(0).address;
  };
  SECTION("VERP: a sender for each") {
    const auto read = read_postfix(postfix_file(
        kTime + record('S', "list-return@us.example") + record('V', "+=") +
            record('O', "al@x.example") + record('R', "b@c.example") + record('R', "d@e.example"),
        kLines));
    REQUIRE(read.message);
    REQUIRE(read.message->envelopes.size() == 2);
    CHECK(at(*read.message, 0) == "list-return+al=x.example@us.example b@c.example");
    CHECK(at(*read.message, 1) == "list-return+d=e.example@us.example d@e.example");
  }
  SECTION("a redirection: all of it, once") {
    const auto read =
        read_postfix(postfix_file(kTime + kSender + record('>', "z@z.example") +
                                      record('R', "b@c.example") + record('R', "d@e.example"),
                                  kLines));
    REQUIRE(read.message);
    CHECK(read.message->waiting() == 1);
    CHECK(at(*read.message, 0) == "ann@us.example z@z.example");
  }
  SECTION("recipients that were found in the header; the null sender") {
    const auto read =
        read_postfix(postfix_file(kTime + record('S', ""), kLines, record('R', "b@c.example")));
    REQUIRE(read.message);
    CHECK(at(*read.message, 0) == " b@c.example");
  }
  SECTION("what sendmail left has no domain yet, and no size") {
    const auto read = read_postfix(kTime + records({{'F', "Full Name"},
                                                    {'S', "root"},
                                                    {'R', "carl"},
                                                    {'M', ""},
                                                    {'N', "a"},
                                                    {'X', ""},
                                                    {'E', ""}}),
                                   true);
    REQUIRE(read.message);
    CHECK(at(*read.message, 0) == "root@us.example carl@us.example");
    CHECK(read.message->full_name == "Full Name");
  }
}

TEST_CASE("who failed with Postfix waits again while the sender does not know of it",
          "[predecessor][postfix]") {
  const auto named = read_bounce_log(
      "<a@b.example>: host said: 550 no\nrecipient=a@b.example\noffset=706\naction=failed\n\n"
      "recipient=nobody@b.example\nrecipient=");
  const auto file =
      postfix_file(kTime + kSender + record('A', "notify_flags=4") + record('D', "a@b.example") +
                       record('D', "c@d.example") + record('R', "e@f.example"),
                   kLines);
  const PostfixRules rules{false, "us.example", &named};
  const auto read = read_postfix_file(file_of(file), rules);
  REQUIRE(read);
  CHECK(read->done == 1);
  REQUIRE(read->waiting() == 2);
  CHECK(read->envelopes[0].recipients[0].address == "a@b.example");
  CHECK(read->envelopes[0].recipients[0].notify.bits == mail::Notify::kFailure);
  CHECK(read->envelopes[0].recipients[1].address == "e@f.example");
}

TEST_CASE("a damaged file of Postfix is told from a whole one", "[predecessor][postfix]") {
  const auto whole = postfix_file(kTime + kSender + record('R', "b@c.example"), kLines);
  REQUIRE(read_postfix(whole).message);
  struct Case {
    std::string name, file, want;
  };
  const auto begin = size_record(0, 0, 0).size();
  const std::vector<Case> cases = {
      {"nothing", "", "it is cut off"},
      {"NULs", std::string(4096, '\0'), "it is not a queue file of Postfix, or it is damaged"},
      {"text", "Subject: hello\n\nbody\n", "cut off"},
      {"no sender", postfix_file(kTime + record('R', "b@c.example"), kLines), "it has no sender"},
      {"no time", postfix_file(kSender + record('R', "b@c.example"), kLines), "not complete"},
      {"a time that is none", postfix_file(record('T', "soon") + kSender, kLines), "time"},
      {"a time beyond all", postfix_file(record('T', "99999999999999") + kSender, kLines), "time"},
      {"a recipient with a line end",
       postfix_file(kTime + kSender + record('R', "b\n@c.example"), kLines), "control character"},
      {"a sender with a NUL",
       postfix_file(
           kTime + record('S', std::string("a\0b@c.example", 13)) + record('R', "b@c.example"),
           kLines),
       "control character"},
      {"a length of too many octets", "T\xFF\xFF\xFF\xFF\xFF\xFF\x01", "cannot be"},
      {"a length beyond the file", "T\xFF\xFF\x7F", "cut off"},
      {"a length beyond all", "T\xFF\xFF\xFF\x7F", "too long"},
      {"an attribute without a value", postfix_file(kTime + record('A', "x") + kSender, kLines),
       "attribute"},
      {"content twice", postfix_file(kTime + kSender, kLines, record('M', "")), "twice"},
      {"an end before the content", kTime + kSender + record('E', ""), "before its content"},
      {"an address in the content", postfix_file(kTime + kSender, record('R', "b@c.example")),
       "does not belong"},
      {"a line in the envelope", postfix_file(kTime + kSender + record('N', "x"), kLines),
       "not a queue file"},
      {"a pointer to nowhere", postfix_file(kTime + kSender + pointer(100'000), kLines),
       "to nowhere"},
      {"a pointer that is none", postfix_file(kTime + kSender + record('p', "-1"), kLines),
       "to nowhere"},
      {"a pointer to itself", postfix_file(kTime + kSender + pointer(begin), kLines), "circle"},
      {"a pointer within the content", postfix_file(kTime + kSender, pointer(begin + 5) + kLines),
       ""},
  };
  for (const auto& c : cases)
    DYNAMIC_SECTION(c.name) {
      const auto read = read_postfix(c.file);
      REQUIRE_FALSE(read.message);
      CHECK(read.message.error().code() == Errc::malformed);
      CHECK_THAT(read.message.error().step(), Catch::Contains(c.want));
    }
  SECTION("cut anywhere") {
    for (std::size_t size = 0; size < whole.size(); ++size)
      CHECK_FALSE(read_postfix(whole.substr(0, size)).message);
  }
  SECTION("a line lost of the content") {
    auto file = whole;
    file.erase(file.find(record('N', "body")), record('N', "body").size());
    const auto read = read_postfix(file);
    REQUIRE_FALSE(read.message);
    CHECK_THAT(read.message.error().step(), Catch::Contains("size"));
  }
}

// Exim

const std::string kId = "1xXyPG-0001JK-1w";
const std::string kBegin = kId + "-H\nDebian-exim 2999 2999\n<ann@us.example>\n1796033686 0\n";
const std::string kFields = "\n010  Subject: x\n";

std::string counted_field(char what, const std::string& field) {
  std::array<char, 16> number{};
  std::snprintf(number.data(), number.size(), "%03zu%c ", field.size(), what);
  return number.data() + field;
}

std::string exim_file(const std::string& options, const std::string& done,
                      const std::vector<std::string>& recipients,
                      const std::string& fields = counted_field(' ', "Subject: x\n")) {
  std::string text = kBegin + options + done + std::to_string(recipients.size()) + "\n";
  for (const auto& one : recipients)
    text += one + "\n";
  return text + "\n" + fields;
}

Result<EximHeader> read_exim(const std::string& text, const std::string& journal = {}) {
  return read_exim_header(text, kId, journal, "us.example");
}

TEST_CASE("a message of Exim gives those who still wait, with all that was asked for them",
          "[predecessor][exim]") {
  const auto text = exim_file(
      "-received_time_usec .602010\n--helo_name client.example\n-host_address [192.0.2.1]:56502\n"
      "-received_protocol esmtp\n-host_auth login\n-aclm _x 12\n-frozen 1 2\n\n-body_linecount 6\n"
      "-tls_resumption A\n-dsn_envid QQ+2B314\n-dsn_ret 2\n-smtputf8\n-something new\n",
      "YY bob@done.example\nYN bob@DONE.example\nNN a@done.example\nNY c1@done.example\n"
      "NN z@done.example\n",
      {"bob@DONE.example rfc822;bob+2Bx@old.example 26,4  0,-1#3",
       "eve@later.example rfc822;eve+2Bx@old.example 26,20  0,-1#3",
       "\"a b\"@later.example  0,2  0,-1#3", "list@alias.example", "old@later.example 7",
       "older@later.example 1,1,0", "one@later.example err@us.example 14,0#1"},
      counted_field('P', "Received: x\n\tby y;\n") + counted_field('*', "From: x@rew.example\n") +
          counted_field('F', "From: new@later.example\n") + counted_field(' ', "Subject: \xE5\n"));
  const auto read = read_exim(text, "plain@later.example\nolder@later.example\nhalf@la");
  REQUIRE(read);
  const auto& message = read->message;
  CHECK(message.hold.empty());
  CHECK(message.done == 2);  // one by the journal
  CHECK(message.received == TimePoint(std::chrono::seconds(1796033686)));
  CHECK(message.origin.client == "client.example[192.0.2.1]");
  CHECK(message.origin.protocol == "ESMTPA");
  REQUIRE(message.envelopes.size() == 2);
  const auto& form = message.envelopes.front();
  CHECK(form.sender == "ann@us.example");
  CHECK(form.envelope_id == "QQ+2B314");
  CHECK(form.ret == mail::Return::headers);
  CHECK(form.smtputf8);
  REQUIRE(form.recipients.size() == 4);
  CHECK(form.recipients[0].address == "eve@later.example");
  CHECK(form.recipients[0].original_recipient == "rfc822;eve+2Bx@old.example");
  CHECK(form.recipients[0].notify.bits == (mail::Notify::kSuccess | mail::Notify::kDelay));
  CHECK(form.recipients[1].address == "\"a b\"@later.example");
  CHECK(form.recipients[1].notify.bits == mail::Notify::kNever);
  CHECK(form.recipients[2].address == "list@alias.example");
  CHECK(form.recipients[3].address == "old@later.example");
  CHECK(message.envelopes[1].sender == "err@us.example");
  CHECK(message.envelopes[1].recipients[0].address == "one@later.example");
  CHECK(message.behind == std::vector<std::string>{"a@done.example", "c1@done.example", "half@la",
                                                   "plain@later.example", "z@done.example"});
  CHECK(read->header == "Received: x\n\tby y;\nFrom: new@later.example\nSubject: \xE5\n");
}

TEST_CASE("recipients of Exim with the same sender of their own have one envelope",
          "[predecessor][exim]") {
  const auto read =
      read_exim(exim_file("", "XX\n",
                          {"a@b.example", "b@b.example x@us.example 12,0#1",
                           "c@b.example y@us.example 12,0#1", "d@b.example x@us.example 12,0#1"}));
  REQUIRE(read);
  std::string text;
  for (const auto& envelope : read->message.envelopes) {
    text += envelope.sender + ":";
    for (const auto& recipient : envelope.recipients)
      text += " " + recipient.address;
    text += "\n";
  }
  CHECK(text ==
        "ann@us.example: a@b.example\nx@us.example: b@b.example d@b.example\n"
        "y@us.example: c@b.example\n");
}

TEST_CASE("options of Exim decide what becomes of a message", "[predecessor][exim]") {
  struct Case {
    std::string name, options, hold, client, protocol;
  };
  const std::vector<Case> cases = {
      {"none", "", "", "local uid 2999", "local"},
      {"frozen", "-frozen 1796033688\n", "it was frozen in Exim", "local uid 2999", "local"},
      {"-N", "-N\n", "it was not to be delivered (exim -N)", "local uid 2999", "local"},
      {"frozen only within a variable", "-aclc x 9\n-frozen 1\n", "", "local uid 2999", "local"},
      {"an address with a port behind a dot",
       "-host_address 192.0.2.1.25\n-received_protocol esmtps\n", "", "[192.0.2.1]", "ESMTPS"},
      {"an IPv6 address with a port behind a dot",
       "-host_address 2001:db8::1.25\n-received_protocol smtp\n", "", "[2001:db8::1]", "SMTP"},
      {"a value that Exim does not trust", "--(lsearch)host_address [192.0.2.1]:1\n", "",
       "[192.0.2.1]", ""},
  };
  for (const auto& c : cases)
    DYNAMIC_SECTION(c.name) {
      const auto read = read_exim(exim_file(c.options, "XX\n", {"b@c.example"}));
      REQUIRE(read);
      CHECK(read->message.hold == c.hold);
      CHECK(read->message.origin.client == c.client);
      CHECK(read->message.origin.protocol == c.protocol);
    }
}

TEST_CASE("a damaged file of Exim is told from a whole one", "[predecessor][exim]") {
  const auto whole = exim_file("-aclm x 3\nabc\n", "YN a@b.example\nNN c@d.example\n",
                               {"b@c.example", "e@f.example  0,2  0,-1#3"});
  REQUIRE(read_exim(whole));
  const auto other = [&whole](const std::string& from, const std::string& to) {
    auto text = whole;
    text.replace(text.find(from), from.size(), to);
    return text;
  };
  struct Case {
    std::string name, text, want;
  };
  const std::vector<Case> cases = {
      {"nothing", "", "own name"},
      {"another's name", other("1w-H", "1x-H"), "own name"},
      {"no user", other("Debian-exim 2999 2999", "x"), "user"},
      {"no sender", other("<ann@us.example>", "ann@us.example"), "sender"},
      {"a sender that is none", other("<ann@us.example>", "<ann us>"), "not an address"},
      {"no time", other("1796033686 0", "soon"), "time"},
      {"a variable beyond the file", other("-aclm x 3", "-aclm x 99999999"), "variable"},
      {"a variable with no length", other("-aclm x 3", "-aclm x -3"), "variable"},
      {"a tree that goes on", other("YN a@b", "YY a@b"), "have had it"},
      {"a tree of something else", other("YN a@b", "Yx a@b"), "have had it"},
      {"more recipients than there are", other("\n2\n", "\n3\n"), "not an address"},
      {"fewer", other("\n2\n", "\n1\n"), "header does not begin"},
      {"too many for anybody", other("\n2\n", "\n99999999999\n"), "number of recipients"},
      {"a length before the line", other("0,2  0,-1#3", "0,2  77,-1#3"), "damaged line"},
      {"a length before the line, of ORCPT", other("0,2  0,-1#3", "99,2  0,-1#3"), "damaged line"},
      {"marks without numbers", other("  0,2  0,-1#3", "#3"), "damaged line"},
      {"a field that goes beyond the end", other("011  Subj", "999  Subj"), "cut off"},
      {"a field that ends too soon", other("011  Subj", "005  Subj"), "header is damaged"},
      {"a field without a length", other("011  Subj", "  Subj"), "header is damaged"},
      {"NULs behind it", whole + std::string(100, '\0'), "header is damaged"},
      {"NULs in it", other("Subject", std::string("Sub\0ect", 7)), "header is damaged"},
  };
  for (const auto& c : cases)
    DYNAMIC_SECTION(c.name) {
      const auto read = read_exim(c.text);
      REQUIRE_FALSE(read);
      CHECK(read.error().code() == Errc::malformed);
      CHECK_THAT(read.error().step(), Catch::Contains(c.want));
    }
}

TEST_CASE("the content of Exim is its header, an empty line and what is in its data",
          "[predecessor][exim]") {
  const auto content_of = [](const std::string& data) -> std::string {
    std::string content;
    const auto done = read_exim_content("A: 1\n", file_of(data), kId, [&](std::string_view piece) {
      content.append(piece);
      return Result<void>();
    });
    return done ? content : "error: " + done.error().step();
  };
  const std::string large(1'000'000, 'x');
  CHECK(content_of(kId + "-D\nbody\n") == "A: 1\n\nbody\n");
  CHECK(content_of(kId + "-D\n") == "A: 1\n\n");
  CHECK(content_of(kId + "-D\n" + large) == "A: 1\n\n" + large);
  for (const auto& wrong : {std::string(), kId, kId + "-H\nbody\n", std::string(100, '\0')})
    CHECK_THAT(content_of(wrong), Catch::Contains("own name"));
  CHECK(is_exim_id(kId));
  CHECK(is_exim_id("1xXyPG-00000001JKa-1wAb"));
  for (const char* wrong : {"", "1xXyPG", "1xXyPG-0001JK-1", "1xXyPG-0001J/-1w", "--", "a-b-c-d"})
    CHECK_FALSE(is_exim_id(wrong));
}

TEST_CASE("who got a copy in secret is not told to the others", "[predecessor]") {
  const std::string in =
      "From: a\nBCC: x,\n\ty\nTo: b\nResent-Bcc: q\nBcc-Not: z\n\nBcc: in the body\n";
  const std::string want = "From: a\nTo: b\nBcc-Not: z\n\nBcc: in the body\n";
  for (std::size_t cut = 1; cut <= in.size(); ++cut) {
    BccFilter filter;
    std::string out;
    for (std::size_t at = 0; at < in.size(); at += cut)
      filter.feed(std::string_view(in).substr(at, cut), out);
    filter.finish(out);
    CHECK(out == want);
  }
  BccFilter filter;
  std::string out;
  filter.feed("Bcc: the only line, without an end", out);
  filter.finish(out);
  CHECK(out.empty());
}

// Custody

struct Taking {
  Taking() {
    queue::QueueSettings settings;
    settings.spool = folder.path() + "/spool";
    auto opened = queue::Queue::open(settings, clock, log);
    REQUIRE(opened);
    queue = *std::move(opened);
    queue->start(nullptr);
    taker = std::make_unique<OldMailTaker>(
        queue.get(), clock,
        OldMailTaker::Settings{Predecessor::postfix, "mx.us.example", "us.example"}, log);
  }
  TakenOver take(const std::string& bytes, OldMailOrder order = {}) {
    const auto path = folder.path() + "/file";
    std::ofstream(path, std::ios::binary) << bytes;
    std::vector<FileDescriptor> files;
    files.emplace_back(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (order.id.empty())
      order.id = "564BCA742C2";
    return taker->take(order, std::move(files));
  }
  std::shared_ptr<const mail::Message> message(const TakenOver& taken) {
    REQUIRE(taken.ids.size() == 1);
    auto found = queue->load(*mail::parse_message_id(taken.ids.front()));
    REQUIRE(found);
    return *found;
  }

  TemporaryFolder folder;
  SystemClock clock;
  NullLog log;
  std::unique_ptr<queue::Queue> queue;
  std::unique_ptr<OldMailTaker> taker;
};

TEST_CASE("a message of the old queue is in custody once", "[predecessor]") {
  Taking here;
  const auto file = postfix_file(kTime + kSender + record('R', "b@c.example"),
                                 record('N', "TLS-Required: No") + record('N', "") +
                                     record('N', "a\rb \xE5") + record('L', "end"));
  const auto first = here.take(file);
  CHECK(first.end == TakenOver::End::taken);
  const auto message = here.message(first);
  CHECK(*message->content.bytes == "TLS-Required: No\r\n\r\na b \xE5\r\nend\r\n");
  CHECK(message->content.trace.empty());
  CHECK(message->content.has_8bit);
  CHECK(message->envelope.body == mail::BodyType::eight_bit_mime);
  CHECK(message->envelope.tls == mail::TlsWish::optional);
  CHECK(message->received <= here.clock.now());
  const auto again = here.take(file);
  CHECK(again.end == TakenOver::End::known);
  CHECK(again.ids == first.ids);
  CHECK(here.queue->totals()->messages == 1);
  // The daemon forgets what it knows of files of its own, not this.
  CHECK(here.queue->dropped()->empty());
  here.taker->forget(again.drop_ids);
  CHECK(here.take(file).end == TakenOver::End::taken);
}

TEST_CASE("what may not just be sent is held, and what nobody waits for is not taken",
          "[predecessor]") {
  Taking here;
  OldMailOrder held;
  held.is_held = true;
  const auto taken =
      here.take(postfix_file(kTime + kSender + record('R', "b@c.example"), kLines), held);
  CHECK(taken.hold == "it was held in Postfix");
  CHECK(here.queue->totals()->held == 1);
  CHECK(here.take(postfix_file(kTime + kSender + record('D', "b@c.example"), kLines)).end ==
        TakenOver::End::empty);
  const auto damaged = here.take("x");
  CHECK(damaged.end == TakenOver::End::refused);
  CHECK(damaged.reason == "it is cut off");
  CHECK(here.queue->totals()->messages == 1);
}

TEST_CASE("a large message of the old queue comes whole, and one for each sender",
          "[predecessor]") {
  Taking here;
  std::string lines, want;
  for (int i = 0; i < 3000; ++i) {
    lines += record('N', std::string(70, static_cast<char>('a' + i % 26)));
    want += std::string(70, static_cast<char>('a' + i % 26)) + "\r\n";
  }
  const auto taken =
      here.take(postfix_file(kTime + record('S', "list@us.example") + record('V', "+=") +
                                 record('R', "b@c.example") + record('R', "d@c.example"),
                             lines));
  CHECK(taken.end == TakenOver::End::taken);
  REQUIRE(taken.ids.size() == 2);
  for (const auto& id : taken.ids) {
    const auto message = here.queue->load(*mail::parse_message_id(id));
    REQUIRE(message);
    const auto stored = read_file(here.queue->body_path((*message)->content.file));
    REQUIRE(stored);
    CHECK(*stored == want);
  }
}

TEST_CASE("what sendmail left for Postfix is completed as ours would be", "[predecessor]") {
  Taking here;
  OldMailOrder order;
  order.is_dropped = true;
  order.uid = 1234;
  const auto taken = here.take(kTime + records({{'F', "Full Name"},
                                                {'S', "ann"},
                                                {'R', "carl"},
                                                {'M', ""},
                                                {'N', "Subject: x"},
                                                {'N', "Bcc: secret@us.example"},
                                                {'N', ""},
                                                {'N', "body"},
                                                {'X', ""},
                                                {'E', ""}}),
                               order);
  CHECK(taken.end == TakenOver::End::taken);
  const auto message = here.message(taken);
  CHECK(*message->content.bytes == "Subject: x\r\n\r\nbody\r\n");
  CHECK_THAT(message->content.trace, Catch::Contains("from userid 1234"));
  CHECK_THAT(message->content.trace, Catch::Contains("From: Full Name <ann@us.example>"));
  CHECK_THAT(message->content.trace, Catch::Contains("Message-ID:"));
  CHECK(message->origin.client == "local uid 1234");
}

// The folder, which others write to

struct OldFolder {
  OldFolder() {
    for (const char* name : {"/deferred", "/deferred/5", "/hold", "/maildrop", "/pid"})
      REQUIRE(::mkdir((folder.path() + name).c_str(), 0700) == 0);
  }
  std::string at(const std::string& name) const { return folder.path() + "/" + name; }
  void put(const std::string& name, mode_t mode = 0700) const {
    std::ofstream(at(name), std::ios::binary) << "x";
    REQUIRE(::chmod(at(name).c_str(), mode) == 0);
  }
  // What becomes of each name that is found.
  std::string found() const {
    auto queue = OldQueue::open(Predecessor::postfix, folder.path());
    REQUIRE(queue);
    REQUIRE((*queue)->scan());
    std::string text;
    for (const auto& [name, why] : (*queue)->odd())
      text += name + ": " + why + "\n";
    for (const auto& entry : (*queue)->entries()) {
      const auto opened = (*queue)->open_message(entry);
      text += entry.shown() + ": " + (opened ? "opened" : opened.error().step()) + "\n";
    }
    return text;
  }

  TemporaryFolder folder;
};

TEST_CASE("nothing of the old queue is opened that is no plain file of its owner's",
          "[predecessor]") {
  const OldFolder here;
  here.put("deferred/5/5AAAAA");
  here.put("deferred/5/5BBBBB", 0600);
  here.put("hold/HHHHHH");
  REQUIRE(::symlink("/etc/passwd", here.at("deferred/CCCCCC").c_str()) == 0);
  REQUIRE(::mkfifo(here.at("deferred/DDDDDD").c_str(), 0700) == 0);
  REQUIRE(::mkdir(here.at("deferred/EEEEEE").c_str(), 0700) == 0);
  REQUIRE(::symlink("/etc", here.at("deferred/6").c_str()) == 0);
  here.put("deferred/FFFFFF");
  REQUIRE(::link(here.at("deferred/FFFFFF").c_str(), here.at("pid/other").c_str()) == 0);
  here.put("deferred/not an id");
  CHECK(here.found() ==
        "deferred/6: it has not the name of a queue file\n"
        "deferred/not an id: it has not the name of a queue file\n"
        "deferred/5/5AAAAA: opened\n"
        "deferred/5/5BBBBB: it is not complete: its sender was not told that it would be "
        "delivered\n"
        "deferred/CCCCCC: it is a link, which is not followed\n"
        "deferred/DDDDDD: it is not a file\n"
        "deferred/EEEEEE: it is not a file\n"
        "deferred/FFFFFF: it has a second name, by which it may be somebody else's\n"
        "hold/HHHHHH: opened\n");
}

TEST_CASE("a file of another user is taken from maildrop alone", "[predecessor]") {
  if (::geteuid() != 0) {
    WARN("not run: needs root");
    return;
  }
  const OldFolder here;
  for (const char* name : {"deferred/5AAAAA", "maildrop/5BBBBB"}) {
    here.put(name);
    REQUIRE(::chown(here.at(name).c_str(), 12346, 12346) == 0);
  }
  CHECK(here.found() ==
        "maildrop/5BBBBB: opened\n"
        "deferred/5AAAAA: it belongs to user 12346, not to the owner of its folder\n");
}

TEST_CASE("a Postfix that runs is seen by its lock", "[predecessor]") {
  const OldFolder here;
  const auto why = [&here] {
    auto queue = OldQueue::open(Predecessor::postfix, here.folder.path());
    REQUIRE(queue);
    return (*queue)->lock();
  };
  CHECK(why().empty());
  std::ofstream(here.at("pid/master.pid")) << "                            4711\n";
  CHECK(why().empty());
  const FileDescriptor lock(::open(here.at("pid/master.pid").c_str(), O_RDWR | O_CLOEXEC));
  REQUIRE(::flock(lock.get(), LOCK_EX | LOCK_NB) == 0);
  CHECK_THAT(why(), Catch::StartsWith("Postfix runs (process 4711); stop it"));
}

TEST_CASE("what was taken is put aside, and never over something else", "[predecessor]") {
  const OldFolder here;
  here.put("deferred/5/5AAAAA");
  auto queue = OldQueue::open(Predecessor::postfix, here.folder.path());
  REQUIRE(queue);
  REQUIRE((*queue)->scan());
  REQUIRE((*queue)->entries().size() == 1);
  const auto& entry = (*queue)->entries().front();
  SECTION("it is") {
    CHECK((*queue)->put_aside(entry));
    CHECK((*queue)->sync());
    CHECK(::access(here.at("taken-over/deferred-5/5AAAAA").c_str(), F_OK) == 0);
    CHECK(::access(here.at("deferred/5/5AAAAA").c_str(), F_OK) != 0);
  }
  SECTION("there is one already") {
    REQUIRE(::mkdir(here.at("taken-over").c_str(), 0700) == 0);
    REQUIRE(::mkdir(here.at("taken-over/deferred-5").c_str(), 0700) == 0);
    here.put("taken-over/deferred-5/5AAAAA");
    CHECK_FALSE((*queue)->put_aside(entry));
    CHECK(::access(here.at("deferred/5/5AAAAA").c_str(), F_OK) == 0);
  }
  SECTION("somebody made a link of it") {
    REQUIRE(::symlink("/tmp", here.at("taken-over").c_str()) == 0);
    CHECK_FALSE((*queue)->put_aside(entry));
  }
}

TEST_CASE("what an Exim process has locked is not taken, and its halves stay together",
          "[predecessor]") {
  const TemporaryFolder folder;
  const auto at = [&folder](const std::string& name) { return folder.path() + "/" + name; };
  for (const char* name : {"input", "input/G"})
    REQUIRE(::mkdir(at(name).c_str(), 0700) == 0);
  for (const char* ending : {"-H", "-D"})
    std::ofstream(at("input/G/" + kId + ending)) << "x";
  auto queue = OldQueue::open(Predecessor::exim, folder.path());
  REQUIRE(queue);
  REQUIRE((*queue)->scan());
  REQUIRE((*queue)->entries().size() == 1);
  const auto& entry = (*queue)->entries().front();
  SECTION("locked, as Exim does: the first line") {
    const FileDescriptor data(::open(at("input/G/" + kId + "-D").c_str(), O_RDWR | O_CLOEXEC));
    struct flock lock {};
    lock.l_type = F_WRLCK;
    lock.l_len = 19;
    REQUIRE(::fcntl(data.get(), F_OFD_SETLK, &lock) == 0);
    CHECK_THAT((*queue)->lock(), Catch::Contains("Exim runs"));
    const auto opened = (*queue)->open_message(entry);
    REQUIRE_FALSE(opened);
    CHECK(opened.error().code() == Errc::stopped);
  }
  SECTION("not locked") {
    CHECK((*queue)->lock().empty());
    CHECK((*queue)->open_message(entry));
  }
  SECTION("a body that is missing") {
    REQUIRE(::unlink(at("input/G/" + kId + "-D").c_str()) == 0);
    const auto opened = (*queue)->open_message(entry);
    REQUIRE_FALSE(opened);
    CHECK(opened.error().code() == Errc::refused);
  }
  SECTION("killed between the two moves: the rest follows") {
    REQUIRE((*queue)->put_aside(entry));
    REQUIRE(::rename(at("taken-over/input-G/" + kId + "-D").c_str(),
                     at("input/G/" + kId + "-D").c_str()) == 0);
    auto again = OldQueue::open(Predecessor::exim, folder.path());
    REQUIRE(again);
    REQUIRE((*again)->scan());
    CHECK((*again)->entries().empty());
    CHECK((*again)->odd().empty());
    REQUIRE((*again)->put_rest_aside());
    CHECK(::access(at("taken-over/input-G/" + kId + "-D").c_str(), F_OK) == 0);
  }
}

}  // namespace
}  // namespace postrider::daemon
