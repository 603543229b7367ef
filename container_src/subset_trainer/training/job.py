"""The built-in trainer's job, from the contract to the artefacts, in the order in which it happens."""

import copy
import dataclasses
import hashlib
import json
import logging
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

import subset_selection
from subset_trainer import artifacts, models, pretrained
from subset_trainer.contract import SHARDED, Contract
from subset_trainer.data import Splits, load_splits
from subset_trainer.data.datasets import MOST_WORKERS
from subset_trainer.data.formats.format import ManifestOptions
from subset_trainer.data.hosts import Shards
from subset_trainer.data.machine import cpu_count, memory_available
from subset_trainer.errors import UserError
from subset_trainer.hyperparameters import (
    ENCODER_DEFAULTS,
    FROZEN_ENCODER_RATE,
    Hyperparameters,
)
from subset_trainer.insight import duplicates, explaining, explanations, findings
from subset_trainer.insight.explanations import Explanations
from subset_trainer.insight.page import Findings, page
from subset_trainer.models import Classifier
from subset_trainer.pretrained import encoders, image_models
from subset_trainer.pretrained.encoders import Encoder
from subset_trainer.pretrained.image_models import Pretrained
from subset_trainer.tracking import metrics
from subset_trainer.tracking.background import Outcome
from subset_trainer.tracking.trackers import Trackers
from subset_trainer.training import cleaning, devices, loop, out_of_memory, plan, synced_batch_norm
from subset_trainer.training.averaging import MovingAverage
from subset_trainer.training.checkpoints import Checkpoints
from subset_trainer.training.cleaning import Examination, Examined
from subset_trainer.training.devices import Machine
from subset_trainer.training.evaluation import Score, evaluate, judge
from subset_trainer.training.holdout import irreducible_losses
from subset_trainer.training.interruption import Terminated
from subset_trainer.training.loop import EpochReport
from subset_trainer.training.ranks import Ranks
from subset_trainer.training.record import Record
from subset_trainer.training.rounds import FilterSelector, NativeSelector, Selector, SoftPruningSelector

logger = logging.getLogger(__name__)
NOT_DECISIVE = (
    *("resume", "checkpoint_minutes", "checkpoints_kept", "num_workers"),
    *("report", "explain", "tensorboard", "mlflow_tracking_uri"),
    *("processes_per_host", "host_wait_minutes"),
)
"""Hyperparameters that a run may go on with others of."""
CHANNELS = ("training", "validation", "test")
LISTINGS = tuple(f"{name}_lst" for name in CHANNELS)
"""Where SageMaker's image classification has the `.lst` files of its channels of images."""


def run(contract: Contract, hp: Hyperparameters, ranks: Ranks) -> None:
    """Train, and write everything below the contract's model and output directories; of several processes the first
    one does.

    Returns normally also where SIGTERM ended the training, with what there was by then saved.

    Raises:
        TrainingError: with the sentence that the user shall read.
        Terminated: SIGTERM arrived before there was anything to save.
    """
    trackers = Trackers([])
    if ranks.first:
        trackers = Trackers.of_this_job(
            contract.tensorboard if hp.tensorboard else None, hp.mlflow_tracking_uri
        )
    outcome: Outcome = "failed"
    try:
        outcome = _run(contract, hp, ranks, trackers)
    except Terminated:
        outcome = "stopped"
        raise
    finally:
        trackers.close(outcome)


