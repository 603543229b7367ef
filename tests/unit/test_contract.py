import json
from pathlib import Path

import pytest

from subset_trainer import contract
from subset_trainer.errors import PlatformError, UserError


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SAGEMAKER_BASE_DIR", str(tmp_path))
    (tmp_path / "input" / "config").mkdir(parents=True)
    return tmp_path


def write(base: Path, name: str, content: object) -> None:
    (base / "input" / "config" / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")


def test_what_the_platform_delivers(base: Path) -> None:
    write(base, "hyperparameters", {"fraction": "0.3"})
    write(base, "inputdataconfig", {"training": {"TrainingInputMode": "FastFile"}, "test": {}})
    write(base, "resourceconfig", {"current_host": "algo-2", "hosts": ["algo-1", "algo-2"]})
    job = contract.read()
    assert job.hyperparameters == {"fraction": "0.3"}
    assert job.channels == {
        "test": base / "input" / "data" / "test",
        "training": base / "input" / "data" / "training",
    }
    assert (job.hosts, job.current_host) == (("algo-1", "algo-2"), "algo-2")
    assert (job.model, job.output_data) == (base / "model", base / "output" / "data")


def test_the_hosts_of_a_heterogeneous_cluster(base: Path) -> None:
    """Those of all groups, in an order that is the same on each of them."""
    groups = [
        {"instance_group_name": "gpu", "instance_type": "ml.g5.12xlarge", "hosts": ["algo-2", "algo-3"]},
        {"instance_group_name": "cpu", "instance_type": "ml.c5.xlarge", "hosts": ["algo-1"]},
    ]
    resources = {"current_host": "algo-3", "hosts": ["algo-1", "algo-2", "algo-3"], "instance_groups": groups}
    write(base, "resourceconfig", {**resources, "network_interface_name": "eth0"})
    job = contract.read()
    assert (job.hosts, job.network_interface) == (("algo-1", "algo-2", "algo-3"), "eth0")
    write(base, "resourceconfig", {"current_host": "algo-3", "instance_groups": groups})
    assert contract.read().hosts == ("algo-2", "algo-3", "algo-1")


@pytest.mark.parametrize(("hosts", "sharded"), [(["algo-1", "algo-2"], {"training"}), (["algo-1"], set())])
def test_a_channel_is_sharded_where_there_are_several_hosts(
    base: Path, hosts: list[str], sharded: set[str]
) -> None:
    channels = {
        "training": {"S3DistributionType": "ShardedByS3Key"},
        "test": {"S3DistributionType": "FullyReplicated"},
    }
    write(base, "inputdataconfig", channels)
    write(base, "resourceconfig", {"current_host": "algo-1", "hosts": hosts})
    assert contract.read().sharded == sharded


def test_a_folder_filled_by_hand_needs_no_configuration(base: Path) -> None:
    (base / "input" / "data" / "training").mkdir(parents=True)
    job = contract.read()
    assert (dict(job.hyperparameters), list(job.channels), len(job.hosts)) == ({}, ["training"], 1)


def test_an_empty_base_directory_has_no_channels(base: Path) -> None:
    assert contract.read().channels == {}


def test_an_unknown_input_mode_is_refused_by_name(base: Path) -> None:
    write(base, "inputdataconfig", {"training": {"TrainingInputMode": "Tube"}})
    with pytest.raises(
        UserError,
        match="channel 'training' is delivered in input mode 'Tube'; expected one of File, FastFile, Pipe",
    ):
        contract.read()


def test_pipe_mode_takes_records(base: Path) -> None:
    pipe = {"TrainingInputMode": "Pipe", "RecordWrapperType": "RecordIO"}
    write(base, "inputdataconfig", {"training": pipe, "test": {"TrainingInputMode": "File"}})
    data = base / "input" / "data"
    assert contract.read().channels == {"test": data / "test", "training": data / "training_0"}


@pytest.mark.parametrize("wrapper", [{}, {"RecordWrapperType": "None"}, {"RecordWrapperType": 3}])
def test_pipe_mode_without_records_is_refused(base: Path, wrapper: dict[str, object]) -> None:
    write(base, "inputdataconfig", {"training": {"TrainingInputMode": "Pipe", **wrapper}})
    with pytest.raises(
        UserError, match="channel 'training' is delivered in input mode Pipe with the record wrapper"
    ):
        contract.read()


def test_broken_json_names_the_file(base: Path) -> None:
    (base / "input" / "config" / "hyperparameters.json").write_text('{"fraction": 0.3', encoding="utf-8")
    with pytest.raises(UserError, match=r"hyperparameters\.json is not valid JSON"):
        contract.read()


def test_json_of_another_form_names_the_file(base: Path) -> None:
    write(base, "hyperparameters", ["fraction"])
    with pytest.raises(UserError, match=r"hyperparameters\.json holds a JSON list; expected an object"):
        contract.read()


@pytest.mark.parametrize(
    ("resources", "expected"),
    [
        ({"current_host": "algo-1", "hosts": "algo-1"}, "hosts is 'algo-1'; expected a list of names"),
        ({"current_host": "algo-1", "hosts": ["algo-1", 2]}, r"hosts is \['algo-1', 2\]; expected a list"),
        (
            {"current_host": "algo-3", "hosts": ["algo-1"]},
            r"current_host is 'algo-3'; expected one of \['algo-1'\]",
        ),
        ({"current_host": 7}, r"(hosts is \[7\]; expected a list of names|current_host is 7; expected)"),
        ({"current_host": ""}, r"(hosts is \[''\]; expected a list of names|current_host is ''; expected)"),
        ({"current_host": [], "hosts": ["algo-1"]}, r"current_host is \[\]; expected one of"),
    ],
)
def test_hosts_of_another_form_name_the_file(base: Path, resources: object, expected: str) -> None:
    write(base, "resourceconfig", resources)
    with pytest.raises(UserError, match=rf"resourceconfig\.json: {expected}"):
        contract.read()


@pytest.mark.parametrize("name", ["..", "../secrets", "/etc", "a/b", "a\0b", "", "x" * 65, "\ud800"])
def test_a_channel_does_not_lead_out_of_its_folder(base: Path, name: str) -> None:
    write(base, "inputdataconfig", {name: {"TrainingInputMode": "File"}})
    with pytest.raises(UserError, match="expected a name of at most 64 letters"):
        contract.read()


def test_json_that_is_nested_without_end_names_the_file(base: Path) -> None:
    (base / "input/config/hyperparameters.json").write_text("[" * 100_000, encoding="utf-8")
    with pytest.raises(UserError, match=r"hyperparameters\.json is nested too deeply"):
        contract.read()


def test_a_file_that_cannot_be_read_is_the_platforms_fault(base: Path) -> None:
    (base / "input/config/hyperparameters.json").mkdir()
    with pytest.raises(PlatformError, match=r"hyperparameters\.json cannot be read: Is a directory"):
        contract.read()


def test_content_types(base: Path) -> None:
    channels = {
        "training": {"ContentType": "text/csv; label_size=1"},
        "test": {"ContentType": ""},
        "validation": {},
    }
    write(base, "inputdataconfig", channels)
    assert contract.read().content_types == {"training": "text/csv; label_size=1"}
    write(base, "inputdataconfig", {"training": {"ContentType": ["text/csv"]}})
    with pytest.raises(
        UserError, match=r"channel 'training' has the content type \['text/csv'\]; expected a text"
    ):
        contract.read()


def test_a_byte_order_mark_is_no_part_of_the_json_and_a_repeated_name_is_refused(base: Path) -> None:
    path = base / "input" / "config" / "hyperparameters.json"
    path.write_text('{"epochs": "3"}', encoding="utf-8-sig")
    assert contract.read().hyperparameters == {"epochs": "3"}
    path.write_text('{"epochs": "3", "epochs": "4"}', encoding="utf-8")
    with pytest.raises(UserError, match=r"hyperparameters\.json.*'epochs' is given twice, as '3' and '4'"):
        contract.read()
