#!/usr/bin/python3
"""Mail that our clients hand in by SMTP is signed as it leaves, in both roles of listeners."""
from support_py import scenario
from support_py.signatures import Signing


class Smtp(Signing):
    """Clients of ours, on listeners of both roles."""
    CONTENT = b"From: Ann <ann@us.example>\r\nTo: sue@far.example\r\nSubject: hello\r\nDate: Sun, 29 Nov 2026 12:00:00 +0000\r\n" \
              b"Message-ID: <1@us.example>\r\n\r\nText\r\n"

    def both_hold(self, message):
        return self.peers.check(self, message, "us.example/e1", "us.example/r1")

    def listening(self, role, **settings):
        server = self.signing(start=False, **settings)
        server.write_config(listener=[{"address": f"127.0.0.1:{server.port}", "role": role, "tls": "off"}],
                            accept={"relay_from": ["127.0.0.1/32"], "relay_to": ["far.example"], "message_size": "100MiB"})
        return server.start()

    def submit(self, server, content, parameters="", **arguments):
        reply = server.send("ann@us.example", "sue@far.example", content, parameters, **arguments)
        self.assertEqual(reply.code, 250, reply)

    def odd(self):
        c = self.CONTENT
        return [c, c + b"\xc3\xbc 8-bit\r\n", c + b"x" * 20000 + b"\r\n", c + b"\r\n \r\n\t\r\n\r\n", c + b".\r\n..\r\n.x\r\n",
                c.replace(b"Text\r\n", b""), c.replace(b"hello", b"a\r\n\tb\r\n c  \t d"), b"X: " + b"y" * 3000 + b"\r\n" + c,
                c + b"0123456789abcdef  \t x \r\n" * 20000]

    def test_submission(self):
        server = self.listening("submission")
        contents = self.odd()
        for content in contents:
            self.submit(server, content, " BODY=8BITMIME")
        messages = self.sent(len(contents))
        for message in messages:
            self.both_hold(message)
        for content in contents:
            self.assertTrue(any(message.endswith(content[-1000:]) for message in messages))

    def test_what_is_missing_is_added_before(self):
        server = self.listening("submission")
        for content in (b"From: ann@us.example\r\n\r\nx\r\n", b"From: ann@us.example\r\nno field\r\n", b"From: ann@us.example\r\n"):
            self.submit(server, content)
        for message in self.sent(3):
            self.both_hold(message)
            for field in (b"\r\nDate: ", b"\r\nMessage-ID: "):
                self.assertIn(field, message)
        self.submit(server, b"Subject: without From\r\n\r\nx\r\n")
        self.peers.check(self, self.sent(4)[3])

    def test_after_rewriting(self):
        server = self.listening("submission", rewrite={"sender": "inline:{ann=ann.lee@us.example}", "masquerade": "us.example"})
        self.submit(server, self.CONTENT.replace(b"ann@us.example", b"ann@host.us.example"))
        message, = self.sent()
        self.assertNotIn(b"host.us", message.partition(b"From: ")[2])
        self.both_hold(message)

    def test_chunks(self):
        server = self.listening("submission")
        content = self.CONTENT + b"line \t \r\n" * 30000
        with server.client() as client:
            client.hello()
            for size in (7, 5000, 100000):
                some = content if size > 100 else content[:content.index(b"\n", 400) + 1]
                client.begin("ann@us.example", ["sue@far.example"], " BODY=8BITMIME")
                for at in range(0, len(some), size):
                    piece = some[at:at + size]
                    client.send(b"BDAT %d%s\r\n" % (len(piece), b" LAST" if at + size >= len(some) else b"") + piece)
                for _ in range(0, len(some), size):
                    reply = client.reply()
                    self.assertEqual(reply.code, 250, (size, reply))
        for message in self.sent(3):
            self.both_hold(message)

    def test_relay_from_and_strangers(self):
        server = self.listening("mx")
        contents = self.odd()
        for content in contents:
            self.submit(server, content, " BODY=8BITMIME")
        count = len(contents)
        messages = self.sent(count)
        for message in messages:
            self.both_hold(message)
        for content in contents:
            self.assertTrue(any(message.endswith(content) for message in messages))
        self.submit(server, self.CONTENT, source="127.0.0.2")
        self.peers.check(self, self.sent(count + 1)[count])

    def test_roles_that_are_left_out(self):
        server = self.listening("mx", dkim={"sign": ["submission", "sendmail"]})
        self.submit(server, self.CONTENT)
        self.peers.check(self, self.sent()[0])

    def test_fifty_megabytes_in_little_memory(self):
        server = self.listening("submission", sink={"extensions": ("PIPELINING", "8BITMIME")})
        self.submit(server, self.CONTENT)
        self.sent()
        before = server.memory()
        line = b"0123456789 \t abcdefghijklmnopqrstuvwxyz  \r\n"
        self.submit(server, self.CONTENT + line * ((50 << 20) // len(line)))
        message = self.sent(2)[1]
        self.assertGreater(len(message), 50 << 20)
        self.assertLess(server.memory() - before, 24 << 20)
        for index in range(2):
            self.assertIs(self.peers.by_dkimpy(message, index), True)

    def test_many_in_one_session(self):
        server = self.listening("submission")
        with server.client() as client:
            client.hello()
            for number in range(20):
                author = b"ann@us.example" if number % 2 == 0 else b"ann@elsewhere.example"
                self.assertEqual(client.message("ann@us.example", ["sue@far.example"],
                                                self.CONTENT.replace(b"ann@us.example", author)).code, 250)
        signed = [message for message in self.sent(20) if self.peers.fields(message)]
        self.assertEqual(len(signed), 10)
        for message in signed:
            self.assertIs(self.peers.by_dkimpy(message, 0), True)


if __name__ == "__main__":
    scenario.main()
