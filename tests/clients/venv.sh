#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The Python environment of the real clients: .deps/clients, from pinned and hash-checked packages.
# Silent when it is there. usage: venv.sh [-q]
set -eu

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
out=$root/.deps/clients
stamp=$(cat "$here/requirements-build.txt" "$here/requirements.txt" | sha256sum | cut -d' ' -f1)

[ -e "$out/.done" ] && [ "$(cat "$out/.done")" = "$stamp" ] && exit 0
python=$(command -v python3.11 || true)
[ -n "$python" ] || { echo "venv.sh: the clients' wheels are for Python 3.11, which is not here" >&2; exit 1; }
[ "$(uname -m)" = x86_64 ] || { echo "venv.sh: the clients' wheels are for x86-64" >&2; exit 1; }
[ "${1-}" = -q ] || echo "clients: installing the real CUDA and NVML clients into ${out#"$root"/} (about 240 MB)"

# Two runs at once must not build one environment together.
mkdir -p "$root/.deps"
exec 9>"$root/.deps/clients.lock"
flock 9
[ -e "$out/.done" ] && [ "$(cat "$out/.done")" = "$stamp" ] && exit 0

rm -rf "$out"
"$python" -m venv "$out"
install() {
	"$out/bin/pip" install --quiet --disable-pip-version-check --no-input --no-deps \
		--require-hashes "$@"
}
install --only-binary :all: -r "$here/requirements-build.txt"
# gpustat comes as source; without isolation it is built with the pinned tools just installed.
install --no-build-isolation --only-binary :all: --no-binary gpustat -r "$here/requirements.txt"
echo "$stamp" >"$out/.done"
