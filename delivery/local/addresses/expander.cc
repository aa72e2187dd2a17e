#include "delivery/local/addresses/expander.h"

#include "base/case_fold.h"
#include "base/digest.h"
#include "base/text.h"
#include "delivery/job/job_outcome.h"
#include "delivery/local/addresses/address_list.h"
#include "delivery/local/addresses/included_file.h"
#include "delivery/local/addresses/left_out_entries.h"
#include "delivery/local/agents/mailbox_pattern.h"
#include "delivery/local/agents/settled_file.h"
#include "mail/address.h"
#include "mail/envelope.h"

#include <array>
#include <deque>
#include <pwd.h>
#include <tuple>
#include <unordered_set>

namespace postrider::delivery {

namespace {

using Answer = mail::Directory::Answer;
using mail::Outcome;
using mail::Stage;
using mail::Verdict;

constexpr mail::EnhancedCode kCircle{5, 4, 6};
constexpr std::size_t kMostLooked = 20;
// Marks that the lists set aside of one expansion carry in all, of some 17 octets each.
constexpr std::size_t kMostMarks = 50'000;
constexpr std::size_t kMostSteps = 10'000;  // kept; the rest is followed, but not told

Outcome local_end(Verdict verdict, mail::EnhancedCode status, std::string text) {
  auto outcome = decide(verdict, Stage::local, status, std::move(text));
  outcome.remote = "local";
  return outcome;
}

// Of a recipient, for the queue: it must stay the same from version to version, and whoever keeps a
// list must not find an address that has another one's.
std::uint64_t mark_of(std::string_view key) {
  std::uint64_t mark = 0;
  for (const char byte : sha256(key).substr(0, sizeof mark))
    mark = (mark << 8U) | static_cast<unsigned char>(byte);
  return mark;
}

std::string account_name(uid_t uid) {
  std::array<char, 16384> room{};
  passwd entry{};
  passwd* found = nullptr;
  if (::getpwuid_r(uid, &entry, room.data(), room.size(), &found) != 0 || found == nullptr)
    return {};
  return entry.pw_name;
}

std::string show(const ListItem& item) {
  switch (item.kind) {
    case ListItem::Kind::include:
      return ":include:" + item.text;
    case ListItem::Kind::command:
      return "|" + item.text;
    default:
      return (item.literal ? "\\" : "") + item.text;
  }
}

// How an item came to be looked at.
struct Context {
  unsigned depth = 0;
  std::string owner;       // the envelope sender from here on
  std::string rights;      // the user for commands and files; empty: the aliases' command user
  std::string extension;   // left over from the address, with its separator: "+tag"
  uid_t author = 0;        // who wrote what is followed: the owner of the file
  bool is_listed = false;  // it stands in an included file
  bool is_hidden = false;  // a bare name from there, which strangers are not told
};

class Walk {
 public:
  Walk(const LocalAddresses& book, const Users& users,
       SenderRewriter::Seen seen = SenderRewriter::Seen::now)
      : book_(book), users_(users), seen_senders_(seen) {}

  Expansion start(std::string_view address) {
    origin_ = address;
    follow_address(std::string(address), Context{}, false);
    if (is_shallow_)
      return finish();
    return finish_lists();
  }

  Expansion start_set_aside(std::string_view address, const SetAside& aside) {
    origin_ = address;
    seen_.insert(folded_case(completed(address)));
    had_.insert(aside.others.begin(), aside.others.end());
    Context context;
    context.author = aside.author;
    follow_include(aside.path, completed(address), context);
    return finish_lists();
  }

  // An error of its author's that the sender must hear of: the mail reached nobody.
  void fail_as_nobody() {
    const auto text = came_again_ ? "the aliases of " + escaped(origin_) + " go in a circle"
                                  : "the list " + escaped(origin_) + " has no members";
    out_.problems.push_back(text);
    const auto status = came_again_ ? kCircle : mail::EnhancedCode{5, 2, 4};
    fail(Verdict::bounce, status, text);
  }
  // A circle, or named twice.
  void came_again() { came_again_ = true; }

