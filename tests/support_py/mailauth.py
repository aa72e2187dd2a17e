"""tests/support/mailauth_probe.cc from Python: what mailauth/ makes of a zone and a message."""
import ipaddress
import os
import pathlib
import subprocess
import unittest


def hex_of(text):
    if isinstance(text, str):
        text = text.encode("utf-8", "surrogateescape")
    return text.hex() or "-"


class Probe:
    """Use as a context; zones are dictionaries of a name to a list of (type, value)."""

    def __enter__(self):
        program = pathlib.Path(os.environ["POSTRIDER_BIN"]) / "mailauth_probe"
        if not program.exists():
            raise unittest.SkipTest("mailauth_probe is built with the unit tests only")
        self.process = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()

    def say(self, *words):
        self.process.stdin.write(" ".join(words).encode() + b"\n")

    def ask(self, *words):
        self.say(*words)
        self.process.stdin.flush()
        return self.process.stdout.readline().decode().rstrip("\n")

    def publish(self, zone):
        """A type of "FAILS": every question for the name fails."""
        self.say("forget")
        for name, records in zone.items():
            for kind, value in records:
                if kind == "FAILS":
                    self.say("failing", hex_of(name))
                elif kind == "CNAME":
                    self.say("alias", hex_of(name), hex_of(value))
                else:
                    self.say("record", hex_of(name), kind, hex_of(value))

    def spf(self, client, helo, mail_from):
        """(result, why)"""
        client = str(ipaddress.ip_address(client))
        result, _, why = self.ask("spf", client, hex_of(helo), hex_of(mail_from)).partition(" ")
        return result, why

    def srs(self, forward, domain, key, seconds, address):
        """The address, or nothing."""
        answer = self.ask("srs-forward" if forward else "srs-reverse", hex_of(domain), hex_of(key),
                          str(int(seconds)), hex_of(address))
        return None if answer.startswith("error") else bytes.fromhex(answer).decode()

    def dmarc(self, author, spf, dkim):
        """[result, policy, the domain of the record]"""
        passed = [f"spf:{one}" for one in spf] + [f"dkim:{one}" for one in dkim]
        return self.ask("dmarc", author, *passed).split(" ")
