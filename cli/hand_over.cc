#include "cli/hand_over.h"

#include "base/random.h"
#include "daemon/protocol/control_client.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <fcntl.h>
#include <optional>
#include <sys/stat.h>
#include <sysexits.h>
#include <unistd.h>
#include <utility>

namespace postrider::cli {

namespace {

using daemon::LocalConnection;
using daemon::SubmitAnswer;
using daemon::SubmitHeader;

constexpr Duration kPatienceWithRefusals{1000};
constexpr std::size_t kMostAnswer = 64U << 10U;
constexpr const char* kDropped = "dropped";
// Recipients of one submission, however many the daemon would take or, unknown to us, does.
constexpr std::size_t kMostInAPart = 1000;

SubmitAnswer failure(int exit_code, std::string sentence) {
  SubmitAnswer answer;
  answer.exit_code = exit_code;
  answer.error = std::move(sentence);
  return answer;
}

// nullopt: no daemon takes it. A connection that is lost before the answer is the same: if the
// message was stored and only its answer is missing, the file with the same SubmitHeader::hand_over
// is not taken for another. A daemon that comes to it late stores nothing for a sender who has
// left.
std::optional<SubmitAnswer> submit(const std::string& path, const SubmitHeader& header,
                                   const ContentStore& content, Duration patience) {
  auto connection = LocalConnection::connect(path, patience);
  if (!connection)
    return std::nullopt;
  connection->set_timeout(patience);
  auto written = connection->write(encode(header));
  if (written)
    written = content.read([&](std::string_view piece) { return connection->write(piece); });
  // Refused before it was read, a message still has an answer. Otherwise there will be none to what
  // was not sent.
  if (!written)
    connection->set_timeout(std::min(patience, kPatienceWithRefusals));
  const auto line = connection->read_line(kMostAnswer);
  if (!line)
    return std::nullopt;
  auto answer = daemon::decode_submit_answer(*line);
  if (!answer)
    return failure(EX_PROTOCOL,
                   "the daemon's answer was not understood; is it of another version?");
  return *std::move(answer);
}

std::string random_name() {
  SystemRandom random;
  std::array<char, 40> text{};
  const auto high = static_cast<unsigned long long>(random.next());
  const auto low = static_cast<unsigned long long>(random.next());
  std::snprintf(text.data(), text.size(), "%016llx%016llx", high, low);
  return text.data();
}

// Others may write to the folder but not open it for reading, which its fsync needs: then the whole
// file system is synced.
Result<void> sync_names(const FileDescriptor& file, const FileDescriptor& folder) {
  const auto readable = open_file_at(folder, ".", O_RDONLY | O_DIRECTORY);
  if (readable && sync_file(*readable))
    return {};
  if (::syncfs(file.get()) != 0)
    return system_error("syncfs");
  return {};
}

Result<void> fill(const FileDescriptor& file, const SubmitHeader& header,
                  const ContentStore& content) {
  if (auto written = write_all(file, encode(header)); !written)
    return written;
  if (auto copied = content.read([&](std::string_view piece) { return write_all(file, piece); });
      !copied)
    return copied;
  // The folder hands its group on: that of the daemon, which must read the file.
  if (::fchmod(file.get(), 0640) != 0)
    return system_error("chmod");
  return sync_file(file);
}

}  // namespace

// On a descriptor of the folder itself, never through a link in its place: the sender may be root,
// and the spool belongs to the daemon's user.
Result<void> drop_message(const std::string& spool, const SubmitHeader& header,
                          const ContentStore& content, const std::string& user) {
  const auto path = daemon::drop_folder_path(spool);
  const auto name = random_name();
  const auto unfinished = std::string(daemon::kDropUnfinished) + name;
  const auto ready = std::string(daemon::kDropReady) + name;
  const auto folder = daemon::open_drop_folder(spool, user);
  if (!folder)
    return folder.error();
  auto file = open_file_at(*folder, unfinished, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0600);
  if (!file)
    return file.error();
  auto done = fill(*file, header, content);
  if (done && ::renameat(folder->get(), unfinished.c_str(), folder->get(), ready.c_str()) != 0)
    done = system_error("rename");
  if (!done) {
    ::unlinkat(folder->get(), unfinished.c_str(), 0);
    return done.error().during("write to " + path);
  }
  if (auto synced = sync_names(*file, *folder); !synced) {
    // Its sender hears that it was not taken. If the daemon was quicker, it was.
    if (::unlinkat(folder->get(), ready.c_str(), 0) == 0 || errno != ENOENT)
      return synced.error().during("write to " + path);
  }
  return {};
}

namespace {

SubmitAnswer leave(const daemon::ToolPaths& places, const SubmitHeader& header,
                   const ContentStore& content) {
  if (!places.no_drop.empty())
    return failure(
        EX_TEMPFAIL,
        "the mail system is down or busy, and the message is not left for it: " + places.no_drop);
  if (auto dropped = drop_message(places.spool, header, content, places.user); !dropped)
    return failure(EX_TEMPFAIL,
                   "the mail system is down or busy, and the message could not be left for it: " +
                       dropped.error().describe());
  SubmitAnswer answer;
  answer.id = kDropped;
  return answer;
}

// rest: others have their copy already, so a limit that passes is no reason to fail.
SubmitAnswer hand_over_part(const daemon::ToolPaths& places, const SubmitHeader& header,
                            const ContentStore& content, bool rest, Duration patience) {
  if (encode(header).size() > daemon::kMostSubmitHeader)
    return failure(EX_DATAERR, "the envelope is larger than 4 MiB");
  auto answer = submit(places.submit_socket, header, content, patience);
  if (!answer || answer->busy || (rest && answer->exit_code == EX_TEMPFAIL))
    return leave(places, header, content);
  return *std::move(answer);
}

}  // namespace

// What can be wrong with the message or one of its recipients is found before the first part.
SubmitAnswer hand_over(const daemon::ToolPaths& places, SubmitHeader header,
                       const ContentStore& content, Duration patience) {
  header.size = content.size();
  // The daemon says the same, but may be down.
  if (header.size > places.message_size)
    return failure(EX_DATAERR, daemon::too_large(places.message_size));
  const auto envelope = daemon::to_envelope(header, places.origin, daemon::kMostSubmitRecipients);
  if (!envelope)
    return failure(EX_DATAERR, envelope.error().step());
  const auto& all = envelope->recipients;
  const auto most = std::clamp<std::size_t>(places.recipients, 1, kMostInAPart);
  SubmitAnswer whole;
  const auto asked = std::exchange(header.dsn, {});
  for (std::size_t at = 0; at < all.size(); at += most) {
    header.recipients.clear();
    header.dsn.clear();
    header.hand_over = daemon::new_hand_over();
    for (auto i = at; i < std::min(at + most, all.size()); ++i) {
      header.recipients.push_back(all[i].address);
      if (!asked.empty())
        header.dsn[all[i].address] = {all[i].notify, all[i].original_recipient};
    }
    auto answer = hand_over_part(places, header, content, at > 0, patience);
    if (answer.exit_code != EX_OK) {
      if (at > 0)
        answer.error = "sent to the first " + std::to_string(at) + " of " +
                       std::to_string(all.size()) +
                       " recipients, not to the others: " + answer.error;
      return answer;
    }
    if (whole.id != answer.id)
      whole.id.append(whole.id.empty() ? "" : ", ").append(answer.id);
  }
  return whole;
}

}  // namespace postrider::cli
