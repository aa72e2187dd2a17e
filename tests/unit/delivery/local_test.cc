#include "messages.h"
#include "rig.h"

#include "base/memory_only.h"
#include "delivery/local/agents/local_file.h"
#include "delivery/local/agents/mailbox_pattern.h"
#include "delivery/local/local_delivery.h"
#include "delivery/local/local_directory.h"

#include <catch2/catch.hpp>

#include <fstream>

using namespace postrider;
using namespace postrider::delivery;
using Answer = mail::Directory::Answer;

TEST_CASE("a local part becomes a user, or nothing", "[delivery][local]") {
  CHECK(local_user("Ann") == "ann");
  CHECK(local_user("ann+tag+more") == "ann");
  CHECK(local_user("a.b") == "a.b");
  for (const char* bad : {"", "+tag", ".", "..", "../../x", "a/b", "a\\b", "-Cx", "--help", "-",
                          ".hidden", "a\nb", "a\x7f"}) {
    INFO(bad);
    CHECK(local_user(bad).empty());
  }
  CHECK(local_user(std::string("a\0b", 3)).empty());
  CHECK(local_user(std::string(65, 'a')).empty());
}

TEST_CASE("I01: a mailbox is always below its root", "[delivery][local]") {
  const auto place = mailbox_place("maildir:/var/mail/{user}/", mailbox_names("ann", "us.test"));
  REQUIRE(place.has_value());
  CHECK(place->root == "/var/mail");
  CHECK(place->folder == "ann");
  CHECK(mailbox_place("maildir:/srv/{domain}/{user}/Maildir", mailbox_names("ann", "us.test"))
            ->folder == "us.test/ann/Maildir");
  CHECK(mailbox_place("maildir:/srv/m-{user}", mailbox_names("ann", ""))->folder == "m-ann");
  for (const char* user : {"../../x", "..", ".", "a/b", "%2e%2e", "{domain}", "a\nb"}) {
    const auto folder =
        mailbox_place("maildir:/var/mail/{user}/", mailbox_names(user, "us.test"))->folder;
    INFO(user << " became " << folder);
    CHECK(folder.find('/') == folder.npos);
    CHECK(folder.front() != '.');
    CHECK(folder.find('{') == folder.npos);
  }
  CHECK_FALSE(mailbox_place("lmtp:unix:/run/lmtp", mailbox_names("ann", "")).has_value());
  CHECK_FALSE(mailbox_place("maildir:mail/{user}", mailbox_names("ann", "")).has_value());
}

TEST_CASE("accounts, mailboxes and postmaster exist", "[delivery][local]") {
  Rig rig;
  std::filesystem::create_directories(rig.folder / "box");
  std::ofstream(rig.folder / "file") << "x";
  AddressRules here;
  here.domains = {"here.test", "also.test"};
  const LocalDirectory directory(std::make_shared<LocalAddresses>(here),
                                 "maildir:" + rig.folder.string() + "/{user}/", rig.clock);
  CHECK(directory.is_local_domain("also.test"));
  CHECK_FALSE(directory.is_local_domain("x.test"));
  CHECK(directory.lookup("root", "here.test") == Answer::known);
  CHECK(directory.lookup("Root+cron", "here.test") == Answer::known);
  CHECK(directory.lookup("box", "here.test") == Answer::known);
  CHECK(directory.lookup("PostMaster", "here.test") == Answer::known);
  CHECK(directory.lookup("file", "here.test") == Answer::unknown);
  CHECK(directory.lookup("no-such-user", "here.test") == Answer::unknown);
  CHECK(directory.lookup("..", "here.test") == Answer::unknown);
  std::filesystem::create_directories(rig.folder / "no-such-user");
  CHECK(directory.lookup("no-such-user", "here.test") == Answer::unknown);  // remembered
  rig.clock.advance(std::chrono::seconds(11));
  CHECK(directory.lookup("no-such-user", "here.test") == Answer::known);
}

