// Rules that a session keeps over several messages, logins and layers, played line by line.
#include "support.h"

#include "base/net/tls/tls.h"
#include "smtpd/auth/authenticator.h"
#include "smtpd/auth/sasl_exchange.h"
#include "smtpd/session/replies.h"

#include <catch2/catch.hpp>

using namespace postrider;
using namespace postrider::tests;
namespace replies = postrider::smtpd::replies;
using Next = smtpd::Session::Next;

namespace {

class OnlyAnn : public smtpd::auth::Authenticator {
 public:
  std::vector<std::string> offered(const smtpd::auth::Channel&) const override { return {"PLAIN"}; }
  std::unique_ptr<smtpd::auth::Mechanism> make(std::string_view,
                                               const smtpd::auth::Channel&) const override {
    return smtpd::auth::make_plain();
  }
  std::unique_ptr<smtpd::auth::Exchange> begin(Loop&, smtpd::auth::Attempt) override {
    return nullptr;
  }
  bool may_send_as(std::string_view user, std::string_view sender) const override {
    return sender.empty() || sender == std::string(user) + "@us.test";
  }
  std::string begin_message(std::string_view) override {
    return ++messages > most ? "messages an hour" : "";
  }
  std::string add_recipient(std::string_view, std::string_view) override { return {}; }
  unsigned messages = 0, most = ~0U;
};

smtpd::Session session_of(const ServerSettings& settings, smtpd::Role role = smtpd::Role::mx,
                          std::string user = {}) {
  smtpd::Client client;
  client.address = *IpAddress::parse("192.0.2.7");
  client.authenticated = std::move(user);
  return {std::make_shared<const smtpd::Policy>(std::make_shared<const ServerSettings>(settings)),
          std::move(client), role, "SESSION", nullptr};
}

std::string code_of(const smtpd::Session::Step& step) {
  return std::string(step.reply.substr(0, 3));
}

}  // namespace

TEST_CASE("a message of exactly the announced SIZE passes, an octet more does not", "[smtpd]") {
  PlayOptions options;
  options.settings.message_size = 1000;
  const auto content = [](std::size_t size) {
    return "\r\n" + std::string(size - 4, 'x') + "\r\n";
  };
  for (const std::size_t size : {999U, 1000U, 1001U}) {
    const std::string want = size <= 1000 ? "250" : "552";
    INFO(size);
    CHECK(play(with_data(content(size) + ".\r\n"), options).last_codes() == want);
    auto chunks = with_data("");
    chunks[3] = "BDAT " + std::to_string(size) + " LAST\r\n" + content(size);
    chunks.pop_back();
    CHECK(play(chunks, options).last_codes() == want);
    auto declared = with_data("");
    declared.resize(2);
    declared[1] = "MAIL FROM:<x@ext.test> SIZE=" + std::to_string(size) + "\r\n";
    CHECK(play(declared, options).last_codes() == want);
  }
}

TEST_CASE("an accepted message clears the count of errors, a refused one does not", "[smtpd]") {
  PlayOptions options;
  options.settings.limits.errors = 3;
  const auto message = with_data("\r\nx\r\n.\r\n");
  Script good = {message[0], "FROB\r\n", "FROB\r\n"};
  good.insert(good.end(), message.begin() + 1, message.end());
  good.insert(good.end(), {"FROB\r\n", "FROB\r\n"});
  CHECK(play(good, options).last_codes() == "500");
  good.push_back("FROB\r\n");
  CHECK(play(good, options).last_codes() == "421");
  auto refused = good;
  refused[6] = "\r\nbare\nx\r\n.\r\n";
  refused.resize(7);
  CHECK(play(refused, options).last_codes() == "421");
}

