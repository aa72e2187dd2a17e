#!/usr/bin/python3
"""Access tokens for a smarthost: from a command and from a token endpoint, kept, renewed, refused."""
import datetime
import json
import os
import pwd
import threading
import time
import unittest

from support_py import authority, scenario, smarthost, token_endpoint, wait
from support_py.relaying import CONTENT, USER, Relaying

SCRIPT = """#!/bin/sh
# Counts its runs, shows what it was given, prints the next token.
cd {folder} || exit 9
echo run >> runs
env | sort > environment
for argument; do echo "$argument"; done > arguments
id -u > user
cat next
"""


class Commands(Relaying):
    """Tokens from a command, which the parent of the daemon runs outside of its sandbox."""

    def setUp(self):
        super().setUp()
        self.host = self.using(smarthost.Smarthost(self.certificate, ["XOAUTH2"], tokens=["token-1"]))
        self.home = self.own_folder("command")
        self.home.chmod(0o777)
        self.script = self.home / "token"
        self.write(SCRIPT.format(folder=self.home))
        self.next("token-1")

    def write(self, text):
        self.script.write_text(text)
        self.script.chmod(0o755)

    def next(self, text):
        (self.home / "next").write_text(text + "\n")

    def runs(self):
        path = self.home / "runs"
        return len(path.read_text().splitlines()) if path.exists() else 0

    def by_command(self, arguments="", **settings):
        return self.relaying(self.host, f"user = {USER}\ntoken_command = {self.script} {arguments}\n",
                             **settings)

    def test_a_token_is_got_once_and_kept(self):
        for mechanism in ("XOAUTH2", "OAUTHBEARER"):
            with self.subTest(mechanism):
                self.host.mechanisms = ["PLAIN", mechanism]
                before = self.runs()
                server = self.by_command("someone 'two words; $(x)'")
                for _ in range(3):
                    self.send_on(server, self.host)
                    # A new connection each time.
                    server.wait_for_log("attempted", verdict="sent")
                self.assertEqual(self.runs() - before, 1)
                self.assertEqual({one for one in self.host.logins if one[0] == mechanism},
                                 {(mechanism, USER, True)})
                server.stop()
        self.assertEqual((self.home / "arguments").read_text(), "someone\ntwo words; $(x)\n")
        names = {line.split("=")[0] for line in
                 (self.home / "environment").read_text().splitlines()}
        self.assertLessEqual(names - {"PWD", "OLDPWD", "SHLVL", "_"},
                             {"PATH", "HOME", "USER", "LOGNAME", "SHELL"})

    def test_a_refused_token_is_got_anew(self):
        server = self.by_command()
        self.send_on(server, self.host)
        self.end_connection(server)
        self.host.tokens = {"token-2"}
        self.next("token-2")
        self.send_on(server, self.host)
        self.assertEqual((self.runs(), self.host.refused), (2, ["XOAUTH2"]))
        self.assert_no_alarm(server)

    def test_a_token_refused_twice_waits_with_an_alarm(self):
        server = self.by_command()
        self.send_on(server, self.host)
        self.end_connection(server)
        self.host.tokens = set()
        self.next("token-2")
        self.send(server)
        self.wait_for_alarm(server, f"the credentials of {USER} are refused")
        self.assertEqual((self.runs(), self.host.refused), (2, ["XOAUTH2", "XOAUTH2"]))
        event, = server.log("credentials_refused")
        self.assertIn("535 5.7.8", event["reason"])
        self.assertIn("invalid_token", event["detail"])
        self.assert_nothing_bounced(server)
        self.host.tokens = {"token-3"}
        self.next("token-3")
        self.retry(server)
        wait.until(lambda: len(self.host.messages) == 2, "the message")
        self.assert_no_alarm(server)

    def fails(self, script, *wanted):
        self.write(script)
        server = self.by_command()
        self.send(server)
        self.wait_for_alarm(server, wanted[0])
        for text in wanted:
            self.assertIn(text, server.log("no_token")[0]["reason"])
        self.assert_nothing_bounced(server)
        # It is not the host's fault; each message says why it waits.
        server.wait_for_log("attempted", verdict="deferred")
        self.assertEqual(server.log("site_blocked"), [])
        return server

    def test_a_command_that_fails(self):
        server = self.fails("#!/bin/sh\necho 'log in again, \033[1mplease' >&2\nexit 3\n",
                            "it ended with exit code 3: log in again, ", "[1mplease")
        self.assertNotIn("\033", server.postrider("status") + server.log("no_token")[0]["reason"])
        # Once more only after a while; a reload is a reason to try at once.
        self.retry(server)
        wait.until(lambda: len(server.log("no_token")) >= 2, "the second attempt")
        self.assertEqual(len(server.log("token_failed")), 1)
        self.write(SCRIPT.format(folder=self.home))
        server.reload()
        wait.until(lambda: self.host.messages, "the message")
        self.assert_no_alarm(server)

    def test_a_command_that_prints_no_token(self):
        for text in ("", "two words", "a\nb", '{"access_token": 1}', '{"error": "login_required"}'):
            with self.subTest(text):
                self.next(text)
                self.write(SCRIPT.format(folder=self.home))
                server = self.by_command()
                self.send(server)
                self.wait_for_alarm(server, "token_command")
                self.assert_nothing_bounced(server)

    def test_a_command_that_prints_json(self):
        self.next('{"access_token": "token-1", "expires_in": 3599, "token_type": "Bearer"}')
        server = self.by_command()
        self.send_on(server, self.host)
        self.assertEqual(server.log("token")[0]["lifetime"], "59m59s")

    def test_a_command_that_prints_too_much(self):
        self.fails("#!/bin/sh\nwhile :; do echo xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx; done\n",
                   "it prints more than 16KiB")

    def test_a_command_that_is_not_there(self):
        self.script.unlink()
        server = self.relaying(self.host, f"user = {USER}\ntoken_command = {self.script}\n")
        self.send(server)
        self.wait_for_alarm(server, f"start {self.script}: No such file or directory")

    def test_a_command_that_hangs_ends_with_its_time_and_holds_up_nothing_else(self):
        self.write(f"#!/bin/sh\necho $$ > {self.home}/pid\nsleep 300 & wait\n")
        server = self.by_command()
        self.send(server)
        wait.until(lambda: (self.home / "pid").exists() and (self.home / "pid").read_text().strip(),
                   "the command")
        pid = int((self.home / "pid").read_text())
        server.send("a@us.example", f"{daemon_user()}@us.example", CONTENT)
        server.wait_for_mail()
        self.assertTrue(running(pid), "other mail goes on meanwhile")
        self.wait_for_long_alarm(server, "it did not end in 30s")
        self.assert_ended(pid)
        self.assert_nothing_bounced(server)

    def wait_for_long_alarm(self, server, text):
        wait.until(lambda: text in server.postrider("status"), text, wait.DEADLINE + 60, pause=0.5)

    def assert_ended(self, pid):
        wait.until(lambda: not running(pid), f"the end of process {pid}")

    def test_a_stop_ends_a_command_at_once(self):
        self.write(f"#!/bin/sh\necho $$ > {self.home}/pid\nsleep 300 & wait\n")
        server = self.by_command()
        self.send(server)
        wait.until(lambda: (self.home / "pid").exists() and (self.home / "pid").read_text().strip(),
                   "the command")
        server.stop()
        self.assert_ended(int((self.home / "pid").read_text()))
        self.assertEqual(server.log("no_token"), [])
        self.assertEqual(server.log("stopped")[-1]["complete"], "yes")

    @unittest.skipUnless(scenario.is_root(), "needs root")
    def test_it_runs_as_the_daemons_user_without_new_rights(self):
        self.write(SCRIPT.format(folder=self.home) +
                   f"grep -E '^(NoNewPrivs|CapEff|Groups)' /proc/self/status > {self.home}/rights\n")
        server = self.by_command(start=False)
        for folder in (server.folder, *server.credentials.parents):
            if folder != folder.parent and not folder.stat().st_mode & 0o001:
                folder.chmod(0o755)
        os.chown(server.credentials, 65534, 65534)
        server.write_config(user="nobody")
        os.chown(server.folder, 65534, 65534)
        server.start()
        self.send_on(server, self.host)
        self.assertEqual((self.home / "user").read_text(), "65534\n")
        rights = dict(line.split(":\t") for line in (self.home / "rights").read_text().splitlines())
        self.assertEqual((rights["NoNewPrivs"], int(rights["CapEff"], 16)), ("1", 0))


