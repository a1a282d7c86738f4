// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * hubbench ring URI KIB RECORDS [SERVER-PID]: how long the agent takes to bring a full ring to a hub, until all is
 * acknowledged. The ring is the unit tests', the agent is all of repagentd but for its main().
 * hubbench open URI: how long it takes to open an export, and to read its first block.
 *
 * Each prints one JSON object; the CPU is in seconds, of both ends.
 */
#include <inttypes.h>
#include <libnbd.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

#include "../unit/simbench.h"

#define VOLUME		(UINT64_C(1) << 30)
#define VIEWED		(UINT64_C(64) << 30)	/* volume of small records, which are to stay apart */

static void die(const char *what, const char *why)
{
	fprintf(stderr, "hubbench: %s: %s\n", what, why);
	exit(1);
}

static double seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* Of user and system, all threads. */
static double cpu_of(pid_t pid)
{
	unsigned long user = 0, system = 0;
	char path[64], line[1024] = "", *p;
	FILE *f;

	if (pid <= 0)
		return 0;
	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	f = fopen(path, "r");
	if (!f || !fgets(line, sizeof(line), f))
		die(path, "cannot be read");
	fclose(f);
	p = strrchr(line, ')');
	if (!p || sscanf(p + 2, "%*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &system) != 2)
		die(path, "makes no sense");
	return (double)(user + system) / (double)sysconf(_SC_CLK_TCK);
}

static uint64_t number(const char *word)
{
	uint64_t n;

	if (!parse_count(word, &n) || !n)
		die(word, "expected a number from 1 on");
	return n;
}

/* Random places, one after the other, that do not overlap: mirrors would have to wait for one another else. */
static uint64_t place(uint64_t i, uint64_t blocks)
{
	return i * UINT64_C(2654435761) % blocks;
}

static void run_ring(const char *uri, uint64_t len, uint64_t records, pid_t server)
{
	uint64_t volume = len < 4096 ? VIEWED : VOLUME, slots = 1024, i, size, seq;
	struct bench b = { 0 };
	char error[URI_ERROR_MAX];
	double start, took, agent, hub;
	struct repagent_slot slot;
	unsigned char *payload;
	uint16_t id;
	int status;

	while (slots < records + 64)
		slots *= 2;
	size = ((len + 511) / 512 * 512 * records + (4 << 20) + 4095) / 4096 * 4096;
	b.sim = simring_new((uint32_t)slots, size);
	b.sim->header->incarnation = (uint64_t)time(NULL) << 32 | (uint32_t)getpid();
	b.seed = 1;
	bench_fill(&b, b.sim->payload, size);
	config_init(&b.cfg);
	b.cfg.group = "bench";
	if (!uri_add_tap(&b.cfg.taps, uri, error))
		die(uri, error);
	id = simring_add_volume(b.sim, "disk0", volume);
	simring_put(b.sim, REPAGENT_REC_RESYNC_BEGIN, id, 0, volume, NULL);
	seq = simring_put(b.sim, REPAGENT_REC_RESYNC_END, id, 0, 0, NULL);
	bench_start(&b);
	if (!simring_wait_acked(b.sim, seq, 20))
		die(uri, "the agent does not come to it");
	kill(b.daemon, SIGSTOP);
	waitpid(b.daemon, &status, WUNTRACED);
	/* The payload is there already: only the slots are filled in. */
	for (i = 0; i < records; i++) {
		slot = (struct repagent_slot){ .type = REPAGENT_REC_WRITE, .volume = id, .len = (uint32_t)len,
					       .nr_sectors = len / 512, .sector = place(i, volume / len) * len / 512 };
		seq = simring_reserve(b.sim, &slot, &payload);
		simring_commit(b.sim, seq, REPAGENT_SLOT_READY);
	}
	agent = cpu_of(b.daemon);
	hub = cpu_of(server);
	start = seconds();
	kill(b.daemon, SIGCONT);
	if (!simring_wait_acked(b.sim, seq, 120))
		die(uri, "the ring does not become empty");
	took = seconds() - start;
	agent = cpu_of(b.daemon) - agent;
	hub = cpu_of(server) - hub;
	bench_end(&b.daemon, SIGTERM);
	printf("{\"records\": %" PRIu64 ", \"bytes\": %" PRIu64 ", \"seconds\": %.4f, \"records_s\": %.0f, \"mb_s\": %.1f, "
	       "\"client_cpu\": %.2f, \"server_cpu\": %.2f}\n", records, records * len, took, (double)records / took,
	       (double)(records * len) / took / 1e6, agent, hub);
}

static struct nbd_handle *connect_to(const char *uri)
{
	struct nbd_handle *nbd = nbd_create();

	if (!nbd || nbd_connect_uri(nbd, uri))
		die(uri, nbd_get_error());
	return nbd;
}

static void run_open(const char *uri)
{
	double start = seconds(), opened;
	struct nbd_handle *nbd = connect_to(uri);
	unsigned char block[4096];

	opened = seconds();
	if (nbd_pread(nbd, block, sizeof(block), 0, 0))
		die(uri, nbd_get_error());
	printf("{\"open_seconds\": %.4f, \"first_read_seconds\": %.4f}\n", opened - start, seconds() - opened);
	nbd_close(nbd);
}

int main(int argc, char **argv)
{
	pid_t server = 0;

	signal(SIGPIPE, SIG_IGN);
	if (argc == 3 && !strcmp(argv[1], "open")) {
		run_open(argv[2]);
	} else if ((argc == 5 || argc == 6) && !strcmp(argv[1], "ring")) {
		server = argc == 6 ? (pid_t)number(argv[5]) : 0;
		run_ring(argv[2], !strcmp(argv[3], "0.5") ? 512 : number(argv[3]) * KIB, number(argv[4]), server);
	} else {
		fprintf(stderr, "Usage: hubbench ring URI KIB RECORDS [SERVER-PID]\n"
				"       hubbench open URI\n");
		return 2;
	}
	return 0;
}
