"""Rate and latency of a stream from bytes to bytes, beside decoding of the same messages by fastavro alone.

Prints one JSON line about the machine, then one for the rates (CPU time of one process, best of a few rounds, measured alternately
with decoding alone), one for the latency of a single alert (median of many), one for the time to load a classifier, one for a
server with a pool of two processes against one (wall time), and one for the peak of memory over 20,000 alerts in batches of 1,000,
in a process of its own, without and with a file of states. Messages have 20 earlier detections and 40 forced points: in the field
names of ELAsTiCC v0.9.1 with all host columns, and, if --schemas gives a folder with Rubin's schemas, of Rubin 10.0, where each
detection has 98 fields.

    python bench/stream.py [--schemas FOLDER] [--run synthetic]
"""

import argparse
import io
import json
import os
import platform
import re
import statistics
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from datetime import date
from multiprocessing import get_context
from pathlib import Path

import fastavro
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
from alert_messages import ELASTICC_SCHEMA, elasticc_alert, encode, fill_record  # noqa: E402

from elasticc_hc import HierarchicalClassifier  # noqa: E402
from elasticc_hc.classification.alert_stream import AlertClassifier  # noqa: E402
from elasticc_hc.classification.brokers import broker_messages, encode_message  # noqa: E402
from elasticc_hc.classification.state_store import Progress  # noqa: E402

EARLIER, FORCED = 20, 40
ABOUT = dict.fromkeys(("brokerName", "brokerVersion", "classifierName", "classifierParams"), "bench")


def elasticc_messages(n: int) -> tuple[list[bytes], dict, int]:
    schema = fastavro.parse_schema(ELASTICC_SCHEMA)
    return [encode(schema, elasticc_alert(i + 1, 100.0, EARLIER, FORCED)) for i in range(n)], schema, 0


def rubin_messages(folder: Path, n: int) -> tuple[list[bytes], dict, int]:
    schema = fastavro.schema.load_schema(next(folder.rglob("lsst.v10_0.alert.avsc")))
    record = fill_record(schema)
    record["cutoutDifference"] = record["cutoutScience"] = record["cutoutTemplate"] = None
    source = record["diaSource"] | {"midpointMjdTai": 60500.0}
    forced = fill_record(next(part for part in schema["fields"] if part["name"] == "prvDiaForcedSources")["type"][1]["items"])
    days = [60000.0 + k for k in range(max(EARLIER, FORCED))]
    record["prvDiaSources"] = [source | {"diaSourceId": k, "visit": k, "midpointMjdTai": days[k]} for k in range(1, EARLIER + 1)]
    record["prvDiaForcedSources"] = [forced | {"visit": k, "midpointMjdTai": days[k], "band": "r"} for k in range(FORCED)]
    made = []
    for i in range(n):
        record["diaSource"] = source | {"diaObjectId": i + 1, "diaSourceId": 1000 + i}
        made.append(b"\0" + (1000).to_bytes(4, "big") + encode(schema, record | {"diaSourceId": 1000 + i}))
    return made, schema, 5


def answered(server: AlertClassifier, messages: list[tuple[str, bytes]]) -> list[bytes]:
    "Messages of the answers."
    found = server.answer(messages)
    alerts = found.header.assign(published=0)
    records = broker_messages(alerts, found.probabilities, server.classifier.taxonomy, ABOUT, found.outlier)
    if server.store is not None:
        server.store.commit(found.state, Progress(alerts["alertId"], "alerts", {0: len(messages)}))
    return [encode_message(record) for record in records]


def cpu_seconds(work) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def named(messages: list[bytes], first: int = 0) -> list[tuple[str, bytes]]:
    return [(f"alerts[0] offset {first + k}", data) for k, data in enumerate(messages)]


def rates(name: str, made: tuple[list[bytes], dict, int], run: str, schemas: Path, rounds: int) -> dict:
    "Alerts per CPU second from bytes to bytes, and of decoding alone."
    messages, schema, start = made

    def decode():
        for message in messages:
            stream = io.BytesIO(message)
            stream.seek(start)
            fastavro.schemaless_reader(stream, schema)

    server = AlertClassifier(run, schemas)
    assert len(answered(server, named(messages))) == len(messages)
    pairs = [(cpu_seconds(decode), cpu_seconds(lambda: answered(server, named(messages)))) for _ in range(rounds)]
    alone, ours = map(min, zip(*pairs, strict=True))
    with tempfile.TemporaryDirectory() as folder:
        stored = AlertClassifier(run, schemas, Path(folder) / "state.sqlite")
        with_state = cpu_seconds(lambda: answered(stored, named(messages)))
        stored.store.close()
    n = len(messages)
    return {"set": name, "alerts": n, "bytes": sum(map(len, messages)), "fastavro": round(n / alone), "stream": round(n / ours),
            "ratio": round(alone / ours, 3), "with state, new objects": round(n / with_state)}  # fmt: skip


