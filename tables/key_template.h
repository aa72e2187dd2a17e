// Texts with what a key is put into, as in Postfix's ldap_table(5) and pgsql_table(5). Pure.
//
//   %s  the whole key          %u  what stands before its last "@", or the whole key
//   %d  what stands behind it  %%  "%"
#pragma once

#include <cstddef>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace postrider::tables {

// Empty: the template may stand; else what is wrong, and what is allowed.
std::string check_key_template(std::string_view text);
// Each part of the key as `escape` gives it. Nothing: the template has no answer for such a key,
// because a part that it names is not there ("%d" without "@", "%u" of "@domain").
std::optional<std::string> expand_key(
    std::string_view text, std::string_view key,
    const std::function<std::string(std::string_view)>& escape = {});

// Whether the part behind the last "@", or the whole key where there is none, is one of them, which
// are in lower case. Any is, where none is given.
bool is_key_of(const std::vector<std::string>& domains, std::string_view key);

// What a server has answered: values, each put into a template, joined by ", " and bounded.
class JoinedValues {
 public:
  explicit JoinedValues(std::string_view format) : format_(format) {}
  // False: there are too many, or they are too long. A value that the template has no answer for is
  // left out.
  bool add(std::string_view value);
  const std::string& text() const { return text_; }

 private:
  const std::string_view format_;
  std::string text_;
  std::size_t count_ = 0;
};

}  // namespace postrider::tables
