// Tokens made by the openssl program and Python, and what becomes of them.
#include "smtpd/auth/bearer_token.h"
#include "smtpd/auth/dovecot_protocol.h"
#include "smtpd/auth/tables.h"

#include <catch2/catch.hpp>

#include <algorithm>
#include <map>

using namespace postrider;
using namespace postrider::smtpd::auth;

namespace {

const std::string kRsa =
    "-----BEGIN PUBLIC KEY-----\n"
    "MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEA2E6FeM7oVANpCj9FBzxv\n"
    "WsFhJgcS4dJz2HiKgzSW5KhVgUQBkm3fDpzCDDFWaVettI5Ui0u891Xqs7rKoijN\n"
    "DE2Tf8N/2grhyPeg4/w1k9m9TlsH6DIJi6kF2CuR2tSz6dAUi1jz+F03gJCZUK2T\n"
    "kol4a9bDDsaWliAqKK8GFTiZ0eZgX+bdQSY5+fCtsBi09ArNiEATv7P2xkYkI2Qg\n"
    "5HHvBtWOtjXlTMalk++uEFiOQHz9c5ot9zpjab49Xv7WzDyiN6oq4l5Q9dk5hZZc\n"
    "uh8FAom0kJ+VKXeA2jSOLuqHCej+zOIE+6MU4hsiiJOk44oKACdPJZIFm+uCZtkV\n"
    "CQIDAQAB\n"
    "-----END PUBLIC KEY-----\n";
const std::string kEc =
    "-----BEGIN PUBLIC KEY-----\n"
    "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEqthd3Tsfk85EHr0/qQGMtB6GYP+y\n"
    "GvVbQ0SKJCaWcTBv+kiUeAO+/D7Qzofdw6XNcXA1r65ynHkEPGxCg7wLsg==\n"
    "-----END PUBLIC KEY-----\n";
const std::string kJwks =
    "{\"keys\": [{\"kty\": \"RSA\", \"kid\": \"r\", \"n\": "
    "\"2E6FeM7oVANpCj9FBzxvWsFhJgcS4dJz2HiKgzSW5"
    "KhVgUQBkm3fDpzCDDFWaVettI5Ui0u891Xqs7rKoijNDE2Tf8N_2grhyPeg4_w1k9m9TlsH6DIJi6kF2CuR2"
    "tSz6dAUi1jz-F03gJCZUK2Tkol4a9bDDsaWliAqKK8GFTiZ0eZgX-bdQSY5-fCtsBi09ArNiEATv7P2xkYkI"
    "2Qg5HHvBtWOtjXlTMalk--uEFiOQHz9c5ot9zpjab49Xv7WzDyiN6oq4l5Q9dk5hZZcuh8FAom0kJ-VKXeA2"
    "jSOLuqHCej-zOIE-6MU4hsiiJOk44oKACdPJZIFm-uCZtkVCQ\", \"e\": \"AQAB\"}, {\"kty\": \"EC\", \"kid"
    "\": \"e\", \"crv\": \"P-256\", \"x\": \"qthd3Tsfk85EHr0_qQGMtB6GYP-yGvVbQ0SKJCaWcTA\", \"y\": "
    "\"b_"
    "pIlHgDvvw-0M6H3cOlzXFwNa-ucpx5BDxsQoO8C7I\"}, {\"kty\": \"oct\", \"kid\": \"h\", \"k\": "
    "\"a2tra2"
    "tra2tra2tra2tra2tra2tra2tra2tra2tra2s\"}, {\"kty\": \"OKP\", \"crv\": \"Ed25519\", \"x\": "
    "\"AA\"}"
    "]}";
const std::map<std::string, std::string> kTokens = {
    {"rs",
     "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJodHRwczovL2lkcC50ZXN0IiwiYXVkIjpbInNtdHAiLCJpbWFwIl0"
     "sImVtYWlsIjoiQW5uYUB1cy50ZXN0IiwiZXhwIjoyMDAwMDAwMDAwLCJzY29wZSI6Im9wZW5pZCBzbXRwLnN"
     "lbmQifQ.P9J1-RpTtgNZMijDOBeSCeOA9FpDZZUlfCDljo_NQjHlxWPF7zo28ce-vYheaSmoEnB6CC3goq7t"
     "OJXCzxywOzdqniL9g_Q6vdFxpD9m8_68SWukufpC4TyAruZhvYjTJ4LQKBO7299Xl67tVWAsYBjKX90z4uoS"
     "VrI6zilta2hQGunlUO9ojoM21YFWBqRm4nhmNKqBlj_p-GTMCYxNyDVRGq8kpQqiYMpdBUcEq5LCKQwMdIUT"
     "mTgipWXH4STtj9CmqmsivQ8GRxEbxwqpWdZxcNdw9FwoZ-O1HT11cPN3OA_SLLpty6TdmmOZDpG7N1trJjDm"
     "jWJPj2v4gLde-w"},
    {"es",
     "eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJodHRwczovL2lkcC50ZXN0IiwiYXVkIjpbInNtdHAiLCJpbWFwIl0"
     "sImVtYWlsIjoiQW5uYUB1cy50ZXN0IiwiZXhwIjoyMDAwMDAwMDAwLCJzY29wZSI6Im9wZW5pZCBzbXRwLnN"
     "lbmQifQ.MGj57ZC6VARfQP_LA0OIJO3l3t479GkmXWUTzYoDX2dSwSn1bAvkHIQZnIuHXFM4uOpT_6nsEvK6"
     "61XKsMWRQQ"},
    {"rs_kid",
     "eyJhbGciOiJSUzI1NiIsImtpZCI6InIifQ.eyJpc3MiOiJodHRwczovL2lkcC50ZXN0IiwiYXVkIjpbInNtd"
     "HAiLCJpbWFwIl0sImVtYWlsIjoiQW5uYUB1cy50ZXN0IiwiZXhwIjoyMDAwMDAwMDAwLCJzY29wZSI6Im9wZ"
     "W5pZCBzbXRwLnNlbmQifQ.eDDfzy62Jb-D7mLoaFOCsn6ePlsZhpWWc9aIuRdWJkKdn7SXI1PDMnRR2t9Jg4"
     "5BuQtqcIcJslCBNM-oV54ojokPYPBAZcZgfTe1cHKdfpJo8IG8C8szesiNMmOcVMfpWQxHQfe0ftv4FaQ6bP"
     "NtdomH9aWrN5exJogX5GuZLx321bNLk08wxkkh4hyaEfcPW4WI2Z8N_tktMtPe301ncOGOXLfY1UGJG1xk59"
     "vvKb6_oiy8b4ds-cLsHsxpNmq_6pdOpeuML7eclVTtYQaNjfqnABpSmEi4HHIOCMJKPLJQz9Mh5MWMDZT-xJ"
     "TzuqwoiPGhuJpqHLdstdulefxmJw"},
    {"rs_wrong_kid",
     "eyJhbGciOiJSUzI1NiIsImtpZCI6ImUifQ.eyJpc3MiOiJodHRwczovL2lkcC50ZXN0IiwiYXVkIjpbInNtd"
     "HAiLCJpbWFwIl0sImVtYWlsIjoiQW5uYUB1cy50ZXN0IiwiZXhwIjoyMDAwMDAwMDAwLCJzY29wZSI6Im9wZ"
     "W5pZCBzbXRwLnNlbmQifQ.UfM_JDHd8LahlbnubyCjcRUGTKs49w6MNYWQuv3BQtyjPefny6zVwmYzjhX4B0"
     "QJpglQbpW9VyfD99N-eq6yRT64Wkca0thMcsIXSlkmrV-jTx_qH95aeGVIKBo5mOX2ks_Xx0yjkzm3KE5h3s"
     "VRG2yPdwhpVzPKU8oFr3036XXJHYboZRKR3jaEbUfJ751F92MrdVqoAHS_gxbiWt7wxfiagwBIauIRNmQ69A"
     "C4i9KH758i-WLQcqspFKvyI2GKPYFdokFzTS-INJ9Heo7pZ9I7T-7oskqGpd86Udb0Ygz1XZauyRArOEdhUd"
     "uGL4csCUSPYoC9fHwW9WT_jWcgOg"},
    {"hs",
     "eyJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJodHRwczovL2lkcC50ZXN0IiwiYXVkIjpbInNtdHAiLCJpbWFwIl0"
     "sImVtYWlsIjoiQW5uYUB1cy50ZXN0IiwiZXhwIjoyMDAwMDAwMDAwLCJzY29wZSI6Im9wZW5pZCBzbXRwLnN"
     "lbmQifQ.9yR1PdaDmI2eKvHShMnQy9-nbqGP_aeiEiMdz4krglw"},
    {"none",
     "eyJhbGciOiJub25lIn0.eyJpc3MiOiJodHRwczovL2lkcC50ZXN0IiwiYXVkIjpbInNtdHAiLCJpbWFwIl0s"
     "ImVtYWlsIjoiQW5uYUB1cy50ZXN0IiwiZXhwIjoyMDAwMDAwMDAwLCJzY29wZSI6Im9wZW5pZCBzbXRwLnNl"
     "bmQifQ."},
    {"crit",
     "eyJhbGciOiJIUzI1NiIsImNyaXQiOlsieCJdfQ.eyJpc3MiOiJodHRwczovL2lkcC50ZXN0IiwiYXVkIjpbI"
     "nNtdHAiLCJpbWFwIl0sImVtYWlsIjoiQW5uYUB1cy50ZXN0IiwiZXhwIjoyMDAwMDAwMDAwLCJzY29wZSI6I"
     "m9wZW5pZCBzbXRwLnNlbmQifQ.BtNWe6o-zn2Smq54h06w6id89q_EN1-vGVk1h8V0WEs"},
    {"confused",
     "eyJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJodHRwczovL2lkcC50ZXN0IiwiYXVkIjpbInNtdHAiLCJpbWFwIl0"
     "sImVtYWlsIjoiQW5uYUB1cy50ZXN0IiwiZXhwIjoyMDAwMDAwMDAwLCJzY29wZSI6Im9wZW5pZCBzbXRwLnN"
     "lbmQifQ.nE8EczfhTYJUksybyogjP-Prt_GG7C7Uxwi61DDGq4Q"},
    {"expired",
     "eyJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJodHRwczovL2lkcC50ZXN0IiwiYXVkIjpbInNtdHAiLCJpbWFwIl0"
     "sImVtYWlsIjoiQW5uYUB1cy50ZXN0IiwiZXhwIjoxMDAwMDAwMDAwLCJzY29wZSI6Im9wZW5pZCBzbXRwLnN"
     "lbmQifQ.d-VxuBZXUnF94KGEZU8L7GzqnX-Ifs_qzPMwRHJAJ8Q"},
    {"no_exp",
     "eyJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJodHRwczovL2lkcC50ZXN0IiwiYXVkIjpbInNtdHAiLCJpbWFwIl0"
     "sImVtYWlsIjoiQW5uYUB1cy50ZXN0Iiwic2NvcGUiOiJvcGVuaWQgc210cC5zZW5kIn0.wf9Qi00Ate3ul0V"
     "T8VK5f64S7VnaTTBe6Et0AIqywgI"},
    {"early",
     "eyJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJodHRwczovL2lkcC50ZXN0IiwiYXVkIjpbInNtdHAiLCJpbWFwIl0"
     "sImVtYWlsIjoiQW5uYUB1cy50ZXN0IiwiZXhwIjoyMDAwMDAwMDAwLCJzY29wZSI6Im9wZW5pZCBzbXRwLnN"
     "lbmQiLCJuYmYiOjE5OTk5OTk5OTl9.pWZEo4ZBcvKoZNx7qHUYgBWe3R86Fq9nHSluq27VALw"},
    {"other_issuer",
     "eyJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJodHRwczovL2V2aWwudGVzdCIsImF1ZCI6WyJzbXRwIiwiaW1hcCJ"
     "dLCJlbWFpbCI6IkFubmFAdXMudGVzdCIsImV4cCI6MjAwMDAwMDAwMCwic2NvcGUiOiJvcGVuaWQgc210cC5"
     "zZW5kIn0.k84CcsJZnK9y2FgLNuXmXJLdIqx6L2F679spuvZztyA"},
    {"other_audience",
     "eyJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJodHRwczovL2lkcC50ZXN0IiwiYXVkIjoiaW1hcCIsImVtYWlsIjo"
     "iQW5uYUB1cy50ZXN0IiwiZXhwIjoyMDAwMDAwMDAwLCJzY29wZSI6Im9wZW5pZCBzbXRwLnNlbmQifQ.WG4C"
     "pIm8vTqt_u7r-tHcWicQ0M5t81g9hnr8ZzWwC1s"},
    {"one_audience",
     "eyJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJodHRwczovL2lkcC50ZXN0IiwiYXVkIjoic210cCIsImVtYWlsIjo"
     "iQW5uYUB1cy50ZXN0IiwiZXhwIjoyMDAwMDAwMDAwLCJzY29wZSI6Im9wZW5pZCBzbXRwLnNlbmQifQ.Qh7P"
     "jtDZ3H1rNbVS9YHLKWSqfGOhaH0YUB6OI0VCDW0"},
    {"no_scope",
     "eyJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJodHRwczovL2lkcC50ZXN0IiwiYXVkIjpbInNtdHAiLCJpbWFwIl0"
     "sImVtYWlsIjoiQW5uYUB1cy50ZXN0IiwiZXhwIjoyMDAwMDAwMDAwLCJzY29wZSI6Im9wZW5pZCJ9.3zaE9u"
     "8en6qX4m736_QOQmA4Tezf_z3L2YUCsmCc1cc"},
    {"scp",
     "eyJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJodHRwczovL2lkcC50ZXN0IiwiYXVkIjpbInNtdHAiLCJpbWFwIl0"
     "sImVtYWlsIjoiQW5uYUB1cy50ZXN0IiwiZXhwIjoyMDAwMDAwMDAwLCJzY3AiOlsic210cC5zZW5kIl19.mn"
     "lczrJW6znAhjEw-rgUN5mVUNXVMQnCR8g4UkbYIoY"},
    {"no_user",
     "eyJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJodHRwczovL2lkcC50ZXN0IiwiYXVkIjpbInNtdHAiLCJpbWFwIl0"
     "sImV4cCI6MjAwMDAwMDAwMCwic2NvcGUiOiJvcGVuaWQgc210cC5zZW5kIn0.ku6gfFXGWuyRIK4zYuqs7sr"
     "A4k_Gmw-7Tx5N5ZS6QfU"},
    {"unverified",
     "eyJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJodHRwczovL2lkcC50ZXN0IiwiYXVkIjpbInNtdHAiLCJpbWFwIl0"
     "sImVtYWlsIjoiQW5uYUB1cy50ZXN0IiwiZXhwIjoyMDAwMDAwMDAwLCJzY29wZSI6Im9wZW5pZCBzbXRwLnN"
     "lbmQiLCJlbWFpbF92ZXJpZmllZCI6ZmFsc2V9.RmdsDCFj_-xF54Qvpio8DSZaJKPGitA9EH82NxS2T4M"},
    {"nan",
     "eyJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJodHRwczovL2lkcC50ZXN0IiwiYXVkIjpbInNtdHAiLCJpbWFwIl0"
     "sImVtYWlsIjoiQW5uYUB1cy50ZXN0IiwiZXhwIjoieCIsInNjb3BlIjoib3BlbmlkIHNtdHAuc2VuZCJ9.Of"
     "fx9jdHKavdtiN4MKUqDRBFX3xUBhX1jnjUklGndwg"},
    {"array", "eyJhbGciOiJIUzI1NiJ9.WzFd.Xbx718LkTuS4OlBzW5QjG-niiyYt2DzF2dWy1XR0ED0"},
};

const TimePoint kNow{std::chrono::seconds(1800000000)};

OauthRules rules() {
  OauthRules rules;
  rules.issuer = "https://idp.test";
  rules.audience = "smtp";
  rules.scope = "smtp.send";
  return rules;
}

bool is_good(const std::string& token, const TokenKeys& keys) {
  return read_jwt(kTokens.at(token), keys, rules(), kNow).has_value();
}

}  // namespace

