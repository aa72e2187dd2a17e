#!/usr/bin/python3
"""Users' programs log in and submit mail: every mechanism, every source of passwords, who may send
as whom, limits, and what an attacker finds out. attacks.md A18, R06, T07, X11, X12, X13."""
import base64
import hashlib
import hmac
import http.server
import json
import os
import pathlib
import pwd
import re
import select
import shutil
import smtplib
import socket
import ssl
import statistics
import subprocess
import threading
import time
import unittest
import urllib.parse

from support_py import certificates, daemon, scenario, smtp, wait
from support_py.auth_server import AuthServer, form_answer
from support_py.tools import tool

ANNA, BERT, PASSWORD = "anna@us.example", "bert@us.example", "gr\u00fcn secret"
TO = "reader@far.example"
CONTENT = b"From: <anna@us.example>\r\nSubject: hello\r\n\r\nbody\r\n"


def b64(data):
    return base64.b64encode(data if isinstance(data, bytes) else data.encode()).decode()


def plain(user, password, act_as=""):
    return b64(f"{act_as}\0{user}\0{password}")


def b64url(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class Submission(scenario.Scenario):
    """Listeners of the role submission: STARTTLS, TLS at once, and clear text for what needs none."""
    auth = {}

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.peer = cls.shared(scenario.sink.Sink())
        cls.files = cls.folder / "files"
        cls.files.mkdir()
        cls.pair = certificates.Pair(cls.files, "server", names=["localhost", "mx.us.example"])
        cls.client_pair = certificates.Pair(cls.files, "client", names=["anna.example"])
        cls.prepare()
        cls.server = cls.make_server(**cls.auth)
        cls.add_users(cls.server)
        cls.shared(cls.server.start())

    @classmethod
    def prepare(cls):
        pass

    @classmethod
    def add_users(cls, server):
        if "users" not in server.settings["auth"]:
            return
        for user in (ANNA, BERT):
            server.postrider("passwd", user, stdin=PASSWORD + "\n")

    @classmethod
    def make_server(cls, name="d", **auth):
        ports = {kind: wait.free_port() for kind in ("starttls", "implicit", "clear", "mx")}
        listeners = [{"address": f"127.0.0.1:{ports['mx']}", "role": "mx", "tls": "off"},
                     {"address": f"127.0.0.1:{ports['starttls']}", "role": "submission", "tls": "starttls"},
                     {"address": f"127.0.0.1:{ports['implicit']}", "role": "submission", "tls": "implicit"},
                     {"address": f"127.0.0.1:{ports['clear']}", "role": "submission", "tls": "off"}]
        settings = {"tls": {"certificate": str(cls.pair.certificate), "key": str(cls.pair.key)},
                    "auth": {"failure_delay": "50ms", "clear": True, "hash_threads": 2, **auth}}
        server = daemon.Postrider(cls.folder / name, listeners=listeners,
                                  **{**scenario.to(cls.peer), **settings})
        server.port = ports["starttls"]
        server.ports = ports
        return server

    def setUp(self):
        super().setUp()
        self.before = len(self.peer.messages)
        self.home = self.own_folder("home")

    def run_program(self, *command, stdin=b"", code=0, **environment):
        path = tool(command[0])
        done = subprocess.run([path, *map(str, command[1:])], input=stdin, cwd=self.home,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              env={**os.environ, "HOME": str(self.home), **environment},
                              timeout=wait.DEADLINE)
        output = done.stdout.decode(errors="replace")
        if code is not None:
            self.assertEqual(done.returncode, code, output)
        return output

    def arrived(self, protocol="ESMTPSA"):
        message, = self.peer.wait_for(self.before + 1)[self.before:]
        self.before += 1
        self.assertIn(f"with {protocol} id".encode(), message.content)
        return message

    def clear(self, server=None):
        client = smtp.Client((server or self.server).ports["clear"])
        self.addCleanup(client.close)
        client.hello()
        return client

    def tls(self, server=None, **arguments):
        client = certificates.Client((server or self.server).port, **arguments)
        self.addCleanup(client.close)
        return client.start_tls()

    def offered(self, client):
        line, = [line.decode() for line in client.hello().lines if line.startswith(b"AUTH ")] or [""]
        return set(line.split()[1:])


class PasswordFile(Submission):
    auth = {"users": "set by make_server"}

    @classmethod
    def make_server(cls, name="d", **auth):
        (cls.folder / name).mkdir(exist_ok=True)
        return super().make_server(name, **{**auth, "users": str(cls.folder / name / "users")})

    # Programs

    def swaks(self, *more, mechanism="PLAIN", password=PASSWORD, user=ANNA, code=0):
        return self.run_program("swaks", "--server", "127.0.0.1", "--from", ANNA, "--to", TO,
                                "--auth", mechanism, "--auth-user", user, "--auth-password",
                                password, *more, code=code)

    def test_swaks(self):
        for mechanism in ("PLAIN", "LOGIN"):
            self.swaks("--port", self.server.port, "--tls", mechanism=mechanism)
            message = self.arrived()
            self.assertEqual(message.sender, ANNA)
            self.swaks("--port", self.server.ports["implicit"], "--tls-on-connect",
                       mechanism=mechanism)
            self.arrived()
        output = self.swaks("--port", self.server.port, "--tls", password="wrong", code=None)
        self.assertIn("535 5.7.8", output)
        self.server.wait_for_log("auth_failed", user=ANNA, mechanism="PLAIN")
        accepted = self.server.wait_for_log("accepted", user=ANNA)
        self.assertEqual(accepted[0]["mechanism"], "PLAIN")

    def test_curl(self):
        (self.home / "mail").write_bytes(CONTENT)
        for url in (f"smtp://127.0.0.1:{self.server.port}",
                    f"smtps://127.0.0.1:{self.server.ports['implicit']}"):
            for option in ("PLAIN", "LOGIN", "*"):
                self.run_program("curl", "-sS", "-k", "--ssl-reqd", url, "--mail-from", ANNA,
                                 "--mail-rcpt", TO, "-T", "mail", "-u", f"{ANNA}:{PASSWORD}",
                                 "--login-options", f"AUTH={option}")
                message = self.arrived()
                self.assertIn(b"\r\nDate: ", message.content)
                self.assertIn(b"\r\nMessage-ID: <", message.content)

    def test_msmtp(self):
        for mechanism in ("plain", "login", "scram-sha-256"):
            output = self.run_program(
                "msmtp", "--host=127.0.0.1", f"--port={self.server.port}", "--tls=on",
                "--tls-certcheck=off", f"--auth={mechanism}", f"--user={ANNA}",
                "--passwordeval=cat password", f"--from={ANNA}", TO, stdin=CONTENT,
                code=None if not (self.home / "password").write_text(PASSWORD) else 0)
            self.assertEqual(output, "")
            self.arrived()

    def test_smtplib(self):
        for kind in ("starttls", "implicit"):
            for mechanism in ("auth_plain", "auth_login"):
                with smtplib.SMTP("127.0.0.1", self.server.port) if kind == "starttls" else \
                        smtplib.SMTP_SSL("127.0.0.1", self.server.ports["implicit"],
                                         context=certificates.context()) as client:
                    if kind == "starttls":
                        client.starttls(context=certificates.context())
                    client.ehlo()
                    client.user, client.password = BERT, "x"  # smtplib speaks ASCII alone
                    self.assertRaises(smtplib.SMTPAuthenticationError, client.login, BERT, "wrong")
                    client.user, client.password = "carl", "ascii"
                    self.server.postrider("passwd", "carl", stdin="ascii\n")
                    name = mechanism[5:].upper()
                    client.auth(name, getattr(client, mechanism))
                    client.sendmail("carl@us.example", [TO], CONTENT)
                self.arrived()

    def test_a_sequence_as_Thunderbird_sends_it(self):
        client = certificates.Client(self.server.port)
        self.addCleanup(client.close)
        client.expect("EHLO [127.0.0.1]", 250)
        client.expect("STARTTLS", 220)
        client.shake_hands()
        lines = client.expect("EHLO [127.0.0.1]", 250).lines
        self.assertNotIn(b"STARTTLS", lines)
        self.assertTrue([line for line in lines if line.startswith(b"AUTH ")])
        client.expect("AUTH PLAIN " + plain(ANNA, PASSWORD), 235)
        client.expect(f"MAIL FROM:<{ANNA}> BODY=8BITMIME SIZE={len(CONTENT)}", 250)
        client.expect(f"RCPT TO:<{TO}>", 250)
        client.expect("DATA", 354)
        client.send(CONTENT + b".\r\n")
        self.assertEqual(client.reply().code, 250)
        client.expect("QUIT", 221)
        self.arrived()
        client = self.tls()
        self.assertEqual(client.expect("AUTH LOGIN", 334).text, b64("Username:"))
        self.assertEqual(client.expect(b64(ANNA), 334).text, b64("Password:"))
        client.expect(b64(PASSWORD), 235)

    def test_SCRAM_against_GNU_SASL(self):
        ca = f"--x509-ca-file={self.pair.certificate}"
        for mechanism in ("SCRAM-SHA-256", "SCRAM-SHA-256-PLUS", "PLAIN", "LOGIN"):
            with self.subTest(mechanism):
                before = len(self.server.log("authenticated", mechanism=mechanism))
                output = self.run_program(
                    "gsasl", "--smtp", "--verbose", f"--connect=localhost:{self.server.port}",
                    "--starttls", ca, f"--mechanism={mechanism}", f"--authentication-id={ANNA}",
                    f"--password={PASSWORD}",
                    *([] if mechanism.endswith("PLUS") else ["--no-cb"]), code=None, LC_ALL="C.UTF-8")
                self.assertIn("235 2.7.0", output[-1500:])
                self.server.wait_for_log("authenticated", before + 1, mechanism=mechanism)
        output = self.run_program(
            "gsasl", "--smtp", "--verbose", f"--connect=localhost:{self.server.port}",
            "--starttls", ca, "--mechanism=SCRAM-SHA-256", f"--authentication-id={ANNA}",
            "--password=wrong", "--no-cb", code=None, LC_ALL="C.UTF-8")
        self.assertIn("535 5.7.8", output)

    # What is offered, and where

    def test_T07_R06_AUTH_is_for_TLS_alone_unless_loopback_may(self):
        """T07, R06 in clear: not offered, 538; on the mx listener: not offered, 502"""
        client = smtp.Client(self.server.port)
        self.addCleanup(client.close)
        self.assertEqual(self.offered(client), set())
        reply = client.expect("AUTH PLAIN " + plain(ANNA, PASSWORD), 538)
        self.assertEqual(reply.enhanced, "5.7.11")
        client.expect(f"MAIL FROM:<{ANNA}>", 530)
        self.assertEqual(self.offered(self.tls()), {"SCRAM-SHA-256-PLUS", "SCRAM-SHA-256",
                                                    "PLAIN", "LOGIN"})
        self.assertEqual(self.offered(self.clear()), {"SCRAM-SHA-256", "PLAIN", "LOGIN"})
        client = smtp.Client(self.server.ports["mx"])
        self.addCleanup(client.close)
        self.assertEqual(self.offered(client), set())
        client.expect("AUTH PLAIN " + plain(ANNA, PASSWORD), 502)

    def test_clear_text_is_off_by_default(self):
        server = self.using(self.make_server("no-clear", clear=False))
        (server.folder / "users").touch()
        client = self.clear(server.start())
        self.assertEqual(self.offered(client), set())
        client.expect("AUTH PLAIN " + plain(ANNA, PASSWORD), 538)

    def test_AUTH_is_needed_even_from_loopback(self):
        client = self.clear()
        self.assertEqual(client.expect(f"MAIL FROM:<{ANNA}>", 530).enhanced, "5.7.0")

    def test_the_protocol_is_told(self):
        client = self.clear()
        client.expect("AUTH PLAIN " + plain(ANNA, PASSWORD), 235)
        self.assertEqual(self.offered(client), set())
        client.expect("AUTH PLAIN " + plain(ANNA, PASSWORD), 503)
        client.message(ANNA, [TO], CONTENT)
        self.arrived("ESMTPA")

    # The dialogue

    def test_X12_the_dialogue(self):
        """X12 cancelled, empty, not base64, NUL in the authorization identity, wrong mechanism"""
        server = self.using(self.make_server("x12"))
        server.write_config(accept={"errors": 100})
        server.postrider("passwd", ANNA, stdin=PASSWORD + "\n")
        client = self.clear(server.start())
        for command, code, enhanced in (
                ("AUTH", 501, "5.5.4"), ("AUTH CRAM-MD5", 504, "5.5.4"),
                ("AUTH PLAIN =", 501, "5.5.2"), ("AUTH PLAIN ****", 501, "5.5.2"),
                ("AUTH PLAIN AAA", 501, "5.5.2"), ("AUTH PLAIN *", 501, "5.7.0"),
                ("AUTH EXTERNAL =", 504, "5.5.4")):
            with self.clear(server) as client:
                self.assertEqual(client.expect(command, code).enhanced, enhanced)
                client.expect("NOOP", 250)
        with self.clear(server) as client:
            self.assertEqual(client.expect("AUTH PLAIN", 334).text, "")
            client.expect("*", 501)
            client.expect("auth plain " + plain(ANNA, PASSWORD), 235)
        with self.clear(server) as client:
            client.expect("AUTH PLAIN " + b64("an\0na\0" + ANNA + "\0x"), 501)
            client.expect("AUTH PLAIN " + plain(ANNA, PASSWORD, BERT), 535)
            client.expect("AUTH PLAIN " + plain(ANNA, PASSWORD, ANNA), 235)

    def test_X12_lines_of_12288_octets(self):
        """X12 12,288 octets are read, 12,289 are too many; the session goes on"""
        with self.clear() as client:
            client.expect("AUTH PLAIN", 334)
            client.expect("A" * 12284 + "==", 501)
            client.expect("AUTH PLAIN", 334)
            self.assertEqual(client.expect("A" * 12287, 500).enhanced, "5.5.6")
            client.expect("NOOP", 250)
            client.expect("NOOP " + "x" * 5000, 500)

    def test_X12_a_fourth_try_is_never_heard(self):
        """X12 421 after three failures in a session"""
        server = self.using(self.make_server("tries"))
        (server.folder / "users").touch()
        client = self.clear(server.start())
        for code in (535, 535, 421):
            client.expect("AUTH PLAIN " + plain("nobody", "x"), code)
        self.assertRaises(smtp.Closed, client.reply)

    def test_nothing_may_follow_AUTH_in_the_same_breath(self):
        client = self.clear()
        client.send(f"AUTH PLAIN {plain(ANNA, PASSWORD)}\r\nMAIL FROM:<{ANNA}>\r\n".encode())
        self.assertEqual(client.reply().code, 554)

    # Senders

    def test_A18_the_sender_must_be_the_users(self):
        """A18 553 5.7.1 for another's address"""
        senders = self.files / "senders"
        senders.write_text(f"info@us.example {ANNA}\n@lists.us.example {ANNA}, {BERT}\n")
        server = self.using(self.make_server("senders", senders=str(senders)))
        self.add_users(server)
        client = self.clear(server.start())
        client.expect("AUTH PLAIN " + plain(ANNA, PASSWORD), 235)
        for sender, code in ((ANNA, 250), ("anna+x@us.example", 250), ("info@us.example", 250),
                             ("any@lists.us.example", 250), (BERT, 553), ("x@far.example", 553),
                             ("", 250)):
            with self.subTest(sender):
                reply = client.expect(f"MAIL FROM:<{sender}>", code)
                if code == 553:
                    self.assertEqual(reply.enhanced, "5.7.1")
                client.expect("RSET", 250)
        senders.write_text(f"{BERT} {ANNA}\n")
        server.reload()
        server.wait_for_log("reloaded")
        client.expect(f"MAIL FROM:<{BERT}>", 250)
        senders.write_text("broken\n")
        server.reload()
        problem = server.wait_for_log("config_refused")[0]["problem"]
        self.assertIn("line 1", problem)

    def test_the_author_must_be_the_user_where_that_is_asked_for(self):
        senders = self.files / "authors"
        senders.write_text(f"info@us.example {ANNA}\n")
        server = self.using(self.make_server("authors", senders=str(senders), **{"from": "reject"}))
        self.add_users(server)
        server.start()
        large = b"x" * 70 + b"\r\n"
        cases = ((f"From: {ANNA}", 250), (f"From: Anna <{ANNA.upper()}>", 250),
                 ("From: \"ceo@us.example\" <info@us.example>", 250),
                 (f"From: Anna\r\n <{ANNA}>,\r\n info@us.example\r\nSender: {ANNA}", 250),
                 ("Subject: no author", 250), (f"Reply-To: {BERT}\r\nFrom: {ANNA}", 250),
                 (f"From: {BERT}", 550), (f"from : {BERT}", 550), ("From: x@far.example", 550),
                 (f"From: {ANNA}, {BERT}", 550), (f"From: {ANNA}\r\nFrom: {BERT}", 550),
                 (f"From: {ANNA}\r\n ,\r\n\t{BERT}", 550), ("From: Bert", 550), ("From:", 550),
                 (f"From: {ANNA}\r\nSender: {BERT}", 550),
                 (f"From: (it is) {BERT}, {ANNA}", 550), (f"From: <bert@(x)us.example>, {ANNA}", 550),
                 (f"From: <{BERT} (x)>, {ANNA}", 550), (f"From: <@us.example:{BERT}>, {ANNA}", 550),
                 (f"From: bert @ us.example, {ANNA}", 550), (f"From: <bert\r\n @us.example>, {ANNA}", 550),
                 (f"From: <{BERT}, {ANNA}", 550), (f'From: "{BERT}, {ANNA}', 550),
                 (f'From: (") {BERT}, ("), {ANNA}', 550), (f"From: all: {BERT} (x) x;, {ANNA}", 550),
                 (f"From: =?utf-8?q?{BERT}?= <{ANNA}>", 550), (f"From: \"a\\\"b\" <{ANNA}>", 250),
                 (f"From: =?utf-8?b?Y2VvQGJhbmsuZXhhbXBsZQ==?=, {ANNA}", 550),
                 (f"From: <=?utf-8?q?ceo=40bank.example?=>, {ANNA}", 550), (f"From: Ceo <ceo>, {ANNA}", 550),
                 (f"From: ceo, {ANNA}", 550), (f"From: bank.example!ceo, {ANNA}", 550),
                 (f"From: {ANNA}, ceo%bank.example", 550), (f"From: <ceo\uff20bank.example>, {ANNA}", 550),
                 (f'From: x\\" <{BERT}>, " <{ANNA}>', 550), (f"From: all: {ANNA}, ;", 250),
                 (f"From: , {ANNA} (Anna),", 250), (f"\ufeffFrom: {BERT}\r\nFrom: {ANNA}", 550),
                 (f"X: {'y' * 900}\r\n" * 90 + f"From: {BERT}", 550))
        for number, (header, code) in enumerate(cases):
            client = self.clear(server)
            client.expect("AUTH PLAIN " + plain(ANNA, PASSWORD), 235)
            for body in (b"body\r\n", large * 2000):  # the large one has a file by then
                with self.subTest(header=header[-60:], size=len(body)):
                    client.expect(f"MAIL FROM:<{ANNA}>", 250)
                    client.expect(f"RCPT TO:<{TO}>", 250)
                    client.expect("DATA", 354)
                    client.send(f"{header}\r\nX-Case: {number}\r\n\r\n".encode() + body + b".\r\n")
                    reply = client.reply()
                    self.assertEqual(reply.code, code, reply)
                    if code == 550:
                        self.assertEqual(reply.enhanced, "5.7.1")
        good = 2 * sum(code == 250 for _, code in cases)
        self.peer.wait_for(self.before + good)
        server.wait_until_empty()
        self.assertEqual(len(self.peer.messages), self.before + good)
        self.assertEqual(list((server.spool / "body").rglob("*.eml")), [])

    def test_the_message_is_completed_and_repaired_no_further(self):
        client = self.clear()
        client.expect("AUTH PLAIN " + plain(ANNA, PASSWORD), 235)
        odd = b"X: \xff\r\nfrom : x\r\nTo: a;;b\r\n\r\nhello  \r\n"
        client.message(ANNA, [TO], odd)
        content = self.arrived("ESMTPA").content
        self.assertTrue(content.endswith(odd), content)
        head = content[:-len(odd)]
        self.assertRegex(head, rb"\r\nDate: .*\r\nMessage-ID: <[^>]+>\r\n$")
        client.message(ANNA, [TO], b"Date: D\r\nMessage-ID: <m@x>\r\n\r\n")
        self.assertEqual(self.arrived("ESMTPA").content.count(b"Date:"), 1)

    # Limits

    def test_limits_of_a_user(self):
        server = self.using(self.make_server(
            "limits", messages_per_hour=3, recipients_per_hour=5, new_recipients_per_day=2))
        self.add_users(server)
        client = self.clear(server.start())
        client.expect("AUTH PLAIN " + plain(ANNA, PASSWORD), 235)
        client.expect(f"MAIL FROM:<{ANNA}>", 250)
        for name in "ab":
            client.expect(f"RCPT TO:<{name}@far.example>", 250)
        reply = client.expect("RCPT TO:<c@far.example>", 450)
        self.assertEqual(reply.text, "4.7.1 You have reached your limit of 2 new recipients a day, "
                                     "try again later")
        client.expect("RSET", 250)
        client.expect(f"MAIL FROM:<{ANNA}>", 250)
        for code in (250, 250, 250, 450):
            reply = client.expect("RCPT TO:<a@far.example>", code)
        self.assertIn("5 recipients an hour", reply.text)
        client.expect("RSET", 250)
        client.expect(f"MAIL FROM:<{ANNA}>", 250)
        client.expect("RSET", 250)
        self.assertIn("3 messages an hour", client.expect(f"MAIL FROM:<{ANNA}>", 450).text)
        events = server.wait_for_log("user_limited", count=3, user=ANNA)
        limits = [event["limit"] for event in events]
        self.assertEqual(limits, ["2 new recipients a day", "5 recipients an hour",
                                  "3 messages an hour"])
        self.assertEqual(events[0]["level"], "error")
        self.assertIn(f"{ANNA}: 3 messages an hour, since", server.postrider("status"))
        client = self.clear(server)
        client.expect("AUTH PLAIN " + plain(BERT, PASSWORD), 235)
        client.expect(f"MAIL FROM:<{BERT}>", 250)
        client.close()
        server.restart()
        client = self.clear(server)
        client.expect("AUTH PLAIN " + plain(ANNA, PASSWORD), 235)
        client.expect(f"MAIL FROM:<{ANNA}>", 450)

    # Brute force

    def test_X11_guessing_is_limited_and_locks_nobody_out(self):
        """X11 by address and by account; the owner's known address keeps working"""
        server = self.using(self.make_server("guess", tries_per_client=4, tries_per_account=6,
                                             failure_delay="0s"))
        self.add_users(server)
        server.start()

        def attempt(source, user, password):
            with smtp.Client(server.ports["clear"], source=source) as client:
                client.hello()
                return client.command("AUTH PLAIN " + plain(user, password)).code

        home = "127.0.0.77"
        self.assertEqual(attempt(home, ANNA, PASSWORD), 235)
        self.assertEqual([attempt("127.0.1.1", f"nobody{i}", "x") for i in range(6)],
                         [535] * 4 + [454] * 2)
        answers = [attempt(f"127.0.2.{i}", ANNA, f"guess{i}") for i in range(1, 9)]
        self.assertEqual(answers, [535] * 6 + [454] * 2)
        self.assertEqual(attempt("127.0.2.99", ANNA, PASSWORD), 454)
        self.assertEqual(attempt(home, ANNA, PASSWORD), 235)
        # Accounts that do not exist are limited in the same way.
        answers = [attempt(f"127.0.3.{i}", "ghost", f"guess{i}") for i in range(1, 9)]
        self.assertEqual(answers, [535] * 6 + [454] * 2)
        # A forgotten program at home with the old password is not an attacker.
        self.assertEqual([attempt(home, ANNA, "old") for _ in range(12)], [535] * 12)
        self.assertEqual(attempt(home, ANNA, PASSWORD), 235)
        server.restart()
        for i in range(1, 8):
            attempt(f"127.0.4.{i}", ANNA, f"guess{i}")
        self.assertEqual(attempt("127.0.4.99", ANNA, PASSWORD), 454)
        self.assertEqual(attempt(home, ANNA, PASSWORD), 235)

    def test_X11_an_owner_behind_the_attackers_address_still_gets_in(self):
        """X11 from a known address, by password and by SCRAM; what is broken off counts elsewhere only"""
        server = self.using(self.make_server("nat", tries_per_client=4, tries_per_account=6,
                                             failure_delay="0s"))
        self.add_users(server)
        server.start()
        home, elsewhere = "127.0.0.77", "127.0.0.78"

        def connected(source):
            client = smtp.Client(server.ports["clear"], source=source)
            self.addCleanup(client.close)
            client.hello()
            return client

        def attempt(source, password):
            with connected(source) as client:
                return client.command("AUTH PLAIN " + plain(ANNA, password)).code

        def break_off(source, in_what, code=334):
            client = connected(source)
            client.expect("AUTH SCRAM-SHA-256 " + b64(f"n,,n={ANNA},r=abc"), code)
            if code == 334 and in_what == "cancelled":
                client.expect("*", 501)
            client.close()

        # First messages from elsewhere end with the address's tries, and cost the account none.
        for stranger in range(3):
            for i in range(6):
                break_off(f"127.0.1.{stranger}", ("cancelled", "closed")[i % 2], 334 if i < 4 else 454)
        self.assertEqual(attempt(home, PASSWORD), 235)
        for i in range(12):
            break_off(home, ("cancelled", "closed")[i % 2])
        self.assertEqual(attempt(home, PASSWORD), 235)
        guesses = [attempt(home, f"guess{i}") for i in range(12)]
        self.assertEqual(guesses, [535] * 4 + [454] * 8)
        self.assertEqual(attempt(home, PASSWORD), 235)
        self.assertEqual([attempt(home, f"more{i}") for i in range(6)], [535] * 4 + [454] * 2)
        output = self.run_program(
            "msmtp", "--host=127.0.0.1", f"--port={server.port}", f"--source-ip={home}", "--tls=on",
            "--tls-certcheck=off", "--auth=scram-sha-256", f"--user={ANNA}",
            "--passwordeval=cat password", f"--from={ANNA}", TO, stdin=CONTENT,
            code=None if not (self.home / "password").write_text(PASSWORD) else 0)
        self.assertEqual(output, "")
        self.assertEqual([attempt(elsewhere, f"guess{i}") for i in range(5)], [535] * 4 + [454])
        self.assertEqual(attempt(elsewhere, PASSWORD), 454)

    def test_X13_absent_and_present_users_take_the_same_time(self):
        """X13 medians of the answers differ by less than the noise"""
        server = self.using(self.make_server("timing", tries_per_client=100000,
                                             tries_per_account=100000, failure_delay="0s"))
        self.add_users(server)
        server.start()
        times = {ANNA: [], "ghost@us.example": []}
        rounds = 400 if scenario.FULL else 40
        for i in range(rounds):
            for user in sorted(times, reverse=i % 2 == 0):
                with self.clear(server) as client:
                    begin = server.cpu_time()  # what other work the machine has does not count
                    client.expect("AUTH PLAIN " + plain(user, f"wrong{i}"), 535)
                    times[user].append(server.cpu_time() - begin)
        present, absent = (statistics.median(times[user]) for user in (ANNA, "ghost@us.example"))
        print(f"X13 medians: present {present * 1000:.2f} ms, absent {absent * 1000:.2f} ms")
        self.assertLess(abs(present - absent), 0.25 * present)
        with self.clear(server) as client:  # and SCRAM's salt is made up, the same each time
            def salt(user):
                text = base64.b64decode(client.expect(
                    "AUTH SCRAM-SHA-256 " + b64(f"n,,n={user},r=abc"), 334).text).decode()
                client.expect("*", 501)
                return text.split(",")[1:]
            first = salt("ghost@us.example")
            self.assertEqual(first, salt("ghost@us.example"))
            self.assertEqual(first[1], salt(ANNA)[1])

    def test_hashes_do_not_hold_up_others(self):
        """X11 a flood of logins: sessions that do not log in are answered at once"""
        stop = threading.Event()

        logins, others = [], []

        def flood(number):
            while not stop.is_set():
                with smtp.Client(self.server.ports["clear"]) as client:
                    client.hello()
                    begin = time.monotonic()
                    client.command("AUTH PLAIN " + plain(f"x{number}@us.example", "y"))
                    logins.append(time.monotonic() - begin)

        server, self.server = self.server, self.using(self.make_server(
            "flood", tries_per_client=100000, tries_per_account=100000, failure_delay="0s"))
        try:
            self.add_users(self.server)
            self.server.start()
            threads = [threading.Thread(target=flood, args=[i]) for i in range(12)]
            for thread in threads:
                thread.start()
            wait.until(lambda: len(logins) >= 12, "the flood")
            for _ in range(20):
                begin = time.monotonic()
                with smtp.Client(self.server.ports["mx"]) as client:
                    client.hello()
                    client.expect("NOOP", 250)
                others.append(time.monotonic() - begin)
            stop.set()
            for thread in threads:
                thread.join()
        finally:
            stop.set()
            self.server = server
        # Behind the hashes, each of its steps would take as long as a login.
        self.assertLess(statistics.median(others), statistics.median(logins))

    # The tool, the log

    def test_passwd(self):
        users = self.server.folder / "users"
        before = users.read_text()
        done = self.server.tool("postrider", "passwd", "Dora@us.example", stdin="one\n")
        self.assertIn("password set", done.stdout)
        line, = [line for line in users.read_text().splitlines() if line.startswith("dora@")]
        self.assertRegex(line, r"^dora@us\.example:\$y\$[^:]+:SCRAM-SHA-256,\d+,[^,]+,[^,]+,[^,]+$")
        with self.clear() as client:
            client.expect("AUTH PLAIN " + plain("DORA@us.example", "one"), 235)
        self.server.postrider("passwd", "dora@us.example", "--no-scram", stdin="two\n")
        with self.clear() as client:
            client.expect("AUTH PLAIN " + plain("dora@us.example", "one"), 535)
            client.expect("AUTH PLAIN " + plain("dora@us.example", "two"), 235)
        self.server.postrider("passwd", "dora@us.example", "--delete")
        self.assertEqual(users.read_text(), before)
        self.assertEqual(self.server.tool("postrider", "passwd", "dora@us.example", "--delete",
                                          check=False).returncode, 67)
        self.assertEqual(self.server.tool("postrider", "passwd", "a:b", stdin="x\n",
                                          check=False).returncode, 65)
        self.assertEqual(self.server.tool("postrider", "passwd", "dora", stdin="\n",
                                          check=False).returncode, 65)
        self.assertEqual(users.stat().st_mode & 0o777, 0o600)
        problems = scenario.parallel(
            lambda i: self.server.postrider("passwd", f"p{i}", stdin="x\n"), range(8), 8)
        self.assertEqual(problems, [])
        self.assertEqual(len(re.findall(r"(?m)^p\d:", users.read_text())), 8)

    def test_imported_hashes(self):
        """What other programs have written, also with Dovecot's scheme in front"""
        hashes = {"sha512": subprocess.run([tool("openssl"), "passwd", "-6", "x"], check=True,
                                           stdout=subprocess.PIPE, text=True).stdout.strip()}
        hashes["scheme"] = "{SHA512-CRYPT}" + hashes["sha512"]
        with open(self.server.folder / "users", "a") as file:
            for name, text in hashes.items():
                file.write(f"{name}:{text}\n")
        for name in hashes:
            with self.clear() as client:
                client.expect("AUTH PLAIN " + plain(name, "y"), 535)
                client.expect("AUTH PLAIN " + plain(name, "x"), 235)

    def test_the_three_forms_of_the_log(self):
        """Failed logins as text and JSON say them, and as fail2ban's filter for Postfix reads them"""
        server = self.using(self.make_server("logs"))
        self.add_users(server)
        for form, pattern in (
                ("text", r'auth_failed session=\w+ client=127\.0\.0\.1 mechanism=PLAIN user=anna@us\.example '
                         r'reply="535 5\.7\.8 Authentication failed"'),
                ("json", r'"event":"auth_failed".*"mechanism":"PLAIN","user":"anna@us\.example"'),
                ("postfix", r"postfix/smtpd\[\d+\]: warning: unknown\[127\.0\.0\.1\]: SASL PLAIN "
                            r"authentication failed: 535 5\.7\.8 Authentication failed, "
                            r"sasl_username=anna@us\.example")):
            server.write_config(log={"format": form, "target": str(server.folder / f"log.{form}")})
            server.start()
            with self.clear(server) as client:
                client.expect("AUTH PLAIN " + plain(ANNA, "wrong"), 535)
                client.expect("AUTH PLAIN " + plain(ANNA, PASSWORD), 235)
                client.message(ANNA, [TO], CONTENT)
            server.stop()
            text = (server.folder / f"log.{form}").read_text()
            self.assertRegex(text, pattern)
            self.assertNotIn(b64(PASSWORD), text)
            self.assertNotIn("secret", text)
        self.assertRegex(text, r"client=unknown\[127\.0\.0\.1\], sasl_method=PLAIN, "
                               r"sasl_username=anna@us\.example")


class Dovecot(Submission):
    """A real Dovecot judges passwords behind its auth socket."""

    @classmethod
    def prepare(cls):
        cls.dovecot = cls.shared(RealDovecot(cls.folder / "dovecot"))
        cls.auth = {"dovecot": str(cls.dovecot.socket),
                    "mechanisms": ["PLAIN", "LOGIN", "SCRAM-SHA-256", "OAUTHBEARER"]}

    def test_mechanisms(self):
        self.assertEqual(self.offered(self.tls()), {"PLAIN", "LOGIN", "SCRAM-SHA-256",
                                                    "OAUTHBEARER"})
        for mechanism in ("PLAIN", "LOGIN"):
            self.run_program("swaks", "--server", "127.0.0.1", "--port", self.server.port, "--tls",
                             "--from", ANNA, "--to", TO, "--auth", mechanism, "--auth-user", ANNA,
                             "--auth-password", "secret")
            self.arrived()
        output = self.run_program(
            "msmtp", "--host=127.0.0.1", f"--port={self.server.port}", "--tls=on",
            "--tls-certcheck=off", "--auth=scram-sha-256", f"--user={ANNA}",
            "--passwordeval=echo secret", f"--from={ANNA}", TO, stdin=CONTENT)
        self.assertEqual(output, "")
        self.arrived()
        self.server.wait_for_log("authenticated", mechanism="SCRAM-SHA-256", user=ANNA)
        client = self.tls()
        client.expect("AUTH PLAIN " + plain(ANNA, "wrong"), 535)
        client.expect("AUTH PLAIN " + plain("nobody", "secret"), 535)
        # Without an initial response, and cancelled half way, in a session of its own.
        client = self.tls()
        client.expect("AUTH SCRAM-SHA-256", 334)
        client.expect("*", 501)
        client.expect("AUTH PLAIN " + plain(ANNA, "secret"), 235)

    def test_X11_SCRAM_is_limited_by_account_and_logged_with_its_user(self):
        """X11 wrong proofs for one user from many addresses, judged by Dovecot"""
        server = self.using(self.make_server("guess", **{**self.auth, "tries_per_account": 5,
                                                         "failure_delay": "0s"}))
        server.start()

        def wrong_proof(source, user):
            with smtp.Client(server.ports["clear"], source=source) as client:
                client.hello()
                reply = client.command("AUTH SCRAM-SHA-256 " + b64(f"n,,n={user},r=abc"))
                return reply.code if reply.code != 334 else self.wrong_proof(client, reply)

        answers = [wrong_proof(f"127.0.5.{i}", ANNA) for i in range(1, 13)]
        self.assertEqual(answers, [535] * 5 + [454] * 7)
        self.assertEqual(wrong_proof("127.0.5.99", ANNA.upper()), 454)
        self.assertEqual(wrong_proof("127.0.5.99", BERT), 535)
        failed = server.wait_for_log("auth_failed", 5, user=ANNA)
        self.assertEqual({event["mechanism"] for event in failed}, {"SCRAM-SHA-256"})
        with self.clear(server) as client:  # and a first message that names nobody is none
            client.expect("AUTH SCRAM-SHA-256 " + b64("n,,m=x,r=abc"), 501)

    @staticmethod
    def wrong_proof(client, challenge):
        nonce = base64.b64decode(challenge.text).decode().split(",")[0]
        return client.command(b64(f"c=biws,{nonce},p=" + b64(b"x" * 32))).code

    def forms_of(self, server, users, times=2):
        """Of each user's challenges: what they look like, and whether the salt is the same each time"""
        forms = {}
        for user in users:
            salts, looks = set(), set()
            for _ in range(times):
                with self.clear(server) as client:
                    reply = client.expect("AUTH SCRAM-SHA-256 " + b64(f"n,,n={user},r=abc"), 334)
                    nonce, salt, iterations = base64.b64decode(reply.text).decode().split(",")
                    self.assertTrue(nonce.startswith("r=abc"), nonce)
                    looks.add((len(nonce), len(base64.b64decode(salt[2:], validate=True)), iterations))
                    salts.add(salt)
                    self.assertEqual(self.wrong_proof(client, reply), 535)
            self.assertEqual(len(looks), 1, looks)
            forms[user] = (*looks.pop(), len(salts))
        return forms

    def test_X13_SCRAM_tells_nobody_who_exists(self):
        """X13 who is absent, or has no keys, gets a challenge like the others', and fails at the end"""
        stable = ("{SCRAM-SHA-256}10000," + b64(b"s" * 24) + "," + b64(b"k" * 32) + "," +
                  b64(b"l" * 32))
        others = ["ghost@us.example", "Nobody", "crypt@us.example"]
        for name, password in (("fresh", "{PLAIN}secret"), ("stable", stable)):
            folder = self.own_folder(f"dovecot-{name}")
            dovecot = self.using(RealDovecot(
                folder / "d", users=f"{ANNA}:{password}::::::\n"
                                    "crypt@us.example:{SHA256}" + b64(b"h" * 32) + "::::::\n"))
            server = self.using(self.make_server(
                name, dovecot=str(dovecot.socket), mechanisms=["PLAIN", "SCRAM-SHA-256"],
                tries_per_client=1000, failure_delay="0s"))
            server.start()
            forms = self.forms_of(server, [ANNA, *others])
            self.assertEqual(len(set(forms.values())), 1, forms)
            self.assertEqual(forms[ANNA][1:], (16, "i=4096", 2) if name == "fresh" else
                             (24, "i=10000", 1))
            # And the same after a restart, before anybody who exists has logged in.
            server.restart()
            self.assertEqual(self.forms_of(server, others), {user: forms[user] for user in others})

    def challenge(self, server, name):
        """None: Dovecot took too long, as it may on a busy machine."""
        with self.clear(server) as client:
            reply = client.command("AUTH SCRAM-SHA-256 " + b64(f"n,,n={name},r=abc"))
            self.assertIn(reply.code, (334, 454), reply)
            return reply if reply.code == 334 else None

    def salts_of(self, server, names):
        salts = []
        for name in names:
            reply = wait.until(lambda: self.challenge(server, name), f"a challenge for {name}", wait.DEADLINE * 3)
            salts.append(base64.b64decode(reply.text).decode().split(",")[1])
        return salts

    def test_X13_salts_follow_the_form_that_Dovecot_gives_to_names(self):
        """X13 spellings of one name have one salt, whether it exists or not, where Dovecot has it so"""
        keys = ("{SCRAM-SHA-256}4096," + b64(b"s" * 16) + "," + b64(b"k" * 32) + "," + b64(b"l" * 32))
        for name, user, setting, same in (
                ("whole", ANNA, "", [0, 1, 2, 1, 4]),
                ("realm", ANNA, "auth_default_realm = us.example", [0, 0, 2, 0, 4]),
                ("local", "anna", "auth_username_format = %Ln", [0, 0, 0, 0, 4]),
                ("case", ANNA, "auth_username_format = %u", [0, 1, 2, 3, 4]),
                ("translated", ANNA, 'auth_username_translation = "#@"', [0, 1, 2, 1, 1])):
            folder = self.own_folder(f"form-{name}")
            dovecot = self.using(RealDovecot(folder / "d", users=f"{user}:{keys}::::::\n", more=setting))
            server = self.using(self.make_server(
                f"form-{name}", dovecot=str(dovecot.socket), mechanisms=["PLAIN", "SCRAM-SHA-256"],
                tries_per_client=10000, tries_per_account=10000, failure_delay="0s"))
            server.start()

            def alike(name, server=server):
                salts = self.salts_of(server, [name, f"{name}@us.example", f"{name}@b.example",
                                               f"{name.upper()}@US.example",
                                               f"{name}#us.example"])
                return [salts.index(salt) for salt in salts]
            # Known before anybody who exists has been seen.
            self.assertEqual((alike("ghost"), alike("anna"), alike("ghost")), (same, same, same), name)
            server.restart()
            self.assertEqual(alike("spook"), same)

    def greeting_of(self, dovecot):
        """A connection, which Dovecot has answered if it had a place for it"""
        client = socket.socket(socket.AF_UNIX)
        client.settimeout(2)
        client.connect(str(dovecot.socket))
        client.sendall(b"VERSION\t1\t1\nCPID\t1\n")
        try:
            return client, client.recv(65536)
        except TimeoutError:
            return client, b""

    def test_X13_one_place_at_Dovecot_is_enough_for_any_name(self):
        """X13 with one connection to be had, who is absent ends as who is there with a wrong proof"""
        dovecot = self.using(RealDovecot(self.own_folder("places") / "d",
                                         more="service auth {\n  client_limit = 40\n}"))
        server = self.using(self.make_server(
            "places", dovecot=str(dovecot.socket), mechanisms=["PLAIN", "SCRAM-SHA-256"],
            tries_per_client=1000, failure_delay="0s"))
        server.start()
        users = [ANNA, "ghost@us.example"] * 2
        self.forms_of(server, users, 1)  # all that is to be learned of them is known
        held = []
        self.addCleanup(lambda: [client.close() for client in held])
        while True:
            client, greeting = self.greeting_of(dovecot)
            held.append(client)
            if not greeting:
                break
        held.pop().close()
        held.pop().close()
        for user in users:
            with self.clear(server) as client:
                reply = client.expect("AUTH SCRAM-SHA-256 " + b64(f"n,,n={user},r=abc"), 334)
                self.assertEqual(self.wrong_proof(client, reply), 535, user)

    def scripted(self, name, users, held=()):
        """A server, and what it asks about passwords"""
        path = self.own_folder(name) / "auth"
        asked = self.using(AuthServer(path, users, held))
        server = self.using(self.make_server(
            name, dovecot=str(path), mechanisms=["PLAIN", "SCRAM-SHA-256"], failure_delay="0s",
            tries_per_client=1000))
        return server.start(), asked

    @staticmethod
    def send_first(client, user):
        client.send(("AUTH SCRAM-SHA-256 " + b64(f"n,,n={user},r=abc") + "\r\n").encode())

    def send_wrong_proof(self, client):
        challenge = client.reply()
        self.assertEqual(challenge.code, 334, challenge)
        nonce = base64.b64decode(challenge.text).decode().split(",")[0]
        client.send((b64(f"c=biws,{nonce},p=" + b64(b"x" * 32)) + "\r\n").encode())

    def is_silent(self, client):
        return not select.select([client.socket], [], [], 0)[0]

    @staticmethod
    def refusals(lines):
        """Requests that must be refused, whoever exists"""
        return [line for line in lines if (AuthServer.response(line) or "").startswith("n,,m=")]

    @staticmethod
    def names(lines, user):
        """First messages that name this user"""
        return [line for line in lines if b64(f"n,,n={user},r=abc") in line]

    @staticmethod
    def proofs(lines):
        return [line for line in lines if line.startswith("CONT")]

    def test_X13_a_proof_is_refused_when_Dovecot_refuses_one(self):
        """X13 by its clock and in its queue, for a name that it does not know as for one that it knows"""
        server, dovecot = self.scripted("proofs", [ANNA])
        proofs = []
        while not proofs:  # on a busy machine her challenge may be late too
            asked = len(self.refusals(dovecot.asked))
            client = self.clear(server)
            self.send_first(client, ANNA)
            self.send_wrong_proof(client)
            dovecot.wait_for(lambda lines, asked=asked: self.proofs(lines) or
                             self.refusals(lines)[asked:], "a proof")
            proofs = self.proofs(dovecot.asked)
            self.assertTrue(self.is_silent(client))
            dovecot.refuse()
            self.assertEqual(client.reply().code, 535)
        ghost = "ghost@us.example"
        for is_told_first in (True, False):  # that the name is not known
            asked = len(self.refusals(dovecot.asked))
            named = len(self.names(dovecot.asked, ghost))
            client = self.clear(server)
            self.send_first(client, ghost)
            dovecot.wait_for(lambda lines, named=named: self.names(lines, ghost)[named:], "the name")
            if is_told_first:
                dovecot.refuse()
            self.send_wrong_proof(client)
            found = dovecot.wait_for(lambda lines, asked=asked: self.refusals(lines)[asked:],
                                     "something to refuse")
            self.assertTrue(self.is_silent(client))
            # It names nobody, and counts against nobody.
            self.assertEqual(len(found), 1, found)
            self.assertIn("\tno-penalty\t", found[0])
            self.assertIn("\trip=127.0.0.1\t", found[0])
            self.assertNotIn("ghost", AuthServer.response(found[0]))
            dovecot.refuse()
            self.assertEqual(client.reply().code, 535)

    def test_X13_a_challenge_that_comes_late_ends_as_one_of_nobody(self):
        """X13 a server that is slow for one name; where that user is known, it is waited for"""
        slow, home = BERT, "127.0.6.99"
        server, dovecot = self.scripted("slow", [ANNA, slow], held=[slow])
        for when in ("before it is refused", "never"):
            asked = len(self.refusals(dovecot.asked))
            client = self.clear(server)
            self.send_first(client, slow)
            self.send_wrong_proof(client)
            dovecot.wait_for(lambda lines, asked=asked: self.refusals(lines)[asked:], when)
            if when == "before it is refused":
                dovecot.release()
                dovecot.held.add(slow)
            dovecot.refuse()
            self.assertEqual(client.reply().code, 535, when)
        with smtp.Client(server.ports["clear"], source=home) as client:
            client.hello()
            client.expect("AUTH PLAIN " + plain(slow, "secret"), 235)
        with smtp.Client(server.ports["clear"], source=home) as client:
            client.hello()
            asked = len(self.names(dovecot.asked, slow))
            self.send_first(client, slow)
            dovecot.wait_for(lambda lines: self.names(lines, slow)[asked:], "the name")
            # One who came later has a challenge already.
            with self.clear(server) as other:
                self.send_first(other, "ghost@us.example")
                self.assertEqual(other.reply().code, 334)
            self.assertTrue(self.is_silent(client))
            dovecot.release()
            self.assertIn("N" * 64, base64.b64decode(client.reply().text).decode())

    def test_X13_what_is_refused_beside_a_made_up_challenge_is_on_no_account(self):
        """X13 one line of Dovecot's log is about the name, and its users are not slowed down"""
        folder = self.own_folder("quiet")
        dovecot = self.using(RealDovecot(folder / "d"))
        server = self.using(self.make_server("quiet", dovecot=str(dovecot.socket),
                                             mechanisms=["PLAIN", "SCRAM-SHA-256"],
                                             failure_delay="0s"))
        server.start()
        for user in ("ghost@us.example", ANNA):
            with self.clear(server) as client:
                reply = client.expect("AUTH SCRAM-SHA-256 " + b64(f"n,,n={user},r=abc"), 334)
                self.assertEqual(self.wrong_proof(client, reply), 535)
        # The same process writes these lines in the order of what it was asked.
        log = wait.until(lambda: next((text for text in [(folder / "d" / "log").read_text()]
                                       if "andatory extension" in text), ""), "Dovecot's log")
        self.assertEqual(len([line for line in log.splitlines() if "ghost" in line]), 1, log)
        with self.clear(server) as client:
            client.expect("AUTH PLAIN " + plain(ANNA, "secret"), 235)

    def test_X13_what_is_wrong_with_Dovecot_is_no_refusal(self):
        """X13 a failure of its own that comes late, and a connection that ends; and no question is left"""
        server = self.using(self.make_server("late", dovecot=str(self.files / "fake"),
                                             mechanisms=["PLAIN", "SCRAM-SHA-256"]))
        server.start()
        with FakeDovecot(self.files / "fake", [], tells_forms=False) as fake, self.clear(server) as client:
            challenge = client.expect("AUTH SCRAM-SHA-256 " + b64(f"n,,n={ANNA},r=abc"), 334)
            for one in fake.open:
                one.sendall(b"FAIL\t1\ttemp\n")
            self.assertEqual(self.wrong_proof(client, challenge), 454)
        with FakeDovecot(self.files / "fake", []) as fake, self.clear(server) as client:
            challenge = client.expect("AUTH SCRAM-SHA-256 " + b64(f"n,,n={ANNA},r=abc"), 334)
            for one in fake.open:
                one.shutdown(socket.SHUT_RDWR)
            self.assertEqual(self.wrong_proof(client, challenge), 454)
        # Who breaks off leaves no question behind.
        with FakeDovecot(self.files / "fake", []) as fake:
            client = self.clear(server)
            client.expect("AUTH SCRAM-SHA-256 " + b64(f"n,,n={ANNA},r=abc"), 334)
            client.close()
            for one in fake.open:
                one.settimeout(wait.DEADLINE)
                while one.recv(4096):
                    pass

    def test_X11_SCRAM_that_stops_after_its_first_message_counts(self):
        """X11 for the address, whoever is named and whether they exist; at a known place for nothing"""
        server = self.using(self.make_server("stops", **{**self.auth, "tries_per_client": 3,
                                                         "failure_delay": "0s"}))
        server.start()

        def command(source, line, then=None):
            with smtp.Client(server.ports["clear"], source=source) as client:
                client.hello()
                code = client.command(line).code
                if code == 334 and then:
                    client.expect(then, 501)
                return code

        def first(source, user, then=None):
            return command(source, "AUTH SCRAM-SHA-256 " + b64(f"n,,n={user},r=abc"), then)

        home = "127.0.6.77"
        self.assertEqual(command(home, "AUTH PLAIN " + plain(ANNA, "secret")), 235)
        for source, user in (("127.0.6.1", ANNA), ("127.0.6.2", "ghost@us.example")):
            answers = [first(source, user, (None, "*")[i % 2]) for i in range(5)]
            self.assertEqual(answers, [334] * 3 + [454] * 2)
            self.assertEqual(command(source, "AUTH PLAIN " + plain(BERT, "x")), 454)
        self.assertEqual([first(home, ANNA, (None, "*")[i % 2]) for i in range(5)], [334] * 5)
        self.assertEqual(command(home, "AUTH PLAIN " + plain(ANNA, "secret")), 235)

    def test_garbage_for_a_reply_ends_the_wait(self):
        """A broken auth server costs its client no 25 seconds"""
        server = self.using(self.make_server("garbage", dovecot=str(self.files / "fake"),
                                             mechanisms=["PLAIN", "SCRAM-SHA-256"]))
        server.start()
        for reply in (b"OK\t1\tuser=anna", b"FAIL\t1"):  # what is right works
            with FakeDovecot(self.files / "fake", [reply]):
                client = self.clear(server)
                client.expect("AUTH PLAIN " + plain(ANNA, "x"), 235 if reply[:2] == b"OK" else 535)
        noise = [f"LATER{i}\tx".encode() for i in range(10)]
        with FakeDovecot(self.files / "fake", noise + [b"OK\t1\tuser=anna"]):
            self.clear(server).expect("AUTH PLAIN " + plain(ANNA, "x"), 235)
        for lines in ([b"OK\t1"], [b"OK\t2\tuser=anna"], [b"CONT\t1\t***"], [b"FAIL\t77"],
                      [b"x"] * 100, [b"x" * 20000], [b"OK\t1\tuser=anna\t" + b"x" * 20000]):
            with self.subTest(lines[0][:20]), FakeDovecot(self.files / "fake", lines):
                begin = time.monotonic()
                self.clear(server).expect("AUTH PLAIN " + plain(ANNA, "x"), 454)
                self.assertLess(time.monotonic() - begin, 20)

    def test_without_Dovecot_clients_come_back(self):
        server = self.using(self.make_server("gone", dovecot=str(self.files / "no-socket")))
        client = self.clear(server.start())
        client.expect("AUTH PLAIN " + plain(ANNA, "secret"), 454)
        self.assertTrue(server.wait_for_log("auth_trouble", what="ask Dovecot"))


class FakeDovecot:
    """An auth server that answers every request with these lines, in one piece, and stays open; but one
    about the form of names as Dovecot would."""

    def __init__(self, path, lines, tells_forms=True):
        self.path, self.lines, self.tells_forms = path, lines, tells_forms
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(path))
        self.listener.listen()
        self.open = []
        self.thread = threading.Thread(target=self.serve)
        self.thread.start()

    def serve(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            self.open.append(client)
            client.sendall(b"VERSION\t1\t2\nMECH\tPLAIN\nDONE\n")
            received = b""
            while b"AUTH\t" not in received or not received.endswith(b"\n"):
                more = client.recv(4096)
                if not more:
                    break
                received += more
            request = next((line for line in received.decode().split("\n") if line.startswith("AUTH\t")), "")
            about_form = request and self.tells_forms and form_answer(request)
            lines = [about_form.encode()] if about_form else self.lines
            try:
                client.sendall(b"".join(line + b"\n" for line in lines))
            except OSError:
                pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.thread.join()
        for client in self.open:
            client.close()
        self.path.unlink()


class RealDovecot:
    def __init__(self, folder, delay=0, users=f"{ANNA}:{{PLAIN}}secret::::::\n", more=""):
        folder.mkdir()
        me = pwd.getpwuid(os.getuid()).pw_name
        self.socket = folder / "run" / "auth-client"
        (folder / "passwd").write_text(users)
        config = folder / "dovecot.conf"
        config.write_text(f"""
base_dir = {folder}/run
state_dir = {folder}/state
log_path = {folder}/log
protocols =
ssl = no
listen = 127.0.0.1
default_internal_user = {me}
default_login_user = {me}
default_internal_group = {me}
auth_mechanisms = plain login scram-sha-256
auth_failure_delay = {delay}
auth_verbose = yes
{more}
passdb {{
  driver = passwd-file
  args = {folder}/passwd
}}
userdb {{
  driver = static
  args = uid={os.getuid() or 1000} gid={os.getgid() or 1000} home=/nonexistent
}}
service auth {{
  unix_listener {self.socket.name} {{
    mode = 0666
  }}
  chroot =
}}
service anvil {{
  chroot =
}}
""")
        self.process = subprocess.Popen(
            [tool("dovecot"), "-F", "-c", str(config)], stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait.until(self.socket.exists, lambda: "Dovecot's socket; " + (
            (folder / "log").read_text() if (folder / "log").exists() else "no log"))

    def stop(self):
        self.process.terminate()
        self.process.wait(wait.DEADLINE)


class Certificates(Submission):
    """EXTERNAL by client certificate."""

    @classmethod
    def prepare(cls):
        certificates_file = cls.files / "certificates"
        certificates_file.write_text(f"{cls.client_pair.fingerprint} {ANNA}\n")
        cls.auth = {"certificates": str(certificates_file)}

    def test_EXTERNAL(self):
        client = self.tls(with_context=certificates.context(pair=self.client_pair))
        self.assertEqual(self.offered(client), {"EXTERNAL"})
        client.expect("AUTH EXTERNAL " + b64(BERT), 535)
        client.expect("AUTH EXTERNAL =", 235)
        client.message(ANNA, [TO], CONTENT)
        self.arrived()
        client = self.tls(with_context=certificates.context(pair=self.client_pair))
        self.assertEqual(client.expect("AUTH EXTERNAL", 334).text, "")
        client.expect(b64(ANNA), 235)

    def test_without_the_certificate_it_is_not_offered(self):
        client = self.tls()
        self.assertEqual(self.offered(client), set())
        client.expect("AUTH EXTERNAL =", 504)
        stranger = certificates.Pair(self.files, "stranger")
        client = self.tls(with_context=certificates.context(pair=stranger))
        self.assertEqual(self.offered(client), set())


SECRET = "a secret of more than thirty-two octets"


def jwt(secret=SECRET, **claims):
    text = b64url(b'{"alg":"HS256"}') + "." + b64url(json.dumps(
        {"email": ANNA, "exp": int(time.time()) + 600, "iss": "https://idp.test", **claims}).encode())
    return text + "." + b64url(hmac.new(secret.encode(), text.encode(), hashlib.sha256).digest())


def bearer(token, user=ANNA):
    return b64(f"n,a={user},\x01auth=Bearer {token}\x01\x01")


def xoauth2(token, user=ANNA):
    return b64(f"user={user}\x01auth=Bearer {token}\x01\x01")


class Tokens(Submission):
    """OAUTHBEARER and XOAUTH2 by signed tokens."""

    @classmethod
    def prepare(cls):
        keys = cls.files / "keys"
        keys.write_text("secret:" + SECRET + "\n")
        cls.auth = {"oauth_keys": str(keys), "oauth_issuer": "https://idp.test"}

    def test_tokens(self):
        self.assertEqual(self.offered(self.clear()), {"OAUTHBEARER", "XOAUTH2"})
        for mechanism, form in (("OAUTHBEARER", bearer), ("XOAUTH2", xoauth2)):
            client = self.tls()
            client.expect(f"AUTH {mechanism} {form(jwt())}", 235)
            client.message(ANNA, [TO], CONTENT)
            self.arrived()
            for bad in (jwt(exp=1), jwt(iss="https://evil.test"), jwt(email=BERT), "opaque"):
                with self.subTest(mechanism + " " + bad[:8]):
                    client = self.clear()
                    reply = client.expect(f"AUTH {mechanism} {form(bad)}", 334)
                    self.assertIn("status", json.loads(base64.b64decode(reply.text)))
                    client.expect("AQ==", 535)

    def test_curl(self):
        (self.home / "mail").write_bytes(CONTENT)
        for mechanism in ("OAUTHBEARER", "XOAUTH2"):
            self.run_program("curl", "-sS", "-k", "--ssl-reqd",
                             f"smtp://127.0.0.1:{self.server.port}", "--mail-from", ANNA,
                             "--mail-rcpt", TO, "-T", "mail", "-u", f"{ANNA}:", "--oauth2-bearer",
                             jwt(), "--login-options", f"AUTH={mechanism}")
            self.arrived()

    def test_msmtp(self):
        for mechanism in ("oauthbearer", "xoauth2"):
            (self.home / "token").write_text(jwt())
            self.run_program("msmtp", "--host=127.0.0.1", f"--port={self.server.port}", "--tls=on",
                             "--tls-certcheck=off", f"--auth={mechanism}", f"--user={ANNA}",
                             "--passwordeval=cat token", f"--from={ANNA}", TO, stdin=CONTENT)
            self.arrived()


    def test_a_claim_counts_as_it_stands(self):
        """Who may choose a name elsewhere becomes nobody else by its preparation here"""
        def attempt(user=ANNA, **claims):
            with self.clear() as client:
                token = jwt(**claims)
                code = client.command(f"AUTH OAUTHBEARER {bearer(token, user)}").code
                return code if code == 235 else client.expect("AQ==", 535).code

        self.assertEqual(attempt(email="Anna@US.example"), 235)
        for alias in ("\uff41nna@us.example", "an\u00adna@us.example", "ann\u00aa@us.example",
                      "\u00a0anna@us.example", "anna@us.example "):
            for user in (ANNA, alias):
                with self.subTest(ascii(alias) + " as " + ascii(user)):
                    self.assertEqual(attempt(user, email=alias), 535)
        self.assertEqual(attempt(email_verified="true"), 235)
        for no in ("false", 0, None, False):
            self.assertEqual(attempt(email_verified=no), 535, no)

    def test_a_file_that_is_no_key_never_becomes_a_secret(self):
        """`check`, start and reload refuse it; after a reload the keys are the old ones"""
        keys = self.files / "broken-keys"
        keys.write_text("secret:" + SECRET + "\n")
        server = self.using(self.make_server("broken", **{**self.auth, "oauth_keys": str(keys)}))
        server.start()

        def attempt(token):
            with self.clear(server) as client:
                code = client.command(f"AUTH OAUTHBEARER {bearer(token)}").code
                return code if code == 235 else client.expect("AQ==", 535).code

        public = '{"keys": [{"kty": "RSA", "kid": "1", "e": "AQAB", "n": "sXchDaQebHnPiGvyDOAT4saGE'
        for count, text in enumerate((public, "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABAQDYToV4zuhUA2kKP",
                                      "<html><body>502 Bad Gateway</body></html>", SECRET), 1):
            with self.subTest(text[:10]):
                keys.write_text(text + "\n")
                server.reload()
                problem = server.wait_for_log("config_refused", count)[-1]["problem"]
                self.assertIn("no usable key", problem)
                self.assertEqual(attempt(jwt(secret=text)), 235 if text == SECRET else 535)
                self.assertEqual(attempt(jwt()), 235)
                done = server.tool("postrider", "check", check=False)
                self.assertEqual(done.returncode, 78, done.stdout + done.stderr)
                self.assertRegex(done.stderr, r":\d+: auth\.oauth_keys: .*no usable key")
        server.stop()
        done = server.tool("postrider", "run", check=False)
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("no usable key", done.stderr)


class Introspection(Submission):
    """Opaque tokens, by RFC 7662 over HTTPS and HTTP."""

    @classmethod
    def prepare(cls):
        cls.endpoint = cls.shared(Endpoint(cls.pair))
        cls.client_file = cls.files / "oauth-client"
        cls.client_file.write_text("mx:s3cret %\n")
        cls.auth = {"oauth_introspect": f"https://localhost:{cls.endpoint.port}/introspect",
                    "oauth_roots": str(cls.pair.certificate), "oauth_client": str(cls.client_file)}

    def try_tokens(self, server):
        for mechanism, form in (("OAUTHBEARER", bearer), ("XOAUTH2", xoauth2)):
            with self.clear(server) as client:
                client.expect(f"AUTH {mechanism} {form('good-token')}", 235)
            for bad in ("stale-token", "berts-token"):
                with self.clear(server) as client:
                    client.expect(f"AUTH {mechanism} {form(bad)}", 334)
                    client.expect("AQ==", 535)
            with self.clear(server) as client:
                client.expect(f"AUTH {mechanism} {form('broken-token')}", 454)

    def test_over_https(self):
        self.try_tokens(self.server)
        self.assertEqual(self.endpoint.authorization,
                         "Basic " + b64("mx:" + urllib.parse.quote("s3cret %")))

    def test_over_http(self):
        plain_endpoint = self.using(Endpoint(None))
        server = self.using(self.make_server("http", oauth_introspect=
                            f"http://127.0.0.1:{plain_endpoint.port}/introspect", oauth_roots="",
                            oauth_client=""))
        self.try_tokens(server.start())

    def test_an_endpoint_with_an_untrusted_certificate_is_not_asked(self):
        server = self.using(self.make_server("untrusted", **{
            **self.auth, "oauth_roots": str(self.client_pair.certificate)}))
        before = self.endpoint.asked
        client = self.clear(server.start())
        client.expect("AUTH XOAUTH2 " + xoauth2("good-token"), 454)
        self.assertEqual(self.endpoint.asked, before)
        self.assertTrue(server.wait_for_log("auth_trouble", what="introspect a token"))


class Endpoint:
    TOKENS = {"good-token": ANNA, "berts-token": BERT}

    def __init__(self, pair):
        self.authorization, self.asked = None, 0
        endpoint = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                endpoint.asked += 1
                endpoint.authorization = self.headers["Authorization"]
                form = urllib.parse.parse_qs(
                    self.rfile.read(int(self.headers["Content-Length"])).decode())
                token, = form["token"]
                user = Endpoint.TOKENS.get(token)
                answer = json.dumps({"active": True, "email": user} if user else {"active": False})
                self.send_response(500 if token == "broken-token" else 200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer.encode())

            def log_message(self, *_):
                pass

        self.httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        if pair:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(pair.certificate, pair.key)
            self.httpd.socket = context.wrap_socket(self.httpd.socket, server_side=True)
        self.port = self.httpd.server_address[1]
        self.thread = threading.Thread(target=self.httpd.serve_forever)
        self.thread.start()

    def stop(self):
        self.httpd.shutdown()
        self.thread.join()
        self.httpd.server_close()


@unittest.skipUnless(scenario.is_root(), "a PAM service needs a file in /etc/pam.d: run as root")
class Pam(Submission):
    """PAM by its helper process; pam_exec stands for any module."""

    @classmethod
    def prepare(cls):
        script = cls.files / "judge"
        script.write_text('#!/bin/sh\nread -r p\n[ "$PAM_USER/$p" = "anna@us.example/secret" ]\n')
        script.chmod(0o755)
        for folder in (cls.folder, cls.files):
            folder.chmod(0o755)
        cls.service = f"postrider-test-{os.getpid()}"
        cls.service_file = "/etc/pam.d/" + cls.service
        with open(cls.service_file, "w") as file:
            file.write(f"auth [success=1 default=ignore] pam_exec.so expose_authtok quiet {script}\n"
                       "auth requisite pam_deny.so\nauth required pam_permit.so\n"
                       "account required pam_permit.so\n")
        cls.addClassCleanup(os.unlink, cls.service_file)
        cls.auth = {"pam": cls.service}

    def test_PAM(self):
        self.assertEqual(self.offered(self.clear()), {"PLAIN", "LOGIN"})
        with self.clear() as client:
            client.expect("AUTH PLAIN " + plain(ANNA, "secret"), 235)
            client.message(ANNA, [TO], CONTENT)
            self.arrived("ESMTPA")
        with self.clear() as client:
            client.expect("AUTH PLAIN " + plain(ANNA, "wrong"), 535)
            client.expect("AUTH PLAIN " + plain("nobody", "secret"), 535)

    def helper_of(self, server):
        """The process id of the daemon's, or None."""
        for path in pathlib.Path("/proc").glob("[0-9]*"):
            try:
                words = (path / "cmdline").read_bytes().split(b"\0")
                parent = int((path / "stat").read_text().rpartition(")")[2].split()[1])
                above = int(pathlib.Path(f"/proc/{parent}/stat").read_text().rpartition(")")[2].split()[1])
            except (OSError, ValueError, IndexError):
                continue
            if words[0] == b"postrider-pam" and server.process.pid == above:
                self.assertEqual(words[1], self.service.encode(), "the service is not a word of the daemon's")
                return int(path.name)
        return None

    def test_the_helper_ends_with_the_daemon(self):
        server = self.using(self.make_server("ends", pam=self.service))
        server.start()
        helper = wait.until(lambda: self.helper_of(server), "the helper")
        server.kill()
        wait.until(lambda: not os.path.exists(f"/proc/{helper}"), "the helper's end")

    def test_a_helper_that_dies_is_started_again_and_told(self):
        server = self.using(self.make_server("again", pam=self.service))
        server.start()
        helper = wait.until(lambda: self.helper_of(server), "the helper")
        os.kill(helper, 9)
        wait.until(lambda: not os.path.exists(f"/proc/{helper}"), "its end, and no zombie")
        with smtp.Client(server.ports["clear"]) as client:  # waits in its socket until it is there
            client.hello()
            client.expect("AUTH PLAIN " + plain(ANNA, "secret"), 235)
        self.assertNotEqual(wait.until(lambda: self.helper_of(server), "another"), helper)
        event = server.wait_for_log("pam_helper_ended")[0]
        self.assertEqual((event["level"], event["how"]), ("error", "signal 9"))
        self.assertIn("signal 9", server.postrider("status"))

    def test_a_reload_gives_the_helper_its_service(self):
        server = self.using(self.make_server("late"))
        server.start()
        server.write_config(auth={"failure_delay": "50ms", "clear": True, "pam": self.service})
        server.reload()
        server.wait_for_log("reloaded")
        wait.until(lambda: self.helper_of(server), "the helper")
        with smtp.Client(server.ports["clear"]) as client:
            client.hello()
            client.expect("AUTH PLAIN " + plain(ANNA, "secret"), 235)

    def test_a_delay_of_a_refusal_keeps_nobody_waiting(self):
        """More guesses than there are threads and places for questions, each with PAM's delay; the owner
        is judged meanwhile."""
        service = self.service + "-delay"
        with open(self.service_file) as usual, open("/etc/pam.d/" + service, "w") as file:
            file.write("auth optional pam_faildelay.so delay=14000000\n" + usual.read())
        self.addCleanup(os.unlink, "/etc/pam.d/" + service)
        server = self.using(self.make_server("delay", pam=service))
        server.start()
        clients = [smtp.Client(server.ports["clear"], source=f"127.0.0.{2 + number}")
                   for number in range(40)]
        try:
            for number, client in enumerate(clients):
                client.hello()
                client.send(b"AUTH PLAIN " + plain(f"user{number}", "wrong").encode() + b"\r\n")
            with smtp.Client(server.ports["clear"]) as owner:
                owner.hello()
                owner.expect("AUTH PLAIN " + plain(ANNA, "secret"), 235)
            waiting = [client for client in clients
                       if not select.select([client.socket], [], [], 0)[0]]
            # 8 threads ask: were each held up, 32 would have to be answered before it is her turn.
            self.assertGreater(len(waiting), 10, "the owner waited for the refusals")
            for client in clients:
                self.assertEqual(client.reply().code, 535)
        finally:
            for client in clients:
                client.close()

    def test_a_client_does_not_take_all_places(self):
        """Of one client, 8 questions wait; the owner at another place is judged."""
        slow = self.files / "slow"
        gate = self.files / "gate"
        slow.write_text(f'#!/bin/sh\nread -r p\n[ "$p" = secret ] && exit 0\n'
                        f'while [ ! -e {gate} ]; do sleep 0.05; done\nexit 1\n')
        slow.chmod(0o755)
        service = self.service + "-slow"
        with open("/etc/pam.d/" + service, "w") as file:
            file.write(f"auth [success=1 default=ignore] pam_exec.so expose_authtok quiet {slow}\n"
                       "auth requisite pam_deny.so\nauth required pam_permit.so\n"
                       "account required pam_permit.so\n")
        self.addCleanup(os.unlink, "/etc/pam.d/" + service)
        server = self.using(self.make_server("places", pam=service, tries_per_client=1000,
                                             tries_per_account=1000))
        server.start()
        for _ in range(3):  # and who had no place gets one when there are some again
            self.ask_all_at_once(server, gate)

    def ask_all_at_once(self, server, gate):
        gate.unlink(missing_ok=True)
        clients = [smtp.Client(server.ports["clear"]) for _ in range(12)]
        try:
            for client in clients:
                client.hello()
                client.send(b"AUTH PLAIN " + plain(ANNA, "wrong").encode() + b"\r\n")
            refused = []
            def told():
                for client in clients:
                    if client not in refused and bool(select.select([client.socket], [], [], 0)[0]):
                        self.assertEqual(client.reply().code, 454)
                        refused.append(client)
                return len(refused) >= 4
            wait.until(told, lambda: f"four without a place, not {len(refused)}")
            gate.write_text("")
            for client in clients:
                if client not in refused:
                    self.assertEqual(client.reply().code, 535)
        finally:
            for client in clients:
                client.close()


if __name__ == "__main__":
    scenario.main()
