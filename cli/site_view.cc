#include "cli/site_view.h"

#include "cli/output.h"

namespace postrider::cli {

namespace {

namespace json = boost::json;

std::string state_text(const json::object& site, std::int64_t now) {
  auto text = text_of(site, "state");
  if (const auto count = number_of(site, "only_deferred"); count > 0)
    text.append(", takes no mail since ")
        .append(local_time(number_of(site, "only_deferred_since")))
        .append(", ")
        .append(counted(static_cast<std::uint64_t>(count), "recipient"))
        .append(" deferred");
  if (number_of(site, "failures") == 0)
    return text;
  text.append(" since ").append(local_time(number_of(site, "since"))).append(", ");
  text.append(counted(static_cast<std::uint64_t>(number_of(site, "failures")), "failure"));
  const auto until = number_of(site, "blocked_until");
  return text.append(until > now ? ", next try in " + short_span(until - now) : ", next try now");
}

std::string use_text(const json::object& site) {
  std::string text;
  if (site.contains("limit")) {
    text.append(std::to_string(number_of(site, "connections"))).append(" of ");
    text.append(counted(static_cast<std::uint64_t>(number_of(site, "limit")), "connection"));
    if (const auto idle = number_of(site, "idle"); idle > 0)
      text.append(" (").append(std::to_string(idle)).append(" idle)");
  }
  const auto add = [&](const char* member, const char* thing, const char* what) {
    if (const auto count = number_of(site, member); count > 0)
      text.append(text.empty() ? "" : ", ")
          .append(counted(static_cast<std::uint64_t>(count), thing))
          .append(what);
  };
  add("in_hand", "message", " in hand for it");
  add("recipients", "recipient", " waiting");
  return text;
}

}  // namespace

std::string site_view(const json::object& site, std::int64_t now) {
  auto out = text_of(site, "site") + ": " + state_text(site, now) + "\n";
  const auto add = [&](const std::string& text) {
    if (!text.empty())
      out.append("  ").append(text).append("\n");
  };
  if (const auto alarm = text_of(site, "alarm"); !alarm.empty())
    add("ALARM: " + alarm);
  add(use_text(site));
  add(text_of(site, "limits"));
  add(text_of(site, "reason"));
  return out;
}

}  // namespace postrider::cli
