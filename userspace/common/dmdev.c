// SPDX-License-Identifier: GPL-2.0-or-later
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <libdevmapper.h>
#include <linux/fs.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "dmdev.h"

#define TARGET		"repagent"
#define RECOVER		"rep-recover"
#define UUID_PREFIX	"REPAGENT-"	/* in udev's rules as well */
#define KMSG_RECORD	8192		/* bytes that hold any record of the kernel's log */
#define OPEN_TRIES	20		/* who looks at new devices has one open for a moment */
#define OPEN_PAUSE_MS	50

static __attribute__((format(printf, 3, 4)))
enum dmdev_result fail(enum dmdev_result result, char *error, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(error, DMDEV_ERROR_MAX, fmt, ap);
	va_end(ap);
	return result;
}

/* libdevmapper's own words come at every try; what matters is its errno. */
static __attribute__((format(printf, 5, 6)))
void dm_says(int level, const char *file, int line, int class, const char *fmt, ...)
{
	(void)level;
	(void)file;
	(void)line;
	(void)class;
	(void)fmt;
}

/**
 * dmdev_init - before all else
 */
void dmdev_init(void)
{
	dm_log_with_errno_init(dm_says);
	dm_set_name_mangling_mode(DM_STRING_MANGLING_NONE);
}

/**
 * dmdev_name_ok - whether a text can be the name of a mapped device as it is
 * @name: the text
 */
bool dmdev_name_ok(const char *name)
{
	size_t len = strlen(name);

	return len >= 1 && len < DMDEV_NAME_MAX && strcmp(name, ".") && strcmp(name, "..") &&
	       strcmp(name, "control") &&
	       strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
			    "#+-.:=@_") == len;
}

/* --- Table lines -------------------------------------------------------- */

/* The next word, as long as it may be; NULL if there is none, or it is longer. */
static const char *take_word(const char *s, char *word, size_t size)
{
	size_t len;

	s += strspn(s, " ");
	len = strcspn(s, " ");
	if (!len || len >= size)
		return NULL;
	memcpy(word, s, len);
	word[len] = '\0';
	return s + len;
}

static const char *take_number(const char *s, unsigned int *n)
{
	char word[16], *end;
	unsigned long value;

	s = take_word(s, word, sizeof(word));
	if (!s)
		return NULL;
	value = strtoul(word, &end, 10);
	if (*end || value > 0x7fffffff)
		return NULL;
	*n = (unsigned int)value;
	return s;
}

static const char *take_feature(const char *s, struct dmdev_table *t)
{
	char word[16], other[DMDEV_PATH_MAX];

	s = take_word(s, word, sizeof(word));
	if (!s)
		return NULL;
	if (!strcmp(word, "ring"))
		return take_number(s, &t->ring_mib);
	if (!strcmp(word, "region"))
		return take_number(s, &t->region_kib);
	if (!strcmp(word, "discard"))
		return take_word(s, t->discard, sizeof(t->discard));
	if (!strcmp(word, "bounce"))
		return take_word(s, t->bounce, sizeof(t->bounce));
	if (!strcmp(word, "meta"))
		return take_word(s, t->meta, sizeof(t->meta));
	return take_word(s, other, sizeof(other));	/* of a module newer than this */
}

/**
 * dmdev_parse - read a table line of the target
 * @params: "<origin> <group> <volume> ...", as device-mapper shows it
 * @table: out
 *
 * Return: whether it is one.
 */
bool dmdev_parse(const char *params, struct dmdev_table *table)
{
	const char *s = params;
	unsigned int words = 0;

	memset(table, 0, sizeof(*table));
	s = take_word(s, table->origin, sizeof(table->origin));
	s = s ? take_word(s, table->group, sizeof(table->group)) : NULL;
	s = s ? take_word(s, table->volume, sizeof(table->volume)) : NULL;
	if (s && s[strspn(s, " ")])
		s = take_number(s, &words);
	for (; s && words >= 2; words -= 2)
		s = take_feature(s, table);
	return s && !words;
}

/**
 * dmdev_line - make a table line's words
 * @t: what it shall say; its names were checked
 * @line: out
 * @size: of @line
 *
 * Return: whether it fits.
 */
