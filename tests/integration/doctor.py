#!/usr/bin/python3
"""What `postrider doctor` finds wrong with a mail server, each with its remedy, through the configured name servers: a
healthy one, and one fault after another."""
import base64
import hashlib
import json
import subprocess
import time

from support_py import nameserver, scenario, wait


class Doctor(scenario.Scenario):
    def setUp(self):
        super().setUp()
        keys = self.own_folder("keys")
        (keys / "us.example").mkdir()
        key = keys / "us.example" / "s1.pem"
        subprocess.run(["openssl", "genrsa", "-out", str(key), "2048"], check=True, stderr=subprocess.DEVNULL)
        key.chmod(0o600)
        public = self.openssl("rsa", "-in", str(key), "-pubout", "-outform", "DER")
        folder = self.own_folder("tls")
        self.certificate, self.key = folder / "cert.pem", folder / "key.pem"
        self.make_certificate("mx.us.example", 90)
        self.probe = self.sink()
        self.records = {
            ("mx.us.example.", "A"): "127.0.0.1", ("1.0.0.127.in-addr.arpa.", "PTR"): "mx.us.example.",
            ("us.example.", "MX"): "10 mx.us.example.", ("us.example.", "TXT"): '"v=spf1 ip4:127.0.0.1 -all"',
            ("mx.us.example.", "TXT"): '"v=spf1 a -all"', ("gmail.com.", "MX"): "10 mx.probe.example.",
            ("mx.probe.example.", "A"): "127.0.0.1", ("ietf.org.", "MX"): "10 mail.ietf.org.",
            ("_dmarc.us.example.", "TXT"): '"v=DMARC1; p=quarantine"',
            ("_25._tcp.mx.us.example.", "TLSA"): "3 1 1 " + self.key_digest(),
            ("s1._domainkey.us.example.", "TXT"): self.text("v=DKIM1; k=rsa; p=" + base64.b64encode(public).decode())}
        self.failing = set()
        self.names = self.using(nameserver.FakeServer(self.answer))
        self.server = self.daemon(
            start=False, origin="us.example", dns={"servers": [self.names.server]}, dkim={"folder": str(keys)},
            delivery={"port": self.probe.port}, tls={"certificate": str(self.certificate), "key": str(self.key)},
            mta_sts={"timeout": "2s"})

    @staticmethod
    def openssl(*words, **more):
        return subprocess.run(["openssl", *words], check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                              **more).stdout

    def make_certificate(self, name, days):
        self.openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", str(self.key), "-out",
                     str(self.certificate), "-days", str(days), "-subj", f"/CN={name}", "-addext",
                     f"subjectAltName=DNS:{name}")
        self.key.chmod(0o600)

    def key_digest(self):
        public = self.openssl("x509", "-in", str(self.certificate), "-pubkey", "-noout")
        return hashlib.sha256(self.openssl("pkey", "-pubin", "-outform", "DER", input=public)).hexdigest()

    @staticmethod
    def text(text):
        return " ".join(f'"{text[at:at + 250]}"' for at in range(0, len(text), 250))

    def answer(self, name, kind, data):
        if name in self.failing:
            return 2  # SERVFAIL
        value = self.records.get((name, kind))
        if value is not None:
            return nameserver.records((name, kind, 60, *([value] if isinstance(value, str) else value)))(data)
        return 0 if any(known == name for known, _ in self.records) else 3

    def examine(self, *words):
        done = self.server.tool("postrider", "doctor", *words, "--json", check=False)
        found = json.loads(done.stdout)
        return done.returncode, found["findings"]

    def of(self, check, *words):
        """The exit code, and the first finding of this check that is not ok, if there is one."""
        code, findings = self.examine(*words)
        some = [one for one in findings if one["check"] == check]
        return code, next((one for one in some if one["result"] != "ok"), some[0] if some else None)

    def test_a_healthy_server(self):
        code, findings = self.examine()
        results = {one["check"]: one["result"] for one in findings}
        self.assertEqual(code, 0, findings)
        for check in ("hostname", "ptr", "port", "mx", "spf", "dkim", "dmarc", "tlsa", "open_relay",
                      "certificate"):
            self.assertEqual(results[check], "ok", check)
        for one in findings:
            self.assertEqual(bool(one["remedy"]), one["result"] != "ok", one)
        text = self.server.postrider("doctor")
        self.assertIn("ok       ptr: 127.0.0.1 is mx.us.example, there and back\n", text)
        self.assertRegex(text, r"advice +mta_sts: .*\n +-> publish one")

    def test_what_is_wrong_in_the_dns(self):
        faults = (
            ("ptr", {("1.0.0.127.in-addr.arpa.", "PTR"): "dsl-1.isp.example."}, "dsl-1.isp.example", "PTR record"),
            ("ptr", {("1.0.0.127.in-addr.arpa.", "PTR"): None}, "no name", "PTR record"),
            ("hostname", {("mx.us.example.", "A"): None}, "no address", "mx.us.example. A"),
            ("spf", {("us.example.", "TXT"): '"v=spf1 ip4:192.0.2.1 -all"'}, "fail", "ip4:127.0.0.1"),
            ("spf", {("us.example.", "TXT"): '"no record"'}, "no SPF record", "v=spf1 ip4:127.0.0.1 -all"),
            ("spf", {("us.example.", "TXT"): '"v=spf1 nonsense:x -all"'}, "permerror", "SPF record"),
            ("spf", {("us.example.", "TXT"): '"v=spf1 ip4:127.0.0.1 +all"'}, "lets everybody send", "end its SPF record in -all"),
            ("spf", {("us.example.", "TXT"): '"v=spf1 ip4:0.0.0.0/0 -all"'}, "lets everybody send", "-all"),
            ("spf", {("us.example.", "TXT"): '"v=spf1 ip4:127.0.0.1 ' + " ".join(f"a:h{n}.us.example" for n in range(11)) + ' -all"'},
             "breaks behind the term for us", "at most 10 terms"),
            ("spf", {("us.example.", "TXT"): ['"v=spf1 ip4:127.0.0.1 -all"', '"v=spf1 -all"']}, "permerror", "leave one SPF record"),
            ("mx", {("us.example.", "MX"): "0 ."}, "takes no mail", "instead of it"),
            ("mx", {("us.example.", "MX"): "10 127.0.0.1."}, "an address", "name a host"),
            ("mx", {("us.example.", "MX"): "10 alias.us.example.", ("alias.us.example.", "CNAME"): "mx.us.example."}, "an alias (CNAME) of mx.us.example", "A or AAAA record itself"),
            ("mx", {("us.example.", "MX"): "10 nowhere.us.example."}, "has no address", "nowhere.us.example. A"),
            ("dmarc", {("_dmarc.us.example.", "TXT"): '"v=DMARC1; p=reject; rua=mailto:x@far.example"'}, "go nowhere",
             'us.example._report._dmarc.far.example. TXT "v=DMARC1"'),
            ("dkim", {("s1._domainkey.us.example.", "TXT"): '"v=DKIM1; p="'}, "s1._domainkey", "dkim record"),
            ("dkim", {("s1._domainkey.us.example.", "TXT"): None}, "no record", "postrider dkim record us.example"),
            ("dkim", {("s1._domainkey.us.example.", "TXT"): '"v=DKIM1; p=AAAA"'}, "s1._domainkey", "dkim record"),
            ("dmarc", {("_dmarc.us.example.", "TXT"): '"v=DMARC1; p=nonsense"'}, "says nothing", "v=DMARC1"),
            ("tlsa", {("_25._tcp.mx.us.example.", "TLSA"): "3 1 1 " + "00" * 32}, "none of our certificates", "tls.certificate"),
            ("mta_sts", {("_mta-sts.us.example.", "TXT"): '"v=STSv1; id=1"'}, "cannot be fetched", "_mta-sts.us.example"))
        healthy = dict(self.records)
        for check, changes, word, remedy in faults:
            self.records = {name: value for name, value in {**healthy, **changes}.items() if value is not None}
            code, finding = self.of(check)
            self.assertEqual((code, finding["result"]), (65, "problem"), (check, finding))
            self.assertIn(word, finding["text"])
            self.assertIn(remedy, finding["remedy"])

    def test_a_name_with_very_many_addresses(self):
        self.records["mx.us.example.", "A"] = ["127.0.0.1", *(f"127.0.1.{n}" for n in range(1, 60))]
        _, findings = self.examine()
        texts = [one["text"] for one in findings]
        self.assertLess(len(findings), 50, texts)
        self.assertTrue(any("mx.us.example has 60 addresses, of which 8" in text for text in texts), texts)
        self.assertTrue(any(text.endswith(" and 56 more") for text in texts), texts)

    def test_reports_elsewhere_that_are_wanted_there(self):
        self.records["_dmarc.us.example.", "TXT"] = '"v=DMARC1; p=reject; rua=mailto:x@far.example,mailto:y@us.example"'
        self.records["us.example._report._dmarc.far.example.", "TXT"] = '"v=DMARC1"'
        self.assertEqual(self.of("dmarc")[1]["result"], "ok")

    def test_a_policy_that_asks_for_nothing(self):
        self.records["_dmarc.us.example.", "TXT"] = '"v=DMARC1; p=none"'
        code, finding = self.of("dmarc")
        self.assertEqual((code, finding["result"]), (0, "advice"))
        self.assertIn("p=quarantine", finding["remedy"])
        self.records["us.example.", "TXT"] = '"v=spf1 ip4:127.0.0.1 ?all"'
        code, finding = self.of("spf")
        self.assertEqual((code, finding["result"]), (0, "advice"))
        self.assertIn("~all", finding["remedy"])

    def test_questions_that_nobody_answers_are_waited_for_together(self):
        asked = []
        self.server.write_config(dns={"servers": [self.using(nameserver.FakeServer(lambda *question: asked.append(question))).server]})
        began = time.monotonic()
        self.assertEqual(self.examine()[0], 65)  # no name server answers: a problem
        took = time.monotonic() - began
        self.assertLess(took, 32, f"{len(asked)} questions")  # a question takes 10 s; one after the other it was 50 s

    def test_advice_is_no_problem(self):
        del self.records["_dmarc.us.example.", "TXT"]
        self.records["us.example.", "MX"] = "10 mx.elsewhere.example."
        self.records["mx.elsewhere.example.", "A"] = "192.0.2.5"
        code, finding = self.of("dmarc")
        self.assertEqual((code, finding["result"]), (0, "advice"))
        self.assertIn("v=DMARC1; p=none", finding["remedy"])
        self.assertEqual(self.of("mx")[1]["result"], "advice")

    def test_a_silent_dns_is_unknown(self):
        self.failing.add("us.example.")
        code, finding = self.of("spf")
        self.assertEqual((code, finding["result"]), (75, "unknown"))
        self.records["1.0.0.127.in-addr.arpa.", "PTR"] = "other.example."
        self.assertEqual(self.of("ptr")[0], 65)  # what is known to be wrong counts more
        self.failing.add("ietf.org.")
        self.assertEqual(self.of("resolver")[1]["result"], "problem")

    def test_port_and_relay(self):
        self.server.write_config(delivery={"port": wait.free_port()})
        code, finding = self.of("port")
        self.assertEqual((code, finding["result"]), (65, "problem"))
        self.assertIn("provider", finding["remedy"])
        self.server.write_config(route=[{"domain": "*", "next_hop": f"smtp://127.0.0.1:{self.probe.port}"}])
        self.assertEqual(self.of("port")[1]["result"], "ok")
        self.records["1.0.0.127.in-addr.arpa.", "PTR"] = "other.example."
        self.assertEqual(self.of("ptr")[1]["result"], "advice")  # the relay's name counts

    def test_names_of_routes(self):
        self.records["7.0.0.127.in-addr.arpa.", "PTR"] = "shop.us.example."
        self.records["shop.us.example.", "A"] = "127.0.0.7"
        self.records["shop.us.example.", "TXT"] = '"v=spf1 a -all"'
        self.records["us.example.", "TXT"] = '"v=spf1 ip4:127.0.0.0/24 -all"'
        route = {"domain": "*", "from": "shop.example", "next_hop": "mx", "source": "127.0.0.7"}
        self.server.write_config(route=[{**route, "helo": "shop.us.example"}])
        self.assertEqual(self.of("ptr")[1]["result"], "ok")
        self.server.write_config(route=[route])
        self.assertIn("127.0.0.7 is called shop.us.example", self.of("ptr")[1]["text"])

    def test_this_machine(self):
        self.server.write_config(hostname="mail")
        self.assertIn("not a full name", self.of("hostname", "us.example")[1]["text"])
        self.server.write_config(hostname="mx.us.example", accept={"open_relay": True, "relay_from": ["0.0.0.0/0"]})
        code, finding = self.of("open_relay")
        self.assertEqual((code, finding["result"]), (65, "problem"))
        self.server.write_config(accept={"open_relay": False, "relay_from": ["127.0.0.0/8"]})
        self.make_certificate("mx.us.example", 5)
        self.assertEqual(self.of("certificate")[1]["result"], "advice")
        self.make_certificate("other.example", 90)
        self.assertIn("none is for the name mx.us.example", self.of("certificate")[1]["text"])
        self.server.write_config(spool="/dev/shm/postrider-doctor-test")
        self.assertIn("in memory", self.of("spool")[1]["text"])

    def test_another_domain(self):
        code, finding = self.of("dkim", "other.example")
        self.assertEqual((code, finding["result"]), (65, "problem"))
        self.assertIn("postrider dkim new other.example", finding["remedy"])
        self.assertEqual(self.server.tool("postrider", "doctor", "no domain", check=False).returncode, 64)


if __name__ == "__main__":
    scenario.main()
