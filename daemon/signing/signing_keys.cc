#include "daemon/signing/signing_keys.h"

#include "base/file.h"
#include "base/in_time.h"
#include "base/quoted.h"
#include "base/text.h"
#include "base/user_mounts.h"
#include "daemon/privsep/privileges.h"
#include "mail/address.h"
#include "mailauth/key_record.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <dirent.h>
#include <optional>
#include <sys/stat.h>
#include <unistd.h>
#include <utility>

namespace postrider::daemon {

namespace {

constexpr std::string_view kEnding = ".pem";
constexpr std::size_t kMostKeyFile = std::size_t{64} << 10U;
constexpr std::size_t kMostDomains = 10'000;
constexpr std::size_t kMostKeysOfDomain = 4;  // each is a signature in every message
constexpr std::size_t kMostNames = 100'000;   // in one folder

std::string named(const std::string& path) {
  return quote_value(path) + " ";
}

// In the order of the alphabet; nothing that is hidden.
Result<std::vector<std::string>> names_in(const std::string& folder) {
  struct Close {
    void operator()(DIR* stream) const { ::closedir(stream); }
  };
  auto opened = open_to_read(folder);
  if (!opened)
    return opened.error();
  const std::unique_ptr<DIR, Close> stream(::fdopendir(opened->get()));
  if (!stream)
    return system_error("open folder");
  opened->release();
  std::vector<std::string> names;
  while (const auto* entry = ::readdir(stream.get())) {
    if (entry->d_name[0] != '.')
      names.emplace_back(entry->d_name);
    if (names.size() > kMostNames)
      return Error(Errc::too_long, "read folder");
  }
  std::sort(names.begin(), names.end());
  return names;
}

// What cannot be asked is one, too: who reads it says why it cannot be.
bool is_folder(const std::string& path) {
  const auto place = find_place(path);
  struct stat about {};
  return place ? ::fstat(place->get(), &about) == 0 && S_ISDIR(about.st_mode)
               : place.error().code() == Errc::refused;
}

// A key, by where it is to be found; nothing of it was read.
struct KeyFile {
  const char* option = "";
  std::string domain, selector, path;
};

struct KeyFiles {
  std::vector<KeyFile> files;
  std::vector<std::pair<const char*, std::string>> problems;
};

void find_in_domain(const std::string& folder, const std::string& domain, KeyFiles& found) {
  const auto names = names_in(folder);
  if (!names)
    return (void)found.problems.emplace_back(
        "dkim.folder", named(folder) + "cannot be read: " + why_unopened(names.error()) +
                           "; expected a folder that the daemon can read");
  for (const auto& name : *names)
    if (name.ends_with(kEnding))
      found.files.push_back({"dkim.folder", domain,
                             ascii_lower(name.substr(0, name.size() - kEnding.size())),
                             folder + "/" + name});
}

// dkim.folder: DOMAIN/SELECTOR.pem. Plain files beside the domains are let alone.
void find_in_folder(const std::string& folder, KeyFiles& found) {
  const auto names = names_in(folder);
  if (!names)
    return (void)found.problems.emplace_back(
        "dkim.folder", named(folder) + "cannot be read: " + why_unopened(names.error()) +
                           "; expected a folder with DOMAIN/SELECTOR.pem in it");
  for (const auto& name : *names) {
    const auto path = folder + "/" + name;
    if (!is_folder(path))
      continue;
    if (const auto domain = mail::to_ascii_domain(name))
      find_in_domain(path, *domain, found);
    else
      found.problems.emplace_back("dkim.folder", named(path) +
                                                     "is not named by a domain; expected a name "
                                                     "such as \"example.org\"");
  }
}

KeyFiles find_keys(const DkimConfig& config) {
  KeyFiles found;
  if (!config.folder.empty())
    find_in_folder(config.folder, found);
  for (const auto& text : config.keys) {
    const auto parts = split(text, ':');
    const auto domain = parts.size() == 3 ? mail::to_ascii_domain(parts[0])
                                          : Result<std::string>(malformed("dkim.keys"));
    if (domain)
      found.files.push_back({"dkim.keys", *domain, ascii_lower(parts[1]), std::string(parts[2])});
  }
  return found;
}

// What is wrong with who can read a key; empty if nothing is.
std::string distrust(const struct stat& about, const std::optional<uid_t>& user) {
  if (!S_ISREG(about.st_mode))
    return "is not a regular file; expected a regular file";
  char mode[16];
  std::snprintf(mode, sizeof mode, "%04o", about.st_mode & 07777U);
  if ((about.st_mode & (S_IRWXO | S_IWGRP)) != 0)
    return "is open to others (mode " + std::string(mode) + "); expected mode 0600 or 0640";
  if (about.st_uid != 0 && about.st_uid != ::geteuid() && (!user || about.st_uid != *user))
    return "belongs to user " + std::to_string(about.st_uid) +
           "; expected a file of root or of the daemon's user";
  return {};
}

class Loader {
 public:
  Loader(const Config& config, const Origins& origins) : config_(config), origins_(origins) {
    if (const auto account = find_account(config.user); !config.user.empty() && account)
      user_ = account->uid;
  }

  SigningKeys load() {
    auto found = find_keys(config_.dkim);
    for (auto& [option, text] : found.problems)
      report(option, std::move(text));
    for (const auto& file : found.files)
      load(file);
    if (keys_.size() > kMostDomains)
      report("dkim.folder", "holds keys of " + std::to_string(keys_.size()) +
                                " domains; expected at most " + std::to_string(kMostDomains));
    if (loaded_.problems.empty() && keys_.empty())
      loaded_.warnings.emplace_back("there is no key, so nothing is signed");
    if (loaded_.problems.empty() && !keys_.empty())
      loaded_.signer = make_signer();
    return std::move(loaded_);
  }

