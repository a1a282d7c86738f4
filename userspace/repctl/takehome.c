// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * repctl take-home: a disk that is answered from a hub moves to a device of this host, while the VM runs.
 *
 * As pvmove does it: NAME becomes a mirror of NAME-hub and DEVICE; when the kernel's dm-mirror has copied all, NAME
 * becomes linear over DEVICE. Where a disk is stands in its table alone, so that whoever is killed is followed by the
 * same command:
 *
 *	            DEVICE, or --finish	--abort
 *	HUB_ONLY    refused		refused
 *	AT_HUB      begin; only DEVICE	nothing to do
 *	COPYING     watch, swap, clear	the hub alone again
 *	HOME        clear		refused: the hub is behind
 *	ELSEWHERE   refused		refused
 *
 * What the VM was told is written is at the hub until the swap, whatever fails; and on DEVICE, durable there if it was
 * at the hub, from the last flush before the swap on.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/fs.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include "../common/parse.h"
#include "commands.h"
#include "recovered.h"
#include "system.h"

#define SECTOR		512u
#define RUN_FOLDER	"/run/repagent"
#define LOOK		(200 * NSEC_PER_MSEC)	/* at the mirror: so long a write may wait after an error */

enum { OPT_NO_WAIT = 256, OPT_FINISH, OPT_ABORT };

static const struct option options[] = {
	{ "no-wait",	no_argument, NULL, OPT_NO_WAIT },
	{ "finish",	no_argument, NULL, OPT_FINISH },
	{ "abort",	no_argument, NULL, OPT_ABORT },
	{ "help",	no_argument, NULL, 'h' },
	{ NULL, 0, NULL, 0 }
};

/*
 * struct move - the command line, and what is there
 * @device:	or NULL
 * @local:	major:minor of the device that it moves to
 */
struct move {
	const char *group, *volume, *device;
	bool no_wait, finish, abort;
	char local[32];
	struct recovered r;
};

/* --- What there is ------------------------------------------------------------ */

/*
 * Between a look at a disk and what is done about it nobody else may move it. Closing it gives the lock back.
 * Return -1 if it cannot be had; a sentence was said.
 */
static int lock_volume(const struct move *m)
{
	char path[128];
	int fd;

	if (mkdir(RUN_FOLDER, 0755) && errno != EEXIST) {
		fail(RUN_FOLDER ": %s", strerror(errno));
		return -1;
	}
	snprintf(path, sizeof(path), RUN_FOLDER "/%s.%s.home", m->group, m->volume);
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	while (fd >= 0 && flock(fd, LOCK_EX) < 0)
		if (errno != EINTR)
			break;
	if (fd < 0)
		fail("%s: %s", path, strerror(errno));
	return fd;
}

static int look(struct move *m)
{
	char error[DMDEV_ERROR_MAX];
	enum dmdev_result result = recovered_find(m->group, m->volume, &m->r, error);

	if (result == DMDEV_NOT_FOUND)
		return fail("%s: it is at home, or was never here\nType: repctl status; lsblk", error);
	return result == DMDEV_OK ? EXIT_FINE : fail("%s", error);
}

static int look_at_mirror(const struct move *m, struct mirror *mirror)
{
	char line[256], error[DMDEV_ERROR_MAX];

	if (dmdev_status(m->r.name, "mirror", line, sizeof(line), error) != DMDEV_OK)
		return fail("%s", error);
	if (!mirror_parse(line, mirror))
		return fail("%s: the status of dm-mirror is '%s': expected one of two legs", m->r.name, line);
	return EXIT_FINE;
}

/* --- Changes: under the lock, after a look -------------------------------------- */

static int become_linear(const struct move *m, const char *number)
{
	char line[64], error[DMDEV_ERROR_MAX];

	snprintf(line, sizeof(line), "%.32s 0", number);
	if (dmdev_reload(m->r.name, m->r.disk.sectors, "linear", line, error) != DMDEV_OK)
		return fail("%s\nThe VM goes on as before. Type this again", error);
	return EXIT_FINE;
}

