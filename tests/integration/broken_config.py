#!/usr/bin/python3
"""A configuration that is missing, unreadable or broken stops neither `sendmail` nor the tools for
the queue: what they need the daemon has left beside its sockets, and without it they go on with what
can be understood."""
import json
import os
import pathlib
import shutil
import stat
import subprocess

from support_py import daemon, scenario, wait

TO = "reader@far.example"
NOBODY = 65534
MAIL = "Subject: x\n\nbody\n"
SMTP = (f"EHLO c\r\nMAIL FROM:<a@us.example>\r\nRCPT TO:<{TO}>\r\nDATA\r\nSubject: x\r\n\r\nbody\r\n"
        ".\r\nQUIT\r\n")
BROKEN = {
    "an unknown section": lambda text: text + "\n[acept]\nx = 1\n",
    "a wrong value": lambda text: text.replace('hostname = "mx.us.example"',
                                               'hostname = "mx.us.example"\ndurable = 7'),
    "a line that is not TOML": lambda text: "not TOML at all = = [\n" + text,
    "several mistakes": lambda text: "x = \n" + text + "\n[acept]\ny = 1\n]]\n[zz\n",
    "a NUL at its end": lambda text: text + "\0",
    "cut off in a line": lambda text: text + '[sandbox]\nread = ["/a',
}


