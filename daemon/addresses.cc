#include "daemon/addresses.h"

#include "base/quoted.h"
#include "base/text.h"
#include "base/time.h"
#include "daemon/config/listened.h"
#include "daemon/settings.h"
#include "daemon/signing/srs_keys.h"
#include "daemon/tool_folder.h"
#include "delivery/local/addresses/address_list.h"
#include "delivery/local/addresses/alias_doubts.h"
#include "delivery/local/addresses/expander.h"
#include "delivery/local/local_directory.h"
#include "delivery/route_map.h"
#include "delivery/routing/hosts.h"
#include "mail/address.h"
#include "smtpd/filter/copies.h"
#include "tables/cdb.h"
#include "tables/scan.h"

#include <algorithm>
#include <sysexits.h>
#include <unistd.h>

namespace postrider::daemon {

namespace {

tables::Options alias_options() {
  tables::Options options;
  options.check = delivery::check_alias_value;
  options.check_key = delivery::check_alias_name;
  options.lenient = true;
  options.substitutes = false;  // a value can be a command
  options.missing_is_empty = true;
  return options;
}

tables::Options virtual_options() {
  tables::Options options;
  options.check = delivery::check_virtual_value;
  options.lenient = true;
  return options;
}

tables::Options rewrite_options() {
  tables::Options options;
  options.check = mail::check_rewrite_value;
  return options;
}

tables::Options access_options() {
  tables::Options options;
  options.check = smtpd::check_access_value;
  return options;
}

tables::Options route_options() {
  tables::Options options;
  options.check = delivery::check_route_value;
  options.substitutes = false;
  return options;
}

tables::Options copy_options() {
  tables::Options options;
  options.check = smtpd::filter::check_copy_value;
  return options;
}

// One word, so that others may be added.
tables::Options exception_options() {
  tables::Options options;
  options.check = [](std::string_view value) {
    return value == "ok" ? std::string() : std::string("only ok may stand here");
  };
  return options;
}

using Trouble = std::shared_ptr<std::optional<Error>>;

// Another user's table, which may not stop what the others say.
class PassedOver : public tables::Table {
 public:
  PassedOver(delivery::TablePtr table, Trouble trouble)
      : table_(std::move(table)), trouble_(std::move(trouble)) {}
  Result<std::optional<tables::Entry>> find(std::string_view key) const override {
    auto found = table_->find(key);
    if (found)
      return found;
    *trouble_ = found.error();
    return std::optional<tables::Entry>();
  }
  bool has_patterns() const override { return table_->has_patterns(); }

 private:
  const delivery::TablePtr table_;
  const Trouble trouble_;
};

// A domain is asked for in A-labels, and may be written in U-labels (RFC 5890 §2.3.2.1) in a table.
class InBothLabels : public tables::Table {
 public:
  explicit InBothLabels(delivery::TablePtr table) : table_(std::move(table)) {}
  Result<std::optional<tables::Entry>> find(std::string_view key) const override {
    auto found = table_->find(key);
    if (!found || found->has_value() || key.find("xn--") == key.npos)
      return found;
    // "user@domain", "@domain", ".domain" or "domain"
    const auto at = key.rfind('@');
    const auto begin = at == key.npos ? std::min(key.find_first_not_of('.'), key.size()) : at + 1;
    const auto other =
        std::string(key.substr(0, begin)) + mail::to_unicode_domain(key.substr(begin));
    return other == key ? std::move(found) : table_->find(other);
  }
  bool has_patterns() const override { return table_->has_patterns(); }
  std::size_t size() const override { return table_->size(); }
  bool is_left_out() const override { return table_->is_left_out(); }
  std::vector<std::string> problems() const override { return table_->problems(); }

