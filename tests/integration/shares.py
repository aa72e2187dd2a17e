#!/usr/bin/python3
"""Many silent sites beside good ones, verbs on mail that delivery has in hand, and ends that are
recorded whatever the other recipients of a message do."""
import json
import socket
import threading

import dns.rcode

from support_py import nameserver, scenario, sink, wait

CONTENT = b"From: <a@src.example>\r\nSubject: shares\r\n\r\nbody\r\n"


class Pit:
    """Takes connections at a port of several addresses, and says nothing."""

    def __init__(self, addresses, port):
        self.sockets = []
        for address in addresses:
            listener = socket.socket()
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((address, port))
            listener.listen(1000)
            self.sockets.append(listener)

    def stop(self):
        for listener in self.sockets:
            listener.close()


class Senders(scenario.Scenario):
    MANY = 400

    def test_a_sender_of_much_does_not_stand_before_one_of_little(self):
        gate = threading.Event()
        self.addCleanup(gate.set)
        peer = self.sink(script={"end": lambda *_: gate.wait(120) and None})
        server = self.relay(peer, delivery={"site_connections": 1})
        for number in range(self.MANY):
            server.send("bulk@src.example", f"b{number}@far.example", CONTENT)
        peer.wait_for_stage("end")
        server.send("small@other.example", "reset@far.example", CONTENT)
        gate.set()
        peer.wait_for(self.MANY + 1)
        at = [message.sender for message in peer.messages].index("small@other.example")
        self.assertLess(at, 40)
        server.wait_until_empty()


class Silent(scenario.Scenario):
    SITES = 600
    PROMPT = 20  # seconds; a silent site would keep its connection for minutes

    def test_silent_sites_do_not_stop_good_mail(self):
        good = self.sink(address="127.0.0.2")
        addresses = [f"127.2.0.{n}" for n in range(1, 61)]
        self.using(Pit(addresses, good.port))
        text = "mx A 127.0.0.2\ngood MX 10 mx\nnew MX 10 mxnew\nmxnew A 127.0.0.2\n" + "".join(
            f"s{i} MX 10 m{i}\nm{i} A {addresses[i % len(addresses)]}\n" for i in range(self.SITES))
        knot = self.knot(test=text)
        server = self.daemon(dns={"servers": [knot.server]},
                             delivery={"port": good.port, "connections": 100})
        server.send("a@src.example", "a@good.test", CONTENT)
        good.wait_for(1)
        for first in range(0, self.SITES, 100):
            server.send("a@src.example", [f"a@s{i}.test" for i in range(first, first + 100)],
                        CONTENT)
        # Half of all, the last quarter of which is given out slowly.
        wait.until(lambda: self.connections(server) >= 37, "the places of strangers in use")
        for number in range(20):
            server.send("a@src.example", "a@good.test", CONTENT)
        good.wait_for(21, self.PROMPT)
        server.send("a@src.example", "a@new.test", CONTENT)  # nobody has seen it yet
        good.wait_for(22, self.PROMPT)
        self.assertGreaterEqual(self.connections(server), 20)  # they are silent still
        wait.until(lambda: self.connections(server) <= 50, "strangers keep to their half")
        server.wait_for_log("attempted", 22, verdict="sent")

    @staticmethod
    def connections(server):
        """Those that are not idle."""
        status = json.loads(server.postrider("status", "--json"))
        return status["connections"] - status["connections_idle"]


class SilentNames(scenario.Scenario):
    NAMES = 600
    PROMPT = 20  # seconds; a silent name server is asked for longer

    def test_names_that_nobody_answers_for_do_not_stop_good_mail(self):
        good = self.sink(address="127.0.0.2")
        answers = {("good.test.", "MX"): "10 mx.test.", ("new.test.", "MX"): "10 mx.test.",
                   ("mx.test.", "A"): "127.0.0.2"}

        def answer(name, kind, data):
            if name.endswith(".silent.test."):
                return None
            text = answers.get((name, kind))
            return nameserver.records((name, kind, 1, text))(data) if text else int(dns.rcode.NOERROR)
        names = self.using(nameserver.FakeServer(answer))
        server = self.daemon(dns={"servers": [names.server]}, delivery={"port": good.port})
        server.send("a@src.example", "a@good.test", CONTENT)
        good.wait_for(1)
        for first in range(0, self.NAMES, 100):
            server.send("a@src.example", [f"a@s{i}.silent.test" for i in range(first, first + 100)],
                        CONTENT)
        wait.until(lambda: len([1 for name, _ in names.questions if "silent" in name]) >= 100,
                   "a hundred questions that nobody answers")
        for number in range(5):
            server.send("a@src.example", "a@good.test", CONTENT)
        server.send("a@src.example", "a@new.test", CONTENT)  # nobody has asked for it yet
        good.wait_for(7, self.PROMPT)
        server.wait_for_log("attempted", 7, verdict="sent")


