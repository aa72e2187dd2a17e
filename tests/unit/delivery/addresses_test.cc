// Lists of aliases, and where addresses lead.
#include "delivery/local/addresses/address_list.h"
#include "delivery/local/addresses/expander.h"
#include "delivery/local/agents/settled_file.h"
#include "mail/envelope.h"
#include "tables/table.h"
#include "tests/unit/base/temporary_folder.h"

#include <catch2/catch.hpp>

#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <functional>
#include <sys/stat.h>
#include <unistd.h>

using namespace postrider;
using namespace postrider::delivery;
using Answer = mail::Directory::Answer;

namespace {

std::string listed(std::string_view text, const ListRules& rules = {}) {
  const auto items = parse_list(text, rules);
  if (!items)
    return "error: " + items.error().step();
  std::string out;
  constexpr const char* kKinds[] = {"", "include ", "command ", "file ", "mailbox "};
  for (const auto& item : *items)
    out += (out.empty() ? "" : "; ") +
           (kKinds[static_cast<int>(item.kind)] + std::string(item.literal ? "\\" : "")) +
           item.text;
  return out;
}

class SomeUsers : public Users {
 public:
  Answer find_user(const std::string& user, std::string_view) const override {
    if (user == "later")
      return Answer::cannot_tell;
    return user == "ann" || user == "bob" || user == "carl" ? Answer::known : Answer::unknown;
  }
};

TablePtr table(const std::string& entries) {
  return *tables::open_table(*tables::parse_spec("inline:{" + entries + "}"), {});
}

AddressRules rules(const std::string& aliases, const std::string& virtuals = {}) {
  AddressRules out;
  out.domains = {"us.test"};
  out.aliases = {table(aliases)};
  if (!virtuals.empty())
    out.virtuals = {table(virtuals)};
  return out;
}

std::string shown(const Expansion& expansion) {
  if (expansion.failure)
    return mail::to_string(expansion.failure->status) + " " + expansion.failure->text;
  std::string out;
  for (const auto& to : expansion.recipients)
    out += (out.empty() ? "" : ", ") + to.address + "[" + encode(to.leaf) + "]" +
           (to.owner.empty() ? "" : " from " + to.owner);
  return out;
}

std::string expanded(const AddressRules& with, std::string_view address) {
  return shown(expand(LocalAddresses(with), SomeUsers(), address));
}

}  // namespace

TEST_CASE("a list holds addresses, commands, files and includes", "[delivery][aliases]") {
  struct Case {
    std::string text, want;
  };
  const std::vector<Case> cases = {
      {"ann", "ann"},
      {" ann , bob,,carl, ", "ann; bob; carl"},
      {"\\ann, ann@x.test", "\\ann; ann@x.test"},
      {"Ann B <ann@x.test>, \"B, C\" <bob>", "ann@x.test; bob"},
      {"ann (a (nested) \\) comment), bob", "ann; bob"},
      {"\"john q\"@x.test, \"john q\"", "\"john q\"@x.test; \"john q\""},
      {"|/bin/a b c, ann", "command /bin/a b c; ann"},
      {"\"|/bin/a 'b, c'\"", "command /bin/a 'b, c'"},
      {"|\"/bin/a b, c\"", "command /bin/a b, c"},
      {"/var/x, \"/var/a, b\"", "file /var/x; file /var/a, b"},
      {":include:/etc/l, \":include: /etc/m\"", "include /etc/l; include /etc/m"},
      {"", ""},
      {"\"Ann\" <|/bin/false>", "error: \"|/bin/false\" is not a local name"},
      {"</etc/passwd>", "error: \"/etc/passwd\" is not a local name"},
      {"ann bob", "error: \"ann bob\" is not a name; a comma is missing, or quotes"},
      {"\"ann", "error: the closing quote is missing"},
      {"ann (", "error: the end of a comment is missing"},
      {"ann@", "error: \"ann@\" is not an address: no domain"},
      {"ann@x.test@y", "error: \"ann@x.test@y\" is not an address: character that no address has"},
      {"<ann", "error: \">\" is missing behind an address"},
      {":fail:", "error: \":fail:\" is not allowed; expected :include:/path"},
      {":include:list", "error: :include: needs an absolute path"},
      {"/var/../etc/x", "error: \"/var/../etc/x\" has \"..\" in its path"},
      {"maildir:/x", "error: \"maildir:/x\" is allowed in tables of virtual users alone"},
  };
  for (const auto& c : cases) {
    INFO(c.text);
    CHECK(listed(c.text) == c.want);
  }
}

