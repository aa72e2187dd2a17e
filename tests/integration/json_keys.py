#!/usr/bin/python3
"""doc/json.md has the members that `--json` prints, each with its type: those of a real daemon that has much to
say are in it, and what is in it is printed, or stands in the source for a trouble that is not made here."""
import json
import re

from support_py import daemon, scenario, smtp, wait

CONTENT = b"From: <a@src.example>\r\nSubject: keys\r\n\r\nbody\r\n"

PAGE = daemon.ROOT / "doc" / "json.md"
SOURCE = "".join(path.read_text() for room in ("daemon", "cli") for path in sorted((daemon.ROOT / room).rglob("*.cc")))
# Objects whose members are named by what they are about.
BY_NAME = ("rejected_with", "deferred_by_class", "events_behind", "histograms", "milter_figures")
TYPES = {str: "text", bool: "yes or no", int: "number", float: "number", list: "list", dict: "object"}


def documented(command):
    """By the member's path: its type, and whether it is there at times only."""
    section = re.search(rf"(?ms)^## `{re.escape(command)}`$(.*?)(?=^## |\Z)", PAGE.read_text())[1]
    rows = re.findall(r"(?m)^\| (`[^|]+`) \| ([^|]+) \| ([^|]*) \|", section)
    found = {}
    for names, kind, about in rows:
        for name in re.findall("`([^`]+)`", names):
            assert name not in found, f"{command}: {name} stands there twice"
            found[name] = (kind.strip(), about)
    return found


def members(value, path=""):
    """By path: the types seen. `queue.held`, `sites_in_trouble[].site`, `rejected_with.*`."""
    found = {}
    for name, inside in value.items():
        here = f"{path}*" if path[:-1] in BY_NAME else path + name
        found.setdefault(here, set()).add(TYPES[type(inside)])
        below = []
        if isinstance(inside, dict):
            below = [members(inside, here + ".")]
        elif isinstance(inside, list):
            below = [members(one, here + "[].") for one in inside if isinstance(one, dict)]
        for one in below:
            for key, kinds in one.items():
                found.setdefault(key, set()).update(kinds)
    return found


class Keys(scenario.Scenario):
    def setUp(self):
        super().setUp()
        host = self.sink(script={"rcpt": lambda session, argument:
                                 "450 4.2.2 full" if "full" in argument else "250 ok"})
        closed, dead = wait.free_port(), wait.free_port()
        self.server = self.relay(
            host, start=False, accept={"relay_from": ["127.0.0.1/32"]},
            authentication={"spf": True}, checks={"messages_per_hour": 1000},
            milter=[{"address": f"127.0.0.1:{dead}", "name": "dead", "default_action": "accept"}],
            events=[{"name": "shop", "file": str(self.own_folder("events") / "events")}],
            delivery={"retry": ["10m"]},
            route=[{"domain": "down.example", "next_hop": f"smtp://127.0.0.1:{closed}", "tls": "off"},
                   {"domain": "moved.example", "next_hop": f"smtp://127.0.0.1:{host.port}", "tls": "off"},
                   {"domain": "*", "next_hop": f"smtp://127.0.0.1:{host.port}", "tls": "off"}])
        server = self.server.start()
        for recipient in ("ok@far.example", "full@far.example", "x@down.example", "y@down.example"):
            self.assertEqual(server.send("a@src.example", recipient, CONTENT).code, 250)
        with smtp.Client(server.port, source="127.0.0.2") as stranger:  # whose checks count
            stranger.hello()
            stranger.expect("MAIL FROM:<b@src.example>", 250)
            stranger.expect("RCPT TO:<x@elsewhere.example>", 550)
        wait.until(lambda: [m["status"] for m in server.queue()] == ["deferred"] * 3, "three are deferred")
        server.postrider("queue", "reroute", "--to", f"127.0.0.1:{closed}", "--domain", "far.example")
        server.postrider("queue", "pause", "later.example")
        self.assertEqual(server.send("a@src.example", "z@later.example", CONTENT).code, 250)
        # Of a stranger who is judged.
        self.assertEqual(server.send("b@src.example", f"{daemon.USER}@us.example", CONTENT, source="127.0.0.2").code, 250)
        wait.until(lambda: len(server.queue()) == 4, "what is for here is delivered")
        file = server.config_file
        good = file.read_text()
        file.write_text(good + "\nwrong = 1\n")
        server.reload()
        server.wait_for_log("config_refused")

    def printed(self, *command, code=0):
        seen = {}
        done = self.server.tool("postrider", *command, "--json", check=False)
        self.assertEqual(done.returncode, code, done.stderr)
        for line in done.stdout.splitlines():
            for key, kinds in members(json.loads(line)).items():
                seen.setdefault(key, set()).update(kinds)
        return seen

    def compare(self, command, *seen_in, below=""):
        """seen_in: what was printed. below: of this member the page of `queue` has the members."""
        page = documented(command)
        seen = {}
        for printed in seen_in:
            for key, kinds in printed.items():
                if not (below and key.startswith(below)):
                    seen.setdefault(key, set()).update(kinds)
        self.assertEqual(set(seen) - set(page), set(), f"`{command}` prints what doc/json.md does not have")
        for key, kinds in seen.items():
            self.assertEqual(kinds, {page[key][0]}, f"{command}: {key}")
        for key in set(page) - set(seen):
            self.assertIn("at times", page[key][1], f"`{command}` does not print {key}")
            name = key.rpartition(".")[2].removesuffix("_base64")
            self.assertIn(f'"{name}"', SOURCE, f"{command}: {key} stands nowhere in the source")

    def test_the_page_has_what_is_printed(self):
        message = self.server.queue("--to", "full@far.example")[0]["queue_id"]
        down = self.server.queue("--to", "x@down.example")[0]["queue_id"]
        status, queue, sites = self.printed("status"), self.printed("queue"), self.printed("sites")
        self.assertTrue({"clients_checked", "authentication_checked", "milters", "config_refused"} <= set(status), status)
        count, summary = self.printed("queue", "count"), self.printed("queue", "summary", "--by", "reason")
        changed = [self.printed("queue", verb, "--all", "--dry-run") for verb in ("hold", "release", "retry", "remove",
                                                                                   "bounce", "expire")]
        shown = [self.printed("show", message), self.printed("show", message, "--body")]
        self.assertEqual(self.server.send("a@src.example", "z@later.example", b"Subject: \xe5\r\n\r\n\xe5\r\n",
                                          " BY=9000;N").code, 250)
        odd = self.server.queue("--to", "z@later.example")[-1]["queue_id"]
        shown += [self.printed("show", odd), self.printed("show", odd, "--body")]
        explained = [self.printed("explain", what) for what in (message, down, "x@down.example")]
        self.server.stop()
        # Left in the drop folder; and the queue is asked without the daemon.
        left = self.server.sendmail("someone@far.example", stdin=CONTENT, check=False)
        self.assertEqual(left.returncode, 0, left.stderr)
        self.compare("status", status)
        self.compare("queue", queue, self.printed("queue"))
        self.assertIn("uid", self.printed("queue"))
        self.compare("queue count", count)
        self.compare("queue summary", summary)
        self.compare("sites", sites)
        self.compare("queue hold", *changed)
        of_queue = set(documented("queue"))
        self.compare("show", *[{key: kinds for key, kinds in one.items() if key not in of_queue} for one in shown])
        self.compare("explain", *explained, below="message.")
        down = self.printed("status", code=69)
        self.assertEqual(set(down) - set(documented("status")), set())
        self.assertFalse("pid" in down)


if __name__ == "__main__":
    scenario.main()
