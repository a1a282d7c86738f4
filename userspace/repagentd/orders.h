/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a rephub wants to be compared, and what it is told of it (Documentation/sums.md). */
#ifndef REPAGENTD_ORDERS_H
#define REPAGENTD_ORDERS_H

#include "../common/sums.h"
#include "conn.h"
#include "verify.h"

/*
 * struct orders
 * @conn:	that of the log; replies with these tags are shown to orders_replied()
 * @verify:	carries them out
 * @asking, @telling: a request is under way
 * @next_ask, @next_tell: not before, ns
 * @order:	the one that is being carried out; its serial 0: there is none
 * @index:	of its volume; -1: there is no such volume here
 * @told:	of each volume the end of the comparison that the hub knows of, ns
 * @ending:	index of the volume whose end is being told, or -1
 */
struct orders {
	struct conn *conn;
	struct loop *loop;
	struct stream *stream;
	struct verify *verify;
	unsigned int tag_ask, tag_tell;
	bool asking, telling;
	uint64_t next_ask, next_tell;
	struct order order;
	int index;
	uint64_t told[REPAGENT_MAX_VOLUMES];
	int ending;
	uint8_t asked[ORDER_SIZE], report[ORDER_SIZE];
};

void orders_begin(struct orders *o);
void orders_run(struct orders *o);
void orders_replied(struct orders *o, unsigned int tag, int error);
uint64_t orders_deadline(const struct orders *o);

#endif /* REPAGENTD_ORDERS_H */
