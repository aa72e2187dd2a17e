#include "delivery/local/agents/command_exit.h"
#include "delivery/local/agents/delivery_agent.h"
#include "delivery/local/agents/local_target_codec.h"
#include "delivery/local/agents/mailbox_pattern.h"
#include "delivery/local/agents/maildir_quota.h"
#include "delivery/local/agents/mbox.h"
#include "delivery/local/agents/mbox_lock.h"
#include "delivery/local/agents/pipe_command.h"
#include "tests/unit/base/temporary_folder.h"

#include <catch2/catch.hpp>

#include <array>
#include <csignal>
#include <fcntl.h>
#include <fstream>
#include <sstream>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <unistd.h>

using namespace postrider;
using namespace postrider::delivery;

namespace {

// A command that ends without reading must not end us: the daemon ignores the signal too.
[[maybe_unused]] const auto kIgnored = std::signal(SIGPIPE, SIG_IGN);

LocalJob a_job(LocalTarget target, const std::string& body) {
  LocalJob job;
  job.target = std::move(target);
  job.envelope = {"4F2",         "a@ext.test", "ann@us.test",
                  "ann@us.test", "ann",        "",
                  "us.test",     "mx.us.test", TimePoint(std::chrono::hours(24 * 365 * 56))};
  job.trace = "Received: by mx.us.test\r\n";
  job.size = body.size();
  return job;
}

mail::Outcome perform(LocalTarget target, const std::string& body) {
  return perform_here(a_job(std::move(target), body),
                      {std::make_shared<const std::string>(body), {}});
}

std::string contents(const std::filesystem::path& file) {
  std::ostringstream out;
  out << std::ifstream(file, std::ios::binary).rdbuf();
  return out.str();
}

LocalTarget mbox_at(const std::filesystem::path& file) {
  LocalTarget target;
  target.kind = LocalTarget::Kind::mbox;
  target.place = file.string();
  return target;
}

LocalTarget command(std::vector<std::string> arguments) {
  LocalTarget target;
  target.kind = LocalTarget::Kind::command;
  target.arguments = std::move(arguments);
  return target;
}

}  // namespace

TEST_CASE("a job crosses to another process unchanged, and damaged bytes do not",
          "[delivery][local]") {
  auto job = a_job(command({"/bin/x", "-d", ""}), "body");
  job.target.user = "ann";
  job.target.limits.mailbox_size = 7;
  const auto bytes = encode(job);
  const auto back = decode_local_job(bytes);
  REQUIRE(back.has_value());
  CHECK(*back == job);
  for (std::size_t size = 0; size < bytes.size(); ++size)
    CHECK_FALSE(decode_local_job(bytes.substr(0, size)).has_value());
  CHECK_FALSE(decode_local_job(bytes + "x").has_value());
}

TEST_CASE("From-lines are quoted, over any splitting", "[delivery][local]") {
  const std::string in = "From a\n>From b\n>>From c\nFrom\n from d\nxFrom e\n\nFrom f";
  const std::string want = ">From a\n>>From b\n>>>From c\nFrom\n from d\nxFrom e\n\n>From f\n";
  for (std::size_t cut = 0; cut <= in.size(); ++cut) {
    FromQuoter quoter;
    std::string out;
    quoter.feed(std::string_view(in).substr(0, cut), out);
    quoter.feed(std::string_view(in).substr(cut), out);
    quoter.finish(out);
    CHECK(out == want);
  }
}

TEST_CASE("an mbox is appended to, never mixed with what was left unfinished",
          "[delivery][local]") {
  const TemporaryFolder folder;
  const auto file = folder / "box";
  std::ofstream(file) << "From x\nhalf a mess";
  REQUIRE(perform(mbox_at(file), "Subject: s\r\n\r\ntext\r\n").verdict == mail::Verdict::delivered);
  CHECK(
      contents(file) ==
      "From x\nhalf a mess\n\nFrom a@ext.test Thu Dec 18 00:00:00 2025\nReturn-Path: <a@ext.test>\n"
      "Delivered-To: ann@us.test\nReceived: by mx.us.test\nSubject: s\n\ntext\n\n");
  CHECK_FALSE(std::filesystem::exists(folder / "box.lock"));
}