bool dmdev_line(const struct dmdev_table *t, char *line, size_t size)
{
	char features[DMDEV_PATH_MAX + 128];
	unsigned int words = 0;
	size_t n = 0;

	features[0] = '\0';
	if (t->ring_mib && (words += 2))
		n += (size_t)snprintf(features + n, sizeof(features) - n, " ring %u", t->ring_mib);
	if (t->region_kib && (words += 2))
		n += (size_t)snprintf(features + n, sizeof(features) - n, " region %u", t->region_kib);
	if (t->discard[0] && (words += 2))
		n += (size_t)snprintf(features + n, sizeof(features) - n, " discard %s", t->discard);
	if (t->bounce[0] && (words += 2))
		n += (size_t)snprintf(features + n, sizeof(features) - n, " bounce %s", t->bounce);
	if (t->meta[0] && (words += 2))
		n += (size_t)snprintf(features + n, sizeof(features) - n, " meta %s", t->meta);
	if (!words)
		return snprintf(line, size, "%s %s %s", t->origin, t->group, t->volume) < (int)size;
	return snprintf(line, size, "%s %s %s %u%s", t->origin, t->group, t->volume, words,
			features) < (int)size;
}

/* --- The kernel's own words --------------------------------------------- */

/* A place in the kernel's log, from which what it says now can be read; -1 if we may not. */
static int kmsg_here(void)
{
	int fd = open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC);

	if (fd >= 0)
		lseek(fd, 0, SEEK_END);
	return fd;
}

