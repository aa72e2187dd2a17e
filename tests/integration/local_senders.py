#!/usr/bin/python3
"""What `sendmail` takes from local users: limits by user, the size of a message with the daemon up and
down, and each option that the manual names."""
import email
import json
import os
import pathlib
import shutil
import socket
import subprocess
import time

from support_py import daemon, scenario, wait

TO = "reader@far.example"
ANN, BOB = 3001, 3002
TEXT = "Subject: x\n\nx\n"


class Temporary(scenario.Scenario):
    def test_a_TMPDIR_that_fills_up_is_left_for_another(self):
        """In the middle of the content, which arrives whole."""
        place = self.small_disk("1m")
        peer = self.sink()
        server = self.relay(peer)
        text = "Subject: large\n\n" + "".join(f"line {number} of the content\n" for number in range(150_000))
        done = subprocess.run([daemon.BIN / "sendmail", TO], input=text.encode(), capture_output=True,
                              env={**server.environment(), "TMPDIR": str(place)}, timeout=wait.DEADLINE)
        self.assertEqual((done.returncode, done.stderr), (0, b""))
        peer.wait_for(1)
        body = peer.messages[0].content.partition(b"\r\n\r\n")[2]
        self.assertEqual(body.replace(b"\r\n", b"\n"), text.partition("\n\n")[2].encode())


