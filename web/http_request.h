// HTTP/1.1 from the answering side, without the connection (RFC 9112). Pure; the parser is Beast's.
#pragma once

#include "web/web_site.h"

#include "base/result.h"

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

namespace postrider::web {

// Takes one request in pieces of any size. The header section is limited to 16 KiB, the body to
// 64 KiB unless somebody admits more. Errc::too_long, or Errc::malformed; then the connection is of
// no further use.
class RequestReader {
 public:
  // Whether this request, of which the body is still to come, may have one of so many octets.
  using Admit = std::function<bool(const Request& head, std::uint64_t octets)>;
  explicit RequestReader(Admit admit = {});
  ~RequestReader();
  RequestReader(const RequestReader&) = delete;
  RequestReader& operator=(const RequestReader&) = delete;

  // True: a request is complete. What came behind it is kept for the next one.
  Result<bool> feed(std::string_view bytes);
  bool has_begun() const;  // some of a request has come
  // Once for a request that waits to hear that its body may come (RFC 9110 §10.1.1).
  bool wants_continue();
  // Once it is complete; begins the next.
  Request take();
  bool keeps_alive() const;  // of the one that was taken

 private:
  struct Parser;
  Result<void> judge_head();

  const Admit admit_;
  std::unique_ptr<Parser> parser_;
  std::string waiting_;  // came, and not taken by the parser yet
  bool failed_ = false;
  bool keeps_alive_ = false;
  bool is_expected_ = false;
};

// With Content-Length and Connection. for_head: the length of a body that is not sent.
std::string encode(const Response& response, std::size_t length, bool keeps_alive);
const char* reason_of(unsigned status);

}  // namespace postrider::web
