#!/usr/bin/python3
"""What doc/recipes.md says is done as it stands there, but for paths, ports and users: Let's Encrypt's hook,
Dovecot, tokens for a smarthost."""
import imaplib
import os
import re
import shutil
import smtplib
import stat
import subprocess
import sys
import tomllib

from support_py import certificates, daemon, scenario, smarthost, smtp, token_endpoint, wait
from support_py.accounts import ANN, DAEMON, MAIL_GROUP
from support_py.relaying import Relaying
from support_py.tools import tool
from taken_over import World


def blocks(section):
    """The indented blocks of a section of the recipes, without their indent."""
    text = (daemon.ROOT / "doc" / "recipes.md").read_text()
    body = re.search(rf"(?ms)^## {re.escape(section)}\n(.*?)(?=^## |\Z)", text)[1]
    return [re.sub(r"(?m)^    ", "", block) for block in re.findall(r"(?m)(?:^    .*\n|^\n(?=    ))+", body)]


def block_with(section, words):
    found, = [block for block in blocks(section) if words in block]
    return found


class LetsEncrypt(World):
    SECTION = "Certificates of Let's Encrypt"

    def hook(self, pair):
        lineage = self.machine.folder / "letsencrypt" / "live" / "mx.example.org"
        lineage.mkdir(parents=True, exist_ok=True)
        os.chmod(self.machine.folder / "letsencrypt", 0o700)  # as certbot has it
        shutil.copy(pair.certificate, lineage / "fullchain.pem")
        shutil.copy(pair.key, lineage / "privkey.pem")
        os.chmod(lineage / "privkey.pem", 0o600)
        done = subprocess.run(
            [*self.machine.wrapper(), str(daemon.ROOT / "doc" / "examples" / "certbot" / "postrider")],
            env={**os.environ, "RENEWED_LINEAGE": str(lineage), "POSTRIDER_TLS": str(self.machine.folder / "tls"),
                 "POSTRIDER_GROUP": "pridaemon"}, capture_output=True, text=True, timeout=wait.DEADLINE)
        self.assertEqual(done.returncode, 0, done.stderr)

    def shown(self, server):
        with smtplib.SMTP("127.0.0.1", server.port, timeout=wait.DEADLINE) as client:
            client.starttls(context=certificates.context())
            return client.sock.getpeercert(binary_form=True)

    def test_a_renewal_is_taken_up_by_a_daemon_that_is_not_root(self):
        first, second = (certificates.Pair(self.own_folder(name), "mx") for name in ("first", "second"))
        self.hook(first)
        text = block_with(self.SECTION, "[tls]").replace("/etc/postrider/tls", str(self.machine.folder / "tls"))
        port = wait.free_port()
        server = self.start(tls=tomllib.loads(text)["tls"],
                            listeners=[{"address": f"127.0.0.1:{port}", "role": "mx", "tls": "starttls"}])
        server.port = port
        self.assertEqual(self.shown(server), first.der)
        for name, mode in (("", 0o750), ("fullchain.pem", 0o640), ("privkey.pem", 0o640)):
            about = os.stat(self.machine.folder / "tls" / "mx.example.org" / name)
            self.assertEqual((about.st_uid, about.st_gid, stat.S_IMODE(about.st_mode)), (0, DAEMON, mode), name)
        self.hook(second)
        wait.until(lambda: self.shown(server) == second.der, "the new certificate")
        # It needs the rights of the recipe: of a plain copy, for root alone, nothing is taken.
        third = certificates.Pair(self.own_folder("third"), "mx")
        place = self.machine.folder / "tls" / "mx.example.org"
        for source, name in (third.key, "privkey.pem"), (third.certificate, "fullchain.pem"):
            (place / name).unlink()
            shutil.copy(source, place / name)
            os.chmod(place / name, 0o600)
        server.wait_for_log("certificate_refused")
        self.assertEqual(self.shown(server), second.der)

    def test_a_hook_that_fails_leaves_what_was_there(self):
        pair = certificates.Pair(self.own_folder("first"), "mx")
        self.hook(pair)
        place = self.machine.folder / "tls" / "mx.example.org"
        done = subprocess.run([str(daemon.ROOT / "doc" / "examples" / "certbot" / "postrider")],
                              env={**os.environ, "RENEWED_LINEAGE": "/nonexistent/mx.example.org",
                                   "POSTRIDER_TLS": str(self.machine.folder / "tls"), "POSTRIDER_GROUP": "root"},
                              capture_output=True, text=True, timeout=wait.DEADLINE)
        self.assertNotEqual(done.returncode, 0)
        self.assertEqual((place / "fullchain.pem").read_bytes(), pair.certificate.read_bytes())


