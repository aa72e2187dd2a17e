#include "cli/verbs.h"

#include "base/assert.h"
#include "base/text.h"

#include <CLI/CLI.hpp>

#include <algorithm>

namespace postrider::cli {

namespace {

constexpr const char* kDaemon = "The daemon and its configuration";
constexpr const char* kQueue = "Mail in the queue";
constexpr const char* kKeys = "Passwords and keys";
constexpr const char* kShell = "Help";

constexpr VerbText kVerbs[] = {
    {"run", kDaemon, "Run the daemon in the foreground",
     "postrider run -c ./postrider.toml\nsystemctl start postrider      # as a service", ""},
    {"check", kDaemon, "Report every problem of the configuration",
     "postrider check && systemctl reload postrider\npostrider check -c new.toml", ""},
    {"reload", kDaemon, "Let the daemon read its configuration again, and wait for its verdict",
     "postrider reload\nsystemctl reload postrider     # the same", ""},
    {"config", kDaemon, "Print the configuration in effect, and where each value comes from",
     "postrider config\npostrider config | grep relay_from", ""},
    {"doctor", kDaemon, "Look for what a mail server gets wrong: DNS, ports, certificate",
     "postrider doctor\npostrider doctor example.org --json", ""},
    {"status", kDaemon, "Health on one screen",
     "postrider status\npostrider status --json\npostrider status --check > /dev/null || echo "
     "trouble\npostrider status --prometheus",
     ""},
    {"top", kDaemon, "The same, live: written again every two seconds until q",
     "postrider top\npostrider top --every 10s", ""},
    {"queue", kQueue, "List, count or change the messages in the queue",
     "postrider queue                          # all of it\n"
     "postrider queue ann@example.org          # for a recipient\n"
     "postrider queue example.org --older 2h\n"
     "postrider queue retry example.org",
     ""},
    {"queue list", kQueue, "List matching messages (as without a verb)",
     "postrider queue list --status deferred\npostrider queue list --from @example.org --json",
     "ls"},
    {"queue count", kQueue, "Count messages and recipients",
     "postrider queue count\npostrider queue count --status held", ""},
    {"queue show", kQueue, "Show one message: envelope, recipients, headers",
     "postrider queue show 1K1BX3F7Q2A\npostrider queue show 1K1BX3F7Q2A --body", "cat view"},
    {"queue hold", kQueue, "Keep matching messages until they are released",
     "postrider queue hold 1K1BX3F7Q2A\npostrider queue hold --from @example.org --dry-run",
     "freeze"},
    {"queue release", kQueue, "Let held messages go on",
     "postrider queue release 1K1BX3F7Q2A\npostrider queue release --all", "thaw unhold"},
    {"queue retry", kQueue, "Try matching messages now (without a filter: all)",
     "postrider queue retry\npostrider queue retry example.org\npostrider queue retry 1K1BX3F7Q2A",
     "flush requeue"},
    {"queue remove", kQueue, "Delete matching messages without notice",
     "postrider queue remove 1K1BX3F7Q2A\n"
     "postrider queue remove --reply 'user unknown' --dry-run",
     "delete rm"},
    {"queue bounce", kQueue, "Return matching messages to their senders",
     "postrider queue bounce 1K1BX3F7Q2A\npostrider queue bounce example.org --older 2d", "fail"},
    {"queue expire", kQueue, "Return matching messages as if their lifetime were over",
     "postrider queue expire 1K1BX3F7Q2A\npostrider queue expire example.org --older 1d --dry-run",
     ""},
    {"queue reroute", kQueue, "Send matching messages to another host from now on",
     "postrider queue reroute --to relay.example.net example.org\n"
     "postrider queue reroute --to [192.0.2.1]:2525 --reply 'timed out' --dry-run",
     ""},
    {"queue summary", kQueue, "What waits in groups, with exact counts",
     "postrider queue summary                  # by domain\n"
     "postrider queue summary --by reason\n"
     "postrider queue summary --by age         # domains by age, as qshape has it\n"
     "postrider queue summary --by sender --status deferred --limit 50",
     "qshape"},
    {"queue pause", kQueue, "Keep mail to a domain, from a sender, or all from being tried",
     "postrider queue pause example.org\npostrider queue pause example.org --for 2h\n"
     "postrider queue pause --from ann@example.net\npostrider queue pause --all",
     ""},
    {"queue resume", kQueue, "End a pause",
     "postrider queue resume example.org\npostrider queue resume --from ann@example.net\n"
     "postrider queue resume --all             # every pause",
     ""},
    {"queue export", kQueue, "Write matching messages into a folder, one file each",
     "postrider queue export --folder /root/mail example.org\n"
     "postrider queue export --folder . 1K1BX3F7Q2A",
     ""},
    {"queue import", kQueue, "Put exported messages back; daemon stopped",
     "systemctl stop postrider && postrider queue import /root/mail/*.eml", ""},
    {"queue import postfix", kQueue, "Take over the queue of a Postfix that is stopped",
     "postrider queue import postfix /var/spool/postfix --dry-run\n"
     "systemctl stop postfix postrider && postrider queue import postfix /var/spool/postfix",
     ""},
    {"queue import exim", kQueue, "Take over the queue of an Exim that is stopped",
     "postrider queue import exim /var/spool/exim4 --dry-run\n"
     "systemctl stop exim4 postrider && postrider queue import exim /var/spool/exim4",
     ""},
    {"queue salvage", kQueue, "Save what can be read of a damaged queue; daemon stopped",
     "systemctl stop postrider && postrider queue salvage", ""},
    {"show", kQueue, "Show one message: envelope, recipients, headers",
     "postrider show 1K1BX3F7Q2A\npostrider show 1K1BX3F7Q2A --body", ""},
    {"explain", kQueue, "What happens, or would happen, and why",
     "postrider explain 1K1BX3F7Q2A\npostrider explain ann@example.org\npostrider explain root",
     ""},
    {"trace", kQueue, "What became of mail: every step and attempt, also of mail that is gone",
     "postrider trace 1K1BX3F7Q2A\n"
     "postrider trace ann@example.org --since 2h\n"
     "postrider trace '<20261130.1@example.net>'       # a Message-ID\n"
     "postrider trace --from @example.net --to ann@example.org\n"
     "postrider trace --rejected --since 1d",
     "track"},
    {"sites", kQueue, "Where mail goes: limits found, and why; trouble; next tries",
     "postrider sites\npostrider sites --trouble\npostrider sites --json", ""},
    {"events", kQueue, "What became of mail, as the sinks of events get it",
     "postrider events --last 20\npostrider events --follow | jq .type", ""},
    {"events replay", kQueue, "Give a sink again what is kept",
     "postrider events replay my-webhook", ""},
    {"tlsrpt", kQueue, "TLS results collected for other domains",
     "postrider tlsrpt\npostrider tlsrpt --send", ""},
    {"dmarc-reports", kQueue, "DMARC results collected for other domains",
     "postrider dmarc-reports\npostrider dmarc-reports --send", ""},
    {"passwd", kKeys, "Set a user's password in the password file",
     "postrider passwd ann\nprintf '%s\\n' \"$password\" | postrider passwd ann\n"
     "postrider passwd --delete ann",
     ""},
    {"dkim", kKeys, "Keys that sign mail (DKIM), and their DNS records",
     "postrider dkim new example.org\npostrider dkim check", ""},
    {"dkim new", kKeys, "Make a key, and print the record to be published",
     "postrider dkim new example.org\npostrider dkim new example.org --ed25519 --selector e2026",
     ""},
    {"dkim record", kKeys, "Print the records of the keys of a domain",
     "postrider dkim record example.org", ""},
    {"dkim check", kKeys, "Compare the records in the DNS with the keys",
     "postrider dkim check\npostrider dkim check example.org", ""},
    {"completion", kShell, "Print what completes these commands in bash and zsh",
     "source <(postrider completion)           # bash\n"
     "autoload -Uz bashcompinit && bashcompinit && source <(postrider completion)   # zsh",
     ""},
};

const VerbText& text_of_verb(std::string_view path) {
  const auto* found = std::find_if(std::begin(kVerbs), std::end(kVerbs),
                                   [&](const auto& row) { return row.path == path; });
  POSTRIDER_ASSERT(found != std::end(kVerbs));
  return *found;
}

}  // namespace

std::span<const VerbText> verb_texts() {
  return kVerbs;
}

CLI::App& add_verb(CLI::App& app, std::string_view path) {
  const auto& text = text_of_verb(path);
  const auto space = path.rfind(' ');
  auto* parent = &app;
  if (space != path.npos)
    for (const auto name : split(path.substr(0, space), ' '))
      parent = parent->get_subcommand(std::string(name));
  auto* verb = parent->add_subcommand(std::string(path.substr(space + 1)), text.summary);
  if (parent == &app)
    verb->group(text.group);
  for (const auto other : split(text.others, ' '))
    if (!other.empty())
      verb->alias(std::string(other));
  std::string footer = "Examples:";
  for (const auto line : split(text.examples, '\n'))
    footer.append("\n  ").append(line);
  verb->footer(footer);
  return *verb;
}

}  // namespace postrider::cli