static bool is_ours(const char *said)
{
	static const char *const words[] = { TARGET, RECOVER, "mirror", "linear" };
	unsigned int i;

	for (i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		if (strstr(said, words[i]))
			return true;
	return false;
}

/* What device-mapper and the targets said since; "" if nothing. */
static const char *kmsg_since(int fd, char *text, size_t size)
{
	static const char prefix[] = "device-mapper: ";
	char record[KMSG_RECORD];
	const char *said;
	size_t used = 0;
	ssize_t n;

	text[0] = '\0';
	if (fd < 0)
		return text;
	while ((n = read(fd, record, sizeof(record) - 1)) > 0 || (n < 0 && errno == EPIPE)) {
		if (n < 0)
			continue;	/* some were overwritten */
		record[n] = '\0';
		record[strcspn(record, "\n")] = '\0';
		said = strchr(record, ';');
		if (!said++ || strncmp(said, prefix, sizeof(prefix) - 1) ||
		    !is_ours(said) || used >= size - 1)
			continue;
		said += sizeof(prefix) - 1;
		used += (size_t)snprintf(text + used, size - used, "%s%s", used ? "; " : "", said);
	}
	return text;
}

static enum dmdev_result refused(int kmsg, int err, char *error, const char *what,
				 const char *name)
{
	char said[DMDEV_ERROR_MAX / 2];

	kmsg_since(kmsg, said, sizeof(said));
	if (said[0])
		return fail(DMDEV_REFUSED, error, "%s %s: %s; the kernel says: %s", what, name,
			    strerror(err), said);
	return fail(DMDEV_REFUSED, error, "%s %s: %s; its log (dmesg) may say more", what, name,
		    strerror(err));
}

/* --- What there is ------------------------------------------------------ */

static bool number_of(const char *origin, dev_t *dev)
{
	unsigned int major, minor;
	struct stat st;
	int end = 0;

	if (sscanf(origin, "%u:%u%n", &major, &minor, &end) == 2 && !origin[end]) {
		*dev = makedev(major, minor);
		return true;
	}
	if (stat(origin, &st) < 0 || !S_ISBLK(st.st_mode))
		return false;
	*dev = st.st_rdev;
	return true;
}

/* Of a mirror's line: "core 1 2048 2 253:0 0 7:1 0 ...". */
static void read_legs(const char *params, struct dmdev *dev)
{
	char word[64];
	unsigned int n = 0, i;
	const char *s = take_word(params, word, sizeof(word));

	for (s = s ? take_number(s, &n) : NULL; s && n; n--)
		s = take_word(s, word, sizeof(word));
	s = s ? take_number(s, &n) : NULL;
	for (i = 0; s && n == 2 && i < 2; i++) {
		s = take_word(s, dev->leg[i], sizeof(dev->leg[i]));
		s = s ? take_word(s, word, sizeof(word)) : NULL;
		if (!s || strcmp(word, "0"))
			dev->leg[i][0] = '\0';
	}
}

static void read_table(struct dm_task *task, struct dmdev *dev)
{
	char *type = NULL, *params = NULL, word[32];
	uint64_t start, length;
	void *next = dm_get_next_target(task, NULL, &start, &length, &type, &params);
	const char *s;

	if (next || !type || !params || start)
		return;
	dev->sectors = length;
	snprintf(dev->target, sizeof(dev->target), "%s", type);
	if (!strcmp(type, TARGET)) {
		if (!dmdev_parse(params, &dev->table))
			dev->target[0] = '\0';
	} else if (!strcmp(type, RECOVER)) {
		s = take_word(params, dev->table.group, sizeof(dev->table.group));
		if (!s || !take_word(s, dev->table.volume, sizeof(dev->table.volume)))
			dev->target[0] = '\0';
	} else if (!strcmp(type, "mirror")) {
		read_legs(params, dev);
	} else if (!strcmp(type, "linear")) {
		/* Only what begins where the origin begins is the origin. */
		s = take_word(params, dev->table.origin, sizeof(dev->table.origin));
		if (!s || !take_word(s, word, sizeof(word)) || strcmp(word, "0"))
			dev->table.origin[0] = '\0';
	}
}

/**
 * dmdev_get - look at a mapped device
 * @name: its name
 * @dev: out
 * @error: DMDEV_ERROR_MAX bytes for a sentence
 *
 * Return: DMDEV_OK, DMDEV_NOT_FOUND or DMDEV_FAILED.
 */
enum dmdev_result dmdev_get(const char *name, struct dmdev *dev, char *error)
{
	struct dm_task *task = dm_task_create(DM_DEVICE_TABLE);
	enum dmdev_result result = DMDEV_OK;
	struct dm_info info;

	if (!task)
		return fail(DMDEV_FAILED, error, "device-mapper: out of memory");
	memset(dev, 0, sizeof(*dev));
	if (!dm_task_set_name(task, name) || !dm_task_run(task) || !dm_task_get_info(task, &info)) {
		if (dm_task_get_errno(task) == ENXIO)
			result = fail(DMDEV_NOT_FOUND, error, "there is no mapped device %s", name);
		else
			result = fail(DMDEV_FAILED, error,
				      "device-mapper does not tell about %s: %s; is dm-mod loaded, and are we root?",
				      name, strerror(dm_task_get_errno(task)));
	} else if (!info.exists) {
		result = fail(DMDEV_NOT_FOUND, error, "there is no mapped device %s", name);
	} else {
		snprintf(dev->name, sizeof(dev->name), "%s", name);
		dev->major = info.major;
		dev->minor = info.minor;
		dev->open_count = (unsigned int)info.open_count;
		dev->suspended = info.suspended;
		dev->leaving = info.deferred_remove;
		if (info.live_table)
			read_table(task, dev);
	}
	dm_task_destroy(task);
	return result;
}

static int list(const char *target, const char *group, struct dmdev *devs, unsigned int max, char *error)
{
	struct dm_task *task = dm_task_create(DM_DEVICE_LIST);
	bool ok = task && dm_task_run(task);
	struct dm_names *names = ok ? dm_task_get_names(task) : NULL;
	unsigned int nr = 0;
	char ignored[DMDEV_ERROR_MAX];

	if (!names)
		fail(DMDEV_FAILED, error, "device-mapper does not list its devices: %s; is dm-mod loaded, and are we root?",
		     task ? strerror(dm_task_get_errno(task)) : "out of memory");
	for (; names && names->dev && nr < max; names = (void *)((char *)names + names->next)) {
		struct dmdev *dev = &devs[nr];

		/* One that has just gone is none. */
		if (dmdev_get(names->name, dev, ignored) == DMDEV_OK && !strcmp(dev->target, target) &&
		    (!group || !strcmp(dev->table.group, group)))
			nr++;
		if (!names->next)
			break;
	}
	if (task)
		dm_task_destroy(task);
	return names || ok ? (int)nr : -1;
}

/**
 * dmdev_list - the repagent devices of this host
 * @group: of this group alone, or NULL for all
 * @devs: out
 * @max: how many fit
 * @error: DMDEV_ERROR_MAX bytes for a sentence
 *
 * Return: how many there are of them, at most @max; or -1.
 */
int dmdev_list(const char *group, struct dmdev *devs, unsigned int max, char *error)
{
	return list(TARGET, group, devs, max, error);
}

/* The first repagent device that fits, or NULL. */
static struct dmdev *find(struct dmdev *devs, int nr, const char *group, const char *volume)
{
	int i;

	for (i = 0; i < nr; i++)
		if (!strcmp(devs[i].table.group, group) && !strcmp(devs[i].table.volume, volume))
			return &devs[i];
	return NULL;
}

static int list_all(const char *target, struct dmdev **devs, char *error)
{
	unsigned int max = 64;
	int nr;

	for (;;) {
		*devs = malloc(max * sizeof(**devs));
		if (!*devs) {
			fail(DMDEV_FAILED, error, "device-mapper: out of memory");
			return -1;
		}
		nr = list(target, NULL, *devs, max, error);
		if (nr < (int)max)
			return nr;
		free(*devs);
		max *= 2;
	}
}

/**
 * dmdev_list_all - the repagent devices of this host, however many
 * @devs: out: to be freed
 * @error: DMDEV_ERROR_MAX bytes for a sentence
 *
 * Return: how many there are, or -1.
 */
int dmdev_list_all(struct dmdev **devs, char *error)
{
	return list_all(TARGET, devs, error);
}

/**
 * dmdev_list_recover - the rep-recover devices of this host, however many
 * @devs: out: to be freed; their tables tell group and volume
 * @error: DMDEV_ERROR_MAX bytes for a sentence
 *
 * Return: how many there are, or -1.
 */
int dmdev_list_recover(struct dmdev **devs, char *error)
{
	return list_all(RECOVER, devs, error);
}

/**
 * dmdev_find - the mapped device of a volume
 * @group: its group
 * @volume: its name
 * @dev: out
 * @error: DMDEV_ERROR_MAX bytes for a sentence
 *
 * Return: DMDEV_OK, DMDEV_NOT_FOUND or DMDEV_FAILED.
 */
enum dmdev_result dmdev_find(const char *group, const char *volume, struct dmdev *dev,
			     char *error)
{
	enum dmdev_result result = DMDEV_OK;
	struct dmdev *devs, *found;
	int nr = dmdev_list_all(&devs, error);

	found = nr > 0 ? find(devs, nr, group, volume) : NULL;
	if (nr < 0)
		result = DMDEV_FAILED;
	else if (!found)
		result = fail(DMDEV_NOT_FOUND, error, "no mapped device is volume %s of group %s",
			      volume, group);
	else
		*dev = *found;
	free(devs);
	return result;
}

/**
 * dmdev_path - the device node of a mapped device
 * @dev: the device
 * @path: out
 * @size: of @path
 *
 * Names can change; the device's number must be right.  Return: whether there is one.
 */
bool dmdev_path(const struct dmdev *dev, char *path, size_t size)
{
	dev_t number = makedev(dev->major, dev->minor), there;

	snprintf(path, size, "%s/%s", dm_dir(), dev->name);
	if (number_of(path, &there) && there == number)
		return true;
	snprintf(path, size, "/dev/dm-%u", dev->minor);
	return number_of(path, &there) && there == number;
}

/* --- Changes ------------------------------------------------------------ */

/*
 * Who would read a device that is answered from a hub would wait for the hub, and
 * udev, and so we, with it: of these devices udev makes the nodes, and no more.
 */
#define UNREAD	(DM_UDEV_DISABLE_SUBSYSTEM_RULES_FLAG | DM_UDEV_DISABLE_DISK_RULES_FLAG | \
		 DM_UDEV_DISABLE_OTHER_RULES_FLAG)

