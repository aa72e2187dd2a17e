#!/usr/bin/python3
"""Limits of sessions, errors, idle time and rate, and the PROXY protocol."""
import socket
import struct
import time

from support_py import scenario, wait
from support_py.smtp import Client, Closed


class Limits(scenario.Scenario):
    def stranger(self, server, **settings):
        client = Client(server.port, source="127.0.0.2", **settings)
        self.addCleanup(client.close)
        return client

    def test_one_address_opens_too_many_sessions(self):
        server = self.daemon(accept={"relay_from": ["127.0.0.1/32"], "sessions_per_client": 5})
        clients = [self.stranger(server) for _ in range(8)]
        codes = [client.greeting.code for client in clients]
        self.assertEqual(codes, [220] * 5 + [421] * 3)
        self.assertTrue(clients[7].is_closed())
        exempt = [server.client() for _ in range(10)]
        self.assertEqual({client.greeting.code for client in exempt}, {220})
        clients[0].close()
        wait.until(lambda: self.stranger(server).greeting.code == 220, "room for another session")
        for client in exempt:
            client.close()

    def test_too_many_sessions_in_all(self):
        server = self.daemon(accept={"sessions": 5})
        clients = [server.client() for _ in range(7)]
        self.assertEqual([c.greeting.code for c in clients].count(421), 2)
        for client in clients:
            client.close()

    def test_a_session_with_too_many_errors(self):
        server = self.daemon(accept={"relay_from": ["127.0.0.1/32"], "errors": 5})
        client = self.stranger(server)
        client.hello()
        codes = []
        try:
            for _ in range(20):
                codes.append(client.command("NONSENSE").code)
        except (Closed, OSError):
            pass
        self.assertIn(421, codes)
        self.assertLessEqual(len(codes), 6)

    def test_a_silent_client_is_closed_with_421(self):
        server = self.daemon(accept={"relay_from": ["127.0.0.1/32"], "timeout": "10s"})
        clients = [self.stranger(server), self.stranger(server), self.stranger(server)]
        began = time.monotonic()
        clients[1].hello()
        clients[2].hello()
        clients[2].begin("a@ext.example", ["postmaster@us.example"])
        clients[2].expect("DATA", 354)
        clients[2].send(b"Subject: never finished\r\n")
        for client in clients:
            text = client.rest(120)
            self.assertTrue(text.startswith(b"421"), text)
        self.assertGreater(time.monotonic() - began, 8)
        self.assertLess(time.monotonic() - began, 120)
        self.assertEqual(server.queue(), [])

    def test_a_client_that_sends_an_octet_now_and_then_is_closed_all_the_same(self):
        """attacks.md X01"""
        server = self.daemon(accept={"relay_from": ["127.0.0.1/32"], "timeout": "10s"})
        client = self.stranger(server)
        client.hello()
        client.begin("a@ext.example", ["postmaster@us.example"])
        client.expect("DATA", 354)
        began = time.monotonic()
        client.socket.settimeout(0.5)
        try:
            while time.monotonic() - began < 90:
                client.send(b"x")
                try:
                    if client.socket.recv(100) == b"":
                        break
                except socket.timeout:
                    pass
        except OSError:
            pass
        self.assertLess(time.monotonic() - began, 80)
        with server.client() as good:
            good.hello()

    def test_many_idle_connections_cost_little(self):
        if scenario.SANITIZED:
            self.skipTest("a sanitized program's memory says nothing")
        server = self.daemon(accept={"sessions": 10000})
        before = server.memory()
        clients = [server.client() for _ in range(1000)]
        each = (server.memory() - before) / 1000
        for client in clients:
            client.close()
        print(f"\n  {each / 1024:.1f} KiB an idle connection", flush=True)
        self.assertLess(each, 16 << 10)


