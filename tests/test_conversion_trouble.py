"""Conversion in trouble: kills, a full disk, two runs at once, no permission, repeated objects, a Dask cluster."""
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.io import fits
from conversion_files import SAMPLE, contents, message, sample, write_pair

from elasticc_hc.conversion.class_summary import summarise
from elasticc_hc.conversion.parallel import exclusive_lock, process_pool
from elasticc_hc.conversion.parquet import write_objects
from elasticc_hc.conversion.snana import Pair, find_pairs, read_pair
from elasticc_hc.conversion.snana_to_parquet import COUNTS, convert
from elasticc_hc.conversion.train_test_split import WORK_FOLDER, combine

KILLS = int(os.environ.get("ELASTICC_HC_KILLS", "20"))
FUZZ = int(os.environ.get("ELASTICC_HC_FUZZ", "240"))  # `make fuzz` runs 2,000


@pytest.fixture
def snana(tmp_path):
    """Three models, twelve pairs, one of them empty."""
    objects = sample()
    for i in range(12):
        rows = slice(0, 0) if i == 5 else slice(12 * i, 12 * i + 12)
        write_pair(tmp_path / "in" / f"RUN_{('EB', 'KN_K17', 'TDE')[i % 3]}", f"R-{i:04d}", objects[rows])
    return tmp_path / "in"


# ---- killed --------------------------------------------------------------------------------------------------------
def test_killed_at_random_moments(tmp_path, snana):
    command = [sys.executable, Path(__file__).parent / "conversion_kill.py", tmp_path, str(KILLS), "1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("files equal") == 2 * KILLS
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "out", "split"]


def test_killed_with_several_workers(tmp_path, snana):
    convert(snana, tmp_path / "whole")
    code = ("import sys; from elasticc_hc.conversion.snana_to_parquet import convert\n"
            "if __name__ == '__main__': convert(sys.argv[1], sys.argv[2], jobs=2)")
    script = tmp_path / "run.py"
    script.write_text(code)
    run = subprocess.Popen([sys.executable, script, snana, tmp_path / "out"])
    staged, end = tmp_path / ".out.partial" / "staged", time.monotonic() + 60
    while run.poll() is None and not list(staged.glob("*.json")) and time.monotonic() < end:
        time.sleep(0.001)
    os.kill(run.pid, signal.SIGKILL)
    run.wait()
    convert(snana, tmp_path / "out")
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "out", "run.py", "whole"]


def test_a_dead_worker_is_one_line():
    with pytest.raises(OSError, match="a worker process was killed"), process_pool(2) as (pool, _):
        pool.submit(os._exit, 1).result()


# ---- damaged in many ways ------------------------------------------------------------------------------------------
def test_fuzz():
    command = [sys.executable, Path(__file__).parent / "conversion_fuzz.py", str(FUZZ), "1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1200)
    print(done.stdout)
    assert done.returncode == 0 and f"{FUZZ} cases" in done.stdout, done.stderr


# ---- no room -------------------------------------------------------------------------------------------------------
def test_a_full_disk_is_one_line(tmp_path, snana):
    convert(snana, tmp_path / "old")
    before, limits = contents(tmp_path / "old"), ["0", "100", "5000", "20000", "40000"]
    command = [sys.executable, Path(__file__).parent / "conversion_room.py", tmp_path, SAMPLE, *limits]
    lines = sum(json.loads(subprocess.run(command, check=True, capture_output=True).stdout), [])
    assert len(lines) == 4 * len(limits)
    assert all("no room to write it" in line and str(tmp_path) in line and "\n" not in line for line in lines)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "old"] and contents(tmp_path / "old") == before


# ---- two at once, no permission ------------------------------------------------------------------------------------
def test_two_runs_on_one_output(tmp_path, snana):
    work = tmp_path / ".out.partial"
    work.mkdir()
    (work / "half").write_text("of the other run")
    with exclusive_lock(work, tmp_path / "out"):
        assert "another run is writing it" in message(OSError, convert, snana, tmp_path / "out")
        assert (work / "half").exists()
    convert(snana, tmp_path / "out")
    assert not work.exists()
    (tmp_path / "split" / WORK_FOLDER).mkdir(parents=True)
    with exclusive_lock(tmp_path / "split" / WORK_FOLDER, tmp_path / "split"):
        assert "another run is writing it" in message(OSError, combine, SAMPLE, tmp_path / "split")


