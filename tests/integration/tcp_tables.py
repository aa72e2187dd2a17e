#!/usr/bin/python3
"""Tables that another program answers by Postfix's protocol tcp_table(5): what it cannot tell is 451, whatever it does,
and never 550."""
import socket
import socketserver
import threading
import urllib.parse

from support_py import scenario, wait
from support_py.daemon import USER
from support_py.table_servers import Asked, CONTENT

HANG, DROP = object(), object()


class Program:
    """answers: {key: line, HANG or DROP}; anything else is 500."""

    def __init__(self, answers, port=0):
        self.answers, self.asked, self.connections = dict(answers), [], 0
        outer = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self):
                outer.connections += 1
                outer.open.append(self.connection)
                for line in self.rfile:
                    verb, _, key = line.decode().rstrip("\n").partition(" ")
                    assert verb == "get", line
                    key = urllib.parse.unquote(key)
                    outer.asked.append(key)
                    answer = outer.answers.get(key, "500 there is none\n")
                    if answer is DROP:
                        return
                    if answer is not HANG:
                        self.wfile.write(answer.encode())

        class Server(socketserver.ThreadingTCPServer):
            allow_reuse_address = daemon_threads = True
            block_on_close = False

        self.open = []
        self.server = Server(("127.0.0.1", port), Handler)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self):
        self.server.shutdown()
        self.server.server_close()
        for one in self.open:
            try:
                one.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass


class TcpTables(Asked):
    def test_virtual_users_and_access(self):
        boxes = self.own_folder("boxes")
        users = self.using(Program({"virt.example": "200 yes\n", "box@virt.example": f"200 maildir:{boxes}/{{user}}/\n",
                                    "two@virt.example": f"200 box@virt.example,%20{USER}@us.example\n"}))
        access = self.using(Program({"bad@us.example": "200 reject%20Not%20there\n"}))
        server = self.daemon(local={"virtual": [f"tcp:127.0.0.1:{users.port}"]},
                             accept={"recipient_map": f"tcp:127.0.0.1:{access.port}"})
        self.assertEqual(self.rcpt(server, "bad@us.example").text, "5.7.1 Not there")
        self.assertEqual(self.rcpt(server, "nosuch@virt.example").code, 550)
        self.assertEqual(server.send("x@src.example", ["two@virt.example"], CONTENT).code, 250)
        server.wait_for_mail(1)
        wait.until(lambda: list(boxes.glob("box/new/*")), "the mail in the box")
        asked = len(access.asked)
        self.assertEqual(self.rcpt(server, "bad@us.example").code, 550)
        self.assertNotIn("bad@us.example", access.asked[asked:], "it is remembered")
        self.assertLessEqual(access.connections, 8, "they are used again")

    def test_what_it_cannot_tell_is_451(self):
        answers = ("400 no database\n", HANG, DROP, "nonsense\n", "200 ok\n200 ok\n", "200 " + "x" * 200_000 + "\n", "200 %\n")
        program = self.using(Program({f"u{number}@us.example": answer for number, answer in enumerate(answers)}))
        server = self.daemon(accept={"recipient_map": f"tcp:127.0.0.1:{program.port}"})
        for number in range(len(answers)):
            self.is_answered(server, f"nosuch{number}@us.example", 550)  # it is asked again
            self.assertEqual(self.rcpt(server, f"u{number}@us.example").code, 451, number)
        wait.until(lambda: self.rcpt(server, "other@us.example").code == 550, "all is well")
        program.stop()
        self.assertEqual(self.rcpt(server, "new@us.example").code, 451)
        self.using(Program({}, program.port))
        self.is_answered(server, "new@us.example", 550)


if __name__ == "__main__":
    scenario.main()
