#include "delivery/smtp/client.h"

#include "messages.h"

#include "mail/dot_stuffing.h"

#include <boost/asio/error.hpp>
#include <catch2/catch.hpp>

#include <map>

using namespace postrider;
using namespace postrider::delivery;
using mail::Stage;
using mail::Verdict;

namespace {

constexpr const char* kEhlo =
    "250-mx.test\r\n250-PIPELINING\r\n250-SIZE 100000\r\n250-8BITMIME\r\n250-DSN\r\n250 "
    "SMTPUTF8\r\n";
constexpr const char* kChunking =
    "250-mx.test\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 CHUNKING\r\n";
constexpr const char* kPlain = "250 mx.test\r\n";

// A conversation whose other side is the test.
struct Talk {
  explicit Talk(Dialect dialect = Dialect::smtp)
      : client("us.test", "mx.test[192.0.2.1]:25", dialect) {}

  // What goes out now, content included.
  std::string sent() {
    std::string out;
    for (const auto& piece : client.take_output()) {
      out += piece.text;
      if (!piece.body)
        continue;
      const auto& content = piece.body->message->content;
      const auto whole =
          piece.body->converted ? *piece.body->converted : content.trace + *content.bytes;
      if (piece.body->chunked) {
        out += whole;
      } else {
        mail::DotStuffer stuffer;
        stuffer.feed(whole, out);
        stuffer.finish(out);
      }
      client.body_written();
    }
    return out;
  }
  std::string reply(const std::string& bytes) {
    const auto fed = client.feed(bytes);
    if (!fed)
      client.lost(fed.error());
    return sent();
  }
  void open(const char* ehlo = kEhlo) {
    REQUIRE(reply("220 mx.test hello\r\n").substr(0, 4) == "EHLO");
    REQUIRE(reply(ehlo).empty());
    REQUIRE(client.is_ready());
  }
  std::string begin(std::shared_ptr<const mail::Message> message) {
    Job job;
    job.message = message;
    for (std::uint32_t i = 0; i < message->envelope.recipients.size(); ++i)
      job.recipients.push_back(i);
    client.begin(std::move(job), nullptr);
    return sent();
  }
  // A first message, by DATA: behind it chunks may be used.
  void carry(const std::string& verdict = "250 2.0.0 taken\r\n") {
    REQUIRE(begin(make_message({"first@x.test"})).ends_with("DATA\r\n"));
    reply("250 ok\r\n250 ok\r\n354 go\r\n");
    reply(verdict);
    REQUIRE(ended().starts_with("0 delivered"));
  }
  // "0:delivered 1:bounce 5.1.1 rcpt; unsettled 2"
  std::string ended() {
    std::string text;
    for (const auto& end : client.take_ended()) {
      if (!text.empty())
        text += " | ";
      std::map<std::uint32_t, std::string> words;
      for (const auto& result : end.results)
        words[result.index] = describe(result.outcome);
      for (const auto index : end.unsettled)
        words[index] = "unsettled";
      std::string one;
      for (const auto& [index, word] : words)
        one += (one.empty() ? "" : ", ") + std::to_string(index) + " " + word;
      text += one;
    }
    return text;
  }
  static std::string describe(const mail::Outcome& outcome) {
    const char* words[] = {"delivered", "retry", "bounce"};
    return std::string(words[static_cast<int>(outcome.verdict)]) + " " +
           mail::to_string(outcome.status);
  }

  Client client;
};

const std::string kBody = "Received: by us.test; now\r\nSubject: test\r\n\r\nHello.\r\n";

}  // namespace

TEST_CASE("an envelope goes out in one piece with PIPELINING", "[delivery][client]") {
  Talk talk;
  talk.open();
  CHECK(talk.begin(make_message({"a@x.test", "b@x.test"})) ==
        "MAIL FROM:<from@sender.test> SIZE=" + std::to_string(kBody.size()) +
            "\r\nRCPT TO:<a@x.test>\r\nRCPT TO:<b@x.test>\r\nDATA\r\n");
  CHECK(talk.client.stage() == Stage::mail);
  CHECK(talk.reply("250 ok\r\n250 ok\r\n250 ok\r\n").empty());
  CHECK(talk.client.stage() == Stage::data);
  CHECK(talk.reply("354 go\r\n") == kBody + ".\r\n");
  CHECK(talk.client.stage() == Stage::body_end);
  CHECK(talk.reply("250 2.0.0 taken\r\n").empty());
  CHECK(talk.ended() == "0 delivered 2.0.0, 1 delivered 2.0.0");
  CHECK(talk.client.is_idle());
}

TEST_CASE("a small message goes out whole with CHUNKING", "[delivery][client]") {
  Talk talk;
  talk.open(kChunking);
  talk.carry();
  CHECK(talk.begin(make_message({"a@x.test"})) ==
        "MAIL FROM:<from@sender.test>\r\nRCPT TO:<a@x.test>\r\nBDAT " +
            std::to_string(kBody.size()) + " LAST\r\n" + kBody);
  talk.reply("250 ok\r\n250 ok\r\n250 2.6.0 taken\r\n");
  CHECK(talk.ended() == "0 delivered 2.6.0");
}

TEST_CASE("a reply too many is never the verdict on a message", "[delivery][client]") {
  const auto* const verdict = GENERATE("452 4.3.1 full\r\n", "550 5.7.1 no\r\n");
  const bool is_pipelined = GENERATE(true, false);
  const auto* const where = GENERATE("MAIL", "RCPT");
  CAPTURE(verdict, is_pipelined, where);
  const std::string ok = "250 2.1.5 ok\r\n";
  Talk talk;
  talk.open(is_pipelined ? kChunking : "250-mx.test\r\n250 CHUNKING\r\n");
  const auto say = [&](Talk& to, std::string out) {
    // The remote answers each command, one of them twice, whether it has read it or not.
    for (int round = 0; round < 8 && !out.empty(); ++round) {
      std::string replies;
      for (std::size_t at = 0; at < out.size();) {
        const auto end = out.find("\r\n", at);
        const auto line = out.substr(at, end - at);
        at = end + 2;
        if (line.starts_with("MAIL") || line.starts_with("RCPT"))
          replies += line.starts_with(where) ? ok + ok : ok;
        else if (line.starts_with("DATA"))
          replies += "354 go\r\n";
        else if (line.starts_with("BDAT") || line == ".")
          replies += verdict;
      }
      out = replies.empty() ? "" : to.reply(replies);
    }
    return to.ended();
  };
  SECTION("of the first one") {
    CHECK(say(talk, talk.begin(make_message({"a@x.test"}))).find("delivered") == std::string::npos);
  }
  SECTION("of the first one, in a chunk") {
    Talk other;
    other.open(is_pipelined ? "250-mx.test\r\n250-PIPELINING\r\n250-CHUNKING\r\n250 BINARYMIME\r\n"
                            : "250-mx.test\r\n250-CHUNKING\r\n250 BINARYMIME\r\n");
    auto message = make_message({"a@x.test"});
    message->envelope.body = mail::BodyType::binary_mime;
    CHECK(say(other, other.begin(message)).find("delivered") == std::string::npos);
  }
  SECTION("of one behind another, where the host has codes of its own for messages") {
    if (is_pipelined)
      talk.carry();
    CHECK(say(talk, talk.begin(make_message({"a@x.test"}))).find("delivered") == std::string::npos);
  }
}