def daemon_user():
    return pwd.getpwuid(os.getuid()).pw_name


def running(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


class Endpoints(Relaying):
    """Tokens from a token endpoint, by a refresh token."""

    def setUp(self):
        super().setUp()
        self.host = self.using(smarthost.Smarthost(self.certificate, ["OAUTHBEARER", "XOAUTH2"]))
        self.endpoint = self.using(token_endpoint.TokenEndpoint(self.certificate,
                                                                good=self.host.tokens))

    def by_endpoint(self, more=None, **settings):
        return self.relaying(self.host, self.endpoint.credentials(USER, **(more or {})), **settings)

    def test_a_token_is_asked_for_once_and_kept(self):
        server = self.by_endpoint({"scope": "https://mail.example/ offline"})
        for _ in range(2):
            self.send_on(server, self.host)
            self.end_connection(server)
        self.assertEqual(self.host.logins, [("OAUTHBEARER", USER, True)] * 2)
        self.assertEqual(self.endpoint.asked, [("/oauth2/token?tenant=1", {
            "grant_type": "refresh_token", "refresh_token": "refresh-1", "client_id": "client-1",
            "client_secret": "s3cret &+% x", "scope": "https://mail.example/ offline"}, None)])

    def test_the_client_by_HTTP_Basic(self):
        server = self.by_endpoint({"client_auth": "basic"})
        self.send_on(server, self.host)
        (_, form, authorization), = self.endpoint.asked
        self.assertEqual(set(form), {"grant_type", "refresh_token"})
        self.assertTrue(authorization.startswith("Basic "))

    def test_many_messages_at_once_ask_once(self):
        release = threading.Event()

        def late(handler):
            release.wait(wait.DEADLINE * 3)
            self.endpoint.answer = None
            form = self.endpoint.asked[-1][1]
            handler.give(*self.endpoint.judge(form, handler.headers))
        self.endpoint.answer = late
        server = self.by_endpoint()
        for _ in range(30):
            self.send(server)
        wait.until(lambda: self.endpoint.asked, "a request")
        release.set()
        wait.until(lambda: len(self.host.messages) == 30, "30 messages")
        self.assertEqual(len(self.endpoint.asked), 1)

    def test_an_expired_token_is_renewed(self):
        self.endpoint.lifetime = 2  # of which half is used
        server = self.by_endpoint()
        self.send_on(server, self.host)
        self.end_connection(server)
        wait.until(lambda: time.time() > self.at(server, "token") + 1.2, "the token's end")
        asked = len(self.endpoint.asked)
        self.send_on(server, self.host)
        self.assertGreater(len(self.endpoint.asked), asked)
        self.assertEqual(self.host.refused, [])

    @staticmethod
    def at(server, event):
        text = server.log(event)[-1]["time"]
        return datetime.datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()

    def test_a_refused_token_is_renewed_once(self):
        server = self.by_endpoint()
        self.send_on(server, self.host)
        self.end_connection(server)
        self.host.tokens.clear()  # revoked
        self.send_on(server, self.host)
        self.assertEqual((len(self.endpoint.asked), self.host.refused), (2, ["OAUTHBEARER"]))
        self.assert_no_alarm(server)
        self.end_connection(server)
        self.host.tokens.clear()
        self.endpoint.good = None  # and what comes now is worth nothing
        self.send(server)
        self.wait_for_alarm(server, f"the credentials of {USER} are refused")
        self.assertEqual((len(self.endpoint.asked), len(self.host.refused)), (3, 3))
        self.assert_nothing_bounced(server)
        self.endpoint.good = self.host.tokens
        self.retry(server)
        wait.until(lambda: len(self.host.messages) == 3, "the message")
        self.assert_no_alarm(server)

    def test_a_new_refresh_token_is_kept_over_a_restart(self):
        self.endpoint.rotate = True
        server = self.by_endpoint()
        self.send_on(server, self.host)
        wait.until(lambda: list((server.spool / "tokens").glob("*")), "the refresh token's file")
        kept, = (server.spool / "tokens").iterdir()
        self.assertEqual(kept.stat().st_mode & 0o777, 0o600)
        server.restart()
        self.send_on(server, self.host)
        self.assertEqual([form["refresh_token"] for _, form, _ in self.endpoint.asked],
                         ["refresh-1", "refresh-2"])
        # Another one in the file counts, and what was kept for the old one goes at a start.
        self.endpoint.refresh.add("refresh-new")
        server.credentials.write_text(self.endpoint.credentials(USER, refresh_token="refresh-new"))
        server.reload()
        wait.until(lambda: server.log("reloaded"), "the reload")
        self.end_connection(server)
        self.send_on(server, self.host)
        self.assertEqual(self.endpoint.asked[-1][1]["refresh_token"], "refresh-new")
        server.restart()
        self.assertFalse(kept.exists())

    def test_a_reload_keeps_the_token(self):
        server = self.by_endpoint()
        self.send_on(server, self.host)
        server.reload()
        wait.until(lambda: server.log("reloaded"), "the reload")
        self.end_connection(server)
        self.send_on(server, self.host)
        self.assertEqual(len(self.endpoint.asked), 1)

    def defers(self, answer, wanted):
        self.endpoint.answer = answer
        server = self.by_endpoint()
        self.send(server)
        self.wait_for_alarm(server, wanted)
        self.assertTrue([one for one in server.log("no_token") if wanted in one["reason"]])
        self.assertEqual((self.host.logins, self.host.refused), ([], []))
        self.assert_nothing_bounced(server)
        return server

    def test_a_revoked_refresh_token(self):
        self.endpoint.refresh.clear()
        server = self.defers(None, "HTTP status 400, invalid_grant: the refresh token is revoked")
        # The endpoint has its rest, whatever the queue does.
        for _ in range(3):
            self.retry(server)
        wait.until(lambda: len(server.log("no_token")) >= 2, "a further attempt")
        self.assertEqual(len(self.endpoint.asked), 1)
        self.endpoint.refresh.add("refresh-2")
        server.credentials.write_text(self.endpoint.credentials(USER, refresh_token="refresh-2"))
        server.reload()
        wait.until(lambda: self.host.messages, "the message")
        self.assert_no_alarm(server)

    def test_a_wrong_client(self):
        server = self.by_endpoint({"client_secret": "other"})
        self.send(server)
        self.wait_for_alarm(server, "HTTP status 401, invalid_client")

    def test_answers_of_no_use(self):
        huge = json.dumps({"access_token": "x", "y": "z" * 200_000})
        for name, answer, wanted in (
                ("garbage", (200, "<html>hello</html>"), "the answer is not a JSON object"),
                ("a list", (200, "[1]"), "the answer is not a JSON object"),
                ("deep", (200, "[" * 5000), "the answer is not a JSON object"),
                ("no token", (200, "{}"), "no usable access_token"),
                ("a token with a line end", (200, '{"access_token": "a\\r\\nb"}'),
                 "no usable access_token"),
                ("another type", (200, '{"access_token": "a", "token_type": "mac"}'), "type mac"),
                ("huge", (200, huge), "too large"),
                ("an outage", (503, "come back later"), "HTTP status 503"),
                ("elsewhere", (302, ""), "HTTP status 302"),
                ("controls", (400, '{"error": "x\\u001b[1m\\r\\n250 ok"}'), "HTTP status 400, x")):
            with self.subTest(name):
                self.defers(answer, wanted).stop()

    def test_an_endpoint_that_is_down(self):
        self.endpoint.stop()
        server = self.by_endpoint()
        self.send(server)
        self.wait_for_alarm(server, "Connection refused")
        self.assert_nothing_bounced(server)
        self.things.remove(self.endpoint)

    def test_an_endpoint_with_a_certificate_of_somebody_else(self):
        other = authority.Authority(self.own_folder("other-ca"))
        server = self.by_endpoint(settings={"delivery": {"tls_ca": str(other.certificate),
                                                         "retry": ["1h"]}})
        self.send(server)
        self.wait_for_alarm(server, "certificate not trusted")
        self.assertEqual(self.endpoint.asked, [])

    def test_an_endpoint_that_hangs_does_not_hold_up_a_stop(self):
        release = threading.Event()
        self.addCleanup(release.set)
        self.endpoint.answer = lambda handler: release.wait(wait.DEADLINE * 3)
        server = self.by_endpoint()
        self.send(server)
        wait.until(lambda: self.endpoint.asked, "a request")
        server.stop()
        self.assertEqual(server.log("stopped")[-1]["complete"], "yes")


if __name__ == "__main__":
    scenario.main()
