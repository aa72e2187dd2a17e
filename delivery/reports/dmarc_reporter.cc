#include "delivery/reports/dmarc_reporter.h"

#include "base/file.h"
#include "base/text.h"
#include "base/version.h"
#include "mailauth/resolved.h"

#include <boost/asio/post.hpp>

#include <algorithm>
#include <exception>
#include <filesystem>
#include <optional>
#include <utility>

namespace postrider::delivery {

namespace {

// Of reports at one time: a domain whose name servers do not answer keeps others waiting no longer
// than this divided by their number.
constexpr unsigned kHelpers = 8;
constexpr Duration kPatience = std::chrono::seconds(20);
constexpr std::size_t kMostFile = 256U << 20U;
// A journal that has grown by this and by half is written again.
constexpr std::size_t kGrowth = 16U << 20U;
constexpr std::size_t kDateSize = 10;

std::string date_of(Day day) {
  return format_rfc3339(TimePoint(day)).substr(0, kDateSize);
}

// "20787.journal": days since 1970.
std::string file_name(Day day) {
  return std::to_string(day.time_since_epoch().count()) + ".journal";
}
std::optional<Day> day_of_file(const std::filesystem::path& path) {
  constexpr std::uint64_t kMostDay = 100'000;  // 2243
  const auto number = parse_unsigned(path.stem().string());
  if (path.extension() != ".journal" || !number || *number > kMostDay)
    return std::nullopt;
  return Day{std::chrono::days(static_cast<int>(*number))};
}

std::string new_id(Random& random) {
  constexpr std::string_view kLetters = "0123456789abcdefghijklmnopqrstuvwxyz";
  constexpr std::size_t kSize = 20;
  std::string id;
  while (id.size() < kSize)
    id += kLetters[static_cast<std::size_t>(random.below(kLetters.size()))];
  return id;
}

struct Sum {
  std::uint64_t messages = 0, failed = 0;
};
Sum sum_of(const mailauth::PolicyRows& policy) {
  Sum sum;
  for (const auto& [row, count] : policy.rows) {
    sum.messages += count;
    if (!row.dkim_aligned && !row.spf_aligned)
      sum.failed += count;
  }
  return sum;
}

}  // namespace

// A report as it is sent.
struct DmarcReporter::Paper {
  mailauth::ReportHead head;
  mailauth::PolicyRows policy;
  std::string attachment;
};

DmarcReporter::DmarcReporter(Loop& home, std::function<dns::Resolver&()> resolver,
                             const Clock& clock, Log& log, BlockingPool& pool, std::string folder,
                             ReportPost post, mailauth::ReportTally::Limits limits)
    : DailyReporter(home, clock, log, {"DMARC reports", "dmarc_report.contact", kHelpers}),
      resolver_(std::move(resolver)),
      pool_(pool),
      post_(std::move(post)),
      ledger_(limits, [this] { return new_id(random_); }),
      folder_(std::move(folder)),
      files_(std::make_shared<JournalFiles>(folder_)) {}

void DmarcReporter::load() {
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(folder_, error)) {
    const auto day = day_of_file(entry.path());
    if (!day)
      continue;
    const auto text = read_file(entry.path().string(), kMostFile);
    auto& journal = journals_[*day];
    if (!text) {
      journal.must_be_new = true;
      log_.write(
          LogEvent(Level::warn, "dmarc_report_trouble").add("reason", text.error().describe()));
      continue;
    }
    const auto unreadable = ledger_.read_journal(*day, *text);
    journal.size = journal.whole = text->size();
    journal.must_be_new = unreadable > 0 || (!text->empty() && text->back() != '\n');
    if (unreadable > 0)
      log_.write(LogEvent(Level::warn, "dmarc_report_trouble")
                     .add("reason", entry.path().string() + ": " + std::to_string(unreadable) +
                                        " lines cannot be read"));
  }
}

void DmarcReporter::configure(DmarcReportSettings settings) {
  settings_ = std::move(settings);
  schedule(settings_.enabled, settings_.delay);
}

void DmarcReporter::add(const mailauth::PublishedPolicy& policy, mailauth::ReportRow row) {
  if (!is_collecting())
    return;
  const auto day = today();
  auto& journal = journals_[day];
  if (!ledger_.add(day, policy, std::move(row)) && !std::exchange(journal.has_overflowed, true))
    log_.write(LogEvent(Level::warn, "dmarc_report_trouble")
                   .add("domain", policy.domain)
                   .add("reason", "no room for more today: messages are only counted"));
}

std::vector<std::string> DmarcReporter::collected() const {
  std::vector<std::string> lines;
  for (const auto day : ledger_.days()) {
    const auto& tally = *ledger_.tally(day);
    for (const auto& [key, policy] : tally.policies()) {
      const auto sum = sum_of(policy);
      auto line = date_of(day) + " " + policy.published.domain + ": " +
                  std::to_string(sum.messages) + " messages, " + std::to_string(sum.failed) +
                  " failed";
      if (policy.lost > 0)
        line += ", " + std::to_string(policy.lost) + " more without details";
      lines.push_back(std::move(line));
    }
    if (tally.lost_elsewhere() > 0)
      lines.push_back(date_of(day) + " other domains: " + std::to_string(tally.lost_elsewhere()) +
                      " messages, not to be reported");
  }
  return lines;
}

