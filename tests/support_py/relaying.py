"""The frame of scenarios in which the daemon logs in to a smarthost."""
import json

from support_py import authority, scenario, wait

USER = "us@relay.example"
CONTENT = b"From: <a@us.example>\r\nSubject: by a smarthost\r\n\r\nhello\r\n"


class Relaying(scenario.Scenario):
    """A daemon that logs in to a smarthost with the credentials of a file."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.authority = authority.Authority(cls.folder / "ca")
        cls.certificate = cls.authority.sign("relay.example", "localhost")

    def relaying(self, host, credentials, mode=0o600, start=True, settings=None, **route):
        path = self.own_folder("credentials") / "relay"
        path.write_text(credentials)
        path.chmod(mode)
        server = self.daemon(start=start, **{
            "delivery": {"retry": ["1h"], "tls_ca": str(self.authority.certificate)},
            "route": [{"domain": "*", "next_hop": f"smtp://127.0.0.1:{host.port}",
                       "credentials": str(path), **{"tls": "require", **route}}],
            **(settings or {})})
        server.credentials = path
        return server

    def send(self, server):
        server.send("a@us.example", "b@far.example", CONTENT)

    def send_on(self, server, host):
        """One more message, all the way."""
        before = len(host.messages)
        self.send(server)
        wait.until(lambda: len(host.messages) > before, lambda: "the message; " +
                   server.log_file.read_text()[-3000:])

    def retry(self, server):
        server.postrider("queue", "retry", "--all")

    def wait_for_alarm(self, server, text):
        wait.until(lambda: text in server.postrider("status"),
                   lambda: f"an alarm with {text}; {server.postrider('status')}")
        alarms = json.loads(server.postrider("status", "--json"))["alarms"]
        self.assertTrue([one for one in alarms if text in one], alarms)
        return alarms

    def assert_no_alarm(self, server):
        self.assertNotIn("ALARM", server.postrider("status"))
        self.assertEqual(json.loads(server.postrider("status", "--json"))["alarms"], [])

    def assert_nothing_bounced(self, server):
        self.assertEqual(server.log("attempted", verdict="bounced") + server.log("bounced"), [])
        self.assertEqual(len(server.queue()), 1)

    def end_connection(self, server):
        """Until the daemon has closed its idle connection, so that the next message logs in."""
        wait.until(lambda: json.loads(server.postrider("status", "--json"))["connections"] == 0,
                   "no connection")
