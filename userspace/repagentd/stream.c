// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Taking records out of a ring (Documentation/abi.md).
 *
 * The mapping is shared memory: every word is loaded once, checked, and only
 * the checked copy is used.  A word that cannot be right ends the daemon, for
 * to guess would be to send wrong data.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "../common/log.h"
#include "stream.h"

#define SECTOR_SHIFT	9

/* What a record of a type has, and what is done about a wrong one. */
#define HAS_RANGE	1	/* sector, nr_sectors within its volume */
#define HAS_DATA	2	/* payload of nr_sectors */
#define HAS_TEXT	4	/* payload that ends with a NUL */
#define HAS_VOLUME	8	/* a known volume */
#define HAS_SIZE	16	/* nr_sectors is the volume's size */

static const unsigned char type_has[REPAGENT_NR_TYPES] = {
	[REPAGENT_REC_WRITE]		= HAS_VOLUME | HAS_RANGE | HAS_DATA,
	[REPAGENT_REC_ZEROES]		= HAS_VOLUME | HAS_RANGE,
	[REPAGENT_REC_DISCARD]		= HAS_VOLUME | HAS_RANGE,
	[REPAGENT_REC_FLUSH]		= HAS_VOLUME,
	[REPAGENT_REC_CHECKPOINT]	= HAS_TEXT,
	[REPAGENT_REC_RESYNC]		= HAS_VOLUME | HAS_RANGE | HAS_DATA,
	[REPAGENT_REC_RESYNC_BEGIN]	= HAS_VOLUME | HAS_SIZE,
	[REPAGENT_REC_RESYNC_END]	= HAS_VOLUME,
	[REPAGENT_REC_VERIFY]		= HAS_VOLUME | HAS_RANGE | HAS_DATA,
	[REPAGENT_REC_GAP]		= 0,
	[REPAGENT_REC_VOLUME_ADD]	= HAS_VOLUME | HAS_SIZE,
	[REPAGENT_REC_VOLUME_REMOVE]	= HAS_VOLUME,
	[REPAGENT_REC_VOLUME_RESIZE]	= HAS_VOLUME | HAS_SIZE,
	[REPAGENT_REC_FAILED]		= HAS_VOLUME | HAS_RANGE,
	[REPAGENT_REC_SHUTDOWN]		= 0,
	[REPAGENT_REC_MAP_ERROR]	= HAS_VOLUME,
	[REPAGENT_REC_MAP_OK]		= HAS_VOLUME,
};

/**
 * record_is_zero - need its data not be sent?
 * @rec: a record
 *
 * Return: whether it was read for a resync and is nothing but zeroes: much of most disks is.
 */
bool record_is_zero(const struct record *rec)
{
	const unsigned char *p = rec->payload;

	return rec->type == REPAGENT_REC_RESYNC && !p[0] && !memcmp(p, p + 1, rec->payload_len - 1);
}

static bool header_ok(const struct repagent_ring_header *h, size_t map_size,
		      uint64_t incarnation)
{
	uint64_t slots_end, payload_end;

	return h->magic == REPAGENT_ABI_MAGIC &&
	       h->version == REPAGENT_ABI_VERSION &&
	       h->header_size >= sizeof(*h) &&
	       h->incarnation == incarnation &&
	       h->slot_size == sizeof(struct repagent_slot) &&
	       h->nr_slots >= 2 && !(h->nr_slots & (h->nr_slots - 1)) &&
	       h->map_size == map_size &&
	       h->slots_offset >= sizeof(*h) && !(h->slots_offset % 64) &&
	       h->payload_size && h->payload_size <= map_size / 2 &&
	       !__builtin_add_overflow(h->slots_offset,
				       (uint64_t)h->nr_slots * h->slot_size, &slots_end) &&
	       slots_end <= h->payload_offset &&
	       !__builtin_add_overflow(h->payload_offset, 2 * h->payload_size,
				       &payload_end) &&
	       payload_end <= map_size;
}

/**
 * stream_open - begin at the first unacknowledged record of a ring
 * @s: the stream
 * @ring: the ring; must outlive the stream
 *
 * Return: 0, -EPROTO if the ring's header makes no sense (a line was logged),
 * or the negative errno of an ioctl.
 */
