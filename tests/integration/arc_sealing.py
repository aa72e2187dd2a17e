#!/usr/bin/python3
"""Mail of strangers that an alias or a .forward sends on to another system is sealed (ARC), and dkimpy agrees: one
forwarder and two in a row, small and large; what came broken is not sealed as sound, what could not be checked not at all."""
import base64
import re
import subprocess
import sys

import dkim
import dns.rcode

from support_py import daemon, nameserver, scenario, wait

PLAIN = (b"From: Ann <ann@a.example>\r\nTo: out@us.example\r\nSubject: hello\r\n"
         b"Date: Mon, 23 Nov 2026 13:34:44 +0000\r\nMessage-ID: <1@a.example>\r\n\r\nHello.\r\n")
LARGE = PLAIN + b"A line of some length that fills it up, up and up.\r\n" * 40000


class Sealing(scenario.Scenario):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.keys, cls.records = cls.folder / "keys", {}
        for domain in ("us.example", "far.example"):
            (cls.keys / domain).mkdir(parents=True)
            key = cls.keys / domain / "s1.pem"
            subprocess.run(["openssl", "genrsa", "-out", str(key), "2048"], check=True, stderr=subprocess.DEVNULL)
            key.chmod(0o600)
            public = subprocess.run(["openssl", "rsa", "-in", str(key), "-pubout", "-outform", "DER"], check=True,
                                    stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout
            cls.records[f"s1._domainkey.{domain}."] = "v=DKIM1; k=rsa; p=" + base64.b64encode(public).decode()
        cls.records["a.example."] = "v=spf1 ip4:127.0.0.1 -all"

    def setUp(self):
        super().setUp()
        self.failing = set()
        self.names = self.using(nameserver.FakeServer(self.answer))
        self.peer = self.sink()

    def answer(self, name, kind, data):
        if name in self.failing:
            return int(dns.rcode.SERVFAIL)
        if name not in self.records:
            return int(dns.rcode.NXDOMAIN)
        if kind != "TXT":
            return int(dns.rcode.NOERROR)
        text = self.records[name]
        parts = " ".join(f'"{text[at:at + 250]}"' for at in range(0, len(text), 250))
        return nameserver.records((name, "TXT", 1, parts))(data)

    def settings(self, **changes):
        return daemon.merged({
            "accept": {"relay_from": ["192.0.2.1/32"]}, "dns": {"servers": [self.names.server]},
            "authentication": {"spf": True, "dkim": True}, "dkim": {"folder": str(self.keys)},
            "local": {"srs": True, "arc": True, "arc_domain": "us.example"},
            "route": [{"domain": "*", "next_hop": f"smtp://127.0.0.1:{self.peer.port}", "tls": "off"}]}, changes)

    def forwarder(self, aliases="out: x@far.example\n", **changes):
        server = daemon.Postrider(self.own_folder("forwarder"), **self.settings(**changes))
        (server.folder / "aliases").write_text(aliases)
        return self.using(server).start()

    def send(self, server, content=PLAIN, to="out@us.example", sender="ann@a.example"):
        before = len(self.peer.messages)
        reply = server.send(sender, [to], content)
        self.assertEqual(reply.code, 250, reply)
        return self.peer.wait_for(before + 1)[before].content

    def dns_of_dkimpy(self, name, timeout=5):
        return self.records.get(name.decode() if isinstance(name, bytes) else name, "").encode() or None

    def arc(self, content):
        """What dkimpy says, and cv of each seal from the newest on."""
        state, _, _ = dkim.arc_verify(content, dnsfunc=self.dns_of_dkimpy)
        seals = re.findall(rb"(?mis)^ARC-Seal:(.*?)\r\n(?![ \t])", content)
        return state, [re.search(rb"cv=(\w+)", seal)[1] for seal in seals]

    def test_one_forwarder(self):
        server = self.forwarder()
        for content in (PLAIN, LARGE):
            sent = self.send(server, content)
            self.assertEqual(self.arc(sent), (b"pass", [b"none"]))
            found = re.search(rb"(?mis)^ARC-Authentication-Results: i=1;(.*?)\r\n(?![ \t])", sent)[1]
            for word in (b"mx.us.example", b"spf=pass", b"dkim=none", b"arc=none"):
                self.assertIn(word, found)
            self.assertEqual(self.arc(sent + b"changed\r\n")[0], b"fail")

    def test_what_is_not_sealed(self):
        server = self.forwarder(f"out: x@far.example\nhere: {daemon.USER}\n")
        self.assertEqual(server.send("ann@a.example", ["here@us.example"], PLAIN).code, 250)
        mail, = server.wait_for_mail(1)
        self.assertNotIn(b"ARC-Seal", mail)  # it stays here
        server.sendmail("-f", "ann@a.example", "out@us.example", stdin=PLAIN.replace(b"\r", b""))
        own, = self.peer.wait_for(1)
        self.assertNotIn(b"ARC-Seal", own.content)  # of a user of ours
        forged = (b"Authentication-Results: mx.us.example; spf=pass smtp.mailfrom=bank.example; dmarc=pass\r\n"
                  b"Authentication-Results: mx.us.example; arc=pass\r\n")
        sent = self.send(server, forged + PLAIN, sender="ann@none.example")
        self.assertEqual(self.arc(sent), (b"pass", [b"none"]))
        self.assertNotIn(b"bank.example", sent)

    def chain(self):
        """us.example sends on to far.example, and that to self.peer."""
        port = wait.free_port()
        second = daemon.Postrider(
            self.own_folder("second"), hostname="mx.far.example", listeners=[{"address": f"127.0.0.1:{port}"}],
            **daemon.merged(self.settings(), {"local": {"domains": ["far.example"], "arc_domain": "far.example"}}))
        second.port = port
        (second.folder / "aliases").write_text("x: y@last.example\n")
        self.using(second).start()
        rest = {"domain": "*", "next_hop": f"smtp://127.0.0.1:{self.peer.port}", "tls": "off"}
        first = self.forwarder(route=[{"domain": "far.example", "next_hop": f"smtp://127.0.0.1:{port}", "tls": "off"},
                                      rest])
        return first, second

    def test_two_in_a_row(self):
        first, second = self.chain()
        sent = self.send(first)
        self.assertEqual(self.arc(sent), (b"pass", [b"pass", b"none"]))
        found = re.search(rb"(?mis)^ARC-Authentication-Results: i=2;(.*?)\r\n(?![ \t])", sent)[1]
        self.assertIn(b"arc=pass", found)
        # As it left the first one, and changed on the way.
        once = sent[sent.index(b"ARC-Seal: i=1;"):]
        broken = self.send(second, once + b"changed\r\n", to="x@far.example")
        self.assertEqual(self.arc(broken)[1], [b"fail", b"none"])
        self.assertNotEqual(self.arc(broken)[0], b"pass")
        # Whose end has been said already.
        ended = re.sub(rb"(?m)^Delivered-To: .*\r\n", b"", broken[broken.index(b"ARC-Seal: i=2;"):])
        again = self.send(second, ended, to="x@far.example")
        self.assertEqual(self.arc(again)[1], [b"fail", b"none"])
        self.assertIn("had failed before", second.wait_for_log("address_problem")[-1]["problem"])

    def test_a_chain_that_cannot_be_checked_goes_on_as_it_is(self):
        first, second = self.chain()
        sent = self.send(first)
        once = sent[sent.index(b"ARC-Seal: i=1;"):]
        self.failing.add("s1._domainkey.us.example.")
        second.restart()  # it remembers what the DNS said
        again = self.send(second, once, to="x@far.example")
        self.assertEqual(self.arc(again), (b"pass", [b"none"]))

    def test_without_a_key_it_goes_on(self):
        server = self.forwarder(local={"arc_domain": "other.example"})
        self.assertNotIn(b"ARC-Seal", self.send(server))
        self.assertIn("no DKIM key of other.example", server.wait_for_log("address_problem")[-1]["problem"])
        server.write_config(dkim={"folder": ""})
        done = server.tool("postrider", "check", check=False)
        self.assertEqual(done.returncode, 78)
        self.assertIn("local.arc", done.stdout + done.stderr)


if __name__ == "__main__":
    scenario.main()
