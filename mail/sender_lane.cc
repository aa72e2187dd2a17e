#include "mail/sender_lane.h"

#include "base/digest.h"
#include "base/network.h"
#include "base/text.h"

#include <algorithm>
#include <string>
#include <string_view>
#include <utility>

namespace postrider::mail {

namespace {

// A network may be a gateway through which many domains send; whoever makes up domains has no more
// than so many turns.
constexpr std::uint64_t kLanesOfNetwork = 16;

std::string without_extension(std::string_view address) {
  const auto at = address.rfind('@');
  const auto local_part = address.substr(0, at);
  std::string plain(local_part.substr(0, std::max<std::size_t>(local_part.find('+'), 1)));
  if (at != address.npos)
    plain.append(address.substr(at));
  return ascii_lower(plain);
}

// "helo.name[127.0.0.1] uid 1000": the user, as of "local uid 1000". Behind the last bracket nothing is the client's.
std::string user_of(std::string_view client) {
  constexpr std::string_view kUser = "] uid ";
  const auto at = client.rfind(kUser);
  return at == client.npos || client.find(']', at + 1) != client.npos
             ? std::string()
             : "local " + std::string(client.substr(at + 2));
}

// "helo.name[192.0.2.1]": the network.
std::string network_of(std::string_view client) {
  const auto open = client.rfind('[');
  if (open == client.npos || !client.ends_with(']'))
    return std::string(client);
  auto literal = client.substr(open + 1, client.size() - open - 2);
  if (starts_with_ignoring_case(literal, "IPv6:"))
    literal.remove_prefix(5);
  const auto address = IpAddress::parse(literal);
  if (!address)
    return std::string(literal);
  return address->masked(address->is_v4() ? 24 : 64).str();
}

std::uint64_t number_of(const std::string& text) {
  std::uint64_t number = 0;
  for (const char octet : sha256(text).substr(0, sizeof number))
    number = number << 8U | static_cast<unsigned char>(octet);
  return number;
}

}  // namespace

std::uint64_t sender_lane(const Message& message) {
  const auto& sender = message.envelope.sender;
  const auto& origin = message.origin;
  std::string who;
  // RFC 3848: the A stands for AUTH. Mail that an older version stored has no user.
  if (!origin.user.empty())
    who = "user " + ascii_lower(origin.user);
  else if (origin.protocol.ends_with('A'))
    who = "user " + without_extension(sender);
  else if (origin.client.starts_with("local "))
    who = origin.client;
  else if (auto user = user_of(origin.client); !user.empty())
    who = std::move(user);
  else if (origin.client.empty())
    who = origin.protocol + " " + domain_of(sender);
  else
    who = network_of(origin.client) + " " +
          std::to_string(number_of(domain_of(sender)) % kLanesOfNetwork);
  return number_of(who);
}

}  // namespace postrider::mail
