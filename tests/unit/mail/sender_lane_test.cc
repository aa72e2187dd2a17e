#include "mail/sender_lane.h"

#include <catch2/catch.hpp>

#include <set>
#include <string>

namespace postrider::mail {
namespace {

Message message_from(const std::string& protocol, const std::string& client,
                     const std::string& sender) {
  Message message;
  message.origin.protocol = protocol;
  message.origin.client = client;
  message.envelope.sender = sender;
  return message;
}

Message logged_in(const std::string& user, const std::string& sender) {
  auto message = message_from("ESMTPSA", "a[192.0.2.1]", sender);
  message.origin.user = user;
  return message;
}

bool is_same(const Message& one, const Message& other) {
  return sender_lane(one) == sender_lane(other);
}

TEST_CASE("who sends is one sender by login, user or network", "[mail][unit]") {
  struct Case {
    const char* what;
    Message one, other;
    bool is_same;
  };
  const Case cases[] = {
      {"a login, whatever the extension, client and case",
       message_from("ESMTPSA", "a[192.0.2.1]", "ann+x@us.test"),
       message_from("ESMTPA", "b[198.51.100.1]", "Ann@us.test"), true},
      {"two logins of one host", message_from("ESMTPSA", "a[192.0.2.1]", "ann@us.test"),
       message_from("ESMTPSA", "a[192.0.2.1]", "bob@us.test"), false},
      {"a login, and its address without one",
       message_from("ESMTPSA", "a[192.0.2.1]", "ann@us.test"),
       message_from("ESMTPS", "a[192.0.2.1]", "ann@us.test"), false},
      {"no login: an address for each message",
       message_from("ESMTP", "a[192.0.2.1]", "b-1@list.test"),
       message_from("ESMTP", "a[192.0.2.1]", "b-2@list.test"), true},
      {"no login: another host of the network",
       message_from("ESMTP", "a[192.0.2.1]", "b@list.test"),
       message_from("SMTP", "c[192.0.2.200]", "b@list.test"), true},
      {"no login: another network", message_from("ESMTP", "a[192.0.2.1]", "b@list.test"),
       message_from("ESMTP", "a[192.0.3.1]", "b@list.test"), false},
      {"no login: another domain", message_from("ESMTP", "a[192.0.2.1]", "b@list.test"),
       message_from("ESMTP", "a[192.0.2.1]", "b@other.test"), false},
      {"IPv6: one /64", message_from("ESMTP", "a[IPv6:2001:db8::1]", "b@list.test"),
       message_from("ESMTP", "a[IPv6:2001:db8::ffff]", "b@list.test"), true},
      {"IPv6: another /64", message_from("ESMTP", "a[IPv6:2001:db8::1]", "b@list.test"),
       message_from("ESMTP", "a[IPv6:2001:db8:0:1::1]", "b@list.test"), false},
      {"a name with brackets of its own", message_from("ESMTP", "x[1][192.0.2.1]", "b@list.test"),
       message_from("ESMTP", "[2][192.0.2.9]", "b@list.test"), true},
      {"users of this machine", message_from("local", "local uid 1000", "a@us.test"),
       message_from("local", "local uid 1001", "a@us.test"), false},
      {"one user of this machine", message_from("local", "local uid 1000", "a@us.test"),
       message_from("local", "local uid 1000", "b@us.test"), true},
      {"one user of this machine, over loopback and by sendmail",
       message_from("ESMTP", "a[127.0.0.1] uid 1000", "b@us.test"),
       message_from("local", "local uid 1000", "a@us.test"), true},
      {"users of this machine over loopback, of one domain",
       message_from("ESMTP", "a[127.0.0.1] uid 1000", "a@us.test"),
       message_from("ESMTP", "a[127.0.0.1] uid 1001", "b@us.test"), false},
      {"a name that says it is a user of this machine",
       message_from("ESMTP", "a[x] uid 1000[192.0.2.1]", "a@us.test"),
       message_from("local", "local uid 1000", "a@us.test"), false},
      {"a login that sends from many addresses", logged_in("ann", "a@one.test"),
       logged_in("Ann", "b@two.test"), true},
      {"two logins that send from one address", logged_in("ann", "a@one.test"),
       logged_in("bob", "a@one.test"), false},
      {"notices", message_from("notice", "", ""), message_from("notice", "", ""), true},
      {"notices and reports", message_from("notice", "", ""),
       message_from("report", "", "a@us.test"), false},
      {"a local part of one sign", message_from("ESMTPA", "", "+x@us.test"),
       message_from("ESMTPA", "", "+@us.test"), true},
  };
  for (const auto& c : cases) {
    INFO(c.what);
    CHECK(is_same(c.one, c.one));
    CHECK(is_same(c.one, c.other) == c.is_same);
  }
}

TEST_CASE("a network that makes up domains has few turns", "[mail][unit]") {
  std::set<std::uint64_t> lanes, others;
  for (int i = 0; i < 1000; ++i) {
    const auto sender = "a@d" + std::to_string(i) + ".test";
    lanes.insert(sender_lane(message_from("ESMTP", "a[192.0.2.1]", sender)));
    others.insert(sender_lane(message_from("ESMTP", "a[192.0.3.1]", sender)));
  }
  CHECK(lanes.size() == 16);
  CHECK(others.size() == 16);
  for (const auto lane : others)
    CHECK_FALSE(lanes.contains(lane));
}

}  // namespace
}  // namespace postrider::mail
