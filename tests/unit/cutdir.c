// SPDX-License-Identifier: GPL-2.0-or-later
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "cutdir.h"

#define SECTOR	512u
#define NAMES	4096u	/* at most in a directory */

/* struct op - what was noted and is not synced; @at: where it ends in the log */
struct op {
	STAILQ_ENTRY(op) link;
	struct cut_entry e;
	const char *name;
	const uint8_t *data;
	uint64_t at;
};

/*
 * struct node - a file or a directory
 * @bytes, @size, @room: what is durable of a file
 * @name, @node, @nr: likewise of a directory
 * @ops:	what is not, in order
 */
struct node {
	SLIST_ENTRY(node) link;
	uint64_t inode;
	bool is_dir;
	uint8_t *bytes;
	uint64_t size, room;
	char *name[NAMES];
	struct node *node[NAMES];
	unsigned int nr;
	STAILQ_HEAD(op_list, op) ops;
};

/* @nodes: the newest of an inode comes first */
struct cutdir {
	char path[PATH_MAX];
	SLIST_HEAD(node_list, node) nodes;
	struct node *root;
};

static struct node *add_node(struct cutdir *c, uint64_t inode, bool is_dir)
{
	struct node *n = calloc(1, sizeof(*n));

	assert_non_null(n);
	n->inode = inode;
	n->is_dir = is_dir;
	STAILQ_INIT(&n->ops);
	SLIST_INSERT_HEAD(&c->nodes, n, link);
	return n;
}

static struct node *find_node(const struct cutdir *c, uint64_t inode)
{
	struct node *n;

	for (n = SLIST_FIRST(&c->nodes); n; n = SLIST_NEXT(n, link))
		if (n->inode == inode)
			return n;
	fail_msg("inode %lu was never noted", inode);
	return NULL;
}

static void set_size(struct node *n, uint64_t size)
{
	if (size > n->room) {
		n->room = size + (1 << 20);
		n->bytes = realloc(n->bytes, n->room);
		assert_non_null(n->bytes);
	}
	if (size > n->size)
		memset(n->bytes + n->size, 0, size - n->size);
	n->size = size;
}

/* ---- what was there -------------------------------------------------------- */

static void put_name(struct node *dir, const char *name, struct node *n)
{
	assert_true(dir->nr < NAMES);
	dir->name[dir->nr] = strdup(name);
	dir->node[dir->nr++] = n;
}

static struct node *read_tree(struct cutdir *c, int at, const char *name)
{
	int fd = openat(at, name, O_RDONLY);
	struct dirent *de;
	struct node *n;
	struct stat st;
	DIR *d;

	assert_true(fd >= 0 && !fstat(fd, &st));
	n = add_node(c, st.st_ino, S_ISDIR(st.st_mode));
	if (!n->is_dir) {
		set_size(n, (uint64_t)st.st_size);
		assert_int_equal(read(fd, n->bytes, n->size), n->size);
		close(fd);
		return n;
	}
	d = fdopendir(fd);
	while ((de = readdir(d)))
		if (de->d_type == DT_REG || (de->d_type == DT_DIR && strcmp(de->d_name, ".") && strcmp(de->d_name, "..")))
			put_name(n, de->d_name, read_tree(c, fd, de->d_name));
	closedir(d);
	return n;
}

/* All of it is durable. */
struct cutdir *cutdir_begin(const char *dir)
{
	struct cutdir *c = calloc(1, sizeof(*c));

	assert_non_null(c);
	SLIST_INIT(&c->nodes);
	snprintf(c->path, sizeof(c->path), "%s", dir);
	c->root = read_tree(c, AT_FDCWD, dir);
	return c;
}

/* ---- what was done --------------------------------------------------------- */

static int index_of(const struct node *dir, const char *name)
{
	unsigned int i;

	for (i = 0; i < dir->nr; i++)
		if (!strcmp(dir->name[i], name))
			return (int)i;
	return -1;
}

static void drop_name(struct node *dir, const char *name)
{
	int i = index_of(dir, name);

	if (i < 0)
		return;		/* a socket, or what came with a change that is not there */
	free(dir->name[i]);
	dir->name[i] = dir->name[--dir->nr];
	dir->node[i] = dir->node[dir->nr];
}

static void apply_to_dir(const struct cutdir *c, struct node *dir, const struct op *op)
{
	const char *new = op->name + strlen(op->name) + 1;
	struct node *n;
	int i;

	switch (op->e.what) {
	case CUT_CREATE:
	case CUT_MKDIR:
		put_name(dir, op->name, find_node(c, op->e.inode));
		break;
	case CUT_UNLINK:
		drop_name(dir, op->name);
		break;
	default:
		i = index_of(dir, op->name);
		assert_true(i >= 0);
		n = dir->node[i];
		drop_name(dir, op->name);
		drop_name(dir, new);
		put_name(dir, new, n);
	}
}

/* Of each sector @chance in 100, for the rest is lost. */
static void apply_to_file(struct node *n, const struct op *op, unsigned int chance)
{
	uint64_t at, end = op->e.offset + op->e.length, next;

	if (op->e.what == CUT_TRUNCATE) {
		if ((unsigned int)random() % 100 < chance)
			set_size(n, op->e.offset);
		return;
	}
	for (at = op->e.offset; at < end; at = next) {
		next = (at / SECTOR + 1) * SECTOR;
		if (next > end)
			next = end;
		if ((unsigned int)random() % 100 >= chance)
			continue;
		if (op->e.what == CUT_WRITE) {
			if (next > n->size)
				set_size(n, next);
			memcpy(n->bytes + at, op->data + (at - op->e.offset), next - at);
		} else if (at < n->size) {
			memset(n->bytes + at, 0, (next < n->size ? next : n->size) - at);
		}
	}
}

