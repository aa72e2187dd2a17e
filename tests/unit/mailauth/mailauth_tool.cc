// mailauth/ for scripts: peers.py drives it beside other implementations. Requests on standard
// input,
//
//   COMMAND [ARGUMENT...] SIZE LF, then SIZE octets
//
// are answered by SIZE LF, then SIZE octets. The commands:
//
//   txt NAME            the data is a TXT record at NAME, for all that is verified later
//   new rsa|ed25519 ID  a new key; the answer is its PEM
//   record ID           the key record
//   sign DOMAIN SELECTOR FORM FORM ID[,ID...]    the fields that sign the message, of header and
//   body
//                       form; the n-th key has SELECTOR with n behind it
//   verify              "result domain selector reason" for each signature of the message
//   chain               the same, of its ARC chain: "result sets reason"
//   seal DOMAIN SELECTOR ID   the new ARC set for the message
#include "mailauth/arc.h"
#include "mailauth/dkim_sign.h"
#include "mailauth/key_record.h"
#include "mailauth/message_hasher.h"
#include "tests/support/fake_zones.h"

#include <chrono>
#include <iostream>
#include <map>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

using namespace postrider;
using namespace postrider::mailauth;

namespace {

TimePoint now() {
  return std::chrono::time_point_cast<Duration>(std::chrono::system_clock::now());
}

void feed(MessageHasher& hasher, std::string_view message) {
  for (std::size_t piece = 1; !message.empty(); piece = piece % 977 + 41) {
    hasher.feed(message.substr(0, piece));
    message.remove_prefix(std::min(piece, message.size()));
  }
  hasher.finish();
}

Form form_of(const std::string& word) {
  return word == "simple" ? Form::simple : Form::relaxed;
}

class Tool {
 public:
  std::string answer(const std::vector<std::string>& words, const std::string& data) {
    const auto& command = words.at(0);
    if (command == "txt") {
      dns_.add_text(words.at(1), data);
      return {};
    }
    if (command == "new")
      return new_key(words.at(1) == "rsa" ? KeyType::rsa : KeyType::ed25519, words.at(2));
    if (command == "record")
      return key_record_text(keys_.at(words.at(1)));
    if (command == "sign")
      return sign(words, data);
    if (command == "verify")
      return verify(data);
    if (command == "chain")
      return text_of(verify_chain(data));
    if (command == "seal")
      return seal(words, data);
    throw std::invalid_argument("unknown command " + command);
  }

 private:
  std::string new_key(KeyType type, const std::string& id) {
    keys_.insert_or_assign(id, PrivateKey::generate(type).value());
    return keys_.at(id).pem();
  }

  std::string sign(const std::vector<std::string>& words, const std::string& message) {
    SigningOptions options;
    options.header_form = form_of(words.at(3));
    options.body_form = form_of(words.at(4));
    std::vector<SigningKey> keys;
    std::istringstream ids(words.at(5));
    for (std::string id; std::getline(ids, id, ',');)
      keys.push_back({words.at(1), words.at(2) + std::to_string(keys.size() + 1), keys_.at(id)});
    MessageHasher hasher({.body = options.body_form});
    feed(hasher, message);
    return sign_dkim(hasher.header(), hasher.body_digest(), keys, options, now()).value();
  }

  std::string verify(const std::string& message) {
    MessageHasher hasher({.dkim = true});
    feed(hasher, message);
    std::string out;
    for (const auto& report : dns_.run(hasher.verify_dkim(now())))
      out += std::string(to_string(report.result)) + " " + report.domain + " " + report.selector +
             " " + report.reason + "\n";
    return out;
  }

  ChainReport verify_chain(const std::string& message) {
    MessageHasher hasher({.arc = true});
    feed(hasher, message);
    return dns_.run(hasher.verify_chain(now()));
  }

  static std::string text_of(const ChainReport& report) {
    return std::string(to_string(report.result)) + " " + std::to_string(report.sets) + " " +
           report.reason;
  }

  std::string seal(const std::vector<std::string>& words, const std::string& message) {
    const SigningOptions options;
    MessageHasher hasher({.arc = true, .body = options.body_form});
    feed(hasher, message);
    const auto chain = dns_.run(hasher.verify_chain(now()));
    return seal_arc(hasher.header(), chain, hasher.body_digest(),
                    {words.at(1), words.at(2), keys_.at(words.at(3))}, "mx." + words.at(1),
                    {{"spf", "pass", "", "", {{"smtp", "mailfrom", "joe@example.com"}}},
                     arc_result(chain)},
                    options, now())
        .value();
  }

  tests::FakeZones dns_;
  std::map<std::string, PrivateKey> keys_;
};

}  // namespace

int main() {
  Tool tool;
  for (std::string line; std::getline(std::cin, line);) {
    std::istringstream parts(line);
    std::vector<std::string> words;
    for (std::string word; parts >> word;)
      words.push_back(word);
    std::string data(std::stoul(words.back()), '\0');
    words.pop_back();
    std::cin.read(data.data(), static_cast<std::streamsize>(data.size()));
    std::string answer;
    try {
      answer = tool.answer(words, data);
    } catch (const std::exception& error) {
      answer = std::string("error: ") + error.what() + "\n";
    }
    std::cout << answer.size() << '\n' << answer << std::flush;
  }
}
