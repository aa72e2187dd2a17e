#!/usr/bin/python3
"""Logging in to a smarthost: every mechanism, with a password, and what wrong credentials do; and a
real Dovecot as the smarthost, with access tokens too."""
import json
import os
import re
import unittest

from support_py import authority, scenario, smarthost, token_endpoint, wait
from support_py.relaying import CONTENT, USER, Relaying
from support_py.submission_dovecot import SubmissionDovecot

ACCOUNT = {USER: "se cret"}


class Login(Relaying):
    def test_each_mechanism_logs_in_the_strongest_first(self):
        for offered, wanted in [(["PLAIN"], "PLAIN"), (["LOGIN"], "LOGIN"),
                                (["CRAM-MD5", "PLAIN"], "CRAM-MD5"),
                                (["LOGIN", "PLAIN", "CRAM-MD5", "SCRAM-SHA-256"], "SCRAM-SHA-256")]:
            with self.subTest(wanted):
                host = self.using(smarthost.Smarthost(self.certificate, offered, ACCOUNT))
                server = self.relaying(host, "user = us@relay.example\npassword = se cret\n")
                server.send("a@us.example", "b@far.example", CONTENT)
                wait.until(lambda host=host: host.messages, "the message")
                self.assertEqual(host.logins, [(wanted, "us@relay.example", True)])

    def refuses_to_start(self, credentials, mode, why):
        host = self.using(smarthost.Smarthost(self.certificate, ["PLAIN"], ACCOUNT))
        server = self.relaying(host, credentials, mode=mode, start=False)
        server.start(ready=False)
        process, server.process = server.process, None
        self.assertNotEqual(process.wait(wait.DEADLINE), 0)
        self.assertIn(why, server.stderr())
        self.assertEqual(process.returncode, os.EX_CONFIG)

    def test_wrong_credentials_wait_and_raise_an_alarm(self):
        host = self.using(smarthost.Smarthost(self.certificate, ["PLAIN"], ACCOUNT))
        server = self.relaying(host, "user = us@relay.example\npassword = wrong\n")
        server.send("a@us.example", "b@far.example", CONTENT)
        wait.until(lambda: "credentials_refused" in server.log_file.read_text(), "the alarm")
        wait.until(lambda: "ALARM         the credentials of us@relay.example are refused" in
                   str(server.postrider("status")), "the alarm in status")
        self.assertEqual(host.refused, ["PLAIN"])
        events = [json.loads(line) for line in server.log_file.read_text().splitlines()]
        self.assertFalse([one for one in events if one.get("verdict") == "bounced"])

    def test_no_password_goes_out_in_clear(self):
        host = self.using(smarthost.Smarthost(self.certificate, ["PLAIN"], ACCOUNT, tls=False))
        server = self.relaying(host, "user = us@relay.example\npassword = se cret\n")
        server.send("a@us.example", "b@far.example", CONTENT)
        wait.until(lambda: "offers no STARTTLS" in server.log_file.read_text(), "the refusal")
        self.assertEqual((host.logins, host.refused), ([], []))

    def test_an_impostor_hears_of_no_login(self):
        """A certificate that its owner has made for himself, one for another name, and STARTTLS cut
        out: no AUTH, with a password or a token."""
        everything = ["PLAIN", "LOGIN", "CRAM-MD5", "SCRAM-SHA-256", "XOAUTH2", "OAUTHBEARER"]
        token = self.own_folder("token") / "print"
        token.write_text("#!/bin/sh\necho s3cret\n")
        token.chmod(0o755)
        evil = authority.Authority(self.folder / "evil").sign("localhost")
        other = self.authority.sign("other.example")
        for certificate, tls in ((evil, True), (other, True), (self.certificate, False)):
            for secret in ("password = se cret", f"token_command = {token}"):
                host = self.using(smarthost.Smarthost(certificate, everything, ACCOUNT, tls=tls))
                server = self.relaying(host, f"user = {USER}\n{secret}\n", tls="verify",
                                       tls_names="localhost")
                self.send(server)
                told = server.wait_for_log("attempted", verdict="deferred")[0]
                self.assertIn("TLS is required", told["reason"])
                self.assertEqual((host.logins, host.refused, host.messages), ([], [], []))

    def test_a_file_that_others_may_read_is_not_used(self):
        self.refuses_to_start("user = u\npassword = p\n", 0o644, "may be read by others")


    def test_a_password_goes_out_prepared(self):
        """RFC 4013: compatibility forms become one; LOGIN sends what cannot be prepared as it is."""
        accounts = {USER: "se\u00a0cret\u00ad \u2168"}  # as somebody may have typed it
        for mechanism, known in (("PLAIN", "se cret IX"), ("SCRAM-SHA-256", "se cret IX")):
            with self.subTest(mechanism):
                host = self.using(smarthost.Smarthost(self.certificate, [mechanism], {USER: known}))
                server = self.relaying(host, f"user = {USER}\npassword = {accounts[USER]}\n")
                self.send_on(server, host)
        odd = "a\u0627"  # both directions: prohibited
        host = self.using(smarthost.Smarthost(self.certificate, ["PLAIN", "LOGIN"], {USER: odd}))
        server = self.relaying(host, f"user = {USER}\npassword = {odd}\n")
        self.send_on(server, host)
        self.assertEqual(host.logins, [("LOGIN", USER, True)])

    def test_the_alarm_ends_when_the_credentials_are_right(self):
        host = self.using(smarthost.Smarthost(self.certificate, ["PLAIN"], ACCOUNT))
        server = self.relaying(host, f"user = {USER}\npassword = wrong\n")
        self.send(server)
        self.wait_for_alarm(server, f"the credentials of {USER} are refused")
        server.credentials.write_text(f"user = {USER}\npassword = se cret\n")
        server.reload()
        wait.until(lambda: host.messages, "the message")
        self.assert_no_alarm(server)

    def test_check_tells_the_lines_of_the_file(self):
        host = self.using(smarthost.Smarthost(self.certificate, ["PLAIN"], ACCOUNT))
        server = self.relaying(host, "user = u\npasword = secret-1\npassword = p\npassword = q\n"
                               "client_id = x\nmechanisms = XOAUTH2 GSSAPI\nnonsense\n", start=False)
        done = server.tool("postrider", "check", check=False)
        self.assertEqual(done.returncode, os.EX_CONFIG)
        told = [line.removeprefix(f"{server.credentials}:") for line in
                done.stdout.splitlines() + done.stderr.splitlines()]
        for wanted in ("2: pasword: unknown key; expected user, password,", "4: password: is given twice",
                       "5: client_id: is given without token_endpoint; expected both",
                       "6: mechanisms: \"GSSAPI\" is not a mechanism; expected", "7: is not a setting; expected key = value"):
            self.assertTrue([one for one in told if one.startswith(wanted)], (wanted, told))
        self.assertNotIn("secret-1", done.stdout + done.stderr)
        server.credentials.write_text("user = u\npassword = p\n")
        self.assertEqual(server.tool("postrider", "check").returncode, 0)
        server.credentials.unlink()
        done = server.tool("postrider", "check", check=False)
        self.assertRegex(done.stdout + done.stderr,
                         r"postrider.toml:\d+: route\[0\].credentials: \".*/relay\" cannot be opened")


