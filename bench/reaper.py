#!/usr/bin/python3
"""Runs a server whose processes leave their parents: they come here, so that what they have used
is counted. Ends with the server; SIGTERM goes to it."""
import ctypes
import os
import signal
import sys

PR_SET_CHILD_SUBREAPER = 36

if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
    sys.exit("cannot become a subreaper")
server = os.posix_spawnp(sys.argv[1], sys.argv[1:], os.environ)
signal.signal(signal.SIGTERM, lambda *_: os.kill(server, signal.SIGTERM))
while True:
    try:
        ended, _ = os.wait()
    except ChildProcessError:
        break
