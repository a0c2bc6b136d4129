"""The loss on any tree: exact against a plain loop, right gradients, finite at the extremes, probabilities that add up."""

import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from elasticc_hc.loss.loss import (
    FlatCrossEntropy,
    HierarchicalCrossEntropy,
    PhaseAwareCrossEntropy,
    UnweightedCrossEntropy,
    leaf_softmax_logits,
    log_conditionals,
    log_probabilities,
    node_counts,
    node_probabilities,
    path_weights,
)
from elasticc_hc.taxonomy.taxonomy import Taxonomy


def random_tree(n, deepest, rng):
    """A random tree of n nodes, none deeper than `deepest`."""
    parents, depths = [-1], [0]
    for _ in range(n - 1):
        parent = int(rng.choice(np.flatnonzero(np.array(depths) < deepest)))
        parents.append(parent)
        depths.append(depths[parent] + 1)
    nodes = [{"name": str(i), "parent": None if parent < 0 else str(parent)} for i, parent in enumerate(parents)]
    return Taxonomy.from_dict({"name": "random", "nodes": nodes})


@st.composite
def cases(draw, max_nodes=200):
    """A random tree (depth 1–6), logits of any size, true leaves, and a training set that need not have every class."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    taxonomy = random_tree(draw(st.integers(2, max_nodes)), draw(st.integers(1, 6)), rng)
    shape = draw(st.sampled_from([(1,), (5,), (2, 3)]))
    logits = rng.normal(0, draw(st.sampled_from([0.1, 1, 10, 100])), (*shape, len(taxonomy.nodes)))
    training = rng.choice(taxonomy.leaf_nodes, draw(st.integers(1, 500)))
    return taxonomy, torch.from_numpy(logits), torch.from_numpy(rng.choice(taxonomy.leaf_nodes, shape)), training


def by_the_formula(taxonomy, logits, leaf, counts=None, alpha=0.5, weight=None):
    """−Σ w_v exp(−α·depth) ln p(v | parent), one object and one node at a time, in Python's own numbers."""
    losses = []
    for x, node in zip(logits.reshape(-1, logits.shape[-1]).tolist(), leaf.ravel().tolist(), strict=True):
        loss = 0.0
        while taxonomy.parents[node] >= 0:
            siblings = [x[v] for v in np.flatnonzero(taxonomy.parents == taxonomy.parents[node])]
            log_p = x[node] - max(siblings) - np.log(sum(np.exp(s - max(siblings)) for s in siblings))
            w = 1.0 if counts is None else counts[0] / (len(counts) * max(counts[node], 1))
            loss -= w * np.exp(-alpha * taxonomy.depths[node]) * log_p
            node = taxonomy.parents[node]
        losses.append(loss)
    return np.average(losses, weights=None if weight is None else weight.ravel())


def quiet(taxonomy, counts, **options):
    """The loss in double precision, without the warning about classes that the training set lacks."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return HierarchicalCrossEntropy(taxonomy, counts, dtype=torch.float64, **options)


# --- the loss ---


@settings(deadline=None, max_examples=60)
@given(cases(), st.sampled_from([0.0, 0.5, 2.0]), st.booleans())
def test_loss_is_the_formula(case, alpha, weighted):
    taxonomy, logits, leaf, training = case
    counts = node_counts(training, taxonomy) if weighted else None
    loss = quiet(taxonomy, counts, alpha=alpha)(logits, leaf)
    assert float(loss) == pytest.approx(by_the_formula(taxonomy, logits, leaf, counts, alpha), rel=1e-12, abs=1e-12)


@settings(deadline=None, max_examples=30)
@given(cases())
def test_weights_of_answers_make_a_weighted_mean(case):
    taxonomy, logits, leaf, training = case
    counts = node_counts(training, taxonomy)
    weight = torch.rand(leaf.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 0.1
    loss = quiet(taxonomy, counts)(logits, leaf, weight)
    assert float(loss) == pytest.approx(by_the_formula(taxonomy, logits, leaf, counts, weight=weight), rel=1e-12, abs=1e-12)


@settings(deadline=None, max_examples=20)
@given(cases(max_nodes=30))
def test_gradients(case):
    taxonomy, logits, leaf, training = case
    loss, groups = quiet(taxonomy, node_counts(training, taxonomy)), torch.from_numpy(taxonomy.groups)
    logits = (logits / logits.abs().max()).requires_grad_()  # beyond, finite differences have nothing to measure
    assert torch.autograd.gradcheck(lambda x: loss(x, leaf), logits)
    assert torch.autograd.gradcheck(lambda x: log_conditionals(x, groups), logits)


def test_the_roots_own_term_is_zero():
    taxonomy = Taxonomy.from_yaml("elasticc2")
    weights = path_weights(taxonomy, node_counts(taxonomy.leaf_nodes, taxonomy))
    assert (weights[:, 0] == 0).all()
    logits = torch.randn(3, 26, generator=torch.Generator().manual_seed(0))
    moved = logits.clone()
    moved[:, 0] += 7
    leaf = torch.from_numpy(taxonomy.leaf_nodes[:3])
    assert HierarchicalCrossEntropy(taxonomy)(logits, leaf) == HierarchicalCrossEntropy(taxonomy)(moved, leaf)


# --- the other losses ---


def every_loss(taxonomy, counts, dtype=torch.float64):
    """One of each kind, without warnings."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return [
            HierarchicalCrossEntropy(taxonomy, counts, dtype=dtype),
            UnweightedCrossEntropy(taxonomy, dtype=dtype),
            FlatCrossEntropy(taxonomy, counts, dtype=dtype),
            PhaseAwareCrossEntropy(taxonomy, counts, dtype=dtype),
        ]


