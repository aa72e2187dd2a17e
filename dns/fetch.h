// HTTP by the name of the host: its addresses by our resolver, then base/net/http/http_client.h.
// The one way in which every part asks a web server.
#pragma once

#include "base/net/http/http_client.h"
#include "dns/resolver.h"

#include <memory>
#include <string>
#include <vector>

namespace postrider::dns {

// The addresses of a host, of the families that may be used, these in turn. An address stands for
// itself, and localhost for loopback (RFC 6761 §6.3); /etc/hosts is not read. Never empty:
// asio::error::host_not_found, or asio::error::host_not_found_try_again if DNS failed.
Task<Result<std::vector<asio::ip::address>>> addresses_of(Resolver& resolver, std::string host,
                                                          Families families);

// resolver: of the loop.
Task<Result<HttpResponse>> http_request(Loop& loop, Resolver& resolver, Families families,
                                        std::shared_ptr<const TlsContext> tls, HttpRequest request,
                                        HttpLimits limits, std::shared_ptr<HttpCall> call);

}  // namespace postrider::dns
