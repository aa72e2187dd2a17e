#!/usr/bin/python3
"""Takes events at a webhook or at a Unix socket, and has them in a file before it says so. As a program it
may be killed at any moment:  receiver.py webhook PORT FILE | receiver.py socket PATH FILE"""
import http.server
import json
import os
import pathlib
import signal
import socket
import socketserver
import subprocess
import sys

from support_py import wait


class Receiver:
    """The program, which is killed and started again by a test."""

    def __init__(self, folder, kind):
        self.folder, self.kind, self.process = folder, kind, None
        self.file = folder / "events"
        self.place = str(wait.free_port() if kind == "webhook" else folder / "socket")
        self.start().wait()

    def start(self):
        with open(self.folder / "output", "ab") as output:
            self.process = subprocess.Popen(
                ["/usr/bin/python3", __file__, self.kind, self.place, str(self.file)], stdin=subprocess.DEVNULL,
                stdout=output, stderr=output, env={**os.environ, "PYTHONPATH": str(pathlib.Path(__file__).parents[1])})
        return self

    def wait(self):
        wait.until(self.answers, lambda: (self.folder / "output").read_text("utf-8"))
        return self

    def answers(self):
        by_port = self.kind == "webhook"
        try:
            with socket.socket(socket.AF_INET if by_port else socket.AF_UNIX) as one:
                one.connect(("127.0.0.1", int(self.place)) if by_port else self.place)
            return True
        except OSError:
            return False

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self):
        if self.process.poll() is None:
            self.kill()

    def events(self):
        """What is half a line was never said to be taken."""
        found = []
        for line in self.file.read_bytes().split(b"\n") if self.file.exists() else ():
            try:
                found.append(json.loads(line))
            except ValueError:
                pass
        return found


def keep(file, lines):
    """In one piece, behind an end of line: the one before may have been killed in the middle of one."""
    file.write(b"\n" + b"\n".join(lines) + b"\n")
    file.flush()


def serve_webhook(port, file):
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            batch = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            keep(file, [json.dumps(event).encode() for event in batch])
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_):
            pass

    http.server.HTTPServer.allow_reuse_address = True
    http.server.HTTPServer(("127.0.0.1", port), Handler).serve_forever()


def serve_socket(path, file):
    class Handler(socketserver.BaseRequestHandler):
        def handle(self):
            taken = b""
            while more := self.request.recv(1 << 16):
                taken += more
                while b"\n\n" in taken:
                    batch, taken = taken.split(b"\n\n", 1)
                    keep(file, batch.split(b"\n"))
                    self.request.sendall(b"ok\n")

        def finish(self):
            self.request.close()

    pathlib.Path(path).unlink(missing_ok=True)
    socketserver.UnixStreamServer(path, Handler).serve_forever()


if __name__ == "__main__":
    with open(sys.argv[3], "ab") as kept:
        if sys.argv[1] == "webhook":
            serve_webhook(int(sys.argv[2]), kept)
        else:
            serve_socket(sys.argv[2], kept)
