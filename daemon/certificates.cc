#include "daemon/certificates.h"

#include "base/file.h"
#include "base/in_time.h"
#include "base/net/tls/tls_context.h"
#include "base/quoted.h"
#include "base/text.h"
#include "base/user_mounts.h"
#include "daemon/tool_folder.h"

#include <algorithm>
#include <sys/stat.h>
#include <unistd.h>

namespace postrider::daemon {

namespace {

constexpr std::size_t kMostPem = 1U << 20U;

std::string named(const std::string& path) {
  return quote_value(path) + " ";
}

// Keys may lie in a folder of the program that renews them. It leads root, as whom they are read at
// the start and by `postrider check`, to no other's.
Result<std::string> read_pem(const std::string& path) {
  if (::geteuid() != 0)
    return read_file(path, kMostPem);
  const auto file = open_file_as_root(path);
  if (!file)
    return file.error();
  return read_file(*file, path, kMostPem);
}

class Loader {
 public:
  Loader(const Origins& origins, TimePoint now) : origins_(origins), now_(now) {}

  void load(const std::string& certificate_file, const std::string& key_file) {
    const auto certificate = read("tls.certificate", certificate_file);
    const auto key = read("tls.key", key_file);
    if (certificate.empty() || key.empty())
      return;
    auto made = TlsIdentity::parse(certificate, key);
    if (!made)
      return refuse(made.error(), certificate_file, key_file);
    check_time(**made, certificate_file);
    found_.identities.push_back(*std::move(made));
  }

  Certificates take() {
    if (found_.problems.empty() && !found_.identities.empty())
      try_out();
    return std::move(found_);
  }

 private:
  Problem problem(const char* key, std::string text) const {
    const auto origin = origins_.find(key);
    return {origin == origins_.end() ? 0 : origin->second, key, std::move(text)};
  }
  void report(const char* key, std::string text) {
    found_.problems.push_back(problem(key, std::move(text)));
  }

  std::string read(const char* key, const std::string& path) {
    auto text = read_pem(path);
    if (text && !text->empty())
      return *std::move(text);
    const bool is_refused = !text && text.error().code() == make_error_code(Errc::refused);
    report(key, named(path) +
                    (text         ? "is empty"
                     : is_refused ? "is not read by root: refused to " + text.error().step()
                                  : "cannot be read: " + text.error().code().message()) +
                    "; expected a file in PEM form");
    return {};
  }

  void refuse(const Error& error, const std::string& certificate_file,
              const std::string& key_file) {
    if (error.code() == Errc::refused)
      return report("tls.key", named(key_file) + "is not the key of " + named(certificate_file) +
                                   "(their order counts); expected the certificate's own key");
    const bool is_key = error.step().find("key") != std::string::npos;
    report(is_key ? "tls.key" : "tls.certificate",
           named(is_key ? key_file : certificate_file) + "is of no use: " + error.step() +
               (is_key ? "; expected a key without a password"
                       : "; expected the certificate and then its chain"));
  }

  void check_time(const TlsIdentity& identity, const std::string& file) {
    if (const auto text = out_of_time(identity, now_); !text.empty())
      found_.warnings.push_back(
          problem("tls.certificate",
                  named(file) + text + ": who verifies us will not send; renew it, and reload"));
  }

  // OpenSSL refuses some only in use: keys that are too small, weak signatures in the chain.
  void try_out() {
    TlsServerSettings settings;
    settings.identities = found_.identities;
    if (const auto made = TlsContext::server(settings); !made)
      report("tls.certificate",
             "is of no use: " + made.error().step() + "; expected certificates that TLS accepts");
  }

  const Origins& origins_;
  TimePoint now_;
  Certificates found_;
};

}  // namespace

Certificates load_certificates(const Config& config, const Origins& origins, TimePoint now) {
  Loader loader(origins, now);
  const auto& [certificates, keys, protocol] = config.tls;
  for (std::size_t i = 0; i < std::min(certificates.size(), keys.size()); ++i)
    loader.load(certificates[i], keys[i]);
  return loader.take();
}

std::string out_of_time(const TlsIdentity& identity, TimePoint now) {
  if (now >= identity.not_after())
    return "has expired on " + format_rfc3339(identity.not_after());
  if (now < identity.not_before())
    return "is not valid before " + format_rfc3339(identity.not_before());
  return {};
}

std::string certificate_stamp(const TlsConfig& config) {
  std::string stamp;
  for (const auto* files : {&config.certificate, &config.key})
    for (const auto& file : *files) {
      struct stat status {};
      if (!look_at(file, status))
        status = {};
      for (const auto number :
           {static_cast<std::int64_t>(status.st_ino), static_cast<std::int64_t>(status.st_size),
            static_cast<std::int64_t>(status.st_mtim.tv_sec),
            static_cast<std::int64_t>(status.st_mtim.tv_nsec)})
        stamp.append(std::to_string(number)).append(" ");
    }
  return stamp;
}

std::optional<std::string> certificate_stamp_in_time(const TlsConfig& config) {
  const auto stamp = std::make_shared<std::string>();
  if (!done_in_time("certificates", [stamp, config] { *stamp = certificate_stamp(config); }))
    return std::nullopt;
  for (const auto* files : {&config.certificate, &config.key})
    for (const auto& file : *files)
      if (!answers_in_time(file))
        return std::nullopt;
  return *stamp;
}

}  // namespace postrider::daemon
