# A thin front: every target is one script or one cmake call. `make` alone explains them.

.DEFAULT_GOAL := help
.PHONY: help demo build test check bench soak fuzz gpu-test cluster cluster-stop clean

help:
	@echo "make demo      install what is needed, build, and show two programs sharing one GPU"
	@echo "make test      install what is needed, build, and pass all tests"
	@echo "make build     build/bin/tranche, build/lib/libvgpu.so, build/lib/sim (a GPU in software)"
	@echo "make check     both compilers, sanitizers, clang-tidy, cppcheck, formatting, lints"
	@echo "make bench     measure against the bare driver; tables, build/bench.jsonl and build/limiter.jsonl"
	@echo "make soak      the stress tests for 10 minutes (SECONDS=n for another time); 200 ends of a node's agent (KILLS=n)"
	@echo "make fuzz      every fuzz target for 10^6 inputs (RUNS=n for another number)"
	@echo "make gpu-test  build/gpu-test.tar.gz: the tests for a machine with a real driver"
	@echo "make cluster   a Kubernetes of one node with a simulated GPU (GPUS=2xh100,l4), until Ctrl-C"
	@echo "make cluster-stop  ... or until this"
	@echo "make clean     remove build/ (and not .deps/, what was downloaded)"

demo:
	@scripts/demo.sh

build:
	@scripts/setup.sh build
	@scripts/build.sh

test:
	@scripts/test.sh

check:
	@scripts/check.sh

bench:
	@scripts/setup.sh build
	@scripts/build.sh
	@tests/bench/run.sh
	@tests/bench/keeper.sh --check
	@build/bin/tranche bench limiter --leases --check
	@tests/bench/matrix.sh --check

soak:
	@scripts/setup.sh test
	@scripts/build.sh
	@SOAK_SECONDS=$(or $(SECONDS),600) tests/stress/run.sh
	@KILLS=$(or $(KILLS),200) SEED=$(or $(SEED),1) tests/cluster/soak.py build kills_lose_nothing || test $$? = 77

fuzz:
	@scripts/setup.sh test
	@RUNS=$(or $(RUNS),1000000) tests/fuzz/run.sh

gpu-test:
	@scripts/setup.sh build
	@scripts/build.sh
	@tests/gpu/pack.sh

cluster:
	@scripts/setup.sh cluster
	@scripts/build.sh
	@tests/cluster/ctl.py play gpus=$(or $(GPUS),h100)

cluster-stop:
	@tests/cluster/ctl.py down

clean:
	rm -rf build
