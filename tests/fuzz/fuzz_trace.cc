// What somebody asks the trace for, and what stands in its file: a question is taken or refused,
// and each step that can be read is one line of JSON that is found under its own addresses.
#include "events/trace_query.h"
#include "events/trace_store.h"

#include "base/assert.h"
#include "base/json.h"
#include "base/text.h"

#include <algorithm>
#include <cstdint>

using namespace postrider;

namespace {

bool has_key(const std::vector<events::TraceKey>& keys, events::TraceKey key) {
  return std::binary_search(keys.begin(), keys.end(), key);
}

void look_at(const queue::FactLine& step, const events::TraceQuery* query) {
  const auto text = events::trace_json(step);
  POSTRIDER_ASSERT(is_utf8(text) && text.find('\n') == std::string::npos);
  POSTRIDER_ASSERT(parse_json_object(text, {.members = 256, .depth = 4, .values = 1024}));
  const auto keys = events::keys_of(step);
  POSTRIDER_ASSERT(std::is_sorted(keys.begin(), keys.end()));
  // The index leads to whatever matches.
  const auto to = step.value("to");
  if (!to.empty()) {
    POSTRIDER_ASSERT(has_key(keys, events::key_of_recipient(to)));
    POSTRIDER_ASSERT(events::is_meant(to, to) || to.front() == '@');
  }
  if (query == nullptr)
    return;
  (void)events::is_shown(*query, step);
  if (!events::is_match(*query, step) || !query->to || query->to->starts_with('@'))
    return;
  POSTRIDER_ASSERT(has_key(keys, events::key_of_recipient(*query->to)) ||
                   has_message_id(*query, step));
}

// As what stands in a row of the file.
void look_at_rows(std::string_view bytes) {
  std::string again;
  for (const auto& step : events::steps_of(bytes))
    events::append_step(step, again);
  POSTRIDER_ASSERT(again.size() <= bytes.size());
  const auto entries = events::decode_block(bytes);
  POSTRIDER_ASSERT(events::encode_block(entries.data(), entries.size()) ==
                   bytes.substr(0, bytes.size() / events::kEntryBytes * events::kEntryBytes));
}

}  // namespace

// A question, an empty line, and a step.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  look_at_rows(bytes);
  const auto end = bytes.find("\n\n");
  const auto parts = split(bytes.substr(0, end), '\n');
  events::TraceWords words;
  words.target = std::string(parts[0]);
  if (parts.size() > 1)
    words.since = std::string(parts[1]);
  if (parts.size() > 2)
    words.to = std::string(parts[2]);
  if (parts.size() > 3)
    words.from = std::string(parts[3]);
  const TimePoint now{std::chrono::seconds(1'796'040'000)};
  const auto query = events::parse_trace_query(words, now);
  if (end == bytes.npos)
    return 0;
  if (const auto step = queue::decode_fact(bytes.substr(end + 2)))
    look_at(*step, query ? &*query : nullptr);
  return 0;
}
