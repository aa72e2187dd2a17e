// The transcripts in tests/dialogs, in memory and over TCP. "C: " lines are sent, with \r, \n, \0,
// \xNN and \\ as escapes and CRLF behind them, unless they end in "\c"; consecutive ones travel
// together. Each "S: " line must start the reply that came back, in order; "S: " lines of one
// multi-line reply may name its first line only. "S: (closed)" is the end. "# " is a comment;
// "! trusted", "! submission", "! size N", "! kept N" set the scene.
#include "support.h"

#include "tests/support/folder.h"

#include <catch2/catch.hpp>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <sstream>

using namespace postrider;
using namespace postrider::tests;

namespace {

struct Dialog {
  PlayOptions options;
  Script script;
  std::vector<std::vector<std::string>> wanted = {{}};  // per step, beginnings of replies
  bool closed = false;
  std::size_t kept = 0;
};

std::string unescaped(const std::string& text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '\\') {
      out.push_back(text[i]);
      continue;
    }
    switch (text.at(++i)) {
      case 'r':
        out.push_back('\r');
        break;
      case 'n':
        out.push_back('\n');
        break;
      case '0':
        out.push_back('\0');
        break;
      case 'x':
        out.push_back(static_cast<char>(std::stoi(text.substr(i + 1, 2), nullptr, 16)));
        i += 2;
        break;
      case 'c':
        return out;
      default:
        out.push_back(text[i]);
    }
  }
  return out + "\r\n";
}

void set_scene(Dialog& dialog, const std::string& line) {
  std::istringstream words(line);
  std::string word;
  words >> word;
  if (word == "trusted")
    dialog.options.settings = trusting_settings();
  else if (word == "submission")
    dialog.options.role = smtpd::Role::submission;
  else if (word == "size")
    words >> dialog.options.settings.message_size;
  else if (word == "kept")
    words >> dialog.kept;
  else
    FAIL("unknown direction: " << line);
}

Dialog parse(const std::filesystem::path& path) {
  Dialog dialog;
  std::ifstream file(path);
  std::string line;
  bool sending = false;
  while (std::getline(file, line)) {
    if (line.starts_with("! ")) {
      set_scene(dialog, line.substr(2));
    } else if (line.starts_with("C: ") || line == "C:") {
      if (!sending) {
        dialog.script.emplace_back();
        dialog.wanted.emplace_back();
      }
      sending = true;
      dialog.script.back() += unescaped(line.size() > 3 ? line.substr(3) : "");
    } else if (line == "S: (closed)") {
      dialog.closed = true;
    } else if (line.starts_with("S: ")) {
      sending = false;
      dialog.wanted.back().push_back(line.substr(3));
    } else if (!line.empty() && !line.starts_with("#")) {
      FAIL(path << ": " << line);
    }
  }
  return dialog;
}

void check(const Dialog& dialog, const Play& result) {
  REQUIRE(result.replies.size() == dialog.wanted.size());
  for (std::size_t step = 0; step < dialog.wanted.size(); ++step) {
    std::string rest = result.replies[step];
    INFO("replies of step " << step << ":\n" << rest);
    for (const auto& wanted : dialog.wanted[step]) {
      // Lines of a multi-line reply that the transcript does not name are passed over.
      while (!rest.starts_with(wanted) && rest.size() > 3 && rest[3] == '-')
        rest.erase(0, rest.find("\r\n") + 2);
      CHECK(rest.substr(0, wanted.size()) == wanted);
      rest.erase(0, rest.find("\r\n") + 2);
    }
    while (rest.size() > 3 && rest.find('\n') != std::string::npos &&
           !dialog.wanted[step].empty() &&
           dialog.wanted[step].back().substr(0, 3) == rest.substr(0, 3) && rest.size() > 3)
      rest.erase(0, rest.find("\r\n") + 2);
    CHECK(rest.empty());
  }
  CHECK(result.closed == dialog.closed);
  CHECK(result.kept.size() == dialog.kept);
}

}  // namespace

TEST_CASE("dialogs", "[smtpd][dialog]") {
  std::vector<std::filesystem::path> files;
  for (const auto& entry : std::filesystem::directory_iterator(test::tests_folder() + "/dialogs"))
    if (entry.path().extension() == ".smtp")
      files.push_back(entry.path());
  std::sort(files.begin(), files.end());
  REQUIRE_FALSE(files.empty());
  for (const auto& file : files)
    DYNAMIC_SECTION(file.stem().string()) {
      const auto dialog = parse(file);
      check(dialog, play(dialog.script, dialog.options));
    }
}
