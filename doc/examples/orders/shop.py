#!/usr/bin/python3
"""The order service: it places orders, and hears what became of the mail about them.

  shop.py order AMQP-URL NUMBER CUSTOMER ITEM     puts an order into the topic "orders"
  shop.py order - NUMBER CUSTOMER ITEM            prints it (for kcat)
  shop.py hear AMQP-URL                           says what comes from the topic "mail"
  shop.py hear -                                  the same of events on standard input, one a line
"""
import json
import sys


def say(text):
    """One event of postrider-events(7), by the shop's own reference."""
    event = json.loads(text)
    data, what = event["data"], event["type"].rpartition(".")[2]
    print(f"{data['tag']}: {what}", *(["to", data["to"]] if "to" in data else []),
          *([f"({data['reason']})"] if what != "accepted" and "reason" in data else []), flush=True)


def channel(url):
    import pika
    one = pika.BlockingConnection(pika.URLParameters(url)).channel()
    one.confirm_delivery()
    for topic in ("orders", "mail"):
        one.exchange_declare(topic, "topic", durable=True)
    return one


def hear(url):
    if url == "-":
        print("ready", flush=True)
        for line in sys.stdin:
            say(line)
        return
    events = channel(url)
    events.queue_declare("shop", durable=True)
    events.queue_bind("shop", "mail", "mail.*")

    def take(_, method, __, body):
        say(body)
        events.basic_ack(method.delivery_tag)
    events.basic_consume("shop", take)
    print("ready", flush=True)
    events.start_consuming()


def order(url, number, customer, item):
    placed = json.dumps({"number": int(number), "customer": customer, "item": item})
    if url == "-":
        print(placed)
    else:
        channel(url).basic_publish("orders", "order.placed", placed, mandatory=True)


if __name__ == "__main__":
    {"hear": hear, "order": order}[sys.argv[1]](*sys.argv[2:])
