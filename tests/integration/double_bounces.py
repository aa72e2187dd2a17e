#!/usr/bin/python3
"""Notices that cannot be delivered: ten an hour to the administrator, a digest of the others, and never a notice about
those."""
import email
import email.policy
import json
import os
import re
import time

from support_py import daemon, scenario, wait
from support_py.daemon import USER

CONTENT = b"Subject: Undelivered mail\r\n\r\nA report.\r\n"
HOUR = 3600 * 1000


class DoubleBounces(scenario.Scenario):
    def start(self, to=f"{USER}@us.example", **settings):
        self.peer = self.sink(script={"rcpt": lambda session, argument: "550 5.1.1 nobody of that name"})
        self.server = self.relay(self.peer, delivery={"double_bounces_to": to}, **settings)

    def fail(self, count, domain="far.example"):
        """Notices that no host takes."""
        before = self.ended()
        with self.server.client() as client:
            client.hello()
            for number in range(count):
                client.begin("", [f"user{number}@{domain}"])
                client.expect("DATA", 354)
                client.send(CONTENT + b".\r\n")
                self.assertEqual(client.reply().code, 250)
        wait.until(lambda: self.ended() == before + count, lambda: f"{count} ends, {self.ended() - before} came")
        self.server.wait_until_empty()

    def ended(self):
        return len(self.server.log("notice_dropped")) + len(self.server.log("notice_created", kind="double-bounce"))

    def counts(self):
        return self.server.spool / "double-bounces.json"

    def kept(self):
        try:
            return json.loads(self.counts().read_text())
        except FileNotFoundError:
            return {"count": 0}

    def an_hour_later(self, less=0):
        """While the daemon is down: an hour passes, but for so many milliseconds."""
        kept = wait.until(self.kept, "the counts")
        self.assertIn("sent", kept)
        passed = HOUR - less
        kept.update(sent=[when - passed for when in kept["sent"]], since=kept["since"] - passed,
                    until=kept["until"] - passed)
        self.counts().write_text(json.dumps(kept))

    def digest(self, count):
        sent, = self.server.wait_for_log("digest_sent")
        self.assertEqual(sent["count"], str(count))
        self.server.wait_until_empty()
        text, = [text for text in self.server.mailbox() if b"(double bounces)" in text]
        digest = email.message_from_bytes(text, policy=email.policy.default)
        self.assertEqual((digest["Return-Path"], digest["Auto-Submitted"]), ("<>", "auto-generated"))
        self.assertRegex(digest["Subject"], f"^{count} reports? could not be delivered")
        return digest.get_content()

    def test_ten_as_they_are_and_a_digest_of_the_others(self):
        self.start()
        self.fail(25)
        self.fail(13, "other.example")
        self.assertEqual(len(self.server.mailbox()), 10)
        dropped = self.server.log("notice_dropped")
        self.assertEqual(len(dropped), 28)
        self.assertRegex(dropped[0]["to"], "^user[0-9]+@far.example$")
        self.assertIn("nobody of that name", dropped[0]["failure"])
        self.assertEqual(self.server.log("digest_sent"), [])
        self.server.stop()
        self.assertEqual(self.kept()["count"], 28)
        self.an_hour_later()
        self.server.start()
        text = self.digest(28)
        self.assertRegex(text, r"15 reports to far\.example, the last:\n    <user[0-9]+@far\.example>: host .*\n? *said:")
        self.assertIn("13 reports to other.example", text)
        self.fail(12)  # the digest was the first of the next ten
        self.assertEqual(len(self.server.mailbox()), 20)
        self.assertEqual(len(self.server.wait_for_log("notice_dropped", 31)), 31)

    def test_a_crash_in_the_middle(self):
        self.start()
        self.fail(30)
        wait.until(lambda: self.kept()["count"] == 20, lambda: f"the count in the file: {self.kept()}")
        self.server.kill()
        self.an_hour_later()
        self.server.start()
        self.digest(20)
        wait.until(lambda: self.kept()["count"] == 0, "an empty count in the file")
        self.server.kill()  # what was sent is not sent again
        self.server.start()
        self.fail(1)
        self.assertEqual(len(self.server.wait_for_log("digest_sent")), 1)

    def test_a_damaged_count_is_no_hindrance(self):
        self.start()
        self.fail(12)
        self.server.stop()
        for damaged in "", "[]", '{"count": -1, "sent": 5, "domains": [{}, 7], "since": 99999999999999999999}', "{" * 5000:
            with self.subTest(damaged=damaged[:20]):
                self.counts().write_text(damaged)
                self.server.start()
                self.fail(1)
                self.server.stop()

    def test_the_digest_is_for_who_is_undeliverable(self):
        """Nothing is told of that, and no further digest counts it."""
        self.start()
        self.fail(15)
        self.server.stop()
        self.an_hour_later()
        self.server.write_config(delivery={"double_bounces_to": "boss@far.example"})
        self.server.start()
        self.server.wait_for_log("digest_sent")
        wait.until(lambda: len(self.server.log("notice_dropped")) == 6, "the end of the digest")
        last = self.server.log("notice_dropped")[-1]
        self.assertIn("for delivery.double_bounces_to itself", last["reason"])
        self.server.wait_until_empty()
        wait.until(lambda: self.kept()["count"] == 0, lambda: f"nothing to tell: {self.kept()}")

    def test_who_wants_none_gets_none(self):
        self.start()
        self.fail(15)
        self.server.stop()
        self.an_hour_later()
        self.server.write_config(delivery={"double_bounces_to": ""})
        self.server.start()
        self.fail(3)
        wait.until(lambda: self.kept()["count"] == 0, lambda: f"nothing to tell: {self.kept()}")
        self.assertEqual(len(self.server.mailbox()), 10)
        self.assertEqual(self.server.log("digest_sent"), [])
        self.assertIn("is empty", self.server.log("notice_dropped")[-1]["reason"])

    def test_an_administrator_elsewhere_who_is_undeliverable(self):
        """His alias leads to a host that takes nothing: then the notice that fails is for another address."""
        self.start(to="boss@us.example")
        (self.server.folder / "aliases").write_text("boss: boss@far.example\n")
        self.server.restart()
        self.send_one()
        wait.until(lambda: self.server.log("notice_dropped"), "the end of the notice")
        self.server.wait_until_empty()
        self.assertEqual(len(self.server.wait_for_log("notice_created", kind="double-bounce")), 1)
        dropped, = self.server.log("notice_dropped")
        self.assertIn("told of notices that are undeliverable", dropped["reason"])
        self.assertEqual(dropped["to"], "boss@far.example")

    def send_one(self):
        self.assertEqual(self.server.send("", "user@far.example", CONTENT).code, 250)

    def test_two_hosts_whose_administrators_are_each_other(self):
        self.start(to="boss@us.example")
        here = self.server
        there = self.daemon(start=False, hostname="mx.them.example", local={"domains": ["them.example"]},
                            delivery={"double_bounces_to": "boss@them.example"})
        hops = {here: ("them.example", there), there: ("us.example", here)}
        for server, (domain, other) in hops.items():
            (server.folder / "aliases").write_text(f"boss: boss@{domain}\n")
            server.write_config(route=[
                {"domain": domain, "next_hop": f"smtp://127.0.0.1:{other.port}", "tls": "off"},
                {"domain": "*", "next_hop": f"smtp://127.0.0.1:{self.peer.port}", "tls": "off"}])
        there.start()
        here.restart()
        self.send_one()

        def dropped():
            return here.log("notice_dropped") + there.log("notice_dropped")
        wait.until(dropped, "an end of the loop")
        for server in here, there, here:  # what is under way between them
            server.wait_until_empty()
        made = [server.log("notice_created") for server in (here, there)]
        self.assertEqual([len(each) for each in made], [1, 0], made)
        self.assertEqual(len(dropped()), 1)

    def test_a_full_disk(self):
        place = self.small_disk("120m")
        self.start(spool=str(place / "spool"))
        self.fail(15)
        self.server.stop()
        self.an_hour_later(less=15000)  # the disk is full by then
        self.server.start()
        with open(place / "ballast", "wb", buffering=0) as file:
            try:
                while True:
                    file.write(b"\0" * 65536)
            except OSError:
                pass
        waits = self.server.wait_for_log("digest_waits")
        self.assertEqual(waits[0]["count"], "5")
        self.assertEqual(self.server.log("digest_sent"), [])
        self.assertEqual(len(self.server.mailbox()), 10)
        (place / "ballast").unlink()
        self.digest(5)
        self.assertEqual(len(self.server.mailbox()), 11)


if __name__ == "__main__":
    scenario.main()
