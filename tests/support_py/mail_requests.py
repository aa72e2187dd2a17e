"""What scenarios of mail requests share: applications ask for mail at a message broker (postrider-requests(7)),
and while the broker, the daemon and the program between them are killed, each request becomes one message.
POSTRIDER_REQUESTS sets how many (200; 2,000 with --full)."""
import hashlib
import json
import os
import subprocess
import time

from support_py import authority, carriers, rabbitmq, scenario, wait

MESSAGES = int(os.environ.get("POSTRIDER_REQUESTS", 2000 if scenario.FULL else 200))
REQUESTS, REFUSED = "mail-requests", "mail-refused"


def request(number, **changes):
    return {"from": "shop@us.example", "to": [f"c{number}@far.example"], "subject": f"order {number}",
            "text": "Thank you.\n", **changes}


BOMB, HUGE = "[" * 100_000, b"[" * (17 << 20)
# What is wrong, and a word of the reason.
WRONG = (
    (b"no json at all", "JSON"),
    (b"", "JSON"),
    (b"\xff\xfe\x00", "JSON"),
    (BOMB.encode(), "JSON"),
    (json.dumps([1, 2]).encode(), "JSON"),
    (json.dumps(request(1, subject="a\r\nBcc: x@evil.example")).encode(), "subject"),
    (json.dumps(request(1, to=["c1@far.example\r\nRCPT TO:<x@evil.example>"])).encode(), "to"),
    (json.dumps(request(1, headers={"X-A": "b\nX-C: d"})).encode(), "headers"),
    (json.dumps(request(1, **{"from": "nobody"})).encode(), "from"),
    (json.dumps(request(1, colour="red")).encode(), "colour"),
    (json.dumps(request(1, to=[])).encode(), "to"),
    (json.dumps(request(1, attachments=[{"filename": "a", "content": "QUJD" * 500_000}])).encode(),
     "1MiB"),
)


