#!/usr/bin/python3
"""Bursts to next hops of every mind about what may be written when: no message may bounce, wait or
arrive twice because of the order in which we write."""
import re
import unittest

from support_py import (authority, haraka, remote_exim, remote_opensmtpd, remote_postfix,
                        remote_sendmail, scenario, sink, smtp)

BURST = 200
SENDER = "a@us.example"


class EarlyOctets(scenario.Scenario):
    """Hosts that do not take what follows the end of a message before their reply to it. RFC 2920
    allows it, but what they say to it is no verdict on the next message."""

    def burst(self, early, extensions=sink.PLAIN_EXTENSIONS):
        peer = self.sink(early=early, extensions=extensions)
        server = self.relay(peer)
        problems = scenario.parallel(lambda number: self.assertEqual(server.send(
            SENDER, f"r{number}@far.example", b"Subject: %d\r\n\r\nx\r\n" % number).code, 250),
            range(BURST))
        self.assertEqual(problems, [])
        server.wait_until_empty()
        self.assertEqual(sorted(message.addresses[0] for message in peer.messages),
                         sorted(f"r{number}@far.example" for number in range(BURST)))
        self.assertEqual(server.log("bounced"), [])
        self.assertEqual([line for line in server.log("attempted")
                          if line.get("verdict") != "sent"], [])

    def test_503_for_each_line(self):
        self.burst("503")

    def test_554_behind_the_reply_and_closed(self):
        self.burst("554")

    def test_554_in_place_of_the_reply(self):
        self.burst("554-all")

    def test_dropped_in_silence(self):
        self.burst("drop")

    def test_503_behind_the_last_chunk(self):
        self.burst("503", sink.ALL_EXTENSIONS)

    def test_a_message_in_many_rounds(self):
        """A thousand recipients, a hundred at a time."""
        peer = self.sink(early="503")
        server = self.relay(peer)
        wanted = [f"r{number}@far.example" for number in range(1000)]
        self.assertEqual(server.send(SENDER, wanted, b"Subject: x\r\n\r\nx\r\n").code, 250)
        server.wait_until_empty()
        self.assertEqual(sorted(address for message in peer.messages
                                for address in message.addresses), sorted(wanted))


