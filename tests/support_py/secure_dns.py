"""DNSSEC on loopback: Knot signs zones, Unbound validates them from a trust anchor of its own."""
import pathlib
import subprocess

import dns.exception
import dns.flags
import dns.message
import dns.query

from support_py import nameserver, wait
from support_py.tools import tool


class SigningKnot(nameserver.Knot):
    """The zones in `signed` are signed; zone texts may come signed already (ldns-signzone)."""

    def __init__(self, folder, zones, signed):
        self.signed = set(signed)
        super().__init__(folder, zones)

    def write(self):
        super().write()
        for number, text in enumerate(self.zones.values()):
            if text is not None and "RRSIG" in text:  # with a SOA record of its own
                (self.folder / f"zone{number}").write_text(text)
        config = self.folder / "knot.conf"
        text = config.read_text()
        text = text.replace("zone:\n", "policy:\n  - id: quick\n    algorithm: ecdsap256sha256\n"
                            "    single-type-signing: on\nzone:\n", 1)
        for name in self.signed:
            text = text.replace(f'  - domain: "{name}"\n', f'  - domain: "{name}"\n'
                                "    dnssec-signing: on\n    dnssec-policy: quick\n", 1)
        config.write_text(text.replace("zonefile-load: whole", "zonefile-load: difference")
                          .replace("journal-content: none", "journal-content: all")
                          if self.signed else text)

    def answers(self):
        """Signing raises the serial, so only presence counts."""
        if self.process.poll() is not None:
            raise AssertionError("knotd ended: " + (self.folder / "knot.log").read_text()[-2000:])
        try:
            for name, text in self.zones.items():
                query = dns.message.make_query(name, "SOA", want_dnssec=True)
                reply = dns.query.udp(query, "127.0.0.1", port=self.port, timeout=0.5)
                if text is not None and len(reply.answer) < (2 if name in self.signed else 1):
                    return False
            return True
        except (OSError, dns.exception.Timeout):
            return False

    def anchors(self):
        """DNSKEY records, as trust anchors."""
        lines = []
        for name in self.signed:
            query = dns.message.make_query(name, "DNSKEY")
            reply = dns.query.tcp(query, "127.0.0.1", port=self.port, timeout=5)
            lines += [f"{name} 3600 IN DNSKEY {record.to_text()}"
                      for rrset in reply.answer for record in rrset]
        return "\n".join(lines) + "\n"


class Unbound:
    """Validates what the authority serves; names outside its signed zones are insecure."""

    def __init__(self, folder, authority):
        self.folder = pathlib.Path(folder)
        self.port = wait.free_port()
        (self.folder / "anchors").write_text(authority.anchors())
        stubs = "".join(f'stub-zone:\n  name: "{name}"\n  stub-addr: 127.0.0.1@{authority.port}\n'
                        "  stub-prime: no\n" for name in authority.zones)
        (self.folder / "unbound.conf").write_text(
            f'server:\n  directory: "{self.folder}"\n  chroot: ""\n  username: ""\n'
            f"  interface: 127.0.0.1\n  port: {self.port}\n  do-daemonize: no\n  use-syslog: no\n"
            f'  logfile: "{self.folder}/log"\n  pidfile: "{self.folder}/pid"\n'
            "  do-not-query-localhost: no\n  module-config: \"validator iterator\"\n"
            f'  trust-anchor-file: "{self.folder}/anchors"\n'
            "  val-log-level: 2\n  log-queries: yes\n  num-threads: 1\n  do-ip6: no\nremote-control:\n"
            "  control-enable: no\n" + stubs)
        self.process = subprocess.Popen([tool("unbound"), "-d", "-c",
                                         str(self.folder / "unbound.conf")],
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.probe = next(iter(authority.signed))
        wait.until(self.validates, lambda: f"Unbound; its log: {self.folder}/log")

    @property
    def server(self):
        return f"127.0.0.1:{self.port}"

    def was_asked(self, name, kind):
        """Whether somebody has asked for these records so far."""
        return f" {name}. {kind} IN" in (self.folder / "log").read_text()

    def validates(self):
        if self.process.poll() is not None:
            raise AssertionError("unbound ended: " + (self.folder / "log").read_text()[-2000:])
        query = dns.message.make_query(self.probe, "SOA")
        query.flags |= dns.flags.AD
        try:
            reply = dns.query.udp(query, "127.0.0.1", port=self.port, timeout=1)
        except (OSError, dns.exception.DNSException):
            return False
        return bool(reply.flags & dns.flags.AD)

    def stop(self):
        self.process.terminate()
        self.process.wait()


def signed_in_the_past(folder, name, text):
    """(zone text, DS record text): signed by ldns-signzone, the signatures have run out."""
    folder = pathlib.Path(folder)
    key = subprocess.run([tool("ldns-keygen"), "-a", "ECDSAP256SHA256", "-k", name], cwd=folder,
                         check=True, capture_output=True, text=True).stdout.strip()
    zone = folder / "zone"
    zone.write_text(f"$ORIGIN {name}\n$TTL 1\n@ SOA ns.example. hostmaster.example. 1 3600 900 "
                    f"86400 1\n@ NS ns.example.\n{text.strip()}\n")
    subprocess.run([tool("ldns-signzone"), "-i", "20240101", "-e", "20240201", "-o", name,
                    "zone", key], cwd=folder, check=True, capture_output=True)
    ds = (folder / f"{key}.ds").read_text().split("DS", 1)[1].strip()
    return (folder / "zone.signed").read_text(), ds
