#!/usr/bin/python3
"""As brokers_amqp.py, by STOMP 1.2 to RabbitMQ's plugin; and to ActiveMQ, which is killed and started
again."""
import json
import os
import signal
import socket
import subprocess
import unittest

import events
from support_py import carriers, daemon, rabbitmq, scenario, wait

PROGRAM = "postrider-stomp"
ACTIVEMQ = "/usr/share/activemq"


@unittest.skipUnless((daemon.BIN / PROGRAM).exists(), f"{PROGRAM} is not built: -DWITH_STOMP=OFF")
class BrokersStomp(carriers.ByRabbitMq, scenario.Scenario):
    told = events
    peer, send, remove_stuck = events.Events.peer, events.Events.send, events.Events.remove_stuck
    explanation = ""
    program, protocol, library, topic = PROGRAM, "stomp", "", f"/amq/queue/{carriers.QUEUE}"
    plugins = ("rabbitmq_stomp",)
    refusal, untrusted = "Bad CONNECT", "certificate"

    test_the_daemon_links_no_client_of_a_broker = None  # there is none

    def declare(self):
        self.rabbit.declare(carriers.QUEUE)

    def check_message(self, properties, event):
        self.assertEqual((properties.message_id, properties.content_type, properties.delivery_mode),
                         (event["id"], "application/cloudevents+json", 2))

    def test_an_exchange_that_is_missing_is_said(self):
        self.declare()
        server = self.carried(topic="/exchange/absent/mail.{type}")
        tags = self.send_one(server, 0)
        self.wait_for_problem(server, "not_found")
        self.make_exchange("absent")
        self.wait_until_carried(server)
        self.check(self.take(), tags)

    def test_a_connection_that_has_nothing_to_carry_is_kept(self):
        """The broker ends a connection without a sign of life for two of the times that were agreed."""
        self.declare()
        server = self.carried()
        tags = self.send_one(server, 0)
        server.wait_until_empty()
        self.wait_until_carried(server)
        before = self.connections()
        self.assertEqual(len(before), 1)
        with self.subTest("a heart-beat has come"):
            wait.until(lambda: self.octets(before[0]) > 0, "a connection's octets")
            count = self.octets(before[0])
            wait.until(lambda: self.octets(before[0]) > count, "a heart-beat", 3 * wait.DEADLINE)
        tags |= self.send_one(server, 4)
        server.wait_until_empty()
        self.wait_until_carried(server)
        self.assertEqual(self.connections(), before)
        self.check(self.take(), tags)

    def connections(self):
        """The program's local ports at the broker."""
        return [line.split()[2] for line in self.sockets()]

    def octets(self, local):
        """How many this socket has sent."""
        lines = subprocess.run(["ss", "-tniH", f"src {local} and dport = :{self.rabbit.ports['stomp']}"],
                               capture_output=True, text=True, check=True).stdout
        return int(lines.split("bytes_sent:")[1].split()[0]) if "bytes_sent:" in lines else 0

    def sockets(self):
        return subprocess.run(
            ["ss", "-tnH", "state", "established", f"dport = :{self.rabbit.ports['stomp']}"],
            capture_output=True, text=True, check=True).stdout.splitlines()


