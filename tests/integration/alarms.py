#!/usr/bin/python3
"""What somebody must act on: each is an alarm on the first lines of `postrider status`, one for programs, and 1 from
`postrider status --check`, as long as it lasts."""
import contextlib
import http.server
import json
import os
import pwd
import shutil
import subprocess
import threading
import unittest

from support_py import daemon, milter, scenario, wait

CONTENT = b"From: <a@us.example>\r\nSubject: x\r\n\r\nx\r\n"


class Taking(http.server.ThreadingHTTPServer):
    """A subscriber of events that takes them all."""

    class Visit(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_):
            pass

    def __init__(self, port):
        super().__init__(("127.0.0.1", port), self.Visit)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def stop(self):
        self.shutdown()
        self.server_close()


class Alarms(scenario.Scenario):
    @staticmethod
    def check(server):
        return server.tool("postrider", "status", "--check", check=False).returncode

    def alarmed(self, server, words):
        """For people on the first lines, and for programs."""
        wait.until(lambda: self.check(server) == 1, lambda: server.postrider("status"))
        shown = server.postrider("status")
        lines = shown.splitlines()
        alarms = [line for line in lines if line.startswith("ALARM")]
        self.assertTrue(any(words in line for line in alarms), shown)
        self.assertEqual(lines[:len(alarms)], alarms)
        said = json.loads(server.postrider("status", "--json"))["alarms"]
        self.assertEqual(len(said), len(alarms))

    def calm(self, server):
        wait.until(lambda: self.check(server) == 0, lambda: server.postrider("status"))
        self.assertNotIn("ALARM", server.postrider("status"))
        self.assertEqual(json.loads(server.postrider("status", "--json"))["alarms"], [])

    def test_a_configuration_that_was_refused(self):
        server = self.daemon()
        self.calm(server)
        good = server.config_file.read_text()
        server.config_file.write_text("[acept]\n" + good)
        server.tool("postrider", "reload", check=False)
        self.alarmed(server, "the configuration was refused, the one before is in use: ")
        self.assertNotIn("config refused", server.postrider("status"))  # said once
        server.config_file.write_text(good)
        server.postrider("reload")
        self.calm(server)

    def test_a_queue_that_is_gone(self):
        """Until somebody has looked at what is left of the mail, whatever is started again meanwhile."""
        server = self.daemon(route=[{"domain": "far.test", "next_hop": "smtp://127.0.0.1:9", "tls": "off"}])
        self.assertEqual(server.send("a@us.example", "b@far.test", CONTENT + (b"y" * 70 + b"\r\n") * 6000).code, 250)
        body, = (server.spool / "body").iterdir()
        server.kill()
        for file in server.spool.glob("queue.db*"):
            file.unlink()
        for _ in range(2):
            server.start()
            self.alarmed(server, f"1 file in {server.spool}/lost, with mail that damage of the queue made nobody")
            self.assertEqual(len(server.log("queue_missing")), 1)
            self.assertEqual([file.name for file in (server.spool / "lost").iterdir()], [body.name])
            server.kill()
        server.start()
        (server.spool / "lost" / body.name).unlink()
        self.calm(server)

    def test_a_queue_of_which_nothing_is_left(self):
        """Its mail was in the database alone. Tools say so, the log, and the status until somebody has looked."""
        for how in ("emptied", "zeros", "removed"):
            server = self.daemon(route=[{"domain": "far.test", "next_hop": "smtp://127.0.0.1:9", "tls": "off"}])
            self.assertEqual(server.send("a@us.example", "b@far.test", b"Subject: x\r\n\r\nx\r\n").code, 250)
            server.stop()
            database = server.spool / "queue.db"
            size = database.stat().st_size
            database.unlink()
            if how != "removed":
                database.write_bytes(b"" if how == "emptied" else bytes(size))
                database.chmod(0o600)
            counted = server.tool("postrider", "queue", "count", check=False)
            if how == "removed":
                self.assertEqual(counted.returncode, 69)
                self.assertIn("queue.db is gone from ", counted.stderr)
            else:
                self.assertEqual(counted.returncode, 0)
                self.assertIn("postrider: queue_missing, ", counted.stderr)
            for _ in range(2):
                server.start()
                self.alarmed(server, f"1 file in {server.spool}/lost, with mail that damage of the queue made nobody")
                self.assertEqual(len(server.log("queue_missing")), 1)
                server.stop()
            server.start()
            for file in (server.spool / "lost").iterdir():
                file.unlink()
            self.calm(server)
            server.stop()

    def test_a_log_that_takes_no_lines(self):
        disk = self.small_disk("300k")
        server = self.daemon(log={"target": str(disk / "log")})
        self.calm(server)
        with open(disk / "filled", "wb", buffering=0) as file:
            with contextlib.suppress(OSError):
                while True:
                    file.write(b"x" * 4096)

        def is_alarmed():  # each session has lines
            with server.client() as client:
                client.hello()
            return self.check(server) == 1
        wait.until(is_alarmed, lambda: server.postrider("status"))
        self.alarmed(server, "the log is not written: lines lost so far ")
        (disk / "filled").unlink()
        wait.until(lambda: not is_alarmed(), lambda: server.postrider("status"))
        self.calm(server)
        self.assertIn('"log_overrun"', (disk / "log").read_text())

    def test_a_milter_that_is_gone(self):
        place = self.own_folder("milter") / "socket"
        server = self.daemon(milter=[{"name": "judge", "address": str(place)}])
        self.calm(server)  # nobody has asked it yet

        def asked():
            with server.client() as client:
                client.hello()
                return client.command("MAIL FROM:<a@us.example>").code
        self.assertEqual(asked(), 451)
        self.alarmed(server, "the milter judge does not answer")
        self.using(milter.Scripted(place))
        wait.until(lambda: asked() == 250, "it is asked again")
        self.calm(server)

    def test_a_subscriber_that_takes_no_events(self):
        port = wait.free_port()
        server = self.daemon(events=[{"name": "hook", "webhook": f"http://127.0.0.1:{port}/"}])
        server.send("a@us.example", ["b@far.example"], CONTENT)
        self.alarmed(server, "hook takes no events since ")
        self.using(Taking(port))
        server.reload()  # it is asked at once
        self.calm(server)

    def test_a_table_that_cannot_be_read(self):
        senders = self.own_folder("tables") / "senders"
        senders.write_text("spam@far.example reject\n")
        server = self.daemon(accept={"senders": [f"text:{senders}"]})
        self.calm(server)
        senders.unlink()
        self.alarmed(server, str(senders))
        senders.write_text("spam@far.example reject\n")
        self.calm(server)

    @unittest.skipUnless(scenario.is_root(), "needs root: mail is sent as another user")
    def test_a_user_at_the_limit(self):
        nobody = pwd.getpwnam("nobody")
        server = self.daemon(sendmail={"messages_per_hour": 1})
        at = server.folder
        while at != at.parent:
            os.chmod(at, os.stat(at).st_mode | 0o005)
            at = at.parent
        os.chmod(server.config_file, 0o644)
        program = server.folder / "sendmail"
        shutil.copy(daemon.BIN / "postrider", program)
        for code in (0, os.EX_TEMPFAIL):
            done = subprocess.run([program, "b@far.example"], input=CONTENT, env=server.environment(), cwd="/",
                                  user=nobody.pw_uid, group=nobody.pw_gid, extra_groups=[], timeout=wait.DEADLINE)
            self.assertEqual(done.returncode, code)
        self.alarmed(server, f"uid {nobody.pw_uid} (nobody) is at the limit of 1 messages an hour since ")


if __name__ == "__main__":
    scenario.main()
