#!/usr/bin/python3
"""What an administrator asks of the queue: lists, filters, hold, release, retry, remove, bounce,
show, explain, status."""
import contextlib
import json
import re
import shlex
import subprocess

from support_py import scenario, smtp, wait
from support_py.daemon import USER
from support_py.sink import HANG

CONTENT = b"From: <a@us.example>\r\nSubject: verbs\r\n\r\nbody of the message\r\n"


class Verbs(scenario.Scenario):
    def setUp(self):
        super().setUp()
        self.peer = self.sink(script={"mail": lambda session, argument: "451 4.3.0 not today"})
        self.server = self.relay(self.peer, delivery={"retry": ["1h"]})
        for sender, recipient, size in ((f"{USER}@us.example", "one@far.example", 10),
                                        ("b@ext.example", "two@far.example", 5000),
                                        ("", "three@near.example", 10)):
            self.server.send(sender, recipient, CONTENT + b"x" * 70 * (size // 70))
        self.waiting = wait.until(
            lambda: (lambda q: q if len(q) == 3 and all(m["recipients"][0]["attempts"]
                                                        for m in q) else None)(self.server.queue()),
            lambda: f"three deferred messages: {self.server.queue()}")

    def addresses(self, *filters):
        return sorted(m["recipients"][0]["address"].split("@")[0]
                      for m in self.server.queue(*filters))

    def test_the_filters(self):
        for filters, wanted in (
                ((), ["one", "three", "two"]),
                (("--from", "b@ext.example"), ["two"]), (("--from", "@ext.example"), ["two"]),
                (("--from", "<>"), ["three"]), (("--to", "one@far.example"), ["one"]),
                (("--to", "@far.example"), ["one", "two"]), (("--domain", "near.example"), ["three"]),
                (("--status", "deferred"), ["one", "three", "two"]), (("--status", "held"), []),
                (("--reply", "not today"), ["one", "three", "two"]), (("--reply", "nonsense"), []),
                (("--larger", "2KiB"), ["two"]), (("--older", "1h"), []),
                (("--older", "0s"), ["one", "three", "two"]),
                (("--domain", "far.example", "--larger", "2KiB"), ["two"]),
                (("--id", self.waiting[0]["queue_id"]), ["one"])):
            with self.subTest(filters=filters):
                self.assertEqual(self.addresses(*filters), wanted)

    def test_the_listings(self):
        text = self.server.mailq()
        self.assertRegex(text, r"-Queue ID-")
        self.assertRegex(text, r"-- \d+ Kbytes in 3 Requests\.")
        for part in ("one@far.example", "two@far.example", "three@near.example", "MAILER-DAEMON",
                     "451 4.3.0 not today"):
            self.assertIn(part, text)
        lines = [json.loads(line) for line in self.server.mailq("--json").splitlines()]
        self.assertEqual(len(lines), 3)
        self.assertEqual({"queue_name", "queue_id", "arrival_time", "message_size", "sender",
                          "recipients"} - set(lines[0]), set())
        self.assertIn("3", self.server.postrider("queue", "count"))
        self.assertIn("not today", self.server.postrider("queue"))

    def test_hold_and_release(self):
        self.assertIn("1", self.server.postrider("queue", "hold", "--to", "one@far.example"))
        self.assertEqual(self.addresses("--status", "held"), ["one"])
        self.peer.script.clear()
        self.server.postrider("queue", "retry")
        self.peer.wait_for(2)
        wait.until(lambda: self.addresses() == ["one"], "the held one alone")
        self.server.restart()
        self.assertEqual(self.addresses("--status", "held"), ["one"])
        self.server.postrider("queue", "release", "--status", "held")
        self.server.postrider("queue", "retry")
        self.peer.wait_for(3)
        self.server.wait_until_empty()

    def test_remove(self):
        self.server.postrider("queue", "remove", "--domain", "far.example")
        self.assertEqual(self.addresses(), ["three"])
        self.assertEqual(self.server.mailbox(), [])

    def test_salvage(self):
        refused = self.server.tool("postrider", "queue", "salvage", check=False)
        self.assertNotEqual(refused.returncode, 0)
        self.assertIn("running", refused.stderr)
        self.server.stop()
        with open(self.server.spool / "queue.db", "r+b") as database:
            database.write(bytes(4096))
        report = self.server.postrider("queue", "salvage")
        self.assertIn("saved: 3 messages, 3 recipients", report)
        self.assertIn("lost:  0 messages", report)
        old, = self.server.spool.glob("damaged-*")
        self.assertIn(str(old), report)
        self.assertTrue((old / "queue.db").exists())
        self.peer.script.clear()
        self.server.start()
        self.server.postrider("queue", "retry")
        self.peer.wait_for(3)
        self.server.wait_until_empty()

    def test_status_without_the_spool(self):
        away = self.server.spool.with_name("away")
        self.server.spool.rename(away)

        def refuses():  # what is sent finds that it is gone
            with contextlib.suppress(AssertionError, OSError, smtp.Closed):
                self.server.send("a@ext.example", "four@far.example", CONTENT)
            return "ALARM" in self.server.postrider("status")

        wait.until(refuses, "what is wrong")
        status = self.server.postrider("status")
        self.assertIn("no new mail", status)
        for tool in (("postrider", "queue"), ("postrider", "queue", "count"), ("mailq",)):
            done = self.server.tool(*tool, check=False)
            self.assertEqual(done.returncode, 74, done)
            self.assertIn("the queue cannot be read", done.stderr)
            self.assertIn("A DAMAGED QUEUE", done.stderr)
            self.assertNotIn("memory", done.stderr)

    def test_bounce(self):
        self.server.postrider("queue", "bounce", "--to", "one@far.example")
        notice, = self.server.wait_for_mail(1)
        self.assertIn(b"Action: failed", notice)
        self.assertIn(b"one@far.example", notice)
        wait.until(lambda: self.addresses() == ["three", "two"], "the others alone")

    def test_a_dry_run_changes_nothing(self):
        text = self.server.postrider("queue", "remove", "--all", "--dry-run")
        self.assertIn("3", text)
        self.assertEqual(len(self.server.queue()), 3)

    def test_a_change_of_everything_must_be_said(self):
        done = self.server.tool("postrider", "queue", "remove", check=False)
        self.assertEqual(done.returncode, 64)
        self.assertIn("--all", done.stderr)
        self.assertEqual(len(self.server.queue()), 3)
        self.server.postrider("queue", "remove", "--all")
        self.assertEqual(self.server.queue(), [])

    def test_a_bad_filter_is_said(self):
        for filters in (("--status", "nonsense"), ("--older", "soon"), ("--larger", "big"),
                        ("--id", "!!"), ("--nonsense", "x")):
            done = self.server.tool("postrider", "queue", "hold", *filters, check=False)
            self.assertIn(done.returncode, (64, 65), filters)
            self.assertTrue(done.stderr.strip())

    def test_show(self):
        id = self.waiting[0]["queue_id"]
        text = self.server.postrider("show", id)
        for part in (id, f"{USER}@us.example", "one@far.example", "451 4.3.0 not today",
                     "Subject: verbs"):
            self.assertIn(part, text)
        self.assertNotIn("body of the message", text)
        self.assertIn("body of the message", self.server.postrider("show", id, "--body"))
        shown = self.server.postrider("show", id, "--json")
        self.assertTrue(all(json.loads(line) for line in shown.splitlines()))
        done = self.server.tool("postrider", "show", "00000000000", check=False)
        self.assertNotEqual(done.returncode, 0)

    def test_explain(self):
        text = self.server.postrider("explain", self.waiting[0]["queue_id"])
        self.assertIn("451 4.3.0 not today", text)
        self.assertRegex(text, r"(?i)next|again|until|wait")
        text = self.server.postrider("explain", "new@far.example")
        self.assertIn(f"127.0.0.1:{self.peer.port}", text)
        self.assertRegex(self.server.postrider("explain", f"{USER}@us.example"), r"(?i)local|maildir")

    def test_status(self):
        text = self.server.postrider("status")
        self.assertRegex(text, r"\b3\b")
        status = json.loads(self.server.postrider("status", "--json").splitlines()[0])
        self.assertTrue(status)

    def test_the_listing_goes_on_while_entries_vanish(self):
        """No entry is read after it is gone, and the listing comes to its end."""
        def work(kind):
            for _ in range(15):
                if kind == 0:
                    self.server.queue()
                elif kind == 1:
                    self.server.send("a@us.example", "x@far.example", CONTENT)
                else:
                    self.server.postrider("queue", "remove", "--to", "x@far.example")
        self.assertEqual(scenario.parallel(work, [0, 0, 1, 1, 2], 5), [])
        self.server.postrider("queue", "remove", "--to", "x@far.example")
        wait.until(lambda: len(self.server.queue()) == 3, "the three")

    def test_mail_in_the_drop_folder(self):
        """Left while the daemon is down, or refused: as everything else, with age and reason."""
        server = self.server
        server.stop()
        done = server.sendmail("-i", "-f", "left@us.example", "four@far.example", "five@near.example",
                               stdin="Subject: left\n\nx\n")
        self.assertEqual(done.returncode, 0)
        drop = server.spool / "drop"
        left, = (path.name for path in drop.iterdir())
        (drop / "msg.nonsense").write_text("nonsense\n")
        found = {m.get("file"): m for m in server.queue()}
        self.assertEqual(len(found), 3, "two there, and the three of the queue")
        self.assertEqual(len(server.queue()), 5)
        message = found[left]
        self.assertEqual((message["queue_name"], message["status"], message["sender"]),
                         ("maildrop", "dropped", "left@us.example"))
        self.assertEqual([(r["address"], r["delay_reason"]) for r in message["recipients"]],
                         [(f"{name}.example", "the mail system is down")
                          for name in ("four@far", "five@near")])
        self.assertIn("the mail system is down", found["msg.nonsense"]["reason"])
        self.assertEqual(server.postrider("queue", "count"), "5 messages, 5 recipients\n")
        self.assertEqual(self.addresses("--status", "dropped", "--from", "left@us.example"), ["four"])
        self.assertEqual(self.addresses("--status", "dropped", "--to", "@near.example"), ["five"])
        self.assertIn("2 messages wait, the oldest for",
                      server.tool("postrider", "status", check=False).stdout)  # 69: it is down
        listed = server.postrider("queue")
        self.assertRegex(listed, r"(?m)^\S+ +dropped +\S+ +\d+B +left@us\.example$")
        self.assertRegex(listed, r"(?m)^    -> four@far\.example  dropped$")
        self.assertIn("       the mail system is down\n", listed)
        self.assertRegex(server.mailq(), r"(?m)^ +\(the mail system is down\)\n +four@far\.example$")
        self.assertIn(" in 5 Requests.", server.mailq())
        refused = server.tool("postrider", "queue", "remove", "--status", "dropped", check=False)
        self.assertEqual(refused.returncode, 64, refused.stderr)
        server.start()
        wait.until(lambda: [m["file"] for m in server.queue() if "file" in m] ==
                   ["msg.nonsense.bad"], lambda: f"what was left is taken: {server.queue()}")
        message, = server.queue("--status", "refused")
        self.assertEqual(message["queue_name"], "corrupt")
        self.assertTrue(message["reason"].startswith("refused: "), message)
        self.assertEqual(len(server.queue()), 5)
        self.assertIn("1 message refused", server.postrider("status"))
        self.assertIn("(refused: ", server.mailq())

    def test_version_and_usage(self):
        for program in ("postrider", "mailq", "sendmail", "newaliases"):
            self.assertRegex(self.server.tool(program, "--version").stdout, r"\d+\.\d+")
        done = self.server.tool("postrider", "nonsense", check=False)
        self.assertEqual(done.returncode, 64)

    def test_a_daemon_that_is_down_and_an_empty_queue(self):
        self.server.postrider("queue", "remove", "--all")
        self.assertRegex(self.server.mailq(), r"(?i)queue is empty")
        self.server.stop()
        self.assertRegex(self.server.mailq(), r"(?i)queue is empty")
        done = self.server.tool("postrider", "status", check=False)
        self.assertRegex(done.stdout + done.stderr, r"(?i)not running|down|no daemon")


class LeftAlone(scenario.Scenario):
    """What a verb cannot change, and what can: no message in the queue is said to be missing."""

    def setUp(self):
        super().setUp()
        self.peer = self.sink(script={"mail": lambda session, argument: "451 4.3.0 not today"})
        self.server = self.relay(self.peer, delivery={"retry": ["1h"]},
                                 accept={"future_release": "1d", "relay_from": ["127.0.0.1"]})
        self.ids = {}
        for name in ("one", "two", "three"):
            self.server.send("b@ext.example", f"{name}@{name}.example", CONTENT)
        for message in wait.until(
                lambda: (lambda q: q if len(q) == 3 and all(m["recipients"][0]["attempts"] for m in q)
                         else None)(self.server.queue()), "three deferred messages"):
            self.ids[message["recipients"][0]["address"].partition("@")[0]] = message["queue_id"]

    def says(self, *words):
        done = self.server.tool("postrider", "queue", *words)
        return done.stdout + done.stderr

    def test_a_retry_of_what_is_held_or_paused(self):
        self.says("hold", self.ids["one"])
        self.says("pause", "two.example")
        held = "1 message (1 recipient) is held and not tried: `postrider queue release`\n"
        paused = "1 message (1 recipient) is paused and tried when that ends: `postrider queue resume two.example`\n"
        none = "0 messages (0 recipients): tried again now\n"
        self.assertEqual(self.says("retry", self.ids["one"]), none + held)
        self.assertEqual(self.says("retry", self.ids["two"]), none + paused)
        self.assertEqual(self.says("retry"), "1 message (1 recipient): tried again now\n" + held + paused)
        self.assertEqual(self.says("retry", "--dry-run"),
                         "1 message (1 recipient) would be tried again now\n" + held + paused)
        changed = json.loads(self.says("retry", "--json"))
        self.assertEqual({key: changed.get(key) for key in ("messages", "held_messages", "paused_recipients")},
                         {"messages": 1, "held_messages": 1, "paused_recipients": 1})
        self.says("resume", "two.example")
        self.says("release", self.ids["one"])
        self.assertEqual(self.says("retry"), "3 messages (3 recipients): tried again now\n")

    def test_orders_are_quoted_for_a_shell(self):
        """As they are said they are typed: by a shell."""
        senders = ("<>", "a'b@x.example", '"a b"@x.example', "-b@x.example", "$(x)@x.example")
        for sender in senders:
            self.says("pause", f"--from={sender}")
        self.says("pause", "--domain", "localhost")
        alarms = self.server.postrider("status")
        orders = re.findall(r"is paused[^:]*: `(postrider queue resume [^`]*)`", alarms)
        self.assertEqual(len(orders), len(senders) + 1, alarms)
        for order in orders:
            verb, _, rest = order.partition(" ")
            self.assertEqual(verb, "postrider")
            words = shlex.split(rest)
            self.assertIn("is resumed", self.says(*words[1:]), order)
        self.assertNotIn("is paused", self.server.postrider("status"))
        done = subprocess.run(["sh", "-c", "printf '%s\\n' " + " ".join(orders)], capture_output=True, text=True, check=True)
        for sender in senders:
            self.assertIn(sender, done.stdout)

    def test_only_pauses_that_keep_it_are_named(self):
        for name in ("one.example", "two.example"):
            self.says("pause", name)
        self.says("pause", "--from", "nobody@else.example")
        self.assertIn("tried when that ends: `postrider queue resume two.example`\n", self.says("retry", "two.example"))
        said = self.says("retry")
        self.assertIn("`postrider queue resume one.example`, `postrider queue resume two.example`\n", said)
        self.assertNotIn("nobody", said)
        self.says("pause", "--from", "b@ext.example")
        said = self.says("reroute", "--to", "127.0.0.1:1", self.ids["two"])
        self.assertIn("tried when that ends: `postrider queue resume --from b@ext.example`\n", said)

    def test_a_retry_of_what_its_sender_wants_later(self):
        self.server.send("b@ext.example", "late@four.example", CONTENT, " HOLDFOR=3600")
        ids = [m["queue_id"] for m in self.server.queue("--domain", "four.example")]
        self.assertEqual(self.says("retry", *ids),
                         "0 messages (0 recipients): tried again now\n1 message (1 recipient) waits for the time that "
                         "its sender chose: `postrider queue release`\n")

    def test_each_verb_about_mail_in_each_state(self):
        """What is said of it names the verb that helps: typed as it is said, that verb works."""
        self.says("hold", self.ids["one"])
        self.says("pause", "two.example")
        self.server.send("b@ext.example", "late@four.example", CONTENT, " HOLDFOR=3600")
        one, two, three = (self.ids[name] for name in ("one", "two", "three"))
        late, = (m["queue_id"] for m in self.server.queue("--domain", "four.example"))
        gone = "1K1BX3F7Q2A"
        none = "0 messages (0 recipients)"
        to_resume = "1 message (1 recipient) is paused and tried when that ends: `postrider queue resume two.example`\n"
        is_gone = (f"{gone} is not in the queue; what became of it says `postrider trace {gone}`, and the log: "
                   f"journalctl POSTRIDER_ID={gone}\n")
        is_held = f"{one} is held already: `postrider queue release {one}` lets it go\n"
        rows = (
            ("hold", one, f"{none} would be held\npostrider queue: {is_held}"),
            ("hold", two, "1 message (1 recipient) would be held\n"),
            ("hold", three, "1 message (1 recipient) would be held\n"),
            ("hold", late, "1 message (1 recipient) would be held\n"),
            ("release", one, "1 message (1 recipient) would be released\n"),
            ("release", two, f"{none} would be released\n{to_resume}"),
            ("release", three, f"{none} would be released\npostrider queue: {three} is not held, it is deferred: "
                               f"`postrider queue retry {three}` tries it now\n"),
            ("release", late, "1 message (1 recipient) would be released\n"),
            ("retry", one, f"{none} would be tried again now\n1 message (1 recipient) is held and not tried: "
                           "`postrider queue release`\n"),
            ("retry", two, f"{none} would be tried again now\n{to_resume}"),
            ("retry", three, "1 message (1 recipient) would be tried again now\n"),
            ("retry", late, f"{none} would be tried again now\n1 message (1 recipient) waits for the time that its "
                            "sender chose: `postrider queue release`\n"),
            ("reroute --to 127.0.0.1", one, "1 message (1 recipient) would be rerouted\n1 message (1 recipient) is held "
                                            "and not tried: `postrider queue release`\n"),
            ("reroute --to 127.0.0.1", two, "1 message (1 recipient) would be rerouted\n"),
        ) + tuple((verb, id, f"1 message (1 recipient) would be {past}\n") for id in (one, two, three, late)
                  for verb, past in (("remove", "removed"), ("bounce", "bounced"), ("expire", "expired"))
        ) + tuple((verb, gone, f"{none} would be {past}\npostrider queue: {is_gone}")
                  for verb, past in (("hold", "held"), ("release", "released"), ("retry", "tried again now"),
                                     ("remove", "removed"), ("bounce", "bounced"), ("expire", "expired"),
                                     ("reroute --to 127.0.0.1", "rerouted")))
        for verb, id, answer in rows:
            with self.subTest(verb=verb, id=id):
                self.assertEqual(self.says(*verb.split(), id, "--dry-run"), answer)
        # Of several, each that is left alone is spoken of.
        first, *others = self.says("hold", one, three, gone).splitlines(keepends=True)
        self.assertEqual((first, sorted(others)), ("1 message (1 recipient): held\n", sorted(
            [f"postrider queue: {is_held}", f"postrider queue: {is_gone}"])))
        # Two pauses keep it, and both orders are named; what else is paused is not its business.
        self.says("pause", "--from", "b@ext.example")
        self.says("pause", "--from", "nobody@else.example")
        self.assertEqual(self.says("release", two, one),
                         "1 message (1 recipient): released\n2 messages (2 recipients) are paused and tried when that "
                         "ends: `postrider queue resume two.example`, `postrider queue resume --from b@ext.example`\n")
        self.assertEqual(self.says("resume", "three.example"),
                         "mail to three.example was not paused; what is, `postrider status` says\n")

    def test_what_is_so_already_or_does_not_match(self):
        one = self.ids["one"]
        self.assertIn(f"{one} is not held, it is deferred: `postrider queue retry {one}`", self.says("release", one))
        self.says("hold", one)
        self.assertIn(f"{one} is held already", self.says("hold", one))
        self.assertIn(f"{one} is in the queue (held), but nothing of it matches the rest of what was asked",
                      self.says("remove", one, "--domain", "nowhere.example"))
        self.assertIn("1K1BX3F7Q2A is not in the queue", self.says("remove", "1K1BX3F7Q2A"))


class UnderWay(scenario.Scenario):
    def test_what_is_under_way_is_not_said_to_be_missing(self):
        peer = self.sink(script={"mail": lambda session, argument: HANG})
        server = self.relay(peer)
        server.send("b@ext.example", ["one@far.example", "two@far.example"], CONTENT)
        peer.wait_for_stage("mail")
        message, = server.queue()
        done = server.tool("postrider", "queue", "hold", message["queue_id"])
        self.assertEqual(done.stdout, "0 messages (0 recipients): held\n"
                                      "1 message (2 recipients) under way is not stopped\n")
        self.assertEqual(done.stderr, "")

    def test_a_dry_run_says_what_would_be_done(self):
        """One recipient is under way, one waits for the connection, one for a retry."""
        peer = self.sink(script={"mail": lambda session, argument: HANG})
        later = self.sink(script={"rcpt": lambda *_: "451 4.2.1 later"})
        server = self.daemon(
            route=[{"domain": "far.example", "next_hop": f"smtp://127.0.0.1:{peer.port}", "tls": "off"},
                   {"domain": "late.example", "next_hop": f"smtp://127.0.0.1:{later.port}", "tls": "off"}],
            delivery={"site_connections": 1, "retry": ["1h"]})
        server.send("b@ext.example", ["one@far.example", "two@late.example"], CONTENT)
        peer.wait_for_stage("mail")
        server.send("b@ext.example", "three@far.example", CONTENT)
        wait.until(lambda: sum(r["attempts"] for m in server.queue() for r in m["recipients"]) == 1, "one was tried")
        says = lambda *words: server.tool("postrider", "queue", *words).stdout
        left = "1 message (1 recipient) under way is not stopped\n"
        for verb, past in (("hold", "held"), ("remove", "removed"), ("bounce", "bounced"), ("expire", "expired"),
                           ("reroute --to 127.0.0.1:1", "rerouted")):
            with self.subTest(verb=verb):
                self.assertEqual(says(*verb.split(), "--all", "--dry-run"),
                                 f"2 messages (2 recipients) would be {past}\n{left}")
        self.assertEqual(says("hold", "--all"), f"2 messages (2 recipients): held\n{left}")

    def test_what_was_bounced_or_held_while_under_way_may_still_be_delivered(self):
        peer = self.sink(script={"mail": lambda session, argument: HANG})
        server = self.relay(peer, delivery={"site_connections": 2})
        for name in ("one", "two"):
            server.send("b@ext.example", f"{name}@far.example", CONTENT)
        wait.until(lambda: len([e for e in peer.events if e.stage == "mail"]) == 2, "both under way")
        ids = {m["recipients"][0]["address"][:3]: m["queue_id"] for m in server.queue()}
        server.postrider("queue", "bounce", ids["one"])
        server.postrider("queue", "hold", ids["two"])
        for verb in ("hold", "retry", "release"):
            self.assertRegex(server.tool("postrider", "queue", verb, ids["one"]).stderr,
                             f"{ids['one']} is under way: what this attempt does not deliver is returned")
        for verb in ("hold", "retry"):
            self.assertRegex(server.tool("postrider", "queue", verb, ids["two"]).stderr,
                             f"{ids['two']} is held if this attempt, which is under way, does not deliver it")


if __name__ == "__main__":
    scenario.main()