 private:
  void report(const char* key, std::string text) {
    const auto origin = origins_.find(key);
    loaded_.problems.push_back(
        {origin == origins_.end() ? 0 : origin->second, key, std::move(text)});
  }

  void load(const KeyFile& file) {
    if (!mailauth::key_name(file.selector, file.domain))
      return report(file.option, named(file.path) +
                                     "is not named by a selector; expected a name such as "
                                     "\"s1\"");
    const auto pem = read(file);
    if (!pem)
      return;
    auto key = mailauth::PrivateKey::from_pem(*pem);
    if (!key)
      return report(file.option, named(file.path) + "is of no use: " + key.error().step() +
                                     "; expected an RSA key of 1024 to 8192 bits or an Ed25519 "
                                     "key in PEM form without a password");
    if (key->type() == mailauth::KeyType::rsa && key->bits() < mailauth::kLeastSigningRsaBits)
      loaded_.warnings.push_back(named(file.path) + "has " + std::to_string(key->bits()) +
                                 " bits, which some will not trust; 2048 are sensible");
    auto& of_domain = keys_[file.domain];
    for (const auto& other : of_domain)
      if (other.selector == file.selector)
        return report(file.option, named(file.path) + "is a second key of the selector \"" +
                                       file.selector + "\" of " + file.domain +
                                       "; expected one for each");
    if (of_domain.size() == kMostKeysOfDomain)
      return report(file.option, named(file.path) + "is one key too many of " + file.domain +
                                     "; expected at most " + std::to_string(kMostKeysOfDomain) +
                                     " for each domain");
    of_domain.push_back({file.domain, file.selector, *std::move(key)});
  }

  std::optional<std::string> read(const KeyFile& file) {
    const auto opened = open_to_read(file.path);
    if (!opened) {
      report(file.option,
             named(file.path) + "cannot be read: " + why_unopened(opened.error()) +
                 "; expected a file that the daemon's user can read (mode 0640 and its "
                 "group)");
      return std::nullopt;
    }
    struct stat about {};
    if (::fstat(opened->get(), &about) != 0)
      about = {};
    if (auto why = distrust(about, user_); !why.empty()) {
      report(file.option, named(file.path) + why);
      return std::nullopt;
    }
    auto pem = read_file(*opened, file.path, kMostKeyFile);
    if (pem)
      return *std::move(pem);
    report(file.option, named(file.path) + "cannot be read: " + pem.error().code().message() +
                            "; expected a key in PEM form");
    return std::nullopt;
  }

  std::shared_ptr<const mailauth::Signer> make_signer() {
    const auto& config = config_.dkim;
    mailauth::SigningOptions options;
    options.header_form =
        config.canonicalization < 2 ? mailauth::Form::relaxed : mailauth::Form::simple;
    options.body_form =
        config.canonicalization % 2 == 0 ? mailauth::Form::relaxed : mailauth::Form::simple;
    if (!config.signed_fields.empty())
      options.signed_fields = config.signed_fields;
    if (!config.oversigned_fields.empty())
      options.oversigned_fields = config.oversigned_fields;
    // A field that is oversigned is signed already.
    std::erase_if(options.signed_fields, [&](const std::string& name) {
      return std::any_of(options.oversigned_fields.begin(), options.oversigned_fields.end(),
                         [&](const auto& other) { return equals_ignoring_case(name, other); });
    });
    if (config.valid_for > Duration(0))
      options.valid_for = std::chrono::ceil<std::chrono::seconds>(config.valid_for);
    options.least_rsa_bits = mailauth::kLeastRsaBits;
    std::set<mailauth::SigningRole> roles;
    constexpr std::pair<const char*, mailauth::SigningRole> kRoles[] = {
        {"submission", mailauth::SigningRole::submission},
        {"sendmail", mailauth::SigningRole::sendmail},
        {"relay_from", mailauth::SigningRole::relay_from},
        {"notices", mailauth::SigningRole::notices}};
    for (const auto& [name, role] : kRoles)
      if (std::find(config.sign.begin(), config.sign.end(), name) != config.sign.end())
        roles.insert(role);
    return std::make_shared<const mailauth::Signer>(std::move(keys_), std::move(options),
                                                    std::move(roles));
  }

  const Config& config_;
  const Origins& origins_;
  std::optional<uid_t> user_;
  mailauth::Signer::Keys keys_;
  SigningKeys loaded_;
};

}  // namespace

SigningKeys load_signing_keys(const Config& config, const Origins& origins) {
  if (!config.dkim.is_used())
    return {};
  return Loader(config, origins).load();
}

std::string signing_stamp(const DkimConfig& config) {
  std::string stamp;
  if (!config.is_used())
    return stamp;
  const auto found = find_keys(config);
  for (const auto& problem : found.problems)
    stamp.append(problem.second).append("\n");
  for (const auto& file : found.files)
    stamp.append(file.path).append(" ").append(stamp_of(file.path, TimePoint()).text).append("\n");
  return stamp;
}

std::optional<std::string> signing_stamp_in_time(const DkimConfig& config) {
  const auto stamp = std::make_shared<std::string>();
  if (!done_in_time("dkim", [stamp, config] { *stamp = signing_stamp(config); }))
    return std::nullopt;
  return *stamp;
}

std::string names_of_keys(const mailauth::Signer* signer) {
  std::string names;
  if (signer != nullptr)
    for (const auto& [domain, keys] : signer->keys())
      for (const auto& key : keys)
        names.append(names.empty() ? "" : " ").append(domain + "/" + key.selector);
  return names;
}

}  // namespace postrider::daemon