TEST_CASE("I03: a command is never for a shell, and nobody but an alias may name one",
          "[delivery][aliases][attacks]") {
  for (const char* bad : {"|/bin/a; id", "|/bin/a `id`", "|/bin/a $(id)", "|a", "|/bin/a | b",
                          "|/bin/a > /x", "|", "|/bin/a && b"}) {
    INFO(bad);
    CHECK(listed(bad).starts_with("error: the command "));
  }
  // What the queue would take for damage when it is read again.
  CHECK(listed("\"|/bin/a\tb\"") == listed("\"|/bin/a b\""));
  for (const char* bad :
       {"\"|/bin/a\x01\"", "\"|/bin/a \x7f\"", "\"/var/mail/a\tb\"", "\":include:/a\x1f\""}) {
    INFO(bad);
    CHECK(listed(bad).starts_with("error: "));
  }
  ListRules none;
  none.commands = false;
  CHECK(listed("|/bin/a", none) == "error: commands are not allowed here");
  CHECK(listed("/var/x", none) == "error: files are not allowed here");
  CHECK_FALSE(check_virtual_value("|/bin/a").empty());
  CHECK(check_virtual_value("@other.test").empty());
  CHECK_FALSE(check_virtual_value("@").empty());
}

TEST_CASE("a place for LMTP has no login, and what looks like one is not repeated",
          "[delivery][aliases]") {
  ListRules places;
  places.mailboxes = true;
  CHECK(listed("lmtp:unix:/run/a@b/lmtp", places) == "mailbox lmtp:unix:/run/a@b/lmtp");
  CHECK(listed("lmtp:[::1]:24", places) == "mailbox lmtp:[::1]:24");
  for (const std::string text :
       {"lmtp://me:pa55@127.0.0.1:9", "lmtp:me:pa55@127.0.0.1:9", "lmtp:pa55@127.0.0.1:9",
        "LMTP:pa55@x@127.0.0.1:9", "lmtp:unix://me:pa55@127.0.0.1:9", "lmtp:///pa55@127.0.0.1:9"}) {
    INFO(text);
    const auto said = listed(text, places);
    CHECK(said.find("***@127.0.0.1:9\": expected lmtp:unix:/path or lmtp:host:port") != said.npos);
    CHECK(said.find("pa55") == said.npos);
    CHECK(check_virtual_value(text).find("pa55") == said.npos);
    CHECK_FALSE(check_virtual_value(text).empty());
    const auto elsewhere = listed(text);
    CHECK(elsewhere.starts_with("error: "));
    CHECK(elsewhere.find("pa55") == said.npos);
  }
  CHECK(
      listed("lmtp://127.0.0.1:9", places).starts_with("error: \"lmtp://127.0.0.1:9\": expected"));
}

TEST_CASE("a list is bounded", "[delivery][aliases]") {
  ListRules few;
  few.most = 2;
  CHECK(listed("a, b, c", few) == "error: more than 2 items");
  CHECK(listed(std::string(100, '(')) == "error: the end of a comment is missing");
  CHECK(listed(std::string(255, 'a')) ==
        "error: \"" + std::string(60, 'a') + "...\" is not a local name");
}

TEST_CASE("a file of lists tells its wrong lines and keeps the others", "[delivery][aliases]") {
  const auto file = parse_list_file("# c\nann, bob\r\n\n x y\ncarl", ListRules{});
  REQUIRE(file.items.size() == 3);
  CHECK(file.items[2].line == 5);
  REQUIRE(file.problems.size() == 1);
  CHECK(file.problems[0].starts_with("4: "));
}

TEST_CASE("a byte order mark before a file of lists is no part of it", "[delivery][aliases]") {
  const struct {
    std::string text;
    std::vector<std::string> names;
    std::size_t problems;
  } cases[] = {
      {"\xef\xbb\xbf"
       "ann\r\nbob\r\n",
       {"ann", "bob"},
       0},
      {"\xef\xbb\xbf"
       "# comment\nann\n",
       {"ann"},
       0},
      {"\xef\xbb\xbf"
       "|/bin/cat\n",
       {"/bin/cat"},
       0},
      {"\xef\xbb\xbf", {}, 0},
      {"ann\n\xef\xbb\xbf"
       "bob@x.test\n",
       {"ann",
        "\xef\xbb\xbf"
        "bob@x.test"},
       0},
  };
  for (const auto& one : cases) {
    INFO(one.text);
    const auto file = parse_list_file(one.text, ListRules{});
    std::vector<std::string> names;
    for (const auto& item : file.items)
      names.push_back(item.item.text);
    CHECK(names == one.names);
    CHECK(file.problems.size() == one.problems);
  }
}

