#include "dns/fetch.h"

#include "base/text.h"

namespace postrider::dns {

namespace {

using Addresses = std::vector<asio::ip::address>;

Addresses in_turn(const Addresses& six, const Addresses& four) {
  Addresses out;
  for (std::size_t i = 0; i < std::max(six.size(), four.size()); ++i) {
    if (i < six.size())
      out.push_back(six[i]);
    if (i < four.size())
      out.push_back(four[i]);
  }
  return out;
}

bool is_localhost(std::string_view host) {
  return equals_ignoring_case(host, "localhost") || ends_with_ignoring_case(host, ".localhost");
}

}  // namespace

Task<Result<Addresses>> addresses_of(Resolver& resolver, std::string host, Families families) {
  boost::system::error_code is_name;
  const auto literal = asio::ip::make_address(host, is_name);
  if (!is_name)
    co_return Addresses(1, literal);
  Addresses six, four;
  std::string trouble;
  if (is_localhost(host)) {
    six.push_back(asio::ip::address_v6::loopback());
    four.push_back(asio::ip::address_v4::loopback());
  }
  if (families != Families::ipv4 && six.empty()) {
    auto answer = co_await resolver.aaaa(host);
    six = std::move(answer.records);
    trouble = answer.reason;
  }
  if (families != Families::ipv6 && four.empty()) {
    auto answer = co_await resolver.a(host);
    four = std::move(answer.records);
    if (trouble.empty())
      trouble = answer.reason;
  }
  if (families == Families::ipv4)
    six.clear();
  if (families == Families::ipv6)
    four.clear();
  auto found = in_turn(six, four);
  if (!found.empty())
    co_return found;
  if (!trouble.empty())
    co_return Error(asio::error::host_not_found_try_again, "look up " + host + ": " + trouble);
  co_return Error(asio::error::host_not_found, host + " has no address");
}

Task<Result<HttpResponse>> http_request(Loop& loop, Resolver& resolver, Families families,
                                        std::shared_ptr<const TlsContext> tls, HttpRequest request,
                                        HttpLimits limits, std::shared_ptr<HttpCall> call) {
  auto addresses = co_await addresses_of(resolver, request.host, families);
  if (!addresses)
    co_return addresses.error();
  auto answer = co_await postrider::http_request(loop, std::move(tls), *std::move(addresses),
                                                 std::move(request), limits, std::move(call));
  co_return answer;
}

}  // namespace postrider::dns
