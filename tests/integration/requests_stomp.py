#!/usr/bin/python3
"""Mail that applications ask for at a RabbitMQ and at an ActiveMQ, by STOMP (postrider-requests(7))."""
import os
import socket
import unittest

import brokers_stomp
from support_py import daemon, mail_requests, rabbitmq, scenario, wait


@unittest.skipUnless((daemon.BIN / "postrider-stomp").exists(), "postrider-stomp is not built")
class RequestsStomp(mail_requests.AtRabbitMq, scenario.Scenario):
    program, protocol = "postrider-stomp", "stomp"

    def source(self, name):
        return f"/amq/queue/{name}"


@unittest.skipUnless((daemon.BIN / "postrider-stomp").exists(), "postrider-stomp is not built")
class RequestsActiveMq(mail_requests.Asked, scenario.Scenario):
    program, protocol, user = "postrider-stomp", "stomp", rabbitmq.USER

    @classmethod
    def make_broker(cls):
        rabbitmq.need("java")
        if not os.path.exists(brokers_stomp.ACTIVEMQ):
            raise unittest.SkipTest("needs activemq")
        (cls.folder / "activemq").mkdir()
        broker = brokers_stomp.ActiveMq(cls.folder / "activemq").wait()
        broker.ports = {"stomp": broker.port}
        return broker

    def setUp(self):
        super().setUp()
        self.told = []

    def source(self, name):
        return f"/queue/{name}-{self.id().rpartition('.')[2]}"

    def put(self, *pairs):
        with socket.create_connection(("127.0.0.1", self.rabbit.port), wait.DEADLINE) as one:
            file = one.makefile("rb")
            one.sendall(f"CONNECT\naccept-version:1.2\nhost:/\nlogin:{rabbitmq.USER}\n"
                        f"passcode:{rabbitmq.PASSWORD}\n\n\0".encode())
            self.rabbit.frame(file)
            for key, body in pairs:
                one.sendall(f"SEND\ndestination:{self.source(mail_requests.REQUESTS)}\npersistent:true\nreceipt:{key}\n"
                            f"idempotency-key:{key}\ncontent-length:{len(body)}\n\n".encode() + body + b"\0")
                self.assertEqual(self.rabbit.frame(file)[0]["receipt-id"], key)

    def refusals(self):
        self.told += [body for _, body in self.rabbit.take_all(self.source(mail_requests.REFUSED))]
        return self.told

    def waiting(self):
        return 0  # it tells nobody; what is missing is missing in the queue

    def test_what_is_refused_goes_where_dead_letters_go(self):
        self.carried(refused="")
        self.put(("x", b"no json at all"))
        found = []
        wait.until(lambda: found.extend(self.rabbit.take_all("/queue/ActiveMQ.DLQ")) or
                   b"no json at all" in [body for _, body in found], "the dead letter")


if __name__ == "__main__":
    scenario.main()
