#include "daemon/config/config_checks.h"

#include "events/broker_url.h"
#include "events/mqtt_topic.h"

#include "base/network.h"
#include "base/quoted.h"
#include "base/text.h"
#include "base/url.h"
#include "daemon/config/listened.h"
#include "daemon/config/values.h"
#include "delivery/routing/route.h"

#include <algorithm>
#include <sys/un.h>

namespace postrider::daemon {

namespace {

class Checker {
 public:
  Checker(const Config& config, const Origins& origins, std::vector<Problem>& problems)
      : config_(config), origins_(origins), problems_(problems) {}

  void listeners() {
    for (std::size_t i = 0; i < config_.listeners.size(); ++i) {
      same_address(i);
      proxies(i);
      listener_tls(i);
    }
  }

  // Spam of others goes out in our name within hours of such a configuration.
  void open_relay() {
    if (config_.accept.open_relay || !is_reached_from_outside(config_))
      return;
    for (const auto& text : config_.accept.relay_from)
      if (is_everybody(text))
        return report("accept.relay_from",
                      quote_value(text) +
                          " makes an open relay: everybody who reaches a listener may send to "
                          "anyone; expected your own networks, or accept.open_relay = true");
  }

  void tls() {
    const auto& certificate = config_.tls.certificate;
    const auto& key = config_.tls.key;
    if (!certificate.empty() && key.empty())
      report("tls.certificate", "is given without tls.key; expected both or none");
    if (certificate.empty() && !key.empty())
      report("tls.key", "is given without tls.certificate; expected both or none");
    if (!certificate.empty() && !key.empty() && certificate.size() != key.size())
      report("tls.key", "names " + std::to_string(key.size()) + " and tls.certificate " +
                            std::to_string(certificate.size()) +
                            "; expected one key for each certificate");
  }

  void auth() {
    const auto& auth = config_.auth;
    const int sources = !auth.users.empty() + !auth.dovecot.empty() + !auth.pam.empty();
    if (sources > 1)
      report(
          !auth.pam.empty() ? "auth.pam" : "auth.dovecot",
          "is a second source of passwords; expected one of auth.users, auth.dovecot and auth.pam");
    for (const auto& name : auth.mechanisms)
      if (const auto needs = lacks(name); !needs.empty())
        report("auth.mechanisms",
               "\"" + name + "\" lacks its source; expected " + needs + " to be given");
    if (!auth.oauth_client.empty() && auth.oauth_introspect.empty())
      report("auth.oauth_client", "is given without auth.oauth_introspect; expected both");
    // RFC 8725 §3.8 and 3.9: or a token that the same keys have signed for any other service
    // counts.
    if (!auth.oauth_keys.empty() && auth.oauth_issuer.empty() && auth.oauth_audience.empty())
      report("auth.oauth_keys",
             "takes every token of these keys; expected auth.oauth_issuer or auth.oauth_audience, "
             "better both, beside it");
  }

  void web() {
    const auto& web = config_.web;
    const bool names_any = !web.pam_read.empty() || !web.pam_change.empty();
    if (!web.pam.empty() && !names_any)
      report("web.pam",
             "lets nobody log in; expected users or @groups in web.pam_read or "
             "web.pam_change");
    if (web.pam.empty() && names_any)
      report(web.pam_read.empty() ? "web.pam_change" : "web.pam_read",
             "is given without web.pam; expected the PAM service that judges their passwords");
  }

  void domains() {
    for (const auto& domain : config_.accept.relay_to) {
      const bool is_local = std::any_of(
          config_.local.domains.begin(), config_.local.domains.end(),
          [&](const std::string& local) { return equals_ignoring_case(local, domain); });
      if (is_local)
        report("accept.relay_to",
               quote_value(domain) + " is also in local.domains; expected in one of them");
      else if (config_.local.srs && equals_ignoring_case(config_.local.srs_domain, domain))
        report("accept.relay_to",
               quote_value(domain) + " is also local.srs_domain; expected one of them");
    }
  }

