#!/usr/bin/python3
"""Keys for signing that change while the daemon runs, what `check` says of bad ones, and `dkim check`
of their records."""
import os
import shutil
import threading

from support_py import scenario, wait
from support_py.signatures import TEXT, Signing


class Changes(Signing):
    """Keys that change while the daemon runs."""
    both = False

    def wait_for_keys(self, server, names, count):
        wait.until(lambda: [entry["keys"] for entry in server.log("signing_keys")][-1:] == [names]
                   and len(server.log("signing_keys")) >= count, lambda: f"keys {names}: {server.log('signing_keys')}")

    def signers(self, server):
        before = len(self.target.messages)
        self.hand_over(server)
        message = self.sent(before + 1)[before]
        return [f"{field['d']}/{field['s']}" for field in self.peers.fields(message)]

    def test_a_new_key_without_a_reload(self):
        server = self.signing()
        self.assertEqual(self.signers(server), ["us.example/r1"])
        self.peers.new_key(self.keys, "us.example", "r2", "--ed25519")
        (self.keys / "us.example" / "r1.pem").unlink()
        self.wait_for_keys(server, "us.example/r2", 2)
        self.hand_over(server)
        self.peers.check(self, self.sent(2)[1], "us.example/r2")

    def test_rubbish_leaves_the_old_key(self):
        server = self.signing()
        key = self.keys / "us.example" / "r1.pem"
        good = key.read_bytes()
        key.write_bytes(b"rubbish")
        refused, = server.wait_for_log("signing_key_refused")
        self.assertEqual((refused["key"], refused["kept"]), ("dkim.folder", "the old ones"))
        self.assertIn("r1.pem", refused["problem"])
        self.hand_over(server)
        self.peers.check(self, self.sent()[0], "us.example/r1")
        server.reload()
        server.wait_for_log("config_refused")
        wait.until(lambda: "r1.pem" in server.postrider("status"), lambda: server.postrider("status"))
        self.hand_over(server)
        self.peers.check(self, self.sent(2)[1], "us.example/r1")
        key.write_bytes(good)
        self.assertIn("no problems", server.postrider("check"))

    def test_a_reload_takes_keys_up_at_once(self):
        server = self.signing()
        self.peers.new_key(self.keys, "new.example", "n1", "--ed25519")
        server.reload()
        server.wait_for_log("reloaded")
        self.hand_over(server, TEXT.replace(b"ann@us.example", b"ann@new.example"))
        self.peers.check(self, self.sent()[0], "new.example/n1")
        server.write_config(dkim={"folder": ""})
        server.reload()
        server.wait_for_log("reloaded", 2)
        self.assertEqual(self.signers(server), [])

    def test_rotation_under_load(self):
        server = self.signing()
        done = threading.Event()
        problems = []

        def work(_):
            count = 0
            while not done.is_set() or count < 5:
                try:
                    self.hand_over(server)
                    count += 1
                except AssertionError as problem:
                    problems.append(problem)
                    return count
            return count
        threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
        for thread in threads:
            thread.start()
        try:
            for number in range(2, 5):
                self.peers.new_key(self.keys, "us.example", f"k{number}", "--ed25519")
                for old in (self.keys / "us.example").glob("*.pem"):
                    if old.stem != f"k{number}":
                        old.unlink()
                server.reload()
                server.wait_for_log("reloaded", number - 1)
        finally:
            done.set()
            for thread in threads:
                thread.join()
        self.assertFalse(problems)
        self.hand_over(server)
        server.wait_until_empty()
        seen = set()
        for message in self.sent(15):
            field, = self.peers.fields(message)
            self.assertIs(self.peers.by_dkimpy(message, 0), True)
            seen.add(field["s"])
        self.assertIn("k4", seen)


