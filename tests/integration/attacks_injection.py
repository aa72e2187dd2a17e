#!/usr/bin/python3
"""attacks.md 2.9 against the whole daemon: each payload from every source that exists (HELO, MAIL, RCPT,
ENVID, ORCPT, the name in AUTH, header, body, a remote's replies, MX names) to every sink (log in its three
forms, mailboxes, files, commands, the next host, notices, the queue and what shows it).

Not here because there is no such source yet: I10 (DNSBL and SPF texts), I18 (signed return paths); PTR names
are not looked up."""
import base64
import email
import json
import os
import pathlib
import re
import sqlite3
import stat

from support_py import daemon, scenario, sink, wait
from support_py.daemon import USER

CANARY = "/tmp/postrider-canary-%d" % os.getpid()
# As the content of a quoted local part; each row is a payload of the catalogue or does what it would do.
PAYLOADS = {
    "I01": ["../../x", "..", ".", "%2e%2e", "a/b", "a\\\\b", "con", "/etc/passwd", "n" * 60],
    "I02": ["-Cx", "--help", "-", "--", "-oQ/tmp"],
    "I03": [f";touch {CANARY};", f"`touch {CANARY}`", f"$(touch {CANARY})", f"|touch {CANARY}",
            f"a&touch {CANARY}", f">{CANARY}", "$IFS", "~", "*"],
    "I04": ["${run{x}}", "${env:X}", "{{7*7}}", "%s%n%s%n", "{}", "{0}", "{:>99999999}", "%(x)s"],
    "I05": ["x'/**/UNION/**/SELECT/**/1--", "\\\";DROP TABLE message;--", "' OR 1=1 --", "x';--"],
}
# What only content and a remote's text can hold.
WILD = {
    "I06": ["\x1b[2J", "\x1b]0;x\x07", "\u2028forged", "\u202eforged", "x" * 65536, "\x7f", "\x01\x02"],
}
CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f\u2028\u2029\u202a-\u202e]")


def xtext(text):
    return "".join(c if 33 <= ord(c) <= 126 and c not in "+=" else f"+{ord(c):02X}" for c in text)