class Network(Relaying):
    HOOK = daemon.ROOT / "doc" / "examples" / "network" / "postrider"

    def test_what_waits_is_tried_when_the_network_is_up(self):
        port = wait.free_port()
        server = self.daemon(delivery={"retry": ["10m"]}, route=[
            {"domain": "*", "next_hop": f"smtp://127.0.0.1:{port}", "tls": "off"}])
        smtp.send(server.port, "a@ext.example", ["b@far.example"], b"Subject: later\r\n\r\nx\r\n")
        server.wait_for_log("attempted", verdict="deferred")
        environment = {**server.environment(), "PATH": f"{daemon.BIN}:{os.environ['PATH']}"}

        def hook(*arguments, **variables):
            done = subprocess.run([str(self.HOOK), *arguments], env={**environment, **variables}, capture_output=True,
                                  text=True, timeout=wait.DEADLINE)
            self.assertEqual((done.returncode, done.stdout + done.stderr), (0, ""))
        tried = len(server.log("attempted"))
        hook("eth0", "down")
        hook("lo", "up")
        hook(IFACE="lo")
        self.assertEqual(len(server.log("attempted")), tried)
        self.assertEqual(server.log("queue_changed"), [])
        host = self.sink(port=port)
        hook("eth0", "up")
        host.wait_for(1)
        server.wait_until_empty()
        hook(IFACE="eth0")
        self.assertEqual(len(server.wait_for_log("queue_changed", 2)), 2)
        server.stop()
        hook("eth0", "up")  # nobody has to hurry


class UnderTheUnit(World):
    def under_the_unit(self, folder):
        """As ProtectSystem=strict has a folder that ReadWritePaths= does not name."""
        return [sys.executable, "-c", f'''
import os, subprocess, sys
subprocess.run(["mount", "--bind", "{folder}", "{folder}"], check=True)
subprocess.run(["mount", "-o", "remount,bind,ro", "{folder}"], check=True)
os.execvp(sys.argv[1], sys.argv[1:])''']


class SpoolElsewhere(UnderTheUnit):
    SECTION = "The spool on another disk"

    def test_another_spool(self):
        folders = dict(re.findall(r"install -d -o postrider -g postrider -m (\d+) /srv/spool(\S*)$",
                                  block_with(self.SECTION, "install -d"), re.M))
        self.assertEqual(block_with(self.SECTION, "[Service]").strip(), "[Service]\nReadWritePaths=-/srv/spool")
        self.assertEqual(tomllib.loads(block_with(self.SECTION, "spool = ")), {"spool": "/srv/spool"})
        top = None
        for mode, name in folders.items():
            top = self.machine.make("srv" + name, DAEMON, DAEMON, int(mode, 8)) if top is None else top
            if name:
                (top / name[1:]).mkdir()
                os.chown(top / name[1:], DAEMON, DAEMON)
                os.chmod(top / name[1:], int(mode, 8))
        wrapper = self.machine.wrapper
        self.machine.wrapper = lambda: [*wrapper(), *self.under_the_unit(top)]
        with self.assertRaisesRegex(AssertionError, "(?i)read-only"):
            self.start(spool=str(top))
        server = self.things[-1]
        server.wrapper = wrapper()  # the drop-in
        server.start()
        smtp.send(server.port, "a@ext.example", ["ann@us.example"], b"Subject: x\r\n\r\nx\r\n")
        server.wait_until_empty()
        self.assertTrue((top / "queue.db").exists())


