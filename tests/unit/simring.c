// SPDX-License-Identifier: GPL-2.0-or-later
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "simring.h"

#define PAGE	4096UL

struct simstate {
	pthread_mutex_t lock;
	uint64_t head, acked, events;
	uint64_t payload_head, payload_tail, total;
	uint64_t wait_seq, wait_events;
	uint64_t calls;
	struct repagent_hub hub;
	bool tracks;
	uint32_t capture;
	unsigned int marks;
	uint16_t last_id;
	struct repagent_volume_info volume[REPAGENT_MAX_VOLUMES];
	pthread_mutex_t disk_lock;	/* a disk and the stream are changed together */
	unsigned char *disk[REPAGENT_MAX_VOLUMES];
	uint64_t tail[];	/* of each slot: where its payload ends */
};

static size_t state_size(uint32_t nr_slots)
{
	return sizeof(struct simstate) + nr_slots * sizeof(uint64_t);
}

static struct simring *to_sim(struct ring *ring)
{
	return (struct simring *)ring;
}

static void lock(struct simring *sim)
{
	/* A daemon may be killed while it holds the lock: nothing is half done. */
	if (pthread_mutex_lock(&sim->state->lock) == EOWNERDEAD)
		pthread_mutex_consistent(&sim->state->lock);
}

static void unlock(struct simring *sim)
{
	pthread_mutex_unlock(&sim->state->lock);
}

static struct repagent_slot *slot_of(struct simring *sim, uint64_t seq)
{
	return &sim->slots[seq & (sim->header->nr_slots - 1)];
}

static bool is_committed(struct simring *sim, uint64_t seq)
{
	uint64_t word = __atomic_load_n(&slot_of(sim, seq)->commit, __ATOMIC_ACQUIRE);

	return seq <= sim->state->acked ||
	       (word >> REPAGENT_SLOT_SHIFT == seq && (word & 0xff) != REPAGENT_SLOT_BUSY);
}

static struct repagent_volume_info *find(struct simring *sim, uint16_t id)
{
	struct repagent_volume_info *v = sim->state->volume;

	while (v->id != id)
		v++;
	return v;
}

static uint64_t committed(struct simring *sim)
{
	uint64_t seq = sim->state->acked;

	while (seq + 1 < sim->state->head && is_committed(sim, seq + 1))
		seq++;
	return seq;
}

static void wake(struct simring *sim)
{
	uint64_t one = 1;

	if ((is_committed(sim, sim->state->wait_seq) ||
	     sim->state->events != sim->state->wait_events) &&
	    write(sim->ring.fd, &one, sizeof(one)) < 0)
		abort();
}

static void event(struct simring *sim)
{
	sim->state->events++;
	wake(sim);
}

static int sim_info(struct ring *ring, struct repagent_info *info)
{
	struct simring *sim = to_sim(ring);
	unsigned int i;

	memset(info, 0, sizeof(*info));
	lock(sim);
	sim->state->calls++;
	info->abi_version = REPAGENT_ABI_VERSION;
	info->capture = sim->state->capture;
	for (i = 0; i < REPAGENT_MAX_VOLUMES; i++)
		info->nr_volumes += sim->state->volume[i].id != 0;
	info->incarnation = sim->header->incarnation;
	info->map_size = sim->header->map_size;
	info->head = sim->state->head;
	info->acked = sim->state->acked;
	info->committed = committed(sim);
	info->payload_used = sim->state->payload_head - sim->state->payload_tail;
	info->payload_size = sim->header->payload_size;
	info->events = sim->state->events;
	snprintf(info->group, sizeof(info->group), "sim");
	unlock(sim);
	return 0;
}

static int sim_volume(struct ring *ring, struct repagent_volume_info *info)
{
	struct simring *sim = to_sim(ring);
	int r = 0;

	if (info->index >= REPAGENT_MAX_VOLUMES)
		return -EINVAL;
	lock(sim);
	sim->state->calls++;
	if (sim->state->volume[info->index].id)
		*info = sim->state->volume[info->index];
	else
		r = -ENOENT;
	unlock(sim);
	return r;
}