int stream_open(struct stream *s, struct ring *ring)
{
	struct repagent_ring_header h;
	int r;

	memset(s, 0, sizeof(*s));
	s->ring = ring;
	s->end = UINT64_MAX;
	r = ring->ops->info(ring, &s->info);
	if (r < 0)
		return r;
	if (ring->map_size < sizeof(h)) {
		log_err("the ring's mapping is too small to hold a header");
		return -EPROTO;
	}
	memcpy(&h, ring->map, sizeof(h));
	if (!header_ok(&h, ring->map_size, s->info.incarnation)) {
		log_err("the ring's header makes no sense (version %u, %u slots of %u bytes, "
			"%" PRIu64 " bytes of payload); install the daemon that belongs to the module",
			h.version, h.nr_slots, h.slot_size, (uint64_t)h.payload_size);
		return -EPROTO;
	}
	s->slots = (const void *)((const char *)ring->map + h.slots_offset);
	s->payload = (const unsigned char *)ring->map + h.payload_offset;
	s->payload_size = h.payload_size;
	s->nr_slots = h.nr_slots;
	s->incarnation = h.incarnation;
	r = stream_refresh(s);
	if (r < 0)
		return r;
	return stream_rewind(s);
}

static void refresh_volume(struct volume *v, const struct repagent_volume_info *info)
{
	uint64_t sectors = info->reach > info->sectors ? info->reach : info->sectors;
	uint64_t bytes = sectors << SECTOR_SHIFT;

	if (v->info.id != info->id)
		v->limit = 0;
	v->info = *info;
	v->info.name[REPAGENT_NAME_MAX] = '\0';
	if (v->limit < bytes)
		v->limit = bytes;
}

static const struct repagent_slot *slot_of(const struct stream *s, uint64_t seq)
{
	return &s->slots[seq & (s->nr_slots - 1)];
}

/* Whether a slot holds a record that is complete. */
static bool is_there(const struct stream *s, uint64_t seq)
{
	uint64_t commit = __atomic_load_n(&slot_of(s, seq)->commit, __ATOMIC_ACQUIRE);

	return commit == REPAGENT_SLOT_WORD(seq, REPAGENT_SLOT_READY) ||
	       commit == REPAGENT_SLOT_WORD(seq, REPAGENT_SLOT_VOID);
}

/* For the account only: nothing depends on it. */
static void note_bytes(struct stream *s)
{
	uint64_t first = s->info.acked + 1, last = s->info.committed;

	if (is_there(s, first))
		s->settled = slot_of(s, first)->end - slot_of(s, first)->len;
	if (last >= first && is_there(s, last))
		s->produced = slot_of(s, last)->end;
	if (s->produced < s->settled)
		s->produced = s->settled;
}

/**
 * stream_refresh - ask the kernel for the state of the group and its volumes
 * @s: the stream
 *
 * Return: 0, or the negative errno of an ioctl.
 */
int stream_refresh(struct stream *s)
{
	struct repagent_volume_info info;
	unsigned int i, found = 0;
	int r;

	r = s->ring->ops->info(s->ring, &s->info);
	if (r < 0)
		return r;
	for (i = 0; i < REPAGENT_MAX_VOLUMES; i++) {
		memset(&info, 0, sizeof(info));
		info.index = i;
		r = -ENOENT;
		if (found < s->info.nr_volumes)
			r = s->ring->ops->volume(s->ring, &info);
		if (r == -ENOENT) {
			memset(&s->volume[i], 0, sizeof(s->volume[i]));
		} else if (r < 0) {
			return r;
		} else {
			refresh_volume(&s->volume[i], &info);
			found++;
		}
	}
	note_bytes(s);
	return 0;
}

/**
 * stream_rewind - go back to the first unacknowledged record
 * @s: the stream
 *
 * Return: 0, or the negative errno of an ioctl.
 */
int stream_rewind(struct stream *s)
{
	int r = s->ring->ops->info(s->ring, &s->info);

	s->acked = s->info.acked;
	s->next = s->info.acked + 1;
	return r;
}

static int find_volume(const struct stream *s, uint16_t id)
{
	int i;

	for (i = 0; i < REPAGENT_MAX_VOLUMES; i++)
		if (s->volume[i].info.id == id)
			return i;
	return -1;
}

static int bad(uint64_t seq, const struct repagent_slot *slot, const char *what)
{
	log_err("record %" PRIu64 " makes no sense: %s (type %u, volume %u, sector %" PRIu64
		" + %" PRIu64 ", payload %" PRIu64 " + %u); nothing more is sent. "
		"Is the daemon older than the module?",
		seq, what, slot->type, slot->volume, (uint64_t)slot->sector,
		(uint64_t)slot->nr_sectors, (uint64_t)slot->pos, slot->len);
	return -EBADMSG;
}

