#!/usr/bin/python3
"""A daemon that an attacker has taken over: all that it holds is its socket to the parent, and its own
rights. It asks the parent for everything that it must not get, and prints what it got. Needs root, as the
service manager has."""
import array
import ctypes
import mmap
import os
import pathlib
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading

from support_py import daemon, inject, parent_wire as wire, scenario, wait
from support_py.accounts import ANN, BOB, DAEMON, Machine
from support_py.parent_wire import COMMAND, ENTRY, MAILBOX, MAILDIR, MBOX, PLACE

CONTENT = b"Subject: taken over\r\n\r\nx\r\n"
DENIED = ("refused", "failed", "nothing", "silence")
UNBOUND = ("refused", "failed", "silence")  # "nothing" is what a socket that was bound is answered


def landlock_scopes_signals():
    """Landlock 6 and later."""
    return ctypes.CDLL(None).syscall(444, None, ctypes.c_size_t(0), ctypes.c_uint(1)) >= 6


class World(scenario.Scenario):
    def setUp(self):
        super().setUp()
        if not scenario.is_root() or not shutil.which("unshare"):
            self.skipTest("needs root")
        self.machine = Machine(self.own_folder("machine"))
        self.said = self.machine.make("said", 0, 0, 0o1777)
        self.program = self.machine.folder / "program"
        self.program.write_text(f'#!/bin/sh\nto="{self.said}/$1"; id -u >"$to.$$"; id -G >>"$to.$$"\n'
                                f'cat >/dev/null; mv "$to.$$" "$to"\n')
        os.chmod(self.program, 0o755)

    def start(self, aliases="", **settings):
        machine = self.machine
        table = machine.folder / "aliases"
        table.write_text(aliases)
        self.folder_of_daemon = machine.make("d", DAEMON, DAEMON, 0o755)
        local = {"domains": ["us.example"], "mailbox": f"maildir:{machine.mail}/{{user}}/",
                 "aliases": [str(table)], **settings.pop("local", {})}
        server = daemon.Postrider(self.folder_of_daemon, wrapper=machine.wrapper(), user="pridaemon",
                                  local=local, **settings)
        os.chmod(server.config_file, 0o644)
        self.using(server)
        return server.start()

    def forward(self, user, content):
        path = self.machine.homes / user / ".forward"
        path.write_text(content)
        uid = {"ann": ANN, "bob": BOB}[user]
        os.chown(path, uid, uid)

    def parent_of(self, server):
        for path in pathlib.Path("/proc").glob("[0-9]*"):
            try:
                status = (path / "status").read_text()
            except OSError:
                continue
            if f"PPid:\t{server.process.pid}\n" in status and "postrider-paren" in status:
                return int(path.name)
        raise AssertionError("there is no parent")


