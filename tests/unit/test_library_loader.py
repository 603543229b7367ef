"""The library's loader and what lies below it, with data and models as people have them."""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from subset_selection import Pool, SubsetLoader, SubsetSampler, create, embed
from subset_selection.items import Fields

EXAMPLES, WIDTH, CLASSES = 60, 5, 3


def tensors(examples: int = EXAMPLES, seed: int = 0) -> TensorDataset:
    draw = torch.Generator().manual_seed(seed)
    labels = torch.arange(examples) % CLASSES
    return TensorDataset(torch.randn(examples, WIDTH, generator=draw) + labels[:, None], labels)


class Rows:
    """A map-style data set of dicts."""

    def __init__(self, *names: str, **more: Any) -> None:
        self.names, self.more, self.whole = names, more, tensors()

    def __len__(self) -> int:
        return len(self.whole)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {**dict(zip(self.names, self.whole[index], strict=True)), **self.more}


def network(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    hidden = (nn.Linear(WIDTH, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.5))
    return nn.Sequential(*hidden, nn.Linear(8, CLASSES))


def plain(model: nn.Sequential, dataset: Any) -> Pool:
    """What `embed` is to give, written out."""
    inputs, labels = dataset.tensors
    model.eval()
    with torch.no_grad():
        features = model[:-1](inputs)
        return Pool(labels, model[-1](features), features)


def same(one: Pool, other: Pool) -> bool:
    assert one.logits is not None and one.features is not None
    assert other.logits is not None and other.features is not None
    return (
        torch.equal(one.labels, other.labels)
        and torch.equal(one.logits, other.logits)
        and torch.equal(one.features, other.features)
    )


# Data


def test_pairs_and_dicts_give_the_same_pool() -> None:
    model = network()
    expected = plain(model, tensors())
    assert same(embed(model, DataLoader(tensors(), batch_size=64)), expected)
    for names in (("x", "label"), ("image", "target"), ("anything", "labels")):
        assert same(embed(model, DataLoader(Rows(*names), batch_size=64)), expected)  # type: ignore[arg-type]
    rows: Any = Rows("measured", "grade", label=7, note="text")
    named = embed(model, DataLoader(rows, batch_size=64), inputs="measured", label="grade")
    assert same(named, expected)


@pytest.mark.parametrize(
    ("batch", "sentence"),
    [
        (
            {"x": 1, "label": 0, "target": 0},
            "which .*'label', 'target'.* may be the label: name it with label=",
        ),
        ({"x": 1, "grade": 0}, "none may be the label"),
        ({"a": 1, "b": 2, "label": torch.tensor([0])}, "none may be the input: name it with inputs="),
        ((1, 2, 3), "a tuple of 3 fields: expected"),
        (torch.zeros(3), "an item is a Tensor"),
        ((1, torch.tensor([0.5])), "expected one class index for each"),
        ((1, torch.zeros(2, 3, dtype=torch.int64)), "of shape .2, 3.: expected one class index"),
    ],
)
def test_what_could_be_two_things_is_refused(batch: Any, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        Fields().split(batch)


def test_a_field_that_is_not_there_is_named() -> None:
    with pytest.raises(ValueError, match=r"no field 'grade': it has \['x', 'label'\]"):
        Fields(label="grade").split({"x": 1, "label": torch.tensor([0])})
    with pytest.raises(ValueError, match="no field 5: it has 3 positions"):
        Fields(0, 5).split((1, 2, 3))


def test_labels_beyond_the_model_s_outputs_are_refused() -> None:
    dataset = TensorDataset(torch.zeros(4, WIDTH), torch.tensor([0, 1, 2, 3]))
    with pytest.raises(ValueError, match="labels reach from 0 to 3: expected classes from 0 to 2"):
        embed(network(), DataLoader(dataset, batch_size=4))


def test_a_loader_that_shuffles_or_drops_is_refused() -> None:
    with pytest.raises(ValueError, match="the loader shuffles"):
        embed(network(), DataLoader(tensors(), shuffle=True))
    with pytest.raises(ValueError, match="yields 42 examples: expected all 60"):
        embed(network(), DataLoader(tensors(), batch_size=42, drop_last=True))


# Models


class Wrapped(nn.Module):
    """Its layers are registered in another order than they are called in."""

    def __init__(self, form: str) -> None:
        super().__init__()
        body = network()
        self.last, self.body, self.form = body[-1], body[:-1], form

    def forward(self, inputs: Tensor) -> Any:
        logits = self.last(self.body(inputs))
        if self.form == "dict":
            return {"logits": logits, "loss": None}
        if self.form == "tuple":
            return (logits.mean(), logits)
        if self.form == "scaled":
            return 3 * logits
        return {"log": F.log_softmax, "soft": F.softmax}[self.form](logits, dim=1)


@pytest.mark.parametrize("form", ["dict", "tuple", "log", "soft"])
def test_the_last_layer_is_the_one_that_makes_the_output(form: str) -> None:
    assert same(embed(Wrapped(form), DataLoader(tensors(), batch_size=64)), plain(network(), tensors()))


def test_a_head_is_named_or_given_or_outputs_are() -> None:
    model, loader, expected = (
        Wrapped("scaled"),
        DataLoader(tensors(), batch_size=64),
        plain(network(), tensors()),
    )
    with pytest.raises(ValueError, match="the output of Wrapped is not that of a linear layer"):
        embed(model, loader)
    assert same(embed(model, loader, head="last"), expected)
    assert same(embed(model, loader, head=model.last), expected)

    def outputs(network: nn.Module, inputs: Tensor) -> tuple[Tensor, Tensor]:
        features = model.body(inputs)
        return model.last(features), features

    assert same(embed(model, loader, outputs=outputs), expected)
    with pytest.raises(ValueError, match=r"head='fc': expected a linear layer .*, one of last, body.0"):
        embed(model, loader, head="fc")
    with pytest.raises(ValueError, match="give one of them"):
        embed(model, loader, head="last", outputs=outputs)


def test_what_a_selection_touches_is_as_before() -> None:
    model = network()
    model.train()
    model[1].eval()  # a frozen batch normalisation in a model in training
    before = [module.training for module in model.modules()]
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()  # type: ignore[index]
    buffers = [buffer.clone() for buffer in model.buffers()]

    class Drawing(nn.Module):
        def forward(self, inputs: Tensor) -> Tensor:
            random.random()
            np.random.random()
            return inputs + 0 * torch.randn(1)

    drawing = nn.Sequential(Drawing(), model)
    loader = SubsetLoader(tensors(), drawing, strategy="herding", fraction=0.2, batch_size=4, num_workers=0)
    loader.subsets.begin()
    assert [module.training for module in model.modules()] == before
    assert torch.equal(torch.get_rng_state(), states[0]) and random.getstate() == states[1]
    assert np.array_equal(np.random.get_state()[1], states[2])  # type: ignore[index]
    assert all(torch.equal(now, then) for now, then in zip(model.buffers(), buffers, strict=True))
    assert not any(module._forward_hooks for module in drawing.modules())


def test_autocast_is_respected() -> None:
    model = network()
    exact = embed(model, DataLoader(tensors(), batch_size=64)).logits
    given = embed(model, DataLoader(tensors(), batch_size=64), autocast=torch.bfloat16).logits
    with torch.autocast("cpu", torch.bfloat16):
        active = embed(model, DataLoader(tensors(), batch_size=64)).logits
    assert exact is not None and given is not None and active is not None
    assert torch.equal(given, active) and not torch.equal(given, exact)


def test_a_hugging_face_model_and_its_rows() -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.BertConfig(
        vocab_size=50,
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=8,
        num_labels=3,
    )
    torch.manual_seed(0)
    model = transformers.BertForSequenceClassification(config)

    class Texts:
        def __len__(self) -> int:
            return 40

        def __getitem__(self, index: int) -> dict[str, Any]:
            length = 4 + index % 3
            ids = torch.full((8,), 0)
            ids[:length] = 1 + torch.arange(length) + index
            return {"input_ids": ids, "attention_mask": (ids > 0).long(), "labels": index % 3}

    texts: Any = Texts()
    pool = embed(model, DataLoader(texts, batch_size=16))
    rows = [texts[index] for index in range(40)]
    model.eval()
    with torch.no_grad():
        expected = model(
            **{name: torch.stack([row[name] for row in rows]) for name in ("input_ids", "attention_mask")}
        )
    assert pool.logits is not None and pool.features is not None
    torch.testing.assert_close(pool.logits, expected.logits)
    torch.testing.assert_close(model.classifier(pool.features), expected.logits)
    loader = SubsetLoader(texts, model, strategy="craig", fraction=0.25, batch_size=5)
    (first, second) = list(loader)
    assert set(first) == {"input_ids", "attention_mask", "labels", "weights"}
    assert len(first["weights"]) == len(second["input_ids"]) == 5


# The loader


def read(loader: SubsetLoader) -> Iterator[list[list[float]]]:
    for inputs, labels, weights in loader:
        loader.observe(inputs.sum(1).abs())
        yield [inputs[:, 0].tolist(), labels.tolist(), weights.tolist()]


def made(strategy: str, **options: Any) -> SubsetLoader:
    fraction = {} if strategy == "infobatch" else {"fraction": 0.5}
    settings: dict[str, Any] = {"strategy": strategy, "batch_size": 8, "select_every": 2, "epochs": 6}
    settings |= {"validation": tensors(12, 1), "held_out": network(1)} | fraction | options
    return SubsetLoader(tensors(), network(), **settings)


def test_it_is_a_data_loader_with_workers_that_stay() -> None:
    alone, several = made("rs2"), made("rs2", num_workers=2, persistent_workers=True, prefetch_factor=2)
    assert isinstance(several, DataLoader)
    for _ in range(3):
        batches = list(read(several))
        assert batches == list(read(alone))
        assert len(batches) == len(several) == 4
        assert {len(weights) for _, _, weights in batches} == {7, 8}


def test_batches_may_all_have_the_batch_size() -> None:
    loader = made("rs2", drop_last=True)
    assert [len(weights) for _, _, weights in read(loader)] == [8, 8, 8] and len(loader) == 3


def test_a_batch_is_what_the_collate_fn_makes_with_the_weights() -> None:
    loader = made("rs2", collate_fn=lambda items: {"x": torch.stack([item[0] for item in items])})
    batch = next(iter(loader))
    assert set(batch) == {"x", "weights"} and len(batch["x"]) == len(batch["weights"])
    with pytest.raises(ValueError, match="a field 'weights'"):
        next(iter(made("rs2", collate_fn=lambda items: {"weights": torch.zeros(len(items))})))


@pytest.mark.parametrize(
    "strategy", ["rs2", "glister", "gradmatch", "el2n", "infobatch", "loss-filter", "rho-loss"]
)
def test_a_run_that_is_stopped_anywhere_goes_on_with_the_same_batches(strategy: str, tmp_path: Path) -> None:
    whole = made(strategy)
    expected = [batch for _ in range(6) for batch in read(whole)]
    for stop in range(0, len(expected) + 1, 3):
        first, seen = made(strategy), list[Any]()
        while len(seen) < stop:
            for batch in read(first):
                seen.append(batch)
                if len(seen) == stop:
                    break
        torch.save(first.state_dict(), tmp_path / "state.pt")
        again = made(strategy)
        again.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
        while again.epoch < 6:
            seen += list(read(again))
        assert seen == expected


def test_a_state_of_other_options_is_refused() -> None:
    state = made("rs2").state_dict()
    with pytest.raises(ValueError, match="another run, with strategy='rs2', seed=0"):
        made("random", seed=1).load_state_dict(state)
    begun = made("rs2")
    next(iter(begun))
    with pytest.raises(ValueError, match="an epoch of 4 steps, which has 8 here"):
        made("rs2", batch_size=4).load_state_dict(begun.state_dict())


def test_the_last_selection_is_told() -> None:
    loader = made("glister")
    told = []
    for _ in range(4):
        told.append(loader.last_selection)
        list(loader)
    told.append(loader.last_selection)
    assert told[0] is None and loader.epoch == 4
    assert [selection.epoch for selection in told if selection] == [1, 1, 3, 3]
    assert all(selection.seconds > 0 for selection in told if selection)
    assert all(len(selection.subset.indices) == 30 for selection in told if selection)


def test_more_epochs_than_were_planned_are_refused() -> None:
    loader = made("rs2", epochs=1)
    list(loader)
    with pytest.raises(RuntimeError, match="the 1 epochs of this run are over"):
        next(iter(loader))


def test_what_was_observed_is_what_it_was_then_and_the_latest_counts() -> None:
    loader = made("infobatch")
    next(iter(loader))
    losses = torch.arange(8.0)
    loader.observe(losses)
    losses.mul_(losses).add_(float("nan"))  # what the loop makes of them later is its own
    first = loader.state_dict()["subsets"]["observed"]
    assert sorted(first[~first.isnan()].tolist()) == list(range(8))
    loader.observe(torch.full((8,), 2.0))
    again = loader.state_dict()["subsets"]["observed"]
    assert again[~again.isnan()].tolist() == [2.0] * 8


def test_infobatch_without_losses_says_what_it_needs() -> None:
    loader = made("infobatch")
    list(loader)
    with pytest.raises(RuntimeError, match=r"epoch 1 gave none: call observe\(losses\) after each batch"):
        next(iter(loader))
    again = made("infobatch")
    next(iter(again))
    with pytest.raises(ValueError, match=r"the shape \(\): expected one for each of 8 examples"):
        again.observe(torch.tensor(1.0))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"strategy": "glistr"}, "strategy='glistr': expected one of full, random"),
        ({"strategy": "validation-only"}, "give them as the data set, with strategy='rs2'"),
        ({"strategy": "glister", "validation": None}, "give them with validation="),
        ({"strategy": "glister", "etas": 0.1}, "etas: no such option"),
        ({"strategy": "herding", "eta": 0.1}, "eta=0.1: herding has no such knob"),
        ({"strategy": "glister", "greedy": "lazy"}, "greedy='lazy': glister expects one of 'auto'"),
        ({"strategy": "glister", "eta": -1}, "eta=-1: glister expects a number above 0"),
        ({"strategy": "rs2", "fraction": 1.5}, "fraction=1.5: expected a number above 0 and at most 1"),
        ({"strategy": "rs2", "fraction": 0.001}, "fraction=0.001 of 60 examples: expected at least one"),
        ({"strategy": "rs2", "epochs": None, "warm_fraction": 0.5}, "give its length with epochs="),
        ({"strategy": "rs2", "mislabelled": "yes"}, "mislabelled='yes': expected 'keep' or 'drop'"),
        ({"strategy": "infobatch", "mislabelled": "drop"}, "does not work with strategy='infobatch'"),
        ({"strategy": "rho-loss", "held_out": None}, "give it with held_out="),
        ({"strategy": "rs2", "batch_size": 0}, "batch_size=0: expected a whole number"),
        ({"strategy": "rs2", "selection_set": tensors(59)}, "selection_set has 59 items"),
        ({"strategy": "rs2", "labels": [0, 1]}, "labels has 2 entries for 60"),
    ],
)
def test_options_that_are_not_understood_are_refused(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        made(**options)


def test_a_strategy_that_evaluates_needs_a_model_and_a_blind_one_none() -> None:
    with pytest.raises(
        ValueError, match="strategy='herding' evaluates the model: give it as the second argument"
    ):
        SubsetLoader(tensors(), strategy="herding")
    assert len(list(SubsetLoader(tensors(), strategy="rs2", fraction=0.2))) == 12


def test_a_selection_reads_what_is_not_augmented() -> None:
    augmented = TensorDataset(100 + torch.zeros(EXAMPLES, WIDTH), tensors().tensors[1])
    loader = SubsetLoader(augmented, network(), strategy="k-centre", selection_set=tensors(), batch_size=60)
    clean = SubsetLoader(tensors(), network(), strategy="k-centre", batch_size=60)
    ((inputs, labels, _),) = loader
    ((_, expected, _),) = clean
    assert torch.equal(labels, expected) and float(inputs.min()) == 100


def test_balance_reads_the_labels_once_or_is_given_them() -> None:
    dataset = TensorDataset(torch.zeros(60, WIDTH), (torch.arange(60) >= 50).long())
    for labels in (None, dataset.tensors[1].tolist()):
        loader = SubsetLoader(
            dataset, strategy="random", balance="class", fraction=0.2, batch_size=60, labels=labels
        )
        ((_, given, _),) = loader
        assert given.bincount().tolist() == [6, 6]


# Losses, and where an epoch begins and ends


def test_the_mean_is_the_loss_to_train_on_and_is_observed() -> None:
    """As with `observe` and the weights written out, whose sums differ between batches."""
    told, written = made("infobatch"), made("infobatch")
    totals = set[float]()
    for _ in range(4):
        for (inputs, _, weights), (same_inputs, _, _) in zip(written, told, strict=True):
            totals.add(float(weights.sum()))
            losses = inputs.sum(1).abs()
            written.observe(losses)
            assert torch.equal(inputs, same_inputs)
            assert torch.equal(told.mean(losses), torch.dot(losses, weights / weights.sum()))
    assert len(totals) > 3
    with pytest.raises(ValueError, match=r"the shape \(\): expected one for each"):
        next(iter(told))
        told.mean(torch.tensor(1.0))


def test_a_batch_without_weight_has_the_loss_0_and_no_gradient() -> None:
    loader = made("rs2")
    next(iter(loader))
    assert loader._current is not None
    loader._current[2].zero_()
    losses = torch.rand(8, requires_grad=True)
    loader.mean(losses).backward()
    assert losses.grad is not None and torch.equal(losses.grad, torch.zeros(8))


def test_losses_that_are_not_numbers_count_as_infinite_and_not_as_missing() -> None:
    loader = made("infobatch")
    for _ in range(2):
        for _, _, weights in loader:
            loader.observe(torch.full((len(weights),), torch.nan))
    assert len(loader) == 8  # nothing is left out for such a loss


def test_losses_that_are_given_for_some_batches_alone_are_said(caplog: pytest.LogCaptureFixture) -> None:
    loader = made("infobatch")
    for _ in range(3):
        for step, (inputs, _, _) in enumerate(loader):
            if step == 0:
                loader.observe(inputs.sum(1).abs())
    said = [record.getMessage() for record in caplog.records]
    assert said == [
        "strategy 'infobatch' chooses by the losses: epoch 1 gave those of 8 of the 60 examples that it trained on; "
        "of the others an earlier loss counts, or none"
    ]


def test_batches_that_are_fetched_ahead_are_refused_or_told_by_their_indices() -> None:
    def ahead(loader: SubsetLoader) -> Iterator[Any]:
        batches = iter(loader)
        now = next(batches)
        for coming in batches:
            yield now
            now = coming
        yield now

    loader = made("infobatch", batch_size=10)
    with pytest.raises(
        RuntimeError, match=r"make the loader with indices=True and give a batch's to observe"
    ):
        for inputs, _, _ in ahead(loader):
            loader.observe(inputs.sum(1).abs())
    fetched, plainly = made("infobatch", indices=True), made("infobatch", indices=True)
    dicts = made(
        "rs2", indices=True, collate_fn=lambda items: {"x": torch.stack([item[0] for item in items])}
    )
    assert set(next(iter(dicts))) == {"x", "weights", "indices"}
    for _ in range(4):
        seen, others = list[Any](), list[Any]()
        for inputs, _, _, indices in ahead(fetched):
            fetched.observe(inputs.sum(1).abs(), indices)
            seen.append(indices.tolist())
        for inputs, _, _, indices in plainly:
            plainly.observe(inputs.sum(1).abs())
            others.append(indices.tolist())
            assert torch.equal(tensors().tensors[0][indices], inputs)
        assert seen == others


def test_an_epoch_begins_with_its_first_batch_or_when_it_is_told_to() -> None:
    loader, expected = made("infobatch"), made("infobatch")
    for _ in range(4):
        iter(loader), iter(loader)  # which trainers do beforehand
        loader.begin()
        loader.begin()
        steps = len(loader)
        seen = list(read(loader))
        assert len(seen) == steps and seen == list(read(expected))
    assert loader.epoch == 4


class Augmented(TensorDataset):
    """Its items are noisy, by the generator of the worker that reads them."""

    def __getitem__(self, index: int) -> Any:
        inputs, label = super().__getitem__(index)
        return inputs + torch.randn(WIDTH), label


def test_a_model_s_own_randomness_is_not_drawn_from_by_reading() -> None:
    """Or dropout would be another one in an epoch that is resumed, whose reading begins once more."""
    before = torch.get_rng_state()
    for workers in (0, 2):
        list(SubsetLoader(tensors(), strategy="rs2", batch_size=8, num_workers=workers))
        assert torch.equal(torch.get_rng_state(), before)


def test_workers_are_seeded_by_seed_and_epoch() -> None:
    def epochs(seed: int, **options: Any) -> list[float]:
        dataset = Augmented(*tensors().tensors)
        loader = SubsetLoader(
            dataset, strategy="full", shuffle=False, seed=seed, batch_size=60, num_workers=1, **options
        )
        return [float(inputs.sum()) for _ in range(2) for inputs, _, _ in loader]

    first, second = epochs(0)
    assert first != second and epochs(0) == [first, second] and epochs(1)[0] != first
    own = torch.Generator().manual_seed(3)
    assert epochs(0, generator=own)[0] != first


def test_an_epoch_that_was_left_early_can_be_counted_as_complete() -> None:
    whole, resumed = made("rs2"), made("rs2")
    for loader in (whole, resumed):
        next(iter(loader))
        loader.end_epoch()
        assert loader.epoch == 1
    again = made("rs2")
    again.load_state_dict(resumed.state_dict())
    assert list(read(again)) == list(read(whole)) and again.epoch == 2


def test_a_training_whose_earlier_epochs_are_unknown_is_refused() -> None:
    loader = made("rs2")
    for epoch in range(2):
        loader.set_epoch(epoch)
        list(loader)
    state = loader.state_dict()
    loader = made("rs2")
    loader.set_epoch(2)
    with pytest.raises(RuntimeError, match=r"epoch 3 of the training begins, and the subsets are at epoch 1"):
        next(iter(loader))
    loader.load_state_dict(state)
    assert len(list(loader)) == 4


# The sampler, and knobs by name


def test_a_sampler_gives_the_loader_s_indices_and_every_example_s_weight() -> None:
    options: dict[str, Any] = {"strategy": "craig", "fraction": 0.2, "select_every": 2, "seed": 5}
    sampler = SubsetSampler(tensors(), network(), **options)
    loader = SubsetLoader(tensors(), network(), batch_size=60, **options)
    own = DataLoader(tensors(), batch_size=60, sampler=sampler)
    for _ in range(3):
        ((inputs, _),), ((same_inputs, _, weights),) = list(own), list(loader)
        assert torch.equal(inputs, same_inputs) and len(sampler) == 12
        assert sorted(sampler.weights[sampler.weights > 0].tolist()) == sorted(weights.tolist())
    assert sampler.epoch == 3
    with pytest.raises(ValueError, match="expected a SubsetLoader"):
        iter(SubsetSampler(tensors(), network(), strategy="loss-filter")).__next__()


def test_knobs_are_given_by_name() -> None:
    pool, guide = plain(network(), tensors()), plain(network(), tensors(12, 1))
    chosen = [
        create("glister", **knobs).select(pool, guide, 9, torch.Generator().manual_seed(0)).indices.tolist()
        for knobs in ({}, {"eta": 0.05}, {"eta": 3.0}, {"scope": "supervised"})
    ]
    assert chosen[0] == chosen[1] and chosen[0] != chosen[2] and chosen[0] != chosen[3]
    with pytest.raises(ValueError, match=r"etta=3\.0: glister has no such knob .*; did you mean 'eta'"):
        create("glister", etta=3.0)


def test_a_batch_of_one_is_a_batch_of_one() -> None:
    assert [len(weights) for _, _, weights in made("rs2", batch_size=1)] == [1] * 30
