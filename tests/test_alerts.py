"""Alerts and tables: every format read and united, real files by other libraries' own reading, and what is damaged refused by name."""

import json
import threading
import warnings
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from itertools import pairwise
from pathlib import Path

import alert_messages as made
import fastavro
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from elasticc_hc import HierarchicalClassifier, LightCurves, convert
from elasticc_hc.conversion import alerts as uniting
from elasticc_hc.conversion import read_alerts
from elasticc_hc.conversion.alert_formats import ELASTICC, HOST_NAMES
from elasticc_hc.lightcurves import OBSERVATION_COLUMNS

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
ALERTS = SHARED / "alerts"
real = pytest.mark.skipif(not ALERTS.is_dir(), reason="real alerts are not on this machine (../shared/data/alerts)")
several = settings(deadline=None, max_examples=40)
NJY = 10**1.56  # of one FLUXCAL


def same(one: LightCurves, two: LightCurves) -> None:
    """Do two sets hold the same light curves, whatever the order of the objects?"""
    one, two = (curves[np.argsort(curves.header["SNID"].to_numpy(str))] for curves in (one, two))
    assert one.header["SNID"].tolist() == two.header["SNID"].tolist() and np.array_equal(one.offsets, two.offsets)
    for name in OBSERVATION_COLUMNS:
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name))


# --- every format, made here ---


@pytest.fixture
def schemas(tmp_path):
    """A folder with schemas as the surveys publish them."""
    folder = tmp_path / "schemas"
    (folder / "10" / "0").mkdir(parents=True)
    (folder / "elasticc.v0_9_1.alert.avsc").write_text(json.dumps(made.ELASTICC_SCHEMA))
    (folder / "10" / "0" / "lsst.v10_0.alert.avsc").write_text(json.dumps(made.RUBIN_SCHEMA))
    return folder


def test_elasticc_messages_without_schema_are_united_with_all_host_columns(schemas):
    alerts = [made.elasticc_alert(7, day, earlier=k, forced=4 * k) for k, day in enumerate((10.0, 11.0, 12.0))]
    curves = LightCurves.from_alerts([made.encode(made.ELASTICC_SCHEMA, alert) for alert in alerts], schemas=schemas)
    points = {
        (source["midPointTai"], source["filterName"])
        for alert in alerts
        for group in ("prvDiaSources", "prvDiaForcedSources")
        for source in alert[group] or []
    } | {(alert["diaSource"]["midPointTai"], alert["diaSource"]["filterName"]) for alert in alerts}
    assert len(curves) == 1 and curves.n_obs == len(points) and curves.detected.sum() == 3
    row = curves.header.iloc[0]
    assert row["SNID"] == "7" and row["ALERT_MJD"] == 60012.0 and row["alertId"] == row["diaSourceId"] == 700_120
    for which in ("", "2"):
        for k, name in enumerate(HOST_NAMES.values()):
            assert row[f"HOSTGAL{which}_{name}"] == np.float32(20 + k / 7)
    assert [row[name] for name in ("MWEBV", "REDSHIFT_FINAL")] == [np.float32(0.05), np.float32(0.3)]
    assert curves.PHOTFLAG[curves.detected].tolist() == [6144, 4096, 4096]


def test_rubin_wire_messages_take_the_forced_flux_and_join_the_flags(schemas):
    first, last = made.rubin_alert(5, 3, earlier=(1,), forced=()), made.rubin_alert(5, 9, earlier=(1, 3), forced=(0, 1, 2, 3))
    last["prvDiaSources"][0]["pixelFlags_saturated"] = True
    last["prvDiaForcedSources"][2]["psfFlux"] = None
    moved = last["prvDiaForcedSources"][3]
    moved["midpointMjdTai"] += 1e-5  # the same visit and detector, another time
    messages = [made.wire(1000, made.encode(made.RUBIN_SCHEMA, alert)) for alert in (last, first)]
    with pytest.warns(UserWarning, match="left out: 1 measurements without a flux"):
        curves = LightCurves.from_alerts(messages, schemas=schemas)
    assert curves.PHOTFLAG.tolist() == [0, 4096 | 1024 | 2048, 4096, 4096] and curves.MJD[2] == moved["midpointMjdTai"]
    np.testing.assert_allclose(curves.FLUXCAL * NJY, [3900, 3900, 3900, 4000], rtol=1e-6)
    assert "ugrizY"[curves.BAND[0]] == "u" and curves.header["reliability"][0] == np.float32(0.9)


