#!/usr/bin/python3
"""attacks.md 2.1 over TCP: the content ends at the first CRLF.CRLF and nowhere else, and a bare CR,
a bare LF or a NUL refuses the message at its true end, in sync, with nothing queued."""
import re

from support_py import certificates, scenario, sink, wait
from support_py.daemon import Postrider
from support_py.smtp import Client

SMUGGLED = (b"MAIL FROM:<x@us.example>\r\nRCPT TO:<y@relay.example>\r\nDATA\r\n"
            b"Subject: smuggled\r\n\r\nz\r\n.\r\n")
ROWS = [
    ("S01", [b"\n.\n"], "LF dot LF"),
    ("S02", [b"\n.\r\n"], "LF dot CRLF"),
    ("S03", [b"\r\n.\n"], "CRLF dot LF"),
    ("S04", [b"\r.\r"], "CR dot CR"),
    ("S05", [b"\r.\n"], "CR dot LF"),
    ("S06", [b"\n.\r"], "LF dot CR"),
    ("S07", [b"\r.\r\n"], "CR dot CRLF"),
    ("S08", [b"\r\n.\r"], "CRLF dot CR"),
    ("S09", [b"\r\n\0.\r\n"], "NUL before the dot"),
    ("S10", [b"\r\n.\0\r\n"], "NUL behind the dot"),
    ("S11", [b"\r\n.\r\r\n"], "CRLF dot CR CRLF"),
    ("S12", [b"\r\r\n.\r\r\n"], "CR CRLF dot CR CRLF"),
    ("S13", [b"\r\r\n.\r\n"], "a true end behind a bare CR"),
    ("S14", [b"\n\n.\n\n"], "LF LF dot LF LF"),
    ("S15", [b"\r\n. \r\n", b"\r\n.\t\r\n", b"\r\n .\r\n"], "spaces around the dot are text"),
    ("S16", [b"\x85.\x85", b"\xe2\x80\xa8.\xe2\x80\xa8", b"\x0b.\x0b", b"\x0c.\x0c"],
     "line ends of Unicode, VT and FF are text"),
    ("S18", [b"\r\n..\r\n"], "a doubled dot is a dot"),
    ("S19", [b"\r\n.x\r\n"], "one dot is taken off"),
]
VARIANTS = [variant for _, variants, _ in ROWS for variant in variants]
LINE_ENDS = [b"\r\n", b"\n", b"\r", b"\n\r", b"\r\r\n", b"\r\n\0", b"\0\r\n", b"\x85",
             b"\xe2\x80\xa8"]


def split_at_true_end(payload):
    """The oracle: (content without dot-stuffing, what follows as commands)."""
    stream = b"\r\n" + payload
    end = stream.index(b"\r\n.\r\n")
    content = stream[2:end + 2] if end >= 2 else b""
    return unstuffed(content), stream[end + 5:]


def unstuffed(content):
    if content.startswith(b"."):
        content = content[1:]
    return content.replace(b"\r\n.", b"\r\n")


def is_poisoned(content):
    return b"\0" in content or re.search(rb"(?<!\r)\n|\r(?!\n)", content) is not None


class Base(scenario.Scenario):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.peer = cls.shared(sink.Sink())
        cls.server = Postrider(cls.folder / "d", accept={"message_size": "64KiB"},
                               **scenario.to(cls.peer))
        cls.submission_port = wait.free_port()
        cls.server.write_config(listener=cls.server.settings["listener"] + [
            {"address": f"127.0.0.1:{cls.submission_port}", "role": "submission", "tls": "off"}])
        cls.shared(cls.server.start())

    def setUp(self):
        super().setUp()
        self.before = len(self.peer.messages)

    def connect(self, port=None, hello="EHLO client.example"):
        client = self.using(Connection(port or self.server.port))
        client.expect(hello, 250)
        return client

    def open_data(self, client):
        client.begin("a@ext.example", ["y@relay.example"])
        client.expect("DATA", 354)

    def contents(self):
        """What this test's messages have become at the sink, the Received field taken off."""
        self.server.wait_until_empty()
        return [sink.without_trace(message.content) for message in self.peer.messages[self.before:]]

    def exchange(self, payload, at=None, port=None, hello="EHLO client.example", head=b""):
        """Sends head and payload as content, split at `at`; checks replies against the oracle.
        Returns what must arrive at the sink."""
        client = self.connect(port, hello)
        self.open_data(client)
        payload = head + payload
        if at is None:
            client.send(payload)
        else:
            client.send_split(payload, at)
        content, rest = split_at_true_end(payload)
        reply = client.reply()
        arrives = []
        if is_poisoned(content):
            assert (reply.code, reply.enhanced) == (550, "5.5.2"), f"poisoned content got {reply}"
        else:
            assert reply.code == 250, f"clean content got {reply}"
            arrives.append(content)
        if rest:
            arrives += self.check_rest(client, rest)
        if not rest.startswith(b"\0"):
            assert client.in_sync_or_closed(), "the session is out of step"
            client.close()
        return arrives

    def check_rest(self, client, rest):
        """What follows the true end are commands: MAIL, RCPT, DATA and a message, unless the
        server drops a client that does not wait where it must (P02, P03)."""
        if rest.startswith(b"\0"):  # a bad command, and nothing of a transaction after it
            assert 500 <= client.reply().code < 600
            client.close()
            return []
        assert rest == SMUGGLED, f"the oracle disagrees about {rest!r}"
        for wanted in (250, 250, 354):
            reply = client.reply()
            if reply.code == 554:
                assert client.is_closed(), "refused without closing: the content would be commands"
                return []
            assert reply.code == wanted, reply
        assert client.reply().code == 250
        return [b"Subject: smuggled\r\n\r\nz\r\n"]

    def check_all(self, cases, **settings):
        """cases: (payload, split position or None)."""
        wanted = []

        def one(case):
            wanted.extend(self.exchange(case[0], case[1], **settings))
        problems = scenario.parallel(one, cases)
        self.assertEqual(problems, [])
        self.assertEqual(sorted(self.contents()), sorted(wanted))