TEST_CASE("a host that says of every message what others say of an address is believed",
          "[delivery][client]") {
  Talk talk;
  talk.open(kChunking);
  talk.carry("250 2.1.5 taken\r\n");
  talk.begin(make_message({"a@x.test"}));
  talk.reply("250 ok\r\n250 ok\r\n250 2.1.5 taken\r\n");
  CHECK(talk.ended() == "0 delivered 2.1.5");
}

TEST_CASE("354 in the envelope of a message that was sent whole is not the verdict on it",
          "[delivery][client]") {
  Talk talk;
  talk.open(kChunking);
  talk.carry();
  REQUIRE(talk.begin(make_message({"a@x.test", "b@x.test"})).find("BDAT") != std::string::npos);
  talk.reply("250 ok\r\n354 what\r\n250 ok\r\n");
  CHECK_FALSE(talk.client.is_closing());
  talk.reply("250 2.0.0 taken\r\n");
  CHECK(talk.ended() == "0 retry 4.0.0, 1 delivered 2.0.0");
  CHECK(talk.client.is_closing());
}

TEST_CASE("without PIPELINING each command waits for its reply", "[delivery][client]") {
  Talk talk;
  talk.open(kPlain);
  CHECK(talk.begin(make_message({"a@x.test", "b@x.test"})) == "MAIL FROM:<from@sender.test>\r\n");
  CHECK(talk.reply("250 ok\r\n") == "RCPT TO:<a@x.test>\r\n");
  CHECK(talk.reply("250 ok\r\n") == "RCPT TO:<b@x.test>\r\n");
  CHECK(talk.reply("550 5.1.1 no\r\n") == "DATA\r\n");
  CHECK(talk.reply("354 go\r\n") == kBody + ".\r\n");
  CHECK(talk.reply("250 ok\r\n").empty());
  CHECK(talk.ended() == "0 delivered 2.0.0, 1 bounce 5.1.1");
  CHECK(talk.begin(make_message({"a@x.test"})) == "MAIL FROM:<from@sender.test>\r\n");
}

TEST_CASE("nothing is written behind a message before its reply is there", "[delivery][client]") {
  Talk talk;
  SECTION("DATA") {
    talk.open();
    talk.begin(make_message({"a@x.test"}));
    CHECK(talk.reply("250 ok\r\n250 ok\r\n354 go\r\n") == kBody + ".\r\n");
  }
  SECTION("BDAT") {
    talk.open(kChunking);
    talk.carry();
    CHECK(talk.begin(make_message({"a@x.test"})).ends_with(" LAST\r\n" + kBody));
    CHECK(talk.reply("250 ok\r\n250 ok\r\n").empty());
  }
  CHECK_FALSE(talk.client.can_begin());
  CHECK(talk.reply("250 first\r\n").empty());
  CHECK(talk.ended() == "0 delivered 2.0.0");
  REQUIRE(talk.client.can_begin());
  CHECK(talk.begin(make_message({"b@x.test"})).starts_with("MAIL FROM:<from@sender.test>"));
}

TEST_CASE("the next round of a message waits for the reply to the one before",
          "[delivery][client]") {
  Talk talk;
  talk.open("250-mx.test\r\n250-PIPELINING\r\n250 LIMITS RCPTMAX=1\r\n");
  talk.begin(make_message({"a@x.test", "b@x.test"}));
  CHECK(talk.reply("250 ok\r\n250 ok\r\n354 go\r\n") == kBody + ".\r\n");
  CHECK(talk.reply("250 ok\r\n").starts_with("MAIL FROM"));
}

TEST_CASE("M14: each reply to a session's start is judged by what it is about",
          "[delivery][client]") {
  struct Case {
    std::string name, replies;
    bool ready, closing, takes_no_mail;
  };
  const std::vector<Case> cases = {
      {"greeting 554", "554 go away\r\n", false, true, false},
      {"greeting 521", "521 no mail here\r\n", false, true, true},
      {"greeting 421", "421 busy\r\n", false, true, false},
      {"greeting 450", "450 later\r\n", false, true, false},
      {"EHLO 502, HELO 250", "220 hi\r\n502 what\r\n250 mx\r\n", true, false, false},
      {"EHLO 550, HELO 550", "220 hi\r\n550 no\r\n550 no\r\n", false, true, false},
      {"EHLO 421", "220 hi\r\n421 bye\r\n", false, true, false},
      {"EHLO 451", "220 hi\r\n451 later\r\n", false, true, false},
      {"I07: garbage", "HTTP/1.1 400 Bad Request\r\n", false, true, false},
      {"I07: 354 as greeting", "354 go\r\n", false, true, false},
  };
  for (const auto& c : cases) {
    DYNAMIC_SECTION(c.name) {
      Talk talk;
      // One reply at a time: an answer must not come before its question.
      for (std::size_t at = 0; at < c.replies.size();) {
        const auto end = c.replies.find('\n', at) + 1;
        talk.reply(c.replies.substr(at, end - at));
        at = end;
      }
      CHECK(talk.client.is_ready() == c.ready);
      CHECK(talk.client.is_closing() == c.closing);
      CHECK(talk.client.takes_no_mail() == c.takes_no_mail);
      if (c.closing) {
        CHECK(talk.client.failure().verdict == Verdict::retry);
        CHECK(talk.client.failure().stage < Stage::mail);
      }
    }
  }
}