TEST_CASE("a token is taken when one of the keys has signed it, as the key's kind signs",
          "[smtpd][auth]") {
  const auto all = TokenKeys::parse(kJwks).value();
  CHECK(all.size() == 3);
  const auto rsa = TokenKeys::parse(kRsa).value();
  const auto ec = TokenKeys::parse(kEc).value();
  const auto secret = TokenKeys::parse("secret:" + std::string(32, 'k') + "\n").value();
  struct Case {
    std::string token;
    bool all, rsa, ec, secret;
  };
  const Case cases[] = {
      {"rs", true, true, false, false},
      {"es", true, false, true, false},
      {"hs", true, false, false, true},
      {"rs_kid", true, true, false, false},
      {"rs_wrong_kid", false, true, false, false},
      {"none", false, false, false, false},
      {"confused", false, false, false, false},
      {"crit", false, false, false, false},
  };
  for (const auto& c : cases)
    DYNAMIC_SECTION(c.token) {
      CHECK(is_good(c.token, all) == c.all);
      CHECK(is_good(c.token, rsa) == c.rsa);
      CHECK(is_good(c.token, ec) == c.ec);
      CHECK(is_good(c.token, secret) == c.secret);
    }
  CHECK(read_jwt(kTokens.at("hs"), all, rules(), kNow)->user == "Anna@us.test");
}