class Injection(scenario.Scenario):
    def setUp(self):
        super().setUp()
        pathlib.Path(CANARY).unlink(missing_ok=True)
        self.peer = self.sink(record_raw=True)

    def machine(self, form, **settings):
        folder = self.own_folder("injection")
        self.box = folder / "box"
        self.box.mkdir()
        program = folder / "program"
        program.write_text(f'#!/bin/sh\nenv -0 >{folder}/env.$$; printf "%s\\0" "$@" >{folder}/args.$$\n'
                           f'cat >{folder}/content.$$; mv {folder}/content.$$ {folder}/done.$$\n')
        program.chmod(0o755)
        server = daemon.Postrider(
            folder / "d", log={"format": form}, **daemon.merged(scenario.to(self.peer), settings),
            local={"mailbox": f"maildir:{self.box}/{{user}}/"}, delivery={"retry": ["1h"]},
            auth={"users": str(folder / "users"), "clear": True})
        (folder / "users").touch(0o600)
        server.submission = wait.free_port()
        server.write_config(listener=[
            {"address": f"127.0.0.1:{server.port}", "role": "mx", "tls": "off"},
            {"address": f"127.0.0.1:{server.submission}", "role": "submission", "tls": "off"}])
        (server.folder / "aliases").write_text(f'robot: "|{program} fixed"\nfile: {folder}/mbox\n')
        self.using(server)
        self.work = folder
        return server.start()

    def attack(self, server, payload, domain):
        """One transaction with the payload in every place; what is refused is refused."""
        quoted = f'"{payload}"'
        plain = re.sub(r"\\(.)", r"\1", payload)
        with server.client() as client:
            for name in (payload, plain.replace(" ", "")):
                client.command(f"EHLO {name}")
            client.hello()
            client.expect(f"MAIL FROM:<{quoted}@far.example> ENVID={xtext(plain)[:90]} RET=HDRS", 250)
            for recipient in (f"{USER}@us.example", "robot@us.example", "file@us.example",
                              f"{quoted}@{domain}", f"{quoted}@us.example",
                              f'"{USER}+{payload}"@us.example'):
                reply = client.command(f"RCPT TO:<{recipient}> ORCPT=rfc822;{xtext(plain)[:200]} "
                                       "NOTIFY=FAILURE,DELAY")
                self.assertIn(reply.code, (250, 550, 501, 553), recipient)
            client.expect("DATA", 354)
            client.send(sink_safe(f"From: {quoted}@far.example\r\nSubject: {plain}\r\n{plain}: {plain}\r\n"
                                  f"\r\nFrom {plain}\r\n{plain}\r\n") + b".\r\n")
            self.assertEqual(client.reply().code, 250, payload)
        with server.client() as client:
            client.command(f"VRFY {payload}")
            client.command(f"{payload} {payload}")
        with daemon.smtp.Client(server.submission) as client:
            client.hello()
            user = plain.encode()
            client.command("AUTH PLAIN " + base64.b64encode(b"\0" + user + b"\0x").decode())

    # The sinks

    def check_log(self, server, form):
        text = server.log_file.read_text("utf-8", "strict")
        self.assertIsNone(CONTROL.search(text), "a control character in the log")
        lines = text.splitlines()
        self.assertGreater(len(lines), 20)
        for line in lines:
            self.assertLess(len(line), 20000)
            if form == "json":
                json.loads(line)
            elif form == "text":
                self.assertRegex(line, r"^\d{4}-\d\d-\d\dT\S+ \w+ +\S+")
            else:
                self.assertRegex(line, r"^\w{3} [ \d]\d [\d:]{8} \S+ (postfix/[\w/-]+|postrider)\[\d+\]: ")

    def check_files(self, server):
        self.assertFalse(os.path.exists(CANARY), "a shell ran")
        self.assertEqual([path.name for path in self.box.iterdir()], [USER])
        self.assertEqual({path.name.split(".")[0] for path in self.work.iterdir()},
                         {"box", "program", "d", "users", "mbox", "env", "args", "done"})
        for path in (self.box / USER / "new").iterdir():
            head = path.read_bytes().split(b"\n\n")[0]
            self.assertEqual(len(re.findall(rb"(?m)^Return-Path:", head)), 1)
            self.assertEqual(head.count(b"\nReceived: "), 1)
        box = (self.work / "mbox").read_bytes()
        self.assertEqual(len(re.findall(rb"(?m)^From ", box)), len(list(self.work.glob("done.*"))))

    def check_commands(self):
        runs = list(self.work.glob("args.*"))
        self.assertTrue(runs)
        for path in runs:
            self.assertEqual(path.read_bytes(), b"fixed\0")
        for path in self.work.glob("env.*"):
            variables = dict(one.split("=", 1) for one in path.read_text().split("\0") if one)
            for name in ("SENDER", "RECIPIENT", "LOCAL", "DOMAIN"):
                self.assertRegex(variables[name], r"^(?!-)[\w.!@%+=:,/-]*$", name)

    def check_shown(self, server):
        listed = server.postrider("queue", "--json").splitlines()
        self.assertTrue(listed)
        for line in listed:
            one = json.loads(line)
            for text in (server.postrider("show", one["queue_id"]),
                         server.postrider("explain", one["queue_id"])):
                self.assertIsNone(CONTROL.search(text.replace("\r", "")), text)
        for text in (server.mailq(), server.postrider("queue"), server.postrider("status")):
            self.assertIsNone(CONTROL.search(text), text)

    def check_peer(self):
        for session in self.peer.sessions:
            self.assertIsNone(re.search(rb"(?<!\r)\n|\r(?!\n)|\0", bytes(session.raw)))
            for line in bytes(session.raw).split(b"\r\n"):
                self.assertNotRegex(line, rb"^(MAIL|RCPT).*(MAIL|RCPT) (FROM|TO):<.*>.*<")

    def check_notices(self, count):
        notices = [message for message in self.peer.messages if message.sender == ""]
        self.assertEqual(len(notices), count)
        for notice in notices:
            parsed = email.message_from_bytes(notice.content)
            self.assertEqual(parsed.get_content_type(), "multipart/report")
            parts = parsed.get_payload()
            self.assertEqual(len(parts), 3)
            report = parts[1].as_string()
            self.assertEqual(len(re.findall("(?m)^Final-Recipient:", report)), 1, report)
            self.assertEqual(len(re.findall("(?m)^Action: failed", report)), 1, report)
            self.assertIsNone(CONTROL.search(report.replace("\r", "")), report)

    def check_database(self, server):
        server.stop()
        with sqlite3.connect(f"file:{server.spool}/queue.db?mode=ro", uri=True) as database:
            self.assertEqual(database.execute("pragma integrity_check").fetchone(), ("ok",))
            names = {name for name, in database.execute("SELECT name FROM sqlite_master "
                                                        "WHERE type = 'table'")}
        self.assertTrue({"message", "recipient"} <= names, names)

    def through_all(self, form, most=100):
        server = self.machine(form)
        count = 0
        for row, payloads in PAYLOADS.items():
            for payload in payloads[:most]:
                with self.subTest(row=row, payload=payload):
                    self.peer.script["rcpt"] = lambda _, argument: (
                        f"550 5.1.1 {payload}" if "@refused.example" in argument else
                        f"450 4.2.0 {payload}" if "@later.example" in argument else None)
                    for domain in ("far.example", "refused.example", "later.example"):
                        self.attack(server, payload, domain)
                    count += ">" not in payload  # there the sink's reading of the argument ends
        wait.until(lambda: all(recipient["address"].endswith("@later.example")
                               for message in server.queue() for recipient in message["recipients"]),
                   lambda: f"everything but what is deferred to end: {server.queue()[:2]}")
        self.peer.script.clear()
        self.check_files(server)
        self.check_commands()
        self.check_shown(server)
        self.check_peer()
        self.check_notices(count)
        self.check_log(server, form)
        self.check_database(server)

    def test_I01_to_I05_with_the_log_in_JSON(self):
        """I01 I02 I03 I04 I05"""
        self.through_all("json")

    def test_I01_to_I05_with_the_log_in_text(self):
        """I01 I02 I03 I04 I05"""
        self.through_all("text", most=2)

    def test_I01_to_I05_with_the_log_in_Postfix_lines(self):
        """I01 I02 I03 I04 I05"""
        self.through_all("postfix", most=2)

    def test_I06_and_I07_in_what_a_remote_says(self):
        """I06 I07 I08: greeting, replies to RCPT and to the end, in log, queue and notice"""
        replies = [f"550 5.1.1 {text}" for text in WILD["I06"]] + [
            "550-\r\n550 x\ninjected", "550 " + "y" * (1 << 20), "550 \0nul", "550 \udcff\udcfe 8 bits",
            "550", "550-\r\n550", "550 5.99999999999.1 x", "550 5. x", "550 2.0.0 fine",
            "550 5.1.1 x\rFinal-Recipient: forged", "550-5.1.1 a\r\n550-5.1.1 Action: delivered\r\n550 5.1.1 c"]
        server = self.machine("json")
        bounced = 0
        for number, reply in enumerate(replies):
            for stage in ("rcpt", "end"):
                self.peer.script[stage] = lambda _, what: (
                    reply if "@far.example" in str(getattr(what, "addresses", what)) else None)
                code = server.send("s@back.example", f"r{number}-{stage}@far.example",
                                   b"Subject: I07\r\n\r\nx\r\n").code
                self.assertEqual(code, 250)
                ended = server.wait_for_log("attempted", to=f"r{number}-{stage}@far.example")[0]
                self.assertIn(ended["verdict"], ("bounced", "deferred"))
                self.assertLess(len(json.dumps(ended)), 8192)
                bounced += ended["verdict"] == "bounced"
                self.peer.script.clear()
        wait.until(lambda: len([m for m in self.peer.messages if m.sender == ""]) >= bounced,
                   lambda: f"{bounced} notices: {[m.sender for m in self.peer.messages]} {server.queue()}")
        self.check_notices(bounced)
        if server.queue():
            self.check_shown(server)
        text = server.log_file.read_text("utf-8", "strict")
        self.assertIsNone(CONTROL.search(text))
        for line in text.splitlines():
            json.loads(line)

    def test_I06_in_header_and_body(self):
        """I06: content goes through unchanged, and nothing of it is shown raw"""
        server = self.machine("json")
        self.peer.script["rcpt"] = lambda *_: "450 4.2.0 later"
        for text in WILD["I06"]:
            content = f"Subject: {text}\r\nMessage-ID: <{text[:40]}@x>\r\n\r\n{text}\r\n".encode()
            reply = server.send("a@far.example", "later@far.example", content)
            self.assertEqual(reply.code, 250, text[:20])
        self.assertTrue(server.wait_for_log("attempted", count=len(WILD["I06"])))
        text = server.log_file.read_text("utf-8", "strict")
        self.assertIsNone(CONTROL.search(text))
        for line in text.splitlines():
            json.loads(line)
        self.assertIsNone(CONTROL.search(server.mailq()))


