#!/usr/bin/python3
"""SPF verdicts against pyspf, another implementation of RFC 7208: the same zones, the same mail."""
import gzip
import ipaddress
import pathlib
import random
import socket
import unittest

from support_py import mailauth

try:
    import spf
except ImportError:
    spf = None

SUITE = pathlib.Path("/usr/share/doc/python3-spf/rfc7208-tests.yml.gz")
CLIENTS = ("192.0.2.4", "192.0.2.77", "198.51.100.9", "2001:db8:5::4", "2001:db8:6::1")
ADDRESSES = CLIENTS + ("192.0.2.5", "203.0.113.1", "2001:db8:5::5")
COUNT = 2000


class Zone:
    """A zone for both: as a dictionary, and as pyspf's way to the DNS."""

    def __init__(self, records):
        self.records = {name.lower().rstrip("."): list(of) for name, of in records.items()}

    def look_up(self, name, kind, *_, **__):
        records = self.records.get(name.lower().rstrip("."), [])
        if any(of == "FAILS" for of, _ in records):
            raise spf.TempError("SERVFAIL")
        for of, value in records:
            if of == kind:
                yield (name, kind), self.converted(kind, value)

    @staticmethod
    def converted(kind, value):
        if kind == "TXT":
            return (value if isinstance(value, bytes) else value.encode("utf-8"),)
        if kind == "AAAA":
            return socket.inet_pton(socket.AF_INET6, value)
        if kind == "MX":
            preference, host = value.split(" ", 1)
            return int(preference), host
        return value


def reverse(address):
    return ipaddress.ip_address(address).reverse_pointer


