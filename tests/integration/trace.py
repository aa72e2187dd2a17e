#!/usr/bin/python3
"""`postrider trace`: what became of mail that is gone. Accepted, deferred, delivered over TLS, bounced, held, removed
and refused mail is found by whatever is known of it, over a restart and a kill, by root and no stranger; large answers
hold nothing up, and a trace that cannot be written holds up no mail."""
import json
import os
import re
import shutil
import sqlite3
import struct
import subprocess
import threading
import time
import unittest

from support_py import certificates, daemon, scenario, wait

NOINPUT, UNAVAILABLE, USAGE, NOPERM = 66, 69, 64, 77
MESSAGES = int(os.environ.get("POSTRIDER_TRACED", 10_000 if scenario.FULL or not scenario.SANITIZED else 2000))


def content(message_id, subject="hello"):
    return f"From: <ann@ext.example>\r\nMessage-ID: <{message_id}>\r\nSubject: {subject}\r\n\r\nbody\r\n".encode()


def answer(session, argument):
    if "bad" in argument:
        return "550 5.1.1 no such user \x1b[31m here"
    if "later" in argument and session.number < 3:
        return "451 4.2.0 not now"
    return "451 4.2.0 not now" if "stuck" in argument else None


class Trace(scenario.Scenario):
    def asked(self, server, *words, code=0):
        """What stands in the log comes to the trace in a moment, which an answer awaits for a second alone."""
        def ask():
            done = server.tool("postrider", "trace", *words, "--json", check=False)
            return None if code == 0 and done.returncode == NOINPUT else done
        done = wait.until(ask, f"a trace of {words}", pause=0.2)
        self.assertEqual(done.returncode, code, f"{words}: {done.stderr}")
        return json.loads(done.stdout) if code in (0, NOINPUT) else done

    def events(self, server, *words):
        """(id, events) of each message."""
        return [(message["id"], [event["event"] for event in message["events"]])
                for message in self.asked(server, *words)["messages"]]

    def test_every_end_of_a_message_is_found_by_what_is_known_of_it(self):
        peer = self.sink(script={"rcpt": answer})
        server = self.relay(peer, delivery={"retry": ["1s", "1h"]})
        server.send("ann@ext.example", ["good@far.example"], content("good@ext.example"))
        server.send("ann@ext.example", ["bad@far.example"], content("bad@ext.example"))
        server.send("ann@ext.example", ["stuck@far.example"], content("stuck@ext.example"))
        server.send("bob@other.example", ["Good@far.example", "bad2@far.example"], content("two@other.example"))
        with server.client() as client:
            client.hello("evil.example")
            client.expect("MAIL FROM:<eve@bad.example>", 250)
            client.expect("RCPT TO:<nobody-here@us.example>", 550)
        server.wait_for_log("attempted", verdict="sent", count=2)
        server.wait_for_log("attempted", verdict="bounced", count=2)
        server.wait_for_log("attempted", verdict="deferred", to="stuck@far.example")
        good, = server.log("accepted", message_id="<good@ext.example>")
        for words in ((good["id"],), (good["id"].lower(),), ("<good@ext.example>",), ("good@ext.example",),
                      ("--from", "ann@EXT.example", "--to", "good@far.example")):
            with self.subTest(words=words):
                found = [one for one in self.events(server, *words) if one[0] == good["id"]]
                self.assertEqual(found, [(good["id"], ["accepted", "delivered"])])
        step = self.asked(server, good["id"])["messages"][0]["events"][1]
        logged, = server.log("attempted", id=good["id"])
        for name in ("from", "to", "relay", "delays", "dsn", "reason", "id"):
            self.assertEqual(step[name], logged[name])
        # A message to two: of each recipient only its own steps.
        (_, both), = self.events(server, "two@other.example")
        self.assertEqual(sorted(both)[:3], ["accepted", "bounced", "delivered"])
        (_, one), = self.events(server, "--from", "@other.example", "--to", "good@far.example")
        self.assertEqual(one, ["accepted", "delivered"])
        # What waits says so, and what an administrator does to it.
        message, = self.asked(server, "stuck@far.example")["messages"]
        self.assertEqual(message["queued"]["recipients"][0]["address"], "stuck@far.example")
        wait.until(lambda: not server.queue("--status", "active"), "nothing under way")
        for verb in ("hold", "release", "hold", "remove"):
            server.postrider("queue", verb, "--to", "stuck@far.example")
        wait.until(lambda: not server.queue("--to", "stuck@far.example"), "it is gone")
        (_, steps), = self.events(server, "stuck@far.example")
        self.assertEqual([step for step in steps if step != "deferred"],
                         ["accepted", "held", "released", "held", "removed"])
        self.assertNotIn("queued", self.asked(server, "stuck@far.example")["messages"][0])
        # The notice, and its message.
        bad, = server.log("accepted", message_id="<bad@ext.example>")
        notice, = server.wait_for_log("notice_created", id=bad["id"])
        (_, steps), = self.events(server, bad["id"])
        self.assertEqual(steps, ["accepted", "bounced", "notice_created"])
        server.wait_for_log("attempted", id=notice["notice"])
        self.assertEqual(self.events(server, notice["notice"])[0][1][0], "notice_created")
        # Refused mail.
        refused, = self.asked(server, "--rejected", "--from", "eve@bad.example")["refused"]
        self.assertEqual((refused["event"], refused["to"], refused["reply"][:3], refused["helo"]),
                         ("rejected", "nobody-here@us.example", "550", "evil.example"))
        self.assertEqual(self.asked(server, "--rejected", "--to", "x@us.example", code=NOINPUT)["refused"], [])
        # Text: nothing steers a terminal, no line is long.
        text = server.postrider("trace", "--since", "1h")
        self.assertNotIn("\x1b", text)
        self.assertIn("delivered      good@far.example", text)
        self.assertIn("550 5.1.1 no such user", text)
        self.assertIn("evil.example", server.postrider("trace", "--rejected"))
        # Over a restart, and while the daemon is down.
        server.stop()
        self.assertEqual(self.events(server, good["id"]), [(good["id"], ["accepted", "delivered"])])
        server.start()
        self.assertEqual(self.events(server, good["id"]), [(good["id"], ["accepted", "delivered"])])
        # Nothing found says how far back the trace goes.
        done = server.tool("postrider", "trace", "nobody@far.example", check=False)
        self.assertEqual(done.returncode, NOINPUT)
        self.assertRegex(done.stderr, r"the trace goes back to 20\d\d-")
        for words in ((), ("--since", "yesterday"), ("--limit", "x", "--since", "1h"), (good["id"], "--rejected")):
            with self.subTest(words=words):
                self.assertEqual(server.tool("postrider", "trace", *words, check=False).returncode, USAGE)

    def test_tls_of_the_peer_stands_in_the_story(self):
        pair = certificates.Pair(self.own_folder("certificates"), "peer")
        peer = self.daemon(start=False, tls={"certificate": [str(pair.certificate)], "key": [str(pair.key)]})
        peer.write_config(listener=[{"address": f"127.0.0.1:{peer.port}", "role": "mx", "tls": "starttls"}])
        peer.start()
        server = self.daemon(route=[{"domain": "us.example", "next_hop": f"smtp://127.0.0.1:{peer.port}",
                                     "tls": "require"}], local={"domains": ["here.example"]})
        server.send("ann@ext.example", [f"{daemon.USER}@us.example"], content("tls@ext.example"))
        server.wait_for_log("attempted", verdict="sent")
        message, = self.asked(server, "<tls@ext.example>")["messages"]
        self.assertIn("TLSv1.", message["events"][-1]["tls"])
        self.assertIn("TLSv1.", server.postrider("trace", message["id"]))
        received, = self.asked(peer, "<tls@ext.example>")["messages"]
        self.assertIn("TLSv1.", received["events"][0]["tls"])

    def test_a_kill_costs_no_more_than_the_last_second(self):
        peer = self.sink()
        server = self.relay(peer)
        for round_ in range(3):
            server.send("ann@ext.example", [f"one{round_}@far.example"], content(f"{round_}@ext.example"))
            server.wait_for_log("attempted", count=round_ + 1)
            self.events(server, f"one{round_}@far.example")  # brings it to the disk
            server.kill()
            server.start()
            for earlier in range(round_ + 1):
                (_, steps), = self.events(server, f"one{earlier}@far.example")
                self.assertEqual(steps[:2], ["accepted", "delivered"])
        self.assertEqual(server.log("trace_damaged"), [])

    def test_what_the_tools_do_while_the_daemon_is_down_has_its_end_and_its_doer(self):
        peer = self.sink()
        peer.stop()
        server = self.relay(peer)
        for name in ("gone", "kept", "moved"):
            server.send("ann@ext.example", [name + "@far.example"], content(name + "@ext.example"))
        server.wait_for_log("accepted", count=3)
        ids = {name: server.log("accepted", message_id=f"<{name}@ext.example>")[0]["id"] for name in ("gone", "kept", "moved")}
        server.postrider("queue", "export", "--folder", str(self.folder), ids["moved"])
        server.stop()
        server.postrider("queue", "remove", ids["gone"])
        server.postrider("queue", "hold", ids["kept"])
        server.postrider("queue", "remove", ids["moved"])
        server.postrider("queue", "import", str(self.folder / (ids["moved"] + ".eml")))
        changes = (server.spool / "changes").stat()
        self.assertEqual((changes.st_uid, changes.st_mode & 0o7777), (server.spool.stat().st_uid, 0o600))
        server.start()
        uid = str(os.getuid())
        changes = wait.until(lambda: [e for e in server.log("queue_changed") if "done_at" in e], "the changes")
        self.assertEqual([(e["verb"], e["uid"]) for e in changes], [("remove", uid), ("hold", uid), ("remove", uid)])
        self.assertEqual([e["id"] for e in server.log("removed")], [ids["gone"], ids["moved"]])
        taken, = server.log("accepted", protocol="import")
        self.assertEqual((taken["id"], taken["uid"]), (ids["moved"], uid))
        self.assertEqual([one[1][-1] for one in self.events(server, ids["gone"])], ["removed"])
        self.assertEqual([one[1][-1] for one in self.events(server, ids["kept"])], ["held"])
        (_, moved), = self.events(server, ids["moved"])
        self.assertIn("accepted", moved[moved.index("removed"):])
        step = self.asked(server, ids["gone"])["messages"][0]["events"][-1]
        self.assertEqual(str(step["uid"]), uid)
        self.assertEqual(step["time"], step["done_at"])
        self.assertFalse((server.spool / "changes").exists())
        server.restart()
        self.assertEqual(len([e for e in server.log("queue_changed") if "done_at" in e]), 3, "told once")

    def test_what_was_never_tried_is_found_in_the_queue(self):
        server = self.daemon()
        server.postrider("queue", "pause", "--all")
        server.send("ann@ext.example", [f"{daemon.USER}@us.example", "postmaster@us.example"], content("p@ext.example"))
        for target in ("postmaster@us.example", "--to=postmaster@us.example"):
            message, = self.asked(server, target)["messages"]
            self.assertEqual([event["event"] for event in message["events"]], ["accepted"])
            self.assertTrue(message["queued"]["recipients"])
        server.postrider("queue", "resume", "--all")

    def test_keep_0_forgets_all_and_another_begins_anew(self):
        peer = self.sink()
        server = self.relay(peer)
        server.send("ann@ext.example", ["one@far.example"], content("1@ext.example"))
        server.wait_for_log("attempted")
        self.assertEqual(len(self.events(server, "one@far.example")), 1)
        server.write_config(trace={"keep": "0s"})
        server.postrider("reload")
        wait.until(lambda: not (server.spool / "trace.db").exists(), "no trace")
        done = server.tool("postrider", "trace", "one@far.example", check=False)
        self.assertEqual(done.returncode, UNAVAILABLE)
        self.assertIn("keep is 0", done.stderr)
        server.send("ann@ext.example", ["two@far.example"], content("2@ext.example"))
        server.write_config(trace={"keep": "7d"})
        server.postrider("reload")
        server.send("ann@ext.example", ["three@far.example"], content("3@ext.example"))
        server.wait_for_log("attempted", count=3)
        self.assertEqual(len(self.events(server, "three@far.example")), 1)
        self.asked(server, "one@far.example", code=NOINPUT)

    def test_a_damaged_trace_holds_up_no_mail(self):
        peer = self.sink()
        server = self.relay(peer, start=False)
        server.spool.mkdir(mode=0o700)
        (server.spool / "trace.db").write_bytes(b"no database " * 5000)
        server.start()
        server.send("ann@ext.example", ["one@far.example"], content("1@ext.example"))
        peer.wait_for(1)
        server.wait_for_log("trace_damaged")
        server.wait_for_log("attempted")
        self.assertEqual(len(self.events(server, "one@far.example")), 1)
        self.assertTrue((server.spool / "trace.db.damaged").exists())

    def test_a_locked_trace_is_an_alarm_and_no_trouble_for_mail(self):
        peer = self.sink()
        server = self.relay(peer)
        server.send("ann@ext.example", ["one@far.example"], content("1@ext.example"))
        server.wait_for_log("attempted")
        self.events(server, "one@far.example")
        lock = sqlite3.connect(server.spool / "trace.db", isolation_level=None)
        lock.execute("BEGIN IMMEDIATE")
        server.send("ann@ext.example", ["two@far.example"], content("2@ext.example"))
        peer.wait_for(2)
        server.wait_for_log("trace_not_written")
        self.assertRegex(server.postrider("status"), r"ALARM +the trace is not written")
        lock.execute("ROLLBACK")
        lock.close()
        server.wait_for_log("trace_written_again")
        self.assertEqual(len(self.events(server, "two@far.example")), 1)
        self.assertNotIn("the trace is not", server.postrider("status"))

    @unittest.skipUnless(scenario.is_root() and shutil.which("setpriv"), "needs root and setpriv")
    def test_it_is_for_root_and_the_group_alone(self):
        server = self.daemon()
        server.send("ann@ext.example", [f"{daemon.USER}@us.example"], content("1@ext.example"))
        server.wait_for_log("attempted")
        at = self.folder
        while at != at.parent:
            os.chmod(at, os.stat(at).st_mode | 0o011)
            at = at.parent
        done = subprocess.run(["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups",
                               str(daemon.BIN / "postrider"), "-c", str(server.config_file), "trace", "--since", "1h"],
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=wait.DEADLINE)
        self.assertEqual((done.returncode, done.stdout), (NOPERM, b""), done.stderr)
        self.assertEqual(os.stat(server.spool / "trace.db").st_mode & 0o077, 0)

    def test_a_large_answer_is_whole_while_mail_goes_on(self):
        """One message to very many and very many messages: all of them in one answer, and a client that leaves in
        the middle ends it."""
        peer = self.sink(keep_content=False)
        server = self.relay(peer)
        # The spool's file filled by the daemon itself takes too long for so many: the lines are copied.
        server.send("ann@ext.example", ["seed@far.example"], content("seed@ext.example"))
        server.wait_for_log("attempted")
        self.events(server, "seed@far.example")
        server.stop()
        self.multiply(server.spool / "trace.db", MESSAGES)
        server.start()
        stop = threading.Event()
        delays = []

        def mail():
            number = 0
            while not stop.is_set():
                begun = time.monotonic()
                server.send("bob@ext.example", [f"live{number}@far.example"], content(f"live{number}@ext.example"))
                delays.append(time.monotonic() - begun)
                number += 1

        sender = threading.Thread(target=mail)
        sender.start()
        try:
            begun = time.monotonic()
            found = self.asked(server, "seed@far.example", "--limit", "0")
            took = time.monotonic() - begun
            self.assertEqual(len(found["messages"]), MESSAGES + 1)
            self.assertTrue(all(len(message["events"]) == 2 for message in found["messages"]))
            self.assertFalse(found["more"])
            few = self.asked(server, "seed@far.example")
            self.assertEqual((len(few["messages"]), few["more"]), (100, True))
            # Whoever reads nothing, and whoever leaves.
            with subprocess.Popen([str(daemon.BIN / "postrider"), "trace", "seed@far.example", "--limit", "0"],
                                  stdout=subprocess.PIPE, env=server.environment()) as reader:
                reader.stdout.readline()
                self.assertEqual(len(self.events(server, "<seed@ext.example>", "--limit", "1")), 1)
                reader.kill()
            sent = len(delays)
            wait.until(lambda: len(delays) > sent + 3, "mail goes on")
        finally:
            stop.set()
            sender.join()
        print(f"  {MESSAGES} messages in {took:.2f} s; {len(delays)} sent meanwhile, "
              f"the slowest in {max(delays):.2f} s", flush=True)

    @staticmethod
    def multiply(path, count):
        """The two steps that are there, under so many other ids."""
        alphabet = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
        with sqlite3.connect(path) as database:
            chunk, = database.execute("SELECT group_concat(hex(bytes), '') FROM (SELECT bytes FROM chunk ORDER BY sequence)").fetchone()
            chunk = bytes.fromhex(chunk)
            segment, place = database.execute("SELECT number, steps FROM segment").fetchone()
            ident = re.search(rb"\x0b([0-9A-HJKMNP-TV-Z]{11})", chunk).group(1)
            entries = b"".join(row[0] for row in database.execute("SELECT bytes FROM block"))
            keys = sorted({key for key, _ in struct.iter_unpack(">QH", entries) if key >= 1 << 60})
            value, per_message, index = 0, place, []
            for letter in ident.decode():
                value = value * 32 + alphabet.index(letter)
            for number in range(1, count + 1):
                other, left = "", value - number * 1000
                for _ in range(11):
                    other, left = alphabet[left % 32] + other, left // 32
                database.execute("INSERT INTO chunk VALUES(?, ?)",
                                 (segment * 65536 + place, chunk.replace(ident, other.encode())))
                for _ in range(per_message):
                    index += [(key, place) for key in keys + [value - number * 1000]]
                    place += 1
            index.sort()
            blocks = [index[begin:begin + 400] for begin in range(0, len(index), 400)]
            begin = database.execute("SELECT max(number) + 1 FROM block").fetchone()[0]
            database.executemany("INSERT INTO block VALUES(?, ?)", (
                (begin + i, b"".join(struct.pack(">QH", *entry) for entry in block)) for i, block in enumerate(blocks)))
            database.execute("INSERT INTO run VALUES(?, 3, ?, ?)", (
                segment * (1 << 18) + 1000, begin, b"".join(struct.pack(">Q", block[0][0]) for block in blocks)))
            database.execute("UPDATE segment SET steps = ?", (place,))
        database.close()


if __name__ == "__main__":
    scenario.main()
