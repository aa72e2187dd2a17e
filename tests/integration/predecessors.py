#!/usr/bin/python3
"""The queues of a real Postfix and a real Exim are taken over: who has not had it, what was asked for them,
and the content octet for octet, as postcat and exim themselves show it."""
import base64
import json
import os
import pathlib
import re
import shutil
import smtplib
import socket
import subprocess
import unittest

from support_py import milter, remote_exim, remote_postfix, scenario, tools, wait

LONG = b"x" * 5000
CONTENT = (b"Subject: first\r\nX-Long: " + b"y" * 900 + b"\r\n\r\n8 bits: \xe5\xe4\xf6\r\n..two dots\r\n" + LONG +
           b"\r\n\r\nlast\r\n")


def talk(client, *commands):
    """Each must be taken; the last is the content."""
    *lines, content = commands
    for line in lines:
        code, text = client.docmd(line)
        assert code == 250, (line, code, text)
    assert client.docmd("DATA")[0] == 354
    client.send(b"\r\n".join(b"." + line if line.startswith(b".") else line for line in content.split(b"\r\n")) +
                b".\r\n")
    code, text = client.getreply()
    assert code == 250, text
    return text.decode()


def stored(server, message):
    """Envelope and content of a message in our queue."""
    shown = json.loads(server.postrider("queue", "show", message, "--body", "--json"))
    content = shown.get("content")
    return shown, content.encode() if content is not None else base64.b64decode(shown["content_base64"])


def with_crlf(text):
    return text.replace(b"\n", b"\r\n")


