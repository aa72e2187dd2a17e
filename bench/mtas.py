"""The mail servers under test, each relaying everything to the sink with its normal durability."""
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import time

TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for_greeting(port, limit=30, address="127.0.0.1"):
    deadline = time.monotonic() + limit
    while time.monotonic() < deadline:
        try:
            with socket.create_connection((address, port), timeout=5) as connection:
                if connection.recv(4).startswith(b"220"):
                    connection.sendall(b"QUIT\r\n")
                    return
        except OSError:
            time.sleep(0.05)
    raise RuntimeError(f"nothing greets on port {port}")


def process_tree(root):
    children = {}
    for entry in pathlib.Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            children.setdefault(int(fields[1]), []).append(int(entry.name))
    found, wanted = [], [root]
    while wanted:
        pid = wanted.pop()
        found.append(pid)
        wanted += children.get(pid, [])
    return found


class Mta:
    name = "?"
    address = "127.0.0.1"

    def __init__(self, folder, sink_port, binaries):
        self.folder = pathlib.Path(folder) / self.name
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        self.port = free_port()
        self.sink_port = sink_port
        self.process = None
        self.bin = pathlib.Path(binaries)  # of Postrider
        self.hold_back = False  # accept mail, deliver none
        self.tls = False        # offer STARTTLS, and use it with the sink
        self.signed = False     # with DKIM, RSA and Ed25519; Postrider alone

    @staticmethod
    def program():
        """The server's program; None where it is not installed."""
        raise NotImplementedError

    def certificate(self):
        """Paths of a self-signed certificate and its key, made at the first call."""
        pem, key = self.folder.parent / "certificate.pem", self.folder.parent / "key.pem"
        if not pem.exists() or not key.exists():
            subprocess.run(
                ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
                 "-nodes", "-days", "30", "-subj", "/CN=mx.bench.example", "-out", pem, "-keyout", key],
                check=True, capture_output=True)
        return pem, key

    def settle(self, limit=10):
        """Returns when the server has done nothing for 0.2 s."""
        deadline = time.monotonic() + limit
        before = -1.0
        while time.monotonic() < deadline and (now := self.cpu_seconds()) > before:
            before = now
            time.sleep(0.2)

    def open_path(self):
        """Lets the server's own user reach its folder."""
        for path in [self.folder, *self.folder.parents]:
            if path == pathlib.Path("/"):
                break
            if not path.stat().st_mode & 0o001:
                path.chmod(path.stat().st_mode | 0o011)

    def cpu_seconds(self):
        """Of the whole process tree, with what ended children used."""
        total = 0
        for pid in process_tree(self.process.pid):
            try:
                fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            total += int(fields[11]) + int(fields[12])
            total += int(fields[13]) + int(fields[14])
        return total / TICKS

    def resident_kib(self):
        total = 0
        for pid in process_tree(self.process.pid):
            try:
                for line in pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                    if line.startswith("Pss:"):
                        total += int(line.split()[1])
            except OSError:
                continue
        return total

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
