"""Work done by another user of the machine, in a process of its own."""
import errno
import os
import pickle
import signal
import time


def become(uid):
    """For good: that user, in its one group."""
    os.setgroups([])
    os.setgid(uid)
    os.setuid(uid)


def as_user(uid, work):
    """work() in a process of that user; what it returns, or the error it ends with."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            become(uid)
            answer = work()
        except OSError as problem:
            answer = errno.errorcode.get(problem.errno, str(problem))
        except BaseException as problem:
            answer = repr(problem)
        with os.fdopen(writing, "wb") as pipe:
            pickle.dump(answer, pipe)
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        answer = pickle.load(pipe)
    os.waitpid(child, 0)
    return answer


class Busy:
    """A process that does work(round) as a user, again and again, whatever comes of it, until it is
    stopped. How many rounds it made is known afterwards."""

    def __init__(self, name, uid, work):
        self.name = name
        self.rounds = 0
        self.reading, writing = os.pipe()
        self.child = os.fork()
        if self.child == 0:
            os.setsid()  # what it starts ends with it
            os.close(self.reading)
            become(uid)
            number = 0
            while True:
                try:
                    work(number)
                except Exception:  # a hostile user takes no for an answer, and goes on
                    time.sleep(0.01)
                number += 1
                os.write(writing, b"x")
        os.close(writing)
        os.set_blocking(self.reading, False)

    def count(self):
        """Rounds until now; called at times, so that the pipe never fills."""
        try:
            while read := os.read(self.reading, 65536):
                self.rounds += len(read)
        except BlockingIOError:
            pass
        return self.rounds

    def stop(self):
        self.count()
        try:
            os.killpg(self.child, signal.SIGKILL)
        except ProcessLookupError:
            os.kill(self.child, signal.SIGKILL)
        os.waitpid(self.child, 0)
        os.close(self.reading)
