#!/usr/bin/python3
"""Why mail waits or comes back, when the host is the trouble: the same words in the log, in mailq, in the
delay notice and in the bounce, for people and for programs."""
import email
import email.policy
import json
import re
import socket

from support_py import scenario, sink, wait
from support_py.daemon import USER

SENDER = f"{USER}@us.example"
CONTENT = f"From: <{SENDER}>\r\nSubject: the original\r\n\r\nbody\r\n".encode()
# By domain: what is said of it.
CAUSES = {
    "broken.test": r"(?i)servfail|server failure|DNS",
    "refused.example": r"Connection refused",
    "silent.example": r"(?i)timed out",
    "notls.example": r"(?i)TLS",
    "busy.example": r"421 4\.3\.2 come back when the moon is full",
    "grey.example": r"451 4\.7\.1 greylisted for a while",
}


class Full:
    """A port whose queue of connections is full: who connects hears nothing."""

    def __init__(self):
        self.listener = socket.socket()
        self.listener.bind(("127.0.0.1", 0))
        self.listener.listen(0)
        self.port = self.listener.getsockname()[1]
        self.waiting = []
        for _ in range(4):
            one = socket.socket()
            one.setblocking(False)
            one.connect_ex(("127.0.0.1", self.port))
            self.waiting.append(one)

    def stop(self):
        for one in [self.listener, *self.waiting]:
            one.close()


