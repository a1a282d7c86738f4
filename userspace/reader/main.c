// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * repagent-reader: options and life.
 */
#include <errno.h>
#include <getopt.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include "../common/log.h"
#include "../common/parse.h"
#include "../common/usage.h"
#include "export.h"
#include "volumes.h"

#define LISTEN_MAX	8
#define RATE_LEAST	(64 * KIB)

static const char usage_text[] =
"Usage: repagent-reader --listen WHERE [OPTION...]\n"
"Serve the repagent volumes of this host over NBD, as GROUP/VOLUME, read-only.\n"
"\n"
"  -l, --listen WHERE          ADDRESS:PORT, [ADDRESS]:PORT, :PORT, or the path\n"
"                              of a Unix socket; may be given again. Not needed\n"
"                              where systemd passes sockets\n"
"      --tls-cert-dir DIR      TLS, and no plain text: ca-cert.pem,\n"
"                              server-cert.pem, server-key.pem\n"
"      --allow NAME=GROUP[/VOLUME]\n"
"                              a client with this name in its certificate may\n"
"                              read these; may be given again. Without any, every\n"
"                              client may read everything\n"
"      --only GROUP[/VOLUME]   serve these alone\n"
"      --rate MIB              read at most so many MiB a second, all together\n"
"      --connections N         at most so many at a time (1024)\n"
"      --workers N             threads (the processors, at most 4)\n"
"\n"
"  -h, --help                  show this\n"
"  -V, --version               show the version\n"
"\n"
"Exit status: 0 stopped as asked, 1 failure, 2 wrong usage.  More in\n"
"repagent-reader(8).\n";

enum option_id { OPT_TLS = 256, OPT_ALLOW, OPT_ONLY, OPT_RATE, OPT_CONNECTIONS, OPT_WORKERS };

static const struct option options[] = {
	{ "listen",		required_argument, NULL, 'l' },
	{ "tls-cert-dir",	required_argument, NULL, OPT_TLS },
	{ "allow",		required_argument, NULL, OPT_ALLOW },
	{ "only",		required_argument, NULL, OPT_ONLY },
	{ "rate",		required_argument, NULL, OPT_RATE },
	{ "connections",	required_argument, NULL, OPT_CONNECTIONS },
	{ "workers",		required_argument, NULL, OPT_WORKERS },
	{ "help",		no_argument, NULL, 'h' },
	{ "version",		no_argument, NULL, 'V' },
	{ NULL, 0, NULL, 0 }
};

static struct {
	const char *listen[LISTEN_MAX];
	unsigned int nr_listen;
	struct access_list access;
	struct nbds_config server;
} cfg;

/* The log keeps account of what it said; it is for one thread at a time. */
static pthread_mutex_t log_lock = PTHREAD_MUTEX_INITIALIZER;

static void log_any(int priority, const char *line)
{
	pthread_mutex_lock(&log_lock);
	log_msg(priority, "%s", line);
	pthread_mutex_unlock(&log_lock);
}

static void server_log(void *data, int priority, const char *line)
{
	(void)data;
	log_any(priority, line);
}

static unsigned int count(const char *option, const char *arg, uint64_t max)
{
	uint64_t n;

	if (!parse_count(arg, &n) || !n || n > max)
		usage_error("--%s '%s': expected a number from 1 to %u", option, arg,
			    (unsigned int)max);
	return (unsigned int)n;
}

/* MiB, perhaps with a fraction. */
static uint64_t rate(const char *arg)
{
	char mib[64];
	uint64_t bytes;

	if (snprintf(mib, sizeof(mib), "%sMiB", arg) >= (int)sizeof(mib) ||
	    arg[strspn(arg, "0123456789.")] || !parse_size(mib, &bytes) || bytes < RATE_LEAST)
		usage_error("--rate '%s': expected MiB a second, such as 50 or 0.5, and 0.0625 at least",
			    arg);
	return bytes;
}

static void parse_options(int argc, char **argv)
{
	char error[ACCESS_ERROR_MAX];
	int c;

	opterr = 0;
	while ((c = getopt_long(argc, argv, ":l:hV", options, NULL)) != -1) {
		switch (c) {
		case 'l':
			if (cfg.nr_listen == LISTEN_MAX)
				usage_error("--listen '%s': expected at most %d of them", optarg, LISTEN_MAX);
			cfg.listen[cfg.nr_listen++] = optarg;
			break;
		case OPT_TLS:
			if (access(optarg, R_OK | X_OK))
				usage_error("--tls-cert-dir '%s': %s; expected a directory with ca-cert.pem, server-cert.pem and server-key.pem",
					    optarg, strerror(errno));
			cfg.server.tls_dir = optarg;
			break;
		case OPT_ALLOW:
			if (!access_add(&cfg.access, optarg, error))
				usage_error("--allow %s", error);
			break;
		case OPT_ONLY:
			if (!access_only(&cfg.access, optarg, error))
				usage_error("--only %s", error);
			break;
		case OPT_RATE:
			cfg.server.rate = rate(optarg);
			break;
		case OPT_CONNECTIONS:
			cfg.server.connections = count("connections", optarg, 100000);
			break;
		case OPT_WORKERS:
			cfg.server.workers = count("workers", optarg, 64);
			break;
		default:
			usage_other(c, argv, usage_text);
		}
	}
	if (optind < argc)
		usage_error("'%s' is too much: expected options alone", argv[optind]);
	if (cfg.access.nr && !cfg.server.tls_dir)
		usage_error("--allow '%s': without --tls-cert-dir no client has a name",
			    cfg.access.rule[0].name);
}

