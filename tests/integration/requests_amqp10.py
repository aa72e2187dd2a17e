#!/usr/bin/python3
"""Mail that applications ask for at a RabbitMQ, by AMQP 1.0 (postrider-requests(7))."""
import unittest

from support_py import daemon, mail_requests, scenario, wait


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


if __name__ == "__main__":
    scenario.main()
