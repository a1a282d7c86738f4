/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The daemon's core in a process of its own, draining a simulated ring into
 * which random records are put, and what a replica has to be in the end.
 */
#ifndef SIMBENCH_H
#define SIMBENCH_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "../../userspace/common/parse.h"
#include "../../userspace/repagentd/config.h"
#include "simring.h"

#define VOLUME_SIZE	(8 * MIB)
#define NR_SLOTS	1024
#define RING_SIZE	(4 * MIB)

/*
 * struct disk - a volume
 * @oracle:	what it has to be
 * @image:	path of a file
 * @name:	of the volume
 */
struct disk {
	uint16_t id;
	unsigned char *oracle;
	char image[128];
	const char *name;
};

/*
 * struct bench
 * @daemon, @server: processes, or 0
 * @seed:	of what is random
 */
struct bench {
	struct simring *sim;
	struct config cfg;
	struct disk disk[2];
	char uri[256];
	pid_t daemon, server;
	unsigned int seed;
};

extern char bench_dir[64];

char *bench_path(char *buf, size_t size, const char *name);
pid_t bench_run(char *const argv[]);
void bench_end(pid_t *pid, int signo);
bool bench_listens(const char *path);
void bench_await(const char *path);
void bench_image(const char *path, uint64_t size);
void bench_start(struct bench *b);
void bench_stop(struct bench *b);
void bench_add_disk(struct bench *b, int i, const char *name);
void bench_begin(struct bench *b, const char *uri);
void bench_finish(struct bench *b);
void bench_fill(struct bench *b, unsigned char *p, size_t len);
void bench_put_one(struct bench *b, int i, bool discards);
void bench_put(struct bench *b, unsigned int n);
void bench_drained(struct bench *b);
void bench_view_is(struct bench *b, int i);
bool bench_beside(char *path, size_t size, const char *name);
bool bench_open(const char *name);
bool bench_close(void);

#endif /* SIMBENCH_H */