TEST_CASE("an mbox whose write fails is cut back to what it was", "[delivery][local]") {
  const TemporaryFolder folder;
  const auto file = folder / "box";
  REQUIRE(perform(mbox_at(file), "Subject: s\r\n\r\ntext\r\n").verdict == mail::Verdict::delivered);
  const auto before = contents(file);
  const pid_t child = ::fork();
  if (child == 0) {
    ::signal(SIGXFSZ, SIG_IGN);
    const rlimit small{before.size() + 200000, before.size() + 200000};
    ::setrlimit(RLIMIT_FSIZE, &small);
    ::_exit(perform(mbox_at(file), std::string(900000, 'x')).verdict == mail::Verdict::retry ? 0
                                                                                             : 1);
  }
  int status = 1;
  ::waitpid(child, &status, 0);
  CHECK(status == 0);
  CHECK(contents(file) == before);
  LocalJob other = a_job(mbox_at(file), "12345");  // a body of another size than was promised
  const auto outcome = perform_here(other, {std::make_shared<const std::string>("123"), {}});
  CHECK(outcome.verdict == mail::Verdict::retry);
  CHECK(contents(file) == before);
}

TEST_CASE("I01: an mbox that is not a plain file of the user is not touched", "[delivery][local]") {
  const TemporaryFolder folder;
  const std::filesystem::path at = folder.path();
  std::ofstream(at / "other") << "x";
  std::filesystem::create_symlink(at / "other", at / "link");
  std::filesystem::create_hard_link(at / "other", at / "hard");
  std::filesystem::create_directory(at / "folder");
  ::mkfifo((at / "fifo").c_str(), 0600);
  for (const char* name : {"link", "hard", "folder", "fifo"}) {
    INFO(name);
    CHECK(perform(mbox_at(at / name), "x\r\n").verdict == mail::Verdict::retry);
  }
  CHECK(contents(at / "other") == "x");
}

TEST_CASE("a mailbox limit: full is tried again, larger than all is returned",
          "[delivery][local]") {
  const TemporaryFolder folder;
  auto target = mbox_at(folder / "box");
  target.limits.mailbox_size = 1000;
  CHECK(perform(target, std::string(700, 'x')).verdict == mail::Verdict::delivered);
  const auto full = perform(target, std::string(700, 'x'));
  CHECK(full.verdict == mail::Verdict::retry);
  CHECK(mail::to_string(full.status) == "4.2.2");
  const auto never = perform(target, std::string(1001, 'x'));
  CHECK(never.verdict == mail::Verdict::bounce);
  CHECK(mail::to_string(never.status) == "5.2.2");
}

