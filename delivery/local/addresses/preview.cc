#include "delivery/local/addresses/preview.h"

#include "base/text.h"
#include "delivery/local/agents/account.h"
#include "delivery/local/agents/mailbox_pattern.h"
#include "mail/address.h"
#include "mail/envelope.h"

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
    if (expansion.failure) {
      const bool bounces = expansion.failure->verdict == mail::Verdict::bounce;
      out_.conclusion = (bounces ? "is refused: " : "waits: ") + expansion.failure->text;
      return std::move(out_);
    }
    places_ = expansion.discarded;
    for (const auto& to : expansion.recipients)
      look_at(to);
    if (places_ == 1 && remotes_.size() == 1)
      out_.onward = remotes_.front();
    else
      out_.conclusion =
          "is delivered to " + std::to_string(places_) + (places_ == 1 ? " place" : " places");
    return std::move(out_);
  }

 private:
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
    ++places_;
    const auto owner = to.owner.empty() ? "" : ", sent as " + to.owner;
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
    if (forwarded.failure)
      add(out_.problems, forwarded.failure->text);
    places_ += forwarded.discarded;
    for (const auto& next : forwarded.recipients) {
      auto end = next;
      if (end.leaf.kind == ResolvedRecipient::Kind::user)
        end.leaf.kind =
            ResolvedRecipient::Kind::mailbox;  // that user's own .forward is another's matter
      look_at(end);
    }
    return true;
  }

  std::string describe_end(const ExpandedRecipient& to) const {
    const bool is_theirs = to.leaf.kind == ResolvedRecipient::Kind::command ||
                           to.leaf.kind == ResolvedRecipient::Kind::file;
    const auto& named = book_.rules().command_users;
    const bool is_named =
        is_theirs && std::find(named.begin(), named.end(), to.leaf.user) != named.end();
    auto rights = acting_user(to.leaf.user, is_named ? 1 : minimum_uid_);
    if (is_theirs && rights && rights->empty())
      rights = book_.rules().command_user;
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
  std::size_t places_ = 0;
  std::vector<std::string> remotes_;
  Preview out_;
};

}  // namespace

Preview preview(const LocalAddresses& book, const Users& users, DeliveryAgent& performer,
                const std::string& mailbox, unsigned minimum_uid, const std::string& address) {
  return Previewer(book, users, performer, mailbox, minimum_uid).look(address);
}

}  // namespace postrider::delivery
