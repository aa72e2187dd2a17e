#include "mailauth/message_hasher.h"

#include "base/assert.h"

#include <algorithm>

namespace postrider::mailauth {

namespace {

constexpr std::size_t kSlice = std::size_t{16} << 10U;

template <class T>
Asking<T> nothing() {
  co_return T{};
}

}  // namespace

void MessageHasher::feed(std::string_view piece) {
  // In slices, so that little of the body is ever kept with the section.
  while (!piece.empty() && !header_) {
    section_.append(piece.substr(0, kSlice));
    piece.remove_prefix(std::min(piece.size(), kSlice));
    take_lines();
  }
  if (!piece.empty() && !header_->too_large())
    bodies_.feed(piece);
}

// Goes on to the end of the section or of what is there.
void MessageHasher::take_lines() {
  while (!header_) {
    const auto lf = section_.find('\n', looked_at_);
    const bool is_whole = lf != std::string::npos;
    looked_at_ = is_whole ? lf + 1 : section_.size();
    const auto line = std::string_view(section_).substr(line_begin_, looked_at_ - line_begin_);
    if (!is_whole && line.size() <= mail::kMostOfFieldName)
      return;  // not enough to be judged
    const auto kind = mail::judge_header_line(line, line_begin_ == 0);
    if (!mail::is_in_header(kind))
      return end_section(line_begin_, kind == mail::HeaderLine::empty ? looked_at_ : line_begin_);
    if (looked_at_ > kMostHeaderSize)
      return give_up();
    if (!is_whole)
      return;
    line_begin_ = looked_at_;
  }
}

void MessageHasher::end_section(std::size_t size, std::size_t body_begin) {
  const auto body = section_.substr(body_begin);
  section_.resize(size);
  header_.emplace(section_);
  begin_verifying();
  if (!header_->too_large())
    bodies_.feed(body);
}

void MessageHasher::give_up() {
  section_ = std::string();
  header_ = HeaderIndex::beyond_limits();
  begin_verifying();
}

void MessageHasher::begin_verifying() {
  if (wishes_.dkim)
    dkim_.emplace(*header_, bodies_, wishes_.limits);
  if (wishes_.arc)
    arc_.emplace(*header_, bodies_, wishes_.find_oldest_pass);
  if (wishes_.body)
    body_ = bodies_.add(*wishes_.body);
}

void MessageHasher::finish() {
  if (!header_) {
    // A last line without its end is judged as it is.
    const auto rest = std::string_view(section_).substr(line_begin_);
    const bool in_header =
        !rest.empty() && mail::is_in_header(mail::judge_header_line(rest, line_begin_ == 0));
    const auto size = in_header ? section_.size() : line_begin_;
    end_section(size, size);
  }
  bodies_.finish();
}

const std::string& MessageHasher::body_digest() const {
  static const std::string none;
  POSTRIDER_ASSERT(wishes_.body.has_value());
  return header_->too_large() ? none : bodies_.digest(body_);
}

Asking<std::vector<SignatureReport>> MessageHasher::verify_dkim(TimePoint now) const {
  return dkim_ ? dkim_->verify(now) : nothing<std::vector<SignatureReport>>();
}

Asking<ChainReport> MessageHasher::verify_chain(TimePoint now) const {
  return arc_ ? arc_->verify(now) : nothing<ChainReport>();
}

}  // namespace postrider::mailauth
