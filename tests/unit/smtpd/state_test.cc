// attacks.md 2.4: what each command does to the state, against a model of twenty lines.
#include "support.h"

#include <catch2/catch.hpp>

using namespace postrider;
using namespace postrider::tests;

namespace {

struct Exchange {
  std::string bytes;
  std::string code;
};

// (greeted, mail, recipients, refused recipients, chunks, failed) and what follows from it.
struct Model {
  bool greeted = false, extended = false, mail = false, chunks = false, failed = false,
       closed = false;
  int recipients = 0, refused = 0;

  void reset() { mail = chunks = failed = false, recipients = refused = 0; }
  bool may_take_recipient() const { return mail && !chunks && !failed; }
  bool may_send_chunk() const { return mail && recipients > 0 && !failed; }
  std::string no_content() const { return mail && refused > 0 && !failed ? "554" : "503"; }
};

using Exchanges = std::vector<Exchange>;

Exchanges mail(Model& model, const std::string& argument, const char* right) {
  if (!model.greeted || model.mail)
    return {{"MAIL FROM:" + argument + "\r\n", "503"}};
  model.mail = std::string(right) == "250";
  return {{"MAIL FROM:" + argument + "\r\n", right}};
}

Exchanges rcpt(Model& model, const std::string& argument, const char* right) {
  if (!model.may_take_recipient())
    return {{"RCPT TO:" + argument + "\r\n", "503"}};
  ++(std::string(right) == "250" ? model.recipients : model.refused);
  return {{"RCPT TO:" + argument + "\r\n", right}};
}

Exchanges data(Model& model, const std::string& content, const char* right) {
  if (model.chunks && !model.failed) {
    model.failed = true;
    return {{"DATA\r\n", "503"}};
  }
  if (model.failed || !model.mail || model.recipients == 0)
    return {{"DATA\r\n", model.no_content()}};
  model.reset();
  return {{"DATA\r\n", "354"}, {content + ".\r\n", right}};
}

Exchanges bdat(Model& model, const std::string& content, bool last, const char* right) {
  const auto bytes =
      "BDAT " + std::to_string(content.size()) + (last ? " LAST\r\n" : "\r\n") + content;
  // After HELO nothing may follow a command at once, not even a chunk.
  if (!model.extended && !content.empty()) {
    model.closed = true;
    return {{bytes, "554"}};
  }
  if (!model.may_send_chunk())
    return {{bytes, model.failed ? "503" : model.no_content()}};
  const bool refused = std::string(right) != "250";
  if (last)
    model.reset();
  else
    model.chunks = true, model.failed = refused;
  return {{bytes, right}};
}

Exchanges greet(Model& model, const std::string& line) {
  model.greeted = true;
  model.extended = line.starts_with("EHLO");
  model.reset();
  return {{line, "250"}};
}

using Symbol = std::pair<const char*, Exchanges (*)(Model&)>;

const std::string kLarge = std::string(300, 'x') + "\r\n";  // beyond the limit of these tests

const std::vector<Symbol> kTriggers = {
    {"RSET",
     [](Model& m) -> Exchanges {
       return m.reset(), Exchanges{{"RSET\r\n", "250"}};
     }},
    {"EHLO", [](Model& m) { return greet(m, "EHLO again.test\r\n"); }},
    {"HELO", [](Model& m) { return greet(m, "HELO again.test\r\n"); }},
    {"end of data accepted", [](Model& m) { return data(m, "\r\nx\r\n", "250"); }},
    {"end of data refused for size", [](Model& m) { return data(m, kLarge, "552"); }},
    {"end of data refused for its content", [](Model& m) { return data(m, "a\nb\r\n", "550"); }},
    {"end of data refused for room",
     [](Model& m) { return data(m, std::string(kNoRoomFor) + "\r\n", "452"); }},
    {"BDAT syntax error",
     [](Model& m) {
       m.closed = true;
       return Exchanges{{"BDAT x\r\n", "501"}};
     }},
    {"BDAT over size", [](Model& m) { return bdat(m, kLarge, false, "552"); }},
    {"BDAT LAST refused", [](Model& m) { return bdat(m, "a\nb", true, "550"); }},
    {"VRFY error",
     [](Model&) {
       return Exchanges{{"VRFY\r\n", "501"}};
     }},
    {"VRFY SMTPUTF8",
     [](Model&) {
       return Exchanges{{"VRFY \xc3\xa9 SMTPUTF8\r\n", "252"}};
     }},
    {"MAIL refused", [](Model& m) { return mail(m, "<a@@b>", "501"); }},
    {"MAIL", [](Model& m) { return mail(m, "<second@ext.test>", "250"); }},
    {"RCPT refused", [](Model& m) { return rcpt(m, "<nobody@us.test>", "550"); }},
    {"AUTH",
     [](Model&) {
       return Exchanges{{"AUTH PLAIN\r\n", "502"}};
     }},
    {"STARTTLS",
     [](Model&) {
       return Exchanges{{"STARTTLS\r\n", "502"}};
     }},
};

const std::vector<Symbol> kProbes = {
    {"MAIL", [](Model& m) { return mail(m, "<probe@ext.test>", "250"); }},
    {"RCPT", [](Model& m) { return rcpt(m, "<y@us.test>", "250"); }},
    {"DATA", [](Model& m) { return data(m, "\r\nprobe\r\n", "250"); }},
    {"BDAT 0 LAST", [](Model& m) { return bdat(m, "", true, "250"); }},
    {"BDAT 5 LAST", [](Model& m) { return bdat(m, "a:b\r\n", true, "250"); }},
    {"VRFY",
     [](Model&) {
       return Exchanges{{"VRFY user\r\n", "252"}};
     }},
    {"AUTH",
     [](Model&) {
       return Exchanges{{"AUTH LOGIN\r\n", "502"}};
     }},
    {"STARTTLS",
     [](Model&) {
       return Exchanges{{"STARTTLS\r\n", "502"}};
     }},
    {"NOOP",
     [](Model&) {
       return Exchanges{{"NOOP\r\n", "250"}};
     }},
    {"QUIT",
     [](Model& m) {
       m.closed = true;
       return Exchanges{{"QUIT\r\n", "221"}};
     }},
};

// A transaction under way, then the symbols.
Exchanges walk(const std::vector<const Symbol*>& symbols) {
  Model model;
  auto all = greet(model, "EHLO client.test\r\n");
  for (auto& exchange : mail(model, "<a@ext.test>", "250"))
    all.push_back(exchange);
  for (auto& exchange : rcpt(model, "<user@us.test>", "250"))
    all.push_back(exchange);
  for (const auto* symbol : symbols)
    if (!model.closed)
      for (auto& exchange : symbol->second(model))
        all.push_back(exchange);
  return all;
}

PlayOptions small_messages() {
  PlayOptions options;
  options.settings.message_size = 200;
  return options;
}

Script script_of(const Exchanges& exchanges) {
  Script script;
  for (const auto& exchange : exchanges)
    script.push_back(exchange.bytes);
  return script;
}

void check(const Exchanges& exchanges, const Play& result) {
  std::string wanted, got;
  for (std::size_t i = 0; i < exchanges.size(); ++i) {
    wanted += exchanges[i].code + " ";
    got += result.codes(i + 1) + " ";
  }
  CHECK(got == wanted);
}

}  // namespace