def latency(made: tuple[list[bytes], dict, int], run: str, schemas: Path) -> dict:
    "Milliseconds for a single alert, in CPU time."
    server = AlertClassifier(run, schemas)
    answered(server, named(made[0][:50]))
    spans = [1000 * cpu_seconds(lambda k=k: answered(server, named(made[0][k : k + 1]))) for k in range(min(200, len(made[0])))]
    return {"set": "latency of one alert, CPU ms", "median": round(statistics.median(spans), 2),
            "95 %": round(statistics.quantiles(spans, n=20)[-1], 2)}  # fmt: skip


_SERVER = []


def open_server(run: str, schemas: Path) -> None:
    torch.set_num_threads(1)
    _SERVER.append(AlertClassifier(run, schemas))


def work_in_pool(messages: list[tuple[str, bytes]]) -> int:
    return len(answered(_SERVER[0], messages))


def pool_rates(messages: list[bytes], run: str, schemas: Path, rounds: int) -> dict:
    "Alerts per second of wall time with one and with two processes that each keep a classifier."
    parts, found = [named(messages[k : k + 250], k) for k in range(0, len(messages), 250)], {}
    for processes in (1, 2):
        with ProcessPoolExecutor(processes, get_context("spawn"), open_server, [run, schemas]) as pool:
            list(pool.map(work_in_pool, parts))
            spans = []
            for _ in range(rounds):
                start = time.perf_counter()
                assert sum(pool.map(work_in_pool, parts)) == len(messages)
                spans.append(time.perf_counter() - start)
        found[processes] = len(messages) / min(spans)
    return {"set": "pool of processes, wall time", "one": round(found[1]), "two": round(found[2]), "ratio": round(found[2] / found[1], 2)}


def peak_memory(run: str, schemas: Path, state: Path | None, batches: int) -> list[float]:
    "Megabytes at most until the first batch and until the last one, of 1,000 alerts each; 5 alerts of each object."
    torch.set_num_threads(1)
    server, peaks = AlertClassifier(run, schemas, state), []
    schema = fastavro.parse_schema(ELASTICC_SCHEMA)
    for k in range(batches):
        alerts = [elasticc_alert(n // 5 + 1, 100.0 + n % 5, EARLIER, FORCED) for n in range(1000 * k, 1000 * k + 1000)]
        answered(server, named([encode(schema, alert) for alert in alerts], 1000 * k))
        peaks.append(int(re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) / 1000)
    return [round(peaks[0]), round(peaks[-1])]


def memory(run: str, schemas: Path, batches: int = 20) -> dict:
    found = {"set": f"peak of memory, MB, after 1 and {batches} batches"}
    for name, state in (("without state", None), ("with state", schemas.with_name("memory.sqlite"))):
        with ProcessPoolExecutor(1, get_context("spawn")) as pool:
            found[name] = pool.submit(peak_memory, run, schemas, state, batches).result()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--schemas", type=Path)
    parser.add_argument("--run", default="synthetic")
    parser.add_argument("--alerts", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    load = round(os.getloadavg()[0], 1)
    print(json.dumps({"date": f"{date.today()}", "machine": platform.machine(), "cores": os.cpu_count(), "load": load,
                      "python": platform.python_version(), "torch": torch.__version__, "fastavro": fastavro.__version__}))  # fmt: skip
    loads = [cpu_seconds(lambda: HierarchicalClassifier.load(options.run)) for _ in range(5)]
    print(json.dumps({"set": "loading a classifier, CPU s", "run": options.run, "first": round(loads[0], 3), "best": round(min(loads), 3)}))
    with tempfile.TemporaryDirectory() as folder:
        own = Path(folder) / "elasticc.v0_9_1.alert.avsc"
        own.write_text(json.dumps(ELASTICC_SCHEMA))
        made = elasticc_messages(options.alerts)
        print(json.dumps(rates("ELAsTiCC", made, options.run, own, options.rounds)), flush=True)
        print(json.dumps(latency(made, options.run, own)), flush=True)
        print(json.dumps(pool_rates(made[0] * 2, options.run, own, options.rounds)), flush=True)
        print(json.dumps(memory(options.run, own)), flush=True)
        if options.schemas:
            made = rubin_messages(options.schemas, options.alerts)
            print(json.dumps(rates("Rubin 10.0", made, options.run, options.schemas, options.rounds)), flush=True)
            print(json.dumps(latency(made, options.run, options.schemas)), flush=True)


if __name__ == "__main__":
    main()
