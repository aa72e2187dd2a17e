// What delivery needs of files to send under TLS and to log in: trusted roots, credentials, and the
// ways to access tokens.
//
// Keepers of secrets outlive a reload that leaves their file as it was, and their tokens with them.
// Refresh tokens that an endpoint has given in place of a file's lie in <spool>/tokens, one file
// each.
#pragma once

#include "base/file.h"
#include "base/net/blocking_pool.h"
#include "base/time.h"
#include "daemon/config/config_file.h"
#include "daemon/privsep/parent_client.h"
#include "delivery/auth/credential_source.h"
#include "delivery/delivery_settings.h"

#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace postrider::daemon {

// What is wrong with the credentials files that routes name, each with its own line. Reads them.
std::vector<Problem> check_credentials(const Config& config, const Origins& origins);

// Makes the folder if need be. Blocks until it is on stable storage: the old token is spent.
Result<void> keep_refresh_token(const std::string& folder, const std::string& name,
                                const std::string& refresh);

// Outlives the dispatcher; destroyed before the loops.
class Outbound {
 public:
  // home: where tokens are kept. All references outlive this.
  struct Parts {
    Loop& home;
    std::function<dns::Resolver&()> resolver;
    const Clock& clock;
    Log& log;
    std::shared_ptr<ParentClient> parent;
    std::string spool;
  };
  explicit Outbound(Parts parts);

  // Reads the files, so not on a loop; always on the same thread. The error names the key or the
  // file.
  Result<void> equip(const Config& config, delivery::DeliverySettings& settings);
  // Any thread: no token is waited for any more.
  void stop();

 private:
  // How endpoints are asked: on the home loop, replaced by a reload.
  struct Web {
    std::shared_ptr<const TlsContext> tls;
    dns::Families families = dns::Families::both;
  };
  std::shared_ptr<delivery::CredentialSource> keeper_for(const std::string& path,
                                                         delivery::CredentialsFile file);
  delivery::TokenMeans means() const;
  void forget_unused() const;

  const Parts parts_;
  const std::string folder_;
  FileDescriptor stop_;  // an eventfd
  std::shared_ptr<Web> web_ = std::make_shared<Web>();
  std::vector<std::weak_ptr<delivery::CredentialSource>> keepers_;
  bool has_begun_ = false;
  BlockingPool pool_{2};     // token commands, and files of refresh tokens
  BlockingPool handshakes_;  // apart from those that clients begin, who could flood them
};

}  // namespace postrider::daemon
