"""A recording SMTP server whose behaviour at every stage is scripted.

    sink = Sink(script={"rcpt": {"b@ext.example": "550 5.1.1 no such user"}})
    sink = Sink(script={"end": ["451 4.3.0 later", DROP]})       # first, second, then as usual

Stages: connect, ehlo, helo, mail, rcpt, data, body (after the first octets of the content), end,
bdat, rset, quit. What a stage answers:
    "250 text"              a reply (lines separated by \\n, codes as written)
    DROP                    closes without a reply
    HANG                    never answers
    Then("421 text", DROP)  the reply, then the action
    Late(seconds, answer)   the answer, later
    None                    the usual answer
early: what happens to octets that came behind the end of a message before its reply was written:
    None                    they are taken, as RFC 2920 allows
    "503"                   each line gets 503, as Haraka 3.3.4 does it
    "554"                   the message's usual reply, then 554 and the end of the connection
    "554-all"               554 in place of the message's reply, and the end of the connection
    "drop"                  nobody ever sees them
The list Sink.early_octets has what came so.

A list is used up one answer at a time; a dict is by address (rcpt, mail) or by session number; a
callable gets (session, argument) and returns an answer.
"""
import asyncio
import dataclasses
import hashlib
import os
import re
import socket
import subprocess
import threading
import time

from support_py import tools, wait

ALL_EXTENSIONS = ("PIPELINING", "SIZE 104857600", "8BITMIME", "ENHANCEDSTATUSCODES", "SMTPUTF8",
                  "DSN", "CHUNKING", "BINARYMIME")
PLAIN_EXTENSIONS = ("PIPELINING", "SIZE 104857600", "8BITMIME", "ENHANCEDSTATUSCODES", "SMTPUTF8",
                    "DSN")

DROP = object()
HANG = object()


@dataclasses.dataclass
class Then:
    reply: str
    action: object


@dataclasses.dataclass
class Late:
    seconds: float
    answer: object


@dataclasses.dataclass
class Message:
    sender: str
    parameters: str  # of MAIL
    recipients: list  # (address, parameters) of the accepted ones
    content: bytes  # unstuffed; empty when the sink keeps hashes only
    wire: bytes  # as it came, stuffed, with the final dot (DATA) or the chunks joined (BDAT)
    size: int
    digest: str  # sha256 of the content below our Received field
    by_bdat: bool
    session: int
    when: float  # time.time()
    accepted: bool = True

    @property
    def addresses(self):
        return [address for address, _ in self.recipients]


@dataclasses.dataclass
class Event:
    when: float  # time.monotonic()
    session: int
    stage: str
    argument: str


def without_trace(content):
    """The content below the Received field that the server under test put on top."""
    if content[:9].lower() != b"received:":
        return content
    at = 0
    while True:
        end = content.find(b"\n", at) + 1
        if end == 0:
            return b""
        if content[end:end + 1] not in (b" ", b"\t"):
            return content[end:]
        at = end


