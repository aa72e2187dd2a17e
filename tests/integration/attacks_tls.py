#!/usr/bin/python3
"""attacks.md 2.5, the server's side, and the rows of other parts that need TLS."""
import os
import random
import socket
import ssl
import struct
import subprocess
import time

from support_py import scenario, smtp, wait
from support_py.certificates import Client, Pair, context
from support_py.daemon import USER
from support_py.tools import tool

NEW = ssl.TLSVersion.TLSv1_3
OLD = ssl.TLSVersion.TLSv1_2


def extension(kind, body):
    return struct.pack(">HH", kind, len(body)) + body


def client_hello(ciphers=(0xC02B, 0xC02F), extensions=b""):
    """A TLS 1.2 hello in as many records as it needs."""
    suites = b"".join(struct.pack(">H", suite) for suite in ciphers)
    base = (extension(10, struct.pack(">HH", 2, 23)) + extension(11, b"\1\0")
            + extension(13, struct.pack(">HHH", 4, 0x0403, 0x0804)))
    body = (b"\3\3" + os.urandom(32) + b"\0" + struct.pack(">H", len(suites)) + suites + b"\1\0"
            + struct.pack(">H", len(base) + len(extensions)) + base + extensions)
    message = b"\1" + struct.pack(">I", len(body))[1:] + body
    records = b""
    for at in range(0, len(message), 16384):
        piece = message[at:at + 16384]
        records += b"\x16\3\1" + struct.pack(">H", len(piece)) + piece
    return records


