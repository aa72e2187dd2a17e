#!/usr/bin/python3
"""The drop folder when the daemon is killed between any two of its steps, when a step fails, and what
is on stable storage at each of them: a message that was left there is sent once."""
import json
import os
import re
import sqlite3
import subprocess
import time

from support_py import scenario, tools, wait

TO = "reader@far.example"
# Where it is killed: as a call about the folder begins, or while it is held up at its end, and what
# the folder then holds.
STEPS = [("renameat2", "signal=KILL", "msg."), ("renameat2", "delay_exit=4000000", "taken."),
         ("unlinkat", "signal=KILL", "taken."), ("unlinkat", "delay_exit=4000000", None)]


class DropCrash(scenario.Scenario):
    def setUp(self):
        super().setUp()
        if scenario.SANITIZED:
            self.skipTest("LeakSanitizer does not run under strace; the release build is traced")
        try:
            subprocess.run([tools.tool("strace"), "-o", "/dev/null", "true"], check=True,
                           capture_output=True)
        except (OSError, subprocess.CalledProcessError) as problem:
            self.skipTest(f"strace cannot trace here: {problem}")
        self.peer = self.sink()
        self.server = self.relay(self.peer, start=False, delivery={"retry": ["1s", "1s"]})
        self.server.start()  # makes the spool
        self.server.stop()
        self.drop = self.server.spool / "drop"

    def leave(self, subject):
        """As sendmail does while the daemon is down."""
        content = f"Subject: {subject}\n\nbody\n"
        header = {"sender": "me@us.example", "recipients": [TO], "author": "me@us.example",
                  "size": len(content)}
        unfinished = self.drop / f"tmp.{subject}"
        unfinished.write_text(json.dumps(header) + "\n" + content)
        unfinished.rename(self.drop / f"msg.{subject}")

    def traced(self, *arguments):
        trace = self.server.folder / "trace"
        return trace, [tools.tool("strace"), "-D", "-f", "-qq", "-y", "-s", "80", "-o", str(trace),
                       *arguments]

    def subjects(self):
        return sorted(re.search(rb"Subject: (\S+)", message.content).group(1).decode()
                      for message in self.peer.messages)

    def remembered(self):
        with sqlite3.connect(f"file:{self.server.spool}/queue.db?mode=ro", uri=True) as database:
            return [name for name, in database.execute("SELECT name FROM dropped")]

    def check_once(self, subjects):
        """After a clean start and stop."""
        wait.until(lambda: len(self.peer.messages) >= len(subjects), "the messages")
        wait.until(lambda: not os.listdir(self.drop), lambda: f"an empty folder: {os.listdir(self.drop)}")
        self.leave("the-last")  # behind all that was there
        wait.until(lambda: "the-last" in self.subjects(), "the last message")
        self.server.wait_until_empty()
        self.server.stop()
        self.assertEqual(self.subjects(), sorted([*subjects, "the-last"]))
        self.assertEqual(self.remembered(), [])
        self.peer.messages.clear()

    def test_killed_at_each_step(self):
        for call, how, left in STEPS:
            with self.subTest(call=call, how=how):
                subject = f"{call}-{how[:3]}"
                self.leave(subject)
                _, self.server.wrapper = self.traced("-P", str(self.drop), "-e", f"trace={call}",
                                                     "-e", f"inject={call}:{how}")
                self.server.start(ready=False)
                self.server.wrapper = []

                def is_there():
                    names = os.listdir(self.drop)
                    return bool(names and names[0].startswith(left)) if left else not names
                if "delay" in how:
                    wait.until(is_there, "the step")
                    self.server.process.kill()
                self.server.process.wait(wait.DEADLINE)
                self.server.process = None
                self.assertTrue(is_there(), os.listdir(self.drop))
                self.server.start()
                self.check_once([subject])

    def test_killed_while_the_message_is_stored(self):
        for time in range(1, 5):
            with self.subTest(sync=time):
                self.leave(f"sync-{time}")
                _, self.server.wrapper = self.traced(
                    "-P", f"{self.server.spool}/queue.db-wal", "-e", "trace=fdatasync",
                    "-e", f"inject=fdatasync:signal=KILL:when={time}")
                self.server.start(ready=False)
                wait.until(lambda: self.server.process.poll() is not None or self.peer.messages,
                           "the end, or the message")
                if self.server.running():
                    self.server.process.kill()
                self.server.process.wait()
                self.server.process = None
                self.server.wrapper = []
                self.server.start()
                # A kill behind the delivery, before its record, makes a second copy of any message.
                wait.until(lambda: self.peer.messages, "the message")
                self.server.wait_until_empty()
                wait.until(lambda: not os.listdir(self.drop), "an empty folder")
                self.server.stop()
                self.assertEqual(self.remembered(), [])
                self.assertLessEqual(len(self.peer.messages), 2)
                accepted = self.server.log("accepted", protocol="drop")
                self.assertLessEqual(len({entry["id"] for entry in accepted}), 1, accepted)
                self.server.log_file.write_text("")
                self.peer.messages.clear()

    def test_a_daemon_killed_between_the_commit_and_its_answer_to_sendmail(self):
        """sendmail leaves in the drop folder what the queue has already, and nobody has it twice."""
        self.is_open = False
        self.peer.script["mail"] = lambda *_: None if self.is_open else "451 4.3.0 later"
        for attempt in range(6):
            # A log that begins anew has its header synced first.
            self.kill_before_the_sync(1 + attempt % 2)
            # All of the transaction is written, and the next start finds it.
            if b"Subject: once" in (self.server.spool / "queue.db-wal").read_bytes() and os.listdir(self.drop):
                break
            # It was another transaction of the daemon's own: once more.
            self.server.start()
            self.deliver_once()
            self.is_open = False
            self.peer.messages.clear()
            self.server.stop()
        else:
            self.fail("each time another transaction was written first")
        self.assertEqual(len(os.listdir(self.drop)), 1)
        self.server.start()
        wait.until(lambda: not os.listdir(self.drop), "an empty folder")
        self.assertEqual(len(self.server.queue()), 1)
        self.deliver_once()
        self.assertEqual(self.subjects(), ["once"])

    def deliver_once(self):
        self.is_open = True
        self.peer.wait_for(1)
        self.server.wait_until_empty()

    def kill_before_the_sync(self, which):
        self.server.start()
        log = self.server.spool / "queue.db-wal"
        wait.until(lambda: time.time() - log.stat().st_mtime > 1, "an end of what a start writes")
        tracer = subprocess.Popen(
            [tools.tool("strace"), "-f", "-P", f"{self.server.spool}/queue.db-wal", "-e", "trace=fdatasync",
             "-e", f"inject=fdatasync:signal=KILL:when={which}", "-o", "/dev/null",
             "-p", str(self.server.process.pid)], stderr=subprocess.PIPE, text=True)
        self.assertIn("attached", tracer.stderr.readline())
        self.server.sendmail(TO, stdin=b"Subject: once\n\nbody\n")
        self.server.process.wait(wait.DEADLINE)
        self.server.process = None
        tracer.stderr.read()
        tracer.wait()
        tracer.stderr.close()

    def test_a_file_that_cannot_be_removed_is_sent_once(self):
        _, self.server.wrapper = self.traced("-P", str(self.drop), "-e", "trace=unlinkat",
                                             "-e", "inject=unlinkat:error=EIO")
        self.server.start()
        self.server.wrapper = []
        for number in range(6):  # each one makes it look at all of them again
            self.leave(f"n{number}")
            wait.until(lambda: len(self.peer.messages) > number, "the message")
        self.server.wait_until_empty()
        self.assertEqual(self.subjects(), [f"n{number}" for number in range(6)])
        self.assertEqual(len(os.listdir(self.drop)), 6)
        self.server.stop()
        self.server.start()
        self.check_once([f"n{number}" for number in range(6)])

    def test_what_is_on_stable_storage_when(self):
        """A power cut keeps what was synced: our name for a file is, before the queue has its message,
        and its removal is, before its id is forgotten or the next file is taken."""
        for number in range(3):
            self.leave(f"n{number}")
        trace, self.server.wrapper = self.traced(
            "-e", "trace=renameat,renameat2,fsync,fdatasync,unlinkat")
        self.server.start()
        self.server.wrapper = []
        self.server.wait_until_empty()
        wait.until(lambda: not os.listdir(self.drop), "an empty folder")
        self.server.stop()
        steps = []
        for line in trace.read_text().splitlines():
            found = re.search(r"(renameat|fsync|fdatasync|unlinkat)2?\(\d+<([^>]*)>", line)
            if found and found[2] == str(self.drop):
                steps.append({"renameat": "rename", "fsync": "sync", "unlinkat": "unlink"}[found[1]])
            elif found and found[2].endswith("queue.db-wal") and steps and steps[-1] != "store":
                steps.append("store")
        steps = steps[steps.index("rename"):]
        self.assertEqual([step for step in steps if step != "store"],
                         ["rename", "sync", "unlink", "sync"] * 3, steps)
        # Between the sync of the name and the removal; also elsewhere, for deliveries.
        for at, step in enumerate(steps):
            if step == "unlink":
                self.assertEqual(steps[at - 2:at], ["sync", "store"], steps)


if __name__ == "__main__":
    scenario.main()
