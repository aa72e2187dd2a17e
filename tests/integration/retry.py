#!/usr/bin/python3
"""What the remote server does at every stage, and what becomes of the mail: retried, bounced with
the reason, or delivered; seen in the mailbox, the queue and the listings."""
import json
import re
import time

from support_py import scenario, wait
from support_py.daemon import USER
from support_py.sink import DROP, HANG, Late, Then

SENDER = f"{USER}@us.example"
CONTENT = b"From: <a@us.example>\r\nTo: <b@x>\r\nSubject: persistence\r\n\r\nhello\r\n"
THREE = ["one@far.example", "two@far.example", "three@far.example"]


class Retry(scenario.Scenario):
    def start(self, script=None, retry=("1s", "2s"), **settings):
        self.peer = self.sink(script=script or {})
        self.server = self.relay(self.peer, **scenario.daemon.merged(
            {"delivery": {"retry": list(retry)}}, settings))

    def send(self, recipients, sender=SENDER):
        reply = self.server.send(sender, recipients, CONTENT)
        self.assertEqual(reply.code, 250)

    def notices(self, count=1):
        self.server.wait_for_mail(count)
        self.server.wait_until_empty()
        texts = [text.decode() for text in self.server.mailbox()]
        self.assertEqual(len(texts), count)
        return texts

    def test_one_of_three_recipients_refused_for_ever_bounces_alone(self):
        self.start({"rcpt": {THREE[1]: "550 5.1.1 no such mailbox two"}})
        self.send(THREE)
        message, = self.peer.wait_for(1)
        self.assertEqual(message.addresses, [THREE[0], THREE[2]])
        notice, = self.notices()
        self.assertIn("Return-Path: <>", notice)
        self.assertRegex(notice, r"Final-Recipient: rfc822; ?two@far\.example")
        self.assertIn("Action: failed", notice)
        self.assertIn("Status: 5.1.1", notice)
        self.assertRegex(notice, r"Diagnostic-Code: smtp; ?550 5\.1\.1 no such mailbox two")
        self.assertNotIn("Final-Recipient: rfc822; one", notice)
        self.assertIn("Subject: persistence", notice)
        self.assertEqual(len(self.peer.messages), 1)

    def test_one_of_three_recipients_deferred_is_retried_alone(self):
        self.start({"rcpt": {THREE[1]: ["451 4.2.1 mailbox busy"]}}, retry=("3s",))
        self.send(THREE)
        self.peer.wait_for(1)
        waiting = wait.until(lambda: [m for m in self.server.queue()
                                      if m["recipients"][0]["attempts"]], "a deferral")
        self.assertEqual([r["address"] for r in waiting[0]["recipients"]], [THREE[1]])
        self.assertIn("451 4.2.1 mailbox busy", waiting[0]["recipients"][0]["delay_reason"])
        self.assertIn("451 4.2.1 mailbox busy", self.server.mailq())
        self.assertIn(THREE[1], self.server.mailq())
        self.assertEqual(len(self.server.queue("--reply", "mailbox busy")), 1)
        self.assertEqual(self.server.queue("--reply", "something else"), [])
        self.peer.wait_for(2)
        self.server.wait_until_empty()
        self.assertEqual([m.addresses for m in self.peer.messages],
                         [[THREE[0], THREE[2]], [THREE[1]]])
        self.assertEqual(self.server.mailbox(), [])

    def three_hosts(self):
        """One that never answers MAIL, one that greylists, and a good one: route by route."""
        scripts = {"silent": {"mail": lambda *_: HANG},
                   "grey": {"rcpt": {"b@grey.example": ["451 4.7.1 greylisted", "450 4.7.1 still"]}},
                   "good": {}}
        self.peers = {name: self.sink(script=script) for name, script in scripts.items()}
        self.server = self.daemon(
            route=[{"domain": f"{name}.example", "next_hop": f"smtp://127.0.0.1:{peer.port}", "tls": "off"}
                   for name, peer in self.peers.items()],
            delivery={"retry": ["1s", "2s"]})

    def test_one_silent_host_holds_up_nobody_elses_retry(self):
        self.three_hosts()
        self.send(["a@silent.example", "b@grey.example", "c@good.example"])
        self.peers["silent"].wait_for_stage("mail")
        for name in ("good", "grey"):
            message, = self.peers[name].wait_for(1)
            self.assertEqual(len(message.addresses), 1)
        message, = wait.until(lambda: [m for m in self.server.queue() if len(m["recipients"]) == 1],
                              lambda: f"the end of the retry: {self.server.queue()}")
        recipient, = message["recipients"]
        self.assertEqual((recipient["address"], recipient["state"]), ("a@silent.example", "active"))
        self.assertEqual(message["queue_name"], "active")
        self.assertEqual(len(self.peers["silent"].stages("mail")), 1)  # it hangs there all the while
        self.assertEqual(self.server.log("removed"), [])
        attempts = self.server.wait_for_log("attempted", count=4)
        self.assertEqual([line["verdict"] for line in attempts if line["to"] == "b@grey.example"],
                         ["deferred", "deferred", "sent"])
        # Why it waits is said wherever it is asked.
        reason = wait.until(lambda: self.server.queue()[0]["recipients"][0].get("delay_reason"), "a reason")
        self.assertRegex(reason, r"^a message is under way to .*for \d+ s$")
        for said in (self.server.mailq(), self.server.postrider("explain", message["queue_id"])):
            self.assertIn("a message is under way to", said)
        # A stop gives it back, and nobody else has it twice.
        self.server.restart()
        self.peers["silent"].wait_for_stage("mail", 2)
        self.assertEqual([len(self.peers[name].messages) for name in ("grey", "good")], [1, 1])
        removed = json.loads(self.server.postrider("queue", "remove", "--all", "--json"))
        self.assertEqual(removed.get("under_way_recipients", removed.get("recipients")), 1, removed)

    def test_4xx_then_5xx_for_one_recipient(self):
        self.start({"rcpt": {THREE[1]: ["450 4.2.0 wait", "451 4.2.0 wait more", "554 5.2.0 no"]}})
        self.send(THREE)
        notice, = self.notices()
        self.assertIn("Status: 5.2.0", notice)
        attempts = [e for e in self.peer.events if (e.stage, e.argument) == ("rcpt", THREE[1])]
        self.assertEqual(len(attempts), 3)
        self.assert_waits([e.when for e in attempts], [1, 2])

    def assert_waits(self, times, wanted):
        """The schedule's waits, with its jitter of an eighth; a busy machine may be late, never early."""
        waits = [later - earlier for earlier, later in zip(times, times[1:])]
        self.assertEqual(len(waits), len(wanted), waits)
        for got, want in zip(waits, wanted):
            self.assertGreaterEqual(got, want * 0.86, waits)
            self.assertLessEqual(got, want * 1.13 + wait.DEADLINE, waits)

    def test_the_waits_follow_the_schedule_and_the_last_repeats(self):
        refused = ["451 4.3.0 later"] * 4
        self.start({"mail": refused}, retry=("1s", "2s", "3s"))
        self.send(THREE[0])
        self.peer.wait_for(1)
        self.assert_waits([e.when for e in self.peer.stages("mail")][:5], [1, 2, 3, 3])
        deferred = self.server.wait_for_log("attempted", count=4, verdict="deferred")
        self.assertTrue(all("451 4.3.0 later" in str(entry) for entry in deferred), deferred)
        id = deferred[0]["id"]
        self.server.wait_until_empty()
        self.server.wait_for_log("attempted", id=id, verdict="sent")

    def test_many_deferred_messages_of_one_domain_are_all_retried(self):
        self.start({"mail": ["451 4.3.0 later"] * 8}, retry=("1s",))
        for number in range(8):
            self.send(f"{number}@far.example")
        self.peer.wait_for(8)
        self.server.wait_until_empty()

    def test_a_slow_message_does_not_hold_up_the_retry_of_another(self):
        self.start({"mail": ["451 4.3.0 later"] * 2 + [HANG]}, retry=("1s", "2s"))
        for number in range(2):
            self.send(f"{number}@far.example")
        self.peer.wait_for(1)
        self.peer.stop()

    def test_a_retry_now_need_not_wait(self):
        self.start({"mail": ["451 4.3.0 later"]}, retry=("1h",))
        self.send(THREE[0])
        wait.until(lambda: self.server.queue()[0]["recipients"][0]["attempts"], "a deferral")
        self.server.postrider("queue", "retry")
        self.peer.wait_for(1)

    def test_a_retry_now_of_what_is_under_way_counts_when_that_has_ended(self):
        self.start({"mail": [Late(3, "451 4.3.0 later")]}, retry=("1h",))
        self.send(THREE[0])
        self.peer.wait_for_stage("mail")
        self.server.postrider("queue", "retry")
        self.peer.wait_for(1)
        self.server.wait_until_empty()

    def stage(self, stage, answer, times=1, final=None):
        """The answer at this stage some times, then as usual: the mail arrives once, no bounce."""
        self.start({stage: [answer] * times})
        self.send(THREE)
        self.peer.wait_for(1)
        self.server.wait_until_empty()
        self.assertEqual(sorted(a for m in self.peer.messages for a in m.addresses), sorted(THREE))
        self.assertEqual(self.server.mailbox(), [])

    def refused(self, stage, answer, status):
        """The answer for ever: every recipient bounces at once, in one notice."""
        self.start({stage: lambda session, argument: answer})
        self.send(THREE)
        notice, = self.notices()
        self.assertEqual(len(re.findall("^Action: failed", notice, re.M)), 3)
        self.assertEqual(set(re.findall(r"^Status: (\S+)", notice, re.M)), {status})
        reply = answer.reply if isinstance(answer, Then) else answer
        self.assertIn(reply.split("\n")[-1], notice.replace("\r", ""))
        self.assertEqual(self.peer.messages, [])

    def test_a_reply_after_which_the_end_is_unknown_makes_at_most_one_more_copy(self):
        """attacks.md M15: the content was taken, but its reply never came"""
        self.start({"end": [DROP]})
        self.send(THREE[0])
        self.peer.wait_for(1)
        self.server.wait_until_empty()
        self.assertEqual((len(self.peer.refused), len(self.peer.messages)), (1, 1))
        self.assertEqual(self.server.mailbox(), [])

    def test_the_verdict_of_a_reply_of_many_words_counts(self):
        """However many: dropped in the middle, what was taken would be sent again."""
        def long(code, enhanced):
            lines = [f"{enhanced} begin"] + ["x" * 500] * 600 + [f"{enhanced} end"]
            return "\n".join([f"{code}-{line}" for line in lines[:-1]] + [f"{code} {lines[-1]}"])
        taken, said, late = long(250, "2.0.0"), long(220, "mx"), long(354, "go")
        line = "250 2.0.0 " + "y" * 300000
        words = "250-2.0.0 begin\nno code\n\n250 2.0.0 end"
        for number, script in enumerate(({"end": [taken]}, {"end": [line]}, {"end": [words]},
                                         {"connect": [said], "rcpt": {THREE[0]: [taken]},
                                          "mail": [line], "data": [late], "end": [taken]})):
            with self.subTest(number):
                self.start(script)
                self.send(THREE[0])
                self.server.wait_until_empty()
                self.assertEqual((len(self.peer.messages), len(self.peer.sessions)), (1, 1))
                self.assertEqual(self.server.mailbox(), [])
        self.start({"end": lambda session, argument: long(554, "5.7.1")})
        self.send(THREE[0])
        notice, = self.notices()
        self.assertIn("Status: 5.7.1", notice)
        self.assertEqual((len(self.peer.messages), len(self.peer.refused)), (0, 1))
        self.assertLess(len(notice), 40000)

    def test_a_positive_reply_of_odd_form_is_taken_at_once(self):
        """Waited for or taken for none, it would send the message again, as long as its sender lives."""
        odd = ("250OK", "250", "250\r", "250\t2.0.0 taken", "250-taken\n250", "slow today\n250 taken",
               "354 go on\n250 taken", "250-taken\nwords\n250OK, and\n250 now")
        self.start({"end": list(odd)})
        for number in range(len(odd)):
            self.send(f"{number}@far.example")
            self.server.wait_until_empty()
        self.assertEqual([m.addresses for m in self.peer.messages],
                         [[f"{number}@far.example"] for number in range(len(odd))])
        self.assertEqual(self.peer.refused, [])
        every = {"connect": "220mx", "ehlo": "250mx", "mail": "250ok", "data": "354go", "end": "250ok",
                 "rcpt": {THREE[0]: "250ok"}}
        self.start({stage: answer if isinstance(answer, dict) else [answer]
                    for stage, answer in every.items()})
        self.send(THREE[0])
        self.server.wait_until_empty()
        self.assertEqual((len(self.peer.messages), len(self.peer.sessions)), (1, 1))
        self.assertEqual(self.server.mailbox(), [])

    def test_a_positive_reply_that_breaks_off_is_taken_when_its_end_does_not_come(self):
        odd = ("250-taken", "250-taken\n250OK", "250-2.0.0 taken\n250-2.0.0 as 12")
        self.start({"end": [Then(answer, DROP) for answer in odd]})
        for number in range(len(odd)):
            self.send(f"{number}@far.example")
            self.server.wait_until_empty()
        self.assertEqual([m.addresses for m in self.peer.messages],
                         [[f"{number}@far.example"] for number in range(len(odd))])
        self.assertEqual([line["verdict"] for line in self.server.log("attempted")], ["sent"] * len(odd))

    def test_552_for_a_recipient_is_too_many_and_not_for_ever(self):
        """attacks.md M14"""
        self.start({"rcpt": {THREE[2]: ["552 5.5.3 too many recipients"]}})
        self.send(THREE)
        self.peer.wait_for(2)
        self.server.wait_until_empty()
        self.assertEqual(self.server.mailbox(), [])

    def test_the_lifetime_ends_in_a_bounce_with_the_last_reply(self):
        self.start({"mail": lambda session, argument: "451 4.3.0 never today"},
                   delivery={"lifetime": "4s", "delay_notice": "0s"})
        began = time.monotonic()
        self.send(THREE[:2])
        notice, = self.notices()
        self.assertGreater(time.monotonic() - began, 3)
        self.assertIn("never today", notice)
        self.assertEqual(set(re.findall(r"^Status: (\S+)", notice, re.M)) - {"4.4.7", "5.4.7",
                                                                            "4.3.0"}, set())
        self.assertEqual(len(re.findall("^Action: failed", notice, re.M)), 2)

    def test_a_delay_notice_is_sent_once_and_the_mail_still_arrives(self):
        self.start({"mail": lambda session, argument: "451 4.3.0 slow day"},
                   delivery={"delay_notice": "2s", "lifetime": "1h"})
        self.send(THREE[0])
        text, = self.server.wait_for_mail(1)
        notice = text.decode()
        self.assertIn("Action: delayed", notice)
        self.assertIn("Will-Retry-Until:", notice)
        self.assertIn("slow day", notice)
        attempts = len(self.peer.stages("mail"))
        wait.until(lambda: len(self.peer.stages("mail")) >= attempts + 2, "two more attempts")
        self.peer.script.clear()
        self.peer.wait_for(1)
        self.server.wait_until_empty()
        self.assertEqual(len(self.server.mailbox()), 1)

    def test_a_bounce_that_cannot_be_delivered_ends_at_postmaster(self):
        """attacks.md M03, M06"""
        self.start({"rcpt": lambda session, argument: "550 5.1.1 nobody"},
                   delivery={"double_bounces_to": f"{USER}@us.example"})
        self.send(THREE[0], sender="stranger@far.example")
        notice, = self.notices()
        self.assertIn("Return-Path: <>", notice)
        self.send(THREE[0], sender="")
        self.server.wait_until_empty()
        self.assertLessEqual(len(self.server.mailbox()), 2)

    def test_a_dead_site_does_not_delay_the_others(self):
        alive = self.sink()
        dead = wait.free_port()
        self.server = self.daemon(
            route=[{"domain": "dead.example", "next_hop": f"smtp://127.0.0.1:{dead}"},
                   {"domain": "*", "next_hop": f"smtp://127.0.0.1:{alive.port}"}],
            delivery={"retry": ["1h"]})
        for number in range(100):
            self.send(f"u{number}@dead.example")
        self.send("b@alive.example")
        alive.wait_for(1)
        wait.until(lambda: self.server.queued() == 100, "the dead site's mail alone")


def add(stage, answer, name, refused=None):
    if refused:
        def test(self):
            self.refused(stage, answer, refused)
    else:
        def test(self):
            self.stage(stage, answer)
    setattr(Retry, "test_" + name, test)


for each_stage in ("connect", "ehlo", "mail", "rcpt", "data", "body", "end"):
    if each_stage != "end":  # shown above: there a copy may have been taken
        add(each_stage, DROP, f"a_connection_dropped_at_{each_stage}_is_tried_again")
    if each_stage not in ("body", "connect"):
        add(each_stage, Then("421 4.3.2 closing", DROP), f"421_at_{each_stage}_is_tried_again")
    if each_stage not in ("body", "connect", "ehlo", "rcpt"):
        add(each_stage, "451 4.3.0 later", f"451_at_{each_stage}_is_tried_again")
    if each_stage not in ("body", "connect", "ehlo"):
        add(each_stage, "554 5.6.0 never", f"554_at_{each_stage}_bounces", "5.6.0")
add("connect", Then("421 4.3.2 full", DROP), "a_greeting_of_421_is_tried_again")
add("end", "451 4.3.0 later", "451_at_the_end_of_the_content_is_tried_again")


if __name__ == "__main__":
    scenario.main()
