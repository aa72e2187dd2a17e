#!/usr/bin/python3
"""Strangers are checked before their mail is taken: lists in the DNS, the client's name, EHLO, greylisting and policy
services, postgrey and policyd-spf among them. What is dead or broken is no reason to refuse."""
import os
import socket
import subprocess
import sys
import unittest

import dns.rcode

from support_py import nameserver, policy_service, scenario, smtp, unpacked, wait

PLAIN = b"From: Ann <ann@src.example>\r\nTo: b@far.example\r\nSubject: hello\r\n\r\nHello.\r\n"
REVERSED = "1.0.0.127"


class Checks(scenario.Scenario):
    def setUp(self):
        super().setUp()
        self.records, self.silent = {}, set()
        self.names = self.using(nameserver.FakeServer(self.answer))
        self.peer = self.sink()

    def answer(self, name, kind, data):
        if any(name.endswith(zone) for zone in self.silent):
            return None
        found = [(kind, value) for (known, type_), value in self.records.items() if known == name and type_ == kind]
        if found:
            return nameserver.records((name, kind, 60, found[0][1]))(data)
        exists = any(known == name for known, _ in self.records)
        return int(dns.rcode.NOERROR if exists else dns.rcode.NXDOMAIN)

    def checking(self, **checks):
        return self.relay(self.peer, dns={"servers": [self.names.server]}, checks=checks,
                          accept={"relay_from": [], "relay_to": ["far.example"]})

    def hand_in(self, server, to="b@far.example", sender="ann@src.example", helo="mx.src.example"):
        """The first reply that is no success, or that to the message."""
        with server.client() as client:
            client.hello(helo)
            reply = client.command(f"MAIL FROM:<{sender}>")
            if reply.code != 250:
                return reply
            reply = client.command(f"RCPT TO:<{to}>")
            if reply.code != 250:
                return reply
            reply = client.command("DATA")
            if reply.code != 354:
                return reply
            client.send(smtp.stuffed(PLAIN))
            return client.reply()

    def reload(self, server, **changes):
        before = len(server.log("reloaded"))
        server.write_config(**changes)
        server.reload()
        server.wait_for_log("reloaded", before + 1)

    def test_lists_with_scores(self):
        self.records[f"{REVERSED}.one.example.", "A"] = "127.0.0.4"
        self.records[f"{REVERSED}.one.example.", "TXT"] = '"see one.example/x"'
        self.records["src.example.names.example.", "A"] = "127.0.0.2"
        server = self.checking(client_lists=["one.example=127.0.0.[2..11]*2", "two.example*2"], refused_from=4)
        self.assertEqual(self.hand_in(server).code, 250)
        self.assertEqual(server.wait_for_log("client_checked")[0]["score"], "2")
        self.records[f"{REVERSED}.two.example.", "A"] = "127.0.0.2"
        self.assertEqual(self.hand_in(server).code, 250)  # what is known is not asked again
        self.reload(server, checks={"refused_from": 3})
        reply = self.hand_in(server)
        self.assertEqual((reply.code, reply.enhanced), (554, "5.7.1"))
        self.assertIn("client [127.0.0.1] is listed by one.example: see one.example/x", reply.text)
        self.assertEqual(self.hand_in(server, "postmaster@far.example").code, 250)
        self.records[f"{REVERSED}.good.example.", "A"] = "127.0.5.1"
        self.reload(server, checks={"client_lists": ["one.example*2", "good.example*-3"], "refused_from": 1,
                                    "greylist": True, "helo": "syntax"})
        self.assertEqual(self.hand_in(server, helo="nonsense").code, 250)  # it is welcome
        server.wait_for_log("client_checked", listed="one.example good.example")
        self.reload(server, checks={"client_lists": [], "domain_lists": ["names.example"], "greylist": False,
                                    "helo": "off"})
        self.assertIn("the sender's domain is listed by names.example", self.hand_in(server).text)
        self.assertEqual(self.hand_in(server, sender="x@other.example", helo="mx.other.example").code, 250)
        self.reload(server, checks={"report_only": True})
        self.assertEqual(self.hand_in(server).code, 250)
        self.assertIn("listed", server.wait_for_log("would_reject")[0]["reply"])
        self.assertRegex(server.postrider("status"), r"clients listed +3\n")

    def test_dead_and_broken_lists_are_no_verdict(self):
        self.records[f"{REVERSED}.broken.example.", "A"] = "127.255.255.254"
        self.records[f"{REVERSED}.made-up.example.", "A"] = "192.0.2.1"
        self.silent.add("dead.example.")
        server = self.checking(client_lists=["broken.example", "made-up.example", "dead.example"], time_limit="200ms")
        for _ in range(4):
            self.assertEqual(self.hand_in(server).code, 250)
        broken = {event["zone"] for event in server.wait_for_log("list_broken", 3)}
        self.assertEqual(broken, {"broken.example", "made-up.example", "dead.example"})
        asked = lambda: [name for name, _ in self.names.questions if not name.endswith(".arpa.")]
        before = len(asked())
        self.assertEqual(self.hand_in(server).code, 250)
        self.assertEqual(len(asked()), before)  # all of them are left alone

    def test_names_and_helo(self):
        server = self.checking(client_name="present", time_limit="10s")
        self.assertEqual(self.hand_in(server).enhanced, "5.7.25")
        pointer = f"{REVERSED}.in-addr.arpa."
        self.records[pointer, "PTR"] = "mx.src.example."
        self.assertEqual(self.hand_in(server).code, 250)
        self.reload(server, checks={"client_name": "confirmed"})
        self.assertEqual(self.hand_in(server).enhanced, "5.7.25")
        self.records["mx.src.example.", "A"] = "127.0.0.1"
        self.assertEqual(self.hand_in(server).code, 250)
        self.reload(server, checks={"client_name": "off", "helo": "syntax"})
        for helo, code in (("host", 550), ("mx.us.example", 550), ("[127.0.0.1]", 250), ("mx.gone.example", 250)):
            self.assertEqual(self.hand_in(server, helo=helo).code, code, helo)
        self.reload(server, checks={"helo": "present"})
        for helo, code in (("mx.gone.example", 550), ("mx.src.example", 250)):
            self.assertEqual(self.hand_in(server, helo=helo).code, code, helo)

    def test_names_of_clients(self):
        """In Received, in the log and in tables; what the DNS does not say is held against no client."""
        self.records[f"{REVERSED}.in-addr.arpa.", "PTR"] = "MX.src.example."
        self.records["mx.src.example.", "A"] = "127.0.0.1"
        server = self.checking()
        self.assertEqual(self.hand_in(server).code, 250)
        self.assertIn(b"from mx.src.example (mx.src.example [127.0.0.1])", self.peer.wait_for(1)[-1].content)
        self.assertEqual(server.wait_for_log("accepted")[-1]["client_name"], "mx.src.example")
        asked = len(self.names.questions)
        loops = os.cpu_count()  # at most; each keeps what it was told
        for _ in range(2 * loops):
            self.assertEqual(self.hand_in(server).code, 250)
        self.assertLessEqual(len(self.names.questions), loops * asked)
        for clients, code in (("mx.src.example=reject Not you", 550), (".example=defer Later", 450),
                              ("127.0.0.0/8=reject", 550), ("127.0.0.1=ok, .example=reject", 250),
                              ("unknown=reject", 250)):
            self.reload(server, checks={"clients": "inline:{%s}" % clients})
            self.assertEqual(self.hand_in(server).code, code, clients)
            self.assertEqual(self.hand_in(server, "postmaster@far.example").code, 250)
        table = server.folder / "clients"  # which it may read
        table.write_text("no line of it is right\n")
        self.reload(server, checks={"clients": f"text:{table}"})
        self.assertEqual(self.hand_in(server).code, 451)  # a table that cannot be asked
        self.reload(server, accept={"client_names": False}, checks={"clients": []})
        count = len(self.peer.messages)
        self.assertEqual(self.hand_in(server).code, 250)
        self.assertIn(b"from mx.src.example ([127.0.0.1])", self.peer.wait_for(count + 1)[-1].content)

    def test_names_that_lead_elsewhere(self):
        pointer = f"{REVERSED}.in-addr.arpa."
        self.records[pointer, "PTR"] = "mail.bank.example."
        self.records["mail.bank.example.", "A"] = "192.0.2.1"
        server = self.checking(clients="inline:{mail.bank.example=ok, unknown=reject Who are you}")
        reply = self.hand_in(server)
        self.assertEqual((reply.code, reply.text), (550, "5.7.1 Who are you"))
        self.assertEqual(server.wait_for_log("rejected")[-1]["client_name"], "unknown")
        self.assertRegex(server.postrider("status"), r"clients in table +1\n")

    def test_silent_servers_of_names(self):
        self.silent.add("in-addr.arpa.")
        server = self.checking(clients="inline:{unknown=reject}", client_name="confirmed", time_limit="200ms")
        for count in (1, 2):
            self.assertEqual(self.hand_in(server).code, 250)
            self.assertIn(b"(unknown [127.0.0.1])", self.peer.wait_for(count)[-1].content)
        self.assertTrue([name for name, kind in self.names.questions if kind == "PTR"])

    def test_limits_of_a_client(self):
        server = self.checking(messages_per_hour=2)
        self.assertEqual([self.hand_in(server).code for _ in range(3)], [250, 250, 450])
        self.reload(server, checks={"messages_per_hour": 0, "recipients_per_hour": 4})
        self.assertEqual([self.hand_in(server).code for _ in range(3)], [250, 250, 450])
        self.assertEqual(self.hand_in(server, "postmaster@far.example").code, 250)
        self.reload(server, checks={"recipients_per_hour": 0, "failures_per_hour": 3})
        with server.client() as client:
            client.hello()
            for _ in range(4):
                client.command("RCPT TO:<x@far.example>")
        wait.until(lambda: self.greeted(server).startswith("421 4.7.0"), "connections are refused")
        self.assertRegex(server.postrider("status"), r"clients over rate +[3-9]\n")
        self.reload(server, accept={"relay_from": ["127.0.0.0/8"]})
        self.assertEqual(self.hand_in(server).code, 250)  # one of ours has no such limit

    @staticmethod
    def greeted(server):
        with socket.create_connection(("127.0.0.1", server.port), wait.DEADLINE) as one:
            return one.makefile("r", encoding="ascii").readline()

    def test_who_talks_before_the_greeting(self):
        server = self.checking()
        self.reload(server, accept={"greeting_delay": "30s"})
        with socket.create_connection(("127.0.0.1", server.port), wait.DEADLINE) as one:
            one.sendall(b"EHLO spammer.example\r\n")
            self.assertTrue(one.makefile("r", encoding="ascii").readline().startswith("554"))
        with socket.create_connection(("127.0.0.1", server.port), wait.DEADLINE) as one:
            one.shutdown(socket.SHUT_WR)
            one.makefile("r", encoding="ascii").read()  # who hangs up is let go
        self.reload(server, accept={"greeting_delay": "200ms"})
        self.assertEqual(self.hand_in(server).code, 250)
        self.reload(server, accept={"greeting_delay": "30s", "relay_from": ["127.0.0.0/8"]})
        self.assertEqual(self.hand_in(server).code, 250)

    def test_greylisting(self):
        server = self.checking(greylist=True, greylist_delay="1s", greylist_successes=1)
        reply = self.hand_in(server)
        self.assertEqual((reply.code, reply.enhanced), (450, "4.2.0"))
        server.restart()  # which forgets nothing
        wait.until(lambda: self.hand_in(server).code == 250, "the end of the delay", pause=0.2)
        self.assertEqual(self.hand_in(server, sender="other@src.example").code, 250)  # the network is known now
        self.assertRegex(server.postrider("status"), r"greylist entries +2\n")

    def test_policy_services(self):
        answers = {"no@far.example": "REJECT not you", "later@far.example": "DEFER_IF_PERMIT 4.2.0 Come again",
                   "odd@far.example": "450 4.3.9 Odd", "bare@far.example": "550", "mark@far.example": "PREPEND X-Mark: 1",
                   "hold@far.example": "HOLD looks odd", "drop@far.example": "DISCARD",
                   "else@far.example": "REDIRECT there@far.example", "both@far.example": "BCC copy@far.example",
                   "unknown@far.example": "NONSENSE", "gone@far.example": policy_service.DROP}
        service = self.using(policy_service.PolicyService(answers))
        server = self.checking(policy_services=[service.address])
        refused = {to: self.hand_in(server, f"{to}@far.example") for to in ("no", "later", "odd", "bare", "unknown", "gone")}
        self.assertEqual({to: reply.code for to, reply in refused.items()},
                         {"no": 554, "later": 450, "odd": 450, "bare": 550, "unknown": 451, "gone": 451})
        self.assertEqual((refused["no"].text, refused["later"].text), ("5.7.1 not you", "4.2.0 Come again"))
        for count, (to, goes_to) in enumerate((("mark", ["mark"]), ("else", ["there"]), ("both", ["both", "copy"])), 1):
            self.assertEqual(self.hand_in(server, f"{to}@far.example").code, 250)
            message = self.peer.wait_for(count)[-1]
            self.assertEqual(sorted(message.addresses), [f"{one}@far.example" for one in goes_to])
            self.assertEqual(message.content.startswith(b"X-Mark: 1\r\n"), to == "mark")
        self.assertEqual(self.hand_in(server, "drop@far.example").code, 250)
        self.assertEqual(self.hand_in(server, "hold@far.example").code, 250)
        held, = server.queue()
        self.assertEqual(held["status"], "held")
        asked = service.asked[0]
        self.assertEqual((asked["request"], asked["protocol_state"], asked["client_address"], asked["helo_name"],
                          asked["sender"]),
                         ("smtpd_access_policy", "RCPT", "127.0.0.1", "mx.src.example", "ann@src.example"))
        self.reload(server, checks={"policy_default": "accept"})
        self.assertEqual(self.hand_in(server, "gone@far.example").code, 250)
        service.stop()
        self.assertEqual(self.hand_in(server).code, 250)

    def test_policy_services_before_and_behind_the_content(self):
        answers = {("DATA", "no@far.example"): "REJECT not at data", ("END-OF-MESSAGE", "late@far.example"): "450 4.2.0 Not now",
                   ("END-OF-MESSAGE", "hold@far.example"): "HOLD looks odd", ("DATA", "mark@far.example"): "PREPEND X-Data: 1",
                   ("END-OF-MESSAGE", "mark@far.example"): "PREPEND X-End: 1",
                   ("END-OF-MESSAGE", "drop@far.example"): "DISCARD", ("END-OF-MESSAGE", "gone@far.example"): policy_service.DROP}
        service = self.using(policy_service.PolicyService(answers))
        server = self.checking(policy_services=[service.address], policy_data_services=[service.address],
                               policy_end_services=[service.address])
        content = b"Subject: x\r\n\r\n" + b"0123456789abcdef\r\n" * 5000  # in many pieces
        with server.client() as client:
            client.hello("mx.src.example")
            for to in (["one@far.example"], ["one@far.example", "two@far.example"]):
                self.assertEqual(client.message("ann@src.example", to, content).code, 250)
            client.begin("ann@src.example", ["one@far.example"])
            client.send(f"BDAT {len(content)} LAST\r\n".encode() + content)
            self.assertEqual(client.reply().code, 250)
        wanted = [("RCPT", "one@far.example", "0", "0"), ("DATA", "one@far.example", "1", "0"),
                  ("END-OF-MESSAGE", "one@far.example", "1", str(len(content))),
                  ("RCPT", "one@far.example", "0", "0"), ("RCPT", "two@far.example", "0", "0"), ("DATA", "", "2", "0"),
                  ("END-OF-MESSAGE", "", "2", str(len(content)))]
        self.assertEqual([(one["protocol_state"], one["recipient"], one["recipient_count"], one["size"])
                          for one in service.asked], [*wanted, *wanted[:3]])
        self.assertEqual(service.connections, 1)
        ids = [one["queue_id"] for one in service.asked]
        self.assertEqual((ids[0], ids[1] != "", ids[1] == ids[2], ids[1] == ids[5]), ("", True, True, False))
        self.assertEqual(len({one["instance"] for one in service.asked[:3]}), 1)
        with server.client() as client:  # what it is announced to be
            client.hello("mx.src.example")
            client.command("MAIL FROM:<ann@src.example> SIZE=4711")
            client.command("RCPT TO:<no@far.example>")
            reply = client.command("DATA")
            self.assertEqual((reply.code, reply.text), (554, "5.7.1 not at data"))
        self.assertEqual([one["size"] for one in service.asked[-2:]], ["4711", "4711"])
        replies = {to: self.hand_in(server, f"{to}@far.example") for to in ("late", "hold", "drop", "gone", "mark")}
        self.assertEqual({to: reply.code for to, reply in replies.items()},
                         {"late": 450, "hold": 250, "drop": 250, "gone": 451, "mark": 250})
        self.assertEqual(replies["late"].text, "4.2.0 Not now")
        message, = [one for one in self.peer.wait_for(4) if one.addresses == ["mark@far.example"]]
        self.assertIn(b"X-Data: 1\r\nX-End: 1\r\n", message.content)
        held, = server.queue("--status", "held")
        self.assertEqual((held["status"], held["recipients"][0]["address"]), ("held", "hold@far.example"))

    def test_what_a_policy_service_says_is_done_or_the_mail_is_put_off(self):
        """At each moment: nothing goes on as if nothing had been said."""
        not_done = ("FILTER smtp:[127.0.0.1]:10025", "REDIRECT ann", "BCC", "PREPEND none", "reject_unauth_destination",
                    "250 fine", "354 ok", "600 x")
        for state in ("RCPT", "DATA", "END-OF-MESSAGE"):
            answers = {f"n{i}@far.example": action for i, action in enumerate(not_done)}
            answers |= {"else@far.example": "REDIRECT there@far.example", "both@far.example": "BCC copy@far.example",
                        "noted@far.example": "WARN looked at"}
            answers = {(state, to): action for to, action in answers.items()}
            service = self.using(policy_service.PolicyService(answers))
            second = self.using(policy_service.PolicyService({(state, "if@far.example"): "REJECT for good"}))
            service.answers |= {(state, "if@far.example"): "DEFER_IF_REJECT wait", (state, "later@far.example"): "DEFER_IF_PERMIT wait"}
            addresses = [service.address, second.address]
            server = self.checking(policy_services=addresses, policy_data_services=addresses,
                                   policy_end_services=addresses, policy_default="accept")
            before = len(self.peer.messages)
            with self.subTest(state=state):
                for i, action in enumerate(not_done):
                    reply = self.hand_in(server, f"n{i}@far.example")
                    self.assertEqual((reply.code, reply.text), (451, "4.3.5 Server configuration error - try again later"), action)
                failed = wait.until(lambda: (lambda log: log if len(log) >= len(not_done) else None)(
                    server.log("policy_failed")), "a line for each")
                self.assertRegex(failed[0]["error"], "^.FILTER smtp:.* is not performed here: .*milter.address")
                self.assertEqual(len(failed), len(not_done))
                self.assertEqual(self.hand_in(server, "noted@far.example").code, 250)
                self.assertEqual(server.wait_for_log("policy_said")[-1]["text"], "WARN looked at")
                self.assertEqual([self.hand_in(server, f"{to}@far.example").code for to in ("else", "both", "if", "later")],
                                 [250, 250, 450, 450])
                got = sorted(sorted(m.addresses) for m in self.peer.wait_for(before + 3)[before:])
                self.assertEqual(got, [["both@far.example", "copy@far.example"], ["noted@far.example"], ["there@far.example"]])
                server.wait_until_empty()
            server.stop()

    def test_421_and_521_end_the_session(self):
        for code in ("421 4.7.0", "521 5.7.1"):
            for state in ("RCPT", "DATA", "END-OF-MESSAGE"):
                service = self.using(policy_service.PolicyService({(state, "b@far.example"): f"{code} bye"}))
                server = self.checking(policy_services=[service.address], policy_data_services=[service.address],
                                       policy_end_services=[service.address])
                with self.subTest(state=state, code=code), server.client() as client:
                    client.hello("mx.src.example")
                    client.expect("MAIL FROM:<ann@src.example>", 250)
                    reply = client.command("RCPT TO:<b@far.example>")
                    if state != "RCPT":
                        reply = client.command("DATA")
                    if state == "END-OF-MESSAGE":
                        client.send(b"Subject: x\r\n\r\nbody\r\n.\r\n")
                        reply = client.reply()
                    self.assertEqual((f"{reply.code} {reply.text}"), f"{code} bye")
                    self.assertTrue(client.is_closed())
                self.assertEqual(server.queue(), [])
                server.stop()

    def test_one_connection_for_a_session(self):
        service = self.using(policy_service.PolicyService(questions=2))
        server = self.checking(policy_services=[service.address])
        with server.client() as client:
            client.hello("mx.src.example")
            for _ in range(2):
                client.begin("ann@src.example", ["b@far.example", "c@far.example"])
                client.command("RSET")
        self.assertEqual((service.connections, len(service.asked)), (2, 4))
        instances = [one["instance"] for one in service.asked]
        self.assertEqual((instances[0] == instances[1], instances[1] == instances[2]), (True, False))

    def program(self, words, port, environment):
        process = subprocess.Popen(words, env={**os.environ, **environment}, stdin=subprocess.DEVNULL,
                                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        wait.until(lambda: answers(port), f"{words[0]} at port {port}")
        return process

    def test_postgrey(self):
        root = unpacked.root("postgrey", "libnet-server-perl", "libberkeleydb-perl", "libio-multiplex-perl",
                             "libnet-dns-perl", "libparse-syslog-perl")
        folder, port = self.own_folder("postgrey"), wait.free_port()
        (folder / "none").touch()
        library = [str(root / "usr/share/perl5"), *map(str, (root / "usr/lib").glob("*/perl5/*"))]
        # It is tainted, and looks at no environment.
        paths = [word for path in library for word in ("-I", path)]
        self.program(["perl", "-T", *paths, str(root / "usr/sbin/postgrey"), f"--inet=127.0.0.1:{port}", f"--dbdir={folder}", "--delay=1",
                      f"--whitelist-clients={folder}/none", f"--whitelist-recipients={folder}/none", "--user=root",
                      "--group=root"], port, {})
        server = self.checking(policy_services=[f"127.0.0.1:{port}"])
        self.assertEqual(self.hand_in(server).code, 450)
        wait.until(lambda: self.hand_in(server).code == 250, "the end of the delay", pause=0.3)
        self.assertTrue(self.peer.wait_for(1)[0].content.startswith(b"X-Greylist: delayed "))

    def test_policyd_spf(self):
        root = unpacked.root("postfix-policyd-spf-python", "python3-spf-engine", "python3-authres", "python3-spf")
        if not (root / "usr/bin/policyd-spf").exists():
            raise unittest.SkipTest("policyd-spf cannot be had")
        folder, port = self.own_folder("spf"), wait.free_port()
        (folder / "conf").write_text("debugLevel = 0\nHELO_reject = Fail\nMail_From_reject = Fail\nskip_addresses = 192.0.2.0/24\n"
                                     "Header_Type = SPF\n", "utf-8")
        # It is started by Postfix's spawn(8), with its question on standard input.
        self.program([sys.executable, "-c", SPAWN, str(port), sys.executable, str(root / "usr/bin/policyd-spf"),
                      str(folder / "conf")], port,
                     {"PYTHONPATH": str(root / "usr/lib/python3/dist-packages")})
        server = self.checking(policy_services=[f"127.0.0.1:{port}"])
        self.assertEqual(self.hand_in(server, sender="", helo="mx.none.invalid").code, 250)
        self.assertIn(b"Received-SPF: ", self.peer.wait_for(1)[0].content)


def answers(port):
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True


SPAWN = r"""
import socket, subprocess, sys
listener = socket.create_server(('127.0.0.1', int(sys.argv[1])))
while True:
    one, _ = listener.accept()
    with one:
        subprocess.Popen(sys.argv[2:], stdin=one.fileno(), stdout=one.fileno())
"""


if __name__ == "__main__":
    scenario.main()
