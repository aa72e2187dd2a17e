#include "smtpd/session/incoming_content.h"

#include <algorithm>

namespace postrider::smtpd {

IncomingContent::IncomingContent(const Rules& rules)
    : rules_(rules), chunks_(rules.binary), header_(rules.header_limit) {
  bytes_.reserve(std::min<std::uint64_t>(rules.expected_size, kMostInMemory));
}

std::size_t IncomingContent::feed_data(std::string_view in) {
  make_room(in.size());
  const auto before = bytes_.size();
  const auto used = data_.feed(in, bytes_);
  inspect(before);
  if (data_.at_end())
    header_.finish();
  return used;
}

void IncomingContent::feed_chunk(std::string_view in) {
  chunked_ = true;
  make_room(in.size());
  const auto before = bytes_.size();
  chunks_.feed(in, bytes_);
  inspect(before);
}

void IncomingContent::end_chunks() {
  chunked_ = true;
  const auto before = bytes_.size();
  chunks_.finish();
  inspect(before);
  header_.finish();
}

// At once for all that has arrived, so that the reader's appends never move what is there.
void IncomingContent::make_room(std::size_t incoming) {
  if (!wanted_ || bytes_.capacity() - bytes_.size() >= incoming)
    return;
  bytes_.reserve(std::max(bytes_.capacity() * 2, bytes_.size() + incoming));
}

void IncomingContent::inspect(std::size_t before) {
  if (!wanted_)
    return;
  if (!header_.has_ended() && bytes_.size() > before)
    header_.feed(std::string_view(bytes_).substr(before));
  const bool poisoned = facts().poisoned() && !rules_.binary;
  if (poisoned || facts().size > rules_.size_limit || header_.is_too_large() ||
      header_.received_fields() >= rules_.received_limit)
    discard();
}

void IncomingContent::storage_failed(Storage state) {
  storage_ = state;
  discard();
}

void IncomingContent::discard() {
  wanted_ = false;
  data_.discard();
  chunks_.discard();
  std::string().swap(bytes_);
}

ContentSummary IncomingContent::summary() const {
  ContentSummary summary;
  summary.facts = facts();
  summary.too_large = facts().size > rules_.size_limit;
  summary.header_too_large = header_.is_too_large();
  summary.received_fields = header_.received_fields();
  summary.storage = storage_;
  return summary;
}

}  // namespace postrider::smtpd
