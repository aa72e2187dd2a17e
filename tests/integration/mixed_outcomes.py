#!/usr/bin/python3
"""Messages with 1 to 50 recipients over domains of ten behaviours, run to the end: every recipient
is delivered once, bounced, or queued with a true reason; sinks, log, listing and status agree."""
import collections
import json
import random
import threading

from support_py import scenario, sink, wait
from support_py.daemon import USER

KINDS = ("ok", "onedead", "greylist", "unknown", "dropsdata", "slow", "slower", "busy", "badtls",
         "small")
DELIVERED = {"ok", "onedead", "greylist", "slow", "slower", "busy", "badtls"}
DOMAINS, MESSAGES, SLOW, SLOWER = (30, 2000, 2, 5) if scenario.FULL else (3, 60, 0.1, 0.3)
SMALL = 3000  # octets that the kind "small" takes
DEAD = "127.3.0.99"


def kind_of(address):
    return address.partition("@")[2].split(".")[0].rstrip("0123456789")


class Mixed(scenario.Scenario):
    def peers(self):
        self.lock = threading.Lock()
        self.tries = collections.Counter()
        self.mails = collections.Counter()

        def greylist(session, address):
            with self.lock:
                self.tries[address, session.sender] += 1
                return "450 4.2.0 greylisted" if self.tries[address, session.sender] <= 2 else None

        def busy(session, _):
            with self.lock:
                self.mails["busy"] += 1
                odd = self.mails["busy"] % 2
            return sink.Then("421 4.3.2 busy", sink.DROP) if odd else None

        def late(seconds, usual):
            return lambda session, argument: sink.Late(seconds, usual)

        plain = sink.PLAIN_EXTENSIONS
        scripts = {
            "greylist": {"rcpt": greylist},
            "unknown": {"rcpt": lambda session, address: "550 5.1.1 no such user"},
            "dropsdata": {"data": lambda session, argument: sink.DROP},
            "slow": {"mail": late(SLOW, "250 2.1.0 ok"), "data": late(SLOW, "354 go on")},
            "slower": {"mail": late(SLOWER, "250 2.1.0 ok"), "data": late(SLOWER, "354 go on")},
            "busy": {"mail": busy},
        }
        extensions = {"badtls": plain + ("STARTTLS",),
                      "small": tuple(each for each in plain if not each.startswith("SIZE")) +
                      (f"SIZE {SMALL}",)}
        hosts = [f"127.3.0.{number + 1}" for number in range(len(KINDS))]
        sinks = sink.with_same_port(hosts)
        zone = f"dead A {DEAD}\n"
        for kind, one, host in zip(KINDS, sinks, hosts):
            self.using(one)
            one.script = scripts.get(kind, {})
            one.extensions = extensions.get(kind, plain)
            zone += f"{kind}-a A {host}\n{kind}-b A {host}\n"
            for number in range(DOMAINS):
                zone += f"{kind}{number} MX 10 {kind}-a\n{kind}{number} MX 10 {kind}-b\n"
                if kind == "onedead":
                    zone += f"{kind}{number} MX 10 dead\n"
        return dict(zip(KINDS, sinks)), self.knot(test=zone)

    def test_every_recipient_comes_to_its_end(self):
        sinks, knot = self.peers()
        server = self.daemon(dns={"servers": [knot.server]},
                             delivery={"port": sinks["ok"].port, "retry": ["500ms", "1s"],
                                       "connect_timeout": "2s", "site_connections": 5})
        chance = random.Random(20261129)
        wanted, sizes = set(), {}
        for number in range(MESSAGES):
            size = chance.choice((100, 1000, 6000))
            content = (f"From: <{USER}@us.example>\r\nSubject: {number}\r\n\r\n".encode() +
                       b"x" * 70 * (size // 70) + b"\r\n")
            recipients = {
                f"m{number}-{chance.randrange(5)}@{chance.choice(KINDS)}{chance.randrange(DOMAINS)}"
                ".test" for _ in range(chance.randint(1, 50))}
            for address in recipients:
                sizes[address] = len(content)
            wanted |= recipients
            server.send(f"{USER}@us.example", sorted(recipients), content)

        delivered = {one for one in wanted if kind_of(one) in DELIVERED or
                     (kind_of(one) == "small" and sizes[one] < SMALL - 700)}
        waiting = {one for one in wanted if kind_of(one) == "dropsdata"}
        bounced = wanted - delivered - waiting

        def left():
            return {r["address"]: r for m in server.queue() for r in m["recipients"]}

        deadline = 1800 if scenario.FULL else 150
        wait.until(lambda: set(left()) == waiting,
                   lambda: f"only the hopeless ones left, not {sorted(set(left()) - waiting)[:20]}",
                   deadline)
        for address, recipient in left().items():
            self.assertRegex(json.dumps(recipient), "(?i)DATA|closed|end of file|lost", address)

        arrived = collections.Counter(
            address for one in sinks.values() for message in one.messages
            for address in message.addresses)
        self.assertEqual(set(arrived), delivered)
        self.assertEqual({a: n for a, n in arrived.items() if n > 1}, {})
        ends = collections.defaultdict(collections.Counter)
        for entry in server.log("attempted"):
            ends[entry["verdict"]][entry["to"]] += 1
        outward = {a: n for a, n in ends["sent"].items() if a.endswith(".test")}
        self.assertEqual(outward, dict(arrived))
        self.assertEqual(set(ends["bounced"]), bounced)
        status = json.loads(server.postrider("status", "--json"))
        self.assertEqual(status["since_start"]["delivered"], sum(ends["sent"].values()))
        self.assertEqual(status["since_start"]["bounced"], len(bounced))
        self.assertEqual(status["queue"]["recipients"], len(waiting))


if __name__ == "__main__":
    scenario.main()
