#include "delivery/local/agents/local_content.h"

#include "delivery/job/message_body.h"

#include <array>
#include <ctime>
#include <unistd.h>

namespace postrider::delivery {

namespace {

constexpr std::size_t kBlock = 128U << 10U;

}  // namespace

std::string one_line(std::string_view text) {
  std::string out(text);
  for (char& c : out)
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f)
      c = '?';
  return out;
}

void LineEndReducer::feed(std::string_view in, std::string& out) {
  while (!in.empty()) {
    if (held_ && in.front() != '\n')
      out.push_back('\r');
    held_ = false;
    const auto cr = in.find('\r');
    out.append(in.substr(0, cr));
    held_ = cr != in.npos;
    in.remove_prefix(held_ ? cr + 1 : in.size());
  }
}

Result<void> LocalContent::next(std::string& out) {
  out.clear();
  if (at_ == At::top) {
    out = "Return-Path: <" + one_line(job_.envelope.sender) +
          ">\nDelivered-To: " + one_line(job_.envelope.delivered_to) + "\n";
    reducer_.feed(job_.trace, out);
    at_ = At::bytes;
    return {};
  }
  while (at_ == At::bytes && out.empty()) {
    std::string_view piece;
    if (body_.bytes) {
      piece = std::string_view(*body_.bytes).substr(done_, kBlock);
    } else {
      block_.resize(kBlock);
      const auto got = read_block(body_.file, block_);
      if (!got)
        return got.error();
      piece = std::string_view(block_.data(), *got);
    }
    done_ += piece.size();
    if (done_ > job_.size || (piece.empty() && done_ < job_.size))
      return Error(Errc::corrupt, "read body (its size is another)");
    if (piece.empty())
      at_ = At::end;
    reducer_.feed(piece, out);
  }
  return {};
}

std::string from_line(std::string_view sender, TimePoint when) {
  std::string who = sender.empty() ? "MAILER-DAEMON" : one_line(sender);
  for (char& c : who)
    if (c == ' ')
      c = '_';
  const auto seconds = static_cast<std::time_t>(when.time_since_epoch().count() / 1000);
  std::tm broken{};
  gmtime_r(&seconds, &broken);
  constexpr const char* kDays[] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
  constexpr const char* kMonths[] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                     "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
  std::array<char, 64> text{};
  std::snprintf(text.data(), text.size(), " %s %s %2d %02d:%02d:%02d %d\n", kDays[broken.tm_wday],
                kMonths[broken.tm_mon], broken.tm_mday, broken.tm_hour, broken.tm_min,
                broken.tm_sec, broken.tm_year + 1900);
  return "From " + who + text.data();
}

}  // namespace postrider::delivery
