#!/usr/bin/python3
"""As brokers_amqp.py, by AMQP 1.0: RabbitMQ's plugin gives what is sent to /amq/queue/NAME to that queue."""
import json
import unittest

import events
from support_py import amqp10_peer, carriers, daemon, scenario

PROGRAM = "postrider-amqp10"


@unittest.skipUnless((daemon.BIN / PROGRAM).exists(),
                     f"{PROGRAM} is not built: libqpid-proton11-dev was not there")
class BrokersAmqp10(carriers.ByRabbitMq, scenario.Scenario):
    told = events
    peer, send, remove_stuck = events.Events.peer, events.Events.send, events.Events.remove_stuck
    explanation = ""
    program, protocol, library = PROGRAM, "amqp10", "qpid-proton"
    topic = f"/amq/queue/{carriers.QUEUE}"
    plugins = ("rabbitmq_amqp1_0",)
    refusal, untrusted = "log in to", "certificate"

    def declare(self):
        self.rabbit.declare(carriers.QUEUE)

    def check_message(self, properties, event):
        self.assertEqual((properties.message_id, properties.content_type, properties.delivery_mode),
                         (event["id"], "application/cloudevents+json", 2))

    def test_a_queue_that_is_missing_is_made(self):
        """Of /amq/queue/NAME RabbitMQ would accept, and throw away, what comes while there is none."""
        server = self.carried(topic="/queue/made")
        tags = self.send_one(server, 0, 4)
        server.wait_until_empty()
        self.wait_until_carried(server)
        self.check([json.loads(body) for _, body in self.rabbit.take_all("made")], tags)

    def test_what_the_broker_does_not_take_comes_again(self):
        """The plugin of RabbitMQ 3.10 has no word for a message that the queue rejects; then none is the word."""
        channel = self.rabbit.channel()
        channel.queue_declare("narrow", durable=True, arguments={"x-max-length": 1, "x-overflow": "reject-publish"})
        channel.connection.close()
        server = self.carried(topic="/amq/queue/narrow", timeout="4s")
        tags = self.send_one(server, 0, 4)
        server.wait_until_empty()
        self.wait_for_problem(server)
        came = self.rabbit.take_all("narrow")
        channel = self.rabbit.channel()
        channel.queue_delete("narrow")
        channel.queue_declare("narrow", durable=True)
        channel.connection.close()
        self.wait_until_carried(server)
        came += self.rabbit.take_all("narrow")
        self.check([json.loads(body) for _, body in came], tags)

    def test_each_type_may_have_a_place_of_its_own(self):
        self.declare()
        self.make_exchange("amq.topic")
        server = self.carried(topic="/topic/mail.{type}")
        tags = self.send_one(server, 0, 1, 2)
        self.remove_stuck(server)
        server.wait_until_empty()
        self.wait_until_carried(server)
        self.check(self.take(), tags)

    def test_an_exchange_that_is_missing_is_said(self):
        self.declare()
        server = self.carried(topic="/exchange/absent/mail.{type}")
        tags = self.send_one(server, 0)
        self.wait_for_problem(server, "absent")
        self.make_exchange("absent")
        self.wait_until_carried(server)
        self.check(self.take(), tags)


@unittest.skipUnless((daemon.BIN / PROGRAM).exists(),
                     f"{PROGRAM} is not built: libqpid-proton11-dev was not there")
class BrokersAmqp10Dispositions(scenario.Scenario):
    """What a peer says of a message: RabbitMQ's plugin knows no word but accepted."""
    told = events
    peer, send = events.Events.peer, events.Events.send
    send_one, check = carriers.Carried.send_one, carriers.Carried.check
    problem, wait_for_problem = carriers.Carried.problem, carriers.Carried.wait_for_problem
    wait_until_carried = carriers.Carried.wait_until_carried
    explanation = ""

    def carried(self, *answers):
        amqp10_peer.need()
        self.taker = self.using(amqp10_peer.Peer())
        self.taker.answers += answers
        server = self.relay(self.peer(), start=False, events=[
            {"name": "shelf", "broker": f"amqp10://127.0.0.1:{self.taker.port}", "topic": amqp10_peer.ADDRESS,
             "socket": str(self.own_folder("carrier") / "door")}])
        self.using(carriers.Carrier(server, PROGRAM)).start()
        return server.start()

    def comes_again_after(self, answer, *words):
        server = self.carried(answer)
        tags = self.send_one(server, 0, 1, 2)
        self.wait_for_problem(server, amqp10_peer.ADDRESS, *words)
        server.wait_until_empty()
        self.wait_until_carried(server)
        self.assertEqual(self.taker.came.count(answer), 1)
        self.check([json.loads(body) for body in self.taker.kept], tags)

    def test_what_is_rejected_is_said_with_the_reason_and_comes_again(self):
        self.comes_again_after("rejected", "rejects it", amqp10_peer.CONDITION, amqp10_peer.REASON)

    def test_what_is_released_comes_again(self):
        self.comes_again_after("released", "does not take it")

    def test_what_is_modified_comes_again(self):
        self.comes_again_after("modified", "does not take it")


if __name__ == "__main__":
    scenario.main()
