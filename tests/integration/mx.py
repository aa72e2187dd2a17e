#!/usr/bin/python3
"""MX delivery through a real name server (Knot): preference, fallback, implicit and null MX, and
which answers of DNS mean "later" and which "never"."""
import json
import os

import dns.rcode

from support_py import nameserver, scenario, sink, smtp, wait

CONTENT = b"From: <a@us.example>\r\nTo: <b@x>\r\nSubject: by MX\r\n\r\nhello\r\n"
HOSTS = ["127.0.1.11", "127.0.1.12", "127.0.1.13"]
ZONE = """
ns          A   127.0.0.1
mx1         A   127.0.1.11
mx2         A   127.0.1.12
mx3         A   127.0.1.13
ordered     MX  10 mx1
ordered     MX  20 mx2
ordered     MX  30 mx3
equal       MX  10 mx1
equal       MX  10 mx2
equal       MX  10 mx3
implicit    A   127.0.1.12
underscore  MX  10 mx_1
my_domain   MX  10 -mx_1
mx_1        A   127.0.1.13
-mx_1       A   127.0.1.13
nullmx      MX  0  .
halfnull    MX  0  .
halfnull    MX  10 mx1
noaddress   MX  10 gone
toplain     MX  10 plain-name-without-address
empty       TXT "no MX and no address"
alias       CNAME ordered
loopname    MX  10 mx.us
loopname    MX  20 mx1
mx.us       A   127.0.1.13
self        MX  10 own
own         A   127.0.0.1
selfsecond  MX  10 mx1
selfsecond  MX  20 own
selfsecond  MX  30 mx2
"""


