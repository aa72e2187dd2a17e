#!/usr/bin/python3
"""Mail that applications ask for at a Mosquitto, by MQTT 5, and at a RabbitMQ, whose plugin speaks 3.1.1
(postrider-requests(7))."""
import json
import unittest

from support_py import daemon, mail_requests, mosquitto, rabbitmq, scenario, wait
from support_py.mail_requests import REFUSED, REQUESTS, request

BUILT = (daemon.BIN / "postrider-mqtt").exists()
NOT_BUILT = "postrider-mqtt is not built: libmosquitto-dev was not there"


class ByMqtt(mail_requests.InHand, mail_requests.Asked):
    program, protocol, user = "postrider-mqtt", "mqtt", mosquitto.USER

    def test_what_comes_while_the_program_is_away_waits(self):
        self.carried()
        self.carrier.kill()
        self.put(*((f"a{number}", json.dumps(request(number)).encode()) for number in range(3)))
        self.carrier.start()
        self.peer.wait_for(3)
        self.assertEqual(sorted(one.addresses[0] for one in self.peer.messages),
                         [f"c{number}@far.example" for number in range(3)])

    def test_the_same_key_is_one_message(self):
        self.carried()
        self.put(("same", json.dumps(request(1)).encode()), ("same", json.dumps(request(1)).encode()),
                 ("last", json.dumps(request(2)).encode()))
        wait.until(lambda: "c2@far.example" in self.addresses(), "the last request")
        self.assertEqual(self.addresses(), ["c1@far.example", "c2@far.example"])

    def addresses(self):
        return sorted(one.addresses[0] for one in self.peer.messages)


@unittest.skipUnless(BUILT, NOT_BUILT)
class RequestsMosquitto(ByMqtt, scenario.Scenario):
    wrong = mail_requests.WRONG + ((mail_requests.HUGE, "16MiB"),)

    @classmethod
    def make_broker(cls):
        rabbitmq.need("mosquitto", "mosquitto_sub", "mosquitto_pub")
        (cls.folder / "mosquitto").mkdir()
        return mosquitto.Mosquitto(cls.folder / "mosquitto", read=f"{REFUSED}/#", saves=True)

    def name(self):
        return self.id().rpartition(".")[2][-30:].replace("_", "-")

    def source(self, name):
        return f"{name}/{self.name()}"

    def carried(self, **changes):
        server = super().carried(name=self.name(), **changes)
        wait.until(lambda: f"Sending SUBACK to postrider-mx.us.example-{self.name()}.requests"
                   in self.rabbit.log(), self.rabbit.log)
        return server

    def put(self, *pairs):
        for key, body in pairs:
            self.rabbit.publish(self.source(REQUESTS), body, "-D", "publish", "user-property", "idempotency-key",
                                key)

    def refusals(self):
        return [json.dumps(one).encode() for one in self.rabbit.events(self.source(REFUSED))]

    def waiting(self):
        return 0  # it tells nobody; what is missing is missing in the queue

    def is_in_hand(self):
        return f"Sending PUBLISH to postrider-mx.us.example-{self.name()}.requests" in self.rabbit.log()

    def test_a_retained_request_is_one_message(self):
        self.carried()
        self.rabbit.publish(self.source(REQUESTS), json.dumps(request("kept")).encode(), "-r")
        self.peer.wait_for(1)
        self.carrier.kill()
        self.carrier.start()
        self.put(("next", json.dumps(request("next")).encode()))
        self.peer.wait_for(2)
        self.assertEqual(self.addresses(), ["ckept@far.example", "cnext@far.example"])

    def test_a_request_that_is_not_to_be_acknowledged_waits_too(self):
        server = self.carried()
        server.stop()
        self.rabbit.publish(self.source(REQUESTS), json.dumps(request("once")).encode(), "-q", "0")
        wait.until(self.is_in_hand, "the request")
        server.start()
        self.peer.wait_for(1)

    def test_a_session_that_the_broker_forgot_is_said(self):
        self.carried()
        self.rabbit.kill()
        for path in self.rabbit.folder.glob("mosquitto.db*"):
            path.unlink()
        self.rabbit.start().wait()
        wait.until(lambda: b"has forgotten our session" in self.carrier.output.read_bytes(), "the complaint",
                   2 * wait.DEADLINE)
        self.put(("later", json.dumps(request("later")).encode()))
        self.peer.wait_for(1)

    def test_a_wrong_password_is_said(self):
        server = super().carried(name=self.name())
        self.carrier.kill()
        with open(server.settings["requests"][0]["password"], "w", encoding="ascii") as file:
            file.write("wrong\n")
        self.carrier.start()
        wait.until(lambda: b"not authorised" in self.carrier.output.read_bytes(),
                   lambda: self.carrier.output.read_text("utf-8"))


@unittest.skipUnless(BUILT, NOT_BUILT)
class RequestsRabbitMq(ByMqtt, mail_requests.AtRabbitMq, scenario.Scenario):
    plugins = ("rabbitmq_mqtt",)

    def setUp(self):
        super().setUp()
        channel = self.rabbit.channel()
        channel.queue_bind(REFUSED, "amq.topic", REFUSED)
        channel.connection.close()

    def carried(self, **changes):
        server = super().carried(**changes)
        self.session = "mqtt-subscription-postrider-mx.us.example-shop.requestsqos1"
        wait.until(lambda: self.waiting() >= 0, "the session")
        channel = self.rabbit.channel()
        channel.queue_purge(self.session)
        channel.connection.close()
        return server

    def put(self, *pairs):
        """MQTT 3.1.1 has no properties: the key is in the request."""
        import pika
        channel = self.rabbit.channel()
        channel.confirm_delivery()
        for key, body in pairs:
            if body not in [wrong for wrong, _ in self.wrong]:
                body = json.dumps({**json.loads(body), "key": key}).encode()
            channel.basic_publish("amq.topic", REQUESTS, body, pika.BasicProperties(delivery_mode=2), mandatory=True)
        channel.connection.close()

    def waiting(self):
        import pika
        try:
            channel = self.rabbit.channel()
            count = channel.queue_declare(self.session, passive=True).method.message_count
            channel.connection.close()
            return count
        except pika.exceptions.AMQPError:
            return -1


if __name__ == "__main__":
    scenario.main()
