#include "delivery/auth/credentials.h"

#include "base/file.h"
#include "base/nearest.h"
#include "base/quoted.h"
#include "base/text.h"
#include "base/url.h"
#include "base/user_mounts.h"
#include "delivery/local/agents/local_target.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <map>
#include <sys/stat.h>
#include <unistd.h>

namespace postrider::delivery {

namespace {

constexpr std::size_t kMostBytes = 64U << 10U;
constexpr std::size_t kMostProblems = 50;
constexpr const char* kOfPasswords[] = {"SCRAM-SHA-256-PLUS", "SCRAM-SHA-256", "CRAM-MD5", "PLAIN",
                                        "LOGIN"};
constexpr const char* kOfTokens[] = {"OAUTHBEARER", "XOAUTH2"};

struct Key {
  const char* name;
  std::string CredentialsFile::*member;
};
constexpr Key kTexts[] = {{"user", &CredentialsFile::user},
                          {"password", &CredentialsFile::password},
                          {"token_endpoint", &CredentialsFile::token_endpoint},
                          {"client_id", &CredentialsFile::client_id},
                          {"client_secret", &CredentialsFile::client_secret},
                          {"refresh_token", &CredentialsFile::refresh_token},
                          {"scope", &CredentialsFile::scope}};

const char* find_mechanism(std::string_view name) {
  const auto is_it = [&](const char* one) { return equals_ignoring_case(one, name); };
  for (const auto* one : kOfPasswords)
    if (is_it(one))
      return one;
  for (const auto* one : kOfTokens)
    if (is_it(one))
      return one;
  return nullptr;
}

// Reads lines, then looks at what they come to; goes on behind a problem.
class Parser {
 public:
  LoadedCredentials parse(std::string_view text) {
    for (const auto line : split(text, '\n')) {
      ++number_;
      read_line(line);
      if (loaded_.problems.size() >= kMostProblems)
        return std::move(loaded_);
    }
    check();
    return std::move(loaded_);
  }

 private:
  void report(std::size_t line, std::string_view key, std::string text) {
    loaded_.problems.push_back({line, std::string(key), std::move(text)});
  }
  void wrong(std::string_view key, std::string text) { report(number_, key, std::move(text)); }
  // What is wrong with a key that was read before; or with the file, for it was not given.
  void wrong_later(std::string_view key, std::string text) {
    const auto found = lines_.find(key);
    report(found == lines_.end() ? 0 : found->second, key, std::move(text));
  }
  bool has(std::string_view key) const { return lines_.find(key) != lines_.end(); }

  void read_line(std::string_view line) {
    if (!line.empty() && line.back() == '\r')
      line.remove_suffix(1);
    line = trim(line);
    if (line.empty() || line.front() == '#')
      return;
    const auto equals = line.find('=');
    if (equals == line.npos)
      return wrong("", "is not a setting; expected key = value");
    const auto key = trim(line.substr(0, equals));
    auto value = trim(line.substr(equals + 1));
    if (value.size() > 1 && value.front() == '"' && value.back() == '"')
      value = value.substr(1, value.size() - 2);
    if (value.find('\0') != value.npos)
      return wrong(shown_key(key), "holds a NUL; expected text alone");
    set(key, value);
  }

  void set(std::string_view key, std::string_view value) {
    if (!is_key(key))
      return wrong(shown_key(key),
                   "unknown key; expected user, password, token_command, token_endpoint, "
                   "client_id, client_secret, client_auth, refresh_token, scope, mechanisms or "
                   "allow_clear");
    if (!lines_.emplace(key, number_).second)
      return wrong(key, "is given twice; expected once");
    if (value.empty())
      return wrong(key, "is empty; expected a value");
    if (key == "mechanisms")
      return set_mechanisms(value);
    if (key == "token_command")
      return set_command(value);
    if (key == "allow_clear")
      return set_choice(key, value, "yes", "no", loaded_.file.allow_clear);
    if (key == "client_auth")
      return set_choice(key, value, "basic", "post", loaded_.file.client_auth_basic);
    for (const auto& known : kTexts)
      if (key == known.name)
        loaded_.file.*known.member = std::string(value);
  }

  // A command is repeated with what is wrong with it; its arguments may be secrets.
  static std::string quotable_words(std::string_view text) {
    std::string shown;
    bool is_value = false;  // of the option before it
    for (const auto word : split(text, ' ')) {
      const bool is_option = word.starts_with('-');
      const bool is_short =
          is_option && !word.starts_with("--") && word.size() > 2;  // "-ppassword"
      const bool is_hidden = is_value && !is_option && word.size() > 1 && !word.starts_with('/');
      shown.append(shown.empty() ? "" : " ");
      if (is_hidden)
        shown.append(kHiddenPassword).append(word.ends_with(':') ? ":" : "");
      else if (is_short)
        shown.append(word.substr(0, 2)).append(kHiddenPassword);
      else
        shown.append(quotable(word));
      is_value = is_option && !is_short && word.find('=') == word.npos;
    }
    return shown;
  }

  // What resembles no key may be a secret that ends with "=".
  static std::string shown_key(std::string_view key) {
    std::vector<std::string> known = {"mechanisms", "token_command", "allow_clear", "client_auth"};
    for (const auto& text : kTexts)
      known.emplace_back(text.name);
    return nearest(key, known).empty() ? std::string() : escaped(key, 64);
  }

