// SPDX-License-Identifier: GPL-2.0-or-later
#include <stdlib.h>
#include <string.h>

#include "hub.h"

void hub_init(struct hub *h, uint64_t sectors)
{
	memset(h, 0, sizeof(*h));
	for (unsigned int i = 0; i < VOLUMES; i++) {
		disk_init(&h->disk[i], sectors);
		h->older[i] = malloc(sectors * SECTOR);
		if (!h->older[i])
			die("out of memory");
	}
}

void hub_reset(struct hub *h)
{
	for (unsigned int i = 0; i < VOLUMES; i++)
		disk_reset(&h->disk[i], NULL);
	memset(&h->now, 0, sizeof(h->now));
	h->safe = h->now;
	h->down = h->refuses = h->has_older = false;
	h->set_backs = h->crashes = 0;
	h->epoch++;
}

void hub_reached(struct hub *h, uint64_t incarnation, uint64_t seq)
{
	struct hub_state *s = &h->now;
	unsigned int i;

	for (i = 0; i < s->nr && s->lineage[i].incarnation != incarnation; i++)
		;
	if (i == LINEAGE_MAX)
		die("more than %d incarnations", LINEAGE_MAX);
	if (i == s->nr)
		s->nr++;
	s->lineage[i] = (struct hub_position){ incarnation, seq };
}

uint64_t hub_position(const struct hub_state *state, uint64_t incarnation)
{
	for (unsigned int i = 0; i < state->nr; i++)
		if (state->lineage[i].incarnation == incarnation)
			return state->lineage[i].seq;
	return 0;
}

bool hub_owes(const struct hub *h, unsigned int volume, uint64_t map_incarnation, uint64_t map_seq,
	      uint64_t incarnation)
{
	uint64_t told = h->now.map_error[volume];

	return (map_incarnation && hub_position(&h->now, map_incarnation) < map_seq) ||
	       (told && told != incarnation);
}

void hub_flush(struct hub *h)
{
	for (unsigned int i = 0; i < VOLUMES; i++)
		disk_flush_end(&h->disk[i], disk_flush_begin(&h->disk[i]));
	h->safe = h->now;
}

void hub_crash(struct hub *h, struct rng *rng)
{
	for (unsigned int i = 0; i < VOLUMES; i++)
		disk_lose_power(&h->disk[i], rng);
	h->now = h->safe;
	h->epoch++;
	h->crashes++;
}

void hub_remember(struct hub *h)
{
	for (unsigned int i = 0; i < VOLUMES; i++)
		memcpy(h->older[i], h->disk[i].safe, h->disk[i].sectors * SECTOR);
	h->older_state = h->safe;
	h->has_older = true;
}

bool hub_set_back(struct hub *h)
{
	if (!h->has_older)
		return false;
	for (unsigned int i = 0; i < VOLUMES; i++) {
		disk_write(&h->disk[i], 0, h->disk[i].sectors, h->older[i], false);
		disk_flush_end(&h->disk[i], disk_flush_begin(&h->disk[i]));
	}
	h->now = h->safe = h->older_state;
	h->epoch++;
	h->set_backs++;
	return true;
}