/* As the kernel leaves the state STREAM, and comes back. */
static void change_capture(struct simring *sim, const struct repagent_hub *hub)
{
	struct repagent_slot gap = { .type = REPAGENT_REC_GAP, .aux = (int)hub->reason };
	struct simstate *st = sim->state;
	unsigned char *payload;
	unsigned int i;

	if (hub->reason && st->capture == REPAGENT_CAPTURE_STREAM) {
		simring_commit(sim, simring_reserve(sim, &gap, &payload), REPAGENT_SLOT_READY);
		st->capture = REPAGENT_CAPTURE_TRACK;
	} else if (hub->connected && st->capture == REPAGENT_CAPTURE_TRACK) {
		for (i = 0; i < REPAGENT_MAX_VOLUMES; i++)
			if (st->volume[i].id)
				simring_put(sim, REPAGENT_REC_RESYNC_BEGIN, st->volume[i].id, 0,
					    st->volume[i].sectors * 512, NULL);
		st->capture = REPAGENT_CAPTURE_STREAM;
	}
}

static int sim_hub(struct ring *ring, const struct repagent_hub *hub)
{
	struct simring *sim = to_sim(ring);

	if (hub->incarnation != sim->header->incarnation)
		return -EINVAL;
	if (sim->state->tracks)
		change_capture(sim, hub);
	lock(sim);
	sim->state->calls++;
	sim->state->hub = *hub;
	unlock(sim);
	return 0;
}

/* Free what is acknowledged; a removed volume goes with its last record. */
static int sim_ack(struct ring *ring, const struct repagent_ack *ack)
{
	struct simring *sim = to_sim(ring);
	struct simstate *st = sim->state;
	int r = -EINVAL;
	unsigned int i;

	lock(sim);
	st->calls++;
	if (ack->incarnation == sim->header->incarnation && ack->seq >= st->acked &&
	    ack->seq <= committed(sim)) {
		while (st->acked < ack->seq) {
			const struct repagent_slot *slot = slot_of(sim, ++st->acked);

			if (slot->len)
				st->payload_tail = st->tail[st->acked & (sim->header->nr_slots - 1)];
			if (slot->type != REPAGENT_REC_VOLUME_REMOVE)
				continue;
			for (i = 0; i < REPAGENT_MAX_VOLUMES; i++)
				if (st->volume[i].id == slot->volume)
					st->volume[i].id = 0;
			st->events++;
		}
		r = 0;
	}
	wake(sim);
	unlock(sim);
	return r;
}

static int sim_wait(struct ring *ring, const struct repagent_wait *wait)
{
	struct simring *sim = to_sim(ring);
	uint64_t count;
	int r;

	lock(sim);
	sim->state->calls++;
	if (read(ring->fd, &count, sizeof(count)) < 0 && errno != EAGAIN)
		abort();
	sim->state->wait_seq = wait->seq;
	sim->state->wait_events = wait->events;
	r = is_committed(sim, wait->seq) || sim->state->events != wait->events;
	unlock(sim);
	return r;
}

static bool has_room(const struct simring *sim, uint64_t len)
{
	const struct simstate *st = sim->state;
	uint64_t start = (st->payload_head + 511) & ~511ULL;

	return st->head - st->acked < sim->header->nr_slots &&
	       start + len - st->payload_tail <= sim->header->payload_size;
}

static int lock_disk(pthread_mutex_t *m, int r)
{
	if (r == EOWNERDEAD)
		r = pthread_mutex_consistent(m);
	return r;
}

/* What is on the disk, at a place among the writes. */
static int emit_verify(struct simring *sim, const struct repagent_emit *emit)
{
	struct simstate *st = sim->state;
	const struct repagent_volume_info *v = find(sim, emit->volume);

	if (!st->disk[v->index])
		return -EINVAL;
	if (lock_disk(&st->disk_lock, pthread_mutex_trylock(&st->disk_lock)))
		return -EAGAIN;
	simring_put(sim, REPAGENT_REC_VERIFY, emit->volume, emit->sector * 512, emit->nr_sectors * 512,
		    st->disk[v->index] + emit->sector * 512);
	pthread_mutex_unlock(&st->disk_lock);
	return 0;
}

static int sim_emit(struct ring *ring, struct repagent_emit *emit)
{
	bool label = emit->type == REPAGENT_REC_CHECKPOINT, room;
	struct simring *sim = to_sim(ring);

	if (sim->state->capture != REPAGENT_CAPTURE_STREAM)
		return -EAGAIN;
	/* The daemon must not wait for itself; a writer beside it takes one record at a time. */
	lock(sim);
	room = has_room(sim, REPAGENT_MAX_RECORD) && sim->state->head - sim->state->acked + 8 < sim->header->nr_slots;
	unlock(sim);
	if (!room)
		return -ENOSPC;
	if (emit->type == REPAGENT_REC_VERIFY)
		return emit_verify(sim, emit);
	emit->seq = simring_put(to_sim(ring), emit->type, 0, 0, label ? strlen(emit->label) + 1 : 0,
				label ? emit->label : NULL);
	return 0;
}

