#include "mailauth/dkim_verify.h"

#include "dkim_support.h"

#include <catch2/catch.hpp>

#include <algorithm>

namespace postrider::mailauth {
namespace {

using namespace std::string_literals;

const std::string kMessage =
    "From: Joe <joe@example.com>\r\n"
    "To: sue@example.net\r\n"
    "Subject: dinner \r\n\tat  eight\r\n"
    "\r\n"
    "Some  text \r\n"
    "\r\n"
    "more\r\n"
    "\r\n";

std::string key_zone() {
  const auto rsa = rsa_key().public_data();
  const auto ed25519 = ed25519_key().public_data();
  return "r._domainkey.example.com TXT \"v=DKIM1; p=" + rsa.substr(0, 200) + "\" \"" +
         rsa.substr(200) + "\"\n" + "e._domainkey.example.com TXT \"k=ed25519; p=" + ed25519 +
         "\"\n";
}

// RFC 6376 appendix A.2, with its errata, and the key of A.3.
const std::string kRfc6376 =
    "DKIM-Signature: v=1; a=rsa-sha256; s=brisbane; d=example.com;\r\n"
    "      c=simple/simple; q=dns/txt; i=joe@football.example.com;\r\n"
    "      h=Received : From : To : Subject : Date : Message-ID;\r\n"
    "      bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;\r\n"
    "      b=AuUoFEfDxTDkHlLXSZEpZj79LICEps6eda7W3deTVFOk4yAUoqOB\r\n"
    "      4nujc7YopdG5dWLSdNg6xNAZpOPr+kHxt1IrE+NahM6L/LbvaHut\r\n"
    "      KVdkLLkpVaVVQPzeRDI009SO2Il5Lu7rDNH6mZckBdrIx0orEtZV\r\n"
    "      4bmp/YzhwvcubU4=;\r\n"
    "Received: from client1.football.example.com  [192.0.2.1]\r\n"
    "      by submitserver.example.com with SUBMISSION;\r\n"
    "      Fri, 11 Jul 2003 21:01:54 -0700 (PDT)\r\n"
    "From: Joe SixPack <joe@football.example.com>\r\n"
    "To: Suzie Q <suzie@shopping.example.net>\r\n"
    "Subject: Is dinner ready?\r\n"
    "Date: Fri, 11 Jul 2003 21:00:37 -0700 (PDT)\r\n"
    "Message-ID: <20030712040037.46341.5F8J@football.example.com>\r\n"
    "\r\n"
    "Hi.\r\n"
    "\r\n"
    "We lost the game. Are you hungry yet?\r\n"
    "\r\n"
    "Joe.\r\n";
const std::string kRfc6376Key =
    "v=DKIM1; p=MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDwIRP/UC3SBsEmGqZ9ZJW3/DkMoGeLnQg1fWn7/zYt"
    "IxN2SnFCjxOCKG9v3b4jYfcTNh5ijSsq631uBItLa7od+v/RtdC2UzJ1lWT947qR+Rcac2gbto/NMqJ0fzfVjH4OuKhi"
    "tdY9tf6mcwGjaNBcWToIMmPSPDdQPNUYckcQ2QIDAQAB";

TEST_CASE("the example of RFC 6376", "[mailauth][dkim]") {
  tests::FakeZones dns;
  dns.add_text("brisbane._domainkey.example.com", kRfc6376Key);
  const auto reports = verify(kRfc6376, dns);
  REQUIRE(reports.size() == 1);
  const auto& report = reports.front();
  CHECK(report.reason.empty());
  CHECK(report.result == SignatureResult::pass);
  CHECK(report.domain == "example.com");
  CHECK(report.selector == "brisbane");
  CHECK(report.identity == "joe@football.example.com");
  CHECK(report.algorithm == "rsa-sha256");
  CHECK(report.data_text.starts_with("AuUoFEfDxTDk"));
  CHECK(report.key_bits == 1024);
  CHECK_FALSE(report.testing);
  CHECK(report.signed_fields ==
        std::vector<std::string>{"received", "from", "to", "subject", "date", "message-id"});
  auto changed = kRfc6376;
  changed.replace(changed.find("hungry"), 6, "thirst");
  CHECK(verdicts(changed, dns) == "fail: body hash did not verify");
  changed = kRfc6376;
  changed.replace(changed.find("dinner"), 6, "supper");
  CHECK(verdicts(changed, dns) == "fail: signature did not verify");
}

// Appendix A.3 of RFC 8463.
TEST_CASE("the example of RFC 8463", "[mailauth][dkim]") {
  const std::string message =
      "DKIM-Signature: v=1; a=ed25519-sha256; c=relaxed/relaxed;\r\n"
      " d=football.example.com; i=@football.example.com;\r\n"
      " q=dns/txt; s=brisbane; t=1528637909; h=from : to :\r\n"
      " subject : date : message-id : from : subject : date;\r\n"
      " bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;\r\n"
      " b=/gCrinpcQOoIfuHNQIbq4pgh9kyIK3AQUdt9OdqQehSwhEIug4D11Bus\r\n"
      " Fa3bT3FY5OsU7ZbnKELq+eXdp1Q1Dw==\r\n"
      "DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed;\r\n"
      " d=football.example.com; i=@football.example.com;\r\n"
      " q=dns/txt; s=test; t=1528637909; h=from : to : subject :\r\n"
      " date : message-id : from : subject : date;\r\n"
      " bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;\r\n"
      " b=F45dVWDfMbQDGHJFlXUNB2HKfbCeLRyhDXgFpEL8GwpsRe0IeIixNTe3\r\n"
      " DhCVlUrSjV4BwcVcOF6+FF3Zo9Rpo1tFOeS9mPYQTnGdaSGsgeefOsk2Jz\r\n"
      " dA+L10TeYt9BgDfQNZtKdN1WO//KgIqXP7OdEFE4LjFYNcUxZQ4FADY+8=\r\n"
      "From: Joe SixPack <joe@football.example.com>\r\n"
      "To: Suzie Q <suzie@shopping.example.net>\r\n"
      "Subject: Is dinner ready?\r\n"
      "Date: Fri, 11 Jul 2003 21:00:37 -0700 (PDT)\r\n"
      "Message-ID: <20030712040037.46341.5F8J@football.example.com>\r\n"
      "\r\n"
      "Hi.\r\n"
      "\r\n"
      "We lost the game.  Are you hungry yet?\r\n"
      "\r\n"
      "Joe.\r\n";
  tests::FakeZones dns;
  dns.add_text("brisbane._domainkey.football.example.com",
               "v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=");
  dns.add_text("test._domainkey.football.example.com",
               "v=DKIM1; k=rsa; p=MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDkHlOQoBTzWRiGs5V6NpP3idY6W"
               "k08a5qhdR6wy5bdOKb2jLQiY/J16JYi0Qvx/byYzCNb3W91y3FutACDfzwQ/BC/e/8uBsCR+yz1Lxj+PL6l"
               "HvqMKrM3rG4hstT5QjvHO9PzoxZyVYLzBfO2EeC3Ip3G+2kryOTIKT+l/K4w3QIDAQAB");
  CHECK(verdicts(message, dns) == "pass; pass");
}

TEST_CASE("signatures by their tags", "[mailauth][dkim]") {
  struct Case {
    std::string what;
    std::string value;
    std::string want;
  };
  const auto plain = [](const std::string& tags) {
    return " v=1; a=rsa-sha256; d=example.com; s=r; " + tags + "; bh=$BH; b=$B";
  };
  const std::vector<Case> cases = {
      {"no c=", plain("h=from:to:subject"), "pass"},
      {"simple", plain("c=simple; h=from"), "pass"},
      {"relaxed", plain("c=relaxed; h=from:to:subject"), "pass"},
      {"simple/relaxed", plain("c=simple/relaxed; h=from:subject"), "pass"},
      {"relaxed/relaxed", plain("c=relaxed/relaxed; h=From : Subject :\r\n to"), "pass"},
      {"names that are absent", plain("h=cc:from:from:x-none"), "pass"},
      {"unknown tags", plain("h=from; zz=1; y_2=; z=From:joe"), "pass"},
      {"upper case in d= and s=", " v=1; a=rsa-sha256; d=EXAMPLE.com; s=R; h=from; bh=$BH; b=$B",
       "pass"},
      {"tags behind b=", " v=1; b=$B ;a=rsa-sha256;d=example.com; s=r;h=from;bh= $BH", "pass"},
      {"q= with others", plain("q=x:dns/txt; h=from"), "pass"},
      {"i= below d=", plain("i=joe@sub.example.com; h=from"), "pass"},
      {"i= quoted", plain("i=a=3Bb@example.com; h=from"), "pass"},
      {"x= to come", plain("t=1763999999; x=1764000001; h=from"), "pass"},
      {"x= endless", plain("x=9999999999999999999999999; h=from"), "pass"},
      {"t= to come", plain("t=1764086400; h=from"), "pass"},
      {"l= exact", plain("c=relaxed/relaxed; l=19; h=from"), "pass"},
      {"l= short", plain("c=relaxed/relaxed; l=4; h=from"),
       "policy: the end of the body is not signed (l=)"},
      {"l=0", plain("l=0; h=from"), "policy: the end of the body is not signed (l=)"},
      {"l= beyond", plain("c=relaxed/relaxed; l=20; h=from"),
       "permerror: l= is larger than the body"},
      {"l= huge", plain("l=" + std::string(70, '9') + "; h=from"),
       "permerror: l= is larger than the body"},
      {"l= of nothing", plain("l=; h=from"), "permerror: invalid l="},
      {"l= negative", plain("l=-1; h=from"), "permerror: invalid l="},
      {"l= of 77 digits", plain("l=" + std::string(77, '0') + "; h=from"), "permerror: invalid l="},
      {"x= past", plain("x=1763999999; h=from"), "fail: signature expired"},
      {"x= not behind t=", plain("t=1764000001; x=1764000001; h=from"), "permerror: invalid x="},
      {"x= of letters", plain("x=soon; h=from"), "permerror: invalid x="},
      {"t= of letters", plain("t=now; h=from"), "permerror: invalid t="},
      {"no From", plain("h=to:subject"), "permerror: From is not signed"},
      {"empty h=", plain("h="), "permerror: invalid h="},
      {"empty name in h=", plain("h=from::to"), "permerror: invalid h="},
      {"space in h=", plain("h=from:a b"), "permerror: invalid h="},
      {"no h=", plain("z=1"), "permerror: no tag h="},
      {"q= unknown", plain("q=foo; h=from"), "permerror: unknown method in q="},
      {"c= unknown", plain("c=nofws; h=from"), "permerror: invalid c="},
      {"c= in capitals", plain("c=Relaxed; h=from"), "permerror: invalid c="},
      {"i= elsewhere", plain("i=@example.org; h=from"), "permerror: i= is not within d="},
      {"i= ends alike", plain("i=@badexample.com; h=from"), "permerror: i= is not within d="},
      {"i= above", plain("i=@com; h=from"), "permerror: i= is not within d="},
      {"i= without @", plain("i=joe; h=from"), "permerror: invalid i="},
      {"tag twice", plain("h=from; h=from"), "permerror: tag h given twice"},
      {"v= absent", " a=rsa-sha256; d=example.com; s=r; h=from; bh=$BH; b=$B",
       "permerror: no tag v="},
      {"v=2", " v=2; a=rsa-sha256; d=example.com; s=r; h=from; bh=$BH; b=$B",
       "permerror: unknown version in v="},
      {"rsa-sha1", " v=1; a=rsa-sha1; d=example.com; s=r; h=from; bh=$BH; b=$B",
       "permerror: rsa-sha1 does not count any more (RFC 8301)"},
      {"a= unknown", " v=1; a=rsa-sha512; d=example.com; s=r; h=from; bh=$BH; b=$B",
       "permerror: unknown algorithm in a="},
      {"a= of another key", " v=1; a=ed25519-sha256; d=example.com; s=r; h=from; bh=$BH; b=$B",
       "permerror: key is not for this algorithm"},
      {"d= absent", " v=1; a=rsa-sha256; s=r; h=from; bh=$BH; b=$B", "permerror: no tag d="},
      {"d= is not a name", " v=1; a=rsa-sha256; d=exa mple; s=r; h=from; bh=$BH; b=$B",
       "permerror: invalid d="},
      {"s= empty", " v=1; a=rsa-sha256; d=example.com; s=; h=from; bh=$BH; b=$B",
       "permerror: invalid s="},
      {"s= without a key", " v=1; a=rsa-sha256; d=example.com; s=none; h=from; bh=$BH; b=$B",
       "permerror: no key"},
      {"bh= too short", " v=1; a=rsa-sha256; d=example.com; s=r; h=from; bh=AAAA; b=$B",
       "permerror: invalid bh="},
      {"bh= no Base64", " v=1; a=rsa-sha256; d=example.com; s=r; h=from; bh=!; b=$B",
       "permerror: invalid bh="},
      {"b= empty", " v=1; a=rsa-sha256; d=example.com; s=r; h=from; bh=$BH; b=; n=$B",
       "permerror: invalid b="},
      {"b= no Base64", " v=1; a=rsa-sha256; d=example.com; s=r; h=from; bh=$BH; b=?; n=$B",
       "permerror: invalid b="},
      {"b= too long",
       " v=1; a=rsa-sha256; d=example.com; s=r; h=from; bh=$BH; n=$B; b=" + std::string(1372, 'A'),
       "permerror: b= too long"},
      {"b= other",
       " v=1; a=rsa-sha256; d=example.com; s=r; h=from; bh=$BH; n=$B; b=" + std::string(344, 'A'),
       "fail: signature did not verify"},
      {"a NUL", plain("h=from; n=a\0b"s), "permerror: invalid character in tag n"},
      {"no tags", " $B", "permerror: tag without \"=\""},
      {"long", plain("h=from; n=" + std::string(kMostSignatureSize, 'n')),
       "permerror: signature too long"},
  };
  for (const auto& c : cases)
    DYNAMIC_SECTION(c.what) {
      tests::FakeZones dns(key_zone());
      CHECK(verdicts(message_signed_as(c.value, kMessage, rsa_key()), dns) == c.want);
    }
}

TEST_CASE("signatures by their keys", "[mailauth][dkim]") {
  const auto data = rsa_key().public_data();
  struct Case {
    std::string what;
    std::vector<std::string> records;
    std::string want;
  };
  const std::vector<Case> cases = {
      {"plain", {"p=" + data}, "pass"},
      {"testing", {"t=y; p=" + data}, "pass"},
      {"t=s", {"t=s; p=" + data}, "permerror: key does not allow i= below d="},
      {"revoked", {"v=DKIM1; p="}, "permerror: key revoked"},
      {"not sha256", {"h=sha1; p=" + data}, "permerror: key does not allow sha256"},
      {"not email", {"s=tlsrpt; p=" + data}, "permerror: key is not for email"},
      {"broken", {"p=AAAA"}, "permerror: invalid RSA key"},
      {"another key",
       {"p=" + PrivateKey::generate(KeyType::rsa)->public_data()},
       "fail: signature did not verify"},
      {"no record", {"v=spf1 -all"}, "permerror: key record of an unknown version"},
      {"one of several", {"hello", "p=AAAA", "v=DKIM1; p=", "p=" + data}, "pass"},
      {"the failure that says most",
       {"p=AAAA", "p=" + PrivateKey::generate(KeyType::rsa)->public_data()},
       "fail: signature did not verify"},
      {"behind too many",
       {"p=AAAA", "p=AAAA", "p=AAAA", "p=AAAA", "p=" + data},
       "permerror: invalid RSA key"},
      {"behind too many others", std::vector<std::string>(16, "x"), "permerror: tag without \"=\""},
  };
  const auto message = message_signed_as(
      " v=1; a=rsa-sha256; d=example.com; s=r; i=@sub.example.com; h=from; bh=$BH; b=$B", kMessage,
      rsa_key());
  for (const auto& c : cases)
    DYNAMIC_SECTION(c.what) {
      tests::FakeZones dns;
      for (const auto& record : c.records)
        dns.add_text("r._domainkey.example.com", record);
      const auto reports = verify(message, dns);
      CHECK(verdicts(message, dns) == c.want);
      CHECK(reports.front().testing == (c.what == "testing"));
    }
  SECTION("the DNS fails") {
    tests::FakeZones dns("r._domainkey.example.com FAILS\n");
    CHECK(verdicts(message, dns) == "temperror: key lookup failed");
  }
}

TEST_CASE("bodies and headers that are changed on their way", "[mailauth][dkim]") {
  tests::FakeZones dns(key_zone());
  const std::vector<SigningKey> keys = {{"example.com", "r", rsa_key()},
                                        {"example.com", "e", ed25519_key()}};
  const auto relaxed = signed_message(kMessage, keys);
  CHECK(verdicts(relaxed, dns) == "pass; pass");
  const auto with = [](std::string text, std::string_view old, std::string_view fresh) {
    const auto at = text.rfind(old);
    REQUIRE(at != std::string::npos);
    return text.replace(at, old.size(), fresh);
  };
  CHECK(verdicts(with(relaxed, "Some  text \r\n", "Some text\r\n"), dns) == "pass; pass");
  CHECK(verdicts(with(relaxed, "Subject: dinner \r\n\tat  eight", "SUBJECT:  dinner at eight "),
                 dns) == "pass; pass");
  CHECK(verdicts(relaxed + "\r\n\r\n", dns) == "pass; pass");
  CHECK(verdicts("Received: by x\r\n" + relaxed, dns) == "pass; pass");
  CHECK(verdicts(relaxed + "x\r\n", dns) ==
        "fail: body hash did not verify; fail: body hash did not verify");
  const auto broken = "fail: signature did not verify; fail: signature did not verify";
  // M11: nothing can be put beside what was signed.
  CHECK(verdicts("From: Eve <eve@example.org>\r\n" + relaxed, dns) == broken);
  CHECK(verdicts("Subject: won\r\n" + relaxed, dns) == broken);
  CHECK(verdicts("Cc: all@example.net\r\n" + relaxed, dns) == broken);
  CHECK(verdicts("Content-Type: text/html\r\n" + relaxed, dns) == broken);
  SigningOptions simple;
  simple.header_form = simple.body_form = Form::simple;
  const auto strict = signed_message(kMessage, keys, simple);
  CHECK(verdicts(strict, dns) == "pass; pass");
  CHECK(verdicts(with(strict, "Subject:", "SUBJECT:"), dns) == broken);
  CHECK(verdicts(with(strict, "Some  text \r\n", "Some text\r\n"), dns) ==
        "fail: body hash did not verify; fail: body hash did not verify");
}

TEST_CASE("no key is asked for where the body says enough", "[mailauth][dkim]") {
  tests::FakeZones dns(key_zone());
  const auto message = signed_message(kMessage, {{"example.com", "r", rsa_key()}}) + "x\r\n";
  CHECK(verdicts(message, dns) == "fail: body hash did not verify");
  CHECK(dns.asked().empty());
}

TEST_CASE("a flood of signatures is bounded", "[mailauth][dkim]") {
  tests::FakeZones dns(key_zone());
  std::string flood;
  for (int i = 0; i < 200; ++i)
    flood += "DKIM-Signature: v=1; a=rsa-sha256; d=d" + std::to_string(i) +
             ".example.com; s=s; h=from; l=" + std::to_string(i) +
             "; b=AAAA;\r\n bh=" + encode_base64(std::string(32, 'x')) + "\r\n";
  const auto reports =
      verify(flood + signed_message(kMessage, {{"example.com", "r", rsa_key()}}), dns);
  CHECK(reports.size() == 51);
  CHECK(std::count_if(reports.begin(), reports.end(), [](const SignatureReport& report) {
          return report.result == SignatureResult::policy && report.reason == "too many signatures";
        }) == 43);
  CHECK(dns.asked().size() <= 8);
  DkimLimits limits;
  limits.most_verified = 300;
  limits.most_reported = 300;
  const auto all =
      verify(flood + signed_message(kMessage, {{"example.com", "r", rsa_key()}}), dns, limits);
  CHECK(all.size() == 201);
  CHECK(all.back().result == SignatureResult::pass);
}

TEST_CASE("headers of thousands of fields", "[mailauth][dkim]") {
  tests::FakeZones dns(key_zone());
  std::string many;
  for (int i = 0; i < 10'000; ++i)
    many += "X-Field: " + std::to_string(i) + "\r\n";
  std::string names = "from";
  for (int i = 0; i < 1500; ++i)
    names += ":x-field";
  const auto message =
      message_signed_as(" v=1; a=rsa-sha256; d=example.com; s=r; h=" + names + "; bh=$BH; b=$B",
                        many + kMessage, rsa_key());
  CHECK(verdicts(message, dns) == "pass");
  for (int i = 0; i < 10'000; ++i)
    many += "X: " + std::to_string(i) + "\r\n";
  CHECK(verdicts(many + message, dns) == "policy: header section too large");
}

TEST_CASE("a message without a signature, a header, a body", "[mailauth][dkim]") {
  tests::FakeZones dns(key_zone());
  CHECK(verify(kMessage, dns).empty());
  CHECK(verify("", dns).empty());
  CHECK(verify("\r\n", dns).empty());
  const std::string header_only = "From: joe@example.com\r\n";
  const auto message = signed_message(header_only, {{"example.com", "r", rsa_key()}});
  CHECK(verdicts(message, dns) == "pass");
  CHECK(verdicts(message + "\r\n", dns) == "pass");
}

TEST_CASE("names in UTF-8 are looked up as A-labels", "[mailauth][dkim]") {
  tests::FakeZones dns;
  dns.add_text("r._domainkey.xn--bcher-kva.example", "p=" + rsa_key().public_data());
  const auto message = message_signed_as(
      " v=1; a=rsa-sha256; d=b\xc3\xbc"
      "cher.example; s=r; h=from; bh=$BH; b=$B",
      kMessage, rsa_key());
  const auto reports = verify(message, dns);
  CHECK(reports.front().result == SignatureResult::pass);
  CHECK(reports.front().domain == "xn--bcher-kva.example");
}

}  // namespace
}  // namespace postrider::mailauth