@pytest.fixture
def nobody():
    """A folder open to all, and a user who may do nothing else; only root can become that user."""
    if os.geteuid():
        pytest.skip("only root can give up permissions")
    place = Path(tempfile.mkdtemp())
    place.chmod(0o777)
    yield place, lambda: os.seteuid(65534)
    os.seteuid(0)
    shutil.rmtree(place)


@pytest.mark.parametrize("locked_up", ["RUN_KN_K17", "RUN_KN_K17/R-0001_PHOT.FITS.gz", "RUN_KN_K17/R-0001_HEAD.FITS.gz"])
def test_no_permission_to_read(nobody, snana, locked_up):
    place, give_up = nobody
    shutil.copytree(snana, place / "in")
    (place / "in" / locked_up).chmod(0)
    give_up()
    line = message(PermissionError, convert, place / "in", place / "out")
    assert str(place / "in" / locked_up) in line and [path.name for path in place.iterdir()] == ["in"]


def test_no_permission_to_write(nobody, snana):
    place, give_up = nobody
    shutil.copytree(snana, place / "in")
    (place / "shut").mkdir(mode=0o755)
    give_up()
    assert str(place / "shut") in message(PermissionError, convert, place / "in", place / "shut" / "out")
    assert str(place / "shut") in message(PermissionError, combine, SAMPLE, place / "shut" / "out")


# ---- bad pairs left out --------------------------------------------------------------------------------------------
def closes(report):
    """Check the accounts of a report against each other; the objects and observations left out, and the reasons."""
    entries = [entry for pair in report["pairs"] for entry in pair.get("left_out", [])]
    lost = {what: sum(entry[what] for entry in entries) for what in ("objects", "observations")}
    for what, count in lost.items():
        assert report["total"][f"{what}_in"] == report["total"][f"{what}_out"] + count
    for name in COUNTS:
        assert report["total"][name] == sum(pair[name] for pair in report["pairs"])
        assert report["total"][name] == sum(model[name] for model in report["models"].values())
    assert all(len(entry["snids"]) == entry["objects"] for entry in entries)
    return lost, [entry["reason"] for entry in entries]


def test_bad_pairs_are_left_out_and_named(tmp_path, snana):
    whole = convert(snana, tmp_path / "whole")
    (snana / "RUN_EB" / "R-0000_PHOT.FITS.gz").unlink()                  # a file is missing
    path = snana / "RUN_KN_K17" / "R-0001_PHOT.FITS.gz"                  # one is truncated
    path.write_bytes(path.read_bytes()[:-30])
    (snana / "RUN_KN_K17" / "R-0004_HEAD.FITS.gz").write_bytes(b"")      # one is empty

    def spoil(head, phot):
        phot["FLUXCAL"][1][3] = np.inf
    write_pair(snana / "RUN_TDE", "R-0002", sample(24, 36), spoil)       # one has an infinite flux
    assert "R-0000_HEAD" in message(FileNotFoundError, convert, snana, tmp_path / "out")
    report = convert(snana, tmp_path / "out", on_error="skip")
    assert report == json.loads((tmp_path / "out" / "conversion.json").read_text())
    lost, reasons = closes(report)
    assert report["total"]["pairs_left_out"] == 4 and report["total"]["pairs"] == 12 and len(reasons) == 4
    for reason, word in zip(sorted(reasons), ("R-0000_HEAD.FITS.gz: its PHOT", "R-0001_PHOT.FITS.gz: truncated",
                                              "R-0004_HEAD.FITS.gz: no binary", "FLUXCAL"), strict=True):
        assert word in reason
    assert lost["objects"] == 36   # the empty HEAD cannot be counted, and says so
    assert sum("unread" in pair for pair in report["pairs"]) == 3
    left = {snid for pair in report["pairs"] for entry in pair.get("left_out", []) for snid in entry["snids"]}
    assert left == set(sample()["SNID"][[*range(12), *range(12, 24), *range(24, 36)]])
    table = pa.concat_tables(pq.read_table(path) for path in (tmp_path / "out").glob("*.parquet"))
    assert len(table) == report["total"]["objects_out"] == whole["total"]["objects_out"] - 48
    convert(snana, tmp_path / "two", on_error="skip", jobs=2)
    assert contents(tmp_path / "two") == contents(tmp_path / "out")


