#include "cli/layout.h"

#include "cli/output.h"

#include <algorithm>
#include <ctime>

namespace postrider::cli {

namespace {

constexpr std::size_t kWidestLabel = 30;
constexpr std::string_view kRed = "\x1b[1;31m", kBold = "\x1b[1m", kPlain = "\x1b[0m";

// Where a continued line begins.
std::size_t indent_of(std::string_view line) {
  const auto text = line.find_first_not_of(' ');
  if (text == std::string_view::npos)
    return 0;
  const auto gap = line.find("  ", text);
  const auto value = gap == std::string_view::npos ? gap : line.find_first_not_of(' ', gap);
  return value == std::string_view::npos || value > kWidestLabel ? text : value;
}

bool is_heading(std::string_view line) {
  return line.starts_with("ID           STATUS") || line.starts_with("RECIPIENTS MESSAGES") ||
         (line.find(" 1280 1280+") != std::string_view::npos && line.ends_with("DOMAIN"));
}

// visit(line, has_end) for each.
template <class Visit>
void for_each_line(std::string_view text, Visit visit) {
  while (!text.empty()) {
    const auto end = text.find('\n');
    visit(text.substr(0, end), end != std::string_view::npos);
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
  }
}

bool is_time(std::string_view text) {
  constexpr std::string_view kForm = "0000-00-00T00:00:00";
  if (text.size() <= kForm.size())
    return false;
  for (std::size_t i = 0; i < kForm.size(); ++i) {
    const bool is_digit = text[i] >= '0' && text[i] <= '9';
    if (kForm[i] == '0' ? !is_digit : text[i] != kForm[i])
      return false;
  }
  return true;
}

int number_at(std::string_view text, std::size_t at, std::size_t size) {
  int number = 0;
  for (const char c : text.substr(at, size))
    number = number * 10 + (c - '0');
  return number;
}

// Seconds since 1970. Requires: is_time().
std::int64_t seconds_of(std::string_view text) {
  std::tm broken{};
  broken.tm_year = number_at(text, 0, 4) - 1900;
  broken.tm_mon = number_at(text, 5, 2) - 1;
  broken.tm_mday = number_at(text, 8, 2);
  broken.tm_hour = number_at(text, 11, 2);
  broken.tm_min = number_at(text, 14, 2);
  broken.tm_sec = number_at(text, 17, 2);
  return ::timegm(&broken);
}

// Octets of the time that the text begins with; 0: it begins with none.
std::size_t size_of_time(std::string_view text) {
  if (!is_time(text))
    return 0;
  std::size_t end = 19;
  if (text[end] == '.')
    do
      ++end;
    while (end < text.size() && text[end] >= '0' && text[end] <= '9');
  return end < text.size() && text[end] == 'Z' ? end + 1 : 0;
}

}  // namespace

std::size_t columns_of(std::string_view text) {
  return static_cast<std::size_t>(std::count_if(text.begin(), text.end(), [](char c) {
    return (static_cast<unsigned char>(c) & 0xC0U) != 0x80U;
  }));
}

std::string wrapped(std::string_view text, std::size_t indent, std::size_t width) {
  std::string out;
  std::size_t column = indent;
  bool is_first = true;
  while (!text.empty()) {
    const auto end = std::min(text.find(' '), text.size());
    const auto word = text.substr(0, end);
    const auto columns = columns_of(word);
    if (!is_first && column + 1 + columns > width) {
      out.append("\n").append(indent, ' ');
      column = indent;
    } else if (!is_first) {
      out.push_back(' ');
      ++column;
    }
    is_first = false;
    out.append(word);
    column += columns;
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return out;
}

std::string wrapped_lines(std::string_view text, std::size_t width) {
  std::string out;
  for_each_line(text, [&](std::string_view line, bool has_end) {
    if (columns_of(line) <= width) {
      out.append(line);
    } else {
      const auto indent = indent_of(line);
      out.append(line.substr(0, indent));
      out.append(wrapped(line.substr(indent), indent, width));
    }
    out.append(has_end ? "\n" : "");
  });
  return out;
}

std::string coloured_lines(std::string_view text) {
  std::string out;
  bool is_alarm = false;
  for_each_line(text, [&](std::string_view line, bool has_end) {
    // An alarm goes on in the lines that it was divided into.
    is_alarm = line.starts_with("ALARM") || line.starts_with("new mail      no ") ||
               (is_alarm && line.starts_with("              "));
    const auto colour = is_alarm ? kRed : is_heading(line) ? kBold : std::string_view();
    out.append(colour).append(line).append(colour.empty() ? "" : kPlain);
    out.append(has_end ? "\n" : "");
  });
  return out;
}

bool are_colours_wanted(bool is_terminal, const char* no_color, const char* term) {
  const std::string_view name = term == nullptr ? "" : term;
  const bool is_refused = no_color != nullptr && *no_color != '\0';
  return is_terminal && !is_refused && !name.empty() && name != "dumb";
}

std::string with_local_times(std::string_view text) {
  std::string out;
  while (!text.empty()) {
    const auto size = size_of_time(text);
    if (size > 0)
      out.append(local_time(seconds_of(text)));
    else
      out.push_back(text.front());
    text.remove_prefix(std::max<std::size_t>(size, 1));
  }
  return out;
}

}  // namespace postrider::cli
