#!/usr/bin/python3
"""Copies of mail that the administrator wants (accept.always_bcc, sender_bcc, recipient_bcc): who gets one, that nobody
else sees it or hears of it, that there is one, and that a table which cannot be asked puts the mail off."""
from support_py import scenario, smtp, wait

PLAIN = (b"From: Ann <ann@src.example>\r\nTo: b@dst.example\r\nSubject: hello\r\n"
         b"Date: Mon, 23 Nov 2026 13:34:44 +0000\r\nMessage-ID: <1@src.example>\r\n\r\nHello.\r\n")


class Copies(scenario.Scenario):
    def setUp(self):
        super().setUp()
        self.peer = self.sink()

    def delivered(self, server, sender="ann@src.example", to=("b@dst.example",), parameters=""):
        """Whom the sink has the next mail for, and the messages."""
        before = len(self.peer.messages)
        with server.client() as client:
            client.hello()
            self.assertEqual(client.message(sender, list(to), PLAIN, parameters).code, 250)
        server.wait_until_empty()
        messages = self.peer.messages[before:]
        return sorted(address for message in messages for address in message.addresses), messages

    def test_who_gets_a_copy(self):
        folder = self.own_folder("tables")
        (folder / "senders").write_text("ann@src.example  seen@dst.example, other@dst.example\n@all.example  all@dst.example\n")
        server = self.relay(self.peer, accept={
            "always_bcc": ["archive@dst.example"], "sender_bcc": f"text:{folder}/senders",
            "recipient_bcc": ["inline:{b@dst.example=copy@dst.example}", "inline:{seen@dst.example=no@dst.example}",
                              "pcre:" + str(folder / "patterns")]}, start=False)
        (folder / "patterns").write_text("/^(.*)-x@dst\\.example$/ $1-y@dst.example\n")
        server.start()
        got, messages = self.delivered(server)
        self.assertEqual(got, ["archive@dst.example", "b@dst.example", "copy@dst.example", "other@dst.example", "seen@dst.example"])
        for message in messages:
            for hidden in (b"archive@", b"copy@", b"seen@"):
                self.assertNotIn(hidden, message.content)
            for address, parameters in message.recipients:
                self.assertEqual("NOTIFY=NEVER" in parameters, address != "b@dst.example", (address, parameters))
        self.assertEqual(self.delivered(server, "zoe@all.example", ["z-x@dst.example"])[0],
                         ["all@dst.example", "archive@dst.example", "z-x@dst.example", "z-y@dst.example"])
        self.assertEqual(self.delivered(server, "zoe@none.example", ["b+more@dst.example"])[0],
                         ["archive@dst.example", "b+more@dst.example", "copy@dst.example"])
        # Who has it gets no other, and a copy makes no copies.
        self.assertEqual(self.delivered(server, "", ["archive@DST.example", "copy@dst.example"])[0],
                         ["archive@DST.example", "copy@dst.example"])
        server.sendmail("-f", "ann@src.example", "b@dst.example", stdin=PLAIN.replace(b"\r", b""))
        wait.until(lambda: {"copy@dst.example", "archive@dst.example", "seen@dst.example"} <= set(self.peer.messages[-1].addresses),
                   "the copies of sendmail's mail")

    def test_a_notice_has_no_copy_and_none_is_about_one(self):
        self.peer.script["rcpt"] = {"gone@dst.example": "550 5.1.1 no such user", "archive@dst.example": "550 5.1.1 no such user"}
        server = self.relay(self.peer, accept={"always_bcc": "archive@dst.example", "sender_bcc": "inline:{mailer-daemon@us.example=m@dst.example}"})
        self.delivered(server)
        self.assertEqual(self.peer.messages[-1].addresses, ["b@dst.example"])
        got, messages = self.delivered(server, to=["gone@dst.example"])
        self.assertEqual(got, ["ann@src.example"])
        self.assertNotIn(b"archive@", messages[0].content)
        self.assertEqual(messages[0].sender, "")

    def test_a_table_that_fails_puts_mail_off(self):
        server = self.relay(self.peer, accept={"recipient_bcc": f"socketmap:unix:{self.own_folder('none')}/socket:copies"})
        reply = server.send("ann@src.example", ["b@dst.example"], PLAIN)
        self.assertEqual(reply.code, 451)
        self.assertIn("copies", server.wait_for_log("rejected")[0]["problem"])
        self.assertEqual(self.peer.messages, [])

    def test_who_sends_cannot_keep_a_copy_from_arriving(self):
        """A time until which mail must be there (DELIVERBY) ends a copy whose host does not know it, unheard of."""
        listeners = [{"address": f"127.0.0.1:{wait.free_port()}", "next_hop": f"smtp://127.0.0.1:{wait.free_port()}"},
                     {"address": f"127.0.0.1:{wait.free_port()}"}]
        for settings, is_offered in (({}, True), ({"accept": {"always_bcc": "archive@dst.example"}}, False),
                                     ({"accept": {"sender_bcc": "inline:{a@x=b@y}"}}, False),
                                     ({"accept": {"recipient_bcc": "inline:{a@x=b@y}"}}, False),
                                     ({"listeners": listeners}, False)):
            with self.subTest(settings=settings):
                server = self.relay(self.peer, **settings)
                front = settings.get("listeners", [{"address": f":{server.port}"}])[0]["address"]
                with smtp.Client(int(front.rpartition(":")[2])) as client:
                    self.assertEqual("DELIVERBY" in str(client.hello()), is_offered)
                    reply = client.command("MAIL FROM:<ann@src.example> BY=300;R")
                    self.assertEqual(reply.code, 250 if is_offered else 555, str(reply))
                    self.assertEqual(client.command("MAIL FROM:<ann@src.example>").code, 503 if is_offered else 250)

    def test_wrong_entries_are_told(self):
        server = self.relay(self.peer, accept={"sender_bcc": "inline:{a@src.example=nobody}"}, start=False)
        done = server.tool("postrider", "check", check=False)
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("accept.sender_bcc", done.stdout + done.stderr)
        self.assertIn("is not an address", done.stdout + done.stderr)


if __name__ == "__main__":
    scenario.main()
