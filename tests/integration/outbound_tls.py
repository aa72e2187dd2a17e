#!/usr/bin/python3
"""TLS to a real Postfix: as a wish, required, verified, and by DANE with a zone that Knot signs
behind a validating Unbound (RFC 7672)."""
import json
import unittest

from support_py import authority, remote_postfix, scenario, secure_dns, wait

CONTENT = b"From: <a@us.example>\r\nTo: <b@x>\r\nSubject: under TLS\r\n\r\nhello\r\n"
GOOD, EXPIRED, OTHER, CLEAR = "127.0.2.1", "127.0.2.2", "127.0.2.3", "127.0.2.4"
HOST, SECURE = "127.0.2.5", "127.0.2.6"


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
        spki, other, wrong = (authority.key_digest(cls.good), authority.key_digest(cls.other),
                              "00" * 32)
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
        # An alias that is signed for a host that is not: what counts is at the alias.
        for host, address, record in (("out", "other", other), ("outwrong", "other", wrong)):
            lines += [f"{host} CNAME {address}.plain.example.", f"to-{host} MX 10 {host}",
                      f"{at}.{host} TLSA 3 1 1 {record}"]
        lines += ["outnone CNAME other.plain.example.", "to-outnone MX 10 outnone",
                  "to-insecure MX 10 good.plain.example."]
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
            ("to-out", "sent", "verified=dane", None),                           # E07
            ("to-outwrong", "deferred", None, "does not match the TLSA records"),
            ("to-outnone", "sent", "TLSv1.3", None),
        ]
        for name, verdict, tls, reason in cases:
            with self.subTest(name):
                self.sent(server, f"{name}.dane.example", verdict, tls, reason)

    def test_E06_a_host_with_an_insecure_address_has_no_TLSA_records(self):
        """E06 MX secure, A and AAAA insecure: opportunistic, and its TLSA records are not even
        asked for (the ones that it has would refuse)."""
        self.sent(self.server(), "to-insecure.dane.example", "sent", "TLSv1.3 ")
        self.assertTrue(self.resolver.was_asked("good.plain.example", "A"))
        records = f"_{self.postfix.port}._tcp.good.plain.example"
        self.assertFalse(self.resolver.was_asked(records, "TLSA"))

    def test_without_dnssec_there_is_no_dane_and_tls_is_a_wish(self):
        server = self.server()
        self.sent(server, "to-good.plain.example", "sent", "TLSv1.3")  # E05: its TLSA is wrong
        self.sent(server, "to-other.plain.example", "sent", "TLSv1.3")
        self.sent(server, "to-clear.plain.example", "sent", "none (the host offers no STARTTLS)")
        counted = json.loads(server.postrider("status", "--json"))["delivered_by_tls"]
        self.assertEqual(counted, {"TLSv1.3": 2, "TLSv1.2": 0, "older": 0, "none": 1})

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


@unittest.skipUnless(scenario.is_root(), "Postfix needs root")
class Resumption(scenario.Scenario):
    """Sessions as a real Postfix sees them: resumed, or not."""

    def setUp(self):
        super().setUp()
        self.ca = authority.Authority(self.folder / "ca")
        chain = self.ca.sign("mx.plain.example", "localhost")
        self.postfix = self.using(remote_postfix.Postfix(self.own_folder("postfix"), {
            HOST: {"smtpd_tls_security_level": "may"},
            SECURE: {"smtpd_tls_wrappermode": "yes"}},
            smtpd_tls_chain_files=chain, smtpd_tls_loglevel="2",
            smtpd_timeout="1s"))  # so that a connection is not used twice
        self.names = self.knot(plain_example=f"mx A {HOST}\nsecure A {SECURE}")

    def server(self, routes):
        return self.daemon(threads=1, dns={"servers": [self.names.server]}, route=routes, delivery={
            "retry": ["1h"], "tls_ca": str(self.ca.certificate)})

    def handshake(self, server, domain, at):
        """Sends a message; when its connection has ended, what both sides say of it."""
        ended = len(self.postfix.logged("disconnect from"))
        resumed = len(self.postfix.logged("Reusing old session"))
        recipient = f"b{ended}@{domain}"
        self.assertEqual(server.send("a@us.example", recipient, CONTENT).code, 250)
        event = attempt(server, recipient)
        self.assertEqual(event["verdict"], "sent", event)
        wait.until(lambda: len(self.postfix.logged("disconnect from")) > ended,
                   lambda: f"the end of the connection; log: {self.postfix.log}")
        peer_says = len(self.postfix.logged("Reusing old session")) > resumed
        self.assertEqual(" resumed" in event["tls"], peer_says, event)
        print(f"  {domain}, {at}: {event['tls']}; Postfix: {'resumed' if peer_says else 'new'}")
        return peer_says

    def test_sessions_are_resumed_within_a_policy_and_a_host_alone(self):
        hop = f"smtp://mx.plain.example:{self.postfix.port}"
        server = self.server(
            [{"domain": f"{mode}.example", "next_hop": hop, "tls": mode}
             for mode in ("opportunistic", "require", "verify")] +
            [{"domain": "address.example", "next_hop": f"smtp://{HOST}:{self.postfix.port}",
              "tls": "require"}])
        for domain, resumed in (("require", False), ("require", True), ("require", True),
                                ("verify", False), ("verify", True),
                                ("opportunistic", False), ("opportunistic", True),
                                ("address", False), ("require", True), ("verify", True)):
            with self.subTest(domain):
                self.assertEqual(self.handshake(server, f"{domain}.example", HOST), resumed)

    def test_smtps(self):
        """A route with TLS from the first octet: taken, verified, resumed, or not delivered."""
        hop = f"smtps://secure.plain.example:{self.postfix.port}"
        server = self.server([
            {"domain": "smtps.example", "next_hop": hop},
            {"domain": "verify.example", "next_hop": hop, "tls": "verify",
             "tls_names": ["mx.plain.example"]},
            {"domain": "wrong.example", "next_hop": hop, "tls": "verify"},
            {"domain": "clear.example",
             "next_hop": f"smtps://mx.plain.example:{self.postfix.port}"}])
        for domain, resumed in (("smtps", False), ("smtps", True), ("verify", False)):
            self.assertEqual(self.handshake(server, f"{domain}.example", SECURE), resumed)
        events = [json.loads(line) for line in server.log_file.read_text().splitlines()]
        states = [event["state"] for event in events if event.get("event") == "tls"]
        self.assertRegex(states[0], r"^TLSv1\.3 \S+ verified=")
        self.assertIn("verified=name", states[2])
        # Another name, and a host that begins in clear: neither gets the message.
        for domain, reason in (("wrong", "does not name secure.plain.example"),
                               ("clear", "handshake")):
            self.assertEqual(server.send("a@us.example", f"b@{domain}.example", CONTENT).code, 250)
            event = attempt(server, f"b@{domain}.example")
            self.assertEqual(event["verdict"], "deferred", event)
            self.assertIn(reason, event["reason"], event)
            print(f"  {domain}: {event['reason'][:160]}")


if __name__ == "__main__":
    scenario.main()
