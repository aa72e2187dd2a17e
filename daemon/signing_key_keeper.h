// The keys that sign mail, as they are in use: read at the start, and again at a reload or when their
// files change.
#pragma once

#include "base/log.h"
#include "daemon/foundation.h"
#include "daemon/start_problems.h"
#include "mailauth/signer.h"

#include <memory>
#include <string>

namespace postrider::daemon {

// On one thread.
class SigningKeyKeeper {
 public:
  // foundation outlives this, and has its log before the first call.
  explicit SigningKeyKeeper(Foundation& foundation) : foundation_(foundation) {}

  // With the rights that will read them again.
  void read(const Loaded& loaded, StartProblems& problems);
  // For adopt(), once everything else of the new configuration has been read too. Every problem is
  // in the log; the error is the first.
  struct Fresh {
    std::shared_ptr<const mailauth::Signer> signer;
    std::string stamp;
  };
  Result<Fresh> prepare(const Config& config, const Origins& origins);
  void adopt(Fresh fresh);
  // Reads the files again if they have changed. To be called now and then; most calls do nothing.
  void look(const Loaded& loaded);

  const std::shared_ptr<mailauth::LiveSigner>& signer() const { return signer_; }

 private:
  Foundation& foundation_;
  const std::shared_ptr<mailauth::LiveSigner> signer_ = std::make_shared<mailauth::LiveSigner>();
  SteadyTime next_look_;
  std::string stamp_;        // of the files that were read last
  std::string fewer_stamp_;  // of files among which a domain's keys are missing
};

}  // namespace postrider::daemon
