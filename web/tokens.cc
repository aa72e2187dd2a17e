#include "web/tokens.h"

#include "base/digest.h"
#include "base/file.h"
#include "base/text.h"
#include "base/user_mounts.h"

#include <algorithm>
#include <sstream>
#include <sys/stat.h>
#include <unistd.h>

namespace postrider::web {

namespace {

constexpr std::size_t kHashDigits = 64;
constexpr std::size_t kMostName = 64;
constexpr const char* kRoleNames[] = {"none", "read", "change", "send"};

Error at_line(std::size_t number, const std::string& what) {
  return malformed("line " + std::to_string(number) + ": " + what);
}

bool is_hash(const std::string& text) {
  return text.size() == kHashDigits &&
         text.find_first_not_of("0123456789abcdef") == std::string::npos;
}

bool is_name(const std::string& text) {
  return !text.empty() && text.size() <= kMostName &&
         std::all_of(text.begin(), text.end(), [](char c) { return c > ' ' && c < '\x7f'; });
}

Result<Token> parse_token(const std::string& line, std::size_t number) {
  std::istringstream words(line);
  std::string role, hash, name, more;
  words >> role >> hash >> name >> more;
  if (parse_role(role) == Role::none)
    return at_line(number, "a token's line begins with its role: read, change or send");
  if (!is_hash(hash))
    return at_line(
        number, "the second word is the SHA-256 of the token, 64 hexadecimal digits in lower case");
  if (!is_name(name) || !more.empty())
    return at_line(number, "the third and last word is a name of at most 64 printable characters");
  return Token{parse_role(role), hash, name};
}

}  // namespace

const char* name_of(Role role) {
  return kRoleNames[static_cast<std::size_t>(role)];
}

Role parse_role(std::string_view name) {
  for (const auto role : {Role::read, Role::change, Role::send})
    if (name == name_of(role))
      return role;
  return Role::none;
}

Result<std::vector<Token>> parse_tokens(std::string_view text) {
  std::vector<Token> tokens;
  std::istringstream lines{std::string(text)};
  std::size_t number = 0;
  for (std::string line; std::getline(lines, line);) {
    ++number;
    const auto trimmed = std::string(trim(line));
    if (trimmed.empty() || trimmed.front() == '#')
      continue;
    auto token = parse_token(trimmed, number);
    if (!token)
      return token.error();
    if (tokens.size() >= kMostTokens)
      return at_line(number, "more than " + std::to_string(kMostTokens) + " tokens");
    tokens.push_back(*std::move(token));
  }
  return tokens;
}

Result<std::vector<Token>> read_tokens(const std::string& path) {
  const auto file = open_to_read(path);
  if (!file)
    return file.error();
  struct stat found {};
  if (::fstat(file->get(), &found) != 0)
    return system_error("open " + path);
  if (!S_ISREG(found.st_mode))
    return Error(Errc::refused, path + " is not a regular file");
  if ((found.st_mode & (S_IWGRP | S_IRWXO)) != 0)
    return Error(
        Errc::refused,
        path + " may be written by its group, or read by everybody; run chmod 0640 " + path);
  const auto text = read_file(*file, path, kMostTokenFile);
  if (!text)
    return text.error();
  auto tokens = parse_tokens(*text);
  if (!tokens)
    return tokens.error().during(path);
  return tokens;
}

const Token* find_token(const std::vector<Token>& tokens, std::string_view given) {
  const auto hash = encode_hex(sha256(given));
  const Token* found = nullptr;
  for (const auto& token : tokens)
    if (equal_in_constant_time(token.hash, hash))
      found = &token;
  return found;
}

NewToken make_token(Role role, const std::string& name) {
  constexpr std::size_t kOctets = 32;
  NewToken made;
  made.secret = "prt_" + encode_hex(random_bytes(kOctets));
  made.line =
      std::string(name_of(role)) + " " + encode_hex(sha256(made.secret)) + " " + name + "\n";
  return made;
}

bool GuessLimiter::may_try(const std::string& client, SteadyTime now) {
  const auto found = clients_.find(client);
  if (found == clients_.end())
    return true;
  if (now - found->second.since >= kWindow) {
    clients_.erase(found);
    return true;
  }
  return found->second.count < kMost;
}

void GuessLimiter::failed(const std::string& client, SteadyTime now) {
  if (clients_.size() >= kMostClients && !clients_.contains(client))
    forget(now);
  auto& guesses = clients_[client];
  if (guesses.count == 0)
    guesses.since = now;
  ++guesses.count;
}

// All that are over; or, where none is, all: 2^256 tokens are not found by that.
void GuessLimiter::forget(SteadyTime now) {
  std::erase_if(clients_, [&](const auto& one) { return now - one.second.since >= kWindow; });
  if (clients_.size() >= kMostClients)
    clients_.clear();
}

}  // namespace postrider::web
