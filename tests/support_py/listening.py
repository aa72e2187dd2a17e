"""A server of one socket, with a thread for each connection."""
import socket
import threading

from support_py import wait


class Listening:
    """What derives from it calls listen() at the end of its __init__ and has serve(connection, what), which closes the
    connection; `what` is what began() made of it. stop() ends all connections and waits for their threads."""

    def listen(self, listener):
        self.listener, self.lock, self.open = listener, threading.Lock(), []
        self.thread = threading.Thread(target=self.accept, daemon=True)
        self.thread.start()

    def began(self):
        """Called for each connection, in their order, with the lock held."""

    def accept(self):
        workers = []
        while True:
            try:
                one, _ = self.listener.accept()
            except OSError:
                break
            with self.lock:
                self.open.append(one)
                what = self.began()
            workers.append(threading.Thread(target=self.serve, args=(one, what), daemon=True))
            workers[-1].start()
        for worker in workers:
            worker.join(wait.DEADLINE)

    def stop(self):
        try:
            self.listener.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.listener.close()
        with self.lock:
            for one in self.open:
                try:
                    one.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass
        self.thread.join(wait.DEADLINE)

    close = stop
