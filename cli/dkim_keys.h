// `postrider dkim`: the keys that sign mail. FOLDER/DOMAIN/SELECTOR.pem holds one each.
#pragma once

#include "daemon/daemon.h"

#include <string>

namespace postrider::cli {

struct DkimKey {
  std::string domain;
  std::string selector;  // new: empty for one made of the day; record: empty for all of the domain
  std::string folder;    // empty: "dkim" beside the configuration file
  bool ed25519 = false;
  unsigned bits = 2048;  // of an RSA key
};

// Makes a key, writes it, and prints the DNS record to be published, as a zone file has it. Never
// writes over a key. The file has mode 0640 and the group "postrider" where root runs this and
// there is one, else 0600. Exit codes of sysexits.h.
int make_dkim_key(const daemon::Options& options, const DkimKey& wanted);
// Prints the records of keys that are there.
int print_dkim_records(const daemon::Options& options, const DkimKey& wanted);

}  // namespace postrider::cli
