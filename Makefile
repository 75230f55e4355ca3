# ct2mr: one non-recursive Makefile. `make help` lists the targets.
#
# Variants build side by side in build/<variant>/: release (default), asan, ubsan, tsan, werror,
# clang. Sources are found by folder: a new .c or .cc file needs no line here.

VARIANT ?= release
PREFIX ?= /usr/local
DESTDIR ?=
B := build/$(VARIANT)
MODULES := base dicom gpu registration db pipeline daemon

VERSION := 0.1.0
CC ?= gcc
CXX ?= g++
ifneq ($(filter clang fuzz,$(VARIANT)),)
CC := clang
CXX := clang++
endif

WARN := -Wall -Wextra -Wpedantic -Wshadow -Wvla -Wformat=2 -Wundef -Wdouble-promotion
WARN_C := $(WARN) -Wconversion -Wstrict-prototypes -Wmissing-prototypes
# DCMTK's headers are not clean under -Wconversion.
WARN_CXX := $(filter-out -Wundef -Wpedantic -Wshadow,$(WARN))
OPT_release := -O2
OPT_werror := -O2 -Werror
OPT_clang := -O2 -Werror
OPT_asan := -O1 -fsanitize=address,undefined -fno-omit-frame-pointer -fno-sanitize-recover=undefined
OPT_ubsan := -O1 -fsanitize=undefined -fno-sanitize-recover=undefined
OPT_tsan := -O1 -fsanitize=thread
OPT_fuzz := -O1 -fsanitize=address,undefined,fuzzer-no-link -fno-sanitize-recover=undefined
OPT := $(OPT_$(VARIANT))
ifeq ($(OPT),)
$(error unknown VARIANT $(VARIANT))
endif

CPPFLAGS += -I. -isystem /usr/include/nifti -D_GNU_SOURCE -DCT2MR_VERSION='"$(VERSION)"'
COMMON := -g $(OPT) -fno-common -ffp-contract=off -pthread -MMD -MP
CFLAGS += -std=c17 $(COMMON) $(WARN_C)
CXXFLAGS += -std=c++17 $(COMMON) $(WARN_CXX)
LDFLAGS += -pthread $(filter -fsanitize%,$(OPT))

LIBS_DCMTK := -ldcmjpls -ldcmtkcharls -ldcmjpeg -ldcmnet -ldcmimgle -ldcmdata -loflog -lofstd
LIBS_BASE := -lcrypto -lm
# The daemon links neither DCMTK nor oneDNN: it cannot compute or parse pixels even by mistake.
LIBS_ct2mrd := -luv -lsqlite3 -lyaml -lcjson $(LIBS_BASE)
EXPORTS := -Wl,--dynamic-list=gpu/plugin.syms
LIBS_ct2mr := $(LIBS_DCMTK) -ldnnl -lgsl -lgslcblas -lniftiio -lznz -lpng -larchive -lplist-2.0 -lz $(LIBS_ct2mrd)

# The CUDA backend is a plugin of its own files; GPU=auto builds it where nvcc and cuDNN are.
GPU ?= auto
CUDA_HOME ?= /usr/local/cuda
NVCC := $(firstword $(wildcard $(CUDA_HOME)/bin/nvcc) $(shell command -v nvcc 2>/dev/null))
CUDNN_H := $(firstword $(wildcard $(CUDA_HOME)/include/cudnn.h /usr/include/cudnn.h))
CUDA_LIB := $(patsubst %,-L%,$(wildcard $(CUDA_HOME)/lib64 $(CUDA_HOME)/lib))
HAVE_CUDA := $(if $(filter 0,$(GPU)),,$(if $(NVCC),$(if $(CUDNN_H),1)))
ifeq ($(GPU)$(HAVE_CUDA),1)
$(error GPU=1, but nvcc or cudnn.h is not to be found below CUDA_HOME=$(CUDA_HOME))
endif
CUDA_SRC := $(sort $(wildcard gpu/cuda_*.c) gpu/backend_cuda.c)
KERNEL_SRC := $(sort $(wildcard gpu/cuda_*.cu))
CUDA_ARCHS := 75 80 86 89 90 100 120
CUDA_GENCODE := $(foreach a,$(CUDA_ARCHS),-gencode arch=compute_$a,code=sm_$a) \
                -gencode arch=compute_120,code=compute_120

