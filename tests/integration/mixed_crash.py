#!/usr/bin/python3
"""kill -9 and power cuts under mail of every kind: no promised recipient is lost, every copy is whole,
and what came twice was in flight at the cut.

A power cut is played by a file system of its own in a file: the kernel is asked to shut it down
without writing anything more (what xfs_io's `shutdown` does), so all that was not synced is gone;
then it is mounted again. POSTRIDER_KILLS and POSTRIDER_CUTS set how many."""
import ctypes
import fcntl
import glob
import os
import random
import shutil
import signal
import struct
import subprocess
import time

from support_py import mixed_load, scenario, wait

KILLS = int(os.environ.get("POSTRIDER_KILLS", 300 if scenario.FULL else 8))
CUTS = int(os.environ.get("POSTRIDER_CUTS", 50 if scenario.FULL else 3))  # for each file system
# Of each kind, until so many calls have failed or the clients have tried so often: some calls are rare,
# and the daemon ends itself when its storage stays failed.
FAULTS_OF_A_KIND, TRIES = (300, 400) if scenario.FULL else (20, 60)
FAULTS = [(calls, error) for calls, errors in (
    ("fdatasync,fsync", ("EIO", "ENOSPC")), ("pwrite64,pwritev", ("EIO", "ENOSPC")), ("pread64", ("EIO",)),
    ("write,writev", ("EIO", "ENOSPC")), ("openat", ("EMFILE", "EACCES", "ENOSPC", "EIO")),
    ("rename,renameat,renameat2", ("EIO",)), ("unlink,unlinkat", ("EIO", "EROFS")), ("ftruncate", ("EIO",)),
    ("fstat,newfstatat", ("EIO",)), ("statfs,fstatfs", ("EIO",)), ("fcntl", ("EIO",)),
    ("mmap", ("ENOMEM",)), ("accept4", ("EMFILE", "ENFILE")), ("socket", ("EMFILE",)),
    ("getdents64", ("EIO",))) for error in errors]
NEW_MOUNTS = 0x00020000  # CLONE_NEWNS
SHUTDOWN, WITHOUT_LOG = 0x8004587D, 2  # FS_IOC_SHUTDOWN of ext4 and xfs


def own_mounts():
    """What is mounted from here on is seen by this test's processes alone: a namespace that somebody else
    makes meanwhile would keep a copy of the mount, and with it the file system that was cut off."""
    if ctypes.CDLL(None, use_errno=True).unshare(NEW_MOUNTS) != 0:
        raise OSError(ctypes.get_errno(), "unshare")
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)


class FileSystem:
    """In a file with holes, mounted at `folder`; large enough that it never fills."""

    def __init__(self, kind, folder, size=(8 << 30) if scenario.FULL else (1 << 30)):
        self.kind, self.folder, self.image = kind, folder, folder.with_suffix(".image")
        folder.mkdir()
        with open(self.image, "wb") as file:
            file.truncate(size)
        subprocess.run([f"mkfs.{kind}", "-q", str(self.image)], check=True, stdout=subprocess.DEVNULL)
        self.mount()

    def mount(self):
        subprocess.run(["mount", "-o", "loop", str(self.image), str(self.folder)], check=True)
        os.chmod(self.folder, 0o755)

    def cut(self):
        """What is not synced is gone."""
        descriptor = os.open(self.folder, os.O_RDONLY)
        try:
            fcntl.ioctl(descriptor, SHUTDOWN, struct.pack("I", WITHOUT_LOG))
        finally:
            os.close(descriptor)

    def end_users(self):
        """A power cut ends every process; all that hold a file here were started by this test."""
        for process in filter(str.isdigit, os.listdir("/proc")):
            try:
                held = [os.readlink(path) for path in
                        (f"/proc/{process}/cwd", *glob.glob(f"/proc/{process}/fd/*"))]
                if any(path.startswith(f"{self.folder}/") for path in held):
                    os.kill(int(process), signal.SIGKILL)
            except OSError:
                pass  # it has ended by itself

    def again(self):
        self.end_users()
        wait.until(lambda: subprocess.run(["umount", str(self.folder)], stderr=subprocess.DEVNULL)
                   .returncode == 0, f"{self.folder} to be let go")
        self.mount()

    def stop(self):
        subprocess.run(["umount", str(self.folder)], check=False, stderr=subprocess.DEVNULL)
        self.image.unlink()


def can_mount(kind):
    return os.getuid() == 0 and shutil.which(f"mkfs.{kind}") and os.path.exists("/dev/loop-control")


def dropped(server):
    """What sendmail left for the daemon. What it had not finished when the power went was not promised, and
    is cleared away after a day."""
    return [path.name for path in (server.spool / "drop").rglob("*")
            if path.is_file() and not path.name.startswith("tmp.")]


