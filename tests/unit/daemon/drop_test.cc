#include "doors.h"

#include "daemon/control/control_service.h"
#include "daemon/pickup/drop_file.h"
#include "daemon/pickup/drop_folder.h"
#include "tests/support/sync_record.h"

#include <boost/json/array.hpp>
#include <boost/json/serialize.hpp>

#include <atomic>
#include <fcntl.h>
#include <fstream>
#include <functional>
#include <future>
#include <linux/fs.h>
#include <map>
#include <optional>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <unistd.h>
#include <utility>

namespace postrider::daemon {
namespace {

namespace fs = std::filesystem;

SubmitSettings settings() {
  SubmitSettings settings;
  settings.hostname = "mx.test";
  settings.origin = "mx.test";
  settings.message_size = 1U << 20U;
  return settings;
}

SubmitHeader header_for(const std::string& content) {
  SubmitHeader header;
  header.sender = "me";
  header.recipients = {"you@there.test"};
  header.author = "me@mx.test";
  header.size = content.size();
  return header;
}

std::string file_text(const std::string& content) {
  return encode(header_for(content)) + content;
}

std::size_t times(const std::string& text, const std::string& part) {
  std::size_t found = 0;
  for (auto at = text.find(part); at != std::string::npos; at = text.find(part, at + 1))
    ++found;
  return found;
}

// Then only what wakes it makes it look.
DropFolder::Rests rests_long() {
  DropFolder::Rests rests;
  rests.usual = std::chrono::hours(1);
  return rests;
}

struct DropDoor : Doors {
  std::string drop = spool + "/drop";
  std::unique_ptr<DropFolder> watcher;