def _run(contract: Contract, hp: Hyperparameters, ranks: Ranks, trackers: Trackers) -> Outcome:
    start = time.perf_counter()
    _check_channels(contract)
    if "training" in contract.sharded and hp.microbatch_size is not None:
        raise UserError(
            f"hyperparameter microbatch_size={hp.microbatch_size} does not go with a sharded training channel "
            f"(S3DistributionType={SHARDED}), whose batches are normalised over all processes; expected none"
        )
    if hp.explain and (sharded := contract.sharded & {"training", "validation"}):
        raise UserError(
            f"hyperparameter explain={hp.explain} does not go with a sharded {max(sharded)} channel "
            f"(S3DistributionType={SHARDED}), of which no host has every example; expected 0, or FullyReplicated"
        )
    if ranks.first:
        artifacts.check_writable(contract.model, contract.output_data)
    models.check_name(hp.model)
    if ranks.size > 1 and hp.backend == "cords":
        raise UserError(f"backend='cords' runs in one process; expected one, and there are {ranks.size}")
    on_host = (ranks.local_rank, ranks.local_size)
    devices.find(hp.device, *on_host)  # a GPU that cannot be used is refused before the data is read
    torch.manual_seed(hp.seed)
    encoder = _encoder(contract, hp)

    hosts = tuple(ranks.everyones(contract.current_host))
    splits = load_splits(
        {name: path for name, path in contract.channels.items() if name in (*CHANNELS, *LISTINGS)},
        validation_fraction=hp.validation_fraction,
        seed=hp.seed,
        label_column=hp.label_column,
        csv_header=hp.csv_header,
        text_column=hp.text_column,
        tokens=encoder.tokens if encoder else None,
        manifest=ManifestOptions(
            hp.min_confidence,
            hp.confidence_weighting,
            hp.human_annotated_only,
            tuple(word.strip().lower() for word in (hp.verified_as or "").split(",") if word.strip()),
            hp.s3_images,
        ),
        image_size=hp.image_size,
        num_workers=hp.num_workers if hp.num_workers is not None else _workers(ranks),
        # Each process has a copy of its own.
        memory_limit=memory_available() // (2 * ranks.local_size),
        content_types=contract.content_types,
        shards=Shards(ranks.everyones, hosts, ranks.rank, contract.sharded) if contract.sharded else None,
    )
    _check_same_data(contract, splits, ranks)
    for note in splits.notes:
        logger.info("%s", note)
    weights = _pretrained(contract, hp, splits, encoder)
    model_name = models.resolve(hp.model, splits.preprocessing.kind, encoder is not None)
    if encoder:
        hp = _as_encoders_are_trained(hp)
    if weights and (expected := image_models.normalisation(weights, model_name)):
        mean, std = expected
        splits = dataclasses.replace(
            splits, preprocessing=dataclasses.replace(splits.preprocessing, mean=mean, std=std)
        )
    preprocessing = splits.preprocessing
    images = preprocessing.kind == "image"
    classifier = models.build(
        model_name,
        preprocessing.input_shape,
        len(preprocessing.classes),
        preprocessing.mean or None,
        preprocessing.std or None,
        preprocessing.hashing.buckets if preprocessing.hashing else None,
        # Of images an mlp sees other parts in each epoch anyway (augmentation).
        0.0 if images else hp.dropout,
        encoder.body if encoder else None,
    )
    if weights:
        logger.info("%s", image_models.load(classifier, weights, model_name, preprocessing.classes))
    if encoder:
        logger.info("%s", encoders.load_head(classifier, encoder, preprocessing.classes))
    if hp.fine_tune == "head":
        classifier.freeze_backbone()
    machine = devices.prepare(hp.device, hp.precision, classifier.has_large_layers, *on_host)
    if hp.deterministic:
        devices.be_deterministic()
    logger.info("training on %s", machine.describe())
    if splits.train.owners is not None and not hp.sync_batch_norm:
        logger.info(
            "sync_batch_norm: on, because the hosts have different examples, perhaps of different classes"
        )
    if ranks.size > 1 and (hp.sync_batch_norm or splits.train.owners is not None):
        synced_batch_norm.convert(classifier, machine.device.type == "cuda")
    classifier.place(machine.device, machine.memory_format(preprocessing.input_shape))
    average = MovingAverage(classifier, hp.ema_decay) if hp.ema_decay else None
    trained = average.module if average else classifier
    effective = plan.scaled_learning_rate(hp.learning_rate, ranks.size, hp.learning_rate_scaling)
    scaled = hp.model_copy(update={"learning_rate": effective})
    loading_seconds = time.perf_counter() - start
    given = weights or encoder
    begun = f"{model_name} from …{given.digest}" if given else model_name
    examined = _examine(contract, splits, classifier, machine, scaled, begun, ranks)
    kept = examined.kept
    if len(kept) < len(splits.train):
        splits = splits.keeping(kept)
    cleaning_seconds = time.perf_counter() - start - loading_seconds
    # Of what was given: runs that leave something out make as many visits as those that do not.
    budget = min(len(kept), _budget(hp, len(examined.labels)))
    selector = _selector(classifier, splits, machine, scaled, budget, ranks)
    _announce(hp, splits, budget, model_name)
    if ranks.size > 1:
        logger.info(
            "%d processes on %d host%s: effective batch %d × %d = %d examples, learning rate %g (%s scaling of %g)",
            ranks.size,
            len(contract.hosts),
            "s" * (len(contract.hosts) > 1),
            ranks.size,
            hp.batch_size,
            ranks.size * hp.batch_size,
            effective,
            hp.learning_rate_scaling,
            hp.learning_rate,
        )
    trackers.parameters(
        {
            **hp.model_dump(),
            "model": model_name,
            "budget": budget,
            "processes": ranks.size,
            "effective_batch_size": ranks.size * hp.batch_size,
            "effective_learning_rate": effective,
        }
    )
    reports: list[EpochReport] = []
    history: list[dict[str, Any]] = []

    def report(epoch: EpochReport) -> None:
        reports.append(epoch)
        history.append(_history_row(epoch))
        if not ranks.first:
            return
        if epoch.subset is not None:
            artifacts.save_subset(contract.output_data / "subsets", epoch.epoch.number, epoch.subset)
            if checkpoints:
                checkpoints.keep_subset(epoch.epoch.number, epoch.subset)
        artifacts.save_history(contract.output_data / "history.jsonl", history)
        print(metrics.line(epoch.epoch.number, history[-1]), flush=True)
        known = {name: history[-1][name] for name in metrics.FORMATS if name in history[-1]}
        trackers.metrics(epoch.epoch.number, known)

    def restore(done: list[EpochReport]) -> None:
        """What an earlier machine had reported: its folders of results are not here."""
        reports.extend(done)
        history.extend(_history_row(epoch) for epoch in done)
        if not ranks.first:
            return
        if checkpoints:
            artifacts.copy_subsets(checkpoints.subsets, contract.output_data / "subsets", len(done))
        artifacts.save_history(contract.output_data / "history.jsonl", history)

    checkpoints = _checkpoints(contract, hp, splits, begun, ranks.size) if ranks.first else None
    test: Score | None = None
    test_seconds = explanation_seconds = report_seconds = 0.0
    record = Record(len(splits.train))
    status: Outcome = "completed"
    try:
        loop.train(
            classifier,
            splits.train,
            splits.validation,
            selector,
            budget,
            scaled,
            machine,
            images,
            ranks,
            report,
            average,
            checkpoints,
            restore,
            splits.train_weights,
            record,
        )
    except Terminated:
        status = "stopped"
        logger.info("SIGTERM received after %d whole epochs: saving what there is", len(reports))
    except (RuntimeError, MemoryError) as error:
        out_of_memory.explain(error, hp.batch_size)
    ranks.same_buffers(trained)
    if ranks.first:
        with ranks.interruption.deferred():
            artifacts.save_model(contract.model, trained, model_name, preprocessing, hp.model_dump())
    if splits.test is not None and status == "completed":
        test_start = time.perf_counter()
        try:
            test = evaluate(trained, splits.test, machine, ranks, hp.test_time_flip and images)
        except Terminated:
            status = "stopped"
            logger.info("SIGTERM received while testing: the model is saved, and a run that goes on tests it")
        test_seconds = time.perf_counter() - test_start
    explained: Explanations | None = None
    if hp.explain and status == "completed":
        explanation_start = time.perf_counter()
        try:
            explained = _explain(contract, splits, trained, machine, ranks, hp)
        except Terminated:
            status = "stopped"
            logger.info("SIGTERM received: the model is saved, and a run that goes on explains its errors")
        explanation_seconds = time.perf_counter() - explanation_start
    if hp.report and status == "completed":
        report_start = time.perf_counter()
        try:
            facts = {
                "strategy": hp.strategy,
                "budget": f"{budget:,} of {len(splits.train):,} examples an epoch",
                "left out before": ", ".join(f"{count:,} {why}" for why, count in examined.counts().items()),
                "model": model_name,
                "validation accuracy": f"{reports[-1].validation.accuracy:.2%}",
                "test accuracy": "–" if test is None else f"{test.accuracy:.2%}",
                **{name: str(value) for name, value in hp.model_dump(exclude_defaults=True).items()},
            }
            _report(contract, splits, examined, record, trained, machine, ranks, history, facts, explained)
        except Terminated:
            status = "stopped"
            logger.info("SIGTERM received: the model is saved, and a run that goes on writes the report")
        report_seconds = time.perf_counter() - report_start
    if not ranks.first:
        return status
    if test is not None:
        scores = {"test:loss": test.loss, "test:accuracy": test.accuracy}
        print(metrics.line(reports[-1].epoch.number, scores), flush=True)
        trackers.metrics(reports[-1].epoch.number, scores)
    seconds = {
        "loading": loading_seconds,
        "cleaning": cleaning_seconds,
        "training": sum(epoch.training_seconds for epoch in reports),
        "selection": sum(epoch.selection_seconds for epoch in reports),
        "evaluation": sum(epoch.evaluation_seconds for epoch in reports) + test_seconds,
        "explanation": explanation_seconds,
        "report": report_seconds,
        "total": time.perf_counter() - start,
    }
    summary = {
        "status": status,
        "strategy": hp.strategy,
        # What an epoch visited on average, where the strategy sets that by itself.
        "fraction": budget / (len(splits.train) if hp.spec.shape == "everything" else len(examined.labels))
        if hp.spec.shape != "own_size"
        else loop.totals(reports)["samples_visited"] / (len(splits.train) * max(1, len(reports))),
        "backend": hp.backend,
        "model": model_name,
        "epochs": len(reports),
        "seed": hp.seed,
        "budget": budget,
        "processes": ranks.size,
        "hosts": len(contract.hosts),
        "effective_batch_size": ranks.size * hp.batch_size,
        "effective_learning_rate": effective,
        "examples": {
            "training": len(splits.train),
            "validation": len(splits.validation),
            "test": None if splits.test is None else len(splits.test),
        },
        "removed": examined.counts(),
        "classes": list(preprocessing.classes),
        **loop.totals(reports),
        "test": None if test is None else {"loss": test.loss, "accuracy": test.accuracy},
        "seconds": seconds,
        "device": machine.describe(),
        "versions": _versions(),
        "hyperparameters": hp.model_dump(),
    }
    artifacts.write_json(contract.output_data / "summary.json", summary)
    logger.info(
        "%s: %.1f s training, %.1f s selecting, %.1f s evaluating,%s %.1f s in all; %d samples visited",
        status,
        seconds["training"],
        seconds["selection"],
        seconds["evaluation"],
        f" {explanation_seconds:.1f} s explaining," if hp.explain else "",
        seconds["total"],
        summary["samples_visited"],
    )
    return status