class MixedCrash(scenario.Scenario):
    def begin(self, mount):
        self.seed = int(os.environ.get("POSTRIDER_SEED", random.randrange(1 << 30)))
        print(f"\n  seed {self.seed}", flush=True)
        world = mixed_load.World(self, mount)
        world.server.start()
        return world, self.using(mixed_load.Load(world)), random.Random(self.seed)

    def end(self, world, load, cuts):
        def promised():
            if not world.server.running():
                world.server.start()  # as a service manager does: storage that stays failed ends it
            return len(load.promised) > len(cuts)
        wait.until(promised, lambda: f"promises between {len(cuts)} cuts: {len(load.promised)} after "
                   f"{load.tries} turns, {world.server.log_file.read_text()[-2000:]}")
        load.stop()
        server = world.server
        server.wait_until_empty(wait.DEADLINE * (15 if scenario.FULL else 3))
        wait.until(lambda: not dropped(server), lambda: f"an empty drop folder: {dropped(server)}",
                   wait.DEADLINE * 2)
        server.wait_until_empty(wait.DEADLINE * (15 if scenario.FULL else 3))
        server.stop()
        account = mixed_load.Account(world, load, cuts)
        print(f"  {len(cuts)} cuts: {account.summary()}", flush=True)
        self.assertEqual(account.lost[:20], [], "promised, neither delivered nor bounced")
        self.assertEqual(account.torn[:20], [], "copies that are not whole")
        self.assertEqual(account.both[:20], [], "delivered and bounced")
        self.assertEqual(account.strange[:20], [], "copies of what was never sent")
        self.assertEqual(account.unexplained, {}, sorted(cuts))
        self.assertGreater(len(load.promised), len(cuts))
        return server

    def assert_no_bodies(self, server):
        self.assertEqual([str(p) for p in (server.spool / "body").rglob("*") if p.is_file()], [])

    def test_kills(self):
        world, load, chance = self.begin(self.own_folder("mount"))
        cuts = []
        for _ in range(KILLS):
            load.stopping.wait(0.1 + chance.random() * 0.9)  # the moment is what is tried
            world.server.kill()
            cuts.append(time.time())
            if chance.random() < 0.3:
                load.stopping.wait(0.3)  # mail for the drop folder
            world.server.start()
        self.assert_no_bodies(self.end(world, load, cuts))

    def test_failing_system_calls(self):
        """The queue's thread and the loops meet errors where the kernel may give them; strace plays it."""
        if not shutil.which("strace"):
            self.skipTest("strace is not installed")
        world, load, _ = self.begin(self.own_folder("mount"))
        faults, injected = [], 0
        for calls, error in FAULTS:
            began = time.time()
            injected += self.inject(world.server, load, calls, error)
            faults += [began + second for second in range(int(time.time() - began) + 3)]
        print(f"  {injected} calls failed", flush=True)
        self.assertGreater(injected, len(FAULTS))
        self.recover(world.server)
        self.end(world, load, faults)

    def recover(self, server):
        """Storage that stays failed ends the process, and the service manager starts another."""
        def answers():
            if not server.running():
                server.start()
            return server.tool("postrider", "queue", "--json", check=False).returncode == 0
        wait.until(answers, "a queue that can be listed", wait.DEADLINE * 2, pause=0.5)

    def inject(self, server, load, calls, error):
        """Every third of these calls fails for a while; how many did."""
        if not server.running():
            server.start()
        trace = server.folder / "trace"
        trace.unlink(missing_ok=True)

        def failed():
            return trace.read_bytes().count(b"(INJECTED)") if trace.exists() else 0
        tracer = subprocess.Popen(
            ["strace", "-f", "-qq", "-o", str(trace), "-e", f"trace={calls}", "-e",
             f"inject={calls}:error={error}:when=3+3", "-p", str(server.process.pid)],
            stderr=subprocess.DEVNULL)
        try:
            wait.until(lambda: tracer.poll() is not None or trace.exists(), "strace")
            tried = load.tries
            wait.until(lambda: tracer.poll() is not None or failed() >= FAULTS_OF_A_KIND or
                       load.tries - tried >= TRIES, lambda: f"faults of {calls}: {failed()} so far",
                       wait.DEADLINE * 5)
        finally:
            tracer.terminate()
            tracer.wait()
        return failed()

    def power_cuts(self, kind):
        if not can_mount(kind):
            self.skipTest(f"mounting a {kind} of its own needs root, mkfs.{kind} and loop devices")
        own_mounts()
        disk = self.using(FileSystem(kind, self.own_folder(kind) / "mount"))
        world, load, chance = self.begin(disk.folder)
        cuts = []
        for _ in range(CUTS):
            load.stopping.wait(0.3 + chance.random() * 1.5)  # the moment is what is tried
            world.has_power = False
            cuts.append(time.time())
            disk.cut()
            world.server.kill()
            disk.again()
            world.has_power = True
            world.server.start()
        self.assert_no_bodies(self.end(world, load, cuts))

    def test_power_cuts_ext4(self):
        self.power_cuts("ext4")

    def test_power_cuts_xfs(self):
        self.power_cuts("xfs")


if __name__ == "__main__":
    scenario.main()
