// The body hashes that the signatures of one message need, all made in one pass over its body.
#pragma once

#include "mailauth/canonical.h"
#include "mailauth/sha256.h"

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace postrider::mailauth {

// SHA-256 alone: it is the hash of both algorithms that count (RFC 8301 §3.1, RFC 8463 §3).
//
// Promises: memory that does not grow with the body, and at most one canonical form and one hash of
// it for each Form, however many lengths are asked for.
class BodyHashes {
 public:
  using Id = std::size_t;

  // length: of the canonical body, as l= counts (RFC 6376 §3.5); nothing: all of it. The same wish
  // gets the same id. Requires: nothing was fed yet.
  Id add(Form form, std::optional<std::uint64_t> length = std::nullopt);
  bool empty() const { return wishes_.empty(); }

  // Every octet behind the empty line that ends the header section, in pieces; then finish(), once.
  void feed(std::string_view piece);
  void finish();
  bool finished() const { return finished_; }

  // These require finished(). The digest is empty if the canonical body is shorter than the length.
  const std::string& digest(Id id) const { return wishes_[id].digest; }
  std::uint64_t canonical_size(Id id) const;

 private:
  struct Wish {
    Form form;
    std::optional<std::uint64_t> length;
    std::string digest;
  };
  struct Stream {
    std::unique_ptr<CanonicalBody> canonical;  // made when the first octet comes
    Sha256 hash;
    std::uint64_t size = 0;
    std::vector<Id> cuts;  // those with a length, the longest first; the next one is the last
  };

  void start();
  void take(Stream& stream, std::string_view canonical);
  void finish_cuts(Stream& stream);

  std::vector<Wish> wishes_;
  std::array<std::unique_ptr<Stream>, 2> streams_;  // by form
  bool started_ = false;
  bool finished_ = false;
};

}  // namespace postrider::mailauth