/* Run a task that changes a device, and wait for its node. @udev: what udev shall not do. */
static bool run_task(struct dm_task *task, bool nodes, uint16_t udev, int *err)
{
	uint32_t cookie = 0;
	bool ok;

	if (nodes && !dm_task_set_cookie(task, &cookie, udev)) {
		*err = ENOMEM;
		return false;
	}
	ok = dm_task_run(task);
	*err = ok ? 0 : dm_task_get_errno(task);
	if (!ok && !*err)
		*err = EIO;
	if (nodes) {
		dm_udev_wait(cookie);
		dm_task_update_nodes();
	}
	return ok;
}

static bool simple_task(int type, const char *name, int *err)
{
	struct dm_task *task = dm_task_create(type);
	bool nodes = type == DM_DEVICE_RESUME || type == DM_DEVICE_REMOVE;
	bool ok;

	*err = ENOMEM;
	if (!task)
		return false;
	ok = dm_task_set_name(task, name);
	if (type == DM_DEVICE_REMOVE)
		dm_task_retry_remove(task);
	ok = ok && run_task(task, nodes, 0, err);
	dm_task_destroy(task);
	return ok;
}

/* By its UUID udev and LVM know what a mapped device is, whatever its name and table. */
static bool set_uuid(struct dm_task *task, const struct dmdev_table *t)
{
	char uuid[2 * REPAGENT_NAME_MAX + sizeof(UUID_PREFIX) + 1];

	snprintf(uuid, sizeof(uuid), UUID_PREFIX "%s-%s", t->group, t->volume);
	return dm_task_set_uuid(task, uuid);
}

/* With @created a device is made, which is that table's volume. */
static bool table_task(const struct dmdev_table *created, const char *name, uint64_t sectors,
		       const char *target, const char *line, int *err)
{
	int type = created ? DM_DEVICE_CREATE : DM_DEVICE_RELOAD;
	struct dm_task *task = dm_task_create(type);
	bool ok;

	*err = ENOMEM;
	if (!task)
		return false;
	ok = dm_task_set_name(task, name) && dm_task_add_target(task, 0, sectors, target, line);
	if (created)
		ok = ok && set_uuid(task, created) && dm_task_set_add_node(task, DM_ADD_NODE_ON_CREATE);
	ok = ok && run_task(task, created, 0, err);
	dm_task_destroy(task);
	return ok;
}