def files_below(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@unittest.skipUnless(scenario.is_root(), "another mail server needs root, and so has whoever takes its queue over")
class Predecessor(scenario.Scenario):
    def setUp(self):
        super().setUp()
        self.peer = self.sink()
        self.server = self.relay(self.peer)
        self.server.stop()  # there is a queue now

    def take(self, *arguments, check=True):
        """By the old file's name below its queue: what became of it."""
        done = self.server.tool("postrider", "queue", "import", self.whose, *arguments, "--json", check=check)
        found = {}
        for line in done.stdout.splitlines():
            one = json.loads(line)
            found[one["file"].rpartition("/")[2]] = one
        return done, found

    def killed_at(self, move):
        """A run that is ended as it is about to put the n-th file aside."""
        if scenario.SANITIZED:
            self.skipTest("LeakSanitizer does not run under strace; the release build is traced")
        try:
            strace = tools.tool("strace")
            subprocess.run([strace, "-o", "/dev/null", "true"], check=True, stdin=subprocess.DEVNULL,
                           capture_output=True)
        except (OSError, subprocess.CalledProcessError) as problem:
            self.skipTest(f"strace cannot trace here: {problem}")
        done = subprocess.run(
            [strace, "-f", "-o", "/dev/null", "-e", "trace=renameat2", "-e",
             f"inject=renameat2:signal=SIGKILL:when={move}", str(pathlib.Path(os.environ["POSTRIDER_BIN"]) / "postrider"),
             "queue", "import", self.whose, str(self.old)],
            env=self.server.environment(), stdin=subprocess.DEVNULL, capture_output=True, timeout=wait.DEADLINE)
        self.assertNotEqual(done.returncode, 0)


class FromPostfix(Predecessor):
    whose = "postfix"

    def setUp(self):
        super().setUp()
        if shutil.which("postcat", path=os.environ.get("PATH", "") + ":/usr/sbin") is None:
            self.skipTest("Postfix is not installed")

    def postfix(self, transport_maps=None, **main):
        folder = self.own_folder("postfix")
        dead = wait.free_port()
        self.old = folder / "queue"
        self.conf = folder
        return remote_postfix.Postfix(
            folder, {"127.0.0.1": {}}, authorized_submit_users="static:all", disable_dns_lookups="yes",
            transport_maps=transport_maps or
            f"inline:{{done.example=discard:,later.example=smtp:[127.0.0.1]:{dead}}}", smtputf8_enable="yes", **main)

    def filled(self):
        """One of four recipients has had the first; the second is held; sendmail left two when all was down."""
        server = self.postfix()
        try:
            with smtplib.SMTP("127.0.0.1", server.port, local_hostname="client.example") as client:
                client.ehlo()
                first = talk(client, "MAIL FROM:<ann@us.example> BODY=8BITMIME RET=HDRS ENVID=QQ+2B314",
                             "RCPT TO:<bob@done.example> NOTIFY=SUCCESS ORCPT=rfc822;bob+2Bx@old.example",
                             "RCPT TO:<eve@later.example> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;eve+2Bx@old.example",
                             'RCPT TO:<"a b"@later.example> NOTIFY=NEVER',
                             "RCPT TO:<plain@later.example>", CONTENT).split()[-1]
                held = talk(client, "MAIL FROM:<> SMTPUTF8", "RCPT TO:<x@later.example>",
                            b"Subject: second\r\n\r\nhello\r\n").split()[-1]
            for one in (first, held):
                wait.until(lambda one=one: server.logged(one, "status=deferred"), f"{one} deferred")
            wait.until(lambda: server.logged(first, "to=<bob@done.example>", "status=sent"), "bob's copy")
            subprocess.run([tools.tool("postsuper"), "-c", str(self.conf), "-h", held], check=True, capture_output=True)
        finally:
            server.stop()
        # Until the last of its processes has ended.
        wait.until(lambda: not tools.processes_with(str(self.conf)), "the end of Postfix")
        for arguments, content in ((["-f", "root", "-F", "Full Name", "-V", "env+id", "carl", "z@later.example"],
                                    b"Subject: third\n\nbody\n"),
                                   (["-t"], b"Subject: fourth\nTo: d@later.example\nBcc: s@later.example\n\nno end")):
            subprocess.run([tools.tool("sendmail.postfix" if shutil.which("sendmail.postfix") else "sendmail"), "-C",
                            str(self.conf), *arguments], input=content, check=True, capture_output=True,
                           env={**os.environ, "MAIL_CONFIG": str(self.conf)})
        return first, held

    def postcat(self, path, *what):
        return subprocess.run([tools.tool("postcat"), "-c", str(self.conf), *what, str(path)], check=True,
                              stdout=subprocess.PIPE).stdout

    def test_all_that_waited_is_taken_as_postcat_shows_it(self):
        first, held = self.filled()
        # Stopped in the middle of an attempt, Postfix leaves it among the active ones.
        path, = [*self.old.glob(f"deferred/**/{first}"), *self.old.glob(f"active/{first}")]
        content = with_crlf(self.postcat(path, "-bh"))
        arrival = int(path.stat().st_mtime)
        before = files_below(self.old)
        # A dry run changes nothing, and takes nothing.
        _, found = self.take("--dry-run", self.old)
        self.assertEqual([found[one]["end"] for one in (first, held)], ["taken", "taken"])
        self.assertEqual(files_below(self.old), before)
        self.assertEqual(self.server.queued(), 0)

        _, found = self.take(self.old)
        self.assertEqual({one["end"] for one in found.values()}, {"taken"})
        self.assertEqual(len(found), 4)
        shown, ours = stored(self.server, found[first]["ids"][0])
        self.assertEqual(ours, content)
        self.assertIn(LONG, ours)
        self.assertIn(b"X-Long: " + b"y" * 900 + b"\r\n", ours)
        self.assertEqual((found[first]["done"], found[first]["recipients"]), (1, 3))
        envelope = shown["envelope"]
        self.assertEqual(shown["envelope_sender"], "ann@us.example")
        self.assertEqual({key: envelope.get(key) for key in ("ret", "envelope_id")},
                         {"ret": "HDRS", "envelope_id": "QQ+2B314"})
        self.assertIn("8BITMIME", envelope["body"])
        self.assertLessEqual(abs(found[first]["received"] - arrival), 3600)
        for message in self.server.queue():
            self.assertEqual(message["status"] == "held", message["queue_id"] == found[held]["ids"][0], message)
        # What sendmail had left is complete, and tells nobody of the secret one.
        dropped = [one for one in found.values() if one["file"].startswith("maildrop/")]
        names = {re.search(rb"Subject: (\w+)", stored(self.server, one["ids"][0])[1])[1]: one for one in dropped}
        third = self.server.postrider("queue", "show", names[b"third"]["ids"][0], "--body")
        self.assertIn("From: Full Name <root@", third)
        self.assertIn("env+2Bid", third)
        fourth = names[b"fourth"]
        self.assertEqual(sorted(fourth["to"]), ["d@later.example", "s@later.example"])
        self.assertNotIn(b"Bcc", stored(self.server, fourth["ids"][0])[1])
        # They lie aside now, and a second run has nothing to do.
        self.assertEqual([one for one in files_below(self.old) if one.startswith(("deferred", "hold", "maildrop"))], [])
        self.assertEqual(len(files_below(self.old / "taken-over")), 4)
        self.assertEqual(self.take(self.old)[1], {})

        # And it goes out, with what was asked for each.
        self.server.start()
        self.server.postrider("queue", "release", "--all")
        self.peer.wait_for(4)
        self.server.wait_until_empty()
        sent = next(one for one in self.peer.messages if b"Subject: first" in one.content)
        self.assertTrue(sent.content.endswith(content))
        self.assertIn("ENVID=QQ+2B314", sent.parameters)
        self.assertIn("RET=HDRS", sent.parameters)
        asked = {address: parameters for address, parameters in sent.recipients}
        self.assertEqual(sorted(asked), ['"a b"@later.example', "eve@later.example", "plain@later.example"])
        self.assertIn("ORCPT=rfc822;eve+2Bx@old.example", asked["eve@later.example"])
        self.assertIn("NOTIFY=SUCCESS,DELAY", asked["eve@later.example"])
        self.assertIn("NOTIFY=NEVER", asked['"a b"@later.example'])

    def test_what_a_filter_changed_is_read_as_postcat_reads_it(self):
        path = self.own_folder("milter") / "socket"
        changes = milter.frame(b"+", b"<added@later.example>\0") + milter.insert(1, "X-First", "1") + \
            milter.add("X-Last", "2") + milter.change(1, "Subject", "changed") + \
            milter.body(b"another body\r\n" * 300) + milter.frame(milter.GO_ON)
        self.using(milter.Scripted(path, {"E": changes}))
        for folder in (path.parent, *path.parent.parents):
            if folder != pathlib.Path("/") and not folder.stat().st_mode & 0o001:
                folder.chmod(folder.stat().st_mode | 0o011)
        path.chmod(0o777)
        server = self.postfix(smtpd_milters=f"unix:{path}", milter_protocol="6")
        try:
            with smtplib.SMTP("127.0.0.1", server.port) as client:
                client.ehlo()
                one = talk(client, "MAIL FROM:<ann@us.example>", "RCPT TO:<eve@later.example>", CONTENT).split()[-1]
            wait.until(lambda: len(server.logged(one, "status=deferred")) >= 2, "both deferred")
        finally:
            server.stop()
        wait.until(lambda: not tools.processes_with(str(self.conf)), "the end of Postfix")
        path, = self.old.glob(f"deferred/**/{one}")
        self.assertIn(b"pointer_record", self.postcat(path, "-v"))
        content = with_crlf(self.postcat(path, "-bh"))
        _, found = self.take(self.old)
        self.assertEqual(sorted(found[one]["to"]), ["added@later.example", "eve@later.example"])
        ours = stored(self.server, found[one]["ids"][0])[1]
        self.assertEqual(ours, content)
        self.assertIn(b"another body\r\n" * 300, ours)

    def test_who_failed_fails_here_if_the_sender_was_not_told(self):
        silent = socket.create_server(("127.0.0.1", 0))  # greets nobody
        self.addCleanup(silent.close)
        server = self.postfix(smtpd_reject_unlisted_recipient="no",
                              transport_maps="inline:{fail.example=error:unknown,done.example=discard:,"
                                             f"slow.example=smtp:[127.0.0.1]:{silent.getsockname()[1]}}}")
        try:
            with smtplib.SMTP("127.0.0.1", server.port) as client:
                client.ehlo()
                one = talk(client, "MAIL FROM:<ann@us.example>", "RCPT TO:<a@fail.example> NOTIFY=FAILURE",
                           "RCPT TO:<b@slow.example>", "RCPT TO:<c@done.example>", CONTENT).split()[-1]
            for status in ("status=bounced", "status=sent"):
                wait.until(lambda status=status: server.logged(one, status), status)
            # As a power cut, while the third is under way: nobody has been told of the first.
            subprocess.run([tools.tool("postfix"), "-c", str(self.conf), "abort"], check=True, capture_output=True)
            server.process.wait(wait.DEADLINE)
        finally:
            server.stop()
        wait.until(lambda: not tools.processes_with(str(self.conf)), "the end of Postfix")
        self.assertTrue((self.old / "bounce" / one).exists())
        _, found = self.take(self.old)
        self.assertEqual(sorted(found[one]["to"]), ["a@fail.example", "b@slow.example"])
        self.assertEqual(found[one]["done"], 1)

    def test_a_run_that_was_killed_takes_none_twice(self):
        self.filled()
        self.killed_at(2)
        _, found = self.take(self.old)
        self.assertEqual(sorted(one["end"] for one in found.values()), ["known", "taken", "taken"])
        self.assertEqual(self.server.queued(), 4)
        self.assertEqual(len(files_below(self.old / "taken-over")), 4)

    def test_files_that_are_kept_are_known_even_when_their_mail_is_gone(self):
        self.filled()
        before = files_below(self.old)
        self.assertEqual({one["end"] for one in self.take("--keep", self.old)[1].values()}, {"taken"})
        self.assertEqual(files_below(self.old), before)
        self.server.start()
        self.server.postrider("queue", "release", "--all")
        self.peer.wait_for(4)
        self.server.wait_until_empty()
        self.server.restart()
        self.server.stop()
        self.assertEqual({one["end"] for one in self.take("--keep", self.old)[1].values()}, {"known"})
        self.assertEqual(self.server.queued(), 0)

    def test_one_that_runs_is_refused_and_so_is_ours(self):
        server = self.postfix()
        try:
            with smtplib.SMTP("127.0.0.1", server.port) as client:
                client.ehlo()
                talk(client, "MAIL FROM:<ann@us.example>", "RCPT TO:<eve@later.example>", CONTENT)
            wait.until(lambda: server.logged("status=deferred"), "deferred")
            done, _ = self.take(self.old, check=False)
            self.assertEqual(done.returncode, 69)
            self.assertIn("Postfix runs (process ", done.stderr)
            self.assertIn("systemctl disable --now postfix", done.stderr)
            self.assertEqual(self.take(self.old, "--dry-run")[0].returncode, 0)
        finally:
            server.stop()
        wait.until(lambda: not tools.processes_with(str(self.conf)), "the end of Postfix")
        self.server.start()
        done, _ = self.take(self.old, check=False)
        self.assertEqual(done.returncode, 69)
        self.assertIn("systemctl stop postrider", done.stderr)
        self.assertEqual(self.server.queued(), 0)
        self.server.stop()
        self.assertEqual([one["end"] for one in self.take(self.old)[1].values()], ["taken"])

    def test_what_is_damaged_stays_and_the_others_go_on(self):
        first, held = self.filled()
        # Stopped in the middle of an attempt, Postfix leaves it among the active ones.
        path, = [*self.old.glob(f"deferred/**/{first}"), *self.old.glob(f"active/{first}")]
        path.write_bytes(path.read_bytes()[:5000])
        os.symlink("/etc/passwd", self.old / "deferred" / "5AAAAAA")
        os.mkfifo(self.old / "hold" / "5BBBBBB", 0o700)
        done, found = self.take(self.old, check=False)
        self.assertEqual(done.returncode, 65)
        self.assertEqual({name: found[name]["reason"] for name in (first, "5AAAAAA", "5BBBBBB")},
                         {first: "it is cut off", "5AAAAAA": "it is a link, which is not followed",
                          "5BBBBBB": "it is not a file"})
        self.assertEqual(found[held]["end"], "taken")
        self.assertTrue(path.exists())
        self.assertEqual(self.server.queued(), 3)
        for arguments, code in (([self.own_folder("empty")], 66), (["/nonexistent"], 66), ([], 64)):
            self.assertEqual(self.take(*arguments, check=False)[0].returncode, code)

    def test_only_root_takes_it_over(self):
        self.filled()
        program = pathlib.Path(os.environ["POSTRIDER_BIN"]) / "postrider"
        for path in (program, *program.parents):
            if not path.stat().st_mode & 0o001:
                self.skipTest(f"others may not pass through {path}")
        done = subprocess.run(["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", program, "queue",
                               "import", "postfix", self.old], env={"PATH": os.environ["PATH"]},
                              capture_output=True, text=True, check=False)
        self.assertEqual(done.returncode, 77, done)
        self.assertIn("only root", done.stderr)


class FromExim(Predecessor):
    whose = "exim"

    def filled(self):
        """One of four recipients has had the first, and one of two behind another; the second is frozen."""
        server = remote_exim.Spooling(self.own_folder("exim"))
        self.old = server.spool
        try:
            with smtplib.SMTP("127.0.0.1", server.port, local_hostname="client.example") as client:
                client.ehlo()
                first = talk(client, "MAIL FROM:<ann@rewritten.example> BODY=8BITMIME RET=HDRS ENVID=QQ+2B314",
                             "RCPT TO:<Bob@DONE.example> NOTIFY=SUCCESS ORCPT=rfc822;bob+2Bx@old.example",
                             "RCPT TO:<eve@later.example> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;eve+2Bx@old.example",
                             'RCPT TO:<"a b"@later.example> NOTIFY=NEVER', "RCPT TO:<all@list.example>",
                             b"From: ann@rewritten.example\r\n" + CONTENT).rpartition("=")[2]
                second = talk(client, "MAIL FROM:<> SMTPUTF8", "RCPT TO:<x@later.example>",
                              b"Subject: second\r\n\r\nhello\r\n").rpartition("=")[2]
            server.exim("-q")
            server.exim("-Mf", second)
            running, _ = self.take(self.old, check=False)
            self.assertEqual(running.returncode, 69)
            self.assertIn("Exim runs; stop it", running.stderr)
        finally:
            server.stop()
        return server, first, second

    def test_all_that_waited_is_taken_as_exim_shows_it(self):
        server, first, second = self.filled()
        content = with_crlf(server.exim("-Mvc", first))
        body = with_crlf(server.exim("-Mvb", first).partition(b"\n")[2])
        self.assertIn(b"* From: ann@rewritten.example", server.exim("-Mvh", first))
        self.assertEqual(self.take("--dry-run", self.old)[1][second]["end"], "taken")
        done, found = self.take(self.old)
        self.assertEqual({one["end"] for one in found.values()}, {"taken"})
        shown, ours = stored(self.server, found[first]["ids"][0])
        self.assertEqual(ours, content)
        self.assertTrue(ours.endswith(b"\r\n\r\n" + body))
        self.assertIn(LONG, ours)
        self.assertNotIn(b"ann@rewritten.example", ours)
        self.assertEqual((found[first]["done"], found[first]["recipients"]), (1, 3))
        self.assertEqual(found[first]["had_it"], ["c1@done.example"])
        self.assertEqual(shown["envelope_sender"], "new@later.example")
        self.assertEqual({key: shown["envelope"].get(key) for key in ("ret", "envelope_id")},
                         {"ret": "HDRS", "envelope_id": "QQ+2B314"})
        for message in self.server.queue():
            self.assertEqual(message["status"] == "held", message["queue_id"] == found[second]["ids"][0], message)
        self.assertEqual(files_below(self.old / "input"), [])
        self.assertEqual(len(files_below(self.old / "taken-over")), 4)
        self.server.start()
        self.server.postrider("queue", "release", "--all")
        self.peer.wait_for(2)
        self.server.wait_until_empty()
        sent = next(one for one in self.peer.messages if b"Subject: first" in one.content)
        self.assertTrue(sent.content.endswith(content))
        self.assertIn("ENVID=QQ+2B314", sent.parameters)
        asked = {address: parameters for address, parameters in sent.recipients}
        self.assertEqual(sorted(asked), ['"a b"@later.example', "all@list.example", "eve@later.example"])
        self.assertIn("ORCPT=rfc822;eve+2Bx@old.example", asked["eve@later.example"])
        self.assertIn("NOTIFY=SUCCESS,DELAY", asked["eve@later.example"])
        self.assertIn("NOTIFY=NEVER", asked['"a b"@later.example'])

    def test_a_run_that_was_killed_takes_none_twice(self):
        self.filled()
        self.killed_at(3)  # the header of the first is aside, its body is not
        _, found = self.take(self.old)
        self.assertEqual([one["end"] for one in found.values()], ["taken"])
        self.assertEqual(self.server.queued(), 2)
        self.assertEqual(files_below(self.old / "input"), [])
        self.assertEqual(len(files_below(self.old / "taken-over")), 4)

    def test_what_is_damaged_stays_and_the_others_go_on(self):
        _, first, second = self.filled()
        header, = self.old.glob(f"input/*/{first}-H")
        header.write_bytes(header.read_bytes()[:700])
        (header.parent / "1xXyPG-0001JK-zz-H").symlink_to("/etc/passwd")
        done, found = self.take(self.old, check=False)
        self.assertEqual(done.returncode, 65)
        self.assertEqual(found[first]["end"], "refused")
        self.assertEqual(found["1xXyPG-0001JK-zz"]["reason"], "it is a link, which is not followed")
        self.assertEqual(found[second]["end"], "taken")
        self.assertTrue(header.exists())
        self.assertEqual(self.server.queued(), 1)


if __name__ == "__main__":
    scenario.main()
