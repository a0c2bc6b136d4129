"""A science module as in Fink: a `pandas_udf` that adds a class to each alert of a Spark table.

The classifier is loaded once in each Python worker and kept. Alerts are rows with `alertId` and nested `diaSource`, `prvDiaSources`,
`prvDiaForcedSources` and `diaObject`, as in Fink's Parquet files. `code` is Fink's number of the broad class: 11, 12, 13, 21 or 22.

    python examples/fink_spark.py ALERTS.parquet --out classified [--run synthetic]
"""

import argparse
import os
import sys

import numpy as np
import pandas as pd
import pyarrow as pa

COLUMNS = ("alertId", "diaSource", "prvDiaSources", "prvDiaForcedSources", "diaObject")
RESULT = "`class` string, code int, probability float, leaf string, leaf_probability float"


def classify(table: pa.Table, run: str) -> pd.DataFrame:  # (n,) a row for each alert, missing where it cannot be classified
    "Broad class, Fink's number of it, and leaf."
    from elasticc_hc.classification.alert_stream import alert_classifier
    from elasticc_hc.classification.brokers import fink_code

    server = alert_classifier(run)
    answers, taxonomy = server.answer_table(table), server.classifier.taxonomy
    rows = answers.header["number"].to_numpy(int)[answers.kinds == "new"] - 1
    p = answers.probabilities[answers.kinds == "new"]
    made = pd.DataFrame(index=range(len(table)), columns=["class", "code", "probability", "leaf", "leaf_probability"], dtype=object)
    for nodes, name, value in ((taxonomy.level("level2"), "class", "probability"), (taxonomy.leaf_nodes, "leaf", "leaf_probability")):
        best = np.asarray(nodes)[p[:, nodes].argmax(axis=1)]
        made.loc[rows, name] = np.array(taxonomy.nodes, object)[best]
        made.loc[rows, value] = p[np.arange(len(p)), best]
    codes = {taxonomy.nodes[node]: fink_code(taxonomy.class_ids[node]) for node in taxonomy.level("level2")}
    return made.assign(code=made["class"].map(codes).astype("Int32"))


def science_module(run: str):
    "The `pandas_udf`; its argument is a struct of the columns of an alert."
    from pyspark.sql.functions import pandas_udf

    @pandas_udf(RESULT)
    def elasticc_hc(alerts: pd.DataFrame) -> pd.DataFrame:
        return classify(pa.Table.from_pylist([_plain(row) for row in alerts.to_dict("records")]), run)

    return elasticc_hc


def _plain(value):
    "Spark's rows and arrays as dictionaries and lists."
    if hasattr(value, "asDict"):
        value = value.asDict()
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, list | np.ndarray) else value


def main() -> None:
    from pyspark.sql import SparkSession
    from pyspark.sql.functions import struct

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("alerts")
    parser.add_argument("--out", required=True)
    parser.add_argument("--run", default="synthetic")
    options = parser.parse_args()
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    spark = SparkSession.builder.master("local[1]").appName("elasticc_hc").config("spark.ui.enabled", "false").getOrCreate()
    alerts = spark.read.parquet(options.alerts)
    found = science_module(options.run)(struct(*[name for name in COLUMNS if name in alerts.columns]))
    result = alerts.select("diaSource.diaObjectId", "diaSource.diaSourceId", found.alias("elasticc_hc"))
    result.write.mode("errorifexists").parquet(options.out)
    print(f"{spark.read.parquet(options.out).count():,} alerts in {options.out}")
    spark.stop()


if __name__ == "__main__":
    main()
