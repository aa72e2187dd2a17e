#!/usr/bin/python3
"""Mail that ends here: maildir, mbox, LMTP to Dovecot, commands; read by the programs of users."""
import fcntl
import mailbox
import os
import pathlib
import shutil
import subprocess
import threading
import time

from support_py import daemon, readers, scenario, wait
from support_py.tools import processes_with

USER = daemon.USER
BODY = b"From: A <a@ext.example>\r\nSubject: %s\r\n\r\n%s\r\n"


def message(subject, text=b"hello"):
    return BODY % (subject.encode(), text)


class Files(scenario.Scenario):
    def to_mbox(self, **settings):
        folder = self.own_folder("mbox")
        server = self.daemon(local={"mailbox": f"mbox:{folder}/box/{{user}}", **settings})
        return server, folder / "box" / USER

    def send(self, server, content, sender="a@ext.example", user=USER):
        self.assertEqual(server.send(sender, f"{user}@us.example", content).code, 250)

    def test_a_maildir_is_read_by_mutt(self):
        server = self.daemon()
        self.send(server, message("in a maildir", b"first line\r\nFrom here on"))
        server.wait_for_mail()
        shown = readers.mutt(server.folder / "mail" / USER, server.folder)
        self.assertIn("Subject: in a maildir", shown)
        self.assertIn("From here on", shown)
        self.assertIn(f"Delivered-To: {USER}@us.example", server.mailbox()[0].decode())
        self.assertTrue(server.mailbox()[0].startswith(b"Return-Path: <a@ext.example>\n"))

    def test_an_mbox_is_read_by_mail(self):
        server, box = self.to_mbox()
        self.send(server, message("one", b"From the start\r\n>From quoted"))
        self.send(server, message("two", b"second text"), sender="")
        server.wait_until_empty()
        listed = readers.mail(box, "headers\nprint 1\nprint 2\nexit\n")
        self.assertIn("2 messages", listed)
        self.assertIn("Subject: one", listed)
        self.assertIn("second text", listed)
        lines = box.read_bytes().split(b"\n")
        self.assertIn(b">From the start", lines)
        self.assertIn(b">>From quoted", lines)
        self.assertEqual(sum(line.startswith(b"From ") for line in lines), 2)
        self.assertTrue(any(line.startswith(b"From MAILER-DAEMON ") for line in lines))

    def test_an_mbox_waits_for_its_locks_and_breaks_stale_ones(self):
        server, box = self.to_mbox()
        self.send(server, message("first"))
        server.wait_until_empty()
        lock = pathlib.Path(f"{box}.lock")
        lock.write_text("1\n")  # somebody alive
        with open(box, "r+b") as held:
            fcntl.lockf(held, fcntl.LOCK_EX)
            self.send(server, message("second"))
            with self.assertRaises(wait.Timeout):
                wait.until(lambda: b"second" in box.read_bytes(), "nothing", deadline=1)
            fcntl.lockf(held, fcntl.LOCK_UN)
        os.utime(lock, (time.time() - 1000,) * 2)
        server.wait_until_empty()
        self.assertIn(b"Subject: second", box.read_bytes())
        self.assertFalse(lock.exists())

    def test_a_lock_from_before_the_machine_was_started_is_nobodys(self):
        """Its process is gone, though another has the number by now."""
        up = float(pathlib.Path("/proc/uptime").read_text().split()[0])
        since_a_minute = ["unshare", "-T", "--boottime", str(60 - int(up))]
        seen = subprocess.run([*since_a_minute, "cat", "/proc/uptime"], capture_output=True, text=True)
        if seen.returncode != 0 or not 50 < float(seen.stdout.split()[0]) < 90:
            self.skipTest("the machine's start cannot be moved here: needs root and unshare -T")
        server, box = self.to_mbox()
        server.stop()
        server.wrapper = since_a_minute
        server.start()
        box.parent.mkdir(exist_ok=True)
        lock = pathlib.Path(f"{box}.lock")
        lock.write_text("1 mx.us.example\n")  # which lives
        os.utime(lock, (time.time() - 150,) * 2)  # five minutes would do for any lock
        self.send(server, message("behind the lock"))
        server.wait_until_empty()
        self.assertIn(b"Subject: behind the lock", box.read_bytes())
        self.assertFalse(lock.exists())

    def test_a_maildir_quota_is_honoured(self):
        server = self.daemon(delivery={"retry": ["1s"], "lifetime": "1h"})
        self.send(server, message("makes it"))
        server.wait_for_mail()
        size = server.folder / "mail" / USER / "maildirsize"
        size.write_text("2000S\n900 1\n")
        self.send(server, message("fits", b"x" * 300))
        server.wait_for_mail(2)
        total = sum(int(line.split()[0]) for line in size.read_text().splitlines()[1:])
        self.assertGreater(total, 1200)
        self.send(server, message("not now", b"y" * 900))
        deferred = server.wait_for_log("attempted", verdict="deferred", dsn="4.2.2")
        self.assertTrue(deferred)
        self.send(server, message("never", b"z\r\n" * 1500))
        bounced = server.wait_for_log("attempted", verdict="bounced", dsn="5.2.2")
        self.assertTrue(bounced)
        self.assertEqual(len(server.mailbox()), 2)
        size.write_text("0S\n0 0\n")
        server.wait_for_mail(3)

    def test_an_mbox_may_be_limited(self):
        server, box = self.to_mbox(mbox_size="3KiB")
        self.send(server, message("fits", b"x" * 2000))
        server.wait_until_empty()
        self.send(server, message("later", b"y" * 2000))
        self.assertTrue(server.wait_for_log("attempted", verdict="deferred", dsn="4.2.2"))
        self.send(server, message("never", b"z\r\n" * 1500))
        self.assertTrue(server.wait_for_log("attempted", verdict="bounced", dsn="5.2.2"))
        self.assertNotIn(b"Subject: later", box.read_bytes())
        box.write_bytes(b"")
        wait.until(lambda: b"Subject: later" in box.read_bytes(), "the one that was deferred")

    def on_small_disk(self, mailbox):
        """A daemon whose mailboxes lie on a disk of 256 KiB; the place as seen from here."""
        if not scenario.is_root() or not shutil.which("unshare"):
            self.skipTest("needs root: a small disk is mounted for the daemon alone")
        folder = self.own_folder("small")
        disk = folder / "disk"
        disk.mkdir()
        server = daemon.Postrider(
            folder / "d", local={"mailbox": mailbox.format(disk=disk)}, delivery={"retry": ["1h"]},
            wrapper=["unshare", "-m", "sh", "-c",
                     'mount -t tmpfs -o size=256k,mode=0755 tmpfs "$0" && exec "$@"', str(disk)])
        self.using(server)
        server.start()
        return server, pathlib.Path(f"/proc/{server.process.pid}/root{disk}")

    def test_an_mbox_on_a_full_disk_is_cut_back(self):
        server, disk = self.on_small_disk("mbox:{disk}/{{user}}")
        box = disk / USER
        self.send(server, message("first"))
        server.wait_until_empty()
        before = box.read_bytes()
        (disk / "filler").write_bytes(b"x" * 120000)
        self.send(server, message("large", b"y" * 70 + b"\r\n" + b"z" * 180000))
        deferred = server.wait_for_log("attempted", verdict="deferred")[0]
        self.assertIn("No space left on device", deferred["reason"])
        self.assertEqual(box.read_bytes(), before)
        self.assertFalse((disk / f"{USER}.lock").exists())
        self.send(server, message("small"))  # others still fit
        wait.until(lambda: b"Subject: small" in box.read_bytes(), "the small one")
        (disk / "filler").unlink()
        server.retry_all()
        server.wait_until_empty()
        box = mailbox.mbox(box)
        self.assertEqual([one["Subject"] for one in box], ["first", "small", "large"])
        box.close()

    def test_a_maildir_on_a_full_disk_gets_the_message_later_and_whole(self):
        server, disk = self.on_small_disk("maildir:{disk}/{{user}}/")
        self.send(server, message("first"))
        server.wait_until_empty()
        (disk / "filler").write_bytes(b"x" * 120000)
        self.send(server, message("large", b"z" * 180000))
        deferred = server.wait_for_log("attempted", verdict="deferred")[0]
        self.assertIn("No space left on device", deferred["reason"])
        self.assertEqual(len(list((disk / USER / "new").iterdir())), 1)
        self.assertEqual(list((disk / USER / "tmp").iterdir()), [])
        (disk / "filler").unlink()
        server.retry_all()
        server.wait_until_empty()
        self.assertTrue(any(path.read_bytes().endswith(b"z" * 180000 + b"\n")
                            for path in (disk / USER / "new").iterdir()))

    def command(self, script, **settings):
        folder = self.own_folder("command")
        program = folder / "program"
        program.write_text("#!/bin/sh\n" + script.format(folder=folder))
        os.chmod(program, 0o755)
        server = self.daemon(local={"mailbox": f"command:{program} {{user}} x{{extension}} {{domain}}",
                                    **settings})
        return server, folder

    def test_a_command_gets_arguments_a_clean_environment_and_the_message(self):
        server, folder = self.command(
            'cd {folder}; env | sort >env; printf "%s\\n" "$@" >arguments; ls /proc/self/fd >fds; '
            "cat >content; mv content done")
        os.environ["LEAK"] = "secret"
        self.addCleanup(os.environ.pop, "LEAK")
        server.restart()
        self.assertEqual(server.send('"s;id"@ext.example', f"{USER}+$`x`@us.example",
                                     message("to a command")).code, 250)
        server.wait_until_empty()
        self.assertEqual((folder / "arguments").read_text().split("\n")[:3],
                         [USER, "x__x_", "us.example"])
        environment = dict(line.split("=", 1) for line in
                           (folder / "env").read_text().splitlines())
        self.assertEqual(environment["SENDER"], "_s_id_@ext.example")
        self.assertEqual(environment["EXTENSION"], "__x_")
        self.assertEqual(environment["LOGNAME"], USER)
        self.assertNotIn("LEAK", environment)
        self.assertNotIn("POSTRIDER_CONFIG", environment)
        content = (folder / "done").read_bytes()
        self.assertTrue(content.startswith(b'From "s;id"@ext.example '))
        self.assertIn(b"\nSubject: to a command\n", content)
        self.assertNotIn(b"\r", content)

    def test_exit_codes_mean_what_they_mean_to_Postfix(self):
        server, folder = self.command("echo 'why it failed'; exit $(cat {folder}/code)")
        for code, event, status in ((67, "bounced", "5.1.1"), (75, "deferred", "4.3.0"),
                                    (77, "bounced", "5.7.0"), (71, "deferred", "4.3.0"),
                                    (1, "bounced", "5.3.0"), (0, "sent", "2.0.0")):
            (folder / "code").write_text(str(code))
            before = len(server.log("attempted", verdict=event, dsn=status))
            self.send(server, message(f"exit {code}"))
            entry = server.wait_for_log("attempted", count=before + 1, verdict=event, dsn=status)[-1]
            if code:
                self.assertIn("why it failed", str(entry), entry)
                server.postrider("queue", "remove", "--all")

    def test_a_command_that_hangs_or_talks_without_end_is_held_to_its_limits(self):
        server, folder = self.command("yes 2>/dev/null | head -c 3000000; echo 5.9.9 no >&2; exit 1")
        self.send(server, message("long talk"))
        entry = server.wait_for_log("attempted", verdict="bounced", dsn="5.3.0")[0]
        self.assertLess(len(str(entry)), 2000)

    def test_a_command_that_never_ends_is_ended(self):
        server, folder = self.command("{folder}/sleeper & exec {folder}/sleeper", command_time="1s")
        sleeper = folder / "sleeper"
        sleeper.write_text("#!/bin/sh\nwhile :; do sleep 1; done\n")
        sleeper.chmod(0o755)
        server.write_config(delivery={"retry": ["1h"]})
        server.restart()
        self.send(server, message("hangs"))
        entry = server.wait_for_log("attempted", verdict="deferred")[0]
        self.assertIn("took too long and was ended", entry["reason"])
        wait.until(lambda: not processes_with(str(sleeper)), "the end of the command and of its child")

    def test_payloads_in_a_local_part_reach_no_path_and_no_shell(self):
        """I01 I02 I03 I04 I05: from RCPT to the maildir, mbox and command sinks."""
        payloads = ["../../x", "..", ".", "%2e%2e", "a/b", "a\\\\b", "con", "n" * 64, "-Cx", "--help",
                    "-", ";id;", "`id`", "$(id)", "|id", "a&b", "${run{x}}", "{{7*7}}", "%s%n",
                    "{}", "{0}", "{:>9}", "x'/**/UNION/**/SELECT", "a\\\"b"]
        for pattern in ("maildir:{folder}/root/{{local}}/", "mbox:{folder}/root/{{local}}",
                        "maildir:{folder}/root/x{{extension}}-{{user}}"):
            folder = self.own_folder("payload")
            (folder / "root").mkdir()
            before = set(os.listdir(folder))
            server = self.daemon(local={"mailbox": pattern.format(folder=folder)})
            for payload in payloads:
                with server.client() as client:
                    client.hello()
                    client.expect("MAIL FROM:<a@ext.example>", 250)
                    for address in (f'"{payload}"@us.example', f'"{USER}+{payload}"@us.example'):
                        reply = client.command(f"RCPT TO:<{address}>")
                        self.assertIn(reply.code, (250, 501, 550, 553), (address, reply))
                    if client.command("DATA").code == 354:
                        client.send(message("payload") + b".\r\n")
                        client.reply()
            server.wait_until_empty()
            self.assertEqual(set(os.listdir(folder)), before, "something left the root")
            for path in (folder / "root").rglob("*"):
                self.assertTrue(path.is_relative_to(folder / "root"), path)
                self.assertNotIn(path.name[0], "-.", path)
            server.stop()


