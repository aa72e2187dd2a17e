#!/usr/bin/python3
"""Logging in to a smarthost: every mechanism, tokens that run out, and what wrong credentials do."""
import json

from support_py import authority, scenario, smarthost, wait

CONTENT = b"From: <a@us.example>\r\nSubject: by a smarthost\r\n\r\nhello\r\n"
ACCOUNT = {"us@relay.example": "se cret"}


class Login(scenario.Scenario):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.certificate = authority.Authority(cls.folder / "ca").sign("relay.example")

    def relaying(self, host, credentials, mode=0o600, start=True, **route):
        path = self.own_folder("credentials") / "relay"
        path.write_text(credentials)
        path.chmod(mode)
        return self.daemon(start=start, delivery={"retry": ["1h"]}, route=[{
            "domain": "*", "next_hop": f"smtp://127.0.0.1:{host.port}", "credentials": str(path),
            **{"tls": "require", **route}}])

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

    def test_a_refused_token_is_renewed_once_and_then_kept(self):
        for mechanism in ("OAUTHBEARER", "XOAUTH2"):
            with self.subTest(mechanism):
                host = self.using(smarthost.Smarthost(self.certificate, [mechanism],
                                                      tokens={"token-2"}))
                folder = self.own_folder("tokens")
                command = folder / "command"
                command.write_text(f"#!/bin/sh\necho x >> {folder}/calls\n"
                                   f"echo token-$(wc -l < {folder}/calls)\n")
                command.chmod(0o755)
                server = self.relaying(
                    host, f"user = us@relay.example\ntoken_command = {command}\n")
                for number in (1, 2):
                    server.send("a@us.example", "b@far.example", CONTENT)
                    wait.until(lambda n=number, host=host: len(host.messages) == n, "the message")
                self.assertEqual(host.refused, [mechanism])
                self.assertEqual(host.logins[0], (mechanism, "us@relay.example", True))
                self.assertEqual((folder / "calls").read_text(), "x\nx\n")

    def test_wrong_credentials_wait_and_raise_an_alarm(self):
        host = self.using(smarthost.Smarthost(self.certificate, ["PLAIN"], ACCOUNT))
        server = self.relaying(host, "user = us@relay.example\npassword = wrong\n")
        server.send("a@us.example", "b@far.example", CONTENT)
        wait.until(lambda: "credentials_refused" in server.log_file.read_text(), "the alarm")
        status = server.postrider("status")
        print("  " + [line for line in str(status).splitlines() if "ALARM" in line][0][:300])
        self.assertIn("ALARM: the credentials of us@relay.example are refused", str(status))
        self.assertEqual(host.refused, ["PLAIN"])
        events = [json.loads(line) for line in server.log_file.read_text().splitlines()]
        self.assertFalse([one for one in events if one.get("verdict") == "bounced"])

    def test_no_password_goes_out_in_clear(self):
        host = self.using(smarthost.Smarthost(self.certificate, ["PLAIN"], ACCOUNT, tls=False))
        server = self.relaying(host, "user = us@relay.example\npassword = se cret\n")
        server.send("a@us.example", "b@far.example", CONTENT)
        wait.until(lambda: "offers no STARTTLS" in server.log_file.read_text(), "the refusal")
        self.assertEqual((host.logins, host.refused), ([], []))

    def test_a_file_that_others_may_read_is_not_used(self):
        host = self.using(smarthost.Smarthost(self.certificate, ["PLAIN"], ACCOUNT))
        server = self.relaying(host, "user = u\npassword = p\n", mode=0o644, start=False)
        with self.assertRaisesRegex(AssertionError, "others may read this file"):
            server.start()


if __name__ == "__main__":
    scenario.main()
