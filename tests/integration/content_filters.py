#!/usr/bin/python3
"""A content filter between two listeners (listener.next_hop): what comes in by one goes to the filter, whoever it is for,
and what the filter gives to the other goes on as usual. Mail waits while the filter is away, also over a kill."""
import queue
import threading

from support_py import daemon, scenario, sink, smtp, wait

PLAIN = (b"From: Ann <ann@src.example>\r\nTo: b@dst.example\r\nSubject: hello\r\n"
         b"Date: Mon, 23 Nov 2026 13:34:44 +0000\r\nMessage-ID: <1@src.example>\r\n\r\nHello.\r\n")
LOCAL = daemon.USER + "@us.example"


class Filter(sink.Sink):
    """Takes mail, adds a field, and gives it back at a port."""

    def __init__(self, back, **settings):
        super().__init__(**settings)
        self.back = back
        self.problems = queue.Queue()
        self.is_over = False
        self.giver = threading.Thread(target=self.give_back, daemon=True)
        self.giver.start()

    def give_back(self):
        given = 0
        while not self.is_over:
            try:
                message = self.wait_for(given + 1, deadline=1)[given]
            except wait.Timeout:
                continue
            given += 1
            try:
                reply = smtp.send(self.back, message.sender, message.addresses, b"X-Filtered: yes\r\n" + message.content)
                if reply.code != 250:
                    self.problems.put(str(reply))
            except (OSError, AssertionError) as problem:
                self.problems.put(repr(problem))

    def stop(self):
        self.is_over = True
        super().stop()
        self.giver.join(wait.DEADLINE)


class ContentFilters(scenario.Scenario):
    def setUp(self):
        super().setUp()
        self.peer = self.sink()
        self.back = wait.free_port()

    def filtering(self, next_hop, **settings):
        self.front = wait.free_port()
        listeners = [{"address": f"127.0.0.1:{self.front}", "next_hop": next_hop}, {"address": f"127.0.0.1:{self.back}"}]
        return self.relay(self.peer, listeners=listeners, **settings)

    def send(self, to=("b@dst.example",), sender="ann@src.example"):
        reply = smtp.send(self.front, sender, list(to), PLAIN)
        self.assertEqual(reply.code, 250)

    def test_there_and_back_once(self):
        checker = self.using(Filter(self.back))
        server = self.filtering(f"smtp://127.0.0.1:{checker.port}", accept={"always_bcc": "archive@dst.example"})
        self.send(["b@dst.example", LOCAL])
        message, = self.peer.wait_for(1)
        server.wait_until_empty()
        self.assertEqual(sorted(message.addresses), ["archive@dst.example", "b@dst.example"])
        self.assertEqual(message.content.count(b"X-Filtered: yes\r\n"), 1)
        # Local mail and copies, too, and no copy before the filter.
        self.assertEqual(sorted(checker.messages[0].addresses), sorted(["b@dst.example", LOCAL]))
        self.assertIn(b"X-Filtered: yes", server.wait_for_mail()[0])
        self.assertEqual((len(checker.messages), len(self.peer.messages)), (1, 1))
        # Its own notices do not pass it.
        self.peer.script["rcpt"] = {"gone@dst.example": "550 5.1.1 no such user"}
        self.send(["gone@dst.example"])
        wait.until(lambda: any(each.sender == "" for each in self.peer.messages), "the notice")
        self.assertEqual(len(checker.messages), 2)
        self.assertTrue(checker.problems.empty())

    def test_mail_waits_for_the_filter(self):
        port = wait.free_port()
        server = self.filtering(f"smtp://127.0.0.1:{port}")
        self.send()
        server.wait_for_log("deferred")
        entry, = server.queue()
        self.assertEqual(entry["recipients"][0]["next_hop"], f"smtp://127.0.0.1:{port}")
        self.assertEqual(self.peer.messages, [])
        # Other mail for the same domain is not held up.
        self.assertEqual(smtp.send(self.back, "ann@src.example", ["c@dst.example"], PLAIN).code, 250)
        self.assertEqual(self.peer.wait_for(1)[0].addresses, ["c@dst.example"])
        wait.until(lambda: len(server.queue()) == 1, "the record of the delivery")  # it does not come again
        server.kill()
        server.restart()
        checker = self.using(Filter(self.back, port=port))
        server.retry_all()
        self.assertIn(b"X-Filtered: yes", self.peer.wait_for(2)[1].content)
        self.assertEqual(len(checker.messages), 1)

    def test_what_waits_for_the_filter_goes_to_it_after_an_export_and_a_salvage(self):
        port = wait.free_port()
        server = self.filtering(f"smtp://127.0.0.1:{port}")
        self.send(["b@dst.example", LOCAL])
        server.wait_for_log("deferred")
        entry, = server.queue()
        folder = self.own_folder("exported")
        server.postrider("queue", "export", "--folder", folder, entry["queue_id"])
        server.postrider("queue", "remove", entry["queue_id"])
        server.stop()
        server.postrider("queue", "import", folder / f"{entry['queue_id']}.eml")
        server.postrider("queue", "salvage")
        server.start()
        entry, = server.queue()
        self.assertEqual({one["next_hop"] for one in entry["recipients"]}, {f"smtp://127.0.0.1:{port}"})
        checker = self.using(Filter(self.back, port=port))
        server.retry_all()
        self.assertIn(b"X-Filtered: yes", self.peer.wait_for(1)[0].content)
        self.assertIn(b"X-Filtered: yes", server.wait_for_mail()[0])
        self.assertEqual((len(checker.messages), len(self.peer.messages)), (1, 1))

    def test_a_reload_changes_the_filter(self):
        first, second = self.using(Filter(self.back)), self.using(Filter(self.back))
        server = self.filtering(f"smtp://127.0.0.1:{first.port}")
        self.send()
        self.peer.wait_for(1)
        server.write_config(listener=[{"address": f"127.0.0.1:{self.front}", "next_hop": f"smtp://127.0.0.1:{second.port}"},
                                      {"address": f"127.0.0.1:{self.back}"}])
        server.reload()
        server.wait_for_log("reloaded")
        self.send()
        self.peer.wait_for(2)
        self.assertEqual((len(first.messages), len(second.messages)), (1, 1))


if __name__ == "__main__":
    scenario.main()
