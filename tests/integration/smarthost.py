#!/usr/bin/python3
"""Logging in to a smarthost: every mechanism with a password, and what wrong credentials do."""
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

    def refuses_to_start(self, credentials, mode, why):
        host = self.using(smarthost.Smarthost(self.certificate, ["PLAIN"], ACCOUNT))
        server = self.relaying(host, credentials, mode=mode, start=False)
        server.start(ready=False)
        process, server.process = server.process, None
        self.assertNotEqual(process.wait(wait.DEADLINE), 0)
        self.assertIn(why, server.stderr())

    def test_tokens_cannot_be_fetched(self):
        """A daemon in its sandbox runs no commands: said at start, so that no mail waits for it"""
        self.refuses_to_start("user = u\ntoken_command = /bin/true\n", 0o600,
                              "access tokens cannot be fetched")

    def test_wrong_credentials_wait_and_raise_an_alarm(self):
        host = self.using(smarthost.Smarthost(self.certificate, ["PLAIN"], ACCOUNT))
        server = self.relaying(host, "user = us@relay.example\npassword = wrong\n")
        server.send("a@us.example", "b@far.example", CONTENT)
        wait.until(lambda: "credentials_refused" in server.log_file.read_text(), "the alarm")
        wait.until(lambda: "ALARM: the credentials of us@relay.example are refused" in
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

    def test_a_file_that_others_may_read_is_not_used(self):
        self.refuses_to_start("user = u\npassword = p\n", 0o644, "others may read this file")


if __name__ == "__main__":
    scenario.main()
