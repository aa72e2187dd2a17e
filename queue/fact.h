// What the queue's transactions have made true, for those who carry it outwards (events/). A fact
// is a line of the mail log that was made before the transaction and is stored in it, in the table
// `fact`. It stays there until the witness has it safe, and comes to the witness again after a
// crash in between, with the same number: so nothing is lost, and nothing is reported that did not
// come to pass. While nobody wants facts, none is made.
#pragma once

#include "base/log.h"
#include "base/result.h"

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace postrider::queue {

struct Fact {
  std::int64_t number = 0;  // grows from fact to fact, never given twice
  std::string bytes;        // encode_fact()
};

// A line without its time. Values that are very long are cut: whoever shows them cuts them more.
std::string encode_line(const LogEvent& line);
// A field more. The last one of a name counts.
void append_field(std::string& line, std::string_view key, std::string_view value);
std::string encode_fact(TimePoint when, std::string_view line);

struct FactLine {
  TimePoint when;
  std::string name, id;
  std::vector<std::pair<std::string, std::string>> fields;

  std::string_view value(std::string_view key) const;  // empty if there is no such field
  template <class Visit>
  void for_each(Visit visit) const {
    for (const auto& [key, text] : fields)
      visit(std::string_view(key), std::string_view(text));
  }
};
// Errc::corrupt: our own database counts as hostile.
Result<FactLine> decode_fact(std::string_view bytes);

class Witness {
 public:
  virtual ~Witness() = default;
  // On the queue thread, in the order of their numbers, before delivery hears of the same
  // transaction: only post and return. Says later by Queue::settle_facts() what it has safe.
  virtual void witness(std::vector<Fact> facts) = 0;
};

}  // namespace postrider::queue
