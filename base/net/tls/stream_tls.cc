// The TLS half of Stream.
#include "base/assert.h"
#include "base/net/blocking_pool.h"
#include "base/net/tls/stream.h"
#include "base/net/tls/tls_channel.h"
#include "base/probe.h"

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/post.hpp>

#include <algorithm>
#include <array>
#include <cstring>
#include <sys/socket.h>

namespace postrider {

namespace {

constexpr auto use_tuple = asio::as_tuple(use_task);
constexpr const char* kHandshake = "TLS handshake";
constexpr Duration kLongestTurn = std::chrono::minutes(2);
// What one connection may read or write before the loop's other work has its turn.
constexpr std::size_t kTurn = 256U << 10U;

// The next record's worth: the first part itself if it is long, else a copy of several.
std::string_view gather(const std::string_view* parts, std::size_t count, char* room) {
  if (count == 1 || parts->size() >= TlsChannel::kRecord)
    return parts->substr(0, TlsChannel::kRecord);
  std::size_t filled = 0;
  for (std::size_t i = 0; i < count && filled < TlsChannel::kRecord; ++i) {
    const auto part = parts[i].substr(0, TlsChannel::kRecord - filled);
    std::memcpy(room + filled, part.data(), part.size());
    filled += part.size();
  }
  return {room, filled};
}

}  // namespace

const TlsFacts* Stream::tls() const {
  return tls_ ? &tls_->facts() : nullptr;
}

Result<std::string> Stream::channel_binding(ChannelBinding kind) const {
  if (!tls_)
    return Error(Errc::unsupported, "bind to the channel: in clear");
  return tls_->binding(kind);
}

TlsSession Stream::tls_session() const {
  return tls_ ? tls_->session() : TlsSession();
}

Task<Result<void>> Stream::start_tls_server(std::shared_ptr<const TlsContext> context,
                                            std::string received) {
  POSTRIDER_ASSERT(!tls_);
  auto channel = TlsChannel::server(context, socket_.native_handle(), std::move(received));
  if (!channel)
    co_return channel.error();
  tls_ = *std::move(channel);
  POSTRIDER_PROBE2(tls_begin, socket_.native_handle(), 0);
  auto done = co_await shake_hands(context->workers());
  POSTRIDER_PROBE3(tls_end, socket_.native_handle(), 0, done.has_value() ? 1 : 0);
  co_return done;
}

Task<Result<void>> Stream::start_tls_client(std::shared_ptr<const TlsContext> context,
                                            TlsClientOptions options) {
  POSTRIDER_ASSERT(!tls_);
  auto channel = TlsChannel::client(context, socket_.native_handle(), options);
  if (!channel)
    co_return channel.error();
  share_ = std::make_unique<OutgoingTls::Share>(context->memory());
  if (auto has_turn = co_await wait_for_turn(); !has_turn)
    co_return has_turn;
  tls_ = *std::move(channel);
  POSTRIDER_PROBE2(tls_begin, socket_.native_handle(), 1);
  auto done = co_await shake_hands(context->workers());
  POSTRIDER_PROBE3(tls_end, socket_.native_handle(), 1, done.has_value() ? 1 : 0);
  co_return done;
}

// The peer hears nothing meanwhile, which is no fault of its own: no deadline passes.
Task<Result<void>> Stream::wait_for_turn() {
  const auto turn = std::make_shared<Signal>();
  auto& loop = loop_;
  if (share_->begin([&loop, turn] { loop.post([turn] { turn->set(); }); }))
    co_return Result<void>{};
  const auto usual = limit_;
  const bool was_set = deadline_.is_set();
  set_deadline(kLongestTurn);
  turn_ = turn;
  co_await turn->wait();
  turn_.reset();
  if (!is_open())
    co_return Error(asio::error::operation_aborted, kHandshake);
  if (timed_out_)
    co_return Error(make_error_code(boost::system::errc::not_enough_memory), kHandshake);
  clear_deadline();
  if (was_set)
    set_deadline(usual);
  co_return Result<void>{};
}

// Of a client, after each step.
Result<void> Stream::count_memory(bool is_done) {
  if (!share_)
    return {};
  const auto octets = OutgoingTls::kOfSession + tls_->certificate_octets();
  if (share_->resize(is_done ? octets : std::max(octets, OutgoingTls::kOfHandshake)))
    return {};
  return Error(make_error_code(boost::system::errc::not_enough_memory),
               "the server's certificates take " + std::to_string(octets >> 10U) +
                   " KiB, for which there is no room");
}

Task<Result<void>> Stream::shake_hands(BlockingPool* workers) {
  for (;;) {
    if (timed_out_)
      co_return Error(asio::error::timed_out, kHandshake);
    auto step = tls_->await_hello();
    if (step == TlsStep::done && workers == nullptr) {
      step = tls_->handshake();
    } else if (step == TlsStep::done) {
      // Keys are slow: they must not hold up the loop.
      tls_->is_busy = true;
      std::function<TlsStep()> job = [channel = tls_.get()] { return channel->handshake(); };
      step = co_await workers->run(loop_, std::move(job));
      tls_->is_busy = false;
      if (closing_) {
        close();
        co_return Error(asio::error::operation_aborted, kHandshake);
      }
    }
    const bool goes_on = step == TlsStep::wait_readable || step == TlsStep::wait_writable;
    if (goes_on || step == TlsStep::done)
      if (auto counted = count_memory(!goes_on); !counted)
        co_return counted;
    switch (step) {
      case TlsStep::done:
        co_return Result<void>{};
      case TlsStep::end:
        co_return Error(asio::error::eof, kHandshake);
      case TlsStep::failed:
        co_return tls_->error(kHandshake);
      case TlsStep::wait_readable:
      case TlsStep::wait_writable: {
        auto ready = co_await wait_for(step == TlsStep::wait_writable, kHandshake);
        if (!ready)
          co_return ready;
        break;
      }
    }
  }
}

Task<Result<void>> Stream::wait_for(bool writable, const char* step) {
  if (timed_out_)
    co_return Error(asio::error::timed_out, step);
  if (is_allowed_ && !is_allowed_(tls_->octets()))
    co_return Error(make_error_code(boost::system::errc::not_enough_memory), step);
  const auto what = writable ? Socket::wait_write : Socket::wait_read;
  const auto [code] = co_await socket_.async_wait(what, use_tuple);
  if (code)
    co_return error(code, step);
  co_return Result<void>{};
}

Task<void> Stream::let_others_run() {
  in_turn_ = 0;
  co_await asio::post(loop_.executor(), use_task);
}

Result<std::size_t> Stream::read_now_tls(char* room, std::size_t size) {
  std::size_t got = 0;
  switch (tls_->read(room, size, got)) {
    case TlsStep::done:
      return got;
    case TlsStep::end:
      return Error(asio::error::eof, "read");
    case TlsStep::failed:
      return tls_->error("read");
    case TlsStep::wait_readable:
    case TlsStep::wait_writable:
      break;
  }
  return Error(asio::error::would_block, "read");
}

Task<Result<std::size_t>> Stream::read_some_tls(char* room, std::size_t size) {
  for (;;) {
    if (timed_out_)
      co_return Error(asio::error::timed_out, "read");
    if (in_turn_ >= kTurn)
      co_await let_others_run();
    std::size_t got = 0;
    const auto step = tls_->read(room, size, got);
    if (step == TlsStep::done) {
      in_turn_ += got;
      co_return got;
    }
    if (step == TlsStep::end)
      co_return Error(asio::error::eof, "read");
    if (step == TlsStep::failed)
      co_return tls_->error("read");
    in_turn_ = 0;
    auto ready = co_await wait_for(step == TlsStep::wait_writable, "read");
    if (!ready)
      co_return ready.error();
  }
}

Task<Result<void>> Stream::wait_readable_tls() {
  for (;;) {
    const auto step = tls_->look();
    if (step == TlsStep::done)
      co_return Result<void>{};
    auto ready = co_await wait_for(step == TlsStep::wait_writable, "read");
    if (!ready)
      co_return ready;
  }
}

std::size_t Stream::write_now_tls(std::string_view bytes) {
  std::size_t sent = 0;
  while (sent < bytes.size()) {
    std::size_t taken = 0;
    const auto rest = bytes.substr(sent, TlsChannel::kRecord);
    if (tls_->is_busy || tls_->write(rest.data(), rest.size(), taken) != TlsStep::done)
      break;
    sent += taken;
  }
  return sent;
}

Task<Result<void>> Stream::write_tls(const std::string_view* parts, std::size_t count) {
  std::array<std::string_view, kMostParts> left;
  count = static_cast<std::size_t>(
      std::copy_if(parts, parts + count, left.begin(), [](auto part) { return !part.empty(); }) -
      left.begin());
  for (std::string_view* next = left.data(); count > 0;) {
    if (timed_out_)
      co_return Error(asio::error::timed_out, "write");
    if (in_turn_ >= kTurn)
      co_await let_others_run();
    // Filled and used between two waits; what a record took stays the same when offered again.
    static thread_local std::array<char, TlsChannel::kRecord> room;
    const auto record = gather(next, count, room.data());
    std::size_t taken = 0;
    const auto step = tls_->write(record.data(), record.size(), taken);
    if (step == TlsStep::failed || step == TlsStep::end)
      co_return tls_->error("write");
    if (step != TlsStep::done) {
      in_turn_ = 0;
      auto ready = co_await wait_for(step == TlsStep::wait_writable, "write");
      if (!ready)
        co_return ready;
      continue;
    }
    in_turn_ += taken;
    while (count > 0 && taken >= next->size()) {
      taken -= next->size();
      ++next;
      --count;
    }
    if (count > 0)
      next->remove_prefix(taken);
  }
  co_return Result<void>{};
}

void Stream::end_tls() {
  if (tls_->is_busy)
    // The socket's number must not pass to another connection while a worker uses it.
    ::shutdown(socket_.native_handle(), SHUT_RDWR);
  else
    tls_->say_end();
}

}  // namespace postrider
