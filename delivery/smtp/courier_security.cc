// TLS and AUTH on the courier's connections.
#include "base/digest.h"
#include "base/net/tls/tls_context.h"
#include "delivery/job/job_outcome.h"
#include "delivery/smtp/courier_session.h"
#include "delivery/tls/tls_log.h"

#include <boost/asio/ip/address.hpp>

#include <sys/socket.h>

namespace postrider::delivery {

using mail::Stage;
using mail::Verdict;

namespace {

// X509_V_ERR_CERT_NOT_YET_VALID, X509_V_ERR_CERT_HAS_EXPIRED, X509_V_ERR_HOSTNAME_MISMATCH.
constexpr int kNotYetValid = 9, kExpired = 10, kWrongName = 62;

TlsProof proof_of(const TlsFacts& facts, const TlsDemand& demand) {
  if (facts.peer == TlsFacts::Peer::verified) {
    if (demand.mode == TlsMode::dane)
      return TlsProof::dane;
    return demand.names.empty() ? TlsProof::chain : TlsProof::name;
  }
  switch (facts.verify_code) {
    case kNotYetValid:
    case kExpired:
      return TlsProof::expired;
    case kWrongName:
      return TlsProof::wrong_name;
    default:
      return TlsProof::nothing;
  }
}

TlsClientOptions options_for(const TlsDemand& demand) {
  TlsClientOptions options;
  options.server_name = demand.server_name;
  options.names = demand.names;
  if (demand.mode == TlsMode::dane) {
    options.verify = TlsClientOptions::Verify::dane;
    for (const auto& record : demand.tlsa) {
      postrider::TlsaRecord one;
      one.usage = record.usage;
      one.selector = record.selector;
      one.matching = record.matching;
      one.data.assign(record.data.begin(), record.data.end());
      options.tlsa.push_back(std::move(one));
    }
  } else if (demand.mode == TlsMode::verify) {
    options.verify = TlsClientOptions::Verify::pkix;
  }
  return options;
}

TlsAttempt attempt_of(const Result<void>& shaken, const TlsFacts* facts, const TlsDemand& demand) {
  TlsAttempt attempt;
  const bool is_done =
      shaken || (shaken.error().code() == make_error_code(Errc::untrusted) && facts != nullptr);
  attempt.step = is_done ? TlsAttempt::Step::done : TlsAttempt::Step::broken;
  if (!shaken && !is_done)
    attempt.why = escaped(shaken.error().describe());
  if (facts == nullptr)
    return attempt;
  attempt.protocol = facts->protocol;
  attempt.cipher = facts->cipher;
  attempt.resumed = facts->resumed;
  if (facts->verify_code != 0)
    attempt.code = "X509_V_ERR_" + std::to_string(facts->verify_code);
  if (is_done) {
    attempt.proof = shaken || demand.needs_name() ? proof_of(*facts, demand) : TlsProof::nothing;
    if (attempt.proof != TlsProof::name && attempt.proof != TlsProof::dane)
      attempt.why = facts->verify_reason;
  }
  return attempt;
}

bool is_loopback(const HostAddress& candidate) {
  boost::system::error_code failed;
  const auto address = asio::ip::make_address(candidate.address, failed);
  return failed ? candidate.address.substr(0, 1) == "/" : address.is_loopback();
}

std::string own_address(Socket& socket) {
  sockaddr_storage address{};
  socklen_t size = sizeof address;
  auto* generic = reinterpret_cast<sockaddr*>(&address);
  if (::getsockname(socket.native_handle(), generic, &size) != 0)
    return {};
  return IpAddress::from(generic).str();
}

}  // namespace

// False: there is no use in a connection now.
Task<bool> Courier::get_credentials(const HostAddress& candidate) {
  auto got = co_await order_.secrets->get(loop_);
  if (got) {
    credentials_ = *std::move(got);
    login_ = LoginTrouble::none;
    co_return true;
  }
  const bool is_stopping = got.error().code() == make_error_code(Errc::stopped);
  login_ = is_stopping ? LoginTrouble::none : LoginTrouble::no_token;
  failure_ = decide(Verdict::retry, Stage::auth, {4, 7, 0},
                    "there is no access token to log in with: " + got.error().describe());
  failure_.remote = candidate.remote;
  co_return false;
}

Security Courier::security_for(const HostAddress& candidate) const {
  Security security;
  if (candidate.tls)
    security.tls = *candidate.tls;
  security.broken = broken_;
  if (!order_.secrets) {
    const bool is_wish = !security.tls.needs_tls() && !security.tls.implicit;
    if (order_.sessions && is_wish && !broken_)
      security.broken = order_.sessions->broken(candidate.remote, order_.clock->steady());
    return security;
  }
  security.credentials = credentials_;
  security.sasl.is_private = is_loopback(candidate);
  security.sasl.nonce = encode_hex(random_bytes(18));
  security.sasl.host = candidate.host.empty() ? candidate.address : candidate.host;
  const auto colon = candidate.remote.rfind(':');
  security.sasl.port = colon == std::string::npos ? "" : candidate.remote.substr(colon + 1);
  return security;
}

Task<void> Courier::shake_hands(Session& session) {
  const auto& demand = session.client.tls_demand();
  const auto& settings = *order_.settings;
  const bool strict = demand.needs_name();
  auto context = strict ? settings.tls_strict : settings.tls_lenient;
  auto options = options_for(demand);
  session.session_key = demand.session_key() + " " + session.client.remote();
  if (order_.sessions)
    options.session = order_.sessions->take(session.session_key);
  session.stream.set_deadline(settings.timeouts.handshake);
  auto shaken = co_await session.stream.start_tls_client(std::move(context), std::move(options));
  if (!shaken && shaken.error().code() == boost::system::errc::not_enough_memory) {
    // Our own fault says nothing about its TLS: nothing goes in clear for that.
    session.client.lost(shaken.error());
    co_return;
  }
  if (shaken && order_.secrets) {
    auto binding = session.stream.channel_binding(ChannelBinding::exporter);
    if (binding)
      session.client.set_channel_binding(*std::move(binding));
  }
  session.client.on_handshake(attempt_of(shaken, session.stream.tls(), demand));
  session.replies_seen = ~std::uint64_t{0};
  note_tls(session);
}

Task<void> Courier::take_sasl_step(Session& session) {
  std::function<Result<std::string>()> step = [sasl = session.client.sasl(),
                                               challenge = session.client.challenge()] {
    return sasl->step(challenge);
  };
  auto response = co_await order_.pool->run<Result<std::string>>(loop_, std::move(step));
  if (session.client.wants_sasl_step())
    session.client.answer(std::move(response));
}

// Once for each connection, when it is clear how it is protected.
void Courier::note_tls(Session& session) {
  const auto& client = session.client;
  if (!client.is_tls_settled() || std::exchange(session.tls_is_noted, true))
    return;
  const auto& demand = client.tls_demand();
  if (demand.mode == TlsMode::off || broken_)
    return;
  const auto& verdict = client.tls_verdict();
  maillog::tls(*order_.log, client.remote(), demand, client.tls_attempt(), verdict);
  if (order_.observer)
    report_tls(session, verdict);
}

void Courier::report_tls(Session& session, const TlsVerdict& verdict) {
  const auto& client = session.client;
  const auto& demand = client.tls_demand();
  TlsReport report;
  report.when = order_.clock->now();
  report.domain = order_.domain;
  report.source = demand.source;
  report.testing = demand.trial;
  if (demand.source == TlsSource::mta_sts)
    report.sts = order_.sts;
  report.tlsa = demand.tlsa;
  report.result = verdict.result;
  report.from_address = own_address(session.stream.socket());
  report.host = session.host;
  report.helo = client.helo();
  report.address = session.address;
  report.detail = verdict.reason;
  report.code = client.tls_attempt().code;
  report.went_in_clear = verdict.next == TlsNext::in_clear || verdict.next == TlsNext::clear_again;
  order_.observer(std::move(report));
}

// How TLS failed on this connection, where the host deserves another one in clear for it: anywhere
// from STARTTLS to the first message that is through. With TLS 1.3 what a host dislikes of ours
// shows behind the handshake only.
std::optional<TlsAttempt> Courier::broken_tls(const Session& session) {
  const auto& client = session.client;
  if (!client.is_closing() || !client.is_tls_settled())
    return std::nullopt;
  if (!session.was_ready && client.tls_verdict().next == TlsNext::clear_again)
    return client.tls_attempt();
  if (!client.is_cut_off() || session.was_useful || order_.secrets)
    return std::nullopt;
  // Ready at once behind the refusal, it may be closed before a job came.
  if (client.tls_attempt().step == TlsAttempt::Step::declined)
    return client.tls_attempt();
  const bool was_needed = !session.was_ready || !jobs_.empty();
  if (!was_needed)
    return std::nullopt;
  TlsAttempt attempt;
  attempt.step = TlsAttempt::Step::cut_off;
  attempt.why = client.failure().text;
  maillog::tls(*order_.log, client.remote(), client.tls_demand(), attempt,
               judge(client.tls_demand(), attempt));
  return attempt;
}

// What TLS has done to this try is done: the host may have the message, or octets in clear behind
// the reply to STARTTLS were an attack. Where TLS is a wish, a later try goes in clear.
void Courier::note_trouble(const Session& session) {
  const auto& client = session.client;
  const auto& demand = client.tls_demand();
  if (!order_.sessions || order_.secrets || demand.needs_tls() || demand.implicit)
    return;
  auto attempt = client.tls_attempt();
  const auto now = order_.clock->steady();
  if (attempt.step == TlsAttempt::Step::injected)
    order_.sessions->note_broken(client.remote(), std::move(attempt), now);
  if (attempt.step != TlsAttempt::Step::done || !client.is_cut_off() ||
      client.failure().stage != Stage::body_end)
    return;
  attempt.step = TlsAttempt::Step::cut_off;
  attempt.why = client.failure().text;
  order_.sessions->note_lost(client.remote(), std::move(attempt), now);
}

// A message went through in clear behind TLS that broke: for a while TLS is not tried there.
void Courier::note_clear(const Session& session) {
  if (broken_ && order_.sessions && !order_.secrets)
    order_.sessions->note_broken(session.client.remote(), *broken_, order_.clock->steady());
}

// Whether the same host deserves another connection: in clear after TLS that broke, where that is
// allowed, once; without BDAT, once; with a fresh token after a refused one.
bool Courier::tries_again(const Session& session) {
  const auto& client = session.client;
  const bool was_broken = broken_.has_value();
  broken_.reset();
  if (!was_broken)
    broken_ = broken_tls(session);
  if (broken_)
    return true;
  note_trouble(session);
  if (client.is_chunking_refused() && !std::exchange(never_chunks_, true))
    return true;
  if (!client.is_auth_refused())
    return false;
  login_ = LoginTrouble::refused;
  login_detail_ = client.auth_detail();
  if (!credentials_ || !credentials_->is_token)
    return false;
  order_.secrets->refuse(credentials_->secret);
  return !credentials_->is_fresh && !std::exchange(renewed_, true);
}

}  // namespace postrider::delivery
