// SPDX-License-Identifier: GPL-2.0-or-later
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <zstd.h>

#include "segment.h"

#define SEGMENT_MAGIC	UINT64_C(0x746d677367706572)	/* "repgsgmt" */
#define SEGMENT_VERSION	1u
#define REPLAY_AT	64
#define FLAG_BRANCH	1u
#define CRC_AT		4092

#define INDEX_MAGIC	UINT64_C(0x7864696770657221)
#define INDEX_VERSION	2u

#define SCAN_BUFFER	(4u << 20)
#define READ_TRIES	50u			/* 20 ms apart */

/* The index of a sealed segment begins with this, in a page; then records, frames, marks. */
struct index_header {
	uint64_t magic;
	uint32_t version, reserved;
	uint64_t start, end;
	uint64_t first_time, last_time;
	uint32_t nr_records, nr_frames, nr_marks;
	uint32_t rest_crc;
	uint8_t after[REPLAY_BYTES];
	uint32_t crc;
};

#define RECORDS_BYTES	((size_t)SEGMENT_RECORDS * sizeof(struct log_record))
#define FRAMES_BYTES	((size_t)SEGMENT_FRAMES * sizeof(struct log_frame))
#define MARKS_BYTES	((size_t)SEGMENT_RECORDS * sizeof(uint32_t))

_Static_assert(sizeof(struct index_header) <= SEGMENT_HEADER, "its header fits into a page");
_Static_assert(RECORDS_BYTES % 4096 == 0, "the records end with a page");
_Static_assert(REPLAY_AT + REPLAY_BYTES <= CRC_AT, "what was said fits into a header");

static __attribute__((format(printf, 2, 3))) bool failed(char *error, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(error, SEGMENT_ERROR_MAX, fmt, ap);
	va_end(ap);
	return false;
}

static bool write_all(int fd, const void *buf, size_t len, uint64_t offset)
{
	const uint8_t *p = buf;
	ssize_t n;

	while (len) {
		n = pwrite(fd, p, len, (off_t)offset);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return false;
		p += n;
		offset += (uint64_t)n;
		len -= (size_t)n;
	}
	return true;
}

/**
 * read_error - what is said of a read that failed
 * @err: a positive errno
 *
 * Return: EIO: the disk cannot read it; ENOMEM: something is lacking now, and who asks again may get it.
 */
int read_error(int err)
{
	switch (err) {
	case EIO:
	case EBADMSG:	/* it was read, and is not what was written; also of the disk's own sums */
	case EUCLEAN:
	case EILSEQ:
	case ENODATA:
	case EREMOTEIO:
		return EIO;
	default:
		return ENOMEM;
	}
}

/**
 * pread_all - read as much of a file as there is
 * @fd: the file
 * @buf: filled
 * @len: of that, at most
 * @offset: in the file
 *
 * Context: waits for the disk, and a second for what is lacking.
 * Return: how much there is; -1: it cannot be read now, and errno says why.
 */
ssize_t pread_all(int fd, void *buf, size_t len, uint64_t offset)
{
	const struct timespec pause = { .tv_nsec = 20000000 };
	unsigned int tries = 0;
	size_t done = 0;
	ssize_t n;

	while (done < len) {
		n = pread(fd, (uint8_t *)buf + done, len - done, (off_t)(offset + done));
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && read_error(errno) != EIO && tries++ < READ_TRIES) {
			nanosleep(&pause, NULL);
			continue;
		}
		if (n < 0)
			return -1;
		if (!n)
			break;
		done += (size_t)n;
	}
	return (ssize_t)done;
}

/* Addresses; memory comes as they are used. */
static void *reserve(void *where, size_t bytes)
{
	return mmap(where, bytes, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | (where ? MAP_FIXED : 0), -1, 0);
}

