"""The frame of a scenario: an own folder, things that are stopped at the end, one plain summary.

A scenario is a file in tests/integration with unittest classes derived from Scenario; it is run by
tests/integration/run, or by hand:  tests/integration/run NAME."""
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import threading
import unittest

from support_py import daemon, nameserver, sink

# --full in tests/integration/run: the long form of the scenarios that have one.
FULL = os.environ.get("POSTRIDER_FULL") == "1"
SANITIZED = os.environ.get("POSTRIDER_SANITIZED") == "1"
KEEP = os.environ.get("POSTRIDER_KEEP") == "1"


class Scenario(unittest.TestCase):
    """One daemon per class when setUpClass makes it, one per test when the test does."""
    longMessage = True
    maxDiff = 4000
    made = 0

    @classmethod
    def setUpClass(cls):
        cls.folder = pathlib.Path(tempfile.mkdtemp(prefix=f"pr-{cls.__name__[:12]}-"))
        cls.class_things = []

    @classmethod
    def tearDownClass(cls):
        try:
            close_all(cls.class_things)
        finally:
            if not KEEP:
                shutil.rmtree(cls.folder, ignore_errors=True)

    def setUp(self):
        self.things = []
        self.addCleanup(lambda: close_all(self.things))

    @classmethod
    def shared(cls, thing):
        """Stopped after the last test of the class."""
        cls.class_things.append(thing)
        return thing

    def using(self, thing):
        """Stopped after this test."""
        self.things.append(thing)
        return thing

    def own_folder(self, name):
        Scenario.made += 1
        folder = self.folder / f"{Scenario.made}-{name}"
        folder.mkdir(parents=True)
        return folder

    def small_disk(self, size):
        """A folder that is a file system of its own, of that size ("60m"); the test is skipped where none can be mounted."""
        if not is_root():
            self.skipTest("mounting a small tmpfs needs root")
        place = self.own_folder("small")
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)],
                                 stderr=subprocess.PIPE)
        if mounted.returncode != 0:
            self.skipTest(f"no tmpfs can be mounted here: {mounted.stderr.decode().strip()}")
        self.addCleanup(lambda: subprocess.run(["umount", "-l", str(place)], check=True))
        return place

    def daemon(self, start=True, **settings):
        one = daemon.Postrider(self.own_folder("daemon"), **settings)
        self.using(one)
        return one.start() if start else one

    def relay(self, peer, start=True, **settings):
        """A daemon that sends everything that is not for us.example to this sink."""
        return self.daemon(start=start, **daemon.merged(to(peer), settings))

    def sink(self, **settings):
        return self.using(sink.Sink(**settings))

    def knot(self, **zones):
        return self.using(nameserver.Knot(self.own_folder("knot"), {
            name.replace("_", ".") + ".": text for name, text in zones.items()}))


def to(peer):
    return {"route": [{"domain": "*", "next_hop": f"smtp://127.0.0.1:{peer.port}",
                       "tls": "off"}]}


def is_root():
    return os.getuid() == 0


def close_all(things):
    problems = []
    while things:
        try:
            things.pop().stop()
        except Exception as problem:  # the others must be stopped all the same
            problems.append(problem)
    if problems:
        raise problems[0]


def parallel(work, items, threads=16):
    """work(item) for each item on some threads; the problems as a list of (item, problem)."""
    items = list(items)
    problems, lock, at = [], threading.Lock(), iter(items)

    def run():
        while True:
            with lock:
                item = next(at, None)
            if item is None:
                return
            try:
                work(item)
            except Exception as problem:
                with lock:
                    problems.append((item, f"{type(problem).__name__}: {problem}"))

    running = [threading.Thread(target=run) for _ in range(min(threads, len(items)))]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    return problems


def row(identifier, sentence):
    """Decorator: names a test by its row of the attack catalogue."""
    def name(function):
        function.__doc__ = f"{identifier} {sentence}"
        return function
    return name


def main():
    unittest.main(argv=[sys.argv[0], "-v", *sys.argv[1:]], module="__main__")