TEST_CASE("leaves survive the queue, and nothing else is one", "[delivery][aliases][attacks]") {
  for (const ResolvedRecipient& leaf :
       {ResolvedRecipient{ResolvedRecipient::Kind::user, "ann", {}},
        ResolvedRecipient{ResolvedRecipient::Kind::self, "ann", {}},
        ResolvedRecipient{ResolvedRecipient::Kind::mailbox, "ann", {}},
        ResolvedRecipient{ResolvedRecipient::Kind::command, "nobody", "/bin/a b:c"},
        ResolvedRecipient{ResolvedRecipient::Kind::file, "", "/var/x"}, ResolvedRecipient{}})
    CHECK(*decode_leaf(encode(leaf)) == leaf);
  for (const char* bad : {"x", "user:", "user:../x", "user:-x", "file:ann:x", "command:ann",
                          "shell:ann:id", "mailbox:a/b"}) {
    INFO("I11: " << bad);
    CHECK_FALSE(decode_leaf(bad).has_value());
  }
}

TEST_CASE("an address leads where its tables say", "[delivery][aliases]") {
  const auto with = rules(
      "root=ann, { team = bob, x@far.test, root }, { list = y@far.test, carl }, owner-list=ann,"
      "a=b, b=c, c=a, self=self, { ann = ann, bob }, deep=root, gone=nobody-here,"
      "arch=/var/x, null=/dev/null, lazy=later, \"j q\"=bob",
      "v.test=any, i@v.test=ann, @v.test=carl, w.test=any, @w.test=@far.test, bob@us.test=carl,"
      "b@w.test=maildir:/v/{user}");
  struct Case {
    std::string address, want;
  };
  const std::vector<Case> cases = {
      {"carl@us.test", "carl@us.test[user:carl]"},
      {"Carl+tag@us.test", "Carl+tag@us.test[user:carl]"},
      {"postmaster", "postmaster@us.test[user:postmaster]"},
      {"x@far.test", "x@far.test[]"},
      {"none@us.test", "5.1.1 there is no user none@us.test"},
      {"+tag@us.test", "5.1.1 there is no user +tag@us.test"},
      {"TEAM@us.test", "carl@us.test[user:carl], x@far.test[], ann@us.test[user:ann]"},
      {"list@us.test",
       "y@far.test[] from owner-list@us.test, carl@us.test[user:carl] from owner-list@us.test"},
      {"a@us.test", "5.4.6 the aliases of a@us.test go in a circle"},
      {"self@us.test", "self@us.test[]"},  // nobody of that name: told as unknown when it is tried
      {"ann@us.test", "ann@us.test[user:ann], carl@us.test[user:carl]"},
      {"gone@us.test", "nobody-here@us.test[]"},
      {"arch@us.test", "arch@us.test[file:nobody:/var/x]"},
      {"lazy@us.test", "4.3.0 cannot tell whether there is a user later@us.test"},
      {"i@v.test", "ann@us.test[user:ann], carl@us.test[user:carl]"},
      {"other@v.test", "carl@us.test[user:carl]"},
      {"q+t@w.test", "q+t@far.test[]"},
      {"b+t@w.test", "b+t@w.test[place::maildir:/v/b]"},
      {"ann@w.test", "ann@far.test[]"},
  };
  for (const auto& c : cases) {
    INFO(c.address);
    CHECK(expanded(with, c.address) == c.want);
  }
  CHECK(expand(LocalAddresses(with), SomeUsers(), "null@us.test").discarded == 1);
}