  Expansion start_once(std::string_view address) {
    is_shallow_ = true;
    return start(address);
  }

  Answer look_ahead(std::string_view address) {
    is_looking_ = true;
    const auto found = start(address);
    if (is_more_)
      return Answer::known;
    if (found.failure)
      return found.failure->verdict != Verdict::bounce         ? Answer::cannot_tell
             : found.failure->status == kCircle && !is_caught_ ? Answer::circle
                                                               : Answer::unknown;
    const bool is_nobody = found.discarded == 0 && found.recipients.size() == unknown_;
    return is_nobody ? Answer::unknown : Answer::known;
  }

  Expansion start_forward(const std::string& user, std::string_view address, std::string_view text,
                          const std::string& where) {
    origin_ = address;
    forwarding_ = user;
    ListRules rules;
    rules.includes = false;
    rules.most = book_.rules().most_recipients + 1;
    auto file = parse_list_file(text, rules);
    for (const auto& problem : file.problems)
      out_.problems.push_back(where + ":" + problem);
    if (text.find('\0') != text.npos) {
      out_.problems.push_back(where + ": is not text");
      file.items.clear();  // what looks like an address in it is none
    }
    Context context;
    context.depth = 1;
    context.rights = user;
    for (const auto& one : file.items)
      follow_item(one.item, std::string(address), where + ":" + std::to_string(one.line), context);
    if (out_.recipients.empty() && out_.discarded == 0 && !out_.failure)
      add_mailbox(user, std::string(address), context);
    return finish();
  }

 private:
  // Included files come after all that the tables say: they take nobody's place.
  Expansion finish_lists() {
    while (!out_.failure && !lists_.empty()) {
      const auto list = std::move(lists_.front());
      lists_.pop_front();
      follow_list(list);
    }
    if (!out_.failure && set_aside_ > 0 && set_aside_ == out_.recipients.size() &&
        out_.discarded == 0)
      out_.failure = std::move(failure_of_list_);  // there is nobody whom it could hold up
    if (out_.recipients.empty() && out_.discarded == 0 && out_.repeated == 0 && !out_.failure)
      fail_as_nobody();
    if (set_aside_ > 0 && !out_.failure)
      mark_the_others();
    return finish();
  }

  Expansion finish() {
    if (out_.failure)
      out_.recipients.clear();
    return std::move(out_);
  }

  // So that whoever is in a list that was set aside, too, has the mail once. Above the limit:
  // twice.
  void mark_the_others() {
    std::vector<std::uint64_t> marks(had_.begin(), had_.end());
    std::size_t lists = 0;
    for (const auto& to : out_.recipients) {
      if (to.leaf.kind == ResolvedRecipient::Kind::include)
        ++lists;
      else
        marks.push_back(mark_of(key_of(to.leaf, to.address)));
    }
    if (marks.size() * lists > kMostMarks)
      marks.clear();
    for (auto& to : out_.recipients) {
      if (to.leaf.kind != ResolvedRecipient::Kind::include)
        continue;
      if (auto aside = decode_set_aside(to.leaf.text)) {
        aside->others = marks;
        to.leaf.text = encode(*aside);
      }
    }
  }

  static std::string key_of(const ResolvedRecipient& leaf, std::string_view address) {
    return encode(leaf) + "\n" + folded_case(address);
  }

  void fail(Verdict verdict, mail::EnhancedCode status, std::string text) {
    if (!out_.failure)
      out_.failure = local_end(verdict, status, std::move(text));
  }
  void fail(const Error& error) {
    out_.problems.push_back(tables::told(error));  // with lines of files: not for strangers
    fail(Verdict::retry, {4, 3, 0},
         "the addresses behind " + escaped(origin_) + " cannot be looked up now");
  }

  void step(const std::string& from, std::string to, const std::string& where) {
    if (out_.steps.size() < kMostSteps)
      out_.steps.push_back({from, std::move(to), where});
  }

