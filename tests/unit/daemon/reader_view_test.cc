#include "daemon/control/reader_view.h"

#include "delivery/local/agents/command_exit.h"

#include <catch2/catch.hpp>

namespace postrider::daemon {
namespace {

TEST_CASE("readers see reasons without the files in them", "[daemon][unit]") {
  struct Case {
    const char *text, *shown;
  };
  const Case cases[] = {
      // Tables, mailboxes, .forward files, problems of the configuration.
      {"/etc/postrider/aliases.cdb: a table cannot be read, mail waits: Permission denied",
       "(file): a table cannot be read, mail waits: Permission denied"},
      {"local.aliases: \"/etc/my aliases\" cannot be read",
       "local.aliases: \"(file)\" cannot be read"},
      {"cdb:/etc/aliases is not there, nor is '/srv/a b'.",
       "cdb:(file) is not there, nor is '(file)'."},
      {"open /var/mail/ann: Permission denied (4.3.0)", "open (file): Permission denied (4.3.0)"},
      {"(see /root/x.toml)", "(see (file))"},
      {"tables=/etc/a,/etc/b;/etc/c", "tables=(file),(file);(file)"},
      {"/etc/postrider/postrider.toml:12: local.aliases: is wrong",
       "(file):12: local.aliases: is wrong"},
      {"file:///etc/aliases", "file:(file)"},
      {"lmtp:///run/dovecot/lmtp: open", "lmtp:(file): open"},
      {"lmtp:///run/dovecot/lmtp with /etc/postrider/x", "lmtp:(file) with (file)"},
      {"host lmtp:unix:/run/lmtp.sock said: 450", "host lmtp:unix:(file) said: 450"},
      {"/etc/aliases", "(file)"},
      {"/etc/aliases.", "(file)."},
      {"unlink /var/mail/\xc3\xa9t\xc3\xa9: no", "unlink (file): no"},
      // Unquoted, with blanks.
      {"delivered to mbox /home/x/x y:Secret/Secret/box", "delivered to mbox (file)"},
      {"delivered to mbox /home/x/my Secret box", "delivered to mbox (file)"},
      {"open /home/x/x y:Secret/box: Permission denied", "open (file): Permission denied"},
      {"open /home/a, b/Secret/box: Permission denied", "open (file): Permission denied"},
      {"the queue /var/spool/x is a folder", "the queue (file) is a folder"},
      {"lmtp:///run/user@1000/sock: open", "lmtp:(file): open"},
      // Commands, with what they are told.
      {"command /usr/bin/deliver -s secret as ann for ann@us.test",
       "command (file) as ann for ann@us.test"},
      {"delivered to command: /usr/bin/x --key k", "delivered to command: (file)"},
      {"command could not be started: /usr/bin/x --key k: No such file or directory",
       "command could not be started: (file): No such file or directory"},
      {"command took too long and was ended: /usr/bin/x --key k",
       "command took too long and was ended: (file)"},
      // What others say stays as it is.
      {"host mx.test[192.0.2.1] said: 550 5.7.1 see https://support.example/mail/?p=x y (in reply "
       "to RCPT TO)",
       "host mx.test[192.0.2.1] said: 550 5.7.1 see https://support.example/mail/?p=x y (in reply "
       "to RCPT TO)"},
      {"451 4.7.1 and/or text/plain 450/451 a / b 192.0.2.0/24 2001:db8::/32",
       "451 4.7.1 and/or text/plain 450/451 a / b 192.0.2.0/24 2001:db8::/32"},
      {"", ""},
      {"/", "/"},
  };
  for (const auto& c : cases)
    CHECK(without_paths(c.text) == c.shown);
}

TEST_CASE("readers see neither the place of a socket in a name nor what a command said",
          "[daemon][unit]") {
  const auto shown = [](const std::string& line) { return for_reader(line + "\n"); };
  CHECK(shown("{\"site\":\"lmtp:///run/x/lmtp\",\"host\":\"/run/x/lmtp\",\"name\":\"lmtp:unix:/run/"
              "x\"}") ==
        "{\"site\":\"lmtp:(file)\",\"host\":\"(file)\",\"name\":\"lmtp:unix:(file)\"}\n");
  CHECK(shown("{\"site\":\"lmtp:///run/user@1000/sock\",\"host\":\"/run/user@1000/sock\","
              "\"name\":\"unix:/run/a@b\",\"next_hop\":\"/run/a@1/b\"}") ==
        "{\"site\":\"lmtp:(file)\",\"host\":\"(file)\",\"name\":\"unix:(file)\","
        "\"next_hop\":\"(file)\"}\n");
  const std::string begin =
      "{\"reason\":\"command exited with status 1" + std::string(delivery::kCommandOutput);
  CHECK(shown(begin + "my secret\"}") == begin + "(not shown)\"}\n");
  CHECK(shown("{\"name\":\"mx.test:25\",\"client\":\"2001:db8::1\"}") ==
        "{\"name\":\"mx.test:25\",\"client\":\"2001:db8::1\"}\n");
}

TEST_CASE("readers see names as they are, and all other texts of an answer without files",
          "[daemon][unit]") {
  CHECK(for_reader("{\"message\":{\"sender\":\"/c=de/@x.test\",\"recipients\":[{\"address\":\"/dev/"
                   "null@x.test\","
                   "\"delay_reason\":\"/etc/aliases: no\"}]}}\n"
                   "{\"status\":{\"alarms\":[\"ALARM: /etc/a: no\"]}}\n") ==
        "{\"message\":{\"sender\":\"/c=de/@x.test\",\"recipients\":[{\"address\":\"/dev/"
        "null@x.test\","
        "\"delay_reason\":\"(file): no\"}]}}\n"
        "{\"status\":{\"alarms\":[\"ALARM: (file): no\"]}}\n");
  CHECK(
      for_reader(
          "{\"group\":{\"key\":\"/c=de/@x.test\"}}\n{\"group\":{\"key\":\"open /etc/a: no\"}}\n") ==
      "{\"group\":{\"key\":\"/c=de/@x.test\"}}\n{\"group\":{\"key\":\"open (file): no\"}}\n");
  CHECK(for_reader("{\"end\":{\"error\":\"there is no /var/spool/x\"}}\nno JSON /etc/x\n") ==
        "{\"end\":{\"error\":\"there is no (file)\"}}\n");
  CHECK(for_reader("{\"a\":\"b\"}\n") == "{\"a\":\"b\"}\n");
}

}  // namespace
}  // namespace postrider::daemon