class RealPeers(scenario.Scenario):
    """Bursts to other people's servers, with and without TLS: all is taken, nothing is refused."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.certificate = authority.Authority(cls.folder / "ca").sign("remote.example")

    def burst(self, address, port, tls, wanted=None):
        """wanted: how much TLS the route wants, if not all or nothing."""
        server = self.daemon(route=[{"domain": "*", "next_hop": f"smtp://{address}:{port}",
                                     "tls": wanted or ("require" if tls else "off")}])
        problems = scenario.parallel(lambda number: self.assertEqual(server.send(
            SENDER, f"r{number}@far.example", b"Subject: %d\r\n\r\nx\r\n" % number).code, 250),
            range(BURST))
        self.assertEqual(problems, [])
        server.wait_until_empty()
        self.assertEqual(server.log("bounced"), [])
        server.wait_for_log("attempted", count=BURST, verdict="sent")  # it may lag behind the queue
        attempts = server.log("attempted")
        self.assertEqual([line for line in attempts if line["verdict"] != "sent"], [])
        self.assertEqual(sorted(line["to"] for line in attempts),
                         sorted(f"r{number}@far.example" for number in range(BURST)))
        self.assertEqual({line["tls"].startswith("TLSv1") for line in attempts}, {tls})

    def test_haraka(self):
        if haraka.program() is None:
            raise unittest.SkipTest("no npm")
        for tls in (False, True):
            with self.subTest(tls=tls):
                peer = self.using(haraka.Haraka(self.own_folder("haraka"),
                                                self.certificate if tls else None))
                self.burst("127.0.0.1", peer.port, tls)

    @unittest.skipUnless(scenario.is_root(), "needs root")
    def test_postfix(self):
        peer = self.using(remote_postfix.Postfix(self.own_folder("postfix"), {
            "127.0.0.1": {"smtpd_tls_chain_files": str(self.certificate),
                          "smtpd_tls_security_level": "may"}}))
        for tls in (False, True):
            with self.subTest(tls=tls):
                self.burst("127.0.0.1", peer.port, tls)

    @unittest.skipUnless(scenario.is_root(), "needs root")
    def test_exim(self):
        peer = self.using(remote_exim.Exim(self.own_folder("exim"), self.certificate))
        for tls in (False, True):
            with self.subTest(tls=tls):
                self.burst("127.0.0.1", peer.port, tls)

    def keeping(self, peer, tls):
        """A peer that keeps what it takes: each recipient has one copy there."""
        self.using(peer)
        problem = peer.tls_problem()
        if tls and problem:
            self.skipTest(f"another client gets no TLS from this package either: {problem}")
        self.burst("127.0.0.1", peer.port, tls)
        self.assert_kept(peer, 1)
        if problem:  # mail that need not be encrypted arrives all the same
            self.burst("127.0.0.1", peer.port, False, "opportunistic")
            self.assert_kept(peer, 2)

    def assert_kept(self, peer, times):
        self.assertEqual(sorted(peer.kept()), sorted(
            f"r{number}@far.example" for number in range(BURST) for _ in range(times)))

    @unittest.skipUnless(scenario.is_root(), "needs root")
    def test_opensmtpd(self):
        self.keeping(self.opensmtpd(), False)

    @unittest.skipUnless(scenario.is_root(), "needs root")
    def test_opensmtpd_with_tls(self):
        self.keeping(self.opensmtpd(), True)

    @unittest.skipUnless(scenario.is_root(), "needs root")
    def test_sendmail(self):
        self.keeping(self.sendmail(), False)

    @unittest.skipUnless(scenario.is_root(), "needs root")
    def test_sendmail_with_tls(self):
        self.keeping(self.sendmail(), True)

    def opensmtpd(self):
        return remote_opensmtpd.OpenSmtpd(self.own_folder("opensmtpd"), self.certificate)

    def sendmail(self):
        return remote_sendmail.Sendmail(self.own_folder("sendmail"), self.certificate)


class FromPostfix(scenario.Scenario):
    @unittest.skipUnless(scenario.is_root(), "needs root")
    def test_a_recipient_outside_ASCII_is_named_to_the_end(self):
        """Postfix writes ORCPT=utf-8; of it, as its own relay does."""
        peer = self.sink()
        server = self.relay(peer)
        postfix = self.using(remote_postfix.Postfix(
            self.own_folder("postfix"), {"127.0.0.1": {}}, smtputf8_enable="yes",
            default_transport=f"smtp:[127.0.0.1]:{server.port}"))
        recipient = "j\u00fcrgen@b\u00fccher.example"
        with smtp.Client(postfix.port) as client:
            client.hello()
            client.expect(f"MAIL FROM:<{SENDER}> SMTPUTF8 BODY=8BITMIME", 250)
            client.expect(f"RCPT TO:<{recipient}> NOTIFY=FAILURE", 250)
            client.expect("DATA", 354)
            client.send("Subject: gr\u00fc\u00dfe\r\n\r\nx\r\n.\r\n".encode())
            self.assertEqual(client.reply().code, 250)
        peer.wait_for(1)
        message, = peer.messages
        (address, parameters), = message.recipients
        self.assertEqual(address, recipient)
        self.assertIn("SMTPUTF8", message.parameters.upper())
        kind, _, named = parameters.partition("ORCPT=")[2].split(" ")[0].partition(";")
        self.assertEqual(kind.lower(), "utf-8", parameters)
        named = re.sub(r"\\x\{([0-9A-Fa-f]+)\}", lambda found: chr(int(found[1], 16)), named)
        self.assertEqual(named, recipient)
        server.wait_until_empty()


if __name__ == "__main__":
    scenario.main()