// --- on disk ---

void DmarcReporter::save() {
  tell_trouble();
  // A disk that hangs gets no more work; what happens meanwhile is handed over later.
  if (!files_->is_idle())
    return;
  hand_over(Pace::in_parts);
  if (!files_->is_idle())
    pool_.post([files = files_] { files->work(); });
}

void DmarcReporter::save_now() {
  for (auto& [day, journal] : journals_)
    journal.must_be_new = std::exchange(journal.is_collected, false) || journal.must_be_new;
  hand_over(Pace::at_once);
  files_->work();
  tell_trouble();
}

void DmarcReporter::hand_over(Pace pace) {
  for (auto at = journals_.begin(); at != journals_.end();) {
    const auto day = at->first;
    if (ledger_.tally(day) != nullptr) {
      save_day(day, pace);
      ++at;
    } else {
      if (at->second.size > 0 || at->second.must_be_new)
        files_->remove(file_name(day));
      at = journals_.erase(at);
    }
  }
}

void DmarcReporter::save_day(Day day, Pace pace) {
  auto& journal = journals_[day];
  if (journal.is_collected)
    return;
  const bool is_anew =
      journal.must_be_new || journal.size > journal.whole + journal.whole / 2 + kGrowth;
  if (is_anew && pace == Pace::in_parts) {
    home_.spawn(write_anew(shared_from_this(), day), log_, "journal of DMARC");
    journal.is_collected = true;
  } else if (is_anew) {
    auto text = ledger_.whole_journal(day);
    journal = {text.size(), text.size(), false, journal.has_overflowed, false};
    files_->replace(file_name(day), [text = std::move(text)] { return text; });
  } else if (auto entries = std::make_shared<DmarcLedger::Entries>(ledger_.take_entries(day));
             !entries->is_empty()) {
    journal.size += entries->octets();
    files_->append(file_name(day), [entries] { return entries->text(); });
  }
}

// A full day has twelve million octets, and to write them out takes seconds: the loop copies them, a part in each of its
// turns, and the pool does the rest.
Task<void> DmarcReporter::write_anew(std::shared_ptr<DailyReporter> self, Day day) {
  try {
    co_await collect(day);
  } catch (const std::exception&) {
    if (const auto journal = journals_.find(day); journal != journals_.end()) {
      journal->second.is_collected = false;
      journal->second.must_be_new = true;
    }
    throw;
  }
}

Task<void> DmarcReporter::collect(Day day) {
  constexpr std::size_t kRowsOfPart = 2000;
  auto parts = std::make_shared<std::vector<DmarcLedger::Entries>>();
  std::size_t size = 0;
  for (DmarcLedger::Whole whole; !whole.is_done();) {
    co_await asio::post(home_.executor(), use_task);
    parts->push_back(ledger_.next_of(day, whole, kRowsOfPart));
    size += parts->back().octets();
  }
  const auto found = journals_.find(day);
  if (found == journals_.end() || !found->second.is_collected)
    co_return;
  auto& journal = found->second;
  journal = {size, size, false, journal.has_overflowed, false};
  files_->replace(file_name(day), [parts] {
    std::string text;
    for (const auto& part : *parts)
      text += part.text();
    return text;
  });
  pool_.post([files = files_] { files->work(); });
}

void DmarcReporter::tell_trouble() {
  const auto trouble = files_->take_trouble();
  if (!trouble)
    return;
  log_.write(LogEvent(Level::warn, "dmarc_report_trouble").add("reason", trouble->describe()));
  for (auto& [day, journal] : journals_)
    journal.must_be_new = true;
}

// --- what is over ---

void DmarcReporter::drop_before(Day day) {
  for (const auto one : ledger_.days())
    if (one < day)
      drop(one, "not sent in two days");
    else if (one > today() + std::chrono::days(1))
      drop(one, "of a day to come: the clock was set back");
}

void DmarcReporter::drop(Day day, const char* reason) {
  for (const auto& [key, policy] : ledger_.tally(day)->policies())
    log_.write(LogEvent(Level::warn, "dmarc_report_failed")
                   .add("domain", policy.published.domain)
                   .add("day", date_of(day))
                   .add("messages", sum_of(policy).messages + policy.lost)
                   .add("reason", reason));
  ledger_.drop(day);
}

// --- sending ---

std::vector<DailyReporter::Work> DmarcReporter::reports_before(Day end) const {
  std::vector<Work> work;
  for (const auto day : ledger_.days())
    if (day < end)
      for (const auto& [key, policy] : ledger_.tally(day)->policies())
        work.push_back({day, key, policy.published.domain});
  return work;
}

