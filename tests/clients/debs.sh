#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Debian's nvtop (contrib) and nvidia-smi (non-free), unpacked below .deps/debs for the tests. The
# machine's own apt configuration is neither used as it is nor changed: the sources, lists and
# cache are private copies, with the two components added. usage: debs.sh [-q]
set -eu

root=$(cd "$(dirname "$0")/../.." && pwd)
out=$root/.deps/debs
# nvtop's one library that a bare Debian lacks comes along. What nvidia-smi depends on is the real
# driver: never unpacked.
packages='nvtop libncursesw6 nvidia-smi'

quiet=${1-}
[ -e "$out/.done" ] && [ "$(cat "$out/.done")" = "$packages" ] && exit 0
command -v apt-get >/dev/null || { echo "debs.sh: no apt-get on this machine" >&2; exit 1; }
[ "$quiet" = -q ] || echo "clients: fetching Debian's $packages into ${out#"$root"/}"

rm -rf "$out"
mkdir -p "$out/apt/lists/partial" "$out/apt/cache/archives/partial" "$out/apt/sources" "$out/deb"
# Every Debian source of this machine, with contrib and non-free beside main. Others (a vendor's
# repository that happens to be configured) do not match "main" alone and stay out.
for list in /etc/apt/sources.list /etc/apt/sources.list.d/*.list; do
	[ -f "$list" ] || continue
	sed -nE 's/^(deb .*debian.* main)( .*)?$/\1 contrib non-free/p' "$list" \
		>"$out/apt/sources/$(basename "$list" .list).list"
done
for list in /etc/apt/sources.list.d/*.sources; do
	[ -f "$list" ] || continue
	grep -qE '^URIs:.*debian' "$list" || continue
	sed -E 's/^(Components:.*\<main\>).*/\1 contrib non-free/' "$list" \
		>"$out/apt/sources/$(basename "$list")"
done

apt_private() {
	apt-get -qq \
		-o Dir::Etc::sourcelist=/dev/null -o Dir::Etc::sourceparts="$out/apt/sources" \
		-o Dir::State::lists="$out/apt/lists" -o Dir::Cache="$out/apt/cache" \
		-o Dir::Cache::archives="$out/apt/cache/archives" \
		-o APT::Sandbox::User=root "$@"
}
apt_private update >"$out/apt/log" 2>&1 || { cat "$out/apt/log" >&2; exit 1; }
for package in $packages; do
	if ! (cd "$out/deb" && apt_private download "$package") >"$out/apt/log" 2>&1; then
		cat "$out/apt/log" >&2
		exit 1
	fi
done
for deb in "$out"/deb/*.deb; do
	dpkg -x "$deb" "$out/root"
done
rm -rf "$out/apt" # 60 MB of package lists
echo "$packages" >"$out/.done"