/* Have a device go on with another table.  What fails leaves it as it was. */
static enum dmdev_result replace(const char *name, uint64_t sectors, const char *target,
				 const char *line, char *error)
{
	int kmsg = kmsg_here(), err, ignored;
	enum dmdev_result result = DMDEV_OK;

	if (!table_task(NULL, name, sectors, target, line, &err)) {
		result = refused(kmsg, err, error, "the kernel refuses the table of", name);
	} else if (!simple_task(DM_DEVICE_RESUME, name, &err)) {
		result = refused(kmsg, err, error, "the kernel does not change the table of", name);
		simple_task(DM_DEVICE_CLEAR, name, &ignored);
		simple_task(DM_DEVICE_RESUME, name, &ignored);
	}
	if (kmsg >= 0)
		close(kmsg);
	return result;
}

static enum dmdev_result origin_size(const char *path, dev_t *number, uint64_t *sectors, char *error)
{
	struct stat st;
	uint64_t bytes;
	bool ok;
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

	if (fd < 0)
		return fail(DMDEV_REFUSED, error, "%s: %s", path, strerror(errno));
	ok = !fstat(fd, &st) && S_ISBLK(st.st_mode) && !ioctl(fd, BLKGETSIZE64, &bytes);
	close(fd);
	if (!ok)
		return fail(DMDEV_REFUSED, error, "%s: expected a block device", path);
	if (bytes < 512)
		return fail(DMDEV_REFUSED, error, "%s: it has no medium, or is empty", path);
	*number = st.st_rdev;
	*sectors = bytes / 512;
	return DMDEV_OK;
}

/* A feature that was asked for and is another than there is, or NULL; what is not said does not matter. */
static const char *differing_feature(const struct dmdev_table *want, const struct dmdev_table *is)
{
	dev_t a, b;

	if (want->ring_mib && is->ring_mib && want->ring_mib != is->ring_mib)
		return "ring";
	if (want->region_kib && want->region_kib != (is->region_kib ? is->region_kib : 1024))
		return "region";
	if (want->discard[0] && strcmp(want->discard, is->discard) &&
	    (is->discard[0] || !strcmp(want->discard, "ignore")))
		return "discard";
	if (want->bounce[0] && strcmp(want->bounce, is->bounce[0] ? is->bounce : "on"))
		return "bounce";
	if (want->meta[0] && (!is->meta[0] || !number_of(want->meta, &a) ||
			      !number_of(is->meta, &b) || a != b))
		return "meta";
	return NULL;
}

static enum dmdev_result adopt(const struct dmdev *dev, const struct dmdev_table *t,
			       dev_t number, char *error)
{
	const char *feature;
	dev_t there;

	if (!number_of(dev->table.origin, &there) || there != number)
		return fail(DMDEV_DIFFERS, error, "volume %s is on %s already (%s), and not on %s",
			    t->volume, dev->table.origin, dev->name, t->origin);
	feature = differing_feature(t, &dev->table);
	if (feature)
		return fail(DMDEV_DIFFERS, error, "volume %s (%s) is there with another %s than was asked for; stop-protect first to change it",
			    t->volume, dev->name, feature);
	if (dev->leaving)
		return fail(DMDEV_DIFFERS, error, "volume %s (%s) is being removed", t->volume, dev->name);
	return DMDEV_OK;
}

static enum dmdev_result create(const char *name, const struct dmdev_table *t, uint64_t sectors,
				const char *target, const char *line, char *error)
{
	int kmsg = kmsg_here(), err;
	enum dmdev_result result = DMDEV_OK;
	char ignored[DMDEV_ERROR_MAX];
	struct dmdev there;

	if (!table_task(t, name, sectors, target, line, &err)) {
		/* Somebody was faster. */
		if (err == EBUSY && dmdev_get(name, &there, ignored) == DMDEV_OK)
			result = fail(DMDEV_NAME_IN_USE, error, "there is a mapped device %s already", name);
		else
			result = refused(kmsg, err, error, "the kernel refuses the table of", name);
	}
	if (kmsg >= 0)
		close(kmsg);
	return result;
}

