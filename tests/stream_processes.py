"""Processes for the tests of the stream: a Kafka broker for tests, and a process that forks streams which may be killed.

    python tests/stream_processes.py broker
        starts the broker that librdkafka brings, prints its address, and ends with its standard input
    python tests/stream_processes.py streams
        imports the package once; for each line of JSON with the arguments of `stream` it forks a process that runs it. Prints the
        number of the process, and its exit status when it has ended
"""

import json
import os
import sys
import threading
import time


def broker() -> None:
    "A broker until the standard input is closed."
    from confluent_kafka import Producer

    cluster = Producer({"test.mock.num.brokers": 1, "bootstrap.servers": "none", "log_level": 0})
    found = cluster.list_topics(timeout=30).brokers.values()
    print(",".join(f"{one.host}:{one.port}" for one in found), flush=True)
    sys.stdin.read()


def run_stream(options: dict) -> None:
    "A stream to the end of its topic; its lines go to a file."
    from elasticc_hc.classification.alert_stream import stream

    with open(options.pop("log"), "a", buffering=1) as log:
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

    import elasticc_hc.classification.alert_stream  # noqa: F401

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
    {"broker": broker, "streams": streams}[sys.argv[1]]()
