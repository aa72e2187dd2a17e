#!/usr/bin/python3
"""doc/privileges.md says what each process may do: the running processes, by /proc and by trying, are what it
says. Needs root, as the service manager has."""
import base64
import grp
import os
import pathlib
import re
import socket
import stat
import subprocess

from support_py import daemon, inject, parent_wire as wire, scenario, smtp, wait, watched
from support_py.accounts import ANN, DAEMON, EVENTS, WEB
from taken_over import CONTENT, World

CAPABILITIES = {6: "setgid", 7: "setuid", 10: "net_bind_service"}


def tables():
    """Each table of the file: a list of rows, by the words of its first heading cell."""
    found, rows = {}, None
    for line in (daemon.ROOT / "doc" / "privileges.md").read_text().splitlines():
        if not line.startswith("|"):
            rows = None
            continue
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if rows is None:
            rows = found.setdefault(cells[0], [])
        elif not set(line) <= set("|- "):
            rows.append(cells)
    return found


def status_of(pid):
    text = pathlib.Path(f"/proc/{pid}/status").read_text()
    return dict(re.findall(r"(?m)^(\w+):\t(.*)$", text))


def capabilities(bits):
    bits = int(bits, 16)
    names = [CAPABILITIES.get(number, str(number)) for number in range(64) if bits >> number & 1]
    return ", ".join(sorted(names)) or "none"