TEST_CASE("a dot-lock of a process that is gone is taken over", "[delivery][local]") {
  const TemporaryFolder folder;
  const auto at = open_file(folder.path(), O_RDONLY | O_DIRECTORY);
  REQUIRE(at.has_value());
  const pid_t gone = ::fork();
  if (gone == 0)
    ::_exit(0);
  ::waitpid(gone, nullptr, 0);
  const auto lock = folder / "box.lock";
  const auto acquire = [&] { return DotLock::acquire(*at, "box", "mx.us.test", Duration(50)); };
  std::ofstream(lock) << gone << " elsewhere.test\n";
  CHECK_FALSE(acquire().has_value());
  std::ofstream(lock) << gone << " mx.us.test\n";
  {
    const auto held = acquire();
    CHECK(held.has_value());
    CHECK_FALSE(acquire().has_value());  // ours lives
  }
  CHECK_FALSE(std::filesystem::exists(lock));
  SECTION("and one that names nobody, as a power cut leaves it, after some seconds") {
    const auto age = [&](int seconds) {
      const timespec then{::time(nullptr) - seconds, 0};
      const std::array<timespec, 2> times{then, then};
      ::utimensat(AT_FDCWD, lock.c_str(), times.data(), 0);
    };
    for (const auto& left : {std::string(), std::string(16, '\0')}) {
      std::ofstream(lock) << left;
      CHECK_FALSE(acquire().has_value());
      age(10);
      CHECK(acquire().has_value());
    }
    std::ofstream(lock) << "1 mx.us.test\n";
    age(200);
    CHECK_FALSE(acquire().has_value());
    std::filesystem::remove(lock);
  }
  SECTION("what replaced ours is not removed with ours") {
    {
      const auto held = acquire();
      REQUIRE(held.has_value());
      std::filesystem::remove(lock);
      std::ofstream(lock) << "1 mx.us.test\n";
    }
    CHECK(contents(lock) == "1 mx.us.test\n");
  }
  CHECK(parse_lock_owner("123 host\nx").hostname == "host");
  CHECK(parse_lock_owner("-1 host").pid == 0);
  CHECK(parse_lock_owner("99999999999999999999").pid == 0);
}

TEST_CASE("the Maildir++ quota file is read as it is written", "[delivery][local]") {
  CHECK(parse_quota("1000S,10C")->octets == 1000);
  CHECK(parse_quota("1000S,10C")->messages == 10);
  CHECK_FALSE(parse_quota("").has_value());
  CHECK_FALSE(parse_quota("xS").has_value());
  const auto size = parse_maildirsize("1000S\n 500 2\n-100 -1\n20 1\n");
  REQUIRE(size.has_value());
  CHECK(size->octets == 420);
  CHECK(size->messages == 2);
  CHECK_FALSE(parse_maildirsize("1000S\n1 2 3\n").has_value());
  CHECK_FALSE(parse_maildirsize("1000S\n99999999999999999999 1\n").has_value());
  CHECK(size_in_name("1.M2.host,S=77:2,S") == 77U);
  CHECK_FALSE(size_in_name("1.M2.host:2,S").has_value());
}

TEST_CASE("I02 I03: a command line is split, not interpreted", "[delivery][local]") {
  CHECK(*split_command("/bin/x -a 'b c' \"d e\" f\\ g") ==
        std::vector<std::string>{"/bin/x", "-a", "b c", "d e", "f g"});
  CHECK(*split_command("/bin/x ''") == std::vector<std::string>{"/bin/x", ""});
  for (const char* bad :
       {"", "x", "/bin/x | y", "/bin/x; y", "/bin/x $(id)", "/bin/x `id`", "/bin/x \"$HOME\"",
        "/bin/x >f", "/bin/x 'open", "/bin/x \\", "/bin/x\ny"})
    CHECK_FALSE(split_command(bad).has_value());
}

TEST_CASE("I02 I03: names in a command's arguments stay data", "[delivery][local]") {
  const auto arguments = [](std::string_view pattern, std::string_view local_part) {
    const auto target = mailbox_target(pattern, mailbox_names(local_part, "us.test"));
    return target ? target->arguments : std::vector<std::string>();
  };
  CHECK(arguments("command:/bin/x -d {user} {extension}", "Ann+tag") ==
        std::vector<std::string>{"/bin/x", "-d", "ann", "tag"});
  CHECK(arguments("command:/bin/x -d {user} e={extension}", "ann+$(id)") ==
        std::vector<std::string>{"/bin/x", "-d", "ann", "e=__id_"});
  CHECK(arguments("command:/bin/x {extension}", "ann+-rf").empty());
  CHECK(arguments("command:/bin/x {user}", "a;b").empty());
  CHECK(arguments("command:/bin/x {local}", "`id`").empty());
  CHECK(arguments("command:/bin/x {user}", "{domain}").empty());
}

