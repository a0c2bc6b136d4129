"""A table with the columns of ALeRCE's `probability` table: a row for each object, classifier and class, with the rank of the class.

Reads the alerts of a file or folder (Avro, JSON or Parquet; of Rubin, ELAsTiCC or ZTF), combines those of each object, and classifies
it as far as it is known. The levels of the tree are classifiers of their own.

    python examples/alerce_table.py ALERTS --out probability.parquet [--run synthetic] [--schemas FOLDER]
"""

import argparse

import pandas as pd

from elasticc_hc import HierarchicalClassifier, LightCurves, __version__
from elasticc_hc.classification.brokers import to_broker
from elasticc_hc.conversion.parquet import atomic_write


def probability_table(alerts: str, run: str, schemas: str | None) -> pd.DataFrame:
    "The rows of all objects with a detection."
    classifier, curves = HierarchicalClassifier.load(run), LightCurves.from_alerts(alerts, schemas=schemas, on_error="skip")
    predictions = classifier.predict(curves, [float(curves.days[curves.detected].max())])
    rows = to_broker(predictions.probabilities[:, 0], "alerce", classifier.taxonomy, predictions.SNID, name=run, version=__version__)
    return pd.DataFrame(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("alerts")
    parser.add_argument("--out", required=True)
    parser.add_argument("--run", default="synthetic")
    parser.add_argument("--schemas")
    options = parser.parse_args()
    table = probability_table(options.alerts, options.run, options.schemas)
    with atomic_write(options.out) as partial:
        table.to_parquet(partial, index=False)
    print(f"{len(table):,} rows of {table['oid'].nunique():,} objects in {options.out}")


if __name__ == "__main__":
    main()
