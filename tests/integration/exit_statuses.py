#!/usr/bin/python3
"""Exit statuses: each that a manual names is provoked here, and none is given that the manual lacks (that is
asked of every call of a tool in all scenarios, by support_py/daemon.py)."""
import contextlib
import json
import os
import pathlib
import re
import shutil
import socket
import socketserver
import subprocess
import threading
import unittest

from support_py import daemon, manuals, nameserver, scenario, smtp, wait

UNKNOWN_ID = "1K1BX3F7Q2A"
NOBODY = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
BOUND = ["setpriv", "--bounding-set=-setuid,-setgid"]
USAGE, DATAERR, NOINPUT, NOUSER, UNAVAILABLE, OSERR, CANTCREAT, IOERR, TEMPFAIL, PROTOCOL, NOPERM, CONFIG = (
    64, 65, 66, 67, 69, 71, 73, 74, 75, 76, 77, 78)
ROOT = scenario.is_root() and shutil.which("setpriv") is not None


class Saying(socketserver.ThreadingUnixStreamServer):
    """A daemon that answers each request with this line."""
    daemon_threads = True

    def __init__(self, path, line):
        class Visit(socketserver.StreamRequestHandler):
            def handle(self):
                self.rfile.readline()
                self.wfile.write(line)
        pathlib.Path(path).unlink(missing_ok=True)
        super().__init__(str(path), Visit)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def stop(self):
        self.shutdown()
        self.server_close()