TEST_CASE("M14: each refusal of a message ends its recipients as the RFC says",
          "[delivery][client]") {
  struct Case {
    std::string name, envelope, content, want;
  };
  // envelope: replies to MAIL, RCPT, RCPT, DATA; content: the reply to the end.
  const std::vector<Case> cases = {
      {"MAIL 550", "550 5.7.1 no\r\n503 no\r\n503 no\r\n503 no\r\n", "",
       "0 bounce 5.7.1, 1 bounce 5.7.1"},
      {"MAIL 451", "451 4.3.0 later\r\n503 no\r\n503 no\r\n503 no\r\n", "",
       "0 retry 4.3.0, 1 retry 4.3.0"},
      {"one RCPT 550", "250 ok\r\n550 5.1.1 no\r\n250 ok\r\n354 go\r\n", "250 ok\r\n",
       "0 bounce 5.1.1, 1 delivered 2.0.0"},
      {"one RCPT 450", "250 ok\r\n450 4.2.1 no\r\n250 ok\r\n354 go\r\n", "250 ok\r\n",
       "0 retry 4.2.1, 1 delivered 2.0.0"},
      {"552 5.2.2 is a full mailbox", "250 ok\r\n552 5.2.2 full\r\n250 ok\r\n354 go\r\n",
       "250 ok\r\n", "0 bounce 5.2.2, 1 delivered 2.0.0"},
      {"552 5.2.2 behind others too", "250 ok\r\n250 ok\r\n552 5.2.2 full\r\n354 go\r\n",
       "250 ok\r\n", "0 delivered 2.0.0, 1 bounce 5.2.2"},
      {"552 5.5.3 on the first is temporary", "250 ok\r\n552 5.5.3 many\r\n550 no\r\n554 no\r\n",
       "", "0 retry 4.5.3, 1 bounce 5.0.0"},
      {"551 is a refusal, 251 is not", "250 ok\r\n551 moved\r\n251 will forward\r\n354 go\r\n",
       "250 ok\r\n", "0 bounce 5.0.0, 1 delivered 2.0.0"},
      {"all refused, DATA 554", "250 ok\r\n550 5.1.1 no\r\n550 5.1.1 no\r\n554 none\r\n", "",
       "0 bounce 5.1.1, 1 bounce 5.1.1"},
      {"P05: all refused, DATA 354", "250 ok\r\n550 5.1.1 no\r\n550 5.1.1 no\r\n354 go\r\n",
       "554 none\r\n", "0 bounce 5.1.1, 1 bounce 5.1.1"},
      {"DATA 451", "250 ok\r\n250 ok\r\n250 ok\r\n451 4.3.1 full\r\n", "",
       "0 retry 4.3.1, 1 retry 4.3.1"},
      {"DATA 554", "250 ok\r\n250 ok\r\n250 ok\r\n554 5.7.0 no\r\n", "",
       "0 bounce 5.7.0, 1 bounce 5.7.0"},
      {"end 550", "250 ok\r\n250 ok\r\n250 ok\r\n354 go\r\n", "550 5.6.0 spam\r\n",
       "0 bounce 5.6.0, 1 bounce 5.6.0"},
      {"end 452", "250 ok\r\n250 ok\r\n250 ok\r\n354 go\r\n", "452 4.3.1 full\r\n",
       "0 retry 4.3.1, 1 retry 4.3.1"},
      {"I08: a code of another class is ignored", "250 ok\r\n550 2.0.0 no\r\n250 ok\r\n354 go\r\n",
       "250 5.0.0 ok\r\n", "0 bounce 5.0.0, 1 delivered 2.0.0"},
      {"I08: a code that is none is ignored",
       "250 ok\r\n550 5.99999999999.1 no\r\n550 5. no\r\n554 none\r\n", "",
       "0 bounce 5.0.0, 1 bounce 5.0.0"},
      {"I07: a reply without text", "250\r\n550\r\n250\r\n354\r\n", "250\r\n",
       "0 bounce 5.0.0, 1 delivered 2.0.0"},
  };
  for (const auto& c : cases) {
    DYNAMIC_SECTION(c.name) {
      Talk talk;
      talk.open();
      talk.begin(make_message({"a@x.test", "b@x.test"}));
      talk.reply(c.envelope);
      if (!c.content.empty())
        talk.reply(c.content);
      CHECK(talk.ended() == c.want);
      CHECK(talk.client.is_idle());
      // The conversation is still in step: the next message goes through.
      auto out = talk.begin(make_message({"c@x.test"}));
      if (out.starts_with("RSET"))
        talk.reply("250 reset\r\n");
      talk.reply("250 ok\r\n250 ok\r\n354 go\r\n");
      talk.reply("250 ok\r\n");
      CHECK(talk.ended() == "0 delivered 2.0.0");
    }
  }
}

TEST_CASE("a refusal that may be about the connection is one only behind a message that was taken",
          "[delivery][client]") {
  struct Case {
    std::string name, envelope, behind, first;  // what it means behind a message, and as the first
  };
  const std::vector<Case> cases = {
      {"MAIL 452 4.5.3", "452 4.5.3 many\r\n503 no\r\n503 no\r\n", "0 unsettled", "0 unsettled"},
      {"MAIL 451", "451 4.3.0 no\r\n503 no\r\n503 no\r\n", "0 unsettled", "0 retry 4.3.0"},
      {"MAIL 550", "550 5.7.1 no\r\n503 no\r\n503 no\r\n", "0 bounce 5.7.1", "0 bounce 5.7.1"},
      {"MAIL 503", "503 5.5.1 no\r\n503 no\r\n503 no\r\n", "0 unsettled", "0 unsettled"},
      {"RCPT 503", "250 ok\r\n503 no\r\n503 no\r\n", "0 unsettled", "0 bounce 5.0.0"},
      {"RCPT 452 4.5.3", "250 ok\r\n452 4.5.3 many\r\n503 no\r\n", "0 unsettled", "0 retry 4.5.3"},
      {"RCPT 451", "250 ok\r\n451 4.7.1 grey\r\n503 no\r\n", "0 retry 4.7.1", "0 retry 4.7.1"},
      {"DATA 503", "250 ok\r\n250 ok\r\n503 no\r\n", "0 unsettled", "0 unsettled"},
      {"DATA 451", "250 ok\r\n250 ok\r\n451 4.3.0 no\r\n", "0 retry 4.3.0", "0 retry 4.3.0"},
  };
  for (const auto& c : cases) {
    for (const bool is_behind : {true, false}) {
      DYNAMIC_SECTION(c.name << (is_behind ? " behind one" : " at once")) {
        Talk talk;
        talk.open();
        if (is_behind) {
          talk.begin(make_message({"a@x.test"}));
          talk.reply("250 ok\r\n250 ok\r\n354 go\r\n");
          talk.reply("250 ok\r\n");
          REQUIRE(talk.ended() == "0 delivered 2.0.0");
        }
        talk.begin(make_message({"a@x.test"}));
        talk.reply(c.envelope);
        CHECK(talk.ended() == (is_behind ? c.behind : c.first));
        CHECK(talk.client.is_idle());
      }
    }
  }
}

TEST_CASE("M14: 421 at every stage ends the conversation, and another host may be tried",
          "[delivery][client]") {
  const std::vector<std::string> before = {"", "250 ok\r\n", "250 ok\r\n250 ok\r\n"};
  for (std::size_t i = 0; i < before.size(); ++i) {
    DYNAMIC_SECTION(i << " replies before") {
      Talk talk;
      talk.open();
      talk.begin(make_message({"a@x.test"}));
      talk.reply(before[i]);
      talk.reply("421 4.3.2 closing\r\n");
      CHECK(talk.client.is_closing());
      CHECK(talk.ended() == "0 unsettled");
    }
  }
  SECTION("behind the content") {
    Talk talk;
    talk.open();
    talk.begin(make_message({"a@x.test"}));
    talk.reply("250 ok\r\n250 ok\r\n354 go\r\n");
    talk.reply("421 4.3.2 closing\r\n");
    CHECK(talk.ended() == "0 retry 4.3.2");
  }
  SECTION("while idle") {
    Talk talk;
    talk.open();
    talk.reply("421 4.4.2 idle too long\r\n");
    CHECK(talk.client.is_closing());
    CHECK(talk.ended().empty());
  }
}

