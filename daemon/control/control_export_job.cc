// Messages as files (daemon/control/message_file.h): who asks writes them.
#include "base/base64.h"
#include "daemon/control/content_reader.h"
#include "daemon/control/control_filter.h"
#include "daemon/control/control_jobs.h"
#include "daemon/control/control_json.h"
#include "daemon/control/message_file.h"
#include "queue/checksum.h"

#include <deque>
#include <optional>
#include <sysexits.h>

namespace postrider::daemon {

namespace {

namespace json = boost::json;

constexpr std::size_t kExportedAtOnce = 50;
constexpr std::size_t kPiecesOfHead = 48U << 10U;

// For each message {"export":{...}}, {"content":"base64"} as often as needed, {"exported":{...}};
// or {"skipped":{...}} with the reason.
class ExportJob : public ControlJob {
 public:
  ExportJob(const JobContext& context, queue::Filter filter)
      : context_(context), filter_(std::move(filter)) {}

  bool step(std::string& out) override {
    if (reader_)
      return give_piece(out);
    if (!found_.empty()) {
      const auto listed = std::move(found_.front());
      found_.pop_front();
      if (listed.id > latest_)  // what moved meanwhile may come twice
        begin(listed, out);
      return true;
    }
    if (is_last_)
      return finish(out);
    auto page = context_.queue.list_on(filter_, after_, kExportedAtOnce);
    if (!page)
      return fail(EX_IOERR, unreadable_queue(page.error()), out);
    is_last_ = page->is_last;
    after_ = page->after;
    std::move(page->messages.begin(), page->messages.end(), std::back_inserter(found_));
    return true;
  }
  bool is_long() const override { return true; }

 private:
  void skip(const std::string& reason, std::string& out) {
    json::object object;
    object["id"] = to_string(latest_);
    object["reason"] = json_text(reason);
    add_line("skipped", std::move(object), out);
  }

  // With those recipients alone that match and are not at an end, nor to be bounced from here.
  void begin(const queue::ListedMessage& listed, std::string& out) {
    latest_ = listed.id;
    auto loaded = context_.queue.load(listed.id);
    if (!loaded)
      return skip(loaded.error().code() == Errc::not_found ? "it has left the queue"
                                                           : loaded.error().describe(),
                  out);
    auto message = std::make_shared<mail::Message>(**loaded);
    std::vector<mail::Recipient> recipients;
    std::vector<std::uint32_t> held;
    for (const auto& each : listed.recipients) {
      if (each.index >= message->envelope.recipients.size() ||
          each.state == queue::RecipientState::bouncing)
        continue;
      if (each.state == queue::RecipientState::held)
        held.push_back(static_cast<std::uint32_t>(recipients.size()));
      recipients.push_back(message->envelope.recipients[each.index]);
    }
    if (recipients.empty())
      return skip("it is about to bounce", out);
    message->envelope.recipients = std::move(recipients);
    const auto checksum = checksum_if_whole(message);
    if (!checksum)
      return skip(checksum.error().describe(), out);
    head_ = message_file_head(*message, *checksum, held);
    size_ = head_.size() + message->content.size;
    reader_.emplace(context_.queue, message);
    json::object object;
    object["id"] = to_string(listed.id);
    object["sender"] = json_text(message->envelope.sender);
    object["recipients"] = message->envelope.recipients.size();
    object["size"] = message->content.size;
    add_line("export", std::move(object), out);
  }

  Result<std::uint32_t> checksum_if_whole(const std::shared_ptr<const mail::Message>& message) {
    ContentReader reader(context_.queue, message);
    queue::Checksum checksum;
    std::uint64_t size = 0;
    std::string piece;
    do {
      if (auto read = reader.next(piece); !read)
        return read.error().during("read its content");
      checksum.feed(piece);
      size += piece.size();
    } while (!piece.empty());
    if (size != message->content.size)
      return Error(Errc::corrupt, "its content is not what was stored");
    return checksum.value();
  }

  bool give_piece(std::string& out) {
    std::string piece = head_.substr(0, kPiecesOfHead);
    head_.erase(0, piece.size());
    if (piece.empty())
      if (auto read = reader_->next(piece); !read) {
        reader_.reset();
        skip(read.error().describe(), out);
        return true;
      }
    if (!piece.empty()) {
      add_line("content", json::string(encode_base64(piece)), out);
      return true;
    }
    reader_.reset();
    json::object object;
    object["id"] = to_string(latest_);
    object["size"] = size_;
    add_line("exported", std::move(object), out);
    return true;
  }

  JobContext context_;
  queue::Filter filter_;
  std::deque<queue::ListedMessage> found_;
  bool is_last_ = false;
  mail::MessageId after_, latest_;
  std::optional<ContentReader> reader_;
  std::string head_;
  std::uint64_t size_ = 0;  // of the file
};

}  // namespace

std::unique_ptr<ControlJob> export_job(const JobContext& context, const ControlRequest& request) {
  auto filter = to_filter(request.filter);
  if (!filter)
    return refused_job(EX_USAGE, filter.error().step());
  if (is_of_drop_folder(*filter))
    return refused_job(EX_USAGE, "what lies in the drop folder is not in the queue yet");
  return std::make_unique<ExportJob>(context, std::move(*filter));
}

}  // namespace postrider::daemon
