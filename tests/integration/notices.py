#!/usr/bin/python3
"""Delivery status notifications: NOTIFY, RET, ENVID and ORCPT are passed on or honoured."""
import email
import email.policy
import re

from support_py import scenario, sink
from support_py.daemon import USER

SENDER = f"{USER}@us.example"
CONTENT = b"From: <a@us.example>\r\nSubject: the original\r\n\r\nthe body of the original\r\n"
WITHOUT_DSN = ("PIPELINING", "8BITMIME", "ENHANCEDSTATUSCODES", "SIZE 104857600")


class Notices(scenario.Scenario):
    def start(self, extensions=sink.PLAIN_EXTENSIONS, script=None):
        self.peer = self.sink(extensions=extensions, script=script or {})
        self.server = self.relay(self.peer)

    def send(self, mail="", rcpt="", recipient="b@far.example", content=CONTENT, sender=SENDER):
        with self.server.client() as client:
            client.hello()
            client.expect(f"MAIL FROM:<{sender}>{mail}", 250)
            client.expect(f"RCPT TO:<{recipient}>{rcpt}", 250)
            client.expect("DATA", 354)
            client.send(content + b".\r\n")
            self.assertEqual(client.reply().code, 250)

    def notices(self, count=1):
        if count:
            self.server.wait_for_mail(count)
        self.server.wait_until_empty()
        texts = self.server.mailbox()
        self.assertEqual(len(texts), count)
        return [email.message_from_bytes(text, policy=email.policy.default) for text in texts]

    def refusing(self, extensions=sink.PLAIN_EXTENSIONS):
        self.start(extensions, {"rcpt": lambda session, argument: "550 5.1.1 no such user"})

    def test_parameters_are_passed_on_unchanged(self):
        self.start()
        self.send(" RET=HDRS ENVID=QQ314159+2Bx", " NOTIFY=SUCCESS,FAILURE "
                  "ORCPT=rfc822;first+2Blast@ext.example")
        message, = self.peer.wait_for(1)
        self.assertIn("RET=HDRS", message.parameters)
        self.assertIn("ENVID=QQ314159+2Bx", message.parameters)
        parameters = message.recipients[0][1]
        self.assertRegex(parameters, "NOTIFY=(SUCCESS,FAILURE|FAILURE,SUCCESS)")
        self.assertIn("ORCPT=rfc822;first+2Blast@ext.example", parameters)
        self.notices(0)

    def test_a_failure_notice_has_the_form_of_RFC_3464(self):
        self.refusing()
        self.send(" ENVID=my+2Bid", " ORCPT=rfc822;orig@ext.example")
        notice, = self.notices()
        self.assertEqual(notice["Return-Path"], "<>")
        self.assertEqual(notice.get_content_type(), "multipart/report")
        self.assertEqual(notice.get_param("report-type"), "delivery-status")
        self.assertEqual(notice["Auto-Submitted"], "auto-replied")
        people, status, original = notice.get_payload()
        self.assertIn("b@far.example", people.get_content())
        self.assertEqual(status.get_content_type(), "message/delivery-status")
        message_fields, recipient_fields = status.get_payload()[:2]
        self.assertEqual(message_fields["Reporting-MTA"].replace(" ", ""), "dns;mx.us.example")
        self.assertEqual(message_fields["Original-Envelope-Id"], "my+id")
        self.assertEqual(recipient_fields["Original-Recipient"].replace(" ", ""),
                         "rfc822;orig@ext.example")
        self.assertEqual(recipient_fields["Final-Recipient"].replace(" ", ""),
                         "rfc822;b@far.example")
        self.assertEqual((recipient_fields["Action"], recipient_fields["Status"]),
                         ("failed", "5.1.1"))
        self.assertIn("550 5.1.1 no such user", recipient_fields["Diagnostic-Code"])
        self.assertIn("Remote-MTA", recipient_fields)
        self.assertIn("the original", original.as_string())

    def test_RET(self):
        for parameter, body in ((" RET=HDRS", False), (" RET=FULL", True)):
            with self.subTest(parameter=parameter):
                self.refusing()
                self.send(parameter)
                notice, = self.notices()
                self.assertEqual("the body of the original" in notice.as_string(), body)
                self.assertIn("Subject: the original", notice.as_string())

    def test_a_large_original_is_not_sent_back_whole(self):
        """attacks.md M07"""
        self.refusing()
        self.send(" RET=FULL", content=CONTENT + (b"z" * 76 + b"\r\n") * 20000)
        notice, = self.notices()
        self.assertLess(len(notice.as_string()), 100000)

    def test_NOTIFY_NEVER(self):
        """attacks.md M05"""
        self.refusing()
        self.send("", " NOTIFY=NEVER")
        self.notices(0)

    def test_NOTIFY_SUCCESS_alone_gets_no_failure_notice(self):
        self.refusing()
        self.send("", " NOTIFY=SUCCESS")
        self.notices(0)

    def test_NOTIFY_SUCCESS_to_a_hop_without_DSN_is_a_relayed_notice(self):
        self.start(WITHOUT_DSN)
        self.send("", " NOTIFY=SUCCESS")
        self.peer.wait_for(1)
        notice, = self.notices()
        self.assertEqual(notice.get_payload()[1].get_payload()[1]["Action"], "relayed")
        self.assertNotIn("NOTIFY", self.peer.messages[0].recipients[0][1])

    def test_NOTIFY_SUCCESS_to_a_local_mailbox_is_a_delivered_notice(self):
        self.start()
        self.send("", " NOTIFY=SUCCESS", recipient=f"{USER}@us.example")
        self.server.wait_for_mail(2)
        self.server.wait_until_empty()
        actions = re.findall(rb"^Action: (\w+)", b"\n".join(self.server.mailbox()), re.M)
        self.assertEqual(actions, [b"delivered"])

    def test_strangers_get_no_success_notices_for_senders_that_they_forge(self):
        """Nor is the option there for them, unless accept.success_notices says so."""
        for allowed, reports in ((False, 0), (True, 5)):
            self.peer = self.sink()
            self.server = self.relay(self.peer, accept={"relay_from": [], "success_notices": allowed})
            for _ in range(5):
                self.send("", " NOTIFY=SUCCESS" if allowed else "", recipient=f"{USER}@us.example",
                          sender="victim@far.example")
                with self.server.client() as client:
                    client.hello()
                    client.expect("MAIL FROM:<victim@far.example>", 250)
                    code = client.command(f"RCPT TO:<{USER}@us.example> NOTIFY=SUCCESS").code
                    self.assertIn(code, (250,) if allowed else (250, 501, 555))
                    if code == 250 and not allowed:
                        client.expect("DATA", 354)
                        client.send(CONTENT + b".\r\n")
                        self.assertEqual(client.reply().code, 250)
            self.server.wait_until_empty()
            self.assertEqual(len(self.peer.messages), reports)

    def test_no_notice_about_a_notice(self):
        """attacks.md M03"""
        self.refusing()
        self.send(sender="")
        self.server.wait_until_empty()
        for text in self.server.mailbox():  # at most postmaster hears of it
            self.assertIn(b"Return-Path: <>", text)
        self.assertLessEqual(len(self.server.mailbox()), 1)

    def test_8_bits_to_a_hop_without_8BITMIME_are_converted_or_go_as_they_came(self):
        self.start(("PIPELINING", "ENHANCEDSTATUSCODES", "DSN"))
        body = "From: <a@us.example>\r\nSubject: 8\r\nMIME-Version: 1.0\r\n" \
               "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n" \
               "\r\nGrüße\r\n".encode()
        self.send(" BODY=8BITMIME", content=body)
        message, = self.peer.wait_for(1)
        self.assertTrue(all(octet < 128 for octet in message.content))
        parsed = email.message_from_bytes(sink.without_trace(message.content),
                                          policy=email.policy.default)
        self.assertEqual(parsed.get_content().strip(), "Grüße")
        signed = "From: <a@us.example>\r\nSubject: the original\r\nMIME-Version: 1.0\r\n" \
                 "Content-Type: multipart/signed; boundary=b; protocol=\"x/y\"\r\n\r\n--b\r\n" \
                 "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n" \
                 "Grüße\r\n--b\r\nContent-Type: x/y\r\n\r\nsig\r\n--b--\r\n".encode()
        self.send(" BODY=8BITMIME", content=signed)
        self.assertEqual(sink.without_trace(self.peer.wait_for(2)[1].content), signed)
        self.server.wait_until_empty()

    def test_what_the_next_hop_cannot_take_whole_comes_back_by_its_headers(self):
        """The sender's own next hop has the same limits as the recipient's."""
        large = CONTENT + (b"z" * 76 + b"\r\n") * 300
        refuses = {"rcpt": {"b@far.example": "550 5.1.1 no such user"}}
        self.start(("PIPELINING", "8BITMIME", "DSN", "SIZE 24000"), refuses)
        self.send(content=large, sender="s@far.example")
        notice, = self.peer.wait_for(1)
        self.assertEqual(notice.addresses, ["s@far.example"])
        self.assertIn(b"Content-Type: text/rfc822-headers", notice.content)
        self.assertIn(b"Subject: the original", notice.content)
        self.server.wait_until_empty()
        self.assertEqual(self.server.mailbox(), [])
        self.assertEqual(self.server.log("notice_dropped"), [])

    def test_BINARYMIME_is_passed_on_by_BDAT_or_converted(self):
        binary = bytes(range(256)) * 3 + b"\r\n.\r\n"
        content = (b"From: <a@us.example>\r\nSubject: binary\r\nMIME-Version: 1.0\r\n"
                   b"Content-Type: application/octet-stream\r\n"
                   b"Content-Transfer-Encoding: binary\r\n\r\n" + binary)
        for extensions in (sink.ALL_EXTENSIONS, sink.PLAIN_EXTENSIONS):
            with self.subTest(chunking="CHUNKING" in extensions):
                self.start(extensions)
                with self.server.client() as client:
                    client.hello()
                    client.begin("a@us.example", ["b@far.example"], " BODY=BINARYMIME")
                    client.send(b"BDAT %d LAST\r\n" % len(content) + content)
                    self.assertEqual(client.reply().code, 250)
                message, = self.peer.wait_for(1)
                self.assertEqual(message.by_bdat, "CHUNKING" in extensions)
                self.assertEqual("BODY=BINARYMIME" in message.parameters, message.by_bdat)
                parsed = email.message_from_bytes(message.content)
                self.assertEqual(parsed.get_payload(decode=True), binary)
                if message.by_bdat:
                    self.assertEqual(sink.without_trace(message.content), content)

    def test_SMTPUTF8_to_a_hop_without_it_bounces(self):
        self.start(WITHOUT_DSN)
        self.send(" SMTPUTF8", recipient="ünï@far.example")
        notice, = self.notices()
        self.assertIn("5.6.7", notice.as_string())
        self.assertEqual(self.peer.messages, [])

    def test_SMTPUTF8_is_passed_on(self):
        self.start()
        self.send(" SMTPUTF8", recipient="ünï@far.example")
        message, = self.peer.wait_for(1)
        self.assertIn("SMTPUTF8", message.parameters)
        self.assertEqual(message.addresses, ["ünï@far.example"])

    def test_a_message_too_large_for_the_next_hop_bounces_without_being_sent(self):
        self.start(("PIPELINING", "SIZE 1000", "8BITMIME"))
        self.send(content=CONTENT + (b"z" * 76 + b"\r\n") * 100)
        notice, = self.notices()
        self.assertIn("5.3.4", notice.as_string())
        self.assertEqual(self.peer.stages("data"), [])

    def test_a_peer_that_knows_only_HELO(self):
        self.start(script={"ehlo": lambda session, argument: "502 5.5.1 what"})
        self.send()
        message, = self.peer.wait_for(1)
        self.assertEqual(message.parameters, "")


if __name__ == "__main__":
    scenario.main()
