"""Any tree: its arrays hold together, its files come back the same, what is wrong with it is named, and it can be drawn."""

import hashlib
import io

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure

from elasticc_hc.taxonomy import LEVELS, Taxonomy

SHIPPED = ("elasticc2", "plasticc")


@st.composite
def trees(draw, max_nodes=200):
    """A random tree (depth 1–6) whose entries stand in any order; its leaves carry one model each."""
    n, deepest = draw(st.integers(2, max_nodes)), draw(st.integers(1, 6))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    parents, depths = [None], [0]
    for _ in range(n - 1):
        parents.append(int(rng.choice(np.flatnonzero(np.array(depths) < deepest))))
        depths.append(depths[parents[-1]] + 1)
    names = [f"node {i}" for i in rng.permutation(n)]
    nodes = [{"name": names[i], "parent": None if i == 0 else names[parents[i]]} for i in range(n)]
    for i in set(range(n)) - set(parents):
        nodes[i]["models"] = [f"model {i}"]
    return {"name": "random", "nodes": [nodes[i] for i in rng.permutation(n)]}


def way(parents, node):
    """The nodes from one up to the root, by following parents."""
    nodes = [node]
    while parents[nodes[-1]] >= 0:
        nodes.append(parents[nodes[-1]])
    return nodes


# --- arrays ---


@settings(deadline=None)
@given(trees())
def test_arrays_agree_with_the_file(state):
    taxonomy = Taxonomy.from_dict(state)
    parent_of = {node["name"]: node["parent"] for node in state["nodes"]}
    n, parents, depths, paths, groups = len(state["nodes"]), taxonomy.parents, taxonomy.depths, taxonomy.paths, taxonomy.groups
    assert sorted(taxonomy.nodes) == sorted(parent_of) and parents[0] == -1 and depths.max() <= 6
    for i, name in enumerate(taxonomy.nodes):
        parent = parents[i]
        assert taxonomy.index(name) == i and parent < i
        assert (taxonomy.nodes[parent] if i else None) == parent_of[name]
        up = way(parents, i)
        assert depths[i] == len(up) - 1
        assert np.array_equal(np.flatnonzero(paths[i]), sorted(up))
        below = np.flatnonzero(paths[:, i])
        assert np.array_equal(below, np.arange(i, i + len(below))), "depth first: a branch is a block"
    assert np.array_equal(taxonomy.leaf_nodes, np.setdiff1d(np.arange(n), parents))
    assert np.array_equal(groups[:, None] == groups, parents[:, None] == parents)
    assert groups[0] == 0 and set(groups) == set(range(groups.max() + 1))


@settings(deadline=None)
@given(trees())
def test_siblings_keep_the_order_of_the_file(state):
    taxonomy = Taxonomy.from_dict(state)
    place = {node["name"]: i for i, node in enumerate(state["nodes"])}
    for group in range(1, taxonomy.groups.max() + 1):
        order = [place[taxonomy.nodes[i]] for i in np.flatnonzero(taxonomy.groups == group)]
        assert order == sorted(order)


@settings(deadline=None)
@given(trees())
def test_every_leaf_has_its_place_at_every_level(state):
    taxonomy = Taxonomy.from_dict(state)
    parents = taxonomy.parents
    for level in LEVELS:
        nodes, places = taxonomy.level(level), taxonomy.at_level(taxonomy.leaf_nodes, level)
        for leaf, place in zip(taxonomy.leaf_nodes, places, strict=True):
            assert set(way(parents, leaf)) & set(nodes) == {nodes[place]}, "one node of the level on the way, no other"
    assert np.array_equal(taxonomy.level("leaf"), taxonomy.leaf_nodes)


@settings(deadline=None)
@given(trees())
def test_models_lead_to_their_leaves(state):
    taxonomy = Taxonomy.from_dict(state)
    wanted = {model: node["name"] for node in state["nodes"] for model in node.get("models", [])}
    found = taxonomy.node_of(wanted)
    assert [taxonomy.nodes[i] for i in found] == list(wanted.values())
    assert set(found) == set(taxonomy.leaf_nodes)


@settings(deadline=None, max_examples=30)
@given(trees())
def test_dict_and_yaml_come_back(tmp_path_factory, state):
    taxonomy = Taxonomy.from_dict(state)
    path = tmp_path_factory.mktemp("tree") / "tree.yaml"
    taxonomy.to_yaml(path)
    again = Taxonomy.from_yaml(path)
    assert again.to_dict() == taxonomy.to_dict() == Taxonomy.from_dict(taxonomy.to_dict()).to_dict()
    assert again.nodes == taxonomy.nodes and np.array_equal(again.parents, taxonomy.parents)


# --- the trees that come with the package ---


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_trees_are_complete(name):
    taxonomy = Taxonomy.from_yaml(name)
    assert len(set(taxonomy.labels)) == len(set(taxonomy.colors)) == len(taxonomy.nodes)
    assert None not in taxonomy.class_ids and len(set(taxonomy.class_ids)) == len(taxonomy.nodes)
    for i in taxonomy.leaf_nodes:
        assert taxonomy.entries[i].models or taxonomy.entries[i].plasticc is not None
    assert [taxonomy.nodes[i] for i in taxonomy.level("level2")] == ["SN", "Fast", "Long", "Periodic", "AGN"]


def test_class_ids_follow_the_tree_of_desc():
    """DESC writes a class below another with the same leading digits: 2222 in 2220 in 2200 in 2000."""
    taxonomy = Taxonomy.from_yaml("elasticc2")
    for i, parent in enumerate(taxonomy.parents[1:], start=1):
        above = str(taxonomy.class_ids[parent]).rstrip("0")
        assert str(taxonomy.class_ids[i]).startswith(above) and taxonomy.class_ids[i] != taxonomy.class_ids[parent]


