// SPDX-License-Identifier: GPL-2.0-or-later
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "../tools/libdmctl.h"
#include "agent.h"
#include "serve.h"

#define NAP_MS	10

/* One opening of the ring; all of it the thread's own. */
struct session {
	struct agent *a;
	struct ring ring;
	struct checker checker;
	uint64_t next;			/* record */
	uint64_t acked, acked_end;
	uint64_t hub_epoch;
	bool connected;
	unsigned int unflushed;		/* records */
	struct agent_state flushed;	/* what to keep once it is acknowledged */
	uint64_t flushed_seq;
	uint16_t id[VOLUMES];
};

static void nap(unsigned int ms)
{
	struct timespec t = { .tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000 };

	nanosleep(&t, NULL);
}

/* The host is down, or somebody has killed us. */
static bool is_over(const struct agent *a)
{
	return atomic_load(&a->dies) || serve_is_cut();
}

static int lookup(void *ctx, uint16_t id, char *name, uint64_t *sectors)
{
	const struct session *s = ctx;
	struct repagent_volume_info v;

	for (unsigned int i = 0; i < REPAGENT_MAX_VOLUMES; i++) {
		if (ring_volume(&s->ring, i, &v) < 0 || v.id != id)
			continue;
		snprintf(name, REPAGENT_NAME_MAX + 1, "%s", v.name);
		*sectors = v.sectors;
		return 0;
	}
	return -ENOENT;
}

/* Which of our volumes has this id; VOLUMES: none. They are called v0, v1. */
static unsigned int volume_of(struct session *s, uint16_t id)
{
	char name[REPAGENT_NAME_MAX + 1];
	unsigned int i;
	uint64_t sectors;

	for (i = 0; i < VOLUMES; i++)
		if (s->id[i] == id)
			return i;
	if (lookup(s, id, name, &sectors) || name[0] != 'v' || name[1] < '0' || name[1] >= '0' + VOLUMES)
		return VOLUMES;
	i = (unsigned int)(name[1] - '0');
	s->id[i] = id;
	return i;
}

/* The hub's side of a record of its volume @v. Under the world's lock. */
static void apply(struct session *s, unsigned int v, const struct repagent_slot *slot, const void *payload)
{
	struct hub *h = s->a->hub;

	if ((slot->commit & 0xff) == REPAGENT_SLOT_READY && v < VOLUMES) {
		switch (slot->type) {
		case REPAGENT_REC_WRITE:
		case REPAGENT_REC_RESYNC:
		case REPAGENT_REC_ZEROES:
			if (slot->sector + slot->nr_sectors <= h->disk[v].sectors)
				disk_write(&h->disk[v], slot->sector, slot->nr_sectors,
					   slot->type == REPAGENT_REC_ZEROES ? NULL : payload, false);
			break;
		case REPAGENT_REC_MAP_ERROR:
			h->now.map_error[v] = s->ring.incarnation;
			break;
		case REPAGENT_REC_MAP_OK:
			h->now.map_error[v] = 0;
			break;
		}
		if (slot->type == REPAGENT_REC_RESYNC)
			atomic_fetch_add(&s->a->resync_bytes, slot->len);
	}
	hub_reached(h, s->ring.incarnation, s->next);
}

/* False: the hub went away, or the power, before it had it. */
static bool send_record(struct session *s, const struct repagent_slot *slot, const void *payload)
{
	unsigned int v = slot->volume ? volume_of(s, slot->volume) : VOLUMES;
	struct hub *h = s->a->hub;
	bool sent;

	pthread_mutex_lock(&world);
	sent = !serve_is_cut() && !h->down && h->epoch == s->hub_epoch;
	if (sent)
		apply(s, v, slot, payload);
	pthread_mutex_unlock(&world);
	return sent;
}

static bool flush(struct session *s)
{
	struct hub *h = s->a->hub;
	bool done;

	pthread_mutex_lock(&world);
	done = !serve_is_cut() && !h->down && h->epoch == s->hub_epoch;
	if (done)
		hub_flush(h);
	pthread_mutex_unlock(&world);
	if (done) {
		s->flushed = (struct agent_state){ s->ring.incarnation, s->checker, s->checker.payload_end };
		s->flushed_seq = s->next - 1;
		s->unflushed = 0;
	}
	return done;
}

static void acknowledge(struct session *s)
{
	int ret;

	if (s->flushed_seq <= s->acked)
		return;
	ret = ring_ack(&s->ring, s->flushed_seq);
	if (ret < 0)
		check_error(&s->checker, "ACK(%llu): %s", (unsigned long long)s->flushed_seq, strerror(-ret));
	s->acked = s->flushed_seq;
	s->acked_end = s->flushed.acked_end;
	s->a->kept = s->flushed;
}

static bool consume(struct session *s)
{
	uint64_t commit = ring_commit(&s->ring, s->next);
	struct repagent_slot slot;
	const void *payload;

	if (commit >> REPAGENT_SLOT_SHIFT != s->next || (commit & 0xff) == REPAGENT_SLOT_BUSY)
		return false;
	slot = *ring_slot(&s->ring, s->next);
	payload = s->ring.payload + slot.pos % s->ring.payload_size;
	if (!send_record(s, &slot, payload))
		return false;
	check_record(&s->checker, &slot, payload, s->acked_end);
	s->next++;
	s->unflushed++;
	return true;
}

