#include "delivery/reports/dmarc_ledger.h"

#include "base/text.h"

#include <boost/json/array.hpp>
#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>

#include <algorithm>
#include <cstdint>
#include <optional>
#include <utility>

// A journal's lines, each an array. Numbers name the policies of one journal:
//   ["p",1,"ID","example.org","reject","","","r","r","0","n","",["mailto:dmarc@example.org"]]
//   ["r",1,3,"192.0.2.1","example.org","example.org","none",true,false,"","","pass",[["example.org","s1","pass"]]]
//   ["l",1,7]         as many of it were lost
//   ["x",7]           as many of others
//   ["s",1,"dmarc@example.org"]   this address has its report
//   ["d",1]           it is done
namespace postrider::delivery {

namespace {

namespace json = boost::json;
using mailauth::PolicyRows;
using mailauth::PublishedPolicy;
using mailauth::ReportRow;
using mailauth::ReportTally;

constexpr std::size_t kMostLine = 256U << 10U;  // a row with all its signatures is half as long
constexpr std::size_t kMostEntryText = 2048;    // of what is not a row: a URI, an address

constexpr std::string PublishedPolicy::*kPolicyTexts[] = {
    &PublishedPolicy::domain, &PublishedPolicy::p,       &PublishedPolicy::sp,
    &PublishedPolicy::np,     &PublishedPolicy::adkim,   &PublishedPolicy::aspf,
    &PublishedPolicy::fo,     &PublishedPolicy::testing, &PublishedPolicy::error};
constexpr std::string ReportRow::*kRowTextsBefore[] = {&ReportRow::source, &ReportRow::header_from,
                                                       &ReportRow::envelope_from,
                                                       &ReportRow::disposition};
constexpr std::string ReportRow::*kRowTextsBehind[] = {&ReportRow::reason, &ReportRow::comment,
                                                       &ReportRow::spf_result};

void add_line(std::string& out, const json::array& line) {
  out.append(json::serialize(line)).append("\n");
}

void add_policy(std::string& out, std::uint64_t number, const std::string& id,
                const PublishedPolicy& policy) {
  json::array line{"p", number, id};
  for (const auto member : kPolicyTexts)
    line.emplace_back(policy.*member);
  line.emplace_back(json::array(policy.rua.begin(), policy.rua.end()));
  add_line(out, line);
}

void add_row(std::string& out, std::uint64_t number, const ReportRow& row, std::uint64_t count) {
  json::array line{"r", number, count};
  for (const auto member : kRowTextsBefore)
    line.emplace_back(row.*member);
  line.emplace_back(row.dkim_aligned);
  line.emplace_back(row.spf_aligned);
  for (const auto member : kRowTextsBehind)
    line.emplace_back(row.*member);
  json::array signatures;
  for (const auto& one : row.signatures)
    signatures.emplace_back(json::array{one.domain, one.selector, one.result});
  line.emplace_back(std::move(signatures));
  add_line(out, line);
}

// Takes the values of a line one by one; what is missing or of another type spoils it.
class Values {
 public:
  explicit Values(const json::array& line) : line_(line) {}
  bool is_good() const { return good_; }

  const json::value* next() {
    good_ = good_ && at_ < line_.size();
    return good_ ? &line_[at_++] : nullptr;
  }
  std::uint64_t number() {
    const auto* value = next();
    boost::system::error_code failed;
    const auto number = value == nullptr ? 0 : value->to_number<std::uint64_t>(failed);
    good_ = good_ && !failed && number <= ReportTally::kMostMessages;
    return good_ ? number : 0;
  }
  bool flag() {
    const auto* value = next();
    good_ = good_ && value->is_bool();
    return good_ && value->get_bool();
  }
  std::string text(std::size_t most = kMostEntryText) {
    const auto* value = next();
    good_ = good_ && value->is_string() && value->get_string().size() <= most;
    return good_ ? std::string(value->get_string()) : std::string();
  }
  const json::array& array() {
    static const json::array kNone;
    const auto* value = next();
    good_ = good_ && value->is_array();
    return good_ ? value->get_array() : kNone;
  }