def _explain(
    contract: Contract,
    splits: Splits,
    trained: Classifier,
    machine: Machine,
    ranks: Ranks,
    hp: Hyperparameters,
) -> Explanations | None:
    """By the first process, for which the others wait. Raises Terminated on every process."""
    judged = judge(trained, splits.validation, machine, ranks)
    try:
        found = ranks.from_first(
            lambda: explaining.explain(trained, splits, judged, machine.device, hp.explain, hp.seed)
        )
    except UserError as error:
        # Images are streamed from the channel's files. The model is saved: no reason for the run to fail.
        logger.warning("there are no explanations: %s", error)
        return None
    if ranks.first:
        with ranks.interruption.deferred():
            artifacts.write_json(contract.output_data / explanations.FILE, explanations.to_json(found))
    return found


def _report(
    contract: Contract,
    splits: Splits,
    examined: Examined,
    record: Record,
    trained: Classifier,
    machine: Machine,
    ranks: Ranks,
    history: list[dict[str, Any]],
    facts: Mapping[str, str],
    explained: Explanations | None,
) -> None:
    """Raises Terminated on every process where SIGTERM has reached one of several."""
    splits.tell_names()
    judged = judge(trained, splits.train, machine, ranks, duplicates.fingerprint)
    validated = judge(trained, splits.validation, machine, ranks, keep_probabilities=True)

    def look() -> Findings:
        return findings.findings(
            splits, examined, record, judged, validated, history, facts, machine.device, explained
        )

    try:
        found = _shown_by_all(look, splits, ranks) if splits.train.owners is not None else None
        if not ranks.first:
            return
        with ranks.interruption.abandonable():
            found = found or look()
            html = page(found)
        with ranks.interruption.deferred():
            artifacts.save_examples(
                contract.output_data / "examples.parquet", findings.columns(found, examined, record)
            )
            artifacts.write_text(contract.output_data / "report.html", html)
    except UserError as error:
        # Names are read from the channel's files again. The model is saved: no reason for the run to fail.
        logger.warning("there is no report: %s", error)


