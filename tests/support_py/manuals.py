"""What the manuals say of exit statuses: the codes of each program, and of each verb of postrider."""
import functools
import pathlib
import re

PAGES = pathlib.Path(__file__).resolve().parents[2] / "man"
QUEUE_VERBS = ("queue", "show", "explain", "trace", "status", "sites", "tlsrpt", "dmarc-reports")
OTHERS = {"sendmail": "sendmail.1", "mailq": "mailq.1", "newaliases": "newaliases.1", "postrider-web": "postrider-web.8",
          "postrider-amqp": "postrider-amqp.8", "postrider-mqtt": "postrider-mqtt.8"}


def section(page):
    return (PAGES / page).read_text().split("\n.Sh EXIT STATUS\n")[1].split("\n.Sh ")[0]


def numbers(text):
    listed = re.findall(r"^\.It ([12])$", text, re.M)  # those of monitoring programs
    return {int(code) for code in listed + re.findall(r"(?<![\d.,])(6[4-9]|7[0-8])(?![\d.])", text)}


@functools.lru_cache
def of_page(page):
    """Its own codes, and those of the pages that it refers to."""
    text = section(page)
    codes = numbers(text)
    for name, number in re.findall(r"^\.Xr (\w+) (\d)", text, re.M):
        if name != "sysexits":
            codes |= of_page(f"{name}.{number}")
    return frozenset(codes)


@functools.lru_cache
def own(page):
    return frozenset(numbers(section(page)))


@functools.lru_cache
def of_verbs():
    """By verb of postrider, as postrider(8) and postrider-queue(8) say it: "dkim new" is one."""
    head, body = section("postrider.8").split("\n.Bl ", 1)
    common = numbers(head)
    found = {}
    for names, text in re.findall(r"\n\.It Cm ([^\n]+)\n(.*?)(?=\n\.It |\n\.El)", body, re.S):
        for name in names.split(" , "):
            found[name] = frozenset(common | numbers(text))
    for name in QUEUE_VERBS:
        found[name] = of_page("postrider-queue.8")
    for name in ("completion", "help", ""):
        found[name] = frozenset(common)
    return found


def documented(program, arguments):
    """The codes that a call may end with besides 0; nothing is known of other programs."""
    if program != "postrider":
        return of_page(OTHERS[program]) if program in OTHERS else None
    words = [word for word in map(str, arguments) if not word.startswith("-")]
    for verb in (" ".join(words[:2]), *words[:1]):
        if verb in of_verbs():
            return of_verbs()[verb]
    return of_verbs()[""]
