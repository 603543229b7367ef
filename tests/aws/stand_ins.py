"""Stand-ins for the programs `docker` and `aws`, put first on PATH.

No registry can be pushed to here, so `docker` records what it is told (and what arrives on its stdin). It knows the
image `subset-trainer` and those that it was told to build, and its `push` enters an image into the ECR that moto plays,
where its scan finds one vulnerability of severity HIGH.
`aws` answers the few commands of the AWS CLI that buildspec.yml calls, from the same ECR.
"""

import json
import stat
import sys
from pathlib import Path
from typing import Any

DOCKER = """#!{python}
import hashlib, json, os, sys
arguments = sys.argv[1:]
entry = {{"arguments": arguments, "stdin": "" if sys.stdin.isatty() else sys.stdin.read()}}
with open({log!r}, "a") as log:
    log.write(json.dumps(entry) + "\\n")
digest = "sha256:" + hashlib.sha256(({revision!r} + {cuda!r}).encode()).hexdigest()
if arguments[:2] == ["image", "inspect"]:
    calls = [json.loads(line)["arguments"] for line in open({log!r})]
    built = [call[call.index("--tag") + 1] for call in calls if "--tag" in call]
    built += [call[3] for call in calls if call[:2] == ["image", "tag"]]
    if arguments[-1] not in ("subset-trainer", *built):
        sys.exit("Error: No such image: " + arguments[-1])
    if "RepoDigests" in arguments[3]:
        print(arguments[-1].rsplit(":", 1)[0] + "@" + digest)
    else:
        print({revision!r}, {cuda!r})
if arguments[0] == "push":
    import boto3
    ecr = boto3.client("ecr")
    uri, tag = arguments[-1].rsplit(":", 1)
    try:
        ecr.put_image(
            repositoryName=uri.split("/", 1)[1],
            imageTag=tag,
            imageDigest=digest,
            imageManifestMediaType="application/vnd.docker.distribution.manifest.v2+json",
            imageManifest=json.dumps({{"schemaVersion": 2, "config": {{"digest": digest}}, "layers": []}}),
        )
        # Moto does not scan on push by itself.
        ecr.start_image_scan(repositoryName=uri.split("/", 1)[1], imageId={{"imageDigest": digest}})
    except ecr.exceptions.ImageAlreadyExistsException:
        pass
"""

AWS = """#!{python}
import base64, sys
import boto3
from botocore.exceptions import ClientError
arguments = sys.argv[1:]
option = lambda name: arguments[arguments.index(name) + 1]
ecr = boto3.client("ecr")
try:
    if arguments[:2] == ["ecr", "get-login-password"]:
        token = ecr.get_authorization_token()["authorizationData"][0]["authorizationToken"]
        print(base64.b64decode(token).decode().split(":", 1)[1])
    elif arguments[:2] == ["ecr", "describe-repositories"]:
        found = ecr.describe_repositories(repositoryNames=[option("--repository-names")])["repositories"]
        assert option("--query") == "repositories[0].repositoryUri"
        print(found[0]["repositoryUri"])
    else:
        sys.exit(f"unexpected: aws {{arguments}}")
except ClientError as error:
    print(error, file=sys.stderr)
    sys.exit(254)
"""


class StandIns:
    """The folder to put on PATH, and what `docker` was told."""

    def __init__(self, folder: Path, revision: str, cuda: str = "13") -> None:
        self.folder = folder
        self._log = folder / "docker.jsonl"
        self._log.touch()
        for name, text in (("docker", DOCKER), ("aws", AWS)):
            path = folder / name
            values = {"python": sys.executable, "log": str(self._log), "revision": revision, "cuda": cuda}
            path.write_text(text.format(**values))
            path.chmod(path.stat().st_mode | stat.S_IXUSR)

    @property
    def calls(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self._log.read_text().splitlines()]

    def named(self, command: str) -> list[dict[str, Any]]:
        """The calls of one docker command."""
        return [call for call in self.calls if call["arguments"][0] == command]
