// The client's side of AUTH against any server: which mechanisms are offered, what they are asked
// and how it ends. No secret goes out in clear unasked, SCRAM never believes a server that has not
// proven the password, and a token's refusal is not a login.
//
// The first octet chooses the credentials, the second the connection; the rest are the server's
// octets, with "%" and a letter for what a well-behaved one would send.
#include "base/assert.h"
#include "base/base64.h"
#include "base/text.h"
#include "delivery/smtp/client.h"

#include <cstddef>
#include <cstdint>

namespace {

using namespace postrider;
using namespace postrider::delivery;

constexpr const char* kSecret = "pencil-of-the-user";

Security make_security(unsigned kind, unsigned connection) {
  auto credentials = std::make_shared<Credentials>();
  credentials->user = kind % 3 == 0 ? "user" : "us,er=\xC2\xAA";
  credentials->secret = kind % 5 == 4 ? "a\xD8\xA7" : kSecret;  // cannot be prepared
  credentials->is_token = (kind & 8U) != 0;
  if ((kind & 16U) != 0)
    credentials->secret += std::string(600, 'x');
  Security security;
  security.credentials = credentials;
  security.tls.mode = TlsMode::off;
  security.sasl.is_private = (connection & 1U) != 0;
  security.sasl.nonce = "nonce";
  security.sasl.host = "relay.test";
  security.sasl.port = "587";
  if ((connection & 2U) != 0)
    security.sasl.channel_binding = std::string(32, 'b');
  return security;
}

std::string written(Client& client) {
  std::string out;
  for (const auto& piece : client.take_output())
    out += piece.text;
  return out;
}

bool shows(const std::string& line, const std::string& secret) {
  for (const auto word : split(line, ' ')) {
    const auto decoded = decode_base64(word);
    if (decoded && decoded->find(secret) != decoded->npos)
      return true;
  }
  return false;
}

// The rest of the input, with some of a server's own lines in place of "%x".
std::string server_lines(std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%' || i + 1 == text.size()) {
      out.push_back(text[i]);
      continue;
    }
    switch (text[++i]) {
      case 'g':
        out += "220 relay\r\n";
        break;
      case 'e':
        out +=
            "250-relay\r\n250 AUTH PLAIN LOGIN CRAM-MD5 SCRAM-SHA-256 SCRAM-SHA-256-PLUS "
            "OAUTHBEARER XOAUTH2\r\n";
        break;
      case 'c':
        out += "334 " + encode_base64("{\"status\":\"invalid_token\"}") + "\r\n";
        break;
      case 's':
        out += "334 " + encode_base64("r=nonceserver,s=c2FsdA==,i=4096") + "\r\n";
        break;
      case 'r':
        out += "535 5.7.8 no\r\n";
        break;
      case 'o':
        out += "235 2.7.0 yes\r\n";
        break;
      default:
        out += "\r\n";
    }
  }
  return out;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 3)
    return 0;
  auto security = make_security(data[0], data[1]);
  const auto credentials = security.credentials;
  const bool may_show = security.sasl.is_private;
  (void)mechanisms_for(*credentials, security.sasl);
  Client client("us.test", "relay[192.0.2.1]:587", Dialect::smtp, std::move(security));
  const auto lines = server_lines({reinterpret_cast<const char*>(data + 2), size - 2});
  std::string_view rest(lines);
  std::string last;
  unsigned steps = 0;
  while (!rest.empty() && !client.is_closing() && steps < 50) {
    if (client.wants_sasl_step()) {
      ++steps;
      // A server's iterations cost it nothing and us much: not here.
      const auto challenge = client.challenge();
      const bool is_slow =
          challenge.find("i=") != challenge.npos && challenge.find("i=4096") == challenge.npos;
      client.answer(is_slow ? malformed("slow") : client.sasl()->step(challenge));
    } else {
      const auto end = std::min(rest.find('\n'), rest.size() - 1) + 1;
      if (const auto fed = client.feed(rest.substr(0, end)); !fed)
        client.lost(fed.error());
      rest.remove_prefix(end);
    }
    const auto out = written(client);
    POSTRIDER_ASSERT(may_show || !shows(out, credentials->secret));
    if (client.can_begin() && client.sasl())
      POSTRIDER_ASSERT(client.sasl()->may_succeed());
  }
  POSTRIDER_ASSERT(client.auth_detail().find_first_of("\r\n") == std::string::npos);
  return 0;
}
