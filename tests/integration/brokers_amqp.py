#!/usr/bin/python3
"""What becomes of mail, carried to a real RabbitMQ by AMQP 0.9.1 while it, the daemon and the program
between them are killed and started again. In the end each message's events are in the queue, at least
once and in their order. POSTRIDER_EVENTS sets the number of messages (400; 2,000 with --full)."""
import json
import unittest

import events
from support_py import carriers, daemon, scenario

PROGRAM = "postrider-amqp"


@unittest.skipUnless((daemon.BIN / PROGRAM).exists(),
                     f"{PROGRAM} is not built: librabbitmq-dev was not there")
class BrokersAmqp(carriers.ByRabbitMq, scenario.Scenario):
    told = events
    peer, send, remove_stuck = events.Events.peer, events.Events.send, events.Events.remove_stuck
    explanation = ""
    program, protocol, library, topic, plugins = PROGRAM, "amqp", "rabbitmq", carriers.QUEUE, ()
    refusal, untrusted = "ACCESS_REFUSED", "certificate"

    def declare(self):
        self.rabbit.declare(carriers.QUEUE)

    def check_message(self, properties, event):
        self.assertEqual((properties.message_id, properties.type, properties.content_type,
                          properties.delivery_mode),
                         (event["id"], event["type"], "application/cloudevents+json", 2))

    def test_a_queue_that_vanishes_loses_nothing(self):
        self.declare()
        server = self.carried()
        self.send_one(server, 0)
        server.wait_until_empty()
        self.wait_until_carried(server)
        channel = self.rabbit.channel()
        _, _, body = channel.basic_get(carriers.QUEUE, auto_ack=True)
        self.assertEqual(json.loads(body)["type"], "postrider.accepted")
        channel.queue_delete(carriers.QUEUE)
        channel.connection.close()
        tags = self.send_one(server, 4, 5, 8)
        self.wait_for_problem(server, "routing key")
        server.wait_until_empty()
        self.declare()
        self.wait_until_carried(server)
        self.check(self.take(), tags)

    def test_an_exchange_that_is_missing_is_said(self):
        self.declare()
        server = self.carried(exchange="absent", topic="mail.{type}")
        tags = self.send_one(server, 0)
        self.wait_for_problem(server, "absent")
        self.make_exchange("absent")
        self.wait_until_carried(server)
        self.check(self.take(), tags)


if __name__ == "__main__":
    scenario.main()
