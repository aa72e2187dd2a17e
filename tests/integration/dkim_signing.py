#!/usr/bin/python3
"""Mail of this machine is signed as it leaves: after every change of ours, and by the keys of whom it is from. Others
verify what went over the wire: dkimpy, Mail::DKIM and opendkim."""
import shutil

from support_py import scenario
from support_py.signatures import TEXT, Signing


class Sendmail(Signing):
    """With both kinds of keys."""

    def both_hold(self, message):
        return self.peers.check(self, message, "us.example/e1", "us.example/r1")

    def test_through_the_socket(self):
        server = self.signing()
        self.hand_over(server)
        message, = self.sent()
        fields = self.both_hold(message)
        self.assertEqual([field["a"] for field in fields], ["ed25519-sha256", "rsa-sha256"])
        names = fields[0]["h"].lower().split(":")
        self.assertEqual((names.count("from"), names.count("subject"), names.count("received")), (2, 2, 0))

    def test_what_is_missing_is_added_before(self):
        server = self.signing()
        self.hand_over(server, b"Subject: x\n\nx\n")  # From, Date and Message-ID are ours
        message, = self.sent()
        self.both_hold(message)
        for field in (b"\r\nFrom: ", b"\r\nDate: ", b"\r\nMessage-ID: "):
            self.assertIn(field, message)

    def test_odd_content(self):
        server = self.signing()
        texts = [TEXT + "\u00fc\u00df 8-bit\n".encode(), TEXT + b"x" * 20000 + b"\n", TEXT + b"no end", TEXT + b"\n\n \n\t\n\n",
                 TEXT + b".\n..\n.x\n", TEXT.replace(b"Text", b""), TEXT.replace(b"\n\nText\n", b"\n"),
                 TEXT + b"a\rb\n", TEXT.replace(b"\n", b"\r\n"), TEXT.replace(b"hello", b"a\n\tb\n c  \t d"),
                 b"no header line\n" + TEXT, b"From ann@us.example Mon Nov 23 10:00:00 2026\n" + TEXT]
        for text in texts:
            self.hand_over(server, text, "-i", "sue@far.example")
        for message in self.sent(len(texts)):
            self.both_hold(message)

    def test_from_the_drop_folder(self):
        server = self.signing()  # which makes the folder
        server.stop()
        self.hand_over(server)
        server.start()
        self.both_hold(self.sent()[0])

    def test_after_rewriting(self):
        server = self.signing(rewrite={"sender": "inline:{ann=ann.lee@us.example}", "masquerade": "us.example"})
        for author in (b"ann@us.example", b"ann@host.us.example"):
            self.hand_over(server, TEXT.replace(b"ann@us.example", author))
        for message in self.sent(2):
            self.assertNotIn(b"host.us", message.partition(b"From: ")[2])
            self.both_hold(message)

    def test_fifty_megabytes_in_little_memory(self):
        server = self.signing(accept={"message_size": "100MiB"}, sink={"extensions": ("PIPELINING", "8BITMIME")})
        self.hand_over(server)
        self.sent()
        before = server.memory()
        line = b"0123456789 \t abcdefghijklmnopqrstuvwxyz  \n"
        self.hand_over(server, TEXT + line * ((50 << 20) // len(line)))
        message = self.sent(2)[1]
        self.assertGreater(len(message), 50 << 20)
        self.assertLess(server.memory() - before, 24 << 20)
        for index in range(2):
            self.assertIs(self.peers.by_dkimpy(message, index), True)

    def test_not_where_it_is_not_wanted(self):
        server = self.signing(dkim={"sign": ["submission", "relay_from", "notices"]})
        self.hand_over(server)
        self.peers.check(self, self.sent()[0])


class Whose(Signing):
    domains = ("us.example", "other.example")
    both = False

    def signed_by(self, server, author):
        before = len(self.target.messages)
        self.hand_over(server, TEXT.replace(b"From: Ann <ann@us.example>\n", author))
        return self.sent(before + 1)[before]

    def test_the_domains_of_From(self):
        server = self.signing()
        for author, signers in (
                (b"From: a@us.example\n", ["us.example/r1"]),
                (b"From: a@OTHER.example\n", ["other.example/r1"]),
                (b"From: a@deep.sub.us.example\n", ["us.example/r1"]),
                (b"From: a@notus.example\n", []),
                (b"From: a@example\n", []),
                (b"From: a@us.example, b@us.example\nSender: a@us.example\n", ["us.example/r1"]),
                (b"From: a@us.example, b@other.example\nSender: a@us.example\n", ["us.example/r1", "other.example/r1"]),
                (b"From: a@us.example, b@far.example\nSender: a@us.example\n", ["us.example/r1"]),
                (b"From: \"x@us.example\" <a@far.example>\n", []),
                (b"From: a@us.example\nFrom: b@us.example\n", [])):
            with self.subTest(author):
                self.peers.check(self, self.signed_by(server, author), *signers)
        refused, = server.log("not_signed")
        self.assertEqual(refused["reason"], "not exactly one From field")

    def test_the_nearest_domain_above_signs(self):
        self.peers.new_key(self.keys, "sub.us.example", "s1", "--ed25519")
        server = self.signing()
        self.peers.check(self, self.signed_by(server, b"From: a@x.sub.us.example\n"), "sub.us.example/s1")

    def test_keys_by_a_table(self):
        shutil.move(self.keys / "us.example" / "r1.pem", self.folder / "own.pem")
        self.peers.records["s7._domainkey.us.example"] = self.peers.records["r1._domainkey.us.example"]
        server = self.signing(dkim={"keys": [f"US.example:s7:{self.folder}/own.pem"]})
        self.peers.check(self, self.signed_by(server, b"From: a@us.example\n"), "us.example/s7")
        self.peers.check(self, self.signed_by(server, b"From: a@other.example\n"), "other.example/r1")

    def test_forms_fields_and_the_end_of_validity(self):
        server = self.signing(dkim={"canonicalization": "simple/simple", "oversigned_fields": ["from", "X-Own"],
                                    "signed_fields": ["Subject"], "valid_for": "7d"})
        message = self.signed_by(server, b"From: a@us.example\nX-Own: a  b\n")
        field, = self.peers.check(self, message, "us.example/r1")
        self.assertEqual((field["c"], field["h"].lower()), ("simple/simple", "from:from:x-own:x-own:subject"))
        self.assertEqual(int(field["x"]) - int(field["t"]), 7 * 86400)


class Ours(Signing):
    """Notices and reports."""
    domains = ("mx.us.example",)
    both = False

    def test_a_bounce(self):
        server = self.signing(sink={"script": {"rcpt": {"nobody@far.example": "550 5.1.1 no such user"}}})
        self.hand_over(server, b"From: ann@elsewhere.example\nSubject: x\n\nx\n", "nobody@far.example", "-f",
                       "ann@elsewhere.example")
        message, = self.sent()
        self.peers.check(self, message, "mx.us.example/r1")
        self.assertIn(b"multipart/report", message)

    def test_a_bounce_of_a_large_message(self):
        server = self.signing(sink={"script": {"rcpt": {"nobody@far.example": "550 5.1.1 no such user"}}})
        self.hand_over(server, b"From: ann@elsewhere.example\nSubject: x\n\n" + b"x\n" * 200000, "nobody@far.example",
                       "-f", "ann@elsewhere.example")
        self.peers.check(self, self.sent()[0], "mx.us.example/r1")


if __name__ == "__main__":
    scenario.main()