  void routes() {
    for (std::size_t i = 0; i < config_.routes.size(); ++i) {
      for (std::size_t earlier = 0; earlier < i; ++earlier)
        if (covers(config_.routes[earlier].domain, config_.routes[i].domain) &&
            covers_senders(config_.routes[earlier].from, config_.routes[i].from)) {
          report(routed(i, "domain"), quote_value(config_.routes[i].domain) +
                                          " is never reached; expected before the route " +
                                          where(routed(earlier, "domain")) +
                                          ", which matches first");
          break;
        }
      verified_names(i);
      login(i);
      sources(i);
    }
  }

  void sources(std::size_t i) {
    for (const auto width : {32U, 128U}) {
      const auto& all = config_.routes[i].source;
      const auto of_family = std::count_if(all.begin(), all.end(), [&](const auto& text) {
        const auto address = IpAddress::parse(text);
        return address && address->width() == width;
      });
      if (of_family > 1)
        report(routed(i, "source"), "names " + std::to_string(of_family) +
                                        " addresses of one family; expected one of each");
    }
  }

  void delivery() {
    const auto& delivery = config_.delivery;
    if (!delivery.retry.empty() && delivery.lifetime < delivery.retry.front())
      report(origins_.contains("delivery.lifetime") ? "delivery.lifetime" : "delivery.retry",
             "the lifetime " + format_duration(delivery.lifetime) +
                 " ends before the first retry; expected at least " +
                 format_duration(delivery.retry.front()));
  }

  // RFC 6376 §5.4: a signature that does not cover From is worth nothing.
  void dkim() {
    const auto& [folder, keys, sign, forms, covered, oversigned, valid_for] = config_.dkim;
    const auto names_from = [](const std::vector<std::string>& names) {
      return names.empty() || std::any_of(names.begin(), names.end(), [](const auto& name) {
               return equals_ignoring_case(name, "From");
             });
    };
    if (!oversigned.empty() && !names_from(oversigned) && (covered.empty() || !names_from(covered)))
      report("dkim.oversigned_fields",
             "leaves out From; expected it here or in dkim.signed_fields");
  }

  void dmarc_report() {
    const auto& wanted = config_.dmarc_report;
    if (wanted.enabled && !wanted.contact.empty() && config_.authentication.dmarc == 0)
      report("dmarc_report.contact",
             "has nothing to report on; expected authentication.dmarc other than \"off\"");
  }

  void header_checks() {
    for (std::size_t i = 0; i < config_.header_checks.size(); ++i) {
      const auto& check = config_.header_checks[i];
      const bool changes = check.action.starts_with("strip") || check.action.starts_with("prepend");
      if (changes && check.in != 0)
        report("header_check[" + std::to_string(i) + "].action",
               quote_value(check.action) +
                   " would change the header of a part; expected in = \"header\" with it");
    }
  }

  void sealing() {
    if (config_.local.arc && !config_.dkim.is_used())
      report("local.arc", "has no key to seal with; expected dkim.folder or dkim.keys beside it");
  }

  void milters() {
    for (std::size_t i = 0; i < config_.milters.size(); ++i)
      for (const auto& wanted : config_.milters[i].listeners) {
        const auto& all = config_.listeners;
        if (std::none_of(all.begin(), all.end(),
                         [&](const auto& listener) { return listener.address == wanted; }))
          report("milter[" + std::to_string(i) + "].listeners",
                 quote_value(wanted) + " is not a listener.address; expected one of those");
      }
  }

