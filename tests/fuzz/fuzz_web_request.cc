// Any octets in any pieces: a request is taken or refused, and every one that is taken has an
// answer with the fields that keep others out; without a token nothing is asked of the daemon but
// its status.
#include "web/http_request.h"
#include "web/web_site.h"

#include "base/assert.h"

#include <cstdint>
#include <string>
#include <string_view>

using namespace postrider;

namespace {

class Port : public web::ControlPort {
 public:
  Result<daemon::ControlEnd> ask(const daemon::ControlRequest& request,
                                 const OnLine& on_line) override {
    POSTRIDER_ASSERT(request.act == "status");
    boost::json::object line;
    line["status"] = boost::json::object{
        {"running", true}, {"admission", "open"}, {"queue", boost::json::object()}};
    on_line(line);
    return daemon::ControlEnd{};
  }
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 1)
    return 0;
  Port port;
  const SystemClock clock;
  web::WebSite::Settings settings;
  settings.hosts = {"localhost"};
  settings.tokens = [] { return Result<std::vector<web::Token>>(std::vector<web::Token>()); };
  NullLog log;
  web::WebSite site(settings, port, clock, log);
  web::RequestReader reader;
  const std::size_t step = data[0] % 32 + 1;
  std::string_view left(reinterpret_cast<const char*>(data) + 1, size - 1);
  while (!left.empty()) {
    auto complete = reader.feed(left.substr(0, step));
    left.remove_prefix(std::min(step, left.size()));
    while (complete && *complete) {
      const auto request = reader.take();
      const auto response = site.answer(request);
      POSTRIDER_ASSERT(response.status >= 200 && response.status < 600 && !response.fields.empty());
      for (const auto& [name, value] : response.fields)
        POSTRIDER_ASSERT(value.find_first_of("\r\n") == std::string::npos);
      const auto text = web::encode(response, response.body.size(), reader.keeps_alive());
      POSTRIDER_ASSERT(text.find("\r\n\r\n") != std::string::npos);
      complete = reader.feed({});
    }
    if (!complete)
      break;
  }
  return 0;
}
