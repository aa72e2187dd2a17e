// How a server writes names, learned from whatever it says and kept in a file: learning comes to an
// end, what is kept gives the same names again, and what is read back is never more than was there.
//
// Lines: a name, then what the server makes of the questions for it, one after the other. The same
// octets as a file of forms.
#include "base/assert.h"
#include "base/text.h"
#include "smtpd/auth/name_form.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

using namespace postrider;
using smtpd::auth::NameForm;

namespace {

constexpr std::size_t kMostOfName = 255, kMostOfPattern = 256, kMostQuestions = 40;
constexpr const char* kToken = "0123456789abcdef";

void same(const NameForm& one, const NameForm& other, const std::string& name) {
  POSTRIDER_ASSERT(one.write(name) == other.write(name));
  POSTRIDER_ASSERT(one.keeps_case() == other.keeps_case());
  POSTRIDER_ASSERT(one.questions(name, kToken) == other.questions(name, kToken));
  POSTRIDER_ASSERT(one.write(name).size() <= kMostOfPattern * (name.size() + kMostOfPattern));
}

NameForm kept(const NameForm& form) {
  NameForm again;
  again.restore(form.save());
  POSTRIDER_ASSERT(again.save() == form.save());
  return again;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string bytes(reinterpret_cast<const char*>(data), size);
  const auto lines = split(bytes, '\n');
  NameForm form;
  std::vector<std::string> names;
  for (std::size_t at = 0; at < lines.size();) {
    const std::string name(lines[at++].substr(0, kMostOfName));
    names.push_back(name);
    const auto questions = form.questions(name, kToken);
    POSTRIDER_ASSERT(questions.size() <= kMostQuestions);
    for (const auto& question : questions)
      form.learn(question, at < lines.size() ? lines[at++] : std::string_view());
    POSTRIDER_ASSERT(form.questions(name, kToken).empty());
  }
  const auto again = kept(form);
  for (const auto& name : names)
    same(form, again, name);
  NameForm read;
  read.restore(bytes);
  POSTRIDER_ASSERT(read.save().size() <= 2 * size + 1024);
  same(read, kept(read), names.front());
  return 0;
}
