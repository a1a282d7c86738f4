// SPDX-License-Identifier: GPL-2.0-or-later
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "libcheck.h"
#include "libtest.h"

#define MAX_REPORTS	40u

/* Times are coarse and the clock may be slewed, but they do not run back far. */
#define TIME_SLACK_NS	50000000ull

const char *const check_type_names[REPAGENT_NR_TYPES] = {
	[0]				= "none",
	[REPAGENT_REC_WRITE]		= "write",
	[REPAGENT_REC_ZEROES]		= "zeroes",
	[REPAGENT_REC_DISCARD]		= "discard",
	[REPAGENT_REC_FLUSH]		= "flush",
	[REPAGENT_REC_CHECKPOINT]	= "checkpoint",
	[REPAGENT_REC_RESYNC]		= "resync",
	[REPAGENT_REC_RESYNC_BEGIN]	= "resync_begin",
	[REPAGENT_REC_RESYNC_END]	= "resync_end",
	[REPAGENT_REC_VERIFY]		= "verify",
	[REPAGENT_REC_GAP]		= "gap",
	[REPAGENT_REC_VOLUME_ADD]	= "volume_add",
	[REPAGENT_REC_VOLUME_REMOVE]	= "volume_remove",
	[REPAGENT_REC_VOLUME_RESIZE]	= "volume_resize",
	[REPAGENT_REC_FAILED]		= "failed",
	[REPAGENT_REC_SHUTDOWN]		= "shutdown",
	[REPAGENT_REC_MAP_ERROR]	= "map_error",
	[REPAGENT_REC_MAP_OK]		= "map_ok",
};

const char *const check_reason_names[REPAGENT_NR_REASONS] = {
	[REPAGENT_REASON_NONE]		= "none",
	[REPAGENT_REASON_FIRST_SYNC]	= "first-sync",
	[REPAGENT_REASON_UNCLEAN]	= "unclean",
	[REPAGENT_REASON_NO_MAP]	= "no-map",
	[REPAGENT_REASON_RING_FULL]	= "ring-full",
	[REPAGENT_REASON_HUB_REFUSED]	= "hub-refused",
	[REPAGENT_REASON_HUB_FULL]	= "hub-full",
	[REPAGENT_REASON_FENCED]	= "fenced",
	[REPAGENT_REASON_PAUSED]	= "paused",
	[REPAGENT_REASON_META_ERROR]	= "meta-error",
	[REPAGENT_REASON_WRITE_FAILED]	= "write-failed",
	[REPAGENT_REASON_REQUESTED]	= "requested",
	[REPAGENT_REASON_RESIZED]	= "resized",
};

/* What a record of each type must and must not have. */
enum {
	HAS_VOLUME	= 1 << 0,
	HAS_RANGE	= 1 << 1,
	HAS_DATA	= 1 << 2,	/* nr_sectors * 512 bytes */
	HAS_SIZE	= 1 << 3,	/* nr_sectors is the volume's size */
	MAY_FUA		= 1 << 4,
	IN_GAP		= 1 << 5,	/* may stand between GAP and RESYNC_BEGIN */
	IN_RESYNC	= 1 << 6,	/* only inside RESYNC_BEGIN..END */
};

static const unsigned int grammar[REPAGENT_NR_TYPES] = {
	[REPAGENT_REC_WRITE]		= HAS_VOLUME | HAS_RANGE | HAS_DATA | MAY_FUA,
	[REPAGENT_REC_ZEROES]		= HAS_VOLUME | HAS_RANGE | MAY_FUA,
	[REPAGENT_REC_DISCARD]		= HAS_VOLUME | HAS_RANGE,
	[REPAGENT_REC_FLUSH]		= HAS_VOLUME,
	[REPAGENT_REC_CHECKPOINT]	= IN_GAP,
	[REPAGENT_REC_RESYNC]		= HAS_VOLUME | HAS_RANGE | HAS_DATA | IN_RESYNC,
	[REPAGENT_REC_RESYNC_BEGIN]	= HAS_VOLUME | HAS_SIZE | IN_GAP,
	[REPAGENT_REC_RESYNC_END]	= HAS_VOLUME | HAS_SIZE | IN_RESYNC,
	[REPAGENT_REC_VERIFY]		= HAS_VOLUME | HAS_RANGE | HAS_DATA,
	[REPAGENT_REC_GAP]		= 0,
	[REPAGENT_REC_VOLUME_ADD]	= HAS_VOLUME | HAS_SIZE | IN_GAP,
	[REPAGENT_REC_VOLUME_REMOVE]	= HAS_VOLUME | IN_GAP,
	[REPAGENT_REC_VOLUME_RESIZE]	= HAS_VOLUME | HAS_SIZE | IN_GAP,
	[REPAGENT_REC_FAILED]		= HAS_VOLUME | HAS_RANGE,
	[REPAGENT_REC_SHUTDOWN]		= IN_GAP,
	[REPAGENT_REC_MAP_ERROR]	= HAS_VOLUME | IN_GAP,
	[REPAGENT_REC_MAP_OK]		= HAS_VOLUME | IN_GAP,
};

