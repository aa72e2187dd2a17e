#!/usr/bin/python3
"""attacks.md 2.2: whatever comes in through any door, no bare CR, bare LF or NUL goes out, and
lines of dots arrive as they were. The peer records the octets of the wire."""
import os
import random
import re
import socket
import threading

from support_py import daemon, scenario, sink, wait

BARE = [b"lone\nLF", b"lone\rCR", b"CR CR\r\r\nLF", b"a\n.\nb", b"a\n.\r\nb", b"a\r\n.\rb"]
BARE_LINE_END = re.compile(rb"(?<!\r)\n|\r(?!\n)|\0")
FULL_COUNT = 20000 if scenario.FULL else 400


class Outbound(scenario.Scenario):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.plain = cls.shared(sink.Sink(record_raw=True))
        cls.chunking = cls.shared(sink.Sink(record_raw=True, extensions=sink.ALL_EXTENSIONS))
        cls.server = cls.shared(daemon.Postrider(cls.folder / "d", route=[
            {"domain": "chunking.example", "next_hop": f"smtp://127.0.0.1:{cls.chunking.port}"},
            {"domain": "*", "next_hop": f"smtp://127.0.0.1:{cls.plain.port}"}]).start())

    def setUp(self):
        super().setUp()
        self.before = {peer: len(peer.messages) for peer in (self.plain, self.chunking)}

    def arrived(self, peer):
        self.server.wait_until_empty()
        return peer.messages[self.before[peer]:]

    def tearDown(self):
        for peer in (self.plain, self.chunking):
            for session in peer.sessions:
                found = BARE_LINE_END.search(bytes(session.raw))
                self.assertIsNone(found, found and session.raw[found.start() - 60:found.end() + 60])

    def by_bdat(self, recipient, content):
        with self.server.client() as client:
            client.hello()
            client.begin("a@us.example", [recipient], " BODY=8BITMIME")
            client.send(b"BDAT %d LAST\r\n" % len(content) + content)
            return client.reply()

    def test_O01_bare_line_ends_by_DATA_and_BDAT_do_not_get_in(self):
        """O01 refused at the door, so never sent on"""
        for text in BARE:
            for recipient in ("b@plain.example", "b@chunking.example"):
                content = b"Subject: O01\r\n\r\n" + text + b"\r\n"
                self.assertEqual(self.server.send("a@us.example", recipient, content).code, 550)
                self.assertEqual(self.by_bdat(recipient, content).code, 550)
        self.assertEqual(self.arrived(self.plain) + self.arrived(self.chunking), [])

    def test_O01_bare_line_ends_by_sendmail(self):
        """O01 local injection: LF ends a line there; a lone CR is refused or replaced, never sent"""
        for text in BARE:
            for recipient in ("b@plain.example", "b@chunking.example"):
                self.server.sendmail("-i", "-f", "a@us.example", recipient, check=False,
                                     stdin=b"Subject: O01\n\n" + text + b"\n")
        self.assertGreater(len(self.arrived(self.plain)), 1)

    def test_O01_bare_line_ends_left_while_the_daemon_was_down(self):
        """O01 the drop folder: the same"""
        self.server.stop()
        for text in BARE:
            self.server.sendmail("-i", "-f", "a@us.example", "b@plain.example", check=False,
                                 stdin=b"Subject: O01\n\n" + text + b"\n")
        self.server.start()
        wait.until(lambda: all(name.endswith(".bad") for name in
                               os.listdir(self.server.spool / "drop")), "an empty drop folder")
        self.server.wait_until_empty()

    def test_O02_a_commands_text_by_BDAT(self):
        """O02 stuffed when relayed by DATA, unchanged when relayed by BDAT"""
        content = b"a\r\n.\r\nMAIL FROM:<x@us.example>\r\n"
        for peer, domain in ((self.plain, "plain"), (self.chunking, "chunking")):
            self.assertEqual(self.by_bdat(f"b@{domain}.example", content).code, 250)
            message, = self.arrived(peer)
            self.assertEqual(sink.without_trace(message.content), content)
            if not message.by_bdat:
                self.assertIn(b"\r\n..\r\nMAIL", message.wire)

    def test_O03_the_last_line_without_its_end(self):
        """O03 CRLF is added once"""
        for domain, peer in (("plain", self.plain), ("chunking", self.chunking)):
            self.assertEqual(self.by_bdat(f"b@{domain}.example", b"Subject: x\r\n\r\nend").code, 250)
            message, = self.arrived(peer)
            self.assertRegex(message.content, rb"\r\nend(\r\n)?$")
            if not message.by_bdat:
                self.assertTrue(message.wire.endswith(b"\r\nend\r\n.\r\n"))

    def test_O04_a_message_that_ends_in_CR(self):
        """O04 refused by BDAT; by sendmail no CR CR LF goes out"""
        self.assertEqual(self.by_bdat("b@plain.example", b"Subject: x\r\n\r\nend\r").code, 550)
        self.server.sendmail("-i", "b@plain.example", stdin=b"Subject: x\n\nend\r", check=False)
        self.server.wait_until_empty()

    def test_O05_lines_of_dots(self):
        """O05 dots at the start, in the middle, at the end, and a mebibyte of them"""
        for content in (b".\r\n", b".\r\nx\r\n", b"x\r\n.\r\nx\r\n", b"x\r\n.\r\n", b"..\r\n...\r\n",
                        b"." * 998 + b"\r\n", (b"." * 70 + b"\r\n") * 15000,
                        b"x\r\n.", b".\r\n" * 100000):
            for domain, peer in (("plain", self.plain), ("chunking", self.chunking)):
                self.before[peer] = len(peer.messages)
                self.assertEqual(self.by_bdat(f"b@{domain}.example", content).code, 250)
                message, = self.arrived(peer)
                got = sink.without_trace(message.content)
                self.assertTrue(got in (content, content + b"\r\n"), content[:40])

    def test_O06_names_with_line_ends_in_what_we_add(self):
        """O06 a name in HELO or MAIL never makes a line of its own"""
        for name in (b"x\ry", b"x\ny", b"x\0y", b"x\r\n y", b"[1.2.3.4]\x0b"):
            with self.server.client() as client:
                client.send(b"EHLO " + name + b"\r\n")
                client.reply()
        self.assertEqual(self.server.send("a@us.example", "b@plain.example",
                                          b"Subject: O06\r\n\r\nx\r\n").code, 250)
        message, = self.arrived(self.plain)
        self.assertEqual(len(re.findall(rb"^Received:", message.content, re.M)), 1)

    def test_O07_lines_beyond_998_octets(self):
        """O07 a stated policy: refused, or passed on byte for byte; never a silent cut"""
        for length in (999, 1000, 2000, 100000):
            content = b"Subject: O07\r\n\r\n" + b"z" * length + b"\r\n"
            self.before[self.plain] = len(self.plain.messages)
            reply = self.server.send("a@us.example", "b@plain.example", content)
            if reply.code == 250:
                message, = self.arrived(self.plain)
                self.assertEqual(sink.without_trace(message.content), content)
            else:
                self.assertIn(reply.code, (550, 554))

    def test_O08_NUL(self):
        """O08 refused in, by every door"""
        content = b"Subject: O08\r\n\r\na\0b\r\n"
        self.assertEqual(self.server.send("a@us.example", "b@plain.example", content).code, 550)
        self.assertEqual(self.by_bdat("b@plain.example", content).code, 550)
        self.server.sendmail("-i", "b@plain.example", stdin=b"Subject: x\n\na\0b\n", check=False)
        self.server.wait_until_empty()

    def test_O09_a_notice_that_quotes_hostile_text(self):
        """O09 the notice for a message with odd octets, and for a remote that answers with them"""
        self.plain.script["rcpt"] = {
            "refused@plain.example": "550-5.1.1 \x1b[2Jodd\x01\udcff\n550 5.1.1 reply"}
        try:
            self.server.sendmail("-i", "-f", "a@us2.example", "refused@plain.example", stdin=(
                b"Subject: =?x?=\n\n" + bytes(o for o in range(1, 256) if o not in (10, 13)) + b"\n"))
            notice, = self.arrived(self.plain)
        finally:
            del self.plain.script["rcpt"]
        self.assertEqual((notice.sender, notice.addresses), ("", ["a@us2.example"]))
        head = notice.content.split(b"message/rfc822")[0].split(b"text/rfc822-headers")[0]
        self.assertNotRegex(head, rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")

    def test_O10_random_legal_messages_come_out_as_they_went_in(self):
        """O10 round trip"""
        chance = random.Random(10)
        contents = {}
        for number in range(FULL_COUNT):
            lines = [bytes(chance.choice(LEGAL) for _ in range(chance.choice([0, 1, 2, 5, 70, 400])))
                     for _ in range(chance.randrange(0, 12))]
            contents[number] = b"".join(line + b"\r\n" for line in lines)

        def one(start):
            with self.server.client() as client:
                client.hello()
                for number in range(start, FULL_COUNT, 8):
                    domain = chance.choice(["plain", "chunking"])
                    reply = client.message("a@us.example", [f"{number}@{domain}.example"],
                                           contents[number], " BODY=8BITMIME")
                    assert reply.code == 250, reply
        self.assertEqual(scenario.parallel(one, range(8), 8), [])
        came = {int(m.addresses[0].split("@")[0]): m.content
                for m in self.arrived(self.plain) + self.arrived(self.chunking)}
        self.assertEqual(len(came), FULL_COUNT)
        # A content whose first line is a continuation (M10) continues our Received field.
        wrong = [number for number in contents if not came[number].startswith(b"Received: ") or
                 not came[number].endswith(b"\r\n" + contents[number])]
        self.assertEqual(wrong, [])


LEGAL = [o for o in range(1, 256) if o not in (10, 13)] + [46] * 60


class Talkative(scenario.Scenario):
    """A host that answers one command twice, and refuses every message behind its content."""
    TWICE = {"mail": "250 2.1.0 ok\n250 2.1.0 ok", "rcpt": "250 2.1.5 ok\n250 2.1.5 ok"}

    def check(self, extensions, refusal, codes=lambda reply: reply):
        for stage, twice in self.TWICE.items():
            for size in (100, 200_000):
                with self.subTest(stage=stage, size=size):
                    peer = self.sink(extensions=extensions, script={
                        stage: codes(twice), "bdat": refusal, "end": refusal})
                    server = self.relay(peer, delivery={"retry": ["1h"]})
                    server.send("a@src.example", "b@far.example", b"Subject: x\r\n\r\n" + b"x" * 70 * (size // 70) + b"\r\n")
                    ends = server.wait_for_log("attempted")
                    self.assertEqual([end["verdict"] for end in ends if end["verdict"] == "sent"], [], ends)
                    self.assertEqual(len(peer.messages), 0)
                    server.stop()

    def test_M17_a_reply_too_many_is_not_the_verdict(self):
        for refusal in ("452 4.3.1 full", "550 5.7.1 no"):
            for extensions in (["PIPELINING", "CHUNKING"], ["CHUNKING"], ["PIPELINING"], []):
                with self.subTest(extensions=extensions, refusal=refusal):
                    self.check(extensions, refusal)

    def test_M17_nor_of_a_host_without_enhanced_codes(self):
        self.check(["PIPELINING", "CHUNKING"], "452 full", lambda reply: re.sub(r" 2\.1\.\d", "", reply))


class Conversions(scenario.Scenario):
    """Hosts without 8BITMIME that stop reading: what is converted for them is held meanwhile."""

    def stalled(self):
        """The port of such a host; a good message still comes there, when it is let go."""
        listener = self.enterContext(socket.create_server(("127.0.0.1", 0)))

        def talk(peer):
            with peer, peer.makefile("rb") as lines:
                peer.sendall(b"220 stalled\r\n")
                for line in lines:
                    verb = line[:4].upper()
                    peer.sendall({b"DATA": b"354 go on\r\n", b"QUIT": b"221 bye\r\n"}.get(verb, b"250 fine\r\n"))
                    if verb != b"DATA":
                        continue
                    self.reached.append(listener)
                    self.go_on.wait()
                    while lines.readline() not in (b".\r\n", b""):
                        pass
                    peer.sendall(b"250 taken\r\n")

        def serve():
            while True:
                try:
                    peer, _ = listener.accept()
                except OSError:
                    return
                threading.Thread(target=talk, args=(peer,), daemon=True).start()
        threading.Thread(target=serve, daemon=True).start()
        return listener.getsockname()[1]

    def test_what_is_converted_at_one_time_is_bounded(self):
        """23 MiB of 8 bits to twenty of them: 32 MiB each in seven, and 192 MiB with the sources at most. The others
        wait; other mail does not."""
        if scenario.SANITIZED:
            self.skipTest("a sanitized program's memory says nothing")
        self.reached, self.go_on = [], threading.Event()
        self.addCleanup(self.go_on.set)
        peer = self.sink()
        server = self.using(daemon.Postrider(self.own_folder("d"), delivery={"retry": ["1s"]}, route=[
            *({"domain": f"d{number}.example", "next_hop": f"smtp://127.0.0.1:{self.stalled()}"} for number in range(20)),
            {"domain": "*", "next_hop": f"smtp://127.0.0.1:{peer.port}"}])).start()
        content = b"Subject: large\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n" + \
            (b"\xc3\xa4" * 36 + b"\r\n") * (20 << 14)
        before, most = server.memory(), 0
        with server.client() as client:
            client.hello()
            client.begin("a@us.example", [f"b@d{number}.example" for number in range(20)], " BODY=8BITMIME")
            client.expect("DATA", 354)
            client.send(content + b".\r\n")
            self.assertEqual(client.reply().code, 250)
        wait.until(lambda: len(self.reached) >= 2, "some that are sent to")

        def is_steady(seen=[]):
            seen.append(len(self.reached))
            return len(seen) > 10 and len(set(seen[-10:])) == 1
        wait.until(is_steady, "no more of them", pause=0.3)
        most = server.memory() - before
        print(f"\n  {len(self.reached)} of 20 at one time, {most >> 20} MiB", flush=True)
        self.assertLess(len(self.reached), 10)
        self.assertLess(most, 300 << 20)
        self.assertEqual(server.send("a@us.example", "b@good.example", b"Subject: s\r\n\r\nx\r\n").code, 250)
        wait.until(lambda: len(peer.messages) == 1, "mail that needs no conversion")
        self.go_on.set()
        server.wait_until_empty()
        self.assertEqual(len(set(self.reached)), 20)


if __name__ == "__main__":
    scenario.main()