  explicit DropDoor(const DropFolder::Rests& rests = {}) {
    auto opened = DropFolder::open(spool, loop, *pool, *queue, clock, log, settings(), rests);
    REQUIRE(opened);
    watcher = std::move(*opened);
  }
  void start() {
    watcher->start();
    run();
  }
  ~DropDoor() {
    if (thread.joinable()) {
      on_loop([this] { watcher->stop(); });
      loop.finish();
      thread.join();
    }
  }
  // As `sendmail` does it.
  void put(const std::string& name, const std::string& text) {
    REQUIRE(replace_file(drop + "/tmp." + name, text, 0640));
    fs::rename(drop + "/tmp." + name, drop + "/" + name);
  }
  bool wait_for_file(const std::string& name) {
    for (int i = 0; i < 12000; ++i) {
      if (fs::exists(fs::symlink_status(drop + "/" + name)))
        return true;
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    return false;
  }
  bool wait_until(const std::function<bool()>& is_so) {
    for (int i = 0; i < 12000; ++i) {
      if (is_so())
        return true;
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    return false;
  }
  bool wait_until_empty() {
    return wait_until([this] { return fs::is_empty(drop); });
  }
  // A message of which the file is known and is not there; its id. Requires: run().
  std::string add_dropped(const std::string& sender = "me@mx.test") {
    queue::Submission submission;
    auto message = std::make_shared<mail::Message>();
    submission.drop_id = to_string(queue->next_id()) + "." + std::to_string(::geteuid());
    message->id = queue->next_id();
    message->received = clock.now();
    message->envelope.sender = sender;
    message->envelope.recipients.push_back({"you@there.test", {}, {}});
    message->content.bytes = std::make_shared<const std::string>("x\r\n");
    message->content.size = 3;
    submission.message = message;
    const auto drop_id = submission.drop_id;
    std::promise<void> done;
    loop.post([&] { loop.spawn(accept_dropped(std::move(submission), done), log, "test"); });
    done.get_future().wait();
    return drop_id;
  }
  Task<void> accept_dropped(queue::Submission submission, std::promise<void>& done) {
    (void)co_await queue->accept_dropped(loop, std::move(submission));
    done.set_value();
  }
  std::vector<std::string> names_with(std::string_view part) const {
    std::vector<std::string> names;
    for (const auto& entry : fs::directory_iterator(drop))
      if (const auto name = entry.path().filename().string(); name.find(part) != name.npos)
        names.push_back(name);
    return names;
  }
};

TEST_CASE("mail left while the daemon was down is taken at start, oldest first", "[daemon][unit]") {
  DropDoor door;
  door.put("msg.b", file_text("Subject: first\n\nx\n"));
  const auto written = fs::last_write_time(door.drop + "/msg.b");
  fs::last_write_time(door.drop + "/msg.b", written - std::chrono::seconds(1));
  door.put("msg.a", file_text("Subject: second\n\nx\n"));
  door.start();
  REQUIRE(door.wait_for(2));
  CHECK(door.wait_until_empty());
  const auto message = door.queue->load(door.listed()[0].id);
  REQUIRE(message);
  CHECK((*message)->content.bytes->find("first") != std::string::npos);
}

TEST_CASE("mail left while the daemon runs is taken at once", "[daemon][unit]") {
  DropDoor door;
  door.start();
  door.put("msg.a", file_text("x\n"));
  CHECK(door.wait_for(1));
  CHECK(door.wait_until_empty());
}

TEST_CASE("others may leave mail but not look at what lies there", "[daemon][unit]") {
  DropDoor door;
  struct stat about {};
  REQUIRE(::stat(door.drop.c_str(), &about) == 0);
  CHECK((about.st_mode & 07777U) == 03733U);
  REQUIRE(::stat(door.spool.c_str(), &about) == 0);
  CHECK((about.st_mode & 0077U) == 0011U);
  for (const char* closed : {"/queue.db", "/body"}) {
    REQUIRE(::stat((door.spool + closed).c_str(), &about) == 0);
    CHECK((about.st_mode & 0007U) == 0U);
  }
}

TEST_CASE("a file that was taken before a crash is not sent twice", "[daemon][unit]") {
  DropDoor door;
  door.run();
  // By a version that kept no ids of files.
  const auto id = door.add("me@mx.test", {"you@there.test"}, "x\r\n");
  door.put("taken." + to_string(id) + ".abc", file_text("x\n"));
  door.put("taken.00000000001.abd", file_text("y\n"));
  door.on_loop([&] { door.watcher->start(); });
  REQUIRE(door.wait_for(2));
  CHECK(door.wait_until_empty());
}

TEST_CASE("I12: what is not a message is put aside, never followed, never waited for",
          "[daemon][unit]") {
  DropDoor door;
  const auto secret = door.folder.path() + "/secret";
  REQUIRE(replace_file(secret, file_text("secret\n"), 0600));
  fs::create_symlink(secret, door.drop + "/msg.symlink");
  fs::create_hard_link(secret, door.drop + "/msg.hardlink");
  REQUIRE(::mkfifo((door.drop + "/msg.fifo").c_str(), 0666) == 0);
  fs::create_directory(door.drop + "/msg.folder");
  door.put("msg.empty", "");
  door.put("msg.truncated", file_text("0123456789\n").substr(0, 100));
  door.put("msg.extended", file_text("x\n") + "more");
  door.put("msg.noheader", "Subject: x\n\ny\n");
  door.put("msg.large", file_text(std::string((1U << 20U) + 1, 'x')));
  door.put("msg.badrcpt", [] {
    SubmitHeader header;
    header.recipients = {"a@b\r\nX"};
    return encode(header);
  }());
  door.put("msg.good", file_text("Subject: good\n\nx\n"));
  door.start();
  CHECK(door.wait_for(3));  // and the notices about two of them
  for (const char* name :
       {"symlink", "hardlink", "fifo", "folder", "empty", "truncated", "noheader", "badrcpt"}) {
    INFO(name);
    const bool may_be_claimed = std::string_view(name) == "badrcpt";
    CHECK((may_be_claimed || door.wait_for_file(std::string("msg.") + name + ".bad")));
  }
  CHECK(door.wait_until([&] { return door.names_with(".bad").size() == 8; }));
  CHECK(door.listed().size() == 3);
  CHECK(door.log.text().find("drop_refused") != std::string::npos);
  CHECK(read_file(secret)->find("secret") != std::string::npos);
}

// `sendmail` said that it is in custody, and nothing is wrong with it.
TEST_CASE("a file waits while a table of ours is at fault, the others go on", "[daemon][unit]") {
  DropDoor door;
  auto rewriting = settings();
  mail::Rewriter::Rules rules;
  rules.recipient = [](const std::string& key,
                       bool) -> Result<std::optional<mail::Rewriter::Entry>> {
    if (key == "wrong@there.test")
      return std::optional(mail::Rewriter::Entry{"no address @@", "table:1"});
    if (key == "slow@there.test")
      return Error(Errc::too_long, "table: needs more steps than are allowed");
    if (key == "refused@there.test")
      return Error(Errc::refused, "table: belongs to another user");
    return std::optional<mail::Rewriter::Entry>();
  };
  rewriting.rewriter = std::make_shared<mail::Rewriter>(rules);
  std::size_t counted = 0;
  rewriting.admit = [&](std::uint64_t, std::size_t) {
    ++counted;
    return std::optional<SubmitAnswer>();
  };
  door.watcher->reconfigure(rewriting);
  const auto put = [&](const std::string& who) {
    auto header = header_for("x\n");
    header.recipients = {who + "@there.test"};
    door.put("msg." + who, encode(header) + "x\n");
  };
  for (const char* who : {"wrong", "slow", "refused"})
    put(who);
  door.start();
  CHECK(door.wait_until([&] { return times(door.log.text(), "drop_waits") == 3; }));
  put("good");
  CHECK(door.wait_for(1));
  CHECK(door.wait_until([&] { return door.names_with("").size() == 3; }));
  CHECK(door.names_with("taken.").size() == 3);
  CHECK(door.names_with(".bad").empty());
  // New mail wakes us, and what waits is let alone: it was told and counted once.
  put("better");
  CHECK(door.wait_for(2));
  CHECK(times(door.log.text(), "drop_waits") == 3);
  door.on_loop([&] { CHECK(counted == 5); });
  door.on_loop([&] {
    auto mended = settings();
    mended.admit = rewriting.admit;
    door.watcher->reconfigure(mended);
  });
  CHECK(door.wait_for(5));
  CHECK(door.wait_until_empty());
  door.on_loop([&] { CHECK(counted == 5); });
  CHECK(times(door.log.text(), "drop_refused") == 0);
}

TEST_CASE("files that wait for a table hold up no other file of their user", "[daemon][unit]") {
  DropFolder::Rests rests;
  rests.usual = std::chrono::seconds(GENERATE(3600, 1));  // also when their time comes again
  rests.counts.of_party = 20;
  DropDoor door(rests);
  auto limited = settings();
  limited.admit = [](std::uint64_t, std::size_t) { return std::optional<SubmitAnswer>(); };
  mail::Rewriter::Rules rules;
  rules.recipient = [](const std::string& key,
                       bool) -> Result<std::optional<mail::Rewriter::Entry>> {
    if (key == "slow@there.test")
      return Error(Errc::too_long, "table: needs more steps than are allowed");
    return std::optional<mail::Rewriter::Entry>();
  };
  limited.rewriter = std::make_shared<mail::Rewriter>(rules);
  door.watcher->reconfigure(limited);
  auto header = header_for("x\n");
  header.recipients = {"slow@there.test"};
  const std::size_t many = 50;
  for (std::size_t number = 0; number < many; ++number)
    std::ofstream(door.drop + "/msg." + std::to_string(number)) << encode(header) << "x\n";
  const auto put_last = [&](const std::string& name, int seconds) {
    door.put("tmp." + name, file_text("x\n"));
    fs::last_write_time(
        door.drop + "/tmp." + name,
        fs::last_write_time(door.drop + "/tmp." + name) + std::chrono::seconds(seconds));
    fs::rename(door.drop + "/tmp." + name, door.drop + "/msg." + name);
  };
  put_last("good", 100);
  door.start();
  CHECK(door.wait_for(1));
  put_last("better", 200);
  CHECK(door.wait_for(2));
  CHECK(door.wait_until([&] { return door.names_with("taken.").size() == many; }));
  door.on_loop([&] { door.watcher->reconfigure(settings()); });
  CHECK(door.wait_for(many + 2));
  CHECK(door.wait_until_empty());
}

// The user is at his file just when it counts; then he comes with one that sends to many.
TEST_CASE("each count is good for one message, whatever its user does to the file",
          "[daemon][unit]") {
  const auto trick = GENERATE(as<std::string>(), "renamed away", "renamed", "replaced", "rewritten",
                              "linked", "rewritten while it waits");
  INFO(trick);
  DropDoor door;
  const auto text_for = [](std::size_t recipients, const std::string& domain) {
    auto header = header_for("x\n");
    header.recipients.clear();
    for (std::size_t i = 0; i < recipients; ++i)
      header.recipients.push_back("r" + std::to_string(i) + "@" + domain);
    return encode(header) + "x\n";
  };
  const auto write_over = [&](const std::string& path, const std::string& text) {
    const FileDescriptor file(::open(path.c_str(), O_WRONLY | O_TRUNC));
    return file.is_open() && write_all(file, text).has_value();
  };
  const auto play = [&](const std::string& path) {
    if (trick == "renamed away")
      return ::rename(path.c_str(), (door.drop + "/away").c_str()) == 0;
    if (trick == "renamed")
      return ::rename(path.c_str(), (door.drop + "/msg.again").c_str()) == 0;
    if (trick == "replaced")
      return replace_file(door.drop + "/tmp.other", text_for(20, "there.test"), 0640) &&
             ::rename((door.drop + "/tmp.other").c_str(), path.c_str()) == 0;
    if (trick == "rewritten")
      return write_over(path, text_for(20, "there.test"));
    if (trick == "linked")
      return ::link(path.c_str(), (door.drop + "/msg.second").c_str()) == 0;
    return true;
  };
  auto limited = settings();
  std::atomic<std::size_t> counted = 0;
  limited.admit = [&](std::uint64_t, std::size_t recipients) {
    if (counted == 0)
      for (const char* part : {"msg.a", "taken."})
        for (const auto& name : door.names_with(part))
          CHECK(play(door.drop + "/" + name));
    counted += recipients;
    return std::optional<SubmitAnswer>();
  };
  mail::Rewriter::Rules rules;
  rules.recipient = [](const std::string& key,
                       bool) -> Result<std::optional<mail::Rewriter::Entry>> {
    if (key.ends_with("@slow.test"))
      return Error(Errc::too_long, "table: needs more steps than are allowed");
    return std::optional<mail::Rewriter::Entry>();
  };
  limited.rewriter = std::make_shared<mail::Rewriter>(rules);
  door.watcher->reconfigure(limited);
  const bool waits = trick == "rewritten while it waits";
  door.put("msg.a", text_for(1, waits ? "slow.test" : "there.test"));
  door.start();
  REQUIRE(door.wait_until([&] { return counted > 0; }));
  if (waits) {
    REQUIRE(door.wait_until([&] { return times(door.log.text(), "drop_waits") == 1; }));
    for (const auto& name : door.names_with("taken."))
      CHECK(write_over(door.drop + "/" + name, text_for(20, "there.test")));
    door.on_loop([&] { door.watcher->reconfigure(limited); });
  }
  // What was done before is settled when this has been looked at.
  const auto settled = [&] {
    return door.names_with("msg.").size() + door.names_with("taken.").size();
  };
  REQUIRE(door.wait_until([&] { return settled() == 0; }));
  door.put("msg.a", text_for(20, "there.test"));
  REQUIRE(door.wait_until([&] { return settled() == 0; }));
  std::size_t sent = 0;
  for (const auto& entry : door.listed()) {
    const auto message = door.queue->load(entry.id);
    REQUIRE(message);
    sent += (*message)->envelope.recipients.size();
  }
  CHECK(sent >= 20);
  CHECK(sent <= counted);
}

// What its writer did wrong, or what is over a limit that was lowered since: he hears of it.
TEST_CASE("a file that can never be taken is returned to its sender", "[daemon][unit]") {
  DropDoor door;
  auto limited = settings();
  limited.recipients = 2;
  limited.double_bounce = "postmaster";
  limited.admit = [](std::uint64_t, std::size_t recipients) {
    SubmitAnswer never;
    never.exit_code = EX_NOPERM;
    never.error = "more recipients than user x may ever send to";
    return recipients == 2 ? std::optional(never) : std::nullopt;
  };
  door.watcher->reconfigure(limited);
  const std::string content = "Subject: see me again\n\nand the text\n";
  const auto put = [&](const char* name, const std::function<void(SubmitHeader&)>& change,
                       const std::string& text) {
    auto header = header_for(text);
    change(header);
    door.put(name, encode(header) + text);
  };
  const auto as_is = [](SubmitHeader&) {};
  put("msg.large", as_is, content + std::string(1U << 20U, 'x'));
  put(
      "msg.many",
      [](SubmitHeader& header) {
        header.recipients = {"a", "b", "c"};
      },
      content);
  put(
      "msg.never",
      [](SubmitHeader& header) {
        header.recipients = {"a", "b"};
      },
      content);
  put(
      "msg.bad_recipient", [](SubmitHeader& header) { header.recipients = {"a@b\r\nX: y"}; },
      content);
  put(
      "msg.bad_sender", [](SubmitHeader& header) { header.sender = "a@@b"; }, content);
  put(
      "msg.null_sender",
      [](SubmitHeader& header) {
        header.sender.clear();
        header.recipients = {"a@@b"};
      },
      content);
  put(
      "msg.cut", [](SubmitHeader& header) { header.size += 10; }, content);
  put(
      "msg.silent",
      [](SubmitHeader& header) {
        header.recipients = {"a@@b"};
        header.notify.bits = mail::Notify::kNever;
      },
      content);
  door.start();
  REQUIRE(door.wait_for(7));
  // Of the one whose sender wants to hear nothing.
  CHECK(door.wait_until([&] { return door.names_with(".bad").size() == 1; }));
  CHECK(door.wait_until([&] { return door.names_with("").size() == 1; }));
  std::size_t to_sender = 0, to_postmaster = 0, whole = 0;
  for (const auto& entry : door.listed()) {
    const auto message = door.queue->load(entry.id);
    REQUIRE(message);
    const auto& envelope = (*message)->envelope;
    CHECK(envelope.sender.empty());
    to_sender += envelope.recipients.front().address == "me@mx.test" ? 1U : 0U;
    to_postmaster += envelope.recipients.front().address == "postmaster" ? 1U : 0U;
    const auto& text = *(*message)->content.bytes;
    CHECK(text.find("Subject: see me again") != text.npos);
    CHECK(text.find("\r\nX: y") == text.npos);
    whole += text.find("and the text") != text.npos ? 1U : 0U;
  }
  CHECK(to_sender == 6);
  CHECK(to_postmaster == 1);
  CHECK(whole == 5);  // the large one's and the cut one's header alone
}

// As after a crash between the two: one was accepted and is still there. Another user may give his
// file the same name, but it is not the same file.
TEST_CASE("a file is known by its user and not by its name alone", "[daemon][unit]") {
  if (::geteuid() != 0)
    return;  // only root can give files away
  DropDoor door;
  const auto id = to_string(door.queue->next_id());
  const auto put = [&](uid_t uid) {
    const auto name = "taken." + id + "." + std::to_string(uid);
    door.put(name, file_text("Subject: " + std::to_string(uid) + "\n\nx\n"));
    REQUIRE(::chown((door.drop + "/" + name).c_str(), uid, uid) == 0);
    return door.drop + "/" + name;
  };
  const auto stays = put(3001);
  const auto file = open_file(stays, O_RDONLY);
  REQUIRE(file);
  int flags = FS_IMMUTABLE_FL;
  if (::ioctl(file->get(), FS_IOC_SETFLAGS, &flags) != 0) {
    WARN("not run: files cannot be kept from being removed here");
    return;
  }
  door.start();
  CHECK(door.wait_for(1));
  put(3002);
  put(3003);
  CHECK(door.wait_for(3));
  flags = 0;
  REQUIRE(::ioctl(file->get(), FS_IOC_SETFLAGS, &flags) == 0);
}

TEST_CASE("new limits count for what waits because of the old ones", "[daemon][unit]") {
  DropDoor door(rests_long());
  std::promise<void> asked;
  auto limited = settings();
  limited.admit = [&, is_first = true](std::uint64_t, std::size_t) mutable {
    if (std::exchange(is_first, false))
      asked.set_value();
    SubmitAnswer later;
    later.exit_code = EX_TEMPFAIL;
    later.error = "later";
    return std::optional(later);
  };
  door.watcher->reconfigure(limited);
  door.put("msg.a", file_text("x\n"));
  door.start();
  asked.get_future().wait();
  door.on_loop([&] { door.watcher->reconfigure(settings()); });
  CHECK(door.wait_for(1));
  CHECK(door.wait_until_empty());
}

TEST_CASE("who is at a limit is asked for again at the next look", "[daemon][unit]") {
  DropFolder::Rests rests;
  rests.usual = Duration(20);
  rests.short_one = std::chrono::hours(1);
  DropDoor door(rests);
  auto limited = settings();
  limited.admit = [times = 0](std::uint64_t, std::size_t) mutable {
    SubmitAnswer later;
    later.exit_code = EX_TEMPFAIL;
    later.error = "later";
    return ++times > 3 ? std::nullopt : std::optional(later);
  };
  door.watcher->reconfigure(limited);
  door.put("msg.a", file_text("x\n"));
  door.start();
  CHECK(door.wait_for(1));
  CHECK(door.wait_until_empty());
}

// What the kernel stamps cannot be set, so the clock is.
TEST_CASE("what nobody wants any more goes after its time, and not before", "[daemon][unit]") {
  DropDoor door;
  for (const char* name : {"tmp.new", "other", "msg.x.bad"})
    REQUIRE(replace_file(door.drop + "/" + name, "x", 0600));
  REQUIRE(replace_file(door.drop + "/tmp.old", "x", 0600));
  fs::create_directory(door.drop + "/folder");
  const auto long_ago = fs::last_write_time(door.drop + "/tmp.old") - std::chrono::hours(48);
  fs::last_write_time(door.drop + "/tmp.old", long_ago);  // its owner may say anything
  auto folder = open_file(door.drop, O_RDONLY | O_DIRECTORY);
  REQUIRE(folder);
  const std::int64_t now = static_cast<std::int64_t>(::time(nullptr)) * 1'000'000'000;
  const std::int64_t hour = 3600LL * 1'000'000'000;
  const auto there = [&](const char* name) { return fs::exists(door.drop + "/" + name); };
  REQUIRE(scan_drop_folder(*folder, now + 23 * hour, 10));
  for (const char* name : {"tmp.new", "tmp.old", "other", "msg.x.bad", "folder"}) {
    INFO(name);
    CHECK(there(name));
  }
  REQUIRE(scan_drop_folder(*folder, now + 25 * hour, 10, {}, {}, false));
  CHECK(there("tmp.new"));
  REQUIRE(scan_drop_folder(*folder, now + 25 * hour, 10));
  for (const char* name : {"tmp.new", "tmp.old", "other", "folder"}) {
    INFO(name);
    CHECK_FALSE(there(name));
  }
  REQUIRE(scan_drop_folder(*folder, now + (7 * 24 - 1) * hour, 10));
  CHECK(there("msg.x.bad"));
  REQUIRE(scan_drop_folder(*folder, now + (7 * 24 + 1) * hour, 10));
  CHECK_FALSE(there("msg.x.bad"));
}

TEST_CASE("after trouble that passes the folder is soon looked at again", "[daemon][unit]") {
  auto rests = rests_long();
  rests.short_one = Duration(20);
  DropDoor door(rests);
  door.start();
  door.put("msg.a", file_text("x\n"));
  REQUIRE(door.wait_for(1));
  REQUIRE(door.wait_until_empty());
  REQUIRE(replace_file(door.drop + "/tmp.b", file_text("x\n"), 0640));
  const SyncRecord record;
  // More often than it is woken by the file's names: ours and the one that we give it.
  SyncRecord::fail(door.drop, 6);
  fs::rename(door.drop + "/tmp.b", door.drop + "/msg.b");
  CHECK(door.wait_for(2));
  CHECK(door.wait_until_empty());
  CHECK(times(door.log.text(), "drop_failed") == 6);
}

TEST_CASE("a file whose name is not on stable storage is not taken yet", "[daemon][unit]") {
  DropDoor door(rests_long());
  REQUIRE(replace_file(door.drop + "/tmp.a", file_text("x\n"), 0640));
  fs::rename(door.drop + "/tmp.a", door.drop + "/msg.a");
  const SyncRecord record;
  SyncRecord::fail(door.drop, 1000, 1);  // but for the look for files that are gone
  door.start();
  CHECK(door.wait_until([&] { return times(door.log.text(), "drop_failed") > 0; }));
  CHECK(door.listed().empty());
  CHECK(door.names_with("taken.").size() == 1);
}

TEST_CASE("an id is kept until it is sure that its file has gone", "[daemon][unit]") {
  DropDoor door(rests_long());
  door.run();
  const auto known = [&] { return door.queue->dropped().value(); };
  SECTION("the file that was taken") {
    door.put("msg.a", file_text("x\n"));
    const SyncRecord record;
    SyncRecord::fail(door.drop, 1, 2);  // the look's, that of its new name, this one
    door.on_loop([&] { door.watcher->start(); });
    CHECK(door.wait_for(1));
    CHECK(door.wait_until_empty());
    CHECK(door.wait_until([&] { return times(door.log.text(), "drop_failed") == 1; }));
    CHECK(known().size() == 1);
  }
  SECTION("a file that has gone") {
    const auto gone = door.add_dropped();
    REQUIRE(known().size() == 1);
    door.put("msg.a", file_text("x\n"));
    {
      const SyncRecord record;
      SyncRecord::fail(door.drop, 1);
      door.on_loop([&] { door.watcher->start(); });
      CHECK(door.wait_for(2));
      CHECK(door.wait_until_empty());
      door.on_loop([] {});
    }
    CHECK(door.wait_until([&] { return known() == std::vector<std::string>{gone}; }));
  }
}

TEST_CASE("a file that waits for a table of ours is tried again by itself", "[daemon][unit]") {
  DropFolder::Rests rests;
  rests.usual = Duration(20);
  DropDoor door(rests);
  auto rewriting = settings();
  mail::Rewriter::Rules rules;
  rules.recipient = [times = std::make_shared<int>(0)](
                        const std::string&, bool) -> Result<std::optional<mail::Rewriter::Entry>> {
    if (++*times < 10)
      return Error(Errc::refused, "table: belongs to another user");
    return std::optional<mail::Rewriter::Entry>();
  };
  rewriting.rewriter = std::make_shared<mail::Rewriter>(rules);
  const auto admitted = std::make_shared<std::atomic<int>>(0);
  rewriting.admit = [admitted](std::uint64_t, std::size_t) {
    ++*admitted;
    return std::optional<SubmitAnswer>();
  };
  door.watcher->reconfigure(rewriting);
  door.put("msg.a", file_text("x\n"));
  door.start();
  CHECK(door.wait_for(1));
  CHECK(door.wait_until_empty());
  CHECK(*admitted == 1);  // its user has paid for it once, however often it is tried
}

// A user's files come all the time, and each wakes us.
TEST_CASE("others' mail does not put off the next look", "[daemon][unit]") {
  if (::geteuid() != 0)
    return;  // only root can give files away
  DropFolder::Rests rests;
  rests.usual = Duration(1500);
  DropDoor door(rests);
  auto limited = settings();
  const auto asked = std::make_shared<std::atomic<int>>(0);
  limited.admit = [asked](std::uint64_t uid, std::size_t) {
    SubmitAnswer later;
    later.exit_code = EX_TEMPFAIL;
    later.error = "later";
    return uid == 3001 && ++*asked < 2 ? std::optional(later) : std::nullopt;
  };
  door.watcher->reconfigure(limited);
  door.put("msg.limited", file_text("x\n"));
  REQUIRE(::chown((door.drop + "/msg.limited").c_str(), 3001, 3001) == 0);
  door.start();
  for (int i = 0; i < 2000 && *asked < 2; ++i) {
    door.put("msg." + std::to_string(i), file_text("x\n"));
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  CHECK(*asked >= 2);
  CHECK(door.wait_until_empty());
}

TEST_CASE("users take turns, each with the oldest first", "[daemon][unit]") {
  if (::geteuid() != 0)
    return;  // only root can give files away
  DropDoor door;
  const auto base = fs::file_time_type::clock::now();
  for (int i = 0; i < 30; ++i) {
    const auto name = "msg.a" + std::to_string(100 + i);
    door.put(name, "x");
    fs::last_write_time(door.drop + "/" + name, base - std::chrono::hours(100 - i));
    REQUIRE(::chown((door.drop + "/" + name).c_str(), 3001, 3001) == 0);
  }
  door.put("msg.b", "x");
  REQUIRE(::chown((door.drop + "/msg.b").c_str(), 3002, 3002) == 0);
  auto folder = open_file(door.drop, O_RDONLY | O_DIRECTORY);
  const auto scan = scan_drop_folder(*folder, 0, 10);
  REQUIRE(scan);
  REQUIRE(scan->entries.size() == 10);
  CHECK(scan->entries[0].name == "msg.a100");
  CHECK(scan->entries[1].name == "msg.b");
  CHECK(scan->entries[9].name == "msg.a108");
  CHECK(scan_drop_folder(*folder, 0, 10, {3001})->entries.size() == 1);
  CHECK(scan_drop_folder(*folder, 0, 40, {}, {"msg.b"})->entries.size() == 30);
}

TEST_CASE("the ids that a user was lent take one turn, and another is first each time",
          "[daemon][unit]") {
  if (::geteuid() != 0)
    return;  // only root can give files away
  DropDoor door;
  const auto put = [&](const std::string& name, uid_t uid) {
    door.put(name, "x");
    REQUIRE(::chown((door.drop + "/" + name).c_str(), uid, uid) == 0);
  };
  for (uid_t i = 0; i < 30; ++i)
    put("msg.a" + std::to_string(i), 1000 + i);
  put("msg.b", 3001);
  put("msg.c", 3002);
  auto folder = open_file(door.drop, O_RDONLY | O_DIRECTORY);
  DropTurns turns;
  turns.party = [](std::uint64_t uid) { return uid < 3000 ? 2999 : uid; };
  const auto owners = [&] {
    std::vector<std::uint64_t> owners;
    const auto scan = scan_drop_folder(*folder, 0, 4, {}, {}, true, turns);
    for (const auto& entry : scan->entries)
      owners.push_back(entry.party);
    return owners;
  };
  using Owners = std::vector<std::uint64_t>;
  CHECK(owners() == Owners{2999, 3001, 3002, 2999});
  turns.first = 3001;
  CHECK(owners() == Owners{3001, 3002, 2999, 2999});
  turns.first = 3003;
  CHECK(owners() == Owners{2999, 3001, 3002, 2999});
}

// 1,000 of them were a loop that never rested, and nothing younger was ever taken.
TEST_CASE("what can neither be taken nor put aside stops nothing", "[daemon][unit]") {
  DropDoor door;
  constexpr int kStuck = 1100;
  for (int i = 0; i < kStuck; ++i) {
    const auto name = door.drop + "/msg." + std::to_string(i);
    REQUIRE(::mkfifo(name.c_str(), 0666) == 0);
    fs::create_directory(name + ".bad");
    REQUIRE(replace_file(name + ".bad/x", "x", 0600));
  }
  door.put("msg.good", file_text("x\n"));
  const auto much_later = fs::file_time_type::clock::now() + std::chrono::hours(10);
  fs::last_write_time(door.drop + "/msg.good", much_later);
  door.start();
  CHECK(door.wait_for(1));
  // Each was put aside under another name, once.
  bool done = false;
  for (int i = 0; i < 12000 && !done; ++i) {
    done = true;
    for (const auto& entry : fs::directory_iterator(door.drop))
      done = done && entry.path().filename().string().ends_with(".bad");
    std::this_thread::sleep_for(std::chrono::milliseconds(done ? 0 : 10));
  }
  CHECK(done);
  const auto text = door.log.text();
  std::size_t refusals = 0;
  for (auto at = text.find("drop_refused"); at != std::string::npos;
       at = text.find("drop_refused", at + 1))
    ++refusals;
  CHECK(refusals == kStuck);
}

TEST_CASE("100,000 other names hide nothing", "[daemon][unit]") {
  DropDoor door;
  for (int i = 0; i < 100'100; ++i) {
    const FileDescriptor one(
        ::open((door.drop + "/z" + std::to_string(i)).c_str(), O_CREAT | O_WRONLY, 0600));
    REQUIRE(one.is_open());
  }
  for (int i = 0; i < 20; ++i)
    door.put("msg.good" + std::to_string(i), file_text("x\n"));
  door.start();
  CHECK(door.wait_for(20));
}

namespace {

using json_lines = std::vector<boost::json::object>;

// What a tool is told, without the end.
json_lines told(ControlService& service, const char* act, const FilterText& filter = {}) {
  ControlRequest request;
  request.act = act;
  request.filter = filter;
  const auto job = service.start(request, 0);
  json_lines lines;
  for (bool more = true; more;) {
    std::string out;
    more = job->step(out);
    for (std::size_t at = 0; at < out.size(); at = out.find('\n', at) + 1) {
      auto line = parse_json_line(std::string_view(out).substr(at, out.find('\n', at) - at));
      REQUIRE(line);
      if (!find_end(*line))
        lines.push_back(std::move(*line));
    }
  }
  return lines;
}

std::string member(const boost::json::object& object, const char* name) {
  const auto* value = object.if_contains(name);
  REQUIRE(value != nullptr);
  return value->is_string() ? std::string(value->get_string()) : boost::json::serialize(*value);
}

}  // namespace

TEST_CASE("mail in the drop folder is listed and counted with the queue's", "[daemon][unit]") {
  DropDoor door;
  door.run();
  door.add("queued@mx.test", {"you@there.test"}, "x\r\n");
  door.put("msg.0123456789abcdef", file_text("Subject: x\n\nx\n"));
  auto unusable = file_text("x\n");
  unusable.replace(unusable.find("you@there.test"), 14, "you@@there.tes");
  door.put("msg.2.bad", unusable);
  door.put("msg.3.bad", "no header");
  // Neither of these is a message.
  door.put("tmp.4", file_text("x\n"));
  door.put("others", "x");
  fs::create_directory(door.drop + "/msg.5");
  // Accepted already, and about to be removed: it is listed once.
  const auto drop_id = door.add_dropped("taken@mx.test");
  const auto id = drop_id.substr(0, drop_id.find('.'));
  door.put("taken." + id + ".a", file_text("y\n"));
  const auto waits = door.queue->next_id();
  door.put("taken." + to_string(waits) + ".b", file_text("z\n"));

  ControlService down(*door.queue, door.clock, nullptr, {door.spool, "mx.test", 1U << 20U, {}});
  const auto lines = told(down, "list");
  REQUIRE(lines.size() == 6);
  std::map<std::string, boost::json::object> by_sender, by_file;
  for (const auto& line : lines) {
    const auto& one = line.at("message").get_object();
    by_sender.emplace(member(one, "sender"), one);
    if (one.contains("file"))
      by_file.emplace(member(one, "file"), one);
  }
  CHECK(by_sender.contains("queued@mx.test"));
  CHECK(by_sender.contains("taken@mx.test"));
  REQUIRE(by_file.size() == 4);
  const auto& waiting = by_file.at("msg.0123456789abcdef");
  CHECK(member(waiting, "queue_name") == "maildrop");
  CHECK(member(waiting, "queue_id") == "0123456789a");
  CHECK(member(waiting, "status") == "dropped");
  CHECK(member(waiting, "sender") == "me@mx.test");
  CHECK(member(waiting, "message_size") == "14");
  CHECK(member(waiting, "uid") == std::to_string(::geteuid()));
  const auto& recipient = waiting.at("recipients").get_array().at(0).get_object();
  CHECK(member(recipient, "address") == "you@there.test");
  CHECK(member(recipient, "delay_reason") == "the mail system is down");
  const auto age = std::chrono::system_clock::to_time_t(std::chrono::system_clock::now()) -
                   waiting.at("arrival_time").get_int64();
  CHECK(age >= 0);
  CHECK(age < 3600);
  CHECK(member(by_file.at("taken." + to_string(waits) + ".b"), "queue_id") == to_string(waits));
  CHECK(member(by_file.at("msg.2.bad"), "status") == "refused");
  CHECK(member(by_file.at("msg.2.bad"), "reason").starts_with("refused: "));
  CHECK(by_file.at("msg.3.bad").at("recipients").get_array().empty());

  const auto count = [&](auto set) {
    FilterText filter;
    set(filter);
    const auto counted = told(down, "count", filter);
    REQUIRE(counted.size() == 1);
    const auto listed = told(down, "list", filter).size();
    const auto& object = counted[0].at("count").get_object();
    CHECK(member(object, "messages") == std::to_string(listed));
    return member(object, "messages") + "/" + member(object, "recipients");
  };
  CHECK(count([](FilterText&) {}) == "6/5");
  CHECK(count([](FilterText& f) { f.status = "dropped"; }) == "2/2");
  CHECK(count([](FilterText& f) { f.status = "refused"; }) == "2/1");
  CHECK(count([](FilterText& f) { f.status = "queued"; }) == "2/2");
  CHECK(count([](FilterText& f) { f.from = "ME@mx.test"; }) == "3/3");
  CHECK(count([](FilterText& f) { f.from = "@mx.test"; }) == "5/5");
  CHECK(count([](FilterText& f) { f.domain = "there.test"; }) == "4/4");
  CHECK(count([](FilterText& f) { f.domain = "elsewhere.test"; }) == "0/0");
  CHECK(count([](FilterText& f) { f.to = "nobody@there.test"; }) == "0/0");
  CHECK(count([](FilterText& f) { f.reply = "IS DOWN"; }) == "2/2");
  CHECK(count([](FilterText& f) { f.larger = "13B"; }) == "1/1");
  CHECK(count([](FilterText& f) { f.older = "1h"; }) == "0/0");
  CHECK(count([&](FilterText& f) { f.ids = {to_string(waits)}; }) == "0/0");

  const auto status = told(down, "status");
  REQUIRE(status.size() == 1);
  const auto& drop = status[0].at("status").get_object().at("drop_folder").get_object();
  CHECK(member(drop, "waiting") == "2");
  CHECK(member(drop, "refused") == "2");
  CHECK(member(drop, "reason") == "the mail system is down");

  // What only the running daemon knows, and what no verb can change.
  ControlService up(*door.queue, door.clock, nullptr,
                    {door.spool, "mx.test", 1U << 20U, [](std::uint64_t uid) {
                       return uid == ::geteuid() ? std::string("at a limit") : std::string();
                     }});
  FilterText dropped;
  dropped.status = "dropped";
  for (const auto& line : told(up, "list", dropped))
    CHECK(member(line.at("message").get_object(), "reason") == "at a limit");
  ControlRequest request;
  request.act = "change";
  request.verb = "remove";
  request.filter = dropped;
  std::string out;
  CHECK_FALSE(up.start(request, 0)->step(out));
  CHECK(out.find("\"exit\":64") != std::string::npos);
}

// A user writes what stands in them, 4 MiB each.
TEST_CASE("a part of a listing of the drop folder is bounded by octets", "[daemon][unit]") {
  DropDoor door;
  SubmitHeader header = header_for("x\n");
  header.recipients.clear();
  for (int i = 0; i < 2'000; ++i)
    header.recipients.push_back(std::string(50, 'r') + std::to_string(i) + "@" +
                                std::string(60, 'd') + "." + std::string(60, 'd') + ".test");
  constexpr std::size_t kFiles = 12;
  for (std::size_t i = 0; i < kFiles; ++i)
    door.put("msg." + std::to_string(i), encode(header) + "x\n");
  const DropPlace place{door.spool, "mx.test", 1U << 20U, {}};
  DropListing listing(place, *door.queue);
  std::size_t parts = 0, files = 0;
  for (bool more = true; more; ++parts) {
    std::vector<DroppedMessage> found;
    more = listing.read_some(200, {}, door.clock.now(), found);
    CHECK(found.size() <= 4);
    files += found.size();
  }
  CHECK(files == kFiles);
  CHECK(parts >= kFiles / 4);
}

TEST_CASE("a drop folder tells why a user's mail waits", "[daemon][unit]") {
  DropDoor door(rests_long());
  auto limited = settings();
  std::promise<void> asked;
  limited.admit = [&, is_first = true](std::uint64_t, std::size_t) mutable {
    if (std::exchange(is_first, false))
      asked.set_value();
    SubmitAnswer later;
    later.exit_code = EX_TEMPFAIL;
    later.error = "3 messages an hour are the limit";
    return std::optional(later);
  };
  door.watcher->reconfigure(limited);
  const auto reasons = door.watcher->reasons();
  CHECK(reasons(::geteuid()).empty());
  door.put("msg.a", file_text("x\n"));
  door.start();
  asked.get_future().wait();
  door.on_loop([] {});  // behind what asked
  CHECK(reasons(::geteuid()) == "3 messages an hour are the limit");
  CHECK(reasons(4711).empty());
  door.on_loop([&] { door.watcher->reconfigure(settings()); });
  CHECK(door.wait_for(1));
  CHECK(door.wait_until_empty());
  CHECK(reasons(::geteuid()).empty());
}

TEST_CASE("a drop folder that belongs to another user is refused", "[daemon][unit]") {
  if (::geteuid() != 0)
    return;  // only root can make one
  Doors doors;
  fs::create_directories(doors.spool + "/drop");
  REQUIRE(::chown((doors.spool + "/drop").c_str(), 12345, 12345) == 0);
  CHECK_FALSE(DropFolder::open(doors.spool, doors.loop, *doors.pool, *doors.queue, doors.clock,
                               doors.log, settings()));
}

}  // namespace
}  // namespace postrider::daemon
