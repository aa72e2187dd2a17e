#!/usr/bin/python3
"""Starting, reloading, draining, a second daemon, a full disk, and being started as root."""
import datetime
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time

from support_py import daemon, scenario, sink, wait
from support_py.smtp import Client, Closed

CONTENT = b"Subject: life\r\n\r\nx\r\n"


class Lifecycle(scenario.Scenario):
    def test_a_second_daemon_on_the_same_spool_is_refused(self):
        server = self.daemon()
        other = self.daemon(start=False, spool=str(server.spool))
        other.start(ready=False)
        self.assertNotEqual(other.process.wait(wait.DEADLINE), 0)
        other.process = None
        self.assertRegex(other.stderr().lower() + "".join(map(str, other.log())).lower(),
                         r"already|another|lock|in use")
        self.assertEqual(server.send("a@ext.example", f"{daemon.USER}@us.example", CONTENT).code, 250)

    def test_a_port_in_use_is_said_and_nothing_half_starts(self):
        server = self.daemon()
        other = self.daemon(start=False, listener=server.settings["listener"])
        with Client(server.port):
            other.start(ready=False)
            self.assertNotEqual(other.process.wait(wait.DEADLINE), 0)
        other.process = None
        self.assertIn(str(server.port), other.stderr())

    def test_SIGHUP_takes_a_good_file(self):
        server = self.daemon()
        with server.client() as old:
            old.hello()
            server.write_config(hostname="renamed.us.example", accept={"message_size": "1MiB"})
            server.reload()

            def renamed():
                with server.client() as client:
                    return b"renamed.us.example" in client.greeting.lines[0]
            wait.until(renamed, "the new name in the greeting")
            self.assertTrue(old.in_sync(), "a session was lost by a reload")
        with server.client() as client:
            self.assertIn(b"SIZE 1048576", client.hello().lines)

    def test_SIGHUP_refuses_a_bad_file_and_keeps_the_old(self):
        server = self.daemon()
        good = server.config_file.read_text()
        server.config_file.write_text("hostname = 5\n" + good.replace("mx.us.example", "b@d name"))
        server.reload()
        wait.until(lambda: [e for e in server.log() if e["level"] == "error" or
                            e["level"] == "warn"], "a complaint in the log")
        with server.client() as client:
            self.assertIn(b"mx.us.example", client.greeting.lines[0])
        self.assertEqual(server.send("a@ext.example", f"{daemon.USER}@us.example", CONTENT).code, 250)

    def test_a_refused_file_is_shown_until_it_is_mended(self):
        server = self.daemon()
        good = server.config_file.read_text()
        server.config_file.write_text(good + "\n[acept]\nx = 1\n")
        server.reload()
        server.wait_for_log("config_refused")
        wait.until(lambda: "acept: unknown key" in server.postrider("status"), "the alarm")
        status = json.loads(server.postrider("status", "--json"))
        self.assertIn(f"{server.config_file}:", status["config_refused"])
        self.assertTrue(any("configuration was refused" in alarm for alarm in status["alarms"]))
        server.config_file.write_text(good)
        server.reload()
        server.wait_for_log("reloaded")
        wait.until(lambda: "acept" not in server.postrider("status"), "no alarm")

    def test_a_half_written_file_is_not_adopted(self):
        """As an editor or a copy writes it in place, however slowly, with SIGHUPs all the while."""
        peer = self.sink()
        server = self.relay(peer)
        good = server.config_file.read_text()
        self.assertIn("[[route]]", good)
        cut = good[:good.index("[[route]]")]
        fresh = good.replace("mx.us.example", "new.us.example")
        sent = 0
        for number, half in enumerate(["", cut, good[:good.index("[[listener]]")], good[:-2]]):
            with self.subTest(half=half[-40:]):
                before = len(server.log("reloaded"))
                server.config_file.write_text(half)
                for _ in range(50):
                    server.reload()
                # For longer than a whole file is let alone, and not as long as one that seems cut.
                began = time.monotonic()
                while time.monotonic() < began + 1.5:
                    reply = server.send("a@ext.example", f"b{sent}@far.example", CONTENT)
                    self.assertEqual(reply.code, 250)
                    sent += 1
                    peer.wait_for(sent)  # so the route is still there
                server.config_file.write_text(fresh if number % 2 else good)
                server.reload()
                server.wait_for_log("reloaded", count=before + 1)
        with server.client() as client:
            self.assertIn(b"new.us.example", client.greeting.lines[0])

    def test_an_empty_file_is_refused(self):
        server = self.daemon()
        server.config_file.write_text("# nothing\n")
        server.reload()
        refused, = server.wait_for_log("config_refused")
        self.assertIn("no key", refused["problem"])
        with server.client() as client:
            self.assertEqual(client.greeting.code, 220)

    def test_many_SIGHUPs_hold_up_no_stop(self):
        server = self.daemon()
        for _ in range(300):
            server.reload()
        server.stop()
        self.assertLessEqual(len(server.log("reloaded")), 3)

    def test_a_stop_ends_in_ten_seconds_whatever_hangs(self):
        """Clients silent in DATA, remotes silent at MAIL, and a reader of the control socket that
        reads nothing."""
        peer = self.sink(script={"mail": [sink.HANG, sink.HANG]})
        server = self.relay(peer)
        for number in range(2):
            server.send("a@ext.example", f"{number}@far.example", CONTENT)
        peer.wait_for_stage("mail")
        silent = []
        for _ in range(3):
            client = server.client()
            self.addCleanup(client.close)
            client.hello()
            client.begin("a@ext.example", ["b@far.example"])
            client.expect("DATA", 354)
            silent.append(client)
        idle = server.client()
        self.addCleanup(idle.close)
        idle.hello()
        door = socket.socket(socket.AF_UNIX)
        self.addCleanup(door.close)
        door.connect(str(server.folder / "control"))
        server.stop()  # a remote would have five minutes, and a client three
        stopping, = server.log("stopping")
        stopped, = server.log("stopped")
        self.assertEqual(stopping["sessions"], "4")
        took = (datetime.datetime.fromisoformat(stopped["time"].replace("Z", "+00:00")) -
                datetime.datetime.fromisoformat(stopping["time"].replace("Z", "+00:00")))
        self.assertLess(took.total_seconds(), 11)  # by the clock of the daemon, which counts on 10
        for client in silent + [idle]:
            self.assertEqual(client.reply().code, 421)
            self.assertTrue(client.is_closed())
        peer.script.clear()
        server.start()
        peer.wait_for(2)
        server.wait_until_empty()

    def test_storage_that_stays_lost_ends_the_process(self):
        """With the code that has a service manager start another one; that works when the file is back."""
        peer = self.sink()
        server = self.relay(peer)
        server.send("a@ext.example", "b@far.example", CONTENT)
        peer.wait_for(1)
        server.wait_until_empty()
        (server.spool / "queue.db").rename(server.spool / "aside")
        with server.client() as client:
            client.hello()
            replies = [client.command("MAIL FROM:<a@ext.example>").code]
            if replies == [250]:  # otherwise it has been noticed already
                client.expect("RCPT TO:<b@far.example>", 250)
                client.expect("DATA", 354)
                client.send(CONTENT + b".\r\n")
                replies.append(client.reply().code)
            self.assertEqual(replies[-1], 451)
        server.wait_for_log("storage_lost", deadline=3 * wait.DEADLINE)  # after a minute
        self.assertEqual(server.process.wait(wait.DEADLINE), os.EX_IOERR)
        server.process = None
        server.assert_no_report()
        (server.spool / "aside").rename(server.spool / "queue.db")
        server.start()
        self.assertEqual(server.send("a@ext.example", "c@far.example", CONTENT).code, 250)
        peer.wait_for(2)
        server.wait_until_empty()

    def test_the_folder_of_large_content_is_replaced_and_removed(self):
        """A backup that is put back while the daemon runs: what waits goes out, what comes is found."""
        peer = self.sink()
        peer.stop()
        server = self.relay(peer, accept={"message_size": "10MiB"},
                            delivery={"retry": ["1s"]})
        body, aside = server.spool / "body", server.spool / "body.old"
        large = b"Subject: large\r\n\r\n" + b"x" * 70 + b"\r\n" + (b"y" * 70 + b"\r\n") * 3000
        server.send("a@ext.example", "b@far.example", large)
        server.wait_for_log("attempted", verdict="deferred")
        body.rename(aside)

        def status():
            shown = server.postrider("status", "--json", check=False)
            return json.loads(shown)

        without = status()
        self.assertEqual(without["admission"], "no new mail: the storage failed")
        self.assertTrue([each for each in without["alarms"] if "body of the spool is gone" in each], without)
        server.wait_for_log("storage_failed")
        with server.client() as client:
            client.hello()
            self.assertEqual(client.command("MAIL FROM:<a@ext.example>").code, 451)
        shutil.copytree(aside, body)
        server.wait_for_log("storage_reopened")
        self.assertEqual(status()["admission"], "open")
        self.assertFalse(status().get("alarms"))
        shutil.rmtree(aside)
        server.send("a@ext.example", "c@far.example", large)
        self.assertEqual(len(list(body.iterdir())), 2)
        server.restart()
        peer.start()
        peer.wait_for(2)
        server.wait_until_empty()
        self.assertEqual(server.log("quarantined"), [])
        self.assertEqual(list(body.iterdir()), [])

    def test_SIGHUP_opens_a_new_listener_and_closes_an_old_one(self):
        server = self.daemon()
        new = wait.free_port()
        server.write_config(listener=[{"address": f"127.0.0.1:{new}", "role": "mx", "tls": "off"}])
        server.reload()

        def accepted(port):
            try:
                Client(port).close()
                return True
            except (OSError, Closed):
                return False
        wait.until(lambda: accepted(new), "the new listener")
        wait.until(lambda: not accepted(server.port), "the old listener to close")

    def test_SIGTERM_drains(self):
        peer = self.sink()
        server = self.relay(peer)
        idle, busy = server.client(), server.client()
        self.addCleanup(idle.close)
        self.addCleanup(busy.close)
        idle.hello()
        busy.hello()
        busy.begin("a@ext.example", ["b@far.example"])
        busy.expect("DATA", 354)
        busy.send(b"Subject: drained\r\n\r\n")
        server.signal(signal.SIGTERM)
        self.assertEqual(idle.reply().code, 421)
        self.assertTrue(idle.is_closed())
        busy.send(b"finished\r\n.\r\n")
        self.assertEqual(busy.reply().code, 250)
        server.stop()
        server.start()
        peer.wait_for(1)
        server.wait_until_empty()
        self.assertEqual(len(peer.messages), 1)

    def test_SIGTERM_while_remotes_do_not_answer_ends_in_time_and_keeps_the_mail(self):
        peer = self.sink(script={"mail": [sink.HANG, sink.HANG]})
        server = self.relay(peer)
        for number in range(2):
            server.send("a@ext.example", f"{number}@far.example", CONTENT)
        peer.wait_for_stage("mail")
        server.stop()
        peer.script.clear()
        server.start()
        peer.wait_for(2)
        server.wait_until_empty()

    def test_the_log_formats(self):
        for form, pattern in (("text", r"^\S+Z info accepted id=\w+ .*from=a@ext\.example"),
                              ("postfix", r": from=<a@ext\.example>, size=\d+")):
            with self.subTest(format=form):
                peer = self.sink()
                server = self.relay(peer, log={"format": form})
                server.send("a@ext.example", "b@far.example", CONTENT)
                peer.wait_for(1)
                server.wait_until_empty()
                server.stop()
                text = server.log_file.read_text()
                self.assertRegex(text, re.compile(pattern, re.M))
                if form == "postfix":
                    self.assertRegex(text, r"to=<b@far\.example>, relay=.*, delay=[\d.]+, "
                                           r".*status=sent")

    def test_a_newer_database_is_refused(self):
        server = self.daemon()
        server.stop()
        with sqlite3.connect(server.spool / "queue.db") as database:
            database.execute("pragma user_version = 9999")
        database.close()
        server.start(ready=False)
        self.assertNotEqual(server.process.wait(wait.DEADLINE), 0)
        server.process = None


