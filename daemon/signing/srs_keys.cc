#include "daemon/signing/srs_keys.h"

#include "base/base64.h"
#include "base/digest.h"
#include "base/file.h"
#include "base/text.h"
#include "base/user_mounts.h"
#include "mail/address.h"

#include <algorithm>
#include <sys/stat.h>

namespace postrider::daemon {

namespace {

constexpr std::size_t kLeast = 16, kMost = 512, kMostKeys = 20;
constexpr std::size_t kMostBytes = 64U << 10U;
constexpr std::size_t kMadeOctets = 24;
constexpr const char* kOption = "local.srs_key";

SrsKeys useless(std::string why) {
  return {{}, {{0, std::move(why)}}};
}

// Or it lies in the spool, which is the daemon's user's.
bool is_file_named(const Config& config) {
  return !config.local.srs_key.empty();
}

std::string key_file(const Config& config) {
  return is_file_named(config) ? config.local.srs_key : config.spool + "/srs_key";
}

bool exists(const std::string& path) {
  const auto place = find_place(path, LastLink::keep);
  return place || place.error().code() != boost::system::errc::no_such_file_or_directory;
}

Result<void> make_keys(const std::string& path) {
  const auto text =
      "# Of the addresses that are made of senders (local.srs). The first key makes them, each of\n"
      "# them verifies. For a new key put a line in front; 21 days later the old one may go.\n" +
      encode_base64(random_bytes(kMadeOctets)) + "\n";
  return replace_file(path, text, 0600);
}

Problem problem_of(const std::string& path, SrsKeys::Wrong wrong, const Origins& origins) {
  if (wrong.line > 0)
    return {wrong.line, "", std::move(wrong.text), path};
  const auto origin = origins.find(kOption);
  return {origin == origins.end() ? 0 : origin->second, kOption,
          "\"" + path + "\" " + std::move(wrong.text)};
}

}  // namespace

SrsKeys parse_srs_keys(std::string_view text) {
  SrsKeys out;
  unsigned number = 0;
  for (auto line : split(text, '\n')) {
    ++number;
    if (line.ends_with('\r'))
      line.remove_suffix(1);
    line = trim(line);
    if (line.empty() || line.front() == '#')
      continue;
    const bool is_clean =
        std::none_of(line.begin(), line.end(), [](unsigned char c) { return c < ' ' || c == 127; });
    if (!is_clean)
      out.problems.push_back({number, "holds controls; expected a text without them"});
    else if (line.size() < kLeast || line.size() > kMost)
      out.problems.push_back({number, "is a key of " + std::to_string(line.size()) +
                                          " octets; expected from 16 to 512"});
    else if (std::find(out.keys.begin(), out.keys.end(), line) != out.keys.end())
      out.problems.push_back({number, "is a key that stands there already"});
    else
      out.keys.emplace_back(line);
  }
  if (out.keys.size() > kMostKeys)
    out.problems.push_back({0, "holds more than 20 keys"});
  if (out.keys.empty() && out.problems.empty())
    out.problems.push_back({0, "holds no key; expected a line with one"});
  return out;
}

SrsKeys load_srs_keys(const std::string& path, bool follow) {
  const auto file = open_to_read(path, follow ? LastLink::follow : LastLink::keep);
  if (!file)
    return useless("cannot be opened: " + why_unopened(file.error()));
  struct stat about {};
  if (::fstat(file->get(), &about) != 0)
    return useless("cannot be looked at");
  if (!S_ISREG(about.st_mode))
    return useless("is not a regular file");
  if ((about.st_mode & S_IRWXO) != 0)
    return useless("may be read by others; expected mode 0640 or less");
  const auto text = read_file(*file, path, kMostBytes);
  if (!text)
    return useless(text.error().code() == make_error_code(Errc::too_long)
                       ? "is longer than 64 KiB"
                       : "cannot be read: " + text.error().code().message());
  return parse_srs_keys(*text);
}

std::vector<Problem> check_srs_keys(const Config& config, const Origins& origins) {
  const auto path = key_file(config);
  if (!config.local.srs || !is_file_named(config))
    return {};
  std::vector<Problem> problems;
  for (auto& wrong : load_srs_keys(path, true).problems)
    problems.push_back(problem_of(path, std::move(wrong), origins));
  return problems;
}

Result<std::shared_ptr<const delivery::SenderRewriter>> open_sender_rewriter(const Config& config,
                                                                             const Clock& clock) {
  if (!config.local.srs)
    return std::shared_ptr<const delivery::SenderRewriter>();
  auto domain = mail::to_ascii_domain(config.local.srs_domain);
  if (!domain)
    return domain.error().during("local.srs_domain");
  const auto path = key_file(config);
  if (!is_file_named(config) && !exists(path))
    if (auto made = make_keys(path); !made)
      return made.error().during(kOption);
  auto loaded = load_srs_keys(path, is_file_named(config));
  if (!loaded.problems.empty()) {
    const auto& first = loaded.problems.front();
    const auto place = first.line > 0 ? path + ":" + std::to_string(first.line) : path;
    return malformed(place + ": " + first.text).during(kOption);
  }
  mailauth::SrsRules rules;
  rules.domain = std::move(*domain);
  rules.keys = std::move(loaded.keys);
  return std::shared_ptr<const delivery::SenderRewriter>(
      std::make_shared<delivery::SenderRewriter>(rules, clock));
}

}  // namespace postrider::daemon
