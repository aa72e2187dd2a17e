#!/usr/bin/python3
"""The programs that people send mail with: each one's message arrives, over SMTP or by our
sendmail, also while the daemon is down."""
import email
import os
import shutil
import smtplib
import subprocess

from support_py import daemon, scenario, wait

TO = "reader@far.example"


class Submitters(scenario.Scenario):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.peer = cls.shared(scenario.sink.Sink())
        cls.server = cls.shared(daemon.Postrider(cls.folder / "d", **scenario.to(cls.peer)).start())

    def setUp(self):
        super().setUp()
        self.before = len(self.peer.messages)
        self.home = self.own_folder("home")

    def run_program(self, *command, stdin=b"", **environment):
        program = shutil.which(command[0])
        if program is None:
            self.skipTest(f"{command[0]} is not installed")
        # git asks who writes and commits, and guesses from the machine's name if it is not told.
        who = {"GIT_AUTHOR_NAME": "S", "GIT_AUTHOR_EMAIL": "s@ext.example",
               "GIT_COMMITTER_NAME": "S", "GIT_COMMITTER_EMAIL": "s@ext.example"}
        self.environment = {**self.server.environment(), "HOME": str(self.home), **who, **environment}
        done = subprocess.run([program, *map(str, command[1:])], input=stdin, cwd=self.home,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              env=self.environment, timeout=wait.DEADLINE)
        self.assertEqual(done.returncode, 0, done.stdout.decode(errors="replace"))
        return done.stdout.decode(errors="replace")

    def arrived(self, count=1):
        messages = self.peer.wait_for(self.before + count)[self.before:]
        self.server.wait_until_empty()
        self.assertEqual(len(self.peer.messages) - self.before, count)
        return messages[0] if count == 1 else messages

    def parsed(self, message):
        return email.message_from_bytes(message.content)

    # Over SMTP

    def test_swaks(self):
        self.run_program("swaks", "--server", f"127.0.0.1:{self.server.port}", "--to", TO,
                         "--from", "s@ext.example", "--header", "Subject: by swaks",
                         "--body", "line\n.dot\n", "--helo", "client.example")
        message = self.arrived()
        self.assertEqual((message.sender, message.addresses), ("s@ext.example", [TO]))
        self.assertIn(b"\r\n.dot\r\n", message.content)

    def test_swaks_with_pipelining(self):
        self.run_program("swaks", "--server", f"127.0.0.1:{self.server.port}", "--to",
                         f"{TO},second@far.example", "--from", "s@ext.example", "--pipeline")
        self.assertEqual(len(self.arrived().recipients), 2)

    def test_smtplib(self):
        with smtplib.SMTP("127.0.0.1", self.server.port) as client:
            refused = client.sendmail(
                "s@ext.example", [TO], "Subject: by smtplib\r\n\r\nhello\r\n..\r\n",
                mail_options=["BODY=8BITMIME"])
        self.assertEqual(refused, {})
        self.assertTrue(self.arrived().content.endswith(b"\r\n\r\nhello\r\n..\r\n"))

    def test_smtplib_with_an_international_address(self):
        message = email.message.EmailMessage()
        message["Subject"], message["From"], message["To"] = "Grüße", "grün@ext.example", "du@far.example"
        message.set_content("schöne Grüße\n")
        with smtplib.SMTP("127.0.0.1", self.server.port) as client:
            client.send_message(message)
        came = self.arrived()
        self.assertEqual(came.sender, "grün@ext.example")
        self.assertIn("SMTPUTF8", came.parameters)

    def test_curl(self):
        path = self.home / "mail.txt"
        path.write_bytes(b"From: s@ext.example\r\nTo: reader@far.example\r\nSubject: by curl\r\n"
                         b"\r\nhello\r\n")
        self.run_program("curl", "-sS", f"smtp://127.0.0.1:{self.server.port}/client.example",
                         "--mail-from", "s@ext.example", "--mail-rcpt", TO, "--upload-file", path)
        self.assertIn("Subject: by curl", self.arrived().content.decode())

    def test_msmtp(self):
        (self.home / ".msmtprc").write_text(
            f"account default\nhost 127.0.0.1\nport {self.server.port}\nfrom s@ext.example\n"
            "domain client.example\n")
        (self.home / ".msmtprc").chmod(0o600)
        self.run_program("msmtp", "--file", self.home / ".msmtprc", TO,
                         stdin=b"Subject: by msmtp\n\nhello\n")
        self.assertEqual(self.arrived().sender, "s@ext.example")

    # By our sendmail

    def sendmail(self):
        return str(daemon.BIN / "sendmail")

    def test_mutt(self):
        (self.home / ".muttrc").write_text(
            f'set sendmail="{self.sendmail()} -oem -oi"\nset from="s@ext.example"\n'
            "set use_envelope_from=yes\nset copy=no\n")
        self.run_program("mutt", "-F", self.home / ".muttrc", "-s", "by mutt", TO,
                         stdin=b"hello\n.\nafter a lone dot\n")
        message = self.arrived()
        self.assertEqual(message.sender, "s@ext.example")
        self.assertIn(b"after a lone dot", message.content)

    def test_s_nail(self):
        self.run_program("s-nail", "-n", "-S", f"mta={self.sendmail()}", "-S", "v15-compat=yes",
                         "-r", "s@ext.example", "-s", "by s-nail", TO, stdin=b"hello\n")
        message = self.arrived()
        self.assertEqual(message.addresses, [TO])
        self.assertEqual(message.sender, "s@ext.example")

    def test_git_send_email(self):
        for command in (("git", "init", "-q", "."),
                        ("git", "-c", "user.name=S", "-c", "user.email=s@ext.example", "commit",
                         "-q", "--allow-empty", "-m", "an empty change"),
                        ("git", "-c", "user.name=S", "-c", "user.email=s@ext.example",
                         "format-patch", "-q", "--always", "--root", "-o", "out")):
            self.run_program(*command)
        self.run_program("git", "send-email", "--quiet", "--confirm=never", "--suppress-cc=all",
                         f"--sendmail-cmd={self.sendmail()}", "--from", "s@ext.example",
                         "--to", TO, "out")
        self.assertIn("an empty change", self.parsed(self.arrived())["Subject"])

    def test_git_send_email_over_SMTP(self):
        self.run_program("git", "init", "-q", ".")
        patch = self.home / "0001.patch"
        patch.write_text("From 0000000000000000000000000000000000000000 Mon Sep 17 00:00:00 2001\n"
                         "From: S <s@ext.example>\nDate: Mon, 1 Jan 2024 00:00:00 +0000\n"
                         "Subject: [PATCH] by SMTP\n\nbody\n")
        self.run_program("git", "send-email", "--quiet", "--confirm=never", "--suppress-cc=all",
                         "--smtp-server=127.0.0.1", f"--smtp-server-port={self.server.port}",
                         "--from", "s@ext.example", "--to", TO, patch)
        self.assertIn("by SMTP", self.parsed(self.arrived())["Subject"])

    def test_the_line_of_cron(self):
        self.server.sendmail("-FCronDaemon", "-i", "-B8BITMIME", "-oem", TO, stdin=(
            "From: root (Cron Daemon)\nTo: reader@far.example\n"
            "Subject: Cron <root@host> ls\n\nzeile mit ä\n.\nrest\n"))
        message = self.arrived()
        self.assertEqual(message.addresses, [TO])
        self.assertIn("zeile mit ä\r\n.\r\nrest\r\n".encode(), message.content)
        self.assertIn("Date", self.parsed(message))
        self.assertIn("Message-ID", self.parsed(message))

    def test_cron_writes_to_a_local_user(self):
        before = len(self.server.mailbox())
        self.server.sendmail("-FCronDaemon", "-i", "-B8BITMIME", "-oem",
                             f"{daemon.USER}@us.example", stdin="Subject: cron\n\nhello\n")
        self.server.wait_for_mail(before + 1)

    def test_recipients_from_the_header(self):
        self.server.sendmail("-t", "-oi", "-f", "s@ext.example", stdin=(
            "From: s@ext.example\nTo: One <one@far.example>,\n two@far.example\n"
            "Cc: three@far.example\nBcc: four@far.example\nSubject: -t\n\nhello\n"))
        message = self.arrived()
        self.assertEqual(sorted(message.addresses), [f"{name}@far.example" for name in
                                                     ("four", "one", "three", "two")])
        self.assertNotIn(b"bcc", message.content.lower())

    def test_without_i_a_lone_dot_ends_the_message(self):
        self.server.sendmail(TO, stdin="Subject: dot\n\nfirst\n.\nsecond\n")
        self.assertNotIn(b"second", self.arrived().content)

    def test_php_and_its_options(self):
        self.server.sendmail("-t", "-i", "-fs@ext.example", "-r", "s@ext.example",
                             stdin=f"To: {TO}\r\nSubject: by PHP\r\n\r\nhello\r\n")
        message = self.arrived()
        self.assertEqual(message.sender, "s@ext.example")
        self.assertNotIn(b"\r\r\n", message.content)

    def test_bs_speaks_SMTP(self):
        done = self.server.sendmail("-bs", stdin=(
            "EHLO client.example\r\nMAIL FROM:<s@ext.example>\r\nRCPT TO:<reader@far.example>\r\n"
            "DATA\r\nSubject: -bs\r\n\r\nhello\r\n.\r\nQUIT\r\n"))
        self.assertIn("\n221 ", "\n" + done.stdout)
        self.assertIn(b"Subject: -bs", self.arrived().content)

    def test_bp_shows_the_queue(self):
        self.assertIn("queue is empty", self.server.sendmail("-bp").stdout.lower())

    def test_an_empty_message_and_no_recipient(self):
        self.server.sendmail(TO, stdin="")
        self.arrived()
        done = self.server.sendmail("-t", stdin="Subject: nobody\n\nx\n", check=False)
        self.assertNotEqual(done.returncode, 0)

    def test_newaliases_succeeds(self):
        self.server.tool("newaliases")