class Session(asyncio.Protocol):
    def __init__(self, sink):
        self.sink = sink
        self.number = sink.next_session()
        self.buffer = bytearray()
        self.searched = 0
        self.mode = "command"
        self.chunk = 0
        self.last_chunk = False
        self.esmtp = False
        self.blocked = False
        self.closed = False
        self.messages = 0
        self.raw = bytearray()
        self.reset()

    def reset(self):
        self.sender = None
        self.parameters = ""
        self.recipients = []
        self.chunks = bytearray()
        self.by_bdat = False

    # asyncio.Protocol

    def connection_made(self, transport):
        self.transport = transport
        self.sink.note(self, "connect", transport.get_extra_info("peername")[0])
        self.answer("connect", "", "220 sink.example ESMTP")

    def connection_lost(self, _):
        self.closed = True
        self.sink.note(self, "lost", "")

    def eof_received(self):
        return False

    def data_received(self, data):
        if self.sink.record_raw:
            self.raw += data
        self.buffer += data
        self.work()

    def work(self):
        while not self.blocked and not self.closed:
            if self.mode == "command":
                end = self.buffer.find(b"\n")
                if end < 0:
                    return
                line = bytes(self.buffer[:end + 1])
                del self.buffer[:end + 1]
                self.command(line)
            elif self.mode == "data":
                if not self.collect_data():
                    return
            elif self.mode == "bdat":
                if not self.collect_chunk():
                    return

    # Stages

    def command(self, line):
        text = line.rstrip(b"\r\n").decode("utf-8", "surrogateescape")
        verb, _, argument = text.partition(" ")
        verb = verb.upper()
        if verb == "MAIL" or verb == "RCPT":
            address, _, parameters = argument.partition(":")[2].partition(">")
            self.address = address.strip().lstrip("<")
            self.address_parameters = parameters.strip()
            argument = self.address
        self.sink.note(self, verb.lower(), argument)
        handler = getattr(self, "on_" + verb.lower(), None)
        if handler is None:
            self.say("502 5.5.1 not here")
        else:
            handler(argument)

    def on_ehlo(self, argument):
        self.reset()
        self.esmtp = True
        lines = ["sink.example"] + list(self.sink.extensions)
        usual = "\n".join("250" + ("-" if i + 1 < len(lines) else " ") + line
                          for i, line in enumerate(lines))
        self.answer("ehlo", argument, usual)

    def on_helo(self, argument):
        self.reset()
        self.answer("helo", argument, "250 sink.example")

    def on_mail(self, argument):
        if self.sender is not None:
            return self.say("503 5.5.1 nested MAIL")

        def begin():
            self.sender, self.parameters = argument, self.address_parameters
        self.answer("mail", argument, "250 2.1.0 ok", then=begin)

    def on_rcpt(self, argument):
        if self.sender is None:
            return self.say("503 5.5.1 no MAIL")
        parameters = self.address_parameters
        self.answer("rcpt", argument, "250 2.1.5 ok",
                    then=lambda: self.recipients.append((argument, parameters)))

    def on_data(self, argument):
        if not self.recipients:
            return self.say("503 5.5.1 no recipients")

        def begin():
            self.mode, self.searched = "data", 0
            self.body_seen = False
        self.answer("data", argument, "354 go on", then=begin)

    def on_bdat(self, argument):
        words = argument.split()
        self.chunk = int(words[0])
        self.last_chunk = len(words) > 1
        self.by_bdat = True
        self.body_seen = False
        self.mode = "bdat"

    def on_rset(self, argument):
        self.reset()
        self.answer("rset", argument, "250 2.0.0 ok")

    def on_noop(self, _):
        self.say("250 2.0.0 ok")

    def on_quit(self, argument):
        self.answer("quit", argument, Then("221 2.0.0 bye", DROP))

    def collect_data(self):
        if not self.body_seen and self.buffer:
            self.body_seen = True
            self.answer("body", "", None)
            if self.closed or self.blocked:
                return False
        if self.buffer.startswith(b".\r\n"):
            end = 0
            length = 3
        else:
            at = self.buffer.find(b"\r\n.\r\n", max(0, self.searched - 4))
            if at < 0:
                self.searched = len(self.buffer)
                return False
            end = at + 2
            length = at + 5
        wire = bytes(self.buffer[:length])
        content = wire[:end]
        del self.buffer[:length]
        if content.startswith(b"."):
            content = content[1:]
        content = content.replace(b"\r\n.", b"\r\n")
        self.mode = "command"
        self.finish(content, wire)
        return True

    def collect_chunk(self):
        if not self.body_seen:
            self.body_seen = True
            self.answer("body", "", None)
            if self.closed or self.blocked:
                return False
        if len(self.buffer) < self.chunk:
            return False
        self.chunks += self.buffer[:self.chunk]
        del self.buffer[:self.chunk]
        self.mode = "command"
        if self.last_chunk:
            content = bytes(self.chunks)
            self.finish(content, content)
        elif not self.recipients:
            self.say("503 5.5.1 no recipients")
        else:
            self.answer("bdat", "", f"250 2.0.0 {self.chunk} octets")
        return True

    def finish(self, content, wire):
        if not self.recipients:
            self.say("503 5.5.1 no recipients")
            return self.reset()
        keep = self.sink.keep_content
        message = Message(self.sender, self.parameters, self.recipients,
                          content if keep else b"", wire if keep else b"", len(content),
                          hashlib.sha256(without_trace(content)).hexdigest(),
                          self.by_bdat, self.number, time.time())
        self.messages += 1
        self.sink.note(self, "end", self.sender)
        early = bytes(self.buffer) if self.sink.early else b""
        if early:
            self.sink.early_octets.append(early)
        if early and self.sink.early == "554-all":
            return self.give(Then("554 5.5.0 Error: SMTP protocol synchronization", DROP), message)
        self.answer("end", message, "250 2.0.0 taken", message)
        self.reset()
        if early:
            self.refuse_early(early)

    def refuse_early(self, early):
        self.buffer.clear()
        if self.sink.early == "503":
            for _ in range(early.count(b"\n")):
                self.say("503 Bad sequence of commands - pipelined after end of DATA")
        elif self.sink.early == "554":
            self.give(Then("554 5.5.0 Error: SMTP protocol synchronization", DROP))

    # Answers

    def answer(self, stage, argument, usual, message=None, then=None):
        """Gives the scripted or the usual answer; then() is called when it is a positive one."""
        answer = self.sink.scripted(stage, self, argument)
        if answer is None:
            answer = usual
        self.give(answer, message, then)

    def give(self, answer, message=None, then=None):
        if answer is None:
            return
        if isinstance(answer, Late):
            self.blocked = True
            self.sink.loop.call_later(answer.seconds, self.give_late, answer.answer, message, then)
            return
        if answer is DROP or answer is HANG:
            if message:
                message.accepted = False
                self.sink.record(message)
            if answer is DROP:
                self.closed = True
                self.transport.close()
            else:
                self.blocked = True
            return
        if isinstance(answer, Then):
            self.give(answer.reply, message, then)
            self.give(answer.action)
            return
        positive = answer.rpartition("\n")[2][:1] in "23"
        if message:
            message.accepted = positive
            self.sink.record(message)
        self.say(answer)
        if positive and then:
            then()

    def give_late(self, answer, message, then):
        self.blocked = False
        self.give(answer, message, then)
        self.work()

    def say(self, text):
        if not self.closed:
            data = text.replace("\n", "\r\n").encode("utf-8", "surrogateescape") + b"\r\n"
            self.transport.write(data)


