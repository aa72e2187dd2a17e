#!/usr/bin/python3
"""The tools where they are called by scripts, cron and other accounts: without an environment, in another locale,
with a relative path, with very many arguments, as nobody, on a narrow terminal; and quotes in what a host says.
Closed and full streams are in lost_output.py."""
import fcntl
import os
import pty
import re
import resource
import shutil
import struct
import subprocess
import termios

from support_py import daemon, scenario, wait

ANSWER = '451 4.7.1 no "room" for back\\slashes'
ID = re.compile(r"\b1K[0-9A-Z]{9}\b")


class OddSurroundings(scenario.Scenario):
    def setUp(self):
        super().setUp()
        self.peer = self.sink(script={"rcpt": lambda *_: ANSWER})
        self.server = self.relay(self.peer, delivery={"retry": ["1h"]})

    def run_tool(self, program, *arguments, stdin=b"", **more):
        more.setdefault("env", self.server.environment())
        return subprocess.run([str(daemon.BIN / program), *map(str, arguments)], input=stdin, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, timeout=wait.DEADLINE, **more)

    def queue_some(self, count=1):
        for number in range(count):
            self.server.send("a@us.example", [f"r{number}@far.example"], b"Subject: one\r\n\r\nx\r\n")
        wait.until(lambda: len(self.server.queue("--status", "deferred")) == count, "they wait")
        return [message["queue_id"] for message in self.server.queue()]

    def test_a_quote_is_a_quote_where_people_look(self):
        one, = self.queue_some()
        said = ANSWER.partition(" ")[2]
        self.assertIn(said, self.server.mailq())
        for words in (("queue",), ("explain", one), ("show", one), ("queue", "summary", "--by", "reason"), ("status",)):
            with self.subTest(words=words):
                shown = " ".join(self.server.postrider(*words).split())
                self.assertNotRegex(shown, r"\\x(22|5c)")
                if words[0] in ("queue", "explain") and len(words) < 3:
                    self.assertIn(said, shown)
        done = self.server.tool("postrider", "explain", 'a"b\\c', check=False)
        self.assertNotRegex(done.stderr + done.stdout, r"\\x(22|5c)")

    def test_the_log_keeps_its_own_form(self):
        server = self.daemon(log={"format": "text"}, route=[{"domain": "*", "tls": "off", "next_hop":
                                                             f"smtp://127.0.0.1:{self.peer.port}"}])
        server.send("a@us.example", ["b@far.example"], b"Subject: one\r\n\r\nx\r\n")
        wait.until(lambda: r"no \x22room\x22 for back\x5cslashes" in server.log_file.read_text(), "the line of the log",
                   pause=0.1)

    def test_without_an_environment_and_in_another_locale(self):
        self.queue_some()
        for env in ({}, {"HOME": "/nonexistent"}, {"LC_ALL": "tr_TR.UTF-8", "LANG": "de_DE.UTF-8"}, {"LC_ALL": "nonsense"}):
            config = ["-c", self.server.config_file]
            for words in (["postrider", "queue"], ["postrider", "status"], ["mailq"], ["newaliases"]):
                with self.subTest(env=env, words=words):
                    done = self.run_tool(*words, *config, env=env)
                    self.assertEqual((done.returncode, done.stderr), (0, b""))
            done = self.run_tool("sendmail", "-C", self.server.config_file, "ann@us.example", env=env, stdin=b"x\n")
            self.assertEqual((done.returncode, done.stderr), (0, b""))
            done = self.run_tool("postrider", "queue", "-c", "/nonexistent", env=env)
            self.assertIn(b"No such file or directory", done.stderr)

    def test_a_relative_path(self):
        self.queue_some()
        name = self.server.config_file.name
        for env in ({}, {"POSTRIDER_CONFIG": name}):
            for option in (["-c", name], ["-c", f"./{name}"]) if not env else ([],):
                done = self.run_tool("mailq", *option, env=env, cwd=self.server.folder)
                self.assertRegex(done.stdout.decode(), ID)
                done = self.run_tool("postrider", "check", *option, env=env, cwd=self.server.folder)
                self.assertEqual(done.returncode, 0, done.stderr)

    def test_thousands_of_arguments(self):
        """As many ids as xargs gives are taken in parts; where there are none, the remedy is said."""
        ids = self.queue_some(3)
        others = [f"1K{number:09}" for number in range(10000)]
        later = [f"2K{number:09}" for number in range(2000)]  # in parts behind the one with ours
        done = self.run_tool("postrider", "queue", "hold", *later, *others[:2500], ids[0], *others, ids[1], ids[0])
        self.assertEqual((done.returncode, done.stdout), (0, b"2 messages (2 recipients): held\n"), done.stderr)
        self.assertEqual({message["queue_id"] for message in self.server.queue("--status", "held")}, set(ids[:2]))
        done = self.run_tool("postrider", "queue", "release", "--json", *others, *ids[:2])
        self.assertIn(b'"messages":2', done.stdout)
        self.assertEqual(len(done.stdout.splitlines()), 1)
        for count in (1001, 10000):
            done = self.run_tool("postrider", "queue", "list", *others[:count])
            self.assertEqual(done.returncode, 64)
            self.assertIn(b"`xargs -n 1000`", done.stderr)
        done = self.run_tool("sendmail", *(f"r{number}@us.example" for number in range(10000)), stdin=b"x\n")
        self.assertEqual(done.returncode, 0, done.stderr)

    def test_without_room_for_a_file(self):
        """`ulimit -f 0`, while the daemon is down: the message is not lost in silence, and leaves nothing behind."""
        self.server.stop()
        drop = self.server.spool / "drop"
        for size, content in ((0, b"x\n"), (4096, b"x\n" * 10_000)):
            done = self.run_tool("sendmail", "-i", "a@far.example", stdin=b"Subject: one\n\n" + content,
                                 preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size)))
            self.assertEqual(done.returncode, 75, done)
            self.assertIn(b"File too large", done.stderr)
            self.assertEqual(os.listdir(drop), [])
        self.server.start()

    def test_called_by_a_program_with_rights_of_its_own(self):
        """A set-user-id program that sends mail: the environment is its user's, and leads it nowhere."""
        if not scenario.is_root():
            self.skipTest("needs root")
        for uids, is_led in (((0, 0, 0), True), ((3001, 0, 0), False)):
            done = self.run_tool("postrider", "check", preexec_fn=lambda: os.setresuid(*uids))
            self.assertEqual(str(self.server.config_file).encode() in done.stdout + done.stderr, is_led, done)

    def test_as_nobody(self):
        if not scenario.is_root() or not shutil.which("setpriv"):
            self.skipTest("needs root and setpriv")
        at = self.server.folder
        while at != at.parent:
            os.chmod(at, os.stat(at).st_mode | 0o011)
            at = at.parent
        os.chmod(self.server.config_file, 0o644)
        by = {"user": 65534, "group": 65534, "extra_groups": [], "cwd": "/"}
        for words in (["mailq"], ["postrider", "queue"], ["postrider", "status"], ["sendmail", "-bp"]):
            done = self.run_tool(*words, **by)
            self.assertEqual(done.returncode, 77, words)
            self.assertRegex(done.stderr.decode(), "only root.*sudo")
        for words in (["postrider", "--help"], ["postrider", "check"], ["postrider", "config"], ["newaliases", "--help"]):
            done = self.run_tool(*words, **by)
            self.assertEqual(done.returncode, 0, f"{words}: {done.stderr}")

    def test_a_terminal_of_forty_columns(self):
        self.queue_some()
        for words in (["postrider", "queue"], ["postrider", "status"], ["postrider", "explain", "b@far.example"]):
            with self.subTest(words=words):
                ours, theirs = pty.openpty()
                fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 40, 0, 0))
                with subprocess.Popen([str(daemon.BIN / words[0]), *words[1:]], stdin=subprocess.DEVNULL, stdout=theirs,
                                      stderr=theirs, env={**self.server.environment(), "NO_COLOR": "1"}) as tool:
                    os.close(theirs)
                    shown = b""
                    while True:
                        try:
                            piece = os.read(ours, 4096)
                        except OSError:  # EIO: its other end is closed
                            break
                        if not piece:
                            break
                        shown += piece
                    self.assertEqual(tool.wait(wait.DEADLINE), 0, shown)
                os.close(ours)
                wide = [line for line in shown.decode().splitlines() if len(line) > 40 and max(map(len, line.split())) < 25]
                self.assertEqual(wide, [])


if __name__ == "__main__":
    scenario.main()
