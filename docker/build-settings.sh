#!/usr/bin/env bash
# Collects this machine's package settings in a folder, for with-build-settings.sh: docker/build-settings.sh FOLDER.
# It holds pip.conf, apt.conf and ca-bundle afterwards, as far as there is something to say.
set -euo pipefail
secrets=$1
cd "$(dirname "$0")/.."
chmod 700 "$secrets"

# What pip is set to here, of the settings that mean the same elsewhere; folders of this machine do not.
python=python3
[[ -x .venv/bin/python ]] && python=.venv/bin/python
"$python" -m pip config list 2>/dev/null | "$python" -c '
import ast, re, sys
settings = {}
for line in sys.stdin:
    match = re.match(r"(global|install|download|:env:)\.([a-z-]+)=(.*)", line.strip())
    if match:
        settings[match[1], match[2]] = str(ast.literal_eval(match[3]))
print("[global]")
for name in ("index-url", "extra-index-url", "find-links", "trusted-host", "proxy", "timeout", "default-timeout", "retries"):
    found = [settings[section, name] for section in ("global", "install", "download", ":env:") if (section, name) in settings]
    if found:
        words = [word for word in found[-1].split() if not (word.startswith("/") or word.startswith("file:"))]
        if words:
            print(name, "=", "\n    ".join(words))
' >"$secrets/pip.conf"

# The certificates that this machine trusts, a proxy's own among them.
for bundle in "${PIP_CERT:-}" "${SSL_CERT_FILE:-}" "${REQUESTS_CA_BUNDLE:-}" \
    /etc/ssl/certs/ca-certificates.crt /etc/pki/tls/certs/ca-bundle.crt; do
    if [[ -s $bundle ]]; then
        cp "$bundle" "$secrets/ca-bundle"
        break
    fi
done

{
    if [[ -s $secrets/ca-bundle ]]; then
        echo 'Acquire::https::CaInfo "/run/secrets/ca-bundle";'
    fi
    if command -v apt-config >/dev/null; then
        apt-config dump | grep -E '^Acquire::(http|https)::Proxy(::| )' || true
    fi
} >"$secrets/apt.conf"
