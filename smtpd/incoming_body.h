// The octets of one message on their way to where they are to be: memory, or a file of the spool
// once they are many. Only finish() makes a FinishedBody, and only of a body that lacks nothing, so
// nobody can take custody of content that was thrown away (attacks.md G05).
#pragma once

#include "mail/body_reader.h"
#include "mail/header.h"
#include "mail/message.h"
#include "mail/rewrite.h"
#include "smtpd/message_store.h"

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

namespace postrider::smtpd {

class CompleteContent;
class IncomingBody;

class FinishedBody {
 public:
  // Of a message that came another way: in memory, or in the file, if that is open.
  FinishedBody(std::string bytes, queue::BodyFile file, std::uint64_t size)
      : size_(size), bytes_(std::move(bytes)), file_(std::move(file)) {}

  // Says in `content` where the octets are and how many. `file` goes to the queue with it.
  void describe(mail::Content& content);
  // What became of the content by rewriting and by filters, in a message that says what came.
  void describe_changes(mail::Message& message) const;
  queue::BodyFile take_file() { return std::move(file_); }
  // The header section as it was rewritten; empty: as it came.
  const std::optional<std::string>& fresh_header() const { return fresh_header_; }
  // What stands behind the header section, if that is not what came.
  const std::optional<mail::BodyFacts>& fresh_body() const { return fresh_body_; }
  // What the content begins with, if that may be other than what came.
  std::optional<mail::HeaderLine> first_line() const { return first_line_; }
  // Has the fields of Repair::completion.
  bool is_complete() const { return is_complete_; }
  // By Repair::ends_header.
  bool has_clean_header() const { return has_clean_header_; }

 private:
  friend class CompleteContent;
  friend class IncomingBody;
  FinishedBody() = default;

  std::uint64_t size_ = 0;
  std::string bytes_;
  queue::BodyFile file_;
  std::optional<std::string> fresh_header_;
  std::optional<mail::BodyFacts> fresh_body_;
  std::optional<mail::HeaderLine> first_line_;
  bool is_complete_ = false;
  bool has_clean_header_ = false;
};

class IncomingBody {
 public:
  IncomingBody() = default;  // of no message
  // What is done to the header of a first submission; of what passes through, which may be signed,
  // filters are shown where it ends, and that is where it ends for everybody.
  struct Repair {
    bool ends_header = false;                        // mail::end_header_cleanly()
    std::shared_ptr<const mail::Rewriter> rewriter;  // null: addresses stay
    // Whether a header section may stand, as it came. Empty: any may.
    std::function<bool(std::string_view)> judge;
    // The fields that it lacks, to be put on top where filters see them. Empty: none.
    std::function<std::string()> completion;
    bool is_filtered = false;  // complete() and replace_header() will be called
    // The id that it will have, if one is reserved already.
    std::optional<mail::MessageId> id = {};
  };
  // number: which message of the connection.
  IncomingBody(MessageStore& custody, std::uint64_t number, const Repair& repair)
      : custody_(&custody),
        number_(number),
        repair_(repair),
        has_id_(repair.id.has_value()),
        id_(repair.id.value_or(mail::MessageId())) {}

  std::uint64_t number() const { return number_; }
  // The header section has to be here as a whole before anything goes to the file.
  bool awaits_header() const {
    return (repair_.ends_header || repair_.rewriter != nullptr || repair_.is_filtered) &&
           !repaired_;
  }
  // The header section in `bytes` is judged, and rewritten by what memory knows of tables. True:
  // that was not enough. Then header_question() is to be asked where it may wait, and nothing else
  // done before rewritten().
  bool waits_for_tables(std::string& bytes);
  bool waits_for_tables() const { return waits_; }
  std::function<Result<std::string>()> header_question(std::string_view bytes) const;
  void rewritten(std::string& bytes, Result<std::string> fresh);
  // Why the body is lost; nothing: it is not.
  const std::optional<Error>& trouble() const { return lost_; }
  // Adds the fields of Repair::completion to the section that is at the start of `bytes`, all that
  // has come so far. Requires: waits_for_tables(bytes) said no.
  void complete(std::string& bytes);
  // The section becomes `fields`, which may be none. Requires: the same, and nothing was handed in.
  void replace_header(std::string& bytes, const std::string& fields);
  // The id that the message will have.
  mail::MessageId reserve_id();
  // Moves `bytes` to the file. After an error the body is lost: every later call gives the same.
  Result<void> spill(std::string& bytes);
  // bytes: what was not spilled; received: how many the reader has counted in all.
  Result<FinishedBody> finish(std::string bytes, std::uint64_t received);
  bool is_refused() const { return is_refused_; }  // by Repair::judge
  mail::MessageId id() const { return id_; }       // once reserved, spilled or finished

 private:
  Result<void> take(std::string& bytes);
  void repair(std::string& bytes);
  Result<void> append(std::string& bytes);
  Error lose(Error error);

  MessageStore* custody_ = nullptr;
  std::uint64_t number_ = 0;
  Repair repair_;
  bool repaired_ = false;
  bool waits_ = false;
  bool is_refused_ = false;
  bool has_id_ = false;
  bool is_complete_ = false;
  std::uint64_t taken_ = 0;  // octets that have come, as they came (modulo 2^64 in between)
  std::uint64_t size_ = 0;   // what they became
  mail::MessageId id_;
  queue::BodyFile file_;
  std::optional<std::string> fresh_header_;
  std::optional<mail::HeaderLine> first_line_;
  std::optional<Error> lost_;
};

}  // namespace postrider::smtpd
