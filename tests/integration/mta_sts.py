#!/usr/bin/python3
"""MTA-STS (RFC 8461), TLS reports (RFC 8460) and REQUIRETLS (RFC 8689) with real policy hosts, name
servers and mail hosts on loopback."""
import email
import gzip
import json
import smtplib
import ssl

from support_py import scenario, signatures, wait
from support_py.daemon import USER
from support_py.policy_host import Authority, Https, MailHost

CONTENT = b"From: <a@us.example>\r\nSubject: policies\r\n\r\nx\r\n"
GOOD, BAD, PLAIN = "127.0.1.21", "127.0.1.22", "127.0.1.23"
MX = "mx.dest.example"


def policy(mode="enforce", mx=MX, age=86400):
    return (200, "text/plain; charset=utf-8",
            f"version: STSv1\r\nmode: {mode}\r\nmx: {mx}\r\nmax_age: {age}\r\n")


def zone(mx=GOOD, identifier="1", extra=""):
    return f"""
@           MX  10 mx
mx          A   {mx}
_mta-sts    TXT "v=STSv1; id={identifier};"
mta-sts     A   127.0.0.1
{extra}
"""


class Setting(scenario.Scenario):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.authority = Authority(cls.folder / "authority")
        cls.good = cls.authority.context(MX, "mx.other.example")
        cls.wrong = cls.authority.context("elsewhere.example")
        cls.web = cls.authority.context("mta-sts.dest.example", "mta-sts.other.example",
                                        "report.dest.example")

    def setUp(self):
        super().setUp()
        self.https = self.using(Https(self.web))
        self.https.pages["mta-sts.dest.example"] = policy()
        self.mail = self.using(MailHost(GOOD, context=self.good))
        self.server = None

    def start(self, dest=None, **more):
        zones = {"dest_example": dest or zone()}
        zones.update(more.pop("zones", {}))
        self.names = self.knot(**zones)
        settings = dict(
            dns={"servers": [self.names.server]},
            mta_sts={"port": self.https.port, "timeout": "3s"},
            tls_report={"contact": "tls@us.example", "organisation": "Us", "delay": "0s"},
            delivery={"port": self.mail.port, "tls_ca": str(self.authority.roots),
                      "retry": ["1s", "1s", "1s", "30s"]})
        self.server = self.daemon(**{**settings, **more})
        return self.server

    def send(self, to="b@dest.example", content=CONTENT):
        reply = self.server.send("a@us.example", to, content)
        self.assertEqual(reply.code, 250)

    def wait_for_trouble(self, text):
        return wait.until(
            lambda: [line for line in self.server.log()
                     if line["event"] in ("attempted", "site_blocked")
                     and text in line.get("reason", "")],
            lambda: f"\"{text}\" in the log: {self.server.log()[-6:]}")

    def explain(self, target="dest.example"):
        return self.server.postrider("explain", target)


