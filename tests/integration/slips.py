#!/usr/bin/python3
"""Slips of people at a terminal: each is answered on standard error with what is wrong and what helps,
with an exit code of sysexits.h; and what they meant works: ids, addresses and domains without an option,
the verbs of other mail systems, completion.

POSTRIDER_TRANSCRIPT=FILE appends to that file what was typed, what was answered, and the exit code."""
import os
import re
import shutil
import socket
import subprocess

from support_py import daemon, scenario, smtp, wait

USAGE, DATAERR, NOINPUT, UNAVAILABLE, OSERR, IOERR, NOPERM, CONFIG = 64, 65, 66, 69, 71, 74, 77, 78
UNKNOWN_ID = "1K1BX3F7Q2A"


class Slips(scenario.Scenario):
    def slip(self, server, program, *arguments, code, says, helps, stdin=b""):
        """One line of what is wrong, somewhere the remedy, nothing on standard output."""
        done = server.tool(program, *arguments, stdin=stdin, check=False)
        shown = f"$ {program} {' '.join(map(str, arguments))}\n{done.stderr}"
        self.transcribe(server, shown, done.returncode)
        self.assertEqual(done.returncode, code, shown)
        self.assertEqual(done.stdout, "", shown)
        self.assertRegex(done.stderr, says, shown)
        self.assertRegex(done.stderr, helps, shown)
        self.assertLessEqual(len(done.stderr.splitlines()), 3, shown)

    @staticmethod
    def transcribe(server, shown, code):
        if "POSTRIDER_TRANSCRIPT" in os.environ:
            with open(os.environ["POSTRIDER_TRANSCRIPT"], "a", encoding="utf-8") as out:
                out.write(shown.replace(str(server.folder), "/etc/postrider") + f"[{code}]\n\n")

    def wrong_file(self, text, code=CONFIG, says="", helps="", verb="check", **settings):
        server = self.daemon(start=False, **settings)
        server.config_file.write_text(server.config_file.read_text() + text)
        self.slip(server, "postrider", verb, code=code, says=says, helps=helps)

    # The command line

    def test_wrong_verbs(self):
        server = self.daemon(start=False)
        for arguments, says, helps in (
                ((), "a verb is missing: run, check, reload", "postrider --help"),
                (("frobnicate",), 'unknown verb "frobnicate"', "the verbs are run, check, reload, config"),
                (("quee",), 'unknown verb "quee"', "did you mean queue?"),
                (("queue", "holt", UNKNOWN_ID), 'unknown verb "holt"', "did you mean hold?"),
                (("queue", "holt", "--all"), 'unknown verb "holt"', "did you mean hold?"),
                (("dkim", "neu", "example.org"), 'unknown verb "neu"', "did you mean new?"),
                (("dkim",), "a verb is missing: new, record, check", "dkim new example.org")):
            with self.subTest(arguments):
                self.slip(server, "postrider", *arguments, code=USAGE, says=says, helps=helps)

    def test_wrong_options_and_arguments(self):
        server = self.daemon(start=False)
        for arguments, says, helps in (
                (("queue", "--jsn"), 'unknown option "--jsn"', "did you mean --json?"),
                (("queue", "hold", "--dryrun", UNKNOWN_ID), '"--dryrun"', "did you mean --dry-run?"),
                (("queue", "--id"), "--id: its value is missing", "postrider queue --help"),
                (("show",), "ID is missing", f"for example: postrider show {UNKNOWN_ID}"),
                (("explain",), "ID.ADDRESS.DOMAIN is missing", "for example: postrider explain"),
                (("show", UNKNOWN_ID, "b"), 'unexpected argument "b"', "postrider show --help"),
                (("queue", "remove", "foo"), '"foo" is neither a queue id', "use --domain"),
                (("queue", "a@b.example", "c@d.example"), '"c@d.example" is one too many', "--help"),
                (("help", "frobnicate"), 'unknown verb "frobnicate"', "the verbs are run, check"),
                (("check", "/etc/postrider/postrider.toml"), "unexpected argument", "a configuration is named with -c"),
                (("check", "-c", ""), "--config: its value is empty", "check --help"),
                (("dkim", "new", "a.example", "--bits", "abc"), "--bits = abc is not a number", "dkim new --help"),
                (("passwd",), "USER is missing", "for example: postrider passwd ann")):
            with self.subTest(arguments):
                self.slip(server, "postrider", *arguments, code=USAGE, says=says, helps=helps)

    def test_the_other_programs(self):
        server = self.daemon(start=False)
        self.slip(server, "sendmail", code=USAGE, says="no recipients", helps="name them, or use -t")
        self.slip(server, "sendmail", "-Y", code=USAGE, says="-Y: unknown option", helps="--help")
        self.slip(server, "sendmail", "-f", code=USAGE, says="-f: its value is missing", helps="-f")
        self.slip(server, "mailq", "-x", code=USAGE, says='argument "-x"', helps=r"usage: mailq \[--json")
        self.slip(server, "newaliases", "-x", code=USAGE, says='argument "-x"', helps="usage: newaliases")
        self.slip(server, "mailq", UNKNOWN_ID, code=USAGE, says=UNKNOWN_ID, helps="postrider queue --help")
        self.slip(server, "sendmail", "-bt", code=USAGE, says="-bt: this mode is not supported", helps="postrider explain")
        self.slip(server, "postrider-web", "tokn", code=USAGE, says="^postrider-web: .*tokn", helps="postrider-web --help")
        self.slip(server, "postrider-web", "token", code=USAGE, says="^postrider-web: .*role", helps="postrider-web --help")
        for name in ("postrider-amqp", "postrider-amqp10", "postrider-kafka", "postrider-mqtt", "postrider-stomp"):
            if (daemon.BIN / name).exists():
                self.slip(server, name, "nosuch", code=USAGE, says=f"^{name}: .*nosuch", helps=f"{name} --help")
        self.slip(server, "postrider", "doctor", "a b", code=USAGE, says='postrider doctor: "a b"', helps="is not a domain")
        for name in ("sendmail", "mailq", "newaliases"):
            self.assertIn("usage: ", server.tool(name, "--help").stdout)

    # With a daemon

    def test_what_the_daemon_refuses(self):
        server = self.daemon()
        for arguments, code, says, helps in (
                (("queue", "remove"), USAGE, "--all", "--all"),
                (("queue", "--older", "5x"), USAGE, '"5x" is not a time', "90m, 2h or 5d"),
                (("queue", "--larger", "5QB"), USAGE, '"5QB" is not a size', "64KiB or 10MB"),
                (("queue", "--status", "stuck"), USAGE, '"stuck" is not', "active, queued, deferred"),
                (("queue", "--from", "bob"), USAGE, '"bob" is not an address', "@domain or <>"),
                (("queue", "hold", "--to", "far.example"), USAGE, '"far.example" is not an address', "@domain or <>"),
                (("show", "K1B"), USAGE, '"K1B" is not a queue id', "11 letters and digits"),
                (("queue", "show", UNKNOWN_ID), NOINPUT, "no message " + UNKNOWN_ID, "journalctl POSTRIDER_ID=" + UNKNOWN_ID),
                (("explain", UNKNOWN_ID), NOINPUT, "no message " + UNKNOWN_ID, "journalctl POSTRIDER_ID="),
                (("explain", "a b@c.example"), USAGE, '"a b@c.example" is neither', "a queue id nor an address nor a domain"),
                (("explain", "http://x/y"), USAGE, "is neither", "a queue id nor an address nor a domain"),
                (("explain", "@"), USAGE, '"@" is neither', "a queue id nor an address nor a domain"),
                (("queue", "salvage"), UNAVAILABLE, "is running", "systemctl stop postrider")):
            with self.subTest(arguments):
                self.slip(server, "postrider", *arguments, code=code, says=says, helps=helps)
        for verb in "hold", "remove", "retry":  # nothing is wrong for a script; a person hears of the slip
            done = server.tool("postrider", "queue", verb, UNKNOWN_ID)
            self.assertRegex(done.stderr, f"^postrider queue: {UNKNOWN_ID} is not in the queue.*journalctl POSTRIDER_ID={UNKNOWN_ID}\n$")
        second = subprocess.run([str(daemon.BIN / "postrider"), "run", "-c", str(server.config_file)],
                                stdin=subprocess.DEVNULL, capture_output=True, text=True,
                                timeout=wait.DEADLINE)
        self.assertIn(second.returncode, (OSERR, 75), second.stderr)
        self.assertRegex(second.stderr, "is in use by process [0-9]+: stop that one, or name another spool\n$")

    def test_the_daemon_is_down(self):
        server = self.daemon(start=False)
        server.spool.mkdir()
        os.chmod(server.spool, 0o711)
        for arguments in (("status",), ("queue", "hold", "--all"), ("reload",), ("tlsrpt",), ("events",)):
            self.slip(server, "postrider", *arguments, code=UNAVAILABLE,
                      says="the mail system is down", helps="systemctl start postrider")

    def test_every_verb_knows_that_the_daemon_is_down(self):
        """What only it can answer or do is 69 with the sentence; what is in files is done without it."""
        server = self.daemon()
        server.send("a@ext.example", "b@far.example", b"Subject: x\r\n\r\nx\r\n")
        message = wait.until(server.queue, "a message")[0]["queue_id"]
        server.stop()
        down = ("status", "reload", "sites", "sites --trouble", "explain b@far.example", "events", "events replay hook",
                "tlsrpt", "tlsrpt --send", "dmarc-reports", "dmarc-reports --send")
        without = ("queue", "queue list", "queue count", f"queue show {message}", f"show {message}",
                   f"explain {message}", "queue summary", f"queue hold {message}", f"queue release {message}",
                   "queue retry", "queue pause two.example", "queue resume two.example",
                   f"queue reroute --to 127.0.0.1:9 {message}",
                   f"queue export --folder {server.folder}/exported {message}", f"trace {message}",
                   f"queue expire {message}", f"queue remove {message}", f"queue bounce {message}", "check", "config",
                   "completion", "queue salvage")
        elsewhere = {"run", "top", "doctor", "queue import", "queue import postfix", "queue import exim", "passwd", "dkim",
                     "dkim new", "dkim record", "dkim check"}  # they ask no daemon
        (server.folder / "exported").mkdir()
        for words in down:
            done = server.tool("postrider", *words.split(), check=False)
            self.assertEqual(done.returncode, UNAVAILABLE, f"{words}: {done.stdout}{done.stderr}")
            self.assertIn("the mail system is down; start it, by `systemctl start postrider`", done.stderr, words)
        for words in without:
            done = server.tool("postrider", *words.split(), check=False)
            self.assertEqual(done.returncode, 0, f"{words}: {done.stdout}{done.stderr}")
        offered = next(line for line in server.postrider("completion").splitlines() if line.strip().startswith("' run'"))
        verbs = set(re.findall(r"' ([a-z -]+)'", offered))
        self.assertGreater(len(verbs), 35)
        tried = {verb for verb in verbs for words in down + without if (words + " ").startswith(verb + " ")}
        self.assertEqual(verbs - tried, elsewhere)

    def test_a_missing_file_and_a_missing_setting(self):
        server = self.daemon(start=False)
        self.slip(server, "postrider", "check", "-c", "/nonexistent/a.toml", code=CONFIG,
                  says="/nonexistent/a.toml: cannot be read: No such file", helps="another with -c")
        self.slip(server, "postrider", "passwd", "ann", code=CONFIG, says="auth.users is not set",
                  helps="set it, or name the file with --file\n$")
        self.slip(server, "postrider", "dkim", "check", code=CONFIG, says="cannot be read",
                  helps="DOMAIN/SELECTOR.pem")

    def test_a_busy_port_and_a_foreign_address(self):
        with socket.socket() as busy:
            busy.bind(("127.0.0.1", 0))
            busy.listen()
            port = busy.getsockname()[1]
            for address, says, helps in (
                    (f"127.0.0.1:{port}", "Address already in use", "`ss -ltnp` names it"),
                    (f"localhost:{port}", "Address already in use", "`ss -ltnp` names it"),
                    (f"192.0.2.7:{port}", "Cannot assign requested address", r'"\*:25" takes all')):
                with self.subTest(address):
                    server = self.daemon(start=False, listeners=[{"address": address}])
                    self.slip(server, "postrider", "run", "-c", server.config_file, code=OSERR,
                              says=says, helps=helps)

    def test_no_rights(self):
        if not scenario.is_root() or not shutil.which("setpriv"):
            self.skipTest("needs root and setpriv")
        server = self.daemon()
        at = server.folder
        while at != at.parent:
            os.chmod(at, os.stat(at).st_mode | 0o011)
            at = at.parent
        os.chmod(server.config_file, 0o644)

        def as_nobody(*arguments):
            done = subprocess.run(
                ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--bounding-set=-all",
                 str(daemon.BIN / "postrider"), *arguments, "-c", str(server.config_file)],
                stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=wait.DEADLINE)
            self.transcribe(server, f"$ postrider {' '.join(arguments)}    # as nobody\n{done.stderr}", done.returncode)
            return done.returncode, done.stderr
        code, said = as_nobody("status")
        self.assertEqual(code, NOPERM, said)
        self.assertRegex(said, "only root.*sudo")
        server.stop()
        code, said = as_nobody("queue")
        self.assertEqual(code, NOPERM, said)
        self.assertRegex(said, "only root.*sudo|may not open.*sudo")

    # The configuration

    def test_slips_in_the_configuration(self):
        self.wrong_file("\n[acept]\nx = 1\n", says="acept: unknown key", helps="did you mean accept?")
        self.wrong_file("\n[accept]\nmesage_size = \"1MB\"\n", says="mesage_size: unknown key",
                        helps="did you mean message_size?")
        self.wrong_file("\n[accept]\nmessage_size = \"50 loaves\"\n", says='"50 loaves" is not a size',
                        helps="expected")
        self.wrong_file("\n[queue]\n", says="queue: unknown key", helps="did you mean|expected")
        self.wrong_file("\n[tls]\ncertificate = \"/nonexistent/c.pem\"\nkey = \"/nonexistent/k.pem\"\n",
                        says="/nonexistent/k.pem.*No such file", helps="expected a file in PEM form")
        self.wrong_file("", listeners=[{"address": "127.0.0.1:25", "tls": "starttls"}],
                        says='"starttls" has no certificate', helps='expected tls.certificate and tls.key, or "off"')
        self.wrong_file("", listeners=[{"address": "25"}], says='"25" is not a place to listen',
                        helps='"localhost:25"')
        self.wrong_file("", listeners=[{"adress": "127.0.0.1:25"}], says="adress: unknown key",
                        helps="did you mean address?", code=CONFIG)

    def test_an_open_relay(self):
        """Neither checked nor started, nor taken by a running daemon."""
        outside = [{"address": f"0.0.0.0:{wait.free_port()}", "role": "mx", "tls": "off"}]
        for network in "0.0.0.0/0", "::/0", "0.0.0.0/1":
            for verb in "check", "run":
                with self.subTest(network, verb=verb):
                    self.wrong_file("", says=rf'\d+: accept.relay_from: "{network}" makes an open relay', verb=verb,
                                    helps="expected your own networks, or accept.open_relay = true",
                                    listeners=outside, accept={"relay_from": [network]})
        server = self.daemon()
        server.write_config(listener=outside, accept={"relay_from": ["0.0.0.0/0"]})
        self.slip(server, "postrider", "reload", code=CONFIG, says="makes an open relay", helps="expected your own networks")
        with smtp.Client(server.port, source="127.0.0.2") as client:  # the old one is in use
            client.hello()
            client.expect("MAIL FROM:<a@ext.example>", 250)
            self.assertEqual(server.settings["accept"]["relay_from"], ["0.0.0.0/0"])

    def test_a_loop_to_itself(self):
        """A check warns of it with the remedy; mail waits and says why, and goes when that is mended."""
        for route in ({"domain": "*", "next_hop": "smtp://127.0.0.1:{port}"},
                      {"domain": "far.example", "next_hop": "smtp://localhost:{port}"},
                      {"domain": "*", "next_hop": "smtp://mx.us.example:{port}"}):
            port = wait.free_port()
            route = {key: value.format(port=port) for key, value in route.items()}
            listeners = [{"address": f"127.0.0.1:{port}", "role": "mx", "tls": "off"}]
            server = self.daemon(start=False, listeners=listeners, route=[route])
            server.port = port
            with self.subTest(route["next_hop"]):
                done = server.tool("postrider", "check")
                self.assertRegex(done.stdout, rf'warning: route\[?\d?\]?.*next_hop: leads to our own listener '
                                              rf'"127.0.0.1:{port}"')
                self.assertIn("name the host that is to take it, or leave the route out", done.stdout)
        server = self.daemon(start=False)
        server.write_config(route=[{"domain": "*", "next_hop": f"smtp://127.0.0.1:{wait.free_port()}"}])
        self.assertNotIn("our own listener", server.tool("postrider", "check").stdout)  # somebody else's port
        server.write_config(route=[{"domain": "*", "next_hop": f"smtp://127.0.0.1:{server.port}", "tls": "off"}],
                            accept={"relay_from": ["127.0.0.1/32"]})
        server.start()
        self.assertIn("leads to our own listener", server.wait_for_log("doubtful")[0]["advice"])
        self.assertEqual(server.send("a@us.example", "b@far.example", b"Subject: round\r\n\r\nx\r\n").code, 250)
        wait.until(lambda: "loops back to us" in server.mailq(), lambda: f"the reason in mailq: {server.mailq()}")
        self.assertIn("loops back to us", server.postrider("explain", server.queue()[0]["queue_id"]))
        self.assertEqual(len(server.wait_for_log("accepted")), 1)  # it was found out before it went round
        sink = self.sink()
        server.write_config(route=[{"domain": "*", "next_hop": f"smtp://127.0.0.1:{sink.port}", "tls": "off"}])
        server.postrider("reload")
        server.postrider("queue", "retry")
        sink.wait_for(1)
        server.wait_until_empty()

    def test_a_spool_that_is_not_ours_to_use(self):
        server = self.daemon(start=False)
        server.spool.mkdir()
        os.chmod(server.spool, 0o777)
        self.slip(server, "postrider", "run", code=OSERR, says="is open to other users",
                  helps="must have mode 0700, 0711 or 0750")
        server = self.daemon(start=False, spool="/proc/postrider")
        self.slip(server, "postrider", "run", code=IOERR, says="/proc/postrider", helps="No such file")

    # What they meant

    def test_ids_addresses_and_domains_without_an_option(self):
        server = self.daemon(delivery={"retry": ["1h"]},
                             route=[{"domain": "*", "next_hop": f"smtp://127.0.0.1:{wait.free_port()}"}])
        server.send("a@us.example", ["ann@one.example"], b"Subject: one\r\n\r\nx\r\n")
        server.send("a@us.example", ["bob@two.example"], b"Subject: two\r\n\r\nx\r\n")
        wait.until(lambda: len(server.queue("--status", "deferred")) == 2, "two wait")
        by_domain = {message["recipients"][0]["address"]: message["queue_id"] for message in server.queue()}
        one = by_domain["ann@one.example"]
        for words in ((one,), ("one.example",), ("@one.example",), ("ann@one.example",),
                      (one.lower(), "one.example")):
            with self.subTest(words):
                self.assertEqual([message["queue_id"] for message in server.queue(*words)], [one])
                self.assertEqual(server.postrider("queue", "count", *words), "1 message, 1 recipient\n")
        self.assertEqual(server.postrider("queue", "count", *(message["queue_id"] for message in server.queue())),
                         "2 messages, 2 recipients\n")
        self.assertIn("Subject: one", server.postrider("queue", "show", one))
        for marked in one + "*", one + "!":  # as mailq marks it
            self.assertEqual([message["queue_id"] for message in server.queue(marked)], [one])
            self.assertEqual([message["queue_id"] for message in server.queue("--id", marked)], [one])
            self.assertIn("Subject: one", server.postrider("show", marked))
            self.assertIn("ann@one.example", server.postrider("explain", marked))
        self.assertIn("held", server.postrider("queue", "freeze", one))
        self.assertEqual(server.postrider("queue", "show", one), server.postrider("show", one))
        self.assertEqual([message["queue_id"] for message in server.queue("--status", "held")], [one])
        self.assertIn("tried again", server.postrider("queue", "flush", "two.example"))
        server.postrider("queue", "delete", "two.example")
        wait.until(lambda: [message["queue_id"] for message in server.queue()] == [one], "one is left")
        self.assertIn("mail for root@", server.postrider("explain", "root"))

    def test_help_has_examples_that_parse(self):
        server = self.daemon()
        verbs = [("queue", verb) for verb in ("", "list", "count", "show", "hold", "release", "retry",
                                              "remove", "bounce", "expire", "reroute", "summary", "pause", "resume",
                                              "export", "import", "salvage")]
        verbs += [(verb, "") for verb in ("run", "check", "reload", "config", "doctor", "status", "top", "show", "explain",
                                          "sites", "events", "trace", "tlsrpt", "dmarc-reports", "passwd", "dkim",
                                          "completion")]
        verbs += [("events", "replay"), ("dkim", "new"), ("dkim", "record"), ("dkim", "check")]
        for words in verbs:
            words = [word for word in words if word]
            text = server.postrider(*words, "--help")
            self.assertEqual(text, server.postrider("help", *words))
            examples = text.split("Examples:\n")[1].splitlines()
            self.assertTrue(examples, text)
            for line in examples:
                called = re.search(r"postrider (queue|show|explain) ?([^|&>#]*)", line)
                if not called or re.search("salvage|export|import", line):
                    continue
                arguments = [word.strip("'") for word in
                             re.findall(r"'[^']*'|\S+", called[1] + " " + called[2])]
                done = server.tool("postrider", *arguments, check=False)
                self.assertIn(done.returncode, (0, NOINPUT, 75), line + "\n" + done.stderr)

    def test_completion_in_bash(self):
        server = self.daemon(route=[{"domain": "*", "next_hop": f"smtp://127.0.0.1:{wait.free_port()}"}])
        server.send("a@us.example", ["ann@one.example"], b"Subject: one\r\n\r\nx\r\n")
        one = server.queue()[0]["queue_id"]

        def offered(*words):
            script = ('source <(postrider completion) || exit\n'
                      'COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _postrider\n'
                      'printf "%s\\n" "${COMPREPLY[@]}"')
            environment = dict(server.environment(), PATH=f"{daemon.BIN}:{os.environ['PATH']}")
            done = subprocess.run(["bash", "-c", script, "bash", *words], env=environment,
                                  stdin=subprocess.DEVNULL, capture_output=True, text=True,
                                  timeout=wait.DEADLINE)
            self.assertEqual((done.returncode, done.stderr), (0, ""))
            return done.stdout.split("\n")[:-1]
        self.assertEqual(offered("postrider", "qu"), ["queue"])
        self.assertEqual(offered("postrider", "queue", "re"), ["release", "retry", "remove", "reroute", "resume"])
        self.assertEqual(offered("postrider", "queue", "--status", "he"), ["held"])
        self.assertEqual(offered("postrider", "queue", "hold", "--dr"), ["--dry-run"])
        self.assertEqual(offered("postrider", "-c", "x", "queue", "sal"), ["salvage"])
        self.assertEqual(offered("postrider", "dkim", "n"), ["new"])
        self.assertIn(one, offered("postrider", "show", ""))
        self.assertIn(one, offered("postrider", "queue", "hold", one[:3]))
        (server.folder / "a file.toml").touch()
        self.assertEqual(offered("postrider", "check", "-c", f"{server.folder}/a f"),
                         [f"{server.folder}/a file.toml"])
        self.assertEqual(offered("postrider", "queue", "--reply", ""), [""])


if __name__ == "__main__":
    scenario.main()
