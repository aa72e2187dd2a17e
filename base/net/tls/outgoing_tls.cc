#include "base/net/tls/outgoing_tls.h"

#include <algorithm>
#include <new>
#include <utility>

namespace postrider {

namespace {

std::size_t above_usual(std::size_t octets) {
  return octets - std::min(octets, OutgoingTls::kOfHandshake);
}

}  // namespace

const std::shared_ptr<OutgoingTls>& OutgoingTls::of_process() {
  static const auto books = std::make_shared<OutgoingTls>();
  return books;
}

std::size_t OutgoingTls::held() const {
  const std::lock_guard lock(mutex_);
  return held_;
}

std::size_t OutgoingTls::waiting() const {
  const std::lock_guard lock(mutex_);
  return line_.size();
}

void OutgoingTls::set(Share& share, std::size_t octets) {
  held_ += octets - share.octets_;
  large_ += above_usual(octets) - above_usual(share.octets_);
  share.octets_ = octets;
}

void OutgoingTls::let_in() {
  while (!line_.empty() && has_room(kOfHandshake)) {
    auto& next = *line_.front();
    line_.pop_front();
    set(next, kOfHandshake);
    try {
      std::exchange(next.on_turn_, nullptr)();
    } catch (const std::bad_alloc&) {
      // It waits until its time is over.
    }
  }
}

OutgoingTls::Share::~Share() {
  const std::lock_guard lock(books_->mutex_);
  if (on_turn_)
    books_->line_.erase(place_);
  books_->set(*this, 0);
  books_->let_in();
}

bool OutgoingTls::Share::begin(std::function<void()> on_turn) {
  const std::lock_guard lock(books_->mutex_);
  if (books_->line_.empty() && books_->has_room(kOfHandshake)) {
    books_->set(*this, kOfHandshake);
    return true;
  }
  place_ = books_->line_.insert(books_->line_.end(), this);
  on_turn_ = std::move(on_turn);
  return false;
}

bool OutgoingTls::Share::resize(std::size_t octets) {
  if (octets == octets_)
    return true;
  const std::lock_guard lock(books_->mutex_);
  const auto before = octets_;
  if (octets > before && (!books_->has_room(octets - before) ||
                          !books_->has_room_for_large(above_usual(octets) - above_usual(before))))
    return false;
  books_->set(*this, octets);
  if (octets < before)
    books_->let_in();
  return true;
}

}  // namespace postrider
