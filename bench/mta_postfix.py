"""Debian's Postfix, tuned for this load."""
import pathlib
import shutil
import subprocess

from mtas import Mta, wait_for_greeting


class Postfix(Mta):
    """Debian's Postfix: no client look-ups, enough processes, 50 connections to the destination."""
    name = "postfix"
    more = ""           # lines of main.cf
    more_services = ()  # and of master.cf

    @property
    def config(self):
        """Apart from the queue: at every start Postfix looks at each file beside its configuration."""
        return self.folder / "etc"

    @staticmethod
    def program():
        return shutil.which("postfix")

    def tls_settings(self):
        if not self.tls:
            return "smtp_tls_security_level = none"
        pem, key = self.certificate()
        return f"""smtp_tls_security_level = may
smtpd_tls_security_level = may
smtpd_tls_cert_file = {pem}
smtpd_tls_key_file = {key}
smtp_tls_connection_reuse = yes
smtpd_tls_session_cache_database =
smtp_tls_session_cache_database = btree:{self.folder}/data/sessions"""

    def start(self):
        folder = self.folder
        self.config.mkdir(exist_ok=True)
        (folder / "queue").mkdir(exist_ok=True)
        (folder / "data").mkdir(exist_ok=True)
        shutil.chown(folder / "data", "postfix", "postfix")
        self.open_path()
        (self.config / "main.cf").write_text(f"""compatibility_level = 3.6
queue_directory = {folder}/queue
data_directory = {folder}/data
command_directory = /usr/sbin
daemon_directory = /usr/lib/postfix/sbin
maillog_file = {folder}/log
maillog_file_prefixes = /
myhostname = mx.bench.example
mydestination =
inet_interfaces = {self.address}
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
{self.tls_settings()}
{self.more}defer_transports = {"smtp" if self.hold_back else ""}
""")
        master = pathlib.Path("/usr/share/postfix/master.cf.dist")
        lines = []
        for line in master.read_text().splitlines():
            fields = line.split()
            if line.startswith("#") or not fields:
                continue
            if fields[0] == "smtp" and fields[1] == "inet":
                line = f"{self.address}:{self.port} inet n - n - 200 smtpd"
            elif len(fields) > 7 and not line.startswith(" "):
                fields[4] = "n"
                line = " ".join(fields)
            lines.append(line)
        lines.append("postlog unix-dgram n - n - 1 postlogd") if not any(
            line.startswith("postlog") for line in lines) else None
        if self.tls:  # connections under TLS are reused by way of this service
            lines.append("tlsproxy unix - - n - 0 tlsproxy")
        lines += self.more_services
        (self.config / "master.cf").write_text("\n".join(lines) + "\n")
        subprocess.run(["postfix", "-c", str(self.config), "check"], check=True, capture_output=True)
        self.process = subprocess.Popen(["postfix", "-c", str(self.config), "start-fg"],
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for_greeting(self.port, address=self.address)

    def listing_command(self):
        return ["postqueue", "-c", str(self.config), "-p"]

    def flush_queue(self):
        subprocess.run(["postqueue", "-c", str(self.config), "-f"], check=True)

    def stop(self):
        subprocess.run(["postfix", "-c", str(self.config), "stop"], capture_output=True)
        super().stop()