def _shown_by_all(look: Callable[[], Findings], splits: Splits, ranks: Ranks) -> Findings | None:
    """Of a sharded channel, what the first process finds, with examples that whoever has them shows; None: not first.

    Raises:
        UserError: on all, where names cannot be read.
    """
    found: Findings | None = None

    def asked() -> list[int]:
        nonlocal found
        found = look()
        rows: list[int] = []

        def note(wanted: Sequence[int]) -> list[str]:
            rows.extend(wanted)
            return [""] * len(wanted)

        page(dataclasses.replace(found, show=note))
        return rows

    assert splits.train.owners is not None
    rows = ranks.from_first(asked)
    own = [row for row in rows if splits.train.owners[row] == ranks.rank]
    mine: dict[int, str] | UserError
    try:
        mine = dict(
            zip(own, findings.show(splits.train, own, splits.preprocessing, splits.train_texts), strict=True)
        )
    except UserError as error:  # of a file that is gone
        mine = error
    cards: dict[int, str] = {}
    for part in ranks.everyones(mine):
        if isinstance(part, UserError):
            raise part
        cards |= part
    return found and dataclasses.replace(found, show=lambda wanted: [cards[row] for row in wanted])


def _encoder(contract: Contract, hp: Hyperparameters) -> Encoder | None:
    """Before the data is read, which becomes its tokens."""
    if pretrained.CHANNEL in contract.channels:
        return encoders.read(contract.channels[pretrained.CHANNEL], hp.max_tokens)
    for name, value in (("fine_tune", "head"), ("model", "encoder")):
        if getattr(hp, name) == value:
            raise UserError(f"{name}={value!r} needs the channel {pretrained.CHANNEL!r}, which is not given")
    return None