  void add(std::string address, ResolvedRecipient leaf, const Context& context) {
    if (is_looking_ && out_.recipients.size() >= kMostLooked)
      is_more_ = true;
    if (is_more_)
      return;
    if (out_.recipients.size() >= book_.rules().most_recipients)
      return fail(Verdict::retry, {4, 5, 3},
                  escaped(origin_) + " stands for more than " +
                      std::to_string(book_.rules().most_recipients) + " recipients");
    const auto key = key_of(leaf, address);
    if (had_.contains(mark_of(key))) {
      ++out_.repeated;
      return;
    }
    if (ends_.insert(key).second) {
      new_ends_.push_back(key);
      out_.recipients.push_back({std::move(address), std::move(leaf), context.owner});
    }
  }

  void add_mailbox(const std::string& user, std::string address, const Context& context) {
    add(std::move(address), {ResolvedRecipient::Kind::mailbox, user, {}}, context);
  }

  // With a domain; what can be written without quotes is.
  std::string completed(std::string_view given) const {
    const auto domain = mail::domain_of(given);
    return mail::quoted_local_part(mail::unquoted_local_part(mail::local_part_of(given))) + "@" +
           std::string(domain.empty() ? book_.home() : book_.meant(domain));
  }

  // An address, or a name of this machine. literal: its own aliases are not looked at.
  void follow_address(const std::string& given, const Context& context, bool literal) {
    if (out_.failure || (is_shallow_ && context.depth > 0))
      return;
    const auto local_part = mail::unquoted_local_part(mail::local_part_of(given));
    std::string domain(book_.meant(mail::domain_of(given)));
    if (domain.empty())
      domain = book_.home();
    const auto address = completed(given);
    if (!book_.is_ours(domain) && domain != book_.home())
      return add(given, ResolvedRecipient{}, context);
    if (!literal) {
      auto key = folded_case(address);
      if (!seen_.insert(key).second)
        return came_again();
      new_seen_.push_back(std::move(key));
    }
    if (context.depth > book_.rules().most_steps)
      return fail(Verdict::retry, {4, 4, 6},
                  escaped(origin_) + " is more than " + std::to_string(book_.rules().most_steps) +
                      " steps away from where it ends");
    if (follow_sender(address, context))
      return;
    if (!literal && follow_virtual(local_part, domain, address, context))
      return;
    if (!book_.is_local(domain) && domain != book_.home()) {
      if (!equals_ignoring_case(local_part, "postmaster"))
        return unknown(address, context);
      return follow_address("postmaster@" + book_.home(), deeper(context), literal);
    }
    if (!literal && follow_alias(local_part, address, context))
      return;
    follow_user(local_part, domain, address, context);
  }

  static Context deeper(Context context) {
    ++context.depth;
    context.extension.clear();
    context.is_listed = context.is_hidden = false;
    return context;
  }

  // Back to whom the address was made of. A forged one is nobody's, not even the catch-all's.
  bool follow_sender(const std::string& address, const Context& context) {
    if (!book_.rules().rewriter)
      return false;
    const auto original = book_.rules().rewriter->original(address, seen_senders_);
    if (original && !*original)
      return false;
    if (original) {
      step(address, **original, "local.srs");
      follow_address(**original, deeper(context), false);
    } else if (context.depth == 0) {
      fail(Verdict::bounce, {5, 1, 1}, escaped(address) + ": " + original.error().step());
    } else {
      unknown(address, context);
    }
    return true;
  }

  bool follow_virtual(const std::string& local_part, const std::string& domain,
                      const std::string& address, const Context& context) {
    const auto found = book_.find_virtual(local_part, domain);
    if (!found) {
      fail(found.error());
      return true;
    }
    if (!found->has_value())
      return false;
    const auto& match = **found;
    auto inner = deeper(context);
    const auto name = book_.split(local_part);
    if (!match.whole)
      inner.extension = name.separator + name.extension;
    if (match.entry.value.starts_with('@')) {  // the same name elsewhere
      const auto there = mail::quoted_local_part(local_part) + match.entry.value;
      step(address, there, match.entry.where);
      if (!equals_ignoring_case(there, address)) {
        follow_address(there, inner, false);
        return true;
      }
      return false;
    }
    ListRules rules;
    rules.commands = false;
    rules.includes = false;
    rules.mailboxes = true;
    auto items = parse_list(match.entry.value, rules);
    if (!items) {
      fail(items.error().during(match.entry.where));
      return true;
    }
    if (items->size() == 1 && !items->front().literal &&
        equals_ignoring_case(items->front().text, address)) {
      step(address, address, match.entry.where);
      return false;  // itself: where the lookup ends
    }
    for (const auto& item : *items)
      follow_item(item, address, match.entry.where, inner);
    return true;
  }

