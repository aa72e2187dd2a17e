"""What scenarios of message brokers share: the program between the daemon and the broker, and mail whose
events are carried while everybody is killed. The broker is a RabbitMQ, which speaks all these protocols
and keeps what it confirmed."""
import json
import os
import subprocess
import threading
import time

from support_py import authority, daemon, rabbitmq, scenario, smtp, wait

MESSAGES = int(os.environ.get("POSTRIDER_EVENTS", 2000 if scenario.FULL else 400))
QUEUE = "mail"


class Carrier:
    """postrider-amqp and its like, as the service manager runs them."""

    def __init__(self, server, program):
        self.server, self.program, self.process = server, daemon.BIN / program, None
        self.output = server.folder / "carrier"

    def start(self):
        with open(self.output, "ab") as output:
            self.process = subprocess.Popen(
                [self.program, "-c", self.server.config_file], stdin=subprocess.DEVNULL,
                stdout=output, stderr=output, env=self.server.environment())
        return self

    def kill(self):
        self.process.kill()
        self.process.wait()

    def stop(self):
        if self.process is None:
            return
        self.process.terminate()
        code = self.process.wait(wait.DEADLINE)
        text = self.output.read_text("utf-8", "replace")
        assert code in (0, -9), text
        assert not daemon.SANITIZER.search(text), text


