#include "daemon/protocol/effective.h"

#include "base/json.h"
#include "daemon/privsep/privileges.h"

#include <boost/json/serialize.hpp>

#include <algorithm>
#include <fcntl.h>
#include <filesystem>
#include <sys/stat.h>
#include <unistd.h>

namespace postrider::daemon {

namespace {

namespace json = boost::json;

constexpr std::size_t kMostEffective = 64U << 10U;

struct TextKey {
  const char* name;
  std::string ToolPaths::*member;
};
constexpr TextKey kTextKeys[] = {
    {"spool", &ToolPaths::spool},          {"control", &ToolPaths::control_socket},
    {"submit", &ToolPaths::submit_socket}, {"hostname", &ToolPaths::hostname},
    {"origin", &ToolPaths::origin},        {"user", &ToolPaths::user}};

struct flock whole_file(short kind) {
  struct flock lock {};
  lock.l_type = kind;
  lock.l_whence = SEEK_SET;
  return lock;
}

// A lock for writing is held: only who may write the file can have one.
bool is_held(const FileDescriptor& file) {
  auto lock = whole_file(F_RDLCK);
  return ::fcntl(file.get(), F_OFD_GETLK, &lock) == 0 && lock.l_type == F_WRLCK;
}

struct Trust {
  bool is_trusted = false;
  bool is_roots = false;
};

// Of one of the keepers of its folder, who alone may write to both.
Trust trust_in(const FileDescriptor& folder, const FileDescriptor& file,
               const std::vector<uid_t>& keepers) {
  struct stat above {};
  struct stat about {};
  if (::fstat(folder.get(), &above) != 0 || ::fstat(file.get(), &about) != 0)
    return {};
  const bool is_closed = S_ISREG(about.st_mode) && about.st_nlink == 1 &&
                         (about.st_mode & 0022U) == 0 && (above.st_mode & 0022U) == 0;
  const bool is_theirs = std::find(keepers.begin(), keepers.end(), about.st_uid) != keepers.end();
  return {is_closed && is_theirs, about.st_uid == 0 && above.st_uid == 0};
}

std::optional<Effective> decode(std::string_view text) {
  const auto object = parse_json_object(text);
  if (!object)
    return std::nullopt;
  Effective effective;
  const auto take = [&](const char* name, std::string& out) {
    const auto* value = object->if_contains(name);
    if (value == nullptr || !value->is_string())
      return false;
    out = std::string(value->get_string());
    return true;
  };
  for (const auto& key : kTextKeys)
    if (!take(key.name, effective.places.*key.member))
      return std::nullopt;
  const auto* size = object->if_contains("message_size");
  const auto* recipients = object->if_contains("recipients");
  if (!take("config", effective.config) || size == nullptr || !size->is_int64() ||
      size->get_int64() < 0 || recipients == nullptr || !recipients->is_int64() ||
      recipients->get_int64() < 0)
    return std::nullopt;
  effective.places.message_size = static_cast<std::uint64_t>(size->get_int64());
  effective.places.recipients = static_cast<std::size_t>(recipients->get_int64());
  return effective;
}

}  // namespace

ToolPaths places_of(const Config& config) {
  ToolPaths places;
  places.spool = config.spool;
  places.control_socket = config.control.socket;
  places.submit_socket = config.control.submit;
  places.hostname = config.hostname;
  places.origin = config.origin;
  places.user = config.user;
  places.message_size = config.accept.message_size;
  places.recipients = config.accept.recipients;
  return places;
}

std::string effective_path(const ToolPaths& places) {
  return (std::filesystem::path(places.submit_socket).parent_path() / kEffectiveName).string();
}

Result<void> EffectiveFile::publish(const ToolPaths& places, const std::string& config) {
  json::object object;
  object["config"] = std::filesystem::absolute(config).string();
  for (const auto& key : kTextKeys)
    object[key.name] = places.*key.member;
  object["message_size"] = static_cast<std::int64_t>(places.message_size);
  object["recipients"] = static_cast<std::int64_t>(places.recipients);
  const auto path = effective_path(places);
  if (auto replaced = replace_file(path, json::serialize(object) + "\n", 0644); !replaced)
    return replaced;
  auto file = open_file(path, O_RDWR | O_NOFOLLOW);
  if (!file)
    return file.error();
  // Whatever the umask is.
  if (::fchmod(file->get(), 0644) != 0)
    return system_error("chmod " + path);
  auto lock = whole_file(F_WRLCK);
  if (::fcntl(file->get(), F_OFD_SETLK, &lock) != 0)
    return system_error("lock " + path);
  file_ = std::move(*file);
  return {};
}

std::optional<Effective> read_effective(const std::string& folder,
                                        const std::vector<uid_t>& daemon_users) {
  auto keepers = daemon_users;
  keepers.push_back(0);
  std::error_code ignored;
  auto place = open_folder_of(std::filesystem::absolute(folder, ignored).string(), keepers);
  if (!place)
    return std::nullopt;
  auto file = open_file_at(*place, kEffectiveName, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
  const auto trust = file ? trust_in(*place, *file, keepers) : Trust();
  if (!trust.is_trusted)
    return std::nullopt;
  const auto text = read_file(*file, kEffectiveName, kMostEffective);
  auto effective = text ? decode(*text) : std::nullopt;
  if (!effective)
    return std::nullopt;
  effective->places.is_live = is_held(*file);
  effective->folder = folder;
  effective->is_roots = trust.is_roots;
  return effective;
}

}  // namespace postrider::daemon
