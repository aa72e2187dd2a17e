#!/usr/bin/python3
"""control.readers: members of a group ask at the control socket, see no content and change nothing; and a
hostile one keeps neither administrators nor other readers out. Needs root, as the service manager has."""
import json
import os
import re
import socket
import stat
import subprocess
import threading
import time

from support_py import daemon, scenario, smtp, wait
from support_py.accounts import ANN, BOB, LOW
from taken_over import World

GROUP, GROUP_ID = "pridisk", 2909  # of the machine that the daemon sees
NOPERM, TEMPFAIL = 77, 75
TO = "reader@far.example"
SECRET = "a secret subject"

READS = [["status"], ["status", "--json"], ["status", "--prometheus"], ["queue"], ["queue", "--json"], ["queue", "count"],
         ["queue", "summary"], ["sites"], ["explain", TO], ["trace", TO], ["tlsrpt"], ["dmarc-reports"], ["queue", "show"]]
CHANGES = [["queue", "hold", "--all"], ["queue", "release", "--all"], ["queue", "retry"], ["queue", "remove", "--all"],
           ["queue", "remove", "--all", "--dry-run"], ["queue", "bounce", "--all"], ["queue", "expire", "--all"],
           ["queue", "reroute", "--all", "--to", "127.0.0.1:1"], ["queue", "pause", "--all"],
           ["queue", "resume", "--all"], ["reload"], ["tlsrpt", "--send"], ["dmarc-reports", "--send"]]


def become(uid):
    os.setgroups([GROUP_ID])
    os.setgid(uid)
    os.setuid(uid)


