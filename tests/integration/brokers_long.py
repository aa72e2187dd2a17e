#!/usr/bin/python3
"""Each sink of events and each source of mail requests, while whoever is at its other end, the daemon and
the program between them are killed: every outcome comes at least once, in the order of its message, and
every request that was put is in custody exactly once. The long form has 20,000 messages for each, two
kills of the broker and five of the daemon, and prints a table:

  POSTRIDER_TABLE=FILE tests/integration/run --full --jobs 1 --timeout 7200 brokers_long

The short form has the ends that brokers_*.py and requests_*.py do not have. POSTRIDER_MESSAGES sets the
number of messages (300)."""
import contextlib
import http.client
import itertools
import json
import os
import re
import statistics
import subprocess
import threading
import time
import types
import unittest

import brokers_stomp
import events
import web
from support_py import authority, carriers, daemon, kafka, mosquitto, rabbitmq, receiver, scenario, smtp, wait
from support_py.mail_requests import request
from support_py.tools import tool

MESSAGES = int(os.environ.get("POSTRIDER_MESSAGES", 20_000 if scenario.FULL else 300))
KILLS = "server peer server program server peer server program server" if scenario.FULL else "server peer program"
LIMIT = 1200 if scenario.FULL else 2 * wait.DEADLINE
# Of each twenty messages.
KINDS = 14 * ["good"] + 3 * ["bad"] + 2 * ["later"] + ["stuck"]
UNLIMITED = {f"{what}_per_{time}": 0 for what in ("messages", "recipients") for time in ("hour", "day")}
STUCK = "4.2.1 stuck"
TABLE = os.environ.get("POSTRIDER_TABLE")
SENDERS = 6
# Of a topic of the cluster for tests, which keeps the last 5 MiB of each.
PARTITIONS = 24
# How many Mosquitto may lose each time that it is killed, of what it has acknowledged: what was on its way.
ON_THE_WAY = 100


def long_form(test):
    """Elsewhere there is a short one."""
    return test if scenario.FULL else None


def tell(where, **figures):
    line = f"{where:36}" + ", ".join(f"{count} {what.replace('_', ' ')}" for what, count in figures.items())
    print(line, flush=True)
    if TABLE:
        with open(TABLE, "a", encoding="utf-8") as file:
            file.write(line + "\n")


class Load:
    """work(number, attempt) for each number, until it has done it; some at a time."""

    def __init__(self, make_worker, senders=SENDERS):
        self.numbers, self.lock, self.done = iter(range(MESSAGES)), threading.Lock(), set()
        self.pause, self.trouble, self.again = threading.Event(), None, 0
        self.threads = [threading.Thread(target=self.run, args=(make_worker,), daemon=True) for _ in range(senders)]
        for thread in self.threads:
            thread.start()

    def run(self, make_worker):
        opened = contextlib.ExitStack()
        self.work(make_worker, opened)
        close(opened)

    def work(self, make_worker, opened):
        worker = None
        while (number := self.next()) is not None:
            for attempt in itertools.count():
                try:
                    worker = worker or make_worker(opened)
                    name = worker(number, attempt)
                    break
                except Exception as problem:  # somebody is killed: nothing was promised
                    self.trouble, worker = problem, None
                    close(opened)
                    with self.lock:
                        self.again += 1
                    if self.pause.wait(0.05):
                        return
            with self.lock:
                self.done.add(name)

    def next(self):
        with self.lock:
            return next(self.numbers, None)

    def is_over(self):
        return not any(thread.is_alive() for thread in self.threads)

    def stop(self):
        self.pause.set()
        for thread in self.threads:
            thread.join()


def close(opened):
    try:
        opened.close()
    except Exception:  # of a connection that is broken
        pass


