// The part of a connection that has an AUTH answered.
#include "smtpd/connection.h"

namespace postrider::smtpd {

namespace {

bool is_loopback(const IpAddress& address) {
  static const auto v4 = Network::parse("127.0.0.0/8").value();
  static const auto v6 = Network::parse("::1/128").value();
  return address.is_none() || v4.contains(address) || v6.contains(address);
}

}  // namespace

// Nobody listens on loopback but root; whoever is behind a proxy is not on loopback.
void Connection::allow_auth_in_clear() {
  if (!settings_->auth_in_clear || arrival_.tls_start != TlsStart::never || arrival_.proxied ||
      !is_loopback(arrival_.address))
    return;
  auth::Channel channel;
  channel.is_private = true;
  talk_->session().set_channel(std::move(channel));
}

Task<SessionFramer::Need> Connection::authenticate() {
  stream_.clear_deadline();  // the client has done its part
  auto& session = talk_->session();
  if (!exchange_) {
    auth::Attempt attempt;
    attempt.session = session.facts().id;
    attempt.client = client_.address;
    attempt.mechanism = session.login().mechanism();
    attempt.channel = session.login().channel();
    exchange_ = settings_->auth->begin(reception_->loop(), std::move(attempt));
  }
  auto question = session.login().question();
  lay_buffer_aside();
  const auto answer = co_await exchange_->ask(std::move(question));
  take_buffer();
  commands_seen_ = ~0ULL;  // the deadline for reading is to be set again
  const auto need = talk_->answered(answer, buffer_->replies);
  if (!session.login().is_under_way()) {
    exchange_.reset();
    client_.authenticated = session.facts().client.authenticated;
  }
  co_return need;
}

void Connection::authenticated(const AuthEnd& end) {
  maillog::auth_ended(reception_->log(), talk_->session(), end);
}

}  // namespace postrider::smtpd
