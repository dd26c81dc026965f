# Tidemark. `make help` lists what can be asked of it.
#
# MODE   release (default), debug, asan, tsan, cov: each has its own folder under build/, so modes never mix.
# V=1    shows the commands.

MODE    ?= release
CC      ?= gcc
AR      ?= ar
PREFIX  ?= /usr/local
VERSION := $(shell sed -n 's/^\#define TIDEMARK_VERSION "\(.*\)"/\1/p' version.h)
B       := build/$(MODE)
Q       := $(if $(V),,@)

DEPS := gcc make pkg-config git ca-certificates libmicrohttpd-dev libzstd-dev libsnappy-dev zlib1g-dev libdeflate-dev \
        libxxhash-dev libcjson-dev libyaml-dev libcurl4-openssl-dev libssl-dev libsodium-dev libcriterion-dev \
        python3 curl strace procps bzip2
DEPS_LINT := clang-tidy-14 clang-format-14 cppcheck
DEPS_FUZZ := clang-14 libclang-rt-14-dev
DEPS_BENCH := prometheus prometheus-node-exporter victoria-metrics
DEPS_BENCH_KV := librocksdb-dev libleveldb-dev liblmdb-dev libwiredtiger-dev golang-go golang-github-dgraph-io-badger-dev

WARN := -Wall -Wextra -Wshadow -Wconversion -Wstrict-prototypes -Wmissing-prototypes -Wvla -Wundef -Wwrite-strings
CPPFLAGS += -I. -D_GNU_SOURCE
CFLAGS_ALL := -std=c11 $(WARN) -Werror -fvisibility=hidden -fPIC -fno-strict-aliasing -pthread -g
CFLAGS_release := -O2 -fno-plt -D_FORTIFY_SOURCE=2 -fstack-protector-strong
CFLAGS_debug   := -O0 -DKV_DEBUG
CFLAGS_asan    := -O1 -DKV_DEBUG -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer -Wno-format-truncation
CFLAGS_tsan    := -O1 -DKV_DEBUG -fsanitize=thread -fno-omit-frame-pointer -Wno-format-truncation -Wno-error=tsan
CFLAGS_cov     := -O0 -DKV_DEBUG --coverage -Wno-format-truncation
CFLAGS  += $(CFLAGS_ALL) $(CFLAGS_$(MODE))
LDFLAGS += -pthread $(filter -fsanitize=% --coverage,$(CFLAGS_$(MODE)))

KV_LIBS  := -lzstd -lsnappy -lxxhash -lcrypto -lsodium -lm
TS_LIBS  := $(KV_LIBS)
ALL_LIBS := -lmicrohttpd -lcjson -lyaml -lcurl -ldeflate -lz $(TS_LIBS)

# Every .c of a layer's folders belongs to the layer: a file that should not be built should not be there.
KV_SRC   := $(wildcard kvcore/base/*.c kvcore/os/*.c kvcore/crypt/*.c kvcore/sst/*.c kvcore/vlog/*.c kvcore/db/*.c kvcore/txn/*.c kvcore/backup/*.c)
TS_SRC   := $(wildcard tsdb/*.c tsdb/chunk/*.c tsdb/query/*.c tsdb/promql/*.c)
HTTP_SRC := $(wildcard http/*.c http/decode/*.c http/api/*.c)
TOOLS_SRC   := tools/archive.c tools/options.c tools/progress.c # of both programs
KVTOOL_SRC  := $(wildcard tools/kvtool*.c) $(TOOLS_SRC)
SERVER_SRC  := $(filter-out tools/kvtool%,$(wildcard tools/*.c))
SUPPORT_SRC := $(wildcard tests/support/*.c)

obj = $(patsubst %.c,$(B)/%.o,$(1))
KV_OBJ := $(call obj,$(KV_SRC))
TS_OBJ := $(call obj,$(TS_SRC))
HTTP_OBJ := $(call obj,$(HTTP_SRC))
# An archive, so that a layer's tests link only the helpers they use and not the layers above.
SUPPORT_OBJ := $(B)/tests/libsupport.a

KVTOOL := $(if $(wildcard tools/kvtool.c),$(B)/kvtool)
SERVER := $(if $(wildcard tools/server_main.c),$(B)/tidemark)
LIBS   := $(B)/libkvcore.a $(B)/libkvcore.so $(B)/libtidemark.a $(B)/libtidemark.so

.DEFAULT_GOAL := all
.PHONY: all help deps run test test-unit check-long check-model check-model-samples check-seeded check-neon check-e2e check-asan check-tsan lint fuzz cov cov-kvcore bench-server bench-scrapes bench-churn bench-recovery bench-kill9 bench-kv bench-codec bench-parts install clean FORCE

all: $(SERVER) $(KVTOOL) $(LIBS) ## build the server, the tools and the libraries (MODE=release: also linked as build/NAME)
	$(Q)mkdir -p build
	$(Q)if [ "$(MODE)" = release ]; then for f in $^; do ln -sf release/$${f##*/} build/$${f##*/}; done; fi

help: ## this list
	@sed -n 's/^\([a-z][a-z0-9 -]*\):.*## \(.*\)/\1|\2/p' $(MAKEFILE_LIST) | sort | while IFS='|' read -r t h; do printf '  %-14s %s\n' "$$t" "$$h"; done

# ---- objects, libraries, programs

$(B)/%.o: %.c
	@mkdir -p $(@D)
	$(if $(V),,@echo "  CC  $<")
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) -MMD -MP -c $< -o $@

