"""Networks that were trained one after the other, or on different machines, as the members of one classifier.

    python bench/members.py new RUN OUT --seed 2              the scaling of a run with new weights: OUT is the `start` of `train`
    python bench/members.py join OUT HELD_OUT.parquet RUN …   one checkpoint of several runs, calibrated on objects held out
    python bench/members.py mean OUT HELD_OUT.parquet RUN …   one network with the mean of their weights (Izmailov et al. 2018)
    python bench/members.py trees RUN TRAIN.parquet           the boosted trees of a hybrid, added to a run of a network alone

The runs have the same tree, architecture and scaling: train one network, make `new` weights with its scaling, train these with
`start` and another seed, `join` both. `mean` is for epochs of one run, such as RUN and RUN/resume/0007.
"""

import argparse
import json
from dataclasses import asdict, replace
from datetime import date
from pathlib import Path

import torch

from elasticc_hc.classification.classifier import HierarchicalClassifier
from elasticc_hc.classification.runs import save_calibration
from elasticc_hc.lightcurves.lightcurves import LightCurves
from elasticc_hc.taxonomy.taxonomy import Taxonomy
from elasticc_hc.training.dataset import Preprocessing
from elasticc_hc.training.model import Network, build_network, load_checkpoint, save_checkpoint, update_checkpoint
from elasticc_hc.training.options import PRESETS, Options, data_fingerprint, source_commit
from elasticc_hc.training.trainer import variant_transform
from elasticc_hc.training.trees import fit_trees, save_trees


def new(run: Path, out: Path, seed: int) -> None:
    "Write a checkpoint with the scaling of a run and new weights."
    network, description = load_checkpoint(run)
    torch.manual_seed(seed)
    parts = {name: description[name] for name in ("preprocessing", "taxonomy", "options", "data")}
    save_checkpoint(out, build_network(network.architecture), **parts)


def single_networks(network: Network) -> list[Network]:
    "The members of an ensemble, or the network itself."
    return list(getattr(network, "members", [network]))


def record(description: dict) -> dict:
    "What is kept of the training of a member."
    return {name: description[name] for name in ("options", "data", "objects", "epoch", "date", "source") if name in description}


def alike(runs: list[Path]) -> tuple[list[Network], list[dict]]:
    "Networks and descriptions of several runs; SystemExit where they do not fit."
    loaded = [load_checkpoint(run) for run in runs]
    networks, first = [network for network, _ in loaded], loaded[0][1]
    for run, (network, description) in zip(runs, loaded, strict=True):
        kinds = [replace(of.architecture, members=1, dropout=0.0) for of in (network, networks[0])]
        trees = [json.dumps([(node["name"], node["parent"]) for node in of["taxonomy"]["nodes"]]) for of in (description, first)]
        if kinds[0] != kinds[1] or trees[0] != trees[1] or description["preprocessing"] != first["preprocessing"]:
            raise SystemExit(f"{run}: another architecture, tree or scaling than {runs[0]}")
    return networks, [description for _, description in loaded]


def write(out: Path, network: Network, descriptions: list[dict], held_out: LightCurves, options: dict) -> None:
    "Write a network made of several runs and calibrate it."
    parts = {
        name: descriptions[0][name] for name in ("preprocessing", "taxonomy", "data", "objects", "versions") if name in descriptions[0]
    }
    about = {"date": date.today().isoformat(), "source": source_commit(), "members": [record(description) for description in descriptions]}
    save_checkpoint(out, network, options=descriptions[0]["options"] | options, **parts, **about)
    save_calibration(HierarchicalClassifier.load(out).calibrate(held_out).estimate_class_prior(held_out), out)
    print(json.dumps({"runs": len(descriptions), "architecture": asdict(network.architecture)}))


def join(out: Path, held_out: LightCurves, runs: list[Path]) -> None:
    "One checkpoint of several runs, whose logits are averaged."
    networks, descriptions = alike(runs)
    members = [member for network in networks for member in single_networks(network)]
    ensemble = build_network(replace(networks[0].architecture, members=len(members)))
    ensemble.members.load_state_dict(torch.nn.ModuleList(members).state_dict())
    write(out, ensemble, descriptions, held_out, {"members": len(members)})


def mean(out: Path, held_out: LightCurves, runs: list[Path]) -> None:
    "One network with the mean of the weights of several."
    networks, descriptions = alike(runs)
    states = [network.state_dict() for network in networks]
    networks[0].load_state_dict({name: torch.stack([state[name] for state in states]).mean(0) for name in states[0]})
    write(out, networks[0], descriptions, held_out, {})


def trees(run: Path, train: LightCurves) -> None:
    "Fit boosted trees to the objects that a network was trained on; SystemExit for others."
    _, description = load_checkpoint(run)
    options = replace(Options(**description["options"]), trees=PRESETS["hybrid"].trees)
    if data_fingerprint(train, options.static_columns) != description["data"]["train"]:
        raise SystemExit(f"{run}: its network was trained on other objects")
    preprocessing, taxonomy = Preprocessing.from_dict(description["preprocessing"]), Taxonomy.from_dict(description["taxonomy"])
    save_trees(run, fit_trees(train, preprocessing, taxonomy, options, variant_transform(options)))
    update_checkpoint(run, options=asdict(options))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    verbs = parser.add_subparsers(dest="verb", required=True)
    fresh = verbs.add_parser("new")
    fresh.add_argument("run", type=Path)
    fresh.add_argument("out", type=Path)
    fresh.add_argument("--seed", type=int, default=0)
    for name in ("join", "mean"):
        verb = verbs.add_parser(name)
        verb.add_argument("out", type=Path)
        verb.add_argument("held_out")
        verb.add_argument("runs", type=Path, nargs="+")
    added = verbs.add_parser("trees")
    added.add_argument("run", type=Path)
    added.add_argument("train")
    asked = parser.parse_args()
    if asked.verb == "new":
        new(asked.run, asked.out, asked.seed)
    elif asked.verb == "trees":
        trees(asked.run, LightCurves.from_parquet(asked.train))
    else:
        {"join": join, "mean": mean}[asked.verb](asked.out, LightCurves.from_parquet(asked.held_out), asked.runs)


if __name__ == "__main__":
    main()
