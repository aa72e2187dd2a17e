#!/usr/bin/python3
"""Where mail goes by the configuration: routes, address families, and listeners that are not plain
TCP ports."""
import os
import socket
import sqlite3
import subprocess

from support_py import daemon, scenario, sink, smtp, wait
from support_py.daemon import USER

CONTENT = b"From: <a@us.example>\r\nSubject: routes\r\n\r\nx\r\n"


class Routes(scenario.Scenario):
    def test_the_first_match_wins_and_patterns_mean_what_they_say(self):
        exact, below, rest = self.sink(), self.sink(), self.sink()
        server = self.daemon(route=[
            {"domain": "far.example", "next_hop": f"smtp://127.0.0.1:{exact.port}"},
            {"domain": ".far.example", "next_hop": f"smtp://[127.0.0.1]:{below.port}"},
            {"domain": "gone.example", "next_hop": "error:5.1.2 This domain moved away"},
            {"domain": "hole.example", "next_hop": "discard:"},
            {"domain": "*", "next_hop": f"smtp://localhost:{rest.port}"}],
            dns={"servers": [self.knot(localhost="@ A 127.0.0.1").server]})
        for domain in ("far.example", "FAR.example", "a.far.example", "b.a.far.example",
                       "notfar.example", "hole.example", "gone.example"):
            server.send(f"{USER}@us.example", f"u@{domain}", CONTENT)
        exact.wait_for(2)
        below.wait_for(2)
        rest.wait_for(1)
        notice, = server.wait_for_mail(1)
        server.wait_until_empty()
        self.assertIn(b"This domain moved away", notice)
        self.assertIn(b"Status: 5.1.2", notice)
        self.assertEqual([len(one.messages) for one in (exact, below, rest)], [2, 2, 1])
        self.assertEqual(rest.messages[0].addresses, ["u@notfar.example"])

    def test_recipients_of_one_message_part_ways(self):
        one, two = self.sink(), self.sink()
        server = self.daemon(route=[
            {"domain": "one.example", "next_hop": f"smtp://127.0.0.1:{one.port}"},
            {"domain": "*", "next_hop": f"smtp://127.0.0.1:{two.port}"}])
        server.send("a@us.example", ["x@one.example", "y@two.example", "z@one.example",
                                     f"{USER}@us.example"], CONTENT)
        self.assertEqual(one.wait_for(1)[0].addresses, ["x@one.example", "z@one.example"])
        self.assertEqual(two.wait_for(1)[0].addresses, ["y@two.example"])
        server.wait_for_mail(1)
        server.wait_until_empty()

    def test_by_sender(self):
        ann, shop, notices, rest = (self.sink() for _ in range(4))
        server = self.daemon(route=[
            {"domain": "*", "from": ["ann@src.example"], "next_hop": f"smtp://127.0.0.1:{ann.port}"},
            {"domain": "*", "from": ["shop.example", ".shop.example"], "next_hop": f"smtp://127.0.0.1:{shop.port}"},
            {"domain": "*", "from": "<>", "next_hop": f"smtp://127.0.0.1:{notices.port}"},
            {"domain": "*", "next_hop": f"smtp://127.0.0.1:{rest.port}"}])
        for sender in ("ann@src.example", "bob@src.example", "x@shop.example", "X@Mail.SHOP.example", "",
                       "x@notshop.example"):
            self.assertEqual(server.send(sender, ["one@far.example", "two@far.example"], CONTENT).code, 250)
        server.wait_until_empty()
        self.assertEqual([sorted(message.sender for message in one.messages) for one in (ann, shop, notices, rest)],
                         [["ann@src.example"], ["X@Mail.SHOP.example", "x@shop.example"], [""],
                          ["bob@src.example", "x@notshop.example"]])
        self.assertTrue(all(len(message.addresses) == 2 for message in rest.messages))
        said = server.postrider("explain", "one@far.example")
        self.assertIn(f"127.0.0.1:{rest.port}", said)
        self.assertIn("some senders", said)

    def test_mail_of_one_sender_waits_and_that_of_others_goes(self):
        rest = self.sink()
        dead = wait.free_port()
        server = self.daemon(route=[
            {"domain": "*", "from": "ann@src.example", "next_hop": f"smtp://127.0.0.1:{dead}"},
            {"domain": "*", "next_hop": f"smtp://127.0.0.1:{rest.port}"}])
        server.send("ann@src.example", "one@far.example", CONTENT)
        server.wait_for_log("site_blocked")
        server.send("bob@src.example", "one@far.example", CONTENT)
        rest.wait_for(1)
        alive = self.using(sink.Sink(port=dead))
        self.assertEqual(alive.wait_for(1)[0].sender, "ann@src.example")
        server.wait_until_empty()

    @staticmethod
    def said(peer, stage, session=None):
        return [event.argument for event in peer.events
                if event.stage == stage and session in (None, event.session)]

    def test_source_and_helo(self):
        """What other servers see: the connection's address, the name, and nothing shared with other mail."""
        peer = self.sink()
        hop = f"smtp://127.0.0.1:{peer.port}"
        server = self.daemon(delivery={"idle": "1m"}, route=[
            {"domain": "*", "from": "shop.example", "next_hop": hop, "source": ["127.0.0.7"], "helo": "shop.us.example"},
            {"domain": "gone.example", "next_hop": hop, "source": "192.0.2.1"},
            {"domain": "*", "next_hop": hop}])
        for number, (sender, address, name) in enumerate((
                ("a@shop.example", "127.0.0.7", "shop.us.example"), ("b@src.example", "127.0.0.1", "mx.us.example"),
                ("c@shop.example", "127.0.0.7", "shop.us.example")), 1):
            server.send(sender, "x@far.example", CONTENT)
            message = peer.wait_for(number)[-1]
            self.assertEqual(self.said(peer, "connect", message.session), [address])
            self.assertEqual(self.said(peer, "ehlo", message.session), [name])
        self.assertEqual(len(self.said(peer, "connect")), 2)
        server.send("d@src.example", "x@gone.example", CONTENT)
        # The address is missing here, which says nothing of the host.
        wait.until(lambda: [to for to in server.queue()[0]["recipients"]
                            if "Cannot assign" in to.get("delay_reason", "")], "the reason")
        self.assertEqual(server.log("site_blocked"), [])

    def test_a_family_without_a_source_is_not_used(self):
        server = self.start_with_both_families("both MX 10 mxb\nmxb AAAA ::1\nmxb A 127.0.1.21")
        six = self.using(sink.Sink(address="::1", port=self.four.port))
        server.write_config(route=[{"domain": "*", "next_hop": "mx", "source": "127.0.0.9"}])
        server.restart()
        for _ in range(6):
            server.send("a@us.example", "b@both.example", CONTENT)
        self.four.wait_for(6)
        self.assertEqual(six.messages, [])
        self.assertEqual(set(self.said(self.four, "connect")), {"127.0.0.9"})

    def test_a_map(self):
        one, two, rest = self.sink(), self.sink(), self.sink()
        table = self.own_folder("tables") / "routes"
        table.write_text(f"ann@far.example smtp://127.0.0.1:{one.port}\n"
                         f"far.example      smtp://127.0.0.1:{two.port}\n"
                         f".far.example     error:5.1.2 This domain moved away\n"
                         f"hole.example     discard:\n")
        server = self.daemon(delivery={"route_map": f"text:{table}"}, route=[
            {"domain": "*", "next_hop": f"smtp://127.0.0.1:{rest.port}"}])
        for to in ("ann@far.example", "ann+tag@far.example", "bob@far.example", "x@a.far.example", "x@hole.example",
                   "x@other.example"):
            server.send(f"{USER}@us.example", to, CONTENT)
        server.wait_until_empty()
        self.assertEqual([sorted(to for message in peer.messages for to in message.addresses)
                          for peer in (one, two, rest)],
                         [["ann+tag@far.example", "ann@far.example"], ["bob@far.example"], ["x@other.example"]])
        self.assertIn(b"This domain moved away", server.wait_for_mail(1)[0])
        said = server.postrider("explain", "ann@far.example")
        self.assertIn(f"delivery.route_map -> smtp://127.0.0.1:{one.port}", said)
        # Whole addresses of one message part ways, and a change of the file counts at once.
        server.send("a@us.example", ["ann@far.example", "bob@far.example"], CONTENT)
        one.wait_for(3)
        two.wait_for(2)
        beside = table.with_name("new")
        beside.write_text(f"far.example smtp://127.0.0.1:{one.port}\n")
        beside.rename(table)
        wait.until(lambda: f":{one.port}" in server.postrider("explain", "bob@far.example"), "the new table")

    def test_a_map_that_cannot_be_asked_puts_mail_off(self):
        rest = self.sink()
        folder = self.own_folder("tables")
        (folder / "routes.db").write_bytes(b"no database")
        server = self.daemon(delivery={"route_map": f"sqlite:{folder}/routes.db?SELECT hop FROM routes WHERE name = ?"},
                             route=[{"domain": "*", "next_hop": f"smtp://127.0.0.1:{rest.port}"}])
        server.send("a@us.example", "b@far.example", CONTENT)
        deferred = server.wait_for_log("attempted")[0]
        self.assertEqual(deferred["dsn"][:4], "4.3.", deferred)
        self.assertEqual(rest.messages, [])
        (folder / "fresh.db").unlink(missing_ok=True)
        with sqlite3.connect(folder / "fresh.db") as database:
            database.execute("CREATE TABLE routes (name TEXT, hop TEXT)")
            database.execute("INSERT INTO routes VALUES ('far.example', 'mx')")
            database.execute("UPDATE routes SET hop = ?", (f"smtp://127.0.0.1:{rest.port}",))
        database.close()
        (folder / "fresh.db").rename(folder / "routes.db")
        rest.wait_for(1)
        server.wait_until_empty()

    def test_LMTP(self):
        """RFC 2033: one reply for each recipient behind the content"""
        peer = self.using(Lmtp({"b@far.example": "550 5.2.1 mailbox b is closed"}))
        server = self.daemon(route=[
            {"domain": "*", "next_hop": f"lmtp://127.0.0.1:{peer.port}"}])
        server.send(f"{USER}@us.example", ["a@far.example", "b@far.example", "c@far.example"],
                    CONTENT)
        notice, = server.wait_for_mail(1)
        server.wait_until_empty()
        self.assertEqual(peer.accepted, ["a@far.example", "c@far.example"])
        self.assertIn(b"550 5.2.1 mailbox b is closed", notice)
        self.assertNotIn(b"rfc822; a@far.example", notice)

    def start_with_both_families(self, zone):
        self.four, = sink.with_same_port(["127.0.1.21"])
        self.using(self.four)
        return self.daemon(dns={"servers": [self.knot(example=zone).server]},
                           delivery={"port": self.four.port, "retry": ["1s"]})

    def test_a_host_with_IPv6_alone(self):
        server = self.start_with_both_families("six MX 10 mx6\nmx6 AAAA ::1")
        six = self.using(sink.Sink(address="::1", port=self.four.port))
        server.send("a@us.example", "b@six.example", CONTENT)
        six.wait_for(1)

    def test_a_family_that_refuses_falls_back_to_the_other(self):
        server = self.start_with_both_families("both MX 10 mxb\nmxb AAAA ::1\nmxb A 127.0.1.21")
        server.send("a@us.example", "b@both.example", CONTENT)
        self.four.wait_for(1)
        self.assertEqual(server.log("attempted", verdict="deferred"), [])