TEST_CASE("an address literal of this machine is its first local domain", "[delivery][aliases]") {
  auto with = rules("list=x@far.test, self=ann@[192.0.2.1]", "bob@us.test=carl");
  with.literals = {"[192.0.2.1]", "[IPv6:2001:db8::1]"};
  CHECK(expanded(with, "ann@[192.0.2.1]") == "ann@us.test[user:ann]");
  CHECK(expanded(with, "bob@[IPv6:2001:db8::1]") == "carl@us.test[user:carl]");
  CHECK(expanded(with, "list@[192.0.2.1]") == "x@far.test[]");
  CHECK(expanded(with, "self@us.test") == "ann@us.test[user:ann]");
  CHECK(expanded(with, "none@[192.0.2.1]") == "5.1.1 there is no user none@us.test");
  CHECK(expanded(with, "ann@[192.0.2.2]") == "ann@[192.0.2.2][]");
  const LocalAddresses book(with);
  CHECK(book.is_ours("[192.0.2.1]"));
  CHECK_FALSE(book.is_ours("[192.0.2.2]"));
  CHECK(book.knows("list", "us.test") == mail::Directory::Answer::known);
  with.domains.clear();
  CHECK_FALSE(LocalAddresses(with).is_ours("[192.0.2.1]"));
}

TEST_CASE("an expansion is bounded in depth and breadth", "[delivery][aliases]") {
  auto with = rules("a=b, b=c, c=d, d=ann, { many = ann, bob, carl }");
  with.most_steps = 2;
  CHECK(expanded(with, "a@us.test").starts_with("4.4.6 a@us.test is more than 2 steps"));
  CHECK(expanded(with, "c@us.test") == "ann@us.test[user:ann]");
  with.most_recipients = 2;
  CHECK(expanded(with, "many@us.test").starts_with("4.5.3 many@us.test stands for more than 2"));
}

TEST_CASE("unknown users of a local domain are caught, those of a virtual one are not",
          "[delivery][aliases]") {
  auto with = rules("x=ann", "v.test=any");
  with.catch_all = "bob";
  CHECK(expanded(with, "whoever@us.test") == "bob@us.test[user:bob]");
  CHECK(expanded(with, "whoever@v.test") == "5.1.1 there is no user whoever@v.test");
  CHECK(expanded(with, "postmaster@v.test") == "postmaster@us.test[user:postmaster]");
}

TEST_CASE("a catch-all that leads to nobody catches nothing", "[delivery][aliases]") {
  auto with = rules("x=ann, list=nobody-else, one=two, two=one", "");
  for (const std::string to : {"no-such-user", "No-Such-User@us.test", "list", "one"}) {
    INFO(to);
    with.catch_all = to;
    CHECK(look_ahead(LocalAddresses(with), SomeUsers(), "whoever@us.test") == Answer::unknown);
    CHECK(look_ahead(LocalAddresses(with), SomeUsers(), "x@us.test") == Answer::known);
  }
  with.catch_all = "no-such-user";
  CHECK(expanded(with, "whoever@us.test") == "no-such-user@us.test[]");
  CHECK(expanded(with, "no-such-user@us.test") == "5.1.1 there is no user no-such-user@us.test");
  for (const std::string to : {"bob", "x", "y@far.test", "postmaster"}) {
    INFO(to);
    with.catch_all = to;
    CHECK(look_ahead(LocalAddresses(with), SomeUsers(), "whoever@us.test") == Answer::known);
  }
}

TEST_CASE("the separator is the administrator's", "[delivery][aliases]") {
  auto with = rules("ann-x=bob, list=carl");
  with.separator = "-";
  CHECK(expanded(with, "ann-y@us.test") == "ann-y@us.test[user:ann]");
  CHECK(expanded(with, "ann-x@us.test") == "bob@us.test[user:bob]");
  CHECK(expanded(with, "ann+y@us.test").starts_with("5.1.1"));
  with.separator = "";
  CHECK(expanded(with, "ann-y@us.test").starts_with("5.1.1"));
}

TEST_CASE("a .forward names others, or the own mailbox", "[delivery][aliases]") {
  const auto with = rules("desk=carl, back=ann");
  const auto forward = [&](std::string_view text) {
    return shown(
        expand_forward(LocalAddresses(with), SomeUsers(), "ann", "ann@us.test", text, "f"));
  };
  CHECK(forward("bob\nx@far.test\n") == "bob@us.test[user:bob], x@far.test[]");
  CHECK(forward("ann") == "ann@us.test[mailbox:ann]");
  CHECK(forward("\\ann, ann@us.test, Ann+x") ==
        "ann@us.test[mailbox:ann], Ann+x@us.test[mailbox:ann]");
  CHECK(forward("back") == "ann@us.test[mailbox:ann]");
  CHECK(forward("desk") == "carl@us.test[user:carl]");
  CHECK(forward("") == "ann@us.test[mailbox:ann]");
  CHECK(forward("# away") == "ann@us.test[mailbox:ann]");
  CHECK(forward("|/bin/a b") == "ann@us.test[command:ann:/bin/a b]");
  CHECK(forward(":include:/etc/passwd") == "ann@us.test[mailbox:ann]");
  CHECK(forward("bad one\nbob") == "bob@us.test[user:bob]");
}