def test_y_is_Y_and_negative_detections_stay():
    alert = made.rubin_alert(5, 5)
    alert["diaSource"]["psfFlux"] = -4000.0
    curves = LightCurves.from_alerts(alert)
    assert curves.BAND.tolist() == [5] and curves.FLUXCAL[0] < 0 and curves.detected.all()


def test_ztf_container_and_alerce_table_agree():
    jd, mags = 2_460_000.5, [18.0, 17.5, 17.2]
    sources = [
        {
            "jd": jd + k,
            "fid": 1 + k % 3,
            "magpsf": mag,
            "sigmapsf": 0.1,
            "isdiffpos": "t" if k else "f",
            "pid": 10 + k,
            "candid": 100 + k,
            "drb": None,
            "rb": 0.7,
            "diffmaglim": 20.0,
            "ra": 10.0,
            "dec": 20.0,
        }
        for k, mag in enumerate(mags)
    ]
    limit = sources[0] | {"jd": jd - 1, "magpsf": None, "sigmapsf": None, "isdiffpos": None, "pid": 9, "candid": None}
    alert = {"objectId": "ZTF18a", "candidate": sources[2], "prv_candidates": [limit, *sources[:2]], "fp_hists": None}
    with pytest.warns(UserWarning, match="passbands g, r and i of ZTF are treated as those of LSST"):
        ztf = LightCurves.from_alerts(made.container(made.ZTF_SCHEMA, [alert]))
    rows = pd.DataFrame(
        [
            source | {"oid": "ZTF18a", "mjd": source["jd"] - 2_400_000.5, "isdiffpos": -1.0 if source["isdiffpos"] == "f" else 1.0}
            for source in (limit, *sources)
        ]
    )
    with pytest.warns(UserWarning):
        alerce = LightCurves.from_alerts(rows.drop(columns="jd"))
    same(ztf, alerce)
    assert "".join("ugrizY"[band] for band in ztf.BAND) == "ggri" and ztf.detected.tolist() == [False, True, True, True]
    expected = [0, *(sign * 10 ** (0.4 * (27.5 - mag)) for sign, mag in zip((-1, 1, 1), mags, strict=True))]
    np.testing.assert_allclose(ztf.FLUXCAL, expected, rtol=1e-6)
    np.testing.assert_allclose(ztf.FLUXCALERR[0], 10 ** (0.4 * 7.5) / 5, rtol=1e-6)


def test_ztf_forced_photometry_wins_over_the_detection():
    source = {
        "jd": 2_460_000.5,
        "fid": 2,
        "magpsf": 18.0,
        "sigmapsf": 0.1,
        "isdiffpos": "t",
        "pid": 10,
        "candid": 100,
        "ra": 10.0,
        "dec": 20.0,
    }
    forced = [
        {"jd": 2_460_000.5, "fid": 2, "pid": 10, "forcediffimflux": 250.0, "forcediffimfluxunc": 10.0, "magzpsci": 27.5},
        {"jd": 2_459_999.5, "fid": 2, "pid": 9, "forcediffimflux": -99999.0, "forcediffimfluxunc": -99999.0, "magzpsci": 27.5},
    ]
    with pytest.warns(UserWarning):
        curves = LightCurves.from_alerts({"objectId": "ZTF18a", "candidate": source, "prv_candidates": None, "fp_hists": forced})
    assert curves.n_obs == 1 and curves.detected.all() and curves.FLUXCAL[0] == 250


