"""Milters: one whose every answer is scripted, frame by frame, and one of python3-milter that makes every edit."""
import pathlib
import socket
import struct
import subprocess
import sys

from support_py import wait
from support_py.listening import Listening

DROP, HANG = object(), object()
GO_ON, ACCEPT, DISCARD, REJECT, TEMPFAIL = b"c", b"a", b"d", b"r", b"t"


def frame(kind, data=b""):
    return struct.pack("!I", 1 + len(data)) + kind + data


def text(*parts):
    return b"".join(part.encode() + b"\0" for part in parts)


def add(name, value):
    return frame(b"h", text(name, value))


def insert(index, name, value):
    return frame(b"i", struct.pack("!I", index) + text(name, value))


def change(index, name, value):
    return frame(b"m", struct.pack("!I", index) + text(name, value))


def body(piece):
    return frame(b"b", piece)


def quarantine(reason):
    return frame(b"q", text(reason))


class Scripted(Listening):
    """answers: {the command's letter: an answer, or a list of which each message or command uses one up}; an answer is
    octets of one frame or more, DROP or HANG. What is not named is answered with GO_ON. `seen` has a list of
    (letter, data) for each connection; macros are kept apart, in `macros`, by the last of their name."""

    def __init__(self, path, answers=None, steps=0):
        self.path = str(path)
        self.answers = dict(answers or {})
        self.steps = steps
        self.seen, self.macros = [], {}
        listener = socket.socket(socket.AF_UNIX)
        pathlib.Path(self.path).unlink(missing_ok=True)
        listener.bind(self.path)
        listener.listen(100)
        self.listen(listener)

    def began(self):
        self.seen.append([])
        return self.seen[-1]

    @staticmethod
    def exactly(one, size):
        data = b""
        while len(data) < size:
            more = one.recv(size - len(data))
            if not more:
                raise OSError("the end")
            data += more
        return data

    def answer(self, kind):
        with self.lock:
            found = self.answers.get(kind, frame(GO_ON))
            if isinstance(found, list):
                return found.pop(0) if found else frame(GO_ON)
            return found

    def serve(self, one, place):
        try:
            while True:
                size, = struct.unpack("!I", self.exactly(one, 4))
                data = self.exactly(one, size)
                kind, data = data[:1].decode(), data[1:]
                if kind == "D":
                    words = [word.decode("utf-8", "backslashreplace") for word in data[1:].split(b"\0")[:-1]]
                    self.macros.update(zip(words[::2], words[1::2]))
                    continue
                place.append((kind, data))
                if kind in "AQ":
                    continue
                if kind == "O" and "O" not in self.answers:
                    one.sendall(frame(b"O", struct.pack("!III", 6, 0x1ff, self.steps)))
                    continue
                answer = self.answer(kind)
                if answer is HANG:
                    continue
                if answer is DROP:
                    break
                one.sendall(answer)
                if answer.endswith(b"\0DROP"):
                    break
        except OSError:
            pass
        finally:
            with self.lock:
                self.open.remove(one)
            one.close()

    def kinds(self, connection=-1):
        return "".join(kind for kind, _ in self.seen[connection])

    def data(self, kind, connection=-1):
        return [data for one, data in self.seen[connection] if one == kind]


def then_drop(frames):
    """These frames, and then the connection ends."""
    return frames + b"\0\0\0\0DROP"


EVERY = r"""
import sys
import Milter
class Every(Milter.Base):
    def connect(self, name, family, address):
        self.client = name
        return Milter.CONTINUE
    def envfrom(self, sender, *args):
        self.seen = [self.client, self.getsymval('j') or '-', sender, *args]
        return Milter.CONTINUE
    def envrcpt(self, to, *args):
        if 'refused' in to:
            self.setreply('550', '5.7.9', 'Not here')
            return Milter.REJECT
        return Milter.CONTINUE
    def header(self, name, value):
        self.seen.append(name)
        return Milter.CONTINUE
    def eom(self):
        self.progress()
        self.addheader('X-Seen', '|'.join(self.seen))
        self.addheader('X-Id', self.getsymval('i') or '-')
        self.addheader('X-Insert', 'one\n two', 0)
        self.chgheader('Subject', 1, 'changed')
        self.chgheader('X-Gone', 1, '')
        self.addrcpt('c@dst.example')
        self.addrcpt('d@dst.example', 'NOTIFY=NEVER')
        self.delrcpt('<b@dst.example>')
        self.chgfrom('z@src.example')
        self.replacebody(b'new ' * 30000 + b'\r\n')
        return Milter.CONTINUE
Milter.factory = Every
Milter.set_flags(Milter.ADDHDRS | Milter.CHGBODY | Milter.ADDRCPT | Milter.ADDRCPT_PAR
                 | Milter.DELRCPT | Milter.CHGHDRS | Milter.QUARANTINE | Milter.CHGFROM)
Milter.runmilter('every', 'unix:' + sys.argv[1], 240)
"""


class Program:
    """A milter that is a program of its own; there once its socket takes connections."""

    def __init__(self, words, path, **settings):
        self.path = str(path)
        self.process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                        stderr=subprocess.DEVNULL, **settings)
        wait.until(self.answers, f"{words[0]} at {path}")

    def answers(self):
        assert self.process.poll() is None, f"{self.process.args} has ended with {self.process.returncode}"
        with socket.socket(socket.AF_UNIX) as one:
            try:
                one.connect(self.path)
            except OSError:
                return False
        return True

    def stop(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    close = stop


def every(folder):
    script = pathlib.Path(folder) / "every.py"
    script.write_text(EVERY, "utf-8")
    path = pathlib.Path(folder) / "every.sock"
    return Program([sys.executable, "-B", str(script), str(path)], path)
