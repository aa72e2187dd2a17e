#!/usr/bin/python3
"""An alias includes a list that a user keeps: whatever becomes of that file, the others of the alias have
their mail at once, and the list's own members have theirs once it can be used. Needs root."""
import os
import shutil
import threading

from support_py import daemon, scenario, wait
from support_py.accounts import BOB, DAEMON, Machine

CONTENT = b"Subject: x\r\n\r\nx\r\n"


class Held(scenario.Scenario):
    def setUp(self):
        super().setUp()
        if not scenario.is_root() or not shutil.which("unshare"):
            self.skipTest("needs root")
        self.machine = Machine(self.own_folder("machine"))
        home = self.machine.homes / "bob"
        os.chmod(home, 0o755)
        self.list = home / "list"
        self.write("bob\nann\n")
        folder = self.machine.make("d", DAEMON, DAEMON, 0o755)
        self.server = daemon.Postrider(
            folder, wrapper=self.machine.wrapper(), user="pridaemon", delivery={"retry": ["1s"]},
            local={"domains": ["us.example"], "mailbox": f"maildir:{self.machine.mail}/{{user}}/"},
            sandbox={"read": [str(self.machine.homes)]})
        os.chmod(self.server.config_file, 0o644)
        aliases = self.server.folder / "aliases"
        aliases.write_text(f"all: ann, :include:{self.list}\nalone: :include:{self.list}\n")
        os.chmod(aliases, 0o644)
        self.using(self.server)
        self.server.start()

    def write(self, text):
        fresh = self.list.with_suffix(".new")
        fresh.write_text(text)
        os.chmod(fresh, 0o644)
        os.chown(fresh, BOB, BOB)
        os.utime(fresh, (1, 1))
        fresh.rename(self.list)

    def count(self, user):
        box = self.machine.mail / user / "new"
        return len(os.listdir(box)) if box.exists() else 0

    def arrives(self, user, count):
        wait.until(lambda: self.count(user) >= count,
                   lambda: f"{count} messages for {user}; {self.count(user)} came, and "
                           f"{self.server.queue()}")

    def send(self, to="all@us.example"):
        self.assertEqual(self.server.send("a@ext.example", to, CONTENT).code, 250)

    def drained(self, ann, bob):
        self.server.wait_until_empty()
        self.assertEqual((self.count("ann"), self.count("bob")), (ann, bob))

    def test_a_file_that_its_owner_takes_away(self):
        for number, (take, give) in enumerate((
                (lambda: os.chmod(self.list, 0), lambda: os.chmod(self.list, 0o644)),
                (self.list.unlink, lambda: self.write("bob\nann\n")),
                (lambda: self.write("bob\n|/bin/id\n"), lambda: self.write("bob\n"))), 1):
            take()
            self.send()
            self.arrives("ann", number)
            wait.until(lambda: self.server.queue("--status", "deferred"), "what waits for the list")
            self.assertEqual(self.count("bob"), number - 1)
            give()
            self.arrives("bob", number)
            self.drained(number, number)  # ann is in the list, too, and has it once

    def test_a_file_whose_stamps_are_kept_moving(self):
        self.write("bob\nann")  # without an end, as if more was to come
        ends = threading.Event()

        def touch():
            while not ends.wait(0.1):
                os.utime(self.list)
        toucher = threading.Thread(target=touch)
        toucher.start()
        try:
            os.utime(self.list)
            self.send()
            self.arrives("ann", 1)
            self.send("alone@us.example")
            self.arrives("bob", 2)  # it is still being touched
            self.drained(2, 2)
        finally:
            ends.set()
            toucher.join()


if __name__ == "__main__":
    scenario.main()
