// What a delivery rests on: a command, a file or a mailbox that does not stand there is refused.
#include "delivery/local/addresses/alias_source.h"
#include "tables/cdb.h"
#include "tables/table.h"
#include "tests/unit/base/temporary_folder.h"

#include <catch2/catch.hpp>
#include <sqlite3.h>

#include <fstream>
#include <pwd.h>
#include <unistd.h>

using namespace postrider;
using namespace postrider::delivery;

namespace {

LocalJob job_for(const std::string& address) {
  LocalJob job;
  job.envelope.delivered_to = address;
  return job;
}

LocalJob command(const std::string& address, const std::string& user,
                 std::vector<std::string> arguments) {
  auto job = job_for(address);
  job.source = LocalSource::entry;
  job.target.kind = LocalTarget::Kind::command;
  job.target.user = user;
  job.target.arguments = std::move(arguments);
  return job;
}

LocalJob file(const std::string& address, const std::string& user, const std::string& place,
              LocalTarget::Kind kind) {
  auto job = job_for(address);
  job.source = LocalSource::entry;
  job.target.kind = kind;
  job.target.user = user;
  job.target.place = place;
  return job;
}

TablePtr open(const std::string& spec) {
  tables::Options options;
  options.substitutes = false;
  return *tables::open_table(*tables::parse_spec(spec), options);
}

LocalAddresses book_of(const std::string& aliases, const std::string& virtuals = {}) {
  AddressRules rules;
  rules.domains = {"us.test"};
  rules.aliases = {open(aliases)};
  if (!virtuals.empty())
    rules.virtuals = {open(virtuals)};
  return LocalAddresses(rules);
}

std::string told(const Result<void>& result) {
  return result ? std::string() : result.error().describe();
}

}  // namespace

TEST_CASE("a command of a .forward, however it is quoted", "[delivery][source]") {
  SourceRules rules;
  rules.minimum_uid = 100'000;  // whoever the user is, command_user acts
  const auto allowed = [&](std::string_view text, std::vector<std::string> arguments) {
    return check_forward(rules, command("ann@us.test", "nobody", std::move(arguments)), "nobody",
                         text)
        .has_value();
  };
  CHECK(allowed("|/bin/prog a b\n", {"/bin/prog", "a", "b"}));
  CHECK(allowed("\"|/bin/prog 'a, b'\"\n", {"/bin/prog", "a, b"}));
  CHECK(allowed("# |/bin/other\nann, \"|/bin/prog a\", /box\n", {"/bin/prog", "a"}));
  CHECK_FALSE(allowed("# |/bin/prog\n", {"/bin/prog"}));
  CHECK_FALSE(allowed("|/bin/prog a b\n", {"/bin/prog", "a"}));
  CHECK_FALSE(allowed("|/bin/prog a b\n", {"/bin/prog", "a b"}));
  CHECK_FALSE(allowed("|/bin/prog a b\n", {"/bin/prog", "a", "b", ""}));
  CHECK_FALSE(allowed("|/bin/prog\n", {}));
  CHECK_FALSE(allowed("(|/bin/prog)\n", {"/bin/prog"}));
  CHECK_FALSE(allowed(":include:/bin/prog\n", {"/bin/prog"}));
  CHECK_FALSE(allowed("", {"/bin/prog"}));
  CHECK_FALSE(
      check_forward(rules, command("ann@us.test", "root", {"/bin/prog"}), "nobody", "|/bin/prog\n")
          .has_value());
}

TEST_CASE("a file of a .forward is an mbox or a maildir as it says", "[delivery][source]") {
  SourceRules rules;
  rules.minimum_uid = 100'000;
  const auto allowed = [&](std::string_view text, const std::string& place,
                           LocalTarget::Kind kind) {
    return check_forward(rules, file("ann@us.test", "nobody", place, kind), "nobody", text)
        .has_value();
  };
  CHECK(allowed("/home/ann/box\n", "/home/ann/box", LocalTarget::Kind::mbox));
  CHECK(allowed("/home/ann/box/\n", "/home/ann/box", LocalTarget::Kind::maildir));
  CHECK_FALSE(allowed("/home/ann/box\n", "/home/ann/box", LocalTarget::Kind::maildir));
  CHECK_FALSE(allowed("/home/ann/box/\n", "/home/ann/box", LocalTarget::Kind::mbox));
  CHECK_FALSE(allowed("/home/ann/box\n", "/home/ann/box2", LocalTarget::Kind::mbox));
  CHECK_FALSE(allowed("/home/ann/box\n", "/home/ann/./box", LocalTarget::Kind::mbox));
  auto deeper = file("ann@us.test", "nobody", "/home/ann/box", LocalTarget::Kind::mbox);
  deeper.target.root = "/home";
  CHECK_FALSE(check_forward(rules, deeper, "nobody", "/home/ann/box\n").has_value());
}

