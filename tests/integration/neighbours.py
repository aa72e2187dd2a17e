#!/usr/bin/python3
"""A good user of the machine beside a hostile one that does all it can at once: her mail's delays before
and meanwhile, and the memory of the processes. The long form goes on for ten minutes; POSTRIDER_SECONDS says
how long instead."""
import array
import ctypes
import json
import os
import pathlib
import resource
import select
import shutil
import signal
import socket
import subprocess
import threading
import time

from support_py import daemon, scenario, sink, smtp, wait
from support_py.accounts import ANN, BOB, DAEMON, Machine
from support_py.acting import Busy
from support_py.tools import children_of, name_of

EVE = BOB
DURING = int(os.environ.get("POSTRIDER_SECONDS", 600 if scenario.FULL else 12))
BEFORE = 2 if DURING < 60 else min(60, DURING // 4)
PACE = 1.5 if DURING >= 60 else 0  # seconds from message to message: 500 an hour are everybody's
MOST_MEMORY = 512 << 20  # of all the daemon's processes; the budget for content is 128 MiB
HEADER = {"sender": "bob@us.example", "recipients": ["x@stall.example"], "author": "bob@us.example",
          "size": 2}


def collisions():
    """A line of many different keys."""
    return b"{" + b",".join(b'"key%06d":0' % number for number in range(200_000)) + b"}\n"


class Neighbours(scenario.Scenario):
    def setUp(self):
        super().setUp()
        if not scenario.is_root() or not shutil.which("unshare"):
            self.skipTest("needs root: acts as several users")
        self.machine = Machine(self.own_folder("machine"))
        self.far = self.sink()
        # Takes no 8-bit content, and never ends a transaction.
        self.stalling = self.sink(extensions=(), script={"end": lambda *_: sink.HANG})
        table = self.machine.folder / "eves"
        table.write_text("eves: bob\n")
        os.chown(table, EVE, EVE)
        self.table = table
        own = self.machine.folder / "aliases"
        own.write_text("postmaster: ann\n")
        place = self.machine.make("d", DAEMON, DAEMON, 0o755)
        self.server = daemon.Postrider(
            place, wrapper=self.machine.wrapper(), user="pridaemon",
            local={"domains": ["us.example"], "mailbox": f"maildir:{self.machine.mail}/{{user}}/",
                   "aliases": [str(own), str(table)]},
            route=[{"domain": "stall.example", "next_hop": f"smtp://127.0.0.1:{self.stalling.port}",
                    "tls": "off"},
                   {"domain": "*", "next_hop": f"smtp://127.0.0.1:{self.far.port}", "tls": "off"}])
        os.chmod(self.server.config_file, 0o644)
        self.program = self.machine.folder / "sendmail"
        self.mailq = self.machine.folder / "mailq"
        for path in (self.program, self.mailq):
            shutil.copy(daemon.BIN / "postrider", path)
        self.stopper, self.bomb = (self.machine.folder / name for name in ("stopper", "bomb"))
        self.stopper.write_text("for i in 1 2 3 4 5; do setsid sleep 600 & done\n"
                                "kill -STOP $PPID\nsleep 600\n")
        self.bomb.write_text("while :; do setsid sleep 5 & done\n")
        self.using(self.server)
        self.server.start()
        self.home = self.machine.homes / "bob"
        self.submit = str(self.server.folder / "submit")
        self.drop = str(self.server.spool / "drop")

    # The good user

    def send(self, number):
        """A message to herself and one that leaves; the seconds until each is there."""
        subject = f"good-{number}"
        began = time.monotonic()
        done = subprocess.run([self.program, "-i", "reader@far.example"], input=f"Subject: {subject}\n\nx\n",
                              text=True, capture_output=True, env=self.server.environment(),
                              user=ANN, group=ANN, extra_groups=[], cwd="/", timeout=wait.DEADLINE)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        wait.until(lambda: len(self.good_mail()) > number, f"{subject} at its next hop", 300, 0.01)
        left = time.monotonic() - began
        began = time.monotonic()
        reply = smtp.send(self.server.port, "friend@far.example", "ann@us.example",
                          f"Subject: {subject}\r\n\r\nx\r\n".encode())
        self.assertEqual(reply.code, 250, reply)
        new = self.machine.mail / "ann" / "new"
        wait.until(lambda: new.is_dir() and len(os.listdir(new)) > number, f"{subject} in the mailbox",
                   300, 0.01)
        return left, time.monotonic() - began

    def good_mail(self):
        return [message for message in self.far.messages if b"Subject: good-" in message.content]

    def measure(self, seconds, first):
        """(numbers of messages, delays of those that left, of those that came)"""
        left, came = [], []
        end = time.monotonic() + seconds
        while time.monotonic() < end or len(left) < 5:
            began = time.monotonic()
            one, other = self.send(first + len(left))
            left.append(one)
            came.append(other)
            time.sleep(max(0, began + PACE - time.monotonic()))
        return left, came

    # The hostile one

    def connect(self, path=None):
        door = socket.socket(socket.AF_UNIX)
        door.settimeout(5)
        door.connect(path or self.submit)
        return door

    def say(self, *pieces):
        with self.connect() as door:
            for piece in pieces:
                door.sendall(piece)
            door.shutdown(socket.SHUT_WR)
            while door.recv(65536):
                pass

    def tell_nonsense(self, number):
        line = json.dumps(HEADER).encode() + b"\n"
        self.say(*[(collisions(),), (b"[" * 3_000_000,), (line, b"x"), (line, b"x\n" * 100_000),
                   (os.urandom(100_000),), ()][number % 6])

    def hold_doors(self, _):
        doors = []
        try:
            while len(doors) < 60:
                doors.append(self.connect())
            for _ in range(100):
                for door in doors[:50]:
                    door.send(b"{")
                time.sleep(0.05)
        finally:
            for door in doors:
                door.close()

    def pass_descriptors(self, _):
        with open("/etc/passwd") as file, self.connect() as door:
            for _ in range(20):
                door.sendmsg([b"{"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS,
                                       array.array("i", [file.fileno()] * 200))])

    def fill_drop_folder(self, number):
        base = f"{self.drop}/msg.{os.getpid()}.{number}"
        for part in range(50):
            path = f"{base}.{part}"
            [lambda: os.mkfifo(path), lambda: os.symlink("/etc/shadow", path),
             lambda: os.mkdir(path), lambda: self.bind(path),
             lambda: self.write(path, "{" * 100_000), lambda: self.write(path, "")][part % 6]()
            if part % 6 in (0, 4):
                os.utime(path, (1, 1), follow_symlinks=False)
        time.sleep(0.2)

    def bind(self, path):
        with socket.socket(socket.AF_UNIX) as door:
            door.bind(path)

    def write(self, path, text):
        with open(path, "w") as file:
            file.write(text)

    def submit_many(self, number):
        """Within her limits and beyond, from surroundings that are too small."""
        kind, limit = [(resource.RLIMIT_NOFILE, 4), (resource.RLIMIT_FSIZE, 0), (resource.RLIMIT_CPU, 1),
                       (resource.RLIMIT_AS, 20 << 20), (resource.RLIMIT_CORE, 0)][number % 5]
        to = ["bob@us.example", "bob+x@us.example", "eves@us.example", "x@stall.example"][number % 4]
        subprocess.run([self.program, "-i", to], input=b"Subject: eve\n\nx\n", capture_output=True,
                       env=self.server.environment(), cwd="/", timeout=20,
                       preexec_fn=lambda: resource.setrlimit(kind, (limit, limit)))

    def change_forward(self, number):
        path = self.home / ".forward"
        beside = self.home / f".forward.{number % 2}"
        beside.unlink(missing_ok=True)
        kind = number % 10
        if kind == 0:
            os.mkfifo(beside)
        elif kind == 1:
            beside.symlink_to("/etc/shadow")
        elif kind == 2:
            beside.write_text("x" * 200_000)
        elif kind == 3:
            beside.write_text(", ".join(f"bob+{at}@us.example" for at in range(500)) + "\n")
        elif kind == 4:
            beside.write_text('"|/bin/sh -c \'sleep 600 & sleep 600\'"\n')
        elif kind == 5:
            beside.write_text('"|/usr/bin/yes"\n')
        elif kind == 6:
            beside.write_text("\\bob, x@stall.example\n")
        elif kind == 7:  # stops its delivery, and leaves many behind
            beside.write_text(f'"|/bin/sh {self.stopper}"\n')
        elif kind == 8:
            beside.write_text(f'"|/bin/sh {self.bomb}"\n')
        else:
            beside.write_text('"|/bin/true"\n')
        beside.rename(path)
        time.sleep(1)

    def stop_deliveries(self, number):
        """Stops and slows down whatever of the parent's is hers, and what would end that; her own
        tricks are none of the parent's."""
        end = time.monotonic() + 2
        while time.monotonic() < end:
            for pid in children_of(self.parent):
                for what in (lambda: os.kill(pid, signal.SIGSTOP),
                             lambda: os.setpriority(os.PRIO_PROCESS, pid, 19),
                             lambda: os.sched_setscheduler(pid, os.SCHED_IDLE, os.sched_param(0)),
                             lambda: os.sched_setaffinity(pid, {number % os.cpu_count()})):
                    try:
                        what()
                    except OSError:
                        pass
            time.sleep(0.001)
        for pid in self.pids:
            for what in (signal.SIGSTOP, signal.SIGKILL, signal.SIGHUP):
                try:
                    os.kill(pid, what)
                except PermissionError:
                    continue
                os.write(2, b"a signal reached a process of the daemon\n")
        time.sleep(0.1)

    def race_drop_folder(self, number):
        """Changes a file just when it is opened, which its owner may watch."""
        name = f"{self.drop}/msg.race.{os.getpid()}.{number}"
        one, many = (json.dumps({**HEADER, "recipients": ["x@stall.example"] * count}) + "\nx\n"
                     for count in (1, 40))
        self.write(name + ".tmp", one)
        libc = ctypes.CDLL(None)
        watch = libc.inotify_init1(os.O_NONBLOCK)
        try:
            libc.inotify_add_watch(watch, (name + ".tmp").encode(), 0x20)  # IN_OPEN
            os.rename(name + ".tmp", name)
            if select.select([watch], [], [], 1)[0]:
                [lambda: os.rename(name, name + ".away"), lambda: self.write(name, many),
                 lambda: os.link(name, name + ".2"), lambda: os.unlink(name),
                 lambda: (self.write(name + ".tmp", many), os.rename(name + ".tmp", name))][number % 5]()
        finally:
            os.close(watch)
            self.write(name, many)
            time.sleep(0.1)

    def spoil_mailbox(self, number):
        """It is hers, and so is what lies in it."""
        box = self.machine.mail / "bob"
        new = box / "new"
        time.sleep(0.5)
        os.chmod(box, 0o700)
        new.rename(box / f"new.{number}")
        [lambda: os.mkfifo(new), lambda: new.symlink_to("/etc"), lambda: os.chmod(box, 0),
         lambda: new.symlink_to(self.machine.mail / "ann" / "new"), lambda: new.touch(0)][number % 5]()

    def flood_smtp(self, number):
        held = [socket.create_connection(("127.0.0.1", self.server.port), 5) for _ in range(30)]
        body = b"Subject: \xe4\r\nContent-Transfer-Encoding: 8bit\r\n\r\n" + b"\xe4" * 70 + b"\r\n"
        try:
            for door in held[:20]:
                door.sendall(b"EHLO x\r\n" + b"NOOP\r\n" * 50 + b"MAIL FROM:<bob@us.example>\r\n" +
                             b"RCPT TO:<bob@us.example>\r\nRCPT TO:<nobody-here@us.example>\r\n" * 50)
            for door in held[20:]:
                door.sendall(b"EHLO x\r\nMAIL FROM:<bob@us.example> BODY=8BITMIME\r\n"
                             b"RCPT TO:<x@stall.example>\r\nDATA\r\n")
                door.sendall(body + (b"\xe4" * 70 + b"\r\n") * 20_000 + b".\r\nQUIT\r\n")
                while door.recv(65536):
                    pass
        finally:
            for door in held:
                door.close()

    def urge(self, number):
        """Where her neighbour's mail goes: before all others, in all sizes, to as many as there may be."""
        with smtp.Client(self.server.port) as client:
            client.hello()
            client.command(f"MAIL FROM:<bob{number % 7}@us.example> MT-PRIORITY=9")
            client.send(b"".join(b"RCPT TO:<u%d@far.example>\r\n" % one for one in range(2000)))
            client.replies(2000)
            client.command("DATA")
            client.send(b"Subject: eve-urgent\r\n\r\n" + b"x" * 70 * (number % 3) + b"\r\n" + (b"x" * 70 + b"\r\n") *
                        (number % 2 * 30_000) + b".\r\n")
            client.reply()

    def change_table(self, number):
        """In place: the folder is root's."""
        self.table.write_text(["eves: bob\n", "eves: eves2\neves2: eves\n", "x" * 1_000_000,
                               "eves: :include:/etc/shadow\n", ": : :\n" * 10_000,
                               "postmaster: bob\n"][number % 6])
        time.sleep(0.3)

    def ask_control(self, _):
        for name in ("control", "parent", "submit"):
            try:
                with self.connect(str(self.server.folder / name)) as door:
                    door.sendall(b'{"verb":"queue","arguments":[]}\n')
                    door.recv(100)
            except OSError:
                pass
        subprocess.run([self.mailq], capture_output=True, env=self.server.environment(), cwd="/",
                       stdin=subprocess.DEVNULL, timeout=20)
        time.sleep(0.1)

    # Both

    def daemon_pids(self):
        children = pathlib.Path(f"/proc/{self.server.process.pid}/task/{self.server.process.pid}/children")
        return [self.server.process.pid, *map(int, children.read_text().split())]

    def memory(self):
        octets = 0
        for pid in self.daemon_pids():
            try:
                with open(f"/proc/{pid}/statm") as file:
                    octets += int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE")
            except (OSError, IndexError):
                pass
        return octets

    def test_a_good_user_beside_a_hostile_one(self):
        self.pids = self.daemon_pids()
        self.parent, = [pid for pid in self.pids if name_of(pid) == "postrider-paren"]
        before = self.measure(BEFORE, 0)
        memory = [self.memory()]
        tricks = [Busy(work.__name__, EVE, work) for work in (
            self.tell_nonsense, self.hold_doors, self.pass_descriptors, self.fill_drop_folder,
            self.race_drop_folder, self.spoil_mailbox, self.submit_many, self.change_forward,
            self.stop_deliveries, self.flood_smtp, self.urge, self.change_table, self.ask_control)]
        done = threading.Event()

        def watch():
            while not done.wait(0.2):
                memory.append(self.memory())
                for trick in tricks:
                    trick.count()
        watching = threading.Thread(target=watch)
        watching.start()
        try:
            during = self.measure(DURING, len(before[0]))
            wait.until(lambda: all(trick.rounds for trick in tricks),
                       lambda: f"a round of each; {[(t.name, t.rounds) for t in tricks]}")
        finally:
            done.set()
            watching.join()
            for trick in tricks:
                trick.stop()
        self.report(before, during, memory, tricks)
        self.assertTrue(self.server.running(), self.server.stderr()[-2000:])
        self.assertEqual(self.daemon_pids()[:len(self.pids)], self.pids, "a process was ended")
        if not scenario.SANITIZED:
            self.assertLess(max(memory), MOST_MEMORY)
        # Each of hers once, and nothing of the other's in her mailbox or from her to the sink.
        count = len(before[0]) + len(during[0])
        self.assertEqual(len(os.listdir(self.machine.mail / "ann" / "new")), count)
        others = [message for message in self.far.messages
                  if b"Subject: good-" not in message.content and b"Subject: eve-urgent" not in message.content]
        self.assertEqual(others, [])
        self.assertEqual(len(self.good_mail()), count)

    def report(self, before, during, memory, tricks):
        def figures(delays):
            delays = sorted(delays)
            return (f"{len(delays):5} messages, median {1000 * delays[len(delays) // 2]:.0f} ms, "
                    f"p99 {1000 * delays[len(delays) * 99 // 100]:.0f} ms, "
                    f"longest {1000 * delays[-1]:.0f} ms")
        for what, at in (("sent by sendmail", 0), ("received", 1)):
            print(f"\n  {what:17} before {figures(before[at])}\n  {'':17} during {figures(during[at])}")
        print(f"  memory of the processes, MiB: {memory[0] >> 20} before, at most {max(memory) >> 20}")
        print("  rounds: " + ", ".join(f"{trick.name} {trick.rounds}" for trick in tricks), flush=True)


if __name__ == "__main__":
    scenario.main()
