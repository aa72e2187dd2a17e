#!/usr/bin/python3
"""TLS to a real Postfix: as a wish, required, verified, and by DANE with a zone that Knot signs
behind a validating Unbound (RFC 7672)."""
import json
import unittest

from support_py import authority, remote_postfix, scenario, secure_dns, wait

CONTENT = b"From: <a@us.example>\r\nTo: <b@x>\r\nSubject: under TLS\r\n\r\nhello\r\n"
GOOD, EXPIRED, OTHER, CLEAR = "127.0.2.1", "127.0.2.2", "127.0.2.3", "127.0.2.4"


def attempt(server, recipient):
    """The first attempt for this recipient, from the log."""
    def look():
        for line in server.log_file.read_text().splitlines():
            event = json.loads(line)
            if event.get("event") == "attempted" and event.get("to") == recipient:
                return event
        return None
    return wait.until(look, lambda: f"an attempt for {recipient}; log: {server.log_file}")


@unittest.skipUnless(scenario.is_root(), "Postfix needs root")
class ToPostfix(scenario.Scenario):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.ca = authority.Authority(cls.folder / "ca")
        cls.good = cls.ca.sign("good.plain.example", "ta.dane.example", "good.dane.example")
        cls.expired = cls.ca.sign("expired.plain.example", expired=True)
        cls.other = cls.ca.sign("somebody.else.example")
        tls = {"smtpd_tls_security_level": "may"}
        cls.postfix = cls.shared(remote_postfix.Postfix(cls.folder / "postfix", {
            GOOD: {**tls, "smtpd_tls_chain_files": cls.good},
            EXPIRED: {**tls, "smtpd_tls_chain_files": cls.expired},
            OTHER: {**tls, "smtpd_tls_chain_files": cls.other},
            CLEAR: {"smtpd_tls_security_level": "none"}}))
        cls.names = cls.shared(secure_dns.SigningKnot(cls.folder / "knot", cls.zones(),
                                                      ["dane.example."]))
        unbound_folder = cls.folder / "unbound"
        unbound_folder.mkdir()
        cls.resolver = cls.shared(secure_dns.Unbound(unbound_folder, cls.names))

    @classmethod
    def zones(cls):
        old = cls.folder / "old"
        old.mkdir()
        spki, wrong = authority.key_digest(cls.good), "00" * 32
        old_zone, ds = secure_dns.signed_in_the_past(
            old, "_tcp.sigold.dane.example.", f"_{cls.postfix.port} TLSA 3 1 1 {spki}")
        at = f"_{cls.postfix.port}._tcp"
        hosts = {  # host: (address, TLSA records)
            "good": (GOOD, [f"3 1 1 {spki}"]),
            "unusable": (OTHER, [f"0 0 1 {wrong}", f"1 1 1 {wrong}"]),
            "unusableclear": (CLEAR, [f"1 1 1 {wrong}"]),
            "wrong": (GOOD, [f"3 1 1 {wrong}"]),
            "several": (GOOD, [f"3 1 1 {wrong}", f"0 0 1 {wrong}", f"3 1 1 {spki}"]),
            "ta": (GOOD, [f"2 0 1 {authority.certificate_digest(cls.ca.certificate)}"]),
            "taname": (OTHER, [f"2 0 1 {authority.certificate_digest(cls.ca.certificate)}"]),
            "oldcert": (EXPIRED, [f"3 1 1 {authority.key_digest(cls.expired)}"]),
            "clear": (CLEAR, [f"3 1 1 {spki}"]),
            "none": (OTHER, []),
            "sigold": (GOOD, []),
            "servfail": (GOOD, []),
        }
        lines = []
        for host, (address, records) in hosts.items():
            lines += [f"{host} A {address}", f"to-{host} MX 10 {host}"]
            lines += [f"{at}.{host} TLSA {record}" for record in records]
        lines += ["alias CNAME good", "to-alias MX 10 alias", "both MX 10 wrong", "both MX 20 good",
                  "_tcp.sigold NS ns.example.", f"_tcp.sigold DS {ds}",
                  "_tcp.servfail NS ns.example."]
        plain = [f"{name} A {address}" for name, address in
                 {"good": GOOD, "expired": EXPIRED, "other": OTHER, "clear": CLEAR}.items()]
        plain += [f"to-{name} MX 10 {name}" for name in ("good", "other", "clear")]
        plain += [f"{at}.good TLSA 3 1 1 {wrong}"]
        return {"dane.example.": "\n".join(lines), "plain.example.": "\n".join(plain),
                "_tcp.sigold.dane.example.": old_zone,
                "_tcp.servfail.dane.example.": None, "example.": "ns A 127.0.0.1"}

    def server(self, **settings):
        return self.daemon(dns={"servers": [self.resolver.server]}, delivery={
            "port": self.postfix.port, "retry": ["1h"], "tls_ca": str(self.ca.certificate)},
            **settings)

    def sent(self, server, domain, verdict, tls=None, reason=None):
        recipient = f"b@{domain}"
        self.assertEqual(server.send("a@us.example", recipient, CONTENT).code, 250)
        event = attempt(server, recipient)
        self.assertEqual(event["verdict"], verdict, event)
        if tls:
            self.assertIn(tls, event.get("tls", ""), event)
        if reason:
            self.assertIn(reason, event["reason"], event)
        print(f"  {domain}: {event['verdict']}, tls={event.get('tls')}, {event['reason'][:160]}")

    def test_dane_gives_the_outcomes_of_rfc_7672(self):
        server = self.server()
        cases = [
            ("to-good", "sent", "verified=dane", None),                          # E01
            ("to-alias", "sent", "verified=dane", None),                         # E07
            ("to-several", "sent", "verified=dane", None),
            ("to-ta", "sent", "verified=dane", None),
            ("to-taname", "deferred", None, "does not match the TLSA records"),  # E09
            ("to-oldcert", "sent", "verified=dane", None),                       # E08
            ("to-unusable", "sent", "TLSv1.3", None),                            # E03
            ("to-unusableclear", "deferred", None, "offers no STARTTLS"),        # E03
            ("to-wrong", "deferred", None, "does not match the TLSA records"),   # E02
            ("to-clear", "deferred", None, "offers no STARTTLS"),                # E02
            ("to-sigold", "deferred", None, "TLSA records of"),                  # E04
            ("to-servfail", "deferred", None, "TLSA records of"),                # E04
            ("both", "sent", "verified=dane", None),                             # the next MX
            ("to-none", "sent", "TLSv1.3", None),
        ]
        for name, verdict, tls, reason in cases:
            with self.subTest(name):
                self.sent(server, f"{name}.dane.example", verdict, tls, reason)

    def test_without_dnssec_there_is_no_dane_and_tls_is_a_wish(self):
        server = self.server()
        self.sent(server, "to-good.plain.example", "sent", "TLSv1.3")  # E05: its TLSA is wrong
        self.sent(server, "to-other.plain.example", "sent", "TLSv1.3")
        self.sent(server, "to-clear.plain.example", "sent", "none (the host offers no STARTTLS)")

    def test_routes_say_how_much_tls_there_must_be(self):
        cases = [
            ("good", "require", "sent", "TLSv1.3", None),
            ("other", "require", "sent", "TLSv1.3", None),
            ("clear", "require", "deferred", None, "offers no STARTTLS"),
            ("good", "verify", "sent", "verified=name", None),
            ("other", "verify", "deferred", None, "does not name other.plain.example"),
            ("expired", "verify", "deferred", None, "not valid now"),
            ("expired", "opportunistic", "sent", "TLSv1.3", None),
            ("good", "off", "sent", "none (off by the route)", None),
            ("good", "dane", "deferred", None, "demands DANE"),
        ]
        server = self.server(route=[
            {"domain": f"{host}-{mode}.example",
             "next_hop": f"smtp://{host}.plain.example:{self.postfix.port}", "tls": mode}
            for host, mode, *_ in cases])
        for host, mode, verdict, tls, reason in cases:
            with self.subTest(f"{mode} {host}"):
                self.sent(server, f"{host}-{mode}.example", verdict, tls, reason)


if __name__ == "__main__":
    scenario.main()
