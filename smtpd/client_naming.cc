#include "smtpd/client_naming.h"

#include <utility>

namespace postrider::smtpd {

namespace {

constexpr const char* kGivenUp = "the session ends";

}  // namespace

void ClientNaming::begin(const Client& client, Role role, const ServerSettings& settings,
                         OnName on_name) {
  auto* questioner = connections_.questioner();
  if (!settings.looks_up_names || questioner == nullptr || role != Role::mx || client.trusted ||
      client.address.is_none())
    return;
  if (const auto known =
          connections_.client_names().find(client.address, connections_.clock().steady()))
    return on_name(*known);
  address_ = client.address;
  on_name_ = std::move(on_name);
  run_ = questioner->start(filter::find_client_name(address_), settings.name_patience);
  if (run_->done())
    end(run_->result());
}

Task<void> ClientNaming::await() {
  if (!run_)
    co_return;
  if (has_given_up_)
    run_->give_up(kGivenUp);
  co_await run_->wait();
  end(run_->result());
}

void ClientNaming::end(const ClientName& name) {
  run_.reset();
  if (!has_given_up_)
    connections_.client_names().keep(address_, name, connections_.clock().steady());
  on_name_(name);
}

void ClientNaming::give_up() {
  has_given_up_ = true;
  if (run_)
    run_->give_up(kGivenUp);
}

}  // namespace postrider::smtpd
