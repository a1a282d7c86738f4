// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * repagentd: options and life.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include "../common/client.h"
#include "../common/log.h"
#include "../common/parse.h"
#include "../common/usage.h"
#include "daemon.h"
#include "recover.h"

#define EXIT_SHUT_DOWN	3	/* systemd/repagentd@.service does not start it again */

#define STATE_DIR	"/var/lib/repagent"

static const char usage_text[] =
"Usage: repagentd GROUP [--tap URI] [--tap VOLUME=URI ...] [OPTION...]\n"
"Send what the volumes of GROUP are written to a hub over NBD.\n"
"\n"
"  -t, --tap [VOLUME=]URI      where a volume goes, or all of them; %g is the\n"
"                              group, %v the volume, %% a percent sign:\n"
"                              nbd://HOST[:PORT]/EXPORT\n"
"                              nbd+unix:///EXPORT?socket=PATH\n"
"                              nbds:// and nbds+unix:// with TLS\n"
"                              or all of them to a rephub, which keeps history:\n"
"                              rephub://HOST[:PORT]\n"
"                              rephub+unix:///?socket=PATH\n"
"                              rephubs:// and rephubs+unix:// with TLS\n"
"      --tls-certificates DIR  CA and client certificates\n"
"      --allow-no-flush        accept a server that has no FLUSH\n"
"\n"
"      --recover               answer for the volumes of a VM that runs on the\n"
"                              recovery side, from the hub (rep-recover)\n"
"\n"
"      --config FILE           read this instead of /etc/repagent/GROUP.conf, which\n"
"                              need not exist; options win\n"
"      --control PATH          of the control socket (/run/repagent/GROUP.sock)\n"
"      --no-control            have none\n"
"      --state-dir DIR         where it is remembered which rephub the group is at\n"
"                              (/var/lib/repagent)\n"
"\n"
"  -s, --stats SECONDS         print a status line this often\n"
"\n"
"      --epoch-records N       what is flushed at the hub together: at most\n"
"      --epoch-size SIZE       so many records, so many bytes,\n"
"      --epoch-time TIME       or so much time\n"
"      --checkpoint-interval TIME\n"
"                              between two timed checkpoints at a rephub; 0: none\n"
"      --compress zstd         what goes to a rephub\n"
"      --congestion bbr        TCP's, where the kernel has it: for lines that lose\n"
"                              packets\n"
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
	OPT_CHECKPOINT_INTERVAL,
	OPT_COMPRESS,
	OPT_CONGESTION,
	OPT_CONFIG,
	OPT_CONTROL,
	OPT_NO_CONTROL,
	OPT_STATE_DIR,
	OPT_RECOVER,
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
	{ "checkpoint-interval", required_argument, NULL, OPT_CHECKPOINT_INTERVAL },
	{ "compress",		required_argument, NULL, OPT_COMPRESS },
	{ "congestion",		required_argument, NULL, OPT_CONGESTION },
	{ "config",		required_argument, NULL, OPT_CONFIG },
	{ "control",		required_argument, NULL, OPT_CONTROL },
	{ "state-dir",		required_argument, NULL, OPT_STATE_DIR },
	{ "no-control",		no_argument, NULL, OPT_NO_CONTROL },
	{ "recover",		no_argument, NULL, OPT_RECOVER },
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

/*
 * struct command_line - what the options say.
 * @conf:	those that the file can give too
 * @taps:	of --tap
 * @config, @control: paths, or NULL
 * @recover:	--recover
 */
struct command_line {
	struct conf conf;
	struct uri_map taps;
	const char *config;
	const char *control;
	bool no_control;
	bool recover;
};

static const char *const conf_options[] = {
	[OPT_TLS - OPT_TLS]		= "tls-certificates",
	[OPT_NO_FLUSH - OPT_TLS]	= "allow-no-flush",
	[OPT_EPOCH_RECORDS - OPT_TLS]	= "epoch-records",
	[OPT_EPOCH_SIZE - OPT_TLS]	= "epoch-size",
	[OPT_EPOCH_TIME - OPT_TLS]	= "epoch-time",
	[OPT_TIMEOUT - OPT_TLS]		= "timeout",
	[OPT_HEARTBEAT - OPT_TLS]	= "heartbeat",
	[OPT_DRAIN - OPT_TLS]		= "drain-timeout",
	[OPT_CHECKPOINT_INTERVAL - OPT_TLS] = "checkpoint-interval",
	[OPT_COMPRESS - OPT_TLS]	= "compress",
	[OPT_CONGESTION - OPT_TLS]	= "congestion",
};

