// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * nbdtestserver - the NBD server library in front of files, for the tests and
 * the benchmark.
 */
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "nbdserver/nbdserver.h"

#define FILES_MAX	16

static const char usage[] =
"usage: nbdtestserver [OPTION]... NAME=PATH...\n"
"\n"
"  --listen WHERE         ADDRESS:PORT or /PATH; may be given again\n"
"  --readonly             nothing can be written\n"
"  --direct               past the page cache, or not at all\n"
"  --buffered             through the page cache\n"
"  --workers N, --connections N, --memory BYTES, --handshake-ms N, --stall-ms N,\n"
"  --rate BYTES           see nbdserver.h\n"
"  --tls DIR              certificates\n"
"  --only PEER=NAME       this peer may open this export; may be given again\n"
"\n"
"Serves until SIGTERM or SIGINT; then prints the number of requests.\n";

static struct {
	const char *name[FILES_MAX], *path[FILES_MAX];
	unsigned int nr;
	const char *peer[FILES_MAX], *may[FILES_MAX];
	unsigned int nr_may;
	bool readonly;
	enum nbds_direct direct;
} cfg = { .direct = NBDS_DIRECT_IF_POSSIBLE };

static bool ops_list(void *data, unsigned int i, char *name, size_t size)
{
	(void)data;
	if (i >= cfg.nr)
		return false;
	snprintf(name, size, "%s", cfg.name[i]);
	return true;
}

static bool ops_allowed(void *data, const struct nbds_peer *peer, const char *name,
			char *reason, size_t size)
{
	unsigned int i, j;

	(void)data;
	for (i = 0; i < cfg.nr_may; i++)
		for (j = 0; j < peer->nr_names; j++)
			if (!strcmp(cfg.may[i], name) && !strcmp(cfg.peer[i], peer->names[j]))
				return true;
	snprintf(reason, size, "%s may not open it", peer->nr_names ? peer->names[0] : "nobody");
	return !cfg.nr_may;
}

static void *ops_open(void *data, const char *name, struct nbds_info *info, char *reason,
		      size_t size)
{
	struct nbds_file *f;
	unsigned int i;

	(void)data;
	for (i = 0; i < cfg.nr && strcmp(cfg.name[i], name); i++)
		;
	if (i == cfg.nr)
		return NULL;
	f = malloc(sizeof(*f));
	if (!f || !nbds_file_open(f, cfg.path[i], !cfg.readonly, cfg.direct, reason, size)) {
		free(f);
		return NULL;
	}
	nbds_file_info(f, !cfg.readonly, info);
	snprintf(info->description, sizeof(info->description), "the file %s", cfg.path[i]);
	return f;
}

static void ops_close(void *export)
{
	nbds_file_close(export);
	free(export);
}

static void ops_submit(void *export, struct nbds_request *rq)
{
	nbds_file_submit(export, rq);
}

static void log_line(void *data, int priority, const char *line)
{
	(void)data;
	fprintf(stderr, "<%d>%s\n", priority, line);
}

static void pair(const char *arg, const char **a, const char **b)
{
	char *copy = strdup(arg), *eq = copy ? strchr(copy, '=') : NULL;

	if (!eq) {
		fprintf(stderr, "nbdtestserver: '%s': expected A=B\n", arg);
		exit(2);
	}
	*eq = '\0';
	*a = copy;
	*b = eq + 1;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "listen",	required_argument, NULL, 'l' },
		{ "readonly",	no_argument, NULL, 'r' },
		{ "direct",	no_argument, NULL, 'd' },
		{ "buffered",	no_argument, NULL, 'b' },
		{ "workers",	required_argument, NULL, 'w' },
		{ "connections", required_argument, NULL, 'c' },
		{ "memory",	required_argument, NULL, 'm' },
		{ "handshake-ms", required_argument, NULL, 'H' },
		{ "stall-ms",	required_argument, NULL, 's' },
		{ "rate",	required_argument, NULL, 'R' },
		{ "tls",	required_argument, NULL, 't' },
		{ "only",	required_argument, NULL, 'o' },
		{ "help",	no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	static const struct nbds_ops ops = {
		.list = ops_list, .allowed = ops_allowed, .open = ops_open,
		.close = ops_close, .submit = ops_submit,
	};
	struct nbds_config config;
	struct nbds_server *server;
	const char *where[8];
	unsigned int nr_where = 0, i;
	struct nbds_stats stats;
	char error[512];
	sigset_t set;
	int c, fd, sig;

	nbds_config_init(&config);
	while ((c = getopt_long(argc, argv, "h", options, NULL)) != -1) {
		unsigned long n = optarg ? strtoul(optarg, NULL, 10) : 0;

		switch (c) {
		case 'l':
			if (nr_where < 8)
				where[nr_where++] = optarg;
			break;
		case 'r': cfg.readonly = true; break;
		case 'd': cfg.direct = NBDS_DIRECT_ALWAYS; break;
		case 'b': cfg.direct = NBDS_DIRECT_NEVER; break;
		case 'w': config.workers = (unsigned int)n; break;
		case 'c': config.connections = (unsigned int)n; break;
		case 'm': config.memory = n; break;
		case 'H': config.handshake_ms = (unsigned int)n; break;
		case 's': config.stall_ms = (unsigned int)n; break;
		case 'R': config.rate = n; break;
		case 't': config.tls_dir = optarg; break;
		case 'o':
			if (cfg.nr_may < FILES_MAX) {
				pair(optarg, &cfg.peer[cfg.nr_may], &cfg.may[cfg.nr_may]);
				cfg.nr_may++;
			}
			break;
		case 'h':
			fputs(usage, stdout);
			return 0;
		default:
			fputs(usage, stderr);
			return 2;
		}
	}
	for (; optind < argc && cfg.nr < FILES_MAX; optind++, cfg.nr++)
		pair(argv[optind], &cfg.name[cfg.nr], &cfg.path[cfg.nr]);
	if (!cfg.nr || !nr_where) {
		fputs(usage, stderr);
		return 2;
	}
	signal(SIGPIPE, SIG_IGN);
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	sigprocmask(SIG_BLOCK, &set, NULL);
	config.ops = &ops;
	config.log = log_line;
	server = nbds_start(&config, error, sizeof(error));
	if (!server) {
		fprintf(stderr, "nbdtestserver: %s\n", error);
		return 1;
	}
	for (i = 0; i < nr_where; i++) {
		fd = nbds_listen_on(where[i], error, sizeof(error));
		if (fd < 0 || nbds_listen_fd(server, fd)) {
			fprintf(stderr, "nbdtestserver: %s\n", error);
			return 1;
		}
	}
	puts("ready");
	fflush(stdout);
	while (!sigwait(&set, &sig) && sig == SIGHUP)
		if (!nbds_reload_tls(server, error, sizeof(error)))
			fprintf(stderr, "nbdtestserver: %s\n", error);
	nbds_get_stats(server, &stats);
	nbds_stop(server);
	printf("%llu requests\n", (unsigned long long)stats.requests);
	return 0;
}
