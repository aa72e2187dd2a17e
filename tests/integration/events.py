#!/usr/bin/python3
"""What becomes of mail, carried outwards: to a file that is rotated, a socket whose reader is slow, and
a webhook that dies, refuses, hangs and comes back, while the daemon is killed. In the end each
message's events are there, in order, whatever came twice has the same id, and mail waited for none
of them. POSTRIDER_EVENTS sets the number of messages (160; 2,000 with --full), POSTRIDER_KILLS that
of the kills (4; 40)."""
import base64
import collections
import contextlib
import hashlib
import hmac
import http.server
import json
import os
import pathlib
import random
import socket
import sqlite3
import threading
import time

import jsonschema

from support_py import daemon, scenario, smtp, wait

MESSAGES = int(os.environ.get("POSTRIDER_EVENTS", 2000 if scenario.FULL else 160))
KILLS = int(os.environ.get("POSTRIDER_KILLS", 40 if scenario.FULL else 4))
KEY = bytes(range(32))
SECRET = "whsec_" + base64.b64encode(KEY).decode()
CONTENT = b"From: <shop@us.example>\r\nTo: <x@far.example>\r\nSubject: order\r\n\r\nhello\r\n"
# What the next hop says to each recipient: the first list is used up one answer a message.
KINDS = {"good": "delivered", "bad": "bounced", "later": "delivered", "stuck": "removed"}
SCHEMA = jsonschema.Draft202012Validator(
    json.loads((daemon.ROOT / "doc" / "events.schema.json").read_text()),
    format_checker=jsonschema.FormatChecker())
ENDS = {"delivered", "bounced", "expired", "removed"}


def kind(event):
    return event["type"].removeprefix("postrider.")


class Receiver:
    """A webhook's server that can be told to behave badly, and can be stopped and started."""

    def __init__(self):
        self.port = wait.free_port()
        self.mode = "ok"
        self.events = []
        self.batches = collections.Counter()  # by webhook-id, accepted ones
        self.refused = 0
        self.problems = []
        self.released = threading.Event()
        self.server = None
        self.start()

    def start(self):
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                outer.take(self)

            def log_message(self, *_):
                pass

        class Server(http.server.ThreadingHTTPServer):
            allow_reuse_address = True
            daemon_threads = True

        self.server = Server(("127.0.0.1", self.port), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.05,))
        self.thread.start()

    def take(self, handler):
        body = handler.rfile.read(int(handler.headers["Content-Length"]))
        name, stamp = handler.headers["webhook-id"], handler.headers["webhook-timestamp"]
        signature = base64.b64encode(hmac.new(
            KEY, f"{name}.{stamp}.".encode() + body, hashlib.sha256).digest()).decode()
        if handler.headers["webhook-signature"] != f"v1,{signature}":
            self.problems.append(f"a wrong signature of {name}")
        if self.mode == "hang":
            self.refused += 1
            self.released.wait(wait.DEADLINE)
            return  # without an answer
        if self.mode == "500":
            self.refused += 1
            handler.send_error(500)
            return
        self.events += json.loads(body)
        self.batches[name] += 1
        handler.send_response(204)
        handler.end_headers()

    def set(self, mode):
        self.mode = mode
        if mode != "hang":
            self.released.set()
            self.released = threading.Event()

    def die(self):
        if self.server:
            self.server.shutdown()
            self.server.server_close()
            self.thread.join()
            self.server = None

    def stop(self):
        self.set("ok")
        self.die()


class Reader:
    """A program behind a Unix socket that takes a batch only when it may."""

    def __init__(self, path):
        self.path = str(path)
        self.events = []
        self.answers = True
        self.may_read = threading.Event()
        self.ending = False
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(self.path)
        self.listener.listen()
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        while not self.ending:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            with connection:
                connection.settimeout(0.1)
                self.serve(connection)

    def serve(self, connection):
        taken = b""
        while not self.ending:
            if not self.may_read.wait(0.1):
                continue
            try:
                more = connection.recv(512)
            except socket.timeout:
                continue
            except OSError:
                return
            if not more:
                return
            taken += more
            while b"\n\n" in taken:
                batch, taken = taken.split(b"\n\n", 1)
                self.events += [json.loads(line) for line in batch.split(b"\n")]
                if not self.answers:
                    continue
                try:
                    connection.sendall(b"ok\n")
                except OSError:
                    return

    def stop(self):
        self.ending = True
        self.may_read.set()
        with socket.socket(socket.AF_UNIX) as end:
            end.connect(self.path)
        self.thread.join()
        self.listener.close()