class MailboxesElsewhere(UnderTheUnit):
    SECTION = "Mailboxes in a folder of their own"

    def test_a_folder_that_the_unit_may_not_write_and_then_may(self):
        made = re.match(r"install -d -o postrider -g postrider -m (\d+) (\S+)$", block_with(self.SECTION, "postrider -g").strip())
        mode, named = made.groups()
        self.assertEqual(block_with(self.SECTION, "[Service]").strip(), f"[Service]\nReadWritePaths=-{named}")
        folder = self.machine.make("srv", DAEMON, DAEMON, int(mode, 8))
        virtual, table = block_with(self.SECTION, "virtual").split("\n\n")
        boxes = self.machine.folder / "boxes"
        boxes.write_text(table.replace(named, str(folder)))
        given = tomllib.loads(virtual.replace("/etc/postrider/boxes", str(boxes)))
        self.machine_wrapper = self.machine.wrapper
        self.machine.wrapper = lambda: [*self.machine_wrapper(), *self.under_the_unit(folder)]
        server = self.start(local=given["local"], delivery={"retry": ["10m"]})
        smtp.send(server.port, "a@ext.example", ["ann@box.example.org"], b"Subject: to a box\r\n\r\nx\r\n")
        waits, = server.wait_for_log("attempted", verdict="deferred")
        self.assertIn("Read-only file system", waits["reason"])
        server.stop()
        server.wrapper = self.machine_wrapper()  # the drop-in, and a restart
        server.start()
        server.retry_all()
        server.wait_until_empty()
        box = folder / "box.example.org" / "ann"
        message, = (box / "new").iterdir()
        self.assertIn("Subject: to a box", message.read_text())
        self.assertEqual((os.stat(message).st_uid, stat.S_IMODE(os.stat(box).st_mode) & 0o077), (DAEMON, 0))

    def test_the_other_folder_as_it_is_said(self):
        line, = re.findall(r"`install -d -o root -g mail -m (\d+) /srv/mail`",
                           (daemon.ROOT / "doc" / "recipes.md").read_text())
        folder = self.machine.make("srv", 0, MAIL_GROUP, int(line, 8))
        server = self.start(local={"mailbox": f"maildir:{folder}/{{user}}/"})
        smtp.send(server.port, "a@ext.example", ["ann@us.example"], b"Subject: to ann\r\n\r\nx\r\n")
        server.wait_until_empty()
        message, = (folder / "ann" / "new").iterdir()
        self.assertEqual(os.stat(message).st_uid, ANN)


class Dropins(scenario.Scenario):
    UNIT = daemon.ROOT / "etc" / "postrider.service.in"

    def test_each_folder_that_a_recipe_writes_is_one_of_the_units_or_of_a_drop_in(self):
        """Places for mail and commands' folders in the recipes, the manuals and the samples of tables."""
        unit = re.findall(r"-(/\S+)", " ".join(re.findall(r"(?m)^ReadWritePaths=(.*)", self.UNIT.read_text())))
        allowed = [*unit, "/var/spool/postrider", "/run", "/dev/null"]
        for name in ("doc/recipes.md", "README.md", "man/aliases.5", "man/postrider.toml.5", "etc/postrider.toml",
                     "etc/debian/postrider.toml", *[f"etc/tables/{one.name}" for one in (daemon.ROOT / "etc/tables").iterdir()]):
            text = (daemon.ROOT / name).read_text()
            added = re.findall(r"ReadWritePaths=-(/[\w./-]+)", text)
            for place in re.findall(r"\b(?:maildir|mbox):(/[\w./-]*)", text):
                self.assertTrue(any(place.startswith(one) for one in (*allowed, *added)), f"{name}: {place}")


