"""The examples for Lasair, ALeRCE and Fink on the alerts beside the repository, as programs."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

ROOT = Path(__file__).resolve().parent.parent
ALERTS = ROOT.parent / "shared" / "data" / "alerts"
pytestmark = pytest.mark.skipif(not ALERTS.is_dir(), reason=f"no alerts beside the repository ({ALERTS})")


def program(name: str, *options) -> subprocess.CompletedProcess:
    call = [sys.executable, str(ROOT / "examples" / name), *map(str, options)]
    done = subprocess.run(call, capture_output=True, text=True, timeout=500, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr
    return done


def test_lasair_annotations():
    done = program("lasair_annotator.py", ALERTS / "rubin" / "lasair_313637921267122191.json", ROOT / "README.md")
    (one,) = map(json.loads, done.stdout.splitlines())
    assert one["objectId"] == "313637921267122191" and one["topic"] == "elasticc_hc"
    assert sum(one["classdict"].values()) == pytest.approx(1, abs=2e-3)
    assert "left out: " in done.stderr and "README.md" in done.stderr


def test_alerce_table(tmp_path):
    program("alerce_table.py", ALERTS / "elasticc" / "elasticc_sample_seed0.parquet", "--out", tmp_path / "table.parquet")
    table = pd.read_parquet(tmp_path / "table.parquet")
    assert list(table) == ["oid", "classifier_name", "classifier_version", "class_name", "probability", "ranking"]
    assert np.allclose(table.groupby(["oid", "classifier_name"])["probability"].sum(), 1, atol=1e-5)
    assert (table.groupby(["oid", "classifier_name"])["ranking"].min() == 1).all() and table["oid"].nunique() > 20


def fink():
    spec = importlib.util.spec_from_file_location("fink_spark", ROOT / "examples" / "fink_spark.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_fink_classes_of_a_table():
    table = pq.read_table(ALERTS / "elasticc" / "elasticc_sample_seed0.parquet")
    found = fink().classify(table, "synthetic")
    assert len(found) == len(table) and set(found["code"].dropna()) <= {11, 12, 13, 21, 22} and found["code"].notna().mean() > 0.9
    assert found["probability"].dropna().between(0.2 - 1e-6, 1 + 1e-6).all()


def test_fink_module_in_a_local_spark(tmp_path):
    if shutil.which("java") is None:
        pytest.skip("no Java on this machine: Spark cannot run")
    pytest.importorskip("pyspark", reason="pyspark is not installed")
    source = ALERTS / "elasticc" / "elasticc_sample_seed0.parquet"
    program("fink_spark.py", source, "--out", tmp_path / "classified")
    spark = pd.json_normalize(pq.read_table(tmp_path / "classified").to_pylist()).set_index("diaSourceId")
    table = pq.read_table(source)
    alone = fink().classify(table, "synthetic").set_index(pd.Index([row["diaSourceId"] for row in table["diaSource"].to_pylist()]))
    assert len(spark) == len(alone) and (spark["elasticc_hc.code"].fillna(0) == alone.loc[spark.index, "code"].fillna(0)).all()
    assert np.allclose(spark["elasticc_hc.probability"].astype(float), alone.loc[spark.index, "probability"].astype(float), equal_nan=True)