 private:
  const json::array& line_;
  std::size_t at_ = 0;
  bool good_ = true;
};

// It becomes a part of a file's name.
bool is_id(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [](char c) {
    const char lower = ascii_lower(c);
    return (lower >= 'a' && lower <= 'z') || (c >= '0' && c <= '9');
  });
}

std::optional<PublishedPolicy> policy_from(Values& values) {
  PublishedPolicy policy;
  for (const auto member : kPolicyTexts)
    policy.*member = mailauth::reported_text(values.text());
  const auto& rua = values.array();
  Values uris(rua);
  for (std::size_t i = 0; i < std::min(rua.size(), mailauth::kMostReportUris); ++i)
    policy.rua.push_back(uris.text());
  if (!values.is_good() || !uris.is_good() || !mailauth::is_report_domain(policy.domain))
    return std::nullopt;
  return policy;
}

std::optional<ReportRow> row_from(Values& values) {
  ReportRow row;
  for (const auto member : kRowTextsBefore)
    row.*member = mailauth::reported_text(values.text());
  row.dkim_aligned = values.flag();
  row.spf_aligned = values.flag();
  for (const auto member : kRowTextsBehind)
    row.*member = mailauth::reported_text(values.text());
  for (const auto& value : values.array()) {
    if (!value.is_array() || row.signatures.size() >= ReportRow::kMostSignatures)
      return std::nullopt;
    Values one(value.get_array());
    ReportRow::Signature signature;
    for (auto* text : {&signature.domain, &signature.selector, &signature.result})
      *text = mailauth::reported_text(one.text());
    if (!one.is_good())
      return std::nullopt;
    row.signatures.push_back(std::move(signature));
  }
  return values.is_good() ? std::optional(std::move(row)) : std::nullopt;
}

}  // namespace

DmarcLedger::Book& DmarcLedger::book_of(Day day) {
  return days_.try_emplace(day, limits_).first->second;
}

DmarcLedger::Open& DmarcLedger::open_of(Book& book, const Key& key) {
  const auto [found, is_new] = book.open.try_emplace(key);
  if (is_new) {
    found->second.report.id = make_id_();
    found->second.number = ++book.last_number;
  }
  return found->second;
}

bool DmarcLedger::count(Book& book, const PublishedPolicy& policy, ReportRow row,
                        std::uint64_t messages) {
  const auto key = ReportTally::key_of(policy);
  const bool has_room = book.tally.add(policy, row, messages);
  if (book.tally.find(key) == nullptr) {
    book.unsaved_lost_elsewhere += messages;
    return false;
  }
  auto& open = open_of(book, key);
  book.changed.insert(key);
  if (has_room)
    open.unsaved[std::move(row)] += messages;
  else
    open.unsaved_lost += messages;
  return has_room;
}

bool DmarcLedger::add(Day day, const PublishedPolicy& policy, ReportRow row) {
  return count(book_of(day), policy, std::move(row), 1);
}

std::vector<Day> DmarcLedger::days() const {
  std::vector<Day> days;
  for (const auto& [day, book] : days_)
    days.push_back(day);
  return days;
}

const ReportTally* DmarcLedger::tally(Day day) const {
  const auto found = days_.find(day);
  return found == days_.end() ? nullptr : &found->second.tally;
}

const DmarcLedger::Report* DmarcLedger::report(Day day, const Key& key) const {
  const auto book = days_.find(day);
  if (book == days_.end())
    return nullptr;
  const auto found = book->second.open.find(key);
  return found == book->second.open.end() ? nullptr : &found->second.report;
}

void DmarcLedger::note_reached(Day day, const Key& key, const std::string& address) {
  if (report(day, key) == nullptr)
    return;
  auto& book = book_of(day);
  auto& open = book.open.at(key);
  if (open.report.reached.insert(address).second)
    add_line(book.marks, {"s", open.number, address});
}

