// Content is what was stored, or it does not go out; and figures are what a recount gives.
#include "queue/checksum.h"
#include "queue/key_id.h"
#include "queue/row_codec.h"
#include "tests/unit/queue/hanging_read.h"
#include "tests/unit/queue/queue_fixture.h"

#include <catch2/catch.hpp>
#include <sqlite3.h>

#include <array>
#include <filesystem>
#include <fstream>
#include <numeric>
#include <random>
#include <sys/stat.h>
#include <unistd.h>

namespace postrider::queue::test {

using mail::MessageId;
using mail::Verdict;

namespace {

struct Stored : QueueFixture {
  Stored() {
    open();
    start();
  }

  void execute(const std::string& sql) {
    sqlite3* handle = nullptr;
    REQUIRE(sqlite3_open((settings.spool + "/queue.db").c_str(), &handle) == SQLITE_OK);
    CHECK(sqlite3_exec(handle, sql.c_str(), nullptr, nullptr, nullptr) == SQLITE_OK);
    sqlite3_close(handle);
  }

  std::string text(const std::string& sql) {
    sqlite3* handle = nullptr;
    REQUIRE(sqlite3_open((settings.spool + "/queue.db").c_str(), &handle) == SQLITE_OK);
    sqlite3_stmt* statement = nullptr;
    REQUIRE(sqlite3_prepare_v2(handle, sql.c_str(), -1, &statement, nullptr) == SQLITE_OK);
    std::string found;
    while (sqlite3_step(statement) == SQLITE_ROW) {
      for (int i = 0; i < sqlite3_column_count(statement); ++i)
        found.append(std::to_string(sqlite3_column_int64(statement, i))).append(" ");
      found.append("\n");
    }
    sqlite3_finalize(statement);
    sqlite3_close(handle);
    return found;
  }

