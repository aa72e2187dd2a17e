"""Name servers on loopback: Knot with zones written by the test, and one that misbehaves."""
import pathlib
import socket
import socketserver
import subprocess
import threading

import dns.flags
import dns.message
import dns.query
import dns.rcode
import dns.rdatatype

from support_py import wait
from support_py.tools import tool


class Knot:
    """zones: {"example.": "zone text below the SOA and NS records"}; a zone whose text is None has
    no data, and Knot answers SERVFAIL for every name in it."""

    def __init__(self, folder, zones):
        self.folder = pathlib.Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.port = wait.free_port()
        self.zones = dict(zones)
        self.serial = 1
        self.process = None
        self.start()

    @property
    def server(self):
        return f"127.0.0.1:{self.port}"

    def write(self):
        lines = [f'server:\n    rundir: "{self.folder}"\n    listen: "127.0.0.1@{self.port}"\n'
                 "    udp-workers: 1\n    tcp-workers: 1\n    background-workers: 1\n"
                 "    version: \"\"\n"
                 "log:\n  - target: stderr\n    any: info\n"
                 f'database:\n    storage: "{self.folder}"\n'
                 f'template:\n  - id: default\n    storage: "{self.folder}"\n'
                 "    journal-content: none\n    zonefile-load: whole\nzone:\n"]
        for number, (name, text) in enumerate(self.zones.items()):
            lines.append(f'  - domain: "{name}"\n    file: "zone{number}"\n')
            path = self.folder / f"zone{number}"
            path.unlink(missing_ok=True)
            if text is not None:
                path.write_text(
                    f"$ORIGIN {name}\n$TTL 1\n"
                    f"@ SOA ns.example. hostmaster.example. {self.serial} 3600 900 86400 1\n"
                    f"@ NS ns.example.\n" + text.strip() + "\n", "utf-8")
        (self.folder / "knot.conf").write_text("".join(lines))

    def start(self):
        self.write()
        self.log = open(self.folder / "knot.log", "ab")
        self.process = subprocess.Popen([tool("knotd"), "-c", str(self.folder / "knot.conf")],
                                        stdout=self.log, stderr=self.log)
        wait.until(self.answers, lambda: f"knotd; its log: {self.folder}/knot.log")

    def answers(self):
        if self.process.poll() is not None:
            raise AssertionError("knotd ended: " + (self.folder / "knot.log").read_text()[-2000:])
        loaded = [name for name, text in self.zones.items() if text is not None]
        try:
            for name in loaded:
                query = dns.message.make_query(name, "SOA")
                reply = dns.query.udp(query, "127.0.0.1", port=self.port, timeout=0.5)
                if not reply.answer or reply.answer[0][0].serial != self.serial:
                    return False
            return True
        except (OSError, dns.exception.Timeout):
            return False

    def stop(self):
        if self.process:
            self.process.terminate()
            self.process.wait()
            self.process = None
            self.log.close()

    def change(self, **zones):
        """New text for zones; a keyword `example` names the zone "example."."""
        for name, text in zones.items():
            self.zones[name.replace("_", ".") + "."] = text
        self.serial += 1
        self.stop()
        self.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


class FakeServer:
    """Answers by answer(question_name, type_text, wire) -> bytes, an rcode, or None for silence."""

    def __init__(self, answer):
        self.answer = answer
        self.questions = []
        outer = self

        class Udp(socketserver.BaseRequestHandler):
            def handle(self):
                data, reply_to = self.request
                reply = outer.handle(data)
                if reply:
                    reply_to.sendto(reply, self.client_address)

        class Tcp(socketserver.BaseRequestHandler):
            def handle(self):
                head = self.request.recv(2, socket.MSG_WAITALL)
                if len(head) == 2:
                    data = self.request.recv(int.from_bytes(head, "big"), socket.MSG_WAITALL)
                    reply = outer.handle(data)
                    if reply:
                        self.request.sendall(len(reply).to_bytes(2, "big") + reply)

        self.port = wait.free_port()
        socketserver.TCPServer.allow_reuse_address = True
        self.servers = [socketserver.ThreadingUDPServer(("127.0.0.1", self.port), Udp),
                        socketserver.ThreadingTCPServer(("127.0.0.1", self.port), Tcp)]
        for server in self.servers:
            server.daemon_threads = True
            threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def server(self):
        return f"127.0.0.1:{self.port}"

    def handle(self, data):
        query = dns.message.from_wire(data)
        name = query.question[0].name.to_text().lower()
        kind = dns.rdatatype.to_text(query.question[0].rdtype)
        self.questions.append((name, kind))
        answer = self.answer(name, kind, data)
        if isinstance(answer, int):
            reply = dns.message.make_response(query, recursion_available=True)
            reply.set_rcode(answer)
            return reply.to_wire()
        return answer

    def stop(self):
        for server in self.servers:
            server.shutdown()
            server.server_close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


def records(*rrsets):
    """An answer function's helper: a positive reply with these (name, type, ttl, text...) records."""
    def reply(data):
        query = dns.message.from_wire(data)
        response = dns.message.make_response(query, recursion_available=True)
        response.flags |= dns.flags.AA
        for name, kind, ttl, *texts in rrsets:
            response.answer.append(dns.rrset.from_text(name, ttl, "IN", kind, *texts))
        return response.to_wire()
    return reply