class Carried:
    """Mixed into a scenario that says: program, protocol, library, topic, user, make_broker(), declare(),
    take(), and takes from `events` how mail is sent and what must become of it."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.rabbit = cls.shared(cls.make_broker())

    def carried(self, password=rabbitmq.PASSWORD, tls=False, **changes):
        folder = self.own_folder("carrier")
        secret = folder / "password"
        secret.write_text(password + "\n")
        secret.chmod(0o600)
        port = self.rabbit.ports[self.protocol + ("s" if tls else "")]
        user = self.user and f"{self.user}@"
        place = f"{self.protocol}s://{user}localhost:{port}" if tls else \
            f"{self.protocol}://{user}127.0.0.1:{port}"
        sink = {"name": "rabbit", "broker": place, "password": str(secret) if user else "",
                "socket": str(folder / "door"), "topic": self.topic, **changes}
        more = {"delivery": {"tls_ca": str(self.roots)}} if tls else {}
        server = self.relay(self.peer(), start=False, events=[sink], **more)
        self.carrier = self.using(Carrier(server, self.program))
        self.carrier.start()
        return server.start()

    def send_one(self, server, *numbers):
        with server.client() as client:
            client.hello()
            return {self.send(client, number) for number in numbers}

    def problem(self, server):
        return " ".join(json.loads(server.postrider("status", "--json")).get("event_sinks", []))

    def wait_for_problem(self, server, *words):
        wait.until(lambda: all(word in self.problem(server) for word in ("FAILS", *words)),
                   lambda: f"{words} in {self.problem(server)}", pause=0.2)

    def wait_until_carried(self, server):
        """Nothing waits in the outbox or for it."""
        def carried():
            server.reload()  # a sink that waits after a failure is tried at once
            status = json.loads(server.postrider("status", "--json"))
            return status["events_in_the_queue"] == 0 and status["events_waiting"] == 0 and \
                all("up to date" in one and "FAILS" not in one for one in status["event_sinks"])
        wait.until(carried, lambda: f"the end of the events: {self.problem(server)}",
                   5 * wait.DEADLINE, pause=1)

    def check(self, came, tags):
        found, problems = self.told.histories(came)
        self.assertEqual(problems, [])
        self.assertEqual(tags - set(found), set())
        self.assertEqual(
            {tag: found[tag] for tag in tags if not self.told.is_complete(tag, found[tag])}, {})

    def test_the_daemon_links_no_client_of_a_broker(self):
        linked = {name: subprocess.run(["ldd", daemon.BIN / name], capture_output=True, text=True,
                                       check=True).stdout for name in ("postrider", self.program)}
        self.assertNotIn(self.library, linked["postrider"])
        self.assertIn(self.library, linked[self.program])

    def test_no_outcome_is_missing_whoever_is_killed(self):
        self.declare()
        server = self.carried()
        tags, done = set(), threading.Event()
        numbers = iter(range(MESSAGES))

        def load():
            number = next(numbers, None)
            while number is not None:
                try:
                    with smtp.Client(server.port) as client:
                        client.hello()
                        while number is not None:
                            tags.add(self.send(client, number))
                            number = next(numbers, None)
                except (OSError, smtp.Closed, AssertionError):
                    done.wait(0.02)  # killed: without a reply nothing was promised
                    number = next(numbers, None)
            done.set()
        began = time.monotonic()
        sender = threading.Thread(target=load)
        sender.start()
        kills = ["rabbit", "server", "carrier", "rabbit", "server"]
        try:
            for place, victim in enumerate(kills):
                want = MESSAGES * (place + 1) // (len(kills) + 2)
                wait.until(lambda: done.is_set() or len(tags) >= want, "some mail",
                           5 * wait.DEADLINE)
                if victim == "rabbit":
                    self.rabbit.kill()
                    self.rabbit.start()  # and the next victim does not wait for it
                elif victim == "carrier":
                    self.carrier.kill()
                    self.carrier.start()
                else:
                    server.kill()
                    server.start()
        finally:
            wait.until(done.is_set, "the end of the load", 5 * wait.DEADLINE)
            sender.join()
        self.rabbit.wait()
        self.assertGreater(len(tags), MESSAGES // 2)
        self.remove_stuck(server)
        server.wait_until_empty(3 * wait.DEADLINE)
        self.wait_until_carried(server)
        came = self.take()
        once = {event["id"] for event in came}
        print(f"{len(tags)} messages, {len(once)} events, {len(came) - len(once)} of them twice, "
              f"{time.monotonic() - began:.0f} s; killed: {' '.join(kills)}")
        self.check(came, tags)
        self.assertEqual(server.log("events_lost"), [])


class ByRabbitMq(Carried):
    """The broker is a RabbitMQ with the plugins that the scenario names; check_message() looks at what it
    has."""
    user = rabbitmq.USER

    @classmethod
    def make_broker(cls):
        rabbitmq.need()
        roots = authority.Authority(cls.folder / "tls")
        cls.roots = roots.certificate
        (cls.folder / "rabbit").mkdir()
        return rabbitmq.RabbitMq(cls.folder / "rabbit", roots.sign("localhost"), roots.certificate,
                                 cls.plugins)

    def make_exchange(self, name):
        """What is for mail goes to the queue."""
        channel = self.rabbit.channel()
        channel.exchange_declare(name, "topic", durable=True)
        channel.queue_bind(QUEUE, name, "mail.*")
        channel.connection.close()

    def take(self):
        found = self.rabbit.take_all(QUEUE)
        for properties, body in found:
            self.check_message(properties, json.loads(body))
        return [json.loads(body) for _, body in found]

    def test_a_wrong_password_is_said_and_a_right_one_mends_it(self):
        self.declare()
        server = self.carried(password="wrong")
        tags = self.send_one(server, 0)
        self.wait_for_problem(server, self.refusal)
        with open(server.settings["events"][0]["password"], "w", encoding="ascii") as file:
            file.write(rabbitmq.PASSWORD + "\n")
        self.carrier.stop()
        self.carrier.start()
        self.wait_until_carried(server)
        self.check(self.take(), tags)

    def test_tls_is_verified(self):
        self.declare()
        server = self.carried(tls=True)
        tags = self.send_one(server, 0)
        server.wait_until_empty()
        self.wait_until_carried(server)
        self.check(self.take(), tags)
        stranger = authority.Authority(self.own_folder("stranger"))
        server.write_config(delivery={"tls_ca": str(stranger.certificate)})
        self.carrier.stop()
        self.carrier.start()
        server.restart()
        self.send_one(server, 4)
        self.wait_for_problem(server, self.untrusted)
        self.assertEqual(self.take(), [])