mailauth::ReportHead DmarcReporter::head_of(Day day, std::string id) const {
  mailauth::ReportHead head;
  head.organisation = settings_.organisation;
  head.contact = settings_.contact;
  head.submitter = settings_.submitter;
  head.id = std::move(id);
  head.begin = day;
  head.end = day + std::chrono::days(1) - std::chrono::seconds(1);
  head.generator = "Postrider " + std::string(version());
  return head;
}

Task<std::string> DmarcReporter::send_one(const Work& work) {
  const auto* tally = ledger_.tally(work.day);
  const auto* policy = tally == nullptr ? nullptr : tally->find(work.key);
  if (policy == nullptr)
    co_return "is there no more";
  Paper paper;
  paper.policy = *policy;
  paper.head = head_of(work.day, ledger_.report(work.day, work.key)->id);
  const auto found = co_await destinations(paper.policy.published);
  if (found.mailboxes.empty() && found.unknown.empty()) {
    ledger_.finish(work.day, work.key, paper.policy);
    settled(work);
    co_return "nobody may have it";
  }
  // Not on the loop: it may be ten million octets.
  const std::function<std::string()> job = [&paper] {
    return attachment_text(gzip(report_xml(paper.head, paper.policy)));
  };
  paper.attachment = co_await pool_.run<std::string>(home_, job);
  auto line = co_await send_to_all(work, paper, found);
  co_return line;
}

// One question after the other, in a time limit.
Task<DmarcReporter::Found> DmarcReporter::destinations(const mailauth::PublishedPolicy& policy) {
  const auto until = clock_.steady() + kPatience;
  mailauth::Inquiry<Found> inquiry(mailauth::report_destinations(policy.domain, policy.rua));
  while (!inquiry.done()) {
    const auto open = inquiry.take();
    for (const auto& posed : open) {
      const auto answer = co_await resolver_().txt(posed.question.name);
      inquiry.answer(posed.id, mailauth::resolved(answer, mailauth::take_text));
    }
    if (clock_.steady() > until)
      inquiry.give_up("the name servers take too long");
  }
  co_return inquiry.result();
}

Task<std::string> DmarcReporter::send_to_all(const Work& work, const Paper& paper,
                                             const Found& found) {
  std::string sent, failed;
  const auto note = [](std::string& list, const std::string& what) {
    list.append(list.empty() ? "" : ", ").append(what);
  };
  for (const auto& mailbox : found.mailboxes) {
    if (const auto* report = ledger_.report(work.day, work.key);
        report != nullptr && report->reached.count(mailbox.address) > 0)
      continue;
    const bool is_too_large = paper.attachment.size() > mailbox.most_size.value_or(~0ULL);
    auto done = is_too_large ? Result<void>(Error(Errc::too_long, "send more than is wanted there"))
                             : co_await send_to(paper, mailbox);
    auto event =
        LogEvent(done ? Level::info : Level::warn, done ? "dmarc_report" : "dmarc_report_failed")
            .add("domain", work.domain)
            .add("to", mailbox.address)
            .add("report", paper.head.id)
            .add("messages", sum_of(paper.policy).messages);
    if (!done)
      event.add("reason", done.error().describe());
    log_.write(std::move(event));
    if (done)
      note(sent, mailbox.address);
    else if (!is_too_large)
      note(failed, mailbox.address + ": " + done.error().describe());
    if (done || is_too_large)
      ledger_.note_reached(work.day, work.key, mailbox.address);
  }
  for (const auto& address : found.unknown)
    note(failed, address + ": the DNS does not say whether it may have it");
  // What is sent of a day that goes on must not be sent again with more in it.
  const bool is_kept = !failed.empty() && (work.day < today() || sent.empty());
  if (is_kept) {
    put_off(work);
  } else {
    ledger_.finish(work.day, work.key, paper.policy);
    settled(work);
  }
  std::string line = sent.empty() ? "" : "sent to " + sent;
  if (!failed.empty())
    line.append(line.empty() ? "" : "; ").append(is_kept ? "later: " : "not: ").append(failed);
  co_return line.empty() ? "too large for those who want it" : line;
}

Task<Result<void>> DmarcReporter::send_to(const Paper& paper,
                                          const mailauth::ReportMailbox& mailbox) {
  AttachedReport report;
  report.contact = settings_.contact;
  report.submitter = settings_.submitter;
  report.to = mailbox.address;
  report.subject = report_subject(paper.head, paper.policy.published);
  report.content_type = "multipart/mixed";
  report.boundary = "=_dmarc_" + paper.head.id;
  report.sentence = "This is an aggregate DMARC report (RFC 9990) from " + settings_.submitter +
                    ",\r\nabout " + paper.policy.published.domain + ", for " +
                    date_of(std::chrono::floor<std::chrono::days>(paper.head.begin)) +
                    " (UTC).\r\n";
  report.part_type = "application/gzip";
  report.file = report_file_name(paper.head, paper.policy.published);
  ReportMail mail;
  mail.sender = settings_.contact;
  mail.recipient = mailbox.address;
  mail.id = post_.next_id();
  mail.text = report_message(report, paper.attachment, mail.id, clock_.now());
  auto done = co_await post_.submit(std::move(mail));
  co_return done;
}

}  // namespace postrider::delivery
