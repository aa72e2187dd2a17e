#!/usr/bin/python3
"""A queue that was long gives its room on the disk back while clients send: the file shrinks in steps, and nobody
waits for it. The long form fills 3 GB (POSTRIDER_GIGABYTES) and prints what two clients waited, before and
meanwhile."""
import os
import shutil
import sqlite3
import threading
import time

from support_py import daemon, scenario, wait

GIGABYTES = float(os.environ.get("POSTRIDER_GIGABYTES", 3 if scenario.FULL else 0.02))
SIZE = 20_000  # octets of a message
KEPT = 20  # one message of so many stays
BEFORE = 15 if scenario.FULL else 0.5  # seconds
PACES = 0.02, 0.5


class Client:
    """Sends a message every so often; how long each waited for its reply."""

    def __init__(self, server, pace):
        self.pace = pace
        self.waited = []
        self.replies = []
        self.stopping = threading.Event()
        self.session = server.client()
        self.session.hello()
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        content = b"Subject: x\r\n\r\n" + b"y" * 1000 + b"\r\n"
        while not self.stopping.is_set():
            began = time.monotonic()
            self.session.begin("a@us.example", ["someone@near.example"])
            self.session.expect("DATA", 354)
            self.session.send(content + b".\r\n")
            self.replies.append(self.session.reply().code)
            self.waited.append(time.monotonic() - began)
            self.stopping.wait(max(self.pace - self.waited[-1], 0))

    def stop(self):
        self.stopping.set()
        self.thread.join()
        self.session.close()


def figures(seconds):
    at = sorted(1000 * each for each in seconds)
    return "p50 {:.1f}, p99 {:.1f}, max {:.1f} ms of {}".format(
        at[len(at) // 2], at[len(at) * 99 // 100], at[-1], len(at))


class Room(scenario.Scenario):
    def setUp(self):
        super().setUp()
        if shutil.disk_usage(self.folder).free < GIGABYTES * 3e9:
            self.skipTest("needs room on the disk")
        self.server = self.using(daemon.Postrider(
            self.own_folder("d"), delivery={"retry": ["1d"]},
            route=[{"domain": "near.example", "next_hop": f"smtp://127.0.0.1:{self.sink().port}", "tls": "off"},
                   {"domain": "*", "next_hop": "smtp://127.0.0.1:9", "tls": "off"}]))

    def fill(self):
        """Copies of two messages that wait, whose pages stand in no order."""
        self.server.start()
        for recipient in "x@gone.example", "x@kept.example":
            self.assertEqual(self.server.send("a@us.example", recipient, b"z" * 78 + b"\r\n" * 9).code, 250)
        wait.until(lambda: len(self.server.queue("--status", "deferred")) == 2, "two messages that wait")
        self.server.stop()
        count = int(GIGABYTES * 1e9 / SIZE)
        with sqlite3.connect(self.server.spool / "queue.db", isolation_level=None) as database:
            database.execute("PRAGMA synchronous=OFF")
            database.execute("PRAGMA wal_autocheckpoint=20000")
            ids = dict(database.execute("SELECT address, message FROM recipient"))
            database.execute("CREATE TEMP TABLE copy(id INTEGER, original INTEGER)")
            database.execute(
                "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?)"
                " INSERT INTO copy SELECT ?3 - i * 1000, CASE i % ?2 WHEN 0 THEN ?4 ELSE ?3 END FROM n"
                " ORDER BY random()", (count, KEPT, ids["x@gone.example"], ids["x@kept.example"]))
            for table, key in ("message", "id"), ("recipient", "message"):
                columns = [row[1] for row in database.execute(f"PRAGMA table_info({table})")]
                values = ["c.id" if name == key else f"t.{name}" for name in columns]
                database.execute(f"INSERT INTO {table}({', '.join(columns)}) SELECT {', '.join(values)}"
                                 f" FROM copy c JOIN {table} t ON t.{key} = c.original")
            database.execute("INSERT INTO body SELECT id, randomblob(?) FROM copy", (SIZE,))
            database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            kept = count // KEPT + 1
        database.close()
        self.server.start()
        return kept

    def size(self):
        return os.stat(self.server.spool / "queue.db").st_size

    def test_gives_room_back(self):
        kept = self.fill()
        full = self.size()
        clients = [self.using(Client(self.server, pace)) for pace in PACES]
        wait.until(lambda: all(len(client.waited) * client.pace >= BEFORE for client in clients),
                   "what the clients wait", BEFORE * 4 + wait.DEADLINE)
        before = [list(client.waited) for client in clients]
        began = time.monotonic()
        self.server.postrider("queue", "remove", "--domain", "gone.example")
        removed = time.monotonic()
        during = [len(client.waited) for client in clients]
        sizes = {full}

        def has_shrunk():
            sizes.add(self.size())
            return min(sizes) < max(full / 8, 8 << 20)  # some megabytes are not worth the work

        wait.until(has_shrunk, lambda: f"a smaller file: {self.size()} of {full} octets", 1800, 0.05)
        ended = time.monotonic()
        progress = [len(client.waited) for client in clients]
        for client, started, now in zip(clients, during, progress):
            client.stop()
            self.assertGreater(now, started)
            self.assertEqual(set(client.replies), {250})
        if scenario.FULL:
            print(f"\n{full / 1e9:.1f} GB; removed in {removed - began:.1f} s, given back {ended - removed:.1f} s later,"
                  f" in {len(sizes)} steps")
            for client, first, started in zip(clients, before, during):
                print(f"a message each {client.pace} s: before {figures(first)}; meanwhile"
                      f" {figures(client.waited[started:])}")
        wait.until(lambda: self.server.postrider("queue", "count").startswith(f"{kept} "),
                   lambda: self.server.postrider("queue", "count"))
        self.server.stop()
        with sqlite3.connect(self.server.spool / "queue.db") as database:
            self.assertEqual(database.execute("PRAGMA quick_check(1)").fetchone(), ("ok",))
        database.close()


if __name__ == "__main__":
    scenario.main()
