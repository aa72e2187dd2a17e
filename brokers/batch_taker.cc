#include "brokers/batch_taker.h"

#include "events/event_fields.h"
#include "events/event_schema.h"

#include "base/text.h"

#include <algorithm>
#include <unordered_map>
#include <utility>

namespace postrider::brokers {

namespace {

constexpr Duration kFirstPause{100}, kLongestPause{1000};
constexpr std::size_t kMostTaken = 16384;

}  // namespace

Result<std::vector<Message>> messages_of(std::string_view batch) {
  std::vector<Message> messages;
  for (const auto line : split(batch, '\n')) {
    if (line.empty())
      continue;
    auto event = events::decode(line);
    if (!event)
      return event.error();
    messages.push_back({std::move(event->id), std::move(event->subject),
                        events::name_of(event->kind), std::string(line)});
  }
  return messages;
}

std::vector<Wave> waves_of(const std::vector<Message>& messages) {
  std::vector<Wave> waves;
  std::unordered_map<std::string_view, std::size_t> seen;  // of a subject
  for (const auto& message : messages) {
    const auto place = seen[message.subject]++;
    if (place == waves.size())
      waves.emplace_back();
    waves[place].push_back(&message);
  }
  return waves;
}

BatchTaker::BatchTaker(Publisher& publisher, const Clock& clock, Duration limit, Sleep sleep)
    : publisher_(publisher), clock_(clock), limit_(limit), sleep_(std::move(sleep)) {}

Result<void> BatchTaker::take(std::string_view batch) {
  auto messages = messages_of(batch);
  if (!messages)
    return messages.error();
  std::erase_if(*messages, [&](const Message& one) { return taken_.contains(one.id); });
  const auto until = clock_.steady() + limit_;
  for (auto& wave : waves_of(*messages))
    if (auto done = publish(std::move(wave), until); !done)
      return done.error();
  taken_.clear();
  return {};
}

// Again and again while there is time: a broker that restarts is back in seconds.
Result<void> BatchTaker::publish(Wave wave, SteadyTime until) {
  for (auto pause = kFirstPause;; pause = std::min(pause * 2, kLongestPause)) {
    std::vector<bool> taken(wave.size());
    auto done = publisher_.publish(wave, until, taken);
    if (done)
      taken.assign(wave.size(), true);
    if (taken_.size() > kMostTaken)  // a duplicate is the lesser evil
      taken_.clear();
    Wave left;
    for (std::size_t i = 0; i < wave.size(); ++i)
      if (taken[i])
        taken_.insert(wave[i]->id);
      else
        left.push_back(wave[i]);
    if (done || done.error().code() == Errc::refused || clock_.steady() + pause >= until)
      return done;
    wave = std::move(left);
    sleep_(pause);
  }
}

}  // namespace postrider::brokers
