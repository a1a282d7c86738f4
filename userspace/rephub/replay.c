// SPDX-License-Identifier: GPL-2.0-or-later
#include <endian.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "replay.h"

static bool seen(const struct replay *r, uint64_t incarnation)
{
	unsigned int i;

	for (i = 0; i < r->nr_seen; i++)
		if (r->seen[i] == incarnation)
			return true;
	return false;
}

/**
 * replay_frame - may this frame come next?
 * @r: the log up to there; taken on to the frame's end but for its records
 * @h: the frame
 * @first_type: of its first record; 0: it has none
 * @how: out: REPLAY_NEW, REPLAY_JUMP
 * @error: FRAME_ERROR_MAX bytes for why not
 *
 * Return: 0, EINVAL, or EPERM for an incarnation that is over.
 */
int replay_frame(struct replay *r, const struct frame_header *h, unsigned int first_type,
		 uint32_t *how, char *error)
{
	bool gap = first_type == REPAGENT_REC_GAP;

	*how = 0;
	if (h->incarnation == r->incarnation) {
		if (h->first != r->seq + 1 && (h->first <= r->seq || !gap)) {
			snprintf(error, FRAME_ERROR_MAX, "first %" PRIu64 ": expected %" PRIu64
				 ", the number after the last frame, or a GAP beyond it", h->first, r->seq + 1);
			return EINVAL;
		}
		if (h->first != r->seq + 1)
			*how = REPLAY_JUMP;
	} else {
		if (seen(r, h->incarnation)) {
			snprintf(error, FRAME_ERROR_MAX, "incarnation %016" PRIx64 " is over: %016" PRIx64
				 " has written since", h->incarnation, r->incarnation);
			return EPERM;
		}
		if (h->first != 1 && !gap) {
			snprintf(error, FRAME_ERROR_MAX, "first %" PRIu64 ": expected 1 in incarnation %016" PRIx64
				 ", which is new, or a GAP", h->first, h->incarnation);
			return EINVAL;
		}
		*how = h->first != 1 ? REPLAY_NEW | REPLAY_JUMP : REPLAY_NEW;
		if (r->nr_seen == REPLAY_SEEN)
			memmove(r->seen, r->seen + 1, --r->nr_seen * sizeof(r->seen[0]));
		r->seen[r->nr_seen++] = h->incarnation;
		r->incarnation = h->incarnation;
	}
	r->seq = h->last;
	replay_apply(r, *how);
	return 0;
}

/**
 * replay_apply - what the way in which a frame continues the log does to the volumes
 * @r: the log
 * @how: of the frame
 */
void replay_apply(struct replay *r, uint32_t how)
{
	unsigned int i;

	for (i = 0; i < r->nr; i++) {
		struct replay_volume *v = &r->volume[i];

		if (how & REPLAY_NEW) {
			memset(v->id, 0, sizeof(v->id));
			v->map_error = false;
		}
		if (v->state == VOLUME_RESYNC ? how & (REPLAY_NEW | REPLAY_JUMP) :
		    v->state == VOLUME_GOOD && how & REPLAY_JUMP)
			v->state = VOLUME_LOST;
	}
}

/**
 * replay_owes - is what a map says after the end of this incarnation not to be trusted?
 * @r: the log
 *
 * Return: whether a volume's map could not be written when last was heard of it.
 */
bool replay_owes(const struct replay *r)
{
	unsigned int i;

	for (i = 0; i < r->nr; i++)
		if (r->volume[i].map_error)
			return true;
	return false;
}

/**
 * replay_find - which volume has this id?
 * @r: the log
 * @id: not 0
 *
 * Return: its place in r->volume, or -1.
 */
int replay_find(const struct replay *r, uint16_t id)
{
	unsigned int i;

	for (i = 0; i < r->nr; i++)
		if (r->volume[i].id[0] == id || r->volume[i].id[1] == id)
			return (int)i;
	return -1;
}

/**
 * replay_name - an id is given a name
 * @r: the log
 * @v: both
 * @error: FRAME_ERROR_MAX bytes for why not
 *
 * Return: whether that can be.
 */
bool replay_name(struct replay *r, const struct frame_volume *v, char *error)
{
	int at = replay_find(r, v->id);
	struct replay_volume *to;
	unsigned int i;

	if (at >= 0) {
		if (!strcmp(r->volume[at].name, v->name))
			return true;
		snprintf(error, FRAME_ERROR_MAX, "volume id %u is called %s: expected %s, as before", v->id,
			 v->name, r->volume[at].name);
		return false;
	}
	for (i = 0; i < r->nr && strcmp(r->volume[i].name, v->name); i++)
		;
	to = &r->volume[i];
	if (i == r->nr) {
		if (r->nr == REPAGENT_MAX_VOLUMES) {
			snprintf(error, FRAME_ERROR_MAX, "volume %s: expected at most %d that the group ever had",
				 v->name, REPAGENT_MAX_VOLUMES);
			return false;
		}
		memset(to, 0, sizeof(*to));
		memcpy(to->name, v->name, sizeof(to->name));
		to->sectors = v->sectors;
		r->nr++;
	}
	to->id[1] = to->id[0];
	to->id[0] = v->id;
	return true;
}

