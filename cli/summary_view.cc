#include "cli/summary_view.h"

#include "base/text.h"
#include "cli/layout.h"
#include "cli/output.h"

#include <boost/json/array.hpp>

#include <algorithm>
#include <array>
#include <string_view>

namespace postrider::cli {

namespace {

namespace json = boost::json;

// As qshape has them: minutes.
constexpr std::array<const char*, 10> kAgeHeadings = {"5",   "10",  "20",  "40",   "80",
                                                      "160", "320", "640", "1280", "1280+"};

// What a key that is empty stands for.
std::string_view unnamed(std::string_view by) {
  if (by == "sender")
    return "<>";
  if (by == "site")
    return "(no site is known yet)";
  if (by == "reason")
    return "(no attempt has ended yet)";
  return by == "client" ? "(not known)" : "(none)";
}

std::string_view heading_of(std::string_view by) {
  constexpr struct {
    std::string_view by, heading;
  } kHeadings[] = {{"domain", "DOMAIN"}, {"age", "DOMAIN"},    {"site", "SITE"},
                   {"sender", "SENDER"}, {"client", "CLIENT"}, {"reason", "REASON"}};
  for (const auto& row : kHeadings)
    if (row.by == by)
      return row.heading;
  return "";
}

std::string plural_of(std::string_view by, std::uint64_t number) {
  return counted(number, std::string(by == "age" ? "domain" : by).c_str());
}

std::vector<std::string> age_cells(const json::object& group) {
  std::vector<std::string> cells{std::to_string(number_of(group, "recipients"))};
  const auto* ages = array_of(group, "ages");
  for (std::size_t i = 0; i < kAgeHeadings.size(); ++i) {
    const auto* age = ages != nullptr && i < ages->size() ? &(*ages)[i] : nullptr;
    cells.push_back(age == nullptr     ? "0"
                    : age->is_uint64() ? std::to_string(age->get_uint64())
                    : age->is_int64()  ? std::to_string(age->get_int64())
                                       : "0");
  }
  return cells;
}

std::vector<std::string> plain_cells(const json::object& group, std::int64_t now) {
  const auto oldest = number_of(group, "oldest");
  return {std::to_string(number_of(group, "recipients")),
          std::to_string(number_of(group, "messages")),
          short_size(static_cast<std::uint64_t>(number_of(group, "bytes"))),
          oldest > 0 ? short_span(now - oldest) : "-"};
}

// Right-aligned, as wide as their widest; what they belong to stands behind them, whatever its
// length.
class SummaryTable {
 public:
  explicit SummaryTable(std::vector<std::string> headings) {
    rows_.push_back({"", std::move(headings)});
  }
  void add(std::string name, std::vector<std::string> cells) {
    rows_.push_back({std::move(name), std::move(cells)});
  }
  void set_heading(std::string_view name) { rows_.front().name = name; }
  std::string text() const {
    std::vector<std::size_t> widths(rows_.front().cells.size());
    for (const auto& row : rows_)
      for (std::size_t i = 0; i < widths.size(); ++i)
        widths[i] = std::max(widths[i], row.cells[i].size());
    std::string out;
    for (const auto& row : rows_) {
      std::string line;
      for (std::size_t i = 0; i < widths.size(); ++i)
        line.append(widths[i] - row.cells[i].size(), ' ')
            .append(row.cells[i])
            .append(i + 1 == widths.size() ? "  " : " ");
      line.append(wrapped(row.name, line.size(), kColumns));
      out.append(line).append("\n");
    }
    return out;
  }

 private:
  struct Row {
    std::string name;
    std::vector<std::string> cells;
  };
  std::vector<Row> rows_;
};

std::string what_is_paused(const json::object& paused) {
  const auto kind = raw_text_of(paused, "kind");
  if (kind == "all")
    return "all mail";
  return (kind == "sender" ? "mail from " : "mail to ") + text_of(paused, "name");
}

std::string how_much(const json::object& object) {
  return counted(static_cast<std::uint64_t>(number_of(object, "messages")), "message") + " (" +
         counted(static_cast<std::uint64_t>(number_of(object, "recipients")), "recipient") + ")";
}

}  // namespace

std::string summary_view(const std::vector<json::object>& groups, const json::object& summary,
                         std::int64_t now) {
  const auto by = raw_text_of(summary, "by");
  const auto all = static_cast<std::uint64_t>(number_of(summary, "groups"));
  if (number_of(summary, "recipients") == 0)
    return "No message matches.\n";
  const bool is_by_age = by == "age";
  std::vector<std::string> headings = {"RECIPIENTS", "MESSAGES", "SIZE", "OLDEST"};
  if (is_by_age) {
    headings = {"T"};
    headings.insert(headings.end(), kAgeHeadings.begin(), kAgeHeadings.end());
  }
  const auto cells = [&](const json::object& group) {
    return is_by_age ? age_cells(group) : plain_cells(group, now);
  };
  SummaryTable table(headings);
  table.set_heading(heading_of(by));
  table.add("TOTAL", cells(summary));
  for (const auto& group : groups) {
    const auto key = text_of(group, "key");
    table.add(key.empty() ? std::string(unnamed(by)) : key, cells(group));
  }
  if (const auto* beyond = object_of(summary, "beyond"))
    table.add("(beyond " + plural_of(by, all) + ")", cells(*beyond));
  auto text = table.text();
  if (all > groups.size())
    text.append(std::to_string(groups.size()) + " of " + plural_of(by, all) +
                "; --limit 0 shows all\n");
  return text;
}

std::string paused_view(const json::object& paused) {
  const bool is_dry = flag_of(paused, "dry_run");
  std::string text = what_is_paused(paused) + (is_dry ? " would be paused" : " is paused");
  const auto until = number_of(paused, "until");
  text.append(until > 0 ? " until " + local_time(until) : " until it is resumed");
  text.append(": ").append(how_much(paused));
  text.append(number_of(paused, "messages") == 1 ? " waits\n" : " wait\n");
  if (const auto begun = static_cast<std::uint64_t>(number_of(paused, "under_way_messages"));
      begun > 0)
    text.append(counted(begun, "message") +
                (begun == 1 ? " under way is not stopped\n" : " under way are not stopped\n"));
  return text;
}

std::string resumed_view(const json::object& resumed) {
  const auto ended = static_cast<std::uint64_t>(number_of(resumed, "ended"));
  const auto what = what_is_paused(resumed);
  if (ended == 0)
    return what + " was not paused; what is, `postrider status` says\n";
  std::string text = what + (flag_of(resumed, "dry_run") ? " would be resumed" : " is resumed");
  if (raw_text_of(resumed, "kind") == "all")
    text.append(" (").append(counted(ended, "pause")).append(")");
  return text.append(": ").append(how_much(resumed)) +
         (number_of(resumed, "messages") == 1 ? " waits\n" : " wait\n");
}

}  // namespace postrider::cli
