#include "delivery/local/local_delivery.h"

#include "base/digest.h"
#include "base/text.h"
#include "delivery/local/addresses/alias_source.h"
#include "delivery/local/agents/account.h"
#include "delivery/local/agents/local_content.h"
#include "delivery/local/agents/local_file.h"
#include "delivery/local/agents/mailbox_pattern.h"
#include "delivery/local/onward.h"
#include "mail/address.h"

#include <unordered_set>

namespace postrider::delivery {

namespace {

using mail::Outcome;
using mail::Verdict;

// The header section, as much of it as fits: enough to find our own field.
constexpr std::size_t kMostHeader = 128U << 10U;
constexpr std::size_t kMostDeliveries = 20;
constexpr std::size_t kMostDeed = 4096;    // kept as it is; a longer one by its digest
constexpr std::size_t kMostSentOn = 200;   // of one expansion, remembered one by one
constexpr std::size_t kMostDirect = 1000;  // recipients of a message that are compared with them
constexpr Duration kLockedAgain = std::chrono::seconds(15);

Outcome no_user(const std::string& address) {
  return local_end(Verdict::bounce, {5, 1, 1}, "there is no user " + escaped(address));
}

// A wrong pattern is ours to mend; a name that does not fit is the sender's.
Outcome no_target(const Error& error, const std::string& address) {
  if (error.code() == make_error_code(Errc::refused))
    return no_user(address);
  return local_end(Verdict::retry, {4, 3, 5}, error.describe());
}

Outcome loops(const std::string& address) {
  return local_end(Verdict::bounce, {5, 4, 6}, "mail for " + escaped(address) + " loops");
}

// One delivery; what comes from the message is filled in.
Outcome perform_job(const LocalDelivery& delivery, LocalJob job) {
  const auto& message = *delivery.message;
  job.envelope.id = to_string(message.id);
  job.envelope.sender = message.envelope.sender;
  job.envelope.hostname = delivery.hostname;
  job.envelope.now = delivery.now;
  job.trace = message.content.trace;
  job.size = message.content.size;
  LocalBody body;
  body.bytes = message.content.bytes;
  if (!body.bytes) {
    auto file = delivery.open_body(message);
    if (!file)
      return local_failure(file.error());
    body.file = std::move(*file);
  }
  return delivery.performer->perform(job, std::move(body));
}

// One recipient's way. Each step either finds the next place or ends with a result.
class LocalWay {
 public:
  explicit LocalWay(const LocalDelivery& delivery)
      : delivery_(delivery),
        recipient_(delivery.message->envelope.recipients[delivery.recipient]),
        address_(recipient_.address) {}

  LocalResult go() {
    if (find_leaf() && follow_forward())
      deliver();
    return std::move(result_);
  }

 private:
  bool end(Outcome outcome) {
    result_.outcome = std::move(outcome);
    return false;
  }

  bool may_go_on(const LocalClaim& claim) {
    result_.is_busy = delivery_.may_go_on && !delivery_.may_go_on(claim);
    if (result_.is_busy)
      return false;
    if (!claim.deed.empty() && delivery_.was_done && delivery_.was_done(claim.deed))
      return end(local_end(Verdict::delivered, {2, 0, 0},
                           "delivered with another recipient of the message"));
    if (!claim.deed.empty())
      result_.deed = claim.deed;
    return true;
  }

  // A user for commands of aliases is not a person: one of its commands does not wait for another.
  std::string person(const std::string& user) const {
    if (!delivery_.book)
      return user;
    const auto& rules = delivery_.book->rules();
    const bool is_person = user != rules.command_user &&
                           std::find(rules.command_users.begin(), rules.command_users.end(),
                                     user) == rules.command_users.end();
    return is_person ? user : std::string();
  }

  bool was_here(const std::string& address) {
    return was_delivered_to(beginning_, one_line(address),
                            delivery_.book ? delivery_.book->rules().separator : "+");
  }

