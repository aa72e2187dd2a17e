// A resolver, two fake servers and the loop that all of them run on.
#pragma once

#include "base/log.h"
#include "base/random.h"
#include "dns/stub_resolver.h"
#include "tests/support/fake_dns_server.h"

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace postrider::dns {

struct DnsFixture {
  Loop loop{0};
  NullLog log;
  SystemRandom random;
  tests::FakeDnsServer server{loop, log};
  tests::FakeDnsServer second{loop, log};
  ResolverSettings settings;
  std::unique_ptr<StubResolver> resolver;

  DnsFixture() {
    settings.servers = {server.address()};
    settings.timeouts = {Duration(1000), Duration(1200), Duration(1400)};
    settings.total = Duration(30000);
  }
  ~DnsFixture() {
    resolver.reset();
    server.stop();
    second.stop();
    loop.finish();
    loop.run();
  }

  void start() { resolver = std::make_unique<StubResolver>(loop, settings, log, random); }
  void start_with_two() {
    settings.servers = {server.address(), second.address()};
    start();
  }

  template <class Record>
  static Task<void> collect(Task<Answer<Record>> lookup,
                            std::shared_ptr<std::optional<Answer<Record>>> answer) {
    *answer = co_await std::move(lookup);
  }
  // Begins; the answer is there when the loop has run far enough.
  template <class Record>
  std::shared_ptr<std::optional<Answer<Record>>> begin(Task<Answer<Record>> lookup) {
    auto answer = std::make_shared<std::optional<Answer<Record>>>();
    loop.spawn(collect(std::move(lookup), answer), log, "test");
    return answer;
  }
  template <class Record>
  Answer<Record> finish(const std::shared_ptr<std::optional<Answer<Record>>>& answer) {
    run_until([&] { return answer->has_value(); });
    return std::move(**answer);
  }
  template <class Condition>
  void run_until(Condition met) {
    while (!met())
      loop.context().run_one();
  }
  void run_until_asked(const tests::FakeDnsServer& by, std::size_t times) {
    run_until([&] { return by.asked().size() >= times; });
  }

  Answer<Mx> mx(std::string name) { return finish(begin(resolver->mx(std::move(name)))); }
  Answer<asio::ip::address> a(std::string name) {
    return finish(begin(resolver->a(std::move(name))));
  }
  Answer<std::string> txt(std::string name) {
    return finish(begin(resolver->txt(std::move(name))));
  }
  Answer<Tlsa> tlsa(std::string name) { return finish(begin(resolver->tlsa(std::move(name)))); }
};

// "10 mx.example.test"
inline std::vector<std::string> texts(const std::vector<Mx>& records) {
  std::vector<std::string> texts;
  for (const auto& mx : records)
    texts.push_back(std::to_string(mx.preference) + " " + mx.host);
  return texts;
}

inline std::vector<std::string> texts(const std::vector<asio::ip::address>& records) {
  std::vector<std::string> texts;
  for (const auto& address : records)
    texts.push_back(address.to_string());
  return texts;
}

}  // namespace postrider::dns
