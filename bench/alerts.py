"""Rate of reading alerts with `read_alerts`, compared with decoding of the same messages by fastavro alone.

Prints one JSON line about the machine, then one for each set of messages, then one for merging many alerts. CPU time of one
process, best of a few rounds, measured alternately. The messages are generated from a schema with the field names of ELAsTiCC
v0.9.1 (with all host columns) and, if --schemas gives a folder with Rubin's schemas, of Rubin 10.0 with cut-out images.

    python bench/alerts.py [--schemas FOLDER] [--alerts 100000 --objects 30000]
"""

import argparse
import io
import json
import os
import platform
import sys
import tempfile
import time
from datetime import date
from pathlib import Path

import fastavro
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
from alert_messages import ELASTICC_SCHEMA, elasticc_alert, fill_record  # noqa: E402

from elasticc_hc.conversion.alerts import read_alerts  # noqa: E402


def encode(schema, record) -> bytes:
    stream = io.BytesIO()
    fastavro.schemaless_writer(stream, schema, record)
    return stream.getvalue()


def best_seconds(work, rounds: int) -> float:
    spans = []
    for _ in range(rounds):
        start = time.process_time()
        work()
        spans.append(time.process_time() - start)
    return min(spans)


def rates(name: str, messages: list[bytes], schema, start: int, schemas, rounds: int) -> dict:
    "Alerts per CPU second of both, and their ratio."

    def decode():
        for message in messages:
            stream = io.BytesIO(message)
            stream.seek(start)
            fastavro.schemaless_reader(stream, schema)

    alone = best_seconds(decode, rounds)
    ours = best_seconds(lambda: read_alerts(messages, schemas=schemas), rounds)
    return {
        "set": name,
        "alerts": len(messages),
        "bytes": sum(map(len, messages)),
        "fastavro": round(len(messages) / alone),
        "read_alerts": round(len(messages) / ours),
        "ratio": round(alone / ours, 3),
    }


def elasticc_messages(alerts: int, forced: int) -> list[bytes]:
    schema = fastavro.parse_schema(ELASTICC_SCHEMA)
    return [encode(schema, elasticc_alert(object_id=i + 1, day=100.0, earlier=max(1, forced // 8), forced=forced)) for i in range(alerts)]


def rubin_messages(folder: Path, alerts: int, forced: int) -> tuple[list[bytes], dict]:
    schema = fastavro.schema.load_schema(next(folder.rglob("lsst.v10_0.alert.avsc")))
    record = fill_record(schema)
    record["cutoutDifference"] = record["cutoutScience"] = bytes(34_560)
    record["cutoutTemplate"] = bytes(46_080)
    source = record["diaSource"]
    source["midpointMjdTai"] = 60500.0
    record["prvDiaSources"] = [{**source, "diaSourceId": k, "visit": k, "midpointMjdTai": 60000.0 + k} for k in range(max(1, forced // 8))]
    one = fill_record(next(iter([part for part in schema["fields"] if part["name"] == "prvDiaForcedSources"]))["type"][1]["items"])
    record["prvDiaForcedSources"] = [{**one, "visit": k, "midpointMjdTai": 60000.0 + k, "band": "r"} for k in range(forced)]
    made = []
    for i in range(alerts):
        source["diaObjectId"] = record["diaObject"]["diaObjectId"] = i + 1
        made.append(b"\0" + (1000).to_bytes(4, "big") + encode(schema, record))
    return made, schema


def uniting(alerts: int, objects: int, schemas: Path) -> dict:
    "Rate of merging a stream of alerts with repeated objects, each with its history, from a generator."
    schema = fastavro.parse_schema(ELASTICC_SCHEMA)
    rng = np.random.default_rng(0)
    times = np.sort(rng.integers(0, objects, alerts))
    order = np.argsort(np.arange(alerts) - np.searchsorted(times, times), kind="stable")
    rank = (np.arange(alerts) - np.searchsorted(times, times))[order]
    seconds = 0.0

    def stream():
        nonlocal seconds
        for who, nth in zip(times[order], rank, strict=True):
            start = time.process_time()
            message = encode(
                schema, elasticc_alert(object_id=int(who) + 1, day=3.0 * int(nth), earlier=int(nth), forced=40 + 10 * int(nth))
            )
            seconds += time.process_time() - start
            yield message

    start = time.process_time()
    table, counts = read_alerts(stream(), schemas=schemas)
    whole = time.process_time() - start
    return {
        "set": "uniting",
        "alerts": counts.alerts,
        "objects": counts.objects,
        "observations": counts.observations,
        "cpu_seconds": round(whole - seconds, 1),
        "decoding": "included",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--schemas", type=Path)
    parser.add_argument("--alerts", type=int, default=100_000)
    parser.add_argument("--objects", type=int, default=30_000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    print(
        json.dumps(
            {
                "date": f"{date.today()}",
                "machine": platform.machine(),
                "cores": os.cpu_count(),
                "python": platform.python_version(),
                "fastavro": fastavro.__version__,
            }
        )
    )
    with tempfile.TemporaryDirectory() as folder:
        own = Path(folder) / "elasticc.v0_9_1.alert.avsc"
        own.write_text(json.dumps(ELASTICC_SCHEMA))
        schema = fastavro.parse_schema(ELASTICC_SCHEMA)
        for forced in (20, 100):
            name = f"ELAsTiCC, {forced} forced points"
            print(json.dumps(rates(name, elasticc_messages(3000, forced), schema, 0, own, options.rounds)), flush=True)
        if options.schemas:
            messages, schema = rubin_messages(options.schemas, 1000, 50)
            name = "Rubin 10.0, 50 forced points, cut-outs"
            print(json.dumps(rates(name, messages, schema, 5, options.schemas, options.rounds)), flush=True)
        print(json.dumps(uniting(options.alerts, options.objects, own)))


if __name__ == "__main__":
    main()
