#!/usr/bin/python3
"""Limits that hosts have and do not tell: how many connections, how much mail in a time, hosts that
are down, hosts that greylist. They are found by trying, little is refused, nothing is lost or
sent twice."""
import collections
import threading
import time

from support_py import scenario, sink, wait

CONTENT = b"From: <a@src.example>\r\nSubject: limits\r\n\r\nbody\r\n"
TOO_MANY = sink.Then("421 4.7.0 too many concurrent connections", sink.DROP)
RATE = "451 4.7.1 rate limit exceeded"


def taken_slowly(session, argument):
    return sink.Late(0.05, "250 2.0.0 taken")


class Limits(scenario.Scenario):
    SENDERS = 10  # what one sender meets may be for his own sake

    def send(self, server, count, domain="far.example"):
        def one(number):
            sender = f"s{number % self.SENDERS}@src.example"
            server.send(sender, f"u{number}@{domain}", CONTENT)
        self.assertEqual(scenario.parallel(one, range(count), 8), [])

    def assert_each_once(self, messages, count):
        seen = collections.Counter(address for message in messages for address in message.addresses)
        self.assertEqual(len(seen), count)
        self.assertEqual(set(seen.values()), {1})

    def site(self, server, address="u0@far.example"):
        return server.postrider("explain", address)


class Connections(Limits):
    MESSAGES = 400
    MOST = 5

    def test_the_limit_is_found(self):
        """421 to each connection beyond five"""
        def greet(session, argument):
            open_ones = sum(not one.closed for one in session.sink.sessions)
            return TOO_MANY if open_ones > self.MOST else None
        host = self.sink(script={"connect": greet, "end": taken_slowly})
        server = self.relay(host)
        self.send(server, self.MESSAGES)
        host.wait_for(self.MESSAGES)
        server.wait_until_empty()
        self.assert_each_once(host.messages, self.MESSAGES)
        refused = len(host.stages("connect")) - len({one.session for one in host.stages("ehlo")})
        self.assertGreaterEqual(refused, 1)
        self.assertLessEqual(refused, 12)
        self.assertRegex(self.site(server), r"[345] connections at one time: one more was refused")

    def test_the_limit_is_named_in_a_conversation(self):
        """421 to MAIL beyond three conversations with mail"""
        busy = set()
        lock = threading.Lock()

        def mail(session, argument):
            with lock:
                if len(busy) >= 3:
                    return TOO_MANY
                busy.add(session.number)
            return None

        def end(session, argument):
            with lock:
                busy.discard(session.number)
            return sink.Late(0.02, "250 2.0.0 taken")
        host = self.sink(script={"mail": mail, "end": end})
        server = self.relay(host)
        self.send(server, 100)
        host.wait_for(100)
        server.wait_until_empty()
        self.assert_each_once(host.messages, 100)


class Rate(Limits):
    MESSAGES = 60
    BURST, A_SECOND = 20, 5

    def test_the_rate_is_found(self):
        """451 to MAIL beyond a bucket of twenty that fills with five a second"""
        bucket = {"level": float(self.BURST), "at": time.monotonic()}
        refused = []

        def mail(session, argument):
            now = time.monotonic()
            bucket["level"] = min(self.BURST,
                                  bucket["level"] + (now - bucket["at"]) * self.A_SECOND)
            bucket["at"] = now
            if bucket["level"] < 1:
                refused.append(now)
                return RATE
            bucket["level"] -= 1
            return None
        host = self.sink(script={"mail": mail})
        server = self.relay(host)
        self.send(server, self.MESSAGES)
        host.wait_for(self.MESSAGES, deadline=240)
        server.wait_until_empty()
        self.assert_each_once(host.messages, self.MESSAGES)
        # Those that were under way when it was full, until three senders had met it, and a probe or two.
        self.assertLessEqual(len(refused), 40)
        if refused:
            self.assertRegex(self.site(server), r"/s|/min|it refused for the rate")