class Sts(Setting):
    def test_enforce_with_a_good_host_delivers_under_tls(self):
        self.start()
        self.send()
        protocol, _, _, _ = self.mail.wait_for(1)[0]
        self.assertTrue(protocol.startswith("TLS"))
        self.server.wait_until_empty()
        text = self.explain()
        for word in ("enforce", "id 1", "success", MX):
            self.assertIn(word, text)
        self.assertEqual(self.https.asked, [("mta-sts.dest.example", "/.well-known/mta-sts.txt")])

    def test_E12_enforce_with_a_bad_certificate_defers(self):
        self.mail.context = self.wrong
        self.start()
        self.send()
        self.wait_for_trouble("certificate")
        self.assertEqual(self.mail.messages, [])
        self.assertEqual(self.server.queued(), 1)
        self.assertIn("certificate-host-mismatch", self.explain())
        self.mail.context = self.good
        self.server.retry_all()
        self.mail.wait_for(1)

    def test_E12_enforce_with_a_host_that_is_not_in_the_policy_defers(self):
        self.https.pages["mta-sts.dest.example"] = policy(mx="*.dest.example.net")
        self.start()
        self.send()
        self.wait_for_trouble("MTA-STS")
        self.assertEqual(self.mail.messages, [])
        self.assertIn("not among the hosts", self.explain())

    def test_E12_enforce_without_starttls_defers(self):
        self.mail.context = None
        self.start()
        self.send()
        self.wait_for_trouble("STARTTLS")
        self.assertEqual(self.mail.messages, [])

    def test_E13_testing_delivers_and_reports(self):
        self.https.pages["mta-sts.dest.example"] = policy("testing")
        self.mail.context = self.wrong
        peers, keys = signatures.Peers(self.own_folder("peers")), self.own_folder("keys")
        peers.new_key(keys, "us.example", "r1")
        self.start(zone(extra='_smtp._tls TXT "v=TLSRPTv1; rua=mailto:tls@dest.example,'
                              f'https://report.dest.example:{self.https.port}/v1"\n'
                              "report A 127.0.0.1"), dkim={"folder": str(keys)})
        self.send()
        self.mail.wait_for(1)
        self.server.wait_until_empty()
        self.assertIn("dest.example: 1 sessions, 1 failed", self.server.postrider("tlsrpt"))
        self.assertIn("sent to mailto:tls@dest.example",
                      self.server.postrider("tlsrpt", "--send", "--today"))
        _, sender, recipients, content = self.mail.wait_for(2)[1]
        self.assertIn("<tls@us.example>", sender)
        self.assertIn("<tls@dest.example>", recipients[0])
        self.check_mail(email.message_from_bytes(content))
        peers.check(self, content, "us.example/r1")  # RFC 8460 §3
        (host, path, kind, body), = self.https.posted
        self.assertEqual((host, path, kind), ("report.dest.example", "/v1", "application/tlsrpt+gzip"))
        self.check_report(json.loads(gzip.decompress(body)))
        self.assertIn("nothing is collected", self.server.postrider("tlsrpt"))

    def check_mail(self, mail):
        self.assertEqual(mail["TLS-Report-Domain"], "dest.example")
        self.assertEqual(mail["TLS-Report-Submitter"], "mx.us.example")
        self.assertEqual(mail["TLS-Required"], "No")
        self.assertEqual(mail.get_param("report-type"), "tlsrpt")
        part = mail.get_payload()[1]
        self.assertEqual(part.get_content_type(), "application/tlsrpt+gzip")
        self.check_report(json.loads(gzip.decompress(part.get_payload(decode=True))))

    def check_report(self, report):
        self.assertEqual(report["organization-name"], "Us")
        self.assertEqual(report["contact-info"], "tls@us.example")
        found = report["policies"][0]
        self.assertEqual(found["policy"]["policy-type"], "sts")
        self.assertEqual(found["policy"]["mx-host"], [MX])
        self.assertIn("mode: testing", found["policy"]["policy-string"])
        self.assertEqual(found["summary"]["total-failure-session-count"], 1)
        detail = found["failure-details"][0]
        self.assertEqual(detail["result-type"], "certificate-host-mismatch")
        self.assertEqual(detail["receiving-mx-hostname"], MX)
        self.assertEqual(detail["receiving-ip"], GOOD)

    def test_E15_a_dead_policy_host_uses_the_cache_over_a_restart(self):
        self.start()
        self.send()
        self.mail.wait_for(1)
        self.server.wait_until_empty()
        self.https.stop()
        self.mail.context = self.wrong
        self.server.stop()
        self.server.start()
        self.names.change(dest_example=zone(identifier="2"))  # asks for a fetch, which fails
        self.send()
        self.server.wait_for_log("sts_policy_failed", domain="dest.example", cached="yes")
        self.wait_for_trouble("certificate")
        self.assertEqual(len(self.mail.messages), 1)
        self.assertIn("enforce, id 1", self.explain())
        self.names.change(dest_example=zone().replace("_mta-sts", "gone"))
        self.server.retry_all()
        wait.until(lambda: len(self.server.log("site_blocked")) >= 2, "a second attempt")
        self.assertEqual(len(self.mail.messages), 1)

    def test_E11_a_policy_that_cannot_be_had_is_none(self):
        for page, result in (((404, "text/plain", policy()[2]), "sts-policy-fetch-error"),
                             ((301, "text/plain", policy()[2]), "sts-policy-fetch-error"),
                             ((200, "text/html", policy()[2]), "sts-policy-invalid"),
                             ((200, "text/plain", "mode: enforce"), "sts-policy-invalid"),
                             ((200, "text/plain", "x" * 70000), "sts-policy-fetch-error")):
            with self.subTest(page=page[:2], result=result):
                self.https.pages["mta-sts.dest.example"] = page
                self.mail.messages.clear()
                self.mail.context = None
                self.start()
                self.send()
                self.mail.wait_for(1)  # in clear: there is no policy
                self.server.wait_for_log("sts_policy_failed", domain="dest.example", result=result)
                self.assertIn("not to be had", self.explain())
                self.server.stop()
                self.names.stop()

    def test_E11_a_policy_host_with_a_bad_certificate_has_no_policy(self):
        self.https.context = self.wrong
        self.mail.context = None
        self.start()
        self.send()
        self.mail.wait_for(1)
        self.server.wait_for_log("sts_policy_failed", result="sts-webpki-invalid")

    def test_domains_that_share_a_host_keep_their_own_policies(self):
        self.mail.context = self.wrong
        self.start(zones={"other_example": "@ MX 10 mx.dest.example."})
        for _ in range(3):
            self.send("b@other.example")
            self.send("b@dest.example")
        self.mail.wait_for(3)  # opportunistic: any certificate will do
        self.wait_for_trouble("certificate")
        self.assertEqual({one[2][0] for one in self.mail.messages}, {"TO:<b@other.example>"})
        wait.until(lambda: self.server.queued() == 3, "only those that must not go")

    def test_E17_tls_required_no_overrides_the_policy(self):
        self.mail.context = self.wrong
        self.start()
        self.send(content=b"TLS-Required: No\r\n" + CONTENT)
        _, _, _, content = self.mail.wait_for(1)[0]
        self.assertIn(b"\r\nTLS-Required: No\r\n", content)
        self.send()
        self.wait_for_trouble("certificate")
        self.assertEqual(len(self.mail.messages), 1)


