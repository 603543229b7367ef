#!/usr/bin/env bash
# Builds what could be uploaded of this package, and uploads nothing: `make release`, or release.sh BIN, where BIN is the
# folder with the environment's python, uv and twine.
#
# A source distribution and, from it, a wheel are built from a copy of the last commit, checked, and laid into dist/. A
# working tree with changes is refused, and a version that is tagged, or that the changelog does not begin with.
set -euo pipefail
bin=$(realpath "$1")
cd "$(dirname "$0")"

refuse() {
    echo "make release: $1" >&2
    exit 1
}

version=$(sed -n 's/^version = "\(.*\)"$/\1/p' pyproject.toml)
tag=subset-selection-$version
changed=$(git status --porcelain)
[[ -z $changed ]] ||
    refuse "$(wc -l <<<"$changed") files differ from the last commit, the first is $(head -n 1 <<<"$changed" | cut -c 4-): commit them, or put them away"
! git rev-parse --quiet --verify "refs/tags/$tag" >/dev/null ||
    refuse "version $version has been released, as there is a tag $tag: raise the version in pyproject.toml"
newest=$(sed -n 's/^## \([^ ]*\).*/\1/p' CHANGELOG.md | head -n 1)
[[ $newest == "$version" ]] ||
    refuse "CHANGELOG.md begins with $newest, and the version in pyproject.toml is $version: expected the same"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/source" dist
git archive HEAD . | tar -x -C "$work/source"
# With the environment's own setuptools, so that nothing is fetched.
"$bin/uv" build --quiet --offline --no-build-isolation --python "$bin/python" --out-dir "$work/built" "$work/source"
files=("subset_selection-$version-py3-none-any.whl" "subset_selection-$version.tar.gz")
(cd "$work/built" && "$bin/twine" --no-color check --strict "${files[@]}")
(cd "$work/built" && cp "${files[@]}" "$OLDPWD/dist")
cd dist

echo
echo "subset-selection $version, built from commit $(git rev-parse --short HEAD); nothing was uploaded."
for file in "${files[@]}"; do
    printf '%5d kB  %s\n' $((($(stat -c %s "$file") + 999) / 1000)) "$PWD/$file"
done
cat <<END

To upload them, with an account that owns the name, and to tag the commit:
    $bin/twine upload $(printf "$PWD/%s " "${files[@]}")
    git tag $tag && git push origin $tag
END
