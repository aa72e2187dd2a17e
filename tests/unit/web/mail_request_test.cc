#include "web/mail_request.h"

#include "web/compose.h"

#include "base/base64.h"
#include "base/text.h"
#include "tests/unit/base/temporary_folder.h"

#include <boost/json/serialize.hpp>
#include <boost/json/value.hpp>
#include <catch2/catch.hpp>

#include <cstdlib>
#include <fstream>

using namespace postrider;
using namespace postrider::web;
namespace json = boost::json;

namespace {

json::object order() {
  return {{"from", "shop@example.org"}, {"to", "ann@example.net"}, {"text", "hello"}};
}

Result<MailRequest> read(const json::object& object) {
  return read_mail_request(json::serialize(object));
}

std::string problem(const json::object& object) {
  const auto read_one = read(object);
  return read_one ? "" : read_one.error().step();
}

// What Python's parser makes of a message: one line for each part and field, or what is wrong.
std::string parsed(const std::string& message) {
  const TemporaryFolder folder;
  std::ofstream(folder / "message") << message;
  std::ofstream(folder / "read.py")
      << "import email,email.policy,sys\n"
         "m=email.message_from_binary_file(open(sys.argv[1],'rb'),policy=email.policy.SMTP)\n"
         "out=open(sys.argv[2],'w',encoding='utf-8',errors='surrogateescape')\n"
         "def show(p):\n"
         " for d in p.defects: out.write('defect '+repr(d)+'\\n')\n"
         " out.write(p.get_content_type()+' '+str(p.get_filename())+' "
         "'+str(p['content-id'])+'\\n')\n"
         " if p.is_multipart():\n"
         "  for q in p.iter_parts(): show(q)\n"
         " elif p.get_content_maintype()=='text' and not p.get_filename(): "
         "out.write(repr(p.get_content().replace('\\r\\n','\\n'))+'\\n')\n"
         " else: out.write(p.get_payload(decode=True).hex()+'\\n')\n"
         "for k in ('from','reply-to','to','cc','bcc','subject','x-order','message-id'):\n"
         " if m[k] is not None: out.write(k+': '+str(m[k])+'\\n')\n"
         "show(m)\n";
  const std::string command = "/usr/bin/python3 -B " + (folder / "read.py") + " " +
                              (folder / "message") + " " + (folder / "out");
  if (std::system(command.c_str()) != 0)
    return "the parser failed";
  std::ifstream out(folder / "out");
  return {std::istreambuf_iterator<char>(out), {}};
}

}  // namespace

TEST_CASE("a mail request of a few members is a message and its envelope", "[mail_request]") {
  auto object = order();
  object["subject"] = "Your order";
  object["tag"] = "order 17 = ok";
  const auto request = read(object);
  REQUIRE(request.has_value());
  CHECK(request->header.sender == "shop@example.org");
  CHECK(request->header.recipients == std::vector<std::string>{"ann@example.net"});
  CHECK(request->header.envelope_id == "order+2017+20+3D+20ok");
  CHECK(request->content ==
        "From: shop@example.org\r\nTo: ann@example.net\r\nSubject: Your order\r\n"
        "MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n"
        "Content-Transfer-Encoding: 7bit\r\n\r\nhello\r\n");
}

