#include "delivery/local/addresses/alias_doubts.h"

#include "base/case_fold.h"
#include "base/text.h"
#include "mail/address.h"
#include "mail/envelope.h"

#include <algorithm>
#include <map>
#include <set>
#include <unordered_map>
#include <unordered_set>

namespace postrider::delivery {

namespace {

constexpr std::size_t kMostDoubts = 100;
constexpr std::size_t kMostFollowed = 500'000;  // steps: a check must end soon
constexpr std::size_t kMostShown = 30;          // names of a chain
constexpr mail::EnhancedCode kCircle{5, 4, 6};
constexpr mail::EnhancedCode kTooLong{4, 4, 6};
constexpr mail::EnhancedCode kEmpty{5, 2, 4};

// The steps of one expansion as a graph; nodes are whole addresses in one case.
class Ways {
 public:
  struct Chain {
    std::vector<std::string> nodes;
    std::string where;  // of its last step
  };

  Ways(const std::vector<ExpansionStep>& steps, const LocalAddresses& book)
      : steps_(steps), book_(book) {
    for (const auto& step : steps_) {
      from_[node_of(step.from)].push_back(&step);
      to_.emplace(node_of(step.to), &step);
    }
  }

  // As lists and steps write it.
  std::string node_of(std::string_view text) const {
    if (text.starts_with('\\'))
      text.remove_prefix(1);
    if (text.find_first_of("|:/") == 0)  // no address
      return std::string(text);
    const auto domain = mail::domain_of(text);
    return folded_case(
        mail::quoted_local_part(mail::unquoted_local_part(mail::local_part_of(text))) + "@" +
        std::string(domain.empty() ? book_.home() : book_.meant(domain)));
  }

  // Of the alias that includes the file; empty: nobody knows.
  std::string includer_of(const std::string& path) const {
    const auto step = to_.find(":include:" + path);
    return step == to_.end() ? std::string() : step->second->where;
  }

  // From the address to the node; just the two where the way between is not known.
  Chain chain_to(const std::string& origin, const std::string& node) const {
    Chain chain;
    std::unordered_set<std::string> seen;
    for (auto at = node; seen.insert(at).second;) {
      chain.nodes.push_back(at);
      const auto step = to_.find(at);
      if (chain.where.empty() && step != to_.end())
        chain.where = step->second->where;
      if (at == origin || step == to_.end())
        break;
      at = node_of(step->second->from);
    }
    if (chain.nodes.back() != origin)
      chain.nodes.push_back(origin);
    std::reverse(chain.nodes.begin(), chain.nodes.end());
    return chain;
  }

  Chain longest(const std::string& origin) const {
    return steps_.empty() ? Chain() : chain_to(origin, node_of(steps_.back().to));
  }

  // From the address into a circle, whose first node comes again as the last.
  Chain circle(const std::string& origin) const {
    Chain chain;
    std::unordered_set<std::string> done;
    if (!find_circle(origin, chain, done))
      chain = {};
    return chain;
  }

 private:
  // As deep as the expansion went, which has its limit.
  bool find_circle(const std::string& node, Chain& chain,
                   std::unordered_set<std::string>& done) const {
    const bool is_again =
        std::find(chain.nodes.begin(), chain.nodes.end(), node) != chain.nodes.end();
    chain.nodes.push_back(node);
    if (is_again)
      return true;
    const auto next = from_.find(node);
    if (next != from_.end() && done.insert(node).second)
      for (const auto* step : next->second) {
        chain.where = step->where;
        if (find_circle(node_of(step->to), chain, done))
          return true;
      }
    chain.nodes.pop_back();
    return false;
  }

  const std::vector<ExpansionStep>& steps_;
  const LocalAddresses& book_;
  std::unordered_map<std::string, std::vector<const ExpansionStep*>> from_;
  std::unordered_map<std::string, const ExpansionStep*> to_;  // the first that leads there
};

class Doubts {
 public:
  Doubts(const LocalAddresses& book, const Users& users) : book_(book), users_(users) {}

  std::vector<std::string> look(const std::vector<std::string>& addresses) {
    bool is_whole = true;
    for (const auto& address : addresses) {
      is_whole = doubts_.size() < kMostDoubts && followed_ <= kMostFollowed;
      if (!is_whole)
        break;
      look_at(address);
    }
    add_too_long();
    std::vector<Doubt> sorted;
    for (auto& [key, doubt] : doubts_)
      sorted.push_back(std::move(doubt));
    std::sort(sorted.begin(), sorted.end(), [](const Doubt& one, const Doubt& other) {
      return std::pair(place_of(one.where), one.text) <
             std::pair(place_of(other.where), other.text);
    });
    std::vector<std::string> lines;
    for (const auto& doubt : sorted)
      lines.push_back((doubt.where.empty() ? "" : doubt.where + ": ") + doubt.text);
    if (!is_whole)
      lines.emplace_back("... and perhaps more: not all were looked at");
    return lines;
  }

 private:
  struct Doubt {
    std::string where, text;
    std::size_t steps = 0;
  };
  using Key = std::pair<std::set<std::string>, std::string>;

  // "/etc/aliases:12" as the file and the number.
  static std::pair<std::string, std::uint64_t> place_of(const std::string& where) {
    const auto colon = where.rfind(':');
    if (colon == where.npos)
      return {where, 0};
    const auto line = parse_unsigned(std::string_view(where).substr(colon + 1));
    return {where.substr(0, colon), line ? *line : 0};
  }