static int check_volume(struct stream *s, const struct repagent_slot *slot,
			struct record *rec, unsigned int has)
{
	uint64_t end;
	struct volume *v;
	int r;

	rec->volume = find_volume(s, slot->volume);
	if (rec->volume < 0) {
		r = stream_refresh(s);
		if (r < 0)
			return r;
		rec->volume = find_volume(s, slot->volume);
	}
	if (!slot->volume || rec->volume < 0)
		return bad(rec->seq, slot, "its volume is unknown");
	v = &s->volume[rec->volume];

	if (has & (HAS_RANGE | HAS_SIZE) &&
	    (__builtin_add_overflow(slot->sector, slot->nr_sectors, &end) ||
	     end > UINT64_MAX >> SECTOR_SHIFT))
		return bad(rec->seq, slot, "its range overflows");
	if (has & HAS_SIZE && v->limit < slot->nr_sectors << SECTOR_SHIFT)
		v->limit = slot->nr_sectors << SECTOR_SHIFT;
	if (has & (HAS_RANGE | HAS_SIZE))
		rec->length = slot->nr_sectors << SECTOR_SHIFT;
	if (!(has & HAS_RANGE))
		return 0;
	rec->offset = slot->sector << SECTOR_SHIFT;
	if (!rec->length)
		return bad(rec->seq, slot, "its range is empty");
	if (rec->offset + rec->length > v->limit) {
		/* It may have grown since we asked. */
		r = stream_refresh(s);
		if (r < 0)
			return r;
		if (rec->offset + rec->length > v->limit)
			return bad(rec->seq, slot, "its range is beyond the end of its volume");
	}
	return 0;
}

static int check(struct stream *s, const struct repagent_slot *slot,
		 struct record *rec)
{
	unsigned int has;
	int r;

	if (slot->type == 0 || slot->type >= REPAGENT_NR_TYPES)
		return bad(rec->seq, slot, "its type is unknown");
	has = type_has[slot->type];
	rec->type = slot->type;
	rec->flags = slot->flags & REPAGENT_REC_FUA;
	rec->aux = slot->aux;
	rec->time = slot->time;
	if (has & HAS_VOLUME) {
		r = check_volume(s, slot, rec, has);
		if (r < 0)
			return r;
	}
	if (!(has & (HAS_DATA | HAS_TEXT)))
		return 0;
	if (slot->len > REPAGENT_MAX_RECORD || slot->pos >= s->payload_size ||
	    slot->len > s->payload_size)
		return bad(rec->seq, slot, "its payload is outside the ring");
	rec->payload = s->payload + slot->pos;
	rec->payload_len = slot->len;
	if (has & HAS_DATA && slot->len != rec->length)
		return bad(rec->seq, slot, "its payload is not as long as its range");
	if (has & HAS_TEXT && (!slot->len || slot->len > REPAGENT_LABEL_MAX + 1 ||
			       s->payload[slot->pos + slot->len - 1]))
		return bad(rec->seq, slot, "its label does not end");
	return 0;
}

/**
 * stream_peek - look at the next record
 * @s: the stream
 * @rec: a checked copy; stays the next record until stream_advance()
 *
 * Return: 1, 0 if it is not there yet, -EBADMSG if it makes no sense (a line
 * was logged), or the negative errno of an ioctl.
 */
int stream_peek(struct stream *s, struct record *rec)
{
	const struct repagent_slot *shared = slot_of(s, s->next);
	struct repagent_slot slot;
	uint64_t commit, seq;
	int r;

	if (s->next > s->end)
		return 0;
	commit = __atomic_load_n(&shared->commit, __ATOMIC_ACQUIRE);
	seq = commit >> REPAGENT_SLOT_SHIFT;
	if (seq < s->next)
		return 0;
	memcpy(&slot, shared, sizeof(slot));
	if (seq > s->next)
		return bad(s->next, &slot, "its place is taken by a later one");

	memset(rec, 0, sizeof(*rec));
	rec->seq = seq;
	rec->volume = -1;
	switch (commit & 0xff) {
	case REPAGENT_SLOT_BUSY:
		return 0;
	case REPAGENT_SLOT_VOID:
		return 1;
	case REPAGENT_SLOT_READY:
		r = check(s, &slot, rec);
		return r < 0 ? r : 1;
	default:
		return bad(seq, &slot, "its state is unknown");
	}
}

/**
 * stream_advance - take the record that stream_peek() showed
 * @s: the stream
 */
void stream_advance(struct stream *s)
{
	s->next++;
}