class Lines:
    """The file of a sink, with all that was moved away."""

    def __init__(self, path):
        self.path = pathlib.Path(path)
        self.rotated = 0

    def rotate(self):
        if self.path.exists():
            self.rotated += 1
            self.path.rename(f"{self.path}.{self.rotated}")

    @property
    def events(self):
        texts = [pathlib.Path(f"{self.path}.{number}").read_bytes()
                 for number in range(1, self.rotated + 1)]
        if self.path.exists():
            texts.append(self.path.read_bytes())
        found = []
        for text in texts:
            for line in text.split(b"\n"):
                try:
                    found.append(json.loads(line))
                except ValueError:  # half a line, cut by a kill: it comes again
                    pass
        return found


def histories(events):
    """Each message's events in the order in which they came first, by its tag; a problem for each id
    that stands for two different events."""
    seen, by_message, tags, problems = {}, collections.defaultdict(list), {}, []
    for event in events:
        text = json.dumps(event, sort_keys=True)
        if seen.setdefault(event["id"], text) != text:
            problems.append(f"{event['id']} was two events: {seen[event['id']]} {text}")
            continue
        if kind(event) == "accepted" and "tag" in event["data"]:
            tags[event["data"]["id"]] = event["data"]["tag"]
    once = {}
    for event in events:
        if once.setdefault(event["id"], event) is event and "id" in event["data"]:
            by_message[event["data"]["id"]].append(kind(event))
    return {tags[name]: kinds for name, kinds in by_message.items() if name in tags}, problems


def is_complete(tag, kinds):
    want = KINDS[tag.split("-")[0]]
    middle = [one for one in kinds[1:-1] if one not in ("held", "released")]
    return kinds[:1] == ["accepted"] and kinds[-1:] == [want] and set(middle) <= {"deferred"}


