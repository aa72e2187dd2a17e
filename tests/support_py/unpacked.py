"""Other mail servers from their Debian packages, which cannot be installed beside each other: they are
unpacked beside the programs, and run in a mount namespace that shows them the users and folders
that their packages would have made. Needs root."""
import fcntl
import os
import pathlib
import shutil
import smtplib
import socket
import ssl
import subprocess
import unittest

from support_py import daemon, wait


def root(*packages):
    """Where they are unpacked, by scripts/packages; the test is skipped where they cannot be had."""
    if shutil.which("apt-get") is None or shutil.which("dpkg") is None:
        raise unittest.SkipTest(f"{packages[0]} comes from a Debian package, and this is no Debian")
    folder = pathlib.Path(os.environ["POSTRIDER_BIN"]).parent / "peers"
    folder.mkdir(exist_ok=True)
    found = folder / packages[0]
    with open(folder / f"{packages[0]}.lock", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not found.exists():
            got = subprocess.run([str(daemon.ROOT / "scripts/packages"), "unpack", str(found), *packages],
                                 check=False, stdin=subprocess.DEVNULL, capture_output=True, text=True)
            if got.returncode != 0:
                reason = (got.stderr.strip() or "no reason given").splitlines()[-1]
                raise unittest.SkipTest(f"the package {packages[0]} cannot be had: {reason}")
    return found


class Server:
    """users: {name: number}, each with a group of its own; mounts: {a folder of ours: the place at
    which the server sees it}; folder: for everything it writes, whose user each part belongs to."""

    def __init__(self, folder, packages, users, mounts):
        self.folder = pathlib.Path(folder)
        self.root = root(*packages)
        self.port = wait.free_port()
        self.mounts = {**mounts, "passwd": "/etc/passwd", "group": "/etc/group"}
        self.process = None
        for path in [self.folder, *self.folder.parents]:
            if path != pathlib.Path("/") and not path.stat().st_mode & 0o001:
                path.chmod(path.stat().st_mode | 0o011)
        self.add_users("passwd", (f"{name}:x:{number}:{number}::/:/bin/false\n" for name, number in users.items()))
        self.add_users("group", (f"{name}:x:{number}:\n" for name, number in users.items()))

    def add_users(self, name, lines):
        (self.folder / name).write_text(pathlib.Path("/etc", name).read_text("utf-8") + "".join(lines), "utf-8")

    def own(self, name, user=0, mode=0o755):
        """A folder in ours that belongs to this user."""
        path = self.folder / name
        path.mkdir(parents=True)
        os.chown(path, user, user)
        path.chmod(mode)
        return path

    def start(self, *command):
        """In the foreground, as remote.example; until it greets."""
        script = "hostname remote.example\n" + "".join(
            f'mount --bind "$1/{ours}" {place} || exit 71\n' for ours, place in self.mounts.items()) + \
            'shift; exec "$@"'
        libraries = ":".join(str(path) for path in [*self.root.glob("usr/lib/*-linux-gnu*"),
                                                    *self.root.glob("lib/*-linux-gnu*")])
        with open(self.folder / "output", "wb") as output:
            self.process = subprocess.Popen(
                ["unshare", "-m", "-u", "sh", "-c", script, "sh", str(self.folder), *map(str, command)],
                stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                env={**os.environ, "LD_LIBRARY_PATH": libraries} if libraries else None)
        try:
            wait.until(self.greets, lambda: f"{command[0]}: {self.output()}")
        except BaseException:
            self.stop()
            raise

    def output(self):
        return (self.folder / "output").read_text("utf-8", "backslashreplace")[-2000:]

    def greets(self):
        if self.process.poll() is not None:
            raise AssertionError(f"it ended with {self.process.returncode}: {self.output()}")
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=5) as connection:
                return connection.recv(3) == b"220"
        except OSError:
            return False

    def tls_problem(self):
        """Why another client than ours gets no TLS from it; None if it does."""
        anybody = ssl.create_default_context()
        anybody.check_hostname, anybody.verify_mode = False, ssl.CERT_NONE
        try:
            with smtplib.SMTP("127.0.0.1", self.port, timeout=wait.DEADLINE) as client:
                client.starttls(context=anybody)
                client.ehlo()
        except (OSError, smtplib.SMTPException) as problem:
            said = [line for line in self.output().splitlines() if "SSL" in line or "STARTTLS" in line]
            return f"{problem}; it says: {said[-1] if said else 'nothing'}"
        return None

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(wait.DEADLINE)
        finally:
            self.process.kill()
            self.process.wait()
