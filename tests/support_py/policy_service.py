"""A policy service in the way of Postfix's check_policy_service, whose answers are scripted."""
import socket
import threading

from support_py import wait

DROP, HANG = object(), object()


class PolicyService:
    """answers: {a recipient: an action}; others get `usual`. An action is text, DROP or HANG. `asked` has the attributes
    of each question, `connections` how many there were."""

    def __init__(self, answers=None, usual="DUNNO", questions=None):
        self.answers, self.usual, self.most = dict(answers or {}), usual, questions
        self.asked, self.connections, self.open = [], 0, []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self.listener.getsockname()[1]}"
        self.thread = threading.Thread(target=self.accept, daemon=True)
        self.thread.start()

    def stop(self):
        try:
            self.listener.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.listener.close()
        for one in list(self.open):
            try:
                one.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        self.thread.join(wait.DEADLINE)

    def accept(self):
        workers = []
        while True:
            try:
                one, _ = self.listener.accept()
            except OSError:
                break
            self.connections += 1
            self.open.append(one)
            workers.append(threading.Thread(target=self.serve, args=(one,), daemon=True))
            workers[-1].start()
        for worker in workers:
            worker.join(wait.DEADLINE)

    def serve(self, one):
        count, attributes = 0, {}
        try:
            with one, one.makefile("rb") as lines:
                for line in lines:
                    line = line.rstrip(b"\n").decode("utf-8", "backslashreplace")
                    if line:
                        name, _, value = line.partition("=")
                        attributes[name] = value
                        continue
                    self.asked.append(attributes)
                    action = self.answers.get(attributes.get("recipient"), self.usual)
                    attributes, count = {}, count + 1
                    if action is DROP:
                        return
                    if action is not HANG:
                        one.sendall(f"action={action}\n\n".encode())
                    if count == self.most:
                        return
        except OSError:
            pass
