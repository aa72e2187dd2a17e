#!/usr/bin/python3
"""attacks.md 2.4 over TCP: every trigger and every probe behind it, against a model of a few lines.
The triggers of AUTH and STARTTLS belong to the listeners that offer them."""
import itertools

from support_py import daemon, scenario, sink
from support_py.smtp import Client, Closed

BIG = (b"x" * 76 + b"\r\n") * 900  # above the limit of 64 KiB


class Model:
    """What the server must know: greeted, a sender, recipients; failed after a refused chunk."""

    def __init__(self):
        self.extended = True
        self.clear()

    def clear(self):
        self.mail, self.rcpt, self.failed, self.chunking = False, 0, False, False


class Walk:
    """A client and the model, step by step. Each step asserts the replies that the model allows."""

    def __init__(self, port):
        self.client = Client(port, source="127.0.0.2")
        self.client.hello()
        self.model = Model()
        self.queued = 0
        self.closed = False

    def say(self, line, allowed):
        reply = self.client.command(line)
        assert reply.code in allowed, f"{line!r}: {reply}, the model allows {allowed}"
        return reply.code

    def start(self):
        self.mail()
        self.rcpt()

    # Steps that may be triggers or probes

    def mail(self):
        allowed = (503,) if self.model.mail and not self.model.failed else \
            (250, 503) if self.model.failed else (250,)
        if self.say("MAIL FROM:<a@ext.example>", allowed) == 250:
            self.model.clear()
            self.model.mail = True

    def rcpt(self):
        usable = self.model.mail and not self.model.chunking and not self.model.failed
        if self.say("RCPT TO:<y@relay.example>", (250,) if usable else (503,)) == 250:
            self.model.rcpt += 1

    def data(self):
        self.end(b"Subject: x\r\n\r\nfine\r\n.\r\n", 250)

    def end(self, content, wanted):
        usable = self.model.rcpt and not self.model.chunking and not self.model.failed
        code = self.say("DATA", (354,) if usable else (503, 554))
        if code == 354:
            self.client.send(content)
            reply = self.client.reply()
            assert reply.code == wanted, reply
            self.queued += wanted == 250
            self.model.clear()

    def chunk(self, size, payload, last=True, wanted=250):
        usable = self.model.rcpt and not self.model.failed
        self.client.send(b"BDAT %d%s\r\n" % (size, b" LAST" if last else b"") + payload)
        reply = self.client.reply()
        if payload and not self.model.extended:  # P02: nobody offered CHUNKING after HELO
            assert reply.code == 554 and self.client.is_closed(), reply
            self.closed = True
            return
        assert reply.code in ((wanted,) if usable else (503, 554)), f"BDAT: {reply}"
        if reply.code != 250:
            self.model.failed = self.model.mail
        elif last:
            self.queued += 1
            self.model.clear()
        else:
            self.model.chunking = True

    def rset(self):
        self.say("RSET", (250,))
        self.model.clear()

    def ehlo(self):
        self.say("EHLO again.example", (250,))
        self.model.extended = True
        self.model.clear()

    def helo(self):
        self.say("HELO again.example", (250,))
        self.model.extended = False
        self.model.clear()

    def end_refused_for_line_ends(self):
        self.end(b"a\nb\r\n.\r\n", 550)

    def end_refused_for_size(self):
        self.end(BIG + b".\r\n", 552)

    def chunk_with_bad_syntax(self):
        """The length is unknown: 501, and the connection is closed."""
        try:
            assert self.client.command("BDAT 0x10").code == 501
            assert self.client.is_closed(), "the length is unknown, yet the session goes on"
        except Closed:
            pass
        self.closed = True

    def chunk_above_the_limit(self):
        self.chunk(len(BIG), BIG, last=False, wanted=552)

    def last_chunk_refused(self):
        self.chunk(3, b"a\nb", wanted=550)

    def vrfy_error(self):
        self.say("VRFY", (501,))

    def vrfy_utf8(self):
        self.say("VRFY ünï@us.example", (252, 500, 501, 550, 553))

    def mail_refused(self):
        self.say("MAIL FROM:<a b>", (501, 503, 553))

    def second_mail(self):
        self.mail()

    def rcpt_refused(self):
        usable = self.model.mail and not self.model.chunking and not self.model.failed
        self.say("RCPT TO:<a@far.example>", (550,) if usable else (503,))

    def bdat_0_last(self):
        usable = self.model.rcpt and not self.model.failed
        self.chunk(0, b"", wanted=250) if usable else self.chunk(0, b"")

    def bdat_5_last(self):
        self.chunk(5, b"abc\r\n")

    def vrfy(self):
        self.say("VRFY someone", (252,))

    def noop(self):
        self.say("NOOP", (250,))

    def quit(self):
        self.say("QUIT", (221,))
        self.closed = True


