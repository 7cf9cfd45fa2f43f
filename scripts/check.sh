#!/bin/sh
# make check: everything `make test` does not: clang, ThreadSanitizer, static analysis, formatting,
# lints, generated files. Ends with one line that counts passed, failed and skipped checks.
set -u

cd "$(dirname "$0")/.." || exit 1
passed=0
failed=0
skipped=0
logs=build/check
mkdir -p $logs

# check NAME COMMAND...: its output is shown only when it fails; status 77 is a skip.
check() {
    name=$1
    shift
    "$@" >"$logs/$name.log" 2>&1
    status=$?
    if [ $status = 0 ]; then
        passed=$((passed + 1))
        printf 'ok       %s\n' "$name"
        return
    fi
    if [ $status = 77 ]; then
        skipped=$((skipped + 1))
        printf 'skipped  %s: %s\n' "$name" "$(tail -n 1 "$logs/$name.log")"
        return
    fi
    failed=$((failed + 1))
    printf 'FAILED   %s\n' "$name"
    tail -n 40 "$logs/$name.log"
}

c_files() { git ls-files '*.c' '*.h'; }
sh_files() { git ls-files '*.sh' .ci/run; }

format() { c_files | xargs clang-format --dry-run --Werror; }
layers() { c_files | xargs awk -f tests/lint/layers.awk; }
sizes() { { c_files; git ls-files "*.py"; } | xargs tests/lint/sizes.py; }
shell() { sh_files | xargs shellcheck; }
licence() { tests/lint/spdx.sh; }
headers_alone() { tests/lint/headers.sh; }

unit_tests() { ctest --test-dir "$1" --output-on-failure --no-tests=error -L "unit" -j "$(nproc)"; }

tidy() {
    git ls-files 'src/*.c' 'hook/*.c' 'deviceplugin/*.c' | xargs -P "$(nproc)" -n 4 clang-tidy --quiet -p build/clang
}

# varFuncNullUB: a void pointer ends a list of text pointers well (C11 6.5.2.2).
cpp_check() {
    cppcheck --quiet --error-exitcode=1 --inline-suppr --std=c11 --enable=warning,performance,portability \
        --suppress=missingIncludeSystem --suppress=unknownMacro --suppress=varFuncNullUB -D_GNU_SOURCE \
        -I . -I include -I src -I hook \
        -j "$(nproc)" src hook deviceplugin
}

# Another toolkit on the machine is only compared with the pinned headers: does it declare a function
# that has no class here?
other_toolkit() {
    for dir in /usr/local/cuda/include /usr/include; do
        [ -e $dir/cuda.h ] || continue
        out=$(mktemp -d)
        hook/classify.py --cc gcc --include $dir --out "$out"
        r=$?
        rm -rf "$out"
        return $r
    done
    echo "no CUDA toolkit on this machine"
    return 77
}

scripts/setup.sh test
check build-gcc scripts/build.sh build
check build-clang scripts/build.sh build/clang -DCMAKE_C_COMPILER=clang
check build-asan scripts/build.sh build/asan -DTR_SANITIZE=address,undefined -DCMAKE_BUILD_TYPE=Debug
check build-tsan scripts/build.sh build/tsan -DTR_SANITIZE=thread -DCMAKE_BUILD_TYPE=Debug
check unit-clang unit_tests build/clang
check unit-asan-ubsan unit_tests build/asan
check unit-tsan unit_tests build/tsan
check clang-tidy tidy
check cppcheck cpp_check
check clang-format format
check shellcheck shell
check layers layers
check sizes sizes
check licence-lines licence
check headers-alone headers_alone
check generated-docs scripts/docs.py --check
check other-toolkit other_toolkit
printf '%d passed, %d failed, %d skipped\n' $passed $failed $skipped
[ $failed = 0 ]
