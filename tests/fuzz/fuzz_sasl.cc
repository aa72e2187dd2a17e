// Every SASL mechanism, through the AUTH dialogue, with arbitrary lines and arbitrary answers.
// Nobody gets in whom no answer has let in; replies are well formed.
//
// The first octet chooses the mechanism, the second the answers; the rest are the client's lines.
#include "base/assert.h"
#include "base/base64.h"
#include "base/saslprep.h"
#include "smtpd/auth/auth_exchange.h"
#include "smtpd/auth/user_key.h"

#include <cstddef>
#include <cstdint>

namespace {

using namespace postrider;
using namespace postrider::smtpd::auth;

std::unique_ptr<Mechanism> make(unsigned which) {
  Bindings bindings;
  bindings.offered = which % 2 == 0;
  bindings.tls_exporter = "e";
  switch (which % 8) {
    case 0:
      return make_plain();
    case 1:
      return make_login();
    case 2:
      return make_external();
    case 3:
      return make_scram_sha256(false, bindings, "nonce");
    case 4:
      return make_scram_sha256(true, bindings, "nonce");
    case 5:
      return make_oauthbearer();
    case 6:
      return make_xoauth2();
    default:
      return make_relayed("SCRAM-SHA-256");
  }
}

Answer make_answer(unsigned which) {
  Answer answer;
  answer.verdict = static_cast<Answer::Verdict>(which % 5);
  answer.user = "user";
  answer.challenge = which % 3 == 0 ? "data" : "";
  answer.keys.salt = "salt";
  answer.keys.iterations = 1;
  answer.keys.stored_key.assign(32, 's');
  answer.keys.server_key.assign(32, 'k');
  return answer;
}

void check(const AuthExchange::Step& step, bool granted) {
  POSTRIDER_ASSERT((step.kind == AuthExchange::Kind::ask) == step.reply.empty());
  POSTRIDER_ASSERT(step.reply.empty() || step.reply.ends_with("\r\n"));
  POSTRIDER_ASSERT(step.reply.find_first_of("\r\n") + 2 >= step.reply.size());
  POSTRIDER_ASSERT(step.kind != AuthExchange::Kind::passed || granted);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 3)
    return 0;
  std::string_view rest(reinterpret_cast<const char*>(data + 2), size - 2);
  (void)saslprep(rest);
  (void)user_key(rest);
  AuthExchange dialogue(make(data[0]));
  auto step = dialogue.begin(std::nullopt);
  unsigned answers = data[1];
  bool granted = false;
  for (;;) {
    check(step, granted);
    if (step.kind == AuthExchange::Kind::ask) {
      const auto answer = make_answer(answers);
      answers = answers * 5 + 3;
      granted |= answer.verdict == Answer::Verdict::granted;
      step = dialogue.on_answer(answer);
      continue;
    }
    if (step.kind != AuthExchange::Kind::reply || rest.empty())
      return 0;
    const auto end = rest.find('\n');
    const auto line = rest.substr(0, end);
    rest.remove_prefix(end == std::string_view::npos ? rest.size() : end + 1);
    // As it is, or as a client would send it.
    step =
        dialogue.on_line(line.starts_with('!') ? std::string(line.substr(1)) : encode_base64(line));
  }
}