TEST_CASE("patterns of local.mailbox", "[delivery][local]") {
  CHECK(check_pattern("mbox:/var/mail/{user}").has_value());
  CHECK(check_pattern("lmtp:unix:/run/dovecot/lmtp").has_value());
  CHECK(check_pattern("lmtp:[::1]:24").has_value());
  CHECK(check_pattern("command:/usr/bin/lda -d {user}").has_value());
  for (const char* bad : {"", "maildir:", "maildir:x/{user}", "mbox:/var/{usr}", "lmtp:",
                          "lmtp:unix:x", "command:lda", "command:/bin/sh -c 'x' | y", "file:/x"})
    CHECK_FALSE(check_pattern(bad).has_value());
}

TEST_CASE("what a command's end means", "[delivery][local]") {
  struct Case {
    int code;
    const char* output;
    mail::Verdict verdict;
    const char* status;
  };
  using mail::Verdict;
  for (const auto& c :
       {Case{EX_OK, "noise", Verdict::delivered, "2.0.0"},
        Case{EX_TEMPFAIL, "", Verdict::retry, "4.3.0"},
        Case{EX_NOUSER, "", Verdict::bounce, "5.1.1"}, Case{EX_OSERR, "", Verdict::retry, "4.3.0"},
        Case{EX_CONFIG, "", Verdict::bounce, "5.3.5"},
        Case{1, "4.2.2 over quota\nmore", Verdict::retry, "4.2.2"},
        Case{EX_TEMPFAIL, "5.2.2 full", Verdict::bounce, "5.2.2"},
        Case{3, "2.0.0 fine", Verdict::bounce, "5.3.0"},
        // What a shell says of programs that it could not run, or that died.
        Case{126, "", Verdict::retry, "4.3.5"},
        Case{127, "sh: 1: x: not found", Verdict::retry, "4.3.5"},
        Case{128 + 5, "Trace/breakpoint trap", Verdict::retry, "4.3.0"},
        Case{128 + 31, "Bad system call", Verdict::retry, "4.3.0"},
        Case{128, "", Verdict::bounce, "5.3.0"}, Case{128 + 65, "", Verdict::bounce, "5.3.0"},
        Case{255, "", Verdict::bounce, "5.3.0"},
        // The machine's trouble, or its sandbox's, in whatever line and with whatever code.
        Case{2, "cannot create /x: Read-only file system", Verdict::retry, "4.3.0"},
        Case{1, "Traceback:\nOSError: [Errno 28] No space left on device: 'x'", Verdict::retry,
             "4.3.0"},
        Case{EX_CANTCREAT, "x: Disk quota exceeded", Verdict::retry, "4.3.0"},
        Case{EX_CANTCREAT, "x: Permission denied", Verdict::bounce, "5.2.0"},
        Case{1, "5.7.1 not here: Read-only file system", Verdict::bounce, "5.7.1"}}) {
    INFO(c.code << " " << c.output);
    const auto outcome = judge_command({CommandEnd::Kind::exited, c.code, c.output}, "/bin/x");
    CHECK(outcome.verdict == c.verdict);
    CHECK(mail::to_string(outcome.status) == c.status);
  }
  CHECK(judge_command({CommandEnd::Kind::killed, 9, ""}, "/bin/x").verdict == Verdict::retry);
}

TEST_CASE("a command: input, output, time", "[delivery][local]") {
  const TemporaryFolder folder;
  const auto out = folder / "out";
  CHECK(perform(command({"/bin/dd", "status=none", "of=" + out}), "Subject: s\r\n\r\nx\r\n")
            .verdict == mail::Verdict::delivered);
  CHECK(contents(out).starts_with("From a@ext.test "));
  CHECK(contents(out).ends_with("Subject: s\n\nx\n"));
  CHECK(perform(command({"/bin/true"}), std::string(1U << 20U, 'x')).verdict ==
        mail::Verdict::delivered);  // without reading
  auto slow = command({"/bin/sleep", "100"});
  slow.limits.time = Duration(200);
  const auto ended = perform(slow, "x\r\n");
  CHECK(ended.verdict == mail::Verdict::retry);
  CHECK(ended.text.find("too long") != std::string::npos);
  const auto absent = perform(command({"/no/such/program"}), "x\r\n");
  CHECK(absent.verdict == mail::Verdict::retry);
  CHECK(mail::to_string(absent.status) == "4.3.5");
}

