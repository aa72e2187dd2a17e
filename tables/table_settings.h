// Inside of tables/: the file of a table that a server answers. TOML, without sections; each problem
// is "file:line: key: what is wrong, what is allowed".
#pragma once

#include "tables/remote_table.h"

#include <chrono>
#include <cstddef>
#include <string>
#include <variant>
#include <vector>

namespace postrider::tables {

// Empty: the value may stand; else what is wrong, and what is allowed.
using CheckText = std::string (*)(std::string_view text);

struct Setting {
  struct Text {
    std::string& value;
    CheckText check = nullptr;
  };
  struct Texts {  // a single text stands for a list of one
    std::vector<std::string>& value;
    CheckText check = nullptr;
  };
  struct Flag {
    bool& value;
  };
  struct Number {
    std::size_t& value;
    std::size_t least, most;
  };
  struct Time {
    std::chrono::milliseconds& value;
    std::chrono::milliseconds least, most;
  };
  const char* key;
  std::variant<Text, Texts, Flag, Number, Time> value;
  bool is_required = false;
};

// What all such tables have.
struct ServerSettings {
  std::vector<std::string> domains;  // of keys that are asked for; empty: all
  std::string result_format = "%s";
  std::string password_file;  // empty: none
  std::string tls_ca = "/etc/ssl/certs/ca-certificates.crt";
  std::chrono::milliseconds time_limit{5'000};
  std::chrono::milliseconds remembered_for{10'000};
  std::size_t connections = 4;
};
std::vector<Setting> settings_of(ServerSettings& server);
std::string check_tls(std::string_view text);  // "verify" or "off"

// All but how to connect. No key is asked for that is not text.
RemoteRules rules_of(const ServerSettings& server, const Spec& spec);

// The lines on which keys stand, for what only several of them say.
class SettingsFile {
 public:
  // Sets what the file says. Fails with all its problems, a line each.
  Result<void> read(const Source& source, const std::vector<Setting>& settings);
  bool has(std::string_view key) const;
  Error problem(std::string_view key, const std::string& text) const;

 private:
  std::string path_;
  std::vector<std::pair<std::string, std::size_t>> lines_;
};

// The first line of the file, without its end; read again each time. Empty for no path. In no error
// is anything of what it holds.
Result<std::string> read_password(const std::string& path);

// Whether the host is this machine itself: an address of loopback, or localhost.
bool is_loopback(std::string_view host);

}  // namespace postrider::tables
