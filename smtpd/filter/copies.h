// Copies of mail that the administrator wants, whoever sends it or gets it: Postfix's always_bcc,
// sender_bcc_maps and recipient_bcc_maps.
//
// They are recipients more, added when the message has ended and before it is ours, so that each is
// as durable as the others. Nobody hears of them: NOTIFY=NEVER, and nothing is written into the
// message. A copy causes no further copies, and mail that goes to a content filter has them when it
// has come back (Facts::is_on_its_way). What cannot be looked up now puts the message off
// (451).
#pragma once

#include "base/net/blocking_pool.h"
#include "smtpd/filter/mail_filter.h"
#include "smtpd/session/access.h"

#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace postrider::smtpd::filter {

struct CopySettings {
  // Of one message; more are left out, and that is logged.
  static constexpr std::size_t kMost = 100;

  std::vector<std::string> always;     // of all mail: addresses
  std::vector<TablePtr> by_sender;     // keys as of recipients; the null sender has none
  std::vector<TablePtr> by_recipient;  // "ann@example.org", without its extension, "@example.org"
  std::string separator = "+";         // of an extension

  bool is_used() const { return !always.empty() || !by_sender.empty() || !by_recipient.empty(); }
};
// What is wrong with the value of an entry, which is one address or several, with commas; empty if it
// may stand.
std::string check_copy_value(std::string_view value);

class Copies final : public Source {
 public:
  // pool: for sessions that have no threads of their own (Surroundings::aside); outlives them.
  Copies(CopySettings settings, BlockingPool& pool)
      : settings_(std::make_shared<const CopySettings>(std::move(settings))), pool_(pool) {}
  std::unique_ptr<Filter> make(const Facts& facts, const Surroundings& around) const override;

 private:
  const std::shared_ptr<const CopySettings> settings_;
  BlockingPool& pool_;
};

// Where copies of a message go, each once, of those who have not got it yet. Asks the tables: may
// block. An error: not now.
Result<std::vector<std::string>> copies_of(const CopySettings& settings,
                                           const mail::Envelope& envelope);

}  // namespace postrider::smtpd::filter
