#include "queue/writer/pause_answers.h"

namespace postrider::queue {

Result<void> PauseAnswers::apply(const Orders& orders, Pausing& pausing, Effects& effects) {
  done_.clear();
  for (const auto& order : orders) {
    PauseDone done;
    if (order.is_resume) {
      auto ended = pausing.resume(order.pause, effects);
      if (!ended)
        return ended.error().during("resume mail");
      done.ended = *ended;
    } else if (auto paused = pausing.pause(order.pause, effects); !paused) {
      if (paused.error().code() != Errc::too_long)
        return paused.error().during("pause mail");
      done_.emplace_back(paused.error());
      continue;
    }
    done_.emplace_back(done);
  }
  return {};
}

void PauseAnswers::committed(Orders& orders, const Pausing& pausing, Consumer* consumer) {
  for (std::size_t i = 0; i < orders.size() && i < done_.size(); ++i) {
    auto& order = orders[i];
    auto in_hand = order.is_resume || !done_[i] || consumer == nullptr
                       ? std::vector<Revocation>()
                       : pausing.in_hand(order.pause);
    if (in_hand.empty())
      order.on_done(std::move(done_[i]));
    else
      ask_back(std::move(in_hand), std::move(order.on_done), *consumer);
  }
  orders.clear();
  done_.clear();
}

void PauseAnswers::ask_back(std::vector<Revocation> in_hand, Queue::OnPaused on_done,
                            Consumer& consumer) {
  consumer.revoke(std::move(in_hand),
                  [on_done = std::move(on_done)](const std::vector<Revocation>& under_way) {
                    PauseDone done;
                    for (const auto& one : under_way) {
                      done.under_way_messages += one.recipients.empty() ? 0 : 1;
                      done.under_way_recipients += one.recipients.size();
                    }
                    on_done(done);
                  });
}

void PauseAnswers::fail(Orders& orders, const Error& error) {
  for (auto& order : orders)
    order.on_done(error);
  orders.clear();
}

}  // namespace postrider::queue