TEST_CASE("421 in the envelope of a message that was sent whole is not the verdict on it",
          "[delivery][client]") {
  Talk talk;
  talk.open("250-mx.test\r\n250-PIPELINING\r\n250 CHUNKING\r\n");
  talk.carry();
  const auto out = talk.begin(make_message({"a@x.test", "b@x.test", "c@x.test"}));
  REQUIRE(out.find("BDAT") != std::string::npos);
  SECTION("of one recipient") {
    talk.reply("250 ok\r\n250 ok\r\n421 4.7.1 greylisted\r\n250 ok\r\n");
    CHECK_FALSE(talk.client.is_closing());
    CHECK(talk.client.is_dismissed());
    talk.reply("250 2.0.0 taken\r\n");
    CHECK(talk.ended() == "0 delivered 2.0.0, 1 unsettled, 2 delivered 2.0.0");
  }
  SECTION("of all recipients") {
    talk.reply("250 ok\r\n421 no\r\n421 no\r\n421 no\r\n554 5.5.1 none\r\n");
    CHECK(talk.ended() == "0 unsettled, 1 unsettled, 2 unsettled");
  }
  SECTION("of MAIL") {
    talk.reply("421 4.3.2 no\r\n503 a\r\n503 b\r\n503 c\r\n503 d\r\n");
    CHECK(talk.ended() == "0 unsettled, 1 unsettled, 2 unsettled");
  }
  SECTION("and the content is refused") {
    talk.reply("250 ok\r\n250 ok\r\n421 no\r\n250 ok\r\n550 5.7.1 spam\r\n");
    CHECK(talk.ended() == "0 bounce 5.7.1, 1 unsettled, 2 bounce 5.7.1");
  }
  SECTION("too many, and no next round here") {
    talk.reply("250 ok\r\n250 ok\r\n421 no\r\n452 4.5.3 too many\r\n250 2.0.0 taken\r\n");
    CHECK(talk.ended() == "0 delivered 2.0.0, 1 unsettled, 2 unsettled");
  }
  SECTION("and it closes: as a 421 that closes at once") {
    talk.reply("250 ok\r\n250 ok\r\n421 4.3.2 bye\r\n");
    CHECK_FALSE(talk.client.is_closing());
    talk.client.lost(Error(boost::asio::error::eof, "read"));
    CHECK(talk.ended() == "0 retry 4.3.2, 1 unsettled, 2 unsettled");
  }
  CHECK(talk.client.is_closing());
  CHECK_FALSE(talk.client.can_begin());
}

TEST_CASE("421 to a RSET that a whole message follows is not the verdict on it",
          "[delivery][client]") {
  Talk talk;
  talk.open("250-mx.test\r\n250-PIPELINING\r\n250 CHUNKING\r\n");
  talk.carry();
  talk.begin(make_message({"a@x.test"}));
  talk.reply("250 ok\r\n550 5.1.1 no\r\n503 5.5.1 none\r\n");
  CHECK(talk.ended() == "0 bounce 5.1.1");
  const auto out = talk.begin(make_message({"b@x.test"}));
  REQUIRE(out.starts_with("RSET"));
  talk.reply("421 4.3.2 soon\r\n250 ok\r\n250 ok\r\n");
  CHECK_FALSE(talk.client.is_closing());
  talk.reply("250 2.0.0 taken\r\n");
  CHECK(talk.ended() == "0 delivered 2.0.0");
  CHECK(talk.client.is_closing());
}

TEST_CASE("M15: lost behind the content, it is tried later and not at once", "[delivery][client]") {
  Talk talk;
  talk.open();
  talk.begin(make_message({"a@x.test", "b@x.test"}));
  talk.reply("250 ok\r\n550 5.1.1 no\r\n250 ok\r\n354 go\r\n");
  talk.client.lost(Error(boost::asio::error::eof, "read"));
  auto ended = talk.client.take_ended();
  REQUIRE(ended.size() == 1);
  REQUIRE(ended[0].unsettled.empty());
  CHECK(Talk::describe(ended[0].results[0].outcome) == "bounce 5.1.1");
  CHECK(Talk::describe(ended[0].results[1].outcome) == "retry 4.4.2");
  CHECK(ended[0].results[1].outcome.text.find("it may arrive twice") != std::string::npos);
}

TEST_CASE("M15: a positive reply behind the content counts, however odd it is",
          "[delivery][client]") {
  const auto* const last = GENERATE("BDAT", "DATA");
  const bool is_chunked = last == std::string("BDAT");
  struct Case {
    std::string reply, at_once, when_lost;
  };
  const std::string none;
  const std::vector<Case> cases = {
      {"250OK\r\n", "0 delivered 2.0.0", none},
      {"250\r\n", "0 delivered 2.0.0", none},
      {"250\r\r\n", "0 delivered 2.0.0", none},
      {"250\t2.6.0 ok\n", "0 delivered 2.6.0", none},
      {"warning: slow\r\n250 ok\r\n", "0 delivered 2.0.0", none},
      {"354 go on\r\n250 ok\r\n", "0 delivered 2.0.0", none},
      {"451later\r\n", "0 retry 4.0.0", none},
      {"554no\r\n", "0 bounce 5.0.0", none},
      {"250-taken\r\n", none, "0 delivered 2.0.0"},
      {"250-taken\r\n250OK\r\n", none, "0 delivered 2.0.0"},
      {"250-2.6.0 taken\r\n250-2", none, "0 delivered 2.6.0"},
      {"250 2.6.0 tak", none, "0 delivered 2.6.0"},
      {"250", none, "0 delivered 2.0.0"},
      {"25", none, "0 retry 4.4.2"},
      {"250-taken\r\n550 no", none, "0 retry 4.4.2"},
      {"550-no\r\n", none, "0 retry 4.4.2"},
      {"OK taken\r\n", none, "0 retry 4.4.2"},
      {"354 go on\r\n", none, "0 retry 4.4.2"},
  };
  for (const auto& c : cases) {
    DYNAMIC_SECTION(last << " " << c.reply) {
      Talk talk;
      talk.open(is_chunked ? kChunking : kEhlo);
      if (is_chunked)
        talk.carry();
      talk.begin(make_message({"a@x.test"}));
      talk.reply(is_chunked ? "250 ok\r\n250 ok\r\n" : "250 ok\r\n250 ok\r\n354 go\r\n");
      talk.reply(c.reply);
      CHECK(talk.ended() == c.at_once);
      talk.client.lost(GENERATE(Error(boost::asio::error::eof, "read"),
                                Error(boost::asio::error::timed_out, "read")));
      CHECK(talk.ended() == c.when_lost);
    }
  }
}

TEST_CASE("M15: what was said behind the content and is not a reply is quoted",
          "[delivery][client]") {
  Talk talk;
  talk.open();
  talk.begin(make_message({"a@x.test"}));
  talk.reply("250 ok\r\n250 ok\r\n354 go\r\n");
  talk.reply("OK taken\r\nas 12\r\n");
  talk.client.lost(Error(boost::asio::error::eof, "read"));
  const auto ended = talk.client.take_ended();
  REQUIRE(ended.size() == 1);
  REQUIRE(ended[0].results.size() == 1);
  CHECK(ended[0].results[0].outcome.text.find("(\"OK taken\")") != std::string::npos);
}

TEST_CASE("M15: what broke off before the end of the content is no verdict", "[delivery][client]") {
  Talk talk;
  talk.open();
  talk.begin(make_message({"a@x.test"}));
  talk.reply("250 ok\r\n250 ok\r\n250-half");
  talk.client.lost(Error(boost::asio::error::eof, "read"));
  CHECK(talk.ended() == "0 unsettled");
}

