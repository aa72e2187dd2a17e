#include "queue/store/prepared_filter.h"

#include "base/text.h"

#include <algorithm>
#include <limits>

namespace postrider::queue {

namespace {

// "@domain" or an address.
void split_address(const std::optional<std::string>& given, std::optional<std::string>& address,
                   std::optional<std::string>& domain) {
  if (!given)
    return;
  if (given->starts_with('@'))
    domain = mail::domain_of(*given);
  else
    address = *given == "<>" ? std::string() : *given;
}

}  // namespace

bool Filter::matches_all() const {
  return ids.empty() && !from && !to && !domain && !site && !status && !reply && !older && !larger;
}

bool PreparedFilter::asks_for_message() const {
  return !ids_.empty() || wanted_.sender || wanted_.sender_domain || wanted_.received_by ||
         wanted_.larger;
}

bool PreparedFilter::asks_for_recipients() const {
  return wanted_.to || wanted_.to_domain || wanted_.domain || wanted_.site || wanted_.reply;
}

bool PreparedFilter::asks_for_status_only() const {
  return !asks_for_message() && !asks_for_recipients();
}

PreparedFilter::Text PreparedFilter::only_domain() const {
  if (asks_for_message() || wanted_.status || wanted_.to || wanted_.site || wanted_.reply ||
      (wanted_.domain && wanted_.to_domain))
    return std::nullopt;
  return wanted_.domain ? wanted_.domain : wanted_.to_domain;
}

PreparedFilter::PreparedFilter(const Filter& filter, TimePoint wall) : ids_(filter.ids) {
  std::sort(ids_.begin(), ids_.end());
  ids_.erase(std::unique(ids_.begin(), ids_.end()), ids_.end());
  split_address(filter.from, wanted_.sender, wanted_.sender_domain);
  split_address(filter.to, wanted_.to, wanted_.to_domain);
  if (filter.domain)
    wanted_.domain = mail::domain_of("@" + *filter.domain);
  wanted_.site = filter.site;
  wanted_.status = filter.status;
  if (filter.reply)
    wanted_.reply = ascii_lower(*filter.reply);
  if (filter.older)
    wanted_.received_by = (wall - *filter.older).time_since_epoch().count();
  if (filter.larger)
    wanted_.larger = static_cast<std::int64_t>(
        std::min<std::uint64_t>(*filter.larger, std::numeric_limits<std::int64_t>::max()));
}

bool PreparedFilter::names(mail::MessageId id) const {
  return ids_.empty() || std::binary_search(ids_.begin(), ids_.end(), id);
}

bool PreparedFilter::matches(const mail::Message& message, bool is_leased) const {
  const auto& sender = message.envelope.sender;
  if (wanted_.site || wanted_.reply)
    return false;  // never tried
  if (wanted_.sender && !equals_ignoring_case(*wanted_.sender, sender))
    return false;
  if (wanted_.sender_domain && *wanted_.sender_domain != mail::domain_of(sender))
    return false;
  if (wanted_.status && *wanted_.status != (is_leased ? "active" : "queued"))
    return false;
  if (wanted_.received_by && message.received.time_since_epoch().count() > *wanted_.received_by)
    return false;
  return !wanted_.larger || static_cast<std::int64_t>(message.content.size) > *wanted_.larger;
}

bool PreparedFilter::matches(const mail::Recipient& recipient) const {
  if (wanted_.to && !equals_ignoring_case(*wanted_.to, recipient.address))
    return false;
  if (!wanted_.domain && !wanted_.to_domain)
    return true;
  const auto domain = mail::domain_of(recipient.address);
  return (!wanted_.domain || *wanted_.domain == domain) &&
         (!wanted_.to_domain || *wanted_.to_domain == domain);
}

}  // namespace postrider::queue
