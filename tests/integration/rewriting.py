#!/usr/bin/python3
"""Addresses changed as mail is taken: canonical senders and recipients, masquerading, and the maps of
senders and recipients, in every form of table; what is refused at RCPT, changes of the files while the
daemon runs, and what `postrider explain` says of it."""
import sqlite3

from support_py import scenario, smtp, wait
from support_py.local_users import CONTENT, LocalUsers

HEADER = (b"From: Ann <ann@host7.us.example>\r\nTo: \"Far, X\" <old@far.example>, bob@us.example\r\n"
          b"Cc: group: ann@host7.us.example;\r\nSubject: addresses\r\n\r\nann@host7.us.example\r\n")


class Rewriting(LocalUsers):
    def rewriting(self, listeners=None, start=True, **tables):
        """tables: the text of one for each key of [rewrite]."""
        server = self.machine(listeners=listeners)
        rewrite = {}
        for key, text in tables.items():
            rewrite[key] = text if isinstance(text, list) else [
                f"text:{self.write(server.folder / key, text)}"]
        server.write_config(rewrite=rewrite)
        return server.start() if start else server

    def last(self, count):
        message = self.remote.wait_for(count)[-1]
        return message.sender, message.addresses

    def test_senders_by_address_name_and_domain_the_most_exact_first(self):
        server = self.rewriting(sender="ann@us.example  Ann.Smith@corp.example\n"
                                       "ann             wrong@corp.example\n"
                                       "bob             b\n"
                                       "@us.example     @corp.example\n"
                                       "@old.example    all@corp.example\n")
        wanted = (("ann@us.example", "Ann.Smith@corp.example"),
                  ("ANN@US.example", "Ann.Smith@corp.example"),
                  ("ann+tag@us.example", "Ann.Smith+tag@corp.example"),
                  ("bob@us.example", "b@us.example"),
                  ("bob+x@us.example", "b+x@us.example"),
                  ("carl@us.example", "carl@corp.example"),
                  ("bob@old.example", "all@corp.example"),
                  ("ann@elsewhere.example", "ann@elsewhere.example"), ("", ""))
        for number, (sender, fresh) in enumerate(wanted, 1):
            self.mail(server, "x@far.example", sender=sender)
            self.assertEqual(self.last(number), (fresh, ["x@far.example"]), sender)
        server.wait_until_empty()

    def test_recipients_are_judged_by_what_they_become(self):
        server = self.rewriting(recipient="old@us.example   ann@us.example\n"
                                          "left@us.example  left@far.example\n"
                                          "gone@us.example  nobody-here@us.example\n"
                                          "@old.example     @us.example\n"
                                          "two@us.example   ann@us.example\n")
        self.mail(server, "old@us.example")
        ann, = server.wait_for_mail(1, "ann")
        self.assertIn(b"Delivered-To: ann@us.example", ann)
        self.mail(server, "left+tag@us.example")
        self.assertEqual(self.last(1), ("a@far.example", ["left+tag@far.example"]))
        for address in ("gone@us.example", "nobody-here@old.example", "nobody-here@us.example"):
            self.assertTrue(self.rcpt(server, address).startswith("550 5.1.1"), address)
        self.mail(server, "ann@old.example")
        server.wait_for_mail(2, "ann")
        with server.client() as client:  # two names that become one get the message once
            client.hello()
            client.begin("a@far.example", ["old@us.example", "two@us.example"])
            client.expect("DATA", 354)
            client.send(CONTENT + b".\r\n")
            self.assertEqual(client.reply().code, 250)
        server.wait_until_empty()
        self.assertEqual(len(server.mailbox("ann")), 3)

    def test_what_passes_through_keeps_its_header(self):
        server = self.rewriting(sender="@host7.us.example @corp.example\n",
                                recipient="old@far.example new@far.example\n",
                                masquerade=["us.example"])
        server.send("ann@host7.us.example", "old@far.example", HEADER)
        self.assertEqual(self.last(1), ("ann@corp.example", ["new@far.example"]))
        self.assertTrue(self.remote.messages[0].content.endswith(HEADER))

    def test_mail_of_this_machine_is_changed_in_envelope_and_header(self):
        server = self.rewriting(recipient="old@far.example new@far.example\n",
                                sender="carl carl.jones@corp.example\n", masquerade=["us.example"])
        text = HEADER.replace(b"\r\n", b"\n")
        server.sendmail("-i", "-f", "ann@host7.us.example", "old@far.example", stdin=text)
        self.assertEqual(self.last(1), ("ann@us.example", ["new@far.example"]))
        content = self.remote.messages[0].content
        self.assertIn(b"\r\nFrom: Ann <ann@us.example>\r\n", content)
        self.assertIn(b'\r\nTo: "Far, X" <new@far.example>, bob@us.example\r\n', content)
        self.assertIn(b"\r\nCc: group: ann@us.example;\r\n", content)
        self.assertTrue(content.endswith(b"\r\n\r\nann@host7.us.example\r\n"), "the body stays")
        # root keeps its host, and a missing From names the sender as the envelope does.
        server.sendmail("-i", "-f", "root@host7.us.example", "x@far.example", stdin="Subject: r\n\nx\n")
        self.assertEqual(self.last(2)[0], "root@host7.us.example")
        server.sendmail("-i", "-f", "carl@us.example", "x@far.example", stdin="Subject: c\n\nx\n")
        self.assertEqual(self.last(3)[0], "carl.jones@corp.example")
        # Twice the same by two names is once.
        server.sendmail("-i", "-f", "a@us.example", "old@far.example", "new@far.example", stdin=text)
        self.assertEqual(self.last(4)[1], ["new@far.example"])

    def test_a_large_message_of_a_user_is_changed_at_its_head_alone(self):
        server = self.rewriting(sender="ann ann.smith@corp.example\n")
        body = b"From: ann@us.example\n" * 20000
        server.sendmail("-i", "-f", "ann@us.example", "x@far.example",
                        stdin=b"From: ann@us.example\nSubject: large\n\n" + body)
        self.assertEqual(self.last(1)[0], "ann.smith@corp.example")
        content = self.remote.messages[0].content
        self.assertIn(b"\r\nFrom: ann.smith@corp.example\r\n", content)
        self.assertTrue(content.endswith(b"\r\n\r\n" + body.replace(b"\n", b"\r\n")))

    def test_explain_names_each_entry(self):
        server = self.rewriting(recipient="# comment\nold@us.example team@us.example\n"
                                          "left@us.example left@far.example\n", start=False)
        self.write(self.aliases, "team: ann,\n bob\n")
        self.write(server.folder / "map", "evil@us.example REJECT go away\nbob@us.example ok\n")
        server.write_config(accept={"recipient_map": [f"text:{server.folder}/map"]})
        server.start()
        said = server.postrider("explain", "old@us.example")
        for line in (f"old@us.example -> team@us.example ({server.folder}/recipient:2)",
                     f"team@us.example -> ann ({self.aliases}:1)",
                     f"team@us.example -> bob ({self.aliases}:1)",
                     f"ann@us.example: maildir {server.folder}/mail/ann", "is delivered to 2 places"):
            self.assertIn(line, said)
        said = server.postrider("explain", "left@us.example")
        self.assertIn(f"left@us.example -> left@far.example ({server.folder}/recipient:3)", said)
        self.assertIn(f"smtp://127.0.0.1:{self.remote.port}", said)
        said = server.postrider("explain", "evil@us.example")
        self.assertIn(f"is refused by accept.recipient_map ({server.folder}/map:1): 550 5.7.1 go away",
                      said)
        self.assertIn(f"let in by accept.recipient_map ({server.folder}/map:2)",
                      server.postrider("explain", "bob@us.example"))
        # A queued message was rewritten already: its address is not looked up again.
        self.write(server.folder / "recipient", "team@us.example nobody-here@us.example\n")
        wait.until(lambda: self.rcpt(server, "team@us.example").startswith("550"), "the new table")

    def test_wrong_values_are_told_with_their_line_and_are_temporary(self):
        server = self.rewriting(recipient="ann@us.example  a b c\n", start=False)
        self.write(server.folder / "map", "x@us.example  REJCT\n")
        server.write_config(accept={"recipient_map": [f"text:{server.folder}/map"]})
        done = server.tool("postrider", "check", check=False)
        self.assertEqual(done.returncode, 78)
        self.assertIn(f'rewrite.recipient: {server.folder}/recipient:1: "a b c" is not an address; '
                      "expected user@domain, user or @domain", done.stderr)
        self.assertIn(f'accept.recipient_map: {server.folder}/map:1: "REJCT" says nothing; expected ok, '
                      "reject TEXT or defer TEXT", done.stderr)
        server.start()
        self.assertTrue(self.rcpt(server, "ann@us.example").startswith("451 4.3.0"))
        self.write(server.folder / "map", "x@us.example REJECT\n")
        self.write(server.folder / "recipient", "ann@us.example bob@us.example\n")
        wait.until(lambda: self.rcpt(server, "ann@us.example").startswith("250"), "the mended tables")
        self.assertTrue(self.rcpt(server, "x@us.example").startswith("550 5.7.1"))

    def test_a_database_that_is_locked_refuses_nothing_for_good(self):
        """In rewriting and for virtual domains, by SMTP, by the tools and in the queue; then all of it
        arrives. What asks no database goes on meanwhile."""
        ports = [wait.free_port(), wait.free_port()]
        server = self.machine(listeners=[
            {"address": f"127.0.0.1:{ports[0]}", "role": "mx", "tls": "off"},
            {"address": f"127.0.0.1:{ports[1]}", "role": "submission", "tls": "off"}])
        server.port = ports[0]
        tables, locks = {}, {}
        for name, rows in (("sender", [("old@far.example", "new@far.example")]),
                           ("virtual", [("virtual.example", "yes"),
                                        ("x@virtual.example", "ann@us.example")])):
            path = server.folder / name
            lock = locks[name] = sqlite3.connect(path, isolation_level=None)
            self.addCleanup(lock.close)
            lock.execute("CREATE TABLE t (k TEXT, v TEXT)")
            lock.executemany("INSERT INTO t VALUES (?, ?)", rows)
            path.chmod(0o644)
            tables[name] = [f"sqlite:{path}?SELECT v FROM t WHERE k = :k"]
        server.write_config(rewrite={"sender": tables["sender"]}, local={"virtual": tables["virtual"]})
        server.start()

        def submit(header=b"From: old@far.example\r\n"):
            with smtp.Client(ports[1]) as client:
                client.hello()
                client.begin("", ["ann@us.example"])
                client.expect("DATA", 354)
                client.send(header + b"\r\nx\r\n.\r\n")
                return str(client.reply())
        locks["sender"].execute("BEGIN EXCLUSIVE")
        with server.client() as client:
            client.hello()
            self.assertTrue(str(client.command("MAIL FROM:<old@far.example>")).startswith("451 4.3.0"))
        self.assertTrue(submit().startswith("451 4.3.0"))
        self.assertEqual(server.sendmail("-f", "old@far.example", "ann@us.example", stdin=b"\nx\n",
                                         check=False).returncode, 75)
        self.assertTrue(submit(b"Subject: nobody's\r\n").startswith("250"))
        server.wait_for_mail(1, "ann")
        locks["sender"].execute("ROLLBACK")
        wait.until(lambda: submit().startswith("250"), "the database")
        self.assertIn(b"From: new@far.example", server.wait_for_mail(2, "ann")[-1])
        locks["virtual"].execute("BEGIN EXCLUSIVE")
        self.assertTrue(self.rcpt(server, "x@virtual.example").startswith("451 4.3.0"))
        # Whether this domain is ours nobody can tell.
        server.sendmail("-f", "", "y@far.example", stdin=b"\nx\n")
        deferred = server.wait_for_log("attempted", to="y@far.example")[0]
        self.assertEqual(deferred["verdict"], "deferred", deferred)
        self.assertEqual(server.log("bounced"), [])
        locks["virtual"].execute("ROLLBACK")
        server.retry_all()
        self.remote.wait_for(1)
        wait.until(lambda: self.rcpt(server, "x@virtual.example").startswith("250"), "the database")
        server.wait_until_empty()

    def test_a_database_that_gives_nonsense_is_logged(self):
        server = self.machine()
        database = server.folder / "db"
        with sqlite3.connect(database) as connection:
            connection.execute("CREATE TABLE t (k TEXT, v TEXT)")
            connection.execute("INSERT INTO t VALUES ('ann@us.example', 'not an address')")
        database.chmod(0o644)
        server.write_config(rewrite={"recipient": [f"sqlite:{database}?SELECT v FROM t WHERE k = :k"]})
        server.start()
        self.assertTrue(self.rcpt(server, "ann@us.example").startswith("451 4.3.0"))
        entry, = server.wait_for_log("rejected", stage="RCPT")
        self.assertIn("not an address", entry["problem"])
        self.assertIn(str(database), entry["problem"])


