#!/usr/bin/python3
"""attacks.md 2.6 over TCP: lengths, numbers, octets."""
from support_py import daemon, scenario, sink, wait
from support_py.daemon import USER
from support_py.smtp import Client, Closed, stuffed


class Lengths(scenario.Scenario):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.peer = cls.shared(sink.Sink())
        cls.server = cls.shared(daemon.Postrider(
            cls.folder / "d", accept={"relay_from": ["127.0.0.1/32"], "relay_to": ["relay.example"],
                                      "message_size": "16MiB", "errors": 1000,
                                      "sessions_per_client": 1000},
            **scenario.to(cls.peer)).start())

    def setUp(self):
        super().setUp()
        self.before = len(self.peer.messages)

    def client(self):
        client = Client(self.server.port, source="127.0.0.2")
        self.addCleanup(client.close)
        client.hello()
        return client

    def arrived(self):
        self.server.wait_until_empty()
        return self.peer.messages[self.before:]

    def code(self, client, line):
        try:
            return client.command(line).code
        except Closed:
            return 0

    def table(self, rows, after=None):
        """rows: (line, allowed codes); the session stays in step after each."""
        for line, codes in rows:
            with self.subTest(line=line[:80], size=len(line)):
                client = self.client()
                if after:
                    client.expect(after, 250)
                self.assertIn(self.code(client, line), codes)
                self.assertTrue(client.in_sync_or_closed())
                client.close()

    def test_L01_command_lines_of_512_octets_and_more(self):
        """L01 512 octets are served; longer ones are served or refused with 500 or 501"""
        client = self.client()
        client.expect(b"NOOP " + b"x" * (512 - 7), 250)
        for size in (513, 1024, 2048, 12288, 100000):
            self.assertIn(self.code(client, b"NOOP " + b"x" * (size - 7)), (250, 500, 501))
            self.assertTrue(client.in_sync() if size < 50000 else client.in_sync_or_closed())
        client = self.client()
        long = b"RCPT TO:<y@relay.example> NOTIFY=SUCCESS,FAILURE,DELAY ORCPT=rfc822;" + b"o" * 400
        client.expect("MAIL FROM:<a@ext.example> ENVID=" + "e" * 100, 250)
        client.expect(long, 250)

    def test_L02_a_command_without_an_end(self):
        """L02 500 at the cap and closed after a budget; memory constant"""
        client = self.client()
        before = self.server.memory()
        sent = 0
        try:
            while sent < 100 << 20:
                client.send(b"x" * (1 << 20))
                sent += 1 << 20
        except OSError:
            pass
        self.assertLess(sent, 100 << 20)
        if not scenario.SANITIZED:
            self.assertLess(self.server.memory() - before, 8 << 20)

    def test_L02_many_commands_without_an_end(self):
        """L02 what half-sent lines of many sessions take is little more than the lines"""
        before = self.server.memory()
        clients = []
        for _ in range(180):
            client = self.client()
            client.send((b"NOOP " + b"x" * 3900 + b"\r\n") * 8 + b"MAIL FROM:<" + b"x" * 3000)
            for _ in range(8):
                self.assertEqual(client.reply().code, 250)
            clients.append(client)
        if not scenario.SANITIZED:
            self.assertLess(self.server.memory() - before, 4 << 20)
        for client in clients[::60]:  # each is still served
            client.send(b"@ext.example>\r\n")
            self.assertIn(client.reply().code, (250, 500, 501, 553))

    def test_L03_long_text_lines(self):
        """L03 accepted and passed on byte for byte, or refused; never split"""
        for length in (998, 999, 1000, 1 << 20):
            content = b"Subject: L03\r\n\r\n" + b"z" * length + b"\r\n"
            self.before = len(self.peer.messages)
            client = self.client()
            reply = client.message("a@ext.example", ["y@relay.example"], content)
            if reply.code == 250:
                message, = self.arrived()
                self.assertEqual(sink.without_trace(message.content), content)
            else:
                self.assertIn(reply.code, (550, 554))
                self.assertTrue(reply.enhanced.startswith("5.6"), reply)
                self.assertGreater(length, 998)
            self.assertTrue(client.in_sync())

    def test_L04_lengths_of_paths(self):
        """L04 at the limits accepted; beyond them refused or accepted whole"""
        label = "a" * 63
        rows = []
        for local, domain, codes in (
                ("l" * 64, "relay.example", (250,)), ("l" * 65, "relay.example", (250, 501, 550, 553)),
                ("l" * 64, f"{label}.{label}.{label[:50]}.example", (550, 501)),
                ("l", f"{label}.relay.example", (550,)), ("l", f"{label}a.relay.example", (501, 550, 553)),
                ("l", ".".join(["a"] * 127) + ".relay.example", (501, 550, 553)),
                ("l" * 1000, "relay.example", (250, 500, 501, 553))):
            rows.append((f"RCPT TO:<{local}@{domain}>".encode(), codes))
        self.table(rows, after="MAIL FROM:<a@ext.example>")

    def test_L05_a_hundred_recipients(self):
        """L05 must all be accepted"""
        client = self.client()
        reply = client.message("a@ext.example", [f"{i}@relay.example" for i in range(100)],
                               b"Subject: L05\r\n\r\nx\r\n")
        self.assertEqual(reply.code, 250)
        self.assertEqual(sum(len(m.recipients) for m in self.arrived()), 100)

    def test_L06_more_recipients_than_the_cap(self):
        """L06 452 4.5.3 beyond the cap, 421 after many more; memory flat"""
        client = self.client()
        client.expect("MAIL FROM:<a@ext.example>", 250)
        before = self.server.memory()
        codes, first = {}, None
        try:
            for start in range(0, 100000, 500):
                client.send(b"".join(b"RCPT TO:<%d@relay.example>\r\n" % i
                                     for i in range(start, start + 500)))
                for _ in range(500):
                    reply = client.reply()
                    codes[reply.code] = codes.get(reply.code, 0) + 1
                    if reply.code == 452 and first is None:
                        first = reply
        except (Closed, OSError):
            pass
        self.assertEqual(codes[250], 1000)
        self.assertEqual(first.enhanced, "4.5.3")
        self.assertEqual(codes.get(421, 0), 1, codes)
        if not scenario.SANITIZED:
            self.assertLess(self.server.memory() - before, 8 << 20)

    def test_L07_the_declared_size(self):
        """L07 501 for what is not a number, 552 5.3.4 for what is too much"""
        self.table([(b"MAIL FROM:<a@ext.example> " + parameter, codes) for parameter, codes in (
            (b"SIZE=18446744073709551616", (501, 552)), (b"SIZE=-1", (501,)), (b"SIZE=1e9", (501,)),
            (b"SIZE=", (501,)), (b"SIZE=5 SIZE=5", (501,)), (b"SIZE=" + b"1" * 21, (501, 552)),
            (b"SIZE=16777217", (552,)), (b"SIZE=16777216", (250,)), (b"SIZE=0", (250,)),
            (b"SIZE", (501,)))])

    def test_L08_more_sent_than_declared(self):
        """L08 the real count rules: 552 at the end"""
        client = self.client()
        client.begin("a@ext.example", ["y@relay.example"], " SIZE=10")
        client.expect("DATA", 354)
        for _ in range(20):
            client.send((b"x" * 1022 + b"\r\n") * 1024)
        client.send(b".\r\n")
        reply = client.reply()
        self.assertEqual((reply.code, reply.enhanced), (552, "5.3.4"))
        self.assertTrue(client.in_sync())
        self.assertEqual(self.arrived(), [])
        self.assertEqual([p for p in (self.server.spool / "body").rglob("*") if p.is_file()], [])

    def test_L09_NUL(self):
        """L09 in a command, HELO, an address, a header, the body"""
        self.table([(b"NO\0OP", (500, 501)), (b"EHLO a\0b", (500, 501)),
                    (b"MAIL FROM:<a\0b@ext.example>", (500, 501, 553)),
                    (b"RCPT TO:<y\0@relay.example>", (500, 501, 503, 553))])
        for content in (b"Sub\0ject: x\r\n\r\nx\r\n", b"Subject: x\r\n\r\n\0\r\n"):
            client = self.client()
            self.assertEqual(client.message("a@ext.example", ["y@relay.example"], content).code, 550)
            self.assertTrue(client.in_sync())
        self.assertEqual(self.arrived(), [])

    def test_L10_octets_above_127_without_SMTPUTF8(self):
        """L10 refused in commands"""
        self.table([("MAIL FROM:<ü@ext.example>".encode(), (500, 501, 550, 553)),
                    (b"MAIL FROM:<\xff@ext.example>", (500, 501, 550, 553)),
                    (b"NO\x80OP", (500, 501)), (b"\xe9HLO x", (500, 501))])
        self.table([("RCPT TO:<ü@relay.example>".encode(), (500, 501, 550, 553))],
                   after="MAIL FROM:<a@ext.example>")

    def test_L11_a_body_of_8_bits_without_saying_so(self):
        """L11 passed on unchanged, or 554; the high bit is never stripped"""
        content = b"Subject: L11\r\n\r\n" + bytes(range(128, 256)) + b"\r\n"
        client = self.client()
        reply = client.message("a@ext.example", ["y@relay.example"], content)
        if reply.code == 250:
            self.assertEqual(sink.without_trace(self.arrived()[0].content), content)
        else:
            self.assertEqual(reply.code, 554)

    def test_L12_invalid_UTF_8(self):
        """L12 overlong forms, surrogates, cut sequences: refused, and never raw in the log"""
        for bad in (b"\xff", b"\xc0\xaf", b"\xed\xa0\x80", b"\xe2\x82", b"\xf5\x80\x80\x80"):
            self.table([(b"MAIL FROM:<" + bad + b"@ext.example> SMTPUTF8", (500, 501, 550, 553))])
            self.table([(b"RCPT TO:<" + bad + b"@relay.example>", (500, 501, 550, 553))],
                       after="MAIL FROM:<a@ext.example> SMTPUTF8")
        self.server.log_file.read_text("utf-8")  # would fail on a raw octet

    def test_L13_white_space_and_case(self):
        """L13 trailing space is accepted; a space behind the colon is accepted or 501"""
        self.table([(b"mail from:<a@ext.example>", (250,)), (b"MAIL FROM:<a@ext.example>  ", (250,)),
                    (b"Mail From:<a@ext.example> size=10", (250,)), (b"noop  ", (250,)),
                    (b"MAIL FROM: <a@ext.example>", (250, 501)), (b"MAIL  FROM:<a@ext.example>", (250, 501)),
                    (b"MAIL\tFROM:<a@ext.example>", (250, 500, 501)), (b"RSET  ", (250,)),
                    (b"MAIL FROM<a@ext.example>", (501,)), (b" NOOP", (500, 501))])

    def test_L14_unknown_and_repeated_parameters(self):
        """L14 555 5.5.4 unknown, 501 repeated"""
        self.table([(b"MAIL FROM:<a@ext.example> FOO=BAR", (555,)),
                    (b"MAIL FROM:<a@ext.example> BODY=7BIT BODY=7BIT", (501,)),
                    (b"MAIL FROM:<a@ext.example> BODY=9BIT", (501, 504, 555)),
                    (b"MAIL FROM:<a@ext.example> =", (501, 555)),
                    (b"MAIL FROM:<a@ext.example> RET=ALL", (501,))])
        self.table([(b"RCPT TO:<y@relay.example> X", (555,)),
                    (b"RCPT TO:<y@relay.example> NOTIFY=NEVER NOTIFY=NEVER", (501,)),
                    (b"RCPT TO:<y@relay.example> NOTIFY=NEVER,FAILURE", (501,))],
                   after="MAIL FROM:<a@ext.example>")

    def test_L15_postmaster(self):
        """L15 must be accepted, in every case, with and without a domain"""
        self.table([(b"RCPT TO:<postmaster>", (250,)), (b"RCPT TO:<PostMaster>", (250,)),
                    (b"RCPT TO:<postmaster@us.example>", (250,)),
                    (b"RCPT TO:<POSTMASTER@US.EXAMPLE>", (250,))], after="MAIL FROM:<a@ext.example>")

    def work(self, content):
        """Seconds that the daemon's threads work for it, its delivery too: what else the machine does
        is none of that."""
        client = self.client()
        client.begin("a@ext.example", ["y@relay.example"])
        client.expect("DATA", 354)
        began, arrived = self.server.cpu_time(), len(self.peer.messages)
        client.send(stuffed(content))
        reply = client.reply()
        if reply.code == 250:
            wait.until(lambda: len(self.peer.messages) > arrived, "its delivery", pause=0.01)
        seconds = self.server.cpu_time() - began
        self.assertIn(reply.code, (250, 550, 552, 554), reply)
        self.assertTrue(client.in_sync())
        client.close()
        return seconds

    def test_L16_L17_L18_L19_headers_that_are_large_in_every_way(self):
        """L16 L17 L18 L19 linear time: twice the size takes at most about twice the work"""
        shapes = {
            "a header section without an end": lambda n: b"X-A: y\r\n" * n,
            "many header fields": lambda n: b"X-%d: y\r\n" % n * n + b"\r\nx\r\n",
            "one long folded field": lambda n: b"Subject: x\r\n" + b" y\r\n" * n + b"\r\nx\r\n",
            "many addresses": lambda n: b"To: " + b"a@b,\r\n " * n + b"c@d\r\n\r\nx\r\n",
            "nested comments": lambda n: b"To: " + (b"(" * 70 + b"\r\n ") * (n // 10) + b"\r\n\r\nx\r\n",
            "quoted pairs": lambda n: b'To: "' + (b"\\a" * 30 + b"\r\n ") * (n // 7) + b'" <a@b>\r\n\r\nx\r\n',
            "groups": lambda n: b"To: " + b"a:;,\r\n " * n + b"b@c\r\n\r\nx\r\n",
            "nested parts": lambda n: b"".join(
                b"Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n" % (i, i)
                for i in range(n // 8)) + b"\r\nx\r\n",
            "many parts": lambda n: b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" +
            b"--b\r\n\r\nx\r\n" * n,
            "Received fields": lambda n: b"Received: from a by b; x\r\n" * (n // 3) + b"\r\nx\r\n"}
        for name, shape in shapes.items():
            with self.subTest(shape=name):
                small, large = shape(200000), shape(400000)
                one = two = 1000.0
                for _ in range(8):  # caches are shared with others: the best of a few counts
                    one, two = min(one, self.work(small)), min(two, self.work(large))
                    if two <= one * 2.2 + 0.1:
                        break
                self.assertLessEqual(two, one * 2.2 + 0.1, f"{one:.3f} s and {two:.3f} s")
        self.server.wait_until_empty()

    def test_M01_a_hundred_Received_fields(self):
        """M01 99 pass, 100 are a loop: 554 5.4.6"""
        client = self.client()
        field = b"Received: from a by b; Mon, 1 Jan 2024 00:00:00 +0000\r\n"
        self.assertEqual(client.message("a@ext.example", ["y@relay.example"],
                                        field * 99 + b"\r\nx\r\n").code, 250)
        reply = client.message("a@ext.example", ["y@relay.example"], field * 101 + b"\r\nx\r\n")
        self.assertEqual((reply.code, reply.enhanced), (554, "5.4.6"))
        self.assertTrue(client.in_sync())

    def test_mail_for_a_local_user_of_another_case(self):
        """Case of the local part is kept on the wire and ignored for mailboxes here"""
        client = self.client()
        client.begin("a@ext.example", [f"{USER.upper()}@us.example", "MiXeD@relay.example"])
        client.expect("DATA", 354)
        client.send(b"Subject: case\r\n\r\nx\r\n.\r\n")
        self.assertEqual(client.reply().code, 250)
        self.assertIn(["MiXeD@relay.example"], [m.addresses for m in self.arrived()])


if __name__ == "__main__":
    scenario.main()
