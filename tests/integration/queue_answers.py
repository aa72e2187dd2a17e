#!/usr/bin/python3
"""The queue answers: what waits in groups, against a model of what was sent; what is paused waits, over a restart,
and says so; what is expired ends with a notice."""
import collections
import json
import os
import pty
import re
import select

from support_py import daemon, scenario, wait
from support_py.daemon import USER

CONTENT = b"From: <a@us.example>\r\nSubject: answers\r\n\r\nbody\r\n"
DOMAINS = ("one.example", "two.example", "three.example")
SENDERS = (f"{USER}@us.example", "b@ext.example", "")


def not_today(session, argument):
    return f"451 4.7.1 come back in {300 + len(argument)} seconds"


class Damage(scenario.Scenario):
    def test_status_has_an_alarm_for_what_is_held_because_of_damage(self):
        peer = self.sink()
        peer.stop()
        server = self.relay(peer)
        server.send("a@ext.example", "b@far.example", CONTENT + b"x" * 70 + b"\r\n")
        server.send("a@ext.example", "c@far.example", CONTENT + (b"x" * 70 + b"\r\n") * 2000)
        wait.until(lambda: len(server.queue()) == 2 and not server.queue("--status", "active"), "two that wait")
        self.assertNotIn("damage", server.postrider("status"))
        server.stop()  # its content is read again
        file, = (server.spool / "body").iterdir()
        with open(file, "r+b") as body:
            body.seek(100_000)
            body.write(b"y")
        peer.start()
        server.start()
        peer.wait_for(1)
        wait.until(lambda: server.queue("--status", "held"), "the damaged one held")
        status = server.postrider("status")
        self.assertRegex(status, r"ALARM +1 message held because of damage: see `postrider queue --status held`")
        self.assertEqual(json.loads(server.postrider("status", "--json"))["queue"]["quarantined"], 1)
        self.assertEqual([message.addresses for message in peer.messages], [["b@far.example"]])
        damaged, = (m["queue_id"] for m in server.queue())
        for verb, then in (("retry", "stays so"), ("release", "is held again unless that is mended"),
                           ("bounce", "is held again unless that is mended")):
            done = server.tool("postrider", "queue", verb, damaged, "--dry-run")
            self.assertRegex(done.stderr, fr"{damaged} was held because of damage \(quarantined: .*\), and {then}: "
                                          f"`postrider queue remove {damaged}`, or put its content back and "
                                          f"`postrider queue release {damaged}`\n")
        server.postrider("queue", "remove", "--all")
        self.assertNotIn("damage", server.postrider("status"))


