"""Filters of other people, from their Debian packages, each private to a test: rspamd, clamd with clamav-milter, and
spamd with spamass-milter. What they know of the world stands in the test's folder; they reach nothing outside."""
import pathlib
import pwd
import shutil
import socket
import subprocess
import unittest
import urllib.request

from support_py import wait

# What every scanner of viruses takes for one, and every filter of spam for spam; in parts, so that no scanner takes
# this file for it.
EICAR = b"X5O!P%@AP[4" + rb"\PZX54(P^)7CC)7}$" + b"EICAR-STANDARD-" + b"ANTIVIRUS-TEST-FILE!$H+H*"
GTUBE = b"XJS*C4JDBQADN1.NSBN3*2IDNEN*" + b"GTUBE-STANDARD-ANTI-UBE-" + b"TEST-EMAIL*C.34X"


def found(name, package):
    """The program; the test is skipped where its package is not there."""
    path = shutil.which(name, path="/usr/bin:/usr/sbin:/bin:/sbin")
    if path is None:
        raise unittest.SkipTest(f"needs {name} of the package {package}")
    return path


def listens(port):
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except OSError:
        return False
    return True


class Program:
    """In the foreground, its output in a file; it is there once `is_ready` says so."""

    def __init__(self, folder, words, is_ready):
        self.output = pathlib.Path(folder) / f"{pathlib.Path(words[0]).name}.output"
        with open(self.output, "wb") as output:
            self.process = subprocess.Popen([str(word) for word in words], stdin=subprocess.DEVNULL, stdout=output,
                                            stderr=output, cwd=folder)
        try:
            wait.until(lambda: self.lives() and is_ready(), lambda: f"{words[0]}: {self.said()}", pause=0.1)
        except BaseException:
            self.stop()
            raise

    def lives(self):
        assert self.process.poll() is None, f"it has ended with {self.process.returncode}: {self.said()}"
        return True

    def said(self):
        return self.output.read_text("utf-8", "backslashreplace")[-2000:]

    def stop(self, patient=True):
        """patient: it has children of its own, and ends them."""
        if patient and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(wait.DEADLINE)
            except subprocess.TimeoutExpired:
                pass
        self.process.kill()
        self.process.wait()


class Rspamd:
    """Judges by SPF, DKIM, DMARC and ARC with answers of one name server; nothing but GTUBE is spam."""

    def __init__(self, folder, nameserver):
        program = found("rspamd", "rspamd")
        try:
            user = pwd.getpwnam("_rspamd")
        except KeyError:
            raise unittest.SkipTest("there is no user _rspamd") from None
        self.port, worker = wait.free_port(), wait.free_port()
        self.folder = pathlib.Path(folder)
        for name in ("local.d", "override.d", "db", "run"):
            (self.folder / name).mkdir()
        (self.folder / "rspamd.conf").write_text(f"""
.include "/etc/rspamd/common.conf"
options {{
  filters = "dkim";
  disable_hyperscan = true;
  url_tld = "{self.folder}/suffixes";
  dns {{ nameserver = ["{nameserver}"]; timeout = 2s; retransmits = 2; }}
  local_addrs = [];
  check_local = true;
  pidfile = "{self.folder}/run/pid";
}}
logging {{ type = "console"; level = "notice"; }}
worker "normal" {{ bind_socket = "127.0.0.1:{worker}"; count = 1; }}
worker "rspamd_proxy" {{
  bind_socket = "127.0.0.1:{self.port}";
  milter = yes;
  timeout = 60s;
  count = 1;
  upstream "local" {{ default = yes; self_scan = yes; }}
}}
worker "controller" {{ enabled = false; }}
worker "fuzzy" {{ enabled = false; }}
""", "utf-8")
        # The usual list has thousands, which it compiles for a minute.
        (self.folder / "suffixes").write_text("com\norg\nnet\nexample\ntest\n", "utf-8")
        local = {"milter_headers": 'use = ["authentication-results", "x-spamd-result"]; extended_spam_headers = true;\n'
                                   "skip_local = false; skip_authenticated = false;\n",
                 "actions": "reject = 1000; add_header = 999; greylist = null; rewrite_subject = null;\n",
                 **{name: "check_local = true; check_authed = true;\n" for name in ("spf", "dkim", "arc", "dmarc")},
                 **{name: "enabled = false;\n" for name in ("fuzzy_check", "rbl", "phishing", "surbl", "asn",
                                                             "dkim_signing", "mx_check", "hfilter", "redis", "neural")}}
        for name, text in local.items():
            (self.folder / "local.d" / f"{name}.conf").write_text(text, "utf-8")
        (self.folder / "local.d" / "options.inc").write_text("check_local = true; check_authed = true;\n", "utf-8")
        for path in (self.folder, *self.folder.rglob("*")):
            shutil.chown(path, user.pw_uid, user.pw_gid)
        for path in self.folder.parents:
            if path != pathlib.Path("/") and not path.stat().st_mode & 0o001:
                path.chmod(path.stat().st_mode | 0o011)
        self.address = f"127.0.0.1:{self.port}"
        ping = f"http://127.0.0.1:{worker}/ping"
        self.program = Program(self.folder, [
            program, "-f", "-i", "-c", self.folder / "rspamd.conf", "--var=DBDIR=" + str(self.folder / "db"),
            "--var=RUNDIR=" + str(self.folder / "run"), "--var=LOCAL_CONFDIR=" + str(self.folder),
            "-u", "_rspamd", "-g", "_rspamd"], lambda: answers_http(ping) and listens(self.port))

    def stop(self):
        self.program.stop()


