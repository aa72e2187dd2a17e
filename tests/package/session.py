"""A day's mail in one go, for those who count it: what clients and other hosts do to the machine's daemon, which has the
CONFIGURATION below, with a port that nobody has. Run within the machine's network; the other host ends with standard input."""
import base64
import smtplib
import socket
import sys
import threading

COUNTS = {"good": 4, "unknown": 3, "relay": 2, "closed": 2, "senders": 2, "logins": 5, "deferred": 2, "bounced": 2}
CONFIGURATION = """
hostname = "box.example.net"
origin = "box.example.net"
log = {{ format = "postfix", target = "{target}" }}
auth = {{ clear = true, users = "/etc/postrider/users", failure_delay = "1ms" }}
delivery = {{ retry = ["10m"] }}

[accept]
relay_from = ["127.0.0.1/32"]
senders = ["inline:{{spam@far.example=reject go away}}"]
recipient_map = ["inline:{{closed@box.example.net=reject closed}}"]

[local]
domains = ["box.example.net"]
mailbox = "mbox:/var/mail/{{user}}"

[[listener]]
address = "127.0.0.1:25"

[[listener]]
address = "127.0.0.1:587"
role = "submission"
tls = "off"

[[route]]
domain = "down.example"
next_hop = "smtp://127.0.0.1:{down}"

[[route]]
domain = "*"
next_hop = "smtp://127.0.0.1:2727"
"""
SENDER = "a@far.example"
CONTENT = f"From: <{SENDER}>\r\nSubject: s\r\n\r\nbody\r\n"


def serve(listener):
    """The other host: takes all but what bounces."""
    while True:
        threading.Thread(target=talk, args=(listener.accept()[0],), daemon=True).start()


def talk(client):
    with client, client.makefile("rwb") as lines:
        def say(text):
            lines.write(text + b"\r\n")
            lines.flush()
        say(b"220 other host")
        in_content = False
        for line in lines:
            if in_content and line != b".\r\n":
                continue
            word = line[:4].upper()
            in_content = word == b"DATA"
            say(b"354 go on" if in_content else b"221 bye" if word == b"QUIT" else
                b"550 5.1.1 no such user" if word == b"RCPT" and b"bounced" in line else b"250 ok")
            if word == b"QUIT":
                return


def expect(wanted, reply):
    if reply[0] != wanted:
        sys.exit(f"{wanted} awaited, and it is {reply}")


def stranger(port):
    client = smtplib.SMTP("127.0.0.1", port, timeout=60, source_address=("127.0.0.2", 0))
    expect(250, client.ehlo())
    return client


def recipients(count, address):
    for number in range(count):
        client = stranger(25)
        expect(250, client.mail(SENDER))
        expect(550, client.rcpt(address.format(number)))
        client.quit()


def send(sender, to):
    with smtplib.SMTP("127.0.0.1", 25, timeout=60) as client:
        client.sendmail(sender, [to], CONTENT)


def main():
    with socket.create_server(("127.0.0.1", 2727)) as listener:
        threading.Thread(target=serve, args=(listener,), daemon=True).start()
        for _ in range(COUNTS["good"]):
            send(SENDER, "ann@box.example.net")
        recipients(COUNTS["unknown"], "no{}@box.example.net")
        recipients(COUNTS["relay"], "x@elsewhere.example")
        recipients(COUNTS["closed"], "closed@box.example.net")
        for _ in range(COUNTS["senders"]):
            client = stranger(25)
            expect(550, client.mail("spam@far.example"))
            client.quit()
        for _ in range(COUNTS["logins"]):
            client = stranger(587)
            wrong = base64.b64encode(b"\0ann@box.example.net\0wrong").decode()
            expect(535, client.docmd("AUTH", "PLAIN " + wrong))
            client.quit()
        for number in range(COUNTS["deferred"]):
            send(SENDER, f"d{number}@down.example")
        for number in range(COUNTS["bounced"]):
            send("ann@box.example.net", f"bounced{number}@far.example")
        print("done", flush=True)
        sys.stdin.read()  # the other host stays until it is told


if __name__ == "__main__":
    main()
