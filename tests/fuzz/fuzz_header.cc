// The scanner gives back the section piece by piece; cleaned text has clean line ends; the trace
// field is one field whatever goes into it; rewriting finds what it then replaces, and nothing
// more.
#include "base/assert.h"
#include "mail/header.h"
#include "mail/rewrite.h"
#include "mail/trace_parent.h"

#include <algorithm>
#include <cstdint>

using namespace postrider;
using namespace postrider::mail;

namespace {

void check_scanner(std::string_view content) {
  HeaderScanner scanner(content);
  HeaderField field;
  std::string all;
  while (scanner.next(field)) {
    // A From_ line of a mailbox, quoted or not, is given the name under which it is passed on.
    const auto unquoted =
        field.whole.substr(std::min(field.whole.find_first_not_of('>'), field.whole.size()));
    const bool is_mailbox_line = all.empty() && unquoted.starts_with("From ");
    POSTRIDER_ASSERT(!field.name.empty() &&
                     (field.whole.starts_with(field.name) || is_mailbox_line));
    all.append(field.whole);
  }
  POSTRIDER_ASSERT(all == content.substr(0, scanner.consumed()));
  POSTRIDER_ASSERT(header_facts(content).size == scanner.consumed());
  const auto size = header_section_size(content);
  POSTRIDER_ASSERT(size >= scanner.consumed() && size <= content.size());
}

void check_trace_parent(std::string_view content) {
  const auto found = trace_parent_of(content);
  POSTRIDER_ASSERT(found.empty() ||
                   (is_trace_parent(found) && content.find(found) != content.npos));
}

std::string cleaned(std::string_view text, std::size_t piece) {
  LineEndCleaner cleaner;
  std::string out;
  for (std::size_t at = 0; at < text.size(); at += piece)
    cleaner.feed(text.substr(at, piece), out);
  cleaner.finish(out);
  return out;
}

void check_cleaner(std::string_view text) {
  const auto out = cleaned(text, text.size() + 1);
  POSTRIDER_ASSERT(out == cleaned(text, 1) && out == cleaned(text, 3));
  POSTRIDER_ASSERT(out.empty() || out.ends_with("\r\n"));
  POSTRIDER_ASSERT(out.find('\0') == std::string::npos);
  for (std::size_t i = 0; i < out.size(); ++i) {
    POSTRIDER_ASSERT(out[i] != '\r' || out[i + 1] == '\n');
    POSTRIDER_ASSERT(out[i] != '\n' || (i > 0 && out[i - 1] == '\r'));
  }
  POSTRIDER_ASSERT(cleaned(out, out.size() + 1) == out);
}

void check_trace(std::string_view text) {
  TraceInfo info;
  info.helo = info.client = info.client_name = info.by = info.protocol = info.tls = text;
  info.recipient = text;
  info.id = MessageId{1795440884000000};
  const auto field = received_field(info);
  const auto facts = header_facts(field);
  POSTRIDER_ASSERT(facts.received_fields == 1 && facts.size == field.size());
  POSTRIDER_ASSERT(field.size() < 4096 && field.find('\0') == std::string::npos);
}

// Every address becomes one of the same size, so all else must stand where it stood.
void check_rewriting(std::string_view content) {
  Rewriter::Rules rules;
  const auto find = [](const std::string& key,
                       bool whole) -> Result<std::optional<Rewriter::Entry>> {
    if (!whole || key.size() < 3)
      return std::optional<Rewriter::Entry>();
    return std::optional(Rewriter::Entry{std::string(key.size() - 2, 'x') + "@y", "here"});
  };
  rules.sender = rules.recipient = find;
  const Rewriter rewriter(std::move(rules));
  const auto section = content.substr(0, header_section_size(content));
  const auto fresh = rewriter.header(section);
  if (!fresh)
    return;
  HeaderScanner before(section), after(*fresh);
  HeaderField old_field, new_field;
  while (before.next(old_field)) {
    POSTRIDER_ASSERT(after.next(new_field) && new_field.name == old_field.name);
    for (const auto& [begin, size] : address_places(old_field.value))
      POSTRIDER_ASSERT(begin + size <= old_field.value.size());
  }
  POSTRIDER_ASSERT(!after.next(new_field));
  POSTRIDER_ASSERT(*Rewriter(Rewriter::Rules()).header(section) == section);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  check_scanner(bytes);
  check_cleaner(bytes);
  check_trace(bytes);
  check_rewriting(bytes);
  check_trace_parent(bytes);
  return 0;
}