void check_error(struct checker *c, const char *fmt, ...)
{
	va_list ap;

	if (++c->errors > MAX_REPORTS)
		return;
	fprintf(stderr, "record %llu: ", (unsigned long long)c->next_seq);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fprintf(stderr, c->errors == MAX_REPORTS ? " (no more are shown)\n" : "\n");
}

static void report_dep(void *ctx, const char *text)
{
	check_error(ctx, "%s", text);
}

void check_init(struct checker *c)
{
	memset(c, 0, sizeof(*c));
	c->dep.report = report_dep;
	c->dep.ctx = c;
}

void check_replica(struct checker *c, const char *volume, int fd)
{
	struct check_volume *v;

	if (c->nr_volumes == REPAGENT_MAX_VOLUMES)
		die("too many volumes");
	v = &c->volumes[c->nr_volumes++];
	memset(v, 0, sizeof(*v));
	snprintf(v->name, sizeof(v->name), "%s", volume);
	v->replica = fd;
}

static struct check_volume *find_volume(struct checker *c, uint16_t id)
{
	char name[REPAGENT_NAME_MAX + 1];
	struct check_volume *v;
	uint64_t sectors;

	for (unsigned int i = 0; i < c->nr_volumes; i++)
		if (c->volumes[i].id == id)
			return &c->volumes[i];

	if (c->lookup(c->ctx, id, name, &sectors))
		return NULL;

	/* Known by name only, or re-created under a new id: the same replica. */
	for (unsigned int i = 0; i < c->nr_volumes; i++) {
		v = &c->volumes[i];
		if (strcmp(v->name, name) || (v->id && !v->removed))
			continue;
		v->id = id;
		v->sectors = sectors;
		v->removed = false;
		return v;
	}
	check_replica(c, name, -1);
	v = &c->volumes[c->nr_volumes - 1];
	v->id = id;
	v->sectors = sectors;
	return v;
}

bool check_is_consistent(const struct checker *c)
{
	if (c->phase != PHASE_STREAM)
		return false;
	for (unsigned int i = 0; i < c->nr_volumes; i++)
		if (c->volumes[i].torn)
			return false;
	return true;
}

static void replica_write(struct check_volume *v, const void *buf, size_t len, off_t at)
{
	while (len) {
		ssize_t n = pwrite(v->replica, buf, len, at);

		if (n <= 0)
			die("replica of %s: %s", v->name, strerror(errno));
		buf = (const char *)buf + n;
		len -= (size_t)n;
		at += n;
	}
}

static void replica_zero(struct check_volume *v, off_t at, uint64_t len)
{
	static const char zeroes[65536];

	if (!fallocate(v->replica, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, at,
		       (off_t)len))
		return;
	while (len) {
		size_t n = len < sizeof(zeroes) ? len : sizeof(zeroes);

		replica_write(v, zeroes, n, at);
		len -= n;
		at += (off_t)n;
	}
}

static void replica_resize(struct check_volume *v)
{
	if (v->replica >= 0 && ftruncate(v->replica, (off_t)(v->sectors * SECTOR)))
		die("replica of %s: %s", v->name, strerror(errno));
}

static void apply(struct check_volume *v, const struct repagent_slot *s, const void *payload)
{
	off_t at = (off_t)(s->sector * SECTOR);

	if (!v || v->replica < 0)
		return;
	switch (s->type) {
	case REPAGENT_REC_WRITE:
	case REPAGENT_REC_RESYNC:
		replica_write(v, payload, s->len, at);
		break;
	case REPAGENT_REC_ZEROES:
	case REPAGENT_REC_DISCARD:
		replica_zero(v, at, s->nr_sectors * SECTOR);
		break;
	case REPAGENT_REC_RESYNC_BEGIN:
	case REPAGENT_REC_VOLUME_RESIZE:
		replica_resize(v);
		break;
	}
}

