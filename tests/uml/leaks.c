// SPDX-License-Identifier: GPL-2.0-or-later
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "leaks.h"
#include "scene.h"

#define KMEMLEAK	"/sys/kernel/debug/kmemleak"
#define OLD_ENOUGH_US	6000000u	/* what is younger than 5 s is not told */

static unsigned long from, to;		/* the module's code; 0: nobody is to ask */

void leaks_prepare(uint64_t text_size)
{
	FILE *f;

	if (!text_size || access(KMEMLEAK, W_OK))
		die("--leaks needs --text-size and a kernel with kmemleak");
	f = fopen("/sys/module/dm_repagent_mod/sections/.text", "r");
	if (!f || fscanf(f, "%lx", &from) != 1)
		die("nobody knows where the module is");
	fclose(f);
	to = from + text_size;
}

/* A line of a stack; the module is gone, and its functions have lost their names. */
static bool is_ours(const char *line)
{
	unsigned long address;
	char more;

	return sscanf(line, " 0x%lx %c", &address, &more) == 1 && address >= from && address < to;
}

/* Print the objects one of whose callers is the module. */
static unsigned int tell(FILE *f)
{
	static char object[65536];
	unsigned int nr = 0;
	char line[512];
	bool ours = false, more;
	size_t len = 0, n;

	do {
		more = fgets(line, sizeof(line), f);
		if (!more || !strncmp(line, "unreferenced", 12)) {
			if (ours)
				printf("%s", object);
			nr += ours;
			ours = false;
			len = 0;
		}
		if (!more)
			break;
		ours = ours || is_ours(line);
		n = strlen(line);
		if (len + n < sizeof(object)) {
			memcpy(object + len, line, n + 1);
			len += n;
		}
	} while (more);
	return nr;
}

unsigned int leaks_find(void)
{
	unsigned int nr;
	FILE *f;

	if (!from)
		return 0;
	if (syscall(SYS_delete_module, "dm_repagent_mod", O_NONBLOCK))
		die("the module cannot be unloaded: %s", strerror(errno));
	nap_us(OLD_ENOUGH_US);
	/* What is lost has to look the same to two scans. */
	put(KMEMLEAK, "scan");
	put(KMEMLEAK, "scan");
	f = fopen(KMEMLEAK, "r");
	if (!f)
		die(KMEMLEAK ": %s", strerror(errno));
	nr = tell(f);
	fclose(f);
	return nr;
}