def _pretrained(
    contract: Contract, hp: Hyperparameters, splits: Splits, encoder: Encoder | None
) -> Pretrained | None:
    """An image model's weights; UserError where what is given does not go with the data."""
    if pretrained.CHANNEL not in contract.channels:
        return None
    kind = splits.preprocessing.kind
    if encoder:
        if kind != "text":
            raise UserError(
                f"channel {pretrained.CHANNEL!r}: {encoder.place} is an encoder of texts, and the training channel "
                f"holds {kind}s"
            )
        return None
    if kind == "text":
        raise UserError(
            f"channel {pretrained.CHANNEL!r}: it holds no encoder of texts, and the training channel holds texts; "
            f"expected {encoders.EXPECTED}"
        )
    if kind != "image":
        raise UserError(
            f"channel {pretrained.CHANNEL!r}: weights are for image models and encoders of texts, and the training "
            f"channel holds {kind}s"
        )
    return image_models.read(contract.channels[pretrained.CHANNEL])


def _as_encoders_are_trained(hp: Hyperparameters) -> Hyperparameters:
    """With the defaults that are usual for them, where nothing is said."""
    usual = ENCODER_DEFAULTS | ({"learning_rate": FROZEN_ENCODER_RATE} if hp.fine_tune == "head" else {})
    unsaid = {name: value for name, value in usual.items() if name not in hp.model_fields_set}
    if "momentum" in hp.model_fields_set:
        logger.warning("model='encoder' is trained with AdamW: momentum=%g is not used", hp.momentum)
    return hp.model_copy(update={"model": "encoder", **unsaid})


def _checkpoints(
    contract: Contract, hp: Hyperparameters, splits: Splits, begun: str, processes: int
) -> Checkpoints | None:
    if not contract.checkpoints.is_dir():
        return None
    if hp.backend == "cords":
        logger.warning("backend='cords' keeps no checkpoints: its loaders cannot be asked what they remember")
        return None
    identity = _identity(hp, splits, begun, processes)
    return Checkpoints(
        contract.checkpoints, identity, hp.checkpoint_minutes, hp.checkpoints_kept, hp.resume == "auto"
    )