class Rows(scenario.Scenario):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        files = cls.folder / "certificates"
        files.mkdir()
        cls.ec, cls.rsa = Pair(files, "ec"), Pair(files, "rsa", kind="RSA")
        cls.files = files

    def setUp(self):
        super().setUp()
        self.secure_port, self.user_port = wait.free_port(), wait.free_port()
        port = wait.free_port()
        self.server = self.daemon(
            start=False,
            listeners=[{"address": f"127.0.0.1:{port}", "tls": "starttls"},
                       {"address": f"127.0.0.1:{self.secure_port}", "tls": "implicit"},
                       {"address": f"127.0.0.1:{self.user_port}", "role": "submission",
                        "tls": "starttls"}],
            tls={"certificate": [str(self.ec.certificate), str(self.rsa.certificate)],
                 "key": [str(self.ec.key), str(self.rsa.key)]},
            accept={"relay_from": ["127.0.0.9/32"],
                    "relay_certificates": [self.rsa.fingerprint]})
        self.server.port = port
        self.server.start()

    def tearDown(self):
        self.assertEqual(self.server.mailbox(), [])
        self.assertEqual(self.server.queue(), [])
        self.server.assert_no_report()

    def fails(self, data, port=None):
        """These octets instead of a handshake: an alert or an end, and the daemon lives."""
        with smtp.Client(port or self.secure_port, greet=False) as client:
            try:
                client.send(data)
                client.socket.shutdown(socket.SHUT_WR)
            except OSError:
                pass
            answer = client.rest()
        self.assertTrue(answer == b"" or answer[:1] == b"\x15", answer[:40])

    def alive(self):
        with Client(self.server.port) as client:
            client.start_tls()
            self.assertTrue(client.in_sync())

    def injected(self, *pieces):
        """STARTTLS with something behind it; whatever follows, nothing of it is obeyed."""
        with Client(self.server.port) as client:
            client.hello()
            for piece in pieces:
                client.send(piece)
                time.sleep(0.001)
            answers = client.rest() if len(pieces) == 1 else None
            if answers is None:
                try:
                    answers = b""
                    client.expect("", 220)
                except (AssertionError, smtp.Closed):
                    pass
                answers = client.rest()
            self.assertNotIn(b"250", answers)
            self.assertNotIn(b"PIPELINING", answers)

    def test_T01_a_command_behind_STARTTLS(self):
        """T01 octets behind STARTTLS end the session; the injected EHLO has no answer"""
        self.injected(b"STARTTLS\r\nEHLO injected\r\n")
        # Nor inside TLS: the session is over, a handshake finds nobody.
        with Client(self.server.port) as client:
            client.hello()
            client.send(b"STARTTLS\r\nEHLO injected\r\n")
            self.assertGreaterEqual(client.reply().code, 400)
            with self.assertRaises((ssl.SSLError, OSError)):
                client.shake_hands()

    def test_T02_a_message_behind_STARTTLS(self):
        """T02 a whole transaction behind STARTTLS: nothing is queued"""
        self.injected(b"STARTTLS\r\nMAIL FROM:<a@ext.example>\r\nRCPT TO:<%s@us.example>\r\n"
                      b"DATA\r\nSubject: x\r\n\r\nx\r\n.\r\n" % USER.encode())

    def test_T03_a_command_in_the_second_segment(self):
        """T03 the same a millisecond later, before the 220 is read: it is not a handshake"""
        self.injected(b"STARTTLS\r\n", b"EHLO injected\r\n")
        self.server.wait_for_log("tls_failed")

    def test_T04_STARTTLS_with_an_argument(self):
        """T04 501 5.5.4, and the session goes on"""
        with Client(self.server.port) as client:
            client.hello()
            reply = client.command("STARTTLS now")
            self.assertEqual((reply.code, reply.enhanced), (501, "5.5.4"))
            client.start_tls()

    def test_T05_STARTTLS_twice(self):
        """T05 503 and not announced inside TLS"""
        with Client(self.server.port) as client:
            client.start_tls()
            self.assertNotIn(b"STARTTLS", client.hello().lines)
            client.expect("STARTTLS", 503)
            self.assertTrue(client.in_sync())

    def test_T06_STARTTLS_in_a_transaction(self):
        """T06 503, and the transaction goes on; after HELO 503 too; before EHLO it is served"""
        with Client(self.server.port) as client:
            client.expect("STARTTLS", 220)
        with Client(self.server.port) as client:
            client.expect("HELO client.example", 250)
            client.expect("STARTTLS", 503)
            client.hello()
            client.expect("MAIL FROM:<a@ext.example>", 250)
            client.expect("STARTTLS", 503)
            client.expect(f"RCPT TO:<{USER}@us.example>", 250)

    def test_T07_nobody_logs_in_before_TLS(self):
        """T07 AUTH is neither announced nor taken in clear; mail needs 530"""
        with Client(self.user_port) as client:
            self.assertFalse([line for line in client.hello().lines if line.startswith(b"AUTH")])
            self.assertIn(client.command("AUTH PLAIN AGEAYg==").code, (502, 503, 530, 538))
            client.expect("MAIL FROM:<a@us.example>", 530)

    def test_T11_renegotiation(self):
        """T11 a client's renegotiation under TLS 1.2 is refused"""
        process = subprocess.Popen(
            [tool("openssl"), "s_client", "-connect", f"127.0.0.1:{self.secure_port}", "-tls1_2"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        while b"220 " not in process.stdout.readline():
            pass
        process.stdin.write(b"R\n")  # s_client's own command
        process.stdin.flush()
        text = process.stdout.read()
        process.wait()
        process.stdin.close()
        process.stdout.close()
        self.assertIn(b"RENEGOTIATING", text)
        self.assertIn(b"no renegotiation", text)
        self.alive()

    def test_T13_strange_hellos(self):
        """T13 large and malformed hellos: an alert or an end, and no growth"""
        name = b"mx.us.example"
        sni = lambda n: struct.pack(">HBH", len(n) + 3, 0, len(n)) + n  # noqa: E731
        two = struct.pack(">H", 2 * (len(name) + 3)) + 2 * (struct.pack(">BH", 0, len(name)) + name)
        hellos = [client_hello(range(1, 10_001)),
                  client_hello(extensions=extension(0xFAFA, os.urandom(65_000))),
                  client_hello(extensions=extension(21, bytes(14_000))),
                  client_hello(extensions=extension(0, sni(b""))),
                  client_hello(extensions=extension(0, sni(b"mx\0.us.example"))),
                  client_hello(extensions=extension(0, two)),
                  client_hello(extensions=2 * extension(0, sni(name))),
                  client_hello()[:60], b"\x16\3\1\x40\x01", b"\x16\3\1\xff\xff" + bytes(65535),
                  b"\x16\3\1\0\4\1\xff\xff\xff" + bytes(70_000)]
        generator = random.Random(7)
        whole = client_hello(extensions=extension(0, sni(name)))
        for _ in range(200):
            broken = bytearray(whole)
            for _ in range(3):
                broken[generator.randrange(5, len(broken))] = generator.randrange(256)
            hellos.append(bytes(broken))
        for hello in hellos:
            with smtp.Client(self.secure_port, greet=False) as client:
                try:
                    client.send(hello)
                    client.socket.shutdown(socket.SHUT_WR)
                except OSError:
                    continue
                self.assertIn(client.rest()[:1], (b"", b"\x15", b"\x16"))
        before = self.server.memory()
        for _ in range(200):
            with smtp.Client(self.secure_port, greet=False) as client:
                client.send(hellos[1])
                client.socket.shutdown(socket.SHUT_WR)
                client.rest()
        self.assertLess(self.server.memory() - before, 16 << 20)
        self.alive()

    def half(self, client, verb):
        client.begin("a@ext.example", [f"{USER}@us.example"])
        if verb == "DATA":
            client.expect("DATA", 354)
            client.send(b"Subject: half\r\n\r\nhalf\r\n")
        else:
            client.send(b"BDAT 1000 LAST\r\nSubject: half\r\n\r\nhalf\r\n")

    def test_T14_clear_text_behind_the_end_of_TLS(self):
        """T14 close_notify in the middle of DATA or BDAT, then clear text: over, nothing queued"""
        for verb in ("DATA", "BDAT"):
            with self.subTest(verb=verb), Client(self.server.port) as client:
                client.start_tls()
                self.half(client, verb)
                raw = socket.socket(fileno=os.dup(client.socket.fileno()))
                raw.settimeout(wait.DEADLINE)
                try:
                    client.socket.settimeout(0.2)
                    client.socket.unwrap()
                except OSError:
                    pass
                try:
                    raw.sendall(b"more\r\n.\r\nQUIT\r\n" + b"x" * 1000)
                    while raw.recv(4096):
                        pass
                except OSError:
                    pass
                raw.close()
        self.alive()

    def test_T15_a_connection_that_breaks_before_the_end(self):
        """T15 without the true end nothing is queued, whether TCP ends or breaks"""
        for verb in ("DATA", "BDAT"):
            for breaks in (False, True):
                with self.subTest(verb=verb, breaks=breaks):
                    client = Client(self.server.port)
                    client.start_tls()
                    self.half(client, verb)
                    if breaks:
                        client.abort()
                    else:
                        client.socket.shutdown(socket.SHUT_RDWR)
                        client.close()
        events = self.server.wait_for_log("disconnected", count=4, reason="lost")
        self.assertTrue(any("cut off" in event.get("error", "") for event in events), events)

    def test_T16_a_ticket_of_another_listener_or_name(self):
        """T16 a ticket from the one is worth nothing at the other, nor for another name"""
        for version in (OLD, NEW):
            shared = context(minimum=version, maximum=version)
            with Client(self.secure_port, implicit=True, with_context=shared,
                        server_name="mx.us.example") as client:
                session = client.socket.session
            for port, name, reused in ((self.secure_port, "mx.us.example", True),
                                       (self.secure_port, "other.example", False),
                                       (self.server.port, "mx.us.example", False)):
                with self.subTest(version=version.name, port=port, name=name):
                    implicit = port == self.secure_port
                    try:
                        with Client(port, implicit=implicit, with_context=shared, session=session,
                                    server_name=name) as client:
                            if not implicit:
                                client.start_tls()
                            self.assertEqual(client.socket.session_reused, reused)
                    except ssl.SSLError as error:  # Python's own check of the name
                        self.assertFalse(reused, error)

    def test_T17_old_protocols_and_ciphers(self):
        """T17 TLS 1.0 and 1.1, RC4, 3DES and export ciphers are refused"""
        for arguments in (["-tls1"], ["-tls1_1"], ["-tls1_2", "-cipher", "3DES:RC4:EXPORT:aNULL"],
                          ["-tls1_2", "-cipher", "AES128-SHA"], ["-tls1_2", "-cipher", "DHE"]):
            done = subprocess.run(
                [tool("openssl"), "s_client", "-connect", f"127.0.0.1:{self.secure_port}",
                 "-brief", *arguments, "-cipher", "ALL:@SECLEVEL=0"] if len(arguments) == 1 else
                [tool("openssl"), "s_client", "-connect", f"127.0.0.1:{self.secure_port}",
                 "-brief", *arguments[:-1], arguments[-1] + ":@SECLEVEL=0"],
                input=b"", stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
            self.assertNotIn(b"CONNECTION ESTABLISHED", done.stdout, arguments)
        hello = client_hello().replace(b"\x16\3\1", b"\x16\3\0").replace(b"\3\3", b"\3\0", 1)
        self.fails(hello)

    def test_T18_strange_client_certificates(self):
        """T18 long chains, huge and expired certificates: bounded, escaped, no crash"""
        many = self.files / "many.pem"
        many.write_bytes(self.ec.certificate.read_bytes() * 100)
        ugly = Pair(self.files, "ugly", names=["evil\\nfrom=<x>\x1b[2J"[:40]])
        for certificate, key in ((many, self.ec.key), (ugly.certificate, ugly.key)):
            made = context()
            made.load_cert_chain(certificate, key)
            try:
                with Client(self.server.port, with_context=made) as client:
                    client.start_tls()
                    client.expect("MAIL FROM:<a@ext.example>", 250)
                    client.expect("RCPT TO:<b@far.example>", 550)
            except (ssl.SSLError, OSError):
                pass
        self.assertNotIn("\x1b", self.server.log_file.read_text())
        self.alive()

    def test_T19_early_data(self):
        """T19 there is none: tickets do not allow it"""
        done = subprocess.run(
            [tool("openssl"), "s_client", "-connect", f"127.0.0.1:{self.secure_port}", "-tls1_3",
             "-ign_eof"],
            input=b"EHLO x\r\nQUIT\r\n", stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self.assertIn(b"Max Early Data: 0", done.stdout)
        self.assertNotRegex(done.stdout, rb"Max Early Data: [1-9]")

    def test_T20_records_that_carry_nothing(self):
        """T20 key updates without end: the session ends"""
        process = subprocess.Popen(
            [tool("openssl"), "s_client", "-connect", f"127.0.0.1:{self.secure_port}", "-tls1_3"],
            stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            end = time.monotonic() + wait.DEADLINE
            while process.poll() is None and time.monotonic() < end:
                process.stdin.write(b"k\n" * 10)
                process.stdin.flush()
                time.sleep(0.01)
        except OSError:
            pass
        finally:
            process.stdin.close()
            process.kill()
            process.wait()
        event = self.server.wait_for_log("disconnected")[0]
        self.assertIn("records without data", event.get("error", ""))

    def test_R05_MAIL_without_a_new_EHLO(self):
        """R05 STARTTLS, then MAIL without EHLO: 503"""
        with Client(self.server.port) as client:
            client.start_tls(hello=False)
            client.expect("MAIL FROM:<a@ext.example>", 503)
            client.hello()
            client.expect("MAIL FROM:<a@ext.example>", 250)

    def test_R06_what_was_known_before_TLS_is_forgotten(self):
        """R06 the name of EHLO and all else said in clear count for nothing inside TLS"""
        with Client(self.server.port) as client:
            client.hello("clear.example")
            client.expect("STARTTLS", 220)
            client.shake_hands()
            client.expect("RCPT TO:<b@far.example>", 503)
            client.hello("inside.example")
            client.expect("MAIL FROM:<a@ext.example>", 250)
            client.expect("RCPT TO:<b@far.example>", 550)
        self.assertEqual(self.server.wait_for_log("rejected", stage="RCPT", to="b@far.example",
                                                  helo="inside.example")[0]["protocol"], "ESMTPS")

    def test_P09_ALPN(self):
        """P09 http/1.1 and imap are refused by an alert; smtp or nothing is accepted"""
        for offered, accepted in ((["http/1.1"], False), (["imap", "h2"], False), (["smtp"], True),
                                  (["h2", "smtp"], True), (None, True)):
            for port in (self.server.port, self.secure_port):
                with self.subTest(offered=offered, port=port):
                    made = context(alpn=offered)
                    try:
                        with Client(port, implicit=port == self.secure_port,
                                    with_context=made) as client:
                            if port != self.secure_port:
                                client.start_tls()
                            self.assertTrue(accepted)
                            self.assertEqual(client.socket.selected_alpn_protocol(),
                                             "smtp" if offered else None)
                    except ssl.SSLError as error:
                        self.assertFalse(accepted, error)
                        self.assertRegex(str(error).lower(), "no.application.protocol")

    def test_A18_a_certificate_that_may_relay_is_no_login(self):
        """A18 on the submission listener a known certificate sends, an unknown one gets 530"""
        for pair, code in ((self.ec, 530), (None, 530)):
            with Client(self.user_port, with_context=context(pair=pair)) as client:
                client.start_tls()
                client.expect("MAIL FROM:<a@us.example>", code)


if __name__ == "__main__":
    scenario.main()
