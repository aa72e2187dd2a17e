#!/usr/bin/python3
"""As whom mail ends: mailboxes of several accounts at one time, commands and files of aliases and of
.forward files, each with the rights that aliases(5) says. Needs root, as the service manager has."""
import os
import pwd
import shutil
import socket
import stat
import subprocess
import sys

from support_py import daemon, scenario, wait
from support_py.accounts import ANN, BOB, DAEMON, LOW, Machine

NOBODY = pwd.getpwnam("nobody").pw_uid
CONTENT = b"Subject: as whom\r\n\r\nx\r\n"


class ActingUsers(scenario.Scenario):
    def setUp(self):
        super().setUp()
        if not scenario.is_root() or not shutil.which("unshare"):
            self.skipTest("needs root: mail is delivered as several accounts")
        self.machine = Machine(self.own_folder("machine"))
        # Where anybody may leave a file, as whoever it is.
        self.said = self.machine.make("said", 0, 0, 0o1777)
        self.program = self.machine.folder / "program"
        self.write_program()

    def write_program(self, condition="true"):
        """What it says stands under its final name only when all of it is there."""
        whole, begun = f"{self.said}/$1.$$", f"{self.said}/.$1.$$"
        self.program.write_text(f"#!/bin/sh\ncat >/dev/null; {condition} || exit 75\n"
                                f"umask 077; id -u >{begun}; id -G >>{begun}; mv {begun} {whole}\n")
        os.chmod(self.program, 0o755)

    def start(self, aliases, under=(), **settings):
        """aliases: (owner, text) of each table, in order. under: what the daemon is started by."""
        machine = self.machine
        tables = []
        for number, (owner, text) in enumerate(aliases):
            path = machine.folder / f"aliases{number}"
            path.write_text(text)
            os.chown(path, owner, owner)
            tables.append(str(path))
        folder = machine.make("d", DAEMON, DAEMON, 0o755)
        server = daemon.Postrider(
            folder, wrapper=[*machine.wrapper(), *under], user="pridaemon",
            local={"domains": ["us.example"], "mailbox": f"maildir:{machine.mail}/{{user}}/",
                   "aliases": tables, **settings.pop("local", {})}, **settings)
        os.chmod(server.config_file, 0o644)
        self.using(server)
        return server.start()

    def send(self, server, *users):
        self.assertEqual(server.send("a@ext.example", [f"{user}@us.example" for user in users],
                                     CONTENT).code, 250)

    def who(self, name, count=1):
        """The uids that ran the program under this name."""
        files = wait.until(lambda: (lambda found: found if len(found) >= count else None)(
            list(self.said.glob(f"{name}.*"))), f"{count} runs of {name}")
        uids = []
        for path in files:
            uid, groups = path.read_text().splitlines()
            self.assertEqual(os.stat(path).st_uid, int(uid))
            self.assertNotIn("0", groups.split())
            self.assertNotIn("2909", groups.split())
            uids.append(int(uid))
        return sorted(uids)

    def forward(self, user, text):
        path = self.machine.homes / user / ".forward"
        path.write_text(text)
        uid = {"ann": ANN, "bob": BOB}[user]
        os.chown(path, uid, uid)

    def test_commands_of_aliases_run_as_the_owner_of_the_table_or_as_nobody(self):
        server = self.start([(0, f'roots: "|{self.program} roots"\n'),
                             (ANN, f'anns: "|{self.program} anns"\n'),
                             (BOB, f'bobs: "|{self.program} bobs"\n'),
                             (LOW, f'lows: "|{self.program} lows"\n'),
                             (DAEMON, f'own: "|{self.program} own"\n')])
        # For an account below local.minimum_uid, and the daemon's own, local.alias_user stands in. So
        # it is when the parent has read its configuration again.
        for count in (1, 2):
            self.send(server, "roots", "anns", "bobs", "lows", "own")
            server.wait_until_empty()
            self.assertEqual({name: self.who(name, count)
                              for name in ("roots", "anns", "bobs", "lows", "own")},
                             {"roots": [NOBODY] * count, "anns": [ANN] * count, "bobs": [BOB] * count,
                              "lows": [NOBODY] * count, "own": [NOBODY] * count})
            server.reload()
            server.wait_for_log("reloaded", count)

    def test_a_system_account_that_is_named_has_its_own_commands_and_files(self):
        server = self.start([(LOW, f'lows: "|{self.program} lows"\nlowbox: {self.said}/low.mbox\n'),
                             (DAEMON, f'own: "|{self.program} own"\n'),
                             (0, f'roots: "|{self.program} roots"\n')],
                            local={"command_users": ["low", "pridaemon", "root"]})
        self.send(server, "lows", "lowbox", "own", "roots", "low")
        server.wait_until_empty()
        self.assertEqual({name: self.who(name) for name in ("lows", "own", "roots")},
                         {"lows": [LOW], "own": [NOBODY], "roots": [NOBODY]})
        self.assertEqual(os.stat(self.said / "low.mbox").st_uid, LOW)
        # Its mailbox is not a command: the daemon's user stands in as before.
        box = self.machine.mail / "low" / "new"
        self.assertEqual([os.stat(file).st_uid for file in box.iterdir()], [DAEMON])

    def test_what_is_our_fault_is_tried_again(self):
        """Interpreters that are missing, a file system that is read-only, a stand-in without rights."""
        folder = self.machine.make("scripts", 0, 0, 0o755)

        def script(name, text):
            path = folder / name
            path.write_text(text)
            os.chmod(path, 0o755)
            return path
        broken = {"interpreter": script("interpreter", "#!/no/such/program\n"),
                  "env": script("env", "#!/usr/bin/env no-such-program\n"),
                  "format": script("format", "neither\n"),
                  "absent": folder / "absent",
                  "readonly": script("readonly", "#!/bin/sh\necho x >/sys/kernel/x || touch /proc/x ||"
                                     " { echo 'x: Read-only file system' >&2; exit 73; }\n"),
                  "killed": script("killed", "#!/bin/sh\nsh -c 'kill -SYS $$'\n")}
        table = "".join(f'{name}: "|{path}"\n' for name, path in broken.items())
        mine = folder / "mine"
        mine.write_text("#!/bin/sh\nexit 1\n")
        os.chmod(mine, 0o700)
        os.chown(mine, LOW, LOW)
        denied = script("denied", f"#!/bin/sh\nexec cat {mine}\n")
        honest = script("honest", "#!/bin/sh\nexit 67\n")
        server = self.start([(0, table + f'gone: "|{honest}"\n'),
                             (LOW, f'denied: "|{denied}"\nlowgone: "|{honest}"\n')],
                            delivery={"retry": ["10m"]})
        self.send(server, "denied", "lowgone", "gone", *broken)
        ends = wait.until(lambda: (lambda found: found if len(found) == len(broken) + 3 else None)(
            {e["to"].split("@")[0]: e["verdict"] for e in server.log("attempted")
             if e["to"].endswith("@us.example")}), "an attempt for each")
        self.assertEqual(ends, {**dict.fromkeys([*broken, "denied"], "deferred"),
                                "gone": "bounced", "lowgone": "bounced"})

    def test_what_the_unit_forbids_a_command_is_said_with_the_setting_that_allows_it(self):
        """As MemoryDenyWriteExecute= and ProtectSystem= forbid it; and as a drop-in allows it."""
        elsewhere = self.machine.make("elsewhere", NOBODY, NOBODY, 0o755)
        under = [sys.executable, "-c", f'''
import ctypes, os, subprocess, sys
subprocess.run(["mount", "--bind", "{elsewhere}", "{elsewhere}"], check=True)
subprocess.run(["mount", "-o", "remount,bind,ro", "{elsewhere}"], check=True)
PR_SET_MDWE = 65
assert ctypes.CDLL(None).prctl(PR_SET_MDWE, 1, 0, 0, 0) == 0
os.execvp(sys.argv[1], sys.argv[1:])''']
        if subprocess.run(["unshare", "-m", *under, "true"], capture_output=True).returncode != 0:
            self.skipTest("this kernel cannot deny memory that is written and executed")
        scripts = {"writer": f"#!/bin/sh\ncat >{elsewhere}/box\n"}
        if shutil.which("node"):
            scripts["node"] = "#!/bin/sh\nexec node -e 'process.exit(0)'\n"
        if shutil.which("java"):
            scripts["java"] = "#!/bin/sh\nexec java -version\n"
        folder = self.machine.make("scripts", 0, 0, 0o755)
        for name, text in scripts.items():
            (folder / name).write_text(text)
            os.chmod(folder / name, 0o755)
        table = "".join(f'{name}: "|{folder}/{name}"\n' for name in scripts)
        server = self.start([(0, table)], under, delivery={"retry": ["10m"]})
        self.send(server, *scripts)
        ends = wait.until(lambda: (lambda found: found if len(found) == len(scripts) else None)(
            {e["to"].split("@")[0]: e for e in server.log("attempted", verdict="deferred")}), "an attempt for each")
        for name, end in ends.items():
            self.assertIn("ReadWritePaths=" if name == "writer" else "MemoryDenyWriteExecute=no",
                          end["reason"], name)
            self.assertIn("aliases(5)", end["reason"])
        server.stop()
        server.wrapper = self.machine.wrapper()
        server.start()
        server.retry_all()
        server.wait_until_empty()
        self.assertEqual(len(server.wait_for_log("attempted", len(scripts), verdict="sent")), len(scripts))
        self.assertIn("Subject: as whom", (elsewhere / "box").read_text())

    def test_local_alias_user_stands_in_for_root(self):
        server = self.start([(0, f'roots: "|{self.program} roots"\nfile: {self.said}/box\n')],
                            local={"alias_user": "bob"})
        self.send(server, "roots", "file")
        server.wait_until_empty()
        self.assertEqual(self.who("roots"), [BOB])
        self.assertEqual(os.stat(self.said / "box").st_uid, BOB)

    def test_files_of_aliases_belong_to_the_same(self):
        server = self.start([(0, f"rootbox: {self.said}/root.mbox\nrootdir: {self.said}/root.dir/\n"),
                             (ANN, f"annbox: {self.said}/ann.mbox\nanndir: {self.said}/ann.dir/\n"
                                   f"evil: {self.machine.homes}/bob/evil\n")],
                            delivery={"retry": ["30s"]})
        self.send(server, "rootbox", "rootdir", "annbox", "anndir", "evil")
        deferred = server.wait_for_log("attempted", verdict="deferred")
        self.assertEqual([entry["to"] for entry in deferred], ["evil@us.example"])
        wait.until(lambda: len(server.log("attempted")) >= 5, "five attempts")
        owners = {path.name: os.stat(path).st_uid for path in self.said.iterdir()}
        self.assertEqual(owners, {"root.mbox": NOBODY, "root.dir": NOBODY,
                                  "ann.mbox": ANN, "ann.dir": ANN})
        self.assertFalse((self.machine.homes / "bob" / "evil").exists())

    def test_a_forward_acts_as_its_user(self):
        server = self.start([(0, "team: ann, bob\n")])
        self.forward("ann", f'\\ann, "|{self.program} ann", {self.machine.homes}/ann/archive\n')
        self.forward("bob", f'"|{self.program} bob", {self.machine.homes}/ann/theirs\n')
        self.send(server, "team")
        self.assertEqual(self.who("ann"), [ANN])
        self.assertEqual(self.who("bob"), [BOB])
        wait.until(lambda: list((self.machine.mail / "ann" / "new").glob("*")), "ann's mailbox")
        wait.until(lambda: (self.machine.homes / "ann" / "archive").exists(), "ann's archive")
        self.assertEqual(os.stat(self.machine.homes / "ann" / "archive").st_uid, ANN)
        server.wait_for_log("attempted", verdict="deferred")  # bob may not write there
        self.assertFalse((self.machine.homes / "ann" / "theirs").exists())
        self.assertIn(f"as {'ann'}", server.postrider("explain", "ann@us.example"))

    def test_a_forward_that_is_anothers_is_not_used(self):
        server = self.start([(0, "")])
        path = self.machine.homes / "ann" / ".forward"
        path.write_text(f'"|{self.program} planted"\n')
        os.chown(path, BOB, BOB)
        self.send(server, "ann")
        server.wait_until_empty()
        self.assertTrue(list((self.machine.mail / "ann" / "new").glob("*")))
        self.assertEqual(list(self.said.glob("planted*")), [])
        self.assertTrue(server.log("address_problem"))

    def test_a_forward_that_is_too_long_is_not_used_either(self):
        server = self.start([(0, "")])
        self.forward("ann", "# " + "x" * (70 << 10) + "\nbob\n")
        self.send(server, "ann")
        server.wait_until_empty()
        self.assertTrue(list((self.machine.mail / "ann" / "new").glob("*")))
        self.assertTrue(server.log("address_problem"))

    def test_a_forward_that_is_no_file_is_not_used(self):
        """Whatever it is: nothing hangs, the mail is in the mailbox, and the log says what is wrong."""
        server = self.start([(0, "")], local={"separator": "+"})
        path = self.machine.homes / "ann" / ".forward"

        def bind():
            with socket.socket(socket.AF_UNIX) as door:
                door.bind(str(path))
        kinds = {"socket": bind, "pipe": lambda: os.mkfifo(path), "folder": path.mkdir,
                 "device": lambda: os.mknod(path, 0o666 | stat.S_IFCHR, os.makedev(1, 3)),
                 "driverless": lambda: os.mknod(path, 0o666 | stat.S_IFBLK, os.makedev(250, 250)),
                 "link": lambda: path.symlink_to("elsewhere"),
                 "unreadable": lambda: path.touch(0o000)}
        for count, (kind, make) in enumerate(kinds.items(), 1):
            with self.subTest(kind=kind):
                make()
                os.chown(path, 0 if kind == "unreadable" else ANN, ANN, follow_symlinks=False)
                self.send(server, "ann")
                server.wait_until_empty()
                problems = server.wait_for_log("address_problem", count=count)
                self.assertEqual(len(problems), count)
                self.assertIn(str(path), str(problems[-1]))
                self.assertIn("is not used", str(problems[-1]))
                self.assertIn("is not used", server.postrider("explain", "ann@us.example"))
                path.rmdir() if kind == "folder" else path.unlink()
        self.assertEqual(len(list((self.machine.mail / "ann" / "new").glob("*"))), len(kinds))

    def test_a_list_or_an_mbox_that_is_no_file_waits_for_who_mends_it(self):
        folder = self.machine.make("special", 0, 0, 0o777)
        kinds = {"socket": None, "pipe": os.mkfifo, "folder": os.mkdir,
                 "device": lambda path: os.mknod(path, 0o666 | stat.S_IFCHR, os.makedev(1, 3))}
        with socket.socket(socket.AF_UNIX) as door:
            door.bind(str(folder / "socket"))
        for kind, make in kinds.items():
            if make:
                make(folder / kind)
            os.chmod(folder / kind, 0o666)
        server = self.start(
            [(0, "".join(f"box-{kind}: {folder}/{kind}\nlist-{kind}: :include:{folder}/{kind}\n"
                         for kind in kinds))], delivery={"retry": ["1h"]})
        names = [f"{what}-{kind}" for kind in kinds for what in ("box", "list")]
        self.send(server, *names, "ann")
        wait.until(lambda: list((self.machine.mail / "ann" / "new").glob("*")), "other mail goes on")
        ends = server.wait_for_log("attempted", count=len(names), verdict="deferred")
        for entry in ends:
            if entry["to"].startswith("box-"):
                self.assertIn("it is not a plain file", entry["reason"])
        problems = str(server.log("address_problem"))
        for kind in kinds:
            self.assertIn(f"{folder}/{kind}: is not a regular file", problems)

    def test_what_a_forward_sends_on_is_counted_apart(self):
        server = self.start([(0, "")], sendmail={"messages_per_hour": 2, "recipients_per_hour": 2},
                            local={"forwarded_per_hour": 3}, delivery={"retry": ["1h"]})
        sendmail = self.machine.folder / "sendmail"
        shutil.copy(daemon.BIN / "postrider", sendmail)

        def box(user):
            return len(list((self.machine.mail / user / "new").glob("*")))

        def ann_sends():
            return subprocess.run([sendmail, "-i", "bob@us.example"], input="Subject: own\n\nx\n",
                                  text=True, capture_output=True, env=server.environment(), user=ANN,
                                  group=ANN, extra_groups=[], cwd="/", timeout=wait.DEADLINE)
        self.forward("ann", "\\ann, bob\n")
        for _ in range(3):
            self.send(server, "ann")
        server.wait_until_empty()
        self.assertEqual((box("ann"), box("bob")), (3, 3))
        self.send(server, "ann")
        entry, = server.wait_for_log("attempted", verdict="deferred")
        self.assertIn("~ann/.forward has sent on as much as its user may: 3 recipients an hour",
                      entry["reason"])
        self.assertEqual(server.queued(), 1)  # not lost
        limited, = server.wait_for_log("user_limited")
        self.assertEqual((limited["user"], limited["client"]), (f"uid {ANN}", "forward"))
        self.assertIn(f"uid {ANN} by .forward: 3 recipients an hour", server.postrider("status"))
        # However much of it came, the user sends what is the user's.
        for wanted in (0, 0, 75):
            done = ann_sends()
            self.assertEqual(done.returncode, wanted, done.stderr)
        wait.until(lambda: box("bob") == 5, "what ann sent")
        # More at once than any hour allows: the mailbox has it, and others' mail goes on.
        self.forward("bob", "".join(f"ann+{number}\n" for number in range(4)))
        self.send(server, "bob")
        wait.until(lambda: box("bob") == 6, "bob's mailbox")
        problem, = server.wait_for_log("address_problem")
        self.assertIn("its user may send to 3 at most", str(problem))
        # What stays the user's own is not counted.
        self.forward("ann", f'\\ann, "|{self.program} own"\n')
        for _ in range(5):
            self.send(server, "ann")
        self.who("own", 5)
        wait.until(lambda: box("ann") == 8, "ann's mailbox")

    def test_a_command_that_its_user_took_away_is_not_run(self):
        """The list stands in the queue; what it says now counts."""
        gate = self.said / "gate"
        self.write_program(f"[ -e {gate} ]")
        server = self.start([(0, "")], delivery={"retry": ["10m"]})
        self.forward("ann", f'\\ann, "|{self.program} old"\n')
        self.send(server, "ann")
        server.wait_for_log("attempted", verdict="deferred")
        self.forward("ann", f'\\ann, "|{self.program} fresh"\n')
        gate.write_text("")
        server.retry_all()
        entry = server.wait_for_log("attempted", count=2, verdict="deferred")[1]
        self.assertIn("does not say that", str(entry))
        self.forward("ann", f'\\ann, "|{self.program} old"\n')
        server.retry_all()
        self.assertEqual(self.who("old"), [ANN])
        server.wait_until_empty()
        self.assertEqual(list(self.said.glob("fresh*")), [])

    def test_an_included_list_gives_no_rights(self):
        listed = self.machine.folder / "list"
        listed.write_text(f'"|{self.program} listed"\n/tmp/x\nann\n')
        os.chown(listed, ANN, ANN)
        server = self.start([(0, f"list: :include:{listed}\n")])
        self.send(server, "list")
        server.wait_for_log("address_problem")
        self.assertEqual(list(self.said.glob("listed*")), [])

    def test_a_list_tells_no_stranger_what_the_daemon_may_read(self):
        """Its owner makes it a link to a secret of the daemon's user, or includes that."""
        machine = self.machine
        secrets = machine.make("secrets", 0, 0, 0o755)
        secret = secrets / "key"
        secret.write_text("password=TOPSECRET\n")
        os.chown(secret, DAEMON, DAEMON)
        secret.chmod(0o600)
        lists = machine.make("lists", ANN, ANN, 0o755)
        (lists / "one").symlink_to(secret)
        (lists / "two").write_text(f":include:{secret}\n")
        (lists / "own").write_text("bob, HERSECRET\n")
        (lists / "bad").write_text("bob\nuser = HERSECRET\n")
        for path in lists.iterdir():
            os.lchown(path, ANN, ANN)
        peer = self.sink()
        server = self.start(
            [(0, "".join(f"{name}: :include:{lists}/{name}\n" for name in ("one", "two", "own", "bad"))),
             (ANN, f"three: :include:{secret}\n")],
            sandbox={"read": [str(secrets), str(lists)]}, delivery={"retry": ["1s"], "lifetime": "2s"},
            route=[{"domain": "*", "next_hop": f"smtp://127.0.0.1:{peer.port}", "tls": "off"}])
        self.send(server, "one", "two", "three", "own", "bad")
        server.wait_until_empty()
        failed = b"".join(message.content for message in peer.messages)
        for name in ("one", "two", "three", "own"):
            self.assertIn(f"{name}@us.example".encode(), failed)
        self.assertNotIn(b"SECRET", failed.upper())
        self.assertNotIn(b"bad@us.example", failed)  # its wrong line costs that line
        said = " ".join(entry["problem"] for entry in server.log("address_problem"))
        self.assertIn(f"{lists}/bad:2: ", said)
        self.assertIn("HERSECRET", said)
        self.assertNotIn("TOPSECRET", said)
        self.assertEqual(len(list((machine.mail / "bob" / "new").iterdir())), 1)

    def test_a_table_of_another_user_stops_nobody(self):
        """Whatever its owner makes of it, others' commands and mailboxes go on; also after a restart."""
        machine = self.machine
        folder = machine.make("anns", ANN, ANN, 0o755)
        table = folder / "aliases"
        table.write_text("hers: ann\n")
        os.chown(table, ANN, ANN)
        server = self.start([(0, f'cmd: "|{self.program} cmd"\n')],
                            local={"aliases": [str(table), str(machine.folder / "aliases0")]})
        runs = 0
        for make in (table.mkdir, lambda: os.mkfifo(table), lambda: table.touch(0o600)):
            if table.is_dir():
                table.rmdir()
            else:
                table.unlink()
            make()
            os.chown(table, ANN, ANN)
            for _ in range(2):
                self.send(server, "cmd", "bob")
                runs += 1
                self.assertEqual(self.who("cmd", runs), [NOBODY] * runs)
                server.wait_until_empty()
                server.stop()
                server.start()
        self.assertTrue(server.log("table_left_out"))
        self.assertEqual(len(list((machine.mail / "bob" / "new").iterdir())), runs)

    def test_a_reload_that_is_refused_changes_no_delivery(self):
        """Where mailboxes are the parent knows by itself: it must not go where the daemon does not."""
        machine = self.machine
        server = self.start([(0, "")], delivery={"retry": ["1s"]})
        fresh = machine.make("fresh", 0, os.stat(machine.mail).st_gid, 0o2775)

        def mails(folder):
            return len(list((folder / "ann" / "new").glob("*")))

        self.send(server, "ann")
        server.wait_until_empty()
        self.assertEqual(mails(machine.mail), 1)
        good = server.config_file.read_text()
        changed = good.replace(f"maildir:{machine.mail}/", f"maildir:{fresh}/")
        self.assertNotEqual(good, changed)
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            server.config_file.write_text(
                f'{changed}\n[[listener]]\naddress = "127.0.0.1:{taken.getsockname()[1]}"\nrole = "mx"\n')
            server.reload()
            server.wait_for_log("config_refused")
            self.send(server, "ann")
            server.wait_until_empty()
            self.assertEqual((mails(machine.mail), mails(fresh)), (2, 0))
            self.assertEqual(server.log("attempted", verdict="deferred"), [])
        server.config_file.write_text(changed)
        server.reload()
        server.wait_for_log("reloaded")
        self.send(server, "ann")
        server.wait_until_empty()
        self.assertEqual((mails(machine.mail), mails(fresh)), (2, 1))

    def test_many_accounts_at_one_time(self):
        """Each delivery is its recipient's, whoever else's is under way."""
        server = self.start([(0, f'r: "|{self.program} r"\n'), (ANN, f'a: "|{self.program} a"\n'),
                             (BOB, f'b: "|{self.program} b"\n')], local={"deliveries": 40})
        refused = scenario.parallel(lambda _: self.send(server, "r", "ann", "a", "bob", "b", "low"),
                                    range(20))
        self.assertEqual(refused, [])
        server.wait_until_empty()
        self.assertEqual(self.who("r", 20), [NOBODY] * 20)
        self.assertEqual(self.who("a", 20), [ANN] * 20)
        self.assertEqual(self.who("b", 20), [BOB] * 20)
        for user, uid in (("ann", ANN), ("bob", BOB), ("low", DAEMON)):
            files = list((self.machine.mail / user / "new").iterdir())
            self.assertEqual([os.stat(file).st_uid for file in files], [uid] * 20)


if __name__ == "__main__":
    scenario.main()
