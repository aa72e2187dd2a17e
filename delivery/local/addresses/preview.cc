#include "delivery/local/addresses/preview.h"

#include "base/text.h"
#include "delivery/local/agents/account.h"
#include "delivery/local/agents/mailbox_pattern.h"
#include "mail/address.h"
#include "mail/envelope.h"

#include <algorithm>
#include <optional>

namespace postrider::delivery {

namespace {

constexpr std::size_t kMostLines = 500;

class Previewer {
 public:
  Previewer(const LocalAddresses& book, const Users& users, DeliveryAgent& performer,
            const std::string& mailbox, unsigned minimum_uid)
      : book_(book),
        users_(users),
        performer_(performer),
        mailbox_(mailbox),
        minimum_uid_(minimum_uid) {}

  Preview look(const std::string& address) {
    const auto expansion = expand(book_, users_, address);
    note(expansion);
    places_ = discarded_ = expansion.discarded;
    for (const auto& to : expansion.recipients)
      look_at(to);
    failure_ = expansion.failure ? expansion.failure : std::move(failure_);
    if (!failure_ && places_ == 1 && remotes_.size() == 1 && unknown_ == 0 && waiting_ == 0)
      out_.onward = remotes_.front();
    else
      out_.conclusion = conclude(address);
    return std::move(out_);
  }

 private:
  // What it is refused for at once, RCPT says; what only its delivery finds, a bounce.
  const char* ending(const std::string& address) const {
    const auto answer = look_ahead(book_, users_, address);
    const bool is_refused =
        answer == mail::Directory::Answer::unknown || answer == mail::Directory::Answer::circle;
    return is_refused ? "is refused: " : "is bounced: ";
  }

  std::string conclude(const std::string& address) const {
    const auto count = [](std::size_t number, const std::string& of) {
      return std::to_string(number) + " " + of + (number == 1 ? "" : "s");
    };
    if (failure_ && places_ == 0 && waiting_ == 0) {
      const bool bounces = failure_->verdict == mail::Verdict::bounce;
      return (bounces ? ending(address) : "waits: ") + failure_->text;
    }
    if (places_ == 0 && waiting_ == 0)
      return ending(address) +
             (unknown_ == 1 ? "it leads to a user that there is not"
                            : "it leads to " + count(unknown_, "user") + " that there are not");
    if (places_ == discarded_ && waiting_ == 0 && unknown_ == 0 && !failure_)
      return "is thrown away: it leads to /dev/null";
    std::string text;
    if (places_ > 0)
      text = "is delivered to " + count(places_, "place");
    if (waiting_ > 0)
      text += (text.empty() ? "waits: " : ", waits for ") + count(waiting_, "place") +
              " that cannot be used now";
    if (unknown_ > 0)
      text += ", and is bounced for " + count(unknown_, "user") + " unknown here";
    if (failure_)
      text += "; " + failure_->text;
    return text;
  }

  static void add(std::vector<std::string>& lines, std::string line) {
    if (lines.size() < kMostLines)
      lines.push_back(std::move(line));
    else if (lines.size() == kMostLines)
      lines.push_back("... and more");
  }

  void note(const Expansion& expansion) {
    for (const auto& step : expansion.steps)
      add(out_.steps, step.from + " -> " + step.to + " (" + step.where + ")");
    for (const auto& problem : expansion.problems)
      add(out_.problems, problem);
  }

  void look_at(const ExpandedRecipient& to) {
    if (to.leaf.kind == ResolvedRecipient::Kind::user && look_at_forward(to))
      return;
    const auto owner = to.owner.empty() ? "" : ", sent as " + to.owner;
    if (to.is_unknown) {
      ++unknown_;
      const bool is_hidden = to.leaf.kind == ResolvedRecipient::Kind::nobody;
      return add(out_.ends, to.address + ": " +
                                (is_hidden ? describe_end(to) : "there is no such user") + owner);
    }
    if (auto trouble = trouble_of(to); !trouble.empty()) {
      ++waiting_;
      return add(out_.ends, to.address + ": " + trouble + owner);
    }
    ++places_;
    if (to.leaf.kind == ResolvedRecipient::Kind::address) {
      remotes_.push_back(to.address);
      return add(out_.ends, to.address + owner);
    }
    add(out_.ends, to.address + ": " + describe_end(to) + owner);
  }

