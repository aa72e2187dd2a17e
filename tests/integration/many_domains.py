#!/usr/bin/python3
"""Very many domains due at once whose hosts say nothing: mail for one that is known to answer does
not wait for them. --full has 25,000 of them."""
import itertools
import time

from support_py import scenario, sink, wait
from shares import Pit

CONTENT = b"From: <a@src.example>\r\nSubject: many\r\n\r\nbody\r\n"


class ManyDomains(scenario.Scenario):
    DOMAINS = 25000 if scenario.FULL else 3000
    PROMPT = 3  # seconds
    GOOD = 5

    def test_good_mail_beside_silent_domains(self):
        good = self.sink(address="127.0.0.2")
        addresses = [f"127.2.3.{n}" for n in range(1, 101)]
        self.using(Pit(addresses, good.port))
        pit = itertools.cycle(addresses)
        text = "mx A 127.0.0.2\ngood MX 10 mx\n" + "".join(
            f"s{i} MX 10 m{i}\nm{i} A {next(pit)}\n" for i in range(self.DOMAINS))
        knot = self.knot(test=text)
        server = self.daemon(dns={"servers": [knot.server]}, delivery={"port": good.port})
        server.send("a@src.example", "first@good.test", CONTENT)
        good.wait_for(1)
        server.wait_until_empty()
        server.postrider("queue", "pause", "--all")

        def one(number):
            server.send("a@src.example", f"a@s{number}.test", CONTENT)
        self.assertEqual(scenario.parallel(one, range(self.DOMAINS), 8), [])
        for number in range(self.GOOD):
            server.send("a@src.example", f"good{number}@good.test", CONTENT)
        server.postrider("queue", "resume", "--all")
        began = time.monotonic()
        good.wait_for(1 + self.GOOD, 2 * wait.DEADLINE)
        self.assertLess(time.monotonic() - began, self.PROMPT, "all were due at once")
        # And what comes while all of their places are taken.
        for number in range(self.GOOD):
            began = time.monotonic()
            server.send("a@src.example", f"late{number}@good.test", CONTENT)
            good.wait_for(2 + self.GOOD + number, 2 * wait.DEADLINE)
            self.assertLess(time.monotonic() - began, self.PROMPT, "it came beside them")
        self.assertGreaterEqual(server.queued(), self.DOMAINS - 10)


if __name__ == "__main__":
    scenario.main()