TEST_CASE("M15: noise before the end of the content ends the conversation", "[delivery][client]") {
  Talk talk;
  talk.open(kChunking);
  Job job;
  job.message = make_message({"a@x.test"});
  job.recipients = {0};
  talk.client.begin(std::move(job), nullptr);
  (void)talk.client.take_output();  // and its content is on the way
  REQUIRE(talk.client.feed("250 ok\r\n250 ok\r\n"));
  (void)talk.client.take_output();
  const auto fed = talk.client.feed("warning: slow\r\n");
  CHECK(fed.has_error());
}

TEST_CASE("M15: LMTP: a reply that broke off is of one recipient", "[delivery][client]") {
  Talk talk(Dialect::lmtp);
  talk.reply("220 lmtp\r\n");
  talk.reply("250-lmtp\r\n250 PIPELINING\r\n");
  talk.begin(make_message({"a@x.test", "b@x.test"}));
  talk.reply("250 ok\r\n250 ok\r\n250 ok\r\n354 go\r\n");
  talk.reply("250-a has");
  talk.client.lost(Error(boost::asio::error::eof, "read"));
  CHECK(talk.ended() == "0 delivered 2.0.0, 1 retry 4.4.2");
}

TEST_CASE("a session whose every reply lacks its separator goes on", "[delivery][client]") {
  Talk talk;
  CHECK(talk.reply("220mx.test\r\n") == "EHLO us.test\r\n");
  talk.reply("250mx.test\r\n");
  REQUIRE(talk.client.is_ready());
  CHECK(talk.begin(make_message({"a@x.test"})) == "MAIL FROM:<from@sender.test>\r\n");
  CHECK(talk.reply("250ok\r\n") == "RCPT TO:<a@x.test>\r\n");
  CHECK(talk.reply("250ok\r\n") == "DATA\r\n");
  CHECK(talk.reply("354go\r\n") == kBody + ".\r\n");
  talk.reply("250ok\r\n");
  CHECK(talk.ended() == "0 delivered 2.0.0");
  CHECK(talk.client.is_idle());
}

TEST_CASE("M17: a reply that nothing asked for ends the conversation", "[delivery][client]") {
  SECTION("while idle") {
    Talk talk;
    talk.open();
    talk.reply("250 surprise\r\n");
    CHECK(talk.client.is_closing());
    CHECK_FALSE(talk.client.may_quit());
  }
  // The rest of it would be the beginning of the reply to the next MAIL.
  SECTION("half of one while idle") {
    Talk talk;
    talk.open();
    talk.begin(make_message({"a@x.test"}));
    talk.reply("250 ok\r\n250 ok\r\n354 go\r\n");
    talk.reply("250 taken\r\n550 go aw");
    CHECK(talk.ended() == "0 delivered 2.0.0");
    CHECK(talk.client.is_closing());
    CHECK_FALSE(talk.client.can_begin());
  }
  SECTION("one too many in a group") {
    Talk talk;
    talk.open();
    talk.begin(make_message({"a@x.test"}));
    talk.reply("250 ok\r\n250 ok\r\n250 what\r\n");
    CHECK(talk.client.is_closing());
    CHECK(talk.ended() == "0 unsettled");
  }
  SECTION("the reply to QUIT is not taken for another") {
    Talk talk;
    talk.open();
    talk.client.quit();
    CHECK(talk.sent() == "QUIT\r\n");
    CHECK_FALSE(talk.client.can_begin());
    talk.reply("221 bye\r\n");
    CHECK(talk.client.is_closing());
  }
}

TEST_CASE("a reply that is out of step is quoted, with the command that it was for",
          "[delivery][client]") {
  struct Case {
    std::string name, ehlo;
    std::vector<std::string> replies;
    Stage stage;
    std::string said;
  };
  const std::string long_one(5000, 'y');
  const std::vector<Case> cases = {
      {"MAIL is answered twice",
       kPlain,
       {"250 ok\r\n550 5.7.1 no\r\n"},
       Stage::mail,
       "a reply too many: \"550 5.7.1 no\""},
      {"RCPT is answered twice",
       kPlain,
       {"250 ok\r\n", "250 ok\r\n451 later\r\n"},
       Stage::rcpt,
       "a reply too many: \"451 later\""},
      {"no reply to MAIL",
       kPlain,
       {"hello\x1b[2J there\r\n"},
       Stage::mail,
       "\"hello\\x1b[2J there\""},
      {"no reply to RCPT", kEhlo, {"250 ok\r\n999 what\r\n"}, Stage::rcpt, "\"999 what\""},
      {"354 to RCPT", kEhlo, {"250 ok\r\n354 go\r\n"}, Stage::rcpt, "\"354 go\""},
      {"250 to DATA",
       kEhlo,
       {"250 ok\r\n250 ok\r\n250 2.0.0 taken\r\n"},
       Stage::data,
       "\"250 2.0.0 taken\" instead of a 354"},
      {"no reply to DATA", kEhlo, {"250 ok\r\n250 ok\r\nwell\r\n"}, Stage::data, "\"well\""},
      {"of any length",
       kEhlo,
       {"250 ok\r\n" + long_one + "\r\n"},
       Stage::rcpt,
       "\"" + long_one.substr(0, 100)},
  };
  for (const auto& c : cases) {
    DYNAMIC_SECTION(c.name) {
      Talk talk;
      talk.open(c.ehlo.c_str());
      talk.begin(make_message({"a@x.test"}));
      for (const auto& reply : c.replies)
        talk.reply(reply);
      CHECK(talk.client.is_closing());
      const auto ended = talk.client.take_ended();
      REQUIRE(ended.size() == 1);
      CHECK(ended[0].why.verdict == Verdict::retry);
      CHECK(ended[0].why.stage == c.stage);
      INFO(ended[0].why.text);
      CHECK(ended[0].why.text.find("unexpected reply from mx.test[192.0.2.1]:25 (" + c.said) == 0);
      CHECK(ended[0].why.text.ends_with(std::string(" while ") + mail::phrase(c.stage)));
      CHECK(ended[0].why.text.size() < 500);
      CHECK(ended[0].why.text.find('\x1b') == std::string::npos);
    }
  }
}

TEST_CASE("a second verdict on a message is no trouble of the next one", "[delivery][client]") {
  Talk talk;
  talk.open();
  talk.begin(make_message({"a@x.test"}));
  talk.reply("250 ok\r\n250 ok\r\n354 go\r\n");
  REQUIRE(talk.client.feed("250 taken\r\n"));
  CHECK(talk.ended() == "0 delivered 2.0.0");
  Job next;
  next.message = make_message({"b@x.test"});
  next.recipients = {0};
  talk.client.begin(std::move(next), nullptr);
  const auto fed = talk.client.feed("250 taken again\r\n");
  REQUIRE_FALSE(fed);
  talk.client.lost(fed.error());
  const auto ended = talk.client.take_ended();
  REQUIRE(ended.size() == 1);
  CHECK(ended[0].why.stage == Stage::mail);
  CHECK(ended[0].why.text.find("\"250 taken again\"") != std::string::npos);
}

