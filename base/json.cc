#include "base/json.h"

#include <boost/json/basic_parser_impl.hpp>
#include <boost/json/value_stack.hpp>

#include <vector>

namespace postrider {

namespace {

namespace json = boost::json;
using Text = json::string_view;

// Builds the value as json::parser does, and counts.
class Builder {
 public:
  using error_code = json::error_code;
  // The parser's own limits are fixed when it is compiled.
  static constexpr std::size_t max_object_size = static_cast<std::size_t>(-1);
  static constexpr std::size_t max_array_size = static_cast<std::size_t>(-1);
  static constexpr std::size_t max_key_size = json::string::max_size();
  static constexpr std::size_t max_string_size = json::string::max_size();

  explicit Builder(const JsonLimits& limits) : limits_(limits) {}
  json::value_stack& stack() { return stack_; }
  const JsonWork& work() const { return work_; }
  bool is_over() const { return over_; }

  bool on_document_begin(error_code&) { return true; }
  bool on_document_end(error_code&) { return true; }
  bool on_object_begin(error_code& failed) {
    members_.push_back(0);
    return count_value(failed);
  }
  bool on_object_end(std::size_t size, error_code&) {
    members_.pop_back();
    stack_.push_object(size);
    return true;
  }
  bool on_array_begin(error_code& failed) { return count_value(failed); }
  bool on_array_end(std::size_t size, error_code&) {
    stack_.push_array(size);
    return true;
  }
  bool on_key_part(Text part, std::size_t, error_code&) {
    stack_.push_chars(part);
    return true;
  }
  bool on_key(Text part, std::size_t, error_code& failed) {
    ++work_.members;
    if (++members_.back() > limits_.members)
      return refuse(failed);
    stack_.push_key(part);
    return true;
  }
  bool on_string_part(Text part, std::size_t, error_code&) {
    stack_.push_chars(part);
    return true;
  }
  bool on_string(Text part, std::size_t, error_code& failed) {
    stack_.push_string(part);
    return count_value(failed);
  }
  bool on_number_part(Text, error_code&) { return true; }
  bool on_int64(std::int64_t number, Text, error_code& failed) {
    stack_.push_int64(number);
    return count_value(failed);
  }
  bool on_uint64(std::uint64_t number, Text, error_code& failed) {
    stack_.push_uint64(number);
    return count_value(failed);
  }
  bool on_double(double number, Text, error_code& failed) {
    stack_.push_double(number);
    return count_value(failed);
  }
  bool on_bool(bool value, error_code& failed) {
    stack_.push_bool(value);
    return count_value(failed);
  }
  bool on_null(error_code& failed) {
    stack_.push_null();
    return count_value(failed);
  }
  bool on_comment_part(Text, error_code&) { return true; }
  bool on_comment(Text, error_code&) { return true; }

 private:
  bool refuse(error_code& failed) {
    over_ = true;
    failed = json::error::object_too_large;
    return false;
  }
  bool count_value(error_code& failed) {
    return ++work_.values <= limits_.values || refuse(failed);
  }

  const JsonLimits limits_;
  json::value_stack stack_;
  std::vector<std::size_t> members_;  // of the objects that are open
  JsonWork work_;
  bool over_ = false;
};

// No deeper than JsonLimits::depth.
std::size_t members_of(const json::value& value) {
  std::size_t found = 0;
  if (const auto* array = value.if_array()) {
    for (const auto& one : *array)
      found += members_of(one);
  } else if (const auto* object = value.if_object()) {
    found = object->size();
    for (const auto& member : *object)
      found += members_of(member.value());
  }
  return found;
}

}  // namespace

Result<json::value> parse_json(std::string_view text, const JsonLimits& limits,
                               json::storage_ptr storage, JsonWork* work) {
  json::parse_options options;
  options.max_depth = limits.depth;
  json::basic_parser<Builder> parser(options, limits);
  auto& builder = parser.handler();
  builder.stack().reset(std::move(storage));
  json::error_code failed;
  const auto used = parser.write_some(false, text.data(), text.size(), failed);
  if (work != nullptr)
    *work = builder.work();
  if (builder.is_over() || failed == json::error::too_deep)
    return Error(Errc::too_long, "JSON");
  if (failed || used < text.size())
    return malformed("JSON");
  auto value = builder.stack().release();
  if (!limits.allows_twice && members_of(value) != builder.work().members)
    return Error(Errc::refused, "a name stands twice in one object");
  return value;
}

Result<json::object> parse_json_object(std::string_view text, const JsonLimits& limits,
                                       json::storage_ptr storage, JsonWork* work) {
  auto value = parse_json(text, limits, std::move(storage), work);
  if (!value)
    return value.error();
  if (!value->is_object())
    return malformed("JSON");
  return std::move(value->get_object());
}

}  // namespace postrider
