// A connection in the hands of a courier. Only for courier.cc and courier_security.cc.
#pragma once

#include "base/network.h"
#include "base/text.h"
#include "delivery/smtp/courier.h"

namespace postrider::delivery {

struct Courier::Session {
  Session(Loop& loop, Socket socket, const std::string& hostname, const HostAddress& candidate,
          Dialect dialect, Security security)
      : stream(loop, std::move(socket)),
        client(hostname, candidate.remote, dialect, std::move(security)),
        host(candidate.host),
        address(candidate.address) {}
  Stream stream;
  Client client;
  std::string host;
  std::string address;
  std::string session_key;                         // of the TLS session; empty: none
  Signal wake;                                     // the writer: there is something to write
  Signal writer_gone;                              // the reader: the writer has ended
  std::uint64_t replies_seen = ~std::uint64_t{0};  // none, so that the first wait is armed
  SteadyTime began;
  Duration connecting{0};  // until it was ready; told with the first message
  bool tls_is_noted = false;
  SteadyTime heard;  // the last sign of life
  bool is_reached = false;
  bool is_over = false;
  bool is_idle = false;
  bool was_ready = false;
  bool was_useful = false;  // has carried a message
  bool is_left = false;     // for another host, which may take what this one refuses
};

}  // namespace postrider::delivery
