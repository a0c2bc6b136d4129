"""The stream against a broker that speaks Kafka's protocol, with processes that are killed and messages that are damaged.

STREAM_ALERTS and STREAM_KILLS raise the size of the test with SIGKILL (600 alerts and 3 kills by default).
"""

import base64
import io
import json
import os
import random
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import zlib
from collections import defaultdict
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import alert_messages as made
import fastavro
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

kafka = pytest.importorskip("confluent_kafka", reason="confluent-kafka is not installed (the extra stream)")

from elasticc_hc import HierarchicalClassifier  # noqa: E402
from elasticc_hc.classification.alert_stream import MAX_BYTES, MAX_OBSERVATIONS, AlertClassifier, StreamReader, read_messages  # noqa: E402
from elasticc_hc.classification.brokers import BROKER_CLASSIFICATION, NONE_LEVEL  # noqa: E402
from elasticc_hc.classification.kafka import DEAD_BYTES  # noqa: E402
from elasticc_hc.classification.outliers import OutlierModel  # noqa: E402
from elasticc_hc.classification.state import check_blocks  # noqa: E402
from elasticc_hc.classification.state_store import REPEATED, NightlyAnswers, Progress  # noqa: E402

ALERTS, KILLS = int(os.environ.get("STREAM_ALERTS", 600)), int(os.environ.get("STREAM_KILLS", 3))
PROCESSES = Path(__file__).with_name("stream_processes.py")
SCHEMA = fastavro.parse_schema(made.ELASTICC_SCHEMA)
QUIET = {"log_level": 0}
WAIT = 240  # seconds, on a machine that does other work