static void parse_options(struct config *cfg, struct command_line *cl, int argc, char **argv)
{
	char error[CONF_ERROR_MAX];
	int c;

	opterr = 0;
	while ((c = getopt_long(argc, argv, ":t:s:hV", options, NULL)) != -1) {
		switch (c) {
		case 't':
			if (!uri_add_tap(&cl->taps, optarg, error))
				usage_error("--tap %s", error);
			break;
		case 's':
			duration("stats", optarg, 100 * NSEC_PER_MSEC, &cfg->stats);
			break;
		case OPT_TLS:
		case OPT_NO_FLUSH:
		case OPT_EPOCH_RECORDS:
		case OPT_EPOCH_SIZE:
		case OPT_EPOCH_TIME:
		case OPT_TIMEOUT:
		case OPT_HEARTBEAT:
		case OPT_DRAIN:
		case OPT_CHECKPOINT_INTERVAL:
		case OPT_COMPRESS:
		case OPT_CONGESTION:
			if (!conf_set(&cl->conf, CONF_GROUP, NULL, conf_options[c - OPT_TLS],
				      c == OPT_NO_FLUSH ? "yes" : optarg, error))
				usage_error("--%s", error);
			break;
		case OPT_CONFIG:
			cl->config = optarg;
			break;
		case OPT_CONTROL:
			if (*optarg != '/' || strlen(optarg) >= CONTROL_PATH_MAX)
				usage_error("--control '%s': expected an absolute path of at most %d bytes",
					    optarg, CONTROL_PATH_MAX - 1);
			cl->control = optarg;
			break;
		case OPT_STATE_DIR:
			cfg->state_dir = optarg;
			break;
		case OPT_NO_CONTROL:
			cl->no_control = true;
			break;
		case OPT_RECOVER:
			cl->recover = true;
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
}

static void set_tap(struct config *cfg, const char *volume, const char *template)
{
	char error[URI_ERROR_MAX];

	if (template && !uri_set_tap(&cfg->taps, volume, template, error))
		usage_error("--tap %s", error);
}

/* Defaults, then the file, then the command line. */
static void configure(struct config *cfg, struct command_line *cl)
{
	static char control[CONTROL_PATH_MAX];
	char path[CONF_PATH_MAX], error[CONF_ERROR_MAX], tap_error[URI_ERROR_MAX];
	unsigned int i;
	int r;

	conf_path(path, cfg->group);
	r = conf_load(&cfg->conf, cl->config ? cl->config : path, error);
	if (r < 0 && (r != -ENOENT || cl->config))
		usage_error("%s", error);
	config_apply(cfg, &cfg->conf);
	config_apply(cfg, &cl->conf);

	set_tap(cfg, NULL, cfg->conf.group[CONF_G_TAP]);
	for (i = 0; i < cfg->conf.nr_volumes; i++)
		set_tap(cfg, cfg->conf.volume[i].name, cfg->conf.volume[i].value[CONF_V_TAP]);
	set_tap(cfg, NULL, cl->taps.all);
	for (i = 0; i < cl->taps.nr; i++)
		set_tap(cfg, cl->taps.own[i].volume, cl->taps.own[i].uri);
	if (!uri_map_check(&cfg->taps, tap_error))
		usage_error("tap %s", tap_error);

	if (cl->no_control && cl->control)
		usage_error("--control '%s' and --no-control: expected one of them", cl->control);
	if (cl->recover && cl->control)
		usage_error("--control '%s' and --recover: expected one of them; there is no control socket then",
			    cl->control);
	if (cl->recover && !cfg->taps.all && !cfg->taps.nr)
		usage_error("--recover: expected --tap URI: which hub has the volumes of group %s?", cfg->group);
	if (cl->recover)
		return;
	if (cl->no_control && !cfg->taps.all && !cfg->taps.nr)
		usage_error("expected --tap URI: where should group %s be sent?", cfg->group);
	if (cl->no_control)
		return;
	control_path(control, cfg->group);
	cfg->control = cl->control ? cl->control : control;
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
	sigaddset(&set, SIGCHLD);
	sigprocmask(SIG_BLOCK, &set, NULL);
	return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

int main(int argc, char **argv)
{
	static struct command_line cl;
	static struct config cfg;
	enum daemon_end end;
	int signal_fd;

	config_init(&cfg);
	cfg.state_dir = STATE_DIR;
	parse_options(&cfg, &cl, argc, argv);
	configure(&cfg, &cl);
	log_init(cfg.group);
	signal_fd = take_signals();
	if (signal_fd < 0) {
		log_err("signalfd: %s", strerror(errno));
		return EXIT_FAILURE;
	}
	lock_memory();
	spare_from_oom_killer();
	srandom((unsigned int)getpid());
	end = !cl.recover ? daemon_run(&cfg, NULL, signal_fd) :
	      recover_run(&cfg, signal_fd) ? DAEMON_STOPPED : DAEMON_FAILED;
	log_summary();
	return end == DAEMON_STOPPED ? EXIT_SUCCESS : end == DAEMON_SHUT_DOWN ? EXIT_SHUT_DOWN : EXIT_FAILURE;
}
