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


def free_port(addresses=("127.0.0.1",)):
    """A port that is free on all these addresses and lies below the ephemeral range."""
    for _ in range(1000):
        port = random.SystemRandom().randrange(10000, 32000)
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
