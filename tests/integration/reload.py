#!/usr/bin/python3
"""`postrider reload`, and so `systemctl reload`, waits for the verdict of the daemon: when it says that the new
configuration is in use it is, what the daemon refuses is said with the reason and shown until it is mended."""
import json
import os
import pathlib
import socket
import subprocess
import threading
import unittest.mock

from support_py import daemon, scenario, wait

UNAVAILABLE, TEMPFAIL, CONFIG = 69, 75, 78


class Reload(scenario.Scenario):
    def reload(self, server, code=0):
        done = server.tool("postrider", "reload", check=False)
        self.assertEqual(done.returncode, code, done.stdout + done.stderr)
        self.assertEqual(done.stdout, "" if code else "reloaded\n")
        return done.stderr

    def refused(self, server, words):
        """Says why, to who reloads and in `status`, and the old configuration stays."""
        said = self.reload(server, CONFIG)
        self.assertIn(words, said)
        self.assertIn("was refused, and the one before stays in use", said)
        status = json.loads(server.postrider("status", "--json"))
        self.assertIn(words, status["config_refused"])
        self.assertIn(words, server.postrider("status"))
        return said

    def mended(self, server):
        self.assertEqual(self.reload(server), "")
        self.assertNotIn("config_refused", json.loads(server.postrider("status", "--json")))

    def greeting(self, server):
        with server.client() as client:
            return client.greeting.text

    def test_the_new_one_is_in_use_when_it_comes_back(self):
        server = self.daemon()
        for number in range(5):
            server.write_config(hostname=f"mx{number}.us.example")
            self.reload(server)
            self.assertIn(f"mx{number}.us.example", self.greeting(server))

    def test_all_that_is_wrong_with_the_file(self):
        server = self.daemon()
        good = server.config_file.read_text()
        server.config_file.write_text(good + "\n[acept]\nx = 1\n[queue]\nroom = -5\n")
        said = self.refused(server, "acept: unknown key; did you mean accept?")
        self.assertIn("queue: unknown key", said)
        self.assertEqual(said.count("acept"), 1, said)
        self.assertRegex(said, rf"(?m)^postrider reload: {server.config_file}:\d+: acept")
        server.config_file.write_text(good)
        self.mended(server)

    def test_the_service_manager_hears_the_verdict(self):
        """What `systemctl status` shows: the whole of the first problem, until it is mended."""
        server = self.daemon(start=False)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.bind(str(server.folder / "manager"))
            manager.settimeout(wait.DEADLINE)
            plain = server.environment()
            server.environment = lambda: {**plain, "NOTIFY_SOCKET": str(server.folder / "manager")}

            def status():
                while True:
                    lines = manager.recv(4096).decode().splitlines()
                    if "READY=1" in lines:
                        return next(line for line in lines if line.startswith("STATUS="))
            server.start(ready=False)
            listening = f"STATUS=listening on 127.0.0.1:{server.port}"
            self.assertEqual(status(), listening)
            good = server.config_file.read_text()
            line = len(good.splitlines()) + 2
            server.config_file.write_text(good + "\n[acept]\nx = 1\n")
            said = self.refused(server, "acept: unknown key; did you mean accept?")
            problem = f"{server.config_file}:{line}: acept: unknown key; did you mean accept?"
            self.assertIn(problem, said)
            self.assertEqual(status(), f"STATUS=configuration refused: {problem}")
            server.config_file.write_text(good)
            self.mended(server)
            self.assertEqual(status(), listening)

    def test_a_port_that_is_taken(self):
        server = self.daemon()
        with socket.socket() as busy:
            busy.bind(("127.0.0.1", 0))
            busy.listen()
            taken = f"127.0.0.1:{busy.getsockname()[1]}"
            before = server.settings["listener"]
            server.write_config(hostname="new.us.example",
                                listener=before + [{"address": taken, "role": "mx", "tls": "off"}])
            self.assertEqual(server.tool("postrider", "check").returncode, 0)  # it cannot know
            said = self.refused(server, "Address already in use")
            self.assertIn(taken, said)
            self.assertIn("mx.us.example", self.greeting(server))
            self.refused(server, "Address already in use")
        self.mended(server)
        self.assertIn("new.us.example", self.greeting(server))

    def test_files_that_the_daemon_may_not_read(self):
        """What the administrator can read; his check looks as the daemon's user."""
        if not scenario.is_root():
            self.skipTest("needs root")
        folder = self.own_folder("root")
        at = folder
        while at != at.parent:  # the daemon's user must be able to reach it
            os.chmod(at, os.stat(at).st_mode | 0o011)
            at = at.parent
        os.chmod(folder, 0o777)
        senders = folder / "senders"
        senders.write_text("spam@far.example reject\n")
        server = self.using(daemon.Postrider(
            folder / "d", user="nobody", spool=str(folder / "spool"), log={"target": "stderr"},
            control={"socket": str(folder / "control")}, accept={"senders": [f"text:{senders}"]}))
        os.chmod(server.folder, 0o777)
        server.start()
        self.mended(server)
        for what, changes in (("senders", {}),
                              ("credentials", {"route": [{"domain": "*", "next_hop": "smtps://relay.example:465",
                                                          "credentials": f"{folder}/credentials"}]})):
            with self.subTest(what):
                file = folder / what
                if what == "credentials":
                    file.write_text("user = \"a\"\npassword = \"b\"\n")
                file.chmod(0o600)
                server.write_config(hostname="new.us.example", **changes)
                said = self.refused(server, str(file))
                self.assertIn("Permission denied", said)
                checked = server.tool("postrider", "check", check=False)
                self.assertEqual(checked.returncode, CONFIG)
                line = next(one for one in checked.stderr.splitlines() if str(file) in one)
                self.assertIn(line, said)
                self.assertIn("mx.us.example", self.greeting(server))
                file.chmod(0o644) if what == "senders" else os.chown(file, 65534, 65534)
                self.mended(server)
                self.assertIn("no problems", server.tool("postrider", "check").stdout)
                self.assertIn("new.us.example", self.greeting(server))
                server.write_config(hostname="mx.us.example")
                self.mended(server)
        server.config_file.chmod(0o600)
        self.refused(server, "Permission denied")
        checked = server.tool("postrider", "check", check=False)
        self.assertEqual(checked.returncode, CONFIG)
        self.assertIn(f"{server.config_file}: cannot be read by user nobody, as whom a reload does", checked.stderr)

    def test_what_the_next_start_would_refuse(self):
        """The check says it, the reload says it, and so does the start."""
        folder = self.own_folder("places")
        (folder / "folder").mkdir()
        (folder / "file").touch()
        long = f"{folder}/{'x' * 108}"
        hook = {"name": "hook", "webhook": "http://127.0.0.1:9/"}
        verified = {"domain": "*", "next_hop": "smtp://192.0.2.1", "tls": "verify"}
        cases = [
            ("log.target", "is a folder; expected a file", {"log": {"target": str(folder / "folder")}}),
            ("log.target", "is not a folder; expected one", {"log": {"target": str(folder / "file" / "log")}}),
            ("spool", "is not a folder; expected", {"spool": str(folder / "file")}),
            ("spool", "is open to other users", {"spool": "/tmp"}),
            ("control.socket", "expected at most 107", {"control": {"socket": long}}),
            ("control.submit", "expected at most 107", {"control": {"submit": long}}),
            ("control.socket", "is there and is not a socket", {"control": {"socket": str(folder / "file")}}),
            ("delivery.tls_ca", "No such file or directory", {"delivery": {"tls_ca": str(folder / "missing")}}),
            ("delivery.tls_ca", "expected a file with certificates", {"delivery": {"tls_ca": str(folder / "file")}}),
            (r"events\[0\].secret", "No such file or directory",
             {"events": [{**hook, "secret": str(folder / "missing")}]}),
            (r"events\[0\].secret", "holds 0 keys", {"events": [{**hook, "secret": str(folder / "file")}]}),
            (r"route\[0\].next_hop", "is an address, which no certificate names", {"route": [verified]})]
        (folder / "file").chmod(0o600)
        # Where this daemon may read what it is given.
        reach = {"sandbox": {"read": [str(folder)]}}
        for key, words, changes in cases:
            with self.subTest(key=key, words=words):
                server = self.daemon(**reach)
                good = server.config_file.read_text()
                server.write_config(**changes)
                wrong = rf"{server.config_file}:\d+: {key}: .*{words}.*"
                checked = server.tool("postrider", "check", check=False)
                self.assertEqual(checked.returncode, CONFIG, checked)
                self.assertRegex(checked.stderr, wrong)
                self.assertIn("expected", checked.stderr)
                done = server.tool("postrider", "reload", "-c", server.config_file, check=False)
                self.assertEqual(done.returncode, CONFIG, done)
                self.assertRegex(done.stderr, wrong)
                server.config_file.write_text(good)
                server.stop()
                server.write_config(**changes)
                started = server.tool("postrider", "run", check=False)
                self.assertNotEqual(started.returncode, 0, started)

    def test_a_signal_is_judged_in_the_same_way(self):
        server = self.daemon()
        server.write_config(accept={"senders": [f"text:{server.folder}/missing"]})
        server.reload()
        refused, = server.wait_for_log("config_refused")
        self.assertEqual(refused["key"], "accept.senders")
        wait.until(lambda: "missing" in server.postrider("status"), "the alarm")
        (server.folder / "missing").touch()
        self.mended(server)

    def test_the_service_manager_hears_the_end_of_a_refused_one(self):
        """Else the unit would go on reloading until its time is over."""
        server = self.daemon(start=False)
        place = str(server.folder / "manager")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.bind(place)
            os.chmod(place, 0o777)
            manager.settimeout(wait.DEADLINE)

            def hear(word):
                heard = b""
                while word not in heard:
                    heard = manager.recv(4096)
                return heard
            with unittest.mock.patch.dict(os.environ, NOTIFY_SOCKET=place):
                server.start(ready=False)
            hear(b"READY=1")
            server.config_file.write_text(server.config_file.read_text() + "\n[acept]\nx = 1\n")
            self.refused(server, "acept")
            hear(b"RELOADING=1")
            self.assertIn(b"STATUS=configuration refused", hear(b"READY=1"))

    def test_what_counts_after_a_restart_is_said(self):
        server = self.daemon()
        was = server.settings["spool"]
        note = "note: spool counts after a restart"
        server.write_config(spool=str(server.folder / "elsewhere"))
        self.assertIn(note, self.reload(server))
        server.write_config(hostname="new.us.example")
        self.assertIn(note, self.reload(server))  # still
        good = server.config_file.read_text()
        server.config_file.write_text(good + "\n[acept]\nx = 1\n")
        self.refused(server, "acept")
        server.config_file.write_text(good)
        self.assertIn(note, self.reload(server))
        server.write_config(spool=was)  # as it runs since its start
        self.assertEqual(self.reload(server), "")
        self.assertEqual({entry["key"] for entry in server.log("needs_restart")}, {"spool"})
        self.assertEqual(server.send("a@ext.example", f"{daemon.USER}@us.example", b"Subject: x\r\n\r\nx\r\n").code, 250)

    def test_many_at_a_time(self):
        server = self.daemon()
        server.write_config(hostname="new.us.example")
        ends = []
        threads = [threading.Thread(target=lambda: ends.append(
            server.tool("postrider", "reload", check=False).returncode)) for _ in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(ends, [0] * 12)
        self.assertIn("new.us.example", self.greeting(server))

    def test_each_gets_the_verdict_on_the_file_that_he_wrote(self):
        server = self.daemon()
        good = server.config_file.read_text()
        for _ in range(3):
            server.config_file.write_text(good + "\n[acept]\nx = 1\n")
            self.refused(server, "acept")
            server.config_file.write_text(good)
            self.mended(server)

    def test_the_daemon_is_down_or_goes_down(self):
        server = self.daemon(start=False)
        said = self.reload(server, UNAVAILABLE)
        self.assertIn("the mail system is down; start it, by `systemctl start postrider`", said)
        self.assertFalse(server.spool.exists())
        server.start()
        writing = threading.Event()
        stop = threading.Event()
        good = server.config_file.read_text()

        def write():  # it never stays as it is for long enough to be read
            number = 0
            while not stop.is_set():
                number += 1
                server.config_file.write_text(good + f"# {number}\n")
                writing.set()
                stop.wait(0.1)
        writer = threading.Thread(target=write)
        writer.start()
        self.addCleanup(writer.join)
        self.addCleanup(stop.set)
        writing.wait()
        asking = subprocess.Popen([str(daemon.BIN / "postrider"), "reload"], env=server.environment(),
                                  stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        wait.until(lambda: self.door_is_used(server), "the question")
        server.stop()
        _, said = asking.communicate(timeout=wait.DEADLINE)
        self.assertEqual(asking.returncode, TEMPFAIL, said)
        self.assertIn("the daemon is stopping", said)

    @staticmethod
    def door_is_used(server):
        """An accepted connection on the control socket: it has the socket's name and no listening state."""
        name = str(server.folder / "control")
        rows = [row.split() for row in pathlib.Path("/proc/net/unix").read_text().splitlines()]
        return any(row[-1] == name and row[5] == "03" for row in rows)


if __name__ == "__main__":
    scenario.main()