class TakenOver(World):
    def setUp(self):
        super().setUp()
        self.table = []
        self.addCleanup(lambda: print("\n".join(f"{what:58} {got:10} {text[:100]}"
                                                for what, got, text in self.table)))

    def note(self, what, answer, wanted):
        got, text = answer
        self.table.append((what, got, text))
        self.assertIn(got, wanted, f"{what}: {text}")

    def denied(self, what, answer):
        self.note(what, answer, DENIED)

    def test_what_a_token_command_reads_is_not_the_daemons(self):
        """The home of its user is a folder that the daemon writes."""
        machine = self.machine
        planted = f"open('{self.said}/planted', 'w')\n"
        for version in (f"python3.{minor}" for minor in range(8, 16)):
            site = machine.homes / "pridaemon" / ".local" / "lib" / version / "site-packages"
            site.mkdir(parents=True)
            (site / "usercustomize.py").write_text(planted)
        for path in (machine.homes / "pridaemon", *(machine.homes / "pridaemon").rglob("*")):
            os.chown(path, DAEMON, DAEMON)
        script = machine.folder / "token.py"
        script.write_text(
            "import os, pathlib, sys\n"
            "def parent(pid): return int(pathlib.Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[1])\n"
            "above = parent(os.getppid())\n"
            "try: os.kill(above, 0); said = 'reached'\n"
            "except PermissionError: said = 'out-of-reach'\n"
            "print(os.environ['HOME'] + os.getcwd() + said)\n")
        credentials = machine.folder / "credentials"
        credentials.write_text(f"user = x\ntoken_command = /usr/bin/python3 {script}\n")
        os.chown(credentials, 0, DAEMON)
        os.chmod(credentials, 0o640)
        server = self.start(route=[{"domain": "*", "next_hop": "smtps://mail.example:465",
                                    "credentials": str(credentials)}])
        one = wire.Wire(server.process.pid)
        self.addCleanup(one.close)
        got, text = one.ask(wire.request(wire.TOKEN, name=str(credentials)))
        self.note("a token, with files planted in its user's home", (got, text), ("text",))
        reach = "out-of-reach" if landlock_scopes_signals() else "reached"
        self.assertEqual(text.split(), [f"/nonexistent/{reach}"])
        self.assertFalse((self.said / "planted").exists())

    def test_what_it_asks_for(self):
        machine = self.machine
        program = str(self.program)
        server = self.start(f'list: "|{program} list", {self.said}/list.mbox\n'
                            f'roots: ann\n', delivery={"retry": ["30s"]})
        self.forward("ann", f'\\ann, "|{program} \'ann s\'", {machine.homes}/ann/box\n')
        plain = machine.homes / "bob" / ".profile"
        one = wire.Wire(server.process.pid)
        self.addCleanup(one.close)

        def command(arguments, to="ann@us.example", user="ann", source=ENTRY, **more):
            return one.perform(wire.job(to, COMMAND, arguments=arguments, user=user, source=source,
                                        **more), user, source)

        def mailbox(place, user, kind=MAILDIR, to=None, source=MAILBOX, root="", **more):
            return one.perform(wire.job(to or f"{user or 'root'}@us.example", kind, str(place),
                                        user=user, source=source, root=str(root), **more), user, source)

        shell = ["/bin/sh", "-c", f"id -u >{self.said}/shell"]
        for user in ("ann", "bob", "", "nobody", "root", "low", "pridaemon", "daemon"):
            for source in (MAILBOX, ENTRY, PLACE):
                self.denied(f"a shell as {user or 'itself'}, source {source}",
                            command(shell, user=user, source=source, name=user))
        self.denied("ann's command with another argument", command([program, "ann", "s"]))
        self.denied("ann's command as bob", command([program, "ann s"], user="bob",
                                                    to="bob@us.example"))
        self.denied("ann's command as itself", command([program, "ann s"], user=""))
        self.denied("ann's command as nobody", command([program, "ann s"], user="nobody"))
        self.denied("an alias's command as ann", command([program, "list"], to="list@us.example"))
        self.denied("an alias's command as bob", command([program, "list"], to="list@us.example",
                                                         user="bob"))
        self.denied("an alias's command as itself", command([program, "list"], to="list@us.example",
                                                            user=""))
        self.denied("an alias's command for another address", command(
            [program, "list"], to="roots@us.example", user="nobody"))
        for place in (plain, machine.mail / "bob", machine.homes / "ann" / "box2",
                      machine.mail / "ann" / ".." / "bob", "/etc/cron.d/x"):
            for user in ("ann", "bob", "", "nobody"):
                for kind in (MBOX, MAILDIR):
                    for source in (MAILBOX, ENTRY, PLACE):
                        if (place, user, kind, source) == (machine.mail / "bob", "bob", MAILDIR, MAILBOX):
                            continue
                        for name in {user, "bob", "root"}:
                            self.denied(f"{place.name if hasattr(place, 'name') else place} as "
                                        f"{user or 'itself'}, kind {kind}, source {source}, name {name}",
                                        mailbox(place, user, kind, source=source, root=machine.mail,
                                                name=name))
        for name in ("../bob", "bob/x", "", ".", "bob\0", "ROOT", "-x"):
            self.denied(f"the mailbox of {name!r}", mailbox(machine.mail / name.replace("\0", "0") if
                        name else machine.mail, "", name=name, root=machine.mail))
        self.denied("a request for ann with a delivery for bob", one.perform(
            wire.job("bob@us.example", MAILDIR, machine.mail / "bob", machine.mail, user="bob",
                     name="bob"), "ann"))
        self.denied("a request of another source than the delivery", one.perform(
            wire.job("ann@us.example", COMMAND, arguments=[program, "ann s"], user="ann",
                     source=ENTRY), "ann", MAILBOX))
        for name in (".forward.bak", ".forwarded", ".forward-keys"):
            (machine.homes / "ann" / name).write_text("a secret\n")
            os.chown(machine.homes / "ann" / name, ANN, ANN)
        for name in (".ssh/id_rsa", ".forward/../.profile", "../bob/.forward", ".forward+a/b", "",
                     ".forward.bak", ".forwarded", ".forward-keys"):
            self.denied(f"a file of ann's named {name!r}",
                        one.ask(wire.request(wire.READ_FORWARD, "ann", name)))
        for user in ("root", "low", "nobody", "no-such-user", "../ann"):
            self.denied(f"the .forward of {user}",
                        one.ask(wire.request(wire.READ_FORWARD, user, ".forward")))
        for path in ("/etc/shadow", str(server.config_file), "/etc/passwd", ""):
            self.denied(f"a token by {path!r}", one.ask(wire.request(wire.TOKEN, name=path)))
        with socket.socket() as listener:
            for host, port in (("127.0.0.1", 26), ("0.0.0.0", 25), ("127.0.0.1", 0)):
                self.note(f"to be bound to {host}:{port}", one.ask(
                    wire.request(wire.BIND, address=wire.ipv4(host, port)), listener.fileno()), UNBOUND)
            self.note("an address that is longer than it is", one.ask(
                wire.request(wire.BIND, address=wire.ipv4("127.0.0.1", 25), size=128),
                listener.fileno()), UNBOUND)

        # What it gets is what mail to these addresses gets from anybody.
        for what, answer in (
                ("ann's own command", command([program, "ann s"])),
                ("the alias's own command as nobody", command([program, "list"], user="nobody",
                                                              to="list@us.example")),
                ("bob's own mailbox", mailbox(machine.mail / "bob", "bob", root=machine.mail,
                                              name="bob")),
                ("root's mailbox as itself", mailbox(machine.mail / "root", "", root=machine.mail,
                                                     name="root"))):
            self.note(what, answer, ("performed",))
        self.note("ann's .forward", one.ask(wire.request(wire.READ_FORWARD, "ann", ".forward")), ("text",))
        self.assertEqual((self.said / "ann s").read_text().split(), [str(ANN)] * 2,
                         "one group, and no other")
        self.assertEqual((self.said / "list").read_text().split()[0], "65534")
        self.assertEqual(sorted(path.name for path in self.said.iterdir()), ["ann s", "list"])
        self.assertEqual(sorted(path.name for path in machine.mail.iterdir()), ["bob", "root"])
        self.assertFalse(plain.exists())
        self.assertFalse((machine.homes / "ann" / "box2").exists())
        self.assertEqual(os.stat(machine.mail / "bob").st_uid, BOB)

    def test_what_a_refused_reload_named_is_not_bound(self):
        server = self.start()
        one = wire.Wire(server.process.pid)
        self.addCleanup(one.close)
        with socket.create_server(("127.0.0.1", 0)) as taken, socket.socket() as fresh:
            fresh.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            port = taken.getsockname()[1]
            server.config_file.write_text(
                server.config_file.read_text() +
                f'\n[[listener]]\naddress = "127.0.0.1:{port}"\nrole = "mx"\n')
            server.reload()
            server.wait_for_log("config_refused")
            taken.close()
            self.note("to be bound to what a refused configuration names", one.ask(
                wire.request(wire.BIND, address=wire.ipv4("127.0.0.1", port)), fresh.fileno()), ("refused",))

    def test_a_delivery_that_changes_while_it_is_looked_at(self):
        """The daemon still holds the file that it passed: what is performed must be what was allowed."""
        program = str(self.program)
        server = self.start(f'list: "|{program} list"\n')
        one = wire.Wire(server.process.pid)
        self.addCleanup(one.close)

        def encoded(arguments, padding=0):
            return wire.job("list@us.example", COMMAND, arguments=arguments, user="nobody", source=ENTRY,
                            sender="a" * (20 + padding) + "@ext.example")
        good = encoded([program, "list"])
        bad = encoded([program, "evil"])
        bad = encoded([program, "evil"], len(good) - len(bad))
        self.assertEqual(len(good), len(bad))
        file, body = wire.memory_file(good), wire.memory_file(CONTENT)
        memory = mmap.mmap(file, len(good))
        writer = os.fork()
        if writer == 0:
            while True:
                memory[:] = bad
                memory[:] = good
        try:
            answers = [one.ask(wire.request(wire.PERFORM, "nobody", source=ENTRY), file, body)[0]
                       for _ in range(200)]
        finally:
            os.kill(writer, signal.SIGKILL)
            os.waitpid(writer, 0)
            os.close(file)
            os.close(body)
        self.assertEqual(set(answers) - set(DENIED), {"performed"}, "as the file said then")
        self.assertEqual({path.name.split(".")[0] for path in self.said.iterdir()}, {"list"})

    def test_wrong_forms_and_descriptors(self):
        server = self.start()
        parent = self.parent_of(server)
        one = wire.Wire(server.process.pid)
        self.addCleanup(one.close)
        before = len(os.listdir(f"/proc/{parent}/fd"))
        good = wire.job("ann@us.example", MAILDIR, self.machine.mail / "ann", self.machine.mail,
                        user="ann", name="ann")
        whole = wire.request(wire.PERFORM, "ann")
        file, body = wire.memory_file(good), wire.memory_file(b"x\r\n")
        folder, null = os.open("/", os.O_RDONLY), os.open("/dev/zero", os.O_RDONLY)
        path = os.open("/etc/passwd", os.O_PATH)
        pipe = os.pipe()
        opened = [file, body, folder, null, path, *pipe]
        self.addCleanup(lambda: [os.close(fd) for fd in opened])
        for what, packet, descriptors in (
                ("nothing", b"\0", [file, body]), ("too short", whole[:-1], [file, body]),
                ("too long", whole + b"x", [file, body]),
                ("of another protocol", wire.request(magic=1), [file, body]),
                ("of verb 0", wire.request(0), [file, body]), ("of verb 99", wire.request(99), []),
                ("of source 3", wire.request(source=3, user="ann"), [file, body]),
                ("with a name without an end", wire.request(user=b"a" * 64), [file, body]),
                ("with a path without an end", wire.request(name=b"a" * 1024), [file, body]),
                ("with one descriptor", whole, []), ("with two", whole, [file]),
                ("with four", whole, [file, body, body]), ("with five", whole, [file, body, body, body]),
                ("with 250", whole, [body] * 249)):
            for _ in range(20):
                self.note(f"a request {what}", one.ask(packet, *descriptors), ("silence",))
        for what, first, second in (("a folder for the delivery", folder, body),
                                    ("/dev/zero for the delivery", null, body),
                                    ("a pipe for the delivery", pipe[0], body),
                                    ("a folder for the message", file, folder),
                                    ("a pipe for the message", file, pipe[0]),
                                    ("/dev/zero for the message", file, null),
                                    ("a path for the message", file, path),
                                    ("rubbish for the delivery", body, body)):
            self.denied(what, one.ask(whole, first, second))
        for size in range(len(good)):
            cut = wire.memory_file(good[:size])
            answer = one.ask(whole, cut, body)
            os.close(cut)
            self.assertIn(answer[0], DENIED, size)
        self.note("the same, whole", one.ask(whole, file, body), ("performed",))
        wait.until(lambda: len(os.listdir(f"/proc/{parent}/fd")) == before,
                   lambda: f"{before} descriptors of the parent, now "
                           f"{len(os.listdir(f'/proc/{parent}/fd'))}")
        self.assertEqual(server.send("a@ext.example", "ann@us.example", CONTENT).code, 250)
        server.wait_until_empty()

    def test_what_lingers_when_it_is_closed_holds_the_parent_up_in_no_place(self):
        server = self.start()
        one = wire.Wire(server.process.pid)
        self.addCleanup(one.close)
        far = self.enterContext(socket.create_server(("127.0.0.1", 0)))
        peers = []

        def lingering():
            near = socket.create_connection(far.getsockname())
            peers.append(self.enterContext(far.accept()[0]))
            near.setblocking(False)
            try:
                while True:
                    near.send(b"x" * 65536)
            except BlockingIOError:
                pass
            near.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 600))
            return near
        body = wire.memory_file(b"x\r\n")
        self.addCleanup(os.close, body)
        good = wire.job("ann@us.example", MAILDIR, self.machine.mail / "ann", self.machine.mail,
                        user="ann", name="ann")
        for packet, before, behind in (
                (wire.request(wire.PERFORM, "ann"), [], [body, body]),  # for the answer
                (wire.request(wire.READ_FORWARD, "ann", ".forward"), [], []),
                (wire.request(wire.RELOAD), [], []),
                (wire.request(wire.BIND, address=wire.ipv4("127.0.0.1", 25)), [body], []),
                (wire.request(wire.PERFORM, "ann"), [body, body], []),
                (wire.request(wire.PERFORM, "ann"), [body, body, body], []),  # too many
                (wire.request(wire.PERFORM, "ann"), [body] * 200, []),
                (b"x", [], [])):
            near = lingering()
            one.send(packet, [*before, near.fileno(), *behind])
            near.close()
            self.assertEqual(one.perform(good, "ann")[0], "performed")
        self.assertEqual(server.send("a@ext.example", "ann@us.example", CONTENT).code, 250)
        server.wait_until_empty()

    def test_what_its_own_calls_get(self):
        if scenario.SANITIZED:
            self.skipTest("a sanitizer's own calls are in the way")
        server = self.start()
        parent = self.parent_of(server)
        spool = str(server.folder / "spool")
        with inject.Thread(server.process.pid) as thread:
            on_path = thread.call_with_texts
            rows = [re.match(r"\| (.*?) \| (\w+) \|$", line) for line in
                    (daemon.ROOT / "doc" / "privileges.md").read_text().split(
                        "## What its own calls get")[1].split("##")[0].splitlines()]
            wanted = {row[1]: row[2] for row in rows if row and row[1] != "the daemon tries"}
            got = {}
            for what, result in (
                    ("a link in the spool", on_path(266, "/etc", -100, spool + "/link")),
                    ("a link, the old way", on_path(88, "/etc", spool + "/link")),
                    ("a pipe in the spool", on_path(259, -100, spool + "/pipe", 0o10600, 0)),
                    ("SIGKILL to the parent", thread.call(62, parent, 9)),
                    ("SIGSTOP to its own group", thread.call(62, 0, 19)),
                    ("SIGKILL to all", thread.call(62, -1, 9)),
                    ("a signal to the parent's thread", thread.call(234, parent, parent, 9)),
                    ("limits of the parent", thread.call(302, parent, 7, 0, 0)),
                    ("ptrace of the parent", thread.call(101, 16, parent, 0, 0)),
                    ("the parent's priority", thread.call(141, 0, parent, 19)),
                    ("the parent's processors", on_path(203, parent, 8, "\1")),
                    ("the parent's scheduler", on_path(144, parent, 3, "")),
                    ("a set-user-id file in the spool",
                     on_path(257, -100, spool + "/suid", 0o102, 0o4755)),
                    ("a set-user-id file by chmod", on_path(90, spool + "/queue.db", 0o4700)),
                    ("a set-user-id file by fchmod",
                     thread.call(91, on_path(257, -100, spool + "/queue.db", 2, 0), 0o4700)),
                    ("a set-user-id file by fchmodat", on_path(268, -100, spool + "/queue.db", 0o4700)),
                    ("a set-group-id folder", on_path(83, spool + "/sgid", 0o2777)),
                    ("a set-group-id folder by mkdirat", on_path(258, -100, spool + "/sgid", 0o2777)),
                    ("a file by openat2", on_path(437, -100, spool + "/queue.db", "", 24)),
                    ("a socket's signals to the parent", thread.call(72, 0, 8, parent)),
                    ("memory to write and run", thread.call(9, 0, 4096, 7, 0x22, -1, 0)),
                    ("memory made to run", thread.call(10, thread.instruction & ~0xfff, 4096, 5)),
                    ("netfilter", thread.call(41, 16, 3, 12)), ("XFRM", thread.call(41, 16, 3, 6)),
                    ("MPTCP", thread.call(41, 2, 1, 262)), ("raw IP", thread.call(41, 2, 3, 1)),
                    ("the parent's descriptors", thread.call(438, parent, 0, 0)),
                    ("the parent's memory", on_path(257, -100, f"/proc/{parent}/mem", os.O_RDWR)),
                    ("the parent's root", on_path(257, -100, f"/proc/{parent}/root", os.O_RDONLY))):
                self.note(what, ("refused" if result < 0 else "given", str(result)), ("refused",))
                got[what] = "refused"
            self.assertEqual(got, wanted, "doc/privileges.md")
            self.assertGreater(thread.call(41, 16, 3, 0), 0, "routes are asked for")
            self.assertEqual(thread.call(62, server.process.pid, 0), 0, "itself it may signal")
            less = min(os.getpriority(os.PRIO_PROCESS, server.process.pid) + 1, 19)
            self.assertEqual(thread.call(141, 0, 0, less), 0, "and take less of the processor")
        self.assertEqual(sorted(set(os.listdir(spool)) & {"link", "pipe", "suid", "sgid"}), [])
        self.assertEqual(server.send("a@ext.example", "ann@us.example", CONTENT).code, 250)
        server.wait_until_empty()


