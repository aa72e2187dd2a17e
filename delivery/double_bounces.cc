#include "delivery/double_bounces.h"

#include "base/json.h"
#include "base/text.h"
#include "mail/envelope.h"
#include "mail/header.h"
#include "mail/notice.h"
#include "mail/notice_text.h"

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/serialize.hpp>

#include <algorithm>
#include <vector>

namespace postrider::delivery {

namespace json = boost::json;
namespace notice = mail::notice;

namespace {

constexpr std::size_t kMostKeptText = 300;  // of a recipient, of a reason
constexpr std::size_t kMostShown = 10;      // domains in a digest

std::int64_t as_number(TimePoint when) {
  return when.time_since_epoch().count();
}

// UTF-8 without controls, as the file has to be.
std::string kept_text_of(std::string_view text) {
  return notice::one_line(notice::beginning(text, kMostKeptText), true);
}

// "2,847"
std::string grouped(std::uint64_t number) {
  auto digits = std::to_string(number);
  for (std::size_t at = digits.size(); at > 3;)
    digits.insert(at -= 3, ",");
  return digits;
}

std::string reports(std::uint64_t count) {
  return grouped(count) + (count == 1 ? " report" : " reports");
}

}  // namespace

// A clock that was set back leaves times in the future, which say nothing.
void DoubleBounces::forget_old(TimePoint now) {
  std::erase_if(sent_, [now](TimePoint sent) { return sent > now || now - sent >= kHour; });
}

bool DoubleBounces::may_tell(TimePoint now) {
  forget_old(now);
  if (counted_.count > 0 || sent_.size() >= kMostAnHour)
    return false;
  sent_.push_back(now);
  ++version_;
  return true;
}

void DoubleBounces::count(std::string_view recipient, const mail::Outcome& failure, TimePoint now) {
  ++version_;
  if (counted_.count++ == 0 || counted_.since > now)
    counted_.since = now;
  counted_.until = now;
  auto domain = kept_text_of(mail::domain_of(recipient));
  if (!counted_.domains.contains(domain) &&
      counted_.domains.size() >= UndeliveredNotices::kMostDomains) {
    ++counted_.elsewhere;
    return;
  }
  auto& kept = counted_.domains[std::move(domain)];
  ++kept.count;
  kept.recipient = kept_text_of(recipient);
  kept.reason = kept_text_of(failure.reason());
}

// The clock may have been set back since.
const UndeliveredNotices* DoubleBounces::due(TimePoint now) const {
  const bool is_over = now - counted_.since >= kHour || counted_.since > now;
  return counted_.count > 0 && is_over ? &counted_ : nullptr;
}

// digest: a copy, for it may be what is changed here.
void DoubleBounces::told(UndeliveredNotices digest, TimePoint now) {
  const auto take = [](std::uint64_t& from, std::uint64_t count) { from -= std::min(from, count); };
  take(counted_.count, digest.count);
  take(counted_.elsewhere, digest.elsewhere);
  for (const auto& [name, of] : digest.domains)
    if (const auto left = counted_.domains.find(name); left != counted_.domains.end()) {
      take(left->second.count, of.count);
      if (left->second.count == 0)
        counted_.domains.erase(left);
    }
  counted_.since = now;
  forget_old(now);
  sent_.push_back(now);
  ++version_;
}

void DoubleBounces::forget() {
  counted_ = {};
  ++version_;
}

std::string DoubleBounces::encode() const {
  json::array sent;
  for (const auto when : sent_)
    sent.push_back(as_number(when));
  json::array domains;
  for (const auto& [name, of] : counted_.domains)
    domains.push_back(json::object{
        {"domain", name}, {"count", of.count}, {"recipient", of.recipient}, {"reason", of.reason}});
  return json::serialize(json::object{{"sent", std::move(sent)},
                                      {"count", counted_.count},
                                      {"since", as_number(counted_.since)},
                                      {"until", as_number(counted_.until)},
                                      {"elsewhere", counted_.elsewhere},
                                      {"domains", std::move(domains)}});
}

namespace {

const json::value& member(const json::object& object, std::string_view key) {
  static const json::value kNone;
  const auto* found = object.if_contains(key);
  return found != nullptr ? *found : kNone;
}

std::uint64_t kept_number(const json::object& object, std::string_view key) {
  const auto& value = member(object, key);
  if (value.is_uint64())
    return value.get_uint64();
  return value.is_int64() && value.get_int64() > 0 ? static_cast<std::uint64_t>(value.get_int64())
                                                   : 0;
}

std::optional<TimePoint> kept_time(const json::value& value) {
  constexpr std::int64_t kYear9999 = 253'370'764'800'000;
  if (!value.is_int64() || value.get_int64() < 0 || value.get_int64() > kYear9999)
    return std::nullopt;
  return TimePoint(Duration(value.get_int64()));
}

std::string kept_text(const json::object& object, std::string_view key) {
  const auto& value = member(object, key);
  return value.is_string() ? std::string(value.get_string()) : std::string();
}

}  // namespace

Result<DoubleBounces> DoubleBounces::decode(std::string_view text) {
  const auto parsed = parse_json_object(text);
  if (!parsed)
    return parsed.error();
  DoubleBounces kept;
  if (const auto& sent = member(*parsed, "sent"); sent.is_array())
    for (const auto& value : sent.get_array())
      if (const auto when = kept_time(value); when && kept.sent_.size() < kMostAnHour)
        kept.sent_.push_back(*when);
  auto& counted = kept.counted_;
  counted.count = kept_number(*parsed, "count");
  counted.elsewhere = kept_number(*parsed, "elsewhere");
  counted.since = kept_time(member(*parsed, "since")).value_or(TimePoint());
  counted.until = kept_time(member(*parsed, "until")).value_or(TimePoint());
  if (const auto& domains = member(*parsed, "domains"); domains.is_array())
    for (const auto& value : domains.get_array())
      if (value.is_object() && counted.domains.size() < UndeliveredNotices::kMostDomains) {
        const auto& of = value.get_object();
        counted.domains[kept_text(of, "domain")] = {
            kept_number(of, "count"), kept_text(of, "recipient"), kept_text(of, "reason")};
      }
  return kept;
}

namespace {

using NamedDomain = std::pair<std::string_view, const UndeliveredNotices::Domain*>;

std::vector<NamedDomain> with_most_first(const UndeliveredNotices& counted) {
  std::vector<NamedDomain> all;
  for (const auto& [name, of] : counted.domains)
    all.emplace_back(name, &of);
  std::sort(all.begin(), all.end(), [](const auto& a, const auto& b) {
    return a.second->count != b.second->count ? a.second->count > b.second->count
                                              : a.first < b.first;
  });
  return all;
}

void append_domains(const UndeliveredNotices& counted, std::string& out) {
  const auto all = with_most_first(counted);
  std::uint64_t left = counted.elsewhere;
  for (std::size_t i = 0; i < all.size(); ++i) {
    const auto& [name, of] = all[i];
    if (i >= kMostShown) {
      left += of->count;
      continue;
    }
    out.append("\r\n");
    notice::append_wrapped(reports(of->count) + " to " +
                               (name.empty() ? "this host" : notice::one_line(name, false)) +
                               ", the last:",
                           "    ", out);
    notice::append_wrapped("    <" + notice::one_line(of->recipient, false) +
                               ">: " + notice::one_line(of->reason, false),
                           "    ", out);
  }
  if (left > 0) {
    out.append("\r\n");
    notice::append_wrapped("And " + reports(left) + " to other domains.", "", out);
  }
}

}  // namespace

std::string compose_digest(const UndeliveredNotices& counted, const std::string& hostname,
                           const std::string& to, mail::MessageId id, TimePoint now) {
  const auto host = notice::one_line(hostname, false);
  auto receiver = notice::one_line(to, false);
  if (mail::domain_of(receiver).empty())
    receiver.append(1, '@').append(host);
  std::string out = "Date: " + mail::format_date(now);
  out += "\r\nFrom: Mail Delivery System <MAILER-DAEMON@" + host + ">\r\nTo: <" + receiver;
  out += ">\r\nSubject: " + reports(counted.count) + " could not be delivered (double bounces)";
  out += "\r\nMessage-ID: " + mail::make_message_id(id, host);
  out += "\r\n";
  out += mail::kDoubleBounceMark;
  out +=
      "\r\nAuto-Submitted: auto-generated\r\nMIME-Version: 1.0\r\n"
      "Content-Type: text/plain; charset=us-ascii\r\n\r\n";
  notice::append_wrapped("This is the mail system at " + host + ".", "", out);
  out += "\r\n";
  notice::append_wrapped(
      "From " + mail::format_date(counted.since) + " to " + mail::format_date(counted.until) +
          ", " + reports(counted.count) +
          " could not be delivered, beside those that were sent to you " +
          "one by one. They have no sender to go back to. Often their recipients are the forged " +
          "senders of unwanted mail. The domains with most of them:",
      "", out);
  append_domains(counted, out);
  out += "\r\n";
  notice::append_wrapped(
      "The log has a line for each, by the name notice_dropped. Who wants no such mail sets "
      "delivery.double_bounces_to = \"\".",
      "", out);
  return out;
}

}  // namespace postrider::delivery
