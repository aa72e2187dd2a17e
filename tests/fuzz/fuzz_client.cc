// The sending side against any bytes of a remote: no crash, every job ends once and with every
// recipient, and nothing is delivered without a positive reply.
#include "base/assert.h"
#include "delivery/smtp/client.h"

#include <cstddef>
#include <cstdint>
#include <memory>

using namespace postrider;
using namespace postrider::delivery;

namespace {

std::shared_ptr<const mail::Message> make_message() {
  auto message = std::make_shared<mail::Message>();
  message->id.value = 1;
  message->envelope.sender = "from@sender.test";
  for (const char* recipient : {"a@x.test", "b@x.test", "c@x.test"})
    message->envelope.recipients.push_back({recipient, {}, {}});
  message->content.bytes =
      std::make_shared<const std::string>("Subject: x\r\n\r\n.dot\r\n\r\nend\r\n");
  message->content.size = message->content.bytes->size();
  return message;
}

Job make_job(const std::shared_ptr<const mail::Message>& message, std::uint64_t number) {
  Job job;
  job.lease = number;
  job.message = message;
  job.recipients = {0, 1, 2};
  return job;
}

struct Count {
  std::uint64_t begun = 0;
  std::uint64_t ended = 0;

  void collect(Client& client) {
    for (const auto& end : client.take_ended()) {
      ++ended;
      unsigned seen = 0;
      for (const auto& result : end.results) {
        seen += 1U << (8 * result.index);
        if (result.outcome.verdict == mail::Verdict::delivered)
          POSTRIDER_ASSERT(result.outcome.reply.is_positive());
        POSTRIDER_ASSERT(static_cast<bool>(result.outcome.status));
      }
      for (const auto index : end.unsettled)
        seen += 1U << (8 * index);
      POSTRIDER_ASSERT(seen == 0x010101U);
    }
  }
};

void write_out(Client& client) {
  for (const auto& piece : client.take_output())
    if (piece.body)
      client.body_written();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 2)
    return 0;
  static const auto message = make_message();
  const bool is_lmtp = (data[0] & 1U) != 0;
  const std::size_t step = 1 + data[1];
  Client client("us.test", "mx[192.0.2.1]:25", is_lmtp ? Dialect::lmtp : Dialect::smtp);
  Count count;
  std::string_view rest(reinterpret_cast<const char*>(data + 2), size - 2);
  while (!rest.empty() && !client.is_closing()) {
    const auto fed = client.feed(rest.substr(0, step));
    rest.remove_prefix(std::min(step, rest.size()));
    if (!fed)
      client.lost(fed.error());
    count.collect(client);
    while (client.can_begin() && count.begun < 20)
      client.begin(make_job(message, ++count.begun), nullptr);
    write_out(client);
    (void)client.stage();
  }
  client.lost(Error(Errc::stopped, "end"));
  count.collect(client);
  POSTRIDER_ASSERT(count.begun == count.ended);
  return 0;
}
