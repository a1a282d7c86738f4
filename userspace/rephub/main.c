// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * rephub: options and life.
 */
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <systemd/sd-daemon.h>
#include <time.h>
#include <unistd.h>

#include "../common/log.h"
#include "../common/parse.h"
#include "../common/usage.h"
#include "commands.h"
#include "export.h"

#define LISTEN_MAX	8
#define LISTEN_DEFAULT	"localhost:10809"
#define SEGMENT_LEAST	(4 * MIB)
#define SEGMENT_MOST	(4096 * MIB)
#define CACHE_MOST	(UINT64_C(1) << 40)
#define THREADS		8u	/* that may wait for disks */

static const char usage_text[] =
"Usage: rephub --dir DIR [OPTION...]\n"
"Keep the history of protected groups, and serve it over NBD: log/GROUP takes a\n"
"group's stream, view/GROUP/VOLUME@POINT is a volume as it was.\n"
"\n"
"  -d, --dir DIR               where everything is kept; created if need be\n"
"  -l, --listen WHERE          ADDRESS:PORT, [ADDRESS]:PORT, :PORT, or the path\n"
"                              of a Unix socket; may be given again\n"
"                              (" LISTEN_DEFAULT ")\n"
"      --tls-cert-dir DIR      TLS, and no plain text: ca-cert.pem,\n"
"                              server-cert.pem, server-key.pem\n"
"      --allow NAME=GROUP[/VOLUME]\n"
"                              a client with this name in its certificate may\n"
"                              write the group's log, its tests and its live\n"
"                              volumes, and see all, or see this volume; may be\n"
"                              given again. Without any,\n"
"                              every client may do everything\n"
"      --no-create             take the streams of groups that are there alone\n"
"      --keep SIZE             of each group's journal, what is older is folded\n"
"                              into the base (64G; 0: no limit)\n"
"      --keep-time DURATION    the same by age (0: no limit)\n"
"      --when-full WORD        of groups that nothing else is said of: stop-ingest,\n"
"                              or drop-history, the oldest (stop-ingest)\n"
"      --reserve SIZE          of the disk, that is not given to streams (a\n"
"                              twentieth of it, from 64M to 4G)\n"
"      --warn-full DURATION    before that is reached, warn (6h; 0: never)\n"
"      --segment SIZE          of the journal's files (256M)\n"
"      --cache SIZE            of memory for what is read of journals, by all views\n"
"                              (64M)\n"
"      --verify-every DURATION each volume is compared with its source this often,\n"
"                              such as 30d (0: by command alone)\n"
"      --verify-rate SIZE      ... of each group so much a second (10M; 0: no limit)\n"
"      --connections N         at most so many at a time (1024)\n"
"      --control PATH          of the socket of rephubctl (DIR/control)\n"
"      --workers N             threads of the network (the processors, at most 4)\n"
"\n"
"  -h, --help                  show this\n"
"  -V, --version               show the version\n"
"\n"
"Exit status: 0 stopped as asked, 1 failure, 2 wrong usage.  More in rephub(8).\n";

enum option_id {
	OPT_TLS = 256, OPT_ALLOW, OPT_NO_CREATE, OPT_KEEP, OPT_KEEP_TIME, OPT_SEGMENT, OPT_CONNECTIONS,
	OPT_WORKERS, OPT_CONTROL, OPT_CACHE, OPT_EVERY, OPT_RATE, OPT_WHEN_FULL, OPT_RESERVE, OPT_WARN,
};

static const struct option options[] = {
	{ "dir",		required_argument, NULL, 'd' },
	{ "listen",		required_argument, NULL, 'l' },
	{ "tls-cert-dir",	required_argument, NULL, OPT_TLS },
	{ "allow",		required_argument, NULL, OPT_ALLOW },
	{ "no-create",		no_argument, NULL, OPT_NO_CREATE },
	{ "keep",		required_argument, NULL, OPT_KEEP },
	{ "keep-time",		required_argument, NULL, OPT_KEEP_TIME },
	{ "when-full",		required_argument, NULL, OPT_WHEN_FULL },
	{ "reserve",		required_argument, NULL, OPT_RESERVE },
	{ "warn-full",		required_argument, NULL, OPT_WARN },
	{ "segment",		required_argument, NULL, OPT_SEGMENT },
	{ "cache",		required_argument, NULL, OPT_CACHE },
	{ "verify-every",	required_argument, NULL, OPT_EVERY },
	{ "verify-rate",	required_argument, NULL, OPT_RATE },
	{ "connections",	required_argument, NULL, OPT_CONNECTIONS },
	{ "workers",		required_argument, NULL, OPT_WORKERS },
	{ "control",		required_argument, NULL, OPT_CONTROL },
	{ "help",		no_argument, NULL, 'h' },
	{ "version",		no_argument, NULL, 'V' },
	{ NULL, 0, NULL, 0 }
};

static struct {
	const char *dir;
	const char *control;
	const char *listen[LISTEN_MAX];
	unsigned int nr_listen;
	struct hub_options hub;
	struct nbds_config server;
	struct exports exports;
} cfg;