def test_nothing_usable_is_an_error(tmp_path, snana):
    for path in snana.rglob("*_HEAD*"):
        path.write_bytes(b"no FITS")
    assert "none of the 12 pairs" in message(ValueError, convert, snana, tmp_path / "out", on_error="skip")
    assert "choose one of stop, skip" in message(ValueError, convert, snana, tmp_path / "out", on_error="perhaps")
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


@pytest.mark.parametrize("model", ["EB", "TDE"])
def test_objects_that_come_twice(tmp_path, snana, model):
    write_pair(snana / f"RUN_{model}", "R-9999", sample(3, 5))
    line = message(ValueError, convert, snana, tmp_path / "out")
    assert f"SNID {sample()['SNID'][3]} occurs in" in line and "R-9999_HEAD" in line and "R-0000_HEAD" in line
    report = convert(snana, tmp_path / "out", on_error="skip")
    counts = report["models"][model]
    assert closes(report)[0]["objects"] == 2 and counts["objects_out"] == counts["objects_in"] - 2
    snids = [snid for path in (tmp_path / "out").glob("*.parquet") for snid in pq.read_table(path)["SNID"].to_pylist()]
    assert len(set(snids)) == len(snids) == report["total"]["objects_out"]
    convert(snana, tmp_path / "two", on_error="skip", jobs=2)
    assert contents(tmp_path / "two") == contents(tmp_path / "out")


def test_the_command_says_what_was_left_out(tmp_path, snana):
    path = snana / "RUN_KN_K17" / "R-0001_PHOT.FITS.gz"
    path.write_bytes(path.read_bytes()[:-30])
    command = [Path(sys.executable).parent / "elasticc-hc", "convert", snana, tmp_path / "out", "--jobs", "1"]
    stopped = subprocess.run(command, capture_output=True, text=True)
    assert stopped.returncode == 1 and stopped.stderr.count("\n") == 1 and "R-0001_PHOT.FITS.gz: truncated" in stopped.stderr
    skipped = subprocess.run([*command, "--on-error", "skip"], capture_output=True, text=True)
    assert skipped.returncode == 1 and skipped.stderr.count("\n") == 1
    assert "1 bad pairs and 12 objects left out" in skipped.stderr and "120 objects" in skipped.stdout
    report = json.loads((tmp_path / "out" / "conversion.json").read_text())
    assert report["command"].endswith("--on-error skip") and report["command"].startswith("elasticc-hc convert")
    assert report["seed"] is None and set(report["versions"]) == {"elasticc_hc", "astropy", "numpy", "pyarrow"}


# ---- files of other programs ---------------------------------------------------------------------------------------
@pytest.mark.parametrize("change", [
    lambda table: table.drop_columns("lightcurve"), lambda table: table.drop_columns("SNID"),
    lambda table: table.set_column(0, "SNID", pa.array(range(len(table)))),
    lambda table: table.drop_columns("lightcurve").append_column("lightcurve", table["SNID"]),
    lambda table: table.drop_columns("lightcurve").append_column("lightcurve", pa.array([{"flux": [1.0]}] * len(table))),
    lambda table: table.flatten(),
])
def test_parquet_of_another_program(tmp_path, change):
    pq.write_table(change(pq.read_table(SAMPLE)), tmp_path / "other.parquet")
    for call in (combine, summarise):
        args = ([SAMPLE, tmp_path / "other.parquet"],) + ((tmp_path / "out",) if call is combine else ())
        line = message(ValueError, call, *args)
        assert "other.parquet: Parquet of another program" in line and not (tmp_path / "out").exists()


