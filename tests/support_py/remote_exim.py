"""A real Exim as the remote; what it takes it keeps in its queue."""
import os
import shutil

from support_py import unpacked

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