/* What the hub lacks of what the kernel takes for granted is read again. */
static void settle(struct session *s, const struct repagent_info *info)
{
	struct agent *a = s->a;
	struct repagent_volume_info v;
	bool owes[VOLUMES] = { false };
	struct dmctl dm;

	for (unsigned int i = 0; i < REPAGENT_MAX_VOLUMES; i++) {
		unsigned int n;

		if (ring_volume(&s->ring, i, &v) < 0)
			continue;
		n = volume_of(s, v.id);
		if (n == VOLUMES)
			continue;
		pthread_mutex_lock(&world);
		owes[n] = hub_position(&a->hub->now, s->ring.incarnation) < info->acked ||
			  hub_owes(a->hub, n, v.map_incarnation, v.map_seq, s->ring.incarnation);
		pthread_mutex_unlock(&world);
	}
	for (unsigned int i = 0; i < VOLUMES; i++) {
		if (!owes[i])
			continue;
		dmctl_open(&dm);
		if (!dmctl_message(&dm, a->device[i], "resync")) {
			a->resyncs_asked++;
			a->asked[i] = true;
		}
		close(dm.fd);
	}
}

/* To a hub that is there: from behind the last acknowledgement. */
static bool connect_hub(struct session *s)
{
	struct agent *a = s->a;
	struct repagent_info info;
	int ret;

	pthread_mutex_lock(&world);
	s->hub_epoch = a->hub->epoch;
	pthread_mutex_unlock(&world);
	ret = ring_info(&s->ring, &info);
	if (ret < 0)
		return false;
	settle(s, &info);
	atomic_store(&a->epoch, s->hub_epoch);
	if (is_over(a))
		return false;
	if (a->kept.incarnation == s->ring.incarnation && a->kept.checker.next_seq == info.acked + 1) {
		s->checker = a->kept.checker;
		s->acked_end = a->kept.acked_end;
	} else {
		check_init(&s->checker);
		s->checker.payload_size = s->ring.payload_size;
		s->acked_end = 0;
		if (info.acked)
			check_error(&s->checker, "record %llu is acknowledged, and nobody did that",
				    (unsigned long long)info.acked);
	}
	s->checker.lookup = lookup;
	s->checker.ctx = s;
	s->checker.dep.ctx = &s->checker;
	s->next = info.acked + 1;
	s->acked = s->flushed_seq = info.acked;
	s->unflushed = 0;
	s->connected = !ring_hub(&s->ring, true, REPAGENT_REASON_NONE);
	return s->connected;
}

/* False: there is no hub to send to. */
static bool has_hub(struct session *s)
{
	struct hub *h = s->a->hub;
	bool down, refuses, other;

	pthread_mutex_lock(&world);
	down = h->down;
	refuses = h->refuses;
	other = h->epoch != s->hub_epoch;
	pthread_mutex_unlock(&world);
	if (s->connected && (down || refuses || other)) {
		ring_hub(&s->ring, false, refuses ? REPAGENT_REASON_HUB_REFUSED : REPAGENT_REASON_NONE);
		s->connected = false;
	}
	return !down && !refuses && (s->connected || connect_hub(s));
}

static void session(struct session *s)
{
	struct repagent_info info = { 0 };
	struct agent *a = s->a;

	while (!is_over(a)) {
		atomic_fetch_add(&a->errors, s->checker.errors);
		s->checker.errors = 0;
		if (atomic_load(&a->stalls) || !has_hub(s)) {
			nap(NAP_MS);
			continue;
		}
		if (consume(s)) {
			if (rng_below(&a->rng, a->flush_every) || !flush(s))
				continue;
			if (is_over(a))
				return;
			if (rng_below(&a->rng, 4))
				acknowledge(s);
			continue;
		}
		if (s->unflushed && !flush(s))
			continue;
		if (is_over(a))
			return;
		acknowledge(s);
		if (ring_wait(&s->ring, s->next, info.events, NAP_MS) < 0 || ring_info(&s->ring, &info) < 0)
			return;
	}
}

static void *run(void *arg)
{
	static struct session s;
	struct agent *a = arg;
	const char *what;

	while (!is_over(a)) {
		memset(&s, 0, sizeof(s));
		s.a = a;
		if (!ring_open(&s.ring, a->group, &what)) {
			session(&s);
			ring_close(&s.ring);
		}
		if (!is_over(a))
			nap(NAP_MS);
	}
	return NULL;
}

void agent_start(struct agent *a)
{
	if (a->lives)
		return;
	atomic_store(&a->dies, false);
	if (pthread_create(&a->thread, NULL, run, a))
		die("no thread");
	a->lives = true;
}

void agent_kill(struct agent *a)
{
	if (!a->lives)
		return;
	atomic_store(&a->dies, true);
	pthread_join(a->thread, NULL);
	a->lives = false;
}