static enum dmdev_result sim_mark_dirty(struct ring *ring, const char *group, const char *volume,
					char *error)
{
	(void)group;
	(void)volume;
	(void)error;
	__atomic_add_fetch(&to_sim(ring)->state->marks, 1, __ATOMIC_SEQ_CST);
	return DMDEV_OK;
}

static const struct ring_ops sim_ops = {
	.info	= sim_info,
	.volume	= sim_volume,
	.hub	= sim_hub,
	.ack	= sim_ack,
	.wait	= sim_wait,
	.emit	= sim_emit,
	.mark_dirty = sim_mark_dirty,
};

/* Map the ring's memory, its payload twice in a row. */
static unsigned char *map_ring(int fd, size_t size, size_t payload_size, int prot)
{
	unsigned char *p = mmap(NULL, size + payload_size, prot, MAP_SHARED, fd, 0);

	if (p == MAP_FAILED ||
	    mmap(p + size, payload_size, prot, MAP_SHARED | MAP_FIXED, fd,
		 (off_t)(size - payload_size)) == MAP_FAILED)
		abort();
	return p;
}

/**
 * simring_new - make a ring
 * @nr_slots: a power of two
 * @payload_size: bytes, whole pages
 */
struct simring *simring_new(uint32_t nr_slots, uint64_t payload_size)
{
	size_t slots = (nr_slots * sizeof(struct repagent_slot) + PAGE - 1) & ~(PAGE - 1);
	size_t size = PAGE + slots + payload_size;
	struct simring *sim = calloc(1, sizeof(*sim));
	pthread_mutexattr_t attr;
	unsigned char *map;
	int fd = memfd_create("simring", MFD_CLOEXEC);

	if (!sim || fd < 0 || ftruncate(fd, (off_t)size) < 0)
		abort();
	map = map_ring(fd, size, payload_size, PROT_READ | PROT_WRITE);
	sim->header = (void *)map;
	sim->slots = (void *)(map + PAGE);
	sim->payload = map + PAGE + slots;
	sim->ring.map = map_ring(fd, size, payload_size, PROT_READ);
	sim->ring.map_size = size + payload_size;
	sim->ring.ops = &sim_ops;
	sim->ring.fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	close(fd);
	*sim->header = (struct repagent_ring_header) {
		.magic		= REPAGENT_ABI_MAGIC,
		.version	= REPAGENT_ABI_VERSION,
		.header_size	= sizeof(*sim->header),
		.incarnation	= 0x1234567812345678,
		.nr_slots	= nr_slots,
		.slot_size	= sizeof(struct repagent_slot),
		.payload_size	= payload_size,
		.slots_offset	= PAGE,
		.payload_offset	= PAGE + slots,
		.map_size	= size + payload_size,
		.head		= 1,
	};

	sim->state = mmap(NULL, state_size(nr_slots), PROT_READ | PROT_WRITE,
			  MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (sim->state == MAP_FAILED)
		abort();
	sim->state->head = 1;
	sim->state->capture = REPAGENT_CAPTURE_STREAM;
	sim->state->wait_seq = UINT64_MAX;
	pthread_mutexattr_init(&attr);
	pthread_mutexattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
	pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST);
	pthread_mutex_init(&sim->state->lock, &attr);
	pthread_mutex_init(&sim->state->disk_lock, &attr);
	return sim;
}

/**
 * simring_free - free a ring
 * @sim: the ring
 */
void simring_free(struct simring *sim)
{
	munmap(sim->state, state_size(sim->header->nr_slots));
	munmap((void *)sim->ring.map, sim->ring.map_size);
	munmap(sim->header, sim->ring.map_size);
	close(sim->ring.fd);
	free(sim);
}

/**
 * simring_add_volume - add a volume
 * @sim: the ring
 * @name: its name
 * @bytes: its size
 *
 * Return: its id.
 */
