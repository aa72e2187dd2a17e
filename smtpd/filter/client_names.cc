#include "smtpd/filter/client_names.h"

#include "base/text.h"
#include "mailauth/dns_name.h"
#include "mailauth/reverse_name.h"

#include <algorithm>
#include <utility>
#include <vector>

namespace postrider::smtpd::filter {

namespace {

constexpr std::size_t kMostNames = 10;  // of one address, that are followed

bool is_host_name(std::string_view name) {
  return mailauth::can_be_asked(name) && std::all_of(name.begin(), name.end(), [](char c) {
           return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                  c == '-' || c == '.' || c == '_';
         });
}

}  // namespace

mailauth::Asking<ClientName> find_client_name(IpAddress client) {
  using mailauth::Question;
  using mailauth::Type;
  using Status = ClientName::Status;
  ClientName found;
  const auto names = co_await mailauth::ask(Question{mailauth::reverse_name(client), Type::ptr});
  if (names.is_failure())
    co_return found;
  found.status = Status::none;
  if (!names.is_found())
    co_return found;
  std::vector<Question> questions;
  for (const auto& host : names.hosts)
    if (questions.size() < kMostNames && is_host_name(host))
      questions.push_back({ascii_lower(host), client.is_v4() ? Type::a : Type::aaaa});
  if (questions.empty())
    co_return found;
  found.status = Status::unconfirmed;
  found.name = questions.front().name;
  const auto answers = co_await mailauth::ask_all(questions);
  for (std::size_t i = 0; i < answers.size(); ++i) {
    const auto& addresses = answers[i].addresses;
    if (std::find(addresses.begin(), addresses.end(), client) != addresses.end()) {
      found.status = Status::confirmed;
      found.name = questions[i].name;
      co_return found;
    }
    // It may lead back.
    if (answers[i].is_failure())
      found.status = Status::unknown;
  }
  co_return found;
}

std::optional<ClientName> ClientNames::find(const IpAddress& client, SteadyTime now) const {
  const auto found = kept_.find(client);
  if (found == kept_.end() || found->second.until <= now)
    return std::nullopt;
  return found->second.name;
}

void ClientNames::keep(const IpAddress& client, const ClientName& name, SteadyTime now) {
  if (const auto found = kept_.find(client); found != kept_.end()) {
    order_.erase(found->second.place);
    kept_.erase(found);
  }
  if (name.status == ClientName::Status::none || name.status == ClientName::Status::unconfirmed)
    return;
  while (kept_.size() >= kMost) {
    kept_.erase(order_.front());
    order_.pop_front();
  }
  const auto until = now + (name.status == ClientName::Status::unknown ? kUnknownKept : kKept);
  kept_.emplace(client, Kept{name, until, order_.insert(order_.end(), client)});
}

}  // namespace postrider::smtpd::filter
