#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# same.sh HOOK PROGRAM [ARGUMENT]...: what PROGRAM prints is the same with the hook preloaded.
set -eu
hook=$1
shift
bare=$("$@")
hooked=$(LD_PRELOAD=$hook "$@")
diff <(printf '%s\n' "$bare") <(printf '%s\n' "$hooked")
printf '%s\n' "$hooked"
