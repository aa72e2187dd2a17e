#include "daemon/pickup/drop_listing.h"

#include "base/text.h"
#include "base/user_mounts.h"
#include "daemon/pickup/drop_file.h"
#include "mail/envelope.h"

#include <algorithm>
#include <cerrno>
#include <dirent.h>
#include <fcntl.h>
#include <memory>
#include <sys/stat.h>

namespace postrider::daemon {

namespace {

constexpr std::size_t kMostNames = 100'000;
// Of a part of a listing: users choose what stands in their files, and a message is never divided.
constexpr std::size_t kMostOctets = 1U << 20U;

std::size_t octets_of(const DroppedMessage& message) {
  auto octets = message.sender.size();
  for (const auto& recipient : message.recipients)
    octets += sizeof recipient + recipient.size();
  return octets;
}
constexpr std::size_t kIdLength = 11;
constexpr const char* kDropped = "dropped";
constexpr const char* kRefused = "refused";

bool is_refused(std::string_view name) {
  return name.ends_with(kDropRefused);
}

bool is_message(std::string_view name) {
  return name.starts_with(kDropReady) || name.starts_with(kDropTaken);
}

TimePoint time_of(std::int64_t nanoseconds) {
  return TimePoint(std::chrono::duration_cast<Duration>(
      std::chrono::nanoseconds(std::max<std::int64_t>(nanoseconds, 0))));
}

// "taken.ID.RANDOM" or "msg.RANDOM"
std::string id_in(std::string_view name) {
  const auto prefix = name.starts_with(kDropTaken) ? kDropTaken : kDropReady;
  name.remove_prefix(prefix.size());
  return std::string(name.substr(0, std::min(name.find('.'), kIdLength)));
}

bool matches_address(const std::string& wanted, const std::string& address) {
  if (wanted.starts_with('@'))
    return mail::domain_of(wanted) == mail::domain_of(address);
  return equals_ignoring_case(wanted == "<>" ? std::string() : wanted, address);
}

bool matches_message(const queue::Filter& filter, const DroppedMessage& message, TimePoint now) {
  if (filter.from && !matches_address(*filter.from, message.sender))
    return false;
  if (filter.status && *filter.status != message.status)
    return false;
  if (filter.reply &&
      ascii_lower(message.reason).find(ascii_lower(*filter.reply)) == std::string::npos)
    return false;
  if (filter.older && message.received > now - *filter.older)
    return false;
  return !filter.larger || message.size > *filter.larger;
}

// Leaves the recipients that match. Whether the message does.
bool apply(const queue::Filter& filter, DroppedMessage& message, TimePoint now) {
  if (!matches_message(filter, message, now))
    return false;
  if (!filter.to && !filter.domain)
    return true;
  std::erase_if(message.recipients, [&](const std::string& address) {
    return (filter.to && !matches_address(*filter.to, address)) ||
           (filter.domain && !matches_address("@" + *filter.domain, address));
  });
  return !message.recipients.empty();
}

}  // namespace

bool is_of_drop_folder(const queue::Filter& filter) {
  return filter.status && (*filter.status == kDropped || *filter.status == kRefused);
}

bool may_match_dropped(const queue::Filter& filter) {
  return filter.ids.empty() && !filter.site && (!filter.status || is_of_drop_folder(filter));
}

DropListing::DropListing(const DropPlace& place, queue::Queue& queue)
    : place_(place), queue_(queue) {
  if (place_.spool.empty())
    return;
  auto folder = open_file(drop_folder_path(place_.spool), O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
  if (!folder)
    return;
  folder_ = std::move(*folder);
  look();
}

bool DropListing::is_in_queue(const std::string& name, std::uint64_t uid) const {
  return name.starts_with(kDropTaken) && known_.contains(id_in(name) + "." + std::to_string(uid));
}

void DropListing::look() {
  FileDescriptor own(::openat(folder_.get(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  const std::unique_ptr<DIR, int (*)(DIR*)> entries(
      own.is_open() ? ::fdopendir(own.get()) : nullptr, ::closedir);
  if (!entries)
    return;
  own.release();
  const auto mount = mount_of(folder_);
  while (const dirent* entry = names_.size() < kMostNames ? ::readdir(entries.get()) : nullptr) {
    Name name;
    name.name = entry->d_name;
    struct stat about {};
    if (!is_message(name.name) || !look_within(folder_, mount, name.name, about) ||
        !S_ISREG(about.st_mode))
      continue;
    name.modified = about.st_mtim.tv_sec * std::int64_t{1'000'000'000} + about.st_mtim.tv_nsec;
    name.uid = about.st_uid;
    name.size = static_cast<std::uint64_t>(about.st_size);
    names_.push_back(std::move(name));
  }
  // Read behind the names: what is accepted meanwhile is in the queue.
  if (auto known = queue_.dropped(); known && !names_.empty())
    known_.insert(known->begin(), known->end());
  std::erase_if(names_, [this](const Name& name) { return is_in_queue(name.name, name.uid); });
  std::sort(names_.begin(), names_.end(), [](const Name& a, const Name& b) {
    return a.modified != b.modified ? a.modified < b.modified : a.name < b.name;
  });
}

DropTotals DropListing::totals() const {
  DropTotals totals;
  for (const auto& name : names_) {
    if (is_refused(name.name)) {
      ++totals.refused;
      continue;
    }
    if (totals.waiting++ == 0)
      totals.oldest = time_of(name.modified);
  }
  return totals;
}

std::string DropListing::why_all_wait() const {
  if (!place_.why)
    return "the mail system is down";
  switch (queue_.ask_admission()) {
    case queue::Admission::open:
      return {};
    case queue::Admission::disk_low:
      return "no new mail is taken: the disk is nearly full";
    case queue::Admission::failed:
      return "no new mail is taken: the storage failed";
    case queue::Admission::stopping:
      return "the mail system is stopping";
  }
  return {};
}

// nullopt: it is gone.
std::optional<DroppedMessage> DropListing::read(const Name& name) const {
  DroppedMessage message;
  message.id = id_in(name.name);
  message.file = name.name;
  message.status = is_refused(name.name) ? kRefused : kDropped;
  message.received = time_of(name.modified);
  message.size = name.size;
  message.uid = name.uid;
  const auto opened = open_drop_file(folder_, name.name, place_.message_size);
  if (!opened && opened.error().code() == boost::system::errc::no_such_file_or_directory)
    return std::nullopt;
  std::string fault;
  if (opened && known_.contains(hand_over_id(opened->header, name.uid)))
    return std::nullopt;  // it came by the socket
  if (opened) {
    const auto& header = opened->header;
    message.size = header.size;
    message.sender = header.sender;
    message.recipients = header.recipients;
    const auto envelope = to_envelope(header, place_.origin, kMostSubmitRecipients);
    if (envelope) {
      message.sender = envelope->sender;
      message.recipients.clear();
      for (const auto& recipient : envelope->recipients)
        message.recipients.push_back(recipient.address);
    } else {
      fault = envelope.error().step();
      if (!message.sender.empty() && message.sender.find('@') == std::string::npos)
        message.sender += "@" + place_.origin;
    }
  } else {
    fault = opened.error().describe();
  }
  if (message.status == kRefused) {
    message.reason = fault.empty() ? "refused: see drop_refused in the log" : "refused: " + fault;
    return message;
  }
  message.reason = why_all_wait();
  if (message.reason.empty())
    message.reason = place_.why(name.uid);
  if (message.reason.empty())
    message.reason = "not taken yet";
  if (!fault.empty())
    message.reason += "; it will be refused: " + fault;
  return message;
}

bool DropListing::read_some(std::size_t most, const queue::Filter& filter, TimePoint now,
                            std::vector<DroppedMessage>& found) {
  if (!may_match_dropped(filter))
    return false;
  std::size_t octets = 0;
  for (; next_ < names_.size() && most > 0 && octets < kMostOctets; ++next_, --most)
    if (auto message = read(names_[next_]); message && apply(filter, *message, now)) {
      octets += octets_of(*message);
      found.push_back(std::move(*message));
    }
  return next_ < names_.size();
}

}  // namespace postrider::daemon