TEST_CASE("a command has surroundings of its own", "[delivery][local]") {
  const TemporaryFolder folder;
  const auto out = folder / "out";
  const FileDescriptor inherited(::open("/dev/null", O_RDONLY));  // without O_CLOEXEC
  rlimit before{};
  REQUIRE(::getrlimit(RLIMIT_NOFILE, &before) == 0);
  rlimit many = before;
  many.rlim_cur = before.rlim_max;
  REQUIRE(::setrlimit(RLIMIT_NOFILE, &many) == 0);
  const auto mask = ::umask(0);
  const auto user_signal = ::signal(SIGUSR1, SIG_IGN);
  ::setenv("POSTRIDER_SECRET", "x", 1);
  const auto outcome =
      perform(command({"/bin/sh", "-c",
                       "exec 5>" + out +
                           "; cat >/dev/null; umask >&5; ulimit -Sn >&5; ulimit -c >&5; "
                           "ls -m /proc/self/fd >&5; ps -o sid= -p $$ >&5; echo $$ >&5; "
                           "grep SigIgn /proc/self/status >&5; env >&5"}),
              "x\r\n");
  ::unsetenv("POSTRIDER_SECRET");
  ::signal(SIGUSR1, user_signal);
  ::umask(mask);
  ::setrlimit(RLIMIT_NOFILE, &before);
  CHECK(outcome.verdict == mail::Verdict::delivered);
  std::istringstream lines(contents(out));
  std::vector<std::string> said;
  for (std::string line; std::getline(lines, line);)
    said.push_back(line);
  REQUIRE(said.size() > 7);
  CHECK(said[0] == "0077");
  CHECK(std::stoul(said[1]) <= 1024);
  CHECK(said[2] == "0");
  CHECK(said[3] == "0, 1, 2, 3, 5");  // 3 is that of ls
  CHECK(std::stoul(said[4]) == std::stoul(said[5]));
  CHECK(said[6] == "SigIgn:\t0000000000000000");
  CHECK(contents(out).find("POSTRIDER_SECRET") == std::string::npos);
}

TEST_CASE("what the machine forbids a command is not a fault of the message", "[delivery][local]") {
  const TemporaryFolder folder;
  const auto script = folder / "script";
  const auto run = [&](const std::string& text) {
    std::ofstream(script) << text;
    ::chmod(script.c_str(), 0700);
    return perform(command({script}), "x\r\n");
  };
  CHECK(run("#!/no/such/interpreter\n").verdict == mail::Verdict::retry);
  CHECK(run("#!/usr/bin/env no-such-interpreter\n").verdict == mail::Verdict::retry);
  CHECK(run("no program at all\n").verdict == mail::Verdict::retry);
  CHECK(run("#!/bin/sh\n/no/such/program\n").verdict == mail::Verdict::retry);
  CHECK(run("#!/bin/sh\nsh -c 'kill -SYS $$'\n").verdict == mail::Verdict::retry);
  // What a unit of systemd forbids is said with its remedy.
  const auto check_remedy = [&](const std::string& text, const char* setting) {
    const auto outcome = run(text);
    INFO(outcome.text);
    CHECK(outcome.verdict == mail::Verdict::retry);
    CHECK(outcome.text.find(setting) != std::string::npos);
    CHECK(outcome.text.find("aliases(5)") != std::string::npos);
  };
  check_remedy("#!/bin/sh\necho 'x: Read-only file system' >&2; exit 1\n", "ReadWritePaths=");
  check_remedy("#!/bin/sh\necho 'x: Read-only file system' >&2; exit 73\n", "ReadWritePaths=");
  const char* const code = "MemoryDenyWriteExecute=no";
  check_remedy("#!/bin/sh\nsh -c 'kill -TRAP $$'\n", code);
  check_remedy("#!/bin/sh\nkill -TRAP $$\n", code);
  check_remedy("#!/bin/sh\necho 'Failed to mark memory page as executable' >&2; exit 1\n", code);
  const auto honest = run("#!/bin/sh\nexit 67\n");
  CHECK(honest.verdict == mail::Verdict::bounce);
  CHECK(honest.text.find("systemd") == std::string::npos);
}