def test_lasair_json_with_nan_and_mixed_names(tmp_path):
    one = made.rubin_source(5, 1)
    text = json.dumps(
        {
            "diaObject": {"diaObjectId": 5, "ra": 150.0, "decl": 2.0},
            "diaSourcesList": [one, one | {"visit": 2, "psfFlux": float("nan"), "decl": 2.0}],
            "diaForcedSourcesList": [],
            "diaNondetectionLimitsList": [],
            "ebv": 0.03,
        }
    )
    (tmp_path / "lasair.json").write_text(text)
    with pytest.warns(UserWarning, match="1 measurements without a flux"):
        curves = LightCurves.from_alerts(tmp_path)
    assert curves.n_obs == 1 and curves.header[["DEC", "MWEBV"]].iloc[0].tolist() == pytest.approx([2.0, 0.03])


def test_a_registry_is_asked_once_for_each_schema():
    asked = []

    class Registry(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            known = "/ids/1000" in self.path
            text = json.dumps(
                {"schema": json.dumps(made.RUBIN_SCHEMA)} if known else {"error_code": 40403, "message": "Schema not found"}
            ).encode()
            self.send_response(200 if known else 404)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_):
            """Quiet."""

    server = HTTPServer(("127.0.0.1", 0), Registry)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    messages = [made.wire(1000, made.encode(made.RUBIN_SCHEMA, made.rubin_alert(i, 1))) for i in (1, 2, 3)]
    assert len(LightCurves.from_alerts(messages, schemas=address)) == 3 and len(asked) == 1
    with pytest.raises(ValueError, match="message 1: no schema number 1234 from the registry"):
        LightCurves.from_alerts(made.wire(1234, b"\2"), schemas=address)
    server.shutdown()


# --- properties ---


