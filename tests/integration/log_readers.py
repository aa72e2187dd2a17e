#!/usr/bin/python3
"""The log as those read it that count mail, ban clients and rotate files: a file, syslog and the journal,
over one real session of good, refused, failed-login, deferred and bounced mail."""
import base64
import grp
import json
import os
import pathlib
import pwd
import re
import shutil
import stat
import subprocess

import recipes
from support_py import daemon, journal, scenario, smtp, wait
from support_py.daemon import USER

ANNA, PASSWORD = "anna@us.example", "secret of anna"
SENDER = "a@far.example"
CONTENT = b"From: <a@far.example>\r\nMessage-ID: <good@far.example>\r\nSubject: s\r\n\r\nbody\r\n"
GOOD, UNKNOWN, RELAY, CLOSED, SENDERS, LOGINS, DEFERRED, BOUNCED = 4, 3, 2, 2, 2, 5, 2, 2
REFUSED = UNKNOWN + RELAY + CLOSED + SENDERS
RECIPE = "Counting, banning, rotating: the log"
READERS = ("pflogsumm", "fail2ban-regex", "logwatch")


def plain(user, password):
    return base64.b64encode(f"\0{user}\0{password}".encode()).decode()


class Readers(scenario.Scenario):
    def setUp(self):
        super().setUp()
        self.missing = [name for name in READERS if shutil.which(name) is None]
        self.home = self.own_folder("home")

    def daemon_with(self, log, wrapper=()):
        host = self.sink(script={"rcpt": lambda session, argument:
                                 "550 5.1.1 no such user" if "bounced" in argument else "250 ok"})
        closed, submission, port = (wait.free_port() for _ in range(3))
        (self.home / "senders").write_text("spam@far.example reject go away\n")
        (self.home / "recipients").write_text("closed@us.example reject closed\n")
        server = self.daemon(
            start=False, log=log, wrapper=wrapper,
            listeners=[{"address": f"127.0.0.1:{port}", "role": "mx", "tls": "off"},
                       {"address": f"127.0.0.1:{submission}", "role": "submission", "tls": "off"}],
            auth={"clear": True, "failure_delay": "1ms", "users": str(self.home / "users")},
            accept={"relay_from": ["127.0.0.1/32"], "senders": [f"text:{self.home}/senders"],
                    "recipient_map": [f"text:{self.home}/recipients"]},
            delivery={"retry": ["10m"]},
            route=[{"domain": "down.example", "next_hop": f"smtp://127.0.0.1:{closed}", "tls": "off"},
                   {"domain": "*", "next_hop": f"smtp://127.0.0.1:{host.port}", "tls": "off"}])
        server.port, server.submission = port, submission
        server.postrider("passwd", ANNA, stdin=PASSWORD + "\n")
        return server.start()

    def stranger(self, port, *dialogue):
        """A client that may not relay, and says this."""
        client = smtp.Client(port, source="127.0.0.2")
        self.addCleanup(client.close)
        client.hello()
        for line, code in dialogue:
            client.expect(line, code)
        client.expect("QUIT", 221)

    def session(self, server):
        """A day's mail; what each client hears is checked."""
        sender = (f"MAIL FROM:<{SENDER}>", 250)
        for _ in range(GOOD):
            self.assertEqual(server.send(SENDER, f"{USER}@us.example", CONTENT).code, 250)
        for number in range(UNKNOWN):
            self.stranger(server.port, sender, (f"RCPT TO:<no{number}@us.example>", 550))
        for _ in range(RELAY):
            self.stranger(server.port, sender, ("RCPT TO:<x@elsewhere.example>", 550))
        for _ in range(CLOSED):
            self.stranger(server.port, sender, ("RCPT TO:<closed@us.example>", 550))
        for _ in range(SENDERS):
            self.stranger(server.port, ("MAIL FROM:<spam@far.example>", 550))
        for _ in range(LOGINS):
            self.stranger(server.submission, ("AUTH PLAIN " + plain(ANNA, "wrong"), 535))
        for number in range(DEFERRED):
            self.assertEqual(server.send(SENDER, f"d{number}@down.example", CONTENT).code, 250)
            wait.until(lambda: len(server.queue("--status", "deferred")) == number + 1, "it is deferred")
        for number in range(BOUNCED):
            self.assertEqual(server.send(f"{USER}@us.example", f"bounced{number}@far.example",
                                         CONTENT).code, 250)
        server.wait_for_mail(GOOD + BOUNCED)
        wait.until(lambda: len(server.queue()) == DEFERRED, "what is deferred remains")
        for verb in ("hold", "release"):
            self.assertIn(f"{DEFERRED} messages", server.postrider("queue", verb, "--all"))
        server.stop()

    # What the readers count

    def run_reader(self, *command):
        return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              timeout=wait.DEADLINE).stdout

    def check_counts(self, mail_log):
        """mail_log: a file in the form of syslog."""
        text = mail_log.read_text()
        self.assertEqual(text.count(" status=deferred ("), DEFERRED, text)
        self.check_pflogsumm(mail_log)
        for mode, count in (("auth", LOGINS), ("more", UNKNOWN + RELAY), ("normal", UNKNOWN + RELAY)):
            said = self.run_reader("fail2ban-regex", str(mail_log), f"postfix[mode={mode}]")
            self.assertIn(f"Failregex: {count} total", said)
        self.check_logwatch(mail_log)

    def check_pflogsumm(self, mail_log):
        said = self.run_reader("pflogsumm", "--smtpd-stats", str(mail_log))
        for what, count in (("received", GOOD + DEFERRED + BOUNCED), ("delivered", GOOD + BOUNCED),
                            ("deferred", DEFERRED), ("bounced", BOUNCED), ("rejected", REFUSED)):
            self.assertRegex(said, rf"(?m)^ +{count} +{what}\b")
        for what, count in (("Relay access denied", RELAY),
                            ("Recipient address rejected: closed", CLOSED),
                            ("5.7.1 <spam@far.example>", SENDERS)):
            self.assertIn(f"{what} (total: {count})", said)
        self.assertNotIn("Panics: 1", said)

    def check_logwatch(self, mail_log):
        folder = self.own_folder("logwatch")
        shutil.copy(mail_log, folder / "mail.log")
        # It reads the files of that name in /var/log too: where there are any, behind an empty one.
        apart = []
        if list(pathlib.Path("/var/log").glob("mail.log*")):
            apart = ["unshare", "--mount", *([] if scenario.is_root() else ["--map-root-user"]), "sh", "-c",
                     'mount -t tmpfs tmpfs /var/log && exec "$@"', "sh"]
        said = self.run_reader(*apart, "logwatch", "--service", "postfix", "--range", "all", "--detail", "10",
                               "--logdir", str(folder), "--output", "stdout")
        for what, count in (("SASL authentication failed", LOGINS), ("Accepted", GOOD + DEFERRED + BOUNCED),
                            ("Rejected", REFUSED), ("5xx Reject relay denied", RELAY),
                            ("5xx Reject unknown user", UNKNOWN), ("5xx Reject recipient address", CLOSED),
                            ("5xx Reject sender address", SENDERS), ("Deferred", DEFERRED),
                            ("Delivered", GOOD + BOUNCED), ("Notifications sent", BOUNCED),
                            ("Placed on hold", DEFERRED)):
            self.assertRegex(said, rf"(?m)^ +{count} +{what} ")
        self.assertRegex(said, rf"(?m)^ +{BOUNCED} +Bounced \(")
        self.assertNotIn("Unmatched", said)

    # The targets

    def test_a_file(self):
        if self.missing:
            self.skipTest(f"needs {self.missing}")
        folder = self.own_folder("logs")
        server = self.daemon_with({"format": "postfix", "target": str(folder / "mail.log")})
        self.session(server)
        self.check_counts(folder / "mail.log")

    def test_syslog(self):
        self.through_the_journal("syslog", "syslog")

    def test_the_journal(self):
        self.through_the_journal("stderr", "journal")

    def through_the_journal(self, target, transport):
        if self.missing or not scenario.is_root() or not journal.is_here():
            self.skipTest(f"needs root, journald, {self.missing}")
        service = self.using(journal.Journal(self.own_folder("journal")))
        server = self.daemon_with({"format": "postfix", "target": target}, wrapper=service.wrapper())
        self.session(server)
        written = wait.until(lambda: (lambda text: text if "master[" in text and "removed" in text else None)(
            service.read("-o", "short", f"_TRANSPORT={transport}")), "the journal's lines")
        mail_log = self.own_folder("logs") / "mail.log"
        mail_log.write_text(written)
        self.check_counts(mail_log)
        entries = [json.loads(line) for line in service.read("-o", "json").splitlines()]
        entries = [entry for entry in entries if entry["_TRANSPORT"] == transport]
        self.assertEqual({entry["SYSLOG_FACILITY"] for entry in entries}, {"2"})
        self.assertIn("postfix/smtpd", {entry["SYSLOG_IDENTIFIER"] for entry in entries})
        if transport == "journal":
            self.check_jail_of_the_journal(service)

    def check_jail_of_the_journal(self, service):
        """That of the recipe, but for the unit, which there is none of here."""
        if subprocess.run(["/usr/bin/python3", "-c", "import systemd.journal"], capture_output=True).returncode != 0:
            self.skipTest("needs python3-systemd")
        jail = recipes.block_with(RECIPE, "backend = systemd")
        self.check_jail(jail)
        unit, program = re.search(r"(?m)^journalmatch = (\S+) (\S+)$", jail).groups()
        self.assertEqual(unit, "_SYSTEMD_UNIT=postrider.service")
        self.assertEqual(program, "_EXE=/usr/sbin/postrider")
        mode, = re.findall(r"(?m)^mode += (\w+)$", jail)

        def found(*match):
            done = service.inside("fail2ban-regex", "-m", " ".join(match), "systemd-journal[journalpath=/run/log/journal]",
                                  f"postfix[mode={mode}]")
            return int(re.search(r"Failregex: (\d+) total", done.stdout)[1])
        here = (daemon.BIN / "postrider").resolve()
        self.assertEqual(found(f"_EXE={here}"), LOGINS + UNKNOWN + RELAY)
        # What another program writes under the daemon's name bans nobody.
        line = "warning: unknown[192.0.2.1]: SASL LOGIN authentication failed: x"
        service.inside("sh", "-c", f"printf 'SYSLOG_IDENTIFIER=postfix/smtpd\nMESSAGE={line}\n' | logger --journald")
        wait.until(lambda: service.read("-o", "cat").count(line) == 1, "the line of another")
        self.assertEqual(found(f"_EXE={here}"), LOGINS + UNKNOWN + RELAY)
        self.assertEqual(found("SYSLOG_IDENTIFIER=postfix/smtpd"), LOGINS + UNKNOWN + RELAY + 1)

    def test_the_jail_of_a_file_is_one_that_fail2ban_takes(self):
        if "fail2ban-regex" in self.missing:
            self.skipTest("needs fail2ban")
        mail_log = self.own_folder("logs") / "mail.log"
        mail_log.touch()
        self.check_jail(recipes.block_with(RECIPE, "logpath").replace("/var/log/mail.log", str(mail_log)))

    def check_jail(self, text):
        configured = self.own_folder("fail2ban") / "fail2ban"
        shutil.copytree("/etc/fail2ban", configured, ignore=lambda *_: {"defaults-debian.conf"})  # of sshd
        (configured / "jail.d" / "postrider.conf").write_text(text)
        said = self.run_reader("fail2ban-client", "-c", str(configured), "-t")
        self.assertIn("OK: configuration test is successful", said)

    def test_the_journal_follows_a_message_and_has_priorities(self):
        if not scenario.is_root() or not journal.is_here():
            self.skipTest("needs root and journald")
        service = self.using(journal.Journal(self.own_folder("journal")))
        server = self.daemon_with({"format": "text", "target": "stderr"}, wrapper=service.wrapper())
        self.assertEqual(server.send(SENDER, f"{USER}@us.example", CONTENT).code, 250)
        self.assertEqual(server.send(f"{USER}@us.example", "bounced@far.example", CONTENT).code, 250)
        self.assertEqual(server.send(SENDER, "d@down.example", CONTENT).code, 250)
        server.wait_for_mail(2)
        wait.until(lambda: [m["status"] for m in server.queue()] == ["deferred"], "one is deferred")
        server.stop()

        def entries(*options):
            return [json.loads(line) for line in service.read("-o", "json", *options).splitlines()]
        wait.until(lambda: entries("POSTRIDER_EVENT=stopped"), "the journal has the last line")
        bounced, = entries("POSTRIDER_EVENT=attempted", "POSTRIDER_TO=bounced@far.example")
        followed = entries(f"POSTRIDER_ID={bounced['POSTRIDER_ID']}")
        names = [entry["POSTRIDER_EVENT"] for entry in followed]
        self.assertEqual((names[0], names[-1]), ("accepted", "removed"))
        self.assertIn("notice_created", names)
        created = followed[names.index("notice_created")]
        notice, = set(created["POSTRIDER_ID"]) - {bounced["POSTRIDER_ID"]}
        of_notice = [entry["POSTRIDER_EVENT"] for entry in entries(f"POSTRIDER_ID={notice}")]
        self.assertEqual((of_notice[0], of_notice[-1]), ("notice_created", "removed"))
        self.assertIn("attempted", of_notice)
        warned = entries("-p", "warning")
        self.assertIn("site_blocked", {entry["POSTRIDER_EVENT"] for entry in warned})
        self.assertEqual({entry["PRIORITY"] for entry in warned} - {"3", "4"}, set())
        for entry in entries():
            if entry.get("SYSLOG_IDENTIFIER") == "postrider":
                self.assertEqual(entry["SYSLOG_FACILITY"], "2")
                self.assertRegex(entry["MESSAGE"], r"^(debug|info|warn|error) \w")  # no second time

    def test_json_is_read_back_with_its_types(self):
        server = self.daemon_with({
            "format": "json", "target": str(self.own_folder("logs") / "log")})
        odd = '"odd \\"name\\\\"@far.example'
        self.assertEqual(server.send(odd, f"{USER}@us.example", CONTENT).code, 250)
        self.assertEqual(server.send(SENDER, "x@far.example", CONTENT).code, 250)
        server.wait_for_mail(1)
        server.wait_until_empty()
        server.stop()
        text = pathlib.Path(server.settings["log"]["target"]).read_text()
        entries = [json.loads(line, object_pairs_hook=daemon.unique) for line in text.splitlines()]
        accepted = [entry for entry in entries if entry["event"] == "accepted"]
        self.assertEqual(accepted[0]["from"], odd)
        self.assertEqual((type(accepted[0]["size"]), accepted[0]["nrcpt"]), (int, 1))
        self.assertNotEqual(accepted[0]["session"], accepted[0]["id"])
        sent, = [entry for entry in entries if entry["event"] == "attempted" and
                 entry["to"] == "x@far.example"]
        self.assertIs(sent["reused"], False)
        self.assertIn(type(sent["delay"]), (int, float))
        sessions = [entry for entry in entries if entry["event"] in ("connected", "disconnected")]
        self.assertTrue(sessions)
        self.assertTrue(all("id" not in entry and "session" in entry for entry in sessions))

    def test_logrotate_moves_the_file_and_nothing_is_lost(self):
        if shutil.which("logrotate") is None:
            self.skipTest("needs logrotate")
        folder = self.own_folder("logs")
        mail_log = folder / "mail.log"
        server = self.daemon_with({"format": "text", "target": str(mail_log)})
        other = self.daemon(log={"format": "text", "target": str(folder / "other.log")})  # postrider@other
        self.assertEqual(stat.S_IMODE(mail_log.stat().st_mode), 0o640)
        shipped = (scenario.daemon.ROOT / "etc/debian/postrider.logrotate").read_text()
        owner = f"{pwd.getpwuid(os.getuid()).pw_name} {grp.getgrgid(os.getgid()).gr_name}"
        for old, new in (("/var/log/postrider/", f"{folder}/"), ("su postrider adm", f"su {owner}")):
            self.assertIn(old, shipped)
            shipped = shipped.replace(old, new)
        rules = self.home / "logrotate.conf"
        rules.write_text(shipped)
        rules.chmod(0o644)
        self.assertEqual(server.send(SENDER, f"{USER}@us.example", CONTENT).code, 250)
        server.wait_for_mail(1)
        server.wait_until_empty()
        tools = self.own_folder("tools")
        (tools / "systemctl").write_text(
            f"""#!/bin/sh
echo "$1 $2 $3 $4" >{tools}/asked; shift 4
for unit; do
  case $unit in
    postrider.service) kill -HUP {server.process.pid} ;;
    "postrider@*.service") kill -HUP {other.process.pid} ;;
  esac
done
""")
        os.chmod(tools / "systemctl", 0o755)
        done = subprocess.run(["logrotate", "--force", "--state", str(self.home / "state"), str(rules)],
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              env={**os.environ, "PATH": f"{tools}:{os.environ['PATH']}"})
        self.assertEqual((done.returncode, done.stdout), (0, ""))
        self.assertEqual((tools / "asked").read_text(), "kill -s HUP --kill-whom=main\n")
        wait.until(lambda: mail_log.exists() and (folder / "other.log").exists(), "new files")
        self.assertEqual(server.send(SENDER, f"{USER}@us.example", CONTENT).code, 250)
        server.wait_for_mail(2)
        server.stop()
        old, new = (folder / "mail.log.1").read_text(), mail_log.read_text()
        self.assertEqual([text.count(" accepted ") for text in (old, new)], [1, 1])
        self.assertIn(" info started ", old)
        self.assertIn(" stopped ", new)
        self.assertEqual(stat.S_IMODE(mail_log.stat().st_mode), 0o640)


if __name__ == "__main__":
    scenario.main()
