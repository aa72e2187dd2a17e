#include "events/event_view.h"

#include "events/event_fields.h"

#include <algorithm>

namespace postrider::events {

namespace {

constexpr std::string_view kAlways[] = {"id", "session", "site", "alarm", "sink"};
constexpr std::string_view kNotInLocalPart = " \t<>()[]:;,\"'";

bool is_shown(const View& view, std::string_view name) {
  return std::find(view.fields.begin(), view.fields.end(), name) != view.fields.end() ||
         std::find(std::begin(kAlways), std::end(kAlways), name) != std::end(kAlways);
}

// Where the local part before this "@" begins.
std::size_t begin_of_local_part(std::string_view text, std::size_t at) {
  if (at > 0 && text[at - 1] == '"') {
    const auto quote = at < 2 ? std::string_view::npos : text.rfind('"', at - 2);
    return quote == std::string_view::npos ? 0 : quote;
  }
  const auto before = text.substr(0, at).find_last_of(kNotInLocalPart);
  return before == std::string_view::npos ? 0 : before + 1;
}

}  // namespace

std::string without_local_parts(std::string_view text) {
  std::string out;
  std::size_t done = 0, least = 0;
  for (auto at = text.find('@'); at != std::string_view::npos; at = text.find('@', at + 1)) {
    const auto begin = std::max(least, begin_of_local_part(text, at));
    out.append(text.substr(done, begin - done));
    if (begin < at)
      out.push_back('*');
    done = at;
    least = at + 1;
  }
  return out.append(text.substr(done));
}

CloudEvent seen_by(const View& view, CloudEvent event) {
  if (!view.fields.empty()) {
    for (const auto& field : fields())
      if (!is_shown(view, field.name))
        (event.*field.value).clear();
    if (!is_shown(view, kFrom)) {
      event.has_from = false;
      event.from.clear();
    }
  }
  if (view.privacy == Privacy::domains) {
    for (auto* text : {&event.from, &event.to, &event.reply, &event.reason})
      *text = without_local_parts(*text);
    if (!event.user.empty()) {
      const auto at = event.user.rfind('@');
      event.user = at == std::string::npos ? "*" : "*" + event.user.substr(at);
    }
    // A name without a domain has no part that may be shown.
    for (auto* address : {&event.from, &event.to})
      if (!address->empty() && address->find('@') == std::string::npos)
        *address = "*";
  }
  return event;
}

}  // namespace postrider::events
