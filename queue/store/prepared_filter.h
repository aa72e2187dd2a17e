// What a Filter means: its texts in the form that is compared. Applied here to mail that has just
// arrived; to waiting mail by the engine.
#pragma once

#include "queue/queue.h"

namespace postrider::queue {

class PreparedFilter {
 public:
  using Text = std::optional<std::string>;
  // Each that is set must hold.
  struct Conditions {
    Text sender, sender_domain, to, to_domain, domain, site, status, reply;
    std::optional<std::int64_t> received_by, larger;
  };
  PreparedFilter(const Filter& filter, TimePoint wall);
  // For a message in `incoming`.
  bool matches(const mail::Message& message, bool is_leased) const;
  bool matches(const mail::Recipient& recipient) const;
  const std::vector<mail::MessageId>& ids() const { return ids_; }  // sorted; none: any
  const Conditions& wanted() const { return wanted_; }
  bool names(mail::MessageId id) const;  // or any
  // What kind of filter it is, for those that count.
  bool asks_for_status_only() const;  // or for nothing
  bool asks_for_recipients() const;
  Text only_domain() const;  // if it asks for nothing but the domain of a recipient

 private:
  bool asks_for_message() const;
  std::vector<mail::MessageId> ids_;
  Conditions wanted_;
};

}  // namespace postrider::queue
