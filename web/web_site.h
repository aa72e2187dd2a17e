// What the web server answers to each request: the page, the JSON API, metrics and health. Knows no
// sockets; blocks while the daemon answers. Thread-safe.
//
// Every answer forbids what the page does not need (CSP). A request must name a host that is ours
// (DNS rebinding). Whatever needs a right needs a header field that no other site's page can send
// (CSRF): a token, or the key of a session whose cookie comes with it; either alone does nothing.
#pragma once

#include "web/history.h"
#include "web/logins.h"
#include "web/site_history.h"
#include "web/tokens.h"

#include "base/result.h"
#include "base/time.h"
#include "daemon/protocol/control_protocol.h"
#include "daemon/protocol/submit_protocol.h"

#include <boost/json/object.hpp>

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace postrider::web {

struct Request {
  std::string method;
  std::string target;  // as it came
  std::string host;    // the Host field, or empty
  std::string origin;
  std::string authorization;
  std::string content_type;
  std::string accept;
  std::string cookie;       // the Cookie field
  std::string session_key;  // of Postrider-Session-Key
  std::string idempotency_key;
  std::string trace_parent;  // empty also if there are two
  std::string body;
  std::string client;  // an address, or "local"
};

struct Response {
  unsigned status = 200;
  std::string content_type;
  std::string body;
  std::vector<std::pair<std::string, std::string>> fields;
  SteadyTime not_before{};  // to be sent
};

// The daemon.
class ControlPort {
 public:
  using OnLine = std::function<bool(const boost::json::object&)>;
  virtual ~ControlPort() = default;
  // Blocks; gives each line of the answer to on_line until that returns false.
  virtual Result<daemon::ControlEnd> ask(const daemon::ControlRequest& request,
                                         const OnLine& on_line) = 0;
};

class WebSite {
 public:
  struct Settings {
    std::vector<std::string> hosts;  // names that requests may give, without a port
    bool metrics_need_token = false;
    std::uint64_t request_size = 10U << 20U;  // of one that sends mail
    std::uint64_t message_size = 50U << 20U;
    // Gives a message to the daemon and waits until it has it; an error: it may have it or not.
    // Empty: nothing can be sent.
    std::function<Result<daemon::SubmitAnswer>(const daemon::SubmitHeader& header,
                                               std::string_view content)>
        submit = {};
    std::function<Result<std::vector<Token>>()> tokens;  // as they are now
    Logins::Judge judge = {};                            // empty: nobody logs in with a password
  };
  // The port, the clock and the log outlive it.
  WebSite(Settings settings, ControlPort& port, const Clock& clock, Log& log);

  Response answer(const Request& request);
  // Of a request whose body, of so many octets, has not come yet; nothing: it may.
  std::optional<Response> refusal_of_large(const Request& head, std::uint64_t octets);
  static Response no_room();  // for another large one now
  // Takes a sample for the plots: each History::kPace.
  void sample();

 private:
  using Query = std::vector<std::pair<std::string, std::string>>;
  struct Call;

  std::optional<Response> refusal(const Request& request) const;
  Response too_large(const Request& request) const;
  // Role::none: with the reason, unless there was no token at all.
  Token caller_of(const Request& request, std::string& trouble);
  std::optional<Response> refusal_of_origin(const Request& request) const;
  Response public_page(const Request& request, const std::string& path);
  Response api(const Request& request, const std::string& path, const Query& query);
  Response metrics(const Request& request);
  Response ready();
  Response status(Role role);
  Response history(const Query& query);
  Response site_history(const Query& query);
  // Since when a history is asked for, in seconds since 1970.
  Result<std::int64_t> begin_of(const Query& query) const;
  Response list(Role role, const Query& query);
  Response count(Role role, const Query& query);
  Response show(Role role, const std::string& id, const Query& query);
  Response explain(Role role, const Query& query);
  Response trace(Role role, const Query& query);
  Response change(const std::string& verb, const Request& request);
  Response send(const Request& request, const std::string& token);
  Response session(const Request& request);
  Response enter(const Request& request);
  Response leave(const Request& request);

  // Who may not change is answered as a member of control.readers.
  Result<daemon::ControlEnd> ask(Role role, daemon::ControlRequest request,
                                 const ControlPort::OnLine& on_line);
  // At most a second old: many scrapes ask the daemon once. Figures and plots
  // have that of Role::read: names of next hops without places.
  struct KnownStatus {
    std::shared_ptr<const boost::json::object> status;
    SteadyTime taken{};
  };
  std::shared_ptr<const boost::json::object> current_status(Role role);
  // The same with few sites in trouble, however many there are: for figures.
  std::shared_ptr<const boost::json::object> current_figures();
  std::shared_ptr<const boost::json::object> refreshed(KnownStatus& known, Role role,
                                                       const char* most_sites);

  const Settings settings_;
  ControlPort& port_;
  const Clock& clock_;
  History history_;
  SiteHistory site_history_;
  std::mutex mutex_;  // of the limiter
  GuessLimiter guesses_;
  Logins logins_;
  std::mutex status_mutex_;  // of all three
  KnownStatus status_of_readers_, status_of_changers_, figures_;
  std::atomic<unsigned> traces_{0};  // that are being searched
};

}  // namespace postrider::web
