#!/usr/bin/python3
"""A long queue, and all that can be asked of it or done to it beside a client that sends at a steady pace:
every figure is exact, what its asker leaves stops, and nobody waits for another. The long form queues
500,000 messages over 5,000 domains, measures the client's delays, and holds them to a limit; it takes
half an hour (--timeout 3600). POSTRIDER_MESSAGES sets how many."""
import collections
import json
import os
import signal
import subprocess
import sys
import threading
import time

from support_py import daemon, long_mail, scenario, sink, wait

MESSAGES = int(os.environ.get("POSTRIDER_MESSAGES", 500_000 if scenario.FULL else 2000))
DOMAINS = 5000 if scenario.FULL else 50
DEADLINE = 1800 if scenario.FULL else wait.DEADLINE
MOST_DELAY = 0.1  # of the client: its p99
MOST_ANSWER = 0.1  # of `status`, of `queue count`, of `explain`
MOST_SUMMARY = max(1, MESSAGES / 500_000)  # of a million recipients
MOST_FIRST_PAGE = 0.05
SAMPLES = 200 if scenario.FULL else 3  # the client's messages that a figure needs at least

Shown = collections.namedtuple("Shown", "what seconds delays cpu memory load")


def share(values, part):
    return sorted(values)[min(int(len(values) * part), len(values) - 1)]


class Model:
    """What the queue holds of the mail that filled it."""

    def __init__(self):
        self.removed = []  # conditions

    def alive(self):
        """(number, its recipients that are left)"""
        for number in range(MESSAGES):
            left = [one for one in long_mail.recipients(number, DOMAINS)
                    if not any(is_gone(number, one) for is_gone in self.removed)]
            if left:
                yield number, left

    def count(self, matches=lambda number, recipient: True):
        """(messages, recipients)"""
        messages = recipients = 0
        for number, left in self.alive():
            matching = sum(matches(number, one) for one in left)
            messages += matching > 0
            recipients += matching
        return messages, recipients


def of_domain(name):
    return lambda _, recipient: recipient.endswith("@" + name)


def of_sender(address):
    return lambda number, _: long_mail.sender(number) == address


class Client:
    """The one that sends beside all else."""

    def __init__(self, port):
        self.samples = {}  # number -> delay
        self.first = None  # when that was due
        self.process = start_helper("beside", port)
        self.thread = threading.Thread(target=self.read)
        self.thread.start()

    def read(self):
        for line in self.process.stdout:
            number, due, delay = line.split()
            self.first = self.first or float(due) - int(number) * long_mail.PACE
            self.samples[int(number)] = float(delay)

    def taken(self):
        return len(self.samples)

    def begun(self):
        """At most."""
        return self.number_at(time.monotonic()) + 2

    def number_at(self, when):
        return int((when - self.first) / long_mail.PACE)

    def delays(self, since, until):
        """Of what was due then, and of as many after it as make a figure."""
        first = self.number_at(since)
        wanted = range(first, max(self.number_at(until), first + SAMPLES))
        wait.until(lambda: all(number in self.samples for number in wanted), "the client's messages")
        return [self.samples[number] for number in wanted]

    def stop(self):
        self.process.kill()
        self.process.wait()
        self.thread.join()
        self.process.stdout.close()


def start_helper(*arguments):
    return subprocess.Popen([sys.executable, "-B", "-m", "support_py.long_mail", *map(str, arguments)],
                            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
                            env=dict(os.environ, PYTHONPATH=str(daemon.ROOT / "tests")))


