#!/usr/bin/python3
"""doc/examples/orders/run as its reader runs it: what it shows, in its order, and that nothing is left behind."""
import os
import re
import signal
import subprocess
import unittest

from support_py import daemon, rabbitmq, scenario, wait
from support_py.tools import processes_with

RUN = daemon.ROOT / "doc/examples/orders/run"
# What it shows, in this order; other lines may stand between.
STORY = [
    r"== An order. The customer's mail server is down",
    r"shop        order 17: ann@customer\.example wants A teapot",
    r"shop        order 17: deferred to ann@customer\.example \(.*refused.*\)",
    r"== The customer's mail server comes up",
    r"shop        order 17: delivered to ann@customer\.example \(.*250 .*\)",
    r"== Another order, with a wrong address",
    r"shop        order 18: anm@customer\.example wants A cup",
    r"shop        order 18: bounced to anm@customer\.example \(.*550 .*\)",
    r"== What Ann found in her mailbox:",
    r"Subject: Your order 17",
    r"Thank you! A teapot will be with you soon\.",
    r"== All programs are ended"]


class Orders(scenario.Scenario):
    def setUp(self):
        super().setUp()
        rabbitmq.need("kcat", "mosquitto", "mosquitto_sub")
        self.place = self.own_folder("tmp")

    def environment(self):
        return {**os.environ, "TMPDIR": str(self.place), "ORDERS_DEADLINE": str(3 * wait.DEADLINE),
                "ASAN_OPTIONS": "abort_on_error=0:exitcode=86:detect_leaks=1"}

    def run_it(self, broker, *options):
        for program in {"mqtt": ("amqp", "mqtt")}.get(broker, (broker,)):
            if not (daemon.BIN / f"postrider-{program}").exists():
                self.skipTest(f"postrider-{program} is not built")
        done = subprocess.run([RUN, "--bin", daemon.BIN, "--broker", broker, *options], env=self.environment(),
                              stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=10 * wait.DEADLINE)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        return done.stdout

    def check(self, shown):
        at = 0
        for pattern in STORY:
            found = re.compile(pattern).search(shown, at)
            self.assertIsNotNone(found, f"{pattern} in {shown[at:]}")
            at = found.end()
        for order in (17, 18):
            self.assertEqual(len(re.findall(rf"order_mail  order {order}: mail requested", shown)), 1, shown)
            heard = re.findall(rf"shop        order {order}: (accepted|deferred|delivered|bounced)", shown)
            self.assertEqual((heard[0], heard[-1]), ("accepted", "delivered" if order == 17 else "bounced"), shown)
            self.assertEqual(set(heard[1:-1]), {"deferred"} if order == 17 else set(), shown)

    def check_nothing_is_left(self):
        wait.until(lambda: not processes_with(str(self.place)), lambda: f"the end of {processes_with(str(self.place))}")
        self.assertEqual(os.listdir(self.place), [])

    def test_by_amqp(self):
        shown = self.run_it("amqp", "--keep")
        self.check(shown)
        kept = next(self.place.iterdir())
        self.assertEqual(shown.splitlines()[-1], f"Kept: {kept}")
        for output in kept.glob("*.output"):
            self.assertIsNone(daemon.SANITIZER.search(output.read_text("utf-8", "replace")), output.name)
        wait.until(lambda: not processes_with(str(kept)), lambda: f"the end of {processes_with(str(kept))}")

    def test_by_stomp(self):
        self.check(self.run_it("stomp"))
        self.check_nothing_is_left()

    def test_by_mqtt(self):
        self.check(self.run_it("mqtt"))
        self.check_nothing_is_left()

    def test_by_kafka(self):
        self.check(self.run_it("kafka"))
        self.check_nothing_is_left()

    def test_stopped_in_the_middle_it_ends_all(self):
        if not (daemon.BIN / "postrider-kafka").exists():
            self.skipTest("postrider-kafka is not built")
        with subprocess.Popen([RUN, "--bin", daemon.BIN, "--broker", "kafka"], env=self.environment(),
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as one:
            self.addCleanup(one.kill)
            for line in one.stdout:
                if "order 17: accepted" in line:
                    break
            self.assertTrue(processes_with(str(self.place)))
            one.send_signal(signal.SIGTERM)
            one.stdout.read()
            self.assertEqual(one.wait(wait.DEADLINE), 128 + signal.SIGTERM)
        self.check_nothing_is_left()

    def test_programs_that_are_missing_are_named(self):
        empty = self.own_folder("bin")
        done = subprocess.run([RUN, "--bin", empty, "--broker", "kafka"], env=self.environment(),
                              stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=wait.DEADLINE)
        self.assertEqual(done.returncode, 69, done.stderr)
        self.assertIn(f"postrider-kafka is not there (in {empty})", done.stderr)
        self.check_nothing_is_left()


if __name__ == "__main__":
    scenario.main()
