#!/usr/bin/python3
"""Messages with 1 to 50 recipients over domains of ten behaviours and more, run to the end: every
recipient is delivered once, bounced, or queued with a true reason; sinks, log, listing and status
agree. POSTRIDER_MESSAGES and POSTRIDER_RATE set how many of them, and how many a second."""
import collections
import json
import os
import random
import re
import threading
import time

from support_py import scenario, sink, wait
from support_py.daemon import USER

KINDS = ("ok", "onedead", "greylist", "unknown", "dropsdata", "slow", "slower", "busy", "badtls",
         "small")
DELIVERED = {"ok", "onedead", "greylist", "slow", "slower", "busy", "badtls"}
DOMAINS, MESSAGES, SLOW, SLOWER = (30, 2000, 0.2, 0.4) if scenario.FULL else (3, 60, 0.1, 0.3)
SMALL = 3000  # octets that the kind "small" takes
DEAD = "127.3.0.99"

# The stream: a third of it is for hosts that take it at once.
STREAM_DOMAINS = 25  # of each kind
STREAM_SLOW, STREAM_SLOWER = (2, 5) if scenario.FULL else (SLOW, SLOWER)  # seconds for a reply
STREAM_ADDRESSES = {"slow": 5, "slower": 5, "silent": 5}
STREAM_MESSAGES = int(os.environ.get("POSTRIDER_MESSAGES", 20000 if scenario.FULL else 200))
STREAM_RATE = float(os.environ.get("POSTRIDER_RATE", 40))  # messages a second
STREAM_KINDS = ("ok", "ok", "ok", "ok", "slow", "slower", "temporary", "greylist", "some", "refusesdata",
                "drops", "busy", "closed", "silent", "unknown", "servfail")
BOUNCED, WAITING = {"refusesdata", "unknown"}, {"silent", "closed", "servfail"}
REASONS = {"silent": "has not answered yet, |timed out|waits for its turn", "closed": "refused", "servfail": "SERVFAIL"}


def stream_domains(chance):
    """Up to six, for one message."""
    return [stream_domain(chance, chance.choice(STREAM_KINDS)) for _ in range(chance.randint(1, 6))]


def stream_domain(chance, kind):
    return f"{kind}{chance.randrange(STREAM_DOMAINS)}.{'broken' if kind == 'servfail' else 'test'}"


def number_of(address):
    return int(address[1:].partition("-")[0])


def is_refused(address):
    """By a host that knows some users only."""
    return int(address.partition("@")[0].partition("-")[2]) % 3 == 0