static struct segment *segment_new(int dir)
{
	static atomic_uint_fast64_t serials;
	struct segment *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	s->serial = atomic_fetch_add(&serials, 1);
	s->record = reserve(NULL, RECORDS_BYTES);
	s->frame = reserve(NULL, FRAMES_BYTES);
	s->mark = reserve(NULL, MARKS_BYTES);
	if (s->record == MAP_FAILED || s->frame == MAP_FAILED || s->mark == MAP_FAILED) {
		if (s->record != MAP_FAILED)
			munmap(s->record, RECORDS_BYTES);
		if (s->frame != MAP_FAILED)
			munmap(s->frame, FRAMES_BYTES);
		if (s->mark != MAP_FAILED)
			munmap(s->mark, MARKS_BYTES);
		free(s);
		return NULL;
	}
	atomic_init(&s->refs, 1);
	s->dir = dir;
	s->fd = -1;
	return s;
}

/**
 * segment_get - one more uses it
 * @s: the segment
 */
void segment_get(struct segment *s)
{
	atomic_fetch_add(&s->refs, 1);
}

/**
 * segment_put - one less uses it
 * @s: the segment; the last one closes it
 */
void segment_put(struct segment *s)
{
	if (atomic_fetch_sub(&s->refs, 1) != 1)
		return;
	if (s->fd >= 0)
		close(s->fd);
	munmap(s->record, RECORDS_BYTES);
	munmap(s->frame, FRAMES_BYTES);
	munmap(s->mark, MARKS_BYTES);
	free(s);
}

/**
 * segment_create - begin a new one
 * @dir: of the journal; stays open as long as the segment
 * @start: in the log
 * @begin: what the log has said so far
 * @branch: that is so at an earlier point, from which it goes on
 * @group: uuid
 * @error: SEGMENT_ERROR_MAX bytes
 *
 * Its file, with its header, is durable then.
 *
 * Return: the segment, or NULL with errno.
 */
