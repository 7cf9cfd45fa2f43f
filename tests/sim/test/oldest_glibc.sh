#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# oldest_glibc.sh LIBRARY...: none needs a version of glibc above 2.31 (Debian 11).
set -eu
failed=0
for library; do
	newest=$(objdump -T "$library" | grep -o '(\?GLIBC_[0-9.]*' | tr -d '(' | sort -Vu | tail -n 1)
	echo "$library needs $newest"
	if [ -z "$newest" ] || [ "$(printf 'GLIBC_2.31\n%s\n' "$newest" | sort -V | tail -n 1)" != GLIBC_2.31 ]; then
		objdump -T "$library" | grep -F "$newest" >&2
		failed=1
	fi
done
exit $failed
