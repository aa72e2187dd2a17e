#!/usr/bin/python3
"""Tables that another program answers by the socketmap protocol: aliases, senders, routes and virtual users from it; what it
cannot tell is 451, whatever it does, and never 550."""
import socket
import threading

from support_py import scenario, wait
from support_py.daemon import USER

HANG, DROP, NONSENSE = object(), object(), object()
CONTENT = b"From: <ann@src.example>\r\nSubject: hello\r\n\r\nx\r\n"


class Program:
    """answers: {"name key": "OK value", HANG, DROP or NONSENSE}; anything else is NOTFOUND."""

    def __init__(self, path, answers):
        self.path, self.answers = str(path), dict(answers)
        self.asked, self.open = [], []
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(self.path)
        self.listener.listen(50)
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                one, _ = self.listener.accept()
            except OSError:
                return
            self.open.append(one)
            threading.Thread(target=self.serve, args=(one,), daemon=True).start()

    def serve(self, one):
        buffer = b""
        try:
            while data := one.recv(4096):
                buffer += data
                size, colon, rest = buffer.partition(b":")
                if not colon or len(rest) <= int(size):
                    continue
                question, buffer = rest[:int(size)].decode(), rest[int(size) + 1:]
                self.asked.append(question)
                answer = self.answers.get(question, "NOTFOUND ")
                if answer is HANG:
                    continue
                if answer is DROP:
                    break
                one.sendall(b"junk" if answer is NONSENSE else b"%d:%s," % (len(answer), answer.encode()))
        except OSError:
            pass
        one.close()

    def stop(self):
        for one in (self.listener, *self.open):
            try:
                one.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            one.close()


class Socketmaps(scenario.Scenario):
    def program(self, **answers):
        path = self.own_folder("socketmap") / "socket"
        return self.using(Program(path, {key.replace("__", " "): value for key, value in answers.items()})), path

    def rcpt(self, server, address):
        with server.client() as client:
            client.hello()
            client.command("MAIL FROM:<x@src.example>")
            return client.command(f"RCPT TO:<{address}>")

    def test_aliases_access_and_routes(self):
        peer = self.sink()
        program, path = self.program()
        program.answers = {"aliases team": f"OK {USER}, x@far.example", "access bad@far.example": "OK reject Not there",
                           "routes far.example": f"OK smtp://127.0.0.1:{peer.port}"}
        table = f"socketmap:unix:{path}"
        server = self.daemon(local={"aliases": f"{table}:aliases"}, accept={"recipient_map": f"{table}:access"},
                             delivery={"route_map": f"{table}:routes"})
        self.assertEqual(server.send("x@src.example", ["team@us.example"], CONTENT).code, 250)
        server.wait_for_mail(1)
        self.assertEqual(peer.wait_for(1)[0].addresses, ["x@far.example"])
        reply = self.rcpt(server, "bad@far.example")
        self.assertEqual((reply.code, reply.text), (550, "5.7.1 Not there"))
        self.assertEqual(self.rcpt(server, "nosuch@us.example").code, 550)
        asked = len(program.asked)
        self.assertEqual(self.rcpt(server, "bad@far.example").code, 550)
        self.assertEqual(len([one for one in program.asked[asked:] if "bad@" in one]), 0)  # it is remembered

    def test_virtual_users_have_mailboxes(self):
        """Whoever writes one asks the table once more, in a process that may do little else."""
        boxes = self.own_folder("boxes")
        program, path = self.program()
        program.answers = {"users virt.example": "OK yes", "users box@virt.example": f"OK maildir:{boxes}/{{user}}/"}
        server = self.daemon(local={"virtual": [f"socketmap:unix:{path}:users"]})
        self.assertEqual(server.send("x@src.example", ["box@virt.example"], CONTENT).code, 250)
        wait.until(lambda: list(boxes.glob("box/new/*")), "the mail in the box")

    def test_what_it_cannot_tell_is_451(self):
        program, path = self.program()
        for number, answer in enumerate(("TEMP no database", "PERM wrong", "TIMEOUT slow", HANG, DROP, NONSENSE)):
            program.answers[f"access u{number}@us.example"] = answer
        server = self.daemon(accept={"recipient_map": f"socketmap:unix:{path}:access"})
        for number in range(6):
            wait.until(lambda: self.rcpt(server, "nosuch@us.example").code == 550, "it is asked again")
            reply = self.rcpt(server, f"u{number}@us.example")
            self.assertEqual(reply.code, 451, number)
        wait.until(lambda: self.rcpt(server, f"{USER}@us.example").code == 250, "all is well")
        program.stop()
        self.assertEqual(self.rcpt(server, "new@us.example").code, 451)

    def test_it_starts_later_than_we(self):
        path = self.own_folder("later") / "socket"
        server = self.daemon(accept={"recipient_map": f"socketmap:unix:{path}:access"})
        self.assertEqual(self.rcpt(server, f"{USER}@us.example").code, 451)
        self.using(Program(path, {}))
        wait.until(lambda: self.rcpt(server, f"{USER}@us.example").code == 250, "it is there")


if __name__ == "__main__":
    scenario.main()
