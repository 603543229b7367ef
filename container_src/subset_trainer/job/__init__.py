"""The built-in trainer's job, from the contract to the artefacts, as phases in the order in which they run."""

from subset_trainer.config import Hyperparameters
from subset_trainer.contract import Contract
from subset_trainer.job import build, check, clean, embed, finish, fit, read, search
from subset_trainer.job.stages import Stages
from subset_trainer.job.values import Run
from subset_trainer.tracking.background import Outcome
from subset_trainer.tracking.trackers import Trackers
from subset_trainer.training.interruption import Terminated
from subset_trainer.training.parallel.ranks import Ranks


def run(contract: Contract, hp: Hyperparameters, ranks: Ranks) -> None:
    """Train, and write all results to the contract's model and output directories.

    If there are several processes, the first one writes. If SIGTERM ends the training, the results so far are saved and
    the function returns normally.

    Raises:
        TrainingError: the job failed. The message is for the user.
        Terminated: SIGTERM arrived before there was anything to save.
    """
    trackers = Trackers([])
    if ranks.first:
        trackers = Trackers.of_this_job(
            contract.tensorboard if hp.tensorboard else None, hp.mlflow_tracking_uri
        )
    outcome: Outcome = "failed"
    try:
        outcome = _phases(contract, hp, ranks, trackers)
    except Terminated:
        outcome = "stopped"
        raise
    finally:
        trackers.close(outcome)


def _phases(contract: Contract, hp: Hyperparameters, ranks: Ranks, trackers: Trackers) -> Outcome:
    stages = Stages(ranks.interruption)
    with stages.stage("loading"):
        check.check(contract, hp, ranks)
        data = read.read(contract, hp, ranks)
        built = build.build(data, ranks)
    if built.classifier.is_frozen:
        with stages.stage("embedding"):
            data, built = embed.embed(data, built)
    job = Run(contract, data.config, built.place, trackers, stages)
    with stages.stage("cleaning"):
        examined = clean.clean(job, data, built.classifier)
    data = data.keeping(examined.kept)
    settle = search.search if job.config.fraction == "auto" else fit.fit
    fitted = settle(job, data, examined, built)
    return finish.finish(job, data, examined, fitted)
