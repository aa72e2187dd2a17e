#!/usr/bin/python3
"""What a command may take of the machine, and what is left of it when it has ended: nothing. With
users of its own and root's rights, as the service manager has."""
import os
import pathlib
import shutil
import signal
import sys
import uuid

from support_py import daemon, scenario, wait
from support_py.accounts import ANN, DAEMON, USERS, Machine
from support_py.tools import Tracer, children_of, name_of, processes_with

CONTENT = b"Subject: bounds\r\n\r\nx\r\n"
PRELUDE = """import os, signal, sys, time
def say(name, text):
    with open(f"{SAID}/.{name}", "w") as file: file.write(str(text))
    os.rename(f"{SAID}/.{name}", f"{SAID}/{name}")
def leave():
    "A child that gets away: a session of its own, and a parent that ends."
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            for fd in range(3): os.close(fd)
            os.execv("/bin/sleep", ["sleep", MARK])
        os._exit(0)
    os.wait()
"""


def group_root():
    """Where control groups of version 2 can be made and can end what is in them; or nothing."""
    for line in pathlib.Path("/proc/self/mountinfo").read_text().splitlines():
        words = line.split()
        if words[3] == "/" and words[words.index("-") + 1] == "cgroup2":
            path = pathlib.Path(words[4])
            return path if os.access(path, os.W_OK) else None
    return None