@several
@given(st.lists(st.tuples(st.integers(1, 3), st.integers(0, 12)), min_size=1, max_size=12), st.randoms(), st.integers(1, 40))
def test_order_repetition_and_batches_of_alerts_do_not_matter(whats, random, held):
    alerts = [made.rubin_alert(who, visit, earlier=tuple(range(visit)), forced=tuple(range(0, visit, 2))) for who, visit in whats]
    once = LightCurves.from_alerts(alerts)
    shuffled = alerts + random.sample(alerts, len(alerts) // 2)
    random.shuffle(shuffled)
    before, uniting.HELD_ROWS = uniting.HELD_ROWS, held
    try:
        again = LightCurves.from_alerts(iter(shuffled))
    finally:
        uniting.HELD_ROWS = before
    same(once, again)
    newest = {str(who): max(visit for other, visit in whats if other == who) for who, _ in whats}
    assert {snid: round((mjd - 61000) * 8) for snid, mjd in zip(once.header["SNID"], once.header["ALERT_MJD"], strict=True)} == newest


@several
@given(st.integers(0, 2**32), st.integers(0, 400))
def test_damaged_messages_are_refused_by_name_and_the_rest_is_read(seed, cut):
    whole = [made.encode(made.ELASTICC_SCHEMA, made.elasticc_alert(i, 10.0, 2, 6)) for i in (1, 2, 3)]
    rng = np.random.default_rng(seed)
    broken = bytearray(whole[1][: max(0, len(whole[1]) - 1 - cut)])
    for _ in range(3):
        if broken:
            broken[rng.integers(len(broken))] ^= 1 << int(rng.integers(8))
    schema = _one_schema()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        table, counts = read_alerts([whole[0], bytes(broken), whole[2]], schemas=schema, on_error="skip")
    assert {"1", "3"} <= set(table["SNID"].to_pylist()) and counts.alerts + len(counts.skipped) == 3
    if counts.skipped:
        assert counts.skipped[0].startswith("message 2: ") and "\n" not in counts.skipped[0]


def _one_schema():
    """A source of the one schema, without a file."""
    source = uniting.AlertReader().schemas
    source.found["bare"] = [fastavro.parse_schema(made.ELASTICC_SCHEMA)]
    return source


# --- bad input ---


@pytest.mark.parametrize(
    ("messages", "reason"),
    [
        ([b""], "message 1: it is empty"),
        ([b"\0\0"], "message 1: truncated"),
        ([made.wire(904, b"\2")], "message 1: no schema number 904 (lsst.v9_4)"),
        ([b"\x85\x01"], "give schemas="),
        ([{"title": "a"}], "message 1: no alert of a known format"),
        ([made.rubin_alert(1, 1), {"diaSource": {"psFlux": 1.0}}], "message 2: an alert of ELAsTiCC among those of Rubin"),
        (
            [made.rubin_alert(1, 1), made.rubin_alert(1, 2) | {"diaSource": made.rubin_source(1, 2, midpointMjdTai=None)}],
            "message 2: a measurement without a time",
        ),
        ([made.rubin_alert(1, 1) | {"diaSource": made.rubin_source(1, 1, midpointMjdTai=1.48e9)}], "is not a modified Julian date"),
        ([made.rubin_alert(1, 1) | {"diaSource": made.rubin_source(1, 1, band="w")}], "in no known passband"),
        ([made.rubin_alert(1, 1) | {"diaSource": made.rubin_source(1, 1, psfFluxErr=0.0)}], "an error of 0, not above zero"),
        ([made.rubin_alert(1, 1) | {"diaSource": made.rubin_source(1, 1, psfFlux="bright")}], "a field is of another type"),
        (
            [made.rubin_alert(1, 1), made.rubin_alert(1, 2) | {"diaObject": {"diaObjectId": 1, "ra": 150.0, "dec": 2.002}}],
            "object 1 is more than 5 arcsec",
        ),
        ([b"[1, 2]"], "a record is needed, not int"),
        ([], "no alerts were given"),
    ],
)
def test_bad_alerts_are_one_line(messages, reason):
    with pytest.raises(ValueError, match=reason.replace("(", r"\(").replace(")", r"\)").replace(".", r"\.")) as caught:
        LightCurves.from_alerts(messages)
    assert "\n" not in str(caught.value)


def test_skipping_keeps_the_rest_and_counts(tmp_path):
    good, bad = made.rubin_alert(1, 1), made.rubin_alert(2, 2) | {"diaSource": made.rubin_source(2, 2, band=None)}
    sun = made.rubin_alert(3, 3) | {"diaSource": made.rubin_source(0, 3), "diaObject": None}
    apart = [made.rubin_alert(4, 1), made.rubin_alert(4, 2) | {"diaObject": {"diaObjectId": 4, "ra": 150.0, "dec": 2.1}}]
    (tmp_path / "a.json").write_text(json.dumps([good, bad, sun, *apart]))
    (tmp_path / "b.json").write_text("{")
    with pytest.warns(UserWarning, match="left out: 1 alerts of the solar system; 3 that could not be read"):
        curves = LightCurves.from_alerts(tmp_path, on_error="skip")
    assert curves.header["SNID"].tolist() == ["1"]
    with pytest.warns(UserWarning):
        report = convert(tmp_path, tmp_path / ".." / "out", on_error="skip")
    assert report["alerts"]["solar_system"] == 1 and len(report["alerts"]["skipped"]) == 3
    assert {reason.split(": ")[0].rsplit("/")[-1] for reason in report["alerts"]["skipped"]} == {"a.json", "b.json"}


def test_alerts_of_the_solar_system_alone_are_no_error():
    sun = made.rubin_alert(3, 3) | {"diaSource": made.rubin_source(0, 3), "diaObject": None}
    with pytest.warns(UserWarning, match="1 alerts of the solar system"):
        assert len(LightCurves.from_alerts([sun])) == 0


# --- real files, by fastavro's and pyarrow's own reading ---


def _plain(path: Path, schemas: Path) -> list[dict]:
    """The records of a file, read without this package."""
    data = path.read_bytes()
    if data[:4] == b"PAR1":
        return pq.read_table(path).to_pylist()
    if data[:4] == b"Obj\x01":
        return list(fastavro.reader(path.open("rb")))
    if data[:1] == b"{":
        return [json.loads(data)]
    major, minor = divmod(int.from_bytes(data[1:5], "big"), 100)
    schema = fastavro.schema.load_schema(schemas / "lsst" / str(major) / str(minor) / f"lsst.v{major}_{minor}.alert.avsc")
    with path.open("rb") as opened:
        opened.seek(5)
        return [fastavro.schemaless_reader(opened, schema)]


def _expected(records: list[dict]) -> dict[str, dict]:
    """Flux and detection of each observation of each object, with a loop over records; Rubin's and ELAsTiCC's names."""
    objects = {}
    for record in records:
        sources = [record["diaSource"], *(record.get("prvDiaSources") or [])] if "diaSource" in record else record["diaSourcesList"]
        forced = record.get("prvDiaForcedSources") or record.get("diaForcedSourcesList") or []
        about = record.get("diaObject") or {}
        snid = (record.get("diaSource") or {}).get("diaObjectId") or about.get("diaObjectId")
        if not snid:
            continue
        found = objects.setdefault(str(snid), {})
        for is_detection, source in [(True, source) for source in sources] + [(False, source) for source in forced]:
            flux = source.get("psfFlux", source.get("psFlux"))
            if flux is None or np.isnan(flux):
                continue
            time = source.get("midpointMjdTai", source.get("midPointTai"))
            key = (time, source.get("band", source.get("filterName")).replace("y", "Y"))
            old = found.get(key, (None, False))
            found[key] = (old[0] if is_detection and old[0] is not None else flux, old[1] or is_detection)
    return objects


RUBIN_AND_ELASTICC = (
    "elasticc/elasticc_sample_seed0.parquet",
    "rubin/boom_7912941781254298.avro",
    "rubin/pittgoogle_lsst.v8_0.avro",
    "rubin/pittgoogle_lsst.v9_0.avro",
    "rubin/pittgoogle_lsst.v10_0.avro",
    "rubin/pittgoogle_lsst.v11_0.avro",
    "rubin/fink-client_part-2-918301.avro",
    "rubin/fink_ftransfer_lsst_part-1-0-292249176.parquet",
    "rubin/ampel_alert_169641461369274412.json",
    "rubin/lasair_313637921267122191.json",
)


@real
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", RUBIN_AND_ELASTICC)
def test_real_alerts_hold_what_other_readers_find(name):
    curves = LightCurves.from_alerts(ALERTS / name, schemas=ALERTS / "schemas")
    expected = _expected(_plain(ALERTS / name, ALERTS / "schemas"))
    assert sorted(curves.header["SNID"]) == sorted(expected)
    for i, snid in enumerate(curves.header["SNID"]):
        span, want = slice(*curves.offsets[i : i + 2]), expected[snid]
        keys = [(mjd, "ugrizY"[band]) for mjd, band in zip(curves.MJD[span], curves.BAND[span], strict=True)]
        assert sorted(keys) == sorted(want) and curves.detected[span].sum() == sum(seen for _, seen in want.values())
        np.testing.assert_allclose(curves.FLUXCAL[span] * NJY, [want[key][0] for key in keys], rtol=2e-6)
        assert sum(curves.FLUXCAL[span].astype(float)) * NJY == pytest.approx(sum(flux for flux, _ in want.values()), rel=1e-5, abs=1)


@real
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("version", ["7_4", "8_0", "9_0", "10_0", "11_0", "11_1"])
def test_every_version_of_rubins_schema_is_read(version):
    schema = fastavro.schema.load_schema(next((ALERTS / "schemas").rglob(f"lsst.v{version}.alert.avsc")))
    record = made.fill_record(schema)
    own = made.rubin_alert(5, 3, earlier=(1,), forced=(0, 1))
    for name in ("diaSource", "diaObject"):
        record[name] = {**record[name], **{field: value for field, value in own[name].items() if field in record[name]}}
    record["prvDiaSources"] = [{**record["diaSource"], **made.rubin_source(5, 1)}]
    record["prvDiaForcedSources"] = own["prvDiaForcedSources"]
    for part in record["prvDiaForcedSources"]:
        part |= {"diaForcedSourceId": 1, "timeProcessedMjdTai": 61000.0, "time_processed": 0}
    number = int(version.split("_")[0]) * 100 + int(version.split("_")[1])
    curves = LightCurves.from_alerts(made.wire(number, made.encode(schema, record)), schemas=ALERTS / "schemas")
    assert curves.n_obs == 3 and curves.detected.tolist() == [False, True, True] and curves.header["SNID"].tolist() == ["5"]
    np.testing.assert_allclose(curves.FLUXCAL * NJY, [3900, 3900, 4000], rtol=1e-6)


@real
def test_real_detection_without_a_julian_date_and_objects_without_a_name_are_refused():
    for name, reason in {
        "pittgoogle_lsst.v7_4.avro": "is not a modified Julian date",
        "lasair_313637921267122191_lite.json": "no identifier of the object",
        "lasair_313637921267122191_object.json": "no alert of a known format",
    }.items():
        with pytest.raises(ValueError, match=reason):
            LightCurves.from_alerts(ALERTS / "rubin" / name, schemas=ALERTS / "schemas")


@real
@pytest.mark.filterwarnings("ignore")
def test_real_ztf_alert_and_alerce_table():
    record = next(fastavro.reader((ALERTS / "ztf" / "pittgoogle_ZTF17aaarzyp.v4_02.avro").open("rb")))
    curves = LightCurves.from_alerts(ALERTS / "ztf" / "pittgoogle_ZTF17aaarzyp.v4_02.avro")
    every = [record["candidate"], *record["prv_candidates"], *record["fp_hists"]]
    assert curves.n_obs == len({source["pid"] for source in every})
    assert curves.detected.sum() == len(
        {source["pid"] for source in every[: 1 + len(record["prv_candidates"])] if source.get("magpsf") is not None}
    )
    forced = {
        source["jd"] - 2_400_000.5: source["forcediffimflux"] * 10 ** (0.4 * (27.5 - source["magzpsci"]))
        for source in record["fp_hists"]
        if source["forcediffimflux"] is not None
    }
    there = dict(zip(curves.MJD, curves.FLUXCAL, strict=True))
    assert sum(there[time] for time in forced) == pytest.approx(sum(forced.values()), rel=1e-5)
    rows = pq.read_table(ALERTS / "ztf" / "alerce_detections_sample.parquet").to_pandas().reset_index()
    alerce = LightCurves.from_alerts(ALERTS / "ztf" / "alerce_detections_sample.parquet")
    assert len(alerce) == rows["oid"].nunique() and alerce.n_obs == alerce.detected.sum() == len(
        rows.drop_duplicates(["oid", "mjd", "fid"])
    )
    single = rows.drop_duplicates(["oid", "mjd", "fid", "magpsf"]).groupby(["oid", "mjd", "fid"]).filter(lambda group: len(group) == 1)
    flux = single["isdiffpos"] * 10 ** (0.4 * (27.5 - single["magpsf"]))
    found = alerce.to_frame().set_index(["SNID", "MJD", "BAND"])["FLUXCAL"]
    keys = list(zip(single["oid"], single["mjd"], single["fid"].map({1: "g", 2: "r"}), strict=True))
    np.testing.assert_allclose(found.loc[keys], flux, rtol=1e-5)


@real
@pytest.mark.filterwarnings("ignore")
def test_real_catalogue_of_a_data_preview():
    table = pq.read_table(ALERTS / "hats" / "lsdb-rubin_mock_dp1_thumbnail.parquet")
    row, curves = table.to_pylist()[0], LightCurves.from_nested(table)
    forced = {
        (time, band.replace("y", "Y")): flux
        for time, band, flux in zip(
            *(row["diaObjectForcedSource"][name] for name in ("midpointMjdTai", "band", "psfDiffFlux")), strict=True
        )
    }
    assert curves.n_obs == len(forced) + len(row["diaSource"]["psfFlux"]) and curves.detected.sum() == len(row["diaSource"]["psfFlux"])
    there = {(mjd, "ugrizY"[band]): flux for mjd, band, flux in zip(curves.MJD, curves.BAND, curves.FLUXCAL, strict=True)}
    np.testing.assert_allclose([there[key] * NJY for key in forced], list(forced.values()), rtol=2e-6)
    assert len(LightCurves.from_nested(pq.read_table(ALERTS / "hats" / "lsdb-rubin_mock_dp1_common_metadata.parquet"))) == 0
    with pytest.raises(ValueError, match="no alert of a known format"):
        LightCurves.from_nested(pq.read_table(ALERTS / "hats" / "nested-pandas_vsx-x-ztfdr22_lc-m31.parquet"))


@pytest.mark.skipif(
    not (SHARED / "elasticc_real").is_dir(), reason="real labelled objects are not on this machine (../shared/data/elasticc_real)"
)
def test_real_objects_come_back_from_the_alerts_that_were_sent_of_them():
    curves = LightCurves.from_parquet(SHARED / "elasticc_real" / "real_elasticc_labelled.parquet")
    curves = curves[np.flatnonzero(curves.header["SOURCE"].str.startswith("fink"))[::40]]
    until = np.where(curves.last_detection < 0, -1, curves.last_detection)
    curves = curves.select(np.arange(curves.n_obs) <= np.repeat(until, curves.counts))
    records = [record for i in range(len(curves)) for record in made.as_records(curves, i)]
    again = LightCurves.from_alerts(np.random.default_rng(0).permutation(records).tolist())
    again = again[pd.Index(again.header["SNID"]).get_indexer(curves.header["SNID"])]
    for name in ("MJD", "BAND"):
        np.testing.assert_array_equal(getattr(again, name), getattr(curves, name))
    np.testing.assert_array_equal(again.detected, curves.detected)
    for name in ("FLUXCAL", "FLUXCALERR"):
        np.testing.assert_allclose(getattr(again, name), getattr(curves, name), rtol=2e-7)
    for name in ELASTICC.header:
        if name.startswith(("HOSTGAL", "MWEBV", "REDSHIFT")):
            np.testing.assert_allclose(again.header[name].astype(float), curves.header[name].astype(float), rtol=1e-6)
    np.testing.assert_allclose(again.header["ALERT_MJD"], curves.MJD[curves.last_detection])


# --- tables ---


def _long(curves: LightCurves) -> pd.DataFrame:
    return curves.to_frame().rename(
        columns={"SNID": "objectId", "MJD": "midpointMjdTai", "BAND": "filter", "FLUXCAL": "psfFlux", "FLUXCALERR": "psfFluxErr"}
    )


@pytest.fixture(scope="module")
def sample():
    return LightCurves.from_parquet(Path(__file__).parents[1] / "nbs" / "data" / "plasticc_sample.parquet")[::20]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("library", ["pandas", "polars", "pyarrow", "astropy", "dict"])
def test_tables_of_every_library_give_the_same_light_curves(sample, library):
    frame = _long(sample)
    if library == "astropy":
        from astropy.table import Table

        frame = Table.from_pandas(frame)
    elif library == "polars":
        frame = pytest.importorskip("polars", reason="polars is not installed").from_pandas(frame)
    elif library != "pandas":
        frame = pa.Table.from_pandas(frame) if library == "pyarrow" else frame.to_dict("list")
    same(LightCurves.from_table(frame, unit="FLUXCAL", detected="PHOTFLAG", header=sample.header), sample)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("unit", "factor"), [("nJy", NJY), ("uJy", NJY / 1e3), ("mJy", NJY / 1e6), ("Jy", NJY / 1e9)])
