// Takes a message's content as it arrives, header section first, and does in one pass all that
// verifying, signing and sealing it need:
//
//   MessageHasher hasher({.dkim = true, .arc = true, .body = Form::relaxed});
//   hasher.feed(piece); ... hasher.finish();
//   Inquiry<std::vector<SignatureReport>> inquiry(hasher.verify_dkim(now));
//   sign_dkim(hasher.header(), hasher.body_digest(), ...)
#pragma once

#include "mailauth/arc.h"
#include "mailauth/body_hashes.h"
#include "mailauth/dkim_verify.h"
#include "mailauth/header_index.h"

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace postrider::mailauth {

class MessageHasher {
 public:
  struct Wishes {
    bool dkim = false;  // its signatures will be verified
    bool arc = false;   // its chain likewise
    bool find_oldest_pass = false;
    std::optional<Form> body = {};  // it will be signed or sealed with this form of the body
    DkimLimits limits = {};
  };

  explicit MessageHasher(const Wishes& wishes) : wishes_(wishes) {}
  MessageHasher(const MessageHasher&) = delete;
  MessageHasher& operator=(const MessageHasher&) = delete;

  // Promises: the section ends where mail::HeaderScanner sees its end, however the content is cut;
  // memory for the section alone, up to kMostHeaderSize, and none that grows with the body. Of a
  // message with a larger section nothing is hashed: header().too_large().
  void feed(std::string_view piece);
  void finish();

  // These require finish(); what they give needs *this. Without the wish, nothing was found.
  const HeaderIndex& header() const { return *header_; }
  std::string_view header_section() const { return section_; }  // without the empty line
  // 32 octets; empty if header().too_large(). Requires: the wish.
  const std::string& body_digest() const;
  Asking<std::vector<SignatureReport>> verify_dkim(TimePoint now) const;
  Asking<ChainReport> verify_chain(TimePoint now) const;

 private:
  void take_lines();
  void end_section(std::size_t size, std::size_t body_begin);
  void give_up();
  void begin_verifying();

  Wishes wishes_;
  std::string section_;         // until its end: also what may be body
  std::size_t line_begin_ = 0;  // lines above are in the section
  std::size_t looked_at_ = 0;   // no line ends between line_begin_ and here
  std::optional<HeaderIndex> header_;
  BodyHashes bodies_;
  BodyHashes::Id body_ = 0;
  std::optional<DkimVerifier> dkim_;
  std::optional<ArcVerifier> arc_;
};

}  // namespace postrider::mailauth