class CommandBounds(scenario.Scenario):
    def setUp(self):
        super().setUp()
        if not scenario.is_root() or not shutil.which("unshare"):
            self.skipTest("needs root: commands run as several accounts")
        self.machine = Machine(self.own_folder("machine"))
        self.said = self.machine.make("said", 0, 0, 0o1777)
        # No other sleep has it.
        self.mark = f"1000000.{uuid.uuid4().int}"

    def start(self, wrapper=(), **settings):
        folder = self.machine.make("d", DAEMON, DAEMON, 0o755)
        server = daemon.Postrider(
            folder, wrapper=[*wrapper, *self.machine.wrapper()], user="pridaemon",
            local={"mailbox": f"maildir:{self.machine.mail}/{{user}}/", **settings},
            delivery={"retry": ["1h"]})
        os.chmod(server.config_file, 0o644)
        self.using(server)
        return server.start()

    def command(self, user, text):
        path = self.machine.folder / f"{user}.py"
        path.write_text(f"#!{sys.executable} -ISB\nSAID, MARK = {str(self.said)!r}, {self.mark!r}\n"
                        + PRELUDE + text)
        path.chmod(0o755)
        forward = self.machine.homes / user / ".forward"
        forward.write_text(f'"|{path}"\n')
        os.chown(forward, USERS[user], USERS[user])

    def send(self, server, user):
        self.assertEqual(server.send("a@ext.example", f"{user}@us.example", CONTENT).code, 250)

    def heard(self, name):
        path = self.said / name
        return wait.until(lambda: path.exists() and path.read_text(), f"the command says {name}")

    def attempt(self, server, verdict):
        return server.wait_for_log("attempted", verdict=verdict, to="ann@us.example")[0]

    def left(self):
        """What the command started and is alive."""
        return [pid for text in (self.mark, *(str(self.machine.folder / f"{user}.py") for user in USERS))
                for pid in processes_with(text)]

    def assert_nothing_is_left(self):
        wait.until(lambda: not self.left(), lambda: f"the end of {self.left()}")

    def test_a_command_that_forks_without_end(self):
        self.command("ann", """
count = 0
try:
    while count < 400:
        if os.fork() == 0:
            os.setsid()
            time.sleep(1e6)
        count += 1
except BlockingIOError: pass
say("count", count)
time.sleep(1e6)
""")
        server = self.start(command_processes=40, command_time="5s")
        self.assertLessEqual(int(self.heard_after(server, "count")), 40)
        self.send(server, "bob")  # whose mail goes on meanwhile
        server.wait_for_log("attempted", verdict="sent", to="bob@us.example")
        self.assertIn("took too long", self.attempt(server, "deferred")["reason"])
        self.assert_nothing_is_left()

    def test_a_bomb_is_ended_while_it_explodes(self):
        self.command("ann", """
say("begun", 1)
os.closerange(0, 3)
for fd in range(3): os.open("/dev/null", os.O_RDWR)
end = time.monotonic() + 600
while time.monotonic() < end:
    try:
        if os.fork() == 0: os.setsid()
    except BlockingIOError: time.sleep(0.01)
""")
        server = self.start(command_processes=40, command_time="2s")
        self.heard_after(server, "begun")
        self.attempt(server, "deferred")
        self.assert_nothing_is_left()

    def test_what_a_command_leaves_behind_ends_with_it(self):
        self.command("ann", 'leave()\nsay("left", 1)\n')
        server = self.start()
        self.send(server, "ann")
        self.attempt(server, "sent")
        self.heard("left")
        self.assertEqual(self.left(), [])  # before it counts as delivered

    def test_what_soon_ends_by_itself_is_not_cut_off(self):
        self.command("ann", """
if os.fork() == 0:
    os.setsid()
    time.sleep(0.2)
    say("late", 1)
""")
        server = self.start()
        self.send(server, "ann")
        self.attempt(server, "sent")
        self.assertTrue((self.said / "late").exists())

    def test_a_command_that_stops_its_delivery(self):
        """And one that kills it: what it started is the parent's to end."""
        for number, verb in enumerate(("SIGSTOP", "SIGKILL"), 1):
            with self.subTest(signal=verb):
                self.command("ann", f"""
leave()
if os.fork() == 0: time.sleep(1e6)
say("{verb}", os.getppid())
os.kill(os.getppid(), signal.{verb})
time.sleep(1e6)
""")
                if number == 1:
                    server = self.start(command_time="1s")
                self.heard_after(server, verb)
                server.wait_for_log("attempted", verdict="deferred", count=number,
                                    to="ann@us.example")
                self.assert_nothing_is_left()

    def test_a_command_that_hunts_who_ends_it(self):
        """It stops its delivery, and whatever of the parent's it can reach. Whoever ends a delivery is
        slowed down just when it has taken on the user, so that nobody could miss it."""
        if scenario.SANITIZED or not shutil.which("strace"):
            self.skipTest("needs strace, and processes that nothing else traces")
        self.command("ann", """
parent = int(open(f"/proc/{os.getppid()}/stat").read().rpartition(")")[2].split()[1])
delivery = os.getppid()
if os.fork() == 0:
    os.setsid()
    if os.fork() != 0: os._exit(0)
    for fd in range(3): os.close(fd)
    say("hunting", os.getpid())
    end = time.monotonic() + 120
    while time.monotonic() < end:
        for pid in map(int, open(f"/proc/{parent}/task/{parent}/children").read().split()):
            if pid in (delivery, os.getpid()): continue
            try:  # what is left of her own command may be reached
                if not open(f"/proc/{pid}/comm").read().startswith("postrider"): continue
                os.kill(pid, signal.SIGSTOP)
            except OSError: continue
            say("reached", pid)
    os._exit(0)
os.wait()
os.kill(delivery, signal.SIGSTOP)
time.sleep(1e6)
""")
        self.command("bob", """
leave()
say("left", os.getppid())
os.kill(os.getppid(), signal.SIGKILL)
""")
        server = self.start(command_time="1s")
        parent, = [pid for pid in children_of(server.process.pid) if name_of(pid) == "postrider-paren"]
        before = children_of(parent)

        def end_all():
            for pid in set(children_of(parent)) - set(before):
                os.kill(pid, signal.SIGKILL)
        self.addCleanup(end_all)
        trace = server.folder / "trace"
        with Tracer(["-f", "-qq", "-o", str(trace), "-e", "trace=setresuid", "-e",
                     "inject=setresuid:delay_exit=1500000"], parent):
            self.heard_after(server, "hunting")
            self.attempt(server, "deferred")
            self.assert_nothing_is_left()
            wait.until(lambda: children_of(parent) == before, lambda: f"{children_of(parent)} {before}")
            self.assertFalse((self.said / "reached").exists())
            # While ann hunts, what bob's command left behind ends as ever.
            self.send(server, "ann")
            server.wait_for_log("attempted", verdict="deferred", count=2, to="ann@us.example")
            self.heard_after(server, "left", "bob")
            self.assert_nothing_is_left()
            wait.until(lambda: children_of(parent) == before, lambda: f"{children_of(parent)} {before}")
        self.assertFalse((self.said / "reached").exists())

    def test_deliveries_that_nothing_ends_count_for_their_user(self):
        """As those are that a file system of the user's own holds; here it is a freezer."""
        freezer = pathlib.Path("/sys/fs/cgroup/freezer")
        if not (freezer / "cgroup.procs").exists() or not os.access(freezer, os.W_OK):
            self.skipTest("needs a freezer of control groups of version 1, in which no signal arrives")
        ice = freezer / f"pr-{uuid.uuid4()}"
        ice.mkdir()

        def gone():
            try:
                ice.rmdir()
            except OSError:
                return False
            return True

        def thaw():
            if ice.exists():
                (ice / "freezer.state").write_text("THAWED")
                wait.until(gone, "the freezer is empty")
        self.addCleanup(thaw)
        program = self.machine.folder / "holds"
        program.write_text(f"#!/bin/sh\n: >{self.said}/$1\nexec sleep {self.mark}\n")
        program.chmod(0o755)
        count = 11
        table = self.machine.folder / "anns"  # whose commands run as she
        table.write_text("".join(f'a{number}: "|{program} {number}"\n' for number in range(count)))
        os.chown(table, ANN, ANN)
        server = self.start(command_time="20s", deliveries=100, aliases=[str(table)],
                            domains=["us.example"])
        parent, = [pid for pid in children_of(server.process.pid) if name_of(pid) == "postrider-paren"]
        before = children_of(parent)
        for number in range(count):
            self.send(server, f"a{number}")
        wait.until(lambda: all((self.said / str(number)).exists() for number in range(count)),
                   lambda: f"all commands; {os.listdir(self.said)} {server.log('attempted')[:2]}")
        (ice / "freezer.state").write_text("FROZEN")
        for pid in set(children_of(parent)) - set(before):
            (ice / "cgroup.procs").write_text(str(pid))
        wait.until(lambda: (ice / "freezer.state").read_text() == "FROZEN\n", "they are frozen")
        held = set((ice / "cgroup.procs").read_text().split())
        self.assertEqual(len(held), count)
        server.wait_for_log("attempted", verdict="deferred", count=count)

        def refused():
            self.send(server, "ann")
            return [entry for entry in server.log("attempted")
                    if "earlier ones of its user do not end" in entry.get("reason", "")]
        wait.until(refused, "ann gets no more", pause=0.5)
        self.send(server, "bob")
        server.wait_for_log("attempted", verdict="sent", to="bob@us.example")
        self.assertEqual(set((ice / "cgroup.procs").read_text().split()), held)
        thaw()
        wait.until(lambda: children_of(parent) == before, "they end")
        server.retry_all()
        server.wait_for_log("attempted", verdict="sent", to="ann@us.example")

    def test_a_command_that_eats_memory(self):
        self.command("ann", """
try:
    bytearray(300 << 20)
    say("memory", "got it")
except MemoryError:
    say("memory", "refused")
""")
        server = self.start(command_memory="100MiB")
        self.send(server, "ann")
        self.assertEqual(self.heard("memory"), "refused")

    def own_group(self, controllers=()):
        """A group that is the daemon's to divide, and what starts it in there."""
        root = group_root()
        if root is None:
            self.skipTest("no control groups of version 2 that we may write to")
        for controller in controllers:
            if controller not in (root / "cgroup.controllers").read_text().split():
                self.skipTest(f"control groups of version 2 have no controller {controller} here: "
                              "limits in force are not tried")
            try:
                (root / "cgroup.subtree_control").write_text(f"+{controller}")
            except OSError as problem:
                self.skipTest(f"the controller {controller} cannot be handed down from {root}, so "
                              f"limits in force are not tried: {problem}")
        ours = root / f"pr-{uuid.uuid4()}"
        ours.mkdir()

        def remove():
            for folder in sorted(ours.rglob("*/"), reverse=True):
                if folder.is_dir():
                    wait.until(lambda folder=folder: not folder.exists() or empty(folder), folder)
            wait.until(lambda: empty(ours), ours)

        def empty(folder):
            try:
                folder.rmdir()
            except OSError:
                return False
            return True
        self.addCleanup(remove)
        for path in (ours, ours / "cgroup.procs", ours / "cgroup.subtree_control"):
            os.chown(path, DAEMON, DAEMON)
        return ours, ["sh", "-c", f'echo 0 >{ours}/cgroup.procs && exec "$@"', "sh"]

    def test_limits_hold_for_a_whole_control_group(self):
        """Where the controllers are: here each process alone is within its own limits."""
        _, wrapper = self.own_group(("pids", "memory"))
        mine = """
mount = [line for line in open("/proc/self/mountinfo") if " - cgroup2 " in line][0].split()[4]
mine = mount + [line for line in open("/proc/self/cgroup") if line.startswith("0::")][0][3:].strip()
"""
        self.command("ann", mine + """
say("limits", [int(open(f"{mine}/{name}").read()) for name in ("pids.max", "memory.max")])
count = 0
try:
    while count < 400:
        if os.fork() == 0:
            os.setsid()
            time.sleep(1e6)
        count += 1
except BlockingIOError: pass
say("count", count)
os._exit(75)
""")
        self.command("bob", """
for _ in range(8):
    if os.fork() == 0:
        os.setsid()
        held = b"x" * (40 << 20)
        time.sleep(1e6)
time.sleep(1e6)
""")
        server = self.start(wrapper=wrapper, command_processes=30, command_memory="100MiB")
        self.assertEqual(self.heard_after(server, "limits"), str([30, 100 << 20]))
        self.assertLess(int(self.heard("count")), 30)
        self.assertIn("more processes than local.command_processes",
                      self.attempt(server, "deferred")["reason"])
        self.send(server, "bob")
        ended, = server.wait_for_log("attempted", verdict="deferred", to="bob@us.example")
        self.assertIn("more memory than local.command_memory", ended["reason"])
        self.assert_nothing_is_left()
        server.stop()

    def test_each_command_has_a_control_group_where_they_are_ours(self):
        ours, wrapper = self.own_group()
        self.command("ann", """
leave()
with open("/proc/self/cgroup") as file: say("group", file.read())
try:
    with open(f"{[line for line in open('/proc/self/mountinfo') if ' - cgroup2 ' in line][0].split()[4]}"
              + [line for line in open('/proc/self/cgroup') if line.startswith('0::')][0][3:].strip()
              + "/../../daemon/cgroup.procs", "w") as file: file.write("0")
    say("escape", "possible")
except OSError as error: say("escape", error.errno)
os.kill(os.getppid(), signal.SIGSTOP)
time.sleep(1e6)
""")
        server = self.start(wrapper=wrapper, command_time="1s")
        group = [line for line in self.heard_after(server, "group").splitlines()
                 if line.startswith("0::")][0]
        self.assertRegex(group, rf"^0::/{ours.name}/commands/\d+$")
        self.assertEqual(self.heard("escape"), "13")
        own = pathlib.Path(f"/proc/{server.process.pid}/cgroup").read_text()
        self.assertIn(f"0::/{ours.name}/daemon\n", own)
        self.attempt(server, "deferred")
        self.assert_nothing_is_left()
        wait.until(lambda: not list((ours / "commands").glob("[0-9]*")), "the group is removed")
        server.stop()

    def heard_after(self, server, name, user="ann"):
        """One more delivery's command says it; where its time ended before it could, the next one's."""
        def attempts():
            return len(server.log("attempted", to=f"{user}@us.example"))
        for _ in range(10):
            before = attempts()
            self.send(server, user)
            wait.until(lambda: (self.said / name).exists() or attempts() > before, f"the command says {name}")
            if (self.said / name).exists():
                break
        return self.heard(name)


if __name__ == "__main__":
    scenario.main()
