// Constant databases. The file is copied into memory of our own first: whoever cuts it while it is
// in use cannot end the program.
#include "base/case_fold.h"
#include "base/text.h"
#include "tables/cdb.h"
#include "tables/table_source.h"

#include <cdb.h>

#include <fcntl.h>
#include <mutex>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

namespace postrider::tables {

namespace {

class CdbTable : public Table {
 public:
  CdbTable(std::string path, uid_t owner, FileDescriptor memory)
      : path_(std::move(path)), owner_(owner), memory_(std::move(memory)) {}
  ~CdbTable() override {
    if (is_open_)
      cdb_free(&cdb_);
  }
  bool open() {
    is_open_ = cdb_init(&cdb_, memory_.get()) == 0;
    return is_open_;
  }

  Result<std::optional<Entry>> find(std::string_view key) const override {
    auto entry = find_as(folded_case(key));
    // Compiled by a version, or a Postfix, that folded ASCII alone.
    if (entry && !*entry && !is_ascii(key))
      entry = find_as(ascii_lower(key));
    return entry;
  }

 private:
  Result<std::optional<Entry>> find_as(std::string asked) const {
    auto cdb = cdb_;  // a search keeps its place in it
    int found = cdb_find(&cdb, asked.data(), static_cast<unsigned>(asked.size()));
    if (found == 0) {  // Postfix may end keys and values with a NUL
      asked.push_back('\0');
      found = cdb_find(&cdb, asked.data(), static_cast<unsigned>(asked.size()));
    }
    if (found == 0)
      return std::optional<Entry>();
    const auto* data = found > 0 ? static_cast<const char*>(cdb_getdata(&cdb)) : nullptr;
    if (data == nullptr)
      return Error(Errc::corrupt, "look up in " + path_);
    Entry entry;
    entry.value.assign(data, cdb_datalen(&cdb));
    while (entry.value.ends_with('\0'))
      entry.value.pop_back();
    entry.where = path_;
    entry.owner = owner_;
    entry.folder = folder_of(path_);
    return std::optional<Entry>(std::move(entry));
  }

  const std::string path_;
  const uid_t owner_;
  FileDescriptor memory_;
  cdb cdb_{};
  bool is_open_ = false;
};

Result<void> add_all(cdb_make& maker, const Entries& entries) {
  for (const auto& [key, value] : entries)
    if (cdb_make_add(&maker, key.data(), static_cast<unsigned>(key.size()), value.data(),
                     static_cast<unsigned>(value.size())) != 0)
      return system_error("write");
  return {};
}

}  // namespace

bool is_whole_cdb(std::string_view header, std::uint64_t size) {
  if (header.size() < kCdbHeader || size < kCdbHeader)
    return false;
  const auto number_at = [&](std::size_t at) {
    std::uint64_t number = 0;
    for (std::size_t octet = 4; octet-- > 0;)
      number = number << 8U | static_cast<unsigned char>(header[at + octet]);
    return number;
  };
  constexpr std::uint64_t kSlot = 8;
  bool has_entries = false;
  for (std::size_t at = 0; at < kCdbHeader; at += kSlot) {
    const auto place = number_at(at), slots = number_at(at + 4);
    if (slots > 0 && (place < kCdbHeader || place + slots * kSlot > size))
      return false;
    has_entries = has_entries || slots > 0;
  }
  return has_entries || size == kCdbHeader;
}

Opened open_cdb(const Spec& spec) {
  auto source = read_source(spec.path);
  if (!source)
    return source.error();
  FileDescriptor memory(::memfd_create("cdb", MFD_CLOEXEC));
  if (!memory.is_open())
    return system_error("keep " + spec.path + " in memory");
  if (auto copied = write_all(memory, source->text); !copied)
    return copied.error().during("keep " + spec.path + " in memory");
  auto table = std::make_shared<CdbTable>(spec.path, source->owner, std::move(memory));
  if (!is_whole_cdb(source->text, source->text.size()) || !table->open())
    return Error(Errc::corrupt, spec.path + ": is not a constant database, or only a part of one");
  return std::shared_ptr<const Table>(std::move(table));
}

Result<void> build_cdb(const CdbPlace& place, const Entries& entries) {
  const auto& folder = place.folder;
  const auto name = place.path.substr(place.path.rfind('/') + 1);
  const auto beside = name + "." + std::to_string(::getpid()) + ".tmp";
  ::unlinkat(folder.get(), beside.c_str(), 0);
  auto file = open_file_at(folder, beside, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, 0644);
  if (!file)
    return file.error().during("write " + place.path);
  Result<void> done;
  constexpr auto kSame = static_cast<gid_t>(-1);
  if (::geteuid() == 0 && place.owner != 0 && ::fchown(file->get(), place.owner, kSame) != 0)
    done = system_error("give away " + place.path);
  if (done && ::fchmod(file->get(), 0644) != 0)
    done = system_error("set the mode of " + place.path);
  cdb_make maker{};
  if (cdb_make_start(&maker, file->get()) != 0 && done)
    done = system_error("write " + place.path);
  if (done)
    done = add_all(maker, entries);
  if (cdb_make_finish(&maker) != 0 && done)
    done = system_error("write " + place.path);
  if (done)
    done = sync_file(*file);
  if (done && ::renameat(folder.get(), beside.c_str(), folder.get(), name.c_str()) != 0)
    done = system_error("rename to " + place.path);
  if (!done) {
    ::unlinkat(folder.get(), beside.c_str(), 0);
    return done.error();
  }
  return sync_file(folder);
}

Result<void> build_cdb(const std::string& path, const Entries& entries) {
  const auto folder = open_file(folder_of(path), O_RDONLY | O_DIRECTORY);
  if (!folder)
    return folder.error();
  return build_cdb(CdbPlace{*folder, path, ::geteuid()}, entries);
}

}  // namespace postrider::tables
