#!/usr/bin/python3
"""`postrider top`: the status on a terminal, written again and again, which gives it back as it was."""
import fcntl
import os
import pty
import re
import signal
import struct
import termios
import threading

from support_py import daemon, scenario, wait
from support_py.tools import children_of

ENTER, LEAVE = b"\x1b[?1049h", b"\x1b[?1049l"


class Terminal:
    """A program on a terminal of its own."""

    def __init__(self, server, *words, rows=24, columns=80):
        self.octets = b""
        self.pid, self.master = pty.fork()
        if self.pid == 0:
            try:
                os.execve(daemon.BIN / "postrider", ["postrider", *words], dict(server.environment(), TERM="xterm"))
            finally:
                os._exit(127)
        self.code = None
        self.size(rows, columns)
        self.before = termios.tcgetattr(self.master)
        self.thread = threading.Thread(target=self.read)
        self.thread.start()

    def read(self):
        while True:
            try:
                octets = os.read(self.master, 65536)
            except OSError:  # it has ended
                return
            if not octets:
                return
            self.octets += octets

    def size(self, rows, columns):
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def type(self, keys):
        os.write(self.master, keys)

    def frames(self):
        """Whole ones: lines without what steers the terminal."""
        return [re.sub(rb"\x1b\[[0-9;?]*[a-zA-Z]|\r", b"", frame).decode().split("\n")
                for frame in self.octets.split(b"\x1b[H")[1:] if frame.endswith(b"\x1b[J") or LEAVE in frame]

    def shows(self, text, since=0):
        return any(text in line for frame in self.frames()[since:] for line in frame)

    def end(self):
        _, status = os.waitpid(self.pid, 0)
        self.code = os.waitstatus_to_exitcode(status)
        return self.code

    def stop(self):
        if self.code is None:
            os.kill(self.pid, signal.SIGKILL)
            self.end()
        os.close(self.master)
        self.thread.join()


class Top(scenario.Scenario):
    def setUp(self):
        super().setUp()
        self.server = self.relay(self.sink(script={"rcpt": lambda *_: "450 4.2.1 not today"}))

    def top(self, *words, **size):
        return self.using(Terminal(self.server, "top", "--every", "100ms", *words, **size))

    def test_it_is_the_status_again_and_again(self):
        top = self.top()
        wait.until(lambda: len(top.frames()) >= 3, "three times")
        self.assertTrue(top.shows("q ends it"))
        self.assertTrue(top.shows("postrider   "))
        self.server.send("a@src.example", "b@far.example", b"Subject: x\r\n\r\nx\r\n")
        wait.until(lambda: top.shows("1 message"), "what has come")
        wait.until(lambda: any(re.search(r"a second +[1-9][0-9.]* accepted|a second +0\.[1-9] accepted", line)
                               for frame in top.frames() for line in frame), "the rate of it")
        for frame in top.frames():
            self.assertLessEqual(len(frame), 24)
            self.assertLessEqual(max(map(len, frame)), 80, frame)
        top.type(b"q")
        self.assertEqual(top.end(), 0)
        self.assertTrue(top.octets.startswith(ENTER))
        wait.until(lambda: top.octets.endswith(LEAVE), "the screen is given back")

    def test_a_small_screen_and_another_size(self):
        top = self.top(rows=6, columns=40)
        wait.until(lambda: len(top.frames()) >= 2, "frames")
        for frame in top.frames()[1:]:  # the size may be set behind the first
            self.assertLessEqual(len(frame), 6)
            self.assertLessEqual(max(map(len, frame)), 40, frame)
        seen = len(top.frames())
        top.size(30, 100)
        os.kill(top.pid, signal.SIGWINCH)
        wait.until(lambda: any(len(frame) > 6 for frame in top.frames()[seen:]), "the larger one")
        top.type(b"q")
        self.assertEqual(top.end(), 0)

    def test_whatever_ends_it_the_terminal_is_as_it_was(self):
        for end in (b"q", b"\x03", b"\x1c", signal.SIGTERM, signal.SIGHUP):
            with self.subTest(end=end):
                top = self.top()
                wait.until(top.frames, "a frame")
                while_shown = termios.tcgetattr(top.master)
                self.assertEqual(while_shown[3] & (termios.ICANON | termios.ECHO), 0)
                if isinstance(end, bytes):
                    top.type(end)
                else:
                    os.kill(top.pid, end)
                self.assertEqual(top.end(), 0)
                wait.until(lambda: top.octets.endswith(LEAVE), "the screen is given back")
                self.assertEqual(termios.tcgetattr(top.master)[3], top.before[3])

    def test_it_is_stopped_and_goes_on(self):
        top = self.top()
        wait.until(top.frames, "a frame")
        os.kill(top.pid, signal.SIGTSTP)
        wait.until(lambda: top.octets.endswith(LEAVE), "the screen is given back")
        seen = len(top.frames())
        os.kill(top.pid, signal.SIGCONT)
        wait.until(lambda: len(top.frames()) > seen + 1, "it goes on")
        self.assertGreater(top.octets.rfind(ENTER), top.octets.rfind(LEAVE))
        top.type(b"q")
        self.assertEqual(top.end(), 0)

    def test_a_daemon_that_ends_and_begins_again(self):
        top = self.top()
        wait.until(top.frames, "a frame")
        self.server.stop()
        wait.until(lambda: top.shows("not running"), "that it is down")
        seen = len(top.frames())
        self.server.start()
        wait.until(lambda: top.shows("running for", since=seen), "that it is up again")
        top.type(b"q")
        self.assertEqual(top.end(), 0)

    def test_a_daemon_that_hangs(self):
        top = self.top()
        wait.until(top.frames, "a frame")
        processes = [self.server.process.pid, *children_of(self.server.process.pid)]
        for process in processes:
            os.kill(process, signal.SIGSTOP)
        try:
            wait.until(lambda: top.shows("has not answered for"), "that it hangs")
            top.type(b"q")
            self.assertEqual(top.end(), 0)
        finally:
            for process in processes:
                os.kill(process, signal.SIGCONT)

    def test_without_a_terminal_and_wrong_words(self):
        done = self.server.tool("postrider", "top", check=False)
        self.assertEqual(done.returncode, 64)
        self.assertIn("needs a terminal; `postrider status` prints the same once", done.stderr)
        for every in ("0", "1ms", "2h", "x", "-1s"):
            done = self.server.tool("postrider", "top", f"--every={every}", check=False)
            self.assertEqual(done.returncode, 64, every)
            self.assertIn("--every takes a time from 100ms to 1h", done.stderr)


if __name__ == "__main__":
    scenario.main()