class Limits(scenario.Scenario):
    def setUp(self):
        super().setUp()
        if not scenario.is_root():
            self.skipTest("needs root: mail is sent as several users")

    def relay_for_users(self, **limits):
        """A daemon whose sendmail other users can run, and a sink for what they send."""
        self.peer = self.sink()
        server = self.relay(self.peer, start=False, sendmail=limits)
        at = server.folder
        while at != pathlib.Path("/"):
            os.chmod(at, os.stat(at).st_mode | 0o005)
            at = at.parent
        os.chmod(server.config_file, 0o644)
        self.program = server.folder / "sendmail"
        shutil.copy(daemon.BIN / "postrider", self.program)
        return server.start()

    def send(self, server, uid, *recipients, text=TEXT):
        done = subprocess.run([self.program, "-i", "-f", f"u{uid}@us.example", *(recipients or (TO,))],
                              input=text.encode(), capture_output=True, env=server.environment(),
                              user=uid, group=uid, extra_groups=[], cwd="/", timeout=wait.DEADLINE)
        return done.returncode, done.stderr.decode()

    def speak(self, server, uid, *recipients, host="127.0.0.1"):
        """The same user over SMTP: the code of the first refusal and its text, or 250."""
        script = """
import smtplib, sys
with smtplib.SMTP(sys.argv[1], int(sys.argv[2]), timeout=30) as client:
    client.ehlo()
    answer = client.mail("ceo@us.example")
    for one in sys.argv[3:]:
        if answer[0] == 250:
            answer = client.rcpt(one)
    if answer[0] == 250:
        answer = client.data("Subject: x\\n\\nx\\n")
print(answer[0], answer[1].decode())
"""
        done = subprocess.run(["/usr/bin/python3", "-c", script, host, str(server.port),
                               *(recipients or (TO,))], capture_output=True, user=uid, group=uid,
                              extra_groups=[], cwd="/", timeout=wait.DEADLINE, text=True)
        self.assertEqual(done.returncode, 0, done.stderr)
        code, text = done.stdout.split(" ", 1)
        return int(code), text.strip()

    def test_loopback_counts_as_sendmail_does(self):
        server = self.relay_for_users(messages_per_hour=4, recipients_per_hour=9)
        self.assertEqual(self.send(server, ANN)[0], 0)
        for _ in range(3):
            self.assertEqual(self.speak(server, ANN)[0], 250)
        limited = (450, "4.7.1 You have reached your limit of 4 messages an hour, try again later")
        for _ in range(2):
            self.assertEqual(self.speak(server, ANN), limited)
        self.assertEqual(self.send(server, ANN)[0], 75)
        alarm, = server.log("user_limited")
        self.assertEqual((alarm["level"], alarm["user"]), ("error", f"uid {ANN}"))
        self.assertIn(f"uid {ANN}: 4 messages an hour", server.postrider("status"))
        self.assertEqual(self.speak(server, BOB, *(f"x{i}@far.example" for i in range(9)))[0], 250)
        self.assertEqual(self.speak(server, BOB), (
            450, "4.7.1 You have reached your limit of 9 recipients an hour, try again later"))
        for _ in range(6):
            self.assertEqual(self.speak(server, 0)[0], 250, "root is not limited")
        server.restart()
        self.assertEqual(self.speak(server, ANN), limited)
        server.write_config(sendmail={"unlimited": [str(ANN)]})
        server.reload()
        server.wait_for_log("reloaded")
        self.assertEqual(self.speak(server, ANN)[0], 250)

    def test_one_user_does_not_take_all_sessions(self):
        server = self.relay_for_users()
        server.stop()
        server.write_config(accept={"sessions": 80})
        server.start()
        held = []
        self.addCleanup(lambda: [one.close() for one in held])

        def connect():
            client = socket.create_connection(("127.0.0.1", server.port), timeout=wait.DEADLINE)
            held.append(client)
            return client

        def connect_as(uid, count):
            """Sockets belong to who made them. How many sessions were begun."""
            os.setegid(uid)
            os.seteuid(uid)
            try:
                clients = [connect() for _ in range(count)]
            finally:
                os.seteuid(0)
                os.setegid(0)
            greetings = [client.recv(200) for client in clients]
            self.assertLessEqual({greeting[:3] for greeting in greetings}, {b"220", b"421"})
            begun.extend(client for client, greeting in zip(clients, greetings) if greeting.startswith(b"220"))
            return sum(greeting.startswith(b"220") for greeting in greetings)
        begun = []
        self.assertEqual(connect_as(ANN, 60), 20)
        self.assertEqual(self.speak(server, BOB)[0], 250)
        begun[0].close()  # the first to connect need not be the first that was let in
        wait.until(lambda: connect_as(ANN, 1) == 1, "a place that is free again")
        self.assertEqual(connect_as(0, 30), 30, "root is not limited")

    def test_without_limits_nobody_is_asked_for(self):
        server = self.relay_for_users(messages_per_hour=0, messages_per_day=0, recipients_per_hour=0,
                                      recipients_per_day=0)
        for _ in range(3):
            self.assertEqual(self.speak(server, ANN)[0], 250)
        self.assertEqual(server.log("user_limited"), [])

    def test_messages_of_one_user(self):
        server = self.relay_for_users(messages_per_hour=3)
        for _ in range(3):
            self.assertEqual(self.send(server, ANN), (0, ""))
        for _ in range(2):
            self.assertEqual(self.send(server, ANN), (
                75, "sendmail: you may send at most 3 messages an hour; try again later\n"))
        self.assertEqual(self.send(server, BOB)[0], 0)
        for _ in range(5):
            self.assertEqual(self.send(server, 0)[0], 0, "root is not limited")
        alarm, = server.log("user_limited")  # once an hour
        self.assertEqual((alarm["level"], alarm["user"], alarm["limit"]),
                         ("error", f"uid {ANN}", "3 messages an hour"))
        self.assertIn(f"uid {ANN}: 3 messages an hour", server.postrider("status"))
        server.restart()  # what was sent is not forgotten
        self.assertEqual(self.send(server, ANN)[0], 75)
        done = subprocess.run([self.program, "-bs"], input=(
            "EHLO c.example\r\nMAIL FROM:<a@us.example>\r\nRCPT TO:<b@far.example>\r\nDATA\r\n"
            "Subject: x\r\n\r\nx\r\n.\r\nQUIT\r\n").encode(), capture_output=True,
            env=server.environment(), user=ANN, group=ANN, extra_groups=[], cwd="/")
        self.assertIn(b"\r\n451 4.3.0 you may send at most 3 messages an hour", done.stdout)
        server.write_config(sendmail={"messages_per_hour": 4})
        server.reload()
        wait.until(lambda: self.send(server, ANN)[0] == 0, "the new limit")
        self.assertEqual(self.send(server, ANN)[0], 75)
        self.peer.wait_for(3 + 1 + 5 + 1)

    def test_recipients_of_one_user(self):
        server = self.relay_for_users(recipients_per_hour=10, messages_per_hour=0)
        many = [f"r{number}@far.example" for number in range(11)]
        self.assertEqual(self.send(server, ANN, *many), (
            77, "sendmail: you may send to at most 10 recipients, and this message has 11\n"))
        self.assertEqual(self.send(server, ANN, *many[:6])[0], 0)
        self.assertEqual(self.send(server, ANN, *many[:5]), (
            75, "sendmail: you may send at most 10 recipients an hour; try again later\n"))
        self.assertEqual(self.send(server, ANN, *many[:4])[0], 0)
        self.assertEqual(self.send(server, ANN)[0], 75)

    def test_users_without_limits(self):
        server = self.relay_for_users(messages_per_day=1, unlimited=["root", str(BOB)])
        for _ in range(3):
            self.assertEqual(self.send(server, BOB)[0], 0)
        self.assertEqual(self.send(server, ANN)[0], 0)
        self.assertIn("1 messages a day", self.send(server, ANN)[1])
        server.write_config(sendmail={"unlimited": ["no-such-user"]})
        server.reload()
        problem, = server.wait_for_log("config_refused")
        self.assertEqual((problem["key"], problem["problem"]),
                         ("sendmail.unlimited", "there is no user no-such-user"))
        done = server.tool("postrider", "check", check=False)
        self.assertEqual(done.returncode, 78)
        self.assertRegex(done.stderr, r"toml:\d+: sendmail.unlimited: there is no user no-such-user\n")

    def test_what_was_left_while_the_daemon_was_down_waits_for_its_turn(self):
        server = self.relay_for_users(messages_per_hour=2)
        server.stop()
        for _ in range(4):
            self.assertEqual(self.send(server, ANN)[0], 0)
        self.assertEqual(self.send(server, BOB)[0], 0)
        server.start()
        self.peer.wait_for(3)
        wait.until(lambda: [message["status"] for message in server.queue()] == ["dropped"] * 2,
                   "two that wait for their turn")
        self.assertEqual(sorted(message.sender for message in self.peer.messages),
                         [f"u{ANN}@us.example"] * 2 + [f"u{BOB}@us.example"])
        self.assertEqual(len(os.listdir(server.spool / "drop")), 2)
        self.assertEqual(len(server.wait_for_log("user_limited")), 1)
        server.write_config(sendmail={"messages_per_hour": 10})
        server.reload()
        self.peer.wait_for(5)
        wait.until(lambda: os.listdir(server.spool / "drop") == [], "an empty drop folder")


