#!/usr/bin/python3
"""mlmmj behind an alias, by the recipe of doc/recipes.md: members subscribe by mail, a post reaches both,
a bounce comes to its place. The list belongs to a system account that local.command_users names."""
import email
import os
import pathlib
import shutil
import subprocess

from support_py import daemon, scenario, wait
from support_py.accounts import DAEMON, LOW, Machine

RECEIVE = shutil.which("mlmmj-receive")
MAKE = shutil.which("mlmmj-make-ml")


class Mlmmj(scenario.Scenario):
    def setUp(self):
        super().setUp()
        if not scenario.is_root() or not shutil.which("unshare"):
            self.skipTest("needs root: the list has an account of its own")
        if not RECEIVE or not MAKE:
            self.skipTest("needs mlmmj")
        self.machine = Machine(self.own_folder("machine"))
        self.lists = self.machine.make("lists", LOW, LOW, 0o700)
        self.table = self.machine.folder / "mlmmj.aliases"
        self.table.write_text(f'news: "|{RECEIVE} -F -L {self.lists}/news"\n')
        os.chown(self.table, LOW, LOW)

    def start(self, users):
        machine = self.machine
        folder = machine.make("d", DAEMON, DAEMON, 0o755)
        server = daemon.Postrider(
            folder, wrapper=machine.wrapper(), user="pridaemon", delivery={"retry": ["10m"]},
            accept={"relay_from": ["127.0.0.0/8"]},
            local={"domains": ["us.example"], "mailbox": f"maildir:{machine.mail}/{{user}}/",
                   "aliases": str(self.table), "command_users": users})
        os.chmod(server.config_file, 0o644)
        self.using(server)
        self.make_list(server.port)
        return server.start()

    def make_list(self, port):
        subprocess.run([MAKE, "-L", "news", "-s", str(self.lists)], check=True,
                       input="us.example\nbob@us.example\nen\nn\n", text=True, stdout=subprocess.DEVNULL)
        control = self.lists / "news" / "control"
        (control / "relayhost").write_text("127.0.0.1\n")
        (control / "smtpport").write_text(f"{port}\n")
        (control / "smtphelo").write_text("mx.us.example\n")
        for path in [self.lists / "news", *(self.lists / "news").rglob("*")]:
            os.chown(path, LOW, LOW, follow_symlinks=False)

    def mail(self, server, sender, to, subject="x"):
        content = (f"From: {sender}\r\nTo: {to}\r\nSubject: {subject}\r\n"
                   f"Message-ID: <{subject}.{sender}>\r\n\r\n{subject}\r\n")
        self.assertEqual(server.send(sender, to, content.encode()).code, 250)

    def box(self, user):
        folder = self.machine.mail / user / "new"
        return [email.message_from_bytes(path.read_bytes()) for path in folder.glob("*")]

    def wait_for(self, server, user, what):
        """The first message in the user's mailbox that fits."""
        return wait.until(lambda: next((m for m in self.box(user) if what(m)), None),
                          lambda: f"mail for {user}, not {[m.as_string() for m in self.box(user)]}; "
                                  f"{[e for e in server.log('attempted') if e['verdict'] != 'sent']}")

    def subscribe(self, server, user):
        address = f"{user}@us.example"
        self.mail(server, address, "news+subscribe@us.example", "join")
        asked = self.wait_for(server, user, lambda m: "confsub" in str(m["Reply-To"] or m["From"]))
        self.mail(server, address, email.utils.parseaddr(asked["Reply-To"] or asked["From"])[1],
                  "yes")
        members = self.lists / "news" / "subscribers.d" / user[0]
        wait.until(lambda: members.exists() and f"{address}\n" in members.read_text(),
                   lambda: f"{address} is a member: {server.log()[-5:]}")

    def test_members_a_post_and_a_bounce(self):
        server = self.start(["low"])
        for user in ("ann", "bob"):
            self.subscribe(server, user)
        self.mail(server, "ann@us.example", "news@us.example", "post")
        for user in ("ann", "bob"):
            copy = self.wait_for(server, user, lambda m: m["Subject"] == "post")
            self.assertEqual(copy["Return-Path"], f"<news+bounces-1-{user}=us.example@us.example>")
            self.assertEqual(copy.get_payload().strip(), "post")
        self.mail(server, "", "news+bounces-1-bob=us.example@us.example", "bounce")
        bounces = self.lists / "news" / "bounce"
        wait.until(lambda: (bounces / "bob=us.example").exists(), "the bounce is known to the list")
        server.wait_until_empty()
        for user in ("ann", "bob"):
            self.assertEqual(len([m for m in self.box(user) if m["Subject"] == "post"]), 1, user)
        self.assertEqual({path.owner_id for path in map(Owned, self.lists.rglob("*"))}, {LOW})
        self.assertIn("as low", server.postrider("explain", "news@us.example"))

    def test_an_account_that_is_not_named_is_no_bounce(self):
        """As nobody, mlmmj refuses: the reason is in the queue, and the mail is not lost."""
        server = self.start([])
        self.mail(server, "ann@us.example", "news+subscribe@us.example", "join")
        entry = wait.until(lambda: next(iter(server.log("attempted")), None), "an attempt")
        self.assertEqual(entry["verdict"], "deferred", entry)
        self.assertIn("local.command_users does not name low", str(entry))
        wait.until(lambda: "local.command_users does not name low" in server.mailq(), server.mailq)
        self.assertIn("as nobody", server.postrider("explain", "news@us.example"))


class Owned:
    def __init__(self, path):
        self.owner_id = os.stat(pathlib.Path(path), follow_symlinks=False).st_uid


if __name__ == "__main__":
    scenario.main()
