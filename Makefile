# SPDX-License-Identifier: GPL-2.0-or-later
#
# `make help` lists the targets. All that is built goes to build/; the source tree stays as it is.

VERSION := 0.1.0

# Where to build: `make BUILD=build/asan CFLAGS='-O1 -g -fsanitize=address' programs` stands beside the rest.
BUILD  ?= build
PREFIX ?= /usr
CFLAGS ?= -O2 -g -fstack-protector-strong -D_FORTIFY_SOURCE=2

# A warning stops the build in a checkout, where someone can mend it, and not in a release's tree.
WERROR ?= $(if $(wildcard .git),1)

# Every kernel whose headers are installed, and those of the tests' own once they were made, each with a root of its own.
made_release   = $(if $(wildcard $(BUILD)/$1/built),$(notdir $(wildcard $(BUILD)/$1/root/lib/modules/*)))
debug_release := $(call made_release,debug-kernel)
uml_release   := $(call made_release,uml)
KERNELS ?= $(strip $(patsubst /lib/modules/%/build/Makefile,%,$(wildcard /lib/modules/*/build/Makefile)) \
	$(debug_release) $(uml_release))

# RELEASE: where its modules are built, and what else make has to be told.
kernel_root = $(if $(filter $(debug_release),$1),$(BUILD)/debug-kernel/root)$(if $(filter $(uml_release),$1),$(BUILD)/uml/root)
kernel_tree = $(kernel_root)/lib/modules/$1/build
kernel_arch = $(if $(filter $(uml_release),$1),ARCH=um)

MAKEFLAGS += --no-builtin-rules
.SUFFIXES:
.DELETE_ON_ERROR:

.PHONY: all
all: modules programs

##@ Building
##: all              everything (default)
##: modules          the kernel modules, for every kernel whose headers are installed
##: programs         daemon, test tools and unit tests

# --- Modules ---------------------------------------------------------------------------------------------
#
# kbuild writes beside the sources, so each kernel gets a mirror of them. Only what differs is copied, for
# kbuild goes by the files' times.

module_sources := $(shell find kernel include -type f 2> /dev/null)

.PHONY: modules
modules: $(if $(wildcard kernel/Kbuild),$(KERNELS:%=$(BUILD)/modules/%/.built))
	@[ -n "$(KERNELS)" ] || { echo "No kernel headers are installed: run tests/packages," \
		"or apt install linux-headers-$$(uname -r)" >&2; exit 1; }

.SECONDEXPANSION:
$(BUILD)/modules/%/.built: $(module_sources) $$(call kernel_tree,$$*)/Makefile
	@mkdir -p $(BUILD)/obj/$* $(@D)
	@for file in $(module_sources); do \
		cmp -s $$file $(BUILD)/obj/$*/$$file || cp --parents $$file $(BUILD)/obj/$*/ || exit; \
	done
	$(if $(V),,@)+$(MAKE) -C $(call kernel_tree,$*) $(call kernel_arch,$*) M=$(abspath $(BUILD)/obj/$*/kernel) \
		$(if $(WERROR),KCFLAGS=-Werror) --no-print-directory modules
	@for module in $(BUILD)/obj/$*/kernel/*.ko; do \
		cmp -s $$module $(@D)/$${module##*/} || cp $$module $(@D)/ || exit; \
	done
	@touch $@

# --- Programs --------------------------------------------------------------------------------------------

all_cflags := -std=c11 -D_GNU_SOURCE -DREPAGENT_VERSION='"$(VERSION)"' \
	-Wall -Wextra -Wstrict-prototypes -Wmissing-prototypes $(if $(WERROR),-Werror) \
	-Iinclude/uapi -Iuserspace -MMD -MP $(CFLAGS)
obj := $(BUILD)/obj/user
objects = $(patsubst %.c,$(obj)/%.o,$(wildcard $(1)))