class Proxy(scenario.Scenario):
    def setUp(self):
        super().setUp()
        self.peer = self.sink()
        self.port = wait.free_port()
        self.server = self.relay(self.peer, listeners=[{
            "address": f"127.0.0.1:{self.port}", "role": "mx", "tls": "off",
            "proxy_protocol": True}],
            accept={"proxy_from": ["127.0.0.5/32"], "relay_from": ["198.51.100.7/32"]})

    def connect(self, header, source="127.0.0.5"):
        client = Client(self.port, source=source, greet=False)
        self.addCleanup(client.close)
        client.send(header)
        return client

    def relays(self, header):
        """Whether the client in the header may relay, as only 198.51.100.7 may."""
        client = self.connect(header)
        self.assertEqual(client.reply().code, 220)
        client.hello()
        client.expect("MAIL FROM:<a@ext.example>", 250)
        return client.command("RCPT TO:<b@far.example>").code == 250

    @staticmethod
    def version_2(source, command=0x21, family=0x11, extra=b""):
        addresses = (socket.inet_aton(source) + socket.inet_aton("192.0.2.1") +
                     struct.pack("!HH", 12345, 25) + extra) if family == 0x11 else extra
        return b"\r\n\r\n\0\r\nQUIT\n" + struct.pack("!BBH", command, family, len(addresses)) + addresses

    def test_version_1(self):
        self.assertTrue(self.relays(b"PROXY TCP4 198.51.100.7 192.0.2.1 12345 25\r\n"))
        self.assertFalse(self.relays(b"PROXY TCP4 198.51.100.8 192.0.2.1 12345 25\r\n"))
        self.assertFalse(self.relays(b"PROXY TCP6 2001:db8::1 2001:db8::2 12345 25\r\n"))

    def test_version_2(self):
        self.assertTrue(self.relays(self.version_2("198.51.100.7")))
        self.assertFalse(self.relays(self.version_2("198.51.100.8")))
        self.assertTrue(self.relays(self.version_2("198.51.100.7", extra=b"\x04\x00\x01x")))

    def test_I16_a_header_from_a_stranger(self):
        """I16 refused unless the peer is listed"""
        client = self.connect(b"PROXY TCP4 198.51.100.7 192.0.2.1 12345 25\r\n", "127.0.0.6")
        text = client.rest(20)
        self.assertNotIn(b"220", text[:3])

    def test_I16_headers_that_are_none(self):
        """I16 malformed, endless or missing headers: closed, nothing is served"""
        for header in (b"PROXY TCP4 198.51.100.7 192.0.2.1 12345\r\n", b"PROXY " + b"x" * 200 + b"\r\n",
                       b"PROXY TCP4 not-an-ip 192.0.2.1 1 2\r\n", b"EHLO client.example\r\n",
                       b"PROXY TCP4 198.51.100.7 192.0.2.1 99999 25\r\n",
                       self.version_2("198.51.100.7")[:12] + b"\xff\xff\xff\xff" + b"x" * 100,
                       b"x" * 100000):
            with self.subTest(header=header[:40]):
                client = self.connect(b"")
                try:
                    client.send(header)
                except OSError:
                    pass
                self.assertNotIn(b"220 ", client.rest(30))

    def test_I16_two_headers(self):
        """I16 the second is a command, and no such command exists"""
        header = b"PROXY TCP4 198.51.100.8 192.0.2.1 12345 25\r\n"
        client = self.connect(header + header.replace(b".8", b".7"))
        try:
            reply = client.reply()
            if reply.code == 220:
                second = client.reply()
                self.assertTrue(500 <= second.code < 600)
                client.hello()
                client.expect("MAIL FROM:<a@ext.example>", 250)
                self.assertEqual(client.command("RCPT TO:<b@far.example>").code, 550)
        except Closed:
            pass

    def test_the_received_field_names_the_client_in_the_header(self):
        client = self.connect(b"PROXY TCP4 198.51.100.7 192.0.2.1 12345 25\r\n")
        client.reply()
        client.hello()
        client.message("a@ext.example", ["b@far.example"], b"Subject: x\r\n\r\nx\r\n")
        self.assertIn(b"[198.51.100.7]", self.peer.wait_for(1)[0].content.split(b"Subject")[0])


if __name__ == "__main__":
    scenario.main()
