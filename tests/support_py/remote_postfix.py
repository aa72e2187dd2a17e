"""A real Postfix as the remote: one smtpd for each address, each with its own settings; what it
takes it throws away and logs. Needs root."""
import pathlib
import shutil
import socket
import ssl
import subprocess

from support_py import wait
from support_py.tools import tool


class Postfix:
    """services: {"127.0.2.1": {"smtpd_tls_chain_files": ...}}; all at one port."""

    def __init__(self, folder, services, **main):
        self.folder = pathlib.Path(folder)
        self.port = wait.free_port(tuple(services))
        for name in ("queue", "data"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        shutil.chown(self.folder / "data", "postfix", "postfix")
        for path in [self.folder, *self.folder.parents]:
            if path != pathlib.Path("/") and not path.stat().st_mode & 0o001:
                path.chmod(path.stat().st_mode | 0o011)
        self.log = self.folder / "log"
        settings = {
            "compatibility_level": "3.6", "queue_directory": self.folder / "queue",
            "data_directory": self.folder / "data", "maillog_file": self.log,
            "maillog_file_prefixes": "/", "myhostname": "remote.example", "mydestination": "",
            "inet_interfaces": "127.0.0.1", "inet_protocols": "ipv4", "mynetworks": "127.0.0.0/8",
            "default_transport": "discard:", "smtpd_peername_lookup": "no", "alias_maps": "",
            "alias_database": "", "smtpd_tls_loglevel": "1", "command_directory": "/usr/sbin",
            "daemon_directory": "/usr/lib/postfix/sbin", **main}
        (self.folder / "main.cf").write_text(
            "".join(f"{key} = {value}\n" for key, value in settings.items()))
        self.write_services(services)
        subprocess.run([tool("postfix"), "-c", str(self.folder), "check"], check=True,
                       capture_output=True)
        self.process = subprocess.Popen([tool("postfix"), "-c", str(self.folder), "start-fg"],
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for address, options in services.items():
            implicit = options.get("smtpd_tls_wrappermode") == "yes"
            wait.until(lambda at=address, implicit=implicit: self.greets(at, implicit),
                       f"Postfix at {address}")

    def write_services(self, services):
        lines = []
        for line in pathlib.Path("/usr/share/postfix/master.cf.dist").read_text().splitlines():
            fields = line.split()
            if line.startswith("#") or not fields or fields[:2] == ["smtp", "inet"]:
                continue
            if len(fields) > 7 and not line.startswith(" "):
                fields[4] = "n"
                line = " ".join(fields)
            lines.append(line)
        if not any(line.startswith("postlog ") for line in lines):
            lines.append("postlog unix-dgram n - n - 1 postlogd")
        for address, options in services.items():
            lines.append(f"{address}:{self.port} inet n - n - - smtpd")
            lines += [f"  -o {key}={value}" for key, value in options.items()]
        (self.folder / "master.cf").write_text("\n".join(lines) + "\n")

    def greets(self, address, implicit):
        """implicit: under TLS from the first octet (smtpd_tls_wrappermode)."""
        anybody = ssl.create_default_context()
        anybody.check_hostname, anybody.verify_mode = False, ssl.CERT_NONE
        try:
            with socket.create_connection((address, self.port), 1) as connection:
                connection.settimeout(5)
                peer = anybody.wrap_socket(connection) if implicit else connection
                return peer.recv(3) == b"220"
        except OSError:
            return False

    def logged(self, *words):
        """The lines of its log that hold all of these."""
        return [line for line in self.log.read_text().splitlines()
                if all(word in line for word in words)]

    def stop(self):
        subprocess.run([tool("postfix"), "-c", str(self.folder), "stop"], capture_output=True)
        self.process.wait(wait.DEADLINE)