TRIGGERS = ["rset", "ehlo", "helo", "data", "end_refused_for_line_ends", "end_refused_for_size",
            "chunk_with_bad_syntax", "chunk_above_the_limit", "last_chunk_refused", "vrfy_error",
            "vrfy_utf8", "mail_refused", "second_mail", "rcpt_refused"]
PROBES = ["mail", "rcpt", "data", "bdat_0_last", "bdat_5_last", "vrfy", "noop", "quit"]


class State(scenario.Scenario):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.peer = cls.shared(sink.Sink(keep_content=False))
        cls.server = cls.shared(daemon.Postrider(
            cls.folder / "d", accept={"relay_from": ["127.0.0.1/32"], "relay_to": ["relay.example"],
                                      "sessions_per_client": 1000, "message_size": "64KiB"},
            **scenario.to(cls.peer)).start())

    def walk(self, steps):
        walk = Walk(self.server.port)
        try:
            walk.start()
            for step in steps:
                if walk.closed:
                    break
                getattr(walk, step)()
            if not walk.closed:
                assert walk.client.in_sync()
        finally:
            walk.client.close()
        return walk.queued

    def check(self, walks):
        before = len(self.peer.messages)
        queued = []
        problems = scenario.parallel(lambda steps: queued.append(self.walk(steps)), walks)
        self.assertEqual(problems, [])
        self.server.wait_until_empty()
        self.assertEqual(len(self.peer.messages) - before, sum(queued))

    def test_pairs(self):
        self.check(itertools.product(TRIGGERS, PROBES))

    def test_triples(self):
        self.check(itertools.product(TRIGGERS, TRIGGERS, PROBES))

    def test_R01_DATA_after_a_refused_last_chunk(self):
        """R01 MAIL, RCPT, BDAT LAST refused, then DATA: 503"""
        walk = Walk(self.server.port)
        walk.start()
        walk.last_chunk_refused()
        walk.say("DATA", (503,))
        walk.client.close()

    def test_R02_after_a_refused_end(self):
        """R02 RCPT and DATA behind a refused message: 503; a new MAIL is checked afresh"""
        walk = Walk(self.server.port)
        walk.start()
        walk.end_refused_for_line_ends()
        walk.say("RCPT TO:<y@relay.example>", (503,))
        walk.say("DATA", (503,))
        walk.say("MAIL FROM:<a@ext.example> SIZE=99999999", (552,))
        walk.client.close()

    def test_R03_a_failed_VRFY(self):
        """R03 VRFY with UTF-8 fails, the transaction is intact"""
        walk = Walk(self.server.port)
        walk.start()
        walk.vrfy_utf8()
        walk.say("DATA", (354,))
        walk.client.close()

    def test_R04_EHLO_in_a_transaction(self):
        """R04 MAIL, RCPT, EHLO, DATA: 503"""
        walk = Walk(self.server.port)
        walk.start()
        walk.ehlo()
        walk.say("DATA", (503,))
        walk.client.close()

    def test_R05_R06_R07_what_is_not_offered_changes_nothing(self):
        """R05 R06 R07 no listener here offers STARTTLS, AUTH or REQUIRETLS: 502 and 555, and the
        transaction goes on as if they had not been said"""
        walk = Walk(self.server.port)
        walk.start()
        walk.say("STARTTLS", (502,))
        walk.say("AUTH PLAIN AHgAeA==", (502,))
        walk.say("RCPT TO:<a@far.example>", (550,))  # relaying is as denied as before
        walk.say("RSET", (250,))
        walk.say("MAIL FROM:<a@ext.example> REQUIRETLS", (555,))
        walk.model.clear()
        walk.start()
        walk.say("DATA", (354,))
        walk.client.close()

    def test_R08_options_are_not_carried_over(self):
        """R08 SMTPUTF8, BODY and DSN parameters end with their message"""
        with self.server.client() as client:  # from 127.0.0.1: may send anywhere
            client.hello()
            client.expect("MAIL FROM:<ä@us.example> SMTPUTF8 BODY=8BITMIME RET=HDRS ENVID=one", 250)
            client.expect("RCPT TO:<ö@relay.example> NOTIFY=NEVER ORCPT=rfc822;x@relay.example", 250)
            client.expect("DATA", 354)
            client.send(b"Subject: 1\r\n\r\n\xc3\xa4\r\n.\r\n")
            self.assertEqual(client.reply().code, 250)
            before = len(self.peer.messages)
            self.assertEqual(client.message("a@us.example", ["b@relay.example"],
                                            b"Subject: 2\r\n\r\nx\r\n").code, 250)
        self.server.wait_until_empty()
        second = [m for m in self.peer.messages[max(0, before - 1):]
                  if m.addresses == ["b@relay.example"]][0]
        for word in ("SMTPUTF8", "8BITMIME", "RET=", "ENVID="):
            self.assertNotIn(word, second.parameters)
        self.assertEqual([p for _, p in second.recipients if "NOTIFY" in p or "x@" in p], [])


if __name__ == "__main__":
    scenario.main()