static void apply(const struct cutdir *c, struct node *n, const struct op *op, unsigned int chance)
{
	if (n->is_dir)
		apply_to_dir(c, n, op);
	else
		apply_to_file(n, op, chance);
}

static void take_entry(struct cutdir *c, const struct op *o)
{
	struct op *op, *first;
	struct node *n;

	switch (o->e.what) {
	case CUT_SYNC:
		n = find_node(c, o->e.inode);
		while ((first = STAILQ_FIRST(&n->ops)) && first->at <= o->e.offset) {
			STAILQ_REMOVE_HEAD(&n->ops, link);
			apply(c, n, first, 100);
			free(first);
		}
		return;
	case CUT_CREATE:
	case CUT_MKDIR:
		add_node(c, o->e.inode, o->e.what == CUT_MKDIR);
		break;
	default:
		break;
	}
	n = find_node(c, o->e.what <= CUT_UNLINK ? o->e.dir : o->e.inode);
	op = malloc(sizeof(*op));
	assert_non_null(op);
	*op = *o;
	STAILQ_INSERT_TAIL(&n->ops, op, link);
}

static uint8_t *read_log(const char *log, uint64_t *size)
{
	int fd = open(log, O_RDONLY);
	uint8_t *bytes;
	struct stat st;

	assert_true(fd >= 0 && !fstat(fd, &st));
	*size = (uint64_t)st.st_size;
	bytes = malloc(*size + 1);
	assert_non_null(bytes);
	assert_int_equal(read(fd, bytes, *size), *size);
	close(fd);
	return bytes;
}

/* The next entry of the log, and where it ends. Return whether there is one that is whole. */
static bool next_entry(const uint8_t *p, uint64_t size, struct op *op)
{
	uint64_t at = op->at, data;

	if (size - at < sizeof(op->e))
		return false;
	memcpy(&op->e, p + at, sizeof(op->e));
	data = op->e.what == CUT_WRITE ? op->e.length : 0;
	if (size - at < sizeof(op->e) + op->e.names + data)
		return false;
	op->name = (const char *)p + at + sizeof(op->e);
	op->data = (const uint8_t *)op->name + op->e.names;
	op->at += sizeof(op->e) + op->e.names + data;
	return true;
}

/* ---- the cut ---------------------------------------------------------------- */

static void cut(const struct cutdir *c, struct node *n)
{
	static const unsigned int chances[] = { 0, 10, 50, 90, 100 };
	unsigned int chance = chances[random() % 5], left = 0;
	uint64_t durable = n->size;
	struct op *op;

	for (op = STAILQ_FIRST(&n->ops); op; op = STAILQ_NEXT(op, link))
		left++;
	if (n->is_dir)		/* the first few */
		left = left ? (unsigned int)random() % (left + 1) : 0;
	while ((op = STAILQ_FIRST(&n->ops))) {
		STAILQ_REMOVE_HEAD(&n->ops, link);
		if (left) {
			apply(c, n, op, chance);
			left--;
		}
		free(op);
	}
	/* What a file grew by may be there, and its size not. */
	if (!n->is_dir && n->size > durable && random() % 2)
		n->size = durable + (uint64_t)random() % (n->size - durable + 1);
}

static void write_tree(const struct node *n, int at, const char *name)
{
	unsigned int i;
	int fd;

	if (n->is_dir) {
		if (name)
			assert_int_equal(mkdirat(at, name, 0700), 0);
		fd = name ? openat(at, name, O_RDONLY | O_DIRECTORY) : at;
		for (i = 0; i < n->nr; i++)
			write_tree(n->node[i], fd, n->name[i]);
	} else {
		fd = openat(at, name, O_WRONLY | O_CREAT | O_EXCL, 0600);
		assert_int_equal(write(fd, n->bytes, n->size), n->size);
	}
	if (name)
		close(fd);
}

/* The power went: make the directory so. What @c has is freed. */
void cutdir_end(struct cutdir *c, const char *log, unsigned int seed)
{
	char command[PATH_MAX + 64];
	struct op op = { .at = 0 };
	uint64_t size;
	uint8_t *bytes = read_log(log, &size);
	struct node *n;
	unsigned int i;
	int fd;

	srandom(seed);
	while (next_entry(bytes, size, &op))
		take_entry(c, &op);
	for (n = SLIST_FIRST(&c->nodes); n; n = SLIST_NEXT(n, link))
		cut(c, n);
	free(bytes);
	snprintf(command, sizeof(command), "find '%s' -mindepth 1 -delete", c->path);
	assert_int_equal(system(command), 0);
	fd = open(c->path, O_RDONLY | O_DIRECTORY);
	write_tree(c->root, fd, NULL);
	close(fd);
	while ((n = SLIST_FIRST(&c->nodes))) {
		SLIST_REMOVE_HEAD(&c->nodes, link);
		for (i = 0; i < n->nr; i++)
			free(n->name[i]);
		free(n->bytes);
		free(n);
	}
	free(c);
}