@settings(deadline=None, max_examples=30)
@given(cases(), st.sampled_from([0.0, 0.5]))
def test_unweighted_loss_is_the_formula_without_weights(case, alpha):
    taxonomy, logits, leaf, _ = case
    loss = UnweightedCrossEntropy(taxonomy, alpha, dtype=torch.float64)(logits, leaf)
    assert float(loss) == pytest.approx(by_the_formula(taxonomy, logits, leaf, alpha=alpha), rel=1e-12, abs=1e-12)


@settings(deadline=None, max_examples=30)
@given(cases(max_nodes=60))
def test_flat_loss_and_its_probabilities(case):
    taxonomy, logits, leaf, training = case
    counts = node_counts(training, taxonomy)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loss = float(FlatCrossEntropy(taxonomy, counts, dtype=torch.float64)(logits, leaf))
    expected = []
    for x, node in zip(logits.reshape(-1, logits.shape[-1]).numpy(), leaf.ravel().tolist(), strict=True):
        largest = x[taxonomy.leaf_nodes].max()
        surprise = largest + np.log(np.exp(x[taxonomy.leaf_nodes] - largest).sum()) - x[node]
        expected.append(counts[0] / (len(counts) * max(counts[node], 1)) * surprise)
    assert loss == pytest.approx(np.mean(expected), rel=1e-12, abs=1e-12)
    p = node_probabilities(leaf_softmax_logits(logits, taxonomy), taxonomy).numpy()
    leaves = logits[..., taxonomy.leaf_nodes].softmax(-1).numpy()
    assert p == pytest.approx(leaves @ taxonomy.paths[taxonomy.leaf_nodes], abs=1e-12)