static void log_any(void *data, int priority, const char *line)
{
	(void)data;
	log_msg(priority, "%s", line);
}

static unsigned int count(const char *option, const char *arg, uint64_t max)
{
	uint64_t n;

	if (!parse_count(arg, &n) || !n || n > max)
		usage_error("--%s '%s': expected a number from 1 to %u", option, arg, (unsigned int)max);
	return (unsigned int)n;
}

static uint64_t size_of(const char *option, const char *arg, uint64_t least, uint64_t most)
{
	char low[HUMAN_MAX], high[HUMAN_MAX];
	uint64_t bytes;

	if (!parse_size(arg, &bytes) || bytes < least || bytes > most)
		usage_error("--%s '%s': expected a size such as 512M or 20G, from %s to %s", option, arg,
			    human_size(low, least), human_size(high, most));
	return bytes;
}

static void parse_options(int argc, char **argv)
{
	char error[ACCESS_ERROR_MAX];
	int c;

	opterr = 0;
	while ((c = getopt_long(argc, argv, ":d:l:hV", options, NULL)) != -1) {
		switch (c) {
		case 'd':
			cfg.dir = optarg;
			break;
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
			if (!access_add(&cfg.exports.access, optarg, error))
				usage_error("--allow %s", error);
			break;
		case OPT_NO_CREATE:
			cfg.hub.create = false;
			break;
		case OPT_KEEP:
			cfg.hub.keep.bytes = size_of("keep", optarg, 0, UINT64_MAX);
			break;
		case OPT_KEEP_TIME:
			if (!parse_duration(optarg, &cfg.hub.keep.ns))
				usage_error("--keep-time '%s': expected a duration such as 30min or 7d", optarg);
			break;
		case OPT_WHEN_FULL:
			if (!hub_when_full_parse(optarg, &cfg.hub.keep.when_full))
				usage_error("--when-full '%s': expected stop-ingest or drop-history", optarg);
			break;
		case OPT_RESERVE:
			cfg.hub.reserve = size_of("reserve", optarg, MIB, INT64_MAX);
			break;
		case OPT_WARN:
			if (!parse_duration(optarg, &cfg.hub.warn))
				usage_error("--warn-full '%s': expected a duration such as 6h or 2d, or 0", optarg);
			break;
		case OPT_SEGMENT:
			cfg.hub.segment = size_of("segment", optarg, SEGMENT_LEAST, SEGMENT_MOST);
			break;
		case OPT_CACHE:
			cfg.hub.cache = (size_t)size_of("cache", optarg, 0, CACHE_MOST);
			break;
		case OPT_EVERY:
			if (!parse_duration(optarg, &cfg.hub.verify_every))
				usage_error("--verify-every '%s': expected a duration such as 7d or 30d", optarg);
			break;
		case OPT_RATE:
			cfg.hub.verify_rate = size_of("verify-rate", optarg, 0, UINT64_MAX);
			break;
		case OPT_CONNECTIONS:
			cfg.server.connections = count("connections", optarg, 100000);
			break;
		case OPT_WORKERS:
			cfg.server.workers = count("workers", optarg, 64);
			break;
		case OPT_CONTROL:
			cfg.control = optarg;
			break;
		default:
			usage_other(c, argv, usage_text);
		}
	}
	if (optind < argc)
		usage_error("'%s' is too much: expected options alone", argv[optind]);
	if (!cfg.dir)
		usage_error("expected --dir DIR: where is everything to be kept?");
	if (cfg.exports.access.nr && !cfg.server.tls_dir)
		usage_error("--allow '%s': without --tls-cert-dir no client has a name",
			    cfg.exports.access.rule[0].name);
}

/* Each segment is a descriptor, and so are connections and bases: as many as may be. */
static void raise_files(void)
{
	struct rlimit lim;

	if (getrlimit(RLIMIT_NOFILE, &lim) || lim.rlim_cur == lim.rlim_max)
		return;
	lim.rlim_cur = lim.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &lim))
		log_warn("the number of open files cannot be raised to %ju: %s", (uintmax_t)lim.rlim_max,
			 strerror(errno));
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
		cfg.listen[cfg.nr_listen++] = LISTEN_DEFAULT;
	for (i = 0; i < n; i++) {
		fd = SD_LISTEN_FDS_START + i;
		if (sd_is_socket(fd, AF_UNSPEC, SOCK_STREAM, 1) <= 0) {
			log_err("descriptor %d that systemd passes is no stream socket that listens", fd);
			return false;
		}
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
			log_warn("--listen '%s': whoever reaches it can read every volume and write every log, in plain text; expected --tls-cert-dir, or an address of this host alone",
				 cfg.listen[i]);
	}
	return true;
}

static atomic_bool tender_ends;

static void *tend(void *arg)
{
	while (!tender_ends) {
		hub_tend(arg);
		hub_rest(arg);
	}
	return NULL;
}

static void reload(struct nbds_server *s)
{
	char error[512];

	if (!cfg.server.tls_dir)
		return;
	if (nbds_reload_tls(s, error, sizeof(error)))
		log_any(NULL, LOG_NOTICE, "the certificates were read again");
	else
		log_any(NULL, LOG_ERR, error);
}

