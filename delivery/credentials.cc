#include "delivery/credentials.h"

#include "base/file.h"
#include "base/text.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace postrider::delivery {

namespace {

constexpr std::size_t kMostBytes = 64U << 10U;
constexpr const char* kMechanisms[] = {
    "SCRAM-SHA-256-PLUS", "SCRAM-SHA-256", "CRAM-MD5", "PLAIN", "LOGIN", "OAUTHBEARER", "XOAUTH2"};

struct Key {
  const char* name;
  std::string CredentialsFile::*member;
};
constexpr Key kKeys[] = {{"user", &CredentialsFile::user},
                         {"password", &CredentialsFile::password},
                         {"token_command", &CredentialsFile::token_command},
                         {"token_endpoint", &CredentialsFile::token_endpoint},
                         {"client_id", &CredentialsFile::client_id},
                         {"client_secret", &CredentialsFile::client_secret},
                         {"refresh_token", &CredentialsFile::refresh_token},
                         {"scope", &CredentialsFile::scope}};

class Parser {
 public:
  explicit Parser(const std::string& name) : name_(name) {}

  Result<CredentialsFile> parse(std::string_view text) {
    for (const auto line : split(text, '\n')) {
      ++number_;
      if (auto read = read_line(line); !read)
        return read.error();
    }
    return check();
  }

 private:
  Error wrong(std::string_view key, const std::string& what) const {
    return malformed(name_ + ":" + std::to_string(number_) + ": " + escaped(key, 64) + ": " + what);
  }
  Error wrong(const std::string& what) const { return malformed(name_ + ": " + what); }

  Result<void> read_line(std::string_view line) {
    if (!line.empty() && line.back() == '\r')
      line.remove_suffix(1);
    line = trim(line);
    if (line.empty() || line.front() == '#')
      return {};
    const auto equals = line.find('=');
    if (equals == line.npos)
      return wrong("line", "expected \"key = value\"");
    const auto key = trim(line.substr(0, equals));
    auto value = trim(line.substr(equals + 1));
    if (value.size() > 1 && value.front() == '"' && value.back() == '"')
      value = value.substr(1, value.size() - 2);
    if (value.empty())
      return wrong(key, "is empty");
    if (value.find('\0') != value.npos)
      return wrong(key, "holds a NUL");
    return set(key, value);
  }

  Result<void> set(std::string_view key, std::string_view value) {
    if (key == "mechanisms")
      return set_mechanisms(value);
    if (key == "allow_clear") {
      if (value != "yes" && value != "no")
        return wrong(key, "expected yes or no");
      file_.allow_clear = value == "yes";
      return {};
    }
    for (const auto& known : kKeys) {
      if (key != known.name)
        continue;
      if (!(file_.*known.member).empty())
        return wrong(key, "is given twice");
      file_.*known.member = std::string(value);
      return {};
    }
    return wrong(key,
                 "unknown key; allowed: user, password, token_command, token_endpoint, client_id, "
                 "client_secret, refresh_token, scope, mechanisms, allow_clear");
  }

  Result<void> set_mechanisms(std::string_view value) {
    for (const auto word : split(value, ' ')) {
      if (word.empty())
        continue;
      const auto* known =
          std::find_if(std::begin(kMechanisms), std::end(kMechanisms),
                       [&](const char* one) { return equals_ignoring_case(one, word); });
      if (known == std::end(kMechanisms))
        return wrong("mechanisms", escaped(word, 64) +
                                       " is not one of SCRAM-SHA-256-PLUS, SCRAM-SHA-256, "
                                       "CRAM-MD5, PLAIN, LOGIN, OAUTHBEARER, XOAUTH2");
      file_.mechanisms.emplace_back(*known);
    }
    return {};
  }

  Result<CredentialsFile> check() const {
    if (file_.user.empty())
      return wrong("user: is missing");
    const int sources = (file_.password.empty() ? 0 : 1) + (file_.token_command.empty() ? 0 : 1) +
                        (file_.token_endpoint.empty() ? 0 : 1);
    if (sources != 1)
      return wrong("expected exactly one of password, token_command and token_endpoint");
    if (file_.token_endpoint.empty())
      return file_;
    if (!starts_with_ignoring_case(file_.token_endpoint, "https://"))
      return wrong("token_endpoint: expected https://");
    if (file_.client_id.empty() || file_.refresh_token.empty())
      return wrong("token_endpoint: needs client_id and refresh_token");
    return file_;
  }

  const std::string& name_;
  CredentialsFile file_;
  std::size_t number_ = 0;
};

}  // namespace

Result<CredentialsFile> parse_credentials(std::string_view text, const std::string& name) {
  return Parser(name).parse(text);
}

Result<CredentialsFile> load_credentials(const std::string& path) {
  const FileDescriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!file.is_open())
    return system_error("open " + path);
  struct stat about {};
  if (::fstat(file.get(), &about) != 0)
    return system_error("stat " + path);
  if (!S_ISREG(about.st_mode))
    return malformed(path + ": expected a regular file");
  if ((about.st_mode & S_IRWXO) != 0)
    return malformed(path + ": others may read this file; allowed: mode 0640 or less");
  std::string text(kMostBytes + 1, '\0');
  std::size_t have = 0;
  while (have < text.size()) {
    const auto got = ::read(file.get(), text.data() + have, text.size() - have);
    if (got < 0 && errno != EINTR)
      return system_error("read " + path);
    if (got == 0)
      break;
    have += got > 0 ? static_cast<std::size_t>(got) : 0;
  }
  if (have > kMostBytes)
    return malformed(path + ": is longer than 64 KiB");
  text.resize(have);
  return parse_credentials(text, path);
}

}  // namespace postrider::delivery
