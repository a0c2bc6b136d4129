"""A training on simulated objects: the same for any number of processes, and an end without processes or words left over."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from elasticc_hc.conversion.parallel import process_pool
from elasticc_hc.conversion.schema import is_leak
from elasticc_hc.lightcurves.lightcurves import OBSERVATION_COLUMNS
from elasticc_hc.simulation import simulator
from elasticc_hc.simulation.training_objects import SimulatedObjects, objects_of_models, simulate_table
from elasticc_hc.taxonomy.taxonomy import Taxonomy

COMMAND = Path(sys.executable).parent / "elasticc-hc"
TREE = """name: three
nodes:
- {name: Alert, parent: null}
- {name: SNIa, parent: Alert, models: [SNIa-SALT3, SNIa-91bg]}
- {name: TDE, parent: Alert, models: [TDE]}
- {name: RR Lyrae, parent: Alert, models: [RRL]}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A class tree, and a file of held-out objects."""
    folder = tmp_path_factory.mktemp("simulated")
    (folder / "tree.yaml").write_text(TREE, encoding="utf-8")
    with SimulatedObjects(Taxonomy.from_yaml(folder / "tree.yaml"), 8, seed=99).producer() as producer:
        producer.objects(0).to_parquet(folder / "held_out.parquet")
    (folder / "options.yaml").write_text("hidden: 16\nlayers: 1\nepochs: 500\n", encoding="utf-8")
    return folder


def children(process):
    """Numbers of the processes that a process has started."""
    found = Path(f"/proc/{process}/task/{process}/children").read_text(encoding="utf-8").split()
    return [int(child) for child in found if "resource_tracker" not in Path(f"/proc/{child}/cmdline").read_text(encoding="utf-8")]


@pytest.fixture
def training(folder, tmp_path):
    """A training by command in a session of its own, after its first epoch; its processes."""
    words = f"train {folder}/held_out.parquet --out {tmp_path}/run --taxonomy {folder}/tree.yaml --options {folder}/options.yaml"
    started = subprocess.Popen(
        [COMMAND, *words.split(), "--simulate", "20", "--jobs", "2"], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        start_new_session=True, env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    end = time.monotonic() + 120
    while not (tmp_path / "run" / "model.safetensors").exists() and started.poll() is None and time.monotonic() < end:
        time.sleep(0.1)
    assert started.poll() is None, started.communicate()[1]
    yield started, children(started.pid)
    if started.poll() is None:
        started.kill()
    started.communicate()


def all_ended(processes):
    """Whether none of the processes is left, after some seconds at most."""
    for _ in range(100):
        if not any(Path(f"/proc/{process}").exists() for process in processes):
            return True
        time.sleep(0.1)
    return False


def test_any_number_of_processes_gives_the_same_objects(folder):
    plan = SimulatedObjects(Taxonomy.from_yaml(folder / "tree.yaml"), 5, seed=4)
    with plan.producer() as one, replace(plan, jobs=2).producer() as two:
        for epoch in (2, 0):
            first, second = one.objects(epoch), two.objects(epoch)
            pd.testing.assert_frame_equal(first.header, second.header)
            assert all(np.array_equal(getattr(first, name), getattr(second, name)) for name in ("offsets", *OBSERVATION_COLUMNS))
            assert len(first) == 15 and not any(map(is_leak, first.header))
            counts = first.header["ELASTICC_class"].value_counts().to_dict()
            assert counts == objects_of_models(plan.taxonomy, 5, epoch)


def test_ctrl_c_ends_all_processes_without_a_traceback(training):
    started, workers = training
    os.killpg(started.pid, signal.SIGINT)
    said = started.communicate(timeout=60)[1]
    assert len(workers) == 2 and all_ended(workers)
    assert started.returncode not in (0, None) and "Traceback" not in said, said


def test_a_dead_producer_is_one_line(training):
    started, workers = training
    os.kill(workers[0], signal.SIGKILL)
    said = started.communicate(timeout=60)[1]
    assert started.returncode == 1 and all_ended(workers) and "Traceback" not in said
    assert said.strip().splitlines()[-1].startswith("elasticc-hc: a worker process was killed"), said


def test_a_killed_training_takes_its_processes_along(training):
    started, workers = training
    started.kill()
    assert all_ended(workers)


def test_one_process_beside_this_one():
    with process_pool(1, beside=True) as (pool, at_once):
        assert at_once == 1 and pool.submit(os.getpid).result() != os.getpid()


@pytest.mark.parametrize("empty", [(0,), (1,), (0, 1, 2), (0, 2, 4)])
@pytest.mark.parametrize("model", ["KN_B19", "RRL"])
def test_chunks_without_a_detected_object_are_passed_over(monkeypatch, tmp_path, model, empty):
    """In tables and in files: the objects of the other chunks, as many as were asked for."""
    real, numbers = simulator.simulate_chunk, []

    def sometimes_empty(chosen, sky, number, *options):
        numbers.append(number)
        chunk = real(chosen, sky, number - sum(k < number for k in empty), *options)
        few = simulator._slice_chunk(chunk, 3)
        return simulator._slice_chunk(few, 0) if number in empty else few

    monkeypatch.setattr(simulator, "simulate_chunk", sometimes_empty)
    table = simulate_table(model, 8, 5)
    assert table.num_rows == 8 and len(set(table["SNID"].to_pylist())) == 8 and set(empty) < set(numbers)
    assert simulator.simulate(tmp_path / "out", 8, models=[model])[model]["objects"] == 8