def test_units_are_astropys(sample, unit, factor):
    frame = _long(sample)
    frame[["psfFlux", "psfFluxErr"]] = frame[["psfFlux", "psfFluxErr"]].astype(float) * factor
    made_of = LightCurves.from_table(frame, unit=unit)
    np.testing.assert_allclose(made_of.FLUXCAL, sample.FLUXCAL[np.argsort(sample.object_index, kind="stable")], rtol=1e-5)


def test_detections_by_signal_to_noise_and_what_was_found_is_said(sample):
    frame = _long(sample).drop(columns="PHOTFLAG")
    with pytest.warns(
        UserWarning,
        match="read as: SNID = objectId; MJD = midpointMjdTai; BAND = filter.*fluxes in FLUXCAL; a detection is .flux. / error ≥ 7",
    ):
        curves = LightCurves.from_table(frame, unit="FLUXCAL", snr=7)
    np.testing.assert_array_equal(curves.detected, np.abs(curves.FLUXCAL.astype(float)) >= 7 * curves.FLUXCALERR.astype(float))


@pytest.mark.filterwarnings("ignore")
def test_nested_pandas_and_files_written_again(sample, tmp_path):
    nested = pytest.importorskip("nested_pandas", reason="nested-pandas is not installed (extra [hats])")
    sample.to_parquet(tmp_path / "sample.parquet")
    same(LightCurves.from_parquet(tmp_path / "sample.parquet"), sample)
    same(LightCurves.from_nested(nested.read_parquet(tmp_path / "sample.parquet")), sample)
    assert LightCurves.from_parquet(tmp_path / "sample.parquet").header["ELASTICC_class"].equals(sample.header["ELASTICC_class"])


