"""The gate that ECR's scan keeps: every state that the API's own model knows, and the findings of both scanners."""

from collections.abc import Callable
from typing import Any

import boto3
import pytest
from botocore.stub import Stubber

from deploy.__main__ import main
from deploy.aws import image, scan
from subset_trainer.errors import PlatformError, UserError
from tests.aws.conftest import REGION
from tests.aws.stand_ins import StandIns
from tests.aws.test_push import COMMIT, URI, docker

__all__ = ["docker"]
DIGEST = f"sha256:{'0' * 64}"
WANTED = {"repositoryName": "subset-trainer", "imageId": {"imageDigest": DIGEST}}


class Scan:
    """ECR's answers, in order."""

    def __init__(self) -> None:
        self.client = boto3.client(
            "ecr", region_name=REGION, aws_access_key_id="testing", aws_secret_access_key="testing"
        )
        self.stub = Stubber(self.client)
        self.stub.activate()
        self.shown: list[str] = []

    def answers(self, status: str, findings: dict[str, Any] | None = None, **further: Any) -> "Scan":
        content = {"imageScanStatus": {"status": status, **further.pop("description", {})}, **further}
        if findings is not None:
            content["imageScanFindings"] = findings
        self.stub.add_response("describe_image_scan_findings", content, WANTED)
        return self

    def check(self, severity: str = scan.DEFAULT) -> None:
        scan.check(self.client, "subset-trainer", DIGEST, severity, self.shown.append)
        self.stub.assert_no_pending_responses()


@pytest.fixture
def ecr(monkeypatch: pytest.MonkeyPatch) -> Scan:
    monkeypatch.setattr(scan, "PAUSE", 0.0)
    return Scan()


def basic(name: str, severity: str, package: str = "openssl", version: str = "3.0.2") -> dict[str, Any]:
    attributes = [{"key": "package_name", "value": package}, {"key": "package_version", "value": version}]
    return {"name": name, "severity": severity, "attributes": attributes}


def enhanced(name: str, severity: str) -> dict[str, Any]:
    packages = [{"name": "torch", "version": "2.14.1"}]
    details = {"vulnerabilityId": name, "vulnerablePackages": packages}
    return {"title": f"{name} - torch", "severity": severity, "packageVulnerabilityDetails": details}


def test_a_scan_is_waited_for_and_one_that_finds_little_passes(ecr: Scan) -> None:
    ecr.stub.add_client_error("describe_image_scan_findings", "ScanNotFoundException")
    ecr.answers("PENDING").answers("IN_PROGRESS")
    ecr.answers(
        "COMPLETE", {"findings": [basic("CVE-1", "HIGH")], "findingSeverityCounts": {"HIGH": 1, "LOW": 20}}
    )
    ecr.check()
    assert ecr.shown == ["ECR's scan has found: 1 HIGH, 20 LOW"]


def test_a_scan_that_finds_nothing_passes(ecr: Scan) -> None:
    ecr.answers("COMPLETE", {"findingSeverityCounts": {}}).check("INFORMATIONAL")
    assert ecr.shown == ["ECR's scan has found: nothing"]


@pytest.mark.parametrize(
    ("severity", "passes"), [("CRITICAL", True), ("HIGH", False), ("MEDIUM", False), ("INFORMATIONAL", False)]
)
def test_the_severity_and_what_is_worse_is_refused(ecr: Scan, severity: str, passes: bool) -> None:
    ecr.answers("COMPLETE", {"findings": [basic("CVE-1", "HIGH")], "findingSeverityCounts": {"HIGH": 1}})
    if passes:
        ecr.check(severity)
    else:
        with pytest.raises(
            UserError, match=r"has found 1 HIGH: CVE-1 \(openssl 3\.0\.2, HIGH\); it gets no tag"
        ):
            ecr.check(severity)


def test_what_nobody_has_judged_yet_is_shown_and_passes(ecr: Scan) -> None:
    ecr.answers("COMPLETE", {"findingSeverityCounts": {"UNDEFINED": 3, "UNTRIAGED": 1}}).check(
        "INFORMATIONAL"
    )
    assert ecr.shown == ["ECR's scan has found: 3 UNDEFINED, 1 UNTRIAGED"]


def test_the_worst_findings_of_all_pages_are_named(ecr: Scan) -> None:
    first = [basic(f"CVE-{number}", "HIGH") for number in range(10)]
    counts = {"HIGH": 10, "CRITICAL": 1}
    ecr.answers("COMPLETE", {"findings": first, "findingSeverityCounts": counts}, nextToken="more")
    ecr.stub.add_response(
        "describe_image_scan_findings",
        {
            "imageScanStatus": {"status": "COMPLETE"},
            "imageScanFindings": {"findings": [basic("CVE-99", "CRITICAL")], "findingSeverityCounts": counts},
        },
        {**WANTED, "nextToken": "more"},
    )
    with pytest.raises(
        UserError, match=r"1 CRITICAL, 10 HIGH: CVE-99 \(openssl 3\.0\.2, CRITICAL\), CVE-0 .* and 1 more;"
    ):
        ecr.check("HIGH")


