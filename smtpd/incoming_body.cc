#include "smtpd/incoming_body.h"

#include "base/memory_only.h"
#include "base/text.h"
#include "mail/header.h"

#include <algorithm>
#include <utility>

namespace postrider::smtpd {

void FinishedBody::describe(mail::Content& content) {
  content.size = size_;
  if (file_.is_open())
    content.file = file_.name();
  else
    content.bytes = std::make_shared<const std::string>(std::move(bytes_));
}

void FinishedBody::describe_changes(mail::Message& message) const {
  auto& content = message.content;
  if (const auto& fresh = fresh_body_) {
    content.has_8bit = fresh->has_8bit;
    content.longest_line = fresh->longest_line;
    content.ends_with_crlf = fresh->ends_with_crlf;
    if (fresh->has_8bit && message.envelope.body == mail::BodyType::seven_bit)
      message.envelope.body = mail::BodyType::eight_bit_mime;
  }
  if (const auto& header = fresh_header_) {
    content.has_8bit_header = content.has_8bit_header || !is_ascii(*header);
    content.has_8bit = content.has_8bit || content.has_8bit_header;
    for (const auto line : split(*header, '\n'))
      content.longest_line =
          std::max(content.longest_line, static_cast<std::uint32_t>(line.size()));
  }
}

Error IncomingBody::lose(Error error) {
  file_ = queue::BodyFile();
  lost_ = error;
  return error;
}

Result<void> IncomingBody::spill(std::string& bytes) {
  if (auto taken = take(bytes); !taken)
    return taken;
  return append(bytes);
}

Result<FinishedBody> IncomingBody::finish(std::string bytes, std::uint64_t received) {
  if (auto taken = take(bytes); !taken)
    return taken.error();
  if (taken_ != received)
    return lose(Error(Errc::truncated, "keep content: " + std::to_string(taken_) + " of " +
                                           std::to_string(received) + " octets are there"));
  if (file_.is_open()) {
    if (auto appended = append(bytes); !appended)
      return appended.error();
  } else {
    reserve_id();
  }
  FinishedBody body;
  body.first_line_ = first_line_;
  body.is_complete_ = is_complete_;
  body.has_clean_header_ = repair_.ends_header;
  body.size_ = size_;
  body.bytes_ = std::move(bytes);
  body.file_ = std::exchange(file_, queue::BodyFile());
  body.fresh_header_ = std::move(fresh_header_);
  lost_ = Error(Errc::stopped, "keep content: handed on already");
  return body;
}

Result<void> IncomingBody::take(std::string& bytes) {
  if (custody_ == nullptr)
    return Error(Errc::truncated, "keep content: no message");
  if (!lost_ && waits_for_tables(bytes))
    return lose(Error(Errc::storage, "rewrite the header: the tables have not answered"));
  if (lost_)
    return *lost_;
  taken_ += bytes.size();
  size_ += bytes.size();
  return {};
}

mail::MessageId IncomingBody::reserve_id() {
  if (!std::exchange(has_id_, true))
    id_ = custody_->next_id();
  return id_;
}

// What is added must not become part of what begins without a field.
void IncomingBody::complete(std::string& bytes) {
  if (!repair_.completion)
    return;
  const auto first = mail::first_header_line(bytes);
  auto fields = repair_.completion();
  fields += mail::header_joint(first, true);
  bytes.insert(0, fields);
  taken_ -= fields.size();
  is_complete_ = true;
  first_line_ = mail::first_header_line(bytes);
}

void IncomingBody::replace_header(std::string& bytes, const std::string& fields) {
  mail::HeaderScanner scanner(bytes);
  mail::HeaderField field;
  while (scanner.next(field)) {
  }
  const auto old = scanner.consumed();
  if (std::string_view(bytes).substr(0, old) == fields)
    return;
  const auto before = bytes.size();
  bytes.replace(0, old, fields);
  // The first line of the body is not a field now, either.
  if (fields.empty() && old > 0 && !bytes.starts_with("\r\n"))
    bytes.insert(0, "\r\n");
  taken_ += before - bytes.size();
  first_line_ = mail::first_header_line(bytes);
  fresh_header_ = fields;
}

bool IncomingBody::waits_for_tables(std::string& bytes) {
  if (awaits_header() && !lost_)
    repair(bytes);
  return waits_;
}

void IncomingBody::repair(std::string& bytes) {
  repaired_ = true;
  if (repair_.judge)
    is_refused_ =
        !repair_.judge(std::string_view(bytes).substr(0, mail::header_section_size(bytes)));
  if (repair_.ends_header) {
    const auto before = bytes.size();
    mail::end_header_cleanly(bytes);
    taken_ += before - bytes.size();
  }
  if (repair_.rewriter == nullptr)
    return;
  const MemoryOnly memory;
  auto fresh = header_question(bytes)();
  waits_ = memory.was_not_enough();
  if (!waits_)
    rewritten(bytes, std::move(fresh));
}

std::function<Result<std::string>()> IncomingBody::header_question(std::string_view bytes) const {
  const auto section = bytes.substr(0, mail::header_section_size(bytes));
  return [rewriter = repair_.rewriter, section = std::string(section)] {
    return rewriter->header(section);
  };
}

void IncomingBody::rewritten(std::string& bytes, Result<std::string> fresh) {
  waits_ = false;
  if (!fresh) {
    (void)lose(fresh.error());
    return;
  }
  const auto old = mail::header_section_size(bytes);
  taken_ += old - fresh->size();
  bytes.replace(0, old, *fresh);
  fresh_header_ = *std::move(fresh);
}

Result<void> IncomingBody::append(std::string& bytes) {
  if (!file_.is_open()) {
    reserve_id();
    auto created = custody_->create_body(id_);
    if (!created)
      return lose(created.error());
    file_ = *std::move(created);
  }
  if (auto appended = custody_->append(file_, bytes); !appended)
    return lose(appended.error());
  bytes.clear();
  return {};
}

}  // namespace postrider::smtpd