class Size(scenario.Scenario):
    def refused(self, server, *arguments, text):
        done = server.sendmail(*arguments, stdin=text, check=False)
        self.assertEqual((done.returncode, done.stderr),
                         (65, "sendmail: the message is larger than the limit of 64KiB\n"))

    def test_a_message_that_is_too_large_is_refused_at_once(self):
        server = self.daemon(start=False, accept={"message_size": "64KiB", "recipients": 100})
        large = "Subject: x\n\n" + "y" * 70000 + "\n"
        header = f"To: {daemon.USER}@us.example\nX: {'z' * 70000}\n\nx\n"
        dialog = (f"EHLO c.example\r\nMAIL FROM:<a@us.example> SIZE=70000\r\nMAIL FROM:<a@us.example>\r\n"
                  f"RCPT TO:<{daemon.USER}@us.example>\r\nDATA\r\n{large}\r\n.\r\n"
                  f"MAIL FROM:<a@us.example>\r\nRCPT TO:<{daemon.USER}@us.example>\r\nDATA\r\n"
                  "Subject: y\r\n\r\ny\r\n.\r\nQUIT\r\n").replace("\r\n", "\n").replace("\n", "\r\n")
        server.start()  # makes the spool
        server.stop()
        for state in ("down", "up"):
            self.refused(server, "-i", daemon.USER, text=large)
            self.refused(server, "-t", text=header)
            done = server.sendmail("-bs", stdin=dialog)
            self.assertIn("250-SIZE 65536\r\n", done.stdout)
            self.assertEqual(done.stdout.count("\n552 5.3.4 "), 2, done.stdout)
            self.assertIn("\n250 2.0.0 Queued as ", done.stdout)
            if state == "down":
                self.assertEqual(len(os.listdir(server.spool / "drop")), 1)
                server.start()
        server.wait_for_mail(2)
        self.assertEqual(server.log("drop_refused"), [])

    def test_an_endless_message_is_not_read_to_its_end(self):
        server = self.daemon(accept={"message_size": "64KiB"})
        with subprocess.Popen([daemon.BIN / "sendmail", "-i", "x@us.example"], stdin=subprocess.PIPE,
                              stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                              env=server.environment()) as program:
            try:
                while True:
                    program.stdin.write(b"yes\n" * 4096)
            except BrokenPipeError:
                pass
            self.assertEqual(program.wait(wait.DEADLINE), 65)
            program.stdin = None


