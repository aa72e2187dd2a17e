#!/usr/bin/python3
"""Mail that applications ask for by Kafka's protocol, at librdkafka's cluster for tests (postrider-requests(7))."""
import json
import subprocess
import unittest

from support_py import daemon, kafka, mail_requests, rabbitmq, scenario, wait
from support_py.accounts import EVENTS
from support_py.mail_requests import request
from taken_over import World


@unittest.skipUnless((daemon.BIN / "postrider-kafka").exists(), "postrider-kafka is not built")
class RequestsKafka(mail_requests.Asked, scenario.Scenario):
    program, protocol, user = "postrider-kafka", "kafka", ""
    # What kcat and the cluster take.
    wrong = [(body, word) for body, word in mail_requests.WRONG if 0 < len(body) < 500_000]

    @classmethod
    def make_broker(cls):
        rabbitmq.need("kcat")
        return kafka.Cluster(mail_requests.REQUESTS)

    def source(self, name):
        return f"{name}-{self.id().rpartition('.')[2]}"

    def carried(self, **changes):
        return super().carried(name=self.id().rpartition(".")[2][-30:].replace("_", "-"), connections=2, **changes)

    def put(self, *pairs):
        self.rabbit.produce(self.source(mail_requests.REQUESTS), [body for _, body in pairs])

    def refusals(self):
        return [body for _, _, body in self.rabbit.records(self.source(mail_requests.REFUSED))]

    def waiting(self):
        return 0  # places of a group are the library's to know; what is missing is missing in the queue


@unittest.skipUnless((daemon.BIN / "postrider-kafka").exists(), "postrider-kafka is not built")
class RequestsOfUsers(World):
    """As on a machine: the daemon and the program have users of their own."""

    def test_the_program_hands_over_as_the_user_that_may(self):
        rabbitmq.need("kcat")
        cluster, peer = self.using(kafka.Cluster(mail_requests.REQUESTS)), self.sink()
        server = self.start(requests=[{"name": "shop", "broker": f"kafka://127.0.0.1:{cluster.ports['kafka']}",
                                       "source": mail_requests.REQUESTS}], **scenario.to(peer))
        with open(self.machine.folder / "carrier", "ab") as output:
            program = subprocess.Popen(
                [*self.machine.wrapper(), daemon.BIN / "postrider-kafka", "-c", server.config_file],
                env=server.environment(), stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        self.addCleanup(program.wait)
        self.addCleanup(program.kill)
        cluster.produce(mail_requests.REQUESTS, [json.dumps(request("one")).encode()])
        wait.until(lambda: peer.messages, lambda: (self.machine.folder / "carrier").read_text("utf-8"),
                   2 * wait.DEADLINE)
        accepted = server.wait_for_log("accepted")[0]
        self.assertEqual((accepted["user"], accepted["uid"], accepted["protocol"]), ("shop", str(EVENTS), "kafka"))


if __name__ == "__main__":
    scenario.main()
