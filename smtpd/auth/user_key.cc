#include "smtpd/auth/user_key.h"

#include "base/saslprep.h"
#include "base/text.h"
#include "smtpd/auth/sasl.h"

namespace postrider::smtpd::auth {

std::optional<std::string> user_key(std::string_view name) {
  if (name.size() > kMostUserName)
    return std::nullopt;
  const auto prepared = saslprep(name);
  if (!prepared || prepared->size() > kMostUserName ||
      prepared->find_first_of(": ") != std::string::npos)
    return std::nullopt;
  return ascii_lower(*prepared);
}

}  // namespace postrider::smtpd::auth