class RequireTls(Setting):
    """RFC 8689, the whole way: from a client under TLS to a host that its policy vouches for."""

    def setUp(self):
        super().setUp()
        self.authority.context("mx.us.example")
        stem = self.authority.folder / "mx.us.example"
        self.certificates = {"certificate": str(stem.with_suffix(".pem")),
                             "key": str(stem.with_suffix(".key"))}

    def start_with_tls(self):
        self.start(start=False)
        listener = {**self.server.settings["listener"][0], "tls": "starttls"}
        self.server.write_config(listener=[listener], tls=self.certificates)
        return self.server.start()

    def client(self):
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        client = smtplib.SMTP("127.0.0.1", self.server.port, local_hostname="client.example",
                              timeout=wait.DEADLINE)
        client.ehlo()
        self.assertNotIn("requiretls", client.esmtp_features)
        self.assertEqual(client.mail("a@us.example", ["REQUIRETLS"])[0], 555)
        client.starttls(context=context)
        client.ehlo()
        self.assertIn("requiretls", client.esmtp_features)
        return client

    def submit(self, content=CONTENT):
        with self.client() as client:
            client.sendmail(f"{USER}@us.example", ["b@dest.example"], content, ["REQUIRETLS"])

    def test_it_is_passed_on_to_a_host_that_offers_it(self):
        self.mail.extensions = ["REQUIRETLS"]
        self.start_with_tls()
        self.submit(b"TLS-Required: No\r\n" + CONTENT)  # ignored
        protocol, sender, _, _ = self.mail.wait_for(1)[0]
        self.assertTrue(protocol.startswith("TLS"))
        self.assertTrue(sender.endswith(" REQUIRETLS"), sender)

    def test_E16_a_host_without_it_gets_nothing_and_the_sender_hears_why(self):
        self.start_with_tls()
        self.submit()
        notice, = self.server.wait_for_mail(1)
        self.assertIn(b"Status: 5.7.30", notice)
        self.assertIn(b"Subject: policies", notice)
        self.assertNotIn(b"\r\nx\r\n", notice)
        self.assertEqual(self.mail.messages, [])

    def test_R07_it_ends_with_its_transaction(self):
        self.mail.extensions = ["REQUIRETLS"]
        self.start_with_tls()
        with self.client() as client:
            self.assertEqual(client.mail("a@us.example", ["REQUIRETLS"])[0], 250)
            client.rset()
            client.sendmail("a@us.example", ["b@dest.example"], CONTENT)
        _, sender, _, _ = self.mail.wait_for(1)[0]
        self.assertNotIn("REQUIRETLS", sender)

    def test_an_unauthenticated_host_name_is_not_enough(self):
        self.mail.extensions = ["REQUIRETLS"]
        self.https.pages.clear()
        self.start_with_tls()
        self.submit()
        wait.until(lambda: b"5.7.10" in b"".join(self.server.mailbox(USER)) or
                   self.server.log("attempted", verdict="deferred"), "an answer")
        self.assertEqual(self.mail.messages, [])


if __name__ == "__main__":
    scenario.main()
