#include "tables/table_settings.h"

#include "base/expected.h"
#include "base/nearest.h"
#include "base/network.h"
#include "base/quoted.h"
#include "base/secret_file.h"
#include "base/text.h"
#include "base/toml_words.h"
#include "tables/key_template.h"

#include <toml++/toml.h>

#include <algorithm>

namespace postrider::tables {

namespace {

using std::chrono::milliseconds;

constexpr std::size_t kMostPassword = 4096;

std::string wrong_type(const char* expected) {
  return but_expected("is of another kind", expected);
}

std::string outside(const std::string& value, const std::string& least, const std::string& most) {
  return but_expected(value + " is out of range", "from " + least + " to " + most);
}

struct Set {
  const toml::node& node;

  std::string operator()(const Setting::Text& to) const {
    const auto value = node.value_exact<std::string>();
    if (!value)
      return wrong_type("a text");
    auto problem = check(*value, to.check);
    if (problem.empty())
      to.value = *value;
    return problem;
  }
  std::string operator()(const Setting::Texts& to) const {
    std::vector<std::string> values;
    const auto* list = node.as_array();
    const auto take = [&](const toml::node& item) {
      const auto value = item.value_exact<std::string>();
      if (!value)
        return wrong_type("a text or a list of texts");
      values.push_back(*value);
      return check(*value, to.check);
    };
    if (list == nullptr) {
      if (auto problem = take(node); !problem.empty())
        return problem;
    } else {
      for (const auto& item : *list)
        if (auto problem = take(item); !problem.empty())
          return problem;
    }
    to.value = std::move(values);
    return {};
  }
  std::string operator()(const Setting::Flag& to) const {
    const auto value = node.value_exact<bool>();
    if (!value)
      return wrong_type("true or false");
    to.value = *value;
    return {};
  }
  std::string operator()(const Setting::Number& to) const {
    const auto value = node.value_exact<std::int64_t>();
    if (!value)
      return wrong_type("a whole number");
    if (*value < 0 || static_cast<std::uint64_t>(*value) < to.least ||
        static_cast<std::uint64_t>(*value) > to.most)
      return outside(std::to_string(*value), std::to_string(to.least), std::to_string(to.most));
    to.value = static_cast<std::size_t>(*value);
    return {};
  }
  std::string operator()(const Setting::Time& to) const {
    const auto text = node.value_exact<std::string>();
    const auto value = text ? parse_duration(*text) : std::nullopt;
    if (!value)
      return but_expected("is not a duration with a unit",
                          "from " + format_duration(to.least) + " to " + format_duration(to.most));
    if (*value < to.least || *value > to.most)
      return outside(escaped(*text, 40), format_duration(to.least), format_duration(to.most));
    to.value = std::chrono::duration_cast<milliseconds>(*value);
    return {};
  }

