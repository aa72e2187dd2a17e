#!/usr/bin/python3
"""Every message arrives once and unchanged: what comes out below our Received field has the hash of
what went in, for sizes from 1 octet to 10 MiB, with dots, long lines and UTF-8."""
import collections
import hashlib
import random
import subprocess
import threading

from support_py import scenario, sink, tools, wait

MESSAGES = 10000 if scenario.FULL else 1000
SESSIONS = 50
HEAD = b"From: <a@ext.example>\nTo: <b@far.example>\nSubject: fidelity\nMessage-ID: <%d@ext.example>\n\n"


def files(seed):
    """Contents with LF line ends, as smtp-source wants them: (share of the messages, content)."""
    chance = random.Random(seed)
    letters = bytes(range(33, 127))

    def text(size, width):
        lines = bytearray()
        while len(lines) < size:
            lines += bytes(chance.choice(letters) for _ in range(min(width, 200))) + b"\n"
        return bytes(lines[:size].rstrip(b"\n")) + b"\n"
    dots = b"".join(b"." * chance.randrange(1, 5) + chance.choice([b"", b"x", b" y"]) + b"\n"
                    for _ in range(300))
    long_lines = b"".join(b"%d" % i * (900 // len(b"%d" % i)) + b"\n" for i in range(1, 60))
    utf8 = "Grüße, 你好, здравствуйте, 🙂 and combining e\u0301\n".encode() * 50
    return [(0.35, HEAD % 1 + text(200, 72)), (0.25, HEAD % 2 + text(4000, 72)),
            (0.15, HEAD % 3 + dots), (0.10, HEAD % 4 + long_lines), (0.10, HEAD % 5 + utf8),
            (0.05, HEAD % 6 + text(60000, 100))]


def own_contents():
    """Contents with CRLF line ends that no other generator makes."""
    chance = random.Random(2)
    yield b""
    yield b"\r\n"
    yield b"x"
    yield b"."
    yield b"..\r\n"
    yield b".\r\n.\r\n..\r\n...\r\n"
    yield b"\r\n" * 1000
    yield b"no header and no end"
    yield b"Subject: a line of 998\r\n\r\n" + b"y" * 998 + b"\r\n"
    yield b"Subject: tabs\r\n\there\r\n and there\r\n\r\n\t \r\n"
    yield "Subject: ümlaut\r\n\r\n".encode() + "naïve 🙂\r\n".encode() * 5
    yield b"Subject: every octet\r\n\r\n" + bytes(
        octet for octet in range(1, 256) if octet not in (10, 13)) + b"\r\n"
    yield b"Received: from elsewhere\r\n\tby somewhere; Mon, 1 Jan 2024 00:00:00 +0000\r\n\r\nx\r\n"
    for size in (1, 2, 63, 511, 512, 4095, 4096, 4097, 16384, 65535, 65536, 65537, 131072):
        yield shaped(chance, size)
    for size in (1 << 20, (1 << 20) + 1, 10 << 20):
        yield shaped(chance, size)


def shaped(chance, size):
    """Lines of many lengths, some with dots in front, `size` octets in all."""
    content = bytearray()
    while len(content) < size:
        length = chance.choice([0, 1, 10, 70, 70, 70, 500, 998])
        line = chance.randbytes(length).translate(TABLE)
        content += (b"." if chance.random() < 0.1 else b"") + line[:998] + b"\r\n"
    content = content[:size]
    if content.endswith(b"\r"):
        content[-1:] = b"e"
    return bytes(content)


TABLE = bytes(octet if octet not in (0, 10, 13) else 46 for octet in range(256))


def digest(content):
    if content and not content.endswith(b"\r\n"):
        content += b"\r\n"
    return hashlib.sha256(content).hexdigest()


class Fidelity(scenario.Scenario):
    def relay_to(self, peer):
        return self.relay(peer, accept={"sessions_per_client": 1000, "message_size": "50MiB"},
                          delivery={"site_connections": 50})

    def test_messages_of_smtp_source_arrive_once_and_byte_for_byte(self):
        peer = self.sink(keep_content=False)
        server = self.relay_to(peer)
        wanted = collections.Counter()
        folder = self.own_folder("files")
        running = []
        shares = files(1)
        for number, (share, content) in enumerate(shares):
            path = folder / f"message{number}"
            path.write_bytes(content)
            count = round(MESSAGES * share)
            sessions = max(1, round(SESSIONS * share))
            # smtp-source sends an empty line behind the file.
            wanted[digest(content.replace(b"\n", b"\r\n") + b"\r\n")] += count
            running.append(subprocess.Popen(
                [tools.tool("smtp-source"), "-s", str(sessions), "-m", str(count), "-N",
                 "-f", f"a{number}@ext.example", "-t", f"b{number}@far.example",
                 "-F", str(path), f"127.0.0.1:{server.port}"], stdout=subprocess.DEVNULL))
        for process in running:
            self.assertEqual(process.wait(wait.DEADLINE * 4), 0)
        peer.wait_for(sum(wanted.values()), deadline=wait.DEADLINE * 4)
        server.wait_until_empty()
        self.assertEqual(collections.Counter(m.digest for m in peer.messages), wanted)
        recipients = collections.Counter(m.addresses[0] for m in peer.messages)
        self.assertEqual(len(recipients), sum(wanted.values()), "a message came twice")
        print(f"\n  {len(peer.messages)} messages over "
              f"{len({m.session for m in peer.messages})} connections", flush=True)

    def test_addresses_are_passed_on_as_they_came(self):
        peer = self.sink()
        server = self.relay_to(peer)
        as_given = ['"a".b@far.example', 'a."b".c@far.example', '"a"."b c"@far.example',
                    'a."b@us.example".c@far.example', '.a..b.@far.example', '"a b"@far.example',
                    "a@[192.0.2.1]"]
        with server.client() as client:
            client.hello()
            client.begin('"s".t@ext.example', as_given + ["z@[192.000.02.010]"])
            client.expect("DATA", 354)
            client.send(b"Subject: x\r\n\r\nx\r\n.\r\n")
            self.assertEqual(client.reply().code, 250)
        server.wait_until_empty()
        self.assertEqual(sorted(address for message in peer.messages
                                for address in message.addresses),
                         sorted(as_given + ["z@[192.0.2.10]"]))
        self.assertEqual({message.sender for message in peer.messages}, {'"s".t@ext.example'})

    def check_own_contents(self, peer, transfer):
        server = self.relay_to(peer)
        contents = list(own_contents())

        def one(numbered):
            number, content = numbered
            transfer(server, f"m{number}@far.example", content)
        self.assertEqual(scenario.parallel(one, enumerate(contents), threads=8), [])
        peer.wait_for(len(contents), deadline=wait.DEADLINE * 2)
        server.wait_until_empty()
        came = {m.addresses[0]: m for m in peer.messages}
        for number, content in enumerate(contents):
            with self.subTest(number=number, size=len(content), start=content[:20]):
                message = came[f"m{number}@far.example"]
                got = sink.without_trace(message.content)
                self.assertTrue(same(got, content), difference(got, content))
        self.assertEqual(len(peer.messages), len(contents))

    def test_every_size_and_shape_by_DATA(self):
        def transfer(server, recipient, content):
            reply = server.send("a@ext.example", recipient, content, " BODY=8BITMIME")
            assert reply.code == 250, reply
        self.check_own_contents(self.sink(), transfer)

    def test_every_size_and_shape_by_BDAT_in_chunks(self):
        def transfer(server, recipient, content):
            chance = random.Random(len(content))
            with server.client() as client:
                client.hello()
                client.begin("a@ext.example", [recipient], " BODY=8BITMIME")
                left = content
                while True:
                    size = min(len(left), chance.choice([1, 7, 1000, 65536, 1 << 20, 4 << 20]))
                    chunk, left = left[:size], left[size:]
                    client.send(b"BDAT %d%s\r\n" % (size, b"" if left else b" LAST") + chunk)
                    reply = client.reply()
                    assert reply.code == 250, reply
                    if not left:
                        return
        self.check_own_contents(self.sink(), transfer)

    def test_every_size_and_shape_to_a_peer_with_CHUNKING(self):
        def transfer(server, recipient, content):
            reply = server.send("a@ext.example", recipient, content, " BODY=8BITMIME")
            assert reply.code == 250, reply
        self.check_own_contents(self.sink(extensions=sink.ALL_EXTENSIONS), transfer)

    def test_a_message_at_the_limit_of_50_MiB(self):
        if not scenario.FULL:
            self.skipTest("long form only")
        peer = self.sink()
        server = self.relay_to(peer)
        content = shaped(random.Random(3), (50 << 20) - 2)
        reply = server.send("a@ext.example", "b@far.example", content)
        self.assertEqual(reply.code, 250)
        self.assertTrue(same(sink.without_trace(peer.wait_for(1)[0].content), content))

    def test_smtp_sink_counts_as_many_as_smtp_source_sent(self):
        peer = self.using(sink.SmtpSink(self.own_folder("sink")))
        server = self.relay(peer, accept={"sessions_per_client": 1000})
        subprocess.run([tools.tool("smtp-source"), "-s", str(SESSIONS), "-m", str(MESSAGES),
                        "-N", "-l", "4096", "-f", "a@ext.example", "-t", "b@far.example",
                        f"127.0.0.1:{server.port}"], check=True, stdout=subprocess.DEVNULL)
        server.wait_until_empty(wait.DEADLINE * 2)
        recipients = peer.recipients()
        self.assertEqual((len(recipients), len(set(recipients))), (MESSAGES, MESSAGES))

    def test_memory_stays_flat_while_large_messages_pass(self):
        if scenario.SANITIZED:
            self.skipTest("a sanitized program's memory says nothing")
        peer = self.sink(keep_content=False)
        server = self.relay_to(peer)
        content = shaped(random.Random(4), 10 << 20)
        server.send("a@ext.example", "b@far.example", content)
        peer.wait_for(1)
        before = server.memory()
        most = before
        running = [threading.Thread(target=server.send, args=("a@ext.example", "b@far.example",
                                                              content)) for _ in range(8)]
        for thread in running:
            thread.start()
        while any(thread.is_alive() for thread in running):
            most = max(most, server.memory())
            running[0].join(0.01)
        peer.wait_for(9, deadline=wait.DEADLINE * 2)
        self.assertLess(most - before, 32 << 20, "80 MiB passed through")


def same(got, content):
    """A last line without its end is given one on the way: nothing else may differ."""
    return got == content or got == content + b"\r\n"


def difference(got, content):
    at = next((i for i, (a, b) in enumerate(zip(got, content)) if a != b),
              min(len(got), len(content)))
    return f"{len(content)} octets went in, {len(got)} came out; they differ at {at}: " \
           f"{content[at - 20:at + 20]!r} became {got[at - 20:at + 20]!r}"


if __name__ == "__main__":
    scenario.main()