class ByMx(scenario.Scenario):
    def setUp(self):
        super().setUp()
        self.sinks = sink.with_same_port(HOSTS)
        for one in self.sinks:
            self.using(one)
        self.name_server = self.knot(example=ZONE, broken_example=None)
        self.server = self.daemon(
            start=False, dns={"servers": [self.name_server.server]},
            delivery={"port": self.sinks[0].port, "retry": ["1s"], "connect_timeout": "3s"})

    def send(self, domain, sender="a@us.example"):
        reply = self.server.send(sender, f"b@{domain}", CONTENT)
        self.assertEqual(reply.code, 250)

    def counts(self):
        return [len(one.messages) for one in self.sinks]

    def test_the_host_of_lowest_preference_gets_the_mail(self):
        self.server.start()
        self.send("ordered.example")
        self.sinks[0].wait_for(1)
        self.server.wait_until_empty()
        self.assertEqual(self.counts(), [1, 0, 0])

    def test_names_that_are_no_host_names_but_resolve_are_used(self):
        self.server.start()
        self.send("underscore.example")
        self.send("my_domain.example", sender="a_b@web_app_1")
        self.sinks[2].wait_for(2)
        self.server.wait_until_empty()
        self.assertEqual(self.counts(), [0, 0, 2])

    def test_the_second_host_takes_over_when_the_first_is_down_in_the_same_attempt(self):
        self.sinks[0].stop()
        self.server.start()
        self.send("ordered.example")
        self.sinks[1].wait_for(1)
        self.server.wait_until_empty()
        self.assertEqual(self.counts(), [0, 1, 0])
        self.assertEqual(self.server.log("attempted", verdict="deferred"), [])

    def test_the_second_host_takes_over_when_the_first_answers_421_or_554(self):
        self.server.start()
        self.sinks[0].script["connect"] = sink.Then("421 4.3.2 not now", sink.DROP)
        self.send("ordered.example")
        self.sinks[1].wait_for(1)
        self.sinks[0].script["connect"] = sink.Then("554 5.7.1 not you", sink.DROP)
        self.send("ordered.example")
        self.sinks[1].wait_for(2)
        self.server.wait_until_empty()
        self.assertEqual(self.counts(), [0, 2, 0])

    def test_hosts_of_equal_preference_share_the_mail(self):
        self.server.write_config(delivery={"idle": "0s"})
        self.server.start()
        for number in range(40):
            self.send("equal.example")
        wait.until(lambda: sum(self.counts()) == 40, self.counts)
        self.server.wait_until_empty()
        self.assertTrue(all(count > 0 for count in self.counts()), self.counts())

    def test_a_domain_without_MX_is_its_own_host(self):
        self.server.start()
        self.send("implicit.example")
        self.sinks[1].wait_for(1)

    def test_an_alias_is_followed(self):
        self.server.start()
        self.send("alias.example")
        self.sinks[0].wait_for(1)

    def bounced(self, domain):
        """The failure notice for a message to this domain, as it arrives for its sender."""
        from support_py.daemon import USER
        before = len(self.server.mailbox())
        self.send(domain, sender=f"{USER}@us.example")
        self.server.wait_for_mail(before + 1)
        self.server.wait_until_empty()
        return self.server.mailbox()[-1].decode()

    def test_what_a_table_that_is_left_out_may_hold_waits(self):
        """Another user's table of virtual domains that cannot be read: neither is mail for them refused
        for good, by a stranger's RCPT or by DNS, nor that for unknown users; what is known goes on"""
        if not scenario.is_root():
            self.skipTest("needs root: a file of another user")
        from support_py.daemon import USER
        table = self.own_folder("anns") / "virtual"
        table.mkdir()
        os.chown(table, 65534, 65534)
        trusted = "127.0.0.9"
        # "self.example" leads here, and "hosted.example" is nowhere: both are in that table.
        self.server.write_config(accept={"relay_from": [trusted]}, local={
            **self.server.settings["local"], "virtual": [f"text:{table}"]})
        self.server.start()
        self.server.wait_for_log("table_left_out")

        def answers(source=None):
            codes = {}
            for to in (f"{USER}@us.example", "hosted@self.example", "x@ordered.example",
                       "nobody-here@us.example"):
                with smtp.Client(self.server.port, source=source) as client:
                    client.hello()
                    client.expect("MAIL FROM:<a@far.example>", 250)
                    codes[to.split("@")[1] if USER not in to else "known"] = (
                        lambda reply: (reply.code, reply.enhanced))(client.command(f"RCPT TO:<{to}>"))
            return codes
        wait_for_it = (451, "4.3.0")
        self.assertEqual(answers(), {"known": (250, "2.1.5"), "self.example": wait_for_it,
                                     "ordered.example": wait_for_it, "us.example": wait_for_it})
        for to in ("x@ordered.example", "hosted@self.example", "hosted@hosted.example"):
            smtp.send(self.server.port, "a@us.example", [to], CONTENT, source=trusted)
        self.server.sendmail("-f", "a@us.example", "virtual-name@us.example", stdin="Subject: x\n\nx\n")
        self.sinks[0].wait_for(1)
        for to in ("hosted@self.example", "hosted@hosted.example", "virtual-name@us.example"):
            event = self.server.wait_for_log("attempted", to=to)[0]
            self.assertEqual(event["dsn"][:2], "4.", event)
        # Mended, all of it arrives.
        table.rmdir()
        table.write_text("".join(f"{name} {USER}@us.example\n" for name in (
            "self.example", "hosted@self.example", "hosted.example", "hosted@hosted.example",
            "virtual-name@us.example")))
        self.server.wait_for_log("table_read")
        self.server.retry_all()
        self.server.wait_for_mail(3)
        self.server.wait_until_empty()
        self.assertEqual(answers(), {
            "known": (250, "2.1.5"), "self.example": (250, "2.1.5"),
            "ordered.example": (550, "5.7.1"), "us.example": (550, "5.1.1")})

    def test_a_null_MX_bounces_at_once(self):
        self.server.start()
        notice = self.bounced("nullmx.example")
        self.assertIn("Status: 5.1.10", notice)
        self.assertEqual(self.counts(), [0, 0, 0])

    def test_a_null_MX_beside_another_is_ignored(self):
        self.server.start()
        self.send("halfnull.example")
        self.sinks[0].wait_for(1)

    def test_no_such_name_bounces(self):
        self.server.start()
        self.assertRegex(self.bounced("no-such-name.example"), r"Status: 5\.[14]\.\d")

    def test_a_name_without_hosts_bounces(self):
        self.server.start()
        self.assertRegex(self.bounced("empty.example"), r"Status: 5\.[14]\.\d")

    def at_once(self):
        """What is not taken in the same attempt waits for an hour."""
        self.server.write_config(delivery={"retry": ["1h"]})
        self.server.start()

    def test_what_a_host_refuses_for_now_the_next_takes_at_once(self):
        self.at_once()
        for number, stage in enumerate(("mail", "rcpt", "data", "end"), 1):
            self.sinks[0].script.clear()
            self.sinks[0].script[stage] = "451 4.7.1 Greylisted, please come back later"
            if stage == "data":
                self.sinks[0].script["bdat"] = "451 4.7.1 Greylisted, please come back later"
            self.send("ordered.example")
            self.sinks[1].wait_for(number)
        sent = self.server.wait_for_log("attempted", 4, verdict="sent")
        self.assertEqual(len(sent), 4)
        self.assertEqual(self.server.log("attempted", verdict="deferred"), [])
        self.assertEqual(self.counts(), [0, 4, 0])

    def test_what_two_hosts_refuse_for_now_is_deferred_once_in_the_words_of_the_last(self):
        self.sinks[0].script["rcpt"] = "450 4.2.0 the first says later"
        self.sinks[1].script["rcpt"] = "450 4.2.0 the second says later"
        self.at_once()
        self.assertIn("the second says later", self.deferred("ordered.example"))
        self.assertEqual(len(self.server.wait_for_log("attempted", verdict="deferred")), 1)
        self.assertEqual([len(one.stages("connect")) for one in self.sinks], [1, 1, 0])

    def test_the_words_of_a_host_stand_where_the_next_is_mute(self):
        self.sinks[0].script["rcpt"] = "450 4.2.0 the first says later"
        self.sinks[1].script["mail"] = sink.DROP
        self.at_once()
        self.assertIn("the first says later", self.deferred("ordered.example"))
        self.assertEqual(len(self.server.wait_for_log("attempted", verdict="deferred")), 1)

    def test_a_host_that_puts_off_all_mail_costs_the_next_few_connections(self):
        self.sinks[0].script["rcpt"] = lambda session, argument: "450 4.2.0 later"
        self.at_once()

        def one(number):
            self.server.send("a@us.example", f"u{number}@ordered.example", CONTENT)
        self.assertEqual(scenario.parallel(one, range(200), 8), [])
        self.sinks[1].wait_for(200)
        self.server.wait_until_empty()
        self.assertLessEqual(len(self.sinks[1].stages("connect")), 10)
        self.assertEqual(self.server.log("attempted", verdict="deferred"), [])

    def test_a_host_lost_in_the_content_is_not_waited_for(self):
        self.sinks[0].script["body"] = sink.DROP
        self.at_once()
        content = CONTENT + b"x" * 70 + b"\r\n"
        large = content + (b"y" * 70 + b"\r\n") * 400_000  # more than a socket holds
        self.assertEqual(self.server.send("a@us.example", "b@ordered.example", large).code, 250)
        self.sinks[1].wait_for(1)
        self.server.wait_until_empty()
        self.assertEqual(self.counts(), [0, 1, 0])

    def test_a_host_lost_behind_the_content_may_have_it(self):
        """attacks.md M15"""
        self.sinks[0].script["end"] = sink.DROP
        self.at_once()
        self.assertIn("may arrive twice", self.deferred("ordered.example"))
        self.assertEqual(self.counts(), [0, 0, 0])

    def deferred(self, domain):
        """The message stays, with a reason; returns the reason."""
        self.send(domain)

        def reason():
            for message in self.server.queue("--domain", domain):
                for recipient in message["recipients"]:
                    if recipient.get("delay_reason"):
                        return recipient["delay_reason"]
            return None
        return wait.until(reason, lambda: f"a reason: {self.server.queue()}")

    def test_SERVFAIL_defers_and_never_bounces(self):
        self.server.start()
        reason = self.deferred("any.broken.example")
        self.assertRegex(reason.lower(), "dns|name|resol|lookup|servfail|look")
        self.server.wait_for_log("attempted", count=2, verdict="deferred")
        self.assertEqual(self.server.mailbox(), [])
        self.name_server.change(broken_example="any MX 10 mx1.example.\n")
        self.sinks[0].wait_for(1)
        self.server.wait_until_empty()

    def test_a_silent_name_server_defers(self):
        with nameserver.FakeServer(lambda name, kind, data: None) as silent:
            self.server.write_config(dns={"servers": [silent.server]})
            self.server.start()
            self.deferred("ordered.example")

    def test_what_a_name_server_refuses_to_answer_is_counted_as_failed_and_not_as_late(self):
        with nameserver.FakeServer(lambda name, kind, data: dns.rcode.SERVFAIL) as broken:
            self.server.write_config(dns={"servers": [broken.server]})
            self.server.start()
            self.deferred("any.example")
            figures = json.loads(self.server.postrider("status", "--json"))["dns"]
            self.assertGreater(figures["failures"], 0)
            self.assertEqual(figures["timeouts"], 0)
            self.assertGreaterEqual(figures["queries"], len(set(broken.questions)))

    def test_SERVFAIL_for_the_addresses_of_a_host_tries_the_next_and_never_the_domain(self):
        """attacks.md D09"""
        def answer(name, kind, data):
            if name == "half.example." and kind == "MX":
                return nameserver.records((name, "MX", 1, "10 bad.example."))(data)
            if name == "half.example.":
                return nameserver.records((name, "A", 1, "127.0.1.13"))(data)
            return dns.rcode.SERVFAIL
        with nameserver.FakeServer(answer) as half:
            self.server.write_config(dns={"servers": [half.server]})
            self.server.start()
            self.deferred("half.example")
            self.assertEqual(self.counts(), [0, 0, 0])

    def test_MX_hosts_without_address_are_no_reason_to_try_the_domain_itself(self):
        self.server.start()
        self.send("noaddress.example")
        self.server.wait_for_log("attempted")
        self.assertEqual(self.counts(), [0, 0, 0])

    def loops_to_us(self, listen):
        self.server.write_config(
            listener=self.server.settings["listener"] +
            [{"address": f"{listen}:{self.sinks[0].port}", "role": "mx", "tls": "off"}])
        self.server.start()

    def test_an_MX_that_is_our_own_name_is_a_loop(self):
        self.server.write_config(hostname="mx.us.example")
        self.sinks[2].stop()
        self.loops_to_us("127.0.1.13")
        notice = self.bounced("loopname.example")
        self.assertRegex(notice, r"Status: 5\.4\.6")

    def test_an_MX_that_has_our_own_address_is_a_loop(self):
        self.loops_to_us("127.0.0.1")
        notice = self.bounced("self.example")
        self.assertRegex(notice, r"Status: 5\.4\.6")

    def test_as_second_MX_we_send_to_the_better_hosts_only(self):
        self.loops_to_us("127.0.0.1")
        self.sinks[0].stop()
        self.deferred("selfsecond.example")
        self.assertEqual(self.counts()[1:], [0, 0], "a host worse than us was tried")
        self.sinks[0].start()
        self.sinks[0].wait_for(1)

    def test_an_address_literal_needs_no_name_server(self):
        self.server.start()
        self.send("[127.0.1.12]")
        self.sinks[1].wait_for(1)

    def test_explain_tells_the_hosts_and_the_reason(self):
        self.sinks[0].stop()
        self.sinks[1].stop()
        self.sinks[2].stop()
        self.server.start()
        self.deferred("ordered.example")
        text = self.server.postrider("explain", "b@ordered.example")
        for part in ("mx1.example", "mx2.example", "mx3.example", "127.0.1.11"):
            self.assertIn(part, text)


if __name__ == "__main__":
    scenario.main()