class Checking(Signing):
    both = False

    def refused(self, server, *words):
        done = server.tool("postrider", "check", check=False)
        told = done.stdout + done.stderr
        self.assertEqual(done.returncode, 78, told)
        for word in words:
            self.assertIn(word, told)
        return told

    def test_what_check_finds(self):
        server = self.signing(start=False)
        self.assertIn("no problems", server.postrider("check"))
        key = self.keys / "us.example" / "r1.pem"
        good = key.read_bytes()
        os.chmod(key, 0o644)
        line = self.refused(server, "dkim.folder", "is open to others (mode 0644); expected mode 0600 or 0640")
        self.assertRegex(line, r"postrider\.toml:\d+: dkim\.folder: ")
        os.chmod(key, 0o660)
        self.refused(server, "is open to others (mode 0660)")
        os.chmod(key, 0o600)
        key.write_bytes(good[:len(good) // 2])
        self.refused(server, "r1.pem", "is of no use")
        self.assertNotIn(good[40:60].decode(), self.refused(server))
        key.write_bytes(good)
        (self.keys / "not a domain").mkdir()
        self.refused(server, "is not named by a domain")
        (self.keys / "not a domain").rmdir()
        (self.keys / "us.example" / "a_b;c.pem").write_bytes(good)
        os.chmod(self.keys / "us.example" / "a_b;c.pem", 0o600)
        self.refused(server, "is not named by a selector")
        (self.keys / "us.example" / "a_b;c.pem").unlink()
        (self.keys / "README").write_text("a plain file is let alone")
        self.assertIn("no problems", server.postrider("check"))
        server.write_config(dkim={"folder": str(self.keys / "missing")})
        self.refused(server, "dkim.folder", "cannot be read")
        server.write_config(dkim={"folder": "", "keys": ["us.example:s1:/missing.pem"]})
        self.refused(server, "dkim.keys", "/missing.pem", "cannot be read")
        server.write_config(dkim={"keys": ["us.example:/missing.pem"]})
        self.refused(server, "dkim.keys", "names no key")
        server.write_config(dkim={"keys": [], "sign": ["everything"]})
        self.refused(server, "dkim.sign", "is not a kind of mail")
        server.write_config(dkim={"sign": ["sendmail"], "signed_fields": ["Received"]})
        self.refused(server, "dkim.signed_fields", "is changed on the way")
        server.write_config(dkim={"signed_fields": ["To"], "oversigned_fields": ["Subject"]})
        self.refused(server, "dkim.oversigned_fields", "leaves out From")

    def test_nothing_starts_with_a_bad_key(self):
        server = self.signing(start=False)
        os.chmod(self.keys / "us.example" / "r1.pem", 0o604)
        server.start(ready=False)
        self.assertEqual(server.process.wait(wait.DEADLINE), 78)
        server.process = None
        self.assertIn("is open to others", server.stderr())


class Records(Signing):
    """`postrider dkim check` beside a real name server."""
    domains = ("us.example",)

    @staticmethod
    def line(selector, text):
        strings = " ".join(f'"{text[at:at + 250]}"' for at in range(0, len(text), 250))
        return f"{selector}._domainkey TXT {strings}\n"

    def check(self, code, *arguments):
        done = self.server.tool("postrider", "dkim", "check", *arguments, check=False)
        self.assertEqual(done.returncode, code, done.stdout + done.stderr)
        return done.stdout + done.stderr

    def test_what_is_compared(self):
        rsa = self.peers.records["r1._domainkey.us.example"]
        ed25519 = self.peers.records["e1._domainkey.us.example"]
        self.peers.new_key(self.own_folder("other"), "us.example", "x", "--ed25519")
        other = self.peers.records["x._domainkey.us.example"]
        good = self.line("r1", rsa)
        knot = self.knot(us_example=good + self.line("e1", ed25519))
        self.server = self.signing(start=False, dns={"servers": [knot.server]})
        ok = "e1._domainkey.us.example: ok\nr1._domainkey.us.example: ok\n"
        self.assertEqual(self.check(0), ok)
        self.assertEqual(self.check(0, "US.example"), ok)
        self.assertIn("no key of far.example", self.check(66, "far.example"))
        for text, code, words in (
                ("", 65, "there is no record"),
                (self.line("e1", other), 65, "holds another key"),
                (self.line("e1", rsa), 65, "holds another key"),
                (self.line("e1", "v=DKIM1; k=ed25519; p="), 65, "is revoked"),
                (self.line("e1", ed25519 + "; t=y"), 0, "this is a test"),
                (self.line("e1", ed25519 + "; t=s"), 0, "ok"),
                (self.line("e1", ed25519 + "; h=sha1"), 65, "does not allow"),
                (self.line("e1", ed25519 + "; s=tlsrpt"), 65, "does not allow"),
                (self.line("e1", "v=spf1 -all"), 65, "is of no use"),
                (self.line("e1", ed25519) + self.line("e1", other), 65, "there are 2 records")):
            with self.subTest(words):
                knot.change(us_example=good + text)
                lines = self.check(code).splitlines()
                self.assertIn(words, lines[0])
                self.assertEqual(lines[1], "r1._domainkey.us.example: ok")
        knot.change(us_example=None)
        self.assertIn("the DNS gives no answer", self.check(75))
        (self.keys / "us.example" / "e1.pem").write_text("rubbish")
        self.assertIn("is of no use", self.check(78))

    def test_without_dkim_in_the_configuration(self):
        knot = self.knot(us_example=self.line("r1", self.peers.records["r1._domainkey.us.example"]))
        self.server = self.daemon(start=False, dns={"servers": [knot.server]})
        self.assertIn("cannot be read", self.check(78))
        shutil.copytree(self.keys, self.server.folder / "dkim")
        self.assertIn("e1._domainkey.us.example: there is no record", self.check(65))


if __name__ == "__main__":
    scenario.main()