TEST_CASE("commands of aliases in every kind of table", "[delivery][source]") {
  const TemporaryFolder folder;
  SourceRules rules;
  rules.minimum_uid = 100'000;
  const std::string value = "ann, \"|/bin/prog 'a b'\", /var/list.box";
  std::ofstream(folder / "lines") << "list: " << value << "\nother: ann\n";
  std::ofstream(folder / "text") << "list " << value << "\n";
  std::ofstream(folder / "pcre") << "/^list(\\+.*)?$/ " << value << "\n";
  REQUIRE(tables::build_cdb(folder / "cdb", {{"list", value}}).has_value());
  sqlite3* database = nullptr;
  REQUIRE(sqlite3_open((folder / "db").c_str(), &database) == SQLITE_OK);
  const auto sql = "CREATE TABLE a (k, v); INSERT INTO a VALUES ('list', '" +
                   std::string("ann, \"|/bin/prog ''a b''\", /var/list.box") + "')";
  REQUIRE(sqlite3_exec(database, sql.c_str(), nullptr, nullptr, nullptr) == SQLITE_OK);
  sqlite3_close(database);
  for (const auto& spec :
       {"aliases:" + (folder / "lines"), "text:" + (folder / "text"), "pcre:" + (folder / "pcre"),
        "cdb:" + (folder / "cdb"), "sqlite:" + (folder / "db") + "?SELECT v FROM a WHERE k = ?"}) {
    INFO(spec);
    const auto book = book_of(spec);
    const auto allowed = [&](const LocalJob& job) {
      return check_tables(rules, book, job).has_value();
    };
    const std::string who = rules.command_user;
    CHECK(allowed(command("list@us.test", who, {"/bin/prog", "a b"})));
    CHECK(allowed(command("list+x@us.test", who, {"/bin/prog", "a b"})));
    CHECK(allowed(file("list@us.test", who, "/var/list.box", LocalTarget::Kind::mbox)));
    CHECK_FALSE(allowed(command("list@us.test", "", {"/bin/prog", "a b"})));
    CHECK_FALSE(allowed(command("list@us.test", "root", {"/bin/prog", "a b"})));
    CHECK_FALSE(allowed(command("list@us.test", who, {"/bin/prog", "a", "b"})));
    CHECK_FALSE(allowed(command("other@us.test", who, {"/bin/prog", "a b"})));
    CHECK_FALSE(allowed(command("list@elsewhere.test", who, {"/bin/prog", "a b"})));
    CHECK_FALSE(allowed(file("list@us.test", who, "/var/list.box", LocalTarget::Kind::maildir)));
    CHECK_FALSE(allowed(file("list@us.test", who, "/var/list.box2", LocalTarget::Kind::mbox)));
  }
}

TEST_CASE("a system account that local.command_users names has its own table's commands",
          "[delivery][source]") {
  SourceRules rules;
  const auto* daemon = ::getpwnam("daemon");
  REQUIRE(daemon != nullptr);
  const ResolvedRecipient leaf{ResolvedRecipient::Kind::command, "daemon", "/bin/prog"};
  const ResolvedRecipient mailbox{ResolvedRecipient::Kind::mailbox, "daemon", {}};
  const auto acting = [&](const ResolvedRecipient& of, LocalTarget::Kind kind) {
    return *acting_for(rules, of, kind);
  };
  CHECK(acting(leaf, LocalTarget::Kind::command) == "nobody");
  rules.command_users = {"mail", "daemon", "root", "nobody", "no-such-account"};
  CHECK(acting(leaf, LocalTarget::Kind::command) == "daemon");
  CHECK(acting({ResolvedRecipient::Kind::file, "daemon", "/box"}, LocalTarget::Kind::mbox) ==
        "daemon");
  CHECK(acting(mailbox, LocalTarget::Kind::mbox) == "");  // its mailbox is not what was named
  for (const char* never : {"root", "bin", "no-such-account"}) {
    INFO(never);
    CHECK(acting({ResolvedRecipient::Kind::command, never, "/bin/prog"},
                 LocalTarget::Kind::command) == "nobody");
  }
  rules.own_user = "daemon";  // reads the whole queue
  CHECK(acting(leaf, LocalTarget::Kind::command) == "nobody");
}

