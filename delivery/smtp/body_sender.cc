#include "delivery/smtp/body_sender.h"

#include "base/file.h"
#include "delivery/job/job_outcome.h"
#include "delivery/smtp/compatibility.h"
#include "mail/dot_stuffing.h"

#include <deque>

namespace postrider::delivery {

namespace {

constexpr std::size_t kMostParts = 64;
constexpr std::uint64_t kMostAtOnce = 256U << 10U;
// Below this a remote is a tar pit (attacks.md X08).
constexpr std::uint64_t kLeastOctetsPerSecond = 2048;

// What is gathered for the next write, and which bodies end with it.
struct Gathered {
  std::vector<std::string_view> parts;
  std::deque<std::string> owned;
  std::size_t bodies = 0;

  void add(std::string_view part) {
    if (!part.empty())
      parts.push_back(part);
  }
};

mail::Outcome unreadable(const Error& error) {
  return decide(mail::Verdict::retry, mail::Stage::body, {4, 3, 0},
                "our copy of the message cannot be read: " + error.describe());
}

void gather_body(const Body& body, Gathered& gathered) {
  const auto& content = body.message->content;
  const std::string_view trace = body.converted ? std::string_view() : content.trace;
  const std::string_view bytes = body.converted ? *body.converted : *content.bytes;
  ++gathered.bodies;
  if (!body.chunked && body.has_leading_dot) {
    auto& stuffed = gathered.owned.emplace_back();
    stuffed.reserve(trace.size() + bytes.size() + bytes.size() / 64 + 16);
    mail::DotStuffer stuffer;
    stuffer.feed(trace, stuffed);
    stuffer.feed(bytes, stuffed);
    stuffer.finish(stuffed);
    gathered.add(stuffed);
    return;
  }
  gathered.add(trace);
  gathered.add(bytes);
  if (body.chunked)
    return;
  const auto last = bytes.empty() ? trace : bytes;
  gathered.add(last.empty() || last.ends_with("\r\n") ? ".\r\n" : "\r\n.\r\n");
}

SteadyTime end_of_patience(std::uint64_t octets) {
  return std::chrono::steady_clock::now() + std::chrono::minutes(10) +
         std::chrono::seconds(octets / kLeastOctetsPerSecond);
}

// A body has left us: its reply has a time of its own, from now on (RFC 5321 §4.5.3.2.6), unless
// the reply to its envelope is what is waited for.
void note_body(Stream& stream, Client& client, const SendLimits& limits) {
  client.body_written();
  if (client.stage() == mail::Stage::body_end)
    stream.set_deadline(limits.body_end);
}

// What is too much for one write has the time of a block for each block.
Task<Result<void>> write_in_blocks(Stream& stream, const std::vector<std::string_view>& parts,
                                   std::uint64_t octets, SendLimits limits) {
  const auto give_up_at = end_of_patience(octets);
  for (auto part : parts) {
    while (!part.empty()) {
      const auto block = part.substr(0, kBodyBlock);
      part.remove_prefix(block.size());
      stream.set_deadline(limits.block);
      auto written = co_await stream.write(block);
      if (!written)
        co_return written.error();
      if (std::chrono::steady_clock::now() > give_up_at)
        co_return Error(asio::error::timed_out, "write");
    }
  }
  co_return Result<void>{};
}

Task<Result<void>> flush(Stream& stream, Client& client, Gathered& gathered, SendLimits limits) {
  std::uint64_t octets = 0;
  for (const auto& part : gathered.parts)
    octets += part.size();
  if (octets > kMostAtOnce) {
    auto written = co_await write_in_blocks(stream, gathered.parts, octets, limits);
    if (!written)
      co_return written.error();
  } else if (octets > 0) {
    auto written = co_await stream.write(gathered.parts.data(), gathered.parts.size());
    if (!written)
      co_return written.error();
  }
  for (; gathered.bodies > 0; --gathered.bodies)
    note_body(stream, client, limits);
  gathered.parts.clear();
  gathered.owned.clear();
  co_return Result<void>{};
}

// What came by SMTP is known to be good text; what was imported, or changed by a filter, is not.
bool may_hold_anything(const Body& body) {
  return body.chunked && is_binary(*body.message, body.converted != nullptr);
}

// One block, dots doubled if need be. False: the content may not be sent.
bool prepare_block(const Body& body, std::string_view raw, LineScanner& lines,
                   mail::DotStuffer& stuffer, std::string& stuffed) {
  stuffed.clear();
  if (may_hold_anything(body))
    return true;
  lines.feed(raw);
  if (!body.chunked)
    stuffer.feed(raw, stuffed);
  return !lines.has_bare_line_end();
}

Error give_up(Client& client, const mail::Outcome& outcome) {
  client.abandon_body(outcome);
  return Error(Errc::corrupt, "content");
}

Task<Result<void>> send_file(Stream& stream, Client& client, const Body& body,
                             const OpenBody& open_body, SendLimits limits) {
  const auto& content = body.message->content;
  auto file = open_body(*body.message);
  if (!file)
    co_return give_up(client, unreadable(file.error()));
  const auto give_up_at = end_of_patience(content.size);
  LineScanner lines;
  mail::DotStuffer stuffer;
  std::string block = content.trace, stuffed;
  std::uint64_t left = content.size;
  for (bool first = true; first || left > 0; first = false) {
    if (!first) {
      block.resize(kBodyBlock);
      auto got = read_block(*file, block);
      if (!got || *got == 0 || *got > left)
        co_return give_up(client, unreadable(got ? Error(Errc::corrupt, "body is shorter or longer")
                                                 : got.error()));
      block.resize(*got);
      left -= *got;
    }
    if (!prepare_block(body, block, lines, stuffer, stuffed))
      co_return give_up(client, bare_line_end(client.remote()));
    stream.set_deadline(limits.block);
    auto written = co_await stream.write(body.chunked ? block : stuffed);
    if (!written)
      co_return written.error();
    if (std::chrono::steady_clock::now() > give_up_at)
      co_return Error(asio::error::timed_out, "write");
  }
  stuffed.clear();
  lines.finish();
  if (lines.has_bare_line_end())
    co_return give_up(client, bare_line_end(client.remote()));
  if (!body.chunked)
    stuffer.finish(stuffed);
  auto written = co_await stream.write(stuffed);
  if (!written)
    co_return written.error();
  note_body(stream, client, limits);
  co_return Result<void>{};
}

}  // namespace

Task<Result<void>> send_pieces(Stream& stream, Client& client, std::vector<Piece> pieces,
                               const OpenBody& open_body, SendLimits limits) {
  Gathered gathered;
  for (const auto& piece : pieces) {
    if (gathered.parts.size() + 4 > kMostParts) {
      auto flushed = co_await flush(stream, client, gathered, limits);
      if (!flushed)
        co_return flushed.error();
    }
    gathered.add(piece.text);
    if (!piece.body)
      continue;
    const auto& body = *piece.body;
    if (body.converted || body.message->content.bytes) {
      gather_body(body, gathered);
      continue;
    }
    auto flushed = co_await flush(stream, client, gathered, limits);
    if (!flushed)
      co_return flushed.error();
    auto sent = co_await send_file(stream, client, body, open_body, limits);
    if (!sent)
      co_return sent.error();
  }
  auto flushed = co_await flush(stream, client, gathered, limits);
  co_return flushed;
}

}  // namespace postrider::delivery