def _identity(hp: Hyperparameters, splits: Splits, begun: str, processes: int) -> dict[str, Any]:
    """What a run that goes on must have in common with the one before. begun: the model, and with which weights."""
    identity = {name: value for name, value in hp.model_dump().items() if name not in NOT_DECISIVE}
    return identity | {"model": begun, "data": f"…{_digest(splits)[:8]}", "processes": processes}


def _budget(hp: Hyperparameters, examples: int) -> int:
    """How many of the training examples an epoch visits, where the strategy does not set that by itself."""
    return plan.budget(examples, hp.fraction) if hp.spec.takes_fraction else examples


def _examine(
    contract: Contract,
    splits: Splits,
    classifier: Classifier,
    machine: Machine,
    hp: Hyperparameters,
    begun: str,
    ranks: Ranks,
) -> Examined:
    """Look for what the run is to leave out."""

    folder = contract.checkpoints
    try:
        found = Examination(
            classifier,
            splits,
            hp,
            lambda model, part, budget: _selector(model, part, machine, hp, budget, ranks),
            lambda examples: _budget(hp, examples),
            machine,
            ranks,
            folder / cleaning.FILE if folder.is_dir() else None,
            _identity(hp, splits, begun, ranks.size),
        ).run()
    except (RuntimeError, MemoryError) as error:
        out_of_memory.explain(error, hp.batch_size)
    # What comes is the same whether labels were looked at now or before an interruption.
    torch.manual_seed(hp.seed)
    return found