static int back_to_hub(const struct move *m)
{
	return become_linear(m, m->r.disk.leg[0]);
}

/* The swap has been: nobody asks the hub any more. */
static int clear(struct move *m)
{
	char error[DMDEV_ERROR_MAX], path[DMDEV_PATH_MAX];

	if (dmdev_remove(m->r.hub.name, error) != DMDEV_OK)
		return fail("%s\n%s lies on its own device alone already. Type: repctl take-home %s %s --finish", error,
			    m->r.name, m->group, m->volume);
	recovered_path(m->r.disk.table.origin, path);
	remark("/dev/mapper/%s lies on %s alone, and the hub is not asked for it any more.", m->r.name, path);
	snprintf(path, sizeof(path), "/dev/rep-recover/%s/%s", m->group, m->volume);
	if (!access(path, F_OK))
		remark("Some writes are not durable at the hub yet, which is of no matter now: %s goes when they are.",
		       path);
	recovered_path(m->r.disk.table.origin, path);
	remark("After the next boot /dev/mapper/%s is not there: give the VM this disk then (virsh edit).\n"
	       "Nothing is sent to a hub. To protect it, while the VM runs:\n"
	       "  repctl protect %s %s=%s --name %s --tap URI", m->r.name, m->group, m->volume, path, m->r.name);
	return EXIT_FINE;
}

/* --- The beginning ---------------------------------------------------------------- */

static unsigned int sector_size(int fd)
{
	int size = 0;

	return fd >= 0 && !ioctl(fd, BLKSSZGET, &size) ? (unsigned int)size : 0;
}

static int check_open(struct move *m, int fd)
{
	char has[HUMAN_MAX], wants[HUMAN_MAX], path[DMDEV_PATH_MAX];
	uint64_t bytes = 0, expected = m->r.disk.sectors * SECTOR;
	int disk;
	unsigned int size;

	if (ioctl(fd, BLKGETSIZE64, &bytes))
		return fail("%s: %s", m->device, strerror(errno));
	if (bytes < expected)
		return fail("%s is too small: it has %" PRIu64 " bytes (%s); expected %" PRIu64 " (%s) or more",
			    m->device, bytes, human_size(has, bytes), expected, human_size(wants, expected));
	disk = dmdev_path(&m->r.disk, path, sizeof(path)) ? open(path, O_RDONLY | O_CLOEXEC) : -1;
	size = sector_size(disk);
	if (disk >= 0)
		close(disk);
	if (!size)
		return fail("/dev/mapper/%s: its sectors' size cannot be had: %s", m->r.name, strerror(errno));
	if (sector_size(fd) > size)
		return fail("%s has sectors of %u bytes: expected at most %u, as the VM's disk has now", m->device,
			    sector_size(fd), size);
	return EXIT_FINE;
}

static int check_device(struct move *m)
{
	char user[512];
	struct stat st;
	int fd, status;

	if (stat(m->device, &st))
		return fail("%s: %s%s", m->device, strerror(errno), errno == ENOENT ?
			    "\nTo see this host's disks, type: lsblk -o PATH,SIZE,TYPE,MOUNTPOINTS" : "");
	if (!S_ISBLK(st.st_mode))
		return fail("%s is no block device: expected one of this host that is free, such as /dev/vg/%s",
			    m->device, m->volume);
	if (st.st_rdev == makedev(m->r.hub.major, m->r.hub.minor) ||
	    st.st_rdev == makedev(m->r.disk.major, m->r.disk.minor))
		return fail("%s is the disk that is to be moved: expected another one", m->device);
	/* What an earlier try has loaded and not put in place would be in the way. */
	dmdev_clear(m->r.name);
	if (device_user(st.st_rdev, user, sizeof(user)))
		return fail("%s is in use: %s. Expected a device that is free: all that is on it will be overwritten",
			    m->device, user);
	fd = open(m->device, O_RDWR | O_EXCL | O_CLOEXEC);
	if (fd < 0)
		return fail("%s: %s%s", m->device, strerror(errno), errno == EBUSY ?
			    ": the kernel has it in use. Expected a device that is free" : "");
	status = check_open(m, fd);
	close(fd);
	snprintf(m->local, sizeof(m->local), "%u:%u", major(st.st_rdev), minor(st.st_rdev));
	return status;
}

