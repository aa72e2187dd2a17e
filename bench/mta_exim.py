"""Exim, from Debian's package. Exim and Postfix cannot both be installed: point EXIM at the program
of an unpacked package (dpkg -x exim4-daemon-light_*.deb FOLDER) and add the user Debian-exim."""
import os
import pathlib
import shutil
import subprocess
import sys

from mtas import Mta, wait_for_greeting


class Exim(Mta):
    """No client look-ups, no limit on clients, a delivery process at once for each message."""
    name = "exim"

    @staticmethod
    def program():
        return os.environ.get("EXIM") or shutil.which("exim4") or shutil.which("exim")

    def start(self):
        folder = self.folder
        for part in ("spool", "log"):
            (folder / part).mkdir(exist_ok=True)
            shutil.chown(folder / part, "Debian-exim", "Debian-exim")
        self.open_path()
        config = folder / "exim.conf"
        config.write_text(f"""exim_path = {self.program()}
spool_directory = {folder}/spool
log_file_path = {folder}/log/%slog
primary_hostname = mx.bench.example
local_interfaces = 127.0.0.1
daemon_smtp_ports = {self.port}
exim_user = Debian-exim
exim_group = Debian-exim
host_lookup =
rfc1413_query_timeout = 0s
smtp_accept_max = 0
smtp_accept_queue_per_connection = 0
smtp_accept_max_per_connection = 0
smtp_connect_backlog = 200
recipients_max = 1000
remote_max_parallel = 50
queue_run_max = 50
split_spool_directory = true
tls_advertise_hosts =
{"queue_only = true" if self.hold_back else ""}
acl_smtp_rcpt = everybody
begin acl
everybody:
  accept
begin routers
relay:
  driver = manualroute
  route_list = * 127.0.0.1::{self.sink_port} byname
  self = send
  transport = remote_smtp
begin transports
remote_smtp:
  driver = smtp
begin retry
* * F,1h,1s
""")
        config.chmod(0o644)
        reaper = pathlib.Path(__file__).parent / "reaper.py"
        self.process = subprocess.Popen([sys.executable, reaper, self.program(), "-C", str(config), "-bdf", "-q1m"],
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for_greeting(self.port)
