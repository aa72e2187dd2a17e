// Sender Policy Framework (RFC 7208): may this client use this domain in HELO or MAIL FROM?
//
// Limits (§4.6.4): 10 terms that cause questions, with the one that a %{p} macro causes; 2 terms
// that find nothing ("void"); 10 hosts of an mx term (more is a permerror) and 10 names of a client
// (the others are ignored). Each is over the whole check, with what is included and redirected to.
// The limit on time is the driver's: Questions::give_up() makes the result temperror.
//
// What is published for explanations (exp=) is checked for its syntax and otherwise ignored: texts
// written by strangers are not shown to others.
#pragma once

#include "base/network.h"
#include "mailauth/asking.h"
#include "mailauth/spf_record.h"

#include <string>

namespace postrider::mailauth {

struct SpfVerdict {
  SpfResult result = SpfResult::none;
  std::string
      domain;  // of the identity, as asked for; as given if the result is none because of it
  // The directive that decided, as published ("-all"), of the domain's record or of one that it
  // redirects to; empty if none did.
  std::string directive;
  std::string reason;  // of none, temperror and permerror, for people; not escaped
};

// check_host() of §4. client: where the mail comes from; an IPv4 address mapped into IPv6 is IPv4.
// domain: what is checked; sender: the mailbox of the identity, for macros, "postmaster" added
// where it has no local part; helo: for macros. Internationalized domains are looked up as A-labels
// (RFC 8616). The result is none for no client.
Asking<SpfVerdict> check_host(IpAddress client, std::string domain, std::string sender,
                              std::string helo);
// §2.3: the HELO identity. None for address literals and names of one label.
Asking<SpfVerdict> check_helo(IpAddress client, std::string helo);
// §2.4: the MAIL FROM identity. An empty reverse path is postmaster at the HELO name.
Asking<SpfVerdict> check_mail_from(IpAddress client, std::string helo, std::string mail_from);

}  // namespace postrider::mailauth
