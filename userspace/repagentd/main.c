// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * repagentd: options and life.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include "../common/log.h"
#include "../common/parse.h"
#include "../common/usage.h"
#include "daemon.h"
#include "group.h"

#define WAIT_MS		1000	/* between two looks for the group */

static const char usage_text[] =
"Usage: repagentd GROUP --tap URI [--tap VOLUME=URI ...] [OPTION...]\n"
"Send what the volumes of GROUP are written to a hub over NBD.\n"
"\n"
"  -t, --tap [VOLUME=]URI      where a volume goes, or all of them; %g is the\n"
"                              group, %v the volume, %% a percent sign:\n"
"                              nbd://HOST[:PORT]/EXPORT\n"
"                              nbd+unix:///EXPORT?socket=PATH\n"
"                              nbds:// and nbds+unix:// with TLS\n"
"      --tls-certificates DIR  CA and client certificates\n"
"      --allow-no-flush        accept a server that has no FLUSH\n"
"\n"
"  -s, --stats SECONDS         print a status line this often\n"
"\n"
"      --epoch-records N       what is flushed at the hub together: at most\n"
"      --epoch-size SIZE       so many records, so many bytes,\n"
"      --epoch-time TIME       or so much time\n"
"      --timeout TIME          for an answer of the hub\n"
"      --heartbeat TIME        try an idle connection this often\n"
"      --drain-timeout TIME    for a clean stop\n"
"\n"
"  -h, --help                  show this\n"
"  -V, --version               show the version\n"
"\n"
"SIZE: 4096, 64K, 16M.  TIME: 30, 200ms, 2min.  Exit status: 0 stopped as\n"
"asked, 1 failure, 2 wrong usage.  More in repagentd(8).\n";

enum option_id {
	OPT_TLS = 256,
	OPT_NO_FLUSH,
	OPT_EPOCH_RECORDS,
	OPT_EPOCH_SIZE,
	OPT_EPOCH_TIME,
	OPT_TIMEOUT,
	OPT_HEARTBEAT,
	OPT_DRAIN,
};

static const struct option options[] = {
	{ "tap",		required_argument, NULL, 't' },
	{ "tls-certificates",	required_argument, NULL, OPT_TLS },
	{ "allow-no-flush",	no_argument, NULL, OPT_NO_FLUSH },
	{ "stats",		required_argument, NULL, 's' },
	{ "epoch-records",	required_argument, NULL, OPT_EPOCH_RECORDS },
	{ "epoch-size",		required_argument, NULL, OPT_EPOCH_SIZE },
	{ "epoch-time",		required_argument, NULL, OPT_EPOCH_TIME },
	{ "timeout",		required_argument, NULL, OPT_TIMEOUT },
	{ "heartbeat",		required_argument, NULL, OPT_HEARTBEAT },
	{ "drain-timeout",	required_argument, NULL, OPT_DRAIN },
	{ "help",		no_argument, NULL, 'h' },
	{ "version",		no_argument, NULL, 'V' },
	{ NULL, 0, NULL, 0 }
};

static void duration(const char *name, const char *arg, uint64_t min, uint64_t *ns)
{
	char least[HUMAN_MAX];

	if (!parse_duration(arg, ns) || *ns < min || *ns > 86400 * NSEC_PER_SEC)
		usage_error("--%s '%s': expected a time from %s to 24 h, such as 30, 200ms or 2min",
			    name, arg, human_duration(least, min));
}

static void parse_options(struct config *cfg, int argc, char **argv)
{
	char error[URI_ERROR_MAX];
	int c;

	opterr = 0;
	while ((c = getopt_long(argc, argv, ":t:s:hV", options, NULL)) != -1) {
		switch (c) {
		case 't':
			if (!uri_add_tap(&cfg->taps, optarg, error))
				usage_error("--tap %s", error);
			break;
		case 's':
			duration("stats", optarg, 100 * NSEC_PER_MSEC, &cfg->stats);
			break;
		case OPT_TLS:
			if (access(optarg, R_OK | X_OK))
				usage_error("--tls-certificates '%s': %s; expected a directory with ca-cert.pem",
					    optarg, strerror(errno));
			cfg->tls_certificates = optarg;
			break;
		case OPT_NO_FLUSH:
			cfg->allow_no_flush = true;
			break;
		case OPT_EPOCH_RECORDS:
			if (!parse_count(optarg, &cfg->epoch.records) || !cfg->epoch.records)
				usage_error("--epoch-records '%s': expected a number from 1", optarg);
			break;
		case OPT_EPOCH_SIZE:
			if (!parse_size(optarg, &cfg->epoch.bytes) || !cfg->epoch.bytes)
				usage_error("--epoch-size '%s': expected a size such as 64K or 16M", optarg);
			break;
		case OPT_EPOCH_TIME:
			duration("epoch-time", optarg, NSEC_PER_MSEC, &cfg->epoch.ns);
			break;
		case OPT_TIMEOUT:
			duration("timeout", optarg, 100 * NSEC_PER_MSEC, &cfg->timeout);
			break;
		case OPT_HEARTBEAT:
			duration("heartbeat", optarg, 100 * NSEC_PER_MSEC, &cfg->heartbeat);
			break;
		case OPT_DRAIN:
			duration("drain-timeout", optarg, 0, &cfg->drain);
			break;
		default:
			usage_other(c, argv, usage_text);
		}
	}
	if (optind == argc)
		usage_error("expected the name of a group");
	if (argc - optind > 1)
		usage_error("'%s' is too much: expected one group", argv[optind + 1]);
	cfg->group = argv[optind];
	if (!uri_name_ok(cfg->group))
		usage_error("'%s' is no name of a group: expected 1 to %d letters, digits, '_', '.' or '-', "
			    "not beginning with '.' or '-'",
			    cfg->group, REPAGENT_NAME_MAX);
	if (!cfg->taps.all && !cfg->taps.nr)
		usage_error("expected --tap URI: where should group %s be sent?", cfg->group);
}

