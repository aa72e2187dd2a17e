#include "smtpd/complete_content.h"

#include <boost/asio/post.hpp>

#include <algorithm>
#include <utility>

namespace postrider::smtpd {

CompleteContent::CompleteContent(MessageStore& custody, mail::MessageId id, FinishedBody finished,
                                 std::uint64_t body_at)
    : custody_(custody),
      id_(id),
      finished_(std::move(finished)),
      body_at_(std::min(body_at, finished_.size_)),
      body_size_(finished_.size_ - body_at_) {}

Result<std::string_view> CompleteContent::read(std::uint64_t offset) {
  if (offset >= body_size_)
    return std::string_view();
  const auto size = static_cast<std::size_t>(std::min<std::uint64_t>(kPiece, body_size_ - offset));
  const auto& bytes = adopted_ ? adopted_->bytes : finished_.bytes_;
  const auto& file = adopted_ ? adopted_->file : finished_.file_;
  const auto from = adopted_ ? offset : body_at_ + offset;
  if (!file.is_open())
    return std::string_view(bytes).substr(static_cast<std::size_t>(from), size);
  piece_.resize(size);
  auto got = file.read(from, piece_.data(), size);
  if (!got)
    return got.error();
  if (*got != size)
    return Error(Errc::truncated, "read body: the file is shorter than it was");
  return std::string_view(piece_);
}

Result<void> CompleteContent::append(std::string_view piece) {
  if (!fresh_)
    fresh_ = std::make_unique<Fresh>();
  std::string clean;
  fresh_->cleaner.feed(piece, clean);
  fresh_->part.size += clean.size();
  fresh_->reader.feed(clean, fresh_->part.bytes);
  return fresh_->part.bytes.size() > kMostInMemory ? keep_fresh() : Result<void>();
}

Result<void> CompleteContent::keep_fresh() {
  auto& part = fresh_->part;
  if (!part.file.is_open()) {
    auto created = custody_.create_body(custody_.next_id());
    if (!created)
      return created.error();
    part.file = *std::move(created);
  }
  if (auto appended = custody_.append(part.file, part.bytes); !appended)
    return appended;
  part.bytes.clear();
  return {};
}

Result<void> CompleteContent::adopt() {
  if (!fresh_)
    fresh_ = std::make_unique<Fresh>();
  auto& part = fresh_->part;
  std::string clean;
  fresh_->cleaner.finish(clean);
  part.size += clean.size();
  fresh_->reader.feed(clean, part.bytes);
  fresh_->reader.finish();
  if (part.file.is_open())
    if (auto kept = keep_fresh(); !kept)
      return kept;
  finished_.fresh_body_ = fresh_->reader.facts();
  body_size_ = part.size;
  adopted_ = std::move(part);
  fresh_.reset();
  return {};
}

void CompleteContent::drop() {
  fresh_.reset();
}

// An empty line stands behind the section even where none did: it ends there for everybody.
Task<Result<FinishedBody>> CompleteContent::finish(Loop& loop, std::string section) {
  FinishedBody fresh;
  fresh.is_complete_ = finished_.is_complete_;
  fresh.has_clean_header_ = finished_.has_clean_header_;
  fresh.fresh_body_ = finished_.fresh_body_;
  fresh.bytes_ = section + "\r\n";
  fresh.first_line_ = mail::first_header_line(fresh.bytes_);
  fresh.fresh_header_ = std::move(section);
  fresh.size_ = fresh.bytes_.size() + body_size_;
  auto written = co_await write(loop, fresh);
  if (!written)
    co_return written.error();
  co_return fresh;
}

Task<Result<void>> CompleteContent::write(Loop& loop, FinishedBody& fresh) {
  constexpr int kPiecesInTurn = 8;
  const bool is_large = finished_.file_.is_open() || (adopted_ && adopted_->file.is_open());
  if (is_large) {
    finished_.file_.give_name_away();
    auto created = custody_.create_body(id_);
    if (!created)
      co_return created.error();
    fresh.file_ = *std::move(created);
  }
  std::uint64_t at = 0;
  for (int pieces = 1;; ++pieces) {
    if (is_large) {
      if (auto appended = custody_.append(fresh.file_, fresh.bytes_); !appended)
        co_return appended.error();
      fresh.bytes_.clear();
    }
    auto piece = read(at);
    if (!piece)
      co_return piece.error();
    if (piece->empty())
      co_return Result<void>();
    at += piece->size();
    fresh.bytes_ += *piece;
    if (pieces % kPiecesInTurn == 0)
      co_await asio::post(loop.executor(), use_task);
  }
}

}  // namespace postrider::smtpd
