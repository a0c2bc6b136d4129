"""Annotations for Lasair: a class, a sentence and the probabilities of all leaves for each object.

Reads objects as Lasair hands them on (JSON files, one object each, from its API or from a filter's topic) and prints an annotation
for each as a line of JSON. With --send, each is sent to Lasair as well (package `lasair`, token in LASAIR_TOKEN).

    python examples/lasair_annotator.py OBJECT.json [MORE.json …] [--run synthetic] [--threshold 0.5] [--topic elasticc_hc]
"""

import argparse
import json
import os
import sys

from elasticc_hc import HierarchicalClassifier, LightCurves, __version__
from elasticc_hc.classification.brokers import to_broker


def annotations(paths: list[str], run: str, threshold: float, topic: str) -> list[dict]:
    "An annotation for each object with a detection; those that cannot be read are named on the standard error."
    classifier, found = HierarchicalClassifier.load(run), []
    for path in paths:
        try:
            curves = LightCurves.from_alerts(path, "lasair")
        except (ValueError, OSError) as error:
            print(f"left out: {error}", file=sys.stderr)
            continue
        predictions = classifier.predict(curves, [float(max(curves.days.max(), 0))])
        snid, p = predictions.SNID, predictions.probabilities[:, 0]
        found += to_broker(p, "lasair", classifier.taxonomy, snid, threshold, topic, __version__)
    return found


def send(found: list[dict]) -> None:
    "Annotate the objects at Lasair."
    from lasair import lasair_client

    client = lasair_client(os.environ["LASAIR_TOKEN"], endpoint="https://lasair.lsst.ac.uk/api")
    for one in found:
        client.annotate(one["topic"], one["objectId"], one["classification"], version=one["version"],
                        explanation=one["explanation"], classdict=one["classdict"], url=one["url"])  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("objects", nargs="+")
    parser.add_argument("--run", default="synthetic")
    parser.add_argument("--threshold", type=float, default=0.5, help="walk down the tree while the class is at least this probable")
    parser.add_argument("--topic", default="elasticc_hc")
    parser.add_argument("--send", action="store_true")
    options = parser.parse_args()
    found = annotations(options.objects, options.run, options.threshold, options.topic)
    for one in found:
        print(json.dumps(one))
    if options.send:
        send(found)


if __name__ == "__main__":
    main()