$(B)/libkvcore.a: $(KV_OBJ)
$(B)/libtidemark.a: $(KV_OBJ) $(TS_OBJ)
$(B)/tests/libsupport.a: $(call obj,$(SUPPORT_SRC))
$(B)/tests/libhttp.a: $(HTTP_OBJ)
%.a:
	$(if $(V),,@echo "  AR  $@")
	@mkdir -p $(@D)
	$(Q)rm -f $@ && $(AR) rcs $@ $^

$(B)/libkvcore.so: $(KV_OBJ)
	$(Q)$(CC) -shared $(if $(filter asan tsan,$(MODE)),,-Wl,-z,defs) -Wl,-soname,libkvcore.so.0 $(LDFLAGS) $^ -o $@ $(KV_LIBS)
$(B)/libtidemark.so: $(KV_OBJ) $(TS_OBJ)
	$(Q)$(CC) -shared $(if $(filter asan tsan,$(MODE)),,-Wl,-z,defs) -Wl,-soname,libtidemark.so.0 $(LDFLAGS) $^ -o $@ $(TS_LIBS)

$(B)/tidemark: $(call obj,$(SERVER_SRC)) $(HTTP_OBJ) $(TS_OBJ) $(KV_OBJ)
	$(if $(V),,@echo "  LD  $@")
	$(Q)$(CC) $(LDFLAGS) $^ -o $@ $(ALL_LIBS)
$(B)/kvtool: $(call obj,$(KVTOOL_SRC)) $(KV_OBJ)
	$(if $(V),,@echo "  LD  $@")
	$(Q)$(CC) $(LDFLAGS) $^ -o $@ $(KV_LIBS)

# ---- dependencies, run

deps: ## install the Debian packages; does nothing when they are there
	$(Q)sh tools/deps.sh $(DEPS)
deps-%:
	$(Q)sh tools/deps.sh $(DEPS) $(DEPS_$(shell echo $* | tr a-z- A-Z_))

run: deps ## deps, build, serve ./data on 127.0.0.1:9430
	$(Q)$(MAKE) --no-print-directory all
	$(Q)exec build/tidemark serve

# ---- tests. tests/LAYER/*.c is one Criterion program; tests/{crash,stress,fuzz}/*.c are programs of their own.

