// Who may hand in mail, before any of it is there: tables of clients, lists in the DNS with scores,
// the client's name in the DNS, what it says in EHLO, greylisting, and policy services as Postfix
// asks them.
//
// Concerns strangers on listeners of the role mx. What is asked of the DNS is asked side by side
// from the connection on, and waited for at the first recipient, until time_limit has passed since
// it was asked: no answer is no verdict, and so is a list that is broken or dead. Mail for
// postmaster and abuse is never refused here (RFC 5321 §4.5.1), nor made to wait.
#pragma once

#include "base/network.h"
#include "mailauth/asking.h"
#include "mailauth/dns_list.h"
#include "smtpd/filter/client_rates.h"
#include "smtpd/filter/greylist.h"
#include "smtpd/filter/mail_filter.h"
#include "smtpd/filter/policy_client.h"

#include <array>
#include <atomic>
#include <cstdint>
#include <list>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

namespace postrider::smtpd::filter {

// Whether the name of EHLO is there: none, no_name; anything else is no reason to doubt it.
mailauth::Asking<bool> is_name_missing(std::string name);

// What lists said lately, of all sessions. Thread-safe, bounded.
class ListCache {
 public:
  static constexpr std::size_t kMost = 20'000;
  static constexpr Duration kKept{std::chrono::minutes(10)};
  static constexpr Duration kBrokenFor{std::chrono::minutes(10)};
  // A list that has not answered so often in a row is left alone for a while, so that good clients
  // do not wait for it.
  static constexpr unsigned kMostSilences = 3;
  static constexpr Duration kSilentFor{std::chrono::minutes(1)};
  std::optional<mailauth::ListVerdict> find(const std::string& key, SteadyTime now);
  void keep(const std::string& key, const mailauth::ListVerdict& verdict, SteadyTime now);
  // Other lists are asked from now on.
  void clear();
  // True: it was not known to be broken until now.
  bool note_broken(const std::string& zone, SteadyTime now);
  // The same of one that did not answer.
  bool note_silent(const std::string& zone, SteadyTime now);
  void note_answered(const std::string& zone);
  // Those of the lists that may be asked now.
  std::vector<mailauth::DnsList> without_broken(const std::vector<mailauth::DnsList>& lists,
                                                SteadyTime now);

 private:
  struct Kept {
    mailauth::ListVerdict verdict;
    SteadyTime until;
    std::list<std::string>::iterator place;
  };
  std::mutex mutex_;
  std::unordered_map<std::string, Kept> kept_;
  std::list<std::string> order_;
  struct Trouble {
    SteadyTime until{};  // it is not asked
    unsigned silences = 0;
  };
  std::unordered_map<std::string, Trouble> troubles_;
};

struct PolicyService {
  // When it is asked, as Postfix has it: at each recipient, before the content (DATA), and when all
  // of it is there (END-OF-MESSAGE).
  enum Moment : std::uint8_t { at_recipient, at_data, at_end };
  static constexpr std::size_t kMoments = 3;

  milter::Address address;
  policy::Patience patience;
};

struct ClientCheckSettings {
  enum class Name : std::uint8_t { off, present, confirmed };  // see ServerSettings::looks_up_names
  enum class Helo : std::uint8_t { off, syntax, present };

  // By address, network and name: ok, reject TEXT, defer TEXT (smtpd/session/access.h).
  std::vector<TablePtr> clients;
  std::vector<mailauth::DnsList> client_lists, domain_lists;
  int refused_from = 1;   // the least score that is refused
  int welcome_from = -1;  // the greatest that nothing else is asked of but policy services
  Name name = Name::off;  // what an address must have
  Helo helo = Helo::off;  // what EHLO must be
  bool reports_only = false;
  std::vector<Network> except_clients;
  std::array<std::uint32_t, ClientRates::kItems> most_per_hour{};  // 0: no limit
  bool greylists = false;
  std::vector<PolicyService> services;
  // For each moment those that are asked then, in that order: places in `services`.
  std::array<std::vector<std::size_t>, PolicyService::kMoments> asked_at;
  bool refuses_without_service = true;  // for now; else goes on
  Duration time_limit{std::chrono::seconds(5)};

  bool asks_dns() const {
    return !client_lists.empty() || !domain_lists.empty() || name != Name::off ||
           helo == Helo::present;
  }
  bool checks_anything() const {
    return most_per_hour != decltype(most_per_hour){} || asks_dns() || helo != Helo::off ||
           greylists || !services.empty() || !clients.empty();
  }
};

// What outlives a reload: counters since start, and what is known of clients.
struct ClientCheckState {
  std::atomic<std::uint64_t> checked{0}, in_table{0}, over_rate{0}, listed{0}, unnamed{0},
      bad_helo{0}, greylisted{0}, welcome{0}, policy_asked{0}, policy_refused{0}, policy_failed{0};
  ListCache lists;
  Greylist greylist{Greylist::Rules()};
  ClientRates rates;
  milter::Total total;
  // By address of a service.
  std::shared_ptr<milter::Gate> gate(const std::string& address);

 private:
  std::mutex mutex_;
  std::unordered_map<std::string, std::shared_ptr<milter::Gate>> gates_;
};

class ClientChecks final : public Source {
 public:
  // state outlives the sessions.
  ClientChecks(ClientCheckSettings settings, ClientCheckState& state);
  std::unique_ptr<Filter> make(const Facts& facts, const Surroundings& around) const override;

 private:
  const std::shared_ptr<const ClientCheckSettings> settings_;
  ClientCheckState& state_;
};

}  // namespace postrider::smtpd::filter
