#include "smtpd/auth/name_form.h"

#include "base/base64.h"
#include "base/text.h"

#include <algorithm>

namespace postrider::smtpd::auth {

namespace {

// In a pattern: what stands before and behind the first "@", as it is and in lower case.
constexpr char kLocal = '\1', kLocalLower = '\2', kDomain = '\3', kDomainLower = '\4';
constexpr std::size_t kMostOfPattern = 256;
constexpr const char* kOwnPlain = "\2";
constexpr const char* kOwnWhole = "\2@\4";

bool is_special(char c) {
  const bool is_letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
  return c > ' ' && c < '\x7f' && c != '@' && !is_letter && (c < '0' || c > '9');
}

// Empty: the name that was asked for is not in it.
std::string pattern_of(std::string_view made, const std::string& local, const std::string& domain) {
  struct Part {
    char mark;
    std::string text;
  };
  const Part parts[] = {{kLocal, local},
                        {kLocalLower, ascii_lower(local)},
                        {kDomain, domain},
                        {kDomainLower, ascii_lower(domain)}};
  std::string pattern;
  bool has_name = false;
  while (!made.empty()) {
    const auto* const part = std::find_if(std::begin(parts), std::end(parts), [&](const Part& one) {
      return !one.text.empty() && made.starts_with(one.text);
    });
    if (part != std::end(parts)) {
      has_name = has_name || part->mark <= kLocalLower;
      pattern.push_back(part->mark);
      made.remove_prefix(part->text.size());
    } else if (made.front() > kDomainLower) {
      pattern.push_back(made.front());
      made.remove_prefix(1);
    } else {
      return {};
    }
  }
  return has_name && pattern.size() <= kMostOfPattern ? pattern : std::string();
}

}  // namespace

std::vector<std::string> NameForm::questions(std::string_view name,
                                             const std::string& token) const {
  std::vector<std::string> questions;
  if (plain_.empty())
    questions.push_back("N" + token);
  if (whole_.empty())
    questions.push_back("N" + token + "@D" + token);
  // These are in every other name.
  std::string special = plain_.empty() ? ".-_+" : "";
  for (const char c : name)
    if (is_special(c) && special.find(c) == special.npos)
      special.push_back(c);
  for (const char c : special)
    if (!characters_.contains(c))
      questions.push_back("N" + token + c + "Y" + token);
  return questions;
}

void NameForm::learn(std::string_view question, std::string_view made) {
  const auto special = std::find_if(question.begin(), question.end(),
                                    [](char c) { return c == '@' || is_special(c); });
  const std::string first(question.begin(), special);
  if (special == question.end()) {
    plain_ = pattern_of(made, first, {});
    if (plain_.empty())
      plain_ = kOwnPlain;
    return;
  }
  const std::string second(special + 1, question.end());
  if (*special == '@') {
    whole_ = pattern_of(made, first, second);
    if (whole_.empty())
      whole_ = kOwnWhole;
    return;
  }
  auto& character = characters_[*special];
  character = *special;
  const auto at = ascii_lower(made).find(ascii_lower(first));
  if (at == std::string::npos)
    return;
  const auto rest = made.substr(at + first.size());
  if (rest.size() > second.size() && equals_ignoring_case(rest.substr(1, second.size()), second))
    character = rest.front();
  else
    character = '@';  // what stands behind it has gone with the domain
}

std::string NameForm::write(std::string_view name) const {
  std::string text(name);
  for (auto& c : text)
    if (const auto known = characters_.find(c); known != characters_.end())
      c = known->second;
  // The realm is added before characters become others.
  if (name.find('@') == name.npos && text.find('@') != text.npos)
    if (const auto realm = plain_.find('@'); realm != plain_.npos)
      text += plain_.substr(realm);
  const auto at = std::min(text.find('@'), text.size());
  const auto& known = at < text.size() ? whole_ : plain_;
  if (known.empty())
    return ascii_lower(text);
  const auto local = text.substr(0, at);
  const auto domain = at < text.size() ? text.substr(at + 1) : std::string();
  std::string written;
  for (const char c : known) {
    if (c == kLocal || c == kLocalLower)
      written += c == kLocal ? local : ascii_lower(local);
    else if (c == kDomain || c == kDomainLower)
      written += c == kDomain ? domain : ascii_lower(domain);
    else
      written.push_back(c);
  }
  return written;
}

bool NameForm::keeps_case() const {
  return (plain_ + whole_).find_first_of(std::string{kLocal, kDomain}) != std::string::npos;
}

std::string NameForm::save() const {
  std::string out;
  for (const auto* pattern : {&plain_, &whole_})
    if (!pattern->empty())
      out += (pattern == &plain_ ? "form plain " : "form whole ") + encode_base64(*pattern) + "\n";
  if (!characters_.empty()) {
    std::string pairs;
    for (const auto& [from, to] : characters_)
      (pairs += from) += to;
    out += "form characters " + encode_base64(pairs) + "\n";
  }
  return out;
}

void NameForm::restore(std::string_view text) {
  for (const auto line : split(text, '\n')) {
    const auto words = split(line, ' ');
    if (words.size() != 3 || words[0] != "form")
      continue;
    const auto value = decode_base64(words[2]);
    if (!value || value->empty() || value->size() > kMostOfPattern)
      continue;
    if (words[1] == "plain")
      plain_ = *value;
    else if (words[1] == "whole")
      whole_ = *value;
    else if (words[1] == "characters")
      for (std::size_t i = 0; i + 1 < value->size(); i += 2)
        if (is_special((*value)[i]))
          characters_[(*value)[i]] = (*value)[i + 1];
  }
}

}  // namespace postrider::smtpd::auth
