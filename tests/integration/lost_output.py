#!/usr/bin/python3
"""Standard output that takes no more: on a full disk, with a reader that went away, closed from the start.
Whatever prints says so on standard error and ends with 74; of a reader that left nothing is said. The
commands are those that the program's own help names: one that is added has to be added here."""
import os
import re
import subprocess

from support_py import daemon, scenario, wait

IOERR = 74
LOST = r"^(postrider|sendmail|mailq|newaliases): write to standard output: {}; what it shows is not complete$"
# Verbs that print nothing but their help, or not here: doctor asks strangers, the others have nothing to tell.
SILENT = ("run", "top", "doctor", "tlsrpt", "dmarc-reports", "events", "events replay", "dkim", "dkim check")


class Output(scenario.Scenario):
    def run_into(self, server, output, words, stdin=b"", program="postrider"):
        def closed():
            os.close(1)
        return subprocess.run([str(daemon.BIN / program), *map(str, words)], input=stdin, stdout=output,
                              stderr=subprocess.PIPE, env=server.environment(), timeout=wait.DEADLINE,
                              preexec_fn=closed if output is None else None)

    def lost(self, server, words, stdin=b"", program="postrider", code=IOERR):
        with self.subTest(program=program, words=words), open("/dev/full", "wb") as full:
            done = self.run_into(server, full, words, stdin, program)
            lines = done.stderr.decode().splitlines()
            self.assertEqual(done.returncode, code, lines)
            self.assertTrue(lines and re.match(LOST.format("No space left on device"), lines[-1]), lines)

    def verbs(self, server, above=()):
        """Of the help: "  verb [TEXT]..." behind a heading."""
        text = server.postrider(*above, "--help")
        found = []
        for verb in re.findall(r"^  ([a-z][a-z-]*)(?:,[a-z, ]+)? +[A-Z]", text, re.M):
            words = (*above, verb)
            found.append(words)
            if len(words) < 3:
                found += self.verbs(server, words)
        return found

    def start(self):
        server = self.daemon(route=[{"domain": "*", "next_hop": f"smtp://127.0.0.1:{wait.free_port()}"}],
                             delivery={"retry": ["1h"]})
        for name in ("ann", "bob"):
            server.send("a@us.example", [f"{name}@one.example"], b"Subject: one\r\n\r\nx\r\n")
        wait.until(lambda: len(server.queue("--status", "deferred")) == 2, "two wait")
        return server