  MessageId leave_large() {
    auto submission = large(200'000);
    const auto id = submission.message->id;
    REQUIRE(accept(std::move(submission)).has_value());
    record(answer(hand.next(id), Verdict::retry, clock.now() + std::chrono::minutes(1)));
    return id;
  }

  void make_due() {
    clock.pass(std::chrono::minutes(2));
    queue->wake();
  }

  std::string status_of(MessageId id) {
    Filter filter;
    filter.ids = {id};
    const auto listed = list(filter);
    return listed.empty() ? "" : listed[0].status;
  }

  void wait_until_held(MessageId id) {
    for (int i = 0; i < 30000 && status_of(id) != "held"; ++i) {
      settle();
      ::usleep(2000);
    }
    CHECK(status_of(id) == "held");
  }
};

}  // namespace

TEST_CASE("the checksum is CRC-32C", "[queue][checksum]") {
  // RFC 3720 B.4
  CHECK(checksum_of(std::string(32, '\0')) == 0x8a9136aaU);
  CHECK(checksum_of(std::string(32, '\xff')) == 0x62a8ab43U);
  CHECK(checksum_of("123456789") == 0xe3069283U);
  Checksum pieces;
  pieces.feed("1234");
  pieces.feed("56789");
  CHECK(pieces.value() == 0xe3069283U);
}

TEST_CASE_METHOD(Stored, "an octet that changed in a row holds that message alone",
                 "[queue][checksum]") {
  const auto id = must_accept("a@b.test", {"c@d.test"});
  record(answer(hand.next(id), Verdict::retry, clock.now() + std::chrono::minutes(1)));
  const auto beside = must_accept("a@b.test", {"c@e.test"});
  record(answer(hand.next(beside), Verdict::retry, clock.now() + std::chrono::minutes(1)));
  queue.reset();
  // Of the same length: what only a checksum can tell.
  execute(
      "UPDATE body SET data = CAST(replace(CAST(data AS TEXT), 'body', 'bodx') AS BLOB)"
      " WHERE id = " +
      std::to_string(id.value));
  open();
  hand.clear();
  start();
  make_due();
  CHECK(hand.next().message->id == beside);
  wait_until_held(id);
  CHECK(log.count("quarantined") == 1);
  CHECK(queue->totals()->quarantined == 1);
}

TEST_CASE_METHOD(Stored, "an octet that changed in a file holds that message alone",
                 "[queue][checksum]") {
  const auto id = leave_large();
  const auto beside = leave_large();
  {
    std::fstream file(queue->body_path(to_string(id)), std::ios::in | std::ios::out);
    file.seekp(150'000);
    file.put('y');
  }
  make_due();
  CHECK(hand.next().message->id == beside);
  wait_until_held(id);
  CHECK(queue->totals()->quarantined == 1);

  // Released as it is, it is held again; made whole, it goes out.
  Filter filter;
  filter.ids = {id};
  {
    std::fstream file(queue->body_path(to_string(id)), std::ios::in | std::ios::out);
    file.seekp(150'000);
    file.put('x');
  }
  CHECK(change(Verb::release, filter).messages == 1);
  CHECK(queue->totals()->quarantined == 0);
  make_due();
  CHECK(hand.next(id).message->content.size == 200'000);
}

TEST_CASE_METHOD(Stored, "content that could not be removed is removed later", "[queue][body]") {
  const auto id = leave_large();
  const auto names = [&] {
    std::vector<std::string> found;
    for (const auto& entry : std::filesystem::directory_iterator(settings.spool + "/body"))
      found.push_back(entry.path());
    return found;
  };
  REQUIRE(names().size() == 1);
  const auto path = names()[0];
  // A folder in the file's place: unlink(2) fails.
  REQUIRE(::rename(path.c_str(), (settings.spool + "/aside").c_str()) == 0);
  REQUIRE(::mkdir(path.c_str(), 0700) == 0);
  Filter filter;
  filter.ids = {id};
  CHECK(change(Verb::remove, filter).messages == 1);
  settle();
  const auto put_back = [&] {
    REQUIRE(::rmdir(path.c_str()) == 0);
    REQUIRE(::rename((settings.spool + "/aside").c_str(), path.c_str()) == 0);
  };
  SECTION("at the stop") {
    put_back();
    queue.reset();
    CHECK(names().empty());
    CHECK(log.count("stop_not_marked") == 0);
  }
  SECTION("at the next start") {
    queue.reset();
    CHECK(log.count("stop_not_marked") == 1);
    put_back();
    open();
    CHECK(names().empty());
  }
}

namespace {

struct HangingBodies : HangingRead, Stored {
  // Leased after a start, so that its content is read first.
  std::vector<MessageId> leave_due(std::size_t messages) {
    std::vector<MessageId> ids;
    for (std::size_t i = 0; i < messages; ++i)
      ids.push_back(leave_large());
    hand.clear();
    return ids;
  }
  void hang_body(MessageId id) { hang(settings.spool + "/body/" + to_string(id)); }
};

}  // namespace

TEST_CASE_METHOD(HangingBodies, "bodies that hang do not hold up other large mail",
                 "[queue][checksum]") {
  const auto ids = leave_due(8);
  for (int i = 0; i < 3; ++i)
    hang_body(ids[static_cast<std::size_t>(i)]);
  make_due();
  wait_for(3);
  CHECK(hand.wait_for(5));
  CHECK(hand.count() == 5);
  let_go();
  CHECK(hand.wait_for(8));
}

TEST_CASE_METHOD(HangingBodies, "mail whose content is being read is taken back",
                 "[queue][checksum][change]") {
  const auto ids = leave_due(2);
  hang_body(ids[0]);
  make_due();
  wait_for(1);
  CHECK(hand.next().message->id == ids[1]);
  Filter filter;
  filter.ids = {ids[0]};
  const auto verb = GENERATE(Verb::remove, Verb::hold);
  const auto changed = change(verb, filter);
  CHECK(changed.messages == 1);
  CHECK(changed.under_way_messages == 0);
  settle();
  if (verb == Verb::remove)
    CHECK(list(filter).empty());
  else
    CHECK(status_of(ids[0]) == "held");
  let_go();
  // What comes behind it: had it been handed out, it would be there by now.
  const auto later = leave_large();
  make_due();
  CHECK(hand.next(later).message->id == later);
  CHECK(hand.count() == 0);
}

TEST_CASE_METHOD(Stored, "what passes does not hold a message", "[queue][checksum]") {
  const auto id = leave_large();
  const auto path = settings.spool + "/body";
  const auto user = ::geteuid();
  REQUIRE(::chmod(path.c_str(), 0) == 0);
  if (user == 0)
    REQUIRE(::seteuid(65534) == 0);  // root may look into any folder
  make_due();
  settle();
  if (user == 0)
    REQUIRE(::seteuid(0) == 0);
  REQUIRE(::chmod(path.c_str(), 0700) == 0);
  CHECK(status_of(id) == "deferred");
  CHECK(log.count("content_unreadable") == 1);
  CHECK(queue->totals()->quarantined == 0);
  // Not again and again meanwhile: it has its pause.
  clock.pass(std::chrono::seconds(20));
  queue->wake();
  settle();
  CHECK(hand.count() == 0);
  CHECK(log.count("content_unreadable") == 1);
  clock.pass(std::chrono::seconds(11));
  queue->wake();
  CHECK(hand.next(id).message->id == id);
}

TEST_CASE_METHOD(Stored, "a folder in the place of body/ is taken up", "[queue][body]") {
  namespace fs = std::filesystem;
  const fs::path body = settings.spool + "/body", aside = settings.spool + "/body.old";
  const auto restore = [&] {
    fs::rename(body, aside);
    fs::copy(aside, body, fs::copy_options::recursive);
    fs::permissions(body, fs::perms::owner_all);
  };

  SECTION("what is in it goes out") {
    const auto id = leave_large();
    restore();
    fs::remove_all(aside);
    make_due();
    CHECK(hand.next(id).message->content.size == 200'000);
    CHECK(log.count("quarantined") == 0);
  }
  SECTION("what is not in it yet waits, and is held in the end") {
    const auto id = leave_large();
    fs::rename(body, aside);
    fs::create_directory(body);
    fs::permissions(body, fs::perms::owner_all);
    make_due();
    settle();
    CHECK(status_of(id) == "deferred");
    CHECK(log.count("content_unreadable") == 1);
    SECTION("it comes") {
      fs::copy(aside / to_string(id), body / to_string(id));
      make_due();
      CHECK(hand.next(id).message->id == id);
    }
    SECTION("it does not come") {
      clock.pass(std::chrono::minutes(11));
      queue->wake();
      wait_until_held(id);
    }
  }
  SECTION("new content is written there") {
    restore();
    auto submission = large(200'000);
    const auto name = to_string(submission.message->id);
    CHECK(fs::exists(body / name));
    REQUIRE(accept(std::move(submission)).has_value());
    CHECK(fs::file_size(body / name) == 200'000);
    CHECK_FALSE(fs::exists(aside / name));
  }
  SECTION("content that was on its way comes along") {
    auto submission = large(200'000);
    const auto id = submission.message->id;
    SECTION("from a folder that stands elsewhere") {
      restore();
    }
    SECTION("from one that is gone") {
      restore();
      fs::remove_all(aside);
    }
    SECTION("though it was not copied") {
      fs::rename(body, aside);
      fs::create_directory(body);
    }
    fs::permissions(body, fs::perms::owner_all);
    REQUIRE(accept(std::move(submission)).has_value());
    CHECK(fs::file_size(body / to_string(id)) == 200'000);
    CHECK_FALSE(fs::exists(aside / to_string(id)));
    reopen();
    CHECK(hand.next(id).message->content.size == 200'000);
  }
  SECTION("so does a notice's") {
    const auto id = must_accept("a@b.test", {"c@d.test"});
    const auto lease = hand.next(id);
    auto notice = large(200'000, "");
    const auto notice_id = notice.message->id;
    restore();
    auto bounced = answer(lease, Verdict::bounce);
    bounced.notices.push_back(std::move(notice));
    record(std::move(bounced));
    CHECK(hand.next(notice_id).message->content.size == 200'000);
    CHECK(fs::file_size(body / to_string(notice_id)) == 200'000);
  }
  SECTION("what nobody knows there is removed at the next start") {
    const auto id = leave_large();
    restore();
    std::ofstream(body / "STRAY") << "x";
    reopen();
    CHECK_FALSE(fs::exists(body / "STRAY"));
    CHECK(fs::exists(body / to_string(id)));
  }
}

TEST_CASE_METHOD(Stored, "without a folder for large content no mail is taken", "[queue][body]") {
  namespace fs = std::filesystem;
  const fs::path body = settings.spool + "/body", aside = settings.spool + "/body.old";
  const auto id = leave_large();
  auto under_way = large(200'000);
  const auto under_way_id = under_way.message->id;
  const auto small = must_accept("a@b.test", {"c@d.test"});
  const auto lease = hand.next(small);
  auto notice = large(200'000, "");
  const auto notice_id = notice.message->id;

  fs::rename(body, aside);
  fs::rename(aside / to_string(id), settings.spool + "/kept");
  std::string sentence = "is gone";
  SECTION("none") {}
  SECTION("a link") {
    fs::create_directory_symlink(aside, body);
    sentence = "is not a folder";
  }
  SECTION("one that others may write") {
    fs::create_directory(body);
    fs::permissions(body, fs::perms::all);
    sentence = "is open to other users";
  }
  CHECK(queue->totals().has_value());
  CHECK(queue->admission() == Admission::failed);
  settle();
  CHECK(log.all().find(sentence) != std::string::npos);
  CHECK(queue->admission() == Admission::failed);
  CHECK(log.count("storage_failed") == 1);
  CHECK_FALSE(queue->create_body(queue->next_id()).has_value());
  CHECK_FALSE(accept(std::move(under_way)).has_value());

  // Nothing is held for it, and what needs no such folder goes on.
  make_due();
  settle();
  CHECK(status_of(id) == "deferred");
  CHECK(log.count("quarantined") == 0);
  const auto other = must_accept("a@b.test", {"c@d.test"});
  record(answer(hand.next(other), Verdict::delivered));
  CHECK(status_of(other).empty());
  // A notice that has no place waits, and what it is about with it.
  auto bounced = answer(lease, Verdict::bounce);
  bounced.notices.push_back(std::move(notice));
  record(std::move(bounced));
  CHECK_FALSE(status_of(small).empty());

  fs::rename(settings.spool + "/kept", aside / to_string(id));
  fs::remove_all(body);
  fs::rename(aside, body);
  clock.pass(std::chrono::minutes(1));
  CHECK(hand.next(notice_id).message->content.size == 200'000);
  CHECK(status_of(small).empty());
  CHECK(queue->admission() == Admission::open);
  CHECK(log.count("storage_reopened") == 1);
  CHECK(hand.next(id).message->id == id);
  CHECK(status_of(under_way_id).empty());
}

TEST_CASE_METHOD(Stored, "content that is not whole is refused", "[queue][accept]") {
  auto message = make("a@b.test", {"c@d.test"});
  message.content.size = 70'000;
  CHECK_FALSE(accept(std::move(message)).has_value());

  auto cut = large(70'000);
  auto shorter = *cut.message;
  shorter.content.size = 70'001;
  cut.message = std::make_shared<const mail::Message>(shorter);
  CHECK_FALSE(accept(std::move(cut)).has_value());

  auto nothing = large(70'000);
  nothing.body = BodyFile();
  CHECK_FALSE(accept(std::move(nothing)).has_value());
  CHECK(queue->totals()->messages == 0);
}

TEST_CASE_METHOD(Stored, "a request that comes again is one message, for a day", "[queue][drop]") {
  const auto submit = [this](const std::string& key) {
    Submission submission;
    submission.message = std::make_shared<const mail::Message>(make("a@b.test", {"c@d.test"}));
    submission.drop_id = key_id(key);
    return accept_dropped(std::move(submission));
  };
  const auto first = submit("one.request");
  REQUIRE(first.has_value());
  CHECK(queue->dropped().value().empty());  // no file of the folder
  SECTION("at once") {}
  SECTION("though it was delivered") {
    record(answer(hand.next(*first), Verdict::delivered));
  }
  SECTION("though the queue was started again") {
    reopen();
  }
  SECTION("though others came in between") {
    for (int i = 0; i < 5; ++i)
      REQUIRE(submit("other" + std::to_string(i) + ".x").has_value());
  }
  CHECK(submit("one.request").value() == *first);
  const auto another = submit("one.other");
  REQUIRE_FALSE(another.has_value());
  CHECK(another.error().code() == Errc::refused);
  clock.pass(std::chrono::hours(25));
  reopen();
  REQUIRE(submit("new.x").has_value());
  const auto later = submit("one.other");
  REQUIRE(later.has_value());
  CHECK(*later != *first);
}

TEST_CASE_METHOD(Stored, "a drop file is taken once", "[queue][drop]") {
  const auto submit = [this](const std::string& drop_id) {
    Submission submission;
    submission.message = std::make_shared<const mail::Message>(make("a@b.test", {"c@d.test"}));
    submission.drop_id = drop_id;
    return accept_dropped(std::move(submission));
  };
  const auto first = submit("msg.1");
  REQUIRE(first.has_value());
  CHECK(queue->dropped().value() == std::vector<std::string>{"msg.1"});
  record(answer(hand.next(*first), Verdict::delivered));

  SECTION("though it was delivered long ago") {
    CHECK(submit("msg.1").value() == *first);
    CHECK(hand.count() == 0);
    CHECK(queue->totals()->messages == 0);
  }
  SECTION("though the queue was started again") {
    reopen();
    CHECK(submit("msg.1").value() == *first);
    CHECK(queue->totals()->messages == 0);
  }
  SECTION("another one is another") {
    CHECK(submit("msg.2").value() != *first);
    CHECK(hand.count() == 1);
  }
  SECTION("forgotten, it would be taken again") {
    queue->forget_dropped({"msg.1"});
    settle();
    CHECK(queue->dropped()->empty());
    CHECK(submit("msg.1").value() != *first);
  }
}

TEST_CASE_METHOD(Stored, "a large drop file that was taken before leaves no body",
                 "[queue][drop]") {
  auto first = large(70'000);
  first.drop_id = "msg.1";
  REQUIRE(accept_dropped(std::move(first)).has_value());
  auto second = large(70'000);
  second.drop_id = "msg.1";
  const auto name = second.message->content.file;
  REQUIRE(accept_dropped(std::move(second)).has_value());
  CHECK(::access(queue->body_path(name).c_str(), F_OK) != 0);
}

TEST_CASE_METHOD(Stored, "the kept figures are those of a recount", "[queue][figures]") {
  std::mt19937 random(20261129);
  std::vector<MessageId> ids;
  const auto pick = [&](std::size_t most) { return random() % most; };
  for (int round = 0; round < 60; ++round) {
    std::vector<std::string> recipients;
    for (std::size_t i = 0; i <= pick(4); ++i)
      recipients.push_back("r" + std::to_string(i) + "@d" + std::to_string(pick(5)) + ".test");
    ids.push_back(must_accept("a@b.test", recipients));
    while (hand.count() > 0) {
      const auto lease = hand.next();
      Record record;
      record.id = lease.message->id;
      for (const auto& recipient : lease.recipients) {
        const Verdict verdicts[] = {Verdict::retry, Verdict::retry, Verdict::delivered,
                                    Verdict::bounce};
        if (pick(6) == 0)
          record.untried.push_back(recipient.index);
        else
          record.results.push_back(
              {recipient.index, outcome(verdicts[pick(4)]), clock.now() + Duration(60'000)});
      }
      this->record(std::move(record));
      if (pick(3) == 0)
        break;
    }
    Filter filter;
    if (pick(2) == 0)
      filter.domain = "d" + std::to_string(pick(5)) + ".test";
    else
      filter.ids = {ids[pick(ids.size())]};
    if (pick(2) == 0)
      change(
          std::array{Verb::hold, Verb::release, Verb::retry, Verb::remove, Verb::bounce}[pick(5)],
          filter);
    if (pick(4) == 0)
      clock.pass(Duration(61'000));
    if (round == 30)
      reopen();
  }
  settle();
  const auto totals = queue->totals().value();
  const auto listed = list();
  CHECK(totals.messages == listed.size());
  std::size_t recipients = 0;
  for (const auto& message : listed)
    recipients += message.recipients.size();
  CHECK(totals.recipients == recipients);
  std::array<std::uint64_t, Summary::kAges> ages = {};
  for (const auto& message : listed)
    ++ages[Summary::age_of(clock.now().time_since_epoch().count() / 60'000 -
                           message.id.value / 60'000'000)];
  CHECK(std::accumulate(totals.ages.begin(), totals.ages.end(), std::uint64_t{0}) ==
        totals.messages);
  CHECK(totals.ages == ages);
  queue.reset();
  CHECK(text("SELECT minute, messages FROM arrived ORDER BY minute") ==
        text("SELECT id / 60000000, count(*) FROM message GROUP BY 1 ORDER BY 1"));
  CHECK(text("SELECT status, messages, recipients, bytes FROM tally WHERE messages > 0") ==
        text("SELECT CASE WHEN waiting = 0 THEN 2 WHEN tried THEN 1 ELSE 0 END s, count(*),"
             " sum(waiting + held), sum(size) FROM message GROUP BY s ORDER BY s"));
  CHECK(text("SELECT id, recipients FROM domain WHERE recipients > 0 ORDER BY id") ==
        text("SELECT domain, count(*) FROM recipient WHERE state < 3 GROUP BY domain ORDER BY 1"));
}

}  // namespace postrider::queue::test
