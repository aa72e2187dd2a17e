#!/usr/bin/python3
"""attacks.md 2.8 over TCP: a stranger tries to relay, and addresses are written in odd ways."""
from support_py import daemon, scenario, sink, wait
from support_py.daemon import USER
from support_py.smtp import Client

IP = "127.0.0.1"
SENDERS = ["", "a@ext.example", "a@us.example", f"a@[{IP}]"]
# Refused for everyone who may not relay, whatever the sender: row, recipients.
NEVER = [
    ("A01", ["u@ext.example"]),
    ("A02", [f"u%ext.example@[{IP}]", "u%ext.example@us.example"]),
    ("A03", ['"u@ext.example"', '"u%ext.example"']),
    ("A04", [f"u@ext.example@[{IP}]", "u@ext.example@us.example"]),
    ("A05", [f'"u@ext.example"@[{IP}]', '"u@ext.example"@us.example']),
    ("A06", [f"@[{IP}]:u@ext.example", "@us.example:u@ext.example",
             "@us.example,@x.example:u@ext.example"]),
    ("A07", ["ext.example!u", f"ext.example!u@[{IP}]", "ext.example!u@us.example"]),
    ("A08", ["u@[::1]", "u@[IPv6:::ffff:127.0.0.1]", "u@[IPv6:fe80::1%eth0]", "u@[0]",
             "u@[2130706433]", "u@[0x7f.1]", "u@[127.1]", "u@[127.0.0.1", "u@127.0.0.1]",
             "u@[IPv6:1:2:3]", "u@[IPv6:::1::1]", "u@[10.0.0.1]"]),
    ("A09", ["u@us.example..", "u@.us.example", "u@-us.example", "u@us.example_", "u@us_.example",
             "u@", "u@.", "u@..", "@us.example"]),
    ("A10", ["u@xn--us-example-0ya.example", "u@xn--s-pma.example", "u@xn--a.example"]),
    ("A11", ['"x@evil.example x"@us.example', '"a b"@us.example', '"\\"@us.example',
             '"a\\"b"@us.example', '""', '""@us.example', '"unclosed@us.example']),
    ("A12", [f"{USER}(c)@us.example", f"{USER}@us.example(c)evil.example",
             f"{USER}@(c)us.example", f"(c){USER}@us.example"]),
    ("A14", ["=?utf-8?q?u=40ext.example?=@us.example"]),
    ("A15", ["+AGE-@us.example"]),
    ("I01", ["../../x@us.example", "..@us.example", ".@us.example", "%2e%2e@us.example",
             "a/b@us.example", "a\\b@us.example", "/etc/passwd@us.example"]),
    ("I02", ["-Cx@us.example", "--help@us.example", "-@us.example"]),
    ("I03", [";id;@us.example", "`id`@us.example", "$(id)@us.example", "|id@us.example",
             ";id;"]),
    ("I04", ["${run{x}}@us.example", "{{7*7}}@us.example", "%s%n@us.example", "{}@us.example"]),
    ("I05", ["x'/**/UNION/**/SELECT/**/1--@us.example", '";DROP TABLE q;--"@us.example']),
]
RAW = [  # whole commands, for what a bracket helper would hide
    ("A13", [f"RCPT TO:<{USER}@us.example>, <v@ext.example>", f"RCPT TO:<<{USER}@us.example>>",
             f"RCPT TO:<{USER}@us.example", f"RCPT TO:{USER}@us.example>",
             f"RCPT TO:< {USER}@us.example >", f"RCPT TO:<{USER}@us.example><v@ext.example>"]),
    ("A16", [f"RCPT TO:<{USER}@us.example> ORCPT={value}" for value in (
        "rfc822;v+0D+0AX:y", "rfc822;+00", "v+0D+0AX", "rfc822;+G0", "rfc822;a+4")]),
]