class Reasons(scenario.Scenario):
    def start(self, **delivery):
        knot = self.knot(test=None)
        busy = self.sink(script={"connect": lambda *_: "421 4.3.2 come back when the moon is full"})
        grey = self.sink(script={"rcpt": lambda *_: "451 4.7.1 greylisted for a while"})
        full = self.using(Full())
        ports = {"refused.example": wait.free_port(), "silent.example": full.port,
                 "notls.example": grey.port, "busy.example": busy.port, "grey.example": grey.port}
        routes = [{"domain": domain, "next_hop": f"smtp://127.0.0.1:{port}",
                   "tls": "require" if domain == "notls.example" else "off"}
                  for domain, port in ports.items()]
        return self.daemon(dns={"servers": [knot.server]}, route=routes,
                           delivery={"connect_timeout": "1s", **delivery})

    def send(self, server):
        for domain in CAUSES:
            self.assertEqual(server.send(SENDER, f"b@{domain}", CONTENT).code, 250)

    @staticmethod
    def notices(server, subject, key_of=lambda address: address.rpartition("@")[2]):
        """By domain, or what key_of makes of the address: the part for people, and the fields of the
        recipient."""
        found = {}
        for text in server.mailbox():
            notice = email.message_from_bytes(text, policy=email.policy.default)
            if not re.search(subject, notice["Subject"]):
                continue
            people, status = notice.get_payload()[:2]
            for fields in status.get_payload()[1:]:
                address = fields["Final-Recipient"].rpartition(";")[2].strip()
                found[key_of(address)] = (" ".join(people.get_content().split()), fields)
        return found

    def check(self, notices, action):
        for domain, reason in CAUSES.items():
            with self.subTest(domain=domain):
                people, fields = notices[domain]
                self.assertRegex(people, reason)
                self.assertNotIn("could not be tried", people)
                self.assertEqual(fields["Action"], action)
                diagnostic = " ".join(str(fields["Diagnostic-Code"]).split())
                self.assertRegex(diagnostic, reason)
                self.assertNotIn("could not be tried", diagnostic)

    def test_each_cause_is_told_everywhere(self):
        server = self.start(retry=["1s", "1s"], lifetime="12s", delay_notice="5s")
        self.send(server)

        def listed():
            rows = {r["domain"]: r for m in server.queue() for r in m["recipients"]}
            return rows if all(re.search(CAUSES[d], str(rows.get(d))) for d in CAUSES) else None
        wait.until(listed, lambda: f"a reason for each: {server.queue()}")
        late = wait.until(lambda: (lambda found: found if len(found) == len(CAUSES) else None)(
            self.notices(server, "(?i)delay")), "a delay notice for each")
        self.check(late, "delayed")
        server.wait_until_empty()
        back = wait.until(lambda: (lambda found: found if len(found) == len(CAUSES) else None)(
            self.notices(server, "(?i)undeliver|return|fail")), "a bounce for each")
        self.check(back, "failed")
        for domain, reason in CAUSES.items():
            with self.subTest(domain=domain):
                entry, = [e for e in server.log("bounced") if e["to"] == f"b@{domain}"]
                self.assertRegex(entry["reason"], reason)
                self.assertIn("too long in the queue", entry["reason"])
                attempts = [e for e in server.log("attempted") if e["to"] == f"b@{domain}"]
                self.assertTrue(all(re.search(reason, e["reason"]) for e in attempts), attempts)

    def test_who_waits_for_the_rate_of_its_site_is_told_so(self):
        """Another recipient of its message is late, so there is a notice; nobody says that it is being tried."""
        grey = self.sink(script={"rcpt": lambda *_: "451 4.7.1 greylisted for a while"})
        paced = self.sink()
        routes = [{"domain": domain, "next_hop": f"smtp://127.0.0.1:{peer.port}", "tls": "off"}
                  for domain, peer in (("grey.example", grey), ("paced.example", paced))]
        server = self.daemon(route=routes, site=[{"match": ["mx:127.0.0.1"], "rate": "1/h"}],
                             delivery={"retry": ["1h"], "delay_notice": "8s"})
        self.assertEqual(server.send(SENDER, "first@paced.example", CONTENT).code, 250)
        paced.wait_for(1)
        self.assertEqual(server.send(SENDER, ["b@grey.example", "b@paced.example"], CONTENT).code, 250)
        reason = r"takes no more in that time: 1\.0/h"

        def listed():
            rows = {r["domain"]: r for m in server.queue() for r in m["recipients"]}
            return len(rows) == 2 and re.search(reason, str(rows["paced.example"]))
        wait.until(listed, lambda: f"the reason in the listing: {server.queue()}")
        for view in (server.postrider("queue"), server.mailq(), server.postrider("explain", "b@paced.example")):
            self.assertRegex(view, reason)
        late = wait.until(lambda: (lambda found: found if len(found) == 2 else None)(
            self.notices(server, "(?i)delay")), "both in the delay notice")
        people, fields = late["paced.example"]
        self.assertRegex(people, reason)
        self.assertNotIn("being tried", people)
        self.assertRegex(" ".join(str(fields["Diagnostic-Code"]).split()), reason)
        self.assertRegex(late["grey.example"][0], "greylisted for a while")

    def test_whatever_mail_waits_for_is_its_conclusion(self):
        """In explain of the message and of its address, in the listing and in the summary of reasons."""
        paced, slow, well = self.sink(), self.sink(address="127.0.0.2", script={"rcpt": sink.HANG}), self.sink(address="127.0.0.3")
        hosts = {"paced": paced, "slow": slow, "well": well, "stopped": well, "held": well, "later": well}
        refused = wait.free_port()
        routes = [{"domain": f"{name}.example", "next_hop": f"smtp://{peer.address}:{peer.port}", "tls": "off"}
                  for name, peer in hosts.items()] + [
                      {"domain": "refused.example", "next_hop": f"smtp://127.0.0.3:{refused}", "tls": "off"}]
        server = self.daemon(route=routes, delivery={"retry": ["1h"]},
                             site=[{"match": ["mx:127.0.0.1"], "rate": "1/h"}, {"match": ["mx:127.0.0.2"], "connections": 1}])
        self.assertEqual(server.send(SENDER, "first@paced.example", CONTENT).code, 250)
        paced.wait_for(1)
        self.assertEqual(server.send(SENDER, "first@slow.example", CONTENT).code, 250)
        wait.until(lambda: any(e.stage == "rcpt" for e in slow.events), "a transaction that hangs")
        for words in (("stopped.example",), ("--from", "paused@us.example")):
            server.postrider("queue", "pause", *words)
        for name in ("paced", "slow", "stopped", "refused"):
            self.assertEqual(server.send(SENDER, f"b@{name}.example", CONTENT).code, 250)
        self.assertEqual(server.send("paused@us.example", "p@well.example", CONTENT).code, 250)
        self.assertEqual(server.send(SENDER, "later@later.example", CONTENT, " HOLDFOR=3600").code, 250)
        server.postrider("queue", "pause", "held.example")
        self.assertEqual(server.send(SENDER, "h@held.example", CONTENT).code, 250)
        server.postrider("queue", "hold", "held.example")
        server.postrider("queue", "resume", "held.example")
        # By recipient: the conclusion, the reason in the listing and in the summary; None: nothing is said.
        states = {
            "b@paced.example": (r"waits: .* takes no more in that time: 1\.0/h",) * 2 + (r"takes no more in that time",),
            "first@slow.example": (r"is being tried now", r"a message is under way to .* for \d+ s", r"a message is under way"),
            "b@slow.example": (r"waits: a message is under way to .* for \d+ s", r"a message is under way to", r"a message is under way"),
            "b@stopped.example": (r"waits until it is resumed: mail to stopped\.example is paused", r"is paused", r"paused by an administrator"),
            "p@well.example": (r"waits until it is resumed: mail from paused@us\.example is paused", r"is paused", r"paused by an administrator"),
            "b@refused.example": (r"Connection refused",) * 3,
            "later@later.example": (r"is tried again at .*: its sender asked to send it not before",) + (r"its sender asked to send it not before",) * 2,
            "h@held.example": (r"is held, until `postrider queue release` lets it go", None, r"held by an administrator"),
        }

        def conclusion(of):
            lines = [line.split(None, 1)[1] for line in server.postrider("explain", of).splitlines()
                     if line.strip().startswith("conclusion")]
            self.assertEqual(len(lines), 1, lines)
            return lines[0]

        def settled():
            rows = {r["address"]: (m["queue_id"], r.get("delay_reason") or "") for m in server.queue() for r in m["recipients"]}
            return rows if set(rows) == set(states) and all(
                reason is None or re.search(reason.replace("waits: ", ""), rows[address][1])
                for address, (_, reason, _) in states.items()) else None
        rows = wait.until(settled, lambda: f"a reason for each: {server.queue()}")
        summary = " ".join(server.postrider("queue", "summary", "--by", "reason", "--limit", "100").split())
        self.assertNotIn("no attempt has ended yet", summary)
        for address, (concluded, _, summed) in states.items():
            with self.subTest(address=address):
                self.assertRegex(conclusion(rows[address][0]), concluded)
                self.assertRegex(summary, summed.split(r"\d")[0])
        for domain, concluded in (("paced", r"waits: .* takes no more in that time"), ("stopped", "waits until it is resumed"),
                                  ("slow", r"waits: a message is under way"), ("well", "is delivered at once"),
                                  ("refused", r"waits until .*Connection refused")):
            with self.subTest(domain=domain):
                self.assertRegex(conclusion(f"new@{domain}.example"), concluded)
        server.postrider("queue", "pause", "--all")
        self.assertRegex(conclusion("new@well.example"), "waits until it is resumed")

    def test_one_who_is_deferred_again_and_again_is_one(self):
        grey = self.sink(script={"rcpt": lambda *_: "451 4.7.1 greylisted for a while"})
        server = self.relay(grey, delivery={"retry": ["1h"]})
        status = lambda: json.loads(server.postrider("status", "--json"))
        self.assertEqual(server.send(SENDER, "one@far.example", CONTENT).code, 250)
        for attempts in range(1, 23):
            wait.until(lambda: status()["deferred"] == attempts, f"attempt {attempts}")
            server.postrider("queue", "retry")
        self.assertEqual(status()["deferring_sites"], [])
        few = [f"r{i}@far.example" for i in range(24)]
        self.assertEqual(server.send(SENDER, few, CONTENT).code, 250)
        site, = wait.until(lambda: status()["deferring_sites"], "the site")
        wait.until(lambda: status()["deferring_sites"][0]["only_deferred"] == 25, "all of them")
        server.postrider("queue", "hold", "--to", "r1@far.example")
        self.assertEqual(status()["deferring_sites"][0]["only_deferred"], 24)
        server.postrider("queue", "remove", "--to", "r2@far.example")
        self.assertEqual(status()["deferring_sites"][0]["only_deferred"], 23)
        server.postrider("queue", "remove", "far.example", "--status", "deferred")
        self.assertEqual(status()["deferring_sites"], [])
        self.assertNotIn("takes no mail since", server.postrider("sites"))

    def test_a_site_that_only_defers_is_in_the_status(self):
        """It takes connections, so that nothing of it is blocked; one message that it takes ends it."""
        taken = []
        grey = self.sink(script={"rcpt": lambda *_: None if taken else "451 4.7.1 greylisted for a while"})
        server = self.relay(grey, delivery={"retry": ["1h"]})
        status = lambda: json.loads(server.postrider("status", "--json"))
        few = [f"r{i}@far.example" for i in range(19)]
        self.assertEqual(server.send(SENDER, few, CONTENT).code, 250)
        wait.until(lambda: status()["deferred"] == 19, "19 deferred ones")
        self.assertEqual(status()["deferring_sites"], [])
        self.assertEqual(server.send(SENDER, "last@far.example", CONTENT).code, 250)
        site, = wait.until(lambda: status()["deferring_sites"], "the site")
        self.assertEqual((site["only_deferred"], site["state"]), (20, "open"))
        self.assertIn("451 4.7.1 greylisted for a while", site["reason"])
        self.assertEqual(status()["sites_in_trouble"], [])
        shown = server.postrider("status")
        self.assertRegex(shown, r"deferring +1 site:\n  .*: takes no mail since .*, 20 recipients deferred\n"
                                r"    .*451 4\.7\.1 greylisted for a while")
        self.assertIn("takes no mail since", server.postrider("sites", "--trouble"))
        taken.append(True)
        server.postrider("queue", "retry", "--to", "last@far.example")
        wait.until(lambda: not status()["deferring_sites"], "it is well")
        self.assertNotIn("takes no mail since", server.postrider("sites"))

    def test_what_waits_behind_a_site_in_trouble_is_deferred_and_logged_once(self):
        server = self.start(retry=["10m"])
        self.send(server)
        wait.until(lambda: {e["to"].partition("@")[2] for e in server.log("attempted")} ==
                   set(CAUSES), "an attempt for each")
        of_sites = [domain for domain in CAUSES if domain != "grey.example"]
        sites = wait.until(lambda: (lambda found: found if len(found) >= len(of_sites) else None)(
            server.log("site_blocked")), "the sites are blocked")
        self.assertEqual(len(sites), len(of_sites))
        wait.until(lambda: all(m["status"] == "deferred" for m in server.queue()),
                   lambda: f"the first of each deferred: {server.queue()}")
        for number in range(3):
            for domain in of_sites:
                self.assertEqual(server.send(SENDER, f"c{number}@{domain}", CONTENT).code, 250)
        # Two recipients of one message, at two sites.
        self.assertEqual(server.send(SENDER, ["d@refused.example", "d@busy.example"],
                                     CONTENT).code, 250)
        parked = {f"c{number}@{domain}" for number in range(3) for domain in of_sites} | {
            "d@refused.example", "d@busy.example"}
        wait.until(lambda: {e["to"] for e in server.log("deferred")} == parked,
                   lambda: f"a line for each: {server.log('deferred')}")
        lines = server.log("deferred")
        self.assertEqual(len(lines), len(parked))
        for entry in lines:
            self.assertRegex(entry["reason"], CAUSES[entry["to"].partition("@")[2]])
        wait.until(lambda: all(m["status"] == "deferred" for m in server.queue()),
                   lambda: f"all deferred: {server.queue()}")
        everything = server.queued()
        self.assertEqual(len(server.queue("--status", "deferred")), everything)
        self.assertEqual(server.queue("--status", "queued"), [])
        for domain in of_sites:
            self.assertEqual(len(server.queue("--domain", domain, "--status", "deferred")),
                             4 + (domain in ("refused.example", "busy.example")))
        shown = server.mailq()
        for reason in CAUSES.values():
            self.assertRegex(" ".join(shown.split()), reason)
        server.stop()  # and when the daemon is down
        last = server.log("stopped")[-1]
        self.assertEqual((last["complete"], last["queued"], last["under_way"],
                          last["drop_folder"]), ("yes", str(everything), "0", "0"))
        self.assertEqual(len(server.queue("--status", "deferred")), everything)
        for has_crashed in (False, True):  # and when it is up again
            if has_crashed:
                server.kill()
            server.start()
            for domain in of_sites:
                self.assertEqual(server.send(SENDER, f"later@{domain}", CONTENT).code, 250)
            everything += len(of_sites)
            wait.until(lambda: all(m["status"] == "deferred" for m in server.queue()),
                       lambda: f"all deferred after a restart: {server.queue()}")
            for message in server.queue():
                for recipient in message["recipients"]:
                    self.assertEqual(recipient["state"], "deferred")
                    self.assertRegex(recipient["delay_reason"], CAUSES[recipient["domain"]])
            totals = json.loads(server.postrider("status", "--json"))["queue"]
            self.assertEqual((totals["deferred"], totals["queued"], totals["messages"]), (everything, 0, everything))
            for domain in of_sites:
                lines = [e for e in server.log("deferred") if e["to"] == f"later@{domain}"]
                self.assertTrue(lines and all(re.search(CAUSES[domain], e["reason"]) for e in lines), lines)

    def test_a_blocked_site_says_when_it_is_tried_again(self):
        server = self.start(retry=["10m"])
        self.assertEqual(server.send(SENDER, "a@refused.example", CONTENT).code, 250)

        def blocked():
            sites = [json.loads(line) for line in server.postrider("sites", "--json").splitlines()]
            return [site for site in sites if site["state"] == "blocked"]
        site, = wait.until(blocked, "the site is blocked")
        self.assertGreater(site["blocked_until"], site["since"])
        self.assertRegex(server.postrider("sites"), r"1 failure, next try in \d+[sm]")

    def test_the_form_of_postfix_has_a_line_for_each_that_waits(self):
        server = self.start(retry=["10m"])
        server.stop()
        server.write_config(log={"format": "postfix"})
        server.log_file.unlink(missing_ok=True)
        server.start()
        self.assertEqual(server.send(SENDER, "a@refused.example", CONTENT).code, 250)
        wait.until(lambda: " to=<a@refused.example>" in server.log_file.read_text(), "the first")
        self.assertEqual(server.send(SENDER, "b@refused.example", CONTENT).code, 250)
        pattern = (r"postfix/error\[\d+\]: \w+: to=<b@refused\.example>, relay=none, .*dsn=4\.4\.1, "
                   r"status=deferred \(delivery temporarily suspended: .*Connection refused\)\n")
        wait.until(lambda: re.search(pattern, server.log_file.read_text()),
                   lambda: server.log_file.read_text())


if __name__ == "__main__":
    scenario.main()