static int check_mirror(void)
{
	static const char *const argv[] = { "modprobe", "dm-mirror", NULL };
	char output[OUTPUT_MAX];
	struct utsname uts;

	if (!run_program(argv, output, sizeof(output)))
		return EXIT_FINE;
	uname(&uts);
	return fail("the module dm-mirror cannot be loaded into the kernel %s (%.256s)\n"
		    "Install the package that has all of this kernel's modules (linux-image-%s, linux-modules-extra-%s)",
		    uts.release, *output ? output : "modprobe says nothing", uts.release, uts.release);
}

static int check_daemon(const struct move *m)
{
	char line[256], daemon[16], error[DMDEV_ERROR_MAX];

	if (dmdev_status(m->r.hub.name, "rep-recover", line, sizeof(line), error) != DMDEV_OK)
		return fail("%s", error);
	if (sscanf(line, "%*s %*s %15s", daemon) == 1 && strcmp(daemon, "daemon"))
		return fail("no daemon answers for volume %s of group %s\nType: systemctl start repagent-recover@%s",
			    m->volume, m->group, m->group);
	return EXIT_FINE;
}

static int begin(struct move *m)
{
	char line[MIRROR_LINE_MAX], hub[32], error[DMDEV_ERROR_MAX];
	int status;

	if (!m->device)
		return fail("%s is at the hub, and nothing is under way\nTo begin, type: repctl take-home %s %s DEVICE",
			    m->r.name, m->group, m->volume);
	status = check_device(m);
	if (!status)
		status = check_mirror();
	if (!status)
		status = check_daemon(m);
	if (status)
		return status;
	snprintf(hub, sizeof(hub), "%u:%u", m->r.hub.major, m->r.hub.minor);
	mirror_line(line, m->r.disk.sectors, hub, m->local);
	if (dmdev_reload(m->r.name, m->r.disk.sectors, "mirror", line, error) != DMDEV_OK)
		return fail("%s\nThe VM goes on at the hub", error);
	remark("The kernel copies %s to %s while the VM goes on. To go back to the hub alone:\n"
	       "  repctl take-home %s %s --abort", m->r.name, m->device, m->group, m->volume);
	return EXIT_FINE;
}

/* --- The copy ------------------------------------------------------------------ */

static uint64_t now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * NSEC_PER_SEC + (uint64_t)ts.tv_nsec;
}

/* struct progress - what was copied when somebody began to look, and what was said last. */
struct progress {
	uint64_t first, begun;
	uint64_t tenth;
	bool screen;
};

static void show_progress(struct progress *p, const struct move *m, const struct mirror *mirror)
{
	char done[HUMAN_MAX], total[HUMAN_MAX], left[HUMAN_MAX] = "?";
	uint64_t bytes = m->r.disk.sectors * SECTOR, copied = mirror->done - p->first;

	if (!p->screen && mirror->done * 10 / mirror->total == p->tenth)
		return;
	p->tenth = mirror->done * 10 / mirror->total;
	if (copied)
		human_duration(left, (uint64_t)((double)(now() - p->begun) / (double)copied *
						(double)(mirror->total - mirror->done)));
	printf("%s%s of %s, %" PRIu64 " %%, %s to go%s", p->screen ? "\r\033[K" : "",
	       human_size(done, (uint64_t)((double)bytes * (double)mirror->done / (double)mirror->total)),
	       human_size(total, bytes), mirror->done * 100 / mirror->total, left, p->screen ? "" : "\n");
	fflush(stdout);
}

/* One of the legs has failed: writes wait in the mirror until the hub has them. */
static int give_up(struct move *m, const struct mirror *mirror)
{
	char path[DMDEV_PATH_MAX];
	int status;

	recovered_path(m->r.disk.leg[1], path);
	status = back_to_hub(m);
	if (status)
		return status;
	return fail("%s failed, so that the VM goes on at the hub alone, as before. Its log tells more: dmesg\n"
		    "Then type: repctl take-home %s %s DEVICE", mirror->local_failed ? path : "a read from the hub",
		    m->group, m->volume);
}

