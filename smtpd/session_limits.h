// How many sessions there are, in all and by client address (attacks.md X03), and how much they
// keep in memory. Shared by the loops, since SO_REUSEPORT spreads one client over all of them. The
// mutex is met only by strangers, once at the beginning and once at the end of a session; clients
// of relay_from have no limit by address.
#pragma once

#include "base/network.h"
#include "smtpd/session/session_settings.h"
#include "smtpd/unfinished_tls.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

namespace postrider::smtpd {

class SessionLimits {
 public:
  // In all. False: none is free.
  bool take(std::uint32_t limit);
  void give_back() { open_.fetch_sub(1, std::memory_order_relaxed); }
  std::uint32_t open() const { return open_.load(std::memory_order_relaxed); }

  // What one session keeps in memory of what its client sent: `octets` instead of `before`. False:
  // with the party's other sessions that is more than its share, and the session is to let go of
  // it. A share is a sixteenth of `budget`, and less where little is left: a quarter of that.
  // Strangers share one half of it only. A session that keeps no more than its first octets counts
  // in the sum alone, is refused nothing, and takes nothing from the shares: all of these together
  // have half as much as the budget besides, see first_octets().
  //
  // However many parties have taken all there is together: who asks for less than half of what one
  // of them has is given it, and the session of that one that has kept longest is told to let go.
  // Strangers' go first, and for a stranger no others'.
  using Party = UnfinishedTls::Party;  // without a name: none yet
  // A session in these books.
  class Keeper {
   public:
    virtual ~Keeper() = default;
    // Whether it could at once: it waits for its client. On any thread.
    virtual bool can_let_go() const = 0;
    // Is to keep no more than the first octets, soon. On any thread, and not to call back from it.
    virtual void let_go() = 0;
  };
  static constexpr std::size_t kMostFirst = 16U << 10U, kLeastFirst = 4U << 10U;
  // What every session may keep, so that as many as there may be have half of the memory.
  static std::size_t first_octets(const Limits& limits);
  // keeper: the same as long as it keeps anything. Null: can never be told. first: the same for all
  // calls of one session.
  bool keep(const Party& party, std::size_t octets, std::size_t before, std::size_t budget,
            Keeper* keeper = nullptr, std::size_t first = kMostFirst);
  std::size_t held() const { return held_.load(std::memory_order_relaxed); }

  // What TLS itself takes of each session that is under it. False: all of these together have no more of `budget`, of
  // which strangers have seven eighths.
  bool take_tls(const Party& party, std::size_t octets, std::size_t budget);
  void give_back_tls(std::size_t octets) { tls_.fetch_sub(octets, std::memory_order_relaxed); }
  std::size_t tls() const { return tls_.load(std::memory_order_relaxed); }

  // Beside that, what they keep of TLS that has not come to its end.
  UnfinishedTls& unfinished_tls() { return unfinished_tls_; }
  const UnfinishedTls& unfinished_tls() const { return unfinished_tls_; }

  // By address. False: this client, or its network, has its share.
  bool take_for(const IpAddress& client, const Limits& limits);
  void give_back_for(const IpAddress& client);
  // Of users of this machine, to whom no limit by address applies.
  using PartyOf = std::function<std::optional<std::uint64_t>(std::uint32_t uid)>;
  // Whose share a user's is part of; nothing for who has no limits. Before the first session;
  // thread-safe.
  void limit_users(PartyOf party_of) { party_of_ = std::move(party_of); }
  std::optional<std::uint64_t> party_of(std::uint32_t uid) const {
    return party_of_ ? party_of_(uid) : std::nullopt;
  }
  // False: this party has a quarter of all that there may be.
  bool take_for_user(std::uint64_t party, std::uint32_t limit);
  void give_back_for_user(std::uint64_t party);
  // The address, or the /64 that it is one of.
  static IpAddress client_key(const IpAddress& client);

 private:
  struct Hash {
    std::size_t operator()(const IpAddress& address) const { return address.hash(); }
  };
  using Counts = std::unordered_map<IpAddress, std::uint32_t, Hash>;
  static IpAddress network_key(const IpAddress& client);

  // Beyond what is always kept.
  struct Kept {
    std::uint64_t since = 0;  // the number of its first
    std::size_t octets = 0;
    std::size_t promised = 0;  // of these, when it was told to let go
  };
  struct Share {
    bool is_stranger = true;
    std::size_t octets = 0, promised = 0;  // of all its sessions
    std::map<Keeper*, Kept> sessions;

    std::size_t left() const { return octets - std::min(octets, promised); }
  };
  using Shares = std::unordered_map<std::string, Share>;
  using BySize = std::set<std::pair<std::size_t, Share*>>;  // by what is left of it
  BySize& by_size(const Share& share) { return by_size_[share.is_stranger ? 1 : 0]; }
  Share& share_of(const Party& party);
  void forget(const std::string& party);
  void count(Share& share, Keeper* keeper, std::size_t more, std::size_t less);
  template <class Change>
  void change(Share& share, const Change& change);
  bool make_room(const Share& asking, std::size_t wanted);
  std::vector<Share*> largest(bool of_strangers, const Share& asking);
  std::size_t tell_oldest(Share& from);

  std::atomic<std::uint32_t> open_{0};
  std::atomic<std::size_t> held_{0};
  std::atomic<std::size_t> tls_{0};
  std::mutex mutex_;
  Counts by_client_;
  Counts by_network_;
  std::unordered_map<std::uint64_t, std::uint32_t> by_user_;
  PartyOf party_of_;
  Shares kept_by_;
  std::array<BySize, 2> by_size_;  // ours, and strangers'
  std::size_t of_large_ = 0;       // octets of the sessions in the shares, first ones too
  std::size_t promised_ = 0;       // of all shares
  std::uint64_t number_ = 0;
  UnfinishedTls unfinished_tls_;
};

}  // namespace postrider::smtpd