@settings(deadline=None, max_examples=30)
@given(cases(max_nodes=60), st.sampled_from([0.1, 0.5, 1.0]))
def test_phase_aware_loss_is_the_formula_at_each_fraction(case, beta):
    taxonomy, logits, leaf, training = case
    counts = node_counts(training, taxonomy)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loss = PhaseAwareCrossEntropy(taxonomy, counts, 0.7, beta, dtype=torch.float64)
    fraction = torch.rand(leaf.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    parts = [
        by_the_formula(taxonomy, x[None], node[None], counts, 0.7 * beta ** float(f))
        for x, node, f in zip(logits.reshape(-1, logits.shape[-1]), leaf.ravel(), fraction.ravel(), strict=True)
    ]
    assert float(loss(logits, leaf, fraction=fraction)) == pytest.approx(np.mean(parts), rel=1e-12, abs=1e-12)


@settings(deadline=None, max_examples=10)
@given(cases(max_nodes=20))
def test_gradients_of_every_loss(case):
    taxonomy, logits, leaf, training = case
    logits = (logits / logits.abs().max()).requires_grad_()
    fraction = torch.full(leaf.shape, 0.3, dtype=torch.float64)
    for loss in every_loss(taxonomy, node_counts(training, taxonomy)):
        assert torch.autograd.gradcheck(lambda x, loss=loss: loss(x, leaf, fraction=fraction), logits)


@settings(deadline=None, max_examples=15)
@given(cases(max_nodes=60), st.sampled_from([torch.float32, torch.bfloat16]), st.integers(0, 2**32))
def test_every_loss_is_finite_for_extreme_logits(case, kind, seed):
    taxonomy, logits, leaf, training = case
    signs = torch.from_numpy(np.random.default_rng(seed).choice([-1e4, 0, 1e4], logits.shape))
    extreme = signs.to(kind).requires_grad_()
    fraction = torch.zeros(leaf.shape)
    for loss in every_loss(taxonomy, node_counts(training, taxonomy), torch.float32):
        extreme.grad = None
        value = loss(extreme, leaf, fraction=fraction)
        value.backward()
        assert torch.isfinite(value) and torch.isfinite(extreme.grad).all(), type(loss).__name__
    assert torch.isfinite(leaf_softmax_logits(extreme, taxonomy)).all()


@pytest.mark.parametrize("number", range(4))
def test_dense_supervision_of_ragged_curves(number):
    """The mean over objects of the mean over each object's detections; what stands in the padding is never looked at."""
    taxonomy, rng = Taxonomy.from_yaml("plasticc"), np.random.default_rng(number)
    counts = node_counts(rng.choice(taxonomy.leaf_nodes, 500), taxonomy)
    loss = every_loss(taxonomy, counts)[number]
    length = torch.from_numpy(rng.integers(1, 9, 5))
    detected = (torch.arange(9) < length[:, None]) & (torch.from_numpy(rng.random((5, 9)) < 0.7))
    detected[:, 0] = True
    logits = torch.from_numpy(rng.normal(size=(5, 9, len(taxonomy.nodes))))
    leaf = torch.from_numpy(rng.choice(taxonomy.leaf_nodes, 5))
    padded = torch.where(detected[..., None], logits, torch.nan).requires_grad_()
    value = loss.dense(padded, leaf, detected)
    parts = []
    for x, node, seen in zip(logits, leaf, detected, strict=True):
        n = int(seen.sum())
        parts.append(loss(x[seen], node.expand(n), fraction=torch.arange(1, n + 1, dtype=torch.float64) / n))
    assert value.item() == pytest.approx(torch.stack(parts).mean().item(), rel=1e-12)
    value.backward()
    assert torch.isfinite(padded.grad[detected]).all() and (padded.grad[~detected] == 0).all()


@settings(deadline=None, max_examples=12)
@given(st.integers(0, 2**32), st.integers(0, 3))
def test_training_on_any_tree_keeps_probabilities_whole(seed, number):
    """A linear classifier on a random tree of depth 1 to 6 and 2 to 200 nodes, a few steps with each loss."""
    rng = np.random.default_rng(seed)
    taxonomy = random_tree(int(rng.integers(2, 201)), int(rng.integers(1, 7)), rng)
    generator = torch.Generator().manual_seed(seed % 2**31)
    leaf = torch.from_numpy(rng.choice(taxonomy.leaf_nodes, 200))
    centre = torch.randn(len(taxonomy.nodes), 12, generator=generator)
    features = centre[leaf] + 0.3 * torch.randn(200, 12, generator=generator)
    linear = torch.nn.Linear(12, len(taxonomy.nodes))
    with torch.no_grad():
        linear.weight.normal_(0, 0.1, generator=generator)
        linear.bias.zero_()
    loss = every_loss(taxonomy, node_counts(leaf.numpy(), taxonomy), torch.float32)[number]
    optimizer, fraction = torch.optim.Adam(linear.parameters(), 0.05), torch.rand(200, generator=generator)
    values = []
    for _ in range(15):
        optimizer.zero_grad()
        value = loss(linear(features), leaf, fraction=fraction)
        value.backward()
        optimizer.step()
        values.append(value.item())
    assert np.isfinite(values).all() and (values[-1] < values[0] or len(taxonomy.leaves) == 1)
    answers = linear(features).detach()
    p = node_probabilities(leaf_softmax_logits(answers, taxonomy) if number == 2 else answers, taxonomy).numpy().astype(float)
    assert p[:, taxonomy.leaf_nodes].sum(-1) == pytest.approx(1, abs=1e-5), "leaves sum to one"
    assert (p[:, 1:] <= p[:, taxonomy.parents[1:]] + 1e-6).all(), "no child above its parent"
    for parent in set(taxonomy.parents[1:]):
        assert p[:, taxonomy.parents == parent].sum(-1) == pytest.approx(p[:, parent], abs=1e-5), "siblings sum to their parent"


@pytest.mark.parametrize("beta", [0, -1, 1.5])
def test_a_beta_that_cannot_be(beta):
    with pytest.raises(ValueError, match="beta"):
        PhaseAwareCrossEntropy(Taxonomy.from_yaml("plasticc"), beta=beta)


# --- extremes ---


@settings(deadline=None, max_examples=30)
@given(cases(), st.sampled_from([torch.float32, torch.bfloat16, torch.float16]), st.integers(0, 2**32))
def test_finite_for_extreme_logits(case, kind, seed):
    taxonomy, logits, leaf, training = case
    rng = np.random.default_rng(seed)
    logits = torch.from_numpy(rng.choice([-1e4, 0, 1e4], logits.shape)).to(kind).requires_grad_()
    loss = quiet(taxonomy, node_counts(training, taxonomy)).float()(logits, leaf)
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(logits.grad).all() and logits.grad.dtype == kind
    p = node_probabilities(logits.detach(), taxonomy)
    assert torch.isfinite(p).all() and torch.isfinite(log_probabilities(logits.detach(), taxonomy)).all()
    assert torch.allclose(p[..., taxonomy.leaf_nodes].sum(-1), torch.ones(leaf.shape), atol=1e-5)


def test_half_precision_is_summed_in_single():
    """Two hundred equal siblings: their probabilities add up to one, which eight bits of mantissa could not do."""
    flat = random_tree(201, 1, np.random.default_rng(0))
    p = node_probabilities(torch.zeros(1, 201, dtype=torch.bfloat16), flat)
    assert p.dtype == torch.float32 and abs(float(p[0, 1:].sum()) - 1) < 1e-5


@pytest.mark.parametrize("name", ["elasticc2", "plasticc"])
def test_a_class_absent_from_the_training_set(name):
    taxonomy = Taxonomy.from_yaml(name)
    training = np.setdiff1d(taxonomy.leaf_nodes, [taxonomy.index("KN")])
    counts = node_counts(np.repeat(training, 10), taxonomy)
    with pytest.warns(UserWarning, match="no training object for KN: weighted as if there were one"):
        weights = path_weights(taxonomy, counts)
    assert np.isfinite(weights).all() and (weights[taxonomy.paths & (taxonomy.depths > 0)] > 0).all()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        path_weights(taxonomy, node_counts(taxonomy.leaf_nodes, taxonomy))


@pytest.mark.parametrize("counts", [np.zeros(26, int), np.ones(25, int), np.ones((26, 2), int)])
def test_counts_that_do_not_fit(counts):
    with pytest.raises(ValueError, match="needs one per node"):
        HierarchicalCrossEntropy(Taxonomy.from_yaml("elasticc2"), counts)


# --- probabilities ---


@settings(deadline=None, max_examples=60)
@given(cases())
def test_probabilities_add_up(case):
    taxonomy, logits, _, _ = case
    p = node_probabilities(logits, taxonomy).numpy()
    assert (p[..., 0] == 1).all()
    assert p[..., taxonomy.leaf_nodes].sum(-1) == pytest.approx(1, abs=1e-12), "leaves sum to one"
    assert (p[..., 1:] <= p[..., taxonomy.parents[1:]] + 1e-15).all(), "no child above its parent"
    for parent in set(taxonomy.parents[1:]):
        children = p[..., taxonomy.parents == parent].sum(-1)
        assert children == pytest.approx(p[..., parent], abs=1e-12), "siblings sum to their parent"
    assert np.exp(log_probabilities(logits, taxonomy).numpy()) == pytest.approx(p, abs=1e-15)


@settings(deadline=None, max_examples=30)
@given(cases())
def test_conditionals_do_not_see_a_common_shift_of_siblings(case):
    taxonomy, logits, _, _ = case
    groups = torch.from_numpy(taxonomy.groups)
    shifts = torch.randn(int(groups.max()) + 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    moved = log_conditionals(logits + shifts[groups], groups)
    assert torch.allclose(moved, log_conditionals(logits, groups), atol=1e-11)


@settings(deadline=None, max_examples=30)
@given(cases())
def test_counts_of_a_node_are_those_below_it(case):
    taxonomy, _, _, training = case
    counts = node_counts(training, taxonomy)
    assert counts[0] == len(training)
    for i in range(len(taxonomy.nodes)):
        assert counts[i] == np.count_nonzero(taxonomy.paths[training, i])


# --- memory ---


def test_nothing_larger_than_the_logits_is_allocated():
    """Every tensor that the pass makes holds at most as many elements as the logits."""
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_leaves

    class Largest(TorchDispatchMode):
        seen = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            out = func(*args, **(kwargs or {}))
            self.seen = max([self.seen, *(x.numel() for x in tree_leaves(out) if isinstance(x, torch.Tensor))])
            return out

    rng = np.random.default_rng(0)
    taxonomy = random_tree(200, 6, rng)
    logits = torch.randn(1000, 200, requires_grad=True)
    loss, leaf = HierarchicalCrossEntropy(taxonomy), torch.from_numpy(rng.choice(taxonomy.leaf_nodes, 1000))
    with Largest() as largest:
        loss(logits, leaf).backward()
    assert largest.seen == logits.numel()