TEST_CASE("all that a request may have is what another program reads", "[mail_request]") {
  const std::string picture("\x89PNG\r\n\x1a\n\0\xff--", 12), name = "Grüße an Łódź €.pdf";
  json::object object = order();
  object["from"] = "\"Müller, \\\"Jörg\\\"\" <j@example.org>";
  object["to"] = json::array{"Ann <ann@example.net>", "Smith, John <john@example.net>"};
  object["cc"] = "=?utf-8?B?eA==?= <c@example.net>";
  object["bcc"] = json::array{"secret@example.net"};
  object["reply_to"] = "help@example.org";
  object["subject"] = std::string("日本語の件名 ") + std::string(300, 'x') + " =?utf-8?Q?no?=";
  object["text"] = "Grüße\n.\nFrom here " + std::string(1200, 'y') + "\r\nend";
  object["html"] = "<p>日本語 <img src=\"cid:logo@x\"></p>";
  object["headers"] = json::object{{"X-Order", "17 ü"}, {"Message-ID", "<a.b@example.org>"}};
  object["attachments"] = json::array{
      json::object{
          {"content", encode_base64(picture)}, {"type", "image/png"}, {"content_id", "logo@x"}},
      json::object{{"content", encode_base64(std::string("a\0b", 3))},
                   {"filename", name},
                   {"type", "application/pdf"}},
      json::object{{"content", ""}, {"filename", "quo\"te;.txt"}, {"type", "text/plain"}}};
  const auto request = read(object);
  REQUIRE(request.has_value());
  CHECK(request->header.recipients == std::vector<std::string>{"ann@example.net",
                                                               "john@example.net", "c@example.net",
                                                               "secret@example.net"});
  CHECK(request->content.find("secret") == std::string::npos);
  CHECK(is_ascii(request->content));
  for (const auto line : split(request->content, '\n')) {
    CHECK(line.size() < 100);
    CHECK(line.find('\r') >= line.size() - std::min<std::size_t>(line.size(), 1));
  }
  const auto times = [&](const std::string& text) {
    std::size_t count = 0;
    for (auto at = request->content.find(text); at != std::string::npos;
         at = request->content.find(text, at + 1))
      ++count;
    return count;
  };
  CHECK(times("\r\nContent-Disposition: inline\r\nContent-ID: <logo@x>\r\n") == 1);
  CHECK(times("\r\nContent-Disposition: attachment;\r\n filename") == 2);
  CHECK(times("\r\nContent-Disposition: ") == 3);
  const auto said = parsed(request->content);
  INFO(said << request->content);
  CHECK(said.find("defect") == std::string::npos);
  CHECK(said.find("from: \"Müller, \\\"Jörg\\\"\" <j@example.org>\n") != std::string::npos);
  CHECK(said.find("to: Ann <ann@example.net>, \"Smith, John\" <john@example.net>\n") !=
        std::string::npos);
  CHECK(said.find("reply-to: help@example.org\n") != std::string::npos);
  CHECK(said.find("subject: " + std::string(object["subject"].as_string()) + "\n") !=
        std::string::npos);
  CHECK(said.find("x-order: 17 ü\n") != std::string::npos);
  CHECK(said.find("message-id: <a.b@example.org>\n") != std::string::npos);
  CHECK(said.find("bcc") == std::string::npos);
  CHECK(said.find("multipart/mixed None None\nmultipart/alternative None None\ntext/plain None") !=
        std::string::npos);
  CHECK(said.find("Grüße\\n.\\nFrom here " + std::string(1200, 'y') + "\\nend\\n") !=
        std::string::npos);
  CHECK(said.find("multipart/related None None\ntext/html None None\n") != std::string::npos);
  CHECK(said.find("image/png None <logo@x>\n89504e470d0a1a0a00ff2d2d\n") != std::string::npos);
  CHECK(said.find("application/pdf " + name + " None\n610062\n") != std::string::npos);
  CHECK(said.find("text/plain quo\"te;.txt None\n") != std::string::npos);
}

TEST_CASE("no member smuggles a line into the header", "[mail_request]") {
  for (const auto* bad :
       {"x\r\nBcc: all@example.net", "x\nBcc: all@example.net", "x\rBcc: y", "x\x7f", "\x1b[31m"}) {
    for (const auto* member : {"from", "to", "cc", "bcc", "reply_to", "subject", "tag"}) {
      auto object = order();
      object[member] = std::string(bad) + " <a@example.org>";
      INFO(member);
      CHECK(problem(object).find("control character") != std::string::npos);
      if (std::string(member) != "subject" && std::string(member) != "tag") {
        object[member] = std::string("<a@example.org") + bad + ">";
        CHECK_FALSE(problem(object).empty());
      }
    }
    auto object = order();
    object["headers"] = json::object{{"X-A", bad}};
    CHECK(problem(object).find("control character") != std::string::npos);
    object["headers"] = json::object{{bad, "x"}};
    CHECK(problem(object).find("is not a name of a header field") != std::string::npos);
    for (const auto* member : {"filename", "type", "content_id"}) {
      object = order();
      object["attachments"] = json::array{json::object{{"content", ""}, {member, bad}}};
      CHECK(problem(object).find("control character") != std::string::npos);
    }
  }
  for (const auto* name : {"From",
                           "Sender",
                           "reply-to",
                           "To",
                           "CC",
                           "bcc",
                           "Subject",
                           "DATE",
                           "Content-Type",
                           "mime-version",
                           "Received",
                           "Return-Path",
                           "Delivered-To",
                           "DKIM-Signature",
                           "Received-SPF",
                           "Authentication-Results",
                           "Resent-To",
                           "ARC-Seal",
                           "a b",
                           "a:",
                           "",
                           "ü"}) {
    auto object = order();
    object["headers"] = json::object{{name, "x"}};
    INFO(name);
    CHECK_FALSE(problem(object).empty());
  }
}

