// SHA-256 of what comes in pieces, and of each beginning of it.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

struct evp_md_ctx_st;

namespace postrider::mailauth {

class Sha256 {
 public:
  static constexpr std::size_t kSize = 32;  // of a digest

  Sha256();
  Sha256(const Sha256& other);  // both go on from here
  Sha256& operator=(const Sha256& other);
  Sha256(Sha256&&) noexcept = default;
  Sha256& operator=(Sha256&&) noexcept = default;
  ~Sha256() = default;

  void update(std::string_view bytes);
  std::string digest() const;  // of all so far; more may follow

 private:
  struct Free {
    void operator()(evp_md_ctx_st* context) const;
  };
  std::unique_ptr<evp_md_ctx_st, Free> context_;
};

}  // namespace postrider::mailauth
