#include "smtpd/session/session_framer.h"

#include "base/assert.h"
#include "smtpd/session/replies.h"

#include <algorithm>

namespace postrider::smtpd {

namespace {

constexpr std::size_t kSmallLine = 128;

}  // namespace

SessionFramer::Need SessionFramer::open(std::string& replies) {
  return apply(session_.greet(), replies);
}

SessionFramer::Need SessionFramer::take(std::string_view in, std::size_t& used,
                                        std::string& replies) {
  used = 0;
  for (;;) {
    if (replies.size() >= kMostReplies)
      return Need::flush;
    std::optional<Step> step;
    switch (mode_) {
      case Mode::command:
        step = take_line(in, used);
        break;
      case Mode::data:
        step = take_data(in, used);
        break;
      case Mode::chunk:
      case Mode::skip:
        step = take_chunk(in, used);
        break;
      case Mode::storing:
        return Need::store;
      case Mode::looking:
        return Need::look_up;
      case Mode::filtering:
        return Need::filter;
      case Mode::asking:
        return Need::ask;
      case Mode::hands:
        return Need::start_tls;
      case Mode::closed:
        return Need::close;
    }
    if (!step)
      return Need::input;
    if (const auto need = apply(*step, replies); need != Need::input)
      return need;
  }
}

SessionFramer::Need SessionFramer::apply(const Step& step, std::string& replies) {
  replies.append(step.reply);
  switch (step.next) {
    case Next::read_command:
      mode_ = Mode::command;
      if (!session_.transaction().is_begun() || session_.state() == Session::State::failed)
        intake_.reset();
      return Need::input;
    case Next::read_data:
      mode_ = Mode::data;
      begin_content();
      return Need::input;
    case Next::read_chunk:
      mode_ = Mode::chunk;
      chunk_left_ = session_.transaction().chunk().size;
      if (!intake_)
        begin_content();
      return Need::input;
    case Next::skip_chunk:
      mode_ = Mode::skip;
      chunk_left_ = session_.transaction().chunk().size;
      return Need::input;
    case Next::store:
      mode_ = Mode::storing;
      return Need::store;
    case Next::look_up:
      mode_ = Mode::looking;
      return Need::look_up;
    case Next::filter:
      mode_ = Mode::filtering;
      return Need::filter;
    case Next::ask:
      mode_ = Mode::asking;
      return Need::ask;
    case Next::start_tls:
      mode_ = Mode::hands;
      return Need::start_tls;
    case Next::hang_up:
      mode_ = Mode::closed;
      intake_.reset();
      return Need::close;
  }
  return Need::close;
}

void SessionFramer::begin_content() {
  ++messages_begun_;
  const auto& policy = *session_.facts().policy;
  IncomingContent::Rules rules;
  rules.size_limit = policy.settings().message_size;
  rules.header_limit = policy.limits().header_size;
  rules.received_limit = policy.limits().received_fields;
  rules.expected_size = std::max(session_.transaction().declared_size(), chunk_left_);
  rules.binary = session_.transaction().envelope().body == mail::BodyType::binary_mime;
  intake_.emplace(rules);
}

std::optional<Step> SessionFramer::take_line(std::string_view in, std::size_t& used) {
  const auto rest = in.substr(used);
  if (rest.empty())
    return std::nullopt;
  // A TLS ClientHello (attacks.md P08) has no line end to wait for.
  if (rest.front() == '\x16' && partial_.empty() && !overlong_) {
    used = in.size();
    return session_.on_bad_line(replies::kBadLine, true);
  }
  const auto end = rest.find('\n');
  if (end == std::string_view::npos) {
    used = in.size();
    return take_part_of_line(rest);
  }
  used += end + 1;
  ++commands_;
  auto line = rest.substr(0, end);
  if (overlong_)
    return end_overlong_line(line.empty() ? overlong_cr_ : line.ends_with('\r'));
  if (!partial_.empty())
    line = partial_.append(line);
  Step step;
  if (!line.ends_with('\r'))
    // Never the end of a command: another reader of these bytes might not think so (S25).
    step = session_.on_bad_line(replies::kBareLineFeed, true);
  else if (line.size() + 1 > line_limit())
    step = session_.on_bad_line(replies::kLineTooLong, false);
  else
    step = session_.on_line(line.substr(0, line.size() - 1), used < in.size());
  // An idle connection keeps no room for the long line it once sent.
  if (partial_.capacity() > kSmallLine)
    std::string().swap(partial_);
  partial_.clear();
  return step;
}

std::optional<Step> SessionFramer::take_part_of_line(std::string_view rest) {
  const auto& limits = session_.facts().policy->limits();
  if (!overlong_ && partial_.size() + rest.size() < line_limit()) {
    partial_.append(rest);
    return std::nullopt;
  }
  if (!overlong_) {
    overlong_ = true;
    skipped_ = partial_.size();
    std::string().swap(partial_);
  }
  skipped_ += rest.size();
  overlong_cr_ = rest.ends_with('\r');
  if (skipped_ > limits.overlong_command)
    return session_.on_bad_line(replies::kLineTooLong, true);
  return std::nullopt;
}

Step SessionFramer::end_overlong_line(bool clean) {
  overlong_ = overlong_cr_ = false;
  return clean ? session_.on_bad_line(replies::kLineTooLong, false)
               : session_.on_bad_line(replies::kBareLineFeed, true);
}

std::optional<Step> SessionFramer::take_data(std::string_view in, std::size_t& used) {
  used += intake_->feed_data(in.substr(used));
  if (!intake_->at_data_end())
    return std::nullopt;
  return session_.on_content_end(intake_->summary());
}

std::optional<Step> SessionFramer::take_chunk(std::string_view in, std::size_t& used) {
  const auto here = std::min<std::uint64_t>(chunk_left_, in.size() - used);
  if (mode_ == Mode::chunk && here > 0)
    intake_->feed_chunk(in.substr(used, here));
  used += here;
  chunk_left_ -= here;
  if (chunk_left_ > 0)
    return std::nullopt;
  if (mode_ == Mode::skip)
    return Step{};
  if (session_.transaction().chunk().last)
    intake_->end_chunks();
  return session_.on_content_end(intake_->summary());
}

std::uint32_t SessionFramer::line_limit() const {
  return session_.login().line_limit(session_.facts());
}

std::size_t SessionFramer::line_octets() const {
  const auto part = partial_.empty() ? 0 : partial_.capacity();
  return part + session_.login().octets();
}

SessionFramer::Need SessionFramer::stored(Storage result, mail::MessageId id,
                                          std::string& replies) {
  POSTRIDER_ASSERT(mode_ == Mode::storing);
  return apply(session_.on_stored(result, id), replies);
}

SessionFramer::Need SessionFramer::answered(const auth::Answer& answer, std::string& replies) {
  POSTRIDER_ASSERT(mode_ == Mode::asking);
  return apply(session_.on_answer(answer), replies);
}

SessionFramer::Need SessionFramer::filtered(filter::Verdict verdict, std::string& replies) {
  POSTRIDER_ASSERT(mode_ == Mode::filtering);
  return apply(session_.on_filtered(std::move(verdict)), replies);
}

SessionFramer::Need SessionFramer::refused(filter::Verdict verdict, std::string& replies) {
  POSTRIDER_ASSERT(mode_ == Mode::storing);
  return apply(session_.on_refused(std::move(verdict)), replies);
}

SessionFramer::Need SessionFramer::looked_up(std::optional<Policy::Answer> answer,
                                             std::string& replies) {
  POSTRIDER_ASSERT(mode_ == Mode::looking);
  return apply(session_.on_looked_up(std::move(answer)), replies);
}

}  // namespace postrider::smtpd
