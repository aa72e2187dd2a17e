"""A real Exim as the remote; what it takes it keeps in its queue."""
import os
import shutil
import subprocess

from support_py import unpacked, wait

UID = 2999


class Exim(unpacked.Server):
    def __init__(self, folder, certificate):
        super().__init__(folder, ["exim4-daemon-light"], {"Debian-exim": UID}, {})
        for name in ("spool", "log"):
            self.own(name, UID)
        shutil.copy(certificate, self.folder / "pem")
        os.chown(self.folder / "pem", UID, UID)
        (self.folder / "conf").write_text(f"""primary_hostname = exim.example
spool_directory = {self.folder}/spool
log_file_path = {self.folder}/log/%slog
local_interfaces = 127.0.0.1
daemon_smtp_ports = {self.port}
keep_environment =
tls_certificate = {self.folder}/pem
tls_privatekey = {self.folder}/pem
queue_only = true
smtp_accept_max = 100
smtp_accept_max_per_connection = 0
acl_smtp_rcpt = take
acl_smtp_data = take
begin acl
take:
  accept
""")
        self.start(self.root / "usr/sbin/exim4", "-C", self.folder / "conf", "-bdf")


class Spooling(unpacked.Server):
    """An Exim whose mail stays in its spool, in split folders, until a queue run: then done.example is thrown
    away, and later.example is not reached."""

    def __init__(self, folder):
        super().__init__(folder, ["exim4-daemon-light"], {"Debian-exim": UID}, {})
        for name in ("spool", "log"):
            self.own(name, UID)
        self.spool = self.folder / "spool"
        (self.folder / "conf").write_text(f"""primary_hostname = exim.example
spool_directory = {self.spool}
log_file_path = {self.folder}/log/%slog
local_interfaces = 127.0.0.1
daemon_smtp_ports = {self.port}
keep_environment =
queue_only = true
split_spool_directory = true
dsn_advertise_hosts = *
smtputf8_advertise_hosts = *
acl_smtp_rcpt = take
acl_smtp_data = take
begin acl
take:
  accept set acl_m_text = two\\nlines
begin routers
done:
  driver = accept
  domains = done.example
  transport = null
members:
  driver = redirect
  domains = list.example
  data = c1@done.example, c2@later.example
later:
  driver = manualroute
  domains = later.example
  route_list = * 127.0.0.1 byname
  self = send
  transport = smtp
begin transports
null:
  driver = appendfile
  file = /dev/null
  user = Debian-exim
smtp:
  driver = smtp
  port = {wait.free_port()}
  message_linelength_limit = 1000000
begin retry
* * F,2h,15m
begin rewrite
*@rewritten.example new@later.example Ffr
""")
        self.start(self.root / "usr/sbin/exim4", "-C", self.folder / "conf", "-bdf")

    def exim(self, *arguments):
        """Its output, of a command of its own beside the daemon or without it."""
        script = "hostname remote.example\n" + "".join(
            f'mount --bind "$1/{ours}" {place} || exit 71\n' for ours, place in self.mounts.items()) + \
            'shift; exec "$@"'
        return subprocess.run(["unshare", "-m", "-u", "sh", "-c", script, "sh", str(self.folder),
                               str(self.root / "usr/sbin/exim4"), "-C", str(self.folder / "conf"), *arguments],
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, check=True).stdout
