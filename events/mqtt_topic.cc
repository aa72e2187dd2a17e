#include "events/mqtt_topic.h"

namespace postrider::events {

namespace {

constexpr std::string_view kShared = "$share/";

// The first level; the rest stays, without the slash behind it.
std::string_view take_level(std::string_view& text, bool& has_more) {
  const auto slash = text.find('/');
  const auto level = text.substr(0, slash);
  has_more = slash != std::string_view::npos;
  text.remove_prefix(has_more ? slash + 1 : text.size());
  return level;
}

// Without the name of the group that shares it; nothing is left of a name without a filter.
std::string_view filter_of(std::string_view text) {
  if (!text.starts_with(kShared))
    return text;
  const auto slash = text.find('/', kShared.size());
  const bool has_group = slash != std::string_view::npos && slash > kShared.size() &&
                         text.substr(0, slash).find_first_of("+#") == std::string_view::npos;
  return has_group ? text.substr(slash + 1) : std::string_view();
}

}  // namespace

bool is_mqtt_topic(std::string_view text) {
  return !text.empty() && text.find_first_of("+#") == std::string_view::npos;
}

bool is_mqtt_filter(std::string_view text) {
  auto rest = filter_of(text);
  if (rest.empty())
    return false;
  for (bool has_more = true; has_more;) {
    const auto level = take_level(rest, has_more);
    if (level.find_first_of("+#") != std::string_view::npos && level.size() > 1)
      return false;
    if (level == "#" && has_more)
      return false;
  }
  return true;
}

bool mqtt_filter_takes(std::string_view filter, std::string_view topic) {
  auto wanted = filter_of(filter);
  // A wildcard in the first place takes nothing of the broker's own.
  if (topic.starts_with('$') && !wanted.starts_with('$'))
    return false;
  for (bool has_wanted = true, has_topic = true; has_wanted;) {
    const auto level = take_level(wanted, has_wanted);
    if (level == "#")  // the level above it, too
      return true;
    if (!has_topic)
      return false;
    const auto found = take_level(topic, has_topic);
    if (level != "+" && level != found)
      return false;
    if (!has_wanted)
      return !has_topic;
  }
  return false;
}

}  // namespace postrider::events