TEST_CASE("lost at every stage before the content, another connection may be tried",
          "[delivery][client]") {
  const std::string replies[] = {"250 ok\r\n", "250 ok\r\n", "250 ok\r\n"};
  for (std::size_t read = 0; read <= 3; ++read) {
    DYNAMIC_SECTION(read << " replies read") {
      Talk talk;
      talk.open();
      talk.begin(make_message({"a@x.test", "b@x.test"}));
      for (std::size_t i = 0; i < read; ++i)
        talk.reply(replies[i]);
      talk.client.lost(Error(boost::asio::error::connection_reset, "read"));
      CHECK(talk.ended() == "0 unsettled, 1 unsettled");
    }
  }
}

TEST_CASE("lost in the middle of the content, another host may be tried", "[delivery][client]") {
  const bool is_chunked = GENERATE(true, false);
  Talk talk;
  talk.open(is_chunked ? kChunking : kEhlo);
  if (is_chunked)
    talk.carry();
  auto message = make_message({"a@x.test", "b@x.test"});
  Job job;
  job.message = message;
  job.recipients = {0, 1};
  talk.client.begin(std::move(job), nullptr);
  (void)talk.client.take_output();
  const std::string envelope = "250 ok\r\n550 5.1.1 no\r\n250 ok\r\n";
  REQUIRE(talk.client.feed(envelope + (is_chunked ? "" : "354 go\r\n")));
  (void)talk.client.take_output();  // under way, not written to its end
  SECTION("the connection") {
    talk.client.lost(Error(boost::asio::error::connection_reset, "write"));
    CHECK(talk.ended() == "0 bounce 5.1.1, 1 unsettled");
  }
  SECTION("by 421") {
    REQUIRE(talk.client.feed("421 4.3.2 going\r\n"));
    CHECK(talk.ended() == "0 bounce 5.1.1, 1 unsettled");
  }
  SECTION("not once its end is written") {
    talk.client.body_written();
    talk.client.lost(Error(boost::asio::error::connection_reset, "read"));
    CHECK(talk.ended() == "0 bounce 5.1.1, 1 retry 4.4.2");
  }
}

TEST_CASE("recipients that are too many go into the next transaction", "[delivery][client]") {
  Talk talk;
  talk.open();
  talk.begin(make_message({"a@x.test", "b@x.test", "c@x.test"}));
  talk.reply("250 ok\r\n250 ok\r\n452 4.5.3 too many\r\n452 too many\r\n354 go\r\n");
  const auto next = talk.reply("250 ok\r\n");
  CHECK(next.find("RCPT TO:<b@x.test>\r\nRCPT TO:<c@x.test>\r\nDATA\r\n") != next.npos);
  CHECK(talk.ended().empty());
  talk.reply("250 ok\r\n250 ok\r\n250 ok\r\n354 go\r\n");
  talk.reply("250 ok\r\n");
  CHECK(talk.ended() == "0 delivered 2.0.0, 1 delivered 2.0.0, 2 delivered 2.0.0");
}

// As Exim does it with recipients_max_reject.
TEST_CASE("a message refused because some recipients were too many goes in smaller rounds",
          "[delivery][client]") {
  const bool at_data = GENERATE(true, false);
  Talk talk;
  talk.open();
  talk.begin(make_message({"a@x.test", "b@x.test", "c@x.test"}));
  const std::string envelope = "250 ok\r\n250 ok\r\n250 ok\r\n552 5.5.3 too many recipients\r\n";
  std::string next;
  if (at_data) {
    next = talk.reply(envelope + "554 5.5.3 too many recipients\r\n");
  } else {
    CHECK(talk.reply(envelope + "354 go\r\n") == kBody + ".\r\n");
    next = talk.reply("554 5.5.3 too many recipients\r\n");
  }
  CHECK(talk.ended().empty());
  CHECK(next.find("RCPT TO:<a@x.test>") != std::string::npos);
  CHECK(next.find("RCPT TO:<b@x.test>") != std::string::npos);
  CHECK(next.find("RCPT TO:<c@x.test>") == std::string::npos);
  const std::string reset = next.starts_with("RSET") ? "250 ok\r\n" : "";
  talk.reply(reset + "250 ok\r\n250 ok\r\n250 ok\r\n354 go\r\n");
  next = talk.reply("250 2.0.0 taken\r\n");
  CHECK(next.find("RCPT TO:<c@x.test>") != std::string::npos);
  talk.reply("250 ok\r\n250 ok\r\n354 go\r\n");
  SECTION("the last is taken") {
    talk.reply("250 2.0.0 taken\r\n");
    CHECK(talk.ended() == "0 delivered 2.0.0, 1 delivered 2.0.0, 2 delivered 2.0.0");
  }
  SECTION("a refusal of those that were not too many stands") {
    talk.reply("554 5.7.1 no\r\n");
    CHECK(talk.ended() == "0 delivered 2.0.0, 1 delivered 2.0.0, 2 bounce 5.7.1");
  }
}

TEST_CASE("a message put off, of which some recipients were too many, is not named again at once",
          "[delivery][client]") {
  const bool at_data = GENERATE(true, false);
  Talk talk;
  talk.open();
  talk.begin(make_message({"a@x.test", "b@x.test", "c@x.test"}));
  const std::string envelope = "250 ok\r\n250 ok\r\n250 ok\r\n552 5.5.3 too many recipients\r\n";
  std::string next;
  if (at_data) {
    next = talk.reply(envelope + "450 4.7.1 greylisted\r\n");
  } else {
    CHECK(talk.reply(envelope + "354 go\r\n") == kBody + ".\r\n");
    next = talk.reply("450 4.7.1 greylisted\r\n");
  }
  CHECK(next.find("<a@x.test>") == std::string::npos);
  CHECK(next.find("<b@x.test>") == std::string::npos);
  CHECK(next.find("<c@x.test>") != std::string::npos);
  talk.reply(next.starts_with("RSET") ? "250 ok\r\n250 ok\r\n250 ok\r\n354 go\r\n"
                                      : "250 ok\r\n250 ok\r\n354 go\r\n");
  talk.reply("250 2.0.0 taken\r\n");
  CHECK(talk.ended() == "0 retry 4.7.1, 1 retry 4.7.1, 2 delivered 2.0.0");
}

TEST_CASE("RCPTMAX and MAILMAX are kept", "[delivery][client]") {
  Talk talk;
  talk.open("250-mx.test\r\n250-PIPELINING\r\n250 LIMITS RCPTMAX=2 MAILMAX=1\r\n");
  const auto first = talk.begin(make_message({"a@x.test", "b@x.test", "c@x.test"}));
  CHECK(first.find("<c@x.test>") == first.npos);
  talk.reply("250 ok\r\n250 ok\r\n250 ok\r\n354 go\r\n");
  const auto second = talk.reply("250 ok\r\n");
  CHECK(second.find("RCPT TO:<c@x.test>") != second.npos);
  talk.reply("250 ok\r\n250 ok\r\n354 go\r\n");
  talk.reply("250 ok\r\n");
  CHECK(talk.ended() == "0 delivered 2.0.0, 1 delivered 2.0.0, 2 delivered 2.0.0");
  CHECK_FALSE(talk.client.can_begin());
  CHECK(talk.client.is_spent());
}

