// Local content made legal as it passes: CRLF line ends, no NUL, an empty line between header and
// body. Pure. What is missing in the header (Date, Message-ID, From) is added on top of it, so
// nothing that was written is looked at twice.
#pragma once

#include "base/time.h"
#include "mail/body_reader.h"
#include "mail/header.h"
#include "mail/message_id.h"
#include "mail/rewrite.h"

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

namespace postrider::daemon {

class SubmitContent {
 public:
  // Null: addresses in the header stay as they are.
  void set_rewriter(std::shared_ptr<const mail::Rewriter> rewriter) {
    rewriter_ = std::move(rewriter);
  }
  // Of rewriting, after finish(): the message cannot be taken now.
  const std::optional<Error>& trouble() const { return trouble_; }
  void feed(std::string_view raw, std::string& out);
  void finish(std::string& out);
  // After either of them: what memory knows of tables was not enough for the header's addresses.
  // Then header_question() is to be asked where it may wait, and nothing else done before
  // rewritten().
  bool waits_for_tables() const { return waits_; }
  std::function<Result<std::string>()> header_question() const;
  void rewritten(Result<std::string> fresh, std::string& out);
  // After finish().
  const mail::BodyFacts& body() const { return chunks_.facts(); }
  const mail::HeaderFacts& header() const { return header_facts_; }
  const std::string& message_id() const { return message_id_; }  // the header's first; may be empty
  const std::string& trace_parent() const { return trace_parent_; }  // the header's, or empty
  // Octets that were searched for the header's end, each time they were.
  std::size_t work() const { return work_; }

 private:
  static constexpr std::size_t kMostHeader = 1U << 20U;
  void look_for_end(bool at_end, std::string& out);
  void end_header(bool add_empty_line, std::string& out);
  void pass_header(std::string& out);

  mail::LineEndCleaner cleaner_;
  mail::ChunkReader chunks_;
  std::string header_;         // cleaned, until its end was seen
  std::size_t looked_at_ = 0;  // whole lines of it
  std::size_t searched_ = 0;   // no line ends before here
  std::size_t work_ = 0;
  bool in_header_ = true;
  bool adds_empty_line_ = false;
  bool waits_ = false;
  bool is_finished_ = false;
  std::string cleaned_;  // scratch
  mail::HeaderFacts header_facts_;
  std::string message_id_, trace_parent_;
  std::shared_ptr<const mail::Rewriter> rewriter_;
  std::optional<Error> trouble_;
};

struct LocalTrace {
  std::uint64_t uid = 0;
  std::string hostname;
  std::string author;     // address
  std::string full_name;  // may be empty
  mail::MessageId id;
  TimePoint when;
};
// "Received: by host (Postrider, from userid 1000) id ...; date", then the fields that are missing.
std::string local_trace(const LocalTrace& trace, const mail::HeaderFacts& header);

// A name as RFC 5322 and 2047 allow it before an address: as it is, quoted, or as encoded words.
std::string display_name(std::string_view name);

}  // namespace postrider::daemon
