"""What a domain with MTA-STS and TLS reports runs, on loopback: a certificate authority, HTTPS hosts
and mail hosts with STARTTLS."""
import http.server
import pathlib
import socket
import socketserver
import ssl
import subprocess
import threading

from support_py import wait
from support_py.tools import tool


class Authority:
    """A root certificate, and what it signs, made by the openssl program."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.roots = self.folder / "roots.pem"
        self.key = self.folder / "roots.key"
        self.openssl("req", "-x509", "-nodes", "-newkey", "ec", "-pkeyopt",
                     "ec_paramgen_curve:prime256v1", "-days", "30", "-subj", "/CN=Test roots",
                     "-keyout", self.key, "-out", self.roots)

    @staticmethod
    def openssl(*arguments):
        subprocess.run([tool("openssl"), *map(str, arguments)], check=True,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def context(self, *names, days=30):
        """Of a server that shows a certificate for these names."""
        stem = self.folder / names[0].replace("*", "any")
        request, key = stem.with_suffix(".csr"), stem.with_suffix(".key")
        certificate, extensions = stem.with_suffix(".pem"), stem.with_suffix(".ext")
        self.openssl("req", "-new", "-nodes", "-newkey", "ec", "-pkeyopt",
                     "ec_paramgen_curve:prime256v1", "-subj", f"/CN={names[0]}", "-keyout", key,
                     "-out", request)
        extensions.write_text("subjectAltName=" + ",".join(
            f"{'IP' if name[-1:].isdigit() else 'DNS'}:{name}" for name in names))
        self.openssl("x509", "-req", "-in", request, "-CA", self.roots, "-CAkey", self.key,
                     "-CAcreateserial", "-days", days, "-extfile", extensions,
                     "-out", certificate)
        made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        made.load_cert_chain(certificate, key)
        return made


class Https:
    """Answers GET with pages[host] = (status, content type, text), and keeps what is POSTed. The
    context may be changed while it runs."""

    def __init__(self, context, address="127.0.0.1", port=0):
        self.context = context
        self.pages = {}
        self.posted = []  # (host, path, content type, body)
        self.asked = []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                host = self.headers.get("Host", "").split(":")[0]
                outer.asked.append((host, self.path))
                self.give(*outer.pages.get(host, (404, "text/plain", "nothing here")))

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                outer.posted.append((self.headers.get("Host", "").split(":")[0], self.path,
                                     self.headers.get("Content-Type"), body))
                self.give(201, "text/plain", "thank you")

            def give(self, status, kind, text):
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(text)))
                if status in (301, 302):
                    self.send_header("Location", "/elsewhere")
                self.end_headers()
                self.wfile.write(text.encode())

            def log_message(self, *_):
                pass

        class Server(socketserver.ThreadingTCPServer):
            allow_reuse_address = True
            daemon_threads = True

            def finish_request(self, request, client):
                request.settimeout(wait.DEADLINE)
                try:
                    request = outer.context.wrap_socket(request, server_side=True)
                    super().finish_request(request, client)
                    request.unwrap()
                except (OSError, ValueError):
                    pass

            def handle_error(self, *_):
                pass

        self.server = Server((address, port or wait.free_port((address,))), Handler)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self):
        if self.server:
            self.server.shutdown()
            self.server.server_close()
            self.server = None


class MailHost:
    """An SMTP server that takes everything, by STARTTLS if it has a context. Messages are
    (protocol, MAIL's argument, recipients, content)."""

    def __init__(self, address, port=0, context=None, extensions=()):
        self.context = context
        self.extensions = list(extensions)
        self.messages = []
        outer = self

        class Server(socketserver.ThreadingTCPServer):
            allow_reuse_address = True
            daemon_threads = True

            def handle_error(self, *_):
                pass

        class Handler(socketserver.BaseRequestHandler):
            def handle(self):
                self.request.settimeout(wait.DEADLINE)
                try:
                    Conversation(outer, self.request).run()
                except (OSError, EOFError):
                    pass

        self.server = Server((address, port or wait.free_port((address,))), Handler)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def wait_for(self, count):
        wait.until(lambda: len(self.messages) >= count,
                   lambda: f"{count} messages, {len(self.messages)} came")
        return self.messages

    def stop(self):
        if self.server:
            self.server.shutdown()
            self.server.server_close()
            self.server = None


class Conversation:
    def __init__(self, host, connection):
        self.host = host
        self.connection = connection
        self.file = connection.makefile("rb")
        self.protocol = None

    def say(self, text):
        self.connection.sendall(text.encode() + b"\r\n")

    def run(self):
        self.say("220 peer ESMTP")
        sender, recipients = "", []
        while True:
            line = self.file.readline()
            if not line:
                raise EOFError
            words = line.decode("utf-8", "replace").strip().split(" ", 1)
            verb, rest = words[0].upper(), words[1] if len(words) > 1 else ""
            if verb == "EHLO":
                offered = ["peer", *self.host.extensions]
                if self.host.context and not self.protocol:
                    offered = [one for one in offered if one != "REQUIRETLS"] + ["STARTTLS"]
                self.say("\r\n".join("250-" + one for one in offered[:-1]) +
                         ("\r\n" if offered[:-1] else "") + "250 " + offered[-1])
            elif verb == "STARTTLS" and self.host.context:
                self.say("220 go")
                self.file.close()
                self.connection = self.host.context.wrap_socket(self.connection, server_side=True)
                self.file = self.connection.makefile("rb")
                self.protocol = self.connection.version()
            elif verb == "MAIL":
                sender, recipients = rest, []
                self.say("250 ok")
            elif verb == "RCPT":
                recipients.append(rest)
                self.say("250 ok")
            elif verb == "DATA":
                self.say("354 go")
                content = b""
                while not content.endswith(b"\r\n.\r\n"):
                    got = self.file.readline()
                    if not got:
                        raise EOFError
                    content += got
                self.host.messages.append((self.protocol, sender, recipients, content[:-3]))
                self.say("250 kept")
            elif verb == "QUIT":
                self.say("221 bye")
                self.connection.shutdown(socket.SHUT_RDWR)
                return
            else:
                self.say("250 ok" if verb in ("RSET", "NOOP") else "502 no")