def test_findings_of_amazon_inspector(ecr: Scan) -> None:
    ecr.answers(
        "ACTIVE",
        {"enhancedFindings": [enhanced("CVE-2", "CRITICAL")], "findingSeverityCounts": {"CRITICAL": 1}},
    )
    with pytest.raises(UserError, match=r"CVE-2 \(torch 2\.14\.1, CRITICAL\)"):
        ecr.check()


@pytest.mark.parametrize(
    "status",
    [
        *(
            "FAILED",
            "UNSUPPORTED_IMAGE",
            "SCAN_ELIGIBILITY_EXPIRED",
            "FINDINGS_UNAVAILABLE",
            "LIMIT_EXCEEDED",
        ),
        *("IMAGE_ARCHIVED", "IMAGE_SIZE_EXCEEDED"),
    ],
)
def test_an_image_that_cannot_be_scanned_does_not_pass(ecr: Scan, status: str) -> None:
    ecr.answers(
        status, description={"description": "UnsupportedImageError: The operating system\nis unknown"}
    )
    with pytest.raises(
        PlatformError, match=rf"\({status}: .*The operating system is unknown\).*--scan-severity none"
    ):
        ecr.check()


def test_every_state_of_the_api_is_known(ecr: Scan) -> None:
    shape = ecr.client.meta.service_model.operation_model("DescribeImageScanFindings").output_shape
    states = set(shape.members["imageScanStatus"].members["status"].enum)
    assert {*scan.DONE, *scan.WAITING} <= states
    severities = set(shape.members["imageScanFindings"].members["findings"].member.members["severity"].enum)
    assert severities - set(scan.SEVERITIES) == {"UNDEFINED"}


@pytest.mark.parametrize(
    ("limit", "prepare", "expected"),
    [
        (
            "MINUTES_TO_BEGIN",
            lambda ecr: ecr.stub.add_client_error("describe_image_scan_findings", "ScanNotFoundException"),
            "has no scan of the image .* is scan on push turned off",
        ),
        ("MINUTES", lambda ecr: ecr.answers("IN_PROGRESS"), "has not ended in 0 minutes: push again later"),
    ],
)
def test_a_scan_is_not_waited_for_without_end(
    ecr: Scan, monkeypatch: pytest.MonkeyPatch, limit: str, prepare: Callable[[Scan], Any], expected: str
) -> None:
    monkeypatch.setattr(scan, limit, 0.0)
    prepare(ecr)
    with pytest.raises(PlatformError, match=expected):
        ecr.check()


def test_no_gate_asks_nothing_and_says_so(ecr: Scan) -> None:
    ecr.check(scan.OPEN)
    assert "not waiting for ECR's scan" in ecr.shown[0]


def tags() -> set[str]:
    images = boto3.client("ecr").describe_images(repositoryName="subset-trainer")["imageDetails"]
    return {tag for found in images for tag in found.get("imageTags", ())}


def test_push_gives_the_tag_after_the_scan_and_only_then(
    aws: str, docker: StandIns, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["image", "push", "--scan-severity", "HIGH"]) == 1
    captured = capsys.readouterr()
    assert "has found 1 HIGH: CVE-9999-9999 (moto_fake 9.9.9, HIGH)" in captured.err
    assert captured.err.count("\n") == 1
    assert tags() == {"candidate"}
    assert main(["image", "uri", "--tag", COMMIT]) == 1

    assert main(["image", "push"]) == 0
    assert "ECR's scan has found: 1 HIGH" in capsys.readouterr().out
    assert tags() == {"candidate", COMMIT}
    (pushed,) = boto3.client("ecr").describe_images(repositoryName="subset-trainer")["imageDetails"]
    assert image.uri("subset-trainer", COMMIT) == f"{URI}@{pushed['imageDigest']}"


def test_a_candidate_of_another_push_is_not_taken_for_ones_own(
    aws: str, docker: StandIns, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between docker's push and the question for the digest, another build has moved the tag."""
    monkeypatch.setattr(image, "_digest", lambda ecr, repository, tag: DIGEST if tag == "candidate" else None)
    with pytest.raises(PlatformError, match=r"another push has taken the tag .*:candidate"):
        image.push("subset-trainer", "subset-trainer")
    assert tags() == {"candidate"}


def test_a_tag_that_another_push_has_taken_stays(
    aws: str, docker: StandIns, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = image.push("subset-trainer", "subset-trainer")
    other = StandIns(docker.folder, COMMIT, cuda="12")
    original = image._digest
    looks: list[str] = []

    def digest(ecr: Any, name: str, tag: str) -> str | None:
        looks.append(tag)
        return None if looks == [COMMIT] else original(ecr, name, tag)

    monkeypatch.setattr(image, "_digest", digest)
    with pytest.raises(PlatformError, match=f"another push has given the tag '{COMMIT}' to another image"):
        image.push("subset-trainer", "subset-trainer", tag=COMMIT)
    assert other.named("push")
    assert f"{URI}@{original(boto3.client('ecr'), 'subset-trainer', COMMIT)}" == first[1]


def test_without_rights_to_make_it_the_repository_is_left_alone(aws: str, docker: StandIns) -> None:
    boto3.client("ecr").create_repository(repositoryName="subset-trainer")
    assert main(["image", "push", "--no-create"]) == 0
    (repository,) = boto3.client("ecr").describe_repositories()["repositories"]
    assert repository["imageTagMutability"] == "MUTABLE"
