#!/usr/bin/python3
"""The backup of doc/schema.md as it stands there: made while the daemon runs and mail comes and goes, and put
back. Nothing that waited is lost, and what was delivered meanwhile does no harm."""
import os
import re
import shutil
import subprocess
import threading

from support_py import daemon, scenario, wait

LARGE = b"From: <a@src.example>\r\nSubject: large\r\n\r\n" + b"x" * 70 + b"\r\n" + (b"y" * 72 + b"\r\n") * 2000
SMALL = b"From: <a@src.example>\r\nSubject: small\r\n\r\nbody\r\n"


class Backup(scenario.Scenario):
    def setUp(self):
        super().setUp()
        if shutil.which("sqlite3") is None:
            self.skipTest("needs sqlite3")
        self.is_open = False
        self.host = self.sink(script={"rcpt": lambda session, argument:
                                      None if self.is_open or "gone" in argument else "450 4.2.1 later"})
        self.server = self.relay(self.host, delivery={"retry": ["10m"]})
        self.copy = self.own_folder("backup")

    def commands(self):
        """The two that write into /backup, with the paths of here."""
        page = (daemon.ROOT / "doc" / "schema.md").read_text()
        section = page[page.index("## Look at it, back it up"):]
        found = re.findall(r"(?m)^    (.*/backup/.*)$", section)
        self.assertEqual(len(found), 2, found)
        return [re.sub(r'/var/spool/postrider|(?<=[ "])/backup',
                       lambda m: str(self.copy if m[0] == "/backup" else self.server.spool), line) for line in found]

    def run_line(self, line):
        done = subprocess.run(["sh", "-c", line], capture_output=True, text=True, timeout=wait.DEADLINE)
        self.assertEqual((done.returncode, done.stderr), (0, ""), line)

    def put_back(self):
        server = self.server
        for name in os.listdir(server.spool):
            if name.startswith("queue.db"):
                (server.spool / name).unlink()
        shutil.rmtree(server.spool / "body")
        shutil.copy(self.copy / "queue.db", server.spool / "queue.db")
        shutil.copytree(self.copy / "body", server.spool / "body", copy_function=shutil.copy2)

    def test_what_waits_is_there_again(self):
        server = self.server
        for number in range(20):
            content = LARGE if number % 4 == 0 else SMALL
            self.assertEqual(server.send("a@src.example", f"u{number}@far.example", content).code, 250)
        wait.until(lambda: [m["status"] for m in server.queue()] == ["deferred"] * 20, "all are deferred")
        stop = threading.Event()
        sent = []

        def others():
            while not stop.is_set():
                server.send("a@src.example", f"gone{len(sent)}@far.example", LARGE if len(sent) % 3 else SMALL)
                sent.append(1)
        thread = threading.Thread(target=others)
        thread.start()
        try:
            wait.until(lambda: len(sent) > 10, "mail comes and goes")
            for line in self.commands():
                self.run_line(line)
        finally:
            stop.set()
            thread.join()
        server.stop()
        self.put_back()
        server.start()
        listed = {m["recipients"][0]["address"] for m in server.queue()}
        self.assertTrue({f"u{number}@far.example" for number in range(20)} <= listed, listed)
        before = len(self.host.messages)
        self.is_open = True
        server.retry_all()
        # Of what was delivered between the two commands, a body may be missing in the copy.
        wait.until(lambda: all(m["status"] == "held" for m in server.queue()), "all else is delivered")
        self.assertTrue(all(r["address"].startswith("gone") for m in server.queue() for r in m["recipients"]), server.queue())
        delivered = [address for message in self.host.messages[before:] for address in message.addresses]
        self.assertEqual(sorted(a for a in delivered if a.startswith("u")), sorted(f"u{number}@far.example" for number in range(20)))
        for message in self.host.messages[before:]:
            large = any(int(a[1:].partition("@")[0]) % 4 == 0 for a in message.addresses if a.startswith("u"))
            if large:
                self.assertIn(LARGE[-500:], message.content)

    def test_a_body_that_went_in_between_is_one_message_that_is_held(self):
        server = self.server
        for name in ("u1", "u2"):
            self.assertEqual(server.send("a@src.example", f"{name}@far.example", LARGE).code, 250)
        wait.until(lambda: [m["status"] for m in server.queue()] == ["deferred"] * 2, "both are deferred")
        database, bodies = self.commands()
        self.run_line(database)
        server.postrider("queue", "remove", "--to", "u1@far.example")  # as delivered in between
        wait.until(lambda: len(os.listdir(server.spool / "body")) == 1 or sum(
            len(files) for _, _, files in os.walk(server.spool / "body")) == 1, "its body is gone")
        self.run_line(bodies)
        server.stop()
        self.put_back()
        self.is_open = True
        server.start()
        server.retry_all()
        held = wait.until(lambda: server.queue("--status", "held"), "the one without a body is held")
        self.assertEqual([m["recipients"][0]["address"] for m in held], ["u1@far.example"])
        wait.until(lambda: len(server.queue()) == 1, "the other is delivered")
        server.postrider("queue", "remove", "--status", "held")
        server.wait_until_empty()


if __name__ == "__main__":
    scenario.main()