class Listeners(scenario.Scenario):
    def test_a_Unix_socket(self):
        folder = self.own_folder("unix")
        server = self.daemon(listeners=[{"address": f"unix:{folder}/smtp", "role": "mx",
                                         "tls": "off"}])
        client = smtp.Client.__new__(smtp.Client)
        client.socket = socket.socket(socket.AF_UNIX)
        client.socket.settimeout(wait.DEADLINE)
        client.socket.connect(f"{folder}/smtp")
        client.buffer = b""
        with client:
            self.assertEqual(client.reply().code, 220)
            client.hello()
            self.assertEqual(client.message("a@ext.example", [f"{USER}@us.example"], CONTENT).code,
                             250)
        server.wait_for_mail(1)

    def test_a_socket_from_systemd(self):
        """LISTEN_FDS: the descriptors begin at 3, LISTEN_PID is the daemon's own number"""
        listening = socket.create_server(("127.0.0.1", 0))
        port = listening.getsockname()[1]
        server = self.daemon(start=False, listeners=[{"address": "systemd:smtp", "role": "mx",
                                                      "tls": "off"}])
        descriptor = listening.fileno()
        script = ('import os, sys\nd = int(sys.argv[1])\nos.dup2(d, 3)\n'
                  'os.environ.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid()), '
                  'LISTEN_FDNAMES="smtp")\nos.execv(sys.argv[2], sys.argv[2:])\n')
        with open(server.stderr_file, "ab") as errors:
            server.process = subprocess.Popen(
                ["/usr/bin/python3", "-c", script, str(descriptor), str(daemon.BIN / "postrider"),
                 "run", "-c", str(server.config_file)], stdin=subprocess.DEVNULL, stdout=errors,
                stderr=errors, env=server.environment(), pass_fds=[descriptor, 3]
                if os.path.exists("/proc/self/fd/3") else [descriptor])
        listening.close()
        reply = smtp.send(port, "a@ext.example", f"{USER}@us.example", CONTENT)
        self.assertEqual(reply.code, 250)
        server.wait_for_mail(1)
        server.stop()

    def test_two_listeners_of_both_families(self):
        port = wait.free_port(("127.0.0.1", "::1"))
        self.daemon(listeners=[{"address": f"127.0.0.1:{port}", "tls": "off"},
                               {"address": f"[::1]:{port}", "tls": "off"}])
        for address in ("127.0.0.1", "::1"):
            reply = smtp.send(port, "a@ext.example", f"{USER}@us.example", CONTENT,
                              address=address)
            self.assertEqual(reply.code, 250)


class Lmtp(sink.Sink):
    """LHLO instead of EHLO, and as many replies at the end as recipients."""

    def __init__(self, refused):
        self.refused_addresses = refused
        self.accepted = []
        super().__init__()

    def new_session(self):
        session = LmtpSession(self)
        self.sessions.append(session)
        return session


class LmtpSession(sink.Session):
    def on_lhlo(self, argument):
        self.on_ehlo(argument)

    def on_ehlo(self, argument):
        if self.sink.events[-1].stage == "ehlo":
            return self.say("500 5.5.1 this is LMTP")
        return super().on_ehlo(argument)

    def finish(self, content, wire):
        for address, _ in self.recipients:
            refusal = self.sink.refused_addresses.get(address)
            if refusal is None:
                self.sink.accepted.append(address)
            self.say(refusal or "250 2.0.0 delivered")
        self.reset()


if __name__ == "__main__":
    scenario.main()