/*
 * Memory that is in use stays; what is never touched costs nothing.  Without
 * the right to lock all of it a later allocation would fail, so nothing is
 * locked then.
 */
static void lock_memory(void)
{
	struct rlimit all = { RLIM_INFINITY, RLIM_INFINITY };

	if (setrlimit(RLIMIT_MEMLOCK, &all) < 0 ||
	    mlockall(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT) < 0)
		log_info("memory cannot be locked (%s): under memory pressure replication may stall",
			 strerror(errno));
}

/* The out-of-memory killer shall look elsewhere first. */
static void spare_from_oom_killer(void)
{
	int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);

	if (fd < 0)
		return;
	if (write(fd, "-900", 4) < 0)
		log_info("oom_score_adj cannot be set: %s", strerror(errno));
	close(fd);
}

static int take_signals(void)
{
	sigset_t set;

	signal(SIGPIPE, SIG_IGN);
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	sigaddset(&set, SIGUSR1);
	sigprocmask(SIG_BLOCK, &set, NULL);
	return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

/* Wait a moment for the group.  Return whether a signal said to stop. */
static bool pause_or_stop(int signal_fd, const char *group)
{
	struct pollfd pfd = { .fd = signal_fd, .events = POLLIN };
	struct signalfd_siginfo si;

	if (poll(&pfd, 1, WAIT_MS) != 1 || read(signal_fd, &si, sizeof(si)) != sizeof(si))
		return false;
	if (si.ssi_signo == SIGUSR1) {
		printf("%-8s waiting for the group\n", group);
		fflush(stdout);
	}
	return si.ssi_signo == SIGTERM || si.ssi_signo == SIGINT;
}

/* The group is taken.  Say by whom, and what to do. */
static void say_holder(const char *group, int pid, const char *program)
{
	if (pid > 0)
		log_err("group %s is served by process %d (%s) already, and a group has one daemon. "
			"To have this one take over, stop that one first: kill %d; no record is lost meanwhile",
			group, pid, program, pid);
	else
		log_err("group %s is served by another daemon already%s, and a group has one daemon. "
			"To have this one take over, stop that one first; no record is lost meanwhile",
			group, pid ? "" : ", in another container");
}

static int serve(const struct config *cfg, int signal_fd)
{
	char program[GROUP_PROGRAM_MAX];
	enum daemon_end end;
	bool told = false;
	struct ring ring;
	char path[GROUP_PATH_MAX];
	int r, pid;

	group_path(path, cfg->group);
	for (;;) {
		r = group_open(&ring, cfg->group);
		switch (r) {
		case 0:
			end = daemon_run(cfg, &ring, signal_fd);
			group_close(&ring);
			if (end != DAEMON_GONE)
				return end == DAEMON_STOPPED ? EXIT_SUCCESS : EXIT_FAILURE;
			log_notice("the group is gone; waiting for it to come back");
			told = true;
			break;
		case -ENOENT:
		case -ENXIO:
		case -ENODEV:
			if (!told)
				log_notice("waiting for group %s: %s does not exist yet",
					   cfg->group, path);
			told = true;
			break;
		case -EBUSY:
			pid = group_holder(cfg->group, program);
			if (pid == -ESRCH)
				break;	/* it went just now: try again */
			say_holder(cfg->group, pid, program);
			return EXIT_FAILURE;
		case -EPROTO:
			return EXIT_FAILURE;
		default:
			log_err("%s: %s", path, strerror(-r));
			return EXIT_FAILURE;
		}
		sd_notifyf(0, "READY=1\nSTATUS=Waiting for group %s", cfg->group);
		if (pause_or_stop(signal_fd, cfg->group))
			return EXIT_SUCCESS;
	}
}

int main(int argc, char **argv)
{
	struct config cfg;
	int signal_fd, r;

	config_init(&cfg);
	parse_options(&cfg, argc, argv);
	log_init(cfg.group);
	signal_fd = take_signals();
	if (signal_fd < 0) {
		log_err("signalfd: %s", strerror(errno));
		return EXIT_FAILURE;
	}
	lock_memory();
	spare_from_oom_killer();
	srandom((unsigned int)getpid());
	r = serve(&cfg, signal_fd);
	log_summary();
	return r;
}