struct segment *segment_create(int dir, uint64_t start, const struct replay *begin, bool branch,
			       const uint8_t *group, char *error)
{
	struct segment *s = segment_new(dir);
	uint8_t header[SEGMENT_HEADER] = { 0 };
	const uint64_t magic = htole64(SEGMENT_MAGIC);
	const uint32_t version = htole32(SEGMENT_VERSION), flags = htole32(branch ? FLAG_BRANCH : 0);
	struct timespec now;
	uint64_t le;
	uint32_t crc;
	int err;

	if (!s) {
		failed(error, "out of memory");
		errno = ENOMEM;
		return NULL;
	}
	clock_gettime(CLOCK_REALTIME, &now);
	s->start = s->end = start;
	s->created = (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
	s->begin = *begin;
	s->branch = branch;
	snprintf(s->name, sizeof(s->name), "%016" PRIx64 ".log", start);
	memcpy(header, &magic, 8);
	memcpy(header + 8, &version, 4);
	memcpy(header + 12, &flags, 4);
	memcpy(header + 16, group, 16);
	le = htole64(start);
	memcpy(header + 32, &le, 8);
	le = htole64(s->created);
	memcpy(header + 40, &le, 8);
	replay_encode(begin, header + REPLAY_AT);
	crc = htole32(frame_crc(header, CRC_AT));
	memcpy(header + CRC_AT, &crc, 4);
	s->fd = openat(dir, s->name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (s->fd < 0 || !write_all(s->fd, header, sizeof(header), 0) || fdatasync(s->fd) || fsync(dir)) {
		err = errno;
		failed(error, "segment %s cannot be created: %s", s->name, strerror(err));
		if (s->fd >= 0)
			unlinkat(dir, s->name, 0);
		segment_put(s);
		errno = err;
		return NULL;
	}
	return s;
}

/**
 * segment_open - open one that is there; none of its frames is looked at
 * @dir: of the journal; stays open as long as the segment
 * @name: of the file
 * @group: uuid
 * @error: SEGMENT_ERROR_MAX bytes
 *
 * Return: the segment, or NULL with errno; EBADMSG: it is none, or none of this group.
 */
struct segment *segment_open(int dir, const char *name, const uint8_t *group, char *error)
{
	struct segment *s = segment_new(dir);
	uint8_t header[SEGMENT_HEADER];
	uint64_t magic, start, created;
	uint32_t version, flags, crc;
	char want[SEGMENT_NAME_MAX];
	int err = EBADMSG;
	ssize_t n;

	if (!s) {
		failed(error, "out of memory");
		errno = ENOMEM;
		return NULL;
	}
	snprintf(s->name, sizeof(s->name), "%s", name);
	s->fd = openat(dir, name, O_RDWR | O_CLOEXEC);
	n = s->fd < 0 ? -1 : pread_all(s->fd, header, sizeof(header), 0);
	if (n < 0) {
		err = errno;
		failed(error, "segment %s cannot be read: %s", name, strerror(err));
		goto bad;
	}
	memset(header + n, 0, sizeof(header) - (size_t)n);
	memcpy(&magic, header, 8);
	memcpy(&version, header + 8, 4);
	memcpy(&flags, header + 12, 4);
	memcpy(&start, header + 32, 8);
	memcpy(&created, header + 40, 8);
	memcpy(&crc, header + CRC_AT, 4);
	s->start = s->end = le64toh(start);
	s->created = le64toh(created);
	s->branch = le32toh(flags) & FLAG_BRANCH;
	snprintf(want, sizeof(want), "%016" PRIx64 ".log", s->start);
	if (le64toh(magic) != SEGMENT_MAGIC || le32toh(crc) != frame_crc(header, CRC_AT))
		failed(error, "segment %s: its header is not what was written", name);
	else if (le32toh(version) != SEGMENT_VERSION)
		failed(error, "segment %s: version %" PRIu32 ": expected %u", name, le32toh(version),
		       SEGMENT_VERSION);
	else if (le32toh(flags) & ~FLAG_BRANCH)
		failed(error, "segment %s: flags 0x%" PRIx32 ": expected 0 or 1", name, le32toh(flags));
	else if (memcmp(header + 16, group, 16))
		failed(error, "segment %s: it is of another group, by its uuid", name);
	else if (strcmp(want, name) || s->start < SESSION_SIZE || s->start % FRAME_ALIGN ||
		 !replay_decode(&s->begin, header + REPLAY_AT))
		failed(error, "segment %s: its header does not fit its name, or makes no sense", name);
	else
		return s;
bad:
	segment_put(s);
	errno = err;
	return NULL;
}

/**
 * segment_size - bytes of its file
 * @s: the segment
 */
uint64_t segment_size(const struct segment *s)
{
	return SEGMENT_HEADER + (s->end - s->start);
}

/* ---- adding frames ------------------------------------------------------- */

/**
 * segment_fits - is there room for one more frame?
 * @s: the segment
 * @h: the frame
 * @limit: bytes that the segment may have; an empty one takes any frame
 */
bool segment_fits(const struct segment *s, const struct frame_header *h, uint64_t limit)
{
	if (!s->nr_frames)
		return true;
	return s->nr_records + (uint64_t)h->nr_records <= SEGMENT_RECORDS && s->nr_frames < SEGMENT_FRAMES &&
	       segment_size(s) + frame_size(h) <= limit;
}

/* Is this of interest to a person who looks for a point? */
static bool is_mark(const struct frame_record *rec)
{
	switch (rec->type) {
	case REPAGENT_REC_CHECKPOINT:
		return rec->len > 1;
	case REPAGENT_REC_RESYNC_BEGIN:
	case REPAGENT_REC_RESYNC_END:
	case REPAGENT_REC_GAP:
	case REPAGENT_REC_VOLUME_ADD:
	case REPAGENT_REC_VOLUME_REMOVE:
	case REPAGENT_REC_VOLUME_RESIZE:
	case REPAGENT_REC_FAILED:
	case REPAGENT_REC_SHUTDOWN:
	case REPAGENT_REC_MAP_ERROR:
	case REPAGENT_REC_MAP_OK:
		return true;
	default:
		return false;
	}
}

static bool is_timed(const struct frame_record *rec, const void *payload)
{
	return rec->type == REPAGENT_REC_CHECKPOINT && rec->len == sizeof(SEGMENT_TIMED) &&
	       !memcmp(payload, SEGMENT_TIMED, sizeof(SEGMENT_TIMED));
}

/**
 * segment_take - check a whole frame, and note its records behind the others
 * @s: the segment, with room for it
 * @r: a copy of what the log has said; of no use if the frame is refused
 * @h: the frame's header
 * @stored: what stands behind that
 * @raw: FRAME_BODY_MAX bytes to unpack into
 * @out: for segment_count(), without which none of it counts
 * @error: FRAME_ERROR_MAX bytes for why not
 *
 * Return: 0, EINVAL, EPERM or ENOMEM.
 */
int segment_take(struct segment *s, struct replay *r, const struct frame_header *h,
		 const void *stored, void *raw, struct segment_frame *out, char *error)
{
	struct frame_reader reader;
	struct frame_record rec;
	struct frame_volume v;
	const void *payload;
	bool begun = false;
	int n, slot, err;

	*out = (struct segment_frame){
		.frame = { h->offset, h->incarnation, h->first, h->last, h->stored, h->raw, h->body_crc,
			   h->flags, s->nr_records, 0 },
		.nr_marks = s->nr_marks, .first_time = s->first_time, .last_time = s->last_time,
	};
	if (!frame_open(&reader, h, stored, raw, error))
		return EINVAL;
	/* The records decide whether it may come, and that comes before the volumes. */
	reader.at = (size_t)h->nr_volumes * FRAME_VOLUME;
	n = frame_next_record(&reader, &rec, &payload);
	if (n < 0)
		return EINVAL;
	err = replay_frame(r, h, n ? rec.type : 0, &out->frame.flags, error);
	if (err)
		return err;
	out->frame.flags |= h->flags;
	reader = (struct frame_reader){ .h = *h, .body = reader.body, .error = error };
	while ((n = frame_next_volume(&reader, &v)) > 0)
		if (!replay_name(r, &v, error))
			return EINVAL;
	if (n < 0)
		return EINVAL;
	while ((n = frame_next_record(&reader, &rec, &payload)) > 0) {
		uint32_t i = s->nr_records + out->frame.nr_records;

		slot = rec.volume ? replay_find(r, rec.volume) : 0;
		if (slot < 0) {
			snprintf(error, FRAME_ERROR_MAX, "record %" PRIu64 ": volume %u: expected an id that the log has named",
				 rec.seq, rec.volume);
			return EINVAL;
		}
		if (i >= SEGMENT_RECORDS || s->nr_frames >= SEGMENT_FRAMES) {
			snprintf(error, FRAME_ERROR_MAX, "out of memory");
			return ENOMEM;
		}
		s->record[i] = (struct log_record){
			.seq = rec.seq, .sector = rec.sector, .nr_sectors = rec.nr_sectors, .time = rec.time,
			.frame = s->nr_frames, .at = (uint32_t)((const uint8_t *)payload - reader.body),
			.len = rec.len, .crc = rec.crc, .type = rec.type, .slot = (uint8_t)slot,
			.flags = is_timed(&rec, payload) ? RECORD_TIMED : 0, .aux = rec.aux,
		};
		if (is_mark(&rec))
			s->mark[out->nr_marks++] = i;
		begun = s->nr_records || out->frame.nr_records;
		if (!begun || rec.time < out->first_time)
			out->first_time = rec.time;
		if (!begun || rec.time > out->last_time)
			out->last_time = rec.time;
		out->frame.nr_records++;
		replay_record(r, rec.type, (unsigned int)slot, rec.nr_sectors);
	}
	return n < 0 ? EINVAL : 0;
}

/**
 * segment_count - from now on a frame counts
 * @s: the segment
 * @f: what segment_take() made of it
 * @size: of the frame
 */
void segment_count(struct segment *s, const struct segment_frame *f, size_t size)
{
	s->frame[s->nr_frames++] = f->frame;
	s->nr_records += f->frame.nr_records;
	s->nr_marks = f->nr_marks;
	s->first_time = f->first_time;
	s->last_time = f->last_time;
	s->end += size;
}

/**
 * segment_scan - read all of it again
 * @s: the segment, just opened
 * @group: uuid
 * @r: out: what the log has said up to s->end
 * @error: SEGMENT_ERROR_MAX bytes for what is wrong behind that
 *
 * Return: 0 if all of the file is good; EBADMSG: it is up to s->end, and no further; another
 * positive errno: that is not known, for it could not be read.
 */
int segment_scan(struct segment *s, const uint8_t *group, struct replay *r, char *error)
{
	uint8_t *buf = malloc(SCAN_BUFFER), *raw = malloc(FRAME_MAX);
	struct replay *work = malloc(sizeof(*work));
	char why[FRAME_ERROR_MAX] = "";
	size_t have = 0, at = 0, size;
	uint64_t next = SEGMENT_HEADER;
	struct segment_frame f;
	struct frame_header h;
	int err = ENOMEM;
	ssize_t n;

	*r = s->begin;
	if (!buf || !raw || !work) {
		failed(error, "out of memory");
		goto out;
	}
	for (;;) {
		/* A whole frame has to be in the buffer, or all that there is. */
		if (have - at < FRAME_MAX) {
			memmove(buf, buf + at, have - at);
			have -= at;
			at = 0;
			n = pread_all(s->fd, buf + have, SCAN_BUFFER - have, next);
			if (n < 0) {
				err = errno;
				failed(error, "segment %s, offset %" PRIu64 ": %s", s->name, next, strerror(err));
				goto out;
			}
			have += (size_t)n;
			next += (uint64_t)n;
		}
		if (have == at) {
			err = 0;
			goto out;
		}
		err = EBADMSG;
		size = 0;
		if (have - at < FRAME_HEADER)
			snprintf(why, sizeof(why), "the file ends within a frame");
		else if (frame_header_parse(&h, buf + at, why))
			size = frame_size(&h);
		if (size > have - at) {
			snprintf(why, sizeof(why), "the file ends within a frame");
			break;
		}
		if (size && h.flags & FRAME_HELLO) {
			snprintf(why, sizeof(why), "a hello: expected records");
			break;
		}
		if (size && (h.offset != s->end || memcmp(h.group, group, sizeof(h.group)))) {
			snprintf(why, sizeof(why), "a frame of another place or group");
			break;
		}
		*work = *r;
		if (!size)
			break;
		err = segment_take(s, work, &h, buf + at + FRAME_HEADER, raw, &f, why);
		if (err) {
			err = err == ENOMEM ? ENOMEM : EBADMSG;
			break;
		}
		*r = *work;
		segment_count(s, &f, size);
		at += size;
	}
	failed(error, "segment %s, offset %" PRIu64 ": %s", s->name, segment_size(s), why);
out:
	free(work);
	free(raw);
	free(buf);
	return err;
}

/**
 * segment_was_durable - had what is not good been acknowledged?
 * @s: the segment, scanned
 * @group: uuid
 * @r: what the log has said up to s->end
 *
 * A later frame says so: its agent had seen a number behind s->end durable.
 *
 * Return: true also if that cannot be told, so that nothing is cut off.
 */
bool segment_was_durable(const struct segment *s, const uint8_t *group, const struct replay *r)
{
	uint8_t *buf = malloc(SCAN_BUFFER);
	uint64_t at = segment_size(s);
	char why[FRAME_ERROR_MAX];
	struct frame_header h;
	bool found = !buf;
	ssize_t n = 0;
	size_t i;

	while (!found && (n = pread_all(s->fd, buf, SCAN_BUFFER, at)) > 0) {
		for (i = 0; !found && i + FRAME_HEADER <= (size_t)n; i += FRAME_ALIGN)
			found = frame_header_parse(&h, buf + i, why) && !(h.flags & FRAME_HELLO) &&
				h.offset == s->start + (at + i - SEGMENT_HEADER) &&
				!memcmp(h.group, group, sizeof(h.group)) &&
				(h.incarnation == r->incarnation ? h.acked > r->seq : h.acked != 0);
		at += (uint64_t)n;
	}
	free(buf);
	return found || n < 0;
}

/* ---- the index ----------------------------------------------------------- */

static void index_name(char *name, const struct segment *s)
{
	snprintf(name, SEGMENT_NAME_MAX, "%016" PRIx64 ".index", s->start);
}

static size_t pages(size_t bytes)
{
	return (bytes + 4095) & ~(size_t)4095;
}

/*
 * The records that were in memory lie in the file from now on, at the same address. Views may be
 * looking at them meanwhile: the kernel makes them wait, or gives them either, which say the same.
 */
static bool map_records(struct segment *s, int fd)
{
	size_t bytes = pages((size_t)s->nr_records * sizeof(s->record[0]));

	return !bytes || mmap(s->record, bytes, PROT_READ, MAP_PRIVATE | MAP_FIXED, fd, SEGMENT_HEADER) !=
			 MAP_FAILED;
}

/**
 * segment_seal - nothing is added any more: write the index
 * @s: the segment; all of it is durable
 * @r: what the log has said up to its end
 * @error: SEGMENT_ERROR_MAX bytes
 *
 * An index that cannot be written, or was not yet durable when the power went, is made
 * anew at the next start: its sum says so.
 *
 * Return: whether there is one.
 */
bool segment_seal(struct segment *s, const struct replay *r, char *error)
{
	size_t records = (size_t)s->nr_records * sizeof(s->record[0]);
	size_t frames = s->nr_frames * sizeof(s->frame[0]), marks = s->nr_marks * sizeof(s->mark[0]);
	uint64_t at = SEGMENT_HEADER + pages(records);
	uint8_t page[SEGMENT_HEADER] = { 0 };
	char name[SEGMENT_NAME_MAX], tmp[SEGMENT_NAME_MAX + 8];
	struct index_header h = {
		.magic = INDEX_MAGIC, .version = INDEX_VERSION, .start = s->start, .end = s->end,
		.first_time = s->first_time, .last_time = s->last_time, .nr_records = s->nr_records,
		.nr_frames = s->nr_frames, .nr_marks = s->nr_marks,
	};
	bool ok;
	int fd;

	s->sealed = true;
	h.rest_crc = frame_crc(s->record, records) ^ frame_crc(s->frame, frames) ^ frame_crc(s->mark, marks);
	replay_encode(r, h.after);
	h.crc = frame_crc(&h, offsetof(struct index_header, crc));
	memcpy(page, &h, sizeof(h));
	index_name(name, s);
	snprintf(tmp, sizeof(tmp), "%s.new", name);
	fd = openat(s->dir, tmp, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	ok = fd >= 0 && write_all(fd, page, sizeof(page), 0) &&
	     write_all(fd, s->record, records, SEGMENT_HEADER) && write_all(fd, s->frame, frames, at) &&
	     write_all(fd, s->mark, marks, at + frames) &&
	     !renameat(s->dir, tmp, s->dir, name) && map_records(s, fd);
	if (!ok) {
		failed(error, "index %s cannot be written: %s", name, strerror(errno));
		unlinkat(s->dir, tmp, 0);	/* what there is of it may be all that was free */
	}
	if (fd >= 0)
		close(fd);
	return ok;
}

/* Everything in an index that is used without another look. */
static bool index_sane(const struct segment *s)
{
	uint32_t i, next = 0;

	for (i = 0; i < s->nr_frames; i++) {
		const struct log_frame *f = &s->frame[i];

		if (f->record != next || f->nr_records > s->nr_records - next || f->offset < s->start ||
		    f->offset >= s->end || f->stored > FRAME_BODY_MAX || f->raw > FRAME_BODY_MAX)
			return false;
		next += f->nr_records;
	}
	for (i = 0; i < s->nr_marks; i++)
		if (s->mark[i] >= s->nr_records || s->record[s->mark[i]].len > REPAGENT_LABEL_MAX + 1)
			return false;
	for (i = 0; i < s->nr_records; i++) {
		const struct log_record *rec = &s->record[i];
		bool data = rec->type == REPAGENT_REC_WRITE || rec->type == REPAGENT_REC_RESYNC;

		if ((data && rec->len != rec->nr_sectors * 512) || rec->frame >= s->nr_frames || rec->len > REPAGENT_MAX_RECORD ||
		    rec->slot >= REPAGENT_MAX_VOLUMES || rec->type >= REPAGENT_NR_TYPES ||
		    rec->nr_sectors > FRAME_MAX_SECTORS || rec->sector > FRAME_MAX_SECTORS)
			return false;
	}
	return next == s->nr_records;
}

/**
 * segment_load - take what is known of a segment from its index
 * @s: the segment, just opened
 * @r: out: what the log has said up to its end
 *
 * Return: whether there is an index that is what was written. If not, scan.
 */
bool segment_load(struct segment *s, struct replay *r)
{
	char name[SEGMENT_NAME_MAX];
	struct index_header h;
	size_t records, frames, marks;
	uint64_t at;
	struct stat st;
	bool ok = false;
	int fd;

	index_name(name, s);
	fd = openat(s->dir, name, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	if (pread_all(fd, &h, sizeof(h), 0) != sizeof(h) || h.magic != INDEX_MAGIC ||
	    h.version != INDEX_VERSION || h.crc != frame_crc(&h, offsetof(struct index_header, crc)) ||
	    h.start != s->start || h.end < h.start || h.nr_records > SEGMENT_RECORDS ||
	    h.nr_frames > SEGMENT_FRAMES || h.nr_marks > h.nr_records ||
	    fstat(s->fd, &st) || (uint64_t)st.st_size < SEGMENT_HEADER + (h.end - h.start) ||
	    !replay_decode(r, h.after))
		goto out;
	records = (size_t)h.nr_records * sizeof(s->record[0]);
	frames = h.nr_frames * sizeof(s->frame[0]);
	marks = h.nr_marks * sizeof(s->mark[0]);
	at = SEGMENT_HEADER + pages(records);
	/* What cannot be read must be seen here, and not when the mapping is looked at. */
	if (pread_all(fd, s->record, records, SEGMENT_HEADER) != (ssize_t)records ||
	    pread_all(fd, s->frame, frames, at) != (ssize_t)frames ||
	    pread_all(fd, s->mark, marks, at + frames) != (ssize_t)marks)
		goto out;
	s->nr_records = h.nr_records;
	s->nr_frames = h.nr_frames;
	s->nr_marks = h.nr_marks;
	s->first_time = h.first_time;
	s->last_time = h.last_time;
	s->end = h.end;
	ok = h.rest_crc == (frame_crc(s->record, records) ^ frame_crc(s->frame, frames) ^
			    frame_crc(s->mark, marks)) && index_sane(s) && map_records(s, fd);
	s->sealed = ok;
	if (!ok) {	/* as if it had not been there */
		s->nr_records = s->nr_frames = s->nr_marks = 0;
		s->end = s->start;
		if (reserve(s->record, RECORDS_BYTES) == MAP_FAILED)
			abort();	/* there is no memory left, and a hole where the records were */
	}
out:
	close(fd);
	return ok;
}

/* ---- reading ------------------------------------------------------------- */

/**
 * segment_unpack - get all of a compressed frame's body
 * @s: the segment
 * @frame: which of its frames
 * @body: as many bytes as it has, s->frame[frame].raw
 * @error: SEGMENT_ERROR_MAX bytes for what is wrong
 *
 * Return: 0 or a positive errno; EBADMSG: it is not what was written; ENOMEM: not now, see read_error().
 */
int segment_unpack(const struct segment *s, uint32_t frame, void *body, char *error)
{
	const struct log_frame *f = &s->frame[frame];
	uint64_t at = SEGMENT_HEADER + (f->offset - s->start) + FRAME_HEADER;
	void *stored = malloc(f->stored);
	ssize_t n = stored ? pread_all(s->fd, stored, f->stored, at) : -1;
	bool good;

	if (n < 0) {
		int err = errno;

		failed(error, "segment %s, offset %" PRIu64 ": %s", s->name, at, strerror(err));
		free(stored);
		return read_error(err);
	}
	good = n == (ssize_t)f->stored && frame_crc(stored, f->stored) == f->body_crc &&
	       ZSTD_decompress(body, f->raw, stored, f->stored) == f->raw;
	free(stored);
	if (good)
		return 0;
	failed(error, "segment %s, offset %" PRIu64 ": the frame of records %" PRIu64 " to %" PRIu64
	       " is damaged: its bytes are not what was written", s->name, at, f->first, f->last);
	return EBADMSG;
}

/**
 * segment_check - is this a record's payload?
 * @s: the segment
 * @rec: the record
 * @payload: rec->len bytes; NULL: there are not so many
 * @error: SEGMENT_ERROR_MAX bytes for what is wrong
 *
 * Return: 0 or EBADMSG.
 */
int segment_check(const struct segment *s, const struct log_record *rec, const void *payload, char *error)
{
	if (payload && frame_crc(payload, rec->len) == rec->crc)
		return 0;
	failed(error, "segment %s, offset %" PRIu64 ": record %" PRIu64 " is damaged: its bytes are not what was written",
	       s->name, SEGMENT_HEADER + (s->frame[rec->frame].offset - s->start) + FRAME_HEADER, rec->seq);
	return EBADMSG;
}

/**
 * segment_payload - where a record's payload is in its frame's raw body
 * @s: the segment
 * @rec: the record
 * @raw: the body
 *
 * Return: NULL if that has not so many bytes.
 */
const uint8_t *segment_payload(const struct segment *s, const struct log_record *rec, const uint8_t *raw)
{
	const struct log_frame *f = &s->frame[rec->frame];

	return rec->at <= f->raw && rec->len <= f->raw - rec->at ? raw + rec->at : NULL;
}

/**
 * segment_read - get a record's payload, and be sure of it
 * @s: the segment
 * @rec: the record
 * @buf: rec->len bytes
 * @body: FRAME_BODY_MAX bytes, for that of a frame that is compressed; NULL: it is not
 * @error: SEGMENT_ERROR_MAX bytes for what is wrong
 *
 * Return: 0 or a positive errno; EBADMSG: it is not what was written; ENOMEM: not now, see read_error().
 */
int segment_read(const struct segment *s, const struct log_record *rec, void *buf, void *body, char *error)
{
	const struct log_frame *f = &s->frame[rec->frame];
	uint64_t at = SEGMENT_HEADER + (f->offset - s->start) + FRAME_HEADER + rec->at;
	const uint8_t *payload;
	ssize_t n;
	int err;

	if (f->flags & FRAME_ZSTD) {
		err = segment_unpack(s, rec->frame, body, error);
		if (err)
			return err;
		payload = segment_payload(s, rec, body);
		err = segment_check(s, rec, payload, error);
		if (!err)
			memcpy(buf, payload, rec->len);
		return err;
	}
	n = pread_all(s->fd, buf, rec->len, at);
	if (n < 0) {
		err = errno;
		failed(error, "segment %s, offset %" PRIu64 ": %s", s->name, at, strerror(err));
		return read_error(err);
	}
	return segment_check(s, rec, n == (ssize_t)rec->len ? buf : NULL, error);
}
