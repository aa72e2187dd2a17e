#include "events/event_filter.h"

#include "base/text.h"
#include "mail/envelope.h"

#include <algorithm>
#include <string_view>

namespace postrider::events {

namespace {

template <class List, class Fits>
bool is_wanted(const List& list, Fits one_fits) {
  return list.empty() || std::any_of(list.begin(), list.end(), one_fits);
}

bool fits_domain(std::string_view wanted, std::string_view domain) {
  if (!wanted.starts_with('.'))
    return equals_ignoring_case(wanted, domain);
  return domain.size() > wanted.size() && ends_with_ignoring_case(domain, wanted);
}

bool fits_sender(std::string_view wanted, const CloudEvent& event) {
  if (!event.has_from)
    return false;
  if (wanted == "<>")
    return event.from.empty();
  const auto domain = mail::domain_of(event.from);
  if (wanted.starts_with('@'))
    return !event.from.empty() && equals_ignoring_case(wanted.substr(1), domain);
  return mail::local_part_of(event.from) == mail::local_part_of(wanted) &&
         domain == mail::domain_of(wanted);
}

bool fits_tag(std::string_view wanted, std::string_view tag) {
  if (wanted.ends_with('*'))
    return !tag.empty() && tag.starts_with(wanted.substr(0, wanted.size() - 1));
  return tag == wanted;
}

}  // namespace

bool fits(const Filter& filter, const CloudEvent& event) {
  const auto domain = event.to.empty() ? std::string() : mail::domain_of(event.to);
  return is_wanted(filter.events, [&](Kind kind) { return kind == event.kind; }) &&
         is_wanted(filter.domains,
                   [&](const auto& one) { return !domain.empty() && fits_domain(one, domain); }) &&
         is_wanted(filter.senders, [&](const auto& one) { return fits_sender(one, event); }) &&
         is_wanted(filter.tags, [&](const auto& one) { return fits_tag(one, event.tag); });
}

}  // namespace postrider::events