class Sink:
    def __init__(self, port=0, address="127.0.0.1", extensions=PLAIN_EXTENSIONS, script=None,
                 keep_content=True, record_raw=False, on_stage=None, early=None):
        self.address = address
        self.port = port
        self.extensions = extensions
        self.script = script or {}
        self.keep_content = keep_content
        self.record_raw = record_raw
        self.on_stage = on_stage
        self.early = early
        self.early_octets = []
        self.messages = []  # accepted ones, in order
        self.refused = []  # whole contents that were not accepted
        self.events = []
        self.sessions = []
        self.changed = threading.Condition()
        self.start()

    # Life

    def start(self):
        self.loop = asyncio.new_event_loop()
        self.listening = socket.socket(
            socket.AF_INET6 if ":" in self.address else socket.AF_INET, socket.SOCK_STREAM)
        self.listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.port = self.port or wait.free_port((self.address,))
        self.listening.bind((self.address, self.port))
        started = threading.Event()

        def serve():
            asyncio.set_event_loop(self.loop)
            self.server = self.loop.run_until_complete(
                self.loop.create_server(self.new_session, sock=self.listening, backlog=1000))
            started.set()
            self.loop.run_forever()
            self.server.close()
            for session in self.sessions:
                session.transport.abort()
            self.loop.run_until_complete(asyncio.sleep(0))
            self.loop.close()

        self.thread = threading.Thread(target=serve, daemon=True)
        self.thread.start()
        started.wait()

    def stop(self):
        """Closes the listener and every connection; start() opens the same port again."""
        if self.thread:
            self.loop.call_soon_threadsafe(self.loop.stop)
            self.thread.join()
            self.thread = None
            self.sessions = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    # Called by sessions, on the loop's thread

    def next_session(self):
        return len(self.sessions)

    def new_session(self):
        session = Session(self)
        self.sessions.append(session)
        return session

    def note(self, session, stage, argument):
        self.events.append(Event(time.monotonic(), session.number, stage, argument))
        if self.on_stage:
            self.on_stage(stage, session)
        with self.changed:
            self.changed.notify_all()

    def record(self, message):
        with self.changed:
            (self.messages if message.accepted else self.refused).append(message)
            self.changed.notify_all()

    def scripted(self, stage, session, argument):
        rule = self.script.get(stage)
        while rule is not None:
            if callable(rule):
                rule = rule(session, argument)
            elif isinstance(rule, list):
                rule = rule.pop(0) if rule else None
            elif isinstance(rule, dict):
                key = argument if stage in ("mail", "rcpt") else session.number
                rule = rule.get(key)
            else:
                return rule
        return None

    # Called by tests

    def wait_for(self, count=1, deadline=wait.DEADLINE, what=None):
        """Waits until at least `count` messages were accepted; returns them."""
        with self.changed:
            if not self.changed.wait_for(lambda: len(self.messages) >= count, deadline):
                raise wait.Timeout(f"waited {deadline:g} s for {what or f'message {count}'}; "
                                   f"{len(self.messages)} came")
            return list(self.messages)

    def wait_for_stage(self, stage, count=1, deadline=wait.DEADLINE):
        def seen():
            return [event for event in self.events if event.stage == stage]
        with self.changed:
            if not self.changed.wait_for(lambda: len(seen()) >= count, deadline):
                raise wait.Timeout(f"waited {deadline:g} s for stage {stage} number {count}")
            return seen()

    def wait_for_progress(self, enough, deadline=wait.DEADLINE, what="the sink"):
        """Waits for enough(messages)."""
        with self.changed:
            if not self.changed.wait_for(lambda: enough(self.messages), deadline):
                raise wait.Timeout(f"waited {deadline:g} s for {what}; "
                                   f"{len(self.messages)} messages came")
            return list(self.messages)

    def stages(self, stage):
        return [event for event in self.events if event.stage == stage]


