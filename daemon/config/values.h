// What the texts in the configuration must look like. Pure. Each check returns nothing, or what is
// wrong and what is allowed.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace postrider::daemon {

// In local.domains: what hostname and origin say.
inline constexpr std::string_view kHostnameDomain = "{hostname}";
inline constexpr std::string_view kOriginDomain = "{origin}";

// The addresses that a listener's stands for: "localhost:25" for "127.0.0.1:25" and "[::1]:25",
// "*:25" for "0.0.0.0:25" and "[::]:25", any other for itself. Of several, those that the machine
// lacks are left out.
std::vector<std::string> listener_addresses(const std::string& configured);

std::string check_host_name(std::string_view text);
std::string check_origin(std::string_view text);            // "example.org", or a path
std::string check_domain(std::string_view text);            // "example.org", U-labels too
std::string check_local_domain(std::string_view text);      // the same, or one of the two below
std::string check_route_domain(std::string_view text);      // "example.org", ".example.org" or "*"
std::string check_route_sender(std::string_view text);      // "a@b", "b", ".b" or "<>"
std::string check_address(std::string_view text);           // "192.0.2.1", "2001:db8::1"
std::string check_weighted_address(std::string_view text);  // the same, or with "*3" behind it
std::string check_domain_pattern(std::string_view text);    // "example.org" or ".example.org"
std::string check_fingerprint(std::string_view text);       // 64 hexadecimal digits, colons allowed
std::string check_network(std::string_view text);   // "192.0.2.0/24", "2001:db8::/32", "::1"
std::string check_listener(std::string_view text);  // "0.0.0.0:25", "localhost:25", "unix:/path"
std::string check_server(std::string_view text);    // "127.0.0.1:53", "::1", "[::1]:53"
std::string check_path(std::string_view text);      // absolute, without ".."
std::string check_optional_path(std::string_view text);  // the same, or empty
// The same, of a file with a secret: where the secret itself is given, the problem does not repeat it.
std::string check_secret_path(std::string_view text);
std::string check_optional_secret_path(std::string_view text);
std::string check_any(std::string_view text);               // no controls
std::string check_mechanism(std::string_view text);         // "PLAIN", "SCRAM-SHA-256", ...
std::string check_pam_service(std::string_view text);       // a file's name, or empty
std::string check_http_url(std::string_view text);          // "https://host:port/path", or empty
std::string check_claim(std::string_view text);             // "email"
std::string check_log_target(std::string_view text);        // "stderr", "syslog" or a path
std::string check_group(std::string_view text);             // of this system, or empty
std::string check_user(std::string_view text);              // a login name, or empty
std::string check_user_or_group(std::string_view text);     // a login name, or "@" and a group's
std::string check_mailbox(std::string_view text);           // "maildir:/var/mail/{user}/"
std::string check_filter_hop(std::string_view text);        // "smtp://host:port", ...; or empty
std::string check_copy_address(std::string_view text);      // "ann@example.org"
std::string check_next_hop(std::string_view text);          // "mx", "smtp://host:port", ...
std::string check_table(std::string_view text);             // "text:/path", "inline:{a=b}", ...
std::string check_aliases(std::string_view text);           // the same, or empty
std::string check_separator(std::string_view text);         // at most four of "+-_=.#", or empty
std::string check_file_name(std::string_view text);         // without slash, or empty
std::string check_signing_key(std::string_view text);       // "example.org:selector:/path"
std::string check_signing_role(std::string_view text);      // "submission", "sendmail", ...
std::string check_signed_field(std::string_view text);      // the name of a header field
std::string check_local_name(std::string_view text);        // of a user, in an address
std::string check_optional_address(std::string_view text);  // "postmaster", "a@b", or empty
std::string check_contact(std::string_view text);           // "a@b", or empty
std::string check_dns_list(std::string_view text);          // "zen.example.org*2"
std::string check_milter(std::string_view text);            // where one listens
std::string check_milter_mail(std::string_view text);       // "mx", "submission", "sendmail"
std::string check_macro(std::string_view text);             // "{daemon_name}=ORIGINATING"
std::string check_site_pattern(std::string_view text);      // "example.org", "mx:.example.net"
std::string check_rate(std::string_view text);              // "100/m", or empty
std::string check_retry_rule(std::string_view text);        // "mailbox-full 1h 4h"
std::string check_pattern(std::string_view text);           // "/pattern/flags"
std::string check_header_action(std::string_view text);     // "reject TEXT", "strip", ...
std::string check_sink_name(std::string_view text);         // of letters, digits, "-" and "_"
std::string check_source_name(std::string_view text);
std::string check_event_type(std::string_view text);  // "delivered"
std::string check_broker_url(std::string_view text);  // "amqps://user@host/vhost"; may be empty
std::string check_topic(std::string_view text);       // may be empty
std::string check_source(std::string_view text);
std::string check_event_field(std::string_view text);   // "to"
std::string check_event_sender(std::string_view text);  // "a@b", "@b" or "<>"
std::string check_one_line(std::string_view text);      // printable, at most 200 octets

// The files that a table needs besides the one that it names: of a password and the like.
std::vector<std::string> further_files_of_table(std::string_view text);

}  // namespace postrider::daemon
