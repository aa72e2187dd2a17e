#!/usr/bin/python3
"""One message for very many recipients, over one domain and over many, beside another sender: each
recipient gets it once, the sender hears once of each who is refused, and the other's mail passes.
With POSTRIDER_FULL it has 50,000 recipients, otherwise POSTRIDER_RECIPIENTS or 5,000."""
import collections
import os
import re
import threading
import time

from support_py import scenario, wait

RECIPIENTS = int(os.environ.get("POSTRIDER_RECIPIENTS", 50_000 if scenario.FULL else 5000))
IN_A_DOMAIN = 10
PAUSE = 0.05  # seconds between the other sender's messages
DEADLINE = 1200 if scenario.FULL else 2 * wait.DEADLINE
SOURCE = "list@src.test"

MANY = b"From: <list@src.test>\r\nSubject: many\r\n\r\nbody\r\n"
NAMED = re.compile(r"^Final-Recipient: rfc822; ?(\S+)", re.MULTILINE)


def subject(message):
    return re.search(rb"^Subject: (.*?)\r\n", message.content, re.MULTILINE).group(1).decode()


class Beside:
    """Another sender, a message each 50 milliseconds."""

    def __init__(self, server):
        self.server, self.sent, self.is_over = server, {}, False
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        while not self.is_over:
            name = f"single {len(self.sent)}"
            self.sent[name] = time.time()
            self.server.send("ann@src.test", "ann@single.test",
                             f"Subject: {name}\r\n\r\nbody\r\n".encode())
            time.sleep(PAUSE)

    def stop(self):
        self.is_over = True
        self.thread.join()


class Many(scenario.Scenario):
    def setUp(self):
        super().setUp()
        self.other = self.sink(address="127.0.0.2")
        self.peers = [self.sink(address=f"127.0.1.{n}", port=self.other.port,
                                script={"rcpt": self.rcpt}) for n in range(1, 11)]

    @staticmethod
    def rcpt(_, address):
        """Each hundredth is refused."""
        number = re.match(r"u(\d+)@", address)
        if number and int(number.group(1)) % 100 == 7:
            return "550 5.1.1 no such user"
        return None

    def start(self, domains):
        text = "mx A 127.0.0.2\nsrc MX 10 mx\nsingle MX 10 mx\n" + "".join(
            f"d{i} MX 10 m{i}\nm{i} A 127.0.1.{i % 10 + 1}\n" for i in range(domains))
        knot = self.knot(test=text)
        return self.daemon(dns={"servers": [knot.server]},
                           accept={"recipients": max(RECIPIENTS, 100)},
                           delivery={"port": self.other.port})

    def copies(self):
        return [one for peer in self.peers for one in peer.messages]

    def deliver(self, domains):
        recipients = [f"u{i}@d{i % domains}.test" for i in range(RECIPIENTS)]
        refused = {one for one in recipients if self.rcpt(None, one)}
        server = self.start(domains)
        server.send("ann@src.test", "ann@single.test", b"Subject: first\r\n\r\nbody\r\n")
        self.other.wait_for(1)
        beside = self.using(Beside(server))
        cpu = server.cpu_time()
        begun = time.monotonic()
        server.send(SOURCE, recipients, MANY)
        accepted = time.monotonic()
        wanted = len(recipients) - len(refused)
        wait.until(lambda: sum(len(one.addresses) for one in self.copies()) >= wanted,
                   "the copies", DEADLINE)
        delivered = time.monotonic()
        beside.stop()
        server.wait_until_empty(DEADLINE)
        self.tell(server, domains, accepted - begun, delivered - accepted, server.cpu_time() - cpu,
                  beside)
        copies = collections.Counter(
            recipient for one in self.copies() for recipient in one.addresses)
        self.assertEqual(set(copies.values()), {1}, "each gets it once")
        self.assertEqual(set(copies), set(recipients) - refused)
        self.assertEqual(len(beside.sent) + 1,
                         sum(one.sender == "ann@src.test" for one in self.other.messages))
        notices = [one for one in self.other.messages if one.sender == ""]
        told = collections.Counter(name for one in notices
                                   for name in NAMED.findall(one.content.decode()))
        self.assertEqual(set(told), refused, "the sender hears of each who was refused")
        self.assertEqual(set(told.values()), {1}, "and once")
        # Not for each transaction, of which there are a hundred times as many.
        self.assertLessEqual(len(notices), 2 * (delivered - accepted) + 5)
        server.assert_no_report()

    def tell(self, server, domains, accepting, delivering, cpu, beside):
        came = {subject(one): one.when for one in self.other.messages if one.sender}
        delays = sorted(came[name] - sent for name, sent in beside.sent.items())
        p99 = f", the other's p99 {delays[int(len(delays) * 0.99)]:.3f} s" if delays else ""
        notices = sum(one.sender == "" for one in self.other.messages)
        print(f"\n{RECIPIENTS} recipients in {domains} domains: taken in {accepting:.1f} s, "
              f"delivered {delivering:.1f} s later, CPU {cpu:.1f} s, "
              f"memory {self.peak(server) >> 10} MiB, {notices} notices{p99}")

    @staticmethod
    def peak(server):
        """The most KiB that were resident."""
        with open(f"/proc/{server.process.pid}/status") as file:
            return int(re.search(r"VmHWM:\s*(\d+)", file.read()).group(1))

    def test_in_one_domain(self):
        self.deliver(1)

    def test_over_many_domains(self):
        self.deliver(max(RECIPIENTS // IN_A_DOMAIN, 1))


if __name__ == "__main__":
    scenario.main()
