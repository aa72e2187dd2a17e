#include "delivery/local/agents/local_target_codec.h"

#include "base/packing.h"

namespace postrider::delivery {

namespace {

constexpr std::uint8_t kVersion = 2;
constexpr std::uint64_t kMostNumber = std::uint64_t{1} << 62U;
constexpr std::size_t kMostText = 8192;  // of a path, an address, an argument
constexpr std::size_t kMostTrace = 1U << 20U;
constexpr std::size_t kMostArguments = 256;

constexpr std::string LocalEnvelope::*const kTexts[] = {
    &LocalEnvelope::id,           &LocalEnvelope::sender,
    &LocalEnvelope::delivered_to, &LocalEnvelope::original_recipient,
    &LocalEnvelope::local_part,   &LocalEnvelope::extension,
    &LocalEnvelope::domain,       &LocalEnvelope::hostname};

}  // namespace

std::string encode(const LocalJob& job) {
  const auto& target = job.target;
  Packer out(job.trace.size() + 512);
  out.number(kVersion);
  out.number(static_cast<std::uint64_t>(job.source));
  out.text(job.name);
  out.number(static_cast<std::uint64_t>(target.kind));
  out.text(target.user);
  out.text(target.root);
  out.text(target.place);
  out.number(target.arguments.size());
  for (const auto& argument : target.arguments)
    out.text(argument);
  out.number(static_cast<std::uint64_t>(std::max<Duration::rep>(target.limits.time.count(), 0)));
  out.number(target.limits.output);
  out.number(target.limits.mailbox_size);
  for (const auto text : kTexts)
    out.text(job.envelope.*text);
  const auto now = job.envelope.now.time_since_epoch().count();
  out.number(static_cast<std::uint64_t>(std::max<Duration::rep>(now, 0)));
  out.text(job.trace);
  out.number(job.size);
  return out.take();
}

Result<LocalJob> decode_local_job(std::string_view bytes) {
  const Error damaged(Errc::malformed, "decode a local delivery");
  if (bytes.size() > kMostLocalJob)
    return damaged;
  Unpacker in(bytes);
  if (in.number(kVersion) != kVersion)
    return damaged;
  LocalJob job;
  job.source = static_cast<LocalSource>(in.number(2));
  job.name = in.text(kMostText);
  auto& target = job.target;
  target.kind = static_cast<LocalTarget::Kind>(in.number(3));
  target.user = in.text(kMostText);
  target.root = in.text(kMostText);
  target.place = in.text(kMostText);
  const auto arguments = in.number(kMostArguments);
  for (std::uint64_t i = 0; i < arguments; ++i)
    target.arguments.emplace_back(in.text(kMostText));
  target.limits.time = Duration(static_cast<Duration::rep>(in.number(kMostNumber)));
  target.limits.output = in.number(kMostNumber);
  target.limits.mailbox_size = in.number(kMostNumber);
  for (const auto text : kTexts)
    job.envelope.*text = in.text(kMostText);
  job.envelope.now = TimePoint(Duration(static_cast<Duration::rep>(in.number(kMostNumber))));
  job.trace = in.text(kMostTrace);
  job.size = in.number(kMostNumber);
  if (!in.done())
    return damaged;
  return job;
}

}  // namespace postrider::delivery
