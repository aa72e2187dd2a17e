// How people read what is in a packet.
#include "base/text.h"
#include "dns/packet_codec.h"

namespace postrider::dns {

std::string_view type_name(Type type) {
  switch (type) {
    case Type::a:
      return "a";
    case Type::ns:
      return "ns";
    case Type::cname:
      return "cname";
    case Type::soa:
      return "soa";
    case Type::ptr:
      return "ptr";
    case Type::mx:
      return "mx";
    case Type::txt:
      return "txt";
    case Type::aaaa:
      return "aaaa";
    case Type::dname:
      return "dname";
    case Type::opt:
      return "opt";
    case Type::tlsa:
      return "tlsa";
  }
  return "other";
}

std::string rcode_name(Rcode code) {
  switch (code) {
    case Rcode::no_error:
      return "NOERROR";
    case Rcode::format_error:
      return "FORMERR";
    case Rcode::server_failure:
      return "SERVFAIL";
    case Rcode::name_error:
      return "NXDOMAIN";
    case Rcode::not_implemented:
      return "NOTIMP";
    case Rcode::refused:
      return "REFUSED";
  }
  return "RCODE " + std::to_string(static_cast<unsigned>(code));
}

std::string describe(const Question& question) {
  return std::string(type_name(question.type)) + " " + escaped(question.name.text());
}

std::string describe(const ExtendedError& error) {
  // RFC 8914 section 4.
  static constexpr const char* kNames[] = {"Other",
                                           "Unsupported DNSKEY Algorithm",
                                           "Unsupported DS Digest Type",
                                           "Stale Answer",
                                           "Forged Answer",
                                           "DNSSEC Indeterminate",
                                           "DNSSEC Bogus",
                                           "Signature Expired",
                                           "Signature Not Yet Valid",
                                           "DNSKEY Missing",
                                           "RRSIGs Missing",
                                           "No Zone Key Bit Set",
                                           "NSEC Missing",
                                           "Cached Error",
                                           "Not Ready",
                                           "Blocked",
                                           "Censored",
                                           "Filtered",
                                           "Prohibited",
                                           "Stale NXDOMAIN Answer",
                                           "Not Authoritative",
                                           "Not Supported",
                                           "No Reachable Authority",
                                           "Network Error",
                                           "Invalid Data"};
  constexpr std::size_t kMostText = 200;
  std::string text = "EDE " + std::to_string(error.code);
  if (error.code < std::size(kNames))
    text.append(" ").append(kNames[error.code]);
  if (!error.text.empty())
    text.append(": ").append(escaped(error.text, kMostText));
  return text;
}

}  // namespace postrider::dns
