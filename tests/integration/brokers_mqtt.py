#!/usr/bin/python3
"""As brokers_amqp.py, by MQTT: RabbitMQ's plugin puts what is published into its exchange amq.topic. And
by Mosquitto, which is stopped and started again; what it has when it is killed it does not keep reliably."""
import unittest

import events
from support_py import carriers, daemon, mosquitto, rabbitmq, scenario, wait

PROGRAM = "postrider-mqtt"


@unittest.skipUnless((daemon.BIN / PROGRAM).exists(),
                     f"{PROGRAM} is not built: libmosquitto-dev was not there")
class BrokersMqtt(carriers.ByRabbitMq, scenario.Scenario):
    told = events
    peer, send, remove_stuck = events.Events.peer, events.Events.send, events.Events.remove_stuck
    explanation = ""
    program, protocol, library, topic = PROGRAM, "mqtt", "mosquitto", "mail/{type}"
    plugins = ("rabbitmq_mqtt",)
    refusal, untrusted = "log in to", "TLS"

    def declare(self):
        self.rabbit.declare(carriers.QUEUE)
        channel = self.rabbit.channel()
        channel.queue_bind(carriers.QUEUE, "amq.topic", "mail.*")
        channel.connection.close()

    def check_message(self, properties, event):
        self.assertEqual(properties.delivery_mode, 2)
        self.assertIn("type", event)


@unittest.skipUnless((daemon.BIN / PROGRAM).exists(),
                     f"{PROGRAM} is not built: libmosquitto-dev was not there")
class BrokersMosquitto(scenario.Scenario):
    told = events
    peer, send, remove_stuck = events.Events.peer, events.Events.send, events.Events.remove_stuck
    send_one, check = carriers.Carried.send_one, carriers.Carried.check
    explanation = ""

    def test_a_broker_that_is_stopped_has_everything_in_the_end(self):
        rabbitmq.need("mosquitto", "mosquitto_sub")
        broker = self.using(mosquitto.Mosquitto(self.own_folder("mosquitto")))
        folder = self.own_folder("carrier")
        (folder / "password").write_text("pr-secret\n")
        (folder / "password").chmod(0o600)
        server = self.relay(self.peer(), start=False, events=[
            {"name": "hall", "broker": f"mqtt://pr@127.0.0.1:{broker.port}", "topic": "mail/{type}",
             "password": str(folder / "password"), "socket": str(folder / "door")}])
        self.using(carriers.Carrier(server, PROGRAM)).start()
        server.start()
        tags = self.send_one(server, *range(20))
        broker.end()
        tags |= self.send_one(server, *range(20, 40))
        self.remove_stuck(server)
        broker.start().wait()
        server.wait_until_empty()

        def ended():
            server.reload()  # a sink that waits after a failure is tried at once
            found, _ = events.histories(broker.events())
            return all(set(found.get(tag, ())) & events.ENDS for tag in tags)
        wait.until(ended, "the ends of all messages", pause=0.5)
        self.check(broker.events(), tags)


if __name__ == "__main__":
    scenario.main()
