// A name server on loopback, UDP and TCP on one free port, that says what a test tells it to:
// the truth, nothing, or nonsense.
//
//   FakeDnsServer server(loop);
//   server.on("mx example.test", answers({record("example.test", 300, "MX 10 mx.example.test")}));
//   server.on("a slow.test", in_turn({nothing(), answers({...})}));
//   server.on("txt big.test", truncated(answers({...})));     // over TCP in full
//
// A question without a script does not exist (NXDOMAIN with an SOA of the root, 300 s).
#pragma once

#include "base/net/loop.h"
#include "dns/name_server.h"
#include "dns/packet_codec.h"

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace postrider {
class Log;
}

namespace postrider::tests {

struct Asked {
  std::string packet;
  dns::Message message;  // decoded; with a question
  bool over_tcp = false;
  std::uint16_t from_port = 0;
};

struct Packet {
  Packet(std::string sent) : bytes(std::move(sent)) {}
  std::string bytes;
  bool from_other_port = false;  // of UDP
  bool unframed = false;         // of TCP: sent as it is, then the connection is closed
};

// What is sent back, in order. Nothing over TCP closes the connection.
using Script = std::function<std::vector<Packet>(const Asked&)>;

// Data as in zone files: A, AAAA, MX, CNAME, DNAME, NS, PTR, TXT "...", TLSA, SOA.
dns::Record record(std::string_view name, std::uint32_t ttl, std::string_view data);
dns::Name name(std::string_view text);  // "." is the root

Script says(dns::Message message);  // id and question are those of the query
Script answers(std::vector<dns::Record> records);
Script answers(std::vector<dns::Record> records, std::vector<dns::Record> authority);
Script fails(dns::Rcode code);
Script nothing();
Script bytes(std::string packet);  // the first two octets become the id of the query
Script from_another_port(Script script);
Script unframed(Script script);
Script truncated(Script over_tcp);  // UDP: only the TC bit
Script with_wrong_id(Script script);
Script with_wrong_question(Script script);              // that of another name
Script one_after_another(std::vector<Script> scripts);  // all packets of all, at once
Script in_turn(std::vector<Script> scripts);            // one a query; the last stays

class FakeDnsServer {
 public:
  FakeDnsServer(Loop& loop, Log& log);
  ~FakeDnsServer();
  FakeDnsServer(const FakeDnsServer&) = delete;
  FakeDnsServer& operator=(const FakeDnsServer&) = delete;

  dns::Server address() const;
  void on(const std::string& question, Script script);  // "mx example.test"
  void on_any(Script script);                           // what has no script of its own

  // Until release(), questions are noted and not answered.
  void hold();
  void release();
  void set_delay(Duration delay);  // of every UDP answer

  // "mx example.test", "tcp mx example.test" in the order asked.
  const std::vector<std::string>& asked() const;
  const std::vector<Asked>& queries() const;
  // Called on the loop after each question was noted.
  void when_asked(std::function<void()> call);

  void refuse_tcp();  // connections to the port are refused from now on
  void stop();        // queries over UDP are refused by ICMP from now on, too

 private:
  struct State;
  std::shared_ptr<State> state_;
};

}  // namespace postrider::tests