  bool follow_alias(const std::string& local_part, const std::string& address,
                    const Context& context) {
    const auto found = book_.find_alias(local_part);
    if (!found) {
      fail(found.error());
      return true;
    }
    if (!found->has_value())
      return false;
    const auto& match = **found;
    auto inner = deeper(context);
    inner.author = match.entry.owner;
    inner.rights = match.entry.owner == 0 ? std::string() : account_name(match.entry.owner);
    const auto owner = is_shallow_ ? Result<bool>(false) : book_.has_owner(ascii_lower(match.key));
    if (!owner) {
      fail(owner.error());
      return true;
    }
    if (*owner && !starts_with_ignoring_case(match.key, "owner-")) {
      inner.owner = mail::quoted_local_part("owner-" + ascii_lower(match.key)) + "@" +
                    mail::domain_of(address);
      out_.is_list = true;
    }
    ListRules rules;
    rules.most = book_.rules().most_recipients + 1;
    auto items = parse_list(match.entry.value, rules);
    if (!items) {
      fail(items.error().during(match.entry.where));
      return true;
    }
    for (const auto& item : *items)
      follow_item(item, address, match.entry.where, inner);
    return true;
  }

  void follow_user(const std::string& local_part, const std::string& domain,
                   const std::string& address, const Context& context) {
    const auto name = book_.split(local_part);
    const auto user = local_user(name.name, "");
    auto answer = Answer::unknown;
    if (!user.empty())
      answer = user == "postmaster" ? Answer::known : users_.find_user(user, domain);
    if (answer == Answer::cannot_tell)
      return fail(Verdict::retry, {4, 3, 0},
                  "cannot tell whether there is a user " + escaped(address));
    if (answer == Answer::known) {
      const bool is_own = !forwarding_.empty() && user == forwarding_;
      return is_own ? add_mailbox(user, address, context)
                    : add(address, {ResolvedRecipient::Kind::user, user, {}}, context);
    }
    const auto& catch_all = book_.rules().catch_all;
    if (catch_all.empty() || folded_case(completed(catch_all)) == folded_case(address))
      return unknown(address, context);
    is_caught_ = is_caught_ || context.depth == 0;
    step(address, catch_all, "local.catch_all");
    follow_address(catch_all, deeper(context), false);
  }

  // The whole address is unknown; or one member of a list is, which its own bounce tells.
  void unknown(const std::string& address, const Context& context) {
    if (context.depth == 0 && lacks_addresses(book_))
      return fail(Verdict::retry, {4, 3, 0},
                  "cannot tell whether there is a user " + escaped(address) +
                      ", for a table cannot be read");
    if (context.depth == 0)
      return fail(Verdict::bounce, {5, 1, 1}, "there is no user " + escaped(address));
    out_.problems.push_back(escaped(address) + " is unknown, and a member of " + escaped(origin_));
    if (out_.unknown.size() < kMostSteps)
      out_.unknown.push_back(address);
    const auto before = out_.recipients.size();
    if (context.is_hidden)
      add(completed(origin_), {ResolvedRecipient::Kind::nobody, {}, {}}, context);
    else
      add(address, ResolvedRecipient{}, context);
    if (out_.recipients.size() > before)
      out_.recipients.back().is_unknown = true;
    unknown_ += out_.recipients.size() - before;
  }

