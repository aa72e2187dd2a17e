#include "mailauth/body_hashes.h"

#include "base/assert.h"

#include <algorithm>

namespace postrider::mailauth {

BodyHashes::Id BodyHashes::add(Form form, std::optional<std::uint64_t> length) {
  POSTRIDER_ASSERT(!started_);
  for (Id id = 0; id < wishes_.size(); ++id)
    if (wishes_[id].form == form && wishes_[id].length == length)
      return id;
  wishes_.push_back({form, length, {}});
  auto& stream = streams_[static_cast<std::size_t>(form)];
  if (!stream)
    stream = std::make_unique<Stream>();
  if (length)
    stream->cuts.push_back(wishes_.size() - 1);
  return wishes_.size() - 1;
}

void BodyHashes::start() {
  started_ = true;
  for (const auto form : {Form::simple, Form::relaxed}) {
    auto* stream = streams_[static_cast<std::size_t>(form)].get();
    if (stream == nullptr)
      continue;
    std::sort(stream->cuts.begin(), stream->cuts.end(),
              [this](Id a, Id b) { return *wishes_[a].length > *wishes_[b].length; });
    stream->canonical = std::make_unique<CanonicalBody>(
        form, [this, stream](std::string_view canonical) { take(*stream, canonical); });
    finish_cuts(*stream);
  }
}

// Gives their digests to those whose length is reached.
void BodyHashes::finish_cuts(Stream& stream) {
  while (!stream.cuts.empty() && *wishes_[stream.cuts.back()].length == stream.size) {
    wishes_[stream.cuts.back()].digest = stream.hash.digest();
    stream.cuts.pop_back();
  }
}

void BodyHashes::take(Stream& stream, std::string_view canonical) {
  while (!canonical.empty()) {
    auto some = canonical;
    if (!stream.cuts.empty()) {
      const auto left = *wishes_[stream.cuts.back()].length - stream.size;
      some = canonical.substr(
          0, static_cast<std::size_t>(std::min<std::uint64_t>(left, canonical.size())));
    }
    stream.hash.update(some);
    stream.size += some.size();
    canonical.remove_prefix(some.size());
    finish_cuts(stream);
  }
}

void BodyHashes::feed(std::string_view piece) {
  POSTRIDER_ASSERT(!finished_);
  if (!started_)
    start();
  for (auto& stream : streams_)
    if (stream)
      stream->canonical->feed(piece);
}

void BodyHashes::finish() {
  POSTRIDER_ASSERT(!finished_);
  if (!started_)
    start();
  for (auto& stream : streams_)
    if (stream)
      stream->canonical->finish();
  for (auto& wish : wishes_)
    if (!wish.length)
      wish.digest = streams_[static_cast<std::size_t>(wish.form)]->hash.digest();
  finished_ = true;
}

std::uint64_t BodyHashes::canonical_size(Id id) const {
  POSTRIDER_ASSERT(finished_);
  return streams_[static_cast<std::size_t>(wishes_[id].form)]->size;
}

}  // namespace postrider::mailauth
