#include "smtpd/auth/dovecot.h"

#include <boost/asio/local/stream_protocol.hpp>

#include <algorithm>
#include <unistd.h>

namespace postrider::smtpd::auth {

namespace {

// Dovecot answers a wrong password after two seconds, and slower when there are many.
constexpr Duration kConnect{5000};
constexpr Duration kPatience{25000};
constexpr int kMostGreetingLines = 200;
constexpr int kMostOtherLines = 20;  // between a request and its reply

}  // namespace

Task<Result<std::string>> Dovecot::read_line() {
  for (;;) {
    const auto end = have_.find('\n');
    if (std::min(end, have_.size()) > kMostDovecotLine)
      co_return malformed("a line is too long");
    if (end != std::string::npos) {
      auto line = have_.substr(0, end);
      have_.erase(0, end + 1);
      co_return line;
    }
    char room[4096];
    auto got = co_await stream_->read_some(room, sizeof room);
    if (!got)
      co_return got.error().during("read");
    have_.append(room, *got);
  }
}

Task<Result<void>> Dovecot::open() {
  const asio::local::stream_protocol::endpoint endpoint(path_);
  auto opened = co_await Stream::connect(loop_, endpoint, kConnect);
  if (!opened)
    co_return opened.error().during("connect to " + path_);
  if (is_cancelled_)
    co_return Error(Errc::stopped, "ask");
  stream_ = *std::move(opened);
  stream_->set_deadline(kPatience);
  auto hello = std::string(kDovecotVersion) + "CPID\t" + std::to_string(getpid()) + "\n";
  auto sent = co_await stream_->write(hello);
  if (!sent)
    co_return sent.error();
  for (int lines = 0; lines < kMostGreetingLines; ++lines) {
    auto line = co_await read_line();
    if (!line)
      co_return line.error();
    if (line->starts_with("VERSION") && !is_dovecot_version(*line))
      co_return malformed("another version of the protocol");
    if (is_dovecot_done(*line)) {
      stream_->clear_deadline();
      co_return Result<void>{};
    }
  }
  co_return malformed("the greeting does not end");
}

Task<Result<DovecotReply>> Dovecot::begin(DovecotRequest request) {
  is_reading_ = true;
  if (auto opened = co_await open(); !opened) {
    is_reading_ = false;
    moved_.set();
    co_return opened.error();
  }
  auto line = format_dovecot(request);
  co_return co_await ask(std::move(line));
}

Task<Result<DovecotReply>> Dovecot::ask_beside(DovecotRequest request) {
  while (!has_asked_ && is_reading_)
    co_await moved_.wait();
  if (!has_asked_ || is_cancelled_)
    co_return Error(Errc::stopped, "ask");
  beside_id_ = request.id;
  stream_->set_deadline(kPatience);
  auto line = format_dovecot(request);
  if (auto sent = co_await stream_->write(line); !sent)
    co_return sent.error().during("write");
  while (is_reading_ && !beside_)
    co_await moved_.wait();
  stream_->set_deadline(kPatience);
  for (int lines = 0; lines < kMostOtherLines && !beside_; ++lines) {
    auto answer = co_await read_line();
    if (!answer)
      co_return answer.error();
    beside_ = parse_dovecot(*answer, beside_id_);
  }
  if (!beside_)
    co_return malformed("there is no reply");
  co_return *std::move(beside_);
}

Task<Result<DovecotReply>> Dovecot::go_on(std::string response) {
  auto line = format_dovecot_continuation(response);
  co_return co_await ask(std::move(line));
}

void Dovecot::cancel() {
  is_cancelled_ = true;
  if (stream_)
    stream_->close();
}

Task<Result<DovecotReply>> Dovecot::ask(std::string line) {
  is_reading_ = true;
  stream_->set_deadline(kPatience);
  auto sent = co_await stream_->write(line);
  has_asked_ = sent.has_value();
  moved_.set();
  Result<DovecotReply> reply = Error(Errc::stopped, "write");
  if (sent)
    reply = co_await await_reply();
  else
    reply = sent.error().during("write");
  is_reading_ = false;
  moved_.set();
  co_return reply;
}

// What later versions may say besides is passed over.
Task<Result<DovecotReply>> Dovecot::await_reply() {
  for (int lines = 0; lines < kMostOtherLines; ++lines) {
    auto answer = co_await read_line();
    if (!answer)
      co_return answer.error();
    if (auto reply = parse_dovecot(*answer)) {
      stream_->clear_deadline();  // the client has time of its own for what comes next
      co_return *std::move(reply);
    }
    if (beside_id_ != 0 && !beside_ && (beside_ = parse_dovecot(*answer, beside_id_)))
      moved_.set();
    else if (is_dovecot_reply(*answer))
      co_return malformed("a reply that is none to what was asked");
  }
  co_return malformed("there is no reply");
}

}  // namespace postrider::smtpd::auth