@unittest.skipUnless(ROOT, "needs root and setpriv")
class ExitStatuses(scenario.Scenario):
    def setUp(self):
        super().setUp()
        self.given = set()
        at = self.folder
        while at != at.parent:
            os.chmod(at, os.stat(at).st_mode | 0o011)
            at = at.parent

    def ends(self, server, code, program, *arguments, by=(), stdin=b"", stdout=subprocess.PIPE):
        done = subprocess.run([*by, str(daemon.BIN / program), *map(str, arguments)], input=stdin, stdout=stdout,
                              stderr=subprocess.PIPE, env=server.environment(), timeout=wait.DEADLINE)
        self.assertEqual(done.returncode, code, f"{program} {arguments}: {done.stderr.decode()}")
        if code:
            self.assertRegex((done.stderr or done.stdout).decode(), r"\S.*\n\Z", f"{program} {arguments}: it says nothing")
        self.given.add(code)

    def forbidden_file(self):
        path = self.folder / "forbidden.toml"
        path.write_text("")
        path.chmod(0o600)
        return path

    def full(self, server, *words, **more):
        with open("/dev/full", "wb") as full:
            self.ends(server, IOERR, *words, stdout=full, **more)

    def has_given(self, codes, where):
        self.assertEqual(sorted(self.given - {0}), sorted(set(codes) - {0}), where)
        self.given = set()

    @staticmethod
    def open_to_others(server):
        """Others may read the configuration, and come as far as the sockets."""
        os.chmod(server.folder, 0o755)
        os.chmod(server.config_file, 0o644)
        if server.spool.is_dir():
            os.chmod(server.spool, 0o711)
        return server

    def answer_of_another_version(self, server, path="control", request=b'{"act":"frobnicate"}\n'):
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(server.folder / path))
            client.sendall(request)
            with client.makefile("rb") as lines:
                line = lines.readline()
        self.assertIn(PROTOCOL, json.loads(line).get("end", json.loads(line)).values(), line)
        return line

    def test_those_who_look_at_the_queue(self):
        """postrider queue, mailq and sendmail -bp: what each of them meets."""
        up = self.open_to_others(self.daemon(user="nobody", start=False))
        os.chmod(up.folder, 0o777)  # the daemon's sockets, made by nobody
        up.start()
        unheard = self.answer_of_another_version(up)
        locked = self.daemon()
        (locked.folder / "control").unlink()
        down = self.open_to_others(self.daemon())
        down.send("a@us.example", ["b@far.example"], b"Subject: x\r\n\r\nx\r\n")
        down.stop()
        up.stop()
        odd = self.daemon(start=False)
        self.using(Saying(odd.folder / "control", unheard))
        masterless = self.daemon(start=False, user="no-such-user-of-ours")
        masterless.spool.mkdir(mode=0o711)
        none = self.daemon(start=False)
        for words in (("postrider", "queue"), ("mailq",), ("sendmail", "-bp")):
            self.ends(masterless, NOUSER, *words)
            self.ends(none, UNAVAILABLE, *words)
            self.ends(up, OSERR, *words, by=BOUND)
            self.full(down, *words)
            self.ends(locked, TEMPFAIL, *words)
            self.ends(odd, PROTOCOL, *words)
            self.ends(down, NOPERM, *words, by=NOBODY)
            self.ends(down, CONFIG, *words, "-C" if words[0] == "sendmail" else "-c", "/nonexistent")
            if words[0] == "mailq":
                self.ends(down, USAGE, "mailq", "-x")
                self.has_given(manuals.own("mailq.1"), words)
        file = down.folder / "file"
        file.write_text("no message\n")
        self.ends(down, USAGE, "postrider", "queue", "--nope")
        self.ends(down, DATAERR, "postrider", "queue", "import", file)
        self.ends(down, NOINPUT, "postrider", "show", UNKNOWN_ID)
        self.ends(down, CANTCREAT, "postrider", "queue", "export", "--folder", "/nonexistent/folder")
        self.of_status(down)
        self.has_given(manuals.own("postrider-queue.8"), "postrider-queue.8")

    def of_status(self, down):
        words = ("postrider", "status")
        self.ends(down, UNAVAILABLE, *words)
        self.ends(down, UNAVAILABLE, *words, "--check", "--json")
        self.ends(down, 0, *words, "--prometheus")
        well = self.daemon()
        self.ends(well, 0, *words, "--check")
        well.postrider("queue", "pause", "two.example")
        self.ends(well, 1, *words, "--check")
        self.ends(well, 1, *words, "--check", "--json")
        self.ends(well, 0, *words)
        well.spool.rename(well.spool.with_name("away"))

        def status():  # what is sent finds that the spool is gone
            with contextlib.suppress(AssertionError, OSError, smtp.Closed):
                well.send("a@us.example", ["b@far.example"], b"Subject: x\r\n\r\nx\r\n")
            return well.tool("postrider", "status", "--check", check=False).returncode

        wait.until(lambda: status() == 2, status)
        self.ends(well, 2, *words, "--check")

    def test_sendmail(self):
        server = self.open_to_others(self.daemon(
            header_check=[{"pattern": "/^Subject: no$/", "action": "reject No", "mail": ["sendmail"]}],
            sendmail={"recipients_per_hour": 2}, control={"submit": str(self.own_folder("s") / "submit")}))
        down = self.daemon(start=False, control={"submit": str(self.own_folder("s") / "submit")})
        odd = self.daemon(start=False, control={"submit": str(self.own_folder("s") / "submit")})
        self.using(Saying(odd.settings["control"]["submit"], b"a wrong word\n"))
        one = b"Subject: x\n\nx\n"
        self.ends(server, 0, "sendmail", "ann@us.example", stdin=one)
        self.given.clear()
        self.ends(server, USAGE, "sendmail", stdin=one)
        self.ends(server, DATAERR, "sendmail", "ann@us.example", stdin=b"Received: from a by b\n" * 200 + one)
        self.ends(server, NOUSER, "sendmail", "-bv", "ann@")
        self.ends(server, UNAVAILABLE, "sendmail", "ann@us.example", stdin=b"Subject: no\n\nx\n")
        self.full(server, "sendmail", "-bs", stdin=b"HELO x\nQUIT\n")
        self.ends(down, TEMPFAIL, "sendmail", "ann@us.example", stdin=one)
        self.ends(odd, PROTOCOL, "sendmail", "ann@us.example", stdin=one)
        self.ends(server, NOPERM, "sendmail", *(f"{name}@us.example" for name in "abc"), stdin=one, by=NOBODY)
        self.ends(server, CONFIG, "sendmail", "-C", "/nonexistent", "ann@us.example", stdin=one)
        self.has_given(manuals.own("sendmail.1"), "sendmail.1")

    def test_newaliases(self):
        server = self.daemon(start=False)
        aliases = server.folder / "aliases"
        aliases.write_text("no line is right\n")
        self.ends(server, USAGE, "newaliases", "-x")
        self.ends(server, DATAERR, "newaliases")
        aliases.write_text("ann: bob\n")
        self.full(server, "newaliases")
        self.ends(server, 0, "newaliases")
        self.ends(server, CONFIG, "newaliases", "-c", "/nonexistent")
        self.ends(server, NOPERM, "newaliases", "-c", self.forbidden_file(), by=NOBODY)
        server.write_config(local={"aliases": f"cdb:{server.folder}/other.cdb"})
        self.ends(server, NOINPUT, "newaliases")
        server.write_config(local={"aliases": f"cdb:{server.folder}/none/aliases.cdb"})
        self.ends(server, CANTCREAT, "newaliases")
        self.has_given({0, *manuals.own("newaliases.1")}, "newaliases.1")

    def of_verb(self, server, verb, *cases, common=True):
        """cases: a code, and how to come to it; the common ones are there for all verbs."""
        words = verb.split()
        for case in cases:
            code, arguments, more = case[0], case[1:], {}
            if arguments and isinstance(arguments[-1], dict):
                *arguments, more = arguments
            self.ends(more.pop("server", server), code, "postrider", *words, *arguments, **more)
        self.ends(server, USAGE, "postrider", *words, "--nope")
        self.full(server, "postrider", *words, "--help")
        if common:
            more = ("ann",) if verb == "passwd" else ()
            self.ends(server, CONFIG, "postrider", *words, *more, "-c", "/nonexistent")
            self.ends(server, NOPERM, "postrider", *words, *more, "-c", self.forbidden_file(), by=NOBODY)
        self.has_given(manuals.of_verbs()[verb] - (set() if common else {CONFIG, NOPERM}), verb)

    def test_run_check_config_reload(self):
        server = self.open_to_others(self.daemon())
        unheard = self.answer_of_another_version(server)
        busy = self.daemon(start=False, listeners=[{"address": f"127.0.0.1:{server.port}"}])
        self.of_verb(busy, "check")
        self.of_verb(busy, "config")
        odd, late = self.daemon(start=False), self.daemon(start=False)
        self.using(Saying(odd.folder / "control", unheard))
        self.using(Saying(late.folder / "control", unheard.replace(b"76", b"75")))
        wrong = {"server": server}
        good = server.config_file.read_text()
        self.of_verb(busy, "reload", (UNAVAILABLE,), (TEMPFAIL, {"server": late}), (PROTOCOL, {"server": odd}),
                     (NOPERM, {"server": server, "by": NOBODY}))
        server.config_file.write_text("[acept]\n" + good)
        self.ends(server, CONFIG, "postrider", "reload")
        self.ends(busy, OSERR, "postrider", "run")
        lost = self.daemon()
        lost.send("a@us.example", ["b@far.example"], b"Subject: x\r\n\r\nx\r\n")
        (lost.spool / "queue.db").unlink()
        with lost.client() as client:  # refused at the latest at its end, when the files are looked for
            client.hello()
            for command in ("MAIL FROM:<a@us.example>", "RCPT TO:<b@far.example>", "DATA"):
                client.command(command)
            client.send(b"Subject: y\r\n\r\nx\r\n.\r\n")
        self.assertEqual(lost.process.wait(120), IOERR, lost.stderr())
        lost.process = None
        self.given = {OSERR, IOERR}
        self.of_verb(busy, "run")

    def test_doctor_events_passwd(self):
        server = self.open_to_others(self.daemon(hostname="mx.us.example"))
        unheard = self.answer_of_another_version(server)
        odd, late = self.daemon(start=False), self.daemon(start=False)
        self.using(Saying(odd.folder / "control", unheard))
        self.using(Saying(late.folder / "control", unheard.replace(b"76", b"75")))
        masterless = self.daemon(start=False, user="no-such-user-of-ours")
        open_relay = self.daemon(start=False, accept={"open_relay": True, "relay_from": ["0.0.0.0/0"]})
        self.given.add(TEMPFAIL)  # doctor.py: when a healthy server's DNS fails
        self.full(open_relay, "postrider", "doctor")  # what it found is lost
        self.of_verb(server, "doctor", (DATAERR, {"server": open_relay}), (NOUSER, {"server": masterless}))
        keeper = self.daemon(events=[{"name": "file", "file": f"{self.folder}/events"}])
        self.of_verb(server, "events", (NOINPUT, "--after", UNKNOWN_ID, {"server": keeper}), (UNAVAILABLE,),
                     (TEMPFAIL, {"server": late}), (PROTOCOL, {"server": odd}), (NOPERM, {"by": NOBODY}))
        users = server.folder / "users"
        self.of_verb(server, "passwd", (DATAERR, "a:b", "--file", users, {"stdin": b"x\n"}),
                     (NOINPUT, "ann", "--file", users), (NOUSER, "ann", "--delete", "--file", users),
                     (CANTCREAT, "ann", "--file", "/nonexistent/users", {"stdin": b"x\n"}))

    def test_dkim(self):
        server = self.daemon(start=False)
        masterless = self.daemon(start=False, user="no-such-user-of-ours", dkim={"folder": str(server.folder / "dkim")})
        keys = ("--folder", server.folder / "dkim")
        self.ends(server, 0, "postrider", "dkim", "new", "a.example", "--selector", "s", "--ed25519", *keys)
        self.given.clear()
        self.of_verb(server, "dkim new", (DATAERR, "a b", *keys),
                     (CANTCREAT, "a.example", "--selector", "s", "--ed25519", *keys), common=False)
        self.of_verb(server, "dkim record", (DATAERR, "a b", *keys), (NOINPUT, "b.example", *keys), common=False)
        nowhere = self.using(nameserver.FakeServer(lambda *_: 3))
        asking = self.daemon(start=False, dns={"servers": [nowhere.server]}, dkim={"folder": str(server.folder / "dkim")})
        silent = self.daemon(start=False, dkim={"folder": str(server.folder / "dkim")})
        os.chmod(server.folder / "dkim", 0o755)
        self.of_verb(asking, "dkim check", (DATAERR, "a.example"), (NOINPUT, "b.example"),
                     (NOUSER, {"server": masterless}), (TEMPFAIL, {"server": silent}))

    def test_web_and_brokers(self):
        server = self.daemon()
        full = self.small_disk("100k")
        (full / "tokens").touch()
        with open(full / "filled", "wb") as file:
            try:
                for _ in range(100):
                    os.write(file.fileno(), b"x" * 4096)
            except OSError:
                pass
        places = {"tokens": str(server.folder / "tokens"), "user": ""}

        def web(code, *words, **settings):
            server.write_config(web={**places, **settings})
            self.ends(server, code, "postrider-web", *words)
        web(USAGE, "--nope")
        web(USAGE, "token", "read", "a name")
        web(OSERR, listen=[f"127.0.0.1:{server.port}"])
        web(CANTCREAT, "token", "read", "ann", tokens="/nonexistent/tokens")
        web(IOERR, "token", "read", "ann", tokens=str(full / "tokens"))
        self.full(server, "postrider-web", "--help")
        web(NOPERM, "token", "read", "ann", tokens="/dev/null")
        web(CONFIG, "-c", "/nonexistent")
        self.has_given(manuals.own("postrider-web.8"), "postrider-web.8")
        for name in ("postrider-amqp", "postrider-mqtt"):
            if (daemon.BIN / name).exists():
                self.ends(server, USAGE, name, "--nope")
                self.full(server, name, "--help")
                self.ends(server, CONFIG, name)
                self.has_given(manuals.own(name + ".8"), name)


class Sources(scenario.Scenario):
    def test_no_code_of_the_sources_is_without_a_manual(self):
        text = pathlib.Path("/usr/include/sysexits.h").read_text()
        numbers = {name: int(number) for name, number in re.findall(r"#define (EX_\w+)\s+(\d+)", text) if number != "0"}
        named = frozenset().union(*manuals.of_verbs().values(), *map(manuals.of_page, manuals.OTHERS.values()))
        for folder in ("cli", "daemon", "web", "brokers"):
            for file in sorted((daemon.ROOT / folder).rglob("*.cc")):
                for name in re.findall(r"\bEX_[A-Z]+\b", file.read_text()):
                    self.assertIn(numbers.get(name, USAGE), named, f"{file}: {name}")


if __name__ == "__main__":
    scenario.main()