def test_a_damaged_parquet_is_named(tmp_path):
    rng = np.random.default_rng(0)
    write_objects(tmp_path / "whole.parquet", [pq.read_table(SAMPLE)], pq.read_schema(SAMPLE))
    whole = (tmp_path / "whole.parquet").read_bytes()
    for i in range(60):
        data = bytearray(whole)
        at = rng.integers(4, len(data) - 40)
        data[at:at + 32] = rng.bytes(32)
        path = tmp_path / f"{i}.parquet"
        path.write_bytes(data if i % 4 else data[:at])
        try:
            combine(path, tmp_path / str(i))
            both = pa.concat_tables(pq.read_table(tmp_path / str(i) / f"{side}.parquet") for side in ("train", "test"))
            assert both.sort_by("SNID").equals(pq.read_table(SAMPLE).sort_by("SNID")), f"{i}: damage went unnoticed"
        except (ValueError, OSError) as error:
            assert "\n" not in str(error) and (str(path) in str(error) or "SNID" in str(error)), error
            assert not (tmp_path / str(i)).exists()


# ---- summaries -----------------------------------------------------------------------------------------------------
def test_the_summary_as_table_json_and_figure(tmp_path):
    def call(*options):
        command = [Path(sys.executable).parent / "elasticc-hc", "summary", SAMPLE, "--taxonomy", "plasticc", *options]
        return subprocess.run(command, capture_output=True, text=True)
    figure = tmp_path / "summary.svg"
    written = call("--json", "--figure", figure)
    rows = {row["leaf"]: row for row in json.loads(written.stdout)}
    objects = sample()
    assert rows["all"]["objects"] == len(objects)
    assert rows["all"]["observations"] == sum(len(curve["MJD"]) for curve in objects["lightcurve"])
    assert rows["AGN"]["missing by column"]["HOSTGAL_SPECZ"] == 0 and rows["EB"]["missing by column"]["HOSTGAL_SPECZ"] == 1
    assert rows["all"]["missing by column"]["HOSTGAL_SPECZ"] == pytest.approx(objects["HOSTGAL_SPECZ"].isna().mean())
    assert rows["all"]["detections"] == sum(((c["PHOTFLAG"] & 4096) > 0).sum() for c in objects["lightcurve"])
    assert b"<svg" in figure.read_bytes() and [path.name for path in tmp_path.iterdir()] == ["summary.svg"]
    again = call("--figure", figure)
    assert again.returncode == 1 and "summary.svg exists" in again.stderr
    table = call().stdout
    assert "HOSTGAL_SPECZ" in table and "35.7%" in table and "detections" in table


# ---- a cluster -----------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def scheduler():
    """The address of a Dask cluster of two worker processes on this machine."""
    distributed = pytest.importorskip("distributed", reason="Dask is not installed (extra [dask])")
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        yield cluster.scheduler_address


def test_a_cluster_gives_the_same_bytes(tmp_path, snana, scheduler):
    convert(snana, tmp_path / "one")
    seen = []
    convert(snana, tmp_path / "many", scheduler=scheduler, progress=lambda done, total, label: seen.append(done))
    assert contents(tmp_path / "many") == contents(tmp_path / "one") and seen == list(range(1, 13))


def test_bad_input_on_a_cluster_is_the_same_line(tmp_path, snana, scheduler):
    path = snana / "RUN_KN_K17" / "R-0001_PHOT.FITS.gz"
    path.write_bytes(path.read_bytes()[:-20])
    lines = [message(ValueError, convert, snana, tmp_path / "out", scheduler=address) for address in (None, scheduler)]
    assert lines[0] == lines[1] and [path.name for path in tmp_path.iterdir()] == ["in"]
    reports = [convert(snana, tmp_path / name, on_error="skip", scheduler=address)
               for name, address in (("0", None), ("1", scheduler))]
    assert reports[0] == reports[1] and contents(tmp_path / "0") == contents(tmp_path / "1")


def test_no_scheduler_is_one_line(tmp_path, snana):
    pytest.importorskip("distributed", reason="Dask is not installed (extra [dask])")
    assert "no Dask scheduler answers" in message(OSError, convert, snana, tmp_path / "out", scheduler="nonsense://x")
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


