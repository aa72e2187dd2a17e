#include "daemon/addresses.h"

#include "daemon/settings.h"
#include "delivery/local/address_list.h"

namespace postrider::daemon {

namespace {

tables::Options alias_options() {
  tables::Options options;
  options.check = delivery::check_alias_value;
  options.substitutes = false;  // a value can be a command
  options.missing_is_empty = true;
  return options;
}

tables::Options virtual_options() {
  tables::Options options;
  options.check = delivery::check_virtual_value;
  return options;
}

Result<std::vector<delivery::TablePtr>> open_all(const std::vector<std::string>& specs,
                                                 const char* option, const tables::Options& options,
                                                 tables::Watcher& watcher) {
  std::vector<delivery::TablePtr> out;
  for (const auto& spec : specs) {
    if (spec.empty())
      continue;  // aliases = "": none
    auto table = watcher.open(spec, options, option);
    if (!table)
      return table.error().during(option);
    out.push_back(*std::move(table));
  }
  return out;
}

void check_all(const std::vector<std::string>& specs, const char* option,
               const tables::Options& options, std::vector<TableProblem>& problems) {
  for (const auto& spec : specs) {
    const auto parsed = tables::parse_spec(spec);
    if (spec.empty() || !parsed)
      continue;  // told with the configuration
    if (auto table = tables::open_table(*parsed, options); !table)
      problems.push_back({option, tables::told(table.error())});
  }
}

}  // namespace

Result<std::vector<delivery::TablePtr>> open_tables(const std::vector<std::string>& specs,
                                                    const char* option, tables::Watcher& watcher) {
  return open_all(specs, option, {}, watcher);
}

Result<std::shared_ptr<const delivery::AddressBook>> open_address_book(const Config& config,
                                                                       tables::Watcher& watcher) {
  delivery::AddressRules rules;
  auto domains = local_domains(config);
  if (!domains)
    return domains.error();
  auto aliases = open_all(config.local.aliases, "local.aliases", alias_options(), watcher);
  if (!aliases)
    return aliases.error();
  auto virtuals = open_all(config.local.virtuals, "local.virtual", virtual_options(), watcher);
  if (!virtuals)
    return virtuals.error();
  rules.domains = std::move(*domains);
  rules.hostname = config.hostname;
  rules.aliases = std::move(*aliases);
  rules.virtuals = std::move(*virtuals);
  rules.separator = config.local.separator;
  rules.forward = config.local.forward;
  rules.catch_all = config.local.catch_all;
  rules.command_user = config.local.alias_user;
  rules.most_recipients = config.local.expansion_recipients;
  rules.most_steps = static_cast<unsigned>(config.local.expansion_steps);
  return std::shared_ptr<const delivery::AddressBook>(
      std::make_shared<delivery::AddressBook>(std::move(rules)));
}

std::vector<TableProblem> check_tables(const Config& config) {
  std::vector<TableProblem> problems;
  check_all(config.local.aliases, "local.aliases", alias_options(), problems);
  check_all(config.local.virtuals, "local.virtual", virtual_options(), problems);
  check_all(config.rewrite.sender, "rewrite.sender", {}, problems);
  check_all(config.rewrite.recipient, "rewrite.recipient", {}, problems);
  check_all(config.accept.senders, "accept.senders", {}, problems);
  check_all(config.accept.recipient_map, "accept.recipient_map", {}, problems);
  check_all(config.accept.relay_recipients, "accept.relay_recipients", {}, problems);
  return problems;
}

}  // namespace postrider::daemon
