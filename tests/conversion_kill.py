"""Kills a conversion or a split at random moments and lets the next run finish it: python conversion_kill.py FOLDER N SEED.

Everything is imported once; each run is a fork, so that a kill comes while it works and not while it starts. The first
runs have no earlier result to replace, every second one has. Prints one line per kill: how far the run had come.
"""
import os
import random
import shutil
import signal
import sys
import time
from pathlib import Path

from elasticc_hc.conversion.snana_to_parquet import convert
from elasticc_hc.conversion.train_test_split import combine


def begin(task):
    """Run a task in a child process; its number."""
    child = os.fork()
    if not child:
        try:
            task()
            os._exit(0)
        except BaseException as error:
            print(repr(error), flush=True)
            os._exit(1)
    return child


def finish(task):
    """Run a task in a child process to its end."""
    start = time.monotonic()
    assert os.waitstatus_to_exitcode(os.waitpid(begin(task), 0)[1]) == 0, "the run failed"
    return time.monotonic() - start


def contents(folder):
    """Bytes of the Parquet files of a folder, and the names of all others below and beside it."""
    beside = [path.name for path in folder.parent.iterdir() if folder.name in path.name]
    return ({path.name: path.read_bytes() for path in folder.glob("*.parquet")}, beside,
            sorted(path.name for path in folder.rglob("*") if path.suffix != ".parquet"))


def kill_and_resume(task, out, rng, lasting, expected):
    """Kill a run somewhere, and see the next one finish it."""
    child = begin(task)
    moment = rng.uniform(0, 1.05 * lasting)
    time.sleep(moment)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    work = out.parent / f".{out.name}.partial"
    staged = len(list(work.glob("staged/*.json"))) if work.exists() else "no"
    finish(task)
    found = contents(out)
    other = [name for name in found[0] if found[0][name] != expected[0].get(name)]
    assert found == expected, f"killed after {moment} s: {found[1:]}, other contents: {other}"
    print(f"killed after {moment:.3f} of {lasting:.3f} s, {staged} pairs staged, {len(expected[0])} files equal", flush=True)


def main(folder, n, seed):
    """Kill `n` conversions and `n` splits."""
    place, rng = Path(folder), random.Random(seed)
    out, split = place / "out", place / "split"
    for target, task in ((out, lambda: convert(place / "in", out, overwrite=True)),
                         (split, lambda: combine(out, split, overwrite=True))):
        finish(task)
        expected, lasting = contents(target), finish(task)
        for i in range(n):
            if i % 2:
                shutil.rmtree(target)
            kill_and_resume(task, target, rng, lasting, expected)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