uint16_t simring_add_volume(struct simring *sim, const char *name, uint64_t bytes)
{
	struct repagent_volume_info *v = sim->state->volume;

	lock(sim);
	while (v->id)
		v++;
	memset(v, 0, sizeof(*v));
	v->index = (uint32_t)(v - sim->state->volume);
	v->id = ++sim->state->last_id;
	v->active = 1;
	v->sectors = bytes / 512;
	snprintf(v->name, sizeof(v->name), "%s", name);
	event(sim);
	unlock(sim);
	return v->id;
}

/**
 * simring_resize_volume - give a volume another size
 * @sim: the ring
 * @id: of the volume
 * @bytes: its new size
 */
void simring_resize_volume(struct simring *sim, uint16_t id, uint64_t bytes)
{
	lock(sim);
	find(sim, id)->sectors = bytes / 512;
	event(sim);
	unlock(sim);
}

/**
 * simring_set_map - say what a volume's write-intent map was relied on with
 * @sim: the ring
 * @id: of the volume
 * @incarnation, @seq: what the hub had made durable
 */
void simring_set_map(struct simring *sim, uint16_t id, uint64_t incarnation, uint64_t seq)
{
	lock(sim);
	find(sim, id)->map_incarnation = incarnation;
	find(sim, id)->map_seq = seq;
	unlock(sim);
}

/**
 * simring_track - have the ring leave STREAM as the kernel does
 * @sim: the ring; nothing may be put into it while it is in TRACK
 */
void simring_track(struct simring *sim)
{
	sim->state->tracks = true;
}

/**
 * simring_marks - how often volumes were marked dirty
 * @sim: the ring
 */
unsigned int simring_marks(struct simring *sim)
{
	return __atomic_load_n(&sim->state->marks, __ATOMIC_SEQ_CST);
}

/**
 * simring_remove_volume - say that a volume's device is gone
 * @sim: the ring
 * @id: of the volume; put VOLUME_REMOVE as well
 */
void simring_remove_volume(struct simring *sim, uint16_t id)
{
	lock(sim);
	find(sim, id)->active = 0;
	event(sim);
	unlock(sim);
}

static void nap(void)
{
	nanosleep(&(struct timespec) { .tv_nsec = 200000 }, NULL);
}

/**
 * simring_reserve - take the next slot; waits a minute at most while there is
 * no room, and aborts then
 * @sim: the ring
 * @slot: type, volume, sector, nr_sectors, aux and len of the record
 * @payload: where its payload is to be put
 *
 * Return: its sequence number; it is busy until simring_commit().
 */
