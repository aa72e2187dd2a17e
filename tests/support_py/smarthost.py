"""A smarthost that asks who you are: STARTTLS and AUTH with each mechanism, the server's side from
the documents, not from our code."""
import base64
import hashlib
import hmac
import os
import socketserver
import ssl
import threading

from support_py import wait


def b64(data):
    return base64.b64encode(data).decode()


class Smarthost:
    """accounts: {user: password}; tokens: the access tokens that are good now."""

    def __init__(self, certificate, mechanisms, accounts=None, tokens=(), tls=True):
        self.mechanisms, self.accounts, self.tokens = mechanisms, accounts or {}, set(tokens)
        self.tls = tls
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(certificate)
        self.logins, self.refused, self.messages = [], [], []
        self.port = wait.free_port()
        outer = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self):
                try:
                    Conversation(outer, self.request).run()
                except (OSError, EOFError):
                    pass

        socketserver.ThreadingTCPServer.allow_reuse_address = True
        self.server = socketserver.ThreadingTCPServer(("127.0.0.1", self.port), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self):
        self.server.shutdown()
        self.server.server_close()


class Conversation:
    def __init__(self, host, connection):
        self.host, self.connection, self.secure, self.user = host, connection, False, None
        self.file = connection.makefile("rb")

    def say(self, text):
        self.connection.sendall(text.encode() + b"\r\n")

    def hear(self):
        line = self.file.readline()
        if not line:
            raise EOFError
        return line.decode().rstrip("\r\n")

    def ask(self, challenge=b""):
        self.say("334 " + b64(challenge))
        return base64.b64decode(self.hear())

    def run(self):
        self.say("220 smarthost")
        while True:
            line = self.hear()
            verb = line.split(" ")[0].split(":")[0].upper()
            if verb == "EHLO":
                lines = ["smarthost"]
                if self.secure or not self.host.tls:
                    lines.append("AUTH " + " ".join(self.host.mechanisms))
                if self.host.tls and not self.secure:
                    lines.append("STARTTLS")
                for text in lines[:-1]:
                    self.say("250-" + text)
                self.say("250 " + lines[-1])
            elif verb == "STARTTLS":
                self.say("220 go")
                self.connection = self.host.context.wrap_socket(self.connection, server_side=True)
                self.file = self.connection.makefile("rb")
                self.secure = True
            elif verb == "AUTH":
                self.login(*line.split(" ")[1:])
            elif verb == "DATA":
                self.say("354 go")
                content = []
                while (text := self.hear()) != ".":
                    content.append(text)
                self.host.messages.append((self.user, content))
                self.say("250 2.0.0 taken")
            elif verb == "QUIT":
                self.say("221 bye")
                return
            elif verb == "MAIL" and self.user is None:
                self.say("530 5.7.0 log in first")
            else:
                self.say("250 2.0.0 ok")

    def login(self, mechanism, initial=None):
        first = None if initial is None else base64.b64decode(initial) if initial != "=" else b""
        try:
            user = getattr(self, "by_" + mechanism.replace("-", "_").lower())(first)
        except ValueError:
            user = None
        if user is None:
            self.host.refused.append(mechanism)
            self.say("535 5.7.8 credentials are not good")
            return
        self.user = user
        self.host.logins.append((mechanism, user, self.secure))
        self.say("235 2.7.0 welcome")

    def known(self, user, password):
        return user if self.host.accounts.get(user) == password else None

    def by_plain(self, first):
        _, user, password = (self.ask() if first is None else first).decode().split("\0")
        return self.known(user, password)

    def by_login(self, _):
        return self.known(self.ask(b"Username:").decode(), self.ask(b"Password:").decode())

    def by_cram_md5(self, _):
        challenge = b"<1.2@smarthost>"
        user, digest = self.ask(challenge).decode().split(" ")
        wanted = hmac.new(self.host.accounts.get(user, "").encode(), challenge, "md5").hexdigest()
        return user if digest == wanted else None

    def by_scram_sha_256(self, first):
        bare = first.decode().split(",", 2)[2]
        fields = dict(part.split("=", 1) for part in bare.split(","))
        salt, rounds = os.urandom(16), 4096
        salted = hashlib.pbkdf2_hmac("sha256", self.host.accounts.get(fields["n"], "").encode(),
                                     salt, rounds)
        server_first = f"r={fields['r']}{os.urandom(9).hex()},s={b64(salt)},i={rounds}"
        final = self.ask(server_first.encode()).decode()
        without, proof = final.rsplit(",p=", 1)
        message = ",".join((bare, server_first, without)).encode()
        key = hmac.new(salted, b"Client Key", "sha256").digest()
        signature = hmac.new(hashlib.sha256(key).digest(), message, "sha256").digest()
        if bytes(a ^ b for a, b in zip(key, signature)) != base64.b64decode(proof):
            return None
        server_key = hmac.new(salted, b"Server Key", "sha256").digest()
        self.ask(b"v=" + b64(hmac.new(server_key, message, "sha256").digest()).encode())
        return fields["n"]

    def token(self, first, user, end):
        # A long one comes behind an empty challenge (RFC 4954 section 4).
        fields = (self.ask() if first is None else first).decode().split("\1")
        given = next(part for part in fields if part.startswith("auth=Bearer "))[12:]
        if given in self.host.tokens:
            return user(fields[0])
        if self.ask(b'{"status":"invalid_token"}') != end:
            raise ValueError("the error was not acknowledged")
        return None

    def by_xoauth2(self, first):
        return self.token(first, lambda head: head[5:], b"")

    def by_oauthbearer(self, first):
        return self.token(first, lambda head: head.split("a=")[1].rstrip(","), b"\1")
