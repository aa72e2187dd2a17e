#!/usr/bin/python3
"""kill -9 under load at random moments, in the queue and in the protocol: no acknowledged message
is lost, and every duplicate was in flight at a kill.

A message is acknowledged when its client has read the 250. POSTRIDER_KILLS sets the number of
kills (20; 200 with --full)."""
import collections
import os
import random
import re
import sqlite3
import threading
import time

from support_py import scenario, smtp, wait

KILLS = int(os.environ.get("POSTRIDER_KILLS", 200 if scenario.FULL else 20))
CLIENTS = 6
MOST_WAITING = 300
IN_FLIGHT = 6.0  # seconds between a delivery, as the sink sees it, and the kill that forgot it
# The moments of a kill: some time after the start, or when the sink sees this stage.
STAGES = ["connect", "ehlo", "mail", "rcpt", "data", "end", "quit"]


class Load:
    """Clients that send messages with a number until told to stop; knows what was acknowledged."""

    def __init__(self, port, peer):
        self.port = port
        self.peer = peer
        self.lock = threading.Lock()
        self.next = 0
        self.acknowledged = {}  # number -> time.monotonic()
        self.unknown = set()  # sent, but the reply was not read
        self.stopping = threading.Event()
        self.threads = [threading.Thread(target=self.run, args=(seed,)) for seed in range(CLIENTS)]
        for thread in self.threads:
            thread.start()

    def stop(self):
        self.stopping.set()
        for thread in self.threads:
            thread.join()

    def run(self, seed):
        chance = random.Random(seed)
        while not self.stopping.is_set():
            if len(self.acknowledged) - len(self.peer.messages) > MOST_WAITING:
                self.stopping.wait(0.02)  # kills are the subject, not a long queue
                continue
            try:
                with smtp.Client(self.port) as client:
                    client.hello()
                    for _ in range(chance.randrange(1, 20)):
                        self.one(client, chance)
                        if self.stopping.is_set():
                            return
            except (OSError, smtp.Closed, AssertionError):
                self.stopping.wait(0.02)  # the daemon is down; it comes back

    def one(self, client, chance):
        with self.lock:
            number = self.next
            self.next += 1
            self.unknown.add(number)
        recipients = [f"r{number}.{i}@far.example" for i in range(chance.choice([1, 1, 1, 3]))]
        size = chance.choice([10, 2000, 2000, 30000, 200000])
        content = b"Subject: %d\r\n\r\n" % number + b"x" * 60 + b"\r\n" * 2 + \
            (b"y" * 76 + b"\r\n") * (size // 78)
        reply = client.message("a@ext.example", recipients, content)
        if reply.code == 250:
            with self.lock:
                self.acknowledged[number] = (time.monotonic(), recipients)
                self.unknown.discard(number)


class Crash(scenario.Scenario):
    def test_no_acknowledged_message_is_lost(self):
        seed = int(os.environ.get("POSTRIDER_SEED", random.randrange(1 << 30)))
        chance = random.Random(seed)
        print(f"\n  seed {seed}, {KILLS} kills", flush=True)
        trigger = Trigger(chance)
        peer = self.sink(keep_content=True, on_stage=trigger.stage)
        peer.script["end"] = lambda session, message: \
            "451 4.3.0 later" if chance.random() < 0.05 else None
        server = self.relay(peer, delivery={"retry": ["1s"]})
        load = self.using(Load(server.port, peer))
        kills = []
        for _ in range(KILLS):
            trigger.arm()
            trigger.fired.wait(0.02 + chance.random() * 0.3 if trigger.by_time else 1.5)
            server.kill()
            kills.append(time.monotonic())
            server.start()
        wait.until(lambda: len(load.acknowledged) > KILLS, "messages between the kills")
        load.stop()
        wanted = {r for _, recipients in load.acknowledged.values() for r in recipients}
        peer.wait_for_progress(
            lambda messages: wanted <= {a for m in messages for a in m.addresses},
            deadline=wait.DEADLINE * 3, what="every acknowledged recipient")
        server.wait_until_empty(wait.DEADLINE * 3)
        server.stop()
        self.check_spool(server)
        self.report(peer, load, kills)
        self.check_second_life(server)

    def report(self, peer, load, kills):
        copies = collections.defaultdict(list)
        for message in peer.messages:
            for address in message.addresses:
                copies[address].append(message)
        lost = [a for _, recipients in load.acknowledged.values() for a in recipients
                if a not in copies]
        extra = [a for a in copies if a not in {
            r for _, recipients in load.acknowledged.values() for r in recipients}]
        unacknowledged = [a for a in extra if int(re.match(r"r(\d+)", a).group(1)) not in
                          load.unknown]
        duplicates = {a: m for a, m in copies.items() if len(m) > 1}
        offset = time.time() - time.monotonic()
        unexplained = [
            (a, [m.when - offset for m in messages]) for a, messages in duplicates.items()
            if not all(any(first.when - offset <= kill + IN_FLIGHT and kill <= second.when - offset
                           and kill - (first.when - offset) < IN_FLIGHT for kill in kills)
                       for first, second in zip(messages, messages[1:]))]
        in_flight = sum(len(m) - 1 for m in duplicates.values())
        print(f"  {len(load.acknowledged)} acknowledged, {len(load.unknown)} without a reply of "
              f"which {len(extra)} recipients were kept, {len(lost)} lost, {in_flight} duplicates, "
              f"{len(unexplained)} unexplained", flush=True)
        self.assertEqual(lost, [])
        self.assertEqual(unacknowledged, [], "the sink got what nobody sent")
        self.assertEqual(unexplained, [], "duplicates that were not in flight at a kill")
        self.assertGreater(len(load.acknowledged), KILLS)

    def check_second_life(self, server):
        """A kill after a clean stop and a start is checked for and swept after like the first one."""
        swept = len(server.log("swept"))
        server.start()
        stray = server.spool / "body" / "0123456789A"
        stray.write_text("a body that nobody has a row for")
        server.kill()
        server.start()
        server.wait_for_log("swept", count=swept + 1)
        self.assertFalse(stray.exists())
        server.stop()

    def check_spool(self, server):
        """Nothing is left: no row, no body file, and a database that is whole."""
        with sqlite3.connect(f"file:{server.spool}/queue.db?mode=ro", uri=True) as database:
            self.assertEqual(database.execute("pragma integrity_check").fetchone(), ("ok",))
        self.assertEqual([str(p) for p in (server.spool / "body").rglob("*") if p.is_file()], [])


class Trigger:
    """Fires at a stage that the sink sees, or by time."""

    def __init__(self, chance):
        self.chance = chance
        self.fired = threading.Event()
        self.wanted = None
        self.by_time = True

    def arm(self):
        self.by_time = self.chance.random() < 0.5
        self.fired.clear()
        stage = self.chance.choice(STAGES)
        self.left = self.chance.randrange(1, 4 if stage in ("connect", "ehlo", "quit") else 30)
        self.wanted = None if self.by_time else stage

    def stage(self, stage, _):
        if stage == self.wanted:
            self.left -= 1
            if self.left <= 0:
                self.wanted = None
                self.fired.set()


if __name__ == "__main__":
    scenario.main()
