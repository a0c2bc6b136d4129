"""Two processes that `torchrun` starts learn what one process learns."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

SAMPLE = Path(__file__).parent.parent / "nbs" / "data" / "plasticc_sample.parquet"
RUN = """
import sys
from dataclasses import replace
import numpy as np
from elasticc_hc.lightcurves.lightcurves import LightCurves
from elasticc_hc.taxonomy.taxonomy import Taxonomy
from elasticc_hc.training.options import PRESETS
from elasticc_hc.training.trainer import fit

curves = LightCurves.from_parquet(sys.argv[1])
held_out = np.arange(len(curves)) % 4 == 0
options = replace(PRESETS["gru"], hidden=16, layers=1, epochs=2, batch_size=33, dropout=0.0)
fit(curves[~held_out], curves[held_out], Taxonomy.from_yaml("plasticc"), sys.argv[2], options, device="cpu")
"""


@pytest.fixture(scope="module")
def histories(tmp_path_factory):
    """The history of the run on one and on two processes, and their folders."""
    folder = tmp_path_factory.mktemp("distributed")
    script = folder / "run.py"
    script.write_text(RUN, encoding="utf-8")
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "--local-addr", "127.0.0.1"]
    for name, command in (("one", [sys.executable]), ("two", launch)):
        done = subprocess.run([*command, script, SAMPLE, folder / name], capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr[-2000:]
    return {name: (pd.read_csv(folder / name / "history.csv"), folder / name) for name in ("one", "two")}


def test_two_processes_have_the_loss_curve_of_one(histories):
    (one, _), (two, _) = histories["one"], histories["two"]
    assert len(one) == len(two) == 2
    np.testing.assert_allclose(two["loss"], one["loss"], rtol=1e-4)
    np.testing.assert_allclose(two["score"], one["score"], atol=0.03)


def test_the_first_process_writes_and_nothing_is_left_beside(histories):
    names = [sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*")) for _, folder in histories.values()]
    assert names[0] == names[1]