class OneSite(scenario.Scenario):
    PROMPT = 20  # seconds; a host that hangs there has five minutes

    def test_a_message_that_hangs_at_RCPT_holds_up_no_other_of_its_site(self):
        peer = self.sink()
        server = self.relay(peer)
        server.send("a@src.example", "first@far.example", CONTENT)
        peer.wait_for(1)
        peer.script["rcpt"] = lambda _, address: sink.HANG if address.startswith("hangs") else None
        server.send("a@src.example", "hangs@far.example", CONTENT)
        peer.wait_for_stage("rcpt", 2)
        for number in range(3):
            server.send("a@src.example", f"{number}@far.example", CONTENT)
        peer.wait_for(4, self.PROMPT)
        wait.until(lambda: [m["recipients"][0]["address"] for m in server.queue("--status", "active")]
                   == ["hangs@far.example"], "the one that hangs to be the only one under way")


class Hanging(scenario.Scenario):
    """A host that keeps its reply behind some messages, for ten minutes."""
    PROMPT = 20  # seconds
    BAD, GOOD = 8, 8

    def test_other_messages_of_the_site_go_on(self):
        def end(session, argument):
            return sink.HANG if session.recipients[0][0].startswith("hangs") else None
        peer = self.sink(script={"end": end})
        server = self.relay(peer, delivery={"site_connections": 4})
        server.send("a@src.example", "first@far.example", CONTENT)
        peer.wait_for(1)
        for number in range(self.BAD):
            server.send("a@src.example", f"hangs{number}@far.example", CONTENT)
        wait.until(lambda: len(peer.refused) >= 4, "all connections hang")
        for number in range(self.GOOD):
            server.send("a@src.example", f"good{number}@far.example", CONTENT)
        peer.wait_for(1 + self.GOOD, self.PROMPT)
        wait.until(lambda: len(peer.refused) == self.BAD, "each was sent")
        hanging = {f"hangs{number}@far.example" for number in range(self.BAD)}

        def active():
            return {m["recipients"][0]["address"] for m in server.queue("--status", "active")}
        # What has arrived is active until its end is stored.
        wait.until(lambda: active() == hanging, lambda: f"only those that hang are active, not {active() - hanging}")
        self.assertEqual(server.log("attempted", verdict="deferred"), [])


class Slow(scenario.Scenario):
    """A host that answers, but takes its time, beside many that say nothing."""
    SITES = 200
    TAKES = 12  # seconds for a reply to RCPT

    def test_a_slow_host_gets_its_mail_beside_silent_ones(self):
        slow = self.sink(address="127.0.0.2", script={
            "rcpt": lambda session, argument: sink.Late(self.TAKES, "250 2.1.5 ok")})
        addresses = [f"127.2.2.{n}" for n in range(1, 21)]
        self.using(Pit(addresses, slow.port))
        text = "slow MX 10 mx\nmx A 127.0.0.2\n" + "".join(
            f"s{i} MX 10 m{i}\nm{i} A {addresses[i % len(addresses)]}\n" for i in range(self.SITES))
        knot = self.knot(test=text)
        server = self.daemon(dns={"servers": [knot.server]},
                             delivery={"port": slow.port, "connections": 100})
        server.send("a@src.example", [f"a@s{i}.test" for i in range(self.SITES)], CONTENT)
        wait.until(lambda: Silent.connections(server) >= 37, "the places of strangers in use")
        server.send("a@src.example", "a@slow.test", CONTENT)
        slow.wait_for(1, 2 * wait.DEADLINE)
        self.assertEqual(len(slow.sessions), 1, "one conversation was enough")
        server.wait_for_log("attempted", verdict="sent", to="a@slow.test")


class Crowded(scenario.Scenario):
    """More sites than there are places at the address of all, and mail for each, sent at a steady rate."""
    SITES, MESSAGES = 30, 600
    SILENT = 40

    def test_a_connection_carries_what_it_was_opened_for(self):
        slow = self.sink(address="127.0.0.2", keep_content=False, script={
            "mail": lambda *_: sink.Late(0.2, "250 2.1.0 ok"), "data": lambda *_: sink.Late(0.2, "354 go on")})
        addresses = [f"127.2.3.{n}" for n in range(1, 5)]
        self.using(Pit(addresses, slow.port))
        text = "mx A 127.0.0.2\n" + "".join(f"d{i} MX 10 n{i}\nn{i} A 127.0.0.2\n" for i in range(self.SITES)) + "".join(
            f"s{i} MX 10 m{i}\nm{i} A {addresses[i % len(addresses)]}\n" for i in range(self.SILENT))
        knot = self.knot(test=text)
        server = self.daemon(dns={"servers": [knot.server]}, accept={"sessions_per_client": 100},
                             delivery={"port": slow.port, "connections": 60, "site_connections": 5})
        server.send("a@src.example", [f"a@s{i}.test" for i in range(self.SILENT)], CONTENT)

        def send(number):
            server.send("a@src.example", f"a{number}@d{number % self.SITES}.test", CONTENT)
        self.assertEqual(scenario.parallel(send, range(self.MESSAGES)), [])
        slow.wait_for(self.MESSAGES, 4 * wait.DEADLINE)
        self.assertLessEqual(len(slow.sessions), self.MESSAGES)


