"""A real sendmail as the remote; what it takes it keeps in its queue."""
import os
import shutil
import subprocess
import unittest

from support_py import unpacked

SUBMITTER = 2996
SECRETS = "/mnt"  # it takes no key from below a folder that others may write to, such as /tmp


class Sendmail(unpacked.Server):
    def __init__(self, folder, certificate):
        if shutil.which("m4") is None:
            raise unittest.SkipTest("no m4, which makes sendmail's configuration")
        super().__init__(folder, ["sendmail-bin", "sendmail-base", "sendmail-cf"],
                         {"smmsp": SUBMITTER, "smmta": SUBMITTER - 1}, {"secrets": SECRETS})
        self.own("queue", mode=0o700)
        self.own("secrets")
        for name in ("certificate", "key", "authority"):
            shutil.copy(certificate, self.folder / "secrets" / name)
            (self.folder / "secrets" / name).chmod(0o600)
        (self.folder / "secrets/random").write_bytes(os.urandom(1024))
        (self.folder / "secrets/random").chmod(0o600)
        self.configure()
        self.start(self.root / "usr/libexec/sendmail/sendmail", "-C", self.folder / "cf", "-bD")

    def configure(self):
        """Loads and rates are no matter here: a busy machine is not to refuse what a test counts."""
        (self.folder / "mc").write_text(f"""divert(0)dnl
OSTYPE(`linux')dnl
define(`confDELIVERY_MODE', `queue')dnl
define(`confQUEUE_LA', `10000')dnl
define(`confREFUSE_LA', `10000')dnl
define(`confDELAY_LA', `0')dnl
define(`confMIN_FREE_BLOCKS', `0')dnl
define(`confPID_FILE', `{self.folder}/pid')dnl
define(`QUEUE_DIR', `{self.folder}/queue')dnl
define(`STATUS_FILE', `')dnl
define(`ALIAS_FILE', `')dnl
define(`confCW_FILE', `-o {self.folder}/none')dnl
define(`confCACERT_PATH', `{SECRETS}')dnl
define(`confCACERT', `{SECRETS}/authority')dnl
define(`confSERVER_CERT', `{SECRETS}/certificate')dnl
define(`confSERVER_KEY', `{SECRETS}/key')dnl
define(`confRAND_FILE', `file:{SECRETS}/random')dnl
define(`confDOMAIN_NAME', `remote.example')dnl
define(`confTO_IDENT', `0')dnl
FEATURE(`promiscuous_relay')dnl
FEATURE(`accept_unresolvable_domains')dnl
FEATURE(`nocanonify')dnl
FEATURE(`no_default_msa')dnl
DAEMON_OPTIONS(`Family=inet, Addr=127.0.0.1, Port={self.port}, Name=MTA')dnl
MAILER(`local')dnl
MAILER(`smtp')dnl
""")
        sources = self.root / "usr/share/sendmail/cf"
        with open(self.folder / "cf", "wb") as to:
            subprocess.run(["m4", f"-D_CF_DIR_={sources}/", str(sources / "m4/cf.m4"), str(self.folder / "mc")],
                           check=True, stdout=to, stdin=subprocess.DEVNULL)

    def kept(self):
        """The recipients of what it took, one entry for each copy."""
        return [line.partition(":")[2].strip("<>") for path in (self.folder / "queue").glob("qf*")
                for line in path.read_text("utf-8", "replace").splitlines() if line.startswith("R")]
