#!/usr/bin/python3
"""TLS that breaks, wherever it does, at hosts that would take the mail in clear: where TLS was a wish
the mail gets there, soon and with a word in the log; where it was demanded it never goes in clear."""
import socketserver
import ssl
import threading
import time

from support_py import authority, scenario, wait

CONTENT = b"Subject: by TLS or without\r\n\r\nhello\r\n"
BREAKS = ("close at STARTTLS", "421 at STARTTLS", "garbage at STARTTLS", "silence at STARTTLS",
          "close in the handshake", "close behind the handshake", "close at EHLO", "close at MAIL",
          "close at RCPT", "501 and close at STARTTLS", "250 and close at STARTTLS")
# Behind these the same try is over: the host may have the message, or it was an attack.
LATER = ("close behind the content", "two replies at STARTTLS")


class Host:
    """Takes mail in clear; under TLS it breaks off where it is told to."""

    def __init__(self, certificate, breaks):
        self.breaks, self.clear, self.protected, self.tries = breaks, [], [], 0
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(certificate)
        self.stopping = threading.Event()
        outer = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self):
                try:
                    outer.talk(self.request)
                except (OSError, EOFError):
                    pass

        socketserver.ThreadingTCPServer.allow_reuse_address = True
        self.server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self):
        self.stopping.set()
        self.server.shutdown()
        self.server.server_close()

    def talk(self, connection):
        connection.sendall(b"220 host\r\n")
        secure, file = False, connection.makefile("rb")
        while True:
            line = file.readline()
            if not line:
                return
            verb = line.split()[0].split(b":")[0].decode().upper()
            if secure and self.breaks == f"close at {verb}":
                return
            if verb == "STARTTLS":
                self.tries += 1
                if self.breaks == "close at STARTTLS":
                    return
                if self.breaks == "silence at STARTTLS":
                    self.stopping.wait()
                    return
                if self.breaks == "two replies at STARTTLS":
                    connection.sendall(b"220 go\r\n220 go\r\n")
                    connection.recv(1)
                    return
                if self.breaks.endswith("at STARTTLS"):
                    code = self.breaks[:3].encode()
                    connection.sendall(code + b" 4.3.2 no\r\n" if code.isdigit() else b"what?\r\n")
                    return
                connection.sendall(b"250 go\r\n" if self.breaks == "none, but 250" else b"220 go\r\n")
                if self.breaks == "close in the handshake":
                    connection.recv(10)
                    return
                connection = self.context.wrap_socket(connection, server_side=True)
                secure, file = True, connection.makefile("rb")
                if self.breaks == "close behind the handshake":
                    return
            elif verb == "EHLO":
                connection.sendall(b"250-host\r\n250 PIPELINING\r\n" if secure else
                                   b"250-host\r\n250-PIPELINING\r\n250 STARTTLS\r\n")
            elif verb == "DATA":
                connection.sendall(b"354 go\r\n")
                while file.readline() != b".\r\n":
                    pass
                (self.protected if secure else self.clear).append(time.time())
                if secure and self.breaks == "close behind the content":
                    return
                connection.sendall(b"250 taken\r\n")
            elif verb == "QUIT":
                connection.sendall(b"221 bye\r\n")
                return
            else:
                connection.sendall(b"250 ok\r\n")


class Breaks(scenario.Scenario):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.authority = authority.Authority(cls.folder / "ca")
        cls.certificate = cls.authority.sign("localhost")

    def hosts(self, breaks=BREAKS):
        return {f"b{number}": self.using(Host(self.certificate, one))
                for number, one in enumerate(breaks)}

    def start(self, hosts, tls, retry="1h"):
        return self.daemon(
            delivery={"retry": [retry], "tls_ca": str(self.authority.certificate)},
            route=[{"domain": f"{name}.example", "next_hop": f"smtp://127.0.0.1:{host.port}",
                    "tls": tls, "tls_names": "localhost"} for name, host in hosts.items()])

    def test_a_wish_ends_in_clear(self):
        hosts = self.hosts()
        server = self.start(hosts, "opportunistic")
        for name in hosts:
            self.assertEqual(server.send("a@us.example", f"b@{name}.example", CONTENT).code, 250)
        server.wait_until_empty(deadline=wait.DEADLINE + 90)  # the silent one has a minute
        for host in hosts.values():
            with self.subTest(host.breaks):
                self.assertEqual((len(host.clear), host.protected), (1, []))
                told = [line for line in server.log("tls", next="clear")
                        if f":{host.port}" in line["relay"]]
                self.assertTrue(told)
        tries = {name: host.tries for name, host in hosts.items()}
        for name in hosts:
            server.send("a@us.example", f"c@{name}.example", CONTENT)
        server.wait_until_empty()
        for name, host in hosts.items():
            with self.subTest(host.breaks):
                self.assertEqual(len(host.clear), 2)
                # Remembered; by each loop for itself.
                self.assertLessEqual(host.tries, tries[name] + 1)

    def test_a_later_try_of_a_wish_goes_in_clear(self):
        hosts = self.hosts(LATER)
        server = self.start(hosts, "opportunistic", "200ms")
        for name in hosts:
            server.send("a@us.example", f"b@{name}.example", CONTENT)
        server.wait_until_empty()
        for host in hosts.values():
            with self.subTest(host.breaks):
                self.assertEqual(len(host.clear), 1)
                self.assertGreater(host.tries, 0)
                self.assertLessEqual(host.tries, 2 * 16)  # two for each loop

    def test_any_positive_reply_begins_tls(self):
        hosts = self.hosts(("none, but 250",))
        server = self.start(hosts, "verify")
        server.send("a@us.example", "b@b0.example", CONTENT)
        server.wait_until_empty()
        self.assertEqual((len(hosts["b0"].protected), hosts["b0"].clear), (1, []))

    def test_a_demand_does_not(self):
        for tls in ("require", "verify"):
            hosts = self.hosts(BREAKS + LATER)
            server = self.start(hosts, tls)
            waiting = [name for name, host in hosts.items()
                       if not host.breaks.startswith("silence")]
            for name in waiting:
                server.send("a@us.example", f"b@{name}.example", CONTENT)
            for name in waiting:
                told, = server.wait_for_log("attempted", to=f"b@{name}.example",
                                            verdict="deferred")[:1]
                self.assertNotIn("address", told["reason"])
                self.assertGreaterEqual(hosts[name].tries, 1)
            self.assertEqual([host.breaks for host in hosts.values() if host.clear], [])
            server.stop()


if __name__ == "__main__":
    scenario.main()
