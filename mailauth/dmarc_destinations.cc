#include "mailauth/dmarc_destinations.h"

#include "base/text.h"
#include "mailauth/dmarc.h"
#include "mailauth/dns_name.h"

#include <algorithm>
#include <utility>

namespace postrider::mailauth {

namespace {

bool is_served(const ReportUri& uri) {
  return uri.scheme == "mailto" && is_ascii(uri.mailbox);
}

// What one URI of rua leads to.
class Destination {
 public:
  Destination(std::string policy_domain, ReportUri uri)
      : policy_domain_(std::move(policy_domain)), uri_(std::move(uri)) {}

  Asking<ReportDestinations> find() {
    ReportDestinations found;
    const auto host = claimed_domain(domain_of(uri_.mailbox));
    if (!is_served(uri_) || !host)
      co_return found;
    const auto theirs = co_await organizational_domain(*host);
    const auto ours = co_await organizational_domain(policy_domain_);
    if (theirs && ours && *theirs == *ours)
      found.mailboxes.push_back({uri_.mailbox, uri_.most_size});
    else if (!theirs || !ours)
      found.unknown.push_back(uri_.mailbox);
    else
      co_await ask_for_consent(*host, found);
    co_return found;
  }

 private:
  Asking<void> ask_for_consent(const std::string& host, ReportDestinations& found) {
    const auto name = policy_domain_ + "._report._dmarc." + host;
    if (!can_be_asked(name))
      co_return;
    const auto answer = co_await ask(Question{name, Type::txt});
    if (answer.is_failure()) {
      found.unknown.push_back(uri_.mailbox);
      co_return;
    }
    bool has_consent = false;
    std::vector<ReportUri> instead;
    for (const auto& text : answer.texts)
      if (const auto record = DmarcRecord::parse(text)) {
        has_consent = true;
        instead.insert(instead.end(), record->rua.begin(), record->rua.end());
      }
    // Another host there: neither gets it.
    if (!std::all_of(instead.begin(), instead.end(), [&](const ReportUri& uri) {
          return claimed_domain(domain_of(uri.mailbox)) == host;
        }))
      co_return;
    if (has_consent && instead.empty())
      found.mailboxes.push_back({uri_.mailbox, uri_.most_size});
    for (const auto& uri : instead)
      if (is_served(uri))
        found.mailboxes.push_back({uri.mailbox, uri.most_size});
  }

  std::string policy_domain_;
  ReportUri uri_;
};

void add_new(const ReportDestinations& from, ReportDestinations& to) {
  for (const auto& one : from.mailboxes)
    if (to.mailboxes.size() < kMostReportUris &&
        std::none_of(to.mailboxes.begin(), to.mailboxes.end(),
                     [&](const ReportMailbox& known) { return known.address == one.address; }))
      to.mailboxes.push_back(one);
  for (const auto& one : from.unknown)
    if (std::find(to.unknown.begin(), to.unknown.end(), one) == to.unknown.end())
      to.unknown.push_back(one);
}

}  // namespace

Asking<ReportDestinations> report_destinations(std::string policy_domain,
                                               std::vector<std::string> rua) {
  ReportDestinations all;
  if (rua.size() > kMostReportUris)
    rua.resize(kMostReportUris);
  for (const auto& text : rua) {
    auto uri = parse_report_uri(text);
    if (!uri)
      continue;
    Destination destination(policy_domain, std::move(*uri));
    const auto found = co_await destination.find();
    add_new(found, all);
  }
  co_return all;
}

}  // namespace postrider::mailauth