class PamHelper(scenario.Scenario):
    """Whoever has taken the daemon over holds the helper's socket too."""

    def setUp(self):
        super().setUp()
        if not scenario.is_root():
            self.skipTest("needs root: a PAM service is a file in /etc/pam.d")
        self.service = f"postrider-over-{os.getpid()}"
        with open("/etc/pam.d/" + self.service, "w") as file:
            file.write("auth requisite pam_deny.so\naccount required pam_permit.so\n")
        self.addCleanup(os.unlink, "/etc/pam.d/" + self.service)
        self.socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            place = theirs.fileno()
            self.helper = subprocess.Popen(
                ["bash", "-c", f'exec 3<&{place} {place}<&-; exec "$0" "$1"' if place != 3 else
                 'exec "$0" "$1"', str(daemon.BIN / "postrider-pam"), self.service],
                pass_fds=[place], stdin=subprocess.DEVNULL)
        self.addCleanup(self.end)

    def end(self):
        self.socket.close()
        self.assertEqual(self.helper.wait(30), 0, "it ends with the daemon")

    def ask(self, packet, descriptors=1, with_delay=False):
        reading, writing = os.pipe()
        try:
            self.socket.sendmsg([packet], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array(
                "i", [writing] * descriptors))] if descriptors else [])
            os.close(writing)
            writing = -1
            return os.read(reading, 5 if with_delay else 1)
        finally:
            os.close(reading)
            if writing >= 0:
                os.close(writing)

    def test_what_it_gets(self):
        self.assertEqual(self.ask(b"ann\0secret\0" + b"127.0.0.1"), b"n")
        before = sorted(os.listdir(f"/proc/{self.helper.pid}/fd"))
        for what, packet, descriptors, wanted in (
                ("no packet to speak of", b"x", 1, b"t"), ("another service first",
                 b"su\0ann\0secret\0" + b"127.0.0.1", 1, b"n"),
                ("no password", b"ann\0\0", 1, b"t"), ("no user", b"\0secret\0", 1, b"t"),
                ("a path for a user", b"../../etc/shadow\0x\0", 1, b"n"),
                ("more than a packet", b"a" * 5000, 1, b""), ("two descriptors", b"ann\0x\0", 2, b""),
                ("three", b"ann\0x\0", 3, b""), ("two hundred", b"ann\0x\0", 200, b"")):
            for _ in range(5):
                got = self.ask(packet, descriptors)
                self.assertEqual(got, wanted, what)
            print(f"{what:58} {got!r}")
        self.assertEqual(self.ask(b"ann\0secret\0"), b"n", "it still answers")
        wait.until(lambda: sorted(os.listdir(f"/proc/{self.helper.pid}/fd")) == before,
                   "as many descriptors as before")

    def test_both_stages_of_pam_count(self):
        """A password that is right, of an account that is locked or has expired."""
        right, wrong, odd = "pam_permit.so", "pam_deny.so", "no_such_module.so"
        for auth, account, wanted in ((right, right, b"y"), (right, wrong, b"n"), (wrong, right, b"n"),
                                      (right, odd, b"t")):
            with open("/etc/pam.d/" + self.service, "w") as file:
                file.write(f"auth required {auth}\naccount required {account}\n")
            self.assertEqual(self.ask(b"ann\0secret\0"), wanted, f"auth {auth}, account {account}")

    def test_a_right_password_of_an_account_that_is_refused_is_a_wrong_one(self):
        """In its letter, and in the delay before the refusal; only what fails in PAM is told."""
        for auth, account, wanted in (
                ("success", "success", b"y"), ("auth_err", "success", b"n"),
                *(("success", refusal, b"n") for refusal in (
                    "authtok_expired", "acct_expired", "new_authtok_reqd", "perm_denied", "user_unknown", "auth_err",
                    "cred_expired", "cred_err", "authtok_err", "maxtries")),
                *(("success", failure, b"t") for failure in ("service_err", "system_err", "authinfo_unavail", "abort"))):
            with open("/etc/pam.d/" + self.service, "w") as file:
                file.write(f"auth optional pam_faildelay.so delay=4000000\nauth required pam_debug.so auth={auth}\n"
                           f"account required pam_debug.so acct={account}\n")
            answer = self.ask(b"ann\0secret\0", with_delay=True)
            delay = int.from_bytes(answer[1:], sys.byteorder)
            with self.subTest(auth=auth, account=account):
                self.assertEqual(answer[:1], wanted)
                if wanted == b"n":  # PAM varies it by half
                    self.assertGreater(delay, 1000000, "as after a wrong password")
                elif wanted == b"y":
                    self.assertEqual(delay, 0)

    def test_it_signals_nobody_outside(self):
        """The daemon and its parent have its user."""
        if scenario.SANITIZED or not landlock_scopes_signals():
            self.skipTest("needs a kernel whose Landlock knows signals")
        other = subprocess.Popen(["sleep", "600"])
        self.addCleanup(other.wait)
        self.addCleanup(other.kill)
        self.assertEqual(self.ask(b"x"), b"t", "it has started, and has no child")
        with inject.Thread(self.helper.pid) as thread:
            for what, result in (("tgkill", thread.call(234, other.pid, other.pid, 0)),
                                 ("tkill", thread.call(200, other.pid, 0)),
                                 ("kill", thread.call(62, other.pid, 0)),
                                 ("the daemon's priority", thread.call(141, 0, other.pid, 19)),
                                 ("the daemon's processors",
                                  thread.call_with_texts(203, other.pid, 8, "\1"))):
                print(f"{what:58} {result}")
                self.assertLess(result, 0, what)
        self.assertEqual(self.ask(b"ann\0secret\0"), b"n", "it still answers")

    def test_it_does_not_try_for_ever(self):
        """1,000 wrong passwords of an account in an hour; another's are still judged."""
        for count in range(1100):
            if self.ask(b"ann\0" + str(count).encode() + b"\0") == b"t":
                break
        self.assertGreaterEqual(count, 990)
        self.assertLess(count, 1099)
        self.assertEqual(self.ask(b"bob\0x\0"), b"n")


