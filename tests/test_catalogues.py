"""A HATS catalogue classified piece by piece on a Dask cluster (extra [hats])."""

import numpy as np
import pytest

from elasticc_hc import HierarchicalClassifier, LightCurves, convert, simulate
from elasticc_hc.classification import classify_partition

nested_pandas = pytest.importorskip("nested_pandas", reason="nested-pandas is not installed (extra [hats])")
lsdb = pytest.importorskip("lsdb", reason="LSDB is not installed (extra [hats])")
distributed = pytest.importorskip("distributed", reason="distributed is not installed (extra [dask])")
OBJECTS = 3_000


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory):
    """Simulated objects as Parquet and as a HATS catalogue of several pieces."""
    folder = tmp_path_factory.mktemp("catalogue")
    simulate(folder / "fits", per_model=-(-OBJECTS // 32), seed=0)
    convert(folder / "fits", folder / "converted")
    curves = LightCurves.from_parquet(sorted((folder / "converted").glob("*.parquet")))[:OBJECTS]
    curves.to_parquet(folder / "objects.parquet")
    frame = nested_pandas.read_parquet(folder / "objects.parquet")
    made = lsdb.from_dataframe(frame, ra_column="RA", dec_column="DEC", catalog_name="objects", partition_rows=450)
    made.write_catalog(folder / "hats", progress_bar=False)
    return curves, folder / "hats"


def test_two_workers_give_every_row_back_with_the_probabilities_of_one_process(catalogue):
    curves, folder = catalogue
    opened = lsdb.open_catalog(folder)
    assert opened.npartitions > 4
    with distributed.Client(n_workers=2, threads_per_worker=1, dashboard_address=None):
        found = opened.map_partitions(classify_partition, "synthetic").compute()
    classifier = HierarchicalClassifier.load("synthetic")
    alone = classify_partition(curves.to_arrow().to_pandas(), classifier).set_index("SNID")
    assert len(found) == OBJECTS and sorted(found["SNID"]) == sorted(alone.index)
    nodes = list(classifier.taxonomy.nodes)
    np.testing.assert_allclose(found.set_index("SNID").loc[alone.index, nodes].astype(float), alone[nodes].astype(float), atol=2e-6)
    assert found["class"].notna().mean() > 0.9
