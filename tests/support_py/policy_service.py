"""A policy service in the way of Postfix's check_policy_service, whose answers are scripted."""
import socket

from support_py.listening import Listening

DROP, HANG = object(), object()


class PolicyService(Listening):
    """answers: {a recipient, or a state and a recipient: an action}; others get `usual`. An action is text, DROP or
    HANG. `asked` has the attributes of each question, `connections` how many there were."""

    def __init__(self, answers=None, usual="DUNNO", questions=None):
        self.answers, self.usual, self.most = dict(answers or {}), usual, questions
        self.asked, self.connections = [], 0
        listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{listener.getsockname()[1]}"
        self.listen(listener)

    def began(self):
        self.connections += 1

    def serve(self, one, _):
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
                    to = attributes.get("recipient")
                    action = self.answers.get((attributes.get("protocol_state"), to), self.answers.get(to, self.usual))
                    attributes, count = {}, count + 1
                    if action is DROP:
                        return
                    if action is not HANG:
                        one.sendall(f"action={action}\n\n".encode())
                    if count == self.most:
                        return
        except OSError:
            pass
