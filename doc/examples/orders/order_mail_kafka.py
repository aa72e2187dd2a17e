#!/usr/bin/python3
"""kcat -C ... -t orders | order_mail_kafka.py BOOTSTRAP: order_mail.py for Kafka, with kcat on both sides.
It keeps no place in the topic; one for real use has a consumer group, of confluent-kafka for instance."""
import json
import subprocess
import sys

from order_mail import mail_request

print("ready", flush=True)
for line in sys.stdin:
    request = mail_request(json.loads(line))
    subprocess.run(["kcat", "-P", "-b", sys.argv[1], "-t", "mail-requests", "-H",
                    f"idempotency-key={request['tag'].replace(' ', '-')}"],
                   input=json.dumps(request), text=True, check=True)
    print(f"{request['tag']}: mail requested for {request['to'][0]}", flush=True)
