// A file of patterns, and the entries of a configuration: whatever is written there, reading and
// asking it ends.
#include "tables/table_source.h"

#include <cstdint>
#include <string>

using namespace postrider;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 2)
    return 0;
  tables::Source source;
  source.path = "t";
  source.text.assign(reinterpret_cast<const char*>(data) + 1, size - 1);
  tables::Spec spec;
  spec.kind = tables::Kind::pcre;
  tables::Options options;
  options.substitutes = (data[0] & 1U) != 0;
  if (const auto table = tables::read_patterns(spec, source, options))
    for (const char* key : {"", "ann@us.test", "list-request@us.test", "aaaaaaaaaaaaaaaaaaaaaaaa!"})
      (void)(*table)->find(key);
  spec.kind = (data[0] & 2U) != 0 ? tables::Kind::text : tables::Kind::aliases;
  if (const auto table = tables::read_lines(spec, source, options))
    (void)(*table)->find("ann");
  spec.kind = tables::Kind::inlined;
  spec.detail = source.text;
  if (const auto table = tables::read_inline(spec, options))
    (void)(*table)->find("ann");
  (void)tables::parse_spec(source.text);
  return 0;
}