TEST_CASE("the catch-all knows everybody, unless it leads to nobody", "[delivery][local]") {
  Rig rig;
  AddressRules here;
  here.domains = {"here.test"};
  for (const std::string to : {"root", "no-such-user"}) {
    INFO(to);
    here.catch_all = to;
    const LocalDirectory directory(std::make_shared<LocalAddresses>(here),
                                   "maildir:" + rig.folder.string() + "/{user}/", rig.clock);
    const auto wanted = to == "root" ? Answer::known : Answer::unknown;
    CHECK(directory.lookup("whoever", "here.test") == wanted);
    CHECK(directory.lookup("no-such-user", "here.test") == wanted);
    CHECK(directory.lookup("root", "here.test") == Answer::known);
  }
}

TEST_CASE("who is a user is known from memory alone, or not at all", "[delivery][local]") {
  Rig rig;
  AddressRules here;
  here.domains = {"here.test"};
  const LocalDirectory directory(std::make_shared<LocalAddresses>(here),
                                 "maildir:" + rig.folder.string() + "/{user}/", rig.clock);
  const auto from_memory = [&](const std::string& name, bool stale = false) {
    const MemoryOnly memory(stale);
    const auto answer = directory.lookup(name, "here.test");
    return memory.was_not_enough()   ? std::string("ask")
           : answer == Answer::known ? "known"
                                     : "unknown";
  };
  CHECK(from_memory("root") == "ask");
  CHECK(from_memory("postmaster") == "known");
  CHECK(directory.lookup("root", "here.test") == Answer::known);
  CHECK(directory.lookup("no-such-user", "here.test") == Answer::unknown);
  CHECK(from_memory("root+cron") == "known");
  CHECK(from_memory("no-such-user") == "unknown");
  rig.clock.advance(std::chrono::seconds(11));
  CHECK(from_memory("root") == "ask");
  CHECK(from_memory("root", true) == "known");
  CHECK(from_memory("no-such-user", true) == "ask");
  rig.clock.advance(std::chrono::hours(1));
  CHECK(from_memory("root", true) == "ask");
  // Whoever makes up names pushes out no user.
  CHECK(directory.lookup("root", "here.test") == Answer::known);
  for (int i = 0; i < 10'100; ++i)
    directory.find_user("made-up-" + std::to_string(i), "here.test");
  CHECK(from_memory("root") == "known");
}

TEST_CASE("I01: a symbolic link in the place of a mailbox is not followed", "[delivery][local]") {
  Rig rig;
  std::filesystem::create_directories(rig.folder / "mail");
  std::filesystem::create_directories(rig.folder / "elsewhere");
  std::filesystem::create_directory_symlink(rig.folder / "elsewhere", rig.folder / "mail/ann");
  LocalDelivery delivery;
  delivery.message = make_message({"ann@here.test"});
  delivery.mailbox = rig.settings.local.mailbox;
  delivery.hostname = "us.test";
  delivery.directory = &rig.directory;
  OwnPerformer performer;
  delivery.performer = &performer;
  delivery.now = rig.clock.now();
  const auto outcome = deliver_locally(delivery).outcome;
  CHECK(outcome.verdict == mail::Verdict::retry);
  CHECK(std::filesystem::is_empty(rig.folder / "elsewhere"));
}

TEST_CASE("a mailbox that no file system can hold is refused, and not tried for days",
          "[delivery][local]") {
  Rig rig;
  const auto kind = GENERATE(as<std::string>(), "maildir", "mbox");
  const auto count = GENERATE(4U, 5U);  // of 60 octets each: one of them is too many
  LocalDelivery delivery;
  delivery.message = make_message({std::string(60, 'u') + "@here.test"});
  delivery.mailbox = kind + ":" + rig.folder.string() + "/mail/";
  for (unsigned i = 0; i < count; ++i)
    delivery.mailbox += "{user}";
  delivery.hostname = "us.test";
  delivery.directory = &rig.directory;
  OwnPerformer performer;
  delivery.performer = &performer;
  delivery.now = rig.clock.now();
  const auto outcome = deliver_locally(delivery).outcome;
  INFO(outcome.text);
  CHECK(outcome.verdict == (count == 4 ? mail::Verdict::delivered : mail::Verdict::bounce));
  CHECK(mail::to_string(outcome.status) == (count == 4 ? "2.0.0" : "5.1.1"));
}

TEST_CASE("a mailbox may have a name as long as file systems allow", "[delivery][local]") {
  Rig rig;
  const auto octets = GENERATE(255U, 256U);
  LocalDelivery delivery;
  delivery.message = make_message({std::string(60, 'u') + "@here.test"});
  delivery.mailbox =
      "maildir:" + rig.folder.string() + "/mail/" + std::string(octets - 60, 'x') + "{user}";
  delivery.hostname = "us.test";
  delivery.directory = &rig.directory;
  OwnPerformer performer;
  delivery.performer = &performer;
  delivery.now = rig.clock.now();
  const auto outcome = deliver_locally(delivery).outcome;
  INFO(outcome.text);
  CHECK(outcome.verdict == (octets == 255 ? mail::Verdict::delivered : mail::Verdict::bounce));
}

namespace {

// Everybody has this .forward, and a mailbox that takes all.
class Forwarding : public DeliveryAgent {
 public:
  mail::Outcome perform(const LocalJob& job, LocalBody) override {
    boxes.push_back(job.target.describe());
    return local_end(mail::Verdict::delivered, {2, 0, 0}, "");
  }
  Result<std::optional<std::string>> read_forward(const std::string&, const std::string&) override {
    return std::optional<std::string>("elsewhere@far.test\n");
  }
  std::vector<std::string> boxes;
};

}  // namespace

TEST_CASE("mail beyond what a .forward may send on waits, and ends in the mailbox",
          "[delivery][local]") {
  Rig rig;
  AddressRules here;
  here.domains = {"here.test"};
  here.forward = ".forward";
  const auto mailbox = "maildir:" + rig.folder.string() + "/{user}/";
  const auto book = std::make_shared<const LocalAddresses>(here);
  const LocalDirectory users(book, mailbox, rig.clock);
  Forwarding performer;
  LocalDelivery delivery;
  const auto message = make_message({"daemon@here.test"});
  message->received = rig.clock.now();
  delivery.message = message;
  delivery.mailbox = mailbox;
  delivery.hostname = "us.test";
  delivery.book = book;
  delivery.users = std::shared_ptr<const Users>(std::shared_ptr<const Users>(), &users);
  delivery.performer = &performer;
  delivery.minimum_uid = 1;
  delivery.lifetime = std::chrono::hours(10);
  delivery.count_forward = [](const std::string& user, std::size_t recipients) {
    CHECK(user == "daemon");
    CHECK(recipients == 1);
    return ForwardVerdict{ForwardVerdict::Kind::later, "1 recipients an hour"};
  };
  for (const int hours : {0, 1, 5}) {
    delivery.now = message->received + std::chrono::hours(hours);
    const auto result = deliver_locally(delivery);
    CHECK(result.outcome.verdict == mail::Verdict::retry);
    CHECK(result.outcome.text.find("1 recipients an hour") != std::string::npos);
    CHECK(result.onward.empty());
  }
  CHECK(performer.boxes.empty());
  delivery.now += Duration(1);
  const auto result = deliver_locally(delivery);
  CHECK(result.outcome.verdict == mail::Verdict::delivered);
  CHECK(result.onward.empty());
  CHECK(performer.boxes.size() == 1);
  REQUIRE(result.problems.size() == 1);
  CHECK(result.problems.front().find("1 recipients an hour") != std::string::npos);
}
