"""Any tree: its arrays hold together, its files come back the same, what is wrong with it is named, and it can be drawn."""

import hashlib
import io
import itertools
import json
import re
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from elasticc_hc.taxonomy.drawing import block_edges, tree_colors
from elasticc_hc.taxonomy.taxonomy import LEVELS, Taxonomy

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


@settings(deadline=None, max_examples=30)
@given(trees())
def test_nodes_without_a_colour_receive_one(state):
    """Siblings differ, in lightness too if they are neighbours; a colour that is given stays; the dictionary comes back."""
    for node in state["nodes"]:
        node.pop("color", None)
    state["nodes"][-1]["color"] = "#123456"
    taxonomy = Taxonomy.from_dict(state)
    assert taxonomy.colors[taxonomy.index(str(state["nodes"][-1]["name"]))] == "#123456"
    assert all(re.fullmatch("#[0-9A-F]{6}", color) for color in taxonomy.colors)
    assert Taxonomy.from_dict(taxonomy.to_dict()).colors == taxonomy.colors
    plain = tree_colors(taxonomy.parents)
    for parent in set(taxonomy.parents) - {-1}:
        children = np.flatnonzero(taxonomy.parents == parent)
        grey = np.array([to_rgb(plain[child]) for child in children]) @ [0.299, 0.587, 0.114]
        assert all(plain[one] != plain[next_one] for one, next_one in itertools.pairwise(children))
        assert len(children) > 5 or (np.abs(np.diff(grey)) > 0.02).all()


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


def test_the_tree_of_desc_is_complete():
    """43 nodes: the root and 42 numbers, each below the node whose leading digits it has, an Other in every branch."""
    taxonomy = Taxonomy.from_yaml("desc")
    numbers = dict(zip(taxonomy.nodes[1:], taxonomy.class_ids[1:], strict=True))
    assert len(numbers) == len(set(numbers.values())) == 42 and taxonomy.class_ids[0] is None
    assert len(set(taxonomy.labels)) == len(set(taxonomy.colors)) == len(taxonomy.nodes)
    for i, parent in enumerate(taxonomy.parents):
        if parent > 0 and taxonomy.class_ids[parent]:
            assert str(taxonomy.class_ids[i]).startswith(str(taxonomy.class_ids[parent]).rstrip("0"))
    for parent in set(taxonomy.parents) - {-1, 0}:
        children = [taxonomy.nodes[i] for i in np.flatnonzero(taxonomy.parents == parent)]
        assert f"{taxonomy.nodes[parent]}/Other" in children
    ours = Taxonomy.from_yaml("elasticc2")
    models = [model for entry in ours.entries for model in entry.models]
    assert [taxonomy.class_ids[i] for i in taxonomy.node_of(models)] == [ours.class_ids[i] for i in ours.node_of(models)]


def test_numbers_and_gentypes_of_the_exchange():
    """Against the table of class numbers and GENTYPEs that the DESC published."""
    path = Path(__file__).resolve().parents[2] / "shared/data/elasticc_formats/elasticc2_classids_gentype.json"
    if not path.is_file():
        pytest.skip("the DESC's table of class numbers is not on this machine")
    table, taxonomy = json.loads(path.read_text()), Taxonomy.from_yaml("desc")
    assert sorted(taxonomy.class_ids[1:]) == sorted(map(int, table))
    for entry in taxonomy.entries[1:]:
        assert entry.name == table[str(entry.class_id)]["description"]
        if entry.models:
            assert set(table[str(entry.class_id)]["gentype"]) <= set(entry.gentypes)


def test_the_flat_tree_has_the_same_leaves():
    flat, tree = Taxonomy.from_yaml("flat"), Taxonomy.from_yaml("elasticc2")
    assert flat.leaves == tree.leaves and set(flat.depths[1:]) == {1}
    assert all(np.array_equal(flat.level(level), flat.leaf_nodes) for level in LEVELS)
    assert [entry.models for entry in flat.entries[1:]] == [tree.entries[i].models for i in tree.leaf_nodes]