TEST_CASE("a message behind a chunk that failed is begun with RSET", "[delivery][client]") {
  Talk talk;
  talk.open(kChunking);
  talk.carry();
  talk.begin(make_message({"a@x.test"}));
  CHECK(talk.reply("250 ok\r\n550 5.1.1 no\r\n503 no recipients\r\n").empty());
  CHECK(talk.ended() == "0 bounce 5.1.1");
  CHECK(talk.begin(make_message({"b@x.test"})).starts_with("RSET\r\nMAIL FROM"));
  talk.reply("250 reset\r\n250 ok\r\n250 ok\r\n250 2.0.0 ok\r\n");
  CHECK(talk.ended() == "0 delivered 2.0.0");
}

TEST_CASE("a refusal in the middle of the content counts, and ends the conversation",
          "[delivery][client]") {
  Talk talk;
  talk.open();
  talk.begin(make_message({"a@x.test"}));
  REQUIRE(talk.client.feed("250 ok\r\n250 ok\r\n354 go\r\n"));
  (void)talk.client.take_output();  // under way, not written to its end
  CHECK(talk.client.stage() == Stage::body);
  SECTION("552") {
    REQUIRE(talk.client.feed("552 5.3.4 too big\r\n"));
    CHECK(talk.ended() == "0 bounce 5.3.4");
    CHECK(talk.client.is_closing());
  }
  SECTION("250 makes no sense") {
    const auto fed = talk.client.feed("250 ok\r\n");
    REQUIRE_FALSE(fed);
    talk.client.lost(fed.error());
    CHECK(talk.ended() == "0 unsettled");
  }
}

TEST_CASE("what the remote cannot take is refused before anything is sent", "[delivery][client]") {
  Talk talk;
  SECTION("SIZE") {
    talk.open("250-mx.test\r\n250-PIPELINING\r\n250 SIZE 40\r\n");
    CHECK(talk.begin(make_message({"a@x.test"})).empty());
    CHECK(talk.ended() == "0 bounce 5.3.4");
  }
  SECTION("SMTPUTF8") {
    talk.open(kPlain);
    CHECK(talk.begin(make_message({"\xc3\xbc@x.test"})).empty());
    CHECK(talk.ended() == "0 bounce 5.6.7");
  }
  SECTION("O01: a bare line end never goes out by DATA") {
    talk.open();
    for (const char* bytes : {"a\nb\r\n", "a\rb\r\n", "a\r\r\n", "x\r\n.\n", "x\n.\r\n", "a\r"}) {
      CHECK(talk.begin(make_message({"a@x.test"}, bytes)).empty());
      CHECK(talk.ended() == "0 bounce 5.6.0");
    }
  }
  SECTION("O01: nor by BDAT, whatever brought it into the queue, and no NUL either way") {
    const std::string nul("a\0b\r\n", 5);
    talk.open();
    CHECK(talk.begin(make_message({"a@x.test"}, nul)).empty());
    CHECK(talk.ended() == "0 bounce 5.6.0");
    Talk chunking;
    chunking.open(
        "250-mx.test\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-CHUNKING\r\n250 BINARYMIME\r\n");
    for (const auto& bytes :
         {std::string("a\nb\r\n"), std::string("a\rb\r\n"), std::string("x\r\n.\n"), nul}) {
      CHECK(chunking.begin(make_message({"a@x.test"}, bytes)).empty());
      CHECK(chunking.ended() == "0 bounce 5.6.0");
    }
    auto binary = make_message({"a@x.test"}, "a\nb\r\n");
    binary->envelope.body = mail::BodyType::binary_mime;
    CHECK(chunking.begin(binary).ends_with("RCPT TO:<a@x.test>\r\n"));
    CHECK(chunking.reply("250 ok\r\n250 ok\r\n").ends_with("a\nb\r\n"));
  }
  SECTION("an address with a line end in it, from a damaged queue") {
    talk.open();
    CHECK(talk.begin(make_message({"a@x.test>\r\nRCPT TO:<b@y.test"})).empty());
    CHECK(talk.ended() == "0 bounce 5.1.3");
  }
  CHECK(talk.client.is_idle());
}

TEST_CASE("8-bit content asks for conversion where 8BITMIME is missing", "[delivery][client]") {
  Talk talk;
  talk.open(kPlain);
  Job job;
  job.message = make_message({"a@x.test"}, "Subject: x\r\n\r\n\xc3\xbc\r\n");
  job.recipients = {0};
  CHECK(talk.client.fitting(job).kind == Compatibility::Kind::needs_seven_bit);
  talk.client.begin(job, std::make_shared<const std::string>("Subject: x\r\n\r\n=C3=BC\r\n"));
  CHECK(talk.sent() == "MAIL FROM:<from@sender.test>\r\n");
  talk.reply("250 ok\r\n");
  talk.reply("250 ok\r\n");
  CHECK(talk.reply("354 go\r\n") == "Subject: x\r\n\r\n=C3=BC\r\n.\r\n");
}

TEST_CASE("DSN parameters are passed on to hosts that know them", "[delivery][client]") {
  auto message = make_message({"a@x.test"});
  message->envelope.envelope_id = "QQ+2B314159";
  message->envelope.ret = mail::Return::headers;
  message->envelope.recipients[0].notify.bits = mail::Notify::kSuccess | mail::Notify::kFailure;
  message->envelope.recipients[0].original_recipient = "rfc822;a+2Bb@x.test";
  SECTION("with DSN") {
    Talk talk;
    talk.open();
    const auto out = talk.begin(message);
    CHECK(out.find(" RET=HDRS ENVID=QQ+2B314159\r\n") != out.npos);
    CHECK(out.find("RCPT TO:<a@x.test> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;a+2Bb@x.test\r\n") !=
          out.npos);
    talk.reply("250 ok\r\n250 ok\r\n354 go\r\n");
    talk.reply("250 ok\r\n");
    CHECK_FALSE(talk.client.take_ended()[0].results[0].outcome.relayed_to_non_dsn);
  }
  SECTION("without") {
    Talk talk;
    talk.open(kChunking);
    talk.carry();
    CHECK(talk.begin(message).starts_with(
        "MAIL FROM:<from@sender.test>\r\nRCPT TO:<a@x.test>\r\nBDAT "));
    talk.reply("250 ok\r\n250 ok\r\n250 ok\r\n");
    CHECK(talk.client.take_ended()[0].results[0].outcome.relayed_to_non_dsn);
  }
}

TEST_CASE("RFC 2852: behind a host without DELIVERBY nobody tells that mail is late",
          "[delivery][client]") {
  auto message = make_message({"a@x.test"});
  const TimePoint now{std::chrono::hours(500000)};
  message->envelope.deliver_by = mail::DeliverBy{.time = now + std::chrono::seconds(60)};
  const auto ends_reports = [&](const std::string& extensions, const std::string& by) {
    Talk talk;
    talk.client.set_time(now);
    talk.open(("250-mx.test\r\n250-PIPELINING\r\n" + extensions + "\r\n").c_str());
    CHECK(talk.begin(message).starts_with("MAIL FROM:<from@sender.test>" + by + "\r\n"));
    talk.reply("250 ok\r\n250 ok\r\n354 go\r\n");
    talk.reply("250 ok\r\n");
    return talk.client.take_ended()[0].results[0].outcome.relayed_to_non_dsn;
  };
  CHECK(ends_reports("250 DSN", ""));
  CHECK(ends_reports("250 DELIVERBY", " BY=60;N"));
  CHECK_FALSE(ends_reports("250-DSN\r\n250 DELIVERBY", " BY=60;N"));
  message->envelope.deliver_by->returns = true;
  CHECK_FALSE(ends_reports("250-DSN\r\n250 DELIVERBY", " BY=60;R"));
}

