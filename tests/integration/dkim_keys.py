#!/usr/bin/python3
"""Keys for DKIM: `postrider dkim new` writes a key that nobody else can read and prints a record that fits it; `dkim
record` prints it again. Other software signs with the key and verifies by the record."""
import base64
import grp
import os
import pathlib
import re
import subprocess

from support_py import daemon, scenario

MESSAGE = b"From: joe@example.com\r\nTo: sue@example.net\r\nSubject: hi\r\n\r\nText\r\n"


def text_of(zone):
    """Owner and text of a zone file's TXT record."""
    found = re.search(r"(?ms)^(\S+)\. IN TXT \((.*)\)$", zone)
    strings = re.findall(r'"([^"]*)"', found.group(2))
    assert all(len(string) <= 255 for string in strings), strings
    return found.group(1), "".join(strings)


class DkimKeys(scenario.Scenario):
    def setUp(self):
        super().setUp()
        self.base = pathlib.Path(os.environ["TMPDIR"]) / self.id().rsplit(".", 1)[-1]
        self.base.mkdir()
        self.folder = self.base / "dkim"

    def dkim(self, *arguments, code=0):
        done = subprocess.run([str(daemon.BIN / "postrider"), "dkim", *map(str, arguments)], stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=120)
        self.assertEqual(done.returncode, code, done)
        return done.stdout.decode() if code == 0 else done.stderr.decode()

    def new(self, *arguments, **settings):
        return self.dkim("new", *arguments, "--folder", self.folder, **settings)

    def public_of(self, path):
        return subprocess.run(["openssl", "pkey", "-in", str(path), "-pubout", "-outform", "DER"], check=True,
                              stdout=subprocess.PIPE).stdout

    def test_an_rsa_key(self):
        out = self.new("Example.COM", "--selector", "s1")
        path = self.folder / "example.com" / "s1.pem"
        self.assertTrue(out.startswith(f"; private key: {path}\n"), out)
        name, text = text_of(out)
        self.assertEqual(name, "s1._domainkey.example.com")
        self.assertEqual(text, "v=DKIM1; k=rsa; p=" + base64.b64encode(self.public_of(path)).decode())
        self.assertEqual(len(list(path.parent.iterdir())), 1)

    def test_an_ed25519_key(self):
        path = self.folder / "example.com" / "s2.pem"
        _, text = text_of(self.new("example.com", "--selector", "s2", "--ed25519"))
        self.assertEqual(text, "v=DKIM1; k=ed25519; p=" + base64.b64encode(self.public_of(path)[-32:]).decode())

    def test_nobody_else_reads_it(self):
        old = os.umask(0)
        self.addCleanup(os.umask, old)
        self.new("example.com", "--selector", "s1", "--ed25519")
        state = (self.folder / "example.com" / "s1.pem").stat()
        groups = {entry.gr_name: entry.gr_gid for entry in grp.getgrall()}
        if os.geteuid() == 0 and "postrider" in groups:
            self.assertEqual((state.st_mode & 0o7777, state.st_gid), (0o640, groups["postrider"]))
        else:
            self.assertEqual(state.st_mode & 0o7777, 0o600)
        self.assertEqual((self.folder / "example.com").stat().st_mode & 0o7777, 0o750)

    def test_a_key_is_never_written_over(self):
        self.new("example.com", "--selector", "s1", "--ed25519")
        path = self.folder / "example.com" / "s1.pem"
        before = path.read_bytes()
        self.assertIn("exists", self.new("example.com", "--selector", "s1", code=73))
        self.assertEqual(path.read_bytes(), before)

    def test_selectors_of_the_day(self):
        rsa, _ = text_of(self.new("example.com"))
        ed25519, _ = text_of(self.new("example.com", "--ed25519"))
        self.assertRegex(rsa, r"^r\d{8}\._domainkey\.example\.com$")
        self.assertRegex(ed25519, r"^e\d{8}\._domainkey\.example\.com$")

    def test_records_are_printed_again(self):
        made = [self.new("example.com", "--selector", name, "--ed25519").split("\n", 1)[1] for name in ("s1", "s2")]
        self.assertEqual(self.dkim("record", "EXAMPLE.com", "--folder", self.folder), "".join(made))
        self.assertEqual(self.dkim("record", "example.com", "--selector", "s2", "--folder", self.folder), made[1])
        (self.folder / "example.com" / "s3.pem").write_text("no key")
        self.assertIn("s3.pem", self.dkim("record", "example.com", "--folder", self.folder, code=66))
        self.dkim("record", "example.net", "--folder", self.folder, code=66)

    def test_the_folder_beside_the_configuration(self):
        done = subprocess.run([str(daemon.BIN / "postrider"), "-c", str(self.base / "own.toml"), "dkim", "new",
                               "example.com", "--selector", "s1", "--ed25519"], stdout=subprocess.PIPE, timeout=120)
        self.assertEqual(done.returncode, 0)
        self.assertTrue((self.base / "dkim" / "example.com" / "s1.pem").exists())

    def test_what_no_record_can_be_published_for(self):
        for domain in ("127.0.0.1", "localhost", "mail", "10.0.0", "192.0.2.1."):
            self.new(domain, code=65)
            self.assertEqual(list(self.folder.glob("*")) if self.folder.exists() else [], [], domain)

    def test_what_is_no_name(self):
        for domain in ("exa mple.com", "../example.com", "a/b", "", ".", "..", "example..com"):
            self.new(domain, code=65)
        for selector in ("../s", "a/b", "a b", ".", "a;b", "x" * 64):
            self.new("example.com", "--selector", selector, code=65)
        for bits in (512, 1024, 2047, 4097, 16384):
            self.new("example.com", "--bits", bits, code=64)
        self.assertFalse(self.folder.exists())
        self.new("b\u00fccher.example", "--selector", "s1", "--ed25519")
        self.assertTrue((self.folder / "xn--bcher-kva.example" / "s1.pem").exists())

    def test_others_sign_and_verify_with_it(self):
        try:
            import dkim
        except ImportError:
            self.skipTest("python3-dkim is not installed")
        for kind in ("rsa", "ed25519"):
            out = self.new("example.com", "--selector", kind, *(["--ed25519"] if kind == "ed25519" else []))
            pem = (self.folder / "example.com" / f"{kind}.pem").read_bytes()
            key = pem
            if kind == "ed25519":
                key = base64.b64encode(base64.b64decode(b"".join(pem.split(b"\n")[1:-2]))[-32:])
            field = dkim.sign(MESSAGE, kind.encode(), b"example.com", key, signature_algorithm=kind.encode() + b"-sha256")
            records = dict([text_of(out)])
            self.assertTrue(dkim.verify(field + MESSAGE, dnsfunc=lambda name, timeout=5: records[
                name.decode().rstrip(".")].encode()))


if __name__ == "__main__":
    scenario.main()
