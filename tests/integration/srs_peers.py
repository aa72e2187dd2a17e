#!/usr/bin/python3
"""Rewritten senders against Mail::SRS and postsrsd: with the same key each makes what the others
make, and reverses it."""
import os
import random
import shutil
import socket
import subprocess
import time
import unittest
import urllib.parse

from support_py import mailauth, scenario, wait

KEY = "a shared secret"
DOMAIN = "srs.test"
COUNT = 300
PERL = r"""
use strict; use warnings; use Mail::SRS; $| = 1; $SIG{__WARN__} = sub {};
while (my $line = <STDIN>) {
  chomp $line;
  my ($verb, $key, $domain, $address) = map { pack 'H*', $_ } split / /, $line;
  my $srs = new Mail::SRS(Secret => $key);
  my $result = eval { $verb eq 'forward' ? $srs->forward($address, $domain) : $srs->reverse($address) };
  print defined $result ? unpack('H*', $result) : 'error', "\n";
}
"""


class PerlSrs:
    def __init__(self):
        self.process = subprocess.Popen(["perl", "-e", PERL], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True)

    def ask(self, verb, address, domain=DOMAIN):
        words = " ".join(one.encode().hex() for one in (verb, KEY, domain, address))
        self.process.stdin.write(words + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline().strip()
        return None if answer == "error" else bytes.fromhex(answer).decode()

    def close(self):
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()


def addresses(seed):
    """Senders from outside, and what forwarders made of some of them."""
    chosen = random.Random(seed)
    characters = "abcXYZ019.-_+=!#$%&'*/?^`{|}~"
    for number in range(COUNT):
        local = "".join(chosen.choice(characters) for _ in range(chosen.randint(1, 30))).strip(".")
        local = ".".join(part for part in local.split(".") if part) or "x"
        host = chosen.choice(("a.test", "Mail.Example.Org", "b-c.d.test"))
        kind = chosen.random()
        if kind < 0.15:
            sign = chosen.choice("=+-")
            yield f"SRS0{sign}hAsH=AB={host}={local}@{chosen.choice(('fwd.test', 'x.y.test'))}"
        elif kind < 0.3:
            sign = chosen.choice("=+-")
            yield f"SRS1{sign}hAsH=fwd.test={chosen.choice('=+-')}wXyZ=CD={host}={local}@second.test"
        else:
            yield f"{local}{number}@{host}"


class SrsPeers(scenario.Scenario):
    def setUp(self):
        super().setUp()
        self.probe = self.enterContext(mailauth.Probe())

    def today(self, compare):
        """Runs it once more if midnight came between."""
        while True:
            before = int(time.time()) // 86400
            compare()
            if int(time.time()) // 86400 == before:
                return

    def ours(self, forward, address):
        return self.probe.srs(forward, DOMAIN, KEY, time.time(), address)

    def check(self, forward, reverse):
        def compare():
            self.rows = [(sender, self.ours(True, sender), forward(sender))
                         for sender in addresses(1)]

        self.today(compare)
        rows = self.rows
        self.assertEqual([], [row for row in rows if row[1] is None or row[1] != row[2]][:5])
        for sender, made, _ in rows:
            for address in (made, made.lower()):
                self.assertEqual(self.ours(False, address), reverse(address), address)
            # SRS1 leads past those between to the first.
            self.assertEqual(sender.startswith("SRS1"), self.ours(False, made) != sender, made)
        for sender, made, _ in rows[:50]:
            forged = made[:5] + "AAAA" + made[9:]
            self.assertEqual((None, None), (self.ours(False, forged), reverse(forged)), forged)

    def test_mail_srs(self):
        if subprocess.run(["perl", "-MMail::SRS", "-e", "1"], stderr=subprocess.DEVNULL).returncode:
            self.skipTest("needs libmail-srs-perl")
        peer = PerlSrs()
        self.addCleanup(peer.close)
        self.check(lambda sender: peer.ask("forward", sender),
                   lambda address: peer.ask("reverse", address))

    def test_postsrsd(self):
        program = shutil.which("postsrsd") or "/usr/sbin/postsrsd"
        if not os.path.exists(program) or os.geteuid() != 0:
            self.skipTest("needs postsrsd, as root")
        folder = self.own_folder("postsrsd")
        secret = folder / "secret"
        secret.write_text(KEY + "\n")
        ports = [wait.free_port() for _ in range(2)]
        with open(folder / "log", "wb") as log:
            process = subprocess.Popen(
                [program, f"-f{ports[0]}", f"-r{ports[1]}", "-d", DOMAIN, "-s", secret, "-l",
                 "127.0.0.1", "-u", "nobody"], stdout=log, stderr=log)
        self.addCleanup(process.wait)
        self.addCleanup(process.terminate)
        doors = [self.door(port, process) for port in ports]
        self.check(lambda sender: self.table(doors[0], sender),
                   lambda address: self.table(doors[1], address))

    def door(self, port, process):
        def connected():
            if process.poll() is not None:
                self.skipTest("postsrsd does not run here")
            try:
                return socket.create_connection(("127.0.0.1", port), timeout=20)
            except OSError:
                return None

        door = wait.until(connected, "postsrsd to listen")
        self.addCleanup(door.close)
        stream = door.makefile("rwb")
        self.addCleanup(stream.close)
        return stream

    @staticmethod
    def table(stream, address):
        """Postfix's tcp_table(5)."""
        stream.write(b"get " + urllib.parse.quote(address, safe="@=+-._").encode() + b"\n")
        stream.flush()
        code, _, text = stream.readline().decode().rstrip("\n").partition(" ")
        return urllib.parse.unquote(text) if code == "200" else None


if __name__ == "__main__":
    unittest.main()
