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


def wait_for_greeting(port, limit=30):
    deadline = time.monotonic() + limit
    while time.monotonic() < deadline:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
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

    def __init__(self, folder, sink_port):
        self.folder = pathlib.Path(folder) / self.name
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        self.port = free_port()
        self.sink_port = sink_port
        self.process = None
        self.hold_back = False  # accept mail, deliver none

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


class Postrider(Mta):
    name = "postrider"

    def __init__(self, folder, sink_port, binary):
        super().__init__(folder, sink_port)
        self.binary = binary

    def start(self):
        config = self.folder / "postrider.toml"
        config.write_text(f"""hostname = "mx.bench.example"
spool = "{self.folder}/spool"
user = ""
[[listener]]
address = "127.0.0.1:{self.port}"
role = "mx"
tls = "off"
[accept]
relay_from = ["127.0.0.0/8"]
[[route]]
domain = "*"
next_hop = "smtp://127.0.0.1:{self.sink_port}"
[delivery]
site_connections = 50
retry = ["{'1h' if self.hold_back else '1s'}"]
[control]
socket = "{self.folder}/control"
""")
        self.log = open(self.folder / "log", "w")
        self.process = subprocess.Popen([self.binary, "run", "-c", str(config)], stderr=self.log)
        wait_for_greeting(self.port)

    def tool(self, *arguments):
        return [self.binary, *arguments, "-c", str(self.folder / "postrider.toml")]

    def listing_command(self):
        return [str(pathlib.Path(self.binary).parent / "mailq"), "-c", str(self.folder / "postrider.toml")]

    def flush_queue(self):
        subprocess.run(self.tool("queue", "retry"), check=True, stdout=subprocess.DEVNULL)


class Postfix(Mta):
    """Debian's Postfix: no client look-ups, enough processes, 50 connections to the destination."""
    name = "postfix"

    def start(self):
        folder = self.folder
        (folder / "queue").mkdir(exist_ok=True)
        (folder / "data").mkdir(exist_ok=True)
        shutil.chown(folder / "data", "postfix", "postfix")
        for path in [folder, *folder.parents]:
            if path == pathlib.Path("/"):
                break
            if not path.stat().st_mode & 0o001:
                path.chmod(path.stat().st_mode | 0o011)
        (folder / "main.cf").write_text(f"""compatibility_level = 3.6
queue_directory = {folder}/queue
data_directory = {folder}/data
command_directory = /usr/sbin
daemon_directory = /usr/lib/postfix/sbin
maillog_file = {folder}/log
maillog_file_prefixes = /
myhostname = mx.bench.example
mydestination =
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
mynetworks = 127.0.0.0/8
relayhost = [127.0.0.1]:{self.sink_port}
smtp_host_lookup = native
smtpd_peername_lookup = no
default_process_limit = 200
default_destination_concurrency_limit = 50
initial_destination_concurrency = 50
smtp_destination_recipient_limit = 50
smtpd_client_connection_count_limit = 0
smtpd_client_connection_rate_limit = 0
qmgr_message_active_limit = 20000
qmgr_message_recipient_limit = 20000
smtp_connection_cache_on_demand = yes
smtp_connection_cache_destinations = [127.0.0.1]:{self.sink_port}
smtp_connection_reuse_time_limit = 300s
in_flow_delay = 0
alias_maps =
alias_database =
smtputf8_enable = yes
smtp_tls_security_level = none
defer_transports = {"smtp" if self.hold_back else ""}
""")
        master = pathlib.Path("/usr/share/postfix/master.cf.dist")
        lines = []
        for line in master.read_text().splitlines():
            fields = line.split()
            if line.startswith("#") or not fields:
                continue
            if fields[0] == "smtp" and fields[1] == "inet":
                line = f"127.0.0.1:{self.port} inet n - n - 200 smtpd"
            elif len(fields) > 7 and not line.startswith(" "):
                fields[4] = "n"
                line = " ".join(fields)
            lines.append(line)
        lines.append("postlog unix-dgram n - n - 1 postlogd") if not any(
            line.startswith("postlog") for line in lines) else None
        (folder / "master.cf").write_text("\n".join(lines) + "\n")
        subprocess.run(["postfix", "-c", str(folder), "check"], check=True, capture_output=True)
        self.process = subprocess.Popen(["postfix", "-c", str(folder), "start-fg"],
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for_greeting(self.port)

    def listing_command(self):
        return ["postqueue", "-c", str(self.folder), "-p"]

    def flush_queue(self):
        subprocess.run(["postqueue", "-c", str(self.folder), "-f"], check=True)

    def stop(self):
        subprocess.run(["postfix", "-c", str(self.folder), "stop"], capture_output=True)
        super().stop()
