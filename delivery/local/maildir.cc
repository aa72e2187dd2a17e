#include "delivery/local/maildir.h"

#include "base/file.h"
#include "base/text.h"
#include "delivery/local/maildir_path.h"
#include "delivery/outcome.h"
#include "mail/address.h"
#include "mail/header.h"

#include <atomic>
#include <cerrno>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace postrider::delivery {

namespace {

using mail::Outcome;
using mail::Stage;
using mail::Verdict;

constexpr std::size_t kBlock = 128U << 10U;

Outcome end(Verdict verdict, mail::EnhancedCode status, std::string text) {
  auto outcome = decide(verdict, Stage::local, status, std::move(text));
  outcome.remote = "local";
  return outcome;
}

Outcome failed(const Error& error) {
  const auto number = error.code().value();
  const bool is_full = error.code().category() == boost::system::system_category() ||
                       error.code().category() == boost::system::generic_category();
  if (is_full && (number == ENOSPC || number == EDQUOT))
    return end(Verdict::retry, {4, 2, 2}, "the mailbox's disk is full: " + error.describe());
  return end(Verdict::retry, {4, 3, 0}, "the mailbox cannot be written: " + error.describe());
}

// One folder below another, made if need be; never through a symbolic link.
Result<FileDescriptor> enter(const FileDescriptor& parent, const std::string& name) {
  if (::mkdirat(parent.get(), name.c_str(), 0700) != 0 && errno != EEXIST)
    return system_error("make folder " + name);
  return open_file_at(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
}

Result<FileDescriptor> open_mailbox(const MailboxPlace& place) {
  if (auto made = make_folder(place.root, 0755); !made)
    return made.error();
  auto folder = open_file(place.root, O_RDONLY | O_DIRECTORY);
  for (const auto part : split(place.folder, '/')) {
    if (!folder)
      break;
    if (part.empty() || part == "." || part == "..")
      return Error(Errc::malformed, "mailbox " + escaped(place.folder));
    folder = enter(*folder, std::string(part));
  }
  if (!folder)
    return folder.error().during("open mailbox " + escaped(place.folder));
  return folder;
}

// "1700000000.M123456P789Q12.mx.example.org"; unique on this machine.
std::string unique_name(const std::string& hostname, TimePoint now) {
  static std::atomic<std::uint64_t> deliveries{0};
  const auto ms = now.time_since_epoch().count();
  return std::to_string(ms / 1000) + ".M" + std::to_string(ms % 1000) + "P" +
         std::to_string(::getpid()) + "Q" + std::to_string(++deliveries) + "." +
         path_component(hostname);
}

// CRLF becomes LF, over any splitting.
class LineEndReducer {
 public:
  void feed(std::string_view in, std::string& out) {
    while (!in.empty()) {
      if (held_ && in.front() != '\n')
        out.push_back('\r');
      held_ = false;
      const auto cr = in.find('\r');
      out.append(in.substr(0, cr));
      held_ = cr != in.npos;
      in.remove_prefix(held_ ? cr + 1 : in.size());
    }
  }

 private:
  bool held_ = false;  // a CR whose successor is not known yet
};

Result<void> write_content(const LocalDelivery& delivery, const std::string& top,
                           const FileDescriptor& file) {
  const auto& content = delivery.message->content;
  LineEndReducer reducer;
  std::string out = top;
  reducer.feed(content.trace, out);
  if (content.bytes) {
    reducer.feed(*content.bytes, out);
    return write_all(file, out);
  }
  auto body = delivery.open_body(*delivery.message);
  if (!body)
    return body.error();
  std::string block(kBlock, '\0');
  for (;;) {
    auto got = read_block(*body, block);
    if (!got)
      return got.error();
    reducer.feed(std::string_view(block.data(), *got), out);
    if (auto written = write_all(file, out); !written)
      return written.error();
    out.clear();
    if (*got == 0)
      return {};
  }
}

Result<void> store(const LocalDelivery& delivery, const std::string& top,
                   const MailboxPlace& place) {
  auto mailbox = open_mailbox(place);
  if (!mailbox)
    return mailbox.error();
  auto temporary = enter(*mailbox, "tmp");
  auto fresh = enter(*mailbox, "new");
  if (auto seen = enter(*mailbox, "cur"); !seen)
    return seen.error();
  if (!temporary || !fresh)
    return temporary ? fresh.error() : temporary.error();
  const auto name = unique_name(delivery.hostname, delivery.now);
  auto file = open_file_at(*temporary, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0600);
  if (!file)
    return file.error();
  auto written = write_content(delivery, top, *file);
  if (written)
    written = sync_file(*file);
  if (written && ::renameat(temporary->get(), name.c_str(), fresh->get(), name.c_str()) != 0)
    written = system_error("rename to new");
  if (!written) {
    ::unlinkat(temporary->get(), name.c_str(), 0);
    return written.error();
  }
  return sync_file(*fresh);
}

// The header section, as much of it as fits: enough to find our own field.
Result<std::string> beginning_of(const LocalDelivery& delivery) {
  return load_bytes(*delivery.message, delivery.open_body, kBlock);
}

// As it is, but never more than one line, whatever a damaged queue holds (attacks.md I11).
std::string one_line(std::string_view address) {
  std::string out(address);
  for (char& c : out)
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f)
      c = '?';
  return out;
}

bool was_delivered_to(std::string_view content, std::string_view address) {
  mail::HeaderScanner scanner(content);
  mail::HeaderField field;
  while (scanner.next(field))
    if (equals_ignoring_case(field.name, "Delivered-To") &&
        equals_ignoring_case(trim(split(field.value, '\r').front()), address))
      return true;
  return false;
}

}  // namespace

Outcome deliver_locally(const LocalDelivery& delivery) {
  const auto& message = *delivery.message;
  const auto& address = message.envelope.recipients[delivery.recipient].address;
  const auto given = mail::domain_of(address);
  const auto domain = given.empty() ? delivery.hostname : given;
  const auto local_part = mail::unquoted_local_part(mail::local_part_of(address));
  const auto user = local_user(local_part);
  auto answer = mail::Directory::Answer::unknown;
  if (!user.empty())
    answer = delivery.directory->lookup(local_part, domain);
  if (answer == mail::Directory::Answer::unknown)
    return end(Verdict::bounce, {5, 1, 1}, "there is no user " + escaped(address));
  if (answer == mail::Directory::Answer::cannot_tell)
    return end(Verdict::retry, {4, 3, 0},
               "cannot tell whether there is a user " + escaped(address));
  const auto place = mailbox_place(delivery.mailbox, user, domain);
  if (!place)
    return end(Verdict::retry, {4, 3, 5}, place.error().describe());
  const auto beginning = beginning_of(delivery);
  if (!beginning)
    return failed(beginning.error());
  if (was_delivered_to(*beginning, one_line(address)))
    return end(Verdict::bounce, {5, 4, 6}, "mail for " + escaped(address) + " loops");
  const auto top = "Return-Path: <" + one_line(message.envelope.sender) +
                   ">\nDelivered-To: " + one_line(address) + "\n";
  if (auto stored = store(delivery, top, *place); !stored)
    return failed(stored.error());
  auto outcome = end(Verdict::delivered, {2, 0, 0}, "delivered to mailbox " + user);
  return outcome;
}

}  // namespace postrider::delivery
