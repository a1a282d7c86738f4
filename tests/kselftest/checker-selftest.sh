#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# The checker of the stream is itself checked, on synthetic streams, good and bad.

# shellcheck source=tests/kselftest/lib.sh
. ./lib.sh

run_ktap test-checker
