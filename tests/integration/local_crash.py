#!/usr/bin/python3
"""kill -9 while an alias of many is expanded and while mail is delivered on this machine: afterwards
every recipient has every acknowledged message, and what came twice was in flight at a kill."""
import calendar
import collections
import mailbox
import os
import random
import re
import time

from support_py import scenario, wait

KILLS = int(os.environ.get("POSTRIDER_KILLS", 60 if scenario.FULL else 10))
LOCAL, REMOTE = 60, 20
IN_FLIGHT = 6.0  # seconds from a delivery to the kill that can have forgotten it


class LocalCrash(scenario.Scenario):
    def machine(self, place):
        """big@us.example: LOCAL mailboxes, which are virtual users' places, and REMOTE others."""
        self.peer = self.sink()
        server = self.relay(self.peer, start=False, delivery={"retry": ["1s"]},
                            accept={"sessions_per_client": 100})
        members = [f"m{number}@v.example" for number in range(LOCAL)]
        others = [f"r{number}@far.example" for number in range(REMOTE)]
        listed = server.folder / "list"
        listed.write_text("\n".join(members + others) + "\n")
        table = server.folder / "virtual"
        table.write_text("v.example x\n" + "".join(f"{member} {place}\n" for member in members))
        (server.folder / "aliases").write_text(f"big: :include:{listed}\n")
        server.write_config(local={"virtual": [f"text:{table}"]})
        return server

    def run_kills(self, server, large):
        """Sends and kills in turn; numbers of what was acknowledged, and when was killed."""
        seed = int(os.environ.get("POSTRIDER_SEED", random.randrange(1 << 30)))
        chance = random.Random(seed)
        print(f"\n  seed {seed}, {KILLS} kills", flush=True)
        kills = []
        number = 0
        server.start()
        for _ in range(KILLS):
            for _ in range(chance.choice((0, 1, 1, 2))):
                body = b"".join(b"%d line %d\r\n" % (number, line) for line in range(chance.choice(large)))
                reply = server.send("a@ext.example", "big@us.example",
                                    b"Subject: n%d\r\n\r\n%send\r\n" % (number, body))
                self.assertEqual(reply.code, 250)
                number += 1
            time.sleep(chance.random() * 2)  # the moment is what is tried
            server.kill()
            kills.append(time.time())
            server.start()
        self.assertGreater(number, 0)
        server.wait_until_empty(wait.DEADLINE * 3)
        return number, kills

    def check(self, server, number, kills, local):
        """local: (member, message number) -> times of delivery."""
        arrived = collections.defaultdict(list, local)
        for message in self.peer.messages:
            subject = int(re.search(rb"Subject: n(\d+)", message.content).group(1))
            for address in message.addresses:
                arrived[address.split("@")[0], subject].append(message.when)
        names = [f"m{n}" for n in range(LOCAL)] + [f"r{n}" for n in range(REMOTE)]
        wanted = {(name, subject) for name in names for subject in range(number)}
        self.assertEqual(wanted - set(arrived), set(), "lost")
        self.assertEqual(set(arrived) - wanted, set(), "nobody sent this")
        twice = {key: sorted(times) for key, times in arrived.items() if len(times) > 1}
        unexplained = {key: times for key, times in twice.items() if not all(
            any(first - 5 <= kill <= second + 1 and kill - first < IN_FLIGHT for kill in kills)
            for first, second in zip(times, times[1:]))}
        print(f"  {number} messages, {len(wanted)} deliveries, "
              f"{sum(len(times) - 1 for times in twice.values())} duplicates, "
              f"{len(unexplained)} unexplained", flush=True)
        self.assertEqual(unexplained, {}, kills)
        expanded = [int(re.search(r"\d+", entry["reason"]).group()) for entry in
                    server.log("attempted", to="big@us.example", verdict="sent")]
        self.assertTrue(expanded and set(expanded) == {LOCAL + REMOTE}, "an expansion is whole")
        self.assertEqual([p for p in (server.spool / "body").rglob("*") if p.is_file()], [])

    def test_maildirs(self):
        folder = self.own_folder("boxes")
        server = self.machine(f"maildir:{folder}/{{user}}/")
        number, kills = self.run_kills(server, (3, 3, 3, 9000))
        local = collections.defaultdict(list)
        for path in folder.glob("*/new/*"):
            content = path.read_bytes()
            subject = int(re.search(rb"Subject: n(\d+)", content).group(1))
            self.assertTrue(content.endswith(b"\nend\n"), path)
            local[path.parents[1].name, subject].append(path.stat().st_mtime)
        self.check(server, number, kills, local)

    def test_mboxes(self):
        """A message that was cut by a kill stays as it is; what follows stands for itself."""
        folder = self.own_folder("boxes")
        server = self.machine(f"mbox:{folder}/{{user}}")
        number, kills = self.run_kills(server, (3, 3, 3, 9000))
        local = collections.defaultdict(list)
        cut = 0
        for path in folder.glob("m*"):
            for message in mailbox.mbox(path, create=False):
                text = message.get_payload()
                subject = int(message["Subject"][1:]) if message["Subject"] else -1
                if not text.endswith("end\n"):
                    cut += 1
                    continue
                self.assertTrue(all(line.startswith(f"{subject} line ")
                                    for line in text.splitlines()[:-1]), path)
                when = time.strptime(message.get_from().split(" ", 1)[1].strip())  # whole seconds, UTC
                local[path.name, subject].append(calendar.timegm(when))
            self.assertFalse(path.with_name(path.name + ".lock").exists())
        print(f"  {cut} cut by a kill", flush=True)
        self.assertLessEqual(cut, KILLS * 10)  # no more than were written at once
        self.check(server, number, kills, local)


if __name__ == "__main__":
    scenario.main()
