#!/usr/bin/python3
"""Every kind of failure that makes mail wait, in every view: the log, `queue`, `mailq`, `explain`, `status`, the
delay notice and the bounce give the same reason, with the words of whoever refused.

POSTRIDER_TABLE=1 prints what each of them said."""
import collections
import json
import os

import reasons
from support_py import authority, scenario, sink, smarthost, wait
from support_py.daemon import USER

SENDER = f"{USER}@us.example"
CONTENT = f"From: <{SENDER}>\r\nSubject: the original\r\n\r\nbody\r\n".encode()
# By the recipient's domain, or local part if it is ours: what is said, and whether the site is in trouble.
Kind = collections.namedtuple("Kind", "says of_site")
KINDS = {
    "refused.example": Kind(r"Connection refused", True),
    "silent.example": Kind(r"timed out", True),
    "broken.test": Kind(r"SERVFAIL", True),
    "nohost.example": Kind(r"nohost\.test", True),
    "notls.example": Kind(r"TLS is required .* offers no STARTTLS", True),
    "login.example": Kind(r"535 5\.7\.8 credentials are not good \(in reply to AUTH command\)", True),
    "busy.example": Kind(r"421 4\.3\.2 come back when the moon is full", True),
    "ehlo.example": Kind(r"451 4\.3\.0 not before noon", True),
    "mail.example": Kind(r"451 4\.3\.0 no sender today \(in reply to MAIL FROM command\)", False),
    "grey.example": Kind(r"451 4\.7\.1 greylisted for a while \(in reply to RCPT TO command\)", False),
    "data.example": Kind(r"451 4\.3\.0 no content today \(in reply to DATA command\)", False),
    "end.example": Kind(r"452 4\.3\.1 the disk is full of cats \(in reply to end of DATA command\)", False),
    "lost.example": Kind(r"lost connection .* while (receiving|sending)", False),
    "full": Kind(r"the mailbox is full", False),
    "later": Kind(r"the list is closed", False),
}
SCRIPTS = {
    "busy.example": {"connect": lambda *_: "421 4.3.2 come back when the moon is full"},
    "ehlo.example": {"ehlo": lambda *_: "451 4.3.0 not before noon",
                     "helo": lambda *_: "451 4.3.0 not before noon"},
    "mail.example": {"mail": lambda *_: "451 4.3.0 no sender today"},
    "grey.example": {"rcpt": lambda *_: "451 4.7.1 greylisted for a while"},
    "data.example": {"data": lambda *_: "451 4.3.0 no content today"},
    "end.example": {"end": lambda *_: "452 4.3.1 the disk is full of cats"},
    "lost.example": {"end": lambda *_: sink.DROP},
}


def address_of(kind):
    return f"b@{kind}" if "." in kind else f"{kind}@us.example"


def kind_of(address):
    local, _, domain = address.partition("@")
    return local if domain == "us.example" else domain


def one_line(text):
    return " ".join(str(text).split())