class Forms(LocalUsers):
    """Every form of table in every place, changed while the daemon runs."""

    def database(self, server, rows):
        path = server.folder / "db"
        fresh = path.with_name("db.new")
        fresh.unlink(missing_ok=True)
        with sqlite3.connect(fresh) as connection:
            connection.execute("CREATE TABLE t (k TEXT PRIMARY KEY, v TEXT)")
            connection.executemany("INSERT INTO t VALUES (?, ?)", rows)
        connection.close()
        fresh.chmod(0o644)
        fresh.rename(path)
        return f"sqlite:{path}?SELECT v FROM t WHERE k = :k"

    def text(self, server, rows):
        return f"text:{self.write(server.folder / 'text', ''.join(f'{k} {v}' + chr(10) for k, v in rows))}"

    def pattern(self, server, rows):
        lines = "".join(f"/^{key.replace('.', chr(92) + '.')}$/ {value}\n" for key, value in rows)
        return f"pcre:{self.write(server.folder / 'patterns', lines)}"

    def cdb(self, server, rows):
        """By newaliases, whose keys are names or addresses alike."""
        self.write(server.folder / "compiled",
                   "".join(f'"{key}": {value}\n' for key, value in rows))
        settings = dict(server.settings)
        server.write_config(local={"aliases": [f"cdb:{server.folder}/compiled.cdb"]})
        server.tool("newaliases")
        server.settings = settings
        server.write_config()
        return f"cdb:{server.folder}/compiled.cdb"

    def spread(self, make):
        """The same rows in rewriting, virtual users, the map of recipients and the one of senders."""
        server = self.machine()
        server.write_config(rewrite={"recipient": [make(server, [("old@us.example", "ann@us.example")])]})
        server.start()
        self.mail(server, "old@us.example")
        server.wait_for_mail(1, "ann")
        self.assertTrue(self.rcpt(server, "next@us.example").startswith("550 5.1.1"))
        make(server, [("next@us.example", "bob@us.example")])
        wait.until(lambda: self.rcpt(server, "next@us.example").startswith("250"), "the new table")
        self.mail(server, "next@us.example")
        server.wait_for_mail(1, "bob")
        self.assertTrue(self.rcpt(server, "old@us.example").startswith("550 5.1.1"))
        self.assertEqual(server.log("reloaded"), [])  # nobody asked for it
        said = server.postrider("explain", "next@us.example")
        self.assertIn("next@us.example -> bob@us.example (", said)
        return server, said

    def test_text(self):
        server, said = self.spread(self.text)
        self.assertIn(f"({server.folder}/text:1)", said)

    def test_sqlite(self):
        server, said = self.spread(self.database)
        self.assertIn(f"(sqlite:{server.folder}/db)", said)

    def test_patterns(self):
        server, said = self.spread(self.pattern)
        self.assertIn(f"({server.folder}/patterns:1)", said)

    def test_cdb(self):
        server, said = self.spread(self.cdb)
        self.assertIn(f"({server.folder}/compiled.cdb)", said)

    def test_patterns_with_groups(self):
        server = self.machine()
        self.write(server.folder / "patterns", "/^(.+)\\.(.+)@us\\.example$/ $2@us.example\n")
        server.write_config(rewrite={"recipient": [f"pcre:{server.folder}/patterns"]})
        server.start()
        self.mail(server, "smith.ann@us.example")
        server.wait_for_mail(1, "ann")
        self.assertTrue(self.rcpt(server, "ann.nobody-here@us.example").startswith("550 5.1.1"))

    @scenario.row("X17", "a pattern that would take for ever is cut off, and the server goes on")
    def test_a_pattern_that_would_take_for_ever(self):
        server = self.machine()
        self.write(server.folder / "patterns", "/^(a+)+$/ ann@us.example\n/^(([a-z])+.)+[A-Z]([a-z])+$/i bob\n")
        server.write_config(rewrite={"recipient": [f"pcre:{server.folder}/patterns"]})
        server.start()
        for local_part in ("a" * 63 + "!", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"):
            self.assertTrue(self.rcpt(server, f"{local_part}@us.example").startswith(("451 4.3", "550")))
        entry = server.wait_for_log("rejected")[0]
        self.assertIn(f"{server.folder}/patterns:1: the pattern needs more steps than are allowed",
                      entry["problem"])
        self.write(server.folder / "patterns", "/^x/ ann@us.example\n")
        wait.until(lambda: self.rcpt(server, "xx@us.example").startswith("250"), "the harmless table")

    def test_payloads_are_keys_and_nothing_else(self):
        """I05: from RCPT and MAIL to the SQLite, CDB, text and PCRE tables."""
        server = self.machine()
        rows = [("ann@us.example", "bob@us.example")]
        tables = [make(server, rows) for make in (self.database, self.text, self.pattern, self.cdb)]
        server.write_config(rewrite={"recipient": tables, "sender": tables},
                            accept={"senders": [self.text(server, [])],
                                    "recipient_map": ["inline:{z@us.example=reject}"]})
        server.start()
        payloads = ("x'/**/UNION/**/SELECT/**/'ann@us.example", "\\\";DROP TABLE t;--", "' OR '1'='1",
                    "%00", "$1", "${k}", ".*", "(a", ":k", "?1", "@", "\\\\", "#", "/./")
        for payload in payloads:
            with server.client() as client:
                client.hello()
                client.command(f'MAIL FROM:<"{payload}"@us.example>')
                self.assertIn(client.command(f'RCPT TO:<"{payload}"@us.example>').code,
                              (501, 503, 550, 553), payload)
        with sqlite3.connect(server.folder / "db") as connection:
            self.assertEqual(connection.execute("SELECT * FROM t").fetchall(), rows)
        self.mail(server, "ann@us.example", sender="ann@us.example")
        server.wait_for_mail(1, "bob")


class Maps(LocalUsers):
    def sender(self, server, address):
        with server.client() as client:
            client.hello()
            return str(client.command(f"MAIL FROM:<{address}>"))

    def test_senders_and_recipients_by_address_domain_and_name(self):
        server = self.machine()
        senders = self.write(server.folder / "senders",
                             "good@spam.example ok\nspam.example reject No thanks\n"
                             ".spam.example defer\nroot@ reject\n<> ok\n")
        recipients = self.write(server.folder / "recipients",
                                "bob@us.example reject Bob has left\nlater.example defer Not yet\n")
        server.write_config(accept={"senders": [f"text:{senders}"],
                                    "recipient_map": [f"text:{recipients}"]})
        server.start()
        for address, reply in (("good@spam.example", "250"), ("x@spam.example", "550 5.7.1 No thanks"),
                               ("x@a.spam.example", "450 4.7.1 Not now, by policy"),
                               ("root@any.example", "550 5.7.1 Refused by policy"),
                               ("ann@any.example", "250"), ("", "250")):
            self.assertTrue(self.sender(server, address).startswith(reply), address)
        for address, reply in (("bob@us.example", "550 5.7.1 Bob has left"),
                               ("x@later.example", "450 4.7.1 Not yet"), ("ann@us.example", "250")):
            self.assertTrue(self.rcpt(server, address).startswith(reply), address)
        self.write(recipients, "ann@us.example reject\n")
        wait.until(lambda: self.rcpt(server, "ann@us.example").startswith("550 5.7.1"), "the new map")
        self.assertTrue(self.rcpt(server, "bob@us.example").startswith("250"))

    def test_relayed_domains_know_their_users(self):
        server = self.machine()
        relayed = self.write(server.folder / "relayed", "ann@backup.example x\n@all.example x\n")
        server.write_config(accept={"relay_from": [], "relay_to": ["backup.example", "all.example"],
                                    "relay_recipients": [f"text:{relayed}"]})
        server.start()
        for address, reply in (("ann@backup.example", "250"), ("ann+x@backup.example", "250"),
                               ("bob@backup.example", "550 5.1.1"), ("bob@all.example", "250"),
                               ("bob@far.example", "550 5.7.1")):
            self.assertTrue(self.rcpt(server, address).startswith(reply), address)
        self.write(relayed, "bob@backup.example x\n")
        wait.until(lambda: self.rcpt(server, "bob@backup.example").startswith("250"), "the new table")
        self.assertTrue(self.rcpt(server, "ann@backup.example").startswith("550 5.1.1"))


if __name__ == "__main__":
    scenario.main()
