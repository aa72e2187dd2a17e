#include "cli/output.h"

#include "base/escaped_text.h"
#include "base/text.h"
#include "cli/layout.h"

#include <boost/json/array.hpp>
#include <boost/json/serialize.hpp>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <sys/ioctl.h>
#include <sysexits.h>
#include <unistd.h>

namespace postrider::cli {

namespace json = boost::json;

namespace {

int output_error = 0;  // errno of the first piece that standard output did not take

bool write_out(std::string_view octets) {
  errno = 0;
  return std::fwrite(octets.data(), 1, octets.size(), stdout) == octets.size() &&
         std::fflush(stdout) == 0;
}

std::string lost_output(int error) {
  return std::string("write to standard output: ") + std::strerror(error) +
         "; what it shows is not complete";
}

}  // namespace

int complain(std::string_view program, int exit_code, std::string_view sentence) {
  std::string line;
  line.append(program).append(": ").append(escaped_text(sentence)).append("\n");
  std::fflush(stdout);
  std::fwrite(line.data(), 1, line.size(), stderr);
  return exit_code;
}

std::string sentence(const Error& error) {
  const bool says_all = error.code() == Errc::malformed || error.code() == Errc::too_long;
  auto text = says_all && !error.step().empty() ? error.step() : error.describe();
  while (text.ends_with('\n'))
    text.pop_back();
  return text;
}

bool print(std::string_view text) {
  return print_raw(escaped_text(text));
}

bool print_view(std::string_view text) {
  auto shown = escaped_text(text);
  const bool is_terminal = ::isatty(STDOUT_FILENO) == 1;
  if (is_terminal) {
    constexpr std::size_t kNarrowest = 40;
    winsize size{};
    const bool is_known = ::ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0;
    shown =
        wrapped_lines(shown, is_known ? std::max<std::size_t>(size.ws_col, kNarrowest) : kColumns);
  }
  if (are_colours_wanted(is_terminal, std::getenv("NO_COLOR"), std::getenv("TERM")))
    shown = coloured_lines(shown);
  return print_raw(shown);
}

bool print_raw(std::string_view octets) {
  if (output_error == 0 && !write_out(octets))
    output_error = errno != 0 ? errno : EIO;
  return output_error == 0;
}

void print_aside(std::string_view program, std::string_view text) {
  if (output_error != 0 || write_out(escaped_text(text)))
    return;
  const int error = errno != 0 ? errno : EIO;
  std::clearerr(stdout);
  if (error != EPIPE)
    complain(program, EX_OK, lost_output(error));
}

int end_output(std::string_view program, int exit_code) {
  errno = 0;
  if (std::fclose(stdout) != 0 && output_error == 0)  // some file systems say it only now
    output_error = errno != 0 ? errno : EIO;
  if (output_error == 0)
    return exit_code;
  if (output_error != EPIPE)
    complain(program, EX_IOERR, lost_output(output_error));
  return exit_code == EX_OK ? EX_IOERR : exit_code;
}

std::string json_line(const json::object& object) {
  return escaped_json(json::serialize(object)) + "\n";
}

bool standard_error_is_terminal() {
  return ::isatty(STDERR_FILENO) == 1;
}

std::string raw_text_of(const json::object& object, std::string_view name) {
  const auto* value = object.if_contains({name.data(), name.size()});
  return value != nullptr && value->is_string() ? std::string(value->get_string()) : "";
}

std::string text_of(const json::object& object, std::string_view name) {
  return escaped(raw_text_of(object, name), 2000);
}

std::int64_t number_of(const json::object& object, std::string_view name) {
  const auto* value = object.if_contains({name.data(), name.size()});
  if (value == nullptr)
    return 0;
  if (value->is_uint64())
    return static_cast<std::int64_t>(value->get_uint64());
  return value->is_int64() ? value->get_int64() : 0;
}

bool flag_of(const json::object& object, std::string_view name) {
  const auto* value = object.if_contains({name.data(), name.size()});
  return value != nullptr && value->is_bool() && value->get_bool();
}

const json::object* object_of(const json::object& object, std::string_view name) {
  const auto* value = object.if_contains({name.data(), name.size()});
  return value != nullptr ? value->if_object() : nullptr;
}

const json::array* array_of(const json::object& object, std::string_view name) {
  const auto* value = object.if_contains({name.data(), name.size()});
  return value != nullptr ? value->if_array() : nullptr;
}

std::string local_time(std::int64_t seconds) {
  const auto when = static_cast<std::time_t>(seconds);
  std::tm broken{};
  if (::localtime_r(&when, &broken) == nullptr)
    return "?";
  std::array<char, 32> text{};
  const auto size = std::strftime(text.data(), text.size(), "%Y-%m-%d %H:%M:%S", &broken);
  return {text.data(), size};
}

std::string short_span(std::int64_t seconds) {
  constexpr struct {
    char name;
    std::int64_t seconds;
  } kUnits[] = {{'d', 86400}, {'h', 3600}, {'m', 60}, {'s', 1}};
  if (seconds <= 0)
    return "0s";
  for (std::size_t i = 0; i < std::size(kUnits); ++i) {
    if (seconds < kUnits[i].seconds)
      continue;
    std::string text = std::to_string(seconds / kUnits[i].seconds) + kUnits[i].name;
    const auto rest = seconds % kUnits[i].seconds;
    if (i + 1 < std::size(kUnits) && rest >= kUnits[i + 1].seconds)
      text.append(std::to_string(rest / kUnits[i + 1].seconds)).push_back(kUnits[i + 1].name);
    return text;
  }
  return "0s";
}

std::string short_size(std::uint64_t bytes) {
  constexpr const char* kUnits[] = {"B", "K", "M", "G", "T"};
  auto value = static_cast<double>(bytes);
  std::size_t unit = 0;
  while (value >= 1024 && unit + 1 < std::size(kUnits)) {
    value /= 1024;
    ++unit;
  }
  std::array<char, 32> text{};
  const auto* format = unit > 0 && value < 10 ? "%.1f%s" : "%.0f%s";
  std::snprintf(text.data(), text.size(), format, value, kUnits[unit]);
  return text.data();
}

std::string counted(std::uint64_t count, const char* thing) {
  return std::to_string(count) + " " + thing + (count == 1 ? "" : "s");
}

std::string padded(std::string_view text, std::size_t width) {
  std::string out(text);
  out.resize(std::max(width, out.size()), ' ');
  return out;
}

}  // namespace postrider::cli
