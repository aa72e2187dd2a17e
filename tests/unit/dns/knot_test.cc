// The resolver against a real name server, Knot, which the test starts and stops.
#include "base/file.h"
#include "tests/unit/dns/dns_fixture.h"

#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <catch2/catch.hpp>

#include <csignal>
#include <cstdlib>
#include <fcntl.h>
#include <filesystem>
#include <sys/wait.h>
#include <unistd.h>

namespace postrider::dns {

namespace {

using Texts = std::vector<std::string>;

std::string find_knotd() {
  for (const char* path : {"/usr/sbin/knotd", "/usr/bin/knotd", "/usr/local/sbin/knotd"})
    if (::access(path, X_OK) == 0)
      return path;
  return {};
}

// Its own folder, process and port on loopback; all gone at the end.
class Knot {
 public:
  Knot(std::string program, const std::vector<std::pair<std::string, std::string>>& zones)
      : program_(std::move(program)) {
    folder_ = (std::filesystem::temp_directory_path() / "knot-XXXXXX").string();
    REQUIRE(::mkdtemp(folder_.data()) != nullptr);
    port_ = free_port();
    std::string conf = "server:\n  rundir: \"" + folder_ + "\"\n  listen: 127.0.0.1@" +
                       std::to_string(port_) +
                       "\n  udp-workers: 1\n  tcp-workers: 1\n  background-workers: 1\n"
                       "log:\n- target: stderr\n  any: warning\n"
                       "database:\n  storage: \"" +
                       folder_ + "\"\ntemplate:\n- id: default\n  storage: \"" + folder_ +
                       "\"\n  zonefile-sync: -1\n  zonefile-load: whole\n  journal-content: none\n"
                       "zone:\n";
    for (const auto& [name, text] : zones) {
      conf += "- domain: " + name + "\n  file: " + name + ".zone\n";
      REQUIRE(replace_file(folder_ + "/" + name + ".zone", text, 0644));
    }
    REQUIRE(replace_file(folder_ + "/knot.conf", conf, 0644));
    start();
  }
  ~Knot() {
    ::kill(process_, SIGTERM);
    int status = 0;
    ::waitpid(process_, &status, 0);
    std::filesystem::remove_all(folder_);
  }
  Knot(const Knot&) = delete;
  Knot& operator=(const Knot&) = delete;

  Server address() const { return {asio::ip::address_v4::loopback(), port_}; }
  bool is_running() const { return ::waitpid(process_, nullptr, WNOHANG) == 0; }
  std::string complaints() const { return read_file(folder_ + "/errors").value(); }

 private:
  static std::uint16_t free_port() {
    asio::io_context context;
    asio::ip::tcp::acceptor acceptor(context,
                                     asio::ip::tcp::endpoint(asio::ip::address_v4::loopback(), 0));
    return acceptor.local_endpoint().port();
  }
  void start() {
    const std::string conf = folder_ + "/knot.conf", errors = folder_ + "/errors";
    process_ = ::fork();
    REQUIRE(process_ >= 0);
    if (process_ > 0)
      return;
    const int out = ::open(errors.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
    ::dup2(out, 1);
    ::dup2(out, 2);
    ::execl(program_.c_str(), program_.c_str(), "-c", conf.c_str(), nullptr);
    ::_exit(127);
  }

  std::string program_, folder_;
  std::uint16_t port_ = 0;
  pid_t process_ = -1;
};

std::string example_zone() {
  std::string zone = R"($ORIGIN example.test.
$TTL 600
@ SOA ns.example.test. root.example.test. 1 3600 600 86400 120
@ NS ns
ns A 127.0.0.1
@ 300 MX 20 mx2
@ 300 MX 10 MX1
mx1 A 192.0.2.1
mx1 A 192.0.2.2
mx1 AAAA 2001:db8::1
_25._tcp.mx1 TLSA 3 1 1 00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff
alias CNAME mx1
far CNAME other.example.net.
gone CNAME nowhere
null MX 0 .
spf TXT "v=spf1 " "-all"
)";
  for (int i = 0; i < 120; ++i)
    zone += "big MX " + std::to_string(i) + " a-host-with-a-rather-long-name-" + std::to_string(i) +
            "\n";
  return zone;
}

constexpr const char* kReverseZone = R"($ORIGIN 2.0.192.in-addr.arpa.
$TTL 600
@ SOA ns.example.test. root.example.test. 1 3600 600 86400 120
@ NS ns.example.test.
1 PTR mx1.example.test.
)";

struct KnotFixture : DnsFixture {
  // Asks until Knot has loaded its zones.
  void wait_for(const Knot& knot) {
    asio::steady_timer timer(loop.context());
    const auto give_up = std::chrono::steady_clock::now() + std::chrono::seconds(30);
    while (a("ns.example.test").status != Status::records) {
      INFO(knot.complaints());
      REQUIRE(knot.is_running());
      REQUIRE(std::chrono::steady_clock::now() < give_up);
      bool is_time = false;
      timer.expires_after(Duration(20));
      timer.async_wait([&is_time](const boost::system::error_code&) { is_time = true; });
      run_until([&] { return is_time; });
      resolver->forget_all();
    }
  }
};

}  // namespace