  void events() {
    for (std::size_t i = 0; i < config_.events.size(); ++i) {
      const auto& sink = config_.events[i];
      const auto key = [&](const char* name) {
        return "events[" + std::to_string(i) + "]." + name;
      };
      const bool has_socket = !sink.socket.empty() && sink.broker.empty();
      const int places =
          !sink.file.empty() + has_socket + !sink.webhook.empty() + !sink.broker.empty();
      if (places != 1)
        report(key("name"),
               std::string(places == 0 ? "has no place to go" : "has several places to go") +
                   "; expected one of file, socket, webhook and broker");
      broker(sink, key);
      if (sink.webhook.empty() && !sink.secret.empty())
        report(key("secret"), "is given without webhook; expected both");
      if (const auto url = parse_http_url(sink.webhook); !sink.webhook.empty()) {
        if (!url)
          report(key("webhook"), "is not a URL; expected https://host:port/path");
        else if (!url->is_https && !is_loopback_host(url->host))
          report(key("webhook"), "is http:// to another machine; expected https://");
      }
      for (std::size_t earlier = 0; earlier < i; ++earlier)
        if (equals_ignoring_case(config_.events[earlier].name, sink.name))
          report(key("name"), quote_value(sink.name) +
                                  " is the name of another sink too; expected a name of its own");
    }
  }

  void requests() {
    for (std::size_t i = 0; i < config_.requests.size(); ++i) {
      const auto& asked = config_.requests[i];
      const auto key = [&](const char* name) {
        return "requests[" + std::to_string(i) + "]." + name;
      };
      const auto url = events::parse_broker_url(asked.broker);
      access(url, asked.password, key);
      if (url && url->protocol == "mqtt")
        mqtt_source(asked, key);
      else if (!asked.refused.empty() && asked.refused == asked.source)
        report(key("refused"), kRefusedIsSource);
      const bool is_kafka = url && url->protocol == "kafka";
      if (is_kafka && !is_kafka_topic(asked.source))
        report(key("source"), kNoKafkaTopic);
      if (is_kafka && !is_kafka_topic(asked.refused))
        report(key("refused"), kNoKafkaTopic);
      for (std::size_t earlier = 0; earlier < i; ++earlier)
        if (!asked.name.empty() && equals_ignoring_case(config_.requests[earlier].name, asked.name))
          report(key("name"), quote_value(asked.name) +
                                  " is the name of another source too; expected a name of its own");
    }
  }

  void control() {
    if (config_.control.submit == config_.control.socket)
      report(origins_.contains("control.submit") ? "control.submit" : "control.socket",
             "names the socket of both administration and sendmail; expected two paths");
    for (const auto& [key, path] : {std::pair{"control.socket", &config_.control.socket},
                                    std::pair{"control.submit", &config_.control.submit}})
      if (path->size() >= sizeof sockaddr_un::sun_path)
        report(key,
               quote_value(*path, 200) + " has " + std::to_string(path->size()) +
                   " octets; expected at most 107, which is all that a socket's path may have");
  }

 private:
  template <class Key>
  void broker(const EventsConfig& sink, const Key& key) {
    const auto url = events::parse_broker_url(sink.broker);
    if (sink.broker.empty()) {
      using Given = std::pair<const char*, const std::string*>;
      for (const auto& [name, value] :
           {Given("password", &sink.password), Given("exchange", &sink.exchange),
            Given("topic", &sink.topic)})
        if (!value->empty())
          report(key(name), "is given without broker; expected both");
      return;
    }
    if (sink.topic.empty())
      report(key("topic"), "is missing; expected with broker");
    if (url && url->protocol != "amqp" && !sink.exchange.empty())
      report(key("exchange"),
             "is given for another protocol; expected with AMQP 0.9.1 alone, which has exchanges");
    if (url && url->protocol == "kafka" && !is_kafka_topic(sink.topic))
      report(key("topic"), kNoKafkaTopic);
    if (url && url->protocol == "mqtt" && !events::is_mqtt_topic(sink.topic))
      report(key("topic"), kNoMqttTopic);
    access(url, sink.password, key);
  }

