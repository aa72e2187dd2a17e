"""A raw SMTP client: sends exactly the bytes it is given and reads whole replies."""
import dataclasses
import socket
import time

from support_py import wait


@dataclasses.dataclass
class Reply:
    code: int
    lines: list  # bytes, without code and line end

    @property
    def text(self):
        return " ".join(line.decode("utf-8", "backslashreplace") for line in self.lines)

    @property
    def enhanced(self):
        first = self.lines[0].decode("ascii", "replace").split(" ")[0]
        return first if first.count(".") == 2 else ""

    def __str__(self):
        return f"{self.code} {self.text}"


class Closed(Exception):
    """The peer closed the connection where a reply was due."""


class Client:
    def __init__(self, port, address="127.0.0.1", source=None, greet=True, timeout=None):
        self.socket = socket.create_connection(
            (address, port), timeout=timeout or wait.DEADLINE,
            source_address=(source, 0) if source else None)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = b""
        try:
            self.greeting = self.reply() if greet else None
        except Exception:
            self.socket.close()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.socket.close()

    def abort(self):
        """Closes with a reset instead of an orderly end."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.socket.close()

    def send(self, data):
        self.socket.sendall(data)

    def send_split(self, data, at, pause=0.005):
        """Two segments, with a pause between (the pause is the point of the test)."""
        self.socket.sendall(data[:at])
        time.sleep(pause)
        self.socket.sendall(data[at:])

    def line(self):
        while b"\n" not in self.buffer:
            try:
                more = self.socket.recv(65536)
            except ConnectionResetError:
                more = b""
            if not more:
                raise Closed(repr(self.buffer))
            self.buffer += more
        line, self.buffer = self.buffer.split(b"\n", 1)
        assert line.endswith(b"\r"), f"reply line without CRLF: {line!r}"
        return line[:-1]

    def reply(self):
        lines = []
        code = None
        while True:
            line = self.line()
            assert line[:3].isdigit() and line[3:4] in (b" ", b"-", b""), f"not a reply: {line!r}"
            assert code in (None, int(line[:3])), f"codes differ within a reply: {line!r}"
            code = int(line[:3])
            lines.append(line[4:])
            if line[3:4] != b"-":
                return Reply(code, lines)

    def replies(self, count):
        return [self.reply() for _ in range(count)]

    def command(self, line):
        try:
            self.send((line.encode() if isinstance(line, str) else line) + b"\r\n")
        except (BrokenPipeError, ConnectionResetError):
            pass  # the server was quicker to end it: its last words are there, or Closed says so
        return self.reply()

    def expect(self, line, code):
        reply = self.command(line)
        assert reply.code == code, f"{line!r}: wanted {code}, got {reply}"
        return reply

    def hello(self, name="client.example"):
        return self.expect(f"EHLO {name}", 250)

    def begin(self, sender="sender@ext.example", recipients=(), parameters=""):
        self.expect(f"MAIL FROM:<{sender}>{parameters}", 250)
        for recipient in recipients:
            self.expect(f"RCPT TO:<{recipient}>", 250)

    def message(self, sender, recipients, content, parameters=""):
        """A whole transaction; the reply to the end of the data. Content with CRLF line ends."""
        self.begin(sender, recipients, parameters)
        self.expect("DATA", 354)
        self.send(stuffed(content))
        return self.reply()

    def in_sync(self):
        """NOOP gets exactly one 250 and nothing else is there to be read."""
        self.send(b"NOOP\r\n")
        reply = self.reply()
        return reply.code == 250 and self.buffer == b""

    def in_sync_or_closed(self):
        try:
            return self.in_sync()
        except (Closed, BrokenPipeError, ConnectionResetError):
            return True

    def rest(self, deadline=None):
        """Everything until the peer closes."""
        self.socket.settimeout(deadline or wait.DEADLINE)
        data, self.buffer = self.buffer, b""
        while True:
            try:
                more = self.socket.recv(65536)
            except (ConnectionResetError, BrokenPipeError):
                return data
            if not more:
                return data
            data += more

    def is_closed(self, deadline=None):
        try:
            self.rest(deadline)
            return True
        except socket.timeout:
            return False


def stuffed(content):
    """Content as it goes over the wire: dots doubled, ended by CRLF.CRLF."""
    if content.startswith(b"."):
        content = b"." + content
    content = content.replace(b"\r\n.", b"\r\n..")
    if content and not content.endswith(b"\r\n"):
        content += b"\r\n"
    return content + b".\r\n"


def send(port, sender, recipients, content, parameters="", source=None, address="127.0.0.1"):
    """One message over an own connection; the final reply."""
    if isinstance(recipients, str):
        recipients = [recipients]
    with Client(port, address=address, source=source) as client:
        client.hello()
        reply = client.message(sender, recipients, content, parameters)
        client.command("QUIT")
        return reply