TEST_CASE("a token's claims must be as the rules ask", "[smtpd][auth]") {
  const auto keys = TokenKeys::parse(kJwks).value();
  for (const char* good : {"one_audience", "scp"})
    CHECK(is_good(good, keys));
  for (const char* bad : {"expired", "no_exp", "early", "other_issuer", "other_audience",
                          "no_scope", "no_user", "unverified", "nan", "array"})
    DYNAMIC_SECTION(bad) {
      CHECK_FALSE(is_good(bad, keys));
    }
  auto token = kTokens.at("rs");
  for (std::size_t at = 0; at < token.size(); at += 7) {
    auto broken = token;
    broken[at] = broken[at] == 'A' ? 'B' : 'A';
    CHECK_FALSE(read_jwt(broken, keys, rules(), kNow).has_value());
    CHECK_FALSE(read_jwt(token.substr(0, at), keys, rules(), kNow).has_value());
  }
}

TEST_CASE("keys that cannot be used are refused", "[smtpd][auth]") {
  for (const char* bad :
       {"", "short", "{}", "{\"keys\":[]}", "{\"keys\":[{\"kty\":\"oct\",\"k\":\"AA\"}]}",
        "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"})
    CHECK_FALSE(TokenKeys::parse(bad).has_value());
}

// Everybody knows an issuer's public keys, and how a download of them may end.
TEST_CASE("no text becomes a secret that does not say so", "[smtpd][auth]") {
  const auto with_quotes = [](std::string text) {
    std::replace(text.begin(), text.end(), '"', '\'');
    return text;
  };
  const std::string k32(32, 'k');
  const auto base64_of_pem = kRsa.substr(27, kRsa.size() - 27 - 25);
  const std::pair<const char*, std::string> forms[] = {
      {"a comma too many", kJwks.substr(0, kJwks.size() - 2) + ",]}"},
      {"cut off", kJwks.substr(0, kJwks.size() / 2)},
      {"the last brace is missing", kJwks.substr(0, kJwks.size() - 1)},
      {"only its end", kJwks.substr(kJwks.size() / 2)},
      {"a byte order mark", "\xef\xbb\xbf" + kJwks},
      {"a byte order mark before PEM", "\xef\xbb\xbf" + kRsa.substr(27)},
      {"UTF-16", std::string("\xff\xfe{\0\"\0k\0e\0y\0s\0\"\0:\0[\0]\0}\0", 24) + k32},
      {"a comment first", "# keys of idp.test\n" + kJwks},
      {"another comment", "// keys of idp.test\n" + kJwks},
      {"two documents", kJwks + "\n" + kJwks},
      {"single quotes", with_quotes(kJwks)},
      {"a list of keys", kJwks.substr(9, kJwks.size() - 10)},
      {"a JSON text", "\"" + k32 + "\""},
      {"quoted JSON", "\"" + kJwks + "\""},
      {"HTML", "<!DOCTYPE html><html><title>502 Bad Gateway</title></html>"},
      {"HTTP", "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n" + kJwks},
      {"ssh-rsa", "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABAQDYToV4zuhUA2kKP0UHPG9awWE idp"},
      {"PEM without its first line", kRsa.substr(27)},
      {"PEM without its last line", kRsa.substr(0, kRsa.size() - 25)},
      {"PEM without both", base64_of_pem},
      {"PEM without line ends", base64_of_pem.substr(0, 64)},
      {"PEM cut off behind a good block", kEc + kRsa.substr(0, kRsa.size() / 2)},
      {"a broken block behind a good one",
       kEc + "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"},
      {"four dashes", kRsa.substr(1, kRsa.size())},
      {"a private key",
       "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIAABAgMEBQYHCAkKCwwNDg8Q"
       "ERITFBUWFxgZGhscHR4f\n-----END PRIVATE KEY-----\n"},
      {"a URL", "https://idp.test/oauth2/v1/certs?kid=0123456789"},
      {"a path", "/etc/postrider/keys/of/the/identity/provider.json"},
      {"hexadecimal", std::string(64, 'a')},
      {"a secret without its mark", k32 + "\n"},
      {"another mark", "SECRET:" + k32},
      {"white space before the mark", " secret:" + k32},
      {"a comment before the mark", "# ours\nsecret:" + k32},
      {"a JWKS behind the mark", "secret:\n" + kJwks},
      {"a second line behind the mark", "secret:" + k32 + "\n" + k32 + "\n"},
      {"a short secret", "secret:" + k32.substr(1) + "\n"},
      {"a short secret and line ends", "secret:" + k32.substr(1) + "\n\n\n"},
      {"a NUL", "secret:" + k32 + std::string(1, '\0')},
      {"only the mark", "secret:"},
  };
  for (const auto& [what, text] : forms)
    DYNAMIC_SECTION(what) {
      const auto keys = TokenKeys::parse(text);
      REQUIRE_FALSE(keys.has_value());
      CHECK(keys.error().describe().find("no usable key") != std::string::npos);
    }
}

