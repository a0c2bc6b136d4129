"""Speed of the hierarchical loss: one pass over all sibling groups, compared with a loop over the groups.

    python bench/loss.py [--rows 25600] [--threads 1] [--repeats 9]

Forward and backward, float32 on the CPU. Prints one JSON line per tree, batch and implementation: the median and the fastest of
the repeats in milliseconds, and the ratio of the loop's median. Trees: the packaged one (26 nodes) and random ones. The last line
is the fraction of time of the loss in the training steps of the `lstm` preset, on the light curves of the sample in nbs/data.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch

from elasticc_hc.lightcurves.lightcurves import LightCurves
from elasticc_hc.loss.loss import HierarchicalCrossEntropy
from elasticc_hc.taxonomy.taxonomy import Taxonomy
from elasticc_hc.training.options import PRESETS
from elasticc_hc.training.trainer import Trainer

SAMPLE = Path(__file__).parent.parent / "nbs" / "data" / "plasticc_sample.parquet"


def random_tree(n: int, seed: int = 0) -> Taxonomy:
    "A random tree of n nodes with about three children per inner node."
    rng = np.random.default_rng(seed)
    parents = [None, *(str(max(0, (i - 1 - int(rng.integers(0, 12))) // 3)) for i in range(1, n))]
    nodes = [{"name": str(i), "parent": parent} for i, parent in enumerate(parents)]
    return Taxonomy.from_dict({"name": f"random {n}", "nodes": nodes})


class LoopLoss:
    "The same loss with a log-softmax per sibling group in a Python loop; index tensors are precomputed."

    def __init__(self, loss: HierarchicalCrossEntropy):
        groups = loss.groups
        self.members = [torch.nonzero(groups == group).squeeze(1) for group in range(1, int(groups.max()) + 1)]
        self.weights = [loss.weights[:, members].contiguous() for members in self.members]

    def __call__(self, logits: torch.Tensor, leaf: torch.Tensor) -> torch.Tensor:
        total = logits.new_zeros(logits.shape[:-1])
        for members, weights in zip(self.members, self.weights, strict=True):
            total = total - (logits[..., members].log_softmax(-1) * weights[leaf]).sum(-1)
        return total.mean()


def seconds(loss, logits: torch.Tensor, leaf: torch.Tensor, repeats: int) -> list[float]:
    "Wall times of forward and backward, sorted, after one warm-up pass."
    times = []
    for _ in range(repeats + 1):
        logits.grad = None
        start = time.perf_counter()
        loss(logits, leaf).backward()
        times.append(time.perf_counter() - start)
    return sorted(times[1:])


def share_of_a_step(taxonomy: Taxonomy, repeats: int) -> dict:
    "Time of the loss, forward and backward, within the training steps of an epoch of the `lstm` preset on the sample's light curves."
    curves = LightCurves.from_parquet(SAMPLE)
    trainer = Trainer(curves, curves[::10], taxonomy, PRESETS["lstm"])
    whole, alone = [], []
    for batch in [batch for _ in range(repeats) for batch in trainer.epoch_batches()]:
        start = time.perf_counter()
        trainer.step(batch)
        whole.append(time.perf_counter() - start)
        rows, _ = batch.answers.nonzero(as_tuple=True)
        logits = torch.randn(len(rows), len(taxonomy.nodes), requires_grad=True)
        alone += seconds(trainer.loss, logits, batch.leaf[rows], 1)
    step, loss = sum(sorted(whole)[1:-1]), sum(sorted(alone)[1:-1])
    each = {f"{name}_ms": round(1e3 * total / (len(whole) - 2), 3) for name, total in (("step", step), ("loss", loss))}
    return {"bench": "loss", **each, "share": round(loss / step, 4)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[256, 25600], help="rows in a batch")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=9)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.set_flush_denormal(True)
    for taxonomy in (Taxonomy.from_yaml("elasticc2"), random_tree(60), random_tree(200)):
        for rows in options.rows:
            generator = torch.Generator().manual_seed(0)
            logits = torch.randn(rows, len(taxonomy.nodes), generator=generator, requires_grad=True)
            leaf = torch.from_numpy(np.random.default_rng(0).choice(taxonomy.leaf_nodes, rows))
            ours = HierarchicalCrossEntropy(taxonomy)
            loop = LoopLoss(ours)
            torch.testing.assert_close(ours(logits, leaf), loop(logits, leaf))
            both = {"one pass": ours, "loop": loop}
            times = {name: seconds(loss, logits, leaf, options.repeats) for name, loss in both.items()}
            middle = {name: found[len(found) // 2] for name, found in times.items()}
            for name, found in times.items():
                print(json.dumps({
                    "bench": "loss", "tree": taxonomy.name, "nodes": len(taxonomy.nodes), "groups": len(loop.members),
                    "rows": rows, "threads": options.threads, "implementation": name,
                    "median_ms": round(1e3 * middle[name], 3), "fastest_ms": round(1e3 * found[0], 3),
                    "loop_over_this": round(middle["loop"] / middle[name], 2),
                }), flush=True)  # fmt: skip
    print(json.dumps(share_of_a_step(Taxonomy.from_yaml("plasticc"), options.repeats)), flush=True)


if __name__ == "__main__":
    main()
