#!/usr/bin/python3
"""mailauth/ beside dkimpy, Mail::DKIM and opendkim: generated messages, signed by each, verified by all.

  peers.py MAILAUTH_TOOL [--messages N] [--seed N]

Every verdict must be the same. 300 messages, or 2,000 where POSTRIDER_FULL is 1. A peer that is not
installed is named and left out. The last line is "N passed, N failed".
"""
import argparse
import base64
import os
import pathlib
import random
import re
import shutil
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent

try:
    import dkim
except ImportError:
    dkim = None


class Framed:
    """A program that answers framed requests."""

    def __init__(self, *command):
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def ask(self, *words, data=b""):
        line = " ".join([*map(str, words), str(len(data))]) + "\n"
        self.process.stdin.write(line.encode() + data)
        self.process.stdin.flush()
        size = self.process.stdout.readline()
        if not size:
            raise RuntimeError(f"{self.process.args[0]} ended")
        answer = self.process.stdout.read(int(size))
        if answer.startswith(b"error: "):
            raise RuntimeError(answer.decode(errors="replace"))
        return answer

    def end(self):
        self.process.stdin.close()
        self.process.wait(30)


class Keys:
    """Keys of the tool, with their records for everybody."""

    def __init__(self, tool):
        self.tool = tool
        self.records = {}
        self.pem = {}
        self.seed = {}
        for key, kind in (("r", "rsa"), ("e", "ed25519"), ("q", "rsa")):
            pem = tool.ask("new", kind, key)
            self.pem[key] = pem
            if kind == "ed25519":
                der = base64.b64decode(b"".join(pem.split(b"\n")[1:-2]))
                self.seed[key] = base64.b64encode(der[-32:])

    def publish(self, name, key):
        record = self.tool.ask("record", key)
        self.tool.ask("txt", name, data=record)
        self.records[name] = record

    def look_up(self, name, timeout=5):
        return self.records.get(name.decode().rstrip("."))


class Messages:
    """Messages with what canonical forms are about: white space, folding, empty lines, 8-bit, dots."""

    WORDS = ["a", "Text", "words", "x" * 70, ".", "..", "=20", "from", "caf\u00e9".encode().decode("utf-8"),
             "\u00fc\u00df", "--", "b=;", "end."]

    def __init__(self, rng):
        self.rng = rng
        self.tidy = False

    def words(self, least, most):
        return [self.rng.choice(self.WORDS) for _ in range(self.rng.randint(least, most))]

    def space(self):
        return self.rng.choice([" ", " ", " ", "  ", "\t", " \t "])

    def value(self, may_fold=True):
        out = " " if self.tidy else self.rng.choice([" ", " ", "", "  ", "\t"])
        for word in self.words(1, 12):
            fold = may_fold and self.rng.random() < 0.15
            out += word + ("\r\n" if fold else "") + self.space()
        return out.rstrip() + self.rng.choice(["", "", " ", "\t"])

    def header(self):
        rng = self.rng
        self.tidy = rng.random() < 0.5
        fields = [f"From: Joe {rng.randint(1, 999)} <joe@example.com>", "To: sue@example.net,\r\n\tbob@example.net",
                  f"Date: Sun, 29 Nov 2026 12:{rng.randint(10, 59)}:00 +0000",
                  f"Message-ID: <{rng.random()}@example.com>"]
        for name in ("Subject", "SUBJECT", "X-Own", "MIME-Version", "Reply-To", "In-Reply-To"):
            if rng.random() < 0.6:
                fields.append(name + ":" + self.value())
        for _ in range(rng.choice([0, 0, 1, 3])):
            fields.append("List-Id:" + self.value())
        if not self.tidy and rng.random() < 0.4:
            fields.append("Keywords:")
        rng.shuffle(fields)
        received = [f"Received: from a{i}.example\r\n  by b.example;\r\n\tSun, 29 Nov 2026 12:00:00 +0000"
                    for i in range(rng.randint(0, 3))]
        return "".join(field + "\r\n" for field in received + fields)

    def body(self):
        rng = self.rng
        lines = []
        for _ in range(rng.choice([0, 0, 1, 2, 5, 20, 60])):
            line = "".join(word + self.space() for word in self.words(0, 10))
            if rng.random() < 0.7:
                line = line.rstrip()
            lines.append(rng.choice([line, line, line, "", " " + line]))
        lines += [""] * rng.choice([0, 0, 0, 1, 3])
        return "".join(line + "\r\n" for line in lines)

    def message(self):
        return (self.header() + "\r\n" + self.body()).encode()

    def changed(self, message):
        """The message after its way, and what was done."""
        rng = self.rng
        head, _, body = message.partition(b"\r\n\r\n")
        what = rng.choice(["nothing", "nothing", "end", "blanks", "text", "subject", "case", "line", "trace", "unsigned"])
        if what == "end":
            body += b"\r\n" * rng.randint(1, 3)
        elif what == "blanks":
            body = re.sub(rb"(\S) (\S)", rb"\1  \2", body, count=1)
        elif what == "text":
            body += b"more\r\n"
        elif what == "subject":
            head = re.sub(rb"(?i)\r\nmessage-id: <0", b"\r\nMessage-ID: <1", head, count=1)
        elif what == "case":
            head = re.sub(rb"\r\nDate:", b"\r\nDATE:", head, count=1)
        elif what == "line":
            body = body.replace(b"\r\n", b" \r\n", 1)
        elif what == "trace":
            head = b"Received: by c.example; Sun, 29 Nov 2026 12:00:00 +0000\r\n" + head
        elif what == "unsigned":
            head += b"\r\nX-Added: yes"
        return head + b"\r\n\r\n" + body, what