  bool find_leaf() {
    auto leaf = decode_leaf(recipient_.leaf);
    if (!leaf)
      return end(local_end(Verdict::retry, {4, 3, 0}, leaf.error().describe()));
    leaf_ = std::move(*leaf);
    if (leaf_.kind == ResolvedRecipient::Kind::include)
      return follow_set_aside();
    // What an expansion decided has been looked at for a loop there.
    if (leaf_.kind != ResolvedRecipient::Kind::address &&
        leaf_.kind != ResolvedRecipient::Kind::user)
      return true;
    auto beginning = load_bytes(*delivery_.message, delivery_.open_body, kMostHeader);
    if (!beginning)
      return end(local_failure(beginning.error()));
    beginning_ = delivery_.message->content.trace + *beginning;
    if (was_here(address_) || count_delivered_to(beginning_) >= kMostDeliveries)
      return end(loops(address_));
    if (leaf_.kind == ResolvedRecipient::Kind::user)
      return true;
    return delivery_.book ? follow_aliases() : ask_directory();
  }

  bool ask_directory() {
    const auto domain = domain_of_ours(address_);
    const auto local_part = mail::unquoted_local_part(mail::local_part_of(address_));
    const auto user = local_user(local_part);
    auto answer = mail::Directory::Answer::unknown;
    if (!user.empty())
      answer = delivery_.directory->lookup(local_part, domain);
    if (answer == mail::Directory::Answer::unknown)
      return end(no_user(address_));
    if (answer == mail::Directory::Answer::cannot_tell)
      return end(local_end(Verdict::retry, {4, 3, 0},
                           "cannot tell whether there is a user " + escaped(address_)));
    leaf_ = {ResolvedRecipient::Kind::mailbox, user, {}};
    return true;
  }

  // A list that could not be used when its alias was expanded.
  bool follow_set_aside() {
    auto beginning = load_bytes(*delivery_.message, delivery_.open_body, kMostHeader);
    if (!beginning)
      return end(local_failure(beginning.error()));
    beginning_ = delivery_.message->content.trace + *beginning;
    if (count_delivered_to(beginning_) >= kMostDeliveries)
      return end(loops(address_));
    const auto aside = decode_set_aside(leaf_.text);
    if (!aside || !delivery_.book)
      return end(local_end(Verdict::retry, {4, 3, 5},
                           "a list of " + escaped(address_) + " cannot be used"));
    return follow(expand_set_aside(*delivery_.book, *delivery_.users, address_, *aside), false);
  }

  bool follow_aliases() {
    auto expansion =
        expand(*delivery_.book, *delivery_.users, address_, SenderRewriter::Seen::before);
    if (expansion.is_plain() && expansion.recipients.size() == 1) {
      leaf_ = std::move(expansion.recipients.front().leaf);
      if (leaf_.kind ==
          ResolvedRecipient::Kind::address)  // of a domain that was ours and no longer is
        return end(local_end(Verdict::retry, {4, 3, 5},
                             escaped(address_) + " is of no domain of this machine"));
      return true;
    }
    return follow(std::move(expansion), false);
  }

  // Delivers to the one mailbox, file or command that the expansion ended in; hands several, or
  // remote ones, on as new messages. ends: a local user is handed on too, because a .forward of
  // that user may lead back here.
  bool follow(Expansion expansion, bool ends) {
    rewrite_senders(*delivery_.book, *delivery_.message, expansion);
    for (auto& problem : expansion.problems)
      result_.problems.push_back(std::move(problem));
    if (expansion.failure)
      return end(*std::move(expansion.failure));
    if (stays_here(expansion, ends)) {
      auto& to = expansion.recipients.front();
      if (to.leaf.kind == ResolvedRecipient::Kind::user &&
          !equals_ignoring_case(to.address, address_) && was_here(to.address))
        return end(loops(to.address));
      address_ = std::move(to.address);
      leaf_ = std::move(to.leaf);
      return true;
    }
    if (!ends && !may_go_on({{}, {}, deed_of(expansion), false, true})) {
      expansion.repeated += expansion.recipients.size();
      expansion.recipients.clear();
      note_way_on(expansion);
      return false;
    }
    return send_on(expansion, address_);
  }

  // To one mailbox, file or command.
  static bool stays_here(const Expansion& expansion, bool ends) {
    if (expansion.recipients.size() != 1 || expansion.discarded > 0 || expansion.is_list)
      return false;
    const auto kind = expansion.recipients.front().leaf.kind;
    return kind != ResolvedRecipient::Kind::address &&
           !(ends && kind == ResolvedRecipient::Kind::user);
  }

