// `postrider`: its subcommands and their options (design: one table of commands).
#include "cli/administration.h"
#include "cli/dkim_keys.h"
#include "cli/output.h"
#include "cli/passwd_command.h"
#include "cli/programs.h"
#include "daemon/daemon.h"

#include <CLI/CLI.hpp>

#include <functional>
#include <iostream>
#include <map>
#include <sysexits.h>

namespace postrider::cli {

namespace {

constexpr const char* kVerbs[][2] = {
    {"hold", "Keep matching messages until they are released"},
    {"release", "Let held messages go on"},
    {"retry", "Try matching messages now (without a filter: all)"},
    {"remove", "Delete matching messages without notice"},
    {"bounce", "Return matching messages to their senders"},
};

// What was typed. CLI11 writes into it.
struct Typed {
  std::string config;
  bool json = false;
  std::map<std::string, std::string> filter;  // option to text
  std::vector<std::string> ids;
  bool dry_run = false;
  bool all = false;
  bool body = false;
  bool send = false;
  bool today = false;
  std::string target;
  daemon::PasswordChange password;
  DkimKey dkim;
  bool remove = false;
  bool no_scram = false;
  std::function<int()> run;
};

using Text = std::optional<std::string> daemon::FilterText::*;
struct FilterOption {
  const char* name;
  const char* help;
  Text member;
};
constexpr FilterOption kFilterOptions[] = {
    {"--from", "Sender: an address, @domain, or <>", &daemon::FilterText::from},
    {"--to", "Recipient: an address or @domain", &daemon::FilterText::to},
    {"--domain", "Domain of a recipient", &daemon::FilterText::domain},
    {"--site", "Site (set of hosts) that it waits for", &daemon::FilterText::site},
    {"--status", "active, queued, deferred or held", &daemon::FilterText::status},
    {"--reply", "Text in the last reply or reason", &daemon::FilterText::reply},
    {"--older", "Received longer ago than this: 90m, 2h, 5d", &daemon::FilterText::older},
    {"--larger", "Larger than this: 64KiB, 10MB", &daemon::FilterText::larger},
};

void add_filter(CLI::App* command, Typed& typed) {
  for (const auto& option : kFilterOptions)
    command->add_option(option.name, typed.filter[option.name], option.help);
  command->add_option("--id", typed.ids, "Queue id; may be given several times")
      ->allow_extra_args(false);
}

daemon::FilterText filter_of(const CLI::App& app, const Typed& typed) {
  daemon::FilterText filter;
  filter.ids = typed.ids;
  const auto given = [&](const CLI::App* command, const char* name) {
    const auto* option = command->get_option_no_throw(name);
    return option != nullptr && option->count() > 0;
  };
  const CLI::App* queue = app.get_subcommand("queue");
  for (const auto& option : kFilterOptions) {
    bool is_given = given(queue, option.name);
    for (const auto* verb : queue->get_subcommands())
      is_given = is_given || given(verb, option.name);
    if (is_given)
      filter.*option.member = typed.filter.at(option.name);
  }
  return filter;
}

Administration administration(const char* program, const Typed& typed) {
  Administration how;
  how.program = program;
  how.options.config_file = typed.config;
  how.json = typed.json;
  return how;
}

int report(const daemon::Report& made) {
  if (made.exit_code == EX_OK) {
    print(made.text);
  } else {
    std::fflush(stdout);
    std::fwrite(made.text.data(), 1, made.text.size(), stderr);
  }
  return made.exit_code;
}

void add_daemon_commands(CLI::App& app, Typed& typed) {
  auto* run = app.add_subcommand("run", "Run the daemon in the foreground");
  run->callback([&] { typed.run = [&] { return daemon::run({typed.config}); }; });
  auto* check = app.add_subcommand("check", "Check the configuration; every problem is told");
  check->callback([&] { typed.run = [&] { return report(daemon::check({typed.config})); }; });
  auto* config = app.add_subcommand("config", "Print the effective configuration");
  config->callback(
      [&] { typed.run = [&] { return report(daemon::print_config({typed.config})); }; });
}

void add_passwd_command(CLI::App& app, Typed& typed) {
  auto* passwd = app.add_subcommand("passwd", "Set a user's password in the password file");
  passwd->add_option("USER", typed.password.user, "The user")->required();
  passwd->add_option("--file", typed.password.file, "The password file (else auth.users)");
  passwd->add_flag("--delete", typed.remove, "Take the user out");
  passwd->add_flag("--no-scram", typed.no_scram, "Only a hash, without keys for SCRAM-SHA-256");
  passwd->callback([&] {
    typed.run = [&] {
      typed.password.has_scram = !typed.no_scram;
      return change_password({typed.config}, typed.password, typed.remove);
    };
  });
}

void add_dkim_commands(CLI::App& app, Typed& typed) {
  auto* dkim = app.add_subcommand("dkim", "Keys that sign mail (DKIM), and their DNS records");
  dkim->require_subcommand(1);
  auto* fresh = dkim->add_subcommand("new", "Make a key, and print the record to be published");
  fresh->add_flag("--ed25519", typed.dkim.ed25519, "Ed25519 instead of RSA");
  fresh->add_option("--bits", typed.dkim.bits, "Size of an RSA key (2048)");
  fresh->callback([&] { typed.run = [&] { return make_dkim_key({typed.config}, typed.dkim); }; });
  auto* record = dkim->add_subcommand("record", "Print the records of the keys of a domain");
  record->callback(
      [&] { typed.run = [&] { return print_dkim_records({typed.config}, typed.dkim); }; });
  auto* check = dkim->add_subcommand("check", "Compare the records in the DNS with the keys");
  check->add_option("DOMAIN", typed.dkim.domain, "Of this domain alone");
  check->callback([&] {
    typed.run = [&] {
      return report(daemon::check_dkim_records({typed.config}, typed.dkim.domain));
    };
  });
  for (auto* command : {fresh, record}) {
    command->add_option("DOMAIN", typed.dkim.domain, "The domain that signs")->required();
    command->add_option("--selector", typed.dkim.selector, "The key's name in the DNS");
    command->add_option("--folder", typed.dkim.folder,
                        "Where keys are (else dkim beside the configuration)");
  }
}

void add_verbs(CLI::App& app, CLI::App* queue, Typed& typed) {
  for (const auto& row : kVerbs) {
    auto* verb = queue->add_subcommand(row[0], row[1]);
    add_filter(verb, typed);
    verb->add_flag("--dry-run", typed.dry_run, "Only say what would change");
    verb->add_flag("--all", typed.all, "Without a filter: all messages");
    verb->callback([&app, &typed, name = std::string(row[0])] {
      typed.run = [&app, &typed, name] {
        daemon::ControlRequest request;
        request.act = "change";
        request.verb = name;
        request.filter = filter_of(app, typed);
        request.dry_run = typed.dry_run;
        request.all = typed.all;
        return change_queue(administration("postrider queue", typed), request);
      };
    });
  }
}

void add_queue_command(CLI::App& app, Typed& typed) {
  auto* queue = app.add_subcommand("queue", "List, count or change the messages in the queue");
  add_filter(queue, typed);
  queue->add_flag("--json", typed.json, "One JSON object a line");
  queue->require_subcommand(0, 1);
  const auto list = [&app, &typed] {
    return list_queue(administration("postrider queue", typed), filter_of(app, typed));
  };
  auto* list_command = queue->add_subcommand("list", "List (as without a verb)");
  add_filter(list_command, typed);
  auto* count = queue->add_subcommand("count", "Count messages and recipients");
  add_filter(count, typed);
  count->callback([&app, &typed] {
    typed.run = [&app, &typed] {
      return count_queue(administration("postrider queue", typed), filter_of(app, typed));
    };
  });
  add_verbs(app, queue, typed);
  auto* salvage =
      queue->add_subcommand("salvage", "Save what can be read of a damaged queue; daemon stopped");
  salvage->callback([&typed] {
    typed.run = [&typed] { return salvage_queue(administration("postrider queue", typed)); };
  });
  // Called behind the verb's callback, which has the say.
  queue->callback([&typed, list] {
    if (!typed.run)
      typed.run = list;
  });
}

void add_message_commands(CLI::App& app, Typed& typed) {
  auto* show = app.add_subcommand("show", "Show one message: envelope, recipients, headers");
  show->add_option("ID", typed.target, "Queue id")->required();
  show->add_flag("--body", typed.body, "The whole content");
  show->callback([&] {
    typed.run = [&] {
      return show_message(administration("postrider show", typed), typed.target, typed.body);
    };
  });
  auto* why = app.add_subcommand("explain", "What happens, or would happen, and why");
  why->add_option("TARGET", typed.target, "Queue id, address or domain")->required();
  why->callback([&] {
    typed.run = [&] { return explain(administration("postrider explain", typed), typed.target); };
  });
  auto* status = app.add_subcommand("status", "Health in one screen");
  status->callback(
      [&] { typed.run = [&] { return show_status(administration("postrider status", typed)); }; });
  auto* reports = app.add_subcommand("tlsrpt", "TLS results collected for other domains");
  reports->add_flag("--send", typed.send, "Send the reports now instead of after midnight UTC");
  reports->add_flag("--today", typed.today, "With --send: today's results too");
  reports->callback([&] {
    typed.run = [&] {
      return tls_reports(administration("postrider tlsrpt", typed), typed.send, typed.today);
    };
  });
  for (auto* command : {show, why, status, reports})
    command->add_flag("--json", typed.json, "As JSON");
}

}  // namespace

int postrider_main(int argc, char** argv) {
  CLI::App app("Store-and-forward mail transfer agent", "postrider");
  Typed typed;
  app.set_version_flag("--version", "postrider " POSTRIDER_VERSION);
  app.add_option("-c,--config", typed.config,
                 "Configuration file (else $POSTRIDER_CONFIG, /etc/postrider/postrider.toml)");
  app.require_subcommand(1);
  app.fallthrough();
  add_daemon_commands(app, typed);
  add_queue_command(app, typed);
  add_message_commands(app, typed);
  add_passwd_command(app, typed);
  add_dkim_commands(app, typed);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error, std::cout, std::cerr) == 0 ? EX_OK : EX_USAGE;
  }
  return typed.run();
}

}  // namespace postrider::cli
