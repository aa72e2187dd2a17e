// The filters of one session, and what of its messages they have been shown (smtpd/filter/chain.h).
// Lives on the session's loop; there is none in a session that no filter concerns.
#pragma once

#include "smtpd/filter/chain.h"
#include "smtpd/incoming_body.h"
#include "smtpd/session/session.h"

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace postrider::smtpd {

class SessionFilters {
 public:
  // known: what stays as it is during the session. around: its references outlive the filters.
  SessionFilters(const std::vector<std::shared_ptr<const filter::Source>>& sources,
                 filter::Facts known, const filter::Surroundings& around)
      : facts_(std::move(known)), surroundings_(around), chain_(sources, facts_, surroundings_) {}
  SessionFilters(const SessionFilters&) = delete;
  SessionFilters& operator=(const SessionFilters&) = delete;

  bool empty() const { return chain_.empty(); }
  // Where they want to be asked.
  filter::Stages stages() const { return chain_.stages(); }
  void set_client_name(const ClientName& name) { facts_.client.name = name; }

  // About the command that the session holds for them. next_id: a fresh id for a message.
  Task<filter::Verdict> ask(const Session& session, std::function<mail::MessageId()> next_id);

  // The id that the message at hand will have; 0 before MAIL.
  mail::MessageId message_id() const { return facts_.message; }
  // Content of this message comes, as SessionFramer counts them.
  void begin_content(std::uint64_t number);
  bool has_shown_header() const { return has_shown_header_; }
  // The header section at the start of `bytes`, which may become another by it.
  Task<void> show_header(const Session& session, IncomingBody& body, std::string& bytes);
  // What stands behind it and was not shown yet.
  bool wants(const std::string& bytes) const;
  Task<void> show_body(std::string_view bytes);
  // So many octets of IncomingContent::bytes() need not be shown again.
  void note_shown(std::size_t octets) { shown_ = octets; }
  // The message has ended in whatever way, or there is none.
  void abort() { chain_.abort(); }

  // The header section as it will be stored, and where the body begins behind it.
  std::string take_section() { return std::exchange(section_, {}); }
  std::uint64_t body_at() const { return body_at_; }
  // Of memory.
  std::size_t octets() const { return section_.capacity(); }

  // The whole message, before it is ours.
  Task<filter::Verdict> end(const Session& session, filter::Ending& ending);
  // What is being waited for ends at once.
  void give_up() { chain_.give_up(); }

 private:
  void refresh_facts(const Session& session);

  filter::Facts facts_;
  filter::Surroundings surroundings_;
  filter::Chain chain_;
  std::uint64_t message_ = 0;    // whose content is shown
  bool has_asked_data_ = false;  // for the message that comes
  bool has_shown_header_ = false;
  std::size_t shown_ = 0;  // octets of IncomingContent::bytes()
  std::uint64_t body_at_ = 0;
  std::string section_;
};

}  // namespace postrider::smtpd