# --- what is wrong is named ---

GOOD = [{"name": "A", "parent": None}, {"name": "B", "parent": "A"}, {"name": "C", "parent": "A", "models": ["M"]}]


@pytest.mark.parametrize(
    "change, message",
    [
        ([*GOOD, {"name": "D", "parent": None}], "one root, this one has 2: A, D"),
        ([{"name": "A", "parent": "B"}, {"name": "B", "parent": "A"}], "one root, this one has 0"),
        ([*GOOD, {"name": "B", "parent": "C"}], "node B stands 2 times"),
        ([*GOOD, {"name": "D", "parent": "X"}], "node D: its parent X is not in the tree"),
        ([*GOOD, {"name": "D", "parent": "D"}], "D: not below the root A"),
        ([*GOOD, {"name": "D", "parent": "E"}, {"name": "E", "parent": "D"}], "D, E: not below the root A"),
        ([*GOOD, {"name": "D", "parent": "A", "models": ["M"]}], "model M: mapped to C and to D"),
        ([*GOOD, {"name": "D", "parent": "A", "models": ["N", "N"]}], "model N: mapped to D and to D"),
        ([*GOOD, {"name": "D", "parent": "C"}], "node C: has children, so M belongs to one of those"),
        ([*GOOD, {"name": "D"}], "needs at least a name and a parent"),
        ([*GOOD, "D"], "'D': needs at least a name and a parent"),
        ([*GOOD, {"name": "D", "parent": "A", "colour": "red"}], "node D: unknown entry colour"),
        ([], "a list of nodes"),
    ],
)
def test_bad_trees(tmp_path, change, message):
    with pytest.raises(ValueError) as caught:
        Taxonomy.from_dict({"name": "bad", "nodes": change})
    assert message in str(caught.value) and "\n" not in str(caught.value)
    path = tmp_path / "bad.yaml"
    path.write_text(yaml.safe_dump({"name": "bad", "nodes": change}))
    with pytest.raises(ValueError) as caught:
        Taxonomy.from_yaml(path)
    assert str(path) in str(caught.value) and message in str(caught.value)


@pytest.mark.parametrize("text", ["nodes: [", "- 1", "", "nodes: {A: B}", "name: x\nnodes:\n\t- a"])
def test_files_that_hold_no_tree(tmp_path, text):
    path = tmp_path / "no_tree.yaml"
    path.write_text(text)
    with pytest.raises(ValueError) as caught:
        Taxonomy.from_yaml(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_names_that_are_not_there(tmp_path):
    taxonomy = Taxonomy.from_yaml("plasticc")
    with pytest.raises(FileNotFoundError, match=r"elasticc2, plasticc"):
        Taxonomy.from_yaml(tmp_path / "absent.yaml")
    with pytest.raises(ValueError, match="no leaf for the model SN-unheard-of"):
        taxonomy.node_of(["SNIa-SALT3", "SN-unheard-of"])
    with pytest.raises(ValueError, match="no node 'ILOT' in taxonomy plasticc"):
        taxonomy.index("ILOT")
    with pytest.raises(ValueError, match="choose one of root, level2, leaf"):
        taxonomy.level("level3")


# --- drawing ---


def picture(taxonomy, **options):
    """The tree as PNG bytes."""
    figure = Figure(figsize=(8, 6))
    axes = figure.subplots()
    assert taxonomy.draw(axes, **options) is axes
    file = io.BytesIO()
    figure.savefig(file, metadata={"Software": None})
    return axes, file.getvalue()


@settings(deadline=None, max_examples=10)
@given(trees(max_nodes=30))
def test_any_tree_can_be_drawn(state):
    taxonomy = Taxonomy.from_dict(state)
    axes, _ = picture(taxonomy)
    assert [text.get_text() for text in axes.texts] == list(taxonomy.nodes)
    places = np.array([text.xy for text in axes.texts], dtype=float)
    assert np.array_equal(places[:, 0], taxonomy.depths)
    assert np.array_equal(places[taxonomy.leaf_nodes, 1], np.arange(len(taxonomy.leaves))), "leaves in tree order"
    assert len(np.unique(places, axis=0)) == len(taxonomy.nodes), "no node on top of another"
    assert len(axes.lines) == len(taxonomy.nodes) - 1


@pytest.mark.parametrize("name", SHIPPED)
def test_drawing_is_the_same_twice_and_names_do_not_collide(name):
    taxonomy = Taxonomy.from_yaml(name)
    axes, first = picture(taxonomy)
    assert hashlib.sha256(first).digest() == hashlib.sha256(picture(taxonomy)[1]).digest()
    boxes = [text.get_window_extent() for text in axes.texts]
    assert not [(a, b) for i, a in enumerate(boxes) for b in boxes[:i] if a.overlaps(b)]


def test_probabilities_are_printed_and_a_path_is_picked_out():
    taxonomy = Taxonomy.from_yaml("plasticc")
    p = np.full(len(taxonomy.leaves), 1 / len(taxonomy.leaves)) @ taxonomy.paths[taxonomy.leaf_nodes]
    axes, _ = picture(taxonomy, probabilities=p)
    assert [text.get_text().split()[-1] for text in axes.texts] == [f"{value:.2f}" for value in p]
    axes, plain = picture(taxonomy, highlight="TDE")
    assert plain != picture(taxonomy, highlight="SLSN")[1]
    with pytest.raises(ValueError, match="no node 'ILOT'"):
        picture(taxonomy, highlight="ILOT")
