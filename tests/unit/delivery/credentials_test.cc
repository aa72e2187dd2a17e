#include "delivery/auth/credentials.h"

#include "tests/unit/base/temporary_folder.h"

#include <catch2/catch.hpp>

#include <fstream>
#include <sys/stat.h>

using namespace postrider;
using namespace postrider::delivery;

namespace {

std::string problems(const LoadedCredentials& loaded) {
  std::string out;
  for (const auto& problem : loaded.problems)
    out += (out.empty() ? "" : "\n") + problem.describe("f");
  return out;
}

constexpr const char* kEndpoint =
    "user = u\n"
    "token_endpoint = https://login.example.org/token\n"
    "client_id = c\n"
    "refresh_token = r\n";

}  // namespace

TEST_CASE("a password stands as it is behind its key", "[delivery][credentials]") {
  const auto loaded = parse_credentials(
      "# a comment\r\n\r\n user =  someone@example.org \r\npassword = a # b = \"c\r\n"
      "mechanisms = scram-sha-256  PLAIN\nallow_clear = yes\n");
  CHECK(problems(loaded) == "");
  CHECK(loaded.file.user == "someone@example.org");
  CHECK(loaded.file.password == "a # b = \"c");
  CHECK(loaded.file.mechanisms == std::vector<std::string>{"SCRAM-SHA-256", "PLAIN"});
  CHECK(loaded.file.allow_clear);
  CHECK_FALSE(loaded.file.is_token());
  CHECK(parse_credentials("user = u\npassword = \" a \"").file.password == " a ");
}

TEST_CASE("a token command is an argument vector", "[delivery][credentials]") {
  const auto loaded =
      parse_credentials("user = u\ntoken_command = /usr/bin/token 'a b' \"c\" d\\ e\n");
  CHECK(problems(loaded) == "");
  CHECK(loaded.file.token_command == std::vector<std::string>{"/usr/bin/token", "a b", "c", "d e"});
  CHECK(loaded.file.is_token());
}

TEST_CASE("a token endpoint has what it needs", "[delivery][credentials]") {
  const auto loaded = parse_credentials(std::string(kEndpoint) +
                                        "client_secret = s\nclient_auth = basic\nscope = a b\n");
  CHECK(problems(loaded) == "");
  CHECK(loaded.file.client_auth_basic);
  CHECK(loaded.file.scope == "a b");
  CHECK(loaded.file != parse_credentials(kEndpoint).file);
}

TEST_CASE("each mistake is told with its line, and no secret", "[delivery][credentials]") {
  struct Case {
    std::string text;
    std::string want;
  };
  const std::vector<Case> cases = {
      {"",
       "f: user: is missing; expected the name to log in with\n"
       "f: has nothing to log in with; expected one of password, token_command and "
       "token_endpoint"},
      {"user = u\nhush\npassword = p", "f:2: is not a setting; expected key = value"},
      {"user = u\nuser = v\npassword = p", "f:2: user: is given twice; expected once"},
      {"user =\npassword = p", "f:1: user: is empty; expected a value"},
      {"user = u\npassword = p\nallow_clear = true",
       "f:3: allow_clear: is not allowed; expected yes or no"},
      {"user = u\npassword = p\ntoken_command = /bin/true",
       "f: has several things to log in with; expected one of password, "},
      {"user = u\npassword = p\nscope = s",
       "f:3: scope: is given without token_endpoint; expected both"},
      {"user = u\npassword = p\nmechanisms = XOAUTH2",
       "f:3: mechanisms: none of them takes a password; expected "},
      {"user = u\ntoken_command = /bin/true\nmechanisms = PLAIN",
       "f:3: mechanisms: none of them takes a token; expected OAUTHBEARER or XOAUTH2"},
      {"user = u\ntoken_command = token\n",
       "f:2: token_command: command token: expected the absolute path of a program"},
      {"user = u\ntoken_command = /bin/a | /bin/b\n",
       "f:2: token_command: command /bin/a | /bin/b: no shell reads it; put the text into a "
       "script"},
      {"user = u\ntoken_command = /bin/a -u me --key s1 -ps2 | /bin/b\n",
       "f:2: token_command: command /bin/a -u *** --key *** -p*** | /bin/b: no shell"},
      {"user = u\ntoken_command = /bin/a --secret=s1 https://me:s2@h/s3 | /bin/b\n",
       "f:2: token_command: command /bin/a --secret=*** https://***@h/*** | /bin/b: no shell"},
      {"user = u\nc2VjcmV0=\n", "f:2: unknown key; expected user, password"},
      {"user = u\ntoken_endpoint = https://a.example/\n",
       "f: client_id: is missing; expected with token_endpoint\n"
       "f: refresh_token: is missing; expected with token_endpoint"},
      {"user = u\ntoken_endpoint = http://a.example/\nclient_id = c\nrefresh_token = r\n",
       "f:2: token_endpoint: is not a URL of that kind; expected https://host:port/path"},
      {std::string(kEndpoint) + "client_auth = basic\n",
       "f:5: client_auth: is given without client_secret; expected both"},
      {std::string("user = u\npassword = a\0b", 23), "f:2: password: holds a NUL"},
  };
  for (const auto& c : cases)
    DYNAMIC_SECTION(c.text) {
      const auto told = problems(parse_credentials(c.text));
      CHECK(told.substr(0, c.want.size()) == c.want);
    }
  const auto unknown = problems(parse_credentials("user = u\npasword = secret\npassword = p\n"));
  CHECK(unknown.substr(0, 38) == "f:2: pasword: unknown key; expected us");
  CHECK(unknown.find("secret") == unknown.rfind("client_secret") + 7);
  CHECK(parse_credentials(std::string(100000, '\n') + "user").problems.size() == 3);
  std::string many;
  for (int i = 0; i < 1000; ++i)
    many += "x\n";
  CHECK(parse_credentials(many).problems.size() == 50);
}

TEST_CASE("only a small regular file that others cannot read is taken", "[delivery][credentials]") {
  const TemporaryFolder folder;
  const auto path = folder.path() + "/relay";
  CHECK(problems(load_credentials(path)) == "f: cannot be opened: No such file or directory");
  CHECK(problems(load_credentials(folder.path())).find("is not a regular file") !=
        std::string::npos);
  std::ofstream(path) << "user = u\npassword = p\n";
  ::chmod(path.c_str(), 0644);
  CHECK(problems(load_credentials(path)).find("may be read by others") != std::string::npos);
  ::chmod(path.c_str(), 0640);
  CHECK(problems(load_credentials(path)) == "");
  std::ofstream(path) << std::string((64U << 10U) + 1, '#');
  CHECK(problems(load_credentials(path)) == "f: is longer than 64 KiB");
}