class Asked(carriers.Carried):
    """Mixed into a scenario that also says: put(), refusals(), waiting()."""
    test_no_outcome_is_missing_whoever_is_killed = None
    test_the_daemon_links_no_client_of_a_broker = None
    is_open = True
    settings = {}
    wrong = WRONG

    def carried(self, **changes):
        self.peer = self.sink()
        self.peer.script["mail"] = lambda *_: None if self.is_open else "451 4.3.0 later"
        folder = self.own_folder("carrier")
        (folder / "password").write_text(rabbitmq.PASSWORD + "\n")
        (folder / "password").chmod(0o600)
        user = self.user and f"{self.user}@"
        source = {"name": "shop", "broker": f"{self.protocol}://{user}127.0.0.1:{self.rabbit.ports[self.protocol]}",
                  "source": self.source(REQUESTS), "refused": self.source(REFUSED),
                  "password": str(folder / "password") if user else "", **changes}
        server = self.relay(self.peer, start=False, requests=[source],
                            delivery={"retry": ["1s"]}, accept={"message_size": "1MiB"}, **self.settings)
        self.carrier = self.using(carriers.Carrier(server, self.program))
        self.carrier.start()
        return server.start()

    def source(self, name):
        return name

    def test_each_request_is_one_message_whoever_is_killed(self):
        self.is_open = False
        self.addCleanup(setattr, self, "is_open", True)
        server = self.carried()
        self.put(*((f"k{number}", json.dumps(request(number)).encode()) for number in range(MESSAGES)))
        began = time.monotonic()

        def count():
            try:
                return len(server.queue())
            except (AssertionError, subprocess.CalledProcessError, OSError):
                return -1  # it is down
        for place, victim in enumerate(("carrier", "server", "rabbit", "carrier", "server")):
            wait.until(lambda: count() >= MESSAGES * (place + 1) // 8, "some mail", 5 * wait.DEADLINE)
            if victim == "rabbit":
                self.rabbit.kill()
                self.rabbit.start()
            elif victim == "carrier":
                self.carrier.kill()
                self.carrier.start()
            else:
                server.kill()
                server.start()
        self.rabbit.wait()
        wait.until(lambda: count() >= MESSAGES, lambda: f"{count()} of {MESSAGES}", 10 * wait.DEADLINE)
        wait.until(lambda: self.waiting() == 0, lambda: f"{self.waiting()} requests left", 5 * wait.DEADLINE)
        self.assertEqual(count(), MESSAGES)
        self.is_open = True
        server.postrider("queue", "retry", "--all")
        server.wait_until_empty(5 * wait.DEADLINE)
        found = sorted(address for message in self.peer.messages for address in message.addresses)
        self.assertEqual(found, sorted(f"c{number}@far.example" for number in range(MESSAGES)))
        print(f"{MESSAGES} requests, {time.monotonic() - began:.0f} s")

    def test_what_is_wrong_is_told_and_holds_up_nothing(self):
        server = self.carried()
        before = len(self.refusals())
        self.put(*((f"w{number}", body) for number, (body, _) in enumerate(self.wrong)))
        self.put(("good", json.dumps(request("good")).encode()))
        self.peer.wait_for(1)
        wait.until(lambda: len(self.refusals()) >= before + len(self.wrong),
                   lambda: f"{len(self.refusals())} refusals", 2 * wait.DEADLINE)
        wait.until(lambda: self.waiting() == 0, "no request is left")
        told = [json.loads(body) for body in self.refusals()[before:]]
        self.assertEqual({one["type"] for one in told}, {"postrider.request_refused"})
        reasons = {one["data"].get("sha256"): one["data"]["reason"] for one in told}
        for body, word in self.wrong:
            with self.subTest(body=body[:40]):
                self.assertIn(word, reasons[hashlib.sha256(body).hexdigest() if body is not HUGE else None])
        self.assertEqual(len(self.peer.messages), 1)
        self.assertNotIn(b"evil", self.peer.messages[0].content)
        self.assertEqual({(entry.get("user"), entry["protocol"]) for entry in server.log("accepted")},
                         {(server.settings["requests"][0]["name"], self.protocol)})

    def test_a_daemon_that_is_away_is_waited_for(self):
        server = self.carried()
        server.stop()
        self.put(("away", json.dumps(request("away")).encode()))
        server.start()
        self.peer.wait_for(1)
        wait.until(lambda: self.waiting() == 0, "no request is left")
        self.assertEqual(len(self.peer.messages), 1)


class InHand:
    """Of a scenario that also says is_in_hand(): the program has what was put."""

    def test_a_request_in_hand_is_not_lost_with_its_program(self):
        """Not even acknowledged before its mail is in custody."""
        server = self.carried()
        server.stop()
        self.put(("hand", json.dumps(request("hand")).encode()))
        wait.until(self.is_in_hand, "the request")
        self.carrier.kill()
        server.start()
        self.carrier.start()
        self.peer.wait_for(1)


class AtRabbitMq(InHand, Asked):
    user = rabbitmq.USER
    wrong = WRONG + ((HUGE, "16MiB"),)
    plugins = ("rabbitmq_stomp",)

    @classmethod
    def make_broker(cls):
        rabbitmq.need()
        roots = authority.Authority(cls.folder / "tls")
        cls.roots = roots.certificate
        (cls.folder / "rabbit").mkdir()
        return rabbitmq.RabbitMq(cls.folder / "rabbit", roots.sign("localhost"), roots.certificate,
                                 cls.plugins)

    def setUp(self):
        super().setUp()
        for name in (REQUESTS, REFUSED):
            self.rabbit.declare(name)
            self.rabbit.take_all(name)
        self.told = []

    def put(self, *pairs):
        import pika
        channel = self.rabbit.channel()
        channel.confirm_delivery()
        for key, body in pairs:
            channel.basic_publish("", REQUESTS, body, pika.BasicProperties(message_id=key, delivery_mode=2))
        channel.connection.close()

    def refusals(self):
        self.told += [body for _, body in self.rabbit.take_all(REFUSED)]
        return self.told

    def is_in_hand(self):
        return self.waiting() == 0

    def waiting(self):
        """Those in hand too, which come back when nobody has them."""
        import pika
        try:
            channel = self.rabbit.channel()
        except pika.exceptions.AMQPError:
            return -1
        count = channel.queue_declare(REQUESTS, durable=True, passive=True).method.message_count
        channel.connection.close()
        return count
