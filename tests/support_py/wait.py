"""Waiting for events with a deadline, never for a fixed time."""
import random
import socket
import time

# Sanitized builds and busy machines are slow; a deadline is there to end a failure, not to measure.
DEADLINE = 60.0


class Timeout(AssertionError):
    pass


def until(condition, what, deadline=DEADLINE, pause=0.02):
    """The first true value of condition()."""
    end = time.monotonic() + deadline
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise Timeout(f"waited {deadline:g} s for {what() if callable(what) else what}")
        time.sleep(pause)


reservations = []  # kept until this process ends


def reserve(port):
    """Other scenarios ask for ports at the same time: each is promised to one of them, by a name in
    the abstract name space."""
    name = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        name.bind(f"\0postrider-test-port-{port}")
    except OSError:
        name.close()
        return False
    reservations.append(name)
    return True


def free_port(addresses=("127.0.0.1",)):
    """A port that is free on all these addresses and lies below the ephemeral range; no other
    scenario gets it while this one runs, whether somebody listens on it or not."""
    for _ in range(1000):
        port = random.SystemRandom().randrange(10000, 32000)
        if not reserve(port):
            continue
        sockets = []
        try:
            for address in addresses:
                family = socket.AF_INET6 if ":" in address else socket.AF_INET
                for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                    one = socket.socket(family, kind)
                    sockets.append(one)
                    one.bind((address, port))
            return port
        except OSError:
            continue
        finally:
            for one in sockets:
                one.close()
    raise RuntimeError("no free port")
