#!/usr/bin/python3
"""Who may do what: mail is delivered as its recipient, the daemon can do nothing else, and the parent
refuses what the configuration does not allow. Needs root, as the service manager has."""
import json
import os
import pathlib
import re
import shutil
import signal
import stat
import subprocess
import time

from support_py import daemon, inject, scenario, wait
from support_py.accounts import ANN, BOB, DAEMON, LOW, MAIL_GROUP, Machine
from support_py.smtp import Client

CONTENT = b"Subject: private\r\n\r\nx\r\n"


class Privileged(scenario.Scenario):
    def setUp(self):
        super().setUp()
        if not scenario.is_root() or not shutil.which("unshare"):
            self.skipTest("needs root")
        self.machine = Machine(self.own_folder("machine"))

    def start(self, mailbox="maildir:{mail}/{{user}}/", listeners=None, **settings):
        machine = self.machine
        folder = machine.make("d", DAEMON, DAEMON, 0o755)
        local = {"domains": ["us.example"], **settings.pop("local", {}),
                 "mailbox": mailbox.format(mail=machine.mail, home=machine.homes)}
        server = daemon.Postrider(folder, wrapper=machine.wrapper(), listeners=listeners,
                                  user="pridaemon", local=local, **settings)
        os.chmod(server.config_file, 0o644)
        os.chown(server.folder / "aliases", DAEMON, DAEMON)
        self.using(server)
        server.start()
        return server

    def send(self, server, user):
        self.assertEqual(server.send("a@ext.example", f"{user}@us.example", CONTENT).code, 250)

    def parent_of(self, server):
        """The process that keeps the rights: the daemon's child of that name."""
        for path in pathlib.Path("/proc").glob("[0-9]*"):
            try:
                status = (path / "status").read_text()
            except OSError:
                continue
            if re.search(rf"(?m)^PPid:\t{server.process.pid}$", status):
                return path.name, status
        raise AssertionError("there is no parent")

    def owner(self, path):
        about = os.stat(path)
        return about.st_uid, stat.S_IMODE(about.st_mode)

    def test_a_maildir_and_an_mbox_belong_to_their_user(self):
        server = self.start()
        for user in ("ann", "bob"):
            self.send(server, user)
        server.wait_until_empty()
        for user, uid in (("ann", ANN), ("bob", BOB)):
            box = self.machine.mail / user
            self.assertEqual(self.owner(box)[0], uid)
            self.assertEqual(self.owner(box)[1] & 0o077, 0, "others may enter")
            files = list((box / "new").iterdir())
            self.assertEqual([self.owner(file) for file in files], [(uid, 0o600)])
        server.stop()
        server.write_config(local={"mailbox": f"mbox:{self.machine.mail}/{{user}}.mbox"})
        server.start()
        self.send(server, "ann")
        server.wait_until_empty()
        self.assertEqual(self.owner(self.machine.mail / "ann.mbox"), (ANN, 0o600))
        self.assertEqual(os.stat(self.machine.mail / "ann.mbox").st_gid, MAIL_GROUP)

    def test_the_room_for_a_full_disk_is_kept_within_what_is_allowed(self):
        server = self.start()
        reserve = server.spool / "reserve"
        wait.until(lambda: reserve.exists() and reserve.stat().st_size == 4 << 20, "the reserve")
        reserve.unlink()  # as it is given up

        def is_made_again():
            self.send(server, "ann")
            return reserve.exists() and reserve.stat().st_size == 4 << 20
        wait.until(is_made_again, "the reserve again")
        self.assertEqual(self.owner(reserve), (DAEMON, 0o600))

    def test_a_command_runs_as_the_user_with_no_way_back(self):
        program = self.machine.folder / "program"
        program.write_text(f"""#!/bin/sh
id -u; id -g; id -G
grep -E 'Cap|NoNewPrivs' /proc/self/status
cat /etc/shadow >/dev/null 2>&1 && echo SHADOW
ls {self.machine.homes}/bob >/dev/null 2>&1 && echo BOB
exec >"$HOME/said.tmp"; id -u; id -g; id -G
grep -E 'Cap(Prm|Eff)|NoNewPrivs' /proc/self/status
cat /etc/shadow >/dev/null 2>&1 && echo SHADOW
ls {self.machine.homes}/bob >/dev/null 2>&1 && echo BOB
mv "$HOME/said.tmp" "$HOME/said"
""")
        os.chmod(program, 0o755)
        server = self.start(f"command:{program} {{{{user}}}}")
        self.send(server, "ann")
        server.wait_until_empty()
        said = (self.machine.homes / "ann" / "said").read_text()
        self.assertEqual(said.split("\n")[:3], [str(ANN)] * 3)
        self.assertRegex(said, r"CapPrm:\t0+\n")
        self.assertRegex(said, r"CapEff:\t0+\n")
        self.assertRegex(said, r"NoNewPrivs:\t1")
        self.assertNotIn("SHADOW", said)
        self.assertNotIn("BOB", said)

    def test_root_and_accounts_below_the_minimum_are_nobody_we_become(self):
        server = self.start()
        for user in ("root", "low"):
            self.send(server, user)
        server.wait_until_empty()
        for user in ("root", "low"):
            self.assertEqual(self.owner(self.machine.mail / user)[0], DAEMON)
        self.assertNotIn(LOW, [self.owner(path)[0] for path in self.machine.mail.rglob("*")])

    def test_only_users_that_the_configuration_names(self):
        server = self.start(local={"users": ["ann"]}, delivery={"retry": ["30s"]})
        self.send(server, "ann")
        self.send(server, "bob")
        wait.until(lambda: (self.machine.mail / "ann" / "new").is_dir(), "mail for ann")
        entry = server.wait_for_log("attempted", verdict="deferred")[0]
        self.assertIn("local.users", str(entry))
        self.assertFalse((self.machine.mail / "bob").exists())

    def test_another_users_mailbox_in_the_place_of_ours_is_left_alone(self):
        """I01: symbolic links, hard links and other owners in the way of a mailbox."""
        theirs = self.machine.homes / "bob" / "box"
        theirs.write_text("bob's\n")
        os.chown(theirs, BOB, BOB)
        os.symlink(theirs, self.machine.mail / "ann.mbox")
        server = self.start("mbox:{mail}/{{user}}.mbox", delivery={"retry": ["30s"]})
        self.send(server, "ann")
        server.wait_for_log("attempted", verdict="deferred")
        os.unlink(self.machine.mail / "ann.mbox")
        os.link(theirs, self.machine.mail / "ann.mbox")
        server.retry_all()
        server.wait_for_log("attempted", count=2, verdict="deferred")
        self.assertEqual(theirs.read_text(), "bob's\n")

    def test_the_daemon_has_no_rights_and_the_parent_three(self):
        server = self.start(listeners=[{"address": "127.77.0.2:25", "role": "mx", "tls": "off"}])
        status = pathlib.Path(f"/proc/{server.process.pid}/status").read_text()
        self.assertRegex(status, rf"(?m)^Uid:\t{DAEMON}\t{DAEMON}\t{DAEMON}\t{DAEMON}$")
        for kind in ("Prm", "Eff", "Amb", "Inh"):
            self.assertRegex(status, rf"(?m)^Cap{kind}:\t0+$")
        self.assertRegex(status, r"(?m)^NoNewPrivs:\t1$")
        self.assertRegex(status, r"(?m)^Seccomp:\t2$")
        _, parent = self.parent_of(server)
        self.assertRegex(parent, rf"(?m)^Uid:\t{DAEMON}\t{DAEMON}\t{DAEMON}\t{DAEMON}$")
        kept = int(re.search(r"CapPrm:\t(\w+)", parent)[1], 16)
        self.assertEqual(kept, 1 << 6 | 1 << 7 | 1 << 10, "setgid, setuid, net_bind_service")
        self.assertEqual(int(re.search(r"CapBnd:\t(\w+)", parent)[1], 16), kept)
        shown = json.loads(server.postrider("status", "--json"))
        self.assertIn("seccomp", str(shown))
        self.assertIn("Landlock", str(shown))
        entry = server.wait_for_log("confined")[0]
        self.assertEqual((entry["calls"], entry["files"]), ("on", "on"), entry)

    def test_ps_shows_which_process_is_the_parent(self):
        server = self.start()

        def shown(pid):
            return subprocess.run(["ps", "-o", "args=", "-p", str(pid)], capture_output=True, text=True).stdout.strip()
        self.assertEqual(shown(self.parent_of(server)[0]), "postrider: parent")
        self.assertIn(f"postrider run -c {server.config_file}", shown(server.process.pid))

    def test_a_reload_binds_a_new_low_port_through_the_parent(self):
        server = self.start(listeners=[{"address": "127.77.0.3:25", "role": "mx", "tls": "off"}])
        server.write_config(listener=[{"address": "127.77.0.3:587", "role": "mx", "tls": "off"}])
        server.reload()

        def answers():
            try:
                with Client(587, address="127.77.0.3") as client:
                    client.hello()
                return True
            except OSError:
                return False
        wait.until(answers, lambda: f"port 587: {server.log()[-5:]}")

    def test_a_parent_that_dies_ends_the_daemon_for_a_restart(self):
        server = self.start()
        pid, _ = self.parent_of(server)
        os.kill(int(pid), 9)
        killed = time.monotonic()
        server.wait_for_log("parent_gone")
        self.assertLess(time.monotonic() - killed, 5, "noticed at once, not at the next look at all things")
        self.assertNotEqual(server.process.wait(wait.DEADLINE), 0)
        server.process = None
        self.assertTrue(server.log("parent_gone"))

    def test_the_running_daemon_cannot_open_others_files_or_start_a_program(self):
        """Line 6 of what must be shown: system calls made by the daemon's own threads, under its own
        filters, as an attacker who runs code in it would make them."""
        if scenario.SANITIZED:
            self.skipTest("a sanitizer's own calls are in the way")
        server = self.start()
        self.send(server, "ann")
        server.wait_until_empty()
        secret = next((self.machine.mail / "ann" / "new").iterdir())
        loose = self.machine.folder / "loose"  # readable for all: only Landlock says no
        loose.write_text("x")
        os.chmod(loose, 0o666)
        program = self.machine.folder / "new-program"
        shutil.copy("/bin/true", program)
        os.chmod(program, 0o755)
        told = []
        with inject.Thread(server.process.pid) as thread:
            for path, flags, errors in (("/etc/shadow", os.O_RDONLY, (13,)),
                                        (secret, os.O_RDONLY, (13,)),
                                        (self.machine.homes / "bob" / ".forward", os.O_RDONLY, (13,)),
                                        (loose, os.O_RDONLY, (13,)),
                                        (loose, os.O_WRONLY, (13,)),
                                        (program, os.O_RDONLY, (13,)),
                                        (self.machine.folder / "fresh", os.O_CREAT | os.O_WRONLY, (13,))):
                result = thread.openat(str(path), flags)
                told.append(f"openat {path} -> {result}")
                self.assertIn(-result, errors, told)
            for path in (program, "/bin/true", "/usr/bin/id"):
                result = thread.execve(str(path))
                told.append(f"execve {path} -> {result}")
                self.assertEqual(result, -1, told)
            for name, number, arguments in (("setuid 0", 105, (0,)), ("setresuid 0", 117, (0, 0, 0)),
                                            ("fork", 57, ()), ("clone", 56, (signal.SIGCHLD, 0, 0, 0, 0)),
                                            ("ptrace", 101, (0,)),
                                            ("socket AF_PACKET", 41, (17, 3, 0)),
                                            ("unshare", 272, (0x10000000,)), ("bpf", 321, (0,)),
                                            ("io_uring_setup", 425, (1, 0))):
                result = thread.call(number, *arguments)
                told.append(f"{name} -> {result}")
                self.assertEqual(result, -1, told)
            self.assertGreater(thread.openat("/etc/resolv.conf", os.O_RDONLY), 0, "it still works")
        print("\n".join(told))
        self.send(server, "ann")  # and it lives
        server.wait_until_empty()