class Rights(World):
    def names(self):
        known = {DAEMON: "user", ANN: "recipient", 2908: "mail", WEB: "own", EVENTS: "own"}
        for name in ("shadow",):
            try:
                known[grp.getgrnam(name).gr_gid] = name
            except KeyError:
                pass
        return known

    def observed(self, pid):
        status, known = status_of(pid), self.names()
        uids, gids = set(status["Uid"].split()), set(status["Gid"].split())
        self.assertEqual((len(uids), len(gids)), (1, 1), "all of them")
        self.assertEqual({status[f"Cap{kind}"] for kind in ("Inh", "Amb")}, {"0" * 16})
        self.assertEqual(status["CapPrm"], status["CapEff"])
        groups = ", ".join(sorted(known.get(int(gid), gid) for gid in status["Groups"].split())) or "none"
        return [known.get(int(uids.pop()), "?"), groups, capabilities(status["CapEff"]),
                "yes" if status["NoNewPrivs"] == "1" else "no",
                "yes" if status["Seccomp"] == "2" else "no",
                "yes" if os.stat(f"/proc/{pid}/status").st_uid == 0 else "no"]

    def child_named(self, parent, name):
        for path in pathlib.Path("/proc").glob("[0-9]*"):
            try:
                status = status_of(path.name)
            except OSError:
                continue
            if status["PPid"] == str(parent) and status["Name"] == name:
                return int(path.name)
        return None

    def test_the_processes_are_as_the_table_says(self):
        if scenario.SANITIZED:
            self.skipTest("a sanitizer's own calls are in the way")
        service = f"postrider-rights-{os.getpid()}"
        with open("/etc/pam.d/" + service, "w") as file:
            file.write("auth required pam_deny.so\n")
        self.addCleanup(os.unlink, "/etc/pam.d/" + service)
        waiting = self.machine.folder / "waiting"
        waiting.write_text(f"#!/bin/sh\necho $$ >{self.said}/.pid; mv {self.said}/.pid {self.said}/pid\n"
                           f"exec sleep 600\n")
        os.chmod(waiting, 0o755)
        self.forward("ann", f'"|{waiting}"\n')
        server = self.start(auth={"pam": service})
        self.assertEqual(server.send("a@ext.example", "ann@us.example", CONTENT).code, 250)
        command = wait.until(lambda: (self.said / "pid").exists() and
                             int((self.said / "pid").read_text()), "the command")
        parent = self.parent_of(server)
        helper = wait.until(lambda: self.child_named(parent, "postrider-pam"), "the PAM helper")
        wait.until(lambda: status_of(helper)["Seccomp"] == "2" and
                   os.stat(f"/proc/{helper}/status").st_uid == 0, "the helper's confinement")
        groups = status_of(server.process.pid)["Groups"].split()
        self.assertEqual({int(gid) for gid in groups} - {2908}, {DAEMON}, "those of the user")
        seen = {"postrider": self.observed(server.process.pid), "postrider-parent": self.observed(parent),
                "postrider-pam": self.observed(helper), "a command of a recipient": self.observed(command)}
        seen["postrider"][1] = "those of user"
        self.assertEqual(seen, {row[0]: row[1:] for row in tables()["process"] if row[0] in seen})
        none = "0" * 16
        self.assertEqual(status_of(server.process.pid)["CapBnd"], none, "never again")
        for pid in (parent, helper, command):
            self.assertEqual(int(status_of(pid)["CapBnd"], 16) & ~(1 << 6 | 1 << 7 | 1 << 10), 0)
        os.kill(command, 9)

    def test_the_programs_beside_the_daemon_are_as_the_table_says(self):
        """Started as root, as a machine without systemd does: what they are when they serve, and what they get."""
        if scenario.SANITIZED:
            self.skipTest("a sanitizer's own calls are in the way")
        port, doors = wait.free_port(), self.machine.make("doors", EVENTS, EVENTS, 0o755)
        tokens = self.machine.make("tokens", 0, 0, 0o755) / "tokens"
        broker = self.enterContext(socket.create_server(("127.0.0.1", 0))).getsockname()[1]
        server = self.start(
            web={"listen": [f"localhost:{port}"], "tokens": str(tokens), "user": "postrider-web"},
            events=[{"name": name, "broker": f"{name}://127.0.0.1:{broker}", "socket": str(doors / name),
                     "topic": "t"} for name in ("amqp", "amqp10", "kafka", "mqtt", "stomp")])
        programs = {}

        def run(name, *arguments):
            with open(self.machine.folder / f"{name}.log", "ab") as output:
                return subprocess.Popen([*self.machine.wrapper(), daemon.BIN / name, "-c", server.config_file, *arguments],
                                        env=server.environment(), stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        self.assertEqual(run("postrider-web", "token", "read", "tester").wait(wait.DEADLINE), 0)
        for name in ("postrider-web", "postrider-amqp", "postrider-amqp10", "postrider-kafka", "postrider-mqtt", "postrider-stomp"):
            if name != "postrider-web" and not (daemon.BIN / name).exists():
                continue  # it can be left out of a build
            programs[name] = run(name)
            self.addCleanup(programs[name].wait)
            self.addCleanup(programs[name].kill)

        def is_confined(pid):
            return status_of(pid)["Seccomp"] == "2" and os.stat(f"/proc/{pid}/status").st_uid == 0
        wanted = {row[0]: row[1:] for row in tables()["process"]}
        for name, program in programs.items():
            with self.subTest(program=name):
                wait.until(lambda: is_confined(program.pid),
                           lambda: f"{name}: " + (self.machine.folder / f"{name}.log").read_text())
                self.assertEqual(self.observed(program.pid), wanted[name])
                self.assertEqual(self.tried(program.pid, "a socket"),
                                 {"a program": -1, "a fork": -1, "a file of ann's": -13, "the password file": -13})
        with smtp.Client(server.port) as client:
            client.hello()

    def test_a_mailbox_delivery_is_confined(self):
        """The process that writes a mailbox, held while it does so: a lock of its user keeps it waiting."""
        if scenario.SANITIZED:
            self.skipTest("a sanitizer's own calls are in the way")
        import fcntl
        box = self.machine.mail / "ann.mbox"
        box.write_text("")
        os.chown(box, ANN, ANN)
        server = self.start(local={"mailbox": f"mbox:{self.machine.mail}/{{user}}.mbox"},
                            delivery={"retry": ["1s"]})
        parent = self.parent_of(server)
        with open(box, "r+b") as held:
            fcntl.lockf(held, fcntl.LOCK_EX)
            self.assertEqual(server.send("a@ext.example", "ann@us.example", CONTENT).code, 250)

            def found():
                for path in pathlib.Path("/proc").glob("[0-9]*"):
                    try:
                        status = status_of(path.name)
                        if status["PPid"] == str(parent) and status["Uid"].split()[0] == str(ANN):
                            if pathlib.Path(f"/proc/{path.name}/syscall").exists() and any(
                                    os.readlink(fd) == str(box) for fd in
                                    pathlib.Path(f"/proc/{path.name}/fd").iterdir()):
                                return self.observed(int(path.name)), self.tried(int(path.name))
                    except (OSError, KeyError, ValueError):
                        continue
                return None
            seen, tried = wait.until(found, "the delivery at the lock")
        self.assertEqual(seen[:5], ["recipient", "mail, recipient", "none", "yes", "yes"])
        self.assertEqual(tried, {"a program": -1, "a socket": -1, "a fork": -1, "a file of ann's": -13,
                                 "the password file": -13})
        server.wait_until_empty()

    def test_what_lives_a_moment_has_no_more_rights_either(self):
        """The reader of a .forward, the reader of tables, and who asks it, as they were at their end."""
        if scenario.SANITIZED:
            self.skipTest("a sanitizer's own calls are in the way")
        self.forward("ann", "\\ann\n")
        program = self.machine.folder / "honest"
        program.write_text("#!/bin/sh\ncat >/dev/null\n")
        os.chmod(program, 0o755)
        server = self.start(f'list: "|{program}"\n')
        parent = self.parent_of(server)
        own = int(status_of(parent)["Seccomp_filters"])
        one = wire.Wire(server.process.pid)
        self.addCleanup(one.close)
        known = self.names()

        def seen(status):
            """Who, its group and rights, whether it can have new ones, how many filters beyond the parent's."""
            self.assertEqual({status["CapPrm"], status["CapInh"], status["CapAmb"]}, {"0" * 16})
            groups = {known.get(int(gid), gid) for gid in status["Gid"].split() + status["Groups"].split()}
            return (known.get(int(status["Uid"].split()[0]), status["Uid"]), ", ".join(sorted(groups)),
                    capabilities(status["CapEff"]), status["NoNewPrivs"],
                    int(status["Seccomp_filters"]) - own)

        def read():
            assert one.ask(wire.request(wire.READ_FORWARD, "ann", ".forward"))[0] == "text"

        def perform():
            job = wire.job("list@us.example", wire.COMMAND, arguments=[str(program)], user="nobody",
                           source=wire.ENTRY)
            assert one.perform(job, "nobody", wire.ENTRY)[0] == "performed"
        with watched.Ends(parent) as ends:
            self.assertEqual([seen(status) for status in ends.do(read)],
                             [("recipient", "recipient", "none", "1", 1)])
            readers = [seen(status) for status in ends.do(perform) if status["Name"] == "postrider-paren"
                       and known.get(int(status["Uid"].split()[0])) == "user"]
            self.assertEqual(readers, [("user", "user", "none", "1", 1)])

    def tried(self, pid, *allowed):
        with inject.Thread(pid) as thread:
            calls = {"a program": lambda: thread.execve("/bin/false"), "a socket": lambda: thread.call(41, 1, 1, 0),
                     "a fork": lambda: thread.call(57),
                     "a file of ann's": lambda: thread.openat(str(self.machine.homes / "ann"), os.O_RDONLY),
                     "the password file": lambda: thread.openat("/etc/passwd", os.O_RDONLY)}
            return {what: call() for what, call in calls.items() if what not in allowed}

    def test_the_pam_helper_judges_passwords_with_its_one_right(self):
        service = f"postrider-unix-{os.getpid()}"
        with open("/etc/pam.d/" + service, "w") as file:
            file.write((daemon.ROOT / "etc/debian/postrider.pam").read_text() if os.path.exists("/etc/pam.d/common-auth")
                       else "auth required pam_unix.so\naccount required pam_unix.so\n")
        self.addCleanup(os.unlink, "/etc/pam.d/" + service)
        self.machine.give_password("ann", "secret")
        port = wait.free_port()
        server = self.start(auth={"pam": service, "clear": True, "failure_delay": "0s"}, listeners=[
            {"address": f"127.0.0.1:{port}", "role": "submission", "tls": "off"}])
        for password, code in (("secret", 235), ("wrong", 535)):
            with smtp.Client(port) as client:
                client.hello()
                client.expect("AUTH PLAIN " + base64.b64encode(b"\0ann\0" + password.encode()).decode(),
                              code)
        server.postrider("status")

    def test_the_pam_helper_of_the_page_judges_for_the_user_of_postrider_web_alone(self):
        """A real password by pam_unix; the daemon, its user, its group and root are not answered."""
        if scenario.SANITIZED:
            self.skipTest("a sanitizer's own calls are in the way")
        service = f"postrider-page-{os.getpid()}"
        with open("/etc/pam.d/" + service, "w") as file:
            file.write((daemon.ROOT / "etc/debian/postrider.pam").read_text() if os.path.exists("/etc/pam.d/common-auth")
                       else "auth required pam_unix.so\naccount required pam_unix.so\n")
        self.addCleanup(os.unlink, "/etc/pam.d/" + service)
        self.machine.give_password("ann", "secret")
        server = self.start(web={"listen": ["localhost:1"], "user": "postrider-web", "pam": service, "pam_change": ["ann"]})
        parent, door = self.parent_of(server), server.folder / "web-login"
        helper = wait.until(lambda: self.child_named(parent, "postrider-pam"), "the PAM helper")
        wait.until(lambda: status_of(helper)["Seccomp"] == "2" and os.stat(f"/proc/{helper}/status").st_uid == 0,
                   "the helper's confinement")
        rows = {row[0]: row[1:] for row in tables()["process"]}
        self.assertEqual(self.observed(helper), rows["postrider-pam"])
        about = os.stat(door)
        self.assertEqual([self.names().get(about.st_uid), f"{stat.S_IMODE(about.st_mode):04o}"],
                         [row[1:3] for row in tables()["place"] if row[0] == "web-login"][0])
        program = ("import socket, sys\ns = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)\ns.settimeout(25)\n"
                   "s.connect(sys.argv[1])\ntry:\n s.send((sys.argv[2] + chr(0) + sys.argv[3] + chr(0)).encode())\n"
                   " print(s.recv(16)[:1].decode())\nexcept OSError as problem:\n print()\n")

        def asked(uid, user, password):
            return subprocess.run(["setpriv", f"--reuid={uid}", f"--regid={DAEMON}", "--clear-groups", "/usr/bin/python3", "-c", program,
                                   door, user, password], check=True, text=True, stdout=subprocess.PIPE, timeout=60).stdout.strip()
        for uid, user, password, answer in ((WEB, "ann", "secret", "c"), (WEB, "ann", "wrong", "n"), (WEB, "bob", "secret", "n"),
                                            (WEB, "carl-who-is-not", "secret", "n"), (DAEMON, "ann", "secret", ""),
                                            (0, "ann", "secret", ""), (ANN, "ann", "secret", "")):
            self.assertEqual(asked(uid, user, password), answer, (uid, user, password))

    def test_the_folders_and_sockets_are_as_the_table_says(self):
        server = self.start()
        places = {"spool": server.folder / "spool", "spool/drop": server.folder / "spool" / "drop",
                  "control.socket": server.folder / "control", "control.submit": server.folder / "submit"}
        seen = {}
        for name, path in places.items():
            about = os.stat(path)
            seen[name] = [self.names().get(about.st_uid), f"{stat.S_IMODE(about.st_mode):04o}"]
        page = {row[0]: row[1:3] for row in tables()["place"]}
        self.assertEqual(page.pop("spool/changes"), ["user", "0600"])  # there behind tools: see trace.py
        self.assertEqual(page.pop("spool/changes.damaged"), ["user", "0600"])  # after damage: see kept_log_test
        page.pop("web-login")  # with web.pam, which another test looks at
        self.assertEqual(seen, page)


if __name__ == "__main__":
    scenario.main()
