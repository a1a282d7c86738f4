// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A client of rephub's exports changed/GROUP/VOLUME and sums/GROUP/VOLUME: Documentation/segments.md, Documentation/sums.md.
 */
#include <errno.h>
#include <inttypes.h>
#include <linux/fs.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../common/bytes.h"
#include "../common/sums.h"
#include "pull.h"

#define CONTEXT		"qemu:dirty-bitmap:changed"
#define PIECE		(256u << 10)	/* bytes of a read */
#define DEPTH		16u		/* reads in flight */
#define SUMS_AT_A_TIME	4096u		/* of 256 MiB */
#define SILENCE_MS	60000u
#define STATUS_MOST	(UINT64_C(1) << 31)	/* bytes that are asked for at a time */

static __attribute__((format(printf, 2, 3)))
bool failed(char *error, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(error, PULL_ERROR_MAX, fmt, ap);
	va_end(ap);
	return false;
}

/* libnbd says "nbd_function: what: why"; the function is of no interest. */
static bool hub_failed(char *error, const char *what)
{
	const char *text = nbd_get_error(), *colon;

	if (!text)
		text = "the server closed the connection";
	colon = strchr(text, ':');
	return failed(error, "%s: %s", what, colon && !strncmp(text, "nbd_", 4) ? colon + 2 : text);
}

/* A hub that vanished without a word is noticed by TCP. */
static void keep_alive(struct nbd_handle *h)
{
	int fd = nbd_aio_get_fd(h), on = 1, idle = 10, interval = 5, tries = 10;
	unsigned int ms = SILENCE_MS;

	if (setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &ms, sizeof(ms)))
		return;		/* a Unix socket */
	setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof(idle));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval, sizeof(interval));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &tries, sizeof(tries));
}

static struct nbd_handle *connect_to(const struct pull_hub *hub, const char *kind, const char *name, char *error)
{
	char uri[URI_MAX], nbd[URI_MAX], why[URI_ERROR_MAX];
	struct nbd_handle *h;

	if (!uri_for_hub(&hub->taps, hub->group, kind, name, uri, nbd, why)) {
		failed(error, "%.1000s", why);
		return NULL;
	}
	h = nbd_create();
	if (h && (!hub->tls || !nbd_set_tls_certificates(h, hub->tls)) && !nbd_set_full_info(h, true) &&
	    !nbd_add_meta_context(h, CONTEXT) && !nbd_connect_uri(h, nbd)) {
		keep_alive(h);
		return h;
	}
	hub_failed(error, uri);
	nbd_close(h);
	return NULL;
}

/* "at INCARNATION:SEQ, at rest" or "at INCARNATION:SEQ, in use: WHY", and perhaps "; unknown: WHY"; or "refused: WHY" */
static bool take_description(struct pull *p, const char *text, char *error)
{
	const char *unknown = strstr(text, "; unknown: ");
	uint64_t incarnation, seq;
	int used = 0;

	if (!strncmp(text, "refused: ", 9))
		return failed(error, "%s", text + 9);
	if (sscanf(text, "at %16" SCNx64 ":%" SCNu64 ", %n", &incarnation, &seq, &used) != 2 || !used ||
	    nbd_can_meta_context(p->nbd, CONTEXT) != 1)
		return failed(error, "what listens there does not say what has changed: expected a rephub of this version");
	snprintf(p->at, sizeof(p->at), "%016" PRIx64 ":%" PRIu64, incarnation, seq);
	snprintf(p->why, sizeof(p->why), "%.*s", unknown ? (int)(unknown - text - used) : 127, text + used);
	snprintf(p->unknown, sizeof(p->unknown), "%s", unknown ? unknown + strlen("; unknown: ") : "");
	p->rest = !strcmp(p->why, "at rest");
	return true;
}

/**
 * pull_open - see a volume as it is at the hub now
 * @p: out; pull_close() it if that could be done
 * @hub: the hub
 * @volume: its name
 * @since: a position of the hub that a disk was at, with a + where this host knows of all that it wrote itself since; NULL: that
 *	is not known
 * @error: PULL_ERROR_MAX bytes for why not
 *
 * Context: waits for the hub, as all that follow.
 */
