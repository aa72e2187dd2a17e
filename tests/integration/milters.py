#!/usr/bin/python3
"""Milters: one that makes every edit, opendkim, and one that fails at every step. What is stored and signed is what they
made of the message; without them it goes as the configuration says, and no 250 was false."""
import base64
import json
import pathlib
import re
import struct
import subprocess

import dkim
import dns.rcode

from support_py import milter, nameserver, scenario, wait

PLAIN = (b"From: Ann <ann@src.example>\r\nTo: b@dst.example\r\nSubject: hello\r\nX-Gone: 1\r\n"
         b"Date: Mon, 23 Nov 2026 13:34:44 +0000\r\nMessage-ID: <1@src.example>\r\n\r\nHello.\r\n")
LARGE = PLAIN + b"A line of some length to fill it up.\r\n" * 20000
WAYS = {"tempfail": 451, "reject": 550, "accept": 250, "quarantine": 250}


class Filling(milter.Scripted):
    """Leaves no room on the disk when it is asked about a whole message, and then wants it edited."""

    def __init__(self, path, disk):
        self.ballast = disk / "ballast"
        self.is_filling = True
        super().__init__(path)

    def answer(self, kind):
        if kind != "E":
            return super().answer(kind)
        if self.is_filling:
            try:
                with open(self.ballast, "wb", buffering=0) as file:
                    while True:
                        file.write(b"\0" * 4096)
            except OSError:
                pass
        return milter.add("X-Seen", "1") + milter.frame(b"c")