/* All is copied. What the VM has flushed must be durable on the local device too before it is the only one. */
static int flush(const char *number)
{
	char path[DMDEV_PATH_MAX];
	int fd, err = 0;

	recovered_path(number, path);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || fsync(fd))
		err = errno;
	if (fd >= 0)
		close(fd);
	if (!err)
		return EXIT_FINE;
	return fail("%s: %s\nThe VM goes on, at the hub and there. Type this again, or --abort", path, strerror(err));
}

/* A look, and what is to be done at once. *over: there is no mirror any more. */
static int step(struct move *m, struct progress *p, bool *over)
{
	struct mirror mirror;
	int status = look(m);

	if (status)
		return status;
	*over = m->r.where == HOME;
	if (*over)
		return EXIT_FINE;
	if (m->r.where != COPYING || strcmp(m->r.disk.leg[1], m->local))
		return fail("%s is not on its way there any more: somebody else has ended that", m->r.name);
	status = look_at_mirror(m, &mirror);
	if (status)
		return status;
	if (!p->begun) {
		p->first = mirror.done;
		p->begun = now();
		p->tenth = UINT64_MAX;
	}
	if (mirror.hub_failed || mirror.local_failed)
		return give_up(m, &mirror);
	show_progress(p, m, &mirror);
	if (mirror.done < mirror.total)
		return EXIT_FINE;
	status = flush(m->local);
	if (!status)
		status = look_at_mirror(m, &mirror);
	if (!status && (mirror.hub_failed || mirror.local_failed))
		return give_up(m, &mirror);
	return status ? status : become_linear(m, m->local);
}

static int go_on(struct move *m)
{
	const struct timespec pause = { 0, LOOK };
	struct progress p = { .screen = isatty(STDOUT_FILENO) };
	bool over = false;
	int status, lock;

	while (!over) {
		lock = lock_volume(m);
		if (lock < 0)
			return EXIT_FAILED;
		status = step(m, &p, &over);
		close(lock);
		if (status)
			return status;
		if (!over)
			nanosleep(&pause, NULL);
	}
	if (p.screen)
		putchar('\n');
	return EXIT_FINE;
}

static int check_same(struct move *m)
{
	char path[DMDEV_PATH_MAX];
	struct stat st;

	snprintf(m->local, sizeof(m->local), "%s", m->r.disk.leg[1]);
	if (!m->device)
		return EXIT_FINE;
	if (!stat(m->device, &st) && S_ISBLK(st.st_mode)) {
		snprintf(path, sizeof(path), "%u:%u", major(st.st_rdev), minor(st.st_rdev));
		if (!strcmp(path, m->local))
			return EXIT_FINE;
	}
	return fail("%s is on its way to %s already, and not to %s\nTo end that first, type: repctl take-home %s %s --abort",
		    m->r.name, recovered_path(m->local, path), m->device, m->group, m->volume);
}

/* --- The command ------------------------------------------------------------------ */

static int nothing_to_do(struct move *m)
{
	dmdev_clear(m->r.name);
	remark("%s is at the hub alone: there is nothing to undo.", m->r.name);
	return EXIT_FINE;
}

static int abort_copy(struct move *m)
{
	char path[DMDEV_PATH_MAX];
	int status;

	recovered_path(m->r.disk.leg[1], path);
	status = back_to_hub(m);
	if (!status)
		remark("%s is at the hub alone, as before; %s is free, and what is on it of no use.", m->r.name, path);
	return status;
}

static int too_late(struct move *m)
{
	return fail("%s is at home already: the hub lacks what was written since\nTo bring it to its end, type: repctl take-home %s %s --finish",
		    m->r.name, m->group, m->volume);
}

static int no_disk(struct move *m)
{
	return fail("%s is there, and %s is not: no VM uses it\nType: repctl recover %s %s %" PRIu64, m->r.hub.name, m->r.name,
		    m->group, m->volume, m->r.hub.sectors * SECTOR);
}