def started(*words: str) -> tuple[subprocess.Popen, str]:
    "A process of `stream_processes`, and the first line that it prints."
    process = subprocess.Popen([sys.executable, PROCESSES, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    return process, process.stdout.readline().strip()


@pytest.fixture(scope="module")
def address():
    process, address = started("broker")
    yield address
    process.stdin.close()
    process.wait(WAIT)


class Streams:
    "Starts streams in processes of their own."

    def __init__(self):
        self.process, _ = started("streams")
        self.unread = []

    def start(self, **options) -> int:
        self.process.stdin.write(json.dumps(options) + "\n")
        self.process.stdin.flush()
        return int(self._line("started").split()[1])

    def wait(self, number: int) -> int:
        "The exit status; negative after a signal."
        return int(self._line(f"ended {number}").split()[2])

    def _line(self, begin: str) -> str:
        for line in self.unread:
            if line.startswith(begin):
                self.unread.remove(line)
                return line
        for line in self.process.stdout:
            if line.startswith(begin):
                return line
            self.unread.append(line)
        raise AssertionError("the process that starts streams has ended")


@pytest.fixture(scope="module")
def streams():
    found = Streams()
    yield found
    found.process.stdin.close()
    found.process.wait(WAIT)


@pytest.fixture(scope="module")
def schemas(tmp_path_factory):
    path = tmp_path_factory.mktemp("schemas") / "elasticc.v0_9_1.alert.avsc"
    path.write_text(json.dumps(made.ELASTICC_SCHEMA))
    return path


def alert(object_id: int, turn: int) -> dict:
    "The alert number `turn` of an object, with its history."
    found = made.elasticc_alert(object_id, 3.0 * turn + 1, earlier=2 * turn, forced=3 * turn)
    found["diaSource"]["psFlux"] = 100.0 + 37 * object_id % 900
    return found


def message(object_id: int, turn: int) -> bytes:
    return made.encode(SCHEMA, alert(object_id, turn))


def produce(address: str, topic: str, messages: list[tuple[str, bytes]]) -> None:
    "Messages with their keys; a message that is sent twice has the same time."
    producer = kafka.Producer({"bootstrap.servers": address, "linger.ms": 50} | QUIET)
    for key, value in messages:
        producer.produce(topic, value, key, timestamp=1_790_000_000_000 + zlib.crc32(value) % 10**6)
        producer.poll(0)
    assert producer.flush(WAIT) == 0


def consume(address: str, topic: str) -> list:
    "All messages of a topic; none of them was dropped by the broker for want of room."
    consumer = kafka.Consumer({"bootstrap.servers": address, "group.id": "none", "enable.auto.commit": False} | QUIET)
    places = [kafka.TopicPartition(topic, part, 0) for part in consumer.list_topics(timeout=30).topics[topic].partitions]
    ends = [consumer.get_watermark_offsets(place, timeout=30) for place in places]
    assert all(first == 0 for first, _ in ends)
    consumer.assign(places)
    found = []
    while len(found) < sum(end for _, end in ends):
        found += [one for one in consumer.consume(1000, 0.1) if one.error() is None]
    consumer.close()
    return found


def wait_for_answers(address: str, topic: str, number: float) -> None:
    "Wait until so many answers are in a topic, or some time has passed."
    consumer, limit = kafka.Consumer({"bootstrap.servers": address, "group.id": "none"} | QUIET), time.monotonic() + 30
    while time.monotonic() < limit:
        known = consumer.list_topics(timeout=30).topics
        places = [kafka.TopicPartition(topic, part) for part in known[topic].partitions] if topic in known else []
        if sum(consumer.get_watermark_offsets(place, timeout=30)[1] for place in places) >= number:
            break
        time.sleep(0.01)
    consumer.close()


def answers(address: str, topic: str) -> dict[int, set[bytes]]:
    "The different answers to each alert."
    found = defaultdict(set)
    for one in consume(address, topic):
        found[int(one.key())].add(one.value())
    return found


def a_night(n: int) -> tuple[list[tuple[str, bytes]], set[int]]:
    "Alerts of n / 4 objects with their keys, some of them twice and some late; and the numbers of all alerts."
    shuffle = random.Random(0)
    sent = [(object_id, turn) for turn in range(4) for object_id in range(1, n // 4 + 1)]
    for place in shuffle.sample(range(n), n // 50):
        sent.append(sent[place])
    for place in shuffle.sample(range(n // 4), n // 50):
        sent.append(sent.pop(place))
    return [(str(object_id), message(object_id, turn)) for object_id, turn in sent], {alert(*one)["alertId"] for one in sent}


@pytest.mark.parametrize("with_state", [True, False])
def test_killed_at_random_moments(address, streams, schemas, tmp_path, with_state):
    "Every alert has one answer after exact repeats are removed, and it has the bytes of an undisturbed run."
    name = "state" if with_state else "alone"
    messages, numbers = a_night(ALERTS)
    produce(address, f"sent-{name}", messages)
    (tmp_path / "kafka.txt").write_text("session.timeout.ms=4000\nheartbeat.interval.ms=300\nlog_level=0\n")
    common = dict(run="synthetic", brokers=address, topic=f"sent-{name}", schemas=str(schemas), kafka=str(tmp_path / "kafka.txt"),
                  stop_at_end=True, batch=max(50, ALERTS // 40))  # fmt: skip

    def options(which):
        files = {"state": str(tmp_path / f"{which}.sqlite")} if with_state else {}
        files |= {"parquet": str(tmp_path / which), "log": str(tmp_path / f"{which}.log")}
        return common | {"answers": f"{which}-{name}", "group": which} | files

    moments, killed, calm = random.Random(with_state), 0, streams.start(**options("calm"))
    for k in range(KILLS):
        number = streams.start(**options("killed"))
        wait_for_answers(address, f"killed-{name}", (k + moments.random()) * len(messages) / KILLS)
        time.sleep(moments.random() * 0.1)
        with suppress(ProcessLookupError):  # it has read everything already
            os.kill(number, signal.SIGKILL)
        killed += streams.wait(number) == -signal.SIGKILL
    assert streams.wait(streams.start(**options("killed"))) == 0, (tmp_path / "killed.log").read_text()
    assert streams.wait(calm) == 0, (tmp_path / "calm.log").read_text()
    undisturbed, disturbed = answers(address, f"calm-{name}"), answers(address, f"killed-{name}")
    repeats = len(consume(address, f"killed-{name}")) - len(disturbed)
    print(f"{name}: {len(messages):,} messages, {len(numbers):,} alerts, killed {killed} times of {KILLS}, {repeats:,} answers repeated")
    assert set(undisturbed) == set(disturbed) == numbers
    assert all(len(found) == 1 for found in disturbed.values()), "one answer for each alert"
    assert disturbed == undisturbed, "bit for bit"
    nights = [{path.name: pq.read_table(path) for path in (tmp_path / which).glob("night_*.parquet")} for which in ("calm", "killed")]
    assert nights[0] == nights[1] and sum(map(len, nights[0].values())) == len(numbers), "p-values and probabilities, bit for bit"
    assert all(np.isfinite(night["outlier"].to_numpy()).all() for night in nights[0].values())
    assert killed > KILLS // 3


def test_the_answers_are_messages_of_the_desc(address, streams, schemas, tmp_path):
    produce(address, "night", [(str(k), message(k, 1)) for k in range(1, 9)])
    options = dict(run="synthetic", brokers=address, topic="night", schemas=str(schemas), stop_at_end=True, log=str(tmp_path / "log"))
    for form in ("avro", "json"):
        number = streams.start(**options, answers=form, format=form, state=str(tmp_path / form))
        assert streams.wait(number) == 0, (tmp_path / "log").read_text()
    records = [fastavro.schemaless_reader(io.BytesIO(one.value()), BROKER_CLASSIFICATION) for one in consume(address, "avro")]
    texts = {json.loads(one.value())["alertId"]: json.loads(one.value()) for one in consume(address, "json")}
    assert len(records) == len(texts) == 8
    for record in records:
        assert sum(entry["probability"] for entry in record["classifications"]) == pytest.approx(1, abs=1e-6)
        assert [entry["classId"] for entry in record["classifications"]][-2:] == [200, 100]
        assert record["classifications"] == texts[record["alertId"]]["classifications"]
        share = max(0.0, 1 - texts[record["alertId"]]["outlier"] / NONE_LEVEL)
        assert record["classifications"][-1]["probability"] == pytest.approx(share, abs=1e-4)
        assert record["diaSourceId"] == record["alertId"] and record["elasticcPublishTimestamp"].year >= 2026


@pytest.fixture(scope="module")
def missing(address, streams, schemas, tmp_path_factory):
    "Commands without a topic and without a broker, which waits ten seconds; a function gives the reason wanted and what each said."
    wrong = {"topic nothing-here: not on this broker": address, "no answer from the Kafka broker": "127.0.0.1:1"}
    words = ["stream", "synthetic", "--topic", "nothing-here", "--answers", "out", "--schemas", str(schemas), "--brokers"]
    logs = {reason: tmp_path_factory.mktemp("missing") / "log" for reason in wrong}
    numbers = [streams.start(command=[*words, place], log=str(logs[reason])) for reason, place in wrong.items()]

    def ended():
        assert [streams.wait(number) for number in numbers] == [1, 1]
        return [(reason, log.read_text()) for reason, log in logs.items()]

    return ended


@pytest.mark.usefixtures("missing")  # started early
@pytest.mark.parametrize(("manner", "with_state"), [("killed", True), ("killed", False), ("silent", True)])
def test_a_broker_that_is_gone_and_comes_back_loses_nothing(address, streams, schemas, tmp_path, manner, with_state):
    "The way to the broker is killed, or stopped, while alerts stream, and comes back at the same address."
    name, seen = f"{manner}-{with_state}", {}
    way, entrance = started("way", address)
    produce(address, f"sent-{name}", [(str(k), message(k, 2)) for k in range(1, 200)])
    (tmp_path / "kafka.txt").write_text("session.timeout.ms=4000\nheartbeat.interval.ms=300\nreconnect.backoff.max.ms=300\n")
    options = dict(run="synthetic", brokers=entrance, topic=f"sent-{name}", answers=f"found-{name}", schemas=str(schemas), batch=10,
                   stop_at_end=True, kafka=str(tmp_path / "kafka.txt"), group=name, log=str(tmp_path / "log"))  # fmt: skip
    number = streams.start(**options, **({"state": str(tmp_path / "state.sqlite")} if with_state else {}))
    wait_for_answers(address, options["answers"], 20)
    way.send_signal(signal.SIGKILL if manner == "killed" else signal.SIGSTOP)
    if manner == "killed":
        way.wait(WAIT)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", int(entrance.split(":")[1])), 5)
    time.sleep(0.3)
    for moment in (0, 2):
        time.sleep(moment)
        seen[moment] = len(answers(address, options["answers"]))
    assert 20 <= seen[0] == seen[2] < 199, "nothing passes"
    if manner == "killed":
        way, again = started("way", address, entrance.split(":")[1])
        assert again == entrance
    way.send_signal(signal.SIGCONT)
    assert streams.wait(number) == 0, (tmp_path / "log").read_text()
    way.kill()
    way.wait(WAIT)
    found = answers(address, options["answers"])
    assert set(found) == {alert(k, 2)["alertId"] for k in range(1, 200)} and all(len(each) == 1 for each in found.values())
    lines = (tmp_path / "log").read_text().splitlines()
    assert len(lines) == 2 and lines[0].startswith("trying again: Kafka: ") or manner == "silent" and len(lines) <= 2, lines
    assert lines[-1].startswith("199 alerts, ") or not with_state, lines


def test_what_is_missing_is_one_line(missing):
    for reason, said in missing():
        lines = [line for line in said.splitlines() if not line.startswith("trying again: Kafka: ")]
        assert len(lines) == 1 and reason in lines[0], said


def test_poisoned_messages_from_a_broker_are_refused_by_offset(address, streams, schemas, tmp_path):
    "One batch of a partition through the command: what cannot be read is refused and kept, what follows is answered."
    empty, many = made.elasticc_alert(3, 5.0, earlier=2), made.elasticc_alert(4, 9.0)
    for source in (empty["diaSource"], *empty["prvDiaSources"]):
        source["psFlux"] = source["psFluxErr"] = float("nan")
    many["prvDiaForcedSources"] = [made._elasticc_source(4, k * 1e-4) for k in range(100_000)]
    bad = {1: (bytes(50_000_000), "50,000,000 bytes, more than 16,000,000"),
           2: (made.encode(SCHEMA, many), "100,000 observations, more than 16,384"),
           4: (message(5, 2)[:-30], "it cannot be decoded (EOFError"),
           5: (made.encode(made.RUBIN_SCHEMA, made.rubin_alert(6, 2)), "it cannot be decoded")}  # fmt: skip
    sent = [bad[k][0] if k in bad else made.encode(SCHEMA, empty) if k == 3 else message(k + 1, 1) for k in range(9)]
    large = {"message.max.bytes": 10**8, "batch.size": 10**8, "linger.ms": 1000}  # one set of messages: the broker deletes all but the last
    producer = kafka.Producer({"bootstrap.servers": address} | large | QUIET)
    for value in sent:
        producer.produce("poisoned", value, partition=0)
    assert producer.flush(WAIT) == 0
    words = ["--topic", "poisoned", "--answers", "healed", "--schemas", schemas, "--dead-letters", tmp_path / "dead.jsonl",
             "--state", tmp_path / "state.sqlite", "--format", "json", "--stop-at-end"]  # fmt: skip
    command = ["stream", "synthetic", "--brokers", address, *map(str, words)]
    assert streams.wait(streams.start(command=command, log=str(tmp_path / "log"))) == 0, (tmp_path / "log").read_text()
    said, letters = (tmp_path / "log").read_text(), [json.loads(line) for line in open(tmp_path / "dead.jsonl")]
    assert len(letters) == len(bad) and "9 alerts, " in said and "1 declined, 4 refused" in said, said
    for place, letter in zip(bad, sorted(letters, key=lambda one: one["message"]), strict=True):
        data, reason = bad[place]
        assert letter["message"] == f"poisoned[0] offset {place}" and reason in letter["reason"]
        assert base64.b64decode(letter["content"]) == data[:DEAD_BYTES]
    assert len(re.findall(r"^refused: poisoned\[0\] offset \d: ", said, re.MULTILINE)) >= 3
    found = {json.loads(one.value())["alertId"]: json.loads(one.value()) for one in consume(address, "healed")}
    assert set(found) == {alert(k + 1, 1)["alertId"] for k in (0, 6, 7, 8)} | {empty["alertId"]}
    assert found[empty["alertId"]]["outlier"] is None and found[empty["alertId"]]["classifications"][0]["classId"] == 300


def test_messages_that_the_broker_has_deleted_are_told(address):
    from elasticc_hc.classification.kafka import KafkaLink, read_settings

    produce(address, "large", [("one", bytes(900_000)) for _ in range(8)])
    lines = []
    link = KafkaLink(read_settings(address), "large", lines.append)
    link.open("large", {part: 0 for part in range(4)})
    link.close()
    assert len(lines) == 1 and re.match(r"large\[\d\]: the broker has deleted offsets 0 to \d before they were read", lines[0]), lines


# --- without a broker ---


@pytest.fixture(scope="module")
def server(schemas):
    return AlertClassifier("synthetic", schemas)


def named(messages: list[bytes]) -> list[tuple[str, bytes]]:
    return [(f"alerts[0] offset {k}", data) for k, data in enumerate(messages)]


def rows(found) -> np.ndarray:
    "Probabilities and p-value of each answer."
    return np.column_stack([found.probabilities, found.outlier])


def poisoned() -> dict[str, bytes | None]:
    "Messages that are refused, by a part of the reason."
    whole, other = message(3, 2), made.elasticc_alert(5, 9.0)
    many = made.elasticc_alert(4, 9.0)
    many["prvDiaForcedSources"] = [made._elasticc_source(4, k * 1e-4) for k in range(100_000)]
    untimed, ahead, nameless, numberless = (json.loads(json.dumps(other)) for _ in range(4))
    untimed["diaSource"]["midPointTai"] = float("nan")
    ahead["diaSource"]["midPointTai"] = 1e12
    nameless["diaSource"]["filterName"] = "Q"
    numberless["alertId"] = 0
    huge = json.loads(json.dumps(other))
    huge["diaSource"]["psFlux"] = 1e200
    return {
        "cannot be decoded (EOFError": whole[:-30],
        "bytes are left over": whole + b"\0\0",
        "50,000,000 bytes, more than 16,000,000": bytes(50_000_000),
        "observations, more than 16,384": made.encode(SCHEMA, many),
        "no schema number 1234": made.wire(1234, b"\2\2"),
        "truncated": b"\0\0\1",
        "it is empty": None,
        "no alert of a known format": b'{"a": 1}',
        "JSONDecodeError": b'{"a": ',
        "a record is needed": b"[3]",
        "several alerts in one message": json.dumps([made.elasticc_alert(6, 1.0), made.elasticc_alert(6, 2.0)]).encode(),
        "a measurement without a time": made.encode(SCHEMA, untimed),
        "not a modified Julian date": made.encode(SCHEMA, ahead),
        "no known passband": made.encode(SCHEMA, nameless),
        "no identifier of the alert": made.encode(SCHEMA, numberless),
        "FLUXCAL is not finite": json.dumps(huge).encode(),
    }


def test_poisoned_messages_are_refused_by_name_and_the_others_answered(server):
    good = [message(k, 2) for k in range(10, 14)]
    alone = rows(server.answer(named(good)))
    bad = poisoned()
    mixed = named([good[0], *bad.values(), *good[1:]])
    found = server.answer(mixed)
    assert np.array_equal(rows(found), alone)
    assert len(found.refused) == len(bad)
    for (name, _), reason in zip(mixed[1 : 1 + len(bad)], bad, strict=True):
        said = found.refused[name]
        assert reason in said and "\n" not in said and "0x" not in said, (reason, said)


def test_an_alert_with_nan_everywhere_is_declined(server):
    empty = made.elasticc_alert(7, 5.0, earlier=2)
    for source in (empty["diaSource"], *empty["prvDiaSources"]):
        source["psFlux"] = source["psFluxErr"] = float("nan")
    empty["diaObject"] |= {name: float("nan") for name in empty["diaObject"] if name != "diaObjectId"}
    found = server.answer(named([made.encode(SCHEMA, empty), message(8, 1)]))
    assert found.kinds.tolist() == ["declined", "new"] and not found.refused and np.isnan(found.outlier).tolist() == [True, False]


def test_random_bytes_never_stop_the_stream(server):
    whole, draw = message(3, 2), np.random.default_rng(0)
    spoiled = []
    for _ in range(100):
        data = bytearray(whole)
        for place in draw.integers(0, len(data), 3):
            data[place] = draw.integers(256)
        spoiled.append(bytes(data[: draw.integers(1, len(data) + 1)]))
    found = server.answer(named([*spoiled, whole]))
    assert len(found.header) + len(found.refused) + found.solar_system == 101 and "alerts[0] offset 100" in found.header["file"].tolist()


@settings(max_examples=5, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 4), st.integers(0, 4)), min_size=1, max_size=14), st.randoms(), st.booleans())
def test_batches_do_not_change_the_bits(sent, shuffle, with_state):
    "Any order, repetition and division into batches, alone and with a state: the answer to an alert is the same bytes."
    from tempfile import TemporaryDirectory

    with TemporaryDirectory() as folder:
        path = Path(folder) / "elasticc.v0_9_1.alert.avsc"
        path.write_text(json.dumps(made.ELASTICC_SCHEMA))
        found = []
        for which in ("whole", "cut"):
            server = AlertClassifier(classifier(), path, Path(folder) / f"{which}.sqlite" if with_state else None)
            cuts = [0, len(sent)] if which == "whole" else sorted({0, len(sent), *shuffle.choices(range(len(sent)), k=3)})
            found.append(all_answers(server, sent, cuts))
        assert found[0] == found[1] and set(found[0]) == {alert(*one)["alertId"] for one in sent}


def classifier(found=[]):  # noqa: B006
    "The packaged classifier, loaded once."
    found or found.append(HierarchicalClassifier.from_pretrained("synthetic"))
    return found[0]


def all_answers(server: AlertClassifier, sent: list, cuts: list[int]) -> dict[int, bytes]:
    "The answers by alert; one that is answered twice has the same bytes."
    found = {}
    for begin, end in zip(cuts, cuts[1:], strict=False):
        part = server.answer(named([message(*one) for one in sent[begin:end]]))
        for number, row, kind in zip(part.header["alertId"], rows(part), part.kinds, strict=True):
            if kind != REPEATED:
                assert found.setdefault(number, row.tobytes()) == row.tobytes()
        if server.store is not None:
            server.store.commit(part.state, Progress(part.header["alertId"], "alerts", {0: end}))
    if server.store is not None:
        server.store.close()
    return found


def test_a_full_disk_stores_nothing_of_the_batch(schemas, tmp_path):
    server = AlertClassifier(classifier(), schemas, tmp_path / "state.sqlite")
    server.store.base.execute("PRAGMA max_page_count = 20").fetchall()
    part = server.answer(named([message(k, 1) for k in range(1, 200)]))
    with pytest.raises(OSError, match="state.sqlite: no room to write it"):
        server.store.commit(part.state, Progress(part.header["alertId"], "alerts", {0: 200}))
    assert len(server.store) == 0 and server.store.offsets("alerts") == {}
    assert not server.store.answered(part.header["alertId"].to_numpy()).any()
    server.store.base.execute("PRAGMA max_page_count = 100000").fetchall()
    again = server.answer(named([message(k, 1) for k in range(1, 200)]))
    assert np.array_equal(rows(again), rows(part))
    server.store.commit(again.state, Progress(again.header["alertId"], "alerts", {0: 200}))
    assert len(server.store) == 199


def test_history_older_than_the_packet_counts(schemas, tmp_path):
    "An alert whose packet has lost its history is answered as one with the whole history."
    server = AlertClassifier(classifier(), schemas, tmp_path / "state.sqlite")
    first = server.answer(named([message(1, 3)]))
    server.store.commit(first.state, Progress(first.header["alertId"], "alerts", {0: 1}))
    short, whole = alert(1, 4), alert(1, 4)
    short["prvDiaSources"] = [one for one in whole["prvDiaSources"] if one["midPointTai"] > 60010.5]
    short["prvDiaForcedSources"] = [one for one in whole["prvDiaForcedSources"] if one["midPointTai"] > 60010.5]
    expected = AlertClassifier(classifier(), schemas)
    with_state = server.answer(named([made.encode(SCHEMA, short)])).probabilities
    from_short, from_whole = (expected.answer(named([made.encode(SCHEMA, one)])).probabilities for one in (short, whole))
    assert np.abs(with_state - from_whole).max() < np.abs(from_short - from_whole).max()


def test_a_registry_that_does_not_answer_is_asked_again(schemas):
    from elasticc_hc.classification.alert_stream import _answered

    class Registry:
        asked = 0

        def get_schema(self, number):
            self.asked += 1
            if self.asked < 2:
                raise ConnectionRefusedError("nobody there")
            return type("Found", (), {"schema_str": json.dumps(made.RUBIN_SCHEMA)})

    class Link:
        lines = []

        def tell(self, line):
            self.lines.append(line)

    class Event(threading.Event):
        def wait(self, timeout=None):
            return super().wait(0)

    registry, link = Registry(), Link()
    server = AlertClassifier(classifier(), registry)
    data = {"alerts[0] offset 0": made.wire(1000, made.encode(made.RUBIN_SCHEMA, made.rubin_alert(1, 2)))}
    found = _answered(server, data, Event(), link)
    assert len(found.header) == 1 and registry.asked == 2 and "nobody there" in link.lines[0]


def test_threads_share_a_classifier(server):
    messages = named([message(k, k % 4) for k in range(1, 40)])
    expected, found = rows(server.answer(messages)), {}

    def work(which):
        found[which] = rows(server.answer(messages[which::3]))

    threads = [threading.Thread(target=work, args=[which]) for which in range(3)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert all(np.array_equal(found[which], expected[which::3]) for which in range(3))


def test_trees_do_not_depend_on_the_batch(schemas):
    "The packaged hybrid: network and boosted trees."
    hybrid = AlertClassifier("plasticc", schemas)
    messages = named([message(k, k % 4) for k in range(1, 8)])
    together = rows(hybrid.answer(messages))
    assert np.array_equal(np.concatenate([rows(hybrid.answer([one])) for one in messages]), together)


@pytest.mark.parametrize("with_state", [True, False])
def test_p_values_are_those_of_predict(schemas, tmp_path, with_state):
    server = AlertClassifier(classifier(), schemas, tmp_path / "state.sqlite" if with_state else None)
    messages = named([message(k, k % 4) for k in range(1, 240)])
    curves, _ = read_messages(StreamReader(server.schemas), messages)
    found = server.answer(messages)
    newest = classifier().predict(curves, [1e6])
    at_detections = classifier().predict_detections(curves).groupby("SNID")["outlier"].last().loc[newest.SNID].to_numpy()
    assert len(found.outlier) == len(newest) == len(messages) and len(np.unique(found.outlier)) > 100
    np.testing.assert_allclose(found.outlier, newest.outlier[:, 0], rtol=0, atol=1e-5)
    np.testing.assert_allclose(found.outlier, at_detections, rtol=0, atol=1e-5)


def test_a_p_value_that_depends_on_its_batch_is_noticed(server):
    class Dependent(OutlierModel):
        def score(self, features, detections):
            return super().score(features, detections) * (1 + 1e-12 * len(features))

    dependent = Dependent(**vars(server.classifier.outliers))
    with pytest.raises(RuntimeError, match="depends on its batch"):
        check_blocks(replace(server.classifier, outliers=dependent))


def test_without_a_model_of_outliers_there_is_no_p_value_and_the_states_are_the_same(schemas, tmp_path):
    second = []
    for model, file in ((replace(classifier(), outliers=None), "without.sqlite"), (classifier(), "with.sqlite")):
        server = AlertClassifier(model, schemas, tmp_path / file)
        first = server.answer(named([message(1, 1)]))
        server.store.commit(first.state, Progress(first.header["alertId"], "alerts", {0: 1}))
        server.store.close()
        assert (first.outlier is None) == (file == "without.sqlite")
        server = AlertClassifier(classifier(), schemas, tmp_path / file)
        second.append(server.answer(named([message(1, 2)])))
        server.store.close()
    assert np.array_equal(second[0].outlier, second[1].outlier)
    assert np.array_equal(second[0].probabilities, second[1].probabilities)


def test_a_night_that_an_earlier_version_has_begun_is_continued(tmp_path):
    "Answers without p-values, in the file of the running night and in that of the night, stay."
    alerts = pd.DataFrame({"alertId": [1, 2, 3], "diaSourceId": [1, 2, 3], "SNID": ["a", "b", "c"], "ALERT_MJD": 60000.6})
    p, unlike = np.random.default_rng(0).random((3, 2), np.float32), np.array([0.5, 0.25, np.nan], np.float32)
    before = NightlyAnswers(tmp_path, ["one", "two"])
    before.add(alerts[:1], p[:1])
    before.close()
    base = sqlite3.connect(tmp_path / ".answers.sqlite")
    base.executescript("""DROP TABLE answers; CREATE TABLE answers (night INTEGER, alert INTEGER, source INTEGER, snid TEXT, mjd REAL,
        p BLOB, PRIMARY KEY (night, alert)) WITHOUT ROWID;""")
    base.execute("INSERT INTO answers VALUES (60000, 2, 2, 'b', 60000.6, ?)", [p[1].tobytes()])
    base.commit()
    base.close()
    after = NightlyAnswers(tmp_path, ["one", "two"], with_outlier=True)
    after.add(alerts[2:], p[2:], unlike[:1])
    after.close()
    table = pd.read_parquet(tmp_path / "night_60000.parquet")
    assert np.array_equal(table["outlier"], [np.nan, np.nan, 0.5], equal_nan=True) and np.array_equal(table[["one", "two"]], p)


def test_loading_takes_no_half_second():
    spans = []
    for _ in range(3):
        start = time.process_time()
        HierarchicalClassifier.from_pretrained("synthetic")
        spans.append(time.process_time() - start)
    assert min(spans) < 0.5


def test_metrics_name_the_reasons(server):
    from elasticc_hc.classification.alert_stream import Metrics

    metrics = Metrics()
    metrics.add(3, server.answer(named([message(1, 1), b"{", b"{"])))
    line = metrics.line(7)
    assert re.match(r"3 alerts, [\d,]+ alerts/s, lag 7, 2 refused \(2 × it cannot be decoded", line), line


def test_limits_are_those_of_the_text():
    assert MAX_BYTES == 16_000_000 and MAX_OBSERVATIONS == 16_384
