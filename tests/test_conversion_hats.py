"""The Parquet that convert writes, opened by nested-pandas and made into a HATS catalogue by LSDB (extra [hats])."""
import pyarrow.parquet as pq
import pytest
from conversion_files import SAMPLE, sample, write_pair

from elasticc_hc.conversion.schema import observation_counts
from elasticc_hc.conversion.snana_to_parquet import convert

nested_pandas = pytest.importorskip("nested_pandas", reason="nested-pandas is not installed (extra [hats])")
lsdb = pytest.importorskip("lsdb", reason="LSDB is not installed (extra [hats])")


@pytest.fixture(params=["sample", "converted"])
def path(request, tmp_path):
    """The committed sample, and a file that was just converted."""
    if request.param == "sample":
        return SAMPLE
    for i in range(3):
        write_pair(tmp_path / "in" / "RUN_EB", f"R-{i}", sample(30 * i, 30 * i + 30))
    convert(tmp_path / "in", tmp_path / "out")
    return tmp_path / "out" / "EB.parquet"


def test_nested_pandas_opens_the_light_curve_as_a_nested_frame(path):
    table, frame = pq.read_table(path), nested_pandas.read_parquet(path)
    assert frame.nested_columns == ["lightcurve"] and len(frame) == len(table)
    assert list(frame["lightcurve"].iloc[3].columns) == ["MJD", "BAND", "PHOTFLAG", "FLUXCAL", "FLUXCALERR"]
    for i in (0, 7, 29):
        assert frame["lightcurve"].iloc[i].to_dict("list") == table["lightcurve"][i].as_py()


def test_nested_pandas_reads_one_sub_column_alone(path):
    frame = nested_pandas.read_parquet(path, columns=["SNID", "lightcurve.FLUXCAL"])
    assert frame.columns.tolist() == ["SNID", "lightcurve"] and list(frame["lightcurve"].iloc[0].columns) == ["FLUXCAL"]
    assert len(frame["lightcurve.FLUXCAL"]) == observation_counts(pq.read_table(path)).sum()


def test_lsdb_writes_and_reopens_every_row(path, tmp_path):
    frame = nested_pandas.read_parquet(path)
    catalogue = lsdb.from_dataframe(frame, ra_column="RA", dec_column="DEC", catalog_name="objects")
    catalogue.write_catalog(tmp_path / "catalogue")
    back = lsdb.open_catalog(tmp_path / "catalogue").compute()
    assert len(back) == len(frame) and set(frame.columns) <= set(back.columns)
    back, frame = (table.set_index("SNID").sort_index() for table in (back, frame))
    assert (back.index == frame.index).all() and (back["MWEBV"] == frame["MWEBV"]).all()
    for one, two in zip(back["lightcurve"], frame["lightcurve"], strict=True):
        assert one.reset_index(drop=True).equals(two.reset_index(drop=True))
