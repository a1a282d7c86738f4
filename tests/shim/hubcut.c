// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * hubcut DIR LOG SEED PROGRAM [ARGUMENT]... - runs a program under cutshim.so, and ends its power when told by SIGUSR2:
 * DIR, which is the root of a file system of its own, becomes what that may have left of it (cutdir.h). LOG is a file
 * on another file system, for what the program does meanwhile.
 *
 * Exit status: 0 when that was done; 1 if something else ended the program.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../unit/cutdir.h"

static void run(char **argv, const char *dir, const char *log)
{
	char shim[4096], *slash;
	ssize_t n = readlink("/proc/self/exe", shim, sizeof(shim) - 16);

	shim[n > 0 ? n : 0] = '\0';
	slash = strrchr(shim, '/');
	strcpy(slash ? slash + 1 : shim, "cutshim.so");
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (access(shim, R_OK) || setenv("LD_PRELOAD", shim, 1) || setenv(CUT_DIR_ENV, dir, 1) || setenv(CUT_LOG_ENV, log, 1))
		perror(shim);
	else
		execvp(*argv, argv);
	perror(*argv);
	_exit(127);
}

int main(int argc, char **argv)
{
	struct cutdir *c;
	sigset_t set;
	int signo;
	pid_t pid;

	if (argc < 5) {
		fputs("usage: hubcut DIR LOG SEED PROGRAM [ARGUMENT]...\n", stderr);
		return 2;
	}
	sigemptyset(&set);
	sigaddset(&set, SIGUSR2);
	sigaddset(&set, SIGCHLD);
	sigprocmask(SIG_BLOCK, &set, NULL);
	unlink(argv[2]);
	c = cutdir_begin(argv[1]);
	pid = fork();
	if (!pid) {
		sigprocmask(SIG_UNBLOCK, &set, NULL);
		run(argv + 4, argv[1], argv[2]);
	}
	if (pid < 0 || sigwait(&set, &signo) || signo != SIGUSR2 || kill(pid, SIGUSR2) || waitpid(pid, NULL, 0) != pid) {
		fprintf(stderr, "hubcut: %s has ended by itself\n", argv[4]);
		return 1;
	}
	cutdir_end(c, argv[2], (unsigned int)strtoul(argv[3], NULL, 10));
	return 0;
}
