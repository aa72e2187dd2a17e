#!/usr/bin/python3
"""Hostile users of the machine at its three doors (the submission socket, the drop folder, the control
socket), while a good one sends. Prints what each trick got."""
import array
import json
import os
import pathlib
import resource
import shlex
import shutil
import signal
import socket
import struct
import subprocess
import threading
import time

from support_py import daemon, fuse, scenario, wait
from support_py.acting import as_user, become

EVE, ANN = 3001, 3002
TO = "reader@far.example"
HEADER = {"sender": "eve@us.example", "recipients": [TO], "author": "eve@us.example", "size": 2}


class Attackers(scenario.Scenario):
    def setUp(self):
        super().setUp()
        if not scenario.is_root():
            self.skipTest("needs root: acts as several users")
        self.peer = self.sink()
        self.server = self.relay(self.peer, start=False, sendmail={"messages_per_hour": 0})
        at = self.server.folder
        while at != pathlib.Path("/"):
            os.chmod(at, os.stat(at).st_mode | 0o005)
            at = at.parent
        os.chmod(self.server.config_file, 0o644)
        self.program = self.server.folder / "sendmail"
        shutil.copy(daemon.BIN / "postrider", self.program)
        self.server.start()
        self.pid = self.server.process.pid
        self.submit = str(self.server.folder / "submit")
        self.drop = self.server.spool / "drop"
        self.rows = []

    def send(self, uid, subject):
        return subprocess.run([self.program, "-v", "-i", TO], input=f"Subject: {subject}\n\nx\n",
                              text=True, capture_output=True, env=self.server.environment(),
                              user=uid, group=uid, extra_groups=[], cwd="/", timeout=wait.DEADLINE)

    def connect(self):
        door = socket.socket(socket.AF_UNIX)
        door.settimeout(wait.DEADLINE)
        door.connect(self.submit)
        return door

    def say(self, *pieces):
        """On the submission socket; the exit code and sentence of the answer, or how it ended."""
        with self.connect() as door:
            try:
                for piece in pieces:
                    door.sendall(piece.encode() if isinstance(piece, str) else piece)
                door.shutdown(socket.SHUT_WR)
            except OSError:
                pass
            answer = b""
            while piece := door.recv(65536):
                answer += piece
        told = json.loads(answer)
        return f"{told['exit']} {told.get('error', 'queued')}"[:78]

    def line(self, **changes):
        return json.dumps({**HEADER, **changes}) + "\n"

    def note(self, door, trick, got):
        self.rows.append((door, trick, str(got)))
        return got

    def try_submission(self):
        many = "{" + ",".join(f'"k{number}":0' for number in range(100_000)) + "}\n"
        tricks = {
            "a member that is not ours": ((self.line(root=True), "x\n"), "76 "),
            "100,000 members": ((many, "x\n"), "76 "),
            "nested 100,000 deep": (("[" * 100_000 + "\n",), "76 "),
            "garbage": ((os.urandom(5000) + b"\n",), "76 "),
            "recipients that are a text": ((self.line(recipients=TO), "x\n"), "76 "),
            "recipients with commands in them": ((self.line(recipients=["a@b\nDATA"]), "x\n"), "65 "),
            "a million recipients": ((self.line(recipients=["a@b"] * 400_000), "x\n"), "76 "),
            "a size below zero": ((self.line(size=-1), "x\n"), "76 "),
            "a size of 2^40": ((self.line(size=1 << 40), "x\n"), "65 "),
            "content that ends early": ((self.line(size=100), "x\n"), "75 "),
            "content that goes on": ((self.line(), "x\n" + "y" * 100_000), "0 "),
            "a line of 5 MB without an end": (("x" * 5_000_000,), "7"),
            "nothing at all": ((), "76 "),
            "an author with line ends": ((self.line(author="a@x\n.\nMAIL FROM:<evil@x>\n"), "x\n"),
                                         "0 "),
        }
        for trick, (pieces, wanted) in tricks.items():
            with self.subTest(trick=trick):
                got = self.note("submission", trick, as_user(EVE, lambda: self.say(*pieces)))
                self.assertTrue(got.startswith(wanted), got)

    def test_a_good_user_is_not_disturbed(self):
        done = threading.Event()
        good = []

        def send_on():
            while not done.is_set() or len(good) < 20:
                began = time.monotonic()
                good.append((self.send(ANN, f"good-{len(good)}"), time.monotonic() - began))
        thread = threading.Thread(target=send_on)
        thread.start()
        memory = self.server.memory()
        try:
            self.try_submission()
            self.try_descriptors()
            self.try_drop_folder()
            self.try_control()
        finally:
            done.set()
            thread.join()
        self.note("", "memory before and after, MiB",
                  f"{memory >> 20} {self.server.memory() >> 20}")
        times = sorted(took for _, took in good)
        self.note("", "good user's sendmail: messages, median and longest, s",
                  f"{len(good)} {times[len(times) // 2]:.2f} {times[-1]:.2f}")
        for answer, _ in good:
            self.assertEqual((answer.returncode, answer.stderr), (0, ""))

        def subjects():
            return {line for message in self.peer.messages for line in message.content.split(b"\r\n")
                    if line.startswith(b"Subject: good-")}
        wait.until(lambda: len(subjects()) == len(good), lambda: f"{len(good)}: {subjects()}")
        self.server.wait_until_empty()
        for message in self.peer.messages:
            self.assertNotIn(b"evil", message.content)
            self.assertNotIn(b"root:", message.content)
        width = max(len(trick) for _, trick, _ in self.rows)
        print("".join(f"\n  {door:10} {trick:{width}} {got}" for door, trick, got in self.rows),
              flush=True)

    def try_descriptors(self):
        own = len(os.listdir(f"/proc/{self.server.process.pid}/fd"))

        def pass_them():
            with open("/etc/passwd") as file, self.connect() as door:
                for _ in range(20):
                    door.sendmsg([b"{"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS,
                                           array.array("i", [file.fileno()] * 50))])
                return "nothing"
        self.note("submission", "1,000 descriptors", as_user(EVE, pass_them))
        wait.until(lambda: len(os.listdir(f"/proc/{self.server.process.pid}/fd")) <= own + 5,
                   "the daemon has no more descriptors than before")

    def try_drop_folder(self):
        drop = self.drop
        content = self.line() + "x\n"

        def plant(name, make):
            return lambda: make(str(drop / name)) or "there"

        def write(text, mode=0o644):
            def make(path):
                with open(path, "w") as file:
                    file.write(text)
                os.chmod(path, mode)
            return make

        def sparse(path):
            with open(path, "w") as file:
                file.write(self.line(size=1 << 40))
                file.truncate(1 << 42)

        def full_folder(path):
            os.mkdir(path)
            os.mkdir(path + "/x")

        def stuck(path):
            for number in range(1200):
                os.mkfifo(f"{path}{number}")
                os.mkdir(f"{path}{number}.bad")
                os.mkdir(f"{path}{number}.bad/x")
        tricks = {
            "a link to /etc/shadow": plant("msg.link", lambda path: os.symlink("/etc/shadow", path)),
            "a FIFO": plant("msg.fifo", os.mkfifo),
            "a folder that is not empty": plant("msg.folder", full_folder),
            "a socket": plant("msg.socket", lambda path: socket.socket(socket.AF_UNIX).bind(path)),
            "4 TB of holes": plant("msg.sparse", sparse),
            "escape codes in the name": plant("msg.\x1b[2J\x9b\n\xff", write(content)),
            "the longest name": plant("msg." + "n" * 251, write(content)),
            "nobody may read it": plant("msg.closed", write(content, 0)),
            "3 MB of {": plant("msg.braces", write("{" * 3_000_000 + "\n")),
            "members that are not ours": plant("msg.members", write(self.line(color=1) + "x\n")),
            "a name of ours": plant("taken.1K1BR7W5SBS.x", write(content)),
            "1,200 that cannot be put aside": plant("msg.stuck", stuck),
        }
        for trick, work in tricks.items():
            with self.subTest(trick=trick):
                self.note("drop", trick, as_user(EVE, work))
        for trick, work in {
                "a look into the folder": lambda: os.listdir(drop),
                "another's file, removed": lambda: os.unlink(drop / "msg.ann"),
                "the folder's mode": lambda: os.chmod(drop, 0o777)}.items():
            (drop / "tmp.ann").write_text(self.line() + "x\n")
            (drop / "tmp.ann").rename(drop / "msg.ann")
            with self.subTest(trick=trick):
                self.assertIn(self.note("drop", trick, as_user(EVE, work)),
                              ("EACCES", "EPERM", "ENOENT"))

        def only_refused():
            return [name for name in os.listdir(drop) if not name.endswith(".bad")]
        wait.until(lambda: not only_refused(), lambda: f"all judged; {only_refused()[:5]}")
        self.assertNotIn("\x1b", self.server.log_file.read_text("utf-8", "backslashreplace"))

    def try_control(self):
        def ask():
            with socket.socket(socket.AF_UNIX) as door:
                door.connect(str(self.server.folder / "control"))
                return "connected"
        self.assertEqual(self.note("control", "a connection", as_user(EVE, ask)), "EACCES")
        # Whoever may connect, but writes nonsense, harms nobody.
        for request in (b"{" * 60_000 + b"\n", b"x" * 100_000, b"{" + b",".join(
                b'"k%d":0' % number for number in range(5000)) + b"}\n", b"\0\n"):
            with socket.socket(socket.AF_UNIX) as door:
                door.settimeout(wait.DEADLINE)
                door.connect(str(self.server.folder / "control"))
                try:
                    door.sendall(request)
                except OSError:
                    pass
                answer = door.recv(65536).decode()
            code = json.loads(answer.splitlines()[-1])["end"]["exit"]
            self.note("control", f"root: {request[:20]}...", code)
            self.assertNotEqual(code, 0)

    def test_connections_are_shared(self):
        """Four users hold all connections; root and a fifth still come in by the front door."""
        held = []
        self.addCleanup(lambda: [door.close() for door in held])

        def hold():
            doors = [self.connect() for _ in range(60)]
            refused = 0
            for door in doors[50:]:
                refused += json.loads(door.recv(4096)).get("busy", False)
            os.write(ready, b"%d\n" % refused)
            os.read(go_on, 1)
            return refused
        for uid in range(4001, 4005):
            reading, ready = os.pipe()
            go_on, finish = os.pipe()
            thread = threading.Thread(target=as_user, args=(uid, hold))
            thread.start()
            self.assertEqual(os.read(reading, 10), b"10\n")  # beyond 50 of one user
            self.addCleanup(thread.join)
            self.addCleanup(os.write, finish, b"x")
        for uid in (0, ANN, 0, ANN):
            done = self.send(uid, "through")
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertIn("queued as", done.stdout)
        # A user at the limit leaves the message for later instead of losing it.
        done = self.send(4001, "for-later")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.peer.wait_for(5)

    def lingering(self, far):
        """A TCP socket whose last close waits for a peer that reads nothing."""
        near = socket.create_connection(far.getsockname())
        peer, _ = far.accept()
        near.setblocking(False)
        try:
            while True:
                near.send(b"x" * 65536)
        except BlockingIOError:
            pass
        near.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 600))
        return near, peer

    def test_what_a_client_passes_holds_nobody_up(self):
        """Sockets that linger when they are closed, as those who read messages of others' must do"""
        far = self.enterContext(socket.create_server(("127.0.0.1", 0)))
        reading, ready = os.pipe()
        go_on, finish = os.pipe()

        def pass_them():
            kept = []

            def put(door, octets):
                near, peer = self.lingering(far)
                try:
                    door.sendmsg([octets], [(socket.SOL_SOCKET, socket.SCM_RIGHTS,
                                             array.array("i", [near.fileno()]))])
                except OSError:
                    pass  # it was hung up on
                # If the daemon has dropped it already, this is the last close, and waits.
                threading.Thread(target=near.close, daemon=True).start()
                kept.extend((door, peer))
            for octets in (b"{", self.line().encode() + b"x", b"\n"):
                put(self.connect(), octets)
            for _ in range(2):  # unread when the daemon closes
                door = self.connect()
                door.sendall(b"x\n" + b"y" * 100_000)
                put(door, b"z")
            os.write(ready, b"x")
            os.read(go_on, 1)
            return len(kept)
        thread = threading.Thread(target=as_user, args=(EVE, pass_them))
        thread.start()
        self.addCleanup(thread.join)
        self.addCleanup(os.write, finish, b"x")
        self.assertEqual(os.read(reading, 1), b"x")
        for number in range(3):
            done = self.send(ANN, f"good-{number}")
            self.assertEqual((done.returncode, done.stderr), (0, ""))
            self.assertIn("queued as", done.stdout)
        self.peer.wait_for(3)
        self.server.stop()

    def test_no_descriptor_that_is_passed_becomes_the_daemons(self):
        """However many there are of them, and however long their close takes."""
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        daemons = f"/proc/{self.server.process.pid}/fd"
        before = len(os.listdir(daemons))
        going = threading.Event()
        most = [before]

        def watch():
            while not going.is_set():
                most.append(len(os.listdir(daemons)))

        def flood():
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
            with open("/etc/passwd") as file:
                many = array.array("i", [file.fileno()] * 253)
                for _ in range(40):
                    with socket.socket(socket.AF_UNIX) as door:
                        door.connect(self.submit)
                        door.setblocking(False)
                        try:
                            for _ in range(100):
                                door.sendmsg([b"{"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, many)])
                        except OSError:
                            pass
            return "done"
        watching = threading.Thread(target=watch)
        watching.start()
        try:
            self.assertEqual(as_user(EVE, flood), "done")
        finally:
            going.set()
            watching.join()
        print(f"descriptors of the daemon: {before} before, at most {max(most)}")
        self.assertLess(max(most), before + 150)  # connections, and nothing that came by them
        done = self.send(ANN, "through")
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.peer.wait_for(1)

    def test_files_that_are_never_closed_are_not_the_daemons_to_close(self):
        """Of a file system whose server never answers a close"""
        files = self.using(fuse.Unclosed(self.server.folder / "fuse", EVE))
        if not files.is_mounted:
            self.skipTest("there is no FUSE")

        def pass_them():
            with open(files.path) as file:
                for _ in range(60):
                    with self.connect() as door:
                        try:
                            door.sendmsg([b"{"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS,
                                                   array.array("i", [file.fileno()] * 20))])
                        except OSError:
                            pass
                os._exit(0)  # its own close would wait, too
        child = os.fork()
        if child == 0:
            become(EVE)
            pass_them()
        self.addCleanup(os.waitpid, child, 0)
        self.addCleanup(files.stop)
        for number in range(3):
            done = self.send(ANN, f"good-{number}")
            self.assertEqual((done.returncode, done.stderr), (0, ""))
            self.assertIn("queued as", done.stdout)
        self.peer.wait_for(3)
        self.server.signal(signal.SIGTERM)  # nothing keeps it
        wait.until(lambda: self.server.process.poll() is not None, "the daemon's end")
        self.assertNotIn(self.pid, files.closers)

    def connect_as(self, uid):
        groups = os.getgroups()
        os.setgroups([])
        os.setegid(uid)
        os.seteuid(uid)
        try:
            return self.connect()
        finally:
            os.seteuid(0)
            os.setegid(0)
            os.setgroups(groups)

    def test_the_ids_that_a_user_was_lent_have_one_share(self):
        """Each of them holds one of the connections: still it is one user who holds them all."""
        lent = self.server.folder / "subuid"
        lent.write_text(f"{EVE}:100000:65536\n")
        alone = ["unshare", "--mount", "--propagation", "private"]
        bind = ["mount", "--bind", str(lent), "/etc/subuid"]
        if not os.path.exists("/etc/subuid") or subprocess.run(
                [*alone, *bind], stderr=subprocess.DEVNULL).returncode != 0:
            self.skipTest("cannot lend user ids")
        self.server.stop()
        self.server.wrapper = [*alone, "sh", "-c", shlex.join(bind) + ' && exec "$@"', "sh"]
        self.server.start()
        held = [self.connect_as(100_000 + number) for number in range(50)]
        self.addCleanup(lambda: [door.close() for door in held])
        with self.connect_as(100_000 + 50) as over:
            self.assertIn("busy", json.loads(over.recv(4096)))
        for number in range(51, 200):
            held.append(self.connect_as(100_000 + number))
        for uid in (0, ANN, ANN):
            done = self.send(uid, "through")
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertIn("queued as", done.stdout)
        self.peer.wait_for(3)


if __name__ == "__main__":
    scenario.main()