 private:
  const delivery::TablePtr table_;
};

// watcher: null for one question to the files as they are.
Result<delivery::TablePtr> open_one(const std::string& spec, const char* option,
                                    const tables::Options& options, tables::Watcher* watcher,
                                    const Trouble& trouble) {
  if (watcher != nullptr)
    return watcher->open(spec, options, option);
  const auto parsed = tables::parse_spec(spec);
  if (!parsed)
    return parsed.error();
  if (!trouble)
    return tables::open_table(*parsed, options);
  auto table = tables::scan_table(*parsed, options);
  if (!tables::is_of_others(*parsed))
    return table;
  return delivery::TablePtr(std::make_shared<PassedOver>(std::move(table), trouble));
}

Result<std::vector<delivery::TablePtr>> open_all(const std::vector<std::string>& specs,
                                                 const char* option, const tables::Options& options,
                                                 tables::Watcher* watcher,
                                                 const Trouble& trouble = {}) {
  std::vector<delivery::TablePtr> out;
  for (const auto& spec : specs) {
    if (spec.empty())
      continue;  // aliases = "": none
    auto table = open_one(spec, option, options, watcher, trouble);
    if (!table)
      return table.error().during(option);
    out.push_back(std::make_shared<InBothLabels>(*std::move(table)));
  }
  return out;
}

void check_all(const std::vector<std::string>& specs, const char* option,
               const tables::Options& options, std::vector<TableProblem>& problems) {
  for (const auto& spec : specs) {
    const auto parsed = tables::parse_spec(spec);
    if (spec.empty() || !parsed)
      continue;  // told with the configuration
    const auto table = tables::open_table(*parsed, options);
    if (!table) {
      const auto code = table.error().code();
      const bool was_read =
          code == make_error_code(Errc::malformed) || code == make_error_code(Errc::corrupt);
      problems.push_back({option, tables::told(table.error()), false, was_read});
    } else {
      for (auto& problem : (*table)->problems())
        problems.push_back({option, std::move(problem), true});
    }
  }
}

// What is known of it here and now: tables on a server are not asked.
void check_catch_all(const Config& config, std::vector<TableProblem>& problems) {
  const auto& to = config.local.catch_all;
  if (to.empty() || book_asks_servers(config))
    return;
  const auto opened = open_address_book_now(config);
  if (!opened || *opened->trouble)
    return;
  const SystemClock clock;
  const delivery::LocalDirectory directory(opened->book, config.local.mailbox, clock);
  if (delivery::look_ahead(*opened->book, directory, to) == mail::Directory::Answer::unknown)
    problems.push_back({"local.catch_all",
                        quote_value(to) +
                            " leads to nobody, so mail for unknown users is refused; expected a "
                            "user, an alias or an address, or an empty text",
                        true});
}

mail::Rewriter::Find find_in(std::vector<delivery::TablePtr> tables) {
  if (tables.empty())
    return {};
  return [tables = std::move(tables)](const std::string& key,
                                      bool whole) -> Result<std::optional<mail::Rewriter::Entry>> {
    for (const auto& table : tables) {
      if (table->has_patterns() && !whole)
        continue;
      auto found = table->find(key);
      if (!found)
        return found.error();
      if (found->has_value())
        return std::optional(
            mail::Rewriter::Entry{std::move((*found)->value), std::move((*found)->where)});
    }
    return std::optional<mail::Rewriter::Entry>();
  };
}

Report one_line_report(int code, const std::string& text) {
  return {code, text + "\n"};
}

std::string warnings(const std::vector<std::string>& problems) {
  std::string text;
  for (const auto& problem : problems)
    text += "warning: " + problem + "\n";
  return text;
}

int exit_code_of(const Error& error) {
  const bool is_ours = error.code() == make_error_code(Errc::malformed) ||
                       error.code() == make_error_code(Errc::refused) ||
                       error.code() == make_error_code(Errc::corrupt);
  return is_ours ? EX_DATAERR : EX_NOINPUT;
}

// "cdb:/etc/aliases.cdb" is made from /etc/aliases. Root may compile another user's, in a folder of
// that user's: it is written into the folder that was opened, and stays that user's.
Report compile(const tables::Spec& spec) {
  constexpr std::string_view kEnding = ".cdb";
  if (!spec.path.ends_with(kEnding))
    return one_line_report(EX_DATAERR, spec.path + ": the name of a compiled table ends with .cdb");
  tables::Spec source;
  source.kind = tables::Kind::aliases;
  source.path = spec.path.substr(0, spec.path.size() - kEnding.size());
  auto rules = alias_options();
  rules.check_key = nullptr;  // the database may serve where keys are addresses
  std::vector<std::string> problems;
  const auto folder =
      open_folder_to_write(spec.path.substr(0, std::max<std::size_t>(spec.path.rfind('/'), 1)));
  if (!folder)
    return one_line_report(EX_CANTCREAT, folder.error().describe());
  uid_t owner = 0;
  const auto entries = tables::read_entries(source, rules, problems, &owner);
  if (!entries)
    return one_line_report(exit_code_of(entries.error()), tables::told(entries.error()));
  if (auto built = tables::build_cdb({*folder, spec.path, owner}, *entries); !built)
    return one_line_report(EX_CANTCREAT, built.error().describe());
  return one_line_report(EX_OK, warnings(problems) + source.path + ": " +
                                    std::to_string(entries->size()) + " aliases, written to " +
                                    spec.path);
}

Report check_aliases_of(const std::string& text) {
  const auto spec = tables::parse_spec(text);
  if (!spec)
    return one_line_report(EX_CONFIG, "local.aliases: " + spec.error().step());
  if (spec->kind == tables::Kind::cdb)
    return compile(*spec);
  auto options = alias_options();
  options.missing_is_empty = false;
  const auto table = tables::open_table(*spec, options);
  const auto name = spec->path.empty() ? text : spec->path;
  if (!table && table.error().code() == boost::system::errc::no_such_file_or_directory)
    return one_line_report(EX_OK, name + ": does not exist, so there are no aliases");
  if (!table)
    return one_line_report(exit_code_of(table.error()), tables::told(table.error()));
  if (tables::is_asked(spec->kind))
    return one_line_report(EX_OK, name + ": can be read");
  const bool is_useless = (*table)->size() == 0 && !(*table)->problems().empty();
  return one_line_report(is_useless ? EX_DATAERR : EX_OK,
                         warnings((*table)->problems()) + name + ": " +
                             std::to_string((*table)->size()) +
                             ((*table)->size() == 1 ? " alias" : " aliases"));
}

}  // namespace

namespace {

// Of the addresses that are listened on. Addresses that this machine gets later count with the next
// reload.
std::vector<std::string> literals(const Config& config) {
  std::vector<std::string> found;
  bool is_any = false;
  for (const auto& listener : config.listeners)
    if (const auto place = listener_place(listener.address)) {
      is_any = is_any || place->is_any();
      found.push_back(place->address.literal());
    }
  if (is_any)
    for (const auto& address : delivery::addresses_of_this_machine())
      if (const auto parsed = IpAddress::parse(address.to_string()))
        found.push_back(parsed->literal());
  return found;
}

Result<std::shared_ptr<const delivery::LocalAddresses>> make_address_book(const Config& config,
                                                                          tables::Watcher* watcher,
                                                                          const Trouble& trouble,
                                                                          const Clock* clock) {
  delivery::AddressRules rules;
  if (clock != nullptr) {
    auto rewriter = open_sender_rewriter(config, *clock);
    if (!rewriter)
      return rewriter.error();
    rules.rewriter = std::move(*rewriter);
  }
  auto domains = local_domains(config);
  if (!domains)
    return domains.error();
  auto aliases = open_all(config.local.aliases, "local.aliases", alias_options(), watcher, trouble);
  if (!aliases)
    return aliases.error();
  auto virtuals =
      open_all(config.local.virtuals, "local.virtual", virtual_options(), watcher, trouble);
  if (!virtuals)
    return virtuals.error();
  rules.domains = std::move(*domains);
  rules.literals = literals(config);
  rules.hostname = config.hostname;
  rules.aliases = std::move(*aliases);
  rules.virtuals = std::move(*virtuals);
  rules.separator = config.local.separator;
  rules.forward = config.local.forward;
  rules.catch_all = config.local.catch_all;
  rules.command_user = config.local.alias_user;
  rules.command_users = config.local.command_users;
  rules.most_recipients = config.local.expansion_recipients;
  rules.most_steps = static_cast<unsigned>(config.local.expansion_steps);
  return std::shared_ptr<const delivery::LocalAddresses>(
      std::make_shared<delivery::LocalAddresses>(std::move(rules)));
}

}  // namespace

Result<std::shared_ptr<const delivery::LocalAddresses>> open_address_book(const Config& config,
                                                                          tables::Watcher& watcher,
                                                                          const Clock& clock) {
  return make_address_book(config, &watcher, {}, &clock);
}

Result<OpenedBook> open_address_book_now(const Config& config) {
  const auto trouble = std::make_shared<std::optional<Error>>();
  auto book = make_address_book(config, nullptr, trouble, nullptr);
  if (!book)
    return book.error();
  return OpenedBook{*std::move(book), trouble};
}

bool book_asks_servers(const Config& config) {
  const auto is_server = [](const std::string& text) {
    const auto spec = tables::parse_spec(text);
    return spec && tables::is_asked(spec->kind) && spec->kind != tables::Kind::sqlite;
  };
  return std::any_of(config.local.aliases.begin(), config.local.aliases.end(), is_server) ||
         std::any_of(config.local.virtuals.begin(), config.local.virtuals.end(), is_server);
}

namespace {

// The file of lines that a table has, or is compiled from, if there is one.
std::optional<tables::Spec> lines_of(const std::string& text) {
  constexpr std::string_view kCompiled = ".cdb";
  auto spec = tables::parse_spec(text);
  if (text.empty() || !spec)
    return std::nullopt;
  if (spec->kind == tables::Kind::cdb && spec->path.ends_with(kCompiled)) {
    spec->kind = tables::Kind::aliases;
    spec->path.resize(spec->path.size() - kCompiled.size());
  }
  const bool has_lines = spec->kind == tables::Kind::aliases || spec->kind == tables::Kind::text;
  return has_lines && ::access(spec->path.c_str(), R_OK) == 0 ? std::optional(*spec) : std::nullopt;
}

// Whole addresses that have an entry there; of patterns and domains there are no such.
void add_keys(const std::string& text, const tables::Options& options, const std::string& home,
              std::vector<std::string>& addresses) {
  const auto spec = lines_of(text);
  if (!spec)
    return;
  std::vector<std::string> problems;
  auto rules = options;
  rules.check_key = nullptr;
  const auto entries = tables::read_entries(*spec, rules, problems);
  if (!entries)
    return;
  const bool are_names = !home.empty();
  for (const auto& [key, value] : *entries) {
    if (key.find('@') != key.npos && !key.starts_with('@'))
      addresses.push_back(key);
    else if (are_names && key.find('@') == key.npos)
      addresses.push_back(mail::quoted_local_part(key) + "@" + home);
  }
}

}  // namespace

std::vector<std::string> alias_doubts(const Config& config) {
  if (book_asks_servers(config))
    return {};
  auto with_lines = config;
  for (auto& text : with_lines.local.aliases)
    if (const auto spec = lines_of(text); spec && text.starts_with("cdb:"))
      text = "aliases:" + spec->path;
  const auto book = make_address_book(with_lines, nullptr, {}, nullptr);
  if (!book)
    return {};
  std::vector<std::string> addresses;
  for (const auto& text : config.local.aliases)
    add_keys(text, alias_options(), (*book)->home(), addresses);
  for (const auto& text : config.local.virtuals)
    add_keys(text, virtual_options(), "", addresses);
  const SystemClock clock;
  const delivery::LocalDirectory directory(*book, config.local.mailbox, clock);
  return delivery::doubts_about_aliases(**book, directory, addresses);
}

Report rebuild_aliases(const Config& config) {
  Report all;
  for (const auto& text : config.local.aliases) {
    if (text.empty())
      continue;
    const auto one = check_aliases_of(text);
    all.text += one.text;
    if (all.exit_code == EX_OK)
      all.exit_code = one.exit_code;
  }
  if (all.exit_code == EX_OK)
    all.text = warnings(alias_doubts(config)) + all.text;
  return all;
}

Result<std::shared_ptr<const mail::Rewriter>> open_rewriter(
    const Config& config, tables::Watcher& watcher,
    std::shared_ptr<const delivery::LocalAddresses> book) {
  const auto& rewrite = config.rewrite;
  if (rewrite.sender.empty() && rewrite.recipient.empty() && rewrite.masquerade.empty())
    return std::shared_ptr<const mail::Rewriter>();
  auto sender = open_all(rewrite.sender, "rewrite.sender", rewrite_options(), &watcher);
  if (!sender)
    return sender.error();
  auto recipient = open_all(rewrite.recipient, "rewrite.recipient", rewrite_options(), &watcher);
  if (!recipient)
    return recipient.error();
  mail::Rewriter::Rules rules;
  rules.sender = find_in(*std::move(sender));
  rules.recipient = find_in(*std::move(recipient));
  rules.is_local = [book = std::move(book)](std::string_view domain) {
    return book->is_local(domain) || domain == book->home();
  };
  rules.separator = config.local.separator;
  for (const auto& domain : rewrite.masquerade) {
    auto ascii = mail::to_ascii_domain(domain);
    if (!ascii)
      return ascii.error().during("rewrite.masquerade");
    rules.masquerade.push_back(*std::move(ascii));
  }
  rules.masquerade_except = rewrite.masquerade_except;
  return std::shared_ptr<const mail::Rewriter>(std::make_shared<mail::Rewriter>(std::move(rules)));
}

Result<ReceivingTables> open_receiving_tables(
    const Config& config, tables::Watcher& watcher,
    std::shared_ptr<const delivery::LocalAddresses> book) {
  const auto& accept = config.accept;
  auto senders = open_all(accept.senders, "accept.senders", access_options(), &watcher);
  if (!senders)
    return senders.error();
  auto recipients =
      open_all(accept.recipient_map, "accept.recipient_map", access_options(), &watcher);
  if (!recipients)
    return recipients.error();
  auto relayed = open_all(accept.relay_recipients, "accept.relay_recipients", {}, &watcher);
  if (!relayed)
    return relayed.error();
  auto rewriter = open_rewriter(config, watcher, std::move(book));
  if (!rewriter)
    return rewriter.error();
  auto exceptions = open_all(config.authentication.exceptions, "authentication.exceptions",
                             exception_options(), &watcher);
  if (!exceptions)
    return exceptions.error();
  auto clients = open_all(config.checks.clients, "checks.clients", access_options(), &watcher);
  if (!clients)
    return clients.error();
  auto route_map =
      open_all(config.delivery.route_map, "delivery.route_map", route_options(), &watcher);
  if (!route_map)
    return route_map.error();
  auto sender_bcc = open_all(accept.sender_bcc, "accept.sender_bcc", copy_options(), &watcher);
  if (!sender_bcc)
    return sender_bcc.error();
  auto recipient_bcc =
      open_all(accept.recipient_bcc, "accept.recipient_bcc", copy_options(), &watcher);
  if (!recipient_bcc)
    return recipient_bcc.error();
  return ReceivingTables{*std::move(senders),   *std::move(recipients), *std::move(relayed),
                         *std::move(rewriter),  *std::move(exceptions), *std::move(clients),
                         *std::move(route_map), *std::move(sender_bcc), *std::move(recipient_bcc)};
}

std::vector<TableProblem> check_tables(const Config& config) {
  std::vector<TableProblem> problems;
  check_all(config.local.aliases, "local.aliases", alias_options(), problems);
  check_all(config.local.virtuals, "local.virtual", virtual_options(), problems);
  check_all(config.rewrite.sender, "rewrite.sender", rewrite_options(), problems);
  check_all(config.rewrite.recipient, "rewrite.recipient", rewrite_options(), problems);
  check_all(config.accept.senders, "accept.senders", access_options(), problems);
  check_all(config.accept.recipient_map, "accept.recipient_map", access_options(), problems);
  check_all(config.accept.sender_bcc, "accept.sender_bcc", copy_options(), problems);
  check_all(config.accept.recipient_bcc, "accept.recipient_bcc", copy_options(), problems);
  check_all(config.delivery.route_map, "delivery.route_map", route_options(), problems);
  check_all(config.checks.clients, "checks.clients", access_options(), problems);
  check_all(config.accept.relay_recipients, "accept.relay_recipients", {}, problems);
  check_all(config.authentication.exceptions, "authentication.exceptions", exception_options(),
            problems);
  if (problems.empty())
    check_catch_all(config, problems);
  return problems;
}

}  // namespace postrider::daemon