class Relay(scenario.Scenario):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.peer = cls.shared(sink.Sink())
        cls.server = cls.shared(daemon.Postrider(
            cls.folder / "d", accept={"relay_from": ["127.0.0.9/32"], "errors": 1000,
                                      "sessions_per_client": 1000},
            **scenario.to(cls.peer)).start())

    def client(self):
        client = Client(self.server.port, source="127.0.0.2")
        self.addCleanup(client.close)
        client.hello()
        return client

    def tearDown(self):
        self.assertEqual(self.server.queue(), [])
        self.assertEqual(self.peer.messages, [])

    def refused(self, command):
        for sender in SENDERS:
            with self.subTest(command=command, sender=sender):
                client = self.client()
                reply = client.command(f"MAIL FROM:<{sender}>")
                if reply.code != 250:  # the address literal as a sender may be refused
                    self.assertTrue(500 <= reply.code < 600)
                    continue
                reply = client.command(command)
                self.assertIn(reply.code, (500, 501, 550, 551, 553, 554), reply)
                self.assertIn(client.command("DATA").code, (503, 554))
                self.assertTrue(client.in_sync())
                client.close()

    def test_A08_and_A09_the_canonical_forms_are_ours(self):
        """A09 case and a trailing dot of our domain; what is accepted is ours, and stays here"""
        client = self.client()
        client.expect("MAIL FROM:<a@ext.example>", 250)
        client.expect(f"RCPT TO:<{USER}@US.EXAMPLE>", 250)
        for address in (f"{USER}@us.example.", f"{USER}@localhost", f"{USER}@localhost.",
                        f"{USER}@[{IP}]", f"{USER}@[IPv6:::1]"):
            reply = client.command(f"RCPT TO:<{address}>")
            self.assertIn(reply.code, (250, 501, 550, 553), f"{address}: {reply}")
            self.assertTrue(client.in_sync())
        client.expect(f"RCPT TO:<{USER}@[{IP}]>", 250)  # it listens there (RFC 1123 §5.2.17)
        client.expect(f"RCPT TO:<no-such-user@[{IP}]>", 550)
        client.expect(f"RCPT TO:<{USER}@[IPv6:::1]>", 550)

    def test_A13_an_address_without_brackets(self):
        """A13 u@us without brackets: accepted or 501"""
        client = self.client()
        client.expect("MAIL FROM:<a@ext.example>", 250)
        self.assertIn(client.command(f"RCPT TO:{USER}@us.example").code, (250, 501))

    def test_A16_controls_in_ENVID(self):
        """A16 xtext that decodes to controls is 501"""
        for value in ("+0A", "+00", "a+0D+0A", "+", "+7", "+zz", "a b=", "ü"):
            client = self.client()
            reply = client.command(f"MAIL FROM:<a@us.example> ENVID={value}")
            self.assertIn(reply.code, (500, 501, 555), f"{value}: {reply}")
            self.assertTrue(client.in_sync())

    def test_A18_a_stranger_on_the_submission_listener(self):
        """A18 submission is for known clients: 530 for all others, whoever they claim to be"""
        port = wait.free_port()
        server = self.daemon(
            listeners=[{"address": f"127.0.0.1:{port}", "role": "submission", "tls": "off"}],
            accept={"relay_from": ["127.0.0.9/32"]})
        for source, code in (("127.0.0.2", 530), ("127.0.0.9", 250)):
            with Client(port, source=source) as client:
                client.hello()
                for sender in ("a@us.example", "a@ext.example"):
                    client.expect(f"MAIL FROM:<{sender}>", code)
                    client.expect("RSET", 250)
        self.assertEqual(server.queue(), [])

    def test_A19_tags(self):
        """A19 u+tag, u-tag and an empty tag: accepted or unknown, no crash"""
        client = self.client()
        client.expect("MAIL FROM:<a@ext.example>", 250)
        for local in (f"{USER}+tag", f"{USER}-tag", f"{USER}+", "+tag", "+"):
            self.assertIn(client.command(f"RCPT TO:<{local}@us.example>").code, (250, 550))

    def test_A20_VRFY_and_EXPN_tell_nothing(self):
        """A20 VRFY is 252 whoever is asked for, EXPN is 502"""
        client = self.client()
        self.assertEqual([client.command(f"VRFY {name}").code for name in
                          (USER, "nobody-here", f"{USER}@us.example")], [252] * 3)
        client.expect(f"EXPN {USER}", 502)

    def test_A17_addresses_that_are_valid_or_not(self):
        """A17 forms of the RFC 5321 grammar, by an authorised client"""
        valid = ["first.last@far.example", '"first last"@far.example', "1234567890@far.example",
                 "!#$%&'*+-/=?^_`{|}~@far.example", "x@a-b.example", '"a\\@b"@far.example',
                 "a@" + "b" * 63 + ".example", "a@far", "a@1.example", '"a.b"@far.example',
                 # Not by the RFC, but they exist, and are passed on.
                 ".first@far.example", "last.@far.example", "a..b@far.example", "a@far_.example",
                 "l" * 100 + "@far.example", "a@far.example.", "a"]
        invalid = ["a b@far.example",
                   "a@far..example", "a@-far.example", "a@far-.example", "a,b@far.example",
                   "a:b@far.example", "a;b@far.example", "a<b@far.example", "a[b@far.example",
                   "a\\@b@far.example", '"a"b@far.example', 'a"b"@far.example', "a@[1.2.3]",
                   "a@[1.2.3.256]", "a@[1.2.3.4.5]", "a@far.example!", "@"]
        with Client(self.server.port, source="127.0.0.9") as client:
            client.hello()
            client.expect("MAIL FROM:<a@us.example>", 250)
            for address in valid:
                self.assertEqual(client.command(f"RCPT TO:<{address}>").code, 250, address)
            for address in invalid:
                reply = client.command(f"RCPT TO:<{address}>")
                self.assertIn(reply.code, (500, 501, 550, 553), f"{address}: {reply}")


def add(identifier, commands):
    def test(self):
        for command in commands:
            self.refused(command)
    test.__doc__ = f"{identifier} refused, and nothing is queued"
    setattr(Relay, f"test_{identifier}_is_refused", test)


for name, recipients in NEVER:
    add(name, [f"RCPT TO:<{recipient}>" for recipient in recipients])
for name, lines in RAW:
    add(name, lines)


if __name__ == "__main__":
    scenario.main()
