#include "brokers/request_taker.h"

#include "web/mail_request.h"

#include "base/digest.h"
#include "base/json.h"
#include "base/random.h"
#include "base/text.h"

#include <boost/json/serialize.hpp>

#include <algorithm>
#include <sysexits.h>
#include <utility>

namespace postrider::brokers {

namespace {

constexpr Duration kTurn{1000};
constexpr Duration kFirstPause{1000}, kLongestPause{60'000};
constexpr Duration kPatience{30'000};  // with a daemon that is down or busy, before it goes back
constexpr Duration kTellLimit{15'000};
constexpr std::size_t kMostKey = 255, kMostReason = 1000;
// Octets beyond which a request has its turn: several copies of it are made.
constexpr std::size_t kLarge = 1U << 20U;

// What is wrong with the request itself, or is not allowed to who asks. All else passes, once the
// daemon is up and has room, or somebody has mended the configuration.
bool is_for_good(const daemon::SubmitAnswer& answer) {
  if (answer.busy || answer.cause == daemon::kCauseLimit)
    return false;
  return answer.exit_code == EX_DATAERR || answer.exit_code == EX_UNAVAILABLE ||
         answer.exit_code == EX_NOPERM;
}

bool is_custody(const daemon::SubmitAnswer& answer) {
  return answer.exit_code == EX_OK && !answer.id.empty();
}

std::string new_id() {
  SystemRandom random;
  std::string id;
  for (int i = 0; i < 2; ++i)
    for (auto left = random.next(), n = std::uint64_t{0}; n < sizeof left; ++n, left >>= 8U)
      id.push_back(static_cast<char>(left & 0xffU));
  return encode_hex(id);
}

bool is_key(std::string_view key) {
  return key.size() <= kMostKey &&
         std::all_of(key.begin(), key.end(), [](char c) { return c >= ' ' && c < '\x7f'; });
}

}  // namespace

RequestTaker::RequestTaker(Settings settings, Consumer& consumer, Publisher* refusals,
                           const Clock& clock, Log& log)
    : settings_(std::move(settings)),
      consumer_(consumer),
      refusals_(refusals),
      clock_(clock),
      log_(log),
      pause_(kFirstPause) {}

void RequestTaker::turn() {
  auto request = consumer_.next(clock_.steady() + kTurn);
  if (!request) {
    report("requests_not_read", request.error());
    settings_.sleep(pause_);
    pause_ = std::min(pause_ * 2, kLongestPause);
    return;
  }
  pause_ = kFirstPause;
  if (refusals_ != nullptr)
    refusals_->tend();
  if (!*request)
    return;
  const auto end = take_in_turn(**request);
  if (auto settled = consumer_.settle(end, clock_.steady() + kTellLimit); !settled)
    report("request_not_settled", settled.error());
  if (end == RequestEnd::later)
    settings_.sleep(kTurn);
}

RequestEnd RequestTaker::take_in_turn(BrokerRequest& request) {
  if (settings_.large == nullptr || request.body.size() <= kLarge)
    return take(request);
  const auto until = clock_.steady() + kPatience;
  std::unique_lock turn(*settings_.large, std::defer_lock);
  while (!turn.try_lock_for(kTurn)) {
    if (!consumer_.tend())
      return put_off(request, "the connection to the broker is lost");
    if (clock_.steady() >= until)
      return put_off(request, "other large requests go before");
  }
  return take(request);
}

// The key that the broker's message has goes before the one in the request.
RequestEnd RequestTaker::take(BrokerRequest& request) {
  if (request.is_too_large)
    return refuse(request, "the request has more than " + format_size(kMostRequest));
  auto mail = web::read_mail_request(request.body);
  if (mail && request.key.empty())
    request.key = mail->key;
  if (!is_key(request.key))
    return refuse(request, "the key has at most 255 visible ASCII characters");
  if (!mail)
    return refuse(request, mail.error().step());
  if (mail->content.size() > settings_.most_size)
    return refuse(request, daemon::too_large(settings_.most_size));
  mail->header.size = mail->content.size();
  mail->header.token = settings_.name;
  mail->header.way = settings_.protocol;
  web::set_trace_parent(*mail, request.trace_parent);
  if (!request.key.empty())
    mail->header.key = daemon::submit_key(settings_.name, request.key, request.body);
  return submit(request, mail->header, mail->content);
}

// A lost answer is no custody: the same comes again, and the key makes it the same mail.
RequestEnd RequestTaker::submit(const BrokerRequest& request, const daemon::SubmitHeader& header,
                                std::string_view content) {
  const auto until = clock_.steady() + kPatience;
  for (;;) {
    const auto answer = settings_.submit(header, content);
    if (answer && is_custody(*answer))
      return RequestEnd::taken;
    if (answer && is_for_good(*answer))
      return refuse(request, answer->error);
    if (clock_.steady() + kTurn >= until)
      return put_off(request, answer ? answer->error : answer.error().describe());
    if (!consumer_.tend())
      return put_off(request, "the connection to the broker is lost");
    settings_.sleep(kTurn);
  }
}

RequestEnd RequestTaker::put_off(const BrokerRequest& request, const std::string& reason) {
  log_.write(LogEvent(Level::warn, "request_waits")
                 .add("source", settings_.name)
                 .add("key", request.key)
                 .add("reason", reason));
  return RequestEnd::later;
}

// One that nobody can be told of comes again.
RequestEnd RequestTaker::refuse(const BrokerRequest& request, const std::string& reason) {
  if (refusals_ != nullptr)
    if (auto told = tell(request, reason); !told) {
      report("request_refusal_not_told", told.error());
      return RequestEnd::later;
    }
  log_.write(LogEvent(Level::warn, "request_refused")
                 .add("source", settings_.name)
                 .add("key", request.key)
                 .add("reason", reason)
                 .add("refused", ++*settings_.refused));
  return RequestEnd::refused;
}

Result<void> RequestTaker::tell(const BrokerRequest& request, const std::string& reason) {
  boost::json::object data;
  data["source"] = settings_.name;
  data["key"] = escaped(request.key, kMostKey);
  data["reason"] = escaped(reason, kMostReason);
  if (!request.is_too_large)
    data["sha256"] = encode_hex(sha256(request.body));
  boost::json::object event;
  event["specversion"] = "1.0";
  event["id"] = new_id();
  event["source"] = "//" + settings_.host + "/requests/" + settings_.name;
  event["type"] = "postrider.request_refused";
  event["time"] = format_rfc3339(clock_.now());
  event["datacontenttype"] = "application/json";
  event["data"] = std::move(data);
  const Message message{std::string(event["id"].get_string()), settings_.name, "request_refused",
                        boost::json::serialize(event)};
  const auto until = clock_.steady() + kTellLimit;
  std::vector<bool> taken(1);
  auto told = refusals_->publish({&message}, until, taken);
  // The connection may have been lost since the last one.
  if (!told && told.error().code() != Errc::refused)
    told = refusals_->publish({&message}, until, taken);
  return told;
}

void RequestTaker::report(const char* event, const Error& error) {
  log_.write(
      LogEvent(Level::warn, event).add("source", settings_.name).add("reason", error.describe()));
}

}  // namespace postrider::brokers
