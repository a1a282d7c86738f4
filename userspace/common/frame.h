/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The stream on its way to rephub, and in its journal: frames of records, and the
 * block that opens a session.  Documentation/frames.md describes both.
 *
 * The structures here are what the wire says, in the host's byte order; only
 * frame.c knows where each field lies.
 */
#ifndef REPAGENT_FRAME_H
#define REPAGENT_FRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <linux/dm-repagent.h>

#define FRAME_MAGIC		UINT64_C(0x656d617266676172)	/* "ragframe" */
#define FRAME_VERSION		1u
#define FRAME_ALIGN		512u		/* a frame's offset and size are multiples */
#define FRAME_HEADER		128u		/* bytes of a header */
#define FRAME_VOLUME		48u		/* ... of a volume in the body */
#define FRAME_RECORD		48u		/* ... of a record, without its payload */
#define FRAME_PAYLOAD_ALIGN	8u		/* a payload is padded with zeroes to a multiple */
#define FRAME_MAX		((1u << 20) + (64u << 10))	/* header, body, padding */
#define FRAME_BODY_MAX		(FRAME_MAX - FRAME_HEADER)	/* stored or raw */

#define LOG_SIZE		(UINT64_C(1) << 60)	/* of the export log/GROUP */

#define SESSION_MAGIC		UINT64_C(0x6e6f697373657372)	/* "rsession" */
#define SESSION_VERSION		1u
#define SESSION_SIZE		4096u		/* of the block; the log begins behind it */
#define SESSION_REASON_MAX	160u

#define FRAME_MAX_SECTORS	(UINT64_C(1) << 53)	/* of a volume: 4 EiB, so that byte offsets do not overflow */

#define FRAME_ERROR_MAX		160u		/* bytes that suffice for a sentence */

/* frame_header.flags */
#define FRAME_ZSTD		(1u << 0)	/* the stored body is compressed */
#define FRAME_HELLO		(1u << 1)	/* no body: says who wants a session */

/*
 * struct frame_header
 * @flags:	FRAME_*
 * @group:	uuid of the group, from the session block; zeroes in a HELLO: not known yet
 * @generation:	from the session block; 0 in a HELLO: not known yet
 * @incarnation: of the ring
 * @first, @last: sequence numbers; those between that have no record were VOID
 * @acked:	the last one that the agent knows to be durable here; 0: none
 * @offset:	where in the log this frame lies; 0 in a HELLO
 * @stored, @raw: bytes of the body, as it is stored and as it was before compression
 * @nr_volumes, @nr_records: in the body
 * @body_crc:	CRC-32C of the stored body
 */
struct frame_header {
	uint32_t flags;
	uint8_t group[16];
	uint64_t generation;
	uint64_t incarnation;
	uint64_t first, last;
	uint64_t acked;
	uint64_t offset;
	uint32_t stored, raw;
	uint32_t nr_volumes, nr_records;
	uint32_t body_crc;
};

/*
 * struct frame_volume - what a volume's id stands for in this incarnation
 * @id:		as in the slots
 * @sectors:	its size
 */
struct frame_volume {
	uint16_t id;
	uint64_t sectors;
	char name[REPAGENT_NAME_MAX + 1];
};

/*
 * struct frame_record - one record, as in struct repagent_slot
 * @len, @crc:	bytes of payload, and its CRC-32C
 */
struct frame_record {
	uint8_t type;
	uint8_t flags;
	uint16_t volume;
	int32_t aux;
	uint64_t seq;
	uint64_t sector;
	uint64_t nr_sectors;
	uint64_t time;
	uint32_t len;
	uint32_t crc;
};

/* session.state */
enum session_state {
	SESSION_ACCEPTING	= 1,	/* frames are taken */
	SESSION_FENCED		= 2,	/* the group failed over to another side */
	SESSION_STALE		= 3,	/* that incarnation is over: a newer one has written */
	SESSION_FOREIGN		= 4,	/* another group, by its uuid, has this name here */
	SESSION_FULL		= 5,	/* the hub has no space left */
	SESSION_FAILED		= 6,	/* the hub cannot write its journal */
	SESSION_NR_STATES
};

/*
 * struct session - what the hub answers
 * @hub, @group: uuids
 * @generation:	to be put into every frame
 * @offset:	all of the log before is durable; the next frame goes there
 * @incarnation, @seq: position of the last durable record; zeroes: none
 * @time:	the hub's clock, ns of CLOCK_REALTIME
 * @since:	when @generation was made, by a fail-over; 0: with the group
 * @frame_max:	largest frame that it takes
 * @zstd:	compressed bodies are taken
 * @orders:	orders can be read, and reports written
 * @owes:	when last was heard of that incarnation, a volume's write-intent map could not be written
 * @name:	of the group
 * @reason:	a sentence, unless @state is SESSION_ACCEPTING
 */
struct session {
	enum session_state state;
	uint8_t hub[16], group[16];
	uint64_t generation;
	uint64_t offset;
	uint64_t incarnation, seq;
	uint64_t time, since;
	uint32_t frame_max;
	bool zstd, owes, orders;
	char name[REPAGENT_NAME_MAX + 1];
	char reason[SESSION_REASON_MAX];
};

/*
 * struct frame_builder - a frame that is being made. frame_begin() sets it up.
 * @buf:	FRAME_MAX bytes of the caller
 * @len:	so much of it is used
 */
struct frame_builder {
	struct frame_header h;
	uint8_t *buf;
	size_t len;
};

void frame_begin(struct frame_builder *b, void *buf, const struct frame_header *h);
bool frame_add_volume(struct frame_builder *b, const struct frame_volume *v);
bool frame_add_record(struct frame_builder *b, const struct frame_record *r, const void *payload);
void frame_add_void(struct frame_builder *b, uint64_t seq);
size_t frame_end(struct frame_builder *b, int level, void *scratch);
void frame_place(void *frame, uint64_t offset, uint64_t acked);
size_t frame_hello(void *buf, const uint8_t *group, uint64_t generation, uint64_t incarnation);

/*
 * struct frame_reader - the body of a frame, taken apart. frame_open() sets it up.
 * @body:	raw
 * @at:		so much of it was taken
 */
struct frame_reader {
	struct frame_header h;
	const uint8_t *body;
	size_t at;
	uint32_t volumes, records;	/* so many were taken */
	uint64_t seq;			/* of the last one */
	char *error;
};

bool frame_header_parse(struct frame_header *h, const void *data, char *error);
size_t frame_size(const struct frame_header *h);
bool frame_open(struct frame_reader *r, const struct frame_header *h, const void *stored,
		void *raw, char *error);
int frame_next_volume(struct frame_reader *r, struct frame_volume *v);
int frame_next_record(struct frame_reader *r, struct frame_record *rec, const void **payload);

void session_encode(const struct session *s, void *block);
bool session_decode(struct session *s, const void *block, char *error);

bool frame_refuse(char *error, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
uint32_t frame_crc(const void *data, size_t len);
bool frame_name_ok(const char *name);

#endif /* REPAGENT_FRAME_H */
