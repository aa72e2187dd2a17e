#include "cli/queue_takeover.h"

#include "cli/output.h"
#include "daemon/protocol/tool_paths.h"

#include <boost/json/array.hpp>

#include <sysexits.h>

namespace postrider::cli {

namespace {

namespace json = boost::json;
using daemon::TakenOver;
using End = TakenOver::End;

json::array array_from(const std::vector<std::string>& list) {
  json::array array;
  for (const auto& text : list)
    array.emplace_back(text);
  return array;
}

std::string joined(const std::vector<std::string>& list, std::uint64_t all) {
  std::string text;
  for (const auto& one : list)
    text.append(text.empty() ? "" : ", ").append(one);
  if (all > list.size())
    text.append(" and ").append(std::to_string(all - list.size())).append(" more");
  return text;
}

// Tells what became of each message, and counts.
class TakeOverView {
 public:
  TakeOverView(const Administration& how, const daemon::TakeOverOptions& options)
      : how_(how), options_(options) {}

  bool tell(const TakenOver& one) {
    ++counts_[static_cast<std::size_t>(one.end)];
    return how_.json ? print_raw(json_line(object_for(one))) : tell_people(one);
  }
  void tell_sum() const {
    if (how_.json)
      return;
    std::string text = counted(count(End::taken), "message") +
                       (options_.dry_run ? " would be taken over" : " taken over");
    if (count(End::known) > 0)
      text += ", " + std::to_string(count(End::known)) + " in the queue already";
    const auto left = count(End::empty) + count(End::left) + count(End::refused) +
                      count(End::busy) + count(End::failed);
    if (left > 0)
      text += ", " + counted(left, "file") + " left";
    print(text + "\n");
  }

 private:
  std::uint64_t count(End end) const { return counts_[static_cast<std::size_t>(end)]; }

  json::object object_for(const TakenOver& one) const {
    json::object object;
    object["file"] = one.file;
    object["end"] = name_of(one.end);
    if (options_.dry_run)
      object["dry_run"] = true;
    if (!one.ids.empty())
      object["ids"] = array_from(one.ids);
    if (!one.reason.empty())
      object["reason"] = one.reason;
    if (one.end != End::taken && one.end != End::known && one.end != End::empty)
      return object;
    if (!one.hold.empty())
      object["hold"] = one.hold;
    object["from"] = one.sender;
    object["to"] = array_from(one.to);
    object["recipients"] = one.recipients;
    object["done"] = one.done;
    object["size"] = one.size;
    object["received"] = one.received;
    if (!one.behind.empty())
      object["had_it"] = array_from(one.behind);
    return object;
  }

  bool tell_people(const TakenOver& one) {
    if (one.end == End::taken || one.end == End::known) {
      auto text = one.file;
      if (!one.ids.empty())
        text += " -> " + joined(one.ids, one.ids.size());
      text +=
          ": " + (one.sender.empty() ? "<>" : one.sender) + " to " + joined(one.to, one.recipients);
      if (one.done > 0)
        text += "; " + counted(one.done, "recipient") +
                (one.done == 1 ? " has had it" : " have had it");
      if (!one.hold.empty())
        text += "; held: " + one.hold;
      if (one.end == End::known)
        text += "; in the queue already";
      if (options_.dry_run)
        text += "; " + short_size(one.size) + ", since " + local_time(one.received);
      if (!print(text + "\n"))
        return false;
      if (!one.behind.empty())
        complain(how_.program, EX_OK,
                 one.file +
                     ": some addresses behind its recipients have had it, and may get it "
                     "again: " +
                     joined(one.behind, one.behind.size()));
      if (!one.reason.empty())
        complain(how_.program, EX_OK, one.file + ": " + one.reason);
      return true;
    }
    if (one.end == End::empty)
      return print(one.file + ": left, nobody waits for it\n");
    complain(how_.program, EX_OK, one.file + ": left: " + one.reason);
    return true;
  }

  const Administration& how_;
  const daemon::TakeOverOptions& options_;
  std::array<std::uint64_t, 8> counts_{};
};

}  // namespace

int take_over_queue(const Administration& how, const daemon::TakeOverOptions& options) {
  int no_places = EX_OK;
  const auto places = find_places_or_complain(how, no_places);
  if (!places)
    return no_places;
  TakeOverView view(how, options);
  bool takes_output = true;
  const auto end = daemon::take_over(
      *places, options, [&](const TakenOver& one) { return takes_output = view.tell(one); });
  if (!end.warning.empty())
    complain(how.program, EX_OK, end.warning);
  if (!end.error.empty())
    return complain(how.program, end.exit_code, end.error);
  view.tell_sum();
  return takes_output ? end.exit_code : EX_IOERR;
}

}  // namespace postrider::cli
