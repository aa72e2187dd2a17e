#!/usr/bin/python3
"""Much mail that cannot go beside little that can: a dead site beside good ones, with the rows of the queue
that a probe writes, and a sender of much beside one of little. The long form has 100,000 messages for the
dead site and 1,000,000 of one sender, and prints what it measured to the file that POSTRIDER_TABLE names."""
import collections
import contextlib
import os
import sqlite3
import subprocess
import threading
import time

from support_py import daemon, scenario, sink, wait

DEAD = 100_000 if scenario.FULL else 500
MUCH = 1_000_000 if scenario.FULL else 2000
GOOD = 50 if scenario.FULL else 10
EACH = 20 if scenario.FULL else 4  # messages for each good domain
PACE = 0.02  # seconds between two of them
LITTLE = 10
PROMPT = 1  # seconds: the p99 of good mail's delay
LIMIT = 1200
CONTENT = b"From: <a@src.example>\r\nSubject: %d\r\n\r\nbody\r\n"


def tell(what, **figures):
    line = f"{what:44} " + ", ".join(f"{name} {value}" for name, value in figures.items())
    if place := os.environ.get("POSTRIDER_TABLE"):
        with open(place, "a", encoding="utf-8") as table:
            print(line, file=table)
    print(line, flush=True)


def share(values, part):
    return sorted(values)[min(int(len(values) * part), len(values) - 1)]


def in_ms(delays):
    return {name: f"{1000 * share(delays, part):.1f} ms" for name, part in (("p50", 0.5), ("p99", 0.99), ("longest", 1))}


def fill(server, count, suffix):
    """With one sender: bench-load's."""
    done = subprocess.run([daemon.BIN / "bench-load", "--server", f"127.0.0.1:{server.port}", "--messages", str(count),
                           "--suffix", suffix, "--sessions", "20", "--limit-s", str(LIMIT)],
                          stdout=subprocess.PIPE, timeout=LIMIT, check=False)
    assert done.returncode == 0, done.stdout


def rows_of(server):
    """All that the queue's database holds, by table."""
    with contextlib.closing(sqlite3.connect(f"file:{server.folder}/spool/queue.db?mode=ro", uri=True)) as queue:
        tables = [name for name, in queue.execute("SELECT name FROM sqlite_schema WHERE type = 'table' "
                                                  "AND name NOT LIKE 'sqlite%'")]
        with queue:
            return {name: set(queue.execute(f"SELECT * FROM {name}")) for name in tables}


class Arrivals:
    """When a message with each number in its subject came."""

    def __init__(self):
        self.times = {}

    def note(self, _, message):
        subject = message.content.partition(b"Subject: ")[2].split()[0]
        if subject.isdigit():
            self.times.setdefault(int(subject), time.monotonic())


class Closer:
    """Takes connections and closes them: a host that is down behind a balancer that is not."""

    def __init__(self, address, port):
        self.connections = 0
        self.sink = sink.Sink(address=address, port=port, keep_content=False, script={"connect": self.close})

    def close(self, *_):
        self.connections += 1
        return sink.DROP

    def stop(self):
        self.sink.stop()