  static bool is_key(std::string_view key) {
    return key == "mechanisms" || key == "token_command" || key == "allow_clear" ||
           key == "client_auth" ||
           std::any_of(std::begin(kTexts), std::end(kTexts),
                       [&](const Key& known) { return key == known.name; });
  }

  void set_choice(std::string_view key, std::string_view value, const char* yes, const char* no,
                  bool& member) {
    if (value != yes && value != no)
      return wrong(key, std::string("is not allowed; expected ") + yes + " or " + no);
    member = value == yes;
  }

  void set_mechanisms(std::string_view value) {
    for (const auto word : split(value, ' ')) {
      if (word.empty())
        continue;
      const auto* known = find_mechanism(word);
      if (known == nullptr)
        return wrong("mechanisms", quote_value(word, 64) +
                                       " is not a mechanism; expected SCRAM-SHA-256-PLUS, "
                                       "SCRAM-SHA-256, CRAM-MD5, PLAIN, LOGIN, OAUTHBEARER or "
                                       "XOAUTH2");
      loaded_.file.mechanisms.emplace_back(known);
    }
  }

  void set_command(std::string_view value) {
    auto arguments = split_command(value);
    if (!arguments)
      return wrong("token_command", quotable_words(arguments.error().step()));
    loaded_.file.token_command = *std::move(arguments);
  }

  void check() {
    if (!has("user"))
      wrong_later("user", "is missing; expected the name to log in with");
    const int sources = (has("password") ? 1 : 0) + (has("token_command") ? 1 : 0) +
                        (has("token_endpoint") ? 1 : 0);
    if (sources != 1)
      return report(0, "",
                    sources == 0
                        ? "has nothing to log in with; expected one of password, token_command "
                          "and token_endpoint"
                        : "has several things to log in with; expected one of password, "
                          "token_command and token_endpoint");
    check_endpoint();
    check_mechanisms();
  }

  void check_endpoint() {
    constexpr const char* kNeeded[] = {"client_id", "refresh_token"};
    constexpr const char* kOptional[] = {"client_secret", "client_auth", "scope"};
    const bool is_used = has("token_endpoint");
    for (const auto* key : kNeeded)
      if (is_used && !has(key))
        wrong_later(key, "is missing; expected with token_endpoint");
    const auto without = [&](const char* key) {
      if (!is_used && has(key))
        wrong_later(key, "is given without token_endpoint; expected both");
    };
    std::for_each(std::begin(kNeeded), std::end(kNeeded), without);
    std::for_each(std::begin(kOptional), std::end(kOptional), without);
    if (has("client_auth") && !has("client_secret"))
      wrong_later("client_auth", "is given without client_secret; expected both");
    const auto& endpoint = loaded_.file.token_endpoint;
    const auto url = parse_http_url(endpoint);
    if (!endpoint.empty() && (!url || !url->is_https))
      wrong_later("token_endpoint", "is not a URL of that kind; expected https://host:port/path");
  }

  void check_mechanisms() {
    const auto& wanted = loaded_.file.mechanisms;
    const auto is_of = [&](const auto& kind) {
      return std::any_of(wanted.begin(), wanted.end(), [&](const std::string& name) {
        return std::find(std::begin(kind), std::end(kind), name) != std::end(kind);
      });
    };
    if (wanted.empty())
      return;
    if (has("password") && !is_of(kOfPasswords))
      wrong_later("mechanisms",
                  "none of them takes a password; expected SCRAM-SHA-256 or PLAIN, for example");
    if (!has("password") && !is_of(kOfTokens))
      wrong_later("mechanisms", "none of them takes a token; expected OAUTHBEARER or XOAUTH2");
  }

  LoadedCredentials loaded_;
  std::map<std::string, std::size_t, std::less<>> lines_;  // of the keys that were given
  std::size_t number_ = 0;
};

LoadedCredentials unusable(std::string text) {
  LoadedCredentials loaded;
  loaded.problems.push_back({0, "", std::move(text)});
  return loaded;
}

LoadedCredentials cannot(const char* step) {
  return unusable(std::string("cannot be ") + step + ": " + std::strerror(errno));
}

}  // namespace

std::string CredentialsProblem::describe(const std::string& path) const {
  std::string out = path + ":";
  if (line > 0)
    out += std::to_string(line) + ":";
  out += " ";
  if (!key.empty())
    out += key + ": ";
  return out + text;
}

LoadedCredentials parse_credentials(std::string_view text) {
  return Parser().parse(text);
}

LoadedCredentials load_credentials(const std::string& path) {
  const auto opened = open_to_read(path);
  if (!opened)
    return unusable("cannot be opened: " + why_unopened(opened.error()));
  const auto& file = *opened;
  struct stat about {};
  if (::fstat(file.get(), &about) != 0)
    return cannot("looked at");
  if (!S_ISREG(about.st_mode))
    return unusable("is not a regular file");
  if ((about.st_mode & S_IRWXO) != 0)
    return unusable("may be read by others; expected mode 0640 or less");
  std::string text(kMostBytes + 1, '\0');
  std::size_t have = 0;
  while (have < text.size()) {
    const auto got = ::read(file.get(), text.data() + have, text.size() - have);
    if (got < 0 && errno != EINTR)
      return cannot("read");
    if (got == 0)
      break;
    have += got > 0 ? static_cast<std::size_t>(got) : 0;
  }
  if (have > kMostBytes)
    return unusable("is longer than 64 KiB");
  text.resize(have);
  return parse_credentials(text);
}

}  // namespace postrider::delivery