class Long(scenario.Scenario):
    peer, explanation = events.Events.peer, ""
    wait_until_carried = carriers.Carried.wait_until_carried
    problem = carriers.Carried.problem
    carrier = None

    def secret(self):
        path = self.own_folder("carrier") / "password"
        path.write_text(rabbitmq.PASSWORD + "\n")
        path.chmod(0o600)
        return path

    def start(self, peer, program=None, **settings):
        self.server = self.relay(peer, start=False, sendmail=UNLIMITED,
                                 delivery={"retry": ["2s", "1h"], "site_connections": 10}, **settings)
        if program:
            self.carrier = self.using(carriers.Carrier(self.server, program)).start()
        self.server.start()

    def killed(self, end, progress, load):
        """Kills while that goes on; who is killed is started at once, and the others do not wait for it."""
        order = KILLS.split()
        if not self.carrier:
            order = [one for one in order if one != "program"]
        for place, victim in enumerate(order):
            want = MESSAGES * (place + 1) // (len(order) + 2)
            wait.until(lambda: progress() >= want, lambda: f"{progress()} of {want}; {load.trouble}", LIMIT, pause=0.01)
            if victim == "server":
                self.server.kill()
                self.server.start()
            elif victim == "program":
                self.carrier.kill()
                self.carrier.start()
            else:
                end.wait()
                end.kill()
                end.start()
        end.wait()
        return {f"kills of {who}": order.count(name)
                for name, who in (("peer", "the other end"), ("server", "the daemon"), ("program", "the program"))}

    def count(self):
        return json.loads(self.server.postrider("queue", "count", "--json"))["messages"]

    # Sinks

    def smtp_worker(self, opened):
        client = opened.enter_context(smtp.Client(self.server.port))
        client.hello()

        def send(number, attempt):
            tag = f"{KINDS[number % len(KINDS)]}-{number}-{attempt}"
            client.send(f"MAIL FROM:<shop@ext.example> ENVID={tag}\r\nRCPT TO:<{tag}@far.example>\r\nDATA\r\n".encode())
            self.assertEqual([reply.code for reply in client.replies(3)], [250, 250, 354])
            client.send(smtp.stuffed(events.CONTENT))
            self.assertEqual(client.reply().code, 250)
            return tag
        return send

    def check_sink(self, where, end, take, program=None, loses=False, **sink):
        """loses: what the broker has acknowledged it may have lost when it was killed."""
        began = time.monotonic()
        self.start(self.peer(), program, events=[{"name": "sink", **sink}])
        load = self.using(Load(self.smtp_worker))
        kills = self.killed(end, lambda: len(load.done), load)
        wait.until(load.is_over, lambda: f"the end of the load: {load.trouble}", LIMIT, pause=0.1)
        tags = load.done
        self.assertEqual(len(tags), MESSAGES)

        def is_empty():
            self.server.postrider("queue", "remove", "--reply", STUCK)
            return self.count() == 0
        wait.until(is_empty, lambda: f"{self.count()} messages in the queue", LIMIT, pause=0.5)
        self.wait_for_the_sink()
        carried = time.monotonic() - began
        found, problems, came = {}, [], []

        def is_there():  # who reads may come last
            nonlocal found, problems, came
            came = take()
            found, problems = events.histories(came)
            return not missing(tags, found)
        try:
            wait.until(is_there, "the last events", 10 if loses else LIMIT, pause=1)
        except wait.Timeout:
            self.assertTrue(loses, list(missing(tags, found).items())[:5])
        lost = missing(tags, found)
        times = {}
        disorder = sum(times.get(one["subject"], "") > one["time"] or times.update({one["subject"]: one["time"]}) or 0
                       for one in once(came))
        tell(where, messages=len(tags), events=len(once(came)), twice=len(came) - len(once(came)), incomplete=len(lost),
             out_of_order=disorder, **kills, seconds=round(carried))
        self.assertEqual((problems, disorder), ([], 0))
        self.assertEqual(self.server.log("events_lost"), [])
        self.assertLessEqual(len(lost), ON_THE_WAY * kills["kills of the other end"])
        if lost:
            self.replay(where, take, tags, lost)

    def wait_for_the_sink(self):
        until = time.monotonic() + LIMIT
        while True:
            try:
                return self.wait_until_carried(self.server)
            except wait.Timeout:
                if time.monotonic() > until:
                    raise

    def replay(self, where, take, tags, lost):
        """What a broker has lost, the outbox has still."""
        first = json.loads(self.server.postrider("events").splitlines()[0])["id"]
        self.server.postrider("events", "replay", "sink", "--from", first)
        wait.until(lambda: not missing(tags, events.histories(take())[0], in_order=False), "the events that were lost", LIMIT, pause=1)
        tell(where, incomplete_after_events_replay=0, incomplete_before=len(lost))

    # Sources

    def check_source(self, where, end, make_worker, waiting=lambda: 0, program=None, loses=False, **source):
        """waiting: how many requests the other end has still."""
        began = time.monotonic()
        peer = self.sink()
        self.start(peer, program, **({"requests": [{"name": "shop", **source}]} if source else {}))
        putting = self.using(Load(make_worker))
        custody = Custody(peer)
        kills = self.killed(end, custody.count if source else lambda: len(putting.done), putting)
        wait.until(putting.is_over, lambda: f"the end of the load: {putting.trouble}", LIMIT, pause=0.1)
        most_lost = ON_THE_WAY * kills["kills of the other end"] if loses else 0

        def is_over():
            return custody.count() >= MESSAGES - most_lost and waiting() == 0 and self.count() == 0 and custody.is_still()
        wait.until(is_over, lambda: f"{custody.count()} requests in custody, {waiting()} at the broker", LIMIT, pause=0.5)
        several = {to: ids for to, ids in custody.ids.items() if len(ids) > 1}
        wanted = {f"c{number}@far.example" for number in range(MESSAGES)}
        tell(where, requests=MESSAGES, in_custody=len(custody.ids), in_custody_more_than_once=len(several),
             missing=len(wanted - set(custody.ids)), delivered_twice=len(peer.messages) - len(custody.ids),
             put_again=putting.again, **kills, seconds=round(time.monotonic() - began))
        self.assertEqual(several, {})
        self.assertEqual(set(custody.ids) - wanted, set())
        self.assertLessEqual(len(wanted - set(custody.ids)), most_lost)


