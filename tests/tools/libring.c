// SPDX-License-Identifier: GPL-2.0-or-later
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "libring.h"
#include "libtest.h"

static int ring_ioctl(const struct ring *r, unsigned long cmd, void *arg)
{
	int ret;

	do {
		ret = ioctl(r->fd, cmd, arg);
	} while (ret < 0 && errno == EINTR);
	return ret < 0 ? -errno : ret;
}

int ring_open(struct ring *r, const char *group, const char **what)
{
	const struct repagent_ring_header *h;
	struct repagent_info info;
	char path[128];
	void *map;
	int ret;

	memset(r, 0, sizeof(*r));
	snprintf(path, sizeof(path), "/dev/repagent/%s", group);
	*what = "open";
	r->fd = open(path, O_RDWR | O_CLOEXEC);
	if (r->fd < 0)
		return -errno;

	*what = "INFO";
	ret = ring_info(r, &info);
	if (ret < 0)
		goto err;
	*what = "the ABI version";
	ret = -EPROTO;
	if (info.abi_version != REPAGENT_ABI_VERSION)
		goto err;

	*what = "mmap";
	map = mmap(NULL, info.map_size, PROT_READ, MAP_SHARED, r->fd, 0);
	if (map == MAP_FAILED) {
		ret = -errno;
		goto err;
	}
	h = map;
	r->map = map;
	r->map_size = info.map_size;
	r->header = h;
	r->incarnation = info.incarnation;
	r->acked = info.acked;
	r->nr_slots = h->nr_slots;
	r->payload_size = h->payload_size;
	r->slots = (const void *)(r->map + h->slots_offset);
	r->payload = r->map + h->payload_offset;

	*what = "the ring's header";
	ret = -EPROTO;
	if (h->magic != REPAGENT_ABI_MAGIC || h->version != REPAGENT_ABI_VERSION ||
	    h->header_size != sizeof(*h) || h->slot_size != sizeof(struct repagent_slot) ||
	    h->incarnation != info.incarnation || h->map_size != info.map_size ||
	    h->payload_size != info.payload_size || !h->nr_slots ||
	    (h->nr_slots & (h->nr_slots - 1)) ||
	    h->slots_offset < sizeof(*h) ||
	    h->payload_offset < h->slots_offset + (uint64_t)h->nr_slots * h->slot_size ||
	    h->map_size != h->payload_offset + 2 * h->payload_size)
		goto err;
	return 0;

err:
	ring_close(r);
	return ret;
}

void ring_must_open(struct ring *r, const char *group)
{
	const char *what;
	int ret = ring_open(r, group, &what);

	if (ret < 0)
		die("group %s: %s: %s", group, what, strerror(-ret));
}

void ring_close(struct ring *r)
{
	if (r->map)
		munmap((void *)(uintptr_t)r->map, r->map_size);
	if (r->fd >= 0)
		close(r->fd);
	r->map = NULL;
	r->fd = -1;
}

int ring_info(const struct ring *r, struct repagent_info *info)
{
	memset(info, 0, sizeof(*info));
	return ring_ioctl(r, REPAGENT_IOC_INFO, info);
}

int ring_volume(const struct ring *r, unsigned int index, struct repagent_volume_info *v)
{
	memset(v, 0, sizeof(*v));
	v->index = index;
	return ring_ioctl(r, REPAGENT_IOC_VOLUME, v);
}

int ring_hub(const struct ring *r, bool connected, enum repagent_reason reason)
{
	struct repagent_hub hub = {
		.incarnation = r->incarnation,
		.connected = connected,
		.reason = reason,
	};

	return ring_ioctl(r, REPAGENT_IOC_HUB, &hub);
}

int ring_ack(const struct ring *r, uint64_t seq)
{
	struct repagent_ack ack = { .incarnation = r->incarnation, .seq = seq };

	return ring_ioctl(r, REPAGENT_IOC_ACK, &ack);
}

int ring_wait(const struct ring *r, uint64_t seq, uint64_t events, int timeout_ms)
{
	struct repagent_wait wait = { .seq = seq, .events = events };
	struct pollfd pfd = { .fd = r->fd, .events = POLLIN | POLLPRI };
	int ret = ring_ioctl(r, REPAGENT_IOC_WAIT, &wait);

	if (ret)
		return ret;
	ret = poll(&pfd, 1, timeout_ms);
	if (ret < 0)
		return errno == EINTR ? 0 : -errno;
	return ret;
}

int ring_checkpoint(const struct ring *r, const char *label, uint64_t *seq)
{
	struct repagent_emit emit = { .type = REPAGENT_REC_CHECKPOINT };
	int ret;

	strncpy(emit.label, label, sizeof(emit.label) - 1);
	ret = ring_ioctl(r, REPAGENT_IOC_EMIT, &emit);
	*seq = emit.seq;
	return ret;
}

uint64_t ring_commit(const struct ring *r, uint64_t seq)
{
	return __atomic_load_n(&ring_slot(r, seq)->commit, __ATOMIC_ACQUIRE);
}

uint64_t ring_head(const struct ring *r)
{
	return __atomic_load_n(&r->header->head, __ATOMIC_ACQUIRE);
}