class Maker:
    """Zones of a dozen names with records that include each other, by a seed."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.names = [f"n{i}.d{i % 3}.test" for i in range(10)]

    def pick(self, *of):
        return self.random.choice(of)

    def address(self, *versions):
        return self.pick(*[one for one in ADDRESSES if ipaddress.ip_address(one).version in versions])

    def target(self):
        return self.pick(*self.names, *self.names, "gone.d1.test", "%{d}", "x.%{d}", "%{d2}", "%{o}",
                         "%{l}.d1.test", "%{l1r-}.d1.test", "%{ir}.%{v}.d1.test", "%{h}", "%{H}",
                         "%{i}.d2.test", "%{dr}.d2.test", "n1.%{d2r}.test", "a%%b.%{o}", "%{p}",
                         "%{lr+-}.d0.test", "n3.d0.test.", "%{s}")

    def domain(self):
        return "" if self.random.random() < 0.4 else ":" + self.target()

    def bits(self):
        return self.pick("", "", "", "/24", "/32", "/0", "//64", "//128", "/24//64", "/30//0", "/33",
                         "/024", "//129")

    def directive(self):
        sign = self.pick("", "", "", "+", "-", "~", "?")
        kind = self.pick("a", "a", "mx", "mx", "ptr", "include", "include", "exists", "ip4", "ip4",
                         "ip6", "all", "A", "Mx", "wrong")
        if kind in ("a", "mx", "A", "Mx"):
            return sign + kind + self.domain() + self.bits()
        if kind == "ptr":
            return sign + kind + self.domain()
        if kind in ("include", "exists"):
            return sign + kind + ":" + (self.pick(*self.names) if kind == "include" else self.target())
        if kind == "ip4":
            return sign + "ip4:" + self.address(4) + self.pick("", "/24", "/31", "/0", "/33", "/")
        if kind == "ip6":
            return sign + "ip6:" + self.address(6) + self.pick("", "/48", "/127", "/0", "/129")
        if kind == "all":
            return sign + self.pick("all", "all", "all", "all", "ALL", "all:x", "all/8")
        return self.pick("b", "ip4", "include", "exists:", "a:", "=x", "a:localhost", "a:b.%{x}",
                         "mx:a.b-", "x=y", "x-y.z=%{d}", "exp=n1.d1.test", "1x=y", "x=%z")

    def record(self):
        good = ["a", "mx", "ptr", "ip4:192.0.2.4", "ip6:2001:db8:5::/48", "include:n2.d2.test"]
        terms = [self.directive() if self.random.random() < 0.6 else self.pick(*good)
                 for _ in range(self.random.randint(0, 5))]
        ending = self.random.random()
        if ending < 0.5:
            terms.append(self.pick("-all", "~all", "?all"))
        elif ending < 0.7:
            terms.append("redirect=" + self.pick(*self.names))
        unknown = [term for term in terms if term.startswith("x=")]
        terms = [term for term in terms if term not in unknown] + unknown[:1]  # pyspf: once
        explained = [term for term in terms if term.startswith("exp=")]
        terms = [term for term in terms if term not in explained] + explained[:1]
        return self.pick("v=spf1", "v=spf1", "v=spf1", "V=SPF1 ") + "".join(" " + t for t in terms)

    def zone(self):
        records = {}
        for name in self.names:
            own = records.setdefault(name, [])
            if self.random.random() < 0.9:
                own.append(("TXT", self.record()))
            for kind, version in (("A", 4), ("AAAA", 6)):
                for _ in range(self.random.randint(0, 2)):
                    own.append((kind, self.address(version)))
            # Mail hosts do not fail: pyspf looks at all of them before it looks for a match.
            for i in range(self.random.randint(0, 2)):
                own.append(("MX", f"{i} {self.pick(*self.names[2:])}"))
            if self.random.random() < 0.1:
                own.append(("TXT", self.pick("v=spf10 x", "text \xe9", "v=spf1 -all", "")))
        if self.random.random() < 0.2:
            records[self.pick("gone.d1.test", self.names[0], self.names[1])] = [("FAILS", "")]
        for client in CLIENTS:
            records[reverse(client)] = [("PTR", self.pick(*self.names[2:])) for _ in range(2)]
        return records

    def mail(self):
        local = self.pick("ann", "a-b-c", "x+y-z", "n1", "")
        sender = self.pick("", *[f"{local}@{name}" for name in self.names])
        return self.pick(*CLIENTS), self.pick("mail.d1.test", *self.names), sender


# Where pyspf counts what RFC 7208 §4.6.4 does not: each question that finds nothing where the RFC
# counts terms, a redirection that is not followed, addresses of mail hosts behind one that matches.
COUNTED = ("Void lookup limit", "Too many DNS lookups", "include has trivial recursion")


@unittest.skipIf(spf is None, "needs python3-spf")
class SpfPeers(unittest.TestCase):
    def setUp(self):
        self.addCleanup(setattr, spf, "DNSLookup", spf.DNSLookup)
        self.probe = self.enterContext(mailauth.Probe())

    def test_generated_records(self):
        seen, explained, differences = {}, 0, []
        for seed in range(COUNT):
            maker = Maker(seed)
            zone, (client, helo, sender) = Zone(maker.zone()), maker.mail()
            self.probe.publish(zone.records)
            ours, why = self.probe.spf(client, helo, sender)
            spf.DNSLookup = zone.look_up
            theirs, _, text = spf.query(client, sender, helo).check()
            seen[ours] = seen.get(ours, 0) + 1
            if ours == theirs:
                continue
            if any(reason in text for reason in COUNTED):
                explained += 1
            else:
                differences.append(f"seed {seed}: {client} {helo} <{sender}>: {ours} ({why}), pyspf "
                                   f"{theirs} ({text})\n{zone.records}")
        self.assertEqual([], differences[:3], f"{len(differences)} of {COUNT}")
        self.assertLess(explained, COUNT / 10, "pyspf's counting explains the rest")
        for result in ("none", "neutral", "pass", "fail", "softfail", "permerror", "temperror"):
            self.assertGreater(seen.get(result, 0), COUNT / 100, seen)

    def test_the_suite_of_the_rfc(self):
        try:
            import yaml
            suite = list(yaml.safe_load_all(gzip.open(SUITE)))
        except (ImportError, OSError) as problem:
            self.skipTest(f"the suite that comes with python3-spf cannot be read: {problem}")
        wrong, count = [], 0
        for scenario in suite:
            self.probe.publish({name: list(self.suite_records(records))
                                for name, records in scenario["zonedata"].items()})
            for name, case in scenario["tests"].items():
                wanted = case["result"] if isinstance(case["result"], list) else [case["result"]]
                ours, why = self.probe.spf(case["host"], case["helo"], case["mailfrom"])
                count += 1
                if ours not in wanted:
                    wrong.append(f"{name}: {ours} ({why}), not {wanted}")
        self.assertEqual([], wrong)
        self.assertGreater(count, 200)

    @staticmethod
    def suite_records(records):
        has_text = any(isinstance(one, dict) and "TXT" in one for one in records)
        # The only trouble that remains when nobody asks for type 99 is that of names without TXT.
        text_is_there = has_text and not any(
            isinstance(one, dict) and one.get("TXT") == "NONE" for one in records)
        for one in records:
            if one == "TIMEOUT":
                if not text_is_there:
                    yield "FAILS", ""
                continue
            (kind, value), = one.items()
            if kind == "SPF" and not has_text:
                kind = "TXT"
            if kind == "SPF" or value == "NONE":
                continue
            if kind == "MX":
                value = f"{value[0]} {value[1]}"
            elif isinstance(value, list):
                value = "".join(value)
            if kind in ("A", "AAAA", "MX", "PTR", "TXT"):
                yield kind, value.encode("utf-8")
            elif kind == "CNAME":
                yield kind, value


if __name__ == "__main__":
    unittest.main()
