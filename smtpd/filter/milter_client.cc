#include "smtpd/filter/milter_client.h"

#include "base/assert.h"
#include "base/quoted.h"
#include "base/text.h"

#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/local/stream_protocol.hpp>

#include <algorithm>
#include <sys/un.h>

namespace postrider::smtpd::filter::milter {

namespace {

// What need not be answered is gathered up to this size.
constexpr std::size_t kMostUnsent = 65536;
// Between two answers. More is no progress.
constexpr std::size_t kMostProgress = 10000;

bool take_prefix(std::string_view& text, std::string_view prefix) {
  if (!starts_with_ignoring_case(text, prefix))
    return false;
  text.remove_prefix(prefix.size());
  return true;
}

std::optional<IpAddress> parse_host(std::string_view text) {
  if (text.size() > 2 && text.starts_with('[') && text.ends_with(']'))
    text = text.substr(1, text.size() - 2);
  else if (equals_ignoring_case(text, "localhost"))
    text = "127.0.0.1";
  return IpAddress::parse(text);
}

}  // namespace

Result<Address> Address::parse(std::string_view text) {
  const auto whole = text;
  const auto wrong = [&](std::string_view why) {
    return malformed(quote_value(whole, 120) + ": " + std::string(why));
  };
  Address address;
  if (text.starts_with('/') || take_prefix(text, "unix:") || take_prefix(text, "local:")) {
    if (!text.starts_with('/') || text.find('\0') != std::string_view::npos)
      return wrong("the path of a socket begins with /");
    if (text.size() >= sizeof(sockaddr_un{}.sun_path))
      return wrong("the path of a socket has at most 107 octets");
    address.path_ = text;
    return address;
  }
  if (!take_prefix(text, "inet:"))
    take_prefix(text, "inet6:");
  std::string_view host;
  std::string_view port;
  if (const auto at = text.find('@'); at != std::string_view::npos) {
    port = text.substr(0, at);
    host = text.substr(at + 1);
  } else if (const auto colon = text.rfind(':'); colon != std::string_view::npos) {
    host = text.substr(0, colon);
    port = text.substr(colon + 1);
  }
  const auto number = port.size() <= 5 ? parse_unsigned(port) : std::nullopt;
  if (!number || *number == 0 || *number > 65535)
    return wrong("address:port or /path is expected");
  const auto parsed = parse_host(host);
  if (!parsed)
    return wrong("an IP address is expected before the port");
  address.host_ = *parsed;
  address.port_ = static_cast<std::uint16_t>(*number);
  return address;
}

asio::generic::stream_protocol::endpoint Address::endpoint() const {
  if (!path_.empty())
    return asio::local::stream_protocol::endpoint(path_);
  return asio::ip::tcp::endpoint(asio::ip::make_address(host_.str()), port_);
}

std::string Address::str() const {
  if (!path_.empty())
    return path_;
  const auto host = host_.is_v6() ? "[" + host_.str() + "]" : host_.str();
  return host + ":" + std::to_string(port_);
}

std::optional<DefaultAction> parse_default_action(std::string_view word) {
  if (word == "tempfail")
    return DefaultAction::tempfail;
  if (word == "accept")
    return DefaultAction::accept;
  if (word == "reject")
    return DefaultAction::reject;
  if (word == "quarantine")
    return DefaultAction::quarantine;
  return std::nullopt;
}

Verdict verdict_of(DefaultAction action, std::string problem) {
  switch (action) {
    case DefaultAction::tempfail:
      break;
    case DefaultAction::reject:
      return Verdict::refuse({550, {5, 7, 1}, "Command rejected"}, std::move(problem));
    case DefaultAction::accept:
    case DefaultAction::quarantine:
      return {Verdict::Kind::done, {}, std::move(problem)};
  }
  return Verdict::refuse({451, {4, 7, 1}, "Service unavailable - try again later"},
                         std::move(problem));
}

bool Total::enter() {
  if (connections_.fetch_add(1) < limits_.connections)
    return true;
  --connections_;
  return false;
}

bool Total::hold(std::size_t octets, std::size_t before) {
  const auto now = octets_.fetch_add(octets - before) + (octets - before);
  if (octets <= before || now <= limits_.octets)
    return true;
  octets_.fetch_sub(octets - before);
  return false;
}

Result<void> Gate::enter(SteadyTime now) {
  const std::lock_guard lock(mutex_);
  if (connections_ >= limits_.connections)
    return Error(Errc::refused, "connect to the milter: it has too many connections");
  if (wait_.count() > 0) {
    if (now < next_try_)
      return Error(Errc::refused, "connect to the milter: it could not be reached a moment ago");
    next_try_ = now + wait_;  // of the others, unless this one knows before
    is_trying_ = true;
  }
  if (!total_->enter())
    return Error(Errc::refused, "connect to the milter: all milters have too many connections");
  ++connections_;
  return {};
}

void Gate::leave() {
  const std::lock_guard lock(mutex_);
  POSTRIDER_ASSERT(connections_ > 0);
  --connections_;
  total_->leave();
}

void Gate::note(bool is_well, SteadyTime now) {
  const std::lock_guard lock(mutex_);
  if (is_well) {
    wait_ = Duration(0);
    is_trying_ = false;
    return;
  }
  // Many that began before the first has failed fail together, and count as one.
  if (wait_.count() == 0)
    wait_ = limits_.first_wait;
  else if (is_trying_)
    wait_ = std::min(wait_ * 2, limits_.longest_wait);
  else
    return;
  is_trying_ = false;
  next_try_ = now + wait_;
}

bool Gate::is_well() const {
  const std::lock_guard lock(mutex_);
  return wait_.count() == 0;
}

std::size_t Gate::connections() const {
  const std::lock_guard lock(mutex_);
  return connections_;
}

Client::Client(Loop& loop, const Clock& clock, Gate& gate, Address address,
               const Timeouts& timeouts, EditLimits limits)
    : loop_(loop),
      clock_(clock),
      gate_(gate),
      address_(std::move(address)),
      timeouts_(timeouts),
      limits_(limits),
      session_(std::make_unique<Session>(limits)) {}

Client::~Client() {
  close();
}

void Client::close() {
  if (stream_ && stream_->is_open() && !has_given_up_) {
    unsent_ += session_->quit().bytes;
    stream_->write_now(unsent_);
  }
  drop();
}

void Client::drop() {
  stream_.reset();
  received_.clear();
  unsent_.clear();
  reader_ = FrameReader();
  gate_.total().hold(0, std::exchange(held_, 0));
  session_ = std::make_unique<Session>(limits_);  // whose steps are empty
  if (std::exchange(is_within_, false))
    gate_.leave();
}

void Client::give_up() {
  has_given_up_ = true;
  if (stream_)
    stream_->close();
}

// A milter that was restarted has hung up, and one that has spoken unasked is not to be trusted.
bool Client::is_there() {
  if (!stream_ || !stream_->is_open() || !received_.empty() || reader_.is_within_frame())
    return false;
  char next = 0;
  const auto got = stream_->read_now(&next, 1);
  return !got && got.error().code() == asio::error::would_block;
}

Task<Result<bool>> Client::open() {
  if (has_given_up_)
    co_return Error(Errc::stopped, "connect to the milter");
  if (is_there())
    co_return false;
  drop();
  if (auto entered = gate_.enter(clock_.steady()); !entered)
    co_return entered.error();
  is_within_ = true;
  auto connected = co_await connect();
  if (!has_given_up_)
    gate_.note(connected.has_value(), clock_.steady());
  if (!connected) {
    drop();
    co_return connected.error();
  }
  co_return true;
}

Task<Result<void>> Client::connect() {
  session_ = std::make_unique<Session>(limits_);
  auto opened = co_await Stream::connect(loop_, address_.endpoint(), timeouts_.connect);
  if (!opened)
    co_return opened.error().during("connect to the milter " + address_.str());
  stream_ = *std::move(opened);
  auto agreed = co_await exchange(session_->open());
  if (!agreed)
    co_return agreed.error().during("negotiate with the milter " + address_.str());
  co_return Result<void>{};
}

Task<Result<Verdict>> Client::perform(Session::Step step) {
  POSTRIDER_ASSERT(stream_ != nullptr);
  auto answer = co_await exchange(std::move(step));
  if (!answer) {
    drop();
    co_return answer.error().during("ask the milter " + address_.str());
  }
  co_return answer;
}

void Client::tell(Session::Step step) {
  POSTRIDER_ASSERT(!step.waits);
  if (stream_)
    unsent_ += step.bytes;
  (void)keep_edits();
}

// What the edits hold, as it counts against all.
Result<void> Client::keep_edits() {
  if (sink_)
    if (const auto piece = session_->take_body(); !piece.empty())
      if (auto taken = sink_(piece); !taken)
        return taken;
  const auto held = session_->held();
  if (!gate_.total().hold(held, held_))
    return Error(Errc::too_long, "the edits of all milters take too much memory");
  held_ = held;
  return {};
}

Task<Result<Verdict>> Client::exchange(Session::Step step) {
  if (has_given_up_)
    co_return Error(Errc::stopped, "send");
  // Before anything was asked that it could answer.
  if (!received_.empty() || reader_.is_within_frame())
    co_return malformed("it speaks unasked");
  unsent_ += step.bytes;
  const auto wait = limit();
  if (step.waits || unsent_.size() > kMostUnsent) {
    stream_->set_deadline(wait);
    if (auto sent = co_await flush(); !sent)
      co_return sent.error();
  }
  const auto last = clock_.steady() + timeouts_.whole;
  std::size_t progress = 0;
  while (step.waits) {
    stream_->set_deadline(wait);
    auto frame = co_await read_frame();
    if (!frame)
      co_return frame.error();
    if (frame->kind == 'p' && (++progress > kMostProgress || clock_.steady() > last))
      co_return Error(Errc::too_long, "it tells of progress without an end");
    auto verdict = session_->on_frame(*std::move(frame));
    if (!verdict)
      co_return verdict.error();
    if (auto kept = keep_edits(); !kept)
      co_return kept.error();
    if (*verdict) {
      stream_->clear_deadline();
      co_return **std::move(verdict);
    }
  }
  stream_->clear_deadline();
  co_return Verdict{};
}

Task<Result<void>> Client::flush() {
  const auto bytes = std::exchange(unsent_, {});
  auto sent = co_await stream_->write(bytes);
  co_return sent;
}

Task<Result<Frame>> Client::read_frame() {
  char room[4096];
  for (;;) {
    std::size_t used = 0;
    auto frame = reader_.feed(received_, used);
    received_.erase(0, used);
    if (!frame)
      co_return frame.error();
    if (*frame)
      co_return **std::move(frame);
    auto got = co_await stream_->read_some(room, sizeof room);
    if (!got)
      co_return got.error();
    received_.assign(room, *got);
  }
}

Duration Client::limit() const {
  switch (session_->waits_for()) {
    case 'B':
      return timeouts_.content;
    case 'E':
      return timeouts_.end;
    default:
      return timeouts_.command;
  }
}

}  // namespace postrider::smtpd::filter::milter
