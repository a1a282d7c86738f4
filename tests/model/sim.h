/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A small simulated world: tasks that take turns at random, and disks with a
 * volatile cache. Everything that is random comes from one seed.
 */
#ifndef SIM_H
#define SIM_H

#include <stdbool.h>
#include <stdint.h>

/* ---- chance --------------------------------------------------------------- */

void rnd_seed(uint64_t seed);
uint32_t rnd(uint32_t below);
bool chance(unsigned int in, unsigned int of);

/* ---- tasks ------------------------------------------------------------------ */

#define SIM_TASKS	24

/* One thread of the kernel, the daemon or the guest. It can be ended at any give_way(). */
int task_add(void (*run)(int arg), int arg);
void task_restart(int task);
void tasks_reset(void);
void task_step(void);

/* Let others run; the next line of the caller is done when chance has it. */
void give_way(void);

/* ---- disks ------------------------------------------------------------------ */

#define DISK_SECTORS	24
#define LOG_RUNS	2
#define BITS_REGIONS	2
#define FINE_EXTENTS	2

struct super {
	uint32_t seq, flags, log_tail, d_incarnation, d_seq, boot, origin_writes, nr_fine;
};

struct run {
	uint16_t first, count;
};

/* What a sector holds: of the origin and the hub a number; else what the map has there. */
struct sector {
	enum { SECTOR_DATA, SECTOR_SUPER, SECTOR_LOG, SECTOR_FINE, SECTOR_BITS } kind;
	union {
		uint32_t	data;
		struct super	super;
		struct { uint32_t seq, nr; struct run run[LOG_RUNS]; } log;
		struct { uint32_t nr; struct run extent[FINE_EXTENTS]; } fine;
		bool		bits[BITS_REGIONS];
	};
};

/*
 * A sector is written wholly or not at all. @now is what a read gives, @safe
 * what is left when the power fails; when that is decided, any of those of
 * which @now is newer may have become safe.
 */
struct cell {
	struct sector	now, safe;
	uint32_t	now_version, safe_version;
	uint32_t	doomed;		/* the version that a failed flush has lost: never safe */
};

struct disk {
	const char	*name;
	int		number;
	unsigned int	nr;
	unsigned int	epoch;			/* raised by a loss of power */
	bool		(*fails)(struct disk *d, unsigned int at);	/* is the write to fail? */
	unsigned int	broken;			/* for fails() */
	bool		flush_fails;		/* the next one */
	struct cell	cell[DISK_SECTORS];
};

void disk_init(struct disk *d, const char *name, int number, unsigned int nr);
int disk_write(struct disk *d, unsigned int at, unsigned int nr, const struct sector *from, bool fua);
int disk_flush(struct disk *d);
void disk_put(struct disk *d, unsigned int at, const struct sector *from);
void disk_destage(struct disk *d, unsigned int at);
void disk_lose_power(struct disk *d);

/* ---- what happened ------------------------------------------------------------ */

extern bool trace_on;
extern unsigned long step;	/* turns taken in this run */

void say(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

#endif /* SIM_H */
