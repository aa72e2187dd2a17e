// Verifies the DKIM signatures of a message (RFC 6376 §6, RFC 8301, RFC 8463):
//
//   HeaderIndex header(section);
//   BodyHashes bodies;
//   DkimVerifier verifier(header, bodies);          // says what to hash
//   ... bodies.feed(piece) ...; bodies.finish();
//   Inquiry<std::vector<SignatureReport>> inquiry(verifier.verify(now));
#pragma once

#include "base/time.h"
#include "mailauth/asking.h"
#include "mailauth/body_hashes.h"
#include "mailauth/header_index.h"
#include "mailauth/signature.h"
#include "mailauth/signature_check.h"

#include <cstddef>
#include <string>
#include <vector>

namespace postrider::mailauth {

struct SignatureReport {
  SignatureResult result = SignatureResult::none;
  std::string reason;  // why not pass
  // As far as they could be read; outside text.
  std::string domain;
  std::string selector;
  std::string identity;
  std::string algorithm;
  std::string data_text;                   // b= in Base64, without white space
  std::vector<std::string> signed_fields;  // lower case
  bool testing = false;  // the domain tests its keys (t=y): to be treated as if it were not signed
  unsigned key_bits = 0;
  bool is_left_out = false;  // not verified, for the sake of a limit
};

struct DkimLimits {
  // Signatures that are verified, each with one question to the DNS: the authors' own first, then
  // those that may be of their organisations, then any, from the top. The others are reported as
  // policy; those that are more than most_reported are not read, and have one report in common.
  std::size_t most_verified = 8;
  std::size_t most_reported = 50;
  // Whether a signature counts that leaves the end of the body unsigned (l=, RFC 6376 §8.2).
  // Anybody can put other content there, so by default it verifies as policy.
  bool accept_partial_body = false;
};

class DkimVerifier {
 public:
  // header and bodies must outlive the verifier; adds its hashes to `bodies`, which was not fed.
  // authors: the domains for which a signature is wanted, as read_authors() gives them.
  DkimVerifier(const HeaderIndex& header, BodyHashes& bodies, DkimLimits limits = {},
               const std::vector<std::string>& authors = {});

  // A report for each signature, from the top down; empty if there is none (dkim=none).
  // Rules that choices were left for: an expired signature fails; a time in the future is nothing;
  // rsa-sha1 and RSA keys below 1024 bits are permerror; l= beyond the body is permerror; a header
  // section beyond the limits of HeaderIndex is one report of policy.
  // Requires: bodies is finished; *this lives until the result is there.
  Asking<std::vector<SignatureReport>> verify(TimePoint now) const;

 private:
  struct Candidate {
    std::size_t place = 0;  // in the header
    Signature signature;
    BodyHashes::Id body = 0;
    bool is_chosen = true;
  };
  void choose(const std::vector<std::string>& authors);
  Asking<SignatureReport> check(const Candidate& candidate, TimePoint now) const;
  SignatureReport before_key(const Candidate& candidate, TimePoint now) const;

  const HeaderIndex& header_;
  const BodyHashes& bodies_;
  DkimLimits limits_;
  std::vector<Candidate> candidates_;
  bool has_unread_ = false;
};

// The report of a signature before anything was checked.
SignatureReport report_of(const Signature& signature);
// Whether it still may be verified (x=), and the hash of the body is what it says; else the report
// says why not, with a result other than none.
void check_time_and_body(const Signature& signature, const BodyHashes& bodies, BodyHashes::Id body,
                         TimePoint now, SignatureReport& report);

}  // namespace postrider::mailauth
