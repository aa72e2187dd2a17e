#include "delivery/tls/reports/reporter.h"

#include "base/file.h"
#include "base/text.h"

#include <mutex>

namespace postrider::delivery {

namespace {

constexpr std::size_t kMostFile = 256U << 20U;

}  // namespace

// The file, which a slow thread must not set back to what it was before.
struct TlsReporter::Saved {
  void write(const std::string& file, const std::string& text, std::uint64_t version, Log& log) {
    const std::lock_guard lock(mutex);
    if (version <= last)
      return;
    last = version;
    if (auto saved = replace_file(file, text, 0600); !saved)
      log.write(
          LogEvent(Level::warn, "tls_report_trouble").add("reason", saved.error().describe()));
  }
  std::mutex mutex;
  std::uint64_t last = 0;
};

TlsReporter::TlsReporter(Loop& home, std::function<dns::Resolver&()> resolver, const Clock& clock,
                         Log& log, BlockingPool& pool, std::string file, ReportPost post)
    : DailyReporter(home, clock, log, {"TLS reports", "tls_report.contact", 1}),
      resolver_(std::move(resolver)),
      pool_(pool),
      file_(std::move(file)),
      post_(std::move(post)),
      saved_(std::make_shared<Saved>()) {}

void TlsReporter::load() {
  const auto text = read_file(file_, kMostFile);
  if (!text && text.error().code() == boost::system::errc::no_such_file_or_directory)
    return;
  auto tally = text ? TlsTally::decode(*text) : Result<TlsTally>(text.error());
  if (tally)
    tally_ = *std::move(tally);
  else
    log_.write(LogEvent(Level::warn, "tls_report_trouble").add("reason", tally.error().describe()));
}

void TlsReporter::configure(TlsReportSettings settings) {
  settings_ = std::move(settings);
  schedule(settings_.enabled, settings_.delay);
}

void TlsReporter::stop() {
  DailyReporter::stop();
  call_->abort();
}

void TlsReporter::save_now() {
  if (version_ > 0 || has_changed_)
    saved_->write(file_, tally_.encode(), ++version_, log_);
}

void TlsReporter::save() {
  if (!std::exchange(has_changed_, false))
    return;
  pool_.post([saved = saved_, file = file_, text = tally_.encode(), version = ++version_,
              &log = log_] { saved->write(file, text, version, log); });
}

// What a message waives says nothing of the domain's policies; and a report that counted the
// delivery of the report before it would never end.
void TlsReporter::add(const TlsReport& report) {
  if (!is_collecting() || report.source == TlsSource::message)
    return;
  tally_.add(report);
  has_changed_ = true;
}

std::vector<std::string> TlsReporter::collected() const {
  std::vector<std::string> lines;
  for (const auto& [day, domains] : tally_.days())
    for (const auto& [domain, policies] : domains) {
      std::uint64_t failed = 0, all = 0;
      for (const auto& policy : policies) {
        failed += policy.failures;
        all += policy.failures + policy.successes;
      }
      lines.push_back(format_rfc3339(TimePoint(day)).substr(0, 10) + " " + domain + ": " +
                      std::to_string(all) + " sessions, " + std::to_string(failed) + " failed");
    }
  return lines;
}

std::vector<DailyReporter::Work> TlsReporter::reports_before(Day end) const {
  std::vector<Work> work;
  for (const auto& [day, domains] : tally_.days()) {
    if (day >= end)
      break;
    for (const auto& [domain, policies] : domains)
      work.push_back({day, domain, domain});
  }
  return work;
}

Task<std::string> TlsReporter::send_one(const Work& work) {
  auto& resolver = resolver_();
  const auto answer = co_await resolver.txt("_smtp._tls." + work.domain);
  if (answer.status == dns::Status::temporary_failure) {
    put_off(work);
    co_return "later: " + answer.reason;
  }
  const auto targets = parse_tlsrpt_record(answer.records);
  if (targets.empty()) {
    forget(work);
    co_return "wants no reports";
  }
  auto line = co_await deliver(work, targets);
  co_return line;
}

Task<std::string> TlsReporter::deliver(const Work& work,
                                       const std::vector<TlsReportTarget>& targets) {
  TlsReportHead head;
  head.organisation = settings_.organisation;
  head.contact = settings_.contact;
  head.submitter = settings_.submitter;
  head.domain = work.domain;
  head.day = work.day;
  head.id = mail::to_string(post_.next_id());
  const auto compressed = gzip(tls_report_json(head, tally_.days().at(work.day).at(work.domain)));
  std::string sent, failed;
  for (const auto& target : targets) {
    auto done = co_await send_to(target, head, compressed);
    const auto name = target.describe();
    if (done)
      sent += (sent.empty() ? "sent to " : ", ") + name;
    else
      failed += (failed.empty() ? "" : ", ") + name + ": " + done.error().describe();
    LogEvent event(done ? Level::info : Level::warn, done ? "tls_report" : "tls_report_failed");
    event.add("domain", work.domain).add("to", name).add("report", head.id);
    if (!done)
      event.add("reason", done.error().describe());
    log_.write(std::move(event));
  }
  if (sent.empty())
    put_off(work);
  else
    forget(work);
  co_return sent.empty() ? "later: " + failed : sent;
}

Task<Result<void>> TlsReporter::send_to(const TlsReportTarget& target, const TlsReportHead& head,
                                        const std::string& compressed) {
  if (!target.is_mail) {
    auto done = co_await send_by_https(target, compressed);
    co_return done;
  }
  ReportMail mail;
  mail.sender = settings_.contact;
  mail.recipient = target.address;
  mail.id = post_.next_id();
  mail.needs_no_tls = true;
  mail.text = tls_report_mail(head, compressed, target.address, mail.id, clock_.now());
  auto done = co_await post_.submit(std::move(mail));
  co_return done;
}

Task<Result<void>> TlsReporter::send_by_https(const TlsReportTarget& target,
                                              const std::string& compressed) {
  if (!settings_.tls)
    co_return Error(Errc::unsupported, "send by HTTPS without TLS");
  HttpRequest request;
  request.method = "POST";
  request.host = target.host;
  request.port = target.port;
  request.target = target.path;
  request.fields.emplace_back("User-Agent", "Postrider");
  request.fields.emplace_back("Content-Type", "application/tlsrpt+gzip");
  request.body = compressed;
  auto tls = settings_.tls;
  HttpLimits limits;
  auto call = call_;
  auto answer = co_await dns::http_request(home_, resolver_(), settings_.families, std::move(tls),
                                           std::move(request), limits, std::move(call));
  if (!answer)
    co_return answer.error();
  if (answer->status < 200 || answer->status > 299)
    co_return Error(Errc::refused, "HTTP status " + std::to_string(answer->status));
  co_return Result<void>{};
}

void TlsReporter::forget(const Work& work) {
  tally_.remove(work.day, work.domain);
  settled(work);
  has_changed_ = true;
}

}  // namespace postrider::delivery