SRC_C := $(filter-out $(CUDA_SRC),$(sort $(foreach m,$(MODULES),$(wildcard $(m)/*.c))))
SRC_CXX := $(sort $(foreach m,$(MODULES),$(wildcard $(m)/*.cc)))
MAINS := daemon/ct2mrd.c daemon/ct2mr.c
LIB_SRC := $(filter-out $(MAINS),$(SRC_C) $(SRC_CXX))
LIB_OBJ := $(addprefix $(B)/,$(addsuffix .o,$(basename $(LIB_SRC))))
EMULATOR_SRC := $(sort $(wildcard tests/cuda_*.c))
TEST_SRC := $(filter-out $(EMULATOR_SRC),$(sort $(wildcard tests/*.c)))
TEST_OBJ := $(addprefix $(B)/,$(TEST_SRC:.c=.o))
E2E := $(sort $(wildcard tests/e2e/test_*.sh))
LIB := $(B)/libct2mr.a
PROGRAMS := $(B)/ct2mrd $(B)/ct2mr
# Sanitizers have no say in the real plugin: it needs a GPU to run. The emulated one is for tests.
PLUGIN := $(if $(HAVE_CUDA),$(if $(filter release werror clang,$(VARIANT)),$(B)/ct2mr_cuda.so))
EMULATED := $(if $(HAVE_CUDA),$(B)/tests/plugin/ct2mr_cuda.so)

# Files whose loops run over every voxel: -O3 and, on x86-64 gcc, clones per instruction set.
HOT := gpu/train_ref_ops gpu/train_lines gpu/train_loop_norm gpu/train_loop_shape gpu/train_loop_taps registration/resample registration/metric registration/walk registration/moments \
       registration/mutual registration/bias registration/pyramid pipeline/watershed \
       pipeline/distance pipeline/filter pipeline/window \
       gpu/loss_contextual gpu/optimizer \
       gpu/augment_sample gpu/augment_hu
$(addprefix $(B)/,$(addsuffix .o,$(HOT))): CFLAGS += $(if $(filter release werror clang,$(VARIANT)),-O3)

.PHONY: all help deps test demo demo-model check bench install clean asan ubsan tsan format cuda-note
all: cuda-note $(PROGRAMS) $(PLUGIN)

help:
	@echo "make            programs in build/release"
	@echo "make deps       install the missing Debian packages (as root or with sudo)"
	@echo "make demo       install packages, build, run the whole job on a real head CT"
	@echo "make demo-model [MINUTES=N]  train the demonstration model anew on a simulated head"
	@echo "make test       install packages, build, all tests"
	@echo "make check      format, warnings as errors (gcc, clang), cppcheck, shellcheck, layout rules"
	@echo "make asan|ubsan|tsan ONLY=WORD,WORD   the unit tests under a sanitizer"
	@echo "make gpu-plans  cuDNN plans of every convolution for 8 GPUs and 5 batch sizes (no GPU needed)"
	@echo "make fuzz F=model FUZZ_S=300   clang's libFuzzer on a reader, for so many seconds"
	@echo "make bench-registration  errors and times of the registration beside elastix"
	@echo "make bench      rates and times beside named peers (alone: make bench-network; a GPU: bench-gpu)"
	@echo "make bench-mask the masks beside ITK, scikit-image and a threshold method"
	@echo "make install DESTDIR= PREFIX=/usr/local"
	@echo "GPU=auto|0|1 CUDA_HOME=/usr/local/cuda   whether the CUDA backend is built"

deps:
	@sh .ci/deps

cuda-note:
ifeq ($(HAVE_CUDA),1)
	@echo "note: inference backends in this build: reference C, oneDNN (CPU), CUDA (ct2mr_cuda.so)."
else
	@echo "note: inference backends in this build: reference C, oneDNN (CPU). Left out: CUDA$(if \
	    $(filter 0,$(GPU)), (GPU=0),; it needs nvcc and cudnn.h below CUDA_HOME=$(CUDA_HOME))."
endif

# What failed may be a missing package: then say how to get it.
OR_HINT = || { sh .ci/deps --hint; exit 1; }

$(B)/%.o: %.c
	@mkdir -p $(@D)
	@echo "  CC  $@"; $(CC) $(CPPFLAGS) $(CFLAGS) -c $< -o $@ $(OR_HINT)
$(B)/%.o: %.cc
	@mkdir -p $(@D)
	@echo "  CXX $@"; $(CXX) $(CPPFLAGS) $(CXXFLAGS) -c $< -o $@ $(OR_HINT)

# The plugin: C as everywhere, position independent; kernels by nvcc, or for the host in tests.
$(B)/plugin/%.o: %.c
	@mkdir -p $(@D)
	@echo "  CC  $@"; $(CC) $(CPPFLAGS) -isystem $(dir $(CUDNN_H)) -isystem $(CUDA_HOME)/include \
	    $(CFLAGS) -fPIC -fvisibility=hidden -c $< -o $@
$(B)/plugin/%.o: %.cu gpu/cuda_kernels.h gpu/cuda_device.h
	@mkdir -p $(@D)
	@echo "  NVCC $@"; $(NVCC) -std=c++17 -O2 -I. $(CUDA_GENCODE) -Xptxas -warn-spills,-warn-lmem-usage \
	    -Werror all-warnings \
	    -Xcompiler -fPIC,-fvisibility=hidden,-fno-threadsafe-statics,-fno-exceptions -c $< -o $@
$(B)/plugin/%_host.o: %.cu gpu/cuda_kernels.h gpu/cuda_device.h gpu/cuda_host.h
	@mkdir -p $(@D)
	@echo "  CXX $@"; $(CXX) $(CPPFLAGS) -isystem $(CUDA_HOME)/include $(CXXFLAGS) -fPIC \
	    -fvisibility=hidden -DCUDA_ON_HOST -x c++ -c $< -o $@
PLUGIN_OBJ := $(addprefix $(B)/plugin/,$(CUDA_SRC:.c=.o))
KERNEL_OBJ := $(addprefix $(B)/plugin/,$(KERNEL_SRC:.cu=.o))
EMULATED_OBJ := $(filter-out %/cuda_api_real.o,$(PLUGIN_OBJ)) $(KERNEL_OBJ:.o=_host.o) \
                $(addprefix $(B)/plugin/,$(EMULATOR_SRC:.c=.o))
$(B)/ct2mr_cuda.so: $(PLUGIN_OBJ) $(KERNEL_OBJ)
	@echo "  LD  $@"; $(CC) $(LDFLAGS) -shared -Wl,--as-needed -o $@ $^ $(CUDA_LIB) -lcudnn -lcudart
$(B)/tests/plugin/ct2mr_cuda.so: $(EMULATED_OBJ)
	@mkdir -p $(@D)
	@echo "  LD  $@"; $(CC) $(LDFLAGS) -shared -Wl,--as-needed -Wl,--wrap=cudnnBackendGetAttribute -o $@ $^ $(CUDA_LIB) -lcudnn

$(LIB): $(LIB_OBJ)
	@rm -f $@
	@$(AR) rcs $@ $^
$(B)/ct2mrd: $(B)/daemon/ct2mrd.o $(LIB)
	@echo "  LD  $@"; $(CXX) $(LDFLAGS) -Wl,--as-needed -o $@ $< $(LIB) $(LIBS_ct2mrd) $(OR_HINT)
$(B)/ct2mr: $(B)/daemon/ct2mr.o $(LIB)
	@echo "  LD  $@"; $(CXX) $(LDFLAGS) $(EXPORTS) -Wl,--as-needed -o $@ $< $(LIB) $(LIBS_ct2mr) $(OR_HINT)
$(B)/tests/unit: $(TEST_OBJ) $(LIB) $(EMULATED)
	@echo "  LD  $@"; $(CXX) $(LDFLAGS) $(EXPORTS) -Wl,--as-needed -o $@ $(TEST_OBJ) $(LIB) $(LIBS_ct2mr)

# The packages come first, then a second make that may assume them.
test: deps
	@$(MAKE) --no-print-directory test-run
test-run: $(PROGRAMS) $(PLUGIN) $(B)/tests/unit
	$(B)/tests/unit -j $(BESIDE) $(E2E)
	@echo "again under ASan and UBSan: what reads a stranger's bytes, and the emulated GPU"
	@$(MAKE) --no-print-directory VARIANT=asan ONLY=$(HOSTILE) unit
# Tests beside each other: many wait, or use one core.
BESIDE ?= $(shell expr $$(nproc) + 1)
# `make asan` runs every unit test; that takes longer than all others here.
# Of the emulated GPU not what is cuDNN's work, or the same steps with other weights or more often.
HOSTILE := config,control,cuda,-plans_for,-plans_refuse,-wrong_layout,-cuda_training,-tests/test_train,dicom,fuzz,import,job_file,model,nifti,pack_file,prescan,receive
demo: deps
	@$(MAKE) --no-print-directory $(PROGRAMS)
	@bash tests/demo.sh $(B)
# Simulated pairs, training, report, in build/demo-model; MINUTES of training.
MINUTES ?=
demo-model: deps
	@$(MAKE) --no-print-directory $(PROGRAMS)
	@bash tests/demo_model.sh $(B) $(MINUTES)
asan ubsan tsan:
	@$(MAKE) --no-print-directory VARIANT=$@ unit
# Plans for all cards and batches, with counts; `make test` runs them, too.
gpu-plans: $(B)/tests/unit
	$(B)/tests/unit -f cuda_plans
.PHONY: test-run unit gpu-plans
unit: $(B)/tests/unit $(PROGRAMS)
	$(B)/tests/unit -j $(BESIDE) $(if $(ONLY),-f $(ONLY))

# Format, warnings as errors with both compilers, static checks, layout rules.
check: deps-check
	@$(MAKE) --no-print-directory check-run
check-run:
	clang-format --dry-run -Werror $$(git ls-files -co --exclude-standard '*.c' '*.cc' '*.h' '*.hh')
	bash tests/check_layout.sh
	shellcheck -S warning -x .ci/deps .ci/run tests/*.sh tests/e2e/*.sh tests/bench/*.sh
	cppcheck --quiet --error-exitcode=1 --std=c11 --enable=warning,performance,portability \
	    --inline-suppr --suppressions-list=tests/cppcheck.txt -I. -DCT2MR_VERSION='""' \
	    $(filter %.c,$(LIB_SRC)) $(MAINS)
	$(MAKE) --no-print-directory VARIANT=werror build/werror/tests/unit build/werror/ct2mr build/werror/ct2mrd werror-rest
	$(MAKE) --no-print-directory VARIANT=clang build/clang/tests/unit build/clang/ct2mr build/clang/ct2mrd clang-rest
	@echo "check: all clean"
deps-check:
	@sh .ci/deps clang clang-format cppcheck shellcheck git
.PHONY: check-run deps-check

install: all
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/share/ct2mr/models $(DESTDIR)/etc/ct2mr
	install -d $(DESTDIR)/lib/systemd/system $(DESTDIR)/usr/lib/sysusers.d $(DESTDIR)/usr/lib/tmpfiles.d
	install -m 755 $(PROGRAMS) $(PLUGIN) $(DESTDIR)$(PREFIX)/bin
	install -m 644 etc/models/* $(DESTDIR)$(PREFIX)/share/ct2mr/models
	sed 's|@PREFIX@|$(PREFIX)|g' systemd/ct2mrd.service >$(DESTDIR)/lib/systemd/system/ct2mrd.service
	install -m 644 systemd/ct2mrd.sysusers $(DESTDIR)/usr/lib/sysusers.d/ct2mrd.conf
	install -m 644 systemd/ct2mrd.tmpfiles $(DESTDIR)/usr/lib/tmpfiles.d/ct2mrd.conf
	@# a configuration that is there is never overwritten
	test -e $(DESTDIR)/etc/ct2mr/ct2mr.yaml || { sed 's|/usr/local/share/ct2mr|$(PREFIX)/share/ct2mr|' etc/ct2mr.yaml >$(DESTDIR)/etc/ct2mr/ct2mr.yaml && chmod 640 $(DESTDIR)/etc/ct2mr/ct2mr.yaml; }

format:
	clang-format -i $$(git ls-files -co --exclude-standard '*.c' '*.cc' '*.h' '*.hh')

# clang's libFuzzer on one reader (tests/fuzz.h). What it finds lies in build/fuzz; what is mended
# goes into tests/corpus/, which `make test` replays without clang.
F ?= model
FUZZ_S ?= 300
fuzz:
	@sh .ci/deps clang libclang-rt-14-dev
	@$(MAKE) --no-print-directory VARIANT=fuzz fuzz-run
fuzz-run: $(B)/fuzz_$(F)
	@mkdir -p $(B)/corpus-$(F)
	$(B)/fuzz_$(F) -max_total_time=$(FUZZ_S) -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 \
	    -artifact_prefix=$(B)/ -dict=tests/corpus/$(F).dict $(B)/corpus-$(F) tests/corpus/$(F)
$(B)/tests/fuzz/main_$(F).o: tests/fuzz/main.c tests/fuzz.h
	@mkdir -p $(@D)
	@$(CC) $(CPPFLAGS) $(CFLAGS) -DFUZZ_TARGET=fuzz_$(F) -c $< -o $@
$(B)/fuzz_$(F): $(B)/tests/fuzz/main_$(F).o $(B)/tests/fuzz_$(F).o $(LIB)
	@echo "  LD  $@"; $(CXX) -pthread -fsanitize=fuzzer,address,undefined $(EXPORTS) -Wl,--as-needed \
	    -o $@ $^ $(LIBS_ct2mr)
.PHONY: fuzz fuzz-run

# Figures beside named peers; never part of a test.
BENCH := $(B)/tests/bench_receive $(B)/tests/big_series $(B)/tests/bench_network $(B)/tests/bench_mask \
         $(B)/tests/bench_train
$(B)/tests/bench_receive: $(B)/tests/bench/bench_receive.o $(B)/tests/dicom_peer.o $(LIB)
	@echo "  LD  $@"; $(CXX) $(LDFLAGS) -Wl,--as-needed -o $@ $^ $(LIBS_ct2mr)
$(B)/tests/big_series: $(B)/tests/bench/big_series.o $(LIB)
	@echo "  LD  $@"; $(CXX) $(LDFLAGS) -Wl,--as-needed -o $@ $^ $(LIBS_ct2mr)
# Its peak loop is to be multiply-adds; nothing of the product is built so.
$(B)/tests/bench/bench_network.o: CFLAGS += -O3 -ffp-contract=fast
$(B)/tests/bench_network: $(B)/tests/bench/bench_network.o $(B)/tests/bench/bench_fail.o $(B)/tests/model_file.o $(LIB)
	@echo "  LD  $@"; $(CXX) $(LDFLAGS) -Wl,--as-needed -o $@ $^ $(LIBS_ct2mr)
$(B)/tests/bench_mask: $(B)/tests/bench/bench_mask.o $(B)/tests/head_phantom.o $(LIB)
	@echo "  LD  $@"; $(CXX) $(LDFLAGS) -Wl,--as-needed -o $@ $^ $(LIBS_ct2mr)
BENCH += $(B)/tests/bench_registration
$(B)/tests/bench_registration: $(B)/tests/bench/bench_registration.o $(LIB)
	@echo "  LD  $@"; $(CXX) $(LDFLAGS) -Wl,--as-needed -o $@ $^ $(LIBS_ct2mr)
# A peer for bench-mask alone; nothing else needs ITK.
$(B)/tests/itk_flood: tests/bench/itk_flood.cc
	@mkdir -p $(@D)
	@echo "  CXX $@"; $(CXX) -std=c++17 -O2 -w $(addprefix -isystem ,$(wildcard /usr/include/ITK-5.*)) \
	    $< -o $@ -lITKCommon-5.2 -litksys-5.2 -litkvnl_algo-5.2 -litkvnl-5.2 -lpthread -ldl
$(B)/tests/bench_train: $(B)/tests/bench/bench_train.o $(B)/tests/bench/bench_fail.o $(B)/tests/model_file.o $(LIB)
	@echo "  LD  $@"; $(CXX) $(LDFLAGS) $(EXPORTS) -o $@ $^ $(LIBS_ct2mr) # all of them: the plugin wants some
werror-rest clang-rest: $(PLUGIN) $(BENCH)
.PHONY: werror-rest clang-rest

bench: deps
	@sh .ci/deps time
	@$(MAKE) --no-print-directory $(PROGRAMS) $(BENCH)
	@bash tests/bench/bench.sh $(B)

bench-network: deps
	@sh .ci/deps time
	@$(MAKE) --no-print-directory $(PROGRAMS) $(B)/tests/bench_network
	@bash tests/bench/bench_network.sh $(B)

# On a machine with a GPU: BATCHES= slices at a time.
bench-gpu: deps
	@$(MAKE) --no-print-directory $(PROGRAMS) $(PLUGIN) $(B)/tests/bench_network $(B)/tests/bench_train
	@bash tests/bench/bench_gpu.sh $(B)

# SEED=, CASES= choose the cases; without ../shared it says so and measures nothing.
bench-registration: deps
	@sh .ci/deps time elastix python3-nibabel python3-scipy
	@$(MAKE) --no-print-directory $(PROGRAMS) $(BENCH)
	@bash tests/bench/registration.sh $(B)

bench-mask: deps
	@sh .ci/deps libinsighttoolkit5-dev python3-skimage
	@$(MAKE) --no-print-directory $(B)/tests/bench_mask $(B)/tests/itk_flood
	@bash tests/bench/bench_mask.sh $(B)
.PHONY: bench-network bench-gpu bench-registration bench-mask

clean:
	rm -rf build

-include $(PLUGIN_OBJ:.o=.d) $(EMULATED_OBJ:.o=.d) $(LIB_OBJ:.o=.d) $(TEST_OBJ:.o=.d) $(B)/daemon/ct2mrd.d $(B)/daemon/ct2mr.d \
    $(B)/tests/bench/bench_receive.d $(B)/tests/bench/big_series.d $(B)/tests/bench/bench_network.d $(B)/tests/bench/bench_mask.d \
    $(B)/tests/bench/bench_train.d
