/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a rephub has of a volume, read over the network: which parts have changed, their sums, and their bytes. */
#ifndef REPAGENT_PULL_H
#define REPAGENT_PULL_H

#include <libnbd.h>

#include "../common/uri.h"
#include "spans.h"

#define PULL_ERROR_MAX	1024	/* bytes of a sentence */
#define PULL_AT_MAX	48	/* ... of a position */
#define PULL_ALIGN	4096u	/* what is written to a disk begins and ends there, or at its end */

/*
 * struct pull_hub - where it is
 * @group, @tls: of the group; the directory of its certificates, or NULL
 */
struct pull_hub {
	struct uri_map taps;
	const char *group, *tls;
};

/*
 * struct pull - a volume as it is at the hub, at one position
 * @at:		that position
 * @rest:	nobody goes on from there
 * @why:	who does, if so
 * @unknown:	why it is not known what has changed, so that all may have; "": it is
 */
struct pull {
	struct nbd_handle *nbd;
	uint64_t size;
	char at[PULL_AT_MAX];
	bool rest;
	char why[128], unknown[128];
};

/*
 * struct pull_disk - where it goes to
 * @fd:		opened with O_DIRECT
 * @done, @all: bytes that were, and are to be, looked at or copied
 * @moved:	bytes that came from the hub
 * @progress:	called now and then
 */
struct pull_disk {
	int fd;
	uint64_t size;
	uint64_t done, all, moved;
	void (*progress)(struct pull_disk *d);
};

bool pull_open(struct pull *p, const struct pull_hub *hub, const char *volume, const char *since, char *error);
bool pull_changed(struct pull *p, struct spans *out, char *error);
bool pull_differing(struct pull *p, const struct pull_hub *hub, const char *volume, struct pull_disk *d, const struct spans *in,
		    struct spans *out, char *error);
bool pull_copy(struct pull *p, struct pull_disk *d, const struct spans *what, char *error);
void pull_close(struct pull *p);

#endif /* REPAGENT_PULL_H */
