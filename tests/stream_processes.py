"""Processes for the tests of the stream: a Kafka broker for tests, a way to it that may be cut, and streams that may be killed.

    python tests/stream_processes.py broker
        starts the broker that librdkafka brings, prints its address, and ends with its standard input
    python tests/stream_processes.py way BROKER [PORT]
        forwards connections to a broker and prints its own address, by which the broker is known to those who come this way
    python tests/stream_processes.py streams
        imports the package once; for each line of JSON it forks a process: with the arguments of `stream` one that runs it, with
        a list `command` one that runs the command line. Prints the number of the process, and its exit status when it has ended
"""

import json
import os
import socket
import sys
import threading
import time
from contextlib import suppress


def broker() -> None:
    "A broker until the standard input is closed."
    from confluent_kafka import Producer

    cluster = Producer({"test.mock.num.brokers": 1, "bootstrap.servers": "none", "log_level": 0})
    found = cluster.list_topics(timeout=30).brokers.values()
    print(",".join(f"{one.host}:{one.port}" for one in found), flush=True)
    sys.stdin.read()


def pump(source: socket.socket, target: socket.socket, names: tuple[bytes, bytes] | None) -> None:
    "Bytes from one side to the other; whole messages, with one name in place of the other, if names are given."
    stream = source.makefile("rb")
    with suppress(OSError):
        while data := stream.read(4) if names else stream.read1(1 << 16):
            data += stream.read(int.from_bytes(data, "big")).replace(*names) if names else b""
            target.sendall(data)
    for side in (source, target):
        with suppress(OSError):
            side.shutdown(socket.SHUT_RDWR)


def way(broker: str, port: str = "0") -> None:
    "Forward connections. A client learns a broker's address from the broker, so the address is changed in what the broker sends."
    server, place = socket.create_server(("127.0.0.1", int(port))), ("127.0.0.1", int(broker.split(":")[1]))
    names = tuple(host.encode() + number.to_bytes(4, "big") for host, number in (place, server.getsockname()))
    print("{}:{}".format(*server.getsockname()), flush=True)
    while True:
        client, link = server.accept()[0], socket.create_connection(place)
        for arguments in ((client, link, None), (link, client, names)):
            threading.Thread(target=pump, args=arguments, daemon=True).start()


def run_command(words: list[str], log) -> None:
    "The command line; what it prints goes to a file."
    from elasticc_hc.cli import main

    sys.argv[1:] = words
    os.dup2(log.fileno(), 1)
    os.dup2(log.fileno(), 2)
    status = 1
    try:
        main()
    except SystemExit as done:
        status = done.code or 0
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def run_stream(options: dict) -> None:
    "A stream to the end of its topic; its lines go to a file."
    from elasticc_hc.classification.alert_stream import stream

    with open(options.pop("log"), "a", buffering=1) as log:
        if "command" in options:
            run_command(options["command"], log)
        try:
            stream(**options, report=lambda line: print(line, file=log))
        except (ValueError, OSError) as error:
            print(f"{type(error).__name__}: {error}", file=log)
            os._exit(1)
    os._exit(0)


def watch(number: int) -> None:
    "Print the exit status of a process when it has ended."
    _, status = os.waitpid(number, 0)
    print(f"ended {number} {os.waitstatus_to_exitcode(status)}", flush=True)


def streams() -> None:
    "Fork a stream for each line of the standard input."
    import torch

    import elasticc_hc.classification.alert_stream
    import elasticc_hc.cli  # noqa: F401

    torch.set_num_threads(1)
    print("ready", flush=True)
    for line in sys.stdin:
        number = os.fork()
        if number == 0:
            run_stream(json.loads(line))
        print(f"started {number}", flush=True)
        threading.Thread(target=watch, args=[number], daemon=True).start()
    time.sleep(0.1)


if __name__ == "__main__":
    {"broker": broker, "way": way, "streams": streams}[sys.argv[1]](*sys.argv[2:])
