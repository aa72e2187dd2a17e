// What logging in reads from files and from other servers: the password file, the map of senders,
// certificates, token keys, tokens, introspection's answers, Dovecot's lines, kept limits.
//
// The first octet chooses.
#include "base/assert.h"
#include "smtpd/auth/bearer_token.h"
#include "smtpd/auth/dovecot_protocol.h"
#include "smtpd/auth/login_limiter.h"
#include "smtpd/auth/sender_map.h"
#include "smtpd/auth/sending_quota.h"
#include "smtpd/auth/tables.h"
#include "smtpd/auth/user_file.h"

#include <cstddef>
#include <cstdint>

namespace {

using namespace postrider;
using namespace postrider::smtpd::auth;

void read_users(std::string_view text) {
  const auto file = UserFile::parse(text);
  UserEntry entry;
  entry.hash = "new";
  const auto changed = with_user(text, "anna", &entry);
  POSTRIDER_ASSERT(changed);
  if (!file)
    return;
  const auto again = UserFile::parse(*changed);
  POSTRIDER_ASSERT(again && again->find("anna") != nullptr && again->find("anna")->hash == "new");
}

void read_kept(std::string_view text) {
  SendingQuota quota({{2, 2, 2}, {3, 3, 3}});
  quota.restore(text);
  const TimePoint now{std::chrono::hours(490000)};
  (void)quota.add_message("a", now);
  (void)quota.add_recipient("a", 1, now);
  SendingQuota other({{2, 2, 2}, {3, 3, 3}});
  other.restore(quota.save());
  LoginLimiter guard({2, 2, std::chrono::hours(1)});
  guard.restore(text);
  (void)guard.begin(IpAddress(), text.substr(0, 10), 0, SteadyTime());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 1)
    return 0;
  const std::string_view text(reinterpret_cast<const char*>(data + 1), size - 1);
  static const auto keys = TokenKeys::parse("secret:" + std::string(32, 'k')).value();
  static const TimePoint now{std::chrono::hours(490000)};
  switch (data[0] % 7) {
    case 0:
      read_users(text);
      break;
    case 1:
      if (const auto map = SenderMap::parse(text, {"us.test"}))
        (void)map->allows("anna", text.substr(0, 100));
      break;
    case 2:
      (void)parse_certificates(text);
      break;
    case 3:
      (void)TokenKeys::parse(text);
      break;
    case 4:
      POSTRIDER_ASSERT(!read_jwt(text, keys, {}, now) || looks_like_jwt(text));
      (void)read_introspection(text, {}, now);
      break;
    case 5:
      if (const auto reply = parse_dovecot(text))
        POSTRIDER_ASSERT(reply->kind != DovecotReply::Kind::granted || !reply->user.empty());
      break;
    default:
      read_kept(text);
      break;
  }
  return 0;
}
