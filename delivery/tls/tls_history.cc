#include "delivery/tls/tls_history.h"

#include "base/text.h"

#include <algorithm>

namespace postrider::delivery {

void TlsHistory::add(const TlsReport& report) {
  if (domains_.size() >= most_domains_ && domains_.find(report.domain) == domains_.end())
    domains_.erase(std::min_element(domains_.begin(), domains_.end(), [](auto& a, auto& b) {
      return a.second.front().when < b.second.front().when;
    }));
  auto& last = domains_[report.domain];
  last.push_front(report);
  if (last.size() > most_each_)
    last.pop_back();
}

std::vector<std::string> TlsHistory::about(const std::string& domain) const {
  std::vector<std::string> lines;
  const auto found = domains_.find(domain);
  if (found == domains_.end())
    return lines;
  for (const auto& report : found->second) {
    std::string line = format_rfc3339(report.when) + " ";
    if (!report.host.empty() || !report.address.empty())
      line += report.host + (report.address.empty() ? "" : "[" + report.address + "]") + ": ";
    line += to_string(report.result);
    if (report.went_in_clear)
      line += ", in clear";
    if (!report.detail.empty())
      line += ": " + escaped(report.detail);
    lines.push_back(std::move(line));
  }
  return lines;
}

}  // namespace postrider::delivery