class LostOutput(Output):
    def test_every_command(self):
        server = self.start()
        one, other = sorted(message["queue_id"] for message in server.queue())
        users = server.folder / "users"
        users.touch(mode=0o600)
        folder = server.folder / "exported"
        folder.mkdir()
        server.postrider("queue", "export", "--folder", folder, one)
        keys = server.folder / "keys"
        # In this order: the last ones end the mail that the others look at.
        calls = {
            "check": (), "reload": (), "config": (), "status": (), "sites": (),
            "queue": (), "queue list": (), "queue count": (), "queue show": (one,), "queue summary": (),
            "queue pause": ("two.example",), "queue resume": ("two.example",),
            "queue hold": (one,), "queue release": (one,), "queue retry": (one,),
            "queue reroute": (one, "--to", "127.0.0.1:1", "--dry-run"),
            "queue export": (other, "--folder", folder),
            "show": (one,), "explain": (one,), "trace": (one,), "completion": (),
            "passwd": ("ann", "--file", users),
            "dkim new": ("us.example", "--selector", "one", "--folder", keys),
            "dkim record": ("us.example", "--folder", keys),
            "queue expire": (one, "--dry-run"), "queue bounce": (one, "--dry-run"),
            "queue remove": (one,),
            "queue import": (folder / f"{one}.eml",), "queue salvage": ()}  # while the daemon is down
        silent = SILENT
        if scenario.is_root():
            for queue, inside in (("postfix", "deferred"), ("exim", "input")):
                (server.folder / queue / inside).mkdir(parents=True)
                calls[f"queue import {queue}"] = (server.folder / queue,)
        else:
            silent += ("queue import postfix", "queue import exim")
        found = {" ".join(words) for words in self.verbs(server)}
        self.assertEqual(found, {*calls, *silent})
        for words in ("--help", "--version", "help", "version"):
            self.lost(server, [words])
        for verb in found:
            self.lost(server, [*verb.split(), "--help"])
        for verb, more in calls.items():
            if verb == "queue import":
                server.stop()
            self.lost(server, [*verb.split(), *more], stdin=b"secret\n")
        self.lost(server, ["queue"])  # which has nothing to show, and is down

    def test_the_other_programs(self):
        server = self.start()
        for program in ("mailq", "newaliases", "sendmail"):
            for option in ("--help", "--version"):
                self.lost(server, [option], program=program)
        for words in ((), ("--json",)):
            self.lost(server, words, program="mailq")
        for words in (("-bp",), ("-bv", "root"), ("-bi",), ("-bs",)):
            self.lost(server, words, program="sendmail", stdin=b"QUIT\r\n")
        self.lost(server, (), program="newaliases")
        # Who hears of a failure sends again: mail in custody is none.
        self.lost(server, ["-v", "c@one.example"], program="sendmail", stdin=b"Subject: x\n\nx\n", code=0)
        wait.until(lambda: len(server.queue("one.example")) == 3, "the third is there")

    def test_a_reader_that_went_away_and_no_output_at_all(self):
        server = self.start()
        for program, words in (("postrider", ["queue"]), ("postrider", ["queue", "--json"]),
                               ("postrider", ["config"]), ("postrider", ["--help"]), ("mailq", [])):
            with self.subTest(program=program, words=words):
                reading, writing = os.pipe()
                os.close(reading)
                with open(writing, "wb") as pipe:
                    done = self.run_into(server, pipe, words, program=program)
                self.assertEqual((done.returncode, done.stderr), (IOERR, b""))
                done = self.run_into(server, None, words, program=program)
                self.assertEqual(done.returncode, IOERR)
                self.assertRegex(done.stderr.decode(), LOST.format("Bad file descriptor"))


class OtherPrograms(Output):
    """Those that are no part of the one program: nothing that they open is taken for a closed stream."""

    def test_help_and_version(self):
        server = self.daemon(start=False)
        for name in ("postrider-web", "postrider-amqp", "postrider-mqtt"):
            if (daemon.BIN / name).exists():
                for option in "--help", "--version":
                    with self.subTest(name=name, option=option), open("/dev/full", "wb") as full:
                        done = self.run_into(server, full, [option], program=name)
                        self.assertEqual(done.returncode, IOERR, done.stderr)
                        self.assertRegex(done.stderr.decode(), LOST.format("No space left on device").replace(
                            "(postrider|", f"({name}|"))

    def test_a_token_that_cannot_be_shown(self):
        """A token is shown once: where it cannot be, that is said, and the file of tokens is not what gets it."""
        server = self.daemon(start=False)
        tokens = server.folder / "tokens"
        server.write_config(web={"tokens": str(tokens), "user": ""})
        for output in "full", "closed":
            with self.subTest(output=output), open("/dev/full", "wb") as full:
                tokens.unlink(missing_ok=True)
                done = self.run_into(server, full if output == "full" else None, ["token", "read", "ann"],
                                     program="postrider-web")
                self.assertEqual(done.returncode, IOERR, done.stderr)
                self.assertIn(f"the last line of {tokens}; take it out", done.stderr.decode())
                self.assertEqual(tokens.read_text().count("\n"), 1)
                self.assertIn("ann", tokens.read_text())

    def test_a_reader_that_went_away(self):
        server = self.daemon(start=False)
        reading, writing = os.pipe()
        os.close(reading)
        with open(writing, "wb") as pipe:
            done = self.run_into(server, pipe, ["--help"], program="postrider-web")
        self.assertEqual((done.returncode, done.stderr), (IOERR, b""))


if __name__ == "__main__":
    scenario.main()
