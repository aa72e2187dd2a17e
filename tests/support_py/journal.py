"""A journal of its own: systemd-journald in a mount namespace, where the daemon runs too. Needs root."""
import pathlib
import shutil
import subprocess

from support_py import wait

JOURNALD = "/lib/systemd/systemd-journald"
SETUP = r"""
mount -t tmpfs tmpfs /run && mkdir -p /run/systemd/journal /run/systemd/journald.conf.d /run/log/journal &&
printf '[Journal]\nStorage=volatile\nRateLimitBurst=0\n' >/run/systemd/journald.conf.d/test.conf &&
mount --bind /dev "$1" && mount -t tmpfs -o mode=755 tmpfs /dev &&
for name in null zero full random urandom tty; do touch /dev/$name && mount --bind "$1/$name" /dev/$name; done &&
ln -s /proc/self/fd /dev/fd && ln -s /run/systemd/journal/dev-log /dev/log && exec %s
""" % JOURNALD
# As systemd starts a service: standard error is the journal's, or so it is said.
INSIDE = 'JOURNAL_STREAM=$(stat -L -c %d:%i /proc/self/fd/2) exec "$@"'


def is_here():
    return pathlib.Path(JOURNALD).exists() and all(map(shutil.which, ("unshare", "nsenter", "journalctl")))


class Journal:
    def __init__(self, folder):
        devices = folder / "dev"
        devices.mkdir()
        self.process = subprocess.Popen(
            ["unshare", "--mount", "--propagation", "private", "sh", "-c", SETUP, "sh", str(devices)],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait.until(lambda: self.inside("test", "-S", "/run/systemd/journal/socket").returncode == 0,
                   "the journal's socket")

    def wrapper(self):
        """Before a command: runs it there, with its own process id."""
        return ["nsenter", "--target", str(self.process.pid), "--mount", "sh", "-c", INSIDE, "sh"]

    def inside(self, *command):
        return subprocess.run(["nsenter", "--target", str(self.process.pid), "--mount", *command],
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def read(self, *options):
        """What journalctl says, of what is written so far."""
        done = self.inside("journalctl", "--no-pager", "--quiet", "--directory=/run/log/journal", *options)
        if done.returncode not in (0, 1):  # 1: no entry
            raise AssertionError(done.stderr)
        return done.stdout

    def stop(self):
        self.process.terminate()
        self.process.wait(wait.DEADLINE)