class Readers(World):
    def serve(self, messages=1, recipients=1, readers=GROUP):
        control = {"readers": readers} if readers else {}
        server = self.start(control=control, sendmail={"messages_per_hour": 0}, delivery={"retry": ["1h"]},
                            route=[{"domain": "*", "next_hop": f"smtp://127.0.0.1:{wait.free_port()}", "tls": "off"}])
        os.chmod(server.folder, 0o755)
        for number in range(messages):
            with smtp.Client(server.port) as client:
                client.hello()
                client.message("a@us.example", [f"r{at}@far.example" for at in range(recipients - 1)] + [TO],
                               f"Subject: {SECRET}\r\n\r\nthe body\r\n".encode())
        wait.until(lambda: server.queued() == messages, "in the queue")
        return server

    def ask(self, server, *arguments, uid=ANN, group=None, groups=(GROUP_ID,)):
        """`postrider`, as that user; in the group as the kernel knows groups."""
        return subprocess.run([str(daemon.BIN / "postrider"), *arguments], stdin=subprocess.DEVNULL,
                              capture_output=True, text=True, env=server.environment(), cwd="/", user=uid,
                              group=uid if group is None else group, extra_groups=list(groups),
                              timeout=wait.DEADLINE)

    def mode(self, server):
        return stat.S_IMODE(os.stat(server.folder / "control").st_mode)

    def door(self, server):
        door = socket.socket(socket.AF_UNIX)
        door.settimeout(wait.DEADLINE)
        door.connect(str(server.folder / "control"))
        return door

    def as_reader(self, work, uid=ANN):
        """work() in a process of that user and that group."""
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                become(uid)
                answer = [True, work()]
            except BaseException as problem:
                answer = [False, repr(problem)]
            with os.fdopen(writing, "w") as pipe:
                json.dump(answer, pipe)
            os._exit(0)
        os.close(writing)
        with os.fdopen(reading) as pipe:
            did, answer = json.load(pipe)
        os.waitpid(child, 0)
        self.assertTrue(did, answer)
        return answer

    def answer_to(self, server, request):
        """(exit code, sentence, lines) of an answer to raw octets."""
        with self.door(server) as door:
            try:
                door.sendall(request)
            except OSError:
                pass  # refused before it was read
            answer = b""
            try:
                while piece := door.recv(65536):
                    answer += piece
            except ConnectionResetError:
                pass  # as above, behind the answer
        lines = [json.loads(line) for line in answer.decode().splitlines()]
        end = lines[-1]["end"]
        return [end["exit"], end.get("error", ""), lines[:-1]]

    def test_what_members_may_ask_and_what_not(self):
        server = self.serve()
        name = server.queue()[0]["queue_id"]
        before = server.postrider("queue", "--json")
        self.assertEqual(self.mode(server), 0o666)
        for groups, group in ((GROUP_ID,), None), ((), GROUP_ID):
            for arguments in READS:
                arguments = ["show", name] if arguments == ["queue", "show"] else arguments
                with self.subTest(arguments=arguments, group=group):
                    done = self.ask(server, *arguments, groups=groups, group=group)
                    self.assertEqual((done.returncode, done.stderr), (0, ""))
                    self.assertNotIn(SECRET, done.stdout)
        self.assertIn(TO, self.ask(server, "show", name).stdout)
        self.assertIn(SECRET, server.postrider("show", name))
        self.assertNotIn("header", json.loads(self.ask(server, "show", name, "--json").stdout))
        done = self.ask(server, "show", name, "--body")
        self.assertEqual(done.returncode, NOPERM, done.stdout)
        self.assertIn("do not see the content of mail", done.stderr)
        for arguments in CHANGES:
            with self.subTest(arguments=arguments):
                done = self.ask(server, *arguments)
                self.assertEqual((done.returncode, done.stdout), (NOPERM, ""))
                self.assertIn("change nothing: only root", done.stderr)
        done = self.ask(server, "queue", "export", name, "--folder", "/tmp")
        self.assertEqual(done.returncode, NOPERM, done.stdout)
        self.assertNotIn(SECRET, done.stdout)
        self.assertEqual(re.sub(r'"next_attempt":\d+', "", server.postrider("queue", "--json")),
                         re.sub(r'"next_attempt":\d+', "", before))
        server.wait_for_log("control_refused", uid=str(ANN))

    def test_the_checks_of_monitoring_run_as_a_member(self):
        server = self.serve()
        places = daemon.ROOT / "etc" / "monitoring"
        environment = {**server.environment(), "PATH": f"{daemon.BIN}:{os.environ['PATH']}"}
        for arguments, wanted in ([places / "check_postrider"], "POSTRIDER"), ([places / "munin_postrider"], "deferred.value"):
            done = subprocess.run(["sh", *map(str, arguments)], capture_output=True, text=True, env=environment, cwd="/",
                                  user=BOB, group=BOB, extra_groups=[GROUP_ID], timeout=wait.DEADLINE)
            self.assertIn(wanted, done.stdout, done.stderr)
            self.assertNotIn("CRITICAL", done.stdout)

    def test_others_are_refused_with_a_sentence(self):
        server = self.serve()
        for arguments in READS[:3] + CHANGES[:2]:
            done = self.ask(server, *arguments, uid=LOW, groups=())
            self.assertEqual((done.returncode, done.stdout), (NOPERM, ""))
            self.assertIn("only root, the daemon's user and its group may administrate", done.stderr)
        server.wait_for_log("control_refused", uid=str(LOW))

    def test_a_reload_opens_and_closes_it(self):
        server = self.serve(readers=None)
        self.assertEqual(self.mode(server), 0o660)
        done = self.ask(server, "status")
        self.assertEqual(done.returncode, NOPERM)
        self.assertIn("only root, the daemon's user and its group may administrate", done.stderr)
        server.write_config(control={"readers": GROUP})
        server.postrider("reload")
        wait.until(lambda: self.ask(server, "status").returncode == 0, "readers")
        server.write_config(control={"readers": ""})
        server.postrider("reload")
        wait.until(lambda: self.mode(server) == 0o660, "no readers any more")
        self.assertEqual(self.ask(server, "status").returncode, NOPERM)
        self.assertFalse([line for line in server.log("needs_restart")])

    def test_a_group_that_does_not_exist(self):
        server = self.serve()
        server.write_config(control={"readers": "no-such-group"})
        line = 1 + server.config_file.read_text().splitlines().index('readers = "no-such-group"')
        problem = (f'{server.config_file}:{line}: control.readers: "no-such-group" is not a group of this system; '
                   "expected one that `getent group` shows")
        done = server.tool("postrider", "check", check=False)
        self.assertEqual(done.returncode, 78)
        self.assertIn(problem, done.stderr)
        done = server.tool("postrider", "reload", check=False)
        self.assertEqual(done.returncode, 78)
        self.assertIn(problem, done.stdout + done.stderr)
        self.assertEqual(self.ask(server, "status").returncode, 0)  # as before
        server.restart()  # a group that is gone is no reason to be down
        doubt = server.wait_for_log("doubtful", key="control.readers")[0]
        self.assertIn('"no-such-group" is not a group of this system', doubt["advice"])
        self.assertEqual(self.mode(server), 0o660)
        self.assertNotEqual(self.ask(server, "status").returncode, 0)

    def test_what_a_hostile_member_sends(self):
        server = self.serve()

        def attack():
            requests = [b"{" * 60_000 + b"\n", b"x" * 100_000, b"\0\n", b"{}\n", b"[]\n", b"null\n", b'{"act":1}\n',
                        b'{"act":"list","act":"change","verb":"remove","all":true}\n',
                        b'{"act":"CHANGE","verb":"remove","all":true}\n', b'{"act":"*"}\n', b'{"act":"events","verb":"*"}\n',
                        b'{"act":"change\\u0000","verb":"remove","all":true}\n',
                        b'{"act":"status","verb":"send"}\n'] + [
                json.dumps({"act": act, "verb": verb, "all": True, "body": True, "target": "x"}).encode() + b"\n"
                for act, verb in (("change", "remove"), ("change", "hold"), ("change", ""), ("pause", ""), ("resume", ""),
                                  ("reload", ""), ("export", ""), ("events", "replay"), ("tls_reports", "send"),
                                  ("dmarc_reports", "send"))]
            return [self.answer_to(server, request)[0] for request in requests]
        codes = self.as_reader(attack)
        self.assertNotIn(0, codes)
        self.assertEqual(codes[-10:], [NOPERM] * 10)
        self.assertEqual([message["status"] for message in server.queue()], ["deferred"])
        server.postrider("status")

    def test_a_flood_of_a_member_keeps_nobody_out(self):
        """Listings that are never read, silent connections and as many more as it can: administrators have their
        places and threads, and another member has some, too."""
        server = self.serve(messages=60, recipients=100)

        def flood(uid, stop, ready):
            held = []
            request = json.dumps({"act": "list"}).encode() + b"\n"
            count = 0
            while not stop.is_set():
                try:
                    door = self.door(server)
                    if count % 3:
                        door.sendall(request)
                    door.setblocking(False)
                    held.append(door)
                except OSError:
                    pass
                count += 1
                if len(held) > 200:
                    held.pop(0).close()
                if count > 1000:
                    ready.set()

        def hold():
            stop, ready = threading.Event(), threading.Event()
            threads = [threading.Thread(target=flood, args=(ANN, stop, ready)) for _ in range(2)]
            for thread in threads:
                thread.start()
            ready.wait(wait.DEADLINE)
            os.write(begun, b"x")
            os.read(end, 1)
            stop.set()
            return "done"
        began, begun = os.pipe()
        end, ending = os.pipe()
        thread = threading.Thread(target=lambda: as_member(hold))

        def as_member(work):
            child = os.fork()
            if child == 0:
                become(ANN)
                work()
                os._exit(0)
            os.waitpid(child, 0)
        thread.start()
        try:
            os.read(began, 1)
            for _ in range(5):
                start = time.monotonic()
                self.assertEqual(server.tool("postrider", "status").returncode, 0)
                self.assertEqual(len(server.queue()), 60)
                self.assertEqual(self.ask(server, "status", uid=BOB).returncode, 0)
                with smtp.Client(server.port) as client:
                    client.hello()
                print(f"an administrator's status and list, a member's status, a greeting: {time.monotonic() - start:.2f} s")
            codes = {self.ask(server, "status", uid=ANN).returncode for _ in range(3)}
            self.assertLessEqual(codes, {0, TEMPFAIL})
        finally:
            os.write(ending, b"x")
            thread.join()
        # Its places come back.
        wait.until(lambda: self.ask(server, "status", uid=ANN).returncode == 0, "places for the member itself")

    def test_a_listing_that_is_not_read_ends(self):
        """Four at once for a user; the fifth is sent away and hears why."""
        server = self.serve(messages=60, recipients=100)

        def hold():
            doors = []
            for _ in range(4):
                door = self.door(server)
                door.sendall(b'{"act":"list"}\n')
                door.recv(10)  # it is being served
                doors.append(door)
            fifth = self.answer_to(server, b'{"act":"status"}\n')
            for door in doors:
                door.close()
            return fifth
        code, sentence, lines = self.as_reader(hold)
        self.assertEqual((code, lines), (TEMPFAIL, []))
        self.assertIn("try again", sentence)
        wait.until(lambda: self.ask(server, "status").returncode == 0, "places again")


if __name__ == "__main__":
    scenario.main()