class Crowd(scenario.Scenario):
    """Line 2 of what must be shown: two hundred deliveries at one time and a reader that locks."""
    COUNT = 200

    def deliver(self, server, reader):
        texts = {number: f"{number}-" + "x" * (number * 37 % 4000) for number in range(self.COUNT)}
        stop = threading.Event()
        problems = []

        def read():
            while not stop.is_set():
                try:
                    reader()
                except Exception as problem:
                    problems.append(problem)
                time.sleep(0.01)

        thread = threading.Thread(target=read)
        thread.start()
        try:
            refused = scenario.parallel(lambda number: self.assertEqual(server.send(
                f"s{number}@ext.example", f"{USER}@us.example",
                message(f"n{number}", texts[number].encode())).code, 250),
                range(self.COUNT), threads=self.COUNT)
            self.assertEqual(refused, [])
            server.wait_until_empty(120)
        finally:
            stop.set()
            thread.join()
        self.assertEqual(problems, [])
        return texts

    def check(self, messages, texts):
        found = {}
        for one in messages:
            found.setdefault(one["Subject"], []).append(one.get_payload().strip())
        self.assertEqual(len(messages), self.COUNT)
        for number, text in texts.items():
            self.assertEqual(found.get(f"n{number}"), [text], f"message {number}")

    def test_one_mbox(self):
        folder = self.own_folder("mbox")
        server = self.daemon(local={"mailbox": f"mbox:{folder}/box/{{user}}", "deliveries": 200},
                             accept={"sessions_per_client": 300})
        path = folder / "box" / USER
        seen = []

        def reader():  # as mail and mutt do: fcntl, then the dot-lock
            if not path.exists():
                return
            with open(path, "r+b") as file:
                fcntl.lockf(file, fcntl.LOCK_EX)
                lock = f"{path}.lock"
                while True:
                    try:
                        os.close(os.open(lock, os.O_CREAT | os.O_EXCL))
                        break
                    except FileExistsError:
                        time.sleep(0.001)
                try:
                    content = file.read()
                    self.assertTrue(content == b"" or content.endswith(b"\n\n"), "half a message")
                    seen.append(content.count(b"\nSubject: n"))
                finally:
                    os.unlink(lock)
        texts = self.deliver(server, reader)
        self.check(list(mailbox.mbox(path)), texts)
        self.assertGreater(len(seen), 3)

    def test_one_maildir(self):
        server = self.daemon(local={"deliveries": 200}, accept={"sessions_per_client": 300})
        folder = server.folder / "mail" / USER

        def reader():  # as a mail program does: moves what is new to cur
            for path in list((folder / "new").glob("*")):
                self.assertIn(b"\nSubject: n", path.read_bytes())
                path.rename(folder / "cur" / f"{path.name}:2,S")
        texts = self.deliver(server, reader)
        self.check(list(mailbox.Maildir(folder)), texts)