class Dovecot(World):
    SECTION = "Dovecot: mailboxes by LMTP, logins"
    BASE = """
base_dir = {folder}/run
state_dir = {folder}/state
log_path = {folder}/log
ssl = no
listen = 127.0.0.1
mail_location = maildir:{folder}/mail/%n
disable_plaintext_auth = no
first_valid_uid = 1
passdb {{
  driver = passwd-file
  args = {folder}/passwd
}}
userdb {{
  driver = static
  args = uid={uid} gid={uid} home={folder}/mail/%n
}}
service imap-login {{
  chroot =
  inet_listener imap {{
    port = {imap}
  }}
}}
service anvil {{
  chroot =
}}
"""

    def setUp(self):
        super().setUp()
        self.place = self.machine.make("dovecot", 0, 0, 0o755)
        self.imap = wait.free_port()
        (self.place / "mail").mkdir()
        os.chown(self.place / "mail", ANN, ANN)
        (self.place / "passwd").write_text("ann:{PLAIN}secret::::::\ncarol@box.example.org:{PLAIN}secret::::::\n")

    def as_here(self, text):
        return text.replace("/run/dovecot", str(self.place / "run"))

    def run_dovecot(self, **changes):
        text = block_with(self.SECTION, "service lmtp").replace("user = postrider", "user = pridaemon")
        for old, new in changes.items():
            text = text.replace(old, new)
        file = self.place / "dovecot.conf"
        file.write_text(self.BASE.format(folder=self.place, uid=ANN, imap=self.imap) + text)
        process = subprocess.Popen([*self.machine.wrapper(), tool("dovecot"), "-F", "-c", str(file)],
                                   stdout=subprocess.DEVNULL, stderr=open(self.place / "stderr", "wb"))

        def stop():
            process.terminate()
            process.wait(wait.DEADLINE)
        self.addCleanup(stop)
        wait.until(lambda: all((self.place / "run" / name).exists() for name in ("lmtp", "postrider-auth")),
                   lambda: "Dovecot's sockets\n" + self.report())

    def report(self):
        return "".join((self.place / name).read_text() for name in ("stderr", "log") if (self.place / name).exists())

    def read(self, user):
        with imaplib.IMAP4("127.0.0.1", self.imap) as imap:
            imap.login(user, "secret")
            imap.select("INBOX")
            return [imap.fetch(number, "(RFC822)")[1][0][1] for number in imap.search(None, "ALL")[1][0].split()]

    def test_users_of_this_machine(self):
        self.run_dovecot()
        for name in ("lmtp", "postrider-auth"):
            about = os.stat(self.place / "run" / name)
            self.assertEqual((about.st_uid, stat.S_IMODE(about.st_mode)), (DAEMON, 0o600))
        given = tomllib.loads(self.as_here(block_with(self.SECTION, "[auth]")))
        pair = certificates.Pair(self.own_folder("tls"), "mx")
        for path in (pair.certificate, pair.key):
            os.chown(path, DAEMON, DAEMON)
        os.chmod(pair.key.parent, 0o755)
        ports = wait.free_port(), wait.free_port()
        listeners = [{"address": f"127.0.0.1:{ports[0]}", "role": "mx", "tls": "off"},
                     {**given["listener"][0], "address": f"127.0.0.1:{ports[1]}"}]
        server = self.start(local=given["local"], auth=given["auth"], listeners=listeners,
                            tls={"certificate": str(pair.certificate), "key": str(pair.key)})
        smtp.send(ports[0], "a@ext.example", ["ann@us.example"], b"Subject: by LMTP\r\n\r\nx\r\n")
        wait.until(lambda: len(self.read("ann")) == 1, lambda: "the message\n" + self.report())
        self.assertIn(b"Subject: by LMTP", self.read("ann")[0])
        with smtp.Client(ports[0]) as client:
            client.hello()
            client.expect("MAIL FROM:<a@ext.example>", 250)
            client.expect("RCPT TO:<nobody-here@us.example>", 550)
        with smtplib.SMTP("127.0.0.1", ports[1], timeout=wait.DEADLINE) as client:
            client.starttls(context=certificates.context())
            with self.assertRaises(smtplib.SMTPAuthenticationError):
                client.login("ann", "wrong")
        with smtplib.SMTP("127.0.0.1", ports[1], timeout=wait.DEADLINE) as client:
            client.starttls(context=certificates.context())
            client.login("ann", "secret")
            client.sendmail("ann@us.example", ["ann@us.example"], "Subject: by login\r\n\r\nx\r\n")
        wait.until(lambda: len(self.read("ann")) == 2, "the second message")

    def test_users_that_Dovecot_alone_has(self):
        self.run_dovecot(**{"%Ln": "%Lu"})
        boxes = self.machine.folder / "boxes"
        line, = re.findall(r"(?m)`(carol@box\.example\.org x)`", (daemon.ROOT / "doc" / "recipes.md").read_text())
        boxes.write_text(line + "\n")
        text = self.as_here(block_with(self.SECTION, "relay_recipients")).replace("/etc/postrider/boxes", str(boxes))
        server = self.start(**tomllib.loads(text))
        with smtp.Client(server.port) as client:
            client.hello()
            client.expect("MAIL FROM:<a@ext.example>", 250)
            client.expect("RCPT TO:<dave@box.example.org>", 550)
        smtp.send(server.port, "a@ext.example", ["carol@box.example.org"], b"Subject: to carol\r\n\r\nx\r\n")
        wait.until(lambda: len(self.read("carol@box.example.org")) == 1, lambda: "the message\n" + self.report())