  // Of the ways that lead into the same trouble the shortest is told.
  void add(Key key, Doubt doubt) {
    const auto [known, is_new] = doubts_.try_emplace(std::move(key), doubt);
    if (!is_new &&
        std::pair(doubt.steps, doubt.text) < std::pair(known->second.steps, known->second.text))
      known->second = std::move(doubt);
  }

  // Where the long ways begin. In a circle that is longer than an expansion goes each is on the way
  // of another: then the first one stands for it.
  void add_too_long() {
    const auto count = doubts_.size();
    for (auto& [origin, doubt] : too_long_)
      if (!on_the_way_.contains(origin))
        doubts_.emplace(Key({origin}, "too long"), std::move(doubt));
    if (doubts_.size() == count && !too_long_.empty())
      doubts_.emplace(Key({too_long_.front().first}, "too long"),
                      std::move(too_long_.front().second));
  }

  void look_at(const std::string& address) {
    const auto expansion = expand(book_, users_, address);
    followed_ += expansion.steps.size() + 1;
    if (expansion.steps.empty())
      return;
    const Ways ways(expansion.steps, book_);
    const auto origin = ways.node_of(address);
    for (const auto& problem : expansion.list_problems)
      note_list(problem, origin, ways);
    if (expansion.failure)
      return note_failure(*expansion.failure, expansion.steps.front().where, origin, ways);
    for (const auto& member : expansion.unknown)
      note_unknown(ways.chain_to(origin, ways.node_of(member)));
  }

  void note_failure(const mail::Outcome& failure, const std::string& where,
                    const std::string& origin, const Ways& ways) {
    if (failure.status == kCircle)
      return note_circle(ways.circle(origin));
    if (failure.status == kEmpty)
      return add(
          Key({origin}, where),
          {where,
           shown(origin) + " has no members, and its mail does not arrive; add one, or remove it"});
    if (failure.status != kTooLong)
      return;
    const auto chain = ways.longest(origin);
    for (std::size_t i = 1; i < chain.nodes.size(); ++i)
      on_the_way_.insert(chain.nodes[i]);
    too_long_.emplace_back(
        origin,
        Doubt{where, shown(origin) + " is more than " + std::to_string(book_.rules().most_steps) +
                         " steps away from where it ends, and its mail waits until it "
                         "comes back: " +
                         shown(chain) + "; shorten that, or raise local.expansion_steps"});
  }

  void note_list(const ListProblem& problem, const std::string& origin, const Ways& ways) {
    const auto where = ways.includer_of(problem.path);
    const auto text =
        problem.is_unusable
            ? "the file that " + shown(origin) +
                  " includes cannot be used, and its mail waits: " + problem.text +
                  "; correct it, or the name of the file"
            : problem.text + "; that line is passed over in mail for " + shown(origin);
    add(Key({problem.path}, problem.text), {where, text});
  }

  void note_circle(const Ways::Chain& chain) {
    if (chain.nodes.empty())
      return;
    const auto begin = std::find(chain.nodes.begin(), chain.nodes.end(), chain.nodes.back());
    add(Key({begin, chain.nodes.end()}, "circle"),
        {chain.where,
         "these aliases go in a circle, and their mail is refused: " + shown(chain) +
             "; lead one of them to a user or to an address elsewhere",
         chain.nodes.size()});
  }

  void note_unknown(const Ways::Chain& chain) {
    const auto& name = chain.nodes.back();
    if (chain.nodes.size() == 1)
      return add(Key({name}, chain.where),
                 {chain.where,
                  shown(name) +
                      " stands for itself, and there is no such user, so what is sent there comes "
                      "back: correct the name, or remove it",
                  1});
    add(Key({name}, chain.where),
        {chain.where,
         shown(name) + " is neither a user nor an alias here, and what is sent there comes back: " +
             shown(chain) + "; correct the name, or remove it",
         chain.nodes.size()});
  }

  // Without the domain that names have anyway.
  std::string shown(const std::string& node) const {
    const auto home = "@" + folded_case(book_.home());
    return escaped(node.ends_with(home) ? node.substr(0, node.size() - home.size()) : node);
  }
  std::string shown(const Ways::Chain& chain) const {
    std::string text;
    const auto& nodes = chain.nodes;
    for (std::size_t i = 0; i < nodes.size(); ++i) {
      if (nodes.size() > kMostShown && i == kMostShown - 2) {
        text.append(" -> ...");
        i = nodes.size() - 2;
        continue;
      }
      text.append(i == 0 ? "" : " -> ").append(shown(nodes[i]));
    }
    return text;
  }

  const LocalAddresses& book_;
  const Users& users_;
  std::size_t followed_ = 0;
  std::map<Key, Doubt> doubts_;
  std::vector<std::pair<std::string, Doubt>> too_long_;  // and whose
  std::unordered_set<std::string> on_the_way_;           // of others that are too long
};

}  // namespace

std::vector<std::string> doubts_about_aliases(const LocalAddresses& book, const Users& users,
                                              const std::vector<std::string>& addresses) {
  return Doubts(book, users).look(addresses);
}

}  // namespace postrider::delivery