class Circles(scenario.Scenario):
    """RFC 5321 6.3: whatever way it comes, a message with 100 Received fields has gone far enough."""

    HOP = "Received: from a by b; Mon, 1 Jan 2024 00:00:00 +0000\n"
    REST = "From: s@us.example\nSubject: round\n\nReceived: in the body\n"

    def test_sendmail_and_its_dialog_refuse(self):
        peer = self.sink()
        server = self.using(daemon.Postrider(self.own_folder("d"), **scenario.to(peer)))
        server.start()
        server.sendmail("-i", TO, stdin=self.HOP * 99 + self.REST)
        self.assertEqual(peer.wait_for(1)[0].content.count(b"Received: "), 101)
        for body in ("x\n", "x" * 70 + "\n", ("x" * 70 + "\n") * 3000):
            done = server.sendmail("-i", TO, stdin=self.HOP * 100 + self.REST + body, check=False)
            self.assertEqual(done.returncode, 65)
            self.assertIn("too many hops", done.stderr)
        said = server.sendmail("-bs", stdin=(
            f"HELO x\nMAIL FROM:<s@us.example>\nRCPT TO:<{TO}>\nDATA\n{self.HOP * 100}{self.REST}"
            ".\nQUIT\n")).stdout
        self.assertIn("too many hops", said)
        self.assertIn("554 ", said)
        server.wait_until_empty()  # of the first one
        self.assertEqual(len(peer.messages), 1)
        server.wait_for_log("submission_refused", 4)

    def test_the_drop_folder_sends_it_back(self):
        peer = self.sink()
        server = self.using(daemon.Postrider(self.own_folder("d"), **scenario.to(peer)))
        server.start()
        server.stop()
        server.sendmail("-i", "-f", "s@far.example", TO, stdin=self.HOP * 100 + self.REST)
        server.start()
        notice, = peer.wait_for(1)
        self.assertEqual((notice.sender, notice.addresses), ("", ["s@far.example"]))
        self.assertIn(b"too many hops", notice.content)


