"""A Mosquitto of the test's own, which may be killed and started again, and somebody who has subscribed with a
session that the broker keeps."""
import json
import socket
import subprocess

from support_py import daemon, wait
from support_py.tools import tool

USER, PASSWORD = "pr", "pr-secret"


class Mosquitto:
    def __init__(self, folder, read="mail/#", saves=False):
        """saves: it writes to its disk before long what it has acknowledged; otherwise when it ends."""
        self.folder, self.port, self.process = folder, wait.free_port(), None
        self.ports = {"mqtt": self.port}
        (folder / "password").touch(0o600)
        subprocess.run([tool("mosquitto_passwd"), "-b", folder / "password", USER, PASSWORD], check=True,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        (folder / "conf").write_text(
            f"allow_anonymous false\npassword_file {folder}/password\npersistence true\n"
            f"persistence_location {folder}/\nmax_queued_messages 0\nuser {daemon.USER}\nlog_type all\n"
            + ("autosave_interval 1\nautosave_on_changes true\n" if saves else "") +
            f"listener {self.port} 127.0.0.1\n")
        self.start().wait()
        with open(folder / "read", "wb") as output:
            self.reader = subprocess.Popen(
                [tool("stdbuf"), "-oL", tool("mosquitto_sub"), *self.access(), "-i", "reader", "-c", "-q", "1",
                 "-t", read, "-d", "-F", "%t %p"],
                stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)
        wait.until(lambda: b"Subscribed" in (folder / "read").read_bytes(), "the subscription")

    def access(self):
        return "-h", "127.0.0.1", "-p", str(self.port), "-u", USER, "-P", PASSWORD

    def start(self):
        with open(self.folder / "log", "ab") as log:
            self.process = subprocess.Popen([tool("mosquitto"), "-c", self.folder / "conf"],
                                            stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        return self

    def wait(self):
        wait.until(self.listens, "Mosquitto")
        return self

    def listens(self):
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
            return True
        except OSError:
            return False

    def end(self):
        self.process.terminate()
        self.process.wait()

    def kill(self):
        self.process.kill()
        self.process.wait()

    def stop(self):
        self.reader.kill()
        self.reader.wait()
        self.end()

    def log(self):
        return (self.folder / "log").read_text("utf-8", "replace")

    def publish(self, topic, body, *more):
        """Of quality 1; over when it is acknowledged."""
        what = ("-s",) if body else ("-n",)
        subprocess.run([tool("mosquitto_pub"), *self.access(), "-V", "5", "-q", "1", "-t", topic, *what, *more],
                       input=body, check=True, capture_output=True, timeout=wait.DEADLINE)

    def events(self, topic=""):
        """What the subscriber got, of topics that begin so."""
        lines = (line.partition(b" ") for line in (self.folder / "read").read_bytes().split(b"\n")[:-1])
        return [json.loads(body) for name, _, body in lines
                if body.startswith(b"{") and name.startswith(topic.encode())]
