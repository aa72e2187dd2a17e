#include "cli/mailq_listing.h"

#include "cli/output.h"

#include <boost/json/array.hpp>

#include <array>
#include <ctime>

namespace postrider::cli {

namespace {

namespace json = boost::json;

constexpr const char* kHeading =
    "-Queue ID-  --Size-- ----Arrival Time---- -Sender/Recipient-------\n";
// A marked id of eleven letters moves the rest by one, with Postfix too.
constexpr std::size_t kIdWidth = 11;
constexpr std::size_t kSizeWidth = 7;
constexpr std::size_t kRecipientColumn = 41;
// A reason is set flush right in this width, as postqueue does.
constexpr std::size_t kReasonWidth = 76;

std::string arrival(std::int64_t seconds) {
  const auto when = static_cast<std::time_t>(seconds);
  std::tm broken{};
  std::array<char, 32> text{};
  if (::localtime_r(&when, &broken) == nullptr)
    return std::string(20, ' ');
  constexpr const char* kDays[] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
  constexpr const char* kMonths[] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                     "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
  std::snprintf(text.data(), text.size(), "%s %s %2d %02d:%02d:%02d ", kDays[broken.tm_wday],
                kMonths[broken.tm_mon], broken.tm_mday, broken.tm_hour, broken.tm_min,
                broken.tm_sec);
  return text.data();
}

std::string first_line(const json::object& message) {
  const auto queue = raw_text_of(message, "queue_name");
  std::string line = text_of(message, "queue_id");
  if (queue == "active")
    line.push_back('*');
  else if (queue == "hold")
    line.push_back('!');
  const auto size = std::to_string(number_of(message, "message_size"));
  line = padded(line, kIdWidth).append(" ");
  line.append(size.size() < kSizeWidth ? kSizeWidth - size.size() : 0, ' ').append(size);
  line.append(" ").append(arrival(number_of(message, "arrival_time"))).append(" ");
  return line.append(text_of(message, "sender")).append("\n");
}

}  // namespace

namespace {

std::string reason_line(const std::string& reason) {
  return std::string(reason.size() < kReasonWidth ? kReasonWidth - reason.size() : 0, ' ') + "(" +
         reason + ")\n";
}

}  // namespace

std::string MailqListing::message(const json::object& message) {
  std::string text = messages_ == 0 ? kHeading : "";
  ++messages_;
  octets_ += static_cast<std::uint64_t>(number_of(message, "message_size"));
  text.append(first_line(message));
  std::string last_reason;
  const auto* recipients = array_of(message, "recipients");
  if (const auto reason = text_of(message, "reason");
      !reason.empty() && (recipients == nullptr || recipients->empty()))
    text.append(reason_line(reason));
  for (std::size_t i = 0; recipients != nullptr && i < recipients->size(); ++i) {
    const auto* recipient = (*recipients)[i].if_object();
    if (recipient == nullptr)
      continue;
    const auto reason = text_of(*recipient, "delay_reason");
    if (!reason.empty() && reason != last_reason)
      text.append(reason_line(reason));
    last_reason = reason;
    text.append(kRecipientColumn, ' ').append(text_of(*recipient, "address")).append("\n");
  }
  return text.append("\n");
}

std::string MailqListing::end() const {
  if (messages_ == 0)
    return "Mail queue is empty\n";
  return "-- " + std::to_string(octets_ / 1024) + " Kbytes in " + std::to_string(messages_) +
         (messages_ == 1 ? " Request.\n" : " Requests.\n");
}

}  // namespace postrider::cli