  void follow_item(const ListItem& item, const std::string& from, const std::string& where,
                   const Context& context) {
    if (out_.failure || is_more_)
      return;
    if (is_looking_ && item.kind == ListItem::Kind::include) {
      is_more_ = true;
      return;
    }
    step(from, show(item), where);
    switch (item.kind) {
      case ListItem::Kind::address: {
        // "ann: ann, bob": Ann herself, not her alias again.
        const bool is_self = equals_ignoring_case(completed(item.text), from);
        auto inner = context;
        inner.is_hidden = context.is_listed && mail::domain_of(item.text).empty();
        return follow_address(with_extension(item.text, context), inner, item.literal || is_self);
      }
      case ListItem::Kind::include:
        return follow_include(item.text, from, context);
      case ListItem::Kind::command:
        return add(from, {ResolvedRecipient::Kind::command, rights_of(context), item.text},
                   context);
      case ListItem::Kind::file:
        if (item.text == "/dev/null") {
          ++out_.discarded;
          return;
        }
        return add(from, {ResolvedRecipient::Kind::file, rights_of(context), item.text}, context);
      case ListItem::Kind::mailbox:
        return add(from, {ResolvedRecipient::Kind::place, {}, filled_in(item.text, from)}, context);
    }
  }

  const std::string& rights_of(const Context& context) const {
    return context.rights.empty() ? book_.rules().command_user : context.rights;
  }

  // "ann+tag@virtual" to "ann@home": the tag goes along.
  std::string with_extension(const std::string& address, const Context& context) const {
    if (context.extension.empty())
      return address;
    const auto local_part = mail::unquoted_local_part(mail::local_part_of(address));
    if (book_.split(local_part).separator != '\0')
      return address;
    const auto domain = address.substr(mail::local_part_of(address).size());
    return mail::quoted_local_part(local_part + context.extension) + domain;
  }

  // "{user}" and "{domain}" of a virtual user's mailbox, as names that cannot leave their place.
  std::string filled_in(std::string place, const std::string& address) const {
    const auto name = book_.split(mail::unquoted_local_part(mail::local_part_of(address))).name;
    const auto replace = [&](std::string_view what, const std::string& by) {
      for (auto at = place.find(what); at != place.npos; at = place.find(what, at + by.size()))
        place.replace(at, what.size(), by);
    };
    replace("{user}", path_component(folded_case(name)));
    replace("{domain}", path_component(mail::domain_of(address)));
    return place;
  }

  struct List {
    std::string path;
    std::string from;
    Context context;
  };

  // What one author may not read another one may.
  static std::string included_key(const std::string& path, const Context& context) {
    return std::to_string(context.author) + ":" + path;
  }

  void follow_include(const std::string& path, const std::string& from, const Context& context) {
    if (is_shallow_)
      return;  // there are no commands and files in there
    if (!included_.insert(included_key(path, context)).second)
      return came_again();
    lists_.push_back({path, from, context});
  }

  // The whole of it, or it is set aside with nothing of it told.
  void follow_list(const List& list) {
    new_ends_.clear();
    new_seen_.clear();
    const auto recipients = out_.recipients.size();
    const auto lists = lists_.size();
    const auto before = std::tuple(out_.discarded, out_.repeated, unknown_, came_again_);
    read_list(list);
    if (!out_.failure)
      return;
    for (; lists_.size() > lists; lists_.pop_back())
      included_.erase(included_key(lists_.back().path, lists_.back().context));
    for (const auto& key : new_ends_)
      ends_.erase(key);
    for (const auto& key : new_seen_)
      seen_.erase(key);
    std::tie(out_.discarded, out_.repeated, unknown_, came_again_) = before;
    out_.recipients.erase(out_.recipients.begin() + static_cast<std::ptrdiff_t>(recipients),
                          out_.recipients.end());
    if (!failure_of_list_)
      failure_of_list_ = std::move(out_.failure);
    out_.failure.reset();
    ++set_aside_;
    const SetAside aside{static_cast<std::uint32_t>(list.context.author), {}, list.path};
    out_.recipients.push_back({completed(origin_),
                               {ResolvedRecipient::Kind::include, {}, encode(aside)},
                               list.context.owner});
  }