TEST_CASE("an included file is read, refused or missing", "[delivery][aliases]") {
  const TemporaryFolder folder;
  const auto path = folder / "list";
  const auto write = [&](const std::string& text, unsigned mode) {
    std::ofstream(path, std::ios::binary) << text;
    std::filesystem::permissions(path, std::filesystem::perms(mode));
  };
  const auto with = rules("m=:include:" + path);
  CHECK(expanded(with, "m@us.test") == "4.3.5 a list of m@us.test cannot be used");
  write("bob\n:include:" + path + "\nx@far.test\n", 0644);
  CHECK(expanded(with, "m@us.test") == "bob@us.test[user:bob], x@far.test[]");
  // A wrong line costs that line; without a right one, the list waits to be mended.
  write("bob\n|/bin/id\n", 0644);
  CHECK(expanded(with, "m@us.test") == "bob@us.test[user:bob]");
  write("\n|/bin/id\n", 0644);
  const auto wrong = expand(LocalAddresses(with), SomeUsers(), "m@us.test");
  CHECK(shown(wrong) == "4.3.5 the list of m@us.test cannot be used");
  CHECK(wrong.problems == std::vector{path + ":2: commands are not allowed here"});
  write("bob\n", 0666);
  const auto refused = expand(LocalAddresses(with), SomeUsers(), "m@us.test");
  REQUIRE(refused.problems.size() == 1);
  CHECK(refused.problems[0].find(path + ": everybody may write this file") == 0);
}

TEST_CASE("a list that is being rewritten is not believed yet", "[delivery][aliases]") {
  const TemporaryFolder folder;
  const auto path = folder / "list";
  const auto with = rules("m=:include:" + path);
  const auto says = [&](const std::string& text) {
    std::ofstream(path, std::ios::binary | std::ios::trunc) << text;
    return expand(LocalAddresses(with), SomeUsers(), "m@us.test");
  };
  for (const char* half : {"", "bob\nx@fa", "bob\nx@far.test"}) {
    INFO(half);
    const auto waits = says(half);
    CHECK(shown(waits) == "4.3.0 a list of m@us.test is being written");
    REQUIRE(waits.problems.size() == 1);
    CHECK(waits.problems[0].find(path + ": it ") == 0);
    CHECK(waits.problems[0].find("x@fa") == std::string::npos);
  }
  CHECK(shown(says("bob\nx@far.test\n")) == "bob@us.test[user:bob], x@far.test[]");
  // One that is whole, and names nobody.
  CHECK(shown(says("# they all left\n")) == "5.2.4 the list m@us.test has no members");
}