TEST_CASE("a marked secret is its line, whatever it looks like", "[smtpd][auth]") {
  for (const std::string secret :
       {"a secret of more than thirty-two octets", "{\"keys\": 'not a JWKS but a sentence'}",
        "https://idp.test/with/thirty-two/octets"})
    for (const char* end : {"", "\n", "\r\n"}) {
      const auto keys = TokenKeys::parse("secret:" + secret + end);
      REQUIRE(keys.has_value());
      REQUIRE(keys->size() == 1);
      CHECK(keys->all().front().algorithm == "HS256");
      CHECK(keys->all().front().secret == secret);
    }
}

TEST_CASE("a key is used for what it says that it is for", "[smtpd][auth]") {
  const auto is_used = [](const std::string& more) {
    const auto k = std::string("\"k\":\"a2tra2tra2tra2tra2tra2tra2tra2tra2tra2tra2s\"");
    return TokenKeys::parse("{\"kty\":\"oct\"," + k + more + "}").has_value();
  };
  CHECK(is_used(""));
  CHECK(is_used(R"(,"alg":"HS256")"));
  CHECK(is_used(R"(,"use":"sig","key_ops":["sign","verify"])"));
  for (const char* other : {R"(,"alg":"HS512")", R"(,"alg":"none")", R"(,"alg":"A256KW")",
                            R"(,"alg":256)", R"(,"use":"enc")", R"(,"use":["sig"])",
                            R"(,"key_ops":["encrypt"])", R"(,"key_ops":"verify")"})
    DYNAMIC_SECTION(other) {
      CHECK_FALSE(is_used(other));
    }
}

