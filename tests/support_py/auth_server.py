"""An auth server by Dovecot's protocol whose every answer the test chooses the time of."""
import base64
import re
import socket
import threading

from support_py import wait


def form_answer(line):
    """To a question about a name that nobody has, by which it is learned how names are written: a
    refusal that says whom Dovecot, as it comes, has looked up. None: `line` is no such question."""
    fields = line.split("\t")
    if fields[0] != "AUTH" or not fields[2].startswith("SCRAM"):
        return None
    first = base64.b64decode(next(field for field in fields if field.startswith("resp="))[5:]).decode()
    name = re.match("n,,n=(N[0-9a-f]{16,}[^,]*),", first)
    return f"FAIL\t{fields[1]}\tuser={name[1].lower()}" if name else None


class AuthServer:
    """Knows `users`, whose passwords are all "secret", and answers the first message of SCRAM of one
    who is not in `held` at once. A refusal waits for refuse(), as Dovecot's do for their time; but what
    is asked about the form of names is answered, since who waits for that waits long."""

    def __init__(self, path, users, held=()):
        self.path, self.users, self.held = path, set(users), set(held)
        self.changed = threading.Condition()
        self.asked = []    # the lines of clients
        self.refused = []  # connection and id of what waits to be refused
        self.waiting = []  # connection, id and challenge of who is held
        self.open = []
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(path))
        path.chmod(0o777)
        self.listener.listen(64)
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            self.open.append(client)
            threading.Thread(target=self.attend, args=(client,), daemon=True).start()

    def attend(self, client):
        self.say(client, "VERSION\t1\t2\nMECH\tPLAIN\nMECH\tSCRAM-SHA-256\nDONE")
        try:
            with client.makefile("rb") as lines:
                for line in lines:
                    with self.changed:
                        self.answer(client, line.decode().rstrip("\n"))
                        self.asked.append(line.decode().rstrip("\n"))
                        self.changed.notify_all()
        except OSError:
            pass

    @staticmethod
    def say(client, text):
        try:
            client.sendall(text.encode() + b"\n")
        except OSError:
            pass  # nobody waits for it any more

    @staticmethod
    def response(line):
        """What the client has sent in it; nothing: it is not a request"""
        fields = [field for field in line.split("\t") if field.startswith("resp=")]
        return base64.b64decode(fields[0][5:]).decode() if line.startswith("AUTH") else None

    def answer(self, client, line):
        fields = line.split("\t")
        about_form = form_answer(line)
        if about_form:
            self.say(client, about_form)
        elif fields[0] == "CONT":
            self.refused.append((client, fields[1]))
        elif fields[0] == "AUTH" and fields[2] == "PLAIN":
            _, user, password = self.response(line).split("\0")
            if user in self.users and password == "secret":
                self.say(client, f"OK\t{fields[1]}\tuser={user}")
            else:
                self.refused.append((client, fields[1]))
        elif fields[0] == "AUTH":
            first = self.response(line).split(",")
            name = first[2][2:].lower()
            if not first[2].startswith("n=") or name not in self.users:
                self.refused.append((client, fields[1]))
                return
            salt = base64.b64encode(b"s" * 16).decode()
            challenge = f"r={first[3][2:]}{'N' * 64},s={salt},i=4096"
            question = (client, fields[1], base64.b64encode(challenge.encode()).decode())
            if name in self.held:
                self.waiting.append(question)
            else:
                self.say(client, "CONT\t{1}\t{2}".format(*question))

    def wait_for(self, condition, what):
        """Until condition(the lines of clients) is true; returns that."""
        with self.changed:
            self.changed.wait_for(lambda: condition(self.asked), wait.DEADLINE)
            found = condition(self.asked)
            if not found:
                raise wait.Timeout(f"waited for {what}; asked: {self.asked}")
            return found

    def refuse(self):
        """Everything that is to be refused until now"""
        with self.changed:
            for client, number in self.refused:
                self.say(client, f"FAIL\t{number}")
            self.refused.clear()

    def release(self):
        """The challenges that are held; none is from now on"""
        with self.changed:
            for question in self.waiting:
                self.say(question[0], "CONT\t{1}\t{2}".format(*question))
            self.waiting.clear()
            self.held.clear()

    def stop(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for client in self.open:
            client.close()
        self.path.unlink()