class Options(scenario.Scenario):
    """design: each option that cron, git, PHP, mutt and mdadm use."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.peer = cls.shared(scenario.sink.Sink())
        cls.server = cls.shared(daemon.Postrider(
            cls.folder / "d", **daemon.merged(scenario.to(cls.peer), {
                "delivery": {"retry": ["1h"]}})).start())

    def sent(self, *arguments, text=TEXT):
        before = len(self.peer.messages)
        self.server.sendmail(*arguments, stdin=text)
        message = self.peer.wait_for(before + 1)[before]
        return message, email.message_from_bytes(message.content)

    def test_N_R_and_V_go_out_as_DSN_parameters(self):
        message, _ = self.sent("-N", "success,delay", "-R", "hdrs", "-V", "id 1+2", "-f",
                               "s@us.example", TO)
        self.assertIn("RET=HDRS", message.parameters)
        self.assertIn("ENVID=id+201+2B2", message.parameters)
        self.assertIn("NOTIFY=SUCCESS,DELAY", message.recipients[0][1])
        message, _ = self.sent("-Nnever", "-Rfull", "-Vx", "-f", "s@us.example", TO)
        self.assertIn("RET=FULL", message.parameters)
        self.assertIn("ENVID=x", message.parameters)
        self.assertIn("NOTIFY=NEVER", message.recipients[0][1])
        for wrong in (("-N", "never,delay"), ("-N", "often"), ("-R", "some"), ("-V", "x" * 101),
                      ("-B", "9BIT"), ("-Z",), ("-f",), ("--long",)):
            done = self.server.sendmail(*wrong, *([TO] if wrong != ("-f",) else []), stdin=TEXT,
                                        check=False)
            self.assertEqual((done.returncode, done.stderr.count("\n")), (64, 1), wrong)

    def test_resent_fields_are_the_only_recipients(self):
        message, parsed = self.sent("-t", "-i", text=(
            "Resent-From: s@us.example\nResent-To: new@far.example\nResent-Bcc: blind@far.example\n"
            "From: old@us.example\nTo: first@far.example\nBcc: hidden@far.example\n"
            "Subject: again\n\nx\n"))
        self.assertEqual(sorted(message.addresses), ["blind@far.example", "new@far.example"])
        self.assertNotIn(b"bcc", message.content.lower())
        self.assertNotIn(b"blind", message.content)
        self.assertEqual(parsed["To"], "first@far.example")
        self.assertEqual(parsed["Resent-To"], "new@far.example")

    def test_t_takes_recipients_of_the_command_line_as_well(self):
        message, _ = self.sent("-t", "more@far.example", text=(
            "To: a@far.example, \"B, B\" <b@far.example>,\n group: c@far.example, d@far.example;\n"
            "bcc :\n e@far.example (comment)\nCc: \nSubject: x\n\nx\n"))
        self.assertEqual(sorted(message.addresses), [
            f"{name}@far.example" for name in ("a", "b", "c", "d", "e", "more")])
        self.assertNotIn(b"bcc", message.content.lower())

    def test_t_without_an_empty_line(self):
        """The header ends at the first line that is no field, however much follows."""
        line = "QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVo=\n"
        message, _ = self.sent("-t", text="To: a@far.example\nBcc: b@far.example\n" + line * 40_000)
        self.assertEqual(sorted(message.addresses), ["a@far.example", "b@far.example"])
        self.assertEqual(message.content.count(line.strip().encode()), 40_000)
        self.assertNotIn(b"Bcc", message.content)

    def test_t_with_one_odd_address(self):
        """The others get it, and the sender reads which one is wrong."""
        for odd in ("John Doe", "<<b@far.example>>", "'b@far.example'", "<>",
                    "<mailto:b@far.example>", '"Broken <b@far.example>'):
            before = len(self.peer.messages)
            done = self.server.sendmail("-t", stdin=f"Cc: c@far.example\nTo: {odd}\n\nx\n")
            self.assertIn("not sent to one recipient: ", done.stderr, odd)
            self.assertEqual(self.peer.wait_for(before + 1)[before].addresses, ["c@far.example"], odd)
        done = self.server.sendmail("-t", stdin="To: John Doe\n\nx\n", check=False)
        self.assertEqual(done.returncode, 65)
        self.assertIn("John Doe", done.stderr)

    def test_senders(self):
        for arguments, sender in ((("-f", "s@us.example"), "s@us.example"), (("-rs@us.example",), "s@us.example"),
                                  (("-f", "<>"), ""), (("-f", ""), ""), (("-f", "S <s@us.example>"), "s@us.example"),
                                  (("-fs",), "s@mx.us.example"), ((), f"{daemon.USER}@mx.us.example")):
            message, _ = self.sent(*arguments, TO)
            self.assertEqual(message.sender, sender, arguments)
        _, parsed = self.sent("-F", "Cron \"D\" Ämon", "-f", "s@us.example", TO)
        self.assertEqual(str(email.header.make_header(email.header.decode_header(parsed["From"]))),
                         'Cron "D" Ämon <s@us.example>')

    def test_dots_and_line_ends(self):
        text = b"Subject: x\r\n\r\na\r\n.\r\n..\r\nb"
        for arguments, body in ((("-i",), b"a\r\n.\r\n..\r\nb\r\n"), (("-oi",), b"a\r\n.\r\n..\r\nb\r\n"),
                                (("-bm",), b"a\r\n"), (("-G", "-oem", "-odb", "-U", "-m"), b"a\r\n")):
            message, _ = self.sent(*arguments, "-f", "s@us.example", TO, text=text)
            self.assertTrue(message.content.endswith(b"\r\n\r\n" + body), message.content)

    def test_8_bits(self):
        text = "Subject: x\n\nzeile ä\n"
        for arguments in (("-B8BITMIME",), ("-B", "7BIT"), ()):
            message, _ = self.sent(*arguments, "-f", "s@us.example", TO, text=text)
            self.assertIn("BODY=8BITMIME", message.parameters)
            self.assertTrue(message.content.endswith("zeile ä\r\n".encode()))

    def test_grouped_letters_and_a_recipient_before_options(self):
        message, _ = self.sent("-ti", "-oem", TO, "-f", "s@us.example", text=TEXT)
        self.assertEqual((message.sender, message.addresses), ("s@us.example", [TO]))
        message, _ = self.sent("-f", "s@us.example", "--", "-x@far.example")
        self.assertEqual(message.addresses, ["-x@far.example"])

    def test_v_says_the_id(self):
        done = self.server.sendmail("-v", "-f", "s@us.example", TO, stdin=TEXT)
        said = done.stdout.split()
        self.assertEqual(said[:2], ["queued", "as"])
        self.assertTrue(self.server.wait_for_log("accepted", id=said[2]))

    def test_bv_tells_and_sends_nothing(self):
        self.server.wait_until_empty()
        before = len(self.peer.messages)
        done = self.server.sendmail("-bv", f"{daemon.USER}@us.example", "nobody-here@us.example", TO)
        self.assertIn("maildir ", done.stdout)
        self.assertIn("there is no user", done.stdout)
        self.assertIn(f"smtp://127.0.0.1:{self.peer.port}", done.stdout)
        self.assertEqual(len(self.peer.messages), before)
        self.assertEqual(self.server.sendmail("-bv", check=False).returncode, 64)

    def test_bi_and_bp(self):
        self.assertEqual(self.server.sendmail("-bi").stdout, self.server.tool("newaliases").stdout)
        self.assertEqual(self.server.sendmail("-bp").stdout, self.server.mailq())
        for mode in ("-bd", "-bt", "-bz"):
            self.assertEqual(self.server.sendmail(mode, check=False).returncode, 64)

    def test_q_tries_again_all_or_some(self):
        peer = self.sink()
        peer.script["rcpt"] = lambda *_: "450 4.2.0 later"
        server = self.relay(peer, delivery={"retry": ["1h"]})
        for name in ("one", "two", "three"):
            server.sendmail("-i", "-f", f"{name}@us.example", f"{name}@far.example", stdin=TEXT)
        wait.until(lambda: len(server.log("attempted", verdict="deferred")) == 3, "three deferrals")
        ids = {message["sender"]: message["queue_id"] for message in server.queue()}
        peer.script.clear()
        for argument, name in ((f"-qI{ids['one@us.example']}", "one"), ("-qStwo@us.example", "two"),
                               ("-qRthree@far.example", "three")):
            before = len(peer.messages)
            server.sendmail(argument)
            self.assertEqual(peer.wait_for(before + 1)[before].addresses, [f"{name}@far.example"])
        peer.script["rcpt"] = lambda *_: "450 4.2.0 later"
        server.sendmail("-i", "-f", "s@us.example", TO, stdin=TEXT)
        wait.until(lambda: len(server.log("attempted", verdict="deferred")) == 4, "a deferral")
        peer.script.clear()
        server.sendmail("-q")
        server.wait_until_empty()

    def test_bs(self):
        done = self.server.sendmail("-bs", stdin=(
            "HELO c.example\r\nMAIL FROM:<> RET=FULL\r\nRCPT TO:<nobody>\r\nRCPT TO:<reader@far.example>\r\n"
            "DATA\r\nSubject: x\r\n\r\n..dot\r\n.\r\nRSET\r\nVRFY x\r\nNONSENSE\r\nDATA\r\nQUIT\r\nNOOP\r\n"))
        codes = [line[:3] for line in done.stdout.splitlines()]
        self.assertEqual(codes[0], "220")
        self.assertEqual(codes[-1], "221")
        self.assertIn("252", codes)
        self.assertIn("500", codes)
        self.assertIn("503", codes)

    def test_bs_keeps_DSN_parameters_of_each_recipient(self):
        done = self.server.sendmail("-bs", stdin=(
            "EHLO x\r\nMAIL FROM:<a@us.example> RET=HDRS ENVID=e\r\n"
            "RCPT TO:<b@far.example> NOTIFY=NEVER\r\n"
            "RCPT TO:<c@far.example> NOTIFY=SUCCESS ORCPT=rfc822;old@us.example\r\n"
            "RCPT TO:<d@far.example>\r\nDATA\r\nSubject: wishes\r\n\r\nx\r\n.\r\nQUIT\r\n"))
        self.assertIn("250-DSN", done.stdout)
        message, = wait.until(lambda: [message for message in self.peer.messages
                                       if b"Subject: wishes" in message.content], "the message")
        asked = {address: parameters for address, parameters in zip(
            message.addresses, (parameters for _, parameters in message.recipients))}
        self.assertIn("NOTIFY=NEVER", asked["b@far.example"])
        self.assertIn("NOTIFY=SUCCESS", asked["c@far.example"])
        self.assertIn("ORCPT=rfc822;old@us.example", asked["c@far.example"])
        self.assertNotIn("NOTIFY", "".join(asked["d@far.example"]))
        self.assertIn("ENVID=e", message.parameters)

    def test_bs_with_line_feeds(self):
        before = len(self.peer.messages)
        done = self.server.sendmail("-bs", stdin=(
            "EHLO x\nMAIL FROM:<a@us.example>\nRCPT TO:<b@far.example>\nDATA\nSubject: by lines\n\n"
            "..dot\n.\nQUIT\n"))
        self.assertIn("\n221 ", done.stdout)
        message = self.peer.wait_for(before + 1)[before]
        self.assertIn(b"Subject: by lines\r\n\r\n.dot\r\n", message.content)

    def test_bs_that_ends_in_the_middle(self):
        for rest in ("", "RCPT TO:<b@far.example>\r\n",
                     "RCPT TO:<b@far.example>\r\nDATA\r\nSubject: half\r\n\r\nx\r\n"):
            done = self.server.sendmail("-bs", stdin="MAIL FROM:<a@us.example>\r\n" + rest,
                                        check=False)
            self.assertEqual(done.returncode, 65)
            self.assertEqual(done.stderr, "sendmail: the input ended inside a transaction: not sent\n")
            self.assertIn("\n421 4.4.2 ", done.stdout)
        done = self.server.sendmail("-bs", stdin="EHLO x\r\n")  # nothing was lost
        self.assertEqual(done.stderr, "")
        self.sent("-i", TO)
        self.server.wait_until_empty()
        self.assertFalse([message for message in self.peer.messages
                          if b"Subject: half" in message.content])

    def test_a_large_message_with_a_TMPDIR_that_is_not_there(self):
        text = "Subject: large\n\n" + "a line of it\n" * 200_000
        os.environ["TMPDIR"] = "/nowhere"
        self.addCleanup(os.environ.pop, "TMPDIR")
        message, _ = self.sent("-i", TO, text=text)
        self.assertGreater(len(message.content), 2_400_000)

    def test_options_with_a_value_of_their_own(self):
        for options in (["-e", "m"], ["-oMr", "local"], ["-oMs", "host.example", "-oi"]):
            message, _ = self.sent(*options, TO)
            self.assertEqual(message.addresses, [TO])

    def test_more_recipients_than_one_message_may_have(self):
        peer = self.sink()
        server = self.relay(peer, accept={"recipients": 100}, sendmail={"recipients_per_hour": 0})
        names = [f"r{number}@far.example" for number in range(250)]
        done = server.sendmail("-v", "-i", *names, "R7@FAR.example", "r7@far.example", stdin=TEXT)
        self.assertEqual(done.stdout.count(", "), 2, done.stdout)
        server.wait_until_empty()
        came = sorted(address for message in peer.messages for address in message.addresses)
        self.assertEqual(sorted({address.lower() for address in came}), sorted(names))
        self.assertEqual(came.count("r7@far.example"), 1)
        # Nothing of it goes out when one of them is wrong.
        before = len(peer.messages)
        done = server.sendmail("-i", *names, "wrong@@x", stdin=TEXT, check=False)
        self.assertEqual(done.returncode, 65)
        self.assertIn('"wrong@@x"', done.stderr)
        server.stop()
        server.sendmail("-i", *names, stdin=TEXT)  # while it is down: three files
        self.assertEqual(len(os.listdir(server.spool / "drop")), 3)
        server.start()
        server.wait_until_empty()
        wait.until(lambda: sum(len(message.addresses) for message in peer.messages[before:]) == 250,
                   "what was dropped")

    def test_payloads_of_a_sender_and_of_recipients_are_data(self):
        """I02 I03 I04: from sendmail's command line to the next host."""
        for payload in ("-Cx", "--help", ";id;", "`id`", "$(id)", "|id", "a&b", "${run{x}}", "%s%n", "{0}"):
            message, _ = self.sent("-f", f'"{payload}"@us.example', "--", f'"{payload}"@far.example')
            for address in (message.sender, message.addresses[0]):
                self.assertEqual(address.rsplit("@", 1)[0].strip('"'), payload)
        for wrong in ("a b", "x@", "@x", "a\r\nb@far.example", "<;id;>"):
            done = self.server.sendmail("--", wrong, stdin=TEXT, check=False)
            if wrong not in ("<;id;>",):  # a local name after all, which does not exist
                self.assertEqual(done.returncode, 65, wrong)
            self.assertNotIn("\r", done.stderr)


if __name__ == "__main__":
    scenario.main()