  // Requires: no other delivery of the message or its kin sends on now.
  bool send_on(Expansion& expansion, const std::string& delivered_to) {
    leave_out_repeated(expansion);
    const auto seal = seal_for(expansion);
    if (!seal)
      return end(local_failure(seal.error()));
    auto onward = make_onward(*delivery_.message, delivery_.recipient, delivered_to, expansion,
                              *delivery_.custody, delivery_.open_body, *seal);
    if (!onward)
      return end(local_failure(onward.error()));
    result_.onward = std::move(*onward);
    return end(gone_onward(expansion));
  }

  // One mailbox gets one copy, however many ways lead there: as long as the same notices are wanted
  // of it (RFC 3461 §5.2.7), for the first copy speaks for all.
  void leave_out_repeated(Expansion& expansion) {
    const auto notify = onward_notify(recipient_, expansion);
    const auto direct = direct_mailboxes(notify);
    const auto count = std::erase_if(expansion.recipients, [&](const ExpandedRecipient& to) {
      const bool may_be_direct = to.leaf.kind == ResolvedRecipient::Kind::address &&
                                 to.owner.empty() && !to.is_unknown && !direct.empty();
      return (may_be_direct && direct.contains(mail::mailbox_key(to.address))) ||
             (delivery_.was_done && is_mailbox(to) && delivery_.was_done(deed_of(to, notify)));
    });
    expansion.repeated += count;
    if (expansion.recipients.size() > kMostSentOn)
      return;
    for (const auto& to : expansion.recipients)
      if (is_mailbox(to))
        result_.sent_on.push_back(deed_of(to, notify));
  }

  static bool is_mailbox(const ExpandedRecipient& to) {
    return to.leaf.kind == ResolvedRecipient::Kind::address ||
           to.leaf.kind == ResolvedRecipient::Kind::user ||
           to.leaf.kind == ResolvedRecipient::Kind::mailbox;
  }

  // The other recipients of the message as it came.
  std::unordered_set<std::string> direct_mailboxes(mail::Notify notify) const {
    std::unordered_set<std::string> found;
    const auto& all = delivery_.message->envelope.recipients;
    if (all.size() == 1 || all.size() > kMostDirect)
      return found;
    for (const auto& one : all)
      if (&one != &recipient_ && one.leaf.empty() && one.notify == notify)
        found.insert(mail::mailbox_key(one.address));
    return found;
  }

  static std::string deed_of(const ExpandedRecipient& to, mail::Notify notify) {
    return "sent on " + mail::mailbox_key(to.address) + " " + encode(to.leaf) + " " + to.owner +
           " " + std::to_string(notify.bits);
  }

  // The fields that seal what goes on to other systems; a message that cannot be sealed goes
  // without.
  Result<std::string> seal_for(const Expansion& expansion) {
    if (!delivery_.sealer || !delivery_.book || !goes_elsewhere(*delivery_.book, expansion))
      return std::string();
    auto seal = delivery_.sealer->seal(*delivery_.message, delivery_.open_body, delivery_.now);
    if (!seal)
      return seal.error();
    if (!seal->why_not.empty())
      result_.problems.push_back("goes on without an ARC seal: " + seal->why_not);
    return std::move(seal->fields);
  }

  // Two addresses that stand for the same are expanded once. Of two expansions the same only if all
  // recipients are, and the notices that are wanted of them: what one address was expanded to may
  // come in parts, when a list is set aside.
  std::string deed_of(const Expansion& expansion) const {
    const auto notify = onward_notify(recipient_, expansion);
    std::string deed;
    for (const auto& to : expansion.recipients)
      deed += " " + deed_of(to, notify);
    return "expansion" + (deed.size() > kMostDeed ? " " + encode_hex(sha256(deed)) : deed);
  }

  Outcome gone_onward(const Expansion& expansion) {
    std::string ids;
    for (const auto& submission : result_.onward)
      ids += (ids.empty() ? " as " : ", ") + to_string(submission.message->id);
    const auto count = expansion.recipients.size();
    result_.outcome = local_end(
        Verdict::delivered, {2, 0, 0},
        result_.onward.empty() ? expansion.discarded > 0 ? "thrown away by an alias"
                                                         : "all to whom it leads have it already"
                               : "expanded to " + std::to_string(count) +
                                     (count == 1 ? " recipient" : " recipients") + ids);
    note_way_on(expansion);
    return std::move(result_.outcome);
  }

