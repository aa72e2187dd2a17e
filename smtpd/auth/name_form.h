// How another server writes the names that it is asked for, before it looks them up (pure): Dovecot
// has a realm for names without a domain (auth_default_realm), other characters for some
// (auth_username_translation) and a form (auth_username_format: "%Lu", "%u", "%Ln",
// "%n@a.example"). It says with a refusal whom it looked up, so that is learned from names that
// nobody has.
//
// Letters and digits are taken to stand for themselves, and a form to be the same for all names
// with a domain, and for all without.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace postrider::smtpd::auth {

class NameForm {
 public:
  // Names to ask for, before this one can be written; none: it can. token: hexadecimal, never seen.
  std::vector<std::string> questions(std::string_view name, const std::string& token) const;
  // Whom the server looked up for one of those; empty: it does not say, and then the form is taken
  // to be Dovecot's own, the lower case.
  void learn(std::string_view question, std::string_view made);

  std::string write(std::string_view name) const;
  // Whether two names that differ in case alone may be two to the server.
  bool keeps_case() const;

  std::string save() const;  // as lines
  void restore(std::string_view text);

 private:
  // With letters in place of what stands in the name: see name_form.cc. Empty: unknown.
  std::string plain_, whole_;
  std::map<char, char> characters_;
};

}  // namespace postrider::smtpd::auth