class BrokenConfiguration(scenario.Scenario):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.peer = cls.shared(scenario.sink.Sink())
        cls.server = daemon.Postrider(cls.folder / "d", **scenario.to(cls.peer))
        cls.shared(cls.server)
        at = cls.server.folder
        while at != pathlib.Path("/"):
            os.chmod(at, os.stat(at).st_mode | 0o005)
            at = at.parent
        cls.tools = cls.folder / "tools"
        cls.tools.mkdir(0o755)
        for name in ("postrider", "sendmail", "mailq"):
            shutil.copy(daemon.BIN / "postrider", cls.tools / name)
        cls.text = cls.server.config_file.read_text()

    def setUp(self):
        super().setUp()
        self.write(self.text)
        self.addCleanup(lambda: self.server.stop() if self.server.running() else None)

    def write(self, text, mode=0o644):
        fresh = self.server.config_file.with_suffix(".new")
        fresh.write_text(text)
        fresh.chmod(mode)
        fresh.rename(self.server.config_file)

    def run_tool(self, name, *arguments, stdin="", uid=None, **environment):
        who = {} if uid is None else {"user": uid, "group": uid, "extra_groups": []}
        return subprocess.run([self.tools / name, *arguments], input=stdin, capture_output=True,
                              text=True, env={**self.server.environment(), **environment}, cwd="/",
                              timeout=wait.DEADLINE, **who)

    def users(self):
        return (None, NOBODY) if scenario.is_root() else (None,)

    def sends_mail(self, uid, warns):
        """Each way to hand a message over, and -bv; how many messages that makes."""
        for arguments, stdin in ((["-i", TO], MAIL), (["-t"], f"To: {TO}\n" + MAIL), (["-bs"], SMTP)):
            with self.subTest(arguments=arguments):
                done = self.run_tool("sendmail", *arguments, stdin=stdin, uid=uid)
                self.assertEqual(done.returncode, 0, done.stderr + done.stdout)
                self.assertEqual(bool(done.stderr), warns, done.stderr)
                self.assertLessEqual(done.stderr.count("\n"), 1, done.stderr)
                self.assertNotIn("malformed", done.stderr)
        return 3

    def administrates(self, complaint):
        """The tools for the queue; what they say of the configuration."""
        for name, *arguments in (("postrider", "queue"), ("postrider", "queue", "count"),
                                 ("postrider", "status"), ("postrider", "explain", TO), ("mailq",),
                                 ("sendmail", "-bp"), ("sendmail", "-bv", TO), ("sendmail", "-q"),
                                 ("postrider", "queue", "retry", "--all"), ("postrider", "queue", "summary", "--by", "reason"),
                                 ("postrider", "queue", "hold", "--all", "--dry-run"), ("postrider", "trace", TO, "--limit", "0"),
                                 ("postrider", "sites")):
            with self.subTest(tool=[name, *arguments]):
                done = self.run_tool(name, *arguments)
                is_down = "status" in arguments and not self.server.running()
                self.assertEqual(done.returncode, 69 if is_down else 0, done.stderr + done.stdout)
                self.assertEqual(done.stderr.count("\n") - (1 if is_down else 0),
                                 done.stderr.count(complaint), done.stderr)
                if name != "sendmail" and complaint != "-":
                    self.assertIn(complaint, done.stderr)
                    self.assertIn(str(self.server.config_file), done.stderr)

    def drained(self, count):
        before = self.before
        self.peer.wait_for(before + count)
        self.server.wait_until_empty()
        self.assertEqual(len(self.peer.messages), before + count)

    # What the daemon publishes

    def test_what_is_published(self):
        self.server.start()
        path = self.server.folder / "effective.json"
        about = path.stat()
        self.assertEqual(stat.S_IMODE(about.st_mode), 0o644)
        told = json.loads(path.read_text())
        self.assertEqual(told["config"], str(self.server.config_file))
        self.assertEqual(told["submit"], str(self.server.folder / "submit"))
        self.assertEqual((told["hostname"], told["recipients"]), ("mx.us.example", 1000))
        self.write(self.text.replace('hostname = "mx.us.example"',
                                     'hostname = "mx.us.example"\norigin = "new.us.example"'))
        self.server.reload()
        wait.until(lambda: json.loads(path.read_text())["origin"] == "new.us.example", "reload")
        self.assertEqual([name for name in os.listdir(self.server.folder) if ".new." in name], [])
        # Its sockets it keeps until a restart, and the tools find them.
        self.write(self.text.replace(f'socket = "{self.server.folder}/control"',
                                     f'socket = "{self.server.folder}/other"'))
        self.server.reload()
        self.server.wait_for_log("needs_restart")
        wait.until(lambda: json.loads(path.read_text())["origin"] == "mx.us.example", "reload")
        self.assertEqual(json.loads(path.read_text())["control"], str(self.server.folder / "control"))
        self.assertIn("queue", self.run_tool("postrider", "status").stdout)

    # With the daemon running

    def test_broken_while_the_daemon_runs(self):
        self.server.start()
        for what, broken in BROKEN.items():
            with self.subTest(configuration=what):
                self.before = len(self.peer.messages)
                self.write(broken(self.text))
                sent = sum(self.sends_mail(uid, warns=False) for uid in self.users())
                self.administrates("; going on with what the daemon runs with")
                self.drained(sent)

    def test_unreadable_while_the_daemon_runs(self):
        self.server.start()
        self.before = len(self.peer.messages)
        self.write(self.text, mode=0o600)
        sent = sum(self.sends_mail(uid, warns=False) for uid in self.users())
        self.administrates("-")
        self.drained(sent)

    def test_missing_while_the_daemon_runs(self):
        self.server.start()
        self.before = len(self.peer.messages)
        self.server.config_file.unlink()
        sent = sum(self.sends_mail(uid, warns=False) for uid in self.users())
        self.administrates("; going on with what the daemon runs with")
        self.drained(sent)

    # With the daemon down

    def down(self):
        """The daemon has run once, so there is a spool; what it left is gone."""
        self.server.start()
        self.server.stop()
        (self.server.folder / "effective.json").unlink()
        self.before = len(self.peer.messages)

    def taken_after_the_restart(self, sent):
        self.write(self.text)
        self.server.start()
        self.drained(sent)

    def test_broken_while_the_daemon_is_down(self):
        for what, broken in BROKEN.items():
            with self.subTest(configuration=what):
                self.down()
                self.write(broken(self.text))
                sent = sum(self.sends_mail(uid, warns=True) for uid in self.users())
                done = self.run_tool("mailq")
                self.assertEqual(done.returncode, 0, done.stderr)
                self.assertIn("going on with what can be understood of it", done.stderr)
                self.taken_after_the_restart(sent)
                self.server.stop()

    def test_what_the_daemon_ran_with_last(self):
        self.down()
        self.server.start()
        self.server.kill()
        self.server.config_file.unlink()
        sent = sum(self.sends_mail(uid, warns=True) for uid in self.users())
        self.assertIn("ran with last", self.run_tool("mailq").stderr)
        self.taken_after_the_restart(sent)

    def test_a_configuration_that_is_right_counts_when_the_daemon_is_down(self):
        self.server.start()
        self.server.kill()
        self.before = len(self.peer.messages)
        stale = self.server.folder / "effective.json"
        stale.write_text(stale.read_text().replace("/spool", "/elsewhere"))
        self.assertEqual(self.sends_mail(None, warns=False), 3)
        self.taken_after_the_restart(3)

    # What a crash or an editor leaves of a file may be right by itself

    def test_emptied_while_the_daemon_runs(self):
        self.server.start()
        for rest in ("", "# postrider\n", 'hostname = "mx.us.example"\n'):
            with self.subTest(configuration=rest):
                self.before = len(self.peer.messages)
                self.write(rest)
                sent = sum(self.sends_mail(uid, warns=False) for uid in self.users())
                self.administrates("-")
                self.drained(sent)

    def test_emptied_while_the_daemon_is_down(self):
        self.down()
        self.server.start()
        self.server.kill()
        for rest in ("", "# postrider\n"):
            with self.subTest(configuration=rest):
                self.write(rest)
                sent = sum(self.sends_mail(uid, warns=True) for uid in self.users())
                self.assertIn("sets nothing; going on with what the daemon ran with last",
                              self.run_tool("mailq").stderr)
                self.taken_after_the_restart(sent)
                self.before = len(self.peer.messages)
                self.server.kill()

    def test_nothing_is_left_where_nobody_may_look(self):
        self.down()
        self.write("")  # and nothing tells what the daemon ran with
        done = self.run_tool("sendmail", "-f", "a@us.example", TO, stdin=MAIL)
        self.assertEqual(done.returncode, 75, done.stderr)
        self.assertIn(f"{self.server.config_file} is empty", done.stderr)
        self.write(self.text)
        self.server.start()
        self.server.kill()
        self.write('hostname = "mx.us.example"\n')
        done = self.run_tool("sendmail", "-f", "a@us.example", TO, stdin=MAIL)
        self.assertEqual(done.returncode, 75, done.stderr)
        self.assertIn("names no spool any more", done.stderr)
        self.assertIn(f"{self.server.folder}/spool", done.stderr)

    def test_a_file_of_somebody_else_counts_for_nothing(self):
        if not scenario.is_root():
            self.skipTest("needs root: a file of another user")
        self.down()
        self.server.start()
        self.server.kill()
        os.chown(self.server.folder / "effective.json", NOBODY, NOBODY)
        self.write(BROKEN["an unknown section"](self.text))
        self.assertIn("can be understood", self.run_tool("mailq").stderr)
        (self.server.folder / "effective.json").unlink()
        os.mkfifo(self.server.folder / "effective.json")  # nobody waits for it either
        self.assertIn("can be understood", self.run_tool("mailq").stderr)
        (self.server.folder / "effective.json").unlink()

    # Nothing is known

    def test_a_named_file_that_is_not_there(self):
        self.down()
        missing = str(self.folder / "missing.toml")
        for name, *arguments in (("postrider", "queue", "-c", missing), ("mailq", "-c", missing),
                                 ("sendmail", "-C", missing, TO), ("sendmail", "-C", missing, "-bp"),
                                 ("sendmail", "-C", missing, "-bs")):
            with self.subTest(tool=[name, *arguments]):
                done = self.run_tool(name, *arguments, stdin=MAIL)
                self.assertEqual(done.returncode, 78, done.stdout)
                self.assertRegex(done.stderr, r"^[a-z ]+: " + missing +
                                 r": cannot be read: No such file or directory; name another with -c \(sendmail: -C\)\n$")

    def test_a_file_that_may_not_be_read(self):
        """Not a wrong configuration: 77, and what to do."""
        if not scenario.is_root():
            self.skipTest("acts as another user")
        self.write(self.text, mode=0o600)
        for arguments in (["check"], ["config"], ["run"], ["doctor"], ["dkim", "check"]):
            with self.subTest(arguments=arguments):
                done = self.run_tool("postrider", *arguments, "-c", str(self.server.config_file), uid=NOBODY)
                self.assertEqual(done.returncode, 77, done.stdout + done.stderr)
                self.assertIn(f"{self.server.config_file}: cannot be read: Permission denied; run this as root, or make it "
                              "readable", done.stdout + done.stderr)

    def test_nothing_is_known_and_the_defaults_hold(self):
        """The file is for root alone, nothing was published, and no daemon is where it usually is:
        the drop folder of the defaults is tried at last."""
        if not scenario.is_root() or pathlib.Path("/run/postrider").exists():
            self.skipTest("needs root, and a machine without Postrider")
        self.down()
        self.write(self.text, mode=0o600)
        done = self.run_tool("sendmail", "-i", TO, stdin=MAIL, uid=NOBODY)
        self.assertEqual(done.returncode, 75)
        self.assertIn("cannot be read: Permission denied; run this as root, or make it readable (mode 0644, its folders "
                      "0755); going on with the defaults\n", done.stderr)
        self.assertIn("could not be left for it", done.stderr)

    def test_what_needs_the_configuration_says_what_is_wrong(self):
        self.server.start()
        self.write(BROKEN["several mistakes"](self.text))
        for arguments in (["check"], ["config"]):
            done = self.run_tool("postrider", *arguments)
            self.assertEqual(done.returncode, 78)
            self.assertNotIn(": malformed", done.stderr + done.stdout)


if __name__ == "__main__":
    scenario.main()