class Smarthosts(Relaying):
    """The files of credentials as the recipe has them, judged by a host and an endpoint of ours."""
    SECTION = "Gmail or Microsoft 365 as the smarthost"

    def use(self, endpoint, scope):
        given = block_with(self.SECTION, f"token_endpoint = {endpoint}")
        keys = dict(line.split(" = ", 1) for line in given.splitlines() if line)
        host = self.using(smarthost.Smarthost(self.certificate, ["XOAUTH2"]))
        trader = self.using(token_endpoint.TokenEndpoint(self.certificate, good=host.tokens,
                                                         refresh=(keys["refresh_token"],)))
        trader.CLIENT = keys["client_id"], keys.get("client_secret")
        ours = dict(line.split(" = ", 1) for line in trader.credentials(keys["user"]).splitlines())
        text = given.replace(keys["token_endpoint"], ours["token_endpoint"])
        server = self.relaying(host, text)
        self.send_on(server, host)
        self.assertEqual(host.logins, [("XOAUTH2", keys["user"], True)])
        form = trader.asked[0][1]
        self.assertEqual(form["client_id"], keys["client_id"])
        self.assertEqual(form.get("client_secret"), keys.get("client_secret"))
        self.assertEqual(form.get("scope"), scope)
        self.assert_no_alarm(server)

    def test_Gmail(self):
        self.use("https://oauth2.googleapis.com/token", None)

    def test_Microsoft_365(self):
        self.use("https://login.microsoftonline.com/TENANT/oauth2/v2.0/token",
                 "https://outlook.office.com/SMTP.Send offline_access")

    def test_the_routes_verify_their_host(self):
        """As they stand: check refuses neither, and both have TLS that is verified, since it is not said otherwise."""
        for name, place in (("gmail", "smtp.gmail.com"), ("m365", "smtp.office365.com")):
            server = self.daemon(start=False)
            file = server.folder / name
            words = {"gmail": "oauth2.googleapis.com", "m365": "login.microsoftonline.com/TENANT/oauth2/v2.0/token\nclient"}[name]
            file.write_text(block_with(self.SECTION, words))
            file.chmod(0o640)
            route, = tomllib.loads(block_with(self.SECTION, place).replace(f"/etc/postrider/{name}", str(file)))["route"]
            server.write_config(route=[route])
            server.tool("postrider", "check")
            self.assertIn('tls = "verify"', server.postrider("config"))


if __name__ == "__main__":
    scenario.main()
