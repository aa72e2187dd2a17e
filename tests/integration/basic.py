#!/usr/bin/python3
"""Mail in, mail out: the shortest ways through the daemon."""
from support_py import scenario, wait
from support_py.daemon import USER

CONTENT = (b"From: <a@ext.example>\r\nTo: <b@us.example>\r\nSubject: basic\r\n\r\n"
           b"one line\r\n.a dot line\r\n..two dots\r\n")


class Basic(scenario.Scenario):
    def test_a_message_for_a_local_user_arrives_in_the_maildir(self):
        server = self.daemon()
        reply = server.send("a@ext.example", f"{USER}@us.example", CONTENT)
        self.assertEqual((reply.code, reply.enhanced), (250, "2.0.0"))
        text, = server.wait_for_mail(1)
        self.assertIn(b"Return-Path: <a@ext.example>", text)
        self.assertRegex(text, rb"Received: from client\.example[^\0]*?\sby mx\.us\.example[^\0]*?\s"
                               rb"with ESMTP")
        self.assertTrue(text.endswith(CONTENT.replace(b"\r\n", b"\n")) or text.endswith(CONTENT),
                        text)
        server.wait_until_empty()

    def test_a_message_for_elsewhere_arrives_at_the_next_hop(self):
        peer = self.sink()
        server = self.relay(peer)
        server.send("a@ext.example", ["b@far.example", "c@far.example"], CONTENT)
        message, = peer.wait_for(1)
        self.assertEqual(message.sender, "a@ext.example")
        self.assertEqual(message.addresses, ["b@far.example", "c@far.example"])
        self.assertTrue(message.content.startswith(b"Received: "))
        self.assertTrue(message.content.endswith(CONTENT))
        server.wait_until_empty()

    def test_mail_waits_while_the_next_hop_is_down_and_survives_a_restart(self):
        peer = self.sink()
        peer.stop()
        server = self.relay(peer)
        server.send("a@ext.example", "b@far.example", CONTENT)
        waiting = wait.until(lambda: [m for m in server.queue()
                                      if m["recipients"][0].get("delay_reason")], "a reason to wait")
        self.assertIn("refused", waiting[0]["recipients"][0]["delay_reason"].lower())
        server.restart()
        peer.start()
        peer.wait_for(1)
        server.wait_until_empty()
        self.assertEqual(len(peer.messages), 1)

    def test_mail_from_a_stranger_to_elsewhere_is_refused(self):
        server = self.daemon(accept={"relay_from": ["127.0.0.1/32"]})
        with server.client(source="127.0.0.2") as client:
            client.hello()
            client.expect("MAIL FROM:<a@ext.example>", 250)
            reply = client.command("RCPT TO:<b@far.example>")
            self.assertEqual((reply.code, reply.enhanced), (550, "5.7.1"))
            client.expect(f"RCPT TO:<{USER}@us.example>", 250)
            client.expect("RCPT TO:<postmaster>", 250)
            reply = client.command("RCPT TO:<nobody-of-this-name@us.example>")
            self.assertEqual((reply.code, reply.enhanced), (550, "5.1.1"))

    def test_the_extensions_are_offered(self):
        server = self.daemon()
        with server.client() as client:
            offered = {line.split()[0] for line in client.hello().lines[1:]}
            self.assertEqual({b"PIPELINING", b"SIZE", b"8BITMIME", b"SMTPUTF8", b"CHUNKING", b"DSN",
                              b"ENHANCEDSTATUSCODES", b"LIMITS", b"HELP"} - offered, set())
            client.expect("VRFY someone", 252)
            client.expect("HELP", 214)
            client.expect("EXPN list", 502)


if __name__ == "__main__":
    scenario.main()