bool pull_open(struct pull *p, const struct pull_hub *hub, const char *volume, const char *since, char *error)
{
	char name[VOLUME_NAME_MAX], *text;
	int64_t size;
	bool ok;

	memset(p, 0, sizeof(*p));
	snprintf(name, sizeof(name), "%s%s%s", volume, since ? "@" : "", since ? since : "");
	p->nbd = connect_to(hub, "changed", name, error);
	if (!p->nbd)
		return false;
	size = nbd_get_size(p->nbd);
	p->size = size > 0 ? (uint64_t)size : 0;
	text = nbd_get_export_description(p->nbd);
	ok = take_description(p, text ? text : "", error);
	free(text);
	if (!ok)
		pull_close(p);
	return ok;
}

/**
 * pull_close - no more of it
 * @p: what pull_open() made
 */
void pull_close(struct pull *p)
{
	if (p->nbd)
		nbd_shutdown(p->nbd, 0);
	nbd_close(p->nbd);
	p->nbd = NULL;
}

/* ---- what has changed ---------------------------------------------------- */

struct extents_of {
	struct spans *out;
	uint64_t at;
	bool ok;
};

static int take_extents(void *data, const char *context, uint64_t offset, uint32_t *entries, size_t nr, int *error)
{
	struct extents_of *e = data;
	size_t i;

	(void)error;
	if (strcmp(context, CONTEXT) || offset != e->at)
		return 0;
	for (i = 0; i + 1 < nr; i += 2) {
		if (entries[i + 1] & 1)
			e->ok = e->ok && spans_add(e->out, e->at, e->at + entries[i]);
		e->at += entries[i];
	}
	return 0;
}

/**
 * pull_changed - which parts may not be what they were at the position that was given
 * @p: the volume
 * @out: they are added here
 * @error: PULL_ERROR_MAX bytes for why not
 */
bool pull_changed(struct pull *p, struct spans *out, char *error)
{
	struct extents_of e = { .out = out, .ok = true };
	nbd_extent_callback cb = { .callback = take_extents, .user_data = &e };
	uint64_t before, n;

	while (e.at < p->size && e.ok) {
		before = e.at;
		n = p->size - e.at < STATUS_MOST ? p->size - e.at : STATUS_MOST;
		if (nbd_block_status(p->nbd, n, e.at, cb, 0))
			return hub_failed(error, "what has changed cannot be read");
		if (e.at <= before)
			return failed(error, "what has changed cannot be read: the hub says nothing of byte %" PRIu64, before);
	}
	return e.ok || failed(error, "out of memory");
}

/* ---- what differs ---------------------------------------------------------- */

static bool read_disk(struct pull_disk *d, uint8_t *buf, uint64_t at, size_t len, char *error)
{
	ssize_t n;

	while (len) {
		n = pread(d->fd, buf, len, (off_t)at);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return failed(error, "the disk cannot be read at byte %" PRIu64 ": %s", at, n ? strerror(errno) : "it ends there");
		buf += n;
		at += (uint64_t)n;
		len -= (size_t)n;
	}
	return true;
}

static bool is_same(const uint8_t *block, size_t len, const uint8_t *sum, bool *same, char *error)
{
	uint8_t own[SUM_SIZE];

	if (!sums_of(block, len, own))
		return failed(error, "a sum cannot be computed");
	*same = !memcmp(own, sum, SUM_SIZE);
	return true;
}

