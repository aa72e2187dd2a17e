"""A real Exim as the remote, from its Debian package, unpacked beside the programs and not installed;
what it takes it keeps in its queue. Needs root: its user exists in a mount namespace of its own."""
import fcntl
import os
import pathlib
import shutil
import socket
import subprocess

from support_py import wait

PACKAGE = "exim4-daemon-light"
UID = 2999


def program():
    """None where the package cannot be had."""
    folder = pathlib.Path(os.environ["POSTRIDER_BIN"]).parent / "exim"
    found = folder / "root/usr/sbin/exim4"
    if shutil.which("apt-get") is None or shutil.which("dpkg") is None:
        return None
    folder.mkdir(exist_ok=True)
    with open(folder / "lock", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not found.exists():
            got = subprocess.run(["apt-get", "download", PACKAGE], cwd=folder, check=False,
                                 stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            if got.returncode != 0:
                return None
            for package in folder.glob("*.deb"):
                subprocess.run(["dpkg", "-x", package, folder / "root"], check=True)
    return found


class Exim:
    def __init__(self, folder, certificate):
        folder = pathlib.Path(folder)
        self.port = wait.free_port()
        for path in [folder, *folder.parents]:
            if path != pathlib.Path("/") and not path.stat().st_mode & 0o001:
                path.chmod(path.stat().st_mode | 0o011)
        for name in ("spool", "log"):
            (folder / name).mkdir()
            os.chown(folder / name, UID, UID)
        shutil.copy(certificate, folder / "pem")
        os.chown(folder / "pem", UID, UID)
        (folder / "passwd").write_text(pathlib.Path("/etc/passwd").read_text() +
                                       f"Debian-exim:x:{UID}:{UID}::/:/bin/false\n")
        (folder / "group").write_text(pathlib.Path("/etc/group").read_text() +
                                      f"Debian-exim:x:{UID}:\n")
        (folder / "conf").write_text(f"""primary_hostname = exim.example
spool_directory = {folder}/spool
log_file_path = {folder}/log/%slog
local_interfaces = 127.0.0.1
daemon_smtp_ports = {self.port}
keep_environment =
tls_certificate = {folder}/pem
tls_privatekey = {folder}/pem
queue_only = true
smtp_accept_max = 100
smtp_accept_max_per_connection = 0
acl_smtp_rcpt = take
acl_smtp_data = take
begin acl
take:
  accept
""")
        script = ('mount --bind "$1/passwd" /etc/passwd && mount --bind "$1/group" /etc/group && '
                  'exec "$2" -C "$1/conf" -bdf')
        self.process = subprocess.Popen(
            ["unshare", "-m", "sh", "-c", script, "sh", str(folder), str(program())],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
        wait.until(self.greets, "Exim")

    def greets(self):
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=5) as connection:
                return connection.recv(3) == b"220"
        except OSError:
            return False

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(wait.DEADLINE)
        finally:
            self.process.kill()
            self.process.wait()
