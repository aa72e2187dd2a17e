#!/usr/bin/python3
"""attacks.md 2.3 over TCP: early talkers, pipelining where it was not offered, other protocols,
floods, and connections that end at any octet."""
import socket
import time

from support_py import daemon, scenario, sink, wait
from support_py.smtp import Client, Closed

SESSION = [b"EHLO client.example\r\n", b"MAIL FROM:<a@ext.example>\r\n",
           b"RCPT TO:<y@relay.example>\r\n", b"DATA\r\n",
           b"Subject: x\r\n\r\nbody\r\n.\r\n", b"QUIT\r\n"]


class Sync(scenario.Scenario):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.peer = cls.shared(sink.Sink())
        # Clients come from 127.0.0.2, which is nobody special, but may write to relay.example.
        cls.server = cls.shared(daemon.Postrider(
            cls.folder / "d", accept={"relay_from": ["127.0.0.1/32"], "relay_to": ["relay.example"],
                                      "sessions_per_client": 1000, "timeout": "10s"},
            **scenario.to(cls.peer)).start())

    def setUp(self):
        super().setUp()
        self.before = len(self.peer.messages)

    def connect(self, **settings):
        client = Client(self.server.port, source="127.0.0.2", **settings)
        self.addCleanup(client.close)
        return client

    def ready(self):
        client = self.connect()
        client.hello()
        return client

    def arrived(self):
        self.server.wait_until_empty()
        return len(self.peer.messages) - self.before

    def test_P01_talking_before_the_greeting(self):
        """P01 a client that talks first is told 554 or 521 and closed, or served in step"""
        client = self.connect(greet=False)
        client.send(b"EHLO x\r\n")
        reply = client.reply()
        if reply.code == 220:
            self.assertEqual(client.reply().code, 250)
            self.assertTrue(client.in_sync())
        else:
            self.assertIn(reply.code, (554, 521))
            self.assertTrue(client.is_closed())

    def test_P02_pipelining_with_the_first_EHLO(self):
        """P02 a group behind the first EHLO was not offered: 554 and closed, nothing is queued"""
        client = self.connect()
        client.send(b"EHLO x\r\nMAIL FROM:<a@ext.example>\r\nRCPT TO:<y@relay.example>\r\nDATA\r\n")
        replies = []
        try:
            for _ in range(4):
                replies.append(client.reply().code)
        except Closed:
            pass
        self.assertIn(554, replies)
        self.assertNotIn(354, replies)
        self.assertTrue(client.is_closed())
        self.assertEqual(self.arrived(), 0)

    def test_P02_the_same_group_after_the_offer(self):
        """P02 after one EHLO reply the same group is legal"""
        client = self.ready()
        client.send(b"EHLO x\r\n")
        client.reply()
        client.send(b"MAIL FROM:<a@ext.example>\r\nRCPT TO:<y@relay.example>\r\nDATA\r\n")
        self.assertEqual([r.code for r in client.replies(3)], [250, 250, 354])

    def test_P03_content_without_waiting_for_354(self):
        """P03 content behind DATA is refused with 554 and closed; no line of it is a command"""
        client = self.ready()
        client.send(b"MAIL FROM:<a@ext.example>\r\nRCPT TO:<y@relay.example>\r\n"
                    b"DATA\r\nSubject: x\r\n\r\nb\r\n.\r\n")
        codes = [r.code for r in client.replies(3)]
        self.assertEqual(codes[:2], [250, 250])
        self.assertIn(codes[2], (554, 354))
        if codes[2] == 354:
            self.assertEqual(client.reply().code, 250)
        else:
            self.assertTrue(client.is_closed())
        self.assertEqual(self.arrived(), 1 if codes[2] == 354 else 0)

    def test_P03_content_after_a_refused_DATA(self):
        """P03 lines of a message whose DATA was refused are never run as commands"""
        client = self.ready()
        client.send(b"DATA\r\nMAIL FROM:<a@ext.example>\r\nRCPT TO:<y@relay.example>\r\n.\r\n")
        first = client.reply().code
        self.assertIn(first, (503, 554))
        client.rest(15) if first == 554 else None
        self.assertEqual(self.arrived(), 0)

    def test_P04_a_thousand_recipients_at_once(self):
        """P04 1,000 pipelined RCPT and DATA are answered in order"""
        client = self.ready()
        client.send(b"MAIL FROM:<a@ext.example>\r\n" + b"".join(
            b"RCPT TO:<%d%s@relay.example>\r\n" % (i, b"" if i % 2 else b" bad")
            for i in range(1000)))
        codes = []
        while len(codes) < 1001:
            try:
                codes.append(client.reply().code)
            except Closed:
                break
        self.assertEqual(codes[0], 250)
        # Refused ones count as errors: at the limit the session ends with 421.
        for number, code in enumerate(codes[1:]):
            self.assertIn(code, (250,) if number % 2 else (501, 553, 421), number)
        client.close()
        client = self.ready()
        client.send(b"MAIL FROM:<a@ext.example>\r\n" + b"".join(
            b"RCPT TO:<%d@relay.example>\r\n" % i for i in range(1000)) + b"DATA\r\n")
        self.assertEqual([r.code for r in client.replies(1002)], [250] * 1001 + [354])
        client.send(b"Subject: P04\r\n\r\n.\r\n")
        self.assertEqual(client.reply().code, 250)
        self.server.wait_until_empty()
        self.assertEqual(sum(len(m.recipients) for m in self.peer.messages[self.before:]), 1000)

    def test_P05_all_recipients_refused(self):
        """P05 DATA without a valid recipient is refused"""
        client = self.ready()
        client.send(b"MAIL FROM:<a@ext.example>\r\nRCPT TO:<a@far.example>\r\n"
                    b"RCPT TO:<b@far.example>\r\nDATA\r\n")
        codes = [r.code for r in client.replies(4)]
        self.assertEqual(codes[:3], [250, 550, 550])
        self.assertIn(codes[3], (503, 554))
        self.assertTrue(client.in_sync())

    def test_P06_a_web_browser(self):
        """P06 GET, POST and CONNECT close the connection, no command is run"""
        for request in (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"CONNECT a:25 HTTP/1.1\r\n\r\n",
                        b"POST / HTTP/1.1\r\nContent-Length: 40\r\n\r\n"):
            client = self.connect()
            client.send(request)
            text = client.rest()
            self.assertNotIn(b"\r\n250", b"\r\n" + text)

    def test_P07_mail_inside_an_HTTP_request(self):
        """P07 the verdict falls on the first line"""
        client = self.connect()
        client.send(b"POST / HTTP/1.1\r\nHost: x\r\n\r\n" + b"".join(SESSION))
        self.assertNotIn(b"\r\n250", b"\r\n" + client.rest())
        self.assertEqual(self.arrived(), 0)

    def test_P08_a_TLS_hello_on_the_plain_port(self):
        """P08 a ClientHello gets 500 and is closed"""
        client = self.connect()
        client.send(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(200)) + b"\r\n")
        text = client.rest()
        self.assertRegex(text, rb"^5\d\d ")
        self.assertNotIn(b"\x16", text)

    def test_P09_STARTTLS_is_not_offered(self):
        """P09 there is no TLS to confuse protocols in: not announced, and 502"""
        client = self.connect()
        self.assertNotIn(b"STARTTLS", client.hello().lines)
        client.expect("STARTTLS", 502)
        self.assertTrue(client.in_sync())

    def test_P10_a_thousand_unknown_commands(self):
        """P10 the session ends with 421 at the limit of errors"""
        client = self.ready()
        client.send(b"XYZZY\r\n" * 1000)
        text = client.rest()
        self.assertLessEqual(text.count(b"500 "), 25)
        self.assertIn(b"\r\n421 4.7.0", b"\r\n" + text)

    def test_P11_idle_commands(self):
        """P11 NOOP, RSET, VRFY and HELP for ever are junk: the session ends"""
        for command in (b"NOOP\r\n", b"RSET\r\n", b"VRFY a\r\n", b"HELP\r\n"):
            with self.subTest(command=command):
                client = self.ready()
                try:
                    client.send(command * 100000)
                except OSError:
                    pass
                self.assertLess(client.rest().count(b"\r\n"), 20000)

    def test_P12_a_client_that_never_reads(self):
        """P12 answers pile up to a limit, then we stop reading, then the session ends"""
        client = self.connect(greet=False)
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        before = self.server.memory()
        client.socket.settimeout(1)
        sent = 0
        began = time.monotonic()
        try:
            client.reply()
            while sent < 64 << 20 and time.monotonic() - began < 30:
                sent += client.socket.send(b"NOOP\r\n" * 10000)
        except (OSError, Closed):
            pass
        self.assertLess(sent, 64 << 20)
        if not scenario.SANITIZED:
            self.assertLess(self.server.memory() - before, 8 << 20)

    def cut(self, at, reset):
        """The session's octets up to `at`, then FIN or RST. Returns whether the end was sent."""
        client = self.connect()
        sent = 0
        for step in SESSION:
            part = step[:max(0, at - sent)]
            client.send(part)
            sent += len(part)
            if len(part) < len(step):
                break
            client.reply()
        if reset:
            client.abort()
        else:
            client.close()

    def test_P13_the_connection_ends_at_every_octet(self):
        """P13 nothing is queued unless the true end was received; then exactly one message"""
        whole = sum(map(len, SESSION[:5]))
        total = sum(map(len, SESSION))
        positions = range(total + 1)
        for reset in (False, True):
            self.before = len(self.peer.messages)
            problems = scenario.parallel(lambda at, reset=reset: self.cut(at, reset), positions, 8)
            self.assertEqual(problems, [])
            wanted = sum(1 for at in positions if at >= whole)
            self.assertEqual(self.arrived(), wanted)

    def test_P13_reset_right_after_the_end(self):
        """P13 the end was received and the 250 cannot be written: queued once"""
        for _ in range(20):
            client = self.ready()
            client.begin("a@ext.example", ["y@relay.example"])
            client.expect("DATA", 354)
            client.send(SESSION[4])
            client.abort()
        # What was sent is taken when it is read: the sessions end behind that.
        wait.until(lambda: len(self.server.log("connected")) == len(self.server.log("disconnected")), "the sessions' ends")
        arrived = self.arrived()
        # A reset can overtake the end itself, which then was not received.
        self.assertLessEqual(arrived, 20)
        self.assertEqual(len(self.peer.messages) - self.before, arrived)

    def test_P14_half_close_after_the_end(self):
        """P14 FIN right behind the end: accepted, and the reply is sent"""
        client = self.ready()
        client.begin("a@ext.example", ["y@relay.example"])
        client.expect("DATA", 354)
        client.send(SESSION[4])
        client.socket.shutdown(socket.SHUT_WR)
        self.assertEqual(client.reply().code, 250)
        self.assertEqual(self.arrived(), 1)

    def test_P15_replies_do_not_echo(self):
        """P15 no raw input comes back"""
        hostile = [b"EHLO <script>alert(1)</script>", b"EHLO \x1b[2J", b"MAIL FROM:<\x1b]0;x\x07@a>",
                   b"<script>x</script>", b"RCPT TO:<\x80\xff@us.example>", b"VRFY <script>",
                   b"MAIL FROM:<a@b\x07c>", b"HELP \x1b[31m"]
        client = self.ready()
        for line in hostile:
            text = b" ".join(client.command(line).lines)
            for bad in (b"<script", b"\x1b", b"\x07", b"\x80", b"\xff"):
                self.assertNotIn(bad, text, line)

    def test_P16_QUIT_behind_the_end(self):
        """P16 both replies, in order"""
        client = self.ready()
        client.begin("a@ext.example", ["y@relay.example"])
        client.expect("DATA", 354)
        client.send(SESSION[4] + b"QUIT\r\n")
        self.assertEqual([r.code for r in client.replies(2)], [250, 221])
        self.assertTrue(client.is_closed())
        self.assertEqual(self.arrived(), 1)

    def test_P17_arguments_of_EHLO(self):
        """P17 none, 1, 512, 4,096 octets, spaces, NUL"""
        for argument, codes in ((b"", (501,)), (b" ", (501,)), (b" a", (250,)),
                                (b" " + b"a" * 512, (250, 500, 501)),
                                (b" " + b"a" * 4096, (500, 501)), (b" a b", (250, 501)),
                                (b" a\0b", (500, 501))):
            with self.subTest(argument=argument[:20], size=len(argument)):
                client = self.connect()
                self.assertIn(client.command(b"EHLO" + argument).code, codes)
                self.assertTrue(client.in_sync())


if __name__ == "__main__":
    scenario.main()