TEST_CASE("what is wrong with a mail request is said in a sentence", "[mail_request]") {
  const struct {
    const char* text;
    const char* says;
  } cases[] = {
      {"", "JSON object"},
      {"[]", "JSON object"},
      {"{\"from\":", "JSON object"},
      {R"({"to":"a@b.example","text":""})", "\"from\" is missing"},
      {R"({"from":"a@b.example","text":""})", "no recipient"},
      {R"({"from":"a@b.example","to":[],"text":""})", "no recipient"},
      {R"({"from":"a@b.example","to":"c@d.example"})", "nothing to send"},
      {R"({"from":"a","to":"c@d.example","text":""})", "\"from\" is not an address"},
      {R"({"from":"a@b.example","to":"c d@e","text":""})", "\"to\" is not an address"},
      {R"({"from":"a@b.example","to":17,"text":""})", "\"to\" is to be a text"},
      {R"({"from":"a@b.example","to":[["x"]],"text":""})", "\"to\" is to be a text"},
      {R"({"from":"a@b.example","to":"c@d.example","text":1})", "\"text\" is to be a text"},
      {R"({"from":"a@b.example","to":"c@d.example","body":"x"})", "\"body\" is not known"},
      {R"({"from":"a@b.example","to":"c@d.example","raw":"x","subject":"y"})",
       "\"raw\" is the whole"},
      {R"({"from":"a@b.example","to":"c@d.example","raw":""})", "\"raw\" is empty"},
      {R"({"from":"a@b.example","to":"c@d.example","attachments":[{"content":"!"}]})", "base64"},
      {R"({"from":"a@b.example","to":"c@d.example","attachments":[{}]})", "is missing"},
      {R"({"from":"a@b.example","to":"c@d.example","attachments":[{"content":"","type":"multipart/mixed"}]})",
       "media type"},
      {R"({"from":"a@b.example","to":"c@d.example","attachments":[{"content":"","type":"a/b; c=d"}]})",
       "media type"},
  };
  for (const auto& each : cases) {
    const auto request = read_mail_request(each.text);
    INFO(each.text);
    REQUIRE_FALSE(request.has_value());
    CHECK(request.error().step().find(each.says) != std::string::npos);
  }
}

TEST_CASE("a mail request has limits, and a bomb is refused before it is built", "[mail_request]") {
  auto object = order();
  object["to"] = json::array(1001, "a@example.net");
  CHECK(read(object).error().code() == Errc::too_long);
  object["to"] = json::array(1000, "a@example.net");
  CHECK(read(object).has_value());
  object["cc"] = "b@example.net";
  CHECK(read(object).error().code() == Errc::too_long);
  object = order();
  object["attachments"] = json::array(101, json::object{{"content", ""}});
  CHECK(read(object).error().code() == Errc::too_long);
  object["attachments"] = json::array(100, json::object{{"content", ""}});
  CHECK(read(object).has_value());
  object = order();
  object["tag"] = std::string(101, 'x');
  CHECK(read(object).error().code() == Errc::too_long);
  object["tag"] = std::string(100, 'x');
  CHECK(read(object).has_value());
  json::object fields;
  for (std::size_t i = 0; i < kMostRequestFields; ++i)
    fields["X-" + std::to_string(i)] = "x";
  object["headers"] = fields;
  CHECK(read(object).has_value());
  fields["X-More"] = "x";
  object["headers"] = fields;
  CHECK(read(object).error().code() == Errc::too_long);
  object = order();
  object["subject"] = std::string(2000, 'x');
  CHECK(read(object).has_value());
  object["subject"] = std::string(2001, 'x');
  CHECK(read(object).error().code() == Errc::too_long);
  CHECK(read_mail_request(std::string(1'000'000, '[')).error().code() == Errc::too_long);
  std::string wide = "{";
  for (int i = 0; i < 100'000; ++i)
    wide += "\"k" + std::to_string(i) + "\":1,";
  CHECK(read_mail_request(wide + "\"z\":1}").error().code() == Errc::too_long);
  CHECK_FALSE(read_mail_request("{\"to\":[" + std::string(2'000'000, ',') + "]}").has_value());
}

TEST_CASE("a raw message goes as it is", "[mail_request]") {
  const auto request = read({{"from", "a@example.org"},
                             {"to", json::array{"b@example.net", "c@example.net"}},
                             {"tag", "t"},
                             {"raw", "Subject: x\n\nbody ü\n"}});
  REQUIRE(request.has_value());
  CHECK(request->content == "Subject: x\n\nbody ü\n");
  CHECK(request->header.recipients.size() == 2);
}

TEST_CASE("a raw message names nobody of its blind copies", "[mail_request]") {
  const auto raw = [](const char* text) {
    const auto request = read({{"from", "a@example.org"}, {"to", "b@example.net"}, {"raw", text}});
    REQUIRE(request.has_value());
    return request->content;
  };
  CHECK(raw("Bcc: s@example.net\nTo: x\nbCC : s,\n t\nResent-Bcc: s\nX: y\n\nBcc: body\n") ==
        "To: x\nX: y\n\nBcc: body\n");
  CHECK(raw("Subject: x\r\nBcc:\r\n\tsecret\r\n\r\nx\r\n") == "Subject: x\r\n\r\nx\r\n");
  CHECK(raw("no header\nBcc: body\n") == "no header\nBcc: body\n");
  CHECK(raw("Bccs: x\n\n") == "Bccs: x\n\n");
}

TEST_CASE("a name that stands twice is refused", "[mail_request]") {
  for (
      const char* body :
      {R"({"to":"a@b.example","to":"c@d.example","from":"x@y.example","text":"x"})",
       R"({"to":"a@b.example","from":"x@y.example","text":"x","headers":{"X-A":"1","X-A":"2"}})"}) {
    const auto request = read_mail_request(body);
    REQUIRE_FALSE(request.has_value());
    CHECK(request.error().step() == "a name stands twice in one object of the JSON");
  }
}
