// The content of one message while it arrives (pure). Holds what has come and was not taken away
// yet; stops holding anything once the message is bound to be refused, but reads on to its end.
#pragma once

#include "mail/body_reader.h"
#include "smtpd/session/header_watch.h"
#include "smtpd/session/session_step.h"

#include <cstdint>
#include <string>
#include <string_view>

namespace postrider::smtpd {

class IncomingContent {
 public:
  // Beyond this a message goes to a spool file, and no more is ever reserved ahead (B13).
  static constexpr std::size_t kMostInMemory = 64U << 10U;

  struct Rules {
    std::uint64_t size_limit = 0;
    std::uint32_t header_limit = 0;
    std::uint32_t received_limit = 0;
    std::uint64_t expected_size = 0;  // as declared; 0: unknown
    bool binary = false;
  };
  explicit IncomingContent(const Rules& rules);

  // The number of octets taken from `in`: all of them, or up to the end of the message.
  std::size_t feed_data(std::string_view in);
  bool at_data_end() const { return data_.at_end(); }
  void feed_chunk(std::string_view in);
  void end_chunks();  // after the last

  // The file that takes what memory does not: full or broken.
  void storage_failed(Storage state);
  bool is_wanted() const { return wanted_; }
  std::string& bytes() { return bytes_; }
  std::size_t capacity() const { return bytes_.capacity(); }
  const mail::BodyFacts& facts() const { return chunked_ ? chunks_.facts() : data_.facts(); }
  const HeaderWatch& header() const { return header_; }
  ContentSummary summary() const;

 private:
  void make_room(std::size_t incoming);
  void inspect(std::size_t before);
  void discard();

  Rules rules_;
  bool chunked_ = false;
  bool wanted_ = true;
  Storage storage_ = Storage::open;
  mail::DataReader data_;
  mail::ChunkReader chunks_;
  HeaderWatch header_;
  std::string bytes_;
};

}  // namespace postrider::smtpd