/* Each connection is a descriptor, and one more when its volume is open. */
static void raise_files(void)
{
	rlim_t want = 2 * (rlim_t)cfg.server.connections + 128;
	struct rlimit lim;

	if (getrlimit(RLIMIT_NOFILE, &lim) || lim.rlim_cur >= want)
		return;
	lim.rlim_cur = lim.rlim_max < want ? lim.rlim_max : want;
	if (setrlimit(RLIMIT_NOFILE, &lim) || lim.rlim_cur < want)
		log_warn("only %ju files can be open, which is too few for %u connections",
			 (uintmax_t)lim.rlim_cur, cfg.server.connections);
}

static bool is_local(const char *where)
{
	return *where == '/' || !strncmp(where, "127.", 4) || !strncmp(where, "[::1]", 5) ||
	       !strncmp(where, "localhost:", 10);
}

static bool listen_all(struct nbds_server *s)
{
	int fd, n = sd_listen_fds(1), i, err;
	char error[512];

	if (n < 0) {
		log_err("the sockets that systemd passes: %s", strerror(-n));
		return false;
	}
	if (!n && !cfg.nr_listen)
		usage_error("expected --listen WHERE: where should clients connect to?");
	for (i = 0; i < n; i++) {
		fd = SD_LISTEN_FDS_START + i;
		if (sd_is_socket(fd, AF_UNSPEC, SOCK_STREAM, 1) <= 0) {
			log_err("descriptor %d that systemd passes is no stream socket that listens", fd);
			return false;
		}
		if (sd_is_socket(fd, AF_UNIX, SOCK_STREAM, 1) <= 0 && !cfg.server.tls_dir)
			log_notice("a socket that systemd passes is served in plain text");
		err = nbds_listen_fd(s, fd);
		if (err) {
			log_err("descriptor %d: %s", fd, strerror(-err));
			return false;
		}
	}
	for (i = 0; i < (int)cfg.nr_listen; i++) {
		fd = nbds_listen_on(cfg.listen[i], error, sizeof(error));
		err = fd < 0 ? 0 : nbds_listen_fd(s, fd);
		if (fd < 0 || err) {
			log_err("--listen %s", fd < 0 ? error : strerror(-err));
			return false;
		}
		if (!cfg.server.tls_dir && !is_local(cfg.listen[i]))
			log_warn("--listen '%s': whoever reaches it can read every volume, in plain text; expected --tls-cert-dir, or an address of this host alone",
				 cfg.listen[i]);
	}
	return true;
}

static void reload(struct nbds_server *s)
{
	char error[512];

	if (!cfg.server.tls_dir)
		return;
	if (nbds_reload_tls(s, error, sizeof(error)))
		log_any(LOG_NOTICE, "the certificates were read again");
	else
		server_log(NULL, LOG_ERR, error);
}

static void run(struct nbds_server *s)
{
	struct timespec second = { 1, 0 };
	unsigned int told = 0, seconds = 0;
	struct nbds_stats stats;
	sigset_t set;
	int sig;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	for (;;) {
		sig = sigtimedwait(&set, NULL, &second);
		if (sig == SIGHUP)
			reload(s);
		else if (sig > 0)
			return;
		pthread_mutex_lock(&log_lock);
		log_expire();
		pthread_mutex_unlock(&log_lock);
		nbds_get_stats(s, &stats);
		if (stats.connections != told || !(seconds++ % 60))
			sd_notifyf(0, "STATUS=%u connections; %ju MiB read", stats.connections,
				   (uintmax_t)(stats.read_bytes / MIB));
		told = stats.connections;
	}
}

int main(int argc, char **argv)
{
	struct nbds_server *s;
	char error[512];
	sigset_t set;

	nbds_config_init(&cfg.server);
	parse_options(argc, argv);
	log_init("repagent-reader");
	volumes_init(log_any);
	signal(SIGPIPE, SIG_IGN);
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	sigprocmask(SIG_BLOCK, &set, NULL);
	raise_files();
	cfg.server.ops = &reader_ops;
	cfg.server.data = &cfg.access;
	cfg.server.log = server_log;
	s = nbds_start(&cfg.server, error, sizeof(error));
	if (!s) {
		log_err("%s", error);
		return EXIT_FAILURE;
	}
	if (!listen_all(s)) {
		nbds_stop(s);
		log_summary();
		return EXIT_FAILURE;
	}
	sd_notify(0, "READY=1");
	run(s);
	sd_notify(0, "STOPPING=1");
	nbds_stop(s);
	log_summary();
	return EXIT_SUCCESS;
}