@unittest.skipUnless(scenario.is_root(), "needs root")
class RealDovecot(Relaying):
    """Dovecot's submission service as the smarthost."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.sink = cls.shared(scenario.sink.Sink())
        folder = cls.folder / "dovecot"
        folder.mkdir()
        cls.dovecot = cls.shared(SubmissionDovecot(
            folder, cls.certificate, cls.sink, {USER: "se cret"},
            "plain login scram-sha-256 oauthbearer xoauth2"))

    def arrives(self, server):
        before = len(self.sink.messages)
        self.send(server)
        wait.until(lambda: len(self.sink.messages) > before,
                   lambda: server.log_file.read_text()[-2000:] + self.dovecot.report()[-2000:])
        self.assertIn(b"Subject: by a smarthost", self.sink.messages[-1].content)

    def logged_in(self, mechanism):
        return len(re.findall(rf"Login: user=<{USER}>, method={mechanism},", self.dovecot.report()))

    def test_passwords(self):
        for mechanism in ("PLAIN", "LOGIN", "SCRAM-SHA-256"):
            with self.subTest(mechanism):
                server = self.relaying(self.dovecot, f"user = {USER}\npassword = se cret\n"
                                       f"mechanisms = {mechanism}\n")
                self.arrives(server)
                self.assertEqual(self.logged_in(mechanism), 1)

    def test_a_wrong_password(self):
        server = self.relaying(self.dovecot, f"user = {USER}\npassword = wrong\n")
        self.send(server)
        self.wait_for_alarm(server, f"the credentials of {USER} are refused")
        self.assert_nothing_bounced(server)

    def test_tokens(self):
        for mechanism in ("OAUTHBEARER", "XOAUTH2"):
            with self.subTest(mechanism):
                endpoint = self.using(token_endpoint.TokenEndpoint(self.certificate, good=set()))
                server = self.relaying(
                    self.dovecot, endpoint.credentials(USER, mechanisms=mechanism))
                tokens = self.dovecot.introspection.tokens
                endpoint.good = Users(tokens)
                self.arrives(server)
                self.assertEqual(self.logged_in(mechanism), 1)
                self.end_connection(server)
                tokens.clear()  # Dovecot refuses by the challenge of RFC 7628, then 535
                self.arrives(server)
                self.assertEqual((len(endpoint.asked), self.logged_in(mechanism)), (2, 2))
                self.end_connection(server)
                tokens.clear()
                endpoint.good = None
                self.send(server)
                self.wait_for_alarm(server, f"the credentials of {USER} are refused")
                self.assertIn("status", server.log("credentials_refused")[0]["detail"])
                self.assert_nothing_bounced(server)


class Users(dict):
    """A set of tokens, as the endpoint sees Dovecot's table."""

    def __init__(self, tokens):
        super().__init__()
        self.tokens = tokens

    def add(self, token):
        self.tokens[token] = USER


if __name__ == "__main__":
    scenario.main()
