"""Much mail whose every message follows from its number, so that what a queue holds of it is known:
fills a server over many sessions, and is the client beside whom other things are done.

  python3 -m support_py.long_mail fill PORT MESSAGES DOMAINS   a line "messages seconds" at each step
  python3 -m support_py.long_mail beside PORT                  a line "number due seconds" a message
"""
import concurrent.futures
import itertools
import selectors
import socket
import sys
import threading
import time

SENDERS, SENDER_DOMAINS = 200, 20
REFUSED = 20  # each twentieth domain has a host of its own, which refuses; the others have a dead one
SESSIONS = 50
BESIDE = "beside@beside.dead.example"
PACE = 0.02  # seconds between two messages of the client beside
LARGE = 16 << 10


def domain(number):
    return f"n{number}." + ("refused.test" if number % REFUSED == 0 else "dead.example")


def sender(number):
    return f"s{number % SENDERS}@d{number % SENDER_DOMAINS}.dead.example"


def recipients(number, domains):
    return [f"u{number}-{at}@{domain((number * 7 + at * 1009) % domains)}" for at in range(1 + number % 3)]


def is_large(number):
    return number % 50 == 0


def content(number):
    size = LARGE if is_large(number) else 600 + number % 7 * 200
    return b"Subject: %d\r\n\r\n" % number + b"x" * 70 * (size // 72) + b"\r\n"


def transaction(from_, to, body):
    """(octets in one piece, their replies)"""
    lines = [f"MAIL FROM:<{from_}>", *[f"RCPT TO:<{one}>" for one in to], f"BDAT {len(body)} LAST"]
    return "\r\n".join(lines).encode() + b"\r\n" + body, len(lines)


class Session:
    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), 60)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = b""
        self.read()
        self.socket.sendall(b"EHLO client.example\r\n")
        self.read()

    def read(self, replies=1):
        """The last lines of so many replies have come, each a positive one."""
        while replies > 0:
            line, found, rest = self.buffer.partition(b"\r\n")
            if not found:
                more = self.socket.recv(65536)
                if not more:
                    raise ConnectionError("closed")
                self.buffer += more
                continue
            self.buffer = rest
            if line[:3] == b"421":
                raise ConnectionError(line)
            if line[:1] != b"2":
                raise AssertionError(line)
            replies -= line[3:4] != b"-"

    def send(self, from_, to, body):
        octets, replies = transaction(from_, to, body)
        self.socket.sendall(octets)
        return replies


def fill(port, messages, domains):
    selector = selectors.DefaultSelector()
    began, step, taken, following = time.monotonic(), max(messages // 100, 1), 0, 0
    waiting = {}

    def next_of(session):
        nonlocal following
        waiting[session] = session.send(sender(following), recipients(following, domains), content(following))
        following += 1

    for _ in range(min(SESSIONS, messages)):
        session = Session(port)
        selector.register(session.socket, selectors.EVENT_READ, session)
        next_of(session)
    while taken < messages:
        for key, _ in selector.select(60):
            session = key.data
            session.read(waiting[session])
            taken += 1
            if taken % step == 0:
                print(taken, time.monotonic() - began, flush=True)
            if following < messages:
                next_of(session)


def beside(port):
    """One message each PACE, whether those before were taken or not: over an idle session, or another
    one. A delay counts from when a message was due. A server that is away is awaited."""
    free, lock = [], threading.Lock()

    def deliver(number, due):
        session = None
        while True:
            try:
                with lock:
                    session = free.pop() if free else None
                session = session or Session(port)
                session.read(session.send(BESIDE, [
                    f"b{number}@good.example", f"b{number}@beside.dead.example"],
                    b"Subject: beside\r\n\r\nx\r\n"))
                break
            except OSError:
                time.sleep(0.005)
        line = f"{number} {due} {time.monotonic() - due}\n"
        with lock:
            free.append(session)
            sys.stdout.write(line)
            sys.stdout.flush()

    due = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(SESSIONS) as pool:
        for number in itertools.count():
            time.sleep(max(0, due - time.monotonic()))
            pool.submit(deliver, number, due)
            due += PACE


if __name__ == "__main__":
    {"fill": fill, "beside": beside}[sys.argv[1]](*map(int, sys.argv[2:]))
