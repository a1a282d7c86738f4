/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a hub has of a volume, without its data, and what it wants to be compared: see Documentation/sums.md. */
#ifndef REPAGENT_SUMS_H
#define REPAGENT_SUMS_H

#include "frame.h"

#define SUMS_MAGIC	UINT64_C(0x736d757368706572)	/* "rephsums" */
#define SUMS_WANT_MAGIC	UINT64_C(0x746e617768706572)	/* "rephwant" */
#define SUMS_VERSION	1u
#define SUMS_HEADER	4096u		/* bytes of the header; the sums are behind it */
#define SUMS_WANT	512u		/* ... of a position that is asked for */
#define SUMS_BLOCK	(64u << 10)	/* bytes that have one sum */
#define SUM_SIZE	16u

/*
 * struct sums_header - what the sums are of
 * @hub, @group: uuids
 * @incarnation, @seq: position; zeroes: nothing came yet
 * @bytes:	size of the volume
 */
struct sums_header {
	uint8_t hub[16], group[16];
	uint64_t incarnation, seq;
	uint64_t bytes;
	char volume[REPAGENT_NAME_MAX + 1];
};

#define ORDER_MAGIC	UINT64_C(0x7264726f68706572)	/* "rephordr" */
#define REPORT_MAGIC	UINT64_C(0x7472707268706572)	/* "rephrprt" */
#define ORDER_SIZE	512u		/* of either, and where it lies in log/GROUP */
#define ORDER_AT	512u

/*
 * struct order - what the hub wants to be compared
 * @serial:	another one for each; 0: nothing is wanted
 * @from:	byte to begin with
 * @rate:	bytes a second; 0: no limit
 */
struct order {
	uint64_t serial;
	uint64_t from, rate;
	char volume[REPAGENT_NAME_MAX + 1];
};

enum report_state { REPORT_RUNNING = 1, REPORT_DONE, REPORT_STOPPED, REPORT_NR_STATES };

/*
 * struct verify_report - how far an agent is with that
 * @serial:	of the order; 0: it was asked for at the source
 * @reached, @differed, @unrepaired, @skipped: bytes
 */
struct verify_report {
	enum report_state state;
	uint64_t serial;
	uint64_t reached, differed, unrepaired, skipped;
	char volume[REPAGENT_NAME_MAX + 1];
};

void sums_header_encode(const struct sums_header *h, void *block);
bool sums_header_decode(struct sums_header *h, const void *block, char *error);
void sums_want_encode(uint64_t incarnation, uint64_t seq, void *buf);
bool sums_want_decode(uint64_t *incarnation, uint64_t *seq, const void *buf, char *error);
uint64_t sums_blocks(uint64_t bytes);
void order_encode(const struct order *o, void *buf);
bool order_decode(struct order *o, const void *buf, char *error);
void report_encode(const struct verify_report *r, void *buf);
bool report_decode(struct verify_report *r, const void *buf, char *error);
bool sums_of(const void *block, size_t len, uint8_t *sum);

#endif /* REPAGENT_SUMS_H */
