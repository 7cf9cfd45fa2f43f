#!/bin/sh
# Every source file says its licence in its first line.
set -eu
cd "$(dirname "$0")/../.."
failed=0
for f in $(git ls-files '*.c' '*.h' '*.S' '*.def'); do
    head -n 1 "$f" | grep -q 'SPDX-License-Identifier: Apache-2.0' && continue
    echo "$f: no SPDX line"
    failed=1
done
exit $failed