/* Blocks of one stretch: what of the span lies in those that differ. */
static bool compare_stretch(struct nbd_handle *sums, struct pull_disk *d, const struct span *in, uint64_t first, unsigned int nr,
			    uint8_t *sum, uint8_t *buf, struct spans *out, char *error)
{
	uint64_t at, end, n;
	unsigned int i, k;
	bool same = true;

	if (nbd_pread(sums, sum, (size_t)nr * SUM_SIZE, SUMS_HEADER + first * SUM_SIZE, 0))
		return hub_failed(error, "the hub's sums cannot be read");
	for (i = 0; i < nr; i += PIECE / SUMS_BLOCK) {
		at = (first + i) * SUMS_BLOCK;
		end = at + PIECE < (first + nr) * SUMS_BLOCK ? at + PIECE : (first + nr) * SUMS_BLOCK;
		end = end < d->size ? end : d->size;
		if (!read_disk(d, buf, at, end - at, error))
			return false;
		for (k = i; at < end; k++, at += n) {
			n = end - at < SUMS_BLOCK ? end - at : SUMS_BLOCK;
			if (!is_same(buf + (k - i) * SUMS_BLOCK, n, sum + k * SUM_SIZE, &same, error))
				return false;
			if (!same && !spans_add(out, at > in->start ? at : in->start, at + n < in->end ? at + n : in->end))
				return failed(error, "out of memory");
		}
		d->done += end - (first + i) * SUMS_BLOCK;
		if (d->progress)
			d->progress(d);
	}
	return true;
}

/* The sums are to be those of just what is copied. */
static bool ask_position(struct nbd_handle *sums, const struct pull *p, const char *volume, uint8_t *block, char *error)
{
	char why[FRAME_ERROR_MAX];
	uint64_t incarnation, seq;
	struct sums_header h;

	if (sscanf(p->at, "%16" SCNx64 ":%" SCNu64, &incarnation, &seq) != 2)
		return failed(error, "position '%s': expected INCARNATION:NUMBER", p->at);
	sums_want_encode(incarnation, seq, block);
	/* A read from 0 on would take them anew, of another position. */
	if (nbd_pwrite(sums, block, SUMS_WANT, 0, 0) || nbd_pread(sums, block + 1, SUMS_HEADER - 1, 1, 0))
		return hub_failed(error, "the hub's sums cannot be had");
	block[0] = (uint8_t)SUMS_MAGIC;
	if (!sums_header_decode(&h, block, why))
		return failed(error, "the hub's sums: %.900s", why);
	/* It names the last record, and there may be numbers behind it that have none. */
	if ((h.incarnation == incarnation && h.seq > seq) || h.bytes != p->size || strcmp(h.volume, volume))
		return failed(error, "the hub's sums are of %016" PRIx64 ":%" PRIu64 " of volume %s: expected %s of %s", h.incarnation, h.seq,
			      h.volume, p->at, volume);
	return true;
}

static bool compare_all(struct nbd_handle *sums, struct pull_disk *d, const struct spans *in, uint8_t *sum, uint8_t *buf,
			struct spans *out, char *error)
{
	uint64_t block, end;
	unsigned int nr;
	bool ok = true;
	size_t i;

	for (i = 0; ok && i < in->nr; i++) {
		end = sums_blocks(in->span[i].end);
		for (block = in->span[i].start / SUMS_BLOCK; ok && block < end; block += nr) {
			nr = end - block < SUMS_AT_A_TIME ? (unsigned int)(end - block) : SUMS_AT_A_TIME;
			ok = compare_stretch(sums, d, &in->span[i], block, nr, sum, buf, out, error);
		}
	}
	return ok;
}

/**
 * pull_differing - compare parts of a disk with what the hub has, by sums of 64 KiB
 * @p: what it has
 * @hub: where
 * @volume: its name
 * @d: the disk
 * @in: the parts, tidied
 * @out: those of them that are in a block that differs are added here
 * @error: PULL_ERROR_MAX bytes for why not
 */
bool pull_differing(struct pull *p, const struct pull_hub *hub, const char *volume, struct pull_disk *d, const struct spans *in,
		    struct spans *out, char *error)
{
	uint8_t *buf, *sum;
	struct nbd_handle *sums;
	bool ok;

	if (!in->nr)
		return true;
	sums = connect_to(hub, "sums", volume, error);
	if (!sums)
		return false;
	buf = aligned_alloc(PULL_ALIGN, PIECE);
	sum = malloc((size_t)SUMS_AT_A_TIME * SUM_SIZE);
	ok = buf && sum ? ask_position(sums, p, volume, sum, error) && compare_all(sums, d, in, sum, buf, out, error) :
			  failed(error, "out of memory");
	nbd_shutdown(sums, 0);
	nbd_close(sums);
	free(buf);
	free(sum);
	return ok;
}

/* ---- copying ---------------------------------------------------------------- */