# What the daemon is made of, but for its main(): the unit tests link with that.
repagentd_objects := $(call objects,userspace/repagentd/*.c userspace/common/*.c)
repagentd_main    := $(filter %/repagentd/main.o,$(repagentd_objects))
common_needs      := devmapper inih json-c libisal libzstd
repagentd_needs   := libnbd gnutls libsystemd $(common_needs)
tool_objects      := $(call objects,tests/tools/lib*.c)
unit_objects      := $(call objects,$(filter-out tests/unit/test-%,$(wildcard tests/unit/*.c)))

# The NBD server library, the reader in front of it but for its main(), and programs that test them.
nbdserver_objects := $(call objects,userspace/nbdserver/*.c)
nbdserver_needs   := gnutls libaio
nbdserver_libs    := -lgnutls -laio -lpthread
reader_objects    := $(call objects,userspace/reader/*.c userspace/common/*.c)
reader_main       := $(filter %/reader/main.o,$(reader_objects))
reader_needs      := libsystemd devmapper

# The command line; what is dirty it learns as the reader does.
repctl_objects    := $(call objects,userspace/repctl/*.c userspace/common/*.c userspace/reader/volumes.c)
repctl_main       := $(filter %/repctl/main.o,$(repctl_objects))
repctl_needs      := libnbd gnutls $(common_needs)

# The hub: its engine, and the NBD server in front of it.
rephub_objects    := $(call objects,userspace/rephub/*.c userspace/common/*.c userspace/reader/access.c \
	userspace/repagentd/control.c userspace/repctl/json.c)
rephub_main       := $(filter %/rephub/main.o,$(rephub_objects))
rephub_needs      := libsystemd libisal libzstd json-c
rephubctl_objects := $(call objects,userspace/rephubctl/*.c userspace/common/*.c userspace/repctl/json.c \
	userspace/repctl/table.c)
rephubctl_main    := $(filter %/rephubctl/main.o,$(rephubctl_objects))
nbd_tools         := $(patsubst tests/nbdserver/%.c,%,$(wildcard tests/nbdserver/*.c))

# The random model of the write-intent map stands alone; the fault runs read the map as repctl does.
model_objects     := $(call objects,tests/model/*.c)
faults_objects    := $(call objects,tests/uml/*.c userspace/repctl/mapimage.c)

tools := $(patsubst tests/tools/%.c,%,$(filter-out tests/tools/lib%,$(wildcard tests/tools/*.c)))
units := $(patsubst tests/unit/%.c,%,$(wildcard tests/unit/test-*.c))

# Each tests/fuzz/fuzz-NAME.c is a libFuzzer target, and links with whatever it needs of the programs.
fuzzers := $(patsubst tests/fuzz/%.c,%,$(wildcard tests/fuzz/fuzz-*.c))

.PHONY: programs repagentd repagent-reader repctl rephub rephubctl tools unit model faults
programs: repagentd repagent-reader repctl rephub rephubctl tools unit model faults
repagentd: $(if $(repagentd_main),$(BUILD)/bin/repagentd)
repagent-reader: $(if $(reader_main),$(BUILD)/bin/repagent-reader)
repctl: $(if $(repctl_main),$(BUILD)/bin/repctl)
rephub: $(if $(rephub_main),$(BUILD)/bin/rephub)
rephubctl: $(if $(rephubctl_main),$(BUILD)/bin/rephubctl)
tools: $(tools:%=$(BUILD)/bin/tests/%) $(nbd_tools:%=$(BUILD)/bin/tests/%) $(BUILD)/bin/tests/pullhub $(BUILD)/bin/tests/hubbench \
	$(BUILD)/bin/tests/hubcut $(BUILD)/bin/tests/cutshim.so
unit: $(units:%=$(BUILD)/bin/tests/unit/%)
model: $(BUILD)/bin/tests/model/test-map
faults: $(BUILD)/bin/tests/umlfaults

$(BUILD)/bin/repagentd: $(repagentd_main) $(obj)/repagentd.a
	$(link) $$(pkg-config --libs $(repagentd_needs))

$(BUILD)/bin/repagent-reader: $(reader_main) $(obj)/reader.a $(obj)/nbdserver.a
	$(link) $$(pkg-config --libs $(reader_needs)) $(nbdserver_libs)

$(BUILD)/bin/repctl: $(repctl_main) $(obj)/repctl.a
	$(link) $$(pkg-config --libs $(repctl_needs)) -lpthread

$(BUILD)/bin/rephub: $(rephub_main) $(obj)/rephub.a $(obj)/nbdserver.a
	$(link) $$(pkg-config --libs $(rephub_needs)) $(nbdserver_libs)

$(BUILD)/bin/rephubctl: $(rephubctl_main) $(obj)/rephubctl.a
	$(link) $$(pkg-config --libs json-c)

$(obj)/nbdserver.a: $(nbdserver_objects)
$(obj)/rephub.a: $(filter-out $(rephub_main),$(rephub_objects))
$(obj)/rephubctl.a: $(filter-out $(rephubctl_main),$(rephubctl_objects))
$(obj)/repctl.a: $(filter-out $(repctl_main),$(repctl_objects))
$(obj)/reader.a: $(filter-out $(reader_main),$(reader_objects))
$(obj)/repagentd.a: $(filter-out $(repagentd_main),$(repagentd_objects))
$(obj)/tools.a: $(tool_objects)
$(obj)/unit.a: $(unit_objects)

$(tools:%=$(BUILD)/bin/tests/%): $(BUILD)/bin/tests/%: $(obj)/tests/tools/%.o $(if $(tool_objects),$(obj)/tools.a)
	$(link) $(tool_libs) -lpthread
$(BUILD)/bin/tests/txload: tool_libs := -lsqlite3
$(obj)/tests/tools/txload.o: | $(obj)/have-sqlite3

$(nbd_tools:%=$(BUILD)/bin/tests/%): $(BUILD)/bin/tests/%: $(obj)/tests/nbdserver/%.o $(obj)/nbdserver.a \
		$(obj)/rephub.a $(obj)/tools.a
	$(link) $(nbdserver_libs) $$(pkg-config --libs libnbd libisal libzstd)

$(BUILD)/bin/tests/pullhub: $(obj)/tests/pullhub/pullhub.o $(obj)/tools.a
	$(link) $$(pkg-config --libs libnbd)
$(obj)/tests/pullhub/pullhub.o: | $(obj)/have-libnbd

# It has the agent in it, as the unit tests have.
$(BUILD)/bin/tests/hubbench: $(obj)/tests/bench/hubbench.o $(obj)/unit.a $(obj)/repagentd.a $(obj)/tools.a
	$(link) $$(pkg-config --libs cmocka $(repagentd_needs))

$(BUILD)/bin/tests/hubcut: $(obj)/tests/shim/hubcut.o $(obj)/tests/unit/cutdir.o
	$(link) $$(pkg-config --libs cmocka)
$(obj)/tests/shim/hubcut.o: | $(obj)/have-cmocka

# It stands before what a program under test calls, so that no flag of a sanitizer is for it.
$(BUILD)/bin/tests/cutshim.so: tests/shim/cutshim.c tests/unit/cutdir.h
	$(call say,CC)mkdir -p $(@D) && $(CC) -std=c11 -D_GNU_SOURCE -Wall -Wextra -Wstrict-prototypes -Wmissing-prototypes \
		$(if $(WERROR),-Werror) -O2 -g -fPIC -shared -o $@ $<

$(BUILD)/bin/tests/model/test-map: $(model_objects)
	$(link)

$(BUILD)/bin/tests/umlfaults: $(faults_objects) $(obj)/tools.a
	$(link) $$(pkg-config --libs libisal) -lpthread

$(units:%=$(BUILD)/bin/tests/unit/%): $(BUILD)/bin/tests/unit/%: $(obj)/tests/unit/%.o $(obj)/unit.a \
		$(obj)/rephub.a $(obj)/repctl.a $(obj)/repagentd.a $(obj)/reader.a $(obj)/nbdserver.a $(obj)/tools.a
	$(link) $$(pkg-config --libs cmocka $(repagentd_needs) $(reader_needs)) $(nbdserver_libs)

# They, and what they link with, are compiled in a folder of their own; $(BUILD) is that one in the second make.
fuzz_cflags := -O1 -g -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=undefined

.PHONY: fuzzers fuzzers-here
fuzzers:
	+@$(MAKE) --no-print-directory BUILD=$(BUILD)/fuzz CC=clang CFLAGS='$(fuzz_cflags)' fuzzers-here
fuzzers-here: $(fuzzers:%=$(BUILD)/bin/%)

$(fuzzers:%=$(BUILD)/bin/%): $(BUILD)/bin/%: $(obj)/tests/fuzz/%.o $(obj)/rephub.a $(obj)/repagentd.a \
		$(obj)/reader.a $(obj)/repctl.a $(obj)/nbdserver.a
	$(link) -fsanitize=fuzzer $$(pkg-config --libs $(repagentd_needs) $(reader_needs)) $(nbdserver_libs)

# Told in kbuild's manner; V=1 shows the commands.
say = $(if $(V),,@printf '  %-7s %s\n' $(1) $@; )

link = $(call say,LD)mkdir -p $(@D) && $(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^

%.a:
	@rm -f $@; mkdir -p $(@D)
	$(call say,AR)$(AR) rcs $@ $^

# An object is made anew when the flags differ from those of the last time.
$(obj)/%.o: %.c $(obj)/flags
	@mkdir -p $(@D)
	$(call say,CC)$(CC) $(all_cflags) -c -o $@ $<

$(obj)/flags: FORCE
	@mkdir -p $(@D)
	@printf '%s\n' $(call quote,$(CC) $(all_cflags)) | cmp -s - $@ || \
		printf '%s\n' $(call quote,$(CC) $(all_cflags)) > $@
quote = '$(subst ','\'',$(1))'

# What is missing is said before a compiler stumbles over it.
$(repagentd_objects): | $(repagentd_needs:%=$(obj)/have-%)
$(nbdserver_objects): | $(nbdserver_needs:%=$(obj)/have-%)
$(reader_objects): | $(patsubst %,$(obj)/have-%,$(sort $(reader_needs) $(common_needs)))
$(repctl_objects): | $(repctl_needs:%=$(obj)/have-%)
$(rephubctl_objects): | $(obj)/have-json-c
$(rephub_objects): | $(rephub_needs:%=$(obj)/have-%)
$(faults_objects): | $(obj)/have-libisal
$(nbd_tools:%=$(obj)/tests/nbdserver/%.o): | $(obj)/have-libnbd
$(units:%=$(obj)/tests/unit/%.o): | $(obj)/have-cmocka
$(obj)/have-%:
	@pkg-config --exists $* || { echo "$* is missing: run tests/packages," \
		"or apt install pkg-config $(or $(package-$*),lib$(patsubst lib%,%,$*)-dev)" >&2; exit 1; }
	@mkdir -p $(@D); touch $@
package-gnutls := libgnutls28-dev
package-devmapper := libdevmapper-dev

# libaio has no .pc file.
$(obj)/have-libaio:
	@echo '#include <libaio.h>' | $(CC) $(CFLAGS) -E - > /dev/null 2>&1 || \
		{ echo "libaio is missing: run tests/packages, or apt install libaio-dev" >&2; exit 1; }
	@mkdir -p $(@D); touch $@

-include $(patsubst %.o,%.d,$(repagentd_objects) $(nbdserver_objects) $(reader_objects) $(repctl_objects) \
	$(rephub_objects) $(rephubctl_objects) $(tool_objects) $(model_objects) \
	$(faults_objects) $(nbd_tools:%=$(obj)/tests/nbdserver/%.o) $(obj)/tests/pullhub/pullhub.o $(obj)/tests/bench/hubbench.o $(obj)/tests/shim/hubcut.o \
	$(tools:%=$(obj)/tests/tools/%.o) $(units:%=$(obj)/tests/unit/%.o) $(unit_objects) \
	$(fuzzers:%=$(obj)/tests/fuzz/%.o))

.PHONY: FORCE
FORCE:

##@ Installing (PREFIX=/usr, DESTDIR= are honoured)
##: install          programs, man pages, documents, header, units, udev's rules; the modules of the running kernel
##: uninstall        take these away again
##: dkms             the modules, for every kernel, now and after each upgrade (root)
##: dkms-remove      take these away again (root)

# target folder : files, as pairs, for install and uninstall alike
running   := $(shell uname -r)
installed := \
	$(PREFIX)/sbin:$(BUILD)/bin/repagentd \
	$(PREFIX)/sbin:$(BUILD)/bin/repagent-reader \
	$(PREFIX)/sbin:$(BUILD)/bin/repctl \
	$(PREFIX)/sbin:$(BUILD)/bin/rephub \
	$(PREFIX)/sbin:$(BUILD)/bin/rephubctl \
	$(patsubst %,$(PREFIX)/share/bash-completion/completions:%,$(wildcard completion/*)) \
	$(patsubst %,$(PREFIX)/share/man/man8:%,$(wildcard userspace/*/*.8)) \
	$(patsubst %,$(PREFIX)/share/doc/dm-repagent:%,$(wildcard Documentation/*.md)) \
	$(PREFIX)/include/linux:include/uapi/linux/dm-repagent.h \
	$(patsubst %,$(PREFIX)/lib/systemd/system:%,$(wildcard systemd/*.service systemd/*.socket systemd/*.target)) \
	$(PREFIX)/lib/sysusers.d:systemd/sysusers.d/repagent.conf \
	$(PREFIX)/lib/tmpfiles.d:systemd/tmpfiles.d/repagent.conf \
	$(patsubst %,$(PREFIX)/lib/udev/rules.d:%,$(wildcard udev/*.rules))

# The host's own services learn of what came or went; a host without them needs none.
tell_system = [ ! -d /run/systemd/system ] || { systemd-sysusers; systemd-tmpfiles --create --prefix=/run/repagent; \
	systemctl daemon-reload; udevadm control --reload; }

.PHONY: install uninstall
install: repagentd repagent-reader repctl rephub rephubctl $(if $(filter $(running),$(KERNELS)),$(BUILD)/modules/$(running)/.built)
	@for pair in $(installed); do \
		file=$${pair#*:} dir=$(DESTDIR)$${pair%%:*}; mode=644; [ ! -x $$file ] || mode=755; \
		echo "install $$dir/$${file##*/}"; install -D -m $$mode -t $$dir $$file || exit; \
	done
	install -d $(DESTDIR)/etc/repagent
	$(if $(DESTDIR),,@$(tell_system))
ifneq ($(filter $(running),$(KERNELS)),)
	@for module in $(BUILD)/modules/$(running)/*.ko; do \
		! ls $(DESTDIR)/lib/modules/$(running)/updates/dkms/$${module##*/}* > /dev/null 2>&1 || continue; \
		echo "install $(DESTDIR)/lib/modules/$(running)/updates/$${module##*/}"; \
		install -D -m 644 -t $(DESTDIR)/lib/modules/$(running)/updates $$module || exit; \
	done
	$(if $(DESTDIR),,depmod $(running))