def stream_end(address):
    kind = kind_of(address)
    if kind in WAITING:
        return "waiting"
    return "bounced" if kind in BOUNCED or (kind == "some" and is_refused(address)) else "delivered"


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

    # With a steady stream of mail: good hosts beside hosts of every other mind.

    def stream_hosts(self):
        """(kind, sink) of each host; what has none is of a kind without a host."""
        chance, lock = random.Random(7), threading.Lock()
        seen = collections.Counter()

        def later(times):
            def answer(session, address):
                with lock:
                    seen[address, session.sender] += 1
                    return "450 4.2.0 come again" if seen[address, session.sender] <= times else None
            return {"rcpt": answer}

        def sometimes(answer, share):
            def choose(*_):
                with lock:
                    return answer if chance.random() < share else None
            return choose

        def late(seconds):
            return {"mail": lambda *_: sink.Late(seconds, "250 2.1.0 ok"),
                    "data": lambda *_: sink.Late(seconds, "354 go on")}

        scripts = {
            "ok": {}, "slow": late(STREAM_SLOW), "slower": late(STREAM_SLOWER), "temporary": later(1), "greylist": later(2),
            "some": {"rcpt": lambda _, address: "550 5.1.1 no such user" if is_refused(address) else None},
            "refusesdata": {"end": lambda *_: "554 5.7.1 not this"},
            "drops": {stage: sometimes(sink.DROP, 0.02)
                      for stage in ("connect", "ehlo", "mail", "rcpt", "data", "body", "end")},
            "busy": {"connect": sometimes(sink.Then("421 4.3.2 busy", sink.DROP), 0.3)},
            "silent": {"connect": lambda *_: sink.HANG}}
        # One address has at most twenty connections, so those that take long have several.
        kinds = [kind for kind in scripts for _ in range(STREAM_ADDRESSES.get(kind, 1))]
        hosts = [f"127.4.0.{number + 1}" for number in range(len(kinds))]
        sinks, places = [], collections.defaultdict(list)
        for kind, one in zip(kinds, sink.with_same_port(hosts, keep_content=False)):
            self.using(one)
            one.script = scripts[kind]
            sinks.append((kind, one))
            places[kind].append(one.address)
        places["closed"].append(DEAD)
        zone = "".join(f"{kind}{number} MX 10 mx-{kind}{number}\n"
                       f"mx-{kind}{number} A {addresses[number % len(addresses)]}\n"
                       for kind, addresses in places.items() for number in range(STREAM_DOMAINS))
        return sinks, self.knot(test=zone, broken=None)

    def stream(self, server):
        """Sends at a steady rate; number -> (when it was promised, recipients)."""
        chance = random.Random(20261129)
        mail = []
        for number in range(STREAM_MESSAGES):
            domains = stream_domains(chance)
            mail.append((number, sorted({
                f"m{number}-{chance.randrange(20)}@{chance.choice(domains)}"
                for _ in range(min(50, int(55 ** chance.random())))})))
        promised, began = {}, time.monotonic()

        def send(one):
            number, recipients = one
            pause = began + number / STREAM_RATE - time.monotonic()
            if pause > 0:
                time.sleep(pause)  # the rate
            reply = server.send(f"{USER}@us.example", recipients, b"Subject: %d\r\n\r\nx\r\n" % number)
            self.assertEqual(reply.code, 250, reply)
            promised[number] = (time.time(), recipients)
        self.assertEqual(scenario.parallel(send, mail), [])
        return promised

    def test_a_stream_beside_hosts_of_every_mind(self):
        sinks, knot = self.stream_hosts()
        server = self.daemon(dns={"servers": [knot.server]}, accept={"sessions_per_client": 100},
                             delivery={"port": sinks[0][1].port, "retry": ["500ms", "1s", "5s"],
                                       "connect_timeout": "2s", "site_connections": 5, "connections": 300})
        promised = self.stream(server)
        wanted = {address for _, recipients in promised.values() for address in recipients}
        ended = {kind: {one for one in wanted if stream_end(one) == kind}
                 for kind in ("delivered", "bounced", "waiting")}

        def left():
            return {r["address"]: r for m in server.queue() for r in m["recipients"]}

        wait.until(lambda: json.loads(server.postrider("status", "--json"))["queue"]["recipients"] <=
                   len(ended["waiting"]) and set(left()) == ended["waiting"],
                   lambda: "only the hopeless ones left, not "
                   f"{sorted(set(left()) - ended['waiting'])[:20]}", 900 if scenario.FULL else 150, pause=1)
        wait.until(lambda: all(one.get("delay_reason") for one in left().values()),
                   lambda: "a reason for each that waits, such as "
                   f"{[one for one in left().values() if not one.get('delay_reason')][:3]}", pause=1)
        reasons = collections.defaultdict(collections.Counter)
        for address, recipient in left().items():
            reasons[kind_of(address)][re.sub(r"\d+", "N", recipient["delay_reason"])] += 1
        arrived = collections.Counter(address for _, one in sinks for message in one.messages
                                      for address in message.addresses)
        delays = sorted(message.when - promised[number_of(message.addresses[0])][0]
                        for kind, one in sinks if kind == "ok" for message in one.messages)
        p99 = delays[len(delays) * 99 // 100]
        print(f"\n  {len(promised)} messages, {len(wanted)} recipients, {len(arrived)} delivered, "
              f"{sum(arrived.values()) - len(arrived)} twice, {len(ended['bounced'])} bounced, "
              f"{len(ended['waiting'])} waiting; good mail: median {delays[len(delays) // 2]:.3f} s, "
              f"p99 {p99:.3f} s, longest {delays[-1]:.3f} s")
        for kind, counts in reasons.items():
            print(f"  {kind}: {counts.most_common(3)}", flush=True)
        self.assertEqual(set(arrived), ended["delivered"])
        self.assertEqual({a: n for a, n in arrived.items() if n > 1}, {})
        for kind, counts in reasons.items():
            for reason in counts:
                self.assertRegex(reason, REASONS[kind])
        self.compare(server, arrived, ended)
        if scenario.FULL:
            self.assertLess(p99, 1)

    def compare(self, server, arrived, ended):
        """The log and the status say what the sinks say."""
        ends = collections.defaultdict(collections.Counter)
        for entry in server.log("attempted"):
            ends[entry["verdict"]][entry["to"]] += 1
        self.assertEqual({a: n for a, n in ends["sent"].items() if a.endswith(".test")}, dict(arrived))
        self.assertEqual(set(ends["bounced"]), ended["bounced"])
        self.assertEqual(max(ends["bounced"].values(), default=1), 1)
        status = json.loads(server.postrider("status", "--json"))
        self.assertEqual(status["since_start"]["delivered"], sum(ends["sent"].values()))
        self.assertEqual(status["since_start"]["bounced"], len(ended["bounced"]))
        self.assertEqual(status["queue"]["recipients"], len(ended["waiting"]))
        listed = server.queue()
        count = json.loads(server.postrider("queue", "count", "--json"))
        self.assertEqual((count["messages"], count["recipients"]), (len(listed), len(ended["waiting"])))
        self.assertEqual(status["queue"]["messages"], len(listed))
        removed = collections.Counter(line["id"] for line in server.log("removed"))
        self.assertEqual({one: n for one, n in removed.items() if n > 1}, {})  # each message ends once
        self.assertEqual(len(removed) + len(listed),
                         status["since_start"]["accepted"] + len(server.log("notice_created")))
        self.assertEqual(set(removed) & {message["queue_id"] for message in listed}, set())


if __name__ == "__main__":
    scenario.main()