LAYERS := $(foreach l,kvcore tsdb http tools,$(if $(wildcard tests/$(l)/*.c),$(l)))
UNIT := $(foreach l,$(LAYERS),$(B)/tests/unit-$(l))
TEST_OBJ_kvcore := $(KV_OBJ)
TEST_OBJ_tsdb := $(TS_OBJ) $(KV_OBJ)
TEST_OBJ_http := $(HTTP_OBJ) $(TS_OBJ) $(KV_OBJ)
TEST_OBJ_tools := $(filter-out %/server_main.o,$(call obj,$(SERVER_SRC))) $(HTTP_OBJ) $(TS_OBJ) $(KV_OBJ)
define unit_rule
$(B)/tests/unit-$(1): $$(call obj,$$(wildcard tests/$(1)/*.c)) $$(SUPPORT_OBJ) $$(TEST_OBJ_$(1))
	$$(if $$(V),,@echo "  LD  $$@")
	@mkdir -p $$(@D)
	$$(Q)$$(CC) $$(LDFLAGS) $$^ -o $$@ -lcriterion $$(ALL_LIBS)
endef
$(foreach l,$(LAYERS),$(eval $(call unit_rule,$(l))))

PROGRAM_SRC := $(filter-out bench/kv_%,$(wildcard tests/crash/*.c tests/stress/*.c bench/*.c))
PROGRAMS := $(patsubst %.c,$(B)/%,$(PROGRAM_SRC))
$(PROGRAMS): $(B)/%: $(B)/%.o $(SUPPORT_OBJ) $(B)/tests/libhttp.a $(B)/libtidemark.a
	$(if $(V),,@echo "  LD  $@")
	$(Q)$(CC) $(LDFLAGS) $^ -o $@ $(ALL_LIBS)

# Random lives of a database beside a naive model: one program of all of tests/model.
KV_MODEL := $(B)/tests/model/kv_model
$(KV_MODEL): $(call obj,$(wildcard tests/model/*.c)) $(SUPPORT_OBJ) $(B)/libkvcore.a
	$(if $(V),,@echo "  LD  $@")
	$(Q)$(CC) $(LDFLAGS) $^ -o $@ $(KV_LIBS)

# The same of the store of samples.
SAMPLES_MODEL := $(B)/tests/model/samples/samples_model
$(SAMPLES_MODEL): $(call obj,$(wildcard tests/model/samples/*.c)) $(call obj,tests/model/history.c tests/model/child.c) $(SUPPORT_OBJ) $(B)/libtidemark.a
	$(if $(V),,@echo "  LD  $@")
	$(Q)$(CC) $(LDFLAGS) $^ -o $@ $(TS_LIBS)

# kvcore beside other stores: one program with all their libraries, and one in Go. Only bench-kv builds them.
KV_BENCH := $(B)/bench/kv_bench $(B)/bench/kv_bench_badger
$(B)/bench/kv_bench: $(call obj,$(wildcard bench/kv_*.c)) $(B)/libtidemark.a
	$(if $(V),,@echo "  LD  $@")
	$(Q)$(CC) $(LDFLAGS) $^ -o $@ -lrocksdb -lleveldb -llmdb -lwiredtiger $(KV_LIBS)
$(B)/bench/kv_bench_badger: bench/badger/main.go
	$(if $(V),,@echo "  GO  $@")
	$(Q)GOPATH=/usr/share/gocode GO111MODULE=off GOCACHE=$(abspath $(B))/bench/go go build -o $@ $<

# The PromQL conformance runner as a program, for reading its report: build/MODE/tests/promql/promqltest_main -v FILE...
PROMQLTEST := $(patsubst %.c,$(B)/%,$(wildcard tests/promql/*_main.c))
$(PROMQLTEST): $(B)/%: $(B)/%.o $(call obj,$(wildcard tests/tsdb/promqltest*.c)) $(B)/libtidemark.a
	$(if $(V),,@echo "  LD  $@")
	$(Q)$(CC) $(LDFLAGS) $^ -o $@ $(ALL_LIBS)

FUZZ_SRC := $(wildcard tests/fuzz/fuzz_*.c)
REPLAY := $(patsubst tests/fuzz/fuzz_%.c,$(B)/tests/fuzz/replay_%,$(FUZZ_SRC))
$(REPLAY): $(B)/tests/fuzz/replay_%: $(B)/tests/fuzz/fuzz_%.o $(B)/tests/fuzz/replay_main.o $(SUPPORT_OBJ) $(B)/tests/libhttp.a $(B)/libtidemark.a
	$(Q)$(CC) $(LDFLAGS) $^ -o $@ $(ALL_LIBS)

test: deps ## deps, build and the whole test suite
	$(Q)$(MAKE) --no-print-directory test-unit

test-unit: all $(UNIT) $(REPLAY) $(PROGRAMS) $(KV_MODEL) $(SAMPLES_MODEL) $(PROMQLTEST) ## the test suite without installing anything
	$(Q)sh tests/run.sh $(B)

check-asan: ## the suite under AddressSanitizer and UBSan
	$(Q)$(MAKE) --no-print-directory MODE=asan test-unit
check-tsan: ## the concurrent scenarios of tests/stress under ThreadSanitizer
	$(Q)$(MAKE) --no-print-directory MODE=tsan stress
stress: $(patsubst %.c,$(B)/%,$(wildcard tests/stress/*.c))
	$(Q)sh tests/stress/run.sh $(B)
check-e2e: deps-bench all ## five minutes beside a real Prometheus: the same answers
	$(Q)PROMETHEUS_SECONDS=300 sh tests/e2e/test_prometheus.sh $(B)
check-long: all $(UNIT) $(PROGRAMS) $(KV_MODEL) $(SAMPLES_MODEL) ## every case of the crash and fault sweeps, hundreds of kills, ten million operations beside each model
	$(Q)sh tests/crash/long.sh $(B)
	$(Q)$(MAKE) --no-print-directory check-model MODEL_OPS=10000000
	$(Q)$(MAKE) --no-print-directory check-model-samples SAMPLES_MODEL_OPS=10000000
# Of them a tenth under 24 option sets each and a tenth with background workers. MODEL_SEED=N: other ones.
MODEL_OPS ?= 100000000
MODEL_SEED ?= 1
check-model: $(KV_MODEL) ## random operations beside a naive model of kvcore (MODEL_OPS=100000000, MODEL_SEED=1)
	$(Q)sh tests/model/long.sh $(B) $(MODEL_OPS) $(MODEL_SEED)
SAMPLES_MODEL_OPS ?= 20000000
check-model-samples: $(SAMPLES_MODEL) ## random operations beside a naive store of samples (SAMPLES_MODEL_OPS=20000000, MODEL_SEED=1)
	$(Q)sh tests/model/samples/long.sh $(B) $(SAMPLES_MODEL_OPS) $(MODEL_SEED)

check-neon: ## the suites of chunks built for AArch64 and run by qemu (gcc-aarch64-linux-gnu, qemu-user): NEON's kernels give the same bits
	$(Q)sh tests/cross/run.sh $(B)
check-seeded: ## bugs that stores of this design once had, planted one by one: the suite catches each
	$(Q)sh tests/seeded/run.sh

# Fuzzing needs clang: FUZZ_SECONDS for each target, FUZZ=name for one.
FUZZ_SECONDS ?= 60
fuzz: ## libFuzzer on every byte parser (FUZZ=name, FUZZ_SECONDS=60)
	$(Q)sh tests/fuzz/run.sh "$(FUZZ)" "$(FUZZ_SECONDS)"

cov: ## line and branch coverage of the suite by folder, assertions' branches left out
	$(Q)$(MAKE) --no-print-directory MODE=cov test-unit && python3 tests/cov.py build/cov
cov-kvcore: ## the same of kvcore by file, from its own unit suite and model test
	$(Q)find build/cov/kvcore -name '*.gcda' -delete 2>/dev/null; true
	$(Q)$(MAKE) --no-print-directory MODE=cov build/cov/tests/unit-kvcore build/cov/tests/model/kv_model
	$(Q)build/cov/tests/unit-kvcore --verbose=0 -j2 >build/cov/unit-kvcore.out 2>&1 || { tail -n 30 build/cov/unit-kvcore.out; exit 1; }
	$(Q)sh tests/model/test_kv_model.sh build/cov >build/cov/kv_model.out 2>&1 || { tail -n 30 build/cov/kv_model.out; exit 1; }
	$(Q)python3 tests/cov.py build/cov kvcore

lint: deps-lint ## warnings, clang-format, clang-tidy, cppcheck, and the tidy script
	$(Q)sh tools/tidy.sh

bench-server: deps-bench all $(PROGRAMS) ## ingest, disk, memory, queries beside VictoriaMetrics and Prometheus
	$(Q)python3 bench/server.py $(B)
bench-scrapes: deps-bench all ## bytes a sample of an hour of node_exporter's scrapes beside VictoriaMetrics (SCRAPES=FILE keeps them)
	$(Q)python3 bench/scrapes.py $(B) $(if $(SCRAPES),--file $(SCRAPES))
bench-churn: deps-bench all $(PROGRAMS) ## every series replaced every ten minutes of sample time, beside none (DAYS=1; 7 is the target's week)
	$(Q)python3 bench/churn.py $(B) --days $(or $(DAYS),1)
bench-recovery: all $(PROGRAMS) ## ready after kill -9 with ten million samples in the log
	$(Q)python3 bench/recovery.py $(B)
bench-kill9: deps-bench all $(PROGRAMS) ## what each server still has of answered samples after kill -9
	$(Q)python3 bench/kill9_peer.py $(B)
bench-codec: $(B)/bench/bench_codec ## chunks: bytes a sample, CPU time of writing and reading them
	$(Q)$(B)/bench/bench_codec
bench-parts: all $(PROGRAMS) ## the engine's parts alone: one table
	$(Q)for b in $(wildcard bench/bench_*.c); do $(B)/$${b%.c} || exit 1; done
# SIZE=quick: minutes instead of the better part of an hour; long: medians of three rounds.
SIZE ?= full
bench-kv: deps-bench-kv ## kvcore beside RocksDB, LevelDB, LMDB, WiredTiger, BadgerDB (SIZE=quick|full|long)
	$(Q)$(MAKE) --no-print-directory all $(KV_BENCH)
	$(Q)python3 bench/kv.py --size $(SIZE) $(B)/bench

install: all ## DESTDIR= PREFIX=
	$(Q)sh tools/install.sh "$(B)" "$(DESTDIR)" "$(PREFIX)" "$(VERSION)"

clean: ## remove build/
	rm -rf build

-include $(shell find $(B) -name '*.d' 2>/dev/null)