# --- other trees from this one ---


def models_of(taxonomy):
    return sorted(model for entry in taxonomy.entries for model in entry.models)


@settings(deadline=None)
@given(trees())
def test_edges_make_the_same_tree(state):
    taxonomy = Taxonomy.from_dict(state)
    edges = [(taxonomy.nodes[parent], taxonomy.nodes[i]) for i, parent in enumerate(taxonomy.parents) if parent >= 0]
    models = {entry.name: entry.models for entry in taxonomy.entries if entry.models}
    again = Taxonomy.from_edges(edges, models, "random")
    assert again.to_dict() == taxonomy.to_dict()
    assert set(Taxonomy.from_edges(edges[::-1], models).tree.edges) == set(again.tree.edges)


@settings(deadline=None)
@given(trees(), st.integers(0, 10**6))
def test_a_subtree_is_the_branch(state, number):
    taxonomy = Taxonomy.from_dict(state)
    node = number % len(taxonomy.nodes)
    branch = taxonomy.subtree(taxonomy.nodes[node])
    below = np.flatnonzero(taxonomy.paths[:, node])
    assert branch.nodes == tuple(taxonomy.nodes[i] for i in below)
    assert np.array_equal(branch.paths, taxonomy.paths[np.ix_(below, below)])
    assert models_of(branch) == sorted(model for i in below for model in taxonomy.entries[i].models)


@settings(deadline=None)
@given(trees(), st.sets(st.integers(0, 10**6), min_size=1, max_size=4))
def test_pruning_keeps_every_model_at_its_ancestor(state, numbers):
    taxonomy = Taxonomy.from_dict(state)
    cut = sorted({number % len(taxonomy.nodes) for number in numbers})
    pruned = taxonomy.prune(*(taxonomy.nodes[node] for node in cut))
    assert models_of(pruned) == models_of(taxonomy)
    for entry in taxonomy.entries:
        for model in entry.models:
            path = np.flatnonzero(taxonomy.paths[taxonomy.index(entry.name)])
            ends = [node for node in path if node in cut]
            assert pruned.nodes[pruned.node_of([model])[0]] == taxonomy.nodes[ends[0] if ends else path[-1]]


@settings(deadline=None)
@given(trees(), st.sets(st.integers(0, 10**6), min_size=1, max_size=5))
def test_merging_keeps_every_model_and_the_order(state, numbers):
    taxonomy = Taxonomy.from_dict(state)
    members = sorted({taxonomy.leaves[number % len(taxonomy.leaves)] for number in numbers})
    if len(members) == len(taxonomy.leaves):
        return
    merged = taxonomy.merge({"together": members})
    assert models_of(merged) == models_of(taxonomy)
    together = merged.index("together")
    for entry in taxonomy.entries:
        for model in entry.models:
            leaf = merged.node_of([model])[0]
            assert leaf == together if entry.name in members else merged.nodes[leaf] == entry.name
    kept = [name for name in merged.nodes if name != "together"]
    assert kept == [name for name in taxonomy.nodes if name in kept]
    inner = set(taxonomy.nodes) - set(taxonomy.leaves)
    children = [int((merged.parents == i).sum()) for i, name in enumerate(merged.nodes) if name in inner and i]
    assert all(n >= 2 for n in children), "an inner node tells classes apart, or it is not there"