class WithoutRoot(scenario.Scenario):
    def test_all_works_as_the_own_user_and_the_sandbox_holds(self):
        server = self.daemon()
        self.assertEqual(server.send("a@ext.example", f"{daemon.USER}@us.example", CONTENT).code, 250)
        server.wait_for_mail()
        status = pathlib.Path(f"/proc/{server.process.pid}/status").read_text()
        self.assertRegex(status, r"(?m)^Seccomp:\t2$")
        self.assertRegex(status, r"(?m)^NoNewPrivs:\t1$")
        self.assertIn("no other", server.postrider("status"))


class Unit(scenario.Scenario):
    def test_the_unit_is_well_rated_by_systemd(self):
        analyze = shutil.which("systemd-analyze")
        if analyze is None:
            self.skipTest("needs systemd-analyze")
        etc = daemon.ROOT / "etc"
        subprocess.run(["cmake", f"-DSOURCE={etc}", f"-DBINARY={self.folder}", "-DPREFIX=/usr", "-DSBINDIR=/usr/sbin",
                        "-DBROKERS=amqp;amqp10;kafka;mqtt;stomp",
                        "-P", etc / "units.cmake"], check=True, stdout=subprocess.DEVNULL, timeout=60,
                       env={**os.environ, "DESTDIR": str(self.folder / "installed")})
        for name in ("postrider.service", "postrider@.service", "postrider-web.service",
                     "postrider-amqp.service", "postrider-amqp10.service", "postrider-kafka.service", "postrider-mqtt.service", "postrider-stomp.service"):
            unit = self.folder / "installed" / "usr" / "lib" / "systemd" / "system" / name
            done = subprocess.run([analyze, "security", "--offline=true", "--no-pager", str(unit)],
                                  capture_output=True, text=True, timeout=60)
            rated = re.search(r"exposure level for \S+: ([\d.]+)", done.stdout)
            self.assertIsNotNone(rated, done.stdout + done.stderr)
            print(name, rated[1])
            self.assertLessEqual(float(rated[1]), 2.0, done.stdout)

    def test_nothing_that_is_built_is_setuid(self):
        for path in daemon.BIN.iterdir():
            self.assertEqual(os.stat(path).st_mode & 0o6000, 0, path)


if __name__ == "__main__":
    scenario.main()
