// Wrong passwords of an hour, and those of which PAM could not tell, for postrider-pam: of one
// account, and of the wrong ones in all.
#pragma once

#include <ctime>
#include <map>
#include <string>

namespace postrider::cli {

class WrongTries {
 public:
  static constexpr unsigned kMost = 1000;       // of one account in an hour
  static constexpr unsigned kMostAll = 20'000;  // in an hour
  static constexpr std::time_t kHour = 3600;

  // Whether this account may not be asked for any more now. A new hour begins with the first
  // question after the last.
  bool is_exhausted(const std::string& user, std::time_t now) {
    if (now - since_ >= kHour || now < since_) {
      since_ = now;
      of_account_.clear();
      all_ = 0;
    }
    const auto found = of_account_.find(user);
    return all_ >= kMostAll || (found != of_account_.end() && found->second >= kMost);
  }
  void count(const std::string& user) {
    ++of_account_[user];
    ++all_;
  }
  // PAM could not tell: where it has failed for all, the sum of all accounts is not touched.
  void count_untold(const std::string& user) {
    if (of_account_.size() < kMostAll || of_account_.contains(user))
      ++of_account_[user];
  }

 private:
  std::map<std::string, unsigned> of_account_;  // not many more than twice kMostAll
  unsigned all_ = 0;
  std::time_t since_ = 0;
};

}  // namespace postrider::cli
