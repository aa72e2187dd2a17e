#!/usr/bin/python3
"""What the kernel saw: the sync comes before the 250, one sync is shared by many messages under
load, and a failed sync never ends in a 250."""
import collections
import re
import subprocess

from support_py import daemon, scenario, sink, tools

CALLS = "fsync,fdatasync,sendto,sendmsg,write,writev"


class SyncProof(scenario.Scenario):
    def setUp(self):
        super().setUp()
        if scenario.SANITIZED:
            self.skipTest("LeakSanitizer does not run under strace; the release build is traced")
        try:
            subprocess.run([tools.tool("strace"), "-o", "/dev/null", "true"], check=True,
                           stderr=subprocess.PIPE)
        except (FileNotFoundError, subprocess.CalledProcessError) as problem:
            self.skipTest(f"strace cannot trace here: {problem}")

    def traced(self, *more, calls=CALLS, peer=None, **settings):
        self.trace = self.own_folder("trace") / "calls"
        peer = peer or self.sink(keep_content=False)
        server = self.relay(peer, wrapper=[
            tools.tool("strace"), "-D", "-f", "-qq", "-ttt", "-y", "-s", "80",
            "-e", f"trace={calls}", "-o", str(self.trace), *more], **settings)
        return server, peer

    def calls(self):
        """(time of the call's end, name, the line) in order."""
        found, open_calls = [], {}
        for line in self.trace.read_text("utf-8", "backslashreplace").splitlines():
            matched = re.match(r"(\d+) +(\d+\.\d+) (?:<\.\.\. )?(\w+)", line)
            if not matched:
                continue
            thread, _, name = matched.groups()
            if "<unfinished" in line:
                open_calls[thread] = line
                found.append((name, line.replace("<unfinished ...>", ""), "begins"))
            elif "resumed>" in line:
                found.append((name, open_calls.pop(thread, "") + line, "ends"))
            else:
                found.append((name, line, "whole"))
        return found

    def test_the_sync_comes_before_the_250(self):
        for size in (100, 200000):  # in the database, in a file of its own
            with self.subTest(size=size):
                server, peer = self.traced()
                server.send("a@ext.example", "b@far.example",
                            b"Subject: x\r\n\r\n" + (b"y" * 76 + b"\r\n") * (size // 78 + 1))
                peer.wait_for(1)
                server.wait_until_empty()
                server.stop()
                calls = self.calls()
                go_on = next(i for i, call in enumerate(calls)
                             if call[0].startswith("send") and '"354 ' in call[1])
                taken = next(i for i, call in enumerate(calls) if i > go_on
                             and call[0].startswith("send") and '"250 2' in call[1])
                synced = [line for name, line, state in calls[go_on:taken]
                          if name in ("fsync", "fdatasync") and state != "begins"
                          and line.endswith("= 0")]
                self.assertTrue(any("queue.db-wal" in line for line in synced), synced)
                if size > 65536:
                    # Its octets, its name, and then what says that it is there.
                    order = [re.search(r"(body/\w+|body|queue.db-wal)>", line) for line in synced]
                    kinds = [found[1].split("/")[-1] if found[1] in ("body", "queue.db-wal") else "content"
                             for found in order if found]
                    self.assertLess(kinds.index("content"), kinds.index("body"), synced)
                    self.assertLess(kinds.index("body"), len(kinds) - 1 -
                                    kinds[::-1].index("queue.db-wal"), synced)
                print(f"\n  {size} octets:\n    " + "\n    ".join(synced) + "\n    " +
                      calls[taken][1][:110], flush=True)

    def test_a_mailbox_has_the_message_before_the_queue_forgets_it(self):
        """Content and name: of each the last sync comes before the transaction without the message."""
        for kind in ("maildir", "mbox"):
            with self.subTest(kind=kind):
                boxes = self.own_folder("boxes")
                self.trace = self.own_folder("trace") / "calls"
                server = self.daemon(
                    local={"mailbox": f"{kind}:{boxes}/{{user}}" + "/" * (kind == "maildir")},
                    wrapper=[tools.tool("strace"), "-D", "-f", "-qq", "-y", "-s", "200", "-ttt",
                             "-e", "trace=fsync,fdatasync,renameat,renameat2",
                             "-o", str(self.trace)])
                reply = server.send("a@ext.example", f"{daemon.USER}@us.example",
                                    b"Subject: x\r\n\r\nx\r\n")
                self.assertEqual(reply.code, 250)
                server.wait_until_empty()
                server.stop()
                steps = []
                for name, line, state in self.calls():
                    if state == "begins":
                        continue
                    if name.startswith("rename") and f"{boxes}/" in line:
                        steps.append("name")
                    elif name in ("fsync", "fdatasync") and line.endswith("= 0"):
                        place = re.search(r"<([^>]*)>", line)[1]
                        if place.endswith("queue.db-wal"):
                            steps.append("store")
                        elif place.startswith(str(boxes)):
                            steps.append(place.replace(str(boxes), "boxes").replace(daemon.USER, "user"))
                while steps[-2:] == ["store", "store"]:  # the stop
                    steps.pop()
                told = " ".join(steps)
                in_box = " ".join(step for step in steps if step != "store")
                self.assertRegex(in_box, r"boxes/user/tmp/\S+ name boxes/user/new$"
                                 if kind == "maildir" else "boxes/user boxes$", steps)
                self.assertEqual(steps[-1], "store", steps)
                print(f"\n  {kind}: {told}", flush=True)

    def test_one_sync_is_shared_by_many_messages_under_load(self):
        peer = self.using(sink.SmtpSink(self.own_folder("sink")))
        # A disk whose sync takes 4 ms; on a faster one batches are as small as they may be.
        server, _ = self.traced("--seccomp-bpf", "-e", "inject=fsync,fdatasync:delay_exit=4000",
                                calls="fsync,fdatasync", peer=peer,
                                   accept={"sessions_per_client": 1000})
        subprocess.run([tools.tool("smtp-source"), "-s", "50", "-m", "2000", "-d", "-l", "4096",
                        "-f", "a@ext.example", "-t", "b@far.example", f"127.0.0.1:{server.port}"],
                       check=True, stdout=subprocess.DEVNULL)
        server.wait_until_empty()
        server.stop()
        self.assertEqual(len(peer.recipients()), 2000)
        syncs = collections.Counter(
            name for name, line, state in self.calls()
            if name in ("fsync", "fdatasync") and state != "begins")
        each = sum(syncs.values()) / 2000
        print(f"\n  {sum(syncs.values())} syncs for 2000 messages: {each:.3f} a message", flush=True)
        self.assertLess(each, 0.5)

    def test_a_failed_sync_never_ends_in_a_250(self):
        server, peer = self.traced("-e", "inject=fdatasync,fsync:error=EIO:when=40+")
        accepted = refused = 0
        for number in range(60):
            with server.client() as client:
                client.hello()
                reply = client.command("MAIL FROM:<a@ext.example>")
                if reply.code == 250:
                    client.expect(f"RCPT TO:<{number}@far.example>", 250)
                    client.expect("DATA", 354)
                    client.send(b"Subject: x\r\n\r\nx\r\n.\r\n")
                    reply = client.reply()
            if reply.code == 250:
                self.assertEqual(refused, 0, "accepted after a failed sync, without a reopening")
                accepted += 1
            else:
                self.assertIn(reply.code, (451, 452), reply)
                refused += 1
            if refused > 3:
                break
        self.assertGreater(refused, 0)
        peer.wait_for(max(0, accepted - 1))
        server.kill()


if __name__ == "__main__":
    scenario.main()