  template <class Key>
  void mqtt_source(const RequestsConfig& asked, const Key& key) {
    const bool is_filter = events::is_mqtt_filter(asked.source);
    if (!is_filter)
      report(key("source"),
             "is not a topic filter of MQTT; expected such as mail/requests, or mail/+ or mail/# "
             "with a whole level for a wildcard");
    if (!asked.refused.empty() && !events::is_mqtt_topic(asked.refused))
      report(key("refused"), kNoMqttTopic);
    else if (is_filter && events::mqtt_filter_takes(asked.source, asked.refused))
      report(key("refused"), kRefusedIsSource);
    if (asked.connections != 1 && origins_.contains(key("connections")))
      report(key("connections"),
             "is more than one, each of which would take every message of a topic of MQTT; "
             "expected 1");
  }

  // To a broker: its URL and the file of a password.
  template <class Key>
  void access(const std::optional<events::BrokerUrl>& url, const std::string& password,
              const Key& key) {
    if (url && !url->is_tls && !is_loopback_host(url->host))
      report(key("broker"),
             "is without TLS to another machine; expected " + url->protocol + "s://");
    if (url && url->user.empty() != password.empty())
      report(key("password"), password.empty() ? "is missing; expected for the user in broker"
                                               : "is given for nobody; expected a user in broker");
  }

  static constexpr const char* kRefusedIsSource =
      "is where requests are taken from, too, and what was refused would come again for ever; "
      "expected another place";
  static constexpr const char* kNoMqttTopic =
      "is not a topic of MQTT to publish at; expected no + and no #, which are wildcards";
  static constexpr const char* kNoKafkaTopic =
      "is not the name of a topic of Kafka; expected letters, digits, '.', '_' and '-' alone";
  // {type} stands for letters.
  static bool is_kafka_topic(std::string_view topic) {
    constexpr std::string_view kType = "{type}";
    constexpr std::string_view kAllowed =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
    std::string rest(topic);
    for (auto at = rest.find(kType); at != std::string::npos; at = rest.find(kType))
      rest.erase(at, kType.size());
    return rest.find_first_not_of(kAllowed) == std::string::npos;
  }

  static bool is_loopback_host(std::string_view host) {
    const auto address = IpAddress::parse(host);
    return host == "localhost" ||
           (address &&
            Network::parse(address->is_v4() ? "127.0.0.0/8" : "::1")->contains(*address));
  }
  // The key that a mechanism needs and that is missing.
  std::string lacks(std::string_view mechanism) const {
    const auto& auth = config_.auth;
    const bool by_dovecot = !auth.dovecot.empty();
    if (mechanism == "EXTERNAL")
      return auth.certificates.empty() ? "auth.certificates" : "";
    if (mechanism == "SCRAM-SHA-256-PLUS")
      return auth.users.empty() ? "auth.users" : "";
    if (mechanism == "SCRAM-SHA-256")
      return auth.users.empty() && !by_dovecot ? "auth.users or auth.dovecot" : "";
    if (mechanism == "OAUTHBEARER" || mechanism == "XOAUTH2")
      return !auth.has_tokens() && !by_dovecot
                 ? "auth.oauth_introspect, auth.oauth_keys or auth.dovecot"
                 : "";
    return auth.has_passwords() ? "" : "auth.users, auth.dovecot or auth.pam";
  }

  void report(const std::string& key, std::string text) {
    const auto found = origins_.find(key);
    problems_.push_back({found == origins_.end() ? 0 : found->second, key, std::move(text)});
  }

  static std::string listener(std::size_t index, const char* name) {
    return "listener[" + std::to_string(index) + "]." + name;
  }
  static std::string routed(std::size_t index, const char* name) {
    return "route[" + std::to_string(index) + "]." + name;
  }
  std::string where(const std::string& key) const {
    const auto found = origins_.find(key);
    return "in line " + std::to_string(found == origins_.end() ? 0 : found->second);
  }