class Custody:
    """The queue ids under which a next hop got the mail for each address: one, if it came only once into custody."""
    TRACE = re.compile(rb"\A(?:[^\n]*\n[ \t])*?[^\n]*\bid ([0-9A-Za-z]+)")

    def __init__(self, peer):
        self.peer, self.ids, self.seen, self.changed = peer, {}, 0, time.monotonic()

    def count(self):
        messages = self.peer.messages
        while self.seen < len(messages):
            one = messages[self.seen]
            self.ids.setdefault(one.addresses[0], set()).add(self.TRACE.match(one.content)[1])
            self.seen += 1
            self.changed = time.monotonic()
        return len(self.ids)

    def is_still(self):
        """A second copy would have come by now."""
        return time.monotonic() - self.changed > 2


def once(came):
    """Each event where it came first."""
    found = {}
    for event in came:
        found.setdefault(event["id"], event)
    return list(found.values())


def missing(tags, found, in_order=True):
    def is_there(tag):
        kinds = found.get(tag, ())
        return events.is_complete(tag, kinds) if in_order else {"accepted", events.KINDS[tag.split("-")[0]]} <= set(kinds)
    return {tag: found.get(tag) for tag in tags if not is_there(tag)}


def built(name):
    return unittest.skipUnless((daemon.BIN / f"postrider-{name}").exists(), f"postrider-{name} is not built")


class Served(Long):
    """By a program of the test's own, or by nobody."""

    def test_webhook(self):
        hook = self.using(receiver.Receiver(self.own_folder("hook"), "webhook"))
        self.check_sink("sink, webhook", hook, hook.events, webhook=f"http://127.0.0.1:{hook.place}/", timeout="5s")

    def test_socket(self):
        program = self.using(receiver.Receiver(self.own_folder("reader"), "socket"))
        self.check_sink("sink, Unix socket", program, program.events, socket=program.place, timeout="5s")

    def test_file(self):
        lines = AwayFile(self.own_folder("lines") / "events")
        self.check_sink("sink, file (away and back)", lines, lambda: lines.events, file=str(lines.path))

    def test_http(self):
        served = None

        def make_worker(opened):
            connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=wait.DEADLINE)
            opened.callback(connection.close)

            def post(number, attempt):
                connection.request("POST", "/v1/messages", json.dumps(request(number)), {
                    "Authorization": f"Bearer {served.token['send']}", "Content-Type": "application/json",
                    "Idempotency-Key": f"k{number}"})
                answer = connection.getresponse()
                answer.read()
                self.assertEqual(answer.status, 202)
                return number
            return post

        class Gate:
            """The web server is what is killed at this end."""
            def kill(_):
                served.process.kill()
                served.process.wait()

            def start(_):
                with open(self.server.folder / "web.log", "ab") as log:
                    served.process = subprocess.Popen([daemon.BIN / "postrider-web", "-c", served.config],
                                                      env=served.environment, stderr=log)

            def wait(_):
                wait.until(served.answers, "postrider-web")

        original = self.start

        def start(*arguments, **settings):
            nonlocal served
            original(*arguments, **settings)
            served = self.using(web.Web(self.server))
        self.start = start
        self.check_source("source, HTTP POST /v1/messages", Gate(), make_worker)


