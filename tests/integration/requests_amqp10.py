#!/usr/bin/python3
"""Mail that applications ask for at a RabbitMQ, by AMQP 1.0 (postrider-requests(7))."""
import json
import unittest

from support_py import amqp10_peer, daemon, mail_requests, scenario, wait
from support_py.mail_requests import request


@unittest.skipUnless((daemon.BIN / "postrider-amqp10").exists(),
                     "postrider-amqp10 is not built: libqpid-proton11-dev was not there")
class RequestsAmqp10(mail_requests.AtRabbitMq, scenario.Scenario):
    program, protocol, plugins = "postrider-amqp10", "amqp10", ("rabbitmq_amqp1_0",)

    def source(self, name):
        return f"/amq/queue/{name}"

    def test_what_is_refused_goes_where_dead_letters_go(self):
        channel = self.rabbit.channel()
        channel.queue_declare("dead", durable=True)
        channel.queue_declare("asked", durable=True, arguments={
            "x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"})
        self.carried(source="/amq/queue/asked", refused="")
        channel.basic_publish("", "asked", b"no json at all")
        channel.connection.close()
        found = []
        wait.until(lambda: found.extend(self.rabbit.take_all("dead")) or found, "the dead letter")
        self.assertEqual([body for _, body in found], [b"no json at all"])


@unittest.skipUnless((daemon.BIN / "postrider-amqp10").exists(),
                     "postrider-amqp10 is not built: libqpid-proton11-dev was not there")
class Dispositions(mail_requests.Asked, scenario.Scenario):
    """What a peer hears of its requests."""
    program, protocol, user = "postrider-amqp10", "amqp10", ""
    test_each_request_is_one_message_whoever_is_killed = None
    test_what_is_wrong_is_told_and_holds_up_nothing = None
    test_a_daemon_that_is_away_is_waited_for = None

    @classmethod
    def make_broker(cls):
        amqp10_peer.need()
        return amqp10_peer.Peer()

    def carried(self, **changes):
        return super().carried(refused="", **changes)

    def heard(self, key, *ends):
        def told():
            return tuple(end for name, end in self.rabbit.told if name == key)
        wait.until(lambda: len(told()) >= len(ends), lambda: f"{ends} of {key}: {self.rabbit.told}", 2 * wait.DEADLINE)
        self.assertEqual(told(), ends)

    def test_a_request_is_accepted_and_one_that_can_be_no_mail_rejected(self):
        self.carried()
        self.rabbit.offer("good", json.dumps(request("good")).encode())
        self.rabbit.offer("bad", b"no json at all")
        self.heard("good", "accepted")
        self.heard("bad", "rejected")
        self.peer.wait_for(1)

    def test_a_request_of_which_the_daemon_knows_nothing_is_released(self):
        """And comes again, until it is mail."""
        server = self.carried()
        server.stop()
        self.rabbit.offer("late", json.dumps(request("late")).encode())
        self.heard("late", "released")
        server.start()
        self.heard("late", "released", "accepted")
        self.peer.wait_for(1)


if __name__ == "__main__":
    scenario.main()
