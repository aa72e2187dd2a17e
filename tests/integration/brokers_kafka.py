#!/usr/bin/python3
"""As brokers_amqp.py, by Kafka's protocol to librdkafka's cluster for tests, read back by kcat: broker,
daemon and the program between them are ended and started again."""
import json
import unittest

import events
from support_py import authority, carriers, daemon, kafka, rabbitmq, scenario, wait

PROGRAM = "postrider-kafka"
NOT_LEADER, REQUEST_TIMED_OUT, TOO_LARGE, NOT_ALLOWED, OUT_OF_ORDER = 6, 7, 10, 29, 45


@unittest.skipUnless((daemon.BIN / PROGRAM).exists(), f"{PROGRAM} is not built: librdkafka-dev was not there")
class BrokersKafka(carriers.Carried, scenario.Scenario):
    told = events
    peer, send, remove_stuck = events.Events.peer, events.Events.send, events.Events.remove_stuck
    explanation = ""
    program, protocol, library, topic, user = PROGRAM, "kafka", "rdkafka", carriers.QUEUE, ""

    @classmethod
    def make_broker(cls):
        rabbitmq.need("kcat")
        return kafka.Cluster(carriers.QUEUE)

    def declare(self):
        """The records of the tests before are seen, too: these are their events."""
        self.before = len(self.rabbit.records())

    def take(self):
        found = self.rabbit.records()
        for key, headers, body in found:
            event = json.loads(body)
            self.assertEqual((key, headers), (event["subject"], "content-type=application/cloudevents+json"))
        seen = set()
        return [event for event in (json.loads(body) for _, _, body in found)
                if event["subject"] not in self.of_others and not seen.add(event["id"])]

    def setUp(self):
        super().setUp()
        self.of_others = {key for key, _, _ in self.rabbit.records()}

    def test_what_passes_is_tried_again_and_doubles_nothing(self):
        self.declare()
        server = self.carried()
        self.rabbit.answer_with(NOT_LEADER, REQUEST_TIMED_OUT, NOT_LEADER)
        tags = self.send_one(server, 0, 4, 8)
        server.wait_until_empty()
        self.wait_until_carried(server)
        self.check(self.take(), tags)
        ids = [json.loads(body)["id"] for key, _, body in self.rabbit.records() if key not in self.of_others]
        self.assertEqual(len(ids), len(set(ids)))

    def test_what_is_refused_is_said_and_comes_again(self):
        self.declare()
        server = self.carried()
        for error, words in ((NOT_ALLOWED, "authorization"), (TOO_LARGE, "too large"),
                             (OUT_OF_ORDER, "")):
            with self.subTest(error=error):
                self.rabbit.answer_with(error)
                tags = self.send_one(server, 0, 4)
                if words:
                    self.wait_for_problem_or_mended(server, words)
                server.wait_until_empty()
                self.wait_until_carried(server)
                self.assertEqual(tags - {tag for tag in events.histories(self.take())[0]}, set())

    def wait_for_problem_or_mended(self, server, words):
        def said():
            return words in self.problem(server).lower() or \
                [line for line in server.log() if words in str(line).lower()]
        wait.until(said, lambda: f"{words} in the log: {self.problem(server)}")

    def test_a_broker_that_is_away_is_named(self):
        self.declare()
        server = self.carried(timeout="6s")
        self.rabbit.kill()
        try:
            tags = self.send_one(server, 0)
            self.wait_for_problem(server, "127.0.0.1")
        finally:
            self.rabbit.start()
        server.wait_until_empty()
        self.wait_until_carried(server)
        self.check(self.take(), tags)


@unittest.skipUnless((daemon.BIN / PROGRAM).exists(), f"{PROGRAM} is not built: librdkafka-dev was not there")
class KafkaLogins(scenario.Scenario):
    told = events
    peer, send = events.Events.peer, events.Events.send
    send_one = carriers.Carried.send_one
    problem, wait_for_problem = carriers.Carried.problem, carriers.Carried.wait_for_problem
    explanation = ""

    def carried(self, port, roots, password):
        folder = self.own_folder("carrier")
        (folder / "password").write_text(password + "\n")
        (folder / "password").chmod(0o600)
        server = self.relay(self.peer(), start=False, delivery={"tls_ca": str(roots)}, events=[
            {"name": "stream", "broker": f"kafkas://pr@localhost:{port}", "topic": "mail", "timeout": "8s",
             "password": str(folder / "password"), "socket": str(folder / "door")}])
        self.using(carriers.Carrier(server, PROGRAM)).start()
        return server.start()

    def test_a_login_is_by_tls_alone_and_a_wrong_password_is_said(self):
        roots = authority.Authority(self.own_folder("tls"))
        door = self.using(kafka.Doorkeeper(roots.sign("localhost"), "pr", "pr-secret"))
        server = self.carried(door.port, roots.certificate, "wrong")
        self.send_one(server, 0)
        self.wait_for_problem(server, "password is not right")
        self.assertEqual(set(door.logins), {(b"\0pr\0wrong", False)})

    def test_the_right_password_is_let_in(self):
        roots = authority.Authority(self.own_folder("tls"))
        door = self.using(kafka.Doorkeeper(roots.sign("localhost"), "pr", "pr-secret"))
        server = self.carried(door.port, roots.certificate, "pr-secret")
        self.send_one(server, 0)
        wait.until(lambda: (b"\0pr\0pr-secret", True) in door.logins, "a login")

    def test_a_certificate_of_somebody_else_gets_no_password(self):
        roots, stranger = authority.Authority(self.own_folder("tls")), authority.Authority(self.own_folder("other"))
        door = self.using(kafka.Doorkeeper(roots.sign("localhost"), "pr", "pr-secret"))
        server = self.carried(door.port, stranger.certificate, "pr-secret")
        self.send_one(server, 0)
        self.wait_for_problem(server, "certificate")
        self.assertEqual(door.logins, [])

    def test_a_certificate_for_another_name_gets_no_password(self):
        roots = authority.Authority(self.own_folder("tls"))
        door = self.using(kafka.Doorkeeper(roots.sign("elsewhere.example"), "pr", "pr-secret"))
        server = self.carried(door.port, roots.certificate, "pr-secret")
        self.send_one(server, 0)
        self.wait_for_problem(server, "certificate")
        self.assertEqual(door.logins, [])


if __name__ == "__main__":
    scenario.main()