static int not_ours(struct move *m)
{
	return fail("%s was not made by repctl recover, or was changed since: expected a linear device over %s" HUB_SUFFIX "\n"
		    "Type: dmsetup table", *m->r.name ? m->r.name : m->r.hub.name, *m->r.name ? m->r.name : "NAME");
}

/* The table on top: what comes first, and whether the copy is watched then. */
static const struct {
	int (*forth)(struct move *m);
	int (*back)(struct move *m);
	bool watched;
} moves[NR_WHERE] = {
	[HUB_ONLY]	= { no_disk, no_disk, false },
	[AT_HUB]	= { begin, nothing_to_do, true },
	[COPYING]	= { check_same, abort_copy, true },
	[HOME]		= { NULL, too_late, false },
	[ELSEWHERE]	= { not_ours, not_ours, false },
};

static int parse(struct move *m, int argc, char **argv)
{
	int c, status;

	while ((c = next_option(argc, argv, ":", options, &status)) != -1) {
		if (c == OPTION_ERROR)
			return status ? status : -1;	/* --help */
		m->no_wait |= c == OPT_NO_WAIT;
		m->finish |= c == OPT_FINISH;
		m->abort |= c == OPT_ABORT;
	}
	if (!take_group(argc, argv, &m->group) || !take_volume(argc, argv, &m->volume))
		return EXIT_WRONG_USAGE;
	if (m->no_wait + m->finish + m->abort > 1)
		return usage_error("expected one of --no-wait, --finish and --abort");
	if (optind < argc)
		m->device = argv[optind++];
	if (optind < argc)
		return usage_error("'%s' is too much: expected one device", argv[optind]);
	if (m->device && (m->finish || m->abort))
		return usage_error("'%s' is too much: with %s it is known which device it is", m->device,
				   m->finish ? "--finish" : "--abort");
	if (!m->device && !m->finish && !m->abort)
		return usage_error("expected a device of this host, which is free, such as /dev/vg/%s", m->volume);
	if (m->device && *m->device != '/')
		return usage_error("'%s': expected the path of a block device, such as /dev/vg/%s", m->device, m->volume);
	return EXIT_FINE;
}

static int run(int argc, char **argv)
{
	struct move m = { 0 };
	bool watched = false;
	int lock, status = parse(&m, argc, argv);
	int (*first)(struct move *m);

	if (status)
		return status < 0 ? EXIT_FINE : status;
	lock = lock_volume(&m);
	if (lock < 0)
		return EXIT_FAILED;
	status = look(&m);
	if (!status) {
		first = m.abort ? moves[m.r.where].back : moves[m.r.where].forth;
		watched = moves[m.r.where].watched && !m.abort;
		if (first)
			status = first(&m);
	}
	close(lock);
	if (status || m.abort)
		return status;
	if (watched && m.no_wait) {
		remark("Nobody watches that: if the device fails, the VM's writes wait until one of these is typed:\n"
		       "  repctl take-home %s %s --finish\n"
		       "  repctl take-home %s %s --abort", m.group, m.volume, m.group, m.volume);
		return EXIT_FINE;
	}
	if (watched)
		status = go_on(&m);
	return status ? status : clear(&m);
}

const struct command cmd_take_home = {
	"take-home", "GROUP VOLUME DEVICE [--no-wait] | GROUP VOLUME --finish|--abort",
	"Move a recovered disk to a device of this host, while the VM runs",
	"The kernel copies the disk from the hub to DEVICE, which is overwritten, and writes to\n"
	"both; when all is there, DEVICE alone is the disk. If this is interrupted, the copy\n"
	"goes on; give the same command again. If DEVICE fails meanwhile, the hub is the disk as\n"
	"before.\n\n"
	"      --no-wait  begin, and leave the rest to --finish\n"
	"      --finish   wait for a copy that was begun, and go over to DEVICE\n"
	"      --abort    go back to the hub alone; not once it is at home\n\n"
	"  repctl take-home vm0 disk0 /dev/vg/vm0\n",
	run
};
