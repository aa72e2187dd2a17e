// `postrider`: its subcommands and their options (design: one table of commands).
#include "base/escaped_text.h"
#include "base/text.h"
#include "base/version.h"
#include "cli/administration.h"
#include "cli/completion.h"
#include "cli/dkim_keys.h"
#include "cli/live_status.h"
#include "cli/message_export.h"
#include "cli/output.h"
#include "cli/passwd_command.h"
#include "cli/programs.h"
#include "cli/queue_takeover.h"
#include "cli/queue_words.h"
#include "cli/trace_command.h"
#include "cli/usage.h"
#include "cli/verbs.h"
#include "daemon/daemon.h"

#include <CLI/CLI.hpp>

#include <algorithm>
#include <functional>
#include <map>
#include <optional>
#include <sstream>
#include <sysexits.h>
#include <vector>

namespace postrider::cli {

namespace {

constexpr const char* kChanges[] = {"hold",   "release", "retry",  "remove",
                                    "bounce", "expire",  "reroute"};
// Its --to is a host, not the filter: a recipient stands there without an option.
constexpr const char* kReroute = "reroute";

// What was typed. CLI11 writes into it.
struct Typed {
  std::string config;
  bool json = false;
  bool prometheus = false;
  bool is_check = false;
  std::map<std::string, std::string> filter;  // option to text
  std::vector<std::string> ids;
  std::vector<std::string> words;  // behind a verb of the queue: ids, an address, a domain
  std::string by;
  std::string limit;
  std::string span;
  std::string folder;
  std::string next_hop;
  std::vector<std::string> files;
  bool dry_run = false;
  bool keep = false;  // import postfix, exim
  bool all = false;
  bool body = false;
  bool send = false;
  bool today = false;
  bool trouble = false;  // sites
  bool strict = false;   // check
  std::string target;
  std::string last, sink, from_event;  // of events
  std::string every = "2s";            // of top
  bool follow = false;
  std::string since;  // trace
  bool rejected = false;
  daemon::PasswordChange password;
  DkimKey dkim;
  bool remove = false;
  bool no_scram = false;
  std::function<int()> run;
};

using Text = std::optional<std::string> daemon::FilterText::*;
struct FilterOption {
  const char* name;
  const char* value;
  const char* help;
  Text member;
};
constexpr FilterOption kFilterOptions[] = {
    {"--from", "ADDRESS", "Sender: an address, @domain, or <>", &daemon::FilterText::from},
    {"--to", "ADDRESS", "Recipient: an address or @domain", &daemon::FilterText::to},
    {"--domain", "DOMAIN", "Domain of a recipient", &daemon::FilterText::domain},
    {"--site", "SITE", "Site (set of hosts) that it waits for", &daemon::FilterText::site},
    {"--status", "STATUS", "active, queued, deferred, held, dropped or refused",
     &daemon::FilterText::status},
    {"--reply", "TEXT", "Text in the last reply or reason", &daemon::FilterText::reply},
    {"--older", "TIME", "Received longer ago than this: 90m, 2h, 5d", &daemon::FilterText::older},
    {"--larger", "SIZE", "Larger than this: 64KiB, 10MB", &daemon::FilterText::larger},
};

bool is_host_of_reroute(const CLI::App& command, std::string_view option) {
  return option == "--to" && command.get_name() == kReroute;
}

void add_filter(CLI::App& command, Typed& typed) {
  command
      .add_option_function<std::vector<std::string>>(
          "ID|ADDRESS|DOMAIN",
          [&typed](const std::vector<std::string>& words) {
            typed.words.insert(typed.words.end(), words.begin(), words.end());
          },
          "Queue ids, a recipient, @domain or domain")
      ->type_name("");
  for (const auto& option : kFilterOptions)
    if (!is_host_of_reroute(command, option.name))
      command.add_option(option.name, typed.filter[option.name], option.help)
          ->type_name(option.value);
  command.add_option("--id", typed.ids, "Queue id; may be given several times")
      ->type_name("ID")
      ->allow_extra_args(false);
}

daemon::FilterText filter_of(const CLI::App& app, const Typed& typed) {
  daemon::FilterText filter;
  for (const auto& id : typed.ids)
    filter.ids.push_back(unmarked_id(id));
  const auto given = [&](const CLI::App* command, const char* name) {
    const auto* option = command->get_option_no_throw(name);
    return option != nullptr && option->count() > 0;
  };
  const CLI::App* queue = app.get_subcommand("queue");
  for (const auto& option : kFilterOptions) {
    bool is_given = given(queue, option.name);
    for (const auto* verb : queue->get_subcommands())
      is_given = is_given || (!is_host_of_reroute(*verb, option.name) && given(verb, option.name));
    if (is_given)
      filter.*option.member = typed.filter.at(option.name);
  }
  return filter;
}

// The filter, with the words behind the verb; nullopt when one of them is none, which has been
// said.
std::optional<daemon::FilterText> whole_filter(const CLI::App& app, const Typed& typed) {
  auto filter = filter_of(app, typed);
  auto wrong = add_words(typed.words, filter);
  if (wrong.empty())
    return filter;
  for (const auto& word : typed.words)
    if (is_bare_word(word))
      if (auto misspelt = misspelt_verb(app, word); !misspelt.empty())
        wrong = misspelt;
  complain_of_usage(app, wrong);
  return std::nullopt;
}

// What to do with the messages that a filter finds.
using OnFilter = std::function<int(const daemon::FilterText&)>;
std::function<int()> with_filter(const CLI::App& app, const Typed& typed, OnFilter run) {
  return [&app, &typed, run = std::move(run)] {
    const auto filter = whole_filter(app, typed);
    return filter ? run(*filter) : EX_USAGE;
  };
}

Administration administration(const std::string& program, const Typed& typed) {
  Administration how;
  how.program = program;
  how.options.config_file = typed.config;
  how.json = typed.json;
  how.prometheus = typed.prometheus;
  how.is_check = typed.is_check;
  return how;
}

int report(const daemon::Report& made) {
  if (made.exit_code == EX_OK) {
    print(made.text);
  } else {
    const auto text = escaped_text(made.text);
    std::fflush(stdout);
    std::fwrite(text.data(), 1, text.size(), stderr);
  }
  return made.exit_code;
}

void add_daemon_commands(CLI::App& app, Typed& typed) {
  auto& run = add_verb(app, "run");
  run.callback([&] { typed.run = [&] { return daemon::run({typed.config}); }; });
  auto& check = add_verb(app, "check");
  check.add_flag("--strict", typed.strict, "Exit status 78 for warnings, too");
  check.callback(
      [&] { typed.run = [&] { return report(daemon::check({typed.config}, typed.strict)); }; });
  auto& reload = add_verb(app, "reload");
  reload.callback([&] {
    typed.run = [&] { return reload_daemon(administration("postrider reload", typed)); };
  });
  auto& config = add_verb(app, "config");
  config.callback(
      [&] { typed.run = [&] { return report(daemon::print_config({typed.config})); }; });
}

void add_doctor_command(CLI::App& app, Typed& typed) {
  auto& doctor = add_verb(app, "doctor");
  doctor.add_option("DOMAIN", typed.target, "Whose mail is sent (else origin)")->type_name("");
  doctor.add_flag("--json", typed.json, "For programs");
  doctor.callback([&] {
    typed.run = [&] {
      const auto found = daemon::examine({typed.config}, typed.target, typed.json);
      if (found.exit_code == EX_CONFIG || found.exit_code == EX_NOPERM ||
          found.exit_code == EX_USAGE)
        return report(found);
      // The code says what was found only to who could read it.
      return print(found.text) ? found.exit_code : EX_IOERR;
    };
  });
}

void add_passwd_command(CLI::App& app, Typed& typed) {
  auto& passwd = add_verb(app, "passwd");
  passwd.add_option("USER", typed.password.user, "The user")->type_name("")->required();
  passwd.add_option("--file", typed.password.file, "The password file (else auth.users)")
      ->type_name("FILE");
  passwd.add_flag("--delete", typed.remove, "Take the user out");
  passwd.add_flag("--no-scram", typed.no_scram, "Only a hash, without keys for SCRAM-SHA-256");
  passwd.callback([&] {
    typed.run = [&] {
      typed.password.has_scram = !typed.no_scram;
      return change_password({typed.config}, typed.password, typed.remove);
    };
  });
}

void add_dkim_commands(CLI::App& app, Typed& typed) {
  auto& dkim = add_verb(app, "dkim");
  dkim.require_subcommand(1);
  auto& fresh = add_verb(app, "dkim new");
  fresh.add_flag("--ed25519", typed.dkim.ed25519, "Ed25519 instead of RSA");
  fresh.add_option("--bits", typed.dkim.bits, "Size of an RSA key (2048)")->type_name("NUMBER");
  fresh.callback([&] { typed.run = [&] { return make_dkim_key({typed.config}, typed.dkim); }; });
  auto& record = add_verb(app, "dkim record");
  record.callback(
      [&] { typed.run = [&] { return print_dkim_records({typed.config}, typed.dkim); }; });
  auto& check = add_verb(app, "dkim check");
  check.add_option("DOMAIN", typed.dkim.domain, "Of this domain alone")->type_name("");
  check.callback([&] {
    typed.run = [&] {
      return report(daemon::check_dkim_records({typed.config}, typed.dkim.domain));
    };
  });
  for (auto* command : {&fresh, &record}) {
    command->add_option("DOMAIN", typed.dkim.domain, "The domain that signs")
        ->type_name("")
        ->required();
    command->add_option("--selector", typed.dkim.selector, "The key's name in the DNS")
        ->type_name("NAME");
    command
        ->add_option("--folder", typed.dkim.folder,
                     "Where keys are (else dkim beside the configuration)")
        ->type_name("FOLDER");
  }
}

void add_changes(CLI::App& app, Typed& typed) {
  for (const std::string name : kChanges) {
    auto& verb = add_verb(app, "queue " + name);
    add_filter(verb, typed);
    if (name == kReroute)
      verb.add_option("--to", typed.next_hop,
                      "The host: a name or [address], with :port; or smtps://, lmtp://")
          ->type_name("HOST")
          ->required();
    verb.add_flag("--dry-run", typed.dry_run, "Only say what would change");
    verb.add_flag("--all", typed.all, "Without a filter: all messages");
    verb.callback([&app, &typed, name] {
      typed.run = with_filter(app, typed, [&typed, name](const daemon::FilterText& filter) {
        daemon::ControlRequest request;
        request.act = "change";
        request.verb = name;
        request.filter = filter;
        request.dry_run = typed.dry_run;
        request.all = typed.all;
        request.next_hop = typed.next_hop;
        return change_queue(administration("postrider queue", typed), request);
      });
    });
  }
}

void add_summary(CLI::App& app, Typed& typed) {
  auto& summary = add_verb(app, "queue summary");
  add_filter(summary, typed);
  summary.add_option("--by", typed.by, "domain (default), site, sender, client, reason or age")
      ->type_name("KEY");
  summary.add_option("--limit", typed.limit, "So many groups, the largest (20; 0: all)")
      ->type_name("NUMBER");
  summary.callback([&app, &typed] {
    typed.run = with_filter(app, typed, [&typed](const daemon::FilterText& filter) {
      daemon::ControlRequest request;
      request.act = "summary";
      request.filter = filter;
      request.by = typed.by;
      request.limit = typed.limit;
      return summarize_queue(administration("postrider queue summary", typed), request);
    });
  });
}

void add_pauses(CLI::App& app, Typed& typed) {
  for (const std::string name : {"pause", "resume"}) {
    auto& verb = add_verb(app, "queue " + name);
    verb.add_option("DOMAIN", typed.words, "Mail to this domain")->type_name("");
    verb.add_option("--domain", typed.filter["--domain"], "The same")->type_name("DOMAIN");
    verb.add_option("--from", typed.filter["--from"],
                    "Mail from this sender: an address, @domain, or <>")
        ->type_name("ADDRESS");
    verb.add_flag("--all", typed.all, name == "pause" ? "All mail" : "Every pause");
    if (name == "pause")
      verb.add_option("--for", typed.span, "Only so long: 90m, 2h, 5d")->type_name("TIME");
    verb.add_flag("--dry-run", typed.dry_run, "Only say what would change");
    verb.callback([&app, &typed, name] {
      typed.run = with_filter(app, typed, [&typed, name](const daemon::FilterText& filter) {
        daemon::ControlRequest request;
        request.act = name;
        request.filter = filter;
        request.all = typed.all;
        request.dry_run = typed.dry_run;
        request.span = typed.span;
        return pause_queue(administration("postrider queue " + name, typed), request);
      });
    });
  }
}

void add_files(CLI::App& app, Typed& typed) {
  auto& out = add_verb(app, "queue export");
  add_filter(out, typed);
  out.add_option("--folder", typed.folder, "Where the files are made, each as ID.eml")
      ->type_name("FOLDER")
      ->required();
  out.callback([&app, &typed] {
    typed.run = with_filter(app, typed, [&typed](const daemon::FilterText& filter) {
      return export_queue(administration("postrider queue export", typed), filter, typed.folder);
    });
  });
}

void add_imports(CLI::App& app, Typed& typed) {
  auto& in = add_verb(app, "queue import");
  in.add_option("FILE", typed.files, "Files that an export made")->type_name("");
  in.require_subcommand(0, 1);
  constexpr struct {
    const char* path;
    daemon::Predecessor whose;
  } kPredecessors[] = {{"queue import postfix", daemon::Predecessor::postfix},
                       {"queue import exim", daemon::Predecessor::exim}};
  for (const auto& one : kPredecessors) {
    auto& from = add_verb(app, one.path);
    from.add_option("FOLDER", typed.folder, "Its queue's")->type_name("")->required();
    from.add_flag("--dry-run", typed.dry_run, "Only say what would be taken");
    from.add_flag("--keep", typed.keep, "Leave its files where they are");
    from.callback([&typed, one] {
      typed.run = [&typed, one] {
        return take_over_queue(administration(std::string("postrider ") + one.path, typed),
                               {one.whose, typed.folder, typed.keep, typed.dry_run});
      };
    });
  }
  // Called behind the callback of one of these, which has the say.
  in.callback([&typed] {
    if (typed.run)
      return;
    if (typed.files.empty())
      throw CLI::RequiredError("FILE");
    typed.run = [&typed] {
      return import_queue(administration("postrider queue import", typed), typed.files);
    };
  });
}

void add_show(CLI::App& app, const char* path, Typed& typed) {
  auto& show = add_verb(app, path);
  show.add_option("ID", typed.target, "Queue id")->type_name("")->required();
  show.add_flag("--body", typed.body, "The whole content");
  show.add_flag("--json", typed.json, "As JSON");
  show.callback([&typed, program = "postrider " + std::string(path)] {
    typed.run = [&typed, program] {
      return show_message(administration(program.c_str(), typed), unmarked_id(typed.target),
                          typed.body);
    };
  });
}

void add_queue_command(CLI::App& app, Typed& typed) {
  auto& queue = add_verb(app, "queue");
  add_filter(queue, typed);
  queue.add_flag("--json", typed.json, "One JSON object a line");
  queue.require_subcommand(0, 1);
  const auto list = with_filter(app, typed, [&typed](const daemon::FilterText& filter) {
    return list_queue(administration("postrider queue", typed), filter);
  });
  add_filter(add_verb(app, "queue list"), typed);
  auto& count = add_verb(app, "queue count");
  add_filter(count, typed);
  count.callback([&app, &typed] {
    typed.run = with_filter(app, typed, [&typed](const daemon::FilterText& filter) {
      return count_queue(administration("postrider queue", typed), filter);
    });
  });
  add_show(app, "queue show", typed);
  add_changes(app, typed);
  add_summary(app, typed);
  add_pauses(app, typed);
  add_files(app, typed);
  add_imports(app, typed);
  add_verb(app, "queue salvage").callback([&typed] {
    typed.run = [&typed] { return salvage_queue(administration("postrider queue", typed)); };
  });
  // Called behind the verb's callback, which has the say.
  queue.callback([&typed, list] {
    if (!typed.run)
      typed.run = list;
  });
}

void add_report_commands(CLI::App& app, Typed& typed) {
  constexpr struct {
    const char* verb;
    const char* act;
  } kReports[] = {{"tlsrpt", "tls_reports"}, {"dmarc-reports", "dmarc_reports"}};
  for (const auto& one : kReports) {
    auto& reports = add_verb(app, one.verb);
    reports.add_flag("--send", typed.send, "Send the reports now instead of after midnight UTC");
    reports.add_flag("--today", typed.today, "With --send: today's results too");
    reports.add_flag("--json", typed.json, "As JSON");
    reports.callback([&typed, one] {
      typed.run = [&typed, one] {
        return daily_reports(administration(std::string("postrider ") + one.verb, typed), one.act,
                             typed.send, typed.today);
      };
    });
  }
}

void add_trace(CLI::App& app, Typed& typed) {
  auto& trace = add_verb(app, "trace");
  trace
      .add_option("ID|ADDRESS|MESSAGE-ID", typed.target,
                  "Queue id; sender, recipient or @domain; or Message-ID")
      ->type_name("");
  for (const char* name : {"--from", "--to"})
    trace
        .add_option(name, typed.filter[name],
                    name == std::string_view("--from") ? "Sender: an address, @domain, or <>"
                                                       : "Recipient: an address or @domain")
        ->type_name("ADDRESS");
  trace.add_option("--since", typed.since, "Not before: 2h, 2026-11-29, 2026-11-29T13:05")
      ->type_name("TIME");
  trace.add_option("--limit", typed.limit, "So many messages, the newest (100; 0: all)")
      ->type_name("NUMBER");
  trace.add_flag("--rejected", typed.rejected, "Mail that was refused, which has no queue id");
  trace.add_flag("--json", typed.json, "One JSON document");
  trace.callback([&typed, &trace] {
    typed.run = [&typed, &trace] {
      daemon::ControlRequest request;
      request.act = "trace";
      request.target = typed.target;
      if (trace.count("--from") > 0)
        request.filter.from = typed.filter["--from"];
      if (trace.count("--to") > 0)
        request.filter.to = typed.filter["--to"];
      request.since = typed.since;
      request.limit = typed.limit;
      request.rejected = typed.rejected;
      return trace_mail(administration("postrider trace", typed), std::move(request));
    };
  });
}

void add_message_commands(CLI::App& app, Typed& typed) {
  add_show(app, "show", typed);
  auto& why = add_verb(app, "explain");
  why.add_option("ID|ADDRESS|DOMAIN", typed.target, "Queue id, address, user here, or domain")
      ->type_name("")
      ->required();
  why.callback([&] {
    typed.run = [&] {
      return explain(administration("postrider explain", typed), unmarked_id(typed.target));
    };
  });
  auto& status = add_verb(app, "status");
  status.add_flag("--prometheus", typed.prometheus, "As metrics, in the text format of Prometheus");
  status.add_flag("--check", typed.is_check,
                  "Exit status 1 if there is an alarm, 2 if no mail is accepted");
  status.callback(
      [&] { typed.run = [&] { return show_status(administration("postrider status", typed)); }; });
  auto& top = add_verb(app, "top");
  top.add_option("--every", typed.every, "So often (2s)")->type_name("TIME");
  top.callback([&] {
    typed.run = [&] {
      const auto how = administration("postrider top", typed);
      const auto every = parse_duration(typed.every);
      if (!every || *every < Duration(100) || *every > std::chrono::hours(1))
        return complain(how.program, EX_USAGE, "--every takes a time from 100ms to 1h, such as 2s");
      return show_live_status(how, *every);
    };
  });
  add_trace(app, typed);
  auto& sites = add_verb(app, "sites");
  sites.add_flag("--trouble", typed.trouble, "Those alone that are blocked, or have an alarm");
  sites.callback([&] {
    typed.run = [&] { return show_sites(administration("postrider sites", typed), typed.trouble); };
  });
  auto& events = add_verb(app, "events");
  events.add_option("--after", typed.target, "Only those behind the event with this id")
      ->type_name("ID");
  events.add_option("--last", typed.last, "Only so many of the newest")->type_name("NUMBER");
  events.add_flag("--follow", typed.follow, "Go on with those that come");
  auto& replay = add_verb(app, "events replay");
  replay.add_option("SINK", typed.sink, "Its name")->type_name("")->required();
  replay.add_option("--from", typed.from_event, "Beginning with the event with this id")
      ->type_name("ID");
  replay.callback([&] {
    typed.run = [&] {
      return replay_events(administration("postrider events", typed), typed.sink, typed.from_event);
    };
  });
  events.require_subcommand(0, 1);
  // Called behind the callback of replay, which has the say.
  events.callback([&] {
    if (!typed.run)
      typed.run = [&] {
        return show_events(administration("postrider events", typed), typed.target, typed.last,
                           typed.follow);
      };
  });
  for (auto* command : {&why, &status, &sites})
    command->add_flag("--json", typed.json, "As JSON");
}

// `postrider help queue hold` is `postrider queue hold --help`; CLI11 takes them from the end.
std::vector<std::string> arguments_of(int argc, char** argv) {
  std::vector<std::string> words(argv + std::min(argc, 1), argv + argc);
  if (!words.empty() && words.front() == "help") {
    words.erase(words.begin());
    words.emplace_back("--help");
  } else if (!words.empty() && words.front() == "version") {
    words.front() = "--version";
  }
  std::reverse(words.begin(), words.end());
  return words;
}

void add_all(CLI::App& app, Typed& typed) {
  app.set_version_flag("--version", "postrider " + std::string(version()));
  app.add_option("-c,--config", typed.config,
                 "Configuration file (else $POSTRIDER_CONFIG, /etc/postrider/postrider.toml)")
      ->type_name("FILE");
  app.require_subcommand(1);
  app.fallthrough();
  app.footer(
      "`postrider VERB --help` has the options of a verb, and examples. Exit codes are those of\n"
      "sysexits.h: 64 a wrong command line, 69 no queue, 77 not permitted, 78 a wrong "
      "configuration.");
  add_daemon_commands(app, typed);
  add_doctor_command(app, typed);
  add_queue_command(app, typed);
  add_message_commands(app, typed);
  add_report_commands(app, typed);
  add_passwd_command(app, typed);
  add_dkim_commands(app, typed);
  add_verb(app, "completion").callback([&] {
    typed.run = [&] {
      print(completion_script(app));
      return EX_OK;
    };
  });
}

}  // namespace

int postrider_main(int argc, char** argv) {
  CLI::App app("Store-and-forward mail transfer agent", "postrider");
  Typed typed;
  add_all(app, typed);
  const bool is_help = argc > 1 && std::string_view(argv[1]) == "help";
  try {
    app.parse(arguments_of(argc, argv));
    if (app.count("--config") > 0 && typed.config.empty())
      return complain_of_usage(app, "--config: its value is empty");
  } catch (const CLI::Success& wanted) {  // --help, --version
    if (const auto extras = app.remaining(true); is_help && !extras.empty())
      return complain_of_usage(app, CLI::ExtrasError(extras), extras);
    std::ostringstream text;
    const int code = app.exit(wanted, text, text);
    print_view(text.str());
    return code;
  } catch (const CLI::ParseError& error) {
    return complain_of_usage(app, error, typed.words);
  }
  return typed.run();
}

}  // namespace postrider::cli