else
	@echo "The headers of the running kernel $(running) are not installed: no modules for it."
endif

uninstall:
	@for pair in $(installed); do \
		file=$${pair#*:}; rm -fv $(DESTDIR)$${pair%%:*}/$${file##*/}; \
	done
	@rm -fv $(DESTDIR)/lib/modules/$(running)/updates/dm-repagent*.ko
	@rmdir -v $(DESTDIR)/etc/repagent 2> /dev/null || [ ! -d $(DESTDIR)/etc/repagent ] || \
		echo "$(DESTDIR)/etc/repagent stays: there are groups in it"
	$(if $(DESTDIR),,@$(tell_system))
	$(if $(DESTDIR),,[ ! -d /lib/modules/$(running) ] || depmod $(running))

dkms_name := dm-repagent
dkms_tree := /usr/src/$(dkms_name)-$(VERSION)

.PHONY: dkms dkms-remove
dkms: dkms-remove
	@command -v dkms > /dev/null || { echo "dkms is missing: apt install dkms" >&2; exit 1; }
	mkdir -p $(dkms_tree)
	cp -r COPYING kernel include $(dkms_tree)/
	sed 's/#MODULE_VERSION#/$(VERSION)/' dkms.conf > $(dkms_tree)/dkms.conf
	dkms add -m $(dkms_name) -v $(VERSION)
	@for kernel in $(filter-out $(debug_release) $(uml_release),$(KERNELS)); do \
		set -x; dkms install -m $(dkms_name) -v $(VERSION) -k $$kernel || exit; \
	done

dkms-remove:
	@if command -v dkms > /dev/null && [ -n "$$(dkms status -m $(dkms_name) -v $(VERSION))" ]; then \
		set -x; dkms remove -m $(dkms_name) -v $(VERSION) --all; \
	fi
	rm -rf $(dkms_tree)

##@ Trying and testing (on Debian 12, as root: missing packages are installed)
##: demo             see it at work in a VM
##: check            all that follows here
##: check-static     sparse, cppcheck, shellcheck
##: check-unit       unit tests of the programs, and the model of the write-intent map
##: check-vehicle    the tests of the VM that the tests run in
##: check-dkms       the modules as a DKMS package
##: check-systemd    units, udev's rules and repctl on a host that is booted several times
##: check-fuzz       the NBD server, and what else takes bytes from outside, fed with libFuzzer's; a minute each
##: check-6.1        the tests of modules and programs, in a VM with that kernel
##: check-6.12       the same; what the kernel's version has little part in is done on one of them

##@ Longer tests, which check leaves out
##: check-powercut   power cuts: a thousand, of fifty kills of a VM
##: check-vm         a real VM boots from a protected disk, then another from its replica
##: check-debug      the tests on a kernel that checks itself, which is built first
##: check-uml        fault runs under User-Mode Linux 7.2, which is built first: UML_RUNS of them, within UML_SECONDS; UML_SEED repeats one
##: fuzz-NAME        one libFuzzer target of tests/fuzz, for FUZZ_SECONDS (60): control, frame, hub, map, nbd
##: check-hub        rephub: power cuts of it, kills in the midst of commit and rollback, dependent writes, flipped bytes, an hour of views
##:                  (HUB_SEED, HUB_CUTS=100, HUB_KILLS=100, HUB_WRITES, HUB_POINTS, HUB_SECONDS, HUB_FLIPS); and in a VM a cut line, and one that loses packets
##: check-recovery   a fail-over VM's disk: a hundred kills of its daemon, thirty of the hub; a database's history at twenty points;
##:                  the way back of 20 GiB of which 1 GiB has changed, with twenty kills
##: check-model      the random model of the write-intent map, for MODEL_SECONDS (600), with MODEL_SEED if given
##: check-resync     what it costs to resynchronise 10 GiB that the hub has
##: check-mutants    whether the tests find bugs that are planted, one by one

.PHONY: packages demo check check-static check-unit check-vehicle check-dkms check-systemd check-fuzz check-6.1 check-6.12 \
	check-powercut check-vm check-debug check-hub check-uml check-recovery check-model check-resync check-mutants
packages:
	tests/packages

# Make finds the kernels when it starts, and packages may bring more: so build in a second make.
demo:
	tests/packages demo
	+$(MAKE) --no-print-directory all
	tests/demo/run

check: packages
	+$(MAKE) --no-print-directory all
	tests/check static unit vehicle dkms systemd powercut 6.12 6.1 fuzz

check-static check-unit check-vehicle check-dkms check-systemd check-fuzz check-6.1 check-6.12: packages
	+$(MAKE) --no-print-directory all
	tests/check $(@:check-%=%)

KILLS ?= 50
check-powercut: packages
	+$(MAKE) --no-print-directory all
	tests/powercut/run --kills $(KILLS)

check-resync: packages
	+$(MAKE) --no-print-directory unit
	SUMS_MIB=10240 ONLY=test_large $(BUILD)/bin/tests/unit/test-sums

check-vm:
	tests/packages vm
	+$(MAKE) --no-print-directory all
	tests/check vm

check-debug:
	tests/packages debug
	+tests/debug-kernel/build
	+$(MAKE) --no-print-directory all
	tests/check debug

check-hub: packages
	+$(MAKE) --no-print-directory all
	tests/check-hub $(foreach o,SEED CUTS KILLS WRITES POINTS SECONDS FLIPS,$(if $(HUB_$o),--$(shell echo $o | tr A-Z a-z) $(HUB_$o)))
	tests/run-suite --long -t hub-outage -t hub-lag

check-recovery: packages
	+$(MAKE) --no-print-directory all
	tests/run-suite --long -t 'recover*'

UML_RUNS ?= 2000
export UML_RUNS UML_SECONDS UML_SEED
check-uml:
	tests/packages uml
	tests/uml/build
	+$(MAKE) --no-print-directory all
	tests/check uml-vehicle uml

# It needs nothing but a compiler.
MODEL_SECONDS ?= 600
check-model: model
	$(BUILD)/bin/tests/model/test-map --seconds $(MODEL_SECONDS) $(if $(MODEL_SEED),--seed $(MODEL_SEED))

check-mutants: packages
	tests/check-mutants

FUZZ_SECONDS ?= 60
.PHONY: $(fuzzers)
$(fuzzers): packages
	tests/check-fuzz -s $(FUZZ_SECONDS) $(@:fuzz-%=%)

##@ Measuring
##: bench            what protection costs, beside other device-mapper targets, DRBD and MD
##: bench-nbd        reads through the NBD server, beside nbdkit's file plugin
##: bench-hub        the log tap into rephub, beside the mirror tap and libnbd alone into nbdkit
##: bench-recover    the disk of a fail-over VM, beside the kernel's NBD client on the same export

.PHONY: bench bench-nbd bench-hub bench-recover
bench-recover:
	tests/packages bench
	+$(MAKE) --no-print-directory all
	tests/bench/run recover

bench-hub:
	tests/packages bench
	+$(MAKE) --no-print-directory all
	tests/bench/hub

bench-nbd:
	tests/packages bench
	+$(MAKE) --no-print-directory programs
	tests/bench/nbd

bench:
	tests/packages bench
	+$(MAKE) --no-print-directory all
	tests/bench/run

##@ Else
##: clean            take build/ away
##: help             this text

.PHONY: clean help
clean:
	rm -rf $(BUILD)

help:
	@sed -n 's/^##: /  make /p; s/^##@ /\n/p' $(MAKEFILE_LIST)
