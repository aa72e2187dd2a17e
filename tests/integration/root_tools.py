#!/usr/bin/python3
"""Root's tools in folders of others: they follow no link of theirs, wait for no lock of theirs, and show a terminal
nothing that steers it. Needs root."""
import fcntl
import json
import os
import socket
import subprocess
import threading

from support_py import daemon, scenario, wait
from support_py.acting import as_user

EVE = 3001
CODES = "\x1b[2J\x9b1m\u202e"


class RootTools(scenario.Scenario):
    def setUp(self):
        super().setUp()
        if not scenario.is_root():
            self.skipTest("needs root")
        self.base = self.own_folder("base")
        self.base.chmod(0o755)
        at = self.base
        while at != at.parent:
            os.chmod(at, os.stat(at).st_mode | 0o005)
            at = at.parent
        self.eves = self.base / "eve"
        self.eves.mkdir()
        os.chown(self.eves, EVE, EVE)
        self.roots = self.base / "root"
        self.roots.mkdir(0o755)

    def tool(self, *arguments, stdin=""):
        return subprocess.run([str(daemon.BIN / "postrider"), *map(str, arguments)], input=stdin.encode(),
                              capture_output=True, timeout=wait.DEADLINE, cwd="/")

    def new_key(self, folder):
        return self.tool("dkim", "new", "example.com", "--selector", "s1", "--ed25519", "--folder", folder)

    def link(self, name, target):
        as_user(EVE, lambda: os.symlink(target, self.eves / name))
        self.assertTrue((self.eves / name).is_symlink())

    def test_a_key_goes_where_no_other_leads_it(self):
        for name, folder in (("example.com", self.eves), ("keys", self.eves / "keys")):
            with self.subTest(folder):
                self.link(name, self.roots)
                done = self.new_key(folder)
                self.assertEqual(done.returncode, 73, done)
                self.assertEqual(list(self.roots.iterdir()), [])
                (self.eves / name).unlink()
        done = self.new_key(self.eves)  # without links it is a folder like any other
        self.assertEqual(done.returncode, 0, done)
        self.assertEqual((self.eves / "example.com" / "s1.pem").stat().st_uid, 0)
        (self.base / "open").mkdir()
        (self.base / "open").chmod(0o777)
        done = self.new_key(self.base / "open")
        self.assertEqual(done.returncode, 73, done)
        self.assertIn(b"others may write", done.stderr)
        # root's own link, in a folder of root's, is one that root meant
        (self.base / "short").symlink_to(self.roots)
        self.assertEqual(self.new_key(self.base / "short").returncode, 0)

    def test_exported_mail_goes_where_no_other_leads_it(self):
        server = self.daemon(route=[{"domain": "*", "next_hop": f"smtp://127.0.0.1:{wait.free_port()}",
                                     "tls": "off"}])
        self.assertEqual(server.send("a@ext.example", ["b@far.example"], b"Subject: x\r\n\r\nx\r\n").code, 250)
        self.link("export", self.roots)
        done = server.tool("postrider", "queue", "export", "--folder", str(self.eves / "export"),
                           check=False)
        self.assertEqual(done.returncode, 73, done)
        self.assertEqual(list(self.roots.iterdir()), [])
        done = server.tool("postrider", "queue", "export", "--folder", str(self.roots), check=False)
        self.assertEqual(done.returncode, 0, done)
        self.assertEqual(len(list(self.roots.iterdir())), 1)

    def passwd(self, file, *more, stdin="secret\n"):
        return self.tool("passwd", "ann", "--no-scram", "--file", file, *more, stdin=stdin)

    def test_a_password_goes_where_no_other_leads_it(self):
        secret = self.roots / "users"
        self.assertEqual(self.passwd(secret).returncode, 0)
        before = secret.read_bytes()
        for name, target, file in (("users", secret, self.eves / "users"),
                                   ("folder", self.roots, self.eves / "folder" / "users")):
            self.link(name, target)
            with self.subTest(name):
                done = self.passwd(file)
                self.assertNotEqual(done.returncode, 0, done)
                self.assertIn(b"link", done.stderr)
                self.assertEqual(secret.read_bytes(), before)
                self.assertTrue((self.eves / name).is_symlink())

    def test_no_lock_of_another_holds_passwords_up(self):
        users = self.roots / "users"
        self.assertEqual(self.passwd(users).returncode, 0)
        taken, ready = os.pipe()
        finish, end = os.pipe()

        def hold():
            held = []
            for path in (self.roots, users, self.roots / "users.lock"):
                try:
                    held.append(os.open(path, os.O_RDONLY))
                except OSError:
                    continue
                fcntl.flock(held[-1], fcntl.LOCK_EX)
            os.write(ready, b"%d" % len(held))
            os.read(finish, 1)
            return len(held)
        thread = threading.Thread(target=as_user, args=(EVE, hold))
        thread.start()
        self.addCleanup(thread.join)
        self.addCleanup(os.write, end, b"x")
        self.assertEqual(os.read(taken, 10), b"1")  # the folder, and nothing else
        done = self.passwd(users)
        self.assertEqual((done.returncode, done.stdout), (0, f"{users}: password set\n".encode()))

    def test_a_lock_that_is_not_let_go_is_told(self):
        users = self.roots / "users"
        self.assertEqual(self.passwd(users).returncode, 0)
        before = users.read_bytes()
        with open(self.roots / "users.lock", "r+b") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            done = self.passwd(users)
        self.assertNotEqual(done.returncode, 0)
        self.assertIn(b"is being changed by another program", done.stderr)
        self.assertEqual(users.read_bytes(), before)

    def config_with(self, text):
        config = self.base / "postrider.toml"
        config.write_text(f'hostname = "us.example"\nspool = "{self.base}/spool"\n' + text)
        return config

    def newaliases(self, path):
        config = self.config_with(f'[local]\naliases = "cdb:{path}"\n')
        return subprocess.run([str(daemon.BIN / "newaliases"), "-c", config], capture_output=True,
                              timeout=wait.DEADLINE, cwd="/")

    def test_a_compiled_table_is_its_authors_and_goes_where_no_other_leads_it(self):
        """What it says is done with its owner's rights, whoever has compiled it."""
        lists = self.eves / "lists"

        def make():
            lists.mkdir()
            (lists / "aliases").write_text("all: bob\nmore: eve\n")
        as_user(EVE, make)
        done = self.newaliases(lists / "aliases.cdb")
        self.assertEqual(done.returncode, 0, done)
        made = (lists / "aliases.cdb").stat()
        self.assertEqual((made.st_uid, made.st_mode & 0o7777), (EVE, 0o644))
        self.assertEqual(sorted(path.name for path in lists.iterdir()), ["aliases", "aliases.cdb"])
        (self.roots / "aliases").write_text("all: bob\n")
        self.assertEqual(self.newaliases(self.roots / "aliases.cdb").returncode, 0)
        self.assertEqual((self.roots / "aliases.cdb").stat().st_uid, 0)
        (self.roots / "aliases.cdb").unlink()
        # Another folder, or another file, in the place of hers.
        as_user(EVE, lambda: os.rename(lists, self.eves / "away"))
        self.link("lists", self.roots)
        done = self.newaliases(lists / "aliases.cdb")
        self.assertEqual(done.returncode, 73, done)
        self.assertIn(b"symbolic link", done.stdout + done.stderr)
        self.assertEqual([path.name for path in self.roots.iterdir()], ["aliases"])
        lists.unlink()
        (self.eves / "away").rename(lists)
        (lists / "aliases.cdb").unlink()
        (self.roots / "precious").write_text("keep me\n")
        as_user(EVE, lambda: os.symlink(self.roots / "precious", lists / "aliases.cdb"))
        done = self.newaliases(lists / "aliases.cdb")
        self.assertEqual(done.returncode, 0, done)
        self.assertEqual((self.roots / "precious").read_text(), "keep me\n")
        self.assertFalse((lists / "aliases.cdb").is_symlink())
        (lists / "aliases").unlink()
        secret = self.roots / "secret"
        secret.write_text("root: x\n")
        secret.chmod(0o600)
        as_user(EVE, lambda: os.symlink(secret, lists / "aliases"))
        before = (lists / "aliases.cdb").read_bytes()
        self.assertNotEqual(self.newaliases(lists / "aliases.cdb").returncode, 0)
        self.assertEqual((lists / "aliases.cdb").read_bytes(), before)

    def test_a_key_is_read_where_no_other_leads(self):
        """Root reads it at the start and for a check: whoever keeps the folder names no other's key."""
        key, certificate = self.roots / "key.pem", self.roots / "cert.pem"
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
                        "-nodes", "-days", "2", "-subj", "/CN=mx.us.example", "-keyout", key, "-out",
                        certificate], check=True, capture_output=True)
        key.chmod(0o600)

        def check(place):
            config = self.config_with(f'user = ""\n[tls]\ncertificate = "{certificate}"\nkey = "{place}"\n')
            return self.tool("check", "-c", config)
        self.assertEqual(check(key).returncode, 0, check(key))
        (self.roots / "live").mkdir()
        (self.roots / "live" / "key.pem").symlink_to("../key.pem")  # as certbot has it
        self.assertEqual(check(self.roots / "live" / "key.pem").returncode, 0)
        self.link("key.pem", key)
        self.link("folder", self.roots)
        hard = self.eves / "hard.pem"
        os.link(key, hard)  # as where the kernel does not protect them
        pipe = self.eves / "pipe.pem"
        as_user(EVE, lambda: os.mkfifo(pipe))
        common = self.roots / "common"  # as /tmp
        common.mkdir()
        common.chmod(0o1777)
        as_user(EVE, lambda: os.symlink(key, common / "key.pem"))
        for place, says in ((self.eves / "key.pem", "symbolic link"), (hard, "another name"),
                            (common / "key.pem", "symbolic link"),
                            (self.eves / "folder" / "key.pem", "symbolic link"), (pipe, "cannot be read")):
            with self.subTest(place):
                done = check(place)
                self.assertEqual(done.returncode, 78, done)
                self.assertIn(says, (done.stdout + done.stderr).decode())
        own = self.eves / "own.pem"
        own.write_bytes(key.read_bytes())
        os.chown(own, EVE, EVE)
        self.assertEqual(check(own).returncode, 0, check(own))

    def assert_harmless(self, octets):
        text = octets.decode()  # and it is UTF-8
        for code in CODES[0], "\x9b", "\u202e", "\x7f":
            self.assertNotIn(code, text)

    def test_what_files_are_called_and_hold_steers_no_terminal(self):
        folder = self.base / "dkim" / "example.com"
        folder.mkdir(parents=True)
        for name in (os.fsencode(CODES), b"\xff\x9b1m"):
            (folder / os.fsdecode(name + b".pem")).write_text("no key\n")
        done = self.tool("dkim", "record", "example.com", "--folder", folder.parent)
        self.assertNotEqual(done.returncode, 0)
        self.assertIn(rb"\x1b[2J", done.stderr)
        self.assert_harmless(done.stdout + done.stderr)
        config = self.base / "postrider.toml"
        config.write_text('hostname = "us.example"\n"' + r"\u001b[2J" + '" = 1\n')
        done = self.tool("check", "-c", config)
        self.assertNotEqual(done.returncode, 0)
        self.assert_harmless(done.stdout + done.stderr)

    def answer(self, door, lines):
        with door:
            while True:
                try:
                    client, _ = door.accept()
                except OSError:
                    return
                with client:
                    client.makefile("rb").readline()
                    client.sendall(b"".join(json.dumps(line).encode() + b"\n" for line in lines))

    def test_what_the_daemon_says_steers_no_terminal(self):
        config = self.base / "postrider.toml"
        path = self.base / "control"
        config.write_text(f'hostname = "us.example"\nspool = "{self.base}/spool"\n'
                          f'[control]\nsocket = "{path}"\n')
        door = socket.socket(socket.AF_UNIX)
        door.bind(str(path))
        door.listen()
        text = CODES + "\x7f\U000e0041"
        thread = threading.Thread(target=self.answer, args=(door, [
            {"message": {"id": text, "sender": text, "status": text, "reason": text}},
            {"end": {"exit": 69, "error": text}}]))
        thread.start()
        self.addCleanup(thread.join)
        self.addCleanup(door.shutdown, socket.SHUT_RDWR)
        for arguments in (["queue"], ["queue", "--json"], ["show", "x"], ["status"]):
            with self.subTest(arguments):
                done = self.tool("-c", config, *arguments)
                self.assertEqual(done.returncode, 69, done)
                self.assertIn(rb"\x1b[2J", done.stderr)
                self.assert_harmless(done.stdout + done.stderr)
                if "--json" in arguments:
                    self.assertEqual(json.loads(done.stdout)["id"], text)


if __name__ == "__main__":
    scenario.main()