class Names(scenario.Scenario):
    def test_I09_odd_names_of_MX_hosts(self):
        """I09: spaces, quotes, control bytes and NUL in MX names: not used, escaped where shown"""
        label = "a" * 63
        hosts = sink.with_same_port(["127.0.1.11"])
        for one in hosts:
            self.using(one)
        zone = ["ns A 127.0.0.1", "mx1 A 127.0.1.11"]
        odd = ["sp\\032ace", "qu\\\"ote", "semi\\;colon", "esc\\027\\0912J", "nul\\000x", "new\\010line",
               "sl\\047ash", "dot\\.dot", "-dash", f"{label}.{label}.{label}"]
        for number, name in enumerate(odd):
            zone += [f"odd{number} MX 10 {name}", f"{name} A 127.0.1.11", f"both{number} MX 10 {name}",
                     f"both{number} MX 20 mx1"]
        knot = self.knot(example="\n".join(zone))
        server = self.daemon(dns={"servers": [knot.server]}, delivery={
            "port": hosts[0].port, "retry": ["1h"], "connect_timeout": "3s"})
        for number in range(len(odd)):
            for kind in ("odd", "both"):
                self.assertEqual(server.send("a@us.example", f"b@{kind}{number}.example",
                                             b"Subject: I09\r\n\r\nx\r\n").code, 250)
        wait.until(lambda: {f"b@both{number}.example" for number in range(len(odd))} <= {
            address for message in hosts[0].messages for address in message.addresses},
            "those with a good host beside", deadline=90)
        wait.until(lambda: len(server.log("attempted")) >= 2 * len(odd), "attempts")
        for message in server.queue():
            told = server.tool("postrider", "explain", message["queue_id"], check=False)  # it may just have gone
            self.assertIsNone(CONTROL.search(told.stdout + told.stderr))
        self.assertIsNone(CONTROL.search(server.log_file.read_text()))
        for session in hosts[0].sessions:
            self.assertTrue(session)


