#include "smtpd/filter/policy_client.h"

#include <utility>

namespace postrider::smtpd::filter::policy {

PolicyClient::PolicyClient(Loop& loop, const Clock& clock, milter::Gate& gate,
                           milter::Address address, const Patience& patience)
    : loop_(loop), clock_(clock), gate_(gate), address_(std::move(address)), patience_(patience) {}

void PolicyClient::close() {
  stream_.reset();
  if (std::exchange(is_within_, false))
    gate_.leave();
}

void PolicyClient::give_up() {
  has_given_up_ = true;
  if (stream_)
    stream_->close();
}

Task<Result<void>> PolicyClient::open() {
  if (auto entered = gate_.enter(clock_.steady()); !entered)
    co_return entered.error();
  is_within_ = true;
  auto opened = co_await Stream::connect(loop_, address_.endpoint(), patience_.connect);
  if (!has_given_up_)
    gate_.note(opened.has_value(), clock_.steady());
  if (!opened) {
    close();
    co_return opened.error().during("connect to the policy service " + address_.str());
  }
  stream_ = *std::move(opened);
  co_return Result<void>{};
}

Task<Result<Action>> PolicyClient::ask(std::string request) {
  for (bool is_kept = stream_ != nullptr;; is_kept = false) {
    if (has_given_up_)
      co_return Error(Errc::stopped, "ask the policy service");
    if (!stream_)
      if (auto opened = co_await open(); !opened)
        co_return opened.error();
    auto action = co_await exchange(request);
    if (action)
      co_return action;
    close();
    const bool has_timed_out = action.error().code() == asio::error::timed_out;
    if (!is_kept || has_timed_out)
      co_return action.error().during("ask the policy service " + address_.str());
  }
}

Task<Result<Action>> PolicyClient::exchange(const std::string& request) {
  stream_->set_deadline(patience_.answer);
  if (auto sent = co_await stream_->write(request); !sent)
    co_return sent.error();
  AnswerReader reader;
  char room[4096];
  for (;;) {
    auto got = co_await stream_->read_some(room, sizeof room);
    if (!got)
      co_return got.error();
    auto answer = reader.feed(std::string_view(room, *got));
    if (!answer)
      co_return answer.error();
    if (!*answer)
      continue;
    stream_->clear_deadline();
    co_return parse_action(**answer);
  }
}

}  // namespace postrider::smtpd::filter::policy