class Milters(scenario.Scenario):
    def setUp(self):
        super().setUp()
        self.peer = self.sink()
        self.place = self.own_folder("milters")

    def scripted(self, answers=None, name="one", **settings):
        return self.using(milter.Scripted(self.place / f"{name}.sock", answers, **settings))

    def filtered(self, *milters, start=True, **settings):
        """milters: dictionaries of the configuration, or milters with the usual one."""
        told = [one if isinstance(one, dict) else {"address": one.path} for one in milters]
        return self.relay(self.peer, start=start, milter=told, **settings)

    def hand_in(self, server, message=PLAIN, to=("b@dst.example",)):
        with server.client() as client:
            client.hello("client.example")
            return client.message("ann@src.example", list(to), message)

    def arrived(self, count=1):
        return self.peer.wait_for(count)[-1]

    def reload(self, server, **changes):
        before = len(server.log("reloaded"))
        server.write_config(**changes)
        server.reload()
        server.wait_for_log("reloaded", before + 1)

    def keys(self):
        """A folder with a key of src.example, and its record."""
        folder = self.own_folder("keys")
        (folder / "src.example").mkdir()
        key = folder / "src.example" / "s1.pem"
        subprocess.run(["openssl", "genrsa", "-out", str(key), "2048"], check=True, stderr=subprocess.DEVNULL)
        key.chmod(0o600)
        public = subprocess.run(["openssl", "rsa", "-in", str(key), "-pubout", "-outform", "DER"], check=True,
                                stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout
        return folder, key, b"v=DKIM1; k=rsa; p=" + base64.b64encode(public)

    def assert_verifies(self, content, record):
        signed = content[content.index(b"DKIM-Signature"):]
        self.assertTrue(dkim.verify(signed, dnsfunc=lambda *_, **__: record), content[:2000])

    def test_every_edit(self):
        every = self.using(milter.every(self.place))
        folder, _, record = self.keys()
        server = self.filtered({"address": every.path, "name": "every"}, dkim={"folder": str(folder)})
        for count, message in enumerate((PLAIN, LARGE), 1):
            with server.client() as client:
                client.hello("client.example")
                client.begin("ann@src.example", ["b@dst.example"])
                self.assertEqual(client.command("RCPT TO:<refused@dst.example>").enhanced, "5.7.9")
                client.expect("DATA", 354)
                client.send(message.replace(b"\r\n.", b"\r\n..") + b".\r\n")
                self.assertEqual(client.reply().code, 250)
            found = self.arrived(count)
            self.assertEqual((found.sender, sorted(found.recipients)),
                             ("z@src.example", [("c@dst.example", ""), ("d@dst.example", "NOTIFY=NEVER")]))
            header, _, body = found.content.partition(b"\r\n\r\n")
            self.assertEqual(body, b"new " * 30000 + b"\r\n")
            self.assertIn(b"\r\nSubject: changed\r\n", header)
            self.assertNotIn(b"\r\nX-Gone:", header)
            self.assertIn(b"\r\nX-Insert: one\r\n two\r\n", b"\r\n" + header + b"\r\n")
            self.assertIn(b"|mx.us.example|<ann@src.example>|From|To|Subject|X-Gone|Date|Message-ID\r\n", header)
            event = server.wait_for_log("milter_edited", count)[-1]
            self.assertIn(b"\r\nX-Id: " + event["id"].encode(), header)
            server.wait_for_log("accepted", id=event["id"])
            self.assert_verifies(found.content, record)
        status = server.postrider("status")
        self.assertRegex(status, r"every: answers, connections \d+, messages 2, edited 2, refused 2")

    def test_opendkim(self):
        folder, key, record = self.keys()
        (folder / "hosts").write_text("127.0.0.1\n", "utf-8")
        path = self.place / "opendkim.sock"
        (folder / "conf").write_text(
            f"Mode s\nSocket local:{path}\nDomain src.example\nSelector s1\nKeyFile {key}\nInternalHosts {folder}/hosts\n"
            f"RequireSafeKeys no\nSyslog no\nPidFile {folder}/pid\nMinimumKeyBits 1024\n", "utf-8")
        opendkim = self.using(milter.Program(["/usr/sbin/opendkim", "-f", "-x", str(folder / "conf")], path))
        server = self.filtered(opendkim)
        for count, message in enumerate((PLAIN, LARGE, PLAIN), 1):
            self.assertEqual(self.hand_in(server, message).code, 250)
            content = self.arrived(count).content
            self.assertTrue(content.startswith(b"DKIM-Signature: "), content[:200])
            self.assert_verifies(content, record)

    def test_the_second_sees_what_the_first_has_done(self):
        first = self.scripted({"E": milter.insert(0, "X-First", "1") + milter.change(1, "Subject", "two")
                               + milter.body(b"changed\n") + milter.frame(b"c")})
        second = self.scripted({"E": milter.add("X-Second", "2") + milter.frame(b"c")}, name="two")
        server = self.filtered(first, second)
        self.assertEqual(self.hand_in(server).code, 250)
        fields = [data.split(b"\0")[:2] for data in second.data("L")]
        self.assertEqual(fields[0], [b"X-First", b"1"])
        self.assertIn([b"Subject", b"two"], fields)
        self.assertEqual(second.data("B"), [b"changed\r\n"])
        content = self.arrived().content
        self.assertTrue(content.startswith(b"X-First: 1\r\nReceived: "))
        self.assertTrue(content.endswith(b"\r\nX-Second: 2\r\n\r\nchanged\r\n"), content)

    def test_whatever_fails_has_its_default(self):
        edits = milter.add("X-Half", "1") + milter.body(b"half") + milter.frame(b"+", milter.text("<x@dst.example>"))
        broken = {"garbage": {"E": b"\0\0\0\1?"}, "endless": {"E": b"\xff\xff\xff\xff"},
                  "dies after its edits": {"E": milter.then_drop(edits)},
                  "wants what cannot be": {"E": edits + milter.add("no name", "x") + milter.frame(b"c")},
                  **{f"dies at {kind}": {kind: milter.DROP} for kind in "CHMRTLNBE"},
                  # These are spared a moment afterwards.
                  "another version": {"O": milter.frame(b"O", b"\0" * 12)}, "refuses to agree": {"O": milter.DROP}}
        for action, code in WAYS.items():
            server = self.filtered({"address": str(self.place / "one.sock"), "default_action": action, "name": "m"})
            for what, answers in broken.items():
                with self.subTest(action, what=what):
                    one = milter.Scripted(self.place / "one.sock", answers)
                    try:
                        with server.client() as client:
                            client.hello("client.example")
                            replies = [client.command("MAIL FROM:<ann@src.example>")]
                            if replies[-1].code == 250:
                                replies.append(client.command("RCPT TO:<b@dst.example>"))
                            if replies[-1].code == 250:
                                replies.append(client.command("DATA"))
                            if replies[-1].code == 354:
                                client.send(PLAIN + b".\r\n")
                                replies.append(client.reply())
                    finally:
                        one.close()
                    # Before a message begins nothing is lost: MAIL tries again, and may find it well.
                    self.assertEqual(replies[-1].code, code, replies)
                    if code == 250:
                        ident = re.search(r"queued as (\w+)", replies[-1].text).group(1)
                        state = server.postrider("show", ident, "--body") if action == "quarantine" else ""
                        self.assertNotIn("X-Half", state)
            if action == "quarantine":
                held = server.queue("--status", "held")
                self.assertEqual(len(held), len(broken))
                self.assertIn("milter m could not be asked", str(held[0]["recipients"][0]))
            elif code == 250:
                self.peer.wait_for(len(broken))
            server.stop()  # after which the log is complete
            self.assertEqual(len(server.log("accepted")), len(broken) if code == 250 else 0)
            self.assertGreaterEqual(len(server.log("milter_failed", action=action)), len(broken))
        contents = [one.content for one in self.peer.wait_for(len(broken))]
        self.assertEqual(len(contents), len(broken))
        for content in contents:
            self.assertEqual(content.partition(b"\r\nFrom: ")[2], PLAIN.partition(b"From: ")[2])

    def test_an_edit_for_which_there_is_no_room_is_no_250(self):
        disk = self.small_disk("60m")
        one = self.using(Filling(self.place / "filling.sock", disk))
        server = self.filtered(one, spool=str(disk / "spool"), accept={"message_size": "10MiB"})
        self.assertIn(self.hand_in(server, LARGE).code, (451, 452))
        self.assertTrue(one.ballast.exists())
        one.is_filling = False
        one.ballast.unlink()

        def is_taken():
            try:
                return self.hand_in(server, LARGE).code == 250
            except AssertionError:  # 452 at MAIL, until the room is seen
                return False
        wait.until(is_taken, "recovery", pause=0.2)
        content = self.arrived().content
        self.assertEqual(content.count(b"\r\nX-Seen: 1\r\n"), 1)
        self.assertEqual(without_ours(content).partition(b"\r\n\r\n")[2], LARGE.partition(b"\r\n\r\n")[2])
        server.wait_until_empty()
        server.stop()
        self.assertEqual(len(self.peer.messages), 1)
        self.assertEqual([one for one in (disk / "spool" / "body").rglob("*") if one.is_file()], [])

    def test_held_discarded_and_refused(self):
        one = self.scripted({"E": [milter.quarantine("looks odd") + milter.frame(b"c"), milter.frame(b"d"),
                                   milter.frame(b"y", b"554 5.7.7 No thanks\0"), milter.frame(b"t")]})
        server = self.filtered({"address": one.path, "name": "scan"})
        held = self.hand_in(server)
        self.assertEqual(held.code, 250)
        found, = server.queue()
        self.assertEqual(found["status"], "held")
        self.assertIn("held: milter scan: looks odd", str(found["recipients"][0]))
        self.assertEqual([self.hand_in(server).code for _ in range(3)], [250, 554, 451])
        self.assertEqual(len(server.queue()), 1)
        figures = json.loads(server.postrider("status", "--json"))["milter_figures"]["scan"]
        self.assertEqual({name: figures[name] for name in ("edited", "held", "failures")}, {"edited": 0, "held": 1, "failures": 0})
        server.restart()
        self.assertEqual(server.queue()[0]["status"], "held")
        self.assertEqual(self.peer.messages, [])
        server.postrider("queue", "release", "--all")
        self.assertEqual(without_ours(self.arrived().content), PLAIN)

    def test_each_message_is_shown_at_its_data(self):
        """However it comes, and whatever was said of the one before it."""
        one = self.scripted({"T": [milter.frame(b"y", b"554 5.7.7 No thanks\0")] * 3})
        server = self.filtered(one)
        with server.client() as client:
            client.hello("client.example")
            for is_chunked in (False, True, False):
                self.assertEqual(client.command("MAIL FROM:<ann@src.example>").code, 250)
                self.assertEqual(client.command("RCPT TO:<b@dst.example>").code, 250)
                client.send(b"BDAT %d LAST\r\n" % len(PLAIN) + PLAIN if is_chunked else b"DATA\r\n")
                self.assertEqual(client.reply().code, 554)
                self.assertEqual(client.command("RSET").code, 250)
        self.assertEqual([kind for seen in one.seen for kind, _ in seen].count("T"), 3)

    def test_whom_it_is_asked_about(self):
        one = self.scripted({"M": milter.frame(b"r")})
        server = self.filtered({"address": one.path, "mail": ["submission"]})
        self.assertEqual(self.hand_in(server).code, 250)
        self.assertEqual(one.seen, [])
        self.reload(server, milter=[{"address": one.path, "except_from": ["127.0.0.0/8"]}])
        self.assertEqual(self.hand_in(server).code, 250)
        self.reload(server, milter=[{"address": one.path, "listeners": [server.settings["listener"][0]["address"]],
                                     "macros": ["{daemon_name}=OURS"]}])
        with server.client() as client:
            client.hello("client.example")
            self.assertEqual(client.command("MAIL FROM:<ann@src.example>").code, 550)
        self.assertEqual(one.macros["{daemon_name}"], "OURS")
        self.reload(server, milter=[])
        self.assertEqual(self.hand_in(server).code, 250)
        self.arrived(3)

    def test_what_it_is_told_of_a_strangers_name(self):
        records = {"1.0.0.127.in-addr.arpa.": ("PTR", "mx.src.example."), "mx.src.example.": ("A", "127.0.0.1")}

        def answer(name, kind, data):
            known = records.get(name)
            if known is None or known[0] != kind:
                return int(dns.rcode.NXDOMAIN)
            return nameserver.records((name, kind, 60, known[1]))(data)

        names = self.using(nameserver.FakeServer(answer))
        wanted = struct.pack("!IIII", 6, 0x1ff, 0, 0) + b"_ {client_name} {client_ptr}\0"
        one = self.scripted({"O": milter.frame(b"O", wanted)})
        server = self.filtered(one, dns={"servers": [names.server]},
                               accept={"relay_from": [], "relay_to": ["dst.example"]})
        self.assertEqual(self.hand_in(server).code, 250)
        self.assertEqual((one.macros["_"], one.macros["{client_name}"], one.macros["{client_ptr}"]),
                         ("mx.src.example [127.0.0.1]", "mx.src.example", "mx.src.example"))
        told, = (data for kind, data in one.seen[0] if kind == "C")
        self.assertTrue(told.startswith(b"mx.src.example\0004"), told)
        records["mx.src.example."] = ("A", "192.0.2.1")
        server.restart()
        self.assertEqual(self.hand_in(server).code, 250)
        self.assertEqual((one.macros["_"], one.macros["{client_name}"], one.macros["{client_ptr}"]),
                         ("unknown [127.0.0.1]", "unknown", "mx.src.example"))

    def test_mail_of_sendmail(self):
        every = self.using(milter.every(self.place))
        folder, _, record = self.keys()
        server = self.filtered({"address": every.path, "mail": ["sendmail"]}, dkim={"folder": str(folder)})
        for count, message in enumerate((PLAIN, LARGE), 1):
            server.sendmail("-f", "ann@src.example", "b@dst.example", stdin=message.replace(b"\r\n", b"\n"))
            found = self.arrived(count)
            self.assertEqual((found.sender, sorted(found.addresses)), ("z@src.example", ["c@dst.example", "d@dst.example"]))
            self.assertTrue(found.content.endswith(b"\r\n\r\n" + b"new " * 30000 + b"\r\n"))
            self.assertIn(b"\r\nSubject: changed\r\n", found.content)
            self.assertIn(b"X-Seen: localhost|", found.content)
            self.assert_verifies(found.content, record)
        refused = server.sendmail("-f", "ann@src.example", "refused@dst.example", stdin=PLAIN, check=False)
        self.assertEqual(refused.returncode, 69)
        self.assertIn("Not here", refused.stderr)
        # Without the milter it waits in the drop folder, and no message is lost.
        every.stop()
        server.sendmail("-f", "ann@src.example", "b@dst.example", stdin=PLAIN)
        server.wait_for_log("milter_failed")
        self.assertEqual(len(self.peer.messages), 2)
        server.write_config(milter=[])
        server.restart()
        self.assert_verifies(self.arrived(3).content, record)

    def test_many_sessions_have_a_limit_together(self):
        one = self.scripted()
        server = self.filtered({"address": one.path, "connections": 2}, accept={"errors": 1000})
        clients = [server.client() for _ in range(3)]
        for client in clients:
            self.addCleanup(client.close)
            client.hello("client.example")
        codes = [client.command("MAIL FROM:<ann@src.example>").code for client in clients]
        self.assertEqual(codes, [250, 250, 451])
        clients[0].close()
        wait.until(lambda: clients[2].command("MAIL FROM:<ann@src.example>").code == 250, "a place", pause=0.2)

    def test_one_session_tries_again(self):
        server = self.filtered({"address": str(self.place / "one.sock"), "default_action": "tempfail"},
                               accept={"errors": 1000})  # it asks until the milter is there
        with server.client() as client:
            client.hello("client.example")
            self.assertEqual(client.command("MAIL FROM:<ann@src.example>").code, 451)
            one = self.scripted()
            wait.until(lambda: client.command("MAIL FROM:<ann@src.example>").code == 250, "the milter", pause=0.2)
            client.expect("RCPT TO:<b@dst.example>", 250)
        self.assertEqual(one.kinds(0)[:4], "OCHM")


def without_ours(content):
    return content[content.index(b"From: Ann"):]


if __name__ == "__main__":
    scenario.main()
