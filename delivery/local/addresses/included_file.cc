#include "delivery/local/addresses/included_file.h"

#include "base/in_time.h"
#include "base/named_file.h"
#include "base/text.h"
#include "delivery/job/message_body.h"
#include "delivery/local/agents/settled_file.h"

#include <memory>
#include <optional>
#include <utility>

namespace postrider::delivery {

namespace {

constexpr std::size_t kMost = 4U << 20U;
constexpr std::size_t kBlock = 64U << 10U;

struct Read {
  FileDescriptor file;
  struct stat before {};
  std::string text;
  uid_t owner = 0;
};

Result<Read> read(const std::string& path, uid_t author) {
  const auto shown = escaped(path);
  Read read;
  auto named = open_named_file(path, author);
  if (!named)
    return named.error();
  read.file = std::move(named->file);
  read.owner = named->owner;
  if (::fstat(read.file.get(), &read.before) != 0)
    return system_error("stat " + shown);
  std::string block(kBlock, '\0');
  for (;;) {
    const auto got = read_block(read.file, block);
    if (!got)
      return got.error().during(shown);
    if (*got == 0)
      return read;
    if (read.text.size() + *got > kMost)
      return Error(Errc::too_long, shown + ": is larger than 4 MiB");
    read.text.append(block, 0, *got);
  }
}

// Those of one folder one after another: they hang together.
std::string key_of(const std::string& path) {
  return "include " + path.substr(0, path.rfind('/') + 1);
}

}  // namespace

Result<IncludedFile> read_included(const std::string& path, uid_t author) {
  const auto shown = escaped(path);
  const auto found = std::make_shared<std::optional<Result<Read>>>();
  if (!done_in_turn(key_of(path), [found, path, author] { found->emplace(read(path, author)); }) ||
      !found->has_value())
    return Error(boost::system::errc::make_error_code(boost::system::errc::timed_out),
                 shown + ": could not be read in time: its file system does not answer");
  auto& done = **found;
  if (!done)
    return done.error();
  if (auto settled = check_settled(done->file, done->before, done->text, Settling::always, shown);
      !settled)
    return settled.error();
  return IncludedFile{std::move(done->text), done->owner};
}

}  // namespace postrider::delivery
