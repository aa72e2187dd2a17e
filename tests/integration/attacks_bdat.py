#!/usr/bin/python3
"""attacks.md 2.7 over TCP: chunks."""
from support_py import daemon, scenario, sink
from support_py.smtp import Client, Closed

TEXT = b"Subject: chunked\r\n\r\nline one\r\n.\r\n..dots\r\nlast\r\n"


class Bdat(scenario.Scenario):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.peer = cls.shared(sink.Sink())
        cls.server = cls.shared(daemon.Postrider(
            cls.folder / "d", accept={"relay_from": ["127.0.0.1/32"], "relay_to": ["relay.example"],
                                      "message_size": "1MiB", "timeout": "10s",
                                      "sessions_per_client": 1000},
            **scenario.to(cls.peer)).start())

    def setUp(self):
        super().setUp()
        self.before = len(self.peer.messages)

    def client(self, transaction=True, parameters=""):
        client = Client(self.server.port, source="127.0.0.2")
        self.addCleanup(client.close)
        client.hello()
        if transaction:
            client.begin("a@ext.example", ["y@relay.example"], parameters)
        return client

    def arrived(self):
        self.server.wait_until_empty()
        return [sink.without_trace(m.content) for m in self.peer.messages[self.before:]]

    def chunk(self, client, payload, last=False):
        client.send(b"BDAT %d%s\r\n" % (len(payload), b" LAST" if last else b"") + payload)
        return client.reply()

    def test_B01_bad_counts(self):
        """B01 the length is unknown: 501, and the connection is closed"""
        for argument in (b" -1", b" 0x10", b" 1e3", b" +5", b" 5 5", b"", b" 5 LASTX", b" LAST",
                         b" 5.0", b" 1 LAST LAST"):
            with self.subTest(argument=argument):
                client = self.client()
                self.assertEqual(client.command(b"BDAT" + argument).code, 501)
                self.assertTrue(client.is_closed())
        self.assertEqual(self.arrived(), [])

    def test_B02_counts_beyond_every_integer(self):
        """B02 2^63, 2^64, 30 digits: 552 or 501 and closed; nothing wraps"""
        for count in (b"18446744073709551615", b"9223372036854775808", b"18446744073709551616",
                      b"9" * 30, b"18446744073709551621"):
            with self.subTest(count=count):
                client = self.client()
                client.send(b"BDAT " + count + b" LAST\r\nabcde\r\nQUIT\r\n")
                text = client.rest(30)
                self.assertRegex(text, rb"^(552|501)")
                self.assertNotIn(b"\r\n250", text)
        self.assertEqual(self.arrived(), [])

    def test_B03_before_MAIL_or_RCPT(self):
        """B03 503 after swallowing the octets"""
        client = self.client(transaction=False)
        for after in ("MAIL FROM:<a@ext.example>", "RSET"):  # before MAIL, then before RCPT
            self.assertEqual(self.chunk(client, b"NOOP\r\nQUIT", last=True).code, 503)
            self.assertTrue(client.in_sync())
            client.expect("RSET", 250)
            client.expect(after, 250)
            self.assertEqual(self.chunk(client, b"NOOP\r\nQUIT", last=True).code, 503)
            self.assertTrue(client.in_sync())

    def test_B04_DATA_and_BDAT_do_not_mix(self):
        """B04 DATA after BDAT: 503, and refused until RSET"""
        client = self.client()
        self.assertEqual(self.chunk(client, b"Subject: x\r\n").code, 250)
        client.expect("DATA", 503)
        self.assertIn(self.chunk(client, b"more\r\n", last=True).code, (250, 503))
        client.expect("RSET", 250)
        client.begin("a@ext.example", ["y@relay.example"])
        self.assertEqual(self.chunk(client, TEXT, last=True).code, 250)
        self.assertEqual(self.arrived()[-1], TEXT)

    def test_B05_a_hundred_thousand_small_chunks(self):
        """B05 chunks of nothing and of one octet: a budget or bounded memory"""
        before = self.server.memory()
        for unit in (b"BDAT 0\r\n", b"BDAT 1\r\nx"):
            client = self.client()
            for _ in range(100):
                try:
                    client.send(unit * 1000)
                    client.replies(1000)
                except (Closed, OSError):
                    break
            client.close()
        if not scenario.SANITIZED:
            self.assertLess(self.server.memory() - before, 8 << 20)
        self.assertEqual(self.arrived(), [])

    def test_B06_chunks_behind_a_refused_one(self):
        """B06 each is swallowed and refused, until RSET"""
        client = self.client()
        big = b"x" * 70 + b"\r\n"
        big *= 20000
        client.send(b"BDAT %d\r\n" % len(big) + big + b"BDAT 6\r\nNOOP\r\n" +
                    b"BDAT 6 LAST\r\nQUIT\r\n" + b"NOOP\r\n")
        codes = [r.code for r in client.replies(4)]
        self.assertEqual(codes[0], 552)
        self.assertTrue(all(500 <= code < 600 for code in codes[1:3]), codes)
        self.assertEqual(codes[3], 250)
        client.expect("RSET", 250)
        client.begin("a@ext.example", ["y@relay.example"])
        self.assertEqual(self.chunk(client, TEXT, last=True).code, 250)
        self.assertEqual(self.arrived(), [TEXT])

    def test_B07_split_at_every_octet(self):
        """B07 command and payload in two segments, split everywhere"""
        half = len(TEXT) // 2
        stream = (b"BDAT %d\r\n" % half + TEXT[:half] +
                  b"BDAT %d LAST\r\n" % (len(TEXT) - half) + TEXT[half:])

        def one(at):
            client = Client(self.server.port, source="127.0.0.2")
            with client:
                client.hello()
                client.begin("a@ext.example", ["y@relay.example"])
                client.send_split(stream, at)
                assert [r.code for r in client.replies(2)] == [250, 250]
                assert client.in_sync()
        self.assertEqual(scenario.parallel(one, range(len(stream) + 1)), [])
        self.assertEqual(set(self.arrived()), {TEXT})
        self.assertEqual(len(self.peer.messages) - self.before, len(stream) + 1)

    def test_B08_a_line_end_across_two_chunks(self):
        """B08 CR at the end of one chunk and LF at the start of the next are one line end"""
        client = self.client()
        self.assertEqual(self.chunk(client, b"Subject: x\r").code, 250)
        self.assertEqual(self.chunk(client, b"\n\r").code, 250)
        self.assertEqual(self.chunk(client, b"\nbody\r\n", last=True).code, 250)
        self.assertEqual(self.arrived(), [b"Subject: x\r\n\r\nbody\r\n"])
        client.begin("a@ext.example", ["y@relay.example"])
        self.chunk(client, b"Subject: x\r")
        reply = self.chunk(client, b"body\r\n", last=True)
        self.assertTrue(500 <= reply.code < 600, reply)
        self.assertEqual(len(self.arrived()), 1)

    def test_B09_beyond_the_size_limit_in_a_chunk(self):
        """B09 the rest is swallowed, 552 5.3.4"""
        client = self.client()
        payload = (b"x" * 76 + b"\r\n") * 20000
        reply = self.chunk(client, payload, last=True)
        self.assertEqual((reply.code, reply.enhanced), (552, "5.3.4"))
        self.assertTrue(client.in_sync())
        self.assertEqual(self.arrived(), [])

    def test_B10_BINARYMIME_with_DATA(self):
        """B10 503, or BINARYMIME is not offered and refused at MAIL"""
        client = self.client(transaction=False)
        reply = client.command("MAIL FROM:<a@ext.example> BODY=BINARYMIME")
        if reply.code == 250:
            client.expect("RCPT TO:<y@relay.example>", 250)
            client.expect("DATA", 503)
        else:
            self.assertIn(reply.code, (501, 504, 554, 555))

    def test_B11_closed_in_a_chunk(self):
        """B11 nothing is queued"""
        for cut in (b"BDAT 100 LAST\r\n", b"BDAT 100 LAST\r\nabc", b"BDAT 10\r\n0123456789BDAT 5",
                    b"BDAT 10\r\n0123456789"):
            client = self.client()
            client.send(cut)
            client.close()
        self.assertEqual(self.arrived(), [])

    def test_B12_an_empty_last_chunk_alone(self):
        """B12 an empty message is accepted, or refused; no hang"""
        client = self.client()
        reply = self.chunk(client, b"", last=True)
        self.assertIn(reply.code, (250, 554))
        self.assertTrue(client.in_sync())
        self.assertEqual(len(self.arrived()), 1 if reply.code == 250 else 0)

    def test_B13_much_declared_and_nothing_sent(self):
        """B13 1 GiB declared: no memory is taken, and the deadline ends the session"""
        before = self.server.memory()
        clients = [self.client() for _ in range(20)]
        for client in clients:
            client.send(b"BDAT 1000000 LAST\r\n")
        huge = self.client()
        huge.send(b"BDAT 1073741824 LAST\r\n")
        if not scenario.SANITIZED:
            self.assertLess(self.server.memory() - before, 8 << 20)
        for client in clients + [huge]:
            self.assertTrue(client.is_closed(30))
        self.assertEqual(self.arrived(), [])


if __name__ == "__main__":
    scenario.main()