  void read_list(const List& list) {
    const auto& path = list.path;
    auto inner = deeper(list.context);
    if (inner.depth > book_.rules().most_steps) {
      out_.problems.push_back(escaped(path) + ": is included too deep");
      return fail(Verdict::retry, {4, 4, 6},
                  "a list of " + escaped(origin_) + " is included too deep");
    }
    const auto file = read_included(path, list.context.author);
    if (!file) {
      out_.problems.push_back(tables::told(file.error()));
      const bool is_new = is_unsettled(file.error());
      if (!is_new)
        out_.list_problems.push_back({path, tables::told(file.error()), true});
      return fail(
          Verdict::retry, is_new ? mail::EnhancedCode{4, 3, 0} : mail::EnhancedCode{4, 3, 5},
          "a list of " + escaped(origin_) + (is_new ? " is being written" : " cannot be used"));
    }
    inner.author = file->owner;
    inner.is_listed = true;
    ListRules rules;
    rules.commands = false;  // as in Postfix: whoever keeps a list does not run programs
    rules.most = book_.rules().most_recipients + 1;
    auto items = parse_list_file(file->text, rules);
    for (const auto& problem : items.problems) {
      out_.problems.push_back(escaped(path) + ":" + problem);
      out_.list_problems.push_back({path, escaped(path) + ":" + problem});
    }
    const bool is_text = file->text.find('\0') == std::string::npos;
    if (!is_text)
      out_.problems.push_back(escaped(path) + ": is not text");
    if (!is_text || items.problems.size() > items.items.size()) {
      out_.list_problems.push_back(
          {path,
           escaped(path) + (is_text ? " has more wrong lines than right ones" : " is not text"),
           true});
      return fail(Verdict::retry, {4, 3, 5}, "the list of " + escaped(origin_) + " cannot be used");
    }
    for (const auto& one : items.items)
      follow_item(one.item, list.from, path + ":" + std::to_string(one.line), inner);
  }

  const LocalAddresses& book_;
  const Users& users_;
  const SenderRewriter::Seen seen_senders_;
  std::string origin_;
  bool is_shallow_ = false;  // no address in a list is followed
  bool is_looking_ = false;  // ahead, not far
  bool is_caught_ = false;   // the address itself is unknown, and the catch-all stands for it
  bool is_more_ = false;     // than was looked at
  std::size_t unknown_ = 0;  // of the recipients
  std::string forwarding_;   // the user whose .forward this is
  Expansion out_;
  std::unordered_set<std::string> seen_;      // addresses
  std::unordered_set<std::string> included_;  // authors and paths
  bool came_again_ = false;
  std::unordered_set<std::string> ends_;
  std::deque<List> lists_;                        // not followed yet
  std::vector<std::string> new_seen_, new_ends_;  // by the list that is followed
  std::size_t set_aside_ = 0;
  std::optional<Outcome> failure_of_list_;  // why the first was
  std::unordered_set<std::uint64_t> had_;   // marks of whom this list is not for
};

}  // namespace

Expansion expand(const LocalAddresses& book, const Users& users, std::string_view address,
                 SenderRewriter::Seen seen) {
  return Walk(book, users, seen).start(address);
}

Expansion expand_set_aside(const LocalAddresses& book, const Users& users, std::string_view address,
                           const SetAside& aside) {
  return Walk(book, users).start_set_aside(address, aside);
}

Expansion expand_once(const LocalAddresses& book, std::string_view address) {
  struct Nobody : Users {
    Answer find_user(const std::string& /*user*/, std::string_view /*domain*/) const override {
      return Answer::known;
    }
  };
  return Walk(book, Nobody()).start_once(address);
}

Answer look_ahead(const LocalAddresses& book, const Users& users, std::string_view address) {
  return Walk(book, users).look_ahead(address);
}

Expansion expand_forward(const LocalAddresses& book, const Users& users, const std::string& user,
                         std::string_view address, std::string_view text,
                         const std::string& where) {
  return Walk(book, users).start_forward(user, address, text, where);
}

}  // namespace postrider::delivery
