#!/bin/sh
# Every header compiles alone.
set -eu
cd "$(dirname "$0")/../.."
failed=0
for h in $(git ls-files 'include/*.h' 'src/*.h' 'hook/*.h' 'deviceplugin/*.h' 'tests/sim/rm/*.h' 'tests/sim/cuda/*.h'); do
    # for generated sources, which choose how cuda.h is included before it
    [ "$h" = tests/sim/cuda/stub.h ] && continue
    gcc -std=gnu11 -D_GNU_SOURCE -fsyntax-only -I. -Iinclude -Isrc -Ihook -Itests/sim -Itests/sim/cuda -Ibuild/hook \
        -isystem .deps/cuda/include -x c "$h" || failed=1
done
exit $failed
