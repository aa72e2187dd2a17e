// What mailauth/ makes of questions that come line by line, for comparisons with the programs of
// others (tests/integration). Fields are separated by spaces, texts are in hexadecimal ("-":
// empty):
//
//   record NAME TXT|A|AAAA|MX|PTR VALUE     adds to the zones
//   alias NAME TARGET                       a CNAME
//   failing NAME                            every question for it fails
//   forget                                  empties the zones
//   spf CLIENT HELO MAIL-FROM               -> "fail -all"
//   dmarc AUTHOR [spf:DOMAIN|dkim:DOMAIN]...  -> "fail reject example.org", in plain text
//   srs-forward DOMAIN KEY SECONDS SENDER   -> the new sender in hexadecimal, or "error why"
//   srs-reverse DOMAIN KEY SECONDS ADDRESS
//
// Every line but the first four is answered with one line.
#include "base/digest.h"
#include "base/text.h"
#include "mailauth/dmarc.h"
#include "mailauth/spf.h"
#include "mailauth/srs.h"
#include "tests/support/fake_zones.h"

#include <chrono>
#include <iostream>
#include <optional>
#include <sstream>
#include <string>
#include <vector>

namespace postrider {
namespace {

using namespace mailauth;

std::string text_of(const std::string& hex) {
  std::string text;
  if (hex != "-")
    for (std::size_t i = 0; i + 1 < hex.size(); i += 2)
      text += static_cast<char>(std::stoi(hex.substr(i, 2), nullptr, 16));
  return text;
}

std::optional<Type> type_named(const std::string& name) {
  for (const auto type : {Type::txt, Type::a, Type::aaaa, Type::mx, Type::ptr})
    if (name == to_string(type))
      return type;
  return std::nullopt;
}

class Probe {
 public:
  std::optional<std::string> answer(const std::string& line) {
    std::istringstream in(line);
    std::vector<std::string> words;
    for (std::string word; in >> word;)
      words.push_back(word);
    const auto& verb = words.at(0);
    if (verb == "record") {
      dns_.add_record(text_of(words.at(1)), type_named(words.at(2)).value(), text_of(words.at(3)));
      return std::nullopt;
    }
    if (verb == "alias") {
      dns_.add_alias(text_of(words.at(1)), text_of(words.at(2)));
      return std::nullopt;
    }
    if (verb == "failing") {
      dns_.add_failing(text_of(words.at(1)));
      return std::nullopt;
    }
    if (verb == "forget") {
      dns_ = tests::FakeZones();
      return std::nullopt;
    }
    if (verb == "spf")
      return spf(words.at(1), text_of(words.at(2)), text_of(words.at(3)));
    if (verb == "dmarc")
      return dmarc(words);
    if (verb == "srs-forward" || verb == "srs-reverse")
      return srs(verb == "srs-forward", words);
    return "unknown: " + verb;
  }

 private:
  std::string spf(const std::string& client, const std::string& helo, const std::string& from) {
    const auto address = IpAddress::parse(client).value();
    const auto verdict = dns_.run(check_mail_from(address, helo, from));
    return std::string(to_string(verdict.result)) + " " +
           escaped(verdict.directive + " " + verdict.reason);
  }

  std::string dmarc(const std::vector<std::string>& words) {
    std::vector<Identifier> identifiers;
    for (std::size_t i = 2; i < words.size(); ++i) {
      Identifier one;
      one.method = words[i].starts_with("spf") ? Identifier::Method::spf : Identifier::Method::dkim;
      one.domain = words[i].substr(words[i].find(':') + 1);
      identifiers.push_back(one);
    }
    const auto verdict = dns_.run(check_dmarc({words.at(1)}, identifiers)).front();
    return std::string(to_string(verdict.result)) + " " + std::string(to_string(verdict.applied)) +
           " " + verdict.policy_domain;
  }

  static std::string srs(bool forward, const std::vector<std::string>& words) {
    SrsRules rules;
    rules.domain = text_of(words.at(1));
    rules.keys = {text_of(words.at(2))};
    const TimePoint now(std::chrono::seconds(std::stoll(words.at(3))));
    const auto address = text_of(words.at(4));
    const Srs srs(rules);
    const auto result = forward ? srs.forward(address, now) : srs.reverse(address, now);
    return result ? encode_hex(*result) : "error " + escaped(result.error().describe());
  }

  tests::FakeZones dns_;
};

}  // namespace
}  // namespace postrider

int main() {
  postrider::Probe probe;
  for (std::string line; std::getline(std::cin, line);)
    if (const auto answer = probe.answer(line))
      std::cout << *answer << std::endl;
}
