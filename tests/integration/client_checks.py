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
            client.expect(f"MAIL FROM:<{sender}>", 250)
            reply = client.command(f"RCPT TO:<{to}>")
            if reply.code != 250:
                return reply
            client.expect("DATA", 354)
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
        self.assertRegex(server.postrider("status"), r"clients_listed +3\n")

    def test_dead_and_broken_lists_are_no_verdict(self):
        self.records[f"{REVERSED}.broken.example.", "A"] = "127.255.255.254"
        self.records[f"{REVERSED}.made-up.example.", "A"] = "192.0.2.1"
        self.silent.add("dead.example.")
        server = self.checking(client_lists=["broken.example", "made-up.example", "dead.example"], time_limit="200ms")
        for _ in range(4):
            self.assertEqual(self.hand_in(server).code, 250)
        broken = {event["zone"] for event in server.wait_for_log("list_broken", 3)}
        self.assertEqual(broken, {"broken.example", "made-up.example", "dead.example"})
        before = len(self.names.questions)
        self.assertEqual(self.hand_in(server).code, 250)
        self.assertEqual(len(self.names.questions), before)  # all of them are left alone

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

    def test_greylisting(self):
        server = self.checking(greylist=True, greylist_delay="1s", greylist_successes=1)
        reply = self.hand_in(server)
        self.assertEqual((reply.code, reply.enhanced), (450, "4.2.0"))
        server.restart()  # which forgets nothing
        wait.until(lambda: self.hand_in(server).code == 250, "the end of the delay", pause=0.2)
        self.assertEqual(self.hand_in(server, sender="other@src.example").code, 250)  # the network is known now
        self.assertRegex(server.postrider("status"), r"greylist_entries +2\n")

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