class OneSender(Limits):
    """Refused for the rate, or for what is thought of us, whatever the text says."""
    BAD, GOOD = 20, 20

    def refuse(self, reply, action=None):
        def mail(session, argument):
            if argument.startswith("bad@"):
                return sink.Then(reply, action) if action else reply
            return None
        host = self.sink(script={"mail": mail})
        server = self.relay(host)
        for number in range(max(self.BAD, self.GOOD)):
            server.send("bad@src.example", f"b{number}@far.example", CONTENT)
            server.send("good@other.example", f"g{number}@far.example", CONTENT)
        host.wait_for(self.GOOD)
        server.wait_for_log("attempted", self.BAD, verdict="deferred")
        self.assertEqual({message.sender for message in host.messages}, {"good@other.example"})
        self.assertEqual(server.log("site_blocked"), [])
        server.send("late@other.example", "late@far.example", CONTENT)
        host.wait_for(self.GOOD + 1)

    def test_the_rate_of_one_in_another_language(self):
        self.refuse("450 4.7.28 Zu viele Nachrichten in zu kurzer Zeit")

    def test_the_reputation_of_one(self):
        self.refuse("421 4.7.0 very low reputation", sink.DROP)


class Dying(Limits):
    MESSAGES = 100

    def test_a_site_that_dies_and_returns(self):
        host = self.sink()
        server = self.relay(host)
        server.send("a@src.example", "first@far.example", CONTENT)
        host.wait_for(1)
        server.wait_until_empty()
        host.stop()
        self.send(server, self.MESSAGES)
        wait.until(lambda: server.queued() == self.MESSAGES, "all wait")
        server.wait_for_log("site_blocked", 3)
        # No row of its own for any of them: the site waits, and they have no tries.
        for message in server.queue():
            for recipient in message["recipients"]:
                self.assertEqual(recipient["attempts"], 0)
        host.start()
        host.wait_for(self.MESSAGES + 1)
        server.wait_until_empty()
        self.assert_each_once(host.messages, self.MESSAGES + 1)
        server.wait_for_log("site_open")


class Greylisting(Limits):
    def test_a_hint_is_obeyed(self):
        seen = set()

        def rcpt(session, argument):
            if argument in seen:
                return None
            seen.add(argument)
            return "451 4.7.1 Greylisted, please try again in 60 seconds"
        host = self.sink(script={"rcpt": rcpt})
        server = self.relay(host)  # retries after a second, were it not for the hint
        before = time.time()
        server.send("a@src.example", ["b@far.example", "c@far.example"], CONTENT)
        wait.until(lambda: [r["attempts"] for m in server.queue() for r in m["recipients"]] == [1, 1],
                   lambda: f"two deferred: {server.queue()}")
        times = {r["next_attempt"] for m in server.queue() for r in m["recipients"]}
        self.assertEqual(len(times), 1)  # they come back together
        self.assertGreaterEqual(times.pop(), int(before) + 60)
        server.retry_all()
        host.wait_for(1)
        server.wait_until_empty()


class OneBadHost(Limits):
    MESSAGES = 100

    def test_one_of_five_is_down(self):
        addresses = [f"127.4.0.{number}" for number in range(1, 6)]
        hosts = [self.using(one) for one in sink.with_same_port(addresses)]
        hosts[2].stop()
        text = "".join(f"m{i} A {address}\nfar MX 10 m{i}\n" for i, address in enumerate(addresses))
        knot = self.knot(test=text)
        server = self.daemon(dns={"servers": [knot.server]},
                             delivery={"port": hosts[0].port})
        self.send(server, self.MESSAGES, "far.test")
        wait.until(lambda: sum(len(one.messages) for one in hosts) >= self.MESSAGES, "all came")
        server.wait_until_empty()
        self.assert_each_once([message for one in hosts for message in one.messages], self.MESSAGES)
        self.assertEqual(server.log("site_blocked"), [])


if __name__ == "__main__":
    scenario.main()
