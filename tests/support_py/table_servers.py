"""Servers that answer tables: PostgreSQL and OpenLDAP's slapd, from their Debian packages, each private to a test; and
one that answers anything."""
import os
import pathlib
import pwd
import shutil
import signal
import socket
import subprocess
import threading
import unittest

from support_py import daemon, scenario, wait
from support_py.policy_host import Authority
from support_py.filter_programs import Program, found, listens

CONTENT = b"From: <ann@src.example>\r\nSubject: hello\r\n\r\nx\r\n"


class Asked(scenario.Scenario):
    """Scenarios of tables of recipients."""

    def rcpt(self, server, address):
        with server.client() as client:
            client.hello()
            client.command("MAIL FROM:<x@src.example>")
            return client.command(f"RCPT TO:<{address}>")

    def is_answered(self, server, address, code):
        """Soon: a server that was down is left alone for a moment."""
        wait.until(lambda: self.rcpt(server, address).code == code, f"{code} for {address}")

    @classmethod
    def needs(cls, kind):
        """Skips the class where the build has no such tables."""
        cls.folder.joinpath("table").touch()
        checked = daemon.Postrider(cls.folder / "kind", accept={"recipient_map": f"{kind}:{cls.folder}/table"})
        if "was built without" in "".join(cls.checked(checked)):
            raise unittest.SkipTest(f"this build has no {kind}: tables")

    @staticmethod
    def checked(server):
        """Whether postrider check is content, and what it says."""
        done = subprocess.run([str(daemon.BIN / "postrider"), "check", "-c", str(server.config_file)], capture_output=True,
                              text=True, env=server.environment())
        return "" if done.returncode == 0 else "wrong: ", done.stdout + done.stderr


def children_of(pid):
    return [int(path.name) for path in pathlib.Path("/proc").glob("[0-9]*")
            if f"\nPPid:\t{pid}\n" in read(path / "status")]


def read(path):
    try:
        return path.read_text()
    except OSError:
        return ""


class Server:
    """A program of ours with its children, which can be stopped and started again, and held."""
    program = None

    def stop(self):
        if self.program is not None:
            self.hold(False)
            self.program.stop()
            self.program = None

    def hold(self, held=True):
        """When it returns none of its threads runs: a signal is taken by one, and by the others later."""
        pids = (self.program.process.pid, *children_of(self.program.process.pid))
        for pid in pids:
            try:
                os.kill(pid, signal.SIGSTOP if held else signal.SIGCONT)
            except ProcessLookupError:
                pass
        if held:
            wait.until(lambda: not any(runs(pid) for pid in pids), "it is held")


def runs(pid):
    """Whether some thread of the process is not stopped."""
    for path in pathlib.Path(f"/proc/{pid}/task").glob("*/stat"):
        try:
            state = path.read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if state not in "TtZX":
            return True
    return False


def open_way(folder):
    for path in pathlib.Path(folder).parents:
        if path != pathlib.Path("/") and not path.stat().st_mode & 0o001:
            path.chmod(path.stat().st_mode | 0o011)


class Postgresql(Server):
    """Roles with passwords over TCP and its socket; TLS with a certificate for localhost by `authority`."""
    PASSWORD = "not-for-the-log"

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        programs = sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin/postgres"))
        if not programs:
            raise unittest.SkipTest("needs postgres of the package postgresql")
        self.programs = programs[-1].parent
        self.port = wait.free_port()
        self.authority = Authority(self.folder / "authority")
        self.authority.context("localhost")
        self.password = self.folder / "password"
        self.password.write_text(self.PASSWORD + "\n")
        self.password.chmod(0o600)
        self.owner = []
        self.own = self.folder / "own"
        self.own.mkdir()
        for name in ("localhost.pem", "localhost.key"):
            shutil.copy(self.authority.folder / name, self.own / name)
        shutil.copy(self.password, self.own / "password")
        if scenario.is_root():  # which it refuses to be
            user = pwd.getpwnam("postgres")
            self.owner = ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
            for path in (self.own, *self.own.iterdir()):
                os.chown(path, user.pw_uid, user.pw_gid)
            open_way(self.own / "x")
        os.chmod(self.own / "localhost.key", 0o600)
        subprocess.run([*self.owner, self.programs / "initdb", "-D", self.own / "data", "-U", "admin", "-N",
                        "--auth=scram-sha-256",
                        f"--pwfile={self.own}/password", "-E", "UTF8", "--locale=C"], check=True, stdout=subprocess.DEVNULL)
        self.start()
        self.sql(f"CREATE ROLE postrider LOGIN PASSWORD '{self.PASSWORD}'; CREATE DATABASE mail")

    def start(self):
        self.program = Program(self.folder, [
            *self.owner, self.programs / "postgres", "-D", self.own / "data", "-h", "127.0.0.1", "-p", self.port,
            "-k", self.own,
            "-c", "fsync=off", "-c", "ssl=on", "-c", f"ssl_cert_file={self.own}/localhost.pem",
            "-c", f"ssl_key_file={self.own}/localhost.key"], self.answers)

    def psql(self, text, database):
        return subprocess.run(["psql", "-h", str(self.own), "-p", str(self.port), "-U", "admin", "-d", database, "-v",
                               "ON_ERROR_STOP=1", "-qAtX"], input=text, capture_output=True, text=True,
                              env={**os.environ, "PGPASSWORD": self.PASSWORD})

    def answers(self):
        return self.psql("SELECT 1", "postgres").returncode == 0

    def sql(self, text, database="postgres"):
        for statement in text.split(";"):
            done = self.psql(statement, database)
            assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def stop(self):
        if self.program is not None and self.program.process.poll() is None:
            self.hold(False)
            self.program.process.send_signal(signal.SIGINT)  # without waiting for its clients
        super().stop()