@pytest.mark.filterwarnings("ignore")
def test_a_nested_frame_is_a_table_with_a_header(sample):
    nested = pytest.importorskip("nested_pandas", reason="nested-pandas is not installed (extra [hats])")
    frame = nested.NestedFrame(sample.header[["SNID", "MWEBV", "HOSTGAL_PHOTOZ"]].set_index("SNID"))
    frame = frame.join_nested(_long(sample).drop(columns="objectId").set_index(sample.to_frame()["SNID"]), "photometry")
    curves = LightCurves.from_table(frame, unit="FLUXCAL", detected="PHOTFLAG")
    same(curves, sample)
    assert curves.header["MWEBV"].tolist() == sample.header["MWEBV"].tolist()
    with pytest.raises(ValueError, match="several nested columns"):
        LightCurves.from_table(pa.table({"id": ["a"], "one": [[{"mjd": 1.0}]], "two": [[{"mjd": 1.0}]]}))


@several
@given(st.lists(st.integers(1, 11), min_size=1, max_size=6))
def test_parts_put_together_are_the_whole(cuts):
    whole = _SAMPLE[:12]
    bounds = sorted({0, *cuts, 12})
    same(LightCurves.concatenate([whole[a:b] for a, b in pairwise(bounds)]), whole)


_SAMPLE = LightCurves.from_parquet(Path(__file__).parents[1] / "nbs" / "data" / "plasticc_sample.parquet")