TEST_CASE("RFC 2852: a mailbox is the end of the way", "[delivery][client]") {
  auto message = make_message({"a@x.test", "b@x.test"});
  message->envelope.deliver_by = mail::DeliverBy{.time = TimePoint(std::chrono::seconds(60))};
  message->envelope.recipients[1].notify.bits = mail::Notify::kSuccess;
  Talk talk(Dialect::lmtp);
  CHECK(talk.reply("220 lmtp\r\n") == "LHLO us.test\r\n");
  talk.reply("250-lmtp\r\n250 PIPELINING\r\n");
  talk.begin(message);
  talk.reply("250 ok\r\n250 ok\r\n250 ok\r\n354 go\r\n");
  talk.reply("250 ok\r\n250 ok\r\n");
  const auto ended = talk.client.take_ended();
  REQUIRE(ended.size() == 1);
  REQUIRE(ended[0].results.size() == 2);
  CHECK_FALSE(ended[0].results[0].outcome.relayed_to_non_dsn);
  CHECK(ended[0].results[1].outcome.relayed_to_non_dsn);
}

TEST_CASE("LMTP answers for each recipient behind the content", "[delivery][client]") {
  Talk talk(Dialect::lmtp);
  CHECK(talk.reply("220 lmtp\r\n") == "LHLO us.test\r\n");
  talk.reply("250-lmtp\r\n250 PIPELINING\r\n");
  talk.begin(make_message({"a@x.test", "b@x.test", "c@x.test"}));
  talk.reply("250 ok\r\n250 ok\r\n550 5.1.1 no\r\n250 ok\r\n354 go\r\n");
  talk.reply("250 2.0.0 a\r\n");
  CHECK(talk.ended().empty());
  talk.reply("452 4.2.2 c is full\r\n");
  CHECK(talk.ended() == "0 delivered 2.0.0, 1 bounce 5.1.1, 2 retry 4.2.2");
}

TEST_CASE("what is known of some recipients need not wait for the others", "[delivery][client]") {
  const auto settled = [](Talk& talk) {
    std::string text;
    for (const auto& part : talk.client.take_settled()) {
      CHECK(part.goes_on);
      CHECK(part.unsettled.empty());
      for (const auto& result : part.results)
        text += (text.empty() ? "" : ", ") + std::to_string(result.index) + " " +
                Talk::describe(result.outcome);
    }
    return text;
  };
  SECTION("SMTP: a refused recipient, while the content is on its way") {
    Talk talk;
    talk.open();
    talk.begin(make_message({"a@x.test", "b@x.test"}));
    talk.reply("250 ok\r\n250 ok\r\n550 5.1.1 no\r\n354 go\r\n");
    CHECK(settled(talk) == "1 bounce 5.1.1");
    CHECK(settled(talk).empty());
    talk.reply("250 ok\r\n");
    CHECK(talk.ended() == "0 delivered 2.0.0");
  }
  SECTION("SMTP: the only recipients come with the end") {
    Talk talk;
    talk.open();
    talk.begin(make_message({"a@x.test", "b@x.test"}));
    talk.reply("250 ok\r\n550 5.1.1 no\r\n550 5.1.1 no\r\n");
    CHECK(settled(talk).empty());
    talk.reply("554 5.5.1 none\r\n");
    CHECK(talk.ended() == "0 bounce 5.1.1, 1 bounce 5.1.1");
  }
  SECTION("LMTP: each as it is answered, and the lost ones are in doubt") {
    Talk talk(Dialect::lmtp);
    talk.reply("220 lmtp\r\n");
    talk.reply("250-lmtp\r\n250 PIPELINING\r\n");
    talk.begin(make_message({"a@x.test", "b@x.test", "c@x.test"}));
    talk.reply("250 ok\r\n250 ok\r\n250 ok\r\n250 ok\r\n354 go\r\n");
    CHECK(settled(talk).empty());
    talk.reply("250 2.0.0 a\r\n550 5.2.1 b\r\n");
    CHECK(settled(talk) == "0 delivered 2.0.0, 1 bounce 5.2.1");
    talk.client.lost(Error(boost::asio::error::connection_reset, "read"));
    CHECK(talk.ended() == "2 retry 4.4.2");
  }
  SECTION("a host that another host is tried for has been heard") {
    Talk talk;
    talk.open();
    talk.begin(make_message({"a@x.test", "b@x.test"}));
    talk.reply("250 ok\r\n250 ok\r\n550 5.1.1 no\r\n354 go\r\n");
    CHECK(settled(talk) == "1 bounce 5.1.1");
    talk.reply("421 4.3.2 going\r\n");
    auto ended = talk.client.take_ended();
    REQUIRE(ended.size() == 1);
    CHECK(ended[0].was_heard);
    CHECK(ended[0].results.size() + ended[0].unsettled.size() == 1);
  }
}

TEST_CASE("LMTP: 421 for one recipient says nothing of those answered behind it",
          "[delivery][client]") {
  Talk talk(Dialect::lmtp);
  talk.reply("220 lmtp\r\n");
  talk.reply("250-lmtp\r\n250 PIPELINING\r\n");
  talk.begin(make_message({"a@x.test", "b@x.test", "c@x.test"}));
  talk.reply("250 ok\r\n250 ok\r\n250 ok\r\n250 ok\r\n354 go\r\n");
  SECTION("all are answered") {
    talk.reply("421 4.3.2 busy\r\n250 2.0.0 b\r\n250 2.0.0 c\r\n");
    CHECK(talk.ended() == "0 retry 4.3.2, 1 delivered 2.0.0, 2 delivered 2.0.0");
  }
  SECTION("the connection closes") {
    talk.reply("250 2.0.0 a\r\n421 4.3.2 busy\r\n");
    CHECK_FALSE(talk.client.is_closing());
    talk.client.lost(Error(boost::asio::error::eof, "read"));
    CHECK(talk.ended() == "0 delivered 2.0.0, 1 retry 4.3.2, 2 retry 4.4.2");
  }
  CHECK(talk.client.is_closing());
  CHECK_FALSE(talk.client.can_begin());
}

TEST_CASE("replies may come in any splitting", "[delivery][client]") {
  const std::string replies = "250-ok\r\n250 ok\r\n250 ok\r\n354 go\r\n";
  for (std::size_t cut = 1; cut < replies.size(); ++cut) {
    Talk talk;
    talk.open();
    talk.begin(make_message({"a@x.test"}));
    const auto out = talk.reply(replies.substr(0, cut)) + talk.reply(replies.substr(cut));
    CHECK(out == kBody + ".\r\n");
    talk.reply("250 ok\r\n");
    CHECK(talk.ended() == "0 delivered 2.0.0");
  }
}