TEST_CASE("JSON of an issuer with members without number is not read", "[smtpd][auth]") {
  const auto padded = [](std::string_view object, int members) {
    std::string text(object.substr(0, object.size() - 1));
    for (int i = 0; i < members; ++i)
      text.append(",\"pad").append(std::to_string(i)).append("\":0");
    return text + "}";
  };
  auto jwks = std::string(kJwks);
  while (jwks.back() != '}')
    jwks.pop_back();
  CHECK(TokenKeys::parse(padded(jwks, 100)).has_value());
  CHECK_FALSE(TokenKeys::parse(padded(jwks, 1000)).has_value());
}

TEST_CASE("an introspection's answer is judged like a token", "[smtpd][auth]") {
  const auto judge = [](std::string_view json) {
    return read_introspection(json, rules(), kNow).has_value();
  };
  const std::string good =
      R"("iss":"https://idp.test","aud":"smtp","scope":"smtp.send","email":"a@b")";
  CHECK(judge("{\"active\":true," + good + "}"));
  CHECK(judge("{\"active\":true,\"exp\":2000000000," + good + "}"));
  CHECK_FALSE(judge("{\"active\":false," + good + "}"));
  CHECK_FALSE(judge("{" + good + "}"));
  CHECK_FALSE(judge("{\"active\":\"true\"," + good + "}"));
  CHECK_FALSE(judge("{\"active\":true,\"exp\":1700000000," + good + "}"));
  // A time that cannot be read is none that lies ahead.
  for (const char* time :
       {"\"2000000000\"", "\"soon\"", "null", "true", "{}", "[2000000000]", "1e300"})
    for (const char* claim : {"exp", "nbf"}) {
      INFO(claim << " " << time);
      CHECK_FALSE(
          judge("{\"active\":true,\"" + std::string(claim) + "\":" + time + "," + good + "}"));
    }
  CHECK_FALSE(judge("[]"));
  CHECK_FALSE(judge(""));
}