TEST_CASE("a mailbox of a virtual user", "[delivery][source]") {
  SourceRules rules;
  const TemporaryFolder folder;
  std::ofstream(folder / "virtual") << "v.test maildir:/srv/{domain}/{user}/\n"
                                    << "a@v.test maildir:/srv/{domain}/{user}/\n"
                                    << "c@v.test ann@us.test\n";
  const auto book = book_of("inline:{x=ann}", "text:" + (folder / "virtual"));
  auto job = job_for("a@v.test");
  job.source = LocalSource::place;
  job.target.root = "/srv/v.test";
  job.target.place = "/srv/v.test/a";
  CHECK(told(check_tables(rules, book, job)) == "");
  for (const char* place : {"/srv/v.test/b", "/srv/a", "/etc", "/srv/v.test/a/../b"}) {
    INFO(place);
    job.target.place = place;
    CHECK_FALSE(check_tables(rules, book, job).has_value());
  }
  job.target.place = "/srv/v.test/a";
  job.target.user = "nobody";
  CHECK_FALSE(check_tables(rules, book, job).has_value());
  job.target.user.clear();
  job.envelope.delivered_to = "c@v.test";
  CHECK_FALSE(check_tables(rules, book, job).has_value());
}

TEST_CASE("a mailbox is where local.mailbox says", "[delivery][source]") {
  SourceRules rules;
  rules.mailbox = "mbox:/var/mail/{user}";
  auto job = job_for("no-such-account+x@us.test");
  job.name = "no-such-account";
  job.target.kind = LocalTarget::Kind::mbox;
  job.target.root = "/var/mail";
  job.target.place = "/var/mail/no-such-account";
  CHECK(check_mailbox(rules, job).has_value());
  for (const char* name : {"", "..", "no-such-account/x", "No-Such-Account", "other"}) {
    auto wrong = job;
    wrong.name = name;
    CHECK_FALSE(check_mailbox(rules, wrong).has_value());
  }
  job.target.user = "nobody";
  CHECK_FALSE(check_mailbox(rules, job).has_value());
  // A command for a name without an account is never the daemon's own.
  rules.mailbox = "command:/bin/lda -d {user}";
  job.target = {};
  job.target.kind = LocalTarget::Kind::command;
  job.target.arguments = {"/bin/lda", "-d", "no-such-account"};
  CHECK_FALSE(check_mailbox(rules, job).has_value());
  job.target.user = rules.command_user;
  CHECK(check_mailbox(rules, job).has_value());
}

TEST_CASE("whose the mailbox is decides where it is, whatever address led there",
          "[delivery][source]") {
  SourceRules rules;
  rules.separator = "+";
  const auto allowed = [&](const char* pattern, const char* address, const std::string& place) {
    rules.mailbox = std::string("mbox:/var/mail/") + pattern;
    auto job = job_for(address);
    job.name = "no-such-ann";
    job.target.kind = LocalTarget::Kind::mbox;
    job.target.root = "/var/mail";
    job.target.place = "/var/mail/" + place;
    return check_mailbox(rules, job).has_value();
  };
  CHECK(allowed("{local}", "no-such-ann+x@us.test", "no-such-ann%2Bx"));
  CHECK(allowed("{local}", "bob@us.test", "no-such-ann"));
  CHECK_FALSE(allowed("{local}", "bob@us.test", "bob"));
  CHECK_FALSE(allowed("{local}", "bob+x@us.test", "bob%2Bx"));
  CHECK(allowed("{user}-{extension}", "no-such-ann+x@us.test", "no-such-ann-x"));
  CHECK_FALSE(allowed("{user}-{extension}", "bob+x@us.test", "no-such-ann-x"));
}