  // Whether a .forward took over.
  bool look_at_forward(const ExpandedRecipient& to) {
    if (book_.rules().forward.empty())
      return false;
    const auto& name = book_.rules().forward;
    const auto text = performer_.read_forward(to.leaf.user, name);
    if (!text) {
      add(out_.problems, text.error().describe());
      return false;
    }
    if (!text->has_value())
      return false;
    const auto forwarded = expand_forward(book_, users_, to.leaf.user, to.address, **text,
                                          "~" + to.leaf.user + "/" + name);
    note(forwarded);
    if (forwarded.failure && !failure_)
      failure_ = forwarded.failure;
    places_ += forwarded.discarded;
    discarded_ += forwarded.discarded;
    for (const auto& next : forwarded.recipients) {
      auto end = next;
      if (end.leaf.kind == ResolvedRecipient::Kind::user)
        end.leaf.kind =
            ResolvedRecipient::Kind::mailbox;  // that user's own .forward is another's matter
      look_at(end);
    }
    return true;
  }

  static bool is_theirs(const ExpandedRecipient& to) {
    return to.leaf.kind == ResolvedRecipient::Kind::command ||
           to.leaf.kind == ResolvedRecipient::Kind::file;
  }

  // With whose rights, as acting_for() has it.
  Result<std::string> rights_of(const ExpandedRecipient& to) const {
    const auto& named = book_.rules().command_users;
    const bool is_named =
        is_theirs(to) && std::find(named.begin(), named.end(), to.leaf.user) != named.end();
    auto rights = acting_user(to.leaf.user, is_named ? 1 : minimum_uid_);
    if (is_theirs(to) && rights && rights->empty())
      rights = book_.rules().command_user;
    return rights;
  }

  // Why nothing is delivered there now; empty: nothing is known.
  std::string trouble_of(const ExpandedRecipient& to) const {
    if (to.leaf.kind == ResolvedRecipient::Kind::include)
      return describe_end(to);
    const auto rights = rights_of(to);
    if (!rights)
      return rights.error().describe();
    if (!performer_.becomes_users() || !is_theirs(to))
      return {};
    const auto exists = has_account(*rights);
    if (!exists)
      return exists.error().describe();
    if (*exists)
      return {};
    const bool is_stand_in = *rights == book_.rules().command_user;
    return describe_end(to) + ", but there is no user " + escaped(*rights) +
           (is_stand_in ? " (local.alias_user)" : "");
  }

  std::string describe_end(const ExpandedRecipient& to) const {
    const auto rights = rights_of(to);
    const auto as = rights && !rights->empty() ? " as " + *rights : std::string();
    if (to.leaf.kind == ResolvedRecipient::Kind::command)
      return "command " + to.leaf.text + as;
    if (to.leaf.kind == ResolvedRecipient::Kind::nobody)
      return "nobody: an entry of its list is not a user";
    if (to.leaf.kind == ResolvedRecipient::Kind::include)
      return describe(to.leaf) + ", which cannot be used now";
    if (to.leaf.kind == ResolvedRecipient::Kind::file)
      return "file " + to.leaf.text + as;
    auto names = mailbox_names(mail::unquoted_local_part(mail::local_part_of(to.address)),
                               mail::domain_of(to.address), book_.rules().separator);
    const bool is_place = to.leaf.kind == ResolvedRecipient::Kind::place;
    if (!is_place)
      names.user = to.leaf.user;
    const auto target = mailbox_target(is_place ? to.leaf.text : mailbox_, names);
    return target ? target->describe() + as : told(target.error());
  }

  static std::string told(const Error& error) { return error.describe(); }

  const LocalAddresses& book_;
  const Users& users_;
  DeliveryAgent& performer_;
  const std::string& mailbox_;
  const unsigned minimum_uid_;
  std::size_t places_ = 0, discarded_ = 0;
  std::size_t unknown_ = 0, waiting_ = 0;  // not among the places
  std::optional<mail::Outcome> failure_;
  std::vector<std::string> remotes_;
  Preview out_;
};

}  // namespace

Preview preview(const LocalAddresses& book, const Users& users, DeliveryAgent& performer,
                const std::string& mailbox, unsigned minimum_uid, const std::string& address) {
  return Previewer(book, users, performer, mailbox, minimum_uid).look(address);
}

}  // namespace postrider::delivery