def test_bad_tables_are_one_line(sample):
    frame = _long(sample)
    for bad, reason in {
        lambda: LightCurves.from_table(frame.drop(columns="filter")): "no column is known for BAND",
        lambda: LightCurves.from_table(frame, mjd="when"): "no column 'when'",
        lambda: LightCurves.from_table(frame, unit="km"): "is no flux density",
        lambda: LightCurves.from_table(frame.assign(psfFlux="a")): "column psfFlux is of type",
        lambda: LightCurves.from_table([1, 2]): "a table is needed",
        lambda: LightCurves.concatenate([sample, sample]): "occurs 2 times",
        lambda: LightCurves.concatenate([]): "no light curves",
        lambda: sample.with_hosts(pd.concat([sample.header, sample.header])): "more than one row",
        lambda: sample.with_hosts(pd.DataFrame({"a": [1]})): "no column is known for SNID",
    }.items():
        with pytest.raises((ValueError, TypeError), match=reason):
            bad()


@pytest.mark.filterwarnings("ignore")
def test_an_alert_is_classified_as_far_as_it_is_known():
    alert = made.elasticc_alert(7, 10.0, earlier=4, forced=8)
    curves = LightCurves.from_alerts(alert)
    predictions = HierarchicalClassifier.load("synthetic").predict(curves, [1, 4, 8])
    assert predictions.reached.tolist() == [[True, True, False]]
    whole = replace(curves, header=curves.header.drop(columns="ALERT_MJD"))
    assert HierarchicalClassifier.load("synthetic").predict(whole, [1, 4, 8]).reached.all()