def answers_http(url):
    try:
        with urllib.request.urlopen(url, timeout=5) as reply:
            return reply.status == 200
    except OSError:
        return False


class ClamAv:
    """clamd that knows one virus, EICAR, and the milter that asks it."""

    def __init__(self, folder):
        clamd, filter_ = found("clamd", "clamav-daemon"), found("clamav-milter", "clamav-milter")
        self.folder = pathlib.Path(folder)
        (self.folder / "db").mkdir()
        (self.folder / "db" / "own.ndb").write_text(f"Test.Eicar:0:*:{EICAR[:-4].hex()}\n")
        socket_path = self.folder / "clamd.sock"
        (self.folder / "clamd.conf").write_text(
            f"LocalSocket {socket_path}\nDatabaseDirectory {self.folder}/db\nTemporaryDirectory {self.folder}\n"
            "Foreground yes\nSelfCheck 0\nMaxThreads 2\n", "utf-8")
        self.port = wait.free_port()
        self.address = f"127.0.0.1:{self.port}"
        (self.folder / "milter.conf").write_text(
            f"MilterSocket inet:{self.port}@127.0.0.1\nClamdSocket unix:{socket_path}\nForeground yes\n"
            f"TemporaryDirectory {self.folder}\nMaxFileSize 25M\nOnInfected Reject\nOnFail Defer\n"
            "RejectMsg Infected by %v\nAddHeader Replace\n", "utf-8")
        self.clamd = Program(self.folder, [clamd, "-F", "-c", self.folder / "clamd.conf"], socket_path.exists)
        try:
            self.milter = Program(self.folder, [filter_, "-c", self.folder / "milter.conf"], lambda: listens(self.port))
        except BaseException:
            self.clamd.stop()
            raise

    def stop(self):
        self.milter.stop(patient=False)
        self.clamd.stop()


class SpamAssassin:
    """spamd with one rule of ours besides its own, which ask nobody, and the milter that asks it."""

    def __init__(self, folder):
        spamd, filter_ = found("spamd", "spamd"), found("spamass-milter", "spamass-milter")
        found("spamc", "spamc")
        self.folder = pathlib.Path(folder)
        site = self.folder / "site"
        site.mkdir()
        for path in pathlib.Path("/etc/spamassassin").glob("*.pre"):
            shutil.copy(path, site)
        (site / "local.cf").write_text(
            "use_bayes 0\nreport_safe 0\nskip_rbl_checks 1\ndns_available no\nuse_razor2 0\nuse_pyzor 0\nrequired_score 5\n"
            "body OWN_RULE /cheap watches/\nscore OWN_RULE 7\n", "utf-8")
        port, self.port = wait.free_port(), wait.free_port()
        self.address = f"127.0.0.1:{self.port}"
        self.spamd = Program(self.folder, [
            spamd, "-x", "-L", "-p", port, "-i", "127.0.0.1", f"--siteconfigpath={site}", "-r", self.folder / "spamd.pid",
            "-m", "2", "--syslog=stderr", "-H", self.folder], lambda: listens(port))
        try:
            self.milter = Program(self.folder, [
                filter_, "-p", f"inet:{self.port}@127.0.0.1", "-r", "15", "-P", self.folder / "milter.pid", "--",
                "-d", "127.0.0.1", "-p", port], lambda: listens(self.port))
        except BaseException:
            self.spamd.stop()
            raise

    def stop(self):
        self.milter.stop(patient=False)
        self.spamd.stop()