class Events(scenario.Scenario):
    def sinks(self, names=("file", "socket", "webhook"), **changes):
        folder = self.own_folder("events")
        self.lines = Lines(folder / "events")
        made = []
        if "file" in names:
            made.append({"name": "file", "file": str(self.lines.path), **changes})
        if "socket" in names:
            self.reader = self.using(Reader(folder / "socket"))
            made.append({"name": "socket", "socket": self.reader.path, "timeout": "2s", **changes})
        if "webhook" in names:
            self.hook = self.using(Receiver())
            secret = folder / "secret"
            secret.write_text(f"# the key\n{SECRET}\n")
            secret.chmod(0o600)
            made.append({"name": "hook", "webhook": f"http://127.0.0.1:{self.hook.port}/hook",
                         "secret": str(secret), "timeout": "2s", **changes})
        return made

    explanation = ""

    def peer(self):
        self.tried = set()

        def rcpt(_, argument):
            address = argument.lstrip("<").split(">", 1)[0]
            if address.startswith("bad"):
                return f"550{'-' if self.explanation else ' '}5.1.1 no such user{self.explanation}"
            if address.startswith("stuck"):
                return "450 4.2.1 stuck"
            if address.startswith("later") and address not in self.tried:
                self.tried.add(address)
                return "450 4.2.1 later"
            return None
        return self.sink(script={"rcpt": rcpt})

    def send(self, client, number):
        name = list(KINDS)[number % len(KINDS)]
        tag = f"{name}-{number}"
        reply = client.message("shop@ext.example", [f"{tag}@far.example"], CONTENT,
                               f" ENVID={tag}")
        self.assertEqual(reply.code, 250)
        return tag

    def send_all(self, server, numbers):
        with server.client() as client:
            client.hello()
            return {self.send(client, number) for number in numbers}

    def check_schema(self, events):
        problems = [f"{problem.message}: {event}" for event in events
                    for problem in SCHEMA.iter_errors(event)]
        self.assertEqual(problems[:3], [])

    def check(self, where, events, tags):
        self.check_schema(events)
        found, problems = histories(events)
        self.assertEqual(problems, [], where)
        missing = tags - set(found)
        self.assertEqual(missing, set(), where)
        wrong = {tag: found[tag] for tag in tags if not is_complete(tag, found[tag])}
        self.assertEqual(wrong, {}, where)

    def wait_for_ends(self, where, get, tags):
        def ended():
            found, _ = histories(get())
            return all(set(found.get(tag, ())) & ENDS for tag in tags)
        wait.until(ended, lambda: f"the ends of all {len(tags)} messages at the {where}; "
                   f"{sum(1 for kinds in histories(get())[0].values() if set(kinds) & ENDS)} came")

    def remove_stuck(self, server):
        stuck = "--reply", "4.2.1 stuck"
        def left():
            server.postrider("queue", "remove", *stuck)
            return not [message for message in server.queue()
                        if message["recipients"][0]["address"].startswith("stuck")]
        wait.until(left, "the removal of what is stuck", pause=0.2)

    def test_each_message_is_told_completely_whatever_the_sinks_do(self):
        server = self.relay(self.peer(), events=self.sinks())
        self.hook.set("500")
        tags = self.send_all(server, range(MESSAGES // 2))
        wait.until(lambda: self.hook.refused > 0, "a refusal by the webhook")
        self.hook.set("hang")
        self.lines.rotate()
        tags |= self.send_all(server, range(MESSAGES // 2, MESSAGES))
        # Mail did not wait: what can be delivered is, while two sinks take nothing.
        good = sum(1 for tag in tags if KINDS[tag.split("-")[0]] == "delivered")
        wait.until(lambda: len(server.log("attempted", verdict="sent")) >= good, "the deliveries")
        self.assertEqual((self.hook.events, self.reader.events), ([], []))
        status = json.loads(server.postrider("status", "--json"))
        self.assertEqual(len(status["event_sinks"]), 3)
        self.hook.die()
        wait.until(lambda: any("FAILS" in text and text.startswith("hook")
                               for text in json.loads(server.postrider("status", "--json"))
                               ["event_sinks"]), "the webhook's failure in the status", pause=0.2)
        self.remove_stuck(server)
        self.wait_for_ends("file", lambda: self.lines.events, tags)
        self.hook.set("ok")
        self.hook.start()
        self.reader.may_read.set()
        server.reload()  # and the webhook is asked at once
        self.wait_for_ends("webhook", lambda: self.hook.events, tags)
        self.wait_for_ends("socket", lambda: self.reader.events, tags)
        for where, events in (("file", self.lines.events), ("socket", self.reader.events),
                              ("webhook", self.hook.events)):
            self.check(where, events, tags)
        self.assertEqual(self.hook.problems, [])
        self.assertEqual(server.log("events_lost"), [])

    def test_no_event_is_lost_or_invented_by_kills(self):
        server = self.relay(self.peer(), events=self.sinks(("file", "webhook")))
        tags, lock, chance = set(), threading.Lock(), random.Random()
        numbers = iter(range(MESSAGES))
        done = threading.Event()

        def load():
            number = next(numbers, None)
            while number is not None:
                try:
                    with smtp.Client(server.port) as client:
                        client.hello()
                        while number is not None:
                            tag = self.send(client, number)
                            with lock:
                                tags.add(tag)
                            number = next(numbers, None)
                except (OSError, smtp.Closed, AssertionError):
                    done.wait(0.02)  # killed: without a reply nothing was promised
                    number = next(numbers, None)
            done.set()
        sender = threading.Thread(target=load)
        sender.start()
        try:
            for kill in range(KILLS):
                want = MESSAGES * (kill + 1) // (KILLS + 1)
                wait.until(lambda: done.is_set() or len(tags) >= want * 3 // 4, "some mail")
                time.sleep(chance.random() * 0.2)  # a random moment, not a wait for anything
                server.kill()
                if kill % 2:
                    self.lines.rotate()
                server.start()
        finally:
            wait.until(done.is_set, "the end of the load")
            sender.join()
        self.assertGreater(len(tags), MESSAGES // 4)
        self.remove_stuck(server)
        server.wait_until_empty()
        self.wait_for_ends("file", lambda: self.lines.events, tags)
        server.reload()
        self.wait_for_ends("webhook", lambda: self.hook.events, tags)
        self.check("file", self.lines.events, tags)
        self.check("webhook", self.hook.events, tags)

    def test_a_kill_at_each_step_from_the_outcome_to_the_position(self):
        server = self.relay(self.peer(), start=False, events=self.sinks(("socket",)))
        folder = server.spool / "events"
        position = folder / "socket.position"
        get = lambda: self.reader.events
        # Outcomes are stored, and the outbox is not: its folder is not a folder.
        server.spool.mkdir(mode=0o700, exist_ok=True)
        folder.write_bytes(b"")
        server.start()
        tags = self.send_all(server, range(0, 40, 4))
        server.wait_until_empty()
        server.wait_for_log("events_not_written")
        server.kill()
        folder.unlink()
        # The outbox has them, and the sink has nothing.
        server.start()
        wait.until(lambda: len(server.tool("postrider", "events", check=False).stdout.splitlines())
                   >= 2 * len(tags), "the facts in the outbox", pause=0.2)
        kept = server.postrider("events").splitlines()
        server.kill()
        self.assertEqual(get(), [])
        # The sink has them, and its answer does not come.
        self.reader.answers = False
        self.reader.may_read.set()
        server.start()
        wait.until(lambda: len(get()) >= 2 * len(tags), "the batch without an answer")
        self.assertTrue(position.read_text().endswith(" 0\n"))
        server.kill()
        # Where it stands is not known: nothing is given away, and then all comes again.
        position.unlink()
        position.mkdir()
        self.reader.answers = True
        server.start()
        wait.until(lambda: any("FAILS" in text for text in json.loads(
            server.postrider("status", "--json"))["event_sinks"]), "the position", pause=0.2)
        server.kill()
        position.rmdir()
        server.start()
        wait.until(position.is_file, "the position")
        more = self.send_all(server, [44])
        self.wait_for_ends("socket", get, tags | more)
        self.check("socket", get(), tags | more)
        ids = [event["id"] for event in get()]
        first = list(dict.fromkeys(ids))  # what had no answer comes again
        self.assertEqual(first[:len(kept)], [json.loads(line)["id"] for line in kept])
        self.assertGreaterEqual(collections.Counter(ids)[ids[0]], 2)
        self.assertEqual(len([event for event in {event["id"]: event for event in get()}.values()
                              if kind(event) in ("accepted", "delivered")]), 2 * len(tags | more))

    def test_an_outbox_that_is_removed_or_damaged_while_it_is_used(self):
        server = self.relay(self.peer(), events=self.sinks(("file", "socket")))
        get = lambda: self.lines.events
        first = self.send_all(server, range(0, 400, 4))
        self.wait_for_ends("file", get, first)
        database = server.spool / "events" / "events.db"
        for end in ("", "-wal", "-shm"):
            pathlib.Path(str(database) + end).unlink()
        second = self.send_all(server, range(400, 800, 4))
        self.wait_for_ends("file", get, first | second)
        server.wait_for_log("events_damaged")
        # Now its pages are in the database, no longer in its log; the socket's reader comes upon them,
        # the writer has no reason to read them.
        server.stop()
        with contextlib.closing(sqlite3.connect(database)) as outbox:
            outbox.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        server.start()
        wait.until(lambda: "2" in json.dumps(json.loads(
            server.postrider("status", "--json"))["event_sinks"]), "the sinks", pause=0.2)
        with database.open("r+b") as file:
            for page in range(3, database.stat().st_size // 4096 - 1):
                file.seek(page * 4096)
                file.write(b"\x55" * 512)
        self.reader.may_read.set()
        server.reload()
        server.wait_for_log("events_damaged", count=2)
        third = self.send_all(server, range(800, 808, 4))
        self.wait_for_ends("file", get, first | second | third)
        server.reload()
        self.wait_for_ends("socket", lambda: self.reader.events, third)
        self.check("file", get(), first | second | third)
        lost = [event for event in get() if kind(event) == "events_lost"]
        self.assertGreater(sum(event["data"].get("count", 0) for event in lost), 0)

    def test_a_file_that_may_not_be_written_holds_nothing_up(self):
        server = self.relay(self.peer(), start=False, events=self.sinks(("file",)))
        self.lines.path.mkdir()  # for root too
        server.start()
        tags = self.send_all(server, [0, 1, 4])
        server.wait_until_empty()
        failed = server.wait_for_log("sink_failed")
        self.assertIn(str(self.lines.path), json.dumps(failed[-1]))
        self.assertIn("FAILS", json.loads(server.postrider("status", "--json"))["event_sinks"][0])
        self.lines.path.rmdir()
        server.reload()
        self.wait_for_ends("file", lambda: self.lines.events, tags)
        server.wait_for_log("sink_works")
        self.assertEqual(len(server.log("sink_failed")), 1)
        self.check("file", self.lines.events, tags)

    def test_what_is_beyond_the_outbox_is_lost_counted_and_told(self):
        server = self.relay(self.peer(), outbox={"size": "1MiB", "keep": "0s"},
                            events=self.sinks(("file", "socket")))
        self.explanation = "".join("\n550-" + "long " * 90 for _ in range(3)) + "\n550 end"
        tags = self.send_all(server, range(1, 4 * 700, 4))
        get = lambda: self.lines.events
        self.wait_for_ends("file", get, tags)
        lost = server.wait_for_log("events_lost")[0]
        self.assertGreater(int(lost["count"]), 0)
        wait.until(lambda: any(kind(event) == "events_lost" for event in get()), "the event of it")
        self.check("file", get(), tags)
        self.reader.may_read.set()
        server.reload()
        last = self.send_all(server, [0])
        self.wait_for_ends("socket", lambda: self.reader.events, last)
        server.wait_for_log("events_lost", sink="socket")
        told = sum(int(line["count"]) for line in server.log("events_lost", sink="socket"))
        mail = len([event for event in self.reader.events if kind(event) != "events_lost"])
        all_of_mail = len([event for event in get() if kind(event) != "events_lost"])
        self.assertGreater(told, 0)
        self.assertGreaterEqual(told + mail, all_of_mail)
        self.assertGreater(json.loads(server.postrider("status", "--json"))["events_lost"], 0)

    def test_hostile_values_are_events_of_the_schema(self):
        hostile = ("\x1b[31m\"\\{}'\x7f\u2028\u00e9".encode() + b"\xff\xc3(\xed\xa0\x80") * 8
        refusal = "550-5.1.1 {}\n550 {}".format(*2 * [hostile.decode("utf-8", "surrogateescape")])
        peer = self.sink(script={"rcpt": lambda _, argument: refusal if "bad" in argument else None})
        server = self.relay(peer, events=self.sinks(("file",)))
        content = b"Message-ID: <" + hostile + b"@x>\r\nX: " + hostile + b"\r\n" + CONTENT
        with server.client() as client:
            client.hello()
            for to in ("bad", "good"):
                for tag in ("a+22b+5Cc", "+5B31m" + "x" * 80):
                    reply = client.message('"a\\"b{}:,"@ext.example', [f'"{to}\\"<x>,;"@far.example'],
                                           content, f" ENVID={tag}")
                    self.assertEqual(reply.code, 250, reply)
        server.wait_until_empty()
        wait.until(lambda: len([event for event in self.lines.events if kind(event) in ENDS]) >= 4,
                   "the ends")
        self.check_schema(self.lines.events)
        bounced = [event["data"] for event in self.lines.events if kind(event) == "bounced"]
        self.assertEqual({data["tag"] for data in bounced}, {'a"b\\c', "[31m" + "x" * 80})
        self.assertIn('"bad\\"<x>,;"@far.example', {data["to"] for data in bounced})
        raw = self.lines.path.read_bytes()
        self.assertNotRegex(raw, rb"[\x00-\x09\x0b-\x1f\x7f]")
        raw.decode()
        self.assertLess(max(len(line) for line in raw.split(b"\n")), 8192)

    def test_a_damaged_outbox_holds_no_mail_up_and_the_gap_is_told(self):
        server = self.relay(self.peer(), events=self.sinks(("file",)))
        first = self.send_all(server, [0])
        self.wait_for_ends("file", lambda: self.lines.events, first)
        server.stop()
        database = server.spool / "events" / "events.db"
        database.write_bytes(b"\x55" * 65536)
        for end in ("-wal", "-shm"):
            pathlib.Path(str(database) + end).unlink(missing_ok=True)
        server.start()
        second = self.send_all(server, [4])
        self.wait_for_ends("file", lambda: self.lines.events, first | second)
        server.wait_for_log("events_damaged")
        self.check("file", self.lines.events, first | second)
        self.assertIn("events_lost", [kind(event) for event in self.lines.events])
        server.wait_until_empty()

    def test_reload_adds_and_removes_sinks_and_a_wrong_one_changes_nothing(self):
        # What the sandbox does not reach at the start, a sink that is added later does not either.
        server = self.relay(self.peer(), sandbox={"read": [str(self.folder)]})
        quiet = self.send_all(server, [0])
        server.wait_until_empty()
        sinks = self.sinks(("socket", "webhook"))
        self.reader.may_read.set()
        server.write_config(events=sinks)
        server.reload()
        server.wait_for_log("reloaded")
        told = self.send_all(server, [4])
        self.wait_for_ends("socket", lambda: self.reader.events, told)
        self.wait_for_ends("webhook", lambda: self.hook.events, told)
        self.assertFalse(quiet & set(histories(self.hook.events)[0]))
        server.write_config(events=[{**sinks[1], "secret": "/nowhere"}])
        server.reload()
        server.wait_for_log("config_refused")
        server.write_config(events=sinks[1:])
        server.reload()
        server.wait_for_log("reloaded", count=2)
        before = len(self.reader.events)
        more = self.send_all(server, [8])
        self.wait_for_ends("webhook", lambda: self.hook.events, more)
        self.assertEqual(len(self.reader.events), before)
        server.write_config(events=[])
        server.reload()
        server.wait_for_log("reloaded", count=3)
        taken = len(self.hook.events)
        self.send_all(server, [12])
        server.wait_until_empty()
        self.assertEqual(len(self.hook.events), taken)
        self.assertNotIn("event_sinks", json.loads(server.postrider("status", "--json")))

    def test_filters_fields_and_privacy_of_a_sink(self):
        server = self.relay(self.peer(), events=self.sinks(
            ("file",), types=["bounced", "accepted"], tags=["bad-*"], privacy="domains",
            fields=["from", "to", "reason", "tag"]))
        self.send_all(server, range(4))
        wait.until(lambda: len(self.lines.events) >= 2, "the bounce")
        accepted, bounced = self.lines.events
        self.assertEqual((kind(accepted), kind(bounced)), ("accepted", "bounced"))
        self.assertEqual(bounced["data"]["to"], "*@far.example")
        self.assertEqual(bounced["data"]["from"], "*@ext.example")
        self.assertEqual(set(bounced["data"]) - {"id", "from", "to", "reason", "tag"}, set())
        self.assertNotIn("bad-1@", json.dumps(bounced))

    def test_the_tool_shows_what_is_kept_and_gives_it_again(self):
        server = self.relay(self.peer(), events=self.sinks(("file", "webhook")))
        tags = self.send_all(server, [0, 4])
        self.wait_for_ends("webhook", lambda: self.hook.events, tags)
        self.wait_for_ends("file", lambda: self.lines.events, tags)
        kept = [json.loads(line) for line in server.postrider("events").splitlines()]
        self.assertEqual(kept, self.hook.events)
        # What stands behind the host is for who may read the configuration.
        for arguments in [], ["--json"], ["--prometheus"]:
            self.assertNotIn("/hook", server.postrider("status", *arguments))
        self.assertIn(f"hook: webhook http://127.0.0.1:{self.hook.port}, ", server.postrider("status"))
        self.assertEqual([json.loads(line) for line in
                          server.postrider("events", "--last", "1").splitlines()], kept[-1:])
        behind = server.postrider("events", "--after", kept[1]["id"]).splitlines()
        self.assertEqual([json.loads(line) for line in behind], kept[2:])
        server.postrider("events", "replay", "hook", "--from", kept[1]["id"])
        wait.until(lambda: len(self.hook.events) >= len(kept) * 2 - 1, "the events again")
        self.assertEqual(self.hook.events[len(kept):], kept[1:])
        wrong = server.tool("postrider", "events", "replay", "hook", "--from", "nothing", check=False)
        self.assertNotEqual(wrong.returncode, 0)
        wrong = server.tool("postrider", "events", "replay", "nobody", check=False)
        self.assertIn("nobody", wrong.stderr)


if __name__ == "__main__":
    scenario.main()
