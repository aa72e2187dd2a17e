#!/usr/bin/python3
"""DMARC aggregate reports (RFC 9990), from mail of strangers to the reports that a peer receives: its XML is checked by
xmllint against tests/data/dmarc_report.xsd, and read by Python's parser. The name server tells the truth, fails, or is asked
whether another organization wants reports."""
import base64
import email
import gzip
import pathlib
import re
import subprocess
import xml.etree.ElementTree

import dkim
import dns.rcode

from support_py import nameserver, scenario, signatures, wait
from support_py.daemon import USER

SCHEMA = pathlib.Path(__file__).resolve().parents[1] / "data" / "dmarc_report.xsd"
SPACE = "{urn:ietf:params:xml:ns:dmarc-2.0}"
CONTACT = "dmarc@us.example"
PLAIN = (b"From: Ann <ann@good.example>\r\nTo: b@far.example\r\nSubject: hello\r\n"
         b"Date: Mon, 23 Nov 2026 13:34:44 +0000\r\nMessage-ID: <1@good.example>\r\n\r\nHello.\r\n")
DAY = 86400


class Report:
    """One that arrived: its mail, and its XML, which fits the schema."""

    def __init__(self, test, message):
        self.recipient, = message.addresses
        self.mail = email.message_from_bytes(message.content)
        part, = [one for one in self.mail.walk() if one.get_content_type() == "application/gzip"]
        self.file = part.get_filename()
        self.text = gzip.decompress(part.get_payload(decode=True))
        checked = subprocess.run(["xmllint", "--nonet", "--noout", "--schema", str(SCHEMA), "-"], input=self.text,
                                 stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        test.assertEqual(checked.returncode, 0, checked.stdout.decode() + self.text.decode())
        self.root = xml.etree.ElementTree.fromstring(self.text)

    def find(self, path, root=None):
        return (self.root if root is None else root).find("/".join(SPACE + step for step in path.split("/")))

    def get(self, path, root=None):
        found = self.find(path, root)
        return None if found is None else found.text or ""

    def records(self):
        return self.root.findall(SPACE + "record")

    def record(self, header_from, envelope_from):
        found, = [one for one in self.records() if self.get("identifiers/header_from", one) == header_from and
                  self.get("identifiers/envelope_from", one) == envelope_from]
        return found


class DmarcReports(scenario.Scenario):
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
            "_dmarc.good.example.": "v=DMARC1; p=reject; sp=quarantine; adkim=s; rua=mailto:rua@good.example",
            "_dmarc.silent.example.": "v=DMARC1; p=reject",
            "bad.example.": "v=spf1 -all"}
        self.failing = set()
        self.names = self.using(nameserver.FakeServer(self.answer))
        self.peer = self.sink()

    def answer(self, name, kind, data):
        if name in self.failing:
            return int(dns.rcode.SERVFAIL)
        if name in self.texts and kind == "TXT":
            text = self.texts[name]
            parts = " ".join(f'"{text[at:at + 250]}"' for at in range(0, len(text), 250))
            return nameserver.records((name, "TXT", 1, parts))(data)
        return int(dns.rcode.NOERROR if name in self.texts else dns.rcode.NXDOMAIN)

    def reporting(self, authentication=None, contact=CONTACT, **settings):
        chosen = {"dmarc": "quarantine", **(authentication or {})}
        return self.relay(self.peer, dns={"servers": [self.names.server]}, authentication=chosen,
                          accept={"relay_from": [], "relay_to": ["far.example"]},
                          dmarc_report={"contact": contact, "organisation": "Us & <others>"}, **settings)

    def signed(self, message, domain=b"good.example", selector=b"s"):
        return dkim.sign(message, selector, domain, pathlib.Path(self.key).read_bytes(),
                         canonicalize=(b"relaxed", b"relaxed")) + message

    def hand_in(self, server, message=PLAIN, sender="ann@good.example", to="b@far.example"):
        with server.client() as client:
            client.hello("mx.good.example")
            return client.message(sender, [to], message)

    def send_reports(self, server, *options):
        return server.postrider("dmarc-reports", "--send", "--today", *options)

    def collected(self, server):
        return server.postrider("dmarc-reports")

    def reports(self, count=1, before=0):
        """The reports among so many other messages, by their receiver: which come first is delivery's business."""
        arrived = [one for one in self.peer.wait_for(before + count) if b"application/gzip" in one.content]
        found = [Report(self, one) for one in arrived]
        self.assertEqual(len(found), count)
        return {one.recipient: one for one in found}

    def test_a_day_of_pass_fail_and_none(self):
        peers, keys = signatures.Peers(self.own_folder("peers")), self.own_folder("keys")
        peers.new_key(keys, "us.example", "r1")
        server = self.reporting(dkim={"folder": str(keys)})
        self.hand_in(server, self.signed(PLAIN))
        self.hand_in(server, self.signed(PLAIN))
        self.hand_in(server, PLAIN, "x@bad.example")
        self.hand_in(server, PLAIN.replace(b"ann@good", b"ann@sub.good"), "")
        self.hand_in(server, PLAIN.replace(b"ann@good", b"ann@silent"), "x@bad.example")
        self.hand_in(server, PLAIN.replace(b"ann@good", b"ann@none"), "x@bad.example")
        self.peer.wait_for(6)
        wait.until(lambda: "good.example: 4 messages, 2 failed" in self.collected(server),
                   lambda: self.collected(server))
        self.assertNotIn("silent", self.collected(server))
        self.assertNotIn("none.example", self.collected(server))
        self.assertIn("good.example: sent to rua@good.example", self.send_reports(server))
        report, = self.reports(before=6).values()
        self.assertIn("nothing is collected", self.collected(server))
        server.wait_for_log("dmarc_report", domain="good.example", to="rua@good.example")
        peers.check(self, self.peer.messages[-1].content, "us.example/r1")
        self.check_mail(report)
        self.check_metadata(report)
        self.check_records(report)

    def check_mail(self, report):
        identifier = report.get("report_metadata/report_id")
        self.assertEqual(report.recipient, "rua@good.example")
        self.assertEqual(self.peer.messages[-1].sender, CONTACT)
        self.assertEqual(re.sub(r"\s+", " ", report.mail["Subject"]),
                         f"Report Domain: good.example Submitter: mx.us.example Report-ID: <{identifier}@mx.us.example>")
        self.assertEqual(report.mail["From"], f"<{CONTACT}>")
        self.assertEqual(report.mail["Auto-Submitted"], "auto-generated")
        self.assertIsNone(report.mail["TLS-Required"])
        begin, end = int(report.get("report_metadata/date_range/begin")), int(report.get("report_metadata/date_range/end"))
        self.assertEqual((begin % DAY, end - begin), (0, DAY - 1))
        self.assertEqual(report.file, f"mx.us.example!good.example!{begin}!{end}!{identifier}.xml.gz")
        self.assertRegex(identifier, r"^[a-z0-9]+$")

    def check_metadata(self, report):
        for path, value in (("version", "1.0"), ("report_metadata/org_name", "Us & <others>"),
                            ("report_metadata/email", CONTACT), ("policy_published/domain", "good.example"),
                            ("policy_published/discovery_method", "treewalk"), ("policy_published/p", "reject"),
                            ("policy_published/sp", "quarantine"), ("policy_published/np", None),
                            ("policy_published/adkim", "s"), ("policy_published/aspf", "r"),
                            ("policy_published/testing", "n"), ("policy_published/fo", "0")):
            self.assertEqual(report.get(path), value, path)

    def check_records(self, report):
        self.assertEqual(len(report.records()), 3)
        passed = report.record("good.example", "good.example")
        failed = report.record("good.example", "bad.example")
        below = report.record("sub.good.example", "mx.good.example")
        for record, count, disposition, dkim_aligned, spf_aligned, reason, spf in (
                (passed, "2", "pass", "pass", "pass", None, "pass"),
                (failed, "1", "quarantine", "fail", "fail", "local_policy", "fail"),
                (below, "1", "quarantine", "fail", "fail", None, "none")):
            evaluated = "row/policy_evaluated/"
            self.assertEqual((report.get("row/source_ip", record), report.get("row/count", record),
                              report.get(evaluated + "disposition", record), report.get(evaluated + "dkim", record),
                              report.get(evaluated + "spf", record), report.get(evaluated + "reason/type", record),
                              report.get("auth_results/spf/result", record)),
                             ("127.0.0.1", count, disposition, dkim_aligned, spf_aligned, reason, spf))
            self.assertEqual(report.get("auth_results/spf/scope", record), "mfrom")
        self.assertEqual([report.get("auth_results/dkim/" + name, passed) for name in ("domain", "selector", "result")],
                         ["good.example", "s", "pass"])
        self.assertIsNone(report.find("auth_results/dkim", failed))

    def test_refused_excepted_and_tested(self):
        server = self.reporting({"dmarc": "reject", "exceptions": ["inline:{strange.example=ok}"]})
        rua = "; rua=mailto:rua@good.example"
        self.texts.update({"_dmarc.strange.example.": "v=DMARC1; p=reject; rua=mailto:rua@strange.example",
                           "_dmarc.tested.example.": "v=DMARC1; p=quarantine; t=y; rua=mailto:rua@tested.example",
                           "_dmarc.good.example.": "v=DMARC1; p=reject" + rua})
        self.assertEqual(self.hand_in(server, PLAIN, "x@bad.example").code, 550)
        for name in (b"strange", b"tested"):
            self.assertEqual(self.hand_in(server, PLAIN.replace(b"ann@good", b"ann@" + name), "x@bad.example").code, 250)
        self.peer.wait_for(2)
        wait.until(lambda: self.collected(server).count("1 messages, 1 failed") == 3, lambda: self.collected(server))
        self.send_reports(server)
        reports = self.reports(3, before=2)
        evaluated = {name: [report.get("record/row/policy_evaluated/" + path) for path in ("disposition", "reason/type")]
                     for name, report in reports.items()}
        self.assertEqual(evaluated, {"rua@good.example": ["reject", None],
                                     "rua@strange.example": ["none", "local_policy"],
                                     "rua@tested.example": ["none", "policy_test_mode"]})
        self.assertEqual(reports["rua@tested.example"].get("policy_published/testing"), "y")

    def test_who_may_have_a_report(self):
        server = self.reporting()
        self.texts["_dmarc.good.example."] = (
            "v=DMARC1; p=none; rua=mailto:own@good.example!10m,mailto:small@good.example!100,https://good.example/,"
            "mailto:a@wants.example,mailto:b@victim.example,mailto:c@other.example,mailto:d@away.example,"
            "mailto:e@fails.example; ruf=mailto:ruf@good.example")
        self.texts["good.example._report._dmarc.wants.example."] = "v=DMARC1"
        self.texts["good.example._report._dmarc.other.example."] = "v=DMARC1; rua=mailto:in@other.example"
        self.texts["good.example._report._dmarc.away.example."] = "v=DMARC1; rua=mailto:b@victim.example"
        self.texts["good.example._report._dmarc.fails.example."] = "v=DMARC1"
        self.failing.add("good.example._report._dmarc.fails.example.")
        self.hand_in(server)
        self.peer.wait_for(1)
        # As if the day were over: what the DNS does not say of today is not waited for.
        text = self.send_reports(server)
        for address in ("own@good.example", "a@wants.example", "in@other.example"):
            self.assertIn(address, text)
        self.assertIn("e@fails.example: the DNS does not say", text)
        for address in ("small@", "victim", "away", "c@other", "ruf@"):
            self.assertNotIn(address, text)
        reports = self.reports(3, before=1)
        self.assertEqual(set(reports), {"own@good.example", "a@wants.example", "in@other.example"})
        self.assertEqual(len({one.file for one in reports.values()}), 1)
        server.wait_for_log("dmarc_report_failed", to="small@good.example")

    def test_trouble_with_dns_is_waited_for(self):
        server = self.reporting()
        self.texts["_dmarc.good.example."] = "v=DMARC1; p=none; rua=mailto:a@wants.example"
        self.texts["good.example._report._dmarc.wants.example."] = "v=DMARC1"
        self.failing.add("good.example._report._dmarc.wants.example.")
        self.hand_in(server)
        self.peer.wait_for(1)
        self.assertIn("later: a@wants.example", self.send_reports(server))
        self.assertIn("1 messages", self.collected(server))
        self.failing.clear()
        wait.until(lambda: "sent to a@wants.example" in self.send_reports(server), "what fails is asked again")
        self.reports(before=1)

    def test_no_field_from_outside_breaks_the_report(self):
        server = self.reporting()
        nasty = b"<a>&\"'x]]></b><!--%d"
        for number in range(3):
            tag = nasty % number
            forged = (b"DKIM-Signature: v=1; a=rsa-sha256; c=simple/simple; d=" + tag + b".example; s=" + tag +
                      b"\r\n\t; h=from; bh=AAAA; b=AAAA\r\n")
            self.hand_in(server, forged + PLAIN, f'"<x>&"@{"a" * 60}.example')
        self.hand_in(server, PLAIN.replace(b"ann@good.example", b"ann@<x>&amp;]]>.good.example"), "")
        self.hand_in(server, PLAIN.replace(b"ann@good.example", "ann@b\u00fccher.good.example".encode()), "")
        wait.until(lambda: len(server.log("checked")) == 5, "all are judged")
        before = len(self.peer.wait_for(5))
        self.send_reports(server)
        report, = self.reports(before=before).values()
        selectors = {one.text for one in report.root.iter(SPACE + "selector")}
        self.assertTrue(selectors <= {(nasty % number).decode() for number in range(3)}, selectors)

    def test_what_is_collected_outlives_a_stop_and_a_kill(self):
        server = self.reporting()
        self.hand_in(server)
        self.peer.wait_for(1)
        wait.until(lambda: "1 messages" in self.collected(server), "it is collected")
        server.restart()
        self.assertIn("good.example: 1 messages", self.collected(server))
        self.hand_in(server)
        wait.until(lambda: "2 messages" in self.collected(server), "it is collected")
        self.assertIn("nothing to send", server.postrider("dmarc-reports", "--send"))  # which saves, as each minute does
        journals = pathlib.Path(server.spool) / "dmarc-reports"
        wait.until(lambda: len(next(iter(journals.iterdir())).read_bytes().splitlines()) >= 3, "it is written")
        server.kill()
        server.start()
        self.assertIn("good.example: 2 messages", self.collected(server))
        self.send_reports(server)
        report, = self.reports(before=2).values()
        self.assertEqual(report.get("record/row/count"), "2")
        server.restart()
        self.assertIn("nothing is collected", self.collected(server))
        self.assertEqual(list(journals.iterdir()), [])

    def test_mail_for_the_contact_makes_no_reports(self):
        server = self.reporting(contact=f"{USER}@us.example")
        self.hand_in(server, to=f"{USER}@us.example")
        self.hand_in(server, to=f"{USER}@US.EXAMPLE")
        self.hand_in(server)
        wait.until(lambda: "good.example: 1 messages" in self.collected(server), lambda: self.collected(server))
        self.assertEqual(len(server.wait_for_log("checked", 3)), 3)

    def test_without_a_contact_nothing_is_collected(self):
        server = self.reporting(contact="")
        self.hand_in(server)
        self.peer.wait_for(1)
        server.wait_for_log("checked")
        self.assertIn("nothing is collected", self.collected(server))
        self.assertIn("dmarc_report.contact is not set", self.send_reports(server))
        server.write_config(dmarc_report={"contact": CONTACT})
        server.reload()
        server.wait_for_log("reloaded")
        self.hand_in(server)
        wait.until(lambda: "1 messages" in self.collected(server), lambda: self.collected(server))


if __name__ == "__main__":
    scenario.main()
