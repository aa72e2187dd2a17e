#include "dns/resolv_conf.h"

#include "base/file.h"

#include <catch2/catch.hpp>

#include <cstdlib>
#include <filesystem>

namespace postrider::dns {

using namespace std::literals;

namespace {

std::string servers(const ResolvConf& conf) {
  std::string text;
  for (const auto& server : conf.servers)
    text += to_string(server) + " ";
  return text;
}

class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string pattern = (std::filesystem::temp_directory_path() / "dns-XXXXXX").string();
    path_ = ::mkdtemp(pattern.data());
  }
  ~TemporaryFolder() { std::filesystem::remove_all(path_); }
  std::string file(const std::string& name) const { return (path_ / name).string(); }

 private:
  std::filesystem::path path_;
};

}  // namespace

TEST_CASE("resolv.conf is read as the C library reads it", "[dns][resolv_conf]") {
  struct Case {
    std::string name;
    std::string text;
    std::string want;
  };
  const std::vector<Case> cases = {
      {"nothing", "", "127.0.0.1:53 "},
      {"one", "nameserver 192.0.2.1\n", "192.0.2.1:53 "},
      {"several, in order",
       "search a.test\nnameserver 192.0.2.2\nnameserver\t 2001:db8::1 \nnameserver fe80::1%lo\n",
       "192.0.2.2:53 [2001:db8::1]:53 [fe80::1%lo]:53 "},
      {"comments", "# nameserver 192.0.2.1\n;nameserver 192.0.2.2\nnameserver 192.0.2.3 # x\n",
       "192.0.2.3:53 "},
      {"line ends of Windows", "nameserver 192.0.2.1\r\n", "192.0.2.1:53 "},
      {"no last line end", "nameserver 192.0.2.1", "192.0.2.1:53 "},
      {"twice the same", "nameserver 192.0.2.1\nnameserver 192.0.2.1\n", "192.0.2.1:53 "},
      {"nonsense", "nameserver\nnameserver x\nnameserver 1.2.3.4:53\nnameserver [::1]:5\nnames 1\n",
       "127.0.0.1:53 "},
      {"octets", "nameserver \0\xff\nnameserver 192.0.2.1\0\nnameserver 192.0.2.9\n"s,
       "192.0.2.9:53 "},
      {"an endless line", "nameserver " + std::string(100000, '1'), "127.0.0.1:53 "},
  };
  for (const auto& c : cases) {
    DYNAMIC_SECTION(c.name) {
      CHECK(servers(parse_resolv_conf(c.text)) == c.want);
    }
  }
  std::string many;
  for (int i = 0; i < 100; ++i)
    many += "nameserver 192.0.2." + std::to_string(i) + "\n";
  CHECK(parse_resolv_conf(many).servers.size() == ResolvConf::kMostServers);
}

TEST_CASE("the options of resolv.conf are bounded", "[dns][resolv_conf]") {
  const auto conf = parse_resolv_conf("options ndots:2 timeout:4 attempts:3 trust-ad\n");
  CHECK(conf.timeout == Duration(4000));
  CHECK(conf.attempts == 3U);
  CHECK(conf.trust_ad);
  const auto large = parse_resolv_conf("options timeout:99999 attempts:99999\n");
  CHECK(large.timeout == Duration(30000));
  CHECK(large.attempts == 5U);
  const auto odd = parse_resolv_conf("options timeout:0 attempts:-1 timeout: trust-ad:1\n");
  CHECK_FALSE(odd.timeout);
  CHECK_FALSE(odd.attempts);
  CHECK_FALSE(odd.trust_ad);
}

TEST_CASE("a changed or replaced resolv.conf is noticed, after a few seconds",
          "[dns][resolv_conf]") {
  TemporaryFolder folder;
  const auto path = folder.file("resolv.conf");
  REQUIRE(replace_file(path, "nameserver 192.0.2.1\n", 0644));
  ResolvConfWatch watch(path);
  SteadyTime now{std::chrono::hours(1)};
  const auto later = [&] { return now += ResolvConfWatch::kInterval; };

  const auto first = watch.changed(now);
  REQUIRE(first);
  CHECK(servers(*first) == "192.0.2.1:53 ");
  CHECK_FALSE(watch.changed(later()));
  REQUIRE(replace_file(path, "nameserver 192.0.2.2\n", 0644));
  CHECK_FALSE(watch.changed(now + Duration(1)));
  const auto second = watch.changed(later());
  REQUIRE(second);
  CHECK(servers(*second) == "192.0.2.2:53 ");
  SECTION("a rewrite that says the same is not a change") {
    REQUIRE(replace_file(path, "nameserver 192.0.2.2\n# x\n", 0644));
    CHECK_FALSE(watch.changed(later()));
  }
  SECTION("a file that went away says nothing new") {
    std::filesystem::remove(path);
    CHECK_FALSE(watch.changed(later()));
    REQUIRE(replace_file(path, "nameserver 192.0.2.3\n", 0644));
    CHECK(watch.changed(later()));
  }
}

TEST_CASE("a missing resolv.conf means the server on this host", "[dns][resolv_conf]") {
  TemporaryFolder folder;
  ResolvConfWatch watch(folder.file("none"));
  const auto conf = watch.changed(SteadyTime{});
  REQUIRE(conf);
  CHECK(servers(*conf) == "127.0.0.1:53 ");
}

}  // namespace postrider::dns
