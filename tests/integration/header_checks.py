#!/usr/bin/python3
"""Patterns on header fields and on those of the parts inside: what each action does to a message, on listeners and for
sendmail, and that patterns which take too long put mail off instead of letting it through."""
from support_py import scenario

HEAD = (b"From: Ann <ann@src.example>\r\nTo: b@dst.example\r\nSubject: =?utf-8?q?hello?=\r\n"
        b"X-Folded: one\r\n two\r\nX-Secret: 10.0.0.1\r\n"
        b"Date: Mon, 23 Nov 2026 13:34:44 +0000\r\nMessage-ID: <1@src.example>\r\n")
PLAIN = HEAD + b"\r\nSubject: free money\r\n"
PARTS = HEAD + (b"MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=\"one\"\r\n\r\npre\r\n--one\r\n"
                b"Content-Type: text/plain\r\n\r\nContent-Disposition: attachment; filename=no.exe\r\n"
                b"--one\r\nContent-Type: message/rfc822\r\n\r\nSubject: inside\r\n"
                b"Content-Type: multipart/mixed; boundary=two\r\n\r\n--two\r\nContent-Type: application/octet-stream\r\n"
                b"Content-Disposition: attachment;\r\n\tfilename=\"setup.EXE\"\r\n\r\nMZ\r\n--two--\r\n--one--\r\n")
LARGE = PARTS.replace(b"pre\r\n", b"A line of some length to fill it up.\r\n" * 20000)