class LongQueue(scenario.Scenario):
    def setUp(self):
        super().setUp()
        self.good = self.sink(keep_content=False)
        self.refusing = self.using(sink.Sink(address="127.5.0.1", keep_content=False, script={
            "rcpt": lambda *_: "450 4.2.1 not today"}))
        zone = "".join(f"n{number}.refused MX 10 mx{number}.refused\nmx{number}.refused A 127.5.0.1\n"
                       for number in range(0, DOMAINS, long_mail.REFUSED))
        knot = self.knot(test=zone)
        self.server = self.daemon(
            dns={"servers": [knot.server]}, accept={"sessions_per_client": 100},
            delivery={"port": self.refusing.port, "retry": ["6h"], "connect_timeout": "2s"},
            route=[{"domain": "good.example", "next_hop": f"smtp://127.0.0.1:{self.good.port}", "tls": "off"},
                   {"domain": ".dead.example", "next_hop": f"smtp://127.0.0.1:{wait.free_port()}",
                    "tls": "off"}])
        self.model = Model()
        self.client_removed = 0  # messages of the client that are not in the queue any more
        self.most_doubled = 0

    # Asking

    def tool(self, *arguments):
        """The lines of its answer."""
        with subprocess.Popen([str(daemon.BIN / "postrider"), *map(str, arguments)], text=True,
                              stdout=subprocess.PIPE, env=self.server.environment()) as process:
            lines = process.stdout.readlines()
        self.assertEqual(process.returncode, 0, arguments)
        return lines

    def measured(self, what, work, limit=None, is_away=False):
        """work() beside the client: its result; a figure that is too large is measured twice more."""
        for _ in range(3 if scenario.FULL and limit else 1):
            cpu, began = 0 if is_away else self.server.cpu_time(), time.monotonic()
            result = work()
            ended = time.monotonic()
            cpu = self.server.cpu_time() - cpu
            delays = self.client.delays(began, ended)
            self.show(Shown(what, ended - began, delays, cpu, self.server.memory(), os.getloadavg()[0]))
            if not limit or ended - began < limit:
                break
        else:
            self.too_slow.append((what, ended - began))
        if share(delays, 0.99) >= MOST_DELAY and not is_away:
            self.too_slow.append((what, "the client's p99", share(delays, 0.99)))
        return result

    def show(self, one):
        print(f"  {one.what:44} {one.seconds:8.3f} s  client p50 {1000 * share(one.delays, 0.5):5.1f}"
              f" p99 {1000 * share(one.delays, 0.99):6.1f} max {1000 * max(one.delays):6.1f} ms"
              f"  cpu {one.cpu:6.2f} s  {one.memory >> 20:4} MiB  load {one.load:.1f}", flush=True)

    def exactly(self, what, work, wanted, **limits):
        """work() gives (messages, recipients) of the mail that filled the queue."""
        self.assertEqual(self.measured(what, work, **limits), wanted, what)

    def with_client(self, what, work, wanted, **limits):
        """The client's messages are among them: those that were taken before, and at most those that
        it had begun when the answer came."""
        before = self.client.taken() - self.client_removed
        self.under_way = 0, 0
        messages, recipients = self.measured(what, work, **limits)
        after = self.client.begun() - self.client_removed + self.most_doubled
        under_way = self.under_way
        self.assertTrue(wanted[0] + before <= messages + under_way[0] and messages <= wanted[0] + after,
                        f"{what}: {messages} of {wanted[0]} and {before} to {after}")
        self.assertTrue(wanted[1] + before <= recipients + under_way[1] and recipients <= wanted[1] + 2 * after,
                        f"{what}: {recipients} of {wanted[1]} and {before} to {2 * after}")
        return messages - wanted[0]

    def count(self, *filters):
        answer = json.loads(self.tool("queue", "count", *filters, "--json")[0])
        return answer["messages"], answer["recipients"]

    def change(self, *arguments):
        """What it concerned, under way or not."""
        answer = json.loads(self.tool("queue", *arguments, "--json")[-1])
        self.under_way = answer.get("under_way_messages", 0), answer.get("under_way_recipients", 0)
        return answer["messages"], answer["recipients"]

    def listed(self, *filters):
        messages = recipients = 0
        for line in self.tool("queue", *filters, "--json"):
            messages += 1
            recipients += len(json.loads(line)["recipients"])
        return messages, recipients

    def status(self):
        return json.loads("".join(self.tool("status", "--json")))

    def totals(self):
        queue = self.status()["queue"]
        return queue["messages"], queue["recipients"]

    # The parts

    def fill(self):
        process = start_helper("fill", self.server.port, MESSAGES, DOMAINS)
        with process:
            steps = [tuple(map(float, line.split())) for line in process.stdout]
        self.assertEqual(process.returncode, 0)
        if scenario.FULL:
            for at in range(len(steps) - 1):
                if at % 10 == 0 or at + 2 == len(steps):
                    rate = (steps[at + 1][0] - steps[at][0]) / (steps[at + 1][1] - steps[at][1])
                    print(f"  accepted at {int(steps[at][0]):7}: {rate:6.0f}/s", flush=True)

    def settle(self, what):
        """Until nothing is under way but the client's."""
        def is_quiet():
            return self.count("--status", "active")[0] < 100 and not any(
                message["sender"] != long_mail.BESIDE and recipient["state"] == "active"
                for message in self.server.queue("--status", "active") for recipient in message["recipients"])
        self.measured(what, lambda: wait.until(is_quiet, what, DEADLINE, pause=0.5))

    def ask(self):
        everything = self.model.count()
        one = long_mail.recipients(7, DOMAINS)[0]
        domain, sender = long_mail.domain(7), long_mail.sender(7)
        refused = long_mail.domain(long_mail.REFUSED)
        sender_domain = sender.partition("@")[2]
        filters = {
            ("--from", sender): of_sender(sender),
            ("--from", "@" + sender_domain): lambda number, _: long_mail.sender(number).endswith("@" + sender_domain),
            ("--to", one): lambda _, recipient: recipient == one,
            ("--to", "@" + domain): of_domain(domain), ("--domain", domain): of_domain(domain),
            ("--domain", refused): of_domain(refused),
            ("--domain", domain, "--from", sender): lambda *both: of_domain(domain)(*both) and of_sender(sender)(*both),
            ("--larger", "12KiB"): lambda number, _: long_mail.is_large(number),
            ("--reply", "not today"): lambda _, recipient: recipient.endswith(".refused.test"),
            ("--status", "held"): lambda *_: False, ("--older", "1h"): lambda *_: False}
        for arguments, matches in filters.items():
            wanted = self.model.count(matches)
            name = " ".join(arguments)
            self.exactly(f"queue count {name}", lambda: self.count(*arguments), wanted)
            self.exactly(f"queue {name}", lambda: self.listed(*arguments), wanted)
        self.with_client("queue count", self.count, everything, limit=MOST_ANSWER)
        self.with_client("queue count --older 0s", lambda: self.count("--older", "0s"), everything)
        self.with_client("queue, whole", self.listed, everything)
        self.with_client("status --json", self.totals, everything, limit=MOST_ANSWER)
        text = "".join(self.measured("status", lambda: self.tool("status"), limit=MOST_ANSWER))
        self.assertRegex(text, r"queue +\d+ messages, \d+ recipients")
        before = self.client.taken() - self.client_removed
        states = [self.measured(f"queue count --status {status}", lambda: self.count("--status", status))
                  for status in ("queued", "deferred")]
        after = self.client.begun() - self.client_removed
        counted = sum(messages for messages, _ in states) - everything[0]
        self.assertTrue(before - 20 <= counted <= after, (before, counted, after))  # 20: active ones
        for status in ("queued", "deferred", "active"):
            self.measured(f"queue --status {status}", lambda: self.listed("--status", status))
        self.ask_about_one(sender, one)
        self.ask_mailq(everything)

    def ask_about_one(self, sender, address):
        listed = json.loads(self.tool("queue", "--to", address, "--json")[0])
        ids = [listed["queue_id"]]
        self.assertEqual(listed["sender"], sender)
        self.exactly("queue --id", lambda: self.listed("--id", ids[0]), (1, len(long_mail.recipients(7, DOMAINS))))
        self.exactly("queue count --id", lambda: self.count("--id", ids[0]),
                     (1, len(long_mail.recipients(7, DOMAINS))))
        for arguments in (("explain", ids[0]), ("explain", long_mail.domain(7)),
                          ("explain", long_mail.domain(long_mail.REFUSED)), ("show", ids[0]),
                          ("show", "--body", ids[0])):
            self.measured(" ".join(arguments), lambda: self.tool(*arguments), limit=MOST_ANSWER)
        self.id = ids[0]

    def ask_mailq(self, everything):
        def requests():
            with subprocess.Popen([str(daemon.BIN / "mailq")], text=True, stdout=subprocess.PIPE,
                                  env=self.server.environment()) as process:
                last = collections.deque(process.stdout, 1)[0]
            return int(last.split()[-2])
        before = self.client.taken() - self.client_removed
        counted = self.measured("mailq", requests)
        after = self.client.begun() - self.client_removed
        self.assertTrue(everything[0] + before <= counted <= everything[0] + after, counted)

    def first_page(self, filters):
        """The reader goes as soon as it has the beginning."""
        process = subprocess.Popen([str(daemon.BIN / "postrider"), "queue", *filters], text=True,
                                   stdout=subprocess.PIPE, env=self.server.environment())
        for _ in range(20):
            process.stdout.readline()
        process.kill()
        process.wait()
        process.stdout.close()

    def summarize(self):
        """In groups, whose sums are those of the queue, and what the sites are."""
        everything = self.model.count()
        domains = collections.Counter(one.partition("@")[2] for _, left in self.model.alive() for one in left)
        for key in ("domain", "site", "sender", "client", "reason", "age"):
            def summary():
                *groups, last = map(json.loads, self.tool("queue", "summary", "--by", key, "--limit", "0", "--json"))
                if key == "domain":
                    found = {each["group"]["key"]: each["group"]["recipients"] for each in groups}
                    self.assertEqual({name: found.get(name) for name in domains}, domains)
                return last["summary"]["messages"], last["summary"]["recipients"]
            self.with_client(f"queue summary --by {key}", summary, everything, limit=MOST_SUMMARY)
            self.measured(f"queue summary --by {key}, as text", lambda: self.tool("queue", "summary", "--by", key),
                          limit=MOST_SUMMARY)
        for arguments in (("sites", "--json"), ("sites", "--trouble"), ("sites",)):
            self.measured(" ".join(arguments), lambda: self.tool(*arguments), limit=MOST_SUMMARY)

    def leave(self):
        """What was asked for ends with its asker."""
        for filters in ((), ("--domain", long_mail.domain(7)), ("--from", long_mail.sender(7)),
                        ("--status", "deferred"), ("--reply", "not today")):
            self.measured("first page of queue " + " ".join(filters), lambda: self.first_page(filters),
                          limit=MOST_FIRST_PAGE)
        for arguments in (("queue",), ("queue", "--to", "nobody@nowhere.example"),
                          ("queue", "count", "--to", "nobody@nowhere.example")):
            def kill():
                process = subprocess.Popen([str(daemon.BIN / "postrider"), *arguments], stdout=subprocess.PIPE,
                                           env=self.server.environment())
                time.sleep(0.3 if scenario.FULL else 0)  # in the middle of it
                process.kill()
                process.wait()
                process.stdout.close()
                cpu = self.server.cpu_time()
                time.sleep(1 if scenario.FULL else 0)  # what it costs from now on is the client's
                return self.server.cpu_time() - cpu
            cost = self.measured("killed: " + " ".join(arguments), kill)
            if scenario.FULL and cost > 0.4:
                self.too_slow.append(("killed", arguments, cost))

    def together(self):
        """Those that take long, and explain beside them."""
        for arguments, times in ((("status",), 3), (("queue", "count", "--to", "nobody@nowhere.example"), 8),
                                 (("queue", "--to", "nobody@nowhere.example"), 8)):
            others = [subprocess.Popen([str(daemon.BIN / "postrider"), *arguments], stdout=subprocess.DEVNULL,
                                       env=self.server.environment()) for _ in range(times)]
            for what in (("explain", self.id), ("explain", long_mail.domain(7)), ("status",),
                         ("queue", "count")):
                self.measured(f"{' '.join(what)} beside {times} {' '.join(arguments[:2])}",
                              lambda: self.tool(*what), limit=MOST_ANSWER if what[0] == "explain" else None)
            for other in others:
                self.assertEqual(other.wait(), 0)

    def try_changes(self):
        domain, sender = long_mail.domain(7), long_mail.sender(9)
        everything = self.model.count()
        for verb in ("hold", "retry", "release", "bounce", "remove"):
            for arguments, wanted in ((("--domain", domain), self.model.count(of_domain(domain))),
                                      (("--from", sender), self.model.count(of_sender(sender)))):
                wanted = (0, 0) if verb == "release" else wanted
                self.exactly(f"{verb} {arguments[0]} --dry-run",
                             lambda: self.change(verb, *arguments, "--dry-run"), wanted)
            if verb != "release":
                self.with_client(f"{verb} --all --dry-run", lambda: self.change(verb, "--all", "--dry-run"),
                                 everything)
        self.exactly("release --all --dry-run", lambda: self.change("release", "--all", "--dry-run"), (0, 0))

    def make_changes(self):
        domain, sender = long_mail.domain(7), long_mail.sender(9)
        for arguments, matches in ((("--domain", domain), of_domain(domain)), (("--from", sender), of_sender(sender))):
            wanted = self.model.count(matches)
            for verb in ("hold", "release", "retry"):
                self.exactly(f"{verb} {arguments[0]}", lambda: self.change(verb, *arguments), wanted)
                if verb == "retry":
                    self.settle("attempts of that")
                if verb == "hold" and arguments[0] == "--from":
                    self.exactly("queue count --status held", lambda: self.count("--status", "held"), wanted)
        everything = self.model.count()
        self.with_client("hold --all", lambda: self.change("hold", "--all"), everything)
        late = self.under_way  # held as soon as their attempts end
        held = self.count("--status", "held")
        self.assertTrue(all(one + more >= wanted for one, more, wanted in zip(held, late, everything)),
                        (held, late, everything))
        released = self.measured("release --all", lambda: self.change("release", "--all"))
        self.assertTrue(all(one <= counted <= one + more for one, counted, more in zip(held, released, late)),
                        (held, released, late))
        self.with_client("retry --all", lambda: self.change("retry", "--all"), everything)
        self.settle("attempts after that")

    def remove_some(self):
        for verb, arguments, matches in (
                ("remove", ("--domain", long_mail.domain(8)), of_domain(long_mail.domain(8))),
                ("remove", ("--from", long_mail.sender(11)), of_sender(long_mail.sender(11))),
                ("bounce", ("--domain", long_mail.domain(9)), of_domain(long_mail.domain(9))),
                ("bounce", ("--from", long_mail.sender(12)), of_sender(long_mail.sender(12)))):
            wanted = self.model.count(matches)
            self.exactly(f"{verb} {arguments[0]}", lambda: self.change(verb, *arguments), wanted)
            self.model.removed.append(matches)
            if verb == "bounce":  # and one notice a message, for a dead host
                self.notices += wanted[0]
                wait.until(lambda: self.count("--from", "<>") == (self.notices, self.notices),
                           lambda: f"{self.notices} notices, not {self.count('--from', '<>')}", DEADLINE)
        messages, recipients = self.model.count()
        self.with_client("queue count", self.count, (messages + self.notices, recipients + self.notices))

    def restart(self):
        messages, recipients = self.model.count()
        everything = messages + self.notices, recipients + self.notices
        for name, stop in (("SIGTERM", self.server.stop), ("SIGKILL", self.server.kill)):
            self.measured(f"restart by {name}", lambda: (stop(), self.server.start()), is_away=True)
            self.settle(f"attempts after {name}")
            self.most_doubled += 1  # a message whose reply the client did not hear, it sends again
            self.with_client(f"status after {name}", self.totals, everything, limit=MOST_ANSWER)

    def end_all(self):
        messages, recipients = self.model.count()
        everything = messages + self.notices, recipients + self.notices
        self.with_client("bounce --all --dry-run", lambda: self.change("bounce", "--all", "--dry-run"), everything)
        of_client = self.with_client("bounce --all", lambda: self.change("bounce", "--all"), everything)
        # One notice for each message, none for a notice, and of those that were under way one or none.
        notices = messages + of_client
        under_way = self.under_way[0]
        senders = [f"@d{number}.dead.example" for number in range(long_mail.SENDER_DOMAINS)]
        self.measured("notices of that", lambda: wait.until(
            lambda: notices <= self.count("--from", "<>")[0] <= notices + under_way and not any(
                self.count("--from", one)[0] for one in senders) and not any(
                '"bouncing"' in line for line in self.tool("queue", "--json")),
            lambda: f"{notices} notices, not {self.count('--from', '<>')}", DEADLINE, pause=0.5))
        counted = self.count("--from", "<>")
        self.client_removed = of_client + under_way
        self.most_doubled += 2 * under_way  # a notice of one may be among those counted, or come later
        self.with_client("remove --all", lambda: self.change("remove", "--all"), counted)
        self.assertLessEqual(self.count("--from", "<>")[0], under_way)

    def test_all_that_can_be_asked_of_a_long_queue(self):
        self.too_slow, self.notices = [], 0
        self.fill()
        self.client = self.using(Client(self.server.port))
        wait.until(lambda: self.client.taken() > SAMPLES, "the client")
        self.settle("first attempts")
        self.measured("nothing", lambda: None)
        self.ask()
        self.summarize()
        self.leave()
        self.together()
        self.try_changes()
        self.make_changes()
        self.remove_some()
        self.restart()
        self.end_all()
        if scenario.FULL:
            self.assertEqual(self.too_slow, [])


if __name__ == "__main__":
    scenario.main()