class DeadSite(scenario.Scenario):
    def setUp(self):
        super().setUp()
        self.arrivals = Arrivals()
        addresses = [f"127.6.0.{number + 1}" for number in range(GOOD)]
        self.good = [self.using(one) for one in sink.with_same_port(
            addresses, script={"end": self.arrivals.note})]
        port = self.good[0].port
        self.dead = self.using(Closer("127.6.1.1", port))
        zone = "d0.dead MX 10 mxdead\nmxdead A 127.6.1.1\n" + "".join(
            f"g{number} MX 10 mx{number}\nmx{number} A {address}\n" for number, address in enumerate(addresses))
        knot = self.knot(test=zone)
        self.server = self.daemon(dns={"servers": [knot.server]},
                                  delivery={"port": port, "retry": ["30s" if scenario.FULL else "3s"]})
        self.number = 0

    def send_good(self, what):
        """Delays from the 250 to the arrival."""
        taken = {}
        with self.server.client() as client:
            client.hello()
            for _ in range(GOOD * EACH):
                number = self.number = self.number + 1
                client.message("small@src.example", [f"r@g{number % GOOD}.test"], CONTENT % number)
                taken[number] = time.monotonic()
                time.sleep(PACE)  # the pace of the client
        wait.until(lambda: all(number in self.arrivals.times for number in taken), f"good mail, {what}", 120)
        delays = [max(0, self.arrivals.times[number] - when) for number, when in taken.items()]
        tell(f"good mail, {what}", messages=len(delays), **in_ms(delays), MiB=self.server.memory() >> 20)
        return delays

    def test_good_mail_beside_a_dead_site_and_what_a_probe_writes(self):
        alone = self.send_good("alone")
        filling = threading.Thread(target=fill, args=(self.server, DEAD, "dead.test"))
        filling.start()
        self.addCleanup(filling.join)
        meanwhile = self.send_good("while the dead site's is taken")
        filling.join()
        self.server.wait_for_log("site_blocked")
        beside = self.send_good("beside the dead site's")
        for delays in alone, meanwhile, beside:
            self.assertLess(share(delays, 0.99), PROMPT)
        wait.until(lambda: self.server.queued() == DEAD if not scenario.FULL else True, "all of the dead site's wait")
        self.look_at_a_probe()

    def look_at_a_probe(self):
        """The rows that differ once the site has been tried twice more."""
        before, tried = rows_of(self.server), self.dead.connections
        wait.until(lambda: self.dead.connections > tried + 1, "two probes: what the first one writes is written", 900)
        after, probes = rows_of(self.server), self.dead.connections - tried
        written = collections.Counter({name: len(rows ^ before[name]) - abs(len(rows) - len(before[name]))
                                       for name, rows in after.items() if rows != before[name]})
        tell("probes of the dead site", messages=len(after["message"]), probes=probes,
             **{f"rows of {name}": count // 2 or count for name, count in written.items()})
        self.assertEqual(len(after["message"]), len(before["message"]))
        self.assertLessEqual(sum(written.values()), 10)
        self.assertNotIn("message", written)


class Senders(scenario.Scenario):
    def test_a_sender_of_little_beside_one_of_much(self):
        arrivals = Arrivals()
        peer = self.sink(keep_content=True, script={"end": arrivals.note, "mail": self.note_first})
        self.first = None
        server = self.relay(peer, delivery={"site_connections": 4})
        server.postrider("queue", "pause", "--all")
        fill(server, MUCH, "far.example")
        taken = []
        for number in range(1, LITTLE + 1):
            server.send("small@src.example", "reset@d0.far.example", CONTENT % number)
            taken.append(number)
        self.assertEqual(server.queued() if not scenario.FULL else MUCH + LITTLE, MUCH + LITTLE)
        resumed = time.monotonic()
        server.postrider("queue", "resume", "--all")
        wait.until(lambda: all(number in arrivals.times for number in taken), "those of the other", 120)
        waited = [arrivals.times[number] - resumed for number in taken]
        tell(f"{MUCH} of one sender, {LITTLE} of another", **{"the first message": f"{1000 * (self.first - resumed):.0f} ms"},
             **in_ms(waited), MiB=server.memory() >> 20)
        late = []
        for number in range(LITTLE + 1, 4 * LITTLE + 1):
            sent = time.monotonic()
            server.send("small@src.example", "reset@d0.far.example", CONTENT % number)
            wait.until(lambda: number in arrivals.times, "one of the other", 60)
            late.append(arrivals.times[number] - sent)
        left = server.postrider("queue", "count").split()[0]
        tell("one of the other each, while they go out", messages=len(late), left=left, **in_ms(late))
        if scenario.FULL:
            self.assertLess(share(waited, 1), 5)
            self.assertLess(share(late, 0.99), PROMPT)
        else:
            wait.until(lambda: peer.messages and server.queued() == 0, "all", 120)

    def note_first(self, *_):
        self.first = self.first or time.monotonic()


if __name__ == "__main__":
    scenario.main()