TEST_CASE("a mailbox that is not trusted is named with its path and the reason",
          "[delivery][local]") {
  const TemporaryFolder folder;
  LocalTarget target;
  target.kind = LocalTarget::Kind::mbox;
  target.place = folder / "box";
  const auto why = [&] { return perform(target, "x\r\n").text; };
  std::ofstream(target.place) << "";
  std::filesystem::create_hard_link(target.place, folder / "other");
  CHECK(why().find(target.place + " (it has 2 names)") != std::string::npos);
  std::filesystem::remove(folder / "other");
  if (::geteuid() == 0) {
    REQUIRE(::chown(target.place.c_str(), 12345, 12345) == 0);
    CHECK(why().find(target.place +
                     " (it belongs to uid 12345, and mail for it is delivered as uid 0)") !=
          std::string::npos);
  }
  std::filesystem::remove(target.place);
  REQUIRE(::mkfifo(target.place.c_str(), 0600) == 0);
  CHECK(why().find(target.place + " (it is not a plain file)") != std::string::npos);
}

TEST_CASE("a .forward is trusted if only its owner could have written it", "[delivery][local]") {
  const TemporaryFolder folder;
  const auto home = folder.path();
  CHECK_FALSE(read_forward_here(home, ".forward", ::geteuid())->has_value());
  std::ofstream(home + "/.forward") << "bob\n";
  ::chmod((home + "/.forward").c_str(), 0644);
  CHECK(read_forward_here(home, ".forward", ::geteuid())->value() == "bob\n");
  for (const char* half : {"", "b", "bob\nx@far.te"}) {
    std::ofstream(home + "/.forward", std::ios::trunc) << half;
    const auto waits = read_forward_here(home, ".forward", ::geteuid());
    REQUIRE_FALSE(waits.has_value());
    CHECK(waits.error().code() == boost::system::errc::resource_unavailable_try_again);
  }
  std::ofstream(home + "/.forward", std::ios::trunc) << "bob\n";
  ::chmod((home + "/.forward").c_str(), 0666);
  CHECK(read_forward_here(home, ".forward", ::geteuid()).error().code() ==
        make_error_code(Errc::refused));
  std::filesystem::create_symlink(home + "/.forward", home + "/.forward+x");
  CHECK(read_forward_here(home, ".forward+x", ::geteuid()).error().code() ==
        make_error_code(Errc::refused));
}

TEST_CASE("our own trace is found, whatever extension the address has", "[delivery][local]") {
  const std::string content =
      "Received: by x\r\nDelivered-To: Ann+a@here.test\r\ndelivered-to: +odd@here.test \r\n"
      "Subject: Delivered-To: bob@here.test\r\n\r\nDelivered-To: cat@here.test\r\n";
  for (const char* address :
       {"ann@here.test", "ann+a@here.test", "ANN+b@HERE.test", "+odd@here.test"}) {
    INFO(address);
    CHECK(was_delivered_to(content, address, "+"));
  }
  for (const char* address : {"ann@there.test", "an@here.test", "ann-a@here.test", "bob@here.test",
                              "cat@here.test", "+other@here.test"}) {
    INFO(address);
    CHECK_FALSE(was_delivered_to(content, address, "+"));
  }
  CHECK(was_delivered_to("Delivered-To: ann-x@here.test\r\n\r\n", "ann+y@here.test", "+-"));
  CHECK(count_delivered_to(content) == 2);
}