def loses_space(message):
    """What opendkim reads as a filter would: a header of simple form of which it has not each octet."""
    head = message.partition(b"\r\n\r\n")[0]
    return b"c=simple" in head and re.search(rb"(?m)^[^\s:]+:(?! [^\s])", head) is not None


class Run:
    def __init__(self, options, folder):
        self.folder = folder
        self.rng = random.Random(options.seed)
        self.messages = Messages(self.rng)
        self.tool = Framed(options.tool)
        self.keys = Keys(self.tool)
        self.perl = None
        if self.has_perl():
            self.perl = Framed("perl", str(HERE / "peers.pl"))
        self.opendkim = shutil.which("opendkim", path=os.environ.get("PATH", "") + ":/usr/sbin")
        self.for_opendkim = []
        self.passed = self.failed = 0
        self.kinds = {}
        for name, there in (("dkimpy", dkim), ("Mail::DKIM", self.perl), ("opendkim", self.opendkim)):
            if not there:
                print(f"{name} is not installed: left out")
        for selector, key in (("s1", "r"), ("s2", "e"), ("d1", "r"), ("d2", "e"), ("p1", "r")):
            self.publish(f"{selector}._domainkey.example.com", key)
        for hop in range(1, 6):
            self.publish(f"arc._domainkey.h{hop}.example", "rq"[hop % 2])

    @staticmethod
    def has_perl():
        return subprocess.run(["perl", "-MMail::DKIM::ARC::Verifier", "-MNet::DNS", "-e", "1"],
                              stderr=subprocess.DEVNULL).returncode == 0 if shutil.which("perl") else False

    def publish(self, name, key):
        self.keys.publish(name, key)
        if self.perl:
            self.perl.ask("txt", name, data=self.keys.records[name])

    def judge(self, what, message, verdicts):
        """verdicts: by verifier; all must be equal."""
        if len(set(map(str, verdicts.values()))) == 1:
            self.passed += 1
            self.kinds[str(verdicts["ours"])] = self.kinds.get(str(verdicts["ours"]), 0) + 1
            return
        self.failed += 1
        path = os.path.join(self.folder, f"different-{self.failed}.eml")
        pathlib.Path(path).write_bytes(message)
        print(f"DIFFERENT {what}: {verdicts}; kept in {path}")

    def ours(self, message):
        return [line.split(" ")[0] == "pass" for line in self.tool.ask("verify", data=message).decode().splitlines()]

    def by_dkimpy(self, message, index):
        try:
            return bool(dkim.DKIM(message).verify(idx=index, dnsfunc=self.keys.look_up))
        except dkim.DKIMException:
            return False

    def by_perl(self, message):
        return [line == "pass" for line in self.perl.ask("verify", data=message).decode().splitlines()]

    def verify_everywhere(self, what, message, kinds):
        """kinds: "r" or "e" for each signature, from the top."""
        ours = self.ours(message)
        if dkim:
            self.judge(what, message, {"ours": ours, "dkimpy": [self.by_dkimpy(message, i) for i in range(len(kinds))]})
        if self.perl:  # without ed25519 in Debian 12
            of_rsa = [verdict for verdict, kind in zip(ours, kinds) if kind == "r"]
            theirs = [verdict for verdict, kind in zip(self.by_perl(message), kinds) if kind == "r"]
            self.judge(what, message, {"ours": of_rsa, "Mail::DKIM": theirs})
        if self.opendkim and not loses_space(message):
            self.for_opendkim.append((what, message, any(ours)))

    def signed_by_us(self, number):
        keys, kinds = self.rng.choice([("r,e", "re"), ("r", "r"), ("r,e", "re")])
        forms = self.rng.choice(["simple", "relaxed"]), self.rng.choice(["simple", "relaxed"])
        message = self.messages.message()
        message = self.tool.ask("sign", "example.com", "s", *forms, keys, data=message) + message
        message, change = self.messages.changed(message)
        self.verify_everywhere(f"{number} ours {forms} {change}", message, kinds)

    def signed_by_dkimpy(self, number):
        message = self.messages.message()
        selector, key, kind = self.rng.choice([("d1", self.keys.pem["r"], "r"), ("d2", self.keys.seed["e"], "e")])
        forms = self.rng.choice([b"simple", b"relaxed"]), self.rng.choice([b"simple", b"relaxed"])
        algorithm = b"rsa-sha256" if kind == "r" else b"ed25519-sha256"
        field = dkim.sign(message, selector.encode(), b"example.com", key, canonicalize=forms,
                          signature_algorithm=algorithm, identity=self.rng.choice([None, b"joe@example.com"]))
        message, change = self.messages.changed(field + message)
        self.verify_everywhere(f"{number} dkimpy {forms} {kind} {change}", message, kind)

    def signed_by_perl(self, number):
        message = self.messages.message()
        method = self.rng.choice(["simple", "relaxed", "simple/relaxed", "relaxed/simple"])
        field = self.perl.ask("sign", method, "example.com", "p1", self.key_file("r"), data=message)
        message, change = self.messages.changed(field + message)
        self.verify_everywhere(f"{number} Mail::DKIM {method} {change}", message, "r")

    def key_file(self, key):
        path = os.path.join(self.folder, key + ".pem")
        if not os.path.exists(path):
            pathlib.Path(path).write_bytes(self.keys.pem[key])
        return path

    def seal(self, message, hop):
        """By us or by dkimpy, whoever's turn it is."""
        key = "rq"[hop % 2]
        if dkim and self.rng.random() < 0.5:
            fields = dkim.arc_sign(message, b"arc", f"h{hop}.example".encode(), self.keys.pem[key],
                                   f"mx.h{hop}.example".encode())
            return b"".join(fields) + message, "dkimpy"
        return self.tool.ask("seal", f"h{hop}.example", "arc", key, data=message) + message, "ours"

    def chain(self, number):
        message = self.messages.message()
        hops = []
        for hop in range(1, self.rng.randint(2, 5)):
            results = f"Authentication-Results: mx.h{hop}.example; arc={'pass' if hop > 1 else 'none'}\r\n"
            message, by = self.seal(results.encode() + message, hop)
            hops.append(by)
        message, change = self.messages.changed(message)
        verdicts = {"ours": self.tool.ask("chain", data=message).decode().split(" ")[0]}
        if dkim:
            try:
                verdicts["dkimpy"] = dkim.arc_verify(message, dnsfunc=self.keys.look_up)[0].decode()
            except dkim.DKIMException:
                verdicts["dkimpy"] = "fail"
        if self.perl:
            verdicts["Mail::DKIM"] = self.perl.ask("chain", data=message).decode().strip()
        self.judge(f"{number} chain of {hops} {change}", message, verdicts)

    def ask_opendkim(self):
        """All at once: it is a program that reads files."""
        data = os.path.join(self.folder, "records")
        pathlib.Path(data).write_text("".join(f"{name} {record.decode()}\n" for name, record in self.keys.records.items()))
        config = os.path.join(self.folder, "opendkim.conf")
        pathlib.Path(config).write_text(f"Mode v\nSyslog no\nTestDNSData {data}\nSocket inet:1@127.0.0.1\n")
        for begin in range(0, len(self.for_opendkim), 50):
            some = self.for_opendkim[begin:begin + 50]
            paths = []
            for number, (_, message, _) in enumerate(some):
                paths.append(os.path.join(self.folder, f"m{begin + number}"))
                pathlib.Path(paths[-1]).write_bytes(message)
            done = subprocess.run([self.opendkim, "-t", ",".join(paths), "-x", config, "-v"],
                                  stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
            good = set(re.findall(r"(\S+): verification .* succeeded", done.stdout.decode(errors="replace")))
            for path, (what, message, ours) in zip(paths, some):
                self.judge(what, message, {"ours": ours, "opendkim": path in good})

    def all(self, count):
        kinds = [self.signed_by_us]
        if dkim:
            kinds.append(self.signed_by_dkimpy)
        if self.perl:
            kinds.append(self.signed_by_perl)
        if dkim or self.perl:
            kinds.append(self.chain)
        for number in range(count):
            kinds[number % len(kinds)](number)
        if self.opendkim:
            self.ask_opendkim()
        print("verdicts:", ", ".join(f"{kind} {count}" for kind, count in sorted(self.kinds.items())))
        if count >= 300 and dkim and self.perl and not {"[True]", "[False]", "[True, True]", "[False, False]", "pass", "fail"} <= set(self.kinds):
            print("some kind of verdict never came")
            self.failed += 1
        self.tool.end()
        if self.perl:
            self.perl.end()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tool")
    parser.add_argument("--messages", type=int, default=2000 if os.environ.get("POSTRIDER_FULL") == "1" else 300)
    parser.add_argument("--seed", type=int, default=6376)
    options = parser.parse_args()
    folder = tempfile.mkdtemp(prefix="mailauth-")
    run = Run(options, folder)
    run.all(options.messages)
    if run.failed == 0:
        shutil.rmtree(folder)
    print(f"{run.passed} passed, {run.failed} failed")
    sys.exit(run.failed != 0)


if __name__ == "__main__":
    main()
