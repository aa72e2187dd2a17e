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
#include "mail/header.h"
#include "mailauth/arc.h"
#include "mailauth/dkim_sign.h"
#include "mailauth/dkim_verify.h"
#include "mailauth/key_record.h"
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

void feed(BodyHashes& bodies, std::string_view message) {
  auto body = message.substr(mail::header_section_size(message));
  for (std::size_t piece = 1; !body.empty(); piece = piece % 977 + 41) {
    bodies.feed(body.substr(0, piece));
    body.remove_prefix(std::min(piece, body.size()));
  }
  bodies.finish();
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
    BodyHashes bodies;
    const auto body = bodies.add(options.body_form);
    feed(bodies, message);
    return sign_dkim(HeaderIndex(message), bodies.digest(body), keys, options, now()).value();
  }

  std::string verify(const std::string& message) {
    const HeaderIndex header(message);
    BodyHashes bodies;
    const DkimVerifier verifier(header, bodies);
    feed(bodies, message);
    std::string out;
    for (const auto& report : dns_.run(verifier.verify(now())))
      out += std::string(to_string(report.result)) + " " + report.domain + " " + report.selector +
             " " + report.reason + "\n";
    return out;
  }

  ChainReport verify_chain(const std::string& message) {
    const HeaderIndex header(message);
    BodyHashes bodies;
    const ArcVerifier verifier(header, bodies);
    feed(bodies, message);
    return dns_.run(verifier.verify(now()));
  }

  static std::string text_of(const ChainReport& report) {
    return std::string(to_string(report.result)) + " " + std::to_string(report.sets) + " " +
           report.reason;
  }

  std::string seal(const std::vector<std::string>& words, const std::string& message) {
    const auto chain = verify_chain(message);
    const SigningOptions options;
    BodyHashes bodies;
    const auto body = bodies.add(options.body_form);
    feed(bodies, message);
    return seal_arc(HeaderIndex(message), chain, bodies.digest(body),
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
