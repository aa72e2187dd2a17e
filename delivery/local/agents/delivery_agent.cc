#include "delivery/local/agents/delivery_agent.h"

#include "base/text.h"
#include "delivery/local/agents/local_file.h"
#include "delivery/local/agents/maildir.h"
#include "delivery/local/agents/mbox.h"
#include "delivery/local/agents/pipe_command.h"
#include "delivery/local/agents/settled_file.h"
#include "mail/envelope.h"
#include "mail/header.h"

#include <array>
#include <cerrno>
#include <fcntl.h>
#include <pwd.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>

namespace postrider::delivery {

namespace {

constexpr std::size_t kMostForward = 64U << 10U;

// A name that is longer than a file's can be is none's.
bool is_missing(int number) {
  return number == ENOENT || number == ENOTDIR || number == ENAMETOOLONG;
}

// A socket, a device without a driver: open(2) fails, each in its own way.
bool is_special(const std::string& path) {
  struct stat about {};
  return ::lstat(path.c_str(), &about) == 0 && !S_ISREG(about.st_mode) && !S_ISLNK(about.st_mode);
}

Error refused(const std::string& path, const char* why) {
  return Error(Errc::refused, escaped(path) + " is not used: " + why);
}

// nullptr: it may be trusted.
const char* why_not_trusted(const struct stat& about, uid_t owner) {
  if (!S_ISREG(about.st_mode))
    return "it is not a regular file";
  if (about.st_uid != owner && about.st_uid != 0)
    return "it belongs to another user";
  if ((about.st_mode & (S_IWGRP | S_IWOTH)) != 0)
    return "others may write to it";
  return nullptr;
}

}  // namespace

mail::Outcome perform_here(const LocalJob& job, const LocalBody& body,
                           const CommandSetting& setting) {
  switch (job.target.kind) {
    case LocalTarget::Kind::maildir:
      return deliver_to_maildir(job, body);
    case LocalTarget::Kind::mbox:
      return deliver_to_mbox(job, body);
    case LocalTarget::Kind::command:
      return deliver_to_command(job, body, setting);
    case LocalTarget::Kind::lmtp:
      break;
  }
  return local_end(mail::Verdict::retry, {4, 3, 5}, "no delivery of this kind is made here");
}

Result<std::optional<std::string>> read_forward_here(const std::string& home,
                                                     const std::string& name, uid_t owner) {
  const auto path = home + "/" + name;
  const FileDescriptor file(
      ::open(path.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC));
  if (!file.is_open() && is_missing(errno))
    return std::optional<std::string>();
  if (!file.is_open() && errno == ELOOP)
    return refused(path, "it is a symbolic link");
  if (!file.is_open() && errno == EACCES)
    return refused(path, "its user may not read it");
  if (const int number = errno; !file.is_open())
    return is_special(path) ? refused(path, "it is not a regular file")
                            : system_error(number, "open " + escaped(path));
  struct stat about {};
  if (::fstat(file.get(), &about) != 0)
    return system_error("open " + escaped(path));
  if (const char* why = why_not_trusted(about, owner))
    return refused(path, why);
  std::string text;
  std::array<char, 4096> room{};
  for (;;) {
    const auto got = ::read(file.get(), room.data(), room.size());
    if (got < 0)
      return system_error("read " + escaped(path));
    if (got == 0)
      break;
    text.append(room.data(), static_cast<std::size_t>(got));
    if (text.size() > kMostForward)
      return refused(path, "it is larger than 64 KiB");
  }
  if (auto settled = check_settled(file, about, text, Settling::if_cut, escaped(path)); !settled)
    return settled.error();
  return std::optional(std::move(text));
}

OwnPerformer::OwnPerformer() : stop_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {}

void OwnPerformer::stop() {
  const std::uint64_t one = 1;
  (void)!::write(stop_.get(), &one, sizeof one);
}

mail::Outcome OwnPerformer::perform(const LocalJob& job, LocalBody body) {
  return perform_here(job, body, {stop_.get(), nullptr, false});
}

Result<std::optional<std::string>> OwnPerformer::read_forward(const std::string& user,
                                                              const std::string& name) {
  std::array<char, 16384> room{};
  passwd entry{};
  passwd* found = nullptr;
  const int failed = ::getpwnam_r(user.c_str(), &entry, room.data(), room.size(), &found);
  if (failed != 0)
    return system_error(failed, "look up user " + escaped(user));
  if (found == nullptr)
    return std::optional<std::string>();
  return read_forward_here(entry.pw_dir, name, entry.pw_uid);
}

namespace {

// "ann+tag@x" is "ann@x".
std::string without_extension(std::string_view address, std::string_view separator) {
  const auto local_part = mail::local_part_of(address);
  const auto at = std::min(local_part.find_first_of(separator), local_part.size());
  const auto name = at == 0 ? local_part : local_part.substr(0, at);
  return std::string(name) + std::string(address.substr(local_part.size()));
}

}  // namespace

bool was_delivered_to(std::string_view content, std::string_view address,
                      std::string_view separator) {
  const auto wanted = without_extension(address, separator);
  mail::HeaderScanner scanner(content);
  mail::HeaderField field;
  while (scanner.next(field))
    if (equals_ignoring_case(field.name, "Delivered-To") &&
        equals_ignoring_case(without_extension(trim(split(field.value, '\r').front()), separator),
                             wanted))
      return true;
  return false;
}

std::size_t count_delivered_to(std::string_view content) {
  std::size_t count = 0;
  mail::HeaderScanner scanner(content);
  mail::HeaderField field;
  while (scanner.next(field))
    count += equals_ignoring_case(field.name, "Delivered-To") ? 1 : 0;
  return count;
}

}  // namespace postrider::delivery
