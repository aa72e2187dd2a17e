#include "tables/pattern.h"

#include "base/text.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <cctype>

namespace postrider::tables {

namespace {

struct FreeMatch {
  void operator()(pcre2_match_data* data) const { pcre2_match_data_free(data); }
};
struct FreeContext {
  void operator()(pcre2_match_context* context) const { pcre2_match_context_free(context); }
};

std::uint32_t flag_bit(char flag) {
  switch (flag) {
    case 'i':
      return PCRE2_CASELESS;  // toggled: on by default
    case 'm':
      return PCRE2_MULTILINE;
    case 's':
      return PCRE2_DOTALL;
    case 'x':
      return PCRE2_EXTENDED;
    case 'A':
      return PCRE2_ANCHORED;
    case 'U':
      return PCRE2_UNGREEDY;
    default:
      return 0;
  }
}

}  // namespace

std::string Pattern::take(std::string_view& text) {
  if (text.starts_with('!')) {
    is_negated_ = true;
    text = trim(text.substr(1));
  }
  if (text.empty())
    return "/pattern/ is missing";
  const char mark = text.front();
  if (std::isalnum(static_cast<unsigned char>(mark)) != 0 || mark == '\\')
    return "/pattern/ is missing";
  std::size_t end = 1;
  while (end < text.size() && text[end] != mark)
    end += text[end] == '\\' ? 2U : 1U;
  if (end >= text.size())
    return std::string("the closing ") + mark + " of the pattern is missing";
  const auto pattern = text.substr(1, end - 1);
  text.remove_prefix(end + 1);
  std::uint32_t bits = PCRE2_CASELESS | PCRE2_NEVER_BACKSLASH_C;
  for (; !text.empty() && text.front() != ' ' && text.front() != '\t'; text.remove_prefix(1)) {
    const auto bit = flag_bit(text.front());
    if (bit == 0)
      return std::string("\"") + escaped(text.substr(0, 1)) +
             "\" is not a flag; expected i, m, s, x, A or U";
    bits ^= bit;
  }
  text = trim(text);
  int number = 0;
  std::size_t offset = 0;
  code_.reset(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(), bits,
                            &number, &offset, nullptr),
              [](pcre2_code* code) { pcre2_code_free(code); });
  if (code_)
    return {};
  char words[200] = "";
  pcre2_get_error_message(number, reinterpret_cast<PCRE2_UCHAR*>(words), sizeof words);
  return "the pattern is wrong at its octet " + std::to_string(offset) + ": " + words;
}

std::uint32_t Pattern::groups() const {
  std::uint32_t groups = 0;
  pcre2_pattern_info(code_.get(), PCRE2_INFO_CAPTURECOUNT, &groups);
  return groups;
}

std::size_t Pattern::size() const {
  std::size_t size = 0;
  if (code_)
    pcre2_pattern_info(code_.get(), PCRE2_INFO_SIZE, &size);
  return size;
}

Result<bool> Pattern::match(std::string_view subject, const PatternLimits& limits,
                            Groups* groups) const {
  const std::unique_ptr<pcre2_match_data, FreeMatch> data(
      pcre2_match_data_create_from_pattern(code_.get(), nullptr));
  const std::unique_ptr<pcre2_match_context, FreeContext> context(
      pcre2_match_context_create(nullptr));
  if (!data || !context)
    return Error(Errc::storage, "match a pattern");
  pcre2_set_match_limit(context.get(), limits.steps);
  pcre2_set_depth_limit(context.get(), limits.depth);
  pcre2_set_heap_limit(context.get(), limits.heap);
  const int result = pcre2_match(code_.get(), reinterpret_cast<PCRE2_SPTR>(subject.data()),
                                 subject.size(), 0, 0, data.get(), context.get());
  if (result < 0 && result != PCRE2_ERROR_NOMATCH)
    return Error(Errc::too_long, "the pattern needs more steps than are allowed");
  if (groups != nullptr && result >= 0) {
    const auto* ends = pcre2_get_ovector_pointer(data.get());
    groups->clear();
    for (std::uint32_t i = 0; i < pcre2_get_ovector_count(data.get()); ++i)
      groups->emplace_back(ends[2 * i], ends[2 * i + 1]);
  }
  return (result >= 0) != is_negated_;
}

}  // namespace postrider::tables