/*
 * struct life - the main thread's: signals, and the control socket
 * @watch:	of the signals; first, so that it leads back here
 */
struct life {
	struct watch watch;
	struct loop loop;
	struct nbds_server *server;
	int signals;
	bool end;
};

static void signal_came(struct watch *watch, uint32_t events)
{
	struct life *life = (struct life *)(void *)watch;
	struct signalfd_siginfo info;

	(void)events;
	while (read(life->signals, &info, sizeof(info)) == sizeof(info)) {
		if (info.ssi_signo == SIGHUP)
			reload(life->server);
		else
			life->end = true;
	}
}

static uint64_t monotonic(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * NSEC_PER_SEC + (uint64_t)now.tv_nsec;
}

static bool begin_life(struct life *life, const sigset_t *set)
{
	struct epoll_event ev = { .events = EPOLLIN, .data.ptr = &life->watch };

	life->watch.ready = signal_came;
	life->loop.epfd = epoll_create1(EPOLL_CLOEXEC);
	life->signals = signalfd(-1, set, SFD_CLOEXEC | SFD_NONBLOCK);
	life->loop.now = monotonic();
	return life->loop.epfd >= 0 && life->signals >= 0 &&
	       !epoll_ctl(life->loop.epfd, EPOLL_CTL_ADD, life->signals, &ev);
}

static void run(struct life *life, struct control *control, struct hub *hub)
{
	char low[HUB_REASON_MAX];
	unsigned int told = 0;
	uint64_t next_status = 0;
	struct epoll_event ev[16];
	struct nbds_stats stats;
	int n, i;

	while (!life->end) {
		n = epoll_wait(life->loop.epfd, ev, 16, control_run(control) ? 1000 : 0);
		life->loop.now = monotonic();
		for (i = 0; i < n; i++) {
			struct watch *w = ev[i].data.ptr;

			w->ready(w, ev[i].events);
		}
		log_expire();
		nbds_get_stats(life->server, &stats);
		if (stats.connections != told || life->loop.now >= next_status) {
			sd_notifyf(0, "STATUS=%u connections; %ju MiB taken%s%s", stats.connections,
				   (uintmax_t)(stats.written_bytes / MIB), hub_space_low(hub, low) ? "; " : "", low);
			next_status = life->loop.now + 60 * NSEC_PER_SEC;
		}
		told = stats.connections;
	}
}

/* Without it the hub works as well. */
static struct control *open_control(struct life *life, struct hub *hub)
{
	static char path[PATH_MAX];
	struct control *c;
	int holder;

	snprintf(path, sizeof(path), "%s/control", cfg.dir);
	c = control_new(&life->loop, cfg.control ? cfg.control : path, "rephub", hub_commands, hub, &holder);
	if (!c && holder >= 0)
		log_err("control: process %d has '%s' already", holder, cfg.control ? cfg.control : path);
	if (!c)
		log_warn("there is no control socket: rephubctl cannot be used");
	return c;
}

int main(int argc, char **argv)
{
	int status = EXIT_FAILURE;
	struct nbds_server *s;
	char error[HUB_ERROR_MAX] = "no thread can be started";
	struct life life = { .signals = -1 };
	struct control *control;
	pthread_t tender;
	struct hub *hub;
	sigset_t set;

	nbds_config_init(&cfg.server);
	hub_options_init(&cfg.hub);
	parse_options(argc, argv);
	log_init("rephub");
	signal(SIGPIPE, SIG_IGN);
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	sigprocmask(SIG_BLOCK, &set, NULL);
	raise_files();
	if (!begin_life(&life, &set)) {
		log_err("epoll or signalfd: %s", strerror(errno));
		return EXIT_FAILURE;
	}
	cfg.hub.log = log_any;
	hub = hub_open(cfg.dir, &cfg.hub, error);
	if (!hub) {
		log_err("%s", error);
		return EXIT_FAILURE;
	}
	cfg.exports.hub = hub;
	cfg.server.ops = &exports_ops;
	cfg.server.data = &cfg.exports;
	cfg.server.log = log_any;
	s = exports_start(THREADS) ? nbds_start(&cfg.server, error, sizeof(error)) : NULL;
	if (!s) {
		log_err("%s", error);
	} else {
		/* Before the exports: who sees that rephub is there may ask it. */
		control = open_control(&life, hub);
		if (!listen_all(s)) {
			/* it was said why */
		} else if (pthread_create(&tender, NULL, tend, hub)) {
			log_any(NULL, LOG_ERR, "no thread can be started");
		} else {
			life.server = s;
			sd_notify(0, "READY=1");
			run(&life, control, hub);
			sd_notify(0, "STOPPING=1");
			exports_release();
			tender_ends = true;
			hub_wake(hub);
			pthread_join(tender, NULL);
			status = EXIT_SUCCESS;
		}
		control_free(control);
	}
	if (s)
		nbds_stop(s);
	exports_stop();
	hub_close(hub);
	log_summary();
	return status;
}