class AwayFile(events.Lines):
    """A file that cannot be written while it is away."""

    def kill(self):
        self.rotate()
        while True:
            try:
                self.path.mkdir()  # for root too
                return
            except FileExistsError:
                self.rotate()

    def start(self):
        self.path.rmdir()

    def wait(self):
        pass


class AtRabbitMq(Long):
    """By the four protocols that it speaks."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        rabbitmq.need()
        roots = authority.Authority(cls.folder / "tls")
        (cls.folder / "rabbit").mkdir()
        cls.rabbit = cls.shared(rabbitmq.RabbitMq(
            cls.folder / "rabbit", roots.sign("localhost"), roots.certificate,
            ("rabbitmq_amqp1_0", "rabbitmq_mqtt", "rabbitmq_stomp")))

    def make_queue(self, binding=None):
        self.queue = "q-" + self.id().rpartition(".")[2].replace("_", "-")
        channel = self.rabbit.channel()
        channel.queue_declare(self.queue, durable=True)
        if binding:
            channel.queue_bind(self.queue, "amq.topic", binding)
        channel.connection.close()
        self.came = []
        return self.queue

    def take(self):
        """All that came until now."""
        channel = self.rabbit.channel()
        channel.basic_qos(prefetch_count=1000)
        for method, _, body in channel.consume(self.queue, auto_ack=True, inactivity_timeout=2):
            if method is None:
                break
            self.came.append(json.loads(body))
        channel.cancel()
        channel.connection.close()
        return self.came

    def place(self, protocol):
        return {"broker": f"{protocol}://{rabbitmq.USER}@127.0.0.1:{self.rabbit.ports[protocol]}",
                "password": str(self.secret()), "program": f"postrider-{protocol}"}

    def sink_at(self, protocol, topic):
        self.check_sink(f"sink, {protocol} to RabbitMQ", self.rabbit, self.take, topic=topic,
                        socket=str(self.own_folder("door") / "door"), **self.place(protocol))

    @long_form
    def test_sink_amqp(self):
        self.sink_at("amqp", self.make_queue())

    @long_form
    def test_sink_amqp10(self):
        self.sink_at("amqp10", f"/amq/queue/{self.make_queue()}")

    @long_form
    def test_sink_stomp(self):
        self.sink_at("stomp", f"/amq/queue/{self.make_queue()}")

    @long_form
    def test_sink_mqtt(self):
        self.make_queue("told.*")
        self.sink_at("mqtt", "told/{type}")

    # Sources

    def publisher(self, exchange, name):
        def make_worker(opened):
            import pika
            channel = self.rabbit.channel()
            opened.callback(channel.connection.close)
            channel.confirm_delivery()

            def put(number, attempt):
                channel.basic_publish(exchange, name, json.dumps({**request(number), "key": f"k{number}"}).encode(),
                                      pika.BasicProperties(message_id=f"k{number}", delivery_mode=2), mandatory=True)
                return number
            return put
        return make_worker

    def waiting(self):
        channel = self.rabbit.channel()
        count = channel.queue_declare(self.queue, passive=True).method.message_count
        channel.connection.close()
        return count

    def source_at(self, protocol, source, exchange="", name=None):
        self.check_source(f"source, {protocol} at RabbitMQ", self.rabbit, self.publisher(exchange, name or self.queue),
                          self.waiting, source=source, connections=1 if protocol == "mqtt" else 4, **self.place(protocol))

    @long_form
    def test_source_amqp(self):
        self.source_at("amqp", self.make_queue())

    @long_form
    def test_source_amqp10(self):
        self.source_at("amqp10", f"/amq/queue/{self.make_queue()}")

    @long_form
    def test_source_stomp(self):
        self.source_at("stomp", f"/amq/queue/{self.make_queue()}")

    @long_form
    def test_source_mqtt(self):
        self.queue = "mqtt-subscription-postrider-mx.us.example-shop.requestsqos1"
        self.source_at("mqtt", "asked", "amq.topic", "asked")  # mandatory: it waits for the subscription


@built("stomp")
class AtActiveMq(Long):
    @long_form
    def test_sink_stomp(self):
        rabbitmq.need("java")
        broker = self.using(brokers_stomp.ActiveMq(self.own_folder("activemq"))).wait()
        came = []

        def take():
            came.extend(json.loads(body) for _, body in broker.take_all("/queue/mail"))
            return came
        self.check_sink("sink, stomp to ActiveMQ", broker, take, "postrider-stomp", topic="/queue/mail",
                        broker=f"stomp://{rabbitmq.USER}@127.0.0.1:{broker.port}", password=str(self.secret()),
                        socket=str(self.own_folder("door") / "door"))


@built("kafka")
class AtKafka(Long):
    """The cluster for tests has its records in its memory alone: its connections are ended and it lets
    nobody in, but it is not killed."""

    def cluster(self):
        rabbitmq.need("kcat")
        return self.using(kafka.Cluster("mail", PARTITIONS))

    @long_form
    def test_sink_kafka(self):
        cluster = self.cluster()
        self.check_sink("sink, kafka (down and up)", cluster, lambda: [json.loads(body) for _, _, body in cluster.records()],
                        "postrider-kafka", topic="mail", broker=f"kafka://127.0.0.1:{cluster.ports['kafka']}",
                        socket=str(self.own_folder("door") / "door"))

    @long_form
    def test_source_kafka(self):
        cluster = self.cluster()
        for number in range(0, MESSAGES, 1000):
            cluster.produce("asked", [json.dumps(request(one)).encode() for one in range(number, min(number + 1000, MESSAGES))])
        self.check_source("source, kafka (down and up)", cluster, lambda _: lambda number, attempt: number, source="asked",
                          connections=2, program="postrider-kafka", broker=f"kafka://127.0.0.1:{cluster.ports['kafka']}")


@built("mqtt")
class AtMosquitto(Long):
    def mosquitto(self, **settings):
        rabbitmq.need("mosquitto", "mosquitto_sub", "mosquitto_pub")
        broker = self.using(mosquitto.Mosquitto(self.own_folder("mosquitto"), saves=True, **settings))
        return broker, {"broker": f"mqtt://{mosquitto.USER}@127.0.0.1:{broker.port}", "password": str(self.secret()),
                        "program": "postrider-mqtt", "loses": True}

    def test_sink_mqtt(self):
        broker, place = self.mosquitto()
        self.check_sink("sink, mqtt to Mosquitto", broker, broker.events, topic="mail/{type}",
                        socket=str(self.own_folder("door") / "door"), **place)

    def test_source_mqtt(self):
        broker, place = self.mosquitto()
        most = 50

        def make_worker(_):
            subscribed = "Sending SUBACK to postrider-mx.us.example-shop.requests"
            wait.until(lambda: subscribed in broker.log(), "the subscription", pause=0.5)

            def put(number, attempt):
                """A batch at a time, all of it again if its end is not known."""
                batch = range(number * most, min((number + 1) * most, MESSAGES))
                lines = b"\n".join(json.dumps({**request(one), "key": f"k{one}"}).encode() for one in batch) + b"\n"
                if batch:
                    subprocess.run([tool("mosquitto_pub"), *broker.access(), "-V", "5", "-q", "1", "-t", "asked", "-l"],
                                   input=lines, check=True, capture_output=True, timeout=20)
                return number
            return put
        self.check_source("source, mqtt at Mosquitto", broker, make_worker, source="asked", **place)


class AtFullRate(AtRabbitMq):
    """Mail beside all sinks at once, one of which is dead, and beside none."""
    MAIL = 10 * MESSAGES if scenario.FULL else MESSAGES
    ROUNDS = 3 if scenario.FULL else 1
    MOST_SLOWER = 0.1
    MOST_GROWTH = 16 << 20
    test_sink_amqp = test_sink_amqp10 = test_sink_stomp = test_sink_mqtt = None
    test_source_amqp = test_source_amqp10 = test_source_stomp = test_source_mqtt = None

    @long_form
    def test_mail_does_not_feel_the_sinks(self):
        rabbitmq.need("mosquitto", "mosquitto_sub")
        quiet, loud, memory = [], [], []
        sinks, programs = self.all_sinks()
        for _ in range(self.ROUNDS):
            quiet.append(self.relayed("without sinks", self.MAIL // 10)[0])
            rate, seen = self.relayed("eight sinks, one of them dead", self.MAIL // 10, sinks, programs)
            loud.append(rate)
        _, memory = self.relayed("the same for longer", self.MAIL, sinks, programs)
        slower = 1 - statistics.median(loud) / statistics.median(quiet)
        settled, last = (max(part) for part in (memory[len(memory) // 4:len(memory) // 2], memory[-len(memory) // 4:]))
        tell("all sinks, one dead", **{"messages/s without": round(statistics.median(quiet)),
                                       "messages/s with": round(statistics.median(loud)), "% slower": round(100 * slower, 1),
                                       "MiB in the second quarter": settled >> 20, "MiB in the last": last >> 20})
        self.assertLess(slower, self.MOST_SLOWER)
        self.assertLess(last - settled, self.MOST_GROWTH)

    def all_sinks(self):
        """The one of AMQP 1.0 finds nobody."""
        self.make_queue("told.*")
        mail = set(os.listdir("/proc/self/task"))
        cluster = self.using(kafka.Cluster("mail", PARTITIONS))
        broker = self.using(mosquitto.Mosquitto(self.own_folder("mosquitto")))
        hook, reader = (self.using(receiver.Receiver(self.own_folder(kind), kind)) for kind in ("webhook", "socket"))
        # In earnest they are on other machines: here they have what mail leaves of the processor.
        give_way(set(os.listdir("/proc/self/task")) - mail)  # the cluster's
        for one in self.rabbit, broker, hook, reader:
            give_way(threads_of(one.process.pid))
        login = {"password": str(self.secret())}

        def at(protocol, port, topic, **more):
            user = f"{rabbitmq.USER}@" if more else ""
            return {"name": protocol, "broker": f"{protocol}://{user}127.0.0.1:{port}", "topic": topic,
                    "socket": str(self.own_folder("door") / "door"), **more}
        ports = self.rabbit.ports
        return [{"name": "file", "file": str(self.own_folder("lines") / "events")},
                {"name": "hook", "webhook": f"http://127.0.0.1:{hook.place}/"},
                {"name": "reader", "socket": reader.place},
                at("amqp", ports["amqp"], self.queue, **login),
                at("stomp", ports["stomp"], f"/amq/queue/{self.queue}", **login),
                at("amqp10", wait.free_port(), "nowhere", **login),
                at("mqtt", broker.port, "mail/{type}", **login),
                at("kafka", cluster.ports["kafka"], "mail")], ("amqp", "stomp", "amqp10", "mqtt", "kafka")

    def relayed(self, what, count, sinks=(), programs=()):
        """Messages a second from the first to the last arrival's end, and the daemon's memory meanwhile."""
        port = wait.free_port()
        taker = subprocess.Popen([daemon.BIN / "bench-sink", "--listen", f"127.0.0.1:{port}", "--recipients", str(count),
                                  "--limit-s", str(LIMIT)], stdout=subprocess.PIPE, text=True)
        self.addCleanup(taker.wait)
        self.addCleanup(taker.kill)
        server = daemon.Postrider(self.own_folder("daemon"), **scenario.to(taken(port)), sendmail=UNLIMITED, events=list(sinks),
                                  delivery={"site_connections": 50})
        with contextlib.ExitStack() as running:
            for program in programs:
                running.callback(carriers.Carrier(server, f"postrider-{program}").start().stop)
            running.callback(server.start().stop)
            memory, cpu, load = [], server.cpu_time(), os.getloadavg()[0]
            began = time.monotonic()
            with subprocess.Popen([daemon.BIN / "bench-load", "--server", f"127.0.0.1:{server.port}", "--messages", str(count),
                                   "--sessions", "50", "--limit-s", str(LIMIT)], stdout=subprocess.PIPE, text=True) as sender:
                while taker.poll() is None:
                    memory.append(server.memory())
                    time.sleep(0.1)  # between two samples
                seconds = time.monotonic() - began
                sent = json.loads(sender.stdout.read())
            self.assertEqual((sent["messages"], json.loads(taker.stdout.read())["recipients"]), (count, count))
            cpu = server.cpu_time() - cpu
            status = json.loads(server.postrider("status", "--json"))
            tell(what, messages=count, **{
                "messages/s": round(count / seconds), "ms CPU of the daemon for each": round(1000 * cpu / count, 3),
                "MiB at most": max(memory) >> 20, "load at the beginning": round(load, 1)})
            if sinks:
                print("\n".join(status["event_sinks"]))
                self.assertEqual(len(status["event_sinks"]), len(sinks))
                self.assertEqual(server.log("events_lost"), [])
        return count / seconds, memory


def threads_of(pid):
    """Of all processes in its group."""
    group = os.getpgid(pid)
    for other in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):  # some end meanwhile
            if int(other) == pid or os.getpgid(int(other)) == group != os.getpgid(0):
                yield from os.listdir(f"/proc/{other}/task")


def give_way(threads):
    """And what they start: priorities are those of threads, not of processes."""
    for thread in threads:
        with contextlib.suppress(ProcessLookupError):
            os.sched_setscheduler(int(thread), os.SCHED_IDLE, os.sched_param(0))


def taken(port):
    return types.SimpleNamespace(port=port)


if __name__ == "__main__":
    scenario.main()
