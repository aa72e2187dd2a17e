#include "daemon/protocol/control_protocol.h"

#include "base/json.h"

#include <boost/json/serialize.hpp>
#include <boost/json/value.hpp>

#include <iterator>

namespace postrider::daemon {

namespace {

namespace json = boost::json;

struct FilterKey {
  const char* name;
  std::optional<std::string> FilterText::*member;
};
constexpr FilterKey kFilterKeys[] = {
    {"from", &FilterText::from},   {"to", &FilterText::to},         {"domain", &FilterText::domain},
    {"site", &FilterText::site},   {"status", &FilterText::status}, {"reply", &FilterText::reply},
    {"older", &FilterText::older}, {"larger", &FilterText::larger},
};

struct TextKey {
  const char* name;
  std::string ControlRequest::*member;
};
constexpr TextKey kTextKeys[] = {
    {"act", &ControlRequest::act},           {"verb", &ControlRequest::verb},
    {"target", &ControlRequest::target},     {"by", &ControlRequest::by},
    {"limit", &ControlRequest::limit},       {"span", &ControlRequest::span},
    {"next_hop", &ControlRequest::next_hop}, {"last", &ControlRequest::last},
    {"since", &ControlRequest::since},
};

struct FlagKey {
  const char* name;
  bool ControlRequest::*member;
};
constexpr FlagKey kFlagKeys[] = {
    {"dry_run", &ControlRequest::dry_run},     {"all", &ControlRequest::all},
    {"body", &ControlRequest::body},           {"rejected", &ControlRequest::rejected},
    {"as_reader", &ControlRequest::as_reader},
};

template <class Table>
auto find_key(const Table& table, std::string_view name) {
  auto row = std::begin(table);
  while (row != std::end(table) && name != row->name)
    ++row;
  return row;
}

Result<std::vector<std::string>> decode_ids(const json::value& value) {
  std::vector<std::string> ids;
  if (!value.is_array())
    return malformed("ids");
  for (const auto& id : value.get_array()) {
    if (!id.is_string())
      return malformed("ids");
    ids.emplace_back(id.get_string());
  }
  return ids;
}

Result<FilterText> decode_filter(const json::value& value) {
  FilterText filter;
  if (!value.is_object())
    return malformed("filter");
  for (const auto& [name, text] : value.get_object()) {
    if (std::string_view(name) == "ids") {
      auto ids = decode_ids(text);
      if (!ids)
        return ids.error();
      filter.ids = std::move(*ids);
      continue;
    }
    const auto* key = find_key(kFilterKeys, name);
    if (key == std::end(kFilterKeys) || !text.is_string())
      return malformed("filter");
    filter.*key->member = std::string(text.get_string());
  }
  return filter;
}

Result<void> decode_member(std::string_view name, const json::value& value,
                           ControlRequest& request) {
  if (name == "filter") {
    auto filter = decode_filter(value);
    if (!filter)
      return filter.error();
    request.filter = std::move(*filter);
    return {};
  }
  const auto* text = find_key(kTextKeys, name);
  if (text != std::end(kTextKeys) && value.is_string()) {
    request.*text->member = std::string(value.get_string());
    return {};
  }
  const auto* flag = find_key(kFlagKeys, name);
  if (flag != std::end(kFlagKeys) && value.is_bool()) {
    request.*flag->member = value.get_bool();
    return {};
  }
  return malformed("member of the request");
}

json::object filter_object(const FilterText& filter) {
  json::object object;
  for (const auto& key : kFilterKeys)
    if (filter.*key.member)
      object[key.name] = *(filter.*key.member);
  if (!filter.ids.empty())
    object["ids"] = json::array(filter.ids.begin(), filter.ids.end());
  return object;
}

}  // namespace

bool FilterText::matches_all() const {
  if (!ids.empty())
    return false;
  for (const auto& key : kFilterKeys)
    if (this->*key.member)
      return false;
  return true;
}

std::string encode(const ControlRequest& request) {
  json::object object;
  for (const auto& key : kTextKeys)
    if (!(request.*key.member).empty())
      object[key.name] = request.*key.member;
  for (const auto& key : kFlagKeys)
    if (request.*key.member)
      object[key.name] = true;
  if (!request.filter.matches_all())
    object["filter"] = filter_object(request.filter);
  return json::serialize(object) + "\n";
}

Result<json::object> parse_json_line(std::string_view line, json::storage_ptr storage) {
  JsonLimits limits;
  limits.depth = 8;
  auto object = parse_json_object(line, limits, std::move(storage));
  if (!object)
    return malformed("line of JSON");
  return object;
}

Result<ControlRequest> decode_control_request(std::string_view line) {
  if (line.size() > kMostRequest)
    return Error(Errc::too_long, "request");
  auto object = parse_json_line(line);
  if (!object)
    return object.error().during("request");
  ControlRequest request;
  for (const auto& [name, value] : *object)
    if (auto taken = decode_member(name, value, request); !taken)
      return taken.error().during("request");
  return request;
}

std::string encode(const ControlEnd& end) {
  json::object inner;
  inner["status"] = end.exit_code == 0 ? "ok" : "error";
  inner["exit"] = end.exit_code;
  if (!end.error.empty())
    inner["error"] = end.error;
  json::object line;
  line["end"] = std::move(inner);
  return json::serialize(line) + "\n";
}

std::optional<ControlEnd> find_end(const json::object& line) {
  const auto* member = line.if_contains("end");
  if (member == nullptr || !member->is_object())
    return std::nullopt;
  const auto& inner = member->get_object();
  ControlEnd end;
  const auto* code = inner.if_contains("exit");
  const auto* error = inner.if_contains("error");
  end.exit_code = code != nullptr && code->is_int64() ? static_cast<int>(code->get_int64()) : 70;
  if (error != nullptr && error->is_string())
    end.error = std::string(error->get_string());
  return end;
}

}  // namespace postrider::daemon
