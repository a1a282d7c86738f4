#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Whether what sums/GROUP/VOLUME gives is as Documentation/sums.md has it, computed anew: SUMS IMAGE POSITION"""
import hashlib
import struct
import sys

sums, image = (open(name, "rb").read() for name in sys.argv[1:3])
magic, version, block = struct.unpack_from("<8sII", sums, 0)
incarnation, seq, size = struct.unpack_from("<QQQ", sums, 48)
assert (magic, version, block) == (b"rephsums", 1, 65536), (magic, version, block)
assert f"{incarnation:016x}:{seq}" == sys.argv[3], f"{incarnation:016x}:{seq}"
assert size == len(image), size
assert len(sums) == 4096 + 16 * -(-size // block), len(sums)
for i in range(0, size, block):
    data = image[i:i + block]
    want = hashlib.sha256(data).digest()[:16] if any(data) else bytes(16)
    at = 4096 + i // block * 16
    assert sums[at:at + 16] == want, f"block {i // block}"