/* Nothing is the volume yet: make it, or have a linear device over its origin become it. */
static enum dmdev_result make(const char *name, const struct dmdev_table *t, dev_t number,
			      uint64_t sectors, enum dmdev_done *done, char *error)
{
	char line[3 * DMDEV_PATH_MAX], ignored[DMDEV_ERROR_MAX];
	enum dmdev_result result;
	struct dmdev there;
	dev_t origin;

	if (!dmdev_line(t, line, sizeof(line)))
		return fail(DMDEV_REFUSED, error, "the table line of %s is too long", name);
	result = dmdev_get(name, &there, ignored);
	if (result == DMDEV_NOT_FOUND) {
		*done = DMDEV_CREATED;
		return create(name, t, sectors, TARGET, line, error);
	}
	if (result != DMDEV_OK)
		return fail(result, error, "%s", ignored);
	if (!strcmp(there.target, "linear") && there.table.origin[0] &&
	    number_of(there.table.origin, &origin) && origin == number) {
		*done = DMDEV_REPLACED;
		return replace(name, there.sectors, TARGET, line, error);
	}
	return fail(DMDEV_NAME_IN_USE, error,
		    "there is a mapped device %s already, which is no such volume: expected another name", name);
}

/*
 * Between a look at a device and what is done about it nobody else may change it:
 * the daemon and the command line may both be about to protect it. Where the folder
 * is missing, neither of them runs. Closing it gives the lock back.
 */
static int lock_devices(void)
{
	int fd = open("/run/repagent/dm.lock", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);

	while (fd >= 0 && flock(fd, LOCK_EX) < 0 && errno == EINTR)
		;
	return fd;
}

static enum dmdev_result protect(const char *name, const struct dmdev_table *table,
				 struct dmdev *dev, enum dmdev_done *done, char *error)
{
	char usual[2 * REPAGENT_NAME_MAX + 2];
	enum dmdev_result result;
	struct dmdev *devs = NULL, *found;
	uint64_t sectors = 0;
	dev_t number = 0, other;
	int nr, i;

	result = origin_size(table->origin, &number, &sectors, error);
	if (result != DMDEV_OK)
		return result;
	nr = dmdev_list_all(&devs, error);
	if (nr < 0) {
		free(devs);
		return DMDEV_FAILED;
	}
	found = find(devs, nr, table->group, table->volume);
	if (found) {
		*done = DMDEV_ADOPTED;
		*dev = *found;
		result = adopt(found, table, number, error);
		if (result == DMDEV_OK && name && strcmp(name, found->name))
			result = fail(DMDEV_DIFFERS, error, "volume %s is there as %s, and not as %s",
				      table->volume, found->name, name);
		free(devs);
		return result;
	}
	for (i = 0; i < nr; i++) {
		if (number_of(devs[i].table.origin, &other) && other == number) {
			result = fail(DMDEV_DIFFERS, error, "%s is volume %s of group %s already (%s)",
				      table->origin, devs[i].table.volume, devs[i].table.group,
				      devs[i].name);
			free(devs);
			return result;
		}
	}
	free(devs);
	snprintf(usual, sizeof(usual), "%s-%s", table->group, table->volume);
	result = make(name ? name : usual, table, number, sectors, done, error);
	return result == DMDEV_OK ? dmdev_get(name ? name : usual, dev, error) : result;
}

/**
 * dmdev_protect - make a device a volume
 * @name: of the mapped device, or NULL: that of the one which is the volume,
 *	else GROUP-VOLUME
 * @table: origin (a path), group, volume and what features shall be set
 * @dev: out: the mapped device
 * @done: out: what was done
 * @error: DMDEV_ERROR_MAX bytes for a sentence
 *
 * Context: may wait for I/O and for udev.
 *
 * Return: DMDEV_OK; DMDEV_DIFFERS, DMDEV_NAME_IN_USE, DMDEV_REFUSED or
 * DMDEV_FAILED, and all is as it was.
 */
enum dmdev_result dmdev_protect(const char *name, const struct dmdev_table *table,
				struct dmdev *dev, enum dmdev_done *done, char *error)
{
	int lock = lock_devices();
	enum dmdev_result result = protect(name, table, dev, done, error);

	if (lock >= 0)
		close(lock);
	return result;
}

/**
 * dmdev_fallback - have a mapped device in a volume's place, without the target
 * @name: of the mapped device
 * @table: origin, group and volume; the features do not matter
 * @error: DMDEV_ERROR_MAX bytes for a sentence
 *
 * A device that is there, whether linear over the origin or the volume itself,
 * stays as it is.
 *
 * Context: may wait for I/O and for udev.
 *
 * Return: DMDEV_OK; DMDEV_NAME_IN_USE, DMDEV_REFUSED or DMDEV_FAILED, and all
 * is as it was.
 */
enum dmdev_result dmdev_fallback(const char *name, const struct dmdev_table *table, char *error)
{
	char line[DMDEV_PATH_MAX + 8], ignored[DMDEV_ERROR_MAX];
	enum dmdev_result result;
	struct dmdev there;
	dev_t number, origin;
	uint64_t sectors;

