#include "dns/resolv_conf.h"

#include "base/file.h"
#include "base/text.h"
#include "base/user_mounts.h"

#include <algorithm>
#include <sys/stat.h>

namespace postrider::dns {

namespace {

constexpr std::size_t kMostFile = 64U << 10U;
constexpr std::uint64_t kMostTimeout = 30;  // seconds, as the C library
constexpr std::uint64_t kMostAttempts = 5;

// The next word; takes it off the line.
std::string_view next_word(std::string_view& line) {
  constexpr std::string_view kBlank = " \t\r\v\f";
  line.remove_prefix(std::min(line.find_first_not_of(kBlank), line.size()));
  const auto word = line.substr(0, line.find_first_of(kBlank));
  line.remove_prefix(word.size());
  return word;
}

void read_option(std::string_view option, ResolvConf& conf) {
  const auto colon = option.find(':');
  const auto name = option.substr(0, colon);
  if (option == "trust-ad")
    conf.trust_ad = true;
  if (colon == option.npos)
    return;
  const auto number = parse_unsigned(option.substr(colon + 1));
  if (!number || *number == 0)
    return;
  if (name == "timeout")
    conf.timeout = std::chrono::seconds(std::min(*number, kMostTimeout));
  if (name == "attempts")
    conf.attempts = static_cast<unsigned>(std::min(*number, kMostAttempts));
}

void read_nameserver(std::string_view word, ResolvConf& conf) {
  constexpr std::size_t kLongest = 64;  // an IPv6 address with its scope
  if (word.size() > kLongest || word.find('\0') != word.npos ||
      conf.servers.size() == ResolvConf::kMostServers)
    return;
  boost::system::error_code failed;
  Server server;
  server.address = asio::ip::make_address(std::string(word), failed);
  if (!failed && std::find(conf.servers.begin(), conf.servers.end(), server) == conf.servers.end())
    conf.servers.push_back(server);
}

}  // namespace

ResolvConf parse_resolv_conf(std::string_view text) {
  ResolvConf conf;
  for (std::string_view line : split(text.substr(0, kMostFile), '\n')) {
    if (line.starts_with('#') || line.starts_with(';'))
      continue;
    const auto keyword = next_word(line);
    if (keyword == "nameserver")
      read_nameserver(next_word(line), conf);
    else if (keyword == "options")
      for (auto option = next_word(line); !option.empty(); option = next_word(line))
        read_option(option, conf);
  }
  if (conf.servers.empty())
    conf.servers.push_back({asio::ip::address_v4::loopback(), Server().port});
  return conf;
}

std::optional<ResolvConfWatch::Version> ResolvConfWatch::version() const {
  struct stat status {};
  if (!look_at(path_, status))
    return std::nullopt;
  Version version;
  version.device = status.st_dev;
  version.inode = status.st_ino;
  version.size = status.st_size;
  version.seconds = status.st_mtim.tv_sec;
  version.nanoseconds = status.st_mtim.tv_nsec;
  return version;
}

std::optional<ResolvConf> ResolvConfWatch::changed(SteadyTime now) {
  if (checked_ && now - *checked_ < kInterval)
    return std::nullopt;
  const bool first = !checked_;
  checked_ = now;
  const auto current = version();
  if (!first && (!current || current == seen_))
    return std::nullopt;
  auto text = read_file(path_, kMostFile);
  if (!text && !first)
    return std::nullopt;
  seen_ = current;
  auto conf = parse_resolv_conf(text ? std::string_view(*text) : std::string_view());
  if (last_ == conf)
    return std::nullopt;
  last_ = conf;
  return conf;
}

}  // namespace postrider::dns
