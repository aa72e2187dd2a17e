#include "daemon/config/secret_values.h"

#include "base/quoted.h"
#include "base/text.h"
#include "daemon/config/options.h"

#include <string_view>
#include <vector>

namespace postrider::daemon {

namespace {

// The texts of a value in TOML, such as ["a", "b"].
std::vector<std::string> texts_of(std::string_view value) {
  std::vector<std::string> texts;
  for (auto at = value.find('"'); at != value.npos; at = value.find('"', at)) {
    std::string text;
    for (++at; at < value.size() && value[at] != '"'; ++at) {
      if (value[at] == '\\' && at + 1 < value.size())
        ++at;
      text.push_back(value[at]);
    }
    texts.push_back(std::move(text));
    ++at;
  }
  return texts;
}

void replace_all(std::string& text, const std::string& what, const std::string& by) {
  for (auto at = text.find(what); at != text.npos; at = text.find(what, at + by.size()))
    text.replace(at, what.size(), by);
}

}  // namespace

std::string without_secret_values(std::string text, const Config& config) {
  constexpr std::size_t kShortest = 6;  // of what is found by chance within another word
  for (const auto& section : sections())
    for (std::size_t index = 0; index < section.count(config); ++index)
      for (const auto& option : options()) {
        if (section_of(option) != section.name)
          continue;
        for (const auto& value : texts_of(value_text(option, config, index)))
          if (auto shown = value.size() < kShortest ? value : quotable(value); shown != value) {
            replace_all(text, value, shown);
            replace_all(text, escaped(value), escaped(shown));
          }
      }
  return text;
}

}  // namespace postrider::daemon
