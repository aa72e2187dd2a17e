#!/usr/bin/python3
"""The filters that people run, over our milter connection: rspamd, clamav-milter, spamass-milter. What they refuse is
refused, what they write stands in the message, and Postfix with the same filters makes the same of the same mail. A
message that was signed, forwarded with a sender of ours and sealed passes rspamd at the far end."""
import base64
import re
import subprocess

import dkim
import dns.rcode

from support_py import daemon, filter_programs, nameserver, scenario, smtp
from support_py.filter_programs import EICAR, GTUBE
from support_py.remote_postfix import Postfix

HEADER = (b"From: Ann <ann@good.example>\r\nTo: b@far.example\r\nSubject: %s\r\n"
          b"Date: Mon, 23 Nov 2026 13:34:44 +0000\r\nMessage-ID: <1@good.example>\r\n")
PLAIN = HEADER % b"hello" + b"\r\nHello, this is a message of some words for you.\r\n"
LARGE = HEADER % b"large" + b"\r\n" + b"A line of some length that fills it up, up and up.\r\n" * 40000
OFFER = HEADER % b"an offer" + b"\r\nWe have cheap watches for you.\r\n"
SPAM = HEADER % b"spam" + b"\r\n" + GTUBE + b"\r\n"
INFECTED = (HEADER % b"invoice" + b"MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=x\r\n\r\n"
            b"--x\r\nContent-Type: text/plain\r\n\r\nSee there.\r\n"
            b"--x\r\nContent-Type: application/octet-stream; name=a.com\r\nContent-Transfer-Encoding: base64\r\n\r\n"
            + base64.b64encode(EICAR) + b"\r\n--x--\r\n")


def fields(content):
    """[(name, value without folding)] of the header section."""
    section = re.sub(rb"\r\n[ \t]+", b" ", content.partition(b"\r\n\r\n")[0])
    return [tuple(part.strip() for part in line.split(b":", 1)) for line in section.split(b"\r\n")]


def values(content, name):
    return [value.decode("utf-8", "replace") for found, value in fields(content) if found.lower() == name.lower()]