	result = origin_size(table->origin, &number, &sectors, error);
	if (result != DMDEV_OK)
		return result;
	result = dmdev_get(name, &there, ignored);
	if (result == DMDEV_NOT_FOUND) {
		snprintf(line, sizeof(line), "%s 0", table->origin);
		return create(name, table, sectors, "linear", line, error);
	}
	if (result != DMDEV_OK)
		return fail(result, error, "%s", ignored);
	if (number_of(there.table.origin, &origin) && origin == number)
		return DMDEV_OK;
	return fail(DMDEV_NAME_IN_USE, error, "there is a mapped device %s already, over another device than %s",
		    name, table->origin);
}

/**
 * dmdev_remove - remove a mapped device
 * @name: its name
 * @error: DMDEV_ERROR_MAX bytes for a sentence
 *
 * Context: may wait, for at most some seconds.
 *
 * Return: DMDEV_OK, DMDEV_NOT_FOUND, DMDEV_BUSY, DMDEV_REFUSED or DMDEV_FAILED.
 */
enum dmdev_result dmdev_remove(const char *name, char *error)
{
	enum dmdev_result result;
	struct dmdev dev;
	int tries, err, kmsg;

	for (tries = OPEN_TRIES; tries; tries--) {
		result = dmdev_get(name, &dev, error);
		if (result != DMDEV_OK)
			return result;
		if (!dev.open_count)
			break;
		poll(NULL, 0, OPEN_PAUSE_MS);
	}
	if (!tries)
		return fail(DMDEV_BUSY, error, "%s is open (%u time%s)", name, dev.open_count,
			    dev.open_count == 1 ? "" : "s");
	kmsg = kmsg_here();
	if (!simple_task(DM_DEVICE_REMOVE, name, &err))
		result = err == EBUSY ? fail(DMDEV_BUSY, error, "%s is in use", name) :
			 refused(kmsg, err, error, "the kernel does not remove", name);
	if (kmsg >= 0)
		close(kmsg);
	return result;
}

/**
 * dmdev_linear - have a volume's mapped device go on without the target
 * @name: its name
 * @error: DMDEV_ERROR_MAX bytes for a sentence
 *
 * Context: may wait for the device's I/O.
 *
 * Return: DMDEV_OK; DMDEV_NOT_FOUND, DMDEV_DIFFERS if it is no volume,
 * DMDEV_REFUSED or DMDEV_FAILED, and the device is as it was.
 */
enum dmdev_result dmdev_linear(const char *name, char *error)
{
	enum dmdev_result result;
	char line[DMDEV_PATH_MAX + 8];
	struct dmdev dev;

	result = dmdev_get(name, &dev, error);
	if (result != DMDEV_OK)
		return result;
	if (strcmp(dev.target, TARGET))
		return fail(DMDEV_DIFFERS, error, "%s is no volume", name);
	snprintf(line, sizeof(line), "%s 0", dev.table.origin);
	return replace(name, dev.sectors, "linear", line, error);
}

/**
 * dmdev_message - send a message to a volume (Documentation/target.md)
 * @name: of the mapped device
 * @message: the words
 * @reply: out: what it answers; may be NULL
 * @size: of @reply
 * @error: DMDEV_ERROR_MAX bytes for a sentence
 *
 * Return: DMDEV_OK, DMDEV_NOT_FOUND or DMDEV_REFUSED.
 */
enum dmdev_result dmdev_message(const char *name, const char *message, char *reply,
				size_t size, char *error)
{
	struct dm_task *task = dm_task_create(DM_DEVICE_TARGET_MSG);
	enum dmdev_result result = DMDEV_OK;
	int kmsg = kmsg_here(), err;
	const char *answer;

	if (reply)
		*reply = '\0';
	if (!task || !dm_task_set_name(task, name) || !dm_task_set_sector(task, 0) ||
	    !dm_task_set_message(task, message) || !dm_task_run(task)) {
		err = task ? dm_task_get_errno(task) : ENOMEM;
		if (err == ENXIO)
			result = fail(DMDEV_NOT_FOUND, error, "there is no mapped device %s", name);
		else
			result = refused(kmsg, err, error, "the kernel refuses the message to", name);
	} else if (reply) {
		answer = dm_task_get_message_response(task);
		snprintf(reply, size, "%s", answer ? answer : "");
	}
	if (task)
		dm_task_destroy(task);
	if (kmsg >= 0)
		close(kmsg);
	return result;
}

/**
 * dmdev_make - make a device of one table line, which nobody shall read unasked
 * @name: its name
 * @uuid: what stands behind REPAGENT- in its UUID
 * @sectors: its size
 * @target: of the line
 * @line: the words behind it
 * @error: DMDEV_ERROR_MAX bytes for a sentence
 *
 * Context: may wait for udev.
 *
 * Return: DMDEV_OK; DMDEV_NAME_IN_USE or DMDEV_REFUSED, and nothing was made.
 */