TEST_CASE("an address counts when its claim of being verified is true, or absent",
          "[smtpd][auth]") {
  const auto judge = [](const std::string& more, const std::string& claim) {
    auto wanted = rules();
    wanted.user = claim;
    const auto token = read_introspection(
        R"({"active":true,"iss":"https://idp.test","aud":"smtp","scope":"smtp.send","email":"a@b",)"
        R"("sub":"a@b")" +
            more + "}",
        wanted, kNow);
    return token.has_value() && token->user == "a@b";
  };
  CHECK(judge("", "email"));
  CHECK(judge(R"(,"email_verified":true)", "email"));
  CHECK(judge(R"(,"email_verified":"true")", "email"));
  for (const char* bad : {"false", "\"false\"", "0", "1", "null", "\"\"", "\"True\"", "\"yes\"",
                          "[true]", "{}", "1.0"})
    DYNAMIC_SECTION(bad) {
      CHECK_FALSE(judge(R"(,"email_verified":)" + std::string(bad), "email"));
      CHECK(judge(R"(,"email_verified":)" + std::string(bad), "sub"));
    }
}

TEST_CASE("Dovecot's lines are read, and ours are as it wants them", "[smtpd][auth]") {
  CHECK(parse_dovecot("OK\t1\tuser=an\x01tna\tresp=dj0=")->user == "an\tna");
  CHECK(parse_dovecot("OK\t1\tuser=anna\tresp=dj0=")->data == "v=");
  CHECK(parse_dovecot("CONT\t1\tcj0=")->kind == DovecotReply::Kind::go_on);
  CHECK(parse_dovecot("CONT\t1\t")->data.empty());
  CHECK(parse_dovecot("FAIL\t1\tuser=anna")->kind == DovecotReply::Kind::refused);
  CHECK(parse_dovecot("FAIL\t1\tuser=anna\ttemp")->kind == DovecotReply::Kind::unavailable);
  CHECK(parse_dovecot("FAIL\t1\tcode=temp_fail")->kind == DovecotReply::Kind::unavailable);
  for (const char* bad : {"", "OK", "OK\t2\tuser=anna", "OK\t1", "CONT\t1\t!", "MECH\t1"})
    CHECK_FALSE(parse_dovecot(bad));
  for (const char* reply : {"OK\t2\tuser=anna", "OK\t1", "CONT\t1\t!", "FAIL", "OK"})
    CHECK(is_dovecot_reply(reply));
  for (const char* other : {"", "MECH\t1", "OKAY\t1", "SPID\t7"})
    CHECK_FALSE(is_dovecot_reply(other));
  DovecotRequest request;
  request.mechanism = "PLAIN";
  request.client = "192.0.2.1";
  request.initial = "x";
  CHECK(format_dovecot(request) ==
        "AUTH\t1\tPLAIN\tservice=smtp\tsecured\trip=192.0.2.1\tresp=eA==\n");
}

TEST_CASE("certificates are listed by fingerprint", "[smtpd][auth]") {
  const std::string digits(64, 'a');
  CHECK(parse_certificates("# x\n" + digits + " Anna@us.test\n")->at(digits) == "anna@us.test");
  CHECK(parse_certificates("AA:" + std::string(62, 'A') + "\tanna\n")->at(digits) == "anna");
  for (const std::string& bad : std::vector<std::string>{"aa anna", digits, digits + " a:b"})
    CHECK_FALSE(parse_certificates(bad).has_value());
}
