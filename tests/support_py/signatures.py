"""DKIM signatures as others see them: dkimpy, Mail::DKIM (RSA alone) and opendkim, with the DNS records in memory."""
import os
import pathlib
import re
import shutil
import subprocess

from support_py import daemon, scenario

try:
    import dkim
except ImportError:
    dkim = None

PERL = pathlib.Path(__file__).resolve().parents[1] / "unit" / "mailauth" / "peers.pl"


def text_of(zone):
    """{name: text} of the records in lines of a zone file."""
    found = re.findall(r"(?ms)^(\S+)\. IN TXT \((.*?)\)$", zone)
    return {name: "".join(re.findall(r'"([^"]*)"', text)) for name, text in found}


class Peers:
    """Ask whether a message's signatures hold. What is not installed is left out, dkimpy excepted."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.records = {}
        self.opendkim = shutil.which("opendkim", path=os.environ.get("PATH", "") + ":/usr/sbin")
        self.has_perl = shutil.which("perl") and subprocess.run(
            ["perl", "-MMail::DKIM::ARC::Verifier", "-MNet::DNS", "-e", "1"],
            stderr=subprocess.DEVNULL).returncode == 0
        self.asked = 0

    def new_key(self, folder, domain, selector, *arguments):
        """`postrider dkim new`, and its record in the DNS. The path of the key."""
        done = subprocess.run([str(daemon.BIN / "postrider"), "dkim", "new", domain, "--selector", selector,
                               "--folder", str(folder), *arguments], stdout=subprocess.PIPE, check=True)
        self.records.update(text_of(done.stdout.decode()))
        return pathlib.Path(folder) / domain / f"{selector}.pem"

    @staticmethod
    def fields(message):
        """The tags of each signature, from the top down."""
        head = message.partition(b"\r\n\r\n")[0] + b"\r\n"
        found = re.findall(rb"(?ims)^dkim-signature:(.*?\r\n)(?![ \t])", head)
        return [dict(tag.split("=", 1) for tag in re.sub(r"\s", "", field.decode()).split(";") if tag)
                for field in found]

    def by_dkimpy(self, message, index):
        def look_up(name, timeout=5):
            text = self.records.get(name.decode().rstrip("."))
            return text.encode() if text else None
        try:
            return bool(dkim.DKIM(message).verify(idx=index, dnsfunc=look_up))
        except dkim.DKIMException as problem:
            return str(problem)

    def by_perl(self, message):
        requests = [f"txt {name} {len(text)}\n{text}".encode() for name, text in self.records.items()]
        requests.append(f"verify {len(message)}\n".encode() + message)
        done = subprocess.run(["perl", str(PERL)], input=b"".join(requests), stdout=subprocess.PIPE, check=True)
        answer = done.stdout
        for _ in self.records:
            size, _, answer = answer.partition(b"\n")
            answer = answer[int(size):]
        return [line == "pass" for line in answer.partition(b"\n")[2].decode().splitlines()]

    def by_opendkim(self, message):
        """One answer for the whole message."""
        self.asked += 1
        at = self.folder / f"message{self.asked}"
        at.write_bytes(message)
        data = self.folder / "records"
        data.write_text("".join(f"{name} {text}\n" for name, text in self.records.items()))
        config = self.folder / "opendkim.conf"
        config.write_text(f"Mode v\nSyslog no\nTestDNSData {data}\nSocket inet:1@127.0.0.1\n")
        done = subprocess.run([self.opendkim, "-t", str(at), "-x", str(config), "-v"], stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT)
        return b"succeeded" in done.stdout or done.stdout.decode(errors="replace")

    def check(self, test, message, *signers):
        """Everybody finds exactly these signatures ("d/s", from the top down), and that all of them hold."""
        if dkim is None:
            test.skipTest("python3-dkim is not installed")
        fields = self.fields(message)
        test.assertEqual([f"{field['d']}/{field['s']}" for field in fields], list(signers), message[:3000])
        for index in range(len(fields)):
            test.assertIs(self.by_dkimpy(message, index), True, (index, message[:3000]))
        if self.has_perl and any(field["a"] == "rsa-sha256" for field in fields):
            verdicts = [verdict for verdict, field in zip(self.by_perl(message), fields) if field["a"] == "rsa-sha256"]
            test.assertTrue(all(verdicts) and verdicts, message[:3000])
        if self.opendkim and fields:
            test.assertIs(self.by_opendkim(message), True, message[:3000])
        return fields


TEXT = b"From: Ann <ann@us.example>\nTo: sue@far.example\nSubject: hello\n\nText\n"


class Signing(scenario.Scenario):
    """A daemon that signs for these domains, and sends all to a sink."""
    domains = ("us.example",)
    both = True  # kinds of keys

    def setUp(self):
        super().setUp()
        self.peers = Peers(self.own_folder("peers"))
        self.keys = self.own_folder("keys")
        for domain in self.domains:
            self.peers.new_key(self.keys, domain, "r1")
            if self.both:
                self.peers.new_key(self.keys, domain, "e1", "--ed25519")

    def signing(self, start=True, dkim=None, sink=None, **settings):
        self.target = self.sink(**(sink or {}))
        return self.relay(self.target, start=start, **daemon.merged(
            {"dkim": {"folder": str(self.keys), **(dkim or {})}}, settings))

    def sent(self, count=1):
        return [message.content for message in self.target.wait_for(count)]

    def hand_over(self, server, text=TEXT, *arguments):
        server.sendmail("-f", "ann@us.example", *(arguments or ("sue@far.example",)), stdin=text)
