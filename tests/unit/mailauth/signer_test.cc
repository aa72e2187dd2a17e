#include "mailauth/signer.h"

#include "dkim_support.h"

#include <catch2/catch.hpp>

namespace postrider::mailauth {
namespace {

using Domains = std::vector<std::string>;

Signer signer_for(const Domains& domains, std::set<SigningRole> roles = {SigningRole::notices}) {
  Signer::Keys keys;
  for (const auto& domain : domains)
    keys[domain].push_back({domain, "s1", ed25519_key()});
  return {std::move(keys), {}, std::move(roles)};
}

std::string signers(const Signer& signer, const std::string& header) {
  const auto done = signer.sign(header, std::string(32, 'x'), kNow);
  std::string out;
  for (const auto& by : done->by)
    out.append(out.empty() ? "" : " ").append(by);
  CHECK(done->fields.empty() == out.empty());
  CHECK(signer.has_key_for(header) == (!out.empty() || !done->why_not.empty()));
  return out + done->why_not;
}

TEST_CASE("keys are found by the domains of From, or the nearest above", "[mailauth][signer]") {
  const auto signer = signer_for({"example.com", "sub.example.com", "example.org"});
  CHECK(signers(signer, "From: a@example.com\r\n") == "example.com/s1");
  CHECK(signers(signer, "From: a@EXAMPLE.com\r\n") == "example.com/s1");
  CHECK(signers(signer, "From: a@x.y.example.com\r\n") == "example.com/s1");
  CHECK(signers(signer, "From: a@x.sub.example.com\r\n") == "sub.example.com/s1");
  CHECK(signers(signer, "From: a@example.net\r\n").empty());
  CHECK(signers(signer, "From: a@notexample.com\r\n").empty());
  CHECK(signers(signer, "From: a@com\r\n").empty());
  CHECK(signers(signer, "From: a@example.com, b@example.org\r\n") ==
        "example.com/s1 example.org/s1");
  CHECK(signers(signer, "From: a@example.com, b@x.example.com\r\n") == "example.com/s1");
  CHECK(signers(signer, "Sender: a@example.com\r\n").empty());
  CHECK(signers(signer, "From: a@example.com\r\nFrom: a@example.net\r\n") ==
        "not exactly one From field");
  CHECK(signers(signer_for({}), "From: a@example.com\r\n").empty());
}

TEST_CASE("roles that are signed", "[mailauth][signer]") {
  LiveSigner live;
  CHECK(live.now_for(SigningRole::notices) == nullptr);
  live.replace(std::make_shared<const Signer>(signer_for({"example.com"})));
  CHECK(live.now_for(SigningRole::notices) != nullptr);
  CHECK(live.now_for(SigningRole::sendmail) == nullptr);
  live.replace(std::make_shared<const Signer>(signer_for({})));
  CHECK(live.now_for(SigningRole::notices) == nullptr);
  live.replace(nullptr);
  CHECK(live.now() == nullptr);
}

TEST_CASE("a message of ours is signed with all that stands on top of it", "[mailauth][signer]") {
  LiveSigner live;
  live.replace(std::make_shared<const Signer>(signer_for({"example.com"})));
  mail::Message message;
  message.content.trace = "Received: by x\r\nFrom: a@example.com\r\n";
  message.content.bytes = std::make_shared<const std::string>("Subject: x\r\n\r\nText\r\n");
  std::shared_ptr<const mail::Message> one = std::make_shared<const mail::Message>(message);
  NullLog log;
  sign_own(live, one, log, kNow);
  tests::FakeZones dns;
  dns.add_text("s1._domainkey.example.com", key_record_text(ed25519_key()));
  CHECK(verdicts(one->content.trace + *one->content.bytes, dns) == "pass");
  CHECK(one->content.trace.ends_with(message.content.trace));
  message.content.trace = "From: a@example.net\r\n";
  one = std::make_shared<const mail::Message>(message);
  const auto before = one;
  sign_own(live, one, log, kNow);
  CHECK(one == before);
}

}  // namespace
}  // namespace postrider::mailauth