class Answers(scenario.Scenario):
    def setUp(self):
        super().setUp()
        self.peer = self.sink(script={"mail": not_today})
        self.server = self.relay(self.peer, delivery={"retry": ["1h"]})

    def fill(self, messages=12):
        """Deferred, all of them; returns (sender, domains, size) of each."""
        sent = []
        for i in range(messages):
            domains = [DOMAINS[i % 3]] + ([DOMAINS[(i + 1) % 3]] if i % 4 == 0 else [])
            content = CONTENT + b"x" * 70 * i + b"\r\n"
            self.server.send(SENDERS[i % 2], [f"r{i}@{domain}" for domain in domains], content)
            sent.append((SENDERS[i % 2], domains))
        wait.until(lambda: len(self.server.queue()) == messages and
                   all(r["attempts"] for m in self.server.queue() for r in m["recipients"]),
                   lambda: f"{messages} deferred messages: {self.server.queue()}")
        return sent

    def ask(self, *words):
        return [json.loads(line) for line in self.server.postrider("queue", *words, "--json").splitlines()]

    def groups(self, *words):
        *groups, last = self.ask("summary", *words)
        return {g["group"]["key"]: (g["group"]["messages"], g["group"]["recipients"]) for g in groups}, last["summary"]

    def test_a_summary_equals_what_was_sent(self):
        sent = self.fill()
        by_domain, by_sender = collections.defaultdict(lambda: [0, 0]), collections.defaultdict(lambda: [0, 0])
        for sender, domains in sent:
            by_sender[sender][0] += 1
            by_sender[sender][1] += len(domains)
            for domain in domains:
                by_domain[domain][0] += 1
                by_domain[domain][1] += 1
        recipients = sum(len(domains) for _, domains in sent)
        groups, total = self.groups()
        self.assertEqual(groups, {key: tuple(value) for key, value in by_domain.items()})
        self.assertEqual((total["messages"], total["recipients"], total["groups"], total["by"]),
                         (12, recipients, 3, "domain"))
        groups, _ = self.groups("--by", "sender")
        self.assertEqual(groups, {key: tuple(value) for key, value in by_sender.items()})
        groups, _ = self.groups("--by", "client")
        self.assertEqual(groups, {"127.0.0.1": (12, recipients)})
        groups, _ = self.groups("--by", "site")
        self.assertEqual(list(groups.values()), [(12, recipients)])
        groups, _ = self.groups("--by", "reason")
        reason, = groups
        self.assertIn("said: 451 4.7.1 come back in # seconds", reason)
        self.assertEqual(groups[reason], (12, recipients))
        groups, total = self.groups("--by", "age")
        self.assertEqual(groups, {key: tuple(value) for key, value in by_domain.items()})
        self.assertEqual((len(total["ages"]), sum(total["ages"])), (10, recipients))
        groups, total = self.groups("--from", "b@ext.example", "--limit", "1")
        self.assertEqual((len(groups), total["groups"], total["messages"]), (1, 3, 6))
        groups, _ = self.groups("two.example", "--by", "sender")
        self.assertEqual(sum(messages for messages, _ in groups.values()), by_domain["two.example"][0])
        self.server.stop()  # the same from the queue itself
        groups, _ = self.groups()
        self.assertEqual(groups, {key: tuple(value) for key, value in by_domain.items()})

    def test_the_summary_as_text(self):
        self.assertEqual(self.server.postrider("queue", "summary"), "No message matches.\n")
        self.fill()
        for key, heading in (("domain", "DOMAIN"), ("site", "SITE"), ("sender", "SENDER"), ("client", "CLIENT"),
                             ("reason", "REASON"), ("age", "DOMAIN")):
            text = self.server.postrider("queue", "summary", "--by", key)
            lines = text.splitlines()
            self.assertTrue(lines[0].endswith(heading), text)
            self.assertTrue(lines[1].endswith("TOTAL"), text)
            self.assertTrue(all(len(line) <= 80 for line in lines), text)
        self.assertRegex(self.server.postrider("queue", "summary", "--limit", "1"),
                         r"\n1 of 3 domains; --limit 0 shows all\n$")
        self.assertRegex(self.server.postrider("queue", "summary", "--by", "sender"),
                         rf"(?m)^ +\d+ +6 +\S+ +\S+  {USER}@us\.example$")
        for words in (("--by", "nonsense"), ("--limit", "-1"), ("--limit", "many"), ("--status", "nonsense")):
            done = self.server.tool("postrider", "queue", "summary", *words, check=False)
            self.assertEqual(done.returncode, 64, done)
            self.assertIn(words[1], done.stderr)

    def test_a_paused_domain_waits_over_a_restart(self):
        self.peer.script.clear()
        text = self.server.postrider("queue", "pause", "One.Example")
        self.assertEqual(text, "mail to one.example is paused until it is resumed: 0 messages (0 recipients) wait\n")
        self.server.send("b@ext.example", ["x@one.example", "y@two.example"], CONTENT)
        self.peer.wait_for(1)
        wait.until(lambda: [r["address"] for m in self.server.queue() for r in m["recipients"]] == ["x@one.example"],
                   "the paused one alone")
        for restart in (False, True):
            if restart:
                self.server.restart()
            self.server.postrider("queue", "retry")
            message, = self.server.queue()
            self.assertTrue(message["recipients"][0]["paused"])
            self.assertRegex(message["recipients"][0]["delay_reason"], r"^mail to one\.example is paused by \S+$")
            self.assertEqual(message["recipients"][0]["next_attempt"], 0)
            self.assertIn("    -> x@one.example  queued, paused", self.server.postrider("queue"))
            for target in (message["queue_id"], "new@one.example", "one.example"):
                self.assertIn("`postrider queue resume one.example`", self.server.postrider("explain", target))
            self.assertNotIn("is paused", self.server.postrider("explain", "two.example"))
            status = self.server.postrider("status")
            self.assertRegex(status, r"\AALARM +mail to one\.example is paused by \S+: `postrider queue resume")
            self.assertRegex(status, r"(?m)^paused +domain one\.example since \d{4}-\d\d-\d\d \d\d:\d\d:\d\d$")
            self.assertEqual([(p["kind"], p["name"]) for p in json.loads(
                self.server.postrider("status", "--json"))["paused"]], [("domain", "one.example")])
        self.assertEqual(len(self.peer.messages), 1)
        event, = self.server.log("queue_paused")
        self.assertEqual((event["kind"], event["name"]), ("domain", "one.example"))
        self.assertTrue(event["user"])
        text = self.server.postrider("queue", "resume", "one.example", "--dry-run")
        self.assertEqual(text, "mail to one.example would be resumed: 1 message (1 recipient) waits\n")
        text = self.server.postrider("queue", "resume", "one.example")
        self.assertEqual(text, "mail to one.example is resumed: 1 message (1 recipient) waits\n")
        self.peer.wait_for(2)
        self.server.wait_until_empty()
        self.assertNotIn("ALARM", self.server.postrider("status"))
        self.assertEqual(self.server.postrider("queue", "resume", "one.example"),
                         "mail to one.example was not paused; what is, `postrider status` says\n")

    def test_a_paused_sender_and_all_mail(self):
        self.peer.script.clear()
        self.server.postrider("queue", "pause", "--from", "@ext.example", "--for", "2h")
        for i in range(3):
            self.server.send("b@ext.example", f"x{i}@one.example", CONTENT)
        self.server.send(f"{USER}@us.example", "y@one.example", CONTENT)
        self.peer.wait_for(1)
        wait.until(lambda: len(self.server.queue()) == 3, "those of the sender")
        self.assertEqual([m.addresses for m in self.peer.messages], [["y@one.example"]])
        self.assertRegex(self.server.postrider("queue"), r"queued, paused for (1h59m|2h)\n")
        wishes = self.ask("pause", "--all", "--dry-run")
        self.assertEqual((wishes[0]["messages"], wishes[0]["dry_run"]), (3, True))
        self.assertEqual(len(json.loads(self.server.postrider("status", "--json"))["paused"]), 1)
        self.server.postrider("queue", "pause", "--all")
        self.server.send(f"{USER}@us.example", "z@one.example", CONTENT)
        wait.until(lambda: len(self.server.queue()) == 4, "all wait")
        groups, _ = self.groups("--by", "reason")
        self.assertEqual(groups, {"paused by an administrator": (4, 4)})
        self.assertEqual(self.server.postrider("queue", "resume", "--all"),
                         "all mail is resumed (2 pauses): 4 messages (4 recipients) wait\n")
        self.peer.wait_for(5)
        self.server.wait_until_empty()

    def test_what_cannot_be_paused(self):
        for words in ((), ("--to", "x@one.example"), ("x@one.example",), ("one.example", "--all"),
                      ("one.example", "--from", "a@b.example"), ("one.example", "two.example"),
                      ("one.example", "--for", "soon"), ("--all", "--for", "0s")):
            done = self.server.tool("postrider", "queue", "pause", *words, check=False)
            self.assertEqual(done.returncode, 64, (words, done))
            self.assertTrue(done.stderr.strip(), words)
        self.assertEqual(json.loads(self.server.postrider("status", "--json"))["paused"], [])

    def test_expired_mail_ends_with_its_notice(self):
        self.server.send(f"{USER}@us.example", ["x@one.example", "y@two.example"], CONTENT)
        wait.until(lambda: [r["attempts"] for m in self.server.queue() for r in m["recipients"]] == [1, 1],
                   "deferred")
        self.assertEqual(self.server.postrider("queue", "expire", "one.example", "--dry-run"),
                         "1 message (1 recipient) would be expired\n")
        self.assertEqual(self.server.postrider("queue", "expire", "one.example"),
                         "1 message (1 recipient): expired\n")
        notice, = self.server.wait_for_mail(1)
        self.assertIn(b"Action: failed", notice)
        self.assertIn(b"Status: 5.4.7", notice)
        self.assertIn(b"x@one.example", notice)
        self.assertNotIn(b"y@two.example", notice.split(b"message/rfc822")[0].split(b"text/rfc822-headers")[0])
        wait.until(lambda: [r["address"] for m in self.server.queue() for r in m["recipients"]] == ["y@two.example"],
                   "the other one goes on")
        event, = (e for e in self.server.log("queue_changed") if e["verb"] == "expire")
        self.assertEqual(event["filter"], "--domain one.example")

    def test_rerouted_mail_goes_to_that_host(self):
        self.fill(4)
        other = self.sink()
        host = f"127.0.0.1:{other.port}"
        for words in ((), ("--to", "not a host"), ("--to", "discard:"), ("--to", host)):
            done = self.server.tool("postrider", "queue", "reroute", *words, check=False)
            self.assertEqual(done.returncode, 64, done)
        text = self.server.postrider("queue", "reroute", "--to", host, "one.example", "--dry-run")
        matching = [m for m in self.server.queue("one.example")]
        self.assertEqual(text, f"{len(matching)} messages ({len(matching)} recipients) would be rerouted\n")
        self.server.postrider("queue", "pause", "--all")
        self.server.postrider("queue", "reroute", "--to", host, "one.example")
        self.assertIn(f"rerouted to smtp://{host}", self.server.postrider("queue", "one.example"))
        self.assertEqual(len(self.server.queue("one.example")), len(matching))
        self.server.restart()
        self.server.postrider("queue", "resume", "--all")
        other.wait_for(len(matching))
        wait.until(lambda: not self.server.queue("one.example"), "what was rerouted is gone")
        self.assertEqual({address.rpartition("@")[2] for m in other.messages for address in m.addresses},
                         {"one.example"})
        self.assertTrue(self.server.queue("two.example"))
        event, = (e for e in self.server.log("queue_changed") if e["verb"] == "reroute")
        self.assertEqual(event["next_hop"], f"smtp://{host}")

    def test_messages_as_files(self):
        large = b"Subject: large\r\n\r\n" + b"l" * 70 * 3000 + b"\r\n"
        for recipients, content in ((["x@one.example", "y@two.example"], CONTENT), (["z@one.example"], large)):
            self.server.send(f"{USER}@us.example", recipients, content)
        wait.until(lambda: all(r["attempts"] for m in self.server.queue() for r in m["recipients"]), "deferred")
        ids = [m["queue_id"] for m in self.server.queue()]
        self.assertEqual(len(ids), 2)
        folder = self.own_folder("exported")
        self.server.postrider("queue", "hold", "--to", "y@two.example")
        text = self.server.postrider("queue", "export", "--folder", folder)
        self.assertEqual(text, "".join(f"{id} -> {id}.eml\n" for id in ids) + "2 messages exported\n")
        files = [folder / f"{id}.eml" for id in ids]
        self.assertEqual(sorted(folder.iterdir()), sorted(files))
        for file, content in zip(files, (CONTENT, large)):
            self.assertEqual(file.stat().st_mode & 0o777, 0o600)
            self.assertTrue(file.read_bytes().endswith(content))
        self.assertIn(b"X-Postrider-To: <x@one.example>\r\nX-Postrider-To: <y@two.example>; held\r\n",
                      files[0].read_bytes())
        # Nothing is written over, and no link is followed.
        files[1].unlink()
        aside = folder.parent / "aside"
        files[1].symlink_to(aside)
        before = files[0].read_bytes()
        done = self.server.tool("postrider", "queue", "export", "--folder", folder, check=False)
        self.assertEqual(done.returncode, 75, done)
        self.assertEqual(done.stderr.count("is there already"), 2)
        self.assertEqual(files[0].read_bytes(), before)
        self.assertFalse(aside.exists())
        files[1].unlink()
        self.server.postrider("queue", "export", "--folder", folder, ids[1])
        refused = self.server.tool("postrider", "queue", "import", *files, check=False)
        self.assertEqual(refused.returncode, 69)
        self.assertIn("is running", refused.stderr)
        self.server.postrider("queue", "remove", "--all")
        self.server.stop()
        self.assertEqual(self.server.postrider("queue", "import", *files), "".join(f"{id}: imported\n" for id in ids))
        self.assertEqual(self.server.postrider("queue", "import", *files),
                         "".join(f"{id}: in the queue already, left as it is\n" for id in ids))
        odd = folder / "odd"
        odd.write_bytes(CONTENT)
        link = folder / "link"
        link.symlink_to(files[0])
        for wrong, code in ((odd, 65), (folder, 65), (link, 74), (folder / "missing", 74)):
            done = self.server.tool("postrider", "queue", "import", wrong, check=False)
            self.assertEqual(done.returncode, code, done)
            self.assertIn("not imported", done.stderr)
        self.peer.script.clear()
        self.server.start()
        self.peer.wait_for(2)
        wait.until(lambda: [r["address"] for m in self.server.queue() for r in m["recipients"]] == ["y@two.example"],
                   "all but who is held to be gone")
        self.assertIn("it was held when it was exported", self.server.postrider("queue", "y@two.example"))
        self.server.postrider("queue", "release", "--to", "y@two.example")
        self.peer.wait_for(3)
        self.server.wait_until_empty()
        sent = sorted(self.peer.messages, key=lambda message: len(message.content))
        self.assertEqual(sorted(message.addresses for message in sent[:2]), [["x@one.example"], ["y@two.example"]])
        self.assertEqual(sent[2].addresses, ["z@one.example"])
        for message in sent[:2]:
            self.assertTrue(message.content.endswith(CONTENT))
        self.assertTrue(sent[2].content.endswith(large))

    def test_status_counts_what_happened_lately(self):
        self.fill(4)
        status = json.loads(self.server.postrider("status", "--json"))
        for span in ("last_minute", "last_hour", "since_start"):
            self.assertIn("deferrals", status[span])
        self.assertEqual(status["last_hour"]["accepted"], 4)
        self.assertEqual(status["last_hour"]["deferrals"], status["since_start"]["deferrals"])
        self.assertRegex(self.server.postrider("status"), r"(?m)^last hour     4 accepted, 0 delivered, ")

    def test_everything_that_is_deferred_is_an_alarm(self):
        self.fill(12)
        for _ in range(2):
            before = json.loads(self.server.postrider("status", "--json"))["since_start"]["deferrals"]
            self.server.postrider("queue", "retry")
            wait.until(lambda: json.loads(self.server.postrider("status", "--json"))["since_start"]["deferrals"] > before,
                       "more attempts")
        wait.until(lambda: json.loads(self.server.postrider("status", "--json"))["since_start"]["deferrals"] >= 20 or
                   self.server.postrider("queue", "retry") is None, "twenty attempts")
        wait.until(lambda: "ALARM         everything is deferred" in self.server.postrider("status"), "the alarm")

    def shown(self, *words, **environment):
        """What a program writes to a terminal of 80 columns."""
        master, slave = pty.openpty()
        pid = os.fork()
        if pid == 0:
            os.close(master)
            os.dup2(slave, 1)
            os.execve(str(daemon.BIN / "postrider"), ["postrider", *words],
                      {**self.server.environment(), "TERM": "xterm", **environment})
        os.close(slave)
        text = b""
        while select.select([master], [], [], wait.DEADLINE)[0]:
            try:
                piece = os.read(master, 65536)
            except OSError:
                break
            if not piece:
                break
            text += piece
        os.waitpid(pid, 0)
        os.close(master)
        return text.decode().replace("\r\n", "\n")

    def test_colours_are_for_terminals(self):
        self.server.postrider("queue", "pause", "one.example")
        self.assertNotIn("\x1b", self.server.postrider("status"))
        coloured = self.shown("status")
        self.assertIn("\x1b[1;31mALARM", coloured)
        for environment in ({"NO_COLOR": "1"}, {"TERM": "dumb"}):
            plain = self.shown("status", **environment)
            self.assertIn("ALARM", plain)
            self.assertNotIn("\x1b", plain)
        for line in re.sub(r"\x1b\[[\d;]*m", "", coloured).splitlines():
            self.assertTrue(len(line) <= 80 or max(map(len, line.split())) > 60, line)  # a path stays whole


if __name__ == "__main__":
    scenario.main()
