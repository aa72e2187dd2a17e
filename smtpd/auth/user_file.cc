#include "smtpd/auth/user_file.h"

#include "base/base64.h"
#include "base/quoted.h"
#include "base/text.h"
#include "smtpd/auth/user_key.h"

#include <crypt.h>

#include <map>

namespace postrider::smtpd::auth {

namespace {

constexpr std::string_view kScram = "SCRAM-SHA-256,";
constexpr std::uint64_t kMostIterations = 10'000'000;
constexpr std::size_t kKeySize = 32;
constexpr std::size_t kDesHash = 13;

Error bad_line(std::size_t number, const std::string& what) {
  return malformed("line " + std::to_string(number) + ": " + what);
}

std::optional<ScramKeys> parse_keys(std::string_view text) {
  if (!text.starts_with(kScram))
    return std::nullopt;
  const auto parts = split(text.substr(kScram.size()), ',');
  if (parts.size() != 4)
    return std::nullopt;
  const auto iterations = parse_unsigned(parts[0]);
  auto salt = decode_base64(parts[1]);
  auto stored_key = decode_base64(parts[2]);
  auto server_key = decode_base64(parts[3]);
  if (!iterations || *iterations == 0 || *iterations > kMostIterations || !salt || salt->empty() ||
      !stored_key || stored_key->size() != kKeySize || !server_key ||
      server_key->size() != kKeySize)
    return std::nullopt;
  return ScramKeys{std::move(*salt), static_cast<std::uint32_t>(*iterations),
                   std::move(*stored_key), std::move(*server_key)};
}

std::string_view without_return(std::string_view line) {
  return line.ends_with('\r') ? line.substr(0, line.size() - 1) : line;
}

// "$y$j9T$" of "$y$j9T$salt$hash": what decides how long comparing takes.
std::string_view cost_of(std::string_view hash) {
  const auto last = hash.rfind('$');
  return hash.substr(0, last == std::string_view::npos ? 0 : hash.rfind('$', last - 1));
}

// Each as often as it was counted.
template <typename T>
const T* draw_one(const std::vector<std::pair<std::size_t, T>>& counted, std::uint64_t draw) {
  std::size_t all = 0;
  for (const auto& [count, value] : counted)
    all += count;
  if (all == 0)
    return nullptr;
  auto left = draw % all;
  for (const auto& [count, value] : counted) {
    if (left < count)
      return &value;
    left -= count;
  }
  return nullptr;
}

}  // namespace

std::string_view crypt_setting(std::string_view hash) {
  return hash.starts_with('{') ? hash.substr(hash.find('}') + 1) : hash;
}

bool is_computable(std::string_view hash) {
  const std::string setting(crypt_setting(hash));
  if (setting.empty() || (std::string_view("$_").find(setting.front()) == std::string_view::npos &&
                          setting.size() != kDesHash))
    return false;  // any two letters are a salt of the oldest kind
  const int verdict = crypt_checksalt(setting.c_str());
  return verdict != CRYPT_SALT_INVALID && verdict != CRYPT_SALT_METHOD_DISABLED;
}

Result<UserFile> UserFile::parse(std::string_view text) {
  UserFile file;
  std::map<std::string_view, std::pair<std::size_t, std::string_view>> costs;
  std::map<std::uint32_t, std::size_t> iterations;
  std::size_t number = 0;
  for (auto line : split(text, '\n')) {
    ++number;
    line = without_return(line);
    if (line.empty() || line.front() == '#')
      continue;
    if (line.size() > kMostLine)
      return bad_line(number, "longer than 2048 octets");
    const auto parts = split(line, ':');
    const auto user = user_key(parts[0]);
    if (!user || parts.size() < 2 || parts.size() > 3)
      return bad_line(number, "\"user:hash\" or \"user:hash:keys\" is needed");
    UserEntry entry;
    entry.hash = parts[1];
    if (parts.size() == 3 && !parts[2].empty()) {
      entry.scram = parse_keys(parts[2]);
      if (!entry.scram)
        return bad_line(number, "the SCRAM keys are broken");
      ++iterations[entry.scram->iterations];
    }
    if (is_computable(entry.hash))
      costs[cost_of(parts[1])] = {costs[cost_of(parts[1])].first + 1, parts[1]};
    if (!file.users_.emplace(*user, std::move(entry)).second)
      return bad_line(number, quote_value(*user) + " is there already");
  }
  for (const auto& [cost, seen] : costs)
    file.costs_.emplace_back(seen.first, seen.second);
  for (const auto& [count, users] : iterations)
    file.iterations_.emplace_back(users, count);
  return file;
}

const std::string& UserFile::made_up_hash(std::uint64_t draw) const {
  static const std::string none;
  const auto* drawn = draw_one(costs_, draw);
  return drawn == nullptr ? none : *drawn;
}

std::uint32_t UserFile::made_up_iterations(std::uint64_t draw) const {
  const auto* drawn = draw_one(iterations_, draw);
  return drawn == nullptr ? kIterations : *drawn;
}

const UserEntry* UserFile::find(std::string_view user) const {
  const auto at = users_.find(std::string(user));
  return at == users_.end() ? nullptr : &at->second;
}

std::string format_user(std::string_view user, const UserEntry& entry) {
  auto line = std::string(user) + ":" + entry.hash;
  if (entry.scram)
    line += ":" + std::string(kScram) + std::to_string(entry.scram->iterations) + "," +
            encode_base64(entry.scram->salt) + "," + encode_base64(entry.scram->stored_key) + "," +
            encode_base64(entry.scram->server_key);
  return line;
}

std::optional<std::string> with_user(std::string_view text, std::string_view user,
                                     const UserEntry* entry) {
  std::string out;
  bool found = false;
  while (!text.empty()) {
    const auto end = text.find('\n');
    const auto line = without_return(text.substr(0, end));
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
    const bool is_comment = line.empty() || line.front() == '#';
    if (is_comment || user_key(line.substr(0, line.find(':'))) != user) {
      out.append(line).append("\n");
      continue;
    }
    if (entry != nullptr && !found)
      out.append(format_user(user, *entry)).append("\n");
    found = true;
  }
  if (!found && entry == nullptr)
    return std::nullopt;
  if (!found)
    out.append(format_user(user, *entry)).append("\n");
  return out;
}

}  // namespace postrider::smtpd::auth