class Connection(Client):
    stop = Client.close


class Rows(Base):
    """The rows that are a variant in the wrap of the catalogue."""


def wrapped(variant):
    return b"a\r\n" + variant + SMUGGLED


def add_row(identifier, variants, sentence):
    def over_tcp(self):
        self.check_all([(wrapped(variant), None) for variant in variants])
    over_tcp.__doc__ = f"{identifier} {sentence}"
    setattr(Rows, f"test_{identifier}_over_tcp", over_tcp)

    def split_everywhere(self):
        cases = [(wrapped(variant), at) for variant in variants
                 for at in range(1, len(wrapped(variant)))]
        self.check_all(cases)
    split_everywhere.__doc__ = f"S22 {identifier} split into two segments: {sentence}"
    setattr(Rows, f"test_S22_{identifier}_in_two_segments", split_everywhere)

    def without_extensions(self):
        self.check_all([(wrapped(variant), None) for variant in variants],
                       hello="HELO client.example")
    without_extensions.__doc__ = f"S28 {identifier} from a client that was offered no extension"
    setattr(Rows, f"test_S28_{identifier}_after_HELO", without_extensions)


for row in ROWS:
    add_row(*row)


class UnderTls(Base):
    """The same where what a record holds arrives at once, whatever the segments are."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.secure_port = wait.free_port()
        pair = certificates.Pair(cls.folder, "tls")
        cls.server.write_config(
            listener=cls.server.settings["listener"] + [
                {"address": f"127.0.0.1:{cls.secure_port}", "role": "mx", "tls": "implicit"}],
            tls={"certificate": str(pair.certificate), "key": str(pair.key)})
        cls.server.restart()

    def connect(self, port=None, hello="EHLO client.example"):
        client = self.using(SecureConnection(self.secure_port, implicit=True))
        client.expect(hello, 250)
        return client

    def test_S22_every_variant_in_two_records(self):
        """S22 in two TLS records, at every octet of the variant"""
        self.check_all([(wrapped(variant), at) for variant in VARIANTS
                        for at in range(2, len(variant) + 5)])


class SecureConnection(certificates.Client):
    stop = certificates.Client.close


class Others(Base):
    """Rows with a shape of their own."""

    def test_S17_the_first_octets_after_354(self):
        """S17 a lone dot line is an empty message; other beginnings with a dot are text"""
        for start in (b".\n", b".\r", b"\n.\r\n"):
            with self.subTest(start=start):
                self.check_all([(start + SMUGGLED, None)])
                self.before = len(self.peer.messages)
        client = self.connect()
        self.open_data(client)
        client.send(b".\r\n")
        self.assertEqual(client.reply().code, 250)
        self.assertTrue(client.in_sync())
        self.assertEqual([content.strip() for content in self.contents()], [b""])

    def test_S20_behind_the_size_limit(self):
        """S20 the reader that discards beyond the size limit is as strict: 552 once"""
        head = b"x" * 70 + b"\r\n"
        head *= 1000

        def one(variant):
            client = self.connect()
            self.open_data(client)
            payload = head + wrapped(variant)
            client.send(payload)
            _, rest = split_at_true_end(payload)
            reply = client.reply()
            assert reply.code == 552, f"{variant!r}: {reply}"
            if rest:
                self.check_rest(client, rest)
            assert client.in_sync_or_closed()
            client.close()
        self.assertEqual(scenario.parallel(one, [v for v in VARIANTS if b"\r\n.\r\n" not in v]), [])
        self.assertEqual(self.contents(), [])

    def test_S21_behind_a_long_line(self):
        """S21 behind 998 and more octets without a line end the rules are the same"""
        for length in (998, 999, 1001, 2048, 5000):
            def one(variant, length=length):
                client = self.connect()
                self.open_data(client)
                payload = b"x" * length + variant + SMUGGLED
                client.send(payload)
                content, rest = split_at_true_end(payload)
                reply = client.reply()
                if is_poisoned(content):
                    assert 500 <= reply.code < 600, f"{variant!r}: {reply}"
                else:
                    assert reply.code in (250, 500, 550, 552, 554), f"{variant!r}: {reply}"
                if rest:
                    self.check_rest(client, rest)
                assert client.in_sync_or_closed(), f"{variant!r}: out of step"
                client.close()
            with self.subTest(length=length):
                self.assertEqual(scenario.parallel(one, VARIANTS), [])
        for content in self.contents():
            self.assertTrue(content.startswith(b"xxxx") or content.startswith(b"Subject: smuggled"),
                            content[:100])

    def test_S23_the_dot_on_a_buffer_boundary(self):
        """S23 the dot falls on every offset around the sizes of read buffers"""
        cases = []
        for size in (1024, 4096, 8192, 16384, 32768):
            for offset in range(size - 3, size + 4):
                for variant in (b"\n.\r\n", b"\r\n.\n", b"\r\n..\r\n", b"\r\n.x\r\n", b"\r\n.\r\r\n"):
                    dot = variant.index(b".")
                    whole, part = divmod(offset - dot - 1, 64)
                    head = (b"y" * 62 + b"\r\n") * whole + b"y" * (part + 1)
                    cases.append((head + variant + SMUGGLED, None))
        self.check_all(cases)

    def test_S24_the_matrix_of_line_ends(self):
        """S24 every left and right side of the dot, 81 pairs, against the oracle"""
        self.check_all([(b"a" + left + b"." + right + SMUGGLED, None)
                        for left in LINE_ENDS for right in LINE_ENDS])

    def test_S25_bare_line_ends_in_commands(self):
        """S25 a bare CR or LF in a command is one bad command, never two; the session may end"""
        for command in (b"MAIL FROM:<a@us.example>\nNOOP\r\n", b"NOOP\rNOOP\r\n",
                        b"NOOP\nNOOP\r\n", b"RSET\r\r\n", b"NO\0OP\r\n", b"EHLO x\r\r\n"):
            with self.subTest(command=command):
                client = self.connect()
                client.send(command)
                reply = client.reply()
                self.assertIn(reply.code, (500, 501), reply)
                self.assertTrue(client.in_sync_or_closed())
                client.close()

    def test_S26_inside_BDAT(self):
        """S26 nothing ends a chunk but its count, and bare line ends are refused at LAST"""
        wanted = []
        for variant in VARIANTS + [b"a" + left + b"." + right
                                   for left in LINE_ENDS for right in LINE_ENDS]:
            payload = wrapped(variant)
            client = self.connect()
            client.begin("a@ext.example", ["y@relay.example"])
            client.send(b"BDAT %d LAST\r\n" % len(payload) + payload)
            reply = client.reply()
            if is_poisoned(payload):
                self.assertTrue(500 <= reply.code < 600, (variant, reply))
            else:
                self.assertEqual(reply.code, 250, (variant, reply))
                wanted.append(payload)
            self.assertTrue(client.in_sync(), variant)
            client.close()
        self.assertEqual(sorted(self.contents()), sorted(wanted))

    def test_S27_on_the_submission_port(self):
        """S27 the submission listener has the same reader"""
        client = self.connect(self.submission_port)
        self.open_data(client)  # Date and Message-ID are added there, so only replies are compared
        client.send(b".\r\n")
        self.assertEqual(client.reply().code, 250)

        def one(payload):
            client = self.connect(self.submission_port)
            self.open_data(client)
            client.send(payload)
            content, rest = split_at_true_end(payload)
            reply = client.reply()
            assert reply.code == (550 if is_poisoned(content) else 250), f"{payload!r}: {reply}"
            if rest:
                self.check_rest(client, rest)
            assert rest.startswith(b"\0") or client.in_sync_or_closed()
            client.close()
        self.assertEqual(scenario.parallel(one, [b"a" + left + b"." + right + SMUGGLED
                                                 for left in LINE_ENDS for right in LINE_ENDS]), [])


if __name__ == "__main__":
    scenario.main()
