// The part of a connection that begins TLS: at once, or after STARTTLS.
#include "smtpd/connection.h"

namespace postrider::smtpd {

namespace {

auth::Channel channel_of(const Stream& stream) {
  auth::Channel channel;
  channel.is_private = true;
  channel.fingerprint = stream.tls()->fingerprint;
  if (auto exporter = stream.channel_binding(ChannelBinding::exporter))
    channel.bindings.tls_exporter = *std::move(exporter);
  if (auto end_point = stream.channel_binding(ChannelBinding::server_end_point))
    channel.bindings.server_end_point = *std::move(end_point);
  return channel;
}

}  // namespace

// False: the session is over. Nothing that came in clear is left: behind STARTTLS it has ended the
// session already (attacks.md T01), and what still waits in the socket is read as a handshake.
// Only what followed a PROXY header in one piece belongs to the handshake.
Task<bool> Connection::shake_hands() {
  auto& buffer = *buffer_;
  std::string received;
  if (arrival_.tls_start == TlsStart::at_once)
    received.assign(buffer.in.data() + buffer.begin, buffer.end - buffer.begin);
  buffer.begin = buffer.end = 0;
  buffer_.reset();
  stream_.set_deadline(timeouts().handshake);
  auto context = arrival_.tls;
  auto done = co_await stream_.start_tls_server(std::move(context), std::move(received));
  buffer_ = reception_->buffers().borrow();
  commands_seen_ = ~0ULL;  // the deadline for reading is to be set again
  auto& session = talk_->session();
  if (!done) {
    const auto error = done.error();
    maillog::tls_failed(reception_->log(), session, stream_.tls(), error);
    summary_.end =
        error.code() == asio::error::timed_out ? maillog::End::timeout : maillog::End::lost;
    summary_.error = error;
    co_return false;
  }
  session.on_tls(*stream_.tls(), channel_of(stream_));
  talk_->in_tls();
  client_.trusted = session.facts().client.trusted;
  maillog::encrypted(reception_->log(), session);
  co_return true;
}

}  // namespace postrider::smtpd
