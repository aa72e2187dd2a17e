"""Haraka as the remote, from npm: it refuses what is written behind a message before its reply. What
it takes it throws away. HARAKA names its program; without, it is installed beside the programs."""
import fcntl
import os
import pathlib
import shutil
import signal
import socket
import ssl
import subprocess

from support_py import wait

VERSION = "3.3"
# Takes every recipient and every message.
PLUGIN = """exports.hook_rcpt = function (next) { next(OK); };
exports.hook_queue = function (next) { next(OK, "taken"); };
"""


def program():
    """None without npm; an installation that fails is an error."""
    if "HARAKA" in os.environ:
        return os.environ["HARAKA"]
    if shutil.which("npm") is None or shutil.which("node") is None:
        return None
    folder = pathlib.Path(os.environ["POSTRIDER_BIN"]).parent / "haraka"
    found = folder / "node_modules" / ".bin" / "haraka"
    folder.mkdir(exist_ok=True)
    with open(folder / "lock", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not found.exists():
            subprocess.run(["npm", "install", "--no-audit", "--no-fund", "--no-save", "--prefix",
                            str(folder), f"Haraka@{VERSION}"], check=True, cwd=folder,
                           stdout=subprocess.DEVNULL)
    return found


class Haraka:
    def __init__(self, folder, certificate=None):
        folder = pathlib.Path(folder)
        self.port = wait.free_port()
        for name in ("config", "plugins", "queue"):
            (folder / name).mkdir()
        files = {
            "smtp.ini": f"listen=127.0.0.1:{self.port}\nnodes=0\n", "me": "haraka.example\n",
            "host_list": "far.example\n", "plugins": ("tls\n" if certificate else "") + "take\n",
            "connection.ini": "[headers]\nmax_received=100\n[max]\nbytes=60000000\n"
                              "[message]\nhelo=pleased to meet you\n[uuid]\nbanner_chars=6\n",
            "log.ini": "level=NOTICE\n"}
        if certificate:
            pem = pathlib.Path(certificate).read_text(encoding="ascii")
            files.update({"tls_cert.pem": pem, "tls_key.pem": pem, "tls.ini": ""})
        for name, text in files.items():
            (folder / "config" / name).write_text(text)
        (folder / "plugins" / "take.js").write_text(PLUGIN)
        self.log_file = folder / "log"
        with open(self.log_file, "wb") as log:
            self.process = subprocess.Popen([str(program()), "-c", str(folder)], stdout=log,
                                            stderr=log, stdin=subprocess.DEVNULL,
                                            start_new_session=True)
        wait.until(self.greets, lambda: "Haraka; " + self.log_file.read_text()[-2000:])

    def greets(self):
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=5) as connection:
                return connection.recv(3) == b"220"
        except (OSError, ssl.SSLError):
            return False

    def stop(self):
        """With the openssl that it starts to make parameters of its own."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
