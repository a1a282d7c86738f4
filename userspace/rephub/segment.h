/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A piece of a group's journal: a file of frames as they came, and what is known
 * of the records in them.  Documentation/segments.md has the formats.
 */
#ifndef REPHUB_SEGMENT_H
#define REPHUB_SEGMENT_H

#include <stdatomic.h>
#include <sys/types.h>

#include "replay.h"

#define SEGMENT_HEADER		4096u
#define SEGMENT_RECORDS		(1u << 20)	/* it has at most so many */
#define SEGMENT_FRAMES		(1u << 20)
#define SEGMENT_NAME_MAX	32
#define SEGMENT_ERROR_MAX	320
#define SEGMENT_TIMED	"@timed"	/* the label of a checkpoint that is the agent's own */

/*
 * struct log_record - a record in the journal; so it lies in the index, in the
 * host's byte order.
 * @frame:	its frame, of the segment's
 * @at:		where its payload begins in the raw body
 * @slot:	its volume, of the replay's
 * @flags:	RECORD_TIMED
 */
struct log_record {
	uint64_t seq;
	uint64_t sector, nr_sectors;
	uint64_t time;
	uint32_t frame;
	uint32_t at;
	uint32_t len;
	uint32_t crc;
	uint8_t type;
	uint8_t slot;
	uint16_t flags;
	int32_t aux;
};

#define RECORD_TIMED	1u		/* a checkpoint of the agent's own, of which there is one each second */

/*
 * struct log_frame
 * @flags:	FRAME_ZSTD, REPLAY_NEW, REPLAY_JUMP
 * @record:	its first, of the segment's
 */
struct log_frame {
	uint64_t offset;
	uint64_t incarnation;
	uint64_t first, last;
	uint32_t stored, raw;
	uint32_t body_crc;
	uint32_t flags;
	uint32_t record, nr_records;
};

/*
 * struct segment
 * @refs:	of the group and of views; the last one closes it
 * @serial:	no other segment that was opened has it
 * @start, @end: in the log; up to @end there are good frames
 * @begin:	what the log had said before @start
 * @record, @frame, @mark: never move, so that views can look at them while more are added
 * @mark:	the records that are of interest to a person: checkpoints with a label, gaps, resyncs, ...
 * @branch:	it goes on from an earlier point, and not where the one before it ended
 * @from:	... this one, by its id; UINT64_MAX: that point is gone
 * @first_id:	what the first record is called among all of the group
 * @sealed:	nothing is added any more
 * @failed:	errno of a sync of it that failed: it can never be told again what of it is durable. The group's @disk guards it
 */
struct segment {
	atomic_uint refs;
	uint64_t serial;
	char name[SEGMENT_NAME_MAX];
	int dir, fd;
	uint64_t start, end;
	uint64_t created;
	struct replay begin;
	struct log_record *record;
	uint32_t nr_records;
	struct log_frame *frame;
	uint32_t nr_frames;
	uint32_t *mark;
	uint32_t nr_marks;
	uint64_t first_time, last_time;
	uint64_t first_id;
	uint64_t from;
	bool branch;
	bool sealed;
	int failed;
};

/* struct segment_frame - one that was taken and is not yet counted. */
struct segment_frame {
	struct log_frame frame;
	uint32_t nr_marks;
	uint64_t first_time, last_time;
};

struct segment *segment_create(int dir, uint64_t start, const struct replay *begin, bool branch,
			       const uint8_t *group, char *error);
struct segment *segment_open(int dir, const char *name, const uint8_t *group, char *error);
void segment_get(struct segment *s);
void segment_put(struct segment *s);

int segment_take(struct segment *s, struct replay *r, const struct frame_header *h,
		 const void *stored, void *raw, struct segment_frame *out, char *error);
bool segment_fits(const struct segment *s, const struct frame_header *h, uint64_t limit);
void segment_count(struct segment *s, const struct segment_frame *f, size_t size);
int segment_scan(struct segment *s, const uint8_t *group, struct replay *r, char *error);
bool segment_was_durable(const struct segment *s, const uint8_t *group, const struct replay *r);
bool segment_load(struct segment *s, struct replay *r);
bool segment_seal(struct segment *s, const struct replay *r, char *error);
int segment_unpack(const struct segment *s, uint32_t frame, void *body, char *error);
int segment_check(const struct segment *s, const struct log_record *rec, const void *payload, char *error);
const uint8_t *segment_payload(const struct segment *s, const struct log_record *rec, const uint8_t *raw);
int segment_read(const struct segment *s, const struct log_record *rec, void *buf, void *body, char *error);
uint64_t segment_size(const struct segment *s);

ssize_t pread_all(int fd, void *buf, size_t len, uint64_t offset);
int read_error(int err);

#endif /* REPHUB_SEGMENT_H */
