// SPDX-License-Identifier: GPL-2.0-or-later
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "system.h"

extern char **environ;

/**
 * run_program - run a program to its end
 * @argv: its words with a NULL behind them; the first is looked for in PATH
 * @output: what it writes to both outputs, without the last newline
 * @size: of @output
 *
 * Return: its exit status, 128 and the signal that ended it, or 127 if it
 * cannot be started.
 */
int run_program(const char *const *argv, char *output, size_t size)
{
	posix_spawn_file_actions_t actions;
	size_t used = 0;
	char rest[512] = "";
	int fds[2], status, err;
	ssize_t n;
	pid_t pid;

	*output = '\0';
	if (pipe2(fds, O_CLOEXEC))
		return 127;
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
	posix_spawn_file_actions_adddup2(&actions, fds[1], STDOUT_FILENO);
	posix_spawn_file_actions_adddup2(&actions, fds[1], STDERR_FILENO);
	err = posix_spawnp(&pid, argv[0], &actions, NULL, (char *const *)argv, environ);
	posix_spawn_file_actions_destroy(&actions);
	close(fds[1]);
	if (err) {
		close(fds[0]);
		snprintf(output, size, "%s: %s", argv[0], strerror(err));
		return 127;
	}
	do {
		bool room = used + 1 < size;

		n = read(fds[0], room ? output + used : rest, room ? size - used - 1 : sizeof(rest));
		if (n > 0 && room)
			used += (size_t)n;
	} while (n > 0 || (n < 0 && errno == EINTR));
	close(fds[0]);
	while (used && output[used - 1] == '\n')
		used--;
	output[used] = '\0';
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return 127;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/**
 * have_systemd - does systemd run this host?
 */
bool have_systemd(void)
{
	return !access("/run/systemd/system", F_OK);
}

/**
 * unit_is - ask systemd about a unit of a group
 * @verb: "is-active", "is-enabled", "is-failed"
 * @name: "repagent" or "repagentd"
 * @group: the instance
 */
bool unit_is(const char *verb, const char *name, const char *group)
{
	char unit[96], output[OUTPUT_MAX];

	if (!have_systemd())
		return false;
	snprintf(unit, sizeof(unit), "%s@%s.service", name, group);
	return !systemctl(output, sizeof(output), verb, "--quiet", unit);
}

/* Being there is not enough: it may be about to be loaded, by somebody else. */
static bool module_is_live(void)
{
	char state[8] = "";
	FILE *f = fopen("/sys/module/dm_repagent_mod/initstate", "re");
	bool live = f && fgets(state, sizeof(state), f) && !strcmp(state, "live\n");

	if (f)
		fclose(f);
	return live;
}

/**
 * load_module - have the target's module loaded
 * @why: if it cannot be: a sentence
 * @size: of @why
 *
 * Return: whether it is.
 */
bool load_module(char *why, size_t size)
{
	static const char *const argv[] = { "modprobe", "dm-repagent", NULL };
	char output[OUTPUT_MAX], *last;
	struct utsname uts;

	if (module_is_live() || (!run_program(argv, output, sizeof(output)) && module_is_live()))
		return true;
	uname(&uts);
	last = strrchr(output, '\n');
	snprintf(why, size, "the module dm-repagent cannot be loaded into the kernel %s (%.256s)", uts.release,
		 last ? last + 1 : *output ? output : "modprobe says nothing");
	return false;
}

/**
 * allow_group - let the group repagent read a file
 * @path: the file
 *
 * Return: false if there is no such group, or it cannot be done.
 */
bool allow_group(const char *path)
{
	const struct group *g = getgrnam("repagent");

	return g && !chown(path, (uid_t)-1, g->gr_gid);
}

static bool has_open(const char *pid, dev_t dev)
{
	char path[320];
	struct dirent *entry;
	struct stat st;
	bool found = false;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%s/fd", pid);
	dir = opendir(path);
	while (dir && !found && (entry = readdir(dir))) {
		if (fstatat(dirfd(dir), entry->d_name, &st, 0) == 0)
			found = S_ISBLK(st.st_mode) && st.st_rdev == dev;
	}
	if (dir)
		closedir(dir);
	return found;
}

static bool is_mounted(dev_t dev, char *user, size_t size)
{
	unsigned int major, minor;
	char line[4096], where[1024];
	FILE *f = fopen("/proc/self/mountinfo", "re");
	bool found = false;

	while (f && !found && fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%*u %*u %u:%u %*s %1023s", &major, &minor, where) == 3 &&
		    makedev(major, minor) == dev) {
			snprintf(user, size, "it is mounted on %s", where);
			found = true;
		}
	}
	if (f)
		fclose(f);
	return found;
}

/* Another block device that lies on it: a mapped device, a RAID. */
static bool is_held(dev_t dev, char *user, size_t size)
{
	char path[320], name[128] = "";
	struct dirent *entry;
	bool found = false;
	DIR *dir;
	FILE *f;

	snprintf(path, sizeof(path), "/sys/dev/block/%u:%u/holders", major(dev), minor(dev));
	dir = opendir(path);
	while (dir && !found && (entry = readdir(dir))) {
		if (entry->d_name[0] == '.')
			continue;
		found = true;
		snprintf(path, sizeof(path), "/sys/block/%s/dm/name", entry->d_name);
		f = fopen(path, "re");
		if (f && fgets(name, sizeof(name), f))
			name[strcspn(name, "\n")] = '\0';
		if (f)
			fclose(f);
		snprintf(user, size, "the device %s%s lies on it", *name ? "/dev/mapper/" : "/dev/",
			 *name ? name : entry->d_name);
	}
	if (dir)
		closedir(dir);
	return found;
}

/**
 * device_user - who uses a block device
 * @dev: its number
 * @user: out: a sentence
 * @size: of @user
 *
 * Return: whether somebody was found.
 */
bool device_user(dev_t dev, char *user, size_t size)
{
	char path[64], program[32] = "?";
	struct dirent *entry;
	bool found = false;
	DIR *dir;
	FILE *f;

	if (is_mounted(dev, user, size) || is_held(dev, user, size))
		return true;
	dir = opendir("/proc");
	while (dir && !found && (entry = readdir(dir))) {
		if (!isdigit((unsigned char)entry->d_name[0]) || !has_open(entry->d_name, dev))
			continue;
		found = true;
		snprintf(path, sizeof(path), "/proc/%.16s/comm", entry->d_name);
		f = fopen(path, "re");
		if (f && fgets(program, sizeof(program), f))
			program[strcspn(program, "\n")] = '\0';
		if (f)
			fclose(f);
		snprintf(user, size, "process %s (%s) has it open", entry->d_name, program);
	}
	if (dir)
		closedir(dir);
	return found;
}

/**
 * wait_until - wait for something, with a bound
 * @done: whether it is there
 * @arg: for @done
 * @ms: how long at most
 *
 * Return: whether it came.
 */
bool wait_until(bool (*done)(void *arg), void *arg, unsigned int ms)
{
	const struct timespec step = { 0, 50 * 1000000 };
	struct timespec ts;
	long long end;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	end = (long long)ts.tv_sec * 1000 + ts.tv_nsec / 1000000 + ms;
	for (;;) {
		if (done(arg))
			return true;
		clock_gettime(CLOCK_MONOTONIC, &ts);
		if ((long long)ts.tv_sec * 1000 + ts.tv_nsec / 1000000 >= end)
			return false;
		nanosleep(&step, NULL);
	}
}
