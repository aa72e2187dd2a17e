// The content of a message that is there as a whole and not ours yet, in memory or in its file:
// filters read its body again, and change header and body. What they change is a new file, or new
// bytes in memory, until it is finished; nothing is changed in its place.
#pragma once

#include "mail/body_reader.h"
#include "mail/header.h"
#include "smtpd/filter/mail_filter.h"
#include "smtpd/incoming_body.h"

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

namespace postrider::smtpd {

class CompleteContent final : public filter::WholeBody {
 public:
  // Beyond this a new body goes to a file.
  static constexpr std::size_t kMostInMemory = 64U << 10U;

  // id: of the message, and the name of its file. body_at: octets of `finished` in front of its
  // body. custody outlives it.
  CompleteContent(MessageStore& custody, mail::MessageId id, FinishedBody finished,
                  std::uint64_t body_at);

  Result<std::string_view> read(std::uint64_t offset) override;
  Result<void> append(std::string_view piece) override;
  Result<void> adopt() override;
  void drop() override;
  // Of the body as it is now.
  std::uint64_t size() const { return body_size_; }

  // The content as it is to be stored, under this header section. Others have their turn on the
  // loop while a large one is written. Once.
  Task<Result<FinishedBody>> finish(Loop& loop, std::string section);
  // The same without a change of the header, and without one of the body.
  FinishedBody finish_unchanged() { return std::move(finished_); }

 private:
  // In memory or in a file.
  struct Part {
    std::string bytes;
    queue::BodyFile file;
    std::uint64_t size = 0;
  };
  Result<void> keep_fresh();
  Task<Result<void>> write(Loop& loop, FinishedBody& fresh);

  MessageStore& custody_;
  const mail::MessageId id_;
  FinishedBody finished_;
  std::uint64_t body_at_;
  std::uint64_t body_size_;
  std::optional<Part> adopted_;
  // Being made.
  struct Fresh {
    Part part;
    mail::LineEndCleaner cleaner;
    mail::ChunkReader reader;
  };
  std::unique_ptr<Fresh> fresh_;
  std::string piece_;  // scratch
};

}  // namespace postrider::smtpd