/**
 * replay_record - what a record does to the volumes' states
 * @r: the log
 * @type: of the record
 * @volume: its place in r->volume; nothing where it has none
 * @nr_sectors: of the record
 */
void replay_record(struct replay *r, unsigned int type, unsigned int volume, uint64_t nr_sectors)
{
	struct replay_volume *v = &r->volume[volume];
	unsigned int i;

	switch (type) {
	case REPAGENT_REC_GAP:
		for (i = 0; i < r->nr; i++)
			if (r->volume[i].state == VOLUME_RESYNC)
				r->volume[i].state = VOLUME_LOST;
		break;
	case REPAGENT_REC_VOLUME_ADD:
	case REPAGENT_REC_RESYNC_BEGIN:
		v->state = VOLUME_RESYNC;
		v->removed = false;
		v->sectors = nr_sectors;
		break;
	case REPAGENT_REC_RESYNC_END:
		if (v->state == VOLUME_RESYNC)
			v->state = VOLUME_GOOD;
		break;
	case REPAGENT_REC_VOLUME_RESIZE:
		v->sectors = nr_sectors;
		break;
	case REPAGENT_REC_VOLUME_REMOVE:
		v->removed = true;
		if (v->state == VOLUME_RESYNC)
			v->state = VOLUME_LOST;
		break;
	case REPAGENT_REC_MAP_ERROR:
	case REPAGENT_REC_MAP_OK:
		v->map_error = type == REPAGENT_REC_MAP_ERROR;
		break;
	default:
		break;
	}
}

/**
 * replay_state - why a volume is not to be used at this place
 * @v: the volume
 *
 * Return: the rest of a sentence that begins with its name; NULL: it can be used.
 */
const char *replay_state(const struct replay_volume *v)
{
	switch (v->state) {
	case VOLUME_GOOD:
		return NULL;
	case VOLUME_RESYNC:
		return "is being resynchronised there: its image is torn until that ends";
	case VOLUME_LOST:
		return "lacks writes there that were never received, until its next resync has ended";
	default:
		return "has no image there yet";
	}
}

/* ---- as bytes, in a segment's header ------------------------------------- */

static void put(uint8_t *p, uint64_t v, size_t bytes)
{
	v = htole64(v);
	memcpy(p, &v, bytes);
}

static uint64_t get(const uint8_t *p, size_t bytes)
{
	uint64_t v = 0;

	memcpy(&v, p, bytes);
	return le64toh(v);
}

/**
 * replay_encode - make bytes of it
 * @r: the log
 * @p: REPLAY_BYTES
 *
 * incarnation u64, seq u64, nr u32, nr_seen u32, reserved u64; seen; volumes of 48 bytes:
 * name 32, id 2 x u16, state u8, removed u8, map_error u8, reserved u8, sectors u64.
 */
void replay_encode(const struct replay *r, uint8_t *p)
{
	unsigned int i;

	memset(p, 0, REPLAY_BYTES);
	put(p, r->incarnation, 8);
	put(p + 8, r->seq, 8);
	put(p + 16, r->nr, 4);
	put(p + 20, r->nr_seen, 4);
	p += 32;
	for (i = 0; i < r->nr_seen; i++)
		put(p + 8 * i, r->seen[i], 8);
	p += 8 * REPLAY_SEEN;
	for (i = 0; i < r->nr; i++, p += 48) {
		memcpy(p, r->volume[i].name, 32);
		put(p + 32, r->volume[i].id[0], 2);
		put(p + 34, r->volume[i].id[1], 2);
		p[36] = (uint8_t)r->volume[i].state;
		p[37] = r->volume[i].removed;
		p[38] = r->volume[i].map_error;
		put(p + 40, r->volume[i].sectors, 8);
	}
}

/**
 * replay_decode - read what replay_encode() made
 * @r: out
 * @p: REPLAY_BYTES
 *
 * Return: whether it makes sense.
 */
bool replay_decode(struct replay *r, const uint8_t *p)
{
	unsigned int i;

	memset(r, 0, sizeof(*r));
	r->incarnation = get(p, 8);
	r->seq = get(p + 8, 8);
	r->nr = (unsigned int)get(p + 16, 4);
	r->nr_seen = (unsigned int)get(p + 20, 4);
	if (r->nr > REPAGENT_MAX_VOLUMES || r->nr_seen > REPLAY_SEEN || !r->incarnation != !r->seq)
		return false;
	p += 32;
	for (i = 0; i < r->nr_seen; i++)
		r->seen[i] = get(p + 8 * i, 8);
	p += 8 * REPLAY_SEEN;
	for (i = 0; i < r->nr; i++, p += 48) {
		struct replay_volume *v = &r->volume[i];

		memcpy(v->name, p, 32);
		v->id[0] = (uint16_t)get(p + 32, 2);
		v->id[1] = (uint16_t)get(p + 34, 2);
		v->removed = p[37];
		v->map_error = p[38];
		v->sectors = get(p + 40, 8);
		if (v->name[31] || !frame_name_ok(v->name) || p[36] >= VOLUME_NR_STATES ||
		    v->sectors > FRAME_MAX_SECTORS)
			return false;
		v->state = (enum volume_state)p[36];
	}
	return true;
}
