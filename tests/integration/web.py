#!/usr/bin/python3
"""postrider-web over a real daemon: metrics that a real Prometheus understands, the API and what it refuses, the
page in the hands of clients that are slow, many or hostile."""
import base64
import collections
import concurrent.futures
import email
import email.policy
import http.client
import json
import os
import pathlib
import re
import shutil
import signal
import smtplib
import socket
import subprocess
import time
import unittest

import jsonschema

from support_py import local_users, milter, scenario, sink, wait
from support_py.daemon import BIN

ETC = pathlib.Path(__file__).resolve().parents[2] / "etc" / "monitoring"
ORDER = {"from": "Shop <shop@us.example>", "to": "ann@far.example", "subject": "Grüße", "text": "Thank you.", "tag": "order 17"}
MESSAGE = b"From: <a@ext.example>\r\nSubject: <script>alert(1)</script>\r\n\r\nhi\r\n"


class Web:
    """The process, on a port of its own, with a token of each role."""

    def __init__(self, server, port=None, **settings):
        self.port = port or wait.free_port()
        self.tokens = server.folder / "web.tokens"
        server.write_config(web={"listen": [f"localhost:{self.port}"], "tokens": str(self.tokens), "user": "", **settings})
        self.config = server.config_file
        self.environment = server.environment()
        self.token = {role: self.run("token", role, "tester").stdout.strip() for role in ("read", "change", "send")}
        with open(server.folder / "web.log", "ab") as log:
            self.process = subprocess.Popen([BIN / "postrider-web", "-c", self.config], env=self.environment, stderr=log)
        try:
            wait.until(self.answers, lambda: f"an answer of postrider-web: {(server.folder / 'web.log').read_text()}")
        except BaseException:
            self.stop()
            raise

    def run(self, *arguments, check=True):
        return subprocess.run([BIN / "postrider-web", "-c", self.config, *arguments], env=self.environment, text=True,
                              check=check, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60)

    def answers(self):
        try:
            return self.get("/healthz")[0] == 200
        except OSError:
            return False

    def ask(self, method, path, body=None, token=None, **fields):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=wait.DEADLINE)
        try:
            if token:
                fields["Authorization"] = f"Bearer {self.token.get(token, token)}"
            connection.request(method, path, body, {key.replace("_", "-"): value for key, value in fields.items()})
            answer = connection.getresponse()
            return answer.status, answer.read(), answer
        finally:
            connection.close()

    def get(self, path, token=None, **fields):
        return self.ask("GET", path, None, token, **fields)

    def api(self, path, token="read"):
        status, body, _ = self.get("/api/v1/" + path, token)
        return status, json.loads(body)

    def post(self, verb, change, token="change", **fields):
        status, body, _ = self.ask("POST", f"/api/v1/queue/{verb}", json.dumps(change), token,
                                   **{"Content_Type": "application/json", **fields})
        return status, json.loads(body)

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(wait.DEADLINE)


class WithWeb(scenario.Scenario):
    def setUp(self):
        super().setUp()
        self.peer = self.sink(script={"rcpt": lambda _, argument: "451 4.7.1 greylisted" if "later" in argument else None})
        self.server = self.relay(self.peer)
        self.web = self.using(Web(self.server))

    def filtered(self, answers=None):
        """From now on with a milter."""
        filter_ = self.using(milter.Scripted(self.own_folder("milter") / "m.sock", answers))
        self.server.write_config(milter=[{"address": filter_.path, "name": "scan"}])
        self.server.postrider("reload")
        return filter_

    def scraped(self):
        text = self.web.get("/metrics")[1].decode()
        return {key: float(value) for key, value in
                (line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))}

    def leave_waiting(self, count=3):
        self.peer.stop()
        for number in range(count):
            self.server.send("a@ext.example", f"b{number}@far.example", MESSAGE)
        wait.until(lambda: len([one for one in self.server.queue() if one["recipients"][0].get("delay_reason")]) == count,
                   "a reason to wait")


