#!/usr/bin/python3
"""An alias includes a list that a user keeps: whatever becomes of that file, the others of the alias have
their mail at once, and the list's own members have theirs once it can be used. Needs root."""
import collections
import os
import shutil
import threading

from support_py import daemon, scenario, wait
from support_py.accounts import BOB, DAEMON, Machine

CONTENT = b"Subject: x\r\n\r\nx\r\n"
MANY = 300  # members whose addresses are more than is kept of an expansion as it is


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
                (lambda: self.write("|/bin/id\n"), lambda: self.write("|/bin/id\nbob\n"))), 1):
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

    def test_long_lists_of_others_and_of_the_same(self):
        """Each member of two long lists has one copy, whether the lists name the same people or not, and
        though the daemon was stopped between the two."""
        server = self.sink()
        machine = daemon.Postrider(
            self.own_folder("hub"), delivery={"retry": ["1s"]},
            route=[{"domain": "*", "next_hop": f"smtp://127.0.0.1:{server.port}"}])
        self.using(machine)
        first, second = machine.folder / "first", machine.folder / "second"
        (machine.folder / "aliases").write_text(f"all: :include:{first}, :include:{second}\n")
        for round_number, (theirs, is_stopped) in enumerate((("others", False), ("first", True))):
            names = {who: [f"{who}{number}.{round_number}@dst.example" for number in range(MANY)]
                     for who in ("first", "others")}
            second.unlink(missing_ok=True)
            first.write_text("\n".join(names["first"]) + "\n")
            os.utime(first, (1, 1))
            if not round_number:
                machine.start()
            self.assertEqual(machine.send("a@ext.example", "all@us.example", CONTENT).code, 250)
            copies = lambda: collections.Counter(to for mail in server.messages for to, _ in mail.recipients)
            wait.until(lambda: len(copies()) >= MANY * (round_number * 2 + 1), "copies for the first list")
            if is_stopped:
                machine.stop()
                machine.start()
            second.with_suffix(".new").write_text("\n".join(names[theirs]) + "\n")
            os.utime(second.with_suffix(".new"), (1, 1))
            second.with_suffix(".new").rename(second)
            machine.wait_until_empty()
            wanted = set(names["first"]) | set(names[theirs])
            got = {to: number for to, number in copies().items() if f".{round_number}@" in to}
            self.assertEqual((set(got), set(got.values())), (wanted, {1}))


if __name__ == "__main__":
    scenario.main()