static void check_words(struct checker *c, const struct repagent_slot *s, const void *payload,
			uint64_t acked_end)
{
	unsigned int has = grammar[s->type];
	uint64_t now = realtime_ns();

	if (s->flags & ~((has & MAY_FUA) ? REPAGENT_REC_FUA : 0))
		check_error(c, "%s has flags 0x%x", check_type_names[s->type], s->flags);
	if (s->reserved0)
		check_error(c, "a reserved word is not 0");
	if (!(has & HAS_VOLUME) != !s->volume)
		check_error(c, "%s names volume %u", check_type_names[s->type], s->volume);
	if ((has & HAS_RANGE) && !s->nr_sectors)
		check_error(c, "%s has an empty range", check_type_names[s->type]);
	if (!(has & (HAS_RANGE | HAS_SIZE)) && (s->nr_sectors || s->sector))
		check_error(c, "%s has a range", check_type_names[s->type]);

	if (s->time + TIME_SLACK_NS < c->start_ns || s->time > now + TIME_SLACK_NS)
		check_error(c, "its time %llu is not in %llu..%llu", (unsigned long long)s->time,
			    (unsigned long long)c->start_ns, (unsigned long long)now);
	if (s->time + TIME_SLACK_NS < c->last_time)
		check_error(c, "its time is %llu ns before that of its predecessor",
			    (unsigned long long)(c->last_time - s->time));
	c->last_time = s->time;

	if (s->type == REPAGENT_REC_CHECKPOINT) {
		const char *label = payload;

		if (!s->len || s->len > REPAGENT_LABEL_MAX + 1 || label[s->len - 1] ||
		    memchr(label, 0, s->len - 1))
			check_error(c, "its label is no string of 1..%u bytes",
				    REPAGENT_LABEL_MAX + 1);
		else
			memcpy(c->label, label, s->len);
	} else if (s->len != ((has & HAS_DATA) ? s->nr_sectors * SECTOR : 0)) {
		check_error(c, "%s of %llu sectors has %u bytes of payload",
			    check_type_names[s->type], (unsigned long long)s->nr_sectors, s->len);
	}

	if (s->type == REPAGENT_REC_GAP &&
	    (s->aux <= REPAGENT_REASON_NONE || s->aux >= REPAGENT_NR_REASONS))
		check_error(c, "GAP has reason %d", s->aux);
	if (s->type == REPAGENT_REC_FAILED && s->aux <= 0)
		check_error(c, "FAILED has errno %d", s->aux);

	/*
	 * Payload is taken round the ring: between the predecessor's end and
	 * its own, and never from what is not acknowledged.
	 */
	if (s->end < c->payload_end || s->end - c->payload_end < s->len)
		check_error(c, "its end %llu does not follow %llu by %u bytes",
			    (unsigned long long)s->end, (unsigned long long)c->payload_end, s->len);
	else if (s->end - acked_end > c->payload_size)
		check_error(c, "its payload lies over that of an unacknowledged one");
	else if (s->len && (s->pos + c->payload_size - c->payload_end % c->payload_size) %
			   c->payload_size + s->len > s->end - c->payload_end)
		check_error(c, "its payload at %llu is not between the ends %llu and %llu",
			    (unsigned long long)s->pos, (unsigned long long)c->payload_end,
			    (unsigned long long)s->end);
	c->payload_end = s->end;
}

static void check_grammar(struct checker *c, const struct repagent_slot *s,
			  struct check_volume *v)
{
	unsigned int has = grammar[s->type];
	const char *name = check_type_names[s->type];

	if (c->phase == PHASE_GAP && !(has & IN_GAP))
		check_error(c, "%s without a RESYNC_BEGIN before it", name);

	if (c->phase == PHASE_BEGIN && s->type != REPAGENT_REC_RESYNC_BEGIN) {
		c->phase = PHASE_STREAM;
		for (unsigned int i = 0; i < c->nr_volumes; i++) {
			struct check_volume *w = &c->volumes[i];

			if (w->torn && !w->resync && !w->removed)
				check_error(c, "volume %s is torn and has no RESYNC_BEGIN of its own",
					    w->name);
		}
	}

	if (v && (has & IN_RESYNC) && !v->resync && c->phase != PHASE_UNKNOWN)
		check_error(c, "%s outside a resync of volume %s", name, v->name);
	if (v && (has & HAS_RANGE) && v->sectors &&
	    (s->sector > v->sectors || s->nr_sectors > v->sectors - s->sector))
		check_error(c, "%s of sectors %llu + %llu ends behind volume %s", name,
			    (unsigned long long)s->sector, (unsigned long long)s->nr_sectors,
			    v->name);
	if (v && v->removed && s->type != REPAGENT_REC_VOLUME_ADD &&
	    (s->type != REPAGENT_REC_RESYNC_BEGIN || c->phase == PHASE_STREAM))
		check_error(c, "%s after the removal of volume %s", name, v->name);

