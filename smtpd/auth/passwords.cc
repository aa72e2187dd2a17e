#include "smtpd/auth/passwords.h"

#include "base/digest.h"
#include "base/file.h"
#include "base/file_at_rest.h"
#include "base/saslprep.h"

#include <crypt.h>

#include <cstring>
#include <sys/stat.h>

namespace postrider::smtpd::auth {

namespace {

constexpr std::size_t kSalt = 16;

// Nothing if crypt(3) cannot compute it: then no time has passed.
std::optional<bool> compare(std::string_view password, std::string_view hash) {
  const std::string setting(crypt_setting(hash));
  const auto data = std::make_unique<crypt_data>();
  const char* made = is_computable(hash) ? crypt_rn(std::string(password).c_str(), setting.c_str(),
                                                    data.get(), sizeof(crypt_data))
                                         : nullptr;
  if (made == nullptr)
    return std::nullopt;
  return equal_in_constant_time(made, setting);
}

}  // namespace

Result<std::string> hash_password(std::string_view password) {
  const auto random = random_bytes(kSalt);
  char setting[CRYPT_GENSALT_OUTPUT_SIZE];
  if (crypt_gensalt_rn("$y$", 0, random.data(), static_cast<int>(random.size()), setting,
                       sizeof setting) == nullptr)
    return system_error("make a salt");
  const auto data = std::make_unique<crypt_data>();
  const char* hash =
      crypt_rn(std::string(password).c_str(), setting, data.get(), sizeof(crypt_data));
  if (hash == nullptr)
    return system_error("hash the password");
  return std::string(hash);
}

ScramKeys make_scram_keys(std::string_view password, std::uint32_t iterations) {
  ScramKeys keys;
  keys.salt = random_bytes(kSalt);
  keys.iterations = iterations;
  const auto salted = pbkdf2_sha256(password, keys.salt, iterations);
  keys.stored_key = sha256(hmac_sha256(salted, "Client Key"));
  keys.server_key = hmac_sha256(salted, "Server Key");
  return keys;
}

bool matches(std::string_view password, const std::string& hash) {
  return compare(password, hash).value_or(false);
}

Passwords::Passwords(std::string path, std::string secret)
    : path_(std::move(path)),
      secret_(std::move(secret)),
      spare_hash_(hash_password(encode_hex(random_bytes(kSalt))).value()) {}

Result<std::shared_ptr<const UserFile>> Passwords::file() {
  const std::lock_guard lock(mutex_);
  struct stat state {};
  if (stat(path_.c_str(), &state) != 0)
    return system_error("read " + path_);
  const Stamp stamp{state.st_dev, state.st_ino, static_cast<std::uint64_t>(state.st_size),
                    state.st_mtim.tv_sec, state.st_mtim.tv_nsec};
  if (file_ && stamp == stamp_)
    return file_;
  auto text = read_file(path_);
  if (!text)
    return text.error().during("read " + path_);
  auto parsed = UserFile::parse(*text);
  const bool is_young = time_at_rest(state) < kUnfinishedRest;
  const bool is_whole = text->ends_with('\n');
  if (file_ && is_young && (!parsed || !is_whole))
    return file_;
  if (is_young && !is_whole && !was_made_empty(path_))
    return perhaps_unfinished(path_, text->empty() ? "it is empty" : "it ends within a line");
  if (!parsed)
    return parsed.error().during("read " + path_);
  file_ = std::make_shared<const UserFile>(*std::move(parsed));
  stamp_ = stamp;
  return file_;
}

// The same for the same name, so that a name that is tried again looks alike, and not to be
// foretold.
std::uint64_t Passwords::draw_for(std::string_view what, std::string_view user) const {
  const auto digest = hmac_sha256(secret_, std::string(what) + " " + std::string(user));
  std::uint64_t draw = 0;
  std::memcpy(&draw, digest.data(), sizeof draw);
  return draw;
}

Result<bool> Passwords::check(std::string_view user, std::string_view password) {
  const auto users = file();
  if (!users)
    return users.error();
  const auto* entry = (*users)->find(user);
  const auto prepared = saslprep(password);
  const auto tried = prepared ? std::string_view(*prepared) : password;
  const auto right = entry != nullptr ? compare(tried, entry->hash) : std::nullopt;
  if (right)
    return *right && prepared;
  if (!compare(tried, (*users)->made_up_hash(draw_for("cost", user))))
    (void)compare(tried, spare_hash_);
  return false;
}

Result<ScramKeys> Passwords::scram_keys(std::string_view user) {
  const auto users = file();
  if (!users)
    return users.error();
  // Everything is made for everybody, and the right one copied into the same place: no step is
  // there for some users alone.
  ScramKeys keys;
  keys.salt = hmac_sha256(secret_, "salt " + std::string(user)).substr(0, kSalt);
  keys.iterations = (*users)->made_up_iterations(draw_for("iterations", user));
  keys.stored_key = random_bytes(32);
  keys.server_key = random_bytes(32);
  const auto* entry = (*users)->find(user);
  const bool has_keys = entry != nullptr && entry->scram && !entry->is_locked();
  const auto& source = has_keys ? *entry->scram : keys;
  return ScramKeys{source.salt, source.iterations, source.stored_key, source.server_key};
}

}  // namespace postrider::smtpd::auth