class SmtpSink:
    """Postfix's smtp-sink: fast, and writes what it gets into a file."""

    def __init__(self, folder):
        self.port = wait.free_port()
        self.dump = folder / "dump"
        # It refuses to run as root, which may not be asked to own the folder.
        as_user = ["-u", "root"] if os.getuid() == 0 else []
        self.process = subprocess.Popen(
            [tools.tool("smtp-sink"), "-m", "500", "-D", str(self.dump), *as_user,
             f"127.0.0.1:{self.port}", "1000"], stdout=subprocess.DEVNULL)
        wait.until(self.accepts, "smtp-sink")

    def accepts(self):
        try:
            socket.create_connection(("127.0.0.1", self.port)).close()
            return True
        except OSError:
            return False

    def recipients(self):
        return re.findall(rb"^X-Rcpt-Args: <?([^>\s]+)", self.dump.read_bytes(), re.M)

    def stop(self):
        self.process.terminate()
        self.process.wait()


def with_same_port(addresses, **settings):
    """One sink on each address, all on one port that is free on all of them."""
    for _ in range(100):
        port = wait.free_port(addresses)
        sinks = []
        try:
            for address in addresses:
                sinks.append(Sink(port=port, address=address, **settings))
            return sinks
        except OSError:
            for sink in sinks:
                sink.stop()
    raise RuntimeError("no port for the sinks")