TEST_CASE("a list that cannot be used holds up nobody but its own members",
          "[delivery][aliases][attacks]") {
  const TemporaryFolder folder;
  const auto path = folder / "list";
  const auto other = folder / "other";
  const auto write = [](const std::string& at, const std::string& text, unsigned mode = 0644) {
    std::ofstream(at, std::ios::binary) << text;
    std::filesystem::permissions(at, std::filesystem::perms(mode));
  };
  auto with =
      rules("{ all = :include:" + path + ", ann, x@far.test }, { owned = carl, :include:" + path +
            " }, owner-owned=ann, { both = :include:" + path + ", :include:" + other + " }");
  with.most_recipients = 5;
  with.most_steps = 3;
  struct Case {
    const char* what;
    std::function<void()> make;
  };
  const Case cases[] = {
      {"missing", [&] { std::filesystem::remove(path); }},
      {"in the making", [&] { write(path, "bob\ncar"); }},
      {"empty", [&] { write(path, ""); }},
      {"wrong lines alone", [&] { write(path, "|/bin/id\n"); }},
      {"open to all", [&] { write(path, "bob\n", 0666); }},
      {"a pipe",
       [&] {
         std::filesystem::remove(path);
         REQUIRE(::mkfifo(path.c_str(), 0644) == 0);
       }},
      {"more than may be", [&] { write(path, "a@f.test\nb@f.test\nc@f.test\nd@f.test\n"); }},
      {"a user that cannot be looked up", [&] { write(path, "bob\nlater\n"); }},
  };
  for (const auto& c : cases) {
    INFO(c.what);
    std::filesystem::remove(path);
    c.make();
    const auto split = expand(LocalAddresses(with), SomeUsers(), "all@us.test");
    REQUIRE_FALSE(split.failure);
    REQUIRE(split.recipients.size() == 3);
    CHECK(split.recipients[0].leaf == ResolvedRecipient{ResolvedRecipient::Kind::user, "ann", {}});
    CHECK(split.recipients[1].address == "x@far.test");
    CHECK(split.recipients[2].address == "all@us.test");
    const auto leaf = decode_leaf(encode(split.recipients[2].leaf));
    REQUIRE(leaf.has_value());
    REQUIRE(leaf->kind == ResolvedRecipient::Kind::include);
    CHECK(describe(*leaf) == "the list " + path);
    const auto aside = decode_set_aside(leaf->text);
    REQUIRE(aside.has_value());
    const auto later = [&] {
      return expand_set_aside(LocalAddresses(with), SomeUsers(), "all@us.test", *aside);
    };
    if (std::string_view(c.what) != "more than may be")
      CHECK(later().failure);
    std::filesystem::remove(path);
    write(path, "bob\nAnn\n");
    const auto rest = later();
    CHECK(shown(rest) == "bob@us.test[user:bob]");  // Ann has it
    CHECK(rest.repeated == 1);
    write(path, "ann\nx@far.test\n");
    const auto none = later();
    CHECK((!none.failure && none.recipients.empty() && none.repeated == 2));
  }
  std::filesystem::remove(path);
  // The alias's owner is the sender for this part as well.
  CHECK(expand(LocalAddresses(with), SomeUsers(), "owned@us.test").recipients.back().owner ==
        "owner-owned@us.test");
  // With nobody else to have it, it waits where it is.
  CHECK(expanded(with, "both@us.test") == "4.3.5 a list of both@us.test cannot be used");
  write(other, "carl\n");
  CHECK(expanded(with, "both@us.test").ends_with(":" + path + "], carl@us.test[user:carl]"));
  // A list in a list.
  write(path, "bob\n:include:" + (folder / "gone") + "\n");
  const auto nested = expand(LocalAddresses(with), SomeUsers(), "all@us.test");
  REQUIRE(nested.recipients.size() == 4);
  CHECK(nested.recipients[2].leaf.user == "bob");
  CHECK(describe(nested.recipients[3].leaf) == "the list " + (folder / "gone"));
}

TEST_CASE("who has the mail already is remembered up to a bound", "[delivery][aliases]") {
  const TemporaryFolder folder;
  std::string members;
  for (int i = 0; i < 1000; ++i)
    members += ", u" + std::to_string(i) + "@far.test";
  const auto marks = [&](int lists, const std::string& others) {
    std::string all;
    for (int i = 0; i < lists; ++i)
      all += (i > 0 ? ", :include:" : ":include:") + (folder / "none") + std::to_string(i);
    const auto with = rules("{ all = " + all + others + " }");
    const auto split = expand(LocalAddresses(with), SomeUsers(), "all@us.test");
    REQUIRE_FALSE(split.failure);
    const auto aside = decode_set_aside(split.recipients.back().leaf.text);
    REQUIRE(aside.has_value());
    return aside->others.size();
  };
  CHECK(marks(1, members + ", ann") == 1001);
  CHECK(marks(50, members) == 1000);
  CHECK(marks(50, members + ", ann") == 0);
}