class FilterPeers(scenario.Scenario):
    def setUp(self):
        super().setUp()
        if not scenario.is_root():
            self.skipTest("the filters change their user, which needs root")
        self.peer = self.sink()
        self.records = {}
        self.names = self.using(nameserver.FakeServer(self.answer))

    def answer(self, name, kind, data):
        found = self.records.get(name.lower())
        if found is None:
            exists = any(known.endswith("." + name.lower()) for known in self.records)
            return int(dns.rcode.NOERROR if exists else dns.rcode.NXDOMAIN)
        if kind != found[0]:
            return int(dns.rcode.NOERROR)
        text = found[1]
        if kind == "TXT":
            text = " ".join(f'"{text[at:at + 250]}"' for at in range(0, len(text), 250))
        return nameserver.records((name, kind, 60, text))(data)

    def key(self, folder, domain):
        """Of this domain, in this folder of keys, and in the DNS."""
        (folder / domain).mkdir(parents=True)
        key = folder / domain / "s1.pem"
        subprocess.run(["openssl", "genrsa", "-traditional", "-out", str(key), "2048"], check=True, stderr=subprocess.DEVNULL)
        key.chmod(0o600)
        public = subprocess.run(["openssl", "rsa", "-in", str(key), "-pubout", "-outform", "DER"], check=True,
                                stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout
        self.records[f"s1._domainkey.{domain}."] = ("TXT", "v=DKIM1; k=rsa; p=" + base64.b64encode(public).decode())
        self.records[f"{domain}."] = ("TXT", "v=spf1 ip4:127.0.0.1 -all")
        self.records[f"_dmarc.{domain}."] = ("TXT", "v=DMARC1; p=reject")
        return key

    def filtered(self, filter_, **settings):
        return self.relay(self.peer, milter=[{"address": filter_.address, "name": "peer",
                                              "mail": ["mx", "submission", "sendmail"]}], **daemon.merged({
            "dns": {"servers": [self.names.server]},
            "accept": {"relay_from": [], "relay_to": ["far.example"], "message_size": "50MiB"}}, settings))

    def hand_in(self, port, message, sender="ann@good.example"):
        with smtp.Client(port) as client:
            client.hello("mx.good.example")
            return client.message(sender, ["b@far.example"], message)

    def postfix(self, filter_):
        return self.using(Postfix(
            self.own_folder("postfix"), {"127.0.0.1": {}}, smtpd_milters=f"inet:{filter_.address}", default_transport="smtp",
            relayhost=f"[127.0.0.1]:{self.peer.port}", milter_default_action="tempfail", disable_dns_lookups="yes",
            smtp_tls_security_level="none", milter_protocol="6", message_size_limit="60000000"))

    @staticmethod
    def alike(text, own):
        """A value without what each server has of its own: names, ids, times, places."""
        for name in own:
            text = text.replace(name, "HOST")
        text = re.sub(r"(?<==_)[0-9A-F.]{10,}", "ID", text)
        if text.startswith("default: "):  # of rspamd: its symbols, in whatever order
            return sorted(re.findall(r"([A-Z0-9_]+)\(([-\d.]+)\)", text))
        text = re.sub(r"\b(?:[0-9A-Z]{9,}|[0-9a-zA-Z]{14,})\b", "ID", text)
        return re.sub(r"\w{3}, +\d+ \w{3} \d{4} [\d:]+ [+-]\d{4}( \(\w+\))?|\d+(\.\d+)? ?(ms|sec|seconds)", "TIME", text)

    def compare(self, server, postfix, messages, left_out=()):
        """The same mail to both: replies of the same code, and the same fields added by the filter. Gives our replies and
        what arrived from us."""
        ours, arrived = [], []
        for what, message in messages.items():
            with self.subTest(what):
                before = len(self.peer.messages)
                replies, sides = [], []
                for port, own in ((server.port, ["mx.us.example"]), (postfix.port, ["remote.example"])):
                    replies.append(self.hand_in(port, message))
                    if replies[-1].code != 250:
                        continue
                    before += 1
                    content = self.peer.wait_for(before)[-1].content
                    sides.append(content)
                self.assertEqual(replies[0].code, replies[1].code, replies)
                ours.append(replies[0])
                if not sides:
                    self.assertEqual(replies[0].text, replies[1].text)
                    arrived.append(None)
                    continue
                given = {name.lower() for name, _ in fields(message)} | {b"received", *left_out}
                added = [sorted((name.decode(), self.alike(value.decode("utf-8", "replace"), own))
                                for name, value in fields(content) if name.lower() not in given)
                         for content, own in zip(sides, (["mx.us.example"], ["remote.example"]))]
                self.assertEqual(added[0], added[1])
                self.assertTrue(added[0], "the filter has added nothing")
                self.assertEqual(sides[0].partition(b"\r\n\r\n")[2], message.partition(b"\r\n\r\n")[2])
                arrived.append(sides[0])
        return ours, arrived

    def test_clamav(self):
        clam = self.using(filter_programs.ClamAv(self.own_folder("clamav")))
        server = self.filtered(clam)
        replies, arrived = self.compare(server, self.postfix(clam), {
            "clean": PLAIN, "infected": INFECTED, "large": LARGE, "as it is": HEADER % b"x" + b"\r\n" + EICAR + b"\r\n"})
        self.assertEqual([reply.code for reply in replies], [250, 550, 250, 550])
        self.assertIn("Infected by Test.Eicar.UNOFFICIAL", replies[1].text)
        self.assertEqual([values(content, b"X-Virus-Status") for content in (arrived[0], arrived[2])], [["Clean"]] * 2)
        # Mail of programs of this machine is looked at, too.
        refused = server.sendmail("-f", "ann@good.example", "b@far.example", stdin=INFECTED.replace(b"\r", b""), check=False)
        self.assertNotEqual(refused.returncode, 0)
        self.assertIn("Infected", refused.stderr)
        # Without clamd nothing goes unseen, and nothing is lost.
        clam.clamd.stop()
        self.assertEqual(self.hand_in(server.port, PLAIN).code, 451)

    def test_spamassassin(self):
        spam = self.using(filter_programs.SpamAssassin(self.own_folder("spam")))
        server = self.filtered(spam)
        replies, arrived = self.compare(server, self.postfix(spam), {"ham": PLAIN, "an offer": OFFER, "spam": SPAM})
        self.assertEqual([reply.code for reply in replies], [250, 250, 550])
        self.assertIn("Blocked by SpamAssassin", replies[2].text)
        self.assertTrue(values(arrived[0], b"X-Spam-Status")[0].startswith("No,"))
        self.assertTrue(values(arrived[1], b"X-Spam-Status")[0].startswith("Yes,"))
        self.assertIn("OWN_RULE", values(arrived[1], b"X-Spam-Status")[0])
        self.assertEqual(values(arrived[1], b"X-Spam-Flag"), ["YES"])

    def signed(self, message, key):
        return dkim.sign(message, b"s1", b"good.example", key.read_bytes(), canonicalize=(b"relaxed", b"relaxed")) + message

    def test_rspamd(self):
        key = self.key(self.own_folder("keys"), "good.example")
        rspamd = self.using(filter_programs.Rspamd(self.own_folder("rspamd"), self.names.server))
        server = self.filtered(rspamd)
        replies, arrived = self.compare(server, self.postfix(rspamd), {
            "signed": self.signed(PLAIN, key), "forged": PLAIN.replace(b"ann@good", b"ann@other"), "spam": SPAM,
            "large": self.signed(LARGE, key)}, left_out=(b"dkim-signature",))
        self.assertEqual([reply.code for reply in replies], [250, 250, 554, 250])
        self.assertIn("Gtube", replies[2].text)
        for content in (arrived[0], arrived[3]):
            found, = values(content, b"Authentication-Results")
            for word in ("dkim=pass", "spf=pass", "dmarc=pass"):
                self.assertIn(word, found)
        self.assertTrue(values(arrived[0], b"X-Spamd-Result"))

    def test_rspamd_behind_checks_of_ours(self):
        """Both write what they found; DKIM stays whole."""
        key = self.key(self.own_folder("keys"), "good.example")
        rspamd = self.using(filter_programs.Rspamd(self.own_folder("rspamd"), self.names.server))
        server = self.filtered(rspamd, authentication={"spf": True, "dkim": True, "dmarc": "reject"})
        forged = b"Authentication-Results: mx.us.example; dmarc=pass header.from=bank.example\r\n"
        self.assertEqual(self.hand_in(server.port, forged + self.signed(PLAIN, key)).code, 250)
        content = self.peer.wait_for(1)[-1].content
        self.assertNotIn(b"bank.example", content)
        found = values(content, b"Authentication-Results")
        self.assertTrue(found)
        for each in found:
            for word in ("dkim=pass", "spf=pass", "dmarc=pass"):
                self.assertIn(word, each)

    def test_signed_forwarded_and_sealed(self):
        """good.example signs, us.example sends on with a sender of its own and a seal, far.example asks rspamd."""
        keys = {name: self.own_folder(name) for name in ("first", "second")}
        self.key(keys["first"], "good.example")
        self.key(keys["second"], "us.example")
        rspamd = self.using(filter_programs.Rspamd(self.own_folder("rspamd"), self.names.server))
        last = self.filtered(rspamd, hostname="mx.far.example", local={"domains": ["elsewhere.example"]})
        second = self.relay(last, accept={"relay_from": []}, dns={"servers": [self.names.server]},
                            authentication={"spf": True, "dkim": True, "arc": True, "dmarc": "reject"},
                            dkim={"folder": str(keys["second"])},
                            local={"srs": True, "arc": True, "arc_domain": "us.example"}, start=False)
        (second.folder / "aliases").write_text("out: b@far.example\n")
        second.start()
        first = self.relay(second, hostname="mx.good.example", dkim={"folder": str(keys["first"])},
                           local={"domains": ["elsewhere.example"]}, accept={"relay_from": ["127.0.0.0/8"]})
        for count, message in enumerate((PLAIN, LARGE), 1):
            self.assertEqual(first.send("ann@good.example", ["out@us.example"], message).code, 250)
            arrived = self.peer.wait_for(count)[-1]
            self.assertRegex(arrived.sender, r"^SRS0=.*=good\.example=ann@us\.example$")
            self.assertEqual(arrived.addresses, ["b@far.example"])
            found, = values(arrived.content, b"Authentication-Results")
            for word in ("dkim=pass", "header.d=good.example", "spf=pass", "dmarc=pass", "arc=pass"):
                self.assertIn(word, found)
        # Rewritten on the way by somebody who holds no key: the seal and the signature say so.
        once = arrived.content[arrived.content.index(b"ARC-Seal:"):]
        self.assertEqual(self.hand_in(last.port, once + b"changed\r\n", sender="x@us.example").code, 250)
        found, = values(self.peer.wait_for(3)[-1].content, b"Authentication-Results")
        for word in ("arc=pass", "dmarc=pass"):
            self.assertNotIn(word, found)


if __name__ == "__main__":
    scenario.main()
