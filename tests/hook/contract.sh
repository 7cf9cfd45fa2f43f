#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# contract.sh HOOK EXPORTS: what a program that the hook is loaded into sees of it.
set -eu
hook=$1 exports=$2
failed=0
complain() {
	echo "contract: $*" >&2
	failed=1
}

needed=$(readelf -dW "$hook" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p' | grep -v '^ld-linux' || true)
[ "$needed" = libc.so.6 ] || complain "needs: $needed"
newest=$(objdump -T "$hook" | grep -o 'GLIBC_[0-9.]*' | sort -Vu | tail -n 1)
[ "$(printf 'GLIBC_2.17\n%s\n' "$newest" | sort -V | tail -n 1)" = GLIBC_2.17 ] ||
	complain "needs $newest"
nm -D --defined-only "$hook" | awk '{ print $3 }' | sort | diff - <(sort "$exports") >&2 ||
	complain "exports are not the table's"
for name in dlsym dlvsym dlopen pthread_create abort exit signal sigaction; do
	if nm -D --undefined-only "$hook" | grep -qE " $name(@|\$)"; then
		complain "refers to $name"
	fi
done
readelf -VW "$hook" | grep -q 'Version definition' && complain "has version nodes of its own"
readelf -lW "$hook" | grep -A1 GNU_STACK | grep -q RWE && complain "wants an executable stack"
stripped=$(mktemp)
strip -o "$stripped" "$hook"
bytes=$(stat -c %s "$stripped")
rm -f "$stripped"
[ "$bytes" -le $((96 * 1024)) ] || complain "$bytes bytes stripped, more than 96 KiB"
echo "contract: $bytes bytes stripped, newest $newest"
exit $failed
