"""A token endpoint (RFC 6749 section 6) over HTTPS, from the document, not from our code."""
import base64
import http.server
import json
import socketserver
import ssl
import threading
import urllib.parse

from support_py import wait


class TokenEndpoint:
    """Trades the refresh tokens in `refresh` for access tokens that `issue` names, one after the
    other; each is put into `good` (the smarthost's set of tokens) if there is one. `answer` may be
    set to (status, text) for every request, or to a function that does as it likes with the
    handler."""

    CLIENT = ("client-1", "s3cret &+% x")

    def __init__(self, certificate, refresh=("refresh-1",), lifetime=3600, good=None):
        self.refresh, self.lifetime, self.good = set(refresh), lifetime, good
        self.answer, self.rotate = None, False
        self.asked, self.issued = [], []
        self.lock = threading.Lock()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        endpoint = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"])).decode()
                form = {name: values[0] for name, values in
                        urllib.parse.parse_qs(body, strict_parsing=True).items()}
                with endpoint.lock:
                    endpoint.asked.append((self.path, form, self.headers["Authorization"]))
                    answer = endpoint.answer
                if callable(answer):
                    answer(self)
                else:
                    self.give(*(answer or endpoint.judge(form, self.headers)))

            def give(self, status, text):
                data = text.encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json;charset=UTF-8")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_):
                pass

        class Server(socketserver.ThreadingTCPServer):
            allow_reuse_address = True
            daemon_threads = True

            def finish_request(self, request, client):
                request.settimeout(wait.DEADLINE)
                try:
                    with context.wrap_socket(request, server_side=True) as secured:
                        super().finish_request(secured, client)
                except (OSError, ValueError):
                    pass

            def handle_error(self, *_):
                pass

        self.server = Server(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        self.url = f"https://localhost:{self.port}/oauth2/token?tenant=1"
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def client_of(self, form, headers):
        given = headers["Authorization"]
        if given is None:
            return form.get("client_id"), form.get("client_secret")
        name, _, secret = base64.b64decode(given.split(" ")[1]).decode().partition(":")
        return urllib.parse.unquote_plus(name), urllib.parse.unquote_plus(secret)

    def judge(self, form, headers):
        if self.client_of(form, headers) != self.CLIENT:
            return 401, json.dumps({"error": "invalid_client"})
        with self.lock:
            if form.get("grant_type") != "refresh_token" or \
                    form.get("refresh_token") not in self.refresh:
                return 400, json.dumps({"error": "invalid_grant",
                                        "error_description": "the refresh token is revoked"})
            token = f"access-{len(self.issued) + 1}." + "x" * 600
            self.issued.append(token)
            if self.good is not None:
                self.good.add(token)
            answer = {"access_token": token, "token_type": "Bearer", "expires_in": self.lifetime}
            if self.rotate:
                self.refresh = {f"refresh-{len(self.issued) + 1}"}
                answer["refresh_token"], = self.refresh
        return 200, json.dumps(answer)

    def credentials(self, user, **more):
        values = {"user": user, "token_endpoint": self.url, "client_id": self.CLIENT[0],
                  "client_secret": self.CLIENT[1], "refresh_token": "refresh-1", **more}
        return "".join(f"{key} = {value}\n" for key, value in values.items() if value)

    def stop(self):
        self.server.shutdown()
        self.server.server_close()
