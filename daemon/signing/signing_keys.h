// The keys that sign mail, from the files of [dkim].
#pragma once

#include "daemon/config/config_file.h"
#include "mailauth/signer.h"

#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace postrider::daemon {

struct SigningKeys {
  // Null: nothing is signed, or there are problems.
  std::shared_ptr<const mailauth::Signer> signer;
  std::vector<Problem> problems;  // of all files, not only the first
  std::vector<std::string> warnings;
};
// Reads files: not on a network loop. A key that others can read is a problem, as is one of another
// user than root, config.user and us.
SigningKeys load_signing_keys(const Config& config, const Origins& origins);

// Another text as soon as one of the files is another one, as far as stat(2) can tell.
std::string signing_stamp(const DkimConfig& config);
// The same, or nothing while the files cannot be read in time. For a process that does not fork.
std::optional<std::string> signing_stamp_in_time(const DkimConfig& config);

// "example.org/s1 example.org/s2", of all keys; empty: none.
std::string names_of_keys(const mailauth::Signer* signer);

}  // namespace postrider::daemon
