#!/usr/bin/python3
"""A file system whose server, a user's program, never answers: whoever asks it anything waits without
end, and cannot be killed. Nothing of the daemon or its parent asks. One that root has mounted may hang, too:
who asks it waits alone, and not for long. Needs root, to mount them."""
import contextlib
import json
import os
import pathlib
import shutil
import signal
import sqlite3
import subprocess

from support_py import daemon, fuse, scenario, tools, wait
from support_py.accounts import BOB, DAEMON, Machine

CONTENT = b"Subject: hello\r\n\r\nx\r\n"


class UserMounts(scenario.Scenario):
    def setUp(self):
        super().setUp()
        if not scenario.is_root() or not shutil.which("unshare"):
            self.skipTest("needs root")
        self.machine = Machine(self.own_folder("machine"))
        self.bobs = self.machine.homes / "bob"
        self.silent = self.using(fuse.Silent(self.bobs, BOB))
        if not self.silent.is_mounted:
            self.skipTest("there is no FUSE")

    def start(self, **settings):
        machine = self.machine
        self.aliases = machine.folder / "aliases"
        self.write_aliases("")
        server = daemon.Postrider(
            machine.make("d", DAEMON, DAEMON, 0o755), wrapper=machine.wrapper(), user="pridaemon",
            local={"domains": ["us.example"], "mailbox": f"maildir:{machine.mail}/{{user}}/",
                   "aliases": [str(self.aliases)], **settings.pop("local", {})}, **settings)
        os.chmod(server.config_file, 0o644)
        self.server = self.using(server)
        server.start()
        self.addCleanup(self.silent.stop)  # before the daemon's end, whatever holds it up
        return server

    def write_aliases(self, text):
        new = self.aliases.with_suffix(".new")
        new.write_text(text)
        new.rename(self.aliases)

    def send(self, *users):
        self.assertEqual(self.server.send("a@ext.example", [f"{user}@us.example" for user in users],
                                          CONTENT).code, 250)

    def mails(self, user, folder=None):
        return len(list((folder or self.machine.mail / user).glob("new/*")))

    @contextlib.contextmanager
    def stopped(self):
        """The daemon's processes do nothing meanwhile."""
        processes = [self.server.process.pid]
        for one in processes:
            os.kill(one, signal.SIGSTOP)
            processes += tools.children_of(one)
        try:
            yield
        finally:
            for one in processes:
                os.kill(one, signal.SIGCONT)

    def mounted(self, folder, owner, **settings):
        """Another one. Ended before the daemon is."""
        made = fuse.Silent(folder, owner, **settings)
        self.assertTrue(made.is_mounted)
        self.addCleanup(made.stop)
        return made

    def reload_with(self, **changes):
        """The exit code and what is said, and the lines of that configuration; then the one before is back."""
        settings, before = self.server.settings, self.server.config_file.read_text()
        self.server.write_config(**changes)
        lines = self.server.config_file.read_text().splitlines()
        result = self.server.tool("postrider", "reload", check=False)
        self.server.settings = settings
        self.server.config_file.write_text(before)
        return result.returncode, result.stdout + result.stderr, lines

    def assert_nobody_asked(self, *mounts):
        for mount in mounts or (self.silent,):
            self.assertEqual(mount.askers, [])

    def parents(self):
        """The process that keeps the rights, a child of the daemon's."""
        wanted = f"\nPPid:\t{self.server.process.pid}\n"
        found = []
        for path in pathlib.Path("/proc").glob("[0-9]*"):
            try:
                if wanted in (path / "status").read_text():
                    found.append(int(path.name))
            except OSError:  # it has ended
                continue
        return found

    def assert_all_is_well(self, mails=1):
        """Another's mail arrives, and the daemon ends when it is told to."""
        self.send("ann")
        wait.until(lambda: self.mails("ann") == mails, "the mail of another user")
        ours = {self.server.process.pid, *self.parents()}
        self.server.signal(signal.SIGTERM)
        wait.until(lambda: self.server.process.poll() is not None, "the daemon's end")
        self.assertFalse(ours & set(self.silent.askers))

    def test_a_forward_file(self):
        self.start()
        self.send(*["bob"] * 5, *[f"bob+{number}" for number in range(20)])
        wait.until(lambda: self.silent.askers, "a process that reads the file")
        self.assert_all_is_well()

    def test_lists(self):
        self.start()
        self.write_aliases("".join(f"list{number}: :include:{self.bobs}/list{number}\n"
                                   for number in range(40)))
        self.server.wait_for_log("table_read")
        self.send(*(f"list{number}" for number in range(40)))
        wait.until(lambda: len(self.server.log("attempted", verdict="deferred")) == 40,
                   "the lists, which cannot be used")
        self.assert_all_is_well()
        self.assertEqual(self.silent.askers, [])

    def test_a_mailbox_of_no_account(self):
        """At RCPT: whether there is such a folder cannot be told, for that name alone."""
        homes = self.machine.homes
        ghost = self.mounted(homes / "ghost", BOB)
        self.start(local={"mailbox": f"maildir:{homes}/{{user}}/Maildir/"})
        with self.server.client() as client:
            client.hello()
            client.expect("MAIL FROM:<a@ext.example>", 250)
            for number in range(20):
                client.expect(f"RCPT TO:<ghost+{number}@us.example>", 451)
            client.expect("RCPT TO:<ann@us.example>", 250)
            client.expect("RCPT TO:<bob@us.example>", 250)
        self.assert_nobody_asked(ghost, self.silent)

    def test_a_mailbox_in_a_home(self):
        """The delivery waits, as the user; others' do not."""
        homes = self.machine.homes
        self.start(local={"mailbox": f"maildir:{homes}/{{user}}/Maildir/", "forward": ""})
        self.send(*["bob"] * 5, *[f"bob+{number}" for number in range(20)])
        wait.until(lambda: self.silent.askers, "a process that delivers")
        self.send("ann")
        wait.until(lambda: self.mails("ann", homes / "ann" / "Maildir") == 1, "another's mail")
        self.assertFalse({self.server.process.pid, *self.parents()} & set(self.silent.askers))

    def test_files_of_the_configuration(self):
        """Those that a reload names are not asked; the configuration before stays."""
        self.start()
        where = f"{self.bobs}/there"
        certificate = f"{self.bobs}/cert.pem"
        for change, key in (({"dkim": {"folder": where}}, "dkim.folder"),
                            ({"dkim": {"keys": [f"us.example:s1:{where}"]}}, "dkim.keys"),
                            ({"tls": {"certificate": certificate, "key": where}}, "tls.certificate"),
                            ({"auth": {"users": where}}, "auth.users"),
                            ({"local": {"srs": True, "srs_key": where}}, "local.srs_key"),
                            ({"local": {"virtual": [f"cdb:{where}"]}}, "local.virtual"),
                            ({"local": {"virtual": [f"sqlite:{where}?SELECT v FROM t WHERE k = :key"]}},
                             "local.virtual")):
            with self.subTest(key=key, change=change):
                self.reload_with(**change)
                self.assert_nobody_asked()
        self.assert_all_is_well()
        self.assert_nobody_asked()

    def test_a_database_beside_which_something_is_mounted_later(self):
        """SQLite looks for a journal at each question."""
        folder = self.machine.make("tables", BOB, BOB, 0o755)
        with sqlite3.connect(folder / "db") as database:
            database.execute("CREATE TABLE t (k TEXT, v TEXT)")
            database.executemany("INSERT INTO t VALUES (?, ?)",
                                 [(f"list{number}@us.example", "ann@us.example") for number in range(9)])
        database.close()
        os.chmod(folder / "db", 0o644)
        self.start(local={"virtual": [f"sqlite:{folder}/db?SELECT v FROM t WHERE k = :key"]})
        self.send("list0")
        later = self.mounted(folder, BOB, process=self.server.process.pid)
        for number in range(1, 9):
            self.send(f"list{number}")
        wait.until(lambda: self.mails("ann") == 9, "what the database names")
        self.assert_all_is_well(mails=10)
        self.assert_nobody_asked(later)

    def test_the_drop_folder(self):
        """Folders in it, which their owners may mount something on."""
        self.start()
        drop = self.server.folder / "spool" / "drop"
        mounts = []
        with self.stopped():  # a folder that is nothing but a wrong file is put aside at once
            for name in ("msg.1", "taken.1", "other", "msg.9.bad"):
                (drop / name).mkdir()
                os.chown(drop / name, BOB, BOB)
                mounts.append(self.mounted(drop / name, BOB, process=self.server.process.pid))
        os.mkfifo(drop / "msg.2")
        (drop / "msg.3").symlink_to(self.bobs)
        (drop / "tmp.ann").write_bytes(json.dumps({
            "sender": "a@us.example", "recipients": ["ann@us.example"], "author": "a@us.example",
            "size": len(CONTENT)}).encode() + b"\n" + CONTENT)
        (drop / "tmp.ann").rename(drop / "msg.ann")
        wait.until(lambda: self.mails("ann") == 1, "the message that was dropped")
        self.server.mailq()
        self.assert_all_is_well(mails=2)
        self.assert_nobody_asked(*mounts)

    def test_messages_that_root_imports(self):
        """What a user gives to root to be imported."""
        self.start().stop()
        (self.machine.homes / "ann" / "mail").symlink_to(self.bobs)
        for path in (self.bobs / "1.eml", self.machine.homes / "ann" / "mail" / "1.eml"):
            done = subprocess.run([*self.machine.wrapper(), daemon.BIN / "postrider", "queue", "import", path],
                                  env=self.server.environment(), capture_output=True, text=True, timeout=wait.DEADLINE)
            self.assertNotEqual(done.returncode, 0)
            self.assertIn("lies on a file system of a user's", done.stdout + done.stderr)
        self.assert_nobody_asked()
        self.silent.stop()

    def test_a_mount_of_roots_that_hangs(self):
        """A reload that needs it is refused and says which key; what does not need it goes on."""
        hung = self.mounted(self.machine.folder / "nfs", 0)
        self.start()
        other = self.machine.folder / "virtual"
        other.write_text("list@us.example ann@us.example\n")
        self.server.write_config(local={"virtual": [f"text:{other}"]})
        self.assertEqual(self.reload_with()[0], 0)
        for change, key in (({"dkim": {"folder": str(hung.folder)}}, "dkim.folder"),
                            ({"tls": {"certificate": f"{hung.folder}/c", "key": f"{hung.folder}/k"}},
                             "tls.certificate"),
                            ({"local": {"virtual": [f"text:{hung.folder}/v"]}}, "local.virtual"),
                            ({"route": [{"domain": "*", "next_hop": "smtps://relay.example:465",
                                         "credentials": f"{hung.folder}/c"}]}, "route.credentials")):
            with self.subTest(key=key):
                code, said, lines = self.reload_with(**change)
                self.assertEqual(code, 78)
                line = next(number for number, text in enumerate(lines, 1) if str(hung.folder) in text)
                self.assertIn(f"{self.server.config_file}:{line}: {key}: ", said)
                self.assertIn("could not be read in time", said)
        self.assertTrue(hung.askers)
        read = len(self.server.log("table_read"))
        other.with_suffix(".new").write_text("later@us.example ann@us.example\n")
        other.with_suffix(".new").rename(other)
        self.server.wait_for_log("table_read", count=read + 1)
        self.send("later")
        wait.until(lambda: self.mails("ann") == 1, "the table as it is now")
        self.assertEqual(self.reload_with()[0], 0)
        hung.stop()  # a process does not end before its threads do
        self.server.stop()

    def test_a_configuration_on_a_mount_of_roots_that_hangs(self):
        """A reload is refused, and the daemon goes on with what it has."""
        self.start()
        server, machine = self.server, self.machine
        server.stop()
        folder = machine.make("conf", 0, 0, 0o755)
        server.config_file = folder / "postrider.toml"
        server.write_config()
        server.start()
        hung = self.mounted(folder, 0, process=server.process.pid)
        for refused in (1, 2):
            server.reload()
            line = server.wait_for_log("config_refused", count=refused)[-1]
            self.assertIn("could not be read in time", line["problem"])
        self.assertTrue(hung.askers)
        self.send("ann")
        wait.until(lambda: self.mails("ann") == 1, "mail, which goes on")
        hung.stop()  # a process does not end before its threads do
        server.stop()


if __name__ == "__main__":
    scenario.main()
