#!/usr/bin/python3
"""order_mail.py AMQP-URL: makes a mail request (postrider-requests(7)) of each order in the topic "orders"."""
import json
import sys

import pika


def mail_request(order):
    return {"from": "Shop <shop@shop.example>",
            "to": [order["customer"]],
            "subject": f"Your order {order['number']}",
            "text": f"Thank you! {order['item']} will be with you soon.\n",
            "tag": f"order {order['number']}"}  # comes back in each event


def take(channel, method, _, body):
    try:
        request = mail_request(json.loads(body))
    except (ValueError, KeyError, TypeError):
        return channel.basic_reject(method.delivery_tag, requeue=False)  # no order, now or later
    # An order that comes twice has the same key, and becomes one message.
    once = pika.BasicProperties(message_id=request["tag"].replace(" ", "-"), delivery_mode=2)
    channel.basic_publish("", "mail-requests", json.dumps(request), once, mandatory=True)
    channel.basic_ack(method.delivery_tag)  # the broker has confirmed the request: it cannot be lost
    print(f"{request['tag']}: mail requested for {request['to'][0]}", flush=True)


if __name__ == "__main__":
    orders = pika.BlockingConnection(pika.URLParameters(sys.argv[1])).channel()
    orders.confirm_delivery()
    orders.exchange_declare("orders", "topic", durable=True)
    for queue in ("order-mail", "mail-requests", "mail-refused"):
        orders.queue_declare(queue, durable=True)
    orders.queue_bind("order-mail", "orders", "order.placed")
    orders.basic_consume("order-mail", take)
    print("ready", flush=True)
    orders.start_consuming()
