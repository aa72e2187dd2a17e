#!/usr/bin/python3
"""The daemon's user is an attacker, and waits for root's tools: what that user publishes, links and owns
leads them nowhere but into the spool of the configuration, as that user. Needs root."""
import fcntl
import json
import os
import pathlib
import shutil
import socket
import struct
import subprocess

from support_py import daemon, scenario, wait
from support_py.accounts import BOB, DAEMON, Machine

F_OFD_SETLK = 37
MAIL = "Subject: x\n\nbody\n"
TO = "reader@far.example"


class Led(scenario.Scenario):
    def setUp(self):
        super().setUp()
        if not scenario.is_root() or not shutil.which("unshare"):
            self.skipTest("needs root")
        self.machine = Machine(self.own_folder("machine"))
        self.run_folder = self.machine.make("run", DAEMON, DAEMON, 0o755)
        self.spool = self.machine.make("spool", DAEMON, DAEMON, 0o711)
        place = self.machine.make("d", 0, 0, 0o755)
        closed = wait.free_port()
        self.server = daemon.Postrider(
            place, wrapper=self.machine.wrapper(), user="pridaemon", spool=str(self.spool),
            control={"socket": str(self.run_folder / "control")},
            log={"target": str(self.run_folder / "log"), "format": "json"},
            route=[{"domain": "*", "next_hop": f"smtp://127.0.0.1:{closed}", "tls": "off"}])
        os.chmod(self.server.config_file, 0o644)
        self.using(self.server)

    def ran_once(self, messages=1):
        """There is a queue, and what the daemon published is there."""
        self.server.log_file = self.run_folder / "log"
        self.server.start()
        for _ in range(messages):
            self.assertEqual(self.server.send("a@ext.example", TO, b"Subject: x\r\n\r\nx\r\n").code, 250)
        self.server.kill()

    def tool(self, name, *arguments, stdin=""):
        return subprocess.run(
            [*self.machine.wrapper(), str(daemon.BIN / name), *arguments], input=stdin,
            capture_output=True, text=True, env=self.server.environment(), cwd="/",
            timeout=wait.DEADLINE)

    def all_owners(self, path):
        return {os.lstat(one).st_uid for one in [path, *pathlib.Path(path).rglob("*")]}

    def another_spool(self, owner):
        """With a queue that is empty."""
        other = self.machine.make("other", 0, 0, 0o755)
        shutil.copytree(self.spool, other / "spool")
        (other / "spool" / "queue.db").unlink()
        for path in (other / "spool").glob("queue.db*"):
            path.unlink()
        (other / "spool" / "queue.db").touch(0o600)
        self.give(other / "spool", owner)
        os.chmod(other / "spool", 0o711)
        return other / "spool"

    def give(self, folder, owner):
        for one in [folder, *folder.rglob("*")]:
            os.chown(one, owner, owner, follow_symlinks=False)

    def state(self, folder):
        return {str(path): (os.lstat(path).st_uid, os.lstat(path).st_size, os.lstat(path).st_mtime_ns)
                for path in [folder, *folder.rglob("*")]}

    def plant(self, live=True, **changes):
        path = self.run_folder / "effective.json"
        told = json.loads(path.read_text())
        self.assertEqual(os.stat(path).st_uid, DAEMON)
        path.write_text(json.dumps({**told, **changes}) + "\n")
        if live:
            self.lock = open(path, "r+b")
            self.addCleanup(self.lock.close)
            fcntl.fcntl(self.lock, F_OFD_SETLK, struct.pack("hhqqi4x", fcntl.F_WRLCK, 0, 0, 0, 0))

    def counts_what_is_configured(self):
        done = self.tool("postrider", "queue", "count")
        self.assertEqual((done.returncode, done.stdout), (0, "1 message, 1 recipient\n"), done.stderr)
        self.assertEqual(self.all_owners(self.spool), {DAEMON})

    def refused(self, *arguments, code=77, says=""):
        done = self.tool(*arguments)
        self.assertEqual(done.returncode, code, done.stdout + done.stderr)
        self.assertIn(says, done.stderr)

    def test_what_is_published_leads_no_tool_to_another_spool(self):
        self.ran_once()
        for owner in (DAEMON, BOB, 0):
            for live in (True, False):
                with self.subTest(owner=owner, live=live):
                    other = self.another_spool(owner)
                    before = self.state(other)
                    self.plant(live, spool=str(other), user={0: "", BOB: "bob"}.get(owner, "pridaemon"),
                               control=str(self.run_folder / "none"), submit=str(self.run_folder / "none"))
                    self.counts_what_is_configured()
                    for arguments in (("queue",), ("status",), ("queue", "hold", "--all"),
                                      ("queue", "release", "--all")):
                        want = 69 if arguments == ("status",) else 0  # it is down
                        self.assertEqual(self.tool("postrider", *arguments).returncode, want)
                    self.assertIn("saved: 1 message", self.tool("postrider", "queue", "salvage").stdout)
                    done = self.tool("sendmail", TO, stdin=MAIL)
                    self.assertEqual(done.returncode, 0, done.stderr)
                    self.assertEqual(self.state(other), before)
                    shutil.rmtree(other.parent)
                    for path in (self.spool / "drop").iterdir():
                        path.unlink()
                    if live:
                        self.lock.close()

    def test_with_a_broken_configuration_it_still_names_nobody_else(self):
        self.ran_once()
        text = self.server.config_file.read_text()
        self.server.config_file.write_text(text + "\n[acept]\nx = 1\n")
        for owner, user in ((BOB, "bob"), (BOB, "pridaemon"), (0, ""), (0, "root"), (0, "pridaemon")):
            with self.subTest(owner=owner, user=user):
                other = self.another_spool(owner)
                before = self.state(other)
                self.plant(live=False, spool=str(other), user=user)
                self.refused("postrider", "queue", "count", says="belongs to user")
                self.refused("postrider", "queue", "salvage", says="belongs to user")
                self.assertEqual(self.state(other), before)
                os.chown(self.run_folder / "effective.json", BOB, BOB)
                done = self.tool("postrider", "queue", "count")
                self.assertEqual((done.returncode, done.stdout), (0, "1 message, 1 recipient\n"))
                self.assertIn("can be understood", done.stderr)
                os.chown(self.run_folder / "effective.json", DAEMON, DAEMON)
                shutil.rmtree(other.parent)

    def test_a_link_on_the_way_to_the_spool(self):
        self.ran_once()
        aside = self.machine.make("aside", DAEMON, DAEMON, 0o755)
        victim = self.another_spool(0)
        before = self.state(victim)
        for target, name in ((victim, "link"), (victim.parent, "link/spool")):
            link = aside / "link"
            link.symlink_to(target)
            os.chown(link, DAEMON, DAEMON, follow_symlinks=False)
            self.server.write_config(spool=str(aside / name))
            self.refused("postrider", "queue", "count", says="symbolic link")
            self.refused("postrider", "queue", "salvage", says="symbolic link")
            (victim / "drop").mkdir(exist_ok=True)
            before = self.state(victim)
            done = self.tool("sendmail", TO, stdin=MAIL)
            self.assertEqual(done.returncode, 75, done.stderr)
            self.assertEqual(self.state(victim), before)
            link.unlink()

    def test_a_spool_of_somebody_else(self):
        self.ran_once()
        for owner in (BOB, 0):
            self.give(self.spool, owner)
            before = self.state(self.spool)
            self.refused("postrider", "queue", "count", says="belongs to user")
            self.refused("postrider", "queue", "salvage", says="belongs to user")
            self.assertEqual(self.state(self.spool), before)
        self.give(self.spool, BOB)
        self.assertEqual(self.tool("sendmail", TO, stdin=MAIL).returncode, 75)
        self.assertEqual(list((self.spool / "drop").iterdir()), [])

    def test_what_stands_in_the_place_of_the_drop_folder(self):
        self.ran_once()
        os.rmdir(self.spool / "drop")
        theirs = self.machine.make("theirs", BOB, BOB, 0o777)
        os.rename(theirs, self.spool / "drop")
        self.assertEqual(self.tool("sendmail", TO, stdin=MAIL).returncode, 75)
        self.assertEqual(list((self.spool / "drop").iterdir()), [])

    def test_a_link_in_the_place_of_a_socket(self):
        self.ran_once()
        victim = socket.socket(socket.AF_UNIX)
        self.addCleanup(victim.close)
        path = self.machine.folder / "root.socket"
        victim.bind(str(path))
        victim.listen(8)
        victim.setblocking(False)
        for name in ("control", "submit"):
            (self.run_folder / name).unlink(missing_ok=True)
            (self.run_folder / name).symlink_to(path)
            os.chown(self.run_folder / name, DAEMON, DAEMON, follow_symlinks=False)
        self.refused("postrider", "status", code=69, says="symbolic link")
        done = self.tool("sendmail", TO, stdin=MAIL)
        self.assertEqual(done.returncode, 0, done.stderr)  # in the drop folder
        with self.assertRaises(BlockingIOError):
            victim.accept()


if __name__ == "__main__":
    scenario.main()