class ActiveMq:
    """One of the test's own, as who runs the test; it keeps what it took."""

    def __init__(self, folder):
        self.folder, self.port, self.process = folder, wait.free_port(), None
        for name in ("conf", "data", "tmp"):
            (folder / name).mkdir()
        (folder / "conf" / "log4j.properties").write_text(
            "log4j.rootLogger=INFO, o\nlog4j.appender.o=org.apache.log4j.ConsoleAppender\n"
            "log4j.appender.o.layout=org.apache.log4j.SimpleLayout\n")
        (folder / "conf" / "activemq.xml").write_text(f"""
<beans xmlns="http://www.springframework.org/schema/beans"
 xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"
 xsi:schemaLocation="http://www.springframework.org/schema/beans
  http://www.springframework.org/schema/beans/spring-beans.xsd
  http://activemq.apache.org/schema/core http://activemq.apache.org/schema/core/activemq-core.xsd">
 <broker xmlns="http://activemq.apache.org/schema/core" useJmx="false" brokerName="b"
  dataDirectory="{folder}/data" schedulerSupport="false">
  <persistenceAdapter><kahaDB directory="{folder}/data/kahadb"/></persistenceAdapter>
  <plugins><simpleAuthenticationPlugin><users>
   <authenticationUser username="{rabbitmq.USER}" password="{rabbitmq.PASSWORD}" groups="users,admins"/>
  </users></simpleAuthenticationPlugin></plugins>
  <transportConnectors>
   <transportConnector name="stomp" uri="stomp://127.0.0.1:{self.port}"/>
  </transportConnectors>
 </broker></beans>""")
        self.start()

    def start(self):
        with open(self.folder / "console", "ab") as console:
            self.process = subprocess.Popen(
                ["java", "-Xms64m", "-Xmx256m", "-Djava.net.preferIPv4Stack=true",
                 f"-Djava.io.tmpdir={self.folder}/tmp", f"-Dactivemq.home={ACTIVEMQ}",
                 f"-Dactivemq.base={self.folder}", f"-Dactivemq.conf={self.folder}/conf",
                 f"-Dactivemq.data={self.folder}/data",
                 f"-Dlog4j.configuration=file:{self.folder}/conf/log4j.properties",
                 "-jar", f"{ACTIVEMQ}/bin/activemq.jar", "start",
                 f"xbean:file:{self.folder}/conf/activemq.xml"],
                cwd=self.folder, stdin=subprocess.DEVNULL, stdout=console, stderr=console)
        return self

    def wait(self):
        def ready():
            if self.process.poll() is not None:
                raise AssertionError("ActiveMQ ended: " + (self.folder / "console").read_text(
                    "utf-8", "replace")[-2000:])
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return True
            except OSError:
                return False
        wait.until(ready, "ActiveMQ", 3 * wait.DEADLINE, pause=0.1)
        return self

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self):
        self.kill()

    def take_all(self, queue):
        """By a subscription without acknowledgement, until nothing has come for a while."""
        found = []
        with socket.create_connection(("127.0.0.1", self.port), wait.DEADLINE) as one:
            def say(text):
                one.sendall(text.encode() + b"\0")
            file = one.makefile("rb")
            say(f"CONNECT\naccept-version:1.2\nhost:/\nlogin:{rabbitmq.USER}\n"
                f"passcode:{rabbitmq.PASSWORD}\n\n")
            self.frame(file)
            say(f"SUBSCRIBE\nid:0\ndestination:{queue}\nack:auto\n\n")
            one.settimeout(2)
            try:
                while True:
                    headers, body = self.frame(file)
                    found.append((headers, body))
            except TimeoutError:
                return found

    @staticmethod
    def frame(file):
        command = b"\n"
        while command in (b"\n", b"\r\n"):
            command = file.readline()
        headers = {}
        for line in iter(file.readline, b"\n"):
            name, _, value = line.rstrip(b"\r\n").decode().partition(":")
            headers.setdefault(name, value)
        size = headers.get("content-length")
        if size is None:
            body = b""
            while not body.endswith(b"\0"):
                body += file.read(1)
            return headers, body[:-1]
        body = file.read(int(size))
        file.read(1)
        return headers, body


@unittest.skipUnless((daemon.BIN / PROGRAM).exists(), f"{PROGRAM} is not built: -DWITH_STOMP=OFF")
class BrokersActiveMq(scenario.Scenario):
    told = events
    peer, send, remove_stuck = events.Events.peer, events.Events.send, events.Events.remove_stuck
    send_one, check = carriers.Carried.send_one, carriers.Carried.check
    problem, wait_for_problem = carriers.Carried.problem, carriers.Carried.wait_for_problem
    wait_until_carried = carriers.Carried.wait_until_carried
    explanation = ""

    def carried(self, broker, password=rabbitmq.PASSWORD):
        folder = self.own_folder("carrier")
        (folder / "password").write_text(password + "\n")
        (folder / "password").chmod(0o600)
        server = self.relay(self.peer(), start=False, events=[
            {"name": "orders", "broker": f"stomp://{rabbitmq.USER}@127.0.0.1:{broker.port}",
             "topic": "/queue/mail", "password": str(folder / "password"),
             "socket": str(folder / "door")}])
        self.carrier = self.using(carriers.Carrier(server, PROGRAM)).start()
        return server.start()

    def test_a_broker_that_is_killed_has_everything_in_the_end(self):
        rabbitmq.need("java")
        if not os.path.exists(ACTIVEMQ):
            self.skipTest("needs activemq")
        broker = self.using(ActiveMq(self.own_folder("activemq"))).wait()
        server = self.carried(broker)
        tags = self.send_one(server, *range(20))
        broker.kill()
        tags |= self.send_one(server, *range(20, 40))
        self.remove_stuck(server)
        broker.start().wait()
        server.wait_until_empty()
        self.wait_until_carried(server)
        came = broker.take_all("/queue/mail")
        for headers, _ in came:
            self.assertEqual((headers["persistent"], headers["content-type"]),
                             ("true", "application/cloudevents+json"))
        self.check([json.loads(body) for _, body in came], tags)

    def test_a_wrong_password_is_said_without_the_places_in_its_code(self):
        rabbitmq.need("java")
        if not os.path.exists(ACTIVEMQ):
            self.skipTest("needs activemq")
        broker = self.using(ActiveMq(self.own_folder("activemq"))).wait()
        server = self.carried(broker, password="wrong")
        self.send_one(server, 0)
        self.wait_for_problem(server, "log in to", "password is invalid")
        self.assertNotIn("java.", self.problem(server))


if __name__ == "__main__":
    scenario.main()