# ---- newer files, and real ones ------------------------------------------------------------------------------------
def _newer(head, phot):
    """As SNANA writes today: other names, longer bands, more columns."""
    n, rows = len(head["SNID"][1]), len(phot["MJD"][1])
    head["NAME_IAUC"], head["NAME_TRANSIENT"] = ("20A", np.full(n, "2011fe")), ("20A", head["SNID"][1])
    head["SIM_GENTYPE"] = head["SIM_TYPE_INDEX"] = "I", np.full(n, 10)
    bands = phot["BAND"][1]
    phot["BAND"] = "20A", np.where(bands == "r", "LSST-r", bands)
    phot["IMGNUM"], phot["DETNUM"] = ("J", np.arange(rows)), ("J", np.full(rows, 3))
    phot["TEXPOSE"] = "E", np.full(rows, 30.0)


def test_newer_files(tmp_path):
    pair = Pair("M", *write_pair(tmp_path, "new", sample(0, 9), _newer))
    plain = read_pair(Pair("M", *write_pair(tmp_path, "plain", sample(0, 9))))[0]
    table = read_pair(pair, all_columns=True)[0]
    assert set(table["IAUC"].to_pylist()) == {"2011fe"} and "NAME_TRANSIENT" in table.column_names
    assert not [name for name in table.column_names if name.startswith("SIM_")]
    nested = table["lightcurve"].combine_chunks()
    assert {"IMGNUM", "CCDNUM", "TEXPOSE"} <= {part.name for part in nested.type}
    bands, before = (curves.field("BAND").values.to_pylist() for curves in (nested, plain["lightcurve"].combine_chunks()))
    assert bands == before and "SIM_GENTYPE" in read_pair(pair, truth=True)[0].column_names


def test_passbands_of_another_survey_are_refused(tmp_path):
    def other(head, phot):
        phot["BAND"] = "20A", np.where(phot["BAND"][1] == "r", "CSP-r/b", phot["BAND"][1])
    pair = Pair("M", *write_pair(tmp_path, "other", sample(0, 9), other))
    assert all(part in message(ValueError, read_pair, pair) for part in ("other_PHOT", "column BAND", "CSP-r/b"))


@pytest.mark.parametrize(("name", "value"), [("MJD", 2460000.5), ("MJD", 1e18), ("FLUXCALERR", -1.0), ("FLUXCALERR", 0.0)])
def test_what_cannot_be_is_refused(tmp_path, name, value):
    def damage(head, phot):
        phot[name][1][0] = value
    pair = Pair("M", *write_pair(tmp_path, "bad", sample(0, 9), damage))
    said = message(ValueError, read_pair, pair)
    assert all(part in said for part in ("bad_PHOT", "object ", name))


def test_real_data(tmp_path, snana):
    """No simulation, no truth: DATATYPE = DATA, no column SIM_*, a catalogue without PHOTFLAG bits."""
    def observed(head, phot):
        for columns in (head, phot):
            for name in [name for name in columns if name.startswith("SIM_")]:
                del columns[name]
        _newer(head, phot)
        del head["SIM_GENTYPE"], head["SIM_TYPE_INDEX"]
    for path in write_pair(snana / "LSST_DATA", "D-0001", sample(200, 204), observed):
        with fits.open(path, mode="update") as opened:
            opened[0].header["DATATYPE"] = "DATA"
    report = convert(snana, tmp_path / "out", truth=True)
    data, simulated = (pq.read_table(tmp_path / "out" / f"{model}.parquet") for model in ("LSST_DATA", "EB"))
    assert report["models"]["LSST_DATA"]["objects_out"] == 4 and data.schema.equals(simulated.schema, check_metadata=True)
    assert data["SIM_MODEL_INDEX"].null_count == 4 and simulated["SIM_MODEL_INDEX"].null_count == 0
    assert simulated["NAME_TRANSIENT"].null_count == len(simulated)


def test_links_and_half_pairs_within_the_folder(tmp_path, snana):
    (snana / "link").symlink_to(snana / "RUN_EB")      # leads nowhere else: the files are converted once
    (snana / "loop").symlink_to(snana)
    assert len(find_pairs(snana)) == 12
    (snana / "away").symlink_to(tmp_path)
    assert "leads out of" in message(ValueError, convert, snana, tmp_path / "out", on_error="skip")