class WhileDown(scenario.Scenario):
    def test_sendmail_works_while_the_daemon_is_down_and_the_mail_goes_out_at_its_start(self):
        peer = self.sink()
        server = self.relay(peer)
        server.stop()
        for number in range(5):
            server.sendmail("-i", "-f", "s@ext.example", TO,
                            stdin=f"Subject: {number}\n\nwhile down\n")
        self.assertEqual(peer.messages, [])
        self.assertTrue(os.listdir(server.spool / "drop"))
        server.start()
        peer.wait_for(5)
        server.wait_until_empty()
        self.assertEqual(len(peer.messages), 5)
        self.assertEqual(os.listdir(server.spool / "drop"), [])

    def test_the_listing_works_while_the_daemon_is_down(self):
        peer = self.sink()
        peer.stop()
        server = self.relay(peer)
        server.send("s@ext.example", TO, b"Subject: x\r\n\r\nx\r\n")
        wait.until(lambda: server.queue()[0]["recipients"][0].get("delay_reason"), "a deferral")
        before = server.queue()
        server.stop()
        self.assertEqual([m["queue_id"] for m in server.queue()],
                         [m["queue_id"] for m in before])
        self.assertIn(TO, server.mailq())
        self.assertIn(TO, server.sendmail("-bp").stdout)
        server.postrider("queue", "hold", "--to", TO)
        server.start()
        self.assertEqual([m["queue_name"] for m in server.queue()], ["hold"])


if __name__ == "__main__":
    scenario.main()