class Behind(scenario.Scenario):
    """Hosts that take a message and never say what became of it."""
    SITES = 60
    PROMPT = 20  # seconds; such a host keeps its connection for ten minutes

    def test_newcomers_beside_hosts_that_hang_behind_the_content(self):
        good = self.sink(address="127.0.0.2")
        addresses = [f"127.2.1.{n}" for n in range(1, 7)]
        hanging = [self.sink(address=address, port=good.port,
                             script={"end": lambda session, argument: sink.HANG})
                   for address in addresses]
        text = "".join(f"s{i} MX 10 m{i}\nm{i} A {addresses[i % len(addresses)]}\n"
                       for i in range(self.SITES))
        text += "".join(f"g{i} MX 10 mg{i}\nmg{i} A 127.0.0.2\n" for i in range(20))
        knot = self.knot(test=text)
        server = self.daemon(dns={"servers": [knot.server]},
                             delivery={"port": good.port, "connections": 100})
        for number in range(self.SITES):
            server.send("a@src.example", f"a@s{number}.test", CONTENT)
        wait.until(lambda: sum(len(one.refused) for one in hanging) >= 37, "sites that hang")
        for number in range(20):
            server.send("a@src.example", f"a@g{number}.test", CONTENT)
        good.wait_for(20, self.PROMPT)
        self.assertGreaterEqual(sum(len(one.refused) for one in hanging), 37)


class Verbs(scenario.Scenario):
    """What is told as done is done: nothing of it is sent afterwards."""
    MESSAGES = 60

    def check(self, verb):
        slow = self.sink(script={"data": lambda session, argument: sink.Late(0.1, "354 go on")})
        server = self.relay(slow, delivery={"site_connections": 1, "retry": ["1h"]})
        for number in range(self.MESSAGES):
            server.send("a@src.example", f"u{number}@far.example", CONTENT)
        slow.wait_for(3)
        told = json.loads(server.postrider("queue", verb, "--all", "--json"))
        self.assertLessEqual(told.get("under_way_messages", 0), 2, told)

        def arrived(domain):
            return sorted(address for message in slow.messages for address in message.addresses
                          if address.endswith(domain))

        if verb == "hold":
            # What was under way may be listed as held for an instant, until its end is stored.
            wait.until(lambda: [one["status"] for one in server.queue()] ==
                       ["held"] * told["messages"],
                       lambda: f"what was told, held: {told}; {server.queue()}")
        else:
            server.wait_until_empty()
        server.stop()
        sent = arrived("@far.example")
        self.assertEqual(len(sent), len(set(sent)))
        self.assertEqual(len(sent) + told["messages"], self.MESSAGES, told)
        logged = sorted(entry["to"] for entry in server.log("attempted", verdict="sent")
                        if entry["to"].endswith("@far.example"))
        self.assertEqual(logged, sent)
        notices = arrived("@src.example")
        self.assertEqual(len(notices), told["messages"] if verb == "bounce" else 0)

    def test_remove(self):
        self.check("remove")

    def test_hold(self):
        self.check("hold")

    def test_bounce(self):
        self.check("bounce")


class Ends(scenario.Scenario):
    def test_no_second_copy_beside_a_silent_host(self):
        good = [self.sink() for _ in range(4)]
        silent = self.sink(script={"end": lambda session, argument: sink.HANG})
        routes = [{"domain": f"d{i}.example", "next_hop": f"smtp://127.0.0.1:{one.port}"}
                  for i, one in enumerate(good + [silent])]
        server = self.daemon(route=routes)
        server.send("a@src.example", [f"u@d{i}.example" for i in range(5)], CONTENT)
        for one in good:
            one.wait_for(1)
        # Recorded: the listing names the fifth alone.
        wait.until(lambda: [r["address"] for m in server.queue() for r in m["recipients"]] ==
                   ["u@d4.example"], lambda: f"four ends recorded: {server.queue()}")
        server.kill()
        server.start()
        wait.until(lambda: len(silent.refused) >= 2, "the fifth tried again")
        for one in good:
            self.assertEqual(len(one.messages), 1)


if __name__ == "__main__":
    scenario.main()
