// What decides how we log in to a smarthost, out of any bytes: a credentials file, and a token from
// an endpoint or a command. Problems name lines that exist; a token is fit to be sent.
//
// The first octet chooses which.
#include "base/assert.h"
#include "base/text.h"
#include "base/url.h"
#include "delivery/auth/access_token.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>

namespace {

using namespace postrider;
using namespace postrider::delivery;

bool is_clean(std::string_view text) {
  return std::all_of(text.begin(), text.end(),
                     [](char c) { return static_cast<unsigned char>(c) >= ' ' && c != '\x7f'; });
}

void try_file(std::string_view text) {
  const auto loaded = parse_credentials(text);
  const auto lines = split(text, '\n').size();
  for (const auto& problem : loaded.problems) {
    POSTRIDER_ASSERT(problem.line <= lines);
    POSTRIDER_ASSERT(is_clean(problem.describe("/f")));
  }
  const auto& file = loaded.file;
  if (!loaded.problems.empty())
    return;
  POSTRIDER_ASSERT(!file.user.empty());
  const int sources = (file.password.empty() ? 0 : 1) + (file.token_command.empty() ? 0 : 1) +
                      (file.token_endpoint.empty() ? 0 : 1);
  POSTRIDER_ASSERT(sources == 1);
  POSTRIDER_ASSERT(file.is_token() == file.password.empty());
  if (!file.token_command.empty())
    POSTRIDER_ASSERT(file.token_command.front().starts_with('/'));
  if (file.token_endpoint.empty())
    return;
  const auto request = token_request(file, file.refresh_token);
  POSTRIDER_ASSERT(request.is_https && is_clean(request.body));
  const auto wire = encode(request);
  POSTRIDER_ASSERT(wire.find("\r\n\r\n") + 4 + request.body.size() == wire.size());
}

void check(const Result<Token>& token) {
  if (!token) {
    POSTRIDER_ASSERT(is_clean(token.error().describe()));
    return;
  }
  POSTRIDER_ASSERT(!token->text.empty() && token->text.size() <= kMostToken);
  POSTRIDER_ASSERT(is_clean(token->text) && token->text.find(' ') == std::string::npos);
  POSTRIDER_ASSERT(token->lifetime >= Duration(0) && token->lifetime <= std::chrono::hours(720));
  POSTRIDER_ASSERT(token->refresh.size() <= kMostToken);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0)
    return 0;
  const std::string_view text(reinterpret_cast<const char*>(data + 1), size - 1);
  switch (data[0] % 4) {
    case 0:
      try_file(text);
      break;
    case 1: {
      HttpResponse response;
      response.status = text.empty() || text.front() != '!' ? 200 : 400;
      response.body = std::string(text);
      check(judge_token_answer(response));
      break;
    }
    case 2:
      check(parse_token_output(text));
      break;
    default:
      if (const auto url = parse_http_url(text))
        POSTRIDER_ASSERT(!url->host.empty() && url->port != 0 && url->target.starts_with('/'));
  }
  return 0;
}
