#include "queue/writer/change_told.h"

#include <unordered_map>

namespace postrider::queue {

namespace {

void add_to(Changed& all, const Changed& piece) {
  all.messages += piece.messages;
  all.recipients += piece.recipients;
  all.under_way_messages += piece.under_way_messages;
  all.under_way_recipients += piece.under_way_recipients;
  for (const auto part : {&Changed::held, &Changed::paused, &Changed::unreleased}) {
    (all.*part).messages += (piece.*part).messages;
    (all.*part).recipients += (piece.*part).recipients;
  }
  for (const auto& pause : piece.pauses)
    all.add_pause(pause);
}

constexpr std::size_t kMostIds = 20;  // in a line of the log

}  // namespace

std::string describe(const Filter& filter) {
  if (filter.matches_all())
    return "--all";
  std::string words;
  const auto add = [&words](const char* name, const std::string& value) {
    words.append(words.empty() ? "" : " ").append(name).append(" ").append(value);
  };
  for (std::size_t i = 0; i < filter.ids.size() && i < kMostIds; ++i)
    add("--id", to_string(filter.ids[i]));
  if (filter.ids.size() > kMostIds)
    add("and", std::to_string(filter.ids.size() - kMostIds) + " more ids");
  const std::pair<const char*, const std::optional<std::string>*> texts[] = {
      {"--from", &filter.from}, {"--to", &filter.to},         {"--domain", &filter.domain},
      {"--site", &filter.site}, {"--status", &filter.status}, {"--reply", &filter.reply}};
  for (const auto& [name, value] : texts)
    if (*value)
      add(name, **value);
  if (filter.older)
    add("--older", std::to_string(filter.older->count() / 1000) + "s");
  if (filter.larger)
    add("--larger", std::to_string(*filter.larger));
  return words;
}

const char* name_of(Verb verb) {
  switch (verb) {
    case Verb::hold:
      return "hold";
    case Verb::release:
      return "release";
    case Verb::retry:
      return "retry";
    case Verb::remove:
      return "remove";
    case Verb::bounce:
      return "bounce";
    case Verb::expire:
      return "expire";
    case Verb::reroute:
      return "reroute";
  }
  return "";
}

ChangeTold::ChangeTold(Verb verb, Filter filter, bool dry_run, Actor actor, std::string next_hop,
                       OnDone on_done, Log& log)
    : verb_(verb),
      filter_(std::move(filter)),
      dry_run_(dry_run),
      actor_(std::move(actor)),
      next_hop_(std::move(next_hop)),
      on_done_(std::move(on_done)),
      log_(log) {}

void ChangeTold::add(const Changed& piece) {
  const std::lock_guard lock(mutex_);
  add_to(changed_, piece);
}

void ChangeTold::ask(Consumer& consumer, std::vector<BulkChange::PickedLease> picked,
                     const Changed& piece) {
  {
    const std::lock_guard lock(mutex_);
    ++open_;
  }
  std::vector<Revocation> wanted;
  std::unordered_map<std::int64_t, std::size_t> recipients;
  for (auto& one : picked) {
    recipients.emplace(one.leased.id.value, one.recipients);
    wanted.push_back(std::move(one.leased));
  }
  auto answer = [self = shared_from_this(), told = piece, recipients = std::move(recipients)](
                    const std::vector<Revocation>& under_way) mutable {
    for (const auto& one : under_way) {
      if (one.recipients.empty())
        continue;
      ++told.under_way_messages;
      told.under_way_recipients += one.recipients.size();
      told.recipients -= one.recipients.size();
      const auto all = recipients.find(one.id.value);
      if (all != recipients.end() && one.recipients.size() >= all->second)
        --told.messages;
    }
    self->answered(told);
  };
  if (dry_run_)
    consumer.ask(std::move(wanted), std::move(answer));
  else
    consumer.revoke(std::move(wanted), std::move(answer));
}

void ChangeTold::answered(Changed piece) {
  const std::lock_guard lock(mutex_);
  add_to(changed_, piece);
  if (--open_ == 0)
    tell();
}

void ChangeTold::finish() {
  answered({});
}

void ChangeTold::fail(const Error& error) {
  const std::lock_guard lock(mutex_);
  if (!on_done_)
    return;
  const auto done = std::exchange(on_done_, nullptr);
  const std::string how_far =
      changed_.messages == 0 ? std::string("nothing was changed")
                             : std::to_string(changed_.messages) + " messages were changed before";
  if (!dry_run_)
    log_.write(LogEvent(Level::error, "queue_change_failed")
                   .add("verb", name_of(verb_))
                   .add("filter", describe(filter_))
                   .add("messages", std::to_string(changed_.messages))
                   .add("uid", std::to_string(actor_.uid))
                   .add("user", actor_.name)
                   .add("reason", error.describe()));
  done(error.during(how_far));
}

void ChangeTold::tell() {
  if (!on_done_)
    return;
  const auto done = std::exchange(on_done_, nullptr);
  if (!dry_run_) {
    LogEvent event(Level::info, "queue_changed");
    event.add("verb", name_of(verb_))
        .add("filter", describe(filter_))
        .add("messages", std::to_string(changed_.messages))
        .add("recipients", std::to_string(changed_.recipients))
        .add("under_way", std::to_string(changed_.under_way_messages))
        .add("uid", std::to_string(actor_.uid))
        .add("user", actor_.name);
    if (!next_hop_.empty())
      event.add("next_hop", next_hop_);
    log_.write(std::move(event));
  }
  done(changed_);
}

}  // namespace postrider::queue