enum read_state { READ_FREE, READ_ASKED, READ_HERE };

/* struct read - one that is in flight, or has come and is to be written. */
struct read {
	enum read_state state;
	uint8_t *buf;
	uint64_t at;
	size_t len;
	int err;
};

/* libnbd calls it with its lock held: it takes notes. */
static int arrived(void *data, int *error)
{
	struct read *r = data;

	r->err = *error;
	r->state = READ_HERE;
	return 1;
}

static bool write_disk(struct pull_disk *d, const struct read *r, char *error)
{
	uint64_t range[2] = { r->at, r->len };
	const uint8_t *p = r->buf;
	uint64_t at = r->at;
	size_t len = r->len;
	ssize_t n;

	if (bytes_zero(p, len) && !ioctl(d->fd, BLKZEROOUT, range))
		return true;
	while (len) {
		n = pwrite(d->fd, p, len, (off_t)at);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return failed(error, "the disk cannot be written at byte %" PRIu64 ": %s", at, strerror(errno));
		p += n;
		at += (uint64_t)n;
		len -= (size_t)n;
	}
	return true;
}

static unsigned int count(const struct read *reads, enum read_state state)
{
	unsigned int i, nr = 0;

	for (i = 0; i < DEPTH; i++)
		nr += reads[i].state == state;
	return nr;
}

/* What has come goes to the disk. */
static bool put_away(struct pull_disk *d, struct read *reads, char *error)
{
	struct read *r;

	for (r = reads; r < reads + DEPTH; r++) {
		if (r->state != READ_HERE)
			continue;
		if (r->err)
			return failed(error, "the hub cannot read byte %" PRIu64 ": %s; look at its log", r->at, strerror(r->err));
		if (!write_disk(d, r, error))
			return false;
		r->state = READ_FREE;
		d->done += r->len;
		d->moved += r->len;
		if (d->progress)
			d->progress(d);
	}
	return true;
}

static bool copy_all(struct pull *p, struct pull_disk *d, const struct spans *what, struct read *reads, char *error)
{
	uint64_t at = what->nr ? what->span[0].start : 0;
	unsigned int i;
	size_t k = 0;

	while (k < what->nr || count(reads, READ_FREE) < DEPTH) {
		for (i = 0; i < DEPTH && k < what->nr; i++) {
			struct read *r = &reads[i];
			nbd_completion_callback cb = { .callback = arrived, .user_data = r };

			if (r->state != READ_FREE)
				continue;
			r->at = at;
			r->len = what->span[k].end - at < PIECE ? (size_t)(what->span[k].end - at) : PIECE;
			r->state = READ_ASKED;
			if (nbd_aio_pread(p->nbd, r->buf, r->len, r->at, cb, 0) < 0)
				return hub_failed(error, "the hub cannot be asked");
			at += r->len;
			if (at == what->span[k].end && ++k < what->nr)
				at = what->span[k].start;
		}
		if (!count(reads, READ_HERE) && nbd_poll(p->nbd, -1) < 0)
			return hub_failed(error, "the hub does not answer");
		if (!put_away(d, reads, error))
			return false;
	}
	return true;
}

/**
 * pull_copy - write parts of what the hub has to a disk
 * @p: what it has; of no use any more if this fails
 * @d: the disk
 * @what: the parts, tidied; they begin and end at multiples of PULL_ALIGN, or at the disk's end
 * @error: PULL_ERROR_MAX bytes for why not
 *
 * Return: whether all is written; it is durable once the disk was synced.
 */
bool pull_copy(struct pull *p, struct pull_disk *d, const struct spans *what, char *error)
{
	struct read reads[DEPTH] = { 0 };
	uint8_t *buf = aligned_alloc(PULL_ALIGN, (size_t)DEPTH * PIECE);
	unsigned int i;
	bool ok;

	for (i = 0; buf && i < DEPTH; i++)
		reads[i].buf = buf + (size_t)i * PIECE;
	ok = buf ? copy_all(p, d, what, reads, error) : failed(error, "out of memory");
	/* What is still in flight would come to memory that is free. */
	if (!ok) {
		nbd_close(p->nbd);
		p->nbd = NULL;
	}
	free(buf);
	return ok;
}
