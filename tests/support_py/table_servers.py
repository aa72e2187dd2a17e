"""Servers that answer tables, each private to a test."""
from support_py import scenario, wait

CONTENT = b"From: <ann@src.example>\r\nSubject: hello\r\n\r\nx\r\n"


class Asked(scenario.Scenario):
    """Scenarios of tables of recipients."""

    def rcpt(self, server, address):
        with server.client() as client:
            client.hello()
            client.command("MAIL FROM:<x@src.example>")
            return client.command(f"RCPT TO:<{address}>")

    def is_answered(self, server, address, code):
        """Soon: a server that was down is left alone for a moment."""
        wait.until(lambda: self.rcpt(server, address).code == code, f"{code} for {address}")