class FullDisk(scenario.Scenario):
    @staticmethod
    def fill(place):
        """To the last block."""
        try:
            with open(place / "ballast", "ab", buffering=0) as file:
                while True:
                    file.write(b"\0" * 4096)
        except OSError:
            pass

    @staticmethod
    def is_refused(server):
        with server.client() as client:
            client.hello()
            reply = client.command("MAIL FROM:<a@ext.example>")
            return (reply.code, reply.enhanced) == (452, "4.3.1")

    def full_disk(self, messages=3):
        """A daemon with mail for a peer that is down, the disk full and the reserve used up."""
        place = self.small_disk("60m")
        peer = self.sink()
        peer.stop()
        server = self.relay(peer, spool=str(place / "spool"), accept={"message_size": "1MiB"})
        for number in range(messages):
            self.assertEqual(server.send("a@ext.example", f"b{number}@far.example", CONTENT).code, 250)
        wait.until(lambda: not server.queue("--status", "active"), "nothing under way", pause=0.1)
        self.fill(place)
        wait.until(lambda: self.is_refused(server), "452 4.3.1 at MAIL", pause=0.2)
        return place, peer, server

    def goes_on(self, place, peer, server, messages=3):
        """On a disk that is full still: each message once, and its end recorded."""
        self.assertTrue(self.is_refused(server))
        peer.start()
        peer.wait_for(messages)
        server.wait_until_empty()
        self.assertTrue(self.is_refused(server))
        server.kill()
        server.start()
        self.assertEqual(server.queue(), [])
        (place / "ballast").unlink()
        wait.until(lambda: not self.is_refused(server), "recovery without a restart", pause=0.2)
        self.assertEqual(server.send("a@ext.example", "last@far.example", CONTENT).code, 250)
        peer.wait_for(messages + 1)
        server.wait_until_empty()
        self.assertEqual(len(peer.messages), messages + 1)
        server.stop()

    def test_a_start_on_a_full_disk_after_a_kill(self):
        for is_reserve_left in (True, False):
            with self.subTest(reserve=is_reserve_left):
                place, peer, server = self.full_disk()
                if not is_reserve_left:
                    (server.spool / "reserve").unlink(missing_ok=True)  # as it is given up
                    self.fill(place)
                server.kill()
                self.fill(place)
                server.start()
                self.goes_on(place, peer, server)

    def test_a_start_on_a_full_disk_after_a_stop(self):
        place, peer, server = self.full_disk()
        (server.spool / "reserve").unlink(missing_ok=True)
        self.fill(place)
        server.stop()
        self.fill(place)
        server.start()
        self.goes_on(place, peer, server)

    def test_a_start_on_a_full_disk_without_any_room_waits_for_it(self):
        for end in (daemon.Postrider.kill, daemon.Postrider.stop):
            with self.subTest(end=end.__name__):
                place, peer, server = self.full_disk()
                end(server)
                (server.spool / "reserve").unlink(missing_ok=True)
                # The log loses the room that it has. Who closed the database would remove its files.
                subprocess.run([sys.executable, "-c", f'''
import os, sqlite3
database = sqlite3.connect("{server.spool}/queue.db")
assert database.execute("pragma wal_checkpoint(truncate)").fetchone()[0] == 0
os._exit(0)'''], check=True)
                self.assertEqual((server.spool / "queue.db-wal").stat().st_size, 0)
                self.fill(place)
                before = len(server.log("disk_full"))
                server.start()
                server.wait_for_log("disk_full", count=before + 1)
                self.assertTrue(self.is_refused(server))
                self.assertEqual(len(server.queue()), 3)
                peer.start()
                (place / "ballast").unlink()
                peer.wait_for(3)
                server.wait_until_empty()
                wait.until(lambda: not self.is_refused(server), "room for new mail")
                self.assertEqual(server.send("a@ext.example", "last@far.example", CONTENT).code, 250)
                peer.wait_for(4)
                server.wait_until_empty()
                self.assertEqual(len(peer.messages), 4)
                server.stop()

    def test_a_stop_says_what_it_could_not_record(self):
        """Somebody keeps the database to himself, so that nothing can be stored: what was delivered
        meanwhile is delivered once more, which the log has to say."""
        held = []

        def hold(server):
            if not held:
                held.append(sqlite3.connect(server.spool / "queue.db", check_same_thread=False,
                                            isolation_level=None))
                held[0].execute("begin immediate")
            return "250 2.1.5 ok"
        servers = []
        peer = self.sink(script={"rcpt": lambda *_: hold(servers[0])})
        server = self.relay(peer)
        servers.append(server)
        server.send("a@ext.example", "b@far.example", CONTENT)
        peer.wait_for(1)
        server.wait_for_log("storage_failed")
        server.stop()
        stopped, = server.log("stopped")
        self.assertEqual((stopped["complete"], stopped["records"]), ("no", "1"))
        held[0].close()
        server.start()
        peer.wait_for(2)
        server.wait_until_empty()

    def test_a_full_disk_is_452_at_MAIL_and_delivery_goes_on(self):
        place = self.small_disk("200m")
        peer = self.sink()
        peer.stop()
        server = self.relay(peer, start=False, spool=str(place / "spool"),
                            accept={"message_size": "10MiB"})
        server.start()
        self.assertEqual(server.send("a@ext.example", "b@far.example", CONTENT).code, 250)
        ballast = place / "ballast"
        free = os.statvfs(place).f_bavail * os.statvfs(place).f_frsize
        with open(ballast, "wb") as file:
            file.write(b"\0" * (free - (4 << 20)))

        def refused():
            with server.client() as client:
                client.hello()
                reply = client.command("MAIL FROM:<a@ext.example>")
                return (reply.code, reply.enhanced) == (452, "4.3.1")
        wait.until(refused, "452 4.3.1 at MAIL", pause=0.2)
        peer.start()
        peer.wait_for(1)  # delivery goes on
        server.wait_until_empty()
        ballast.unlink()
        wait.until(lambda: not refused(), "recovery without a restart", pause=0.2)
        self.assertEqual(server.send("a@ext.example", "b@far.example", CONTENT).code, 250)
        peer.wait_for(2)
        server.wait_until_empty()
        server.stop()

    def test_status_tells_of_a_full_disk_though_nothing_happens(self):
        place = self.small_disk("60m")
        server = self.daemon(spool=str(place / "spool"), accept={"message_size": "10MiB"})

        def admission():
            return json.loads(server.tool("postrider", "status", "--json", check=False).stdout)["admission"]
        self.assertEqual(admission(), "open")
        ballast = place / "ballast"
        free = os.statvfs(place).f_bavail * os.statvfs(place).f_frsize
        ballast.write_bytes(b"\0" * (free - (4 << 20)))
        full = "no new mail: the disk is nearly full"
        wait.until(lambda: admission() == full, admission, 3)
        server.wait_for_log("disk_low")
        self.assertIn(full, server.tool("postrider", "status", check=False).stdout)
        ballast.unlink()
        wait.until(lambda: admission() == "open", admission, 3)
        self.assertEqual(len(server.log("disk_low")), 1)
        self.assertEqual(server.send("a@ext.example", f"{daemon.USER}@us.example", CONTENT).code, 250)
        server.stop()

    def test_a_disk_that_fills_in_the_middle_of_a_message_never_ends_in_a_250(self):
        place = self.small_disk("60m")
        peer = self.sink()
        server = self.relay(peer, spool=str(place / "spool"), accept={"message_size": "10MiB"})
        with server.client() as client:
            client.hello()
            client.begin("a@ext.example", ["b@far.example"])
            client.expect("DATA", 354)
            client.send((b"x" * 76 + b"\r\n") * 20000)
            try:
                with open(place / "ballast", "wb", buffering=0) as file:
                    while True:
                        file.write(b"\0" * 65536)
            except OSError:
                pass  # now it is full
            client.send((b"x" * 76 + b"\r\n") * 60000 + b".\r\n")
            reply = client.reply()
            self.assertIn(reply.code, (451, 452), reply)
        (place / "ballast").unlink()

        def accepted():
            try:
                return server.send("a@ext.example", "b@far.example", CONTENT).code == 250
            except AssertionError:
                return False
        wait.until(accepted, "recovery", pause=0.2)
        server.wait_until_empty()
        self.assertEqual(len(peer.messages), 1)
        server.stop()

    def test_a_notice_that_is_refused_while_the_disk_is_full_reaches_the_postmaster(self):
        """Its end and the notice about it are one transaction, for which there is no room until later."""
        place = self.small_disk("60m")
        ballast = place / "ballast"

        def refuse(_, address):
            if address == "a@far.example":  # the sender of the first one, who is told of its failure
                try:
                    with open(ballast, "wb", buffering=0) as file:
                        while True:
                            file.write(b"\0" * 4096)
                except OSError:
                    pass
            return f"550 5.1.1 nobody like {address}"
        peer = self.sink(script={"rcpt": refuse})
        server = self.relay(peer, spool=str(place / "spool"), accept={"message_size": "1MiB"}, delivery={
            "double_bounces_to": f"{daemon.USER}@us.example"})
        self.assertEqual(server.send("a@far.example", "b@far.example", CONTENT).code, 250)
        wait.until(ballast.exists, "a full disk")
        peer.wait_for_stage("rcpt", 2)
        ballast.unlink()
        told, = server.wait_for_mail(1)
        self.assertIn(b"nobody like a@far.example", told)
        server.wait_until_empty()
        server.restart()
        server.wait_until_empty()
        self.assertEqual(len(server.mailbox()), 1)
        self.assertEqual([event.argument for event in peer.events if event.stage == "rcpt"],
                         ["b@far.example", "a@far.example"])
        server.stop()