enum dmdev_result dmdev_make(const char *name, const char *uuid, uint64_t sectors, const char *target,
			     const char *line, char *error)
{
	struct dm_task *task = dm_task_create(DM_DEVICE_CREATE);
	int kmsg = kmsg_here(), err = ENOMEM;
	enum dmdev_result result = DMDEV_OK;
	char full[DMDEV_NAME_MAX];

	snprintf(full, sizeof(full), UUID_PREFIX "%s", uuid);
	if (!task || !dm_task_set_name(task, name) || !dm_task_set_uuid(task, full) ||
	    !dm_task_add_target(task, 0, sectors, target, line) ||
	    !dm_task_set_add_node(task, DM_ADD_NODE_ON_CREATE) || !run_task(task, true, UNREAD, &err))
		result = err == EBUSY ?
			 fail(DMDEV_NAME_IN_USE, error, "there is a mapped device %s already, or one of its UUID %s",
			      name, full) :
			 refused(kmsg, err, error, "the kernel refuses the table of", name);
	if (task)
		dm_task_destroy(task);
	if (kmsg >= 0)
		close(kmsg);
	return result;
}

/**
 * dmdev_clear - drop a table that was loaded and not put in place
 * @name: of the mapped device
 */
void dmdev_clear(const char *name)
{
	int ignored;

	simple_task(DM_DEVICE_CLEAR, name, &ignored);
}

static bool resume_unread(const char *name, int *err)
{
	struct dm_task *task = dm_task_create(DM_DEVICE_RESUME);
	bool ok;

	*err = ENOMEM;
	ok = task && dm_task_set_name(task, name) && dm_task_no_flush(task) && dm_task_skip_lockfs(task) &&
	     run_task(task, true, UNREAD, err);
	if (task)
		dm_task_destroy(task);
	return ok;
}

/**
 * dmdev_reload - have a device that dmdev_make() has made go on with another table line
 * @name: its name
 * @sectors: its size
 * @target: of the line
 * @line: the words behind it
 * @error: DMDEV_ERROR_MAX bytes for a sentence
 *
 * What its present target holds back goes to the new one. The change is one call: whoever is killed leaves no device
 * suspended.
 *
 * Context: waits for what is under way below the device.
 *
 * Return: DMDEV_OK; DMDEV_REFUSED, and the device is as it was.
 */
enum dmdev_result dmdev_reload(const char *name, uint64_t sectors, const char *target, const char *line,
			       char *error)
{
	int kmsg = kmsg_here(), err, ignored;
	enum dmdev_result result = DMDEV_OK;

	if (!table_task(NULL, name, sectors, target, line, &err)) {
		result = refused(kmsg, err, error, "the kernel refuses the table of", name);
	} else if (!resume_unread(name, &err)) {
		result = refused(kmsg, err, error, "the kernel does not change the table of", name);
		dmdev_clear(name);
		resume_unread(name, &ignored);
	}
	if (kmsg >= 0)
		close(kmsg);
	return result;
}

/**
 * dmdev_status - a device's status line
 * @name: of the mapped device
 * @target: what it has to be
 * @line: out
 * @size: of @line
 * @error: DMDEV_ERROR_MAX bytes for a sentence
 *
 * Return: DMDEV_OK, DMDEV_NOT_FOUND, DMDEV_DIFFERS if it is of another target, or
 * DMDEV_FAILED.
 */
enum dmdev_result dmdev_status(const char *name, const char *target, char *line, size_t size, char *error)
{
	struct dm_task *task = dm_task_create(DM_DEVICE_STATUS);
	enum dmdev_result result = DMDEV_OK;
	char *type = NULL, *params = NULL;
	uint64_t start, length;
	struct dm_info info;

	if (!task || !dm_task_set_name(task, name) || !dm_task_no_flush(task) ||
	    !dm_task_run(task) || !dm_task_get_info(task, &info)) {
		result = fail(DMDEV_FAILED, error, "device-mapper does not tell about %s: %s", name,
			      strerror(task ? dm_task_get_errno(task) : ENOMEM));
	} else if (!info.exists) {
		result = fail(DMDEV_NOT_FOUND, error, "there is no mapped device %s", name);
	} else {
		dm_get_next_target(task, NULL, &start, &length, &type, &params);
		if (!type || strcmp(type, target) || !params)
			result = fail(DMDEV_DIFFERS, error, "%s is not of the target %s", name, target);
		else
			snprintf(line, size, "%s", params);
	}
	if (task)
		dm_task_destroy(task);
	return result;
}
