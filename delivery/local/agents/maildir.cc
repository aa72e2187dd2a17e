#include "delivery/local/agents/maildir.h"

#include "base/file.h"
#include "base/text.h"
#include "delivery/local/agents/local_content.h"
#include "delivery/local/agents/local_file.h"
#include "delivery/local/agents/mailbox_pattern.h"
#include "delivery/local/agents/maildir_quota.h"

#include <atomic>
#include <cerrno>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace postrider::delivery {

namespace {

using mail::Outcome;
using mail::Verdict;

// "1700000000.M123P789Q12.mx.example.org"; unique on this machine.
std::string unique_name(const LocalEnvelope& envelope) {
  static std::atomic<std::uint64_t> deliveries{0};
  const auto ms = envelope.now.time_since_epoch().count();
  return std::to_string(ms / 1000) + ".M" + std::to_string(ms % 1000) + "P" +
         std::to_string(::getpid()) + "Q" + std::to_string(++deliveries) + "I" +
         path_component(envelope.id) + "." + path_component(envelope.hostname);
}

struct Folders {
  FileDescriptor top, temporary, fresh;
};

Result<Folders> open_folders(const LocalTarget& target) {
  auto top = enter_place(target, true);
  if (!top)
    return top.error();
  auto temporary = enter_folder(*top, "tmp");
  auto fresh = enter_folder(*top, "new");
  if (auto seen = enter_folder(*top, "cur"); !seen)
    return seen.error();
  if (!temporary || !fresh)
    return temporary ? fresh.error() : temporary.error();
  return Folders{std::move(*top), std::move(*temporary), std::move(*fresh)};
}

// Gives the octets written.
Result<std::uint64_t> write_content(const LocalJob& job, const LocalBody& body,
                                    const FileDescriptor& file) {
  LocalContent content(job, body);
  std::uint64_t octets = 0;
  for (std::string piece;;) {
    if (auto next = content.next(piece); !next)
      return next.error();
    if (piece.empty())
      break;
    if (auto written = write_all(file, piece); !written)
      return written.error();
    octets += piece.size();
  }
  if (auto synced = sync_file(file); !synced)
    return synced.error();
  return octets;
}

Outcome full(Room room) {
  if (room == Room::never)
    return local_end(Verdict::bounce, {5, 2, 2}, "the message is larger than the mailbox's quota");
  return local_end(Verdict::retry, {4, 2, 2}, "the mailbox is full");
}

// It will be delivered again, so it must not stay.
Outcome take_back(const Folders& folders, const std::string& visible, Outcome outcome) {
  if (::unlinkat(folders.fresh.get(), visible.c_str(), 0) != 0)
    outcome.text += "; and it could not be taken back: " + system_error("unlink").describe();
  else
    (void)sync_file(folders.fresh);
  return outcome;
}

// From a whole file in tmp to a message in new.
Outcome make_visible(const Folders& folders, const std::string& name, std::uint64_t octets) {
  const auto room = room_in(folders.top, octets);
  if (!room)
    return local_failure(room.error());
  if (*room != Room::enough)
    return full(*room);
  const auto visible = name + ",S=" + std::to_string(octets);
  if (::renameat(folders.temporary.get(), name.c_str(), folders.fresh.get(), visible.c_str()) != 0)
    return local_failure(system_error("rename to new"));
  note_delivered(folders.top, octets);
  if (auto synced = sync_file(folders.fresh); !synced) {
    note_removed(folders.top, octets);
    return take_back(folders, visible, local_failure(synced.error()));
  }
  return local_end(Verdict::delivered, {2, 0, 0}, "");
}

}  // namespace

Outcome deliver_to_maildir(const LocalJob& job, const LocalBody& body) {
  const auto folders = open_folders(job.target);
  if (!folders)
    return local_failure(folders.error());
  const auto name = unique_name(job.envelope);
  auto file =
      open_file_at(folders->temporary, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0600);
  if (!file)
    return local_failure(file.error());
  const auto octets = write_content(job, body, *file);
  auto outcome = octets ? make_visible(*folders, name, *octets) : local_failure(octets.error());
  if (outcome.verdict == Verdict::delivered)
    outcome.text = "delivered to " + escaped(job.target.describe());
  else
    ::unlinkat(folders->temporary.get(), name.c_str(), 0);
  return outcome;
}

}  // namespace postrider::delivery
