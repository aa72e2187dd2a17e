// The Maildir++ quota: the file maildirsize holds the limits in its first line ("1000000S,100C"),
// then one "size count" line for each change. Who delivers honours and updates it; setting it is
// the mail reader's side's affair. A file that is too long, or that says "full" for a while, is
// counted again.
#pragma once

#include "base/file.h"
#include "base/result.h"

#include <cstdint>
#include <optional>
#include <string_view>

namespace postrider::delivery {

struct MaildirQuota {
  std::uint64_t octets = 0;    // 0: no limit
  std::uint64_t messages = 0;  // 0: no limit
};
struct MaildirSize {
  MaildirQuota quota;
  std::int64_t octets = 0;
  std::int64_t messages = 0;
};
// Pure. nullopt: not to be understood, which means no quota.
std::optional<MaildirQuota> parse_quota(std::string_view line);
// The whole file; lines that are no numbers make it unusable.
std::optional<MaildirSize> parse_maildirsize(std::string_view text);
// The size in a message's file name, ",S=1234"; nullopt if it is not there.
std::optional<std::uint64_t> size_in_name(std::string_view name);

enum class Room : std::uint8_t { enough, full, never };
// Whether a message of this size fits now; `never`: it is larger than the whole quota.
Result<Room> room_in(const FileDescriptor& maildir, std::uint64_t octets);
// After the delivery.
void note_delivered(const FileDescriptor& maildir, std::uint64_t octets);
void note_removed(const FileDescriptor& maildir, std::uint64_t octets);

}  // namespace postrider::delivery