TEST_CASE("a list that was set aside survives the queue, and nothing else is one",
          "[delivery][aliases][attacks]") {
  for (const SetAside& aside :
       {SetAside{0, {}, "/l"}, SetAside{4294967295U, {1, ~std::uint64_t{0}}, "/a b:c,d"},
        SetAside{4294967295U, std::vector<std::uint64_t>(50'000, ~std::uint64_t{0}),
                 "/" + std::string(3899, 'p')}}) {
    mail::Envelope envelope;
    envelope.recipients.push_back(
        {"a@b.test",
         "",
         {},
         encode(ResolvedRecipient{ResolvedRecipient::Kind::include, {}, encode(aside)})});
    CHECK(mail::decode_envelope(mail::encode(envelope)).has_value());
    const auto again = decode_set_aside(encode(aside));
    REQUIRE(again.has_value());
    CHECK((again->author == aside.author && again->others == aside.others &&
           again->path == aside.path));
  }
  for (const char* bad :
       {"", ":", "::", "0::", "0::l", "::/l", "-1::/l", "4294967296::/l", "0x::/l", "0:g:/l",
        "0:,:/l", "0:1,:/l", "0:11112222333344445:/l", "0:/l"}) {
    INFO("I11: " << bad);
    CHECK_FALSE(decode_set_aside(bad).has_value());
    CHECK_FALSE(decode_leaf(std::string("include::") + bad).has_value());
  }
}

TEST_CASE("a file whose owner keeps moving its stamps is believed by our own clock",
          "[delivery][aliases][attacks]") {
  const TemporaryFolder folder;
  const auto path = folder / "list";
  const auto begin = SystemClock().steady();
  std::string text;
  const auto look = [&](std::chrono::seconds after, bool moves) {
    auto file = open_file(path, O_RDWR | O_CREAT);
    REQUIRE(file.has_value());
    struct stat before {};
    REQUIRE(::ftruncate(file->get(), static_cast<off_t>(text.size())) == 0);
    REQUIRE(::pwrite(file->get(), text.data(), text.size(), 0) ==
            static_cast<ssize_t>(text.size()));
    REQUIRE(::fstat(file->get(), &before) == 0);
    if (moves)
      before.st_mtim.tv_nsec ^= 1;  // as if it was touched while it was read
    return check_settled(*file, before, text, Settling::always, path, begin + after).has_value();
  };
  using std::chrono::seconds;
  for (const char* half : {"bob", "bob\nann"}) {
    INFO(half);
    text = half;
    CHECK_FALSE(look(seconds(0), false));
    CHECK_FALSE(look(seconds(9), false));
    CHECK(look(seconds(10), false));
    CHECK(look(seconds(11), true));
  }
  text = "bob\nann\n";
  CHECK_FALSE(look(seconds(20), true));
  text = "bob\nanns\n";  // another content begins again
  CHECK_FALSE(look(seconds(29), true));
  CHECK_FALSE(look(seconds(31), true));
  CHECK(look(seconds(39), true));
}

TEST_CASE("what was seen of files is bounded", "[delivery][aliases]") {
  SeenContents seen;
  const SteadyTime begin{};
  const auto file = [](std::uint64_t number) {
    struct stat about {};
    about.st_ino = number;
    return about;
  };
  for (std::uint64_t i = 0; i < 2 * SeenContents::kMost; ++i) {
    CHECK(seen.age(file(i), "x", begin + std::chrono::seconds(i)) == SteadyTime::duration(0));
    // One that is looked at stays.
    CHECK(seen.age(file(0), "x", begin + std::chrono::seconds(i)) == std::chrono::seconds(i));
  }
  CHECK(seen.size() == SeenContents::kMost);
  seen.forget(file(0));
  CHECK(seen.size() == SeenContents::kMost - 1);
}

TEST_CASE("what may be cut counts after ten seconds", "[delivery][aliases]") {
  constexpr std::int64_t kSecond = 1'000'000'000;
  struct stat about {};
  about.st_ctim.tv_sec = 1000;
  for (const char* half : {"", "bob", "bob\nann"}) {
    INFO(half);
    CHECK(may_be_cut(about, half, 1000 * kSecond));
    CHECK(may_be_cut(about, half, 1009 * kSecond));
    CHECK_FALSE(may_be_cut(about, half, 1010 * kSecond));
    CHECK_FALSE(may_be_cut(about, half, 990 * kSecond));  // its stamp is of no use
  }
  CHECK_FALSE(may_be_cut(about, "bob\n", 1000 * kSecond));
}

TEST_CASE("what an included list says is not for strangers", "[delivery][aliases]") {
  const TemporaryFolder folder;
  const auto path = folder / "list";
  const auto with = rules("m=:include:" + path + ", t=typo, i=deep, deep=:include:" + path);
  const auto about = [&](const std::string& text, const std::string& address) {
    std::ofstream(path, std::ios::binary) << text;
    return expand(LocalAddresses(with), SomeUsers(), address);
  };
  for (const char* bad :
       {"user = secret", "<secret", ":secret", "secret@@x", "\"secret", "|secret"}) {
    INFO(bad);
    const auto partly = about(std::string("ann\n") + bad + "\n", "m@us.test");
    CHECK(shown(partly) == "ann@us.test[user:ann]");
    CHECK(partly.problems.size() == 1);
    const auto wrong = about(std::string("\n") + bad + "\n", "m@us.test");
    CHECK(shown(wrong) == "4.3.5 the list of m@us.test cannot be used");
    CHECK(wrong.problems.size() == 1);
  }
  const auto unknown = about("ann\npassword=secret\nother-secret\n", "m@us.test");
  CHECK(shown(unknown) == "ann@us.test[user:ann], m@us.test[nobody::]");
  REQUIRE(unknown.problems.size() == 2);
  CHECK(unknown.problems[0].starts_with("password=secret@us.test is unknown"));
  CHECK(shown(about("secret\n", "i@us.test")) == "i@us.test[nobody::]");
  // With a domain it is an address that its writer gave away; and a table is not a list.
  CHECK(shown(about("no@us.test\n", "m@us.test")) == "no@us.test[]");
  CHECK(shown(about("t\n", "m@us.test")) == "typo@us.test[]");
  CHECK(decode_leaf("nobody::")->kind == ResolvedRecipient::Kind::nobody);
}

TEST_CASE("a list is read for who wrote its name", "[delivery][aliases]") {
  if (::geteuid() != 0)
    return;  // files of several owners
  constexpr uid_t kOurs = 2901, kAnn = 3001, kBob = 3002;
  const TemporaryFolder folder;
  std::filesystem::permissions(folder.path(), std::filesystem::perms(0755));
  const auto make = [&](const std::string& name, const std::string& text, uid_t owner,
                        unsigned mode) {
    std::ofstream(folder / name, std::ios::binary) << text;
    std::filesystem::permissions(folder / name, std::filesystem::perms(mode));
    REQUIRE(::lchown((folder / name).c_str(), owner, owner) == 0);
    return folder / name;
  };
  const auto link = [&](const std::string& name, const std::string& to, uid_t owner) {
    std::filesystem::create_symlink(to, folder / name);
    REQUIRE(::lchown((folder / name).c_str(), owner, owner) == 0);
    return folder / name;
  };
  std::filesystem::create_directory(folder / "anns");
  REQUIRE(::chown((folder / "anns").c_str(), kAnn, kAnn) == 0);
  const auto secret = make("secret", "bob\n", kOurs, 0600);
  const auto half = make("half", "bob\n", 0, 0640);
  const auto bobs = make("bobs", "bob\n", kBob, 0640);
  const auto common = make("common", "bob\n", kBob, 0644);
  const auto anns = make("anns/private", "bob\n", kAnn, 0600);
  const auto links = link("anns/links", secret, kAnn);
  const auto to_common = link("anns/to_common", common, kAnn);
  const auto roots = link("roots", bobs, 0);
  const auto away = link("anns/away", folder.path(), kAnn);
  const auto planted = make("anns/planted", "bob\n", kOurs, 0600);
  const auto going_on = make("anns/going_on", ":include:" + secret + "\n", kAnn, 0644);
  const auto going_right = make("anns/going_right", ":include:" + common + "\n", kAnn, 0644);
  struct Case {
    std::string path;
    bool roots_may, anns_may;
  };
  const std::vector<Case> cases = {
      {secret, true, false},
      {half, true, false},
      {bobs, true, false},
      {common, true, true},
      {anns, true, true},
      {links, false, false},
      {to_common, false, true},
      {roots, true, false},
      {away + "/common", false, true},
      {away + "/secret", false, false},
      {planted, false, false},
      {going_on, false, false},
      {going_right, true, true},
      {folder / "anns/../common", true, true},
      {"/proc/self/environ", true, false},
  };
  for (const auto& c : cases) {
    for (const uid_t owner : {uid_t(0), kAnn}) {
      INFO(c.path << " for " << owner);
      auto with = rules("");
      const auto path = make("aliases", "m: :include:" + c.path + "\n", owner, 0644);
      with.aliases = {*tables::open_table(*tables::parse_spec(path), {})};
      const auto found = expand(LocalAddresses(with), SomeUsers(), "m@us.test");
      if (c.path.starts_with("/proc")) {
        CHECK(shown(found).find("cannot be used") != std::string::npos);
        continue;
      }
      const bool may = owner == 0 ? c.roots_may : c.anns_may;
      CHECK(shown(found) ==
            (may ? "bob@us.test[user:bob]" : "4.3.5 a list of m@us.test cannot be used"));
      CHECK(found.problems.size() == (may ? 0 : 1));
    }
  }
}
