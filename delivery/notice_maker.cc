#include "delivery/notice_maker.h"

#include "delivery/notices.h"

namespace postrider::delivery {

using queue::Lease;

// Of a large original, or one that will be signed: the pool has time for that.
bool NoticeMaker::takes_long(const Lease& lease, const queue::Record& record) const {
  const auto& signer = context_.settings->signer;
  const bool is_slow =
      !lease.message->content.bytes || (signer && signer->now_for(mailauth::SigningRole::notices));
  return is_slow && needs_notice(lease, record);
}

Task<void> NoticeMaker::make(const Lease& lease, queue::Record& record) {
  const auto bytes = lease.message->content.bytes;
  std::string beginning;
  if (!bytes)
    beginning = co_await read_original(lease.message);
  const NoticeContext context{*context_.settings, *context_.queue,      context_.log,
                              context_.random,    context_.clock.now(), *context_.double_bounces};
  add_notices(lease, bytes ? std::string_view(*bytes) : std::string_view(beginning), record,
              context);
  const auto signer = context_.settings->signer;
  if (!signer || record.notices.empty())
    co_return;
  const std::function<bool()> sign = [&record, signer, &log = context_.log, now = context.now] {
    for (auto& notice : record.notices)
      mailauth::sign_own(*signer, notice.message, log, now);
    return true;
  };
  (void)co_await pool_.run<bool>(context_.home, sign);
}

// Whose original is in memory, or that makes none.
void NoticeMaker::make_now(const Lease& lease, queue::Record& record) {
  const auto& bytes = lease.message->content.bytes;
  const std::string_view original = bytes ? std::string_view(*bytes) : std::string_view();
  add_notices(lease, original, record,
              {*context_.settings, *context_.queue, context_.log, context_.random,
               context_.clock.now(), *context_.double_bounces});
}

// The beginning of a large original is read on the pool.
Task<std::string> NoticeMaker::read_original(std::shared_ptr<const mail::Message> message) {
  std::function<std::string()> read = [open_body = context_.open_body(),
                                       message = std::move(message)] {
    auto bytes = load_bytes(*message, open_body, kMostQuoted);
    return bytes ? *std::move(bytes) : std::string();
  };
  auto original = co_await pool_.run<std::string>(context_.home, std::move(read));
  co_return original;
}

}  // namespace postrider::delivery