TEST_CASE("2.4: every trigger and every probe, as the model says", "[smtpd][attacks]") {
  const auto options = small_messages();
  for (const auto& trigger : kTriggers)
    for (const auto& probe : kProbes) {
      INFO(trigger.first << ", " << probe.first);
      const auto exchanges = walk({&trigger, &probe});
      check(exchanges, play(script_of(exchanges), options));
    }
}

TEST_CASE("2.4: every trigger and probe after every trigger and probe", "[smtpd][attacks]") {
  const auto options = small_messages();
  for (const auto& first : kTriggers)
    for (const auto& second : kProbes)
      for (const auto& third : kTriggers)
        for (const auto& fourth : kProbes) {
          const auto exchanges = walk({&first, &second, &third, &fourth});
          const auto result = play_in_memory(script_of(exchanges), options);
          INFO(first.first << ", " << second.first << ", " << third.first << ", " << fourth.first);
          check(exchanges, result);
        }
}

TEST_CASE("R01: DATA after a refused BDAT LAST finds no transaction", "[smtpd][attacks]") {
  auto script = with_data("");
  script.resize(3);
  script.push_back("BDAT 5 LAST\r\na\nb\r\n");
  script.push_back("DATA\r\n");
  CHECK(play(script).last_codes() == "503");
}

TEST_CASE("R02: after a refusal at the dot all begins again", "[smtpd][attacks]") {
  auto script = with_data("a\nb\r\n.\r\n");
  script.push_back("RCPT TO:<y@us.test>\r\n");
  script.push_back("DATA\r\n");
  script.push_back("MAIL FROM:<x@ext.test>\r\n");
  script.push_back("RCPT TO:<y@ext.test>\r\n");
  const auto result = play(script);
  CHECK(codes_of(result.all()) == "220 250 250 250 354 550 503 503 250 550");
}

TEST_CASE("R03: an error in VRFY leaves the transaction alone", "[smtpd][attacks]") {
  auto script = with_data("\r\n.\r\n");
  script.insert(script.begin() + 3, "VRFY \xc3\xa9\r\n");
  const auto result = play(script);
  CHECK(codes_of(result.all()) == "220 250 250 250 553 354 250");
  CHECK(result.kept.size() == 1);
}

TEST_CASE("R04: EHLO ends the transaction", "[smtpd][attacks]") {
  auto script = with_data("");
  script.pop_back();
  script.insert(script.begin() + 3, "EHLO again.test\r\n");
  CHECK(codes_of(play(script).all()) == "220 250 250 250 250 503");
}

TEST_CASE("R08: nothing of one message is carried into the next", "[smtpd][attacks]") {
  auto script = with_data("\r\n.\r\n");
  script[1] = "MAIL FROM:<\xc3\xa9@ext.test> SMTPUTF8 SIZE=50 RET=FULL ENVID=1 BODY=8BITMIME\r\n";
  script[2] = "RCPT TO:<y@us.test> NOTIFY=NEVER ORCPT=rfc822;y@us.test\r\n";
  const auto second = with_data("\r\n.\r\n");
  script.insert(script.end(), second.begin() + 1, second.end());
  const auto result = play(script);
  REQUIRE(result.kept.size() == 2);
  mail::Envelope plain;
  plain.sender = "x@ext.test";
  plain.recipients.emplace_back().address = "y@us.test";
  CHECK(result.kept[1].envelope == plain);
  CHECK(result.kept[1].protocol == "ESMTP");
}
