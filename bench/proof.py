"""That no 250 leaves before the message is on the disk: a short run under strace."""
import re
import shutil
import subprocess

from mtas import free_port

ARRIVALS = ("recvfrom", "recvmsg", "readv", "read")
CALLS = ("pwrite64", "fdatasync", "sendto", *ARRIVALS)
CALL = re.compile(r"^\d+ +[\d.]+ (?:<\.\.\. )?(" + "|".join(CALLS) + r")\b(.*)$")


def of_sync(bench, messages=20):
    """Runs single messages; for each 250 after an end of data, whether the database's log was
    written and synced between the content's arrival and it. None where strace is missing."""
    if not shutil.which("strace"):
        return None
    sink_port = free_port()
    mta = bench.mta("postrider", sink_port)
    sink = bench.sink(sink_port, messages, 60)
    mta.start()
    trace = bench.folder / "strace"
    tracer = subprocess.Popen(["strace", "-f", "-ttt", "-y", "-s", "40", "-o", trace,
                               "-e", "trace=" + ",".join(CALLS), "-p", str(mta.process.pid)],
                              stderr=subprocess.PIPE, text=True)
    try:
        tracer.stderr.readline()
        bench.load(mta.port, ["--messages", str(messages), "--sessions", "1"])
        sink.communicate()
    finally:
        mta.stop()
        tracer.wait(30)
    return judge(trace.read_text(errors="replace").splitlines())


def judge(lines):
    """One client, one message at a time: content, then a write, then a sync, then the reply."""
    figures = {"replies": 0, "after_sync": 0, "example": []}
    steps = []
    for line in lines:
        found = CALL.match(line)
        if not found:
            continue
        call, rest = found.groups()
        if call in ARRIVALS and '"From: <sender' in rest:
            steps = [line]
        elif call == "pwrite64" and "-wal" in rest and len(steps) == 1:
            steps.append(line)
        elif call == "fdatasync" and rest.rstrip().endswith("= 0") and len(steps) == 2:
            steps.append(line)
        elif call == "sendto" and '"250 2.0.0 Ok: queued' in rest:
            figures["replies"] += 1
            if len(steps) == 3:
                figures["after_sync"] += 1
                figures["example"] = [short(step) for step in (*steps, line)]
            steps = []
    return figures


def short(line):
    """Process, time and call, without the bytes."""
    return re.sub(r'"([^"]{0,24})[^"]*"\.*', r'"\1..."', line)[:120]