class HeaderChecks(scenario.Scenario):
    def setUp(self):
        super().setUp()
        self.peer = self.sink()

    def checked(self, *rules, **settings):
        made = [{"pattern": pattern, "action": action, **(more[0] if more else {})} for pattern, action, *more in rules]
        return self.relay(self.peer, header_check=made, **settings)

    def send(self, server, content=PLAIN):
        return server.send("ann@src.example", ["b@dst.example"], content)

    def passed(self, server, content=PLAIN):
        before = len(self.peer.messages)
        self.assertEqual(self.send(server, content).code, 250)
        return self.peer.wait_for(before + 1)[before].content

    def test_each_action(self):
        server = self.checked(
            ("/^Subject: .*viagra/", "reject No, thank you"), ("/^X-Folded: one two$/", "prepend X-Seen: yes"),
            ("/^x-secret:/", "strip"), ("/^X-Drop:/", "discard"), ("/^X-Hold: (.*)/", "hold looks odd"),
            ("/^From: .*ann@/", "warn of Ann"), ("/^X-Secret:/", "reject never: the first one counts"))
        sent = self.passed(server)
        self.assertIn(b"X-Seen: yes\r\nX-Folded: one\r\n two\r\n", sent)
        self.assertNotIn(b"X-Secret", sent)
        self.assertTrue(sent.endswith(b"\r\n\r\nSubject: free money\r\n"))
        said = {event["action"]: event for event in server.wait_for_log("header_check", 3)}
        self.assertEqual((said["warn"]["text"], said["warn"]["field"]), ("of Ann", "From: Ann <ann@src.example>"))
        reply = self.send(server, b"Subject: Cheap\r\n VIAGRA\r\n" + PLAIN)
        self.assertEqual((reply.code, reply.text), (550, "5.7.1 No, thank you"))
        self.assertEqual(self.send(server, b"X-Drop: 1\r\n" + PLAIN).code, 250)
        server.wait_for_log("discarded")
        self.assertEqual(self.send(server, b"X-Hold: 1\r\n" + PLAIN).code, 250)
        held, = server.queue()
        self.assertEqual(held["status"], "held")
        self.assertIn("looks odd", server.wait_for_log("held")[0]["reason"])
        self.assertEqual(len(self.peer.messages), 1)

    def test_headers_of_parts(self):
        rule = (r"/^Content-Disposition:.*filename=\"?[^\"]*\.exe/", "reject No programs", {"in": "mime"})
        server = self.checked(rule, ("/^Subject: inside/", "warn", {"in": "mime"}), ("/^Subject: inside/", "reject"))
        for content in (PARTS, LARGE):
            reply = self.send(server, content)
            self.assertEqual((reply.code, reply.text), (550, "5.7.1 No programs"))
        self.assertEqual(len(server.wait_for_log("header_check", 4)), 4)
        self.assertIn(b"free money", self.passed(server))
        kept = PARTS.replace(b"setup.EXE", b"setup.txt")
        self.assertTrue(self.passed(server, kept).endswith(kept[len(HEAD):]))

    def test_what_a_reader_takes_for_a_header(self):
        server = self.checked(("/^From: .*evil/", "reject No evil"), ("/^X-Secret:/", "strip"),
                              (r"/^Content-Type: .*name=.*\.exe/", "reject No programs", {"in": "mime"}))
        evil = (550, "5.7.1 No evil")
        for head in (b"From : a@evil.example\r\n", b"From\t \t: a@evil.example\r\n",
                     b"From\t:\r\n (" + b"x" * 900 + b"\r\n " + (b"y" * 900 + b"\r\n ") * 100 + b") <a@evil.example>\r\n"):
            reply = self.send(server, b"Subject: x\r\n" + head + b"\r\nx\r\n")
            self.assertEqual((reply.code, reply.text), evil, head[:40])
        self.assertNotIn(b"10.0.0.1", self.passed(server, PLAIN.replace(b"X-Secret:", b"x-secret \t:")))
        # It passes on as it came: it may be signed.
        odd = b"Subject : x\r\nFrom\t: ann@src.example\r\n\r\nx\r\n"
        self.assertTrue(self.passed(server, odd).endswith(odd))
        program = b"Content-Type: application/x; name=a.exe\r\n\r\nx\r\n"
        nested = lambda depth: b"".join(b"Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n" % (n, n)
                                        for n in range(depth)) + program
        for name, content in (("its own", program), ("60 deep", nested(60)), ("two types", nested(1).replace(
                b"b0\r\n\r\n", b"b0\r\nContent-Type: text/plain\r\n\r\n")), ("junk", nested(1).replace(b"--b0\r\n", b"--b0\r\njunk\r\n"))):
            reply = self.send(server, b"Subject: x\r\n" + content)
            self.assertEqual((reply.code, reply.text), (550, "5.7.1 No programs"), name)

    def test_what_is_beyond_the_limits_is_refused(self):
        server = self.checked(("/^From: .*evil/", "reject No evil"), ("/name=evil/", "reject No programs", {"in": "mime"}))
        long = HEAD + b"X-Long: x\r\n" + (b" " + b"y" * 900 + b"\r\n") * 120
        deep = HEAD + b"".join(b"Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n" % (n, n)
                               for n in range(120)) + b"\r\nx\r\n"
        part = PARTS.replace(b"Content-Type: text/plain\r\n", b"X-Long: x\r\n" + (b" " + b"y" * 900 + b"\r\n") * 200)
        for number, (content, words) in enumerate(((long + b"\r\nx\r\n", "a header field is too long"), (deep, "parts are nested too deeply"),
                               (part, "the header of a part is too long")), 1):
            reply = self.send(server, content)
            self.assertEqual((reply.code, reply.enhanced), (550, "5.6.0"), words)
            self.assertIn(words, reply.text)
            self.assertIn(words, server.wait_for_log("rejected", number)[-1]["problem"])
        only_message = self.checked(("/^From: .*evil/", "reject No evil"))
        self.assertEqual(self.send(only_message, deep).code, 250)

    def test_whose_mail(self):
        server = self.checked(("/^X-Secret:/", "reject On the network", {"mail": "mx"}),
                              ("/^X-Secret:/", "strip", {"mail": ["sendmail"]}))
        self.assertEqual(self.send(server).code, 550)
        server.sendmail("-f", "ann@src.example", "b@dst.example", stdin=PLAIN.replace(b"\r", b""))
        self.assertNotIn(b"X-Secret", self.peer.wait_for(1)[0].content)

    def test_patterns_that_take_too_long(self):
        server = self.checked(("/^X-Slow: (a+)+$/", "reject"), ("/^X-Many: (.*a){4}$/", "warn"))
        reply = self.send(server, b"X-Slow: " + b"a" * 200 + b"!\r\n" + PLAIN)
        self.assertEqual((reply.code, reply.enhanced), (451, "4.7.1"))
        self.assertIn("steps", server.wait_for_log("rejected")[0]["problem"])
        many = b"".join(b"X-Many: %d aaaa b\r\n" % number for number in range(5000))
        reply = self.send(server, many + PLAIN)
        self.assertIn(reply.code, (250, 451))  # bounded, whatever the machine has to do
        self.assertEqual(self.send(server).code, 250)

    def test_wrong_rules(self):
        server = self.checked(start=False)
        for rule, word in (({"pattern": "/(/", "action": "discard"}, "not a pattern"),
                           ({"pattern": "x", "action": "discard"}, "not a pattern"),
                           ({"pattern": "/x/", "action": "prepend nonsense"}, "prepend needs a header field"),
                           ({"pattern": "/x/", "action": "REJECT"}, "is not an action"),
                           ({"pattern": "/x/", "action": "strip", "in": "mime"}, "header of a part")):
            server.settings["header_check"] = [rule]
            server.write_config()
            done = server.tool("postrider", "check", check=False)
            self.assertEqual(done.returncode, 78, rule)
            self.assertIn(word, done.stdout + done.stderr)


if __name__ == "__main__":
    scenario.main()
