"""The films of the README: what their captions say is recorded next to them, and holds."""

import json
from pathlib import Path

import pytest
from PIL import Image

from elasticc_hc.taxonomy.taxonomy import LEVELS, Taxonomy

GIF = Path(__file__).parent.parent / "gif"
NAMES = [f"{level}_{kind}" for level in LEVELS for kind in ("cf", "roc")]
FACTS = json.loads((GIF / "films.json").read_text(encoding="utf-8"))


def test_the_data_are_named_and_enough():
    assert FACTS["objects"] >= 3000 and FACTS["data"] == "simulated, seed 20261"
    assert FACTS["leaves"] == len(Taxonomy.from_yaml("elasticc2").leaves) == len(FACTS["recall"])


def test_the_diagonal_fills():
    """The recall of each leaf on day 1024 is at least that on day 1, less 0.02."""
    assert FACTS["days"][0] == 0 and FACTS["first_alert"] and FACTS["days"][-1] == 1024
    fallen = [leaf for leaf, (first, last) in FACTS["recall"].items() if last < first - 0.02]
    assert fallen == FACTS["recall_falls"] == [], f"say so in the caption: the recall falls for {', '.join(fallen)}"


@pytest.mark.parametrize("name", NAMES)
def test_a_film_has_a_frame_for_each_day(name):
    film = Image.open(GIF / name / f"{name}.gif")
    assert film.n_frames == len(FACTS["days"]) == len(list((GIF / name).glob("day_*.png")))
    assert film.size == (1064, 700) and (GIF / name / f"{name}.gif").stat().st_size < 600e3