/**
 * stream_skip - go on behind a record that is not taken, nor those before it
 * @s: the stream
 * @seq: its number, not below the last that was acknowledged
 */
void stream_skip(struct stream *s, uint64_t seq)
{
	s->next = seq + 1;
}

/**
 * stream_oldest_time - when the oldest unacknowledged record was reserved
 * @s: the stream
 *
 * Return: ns of CLOCK_REALTIME, or 0 if there is none that is ready.
 */
uint64_t stream_oldest_time(const struct stream *s)
{
	return is_there(s, s->acked + 1) ? slot_of(s, s->acked + 1)->time : 0;
}

/**
 * stream_ack - say that everything up to a record is durable at the hub
 * @s: the stream
 * @seq: its sequence number
 *
 * Return: 0 or a negative errno.
 */
int stream_ack(struct stream *s, uint64_t seq)
{
	struct repagent_ack ack = { .incarnation = s->incarnation, .seq = seq };
	uint64_t settled = slot_of(s, seq)->end;
	int r = s->ring->ops->ack(s->ring, &ack);

	if (r < 0)
		return r;
	s->acked = seq;
	s->settled = settled;
	return 0;
}

/**
 * stream_hub - say whether the hub takes the stream
 * @s: the stream
 * @connected: whether it does
 * @reason: if not, an enum repagent_reason
 *
 * Return: 0 or a negative errno.
 */
int stream_hub(struct stream *s, bool connected, unsigned int reason)
{
	struct repagent_hub hub = {
		.incarnation = s->incarnation,
		.connected = connected,
		.reason = reason,
	};

	return s->ring->ops->hub(s->ring, &hub);
}

/**
 * stream_wait - have the ring's file descriptor wake us
 * @s: the stream
 * @seq: when this record is there; UINT64_MAX: for changes of state only
 *
 * What was asked for stays in force: the same again costs nothing, until
 * stream_woken().
 *
 * Return: 1 if that is so already, 0, or a negative errno.
 */
int stream_wait(struct stream *s, uint64_t seq)
{
	struct repagent_wait wait = { .seq = seq, .events = s->info.events };
	int r;

	if (wait.seq == s->armed.seq && wait.events == s->armed.events)
		return 0;
	r = s->ring->ops->wait(s->ring, &wait);
	if (r == 0)
		s->armed = wait;
	return r;
}

/**
 * stream_woken - the ring's file descriptor has woken us
 * @s: the stream
 */
void stream_woken(struct stream *s)
{
	s->armed.seq = 0;
}

/**
 * stream_emit - put a record of our own into the stream
 * @s: the stream
 * @type: REPAGENT_REC_CHECKPOINT or REPAGENT_REC_SHUTDOWN
 * @label: of the checkpoint, at most REPAGENT_LABEL_MAX bytes; else NULL
 * @seq: out: its number
 *
 * Return: 0, -EAGAIN if the group does not stream, -ENOSPC if the ring has no
 * room, or another negative errno.
 */
int stream_emit(struct stream *s, unsigned int type, const char *label, uint64_t *seq)
{
	struct repagent_emit emit = { .type = (uint16_t)type };
	int r;

	if (label)
		snprintf(emit.label, sizeof(emit.label), "%s", label);
	r = s->ring->ops->emit(s->ring, &emit);
	*seq = emit.seq;
	return r;
}

/**
 * stream_verify - have a range read into the stream, to be compared
 * @s: the stream
 * @id: of the volume
 * @offset, @length: bytes, multiples of 512; as REPAGENT_IOC_EMIT has it
 *
 * Nothing may come of it: it is dropped where the group does not stream when its turn comes.
 *
 * Return: 0, -EAGAIN if the group does not stream or has enough of them on their
 * way, -ENOSPC if the ring has no room, or another negative errno.
 */
int stream_verify(struct stream *s, uint16_t id, uint64_t offset, uint64_t length)
{
	struct repagent_emit emit = {
		.type = REPAGENT_REC_VERIFY,
		.volume = id,
		.sector = offset >> SECTOR_SHIFT,
		.nr_sectors = length >> SECTOR_SHIFT,
	};

	return s->ring->ops->emit(s->ring, &emit);
}

/**
 * stream_dirty - what the stream lacks of a volume
 * @s: the stream
 * @dirty: in and out, as REPAGENT_IOC_DIRTY has it
 *
 * Return: 0 or a negative errno.
 */
int stream_dirty(struct stream *s, struct repagent_dirty *dirty)
{
	return s->ring->ops->dirty(s->ring, dirty);
}