void DmarcLedger::finish(Day day, const Key& key, PolicyRows reported) {
  if (report(day, key) == nullptr)
    return;
  auto& book = book_of(day);
  const auto had = *book.tally.find(key);
  const auto& open = book.open.at(key);
  if (open.is_written)
    add_line(book.ends, {"d", open.number});
  book.tally.remove(key);
  book.open.erase(key);
  book.changed.erase(key);
  for (const auto& [row, all] : had.rows) {
    const auto told = reported.rows.find(row);
    const auto rest = told == reported.rows.end() ? all : all - std::min(all, told->second);
    if (rest > 0)
      count(book, had.published, row, rest);
  }
  if (book.tally.is_empty() && book.tally.lost_elsewhere() == 0)
    days_.erase(day);
}

void DmarcLedger::drop(Day day) {
  days_.erase(day);
}

std::string DmarcLedger::Entries::text() const {
  std::string out = before;
  for (const auto& policy : policies) {
    if (policy.published)
      add_policy(out, policy.number, policy.id, *policy.published);
    for (const auto& [row, count] : policy.rows)
      add_row(out, policy.number, row, count);
    if (policy.lost > 0)
      add_line(out, {"l", policy.number, policy.lost});
    for (const auto& address : policy.reached)
      add_line(out, {"s", policy.number, address});
  }
  if (lost_elsewhere > 0)
    add_line(out, {"x", lost_elsewhere});
  return out += behind;
}

std::size_t DmarcLedger::Entries::octets() const {
  constexpr std::size_t kOfPolicy = 200, kOfRow = 150;
  auto sum = before.size() + behind.size() + (lost_elsewhere > 0 ? 1 : 0);
  for (const auto& policy : policies)
    sum += kOfPolicy + policy.rows.size() * kOfRow;
  return sum;
}

DmarcLedger::Entries DmarcLedger::take_entries(Day day) {
  Entries taken;
  const auto found = days_.find(day);
  if (found == days_.end())
    return taken;
  auto& book = found->second;
  taken.before = std::exchange(book.ends, {});
  for (const auto& key : book.changed) {
    auto& open = book.open.at(key);
    auto& one = taken.policies.emplace_back();
    one.number = open.number;
    one.id = open.report.id;
    if (!std::exchange(open.is_written, true))
      one.published = book.tally.find(key)->published;
    one.rows = std::exchange(open.unsaved, {});
    one.lost = std::exchange(open.unsaved_lost, 0);
  }
  book.changed.clear();
  taken.lost_elsewhere = std::exchange(book.unsaved_lost_elsewhere, 0);
  taken.behind = std::exchange(book.marks, {});
  return taken;
}

// Who has been told of a policy that comes to its turn later is said twice, which does no harm; and so is the end of one
// that is gone by then.
DmarcLedger::Entries DmarcLedger::next_of(Day day, Whole& whole, std::size_t most_rows) {
  Entries part;
  const auto found = days_.find(day);
  whole.is_done_ = found == days_.end();
  if (whole.is_done_)
    return part;
  auto& book = found->second;
  if (!whole.after_)
    book.ends = book.marks = {};
  auto at = whole.after_ ? book.open.upper_bound(*whole.after_) : book.open.begin();
  for (std::size_t rows = 0; at != book.open.end() && rows < most_rows; ++at) {
    auto& [key, open] = *at;
    const auto& policy = *book.tally.find(key);
    auto& one = part.policies.emplace_back();
    one.number = open.number;
    one.id = open.report.id;
    one.published = policy.published;
    one.rows = policy.rows;
    one.lost = policy.lost;
    one.reached = open.report.reached;
    rows += policy.rows.size();
    open.is_written = true;
    open.unsaved.clear();
    open.unsaved_lost = 0;
    book.changed.erase(key);
    whole.after_ = key;
  }
  if (!whole.after_)
    whole.after_.emplace();
  whole.is_done_ = at == book.open.end();
  if (whole.is_done_) {
    part.lost_elsewhere = book.tally.lost_elsewhere();
    book.unsaved_lost_elsewhere = 0;
  }
  return part;
}

