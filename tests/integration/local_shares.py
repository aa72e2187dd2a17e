#!/usr/bin/python3
"""One stuck mailbox, command or user never holds up another's mail."""
import fcntl
import pathlib
import signal

from support_py import scenario, wait
from support_py.local_users import LocalUsers
from support_py.tools import processes_with


class Shares(LocalUsers):
    def hanging(self):
        server = self.machine()
        program = server.folder / "hangs"
        program.write_text(f"#!/bin/sh\necho x >> {server.folder}/runs\n"
                           f"{server.folder}/sleeps & {server.folder}/sleeps\n")
        (server.folder / "sleeps").write_text("#!/bin/sh\nwhile :; do sleep 1; done\n")
        program.chmod(0o755)
        (server.folder / "sleeps").chmod(0o755)
        server.folder.chmod(0o777)
        self.write(self.aliases, f'hang: "|{program}"\n')
        return server

    def mbox(self, server, user):
        return pathlib.Path(server.folder) / "mail" / user

    def test_a_locked_mbox_and_a_command_that_hangs(self):
        server = self.hanging()
        server.write_config(local={"mailbox": f"mbox:{server.folder}/mail/{{user}}"})
        server.start()
        self.mail(server, "bob@us.example")
        server.wait_until_empty()
        before = self.mbox(server, "bob").stat().st_size
        with open(self.mbox(server, "bob"), "r+b") as held:
            fcntl.lockf(held, fcntl.LOCK_EX)
            for _ in range(30):
                self.mail(server, "bob@us.example")
            for _ in range(12):
                self.mail(server, "hang@us.example")
            wait.until(lambda: (server.folder / "runs").exists(), "the command")
            self.mail(server, "carl@us.example")
            wait.until(lambda: self.mbox(server, "carl").exists(), "another user's mail")
            entry = server.wait_for_log("attempted", verdict="deferred", dsn="4.2.0")[0]
            self.assertIn("locked", entry["reason"])
            self.assertEqual(self.mbox(server, "bob").stat().st_size, before)
            self.assertEqual((server.folder / "runs").read_text().count("x"), 2)
        wait.until(lambda: self.mbox(server, "bob").read_bytes().count(b"\nDelivered-To: ") == 31,
                   "the mail of the mailbox that was locked", deadline=60)

    def test_however_few_the_places_one_is_left_by_commands(self):
        for deliveries in (1, 2, 3):
            with self.subTest(deliveries=deliveries):
                server = self.hanging()
                runs, program = server.folder / "runs", server.folder / "hangs"
                self.write(self.aliases,
                           "".join(f'hang{i}: "|{program}"\n' for i in range(5)))
                server.write_config(local={"deliveries": deliveries})
                server.start()
                for i in range(5):
                    self.mail(server, f"hang{i}@us.example")
                most = max(1, deliveries - 1)
                wait.until(lambda: runs.exists() and runs.read_text().count("x") == most,
                           "the commands")
                self.mail(server, "carl@us.example")
                server.wait_for_mail(1, "carl")
                self.assertEqual(runs.read_text().count("x"), most)

    def test_commands_end_with_the_daemon(self):
        server = self.hanging().start()
        self.mail(server, "hang@us.example")
        sleeps = f"{server.folder}/sleeps"
        wait.until(lambda: len(processes_with(sleeps)) >= 2, "the command and its child")
        server.kill()
        wait.until(lambda: not processes_with(sleeps), "the end of the command")
        server.start()
        wait.until(lambda: (server.folder / "runs").read_text().count("x") == 2, "the second run")
        wait.until(lambda: len(processes_with(sleeps)) >= 2, "it runs")
        server.signal(signal.SIGTERM)
        server.process.wait(60)
        wait.until(lambda: not processes_with(sleeps), "the end of the second one")


if __name__ == "__main__":
    scenario.main()
