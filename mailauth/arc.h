// Authenticated Received Chain (RFC 8617): what each forwarder found out, sealed by it. Verifies a
// chain, and adds a set to it:
//
//   ArcVerifier verifier(header, bodies);       // before the body is fed
//   Inquiry<ChainReport> inquiry(verifier.verify(now));
//   seal_arc(header, chain, body_digest, key, "mx.example.com", results, options, now)
#pragma once

#include "base/time.h"
#include "mailauth/asking.h"
#include "mailauth/auth_results.h"
#include "mailauth/body_hashes.h"
#include "mailauth/dkim_sign.h"
#include "mailauth/header_index.h"
#include "mailauth/signature.h"

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace postrider::mailauth {

constexpr unsigned kMostArcSets = 50;  // §5.1.2, and what instances can count

// The fields of one instance, with their places in the header.
struct ArcSet {
  std::optional<std::size_t> results_place;
  std::optional<std::size_t> message_place;
  std::optional<std::size_t> seal_place;
  Signature message;
  Signature seal;
};

// All sets of a header, and what is wrong with them before any signature is checked (§5.2, steps 1
// to 3).
struct ArcChain {
  std::vector<ArcSet> sets;  // by instance, the first is 1
  std::string fault;         // empty: sound so far
  bool empty() const { return sets.empty() && fault.empty(); }
  // The newest seal says cv=fail: nobody may add to it (§5.1.2).
  bool has_ended() const { return !sets.empty() && sets.back().seal.chain_state == "fail"; }
};
ArcChain read_arc_chain(const HeaderIndex& header);

enum class ChainResult : std::uint8_t {
  none,  // there is no chain
  pass,
  fail,
  temperror  // a key could not be asked for; no seal can say so
};
std::string_view to_string(ChainResult result);

struct ChainReport {
  ChainResult result = ChainResult::none;
  std::string reason;  // why not pass
  std::size_t sets = 0;
  // The domains of the seals, the first forwarder's first; outside text.
  std::vector<std::string> sealers;
  // The lowest instance whose message signature still verifies without a gap up to the newest: the
  // message was not changed since. 0: not looked for.
  unsigned oldest_pass = 0;
};

class ArcVerifier {
 public:
  // header and bodies must outlive the verifier; adds its hashes to `bodies`, which was not fed.
  // find_oldest_pass: costs a question for each instance more.
  ArcVerifier(const HeaderIndex& header, BodyHashes& bodies, bool find_oldest_pass = false);

  // §5.2. Asks for the newest set's keys first, and for no other where these do not verify. Two
  // questions for each set at most. Rules of DKIM hold for the message signature: an expired one
  // and one that leaves the end of the body open do not verify. Requires: bodies is finished; *this
  // lives until the result is there.
  Asking<ChainReport> verify(TimePoint now) const;

 private:
  Asking<KeyCheck> check_message(std::size_t index, TimePoint now) const;
  std::vector<std::string> seal_digests() const;
  Asking<unsigned> oldest_pass(TimePoint now) const;

  const HeaderIndex& header_;
  const BodyHashes& bodies_;
  ArcChain chain_;
  std::vector<BodyHashes::Id> body_ids_;  // by set
  bool find_oldest_pass_;
};

// "arc=pass (i=2) header.oldest-pass=0"
MethodResult arc_result(const ChainReport& report);

// The new set to be put on top of the message: ARC-Seal, ARC-Message-Signature and
// ARC-Authentication-Results, in this order. header: of the message as it will be sent, with the
// chain that was verified; body_digest: of its whole body in options.body_form.
// The message signature covers what sign_dkim() would, and the DKIM signatures. Where the chain did
// not verify, the seal says cv=fail and covers its own set alone (§5.1.2).
// Errc::refused: the chain has 50 sets, ended with a failure, or could not be verified for want of
// a key; and all that sign_dkim() refuses.
Result<std::string> seal_arc(const HeaderIndex& header, const ChainReport& chain,
                             std::string_view body_digest, const SigningKey& key,
                             std::string_view authserv_id, const std::vector<MethodResult>& results,
                             const SigningOptions& options, TimePoint now);

}  // namespace postrider::mailauth