 private:
  static std::string check(const std::string& value, CheckText check) {
    if (value.find('\0') != value.npos)
      return but_expected("has a NUL octet in it", "text alone");
    return check == nullptr ? std::string() : check(value);
  }
};

std::string check_path(std::string_view text) {
  return text.starts_with('/') ? ""
                               : quote_value(text, 80) +
                                     " is not an absolute path; expected one such as "
                                     "\"/etc/postrider/x\"";
}

// The secret itself may stand there by mistake: it is not repeated.
std::string check_secret_path(std::string_view text) {
  return text.starts_with('/')
             ? ""
             : "is not an absolute path; expected the one of the file that the password is in";
}

std::string unknown(std::string_view key, const std::vector<Setting>& settings) {
  std::vector<std::string> known;
  std::string all;
  for (const auto& setting : settings) {
    known.emplace_back(setting.key);
    all.append(all.empty() ? "" : &setting == &settings.back() ? " or " : ", ").append(setting.key);
  }
  const auto near = nearest(key, known);
  return near.empty() ? but_expected("unknown key", all)
                      : "unknown key; did you mean " + near + "?";
}

}  // namespace

std::string check_tls(std::string_view text) {
  return text == "verify" || text == "off"
             ? std::string()
             : quote_value(text, 40) + " is not allowed; expected \"verify\" or \"off\"";
}

std::vector<Setting> settings_of(ServerSettings& server) {
  using namespace std::chrono_literals;
  return {{"domains", Setting::Texts{server.domains}},
          {"result_format",
           Setting::Text{server.result_format,
                         [](std::string_view text) { return check_key_template(text); }}},
          {"password_file", Setting::Text{server.password_file, check_secret_path}},
          {"tls_ca", Setting::Text{server.tls_ca, check_path}},
          {"time_limit", Setting::Time{server.time_limit, 100ms, 60s}},
          {"cache", Setting::Time{server.remembered_for, 0ms, 1h}},
          {"connections", Setting::Number{server.connections, 1, 64}}};
}

RemoteRules rules_of(const ServerSettings& server, const Spec& spec) {
  RemoteRules rules;
  rules.name = spec.str();
  rules.patience = server.time_limit;
  rules.remembered_for = server.remembered_for;
  rules.connections = server.connections;
  rules.may_have = [domains = server.domains](std::string_view key) {
    return key.find('\0') == key.npos && is_utf8(key) && is_key_of(domains, key);
  };
  return rules;
}

Result<void> SettingsFile::read(const Source& source, const std::vector<Setting>& settings) {
  path_ = source.path;
  toml::table document;
  try {
    document = toml::parse(source.text);
  } catch (const toml::parse_error& error) {
    return problem_at(path_, error.source().begin.line, toml_problem(error.description()));
  }
  std::vector<std::pair<std::size_t, std::string>> problems;
  for (auto&& [name, node] : document) {
    const std::string key(name.str());
    const std::size_t line = name.source().begin.line;
    const auto setting = std::find_if(settings.begin(), settings.end(),
                                      [&](const Setting& one) { return key == one.key; });
    lines_.emplace_back(key, line);
    const auto text =
        setting == settings.end() ? unknown(key, settings) : std::visit(Set{node}, setting->value);
    if (!text.empty())
      problems.emplace_back(line, escaped(key, 80) + ": " + text);
  }
  for (const auto& setting : settings)
    if (setting.is_required && !has(setting.key))
      problems.emplace_back(0, setting.key + std::string(": is missing; expected one"));
  if (problems.empty())
    return {};
  std::sort(problems.begin(), problems.end());
  std::string all;
  for (const auto& [line, text] : problems)
    all.append(all.empty() ? "" : "\n")
        .append(path_ + ":" + (line == 0 ? "" : std::to_string(line) + ":") + " " + text);
  return malformed(all);
}

bool SettingsFile::has(std::string_view key) const {
  return std::any_of(lines_.begin(), lines_.end(),
                     [&](const auto& one) { return one.first == key; });
}

Error SettingsFile::problem(std::string_view key, const std::string& text) const {
  for (const auto& [name, line] : lines_)
    if (name == key)
      return problem_at(path_, line, name + ": " + text);
  return malformed(path_ + ": " + std::string(key) + ": " + text);
}

Result<std::string> read_password(const std::string& path) {
  if (path.empty())
    return std::string();
  auto text = read_secret_file(path, kMostPassword);
  if (!text)
    return text.error();
  auto line = text->substr(0, text->find_first_of("\r\n"));
  if (line.empty() || line.find('\0') != line.npos)
    return malformed(path + ": its first line is not a password");
  return line;
}

bool is_loopback(std::string_view host) {
  if (host == "localhost")
    return true;
  const auto address = IpAddress::parse(host);
  static const auto kFour = Network::parse("127.0.0.0/8"), kSix = Network::parse("::1/128");
  return address && (kFour->contains(*address) || kSix->contains(*address));
}

}  // namespace postrider::tables
