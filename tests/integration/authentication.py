#!/usr/bin/python3
"""Mail of strangers is checked by SPF, DKIM, ARC and DMARC, through a name server that tells the truth, fails or says
nothing; messages are signed by dkimpy. What is written on them, what is refused, and what a reload changes."""
import base64
import pathlib
import re
import subprocess

import dkim
import dns.rcode

from support_py import nameserver, scenario, smtp, wait

PLAIN = (b"From: Ann <ann@good.example>\r\nTo: b@far.example\r\nSubject: hello\r\n"
         b"Date: Mon, 23 Nov 2026 13:34:44 +0000\r\nMessage-ID: <1@good.example>\r\n\r\nHello.\r\n")
FORGED = (b"Authentication-Results: mx.us.example; dmarc=pass header.from=good.example\r\n"
          b"AUTHENTICATION-RESULTS :\r\n (x) MX.us.Example 1; spf=pass\r\n")
FOREIGN = b"Authentication-Results: mx.other.example; dkim=pass\r\n"


class Authentication(scenario.Scenario):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.key = str(cls.folder / "rsa.pem")
        subprocess.run(["openssl", "genrsa", "-traditional", "-out", cls.key, "2048"], check=True,
                       stderr=subprocess.DEVNULL)
        public = subprocess.run(["openssl", "rsa", "-in", cls.key, "-pubout", "-outform", "DER"], check=True,
                                stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout
        cls.record = "v=DKIM1; k=rsa; p=" + base64.b64encode(public).decode()

    def setUp(self):
        super().setUp()
        self.texts = {
            "s._domainkey.good.example.": self.record,
            "good.example.": "v=spf1 ip4:127.0.0.1 -all",
            "_dmarc.good.example.": "v=DMARC1; p=reject",
            "_dmarc.strict.example.": "v=DMARC1; p=reject",
            "bad.example.": "v=spf1 -all",
            **{f"i{i}.example.": f"v=spf1 include:i{i + 1}.example -all" for i in range(1000)}}
        self.addresses = {}  # (name, type): of the client and its name
        self.failing, self.silent = set(), set()
        self.names = self.using(nameserver.FakeServer(self.answer))
        self.peer = self.sink()

    def answer(self, name, kind, data):
        if name in self.silent:
            return None
        if name in self.failing:
            return int(dns.rcode.SERVFAIL)
        if name in self.texts and kind == "TXT":
            text = self.texts[name]
            parts = " ".join(f'"{text[at:at + 250]}"' for at in range(0, len(text), 250))
            return nameserver.records((name, "TXT", 1, parts))(data)
        if (name, kind) in self.addresses:
            return nameserver.records((name, kind, 1, self.addresses[name, kind]))(data)
        return int(dns.rcode.NOERROR if name in self.texts else dns.rcode.NXDOMAIN)

    def checking(self, relay_from=(), **settings):
        chosen = {"spf": True, "dkim": True, "arc": True, "dmarc": "reject"}
        chosen.update(settings)
        return self.relay(self.peer, dns={"servers": [self.names.server]}, authentication=chosen,
                          accept={"relay_from": list(relay_from), "relay_to": ["far.example"]})

    def reload(self, server, **changes):
        before = len(server.log("reloaded"))
        server.write_config(**changes)
        server.reload()
        server.wait_for_log("reloaded", before + 1)

    @staticmethod
    def peak(server):
        """The most octets that were ever resident."""
        text = pathlib.Path(f"/proc/{server.process.pid}/status").read_text()
        return int(re.search(r"VmHWM:\s+(\d+) kB", text).group(1)) * 1024

    def signed(self, message, domain="good.example"):
        return dkim.sign(message, b"s", domain.encode(), pathlib.Path(self.key).read_bytes(),
                         canonicalize=(b"relaxed", b"relaxed")) + message

    def hand_in(self, server, message, sender="ann@good.example", to="b@far.example"):
        with server.client() as client:
            client.hello("mx.good.example")
            return client.message(sender, [to], message)

    def arrived(self, count):
        return self.peer.wait_for(count)[-1].content

    def results(self, content):
        found = re.match(rb"Authentication-Results: (mx\.us\.example;(?:[^\r]|\r\n[ \t])*)\r\n", content)
        self.assertTrue(found, content[:300])
        return re.sub(rb"\s+", b" ", found.group(1)).decode()

    def test_sound_mail_and_forged_fields(self):
        server = self.checking()
        self.assertEqual(self.hand_in(server, FORGED + FOREIGN + self.signed(PLAIN)).code, 250)
        content = self.arrived(1)
        results = self.results(content)
        for part in ("spf=pass", "smtp.mailfrom=ann@good.example", "dkim=pass", "header.d=good.example", "dmarc=pass",
                     "header.from=good.example"):
            self.assertIn(part, results)
        self.assertEqual(content.lower().count(b"authentication-results"), 2, content)
        self.assertIn(b"\r\n" + FOREIGN + b"DKIM-Signature:", content)
        self.assertTrue(dkim.verify(content[content.index(b"DKIM-Signature"):],
                                    dnsfunc=lambda *_, **__: self.record.encode()))
        event, = server.wait_for_log("checked")
        self.assertEqual((event["spf"], event["dkim"], event["dmarc"], event["disposition"]),
                         ("pass", "pass", "pass", "none"))

    def test_what_is_judged_is_what_is_read(self):
        """A line that is no field ends the header, for those behind us too: what stands below it is seen by no check."""
        server = self.checking()
        fields, body = PLAIN.split(b"\r\n\r\n", 1)
        hidden = b"From: Ann <ann@strict.example>\r\nAuthentication-Results: mx.us.example; dmarc=pass\r\n"
        for number, (above, line) in enumerate(((b"Subject: x\r\n", b"garbage\r\n"), (fields + b"\r\n", b": x\r\n"),
                                                (fields + b"\r\n", b"X Y: 1\r\n"), (b"", b"garbage\r\n"))):
            self.assertEqual(self.hand_in(server, above + line + hidden + b"\r\n" + body).code, 250)
            header, rest = self.arrived(number + 1).split(b"\r\n\r\n", 1)
            self.assertNotIn(b"strict.example", header)
            self.assertEqual(header.count(b"Authentication-Results:"), 1)
            self.assertEqual(rest, line + hidden + b"\r\n" + body)

    def test_whether_the_name_of_the_client_leads_back_to_it(self):
        pointer = "1.0.0.127.in-addr.arpa."
        server = self.checking()
        back = {(pointer, "PTR"): "mx.good.example.", ("mx.good.example.", "A"): "127.0.0.1"}
        elsewhere = {**back, ("mx.good.example.", "A"): "192.0.2.9"}
        nowhere = {(pointer, "PTR"): "mx.good.example."}
        for number, (addresses, failing, result) in enumerate((
                (back, (), "iprev=pass (mx.good.example) policy.iprev=127.0.0.1;"),
                (elsewhere, (), "iprev=fail policy.iprev=127.0.0.1;"),
                (nowhere, (), "iprev=fail policy.iprev=127.0.0.1;"),
                ({}, (), "iprev=permerror policy.iprev=127.0.0.1;"),
                ({}, (pointer,), "iprev=temperror policy.iprev=127.0.0.1;"))):
            self.addresses, self.failing = addresses, set(failing)
            server.restart()  # which remembers no name
            self.assertEqual(self.hand_in(server, self.signed(PLAIN)).code, 250)
            results = self.results(self.arrived(number + 1))
            self.assertIn(result, results)
            self.assertIn("dmarc=pass", results)
        self.reload(server, accept={"client_names": False, "relay_from": [], "relay_to": ["far.example"]})
        self.assertEqual(self.hand_in(server, self.signed(PLAIN)).code, 250)
        self.assertNotIn("iprev", self.results(self.arrived(6)))

    def test_refused_marked_or_reported(self):
        message = PLAIN.replace(b"ann@good", b"ann@strict")
        server = self.checking()
        reply = self.hand_in(server, message)
        self.assertEqual((reply.code, reply.enhanced), (550, "5.7.1"))
        self.assertIn("DMARC", reply.text)
        self.assertEqual(self.hand_in(server, PLAIN, "ann@bad.example").code, 550)  # unaligned, and unsigned
        self.reload(server, authentication={"dmarc": "quarantine"})
        self.assertEqual(self.hand_in(server, message).code, 250)
        content = self.arrived(1)
        self.assertIn("dmarc=fail", self.results(content))
        self.assertIn(b"\r\nX-Postrider-Quarantine: DMARC (strict.example)\r\n", content)
        self.reload(server, authentication={"dmarc": "reject", "exceptions": ["inline:{strict.example=ok}"]})
        self.assertEqual(self.hand_in(server, message).code, 250)
        content = self.arrived(2)
        self.assertIn("dmarc=fail", self.results(content))
        self.assertNotIn(b"X-Postrider-Quarantine", content)
        status = server.postrider("status")
        self.assertIn("authentication refused", status)

    def test_trouble_with_dns_refuses_nothing(self):
        server = self.checking()
        self.failing.update(("_dmarc.strict.example.", "good.example.", "s._domainkey.good.example."))
        self.assertEqual(self.hand_in(server, self.signed(PLAIN)).code, 250)
        results = self.results(self.arrived(1))
        for part in ("spf=temperror", "dkim=temperror", "dmarc=temperror"):
            self.assertIn(part, results)
        self.assertEqual(self.hand_in(server, PLAIN.replace(b"ann@good", b"ann@strict")).code, 250)
        self.assertIn("dmarc=temperror", self.results(self.arrived(2)))

    def test_a_client_that_leaves_while_questions_are_open(self):
        server = self.checking()
        self.silent.add("s._domainkey.good.example.")
        client = server.client()
        client.hello("mx.good.example")
        client.begin("ann@good.example", ["b@far.example"])
        client.expect("DATA", 354)
        client.send(smtp.stuffed(self.signed(PLAIN)))
        wait.until(lambda: ("s._domainkey.good.example.", "TXT") in self.names.questions, "the question")
        client.abort()
        event, = server.wait_for_log("disconnected")
        self.assertEqual(event["reason"], "lost")
        self.silent.clear()
        self.assertEqual(self.hand_in(server, PLAIN).code, 250)  # as it comes again
        self.arrived(1)
        server.wait_until_empty()
        self.assertEqual(len(self.peer.messages), 1)

    def test_our_own_clients_and_bounded_questions(self):
        server = self.checking()
        self.assertEqual(self.hand_in(server, PLAIN.replace(b"ann@good", b"ann@i0"), "ann@i0.example").code, 250)
        self.assertIn("spf=permerror", self.results(self.arrived(1)))
        self.assertLess(len(self.names.questions), 60)
        self.reload(server, accept={"relay_from": ["127.0.0.0/8"]})
        self.assertEqual(self.hand_in(server, FORGED + PLAIN).code, 250)
        content = self.arrived(2)
        self.assertTrue(content.startswith(b"Received:"), content[:200])
        self.assertTrue(content.endswith(FORGED + PLAIN))

    def test_a_large_message_in_flat_memory(self):
        server = self.checking()
        line = b"x" * 70 + b"\r\n"
        message = self.signed(PLAIN + line * (50_000_000 // len(line)))
        before = self.peak(server)
        self.assertEqual(self.hand_in(server, message).code, 250)
        self.assertIn("dkim=pass", self.results(self.arrived(1)))
        self.assertLess(self.peak(server) - before, 30_000_000)


if __name__ == "__main__":
    scenario.main()
