#include "daemon/pickup/submit_tables.h"

#include "base/memory_only.h"

#include <functional>
#include <memory>
#include <utility>

namespace postrider::daemon {

namespace {

constexpr Duration kPatience{30000};
constexpr unsigned kThreads = 4;

smtpd::Lookups::Limits limits() {
  smtpd::Lookups::Limits limits;
  limits.threads = kThreads;
  return limits;
}

}  // namespace

SubmitTables::SubmitTables() : lookups_(limits()) {}

template <class T>
Task<Result<T>> SubmitTables::ask(Loop& loop, std::uint64_t uid,
                                  std::function<Result<T>()> question) {
  const auto answer = std::make_shared<std::optional<Result<T>>>();
  smtpd::Lookups::Job job;
  job.key = std::to_string(uid);
  job.is_own = true;
  job.ask = [answer, question = std::move(question)] { *answer = question(); };
  auto wait = std::make_shared<smtpd::Lookups::Wait>();
  const bool is_answered = co_await lookups_.run(loop, std::move(wait), kPatience, std::move(job));
  if (!is_answered || !*answer)
    co_return Error(Errc::storage, "the tables do not answer");
  co_return *std::move(*answer);
}

Task<void> SubmitTables::rewrite_header(Loop& loop, SubmissionBuilder& builder) {
  auto fresh = co_await ask<std::string>(loop, builder.uid(), builder.header_question());
  builder.header_rewritten(std::move(fresh));
}

Task<Result<void>> SubmitTables::feed(Loop& loop, SubmissionBuilder& builder,
                                      std::string_view raw) {
  builder.read(raw);
  if (builder.waits_for_tables())
    co_await rewrite_header(loop, builder);
  co_return builder.spill();
}

Task<Result<queue::Submission>> SubmitTables::finish(Loop& loop, SubmissionBuilder& builder,
                                                     TimePoint now) {
  builder.end();
  if (builder.waits_for_tables())
    co_await rewrite_header(loop, builder);
  if (builder.rewrites_envelope()) {
    auto question = builder.envelope_question();
    std::optional<Result<SubmissionBuilder::Rewritten>> fresh;
    {
      const MemoryOnly memory;
      fresh = question();
      if (memory.was_not_enough())
        fresh.reset();
    }
    if (!fresh)
      fresh = co_await ask<SubmissionBuilder::Rewritten>(loop, builder.uid(), std::move(question));
    builder.envelope_rewritten(*std::move(fresh));
  }
  co_return builder.finish(now);
}

}  // namespace postrider::daemon