class Pages(WithWeb):
    def test_metrics_say_what_status_says(self):
        self.server.send("a@ext.example", "b@far.example", MESSAGE)
        self.peer.wait_for(1)
        self.server.wait_until_empty()

        def scraped():
            text = self.web.get("/metrics")[1].decode()
            return dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
        values = wait.until(lambda: (lambda found: found if found.get("postrider_queue_recipients_delivered_total") == "1"
                                     else None)(scraped()), "a delivery in the metrics", pause=0.2)
        self.assertEqual(values["postrider_up"], "1")
        self.assertEqual(values["postrider_queue_messages_accepted_total"], "1")
        self.assertEqual(values["postrider_queue_messages"], "0")
        for name in ("accept", "delivery_first_attempt", "delivery"):
            self.assertEqual(values[f"postrider_{name}_seconds_count"], "1", name)
            self.assertEqual(values[f'postrider_{name}_seconds_bucket{{le="+Inf"}}'], "1", name)
        self.assertGreater(int(values["postrider_queue_commit_seconds_count"]), 0)
        self.assertEqual(values['postrider_delivery_deferrals_by_class_total{class="rate"}'], "0")
        by_tool = self.server.postrider("status", "--prometheus")
        self.assertIn("postrider_queue_messages_accepted_total 1\n", by_tool)
        if tool := shutil.which("promtool"):
            for text in (by_tool, self.web.get("/metrics")[1].decode()):
                done = subprocess.run([tool, "check", "metrics"], input=text, text=True, stdout=subprocess.PIPE,
                                      stderr=subprocess.STDOUT, timeout=60)
                self.assertEqual((done.returncode, done.stdout), (0, ""))
        self.server.stop()
        wait.until(lambda: scraped()["postrider_up"] == "0", "metrics of a daemon that is down", pause=0.2)
        self.assertEqual(self.web.get("/healthz")[0], 200)
        self.assertEqual(self.web.get("/readyz")[0], 503)
        self.server.start()
        wait.until(lambda: self.web.get("/readyz")[0] == 200, "readiness", pause=0.2)

    def test_metrics_of_filters_storage_sites_and_reasons(self):
        self.filtered({"R": [milter.frame(milter.GO_ON), milter.frame(milter.REJECT)]})
        self.server.send("a@ext.example", "b@far.example", MESSAGE)
        self.peer.wait_for(1)
        self.server.wait_until_empty()
        with smtplib.SMTP("127.0.0.1", self.server.port) as client:
            client.helo("mx.ext.example")
            client.docmd("MAIL", "FROM:<a@ext.example>")
            self.assertEqual(client.docmd("RCPT", "TO:<b@far.example>")[0] // 100, 5)
            self.assertEqual(client.docmd("MAIL", "FROM:<a")[0] // 100, 5)
        values = wait.until(lambda: (lambda found: found if found.get('postrider_milter_replies_total{milter="scan",reply="reject"}') == 1
                                     else None)(self.scraped()), "an answer of the milter in the metrics", pause=0.2)
        one = 'milter="scan"'
        self.assertEqual(values[f"postrider_milter_up{{{one}}}"], 1)
        self.assertEqual(values[f"postrider_milter_conversations_total{{{one}}}"], 2)
        self.assertEqual(values[f"postrider_milter_messages_total{{{one}}}"], 1)
        self.assertEqual(values[f"postrider_milter_failures_total{{{one}}}"], 0)
        answers = values[f"postrider_milter_answer_seconds_count{{{one}}}"]
        self.assertGreater(answers, 5)
        self.assertEqual(answers, sum(value for name, value in values.items() if name.startswith("postrider_milter_replies_total")))
        self.assertEqual(values[f'postrider_milter_answer_seconds_bucket{{{one},le="+Inf"}}'], answers)
        reasons = {name: value for name, value in values.items() if name.startswith("postrider_smtp_rejections_by_reason")}
        self.assertEqual(sum(reasons.values()), values["postrider_smtp_rejections_total"])
        self.assertEqual(len(reasons), 8)
        self.assertEqual(values['postrider_delivery_recipients_by_tls_total{version="none"}'], 1)
        self.assertEqual(values['postrider_sites_by_state{state="open"}'], values["postrider_sites"])
        self.assertEqual(sum(name.startswith("postrider_site_connection_limit{") for name in values), 1)
        self.assertGreater(values["postrider_queue_log_bytes"], 4096)
        self.assertGreater(values["postrider_queue_log_pages_written_total"], values["postrider_queue_log_pages"] - 1)
        wait.until(lambda: self.scraped()["postrider_queue_log_checkpoint_seconds_count"] > 0, "a checkpoint in the metrics", pause=0.2)
        self.assertGreater(values["postrider_process_threads"], 3)
        if tool := shutil.which("promtool"):
            done = subprocess.run([tool, "check", "metrics"], input=self.web.get("/metrics")[1].decode(), text=True,
                                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60)
            self.assertEqual((done.returncode, done.stdout), (0, ""))

    def test_log_counters_and_metrics_have_the_same_numbers(self):
        """Of a run with every end: sent, refused, put off by a reply, by a host that is not there, untried behind it,
        local trouble, a lifetime that ends; then of another run over the same queue."""
        self.peer.script = {"rcpt": lambda session, address: {
            "grey": "450 4.2.0 greylisted", "gone": "550 5.1.1 no such user"}.get(address.partition("@")[0])}
        program = self.server.folder / "later"
        program.write_text("#!/bin/sh\nexit 75\n")
        program.chmod(0o755)
        (self.server.folder / "aliases").write_text(f'slow: "|{program}"\n')
        self.server.write_config(
            delivery={"retry": ["300ms", "1h"], "lifetime": "1d"},
            route=[{"domain": "dead.example", "next_hop": "smtp://127.0.0.1:9", "tls": "off"},
                   *scenario.to(self.peer)["route"]])
        self.server.restart()
        self.server.send("a@ext.example", ["b@far.example", "grey@far.example", "gone@far.example"], MESSAGE)
        self.server.send("a@ext.example", ["slow@us.example"], MESSAGE)
        self.server.send("a@ext.example", [f"x{number}@dead.example" for number in range(3)], MESSAGE)
        self.server.wait_for_log("site_blocked")
        for number in range(4):  # these wait untried
            self.server.send("a@ext.example", [f"y{number}@dead.example", f"z{number}@dead.example"], MESSAGE)
        self.server.wait_for_log("deferred", 8)
        self.assert_same_numbers(untried=8)
        # For the first message to the dead host a connection was tried; local trouble is not the network's.
        self.assertEqual(self.classes(), {"greylisted", "busy", "network"})
        self.server.restart()  # what waits is deferred already; more comes to wait
        self.server.send("a@ext.example", ["w@dead.example"], MESSAGE)
        self.server.wait_for_log("deferred", 9)
        self.server.postrider("queue", "bounce", "--to", "grey@far.example")
        self.server.postrider("queue", "remove", "--to", "y1@dead.example")
        self.server.wait_for_log("bounced", to="grey@far.example")
        self.assert_same_numbers(untried=1)

    def classes(self):
        start = 'postrider_delivery_deferrals_by_class_total{class="'
        return {name[len(start):-2] for name, value in self.scraped().items() if name.startswith(start) and value}

    def assert_same_numbers(self, untried):
        """Since the last start; until what was logged is recorded too, and the metrics are fresh."""
        def numbers():
            entries = self.server.log()
            begun = max(at for at, entry in enumerate(entries) if entry["event"] == "started")
            logged = collections.Counter(
                (entry["event"], entry.get("verdict")) for entry in entries[begun:]
                if entry["event"] in ("attempted", "deferred", "bounced"))
            wanted = {"delivered": logged["attempted", "sent"],
                      "bounced": logged["attempted", "bounced"] + logged["bounced", None],
                      "deferrals": logged["attempted", "deferred"], "untried": logged["deferred", None]}
            counted = json.loads(self.server.postrider("status", "--json"))["since_start"]
            metrics = self.scraped()
            names = {"delivered": "recipients_delivered", "bounced": "recipients_bounced", "deferrals": "deferrals",
                     "untried": "recipients_untried"}
            return [wanted, {key: counted[key] for key in wanted},
                    {key: int(metrics[f"postrider_queue_{names[key]}_total"]) for key in wanted},
                    {**wanted, **{key: int(metrics[f"postrider_delivery_recipients_{word}_total"])
                                  for key, word in (("delivered", "delivered"), ("bounced", "bounced"),
                                                    ("deferrals", "deferred"))}}]

        def agree():
            first, *others = numbers()
            return all(each == first for each in others)
        wait.until(agree, lambda: str(numbers()), pause=0.3)
        self.assertGreaterEqual(numbers()[0]["untried"], untried)
        by_class = sum(int(value) for name, value in self.scraped().items()
                       if name.startswith("postrider_delivery_deferrals_by_class_total"))
        self.assertEqual(by_class, numbers()[0]["deferrals"])

    def test_the_queue_is_asked_and_changed_with_a_dry_run_first(self):
        self.leave_waiting(3)
        status, listed = self.web.api("queue?domain=far.example&limit=2")
        self.assertEqual((status, len(listed["messages"]), listed["more"]), (200, 2, True))
        self.assertIn("refused", listed["messages"][0]["recipients"][0]["delay_reason"].lower())
        self.assertEqual(self.web.api("queue/count?domain=far.example")[1], {"messages": 3, "recipients": 3})
        identifier = listed["messages"][0]["queue_id"]
        status, shown = self.web.api(f"messages/{identifier}", "change")
        self.assertEqual((status, shown["message"]["queue_id"]), (200, identifier))
        self.assertIn("Subject: <script>alert(1)</script>", shown["content"])
        status, explained = self.web.api(f"explain?target={identifier}")
        self.assertEqual(status, 200)
        self.assertTrue(any(fact["what"] == "conclusion" for fact in explained["facts"]), explained)
        would = self.web.post("hold", {"domain": "far.example", "dry_run": True})
        self.assertEqual(would, (200, {"messages": 3, "recipients": 3, "dry_run": True}))
        self.assertEqual(self.web.api("queue/count?status=held")[1]["messages"], 0)
        self.assertEqual(self.web.post("hold", {"domain": "far.example"})[1]["messages"], 3)
        self.assertEqual(self.web.api("queue/count?status=held")[1]["messages"], 3)
        self.assertEqual(self.web.post("remove", {"id": [identifier]})[1]["messages"], 1)
        self.peer.start()
        self.assertEqual(self.web.post("release", {"all": True})[1]["messages"], 2)
        self.peer.wait_for(2)
        self.server.wait_until_empty()
        self.assertEqual(self.web.api("messages/" + identifier)[0], 404)

    def test_what_became_of_mail_that_is_gone(self):
        self.server.send("ann@ext.example", ["gone@far.example", "also@far.example"], MESSAGE.replace(b"Subject", b"Message-ID: <1@ext.example>\r\nSubject"))
        self.peer.wait_for(1)
        self.server.wait_until_empty()

        def traced(query):
            """A step comes to the trace in a moment."""
            def ask():
                status, found = self.web.api("trace?" + query)
                return found if status == 200 and len(found.get("messages", [{}])[0].get("events", "...")) == wanted else None
            return wait.until(ask, f"a trace of {query}", pause=0.2)
        wanted = 3
        message, = traced("target=%3C1@ext.example%3E")["messages"]
        self.assertEqual(sorted(step["event"] for step in message["events"]), ["accepted", "delivered", "delivered"])
        self.assertEqual(message, json.loads(self.server.postrider("trace", message["id"], "--json"))["messages"][0])
        self.assertNotIn("queued", message)
        self.assertEqual(self.web.api("messages/" + message["id"])[0], 404)
        wanted = 2
        self.assertEqual(traced("target=gone@far.example")["messages"][0]["events"][-1]["to"], "gone@far.example")
        with smtplib.SMTP("127.0.0.1", self.server.port) as client:
            client.helo("mx.ext.example")
            client.docmd("MAIL", "FROM:<eve@bad.example>")
            self.assertEqual(client.docmd("RCPT", "TO:<nobody-here@us.example>")[0] // 100, 5)
        wanted = 3  # of "..."
        refused, = traced("rejected=true&from=eve@bad.example")["refused"]
        self.assertEqual((refused["to"], refused["helo"]), ("nobody-here@us.example", "mx.ext.example"))
        status, answer = self.web.api("trace?target=nobody@far.example")
        self.assertEqual(status, 404)
        self.assertIn("the trace goes back to", answer["error"]["message"])
        self.assertEqual(self.web.api("trace")[0], 400)
        self.assertEqual(self.web.api("trace?since=yesterday")[0], 400)
        self.assertEqual(self.web.api("trace?target=a", "send")[0], 403)

    def test_who_may_not_does_not(self):
        self.leave_waiting(1)
        for token in (None, "wrong", self.web.token["read"][:-1]):
            self.assertEqual(self.web.get("/api/v1/queue", token)[0], 401)
        self.assertEqual(self.web.post("remove", {"all": True}, "read")[0], 403)
        self.assertEqual(self.web.post("remove", {"all": True}, Origin="https://evil.test")[0], 403)
        self.assertEqual(self.web.post("remove", {"all": True}, Content_Type="text/plain")[0], 415)
        self.assertEqual(self.web.get("/healthz", Host="evil.test")[0], 421)
        self.assertEqual(self.web.api("queue/count")[1]["messages"], 1)
        answers = [self.web.get("/api/v1/queue", f"guess{number}")[0] for number in range(20)]
        self.assertEqual(set(answers), {401})
        self.assertEqual(self.web.get("/api/v1/queue", "read")[0], 401)  # this address waits a minute

    def test_tokens_are_kept_as_digests_and_taken_back_at_once(self):
        text = self.web.tokens.read_text()
        for token in self.web.token.values():
            self.assertNotIn(token, text)
        self.assertEqual(self.web.tokens.stat().st_mode & 0o777, 0o640)
        self.assertEqual(self.web.api("whoami", "change"), (200, {"role": "change"}))
        kept = [line for line in text.splitlines(True) if line.startswith("read")]
        self.web.tokens.write_text("".join(kept))
        self.assertEqual(self.web.get("/api/v1/whoami", "change")[0], 401)
        self.assertEqual(self.web.api("whoami", "read"), (200, {"role": "read"}))
        self.web.tokens.chmod(0o666)
        self.assertEqual(self.web.get("/api/v1/whoami", "read")[0], 401)

    def test_slow_and_silent_clients_hold_up_none(self):
        silent = [socket.create_connection(("127.0.0.1", self.web.port)) for _ in range(600)]
        try:
            for number, one in enumerate(silent):
                if number % 2:
                    one.sendall(b"GET /healthz HTTP/1.1\r\nHost: loc")
            for _ in range(10):
                self.assertEqual(self.web.get("/healthz")[0], 200)
        finally:
            for one in silent:
                one.close()
        self.assertEqual(self.web.get("/healthz")[0], 200)

    def test_what_is_no_request_is_refused_and_the_next_one_answered(self):
        for wrong in (b"\x16\x03\x01\x00\x01", b"GET / HTTP/1.1\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
                      b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n",
                      b"GET /" + b"x" * 100000, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10000000\r\n\r\n"):
            with socket.create_connection(("127.0.0.1", self.web.port), timeout=wait.DEADLINE) as client:
                try:
                    client.sendall(wrong)
                    client.shutdown(socket.SHUT_WR)
                    answer = client.recv(4096)
                except OSError:
                    answer = b""
            self.assertNotRegex(answer, rb"^HTTP/1.1 2", wrong[:40])
            self.assertEqual(self.web.get("/healthz")[0], 200)

    def test_the_page_is_there_and_may_load_only_itself(self):
        for path, kind in (("/", "text/html"), ("/page.js", "text/javascript"), ("/page.css", "text/css"), ("/icon.svg", "image/svg+xml")):
            status, body, answer = self.web.get(path)
            self.assertEqual((status, answer.getheader("Content-Type").split(";")[0]), (200, kind))
            self.assertGreater(len(body), 100)
            self.assertIn("default-src 'none'", answer.getheader("Content-Security-Policy"))
        status, body, answer = self.web.ask("HEAD", "/page.js")
        self.assertEqual((status, body), (200, b""))
        self.assertGreater(int(answer.getheader("Content-Length")), 1000)

    def test_each_answer_is_as_the_api_description_says(self):
        self.leave_waiting(1)
        status, body, answer = self.web.get("/openapi.json")
        self.assertEqual((status, answer.getheader("Content-Type")), (200, "application/json"))
        described = json.loads(body)
        identifier = self.server.queue()[0]["queue_id"]
        queries = {"/api/v1/explain": "?target=b0@far.example", "/api/v1/trace": "?target=b0@far.example", "/api/v1/queue": "?limit=1&domain=far.example"}
        asked = 0
        for path, operations in described["paths"].items():
            for method, operation in operations.items():
                real = path.replace("{id}", identifier)
                bodies = [(None, real + queries.get(path, ""))]
                user, wanted = "change", "200"
                if path == "/api/v1/messages":
                    user, wanted, bodies = "send", "202", [(json.dumps(ORDER), path)]
                    jsonschema.validate(ORDER, {"$ref": "#/components/schemas/Mail", "components": described["components"]})
                elif path.startswith("/api/v1/session") and method == "post":  # with PAM: see PamUsers
                    user, wanted, bodies = None, "401" if "end" in path else "404", [('{"user": "a", "password": "b"}', path)]
                elif method == "post":
                    bodies = [('{"all": true, "dry_run": true}', real.replace("{verb}", verb))
                              for verb in operation["parameters"][0]["schema"]["enum"]]
                for sent, target in bodies:
                    code, body, answer = self.web.ask(method.upper(), target, sent, user, Content_Type="application/json")
                    self.assertEqual(code, int(wanted), target)
                    kind = answer.getheader("Content-Type").split(";")[0]
                    content = operation["responses"][wanted]["content"][kind]
                    if kind == "application/json":
                        jsonschema.validate(json.loads(body), {**content["schema"], "components": described["components"]})
                    asked += 1
                if operation["security"]:
                    code, body, _ = self.web.ask(method.upper(), bodies[0][1], bodies[0][0], Content_Type="application/json")
                    self.assertEqual(code, 401, path)
                    jsonschema.validate(json.loads(body), {**described["components"]["schemas"]["Error"],
                                                           "components": described["components"]})
        self.assertGreater(asked, 12)

    def test_it_ends_with_a_signal(self):
        self.web.process.send_signal(signal.SIGTERM)
        self.assertEqual(self.web.process.wait(wait.DEADLINE), 0)


class Sending(WithWeb):
    """Mail from applications, by POST /api/v1/messages."""

    def setUp(self):
        super().setUp()
        self.restarted = None

    def order(self, body, token="send", key=None, **fields):
        if key:
            fields["Idempotency_Key"] = key
        body = body if isinstance(body, (bytes, str)) else json.dumps(body)
        status, text, answer = self.web.ask("POST", "/api/v1/messages", body, token, **{"Content_Type": "application/json", **fields})
        return status, json.loads(text), answer

    def test_a_request_is_a_message_that_another_program_reads(self):
        picture = bytes(range(256)) * 40
        status, taken, _ = self.order({
            **ORDER, "to": ["ann@far.example", "Bob <bob@far.example>"], "cc": "c@far.example", "bcc": ["secret@far.example"],
            "html": "<p>Danke, <b>Łukasz</b></p>", "headers": {"X-Order": "17"},
            "attachments": [{"filename": "Rechnung für Łukasz.png", "type": "image/png", "content": base64.b64encode(picture).decode()}]})
        self.assertEqual(status, 202, taken)
        self.peer.wait_for(1)
        message = self.peer.messages[0]
        self.assertEqual(sorted(message.addresses), [f"{name}@far.example" for name in ("ann", "bob", "c", "secret")])
        self.assertEqual(message.sender, "shop@us.example")
        read = email.message_from_bytes(message.content, policy=email.policy.SMTP)
        self.assertEqual((read["subject"], read["to"], read["cc"], read["bcc"], read["x-order"]),
                         ("Grüße", "ann@far.example, Bob <bob@far.example>", "c@far.example", None, "17"))
        self.assertIsNotNone(read["date"])
        self.assertIsNotNone(read["message-id"])
        self.assertEqual(read.get_body(("plain",)).get_content().strip(), "Thank you.")
        self.assertIn("Łukasz", read.get_body(("html",)).get_content())
        [attached] = read.iter_attachments()
        self.assertEqual((attached.get_filename(), attached.get_content()), ("Rechnung für Łukasz.png", picture))
        accepted = self.server.log("accepted")[0]
        self.assertEqual((accepted["id"], accepted["protocol"], accepted["user"]), (taken["id"], "http", "tester"))
        status, taken, _ = self.order({"from": "a@us.example", "to": "raw@far.example", "raw": "Subject: whole\n\nbody\n"})
        self.assertEqual(status, 202, taken)
        self.peer.wait_for(2)
        self.assertIn(b"Subject: whole\r\n\r\nbody\r\n", self.peer.messages[1].content)

    def test_what_was_acknowledged_outlives_kills_and_a_key_is_one_message(self):
        keys = {f"order {number}": {**ORDER, "to": f"n{number}@far.example"} for number in range(12)}
        ids = {}
        for number, (key, body) in enumerate(keys.items()):
            def taken():
                try:
                    status, answer, _ = self.order(body, key=key)
                except OSError:  # it was killed
                    return None
                self.assertIn(status, (202, 503), answer)
                return answer.get("id")
            if number % 4 == 1:
                self.server.kill()
                self.assertEqual(self.order(body, key=key)[0], 503)
                self.server.start()
            ids[key] = wait.until(taken, "a message in custody", pause=0.1)
            if number % 4 == 3:
                self.server.kill()
                self.server.start()
            if number % 4 == 2:  # the web server ends without an answer
                self.web.process.kill()
                self.web.process.wait()
                self.web = self.using(Web(self.server))
        for key, body in keys.items():
            status, answer, fields = self.order(body, key=key)
            self.assertEqual((status, answer["id"], fields.getheader("Idempotent-Replayed")), (202, ids[key], "true"))
        self.assertEqual(self.order({**ORDER, "subject": "other"}, key="order 1")[0], 422)
        self.server.wait_until_empty()
        tried = [message.addresses[0] for message in self.peer.messages]
        self.assertEqual(sorted(set(tried)), sorted(body["to"] for body in keys.values()))
        self.assertEqual(len(set(ids.values())), len(ids))

    def test_bad_input_is_a_clear_answer_and_no_mail(self):
        ten = base64.b64encode(os.urandom(10_000_000)).decode()
        injected = "x\r\nBcc: all@far.example"
        cases = [
            ("no JSON", "no JSON", 400), ("[]", "no object", 400), ("", "nothing", 400), (b"\xff\xfe{}", "no UTF-8", 400),
            ("[" * 60000, "deep", 413), ('{"a":' * 10000 + "1" + "}" * 10000, "deep", 413),
            ("{" + ",".join(f'"k{n}":1' for n in range(5000)) + "}", "wide", 413),
            ({**ORDER, "attachments": [{"content": ten}]}, "10 MB", 413),
            ({**ORDER, "to": ["a@far.example"] * 1001}, "recipients", 413),
            ({**ORDER, "color": "red"}, "unknown", 400), ({**ORDER, "to": []}, "nobody", 400),
            ({**ORDER, "attachments": [{"content": "%%%"}]}, "base64", 400)]
        cases += [({**ORDER, member: injected}, member, 400) for member in ("from", "to", "cc", "bcc", "reply_to", "subject", "tag")]
        cases += [({**ORDER, "headers": headers}, "headers", 400) for headers in (
            {"X-A": injected}, {injected: "x"}, {"Bcc": "all@far.example"}, {"Content-Type": "text/x"}, {"a b": "c"})]
        cases += [({**ORDER, "attachments": [{"content": "", member: injected}]}, member, 400)
                  for member in ("filename", "type", "content_id")]
        for body, what, wanted in cases:
            status, answer, _ = self.order(body)
            self.assertEqual((status, answer["error"]["status"]), (wanted, wanted), (what, answer))
            self.assertGreater(len(answer["error"]["message"]), 10)
        self.assertEqual(self.order(ORDER, None)[0], 401)
        self.assertEqual(self.order(ORDER, "wrong")[0], 401)
        self.assertEqual(self.order({**ORDER, "attachments": [{"content": ten[:2_000_000]}]}, "wrong")[0], 401)
        self.assertEqual(self.order({**ORDER, "attachments": [{"content": ten[:2_000_000]}]}, "change")[0], 403)
        self.assertEqual(self.order(ORDER, "read")[0], 403)
        self.assertEqual(self.order(ORDER, Content_Type="text/plain")[0], 415)
        self.assertEqual(self.order(ORDER, Origin="https://evil.test")[0], 403)
        self.assertEqual(self.order(ORDER, key="x" * 256)[0], 400)
        self.assertEqual(self.web.api("queue/count", "send")[0], 403)
        self.assertEqual(self.server.log("accepted"), [])
        self.assertEqual(self.order({**ORDER, "attachments": [{"content": ten[:6_000_000]}]})[0], 202)
        self.peer.wait_for(1)

    def test_a_token_has_the_limits_of_a_user(self):
        self.server.stop()
        self.server.write_config(sendmail={"messages_per_hour": 3})
        self.server.start()
        self.assertEqual([self.order(ORDER)[0] for _ in range(3)], [202] * 3)
        status, answer, fields = self.order(ORDER)
        self.assertEqual(status, 429, answer)
        self.assertIsNotNone(fields.getheader("Retry-After"))
        self.assertEqual(self.server.wait_for_log("user_limited")[0]["user"], "token tester")
        other = self.web.run("token", "send", "another").stdout.strip()
        self.assertEqual(self.order(ORDER, other)[0], 202)

    def test_curl_sends_what_is_large_when_it_may(self):
        if not (tool := shutil.which("curl")):
            self.skipTest("needs curl")
        body = self.server.folder / "body"
        body.write_text(json.dumps({**ORDER, "text": "x" * 3_000_000}))
        done = subprocess.run([tool, "-sS", "--expect100-timeout", "50", "-w", "%{http_code}", "-H", f"Authorization: Bearer {self.web.token['send']}", "-H", "Expect: 100-continue",
                               "-H", "Content-Type: application/json", "--data-binary", f"@{body}",
                               f"http://127.0.0.1:{self.web.port}/v1/messages"], text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=wait.DEADLINE)
        self.assertEqual((done.returncode, done.stdout[-3:]), (0, "202"), done.stdout)

    def test_many_bodies_together_have_a_bound(self):
        """Hundreds of clients with all but the end of the largest that each may send; and what becomes mail at
        one time, which is read, decoded and written."""
        size, announced = 9 << 20, 9
        whole = json.dumps({"from": "a@us.example", "to": "big@far.example", "raw": "Subject: s\n\n" + "x" * (size - 200)})
        whole += " " * (size - len(whole))
        bearer = f"Authorization: Bearer {self.web.token['send']}\r\n"
        head = f"POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n%s\r\n"
        peak = lambda: int(re.search(r"VmHWM:\s+(\d+)", pathlib.Path(f"/proc/{self.web.process.pid}/status").read_text())[1]) >> 10
        before, open_ones = peak(), []
        self.addCleanup(lambda: [one.close() for one in open_ones])

        def connect():
            one = socket.create_connection(("127.0.0.1", self.web.port), timeout=wait.DEADLINE)
            open_ones.append(one)
            return one
        admitted, refused = [], 0
        for _ in range(announced):
            one = connect()
            one.sendall((head % ("/api/v1/messages", size, bearer + "Expect: 100-continue\r\n")).encode())
            answer = one.recv(4096)
            if answer.startswith(b"HTTP/1.1 100"):
                one.sendall(whole[:-10].encode())
                admitted.append(one)
            else:
                self.assertTrue(answer.startswith(b"HTTP/1.1 503"), answer)
                refused += 1
        self.assertEqual((len(admitted), refused), (5, announced - 5), "48 MiB in all")
        for _ in range(200):
            long = "X-Long: " + "h" * 15000 + "\r\n"
            connect().sendall((head % ("/api/v1/queue/hold", 65536, long)).encode() + b"{" * 65000)
        self.assertEqual([self.web.get("/healthz")[0] for _ in range(20)], [200] * 20)
        self.assertEqual(self.order(ORDER)[0], 202)
        half = peak()
        for one in admitted:
            one.sendall(whole[-10:].encode())
        for one in admitted:
            answer = one.recv(4096)
            self.assertTrue(answer.startswith(b"HTTP/1.1 202"), answer)
        self.assertEqual(self.web.get("/healthz")[0], 200)
        print(f"peak of postrider-web, MiB: {before} at first, {half} with the bodies, {peak()} when they had become mail")
        self.assertLess(half - before, 48 + 48)
        self.assertLess(peak() - before, 48 * 5)


def playwright():
    """The folder with playwright-core in it, from npm; it brings no browser of its own."""
    folder = pathlib.Path(os.environ["POSTRIDER_BIN"]).parent / "npm-playwright"
    if not (folder / "node_modules" / "playwright-core" / "package.json").exists():
        subprocess.run(["npm", "install", "--no-audit", "--no-fund", "--no-save", "--prefix", folder,
                        "playwright-core@1.57.0"], check=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=300)
    return folder


@unittest.skipUnless(shutil.which("chromium") and shutil.which("npm"), "needs chromium and npm")
class Browsed(WithWeb):
    def test_every_view_in_a_real_browser(self):
        try:
            folder = playwright()
        except subprocess.CalledProcessError as problem:
            self.skipTest(f"npm does not install playwright-core: {problem.stderr.decode()[-200:]}")
        self.server.send('"<script>alert(2)</script>"@ext.example', "gone@far.example", MESSAGE.replace(b"Subject", b"Message-ID: <<b>3</b>@ext.example>\r\nSubject"))
        self.peer.wait_for(1)
        self.server.wait_until_empty()
        gone = self.server.log("accepted")[0]["id"]
        wait.until(lambda: self.web.api("history")[1]["time"], "a first sample")
        self.server.send("a@ext.example", "later@far.example", MESSAGE)  # a deferral for the plot
        self.server.wait_for_log("attempted", verdict="deferred")
        wait.until(lambda: self.server.queue("--status", "deferred"), "a message that waits")
        self.server.postrider("queue", "remove", "--to", "later@far.example")
        self.leave_waiting(5)
        script = pathlib.Path(__file__).with_name("web_page.js").read_text()
        (folder / "page.js").write_text(script)
        done = subprocess.run(["node", folder / "page.js", shutil.which("chromium"), f"http://127.0.0.1:{self.web.port}/",
                               self.web.token["change"], self.server.queue()[0]["queue_id"], gone], text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=200)
        self.assertEqual((done.returncode, done.stdout.strip()), (0, "[]"), done.stderr)
        self.assertEqual({one["status"] for one in self.server.queue()}, {"held"})


@unittest.skipUnless(scenario.is_root(), "a PAM service needs a file in /etc/pam.d: run as root")
class PamUsers(WithWeb):
    """Users of this system who log in with a password; pam_exec stands for any module, and is right for everybody whose
    password is "secret-" and the name. Of Debian's own users games may change, mail (by its group) read, backup nothing."""

    def setUp(self):
        super().setUp()
        self.asked = self.server.folder / "asked"
        judge = self.server.folder / "judge"
        judge.write_text(f'#!/bin/sh\nread -r p\necho "$PAM_USER $PAM_RHOST" >>{self.asked}\n[ "$p" = "secret-$PAM_USER" ]\n')
        judge.chmod(0o755)
        self.service = f"postrider-web-test-{os.getpid()}"
        with open("/etc/pam.d/" + self.service, "w") as file:
            file.write(f"auth [success=1 default=ignore] pam_exec.so expose_authtok quiet {judge}\n"
                       "auth requisite pam_deny.so\nauth required pam_permit.so\naccount required pam_permit.so\n")
        self.addCleanup(os.unlink, "/etc/pam.d/" + self.service)
        self.web.stop()
        self.web = self.using(Web(self.server, pam=self.service, pam_read=["@mail"], pam_change=["games"]))
        self.server.reload()
        self.door = self.server.folder / "web-login"
        wait.until(lambda: self.helper(), "the helper of the page")

    def helper(self):
        for path in pathlib.Path("/proc").glob("[0-9]*"):
            try:
                words = (path / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if words[:2] == [b"postrider-pam", self.service.encode()]:
                return int(path.name)
        return None

    def log_in(self, user, password=None, body=None, **fields):
        fields = {"Content_Type": "application/json", **fields}
        body = body if body is not None else json.dumps({"user": user, "password": password or f"secret-{user}"})
        return self.web.ask("POST", "/api/v1/session", body, **fields)

    def session(self, user, **fields):
        """The header fields of one."""
        status, body, answer = self.log_in(user, **fields)
        self.assertEqual(status, 200, body)
        return {"Cookie": answer.getheader("Set-Cookie").split(";")[0], "Postrider_Session_Key": json.loads(body)["key"]}

    def remove(self, **fields):
        body = json.dumps({"all": True, "dry_run": True})
        return self.web.ask("POST", "/api/v1/queue/remove", body, **{"Content_Type": "application/json", **fields})[0]

    def told(self, name):
        return [line for line in (self.server.folder / "web.log").read_text().splitlines() if name in line]

    def test_a_user_logs_in_reads_or_changes_and_leaves(self):
        self.assertEqual(json.loads(self.web.get("/api/v1/session")[1]), {"password": True})
        reader, changer = self.session("mail"), self.session("games")
        for fields, role, code in ((reader, "read", 403), (changer, "change", 200)):
            status, body, _ = self.web.get("/api/v1/whoami", **fields)
            self.assertEqual((status, json.loads(body)), (200, {"role": role, "user": {"read": "mail", "change": "games"}[role]}))
            self.assertEqual(self.web.get("/api/v1/queue", **fields)[0], 200)
            self.assertEqual(self.remove(**fields), code)
        self.assertEqual(self.web.ask("POST", "/api/v1/messages", json.dumps(ORDER), Content_Type="application/json", **changer)[0], 403)
        described = json.loads(self.web.get("/openapi.json")[1])
        status, body, answer = self.web.ask("POST", "/api/v1/session/end", "{}", Content_Type="application/json", **changer)
        for path, text in (("session/end", body), ("session", self.log_in("mail")[1])):
            schema = described["paths"]["/api/v1/" + path]["post"]["responses"]["200"]["content"]["application/json"]["schema"]
            jsonschema.validate(json.loads(text), {**schema, "components": described["components"]})
        self.assertEqual((status, "Max-Age=0" in answer.getheader("Set-Cookie")), (200, True))
        self.assertEqual(self.web.get("/api/v1/whoami", **changer)[0], 401)
        self.assertEqual(self.web.get("/api/v1/whoami", **reader)[0], 200)
        self.assertEqual(len(self.told("web_login ")), 3)
        self.assertEqual(len(self.told("web_logout")), 1)
        self.assertEqual(self.asked.read_text().split(), ["mail", "127.0.0.1", "games", "127.0.0.1", "mail", "127.0.0.1"])

    def test_a_cookie_or_a_key_alone_is_nothing(self):
        """Another port of this host is sent the cookie; a script that gets at the tab's storage has the key."""
        fields, other = self.session("games"), self.session("mail")
        for wrong in ({"Cookie": fields["Cookie"]}, {"Postrider_Session_Key": fields["Postrider_Session_Key"]},
                      {**fields, "Postrider_Session_Key": other["Postrider_Session_Key"]},
                      {**fields, "Cookie": "postrider-session=" + "0" * 64}, {**fields, "Cookie": "postrider-session="},
                      {**fields, "Postrider_Session_Key": fields["Postrider_Session_Key"][:-1]}):
            self.assertEqual(self.web.get("/api/v1/queue", **wrong)[0], 401, wrong)
            self.assertEqual(self.remove(**wrong), 401, wrong)
            self.assertEqual(self.web.ask("POST", "/api/v1/session/end", "{}", Content_Type="application/json", **wrong)[0], 401)
        self.assertEqual(self.remove(**{**fields, "Cookie": "a=b; " + fields["Cookie"] + "; c=d"}), 200)

    def test_another_sites_page_neither_logs_in_nor_changes(self):
        fields = self.session("games")
        for wrong, code in (({"Origin": "https://evil.test"}, 403), ({"Origin": "null"}, 403), ({"Content_Type": "text/plain"}, 415),
                            ({"Content_Type": "application/x-www-form-urlencoded"}, 415), ({"Host": "evil.test"}, 421)):
            self.assertEqual(self.remove(**{**fields, **wrong}), code, wrong)
            self.assertEqual(self.log_in("games", **wrong)[0], code, wrong)
        self.assertEqual(self.web.ask("OPTIONS", "/api/v1/queue/remove", Origin="http://localhost:1")[0], 405)
        self.assertEqual(self.remove(**fields), 200)

    def test_the_cookie_is_for_no_script_and_over_tls_for_tls_alone(self):
        own = f"http://localhost:{self.web.port}"
        for origin, is_secure in ((own, False), ("https://localhost", True)):
            field = self.log_in("games", Origin=origin)[2].getheader("Set-Cookie")
            self.assertRegex(field, "^postrider-session=[0-9a-f]{64}; Path=/; HttpOnly; SameSite=Strict")
            self.assertEqual("Secure" in field, is_secure)

    def test_passwords_are_not_guessed_for_ever(self):
        held = self.session("games")
        with concurrent.futures.ThreadPoolExecutor(30) as pool:
            answers = list(pool.map(lambda number: self.log_in(f"backup{number % 3}", "guess")[0], range(30)))
        self.assertLessEqual(set(answers), {401, 429, 503})
        self.assertLessEqual(answers.count(401), 10)
        begun = time.monotonic()
        while (found := self.log_in("backup", "guess")[0]) != 429:
            self.assertLess(time.monotonic() - begun, 60, "it goes on")
        asked = len(self.asked.read_text().splitlines())
        self.assertLess(asked, 13)
        self.assertEqual(self.log_in("mail")[0], 429, "nor with what is right, from there")
        self.assertEqual(len(self.asked.read_text().splitlines()), asked, "which PAM is not asked about")
        self.assertEqual(self.session("games").keys(), held.keys(), "but who has logged in from there can")
        self.assertEqual(self.remove(**held), 200)
        self.assertEqual(len(self.told("web_logins_limited")), 1)
        self.assertEqual(len(self.told("web_login_refused")), 10)

    def test_who_may_not_log_in_is_told_as_late_as_whose_password_is_wrong(self):
        took = {}
        for user, password in (("backup", "secret-backup"), ("nobody-of-this-name", "x"), ("games", "wrong"), ("root", "x")):
            begun = time.monotonic()
            status, body, answer = self.log_in(user, password)
            took[user] = time.monotonic() - begun
            self.assertEqual((status, json.loads(body)["error"]["message"], answer.getheader("Set-Cookie")),
                             (401, "this user with this password may not log in", None), user)
        self.assertGreater(min(took.values()), 3.9)
        self.assertLess(max(took.values()) - min(took.values()), 0.5, took)
        self.assertEqual([line.split()[0] for line in self.asked.read_text().splitlines()], [":", ":", "games", ":"],
                         "nobody's password is tested but theirs")

    def test_what_is_no_login_reaches_no_pam(self):
        for body, code in (("", 400), ("[]", 400), ('{"user": "games"}', 400), ('{"user": 1, "password": "x"}', 400),
                           ('{"user": "games", "password": "x", "role": "change"}', 400), ("{" * 60000, 400)):
            self.assertEqual(self.log_in("", body=body)[0], code, body[:40])
        wrong = [{"user": "games\0", "password": "secret-games"}, {"user": "g" * 70, "password": "x"}, {"user": "", "password": "x"},
                 {"user": "games", "password": ""}, {"user": "games", "password": "x" * 5000}, {"user": "games", "password": "secret-games\0x"}]
        for one in wrong:
            self.assertEqual(self.log_in("", body=json.dumps(one))[0], 401, one)
        self.assertFalse(self.asked.exists())
        self.log_in("a\r\nweb_login user=games", "x")
        self.assertEqual([line for line in self.told("web_login ") if "web_login_refused" not in line], [], "a name makes no line of the log")

    def test_the_helper_outlives_garbage_and_is_started_again(self):
        for packet in (b"x", b"\0\0\0", b"games", b"a" * 5000, b"games\0"):
            with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as one:
                one.settimeout(wait.DEADLINE)
                one.connect(str(self.door))
                one.send(packet)
                self.assertIn(one.recv(16)[:1], (b"t", b""), packet)
        silent = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.addCleanup(silent.close)
        silent.connect(str(self.door))
        self.assertEqual(self.log_in("games")[0], 200, "who says nothing is not waited for")
        first = self.helper()
        os.kill(first, signal.SIGKILL)
        self.assertEqual(self.log_in("games")[0], 200, "a question waits in the socket")
        self.assertNotEqual(self.helper(), first)
        last = self.helper()
        self.server.kill()
        wait.until(lambda: not os.path.exists(f"/proc/{last}"), "its end with the daemon's")
        status, body, answer = self.log_in("games")
        self.assertEqual((status, answer.getheader("Retry-After")), (503, "30"), body)
        self.assertEqual(len(self.told("web_login_not_judged")), 1)

    def test_a_reload_changes_who_may(self):
        self.server.write_config(web={"listen": [f"localhost:{self.web.port}"], "tokens": str(self.web.tokens), "user": "",
                                      "pam": self.service, "pam_read": ["games"], "pam_change": []})
        before = self.helper()
        self.server.reload()
        wait.until(lambda: self.helper() not in (None, before), "another helper")
        self.assertEqual(json.loads(self.log_in("games")[1])["role"], "read")
        self.assertEqual(self.log_in("mail")[0], 401)
        self.server.write_config(web={"listen": [f"localhost:{self.web.port}"], "tokens": str(self.web.tokens), "user": "",
                                      "pam": "", "pam_read": []})
        self.server.reload()
        wait.until(lambda: not self.helper() and not self.door.exists(), "its end")
        self.assertEqual(self.log_in("games")[0], 503)

    def test_a_name_that_is_misspelt_is_said_by_the_check(self):
        settings = {"listen": [f"localhost:{self.web.port}"], "tokens": str(self.web.tokens), "user": "", "pam": self.service}
        self.server.write_config(web={**settings, "pam_read": ["gamse"], "pam_change": ["@no-such-group"]})
        done = self.server.tool("postrider", "check", "-c", self.server.config_file, check=False)
        said = done.stdout + done.stderr
        self.assertIn('web.pam_read: "gamse" is not of this system', said)
        self.assertIn('web.pam_change: "@no-such-group" is not of this system', said)


@unittest.skipUnless(scenario.FULL, "20,000 messages: --full")
@unittest.skipUnless(shutil.which("chromium") and shutil.which("npm"), "needs chromium and npm")
class BrowsedFull(scenario.Scenario):
    """Every view with much mail for many sites. POSTRIDER_SHOTS: a folder for its pictures."""
    MESSAGES = int(os.environ.get("POSTRIDER_MESSAGES", 20000))
    SITES = 500
    WORDS = ("greylisted, please try again in 300 seconds", "4.2.2 mailbox is full", "4.7.0 too many messages from 192.0.2.1; slow down",
             "4.3.2 system not accepting messages now: <b>maintenance</b> until 04:00 UTC, see https://status.example/" + "x" * 60)

    def domain(self, number):
        return f"domain-{(number * 7 + number // self.SITES) % self.SITES}.example"

    def reply(self, _, address):
        """Of a fifth of the mail that it is taken; the rest waits."""
        number = int(address.partition("@")[0].lstrip("u"))
        return None if number % 5 == 0 else f"451 {self.WORDS[number % 4]}"

    def setUp(self):
        super().setUp()
        self.peer = self.using(sink.Sink(address="0.0.0.0", script={"rcpt": self.reply}, keep_content=False))
        closed = wait.free_port()
        routes = self.own_folder("routes") / "routes"
        routes.write_text("".join(f"domain-{number}.example smtp://127.0.{number // 250 + 1}.{number % 250 + 1}:"
                                  f"{closed if number % 25 == 0 else self.peer.port}\n" for number in range(self.SITES)))
        self.server = self.daemon(delivery={"retry": ["2h"], "route_map": f"text:{routes}"},
                                  accept={"relay_from": ["127.0.0.0/8"], "sessions_per_client": 50}, log={"level": "warn"})
        self.web = self.using(Web(self.server, pam="postrider", pam_read=["games"]))

    def send_many(self, first):
        with smtplib.SMTP("127.0.0.1", self.server.port) as client:
            client.ehlo("app.us.example")
            for number in range(first, self.MESSAGES, 8):
                client.sendmail(f"news-{number % 40}@us.example", f"u{number}@{self.domain(number)}",
                                f"From: News <news-{number % 40}@us.example>\r\nSubject: issue {number}\r\n\r\n" + "text\r\n" * (number % 200))

    def test_every_view_with_much_mail(self):
        try:
            folder = playwright()
        except subprocess.CalledProcessError as problem:
            self.skipTest(f"npm does not install playwright-core: {problem.stderr.decode()[-200:]}")
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            list(pool.map(self.send_many, range(8)))
        # Those of sites that refuse connections wait untried.
        wait.until(lambda: json.loads(self.server.postrider("queue", "count", "--status", "queued", "--json"))["messages"] == 0,
                   "an attempt of all", 600, pause=1)
        self.server.postrider("queue", "hold", "--domain", "domain-3.example")
        wait.until(lambda: len(self.web.api("history")[1]["time"]) > 1, "samples", 60, pause=1)
        held = self.server.queue("--domain", "domain-3.example")[0]["queue_id"]
        waiting = self.server.queue("--domain", "domain-10.example")[0]
        to = waiting["recipients"][0]["address"]
        gone = next(number for number in range(5, self.MESSAGES, 5) if "5.example" not in self.domain(number) and "0.example" not in self.domain(number))
        views = [["#/", ".plot svg[aria-label^='Deferrals by class']", "no alarms"], ["#/queue", "table", "the first 100"],
                 ["#/queue?status=deferred&reply=greylisted", "table", "greylisted"], ["#/queue?status=held", "table", "held"],
                 ["#/sites", ".plot svg[aria-label^='Found limits']", "busiest"], [f"#/message?id={waiting['queue_id']}", "pre", "subject: issue"],
                 [f"#/message?id={held}", "pre", "subject: issue"], [f"#/explain?target={to}", "table", "conclusion"],
                 ["#/explain?target=domain-25.example", "table", "conclusion"], [f"#/trace?target={to}", "table", to],
                 [f"#/trace?target=u{gone}@{self.domain(gone)}", "table", "delivered"]]
        (folder / "page.js").write_text(pathlib.Path(__file__).with_name("web_page.js").read_text())
        environment = {**os.environ, "VIEWS": json.dumps(views)}
        if shots := os.environ.get("POSTRIDER_SHOTS"):
            environment["SHOTS"] = shots
        done = subprocess.run(["node", folder / "page.js", shutil.which("chromium"), f"http://127.0.0.1:{self.web.port}/",
                               self.web.token["change"], "", ""], text=True, env=environment,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=1500)
        self.assertEqual((done.returncode, done.stdout.strip()), (0, "[]"), done.stderr)


class ReadOnly(local_users.LocalUsers):
    def test_a_read_token_gets_no_content_no_table_and_no_path(self):
        server = self.machine('robot: "|/bin/false --password=aliassecret"\n', delivery={"retry": ["1h"]})
        forward = self.write(self.home / "ann" / ".forward", '"|/bin/false --password=forwardsecret"\n')
        for owned in (self.home / "ann", forward):
            if os.getuid() == 0:
                os.chown(owned, 900, 900)
        server.start()
        web = self.using(Web(server))
        self.remote.stop()
        server.send("a@ext.example", "b@far.example", b"Subject: subjectsecret\r\n\r\nbodysecret\r\n")
        wait.until(lambda: server.queue(), "a message that waits")
        name = server.queue()[0]["queue_id"]
        secrets = ("aliassecret", "forwardsecret", "subjectsecret", "bodysecret", str(server.folder), str(self.home))
        targets = ["explain?target=robot@us.example", "explain?target=ann@us.example", f"explain?target={name}",
                   f"messages/{name}", "status", "queue", "trace?target=b@far.example"]
        for target in targets:
            with self.subTest(target):
                code, body, _ = web.get(f"/api/v1/{target}", "read")
                self.assertEqual(code, 200, body)
                self.assertEqual([secret for secret in secrets if secret in body.decode()], [])
        for query in ("?body=true", "?body", "?body=1&x=2"):
            code, answer = web.api(f"messages/{name}{query}", "read")
            self.assertEqual((code, "does not see the content" in answer["error"]["message"]), (403, True), answer)
        for target, secret in (("explain?target=robot@us.example", "aliassecret"),
                               ("explain?target=ann@us.example", "forwardsecret"),
                               (f"messages/{name}", "subjectsecret"), (f"messages/{name}?body=true", "bodysecret")):
            self.assertIn(secret, json.dumps(web.api(target, "change")), target)


class Files(WithWeb):
    """What etc/monitoring has for other programs."""

    def run_tool(self, *command, **settings):
        path = f"{BIN}:{os.environ['PATH']}"
        return subprocess.run(command, env={**self.server.environment(), "PATH": path}, text=True, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, timeout=60, **settings)

    def test_the_check_for_nagios_says_well_and_not_well(self):
        check = ETC / "check_postrider"
        done = self.run_tool(check)
        self.assertEqual((done.returncode, done.stdout.split(":")[0]), (0, "POSTRIDER OK"))
        self.leave_waiting(3)
        done = self.run_tool(check, "-w", "2", "-c", "10")
        self.assertEqual((done.returncode, done.stdout.split("|")[0]), (1, "POSTRIDER WARNING: 3 messages wait"))
        done = self.run_tool(check, "-w", "2", "-c", "3")
        self.assertEqual(done.returncode, 2)
        self.assertEqual(self.run_tool(check, "-x").returncode, 3)
        self.server.stop()
        done = self.run_tool(check)
        self.assertEqual((done.returncode, done.stdout.split(":")[0]), (2, "POSTRIDER CRITICAL"))

    def test_the_plugin_for_munin_has_the_states(self):
        self.leave_waiting(2)
        told = self.run_tool(ETC / "munin_postrider", "config").stdout
        self.assertIn("graph_title", told)
        self.assertEqual(re.findall(r"(?m)^(\w+)\.label (\w+)$", told), [(state, state) for state in ("active", "queued", "deferred", "held")])
        values = dict(line.split(" ") for line in self.run_tool(ETC / "munin_postrider").stdout.splitlines())
        self.assertEqual(values["deferred.value"], "2")
        self.assertEqual(set(values), {"active.value", "queued.value", "deferred.value", "held.value"})

    def test_every_metric_that_alerts_dashboard_and_manual_name_is_there(self):
        self.filtered()
        self.leave_waiting(1)
        with smtplib.SMTP("127.0.0.1", self.server.port) as client:
            client.helo("mx.ext.example")
            self.assertEqual(client.docmd("MAIL", "FROM:<a")[0], 501)  # a code to count
        def scraped():
            lines = self.web.get("/metrics")[1].decode().splitlines()
            names = {line.split("{")[0].split(" ")[0] for line in lines if not line.startswith("#")}
            return names if "postrider_site_waiting_recipients" in names and \
                "postrider_smtp_rejections_by_code_total" in names else None  # it is up to a second old
        names = wait.until(scraped, "a site in trouble in the metrics", pause=0.2)
        dashboard = json.loads((ETC / "grafana-dashboard.json").read_text())
        asked = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
        asked += re.findall(r"postrider_\w+", (ETC / "alerts.yml").read_text())
        asked += re.findall(r"`(postrider_\w+)`", (ETC.parents[1] / "doc" / "metrics.md").read_text())
        expressions = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
        self.assertEqual(len(set(expressions)), len(expressions), "a curve that is drawn twice")
        for target in (target for panel in dashboard["panels"] for target in panel["targets"]):
            name = {"deferred": "deferrals"}.get(target["legendFormat"], target["legendFormat"])
            if name in ("accepted", "delivered", "deferrals", "bounced", "sessions", "oldest", "memory", "lookups", "queries", "timeouts", "failed"):
                self.assertIn(name, target["expr"])
        for name in {name for text in asked for name in re.findall(r"postrider_\w+", text)}:
            self.assertIn(name, names)
        if tool := shutil.which("promtool"):
            done = self.run_tool(tool, "check", "rules", ETC / "alerts.yml")
            self.assertEqual(done.returncode, 0, done.stdout)


    def stub(self, text, code=0):
        """Stands for `postrider`, whose figures are these."""
        folder = self.own_folder("stub")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "figures").write_text(text)
        (folder / "postrider").write_text(f'#!/bin/sh\n[ "$*" = "status --prometheus" ] || exit 64\ncat {folder}/figures\nexit {code}\n')
        (folder / "postrider").chmod(0o755)
        return folder

    def test_the_check_for_nagios_looks_at_each_figure(self):
        well = {"up": 1, "accepts_mail": 1, "queue_messages": 5, "queue_oldest_age_seconds": 60, "alarms": 0,
                "configuration_refused": 0, "queue_recipients_delivered_total": 77}
        for changed, options, code, words in (
                ({}, [], 0, "OK: 5 messages wait|messages=5;1000;10000 oldest=60s;14400 delivered=77c"),
                ({"up": 0}, [], 2, "CRITICAL: the daemon does not run|"), ({"accepts_mail": 0}, [], 2, "CRITICAL: mail is not accepted|"),
                ({"queue_messages": 999}, [], 0, "OK: 999 messages wait|"), ({"queue_messages": 1000}, [], 1, "WARNING: 1000 messages wait|"),
                ({"queue_messages": 9999}, [], 1, "WARNING: 9999"), ({"queue_messages": 10000}, [], 2, "CRITICAL: 10000"),
                ({"queue_oldest_age_seconds": 14399}, [], 0, "OK: 5"),
                ({"queue_oldest_age_seconds": 14400}, [], 1, "WARNING: the oldest message is 14400 s old|"),
                ({}, ["-a", "60"], 1, "WARNING: the oldest message is 60 s old|"), ({}, ["-a", "61"], 0, "OK: 5"),
                ({"alarms": 2}, [], 1, "WARNING: 2 alarms|"), ({"configuration_refused": 1}, [], 1, "WARNING: the configuration was refused|"),
                ({"alarms": 1, "queue_messages": 6}, ["-w", "2", "-c", "6"], 2, "CRITICAL: 6 messages wait, 1 alarms|messages=6;2;6 ")):
            folder = self.stub("# HELP x\n" + "".join(f"postrider_{name} {value}\n" for name, value in {**well, **changed}.items()))
            done = subprocess.run([ETC / "check_postrider", *options], env={**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"},
                                  text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60)
            self.assertEqual((done.returncode, done.stdout[:len("POSTRIDER " + words)]), (code, "POSTRIDER " + words))

    @unittest.skipUnless(shutil.which("promtool"), "needs promtool")
    def test_each_alert_is_raised_by_its_figure_at_its_limit_and_not_below(self):
        """By promtool: a series in each minute, and what is raised behind the time that a rule waits."""
        up = {"up": "1", "accepts_mail": "1"}
        cases = (
            ("PostriderDown", {"up": "0"}, up, 2), ("PostriderDown", {}, up, 2), ("PostriderAcceptsNoMail", {**up, "accepts_mail": "0"}, up, 2),
            ("PostriderAlarm", {**up, "alarms": "1"}, {**up, "alarms": "0"}, 5),
            ("PostriderConfigurationRefused", {**up, "configuration_refused": "1"}, {**up, "configuration_refused": "0"}, 1),
            ("PostriderOldMail", {**up, "queue_oldest_age_seconds": "14401"}, {**up, "queue_oldest_age_seconds": "14400"}, 15),
            ("PostriderQueueGrows", {**up, "queue_messages": "1001+1"}, {**up, "queue_messages": "1001+0"}, 40),
            ("PostriderQueueGrows", {**up, "queue_messages": "1001+1"}, {**up, "queue_messages": "800+1"}, 40),
            ("PostriderBouncesMuch", {**up, "queue_recipients_bounced_total": "0+12", "queue_recipients_delivered_total": "0+100"},
             {**up, "queue_recipients_bounced_total": "0+12", "queue_recipients_delivered_total": "0+120"}, 45),
            ("PostriderQuarantine", {**up, 'queue_messages_by_state{state="quarantined"}': "1"},
             {**up, 'queue_messages_by_state{state="quarantined"}': "0", 'queue_messages_by_state{state="held"}': "5"}, 0))
        self.assertEqual({case[0] for case in cases}, set(re.findall(r"alert: (\w+)", (ETC / "alerts.yml").read_text())))
        for name, bad, good, minutes in cases:
            for series, is_raised in ((bad, True), (good, False)):
                values = [{"series": f"postrider_{metric}", "values": value + "x60" if "+" in value else f"{value}+0x60"}
                          for metric, value in series.items()]
                expression = f"count(ALERTS{{alertname=\"{name}\",alertstate=\"firing\"}}) or vector(0)"
                test = {"rule_files": [str(ETC / "alerts.yml")], "evaluation_interval": "1m", "tests": [{
                    "interval": "1m", "input_series": values or [{"series": "none", "values": "1+0x60"}], "promql_expr_test": [
                        {"expr": expression, "eval_time": f"{minutes + 2 if is_raised else 50}m",
                         "exp_samples": [{"labels": "{}", "value": int(is_raised)}]}]}]}
                path = self.own_folder("rules").with_suffix(".json")
                path.write_text(json.dumps(test))
                done = self.run_tool("promtool", "test", "rules", path)
                self.assertEqual(done.returncode, 0, f"{name}, {series}: {done.stdout}")


class Configured(WithWeb):
    def test_names_of_hosts_and_whether_metrics_need_a_token_come_from_the_configuration(self):
        self.assertEqual(self.web.get("/metrics")[0], 200)
        self.assertEqual(self.web.get("/healthz", Host="mail.proxy.example")[0], 421)
        self.web.stop()
        self.web = self.using(Web(self.server, hosts=["Mail.Proxy.example"], metrics_need_token=True))
        self.assertEqual([self.web.get("/metrics", token)[0] for token in (None, "wrong", "send", "read", "change")],
                         [401, 401, 403, 200, 200])
        for host, code in (("mail.proxy.EXAMPLE", 200), ("mail.proxy.example:443", 200), ("proxy.example", 421), ("localhost", 200)):
            self.assertEqual(self.web.get("/healthz", Host=host)[0], code, host)
        self.assertEqual(self.web.get("/healthz", Host="MX.us.example:8025")[0], 200, "hostname")
        self.assertEqual(self.web.post("hold", {"all": True, "dry_run": True}, Origin="https://mail.proxy.example")[0], 200)
        self.assertEqual(self.web.post("hold", {"all": True, "dry_run": True}, Origin="https://proxy.example")[0], 403)


    def test_it_is_confined(self):
        status = pathlib.Path(f"/proc/{self.web.process.pid}/status").read_text()
        self.assertRegex(status, r"(?m)^Seccomp:\t2$")
        self.assertRegex(status, r"(?m)^NoNewPrivs:\t1$")

    def test_an_address_that_others_reach_is_warned_of(self):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
            try:
                one.connect(("192.0.2.77", 9))  # sends nothing
                own = one.getsockname()[0]
            except OSError:
                own = "127.0.0.1"
        self.web.stop()
        port = wait.free_port()
        named = [f"localhost:{port}", f"127.0.0.2:{port}", f"unix:{self.server.folder}/page"]
        others = [f"{own}:{port}"] if not own.startswith("127.") else [f"0.0.0.0:{wait.free_port()}"]
        log = self.server.folder / "web.log"
        log.write_text("")
        self.web = self.using(Web(self.server, listen=named + others, port=port))
        self.assertEqual(re.findall(r"web_in_clear.*?address=\"?([^ \"]+)", log.read_text()), others)


class WithoutOne(scenario.Scenario):
    def test_it_says_what_is_missing(self):
        server = self.daemon(start=False)
        server.write_config()
        done = subprocess.run([BIN / "postrider-web", "-c", server.config_file], env=server.environment(), text=True,
                              stderr=subprocess.PIPE, timeout=60)
        self.assertEqual(done.returncode, os.EX_CONFIG)
        self.assertIn("web.listen", done.stderr)


@unittest.skipUnless(shutil.which("prometheus"), "needs prometheus")
class Scraped(scenario.Scenario):
    def test_a_real_prometheus_scrapes_and_an_alert_fires_and_clears(self):
        peer = self.sink()
        server = self.relay(peer)
        web = self.using(Web(server))
        folder = self.own_folder("prometheus")
        port = wait.free_port()
        (folder / "rules.yml").write_text(json.dumps({"groups": [{"name": "postrider", "interval": "1s", "rules": [
            {"alert": "PostriderDown", "expr": "postrider_up == 0", "for": "0s"},
            {"alert": "PostriderSitesInTrouble", "expr": "postrider_sites_in_trouble > 0", "for": "0s"}]}]}))
        (folder / "prometheus.yml").write_text(json.dumps({
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"}, "rule_files": ["rules.yml"],
            "scrape_configs": [{"job_name": "postrider", "static_configs": [{"targets": [f"127.0.0.1:{web.port}"]}]}]}))
        log = open(folder / "log", "ab")
        process = subprocess.Popen(["prometheus", f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data",
                                    f"--web.listen-address=127.0.0.1:{port}"], stdout=log, stderr=log)

        def ask(path):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
            try:
                connection.request("GET", path)
                return json.loads(connection.getresponse().read())["data"]
            except (OSError, ValueError, KeyError, http.client.HTTPException):
                return None
            finally:
                connection.close()

        def firing():
            found = ask("/api/v1/alerts") or {"alerts": []}
            return {one["labels"]["alertname"] for one in found["alerts"] if one["state"] == "firing"}
        try:
            up = wait.until(lambda: (ask("/api/v1/query?query=postrider_up") or {}).get("result"), "a scrape", pause=0.5)
            self.assertEqual(up[0]["value"][1], "1")
            peer.stop()
            server.send("a@ext.example", "b@far.example", MESSAGE)
            wait.until(lambda: "PostriderSitesInTrouble" in firing(), "an alert", pause=0.5)
            peer.start()
            server.retry_all()
            wait.until(lambda: not firing(), "no alert any more", pause=0.5)
            server.stop()
            wait.until(lambda: "PostriderDown" in firing(), "an alert", pause=0.5)
            server.start()
            wait.until(lambda: not firing(), "no alert any more", pause=0.5)
        finally:
            process.terminate()
            process.wait(wait.DEADLINE)


if __name__ == "__main__":
    scenario.main()