class Slapd(Server):
    """People below ou=people,dc=us,dc=example, which cn=postrider may read; TLS with a certificate for 127.0.0.1."""
    PASSWORD = "not-for-the-log"
    SUFFIX = "dc=us,dc=example"
    NAME = "cn=postrider,dc=us,dc=example"

    def __init__(self, folder, people):
        self.folder = pathlib.Path(folder)
        self.slapd = found("slapd", "slapd")
        self.port, self.tls_port = wait.free_port(), wait.free_port()
        self.authority = Authority(self.folder / "authority")
        self.authority.context("ldap", "127.0.0.1")
        self.password = self.folder / "password"
        self.password.write_text(self.PASSWORD + "\n")
        self.password.chmod(0o600)
        (self.folder / "data").mkdir()
        self.socket = self.folder / "ldapi"
        schemas = "\n".join(f"include /etc/ldap/schema/{name}.schema" for name in ("core", "cosine", "inetorgperson"))
        self.config = self.folder / "slapd.conf"
        self.config.write_text(f"""{schemas}
pidfile {self.folder}/pid
modulepath /usr/lib/ldap
moduleload back_mdb
TLSCACertificateFile {self.authority.roots}
TLSCertificateFile {self.authority.folder}/ldap.pem
TLSCertificateKeyFile {self.authority.folder}/ldap.key
database mdb
maxsize 67108864
suffix "{self.SUFFIX}"
directory {self.folder}/data
index objectClass,mail eq
access to attrs=userPassword by anonymous auth
access to * by dn.exact="{self.NAME}" read by anonymous auth
""")
        entries = [f"dn: {self.SUFFIX}\nobjectClass: dcObject\nobjectClass: organization\no: us\ndc: us\n",
                   f"dn: {self.NAME}\nobjectClass: person\ncn: postrider\nsn: x\nuserPassword: {self.PASSWORD}\n",
                   f"dn: ou=people,{self.SUFFIX}\nobjectClass: organizationalUnit\nou: people\n"]
        for name, attributes in people.items():
            entries.append(f"dn: cn={name},ou=people,{self.SUFFIX}\nobjectClass: inetOrgPerson\ncn: {name}\nsn: {name}\n" +
                           "".join(f"{attribute}: {value}\n" for attribute, value in attributes))
        subprocess.run([found("slapadd", "slapd"), "-q", "-f", str(self.config)], input="\n".join(entries), text=True,
                       check=True)
        self.start()

    def start(self):
        urls = (f"ldap://127.0.0.1:{self.port}/ ldaps://127.0.0.1:{self.tls_port}/ "
                f"ldapi://{str(self.socket).replace('/', '%2F')}/")
        self.program = Program(self.folder, [self.slapd, "-f", self.config, "-h", urls, "-d", "0"], lambda: listens(self.port))


class Anything:
    """Sends the same octets to each who connects, or nothing, and keeps the connection."""

    def __init__(self, octets=b""):
        self.octets, self.open = octets, []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            try:
                one, _ = self.listener.accept()
                self.open.append(one)
                one.setblocking(False)
                if self.octets:
                    one.send(self.octets)
            except OSError:
                if self.listener.fileno() < 0:
                    return

    def stop(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        for one in (self.listener, *self.open):
            one.close()
