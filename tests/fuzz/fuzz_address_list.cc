// Aliases, .forward files and included lists: never a crash, bounded, and what was read once reads
// the same again.
#include "delivery/local/addresses/address_list.h"
#include "tables/lines.h"

#include <cstdint>
#include <cstdlib>
#include <string>

using namespace postrider;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  delivery::ListRules rules;
  rules.most = 1000;
  rules.mailboxes = size % 2 == 0;
  if (const auto items = delivery::parse_list(text, rules); items && items->size() > rules.most)
    std::abort();
  const auto file = delivery::parse_list_file(text, rules);
  for (const auto& one : file.items) {
    if (one.item.kind != delivery::ListItem::Kind::address || one.item.literal)
      continue;
    // By itself this would be a command or a file; in brackets it is a local part that begins so.
    const bool in_brackets = one.item.text.starts_with('|') || one.item.text.starts_with('/');
    const auto again =
        delivery::parse_list(in_brackets ? "<" + one.item.text + ">" : one.item.text, rules);
    if (!again || again->size() != 1 || again->front().text != one.item.text)
      std::abort();
  }
  tables::LineReader reader(text);
  tables::Line line;
  while (reader.next(line)) {
    tables::KeyValue entry;
    if (tables::split_alias(line.text, entry).empty())
      (void)delivery::check_alias_value(entry.value);
    if (tables::split_entry(line.text, entry).empty())
      (void)delivery::check_virtual_value(entry.value);
  }
  return 0;
}