TEST_CASE("STARTTLS forgets what was said, and takes nothing behind it", "[smtpd]") {
  auto session = session_of(strict_settings());
  session.offer_starttls();
  session.greet();
  CHECK(code_of(session.on_line("EHLO client.test", false)) == "250");
  // Octets that came in clear would be taken for what came under TLS (CVE-2011-0411).
  {
    auto injected = session_of(strict_settings());
    injected.offer_starttls();
    injected.greet();
    injected.on_line("EHLO client.test", false);
    const auto step = injected.on_line("STARTTLS", true);
    CHECK(step.reply == replies::kOutOfStep);
    CHECK(step.next == Next::hang_up);
  }
  CHECK(session.on_line("STARTTLS", false).next == Next::start_tls);
  const TlsFacts facts;
  session.on_tls(facts, {});
  CHECK(code_of(session.on_line("MAIL FROM:<x@ext.test>", false)) == "503");
  CHECK(code_of(session.on_line("STARTTLS", false)) == "503");
  CHECK(code_of(session.on_line("EHLO client.test", false)) == "250");
  CHECK(code_of(session.on_line("MAIL FROM:<x@ext.test>", false)) == "250");
}

TEST_CASE("a session ends with the third failed login", "[smtpd]") {
  auto settings = strict_settings();
  settings.auth = std::make_shared<OnlyAnn>();
  auto session = session_of(settings, smtpd::Role::submission);
  smtpd::auth::Channel channel;
  channel.is_private = true;
  session.set_channel(channel);
  session.greet();
  session.on_line("EHLO client.test", false);
  smtpd::auth::Answer no;
  no.verdict = smtpd::auth::Answer::Verdict::refused;
  for (int i = 1; i <= 3; ++i) {
    REQUIRE(session.on_line("AUTH PLAIN AGFubgBwdw==", false).next == Next::ask);
    const auto step = session.on_answer(no);
    CHECK(code_of(step) == (i < 3 ? "535" : "421"));
    CHECK(step.next == (i < 3 ? Next::read_command : Next::hang_up));
  }
}

TEST_CASE("a user sends as himself and nobody else", "[smtpd]") {
  auto settings = strict_settings();
  settings.auth = std::make_shared<OnlyAnn>();
  const auto reply = [&](std::string_view mail, std::string user) {
    auto session = session_of(settings, smtpd::Role::submission, std::move(user));
    session.greet();
    session.on_line("EHLO client.test", false);
    return std::string(session.on_line(mail, false).reply);
  };
  CHECK(reply("MAIL FROM:<ann@us.test>", "ann").starts_with("250"));
  CHECK(reply("MAIL FROM:<>", "ann").starts_with("250"));
  CHECK(reply("MAIL FROM:<bob@us.test>", "ann") == replies::kNotYourAddress);
  CHECK(reply("MAIL FROM:<ann@us.test>", "bob") == replies::kNotYourAddress);
  CHECK(reply("MAIL FROM:<ann@us.test>", "") == replies::kAuthenticationNeeded);
}

TEST_CASE("RFC 4865: a message counts once more for each whole day for which it is kept",
          "[smtpd]") {
  struct Case {
    std::chrono::hours kept;
    unsigned messages;
  };
  for (const auto& c :
       {Case{std::chrono::hours(0), 1}, Case{std::chrono::hours(23), 1},
        Case{std::chrono::hours(24), 2}, Case{std::chrono::hours(30 * 24 - 1), 30}}) {
    const auto counter = std::make_shared<OnlyAnn>();
    auto settings = strict_settings();
    settings.auth = counter;
    settings.future_release = std::chrono::hours(30 * 24);
    const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(c.kept).count();
    const auto mail = "MAIL FROM:<ann@us.test>" +
                      (seconds > 0 ? " HOLDFOR=" + std::to_string(seconds) : std::string());
    INFO(mail);
    const auto begin = [&] {
      auto session = session_of(settings, smtpd::Role::submission, "ann");
      session.greet();
      session.on_line("EHLO client.test", false);
      return code_of(session.on_line(mail, false));
    };
    CHECK(begin() == "250");
    CHECK(counter->messages == c.messages);
    counter->most = c.messages * 2 - 1;
    CHECK(begin() == "450");
  }
}