class Failures(scenario.Scenario):
    def routes(self):
        signed = authority.Authority(self.own_folder("ca"))
        asking = self.using(smarthost.Smarthost(signed.sign("relay.example", "localhost"), ["PLAIN"],
                                                {"us@relay.example": "right"}))
        credentials = self.own_folder("credentials") / "relay"
        credentials.write_text("user = us@relay.example\npassword = wrong\n")
        credentials.chmod(0o600)
        ports = {kind: self.sink(script=script).port for kind, script in SCRIPTS.items()}
        ports.update({"refused.example": wait.free_port(), "silent.example": self.using(reasons.Full()).port,
                      "notls.example": ports["grey.example"], "login.example": asking.port})
        routes = [{"domain": kind, "next_hop": f"smtp://127.0.0.1:{port}", "tls": "off"}
                  for kind, port in ports.items()]
        for route in routes:
            if route["domain"] == "notls.example":
                route["tls"] = "require"
            elif route["domain"] == "login.example":
                route.update(tls="require", credentials=str(credentials))
        return routes + [{"domain": "nohost.example", "next_hop": "smtp://nohost.test:25", "tls": "off"}]

    def start(self, **delivery):
        knot = self.knot(test=None)
        boxes = self.own_folder("boxes")
        server = self.daemon(start=False, dns={"servers": [knot.server]}, route=self.routes(),
                             delivery={"connect_timeout": "1s", **delivery})
        program = boxes / "later"
        program.write_text("#!/bin/sh\necho the list is closed >&2\nexit 75\n")
        program.chmod(0o755)
        (server.folder / "aliases").write_text(f'full: {boxes}/full/\nlater: "|{program}"\n')
        for part in ("new", "cur", "tmp"):
            (boxes / "full" / part).mkdir(parents=True)
        (boxes / "full" / "maildirsize").write_text("2000S\n1990 1\n")
        server.start()
        for kind in KINDS:
            self.assertEqual(server.send(SENDER, address_of(kind), CONTENT).code, 250, kind)
        return server

    # The views: by kind, what it says

    @staticmethod
    def listed(server):
        return {kind_of(one["address"]): (one.get("delay_reason"), message["queue_id"], message["status"])
                for message in server.queue() for one in message["recipients"]}

    def logged(self, server):
        last = {}
        for entry in server.log():
            if entry["event"] in ("attempted", "deferred") and kind_of(entry["to"]) in KINDS:
                last[kind_of(entry["to"])] = entry["reason"]
        return last

    def test_what_waits(self):
        """The same reason, word for word, in the log and in every listing."""
        server = self.start(retry=["10m"])
        wait.until(lambda: set(self.logged(server)) == set(KINDS) and all(
            reason and state == "deferred" for reason, _, state in self.listed(server).values()),
            lambda: f"an attempt of each: {self.listed(server)}")
        logged, mailq = self.logged(server), one_line(server.mailq())
        status = one_line(server.postrider("status"))
        for kind, (reason, id, _) in self.listed(server).items():
            with self.subTest(kind=kind):
                self.assertRegex(reason, KINDS[kind].says)
                self.assertEqual(logged[kind], reason)
                self.assertIn(one_line(reason), mailq)
                explained = server.postrider("explain", id)
                self.assertIn(one_line(reason), one_line(explained))
                self.assertNotRegex(explained, r"\b1 (failures|connections)\b")
                attempts = json.loads(server.postrider("explain", id, "--json"))["attempts"]
                self.assertLessEqual({attempt["verdict"] for attempt in attempts}, {"deferred"})  # as the log has it
                if KINDS[kind].of_site:
                    self.assertIn(one_line(reason), status)
            self.tell(kind, ("log, queue, mailq, explain", reason),
                      ("status", reason if KINDS[kind].of_site else "(not the site's)"))

    def test_what_comes_back(self):
        """The delay notice, the bounce and its line in the log say why."""
        server = self.start(retry=["1s", "1s"], lifetime="20s", delay_notice="8s")
        late = self.notices(server, "(?i)delay")
        back = self.notices(server, "(?i)undeliver|return|fail")
        bounced = {kind_of(entry["to"]): entry["reason"] for entry in server.log("bounced")}
        for kind, (says, _) in KINDS.items():
            with self.subTest(kind=kind):
                for people, fields in (late[kind], back[kind]):
                    self.assertRegex(people, says)
                    # RFC 3464, 2.3.6: the reply itself, without our words about it.
                    self.assertRegex(one_line(fields["Diagnostic-Code"]), says.partition(r" \(in reply")[0])
                self.assertRegex(bounced[kind], "too long in the queue; last: .*" + says)
            self.tell(kind, ("delay notice", one_line(late[kind][1]["Diagnostic-Code"])),
                      ("bounce", one_line(back[kind][1]["Diagnostic-Code"])),
                      ("log of the bounce", bounced[kind]))

    @staticmethod
    def tell(kind, *rows):
        if os.environ.get("POSTRIDER_TABLE") == "1":
            print(f"\n{kind}\n" + "\n".join(f"  {view:27} {text}" for view, text in rows))

    @staticmethod
    def notices(server, subject):
        def all_there():
            found = reasons.Reasons.notices(server, subject, kind_of)
            return found if set(found) == set(KINDS) else None
        return wait.until(all_there, lambda: "a notice for each; missing: {}".format(
            set(KINDS) - set(reasons.Reasons.notices(server, subject, kind_of))))


if __name__ == "__main__":
    scenario.main()
