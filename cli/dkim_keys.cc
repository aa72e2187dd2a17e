#include "cli/dkim_keys.h"

#include "base/file.h"
#include "base/network.h"
#include "base/text.h"
#include "base/time.h"
#include "cli/output.h"
#include "daemon/tool_folder.h"
#include "mail/address.h"
#include "mailauth/key_record.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <dirent.h>
#include <fcntl.h>
#include <grp.h>
#include <memory>
#include <sys/stat.h>
#include <sysexits.h>
#include <unistd.h>
#include <vector>

namespace postrider::cli {

namespace {

constexpr const char* kProgram = "postrider dkim";
constexpr const char* kGroup = "postrider";
constexpr std::string_view kEnding = ".pem";
constexpr unsigned kMostBits = 4096;  // all that a verifier must take (RFC 8301 §3.2)
constexpr std::size_t kMostKeyFile = std::size_t{64} << 10U;

int fail(const Error& error, int code) {
  return complain(kProgram, code, sentence(error));
}

int code_of(const Error& error) {
  return error.code() == make_error_code(Errc::malformed) ? EX_DATAERR : EX_CANTCREAT;
}

std::string folder_of(const daemon::Options& options, const DkimKey& wanted) {
  if (!wanted.folder.empty())
    return wanted.folder;
  const auto file = daemon::config_path(options);
  return file.substr(0, file.rfind('/') + 1) + "dkim";
}

// "r20261129": a letter for the kind, and the day, so that the next key has another name.
std::string selector_of_today(mailauth::KeyType type) {
  const auto today = std::chrono::floor<std::chrono::days>(SystemClock().now());
  const std::chrono::year_month_day day(today);
  char text[32];
  std::snprintf(text, sizeof text, "%c%04d%02u%02u", type == mailauth::KeyType::rsa ? 'r' : 'e',
                static_cast<int>(day.year()), static_cast<unsigned>(day.month()),
                static_cast<unsigned>(day.day()));
  return text;
}

// Who may read keys beside their owner; -1 for nobody.
gid_t group_of_keys() {
  const auto* group = geteuid() == 0 ? getgrnam(kGroup) : nullptr;
  return group == nullptr ? static_cast<gid_t>(-1) : group->gr_gid;
}

struct Place {
  std::string folder, name;
};
Place place_of(std::string path) {
  while (path.size() > 1 && path.ends_with('/'))
    path.pop_back();
  const auto slash = path.rfind('/');
  if (slash == std::string::npos)
    return {".", path};
  return {slash == 0 ? "/" : path.substr(0, slash), path.substr(slash + 1)};
}

// Makes it if it is missing. Root goes where root's own folders and links lead, and nowhere else.
Result<FileDescriptor> open_key_folder(const std::string& path, gid_t group) {
  auto there = daemon::open_folder_to_write(path);
  if (there || there.error().code() != boost::system::errc::no_such_file_or_directory)
    return there;
  const auto place = place_of(path);
  const auto parent = daemon::open_folder_to_write(place.folder);
  if (!parent)
    return parent.error();
  if (mkdirat(parent->get(), place.name.c_str(), 0750) != 0)
    return system_error("make folder " + path);
  auto made = open_file_at(*parent, place.name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
  if (!made)
    return made.error().during("make folder " + path);
  struct stat about {};
  if (fstat(made->get(), &about) != 0 || about.st_uid != geteuid())
    return Error(Errc::refused, "make folder " + path + " (somebody else made it)");
  if (group != static_cast<gid_t>(-1) && fchown(made->get(), 0, group) != 0)
    return system_error("give " + path + " to the group");
  return made;
}

// The whole key under its name, or nothing; an existing one stays. path: for errors.
Result<void> write_key(const FileDescriptor& folder, const std::string& name,
                       const std::string& path, std::string_view pem, gid_t group) {
  const auto temporary = name + ".new";
  unlinkat(folder.get(), temporary.c_str(), 0);
  auto file = open_file_at(folder, temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0600);
  if (!file)
    return file.error().during(path);
  const auto finish = [&]() -> Result<void> {
    const bool shared = group != static_cast<gid_t>(-1);
    if (shared && (fchown(file->get(), 0, group) != 0 || fchmod(file->get(), 0640) != 0))
      return system_error("give " + path + " to the group");
    if (auto written = write_all(*file, pem); !written)
      return written.error();
    if (auto synced = sync_file(*file); !synced)
      return synced.error();
    if (linkat(folder.get(), temporary.c_str(), folder.get(), name.c_str(), 0) != 0)
      return system_error("make " + path);
    return {};
  };
  auto done = finish();
  unlinkat(folder.get(), temporary.c_str(), 0);
  return done ? sync_file(folder) : done;
}

// A zone file's lines for the record of a key.
std::string zone_text(const std::string& name, const mailauth::PrivateKey& key) {
  std::string text = name + ". IN TXT (";
  for (const auto& part : mailauth::zone_strings(mailauth::key_record_text(key)))
    text.append(" ").append(part).append("\n   ");
  text.resize(text.size() - 4);
  return text + " )\n";
}

// The wish in the form in which it is written, checked.
Result<DkimKey> checked(const DkimKey& wanted) {
  auto key = wanted;
  const auto domain = mail::to_ascii_domain(wanted.domain);
  if (!domain)
    return malformed("\"" + escaped(wanted.domain) + "\" is not a domain");
  key.domain = *domain;
  key.selector = ascii_lower(wanted.selector);
  if (!key.selector.empty() && !mailauth::key_name(key.selector, key.domain))
    return malformed("\"" + escaped(wanted.selector) + "\" is not a selector for this domain");
  return key;
}

// Why the record of a key for this name can be published nowhere; empty if it can.
std::string unpublishable(const std::string& domain) {
  const auto last = domain.substr(domain.rfind('.') + 1);
  const bool is_number = !last.empty() && last.find_first_not_of("0123456789") == last.npos;
  if (is_number || IpAddress::parse(domain))
    return "\"" + escaped(domain) +
           "\" is an address; name the domain that stands in From, such as "
           "example.org";
  if (domain.find('.') == domain.npos)
    return "\"" + escaped(domain) +
           "\" has no dot, and the DNS of others has no record of such a name; "
           "name the whole domain that stands in From, such as example.org";
  return {};
}

std::vector<std::string> selectors_in(const std::string& folder) {
  struct Close {
    void operator()(DIR* stream) const { closedir(stream); }
  };
  std::vector<std::string> selectors;
  const std::unique_ptr<DIR, Close> stream(opendir(folder.c_str()));
  while (stream) {
    const auto* entry = readdir(stream.get());
    if (entry == nullptr)
      break;
    const std::string_view name(entry->d_name);
    if (name.ends_with(kEnding) && !name.starts_with('.'))
      selectors.emplace_back(name.substr(0, name.size() - kEnding.size()));
  }
  std::sort(selectors.begin(), selectors.end());
  return selectors;
}

Result<std::string> record_in(const std::string& path, const std::string& selector,
                              const std::string& domain) {
  const auto pem = read_file(path, kMostKeyFile);
  if (!pem)
    return pem.error();
  const auto key = mailauth::PrivateKey::from_pem(*pem);
  if (!key)
    return key.error().during(path);
  const auto name = mailauth::key_name(selector, domain);
  if (!name)
    return malformed(path + " is not named by a selector");
  return zone_text(*name, *key);
}

}  // namespace

int make_dkim_key(const daemon::Options& options, const DkimKey& wanted) {
  const auto type = wanted.ed25519 ? mailauth::KeyType::ed25519 : mailauth::KeyType::rsa;
  if (wanted.bits < mailauth::kLeastSigningRsaBits || wanted.bits > kMostBits)
    return complain(kProgram, EX_USAGE, "an RSA key has 2048 to 4096 bits");
  auto asked = wanted;
  if (asked.selector.empty())
    asked.selector = selector_of_today(type);
  const auto key = checked(asked);
  if (!key)
    return fail(key.error(), EX_DATAERR);
  if (const auto why = unpublishable(key->domain); !why.empty())
    return complain(kProgram, EX_DATAERR, why);
  const auto folder = folder_of(options, *key);
  const auto name = key->selector + std::string(kEnding);
  const auto path = folder + "/" + key->domain + "/" + name;
  const auto group = group_of_keys();
  if (const auto outer = open_key_folder(folder, group); !outer)
    return fail(outer.error(), EX_CANTCREAT);
  const auto inner = open_key_folder(folder + "/" + key->domain, group);
  if (!inner)
    return fail(inner.error(), EX_CANTCREAT);
  struct stat about {};
  if (fstatat(inner->get(), name.c_str(), &about, AT_SYMLINK_NOFOLLOW) == 0)
    return complain(kProgram, EX_CANTCREAT,
                    path + " exists; name another selector with --selector");
  const auto made = mailauth::PrivateKey::generate(type, wanted.bits);
  if (!made)
    return fail(made.error(), EX_CANTCREAT);
  if (auto written = write_key(*inner, name, path, made->pem(), group); !written)
    return fail(written.error(), code_of(written.error()));
  print("; private key: " + path + "\n" +
        zone_text(*mailauth::key_name(key->selector, key->domain), *made));
  return EX_OK;
}

int print_dkim_records(const daemon::Options& options, const DkimKey& wanted) {
  const auto key = checked(wanted);
  if (!key)
    return fail(key.error(), EX_DATAERR);
  const auto folder = folder_of(options, *key) + "/" + key->domain;
  const auto selectors =
      key->selector.empty() ? selectors_in(folder) : std::vector<std::string>{key->selector};
  if (selectors.empty())
    return complain(kProgram, EX_NOINPUT, "no key in " + folder);
  int code = EX_OK;
  for (const auto& selector : selectors) {
    const auto record =
        record_in(folder + "/" + selector + std::string(kEnding), selector, key->domain);
    if (record)
      print(*record);
    else
      code = fail(record.error(), EX_NOINPUT);
  }
  return code;
}

}  // namespace postrider::cli
