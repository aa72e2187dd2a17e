"""A real OpenSMTPD as the remote; what it takes it keeps in its queue.

Debian's 6.8 completes no handshake, with RSA and ECDSA keys, TLS 1.2 and 1.3 alike: it keeps its keys in
another process, behind methods of OpenSSL that the providers of OpenSSL 3 do not ask ("missing private key"
of `smtpd -T all`)."""
import shutil

from support_py import authority, unpacked

DAEMON, QUEUE = 2997, 2998  # users


class OpenSmtpd(unpacked.Server):
    def __init__(self, folder, certificate):
        super().__init__(folder, ["opensmtpd"], {"opensmtpd": DAEMON, "opensmtpq": QUEUE},
                         {"spool": "/var/spool", "run": "/run", "lib": "/var/lib"})
        self.own("run")
        self.own("lib/opensmtpd/empty")
        self.own("spool/smtpd", mode=0o711)
        self.own("spool/smtpd/offline", mode=0o770)
        shutil.chown(self.folder / "spool/smtpd/offline", 0, QUEUE)
        for name in ("purge", "queue", "temporary", "incoming"):
            shutil.chown(self.own(f"spool/smtpd/{name}", mode=0o700), QUEUE, 0)
        shutil.copy(certificate, self.folder / "pem")
        (self.folder / "pem").chmod(0o600)
        shutil.copy(authority.certificate_of(certificate), self.folder / "crt")
        (self.folder / "conf").write_text(f"""pki remote.example cert "{self.folder}/crt"
pki remote.example key "{self.folder}/pem"
listen on 127.0.0.1 port {self.port} tls pki remote.example
action "keep" relay
match from any for any action "keep"
""")
        (self.folder / "conf").chmod(0o600)
        self.start(self.root / "usr/sbin/smtpd", "-d", "-v", "-P", "mta", "-f", self.folder / "conf")

    def kept(self):
        """The recipients of what it took, one entry for each copy."""
        return [line.partition(": ")[2] for path in (self.folder / "spool/smtpd/queue").rglob("*")
                if path.is_file() and path.name != "message"
                for line in path.read_text("utf-8", "replace").splitlines() if line.startswith("rcpt: ")]
