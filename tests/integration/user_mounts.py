#!/usr/bin/python3
"""A file system whose server, a user's program, never answers: whoever asks it anything waits without
end, and cannot be killed. Nothing of the daemon or its parent asks. Needs root, to mount it."""
import os
import pathlib
import shutil
import signal

from support_py import daemon, fuse, scenario, wait
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

    def mails(self, user):
        return len(list((self.machine.mail / user).glob("new/*")))

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


if __name__ == "__main__":
    scenario.main()
