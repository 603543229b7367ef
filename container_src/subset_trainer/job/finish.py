"""Writes a run's results: the model, the test score, the insights about the data, and the summary."""

import logging
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

from subset_trainer import artifacts
from subset_trainer.config import Hyperparameters
from subset_trainer.insight.cleaning import Examined
from subset_trainer.insight.page import About
from subset_trainer.job import naming
from subset_trainer.job.fit import Fitted
from subset_trainer.job.insights import Insights
from subset_trainer.job.read import Material
from subset_trainer.job.values import Run
from subset_trainer.models import Classifier
from subset_trainer.readable import number
from subset_trainer.tracking import metrics
from subset_trainer.tracking.background import Outcome
from subset_trainer.training.measures import Score
from subset_trainer.training.reports import totals

logger = logging.getLogger(__name__)
SAVED = ": the model is saved, and a run that is resumed "


def finish(run: Run, data: Material, examined: Examined, fitted: Fitted) -> Outcome:
    """Save the model and the other results. SIGTERM ends the stage that it interrupts and skips the later stages."""
    config, stages, trainee = run.config, run.stages, fitted.trainee
    model = _save_model(run, data, fitted)
    test: Score | None = None
    if data.read.test is not None and not stages.stopped:
        with stages.stage("test", lambda: f" while testing{SAVED}tests it"):
            test, predictions = trainee.predict(data.read.test)
            if run.first and predictions is not None:
                path = run.contract.output_data / "test_predictions.npz"
                artifacts.save_predictions(path, **vars(predictions))
    insights = Insights(run, data.splits, trainee.evaluated, trainee.record, data.embedded, model)
    if config.explain and not stages.stopped:
        with stages.stage("explanation", lambda: f"{SAVED}explains its errors"):
            insights.explain()
    if config.report and not stages.stopped:
        with stages.stage("report", lambda: f"{SAVED}writes the report"):
            insights.report(examined, fitted.history.rows, _about(run, data, examined, fitted, test))
    outcome: Outcome = "stopped" if stages.stopped else "completed"
    if run.first:
        if test is not None:
            fitted.history.tell({f"test:{name}": value for name, value in test.measures().items()})
        summary = _summary(run, data, examined, fitted, test)
        artifacts.write_json(run.contract.output_data / "summary.json", {"status": outcome, **summary})
        _say(outcome, summary, config.explain > 0)
    return outcome


def _save_model(run: Run, data: Material, fitted: Fitted) -> Classifier:
    """Returns the model that is saved, on every process."""
    run.place.ranks.same_buffers(fitted.trainee.evaluated)
    model = fitted.model
    if run.first:
        with run.place.interruption.deferred():
            artifacts.save_model(
                run.contract.model, model, data.model, data.splits.preprocessing, run.config.model_dump()
            )
    return model


def _about(run: Run, data: Material, examined: Examined, fitted: Fitted, test: Score | None) -> About:
    config = data.config
    fraction = (fitted.answer or {}).get("kept", config.fraction) if config.spec.takes_fraction else None
    scores = {_validation(config): fitted.history.reports[-1].validation} | ({"test": test} if test else {})
    scored = " and ".join(
        f"{what} {metrics.SPOKEN[config.metric]} {number(score.measures()[config.metric], '.1%')}"
        for what, score in scores.items()
    )
    epochs = len(fitted.history.reports)
    return About(
        naming.title(run.contract, config.strategy, fraction, config.seed, data.splits),
        f"{naming.counted(data.splits)}; {data.model}, {epochs:,} {'epoch' if epochs == 1 else 'epochs'}: {scored}.",
        _facts(data, examined, fitted, test),
        fitted.answer,
    )


def _facts(data: Material, examined: Examined, fitted: Fitted, test: Score | None) -> dict[str, str]:
    """Name → value of what was run."""
    config, plan = data.config, fitted.plan
    return {
        "strategy": config.strategy,
        "budget": f"{plan.budget:,} of {plan.examples:,} examples an epoch",
        "left out before": ", ".join(f"{count:,} {why}" for why, count in examined.counts().items()),
        **{f"unreadable, {out.channel}": f"{len(out):,} of {out.total:,}" for out in data.splits.left_out},
        "model": data.model,
        **_measured(
            _validation(config),
            fitted.history.reports[-1].validation,
        ),
        **({"test accuracy": "–"} if test is None else _measured("test", test)),
        **{name: str(value) for name, value in config.model_dump(exclude_defaults=True).items()},
    }


