"""The pages on benchmarks: a few figures of what bench/results holds, and every file of it as a table."""

import json
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

RESULTS = Path(__file__).resolve().parent.parent / "bench/results"
LONGEST = 40  # rows of a table
SETS = {"quality_plasticc": "PLAsTiCC training set", "quality_synthetic": "Simulated, 1,500 objects of each model"}
MODELS = {
    "hybrid, 3 members": ("#0072B2", "hybrid, 3 networks"), "hybrid": ("#56B4E9", "hybrid"),
    "hybrid, network alone": ("#E69F00", "hybrid, its network alone"), "default": ("#009E73", "default"),
    "attention": ("#882255", "attention"),
    "boosting": ("#D55E00", "boosted trees, fitted for each day"), "SuperNNova": ("#CC79A7", "SuperNNova, spectroscopic redshift"),
    "oracle": ("#7F7F7F", "ORACLE's recipe"),
}  # fmt: skip
CLASSES = {"SNIa": "#0072B2", "SNII": "#D55E00", "SNIb/c": "#009E73", "KN": "#CC79A7"}


def read(name):
    """The lines of a file of results."""
    return [json.loads(line) for line in (RESULTS / f"{name}.jsonl").read_text(encoding="utf-8").splitlines() if line.strip()]


def leaf_scores(rows, model, metric):
    """Day → values of all seeds, of the calibrated probabilities where there are some."""
    found, inputs = {}, ("with", "spectroscopic redshift")
    for row in rows:
        if row.get("model") == model and row.get("statics") in inputs and row.get("level") == "leaf" and row.get("calibrated", True):
            found.setdefault(row["day"], []).append(row[metric])
    return dict(sorted(found.items()))


def comparison_rows(name):
    """The scores of one set; on PLAsTiCC also those of SuperNNova, with the input normalisation that suits it."""
    peers = [row for row in read("peers") if row.get("norm") == "cosmo"] if name == "quality_plasticc" else []
    return read(name) + peers


def plot_by_day(ax, rows, metric):
    """A curve per model: the mean over seeds, and their range."""
    for model, (colour, label) in MODELS.items():
        scores = leaf_scores(rows, model, metric)
        if scores:
            values = np.array([[np.mean(v), min(v), max(v)] for v in scores.values()]).T
            ax.fill_between(list(scores), values[1], values[2], color=colour, alpha=0.2, lw=0)
            ax.plot(list(scores), values[0], "o-", ms=3, color=colour, label=label)
    ax.set(xscale="log", xlabel="days since trigger", ylim=(0, 1))
    ax.set_xticks([1, 8, 64, 1024], ["1", "8", "64", "1024"])
    ax.minorticks_off()
    ax.grid(alpha=0.3)


def quality_figure():
    """Macro F1 of the leaves by day, on both sets."""
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.8), sharey=True, layout="constrained")
    for ax, (name, title) in zip(axes, SETS.items(), strict=True):
        plot_by_day(ax, comparison_rows(name), "f1")
        ax.set_title(title, fontsize=10)
    axes[0].set_ylabel("leaf macro F1, test side")
    lines = {line.get_label(): line for ax in axes for line in ax.get_lines()}
    figure.legend(lines.values(), lines, loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    return figure


def real_figure():
    """Leaf accuracy on real objects of ELAsTiCC 1 and on simulated ones drawn in the same way."""
    rows = [row for row in read("real_synthetic") if row.get("metadata") == "all" and row.get("prior") == "uniform"]
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.4), sharey=True, layout="constrained")
    for ax, chosen, title in ((axes[0], "alerts of ELAsTiCC 1", "real alerts of ELAsTiCC 1"),
                              (axes[1], "alerts of ELAsTiCC 1, simulated", "simulated, same selection")):  # fmt: skip
        for row in rows:
            if row["set"] == chosen and row["class"] in CLASSES:
                label = f"{row['class']} (n = {row['n'][0]:,} … {row['n'][-1]:,})"
                ax.plot(range(4), row["leaf"], "o-", ms=4, color=CLASSES[row["class"]], label=label)
        ax.set_xticks(range(4), ["1", "8", "64", "last alert"])
        ax.set(title=title, xlabel="days since trigger", ylim=(0, 1))
        ax.legend(frameon=False, fontsize=8)
        ax.grid(alpha=0.3)
    axes[0].set_ylabel("leaf accuracy, equal prior")
    return figure


def results_table(rows):
    """Lines of results as Markdown: one table for each set of columns."""
    groups = {}
    for row in rows:
        groups.setdefault(tuple(row), []).append(row)
    tables = []
    for names, group in groups.items():
        cells = [names, ["---"] * len(names), *(row.values() for row in group[:LONGEST])]
        lines = ["| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in cells]
        tables.append("\n".join(lines) + (f"\n\n… and {len(group) - LONGEST} more rows." if len(group) > LONGEST else ""))
    return "\n\n".join(tables)


def write_results_page(path, folder):
    """The page of one file of results."""
    rows = read(path.stem)
    about = [", ".join(f"{name} {value}" for name, value in row.items()) for row in rows if "date" in row]
    table = results_table([row for row in rows if "date" not in row])
    text = "\n\n".join([f"# {path.stem.replace('_', ' ').capitalize()}", *about, f"From `bench/results/{path.name}`.", table])
    (folder / f"{path.stem}.md").write_text(text + "\n", encoding="utf-8")


def write_benchmarks(source):
    """The figures, and a page per file of results."""
    folder = source / "benchmarks"
    folder.mkdir()
    for name, figure in (("quality", quality_figure()), ("real", real_figure())):
        figure.savefig(folder / f"{name}.svg", metadata={"Date": None})
        plt.close(figure)
    for path in sorted(RESULTS.glob("*.jsonl")):
        write_results_page(path, folder)