class AsRoot(scenario.Scenario):
    def test_root_binds_the_low_port_and_the_daemon_is_somebody_else(self):
        if not scenario.is_root():
            self.skipTest("needs root")
        os.chmod(self.folder, 0o755)
        folder = self.own_folder("root")
        os.chmod(folder, 0o755)
        spool = folder / "spool"
        server = daemon.Postrider(folder / "d", user="nobody", spool=str(spool), log={"target": "stderr"},
                                  listeners=[{"address": "127.77.0.1:25", "role": "mx", "tls": "off"}],
                                  control={"socket": str(folder / "control")})
        os.chmod(folder / "d", 0o777)
        os.chmod(folder, 0o777)
        parent = pathlib.Path(folder)
        while parent != pathlib.Path("/"):  # nobody must be able to reach the folder
            if not os.stat(parent).st_mode & 0o001:
                os.chmod(parent, os.stat(parent).st_mode | 0o001)
            parent = parent.parent
        self.using(server)
        server.start()
        status = pathlib.Path(f"/proc/{server.process.pid}/status").read_text()
        self.assertNotRegex(status, r"(?m)^Uid:\t0\t")
        self.assertNotRegex(status, r"(?m)^Gid:\t0\t")
        with Client(25, address="127.77.0.1") as client:
            client.hello()
        server.stop()


if __name__ == "__main__":
    scenario.main()