	switch (s->type) {
	case REPAGENT_REC_GAP:
		if (c->phase == PHASE_GAP)
			check_error(c, "GAP in a gap");
		c->phase = PHASE_GAP;
		if (s->aux > 0 && s->aux < REPAGENT_NR_REASONS)
			c->reasons[s->aux]++;
		for (unsigned int i = 0; i < c->nr_volumes; i++)
			c->volumes[i].resync = false;
		break;
	case REPAGENT_REC_RESYNC_BEGIN:
		if (c->phase == PHASE_GAP || c->phase == PHASE_UNKNOWN)
			c->phase = PHASE_BEGIN;
		if (!v)
			break;
		if (v->resync)
			check_error(c, "RESYNC_BEGIN inside a resync of volume %s", v->name);
		v->sectors = s->nr_sectors;
		v->removed = false;
		v->resync = true;
		v->torn = true;
		break;
	case REPAGENT_REC_RESYNC_END:
		if (v) {
			v->resync = false;
			v->torn = false;
		}
		break;
	case REPAGENT_REC_VOLUME_ADD:
		if (v)
			v->removed = false;
		/* fall through */
	case REPAGENT_REC_VOLUME_RESIZE:
		if (v)
			v->sectors = s->nr_sectors;
		break;
	case REPAGENT_REC_VOLUME_REMOVE:
		if (v) {
			v->removed = true;
			v->resync = false;
		}
		break;
	}
}

void check_record(struct checker *c, const struct repagent_slot *s, const void *payload,
		  uint64_t acked_end)
{
	struct check_volume *v = NULL;
	uint8_t state = s->commit & ((1 << REPAGENT_SLOT_SHIFT) - 1);
	bool was;

	if (!c->begun) {
		c->begun = true;
		c->next_seq = s->commit >> REPAGENT_SLOT_SHIFT;
		c->phase = c->next_seq == 1 ? PHASE_GAP : PHASE_UNKNOWN;
		c->payload_end = s->end - s->len;
		if (s->len)
			c->payload_end -= (c->payload_end + c->payload_size - s->pos) %
					  c->payload_size;
	}
	was = check_is_consistent(c);

	if (s->commit >> REPAGENT_SLOT_SHIFT != c->next_seq)
		check_error(c, "the slot says %llu",
			    (unsigned long long)(s->commit >> REPAGENT_SLOT_SHIFT));
	if (s->pos >= c->payload_size || s->len > c->payload_size ||
	    s->len > REPAGENT_MAX_RECORD) {
		check_error(c, "its payload, %u bytes at %llu, is not in the ring", s->len,
			    (unsigned long long)s->pos);
		c->next_seq++;
		return;
	}
	if (state == REPAGENT_SLOT_VOID) {
		c->voids++;
		c->payload_end = s->end;
		c->next_seq++;
		return;
	}
	if (state != REPAGENT_SLOT_READY)
		check_error(c, "its state is %u", state);
	if (!s->type || s->type >= REPAGENT_NR_TYPES) {
		check_error(c, "it has the unknown type %u", s->type);
		c->next_seq++;
		return;
	}

	check_words(c, s, payload, acked_end);
	if (s->volume) {
		v = find_volume(c, s->volume);
		if (!v)
			check_error(c, "%s names volume %u, which does not exist",
				    check_type_names[s->type], s->volume);
	}
	check_grammar(c, s, v);
	apply(v, s, payload);

	c->records[s->type]++;
	if (s->flags & REPAGENT_REC_FUA)
		c->fua++;
	switch (s->type) {
	case REPAGENT_REC_WRITE:
		c->write_bytes += s->len;
		break;
	case REPAGENT_REC_ZEROES:
		c->zero_bytes += s->nr_sectors * SECTOR;
		break;
	case REPAGENT_REC_RESYNC:
		c->resync_bytes += s->len;
		break;
	}

	if (c->dependent) {
		if (s->type == REPAGENT_REC_WRITE || s->type == REPAGENT_REC_RESYNC)
			dep_feed(&c->dep, payload, s->len, s->sector * SECTOR,
				 check_is_consistent(c));
		/* From here on every prefix counts again: begin with this one. */
		if (!was && check_is_consistent(c))
			dep_check_image(&c->dep);
	}
	if (check_is_consistent(c))
		c->consistent++;
	c->next_seq++;
}