uint64_t simring_reserve(struct simring *sim, const struct repagent_slot *slot,
			 unsigned char **payload)
{
	struct simstate *st = sim->state;
	struct repagent_slot *s;
	struct timespec ts;
	time_t end = time(NULL) + 60;
	uint64_t seq, need;

	lock(sim);
	for (;;) {
		need = (st->payload_head + 511) & ~511ULL;
		if (has_room(sim, slot->len))
			break;
		unlock(sim);
		if (time(NULL) > end) {
			fprintf(stderr, "the ring stays full\n");
			abort();
		}
		nap();
		lock(sim);
	}
	seq = st->head++;
	s = slot_of(sim, seq);
	__atomic_store_n(&s->commit, REPAGENT_SLOT_WORD(seq, REPAGENT_SLOT_BUSY),
			 __ATOMIC_RELEASE);
	clock_gettime(CLOCK_REALTIME, &ts);
	s->type = slot->type;
	s->flags = slot->flags;
	s->volume = slot->volume;
	s->aux = slot->aux;
	s->sector = slot->sector;
	s->nr_sectors = slot->nr_sectors;
	s->pos = need % sim->header->payload_size;
	s->len = slot->len;
	s->time = (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
	st->total += slot->len;
	s->end = st->total;
	st->tail[seq & (sim->header->nr_slots - 1)] = need + slot->len;
	if (slot->len)
		st->payload_head = need + slot->len;
	*payload = sim->payload + s->pos;
	__atomic_store_n(&sim->header->head, st->head, __ATOMIC_RELEASE);
	unlock(sim);
	return seq;
}

/**
 * simring_commit - make a reserved record visible
 * @sim: the ring
 * @seq: its number
 * @state: READY or VOID
 */
void simring_commit(struct simring *sim, uint64_t seq, unsigned int state)
{
	__atomic_store_n(&slot_of(sim, seq)->commit, REPAGENT_SLOT_WORD(seq, state),
			 __ATOMIC_RELEASE);
	lock(sim);
	wake(sim);
	unlock(sim);
}

/**
 * simring_put - put a complete record
 * @sim: the ring
 * @type: enum repagent_type
 * @volume: id
 * @offset, @length: its range in bytes
 * @data: @length bytes of payload, or NULL
 *
 * Return: its sequence number.
 */
uint64_t simring_put(struct simring *sim, unsigned int type, uint16_t volume,
		     uint64_t offset, uint64_t length, const void *data)
{
	struct repagent_slot slot = {
		.type = (uint8_t)type, .volume = volume, .sector = offset / 512,
		.nr_sectors = length / 512, .len = data ? (uint32_t)length : 0,
	};
	unsigned char *payload;
	uint64_t seq = simring_reserve(sim, &slot, &payload);

	if (data)
		memcpy(payload, data, length);
	if (type == REPAGENT_REC_RESYNC_BEGIN || type == REPAGENT_REC_RESYNC_END) {
		bool begins = type == REPAGENT_REC_RESYNC_BEGIN;

		lock(sim);
		find(sim, volume)->image = begins ? REPAGENT_IMAGE_RESYNC : REPAGENT_IMAGE_CLEAN;
		event(sim);
		unlock(sim);
	}
	simring_commit(sim, seq, REPAGENT_SLOT_READY);
	return seq;
}

/**
 * simring_set_disk - what VERIFY records are to have
 * @sim: the ring
 * @id: of the volume
 * @disk: all of it, in memory that is shared with the daemon
 */
void simring_set_disk(struct simring *sim, uint16_t id, unsigned char *disk)
{
	sim->state->disk[find(sim, id)->index] = disk;
}

/**
 * simring_write - write to a disk, and put the record of it
 * @sim: the ring
 * @id: of the volume
 * @offset, @length: bytes
 * @data: what is written
 *
 * Return: its sequence number.
 */
uint64_t simring_write(struct simring *sim, uint16_t id, uint64_t offset, uint64_t length, const void *data)
{
	struct simstate *st = sim->state;
	uint64_t seq;

	lock_disk(&st->disk_lock, pthread_mutex_lock(&st->disk_lock));
	memcpy(st->disk[find(sim, id)->index] + offset, data, length);
	seq = simring_put(sim, REPAGENT_REC_WRITE, id, offset, length, data);
	pthread_mutex_unlock(&st->disk_lock);
	return seq;
}

/**
 * simring_head - the next sequence number
 * @sim: the ring
 */
uint64_t simring_head(struct simring *sim)
{
	uint64_t head;

	lock(sim);
	head = sim->state->head;
	unlock(sim);
	return head;
}

/**
 * simring_acked - the last acknowledged sequence number
 * @sim: the ring
 */
uint64_t simring_acked(struct simring *sim)
{
	uint64_t acked;

	lock(sim);
	acked = sim->state->acked;
	unlock(sim);
	return acked;
}

/**
 * simring_wait_acked - wait until a record is acknowledged
 * @sim: the ring
 * @seq: its number
 * @seconds: how long at most
 *
 * Return: whether it is.
 */
bool simring_wait_acked(struct simring *sim, uint64_t seq, unsigned int seconds)
{
	time_t end = time(NULL) + seconds;

	while (simring_acked(sim) < seq && time(NULL) <= end)
		nap();
	return simring_acked(sim) >= seq;
}

/**
 * simring_hub - what the daemon said of the hub last
 * @sim: the ring
 */
struct repagent_hub simring_hub(struct simring *sim)
{
	struct repagent_hub hub;

	lock(sim);
	hub = sim->state->hub;
	unlock(sim);
	return hub;
}

/**
 * simring_wait_hub - wait until the daemon says something of the hub
 * @sim: the ring
 * @connected, @reason: what
 * @seconds: how long at most
 *
 * Return: whether it did.
 */
bool simring_wait_hub(struct simring *sim, unsigned int connected, unsigned int reason,
		      unsigned int seconds)
{
	time_t end = time(NULL) + seconds;
	struct repagent_hub hub;

	do {
		hub = simring_hub(sim);
		if (hub.incarnation && hub.connected == connected && hub.reason == reason)
			return true;
		nap();
	} while (time(NULL) <= end);
	return false;
}

/**
 * simring_calls - how many calls the daemon made
 * @sim: the ring
 */
uint64_t simring_calls(struct simring *sim)
{
	uint64_t calls;

	lock(sim);
	calls = sim->state->calls;
	unlock(sim);
	return calls;
}
