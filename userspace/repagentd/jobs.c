// SPDX-License-Identifier: GPL-2.0-or-later
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "../common/log.h"
#include "jobs.h"

/**
 * jobs_init - begin without any
 * @jobs: the table
 * @loop: the loop whose epoll their results wake
 * @owner: for job.done
 */
void jobs_init(struct jobs *jobs, struct loop *loop, void *owner)
{
	unsigned int i;

	memset(jobs, 0, sizeof(*jobs));
	jobs->loop = loop;
	jobs->owner = owner;
	for (i = 0; i < JOBS_MAX; i++)
		jobs->job[i].fd = -1;
}

/**
 * jobs_busy - a job that must end before one for a volume may begin
 * @jobs: the table
 * @volume: its name; "" for all
 *
 * Return: it, or NULL.
 */
const struct job *jobs_busy(const struct jobs *jobs, const char *volume)
{
	unsigned int i;

	for (i = 0; i < JOBS_MAX; i++)
		if (jobs->job[i].fd >= 0 && (!*volume || !jobs->job[i].volume[0] ||
					     !strcmp(jobs->job[i].volume, volume)))
			return &jobs->job[i];
	return NULL;
}

/**
 * jobs_new - a free place, to be filled in for job_start()
 * @jobs: the table
 *
 * Return: it, or NULL if all are taken.
 */
struct job *jobs_new(struct jobs *jobs)
{
	unsigned int i;

	for (i = 0; i < JOBS_MAX; i++) {
		struct job *job = &jobs->job[i];

		if (job->fd < 0) {
			memset(job, 0, sizeof(*job));
			job->jobs = jobs;
			job->fd = -1;
			return job;
		}
	}
	return NULL;
}

static void end(struct job *job)
{
	/* Another job that was forked just now may have it still, and then epoll would. */
	epoll_ctl(job->jobs->loop->epfd, EPOLL_CTL_DEL, job->fd, NULL);
	close(job->fd);
	job->fd = -1;
	if (job->got < sizeof(job->result)) {
		job->result.result = DMDEV_FAILED;
		snprintf(job->result.error, sizeof(job->result.error),
			 "the process that carries out %s died", job->command);
	}
	job->done(job->jobs->owner, job);
}

static void job_ready(struct watch *watch, uint32_t events)
{
	struct job *job = (struct job *)watch;
	ssize_t n;

	(void)events;
	if (job->fd < 0)
		return;
	n = read(job->fd, (char *)&job->result + job->got, sizeof(job->result) - job->got);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n > 0)
		job->got += (size_t)n;
	if (n <= 0 || job->got == sizeof(job->result))
		end(job);
}

/* The process: it has nothing of the daemon's but the pipe, and stderr. */
static __attribute__((noreturn)) void child(const struct job *job, int fd)
{
	static struct job_result result;
	const char *p = (const char *)&result;
	size_t left = sizeof(result);
	sigset_t none;
	ssize_t n;

	/*
	 * A job that hangs must keep neither the ring, nor a socket, nor the
	 * lock of a daemon that ended.
	 */
	if (fd > 3)
		close_range(3, (unsigned int)fd - 1, 0);
	close_range((unsigned int)fd + 1, ~0U, 0);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	prctl(PR_SET_NAME, "repagentd-job");
	dmdev_init();
	job->work(job, &result);
	while (left && (n = write(fd, p, left)) > 0) {
		p += n;
		left -= (size_t)n;
	}
	_exit(0);
}

/**
 * job_start - begin
 * @job: from jobs_new(), filled in
 *
 * Return: whether it begins; if so, job.done will be called.
 */
bool job_start(struct job *job)
{
	struct epoll_event ev = { .events = EPOLLIN, .data.ptr = &job->watch };
	int fd[2];
	pid_t pid;

	if (pipe2(fd, O_CLOEXEC) < 0)
		return false;
	pid = fork();
	if (pid == 0)
		child(job, fd[1]);
	close(fd[1]);
	fcntl(fd[0], F_SETFL, O_NONBLOCK);
	if (pid < 0 || epoll_ctl(job->jobs->loop->epfd, EPOLL_CTL_ADD, fd[0], &ev) < 0) {
		if (pid > 0)
			kill(pid, SIGKILL);
		close(fd[0]);
		return false;
	}
	job->watch.ready = job_ready;
	job->fd = fd[0];
	return true;
}
