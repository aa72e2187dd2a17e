// Whether refusals, or losses, are a site's word on all mail or on that of some: judged by whom
// they met and whom they did not, never by the words of a text. Pure.
//
// What one sender and one mailbox explain is of these. It is of the site where several senders, and
// several mailboxes as far as the site had been told them, met the same, and not most of those that
// were heard since had their mail taken.
#pragma once

#include "base/time.h"

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <unordered_map>

namespace postrider::delivery {

class Evidence {
 public:
  static constexpr std::size_t kSeveral = 3;
  enum class Scope : std::uint8_t {
    one,   // a sender or a mailbox explains it
    more,  // of one who had not just met it, where it was of the site within the last hour: enough
           // to correct a rate, not to stop a site
    site,
  };

  // A message was refused or lost. mailbox: empty where the site had not been told it. Once it is
  // of the site, so is each further one until the site takes something.
  Scope on_refused(std::string_view sender, std::string_view mailbox, SteadyTime now);
  void on_taken(std::string_view sender, std::string_view mailbox, SteadyTime now);

 private:
  struct Word {
    bool is_refused = false;
    SteadyTime at;
  };
  using Words = std::unordered_map<std::uint64_t, Word>;  // the last one of each
  static Word* find(Words& words, std::uint64_t key);
  static void note(Words& words, std::uint64_t key, bool is_refused, SteadyTime now);
  static std::size_t refused(const Words& words);
  void forget_old(SteadyTime now);
  bool is_enough() const;

  Words senders_, mailboxes_;
  bool is_of_site_ = false;
  SteadyTime known_until_;
};

}  // namespace postrider::delivery