  // RFC 3461 §5.2.7.2, §5.2.7.3. Nobody but the host behind a copy knows whether it arrives.
  void note_way_on(const Expansion& expansion) {
    const auto count = expansion.recipients.size() + expansion.repeated;
    const bool is_single = count + expansion.discarded == 1;
    if (!expansion.is_list && is_single && expansion.repeated == 0)
      result_.outcome.onward = Outcome::Onward::forwarded;
    else if (!expansion.is_list && count > 0)
      result_.outcome.onward = Outcome::Onward::expanded;
  }

  bool follow_forward() {
    if (leaf_.kind != ResolvedRecipient::Kind::user && leaf_.kind != ResolvedRecipient::Kind::self)
      return true;
    const auto user = leaf_.user;
    leaf_.kind = ResolvedRecipient::Kind::mailbox;
    if (!delivery_.book || delivery_.book->rules().forward.empty())
      return true;
    if (!may_go_on({person(user), {}, {}, false}))
      return false;
    for (const auto& name : forward_names(source_rules(), address_)) {
      auto text = delivery_.performer->read_forward(user, name);
      if (!text && is_useless(text.error())) {
        result_.problems.push_back(text.error().step());
        return true;
      }
      if (!text)
        return end(local_end(Verdict::retry, {4, 3, 0}, text.error().describe()));
      if (!text->has_value())
        continue;
      if (!may_go_on({person(user), {}, "forward " + user + "/" + name, false}))
        return false;
      auto expansion = expand_forward(*delivery_.book, *delivery_.users, user, address_, **text,
                                      "~" + user + "/" + name);
      if (!stays_here(expansion, true) && !may_go_on({{}, {}, {}, false, true}))
        return false;
      if (const auto is_sent_on = may_send_on(user, name, expansion); is_sent_on)
        return *is_sent_on && follow(std::move(expansion), true);
      return true;
    }
    return true;
  }

  // Counts what goes on to others. False: not now; nothing: never, and the mailbox has it.
  std::optional<bool> may_send_on(const std::string& user, const std::string& name,
                                  const Expansion& expansion) {
    const auto others = std::count_if(
        expansion.recipients.begin(), expansion.recipients.end(), [&](const auto& to) {
          return to.leaf.kind == ResolvedRecipient::Kind::address ||
                 (to.leaf.kind == ResolvedRecipient::Kind::user && to.leaf.user != user);
        });
    if (expansion.failure || others == 0 || !delivery_.count_forward)
      return true;
    const auto verdict = delivery_.count_forward(user, static_cast<std::size_t>(others));
    if (verdict.kind == ForwardVerdict::Kind::now)
      return true;
    const auto file = "~" + user + "/" + name;
    const bool is_old = delivery_.now - delivery_.message->received > delivery_.lifetime / 2;
    if (verdict.kind == ForwardVerdict::Kind::later && is_old) {
      result_.problems.push_back(file +
                                 " is not used: it has sent on as much as its user may for "
                                 "as long as this mail has waited: " +
                                 verdict.limit);
      return std::nullopt;
    }
    if (verdict.kind == ForwardVerdict::Kind::later)
      return end(local_end(Verdict::retry, {4, 7, 1},
                           file + " has sent on as much as its user may: " + verdict.limit));
    result_.problems.push_back(file + " is not used: it sends a message to " +
                               std::to_string(others) + " recipients, and its user may send " +
                               verdict.limit);
    return std::nullopt;
  }

  // The file's own fault: the mail goes to the mailbox, and the log says why.
  static bool is_useless(const Error& error) {
    return error.code() == make_error_code(Errc::refused);
  }

  std::string domain_of_ours(const std::string& address) const {
    auto domain = mail::domain_of(address);
    return domain.empty() ? delivery_.hostname : domain;
  }

  SourceRules source_rules() const {
    SourceRules rules;
    rules.mailbox = delivery_.mailbox;
    rules.hostname = delivery_.hostname;
    rules.minimum_uid = delivery_.minimum_uid;
    rules.own_user = home_of_this_user().user;
    if (delivery_.book) {
      rules.separator = delivery_.book->rules().separator;
      rules.forward = delivery_.book->rules().forward;
      rules.command_user = delivery_.book->rules().command_user;
      rules.command_users = delivery_.book->rules().command_users;
    }
    return rules;
  }