def _validation(config: Hyperparameters) -> str:
    return "validation (trained on)" if config.spec.trains_on == "both" else "validation"


def _measured(what: str, score: Score) -> dict[str, str]:
    names = [name for name in score.measures() if name != "loss"]
    return {f"{what} {metrics.SPOKEN[name]}": number(score.measures()[name], ".2%") for name in names}


def _summary(
    run: Run, data: Material, examined: Examined, fitted: Fitted, test: Score | None
) -> dict[str, Any]:
    config, plan, splits, reports = run.config, fitted.plan, data.splits, fitted.history.reports
    return {
        "strategy": config.strategy,
        "fraction": _fraction(config, fitted, data.splits.counted or len(examined.labels)),
        "backend": config.backend,
        "model": data.model,
        "kind": splits.preprocessing.name,
        "epochs": len(reports),
        "seed": config.seed,
        "trained_on": config.spec.trains_on,
        "budget": plan.budget,
        "processes": plan.processes,
        "hosts": len(run.contract.hosts),
        "effective_batch_size": plan.effective_batch_size,
        "effective_learning_rate": plan.learning_rate,
        "examples": {
            "training": len(splits.train),
            "validation": len(splits.validation),
            "test": None if splits.test is None else len(splits.test),
        },
        "removed": examined.counts(),
        "unreadable": {out.channel: len(out) for out in splits.left_out},
        "subsets": "incomplete" if fitted.history.lost_subsets else "complete",
        "classes": list(splits.preprocessing.classes),
        **totals(reports, config.metric),
        "metric": config.metric,
        "test": None if test is None else test.measures(),
        "seconds": _seconds(run, fitted),
        "device": run.place.machine.describe(),
        "threads": torch.get_num_threads(),
        "versions": _versions(),
        "hyperparameters": config.model_dump(),
        **({} if fitted.answer is None else {"answer": fitted.answer}),
    }


def _fraction(config: Hyperparameters, fitted: Fitted, counted: int) -> float:
    """The fraction of the examples used per epoch. If the strategy sets the size of each epoch, this is the average.

    counted: number of training examples before cleaning.
    """
    plan, reports, shape = fitted.plan, fitted.history.reports, config.spec.shape
    if shape == "own_size":
        return float(totals(reports)["samples_visited"] / (plan.examples * max(1, len(reports))))
    if config.spec.trains_on != "training":
        return plan.budget * len(plan.epochs) / config.epochs / counted
    return plan.budget / (plan.examples if shape == "everything" else counted)


def _seconds(run: Run, fitted: Fitted) -> dict[str, float]:
    stages, reports = run.stages, fitted.history.reports
    own = fitted.spent or {
        "training": sum(epoch.training_seconds for epoch in reports),
        "selection": sum(epoch.selection_seconds for epoch in reports),
        "evaluation": sum(epoch.evaluation_seconds for epoch in reports),
    }
    return {
        "loading": stages.seconds("loading"),
        "embedding": stages.seconds("embedding"),
        "cleaning": stages.seconds("cleaning"),
        "training": own["training"],
        "selection": own["selection"],
        "evaluation": own["evaluation"] + stages.seconds("test"),
        "explanation": stages.seconds("explanation"),
        "report": stages.seconds("report"),
        "total": stages.total(),
    }


def _say(outcome: Outcome, summary: dict[str, Any], explained: bool) -> None:
    seconds = summary["seconds"]
    logger.info(
        "%s: %.1f s training, %.1f s selection, %.1f s evaluation,%s %.1f s total time; %d samples seen",
        outcome,
        seconds["training"],
        seconds["selection"],
        seconds["evaluation"],
        f" {seconds['explanation']:.1f} s explanations," if explained else "",
        seconds["total"],
        summary["samples_visited"],
    )


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for package in ("subset-trainer", "torch", "torchvision", "cords", "numpy"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return versions
