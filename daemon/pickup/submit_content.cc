#include "daemon/pickup/submit_content.h"

#include "base/base64.h"
#include "base/memory_only.h"
#include "base/text.h"
#include "mail/trace_parent.h"

#include <algorithm>

namespace postrider::daemon {

namespace {

// Leaves room for "=?UTF-8?B?" and "?=" in the 75 characters of an encoded word (RFC 2047 §2).
constexpr std::size_t kWordOctets = 42;
constexpr std::size_t kMostName = 200;

bool is_plain_word(std::string_view name) {
  for (const char c : name) {
    const bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
    if (!letter && std::string_view(" !#$%&'*+-/=?^_`{|}~").find(c) == std::string_view::npos)
      return false;
  }
  return true;
}

std::string encoded_words(std::string_view name) {
  std::string words;
  while (!name.empty()) {
    auto size = std::min(name.size(), kWordOctets);
    // A character must not be split between two words (RFC 2047 §5).
    while (size > 1 && size < name.size() &&
           (static_cast<unsigned char>(name[size]) & 0xC0U) == 0x80)
      --size;
    words.append(words.empty() ? "" : "\r\n ");
    words.append("=?UTF-8?B?").append(encode_base64(name.substr(0, size))).append("?=");
    name.remove_prefix(size);
  }
  return words;
}

std::string first_value(std::string_view name, std::string_view header) {
  mail::HeaderScanner scanner(header);
  mail::HeaderField field;
  while (scanner.next(field))
    if (equals_ignoring_case(field.name, name))
      return std::string(trim(field.value));
  return {};
}

}  // namespace

std::string display_name(std::string_view name) {
  name = trim(name.substr(0, std::min(name.size(), kMostName)));
  if (!is_ascii(name))
    return encoded_words(is_utf8(name) ? std::string(name) : escaped(name));
  if (is_plain_word(name))
    return std::string(name);
  std::string quoted = "\"";
  for (const char c : name) {
    if (c == '"' || c == '\\')
      quoted.push_back('\\');
    quoted.push_back(c < 32 || c == 127 ? ' ' : c);
  }
  quoted.push_back('"');
  return quoted;
}

void SubmitContent::feed(std::string_view raw, std::string& out) {
  cleaned_.clear();
  cleaner_.feed(raw, cleaned_);
  if (!in_header_) {
    chunks_.feed(cleaned_, out);
    return;
  }
  header_.append(cleaned_);
  look_for_end(false, out);
}

void SubmitContent::look_for_end(bool at_end, std::string& out) {
  for (;;) {
    const auto from = std::max(looked_at_, searched_);
    const auto end = header_.find("\r\n", from);
    work_ += std::min(end, header_.size()) - from;
    if (end == std::string::npos) {
      searched_ = header_.empty() ? 0 : header_.size() - 1;  // the CR may be there
      // A line without an end: only the cleaner's finish() can leave none behind.
      if (at_end || header_.size() > kMostHeader)
        end_header(looked_at_ == header_.size(), out);
      return;
    }
    const auto line = std::string_view(header_).substr(looked_at_, end + 2 - looked_at_);
    const auto kind = mail::judge_header_line(line, looked_at_ == 0);
    if (!mail::is_in_header(kind))
      return end_header(kind != mail::HeaderLine::empty, out);
    looked_at_ = end + 2;
  }
}

void SubmitContent::end_header(bool add_empty_line, std::string& out) {
  in_header_ = false;
  adds_empty_line_ = add_empty_line;
  if (!rewriter_ || !rewriter_->changes_headers())
    return pass_header(out);
  const MemoryOnly memory;
  auto fresh = header_question()();
  waits_ = memory.was_not_enough();
  if (!waits_)
    rewritten(std::move(fresh), out);
}

std::function<Result<std::string>()> SubmitContent::header_question() const {
  return [rewriter = rewriter_, section = header_.substr(0, looked_at_)] {
    return rewriter->header(section);
  };
}

void SubmitContent::rewritten(Result<std::string> fresh, std::string& out) {
  waits_ = false;
  if (fresh) {
    header_.replace(0, looked_at_, *fresh);
    looked_at_ = fresh->size();
  } else {
    trouble_ = fresh.error();
  }
  pass_header(out);
}

void SubmitContent::pass_header(std::string& out) {
  const std::string_view whole = header_;
  header_facts_ = mail::header_facts(whole.substr(0, looked_at_));
  if (header_facts_.has_message_id)
    message_id_ = first_value("Message-ID", whole.substr(0, looked_at_));
  trace_parent_ = mail::trace_parent_of(whole.substr(0, looked_at_));
  chunks_.feed(whole.substr(0, looked_at_), out);
  if (adds_empty_line_)
    chunks_.feed("\r\n", out);
  chunks_.feed(whole.substr(looked_at_), out);
  header_.clear();
  header_.shrink_to_fit();
  if (is_finished_)
    chunks_.finish();
}

void SubmitContent::finish(std::string& out) {
  cleaned_.clear();
  cleaner_.finish(cleaned_);
  if (in_header_) {
    header_.append(cleaned_);
    is_finished_ = true;  // pass_header() is the last
    look_for_end(true, out);
    if (in_header_)
      end_header(true, out);
    return;
  }
  chunks_.feed(cleaned_, out);
  chunks_.finish();
}

std::string local_trace(const LocalTrace& trace, const mail::HeaderFacts& header) {
  const auto id = to_string(trace.id);
  const auto date = mail::format_date(trace.when);
  std::string text = "Received: by " + trace.hostname + " (Postrider, from userid " +
                     std::to_string(trace.uid) + ")\r\n\tid " + id + "; " + date + "\r\n";
  if (!header.has_date)
    text.append("Date: ").append(date).append("\r\n");
  if (!header.has_message_id)
    text.append("Message-ID: ")
        .append(mail::make_message_id(trace.id, trace.hostname))
        .append("\r\n");
  if (!header.has_from && trace.full_name.empty())
    text.append("From: ").append(trace.author).append("\r\n");
  else if (!header.has_from)
    text.append("From: ")
        .append(display_name(trace.full_name))
        .append(" <")
        .append(trace.author)
        .append(">\r\n");
  return text.append(mail::header_joint(header.first_line, true));
}

}  // namespace postrider::daemon