class Lmtp(scenario.Scenario):
    """Line 1: Dovecot receives by LMTP and serves the same message over IMAP."""

    def setUp(self):
        super().setUp()
        if not scenario.is_root():
            self.skipTest("Dovecot needs root")
        at = self.folder
        while at != pathlib.Path("/"):
            os.chmod(at, os.stat(at).st_mode | 0o001)
            at = at.parent
        self.dovecot = self.using(readers.Dovecot(self.own_folder("dovecot"), 65534, 65534))

    def through(self, next_hop, **settings):
        server = self.daemon(**(settings or {"local": {"mailbox": f"lmtp:{next_hop}"}}))
        content = message("by LMTP", b".dots\r\n..and more\r\nend")
        with server.client() as client:
            client.hello()
            client.begin("a@ext.example", [f"{USER}@us.example", "daemon@us.example"])
            client.expect("DATA", 354)
            client.send(content.replace(b"\r\n.", b"\r\n..") + b".\r\n")
            self.assertEqual(client.reply().code, 250)
        server.wait_until_empty()
        for user in (USER, "daemon"):
            got = self.dovecot.messages(user)
            self.assertEqual(len(got), 1, self.dovecot.report())
            self.assertTrue(got[0].endswith(content.split(b"\r\n\r\n", 1)[1]), got[0])
            self.assertIn(b"Subject: by LMTP", got[0])
            self.assertIn(b"Return-Path: <a@ext.example>", got[0])
        return server

    def test_each_recipient_has_a_result_of_its_own(self):
        """After the end of data: Dovecot cannot write to one of the mailboxes (RFC 2033 4.2)."""
        broken = self.dovecot.folder / "mail" / "daemon"
        broken.mkdir()
        os.chmod(broken, 0o700)
        server = self.daemon(local={"mailbox": f"lmtp:unix:{self.dovecot.socket}"},
                             delivery={"retry": ["1h"]})
        with server.client() as client:
            client.hello()
            client.begin("a@ext.example", [f"{USER}@us.example", "daemon@us.example"])
            client.expect("DATA", 354)
            client.send(message("two results") + b".\r\n")
            self.assertEqual(client.reply().code, 250)
        failed = server.wait_for_log("attempted", verdict="deferred")[0]
        self.assertEqual(failed["to"], "daemon@us.example")
        self.assertTrue(server.wait_for_log("attempted", verdict="sent", to=f"{USER}@us.example"))
        left, = server.queue()
        self.assertEqual([one["address"] for one in left["recipients"]], ["daemon@us.example"])
        os.chown(broken, 65534, 65534)
        server.retry_all()
        server.wait_until_empty()
        for user in (USER, "daemon"):
            self.assertEqual(len(self.dovecot.messages(user)), 1, user)

    def test_over_a_unix_socket_and_read_over_IMAP(self):
        self.through(f"unix:{self.dovecot.socket}")

    def test_over_TCP_and_read_over_IMAP(self):
        self.through(f"127.0.0.1:{self.dovecot.lmtp}")

    def test_by_a_route(self):
        self.through("", local={"domains": []}, accept={"relay_to": ["us.example"]},
                     route=[{"domain": "us.example", "next_hop": f"lmtp://{self.dovecot.socket}"}])


if __name__ == "__main__":
    scenario.main()
