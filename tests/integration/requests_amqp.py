#!/usr/bin/python3
"""Mail that applications ask for at a RabbitMQ, by AMQP (postrider-requests(7))."""
import json
import unittest

from support_py import daemon, mail_requests, scenario, wait
from support_py.mail_requests import request


@unittest.skipUnless((daemon.BIN / "postrider-amqp").exists(), "postrider-amqp is not built")
class RequestsAmqp(mail_requests.AtRabbitMq, scenario.Scenario):
    program, protocol = "postrider-amqp", "amqp"

    def wait_for_line(self, word):
        """Of the program."""
        wait.until(lambda: word in self.carrier.output.read_bytes(), lambda: f"{word} in the log",
                   2 * wait.DEADLINE)

    def test_what_is_refused_goes_where_dead_letters_go(self):
        channel = self.rabbit.channel()
        channel.queue_declare("dead", durable=True)
        channel.queue_declare("asked", durable=True, arguments={
            "x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"})
        self.carried(source="asked", refused="")
        channel.basic_publish("", "asked", b"no json at all")
        channel.connection.close()
        found = []
        wait.until(lambda: found.extend(self.rabbit.take_all("dead")) or found, "the dead letter")
        self.assertEqual([body for _, body in found], [b"no json at all"])

    def test_a_place_for_refusals_that_is_missing_loses_nothing(self):
        server = self.carried(refused="absent")
        self.put(("x", b"no json at all"))
        self.wait_for_line(b"request_refusal_not_told")
        self.rabbit.declare("absent")
        found = []
        wait.until(lambda: found.extend(self.rabbit.take_all("absent")) or found, "what was refused",
                   2 * wait.DEADLINE)
        self.assertEqual(json.loads(found[0][1])["data"]["key"], "x")
        self.assertEqual(server.queue(), [])

    def test_the_limits_of_a_source_make_its_requests_wait(self):
        self.settings = {"sendmail": {"messages_per_hour": 1}}
        server = self.carried(connections=1)
        self.put(("first", json.dumps(request(1)).encode()), ("second", json.dumps(request(2)).encode()))
        self.peer.wait_for(1)
        self.wait_for_line(b"request_waits")
        self.assertEqual([one.addresses for one in self.peer.messages], [["c1@far.example"]])
        self.assertEqual(server.wait_for_log("user_limited")[0]["user"], "token shop")
        server.write_config(sendmail={"messages_per_hour": 100})
        server.reload()
        self.peer.wait_for(2)
        wait.until(lambda: self.waiting() == 0, "no request is left")
        self.assertEqual(self.refusals(), [])

    def test_the_same_key_with_another_request_is_refused(self):
        self.carried(connections=1)
        self.put(("same", json.dumps(request(1)).encode()), ("same", json.dumps(request(1)).encode()),
                 ("same", json.dumps(request(2)).encode()), ("last", json.dumps(request(3)).encode()))
        wait.until(lambda: len(self.refusals()) == 1, "what was refused")
        wait.until(lambda: self.waiting() == 0, "no request is left")
        self.peer.wait_for(2)
        self.assertEqual(sorted(one.addresses[0] for one in self.peer.messages),
                         ["c1@far.example", "c3@far.example"])


if __name__ == "__main__":
    scenario.main()