  LocalSource source() const {
    if (leaf_.kind == ResolvedRecipient::Kind::place)
      return LocalSource::place;
    const bool is_entry = leaf_.kind == ResolvedRecipient::Kind::command ||
                          leaf_.kind == ResolvedRecipient::Kind::file;
    return is_entry ? LocalSource::entry : LocalSource::mailbox;
  }

  void deliver() {
    if (leaf_.kind == ResolvedRecipient::Kind::nobody) {
      end(local_end(Verdict::bounce, {5, 1, 1},
                    "the list of " + escaped(address_) + " holds an entry that cannot be used"));
      return;
    }
    const auto rules = source_rules();
    const auto names = names_of(rules, address_);
    auto target = target_of(rules, leaf_, names);
    if (!target) {
      end(no_target(target.error(), address_));
      return;
    }
    if (target->kind == LocalTarget::Kind::lmtp) {
      hand_to_lmtp(target->place);
      return;
    }
    auto user = acting_for(rules, leaf_, target->kind);
    if (!user) {
      end(local_end(Verdict::retry, {4, 3, 0}, user.error().describe()));
      return;
    }
    const bool is_command = target->kind == LocalTarget::Kind::command;
    const auto place =
        is_command ? "command " + leaf_.text + " as " + *user + " for " + ascii_lower(address_)
                   : target->describe();
    if (!may_go_on({person(*user), place, is_command ? std::string() : place, is_command}))
      return;
    const bool is_stood_in = leaf_.kind == ResolvedRecipient::Kind::command &&
                             *user != leaf_.user && leaf_.user != rules.own_user;
    target->user = std::move(*user);
    target->limits = delivery_.limits;
    LocalJob job;
    job.source = source();
    job.name = leaf_.user;
    job.target = *std::move(target);
    auto& envelope = job.envelope;
    envelope.delivered_to = address_;
    envelope.original_recipient = recipient_.address;
    envelope.local_part = names.local;
    envelope.extension = names.extension;
    envelope.domain = names.domain;
    const auto acting = job.target.user;
    result_.outcome = perform_job(delivery_, std::move(job));
    if (is_stood_in)
      excuse(result_.outcome, leaf_.user, acting);
    if (is_locked(result_.outcome))
      result_.again_within = kLockedAgain;
  }

  // A command that failed as another than its table's owner may have lacked the owner's rights:
  // that is for the administrator to mend, unless it spoke of the recipient or the message.
  static void excuse(Outcome& outcome, const std::string& owner, const std::string& acting) {
    constexpr unsigned kMailbox = 2, kSystem = 3, kSecurity = 7;
    const auto subject = outcome.status.subject;
    if (outcome.verdict != Verdict::bounce ||
        (subject != kMailbox && subject != kSystem && subject != kSecurity))
      return;
    outcome.verdict = Verdict::retry;
    outcome.status.klass = 4;
    outcome.text += " (it ran as " + acting + ", for local.command_users does not name " + owner +
                    ", whose table it is)";
  }

  static bool is_locked(const Outcome& outcome) {
    return outcome.verdict == Verdict::retry &&
           outcome.status == std::optional(mail::EnhancedCode{4, 2, 0});
  }

  // The server receives the recipient's own address; another one needs a message of its own.
  void hand_to_lmtp(const std::string& server) {
    if (equals_ignoring_case(address_, recipient_.address)) {
      result_.lmtp = server;
      return;
    }
    Expansion expansion;
    expansion.recipients.push_back({address_, leaf_, {}});
    if (may_go_on({{}, {}, {}, false, true}))
      send_on(expansion, recipient_.address);
  }

  const LocalDelivery& delivery_;
  const mail::Recipient& recipient_;
  std::string address_;  // as far as it was followed
  ResolvedRecipient leaf_;
  std::string beginning_;
  LocalResult result_;
};

}  // namespace

LocalResult deliver_locally(const LocalDelivery& delivery) {
  return LocalWay(delivery).go();
}

}  // namespace postrider::delivery
