#include "delivery/auth/access_token.h"

#include <catch2/catch.hpp>

using namespace postrider;
using namespace postrider::delivery;

namespace {

std::string outcome(const Result<Token>& token) {
  return token ? token->text + " " + std::to_string(token->lifetime.count() / 1000) + " " +
                     token->refresh
               : token.error().step();
}

CredentialsFile credentials() {
  return parse_credentials(
             "user = u\ntoken_endpoint = https://login.example.org:8443/token?a=b\n"
             "client_id = c&d\nclient_secret = s=%\nrefresh_token = 1//r+/\nscope = a b\n")
      .file;
}

}  // namespace

TEST_CASE("a refresh token is traded in by the form of RFC 6749", "[delivery][token]") {
  auto file = credentials();
  const auto request = token_request(file, "1//r+/");
  CHECK(request.is_https);
  CHECK(request.host == "login.example.org");
  CHECK(request.port == 8443);
  CHECK(request.method + " " + request.target == "POST /token?a=b");
  CHECK(request.body ==
        "grant_type=refresh_token&refresh_token=1%2F%2Fr%2B%2F&client_id=c%26d"
        "&client_secret=s%3D%25&scope=a%20b");
  file.client_auth_basic = true;
  const auto basic = token_request(file, "r");
  CHECK(basic.body == "grant_type=refresh_token&refresh_token=r&scope=a%20b");
  CHECK(basic.fields.back() ==
        std::pair<std::string, std::string>("Authorization", "Basic YyUyNmQ6cyUzRCUyNQ=="));
}

TEST_CASE("what a token endpoint answers", "[delivery][token]") {
  struct Case {
    std::string name;
    std::string json;
    std::string want;
  };
  const std::vector<Case> cases = {
      {"all of it",
       R"({"access_token":"a.b","token_type":"bearer","expires_in":3600,"refresh_token":"r"})",
       "a.b 3600 r"},
      {"no lifetime", R"({"access_token":"a"})", "a 0 "},
      {"a lifetime in quotes", R"({"access_token":"a","expires_in":"3599"})", "a 3599 "},
      {"a broken number", R"({"access_token":"a","expires_in":3599.9})", "a 3599 "},
      {"a negative lifetime", R"({"access_token":"a","expires_in":-1})", "a 0 "},
      {"a lifetime without end", R"({"access_token":"a","expires_in":18446744073709551615})",
       "a 2592000 "},
      {"an error", R"({"error":"invalid_grant","error_description":"revoked"})",
       "invalid_grant: revoked"},
      {"an error with controls", R"({"error":"a\r\nb\u0000"})", "a\\x0d\\x0ab\\x00"},
      {"another type", R"({"access_token":"a","token_type":"mac"})", "a token of type mac"},
      {"a token with a space", R"({"access_token":"a b"})",
       "the answer has no usable access_token"},
      {"a token with a control", R"({"access_token":"a\u0001"})",
       "the answer has no usable access_token"},
      {"a token that is a number", R"({"access_token":1})",
       "the answer has no usable access_token"},
      {"nothing", "", "the answer is not a JSON object"},
      {"a text", R"("x")", "the answer is not a JSON object"},
      {"deep", std::string(100000, '['), "the answer is not a JSON object"},
      {"a long token", R"({"access_token":")" + std::string(kMostToken + 1, 'a') + R"("})",
       "the answer has no usable access_token"},
  };
  for (const auto& c : cases)
    DYNAMIC_SECTION(c.name) {
      CHECK(outcome(parse_token_answer(c.json)) == c.want);
    }
}

TEST_CASE("only status 200 brings a token", "[delivery][token]") {
  HttpResponse response;
  response.status = 200;
  response.body = R"({"access_token":"a"})";
  CHECK(outcome(judge_token_answer(response)) == "a 0 ");
  response.status = 201;
  CHECK(outcome(judge_token_answer(response)) == "HTTP status 201");
  response.status = 400;
  response.body = R"({"error":"invalid_grant"})";
  CHECK(outcome(judge_token_answer(response)) == "HTTP status 400, invalid_grant");
  response.body = "<html>";
  CHECK(outcome(judge_token_answer(response)) == "HTTP status 400");
}

TEST_CASE("what a token command may print", "[delivery][token]") {
  CHECK(outcome(parse_token_output("abc\n")) == "abc 0 ");
  CHECK(outcome(parse_token_output("  abc\r\n\n")) == "abc 0 ");
  CHECK(outcome(parse_token_output("{\"access_token\":\"a\",\"expires_in\":60}\n")) == "a 60 ");
  CHECK(outcome(parse_token_output("")) == "it prints nothing");
  CHECK(outcome(parse_token_output("\n")) == "it prints nothing");
  CHECK(outcome(parse_token_output("a b")) == "what it prints is not a token on one line");
  CHECK(outcome(parse_token_output("a\nb")) == "what it prints is not a token on one line");
  CHECK(outcome(parse_token_output("\xC3\xA9")) == "what it prints is not a token on one line");
}
