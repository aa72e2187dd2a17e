#include "daemon/predecessor/taken_over.h"

#include "base/json.h"

#include <boost/json/array.hpp>
#include <boost/json/serialize.hpp>

namespace postrider::daemon {

namespace {

namespace json = boost::json;

template <class T>
void put(json::object& object, const char* name, const T& value) {
  if (value != T{})
    object[name] = value;
}

void put(json::object& object, const char* name, const std::vector<std::string>& list) {
  if (list.empty())
    return;
  json::array array;
  for (const auto& text : list)
    array.emplace_back(text);
  object[name] = std::move(array);
}

std::string text_in(const json::object& object, const char* name) {
  const auto* value = object.if_contains(name);
  return value != nullptr && value->is_string() ? std::string(value->get_string()) : std::string();
}

std::int64_t number_in(const json::object& object, const char* name) {
  const auto* value = object.if_contains(name);
  if (value == nullptr)
    return 0;
  if (value->is_uint64())
    return static_cast<std::int64_t>(value->get_uint64());
  return value->is_int64() ? value->get_int64() : 0;
}

bool flag_in(const json::object& object, const char* name) {
  const auto* value = object.if_contains(name);
  return value != nullptr && value->is_bool() && value->get_bool();
}

std::vector<std::string> list_in(const json::object& object, const char* name) {
  std::vector<std::string> list;
  const auto* value = object.if_contains(name);
  if (value != nullptr && value->is_array())
    for (const auto& item : value->get_array())
      if (item.is_string())
        list.emplace_back(item.get_string());
  return list;
}

// Packets are small, but for lists of ids.
Result<json::object> parse(std::string_view text) {
  return parse_json_object(text);
}

}  // namespace

const char* name_of(Predecessor whose) {
  return whose == Predecessor::postfix ? "Postfix" : "Exim";
}

const char* name_of(TakenOver::End end) {
  using End = TakenOver::End;
  switch (end) {
    case End::taken:
      return "taken";
    case End::known:
      return "known";
    case End::empty:
      return "empty";
    case End::left:
      return "left";
    case End::refused:
      return "refused";
    case End::busy:
      return "busy";
    case End::failed:
      return "failed";
  }
  return "";
}

std::string encode(const OldMailOrder& order) {
  json::object object;
  put(object, "act", static_cast<std::int64_t>(order.act));
  put(object, "id", order.id);
  put(object, "held", order.is_held);
  put(object, "dropped", order.is_dropped);
  put(object, "more", order.has_more);
  put(object, "uid", order.uid);
  put(object, "modified", order.modified);
  put(object, "drop_ids", order.drop_ids);
  return json::serialize(object);
}

Result<OldMailOrder> decode_old_mail_order(std::string_view text) {
  const auto object = parse(text);
  if (!object)
    return object.error();
  OldMailOrder order;
  const auto act = number_in(*object, "act");
  if (act < 0 || act > static_cast<std::int64_t>(OldMailOrder::Act::end))
    return malformed("act");
  order.act = static_cast<OldMailOrder::Act>(act);
  order.id = text_in(*object, "id");
  order.is_held = flag_in(*object, "held");
  order.is_dropped = flag_in(*object, "dropped");
  order.has_more = flag_in(*object, "more");
  order.uid = static_cast<std::uint64_t>(number_in(*object, "uid"));
  order.modified = number_in(*object, "modified");
  order.drop_ids = list_in(*object, "drop_ids");
  return order;
}

std::string encode(const TakenOver& taken) {
  json::object object;
  put(object, "end", static_cast<std::int64_t>(taken.end));
  put(object, "file", taken.file);
  put(object, "ids", taken.ids);
  put(object, "drop_ids", taken.drop_ids);
  put(object, "reason", taken.reason);
  put(object, "hold", taken.hold);
  put(object, "from", taken.sender);
  put(object, "to", taken.to);
  put(object, "behind", taken.behind);
  put(object, "recipients", taken.recipients);
  put(object, "done", taken.done);
  put(object, "size", taken.size);
  put(object, "received", taken.received);
  return json::serialize(object);
}

Result<TakenOver> decode_taken_over(std::string_view text) {
  const auto object = parse(text);
  if (!object)
    return object.error();
  TakenOver taken;
  const auto end = number_in(*object, "end");
  if (end < 0 || end > static_cast<std::int64_t>(TakenOver::End::failed))
    return malformed("end");
  taken.end = static_cast<TakenOver::End>(end);
  taken.file = text_in(*object, "file");
  taken.ids = list_in(*object, "ids");
  taken.drop_ids = list_in(*object, "drop_ids");
  taken.reason = text_in(*object, "reason");
  taken.hold = text_in(*object, "hold");
  taken.sender = text_in(*object, "from");
  taken.to = list_in(*object, "to");
  taken.behind = list_in(*object, "behind");
  taken.recipients = static_cast<std::uint64_t>(number_in(*object, "recipients"));
  taken.done = static_cast<std::uint64_t>(number_in(*object, "done"));
  taken.size = static_cast<std::uint64_t>(number_in(*object, "size"));
  taken.received = number_in(*object, "received");
  return taken;
}

std::string encode(const TakerReady& ready) {
  json::object object;
  object["exit"] = ready.exit_code;
  object["error"] = ready.error;
  return json::serialize(object);
}

Result<TakerReady> decode_taker_ready(std::string_view text) {
  const auto object = parse(text);
  if (!object)
    return object.error();
  return TakerReady{static_cast<int>(number_in(*object, "exit")), text_in(*object, "error")};
}

}  // namespace postrider::daemon
