"""Training on a GPU: the same step as on a CPU, the same run for the same seed, whole or in parts, and alone under `torchrun`."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from elasticc_hc.lightcurves.lightcurves import LightCurves
from elasticc_hc.taxonomy.taxonomy import Taxonomy
from elasticc_hc.training.dataset import DAYS, batch_loader, positions_at_days
from elasticc_hc.training.model import load_checkpoint, predict_logits
from elasticc_hc.training.options import PRESETS
from elasticc_hc.training.trainer import Trainer, fit

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU that PyTorch can use")
SAMPLE = Path(__file__).parent.parent / "nbs" / "data" / "plasticc_sample.parquet"
CURVES, TAXONOMY = LightCurves.from_parquet(SAMPLE), Taxonomy.from_yaml("plasticc")
HELD_OUT = np.arange(len(CURVES)) % 4 == 0
SMALL = {name: replace(PRESETS[name], hidden=32, epochs=3, learning_rate=5e-3) for name in ("default", "gru", "attention", "oracle")}
SMALL["members"] = replace(SMALL["default"], members=2)


class Killed(Exception):
    """Interruption of a run."""


def run(folder, options, progress=None):
    """A run on the GPU, and its weights."""
    history = fit(CURVES[~HELD_OUT], CURVES[HELD_OUT], TAXONOMY, folder, options, progress, device="cuda")
    assert not torch.are_deterministic_algorithms_enabled(), "a setting of a training only"
    return history, load_file(folder / "model.safetensors")


@pytest.mark.parametrize("name", SMALL)
def test_gradient_of_a_batch_is_that_of_the_cpu(name):
    """Loss and gradients agree to single precision."""
    options, found = replace(SMALL[name], dropout=0.0), {}
    for device in ("cpu", "cuda"):
        trainer = Trainer(CURVES[~HELD_OUT], CURVES[HELD_OUT], TAXONOMY, options, device)
        loss = trainer.training_loss(next(iter(trainer.epoch_batches())).to(device))
        loss.backward()
        found[device] = torch.cat([loss.detach()[None], *(p.grad.flatten() for p in trainer.network.parameters())]).cpu()
    difference = (found["cuda"] - found["cpu"]).norm() / found["cpu"].norm()
    assert difference < 5e-3, f"relative difference {difference:.1e}"


@pytest.mark.parametrize("name", SMALL)
def test_logits_of_a_run_are_those_of_the_cpu(name, tmp_path):
    """A checkpoint written by the GPU is read by the CPU."""
    run(tmp_path / "run", SMALL[name])
    network, _ = load_checkpoint(tmp_path / "run")
    data = Trainer(CURVES[~HELD_OUT], CURVES[HELD_OUT], TAXONOMY, SMALL[name]).validation
    logits = [predict_logits(network.to(device), batch_loader(data), positions_at_days(data, DAYS)) for device in ("cpu", "cuda")]
    assert torch.allclose(*logits, atol=2e-2, rtol=1e-2), (logits[0] - logits[1]).abs().max()


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", ["default", "attention", "members"])
def test_same_seed_same_weights_also_in_parts(name, precision, tmp_path):
    """Two runs are equal, one of them interrupted after every epoch."""
    options = replace(SMALL[name], precision=precision)

    def stop(row):
        raise Killed

    whole, weights = run(tmp_path / "whole", options)
    for _ in range(options.epochs):
        with pytest.raises(Killed):
            run(tmp_path / "parts", options, stop)
    again, resumed = run(tmp_path / "parts", options)
    pd.testing.assert_frame_equal(again, whole)
    assert all(torch.equal(weights[key], resumed[key]) for key in weights)
    assert whole["loss"].iloc[-1] < whole["loss"].iloc[0]


def test_torchrun_on_one_gpu(tmp_path):
    """The process joins over NCCL and gives the run of a process alone."""
    _, weights = run(tmp_path / "alone", SMALL["default"])
    script = tmp_path / "run.py"
    script.write_text(
        "import sys\nfrom pathlib import Path\n"
        f"sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "import test_gpu\ntest_gpu.run(Path(sys.argv[1]), test_gpu.SMALL['default'])\n",
        encoding="utf-8",
    )
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "1", "--local-addr", "127.0.0.1"]
    done = subprocess.run([*launch, script, tmp_path / "joined"], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    joined = load_file(tmp_path / "joined" / "model.safetensors")
    assert all(torch.allclose(weights[key], joined[key], atol=1e-4) for key in weights)
