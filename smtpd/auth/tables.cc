#include "smtpd/auth/tables.h"

#include "base/file.h"
#include "base/file_at_rest.h"
#include "base/text.h"
#include "base/user_mounts.h"
#include "smtpd/auth/user_key.h"

#include <cstdint>
#include <sys/stat.h>

namespace postrider::smtpd::auth {

namespace {

constexpr std::size_t kFingerprint = 64;  // hex digits of SHA-256

// A file of lines that may be half of what is being written is not read.
Result<void> check_lines(const std::string& path, std::string_view text) {
  struct stat about {};
  if (text.ends_with('\n') || !look_at(path, about) || time_at_rest(about) >= kUnfinishedRest ||
      was_made_empty(path))
    return {};
  return perhaps_unfinished(path, text.empty() ? "it is empty" : "it ends within a line");
}

enum class Form : std::uint8_t { whole, lines };

// Parses the file, if one is named.
template <class T, class Parse>
Result<void> read_into(T& member, const std::string& path, Parse parse, Form form = Form::whole) {
  if (path.empty())
    return {};
  auto text = read_file(path);
  if (!text)
    return text.error().during("read " + path);
  if (form == Form::lines)
    if (auto checked = check_lines(path, *text); !checked)
      return checked.error();
  auto parsed = parse(*text);
  if (!parsed)
    return parsed.error().during("read " + path);
  member = *std::move(parsed);
  return {};
}

std::string plain_fingerprint(std::string_view text) {
  std::string out;
  for (const char c : text)
    if (c != ':')
      out.push_back(ascii_lower(c));
  const bool is_hex = out.find_first_not_of("0123456789abcdef") == std::string::npos;
  return is_hex && out.size() == kFingerprint ? out : std::string();
}

}  // namespace

Result<std::unordered_map<std::string, std::string>> parse_certificates(std::string_view text) {
  std::unordered_map<std::string, std::string> users;
  std::size_t number = 0;
  for (auto line : split(text, '\n')) {
    ++number;
    line = trim(line.ends_with('\r') ? line.substr(0, line.size() - 1) : line);
    if (line.empty() || line.front() == '#')
      continue;
    const auto end = line.find_first_of(" \t");
    const auto fingerprint = plain_fingerprint(line.substr(0, end));
    const auto user =
        end == std::string_view::npos ? std::nullopt : user_key(trim(line.substr(end)));
    if (fingerprint.empty() || !user)
      return malformed("line " + std::to_string(number) +
                       ": a SHA-256 fingerprint in hex and a user are needed");
    users[fingerprint] = *user;
  }
  return users;
}

std::vector<FileProblem> read_files(const AuthSettings& settings, AuthService::Tables& tables) {
  std::vector<FileProblem> problems;
  const auto look = [&](const char* option, const Result<void>& read) {
    if (!read)
      problems.push_back({option, read.error()});
  };
  const auto parse_senders = [&](std::string_view text) {
    return SenderMap::parse(text, settings.domains);
  };
  tables.senders = *parse_senders("");
  look("auth.senders", read_into(tables.senders, settings.senders, parse_senders, Form::lines));
  look("auth.certificates",
       read_into(tables.certificates, settings.certificates, parse_certificates, Form::lines));
  look("auth.oauth_keys", read_into(tables.keys, settings.oauth.keys, TokenKeys::parse));
  if (settings.oauth.introspect.starts_with("https://")) {
    TlsClientSettings client;
    client.roots = settings.oauth.roots;
    auto tls = TlsContext::client(client);
    if (tls)
      tables.tls = *std::move(tls);
    else
      look("auth.oauth_roots", tls.error().during("prepare TLS for " + settings.oauth.introspect));
  }
  return problems;
}

std::vector<FileProblem> check_files(const AuthSettings& settings) {
  AuthService::Tables tables;
  auto problems = read_files(settings, tables);
  UserFile users;
  if (const auto read = read_into(users, settings.users, UserFile::parse); !read)
    problems.push_back({"auth.users", read.error()});
  return problems;
}

Result<std::shared_ptr<const AuthService::Tables>> AuthService::prepare(
    const AuthSettings& settings) {
  auto tables = std::make_shared<Tables>();
  tables->settings = settings;
  if (const auto problems = read_files(settings, *tables); !problems.empty())
    return problems.front().error;
  if (!settings.dovecot.empty())
    if (const auto secret = kept_secret(); !secret)
      return secret.error();
  if (!settings.users.empty()) {
    auto secret = kept_secret();
    if (!secret)
      return secret.error();
    tables->passwords = std::make_shared<Passwords>(settings.users, *std::move(secret));
    // One that is being written is read with the first login.
    if (const auto users = tables->passwords->file();
        !users && !is_perhaps_unfinished(users.error()))
      return users.error();
  }
  return std::shared_ptr<const Tables>(std::move(tables));
}

}  // namespace postrider::smtpd::auth