  static bool share_an_address(const std::string& one, const std::string& other) {
    const auto ours = listener_addresses(one);
    const auto theirs = listener_addresses(other);
    return std::any_of(ours.begin(), ours.end(), [&](const auto& mine) {
      return std::any_of(theirs.begin(), theirs.end(),
                         [&](const auto& its) { return equals_ignoring_case(mine, its); });
    });
  }

  void same_address(std::size_t index) {
    const auto& address = config_.listeners[index].address;
    if (address.empty() || address.ends_with(":0"))
      return;  // reported as missing; a port of the system's choice
    for (std::size_t earlier = 0; earlier < index; ++earlier)
      if (share_an_address(config_.listeners[earlier].address, address))
        return report(listener(index, "address"), quote_value(address) + " is already taken " +
                                                      where(listener(earlier, "address")) +
                                                      "; expected another one");
  }

  void proxies(std::size_t index) {
    if (config_.listeners[index].proxy_protocol && config_.accept.proxy_from.empty())
      report(listener(index, "proxy_protocol"),
             "is true without accept.proxy_from; expected the networks of the proxies there");
  }

  void listener_tls(std::size_t index) {
    const auto mode = config_.listeners[index].tls;
    if (mode == ListenerTls::off || !config_.tls.certificate.empty())
      return;
    report(listener(index, "tls"),
           std::string(mode == ListenerTls::starttls ? "\"starttls\"" : "\"implicit\"") +
               " has no certificate; expected tls.certificate and tls.key, or \"off\"");
  }

  void login(std::size_t index) {
    const auto& route = config_.routes[index];
    const auto hop = delivery::parse_next_hop(route.next_hop);
    if (!hop)
      return;  // reported as such
    if (route.credentials.empty()) {
      if (route.unverified_login)
        report(routed(index, "unverified_login"),
               "is true without route.credentials; expected both");
      return;
    }
    const bool is_verified = route.tls >= RouteTls::verify;
    if (!is_verified && !route.unverified_login && !hop->is_on_this_machine())
      report(routed(index, "tls"),
             "verifies nobody, and the credentials would go to whoever answers; expected "
             "\"verify\" or "
             "\"dane\", or unverified_login = true beside it");
  }

  // Nothing would ever be sent there.
  void verified_names(std::size_t index) {
    const auto& route = config_.routes[index];
    const auto hop = delivery::parse_next_hop(route.next_hop);
    if (hop && route.tls == RouteTls::verify && route.tls_names.empty() &&
        IpAddress::parse(hop->host))
      report(routed(index, "next_hop"),
             quote_value(hop->host) +
                 " is an address, which no certificate names; expected a host name, or tls_names "
                 "with the names to verify");
  }

  // Whether every sender of the later route is one of the earlier one.
  static bool covers_senders(const std::vector<std::string>& earlier,
                             const std::vector<std::string>& later) {
    if (earlier.empty())
      return true;
    return !later.empty() && std::all_of(later.begin(), later.end(), [&](const auto& one) {
      return std::find(earlier.begin(), earlier.end(), one) != earlier.end();
    });
  }

  // Whether every domain of the later pattern is taken by the earlier one.
  static bool covers(const std::string& earlier, const std::string& later) {
    if (earlier.empty() || later.empty())
      return false;  // reported as missing
    if (earlier == "*" || equals_ignoring_case(earlier, later))
      return true;
    return earlier.starts_with('.') && later != "*" && ends_with_ignoring_case(later, earlier);
  }

  const Config& config_;
  const Origins& origins_;
  std::vector<Problem>& problems_;
};

}  // namespace

void check_across(const Config& config, const Origins& origins, std::vector<Problem>& problems) {
  Checker checker(config, origins, problems);
  checker.listeners();
  checker.open_relay();
  checker.tls();
  checker.auth();
  checker.domains();
  checker.routes();
  checker.delivery();
  checker.dkim();
  checker.sealing();
  checker.dmarc_report();
  checker.header_checks();
  checker.milters();
  checker.events();
  checker.web();
  checker.requests();
  checker.control();
}

}  // namespace postrider::daemon