def _workers(ranks: Ranks) -> int | None:
    return None if ranks.local_size == 1 else max(1, min(cpu_count() // ranks.local_size, MOST_WORKERS))


def _digest(splits: Splits) -> str:
    """Of the labels, and of what preprocessing has learned of the inputs: other data has other means."""
    data = hashlib.sha256(json.dumps(splits.preprocessing.to_json(), sort_keys=True).encode())
    for part in (
        *(splits.train.labels, splits.validation.labels, splits.train_weights),
        *(splits.train.owners, splits.validation.owners),
    ):
        data.update(b"" if part is None else part.numpy().tobytes())
    return data.hexdigest()


def _check_same_data(contract: Contract, splits: Splits, ranks: Ranks) -> None:
    """Every process must number the examples alike."""
    seen = ranks.everyones((_digest(splits), contract.current_host, len(splits.train)))
    for digest, host, examples in seen:
        if digest != seen[0][0]:
            raise UserError(
                f"host {host} has other data than {seen[0][1]} ({examples} training examples against {seen[0][2]}); "
                "expected the same on each host: S3DistributionType=FullyReplicated"
            )


def _check_channels(contract: Contract) -> None:
    if "training" not in contract.channels:
        given = ", ".join(contract.channels) or "none"
        raise UserError(
            f"channel 'training' is missing (channels given: {given}); expected the training data there"
        )
    if pretrained.CHANNEL in contract.sharded:
        raise UserError(
            f"channel {pretrained.CHANNEL!r} is sharded (S3DistributionType={SHARDED}), and every host needs the "
            "weights; expected FullyReplicated"
        )
    for name in contract.channels:
        if name not in (*CHANNELS, *LISTINGS, pretrained.CHANNEL):
            known = ", ".join((*CHANNELS, pretrained.CHANNEL))
            logger.warning("channel %r is not used; the channels are %s", name, known)


def _selector(
    classifier: Classifier,
    splits: Splits,
    machine: Machine,
    hp: Hyperparameters,
    budget: int,
    ranks: Ranks,
) -> Selector:
    if hp.backend == "cords":
        # CORDS brings numba and matplotlib along: imported only by who asks for it.
        from subset_trainer.training.cords_backend import CordsSelector

        return CordsSelector(
            hp,
            classifier,
            splits.train,
            splits.validation,
            machine,
            fraction=budget / len(splits.train),
            classes=len(splits.preprocessing.classes),
        )
    settings = _settings(hp, ranks.size)
    if hp.spec.shape == "own_size":
        return SoftPruningSelector(hp.spec.load()(settings), splits.train.labels)
    if hp.spec.shape == "within_batch" and "a held-out model" not in hp.spec.needs:
        return FilterSelector(lambda state: hp.spec.load()(settings), len(splits.train))
    if hp.spec.shape == "within_batch":
        # A copy now: by the first selection, a warm start has trained the classifier on the training examples.
        fresh = copy.deepcopy(classifier)

        def make_filter(state: Mapping[str, Any]) -> subset_selection.BatchFilter:
            images = splits.preprocessing.kind == "image"
            losses = state.get("irreducible_losses_N")
            if losses is None:
                losses = irreducible_losses(
                    fresh, splits.train, splits.validation, hp, machine, images, ranks
                )
            made: subset_selection.BatchFilter = hp.spec.load()(settings, losses.to(machine.device))
            return made

        return FilterSelector(make_filter, len(splits.train))
    strategy = subset_selection.create(hp.strategy, settings, drop_mislabelled=hp.mislabelled == "drop")
    return NativeSelector(
        strategy, classifier, splits.train, splits.validation, machine, ranks, _candidates(hp)
    )


def _candidates(hp: Hyperparameters) -> float | None:
    if "candidates_per_pick" not in hp.spec.knobs or hp.mislabelled == "drop":
        return None
    return hp.candidates_per_pick or hp.spec.candidates_per_pick


def _settings(hp: Hyperparameters, processes: int) -> subset_selection.Settings:
    """The strategies' knobs have the hyperparameters' names; a batch is one of all processes."""
    own = {field.name: getattr(hp, field.name) for field in dataclasses.fields(subset_selection.Settings)}
    own |= {
        "eta": hp.eta or hp.learning_rate,
        "batch_size": hp.batch_size * processes,
        "candidates_per_pick": hp.candidates_per_pick
        or hp.spec.candidates_per_pick
        or own["candidates_per_pick"],
    }
    return subset_selection.Settings(**own)


def _announce(hp: Hyperparameters, splits: Splits, budget: int, model: str) -> None:
    examples = len(splits.train)
    logger.info(
        "%d training, %d validation and %s test examples of %d classes; %s with %s",
        examples,
        len(splits.validation),
        "no" if splits.test is None else len(splits.test),
        len(splits.preprocessing.classes),
        model,
        ", ".join(f"{name}={value}" for name, value in hp.model_dump(exclude_defaults=True).items())
        or "all defaults",
    )
    if not hp.spec.takes_fraction:
        if "fraction" in hp.model_fields_set and hp.fraction < 1:
            sized = (
                "sees all examples" if hp.spec.shape == "everything" else "sets the size of each epoch itself"
            )
            logger.warning("strategy %r %s: fraction=%g is not used", hp.strategy, sized, hp.fraction)
    else:
        logger.info("%s chooses %d of them, %.4g%%", hp.strategy, budget, 100 * budget / examples)
        if "select_every" in hp.spec.knobs and hp.select_every >= hp.epochs:
            logger.warning(
                "select_every=%d with epochs=%d: the subset is chosen once", hp.select_every, hp.epochs
            )
    knobs = {field.name for field in dataclasses.fields(subset_selection.Settings)} | {
        "select_every",
        "mislabelled",
    }
    used = {"batch_size", *hp.spec.knobs}
    if hp.mislabelled == "drop":
        used.add("select_every")  # how often it looks
    unused = sorted((knobs & hp.model_fields_set) - used)
    if unused:
        logger.warning("strategy %r does not use %s", hp.strategy, ", ".join(unused))
    if hp.batch_size > budget:
        logger.warning(
            "batch_size=%d is larger than the subset: each epoch is one step of %d examples",
            hp.batch_size,
            budget,
        )


def _history_row(report: EpochReport) -> dict[str, Any]:
    return {
        "epoch": report.epoch.number,
        "train:loss": report.train.loss,
        "train:accuracy": report.train.accuracy,
        "validation:loss": report.validation.loss,
        "validation:accuracy": report.validation.accuracy,
        "epoch:seconds": report.training_seconds,
        "selection:seconds": report.selection_seconds,
        "evaluation:seconds": report.evaluation_seconds,
        "samples:visited": report.samples_visited,
        "learning_rate": report.learning_rate,
        "subset_size": report.subset_size,
    }


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for package in ("subset-trainer", "torch", "torchvision", "cords", "numpy"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return versions
