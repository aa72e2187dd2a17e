#!/usr/bin/python3
"""Wishes of senders about time and priority: DELIVERBY (RFC 2852), FUTURERELEASE (RFC 4865) and
MT-PRIORITY (RFC 6710), from the session to the peer, the queue, its tools and the notices."""
import datetime
import email
import email.policy
import re
import time

from support_py import scenario, sink, wait
from support_py.daemon import USER

SENDER = f"{USER}@us.example"
CONTENT = b"From: <a@us.example>\r\nSubject: the original\r\n\r\nbody\r\n"
TIMED = sink.PLAIN_EXTENSIONS + ("DELIVERBY", "MT-PRIORITY")


def utc(seconds):
    when = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=seconds)
    return when.strftime("%Y-%m-%dT%H:%M:%SZ")


class SenderWishes(scenario.Scenario):
    def start(self, extensions=TIMED, script=None, **settings):
        self.peer = self.sink(extensions=extensions, script=script or {})
        self.server = self.relay(self.peer, **settings)

    def send(self, parameters, rcpt="", code=250):
        with self.server.client() as client:
            client.hello()
            reply = client.expect(f"MAIL FROM:<{SENDER}> {parameters}", code)
            if code != 250:
                return reply
            client.expect(f"RCPT TO:<b@far.example>{rcpt}", 250)
            client.expect("DATA", 354)
            client.send(CONTENT + b".\r\n")
            self.assertEqual(client.reply().code, 250)
            return reply

    def send_to(self, parameters, *recipients):
        with self.server.client() as client:
            client.hello()
            client.expect(f"MAIL FROM:<{SENDER}> {parameters}", 250)
            for recipient in recipients:
                client.expect(f"RCPT TO:<{recipient}>", 250)
            client.expect("DATA", 354)
            client.send(CONTENT + b".\r\n")
            self.assertEqual(client.reply().code, 250)

    def notices(self, count):
        if count:
            self.server.wait_for_mail(count)
        texts = self.server.mailbox()
        self.assertEqual(len(texts), count)
        return [email.message_from_bytes(text, policy=email.policy.default) for text in texts]

    def test_what_is_offered(self):
        self.start(accept={"future_release": "1h"})
        with self.server.client() as client:
            text = client.hello().text
        self.assertIn("DELIVERBY", text)
        self.assertIn("MT-PRIORITY", text)
        self.assertRegex(text, r"FUTURERELEASE 3600 20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ")
        for parameters, code in (("BY=0;R", 501), ("BY=9999999999;N", 501), ("HOLDFOR=3601", 501),
                                 ("HOLDFOR=60 BY=30;R", 501), (f"HOLDUNTIL={utc(-5)}", 501),
                                 (f"HOLDFOR=60 HOLDUNTIL={utc(60)}", 501), ("MT-PRIORITY=10", 501)):
            with self.subTest(parameters=parameters):
                self.assertEqual(self.send(parameters, code=code).enhanced, "5.5.4")
        self.assertEqual(self.server.queue(), [])

    def test_mail_is_kept_until_its_senders_time_over_a_restart_and_retries(self):
        self.start()
        begun = time.time()
        self.send("HOLDFOR=20 MT-PRIORITY=4")
        waiting, = self.server.queue()
        recipient, = waiting["recipients"]
        self.assertIn("its sender asked to send it not before", recipient["delay_reason"])
        self.assertIn("its sender asked", self.server.mailq())
        shown = self.server.postrider("queue", "show", waiting["queue_id"])
        self.assertRegex(shown, r"not before +20")
        self.assertRegex(shown, r"priority +4")
        self.server.postrider("queue", "retry", "--all")
        self.server.reload()
        self.server.kill()
        self.server.start()
        self.assertEqual(self.server.queued(), 1)
        message, = self.peer.wait_for(1)
        self.assertGreaterEqual(message.when, begun + 19.9)
        self.assertIn("MT-PRIORITY=4", message.parameters)
        self.assertNotIn("HOLD", message.parameters)
        self.assertRegex(message.content, rb"\r\n\tpriority 4;\r\n")
        self.server.wait_until_empty()

    def test_an_administrator_releases_or_removes_it(self):
        self.start()
        self.send(f"HOLDUNTIL={utc(3600)}")
        self.server.postrider("queue", "release", "--all")
        self.peer.wait_for(1)
        self.server.wait_until_empty()
        self.send(f"HOLDUNTIL={utc(3600)}")
        self.server.postrider("queue", "remove", "--all")
        self.assertEqual(self.server.queue(), [])
        self.notices(0)

    def test_what_is_left_of_the_time_is_passed_on_and_traced(self):
        self.start()
        self.send("BY=600;RT")
        message, = self.peer.wait_for(1)
        left = re.search(r"\bBY=(\d+);RT\b", message.parameters)
        self.assertTrue(left, message.parameters)
        self.assertTrue(580 <= int(left[1]) <= 600, message.parameters)
        notice, = self.notices(1)
        status = notice.get_payload()[1].get_payload()
        self.assertIn("Deliver-By-Date", status[0])
        self.assertEqual(status[1]["Action"], "relayed")

    def test_a_host_without_the_extension(self):
        self.start(sink.PLAIN_EXTENSIONS)
        self.send("BY=600;R")
        notice, = self.notices(1)
        fields = notice.get_payload()[1].get_payload()[1]
        self.assertEqual((fields["Action"], fields["Status"]), ("failed", "5.4.7"))
        self.assertEqual(self.peer.messages, [])
        self.send("BY=600;N", " NOTIFY=NEVER")
        self.send("BY=600;N")
        self.assertTrue(all("BY=" not in message.parameters
                            for message in self.peer.wait_for(2)))
        notices = self.notices(2)
        self.server.wait_until_empty()
        self.assertEqual(sorted(notice.get_payload()[1].get_payload()[1]["Action"]
                                for notice in notices), ["failed", "relayed"])
        self.notices(2)

    def test_late_mail_of_mode_R_comes_back_at_its_time(self):
        self.start(script={"rcpt": lambda *_: "451 4.2.1 busy"})
        begun = time.time()
        self.send("BY=5;R")
        self.server.wait_for_mail(1)
        # The time is the whole second below, and a host is given no less than one.
        self.assertGreaterEqual(time.time(), begun + 3)
        notice, = self.notices(1)
        fields = notice.get_payload()[1].get_payload()[1]
        self.assertEqual((fields["Action"], fields["Status"]), ("failed", "5.4.7"))
        self.assertIn("was to be delivered by", notice.get_payload()[0].get_content())
        self.server.wait_until_empty()

    def test_late_mail_of_mode_N_is_told_of_once_and_goes_on(self):
        answers = ["451 4.2.1 busy"] * 2
        self.start(script={"rcpt": answers}, delivery={"retry": ["8s"]})
        self.send("BY=4;N")
        notice, = self.notices(1)
        fields = notice.get_payload()[1].get_payload()[1]
        self.assertEqual((fields["Action"], fields["Status"]), ("delayed", "4.4.7"))
        message, = self.peer.wait_for(1)
        self.assertRegex(message.parameters, r"\bBY=-\d+;N\b")
        self.server.wait_until_empty()
        self.notices(1)

    def keep_waiting(self, **delivery):
        """A site that takes one message an hour: all others wait for it in delivery's hands."""
        self.start(site=[{"match": ["mx:127.0.0.1"], "rate": "1/h"}], delivery=delivery)
        self.send("")
        self.peer.wait_for(1)
        self.server.wait_until_empty()

    def fields_of(self, notice):
        fields = notice.get_payload()[1].get_payload()[1]
        return fields["Action"], fields["Status"]

    WAITS = r"takes no more in that time: 1\.0/h"

    def test_late_mail_comes_back_though_it_only_waits_for_its_sites_rate(self):
        self.keep_waiting()
        self.send("BY=4;R")
        self.server.wait_for_mail(1)
        notice, = self.notices(1)
        self.assertEqual(self.fields_of(notice), ("failed", "5.4.7"))
        words = " ".join(notice.get_payload()[0].get_content().split())
        self.assertRegex(words, "was to be delivered by")
        self.assertRegex(words, self.WAITS)
        self.server.wait_until_empty()
        self.assertEqual(len(self.peer.messages), 1)

    def test_late_mail_that_only_waits_is_told_of_and_goes_on_waiting(self):
        self.keep_waiting()
        self.send("BY=4;N")
        notice, = self.notices(1)
        self.assertEqual(self.fields_of(notice), ("delayed", "4.4.7"))
        self.assertEqual([message["status"] for message in self.server.queue()], ["active"])
        self.notices(1)

    def test_what_only_waits_is_told_of_as_delayed_and_comes_back_at_its_end(self):
        self.keep_waiting(delay_notice="6s", lifetime="12s")
        for _ in range(3):
            self.send("")
        self.send("HOLDFOR=2")
        self.server.wait_for_mail(4)
        for notice in self.notices(4):
            self.assertEqual(self.fields_of(notice)[0], "delayed")
            self.assertRegex(" ".join(notice.get_payload()[0].get_content().split()), self.WAITS)
        self.server.wait_for_mail(8)
        for notice in self.notices(8):
            self.assertRegex(" ".join(notice.get_payload()[0].get_content().split()), self.WAITS)
        self.assertEqual(sorted(self.fields_of(notice)[0] for notice in self.notices(8)),
                         ["delayed"] * 4 + ["failed"] * 4)
        self.server.wait_until_empty()
        self.assertEqual(len(self.peer.messages), 1)

    def test_late_mail_of_which_some_is_under_way_ends_for_those_who_wait_and_then_for_the_rest(self):
        """The slow host has the only connection; what waits for it, and for the rate of the other, does not begin."""
        slow = self.sink(address="127.0.0.2", extensions=TIMED, script={"rcpt": sink.Late(10, "451 4.2.1 later")})
        paced = self.sink(address="127.0.0.3", extensions=TIMED)
        self.server = self.daemon(
            route=[{"domain": f"{name}.example", "next_hop": f"smtp://{peer.address}:{peer.port}", "tls": "off"}
                   for name, peer in (("slow", slow), ("paced", paced))],
            site=[{"match": ["mx:127.0.0.2"], "connections": 1}, {"match": ["mx:127.0.0.3"], "rate": "1/h"}])
        self.send_to("", "first@paced.example")
        paced.wait_for(1)
        self.send_to("BY=5;R", "a@slow.example", "b@paced.example")
        slow.wait_for_stage("rcpt")
        begun = time.time()
        self.send_to("BY=4;R", "c@slow.example")
        self.server.wait_for_mail(2)
        self.assertLess(time.time(), begun + 9)
        said = {}
        for notice in self.notices(2):
            fields = notice.get_payload()[1].get_payload()[1]
            said[fields["Final-Recipient"].rpartition(";")[2].strip()] = " ".join(str(fields["Diagnostic-Code"]).split())
        self.assertEqual(set(said), {"b@paced.example", "c@slow.example"})
        self.assertRegex(said["b@paced.example"], self.WAITS)
        self.assertRegex(said["c@slow.example"], "a message is under way to")
        self.server.wait_for_mail(3)  # once the host has answered
        self.server.wait_until_empty()
        last = [notice for notice in self.notices(3) if "a@slow.example" in notice.get_payload()[0].get_content()]
        self.assertRegex(" ".join(last[0].get_payload()[0].get_content().split()), "451 4.2.1 later")
        self.assertEqual((len(slow.messages), len(paced.messages)), (0, 1))


if __name__ == "__main__":
    scenario.main()