TEST_CASE_METHOD(KnotFixture, "a real name server is understood", "[dns][resolver][knot]") {
  const auto program = find_knotd();
  if (program.empty()) {
    WARN("skipped: knotd is not installed (Debian package knot)");
    return;
  }
  Knot knot(program, {{"example.test", example_zone()}, {"2.0.192.in-addr.arpa", kReverseZone}});
  settings.servers = {knot.address()};
  settings.timeouts = {Duration(5000)};
  settings.failure_ttl = Duration(0);
  start();
  wait_for(knot);

  const auto mx_answer = mx("Example.TEST");
  Texts hosts = texts(mx_answer.records);
  std::sort(hosts.begin(), hosts.end());
  CHECK(hosts == Texts{"10 mx1.example.test", "20 mx2.example.test"});
  CHECK(mx_answer.ttl <= Duration(300000));
  CHECK(mx_answer.ttl > Duration(290000));
  CHECK_FALSE(mx_answer.secure);
  CHECK(a("mx1.example.test").records.size() == 2);
  CHECK(texts(finish(begin(resolver->aaaa("mx1.example.test"))).records) == Texts{"2001:db8::1"});
  CHECK(txt("spf.example.test").records == Texts{"v=spf1 -all"});
  CHECK(texts(mx("null.example.test").records) == Texts{"0 "});
  const auto address = asio::ip::make_address("192.0.2.1");
  CHECK(finish(begin(resolver->ptr(address))).records == Texts{"mx1.example.test"});
  const auto tlsa_answer = tlsa("_25._tcp.mx1.example.test");
  REQUIRE(tlsa_answer.records.size() == 1);
  CHECK(tlsa_answer.records[0].data.size() == 32);

  const auto alias = a("alias.example.test");
  CHECK(alias.records.size() == 2);
  CHECK(alias.canonical_name == "mx1.example.test");
  CHECK(a("gone.example.test").status == Status::no_such_name);
  // Knot answers the alias and refuses the rest, which is another's.
  CHECK(a("far.example.test").reason.find("REFUSED") != std::string::npos);
  const auto absent = mx("nowhere.example.test");
  CHECK(absent.status == Status::no_such_name);
  CHECK(absent.ttl <= Duration(120000));
  CHECK(absent.ttl > Duration(110000));
  CHECK(mx("mx1.example.test").status == Status::no_data);
  CHECK(a("_tcp.mx1.example.test").status == Status::no_data);
  CHECK(a("example.com").status == Status::temporary_failure);

  CHECK(resolver->counters().over_tcp == 0);
  const auto big = mx("big.example.test");
  CHECK(big.records.size() == 100);
  CHECK(resolver->counters().over_tcp == 1);
}

}  // namespace postrider::dns