class Stopped(World):
    def test_a_stopped_delivery_ends_and_disturbs_nobody(self):
        """Its user stops the process that delivers: no alarm of its own can end it."""
        sleeper = self.machine.folder / "sleeper"
        sleeper.write_text(f"#!/bin/sh\necho $PPID $$ >{self.said}/.pids; mv {self.said}/.pids "
                           f"{self.said}/pids\nexec sleep 600\n")
        os.chmod(sleeper, 0o755)
        server = self.start(local={"command_time": "1s"}, delivery={"retry": ["10m"]})
        self.forward("ann", f'"|{sleeper}"\n')
        self.assertEqual(server.send("a@ext.example", "ann@us.example", CONTENT).code, 250)
        pids = wait.until(lambda: (self.said / "pids").exists() and
                          (self.said / "pids").read_text().split(), "the delivery")
        for pid in pids:
            subprocess.run(["setpriv", f"--reuid={ANN}", f"--regid={ANN}", "--clear-groups", "kill",
                            "-STOP", pid], check=True)
        self.assertEqual(server.send("a@ext.example", "bob@us.example", CONTENT).code, 250)
        wait.until(lambda: list((self.machine.mail / "bob" / "new").glob("*")), "bob's mail")
        self.assertTrue(all(os.path.exists(f"/proc/{pid}") for pid in pids), "not before its time")
        wait.until(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in pids),
                   "the end of what ann has stopped")
        entry = server.wait_for_log("attempted", verdict="deferred")[0]
        self.assertIn("ann@us.example", str(entry))

    def test_a_delivery_that_dies_is_told_whatever_else_is_under_way(self):
        """The end of its process is the end of its answer: no later delivery holds that open."""
        sleeper = self.machine.folder / "sleeper"
        sleeper.write_text(f"#!/bin/sh\necho $PPID >{self.said}/.$1; mv {self.said}/.$1 {self.said}/$1\n"
                           "exec sleep 600\n")
        os.chmod(sleeper, 0o755)
        server = self.start()
        one = wire.Wire(server.process.pid)
        self.addCleanup(one.close)
        answers = {}

        def ask(user):
            answers[user] = one.perform(wire.job(
                f"{user}@us.example", COMMAND, arguments=[str(sleeper), user], user=user,
                source=ENTRY), user, ENTRY)[0]
        threads, pids = [], {}
        for user in ("ann", "bob"):
            self.forward(user, f'"|{sleeper} {user}"\n')
            threads.append(threading.Thread(target=ask, args=(user,)))
            threads[-1].start()
            said = self.said / user
            pids[user] = wait.until(lambda: said.exists() and int(said.read_text()), "the delivery")
        for user, thread in zip(pids, threads):
            os.kill(pids[user], signal.SIGKILL)
            thread.join()
            self.assertEqual(answers[user], "silence", user)


if __name__ == "__main__":
    scenario.main()