def test_merging_by_name_for_real_questions():
    taxonomy = Taxonomy.from_yaml("plasticc")
    ia = taxonomy.merge({"not Ia": [leaf for leaf in taxonomy.leaves if leaf != "SNIa"]})
    assert ia.nodes == ("Alert", "SNIa", "not Ia")
    assert set(ia.node_of([f"PLAsTiCC-{entry.plasticc}" for entry in taxonomy.entries if entry.plasticc])) == {1, 2}
    assert Taxonomy.from_dict(ia.to_dict()).to_dict() == ia.to_dict()


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda t: t.subtree("Nova"), "no node 'Nova'"),
        (lambda t: t.prune("SN", "Nova"), "no node 'Nova'"),
        (lambda t: t.merge({"X": ["SNIa", "Nova"]}), "no node 'Nova'"),
        (lambda t: t.merge({"X": ["SN", "SNIa"]}), "node SNIa: is below another member of X"),
        (lambda t: t.merge({"TDE": ["SNIa", "SNII"]}), "node TDE: the name is taken"),
        (lambda t: t.merge({"X": []}), "node X: give a list"),
        (lambda t: t.merge({"X": "SN"}), "node X: give a list"),
        (lambda t: t.merge({"X": ["Alert"]}), "node Alert: the root cannot be merged"),
        (lambda t: t.relabel({"Nova": "N"}), "no node 'Nova'"),
        (lambda t: t.relabel({"SN": "Fast"}), "node Fast occurs 2 times"),
        (lambda t: t.relabel({"SN": {"weight": 1}}), "node SN: unknown entry weight"),
        (lambda t: t.relabel({"KN": {"models": ["TDE"]}}), "model TDE: mapped to KN and to TDE"),
    ],
)
def test_changes_that_cannot_be(change, message):
    with pytest.raises(ValueError) as caught:
        change(Taxonomy.from_yaml("elasticc2"))
    assert message in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "edges, message",
    [
        ([("A", "B"), ("C", "D")], "one root, this one has 2: A, C"),
        ([("A", "B"), ("B", "A")], "one root, this one has 0"),
        ([("R", "S"), ("A", "B"), ("B", "A")], "A, B: not below the root R"),
        ([("A", "B"), ("A", "C"), ("C", "B")], "node B occurs 2 times, below A, C"),
        ([], "one root, this one has 0"),
    ],
)
def test_bad_edges(edges, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        Taxonomy.from_edges(edges)


# --- what is wrong is named ---

GOOD = [{"name": "A", "parent": None}, {"name": "B", "parent": "A"}, {"name": "C", "parent": "A", "models": ["M"]}]


@pytest.mark.parametrize(
    "change, message",
    [
        ([*GOOD, {"name": "D", "parent": None}], "one root, this one has 2: A, D"),
        ([{"name": "A", "parent": "B"}, {"name": "B", "parent": "A"}], "one root, this one has 0"),
        ([*GOOD, {"name": "B", "parent": "C"}], "node B occurs 2 times, below A, C: one parent each"),
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
    with pytest.raises(FileNotFoundError, match=r"desc, elasticc2, flat, plasticc"):
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


@settings(deadline=None, max_examples=15)
@given(trees(max_nodes=30), st.booleans())
def test_blocks_of_an_icicle_fill_their_parents(state, weighted):
    taxonomy = Taxonomy.from_dict(state)
    rng = np.random.default_rng(0)
    p = rng.dirichlet(np.ones(len(taxonomy.leaves))) @ taxonomy.paths[taxonomy.leaf_nodes] if weighted else None
    edges = block_edges(taxonomy, p)
    height = edges[:, 1] - edges[:, 0]
    for parent in set(taxonomy.parents[1:]):
        children = np.flatnonzero(taxonomy.parents == parent)
        assert height[children].sum() == pytest.approx(height[parent])
        assert np.allclose(edges[children, 0], [edges[parent, 0], *edges[children[:-1], 1]]), "one after the other"
    axes = taxonomy.icicle(Figure().subplots(), p)
    assert len(axes.patches) == len(taxonomy.nodes)


@settings(deadline=None, max_examples=15)
@given(trees(max_nodes=30))
def test_html_names_every_node_once(state):
    taxonomy = Taxonomy.from_dict(state)
    page = taxonomy._repr_html_()
    for name in taxonomy.nodes:
        assert len(re.findall(rf"> {name} <", page)) == 1
    assert page.count("<details") == page.count("</details>") == len(taxonomy.nodes) - len(taxonomy.leaves)
