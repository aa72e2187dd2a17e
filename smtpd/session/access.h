// Tables that say who is refused, and how: "ok", "reject TEXT" or "defer TEXT". Looked up for
// ann@mail.example.org, the first that is found: the address, the domain, ".example.org", ".org",
// "ann@". The null sender is "<>".
#pragma once

#include "base/network.h"
#include "smtpd/session/client_name.h"
#include "tables/table.h"

#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace postrider::smtpd {

using TablePtr = std::shared_ptr<const tables::Table>;

struct Access {
  enum class Kind : std::uint8_t { none, ok, reject, defer, cannot_tell };
  Kind kind = Kind::none;
  std::string text;   // for the client: printable ASCII, one short line
  std::string where;  // of the entry: "/etc/postrider/recipients:3"
};
// What is wrong with the value of an entry: empty if it may stand.
std::string check_access_value(std::string_view value);
Access look_up_access(const std::vector<TablePtr>& tables, std::string_view address);
// Of a client, the first that is found: its address, the networks that hold it ("192.0.2.0/24",
// /16, /8; "2001:db8:1:2::/64", /48, /32), its name in the DNS if that leads back to it,
// ".example.org",
// ".org"; "unknown" for one that has no such name. name: null: it is not known; a client whose name
// the DNS did not say in time is not called unknown.
Access look_up_client(const std::vector<TablePtr>& tables, const IpAddress& address,
                      const ClientName* name);
// Whether an address, its domain ("@example.org") or, with an extension, its plain form is a key.
// An error: not now.
Result<bool> is_listed(const std::vector<TablePtr>& tables, std::string_view address);

}  // namespace postrider::smtpd