class Modes(scenario.Scenario):
    def test_I13_nothing_of_ours_is_open_to_others_whatever_the_umask(self):
        """I13: umask 000 at the start"""
        folder = self.own_folder("umask")
        server = daemon.Postrider(folder / "d", wrapper=["sh", "-c", 'umask 000; exec "$@"', "sh"],
                                  local={"mailbox": f"mbox:{folder}/box/{{user}}"})
        self.using(server)
        server.start()
        server.send("a@ext.example", f"{USER}@us.example", b"Subject: x\r\n\r\n" + b"y\r\n" * 50000)
        server.sendmail("-i", f"{USER}@us.example", stdin="Subject: x\n\nx\n")
        server.wait_until_empty()
        for root in (server.spool, folder / "box"):
            for path in (root, *root.rglob("*")):
                mode = os.stat(path).st_mode
                if path == server.spool / "drop":
                    self.assertEqual(stat.S_IMODE(mode), 0o3733)
                elif path in (server.spool, folder / "box"):
                    self.assertEqual(mode & 0o022, 0, f"{path} {mode:o}")
                else:
                    self.assertEqual(mode & 0o077, 0, f"{path} {mode:o}")
        self.assertEqual(stat.S_IMODE(os.stat(server.log_file).st_mode) & 0o022, 0)

    def test_I13_a_spool_that_others_may_write_is_refused(self):
        """I13: unsafe modes"""
        server = self.daemon()
        server.stop()
        os.chmod(server.spool, 0o777)
        server.start(ready=False)
        self.assertNotEqual(server.process.wait(wait.DEADLINE), 0)
        server.process = None
        self.assertIn(str(server.spool), server.stderr())


class Forged(scenario.Scenario):
    def test_I17_no_field_of_a_message_directs_us(self):
        """I17: forged Return-Path, Received, Errors-To, X- and Resent- fields are content"""
        peer = self.sink()
        server = self.relay(peer)
        peer.script["rcpt"] = lambda _, argument: "550 no" if "refused" in argument else None
        forged = ("Return-Path: <victim@far.example>\r\nErrors-To: victim@far.example\r\n"
                  "Return-Receipt-To: victim@far.example\r\nX-Postrider-Sender: victim@far.example\r\n"
                  "X-Original-To: victim@far.example\r\nBcc: victim@far.example\r\n"
                  "Resent-To: victim@far.example\r\nApparently-To: victim@far.example\r\n"
                  "Received: from localhost by mx.us.example with local id 0; now\r\n"
                  "Status: RO\r\nContent-Length: 3\r\nTo: victim@far.example\r\n\r\nbody\r\n").encode()
        server.send("real@far.example", [f"{USER}@us.example", "refused@far.example"], forged)
        mail, = server.wait_for_mail()
        self.assertTrue(mail.startswith(b"Return-Path: <real@far.example>\n"))
        self.assertTrue(mail.replace(b"\n", b"\r\n").endswith(forged), "unchanged")
        notice = peer.wait_for(1)[0]
        self.assertEqual((notice.sender, notice.addresses), ("", ["real@far.example"]))
        server.wait_until_empty()
        self.assertEqual(len(peer.messages), 1)
        # By sendmail without -t no field names a recipient or a sender.
        server.sendmail("-i", "-f", "real@far.example", "one@far.example", stdin=forged)
        message = peer.wait_for(2)[1]
        self.assertEqual((message.sender, message.addresses), ("real@far.example", ["one@far.example"]))


def sink_safe(text):
    """Content with dots stuffed."""
    return re.sub(rb"(?m)^\.", b"..", text.encode())


if __name__ == "__main__":
    scenario.main()