std::string DmarcLedger::whole_journal(Day day) {
  std::string out;
  for (Whole whole; !whole.is_done();)
    out += next_of(day, whole, SIZE_MAX).text();
  return out;
}

// Reads a journal into a day that has nothing yet.
class DmarcLedger::Reader {
 public:
  Reader(DmarcLedger& ledger, Day day) : ledger_(ledger), day_(day), book_(ledger.book_of(day)) {}

  bool read(std::string_view text) {
    boost::system::error_code failed;
    const auto parsed = text.size() <= kMostLine ? json::parse(text, failed) : json::value(nullptr);
    if (failed || !parsed.is_array())
      return false;
    Values values(parsed.get_array());
    const auto kind = values.text();
    const auto number = values.number();
    if (kind == "p")
      return define(number, values);
    if (kind == "x" && values.is_good())
      book_.tally.add_lost(number);
    if (kind == "x")
      return values.is_good();
    const auto known = policies_.find(number);
    // Of a policy that was done before it was written.
    if (known == policies_.end())
      return values.is_good() && (kind == "s" || kind == "d");
    return apply(kind, known->second, values);
  }
  // Nothing of it is unsaved.
  void end() {
    for (auto& [key, open] : book_.open) {
      open.is_written = true;
      open.unsaved.clear();
      open.unsaved_lost = 0;
    }
    book_.changed.clear();
    book_.ends.clear();
    book_.marks.clear();
    book_.unsaved_lost_elsewhere = 0;
    if (book_.tally.is_empty() && book_.tally.lost_elsewhere() == 0)
      ledger_.days_.erase(day_);
  }

 private:
  struct Known {
    PublishedPolicy policy;
    std::string id;
    std::uint64_t number;
  };

  bool define(std::uint64_t number, Values& values) {
    auto id = values.text(64);
    const auto policy = policy_from(values);
    if (!policy || !is_id(id) || policies_.count(number) > 0 ||
        policies_.size() >= ledger_.limits_.policies * 2)
      return false;
    book_.last_number = std::max(book_.last_number, number);
    policies_.emplace(number, Known{*policy, std::move(id), number});
    return true;
  }

  bool apply(const std::string& kind, const Known& known, Values& values) {
    const auto key = ReportTally::key_of(known.policy);
    if (kind == "r") {
      const auto count = values.number();
      auto row = row_from(values);
      if (!row || count == 0)
        return false;
      ledger_.count(book_, known.policy, *std::move(row), count);
      if (const auto open = book_.open.find(key); open != book_.open.end()) {
        open->second.report.id = known.id;
        open->second.number = known.number;
      }
    } else if (kind == "l") {
      book_.tally.add_lost(key, values.number());
    } else if (kind == "s") {
      if (auto address = values.text(); values.is_good())
        ledger_.note_reached(day_, key, address);
    } else if (kind == "d") {
      book_.tally.remove(key);
      book_.open.erase(key);
      book_.changed.erase(key);
      policies_.erase(policies_.find(known.number));
    } else {
      return false;
    }
    return values.is_good();
  }

  DmarcLedger& ledger_;
  const Day day_;
  Book& book_;
  std::map<std::uint64_t, Known> policies_;
};

std::size_t DmarcLedger::read_journal(Day day, std::string_view text) {
  Reader reader(*this, day);
  std::size_t unreadable = 0;
  while (!text.empty()) {
    const auto end = std::min(text.find('\n'), text.size());
    if (!reader.read(text.substr(0, end)))
      ++unreadable;
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  reader.end();
  return unreadable;
}

}  // namespace postrider::delivery
